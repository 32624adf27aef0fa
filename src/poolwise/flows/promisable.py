"""What may be promised of some items to a channel: facts from the views, arithmetic from core.availability.

Reads see their own writes at once: nothing of the stock is remembered here, only which pools are open where.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from poolwise.core.availability import Basket, Offer, Outlook, basket
from poolwise.core.sourcing.options import Atlas
from poolwise.core.values import Quantity
from poolwise.flows.views import Views

MOST_OUTLOOKS: Final = 200


@dataclass(frozen=True, slots=True)
class Promisable:
    """The offers of every item asked for, and when the basket as a whole can be had."""

    offers: Mapping[str, tuple[Offer, ...]]
    basket: Basket


class Outlooks:
    """The outlooks of the channels that were asked for, under the rules in force."""

    def __init__(self) -> None:
        """Begins with none."""
        self._atlas: Atlas | None = None
        self._by_channel: dict[str, Outlook] = {}

    def of(self, atlas: Atlas, channel: str) -> Outlook:
        """The outlook of a channel."""
        if self._atlas is not atlas or len(self._by_channel) >= MOST_OUTLOOKS:
            self._atlas, self._by_channel = atlas, {}
        found = self._by_channel.get(channel)
        if found is None:
            found = self._by_channel[channel] = Outlook(atlas.edition.network, atlas.policy, channel)
        return found


def look_up(
    views: Views,
    outlook: Outlook,
    wanted: Mapping[str, Quantity],
    day: date,
    nodes: frozenset[str] | None = None,
    zone_nodes: frozenset[str] | None = None,
    zone_pools: frozenset[str] | None = None,
) -> Promisable:
    """What may be promised of the items of `wanted` (base units), asked on `day`.

    Only at `nodes`, and only from nodes and pools that serve a zone, where these are given.
    """
    items = sorted(wanted)
    pools = [pool for pool in outlook.open_pools if zone_pools is None or pool in zone_pools]
    supply = views.supply(items, pools)
    stock = [fact for item in items for fact in supply.stock.get(item, ())]
    receipts = [fact for item in items for fact in supply.receipts.get(item, ())]
    found = outlook.offers(day, stock, receipts)
    if nodes is not None:
        found = [offer for offer in found if offer.node in nodes]
    if zone_nodes is not None:
        found = [offer for offer in found if offer.node in zone_nodes]
    if zone_pools is not None:
        found = [offer for offer in found if offer.pool in zone_pools]
    by_item: dict[str, list[Offer]] = {item: [] for item in items}
    for offer in found:
        by_item[offer.item].append(offer)
    return Promisable({item: tuple(offers) for item, offers in by_item.items()}, basket(found, wanted))
