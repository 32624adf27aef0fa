"""Execution: what nodes and carriers report of shipments is booked.

Keeps laws 1, 4, 5, 6, 9 and 13. A report is judged by what has happened already (core.fulfilment): one that comes
late, twice or before the one it depends on ends in the same books. Units that a node does not find are blocked where
they should be and somebody must count there; what it declines is free again; either way the rest of the order is back
in the queue in the same commit, without that node. What has left is gone whatever we had asked for: units beyond that
serve what waits of the order, or leave an incident.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from poolwise.core.counting import Break, Statement, Tally
from poolwise.core.fulfilment import HELD_BACK, STAGES, Share, Stage, shares
from poolwise.core.ledger import Account, Cause, PositionKey, Reservation, ReservationKind
from poolwise.core.messages import ReportKind, ShipmentReport
from poolwise.core.orders import OrderState, state_of
from poolwise.core.returns import returned
from poolwise.core.values import Fault, Json, Quantity, replace
from poolwise.flows.breaking import open_line_quantity, stands_alone
from poolwise.flows.parcels import contradictions, fields_of, parcels_left, read_lines, read_parcels
from poolwise.flows.ports import (
    Answer,
    Books,
    CountTask,
    Effects,
    Ending,
    Event,
    Incident,
    Milestone,
    OrderRecord,
    PickOutcome,
    ReservationEnd,
    ShipmentRecord,
    StageChange,
    Transaction,
)
from poolwise.flows.stock import Outcome, Result, is_counted
from poolwise.flows.tallying import Clerk, Room, Wanted, in_transaction, untimely

AFTER: Final = {
    ReportKind.PICKED: Stage.PICKED,
    ReportKind.READY: Stage.READY,
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

LEAVES: Final = frozenset({ReportKind.SHIPPED, ReportKind.DELIVERED, ReportKind.FAILED})
"""What says that goods have left the node."""

NOTED: Final = frozenset({ReportKind.ACCEPTED, ReportKind.ARRIVED})
"""What is kept as a milestone, and changes nothing else."""

NAMES_LINES: Final = frozenset({ReportKind.SHORT, ReportKind.SHIPPED})


@dataclass(frozen=True, slots=True)
class _Known:
    """What a report is about: the order under lock, its shipment, and every reservation that was ever in it."""

    record: OrderRecord
    shipment: ShipmentRecord
    parts: Sequence[Reservation]

    def says_it_left(self, kind: ReportKind) -> bool:
        """Whether a report says that goods have left their node: what waits on its own shelf is there until then."""
        if self.shipment.waits_on_its_shelf:
            return kind in LEAVES and kind is not ReportKind.FAILED
        return kind in LEAVES or kind is ReportKind.READY

    @property
    def held(self) -> list[Reservation]:
        """What is still set aside for it."""
        return [part for part in self.parts if part.open]


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

    def work(transaction: Transaction, wanted: Wanted, at: datetime) -> Result:
        found = _book(transaction, clerk, read, wanted, at)
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
    faults += untimely("at", report.at, now)
    if report.kind is ReportKind.SHORT and not report.lines:
        faults.append(Fault("lines", "names what was not found"))
    if report.lines and report.kind not in NAMES_LINES:
        faults.append(Fault("lines", f"{report.kind.value} is of the whole shipment"))
    if report.node and report.kind is not ReportKind.ARRIVED:
        faults.append(Fault("node", "is named by what has arrived there, and by nothing else"))
    if not report.node and report.kind is ReportKind.ARRIVED:
        faults.append(Fault("node", "names where it has arrived"))
    asked, wrong = read_lines(clerk, report.lines, "lines")
    parcels, packed, unfit = read_parcels(clerk, report)
    faults += [*wrong, *unfit] or contradictions(report, asked, packed)
    return _Read(replace(report, parcels=parcels), asked or packed, faults)


def _book(transaction: Transaction, clerk: Clerk, read: _Read, wanted: Wanted, now: datetime) -> Result:
    report = read.report
    if not read.faults and transaction.seen([(clerk.actor, report.id)]):
        return Result(Outcome.DUPLICATE)
    known = _known(transaction, report, wanted)
    if isinstance(known, Fault):
        return Result(Outcome.REFUSED, (*read.faults, known))
    if read.faults:
        return Result(Outcome.REFUSED, tuple(read.faults))
    places = transaction.positions({part.position for part in known.parts})
    keys = {id_: place.key for id_, place in places.items()}
    units = _units(known, read, {id_: key.item for id_, key in keys.items()})
    faults = _misfits(read, units, {key.item for key in keys.values()}) + _out_of_place(report, known, clerk)
    if faults:
        return Result(Outcome.REFUSED, tuple(faults))
    room = Room(transaction, clerk, wanted, {keys[id_]: None for id_ in units.positions(keys)}, now)
    return _Report(room, report, known, units, keys).book()


def _known(transaction: Transaction, report: ShipmentReport, wanted: Wanted) -> _Known | Fault:
    """What a report is about, with the order locked: its lock keeps all that is held for it as it is."""
    order = transaction.order_numbered([report.order]).get(report.order)
    if order is None:
        return Fault("order", f"there is no order '{report.order}'")
    wanted.orders.add(order)
    record = transaction.orders(sorted(wanted.orders), lock=True)[order]
    if record.state is OrderState.BASKET:
        return Fault("order", f"there is no order '{report.order}'")
    by_no = {each.shipment.no: each for each in transaction.shipments(order)}
    shipment = by_no.get(report.shipment)
    if shipment is None:
        reason = f"order '{report.order}' has no shipment {report.shipment}, or it was planned anew"
        return Fault("shipment", reason)
    parts = [part for part in transaction.reservations(order) if part.shipment_no == report.shipment]
    return _Known(record, shipment, parts)


@dataclass(frozen=True, slots=True)
class _Units:
    """The units that a report is about: held still; of those that have left before, taken for sent, and what cannot
    have left without them; and by item what is in no reservation of the shipment (any more)."""

    held: Sequence[Share] = ()
    sent: Sequence[Share] = ()
    with_them: Sequence[Share] = ()
    beyond: Mapping[str, Quantity] = field(default_factory=dict)

    def positions(self, keys: Mapping[int, PositionKey]) -> set[int]:
        """Where these units are, or were."""
        found = {share.held.position for share in (*self.held, *self.sent, *self.with_them)}
        return found | {_shelf(keys, item) for item in self.beyond}


def _shelf(keys: Mapping[int, PositionKey], item: str) -> int:
    """Where units of an item are thought to come from that no reservation names: the first of its positions."""
    return min(id_ for id_, key in keys.items() if key.item == item)


def _units(known: _Known, read: _Read, item_of: Mapping[int, str]) -> _Units:
    kind, asked = read.report.kind, read.asked
    if kind in NOTED:
        return _Units()
    has_left = known.says_it_left(kind)
    if not asked and has_left and known.shipment.stage is Stage.CANCELLED:
        # It went although it was cancelled: all that was.
        asked = [(item_of[part.position], part.freed) for part in known.parts if part.freed and stands_alone(part)]
    on_hand = [part for part in known.parts if part.receipt is None]
    held = shares(on_hand, asked, item_of)
    if known.shipment.stage is Stage.CANCELLED and not asked:
        held = []
    rest: dict[str, Quantity] = {}
    for item, quantity in asked:
        rest[item] = rest.get(item, 0) + quantity
    for share in held:
        item = item_of[share.held.position]
        rest[item] = rest.get(item, 0) - share.quantity
    beyond = {item: units for item, units in rest.items() if units > 0 and asked}
    sent, with_them = list[Share](), list[Share]()
    if has_left:
        for part in on_hand:
            # What has left already is not told anew.
            item = item_of[part.position]
            beyond[item] = max(0, beyond.get(item, 0) - part.consumed)
    else:
        sent, with_them = _taken_for_sent(on_hand, beyond, item_of, returned(known.record.returns))
        for share in sent:
            beyond[item_of[share.held.position]] -= share.quantity
        for item, units in beyond.items():
            beyond[item] = min(units, sum(part.freed for part in on_hand if item_of[part.position] == item))
    return _Units(held, sent, with_them, {item: units for item, units in beyond.items() if units})


def _taken_for_sent(
    parts: Sequence[Reservation],
    missing: Mapping[str, Quantity],
    item_of: Mapping[int, str],
    back: Mapping[int, Quantity],
) -> tuple[list[Share], list[Share]]:
    """Of what has left, units that a node says it does not have; and what is freed with them, as if it had said so
    first: the rest of a line of which no part goes without the others. What has come `back` had left."""
    left, sent = dict(missing), list[Share]()
    together = {part.line_no for part in parts if not stands_alone(part)}
    went = {part.line_no for part in parts if back.get(part.no)} & together
    for part in parts:
        item = item_of[part.position]
        units = 0 if part.line_no in went else min(part.consumed - back.get(part.no, 0), left.get(item, 0))
        if units:
            sent.append(Share(part, units))
            left[item] -= units
    units_of = {share.held.no: share.quantity for share in sent}
    lines = {share.held.line_no for share in sent} & together
    rest = [Share(part, part.consumed - units_of.get(part.no, 0)) for part in parts if part.line_no in lines]
    return sent, [share for share in rest if share.quantity]


def _misfits(read: _Read, units: _Units, items: Collection[str]) -> list[Fault]:
    """Lines that cannot be of this shipment."""
    kind = read.report.kind
    faults = [
        Fault(f"{field}.item", f"{item} was never in this shipment")
        for field, (item, _) in zip(fields_of(read.report), read.asked, strict=True)
        if item not in items
    ]
    if kind is ReportKind.SHIPPED and any(
        share.quantity < share.held.open and not stands_alone(share.held) for share in units.held
    ):
        faults.append(Fault("lines", "parts of a kit, and substitutes in another ratio, leave together"))
    return faults


def _out_of_place(report: ShipmentReport, known: _Known, clerk: Clerk) -> list[Fault]:
    """What cannot happen to this shipment where it is, or goes."""
    record = known.shipment
    what = f"shipment {report.shipment} of order '{report.order}'"
    if report.kind is ReportKind.READY and not record.collect_at:
        return [Fault("kind", f"{what} is brought to the customer; nothing of it waits to be collected")]
    if report.kind is ReportKind.ARRIVED:
        lanes = [lane for code in record.shipment.lanes if (lane := clerk.edition.network.lanes.get(code))]
        stops = {lane.destination for lane in lanes if lane.to_node} | {record.collect_at} - {""}
        if report.node not in stops:
            ways = ", ".join(sorted(stops)) or "no node"
            return [Fault("node", f"{what} does not come to '{report.node}'; on its way it passes {ways}")]
    return []


class _Report:
    """One report on its way into the books."""

    def __init__(
        self, room: Room, report: ShipmentReport, known: _Known, units: _Units, keys: Mapping[int, PositionKey]
    ) -> None:
        self._room, self._report, self._known, self._units, self._keys = room, report, known, units, keys
        self._lines = dict(zip((line.no for line in known.record.order.lines), known.record.lines, strict=True))
        positions = units.positions(keys)
        self._marks = room.transaction.count_marks(sorted(positions)) if positions else {}
        self._said = Statement(Cause.SHIP, room.batch, min(report.at, room.now))

    def book(self) -> Result:
        """All that follows from it."""
        report, room, known = self._report, self._room, self._known
        outcome = self._follow()
        self._learn()
        order = known.record.order
        told: dict[str, Json] = {
            "order": order.number,
            "shipment": report.shipment,
            "node": known.shipment.shipment.node,
        }
        if known.shipment.collect_at:
            told["collect_at"] = known.shipment.collect_at
        units = sum(share.quantity for share in (*self._units.held, *self._units.sent))
        detail = self._detail(units + sum(self._units.beyond.values()), outcome)
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
        in_hand = report.kind is ReportKind.PICKED or (
            report.kind is ReportKind.READY and not known.says_it_left(report.kind)
        )
        changed = room.also.stages or report.kind in NOTED or (not in_hand and (units or any(self._units.beyond)))
        return Result(outcome if changed or outcome is Outcome.CANCELLED else Outcome.UNCHANGED)

    def _follow(self) -> Outcome:
        """Do what follows from its kind, where the shipment stands now."""
        kind, known = self._report.kind, self._known
        is_cancelled, has_left = known.shipment.stage is Stage.CANCELLED, known.says_it_left(kind)
        match kind:
            case ReportKind.ACCEPTED | ReportKind.ARRIVED:
                return Outcome.BOOKED
            case ReportKind.SHORT | ReportKind.DECLINED:
                self._lose()
            case ReportKind.FAILED if not has_left:
                self._take_back()
            case ReportKind.SHIPPED | ReportKind.DELIVERED | ReportKind.FAILED:
                self._send()
            case ReportKind.READY if has_left:
                self._send()
                return Outcome.CANCELLED if is_cancelled else Outcome.BOOKED
            case ReportKind.PICKED | ReportKind.READY if is_cancelled:
                return Outcome.CANCELLED
            case ReportKind.PICKED | ReportKind.READY:
                self._take_in_hand(AFTER[kind])
        return Outcome.BOOKED

    def _detail(self, units: Quantity, outcome: Outcome) -> dict[str, Json]:
        """What is kept of it beside its kind."""
        report = self._report
        detail: dict[str, Json] = {"units": units}
        if report.node:
            detail["at"] = report.node
        if report.tracking:
            detail["tracking"] = report.tracking
        if outcome is Outcome.CANCELLED:
            detail["cancelled"] = True
        left = [(self._keys[share.held.position].item, share.quantity) for share in self._units.held]
        if parcels := parcels_left(self._room.clerk, report, [*left, *self._units.beyond.items()]):
            detail["parcels"] = parcels
        return detail

    def _stand(self, declined: tuple[str, ...] | None = None) -> None:
        """The order, with its lines as they are now."""
        record, lines = self._known.record, tuple(self._lines.values())
        after = replace(record, lines=lines, state=state_of(lines), declined=declined or record.declined)
        if after != record:
            self._room.also.orders[record.order.id] = after

    def _learn(self) -> None:
        """What a node found, or did not, tells how far its record is to be trusted; what it declines tells nothing.

        A line of a shipment is one pick, missed if any of it was, in however many parts and whatever order it is told.
        """
        known, kind = self._known, self._report.kind
        if not known.says_it_left(kind) and kind is not ReportKind.SHORT:
            return
        node, order = known.shipment.shipment.node, known.record.order
        items, of_line = self._room.clerk.edition.catalog.items, {line.no: line.item for line in order.lines}
        found = {part.line_no for part in known.parts if part.consumed}
        missed = {part.line_no for part in known.parts if part.broken and node in known.record.declined}
        told = {share.held.line_no: share.held.position for share in (*self._units.held, *self._units.sent)}
        for no in sorted(told.keys() - missed):
            item = items.get(of_line.get(no, ""))
            item_class = "" if item is None else item.product
            cell = self._room.tally(self._keys[told[no]]).position.cell
            if kind is ReportKind.SHORT:
                self._room.also.pick_outcomes.append(PickOutcome(cell, node, item_class, -(no in found), 1))
            elif no not in found:
                self._room.also.pick_outcomes.append(PickOutcome(cell, node, item_class, found=1))

    def _move(self, no: int, quantity: Quantity, source: str, target: str) -> None:
        """Units of a line stand elsewhere now."""
        self._lines[no] = self._lines[no].moved(quantity, source, target)

    # --- what was not found, or will not be sent

    def _lose(self) -> None:
        """Units leave the reservation, and the order goes on without the node.

        What a count has missed already is not missing once more: the count took as much from what was free.
        """
        room, known = self._room, self._known
        target, cause = GOES[self._report.kind]
        said = replace(self._said, cause=cause)
        missing: dict[int, Quantity] = {}
        self._undo_sent(target, said, missing)
        for share in self._units.held:
            counted = target is Account.BLOCKED and self._is_counted(share.held.position)
            self._block(share, Account.AVAILABLE if counted else target, said, missing)
        for item, units in self._units.beyond.items():
            # Nobody's any more; it is not there either.
            position = _shelf(self._keys, item)
            tally = self._tally(position)
            gone = 0 if self._is_counted(position) else min(units, tally.position.balance(Account.AVAILABLE))
            tally.move(Account.AVAILABLE, target, gone, said)
            missing[position] = missing.get(position, 0) + gone
        if target is Account.BLOCKED:
            for position, units in sorted(missing.items()):
                at, about = self._keys[position].node, (known.record.order.id, self._report.shipment)
                if units:
                    task = CountTask(room.clerk.cell_of(at), position, room.batch, units, at, *about)
                    room.also.count_tasks.append(task)
        if known.shipment.stage is Stage.OFFERED and self._report.kind is ReportKind.SHORT:
            self._begin_with_the_rest()
        node, declined = known.shipment.shipment.node, known.record.declined
        if (self._units.held or self._units.sent) and node not in declined:
            declined = (*declined, node)
        self._stand(declined)

    def _undo_sent(self, target: Account, said: Statement, missing: dict[int, Quantity]) -> None:
        """What was taken for sent with the rest, and never was, is lost now; what had to go with it is freed."""
        served: dict[int, Quantity] = {}
        parts = {share.held.no: share.held for share in (*self._units.sent, *self._units.with_them)}
        for share in (*self._units.sent, *self._units.with_them):
            self._tally(share.held.position).move(Account.OUTSIDE, Account.RESERVED, share.quantity, said)
            self._room.also.ends.append(_ended(share, -share.quantity))
            served[share.held.no] = served.get(share.held.no, 0) + share.quantity
        for no, units in served.items():
            part = parts[no]
            self._move(part.line_no, part.line_quantity * units // part.quantity, "shipped", "released")
        for share in self._units.sent:
            if self._is_counted(share.held.position):
                self._miss(share, said)
            else:
                self._block(share, target, said, missing)
        for share in self._units.with_them:
            self._let_go(share, said, missing)

    def _let_go(self, share: Share, said: Statement, missing: dict[int, Quantity]) -> None:
        """Units lie where they were, and are freed with what is missing of their line, unless somebody took them."""
        tally, quantity = self._tally(share.held.position), share.quantity
        if self._is_counted(share.held.position):
            if tally.position.balance(Account.AVAILABLE) < quantity:
                self._miss(share, said)
            else:
                tally.move(Account.AVAILABLE, Account.OUTSIDE, quantity, replace(said, cause=Cause.COUNT))
        elif owed := min(tally.owed(Account.AVAILABLE), quantity):
            self._block(Share(share.held, owed), Account.AVAILABLE, said, missing)

    def _miss(self, share: Share, said: Statement) -> None:
        """A count has missed units already, or has seen them for more than we knew of."""
        tally = self._tally(share.held.position)
        tally.move(Account.RESERVED, Account.OUTSIDE, share.quantity, replace(said, cause=Cause.COUNT))
        self._room.also.breaks.append(Break(share.held, share.quantity))

    def _block(self, share: Share, target: Account, said: Statement, missing: dict[int, Quantity]) -> None:
        tally = self._tally(share.held.position)
        tally.move(Account.RESERVED, target, share.quantity, said)
        # Whoever has taken blocked units away before we heard that there are any took these.
        tally.pay(target, said)
        self._room.also.breaks.append(Break(share.held, share.quantity))
        if target is Account.BLOCKED:
            missing[share.held.position] = missing.get(share.held.position, 0) + share.quantity

    def _tally(self, position: int) -> Tally:
        return self._room.tally(self._keys[position])

    def _is_counted(self, position: int) -> bool:
        """Whether a count has seen already what is reported."""
        return is_counted(self._marks.get(position), self._report.at)

    def _take_back(self) -> None:
        """Nobody has collected what waits on the shelf of its own node: it is free again, and cancelled."""
        room, known = self._room, self._known
        source = "reserved" if known.shipment.stage in HELD_BACK else "released"
        said = replace(self._said, cause=Cause.FREE)
        for share in self._units.held:
            held, quantity = share
            room.tally(self._keys[held.position]).end(held, Account.AVAILABLE, quantity, said)
            room.also.ends.append(ReservationEnd(held.cell, held.owner, held.no, Ending.FREED, quantity))
            served = quantity if stands_alone(held) else open_line_quantity(held)
            self._move(held.line_no, served, source, "cancelled")
        self._stand()
        if not self._units.held and known.shipment.stage in (Stage.SHIPPED, Stage.READY):
            self._go_on(Stage.FAILED)
        elif self._units.held and len(known.held) == len(self._units.held):
            # What had left of it before was handed out.
            has_left = any(part.consumed for part in known.parts)
            self._go_on(Stage.DELIVERED if has_left else Stage.CANCELLED)

    def _begin_with_the_rest(self) -> None:
        """Who looks for what was offered to several has taken it."""
        lost = {share.held.no: share.quantity for share in self._units.held}
        hit = {share.held.line_no for share in self._units.held}
        reservations = self._room.transaction.reservations(self._known.record.order.id)
        whole = {part.line_no for part in reservations if part.open and not stands_alone(part)} & hit
        rest = [
            (part.line_no, left if stands_alone(part) else open_line_quantity(part))
            for part in self._known.held
            if (left := part.open - lost.get(part.no, 0)) and part.line_no not in whole
        ]
        for no, served in rest:
            self._move(no, served, "reserved", "released")
        if rest:
            self._go_on(Stage.RELEASED)

    # --- what has left, or is in hand

    def _send(self) -> None:
        """Units have left, with the parcel or before anybody told us; then it goes on."""
        room, stage = self._room, self._known.shipment.stage
        if stage is Stage.CANCELLED and not self._units.beyond:
            # It was declined, or not there: nobody but the node knows what has left.
            self._tell_somebody("sent_though_declined")
            return
        held_back = stage in HELD_BACK
        for share in self._units.held:
            held, quantity = share
            tally = self._tally(held.position)
            tally.end(held, Account.OUTSIDE, quantity, self._said)
            if self._is_counted(held.position):
                tally.change(Account.OUTSIDE, Account.AVAILABLE, quantity, replace(self._said, cause=Cause.COUNT))
            room.also.ends.append(_ended(share, quantity))
            served = quantity if stands_alone(held) else open_line_quantity(held)
            self._move(held.line_no, served, "reserved" if held_back else "released", "shipped")
        for item, units in self._units.beyond.items():
            self._send_beyond(item, units)
        self._stand()
        if sum(part.open for part in self._known.held) == sum(share.quantity for share in self._units.held):
            after = AFTER[self._report.kind]
            self._go_on(Stage.SHIPPED if stage is Stage.CANCELLED and after is Stage.READY else after)
        elif held_back:
            self._take_in_hand(Stage.RELEASED)

    def _send_beyond(self, item: str, units: Quantity) -> None:
        """Units have left that we had not asked for, or not any more: they serve what waits of the order."""
        room, order = self._room, self._known.record.order
        position = _shelf(self._keys, item)
        counted = self._is_counted(position)
        self._tally(position).change(Account.AVAILABLE, Account.OUTSIDE, units, self._said, counted=counted)
        numbers = [part.no for part in room.transaction.reservations(order.id)]
        for line in order.lines:
            served = min(units, self._lines[line.no].backordered) if line.item == item else 0
            if served:
                no = max((*numbers, *(made.no for made in room.also.reservations))) + 1
                own = Reservation(
                    order.cell, order.id, no, position, served, line.no, served, ReservationKind.HARD,
                    self._report.shipment, room.now,
                )  # fmt: skip
                room.also.reservations.append(own)
                room.also.ends.append(_ended(Share(own, served), served))
                self._move(line.no, served, "backordered", "shipped")
                units -= served
        if units:
            self._tell_somebody("sent_beyond")

    def _tell_somebody(self, kind: str) -> None:
        """What the report says can only be put right by a person."""
        room, order = self._room, self._known.record.order
        room.also.incidents.append(Incident(room.clerk.ids.new(room.now), order.cell, kind, str(room.batch), order.id))

    def _take_in_hand(self, stage: Stage) -> None:
        """A node works on what is left of it, released or not; what is pledged is not there to be worked on."""
        known = self._known
        if known.shipment.stage in HELD_BACK:
            if any(part.receipt is not None for part in known.held):
                return
            sent = {share.held.no: share.quantity for share in self._units.held} if stage is Stage.RELEASED else {}
            for part in known.held:
                left = part.open - sent.get(part.no, 0)
                if left:
                    served = left if stands_alone(part) else open_line_quantity(part)
                    self._move(part.line_no, served, "reserved", "released")
            self._stand()
        self._go_on(stage)

    def _go_on(self, stage: Stage) -> None:
        """To a stage that may follow; what has gone further already stays there."""
        known = self._known.shipment
        if stage in STAGES[known.stage]:
            at = min(self._report.at, self._room.now)
            change = StageChange(known.cell, known.owner, known.shipment.no, known.stage, stage, at)
            self._room.also.stages.append(change)


def _ended(share: Share, quantity: Quantity) -> ReservationEnd:
    """Units that have left; less than none of them had not."""
    held = share.held
    return ReservationEnd(held.cell, held.owner, held.no, Ending.CONSUMED, quantity)
