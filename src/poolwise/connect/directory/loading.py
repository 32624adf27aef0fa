"""Load a directory without a database: its edition and policies, and the streams of its messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from poolwise.connect.directory.columns import File
from poolwise.connect.directory.master import MASTER_FILES
from poolwise.connect.directory.policies import read_policies
from poolwise.connect.directory.reading import Bad, FileError, Reject, Typed, find, typed
from poolwise.core.edition.build import Edition, edition_of
from poolwise.core.edition.checks import RowFault, check
from poolwise.core.edition.chunks import Part
from poolwise.core.edition.rows import Row, Section, key_of
from poolwise.core.policy.terms import SourcingPolicy


@dataclass(slots=True)
class Loaded:
    """What a directory holds that needs no database."""

    edition: Edition
    parts: tuple[Part, ...]
    policies: dict[str, SourcingPolicy]
    rejects: list[Reject] = field(default_factory=list)


def load_directory(directory: Path | str, on: date | None = None) -> Loaded:
    """The edition and the policies of a directory, and what was left out. Exchange rates after `on` do not apply.

    Of two rows with the same key the second is rejected. Raises FileNotFoundError when there is no such directory.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no directory {folder}")
    rejects: list[Reject] = []
    rows: dict[Section, dict[str, Row]] = {}
    lines: dict[tuple[Section, str], int] = {}
    for section, file in MASTER_FILES.items():
        kept = rows.setdefault(section, {})
        for line, row in accepted(folder, file, rejects.append):
            key = key_of(row)
            if key in kept:
                rejects.append(Reject(section, line, ",".join(file.key), "the same key is there already"))
            else:
                kept[key] = row
                lines[section, key] = line
    checked = check(rows, on)
    rejects += [rejected(fault, lines.get((fault.section, fault.key), 0)) for fault in checked.faults]
    edition, parts = edition_of(checked)
    policies, bad = read_policies(folder)
    return Loaded(edition, parts, {read.policy.code: read.policy for read in policies}, rejects + bad)


def accepted(directory: Path, file: File, reject: Callable[[Reject], object]) -> Iterator[tuple[int, Any]]:
    """The rows of a file that can be read, each with its line; what cannot goes to `reject`. No file, no rows."""
    try:
        path = find(directory, file.name)
        for entry in typed(file, path) if path else ():
            match entry:
                case Typed(row=line, value=value):
                    yield line, value
                case Bad(row=line, faults=faults):
                    for fault in faults:
                        reject(Reject(file.name, line, fault.field, fault.reason))
    except FileError as error:
        reject(Reject(file.name, 0, "", str(error)))


def rejected(fault: RowFault, line: int) -> Reject:
    """A fault of a master row as a row of the reject file, by the columns' names."""
    return Reject(fault.section.value, line, fault.field, fault.reason, fault.warning)
