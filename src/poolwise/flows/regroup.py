"""An order is divided in two, or another is joined to it, with all that is reserved for it.

Keeps laws 4, 6, 8, 13 and 14. No stock moves and nothing is decided anew: reservations that are handed over end as
freed and begin as the other order's in one commit, and shipments go with them. What a node has in hand, and what has
left, stays where it is. Units that go are cancelled in the order they leave, so that each line still adds up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from poolwise.core.fulfilment import Stage
from poolwise.core.ledger import Reservation, ReservationKind
from poolwise.core.messages import OrderDivision, OrderJoin
from poolwise.core.orders import MOST_LINES, Line, Order, OrderState, Progress, state_of
from poolwise.core.sourcing.repack import repacked, spared
from poolwise.core.values import Fault, Json, Quantity, base_to_text, replace
from poolwise.flows.breaking import open_line_quantity, stands_alone
from poolwise.flows.capacity import bookings_of
from poolwise.flows.change import MOST_CHANGES, Changed, Changing, Kept, Outcome, on_orders, settled
from poolwise.flows.freeing import share_of, whole
from poolwise.flows.intake import LONGEST_TEXT, Counter, Rejected, first_todo
from poolwise.flows.ports import (
    OF_THE_ORDER,
    Audit,
    Books,
    Effects,
    Ending,
    Event,
    Milestone,
    OrderRecord,
    Queue,
    ReservationEnd,
    ShipmentRecord,
    Timer,
    TimerKind,
    Todo,
)

ALIKE: Final = ("channel", "zone", "customer", "service_level", "requested_date", "ship_complete", "max_shipments")
"""What two orders share that become one."""


@dataclass(slots=True)
class _Taken:
    """What one order takes from another: by line, units that wait, and reservations of as much as it takes of each."""

    open: dict[int, Quantity] = field(default_factory=dict)
    parts: list[tuple[int, Reservation]] = field(default_factory=list)

    def lines(self) -> dict[int, Progress]:
        """Where its lines stand with it."""
        found: dict[int, list[Quantity]] = {no: [units, 0, 0] for no, units in self.open.items()}
        for no, part in self.parts:
            found.setdefault(no, [0, 0, 0])[1 if part.receipt is None else 2] += part.line_quantity
        return {
            no: Progress(sum(units), open=units[0], reserved=units[1], pledged=units[2]) for no, units in found.items()
        }


def divide(books: Books, counter: Counter, message: OrderDivision, now: datetime, kept: Kept = None) -> Outcome:
    """Make a new order of units of some lines; no quantity means all of a line that no node has in hand."""

    def work(change: Changing) -> Outcome:
        faults = _unlawful_number(change, message.number)
        faults += change.misnumbered(message.lines)
        if not message.lines:
            faults.append(Fault("lines", "name what the new order is to have"))
        if faults:
            return Rejected("change_invalid", tuple(faults))
        wanted: dict[int, Quantity] = {}
        for place, asked in enumerate(message.lines):
            path, free = f"lines[{place}].quantity", _free(change, asked.no)
            units = free if asked.quantity is None else change.quantity(path, asked.no, asked.quantity)
            if units is not None and (units > free or not free):
                change.refuse(path, _why_no_more(change, asked.no))
            elif units is not None:
                wanted[asked.no] = units
        left = sum(line.ordered - line.cancelled for line in change.record.lines) - sum(wanted.values())
        if not change.refused() and not left:
            change.refuse("lines", "nothing would be left of the order")
        if refused := change.refused():
            return refused
        return _Division(change, counter, message, wanted).done()

    return on_orders(books, counter, [message.order], now, kept, work)


def _unlawful_number(change: Changing, number: str) -> list[Fault]:
    if not number or len(number) > LONGEST_TEXT or not number.isprintable():
        return [Fault("number", f"is 1 to {LONGEST_TEXT} characters that can be printed")]
    taken = change.transaction.order_numbered([number])
    return [Fault("number", f"there is an order '{number}' already")] if taken else []


def _why_no_more(change: Changing, no: int) -> str:
    """Why no more of a line can go: it is in hand, or offered, where any node may have it the next moment."""
    scale = change.clerk.edition.catalog.items[change.line(no).item].scale
    offered = base_to_text(_offered(change, no), scale)
    free = base_to_text(_free(change, no), scale)
    if _offered(change, no):
        return f"at most {free} of the line can go: {offered} are offered to nodes"
    return f"{free} of the line are not in a node's hands"


def _offered(change: Changing, no: int) -> Quantity:
    """Units of a line that are offered to nodes."""
    return sum(
        open_line_quantity(part)
        for part in change.held
        if part.line_no == no and change.shipments[part.shipment_no].stage is Stage.OFFERED
    )


def _free(change: Changing, no: int) -> Quantity:
    """Units of a line that no node has in hand: those that wait, and those that are planned."""
    progress = change.lines[no]
    return progress.open + progress.backordered + sum(open_line_quantity(part) for part in _planned(change, no))


def _planned(change: Changing, no: int) -> list[Reservation]:
    """What is held for a line in shipments that nobody was told of; parts that belong together, all or none."""
    parts = [part for part in change.held if part.line_no == no]
    planned = [part for part in parts if change.shipments[part.shipment_no].stage is Stage.PLANNED]
    return planned if len(planned) == len(parts) or all(stands_alone(part) for part in parts) else []


def _take(change: Changing, no: int, units: Quantity, into: int, taken: _Taken) -> Quantity:
    """Units of a line go to line `into` of another order: those that wait first. How many go: parts that belong
    together may make it fewer."""
    progress = change.lines[no]
    of_open = min(units, progress.open)
    waiting = of_open + min(units - of_open, progress.backordered)
    parts = share_of([whole(part) for part in _planned(change, no)], units - waiting) if units > waiting else []
    on_stock = sum(part.line_quantity for part in parts if part.receipt is None)
    pledged = sum(part.line_quantity for part in parts if part.receipt is not None)
    if waiting:
        taken.open[into] = taken.open.get(into, 0) + waiting
    taken.parts += [(into, part) for part in parts]
    change.lines[no] = replace(
        progress,
        open=progress.open - of_open,
        backordered=progress.backordered - waiting + of_open,
        reserved=progress.reserved - on_stock,
        pledged=progress.pledged - pledged,
        cancelled=progress.cancelled + waiting + on_stock + pledged,
    )
    return waiting + on_stock + pledged


def _handed(
    parts: Iterable[tuple[int, Reservation]], order: Order, first_no: int, numbers: Mapping[int, int], now: datetime
) -> list[Reservation]:
    """Reservations as another order's, numbered from `first_no`; `numbers` are those of shipments, old and new."""
    return [
        replace(
            part, cell=order.cell, owner=order.id, no=no, line_no=line_no, shipment_no=numbers[part.shipment_no],
            made_at=now, kind=ReservationKind.HARD,
        )
        for no, (line_no, part) in enumerate(parts, start=first_no)
    ]  # fmt: skip


def _ends(parts: Iterable[tuple[int, Reservation]]) -> list[ReservationEnd]:
    return [ReservationEnd(part.cell, part.owner, part.no, Ending.FREED, part.quantity) for _, part in parts]


class _Division:
    """A new order on its way out of another."""

    def __init__(
        self, change: Changing, counter: Counter, message: OrderDivision, wanted: Mapping[int, Quantity]
    ) -> None:
        self._change, self._counter, self._message = change, counter, message
        self._taken = _Taken()
        self._lines: list[Line] = []
        for no, units in wanted.items():
            into = len(self._lines) + 1
            gone = _take(change, no, units, into, self._taken)
            if gone:
                line = change.line(no)
                weight = None if line.weight_ug is None else line.weight_ug * gone // line.quantity
                self._lines.append(replace(line, no=into, quantity=gone, weight_ug=weight))

    def done(self) -> Outcome:
        """Record both orders."""
        change, taken, now = self._change, self._taken, self._change.now
        if not self._lines:
            reason = "parts of a kit, and substitutes in another ratio, go together or not at all"
            return Rejected("too_late", (Fault("lines", reason),))
        before, ids = change.record, self._counter.ids
        part_of = before.order.id if taken.parts else None
        order = replace(
            before.order, id=ids.new(now), number=self._message.number, lines=tuple(self._lines), part_of=part_of,
            reservation=None, received_at=now,
        )  # fmt: skip
        lines = tuple(taken.lines()[line.no] for line in order.lines)
        record = OrderRecord(order, state_of(lines), lines, 1 if taken.parts else 0, before.declined, before.holds)
        rest = settled(before, after := tuple(change.lines[line.no] for line in before.order.lines))
        effects = self._effects(record, replace(before, lines=after, state=rest))
        change.transaction.record(effects)
        units = tuple((line.no, line.quantity) for line in order.lines)
        return Changed(order.id, order.number, (), units)

    def _effects(self, record: OrderRecord, rest: OrderRecord) -> Effects:
        change, now, parts = self._change, self._change.now, self._taken.parts
        numbers = {no: place for place, no in enumerate(sorted({part.shipment_no for _, part in parts}), start=1)}
        handed = _handed(parts, record.order, 1, numbers, now)
        new, left, deltas = self._shipments(record.order, handed, numbers)
        touched = [change.shipments[no] for no in numbers]
        todo = _waits(self._counter, record, now)
        own = change.todo_of(rest)
        told: dict[str, Json] = {"into": record.order.number, "reason": self._message.reason}
        return replace(
            _told(change, (rest.order, record.order), "divided", {**_left(change.record, rest), **told}),
            orders=[replace(record, holds=(), declined=())],
            orders_changed=[rest, *([record] if record.declined else [])],
            held=[record] if record.holds else [],
            reservations=handed,
            reservation_ends=_ends(parts),
            shipments=[*new, *left],
            shipments_dropped=[(each.cell, each.owner, each.shipment.no) for each in touched],
            capacity=bookings_of(self._counter.edition.network, deltas),
            todo=[entry for entry in (todo, own if change.record.attempt == 0 else None) if entry is not None],
            taken=[(rest.order.cell, rest.order.id, Queue.STOCK)] if own is None and rest.attempt else [],
            timers=[Timer(record.order.cell, TimerKind.RELEASE, record.order.id, now)] if parts else [],
        )

    def _shipments(
        self, order: Order, handed: Sequence[Reservation], numbers: Mapping[int, int]
    ) -> tuple[list[ShipmentRecord], list[ShipmentRecord], list[ShipmentRecord]]:
        """Shipments of the new order, what is left of the old one's, and what both take more of slots than before."""
        change, edition = self._change, self._counter.edition
        places = change.transaction.positions({part.position for part in change.held})
        items = {id_: place.key.item for id_, place in places.items()}
        gone = {part.no: part for _, part in self._taken.parts}
        new, left, deltas = [], [], []
        for old, no in numbers.items():
            before = change.shipments[old]
            own = [part for part in handed if part.shipment_no == no]
            shipment = replace(repacked(before.shipment, order, own, items, edition), no=no)
            new.append(ShipmentRecord(order.cell, order.id, shipment, collect_at=before.collect_at))
            kept = [whole(part) for part in change.held if part.shipment_no == old]
            kept = [_less(part, gone.get(part.no)) for part in kept]
            kept = [part for part in kept if part.quantity]
            if kept:
                rest = repacked(before.shipment, change.record.order, kept, items, edition)
                left.append(replace(before, shipment=rest))
                both = spared(before.shipment, rest)
                deltas.append(replace(before, shipment=spared(shipment, replace(both, no=no))))
            else:
                deltas.append(replace(before, shipment=spared(shipment, replace(before.shipment, no=no))))
        return new, left, deltas


def _less(part: Reservation, gone: Reservation | None) -> Reservation:
    if gone is None:
        return part
    units, served = part.quantity - gone.quantity, part.line_quantity - gone.line_quantity
    return replace(part, quantity=units, line_quantity=served) if units else replace(part, quantity=0, line_quantity=0)


def _waits(counter: Counter, record: OrderRecord, now: datetime) -> Todo | None:
    """The queue row of a new order: of all of it, or of what is left to be sourced of it."""
    first = first_todo(counter.policy, record.order, now, 0)
    open_ = tuple((line.no, p.open) for line, p in zip(record.order.lines, record.lines, strict=True) if p.open)
    if not open_:
        return None
    if record.attempt == 0 and not record.holds and not record.declined:
        return first
    return replace(first, queue=Queue.ONCE, open=open_, attempt=record.attempt + 1, changed=True)


def _left(before: OrderRecord, after: OrderRecord) -> dict[str, Json]:
    """Which order units have left for another, and how many of each line: they count as cancelled in it."""
    lines = zip(after.order.lines, before.lines, after.lines, strict=True)
    gone: list[Json] = [[line.no, now.cancelled - was.cancelled] for line, was, now in lines if now != was]
    return {"from": after.order.number, "lines": gone}


def _told(change: Changing, orders: Sequence[Order], kind: str, told: dict[str, Json]) -> Effects:
    """Milestones, events and the audit row of orders that were regrouped."""
    now, actor, ids = change.now, change.clerk.actor, change.clerk.ids
    detail = {name: value for name, value in told.items() if value != ""}
    return Effects(
        at=now,
        milestones=[
            Milestone(order.cell, order.id, ids.new(now), OF_THE_ORDER, kind, now, actor, detail) for order in orders
        ],
        events=[Event(f"order.{kind}", str(each.id), {"order": each.number, **detail}, each.cell) for each in orders],
        audit=[Audit(actor, f"order.{kind}", orders[0].number, detail)],
    )


def join(books: Books, counter: Counter, message: OrderJoin, now: datetime, kept: Kept = None) -> Outcome:
    """Add all of another order to this one; the other is over. Both go to the same place on the same terms."""

    def work(into: Changing, other: Changing) -> Outcome:
        faults = _unlike(into, other)
        if faults:
            return Rejected("change_invalid", tuple(faults))
        late = [
            Fault("other", f"line {line.no} of order '{message.other}' {_whose(other, line.no)}")
            for line in other.record.order.lines
            if _free(other, line.no) < other.lines[line.no].ordered - other.lines[line.no].cancelled
        ]
        if not into.record.attempt and other.held:
            reason = (
                f"order '{message.order}' still waits to be decided; join it to the other, or try again in a moment"
            )
            late.append(Fault("order", reason))
        if late:
            return Rejected("too_late", tuple(late))
        return _Union(into, other, counter, message).done()

    if message.order == message.other:
        return on_orders(books, counter, [message.order], now, kept, lambda _: _itself())
    return on_orders(books, counter, [message.order, message.other], now, kept, work)


def _whose(change: Changing, no: int) -> str:
    return "is offered to nodes" if _offered(change, no) else "is in a node's hands, or has left"


def _itself() -> Outcome:
    return Rejected("change_invalid", (Fault("other", "is the same order"),))


def _unlike(into: Changing, other: Changing) -> list[Fault]:
    """What keeps two orders from being one."""
    one, two = into.record.order, other.record.order
    faults = [
        Fault("other", _difference(name, getattr(one, name), getattr(two, name)))
        for name in ALIKE
        if getattr(one, name) != getattr(two, name)
    ]
    if one.cell != two.cell:
        faults.append(Fault("other", "is kept in another cell"))
    if len(one.lines) + len(two.lines) > MOST_LINES:
        faults.append(Fault("other", f"an order has at most {MOST_LINES} lines"))
    if len(into.record.former) >= MOST_CHANGES:
        faults.append(Fault("order", f"was changed {MOST_CHANGES} times already"))
    return faults


def _difference(name: str, ours: object, its: object) -> str:
    if its in (None, ""):
        return f"it has no {name}; that of the order is {ours}"
    return f"its {name} is {its}" + (", and the order has none" if ours in (None, "") else f", not {ours}")


class _Union:
    """An order on its way into another."""

    def __init__(self, into: Changing, other: Changing, counter: Counter, message: OrderJoin) -> None:
        self._into, self._other, self._counter, self._message = into, other, counter, message

    def done(self) -> Outcome:
        """Record both orders."""
        into, other, now = self._into, self._other, self._into.now
        taken, lines = _Taken(), list(into.record.order.lines)
        for line in other.record.order.lines:
            units, no = _free(other, line.no), len(lines) + 1
            if units and _take(other, line.no, units, no, taken):
                together = f"{self._message.other}:{line.together}" if line.together else ""
                weight = None if line.weight_ug is None else line.weight_ug * units // line.quantity
                lines.append(replace(line, no=no, quantity=units, weight_ug=weight, together=together))
        before, added = into.record, taken.lines()
        order = replace(before.order, lines=tuple(lines))
        more = [added[line.no] for line in lines[len(before.lines) :]]
        if before.state not in (OrderState.RECEIVED, OrderState.WAITING):
            more = [replace(own, open=0, backordered=own.open) for own in more]
        progress = (*before.lines, *more)
        former = (*before.former, (before.attempt, before.order))
        after = replace(before, order=order, lines=progress, former=former, state=settled(before, progress))
        into.transaction.record(self._effects(after, taken, now))
        return Changed(order.id, order.number, (), tuple((no, own.ordered) for no, own in added.items()))

    def _effects(self, after: OrderRecord, taken: _Taken, now: datetime) -> Effects:
        into, other = self._into, self._other
        over = tuple(other.lines[line.no] for line in other.record.order.lines)
        gone = replace(other.record, lines=over, state=state_of(over))
        held = sorted({part.shipment_no for _, part in taken.parts})
        first = max(into.shipments, default=0) + 1
        numbers = {no: place for place, no in enumerate(held, start=first)}
        owned = into.transaction.reservations(after.order.id)
        handed = _handed(taken.parts, after.order, max((part.no for part in owned), default=0) + 1, numbers, now)
        moved = [
            ShipmentRecord(after.order.cell, after.order.id, replace(each.shipment, no=no), collect_at=each.collect_at)
            for no, each in ((no, other.shipments[old]) for old, no in numbers.items())
        ]
        todo = into.todo_of(after)
        timer = Timer(after.order.cell, TimerKind.RELEASE, after.order.id, now)
        told: dict[str, Json] = {"into": after.order.number, "reason": self._message.reason}
        return replace(
            _told(into, (after.order, gone.order), "joined", {**_left(other.record, gone), **told}),
            amended=[after],
            orders_changed=[after, gone],
            reservations=handed,
            reservation_ends=_ends(taken.parts),
            shipments=moved,
            shipments_dropped=[(gone.order.cell, gone.order.id, no) for no in held],
            todo=[] if todo is None else [replace(todo, changed=True)],
            taken=[(gone.order.cell, gone.order.id, Queue.STOCK)] if gone.attempt else [],
            timers=[timer] if handed else [],
            timers_dropped=[(timer.cell, timer.subject, timer.kind)] if handed else [],
        )
