"""Giving back: reservations that end unused, and baskets that become part of an order.

Keeps law 6: every unit of a reservation ends exactly once. Stock that an order takes over from its basket does not
move: it stays reserved, its basket's reservation ends as consumed, and the order's own begins, in one commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from poolwise.core.edition.build import Edition
from poolwise.core.ledger import Account, Cause, Movement, Reservation, ReservationKind
from poolwise.core.orders import Order, OrderState, Progress, state_of
from poolwise.core.sourcing.repack import repacked, spared
from poolwise.core.values import Fault, Json, Quantity, replace
from poolwise.flows.capacity import bookings_of
from poolwise.flows.ports import (
    ROOM,
    Answer,
    Audit,
    CapacityChange,
    Effects,
    Ending,
    Event,
    OrderRecord,
    ReceiptChange,
    ReservationEnd,
    ShipmentRecord,
    TimerKind,
    Transaction,
)
from poolwise.flows.waking import wake


class GivenBack:
    """Reservations that end without being used, and what follows: movements, capacity, demand that wakes."""

    def __init__(self, transaction: Transaction, edition: Edition, actor: str, now: datetime) -> None:
        """Starts with nothing given back."""
        self._transaction, self._edition, self._actor, self._now = transaction, edition, actor, now
        self.units: Quantity = 0
        self.ends: list[ReservationEnd] = []
        self.movements: list[Movement] = []
        self.receipts: list[ReceiptChange] = []
        self.dropped: list[ShipmentRecord] = []
        self.orders: list[OrderRecord] = []
        self.events: list[Event] = []
        self.handed_over: list[ShipmentRecord] = []
        self._spared: list[ShipmentRecord] = []

    def reservations(self, owner: UUID) -> tuple[Reservation, ...]:
        """All reservations of an owner."""
        return self._transaction.reservations(owner)

    def shipments(self, owner: UUID) -> tuple[ShipmentRecord, ...]:
        """Planned shipments of an owner."""
        return self._transaction.shipments(owner)

    def hand_over(
        self, record: ShipmentRecord, order: Order, taken: Sequence[Reservation], whole: bool
    ) -> ShipmentRecord:
        """Make a basket's shipment an order's, with what it takes of it; the room for the rest is given back."""
        self.handed_over.append(record)
        shipment = record.shipment
        if not whole:
            positions = self._transaction.positions({part.position for part in taken})
            items = {id_: position.key.item for id_, position in positions.items()}
            shipment = repacked(shipment, order, taken, items, self._edition)
            self._spared.append(replace(record, shipment=spared(record.shipment, shipment)))
        return ShipmentRecord(order.cell, order.id, shipment, collect_at=record.collect_at)

    def over(self, basket: OrderRecord) -> None:
        """A basket is over, whatever became of what it held."""
        self.orders.append(OrderRecord(basket.order, OrderState.CANCELLED, cancelled(basket), basket.attempt))

    def add(self, record: OrderRecord, ending: Ending) -> None:
        """End everything that is still set aside for a basket."""
        if record.state != OrderState.BASKET:
            return
        owner = record.order.id
        held = [part for part in self._transaction.reservations(owner) if part.open]
        self.end(held, ending, owner)
        self.dropped.extend(self._transaction.shipments(owner))
        self.over(record)
        told: dict[str, Json] = {"units": sum(part.open for part in held)}
        self.events.append(Event(f"reservation.{ending.value}", str(owner), told, record.order.cell))

    def end(self, held: Sequence[Reservation], ending: Ending, cause_id: UUID) -> None:
        """End the open units of some reservations: back to available, or to the receipt they were pledged from."""
        receipts = self._transaction.receipts([part.receipt for part in held if part.receipt is not None])
        cause = Cause.EXPIRE if ending == Ending.EXPIRED else Cause.FREE
        for part in held:
            source, target = Account.RESERVED, Account.AVAILABLE
            if part.receipt is not None:
                source, target = Account.PLEDGED, Account.EXPECTED
                self.receipts.append(ReceiptChange(receipts[part.receipt].cell, part.receipt, pledged=-part.open))
            self.movements.append(Movement(part.position, source, target, part.open, cause, cause_id))
            self.ends.append(ReservationEnd(part.cell, part.owner, part.no, ending, part.open))
            self.units += part.open

    def shipments_gone(self) -> list[tuple[int, UUID, int]]:
        """Keys of the shipments that are no longer the basket's."""
        return [(record.cell, record.owner, record.shipment.no) for record in (*self.dropped, *self.handed_over)]

    def capacity(self) -> list[CapacityChange]:
        """The slots that dropped shipments give back, and what is spared of others."""
        return bookings_of(self._edition.network, [*self.dropped, *self._spared], sign=-1)

    def wake(self) -> None:
        """Wake demand that waits for what came back. Called once that is recorded."""
        positions = self._transaction.positions({movement.position for movement in self.movements})
        items = {position.key.item for position in positions.values()}
        if self.capacity():
            items.add(ROOM)
        wake(self._transaction, self._edition.catalog, items, self._now)

    def record(self, action: str, answer: Answer | None = None) -> None:
        """Record everything, and wake who waits for it."""
        effects = Effects(
            at=self._now,
            movements=self.movements,
            reservation_ends=self.ends,
            receipt_changes=self.receipts,
            capacity=self.capacity(),
            shipments_dropped=self.shipments_gone(),
            orders_changed=self.orders,
            timers_dropped=[(record.order.cell, record.order.id, TimerKind.EXPIRE) for record in self.orders],
            answers=[] if answer is None else [answer],
            events=self.events,
            audit=[Audit(self._actor, action, str(record.order.id)) for record in self.orders],
        )
        self._transaction.record(effects)
        self.wake()


def cancelled(record: OrderRecord) -> tuple[Progress, ...]:
    """The lines of a basket that is over."""
    return tuple(
        replace(line, reserved=0, pledged=0, cancelled=line.cancelled + line.reserved + line.pledged)
        for line in record.lines
    )


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What an order takes over from the basket it names: reservations, shipments, and where its lines stand then."""

    reservations: tuple[Reservation, ...]
    shipments: tuple[ShipmentRecord, ...]
    lines: tuple[Progress, ...]

    @property
    def open(self) -> tuple[tuple[int, Quantity], ...]:
        """What of the order is left to be sourced, by line number."""
        return tuple((no, line.open) for no, line in enumerate(self.lines, start=1) if line.open)

    @property
    def record_state(self) -> OrderState:
        """The state of the order after it."""
        return state_of(self.lines)


def take_over(given: GivenBack, basket: OrderRecord, order: Order) -> TakenOver | Fault:
    """Hand the basket's reservations to an order, line by line of the same item; the rest of the basket is freed.

    An order takes no more of a basket than it wants, of the very units that were set aside, so that nobody is first at
    them; what it wants beyond the basket is sourced like any demand. The basket is over afterwards. A basket that has
    ended is a fault.
    """
    if basket.state != OrderState.BASKET:
        return Fault("reservation", "has been used, freed, or has expired")
    every = given.reservations(basket.order.id)
    held = {part.no: part for part in every if part.open}
    lines = {line.no: Progress(line.quantity, open=line.quantity) for line in order.lines}
    taken: list[Reservation] = []
    for target, part in _carved(basket, held, order):
        given.ends.append(ReservationEnd(part.cell, part.owner, part.no, Ending.CONSUMED, part.quantity))
        consumed = held[part.no].consumed + part.quantity
        held[part.no] = replace(held[part.no], consumed=consumed)
        own = replace(part, cell=order.cell, owner=order.id, no=len(taken) + 1, line_no=target)
        taken.append(replace(own, kind=ReservationKind.HARD, expires_at=None))
        progress, served = lines[target], part.line_quantity
        lines[target] = replace(
            progress,
            open=progress.open - served,
            reserved=progress.reserved + (0 if part.receipt else served),
            pledged=progress.pledged + (served if part.receipt else 0),
        )
    given.end([part for part in held.values() if part.open], Ending.FREED, order.id)
    planned, kept = _units_by_shipment(every), _units_by_shipment(taken)
    shipments = []
    for record in given.shipments(basket.order.id):
        no = record.shipment.no
        if no in kept:
            packed = [part for part in taken if part.shipment_no == no]
            shipments.append(given.hand_over(record, order, packed, whole=kept[no] == planned[no]))
        else:
            given.dropped.append(record)
    given.over(basket)
    return TakenOver(tuple(taken), tuple(shipments), tuple(lines[line.no] for line in order.lines))


def _units_by_shipment(parts: Iterable[Reservation]) -> dict[int, Quantity]:
    units: dict[int, Quantity] = {}
    for part in parts:
        units[part.shipment_no] = units.get(part.shipment_no, 0) + part.quantity
    return units


def _carved(basket: OrderRecord, held: Mapping[int, Reservation], order: Order) -> Iterator[tuple[int, Reservation]]:
    """What the lines of an order take of a basket: the line, and a reservation of as much as it takes of one."""
    wanted = {line.no: line.quantity for line in order.lines}
    for line in basket.order.lines:
        parts = [whole(part) for part in held.values() if part.line_no == line.no]
        for own in order.lines:
            if own.item == line.item and wanted[own.no] and parts:
                carved = share_of(parts, wanted[own.no])
                wanted[own.no] -= sum(part.line_quantity for part in carved)
                less = {part.no: part for part in carved}
                parts = [left for part in parts if (left := _less(part, less.get(part.no))).quantity]
                yield from ((own.no, part) for part in carved)


def whole(part: Reservation) -> Reservation:
    """What is open of a reservation, as if it had never been more."""
    open_line = part.line_quantity * part.open // part.quantity
    return replace(part, quantity=part.open, line_quantity=open_line, consumed=0, freed=0, expired=0, broken=0)


def _less(part: Reservation, taken: Reservation | None) -> Reservation:
    if taken is None:
        return part
    units, line_units = part.quantity - taken.quantity, part.line_quantity - taken.line_quantity
    return replace(part, quantity=units, line_quantity=line_units)


def share_of(parts: Sequence[Reservation], wanted: Quantity) -> list[Reservation]:
    """Of what serves one line of a basket as much as serves `wanted`, in its order, or less where no share is exact.

    Units that each serve one are shared one by one. Parts of a kit, and substitutes in another ratio, belong together
    in their shipment, or in all of them where a shipment has only what carries none of the line.
    """
    groups: list[list[Reservation]] = [[part] for part in parts]
    if any(part.quantity != part.line_quantity for part in parts):
        by_shipment: dict[int, list[Reservation]] = {}
        for part in parts:
            by_shipment.setdefault(part.shipment_no, []).append(part)
        groups = list(by_shipment.values())
        if not all(any(part.line_quantity for part in group) for group in groups):
            groups = [list(parts)]
    found: list[Reservation] = []
    for group in groups:
        serves = sum(part.line_quantity for part in group)
        share = min(serves, wanted)
        if share and all(n * share % serves == 0 for part in group for n in (part.quantity, part.line_quantity)):
            wanted -= share
            for part in group:
                units, line_units = part.quantity * share // serves, part.line_quantity * share // serves
                found.append(replace(part, quantity=units, line_quantity=line_units))
    return found
