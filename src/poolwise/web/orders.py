"""Orders: accepted one by one or in bulk, read, listed, explained."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import chain
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from poolwise.core.availability import offers
from poolwise.core.catalog import Catalog
from poolwise.core.edition.build import Edition
from poolwise.core.fulfilment import MAY_GO
from poolwise.core.messages import Address, OrderLine, OrderMessage
from poolwise.core.orders import Blocks, OrderState
from poolwise.core.returns import Return, ReturnState, units_back
from poolwise.core.values import Conflict, Json, Quantity, Refused, Upstream
from poolwise.flows import intake
from poolwise.flows.ports import Answer
from poolwise.flows.promisable import serving
from poolwise.flows.views import OrderHead, OrderQuery, OrderView
from poolwise.web.endpoint import Asked, Call, Key, Nothing, Reply, Sent, Waiting, answered
from poolwise.web.errors import Rejection, refused, rejection
from poolwise.web.forms import (
    COUNTRY,
    CURRENCY,
    PRINTABLE,
    Code,
    Cursor,
    Decimal,
    Fact,
    Limit,
    LongText,
    Text,
    from_cursor,
    page_of,
    quantity_text,
    to_cursor,
)
from poolwise.web.idempotency import kept, kept_refusal, once, without_address
from poolwise.web.parcels import PackedShipmentOut, packed_shipments_out
from poolwise.web.plans import DecisionOut, HeldOut, decisions_out, held_out
from poolwise.web.wiring import Services

LONGEST_WAIT_SECONDS: Final = 10
MOST_LINES: Final = 2_000
MOST_IN_BULK: Final = 1_000

Priority = Annotated[int, Meta(ge=-100, le=100, description="Higher is sourced earlier.")]


class AddressIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where it goes. Name, street, city, email and phone are kept in one table only, apart from the order."""

    country: Annotated[str, Meta(max_length=2, pattern=COUNTRY, description="ISO 3166, two letters.")] = ""
    postcode: Annotated[str, Meta(max_length=20, pattern=PRINTABLE)] = ""
    latitude: Annotated[str, Meta(max_length=20, description="Degrees as text; finds the zone without postcode.")] = ""
    longitude: Annotated[str, Meta(max_length=20)] = ""
    name: Text = ""
    street: LongText = ""
    city: Text = ""
    email: Text = ""
    phone: Text = ""


class LineIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line: an item by our code, by one of yours or by its GTIN, in any pack or unit it has."""

    item: Code
    quantity: Decimal
    pack: Text = ""
    unit_price: Decimal | None = None
    weight_kg: Decimal | None = None
    substitutes: bool = True
    together: Annotated[
        str, Meta(max_length=200, pattern=PRINTABLE, description="Lines of one name leave together.")
    ] = ""


class OrderIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new order. Say where it goes by `ship_to` or by `zone`, or, by `collect_at`, at which node it is collected.

    Without a `number` we give one.
    """

    channel: Code
    lines: Annotated[list[LineIn], Meta(min_length=1, max_length=MOST_LINES)]
    number: Text = ""
    ship_to: AddressIn | None = None
    zone: Text = ""
    collect_at: Annotated[
        str, Meta(max_length=200, pattern=PRINTABLE, description="Collected there; `ship_to` then says whom to call.")
    ] = ""
    service_level: Code = "standard"
    customer: Text = ""
    currency: Annotated[str, Meta(max_length=3, pattern=CURRENCY, description="ISO 4217.")] = ""
    priority: Priority = 0
    requested_date: date | None = None
    ship_complete: bool = False
    max_shipments: Annotated[int, Meta(ge=1, le=MOST_LINES)] | None = None
    reservation: UUID | None = None
    facts: Annotated[dict[Code, Fact], Meta(max_length=100, description="Preferences that rules may read.")] | None = (
        None
    )


class BulkIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Many orders, each accepted or refused on its own."""

    orders: Annotated[list[OrderIn], Meta(min_length=1, max_length=MOST_IN_BULK)]


class AcceptedOut(msgspec.Struct, frozen=True, kw_only=True):
    """An order that is on record now, and will be sourced."""

    id: UUID
    number: str
    url: str


class OutcomeOut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one order of many: exactly one of `accepted` and `refused`."""

    accepted: AcceptedOut | None = None
    refused: Rejection | None = None


class BulkOut(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes, in the order of the request, and their counts."""

    accepted: int
    refused: int
    outcomes: list[OutcomeOut]


class LineOut(msgspec.Struct, frozen=True, kw_only=True):
    """A line, and where its units stand; quantities are in the item's own unit."""

    no: int
    item: str
    quantity: Decimal
    unit_price: Decimal | None
    currency: str | None
    open: Decimal
    reserved: Decimal
    pledged: Decimal
    backordered: Decimal
    released: Decimal
    shipped: Decimal
    cancelled: Decimal
    returned: Annotated[
        Decimal, Meta(description="Of what was shipped; of a kit in parts, as many as are back with all of them.")
    ]


class ReturnHeadOut(msgspec.Struct, frozen=True, kw_only=True):
    """A return of an order. `exchange` is the number of the order that replaces it."""

    id: str
    order: str
    state: ReturnState
    node: str
    opened_at: datetime
    exchange: str | None
    url: str


class ActionOut(msgspec.Struct, frozen=True, kw_only=True):
    """Something that may be done with it now, or why not."""

    action: str
    allowed: bool
    reason: str


class WaitOut(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a line waits, and the day on which some is thought to come, if it waits for supply and that is known.

    The explanation says why it waits.
    """

    line_no: int
    quantity: Decimal
    expected_on: date | None


class HoldOut(msgspec.Struct, frozen=True, kw_only=True):
    """What holds an order, and what it blocks."""

    code: str
    blocks: list[Blocks]


class OrderOut(msgspec.Struct, frozen=True, kw_only=True):
    """An order with everything that hangs on it."""

    id: UUID
    number: str
    state: OrderState
    channel: str
    zone: str
    service_level: str
    customer: str
    priority: int
    received_at: datetime
    changed_at: datetime
    requested_date: date | None
    ship_complete: bool
    max_shipments: int | None
    reservation: UUID | None
    lines: list[LineOut]
    waits: list[WaitOut]
    holds: list[HoldOut]
    shipments: list[PackedShipmentOut]
    reservations: list[HeldOut]
    decisions: list[DecisionOut]
    returns: list[ReturnHeadOut]
    allowed_actions: list[ActionOut]


class OrderHeadOut(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the list shows it."""

    id: UUID
    number: str
    state: OrderState
    channel: str
    zone: str
    customer: str
    service_level: str
    received_at: datetime
    changed_at: datetime
    decisions: int
    url: str


class OrdersOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of orders, newest first."""

    orders: list[OrderHeadOut]
    next: str | None


class OrdersAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which orders; what is left out matches any."""

    state: OrderState | None = None
    channel: Text = ""
    zone: Text = ""
    customer: Text = ""
    received_since: Annotated[datetime, Meta(tz=True)] | None = None
    cursor: Cursor = ""
    limit: Limit = 50


# --- accepting ----------------------------------------------------------------------------------------------------


def create_order(call: Call[Nothing, OrderIn]) -> Reply:
    """Accept an order. It is committed when this answers, and sourced soon after.

    The same number with the same content is the same order, however often it is sent; with another content it is
    refused. With `Prefer: wait=N` (at most 10 seconds) the answer is the order with its plan once it is decided, or,
    if that takes longer, 202: the order is accepted and waits.
    """

    def do() -> Reply:
        kept_ = partial(_kept, [call])
        outcome = intake.accept(call.services.books, counter_of(call), [_message(call)], call.now, kept_)[0]
        return _reply(call, outcome)

    def again(_known: Answer) -> Reply:
        outcome = intake.accept(call.services.books, counter_of(call), [_message(call)], call.now)[0]
        return _reply(call, outcome)

    return once(call.services.books, call.key, do, again)


def create_gathered(calls: Sequence[Call[Nothing, OrderIn]]) -> list[Reply | Exception]:
    """Accept orders that came at the same time, in one commit for each sender; each alone where somebody was first."""
    replies: dict[int, Reply | Exception] = {}
    by_sender: dict[str, list[int]] = {}
    for place, call in enumerate(calls):
        by_sender.setdefault(call.actor.party, []).append(place)
    for places in by_sender.values():
        mine = [calls[place] for place in places]
        books, messages = mine[0].services.books, [_message(call) for call in mine]
        try:
            outcomes = intake.accept(books, counter_of(mine[0]), messages, mine[0].now, partial(_kept, mine))
        except Conflict:
            replies |= {place: answered(partial(create_order, calls[place])) for place in places}
        except (Refused, Upstream) as error:
            replies |= dict.fromkeys(places, error)
        else:
            for place, call, outcome in zip(places, mine, outcomes, strict=True):
                replies[place] = answered(partial(_reply, call, outcome))
    return [replies[place] for place in range(len(calls))]


def _kept(calls: Sequence[Call[Nothing, OrderIn]], outcomes: Sequence[intake.Outcome]) -> list[Answer]:
    """What is kept as the answers to calls."""
    return [
        kept_refusal(call.key, outcome) if isinstance(outcome, intake.Rejected) else kept(call.key, 201, outcome.number)
        for call, outcome in zip(calls, outcomes, strict=True)
    ]


def _message(call: Call[Nothing, OrderIn]) -> OrderMessage:
    return message_of(call.body, number_under(call.key, 0))


def _reply(call: Call[Nothing, OrderIn], outcome: intake.Outcome) -> Reply:
    if isinstance(outcome, intake.Rejected):
        raise Refused(outcome.code, outcome.problems)
    return _accepted(call, outcome)


def _accepted(call: Call[Nothing, OrderIn], outcome: intake.Accepted) -> Reply:
    body = accepted_out(outcome)
    headers = {"Location": body.url}
    seconds = preferred_wait(call.headers.get("prefer", ""))
    if not seconds:
        return Reply(201, body, headers)
    headers["Preference-Applied"] = f"wait={seconds}"

    def then(decided: bool) -> Reply:
        view = call.services.views.order(outcome.number) if decided else None
        if view is None:
            return Reply(202, body, headers)
        edition, waits = call.services.rules.current().edition, waits_of(call.services, view)
        return Reply(201, order_out(view, edition, waits), {**headers, "ETag": etag_of(view, edition, waits)})

    return Reply(201, body, headers, Waiting(outcome.order, seconds, then))


def create_orders(call: Call[Nothing, BulkIn]) -> Reply:
    """Accept up to 1,000 orders in one commit, each on its own: one that is refused does not hold up the others.

    Answers 200 with an outcome for every order, in order. Sent again under its key, the request has no second effect
    and the same outcomes.
    """
    services, key = call.services, call.key
    messages = [message_of(order, number_under(key, place)) for place, order in enumerate(call.body.orders)]

    def keep(outcomes: Sequence[intake.Outcome]) -> list[Answer]:
        refused_ = {
            place: without_address(outcome)
            for place, outcome in enumerate(outcomes)
            if isinstance(outcome, intake.Rejected)
        }
        return [kept(key, 200, msgspec.json.encode(refused_).decode())]

    def do() -> Reply:
        outcomes = intake.accept(services.books, counter_of(call), messages, call.now, keep)
        return bulk_out([outcome_out(outcome) for outcome in outcomes])

    def again(known: Answer) -> Reply:
        before = msgspec.json.decode(known.reference, type=dict[int, Rejection])
        accepted = [message for place, message in enumerate(messages) if place not in before]
        outcomes = iter(intake.accept(services.books, counter_of(call), accepted, call.now))
        return bulk_out(
            [
                OutcomeOut(refused=before[place]) if place in before else outcome_out(next(outcomes))
                for place in range(len(messages))
            ]
        )

    return once(services.books, key, do, again)


def bulk_out(told: list[OutcomeOut]) -> Reply:
    """The outcomes of many orders."""
    refusals = sum(outcome.refused is not None for outcome in told)
    return Reply(200, BulkOut(accepted=len(told) - refusals, refused=refusals, outcomes=told))


def counter_of(call: Call[Nothing, Sent]) -> intake.Counter:
    """The counter at which an order of this call is taken in."""
    atlas = call.services.rules.current()
    return intake.Counter(atlas.edition, atlas.policy.policy, call.services.ids, call.actor.party)


def number_under(key: Key, place: int) -> str:
    """The number of an order whose sender gives none: the same for the same request, and nobody else's."""
    text = "\0".join((key.sender, key.text, key.body_hash.hex(), str(place)))
    return "PW-" + base64.b32encode(sha256(text.encode()).digest()[:10]).decode()


def message_of(order: OrderIn, number: str) -> OrderMessage:
    """The order as the flows read it."""
    return OrderMessage(
        channel=order.channel,
        lines=tuple([line_of(line) for line in order.lines]),
        number=order.number or number,
        ship_to=None if order.ship_to is None else Address(**msgspec.structs.asdict(order.ship_to)),
        zone=order.zone,
        collect_at=order.collect_at,
        service_level=order.service_level,
        customer=order.customer,
        currency=order.currency,
        priority=order.priority,
        requested_date=order.requested_date,
        ship_complete=order.ship_complete,
        max_shipments=order.max_shipments,
        reservation=order.reservation,
        facts=None if order.facts is None else {name: _fact(value) for name, value in order.facts.items()},
    )


def line_of(line: LineIn) -> OrderLine:
    """A line as the flows read it."""
    return OrderLine(
        item=line.item,
        quantity=line.quantity,
        pack=line.pack,
        unit_price=line.unit_price,
        weight_kg=line.weight_kg,
        substitutes=line.substitutes,
        together=line.together,
    )


def _fact(value: Fact) -> Json:
    return [*value] if isinstance(value, list) else value


def accepted_out(outcome: intake.Accepted) -> AcceptedOut:
    """An accepted order as the answer names it."""
    return AcceptedOut(id=outcome.order, number=outcome.number, url=url_of(outcome.number, outcome.order))


def outcome_out(outcome: intake.Outcome) -> OutcomeOut:
    """What became of one order of many."""
    match outcome:
        case intake.Accepted():
            return OutcomeOut(accepted=accepted_out(outcome))
        case intake.Rejected(code=code, problems=problems):
            return OutcomeOut(refused=rejection(code, problems))


def url_of(number: str, order: UUID) -> str:
    """Where an order is read: by its number, or by its id where the number does not fit into a path."""
    plain = number.isascii() and number.replace("-", "").replace("_", "").replace(".", "").isalnum()
    return f"/v1/orders/{number if plain else order}"


def preferred_wait(prefer: str) -> int:
    """The seconds of `Prefer: wait=N`, at most LONGEST_WAIT_SECONDS; 0 where there is no such wish."""
    for part in prefer.split(","):
        name, _, value = part.strip().partition("=")
        if name.strip().lower() == "wait" and value.strip().isascii() and value.strip().isdigit():
            return min(int(value.strip()[:6]), LONGEST_WAIT_SECONDS)
    return 0


# --- reading ------------------------------------------------------------------------------------------------------


def read_order(call: Call[Nothing, Nothing]) -> Reply:
    """Read an order by its number, or by our id: lines with progress, shipments, reservations, decisions."""
    reply = shown(call, call.path["number"])
    if reply.headers["ETag"] in [part.strip() for part in call.headers.get("if-none-match", "").split(",")]:
        return Reply(304, None, reply.headers)
    return reply


def shown(call: Call[Asked, Sent], name: str) -> Reply:
    """The order of that name as it is now."""
    view = found(call, name)
    edition, waits = call.services.rules.current().edition, waits_of(call.services, view)
    return Reply(200, order_out(view, edition, waits), {"ETag": etag_of(view, edition, waits)})


def found(call: Call[Asked, Sent], name: str) -> OrderView:
    """The order of that name. Refuses an unknown one."""
    view = call.services.views.order(name)
    if view is None:
        raise refused("order_unknown", f"there is no order '{name}'", "number")
    return view


def list_orders(call: Call[OrdersAsked, Nothing]) -> Reply:
    """List orders, newest first, filtered by what is given."""
    asked = call.query
    query = OrderQuery(
        state=asked.state,
        channel=asked.channel,
        zone=asked.zone,
        customer=asked.customer,
        received_since=asked.received_since,
        before=from_cursor(asked.cursor, tuple[datetime, UUID]) if asked.cursor else None,
        limit=asked.limit + 1,
    )
    heads, more = page_of(call.services.views.orders(query), asked.limit)
    last = heads[-1] if more else None
    next_ = None if last is None else to_cursor(last.received_at, last.id)
    return Reply(200, OrdersOut(orders=[_head(head) for head in heads], next=next_))


def _head(head: OrderHead) -> OrderHeadOut:
    return OrderHeadOut(
        id=head.id,
        number=head.number,
        state=head.state,
        channel=head.channel,
        zone=head.zone,
        customer=head.customer,
        service_level=head.service_level,
        received_at=head.received_at,
        changed_at=head.changed_at,
        decisions=head.attempt,
        url=url_of(head.number, head.id),
    )


def waits_of(services: Services, view: OrderView) -> list[WaitOut]:
    """What waits for supply, line by line: until the first receipt that is due, else for as long as the item takes.

    A day that is over says nothing of when; nor does any where there is enough of it: then it waits for something else.
    """
    atlas, order = services.rules.current(), view.record.order
    catalog, now = atlas.edition.catalog, services.clock()
    waiting = {
        line: progress.backordered
        for line, progress in zip(order.lines, view.record.lines, strict=True)
        if progress.backordered
    }
    if not waiting:
        return []
    items = {item for line, units in waiting.items() for item in _needed(catalog, line.item, units)}
    supply, within = services.views.supply(sorted(items)), serving(atlas, order.zone)
    today = atlas.edition.network.day_in(order.zone, now)
    there: dict[str, Quantity] = {}
    for offer in offers(atlas.edition.network, atlas.policy, order.channel, now.date(), chain(*supply.stock.values())):
        if within.holds(offer.gate.node, offer.gate.pool):
            there[offer.item] = there.get(offer.item, 0) + offer.now
    shown = []
    for line, quantity in waiting.items():
        lacking = _lacking(_needed(catalog, line.item, quantity), line.item, there)
        coming = [receipt for item in lacking for receipt in supply.receipts.get(item, ())]
        days = [each.due_on for each in coming if within.holds(each.place.node, each.place.pool)]
        days = [day for day in days if day >= today]
        known = catalog.items.get(line.item)
        if lacking and not days and view.decisions and known is not None and known.lead_time_days is not None:
            days = [view.decisions[-1].at.date() + timedelta(days=known.lead_time_days)]
        expected = min((day for day in days if day >= today), default=None)
        units = quantity_text(catalog, line.item, quantity)
        shown.append(WaitOut(line_no=line.no, quantity=units, expected_on=expected))
    return shown


def _needed(catalog: Catalog, item: str, units: Quantity) -> dict[str, Quantity]:
    """Units of an item, and of the parts of which as many of it are made."""
    bill = catalog.bills.get(item)
    parts = () if bill is None else bill.components
    return {item: units, **{part.item: units * part.quantity for part in parts}}


def _lacking(needed: Mapping[str, Quantity], item: str, there: Mapping[str, Quantity]) -> list[str]:
    """The item, and those of its parts of which there is too little to have it; nothing where it can be had."""
    short = [code for code, units in needed.items() if there.get(code, 0) < units]
    return short if item in short and (len(needed) == 1 or len(short) > 1) else []


def etag_of(view: OrderView, edition: Edition, waits: Sequence[WaitOut]) -> str:
    """Changes whenever the order does, or the edition that says how it is packed."""
    parts = (view.record.order.id.hex, view.changed_at.isoformat(), view.record.state, view.record.attempt)
    held = [(each.no, each.open) for each in view.reservations]
    stages, packed = sorted(view.stages.items()), (sorted(view.parcels.items()), edition.hash)
    return f'"{sha256(repr((parts, held, stages, view.record.holds, waits, packed)).encode()).hexdigest()[:24]}"'


def order_out(view: OrderView, edition: Edition, waits: list[WaitOut]) -> OrderOut:
    """An order as the API shows it."""
    order, catalog = view.record.order, edition.catalog
    return OrderOut(
        id=order.id,
        number=order.number,
        state=view.record.state,
        channel=order.channel,
        zone=order.zone,
        service_level=order.service_level,
        customer=order.customer,
        priority=order.priority,
        received_at=order.received_at,
        changed_at=view.changed_at,
        requested_date=order.requested_date,
        ship_complete=order.ship_complete,
        max_shipments=order.max_shipments,
        reservation=order.reservation,
        lines=lines_out(view, catalog),
        waits=waits,
        holds=[HoldOut(code=hold.code, blocks=list(hold.blocks)) for hold in view.record.holds],
        shipments=packed_shipments_out(view, edition),
        reservations=held_out(view.reservations, catalog),
        decisions=decisions_out(view.decisions),
        returns=[return_head_out(found, order.number) for found in view.record.returns],
        allowed_actions=actions(view),
    )


def lines_out(view: OrderView, catalog: Catalog) -> list[LineOut]:
    """The lines of an order with where their units stand."""
    shown = []
    for line, progress in zip(view.record.order.lines, view.record.lines, strict=True):
        price = line.unit_price
        parts = {
            name: quantity_text(catalog, line.item, getattr(progress, name))
            for name in ("open", "reserved", "pledged", "backordered", "released", "shipped", "cancelled")
        }
        shown.append(
            LineOut(
                no=line.no,
                item=line.item,
                quantity=quantity_text(catalog, line.item, line.quantity),
                unit_price=None if price is None else f"{price.minor // 100}.{price.minor % 100:02d}",
                currency=None if price is None else price.currency,
                returned=quantity_text(catalog, line.item, units_back(view.record.returns, line.no)),
                **parts,
            )
        )
    return shown


def return_head_out(found: Return, order: str) -> ReturnHeadOut:
    """A return as lists show it."""
    return ReturnHeadOut(
        id=found.number,
        order=order,
        state=found.state,
        node=found.node,
        opened_at=found.opened_at,
        exchange=None if found.exchange is None else found.exchange.number,
        url=f"/v1/returns/{found.number}",
    )


def actions(view: OrderView) -> list[ActionOut]:
    """What may be done with an order now."""
    waits = not view.decisions
    undecided = "the order still waits to be decided" if waits else ""
    over = "the order is cancelled" if view.record.state is OrderState.CANCELLED else ""
    lines = view.record.lines
    may_go = any(line.open + line.backordered for line in lines) or any(
        held.open and view.stages.get(held.shipment_no) in MAY_GO for held in view.reservations
    )
    shipped = any(line.shipped for line in lines)
    too_late = "" if may_go else "all of it is picked, or has left"
    return [
        ActionOut(action="explain", allowed=not undecided, reason=undecided),
        ActionOut(action="cancel", allowed=may_go and not over, reason=over or too_late),
        ActionOut(action="amend", allowed=not over, reason=over),
        ActionOut(action="hold", allowed=not over, reason=over),
        ActionOut(action="return", allowed=shipped, reason="" if shipped else "nothing of it has left"),
    ]
