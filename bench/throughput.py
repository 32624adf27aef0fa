"""Durable order lines per second through the real worker processes, beside pgbench on the same server in the same run.

    python -m bench.throughput --json [--orders 20000] [--rounds 3] [--quick]

Every scenario has a database of its own: the network and stock of `bench.ten_pools`, orders of three lines that wait,
the shipped default policy, daily capacity of which the next days are full already. Workers are spawned, come to the
queue, which is held, and are let go together. The first fifth of the orders warms up (batches grow from 8 to 500
orders, caches fill); the rate is that of the rest, until the queue is empty. fsync is on. Afterwards the laws are
checked in full, every order is looked for, and what was reserved is compared with what there was. In the first run of
two workers every plan is recomputed and verified, as by `poolwise check --full`; in the others some 2,000, evenly over
all orders (`plans_verified`).

`lines_per_second` is that of two workers, one cell, spread items, ample stock: the median over the rounds.
`ratio_to_pgbench_n` is that number of order lines over the transactions per second of `pgbench -N` (one transaction of
pgbench updates one row and inserts one); `orders_ratio_to_pgbench_n` is the same with whole orders in place of lines.
"""

from __future__ import annotations

import argparse
import json
import platform
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import count, cycle, islice
from os import cpu_count, getloadavg
from statistics import median
from typing import Final

import psycopg

from bench import pgbench
from bench.hall import (
    CpuSeconds,
    Crew,
    any_waits,
    drop_database,
    new_database,
    running_server,
    settings_for,
    settle,
    waiting,
)
from bench.ten_pools import LINES, Shape, accept_all, set_up
from poolwise.connect.directory.policies import default_policy
from poolwise.core.values import replace
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Counter
from poolwise.run.bootstrap import Rulebook, seek_cycles_seldom
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.check import Finding, StoredPlan, Verify
from poolwise.store.editions import PostgresEditions
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.evidence import check_database
from poolwise.store.proof import verifier

POLL_S: Final = 0.05
WARM_UP: Final = 5
"""One in so many orders warms up."""
LONGEST_S: Final = 1_800
HEADLINE: Final = "2 workers"
PLANS_VERIFIED: Final = 2_000
"""Of one run but the first of two workers; to recompute and verify all takes longer than to make them."""

EXPLAIN_BYTES: Final = """
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY length(facts)), max(length(facts)) FROM decision
"""
LOST: Final = "SELECT count(*) FILTER (WHERE attempt = 0), count(*) FROM customer_order"
OVERSOLD: Final = """
SELECT count(*)
FROM position AS p
LEFT JOIN (
    SELECT position, sum(quantity) AS units FROM movement WHERE cause = 'stock_movement' GROUP BY position
) AS m ON m.position = p.id
LEFT JOIN (SELECT position, sum(quantity) AS units FROM reservation GROUP BY position) AS r ON r.position = p.id
WHERE coalesce(r.units, 0) > coalesce(m.units, 0)
"""
OUTCOME: Final = """
SELECT count(*) FILTER (WHERE state = 'sourced'), count(*) FILTER (WHERE state <> 'sourced'),
    (SELECT count(*) FROM shipment), (SELECT count(DISTINCT day) FROM capacity)
FROM customer_order
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """How many workers in how many cells, and what they find."""

    name: str
    workers: int
    shape: Shape

    def cells_of(self, worker: int) -> str:
        """The cells a worker serves, as a setting: all of them, or with four of each its own."""
        return str(worker) if self.shape.cells > 1 else "0"


@dataclass(slots=True)
class Row:
    """What came out of one run of a scenario."""

    scenario: str
    workers: int
    cells: int
    hot: bool
    scarce: bool
    orders: int
    lines_per_second: float = 0.0
    seconds: float = 0.0
    worker_cpu_per_second: float | None = None
    postgres_cpu_per_second: float | None = None
    sourced: int = 0
    short: int = 0
    shipments: int = 0
    capacity_days: int = 0
    explain_bytes_per_order: int = 0
    explain_bytes_most: int = 0
    oversold: int = 0
    lost: int = 0
    plans_verified: int = 0
    findings: list[str] = field(default_factory=list)


def scenarios(orders: int) -> list[Scenario]:
    """All of them; the first four are those the ratios are made of."""
    ample = Shape(orders=orders)
    return [
        Scenario("1 worker", 1, ample),
        Scenario(HEADLINE, 2, ample),
        Scenario("4 workers", 4, ample),
        Scenario("4 workers, 4 cells", 4, replace(ample, cells=4)),
        Scenario("2 workers, hot", 2, replace(ample, hot=True)),
        Scenario("2 workers, scarce", 2, replace(ample, scarce=True)),
        Scenario("4 workers, hot, scarce", 4, replace(ample, hot=True, scarce=True)),
    ]


def run(server: EmbeddedServer, scenario: Scenario, seed: int, most_verified: int = PLANS_VERIFIED) -> Row:
    """Set a scenario up, let its workers work, check what they left."""
    shape = scenario.shape
    name = new_database(server, datetime.now(UTC))
    cells = tuple(range(shape.cells))
    with postgres.connect(server.application_url(name), connections=4) as pool:
        books = PostgresBooks(pool, cells)
        ids = Ids(secrets.randbits)
        published, policy = set_up(PostgresEditions(pool), books, ids, default_policy(), shape, seed, datetime.now(UTC))
        counter = Counter(published.edition, policy, ids, "bench", source=1)
        accepted = accept_all(books, counter, shape, seed, datetime.now(UTC))
        settle(server, name)
        row = Row(scenario.name, scenario.workers, shape.cells, shape.hot, shape.scarce, accepted)
        each = [settings_for(server, name, cells=scenario.cells_of(worker)) for worker in range(scenario.workers)]
        with psycopg.connect(server.superuser_url(name), autocommit=True) as watcher:
            _work(Crew(server, name, each), watcher, row)
            _judge(watcher, row, accepted)
        verify = _evenly(verifier(Rulebook(PostgresEditions(pool)), books), row, most_verified)
        checked = check_database(pool, cells, datetime.now(UTC), full=True, verify=verify)
        row.findings = [_told(finding) for finding in checked.findings]
    drop_database(server, name)
    return row


def _evenly(verify: Verify, row: Row, most: int) -> Verify:
    """Verify at most so many plans of a run, one in so many."""
    every, met = -(-row.orders // most), count()

    def broken(stored: StoredPlan) -> Iterable[str]:
        if next(met) % every:
            return ()
        row.plans_verified += 1
        return verify(stored)

    return broken


def _work(crew: Crew, watcher: psycopg.Connection[tuple[int, ...]], row: Row) -> None:
    """Let the crew work until the queue is empty, and take the time of all but the warm-up."""
    crew.release()
    deadline = time.monotonic() + LONGEST_S
    at_first = row.orders
    while at_first > row.orders - row.orders // WARM_UP:
        _pause(deadline)
        at_first = waiting(watcher)
    began, cpu_before = time.monotonic(), crew.cpu()
    while any_waits(watcher):
        _pause(deadline)
    row.seconds = time.monotonic() - began
    cpu_after = crew.cpu()
    row.lines_per_second = at_first * LINES / row.seconds
    if isinstance(cpu_before, CpuSeconds) and isinstance(cpu_after, CpuSeconds):
        row.worker_cpu_per_second = (cpu_after.ours - cpu_before.ours) / row.seconds
        row.postgres_cpu_per_second = (cpu_after.postgres - cpu_before.postgres) / row.seconds
    crew.stop()


def _pause(deadline: float) -> None:
    time.sleep(POLL_S)
    assert time.monotonic() < deadline, "the workers do not come to an end"


def _judge(watcher: psycopg.Connection[tuple[int, ...]], row: Row, accepted: int) -> None:
    """Count what must not be: units reserved that never came, orders that were lost or are still undecided."""
    row.explain_bytes_per_order, row.explain_bytes_most = _numbers(watcher, EXPLAIN_BYTES)
    undecided, kept = _numbers(watcher, LOST)
    row.lost = accepted - kept + undecided
    (row.oversold,) = _numbers(watcher, OVERSOLD)
    row.sourced, row.short, row.shipments, row.capacity_days = _numbers(watcher, OUTCOME)


def _numbers(watcher: psycopg.Connection[tuple[int, ...]], statement: str) -> tuple[int, ...]:
    row = watcher.execute(statement.encode()).fetchone()
    assert row is not None
    return row


def _told(finding: Finding) -> str:
    return f"law {finding.law}, {finding.kind} {finding.key}: {finding.detail}"


def measure(orders: int, rounds: int, seconds: int, seed: int, say: Callable[[str], None]) -> dict[str, object]:
    """Every scenario `rounds` times, in turn with pgbench; the report."""
    seek_cycles_seldom()  # as `poolwise check` does
    rows: list[Row] = []
    yardstick: dict[str, list[float]] = {"-N": [], "-S": []}
    with running_server() as server:
        pgbench.prepare(server)
        plan = [scenario for _ in range(rounds) for scenario in scenarios(orders)]
        scripts = list(islice(cycle(("-N", "-S")), max(2, 2 * rounds)))
        # Between the scenarios, evenly: a machine that is slower for a while is so for both.
        every = max(1, len(plan) // len(scripts))
        for place, scenario in enumerate(plan):
            if place % every == 0 and scripts:
                script = scripts.pop(0)
                yardstick[script].append(pgbench.measure(server, script, seconds).tps)
                say(f"pgbench {script}: {yardstick[script][-1]:.0f} tps")
            whole = scenario.name == HEADLINE and all(row.scenario != HEADLINE for row in rows)
            rows.append(run(server, scenario, seed + place, orders if whole else PLANS_VERIFIED))
            say(f"{scenario.name}: {rows[-1].lines_per_second:.0f} lines/s, {len(rows[-1].findings)} findings")
    inputs = {"orders": orders, "rounds": rounds, "pgbench_seconds": seconds, "seed": seed}
    return report(rows, median(yardstick["-N"]), median(yardstick["-S"])) | {"inputs": inputs, "machine": _machine()}


def report(rows: Sequence[Row], pgbench_n: float, pgbench_s: float) -> dict[str, object]:
    """The figures by their names, each the median over the rounds."""

    def speed(name: str) -> float:
        return median(row.lines_per_second for row in rows if row.scenario == name)

    alone = [row for row in rows if row.scenario == "1 worker"]
    worker_cpu = median(row.worker_cpu_per_second or 0.0 for row in alone)
    postgres_cpu = median(row.postgres_cpu_per_second or 0.0 for row in alone)
    one, two = speed("1 worker"), speed(HEADLINE)
    return {
        "lines_per_second": round(two),
        "pgbench_n_tps": round(pgbench_n),
        "pgbench_s_tps": round(pgbench_s),
        "ratio_to_pgbench_n": round(two / pgbench_n, 3),
        "orders_ratio_to_pgbench_n": round(two / LINES / pgbench_n, 3),
        "two_workers_over_one": round(two / one, 3),
        "one_worker_cpu_per_second": round(worker_cpu, 3),
        "one_worker_postgres_cpu_per_second": round(postgres_cpu, 3),
        "cpu_that_1.6_times_one_worker_needs": round(1.6 * (worker_cpu + postgres_cpu), 3),
        "worker_cpu_us_per_order": round(worker_cpu / one * LINES * 1e6),
        "postgres_cpu_us_per_order": round(postgres_cpu / one * LINES * 1e6),
        "four_cells_over_one": round(speed("4 workers, 4 cells") / speed("4 workers"), 3),
        "explain_bytes_per_order": max(row.explain_bytes_per_order for row in rows),
        "oversold": sum(row.oversold for row in rows),
        "lost": sum(row.lost for row in rows),
        "laws_broken": sum(len(row.findings) for row in rows),
        "scenarios": [asdict(row) for row in rows],
    }


def _machine() -> dict[str, object]:
    system = {"platform": platform.platform(), "python": platform.python_version()}
    return {"cpus": cpu_count(), "load": getloadavg(), **system}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON document")
    parser.add_argument("--orders", type=int, default=20_000, help="orders of a scenario")
    parser.add_argument("--rounds", type=int, default=3, help="how often each scenario is run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one round of few orders, pgbench for 4 seconds")
    asked = parser.parse_args()
    orders, rounds, seconds = (min(asked.orders, 4_000), 1, 4) if asked.quick else (asked.orders, asked.rounds, 20)
    found = measure(orders, rounds, seconds, asked.seed, _silent if asked.json else _aloud)
    print(json.dumps(found, indent=2))


def _silent(_line: str) -> None:
    pass


def _aloud(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
