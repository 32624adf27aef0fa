"""Count marks by the thousand: a row for a part of a node's positions, as a snapshot leaves them (law 9, ADR 0013).

A mark is the latest time and the highest sequence of the statements that were accepted about its position. Some are
kept in the position's own row, those of snapshots in its sheet: the mark is the greatest of both. Whoever books what a
node says shares the sheets of his positions until he commits; a snapshot has them alone while it compares and marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray
from psycopg import Cursor
from psycopg.rows import TupleRow

from poolwise.flows.ports import CountMark
from poolwise.flows.snapshot import NO_SEQUENCE
from poolwise.store.arrays import array, packed, raw_rows, unpacked
from poolwise.store.locking import RowLocks, SheetKey

Ints = NDArray[np.int64]

PARTS: Final = 16
"""Parts of a node: by the last bits of a position's number, which is a hash."""

NEVER: Final = int(np.iinfo(np.int64).min)
"""The time of a mark that is not there."""

EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

READ_SHEETS: Final = """
SELECT s.cell, s.node, s.part, s.positions, s.which, s.as_ofs, s.sequences
FROM count_sheet AS s
JOIN unnest(%b::smallint[], %b::text[], %b::smallint[]) AS u (cell, node, part)
    ON s.cell = u.cell AND s.node = u.node AND s.part = u.part
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


def micros(at: datetime) -> int:
    """An instant as the database writes it in binary."""
    return (at - EPOCH) // MICROSECOND


def instant(at: int) -> datetime:
    """The instant that `micros` made a number of."""
    return EPOCH + at * MICROSECOND


@dataclass(frozen=True, slots=True)
class Marks:
    """Marks of positions, which rise. No sequence is NO_SEQUENCE."""

    positions: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    as_ofs: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    sequences: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def of(self, positions: Ints) -> tuple[Ints, Ints]:
        """Times and sequences known of some positions: NEVER and NO_SEQUENCE where nothing is."""
        as_ofs, sequences = np.full(len(positions), NEVER), np.full(len(positions), NO_SEQUENCE)
        at, there = self._find(positions)
        as_ofs[there], sequences[there] = self.as_ofs[at[there]], self.sequences[at[there]]
        return as_ofs, sequences

    def joined(self, other: Marks) -> Marks:
        """The greatest of both, for all the positions of either."""
        _, there = self._find(other.positions)
        positions = self.positions if there.all() else np.union1d(self.positions, other.positions)
        as_ofs, sequences = self.of(positions)
        at = np.searchsorted(positions, other.positions)
        as_ofs[at] = np.maximum(as_ofs[at], other.as_ofs)
        sequences[at] = np.maximum(sequences[at], other.sequences)
        return Marks(positions, as_ofs, sequences)

    def _find(self, positions: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Where each position would be, and whether it is there."""
        at = np.searchsorted(self.positions, positions)
        there = at < len(self.positions)
        there[there] = self.positions[at[there]] == positions[there]
        return at, there


class Sheets:
    """The sheets of some positions, which are told by their places from 0 on. `keys` are in the order of locks."""

    def __init__(self, cells: Sequence[int], nodes: Sequence[str], positions: Sequence[int] | Ints) -> None:
        self._positions = np.asarray(positions, np.int64)
        owners, names = np.unique(np.asarray(cells, np.int64)), sorted(set(nodes))
        numbers = {name: number for number, name in enumerate(names)}
        number = np.fromiter(map(numbers.__getitem__, nodes), np.int64, len(nodes))
        sheet = (np.searchsorted(owners, cells) * len(names) + number) * PARTS + self._positions % PARTS
        self._order = np.argsort(sheet, kind="stable")
        present, self._begins = np.unique(sheet[self._order], return_index=True)
        places = ((*divmod(at // PARTS, len(names)), at % PARTS) for at in present.tolist())
        self.keys: list[SheetKey] = [(int(owners[cell]), names[node], part) for cell, node, part in places]
        self._marks: dict[SheetKey, Marks] = {}

    def read(self, cursor: Cursor[TupleRow]) -> tuple[Ints, Ints]:
        """Read the sheets, once they are locked: times and sequences known of every position."""
        as_ofs, sequences = np.full(len(self._positions), NEVER), np.full(len(self._positions), NO_SEQUENCE)
        if not self.keys:
            return as_ofs, sequences
        cursor.execute(READ_SHEETS, _columns(self.keys))
        for cell, node, part, positions, which, stamps, numbers in raw_rows(cursor):
            assert cell is not None and node is not None and part is not None, "they are its key"
            place = unpacked(which) - 1
            marks = Marks(unpacked(positions), unpacked(stamps)[place], unpacked(numbers)[place])
            self._marks[int.from_bytes(cell, "big"), node.decode(), int.from_bytes(part, "big")] = marks
        for key, places in self._places():
            as_ofs[places], sequences[places] = self._marks[key].of(self._positions[places])
        return as_ofs, sequences

    def write(self, cursor: Cursor[TupleRow], accepted: NDArray[np.bool_], as_ofs: Ints, sequences: Ints) -> None:
        """Mark the positions at the accepted places; times and sequences are by place."""
        changed: list[tuple[SheetKey, Marks, bool]] = []
        for key, all_places in self._places():
            places = all_places[accepted[all_places]]
            if len(places):
                before = self._marks[key]
                after = before.joined(Marks(self._positions[places], as_ofs[places], sequences[places]))
                changed.append((key, after, len(after.positions) > len(before.positions)))
        if changed:
            cursor.execute(WRITE_SHEETS, _written(changed))

    def _places(self) -> list[tuple[SheetKey, Ints]]:
        return list(zip(self.keys, np.split(self._order, self._begins[1:]), strict=True))


def _columns(keys: Sequence[SheetKey]) -> list[object]:
    cells, nodes, parts = zip(*keys, strict=True)
    return [array("int2", cells), array("text", nodes), array("int2", parts)]


def _written(changed: Sequence[tuple[SheetKey, Marks, bool]]) -> dict[str, object]:
    """The parameters of WRITE_SHEETS: what all sheets hold, one after the other, and where each begins and ends."""
    cells, nodes, parts = _columns([key for key, _, _ in changed])
    lengths = np.array([len(marks.positions) for _, marks, _ in changed])
    positions, as_ofs, sequences = (
        np.concatenate(column)
        for column in zip(*((marks.positions, marks.as_ofs, marks.sequences) for _, marks, _ in changed), strict=True)
    )
    stamps, which, numbers = _stamped(as_ofs, sequences, np.repeat(np.arange(len(lengths)), lengths), len(lengths))
    lasts, last_stamps = np.cumsum(lengths), np.cumsum(numbers)
    return {
        "cells": cells,
        "nodes": nodes,
        "parts": parts,
        "grown": packed("int2", [grown for _, _, grown in changed]),
        "positions": packed("int8", positions),
        "which": packed("int4", which),
        "as_ofs": packed("timestamptz", as_ofs[stamps]),
        "sequences": packed("int8", sequences[stamps]),
        "firsts": packed("int4", lasts - lengths + 1),
        "lasts": packed("int4", lasts),
        "first_stamps": packed("int4", last_stamps - numbers + 1),
        "last_stamps": packed("int4", last_stamps),
    }


def _stamped(as_ofs: Ints, sequences: Ints, sheet: Ints, sheets: int) -> tuple[Ints, Ints, Ints]:
    """An example of each pair of time and sequence in each sheet, sheet by sheet; the place of everybody's pair in its
    sheet, from 1; and how many a sheet has."""
    order = np.lexsort((sequences, as_ofs, sheet))
    differs = np.ones(len(order), bool)
    differs[1:] = np.logical_or.reduce([each[order[1:]] != each[order[:-1]] for each in (sheet, as_ofs, sequences)])
    numbers = np.bincount(sheet[order[differs]], minlength=sheets)
    which = np.empty(len(order), np.int64)
    which[order] = np.cumsum(differs) - (np.cumsum(numbers) - numbers)[sheet[order]]
    return order[differs], which, numbers


def read_sheets(
    cursor: Cursor[TupleRow], locks: RowLocks, cells: Sequence[int], nodes: Sequence[str], positions: Sequence[int]
) -> dict[int, CountMark]:
    """The marks that sheets hold of some positions. No snapshot marks any of them before our transaction ends."""
    sheets = Sheets(cells, nodes, positions)
    locks.sheets(sheets.keys, share=True)
    as_ofs, sequences = (column.tolist() for column in sheets.read(cursor))
    return {
        position: CountMark(cell, position, instant(as_of), None if sequence == NO_SEQUENCE else sequence)
        for cell, position, as_of, sequence in zip(cells, positions, as_ofs, sequences, strict=True)
        if as_of != NEVER
    }


def greatest(one: CountMark | None, other: CountMark) -> CountMark:
    """The later time and the higher sequence of two marks of a position."""
    if one is None:
        return other
    sequences = [mark.sequence for mark in (one, other) if mark.sequence is not None]
    return CountMark(one.cell, one.position, max(one.as_of, other.as_of), max(sequences, default=None))
