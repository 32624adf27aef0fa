"""Execution: shipments are released to their nodes, and what nodes and carriers report of them is booked.

Keeps laws 1, 4, 5, 6, 9 and 13. A report is judged by what has happened already (core.fulfilment): one that comes
late, twice or before the one it depends on ends in the same books. Units that a node does not find are blocked where
they should be and somebody must count there; what it declines is free again; either way the rest of the order is back
in the queue in the same commit, without that node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from poolwise.core.counting import Break, Statement
from poolwise.core.fulfilment import STAGES, Share, Stage, release_at, shares
from poolwise.core.ledger import Account, Cause, PositionKey, Reservation
from poolwise.core.messages import ReportKind, ShipmentReport
from poolwise.core.network import Node
from poolwise.core.orders import OrderState, Progress, state_of
from poolwise.core.values import Fault, Json, Quantity, parse_scaled, replace
from poolwise.flows.breaking import open_line_quantity, stands_alone
from poolwise.flows.ports import (
    Answer,
    Audit,
    Books,
    CountTask,
    Effects,
    Ending,
    Event,
    Milestone,
    OrderRecord,
    ReservationEnd,
    ShipmentRecord,
    StageChange,
    Timer,
    TimerKind,
    Transaction,
)
from poolwise.flows.source import Desk, tomorrow
from poolwise.flows.stock import Outcome, Result
from poolwise.flows.tallying import CLOCK_SKEW, Clerk, Room, Wanted, in_transaction

AFTER: Final = {
    ReportKind.SHIPPED: Stage.SHIPPED,
    ReportKind.DELIVERED: Stage.DELIVERED,
    ReportKind.FAILED: Stage.FAILED,
}
"""The stage that a report leads to."""

GOES: Final = {
    ReportKind.SHORT: (Account.BLOCKED, Cause.SHORT),
    ReportKind.DECLINED: (Account.AVAILABLE, Cause.DECLINE),
}
"""Where reserved units go that a node does not find, or will not send."""


# --- release


def release(transaction: Transaction, desk: Desk, records: Sequence[OrderRecord], now: datetime) -> Effects:
    """Release what is due of some orders, which are locked; what is not due has its timer set again."""
    nodes = desk.atlas.edition.network.nodes
    stages: list[StageChange] = []
    milestones: list[Milestone] = []
    changed: list[OrderRecord] = []
    timers: list[Timer] = []
    events: list[Event] = []
    for record in records:
        if record.state is OrderState.BASKET:
            continue
        order, held = record.order, _held_by_shipment(transaction.reservations(record.order.id))
        again: list[datetime] = []
        lines = dict(zip((line.no for line in order.lines), record.lines, strict=True))
        for planned in transaction.shipments(order.id):
            shipment, parts = planned.shipment, held.get(planned.shipment.no, ())
            if planned.stage is not Stage.PLANNED or not parts:
                continue
            # One that is no longer in the network still has what it was given.
            node = nodes.get(shipment.node, Node(shipment.node))
            due = release_at(node, shipment.ship_on, max(part.made_at for part in parts))
            if due > now or any(part.receipt is not None for part in parts):
                # What is pledged is not there yet: it is looked for again when a day begins.
                again.append(max(due, tomorrow(now, node.time_zone)) if due <= now else due)
                continue
            for part in parts:
                _move(lines, part.line_no, open_line_quantity(part), "reserved", "released")
            stages.append(StageChange(planned.cell, order.id, shipment.no, Stage.PLANNED, Stage.RELEASED))
            told: dict[str, Json] = {"order": order.number, "shipment": shipment.no, "node": shipment.node}
            milestones.append(
                Milestone(planned.cell, order.id, desk.ids.new(now), shipment.no, "released", now, desk.actor, {})
            )
            events.append(Event("shipment.released", str(order.id), told, order.cell))
        after = tuple(lines.values())
        if after != record.lines:
            changed.append(replace(record, lines=after, state=state_of(after)))
        if again:
            timers.append(Timer(order.cell, TimerKind.RELEASE, order.id, min(again)))
    audit = [Audit(desk.actor, "shipments.release", "", {"shipments": len(stages)})] if stages else []
    return Effects(
        at=now, orders_changed=changed, stages=stages, milestones=milestones, timers=timers, events=events, audit=audit
    )


def _held_by_shipment(reservations: Sequence[Reservation]) -> dict[int, list[Reservation]]:
    found: dict[int, list[Reservation]] = {}
    for part in reservations:
        if part.open:
            found.setdefault(part.shipment_no, []).append(part)
    return found


def _move(lines: dict[int, Progress], no: int, quantity: Quantity, source: str, target: str) -> None:
    """Units of a line stand elsewhere now."""
    progress = lines[no]
    values = {source: getattr(progress, source) - quantity, target: getattr(progress, target) + quantity}
    lines[no] = replace(progress, **values)


# --- reports


@dataclass(frozen=True, slots=True)
class _Known:
    """What a report is about: the order under lock, its shipment, and what is held for it."""

    record: OrderRecord
    shipment: ShipmentRecord
    held: Sequence[Reservation]


def book_report(
    books: Books,
    clerk: Clerk,
    report: ShipmentReport,
    now: datetime,
    answer: Callable[[Result], Answer] | None = None,
) -> Result:
    """Book what a node or carrier reports of a shipment. Each id has its effect once, in any order.

    `answer` makes of the result what is kept as the answer; it commits with the effect.
    """
    read = _read(clerk, report, now)

    def work(transaction: Transaction, _: Wanted, at: datetime) -> Result:
        found = _book(transaction, clerk, read, at)
        if answer is not None:
            transaction.record(Effects(at=at, answers=[answer(found)]))
        return found

    return in_transaction(books, now, work)


@dataclass(frozen=True, slots=True)
class _Read:
    """A report with its lines in base units by our codes, and what is wrong with its form."""

    report: ShipmentReport
    asked: Sequence[tuple[str, Quantity]]
    faults: Sequence[Fault]


def _read(clerk: Clerk, report: ShipmentReport, now: datetime) -> _Read:
    faults = []
    if not report.id or len(report.id) > 200:  # as movements
        faults.append(Fault("id", "is 1 to 200 characters"))
    if report.at > now + CLOCK_SKEW:
        faults.append(Fault("at", "is in the future"))
    if report.kind is ReportKind.SHORT and not report.lines:
        faults.append(Fault("lines", "names what was not found"))
    if report.lines and report.kind not in (ReportKind.SHORT, ReportKind.SHIPPED):
        faults.append(Fault("lines", f"{report.kind.value} is of the whole shipment"))
    asked: list[tuple[str, Quantity]] = []
    for place, line in enumerate(report.lines):
        code = clerk.item(line.item)
        if code is None:
            faults.append(Fault(f"lines[{place}].item", f"there is no item '{line.item}'"))
            continue
        try:
            quantity = parse_scaled(line.quantity, clerk.edition.catalog.items[code].scale)
        except ValueError as error:
            faults.append(Fault(f"lines[{place}].quantity", str(error)))
            continue
        if quantity <= 0:
            faults.append(Fault(f"lines[{place}].quantity", "must be more than 0"))
        asked.append((code, quantity))
    return _Read(report, asked, faults)


def _book(transaction: Transaction, clerk: Clerk, read: _Read, now: datetime) -> Result:
    report = read.report
    if not read.faults and transaction.seen([(clerk.actor, report.id)]):
        return Result(Outcome.DUPLICATE)
    known = _known(transaction, report)
    if isinstance(known, Fault):
        return Result(Outcome.REFUSED, (*read.faults, known))
    if read.faults:
        return Result(Outcome.REFUSED, tuple(read.faults))
    places = transaction.positions({part.position for part in known.held})
    item_of = {id_: place.key.item for id_, place in places.items()}
    units = shares([part for part in known.held if part.receipt is None], read.asked, item_of)
    if report.kind is ReportKind.SHIPPED and any(
        share.quantity < share.held.open and not stands_alone(share.held) for share in units
    ):
        reason = "parts of a kit, and substitutes in another ratio, leave together"
        return Result(Outcome.REFUSED, (Fault("lines", reason),))
    keys = {places[share.held.position].key: None for share in units}
    room = Room(transaction, clerk, Wanted({known.record.order.id}), keys, now)
    return _Report(room, report, known, units, {part.position: places[part.position].key for part in known.held}).book()


def _known(transaction: Transaction, report: ShipmentReport) -> _Known | Fault:
    """What a report is about, with the order locked: its lock keeps all that is held for it as it is."""
    order = transaction.order_numbered([report.order]).get(report.order)
    record = None if order is None else transaction.orders([order], lock=True)[order]
    if order is None or record is None or record.state is OrderState.BASKET:
        return Fault("order", f"there is no order '{report.order}'")
    by_no = {each.shipment.no: each for each in transaction.shipments(order)}
    shipment = by_no.get(report.shipment)
    if shipment is None:
        reason = f"order '{report.order}' has no shipment {report.shipment}, or it was planned anew"
        return Fault("shipment", reason)
    held = [p for p in transaction.reservations(order) if p.shipment_no == report.shipment and p.open]
    return _Known(record, shipment, held)


class _Report:
    """One report on its way into the books."""

    def __init__(
        self,
        room: Room,
        report: ShipmentReport,
        known: _Known,
        units: Sequence[Share],
        keys: Mapping[int, PositionKey],
    ) -> None:
        self._room, self._report, self._known, self._units, self._keys = room, report, known, units, keys

    def book(self) -> Result:
        """All that follows from it."""
        report, room = self._report, self._room
        match report.kind:
            case ReportKind.SHORT | ReportKind.DECLINED:
                self._lose()
            case ReportKind.SHIPPED | ReportKind.DELIVERED | ReportKind.FAILED:
                self._send()
        known, order = self._known, self._known.record.order
        told: dict[str, Json] = {
            "order": order.number,
            "shipment": report.shipment,
            "node": known.shipment.shipment.node,
        }
        detail: dict[str, Json] = {"units": sum(share.quantity for share in self._units)}
        if report.tracking:
            detail["tracking"] = report.tracking
        room.also.milestones.append(
            Milestone(
                known.shipment.cell, order.id, room.clerk.ids.new(room.now), report.shipment, report.kind.value,
                min(report.at, room.now), room.clerk.actor, detail,
            )
        )  # fmt: skip
        room.also.events.append(Event(f"shipment.{report.kind.value}", str(order.id), {**told, **detail}, order.cell))
        room.record(
            "shipment.report", {**told, "kind": report.kind.value}, messages_seen=[(room.clerk.actor, report.id)]
        )
        changed = self._units or room.also.stages
        return Result(Outcome.BOOKED if changed else Outcome.UNCHANGED)

    def _lose(self) -> None:
        """Units are not found, or declined: they leave the reservation, and the order goes on without the node."""
        room, known = self._room, self._known
        target, cause = GOES[self._report.kind]
        said = Statement(cause, room.batch, min(self._report.at, room.now))
        for share in self._units:
            room.tally(self._keys[share.held.position]).move(Account.RESERVED, target, share.quantity, said)
            room.also.breaks.append(Break(share.held, share.quantity))
            if target is Account.BLOCKED:
                cell = room.clerk.cell_of(self._keys[share.held.position].node)
                room.also.count_tasks.append(CountTask(cell, share.held.position, room.batch))
        node = known.shipment.shipment.node
        if self._units and node not in known.record.declined:
            declined = (*known.record.declined, node)
            room.also.orders[known.record.order.id] = replace(known.record, declined=declined)

    def _send(self) -> None:
        """Units have left, with the parcel or before anybody told us; then it goes on."""
        room, record = self._room, self._known.record
        from_ = "reserved" if self._known.shipment.stage is Stage.PLANNED else "released"
        said = Statement(Cause.SHIP, room.batch, min(self._report.at, room.now))
        lines = dict(zip((line.no for line in record.order.lines), record.lines, strict=True))
        for share in self._units:
            held, quantity = share
            room.tally(self._keys[held.position]).move(Account.RESERVED, Account.OUTSIDE, quantity, said)
            room.also.ends.append(ReservationEnd(held.cell, held.owner, held.no, Ending.CONSUMED, quantity))
            served = quantity if stands_alone(held) else open_line_quantity(held)
            _move(lines, held.line_no, served, from_, "shipped")
        after = tuple(lines.values())
        if after != record.lines:
            room.also.orders[record.order.id] = replace(record, lines=after, state=state_of(after))
        if sum(part.open for part in self._known.held) == sum(share.quantity for share in self._units):
            self._go_on(AFTER[self._report.kind])
        elif self._known.shipment.stage is Stage.PLANNED:
            self._release_rest(lines)

    def _release_rest(self, lines: dict[int, Progress]) -> None:
        """A node that ships a part of what was not released yet works on the rest, too, if all of that is there."""
        if any(part.receipt is not None for part in self._known.held):
            return
        room, record = self._room, self._known.record
        sent = {share.held.no: share.quantity for share in self._units}
        for part in self._known.held:
            left = part.open - sent.get(part.no, 0)
            if left:
                served = left if stands_alone(part) else open_line_quantity(part)
                _move(lines, part.line_no, served, "reserved", "released")
        after = tuple(lines.values())
        room.also.orders[record.order.id] = replace(record, lines=after, state=state_of(after))
        self._go_on(Stage.RELEASED)

    def _go_on(self, stage: Stage) -> None:
        """To a stage that may follow; what has gone further already stays there."""
        known = self._known.shipment
        if stage in STAGES[known.stage]:
            change = StageChange(known.cell, known.owner, known.shipment.no, known.stage, stage)
            self._room.also.stages.append(change)
