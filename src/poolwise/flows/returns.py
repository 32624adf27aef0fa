"""Returns and exchanges: announced, received, inspected, over; each said once, in any order.

Keeps laws 1, 4, 5, 6, 9 and 12. An announcement is refused with all that is wrong with it; goods that are there are
booked, announced or not: from outside to the blocked units of a position at the node they came to, in the pool and lot
they had left from. What becomes of them is booked when both is known, that they came and what becomes of them. What
replaces them is an order of its own, accepted in the commit of the announcement and sourced like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final, TypeVar

from poolwise.core.catalog import Catalog
from poolwise.core.counting import Statement
from poolwise.core.ledger import Account, Cause, PositionKey
from poolwise.core.messages import DisposedLine, ReturnedLine, ReturnInspection, ReturnNotice, ReturnReceipt
from poolwise.core.orders import Order, OrderState
from poolwise.core.policy.terms import Disposition
from poolwise.core.returns import (
    LEFT,
    TRANSITIONS,
    Came,
    Disposed,
    Exchange,
    Ineligible,
    Part,
    Return,
    ReturnLine,
    ReturnState,
    Sent,
    Went,
    catch_up,
    dispose,
    ineligible,
    receive,
    route,
    sent_by,
    settled,
    value_of,
)
from poolwise.core.values import LARGEST_QUANTITY, Fault, Json, Quantity, parse_scaled, replace
from poolwise.flows.intake import Counter, Rejected, accept_with
from poolwise.flows.ports import (
    OF_THE_ORDER,
    RETURN,
    Answer,
    Audit,
    Books,
    Effects,
    Event,
    Incident,
    Milestone,
    OrderRecord,
    ReturnRecord,
    Transaction,
)
from poolwise.flows.stock import is_counted
from poolwise.flows.tallying import Clerk, Room, Wanted, in_transaction, untimely

_Line = TypeVar("_Line", ReturnedLine, DisposedLine)

INVALID: Final = "return_invalid"
MOST_LINES: Final = 2_000
LONGEST_NUMBER: Final = 100

WHY: Final = {
    Ineligible.NOT_SHIPPED: "nothing of it has left",
    Ineligible.MORE_THAN_SHIPPED: "more than has left and is not back, or announced, already",
    Ineligible.WINDOW_OVER: "the time to return it is over",
    Ineligible.NOT_RETURNABLE: "it does not come back, says the policy",
}


class Outcome(StrEnum):
    """What became of a message about a return. What is `KEPT` has its effect when the goods come."""

    BOOKED = "booked"
    KEPT = "kept"
    UNCHANGED = "unchanged"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Announced:
    """A return on record, where its goods go, and the number of what replaces them; `known` tells it was before."""

    number: str
    node: str
    exchange: str = ""
    known: bool = False


@dataclass(frozen=True, slots=True)
class Booked:
    """What became of what was told of a return."""

    outcome: Outcome
    number: str


Keep = Callable[[Announced | Booked | Rejected], Answer]
"""Makes of what came of it what is kept as the answer; it commits with it."""


# --- announcing


def announce(
    books: Books, counter: Counter, notice: ReturnNotice, now: datetime, answer: Keep | None = None
) -> Announced | Rejected:
    """Take in that goods will come back, or refuse it with every reason. The same again is the same return."""

    def work(transaction: Transaction, _wanted: Wanted, at: datetime) -> Announced | Rejected:
        found = _announced(transaction, counter, notice, at)
        effects = Effects(at=at)
        if isinstance(found, Effects):
            effects, found = found, _on_record(found.returns[0].found)
        if answer is not None:
            effects = replace(effects, answers=[answer(found)])
        if effects != Effects(at=at):
            transaction.record(effects)
        return found

    return in_transaction(books, now, work)


def _announced(
    transaction: Transaction, counter: Counter, notice: ReturnNotice, now: datetime
) -> Announced | Rejected | Effects:
    faults = _number_faults(notice.number)
    found = transaction.order_numbered([notice.order, RETURN + notice.number])
    owner, other = found.get(notice.order), found.get(RETURN + notice.number)
    record = None if owner is None else transaction.orders([owner], lock=True)[owner]
    if (
        record is None
        or record.state is OrderState.BASKET
        or (notice.customer or "") not in ("", record.order.customer)
    ):
        whose = f" of customer '{notice.customer}'" if notice.customer else ""
        return Rejected(INVALID, (*faults, Fault("order", f"there is no order '{notice.order}'{whose}")))
    if other is not None and other != owner:
        return Rejected("number_taken", (Fault("number", f"another order has a return '{notice.number}'"),))
    reader = _Reader(transaction, counter, record)
    lines = reader.announced(notice.lines)
    known = next((each for each in record.returns if each.number == notice.number), None)
    if known is not None and known.lines:
        if (known.lines, known.exchange is None) == (tuple(lines), notice.exchange is None):
            return replace(_on_record(known), known=True)
        return Rejected(
            "number_taken", (Fault("number", "a return with this number and another content is on record"),)
        )
    others = [each for each in record.returns if each is not known]
    terms, items = counter.policy.returns, counter.edition.catalog.items
    for place, line in enumerate(lines):
        why = ineligible(line, reader.sent, others, terms, items[line.item].requires, now)
        if why is not None:
            faults.append(Fault(f"lines[{place}]", f"{line.item} of line {line.line_no}: {WHY[why]} ({why.value})"))
    faults += reader.faults
    node = route(lines, reader.sent, counter.edition.network.nodes, terms, notice.node)
    if node is None and not faults:
        faults.append(Fault("node", _misrouted(notice.node)))
    made = _exchange(transaction, counter, notice, record.order, now)
    if isinstance(made, Rejected):
        faults += [Fault(f"exchange.{fault.field}".rstrip("."), fault.reason) for fault in made.problems]
    if faults or node is None or isinstance(made, Rejected):
        return Rejected(INVALID, tuple(faults))
    return _effects(counter, record, known, notice, lines, node, made, now)


def _on_record(found: Return) -> Announced:
    return Announced(found.number, found.node, "" if found.exchange is None else found.exchange.number)


def _misrouted(chosen: str) -> str:
    if chosen:
        return f"goods cannot be brought to '{chosen}': it is not open, or of no kind that the policy allows"
    return "the node that goods would go to is not open; name one"


def _exchange(
    transaction: Transaction, counter: Counter, notice: ReturnNotice, order: Order, now: datetime
) -> tuple[Order, Effects] | Rejected | None:
    """The order that replaces what comes back, for the same person where nothing else is said."""
    if notice.exchange is None:
        return None
    message = notice.exchange
    zone = order.zone if message.ship_to is None and not message.zone else message.zone
    facts = {**(message.facts or {}), "exchange_for": notice.number}
    message = replace(
        message,
        channel=message.channel or order.channel,
        zone=zone,
        customer=message.customer or order.customer,
        facts=facts,
        number=message.number or f"{notice.number}-X",
    )
    return accept_with(transaction, counter, message, now, order.contact)


def _effects(
    counter: Counter,
    record: OrderRecord,
    known: Return | None,
    notice: ReturnNotice,
    lines: Sequence[ReturnLine],
    node: str,
    exchange: tuple[Order, Effects] | None,
    now: datetime,
) -> Effects:
    order, effects = record.order, Effects(at=now) if exchange is None else exchange[1]
    found = _opened(counter, notice.number, node, now) if known is None else known
    found = replace(found, node=node, lines=tuple(lines))
    if exchange is not None:
        scales = {code: item.scale for code, item in counter.edition.catalog.items.items()}
        replacing = exchange[0]
        found = replace(found, exchange=Exchange(replacing.id, replacing.number, value_of(replacing.lines, scales)))
    found = settled(found)
    told: dict[str, Json] = {"order": order.number, "return": found.number, "node": node}
    told["lines"] = [[line.line_no, line.item, line.quantity] for line in lines]
    if found.exchange is not None:
        told["exchange"] = found.exchange.number
    return replace(
        effects,
        returns=[ReturnRecord(order.cell, order.id, found, is_new=known is None)],
        events=[*effects.events, Event("return.announced", str(order.id), told, order.cell)],
        milestones=[_milestone(counter, order, found, "announced", now, now)],
        audit=[*effects.audit, Audit(counter.sender, "returns.announce", found.number)],
    )


def _milestone(counter: Counter, order: Order, found: Return, kind: str, at: datetime, now: datetime) -> Milestone:
    """A line of the order's timeline."""
    detail: dict[str, Json] = {"return": found.number, "state": found.state.value}
    return Milestone(
        order.cell, order.id, counter.ids.new(now), OF_THE_ORDER, f"return_{kind}", at, counter.sender, detail
    )


def _opened(counter: Counter, number: str, node: str, now: datetime) -> Return:
    policy = counter.policy
    return Return(counter.ids.new(now), number, node, now, policy.code, policy.version)


# --- reading


def _number_faults(number: str) -> list[Fault]:
    plain = number.isascii() and number.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if plain and len(number) <= LONGEST_NUMBER:
        return []
    return [Fault("number", f"is 1 to {LONGEST_NUMBER} letters, digits, dots, dashes and underscores")]


class _Reader:
    """Reads lines of messages about the returns of an order, and collects what is wrong with them, by field."""

    def __init__(self, transaction: Transaction, counter: Counter, record: OrderRecord) -> None:
        self._counter, self._record = counter, record
        self._clerk = Clerk(counter.edition, counter.ids, counter.sender)
        self.faults: list[Fault] = []
        self.sent = _sent_of(transaction, record.order, self._clerk.edition.catalog)

    def announced(self, lines: Sequence[ReturnedLine]) -> list[ReturnLine]:
        """What is announced, of each item of a line at once."""
        found: dict[tuple[int, str], ReturnLine] = {}
        for place, line, item, quantity in self._read(lines):
            if (line.line, item) in found:
                self.faults.append(Fault(f"lines[{place}]", f"{item} of line {line.line} is named twice"))
            found[line.line, item] = ReturnLine(line.line, item, quantity, line.reason)
        return list(found.values())

    def received(self, lines: Sequence[ReturnedLine]) -> list[tuple[int, str, Quantity]]:
        """What has come. A line of which nothing was ever set aside has no pool that its goods belong to."""
        found = []
        for place, line, item, quantity in self._read(lines):
            if any(each.line_no == line.line for each in self.sent):
                found.append((line.line, item, quantity))
            else:
                reason = f"nothing was ever set aside for line {line.line}; report its goods as a stock movement"
                self.faults.append(Fault(f"lines[{place}].line", reason))
        return found

    def disposed(self, lines: Sequence[DisposedLine]) -> list[tuple[int, str, Disposed]]:
        """What becomes of goods."""
        terms, network = self._counter.policy.returns, self._counter.edition.network
        found = []
        for place, line, item, quantity in self._read(lines):
            named = next((each for each in Disposition if each.value == line.disposition), None)
            if named is None:
                reason = f"is none of {', '.join(each.value for each in Disposition)}"
                self.faults.append(Fault(f"lines[{place}].disposition", reason))
                continue
            pool = lot = ""
            if named is Disposition.B_GRADE:
                pool, lot = terms.b_grade_pool, terms.b_grade_lot
                if not pool and not lot:
                    reason = "the policy names neither pool nor lot for B-grade (returns.b_grade_pool)"
                    self.faults.append(Fault(f"lines[{place}].disposition", reason))
                elif pool and pool not in network.pools:
                    reason = f"the policy's pool for B-grade, '{pool}', is not there"
                    self.faults.append(Fault(f"lines[{place}].disposition", reason))
            if (named is Disposition.TO_SUPPLIER) is not bool(line.supplier):
                reason = "goes with the disposition to_supplier, and only with it"
                self.faults.append(Fault(f"lines[{place}].supplier", reason))
            what = Disposed(named, quantity, terms.refund_ppm(named), line.supplier, pool, lot)
            found.append((line.line, item, what))
        return found

    def _read(self, lines: Sequence[_Line]) -> Iterable[tuple[int, _Line, str, Quantity]]:
        """Place, line, item and base units of what can be read."""
        if not 0 < len(lines) <= MOST_LINES:
            self.faults.append(Fault("lines", f"are 1 to {MOST_LINES}"))
            return
        for place, line in enumerate(lines):
            item = self._item(f"lines[{place}]", line.line, line.item)
            if item is None:
                continue
            try:
                quantity = parse_scaled(line.quantity, self._clerk.edition.catalog.items[item].scale)
            except ValueError as error:
                self.faults.append(Fault(f"lines[{place}].quantity", str(error)))
                continue
            if 0 < quantity <= LARGEST_QUANTITY:
                yield place, line, item, quantity
            else:
                self.faults.append(
                    Fault(f"lines[{place}].quantity", f"{line.quantity} is not above zero, or too large")
                )

    def _item(self, path: str, no: int, text: str) -> str | None:
        """Our code for what comes back: named, or what the line was served with, or what it asks for."""
        line = next((line for line in self._record.order.lines if line.no == no), None)
        if line is None:
            self.faults.append(Fault(f"{path}.line", f"the order has no line {no}"))
            return None
        if text:
            code = self._clerk.item(text)
            if code is None:
                self.faults.append(Fault(f"{path}.item", f"there is no item '{text}'"))
            return code
        served = sorted({each.key.item for each in self.sent if each.line_no == no and each.quantity})
        if len(served) > 1:
            self.faults.append(Fault(f"{path}.item", f"line {no} was served with {', '.join(served)}: name one"))
            return None
        code = served[0] if served else line.item
        if code not in self._clerk.edition.catalog.items:
            self.faults.append(Fault(f"{path}.item", f"there is no item '{code}' any more"))
            return None
        return code


def _sent_of(transaction: Transaction, order: Order, catalog: Catalog) -> list[Sent]:
    """What has left by the reservations of an order."""
    reservations = transaction.reservations(order.id)
    places = transaction.positions({part.position for part in reservations})
    shipments = transaction.shipments(order.id)
    left_at = {each.shipment.no: each.since if each.stage in LEFT else None for each in shipments}
    return sent_by(
        reservations,
        {id_: place.key for id_, place in places.items()},
        {id_: place.expires_on for id_, place in places.items()},
        left_at,
        order.lines,
        catalog.bills,
    )


# --- what comes, and what becomes of it


def book_receipt(
    books: Books, counter: Counter, receipt: ReturnReceipt, now: datetime, answer: Keep | None = None
) -> Booked | Rejected:
    """Book goods that have come back, announced or not. Each id has its effect once, in any order."""
    return _told(books, counter, receipt, now, answer)


def book_inspection(
    books: Books, counter: Counter, inspection: ReturnInspection, now: datetime, answer: Keep | None = None
) -> Booked | Rejected:
    """Book what becomes of goods that came back; of those that have not come yet it is kept. Each id once."""
    return _told(books, counter, inspection, now, answer)


def _told(
    books: Books, counter: Counter, told: ReturnReceipt | ReturnInspection, now: datetime, answer: Keep | None
) -> Booked | Rejected:
    def work(transaction: Transaction, wanted: Wanted, at: datetime) -> Booked | Rejected:
        found = _book(transaction, counter, told, wanted, at)
        if answer is not None:
            transaction.record(Effects(at=at, answers=[answer(found)]))
        return found

    return in_transaction(books, now, work)


def _book(
    transaction: Transaction, counter: Counter, told: ReturnReceipt | ReturnInspection, wanted: Wanted, now: datetime
) -> Booked | Rejected:
    faults = _number_faults(told.number)
    if not told.id or len(told.id) > 200:  # as movements
        faults.append(Fault("id", "is 1 to 200 characters"))
    faults += untimely("at", told.at, now)
    if not faults and transaction.seen([(counter.sender, told.id)]):
        return Booked(Outcome.DUPLICATE, told.number)
    record = _owner(transaction, told, wanted)
    if isinstance(record, Fault):
        return Rejected(INVALID, (*faults, record))
    reader = _Reader(transaction, counter, record)
    known = next((each for each in record.returns if each.number == told.number), None)
    node = told.node or (known.node if known is not None else "")
    if node not in counter.edition.network.nodes:
        faults.append(Fault("node", f"there is no node '{node}'" if node else "say where it is"))
    found = _opened(counter, told.number, node, now) if known is None else known
    others = [each for each in record.returns if each is not known]
    came, went = list[Came](), list[Went]()
    at = min(told.at, now)
    if isinstance(told, ReturnReceipt):
        for no, item, quantity in reader.received(told.lines):
            found, more = receive(found, others, reader.sent, no, item, node, quantity)
            came += more
        found, went = catch_up(found)
    else:
        for no, item, what in reader.disposed(told.lines):
            found, gone = dispose(found, no, item, node, what, at)
            went += gone
    if faults or reader.faults:
        return Rejected(INVALID, (*faults, *reader.faults))
    before = found if known is None else known
    found = settled(found)
    booking = _Booking(transaction, counter, record, found, came, went, wanted, now)
    booking.book(before, is_new=known is None, at=at)
    booking.record((counter.sender, told.id))
    return Booked(Outcome.BOOKED if came or went else Outcome.KEPT, told.number)


def _owner(transaction: Transaction, told: ReturnReceipt | ReturnInspection, wanted: Wanted) -> OrderRecord | Fault:
    """The order that a return is of, locked: its lock keeps all its returns as they are."""
    found = transaction.order_numbered([RETURN + told.number, *([told.order] if told.order else [])])
    owner = found.get(RETURN + told.number)
    if told.order and owner is not None and found.get(told.order) != owner:
        return Fault("order", f"the return '{told.number}' is of another order")
    if owner is None:
        owner = found.get(told.order)
    if owner is None:
        reason = (
            f"there is no order '{told.order}'" if told.order else "name the order: nobody has announced this return"
        )
        return Fault("order", reason)
    wanted.orders.add(owner)
    record = transaction.orders(sorted(wanted.orders), lock=True)[owner]
    if record.state is OrderState.BASKET:
        return Fault("order", f"there is no order '{told.order}'")
    return record


class _Booking:
    """What came, and what becomes of it, on its way into the books."""

    def __init__(
        self,
        transaction: Transaction,
        counter: Counter,
        record: OrderRecord,
        found: Return,
        came: Sequence[Came],
        went: Sequence[Went],
        wanted: Wanted,
        now: datetime,
    ) -> None:
        self._counter, self._record, self._found = counter, record, found
        self._came, self._went = came, went
        keys: dict[PositionKey, date | None] = {each.part.key: each.expires_on for each in came}
        keys |= {each.part.key: None for each in went if each.part.key not in keys}
        for each in went:
            keys.setdefault(_goes_to(each), keys[each.part.key])
        clerk = Clerk(counter.edition, counter.ids, counter.sender)
        self._room = Room(transaction, clerk, wanted, keys, now)
        self._marks = transaction.count_marks([key.id() for key in keys])

    def book(self, before: Return, *, is_new: bool, at: datetime) -> None:
        """All movements, and what is told of them."""
        room, order = self._room, self._record.order
        for each in self._came:
            self._bring(each.part, Statement(Cause.RETURN, self._found.id, at))
        for gone in self._went:
            self._take(gone, Statement(Cause.DISPOSE, self._found.id, gone.at))
        room.also.returns.append(ReturnRecord(order.cell, order.id, self._found, is_new))
        for kind in self._incidents(before):
            incident = Incident(room.clerk.ids.new(room.now), order.cell, kind, str(self._found.id), order.id)
            room.also.incidents.append(incident)
        for name, parts in (("received", self._told_came()), ("inspected", self._told_went())):
            if parts:
                told: dict[str, Json] = {"order": order.number, "return": self._found.number, "parts": parts}
                told["state"] = self._found.state.value
                room.also.events.append(Event(f"return.{name}", str(order.id), told, order.cell))
                room.also.milestones.append(_milestone(self._counter, order, self._found, name, at, room.now))

    def record(self, message: tuple[str, str]) -> None:
        """Record everything, and wake who waits for what is available again."""
        detail: dict[str, Json] = {
            "order": self._record.order.number,
            "return": self._found.number,
            "came": sum(each.part.quantity for each in self._came),
            "disposed": sum(each.what.quantity for each in self._went),
        }
        self._room.record("returns.book", detail, messages_seen=[message])

    def _bring(self, part: Part, said: Statement) -> None:
        """Goods have come. A count that has seen them took them for free stock, which they are not."""
        tally = self._room.tally(part.key)
        tally.change(Account.OUTSIDE, Account.BLOCKED, part.quantity, said)
        if self._is_counted(part.key, said.at):
            tally.change(Account.AVAILABLE, Account.OUTSIDE, part.quantity, replace(said, cause=Cause.COUNT))

    def _take(self, gone: Went, said: Statement) -> None:
        """Goods leave the blocked units. A count that has seen them gone missed them in free stock."""
        key, units, there = gone.part.key, gone.what.quantity, _goes_to(gone)
        tally = self._room.tally(key)
        match gone.what.disposition:
            case Disposition.SCRAP | Disposition.TO_SUPPLIER:
                tally.change(Account.BLOCKED, Account.OUTSIDE, units, said)
            case _ if there == key:
                tally.change(Account.BLOCKED, Account.AVAILABLE, units, said)
                return
            case _:
                taker = self._room.tally(there)
                tally.send(Account.BLOCKED, Account.AVAILABLE, units, taker, said)
                if self._is_counted(there, said.at):
                    taker.change(Account.AVAILABLE, Account.OUTSIDE, units, replace(said, cause=Cause.COUNT))
        if self._is_counted(key, said.at):
            tally.change(Account.OUTSIDE, Account.AVAILABLE, units, replace(said, cause=Cause.COUNT))

    def _is_counted(self, key: PositionKey, at: datetime) -> bool:
        return is_counted(self._marks.get(key.id()), at)

    def _incidents(self, before: Return) -> list[str]:
        """What somebody must look at: goods that nobody announced, or more of them than were, or than had left."""
        if self._came and not self._found.lines:
            return ["return_unannounced"]
        over = before.ended is not None and bool(self._came)
        for each in self._came:
            part = each.part
            announced = sum(
                line.quantity for line in self._found.lines if (line.line_no, line.item) == (part.line_no, part.item)
            )
            over = over or not part.reservation_no or self._found.came(part.line_no, part.item) > announced
        return ["return_beyond"] if over else []

    def _told_came(self) -> list[Json]:
        return [
            [p.line_no, p.item, p.node, p.pool, p.lot, p.quantity, p.reservation_no, p.shipment_no]
            for p in (each.part for each in self._came)
        ]

    def _told_went(self) -> list[Json]:
        return [
            [e.part.line_no, e.part.item, e.part.node, e.part.pool, e.part.lot, e.what.quantity, e.part.reservation_no,
             e.part.shipment_no, e.what.disposition.value]
            for e in self._went
        ]  # fmt: skip


def _goes_to(gone: Went) -> PositionKey:
    """The position of goods of which it is known what becomes of them; those that leave have none, and keep theirs."""
    key, what = gone.part.key, gone.what
    if what.disposition is not Disposition.B_GRADE:
        return key
    return replace(key, pool=what.pool or key.pool, lot=what.lot or key.lot)


# --- over


def end(
    books: Books, counter: Counter, number: str, ending: ReturnState, now: datetime, answer: Keep | None = None
) -> Booked | Rejected:
    """Say that nothing more is expected of a return: closed, or cancelled or refused where nothing has come."""

    def work(transaction: Transaction, _wanted: Wanted, at: datetime) -> Booked | Rejected:
        result, effects = _ended(transaction, counter, number, ending, at)
        if answer is not None:
            effects = replace(effects, answers=[answer(result)])
        if effects != Effects(at=at):
            transaction.record(effects)
        return result

    return in_transaction(books, now, work)


def _ended(
    transaction: Transaction, counter: Counter, number: str, ending: ReturnState, now: datetime
) -> tuple[Booked | Rejected, Effects]:
    nothing = Effects(at=now)
    owner = transaction.order_numbered([RETURN + number]).get(RETURN + number)
    if owner is None:
        return Rejected("return_unknown", (Fault("id", f"there is no return '{number}'"),)), nothing
    record = transaction.orders([owner], lock=True)[owner]
    found = next(each for each in record.returns if each.number == number)
    if found.ended is ending:
        return Booked(Outcome.UNCHANGED, number), nothing
    reason = hindrance(found, ending)
    if reason:
        return Rejected("not_allowed", (Fault("state", reason),)), nothing
    after = settled(replace(found, ended=ending))
    told: dict[str, Json] = {"order": record.order.number, "return": number, "state": after.state.value}
    effects = replace(
        nothing,
        returns=[ReturnRecord(record.order.cell, owner, after)],
        events=[Event("return.ended", str(owner), told, record.order.cell)],
        milestones=[_milestone(counter, record.order, after, "ended", now, now)],
        audit=[Audit(counter.sender, "returns.end", number, {"state": after.state.value})],
    )
    return Booked(Outcome.BOOKED, number), effects


def hindrance(found: Return, ending: ReturnState) -> str:
    """Why a return cannot be ended so now; '' when it can."""
    if found.ended is not None or found.state is ReturnState.CLOSED:
        return f"it is {found.state.value} already"
    if ending is ReturnState.CLOSED:
        return ""
    if found.parts:
        return "some of it has come; close it"
    return "" if ending in TRANSITIONS[found.state] else f"one that is {found.state.value} cannot be {ending.value}"
