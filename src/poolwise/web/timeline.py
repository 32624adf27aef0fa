"""One timeline of an order: what was decided, told and changed, when it happened, and when and by whom we heard."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from poolwise.core.catalog import Catalog
from poolwise.core.orders import Order
from poolwise.flows.views import Happening
from poolwise.web.endpoint import Call, Nothing, Reply
from poolwise.web.forms import quantity_text
from poolwise.web.orders import found

MOST_SHOWN: Final = 1_000


Anything = Annotated[object, Meta(extra_json_schema={"description": "A text, a number, or a list of such."})]


class HappeningOut(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened: to the order, or to one of its shipments. `told_at` is when we heard of it.

    `by` is the party that told us, or did it; empty where nobody did. `kind` is `accepted`, `sourced`, `reserved` (the
    units that a decision set aside, by place), what a node or carrier reports, a change (`held`, `hold_lifted`,
    `changed`, `cancelled`, `divided`, `joined`), a return's (`return_announced` and so on), `link_given` (to the
    tracking page), `webhook_waiting`, `webhook_done` or `webhook_failed` (a message to a webhook, for some days), or an
    incident.
    """

    at: datetime
    told_at: datetime
    kind: str
    shipment: int | None
    by: str
    detail: dict[str, Anything]


class TimelineOut(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, the oldest first; of very much, the newest."""

    order: str
    happenings: list[HappeningOut]


def read_timeline(call: Call[Nothing, Nothing]) -> Reply:
    """Read what happened to an order, in the order in which it happened, whenever we heard of it."""
    record = found(call, call.path["number"]).record
    order = record.order
    catalog = call.services.rules.current().edition.catalog
    shown = [_shown(order, catalog, each) for each in call.services.views.timeline(order.id, order.number, MOST_SHOWN)]
    if len(shown) < MOST_SHOWN and not any(each.kind == "accepted" and each.shipment is None for each in shown):
        # It was not sent to us: it is what another order was divided into.
        shown.insert(0, _shown(order, catalog, Happening(order.received_at, order.received_at, "accepted", 0, "", {})))
    return Reply(200, TimelineOut(order=order.number, happenings=shown))


def _shown(order: Order, catalog: Catalog, each: Happening) -> HappeningOut:
    detail: Mapping[str, object] = {name: value for name, value in each.detail.items() if value is not None}
    if each.kind == "accepted" and not each.shipment_no:
        detail = {"channel": order.channel, "zone": order.zone, "lines": len(order.lines)}
    if each.kind == "reserved":
        detail = {"units": [_units(catalog, part) for part in msgspec.convert(each.detail["units"], list[_Units])]}
    return HappeningOut(
        at=each.at,
        told_at=each.told_at,
        kind=each.kind,
        shipment=each.shipment_no or None,
        by=each.told_by,
        detail=dict(detail),
    )


_Units = tuple[str, str, str, str, int]


def _units(catalog: Catalog, part: _Units) -> dict[str, str]:
    item, node, pool, lot, units = part
    return {"item": item, "node": node, "pool": pool, "lot": lot, "quantity": quantity_text(catalog, item, units)}
