"""The main job on a real network: the Brunel data set, from CSV to booked plans, as one wave.

Converts the published tables to a network directory, imports it into a fresh database on the embedded server, runs the
wave, and reads back which node serves each order on which day. Cost and constraints are then judged by
`bench.brunel_oracle`, which shares no code with Poolwise, and compared with its optimum. `cost_only` is the cost of a
second run in which days cost nothing. Data: Kalganova and Dzalbs, Supply Chain Logistics Problem
Dataset, Brunel University London, CC BY 4.0. Capacities are the data's "current state".
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Final

from bench.brunel_network import START, write_directory
from bench.brunel_oracle import Assignment, Order, Published, add_arguments, judge, optimal, subset
from poolwise.connect.directory.importing import SENDER, Target, import_directory
from poolwise.core.edition.build import Edition
from poolwise.core.messages import OrderMessage
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Accepted, Counter, Rejected, accept
from poolwise.flows.source import Desk
from poolwise.flows.wave import run_wave
from poolwise.run.bootstrap import Rulebook, prepare
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.editions import PostgresEditions
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.postgres import Pool
from poolwise.store.snapshot import PostgresSieve

SEED: Final = 1
NOW: Final = datetime.combine(START, time_of_day.min, UTC)
WOVE_AT: Final = NOW + timedelta(seconds=1)
"""Orders of a file wait one after another, a microsecond apart: by then all of them do."""

CHOSEN: Final = """
SELECT o.number, s.node, s.ship_on
FROM customer_order AS o
JOIN shipment AS s ON s.cell = o.cell AND s.owner = o.id
WHERE o.cell = 0 AND s.cell = 0
"""


@dataclass(frozen=True, slots=True)
class Timed:
    """What the run took: import (with intake of the orders), and wave (solve and booking), in seconds of wall time.

    `cpu` are the seconds of our own process for both; the server's come on top.
    """

    imported: float
    wave: float
    cpu: float
    columns: int
    gap_ppm: int
    rejected: int


def run(directory: Path, pool: Pool) -> Timed:
    """Import a network directory into a fresh database and plan all its orders in one wave."""
    books, editions = PostgresBooks(pool), PostgresEditions(pool)
    rules, ids = Rulebook(editions), Ids(random.Random(SEED).getrandbits)

    def accept_orders(
        edition: Edition, messages: Sequence[OrderMessage], now: datetime
    ) -> Sequence[Accepted | Rejected]:
        policy = rules.current().policy.policy
        return accept(books, Counter(edition, policy, ids, SENDER, 1), messages, now)

    began, used = time.perf_counter(), time.process_time()
    target = Target(books, editions, ids, lambda: NOW, accept_orders, PostgresSieve(pool))
    imported = import_directory(directory, target, reject_path=directory / "rejects.csv")
    middle = time.perf_counter()
    desk = Desk(rules.current(), "bench", (0,), ids, "bench")
    columns, gap_ppm = 0, 0
    while (wove := run_wave(books, desk, 0, WOVE_AT)).claimed:
        columns, gap_ppm = columns + wove.columns, max(gap_ppm, wove.gap_ppm)
    ended = time.perf_counter()
    return Timed(middle - began, ended - middle, time.process_time() - used, columns, gap_ppm, imported.rejected)


def chosen(pool: Pool) -> Assignment:
    """Which plant serves each order on which day (0 is the first), as it stands in the database."""
    with pool.connection() as connection:
        return {number: (node, (day - START).days) for number, node, day in connection.execute(CHOSEN)}


def plan(data: Path, day_price: Decimal, scale: Fraction, orders: Sequence[Order]) -> tuple[Timed, Assignment]:
    """Everything in a fresh database on an embedded server: what it took, and what was planned."""
    with tempfile.TemporaryDirectory(prefix="poolwise-brunel-") as folder:
        directory = Path(folder) / "network"
        directory.mkdir()
        write_directory(data, directory, day_price=day_price, scale=scale, chosen={order.id for order in orders})
        server = EmbeddedServer(Path(folder) / "database")
        server.start()
        try:
            prepare(server.owner_url(), NOW)
            with postgres.connect(server.application_url(), connections=2, statement_timeout_ms=600_000) as pool:
                timed = run(directory, pool)
                return timed, chosen(pool)
        finally:
            server.stop()


def main() -> None:
    """Run the benchmark and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()
    published = Published(asked.data, asked.capacity)
    orders = subset(published.orders, asked.orders, asked.seed)
    timed, assignment = plan(asked.data, asked.day_price, asked.capacity, orders)
    outcome = judge(published, orders, assignment)
    best = judge(published, orders, optimal(published, orders, asked.day_price))
    free = plan(asked.data, Decimal(0), asked.capacity, orders)[1] if asked.day_price else assignment
    without_price = judge(published, orders, free)
    violations = [*outcome.violations, *without_price.violations]
    price, optimum = asked.day_price, best.objective(asked.day_price)
    report = {
        "cost": float(round(outcome.cost, 2)),
        "cost_only": float(round(without_price.cost, 2)),
        "objective": float(round(outcome.objective(price), 2)),
        "optimum": float(round(optimum, 2)),
        "over_optimum_ppm": float(round(1_000_000 * (outcome.objective(price) / optimum - 1), 2)),
        "days": outcome.days,
        "day_one_orders": outcome.day_one_orders,
        "seconds": round(timed.imported + timed.wave, 2),
        "seconds_import": round(timed.imported, 2),
        "seconds_wave": round(timed.wave, 2),
        "cpu_seconds": round(timed.cpu, 2),
        "violations": len(violations),
        "first_violations": violations[:5],
        "columns": timed.columns,
        "gap_ppm": timed.gap_ppm,
        "rejected_rows": timed.rejected,
        "inputs": {
            "day_price": str(asked.day_price), "capacity": str(asked.capacity), "orders": len(orders),
            "seed": asked.seed,
        },
    }  # fmt: skip
    print(json.dumps(report, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
