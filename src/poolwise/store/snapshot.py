"""The sieve of snapshots: finds which counts of a chunk change something, and marks the rest. Laws 5 and 9.

It asks what `core.counting` would: is the statement newer than the mark, and is the figure what the position had at
that time? Nearly every count is answered by one UPDATE, which marks it as known where both hold. What is left is
looked at more closely; positions that owe units are left to core.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray
from psycopg import Cursor
from psycopg.rows import TupleRow

from poolwise.core.counting import OWN_LOT, owner_of
from poolwise.core.ledger import PositionKey
from poolwise.flows.snapshot import NO_SEQUENCE, CountColumns, Sifted, Sifting
from poolwise.store import postgres
from poolwise.store.arrays import packed, register
from poolwise.store.books import translated
from poolwise.store.journal import first_of_month
from poolwise.store.opening import open_positions
from poolwise.store.postgres import Pool

# Accounts are numbered as in core.ledger.ACCOUNTS: available is 4, reserved 5, blocked 6.
MARK_UNCHANGED: Final = """
UPDATE count_mark AS m
SET as_of = (%(instants)b::timestamptz[])[u.as_of], sequence = coalesce(nullif(u.sequence, -1), m.sequence)
FROM unnest(%(cells)b::smallint[], %(ids)b::bigint[], %(quantities)b::bigint[], %(as_ofs)b::integer[],
    %(sequences)b::bigint[], %(accounts)b::smallint[])
    WITH ORDINALITY AS u (cell, id, quantity, as_of, sequence, accounts, place)
JOIN position AS p ON p.cell = u.cell AND p.id = u.id
WHERE m.cell = u.cell AND m.position = u.id
    AND m.cell = ANY (%(all_cells)b::smallint[]) AND m.position = ANY (%(ids)b::bigint[])
    AND p.cell = ANY (%(all_cells)b::smallint[]) AND p.id = ANY (%(ids)b::bigint[])
    AND (%(instants)b::timestamptz[])[u.as_of] > m.as_of
    AND (u.sequence = -1 OR m.sequence IS NULL OR u.sequence > m.sequence)
    AND u.quantity = p.available
        + CASE WHEN u.accounts > 1 THEN p.reserved ELSE 0 END
        + CASE WHEN u.accounts > 2 THEN p.blocked ELSE 0 END
        - CASE WHEN p.moved_at <= (%(instants)b::timestamptz[])[u.as_of] THEN 0 ELSE (
            SELECT coalesce(sum(v.quantity * (
                (v.target BETWEEN 4 AND 3 + u.accounts)::integer - (v.source BETWEEN 4 AND 3 + u.accounts)::integer
            )), 0)::bigint
            FROM movement AS v
            WHERE v.cell = p.cell AND v.position = p.id AND v.month BETWEEN %(month)b AND %(last_month)b
                AND v.at > (%(instants)b::timestamptz[])[u.as_of]
                AND coalesce(v.occurred_at, v.at) > (%(instants)b::timestamptz[])[u.as_of]
        ) END
RETURNING u.place
"""
SIFT: Final = """
WITH told AS MATERIALIZED (
    SELECT u.place, u.cell, u.id, u.quantity, (%(instants)b::timestamptz[])[u.as_of] AS as_of,
        nullif(u.sequence, -1) AS sequence, u.accounts,
        p.moved_at, p.available
        + CASE WHEN u.accounts > 1 THEN p.reserved ELSE 0 END
        + CASE WHEN u.accounts > 2 THEN p.blocked ELSE 0 END AS figure,
        m.as_of AS known_as_of, m.sequence AS known_sequence
    FROM unnest(%(cells)b::smallint[], %(ids)b::bigint[], %(quantities)b::bigint[], %(as_ofs)b::integer[],
        %(sequences)b::bigint[], %(accounts)b::smallint[])
        WITH ORDINALITY AS u (cell, id, quantity, as_of, sequence, accounts, place)
    LEFT JOIN position AS p ON p.cell = u.cell AND p.id = u.id
    LEFT JOIN count_mark AS m ON m.cell = u.cell AND m.position = u.id
), judged AS MATERIALIZED (
    SELECT told.*, CASE
        WHEN known_as_of IS NULL THEN 1
        WHEN sequence IS NOT NULL AND known_sequence IS NOT NULL THEN sign(sequence - known_sequence)
        WHEN as_of > known_as_of THEN 1
        WHEN as_of = known_as_of THEN 0
        ELSE -1
    END AS newer
    FROM told
), later AS (
    SELECT j.place, sum(v.quantity * (
        (v.target BETWEEN 4 AND 3 + j.accounts)::integer - (v.source BETWEEN 4 AND 3 + j.accounts)::integer
    )) AS quantity
    FROM judged AS j
    JOIN movement AS v ON v.cell = j.cell AND v.position = j.id
    WHERE j.newer > 0 AND j.moved_at > j.as_of AND v.at > j.as_of
        AND v.month BETWEEN %(month)b AND %(last_month)b
        AND coalesce(v.occurred_at, v.at) > j.as_of
    GROUP BY j.place
)
SELECT
    array_agg(j.place) FILTER (WHERE j.figure IS NULL AND j.known_as_of IS NULL),
    array_agg(j.place) FILTER (WHERE j.newer > 0 AND NOT (j.figure IS NULL AND j.known_as_of IS NULL) AND (
        j.figure IS NULL OR j.as_of < j.known_as_of OR j.figure - coalesce(l.quantity, 0) <> j.quantity
    )),
    array_agg(j.place) FILTER (WHERE j.newer < 0),
    array_agg(j.place) FILTER (WHERE j.newer = 0)
FROM judged AS j
LEFT JOIN later AS l ON l.place = j.place
"""
OWING: Final = """
SELECT cell, item, node, pool, lot FROM position
WHERE cell = ANY (%b::smallint[]) AND lot >= '~' AND in_transit > 0
"""
# Many rows are wanted, in the order of the index: one walk over it per table, leaf by leaf, then a hash join of what it
# found. A descent for each row would cost twice as much.
IN_ONE_WALK: Final = """
SELECT set_config('enable_nestloop', 'off', true), set_config('enable_mergejoin', 'off', true),
    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
    set_config('work_mem', '32MB', true)
"""
# The rows come in the order of the index, and few of a large table are wanted: the planner knows neither.
BY_INDEX: Final = """
SELECT set_config('enable_nestloop', 'on', true), set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true), set_config('enable_seqscan', 'off', true)
"""
MARK: Final = """
INSERT INTO count_mark AS m (cell, position, as_of, sequence)
SELECT u.cell, u.id, (%(instants)b::timestamptz[])[u.as_of], nullif(u.sequence, -1)
FROM unnest(%(cells)b::smallint[], %(ids)b::bigint[], %(as_ofs)b::integer[], %(sequences)b::bigint[])
    AS u (cell, id, as_of, sequence)
ON CONFLICT (cell, position) DO UPDATE
SET as_of = excluded.as_of, sequence = coalesce(excluded.sequence, m.sequence)
WHERE CASE
    WHEN m.sequence IS NOT NULL AND excluded.sequence IS NOT NULL THEN excluded.sequence > m.sequence
    ELSE excluded.as_of > m.as_of
END
"""


class PostgresSieve:
    """flows.snapshot.Sieve on the database behind `pool`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def sift(self, counts: CountColumns, said: Sifting) -> Sifted:
        """See flows.snapshot."""
        if not len(counts):
            return Sifted((), 0, 0)
        told = _Told(counts, said.at)
        with translated(), postgres.transaction(self._pool) as connection:
            cursor = connection.cursor(binary=True)
            register(cursor)
            cursor.execute(IN_ONE_WALK)
            owing = told.places_of(_owing(cursor, told))
            told.drop(owing)
            told.drop_marked(cursor.execute(MARK_UNCHANGED, told.parameters()).fetchall())
            cursor.execute(BY_INDEX)
            unknown, differing, stale, duplicate = _look_closer(cursor, told)
            opened = open_positions(cursor, counts, [place for place in unknown if not counts.lots[place]], said)
            differing = [*owing, *differing, *(place for place in unknown if place not in opened.places)]
            told.drop([*differing, *stale, *duplicate, *opened.places])
            if len(told.places):
                cursor.execute(MARK, told.parameters())
        risen = {counts.items[place] for place in (*opened.places, *duplicate)}
        return Sifted(sorted(differing), len(stale), len(duplicate), opened.with_stock, risen)


class _Told:
    """The counts of a chunk that are still to be looked at, by key; `places` is where they stand in the chunk."""

    def __init__(self, counts: CountColumns, at: datetime) -> None:
        self._instants = counts.instants
        self._last_month = first_of_month(at)
        self._columns = {
            "cells": ("int2", np.asarray(counts.cells)),
            "ids": ("int8", np.asarray(counts.positions)),
            "quantities": ("int8", np.asarray(counts.quantities)),
            "as_ofs": ("int4", np.asarray(counts.as_of) + 1),
            "sequences": ("int8", np.asarray(counts.sequences)),
            "accounts": ("int2", np.asarray(counts.accounts)),
        }
        self.places = np.lexsort((self._columns["ids"][1], self._columns["cells"][1]))

    @property
    def cells(self) -> list[int]:
        """The cells of the chunk."""
        return [int(cell) for cell in np.unique(self._columns["cells"][1])]

    def parameters(self) -> dict[str, object]:
        """The parameters of the statements above."""
        columns = {name: packed(kind, values[self.places]) for name, (kind, values) in self._columns.items()}
        return {
            **columns,
            "all_cells": self.cells,
            "instants": self._instants,
            "month": first_of_month(min(self._instants)),
            "last_month": self._last_month,
        }

    def places_of(self, positions: Iterable[int]) -> list[int]:
        """Where some positions stand."""
        wanted = np.fromiter(positions, np.int64)
        found = np.isin(self._columns["ids"][1], wanted) if len(wanted) else np.zeros(0, bool)
        return [int(place) for place in np.flatnonzero(found)]

    def drop_marked(self, rows: Sequence[TupleRow]) -> None:
        """Look no more at what was marked: its places, counted from 1 in what was asked."""
        left = np.ones(len(self.places), bool)
        left[np.fromiter(chain.from_iterable(rows), np.int64, len(rows)) - 1] = False
        self.places = self.places[left]

    def drop(self, places: Sequence[int] | NDArray[np.int64]) -> None:
        """Look no more at these."""
        if len(places):
            self.places = self.places[~np.isin(self.places, np.asarray(places))]


def _owing(cursor: Cursor[TupleRow], told: _Told) -> list[int]:
    """Positions that owe units."""
    rows = cursor.execute(OWING, (told.cells,)).fetchall()
    owners = (owner_of(PositionKey(*key)) for _, *key in rows)
    return [owner.id() for owner in owners if owner is not None]


def _look_closer(cursor: Cursor[TupleRow], told: _Told) -> list[list[int]]:
    """Of the counts that are left: those of positions nobody knows, those that differ, are stale, are repeated."""
    if not len(told.places):
        return [[], [], [], []]
    row = cursor.execute(SIFT, told.parameters()).fetchone()
    assert row is not None
    return [[int(told.places[place - 1]) for place in places or ()] for places in row]


assert NO_SEQUENCE == -1 and OWN_LOT == "~", "as the statements above say"
