"""Returns and exchanges: announced, received, inspected, over; read and listed.

Each message has its effect once, by its number or id, in whatever order messages come; its answer commits with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from poolwise.core.catalog import Catalog
from poolwise.core.messages import (
    Address,
    DisposedLine,
    OrderMessage,
    ReturnedLine,
    ReturnInspection,
    ReturnNotice,
    ReturnReceipt,
)
from poolwise.core.policy.terms import Disposition
from poolwise.core.returns import Disposed, Part, Return, ReturnState, refunds, total_due, value_of
from poolwise.core.values import Money, Refused
from poolwise.flows.intake import Rejected
from poolwise.flows.ports import RETURN, Answer, OrderRecord
from poolwise.flows.returns import (
    Announced,
    Booked,
    Keep,
    Outcome,
    announce,
    book_inspection,
    book_receipt,
    end,
    hindrance,
)
from poolwise.flows.views import OrderView, ReturnQuery
from poolwise.web.endpoint import Call, Nothing, Reply, Sent
from poolwise.web.errors import refused
from poolwise.web.forms import (
    CURRENCY,
    PRINTABLE,
    Code,
    Cursor,
    Decimal,
    Limit,
    Text,
    from_cursor,
    page_of,
    quantity_text,
    to_cursor,
)
from poolwise.web.idempotency import kept, kept_refusal, once
from poolwise.web.orders import (
    MOST_LINES,
    ActionOut,
    AddressIn,
    LineIn,
    ReturnHeadOut,
    counter_of,
    line_of,
    number_under,
    return_head_out,
    url_of,
)
from poolwise.web.stock import Instant

LineNo = Annotated[int, Meta(ge=1, le=2**31 - 1, description="The number of the order's line.")]

# --- announcing ---------------------------------------------------------------------------------------------------


class ReturnedLineIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units of a line. `item` is needed where the line was served with several; `reason` is a code of yours."""

    line: LineNo
    quantity: Decimal
    item: Text = ""
    reason: Text = ""


class ExchangeIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The order that replaces what comes back. What is left out is as in the order that it came with."""

    lines: Annotated[list[LineIn], Meta(min_length=1, max_length=MOST_LINES)]
    number: Text = ""
    channel: Text = ""
    ship_to: AddressIn | None = None
    zone: Text = ""
    service_level: Code = "standard"
    currency: Annotated[str, Meta(max_length=3, pattern=CURRENCY, description="ISO 4217.")] = ""


class ReturnIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Goods of an order that will come back. Without a `number` we give one.

    `node` is where the customer brings them; left out, the answer says where they go. With `customer`, only an order of
    this one.
    """

    order: Code
    lines: Annotated[list[ReturnedLineIn], Meta(min_length=1, max_length=MOST_LINES)]
    number: Annotated[str, Meta(max_length=100, pattern=PRINTABLE)] = ""
    node: Text = ""
    customer: Text = ""
    exchange: ExchangeIn | None = None


class AnnouncedOut(msgspec.Struct, frozen=True, kw_only=True):
    """A return on record: where its goods go, and the number of the order that replaces them."""

    id: str
    node: str
    exchange: str | None
    url: str


def create_return(call: Call[Nothing, ReturnIn]) -> Reply:
    """Announce that goods of an order will come back, or be exchanged.

    What replaces them is accepted in the same commit, and sourced like any order: its promise stands, whatever becomes
    of the return. Units may come back that have left and are not back, or announced, already; within the time that
    the policy gives, to a node that it allows. Everything that is wrong is said at once (422). The same number with
    the same content is the same return; with another content it is refused.
    """
    sent = call.body
    number = sent.number or number_under(call.key, 0).replace("PW-", "RMA-")
    notice = ReturnNotice(
        number=number,
        order=sent.order,
        lines=tuple(_returned(line) for line in sent.lines),
        node=sent.node,
        customer=sent.customer,
        exchange=None if sent.exchange is None else _exchange(sent.exchange),
    )

    def keep(found: Announced | Booked | Rejected) -> Answer:
        if isinstance(found, Rejected):
            return kept_refusal(call.key, found)
        assert isinstance(found, Announced), "an announcement"
        reference = (found.number, found.node, found.exchange)
        return kept(call.key, 201, msgspec.json.encode(reference).decode())

    def do() -> Reply:
        found = announce(call.services.books, counter_of(call), notice, call.now, keep)
        if isinstance(found, Rejected):
            raise Refused(found.code, found.problems)
        return _on_record(found.number, found.node, found.exchange)

    def again(known: Answer) -> Reply:
        return _on_record(*msgspec.json.decode(known.reference, type=tuple[str, str, str]))

    return once(call.services.books, call.key, do, again, look_first=True)


def _on_record(number: str, node: str, exchange: str) -> Reply:
    out = AnnouncedOut(id=number, node=node, exchange=exchange or None, url=f"/v1/returns/{number}")
    return Reply(201, out, {"Location": out.url})


def _returned(line: ReturnedLineIn) -> ReturnedLine:
    return ReturnedLine(line=line.line, quantity=line.quantity, item=line.item, reason=line.reason)


def _exchange(sent: ExchangeIn) -> OrderMessage:
    return OrderMessage(
        channel=sent.channel,
        lines=tuple(line_of(line) for line in sent.lines),
        number=sent.number,
        ship_to=None if sent.ship_to is None else Address(**msgspec.structs.asdict(sent.ship_to)),
        zone=sent.zone,
        service_level=sent.service_level,
        currency=sent.currency,
    )


# --- what comes, and what becomes of it ---------------------------------------------------------------------------


class ReceivedIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Goods of a return that have come, by an id of yours: booked once, in any order.

    Name the `order` where the return may not have been announced. Without `node` it is the return's.
    """

    id: Code
    at: Instant
    lines: Annotated[list[ReturnedLineIn], Meta(min_length=1, max_length=MOST_LINES)]
    order: Text = ""
    node: Text = ""


class DisposedLineIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of units of a line. `supplier` is to whom they go back (`to_supplier`)."""

    line: LineNo
    quantity: Decimal
    disposition: Disposition
    item: Text = ""
    supplier: Text = ""


class InspectedIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of goods of a return, by an id of yours: booked once, in any order. `order` and `node` as there."""

    id: Code
    at: Instant
    lines: Annotated[list[DisposedLineIn], Meta(min_length=1, max_length=MOST_LINES)]
    order: Text = ""
    node: Text = ""


class EndIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a return is that nothing more is expected of."""

    state: Literal["closed", "cancelled", "refused"]


class ToldOut(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message: `booked`; `kept` until the goods come; `unchanged` where it was so already;
    `duplicate` by its id.
    """

    outcome: Outcome


def create_receipt(call: Call[Nothing, ReceivedIn]) -> Reply:
    """Tell that goods of a return have come. They are booked, announced or not, in the pool and lot they left from,
    blocked until somebody says what becomes of them.
    """
    sent = call.body
    receipt = ReturnReceipt(
        id=sent.id,
        number=call.path["id"],
        at=sent.at,
        lines=tuple(_returned(line) for line in sent.lines),
        order=sent.order,
        node=sent.node,
    )

    def do() -> Reply:
        return _told(book_receipt(call.services.books, counter_of(call), receipt, call.now, _keeping(call)))

    return once(call.services.books, call.key, do, _again, look_first=True)


def create_disposition(call: Call[Nothing, InspectedIn]) -> Reply:
    """Tell what becomes of goods of a return: `restock` (available again, in their pool and lot), `b_grade` (in the
    pool that the policy names), `scrap`, or `to_supplier`. Of goods that have not come yet it is kept until they do.
    """
    sent = call.body
    lines = tuple(
        DisposedLine(
            line=line.line,
            quantity=line.quantity,
            disposition=line.disposition.value,
            item=line.item,
            supplier=line.supplier,
        )
        for line in sent.lines
    )
    inspection = ReturnInspection(
        id=sent.id, number=call.path["id"], at=sent.at, lines=lines, order=sent.order, node=sent.node
    )

    def do() -> Reply:
        return _told(book_inspection(call.services.books, counter_of(call), inspection, call.now, _keeping(call)))

    return once(call.services.books, call.key, do, _again, look_first=True)


def end_return(call: Call[Nothing, EndIn]) -> Reply:
    """Say that nothing more is expected of a return: `closed`, or, where nothing has come, `cancelled` or `refused`.

    Goods that come all the same are booked all the same.
    """
    ending = ReturnState(call.body.state)

    def do() -> Reply:
        return _told(end(call.services.books, counter_of(call), call.path["id"], ending, call.now, _keeping(call)))

    return once(call.services.books, call.key, do, _again, look_first=True)


def _keeping(call: Call[Nothing, Sent]) -> Keep:
    """Makes of what became of a message the answer that is kept."""
    key = call.key

    def keep(found: Announced | Booked | Rejected) -> Answer:
        if isinstance(found, Rejected):
            return kept_refusal(key, found)
        assert isinstance(found, Booked), "no announcement"
        return kept(key, 200, found.outcome.value)

    return keep


def _told(found: Booked | Rejected) -> Reply:
    if isinstance(found, Rejected):
        raise Refused(found.code, found.problems)
    return Reply(200, ToldOut(outcome=found.outcome))


def _again(known: Answer) -> Reply:
    return Reply(200, ToldOut(outcome=Outcome(known.reference)))


# --- reading ------------------------------------------------------------------------------------------------------


class AnnouncedLineOut(msgspec.Struct, frozen=True, kw_only=True):
    """What was announced of a line, and how much of it has come."""

    line: int
    item: str
    quantity: Decimal
    came: Decimal
    reason: str


class DisposedOut(msgspec.Struct, frozen=True, kw_only=True):
    """What became of units; of B-grade the pool and lot it went to."""

    disposition: Disposition
    quantity: Decimal
    pool: str
    lot: str
    supplier: str


class PartOut(msgspec.Struct, frozen=True, kw_only=True):
    """Units that came to a position, and by which shipment and reservation they had left: null where none is known."""

    line: int
    item: str
    node: str
    pool: str
    lot: str
    shipment: int | None
    reservation: int | None
    quantity: Decimal
    blocked: Decimal
    dispositions: list[DisposedOut]


class KeptOut(msgspec.Struct, frozen=True, kw_only=True):
    """What was said of units that have not come yet."""

    line: int
    item: str
    node: str
    disposition: Disposition
    quantity: Decimal


class RefundOut(msgspec.Struct, frozen=True, kw_only=True):
    """What is due for a line, or, without a line, for all; or why nobody can say."""

    line: int | None
    amount: Decimal | None
    currency: str | None
    reason: str


class ReturnOut(msgspec.Struct, frozen=True, kw_only=True):
    """A return with all that is known of it. `due` is what the customer gets, less what replaces it costs."""

    id: str
    order: str
    order_url: str
    state: ReturnState
    node: str
    opened_at: datetime
    policy: str
    policy_version: int
    lines: list[AnnouncedLineOut]
    parts: list[PartOut]
    kept: list[KeptOut]
    refunds: list[RefundOut]
    due: RefundOut
    exchange: str | None
    allowed_actions: list[ActionOut]


class ReturnsAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which returns; what is left out matches any."""

    node: Text = ""
    state: ReturnState | None = None
    cursor: Cursor = ""
    limit: Limit = 50


class ReturnsOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of returns, newest first."""

    returns: list[ReturnHeadOut]
    next: str | None


def list_returns(call: Call[ReturnsAsked, Nothing]) -> Reply:
    """List returns, newest first, filtered by what is given."""
    asked = call.query
    query = ReturnQuery(
        node=asked.node,
        state=asked.state,
        before=from_cursor(asked.cursor, tuple[datetime, UUID]) if asked.cursor else None,
        limit=asked.limit + 1,
    )
    heads, more = page_of(call.services.views.returns(query), asked.limit)
    last = heads[-1].found if more else None
    next_ = None if last is None else to_cursor(last.opened_at, last.id)
    return Reply(
        200, ReturnsOut(returns=[return_head_out(each.found, each.order_number) for each in heads], next=next_)
    )


def read_return(call: Call[Nothing, Nothing]) -> Reply:
    """Read a return: what was announced, what came and where it is, what is due."""
    number = call.path["id"]
    view = call.services.views.order(RETURN + number)
    found = None if view is None else next((each for each in view.record.returns if each.number == number), None)
    if view is None or found is None:
        raise refused("return_unknown", f"there is no return '{number}'", "id")
    replacing = None if found.exchange is None else call.services.views.order(found.exchange.order)
    return Reply(200, _out(found, view.record, replacing, call.services.rules.current().edition.catalog))


def _out(found: Return, of: OrderRecord, replacing: OrderView | None, catalog: Catalog) -> ReturnOut:
    order, scales = of.order, {code: item.scale for code, item in catalog.items.items()}
    due = refunds(found, of.returns, order.lines, scales)
    replaced_by = None
    if replacing is not None:
        record = replacing.record
        replaced_by = value_of(record.order.lines, scales, [line.cancelled for line in record.lines])
    return ReturnOut(
        id=found.number,
        order=order.number,
        order_url=url_of(order.number, order.id),
        state=found.state,
        node=found.node,
        opened_at=found.opened_at,
        policy=found.policy,
        policy_version=found.policy_version,
        lines=[
            AnnouncedLineOut(
                line=line.line_no,
                item=line.item,
                quantity=quantity_text(catalog, line.item, line.quantity),
                came=quantity_text(catalog, line.item, found.came(line.line_no, line.item)),
                reason=line.reason,
            )
            for line in found.lines
        ],
        parts=[_part_out(part, catalog) for part in found.parts],
        kept=[
            KeptOut(
                line=each.line_no,
                item=each.item,
                node=each.node,
                disposition=each.what.disposition,
                quantity=quantity_text(catalog, each.item, each.what.quantity),
            )
            for each in found.kept
        ],
        refunds=[_refund_out(each.line_no, each.amount, each.reason) for each in due],
        due=_refund_out(None, *total_due(found, due, replaced_by)),
        exchange=None if found.exchange is None else found.exchange.number,
        allowed_actions=_actions(found),
    )


def _part_out(part: Part, catalog: Catalog) -> PartOut:
    return PartOut(
        line=part.line_no,
        item=part.item,
        node=part.node,
        pool=part.pool,
        lot=part.lot,
        shipment=part.shipment_no or None,
        reservation=part.reservation_no or None,
        quantity=quantity_text(catalog, part.item, part.quantity),
        blocked=quantity_text(catalog, part.item, part.held),
        dispositions=[_disposed_out(part, each, catalog) for each in part.disposed],
    )


def _disposed_out(part: Part, each: Disposed, catalog: Catalog) -> DisposedOut:
    return DisposedOut(
        disposition=each.disposition,
        quantity=quantity_text(catalog, part.item, each.quantity),
        pool=each.pool,
        lot=each.lot,
        supplier=each.supplier,
    )


def _refund_out(line: int | None, amount: Money | None, reason: str) -> RefundOut:
    if amount is None:
        return RefundOut(line=line, amount=None, currency=None, reason=reason)
    whole, cents = divmod(abs(amount.minor), 100)
    text = f"{'-' if amount.minor < 0 else ''}{whole}.{cents:02d}"
    return RefundOut(line=line, amount=text, currency=amount.currency, reason=reason)


ENDINGS: Final[Mapping[str, ReturnState]] = {
    "close": ReturnState.CLOSED,
    "cancel": ReturnState.CANCELLED,
    "refuse": ReturnState.REFUSED,
}


def _actions(found: Return) -> list[ActionOut]:
    """What may be done with a return now. Goods that come are always received."""
    blocked = any(part.held for part in found.parts)
    shown = [
        ActionOut(action="receive", allowed=True, reason=""),
        ActionOut(
            action="dispose",
            allowed=True,
            reason="" if blocked else "nothing waits to be inspected: what is said is kept until goods come",
        ),
    ]
    for action, ending in ENDINGS.items():
        reason = hindrance(found, ending)
        shown.append(ActionOut(action=action, allowed=not reason, reason=reason))
    return shown
