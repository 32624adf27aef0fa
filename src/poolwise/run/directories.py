"""Importing and exporting network directories from the command line, with progress and a readable summary."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from poolwise.connect.directory.exporting import export_directory
from poolwise.connect.directory.importing import SENDER, Imported, Target, import_directory
from poolwise.connect.directory.importing import Progress as Step
from poolwise.connect.directory.policies import default_policy
from poolwise.core.edition.build import Edition
from poolwise.core.messages import OrderMessage
from poolwise.core.policy.terms import SourcingPolicy
from poolwise.flows.intake import Accepted, Counter, Rejected, accept
from poolwise.flows.masterdata import adopt_policy
from poolwise.flows.ports import Editions
from poolwise.run.bootstrap import IMPORT_NICENESS, App, seek_cycles_seldom, step_back
from poolwise.store.contents import PostgresContents
from poolwise.store.snapshot import PostgresSieve

FROM_FILE: Final = 1
"""How urgent the way in is: orders by HTTP (0) are claimed before those of a file."""

MOST_SHOWN: Final = 10


def target_of(ready: App) -> Target:
    """Where the files of a directory are booked."""

    def accept_orders(
        edition: Edition, messages: Sequence[OrderMessage], now: datetime
    ) -> Sequence[Accepted | Rejected]:
        policy = policy_in_force(ready, now)
        return accept(ready.books, Counter(edition, policy, ready.ids, SENDER, FROM_FILE), messages, now)

    return Target(
        ready.books,
        ready.editions,
        ready.ids,
        ready.clock,
        accept_orders,
        PostgresSieve(ready.pool, ready.settings.cell_numbers),
        SENDER,
    )


def policy_in_force(ready: App, now: datetime) -> SourcingPolicy:
    """The policy orders are accepted under; the shipped default becomes the first where there is none yet."""
    ensure_policy(ready.editions, now)
    ready.rules.refresh()
    return ready.rules.current().policy.policy


def ensure_policy(editions: Editions, now: datetime) -> None:
    """Adopt the policy shipped with the product where no policy is active."""
    if not editions.policies():
        adopt_policy(editions, default_policy(), now, "poolwise")


def bring_in(
    ready: App, directory: Path, *, dry_run: bool, complete: bool, rejects: Path | None, as_json: bool
) -> None:
    """Import a directory and print what it did."""
    seek_cycles_seldom()
    step_back(IMPORT_NICENESS)
    console = Console(stderr=True, quiet=as_json)
    reject_path = rejects or Path(f"{directory.name or 'import'}.rejects.csv")
    columns = (TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def step(progress: Step) -> None:
            if progress.file not in tasks:
                tasks[progress.file] = bars.add_task(progress.file, total=progress.total)
            bars.update(tasks[progress.file], completed=progress.done, total=progress.total)

        done = import_directory(
            directory, target_of(ready), complete=complete, dry_run=dry_run, reject_path=reject_path, progress=step
        )
    if not dry_run:
        ensure_policy(ready.editions, ready.clock())
    if as_json:
        sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
    else:
        _show(Console(), done, reject_path, dry_run)


def send_out(ready: App, directory: Path, *, as_json: bool) -> None:
    """Export everything into a directory and print what it holds."""
    done = export_directory(directory, ready.editions, PostgresContents(ready.pool, ready.settings.cell_numbers))
    if as_json:
        sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
        return
    console = Console()
    for name, rows in done.files.items():
        console.print(f"{name:<18} {rows:>9}")
    console.print(f"edition [bold]{done.edition[:12] or 'none yet'}[/] in [bold]{directory}[/]")


def _show(console: Console, done: Imported, reject_path: Path, dry_run: bool) -> None:
    table = Table(box=None, header_style="bold")
    for heading in ("file", "rows", "changed", "unchanged", "stale", "duplicate", "rejected", "skipped"):
        table.add_column(heading, justify="left" if heading == "file" else "right")
    for name, result in done.files.items():
        counts = (result.rows, result.changed, result.unchanged, result.stale, result.duplicate)
        rejected = f"[red]{result.rejected}[/]" if result.rejected else "0"
        table.add_row(name, *map(str, counts), rejected, str(result.skipped))
    console.print(table)
    for name, version in done.policies.items():
        console.print(f"policy [bold]{name}[/] version {version}")
    for reject in done.rejects[:MOST_SHOWN]:
        console.print(f"[red]{reject.file}[/] row {reject.row} [bold]{reject.field}[/]: {reject.reason}")
    if done.rejected:
        console.print(f"{done.rejected} rows were rejected; all of them are in [bold]{reject_path}[/]")
    console.print(f"{'would be ' if dry_run else ''}edition [bold]{done.edition[:12] or 'unchanged'}[/]")
