"""How long until an order is accepted, and decided, while a file streams in; and how many are accepted a second.

    python -m bench.latency --json [--rounds 5] [--seconds 20] [--quick]

The network and stock are those of `bench.ten_pools`, the policy is the shipped one, and everything is a process of its
own on the embedded server with fsync: `serve`, `work`, the real importer, the clients. Orders come by HTTP at random
moments, 100 a second (an open loop: waiting counts from when an order was due); every second a file of 200 orders is
imported, and orders by HTTP are claimed first. `accept` ends when the answer is there, which is after the commit;
`decide` when a look at the database, every few milliseconds, finds the order decided. p99 is taken by round, and of the
rounds the median. Then, with the worker stopped, single orders are sent by 64 clients at once, and bulks of 500 by two:
`single_per_second` and `bulk_orders_per_second` are what was accepted. `pgbench_s_ms` is the mean latency of
`pgbench -S` at 100 a second, afterwards. `lost` counts orders that were answered and are not decided in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from random import Random
from statistics import median
from typing import Final
from uuid import UUID

import msgspec

from bench import pgbench
from bench.front import Api, Ask, Clients, Told, in_loop, percentile, running_api
from bench.hall import Crew, beside, new_database, running_server, settings_for, settle
from bench.ten_pools import ITEMS, Shape, item_codes, order_message, set_up, zone_codes
from poolwise.connect.directory.importing import import_directory
from poolwise.connect.directory.policies import default_policy
from poolwise.core.messages import OrderMessage
from poolwise.flows.identity import Ids
from poolwise.run.bootstrap import IMPORT_NICENESS, opened, seek_cycles_seldom, step_back
from poolwise.run.directories import target_of
from poolwise.run.settings import Settings
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.editions import PostgresEditions
from poolwise.store.views import PostgresViews

RATE: Final = 100
FROM_FILE_A_SECOND: Final = 200
LOOK_S: Final = 0.01
SINGLE_CLIENTS: Final = 64
BULK: Final = 500
BULK_CLIENTS: Final = 2
PATIENCE_S: Final = 120


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: rounds and their seconds, those before them, items, and of pgbench."""

    rounds: int = 5
    seconds: int = 20
    warm_up_s: int = 3
    items: int = ITEMS
    pgbench_s: int = 4
    pgbench_scale: int = pgbench.SCALE


QUICK: Final = Size(rounds=1, seconds=1, warm_up_s=1, items=500, pgbench_s=1, pgbench_scale=1)


@dataclass(frozen=True, slots=True)
class Round:
    """Milliseconds of each order until it was accepted and decided; orders answered but not decided in the end."""

    accept: list[float]
    decide: list[float]
    lost: int


def body_of(message: OrderMessage) -> bytes:
    """An order as its sender writes it."""
    lines = [{"item": o.item, "quantity": o.quantity, "unit_price": o.unit_price} for o in message.lines]
    said = {"channel": message.channel, "zone": message.zone, "number": message.number, "lines": lines}
    return msgspec.json.encode({**said, "currency": "EUR"})


class Orders:
    """New orders, each with a number of its own."""

    def __init__(self, seed: int, items: int) -> None:
        """Begins with the first."""
        self._random, self._zones, self._items = Random(seed), zone_codes(1, 0), item_codes(1, 0, items)
        self._numbers = count(1)

    def take(self, prefix: str, many: int) -> list[OrderMessage]:
        """The next so many."""
        random = self._random
        return [
            order_message(random, f"{prefix}{next(self._numbers)}", random.choice(self._zones), self._items)
            for _ in range(many)
        ]


def posted(body: bytes, path: str = "/v1/orders") -> Ask:
    """A request that writes."""
    return Ask("POST", path, body, {"Idempotency-Key": secrets.token_hex(12)})


# --- the processes ------------------------------------------------------------------------------------------------


def stream(settings: Settings, seed: int, items: int, stop: Event, begun: Event) -> None:
    """Import a file of new orders every second, as the command does, until told to stop."""
    orders = Orders(seed, items)
    seek_cycles_seldom()
    step_back(IMPORT_NICENESS)
    with tempfile.TemporaryDirectory(prefix="poolwise-bench-") as folder, opened(settings) as app:
        target, path = target_of(app), Path(folder) / "orders.csv"
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            with path.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("order", "channel", "zone", "item", "quantity"))
                for order in orders.take("F", FROM_FILE_A_SECOND):
                    for line in order.lines:
                        writer.writerow((order.number, order.channel, order.zone, line.item, line.quantity))
            done = import_directory(Path(folder), target)
            assert not done.rejected, done.rejects[:3]
            begun.set()
            due += 1.0


@contextmanager
def streaming(settings: Settings, seed: int, items: int) -> Iterator[None]:
    """While a file streams."""
    stop, begun = beside.Event(), beside.Event()
    process = beside.Process(target=stream, args=(settings, seed, items, stop, begun))
    process.start()
    try:
        assert begun.wait(PATIENCE_S), "the import does not begin"
        yield
    finally:
        stop.set()
        process.join(PATIENCE_S)
    assert process.exitcode == 0, f"the import ended with {process.exitcode}"


def clients(api: Api, settings: Settings, seed: int, items: int, seconds: int, sending: Connection) -> None:
    """Send orders at the rate, and look when they are decided."""
    random = Random(seed)
    asked = [posted(body_of(order)) for order in Orders(seed, items).take(f"H{seed}-", RATE * seconds)]
    due, at = [], 0.0
    for _ in asked:
        at += random.expovariate(RATE)
        due.append(at)
    with postgres.connect(settings.database_url, connections=1) as pool:
        sending.send(in_loop(_sent(Clients(api), PostgresViews(pool), asked, due)))


async def _sent(to: Clients, views: PostgresViews, asked: list[Ask], due: list[float]) -> Round:
    waiting: dict[UUID, float] = {}
    decide: list[float] = []

    def answered(told: Told) -> None:
        assert told.status == 201, told.body
        waiting[UUID(json.loads(told.body)["id"])] = told.due

    sending = asyncio.create_task(to.at_rate(asked, due, answered))
    deadline = time.monotonic() + due[-1] + PATIENCE_S
    while (waiting or not sending.done()) and time.monotonic() < deadline:
        if waiting:
            decided = await asyncio.to_thread(views.decided, list(waiting))
            now = time.monotonic()
            decide += [(now - waiting.pop(order)) * 1_000 for order in decided]
        await asyncio.sleep(LOOK_S)
    return Round([told.milliseconds for told in await sending], decide, len(waiting))


def one_round(api: Api, settings: Settings, seed: int, items: int, seconds: int) -> Round:
    """A round of the clients, in a process of their own."""
    receiving, sending = beside.Pipe(duplex=False)
    process = beside.Process(target=clients, args=(api, settings, seed, items, seconds, sending))
    process.start()
    sending.close()
    done: Round = receiving.recv()
    process.join(PATIENCE_S)
    return done


def accepted_per_second(api: Api, asks: list[Ask], at_once: int, orders_each: int) -> float:
    """Orders accepted a second, sent as fast as they go from a process of their own."""
    receiving, sending = beside.Pipe(duplex=False)
    process = beside.Process(target=_as_fast_as_it_goes, args=(api, asks, at_once, sending))
    process.start()
    sending.close()
    seconds, statuses = receiving.recv()
    process.join(PATIENCE_S)
    assert statuses <= {200, 201}, statuses
    return len(asks) * orders_each / float(seconds)


def _as_fast_as_it_goes(api: Api, asks: list[Ask], at_once: int, sending: Connection) -> None:
    began = time.monotonic()
    told = in_loop(Clients(api).as_fast_as_it_goes(asks, at_once))
    sending.send((time.monotonic() - began, {each.status for each in told}))


# --- the report ---------------------------------------------------------------------------------------------------


def measure(size: Size, seed: int) -> dict[str, object]:
    """Everything, on a server of its own; the report."""
    with running_server() as server:
        name = new_database(server, datetime.now(UTC))
        settings = settings_for(server, name)
        rounds, seconds = size.rounds, size.seconds
        shape = Shape(orders=(RATE + FROM_FILE_A_SECOND) * seconds * rounds, items=size.items)
        with postgres.connect(settings.database_url, connections=2) as pool:
            ids = Ids(secrets.randbits)
            set_up(PostgresEditions(pool), PostgresBooks(pool), ids, default_policy(), shape, seed, datetime.now(UTC))
        settle(server, name)
        pgbench.prepare(server, size.pgbench_scale)
        done: list[Round] = []
        yardstick: list[float] = []
        with running_api(settings) as api:
            crew = Crew(server, name, [settings])
            try:
                crew.release()
                with streaming(settings, seed, size.items):
                    one_round(api, settings, seed, size.items, size.warm_up_s)
                    for number in range(rounds):
                        done.append(one_round(api, settings, seed + number + 1, size.items, seconds))
                for _ in range(rounds):
                    yardstick.append(pgbench.measure(server, "-S", size.pgbench_s, rate=RATE).latency_ms)
            finally:
                crew.stop()
            orders = Orders(seed, size.items)
            singles = [posted(body_of(order)) for order in orders.take("S", 500 * min(seconds, 10))]
            single = accepted_per_second(api, singles, SINGLE_CLIENTS, 1)
            bulks = []
            for _ in range(2 * min(seconds, 10)):
                bodies = b",".join(body_of(order) for order in orders.take("B", BULK))
                bulks.append(posted(b'{"orders":[' + bodies + b"]}", "/v1/orders:bulk"))
            bulk = accepted_per_second(api, bulks, BULK_CLIENTS, BULK)
    return {
        "accept_p99_ms": round(median(percentile(each.accept, 0.99) for each in done), 1),
        "decide_p99_ms": round(median(percentile(each.decide, 0.99) for each in done), 1),
        "single_per_second": round(single),
        "bulk_orders_per_second": round(bulk),
        "accept_p50_ms": round(median(percentile(each.accept, 0.5) for each in done), 1),
        "decide_p50_ms": round(median(percentile(each.decide, 0.5) for each in done), 1),
        "pgbench_s_ms": round(median(yardstick), 3),
        "orders": sum(len(each.accept) for each in done),
        "lost": sum(each.lost for each in done),
        "inputs": {"rate": RATE, "from_file_a_second": FROM_FILE_A_SECOND, "rounds": rounds, "seconds": seconds,
                   "items": size.items, "seed": seed},
        "load": os.getloadavg(),
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the document on one line")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=20, help="of a round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one round of a second, few items")
    asked = parser.parse_args()
    size = QUICK if asked.quick else Size(asked.rounds, asked.seconds)
    print(json.dumps(measure(size, asked.seed), indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
