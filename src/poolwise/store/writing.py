"""One `Effects` value on its way into the database: the cursor, and the ways to write few rows or many at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cache
from itertools import chain, cycle
from typing import Final

import msgspec
from psycopg import Cursor, sql
from psycopg.adapt import PyFormat
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb
from psycopg.types.numeric import Int2, Int4, Int8

from poolwise.core.values import Conflict, Json
from poolwise.flows.ports import Effects
from poolwise.store.arrays import array
from poolwise.store.locking import RowLocks
from poolwise.store.places import Places

_JSON: Final = msgspec.json.Encoder()
_COPY: Final = re.compile(r"\s*COPY (\w+ \([\w\s,]+\))\s+FROM STDIN")
_INSERT: Final = sql.SQL("INSERT INTO {} VALUES {}")
_ROW: Final = sql.SQL("({})")
_INTEGERS: Final[Mapping[str, Callable[[int], int]]] = {"int2": Int2, "int4": Int4, "int8": Int8}
FEW_ROWS: Final = 4
"""So many rows are inserted, all of a recording in one round trip: a COPY takes three, whatever it copies."""


class Writing:
    """What every step of a recording needs. `month` is the partition of the effects' time.

    Few rows wait until something else is to be done, or `finish`: then they are sent together, in order.
    """

    def __init__(
        self, cursor: Cursor[TupleRow], locks: RowLocks, places: Places, effects: Effects, month: date
    ) -> None:
        self._cursor, self._locks = cursor, locks
        self.places, self.effects, self.month = places, effects, month
        self._waiting: list[tuple[bytes, list[object]]] = []

    @property
    def cursor(self) -> Cursor[TupleRow]:
        """To run a statement after all that was written."""
        self.finish()
        return self._cursor

    @property
    def locks(self) -> RowLocks:
        """To lock rows after all that was written."""
        self.finish()
        return self._locks

    def copy(self, statement: str, types: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Copy rows in, if there are any. A key that exists already ends the transaction with UniqueViolation."""
        if not rows:
            return
        if len(rows) <= FEW_ROWS:
            values = [_typed(*value) for value in zip(cycle(types), chain.from_iterable(rows))]  # a cycle has no end
            self._waiting.append((_insert(statement, len(types), len(rows)), values))
            return
        with self.cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)

    def finish(self) -> None:
        """Send what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            with self._cursor.connection.pipeline():
                for statement, values in waiting:
                    self._cursor.execute(statement, values)

    def change(
        self, statement: str, types: Sequence[str], rows: Sequence[Sequence[object]], **parameters: object
    ) -> None:
        """Run an UPDATE or DELETE from an array for each column. Raises Conflict unless it touches every row."""
        changed = self.cursor.execute(statement, {**parameters, **columns(types, rows)}).rowcount
        if changed != len(rows):
            raise Conflict(f"{len(rows) - changed} of {len(rows)} rows are no longer as they were")


@cache
def _insert(copy: str, width: int, rows: int) -> bytes:
    """What writes so many rows of so many values like a COPY."""
    target = _COPY.match(copy)
    assert target is not None, "COPY names its columns and reads what we send"
    row = _ROW.format(sql.SQL(", ").join([sql.Placeholder(format=PyFormat.BINARY)] * width))
    return _INSERT.format(sql.SQL(target[1]), sql.SQL(", ").join([row] * rows)).as_bytes()


def _typed(kind: str, value: object) -> object:
    """An integer as long as its column, where the driver would choose by its size: one statement fits all rows."""
    return _INTEGERS[kind](value) if kind in _INTEGERS and isinstance(value, int) else value


def columns(types: Sequence[str], rows: Sequence[Sequence[object]]) -> dict[str, object]:
    """The columns of the rows as arrays of these types, named c1, c2 and so on."""
    named = enumerate(zip(types, zip(*rows, strict=True), strict=True), start=1)
    return {f"c{place}": array(kind, values) for place, (kind, values) in named}


def jsonb(data: Mapping[str, Json]) -> Jsonb:
    """A document for a column of type jsonb."""
    return Jsonb(data, dumps=_JSON.encode)
