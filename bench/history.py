"""Whether orders are sourced as fast when there is much history; what a million open orders cost an idle worker.

    python -m bench.history --json [--rounds 5] [--check] [--quick]

`rates` are orders sourced a second by `source_batch` in this process, under the shipped policy, on the network of
`bench.ten_pools` and the embedded server with fsync, when the journal holds so many `movements`; the median of the
rounds. In each round a second database without that history (`fresh_rates`) gets the same orders before or after, in
turn, so that what the machine does besides falls on both: `rates_over_fresh`. `first_over_last` is the first rate over
the last, `first_over_last_of_fresh` the same of `rates_over_fresh`.

The history is the lives of some orders that were accepted, sourced, released and delivered through the flows, written
again by `bench.lives` in the database, with all their rows, to the number of movements wanted.

`idle_worker_rss_mb` is what a worker process holds that finds nothing to do, with the number of `open_orders` beside
it: half of these are reserved and not released yet, half wait for stock of an item. They came the same way. `--check`
proves the laws on the database with history in the end (`laws_broken`; else null).
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Final

import psycopg

from bench.hall import Crew, new_database, running_server, settings_for, settle
from bench.lives import Lives, Shop
from bench.ten_pools import ITEMS, Shape, item_codes, set_up
from poolwise.connect.directory.policies import default_policy
from poolwise.core.catalog import Item
from poolwise.core.edition.rows import ItemRow, Section
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Counter
from poolwise.flows.masterdata import Told, publish
from poolwise.flows.source import Desk
from poolwise.run.bootstrap import Rulebook, seek_cycles_seldom
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.check import Finding
from poolwise.store.editions import PostgresEditions
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.evidence import check_database

AGO: Final = timedelta(days=7)
"""When the orders came whose lives make the history."""
LACKING: Final = "LACKING"
"""An item of which there is no stock."""

MOVEMENTS: Final = "SELECT count(*) FROM movement"
OPEN: Final = """
SELECT count(*) FROM customer_order WHERE state NOT IN ('basket', 'released', 'shipped', 'cancelled')
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: movements, orders that lived, rounds and their orders, items, open orders, idle time."""

    movements: tuple[int, ...] = (100_000, 1_000_000, 10_000_000)
    lived: int = 4_000
    rounds: int = 5
    orders: int = 4_000
    items: int = ITEMS
    few_open: int = 1_000
    open_orders: int = 1_000_000
    idle_s: int = 10
    check: bool = False


QUICK: Final = Size((2_500, 5_000), 60, 1, 160, 200, 100, 1_000, 1, check=True)


@dataclass(frozen=True, slots=True)
class Place:
    """A database with a shop that works on it, and a connection that may see and write anything in it."""

    name: str
    shop: Shop
    owner: psycopg.Connection[tuple[object, ...]]

    def count(self, statement: str) -> int:
        """What a statement counts."""
        row = self.owner.execute(statement.encode()).fetchone()
        assert row is not None
        assert isinstance(row[0], int)
        return row[0]


@contextmanager
def opened(server: EmbeddedServer, size: Size, seed: int) -> Iterator[Place]:
    """A new database with the network and its opening stock."""
    now = datetime.now(UTC)
    name = new_database(server, now - AGO)
    shape = Shape(orders=len(size.movements) * size.rounds * size.orders + size.lived, items=size.items)
    with (
        postgres.connect(server.application_url(name), connections=2) as pool,
        psycopg.connect(server.superuser_url(name), autocommit=True, cursor_factory=psycopg.ClientCursor) as owner,
    ):
        books, ids, editions = PostgresBooks(pool), Ids(secrets.randbits), PostgresEditions(pool)
        set_up(editions, books, ids, default_policy(), shape, seed, now)
        published = publish(editions, [Told(ItemRow(Item(LACKING)), Section.ITEMS)], now, "bench")
        assert not published.faults, published.faults
        atlas = Rulebook(editions).current()
        counter = Counter(atlas.edition, atlas.policy.policy, ids, "bench")
        yield Place(name, Shop(books, counter, Desk(atlas, "bench", (0,), ids), item_codes(1, 0, size.items)), owner)


def lived(place: Place, size: Size, seed: int) -> Lives:
    """Orders that came some days ago and are delivered now."""
    now = datetime.now(UTC)
    shop = place.shop
    orders = shop.take(shop.orders("L", size.lived, seed), now - AGO)
    shop.source(now - AGO + timedelta(minutes=1))
    shop.deliver(orders, now)
    return Lives(place.owner, "lived", orders, now - AGO)


def left_open(place: Place, many: int, seed: int) -> Lives:
    """Orders that came just now: half are sourced, half wait for stock."""
    shop, now = place.shop, datetime.now(UTC)
    orders = shop.take(shop.orders("R", many // 2, seed), now)
    orders += shop.take(shop.orders("W", many // 2, seed, LACKING), now)
    shop.source(datetime.now(UTC))
    return Lives(place.owner, "open", orders, now)


# --- the rate of claims -------------------------------------------------------------------------------------------


def rate(place: Place, kind: str, many: int, seed: int) -> float:
    """Orders sourced a second: those that were accepted just before."""
    shop = place.shop
    shop.take(shop.orders(kind, many, seed), datetime.now(UTC))
    began = time.perf_counter()
    done = shop.source(datetime.now(UTC))
    took = time.perf_counter() - began
    assert done == many, f"{done} of {many} orders were decided"
    return many / took


@dataclass(frozen=True, slots=True)
class Stage:
    """Rates at a number of movements, by round, with and without them."""

    movements: int
    rates: list[float]
    fresh: list[float]

    @property
    def over_fresh(self) -> float:
        """How fast it is beside the database without history."""
        return median(mine / other for mine, other in zip(self.rates, self.fresh, strict=True))


def one_stage(grown: Place, fresh: Place, size: Size, which: int, seed: int) -> Stage:
    """The rounds at what history there is, each database first in turn; a small one before them is not counted."""
    movements = grown.count(MOVEMENTS)
    found: dict[str, list[float]] = {grown.name: [], fresh.name: []}
    for number in range(size.rounds + 1):
        # Each round has a letter of its own: numbers of orders are told apart by it.
        kind, many = chr(ord("a") + which * (size.rounds + 1) + number), size.orders if number else size.orders // 8
        for place in (grown, fresh) if number % 2 else (fresh, grown):
            reached = rate(place, kind, many, seed + 100 * which + number)
            if number:
                found[place.name].append(reached)
    return Stage(movements, found[grown.name], found[fresh.name])


# --- the report ---------------------------------------------------------------------------------------------------


def idle_rss_mb(server: EmbeddedServer, name: str, seconds: int) -> float:
    """What a worker process holds that has found nothing to do for a while."""
    crew = Crew(server, name, [settings_for(server, name)])
    try:
        crew.release()
        time.sleep(seconds)
        (process,) = crew.processes
        told = Path(f"/proc/{process.pid}/status").read_text()
    finally:
        crew.stop()
    return next(int(line.split()[1]) for line in told.splitlines() if line.startswith("VmRSS:")) / 1024


def broken(server: EmbeddedServer, name: str) -> list[str]:
    """What of the laws is broken in a database."""
    with postgres.connect(server.application_url(name), connections=1) as pool:
        checked = check_database(pool, (0,), datetime.now(UTC), full=True)
    return [_told(finding) for finding in checked.findings]


def _told(finding: Finding) -> str:
    return f"law {finding.law}, {finding.kind} {finding.key}: {finding.detail}"


def measure(size: Size, seed: int, say: Callable[[str], None]) -> dict[str, object]:
    """Everything, on a server of its own; the report."""
    seek_cycles_seldom()
    with running_server() as server, ExitStack() as stack:
        grown, fresh = (stack.enter_context(opened(server, size, seed)) for _ in range(2))
        history = lived(grown, size, seed + 1)
        left_open(fresh, size.few_open, seed + 3)
        many = left_open(grown, size.few_open, seed + 3)
        found: dict[str, list[float]] = {"open_orders": [], "idle_worker_rss_mb": []}

        def idle(place: Place) -> None:
            found["open_orders"].append(place.count(OPEN))
            found["idle_worker_rss_mb"].append(round(idle_rss_mb(server, place.name, size.idle_s), 1))

        idle(fresh)
        stages: list[Stage] = []
        for which, wanted in enumerate(size.movements):
            began = time.monotonic()
            more = -(-(wanted - grown.count(MOVEMENTS)) // history.movements)
            history.write(max(0, more), datetime.now(UTC))
            settle(server, grown.name)
            settle(server, fresh.name)
            say(f"{grown.count(MOVEMENTS)} movements after {time.monotonic() - began:.0f} s")
            stages.append(one_stage(grown, fresh, size, which, seed + 2))
            say(f"{median(stages[-1].rates):.0f} orders a second, {stages[-1].over_fresh:.3f} of those without")
        more = -(-(size.open_orders - grown.count(OPEN)) // size.few_open)
        many.write(max(0, more), datetime.now(UTC))
        settle(server, grown.name)
        idle(grown)
        laws = broken(server, grown.name) if size.check else None
    return (
        report(stages)
        | found
        | {"laws_broken": laws, "inputs": {**asdict(size), "seed": seed}, "load": os.getloadavg()}
    )


def report(stages: list[Stage]) -> dict[str, object]:
    """The figures by their names."""
    rates = [median(stage.rates) for stage in stages]
    over_fresh = [stage.over_fresh for stage in stages]
    return {
        "movements": [stage.movements for stage in stages],
        "rates": [round(each, 1) for each in rates],
        "fresh_rates": [round(median(stage.fresh), 1) for stage in stages],
        "rates_over_fresh": [round(each, 3) for each in over_fresh],
        "first_over_last": round(rates[0] / rates[-1], 3),
        "first_over_last_of_fresh": round(over_fresh[0] / over_fresh[-1], 3),
        "rounds": [[[round(a), round(b)] for a, b in zip(each.rates, each.fresh, strict=True)] for each in stages],
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the document on one line")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="prove the laws in the end")
    parser.add_argument("--quick", action="store_true", help="some thousand movements and open orders, one round")
    asked = parser.parse_args()
    size = QUICK if asked.quick else Size(rounds=asked.rounds, check=asked.check)
    found = measure(size, asked.seed, _silent if asked.json else _aloud)
    print(json.dumps(found, indent=None if asked.json else 2))


def _silent(_line: str) -> None:
    pass


def _aloud(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
