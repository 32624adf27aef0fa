"""When stock that was promised is gone, or given up: reservations end, and their demand is sourced again or cancelled.

Keeps laws 6, 9, 13 and 14: a unit ends once; the rest of a line that cannot stand alone is freed with it (parts of a
kit, a substitute in another ratio); the demand is back in the queue in the same commit, but for what is cancelled; what
broke leaves an incident; a shipment that is left empty gives its capacity back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final
from uuid import UUID

from poolwise.core.counting import Break
from poolwise.core.fulfilment import HELD_BACK, STAGES, Stage
from poolwise.core.ledger import Account, Cause, Movement, Reservation
from poolwise.core.orders import Blocks, OrderState, Progress, state_of
from poolwise.core.values import Json, Quantity, replace
from poolwise.flows.identity import Ids
from poolwise.flows.ports import (
    RANKS_OF_A_SOURCE,
    CapacityChange,
    Ending,
    Event,
    Incident,
    OrderRecord,
    Queue,
    ReceiptChange,
    ReservationEnd,
    ShipmentRecord,
    StageChange,
    Todo,
    Transaction,
)

HIGHEST_PRIORITY: Final = 100
AGAIN_AT_ONCE: Final = -RANKS_OF_A_SOURCE
"""Demand that was served once is claimed before all that is new, however much of that waits."""


@dataclass(slots=True)
class Mended:
    """What breaking reservations adds to the books."""

    ends: list[ReservationEnd] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)
    receipts: list[ReceiptChange] = field(default_factory=list)
    orders: list[OrderRecord] = field(default_factory=list)
    todo: list[Todo] = field(default_factory=list)
    shipments: list[ShipmentRecord] = field(default_factory=list)
    shipments_dropped: list[tuple[int, UUID, int]] = field(default_factory=list)
    stages: list[StageChange] = field(default_factory=list)
    capacity: list[CapacityChange] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Lost:
    """Demand of a line that is no longer served, in the ordered item's base units, by where it stood."""

    reserved: Quantity = 0
    pledged: Quantity = 0
    released: Quantity = 0

    @property
    def whole(self) -> Quantity:
        """All of it."""
        return self.reserved + self.pledged + self.released


@dataclass(slots=True)
class _Owner:
    """One owner's reservations while some of them break: what ends how, by number."""

    reservations: dict[int, Reservation]
    broken: dict[int, Quantity]
    freed: dict[int, Quantity] = field(default_factory=dict)

    def open(self, held: Reservation) -> Quantity:
        """Units that are left of a reservation."""
        return held.open - self.broken.get(held.no, 0) - self.freed.get(held.no, 0)


def mend(
    transaction: Transaction,
    orders: Mapping[UUID, OrderRecord],
    breaks: Sequence[Break],
    ended: Mapping[tuple[UUID, int], Quantity],
    cell_of: Callable[[str], int],
    cause: UUID,
    ids: Ids,
    now: datetime,
    given_up: Mapping[UUID, Mapping[int, Quantity]] | None = None,
) -> Mended:
    """What follows from broken reservations. `orders` are their owners, locked; baskets among them wait for nothing.

    `ended` are units, by owner and number, that the same batch has ended already. Of owners `given_up` nothing breaks:
    what they give up is freed; by line, so many units of it are cancelled, and what else was lost is sourced again.

    The movements that take the broken units away are the caller's; those that free the rest of a line are made here.
    """
    made = Mended()
    by_owner: dict[UUID, dict[int, Quantity]] = {}
    cells: dict[UUID, int] = {}
    for each in breaks:
        numbers = by_owner.setdefault(each.reservation.owner, {})
        numbers[each.reservation.no] = numbers.get(each.reservation.no, 0) + each.quantity
        cells[each.reservation.owner] = each.reservation.cell
    for owner in sorted(by_owner):
        held = {
            reservation.no: replace(reservation, consumed=reservation.consumed + ended.get((owner, reservation.no), 0))
            for reservation in transaction.reservations(owner)
        }
        shipments = transaction.shipments(owner)
        state = _Owner(held, by_owner[owner])
        lost = _close_lines(state, {each.shipment.no for each in shipments if each.stage not in HELD_BACK})
        ending = Ending.FREED if given_up and owner in given_up else Ending.BROKEN
        _end(transaction, made, state, ending, cause)
        _close_shipments(made, state, shipments, cell_of)
        record = orders.get(owner)
        if record is not None and record.state is OrderState.BASKET:
            lines = tuple(
                _given_up(progress, lost[line.no]) if line.no in lost else progress
                for line, progress in zip(record.order.lines, record.lines, strict=True)
            )
            is_over = state_of(lines) is OrderState.CANCELLED
            made.orders.append(replace(record, lines=lines, state=OrderState.CANCELLED if is_over else record.state))
        elif record is not None:
            _ask_again(made, record, lost, (given_up or {}).get(owner, {}), now)
        if ending is Ending.FREED:
            continue
        made.incidents.append(
            Incident(ids.new(now), cells[owner], "reservation_broken", str(cause), None if record is None else owner)
        )
        told: dict[str, Json] = {"lost": [[no, units.whole] for no, units in sorted(lost.items())]}
        if record is not None:
            told["order"] = record.order.number
        made.events.append(Event("reservation.broken", str(owner), told, cells[owner]))
    return made


def _close_lines(state: _Owner, released: Collection[int]) -> dict[int, Lost]:
    """Decide what else of the lines hit must be freed; the demand that is lost by it, by line.

    `released` are the shipments that their nodes work on.
    """
    lost: dict[int, Lost] = {}
    for no in sorted({state.reservations[number].line_no for number in state.broken}):
        line = [held for held in state.reservations.values() if held.line_no == no and held.open]
        alone = all(stands_alone(held) for held in line)
        for held in () if alone else line:
            rest = state.open(held)
            if rest:
                state.freed[held.no] = rest
        units = {held.no: state.broken.get(held.no, 0) if alone else open_line_quantity(held) for held in line}
        lost[no] = Lost(
            sum(units[held.no] for held in line if held.receipt is None and held.shipment_no not in released),
            sum(units[held.no] for held in line if held.receipt is not None),
            sum(units[held.no] for held in line if held.receipt is None and held.shipment_no in released),
        )
    return lost


def stands_alone(held: Reservation) -> bool:
    """Whether each unit of a reservation serves one unit of the line, so that it can lose some of them."""
    return held.quantity == held.line_quantity


def open_line_quantity(held: Reservation) -> Quantity:
    """What the open units of a reservation serve of its line."""
    return held.line_quantity * held.open // held.quantity


def _end(transaction: Transaction, made: Mended, state: _Owner, ending: Ending, cause: UUID) -> None:
    pledges = {held.receipt for number in state.freed if (held := state.reservations[number]).receipt is not None}
    receipts = transaction.receipts(sorted(pledges)) if pledges else {}
    for no, quantity in sorted(state.broken.items()):
        held = state.reservations[no]
        made.ends.append(ReservationEnd(held.cell, held.owner, no, ending, quantity))
    for no, quantity in sorted(state.freed.items()):
        held = state.reservations[no]
        made.ends.append(ReservationEnd(held.cell, held.owner, no, Ending.FREED, quantity))
        source, target = Account.RESERVED, Account.AVAILABLE
        if held.receipt is not None:
            source, target = Account.PLEDGED, Account.EXPECTED
            made.receipts.append(ReceiptChange(receipts[held.receipt].cell, held.receipt, pledged=-quantity))
        made.movements.append(Movement(held.position, source, target, quantity, Cause.FREE, cause))


def _close_shipments(
    made: Mended, state: _Owner, shipments: Sequence[ShipmentRecord], cell_of: Callable[[str], int]
) -> None:
    """Shipments with nothing left to send go, and with them the capacity they have booked.

    One of which a part has left already was that part; one that somebody has in hand, or was offered, stays, as
    cancelled.
    """
    touched = {state.reservations[no].shipment_no for no in (*state.broken, *state.freed)}
    full = {held.shipment_no for held in state.reservations.values() if state.open(held)}
    left = {held.shipment_no for held in state.reservations.values() if held.consumed and held.receipt is None}
    given: dict[tuple[int, str, date, int], int] = {}
    for record in shipments:
        no = record.shipment.no
        if no in touched and no not in full and no in left:
            # What waited to be collected was handed out.
            after = Stage.DELIVERED if record.stage is Stage.READY else Stage.SHIPPED
            if after in STAGES[record.stage]:
                made.stages.append(StageChange(record.cell, record.owner, no, record.stage, after))
        elif no in touched and no not in full:
            made.shipments_dropped.append((record.cell, record.owner, no))
            if record.stage is not Stage.PLANNED:
                left_over = replace(record.shipment, bookings=())
                made.shipments.append(replace(record, shipment=left_over, stage=Stage.PLANNED, since=None))
                made.stages.append(StageChange(record.cell, record.owner, no, Stage.PLANNED, Stage.CANCELLED))
            for booking in record.shipment.bookings:
                key = (cell_of(booking.node), booking.node, booking.day, booking.slot)
                given[key] = given.get(key, 0) + booking.quantity
    made.capacity += [CapacityChange(*key, -quantity, None) for key, quantity in sorted(given.items()) if quantity]


def _ask_again(
    made: Mended, record: OrderRecord, lost: Mapping[int, Lost], cancelled: Mapping[int, Quantity], now: datetime
) -> None:
    """The order's demand is in the queue again, ahead of all; it stands as backordered until it is decided."""
    lines = tuple(
        _waiting_again(progress, lost[line.no], cancelled.get(line.no, 0)) if line.no in lost else progress
        for line, progress in zip(record.order.lines, record.lines, strict=True)
    )
    made.orders.append(replace(record, state=state_of(lines), lines=lines))
    again = tuple((no, rest) for no, units in sorted(lost.items()) if (rest := units.whole - cancelled.get(no, 0)))
    if not again or record.is_held(Blocks.SOURCING):
        return
    made.todo.append(
        Todo(
            cell=record.order.cell,
            queue=Queue.ONCE,
            rank=AGAIN_AT_ONCE - max(-HIGHEST_PRIORITY, min(HIGHEST_PRIORITY, record.order.priority)),
            since=now,
            order=record.order,
            open=again,
            attempt=record.attempt + 1,
            without=record.declined,
        )
    )


def _given_up(progress: Progress, units: Lost) -> Progress:
    """A basket waits for nothing: what is lost of it is cancelled."""
    return replace(
        progress,
        reserved=progress.reserved - units.reserved,
        pledged=progress.pledged - units.pledged,
        cancelled=progress.cancelled + units.whole,
    )


def _waiting_again(progress: Progress, units: Lost, cancelled: Quantity) -> Progress:
    return replace(
        progress,
        reserved=progress.reserved - units.reserved,
        pledged=progress.pledged - units.pledged,
        released=progress.released - units.released,
        backordered=progress.backordered + units.whole - cancelled,
        cancelled=progress.cancelled + cancelled,
    )
