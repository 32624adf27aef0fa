"""Columns of a batch as arrays of the database: packed at once, where the driver would adapt value by value.

A batch of 500 orders sends some thirty thousand numbers; packing them this way takes a seventh of the driver's time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Final
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection, Cursor, OperationalError, errors, postgres, pq
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.rows import TupleRow


class Packed(bytes):
    """An array in the binary form of PostgreSQL."""


class _Int2s(Packed):
    pass


class _Int4s(Packed):
    pass


class _Int8s(Packed):
    pass


class _Instants(Packed):
    pass


class _Uuids(Packed):
    pass


class _Texts(Packed):
    pass


class _PackedDumper(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: Packed) -> Buffer:
        return obj


class _Int2sDumper(_PackedDumper):
    oid = postgres.types["int2"].array_oid


class _Int4sDumper(_PackedDumper):
    oid = postgres.types["int4"].array_oid


class _Int8sDumper(_PackedDumper):
    oid = postgres.types["int8"].array_oid


class _InstantsDumper(_PackedDumper):
    oid = postgres.types["timestamptz"].array_oid


class _UuidsDumper(_PackedDumper):
    oid = postgres.types["uuid"].array_oid


class _TextsDumper(_PackedDumper):
    oid = postgres.types["text"].array_oid


_DUMPERS: Final[dict[type[Packed], type[_PackedDumper]]] = {
    _Int2s: _Int2sDumper,
    _Int4s: _Int4sDumper,
    _Int8s: _Int8sDumper,
    _Instants: _InstantsDumper,
    _Uuids: _UuidsDumper,
    _Texts: _TextsDumper,
}

# The kind of array, and how one element lies in it: its length in bytes, then its value.
_KINDS: Final[dict[str, tuple[type[Packed], np.dtype[np.void]]]] = {
    "int2": (_Int2s, np.dtype([("length", ">i4"), ("value", ">i2")])),
    "int4": (_Int4s, np.dtype([("length", ">i4"), ("value", ">i4")])),
    "int8": (_Int8s, np.dtype([("length", ">i4"), ("value", ">i8")])),
    # In microseconds since the year 2000.
    "timestamptz": (_Instants, np.dtype([("length", ">i4"), ("value", ">i8")])),
}
_NUMBERS: Final = frozenset({"int2", "int4", "int8"})
"""Kinds whose values are numbers in Python, too."""

_HEADER: Final = np.dtype(
    [("dimensions", ">i4"), ("nulls", ">i4"), ("oid", ">u4"), ("length", ">i4"), ("first", ">i4")]
)

_HEADER_OF_NOTHING: Final = np.dtype([("dimensions", ">i4"), ("nulls", ">i4"), ("oid", ">u4")])


EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


def micros(at: datetime) -> int:
    """An instant as the database writes it in binary."""
    return (at - EPOCH) // MICROSECOND


def instant(at: int) -> datetime:
    """The instant that `micros` made a number of."""
    return EPOCH + at * MICROSECOND


def register(connection: Connection[TupleRow]) -> None:
    """Let a connection send packed arrays."""
    for packed_array, dumper in _DUMPERS.items():
        connection.adapters.register_dumper(packed_array, dumper)


def raw_rows(cursor: Cursor[TupleRow]) -> list[list[bytes | None]]:
    """What a statement answered, value by value as it came, for `unpacked`. The cursor is binary."""
    result = cursor.pgresult
    assert result is not None
    return _values(result)


class Prepared:
    """A statement asked with arrays and answered value by value as it came, by way of the driver's lowest layer.

    A cursor takes twice the time for it. Outside any transaction, where nothing is remembered of what was asked before.
    """

    def __init__(self, statement: str, kinds: Mapping[str, str]) -> None:
        """`kinds` names the parameters of the statement in the order in which they are given, and their types."""
        for number, name in enumerate(kinds, start=1):
            statement = statement.replace(f"%({name})b", f"${number}")
        self._statement = statement.encode()
        self._name = f"poolwise_{sha256(self._statement).hexdigest()[:16]}".encode()
        self._kinds = [postgres.types[kind].array_oid for kind in kinds.values()]
        self._binary = [pq.Format.BINARY] * len(kinds)
        self._ready: WeakSet[Connection[TupleRow]] = WeakSet()

    def rows(self, connection: Connection[TupleRow], *arrays: Packed) -> list[list[bytes | None]]:
        """What the statement answers. Raises what the driver raises."""
        if connection in self._ready:
            # Whenever a transaction is rolled back, the driver lets the server forget every statement.
            with suppress(errors.InvalidSqlStatementName):
                return self._answer(connection.pgconn, arrays)
        _checked(connection.pgconn, connection.pgconn.prepare(self._name, self._statement, self._kinds))
        self._ready.add(connection)
        return self._answer(connection.pgconn, arrays)

    def _answer(self, asked: pq.abc.PGconn, arrays: Sequence[Packed]) -> list[list[bytes | None]]:
        result = asked.exec_prepared(self._name, arrays, self._binary, pq.Format.BINARY)
        return _values(_checked(asked, result))


def _checked(connection: pq.abc.PGconn, result: pq.abc.PGresult) -> pq.abc.PGresult:
    if result.status in {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}:
        return result
    if connection.status is pq.ConnStatus.BAD:
        raise OperationalError(connection.get_error_message())
    raise errors.error_from_result(result)


def _values(result: pq.abc.PGresult) -> list[list[bytes | None]]:
    return [[result.get_value(row, place) for place in range(result.nfields)] for row in range(result.ntuples)]


def array(kind: str, values: Sequence[object]) -> Packed | list[object]:
    """Values of one type as a parameter: packed if we know how and none is None, else left to the driver."""
    if not values or None in values:
        return list(values)
    if kind == "uuid":
        lengths_and_values = [_UUID_LENGTH + value.bytes for value in values]  # type: ignore[attr-defined]  # kind says UUIDs
        return _Uuids(_header(kind, len(values)) + b"".join(lengths_and_values))
    if kind == "text":
        return packed_texts(values)  # type: ignore[arg-type]  # kind says texts
    if kind == "timestamptz":
        return packed(kind, [micros(value) for value in values])  # type: ignore[arg-type]  # kind says instants
    if kind not in _NUMBERS:
        return list(values)
    return packed(kind, values)  # type: ignore[arg-type]  # kind says integers


def packed(kind: str, values: Sequence[int] | NDArray[np.integer | np.bool_]) -> Packed:
    """Integers of a kind as a parameter."""
    made, layout = _KINDS[kind]
    elements = np.empty(len(values), layout)
    elements["length"] = layout["value"].itemsize
    elements["value"] = values
    return made(_header(kind, len(values)) + elements.tobytes())


def joined(kind: str, column: Sequence[bytes | None]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The integers of all arrays of a column as they came, one after the other, and how many each array has."""
    layout = _KINDS[kind][1]
    bodies = [(data or b"")[_HEADER.itemsize :] for data in column]
    elements = np.frombuffer(b"".join(bodies), layout)["value"].astype(np.int64)
    return elements, np.array([len(body) // layout.itemsize for body in bodies], np.int64)


def unpacked(data: bytes | None) -> NDArray[np.int64]:
    """The integers of an array as it came, none of which is null; of nothing where there is no array."""
    if data is None or len(data) < _HEADER.itemsize:
        return np.zeros(0, np.int64)
    layout = _LAYOUTS[int.from_bytes(data[_OID], "big")]
    return np.frombuffer(data, layout, offset=_HEADER.itemsize)["value"].astype(np.int64)


_OID: Final = slice(8, 12)
_LAYOUTS: Final = {postgres.types[kind].oid: layout for kind, (_, layout) in _KINDS.items()}
_UUID_LENGTH: Final = (16).to_bytes(4, "big")


def packed_texts(values: Sequence[str]) -> Packed:
    """Texts as a parameter."""
    if not values:
        return _Texts(np.array((0, 0, postgres.types["text"].oid), _HEADER_OF_NOTHING).tobytes())
    return _Texts(_header("text", len(values)) + b"".join([_text(value) for value in values]))


@lru_cache(maxsize=10_000)
def texts(values: tuple[str, ...]) -> Packed:
    """A column of type text[] for COPY, which wants it packed: of few different values, so each is packed once."""
    return packed_texts(values)


def _header(kind: str, length: int) -> bytes:
    header: bytes = np.array((1, 0, postgres.types[kind].oid, length, 1), _HEADER).tobytes()
    return header


def _text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(4, "big") + encoded
