"""Every endpoint of the API, in one table. Who may call them is said in `web.auth`."""

from __future__ import annotations

import re
from typing import Final

from poolwise.web import orders
from poolwise.web.endpoint import Endpoint, Nothing, endpoint
from poolwise.web.live import EventsAsked, follow_events
from poolwise.web.operations import HealthOut, Measured, ReadyOut, read_health, read_ready

_PARAMETER: Final = re.compile(r"\{(\w+)\}")


def litestar_path(path: str) -> str:
    """A path of the table as Litestar writes it."""
    return _PARAMETER.sub(r"{\1:str}", path)


def endpoints(measured: Measured) -> tuple[Endpoint, ...]:
    """The table."""
    return (*ORDERS, *EVENTS, *OPERATIONS, metrics(measured))


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
            201: ("Accepted; with `Prefer: wait=N`, the order with its plan.", orders.AcceptedOut),
            202: ("Accepted, and not decided within the time of `Prefer: wait=N`.", orders.AcceptedOut),
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
        answers={200: ("An outcome for each order.", orders.BulkOut)},
    ),
    endpoint(
        "GET /v1/orders",
        orders.list_orders,
        tag="orders",
        summary="List orders",
        query=orders.OrdersAsked,
        body=Nothing,
        answers={200: ("A page of orders.", orders.OrdersOut)},
    ),
    endpoint(
        "GET /v1/orders/{number}",
        orders.read_order,
        tag="orders",
        summary="Read an order",
        query=Nothing,
        body=Nothing,
        answers={200: ("The order.", orders.OrderOut), 304: ("It has not changed since.", None)},
        refusals=(404,),
        headers={"If-None-Match": "The ETag of an answer you have."},
        answer_headers={"ETag": "Changes whenever the order does."},
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
        answers={200: ("A stream of events.", None)},
        headers={"Last-Event-ID": "The id of the last event you have seen."},
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
        answers={200: ("Alive.", HealthOut)},
    ),
    endpoint(
        "GET /ready",
        read_ready,
        tag="operations",
        summary="Can it serve",
        query=Nothing,
        body=Nothing,
        public=True,
        answers={200: ("Ready.", ReadyOut)},
        refusals=(503,),
    ),
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
        answers={200: ("The text format of Prometheus.", None)},
    )
