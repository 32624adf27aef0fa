"""What may be promised of some items to a channel: facts from the views, arithmetic from core.availability.

Reads see their own writes at once: nothing of the stock is remembered here, only which pools are open where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from poolwise.core.availability import Offer, Outlook
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.totals import Totals
from poolwise.flows.views import Views

MOST_OUTLOOKS: Final = 200


@dataclass(frozen=True, slots=True)
class Within:
    """Only at some nodes, and in some pools; None is any."""

    nodes: frozenset[str] | None = None
    pools: frozenset[str] | None = None

    def holds(self, node: str, pool: str) -> bool:
        """Whether a group counts."""
        return (self.nodes is None or node in self.nodes) and (self.pools is None or pool in self.pools)


ANYWHERE: Final = Within()


def serving(atlas: Atlas, zone: str) -> Within:
    """The nodes and pools from which a zone is served."""
    nodes = frozenset(
        route.node.code
        for route in atlas.routes(zone)
        if not route.node.service_area or zone in route.node.service_area
    )
    pools = atlas.edition.network.pools
    return Within(nodes, frozenset(code for code, pool in pools.items() if not pool.zones or zone in pool.zones))


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


def look_up(views: Views, outlook: Outlook, items: Sequence[str], day: date, within: Within = ANYWHERE) -> Totals:
    """What may be promised of some items, asked on `day`, added up."""
    totals = outlook.totals(day, items, *views.shelves(items))
    return totals if within is ANYWHERE else totals.within(within.holds)


def look_closer(
    views: Views, outlook: Outlook, items: Sequence[str], day: date, within: Within = ANYWHERE
) -> list[Offer]:
    """The same group by group, with the positions of each."""
    supply = views.supply(items, outlook.open_pools)
    stock = [fact for item in items for fact in supply.stock.get(item, ())]
    receipts = [fact for item in items for fact in supply.receipts.get(item, ())]
    return [offer for offer in outlook.offers(day, stock, receipts) if within.holds(offer.gate.node, offer.gate.pool)]
