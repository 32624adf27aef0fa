"""What may be promised of some items to a channel: facts from the views, arithmetic from core.availability.

Reads see their own writes at once: nothing of the stock is remembered here, only which pools are open where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Generic, TypeVar

from poolwise.core.availability import Basket, Offer, Offered, Outlook, Sum, basket, sorted_out
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.values import Quantity
from poolwise.flows.views import Views

MOST_OUTLOOKS: Final = 200


_Found = TypeVar("_Found", bound=Offered)


@dataclass(frozen=True, slots=True)
class Promisable(Generic[_Found]):
    """What is offered of the items asked for, where anything is, and when the basket as a whole can be had."""

    offers: Mapping[str, Sequence[_Found]]
    basket: Basket


@dataclass(frozen=True, slots=True)
class Within:
    """Only at some nodes, and in some pools; None is any."""

    nodes: frozenset[str] | None = None
    pools: frozenset[str] | None = None

    def holds(self, node: str, pool: str) -> bool:
        """Whether a group counts."""
        return (self.nodes is None or node in self.nodes) and (self.pools is None or pool in self.pools)


ANYWHERE: Final = Within()


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
    views: Views, outlook: Outlook, wanted: Mapping[str, Quantity], day: date, within: Within = ANYWHERE
) -> Promisable[Offer]:
    """What may be promised of the items of `wanted` (base units), asked on `day`, position by position."""
    items = sorted(wanted)
    supply = views.supply(items, outlook.open_pools)
    stock = [fact for item in items for fact in supply.stock.get(item, ())]
    receipts = [fact for item in items for fact in supply.receipts.get(item, ())]
    offers = [offer for offer in outlook.offers(day, stock, receipts) if within.holds(offer.node, offer.pool)]
    by_item = sorted_out(offers)
    return Promisable(by_item, basket(by_item, wanted))


def look_up_sums(
    views: Views, outlook: Outlook, wanted: Mapping[str, Quantity], day: date, within: Within = ANYWHERE
) -> Promisable[Sum]:
    """The same without positions, several times as fast."""
    shelves, coming = views.shelves(list(wanted))
    by_item = outlook.sums(day, shelves, coming)
    if within is not ANYWHERE:
        for item, sums in by_item.items():
            by_item[item] = [each for each in sums if within.holds(each.node, each.pool)]
    return Promisable(by_item, basket(by_item, wanted))
