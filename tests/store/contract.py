"""A small world for the contract of the books: what the suite needs to say its stories in a few lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Protocol
from uuid import UUID

import pytest

from poolwise.core.ledger import (
    Account,
    Cause,
    Movement,
    Position,
    PositionKey,
    Receipt,
    Reservation,
    ReservationKind,
)
from poolwise.core.orders import Line, Order, OrderState, Progress, state_of
from poolwise.core.sourcing.plan import Booking, PlannedShipment
from poolwise.core.sourcing.problem import Facts
from poolwise.core.sourcing.record import encode_facts
from poolwise.core.values import Conflict, replace
from poolwise.flows.ports import (
    Age,
    Books,
    CapacityChange,
    Decision,
    Effects,
    OrderRecord,
    Queue,
    ReceiptChange,
    ShipmentRecord,
    Todo,
    Transaction,
)
from poolwise.flows.waking import EVERYBODY
from poolwise.store.check import Finding

BEGIN = datetime(2026, 1, 10, 12, tzinfo=UTC)
DAY = date(2026, 1, 12)


def at(minutes: int) -> datetime:
    """An instant after the beginning of the world."""
    return BEGIN + timedelta(minutes=minutes)


class Kept(Protocol):
    """Books of one kind, with what only a test may do to them."""

    books: Books

    def with_failpoint(self, failpoint: Callable[[str], None]) -> Books:
        """Other books on the same things, that fail where the failpoint says."""

    def check(self, full: bool = True) -> list[Finding]:
        """What the law checks find."""

    def dump(self) -> Mapping[str, Sequence[object]]:
        """Everything that is kept, comparable."""


numbers = count(1)


def new_id() -> UUID:
    """An id that no other test has."""
    return UUID(int=next(numbers))


def key(item: str = "BOLT", node: str = "NYC", pool: str = "common", lot: str = "") -> PositionKey:
    """A position's key."""
    return PositionKey(item, node, pool, lot)


def recorded(books, **parts) -> None:
    """Record one Effects value in its own transaction."""
    with books.transaction() as transaction:
        transaction.record(Effects(**{"at": at(1), **parts}))


def refused(books, **parts) -> None:
    """Recording this is a Conflict, and leaves nothing behind."""
    with pytest.raises(Conflict):
        recorded(books, **parts)


def all_of(*items: str) -> dict[str, Age]:
    """Everybody who waits for any of the items."""
    return dict.fromkeys(items, EVERYBODY)


def into(position: int, quantity: int, account: Account = Account.AVAILABLE) -> Movement:
    """Units that come from outside."""
    return Movement(position, Account.OUTSIDE, account, quantity, Cause.STOCK, new_id())


def stocked(books: Books, *amounts: tuple[PositionKey, int], cell: int = 0, minute: int = 0) -> list[int]:
    """Positions that exist and hold units; their ids."""
    with books.transaction() as transaction:
        transaction.record(
            Effects(
                at=at(minute),
                positions=[Position(k.id(), cell, k) for k, _ in amounts],
                movements=[into(k.id(), quantity) for k, quantity in amounts if quantity],
            )
        )
    return [k.id() for k, _ in amounts]


def order(*lines: tuple[str, int], cell: int = 0, minute: int = 0, number: str = "") -> Order:
    """An order of (item, quantity) lines."""
    id_ = new_id()
    return Order(
        id=id_,
        number=number or f"N-{id_.int}",
        cell=cell,
        received_at=at(minute),
        channel="web",
        zone="10001",
        lines=tuple(Line(no, item, quantity) for no, (item, quantity) in enumerate(lines, start=1)),
    )


def todo(order: Order, queue: Queue = Queue.ONCE, rank: int = 10, minute: int = 0) -> Todo:
    """The whole of an order, waiting."""
    return Todo(order.cell, queue, rank, at(minute), order, tuple((line.no, line.quantity) for line in order.lines))


def accepted(books: Books, *orders: Order, queue: Queue = Queue.ONCE, minute: int = 0) -> None:
    """Orders that wait in a queue."""
    with books.transaction() as transaction:
        transaction.record(
            Effects(
                at=at(minute),
                orders=[received(order) for order in orders],
                todo=[todo(order, queue, minute=minute) for order in orders],
            )
        )


def received(order: Order) -> OrderRecord:
    """An order of which nothing is sourced yet."""
    return OrderRecord(
        order, OrderState.RECEIVED, tuple(Progress(line.quantity, line.quantity) for line in order.lines)
    )


@dataclass(slots=True)
class Sourcing:
    """What a sourcing of whole lines writes: each line from one position, or else backordered."""

    order: Order
    parts: Sequence[int | UUID | None]
    positions: Mapping[UUID, int] = field(default_factory=dict)
    attempt: int = 1
    minute: int = 1
    node: str = "NYC"
    limit: int | None = None

    def effects(self) -> Effects:
        """Movements, reservations, the order, its shipment with a booking, its decision."""
        movements, reservations, progress, pledges = [], [], [], []
        for line, part in zip(self.order.lines, self.parts, strict=True):
            if part is None:
                progress.append(Progress(line.quantity, backordered=line.quantity))
                continue
            receipt = part if isinstance(part, UUID) else None
            position = self.positions[part] if isinstance(part, UUID) else part
            source, target = (Account.EXPECTED, Account.PLEDGED) if receipt else (Account.AVAILABLE, Account.RESERVED)
            movements.append(Movement(position, source, target, line.quantity, Cause.RESERVE, self.order.id))
            reservations.append(reservation(self.order, line.no, position, line.quantity, self.minute, receipt))
            taken = {"pledged": line.quantity} if receipt else {"reserved": line.quantity}
            progress.append(Progress(line.quantity, **taken))
            if receipt:
                pledges.append(ReceiptChange(0, receipt, pledged=line.quantity))
        waiting = todo(self.order, Queue.STOCK)
        return Effects(
            at=at(self.minute),
            movements=movements,
            reservations=reservations,
            receipt_changes=pledges,
            capacity=[CapacityChange(self.order.cell, self.node, DAY, 0, 1, self.limit)],
            shipments=[shipment(self.order, 1, self.node)],
            orders_changed=[OrderRecord(self.order, state_of(tuple(progress)), tuple(progress), self.attempt)],
            todo=[waiting] if None in self.parts else [],
            decisions=[decision(self.order, self.attempt, self.minute)],
        )


def sourced(books: Books, order: Order, *parts: int | UUID | None, **details: object) -> None:
    """Source an order that was claimed before."""
    with books.transaction() as transaction:
        claim(transaction, order.cell)
        transaction.record(Sourcing(order, parts, **details).effects())  # type: ignore[arg-type]  # details of Sourcing


def claim(
    transaction: Transaction, cell: int = 0, queue: Queue = Queue.ONCE, limit: int = 500, rules: str = "others"
) -> tuple[Todo, ...]:
    """Everything that waits by now; of those who wait for stock, all that were left short under other rules."""
    return transaction.claim(cell, queue, at(10_000), limit, rules)


def reservation(
    order: Order, no: int, position: int, quantity: int, minute: int = 1, receipt: UUID | None = None
) -> Reservation:
    """Units of a position set aside for a line of the same number."""
    return Reservation(
        cell=order.cell,
        owner=order.id,
        no=no,
        position=position,
        quantity=quantity,
        line_no=no,
        line_quantity=quantity,
        kind=ReservationKind.HARD,
        shipment_no=1,
        made_at=at(minute),
        receipt=receipt,
    )


def shipment(order: Order, no: int, node: str, booked: int = 1) -> ShipmentRecord:
    """A shipment that takes one unit of its node's first slot."""
    bookings = (Booking(node, DAY, 0, booked),)
    return ShipmentRecord(
        order.cell, order.id, PlannedShipment(no, node, ("hop", "last"), DAY, DAY, 1_000, 5, bookings)
    )


def decision(order: Order, attempt: int = 1, minute: int = 1) -> Decision:
    """A decision about an order, under the edition and policy that `Kept` knows."""
    return Decision(
        cell=order.cell,
        owner=order.id,
        attempt=attempt,
        at=at(minute),
        edition="edition-1",
        policy="default",
        policy_version=1,
        release="0.1.0",
        batch=order.id,
        place=0,
        facts=encode_facts(Facts(at(minute)), ()),
        digest=b"digest",
    )


def expected(books: Books, key: PositionKey, quantity: int, cell: int = 0) -> Receipt:
    """A receipt of a position that exists from then on."""
    receipt = Receipt(new_id(), cell, key.id(), f"PO-{next(numbers)}", DAY, quantity)
    with books.transaction() as transaction:
        transaction.record(
            Effects(
                at=at(0),
                positions=[Position(key.id(), cell, key)],
                movements=[into(key.id(), quantity, Account.EXPECTED)],
                receipts=[receipt],
            )
        )
    return receipt


@contextmanager
def failing(books: Books, error: type[Exception] = ZeroDivisionError) -> Iterator[Transaction]:
    """A transaction that must end in an error."""
    try:
        with books.transaction() as transaction:
            yield transaction
    except error:
        return
    raise AssertionError(f"the transaction ended without {error.__name__}")


def position(books: Books, id_: int) -> Position:
    """A position as it is now."""
    with books.transaction() as transaction:
        return transaction.positions([id_])[id_]


def loaded(books: Books, order: Order) -> OrderRecord:
    """An order as it is now."""
    with books.transaction() as transaction:
        return transaction.orders([order.id])[order.id]


def with_progress(record: OrderRecord, **parts: int) -> OrderRecord:
    """An order whose first line stands elsewhere."""
    first, *rest = record.lines
    changed = (replace(first, **{"open": 0, "reserved": 0, "backordered": 0, **parts}), *rest)
    return replace(record, lines=changed, state=state_of(changed))
