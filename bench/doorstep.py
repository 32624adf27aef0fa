"""How long until the rest of an order is sourced again after a short, and until events are on the stream, under load.

    python -m bench.doorstep --json [--rounds 5] [--seconds 20] [--bulk N] [--quick]

Everything is a process of its own on the embedded server with fsync: `serve`, `work`, a sender, a follower of
`GET /v1/events`. The network is that of `bench.ten_pools` with no day full beforehand, the policy the shipped one.
While 500 orders a second come by HTTP at random moments (an open loop), a node reports once a second that it did not
find a line of a shipment that was released to it. Those shipments are of orders that were accepted and sourced through
the flows as of the day before, and released through them now. Orders are sent one by one; if that does not reach the
rate while it warms up (`warm_up_per_second`, `warm_up_refused`), they are sent 25 in a request. `sent_as` says which.

* `short_to_sourced`: from when the report was due to be sent until the stream tells that the rest of its order is
  decided, without that node: reserved elsewhere, or backordered (`backordered` counts these).
* `accepted_to_stream`: from the answer to an order, which is after its commit, to its `order.accepted` on the stream.
* `sourced_to_stream`: from the last look at the database that did not find an order decided (one in ten is looked for,
  every few milliseconds), or when it was due to be sent, so from before the commit of the decision, to its
  `order.sourced`.
* `accepted_to_sourced`: from the answer to an order to its `order.sourced`. It tells whether workers keep up: where
  they do not, a queue grows, and what is sourced again waits in it too.

Milliseconds, by round; `median` is that of the rounds. `lost` counts events that never came, `doubled` those that came
twice, `wrong` orders that went back to the node which did not find them. `pgbench_s_ms` is the mean latency of
`pgbench -S` at 100 a second, afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from itertools import islice
from multiprocessing.connection import Connection
from random import Random
from statistics import median
from threading import Thread
from typing import Final
from uuid import UUID

import msgspec

from bench import pgbench
from bench.front import Api, Ask, Clients, Told, in_loop, percentile, running_api
from bench.hall import Crew, beside, new_database, running_server, settings_for, settle
from bench.latency import LOOK_S, PATIENCE_S, Orders, body_of, posted
from bench.ten_pools import ITEMS, NODES, Shape, node_code, set_up
from poolwise.connect.directory.policies import default_policy
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Accepted, Counter, accept
from poolwise.flows.source import Desk, source_batch
from poolwise.flows.timers import run_timers
from poolwise.flows.views import PickList, PickQuery
from poolwise.run.bootstrap import Rulebook
from poolwise.run.settings import Settings
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.editions import PostgresEditions
from poolwise.store.postgres import Pool
from poolwise.store.views import PostgresViews

RATE: Final = 500
BULK: Final = 25
TOO_MANY: Final = 429
REACHED: Final = 0.98
"""This part of the rate is as good as all of it."""

LOOKED_FOR: Final = 10
"""One in so many orders is looked for in the database."""
EARLIER: Final = timedelta(days=1)
AT_ONCE: Final = 500
TIMERS_AT_ONCE: Final = 200
PGBENCH_RATE: Final = 100
FIGURES: Final = ("short_to_sourced", "accepted_to_stream", "sourced_to_stream", "accepted_to_sourced")

Key = tuple[str, UUID, int]
"""An event of an order: its type, the order, and the attempt of a decision (0 of what is none)."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: rounds and their seconds, those before them, orders a second, items, and of pgbench."""

    rounds: int = 5
    seconds: int = 20
    warm_up_s: int = 5
    rate: int = RATE
    bulk: int | None = None
    items: int = ITEMS
    pgbench_s: int = 4
    pgbench_scale: int = pgbench.SCALE


@dataclass(frozen=True, slots=True)
class Missing:
    """A line of a released shipment that its node will not find."""

    order: UUID
    number: str
    shipment: int
    node: str
    item: str
    quantity: int


@dataclass(slots=True)
class Sent:
    """What a sender saw, in seconds of `monotonic`: answers, looks before the decision, reports, and its end."""

    begun: float
    seconds: int
    refused: int = 0
    answered: dict[UUID, float] = field(default_factory=dict)
    undecided: dict[UUID, float] = field(default_factory=dict)
    reported: dict[UUID, float] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Orders that were accepted a second, until the last answer came."""
        return len(self.answered) / max(self.seconds, max(self.answered.values()) - self.begun)


class Decided(msgspec.Struct, frozen=True):
    """What an event says of a decision; of what is none, nothing."""

    attempt: int = 0
    nodes: tuple[str, ...] = ()
    waiting: tuple[tuple[int, int, str], ...] = ()


class Heard(msgspec.Struct, frozen=True):
    """An event as the stream carries it."""

    type: str
    subject: str
    data: Decided


@dataclass(slots=True)
class Followed:
    """What came on the stream: when each event was there, how many came again, and the decisions of later attempts."""

    arrived: dict[Key, float] = field(default_factory=dict)
    doubled: int = 0
    again: dict[UUID, Decided] = field(default_factory=dict)

    def hear(self, heard: Heard, now: float) -> None:
        """Take an event in."""
        if heard.type not in ("order.accepted", "order.sourced"):
            return
        order = UUID(heard.subject)
        key = (heard.type, order, heard.data.attempt)
        self.doubled += key in self.arrived
        self.arrived[key] = now
        if heard.data.attempt > 1:
            self.again[order] = heard.data


# --- orders that were released before -----------------------------------------------------------------------------


def released_before(pool: Pool, settings: Settings, many: int, items: int, seed: int, now: datetime) -> list[Missing]:
    """Accept and source orders as of the day before, release them now; a line of each that will not be found."""
    ids, books, atlas = Ids(secrets.randbits), PostgresBooks(pool), Rulebook(PostgresEditions(pool)).current()
    then = now - EARLIER + timedelta(minutes=1)
    counter = Counter(atlas.edition, atlas.policy.policy, ids, "bench")
    orders = iter(Orders(seed, items).take("E", many))
    while batch := list(islice(orders, AT_ONCE)):
        assert all(isinstance(outcome, Accepted) for outcome in accept(books, counter, batch, then))
    desk = Desk(atlas, "bench", settings.cell_numbers, ids)
    while source_batch(books, desk, 0, then + timedelta(minutes=1), AT_ONCE).decided:
        pass
    while run_timers(books, desk, 0, now, TIMERS_AT_ONCE):
        pass
    views, random, lists = PostgresViews(pool), Random(seed), list[PickList]()
    for number in range(NODES):
        lists += views.pick_lists(PickQuery(node=node_code(0, number), limit=2 * many))
    random.shuffle(lists)
    found: dict[UUID, Missing] = {}
    for each in lists:
        line = random.choice(each.lines)
        missing = Missing(each.order, each.number, each.shipment_no, each.node, line.item, line.quantity)
        found.setdefault(each.order, missing)
    assert len(found) == many, f"{len(found)} of {many} orders were released"
    return list(found.values())


def report_of(missing: Missing) -> Ask:
    """What the node says."""
    said = {"id": secrets.token_hex(12), "order": missing.number, "shipment": missing.shipment, "kind": "short",
            "at": datetime.now(UTC), "lines": [{"item": missing.item, "quantity": str(missing.quantity)}]}  # fmt: skip
    return posted(msgspec.json.encode(said), "/v1/shipments/reports")


# --- the sender ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """What a sender sends: orders at a rate for some seconds, so many in a request, and a report a second."""

    rate: int
    seconds: int
    bulk: int
    items: int
    seed: int
    short: tuple[Missing, ...]


def send(api: Api, settings: Settings, task: Task, to: Connection) -> None:
    """Send it, and look when some of the orders are decided."""
    random, orders = Random(task.seed), Orders(task.seed, task.items)
    asked = []
    for _ in range(task.rate * task.seconds // task.bulk):
        bodies = [body_of(order) for order in orders.take(f"D{task.seed}-", task.bulk)]
        joined = b'{"orders":[' + b",".join(bodies) + b"]}"
        asked.append(posted(bodies[0]) if task.bulk == 1 else posted(joined, "/v1/orders:bulk"))
    due = sorted(random.uniform(0, task.seconds) for _ in asked)
    with postgres.connect(settings.database_url, connections=1) as pool:
        to.send(in_loop(_sent(Clients(api), PostgresViews(pool), asked, due, task)))


async def _sent(to: Clients, views: PostgresViews, asked: list[Ask], due: list[float], task: Task) -> Sent:
    sent = Sent(time.monotonic(), task.seconds)
    waiting: dict[UUID, float] = {}

    def answered(told: Told) -> None:
        if told.status == TOO_MANY:
            sent.refused += task.bulk
            return
        assert told.status in (200, 201), told.body
        said = json.loads(told.body)
        for each in said.get("outcomes", [{"accepted": said}]):
            order = UUID(each["accepted"]["id"])
            sent.answered[order] = told.there
            if len(sent.answered) % LOOKED_FOR == 0:
                waiting[order] = told.due

    async def report(place: int, missing: Missing) -> None:
        await asyncio.sleep(max(0.0, sent.begun + place + 0.5 - time.monotonic()))
        asked, begun = report_of(missing), time.monotonic()
        told = await to.ask(asked, begun)
        while told.status == TOO_MANY:
            await asyncio.sleep(LOOK_S)
            told = await to.ask(asked, begun)
        assert (told.status, json.loads(told.body)) == (200, {"outcome": "booked"}), told.body
        sent.reported[missing.order] = told.due

    sending = asyncio.gather(to.at_rate(asked, due, answered), *(report(*each) for each in enumerate(task.short)))
    deadline = time.monotonic() + due[-1] + PATIENCE_S
    while (waiting or not sending.done()) and time.monotonic() < deadline:
        if waiting:
            looked, looked_for = time.monotonic(), list(waiting)
            decided = await asyncio.to_thread(views.decided, looked_for)
            for order in looked_for:
                if order in decided:
                    sent.undecided[order] = waiting.pop(order)
                else:
                    waiting[order] = looked
        await asyncio.sleep(LOOK_S)
    await sending
    return sent


# --- the follower -------------------------------------------------------------------------------------------------


def follow(api: Api, with_: Connection) -> None:
    """Follow the stream; once told which events must come, until they are there; then send what came."""
    followed, connection = Followed(), HTTPConnection("127.0.0.1", api.port)
    connection.request("GET", "/v1/events", headers=api.headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    assert answer.readline().startswith(b"retry:")
    decoder = msgspec.json.Decoder(Heard)

    def hear() -> None:
        while line := answer.readline():
            if line.startswith(b"data: "):
                followed.hear(decoder.decode(line[6:]), time.monotonic())

    Thread(target=hear, daemon=True).start()
    with_.send("follows")
    wanted: set[Key] = with_.recv()
    deadline = time.monotonic() + PATIENCE_S
    while wanted - followed.arrived.keys() and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    with_.send(followed)


@contextmanager
def following(api: Api) -> Iterator[Connection]:
    """While the stream is followed, from a process of its own."""
    ours, theirs = beside.Pipe()
    process = beside.Process(target=follow, args=(api, theirs))
    process.start()
    theirs.close()
    try:
        assert ours.recv() == "follows"
        yield ours
    finally:
        process.terminate()
        process.join(PATIENCE_S)


# --- the report ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Round:
    """Milliseconds by figure, the rate that was reached, and what must not be."""

    milliseconds: dict[str, list[float]]
    per_second: float
    orders: int
    refused: int
    shorts: int
    backordered: int
    lost: int
    doubled: int
    wrong: int


def one_round(api: Api, settings: Settings, task: Task) -> Round:
    """Send while following."""
    with following(api) as follower:
        receiving, sending = beside.Pipe(duplex=False)
        process = beside.Process(target=send, args=(api, settings, task, sending))
        process.start()
        sending.close()
        sent: Sent = receiving.recv()
        process.join(PATIENCE_S)
        wanted = {("order.accepted", order, 0) for order in sent.answered}
        wanted |= {("order.sourced", order, 1) for order in sent.answered}
        wanted |= {("order.sourced", order, 2) for order in sent.reported}
        follower.send(wanted)
        followed: Followed = follower.recv()
    return judged(sent, followed, wanted, task.short)


def judged(sent: Sent, followed: Followed, wanted: set[Key], short: Sequence[Missing]) -> Round:
    """What a round comes to."""
    arrived = followed.arrived
    since = {
        "short_to_sourced": {("order.sourced", order, 2): at for order, at in sent.reported.items()},
        "accepted_to_stream": {("order.accepted", order, 0): at for order, at in sent.answered.items()},
        "sourced_to_stream": {("order.sourced", order, 1): at for order, at in sent.undecided.items()},
        "accepted_to_sourced": {("order.sourced", order, 1): at for order, at in sent.answered.items()},
    }
    took = {
        name: [max(0.0, arrived[key] - at) * 1_000 for key, at in begun.items() if key in arrived]
        for name, begun in since.items()
    }
    again = [(missing.node, followed.again.get(missing.order, Decided())) for missing in short]
    return Round(
        took,
        sent.per_second,
        len(sent.answered),
        sent.refused,
        len(sent.reported),
        sum(bool(decided.waiting) for _, decided in again),
        len(wanted - arrived.keys()),
        followed.doubled,
        sum(node in decided.nodes for node, decided in again),
    )


def figures_of(values: Sequence[float]) -> dict[str, float]:
    """The middle, nearly the longest, and the longest."""
    return {
        "p50": round(percentile(values, 0.5), 1),
        "p99": round(percentile(values, 0.99), 1),
        "max": round(max(values), 1),
    }


def measure(size: Size, seed: int) -> dict[str, object]:
    """Everything, on a server of its own; the report."""
    now = datetime.now(UTC)
    many = size.warm_up_s + size.rounds * size.seconds
    with running_server() as server:
        name = new_database(server, now - EARLIER)
        settings = settings_for(server, name)
        shape = Shape(orders=size.rate * many + many, full_days=0, items=size.items)
        with postgres.connect(settings.database_url, connections=2) as pool:
            books, ids = PostgresBooks(pool), Ids(secrets.randbits)
            set_up(PostgresEditions(pool), books, ids, default_policy(), shape, seed, now - EARLIER)
            missing = iter(released_before(pool, settings, many, size.items, seed + 100, now))
        settle(server, name)
        pgbench.prepare(server, size.pgbench_scale)
        done: list[Round] = []
        yardstick: list[float] = []
        with running_api(settings) as api:
            crew = Crew(server, name, [settings])
            try:
                crew.release()
                first = tuple(islice(missing, size.warm_up_s))
                task = Task(size.rate, size.warm_up_s, size.bulk or 1, size.items, seed, first)
                warm_up = one_round(api, settings, task)
                is_reached = not warm_up.refused and warm_up.per_second >= REACHED * size.rate
                bulk = size.bulk or (1 if is_reached else BULK)
                for number in range(1, size.rounds + 1):
                    short = tuple(islice(missing, size.seconds))
                    task = Task(size.rate, size.seconds, bulk, size.items, seed + number, short)
                    done.append(one_round(api, settings, task))
                for _ in range(size.rounds):
                    yardstick.append(pgbench.measure(server, "-S", size.pgbench_s, rate=PGBENCH_RATE).latency_ms)
            finally:
                crew.stop()
    return report(done) | {
        "sent_as": "single" if bulk == 1 else "bulk",
        "orders_of_a_request": bulk,
        "warm_up_per_second": round(warm_up.per_second, 1),
        "warm_up_refused": warm_up.refused,
        "pgbench_s_ms": round(median(yardstick), 3),
        "inputs": {**asdict(size), "reports_a_second": 1, "seed": seed},
        "load": os.getloadavg(),
    }


def report(done: Sequence[Round]) -> dict[str, object]:
    """The figures by their names, by round and the median of the rounds."""
    found: dict[str, object] = {}
    for name in FIGURES:
        rounds = [figures_of(each.milliseconds[name]) for each in done]
        middle = {which: round(median(each[which] for each in rounds), 1) for which in ("p50", "p99", "max")}
        found[f"{name}_ms"] = {"median": middle, "rounds": rounds}
    return found | {
        "orders_per_second": {
            "median": round(median(each.per_second for each in done), 1),
            "rounds": [round(each.per_second, 1) for each in done],
        },
        **{
            name: sum(getattr(each, name) for each in done)
            for name in ("orders", "refused", "shorts", "backordered", "lost", "doubled", "wrong")
        },
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the document on one line")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=20, help="of a round")
    parser.add_argument("--bulk", type=int, help="orders of a request, whatever one by one reaches")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one round of two seconds, few items, 50 orders a second")
    asked = parser.parse_args()
    if asked.quick:
        size = Size(1, 2, 1, rate=50, bulk=asked.bulk, items=200, pgbench_s=1, pgbench_scale=1)
    else:
        size = Size(asked.rounds, asked.seconds, bulk=asked.bulk)
    print(json.dumps(measure(size, asked.seed), indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
