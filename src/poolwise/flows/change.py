"""Changes: orders are held and let go, cancelled in part or whole, and amended, while nodes may already work on them.

Keeps laws 4, 6, 8, 12 and 13. The order is locked first, by whoever reports of its shipments, too: of a cancellation
and a pick that race, one is first, and the other is told. What can still be given up is freed in the commit of the
change: what waits first, then what is pledged, planned, and released; never what is picked or has left. A change keeps
what the order was before, so that decisions about that replay. An order of which nothing is decided yet is taken out of
the queue before it is locked, as whoever decides it does; it goes back with what is left to be sourced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

from poolwise.core.counting import Break, Statement
from poolwise.core.fulfilment import HELD_BACK, MAY_GO, Stage
from poolwise.core.ledger import Account, Cause, Reservation
from poolwise.core.messages import LineChange, OrderAmendment, OrderCancellation
from poolwise.core.orders import MOST_LINES, Blocks, Hold, Line, Order, OrderState, Progress, state_of
from poolwise.core.values import Conflict, Fault, Json, Quantity, base_to_text, replace
from poolwise.flows.breaking import open_line_quantity, stands_alone
from poolwise.flows.intake import Counter, Reader, Rejected, contact_of, first_todo
from poolwise.flows.ports import (
    OF_THE_ORDER,
    Answer,
    Books,
    Contact,
    Effects,
    Event,
    Incident,
    Milestone,
    OrderRecord,
    Queue,
    ReceiptChange,
    ShipmentRecord,
    Timer,
    TimerKind,
    Todo,
    Transaction,
)
from poolwise.flows.source import waiting_of
from poolwise.flows.tallying import Clerk, Room, Wanted, in_transaction

MOST_CHANGES: Final = 100
LONGEST_REASON: Final = 1_000
UNDECIDABLE: Final = "cannot_be_decided"
"""Code of the hold, and kind of the incident, of an order of which no plan comes."""

NAMED: Final = ("order", "other")
"""The fields that name the orders a change is of."""

Units: TypeAlias = tuple[tuple[int, Quantity], ...]
"""Units by line number."""


@dataclass(frozen=True, slots=True)
class Changed:
    """An order that was changed; of which lines how many units are cancelled by it, and how many more are wanted."""

    order: UUID
    number: str
    cancelled: Units = ()
    added: Units = ()


Outcome: TypeAlias = Changed | Rejected
Kept: TypeAlias = Callable[[Outcome], Answer] | None


# --- what people ask for


def hold(books: Books, counter: Counter, number: str, held: Hold, reason: str, now: datetime, kept: Kept) -> Outcome:
    """Keep an order from being sourced, or from being released, whatever the hold names; stock stays reserved.

    A hold of the same code is replaced. `kept` makes of the outcome what is kept as the answer, as in all flows here.
    """

    return on_orders(books, counter, [number], now, kept, lambda change: _held(change, held, reason))


def _held(change: Changing, held: Hold, reason: str) -> Outcome:
    others = tuple(each for each in change.record.holds if each.code != held.code)
    change.let(replace(change.record, holds=(*others, held)))
    change.tell("held", {"hold": held.code, "blocks": list(held.blocks), "reason": reason})
    return change.done()


def lift(books: Books, counter: Counter, number: str, code: str, reason: str, now: datetime, kept: Kept) -> Outcome:
    """Let an order go on; what it may do now it does at once, if nothing else holds it."""

    def work(change: Changing) -> Outcome:
        left = tuple(each for each in change.record.holds if each.code != code)
        if left == change.record.holds:
            return Rejected("hold_unknown", (Fault("code", f"order '{number}' has no hold '{code}'"),))
        change.let(replace(change.record, holds=left))
        change.tell("hold_lifted", {"hold": code, "reason": reason})
        return change.done()

    return on_orders(books, counter, [number], now, kept, work)


def set_aside(books: Books, counter: Counter, number: str, now: datetime) -> Outcome:
    """Hold an order that cannot be decided until somebody has looked at it and lets it go; an incident tells of it."""

    def work(change: Changing) -> Outcome:
        change.incidents.append(UNDECIDABLE)
        return _held(change, Hold(UNDECIDABLE, (Blocks.SOURCING,)), "")

    return on_orders(books, counter, [number], now, None, work)


def cancel(
    books: Books,
    counter: Counter,
    message: OrderCancellation,
    now: datetime,
    kept: Kept = None,
    may_go: frozenset[Stage] = MAY_GO,
) -> Outcome:
    """Cancel units of an order, all that are named or none; no quantity means all that can still be cancelled.

    `may_go` are the stages of shipments that units may still be taken from, here and in `amend`.
    """

    def work(change: Changing) -> Outcome:
        faults = [*change.misnumbered(message.lines), *_too_long(message.reason)]
        if faults:
            return Rejected("change_invalid", tuple(faults))
        for place, (no, text) in enumerate(_asked(change, message.lines)):
            possible = change.possible(no)
            units = possible if text is None else change.quantity(f"lines[{place}].quantity", no, text)
            if units is not None and units > possible:
                change.refuse(f"lines[{place}].quantity", change.why_not(no))
            elif units:
                change.cancel(no, units)
        if refused := change.refused():
            return refused
        if not change.cancelled:
            reason = "nothing of it can be cancelled any more: it is picked, has left, or is cancelled already"
            return Rejected("too_late", (Fault("lines" if message.lines else "order", reason),))
        lines: list[Json] = [[no, units] for no, units in change.cancelled.items()]
        change.tell("cancelled", {"lines": lines, "reason": message.reason})
        return change.done()

    return on_orders(books, counter, [message.order], now, kept, work, may_go)


def _asked(change: Changing, lines: Sequence[LineChange]) -> list[tuple[int, str | None]]:
    return [(line.no, line.quantity) for line in lines] or [(line.no, None) for line in change.record.order.lines]


def amend(
    books: Books,
    counter: Counter,
    message: OrderAmendment,
    now: datetime,
    kept: Kept = None,
    may_go: frozenset[Stage] = MAY_GO,
) -> Outcome:
    """Change quantities, items, destination, service level or day of what has not left yet: all that is said, or none.

    More of something is sourced like any demand. What is planned or released is planned anew where the destination,
    the service level or the day is another; what is picked already goes where it was to go, so that is too late.
    """

    def work(change: Changing) -> Outcome:
        return _Amendment(change, counter, message, now).outcome()

    return on_orders(books, counter, [message.order], now, kept, work, may_go)


def _too_long(reason: str) -> list[Fault]:
    return [Fault("reason", f"has more than {LONGEST_REASON} characters")] if len(reason) > LONGEST_REASON else []


class _Amendment:
    """What an amendment says, applied to an order."""

    def __init__(self, change: Changing, counter: Counter, message: OrderAmendment, now: datetime) -> None:
        self._change, self._counter, self._message, self._now = change, counter, message, now
        self._reader = Reader(counter)

    def outcome(self) -> Outcome:
        """All of it, or every reason why not."""
        change, message = self._change, self._message
        faults = [*change.misnumbered(message.lines), *_too_long(message.reason)]
        if not faults and len(change.record.former) >= MOST_CHANGES:
            faults.append(Fault("order", f"was changed {MOST_CHANGES} times already"))
        if faults:
            return Rejected("change_invalid", tuple(faults))
        order = self._directed(change.record.order)
        redirected = order != change.record.order
        wanted = self._wanted(order)
        if self._reader.faults:
            return Rejected("change_invalid", tuple(self._reader.faults))
        if redirected:
            change.give_up_everything()
        elif message.ship_to is not None and all(
            line.shipped + line.cancelled == line.ordered for line in change.lines.values()
        ):
            change.refuse("ship_to", "nothing is left to be sent there")
        if change.faults:
            return Rejected("too_late", tuple(change.faults))
        before = change.record.order
        after = replace(order, lines=wanted)
        if after == before and not change.cancelled and message.ship_to is None:
            return Rejected("change_invalid", (Fault("", "it changes nothing"),))
        if after != before or message.ship_to is not None:
            change.amend(after, contact_of(self._counter, message.ship_to, self._now) if message.ship_to else None)
        change.tell("changed", self._told(before, after))
        return change.done()

    def _directed(self, order: Order) -> Order:
        """The order with its new destination, service level and day."""
        message, reader = self._message, self._reader
        if message.zone or message.ship_to is not None or message.collect_at:
            zone = reader.place(message)
            order = order if zone is None else replace(order, zone=zone)
        if message.service_level:
            known = self._counter.policy.service_levels
            if message.service_level not in known:
                has = ", ".join(sorted(known)) or "none"
                reader.fault("service_level", f"the policy has no '{message.service_level}'; it has {has}")
            order = replace(order, service_level=message.service_level)
        if message.requested_date is not None:
            order = replace(order, requested_date=message.requested_date)
        return order

    def _wanted(self, order: Order) -> tuple[Line, ...]:
        """The lines: more of some, less of others (which is cancelled of what is there), and new ones."""
        change = self._change
        lines = {line.no: line for line in order.lines}
        for place, asked in enumerate(self._message.lines):
            path, line = f"lines[{place}]", lines[asked.no]
            if asked.item:
                self._exchange(path, line, asked, lines)
                continue
            if asked.quantity is None:
                self._reader.fault(f"{path}.quantity", "say how much is wanted")
                continue
            units = self._reader.quantity(f"{path}.quantity", line.item, "", asked.quantity)
            wanted = line.quantity - change.lines[line.no].cancelled
            if units is not None and units > wanted:
                # A declared weight is that of the whole line.
                weight = line.weight_ug and line.weight_ug * (line.quantity + units - wanted) // line.quantity
                lines[line.no] = replace(line, quantity=line.quantity + units - wanted, weight_ug=weight)
            elif units is not None and wanted - units > change.possible(line.no):
                change.refuse(f"{path}.quantity", change.why_not(line.no))
            elif units is not None and units < wanted:
                change.cancel(line.no, wanted - units)
        for line in self._added(len(lines)):
            lines[line.no] = line
        if len(lines) > MOST_LINES:
            self._reader.fault("add", f"an order has at most {MOST_LINES} lines")
        return tuple(lines.values())

    def _exchange(self, path: str, line: Line, asked: LineChange, lines: dict[int, Line]) -> None:
        """Another item in place of what can still be cancelled of a line."""
        change, reader = self._change, self._reader
        item = reader.item(f"{path}.item", asked.item)
        possible = change.possible(line.no)
        if item is None:
            return
        if not possible:
            change.refuse(path, change.why_not(line.no))
            return
        units: Quantity | None = possible
        if asked.quantity is not None:
            units = reader.quantity(f"{path}.quantity", item, "", asked.quantity)
        if units is not None:
            change.cancel(line.no, possible)
            no = len(lines) + 1
            lines[no] = Line(no, item, units, None, None, line.substitutes, line.together)

    def _added(self, known: int) -> list[Line]:
        if not self._message.add:
            return []
        place, faults = len(self._reader.faults), self._reader.faults
        read = self._reader.lines(self._message.add, self._message.currency)
        faults[place:] = [Fault(f"add{fault.field.removeprefix('lines')}", fault.reason) for fault in faults[place:]]
        return [replace(line, no=known + n) for n, line in enumerate(read, start=1)]

    def _told(self, before: Order, after: Order) -> dict[str, Json]:
        """What is different, in a few words; of an address nothing but the zone (law 17)."""
        told: dict[str, Json] = {"reason": self._message.reason} if self._message.reason else {}
        for name in ("zone", "service_level", "requested_date"):
            old, new = getattr(before, name), getattr(after, name)
            if old != new:
                told[name] = [None if old is None else str(old), None if new is None else str(new)]
        if self._message.ship_to is not None:
            told["address"] = "changed"
        if self._change.cancelled:
            told["cancelled"] = [[no, units] for no, units in self._change.cancelled.items()]
        if self._change.added:
            told["added"] = [[no, units] for no, units in self._change.added.items()]
        return told


# --- an order under change


def on_orders(
    books: Books,
    counter: Counter,
    numbers: Sequence[str],
    now: datetime,
    kept: Kept,
    work: Callable[..., Outcome],
    may_go: frozenset[Stage] = MAY_GO,
) -> Outcome:
    """Do something to orders, in one transaction. `work` gets them locked, as they stand; none of them is cancelled."""
    clerk = Clerk(counter.edition, counter.ids, counter.sender)

    def tried(transaction: Transaction, wanted: Wanted, at: datetime) -> Outcome:
        found = _locked(transaction, numbers, wanted, at)
        changes = [
            Changing(transaction, counter, clerk, wanted, each, at, may_go)
            for each in found
            if isinstance(each, OrderRecord)
        ]
        unknown = tuple(each for each in found if isinstance(each, Fault))
        over = [
            Fault(name, f"order '{each.record.order.number}' is cancelled")
            for name, each in zip(NAMED, changes, strict=False)
            if each.record.state is OrderState.CANCELLED
        ]
        outcome: Outcome
        if unknown:
            outcome = Rejected("order_unknown", unknown)
        elif over:
            outcome = Rejected("too_late", tuple(over))
        else:
            outcome = work(*changes)
        if kept is not None:
            transaction.record(Effects(at=at, answers=[kept(outcome)]))
        if isinstance(outcome, Rejected):
            for change in changes:
                change.put_back()
        return outcome

    return in_transaction(books, now, tried)


def _locked(
    transaction: Transaction, numbers: Sequence[str], wanted: Wanted, at: datetime
) -> list[OrderRecord | Fault]:
    """The orders of these numbers under lock. Whoever decides one takes it out of the queue and then locks it: so do
    we, with all that nobody has decided yet."""
    ids = transaction.order_numbered(numbers)
    before = transaction.orders(ids.values()) if ids else {}
    undecided = [record.order for record in before.values() if _is_undecided(record)]
    if undecided:
        queues = (Queue.ONCE, Queue.WAVE)
        transaction.record(
            Effects(at=at, taken=[(each.cell, each.id, queue) for each in undecided for queue in queues])
        )
    known = {id_ for id_, record in before.items() if record.state is not OrderState.BASKET}
    wanted.orders |= known
    records = transaction.orders(sorted(wanted.orders), lock=True) if known else {}
    if any(_is_undecided(records[id_]) != _is_undecided(before[id_]) for id_ in known):
        raise Conflict("somebody decided the order meanwhile")
    return [
        records[ids[number]] if ids.get(number) in known else Fault(name, f"there is no order '{number}'")
        for name, number in zip(NAMED, numbers, strict=False)
    ]


def _is_undecided(record: OrderRecord) -> bool:
    return record.attempt == 0 and record.state in (OrderState.RECEIVED, OrderState.WAITING)


@dataclass(slots=True)
class Changing:
    """An order under lock while it is changed: what is given up, what is cancelled, and where its lines stand then."""

    transaction: Transaction
    counter: Counter
    clerk: Clerk
    wanted: Wanted
    record: OrderRecord
    now: datetime
    may_go: frozenset[Stage]
    lines: dict[int, Progress] = field(init=False)
    cancelled: dict[int, Quantity] = field(default_factory=dict)
    added: dict[int, Quantity] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    incidents: list[str] = field(default_factory=list)
    misread: list[Fault] = field(default_factory=list)
    shipments: Mapping[int, ShipmentRecord] = field(init=False)
    held: Sequence[Reservation] = field(init=False)
    _given: dict[int, Quantity] = field(default_factory=dict)
    _of_held: dict[int, Quantity] = field(default_factory=dict)
    _let: OrderRecord | None = None
    _amended: OrderRecord | None = None
    _contact: Contact | None = None
    _told: list[tuple[str, dict[str, Json]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read what is held for the order."""
        id_ = self.record.order.id
        self.lines = dict(zip((line.no for line in self.record.order.lines), self.record.lines, strict=True))
        self.shipments = {each.shipment.no: each for each in self.transaction.shipments(id_)}
        self.held = [part for part in self.transaction.reservations(id_) if part.open]

    # What is asked

    def misnumbered(self, lines: Sequence[LineChange]) -> list[Fault]:
        """Lines that the order does not have, or that are named twice."""
        numbers = [line.no for line in lines]
        return [
            Fault(f"lines[{place}].no", f"the order has no line {no}" if no not in self.lines else "is named twice")
            for place, no in enumerate(numbers)
            if no not in self.lines or no in numbers[:place]
        ]

    def refuse(self, path: str, reason: str) -> None:
        """Note why something cannot be done any more."""
        self.faults.append(Fault(path, reason))

    def refused(self) -> Rejected | None:
        """What is wrong with what is asked, whatever has happened meanwhile, or else why it comes too late."""
        faults = (*self.misread, *self.faults)
        return Rejected("change_invalid" if self.misread else "too_late", faults) if faults else None

    def quantity(self, path: str, no: int, text: str) -> Quantity | None:
        """Base units of a text, at most as many as the line ever had; or None and a fault."""
        reader, item, ever = Reader(self.counter), self.line(no).item, self.lines[no].ordered
        units = reader.quantity(path, item, "", text)
        if units is not None and units > ever:
            scale = self.clerk.edition.catalog.items[item].scale
            reader.fault(path, f"{text} is more than the {base_to_text(ever, scale)} of the line")
        self.misread += reader.faults
        return None if reader.faults else units

    def line(self, no: int) -> Line:
        """The line of this number."""
        return next(line for line in self.record.order.lines if line.no == no)

    def possible(self, no: int) -> Quantity:
        """Units of a line that can still be given up."""
        progress = self.lines[no]
        return progress.open + progress.backordered + sum(open_line_quantity(part) for part in self._loose(no))

    def why_not(self, no: int) -> str:
        """Why no more of a line can be given up."""
        item, progress = self.line(no).item, self.lines[no]
        scale = self.clerk.edition.catalog.items[item].scale
        in_hand = progress.released - sum(
            open_line_quantity(part) for part in self._loose(no) if self._stage(part) not in HELD_BACK
        )
        units = [
            f"{base_to_text(quantity, scale)} {what}"
            for quantity, what in (
                (in_hand, "picked"),
                (progress.shipped, "shipped"),
                (progress.cancelled, "cancelled"),
            )
            if quantity
        ]
        rest = f": of {base_to_text(progress.ordered, scale)} there are {', '.join(units)}" if units else ""
        return f"at most {base_to_text(self.possible(no), scale)} can still be given up{rest}"

    def _stage(self, part: Reservation) -> Stage:
        return self.shipments[part.shipment_no].stage

    def _loose(self, no: int) -> list[Reservation]:
        """What is held for a line and may still be given up: of pledges, what is planned, what is released, newest
        first. Parts that belong together go together or not at all."""
        parts = [part for part in self.held if part.line_no == no]
        loose = [part for part in parts if self._stage(part) in self.may_go]
        if len(loose) < len(parts) and not all(stands_alone(part) for part in parts):
            return []
        ranks = {part.no: (part.receipt is None, self._stage(part) not in HELD_BACK, -part.no) for part in loose}
        return sorted(loose, key=lambda part: ranks[part.no])

    # What is done

    def cancel(self, no: int, units: Quantity) -> None:
        """Cancel units of a line that can be given up: those that wait first."""
        assert 0 < units <= self.possible(no), "only what is possible is cancelled"
        self.cancelled[no] = self.cancelled.get(no, 0) + units
        progress = self.lines[no]
        of_open = min(units, progress.open)
        of_waiting = min(units - of_open, progress.backordered)
        self.lines[no] = replace(
            progress,
            open=progress.open - of_open,
            backordered=progress.backordered - of_waiting,
            cancelled=progress.cancelled + of_open + of_waiting,
        )
        left = units - of_open - of_waiting
        if left:
            self._of_held[no] = left
            self._give(no, left)

    def _give(self, no: int, units: Quantity) -> None:
        for part in self._loose(no):
            if not stands_alone(part):
                # All parts of the line go with it, and what was not cancelled of it is sourced again.
                self._given[part.no] = part.open
                return
            given = min(units, part.open)
            if given:
                self._given[part.no] = given
                units -= given

    def give_up_everything(self) -> None:
        """All that is planned or released is to be planned anew; notes why not, where something is picked."""
        late = sorted({part.shipment_no for part in self.held if self._stage(part) not in self.may_go})
        for no in late:
            shipment = self.shipments[no]
            self.refuse("order", f"shipment {no} from {shipment.shipment.node} is {shipment.stage.value} already")
        self._given = {part.no: part.open for part in self.held if self._stage(part) in self.may_go}

    def let(self, record: OrderRecord) -> None:
        """Hold the order, or let it go."""
        self._let = record

    def amend(self, after: Order, contact: Contact | None) -> None:
        """The order is another one from now on; what is more of it is open."""
        record = self.record
        after = after if contact is None else replace(after, contact=contact.id)
        self._contact = contact
        for line in after.lines:
            progress = self.lines.get(line.no, Progress(0))
            more = line.quantity - progress.ordered
            if more:
                self.added[line.no] = more
                where = "open" if record.state in (OrderState.RECEIVED, OrderState.WAITING) else "backordered"
                grown = {"ordered": line.quantity, where: getattr(progress, where) + more}
                self.lines[line.no] = replace(progress, **grown)
        self._amended = replace(record, order=after, former=(*record.former, (record.attempt, record.order)))

    def tell(self, kind: str, detail: dict[str, Json]) -> None:
        """Note what is done, for the timeline and the feed."""
        self._told.append((kind, {name: value for name, value in detail.items() if value != ""}))

    def put_back(self) -> None:
        """Nothing is changed: what was taken out of the queue for that is in it again."""
        todo = self.todo_of(self.record)
        if _is_undecided(self.record) and todo is not None:
            self.transaction.record(Effects(at=self.now, todo=[todo]))

    def done(self) -> Changed:
        """Record all of it."""
        parts = [part for part in self.held if self._given.get(part.no)]
        keys = {p.id: p.key for p in self.transaction.positions({part.position for part in parts}).values()}
        room = Room(self.transaction, self.clerk, self.wanted, dict.fromkeys(keys.values()), self.now)
        self._end(room, parts, keys)
        record = self._amended or self.record
        lines = tuple(self.lines[line.no] for line in record.order.lines)
        after = replace(record, lines=lines, state=settled(record, lines))
        held = after if self._let is None else replace(after, holds=self._let.holds)
        also, id_ = room.also, record.order.id
        if self._amended is not None:
            also.amended.append(after)
        if self._contact is not None:
            also.contacts.append(self._contact)
        if parts or after != self.record:
            also.orders[id_] = held
        if self._let is not None:
            also.held.append(held)
        self._queue(room, held, bool(parts))
        self._report(room, parts)
        action = f"order.{self._told[0][0]}"
        room.record(action, {"order": record.order.number, **{k: v for _, told in self._told for k, v in told.items()}})
        return Changed(id_, record.order.number, tuple(self.cancelled.items()), tuple(self.added.items()))

    def _end(self, room: Room, parts: Sequence[Reservation], keys: Mapping[int, object]) -> None:
        """Free what is given up."""
        if not parts:
            return
        pledged = sorted({part.receipt for part in parts if part.receipt is not None})
        receipts = self.transaction.receipts(pledged, lock=True) if pledged else {}
        said = Statement(Cause.FREE, room.batch, self.now)
        places = self.transaction.positions(keys)
        for part in parts:
            units = self._given[part.no]
            target = Account.AVAILABLE if part.receipt is None else Account.EXPECTED
            room.tally(places[part.position].key).end(part, target, units, said)
            room.also.breaks.append(Break(part, units))
            if part.receipt is not None:
                change = ReceiptChange(receipts[part.receipt].cell, part.receipt, pledged=-units)
                room.also.receipt_changes.append(change)
        room.also.given_up[self.record.order.id] = dict(self._of_held)

    def todo_of(self, record: OrderRecord) -> Todo | None:
        """The queue row of what is to be sourced of an order; it is looked at again under the order's lock."""
        rest = waiting_of(record)
        if not rest or record.is_held(Blocks.SOURCING):
            return None
        first = first_todo(self.counter.policy, record.order, self.now, 0)
        queue = first.queue if record.attempt == 0 and not record.former else Queue.ONCE
        return replace(first, queue=queue, open=rest, attempt=record.attempt + 1, without=record.declined, changed=True)

    def _queue(self, room: Room, record: OrderRecord, gave_up: bool) -> None:
        """What is to be sourced waits for it; what is to be released is looked at."""
        todo = self.todo_of(record)
        lifted = self._let is not None and len(self._let.holds) <= len(self.record.holds)
        if todo is not None and (record.attempt == 0 or self.added or lifted):
            room.also.todo.append(todo)
        elif todo is None and not gave_up and record.attempt:
            room.also.taken.append((record.order.cell, record.order.id, Queue.STOCK))
        if lifted and any(self._stage(part) is Stage.PLANNED for part in self.held):
            room.also.timers.append(Timer(record.order.cell, TimerKind.RELEASE, record.order.id, self.now))

    def _report(self, room: Room, parts: Sequence[Reservation]) -> None:
        """Tell of it: in the timeline, on the feed, and to nodes that lose work."""
        order = self.record.order
        for kind, detail in self._told:
            told: dict[str, Json] = {"order": order.number, **detail}
            id_ = room.clerk.ids.new(self.now)
            milestone = Milestone(
                order.cell, order.id, id_, OF_THE_ORDER, kind, self.now, room.clerk.actor, detail
            )  # fmt: skip
            room.also.milestones.append(milestone)
            room.also.events.append(Event(f"order.{kind}", str(order.id), told, order.cell))
        for kind in self.incidents:
            incident = Incident(room.clerk.ids.new(self.now), order.cell, kind, str(room.batch), order.id)
            room.also.incidents.append(incident)
        for no in sorted({part.shipment_no for part in parts if self._stage(part) not in HELD_BACK}):
            told = {"order": order.number, "shipment": no, "node": self.shipments[no].shipment.node}
            room.also.events.append(Event("shipment.changed", str(order.id), told, order.cell))


def settled(record: OrderRecord, lines: tuple[Progress, ...]) -> OrderState:
    """The state of an order after a change: one that waits for a wave still does."""
    state = state_of(lines)
    return record.state if state is OrderState.RECEIVED and record.state is OrderState.WAITING else state
