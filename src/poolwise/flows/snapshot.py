"""Snapshots: a chunk of a node's full count, of which nearly all is as it was.

A sieve marks what is unchanged as counted, and opens the positions that nobody has named before; whatever differs,
has moved since or owes units goes through the very same flow as any other count (`flows.stock`). Keeps laws 5 and 9: a
chunk that was interrupted can be booked again, and the number of the chunk commits with its last step.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from poolwise.core.catalog import Catalog
from poolwise.core.messages import StockCount
from poolwise.flows.ports import Books
from poolwise.flows.stock import Outcome, Result, book_counts
from poolwise.flows.tallying import MOST_STATEMENTS, Clerk

NO_SEQUENCE = -1


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes that columns hold the places of."""

    items: Sequence[str] = ()
    nodes: Sequence[str] = ()
    pools: Sequence[str] = ()


def _numbers() -> array[int]:
    return array("q")


@dataclass(slots=True)
class CountColumns:
    """Counts of a chunk, column by column, each position once and in order of position.

    `items`, `nodes` and `pools` are places in `codes`. `instants` are the distinct times; `as_of` are places in it.
    `accounts` is how many of available, reserved and blocked the figure includes, in that order. `rows` is where the
    count stands in its file. `lots` says which counts are of more than item, node and pool: of a lot, or with a day on
    which it expires.
    """

    codes: Codes = Codes()
    rows: array[int] = field(default_factory=_numbers)
    cells: array[int] = field(default_factory=_numbers)
    positions: array[int] = field(default_factory=_numbers)
    items: array[int] = field(default_factory=_numbers)
    nodes: array[int] = field(default_factory=_numbers)
    pools: array[int] = field(default_factory=_numbers)
    quantities: array[int] = field(default_factory=_numbers)
    as_of: array[int] = field(default_factory=_numbers)
    sequences: array[int] = field(default_factory=_numbers)
    accounts: array[int] = field(default_factory=_numbers)
    lots: array[int] = field(default_factory=_numbers)
    instants: list[datetime] = field(default_factory=list)

    def __len__(self) -> int:
        """Number of counts."""
        return len(self.rows)

    def key(self, place: int) -> tuple[str, str, str]:
        """Item, node and pool of a count."""
        codes = self.codes
        return codes.items[self.items[place]], codes.nodes[self.nodes[place]], codes.pools[self.pools[place]]


NUMBERS: Final = tuple(each.name for each in fields(CountColumns) if each.name not in ("codes", "instants"))
"""The columns that hold a number for each count."""


@dataclass(frozen=True, slots=True)
class Sifted:
    """Places of the counts that must be booked, and how many are stale or repeated; the rest is unchanged.

    `opened` counts the positions that came to be with stock.
    """

    differing: Sequence[int]
    stale: int
    duplicate: int
    opened: int = 0


@dataclass(frozen=True, slots=True)
class Sifting:
    """Who sifts, when, under which catalogue, and the id of the batch that everything is booked under."""

    batch: UUID
    actor: str
    at: datetime
    catalog: Catalog


class Sieve(Protocol):
    """Finds the few counts of a chunk that must be looked at, and books the others as sets."""

    def sift(self, counts: CountColumns, said: Sifting) -> Sifted:
        """Sift a chunk, and commit what it books itself; demand that waits for that is woken in the same commit."""


@dataclass(slots=True)
class SnapshotResult:
    """How many counts of a chunk became what, and those that were refused by row."""

    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    refused: list[tuple[int, Result]] = field(default_factory=list)


def book_sifted(
    books: Books,
    clerk: Clerk,
    counts: CountColumns,
    sifted: Sifted,
    message: Callable[[int], StockCount],
    now: datetime,
    messages_seen: Sequence[tuple[str, str]] = (),
) -> SnapshotResult:
    """Book what differs of a chunk, with `messages_seen` in the last step. `message` gives the count at a place.

    The next chunk may be sifted meanwhile: whatever of it is not as it was then comes here, too, and is compared again.
    """
    result = SnapshotResult()
    result.outcomes[Outcome.BOOKED] += sifted.opened
    result.outcomes[Outcome.STALE] += sifted.stale
    result.outcomes[Outcome.DUPLICATE] += sifted.duplicate
    result.outcomes[Outcome.UNCHANGED] += (
        len(counts) - sifted.stale - sifted.duplicate - len(sifted.differing) - sifted.opened
    )
    places = list(sifted.differing)
    for first in range(0, max(1, len(places)), MOST_STATEMENTS):
        part = places[first : first + MOST_STATEMENTS]
        last = first + MOST_STATEMENTS >= len(places)
        told = [message(place) for place in part]
        booked = book_counts(books, clerk, told, now, messages_seen if last else ())
        for place, outcome in zip(part, booked, strict=True):
            result.outcomes[outcome.outcome] += 1
            if outcome.outcome is Outcome.REFUSED:
                result.refused.append((counts.rows[place], outcome))
    return result
