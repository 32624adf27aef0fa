"""Stream the records of a directory's files: CSV or JSONL, one at a time, every bad one with its row, field and reason.

Keeps law 12: what cannot be read is reported and skipped, what can is passed on; a file whose header is wrong is
refused as a whole, because its columns mean nothing certain.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain, compress, islice, repeat
from pathlib import Path
from typing import Any, Final, TextIO, TypeAlias

from poolwise.connect.directory.columns import File, RowError, Texts, read_values, row_of
from poolwise.core.values import Fault

EXTENSIONS: Final = (".csv", ".jsonl")
LONGEST_FIELD: Final = 1_000_000
"""Characters of one field: a list of all customers of a node fits, a file with an unclosed quote does not."""

ROWS_IN_A_BLOCK: Final = 1_000

BOMS_OF_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Reject:
    """A row of a file that is not taken: what goes to the reject file. Row 0 is the file as a whole."""

    file: str
    row: int
    field: str
    reason: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a file: the number of the line on which it begins, and the text of each column."""

    row: int
    texts: Texts


@dataclass(frozen=True, slots=True)
class Bad:
    """A record that could not be read, and why; where the file is `broken` there, nothing follows."""

    row: int
    faults: tuple[Fault, ...]
    broken: bool = False


Entry: TypeAlias = "Record | Bad"


@dataclass(frozen=True, slots=True)
class Typed:
    """A record as the row it stands for."""

    row: int
    value: Any


class FileError(Exception):
    """A file that is refused as a whole: its header, its encoding, or there are two of it."""


def find(directory: Path, name: str) -> Path | None:
    """The file of that name, with either extension. Raises FileError when there are both."""
    found = [path for extension in EXTENSIONS if (path := directory / (name + extension)).is_file()]
    if len(found) > 1:
        raise FileError(f"there are both {found[0].name} and {found[1].name}: remove one")
    return found[0] if found else None


def typed(file: File, path: Path) -> Iterator[Typed | Bad]:
    """The rows of a file. Raises FileError when the file is refused as a whole."""
    for entry in records(file, path):
        if isinstance(entry, Bad):
            yield entry
            continue
        try:
            yield Typed(entry.row, row_of(file, read_values(file, entry.texts)))
        except RowError as error:
            yield Bad(entry.row, error.faults)


def records(file: File, path: Path) -> Iterator[Entry]:
    """The records of a file, as texts. Raises FileError when the file is refused as a whole."""
    if path.suffix == ".csv":
        for block in blocks(file, path):
            yield from block.bad
            # Where every byte is ASCII, every byte was valid.
            plain = all("".join(texts).isascii() for texts in block.columns)
            for row, fields in zip(block.numbers, zip(*block.columns, strict=True), strict=True):
                texts = dict(zip(block.header, fields, strict=True))
                yield Record(row, texts) if plain else decoded(row, texts)
        return
    with _opened(path) as lines:
        yield from _jsonl(file, lines)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """The text of a file. Raises FileError when it is empty or no UTF-8 at all."""
    with path.open("rb") as stream:
        head = stream.read(2)
    if head in BOMS_OF_UTF_16:
        raise FileError("is UTF-16: save it as UTF-8")
    if not head:
        raise FileError("is empty: a file without rows still has its header")
    # A byte that is no UTF-8 becomes a lone surrogate, so that only its own row is refused.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        yield text


@dataclass(slots=True)
class Block:
    """Consecutive rows of a file that have as many fields as the header, each with the line on which it begins.

    `columns` are their texts, by column of the header.
    """

    header: list[str]
    numbers: Sequence[int]
    columns: Sequence[Sequence[str]]
    bad: list[Bad]
    last_line: int


def blocks(file: File, path: Path, size: int = ROWS_IN_A_BLOCK) -> Iterator[Block]:
    """The rows of a CSV file, up to `size` at a time. Raises FileError when the file is refused as a whole."""
    csv.field_size_limit(LONGEST_FIELD)
    with _opened(path) as text:
        reader = csv.reader(text, strict=True)
        header = _header(file, reader)
        last = reader.line_num
        while lines := list(islice(text, size)):
            # A row has at least one line: so many rows take these lines, and the rest of the last one.
            block = _plain(header, last, lines) or _quoted(header, last, chain(lines, text), len(lines))
            yield block
            last = block.last_line
            if any(bad.broken for bad in block.bad):
                return


def _plain(header: list[str], above: int, lines: list[str]) -> Block | None:
    """Lines without a quote, all with the fields of the header: taken to pieces at once. None where it is not so."""
    text = "".join(lines).replace("\r\n", "\n")
    text = text if text.endswith("\n") else text + "\n"
    width = len(header)
    if width == 1 or '"' in text or "\r" in text or len(max(lines, key=len)) > LONGEST_FIELD:
        return None
    if set(map(str.count, lines, repeat(","))) != {width - 1}:
        return None
    texts = text.replace("\n", ",").split(",")
    last = above + len(lines)
    return Block(header, range(above + 1, last + 1), [texts[place:-1:width] for place in range(width)], [], last)


def _quoted(header: list[str], above: int, lines: Iterable[str], size: int) -> Block:
    """Lines of any form. Rows of another length are put aside; rows without any field are blank lines."""
    reader = csv.reader(lines, strict=True)
    first, rows, bad = above + 1, [], []
    try:
        for fields in islice(reader, size):
            rows.append(fields)  # noqa: PERF402  what was read before an error must be kept
    except csv.Error as error:
        reason = f"cannot be read as CSV, nor what follows: {error}"
        bad.append(Bad(first + sum(map(_lines_of, rows)), (Fault("", reason),), broken=True))
    # A quoted field may go over several lines.
    numbers = [first + before for before in accumulate(map(_lines_of, rows[:-1]), initial=0)]
    bad = [
        Bad(number, (Fault("", f"has {len(fields)} fields, the header names {len(header)}"),))
        for number, fields in zip(numbers, rows, strict=False)
        if fields and len(fields) != len(header)
    ] + bad
    kept = [len(fields) == len(header) for fields in rows]
    columns = list(zip(*compress(rows, kept), strict=True)) or [()] * len(header)
    return Block(header, list(compress(numbers, kept)), columns, bad, above + reader.line_num)


def _lines_of(fields: list[str]) -> int:
    return 1 + sum(field.count("\n") for field in fields)


def _header(file: File, reader: Iterator[list[str]]) -> list[str]:
    """The names of the columns. Raises FileError for an unknown, a repeated or a missing one."""
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise FileError(f"its header cannot be read: {error}") from error
    if len(header) == 1 and any(separator in header[0] for separator in ";\t|"):
        raise FileError("its columns are not separated by commas")
    for name in header:
        if name not in file.names:
            near = difflib.get_close_matches(name, file.names, n=1)
            hint = f"; is it '{near[0]}'?" if near else ""
            raise FileError(f"has an unknown column '{name}'{hint}")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise FileError(f"names the column '{twice[0]}' twice")
    missing = [column.name for column in file.columns if column.required and column.name not in header]
    if missing:
        raise FileError(f"has no column '{missing[0]}'")
    return header


def decoded(row: int, texts: Texts) -> Entry:
    """The record, unless one of its texts was no UTF-8."""
    faults = [
        Fault(name, "is not valid UTF-8")
        for name, text in texts.items()
        if any("\udc80" <= character <= "\udcff" for character in text)
    ]
    return Bad(row, tuple(faults)) if faults else Record(row, texts)


def _jsonl(file: File, lines: Iterable[str]) -> Iterator[Entry]:
    names = frozenset(file.names)
    for row, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line, parse_float=str, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            yield Bad(row, (Fault("", f"is no JSON: {error}"),))
            continue
        if not isinstance(document, dict):
            yield Bad(row, (Fault("", "is no JSON object"),))
            continue
        unknown = [Fault(str(name), "is no column of this file") for name in document if name not in names]
        texts = {name: text for name, value in document.items() if (text := _as_text(value)) is not None}
        yield Bad(row, tuple(unknown)) if unknown else decoded(row, texts)


def _no_number(text: str) -> str:
    raise ValueError(f"{text} is no number")


def _as_text(value: Any) -> str | None:
    """A JSON value as the text that a CSV file would hold; None for null."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case list():
            return " ".join(text for member in value if (text := _as_text(member)) is not None)
        case _:
            return json.dumps(value)
