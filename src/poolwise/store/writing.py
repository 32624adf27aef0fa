"""One `Effects` value on its way into the database: the cursor, and the two ways to write many rows at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import msgspec
from psycopg import Cursor
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from poolwise.core.values import Conflict, Json
from poolwise.flows.ports import Effects
from poolwise.store.arrays import array
from poolwise.store.locking import RowLocks
from poolwise.store.places import Places

_JSON: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Writing:
    """What every step of a recording needs. `month` is the partition of the effects' time."""

    cursor: Cursor[TupleRow]
    locks: RowLocks
    places: Places
    effects: Effects
    month: date

    def copy(self, statement: str, types: Sequence[str], rows: Collection[Sequence[object]]) -> None:
        """Copy rows in, if there are any. A key that exists already ends the transaction with UniqueViolation."""
        if not rows:
            return
        with self.cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)

    def change(
        self, statement: str, types: Sequence[str], rows: Sequence[Sequence[object]], **parameters: object
    ) -> None:
        """Run an UPDATE or DELETE from an array for each column. Raises Conflict unless it touches every row."""
        self.cursor.execute(statement, {**parameters, **columns(types, rows)})
        if self.cursor.rowcount != len(rows):
            raise Conflict(f"{len(rows) - self.cursor.rowcount} of {len(rows)} rows are no longer as they were")


def columns(types: Sequence[str], rows: Sequence[Sequence[object]]) -> dict[str, object]:
    """The columns of the rows as arrays of these types, named c1, c2 and so on."""
    named = enumerate(zip(types, zip(*rows, strict=True), strict=True), start=1)
    return {f"c{place}": array(kind, values) for place, (kind, values) in named}


def jsonb(data: Mapping[str, Json]) -> Jsonb:
    """A document for a column of type jsonb."""
    return Jsonb(data, dumps=_JSON.encode)
