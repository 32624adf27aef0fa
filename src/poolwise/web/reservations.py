"""Reservations: a basket is set aside for a while, read, given back. Naming it in an order consumes it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from poolwise.core.catalog import Catalog
from poolwise.core.messages import Address, ReservationRequest
from poolwise.core.orders import OrderState
from poolwise.core.values import Refused
from poolwise.flows import reserve
from poolwise.flows.intake import Rejected
from poolwise.flows.ports import Answer
from poolwise.flows.source import Desk
from poolwise.flows.views import OrderView
from poolwise.web.endpoint import Call, Nothing, Reply, Sent
from poolwise.web.errors import refused
from poolwise.web.forms import Code, Decimal, Text, quantity_text
from poolwise.web.idempotency import kept, kept_refusal, once
from poolwise.web.orders import MOST_LINES, ActionOut, AddressIn, LineIn, counter_of, line_of
from poolwise.web.plans import DecisionOut, HeldOut, ShipmentOut, decisions_out, held_out, shipments_out

LONGEST_SECONDS = int(reserve.LONGEST_RESERVATION.total_seconds())


class ReservationIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A basket to set aside. With `ship_complete` it is set aside whole or not at all."""

    channel: Code
    lines: Annotated[list[LineIn], Meta(min_length=1, max_length=MOST_LINES)]
    expires_in_seconds: Annotated[int, Meta(ge=1, le=LONGEST_SECONDS)]
    zone: Text = ""
    ship_to: AddressIn | None = None
    collect_at: Text = ""
    service_level: Code = "standard"
    customer: Text = ""
    ship_complete: bool = True


class ReservationState(StrEnum):
    """Whether anything is still set aside."""

    HELD = "held"
    ENDED = "ended"


class BasketLineOut(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the basket: how much was wanted, and how much is still set aside for it."""

    no: int
    item: str
    quantity: Decimal
    held: Decimal


class ReservationOut(msgspec.Struct, frozen=True, kw_only=True):
    """A basket with what is set aside for it, from where, and until when."""

    id: UUID
    state: ReservationState
    channel: str
    zone: str
    service_level: str
    customer: str
    made_at: datetime
    expires_at: datetime | None
    lines: list[BasketLineOut]
    shipments: list[ShipmentOut]
    reservations: list[HeldOut]
    decisions: list[DecisionOut]
    allowed_actions: list[ActionOut]


def create_reservation(call: Call[Nothing, ReservationIn]) -> Reply:
    """Set a basket aside, decided as an order would be; it expires by itself.

    Answers with what was set aside, from where and how it would travel. What cannot be had is refused (409).
    """
    services, counter = call.services, counter_of(call)

    def keep(outcome: reserve.Reserved | Rejected) -> Answer:
        if isinstance(outcome, Rejected):
            return kept_refusal(call.key, outcome)
        return kept(call.key, 201, str(outcome.reservation))

    def do() -> Reply:
        outcome = reserve.reserve(services.books, desk_of(call), counter, _request(call.body), call.now, keep)
        if isinstance(outcome, Rejected):
            raise Refused(outcome.code, outcome.problems)
        return _shown(call, outcome.reservation, 201)

    return once(
        services.books, call.key, do, lambda known: _shown(call, UUID(known.reference), known.status), look_first=True
    )


def read_reservation(call: Call[Nothing, Nothing]) -> Reply:
    """Read a reservation, whether it still holds or has ended."""
    return _shown(call, _id(call), 200)


def free_reservation(call: Call[Nothing, Nothing]) -> Reply:
    """Give back what is still set aside, before it expires. One that has ended already stays as it is."""
    id_ = _id(call)
    answer = kept(call.key, 200, str(id_))

    def do() -> Reply:
        reserve.free(call.services.books, desk_of(call), id_, call.now, answer)
        return _shown(call, id_, 200)

    return once(call.services.books, call.key, do, lambda known: _shown(call, UUID(known.reference), known.status))


def desk_of(call: Call[Nothing, Sent]) -> Desk:
    """The desk at which something is decided for this call."""
    services = call.services
    return Desk(services.rules.current(), services.release, services.cells, services.ids, call.actor.party)


def _id(call: Call[Nothing, Nothing]) -> UUID:
    try:
        return UUID(call.path["id"])
    except ValueError:
        raise refused("reservation_unknown", f"there is no reservation '{call.path['id']}'", "id") from None


def _request(body: ReservationIn) -> ReservationRequest:
    return ReservationRequest(
        channel=body.channel,
        lines=tuple([line_of(line) for line in body.lines]),
        expires_in_seconds=body.expires_in_seconds,
        zone=body.zone,
        collect_at=body.collect_at,
        ship_to=None if body.ship_to is None else Address(**msgspec.structs.asdict(body.ship_to)),
        service_level=body.service_level,
        customer=body.customer,
        ship_complete=body.ship_complete,
    )


def _shown(call: Call[Nothing, Sent], reservation: UUID, status: int) -> Reply:
    view = call.services.views.basket(reservation)
    if view is None:
        raise refused("reservation_unknown", f"there is no reservation '{reservation}'", "id")
    body = reservation_out(view, call.services.rules.current().edition.catalog)
    return Reply(status, body, {"Location": f"/v1/reservations/{reservation}"} if status == 201 else {})


def reservation_out(view: OrderView, catalog: Catalog) -> ReservationOut:
    """A basket as the API shows it."""
    order = view.record.order
    holds = view.record.state is OrderState.BASKET
    ended = "" if holds else "nothing of it is set aside any more"
    return ReservationOut(
        id=order.id,
        state=ReservationState.HELD if holds else ReservationState.ENDED,
        channel=order.channel,
        zone=order.zone,
        service_level=order.service_level,
        customer=order.customer,
        made_at=order.received_at,
        expires_at=min((each.expires_at for each in view.reservations if each.expires_at is not None), default=None),
        lines=[
            BasketLineOut(
                no=line.no,
                item=line.item,
                quantity=quantity_text(catalog, line.item, line.quantity),
                held=quantity_text(catalog, line.item, progress.reserved + progress.pledged),
            )
            for line, progress in zip(order.lines, view.record.lines, strict=True)
        ],
        shipments=shipments_out(view.shipments, view.stages),
        reservations=held_out(view.reservations, catalog),
        decisions=decisions_out(view.decisions),
        allowed_actions=[
            ActionOut(action="free", allowed=holds, reason=ended),
            ActionOut(action="order", allowed=holds, reason=ended),
        ],
    )
