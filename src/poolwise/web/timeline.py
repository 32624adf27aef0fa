"""One timeline of an order: what was decided, told and changed, when it happened, and when and by whom we heard."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from poolwise.web.endpoint import Call, Nothing, Reply
from poolwise.web.orders import found

MOST_SHOWN: Final = 1_000


Anything = Annotated[object, Meta(extra_json_schema={"description": "A text, a number, or a list of such."})]


class HappeningOut(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened: to the order, or to one of its shipments. `told_at` is when we heard of it.

    `kind` is `accepted`, `sourced`, what a node or carrier reports, a change (`held`, `hold_lifted`, `changed`,
    `cancelled`, `divided`, `joined`), a return's (`return_announced` and so on), or an incident.
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
    first = record.order
    accepted = HappeningOut(
        at=first.received_at, told_at=first.received_at, kind="accepted", shipment=None, by="",
        detail={"channel": first.channel, "zone": first.zone, "lines": len(first.lines)},
    )  # fmt: skip
    shown = [
        HappeningOut(
            at=each.at, told_at=each.told_at, kind=each.kind, shipment=each.shipment_no or None, by=each.told_by,
            detail={name: value for name, value in each.detail.items() if value is not None},
        )
        for each in call.services.views.timeline(record.order.id, MOST_SHOWN)
    ]  # fmt: skip
    before = [accepted] if len(shown) < MOST_SHOWN else []
    return Reply(200, TimelineOut(order=record.order.number, happenings=[*before, *shown]))
