"""The change feed: numbers given after the commit, one by one, and a reader that resumes from any of them (law 7).

Outbox rows commit in another order than they are numbered in, so their own numbers are no position: a reader that
resumed after the highest would lose those that commit later. Here one sequencer at a time and cell numbers what it can
see; it holds the row of `feed_position` locked, and its numbers show together with the new end, or not at all. What is
not seen yet is seen the next time: nothing is lost, whatever is killed between which two lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from psycopg import Cursor
from psycopg.rows import TupleRow

from poolwise.flows.views import Numbered, Place
from poolwise.store import postgres
from poolwise.store.arrays import array
from poolwise.store.books import translated
from poolwise.store.codec import unpack_events
from poolwise.store.postgres import Pool
from poolwise.store.steps import Failpoint, never

MOST_ROWS: Final = 5_000

# The row of a cell comes to be when its first event is numbered. Where it is there, this does nothing at once.
BEGIN: Final = "INSERT INTO feed_position (cell, next_seq) VALUES (%b, 1) ON CONFLICT (cell) DO NOTHING"
# Whoever holds this row is the sequencer of the cell; others do not wait for it.
LEASE: Final = "SELECT next_seq FROM feed_position WHERE cell = %b FOR UPDATE SKIP LOCKED"
UNNUMBERED: Final = """
SELECT no, month, count, at FROM outbox WHERE cell = %b AND first_seq IS NULL ORDER BY cell, no LIMIT %b
"""
NUMBER: Final = """
UPDATE outbox AS o
SET first_seq = u.first_seq
FROM unnest(%(numbers)b::bigint[], %(months)b::date[], %(firsts)b::bigint[]) AS u (no, month, first_seq)
WHERE o.cell = %(cell)b AND o.no = u.no AND o.month = u.month AND o.first_seq IS NULL
"""
ADVANCE: Final = "UPDATE feed_position SET next_seq = %b WHERE cell = %b"


@dataclass(frozen=True, slots=True)
class Sequenced:
    """What one call numbered, and how old the oldest of it was."""

    rows: int = 0
    events: int = 0
    lag: timedelta = timedelta(0)


def sequence_once(pool: Pool, cell: int, now: datetime, limit: int, failpoint: Failpoint = never) -> Sequenced:
    """Number up to `limit` committed outbox rows of a cell, in one transaction.

    Any number of processes may call it in a loop: while one is at it, the others number nothing. Raises Upstream.
    """
    assert 0 < limit <= MOST_ROWS
    with translated(), postgres.transaction(pool) as connection:
        cursor = connection.cursor(binary=True)
        row = cursor.execute(LEASE, (cell,)).fetchone()
        if row is None and cursor.execute(BEGIN, (cell,)).rowcount:
            row = cursor.execute(LEASE, (cell,)).fetchone()
        if row is None:
            return Sequenced()
        failpoint("leased")
        rows = cursor.execute(UNNUMBERED, (cell, limit)).fetchall()
        if not rows:
            return Sequenced()
        first: int = row[0]
        firsts = []
        for _, _, count, _ in rows:
            firsts.append(first)
            first += count
        numbered = {
            "cell": cell,
            "numbers": array("int8", [no for no, *_ in rows]),
            "months": [month for _, month, *_ in rows],
            "firsts": array("int8", firsts),
        }
        cursor.execute(NUMBER, numbered)
        assert cursor.rowcount == len(rows), "only the sequencer numbers, and it holds the lease"
        failpoint("numbered")
        cursor.execute(ADVANCE, (first, cell))
        failpoint("advanced")
    failpoint("committed")
    return Sequenced(len(rows), first - row[0], now - min(at for *_, at in rows))


# The row that holds the first event wanted begins at or before it.
READ: Final = """
SELECT first_seq, count, at, events
FROM outbox
WHERE cell = %(cell)b AND first_seq IS NOT NULL AND first_seq >= coalesce((
        SELECT first_seq FROM outbox
        WHERE cell = %(cell)b AND first_seq IS NOT NULL AND first_seq <= %(next)b
        ORDER BY cell DESC, first_seq DESC LIMIT 1
    ), 0)
ORDER BY cell, first_seq
LIMIT %(limit)b
"""
# Several events may be in one row: it is read once.
READ_NUMBERED: Final = """
SELECT first_seq, at, events
FROM outbox
WHERE cell = %(cell)b AND first_seq IS NOT NULL AND first_seq = ANY (ARRAY(
        SELECT (
            SELECT first_seq FROM outbox
            WHERE cell = %(cell)b AND first_seq IS NOT NULL AND first_seq <= wanted.number
            ORDER BY cell DESC, first_seq DESC LIMIT 1
        )
        FROM unnest(%(numbers)b::bigint[]) AS wanted (number)
    ))
"""
END: Final = "SELECT cell, next_seq - 1 FROM feed_position WHERE cell = ANY (%b::smallint[]) ORDER BY cell"


def read_after(cursor: Cursor[TupleRow], cell: int, number: int, limit: int) -> list[Numbered]:
    """The events of a cell after a number, of at most `limit` transactions."""
    found: list[Numbered] = []
    for first, count, at, packed in cursor.execute(READ, {"cell": cell, "next": number + 1, "limit": limit}):
        if first + count > number + 1:
            found += unpacked(cell, first, at, packed)[max(0, number + 1 - first) :]
    return found


def read_numbered(cursor: Cursor[TupleRow], cell: int, numbers: Sequence[int]) -> dict[int, Numbered]:
    """The events of a cell that have these numbers, by number, with others that happened in the same transactions."""
    found: dict[int, Numbered] = {}
    for first, at, packed in cursor.execute(READ_NUMBERED, {"cell": cell, "numbers": list(numbers)}):
        found.update((each.number, each) for each in unpacked(cell, first, at, packed))
    return found


def unpacked(cell: int, first: int, at: datetime, packed: bytes) -> list[Numbered]:
    """The events of an outbox row whose first has a number."""
    return [Numbered(cell, first + offset, at, event) for offset, event in enumerate(unpack_events(packed, cell))]


# When an event happened. Where the feed begins later, there is none.
HAPPENED: Final = """
SELECT at FROM outbox
WHERE cell = %(cell)b AND first_seq IS NOT NULL AND first_seq <= %(number)b
ORDER BY cell DESC, first_seq DESC LIMIT 1
"""


class PostgresFeed:
    """flows.views.Feed on the database behind `pool`, for the `cells` in use."""

    def __init__(self, pool: Pool, cells: Sequence[int] = (0,)) -> None:
        self._pool = pool
        self._cells = sorted(cells)

    def after(self, place: Place, limit: int) -> Sequence[Numbered]:
        """See flows.views."""
        found: list[Numbered] = []
        with translated(), self._pool.connection() as connection:
            cursor = connection.cursor(binary=True)
            for cell in self._cells:
                found += read_after(cursor, cell, place.get(cell, 0), limit)
        return found

    def end(self) -> dict[int, int]:
        """See flows.views."""
        with translated(), self._pool.connection() as connection:
            return dict(connection.execute(END, (self._cells,)).fetchall())

    def before(self, at: datetime) -> dict[int, int]:
        """See flows.views. The feed is in the order of time but for moments: each cell is searched by halves."""
        place = self.end()
        with translated(), self._pool.connection() as connection:
            for cell, last in place.items():
                older, newest = 0, last
                while older < newest:
                    middle = (older + newest + 1) // 2
                    row = connection.execute(HAPPENED, {"cell": cell, "number": middle}).fetchone()
                    if row is None or row[0] < at:
                        older = middle
                    else:
                        newest = middle - 1
                place[cell] = older
        return place
