"""The demo: a generated network on a server of its own, orders streamed in and sourced by real workers, watched live.

Everything goes the way a user's data goes: import, intake, worker, change feed. Figures come from the feed, and the
laws are proven on the database afterwards.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Event, Thread
from typing import Final, TextIO
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from poolwise.connect.directory.importing import Progress as Step
from poolwise.connect.directory.importing import import_directory
from poolwise.core.ledger import PositionKey
from poolwise.core.policy.terms import CostKind
from poolwise.core.values import MILLION, Cost, Fault, Refused, Upstream, replace
from poolwise.flows.explain import explain_order, recall
from poolwise.flows.intake import Counter, Rejected, accept
from poolwise.run import processes
from poolwise.run.bootstrap import App, clock, opened
from poolwise.run.demo_live import HISTORY_DAYS, ORDERS_A_DAY, Life, Pace, live, reach_back
from poolwise.run.demo_screen import Caption, Screen, Verdict, plain_line, verdict_of
from poolwise.run.directories import ensure_policy, target_of
from poolwise.run.settings import NAMES, Settings
from poolwise.sim.demand import Demand
from poolwise.sim.figures import Decided, FeedReader, Figures
from poolwise.sim.world import ORDERS, World, make_world, write_directory
from poolwise.store.check import StoredPlan
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.evidence import check_database
from poolwise.store.feed import PostgresFeed, sequence_once
from poolwise.store.proof import verifier

SENDER: Final = "demo"
FOLDER: Final = Path(".poolwise") / "demo"
MARK: Final = "poolwise-demo.lock"
"""Marks a folder as the demo's own, and is held locked while a demo runs in it."""

LARGEST_BATCH: Final = 100
EVENTS_AT_ONCE: Final = 2_000
NUMBERED_AT_ONCE: Final = 500
FRAME_S: Final = 0.25
PLAIN_S: Final = 2.0
DAYS_A_LINE: Final = 5
EXPLAIN_EVERY_S: Final = 0.4
PATIENCE_S: Final = 60.0
GRACE_S: Final = 15.0
PLANS_VERIFIED: Final = 300
"""All laws are proven on everything; so many plans are also recomputed and verified, which takes longest."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asks for. `rate` is orders a second, 0 for as many as go.

    The network has lived for `history_days` when the orders come, and afterwards lives on for `live_s` seconds, or not.
    """

    seed: int = 7
    orders: int = ORDERS
    rate: int = 0
    history_days: int = HISTORY_DAYS
    live_s: float | None = None
    processes: int = 1
    folder: Path = FOLDER
    headless: bool = False
    as_json: bool = False
    picture: Path | None = None


@dataclass(slots=True)
class Ran:
    """What a run came to."""

    world: World
    figures: Figures
    watch: Watch
    lived: dict[str, int]
    laws_broken: int = 0
    findings: list[str] = field(default_factory=list)
    interesting: dict[str, str] = field(default_factory=dict)


def run_demo(wish: Wish) -> int:
    """Run the demo and print what it came to; the exit code: 0, or 1 where a law is broken."""
    with private_folder(wish.folder) as folder, kept_output(folder / "output.log") as output:
        talk = Console(stderr=True) if wish.headless or wish.as_json else Console(file=output)
        server = EmbeddedServer(folder / "server")
        try:
            ran = _on_server(wish, folder, talk)
        finally:
            server.stop()
    if wish.as_json:
        sys.stdout.write(json.dumps(as_json(wish, ran)) + "\n")
    else:
        _farewell(Console(), wish, ran)
    return 1 if ran.laws_broken else 0


@contextmanager
def private_folder(folder: Path) -> Iterator[Path]:
    """The demo's own folder, emptied. Raises Refused where it is somebody else's, or a demo runs in it."""
    mark = folder / MARK
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise Refused.one("not_a_demo_folder", "data", f"{folder} holds other files; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    with mark.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused.one("demo_is_running", "data", f"another demo runs in {folder}; name a new folder") from None
        if (folder / "server").exists():
            EmbeddedServer(folder / "server").stop()
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != mark:
                path.unlink()
        yield folder


@contextmanager
def kept_output(log: Path) -> Iterator[TextIO]:
    """A stream to standard output, while what libraries print there by themselves goes to a log."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with log.open("a") as stream:
            os.dup2(stream.fileno(), 1)
        with os.fdopen(kept, "w", encoding="utf-8", closefd=False) as output:
            yield output
    finally:
        # The solver prints through the buffers of C, which know nothing of ours.
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _on_server(wish: Wish, folder: Path, talk: Console) -> Ran:
    settings = Settings(
        data_folder=str(folder / "server"),
        processes=wish.processes,
        batch=LARGEST_BATCH,
        log_level="error",
        origin=dict.fromkeys(NAMES, "demo"),
    )
    with _bars(talk) as bars:
        begun = bars.step("network")
        at = clock() - timedelta(days=wish.history_days)
        world = make_world(wish.seed, at, orders=max(wish.orders, ORDERS))
        write_directory(world, folder / "network")
        bars.done(begun)
        begun = bars.step("database")
        with opened(settings) as app:
            bars.done(begun)
            reach_back(settings, at)
            _import(replace(app, clock=lambda: at), folder / "network", bars)
            life = Life(app, world, ORDERS_A_DAY)
            history = bars.days("history", wish.history_days)
            life.until(clock(), lambda now: bars.lived(history, (now - at).total_seconds() / 86_400))
            bars.close()
            ran = _stream(wish, app, life, world, folder, talk)
            if wish.live_s is not None:
                _live(wish, life, ran, talk)
            return _proven(wish, app, ran, talk)


class _Steps:
    """Progress bars of the preparation, one for each step; where nobody sees them, a line when a step begins."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._said = 0

    def step(self, name: str) -> TaskID:
        """A step begins; how long it takes is not known."""
        self._say(name)
        return self._progress.add_task(name, total=None)

    def days(self, name: str, days: int) -> TaskID:
        """A step begins that lives through so many days."""
        self._say(f"{name} of {days} days")
        return self._progress.add_task(f"{name} of {days} days", total=max(days, 1e-6))

    def lived(self, task: TaskID, days: float) -> None:
        """So many days are lived."""
        self._progress.update(task, completed=days)
        if int(days) >= self._said + DAYS_A_LINE:
            self._said = int(days)
            self._say(f"  {self._said} days lived")

    def _say(self, text: str) -> None:
        if not self._progress.console.is_terminal:
            self._progress.console.print(text, highlight=False)

    def done(self, task: TaskID) -> None:
        """A step is done."""
        self._progress.update(task, total=1, completed=1)

    def file(self, step: Step) -> None:
        """How far the import of a file is."""
        if step.file not in self._tasks:
            if not self._tasks:
                self._say("import")
            self._tasks[step.file] = self._progress.add_task(f"import {step.file}", total=step.total)
        self._progress.update(self._tasks[step.file], completed=step.done, total=step.total)

    def close(self) -> None:
        """Leave the bars as they are and go on below them."""
        self._progress.stop()


@contextmanager
def _bars(talk: Console) -> Iterator[_Steps]:
    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"), TextColumn("{task.description:<24}"), BarColumn(bar_width=30),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=talk, disable=not talk.is_terminal) as progress:
        yield _Steps(progress)


def _import(app: App, directory: Path, bars: _Steps) -> None:
    done = import_directory(directory, target_of(app), progress=bars.file)
    if done.rejected:
        raise Refused(
            "world_refused", [Fault(reject.file, f"row {reject.row}: {reject.reason}") for reject in done.rejects]
        )
    ensure_policy(app.editions, clock())
    app.rules.refresh()


# --- the run ------------------------------------------------------------------------------------------------------


def _stream(wish: Wish, app: App, life: Life, world: World, folder: Path, talk: Console) -> Ran:
    """Stream orders in while workers source them; ends when all are decided, or at Ctrl-C."""
    watch = Watch(app, world, wish)
    feeding = _feeding(app, life.lives.demand, wish)
    with _workers(app.settings, folder / "worker.log") as alive, feeding as feeder:
        with suppress(KeyboardInterrupt), watch.showing(talk) as show:
            watch.until_decided(feeder, alive, show)
        feeder.stop()
    watch.catch_up()
    return watch.ran(life.lives.done)


def _live(wish: Wish, life: Life, ran: Ran, talk: Console) -> None:
    """Live on: on a terminal with a screen and keys, else quietly."""
    life.clock.now = clock()
    pace, watch = Pace(), ran.watch
    quiet = wish.headless or not talk.is_terminal or talk.is_dumb_terminal
    with watch.showing(talk) as show:

        def shown(lines: list[str]) -> None:
            watch.below(lines)
            watch.follow()
            show()

        live(life, pace, (lambda _lines: None) if quiet else shown, wish.live_s)
    ran.lived = dict(life.lives.done)


def _proven(wish: Wish, app: App, ran: Ran, talk: Console) -> Ran:
    """The laws, proven on what is there now."""
    if not wish.as_json:
        talk.print("[dim]proving the laws on the database ...[/]")
    report = check_database(app.pool, app.settings.cell_numbers, clock(), full=True, verify=_sampled(app))
    ran.laws_broken = len({finding.law for finding in report.findings})
    ran.findings = [f"law {found.law} {found.kind} {found.key}: {found.detail}" for found in report.findings]
    return ran


def _sampled(app: App) -> Callable[[StoredPlan], Iterable[str]]:
    """Recomputes and verifies the first plans of the run; `poolwise check --full` does so for all."""
    verify = verifier(app.rules, app.books)
    left = [PLANS_VERIFIED]

    def broken(stored: StoredPlan) -> Iterable[str]:
        left[0] -= 1
        return verify(stored) if left[0] >= 0 else ()

    return broken


class _Feeder(Thread):
    """Places orders through intake at a rate, as a shop would."""

    def __init__(self, app: App, demand: Demand, wish: Wish) -> None:
        super().__init__(name="demo-shop", daemon=True)
        self._app, self._demand, self._wish = app, demand, wish
        self._stopped = Event()
        self.error: BaseException | None = None
        self.placed = 0

    def stop(self) -> None:
        """Place no more orders."""
        self._stopped.set()

    def run(self) -> None:
        """Place all orders, or stop."""
        try:
            begun = time.monotonic()
            while self.placed < self._wish.orders and not self._stopped.is_set():
                due = self._wish.orders - self.placed
                if self._wish.rate:
                    due = min(due, int((time.monotonic() - begun) * self._wish.rate) + 1 - self.placed)
                if due > 0:
                    self._place(min(due, LARGEST_BATCH))
                else:
                    self._stopped.wait(0.02)
        except BaseException as error:  # noqa: BLE001  told to the main thread, which raises it
            self.error = error

    def _place(self, count: int) -> None:
        app, now = self._app, clock()
        atlas = app.rules.current()
        counter = Counter(atlas.edition, atlas.policy.policy, app.ids, SENDER)
        for outcome in accept(app.books, counter, list(self._demand.orders(count, now)), now):
            if isinstance(outcome, Rejected):
                raise Refused(outcome.code, outcome.problems)
        self.placed += count


@contextmanager
def _feeding(app: App, demand: Demand, wish: Wish) -> Iterator[_Feeder]:
    feeder = _Feeder(app, demand, wish)
    feeder.start()
    try:
        yield feeder
    finally:
        feeder.stop()
        feeder.join()


@contextmanager
def _workers(settings: Settings, log: Path) -> Iterator[Callable[[], bool]]:
    """Worker processes; yields what tells whether all of them are alive."""
    context = multiprocessing.get_context("spawn")
    # What Ctrl-C means is for us to say: the workers inherit that they ignore it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    found: list[SpawnProcess] = [
        context.Process(target=_work, args=(settings, str(log)), name=f"demo-worker-{number}")
        for number in range(settings.processes)
    ]
    for process in found:
        process.start()
    signal.signal(signal.SIGINT, before)
    try:
        yield lambda: all(process.is_alive() for process in found)
    finally:
        for process in found:
            process.terminate()
        for process in found:
            process.join(GRACE_S)
            if process.is_alive():
                process.kill()


def _work(settings: Settings, log: str) -> None:
    """A worker whose log goes to a file, so that it does not disturb the screen."""
    with Path(log).open("a") as stream:
        os.dup2(stream.fileno(), 2)
        processes.work(settings)


class Watch:
    """Follows the change feed, explains some of the decisions, and shows both."""

    def __init__(self, app: App, world: World, wish: Wish) -> None:
        """Nothing is read yet."""
        self._app, self._world, self._wish = app, world, wish
        self._feed = PostgresFeed(app.pool, app.settings.cell_numbers)
        self._reader = FeedReader(self._whereabouts, self._cost_of_waiting, self._feed.end())
        self._explained_at = 0.0
        self._turn = 0
        self._kinds: dict[str, str] = {}
        network = app.rules.current().edition.network
        caption = Caption(
            world.seed, world.nodes, len(world.items), wish.orders, network.currency,
            {code: node.echelon.value for code, node in network.nodes.items()}, tuple(network.pools),
        )  # fmt: skip
        self._screen = Screen(caption, self._reader.figures)

    @contextmanager
    def showing(self, talk: Console) -> Iterator[Callable[[], None]]:
        """What shows the state of things: a live screen on a terminal, else a line now and then."""
        if self._wish.headless or not talk.is_terminal or talk.is_dumb_terminal:
            yield self._line_printer(talk)
            return
        with self._screen.live(talk) as refresh:
            yield refresh

    def _line_printer(self, talk: Console) -> Callable[[], None]:
        last = [time.monotonic()]

        def show() -> None:
            if time.monotonic() - last[0] >= PLAIN_S and not (self._wish.as_json and not talk.is_terminal):
                last[0] = time.monotonic()
                talk.print(plain_line(self._screen), highlight=False, soft_wrap=True)

        return show

    def until_decided(self, feeder: _Feeder, alive: Callable[[], bool], show: Callable[[], None]) -> None:
        """Follow until every order that was placed is decided. Raises Upstream when nothing moves any more."""
        moved_at, before = time.monotonic(), 0
        while feeder.is_alive() or self._reader.figures.orders < feeder.placed:
            began = time.monotonic()
            self.follow()
            show()
            if feeder.error is not None:
                raise feeder.error
            if not alive():
                raise Upstream("a worker of the demo ended; its folder holds worker.log")
            if self._reader.figures.orders != before:
                moved_at, before = time.monotonic(), self._reader.figures.orders
            elif time.monotonic() - moved_at > PATIENCE_S:
                raise Upstream(f"no order was decided for {PATIENCE_S:.0f} seconds")
            time.sleep(max(0.01, FRAME_S - (time.monotonic() - began)))
        if self._wish.picture is not None:
            self._screen.save_picture(self._wish.picture)

    def follow(self) -> None:
        """Read what is new in the feed, and explain a decision of it where there is somebody to read it."""
        decided: list[Decided] = []
        while events := self._feed.after(self._reader.place, EVENTS_AT_ONCE):
            decided += self._reader.take(events)
        self._screen.moment(time.monotonic(), self._reader.figures.orders)
        for one in decided:
            self._remember(one)
        if decided and not self._wish.headless and time.monotonic() - self._explained_at > EXPLAIN_EVERY_S:
            self._explained_at = time.monotonic()
            self._turn += 1
            self._screen.add(self._explained(_telling(decided) if self._turn % 3 == 0 else decided[-1]))

    def catch_up(self) -> None:
        """Number and read what the workers left unnumbered when they ended."""
        for cell in self._app.settings.cell_numbers:
            while sequence_once(self._app.pool, cell, clock(), NUMBERED_AT_ONCE).rows:
                pass
        while events := self._feed.after(self._reader.place, EVENTS_AT_ONCE):
            for one in self._reader.take(events):
                self._remember(one)

    def below(self, lines: list[str]) -> None:
        """What stands below the screen from now on."""
        self._screen.footer = lines

    def ran(self, lived: Mapping[str, int]) -> Ran:
        """What it came to, after a history."""
        return Ran(self._world, deepcopy(self._reader.figures), self, dict(lived), interesting=dict(self._kinds))

    def _remember(self, one: Decided) -> None:
        """Keep the number of the first order of each kind that is worth a look."""
        kind = "split" if one.parcels > 1 else "waiting" if one.waiting else "plain"
        self._kinds.setdefault(kind, one.number)

    def _explained(self, one: Decided) -> Verdict:
        recalled, explanation = explain_order(self._app.books, self._app.rules, one.order, one.attempt)
        kept = recalled.decision
        atlas = self._app.rules.atlas(kept.edition, kept.policy, kept.policy_version)
        return verdict_of(recalled, explanation, atlas)

    def _whereabouts(self, ids: Sequence[int]) -> Mapping[int, PositionKey]:
        with self._app.books.transaction() as transaction:
            return {id_: position.key for id_, position in transaction.positions(ids).items()}

    def _cost_of_waiting(self, order: UUID, attempt: int) -> Cost:
        recalled, _ = recall(self._app.books, self._app.rules, order, attempt)
        return sum(part.amount for part in recalled.plan.costs if part.kind is CostKind.BACKORDER)


def _telling(decided: Sequence[Decided]) -> Decided:
    """The decision that tells most: one that split or waits, else the newest."""
    return next((one for one in reversed(decided) if one.waiting or one.parcels > 1), decided[-1])


# --- the end ------------------------------------------------------------------------------------------------------


def as_json(wish: Wish, ran: Ran) -> dict[str, int | float]:
    """The figures for programs; `cost_per_order` is in the costing currency."""
    figures = ran.figures
    orders, lines = max(1, figures.orders), max(1, figures.lines)
    return {
        "seed": wish.seed,
        "nodes": ran.world.nodes,
        "items": len(ran.world.items),
        "processes": wish.processes,
        "history_days": wish.history_days,
        "lived": ran.lived.get("ordered", 0),
        "delivered": ran.lived.get("delivered", 0),
        "orders": figures.orders,
        "lines": figures.lines,
        "fill_rate": round(figures.lines_filled / lines, 4),
        "split_rate": round(figures.split / orders, 4),
        "cost_per_order": round(figures.cost / orders / MILLION, 4),
        "kg_co2e_per_order": round(figures.co2e_mg / orders / MILLION, 4),
        "orders_per_second": round(figures.orders / figures.seconds, 1) if figures.seconds else 0.0,
        "laws_broken": ran.laws_broken,
    }


def _farewell(console: Console, wish: Wish, ran: Ran) -> None:
    """The figures, and what to try next."""
    shown = as_json(wish, ran)
    program = os.path.relpath(sys.argv[0]) if Path(sys.argv[0]).exists() else "poolwise"
    order = next((ran.interesting[kind] for kind in ("split", "waiting", "plain") if kind in ran.interesting), "")
    rows = (
        ("history", f"{wish.history_days} days, {shown['lived']:,} orders, {shown['delivered']:,} parcels delivered"),
        ("orders sourced", f"{shown['orders']:,}  ({shown['lines']:,} lines)"),
        ("orders a second", f"{shown['orders_per_second']:,}"),
        ("fill rate", f"{shown['fill_rate']:.1%} of lines"),
        ("split rate", f"{shown['split_rate']:.1%} of orders"),
        ("cost", f"{shown['cost_per_order']:.2f} EUR an order"),
        ("emissions", f"{shown['kg_co2e_per_order']:.2f} kg CO2e an order"),
        ("laws broken", f"{shown['laws_broken']}"),
    )
    console.print()
    for name, value in rows:
        console.print(f"  {name:<16} [bold]{value}[/]", highlight=False)
    for finding in ran.findings[:10]:
        console.print(f"  [red]{finding}[/]", highlight=False)
    console.print("\n[bold]What to try next[/]", highlight=False)
    steps = [f"export POOLWISE_DATA_FOLDER={wish.folder / 'server'}   # the network of this demo"]
    if order:
        steps.append(f"{program} explain {order}   # why this order was sourced as it was")
    steps += [
        f"{program} check --full   # prove the laws again",
        f"{program} up   # the API on this network; it prints a token",
        *([f"{program} track link {order}   # the page its customer sees, while `up` runs"] if order else []),
        "curl -H 'Authorization: Bearer TOKEN' http://127.0.0.1:8080/v1/orders",
        "docs/tutorial.md   # the same with a network of your own",
    ]
    for step in steps:
        command, _, remark = step.partition("   ")
        console.print(f"  {command}" + (f"   [dim]{remark}[/]" if remark else ""), highlight=False, soft_wrap=True)
    console.print(f"\n[dim]The next demo empties {wish.folder} and begins anew.[/]", highlight=False, soft_wrap=True)
