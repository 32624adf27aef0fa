"""The reject file: every row that was not taken, with its file, field and reason (law 12)."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO

from poolwise.connect.directory.reading import Reject

MOST_KEPT: Final = 1_000
"""Rejects that the answer of an import holds; the file holds all."""

HEADER: Final = ("file", "row", "field", "reason", "kind")


class RejectFile:
    """Collects rejects: the first ones for the answer, all of them in a CSV file, which is made when there are any."""

    def __init__(self, path: Path | None) -> None:
        """An older file of that name is removed."""
        self._path = path
        self._stream: TextIO | None = None
        self.first: list[Reject] = []
        self.rows: dict[str, set[int]] = {}
        self.warnings = 0
        if path is not None:
            path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    def add(self, reject: Reject) -> None:
        """Keep one."""
        if reject.warning:
            self.warnings += 1
        else:
            self.rows.setdefault(reject.file, set()).add(reject.row)
        if len(self.first) < MOST_KEPT:
            self.first.append(reject)
        if self._path is None:
            return
        if self._stream is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._path.open("w", encoding="utf-8", newline="")
            csv.writer(self._stream).writerow(HEADER)
        row = reject.row or ""
        kind = "warning" if reject.warning else "rejected"
        reason = reject.reason.encode("utf-8", "replace").decode()
        csv.writer(self._stream).writerow((reject.file, row, reject.field, reason, kind))

    def count(self, file: str) -> int:
        """Rows of a file that were rejected."""
        return len(self.rows.get(file, ()))
