"""The sieve of snapshots: finds which counts of a chunk change something, and marks the rest. Laws 5 and 9.

It asks what `core.counting` would: is the statement newer than the mark, and is the figure what the position had at
that time? Where both hold, as nearly always, the count is marked as known in the sheet of its position; nothing else is
written. Positions that owe units, and whatever else is unusual, are left to core.

While a chunk is compared and marked nobody else who marks counts, or asks for marks, is at its positions: what was
booked before is seen here, and what comes later sees these marks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from psycopg import Cursor
from psycopg.rows import TupleRow

from poolwise.core.counting import OWN_LOT, owner_of
from poolwise.core.ledger import PositionKey
from poolwise.flows.snapshot import NO_SEQUENCE, CountColumns, Sifted, Sifting
from poolwise.flows.waking import wake
from poolwise.store import postgres
from poolwise.store.arrays import instant, micros, packed, raw_rows, unpacked
from poolwise.store.books import GO_BY_KEY, PostgresTransaction, translated
from poolwise.store.journal import first_of_month
from poolwise.store.locking import RowLocks
from poolwise.store.opening import Opened, open_positions
from poolwise.store.places import Places
from poolwise.store.postgres import Pool
from poolwise.store.sheets import Ints, Sheets
from poolwise.store.steps import never

# `accounts` says how many of available, reserved and blocked a figure includes.
READ_FIGURES: Final = """
SELECT array_agg(id), array_agg(available
        + CASE WHEN %(accounts)b::smallint > 1 THEN reserved ELSE 0 END
        + CASE WHEN %(accounts)b::smallint > 2 THEN blocked ELSE 0 END),
    array_agg(id) FILTER (WHERE moved_at > %(earliest)b)
FROM position
WHERE cell = %(cell)b::smallint AND id = ANY (%(ids)b::bigint[])
"""
# Accounts are numbered as in core.ledger.ACCOUNTS: available is 4, reserved 5, blocked 6.
SUM_LATER: Final = """
SELECT u.place, (
        SELECT coalesce(sum(v.quantity * (
            (v.target BETWEEN 4 AND 3 + %(accounts)b::smallint)::integer
            - (v.source BETWEEN 4 AND 3 + %(accounts)b::smallint)::integer
        )), 0)::bigint
        FROM movement AS v
        WHERE v.cell = %(cell)b::smallint AND v.position = u.id AND v.month BETWEEN %(month)b AND %(last_month)b
            AND v.at > (%(instants)b::timestamptz[])[u.as_of]
            AND coalesce(v.occurred_at, v.at) > (%(instants)b::timestamptz[])[u.as_of]
    )
FROM unnest(%(ids)b::bigint[], %(as_ofs)b::integer[]) WITH ORDINALITY AS u (id, as_of, place)
"""
READ_MARKS: Final = """
SELECT array_agg(position), array_agg(as_of), array_agg(coalesce(sequence, -1))
FROM count_mark
WHERE cell = %b::smallint AND position = ANY (%b::bigint[])
"""
# What a sheet says need not be said again.
DROP_MARKS: Final = """
DELETE FROM count_mark WHERE cell = %b::smallint AND position = ANY (%b::bigint[])
"""
OWING: Final = """
SELECT cell, item, node, pool, lot FROM position
WHERE cell = ANY (%b::smallint[]) AND lot >= '~' AND in_transit > 0
"""
# Many rows of a table are wanted: one walk over its index, leaf by leaf. It is planned for any keys: to look at tens of
# thousands of them would cost half as much as the walk.
IN_ONE_WALK: Final = """
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
    set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
    set_config('plan_cache_mode', 'force_generic_plan', true)
"""


NOTHING: Final = -(1 << 62)
"""The figure of a position that is not there."""


class PostgresSieve:
    """flows.snapshot.Sieve on the database behind `pool`. Demand of all `cells` in use is woken."""

    def __init__(self, pool: Pool, cells: Sequence[int] = (0,)) -> None:
        self._pool = pool
        self._places = Places(cells)

    def sift(self, counts: CountColumns, said: Sifting) -> Sifted:
        """See flows.snapshot."""
        if not len(counts):
            return Sifted((), 0, 0)
        chunk = _Chunk(counts, said)
        with translated(), postgres.transaction(self._pool, IN_ONE_WALK) as connection:
            cursor = connection.cursor(binary=True)
            chunk.compare(cursor)
        opened = Opened()
        if chunk.unknown:
            # Locks of positions come before those of sheets: by a transaction of its own.
            with translated(), postgres.transaction(self._pool, GO_BY_KEY) as connection:
                cursor = connection.cursor(binary=True)
                opened = open_positions(cursor, counts, chunk.unknown, said)
                chunk.mark_opened(cursor, opened)
                risen = {counts.key(place)[0] for place in opened.places if counts.quantities[place]}
                wake(PostgresTransaction(connection, self._places, never, []), said.catalog, risen, said.at)
        differing = [*chunk.differing, *(place for place in chunk.unknown if place not in opened.places)]
        return Sifted(sorted(differing), len(chunk.stale), len(chunk.duplicate), opened.with_stock)


class _Chunk:
    """The counts of a chunk, and what became of those that are not just marked; all by their places in it.

    `unknown` are those of positions that nobody has named before.
    """

    def __init__(self, counts: CountColumns, said: Sifting) -> None:
        self._counts, self._last_month = counts, first_of_month(said.at)
        self._cells, self._ids = np.asarray(counts.cells), np.asarray(counts.positions)
        self._accounts, self._quantities = np.asarray(counts.accounts), np.asarray(counts.quantities)
        self._instants, self._sequences = np.asarray(counts.as_of), np.asarray(counts.sequences)
        self._lots = np.asarray(counts.lots)
        self._as_ofs = np.array([micros(instant) for instant in counts.instants])[self._instants]
        self._sheets = Sheets(self._cells, np.asarray(counts.nodes), self._ids, counts.codes.nodes)
        self._is_left = np.ones(len(counts), bool)
        self.differing: list[int] = []
        self.stale: list[int] = []
        self.duplicate: list[int] = []
        self.unknown: list[int] = []

    def compare(self, cursor: Cursor[TupleRow]) -> None:
        """Find out what is newer and the same, and mark it; the rest goes to the lists."""
        RowLocks(cursor).sheets(self._sheets.keys)
        as_ofs, sequences = self._sheets.read(cursor)
        marked = self._read_marks(cursor, as_ofs, sequences)
        self._take(self.differing, self._owing(cursor))
        self._judge(as_ofs, sequences)
        for cell, places in _by_value(self._cells, np.flatnonzero(self._is_left)):
            for accounts, alike in _by_value(self._accounts, places):
                self._compare(cursor, cell, accounts, alike)
        self._sheets.write(
            cursor, self._is_left, np.maximum(as_ofs, self._as_ofs), np.maximum(sequences, self._sequences)
        )
        for cell, places in _by_value(self._cells, marked[self._is_left[marked]]):
            cursor.execute(DROP_MARKS, (cell, packed("int8", self._ids[places])))

    def mark_opened(self, cursor: Cursor[TupleRow], opened: Opened) -> None:
        """Mark the counts that positions came to be with."""
        if not opened.places:
            return
        RowLocks(cursor).sheets(self._sheets.keys)
        self._sheets.read(cursor)
        accepted = np.zeros(len(self._is_left), bool)
        accepted[list(opened.places)] = True
        self._sheets.write(cursor, accepted, self._as_ofs, self._sequences)

    def _read_marks(self, cursor: Cursor[TupleRow], as_ofs: Ints, sequences: Ints) -> Ints:
        """Times and sequences learn what rows of count_mark say, too; the places that have one."""
        marked = [np.empty(0, np.int64)]
        for cell, places in _by_value(self._cells, np.arange(len(self._cells))):
            cursor.execute(READ_MARKS, (cell, packed("int8", self._ids[places])), prepare=True)
            positions, own_as_ofs, own_sequences = map(unpacked, raw_rows(cursor)[0])
            own = self._places_of(positions)
            as_ofs[own] = np.maximum(as_ofs[own], own_as_ofs)
            sequences[own] = np.maximum(sequences[own], own_sequences)
            marked.append(own)
        return np.concatenate(marked)

    def _compare(self, cursor: Cursor[TupleRow], cell: int, accounts: int, places: Ints) -> None:
        """Take out what is not the figure the position had, of counts in a cell that include the same accounts."""
        asked: dict[str, object] = {"cell": cell, "accounts": accounts}
        earliest = instant(int(self._as_ofs[places].min()))
        ids = packed("int8", self._ids[places])
        cursor.execute(READ_FIGURES, {**asked, "ids": ids, "earliest": earliest}, prepare=True)
        found, figures, moved = map(unpacked, raw_rows(cursor)[0])
        known = self._places_of(found)
        then = np.full(len(self._ids), NOTHING)
        then[known] = figures
        moved_since = self._places_of(moved)
        if len(moved_since):
            asked |= {
                "ids": packed("int8", self._ids[moved_since]),
                "as_ofs": packed("int4", self._instants[moved_since] + 1),
                "instants": self._counts.instants,
                "month": first_of_month(earliest),
                "last_month": self._last_month,
            }
            for number, later in cursor.execute(SUM_LATER, asked).fetchall():
                then[moved_since[number - 1]] -= later
        is_new = (then[places] == NOTHING) & (self._lots[places] == 0)
        self._take(self.unknown, places[is_new])
        self._take(self.differing, places[~is_new & (then[places] != self._quantities[places])])

    def _judge(self, as_ofs: Ints, sequences: Ints) -> None:
        """Take out what is stale, repeated, or newer by its sequence only, by the times and sequences known."""
        newer = (self._as_ofs > as_ofs).astype(np.int64) - (self._as_ofs < as_ofs)
        by_sequence = (self._sequences != NO_SEQUENCE) & (sequences != NO_SEQUENCE)
        newer = np.where(by_sequence, np.sign(self._sequences - sequences), newer)
        left = self._is_left.copy()
        self._take(self.stale, np.flatnonzero(left & (newer < 0)))
        self._take(self.duplicate, np.flatnonzero(left & (newer == 0)))
        self._take(self.differing, np.flatnonzero(left & (newer > 0) & (self._as_ofs < as_ofs)))

    def _take(self, kind: list[int], places: Ints) -> None:
        kind += places.tolist()
        self._is_left[places] = False

    def _places_of(self, positions: Ints) -> Ints:
        """The place of each position, which are all in the chunk."""
        return np.searchsorted(self._ids, positions)

    def _owing(self, cursor: Cursor[TupleRow]) -> Ints:
        """The places of positions that owe units."""
        rows = cursor.execute(OWING, (np.unique(self._cells).tolist(),)).fetchall()
        owners = [owner.id() for _, *key in rows if (owner := owner_of(PositionKey(*key))) is not None]
        return np.flatnonzero(np.isin(self._ids, owners)) if owners else np.empty(0, np.int64)


def _by_value(values: Ints, places: Ints) -> Iterator[tuple[int, Ints]]:
    """Places apart by the value that is there."""
    own = values[places]
    for value in np.unique(own).tolist():
        yield value, places[own == value]


assert NO_SEQUENCE == -1 and OWN_LOT == "~", "as the statements above say"
