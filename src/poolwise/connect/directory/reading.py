"""Stream the records of a directory's files: CSV or JSONL, one at a time, every bad one with its row, field and reason.

Keeps law 12: what cannot be read is reported and skipped, what can is passed on; a file whose header is wrong is
refused as a whole, because its columns mean nothing certain.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeAlias

import numpy as np

from poolwise.connect.directory.columns import File, RowError, Texts, read_values, row_of
from poolwise.connect.directory.fields import Fields, Ints, cut
from poolwise.core.values import Fault

if TYPE_CHECKING:
    from _csv import Reader

EXTENSIONS: Final = (".csv", ".jsonl")
LONGEST_FIELD: Final = 1_000_000
"""Characters of one field: a list of all customers of a node fits, a file with an unclosed quote does not."""

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
Row: TypeAlias = tuple[int, list[str]]
"""The number of the line on which a row begins, and its fields."""


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
    with _opened(path) as lines:
        if path.suffix != ".csv":
            yield from _jsonl(file, lines)
            return
        header, reader = _header(file, lines)
        for entry in _rows(len(header), 0, reader):
            yield entry if isinstance(entry, Bad) else decoded(entry[0], dict(zip(header, entry[1], strict=True)))


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


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of a file that have as many fields as the header, each with the line on which it begins.

    The fields of the rows of `numbers` are in `columns`. Rows that cannot be taken to pieces so, because a field holds
    a comma or a line end, are `odd`.
    """

    header: list[str]
    numbers: Ints
    columns: list[Fields]
    odd: list[Row]
    bad: list[Bad]
    last_line: int

    def row(self, place: int) -> Row:
        """One of those in columns."""
        return int(self.numbers[place]), [column.text(place) for column in self.columns]


def blocks(file: File, path: Path, size: int) -> Iterator[Block]:
    """The rows of a file, up to `size` at a time. Raises FileError when the file is refused as a whole."""
    if path.suffix != ".csv":
        yield from _blocks_of_records(file, path, size)
        return
    with _opened(path) as text:
        header, reader = _header(file, text)
        last = reader.line_num
        while lines := list(islice(text, size)):
            block = _plain(header, last, lines)
            if block is None:
                # A row has at least one line: so many rows take these lines, and the rest of the last one.
                reader = csv.reader(chain(lines, text), strict=True)
                rows = list(islice(_rows(len(header), last, reader), len(lines)))
                block = _joined(header, rows, last + reader.line_num)
            yield block
            last = block.last_line
            if any(bad.broken for bad in block.bad):
                return


def _blocks_of_records(file: File, path: Path, size: int) -> Iterator[Block]:
    """A JSONL file in the form of a CSV file with all columns."""
    header = list(file.names)
    entries = records(file, path)
    while taken := list(islice(entries, size)):
        rows = [e if isinstance(e, Bad) else (e.row, [e.texts.get(name, "") for name in header]) for e in taken]
        yield _joined(header, rows, taken[-1].row)


def _plain(header: list[str], above: int, lines: list[str]) -> Block | None:
    """Lines without a quote, which need no CSV reader. None where there is one, or anything else that is rare."""
    text = "".join(lines)
    width = len(header)
    is_rare = '"' in text or "\0" in text or ("\r" in text and "\r" in text.replace("\r\n", ""))
    if width == 1 or is_rare or max(map(len, lines)) > LONGEST_FIELD:
        return None
    columns, widths = _cut(text if text.endswith("\n") else text + "\n", width)
    numbers = above + 1 + np.arange(len(lines))
    bad = [
        _of_another_length(int(numbers[place]), int(widths[place]), width)
        for place in np.flatnonzero(widths != width).tolist()
        if lines[place].strip("\r\n")
    ]
    return Block(header, numbers[widths == width], columns, [], bad, above + len(lines))


def _joined(header: list[str], rows: Iterable[Row | Bad], last_line: int) -> Block:
    """Rows that were read one by one as a block."""
    numbers, lines, odd, bad = [], [], [], []
    for row in rows:
        if isinstance(row, Bad):
            bad.append(row)
            continue
        line = ",".join(row[1])
        if line.count(",") == len(header) - 1 and not any(end in line for end in "\r\n\0"):
            numbers.append(row[0])
            lines.append(line + "\n")
        else:
            odd.append(row)
    columns, _ = _cut("".join(lines), len(header))
    return Block(header, np.array(numbers, np.int64), columns, odd, bad, last_line)


def _cut(text: str, width: int) -> tuple[list[Fields], Ints]:
    return cut(text.encode(errors="surrogateescape"), width)


def _rows(width: int, above: int, reader: Reader) -> Iterator[Row | Bad]:
    """Rows with the line on which they begin. One without any field is a blank line."""
    while True:
        number = above + reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Bad(number, (Fault("", f"cannot be read as CSV, nor what follows: {error}"),), broken=True)
            return
        if len(fields) == width:
            yield number, fields
        elif fields:
            yield _of_another_length(number, len(fields), width)


def _of_another_length(number: int, count: int, width: int) -> Bad:
    return Bad(number, (Fault("", f"has {count} fields, the header names {width}"),))


def _header(file: File, lines: Iterable[str]) -> tuple[list[str], Reader]:
    """The names of the columns, and what reads on. Raises FileError for an unknown, a repeated or a missing one."""
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(lines, strict=True)
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
    return header, reader


def decoded(row: int, texts: Texts) -> Entry:
    """The record, unless one of its texts was no UTF-8."""
    # Where every byte is ASCII, every byte was valid.
    if "".join(texts.values()).isascii():
        return Record(row, texts)
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
