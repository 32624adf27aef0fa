"""Reservations: a basket is set aside for a while, freed, expired, or becomes part of an order.

Keeps laws 2, 4, 6, 8. A basket is decided by the very engine that sources orders, so that what is set aside is what
an order would get. It is refused only under the locks of every position that could have served it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from poolwise.core.messages import ReservationRequest
from poolwise.core.orders import Order, OrderState
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.record import Packer
from poolwise.core.values import Conflict, Fault, KeyTaken, Quantity, Refused, replace
from poolwise.flows.capacity import bookings_of
from poolwise.flows.freeing import GivenBack
from poolwise.flows.intake import Counter, Reader, Rejected
from poolwise.flows.ports import (
    Answer,
    Audit,
    Books,
    Effects,
    Ending,
    Event,
    OrderRecord,
    Queue,
    Timer,
    TimerKind,
    Todo,
    Transaction,
)
from poolwise.flows.source import MOST_CONFLICTS, Choice, Desk, Shelf, Written, ask, choose

LONGEST_RESERVATION: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Reserved:
    """A basket that was set aside: its id, when it expires, and the plan it stands for."""

    reservation: UUID
    expires_at: datetime
    plan: Plan


def reserve(
    books: Books,
    desk: Desk,
    counter: Counter,
    request: ReservationRequest,
    now: datetime,
    answer: Callable[[Reserved | Rejected], Answer] | None = None,
) -> Reserved | Rejected:
    """Set a basket aside, or refuse it with all reasons. A ship-complete basket is set aside whole or not at all.

    `answer` makes of the outcome what is kept as the answer; it commits with it, be it a refusal.
    """

    def answered(outcome: Reserved | Rejected) -> list[Answer]:
        return [] if answer is None else [answer(outcome)]

    basket = _basket(counter, request, now)
    if isinstance(basket, Rejected):
        with books.transaction() as transaction:
            transaction.record(Effects(at=now, answers=answered(basket)))
        return basket
    expires_at = now + timedelta(seconds=request.expires_in_seconds)
    todo = Todo(basket.cell, Queue.ONCE, 0, now, basket, tuple((line.no, line.quantity) for line in basket.lines))
    for conflicts in range(MOST_CONFLICTS):
        try:
            with books.transaction() as transaction:
                choice, locked = _decide(transaction, desk, todo, now, under_lock=conflicts > 0)
                lacking = choice.plan.unserved
                if lacking and (basket.ship_complete or not choice.plan.assignments):
                    if not locked:
                        raise Conflict("a refusal is decided under the lock")
                    refusal = _not_available(choice)
                    transaction.record(Effects(at=now, answers=answered(refusal)))
                    return refusal
                made = Reserved(basket.id, expires_at, choice.plan)
                transaction.record(_effects(desk, choice, now, expires_at, answered(made)))
                return made
        except KeyTaken:
            raise
        except Conflict:
            continue
    raise Conflict(f"a basket met {MOST_CONFLICTS} conflicts in a row")


def _decide(transaction: Transaction, desk: Desk, todo: Todo, now: datetime, under_lock: bool) -> tuple[Choice, bool]:
    asked = ask(desk.atlas, todo)
    items = asked.items
    since = now.date() - timedelta(days=1)
    shelf = Shelf(transaction.stock(desk.cells, items, since, asked.classes), desk.atlas)
    if under_lock:
        shelf.lock(transaction, shelf.positions(items))
        shelf.renew(items, transaction.stock(desk.cells, items, since))
        return choose(desk, asked, shelf, now), True
    choice = choose(desk, asked, shelf, now)
    checked = Shelf(transaction.stock(desk.cells, items, since), desk.atlas)
    checked.lock(transaction, {part.position for part in choice.plan.assignments})
    checked.lock_receipts(transaction, {p.receipt for p in choice.plan.assignments if p.receipt is not None})
    if not checked.fits(choice.plan):
        raise Conflict("somebody took the stock between reading and locking")
    return choice, False


def _basket(counter: Counter, request: ReservationRequest, now: datetime) -> Order | Rejected:
    reader = Reader(counter)
    zone = reader.place(request)
    lines = reader.lines(request.lines, "")
    if not request.channel:
        reader.fault("channel", "is needed")
    if request.service_level not in counter.policy.service_levels:
        reader.fault("service_level", f"the policy has no '{request.service_level}'")
    longest = int(LONGEST_RESERVATION.total_seconds())
    if not 0 < request.expires_in_seconds <= longest:
        reader.fault("expires_in_seconds", f"is between 1 and {longest}")
    if reader.faults:
        return Rejected("reservation_invalid", tuple(reader.faults))
    assert zone is not None
    basket = counter.ids.new(now)
    return Order(
        id=basket,
        number=f"R-{basket}",
        cell=counter.edition.network.zones[zone].cell,
        received_at=now,
        channel=request.channel,
        zone=zone,
        lines=lines,
        service_level=request.service_level,
        customer=request.customer,
        ship_complete=request.ship_complete,
    )


def _not_available(choice: Choice) -> Rejected:
    lines = {line.no: line for line in choice.todo.order.lines}
    return Rejected(
        "not_available",
        tuple(
            Fault(f"lines[{entry.line_no - 1}]", f"{entry.quantity} of {lines[entry.line_no].quantity} "
                  f"{lines[entry.line_no].item} cannot be set aside: {entry.reason.value}")
            for entry in choice.plan.unserved
        ),
    )  # fmt: skip


def _effects(desk: Desk, choice: Choice, now: datetime, expires_at: datetime, kept: list[Answer]) -> Effects:
    written = Written(desk, choice, None, now, expires_at)
    edition, hard = desk.atlas.edition, desk.atlas.policy.policy.capacity_is_hard
    basket = written.order()
    # What could not be set aside is not waited for: a basket has no backorders.
    lines = tuple(replace(line, backordered=0, cancelled=line.cancelled + line.backordered) for line in basket.lines)
    return Effects(
        at=now,
        movements=written.movements,
        reservations=written.reservations,
        receipt_changes=written.pledges(),
        capacity=bookings_of(edition.network, written.shipments, hard=hard),
        shipments=written.shipments,
        orders=[OrderRecord(basket.order, OrderState.BASKET, lines, 1)],
        timers=[Timer(basket.order.cell, TimerKind.EXPIRE, basket.order.id, expires_at)],
        decisions=[written.decision(desk.ids.new(now), 0, Packer())],
        answers=kept,
        events=[Event("reservation.made", str(basket.order.id), written.event(), basket.order.cell)],
        audit=[Audit(desk.actor, "reservations.make", str(basket.order.id))],
    )


def free(books: Books, desk: Desk, reservation: UUID, now: datetime, answer: Answer | None = None) -> Quantity:
    """Give a basket back before it expires; how many units were still set aside (0 when it had ended already)."""
    for _ in range(MOST_CONFLICTS):
        try:
            with books.transaction() as transaction:
                record = transaction.orders([reservation], lock=True).get(reservation)
                if record is None or not record.order.number.startswith("R-"):
                    raise Refused("reservation_unknown", (Fault("id", f"there is no reservation {reservation}"),))
                given = GivenBack(transaction, desk.atlas.edition, desk.actor, now)
                given.add(record, Ending.FREED)
                if given.units or answer is not None:
                    given.record("reservations.free", answer)
                return given.units
        except KeyTaken:
            raise
        except Conflict:
            continue
    raise Conflict(f"giving {reservation} back met {MOST_CONFLICTS} conflicts in a row")
