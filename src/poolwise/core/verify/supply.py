"""What the facts of a decision, or of a whole sequence of them, say is there: looked up, not judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias
from uuid import UUID

from poolwise.core.sourcing.problem import Facts, Place, ReceiptFact, StockFact

Group: TypeAlias = tuple[str, str, str]
"""Item, node, pool."""

SlotKey: TypeAlias = tuple[str, date, int]
"""Node, day, and the place of the slot in the node."""


@dataclass(frozen=True, slots=True)
class Supply:
    """Stock and receipts by group in the order in which they are drawn, places by id, and capacity that is taken."""

    on_hand: Mapping[Group, Sequence[StockFact]]
    receipts: Mapping[Group, Sequence[ReceiptFact]]
    pools: Mapping[tuple[str, str], Sequence[str]]
    positions: Mapping[int, StockFact]
    expected: Mapping[UUID, ReceiptFact]
    taken: Mapping[SlotKey, int]

    def place(self, position: int, receipt: UUID | None) -> Place | None:
        """Where a position, or a receipt, is; None when the facts do not know it."""
        if receipt is not None:
            return self.expected[receipt].place if receipt in self.expected else None
        return self.positions[position].place if position in self.positions else None


def gather(many: Sequence[Facts]) -> Supply:
    """All facts together; a position that several of them name is there once."""
    distinct = [facts for place, facts in enumerate(many) if place == 0 or facts is not many[place - 1]]
    positions = {stock.place.position: stock for facts in distinct for stock in facts.stock}
    expected = {receipt.receipt: receipt for facts in distinct for receipt in facts.receipts}
    on_hand: dict[Group, list[StockFact]] = {}
    receipts: dict[Group, list[ReceiptFact]] = {}
    pools: dict[tuple[str, str], list[str]] = {}
    for stock in sorted(positions.values(), key=lambda stock: (stock.place.expires_on or date.max, stock.place.lot)):
        on_hand.setdefault(_group(stock.place), []).append(stock)
    for receipt in sorted(expected.values(), key=lambda receipt: (receipt.due_on, receipt.receipt)):
        receipts.setdefault(_group(receipt.place), []).append(receipt)
    for item, node, pool in sorted(on_hand.keys() | receipts.keys()):
        pools.setdefault((item, node), []).append(pool)
    taken = {(fact.node, fact.day, fact.slot): fact.taken for facts in distinct for fact in facts.capacity}
    return Supply(on_hand, receipts, pools, positions, expected, taken)


def _group(place: Place) -> Group:
    return place.item, place.node, place.pool
