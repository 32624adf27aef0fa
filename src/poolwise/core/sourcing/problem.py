"""The whole input of a sourcing decision as data: demand, edition, terms, and the volatile facts (law 8).

Only `Facts` and the demand are stored with a decision; edition and policy version are named by it and are immutable.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct

from poolwise.core.edition.build import Edition
from poolwise.core.orders import Order
from poolwise.core.policy.terms import Terms
from poolwise.core.values import Quantity


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


class Facts(Struct, frozen=True, gc=False):
    """The volatile facts a decision was made on: stock by position id, receipts by due date, capacity by key.

    A slot that is not listed has nothing taken.
    """

    at: datetime
    stock: tuple[StockFact, ...] = ()
    receipts: tuple[ReceiptFact, ...] = ()
    capacity: tuple[CapacityFact, ...] = ()


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


def whole_demand(order: Order) -> Demand:
    """The demand of an order of which nothing is sourced yet."""
    return Demand(order, tuple((line.no, line.quantity) for line in order.lines))
