"""How many of a kit can be made of its parts now, node by node and in all, and which part allows no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from poolwise.core.availability import kits
from poolwise.core.catalog import Catalog
from poolwise.core.totals import Totals, by_node
from poolwise.core.values import base_to_text
from poolwise.web.forms import Decimal


class KitsAtOut(msgspec.Struct, frozen=True, kw_only=True):
    """Kits that can be made at one node, and the part that allows no more."""

    node: str
    now: Decimal
    limited_by: str


class KitsOut(msgspec.Struct, frozen=True, kw_only=True):
    """Kits that can be made of parts, besides those that are there ready-made, and the part that allows no more.

    Where the bill allows it parts of several nodes count together, else each node counts by itself.
    """

    now: Decimal
    limited_by: str
    nodes: list[KitsAtOut]


def kits_of(catalog: Catalog, kit: str, look: Callable[[Sequence[str]], Totals]) -> KitsOut:
    """Kits of an item that has a bill; `look` gives what is offered of items."""
    bill = catalog.bills[kit]
    needed = sorted({component.item for component in bill.components})
    offered = look(needed)
    parts: dict[str, dict[str, int]] = {}
    for item in needed:
        for node, there in offered.parts(item, by_node).items():
            parts.setdefault(node, {})[item] = there.now
    count = kits(bill, parts)
    scale = catalog.items[kit].scale
    return KitsOut(
        now=base_to_text(count.together.kits, scale),
        limited_by=count.together.limited_by,
        nodes=[
            KitsAtOut(node=node, now=base_to_text(made.kits, scale), limited_by=made.limited_by)
            for node, made in count.by_node.items()
        ],
    )
