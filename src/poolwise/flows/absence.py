"""Positions that a complete snapshot does not name are empty: each is counted as 0, like any other count (law 9)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from poolwise.core.counting import OWN_LOT
from poolwise.core.ledger import Position
from poolwise.core.messages import StockCount
from poolwise.flows.ports import Books, CountMark, Transaction
from poolwise.flows.stock import Outcome, book_counts
from poolwise.flows.tallying import MOST_STATEMENTS, Clerk

ITEMS_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Named:
    """What a complete snapshot is about: its nodes, the time span of its counts, and their highest sequence."""

    nodes: frozenset[str]
    earliest: datetime
    latest: datetime
    sequence: int | None


def book_absent(books: Books, clerk: Clerk, named: Named, now: datetime) -> int:
    """Count as empty what the snapshot left out at its nodes; how many positions that changed."""
    changed = 0
    items = iter(sorted(clerk.edition.catalog.items))
    while some := list(islice(items, ITEMS_AT_ONCE)):
        with books.transaction() as transaction:
            left_out = list(_left_out(transaction, some, named))
        for first in range(0, len(left_out), MOST_STATEMENTS):
            counts = [_empty(position, named) for position in left_out[first : first + MOST_STATEMENTS]]
            booked = book_counts(books, clerk, counts, now)
            changed += sum(result.outcome is Outcome.BOOKED for result in booked)
    return changed


def _left_out(transaction: Transaction, items: Iterable[str], named: Named) -> Iterator[Position]:
    """Positions with stock at the nodes of the snapshot whose newest count is older than it."""
    positions = transaction.positions_of(items)
    marks = transaction.count_marks(positions)
    for id_, position in positions.items():
        own = position.key.lot.startswith(OWN_LOT)
        if position.on_hand and position.key.node in named.nodes and not own and _is_older(marks.get(id_), named):
            yield position


def _is_older(mark: CountMark | None, named: Named) -> bool:
    return mark is None or mark.as_of < named.earliest


def _empty(position: Position, named: Named) -> StockCount:
    key = position.key
    return StockCount(
        item=key.item,
        node=key.node,
        pool=key.pool,
        lot=key.lot,
        quantity="0",
        as_of=named.latest,
        sequence=named.sequence,
    )


def spanning(nodes: Collection[str], instants: Collection[datetime], sequences: Collection[int]) -> Named | None:
    """What a snapshot with these nodes, times and sequences is about; None when it is about nothing."""
    if not nodes or not instants:
        return None
    return Named(frozenset(nodes), min(instants), max(instants), max(sequences, default=None))
