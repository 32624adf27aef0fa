"""Offers: what a node may claim before others do, and its replies. The first that claims a shipment has it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from poolwise.core.values import Refused
from poolwise.flows.intake import Rejected
from poolwise.flows.offers import OfferOf, Replied, claim, decline
from poolwise.flows.ports import Answer, Books
from poolwise.flows.source import Desk
from poolwise.flows.views import OfferQuery
from poolwise.web.endpoint import Call, Nothing, Reply
from poolwise.web.forms import Code, Cursor, Decimal, Limit, from_cursor, page_of, quantity_text, to_cursor
from poolwise.web.idempotency import kept, kept_refusal, once
from poolwise.web.orders import url_of
from poolwise.web.reservations import desk_of


class OffersAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """To which node."""

    node: Code
    cursor: Cursor = ""
    limit: Limit = 50


class OfferLineOut(msgspec.Struct, frozen=True, kw_only=True):
    """Units that are wanted, in the unit of their item."""

    item: str
    quantity: Decimal


class OfferOut(msgspec.Struct, frozen=True, kw_only=True):
    """A shipment that the node may claim until `until`. Replies name it by `order` and `shipment`.

    `ship_on` and `arrive_by` are those of the node it was planned for.
    """

    order: str
    shipment: int
    node: str
    until: datetime
    ship_on: date
    arrive_by: date
    lines: list[OfferLineOut]
    url: str


class OffersOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of offers, those that end first at first."""

    offers: list[OfferOut]
    next: str | None


def list_offers(call: Call[OffersAsked, Nothing]) -> Reply:
    """List what is offered to a node and not yet claimed, with what of it is wanted."""
    asked, catalog = call.query, call.services.rules.current().edition.catalog
    after = from_cursor(asked.cursor, tuple[datetime, UUID, int]) if asked.cursor else None
    query = OfferQuery(node=asked.node, now=call.now, after=after, limit=asked.limit + 1)
    found, more = page_of(call.services.views.offers(query), asked.limit)
    shown = [
        OfferOut(
            order=each.number,
            shipment=each.shipment_no,
            node=asked.node,
            until=each.until,
            ship_on=each.ship_on,
            arrive_by=each.arrive_by,
            lines=[
                OfferLineOut(item=item, quantity=quantity_text(catalog, item, quantity))
                for item, quantity in each.lines
            ],
            url=url_of(each.number, each.order),
        )
        for each in found
    ]
    last = found[-1] if more else None
    next_ = None if last is None else to_cursor(last.until, last.order, last.shipment_no)
    return Reply(200, OffersOut(offers=shown, next=next_))


class ReplyIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which node replies to which offer."""

    order: Code
    shipment: Annotated[int, Meta(ge=1, le=2**62)]
    node: Code


class ClaimedOut(msgspec.Struct, frozen=True, kw_only=True):
    """The node has it: the shipment is on its pick list under this number, which reports name."""

    order: str
    shipment: int
    node: str


class DeclinedOut(msgspec.Struct, frozen=True, kw_only=True):
    """The node is asked no more for this order."""

    order: str
    shipment: int
    node: str


def claim_offer(call: Call[Nothing, ReplyIn]) -> Reply:
    """Claim a shipment that is offered to a node. The first claim wins, and the shipment is released to it at once.

    Who comes later is told so (409 `offer_taken`, or `offer_over` when the time is over or the node has declined).
    Where what it needs is no longer there (409 `not_available`), the offer of this node ends and nothing else changes.
    An order that is held cannot be claimed (409 `order_held`).
    """

    def out(shipment: int) -> ClaimedOut:
        return ClaimedOut(order=call.body.order, shipment=shipment, node=call.body.node)

    return _reply(call, claim, out)


def decline_offer(call: Call[Nothing, ReplyIn]) -> Reply:
    """Decline a shipment that is offered to a node: its order is served without this node from now on.

    When all who were asked have declined, the rest of the order is sourced again at once.
    """

    def out(shipment: int) -> DeclinedOut:
        return DeclinedOut(order=call.body.order, shipment=shipment, node=call.body.node)

    return _reply(call, decline, out)


_Flow = Callable[[Books, Desk, OfferOf, datetime, Callable[[Replied | Rejected], Answer] | None], Replied | Rejected]


def _reply(call: Call[Nothing, ReplyIn], flow: _Flow, out: Callable[[int], msgspec.Struct]) -> Reply:
    asked = OfferOf(call.body.order, call.body.shipment, call.body.node)

    def keep(outcome: Replied | Rejected) -> Answer:
        if isinstance(outcome, Rejected):
            return kept_refusal(call.key, outcome)
        return kept(call.key, 200, str(outcome.shipment))

    def do() -> Reply:
        outcome = flow(call.services.books, desk_of(call), asked, call.now, keep)
        if isinstance(outcome, Rejected):
            raise Refused(outcome.code, outcome.problems)
        return Reply(200, out(outcome.shipment))

    return once(call.services.books, call.key, do, lambda known: Reply(200, out(int(known.reference))), look_first=True)
