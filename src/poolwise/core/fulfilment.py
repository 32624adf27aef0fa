"""Fulfilment: what becomes of a planned shipment - released, shipped, delivered - and what a node reports of it.

The stage of a shipment is one transition table. A report may come late, twice or before the one it depends on: it is
judged by what has happened already, never by the order in which we hear of it (ADR 0017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from poolwise.core.ledger import Reservation
from poolwise.core.network import Node
from poolwise.core.values import Quantity


class Stage(StrEnum):
    """Where a shipment stands. `PLANNED` may still be planned again; what is `RELEASED` the node works on.

    One that is `OFFERED` waits for the first of several nodes to claim it. What is `READY` waits where the customer
    collects it: on the shelf of its node, still set aside, or sent there from another node. Of one that is `CANCELLED`
    nothing is left to be sent, though a node had it in hand.
    """

    PLANNED = "planned"
    OFFERED = "offered"
    RELEASED = "released"
    PICKED = "picked"
    SHIPPED = "shipped"
    READY = "ready"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


_LEFT: Final = frozenset({Stage.SHIPPED, Stage.READY, Stage.DELIVERED, Stage.FAILED})

STAGES: Final[dict[Stage, frozenset[Stage]]] = {
    Stage.PLANNED: _LEFT | {Stage.OFFERED, Stage.RELEASED, Stage.PICKED, Stage.CANCELLED},
    Stage.OFFERED: _LEFT | {Stage.PLANNED, Stage.RELEASED, Stage.PICKED, Stage.CANCELLED},
    Stage.RELEASED: _LEFT | {Stage.PICKED, Stage.CANCELLED},
    Stage.PICKED: _LEFT | {Stage.CANCELLED},
    Stage.SHIPPED: frozenset({Stage.READY, Stage.DELIVERED, Stage.FAILED}),
    Stage.READY: frozenset({Stage.DELIVERED, Stage.FAILED, Stage.CANCELLED}),
    Stage.FAILED: frozenset({Stage.DELIVERED}),
    Stage.CANCELLED: frozenset({Stage.SHIPPED, Stage.DELIVERED, Stage.FAILED}),
    Stage.DELIVERED: frozenset(),
}
"""The stages that may follow. A far node may ship what we have not released to it, and then it is shipped."""

HELD_BACK: Final = frozenset({Stage.PLANNED, Stage.OFFERED})
"""Nobody works on it yet: what is in it counts as reserved."""

MAY_GO: Final = HELD_BACK | {Stage.RELEASED}
"""Units of it may still be given up: nobody has been to the shelf."""

IN_HAND: Final = frozenset({Stage.RELEASED, Stage.PICKED, Stage.READY})
"""A node works on it: what is still held in it counts as released."""


def release_at(node: Node, ship_on: date, decided_at: datetime, minutes: int) -> datetime:
    """When a shipment is released to its node: on the day on which it leaves, `minutes` after it was decided.

    Until then a wave may plan it anew, and whatever changes costs nobody a walk to a shelf. The cut-off is not missed.
    """
    zone = ZoneInfo(node.time_zone)
    begins, cut_off = datetime.combine(ship_on, time.min, zone), datetime.combine(ship_on, node.cut_off, zone)
    return max(begins, min(decided_at + timedelta(minutes=minutes), cut_off)).astimezone(UTC)


class Share(NamedTuple):
    """Units of one reservation that a report is about."""

    held: Reservation
    quantity: Quantity


def shares(
    held: Sequence[Reservation], items: Sequence[tuple[str, Quantity]], item_of: Mapping[int, str]
) -> list[Share]:
    """Which reservations of a shipment a report names, by item and base units, first reservation first.

    Nothing named is all of it. `item_of` gives the item of each position. Units beyond what is held are left out.
    """
    open_ = [part for part in held if part.open]
    if not items:
        return [Share(part, part.open) for part in open_]
    found: dict[int, Quantity] = {}
    for item, quantity in items:
        left = quantity
        for part in open_:
            if item_of[part.position] == item:
                units = min(left, part.open - found.get(part.no, 0))
                found[part.no] = found.get(part.no, 0) + units
                left -= units
    return [Share(part, found[part.no]) for part in open_ if found.get(part.no)]
