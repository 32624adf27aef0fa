"""The whole input of a sourcing decision as data: demand, edition, terms, and the volatile facts (law 8).

Only `Facts` and the demand are stored with a decision; edition and policy version are named by it and are immutable.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import chain
from typing import Final, NamedTuple
from uuid import UUID

from msgspec import Struct

from poolwise.core.catalog import Catalog
from poolwise.core.edition.build import Edition
from poolwise.core.orders import Order
from poolwise.core.policy.terms import SourcingPolicy, Terms
from poolwise.core.values import Quantity

NO_CLASSES: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """What never changes of a position: one shared value per position, so that facts are cheap to make."""

    position: int
    item: str
    node: str
    pool: str
    lot: str = ""
    expires_on: date | None = None


class StockFact(NamedTuple):
    """Available base units of a position at the instant of the decision."""

    place: Place
    available: Quantity


@dataclass(frozen=True, slots=True)
class Positions:
    """All positions of an item, in the order of their ids: one shared value for each set of them.

    `ids` are the ids as bytes, eight each; `index` finds a position; `nodes` are where they are.
    """

    item: str
    places: tuple[Place, ...]
    ids: bytes = field(compare=False)
    index: Mapping[int, int] = field(compare=False)
    nodes: frozenset[str] = field(compare=False)


def positions_of(places: Sequence[Place]) -> Positions:
    """The positions at some places, of one item."""
    ids = [place.position for place in places]
    return Positions(
        places[0].item,
        tuple(places),
        array("q", ids).tobytes(),
        {position: n for n, position in enumerate(ids)},
        frozenset([place.node for place in places]),
    )


class ItemStock(Struct, frozen=True, gc=False):
    """Available base units of every position of an item, kept as two columns: it is read and copied all the time."""

    positions: Positions
    available: Sequence[Quantity]

    def __len__(self) -> int:
        """How many positions there are."""
        return len(self.available)

    def __iter__(self) -> Iterator[StockFact]:
        """Position by position."""
        return map(StockFact, self.positions.places, self.available)

    def at(self, position: int) -> Quantity:
        """Available units of a position."""
        return self.available[self.positions.index[position]]

    def moved(self, position: int, units: Quantity) -> ItemStock:
        """The same after units came to a position, or went."""
        available = list(self.available)
        available[self.positions.index[position]] += units
        return ItemStock(self.positions, available)


def shelves_of(facts: Iterable[StockFact]) -> tuple[ItemStock, ...]:
    """Stock facts by item, as they come."""
    found: dict[str, list[StockFact]] = {}
    for fact in facts:
        found.setdefault(fact.place.item, []).append(fact)
    return tuple(
        ItemStock(positions_of([place for place, _ in own]), [available for _, available in own])
        for own in found.values()
    )


class ReceiptFact(NamedTuple):
    """Open base units of a receipt: a candidate from its due date."""

    receipt: UUID
    place: Place
    due_on: date
    open: Quantity


class CapacityFact(NamedTuple):
    """What is already taken of a node's slot on a day, in the slot's unit (weight in grams)."""

    node: str
    day: date
    slot: int
    taken: int


class PickFact(NamedTuple):
    """What became of the picks of a class of items at a node: order lines that were found there, and missed."""

    node: str
    found: int
    missed: int


class ClassFact(NamedTuple):
    """A class of items with the nodes that have a record of it, in order."""

    item_class: str
    picks: tuple[PickFact, ...]


class Facts(Struct, frozen=True, gc=False):
    """The volatile facts a decision was made on: stock by item and position, receipts by due date, capacity by key.

    A slot that is not listed has nothing taken. `misses` are by class of items; who is not listed has no record.
    """

    at: datetime
    shelves: tuple[ItemStock, ...] = ()
    receipts: tuple[ReceiptFact, ...] = ()
    capacity: tuple[CapacityFact, ...] = ()
    misses: tuple[ClassFact, ...] = ()

    @property
    def stock(self) -> tuple[StockFact, ...]:
        """The stock, position by position."""
        return tuple(chain.from_iterable(self.shelves))


class Demand(Struct, frozen=True, gc=False):
    """What remains to be sourced of an order: (line number, base units), in line order."""

    order: Order
    open: tuple[tuple[int, Quantity], ...]


class Problem(Struct, frozen=True, gc=False):
    """One order to be sourced, and everything that may be read to do it."""

    demand: Demand
    edition: Edition
    terms: Terms
    facts: Facts


def classes_of(catalog: Catalog, order: Order, policy: SourcingPolicy) -> frozenset[str]:
    """The classes of items of an order's lines (the product where an item has one), where the policy counts misses."""
    if not policy.counts_misses:
        return NO_CLASSES
    return frozenset([catalog.items[line.item].product for line in order.lines])


def whole_demand(order: Order) -> Demand:
    """The demand of an order of which nothing is sourced yet."""
    return Demand(order, tuple((line.no, line.quantity) for line in order.lines))
