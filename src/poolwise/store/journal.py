"""Balances as of an instant: the present ones, with the movements that came after it taken back (laws 3 and 9).

The time of a position's movements rises with their versions, so the journal is read backwards by primary key, in
steps that grow, until it is old enough. The cost is that of the movements to be taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Final

from psycopg import Cursor
from psycopg.rows import TupleRow

from poolwise.core.ledger import Position
from poolwise.core.values import replace
from poolwise.store.arrays import array

FIRST_STEP: Final = 16
STEPS: Final = 40

READ_JOURNAL: Final = """
SELECT m.position, m.source, m.target, m.quantity, m.version, coalesce(m.occurred_at, m.at) > u.instant
FROM unnest(%(cells)b::smallint[], %(positions)b::bigint[], %(firsts)b::bigint[], %(lasts)b::bigint[],
    %(instants)b::timestamptz[]) AS u (cell, position, first, last, instant)
JOIN movement AS m ON m.cell = u.cell AND m.position = u.position AND m.version BETWEEN u.first AND u.last
    AND m.at > u.instant
WHERE m.month >= %(month)b
"""


def first_of_month(at: date) -> date:
    """The partition a row of that time lies in."""
    return date(at.year, at.month, 1)


def balances_as_of(
    cursor: Cursor[TupleRow], positions: Mapping[int, Position], asked: Mapping[int, datetime]
) -> dict[int, Position]:
    """The positions as they were after every movement up to the instant asked for each."""
    balances = {id_: list(position.balances) for id_, position in positions.items()}
    versions = {id_: position.version for id_, position in positions.items()}
    taken_back = dict.fromkeys(positions, 0)
    left = sorted(id_ for id_, version in versions.items() if version)
    step = FIRST_STEP
    for _ in range(STEPS):
        if not left:
            break
        firsts = {id_: max(1, versions[id_] - step + 1) for id_ in left}
        cursor.execute(
            READ_JOURNAL,
            {
                "cells": array("int2", [positions[id_].cell for id_ in left]),
                "positions": array("int8", left),
                "firsts": array("int8", [firsts[id_] for id_ in left]),
                "lasts": array("int8", [versions[id_] for id_ in left]),
                "instants": array("timestamptz", [asked[id_] for id_ in left]),
                "month": first_of_month(min(asked[id_] for id_ in left)),
            },
        )
        for id_, source, target, quantity, version, came_later in cursor.fetchall():
            # What was recorded later but had happened by then stays.
            balances[id_][source] += quantity * came_later
            balances[id_][target] -= quantity * came_later
            taken_back[id_] += came_later
            versions[id_] = min(versions[id_], version - 1)
        left = [id_ for id_ in left if versions[id_] and versions[id_] < firsts[id_]]
        step *= 4
    assert not left, "a journal of more movements than there can be"
    return {
        id_: replace(position, balances=tuple(balances[id_]), version=position.version - taken_back[id_])
        if taken_back[id_]
        else position
        for id_, position in positions.items()
    }
