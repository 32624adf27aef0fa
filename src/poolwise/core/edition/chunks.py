"""How an edition is kept: rows in canonical text, in chunks by the hash of their key, under the hash of the chunks.

Equal rows give equal bytes in every release that has the same defaults, so a changed item rewrites one chunk. A field
at its default is not written: a new column with a default changes no hash. Keeps law 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import date, time
from enum import Enum
from functools import cache
from hashlib import sha256
from types import GenericAlias
from typing import Final

import msgspec

from poolwise.core.edition.rows import ROW_TYPE, Row, Rows, Section, key_of
from poolwise.core.values import Json

ROWS_IN_A_CHUNK: Final = 256
"""A section has the smallest power of two of chunks that makes them no larger than this on average."""

MOST_CHUNK_BITS: Final = 16


CONVERSION: Final = "conversion"
"""Kind of the part that names the day whose exchange rates apply."""


@dataclass(frozen=True, slots=True)
class Part:
    """One chunk of an edition: its kind (a section, or CONVERSION), the hash of kind and body, and the body."""

    kind: str
    hash: str
    body: bytes


def hash_of(parts: Sequence[str]) -> str:
    """The name of an edition: sha256 over the hashes of its parts, in hexadecimal."""
    return sha256("\n".join(parts).encode()).hexdigest()


def pack(rows: Rows, converted_on: date | None) -> tuple[Part, ...]:
    """The parts of an edition with these rows, always in the same order."""
    day = converted_on.isoformat() if converted_on else ""
    parts = [_part(CONVERSION, day.encode())]
    for section in Section:
        parts += [_part(section.value, encode(chunk)) for chunk in _chunks(rows.get(section, {}))]
    return tuple(parts)


def unpack(parts: Iterable[Part]) -> tuple[dict[Section, dict[str, Row]], date | None]:
    """The rows of an edition, each section in key order, and the day whose exchange rates apply."""
    found: dict[Section, list[tuple[str, Row]]] = {}
    converted_on: date | None = None
    for part in parts:
        if part.kind == CONVERSION:
            converted_on = date.fromisoformat(part.body.decode()) if part.body else None
        else:
            section = Section(part.kind)
            found.setdefault(section, []).extend((key_of(row), row) for row in decode(section, part.body))
    return {section: dict(sorted(rows, key=_first)) for section, rows in found.items()}, converted_on


def _part(kind: str, body: bytes) -> Part:
    return Part(kind, sha256(kind.encode() + b"\n" + body).hexdigest(), body)


def encode(rows: Iterable[Row]) -> bytes:
    """Canonical bytes of the rows of one chunk, in the order given."""
    return msgspec.json.encode([_plain(row) for row in rows], order="deterministic")


def decode(section: Section, body: bytes) -> Sequence[Row]:
    """The rows of one chunk. Raises msgspec.ValidationError when the body is not of this section."""
    return _decoder(section).decode(body)


def _first(pair: tuple[str, Row]) -> str:
    return pair[0]


def _chunks(rows: Mapping[str, Row]) -> list[list[Row]]:
    """The rows by the leading bits of the hash of their key, each chunk in key order; no chunk is empty."""
    bits = min(((len(rows) - 1) // ROWS_IN_A_CHUNK).bit_length(), MOST_CHUNK_BITS) if rows else 0
    chunks: list[list[Row]] = [[] for _ in range(1 << bits)]
    for key in sorted(rows):
        leading = int.from_bytes(sha256(key.encode()).digest()[:4], "big")
        chunks[leading >> (32 - bits)].append(rows[key])
    return [chunk for chunk in chunks if chunk]


@cache
def _decoder(section: Section) -> msgspec.json.Decoder[list[Row]]:
    return msgspec.json.Decoder(GenericAlias(list, (ROW_TYPE[section],)))


@cache
def _defaults(kind: type) -> tuple[tuple[str, object], ...]:
    """Names and defaults of the fields of a row type; MISSING where there is no default."""
    assert is_dataclass(kind)
    return tuple(
        (field.name, field.default if field.default_factory is MISSING else field.default_factory())
        for field in fields(kind)
    )


def _plain(value: object) -> Json:
    """A value of a row as plain data, without what is at its default."""
    match value:
        case None | bool() | int() | str() if not isinstance(value, Enum):
            return value
        case Enum():
            return str(value.value)
        case date() | time():
            return value.isoformat()
        case frozenset():
            return [_plain(member) for member in sorted(value)]
        case tuple():
            return [_plain(member) for member in value]
        case _:
            return {
                name: _plain(given)
                for name, default in _defaults(type(value))  # type: ignore[arg-type]  # a class is hashable
                if (given := getattr(value, name)) != default
            }
