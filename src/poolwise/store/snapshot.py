"""The sieve of snapshots: finds in one statement which counts of a chunk change something. Laws 5 and 9.

It asks what `core.counting` would: is the statement newer than the mark, and is the figure what the position had at
that time? Positions that owe units are left to core. What is unchanged gets its mark, set by set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from psycopg import Cursor
from psycopg.rows import TupleRow

from poolwise.core.counting import OWN_LOT
from poolwise.flows.snapshot import NO_SEQUENCE, CountColumns, Sifted
from poolwise.store import postgres
from poolwise.store.arrays import array, register
from poolwise.store.books import translated
from poolwise.store.journal import first_of_month
from poolwise.store.postgres import Pool

# Accounts are numbered as in core.ledger.ACCOUNTS: available is 4, reserved 5, blocked 6.
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
    WHERE j.newer > 0 AND j.moved_at > j.as_of AND v.at > j.as_of AND v.month >= %(month)b
        AND coalesce(v.occurred_at, v.at) > j.as_of
    GROUP BY j.place
)
SELECT
    array_agg(j.place) FILTER (WHERE j.newer > 0 AND (
        j.figure IS NULL OR j.as_of < j.known_as_of OR j.figure - coalesce(l.quantity, 0) <> j.quantity
    )),
    array_agg(j.place) FILTER (WHERE j.newer < 0),
    array_agg(j.place) FILTER (WHERE j.newer = 0)
FROM judged AS j
LEFT JOIN later AS l ON l.place = j.place
"""
OWING: Final = """
SELECT item, node, pool, lot FROM position WHERE cell = ANY (%b::smallint[]) AND lot >= '~' AND in_transit > 0
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

    def sift(self, counts: CountColumns) -> Sifted:
        """See flows.snapshot."""
        if not len(counts):
            return Sifted((), 0, 0)
        with translated(), postgres.transaction(self._pool) as connection:
            cursor = connection.cursor(binary=True)
            register(cursor)
            words = {
                "cells": array("int2", counts.cells),
                "ids": array("int8", counts.positions),
                "quantities": array("int8", counts.quantities),
                "as_ofs": array("int4", [place + 1 for place in counts.as_of]),
                "sequences": array("int8", counts.sequences),
                "accounts": array("int2", counts.accounts),
                "instants": counts.instants,
                "month": first_of_month(min(counts.instants)),
            }
            row = cursor.execute(SIFT, words).fetchone()
            assert row is not None
            differing, stale, duplicate = ([place - 1 for place in places or ()] for places in row)
            _mark(cursor, counts, [*differing, *stale, *duplicate])
        return Sifted(differing, len(stale), len(duplicate))


def _mark(cursor: Cursor[TupleRow], counts: CountColumns, others: Sequence[int]) -> None:
    """Mark every count as known, in key order, but for those at `others`."""
    keep = np.ones(len(counts), dtype=bool)
    keep[list(others)] = False
    cells, ids = np.asarray(counts.cells), np.asarray(counts.positions)
    order = np.lexsort((ids, cells))
    order = order[keep[order]]
    if not len(order):
        return
    cursor.execute(
        MARK,
        {
            "cells": array("int2", cells[order].tolist()),
            "ids": array("int8", ids[order].tolist()),
            "as_ofs": array("int4", (np.asarray(counts.as_of)[order] + 1).tolist()),
            "sequences": array("int8", np.asarray(counts.sequences)[order].tolist()),
            "instants": counts.instants,
        },
    )


assert NO_SEQUENCE == -1 and OWN_LOT == "~", "as the statements above say"
