"""How many of a kit can be made of its parts now, node by node and in all, and which part allows no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from poolwise.core.availability import Offered, by_node, kits
from poolwise.core.catalog import Catalog
from poolwise.core.values import Quantity
from poolwise.web.forms import Decimal, base_to_text


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


def kits_of(catalog: Catalog, kit: str, look: Callable[[Mapping[str, Quantity]], Iterable[Offered]]) -> KitsOut:
    """Kits of an item that has a bill; `look` gives what is offered of items, each wanted once."""
    bill = catalog.bills[kit]
    parts: dict[str, dict[str, Quantity]] = {}
    for component in bill.components:
        for node, there in by_node(look({component.item: 1})).items():
            parts.setdefault(node, {})[component.item] = there.now
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
