"""Every endpoint of the API, in one table. Who may call them is said in `web.auth`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from litestar.exceptions import NotFoundException

from poolwise.web import (
    changes,
    fulfilment,
    network,
    offers,
    orders,
    plan,
    purchases,
    reservations,
    returns,
    stock,
    timeline,
    tokens,
    tracking,
    webhooks,
)
from poolwise.web.availability import Availability, AvailabilityAsked, AvailabilityOut
from poolwise.web.endpoint import Call, Endpoint, Nothing, Reply, endpoint
from poolwise.web.live import EventsAsked, follow_events
from poolwise.web.openapi import description
from poolwise.web.operations import HealthOut, Measured, ReadyOut, read_health, read_ready


class Paths:
    """The endpoints of every path, by method. Slashes at the end of a path, or doubled, count for nothing."""

    def __init__(self, table: Iterable[Endpoint]) -> None:
        self._plain: dict[tuple[str, ...], dict[str, Endpoint]] = {}
        self._with_parameters: dict[tuple[str, ...], dict[str, Endpoint]] = {}
        for each in table:
            paths = self._with_parameters if "{" in each.path else self._plain
            paths.setdefault(_parts(each.path), {})[each.method] = each

    def find(self, path: str) -> tuple[Mapping[str, Endpoint], Mapping[str, str]]:
        """The endpoints of a path, and its parameters by name. Raises NotFoundException."""
        parts = _parts(path)
        found = self._plain.get(parts)
        if found is not None:
            return found, {}
        for template, by_method in self._with_parameters.items():
            if len(template) == len(parts):
                given = {t[1:-1]: part for t, part in zip(template, parts, strict=True) if t[0] == "{"}
                if all(t[0] == "{" or t == part for t, part in zip(template, parts, strict=True)):
                    return by_method, given
        raise NotFoundException


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def endpoints(measured: Measured) -> tuple[Endpoint, ...]:
    """The table."""
    return (
        *ORDERS,
        TIMELINE,
        LINKS,
        *CHANGES,
        *RESERVATIONS,
        *STOCK,
        *FULFILMENT,
        *RETURNS,
        availability(),
        *PLANS,
        *NETWORK,
        *EVENTS,
        *WEBHOOKS,
        *TOKENS,
        *OPERATIONS,
        metrics(measured),
        DESCRIPTION,
    )


ORDERS: Final = (
    endpoint(
        "POST /v1/orders",
        orders.create_order,
        together=orders.create_gathered,
        tag="orders",
        summary="Accept an order",
        query=Nothing,
        body=orders.OrderIn,
        writes=True,
        answers={
            201: ("Accepted; with `Prefer: wait=N`, the order with its plan.", (orders.AcceptedOut, orders.OrderOut)),
            202: ("Accepted, and not decided within the time of `Prefer: wait=N`.", (orders.AcceptedOut,)),
        },
        refusals=(409,),
        headers={"Prefer": "wait=N: answer with the plan, if it is made within N seconds (at most 10)."},
        answer_headers={"Location": "Where the order is read.", "Preference-Applied": "The wait that was granted."},
    ),
    endpoint(
        "POST /v1/orders:bulk",
        orders.create_orders,
        tag="orders",
        summary="Accept up to 1,000 orders",
        query=Nothing,
        body=orders.BulkIn,
        writes=True,
        bulk=True,
        answers={200: ("An outcome for each order.", (orders.BulkOut,))},
    ),
    endpoint(
        "GET /v1/orders",
        orders.list_orders,
        tag="orders",
        summary="List orders",
        query=orders.OrdersAsked,
        body=Nothing,
        answers={200: ("A page of orders.", (orders.OrdersOut,))},
    ),
    endpoint(
        "GET /v1/orders/{number}",
        orders.read_order,
        tag="orders",
        summary="Read an order",
        query=Nothing,
        body=Nothing,
        answers={200: ("The order.", (orders.OrderOut,)), 304: ("It has not changed since.", ())},
        refusals=(404,),
        headers={"If-None-Match": "The ETag of an answer you have."},
        answer_headers={"ETag": "Changes whenever the order does."},
    ),
)
TIMELINE: Final = endpoint(
    "GET /v1/orders/{number}/timeline",
    timeline.read_timeline,
    tag="orders",
    summary="Read what happened to an order",
    query=Nothing,
    body=Nothing,
    answers={200: ("The timeline.", (timeline.TimelineOut,))},
    refusals=(404,),
)
LINKS: Final = endpoint(
    "POST /v1/orders/{number}/tracking-links",
    tracking.create_link,
    tag="orders",
    summary="Make a link to the tracking page of an order",
    query=Nothing,
    body=tracking.LinkIn,
    writes=True,
    answers={201: ("The link.", (tracking.LinkOut,))},
    refusals=(404,),
)
CHANGES: Final = (
    endpoint(
        "POST /v1/orders/{number}/cancellations",
        changes.create_cancellation,
        tag="orders",
        summary="Cancel an order in part or whole",
        query=Nothing,
        body=changes.CancellationIn,
        writes=True,
        answers={200: ("The order as it is now.", (orders.OrderOut,))},
        refusals=(404, 409),
    ),
    endpoint(
        "POST /v1/orders/{number}/amendments",
        changes.create_amendment,
        tag="orders",
        summary="Amend an order",
        query=Nothing,
        body=changes.AmendmentIn,
        writes=True,
        answers={200: ("The order as it is now.", (orders.OrderOut,))},
        refusals=(404, 409),
    ),
    endpoint(
        "POST /v1/orders/{number}/divisions",
        changes.create_division,
        tag="orders",
        summary="Divide an order in two",
        query=Nothing,
        body=changes.DivisionIn,
        writes=True,
        answers={200: ("The new order.", (orders.OrderOut,))},
        refusals=(404, 409),
    ),
    endpoint(
        "POST /v1/orders/{number}/joins",
        changes.create_join,
        tag="orders",
        summary="Join another order to this one",
        query=Nothing,
        body=changes.JoinIn,
        writes=True,
        answers={200: ("The order as it is now.", (orders.OrderOut,))},
        refusals=(404, 409),
    ),
    endpoint(
        "POST /v1/orders/{number}/holds",
        changes.create_hold,
        tag="orders",
        summary="Hold an order",
        query=Nothing,
        body=changes.HoldIn,
        writes=True,
        answers={200: ("The order as it is now.", (orders.OrderOut,))},
        refusals=(404,),
    ),
    endpoint(
        "POST /v1/orders/{number}/holds/{code}/lift",
        changes.lift_hold,
        tag="orders",
        summary="Lift a hold",
        query=Nothing,
        body=Nothing,
        writes=True,
        answers={200: ("The order as it is now.", (orders.OrderOut,))},
        refusals=(404,),
    ),
)
RESERVATIONS: Final = (
    endpoint(
        "POST /v1/reservations",
        reservations.create_reservation,
        tag="reservations",
        summary="Set a basket aside",
        query=Nothing,
        body=reservations.ReservationIn,
        writes=True,
        answers={201: ("Set aside.", (reservations.ReservationOut,))},
        refusals=(409,),
        answer_headers={"Location": "Where the reservation is read."},
    ),
    endpoint(
        "GET /v1/reservations/{id}",
        reservations.read_reservation,
        tag="reservations",
        summary="Read a reservation",
        query=Nothing,
        body=Nothing,
        answers={200: ("The reservation.", (reservations.ReservationOut,))},
        refusals=(404,),
    ),
    endpoint(
        "POST /v1/reservations/{id}/free",
        reservations.free_reservation,
        tag="reservations",
        summary="Give a basket back",
        query=Nothing,
        body=Nothing,
        writes=True,
        answers={200: ("The reservation, which has ended.", (reservations.ReservationOut,))},
        refusals=(404, 409),
    ),
)
STOCK: Final = (
    endpoint(
        "POST /v1/stock/counts",
        stock.create_counts,
        tag="stock",
        summary="Book counts",
        query=Nothing,
        body=stock.CountsIn,
        writes=True,
        bulk=True,
        answers={200: ("An outcome for each count.", (stock.StatementsOut,))},
    ),
    endpoint(
        "POST /v1/stock/movements",
        stock.create_movements,
        tag="stock",
        summary="Book movements",
        query=Nothing,
        body=stock.MovementsIn,
        writes=True,
        bulk=True,
        answers={200: ("An outcome for each movement.", (stock.StatementsOut,))},
    ),
    endpoint(
        "POST /v1/receipts",
        stock.create_receipts,
        tag="stock",
        summary="Book notices of inbound stock",
        query=Nothing,
        body=stock.ReceiptsIn,
        writes=True,
        bulk=True,
        answers={200: ("An outcome for each notice.", (stock.StatementsOut,))},
    ),
)
FULFILMENT: Final = (
    endpoint(
        "GET /v1/shipments",
        fulfilment.list_shipments,
        tag="fulfilment",
        summary="List what a node has to send",
        query=fulfilment.ShipmentsAsked,
        body=Nothing,
        answers={200: ("A page of pick lists.", (fulfilment.ShipmentsOut,))},
    ),
    endpoint(
        "GET /v1/count-tasks",
        fulfilment.list_count_tasks,
        tag="fulfilment",
        summary="List what a node has to count",
        query=fulfilment.CountTasksAsked,
        body=Nothing,
        answers={200: ("A page of count tasks.", (fulfilment.CountTasksOut,))},
    ),
    endpoint(
        "GET /v1/purchase-orders",
        purchases.list_purchases,
        tag="fulfilment",
        summary="List what a supplier has to send",
        query=purchases.PurchasesAsked,
        body=Nothing,
        answers={200: ("A page of purchase orders.", (purchases.PurchasesOut,))},
    ),
    endpoint(
        "GET /v1/purchase-orders/{number}",
        purchases.read_purchase,
        tag="fulfilment",
        summary="Read a purchase order",
        query=Nothing,
        body=Nothing,
        answers={200: ("The purchase order.", (purchases.PurchaseOut,))},
        refusals=(404,),
    ),
    endpoint(
        "POST /v1/shipments/reports",
        fulfilment.create_report,
        tag="fulfilment",
        summary="Report what became of a shipment",
        query=Nothing,
        body=fulfilment.ReportIn,
        writes=True,
        answers={200: ("The outcome.", (fulfilment.ReportedOut,))},
    ),
    endpoint(
        "GET /v1/offers",
        offers.list_offers,
        tag="fulfilment",
        summary="List what is offered to a node",
        query=offers.OffersAsked,
        body=Nothing,
        answers={200: ("A page of offers.", (offers.OffersOut,))},
    ),
    endpoint(
        "POST /v1/offers/claims",
        offers.claim_offer,
        tag="fulfilment",
        summary="Claim a shipment that is offered",
        query=Nothing,
        body=offers.ReplyIn,
        writes=True,
        answers={200: ("It is yours.", (offers.ClaimedOut,))},
        refusals=(409,),
    ),
    endpoint(
        "POST /v1/offers/declines",
        offers.decline_offer,
        tag="fulfilment",
        summary="Decline a shipment that is offered",
        query=Nothing,
        body=offers.ReplyIn,
        writes=True,
        answers={200: ("You are asked no more.", (offers.DeclinedOut,))},
        refusals=(409,),
    ),
)
RETURNS: Final = (
    endpoint(
        "POST /v1/returns",
        returns.create_return,
        tag="returns",
        summary="Announce a return or exchange",
        query=Nothing,
        body=returns.ReturnIn,
        writes=True,
        answers={201: ("On record.", (returns.AnnouncedOut,))},
        refusals=(409,),
        answer_headers={"Location": "Where the return is read."},
    ),
    endpoint(
        "GET /v1/returns",
        returns.list_returns,
        tag="returns",
        summary="List returns",
        query=returns.ReturnsAsked,
        body=Nothing,
        answers={200: ("A page of returns.", (returns.ReturnsOut,))},
    ),
    endpoint(
        "GET /v1/returns/{id}",
        returns.read_return,
        tag="returns",
        summary="Read a return",
        query=Nothing,
        body=Nothing,
        answers={200: ("The return.", (returns.ReturnOut,))},
        refusals=(404,),
    ),
    endpoint(
        "POST /v1/returns/{id}/receipts",
        returns.create_receipt,
        tag="returns",
        summary="Tell that goods have come back",
        query=Nothing,
        body=returns.ReceivedIn,
        writes=True,
        answers={200: ("What became of it.", (returns.ToldOut,))},
        refusals=(409,),
    ),
    endpoint(
        "POST /v1/returns/{id}/dispositions",
        returns.create_disposition,
        tag="returns",
        summary="Tell what becomes of goods that came back",
        query=Nothing,
        body=returns.InspectedIn,
        writes=True,
        answers={200: ("What became of it.", (returns.ToldOut,))},
        refusals=(409,),
    ),
    endpoint(
        "POST /v1/returns/{id}/end",
        returns.end_return,
        tag="returns",
        summary="Say that nothing more is expected of a return",
        query=Nothing,
        body=returns.EndIn,
        writes=True,
        answers={200: ("What became of it.", (returns.ToldOut,))},
        refusals=(404, 409),
    ),
)
PLANS: Final = (
    endpoint(
        "POST /v1/plan",
        plan.plan_order,
        tag="plans",
        summary="Plan an order without any effect",
        query=Nothing,
        body=plan.PlanIn,
        bulk=True,
        answers={200: ("The plan.", (plan.PlannedOut,))},
        refusals=(404,),
    ),
    endpoint(
        "GET /v1/orders/{number}/explanation",
        plan.read_explanation,
        tag="plans",
        summary="Explain a decision",
        query=plan.ExplanationAsked,
        body=Nothing,
        answers={200: ("The explanation.", (plan.ExplanationOut,))},
        refusals=(404,),
    ),
)
EVENTS: Final = (
    endpoint(
        "GET /v1/events",
        follow_events,
        tag="events",
        summary="Follow what happens",
        query=EventsAsked,
        body=Nothing,
        streams=True,
        media_type="text/event-stream",
        answers={200: ("A stream of events.", ())},
        headers={"Last-Event-ID": "The id of the last event you have seen."},
    ),
)
NETWORK: Final = (
    endpoint(
        "GET /v1/network/nodes",
        network.list_nodes,
        tag="network",
        summary="List nodes",
        query=network.PageAsked,
        body=Nothing,
        answers={200: ("A page of nodes.", (network.NodesOut,))},
    ),
    endpoint(
        "GET /v1/network/pools",
        network.list_pools,
        tag="network",
        summary="List pools",
        query=network.PageAsked,
        body=Nothing,
        answers={200: ("A page of pools.", (network.PoolsOut,))},
    ),
    endpoint(
        "GET /v1/network/zones",
        network.list_zones,
        tag="network",
        summary="List zones",
        query=network.PageAsked,
        body=Nothing,
        answers={200: ("A page of zones.", (network.ZonesOut,))},
    ),
    endpoint(
        "GET /v1/network/lanes",
        network.list_lanes,
        tag="network",
        summary="List lanes",
        query=network.PageAsked,
        body=Nothing,
        answers={200: ("A page of lanes.", (network.LanesOut,))},
    ),
    endpoint(
        "GET /v1/network/items",
        network.list_items,
        tag="network",
        summary="List items",
        query=network.PageAsked,
        body=Nothing,
        answers={200: ("A page of items.", (network.ItemsOut,))},
    ),
    endpoint(
        "GET /v1/network/picks",
        network.list_picks,
        tag="network",
        summary="List what nodes found and missed",
        query=network.PicksAsked,
        body=Nothing,
        answers={200: ("A page of records.", (network.PicksOut,))},
    ),
    endpoint(
        "GET /v1/network/policies",
        network.list_policies,
        tag="network",
        summary="List policies",
        query=network.PageAsked,
        body=Nothing,
        answers={200: ("A page of policies.", (network.PoliciesOut,))},
    ),
)
WEBHOOKS: Final = (
    endpoint(
        "POST /v1/webhooks",
        webhooks.create_webhook,
        tag="webhooks",
        summary="Subscribe a receiver",
        query=Nothing,
        body=webhooks.WebhookIn,
        writes=True,
        answers={201: ("The webhook and its secret, shown once.", (webhooks.SecretOut,))},
        answer_headers={"Location": "Where the webhook is read."},
    ),
    endpoint(
        "GET /v1/webhooks",
        webhooks.list_webhooks,
        tag="webhooks",
        summary="List webhooks",
        query=webhooks.WebhooksAsked,
        body=Nothing,
        answers={200: ("A page of webhooks.", (webhooks.WebhooksOut,))},
    ),
    endpoint(
        "GET /v1/webhooks/{id}",
        webhooks.read_webhook,
        tag="webhooks",
        summary="Read a webhook",
        query=Nothing,
        body=Nothing,
        answers={200: ("The webhook.", (webhooks.WebhookOut,))},
        refusals=(404,),
    ),
    endpoint(
        "GET /v1/webhooks/{id}/deliveries",
        webhooks.list_deliveries,
        tag="webhooks",
        summary="List deliveries of a webhook",
        query=webhooks.DeliveriesAsked,
        body=Nothing,
        answers={200: ("A page of deliveries.", (webhooks.DeliveriesOut,))},
        refusals=(404,),
    ),
    endpoint(
        "POST /v1/webhooks/{id}/rotate",
        webhooks.rotate,
        tag="webhooks",
        summary="Give a webhook a new secret",
        query=Nothing,
        body=webhooks.RotationIn,
        writes=True,
        answers={200: ("The webhook and its new secret, shown once.", (webhooks.SecretOut,))},
        refusals=(404, 409),
    ),
    endpoint(
        "POST /v1/webhooks/{id}/replay",
        webhooks.replay,
        tag="webhooks",
        summary="Send events again",
        query=Nothing,
        body=webhooks.ReplayIn,
        writes=True,
        answers={200: ("The webhook as it is now.", (webhooks.WebhookOut,))},
        refusals=(404, 409),
    ),
    endpoint(
        "POST /v1/webhooks/{id}/ping",
        webhooks.ping,
        tag="webhooks",
        summary="Send a test event",
        query=Nothing,
        body=Nothing,
        writes=True,
        answers={200: ("The webhook as it is now.", (webhooks.WebhookOut,))},
        refusals=(404, 409),
    ),
    endpoint(
        "POST /v1/webhooks/{id}/pause",
        webhooks.pause,
        tag="webhooks",
        summary="Pause a webhook",
        query=Nothing,
        body=Nothing,
        writes=True,
        answers={200: ("The webhook as it is now.", (webhooks.WebhookOut,))},
        refusals=(404, 409),
    ),
    endpoint(
        "POST /v1/webhooks/{id}/enable",
        webhooks.enable,
        tag="webhooks",
        summary="Enable a webhook",
        query=Nothing,
        body=Nothing,
        writes=True,
        answers={200: ("The webhook as it is now.", (webhooks.WebhookOut,))},
        refusals=(404, 409),
    ),
    endpoint(
        "POST /v1/webhooks/{id}/delete",
        webhooks.delete_webhook,
        tag="webhooks",
        summary="Delete a webhook",
        query=Nothing,
        body=Nothing,
        writes=True,
        answers={204: ("Deleted.", ())},
        refusals=(404, 409),
    ),
)
TOKENS: Final = (
    endpoint(
        "POST /v1/tokens",
        tokens.create_token,
        tag="tokens",
        summary="Issue a token",
        query=Nothing,
        body=tokens.TokenIn,
        writes=True,
        answers={201: ("The token and its secret, shown once.", (tokens.IssuedOut,))},
    ),
    endpoint(
        "GET /v1/tokens",
        tokens.list_tokens,
        tag="tokens",
        summary="List tokens",
        query=tokens.TokensAsked,
        body=Nothing,
        answers={200: ("A page of tokens.", (tokens.TokensOut,))},
    ),
    endpoint(
        "POST /v1/tokens/{id}/revoke",
        tokens.revoke,
        tag="tokens",
        summary="Revoke a token",
        query=Nothing,
        body=Nothing,
        writes=True,
        answers={200: ("The token, revoked.", (tokens.TokenOut,))},
        refusals=(404,),
    ),
)
OPERATIONS: Final = (
    endpoint(
        "GET /health",
        read_health,
        tag="operations",
        summary="Is it alive",
        query=Nothing,
        body=Nothing,
        public=True,
        answers={200: ("Alive.", (HealthOut,))},
    ),
    endpoint(
        "GET /ready",
        read_ready,
        tag="operations",
        summary="Can it serve",
        query=Nothing,
        body=Nothing,
        public=True,
        answers={200: ("Ready.", (ReadyOut,))},
        refusals=(503,),
    ),
)


def read_description(call: Call[Nothing, Nothing]) -> Reply:
    """Read this description of the API."""
    measured = Measured(lambda: 0, lambda: 0)
    return Reply(200, msgspec.json.encode(description(endpoints(measured), call.services.release)))


DESCRIPTION: Final = endpoint(
    "GET /v1/openapi.json",
    read_description,
    tag="operations",
    summary="Read this description",
    query=Nothing,
    body=Nothing,
    public=True,
    answers={200: ("The description, OpenAPI 3.1.", ())},
)


def metrics(measured: Measured) -> Endpoint:
    """The endpoint of what this process measures."""
    return endpoint(
        "GET /metrics",
        measured.read_metrics,
        tag="operations",
        summary="Read what is measured",
        query=Nothing,
        body=Nothing,
        media_type="text/plain; version=0.0.4; charset=utf-8",
        answers={200: ("The text format of Prometheus.", ())},
    )


def availability() -> Endpoint:
    """The endpoint of what may be promised, with what it remembers of channels."""
    remembering = Availability()
    return endpoint(
        "GET /v1/availability",
        remembering.read_availability,
        together=remembering.read_gathered,
        tag="availability",
        summary="Read what may be promised",
        query=AvailabilityAsked,
        body=Nothing,
        answers={200: ("What is available.", (AvailabilityOut,))},
    )
