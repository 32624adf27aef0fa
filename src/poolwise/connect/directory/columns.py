"""What a file of the network directory consists of, and how a record of texts becomes a typed row and back.

The specifications in `master` and `messages` are the only description of the files: reading, writing, checking and the
reference page all follow them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeAlias

from poolwise.connect.directory.kinds import Kind
from poolwise.core.edition.rows import Section
from poolwise.core.values import Fault

Texts: TypeAlias = Mapping[str, str]
"""A record as read: the text of each column that is there. An empty text counts as not there."""

Values: TypeAlias = dict[str, Any]
"""A record as typed values, by column name; only what is not empty."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, kind and meaning; `path` is the attribute of the row it fills ('' = none by itself)."""

    name: str
    kind: Kind
    meaning: str
    path: str = ""
    required: bool = False
    default: str = ""
    unit: str = ""
    example: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file of the directory: what a row of it is, and its columns. `key` are the columns no two rows share.

    `make` builds the row from typed values; `take` gives the values of a row. Where they are not given, both follow
    the paths of the columns, and `parts` names the type of every nested attribute.
    """

    name: str
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    row: Callable[..., Any]
    parts: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    make: Callable[[Values], Any] | None = None
    take: Callable[[Any], Values] | None = None
    section: Section | None = None
    notes: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in the order in which they are written."""
        return tuple(column.name for column in self.columns)


class RowError(ValueError):
    """A record that cannot become a row, with every reason."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        """`faults` name the columns."""
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.field}: {fault.reason}" for fault in self.faults))


def read_values(file: File, texts: Texts) -> Values:
    """The typed values of a record. Raises RowError with all that is wrong with it."""
    values: Values = {}
    faults: list[Fault] = []
    for column in file.columns:
        text = texts.get(column.name, "").strip()
        if not text:
            if column.required:
                faults.append(Fault(column.name, "is missing"))
            continue
        try:
            values[column.name] = column.kind.read(text)
        except ValueError as error:
            faults.append(Fault(column.name, str(error)))
    if faults:
        raise RowError(faults)
    return values


def row_of(file: File, values: Values) -> Any:
    """The row of typed values. Raises RowError when they do not go together."""
    if file.make:
        return file.make(values)
    tree: dict[str, Any] = {}
    for column in file.columns:
        if column.path and column.name in values:
            *parents, last = column.path.split(".")
            branch = tree
            for parent in parents:
                branch = branch.setdefault(parent, {})
            branch[last] = values[column.name]
    return _grown(file, "", tree)


def texts_of(file: File, row: Any) -> dict[str, str]:
    """The record of a row: the text of every column; '' where the row is at the default."""
    if file.take:
        values = file.take(row)
    else:
        values = {column.name: attrgetter(column.path)(row) for column in file.columns if column.path}
    texts = {}
    for column in file.columns:
        value = values.get(column.name)
        text = "" if value is None or value == "" else column.kind.write(value)
        texts[column.name] = "" if text == column.default and not column.required else text
    return texts


def _grown(file: File, path: str, tree: dict[str, Any]) -> Any:
    """The value at a path of the row, from the tree of its attributes."""
    kind = file.parts[path] if path else file.row
    grown = {
        name: _grown(file, f"{path}.{name}" if path else name, value)
        if isinstance(value, dict) and (f"{path}.{name}" if path else name) in file.parts
        else value
        for name, value in tree.items()
    }
    return kind(**grown)
