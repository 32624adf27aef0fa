"""Messages that come several times and in any order (law 5, ADR 0017): the end is that of the same ones told once.

Reports of consistent stories of shipments, movements, counts, receipts; orders are there before. A day of them is told
twice, in two orders of its own: once each to one market, one to three times each to another. Both hold the same then.
Some hundred messages in `make test`, a hundred thousand in `make soak`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from poolwise.core.fulfilment import Stage
from poolwise.core.ledger import Account, PositionKey
from poolwise.core.messages import (
    ReceiptNotice,
    ReportKind,
    ReportLine,
    ShipmentReport,
    StockCount,
    StockMovement,
)
from poolwise.core.values import replace
from poolwise.flows import execute, stock
from poolwise.flows.execute import book_report
from poolwise.flows.ports import Effects
from poolwise.flows.receipts import book_receipts
from poolwise.flows.stock import Outcome, book_counts, book_movements
from poolwise.store.books import PostgresTransaction
from poolwise.store.memory import MemoryTransaction
from tests.conftest import Database
from tests.flows.market import NODES, Market, in_memory, on_postgres

FULL = os.environ.get("POOLWISE_CAMPAIGN") == "full"
MESSAGES, MESSAGES_ON_POSTGRES = (80_000, 20_000) if FULL else (400, 120)
CHUNK, CHUNK_ON_POSTGRES = (2_000, 500) if FULL else (400, 120)
PLENTY = 100_000
TO_FIND = 100
TOGETHER = 4
"""How many messages of a kind come together at most."""

pytestmark = pytest.mark.slow

Message = ShipmentReport | StockMovement | StockCount | ReceiptNotice


@dataclass(slots=True)
class Happening:
    """What happens on a day, as messages; equal seeds give equal days."""

    chance: random.Random
    now: datetime
    told: list[Message] = field(default_factory=list)

    def of(self, orders: Sequence[str], wanted: int) -> list[Message]:
        """A story of each order's shipment, and so many messages in all."""
        for order in orders:
            self._story(order)
        while len(self.told) < wanted:
            self.chance.choice((self._move, self._count, self._receive))()
        return self.told

    def _at(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def _story(self, order: str) -> None:
        """What a node and a carrier tell of a shipment, each once: what they say fits together."""
        picked, shipped, delivered = ReportKind.PICKED, ReportKind.SHIPPED, ReportKind.DELIVERED
        short, declined, failed = ReportKind.SHORT, ReportKind.DECLINED, ReportKind.FAILED
        some, rest, both = of(BOLT=1), of(BOLT=3, NUT=2), of(BOLT=4, NUT=2)
        alone = (
            ((picked, ()), (shipped, both), (failed, ()), (delivered, ())),
            ((shipped, some), (shipped, rest), (delivered, ())),
            ((shipped, some), (shipped, rest)),
            ((short, some), (shipped, rest), (delivered, ())),
            ((short, some), (picked, ()), (shipped, rest)),
        )
        kits = (
            ((shipped, of(SCREW=2)), (shipped, of(BOLT=2, NUT=4)), (delivered, ())),
            ((short, of(NUT=1)), (shipped, of(SCREW=2)), (delivered, ())),
            ((short, of(NUT=4)), (picked, ()), (shipped, of(SCREW=2))),
            ((short, of(BOLT=1)), (delivered, ())),
            ((short, of(BOLT=1, NUT=1)), (shipped, of(SCREW=2))),
        )
        stories: tuple[tuple[tuple[ReportKind, tuple[ReportLine, ...]], ...], ...] = (
            ((picked, ()), (shipped, ()), (delivered, ())),
            ((picked, ()), (delivered, ())),
            ((declined, ()),),
            *(kits if has_kits(order) else alone),
        )
        for place, (kind, lines) in enumerate(self.chance.choice(stories)):
            self.told.append(
                ShipmentReport(
                    id=f"{order}/{place}", order=order, shipment=1, kind=kind, at=self._at(), lines=lines,
                    tracking=f"T-{order}",
                )
            )  # fmt: skip

    def _move(self) -> None:
        source, target, to_node = self.chance.choice(
            (
                ("outside", "available", ""),
                ("available", "outside", ""),
                ("available", "blocked", ""),
                ("blocked", "available", ""),
                ("available", "available", "C"),
            )
        )
        at = self._at()
        self.told.append(
            StockMovement(
                id=f"m/{at:%j%H%M%S}", item=self.chance.choice(("BOLT", "SCREW")), node=self.chance.choice("AB"),
                pool="P", quantity=str(self.chance.randint(1, 5)), source=source, target=target, at=at,
                to_node=to_node,
            )
        )  # fmt: skip

    def _count(self) -> None:
        """A node counts what comes and goes there, or that comes or goes: nothing is known to be true but the count."""
        at, node = self._at(), self.chance.choice(NODES)
        quantity = str(self.chance.randint(0, 30))
        if self.chance.random() < 0.4:
            self.told.append(StockCount(item="NAIL", node=node, pool="P", quantity=quantity, as_of=at))
            return
        accounts = self.chance.choice((("outside", "available"), ("available", "outside")))
        self.told.append(
            StockMovement(
                id=f"n/{at:%j%H%M%S}", item="NAIL", node=node, pool="P", quantity=str(self.chance.randint(1, 9)),
                source=accounts[0], target=accounts[1], at=at,
            )
        )  # fmt: skip

    def _receive(self) -> None:
        """A supplier announces, and it arrives bit by bit, or the rest never does."""
        reference, arrived = f"PO-{self._at():%j%H%M%S}", 0
        for sequence in range(1, self.chance.randint(2, 4)):
            arrived += self.chance.randint(0, 5)
            self.told.append(
                ReceiptNotice(
                    reference=reference, item="NUT", node="B", pool="P", quantity="20", due_on=self.now.date(),
                    arrived=str(arrived), sequence=sequence, arrived_at=self._at(),
                    cancelled=sequence == 3 and self.chance.random() < 0.5,
                )
            )  # fmt: skip


def of(**units: int) -> tuple[ReportLine, ...]:
    """Lines of a report."""
    return tuple(ReportLine(item=item, quantity=str(quantity)) for item, quantity in units.items())


def has_kits(order: str) -> bool:
    """Every other order wants kits, which are made of parts."""
    return int(order.removeprefix("O-")) % 2 == 1


def opened(market: Market, orders: int) -> list[str]:
    """Stock, and orders that nodes have in hand."""
    for node in NODES:
        for item in ("BOLT", "NUT", "SCREW"):
            market.count(item, node, PLENTY)
    numbers = [f"O-{n}" for n in range(orders)]
    for number in numbers:
        market.order(number, *([("SCREW", 2), ("KIT", 2)] if has_kits(number) else [("BOLT", 4), ("NUT", 2)]))
    market.work()
    market.release()
    return numbers


def tell(market: Market, messages: Sequence[Message]) -> list[Outcome]:
    """Messages in this order; those of a kind that follow each other come together."""
    found: list[Outcome] = []
    market.later(days=1)
    rest = list(messages)
    while rest:
        kind = type(rest[0])
        many = 1
        while many < min(TOGETHER, len(rest)) and type(rest[many]) is kind:
            many += 1
        these, rest = rest[:many], rest[many:]
        found += _booked(market, these, market.later(seconds=1))
    return found


def _booked(market: Market, these: Sequence[Message], now: datetime) -> list[Outcome]:
    books, clerk = market.books, market.clerk
    match these[0]:
        case ShipmentReport():
            results = [book_report(books, clerk, each, now) for each in these if isinstance(each, ShipmentReport)]
        case StockMovement():
            results = book_movements(books, clerk, [each for each in these if isinstance(each, StockMovement)], now)
        case StockCount():
            results = book_counts(books, clerk, [each for each in these if isinstance(each, StockCount)], now)
        case ReceiptNotice():
            results = book_receipts(books, clerk, [each for each in these if isinstance(each, ReceiptNotice)], now)
    return [result.outcome for result in results]


def end_of(market: Market, numbers: Sequence[str], messages: Sequence[Message]) -> dict[str, object]:
    """What a market holds: balances, receipts, orders with their lines, stages and reservations."""
    found: dict[str, object] = {}
    with market.books.transaction() as transaction:
        places = transaction.positions_of(["BOLT", "NUT", "SCREW", "NAIL"])
        for place in places.values():
            balances = {a.value: place.balance(a) for a in Account if a is not Account.OUTSIDE and place.balance(a)}
            if balances:
                found[f"balances of {place.key}"] = balances
        for number, id_ in transaction.order_numbered(numbers).items():
            record = transaction.orders([id_])[id_]
            found[f"order {number}"] = (record.state, record.lines, record.declined)
            found[f"stages of {number}"] = [
                (s.shipment.node, s.shipment.no, s.stage) for s in transaction.shipments(id_)
            ]
            found[f"reservations of {number}"] = [
                (part.position, part.line_no, part.open, part.consumed, part.freed)
                for part in transaction.reservations(id_)
            ]
        names = {
            (PositionKey(m.item, m.node, m.pool).id(), m.reference) for m in messages if isinstance(m, ReceiptNotice)
        }
        for (_, reference), receipt in transaction.receipts_named(names).items():
            found[f"receipt {reference}"] = (receipt.quantity, receipt.arrived, receipt.cancelled, receipt.sequence)
    found["waiting"] = sorted(market.waiting())
    return found


def told_twice(once: Market, often: Market, many: int, seed: int) -> list[str]:
    """The same day in two orders: in one market each message once, in the other up to three times. What differs."""
    chance = random.Random(seed)
    orders = many // 8
    numbers = opened(once, orders)
    assert opened(often, orders) == numbers
    messages = Happening(chance, once.now).of(numbers, many)
    tell(once, chance.sample(messages, len(messages)))
    repeated = [message for message in messages for _ in range(chance.randint(1, 3))]
    outcomes = tell(often, chance.sample(repeated, len(repeated)))
    assert Outcome.REFUSED not in outcomes
    print(f"seed {seed}: {len(messages)} messages came {len(repeated)} times")
    one, other = end_of(once, numbers, messages), end_of(often, numbers, messages)
    wrong = [
        f"{key}: told once {one.get(key)}, often {other.get(key)}"
        for key in sorted({*one, *other})
        if one.get(key) != other.get(key)
    ]
    return wrong + [str(finding) for finding in (*once.findings(), *often.findings())]


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(MESSAGES // CHUNK))
def test_messages_that_come_often_and_in_any_order_count_once(seed: int) -> None:
    assert told_twice(in_memory(), in_memory(), CHUNK, seed) == []


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(MESSAGES_ON_POSTGRES // CHUNK_ON_POSTGRES))
def test_messages_that_come_often_and_in_any_order_count_once_on_postgres(database: Database, seed: int) -> None:
    with on_postgres(database) as often:
        assert told_twice(in_memory(), often, CHUNK_ON_POSTGRES, seed) == []


def ids_forgotten(patch: pytest.MonkeyPatch) -> None:
    """It is not kept which messages have had their effect."""
    for books in (MemoryTransaction, PostgresTransaction):
        patch.setattr(books, "record", without_messages(books.record))


def without_messages(real: Callable[[object, Effects], None]) -> Callable[[object, Effects], None]:
    return lambda self, effects: real(self, replace(effects, messages_seen=()))


def last_heard_counts(patch: pytest.MonkeyPatch) -> None:
    """Of counts the one that was heard last counts, not the newest."""
    patch.setattr(stock, "compared", lambda *_: None)


def stages_go_back(patch: pytest.MonkeyPatch) -> None:
    """A shipment stands where the last report says, however old that is."""
    patch.setattr(execute, "STAGES", {stage: frozenset(Stage) for stage in Stage})


@pytest.mark.parametrize("plant", [ids_forgotten, last_heard_counts, stages_go_back])
@pytest.mark.campaign
@pytest.mark.parametrize("books", ["memory", "postgres"] if FULL else ["memory"])
def test_what_is_planted_is_found(
    database: Database, monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], books: str
) -> None:
    with ExitStack() as stack:
        often = in_memory() if books == "memory" else stack.enter_context(on_postgres(database))
        plant(monkeypatch)
        wrong = told_twice(in_memory(), often, TO_FIND, 1)
    print(wrong[:2])
    assert any("told once" in each for each in wrong)
