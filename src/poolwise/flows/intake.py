"""Intake: a message becomes an order that waits to be sourced, or is refused with all reasons at once; never half.

Keeps laws 5, 7, 12, 17: an accepted order, its queue row, its event and the answer on record commit together; the
personal part of an address goes to the contact table only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from poolwise.core.catalog import check_digit_is_right
from poolwise.core.edition.build import Edition
from poolwise.core.messages import Address, OrderAmendment, OrderLine, OrderMessage, ReservationRequest
from poolwise.core.orders import MOST_LINES, Line, Order, OrderState, Progress
from poolwise.core.policy.terms import SourcingPolicy
from poolwise.core.values import (
    LARGEST_QUANTITY,
    MOST_ORDERED,
    Fault,
    Json,
    Money,
    PlanAt,
    Quantity,
    parse_rate,
    parse_scaled,
    replace,
)
from poolwise.flows.freeing import GivenBack, TakenOver, take_over
from poolwise.flows.identity import Ids
from poolwise.flows.ports import (
    RANKS_OF_A_SOURCE,
    Answer,
    Audit,
    Books,
    Contact,
    Effects,
    Event,
    OrderRecord,
    Queue,
    Timer,
    TimerKind,
    Todo,
    Transaction,
)

MOST_ORDERS_AT_ONCE: Final = 1_000
HIGHEST_PRIORITY: Final = 100
EARLIEST_YEAR: Final = 1970
LATEST_YEAR: Final = 2200
LONGEST_TEXT: Final = 200
PLACE_FIELDS: Final = ("country", "postcode", "latitude", "longitude", "street", "city")
"""What of an address is a place, and not a person."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_MICRODEGREE_PLACES: Final = 6
_KILOGRAM_PLACES: Final = 9
_MINOR_PLACES: Final = 2


@dataclass(frozen=True, slots=True)
class Counter:
    """What intake needs to know: the edition and policy in force, who sends, and how urgent this way in is.

    `source` 0 is claimed before 1: orders by HTTP come before those of a file.
    """

    edition: Edition
    policy: SourcingPolicy
    ids: Ids
    sender: str
    source: int = 0


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message is an order now; `known` tells that it was one before, and this message changed nothing."""

    order: UUID
    number: str
    known: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The message is refused: every reason, and the code of the refusal."""

    code: str
    problems: tuple[Fault, ...]


Outcome = Accepted | Rejected


def accept(
    books: Books,
    counter: Counter,
    messages: Sequence[OrderMessage],
    now: datetime,
    answers: Callable[[Sequence[Outcome]], Sequence[Answer]] | None = None,
) -> list[Outcome]:
    """Accept or refuse each message on its own; what is accepted commits together.

    `answers` makes of the outcomes what is kept as the answer; it commits with them, be they refusals only.
    """
    assert len(messages) <= MOST_ORDERS_AT_ONCE
    drafts = [_draft(counter, message, now) for message in messages]
    with books.transaction() as transaction:
        numbers = [draft.order.number for draft in drafts if isinstance(draft, _Draft)]
        taken = transaction.order_numbered(numbers)
        records = transaction.orders(taken.values()) if taken else {}
        baskets = _Baskets(transaction, counter, drafts, now)
        outcomes: list[Outcome] = []
        accepted: dict[str, _Draft] = {}
        for draft in drafts:
            if isinstance(draft, Rejected):
                outcomes.append(draft)
                continue
            number = draft.order.number
            earlier = accepted[number].order if number in accepted else None
            if number in taken:
                earlier = records[taken[number]].first
            lost = baskets.take_over(draft.order) if earlier is None else None
            if lost is not None:
                outcomes.append(Rejected("reservation_gone", (lost,)))
            elif earlier is None:
                accepted[number] = draft
                outcomes.append(Accepted(draft.order.id, number))
            elif _same_demand(earlier, draft.order):
                outcomes.append(Accepted(earlier.id, number, known=True))
            else:
                reason = f"an order '{number}' with another content is on record; a change is another message"
                outcomes.append(Rejected("number_taken", (Fault("number", reason),)))
        kept = [] if answers is None else answers(outcomes)
        if accepted or kept:
            transaction.record(_effects(counter, list(accepted.values()), baskets, now, kept))
            baskets.given.wake()
    return outcomes


def accept_with(
    transaction: Transaction, counter: Counter, message: OrderMessage, now: datetime, contact: UUID | None
) -> tuple[Order, Effects] | Rejected:
    """An order that is accepted in the commit of something else, with all that is to be recorded for it.

    It is for the person `contact`, unless it has an address of its own.
    """
    draft = _draft(counter, message, now)
    if isinstance(draft, Rejected):
        return draft
    number = draft.order.number
    if transaction.order_numbered([number]):
        return Rejected("number_taken", (Fault("number", f"there is an order '{number}' already"),))
    if message.ship_to is None:
        draft = replace(draft, order=replace(draft.order, contact=contact))
    return draft.order, _effects(counter, [draft], _Baskets(transaction, counter, [], now), now, ())


class _Baskets:
    """Baskets that the orders of a batch name, and what the orders take over from them."""

    def __init__(
        self, transaction: Transaction, counter: Counter, drafts: Sequence[_Draft | Rejected], now: datetime
    ) -> None:
        named = {d.order.reservation for d in drafts if isinstance(d, _Draft) and d.order.reservation is not None}
        self.given = GivenBack(transaction, counter.edition, counter.sender, now)
        self.taken: dict[UUID, TakenOver] = {}
        self._baskets = transaction.orders(sorted(named), lock=True) if named else {}

    def take_over(self, order: Order) -> Fault | None:
        """Hand over the basket an order names, once; None when that is done, or there is nothing to do."""
        if order.reservation is None:
            return None
        basket = self._baskets.pop(order.reservation, None)
        if basket is None:
            return Fault("reservation", f"there is no reservation {order.reservation}, or another order has it")
        taken = take_over(self.given, basket, order)
        if isinstance(taken, Fault):
            return taken
        self.taken[order.id] = taken
        return None


@dataclass(frozen=True, slots=True)
class _Draft:
    order: Order
    contact: Contact | None


def _effects(
    counter: Counter, drafts: Sequence[_Draft], baskets: _Baskets, now: datetime, kept: Sequence[Answer]
) -> Effects:
    given, taken = baskets.given, baskets.taken
    # Orders of one message wait in its order.
    instants = [now + timedelta(microseconds=place) for place in range(len(drafts))]
    todo = [
        first_todo(counter.policy, draft.order, instant, counter.source)
        for draft, instant in zip(drafts, instants, strict=True)
    ]
    return Effects(
        at=now,
        movements=given.movements,
        reservations=[part for over in taken.values() for part in over.reservations],
        reservation_ends=given.ends,
        receipt_changes=given.receipts,
        capacity=given.capacity(),
        shipments=[shipment for over in taken.values() for shipment in over.shipments],
        shipments_dropped=given.shipments_gone(),
        orders=[_record(counter, draft.order, taken.get(draft.order.id)) for draft in drafts],
        orders_changed=given.orders,
        contacts=[draft.contact for draft in drafts if draft.contact is not None],
        todo=[
            *(entry for entry in todo if entry.order.id not in taken),
            *(replace(t, open=taken[t.order.id].open, attempt=2)
              for t in todo if t.order.id in taken and taken[t.order.id].open),
        ],
        timers_dropped=[(basket.order.cell, basket.order.id, TimerKind.EXPIRE) for basket in given.orders],
        timers=[Timer(d.order.cell, TimerKind.RELEASE, d.order.id, now) for d in drafts if d.order.id in taken],
        answers=kept,
        events=[Event("order.accepted", str(d.order.id), _event(d.order), d.order.cell) for d in drafts],
        audit=[Audit(counter.sender, "orders.accept", draft.order.number) for draft in drafts],
    )  # fmt: skip


def _record(counter: Counter, order: Order, taken: TakenOver | None) -> OrderRecord:
    if taken is None:
        return OrderRecord(order, _first_state(counter, order), tuple(_untouched(order)))
    # What a basket stood for was decided with it: that is the order's first attempt.
    return OrderRecord(order, taken.record_state, taken.lines, 1)


def first_todo(policy: SourcingPolicy, order: Order, now: datetime, source: int) -> Todo:
    """The queue row of an order of which nothing is sourced yet."""
    priority = max(-HIGHEST_PRIORITY, min(HIGHEST_PRIORITY, order.priority))
    return Todo(
        cell=order.cell,
        queue=_queue(policy, order),
        rank=source * RANKS_OF_A_SOURCE - priority,
        since=now,
        order=order,
        open=tuple((line.no, line.quantity) for line in order.lines),
    )


def _queue(policy: SourcingPolicy, order: Order) -> Queue:
    return Queue.WAVE if policy.service_levels[order.service_level].plan == PlanAt.WAVE else Queue.ONCE


def _first_state(counter: Counter, order: Order) -> OrderState:
    return OrderState.WAITING if _queue(counter.policy, order) == Queue.WAVE else OrderState.RECEIVED


def _untouched(order: Order) -> list[Progress]:
    return [Progress(line.quantity, open=line.quantity) for line in order.lines]


def _event(order: Order) -> dict[str, Json]:
    return {"order": order.number, "channel": order.channel, "zone": order.zone, "lines": len(order.lines)}


def _same_demand(one: Order, other: Order) -> bool:
    """Whether two orders ask for the same, whenever and under whatever id they came."""
    return (
        one.lines == other.lines
        and (one.channel, one.zone, one.customer, one.service_level) == (
            other.channel, other.zone, other.customer, other.service_level,
        )
        and (one.requested_date, one.ship_complete, one.max_shipments, one.facts) == (
            other.requested_date, other.ship_complete, other.max_shipments, other.facts,
        )
    )  # fmt: skip


def _draft(counter: Counter, message: OrderMessage, now: datetime) -> _Draft | Rejected:
    """The order a message makes, or every reason why it makes none."""
    reader = Reader(counter)
    order_id = counter.ids.new(now)
    zone = reader.place(message)
    lines = reader.lines(message.lines, message.currency)
    reader.check_order(message)
    contact = contact_of(counter, message.ship_to, now)
    if reader.faults:
        return Rejected("order_invalid", tuple(reader.faults))
    assert zone is not None
    order = Order(
        id=order_id,
        number=message.number or f"PW-{order_id.hex[-12:].upper()}",
        cell=counter.edition.network.zones[zone].cell,
        received_at=message.received_at or now,
        channel=message.channel,
        zone=zone,
        lines=lines,
        service_level=message.service_level,
        customer=message.customer,
        contact=None if contact is None else contact.id,
        priority=message.priority,
        requested_date=message.requested_date,
        ship_complete=message.ship_complete,
        max_shipments=message.max_shipments,
        reservation=message.reservation,
        facts=tuple(sorted((message.facts or {}).items())),
    )
    return _Draft(order, contact)


def read_order(counter: Counter, message: OrderMessage, now: datetime) -> Order | Rejected:
    """The order a message would make, without making it; or every reason why it makes none."""
    draft = _draft(counter, message, now)
    return draft if isinstance(draft, Rejected) else draft.order


def contact_of(counter: Counter, address: Address | None, now: datetime) -> Contact | None:
    """The row with the personal part of an address; None where there is none."""
    if address is None:
        return None
    personal = {"name": address.name, "street": address.street, "city": address.city}
    personal |= {"email": address.email, "phone": address.phone}
    if not any(personal.values()):
        return None
    data: dict[str, Json] = {"country": address.country, "postcode": address.postcode, **personal}
    return Contact(counter.ids.new(now), data)


class Reader:
    """Reads messages against an edition and a policy, and collects what is wrong with them, by field."""

    def __init__(self, counter: Counter) -> None:
        """Starts with nothing wrong."""
        self._network = counter.edition.network
        self._catalog = counter.edition.catalog
        self._policy = counter.policy
        self._sender = counter.sender
        self.faults: list[Fault] = []

    def fault(self, field: str, reason: str) -> None:
        """Note one thing that is wrong."""
        self.faults.append(Fault(field, reason))

    def place(self, message: OrderMessage | OrderAmendment | ReservationRequest) -> str | None:
        """The zone of what is ordered: where it is collected, or else where it is brought."""
        node = message.collect_at
        if not node:
            return self.zone(message.zone, message.ship_to)
        found, before = self._network.zone_collected_at(node), len(self.faults)
        if found is None:
            self.fault("collect_at", f"nothing is collected at '{node}': no zone has it as its collection point")
        elif message.zone not in ("", found):
            self.fault("zone", f"what is collected at '{node}' is in zone '{found}', not in '{message.zone}'")
        for name in PLACE_FIELDS if message.ship_to else ():
            if getattr(message.ship_to, name):
                self.fault(f"ship_to.{name}", f"the order is collected at '{node}' and goes to no address")
        return found if len(self.faults) == before else None

    def zone(self, code: str, ship_to: Address | None) -> str | None:
        """The zone a message goes to: named, or found by postcode, or by coordinates."""
        if code:
            if code in self._network.zones:
                return code
            self.fault("zone", f"there is no zone '{code}'")
            return None
        if ship_to is None:
            self.fault("ship_to", "say where the order goes: ship_to or zone is needed")
            return None
        found = self._network.zone_of(ship_to.country, ship_to.postcode) if ship_to.country else None
        if found is None and ship_to.latitude and ship_to.longitude:
            latitude = self._degrees("ship_to.latitude", ship_to.latitude, 90)
            longitude = self._degrees("ship_to.longitude", ship_to.longitude, 180)
            if latitude is None or longitude is None:
                return None
            found = self._network.zone_near(latitude, longitude)
        if found is None:
            place = " ".join(part for part in (ship_to.country, ship_to.postcode) if part) or "this address"
            self.fault("ship_to.postcode", f"no zone of the network serves {place}")
        return found

    def _degrees(self, field: str, text: str, most: int) -> int | None:
        try:
            value = parse_scaled(text, _MICRODEGREE_PLACES)
        except ValueError as error:
            self.fault(field, str(error))
            return None
        if abs(value) > most * 10**_MICRODEGREE_PLACES:
            self.fault(field, f"{text} is outside -{most} to {most}")
            return None
        return value

    def check_order(self, message: OrderMessage) -> None:
        """Everything about an order that is not a line or a place."""
        for field, text in (("number", message.number), ("channel", message.channel), ("customer", message.customer)):
            if len(text) > LONGEST_TEXT or not text.isprintable():
                self.fault(field, f"has more than {LONGEST_TEXT} characters, or some that cannot be printed")
        if not message.channel:
            self.fault("channel", "is needed")
        for name, value in (message.facts or {}).items():
            texts = value if isinstance(value, list) else [value]
            if any(isinstance(text, str) and _CONTROL.search(text) for text in texts):
                self.fault(f"facts.{name}", "holds a control character")
        if message.service_level not in self._policy.service_levels:
            known = ", ".join(sorted(self._policy.service_levels)) or "none"
            self.fault("service_level", f"the policy has no '{message.service_level}'; it has {known}")
        if message.max_shipments is not None and message.max_shipments < 1:
            self.fault("max_shipments", "is at least 1")
        if abs(message.priority) > HIGHEST_PRIORITY:
            self.fault("priority", f"is between -{HIGHEST_PRIORITY} and {HIGHEST_PRIORITY}")
        if message.received_at is not None:
            self.instant("received_at", message.received_at)

    def instant(self, field: str, at: datetime) -> None:
        """An instant that calendars can be asked about, and that ids can be made of."""
        if at.tzinfo is None:
            self.fault(field, "needs a time zone, for example 2026-11-23T10:00:00Z")
        elif not EARLIEST_YEAR < at.year < LATEST_YEAR:
            self.fault(field, f"is not between the years {EARLIEST_YEAR} and {LATEST_YEAR}")

    def lines(self, lines: Sequence[OrderLine], currency: str) -> tuple[Line, ...]:
        """All lines that can be read, numbered from 1."""
        if not lines:
            self.fault("lines", "an order has at least one line")
        if len(lines) > MOST_LINES:
            self.fault("lines", f"an order has at most {MOST_LINES} lines, this one has {len(lines)}")
            return ()
        found = [self._line(number, line, currency) for number, line in enumerate(lines, start=1)]
        return tuple(line for line in found if line is not None)

    def _line(self, number: int, line: OrderLine, currency: str) -> Line | None:
        path = f"lines[{number - 1}]"
        before = len(self.faults)
        item = self.item(f"{path}.item", line.item)
        quantity = self.quantity(f"{path}.quantity", item, line.pack, line.quantity)
        price = self._amount(f"{path}.unit_price", line.unit_price, _MINOR_PLACES)
        weight_ug = self._amount(f"{path}.weight_kg", line.weight_kg, _KILOGRAM_PLACES)
        if len(self.faults) > before or item is None or quantity is None:
            return None
        return Line(
            no=number,
            item=item,
            quantity=quantity,
            unit_price=None if price is None else Money(price, currency or self._network.currency),
            weight_ug=weight_ug,
            substitutes=line.substitutes,
            together=line.together,
        )

    def item(self, field: str, text: str) -> str | None:
        """Our code of an item: the code itself, the sender's own, or a global number such as a GTIN."""
        if text in self._catalog.items:
            return text
        references = self._catalog.cross_references
        for scheme, partner in self._catalog.schemes:
            if partner in ("", self._sender) and (scheme, partner, text) in references:
                return references[scheme, partner, text]
        if text.isdigit() and len(text) in (8, 12, 13, 14) and not check_digit_is_right(text):
            self.fault(field, f"'{text}' is no item, and as a GTIN its check digit is wrong")
        else:
            self.fault(field, f"there is no item '{text}'")
        return None

    def quantity(self, field: str, item: str | None, pack: str, text: str) -> Quantity | None:
        """Base units of a quantity written in a pack or unit of the item.

        Of an unknown item (None) nobody knows the units, but whether it is a number above zero.
        """
        try:
            if item is None:
                if parse_rate(text).numerator <= 0:
                    self.fault(field, f"{text} is not above zero")
                return None
            units = self._catalog.base_units(item, text, pack)
        except ValueError as error:
            self.fault(field, str(error))
            return None
        if not 0 < units <= MOST_ORDERED:
            self.fault(field, f"{text} is not between 1 and {MOST_ORDERED} base units")
            return None
        return units

    def _amount(self, field: str, text: str | None, places: int) -> int | None:
        if text is None:
            return None
        try:
            amount = parse_scaled(text, places)
        except ValueError as error:
            self.fault(field, str(error))
            return None
        if not 0 <= amount <= LARGEST_QUANTITY * 10**places:
            self.fault(field, f"{text} is negative or too large")
            return None
        return amount
