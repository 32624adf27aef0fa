"""The main job on a real network: the Brunel data set, from CSV to booked plans, as one wave.

Converts the published tables to a network directory, imports it into a fresh database on the embedded server, runs the
wave, and reads back which node serves each order on which day. Cost and constraints are then judged by
`bench.brunel_oracle`, which shares no code with Poolwise. Data: Kalganova and Dzalbs, Supply Chain Logistics Problem
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
from datetime import UTC, datetime
from datetime import time as time_of_day
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Final

from bench.brunel_network import START, write_directory
from bench.brunel_oracle import Assignment, Published, cost_only, judge
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
CHOSEN: Final = """
SELECT o.number, s.node, s.ship_on
FROM customer_order AS o
JOIN shipment AS s ON s.cell = o.cell AND s.owner = o.id
WHERE o.cell = 0 AND s.cell = 0
"""


@dataclass(frozen=True, slots=True)
class Timed:
    """What the run took, in seconds of wall time: import (with intake of the orders), and wave (solve and booking)."""

    imported: float
    wave: float
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

    began = time.perf_counter()
    target = Target(books, editions, ids, lambda: NOW, accept_orders, PostgresSieve(pool))
    imported = import_directory(directory, target, reject_path=directory / "rejects.csv")
    middle = time.perf_counter()
    desk = Desk(rules.current(), "bench", (0,), ids, "bench")
    columns, gap_ppm = 0, 0
    while (wove := run_wave(books, desk, 0, NOW)).wave is not None:
        columns, gap_ppm = columns + wove.columns, max(gap_ppm, wove.gap_ppm)
    ended = time.perf_counter()
    return Timed(middle - began, ended - middle, columns, gap_ppm, imported.rejected)


def chosen(pool: Pool) -> Assignment:
    """Which plant serves each order on which day (0 is the first), as it stands in the database."""
    with pool.connection() as connection:
        return {number: (node, (day - START).days) for number, node, day in connection.execute(CHOSEN)}


def main() -> None:
    """Run the benchmark and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the published CSV files")
    parser.add_argument("--day-price", type=Decimal, default=Decimal(2), help="price of an order-day of delay")
    parser.add_argument("--scale", type=Fraction, default=Fraction(1), help="of the daily capacities, such as 1/2")
    parser.add_argument("--every", type=int, default=1, help="only every n-th order")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="poolwise-brunel-") as folder:
        directory = Path(folder) / "network"
        directory.mkdir()
        write_directory(asked.data, directory, day_price=asked.day_price, scale=asked.scale, every=asked.every)
        server = EmbeddedServer(Path(folder) / "database")
        server.start()
        try:
            prepare(server.owner_url(), NOW)
            with postgres.connect(server.application_url(), connections=2, statement_timeout_ms=600_000) as pool:
                timed = run(directory, pool)
                assignment = chosen(pool)
        finally:
            server.stop()
    published = Published(asked.data, asked.scale)
    orders = published.orders[:: asked.every]
    outcome = judge(published, orders, assignment)
    bound = judge(published, orders, cost_only(published, orders))
    report = {
        "cost": float(round(outcome.cost, 2)),
        "cost_only": float(round(bound.cost, 2)),
        "objective": float(round(outcome.cost + asked.day_price * outcome.delay_order_days, 2)),
        "days": outcome.days,
        "day_one_orders": outcome.day_one_orders,
        "seconds": round(timed.imported + timed.wave, 2),
        "seconds_import": round(timed.imported, 2),
        "seconds_wave": round(timed.wave, 2),
        "violations": len(outcome.violations),
        "first_violations": list(outcome.violations[:5]),
        "columns": timed.columns,
        "gap_ppm": timed.gap_ppm,
        "rejected_rows": timed.rejected,
        "orders": len(orders),
        "inputs": {"day_price": str(asked.day_price), "scale": str(asked.scale), "every": asked.every, "seed": SEED},
    }
    print(json.dumps(report, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
