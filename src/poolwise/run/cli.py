"""The command line: every command prints for people, and with `--json` for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Annotated, Final, ParamSpec
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from poolwise.core.values import Refused, Upstream
from poolwise.flows.explain import explain_order
from poolwise.flows.ports import Audit
from poolwise.flows.tokens import Role, issue_token, revoke_token
from poolwise.flows.tracking import fresh_key, keep_answer, link_to
from poolwise.run import directories, picture
from poolwise.run.bootstrap import App, clock, opened, prepare, seek_cycles_seldom, server_of, urls
from poolwise.run.settings import NAMES, Settings, load
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.links import PostgresLinkKeys
from poolwise.store.migrate import Phase, SchemaRefused
from poolwise.store.postgres import DatabaseUnavailable
from poolwise.store.tokens import PostgresTokens
from poolwise.store.upkeep import tidy

out: Final = Console()
err: Final = Console(stderr=True)

app: Final = typer.Typer(
    name="poolwise", no_args_is_help=True, add_completion=True, rich_markup_mode="rich",
    help="Distributed order management: every order line to a pool, node, lane and day - durable, and explained.",
)  # fmt: skip
db: Final = typer.Typer(no_args_is_help=True, help="The database: start, stop, status, migrate, tidy, psql.")
token: Final = typer.Typer(no_args_is_help=True, help="Tokens of the API: issue and revoke.")
track: Final = typer.Typer(no_args_is_help=True, help="Links to tracking pages.")
config: Final = typer.Typer(no_args_is_help=True, help="Settings and where they come from.")
app.add_typer(db, name="db")
app.add_typer(token, name="token")
app.add_typer(track, name="track")
app.add_typer(config, name="config")

AsJson = Annotated[bool, typer.Option("--json", help="print JSON for programs")]
Parameters = ParamSpec("Parameters")


def command(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """A command whose refusals are printed as sentences with a remedy, not as a traceback."""

    @wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Refused as refused:
            err.print(f"[bold red]Refused[/] ({refused.code})")
            for fault in refused.problems:
                err.print(f"  [bold]{fault.field}[/]: {fault.reason}" if fault.field else f"  {fault.reason}")
            raise typer.Exit(2) from None
        except DatabaseUnavailable as unavailable:
            err.print(f"[bold red]Database:[/] {unavailable.reason}\n[bold]Remedy:[/] {unavailable.remedy}")
            raise typer.Exit(3) from None
        except (Upstream, SchemaRefused) as unavailable:
            err.print(f"[bold red]Database:[/] {unavailable}")
            raise typer.Exit(3) from None

    return run


@app.command()
@command
def up(
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="worker processes; by default as the setting says")
    ] = None,
) -> None:
    """Run everything: the embedded database, the API, the workers and the relay of webhooks."""
    from poolwise.run import processes

    settings = load()
    with opened(settings) as ready:
        _first_token(ready)

    def told() -> None:
        out.print(f"[bold green]Poolwise[/] is up: http://{settings.host}:{settings.port}/v1  (stop with Ctrl-C)")

    raise typer.Exit(processes.supervise(settings, workers or settings.processes, told))


def _first_token(ready: App) -> None:
    """On a database without tokens, make one for an administrator and show it once."""
    book = PostgresTokens(ready.pool)
    if not book.all(None, 1):
        issued = issue_token(
            book, ready.ids, ready.ids_bits, party="admin", role=Role.ADMIN, now=clock(), actor="poolwise up"
        )
        out.print(f"First token, shown once (role admin): [bold]{issued.secret}[/]")


@app.command()
@command
def serve() -> None:
    """Run the API only."""
    from poolwise.run import processes

    processes.serve(load())


@app.command()
@command
def work(
    number: Annotated[
        int | None, typer.Option("--processes", min=1, max=64, help="worker processes; by default as the setting says")
    ] = None,
    until_idle: Annotated[bool, typer.Option(help="end when there is nothing left to do")] = False,
) -> None:
    """Run workers only."""
    from poolwise.run import processes

    settings = load()
    if until_idle:
        processes.work(settings, until_idle=True)
        return
    with opened(settings):
        pass
    raise typer.Exit(processes.supervise(settings, number or settings.processes))


@app.command()
@command
def relay(until_idle: Annotated[bool, typer.Option(help="end when there is nothing left to send")] = False) -> None:
    """Run a relay of webhooks only; `up` runs one already, and more of them share the work."""
    from poolwise.run import processes

    processes.relay(load(), until_idle=until_idle)


@app.command()
@command
def publish() -> None:
    """Publish events to a stream of NATS JetStream (setting nats_servers) only; `up` does it where that is set."""
    from poolwise.run import processes

    processes.publish(load())


@app.command()
@command
def demo(
    seed: Annotated[int, typer.Option(min=0, help="equal seeds give equal networks and orders")] = 7,
    orders: Annotated[int, typer.Option(min=1, max=1_000_000, help="how many orders to place")] = 5_000,
    rate: Annotated[int, typer.Option(min=0, help="orders placed a second; 0 for as many as go")] = 0,
    history: Annotated[int, typer.Option(min=0, max=60, help="days that the network has lived before")] = 30,
    live: Annotated[
        float | None, typer.Option(help="live on for so many seconds; by default on a terminal, until q is pressed")
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="no live screen")] = False,
    as_json: AsJson = False,
    number: Annotated[int, typer.Option("--processes", min=1, max=64, help="worker processes")] = 1,
    data: Annotated[Path, typer.Option(help="folder of its own, emptied first")] = Path(".poolwise/demo"),
    picture: Annotated[Path | None, typer.Option(hidden=True, help="write the last screen as SVG")] = None,
) -> None:
    """Generate a network with a past, source a stream of orders on it, and watch it live: needs nothing else."""
    from poolwise.run.demo import Wish, run_demo

    forever = sys.stdin.isatty() and sys.stdout.isatty() and not headless and not as_json and picture is None
    live_s = live if live is not None else float("inf") if forever else None
    raise typer.Exit(run_demo(Wish(seed, orders, rate, history, live_s, number, data, headless, as_json, picture)))


@app.command()
@command
def explain(
    order: Annotated[str, typer.Argument(help="the sender's number of the order, or our id")],
    attempt: Annotated[int | None, typer.Option(min=1, help="which decision; the newest one by default")] = None,
    as_json: AsJson = False,
) -> None:
    """Say why an order was decided as it was: every candidate, its reason or its cost, and what would flip it."""
    with opened(load()) as ready:
        recalled, explanation = explain_order(ready.books, ready.rules, order_id(ready, order), attempt)
    if as_json:
        sys.stdout.write(picture.as_json(recalled, explanation) + "\n")
    else:
        picture.show(out, recalled, explanation)


@app.command("import")
@command
def import_(
    directory: Annotated[Path, typer.Argument(help="network directory: CSV or JSONL files")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check everything, keep nothing")] = False,
    complete: Annotated[bool, typer.Option(help="what a file does not name is removed, or counted as empty")] = False,
    rejects: Annotated[Path | None, typer.Option(help="where rows go that cannot be booked")] = None,
    as_json: AsJson = False,
) -> None:
    """Import a network directory: master data, policy, stock, receipts and orders."""
    with opened(load()) as ready:
        directories.bring_in(ready, directory, dry_run=dry_run, complete=complete, rejects=rejects, as_json=as_json)


@app.command("export")
@command
def export_(
    directory: Annotated[Path, typer.Argument(help="where to; made if it is not there")], as_json: AsJson = False
) -> None:
    """Export what `import` takes: master data, policies, stock as counts, receipts and orders."""
    with opened(load()) as ready:
        directories.send_out(ready, directory, as_json=as_json)


@app.command()
@command
def check(
    full: Annotated[bool, typer.Option(help="everything, instead of what changed since the last clean check")] = False,
    plans: Annotated[bool, typer.Option(help="recompute and verify the decisions too")] = True,
    as_json: AsJson = False,
) -> None:
    """Prove the laws on the live database, from one snapshot, and name what is off."""
    from poolwise.store.evidence import check_database
    from poolwise.store.proof import verifier

    seek_cycles_seldom()
    with opened(load()) as ready:
        verify = verifier(ready.rules, ready.books) if plans else None
        report = check_database(ready.pool, ready.settings.cell_numbers, clock(), full=full, verify=verify)
    if as_json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        seen = f"{report.positions} positions, {report.movements} movements, {report.orders} orders"
        for finding in report.findings:
            err.print(f"[bold red]law {finding.law}[/] {finding.kind} {finding.key}: {finding.detail}")
        verdict = f"[bold red]{len(report.findings)} findings[/]" if report.findings else "[bold green]clean[/]"
        out.print(f"{verdict}: {seen}")
    raise typer.Exit(1 if report.findings else 0)


def order_id(ready: App, text: str) -> UUID:
    """The id of an order by its number, or as it is. Raises Refused when there is none."""
    with ready.books.transaction() as transaction:
        found = transaction.order_numbered([text]).get(text)
    if found is not None:
        return found
    try:
        return UUID(text)
    except ValueError:
        raise Refused.one("order_unknown", "order", f"there is no order '{text}'") from None


@app.command(hidden=True)
@command
def docs(folder: Annotated[Path, typer.Argument(help="folder of the reference pages")]) -> None:
    """Write the generated reference pages again."""
    from poolwise.run import reference

    reference.write(app, folder)


@db.command("start")
@command
def db_start() -> None:
    """Start the embedded server (it outlives this command)."""
    settings = load()
    server = _embedded(settings)
    server.start()
    out.print(f"running: {server.status().folder}")


@db.command("stop")
@command
def db_stop() -> None:
    """Stop the embedded server."""
    _embedded(load()).stop()
    out.print("stopped")


@db.command("status")
@command
def db_status(as_json: AsJson = False) -> None:
    """Say where the database is and how it is."""
    server = server_of(load())
    if server is None:
        facts: dict[str, str] = {"kind": "external", "url": "set by database_url"}
    else:
        status = server.status()
        facts = {"kind": "embedded", **{name: str(getattr(status, name)) for name in type(status).__slots__}}
    if as_json:
        out.print_json(json.dumps(facts))
        return
    table = Table(box=None, show_header=False)
    for name, value in facts.items():
        table.add_row(f"[bold]{name}[/]", value)
    out.print(table)


@db.command("migrate")
@command
def db_migrate(
    phase: Annotated[Phase, typer.Option(help="pre: only what the release that is running works on, too")] = Phase.ALL,
) -> None:
    """Bring the schema up to date, and make the monthly partitions ahead."""
    applied = prepare(_owner_url(), clock(), phase)
    out.print("\n".join(applied) if applied else "nothing to do: the schema is up to date")


@db.command("tidy")
@command
def db_tidy() -> None:
    """Put the stock of each item side by side on disk: after the first import, then once in some months.

    Reading what may be promised becomes up to twice as fast. Stock stands still meanwhile: some eight seconds for a
    million positions.
    """
    tidy(_owner_url())
    out.print("tidied")


@db.command("psql")
@command
def db_psql() -> None:
    """Open psql as the application role."""
    application_url, _ = urls(load())
    server = server_of(load())
    program = "psql" if server is None else str(server.program("psql"))
    raise typer.Exit(subprocess.run([program, application_url], check=False, env=dict(os.environ)).returncode)


def _owner_url() -> str:
    _, owner_url = urls(load())
    if not owner_url:
        raise Refused.one("settings_invalid", "owner_url", "is needed for this on an external server")
    return owner_url


def _embedded(settings: Settings) -> EmbeddedServer:
    server = server_of(settings)
    if server is None:
        reason = "names an external server, which is not ours to start or stop"
        raise Refused.one("not_embedded", "database_url", reason)
    return server


@token.command("issue")
@command
def token_issue(
    party: Annotated[str, typer.Argument(help="who is behind the token; idempotency is scoped by it")],
    role: Annotated[Role, typer.Option(help="what it may do")] = Role.OPERATOR,
    days: Annotated[int, typer.Option(min=0, max=36_500, help="days until it expires; 0 for never")] = 0,
) -> None:
    """Make a token; its secret is shown once."""
    with opened(load()) as ready:
        expires = clock() + timedelta(days=days) if days else None
        issued = issue_token(
            PostgresTokens(ready.pool), ready.ids, ready.ids_bits, party=party, role=role, now=clock(),
            actor="poolwise token", expires_at=expires,
        )  # fmt: skip
    out.print(f"id      {issued.token.id}\nsecret  [bold]{issued.secret}[/]  (shown once)")


@token.command("revoke")
@command
def token_revoke(token_id: Annotated[UUID, typer.Argument(help="id of the token")]) -> None:
    """Revoke a token at once."""
    with opened(load()) as ready:
        revoke_token(PostgresTokens(ready.pool), token_id, now=clock(), actor="poolwise token")
    out.print("revoked")


@track.command("link")
@command
def track_link(
    order: Annotated[str, typer.Argument(help="the sender's number of the order, or our id")],
    days: Annotated[int, typer.Option(min=1, max=366, help="days for which it works")] = 90,
) -> None:
    """Print the link to the tracking page of an order; the page is served by `up` and `serve`."""
    with opened(load()) as ready:
        id_, now = order_id(ready, order), clock()
        key = PostgresLinkKeys(ready.pool).begin(fresh_key(ready.ids_bits), now, "poolwise track")
        audit = Audit("poolwise track", "tracking.link", order, {"days": days})
        keep_answer(ready.books, [], now, audit)
        out.print(f"{ready.settings.pages_url}/t/{link_to(key, id_, now + timedelta(days=days))}", soft_wrap=True)


@track.command("renew-key")
@command
def track_renew_key() -> None:
    """End every link to a tracking page that was ever given out, say since a list of them was lost."""
    with opened(load()) as ready:
        audit = Audit("poolwise track", "tracking.renew_key", "")
        PostgresLinkKeys(ready.pool).renew(fresh_key(ready.ids_bits), clock(), audit)
    out.print("renewed: links that were given out before lead nowhere")


@config.command("show")
@command
def config_show(as_json: AsJson = False) -> None:
    """Show every setting and where its value came from."""
    settings = load()
    shown = {name: _masked(name, str(getattr(settings, name))) for name in NAMES}
    if as_json:
        out.print_json(json.dumps({name: [value, settings.origin[name]] for name, value in shown.items()}))
        return
    table = Table("setting", "value", "from", box=None)
    for name, value in shown.items():
        table.add_row(name, value, settings.origin[name])
    out.print(table)


def _masked(name: str, value: str) -> str:
    return "(set)" if name.endswith("_url") and value else value


def main() -> None:
    """Entry point of the console script."""
    app(prog_name=Path(sys.argv[0]).name)
