"""Count marks by the thousand: a row for a part of a node's positions, as a snapshot leaves them (law 9, ADR 0013).

A mark is the latest time and the highest sequence of the statements that were accepted about its position. Some are
kept in the position's own row, those of snapshots in its sheet: the mark is the greatest of both. Whoever books what a
node says shares the sheets of his positions until he commits; a snapshot has them alone while it compares and marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray
from psycopg import Cursor
from psycopg.rows import TupleRow

from poolwise.flows.ports import CountMark
from poolwise.flows.snapshot import NO_SEQUENCE
from poolwise.store.arrays import array, instant, joined, packed, raw_rows
from poolwise.store.locking import RowLocks, SheetKey

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

PARTS: Final = 16
"""Parts of a node: by the last bits of a position's number, which is a hash."""

NEVER: Final = int(np.iinfo(np.int64).min)
"""The time of a mark that is not there."""

NOTHING: Final = np.empty(0, np.int64)

MOST_LOOKED_UP: Final = 8
"""Positions of a sheet that are looked up one by one: of more, it is cheaper to read all of it."""

# The positions of a sheet are in order: of how many it may be that they come before ours, the last one is ours or none.
FIND_MARKS: Final = """
SELECT u.cell, u.position, s.as_ofs[s.which[f.place]], s.sequences[s.which[f.place]]
FROM unnest(%b::smallint[], %b::text[], %b::smallint[], %b::bigint[]) AS u (cell, node, part, position)
JOIN count_sheet AS s ON s.cell = u.cell AND s.node = u.node AND s.part = u.part
CROSS JOIN LATERAL (SELECT width_bucket(u.position, s.positions) AS place OFFSET 0) AS f
WHERE s.positions[f.place] = u.position
"""
READ_SHEETS: Final = """
SELECT s.positions, s.which, s.as_ofs, s.sequences
FROM unnest(%b::smallint[], %b::text[], %b::smallint[]) WITH ORDINALITY AS u (cell, node, part, place)
JOIN count_sheet AS s ON s.cell = u.cell AND s.node = u.node AND s.part = u.part
ORDER BY u.place
"""
# A sheet's positions hardly ever change: then they are not written again.
WRITE_SHEETS: Final = """
UPDATE count_sheet AS s
SET positions = CASE WHEN u.grown = 1 THEN (%(positions)b::bigint[])[u.first:u.last] ELSE s.positions END,
    which = (%(which)b::integer[])[u.first:u.last],
    as_ofs = (%(as_ofs)b::timestamptz[])[u.first_stamp:u.last_stamp],
    sequences = (%(sequences)b::bigint[])[u.first_stamp:u.last_stamp]
FROM unnest(%(cells)b::smallint[], %(nodes)b::text[], %(parts)b::smallint[], %(grown)b::smallint[],
    %(firsts)b::integer[], %(lasts)b::integer[], %(first_stamps)b::integer[], %(last_stamps)b::integer[])
    AS u (cell, node, part, grown, first, last, first_stamp, last_stamp)
WHERE s.cell = u.cell AND s.node = u.node AND s.part = u.part
"""


@dataclass(frozen=True, slots=True)
class Marks:
    """Marks of positions, each with the place of its sheet. No time is NEVER, no sequence is NO_SEQUENCE."""

    sheets: Ints
    positions: Ints
    as_ofs: Ints
    sequences: Ints

    def at(self, places: Ints) -> Marks:
        """Those at some places."""
        return Marks(self.sheets[places], self.positions[places], self.as_ofs[places], self.sequences[places])

    def with_unmarked(self, sheets: Ints, positions: Ints) -> Marks:
        """These, and behind them positions that have none."""
        return Marks(
            np.concatenate((self.sheets, sheets)),
            np.concatenate((self.positions, positions)),
            np.concatenate((self.as_ofs, np.full(len(positions), NEVER))),
            np.concatenate((self.sequences, np.full(len(positions), NO_SEQUENCE))),
        )


class Sheets:
    """The sheets of some positions, which are told by their places from 0 on. `keys` are in the order of locks."""

    def __init__(self, cells: Ints, nodes: Ints, positions: Ints, names: Sequence[str]) -> None:
        """`nodes` are places in `names`. It is quick where positions are in order."""
        self._positions = positions
        owners, present_nodes = np.unique(cells), np.unique(nodes)
        present_names = sorted(names[node] for node in present_nodes.tolist())
        rank = np.array([present_names.index(names[node]) for node in present_nodes.tolist()], np.int64)
        number = rank[np.searchsorted(present_nodes, nodes)]
        sheet = (np.searchsorted(owners, cells) * len(rank) + number) * PARTS + positions % PARTS
        present = np.flatnonzero(np.bincount(sheet))
        self._sheets = np.searchsorted(present, sheet)
        places = ((*divmod(at // PARTS, len(rank)), at % PARTS) for at in present.tolist())
        self.keys: list[SheetKey] = [(int(owners[cell]), present_names[node], part) for cell, node, part in places]

    def read(self, cursor: Cursor[TupleRow]) -> tuple[Ints, Ints]:
        """Read the sheets, once they are locked: times and sequences known of every position."""
        held = self._held(cursor)
        by_position = np.argsort(held.positions)
        in_order = held.positions[by_position]
        at = np.searchsorted(in_order, self._positions)
        there = at < len(in_order)
        there[there] = in_order[at[there]] == self._positions[there]
        at[there] = by_position[at[there]]
        at[~there] = len(in_order) + np.arange(len(there) - np.count_nonzero(there))
        self._marks = held.with_unmarked(self._sheets[~there], self._positions[~there])
        self._known, self._at = len(in_order), at
        return self._marks.as_ofs[at], self._marks.sequences[at]

    def _held(self, cursor: Cursor[TupleRow]) -> Marks:
        """What the sheets hold, sheet after sheet."""
        rows = raw_rows(cursor.execute(READ_SHEETS, _columns(self.keys))) if self.keys else []
        assert len(rows) == len(self.keys), "they are locked"
        (positions, lengths), (which, _), (stamps, numbers), (sequences, _) = (
            joined(kind, [row[place] for row in rows])
            for place, kind in enumerate(("int8", "int4", "timestamptz", "int8"))
        )
        stamp = which - 1 + np.repeat(np.cumsum(numbers) - numbers, lengths)
        sheets = np.repeat(np.arange(len(rows)), lengths)
        return Marks(sheets, positions, stamps[stamp], sequences[stamp])

    def write(self, cursor: Cursor[TupleRow], accepted: Flags, as_ofs: Ints, sequences: Ints) -> None:
        """Mark the positions at the accepted places; times and sequences are by place."""
        marks, at = self._marks, self._at[accepted]
        marks.as_ofs[at] = np.maximum(marks.as_ofs[at], as_ofs[accepted])
        marks.sequences[at] = np.maximum(marks.sequences[at], sequences[accepted])
        changed, grown = np.zeros(len(self.keys), bool), np.zeros(len(self.keys), bool)
        changed[marks.sheets[at]] = True
        grown[marks.sheets[at[at >= self._known]]] = True
        written = marks.at(np.flatnonzero(changed[marks.sheets] & (marks.as_ofs != NEVER)))
        if grown.any():
            written = written.at(np.lexsort((written.positions, written.sheets)))
        if changed.any():
            cursor.execute(WRITE_SHEETS, self._written(written, changed, grown))

    def _written(self, marks: Marks, changed: Flags, grown: Flags) -> dict[str, object]:
        """The parameters of WRITE_SHEETS: what the changed sheets hold, and where in it each begins and ends."""
        cells, nodes, parts = _columns([key for key, is_changed in zip(self.keys, changed, strict=True) if is_changed])
        stamps, which, numbers = _stamped(marks, len(changed))
        lengths, numbers = np.bincount(marks.sheets, minlength=len(changed))[changed], numbers[changed]
        lasts, last_stamps = np.cumsum(lengths), np.cumsum(numbers)
        return {
            "cells": cells,
            "nodes": nodes,
            "parts": parts,
            "grown": packed("int2", grown[changed]),
            "positions": packed("int8", marks.positions if grown.any() else NOTHING),
            "which": packed("int4", which),
            "as_ofs": packed("timestamptz", marks.as_ofs[stamps]),
            "sequences": packed("int8", marks.sequences[stamps]),
            "firsts": packed("int4", lasts - lengths + 1),
            "lasts": packed("int4", lasts),
            "first_stamps": packed("int4", last_stamps - numbers + 1),
            "last_stamps": packed("int4", last_stamps),
        }


def _columns(keys: Sequence[SheetKey]) -> list[object]:
    cells, nodes, parts = zip(*keys, strict=True)
    return [array("int2", cells), array("text", nodes), array("int2", parts)]


def _stamped(marks: Marks, sheets: int) -> tuple[Ints, Ints, Ints]:
    """An example of each pair of time and sequence in each sheet, sheet by sheet; the place of everybody's pair in its
    sheet, from 1; and how many a sheet has."""
    told = (marks.sheets, marks.as_ofs, marks.sequences)
    order = np.lexsort(told[::-1])
    differs = np.ones(len(order), bool)
    differs[1:] = np.logical_or.reduce([each[order[1:]] != each[order[:-1]] for each in told])
    numbers = np.bincount(marks.sheets[order[differs]], minlength=sheets)
    which = np.empty(len(order), np.int64)
    which[order] = np.cumsum(differs) - (np.cumsum(numbers) - numbers)[marks.sheets[order]]
    return order[differs], which, numbers


def read_sheets(
    cursor: Cursor[TupleRow], locks: RowLocks, cells: Sequence[int], nodes: Sequence[str], positions: Sequence[int]
) -> dict[int, CountMark]:
    """The marks that sheets hold of some positions. No snapshot marks any of them before our transaction ends."""
    parts = [position % PARTS for position in positions]
    keys = sorted(set(zip(cells, nodes, parts, strict=True)))
    locks.sheets(keys, share=True)
    if len(positions) <= MOST_LOOKED_UP * len(keys):
        asked = (array("int2", cells), array("text", nodes), array("int2", parts), array("int8", positions))
        found = cursor.execute(FIND_MARKS, asked).fetchall() if positions else []
    else:
        found = _read_whole(cursor, cells, nodes, positions)
    return {
        position: CountMark(cell, position, as_of, None if sequence == NO_SEQUENCE else sequence)
        for cell, position, as_of, sequence in found
    }


def _read_whole(
    cursor: Cursor[TupleRow], cells: Sequence[int], nodes: Sequence[str], positions: Sequence[int]
) -> list[tuple[int, int, datetime, int]]:
    """As FIND_MARKS."""
    place = {name: place for place, name in enumerate(dict.fromkeys(nodes))}
    numbers = np.array([place[node] for node in nodes], np.int64)
    sheets = Sheets(np.array(cells, np.int64), numbers, np.array(positions, np.int64), list(place))
    as_ofs, sequences = (column.tolist() for column in sheets.read(cursor))
    return [
        (cell, position, instant(as_of), sequence)
        for cell, position, as_of, sequence in zip(cells, positions, as_ofs, sequences, strict=True)
        if as_of != NEVER
    ]


def greatest(one: CountMark | None, other: CountMark) -> CountMark:
    """The later time and the higher sequence of two marks of a position."""
    if one is None:
        return other
    sequences = [mark.sequence for mark in (one, other) if mark.sequence is not None]
    return CountMark(one.cell, one.position, max(one.as_of, other.as_of), max(sequences, default=None))
