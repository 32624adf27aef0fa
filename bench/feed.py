"""A stock snapshot of a million rows by `poolwise import`, one that is killed and resumed, and the stream of events.

    python -m bench.feed --json [--items 20000] [--nodes 50] [--rounds 3] [--quick]

A snapshot has a row for every position; one in fifty has changed, and besides there are as many as one in a thousand
that are wrong (in ten ways), repeated, and old. `snapshot_seconds` is the wall time of the whole command, the median
over the rounds; `peak_mb` the most resident memory it had in any. `movements` are those booked in a round, which are as
many as positions changed, or `wrong` says so. One more snapshot is killed (kill -9) at three fifths of its rows and
resumed. Balances are compared with what the files said, position by position. The stream is read by one client that is
behind by so many events, as server-sent events over HTTP. fsync is on.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Final

import psycopg

from bench.front import running_api
from bench.hall import new_database, running_server, settings_for, settle
from bench.imports import Run, bring_in, bring_in_part
from bench.million import CHANNEL, Extra, World
from poolwise.core.messages import OrderLine, OrderMessage
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Counter, accept
from poolwise.run.bootstrap import Rulebook
from poolwise.run.settings import Settings
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.editions import PostgresEditions
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.feed import PostgresFeed, sequence_once

NOTHING_ELSE: Final = Extra(0, 0, 0, 0)
ORDERS_AT_ONCE: Final = 500
ROWS_NUMBERED: Final = 500
PATIENCE_S: Final = 60

BALANCES: Final = "SELECT item, node, available FROM position"
MOVEMENTS: Final = "SELECT count(*), count(DISTINCT position) FROM movement WHERE at >= %s"


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    items: int = 20_000
    nodes: int = 50
    rounds: int = 3
    events: int = 20_000
    rows_in_a_chunk: int = 50_000

    @property
    def extra(self) -> Extra:
        """What is special about a snapshot."""
        positions = self.items * self.nodes
        return Extra(positions // 50, positions // 1_000, positions // 1_000, positions // 1_000)


def measure(size: Size, seed: int) -> dict[str, object]:
    """Everything, on a server of its own; the report."""
    with running_server() as server, tempfile.TemporaryDirectory(prefix="poolwise-bench-") as folder:
        name = new_database(server, datetime.now(UTC))
        settings, directory = settings_for(server, name), Path(folder)
        world = World.of(size.items, size.nodes, seed)
        world.write_network(directory)
        world.write_snapshot(directory, datetime.now(UTC), NOTHING_ELSE)
        opened = bring_in(settings, directory)
        settle(server, name)
        wrong = compared(server, name, world)
        rounds = [snapshot(server, name, world, size.extra, directory / f"snapshot-{n}") for n in range(size.rounds)]
        wrong += [fault for _, faults in rounds for fault in faults]
        killed_at, faults = killed(server, name, world, size, directory / "killed")
        runs = [run for run, _ in rounds]
        return {
            "snapshot_seconds": round(median(run.seconds for run in runs), 2),
            "peak_mb": round(max(run.peak_mb for run in runs)),
            "movements": min(run.files["stock"]["changed"] for run in runs),
            "events_per_second": round(streamed(settings, size.events)),
            "cpu_seconds": round(median(run.cpu_seconds for run in runs), 2),
            "rounds_seconds": [round(run.seconds, 2) for run in runs],
            "first_snapshot_seconds": round(opened.seconds, 2),
            "rows": runs[-1].files["stock"],
            "killed_at_row": killed_at,
            "wrong": [*wrong, *faults],
            "inputs": {"positions": world.positions, "items": size.items, "nodes": size.nodes, "rounds": size.rounds,
                       "events": size.events, "seed": seed},
            "load": os.getloadavg(),
        }  # fmt: skip


def snapshot(server: EmbeddedServer, name: str, world: World, extra: Extra, directory: Path) -> tuple[Run, list[str]]:
    """Import one more snapshot; what it took, and what is wrong with what it left."""
    directory.mkdir()
    began = datetime.now(UTC)
    rows = world.write_snapshot(directory, began, extra)
    run = bring_in(settings_for(server, name), directory)
    told = run.files["stock"]
    due = {"rows": rows, "changed": extra.changed, "stale": extra.stale, "duplicate": extra.duplicate,
           "rejected": extra.bad, "skipped": 0, "unchanged": world.positions - extra.changed}  # fmt: skip
    wrong = [f"{what}: {told[what]} instead of {count}" for what, count in due.items() if told[what] != count]
    return run, wrong + moved(server, name, began, extra.changed) + compared(server, name, world)


def killed(server: EmbeddedServer, name: str, world: World, size: Size, directory: Path) -> tuple[int, list[str]]:
    """Kill the import of a snapshot at three fifths, and resume it; where it was, and what is wrong afterwards."""
    directory.mkdir()
    began, settings = datetime.now(UTC), settings_for(server, name)
    world.write_snapshot(directory, began, size.extra)
    row = world.positions * 3 // 5
    bring_in_part(settings, directory, size.rows_in_a_chunk, killed_at=row)
    wrong = [] if compared(server, name, world) else ["it was done before it was killed"]
    resumed = bring_in_part(settings, directory, size.rows_in_a_chunk)
    assert resumed is not None
    if not resumed.files["stock"].skipped:
        wrong.append("it began anew")
    return row, wrong + moved(server, name, began, size.extra.changed) + compared(server, name, world)


def moved(server: EmbeddedServer, name: str, since: datetime, expected: int) -> list[str]:
    """What is wrong with the movements of a snapshot: one for each position that changed."""
    with psycopg.connect(server.superuser_url(name)) as connection:
        found = connection.execute(MOVEMENTS, (since,)).fetchone()
    return [] if found == (expected, expected) else [f"{found} movements and positions instead of {expected}"]


def compared(server: EmbeddedServer, name: str, world: World) -> list[str]:
    """What is wrong with the balances."""
    items = {world.item(number): number for number in range(world.items)}
    nodes = {world.node(number): number for number in range(world.nodes)}
    seen = differing = 0
    with psycopg.connect(server.superuser_url(name)) as connection, connection.cursor("balances") as cursor:
        cursor.itersize = 50_000
        for item, node, available in cursor.execute(BALANCES):
            seen += 1
            differing += world.quantities[nodes[node]][items[item]] != available
    wrong = [f"{differing} positions have another balance"] if differing else []
    return wrong if seen == world.positions else [*wrong, f"{seen} positions instead of {world.positions}"]


def streamed(settings: Settings, events: int) -> float:
    """Events a second of the stream, to one client."""
    with postgres.connect(settings.database_url, connections=2) as pool:
        ids, rules = Ids(secrets.randbits), Rulebook(PostgresEditions(pool))
        atlas = rules.current()
        counter = Counter(atlas.edition, atlas.policy.policy, ids, "bench")
        line = OrderLine(item=min(atlas.edition.catalog.items), quantity="1")
        while sequence_once(pool, 0, datetime.now(UTC), ROWS_NUMBERED).rows:
            pass
        begin = PostgresFeed(pool).end()[0]
        for first in range(0, events, ORDERS_AT_ONCE):
            numbers = range(first, min(events, first + ORDERS_AT_ONCE))
            orders = [OrderMessage(channel=CHANNEL, zone="Z", number=f"E{number}", lines=(line,)) for number in numbers]
            accept(PostgresBooks(pool), counter, orders, datetime.now(UTC))
        while sequence_once(pool, 0, datetime.now(UTC), ROWS_NUMBERED).rows:
            pass
    with running_api(settings) as api:
        connection = HTTPConnection("127.0.0.1", api.port, timeout=PATIENCE_S)
        began = time.perf_counter()
        connection.request("GET", f"/v1/events?after=0:{begin}", headers=api.headers)
        stream, seen, rest = connection.getresponse(), begin, b""
        while seen < begin + events:
            *lines, rest = (rest + stream.read1(1 << 16)).split(b"\n")
            for line_ in lines:
                if line_.startswith(b"id: "):
                    assert line_ == b"id: 0:%d" % (seen + 1), f"{line_!r} after {seen}"
                    seen += 1
        seconds = time.perf_counter() - began
        connection.close()
    return events / seconds


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the document on one line")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3, help="snapshots that are timed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="ten thousand positions, one round")
    asked = parser.parse_args()
    size = Size(items=asked.items, nodes=asked.nodes, rounds=asked.rounds)
    if asked.quick:
        size = Size(items=500, nodes=20, rounds=1, events=1_000, rows_in_a_chunk=1_000)
    print(json.dumps(measure(size, asked.seed), indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
