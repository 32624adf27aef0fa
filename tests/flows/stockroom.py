"""A small world for the flows about physical stock: two nodes, two pools, a few items, memory books, a clerk."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zlib import crc32

from poolwise.core.catalog import Bill, Catalog, Component, CrossReference, Item, Substitution
from poolwise.core.edition.build import Edition
from poolwise.core.ledger import (
    Account,
    Cause,
    Movement,
    Position,
    PositionKey,
    Reservation,
    ReservationKind,
)
from poolwise.core.messages import CountBasis, StockCount, StockMovement
from poolwise.core.network import Network, Node, Pool
from poolwise.core.orders import Line, Order, OrderState, Progress
from poolwise.core.sourcing.plan import PlannedShipment
from poolwise.flows.identity import Ids
from poolwise.flows.ports import CapacityChange, Effects, OrderRecord, ReceiptChange, ShipmentRecord
from poolwise.flows.tallying import Clerk
from poolwise.store.memory import MemoryBooks

START = datetime(2026, 1, 10, 8, tzinfo=UTC)
NOW = START + timedelta(hours=10)
"""When everything is booked, unless a test says otherwise."""


def at(minute: float) -> datetime:
    """An instant some minutes after the start."""
    return START + timedelta(minutes=minute)


def catalog() -> Catalog:
    """Two plain items, one in grams, a kit, and a substitute."""
    reference = CrossReference("gtin", "", "4006381333931", "A")
    return Catalog(
        items={
            "A": Item("A"),
            "B": Item("B"),
            "G": Item("G", unit="kg", scale=3),
            "KIT": Item("KIT"),
        },
        bills={"KIT": Bill("KIT", (Component("A", 1), Component("B", 2)))},
        substitutions={"B": (Substitution("B", "A"),)},
        cross_references={(reference.scheme, reference.partner, reference.identifier): reference.item},
    )


def clerk(seed: int = 1) -> Clerk:
    """Somebody who books stock in the small world."""
    nodes = {code: Node(code) for code in ("N", "M")}
    edition = Edition("edition", Network(nodes=nodes, pools={code: Pool(code) for code in ("P", "Q")}), catalog())
    return Clerk(edition, Ids(random.Random(seed).getrandbits), "wms")


def counted(
    quantity: str,
    as_of: datetime,
    item: str = "A",
    sequence: int | None = None,
    basis: CountBasis = CountBasis.ON_HAND,
    lot: str = "",
) -> StockCount:
    """A count at node N in pool P."""
    return StockCount(
        item=item, node="N", pool="P", quantity=quantity, as_of=as_of, sequence=sequence, basis=basis, lot=lot
    )


def moved(
    id_: str, quantity: str, source: str, target: str, when: datetime, to_node: str = "", item: str = "A"
) -> StockMovement:
    """A movement at node N in pool P."""
    return StockMovement(
        id=id_, item=item, node="N", pool="P", quantity=quantity, source=source, target=target, at=when, to_node=to_node
    )


def position(books: MemoryBooks, item: str = "A", node: str = "N", lot: str = "") -> Position:
    """A position in pool P as it is now; empty if it does not exist."""
    key = PositionKey(item, node, "P", lot)
    with books.transaction() as transaction:
        return transaction.positions([key.id()]).get(key.id()) or Position(key.id(), 0, key)


def balances(books: MemoryBooks, item: str = "A", node: str = "N", lot: str = "") -> Mapping[Account, int]:
    """The balances of a position in pool P that are not zero, but for what is outside."""
    found = position(books, item, node, lot)
    return {
        account: found.balance(account)
        for account in Account
        if account is not Account.OUTSIDE and found.balance(account)
    }


def reserve(
    books: MemoryBooks,
    number: str,
    parts: Sequence[tuple[str, int, int]],
    minute: float = 0,
    ordered: tuple[str, int] | None = None,
    receipt: UUID | None = None,
    shipment: PlannedShipment | None = None,
) -> UUID:
    """An order of one line whose parts (item, quantity, quantity of the line) are reserved at N, or pledged there."""
    item, quantity = ordered or (parts[0][0], sum(part[1] for part in parts))
    order = Order(UUID(int=crc32(number.encode()) << 64), number, 0, at(minute), "web", "Z", (Line(1, item, quantity),))
    lines = (Progress(quantity, pledged=quantity) if receipt else Progress(quantity, reserved=quantity),)
    source, target = (Account.EXPECTED, Account.PLEDGED) if receipt else (Account.AVAILABLE, Account.RESERVED)
    ids = [PositionKey(part, "N", "P").id() for part, _, _ in parts]
    with books.transaction() as transaction:
        transaction.record(
            Effects(
                at=at(minute),
                orders=[OrderRecord(order, OrderState.RECEIVED, (Progress(quantity, open=quantity),), 1)],
                movements=[
                    Movement(id_, source, target, units, Cause.RESERVE, order.id)
                    for id_, (_, units, _) in zip(ids, parts, strict=True)
                ],
                reservations=[
                    held_at(id_, order.id, no, part, minute, receipt)
                    for no, (id_, part) in enumerate(zip(ids, parts, strict=True), start=1)
                ],
                receipt_changes=[ReceiptChange(0, receipt, pledged=parts[0][1])] if receipt else [],
                shipments=[ShipmentRecord(0, order.id, shipment)] if shipment else [],
                capacity=[CapacityChange(0, b.node, b.day, b.slot, b.quantity, None) for b in shipment.bookings]
                if shipment
                else [],
            )
        )
        transaction.record(Effects(at=at(minute), orders_changed=[OrderRecord(order, OrderState.SOURCED, lines, 1)]))
    return order.id


def held_at(
    position_id: int, owner: UUID, no: int, part: tuple[str, int, int], minute: float, receipt: UUID | None
) -> Reservation:
    """A hard reservation."""
    return Reservation(
        0, owner, no, position_id, part[1], 1, part[2], ReservationKind.HARD, 1, at(minute), receipt=receipt
    )


def order_of(books: MemoryBooks, order: UUID) -> OrderRecord:
    """An order and where it stands."""
    with books.transaction() as transaction:
        return transaction.orders([order])[order]


def queued(books: MemoryBooks) -> list[tuple[str, str, tuple[tuple[int, int], ...]]]:
    """Waiting demand: queue, order number and what is open of its lines."""
    return sorted((t.queue.value, t.order.number, t.open) for t in books.shelves.todo.values())
