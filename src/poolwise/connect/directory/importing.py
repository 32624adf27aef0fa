"""Import a network directory: master data as one edition, policies, then stock, receipts and orders in chunks.

Keeps laws 5, 7 and 12: good rows are booked, every bad one goes to the reject file with row, field and reason; the same
again changes nothing; how far a file has come commits with each chunk, so an import that was killed goes on there.
No file is ever in memory as a whole, but for master data, which is checked as a whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

from poolwise.connect.directory.columns import File, RowError, read_values, row_of
from poolwise.connect.directory.counts import ROWS_IN_A_CHUNK, Chunk, chunks
from poolwise.connect.directory.loading import rejected
from poolwise.connect.directory.master import ENVELOPE, MASTER_FILES
from poolwise.connect.directory.messages import MESSAGE_FILES, ORDERS, RECEIPTS, STOCK
from poolwise.connect.directory.orders import ReadOrder, orders, rejects_of
from poolwise.connect.directory.policies import policy_paths, read_policies
from poolwise.connect.directory.reading import EXTENSIONS, Bad, FileError, Reject, Typed, find, records, typed
from poolwise.connect.directory.rejects import RejectFile
from poolwise.core.edition.build import Edition
from poolwise.core.edition.rows import Section
from poolwise.core.messages import OrderMessage, ReceiptNotice
from poolwise.core.values import Fault, Refused
from poolwise.flows.absence import Named, book_absent, spanning
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Accepted, Rejected
from poolwise.flows.masterdata import Told, adopt_policy, publish
from poolwise.flows.ports import Books, Editions
from poolwise.flows.receipts import book_receipts, refusals
from poolwise.flows.snapshot import (
    NO_SEQUENCE,
    CountColumns,
    Sieve,
    Sifted,
    Sifting,
    SnapshotResult,
    book_sifted,
)
from poolwise.flows.stock import Outcome
from poolwise.flows.tallying import Clerk

RECEIPTS_IN_A_CHUNK: Final = 1_000
ORDERS_IN_A_CHUNK: Final = 500
MOST_CHUNKS_IN_WORK: Final = 2
"""Chunks of a stock file that are sifted or booked while the next one is read."""

SENDER: Final = "import"

AcceptOrders = Callable[[Edition, Sequence[OrderMessage], datetime], Sequence[Accepted | Rejected]]
"""`flows.intake.accept`, with the policy in force and the sender already filled in."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a directory is imported to, by whom, and the clock. Without a `sieve` every count is booked by itself."""

    books: Books
    editions: Editions
    ids: Ids
    clock: Callable[[], datetime]
    accept_orders: AcceptOrders
    sieve: Sieve | None = None
    actor: str = SENDER
    rows_in_a_chunk: int = ROWS_IN_A_CHUNK


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is: lines of a file that are done, of all of them."""

    file: str
    done: int
    total: int


@dataclass(slots=True)
class FileResult:
    """What became of the rows of a file. `changed` had an effect; `skipped` were booked by an earlier run."""

    rows: int = 0
    changed: int = 0
    unchanged: int = 0
    stale: int = 0
    duplicate: int = 0
    rejected: int = 0
    skipped: int = 0


@dataclass(slots=True)
class Imported:
    """What an import did. `rejects` are the first of them; all are in the reject file."""

    edition: str = ""
    files: dict[str, FileResult] = field(default_factory=dict)
    policies: dict[str, int] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    rejected: int = 0
    warnings: int = 0

    @property
    def changed(self) -> int:
        """Rows that had an effect."""
        return sum(result.changed for result in self.files.values())


def import_directory(
    directory: Path,
    target: Target,
    *,
    complete: bool = False,
    dry_run: bool = False,
    reject_path: Path | None = None,
    progress: Callable[[Progress], object] = lambda _: None,
) -> Imported:
    """Import every file of a directory that is there; what it did.

    With `complete`, master data that its file does not name is removed, and stock that its file does not name, at the
    nodes it names, is counted as empty. With `dry_run` everything is checked (orders by their form) and nothing kept.
    Raises Refused when there is no such directory or nothing in it.
    """
    known = {*(section.value for section in MASTER_FILES), *MESSAGE_FILES}
    if not directory.is_dir():
        raise Refused("directory_missing", [Fault("directory", f"there is no directory {directory}")])
    files = [path for path in sorted(directory.iterdir()) if path.suffix in EXTENSIONS]
    if not any(path.stem in known for path in files) and not policy_paths(directory):
        raise Refused("directory_empty", [Fault("directory", f"{directory} has no file of a network directory")])
    with RejectFile(reject_path) as rejects:
        for path in files:
            if path.stem not in known:
                rejects.add(Reject(path.name, 0, "", "is no file of a network directory"))
        run = _Run(directory, target, complete, dry_run, rejects, progress)
        return run.everything()


class _Run:
    """One import."""

    def __init__(
        self,
        directory: Path,
        target: Target,
        complete: bool,
        dry_run: bool,
        rejects: RejectFile,
        progress: Callable[[Progress], object],
    ) -> None:
        self.directory, self.target, self.complete, self.dry_run = directory, target, complete, dry_run
        self.rejects, self.progress = rejects, progress
        self.done = Imported()

    def everything(self) -> Imported:
        """Import file after file."""
        clerk = Clerk(self._master(), self.target.ids, self.target.actor)
        self._policies()
        for file, book in ((STOCK, self._stock), (RECEIPTS, self._receipts), (ORDERS, self._orders)):
            try:
                path = find(self.directory, file.name)
                if path is not None:
                    book(clerk, _Source.of(path))
            except FileError as error:
                self.rejects.add(Reject(file.name, 0, "", str(error)))
            if file.name in self.done.files:
                self.done.files[file.name].rejected = self.rejects.count(file.name)
        self.done.rejects = self.rejects.first
        self.done.rejected = sum(len(rows) for rows in self.rejects.rows.values())
        self.done.warnings = self.rejects.warnings
        return self.done

    # Master data

    def _master(self) -> Edition:
        told: list[Told] = []
        places: list[tuple[str, int]] = []
        whole: list[Section] = []
        for section, file in MASTER_FILES.items():
            try:
                path = find(self.directory, file.name)
                if path is None:
                    continue
                for line, statement in self._statements(section, file, path):
                    told.append(statement)
                    places.append((file.name, line))
                whole.append(section)
            except FileError as error:
                self.rejects.add(Reject(file.name, 0, "", str(error)))
        target = self.target
        # A file with a row that could not be read says nothing certain about what it leaves out.
        complete = [section for section in whole if self.complete and not self.rejects.count(section.value)]
        published = publish(
            target.editions, told, target.clock(), target.actor, complete=complete, dry_run=self.dry_run
        )
        for place, fault in published.faults:
            self.rejects.add(rejected(fault, places[place][1] if place is not None else 0))
        for section in whole:
            rows = sum(name == section.value for name, _ in places)
            changed = published.changed.get(section, 0)
            self.done.files[section.value] = FileResult(rows=rows, changed=changed)
            self.done.files[section.value].rejected = self.rejects.count(section.value)
        self.done.edition = published.edition.hash
        return published.edition

    def _statements(self, section: Section, file: File, path: Path) -> Iterator[tuple[int, Told]]:
        source = _Source.of(path)
        for number, entry in enumerate(records(file, path), start=1):
            if number % 1_000 == 0:
                self.progress(Progress(file.name, number, source.lines))
            faults = entry.faults if isinstance(entry, Bad) else ()
            if not isinstance(entry, Bad):
                try:
                    values = read_values(file, entry.texts)
                    sequence, changed_at = (values.pop(column.name, None) for column in ENVELOPE)
                    yield entry.row, Told(row_of(file, values), section, sequence, changed_at)
                except RowError as error:
                    faults = error.faults
            for fault in faults:
                self.rejects.add(Reject(file.name, entry.row, fault.field, fault.reason))
        self.progress(Progress(file.name, source.lines, source.lines))

    def _policies(self) -> None:
        found, bad = read_policies(self.directory)
        for reject in bad:
            self.rejects.add(reject)
        for read in found:
            result = self.done.files.setdefault(read.file, FileResult(rows=1))
            if not self.dry_run:
                policy, new = adopt_policy(self.target.editions, read.policy, self.target.clock(), self.target.actor)
                self.done.policies[policy.code] = policy.version
                result.changed += new

    # Stock

    def _stock(self, clerk: Clerk, source: _Source) -> None:
        result = self.done.files.setdefault(STOCK.name, FileResult())
        mark = _Marks(self.target, source, clerk)
        about = _About()
        # While a chunk is booked the next one is sifted, and the one after it is read.
        with ThreadPoolExecutor(max_workers=1) as sifter, ThreadPoolExecutor(max_workers=1) as booker:
            booking: deque[Future[list[Reject]]] = deque()
            rows = self.target.rows_in_a_chunk
            for chunk in chunks(source.path, clerk, self.target.clock(), self.rejects.add, rows):
                result.rows += chunk.rows
                result.stale += chunk.stale
                result.duplicate += chunk.duplicate
                if self.complete:
                    about.add(chunk)
                self.progress(Progress(STOCK.name, chunk.last_row, source.lines))
                sifting = sifter.submit(self._sift, clerk, chunk, mark, result)
                booking.append(booker.submit(self._book_counts, clerk, chunk, sifting, mark, result))
                if len(booking) == MOST_CHUNKS_IN_WORK:
                    self._reject_all(booking.popleft().result())
            for booked in booking:
                self._reject_all(booked.result())
        named = about.named()
        if named is not None and not self.dry_run and not self.rejects.count(STOCK.name):
            result.changed += book_absent(self.target.books, clerk, named, self.target.clock())
        self.progress(Progress(STOCK.name, source.lines, source.lines))

    def _reject_all(self, rejects: list[Reject]) -> None:
        for reject in rejects:
            self.rejects.add(reject)

    def _sift(self, clerk: Clerk, chunk: Chunk, mark: _Marks, result: FileResult) -> Sifted | None:
        """What of a chunk must be booked; None where it is booked already, or not to be."""
        if self.dry_run:
            return None
        if mark.is_done(chunk.last_row):
            result.skipped += chunk.rows
            return None
        now = self.target.clock()
        sieve = self.target.sieve or EVERYTHING
        return sieve.sift(chunk.columns, Sifting(clerk.ids.new(now), clerk.actor, now, clerk.edition.catalog))

    def _book_counts(
        self, clerk: Clerk, chunk: Chunk, sifting: Future[Sifted | None], mark: _Marks, result: FileResult
    ) -> list[Reject]:
        sifted = sifting.result()
        if sifted is None:
            return []
        booked = book_sifted(
            self.target.books,
            clerk,
            chunk.columns,
            sifted,
            chunk.message,
            self.target.clock(),
            [mark.message(chunk.last_row)],
        )
        _add(result, booked)
        return [
            Reject(STOCK.name, row, fault.field, fault.reason)
            for row, refused in booked.refused
            for fault in refused.faults
        ]

    # Receipts

    def _receipts(self, clerk: Clerk, source: _Source) -> None:
        result = self.done.files.setdefault(RECEIPTS.name, FileResult())
        mark = _Marks(self.target, source, clerk)
        entries = typed(RECEIPTS, source.path)
        while taken := list(islice(entries, RECEIPTS_IN_A_CHUNK)):
            good = [(entry.row, entry.value) for entry in taken if isinstance(entry, Typed)]
            result.rows += len(taken)
            for entry in taken:
                for fault in entry.faults if isinstance(entry, Bad) else ():
                    self.rejects.add(Reject(RECEIPTS.name, entry.row, fault.field, fault.reason))
            self._book_receipts(clerk, good, mark, taken[-1].row, result)
            self.progress(Progress(RECEIPTS.name, taken[-1].row, source.lines))

    def _book_receipts(
        self, clerk: Clerk, good: list[tuple[int, ReceiptNotice]], mark: _Marks, last_row: int, result: FileResult
    ) -> None:
        notices = [notice for _, notice in good]
        if self.dry_run or mark.is_done(last_row):
            result.skipped += 0 if self.dry_run else len(notices)
            found = refusals(clerk, notices)
        else:
            booked = book_receipts(self.target.books, clerk, notices, self.target.clock(), [mark.message(last_row)])
            _add(result, SnapshotResult({outcome: sum(b.outcome is outcome for b in booked) for outcome in Outcome}))
            found = [each.faults for each in booked]
        for (row, _), faults in zip(good, found, strict=True):
            for fault in faults:
                self.rejects.add(Reject(RECEIPTS.name, row, fault.field, fault.reason))

    # Orders

    def _orders(self, clerk: Clerk, source: _Source) -> None:
        result = self.done.files.setdefault(ORDERS.name, FileResult())
        read = orders(source.path, self.rejects.add)
        while taken := list(islice(read, ORDERS_IN_A_CHUNK)):
            result.rows += sum(len(order.rows) for order in taken)
            if not self.dry_run:
                self._accept(clerk, taken, result)
            self.progress(Progress(ORDERS.name, taken[-1].rows[-1], source.lines))

    def _accept(self, clerk: Clerk, taken: list[ReadOrder], result: FileResult) -> None:
        messages = [order.message for order in taken]
        outcomes = self.target.accept_orders(clerk.edition, messages, self.target.clock())
        for order, outcome in zip(taken, outcomes, strict=True):
            if isinstance(outcome, Rejected):
                for reject in rejects_of(order, outcome.problems):
                    self.rejects.add(reject)
            elif outcome.known:
                result.unchanged += len(order.rows)
            else:
                result.changed += len(order.rows)


def _add(result: FileResult, booked: SnapshotResult) -> None:
    result.changed += booked.outcomes[Outcome.BOOKED]
    result.unchanged += booked.outcomes[Outcome.UNCHANGED]
    result.stale += booked.outcomes[Outcome.STALE]
    result.duplicate += booked.outcomes[Outcome.DUPLICATE]


class _Everything:
    """A sieve that lets every count through."""

    def sift(self, counts: CountColumns, said: Sifting) -> Sifted:  # noqa: ARG002
        """See flows.snapshot."""
        return Sifted(range(len(counts)), 0, 0)


EVERYTHING: Final = _Everything()


@dataclass(frozen=True, slots=True)
class _Source:
    """A file, with the hash of its content and the number of its lines."""

    path: Path
    hash: str
    lines: int

    @classmethod
    def of(cls, path: Path) -> _Source:
        """Read it once, in pieces."""
        digest, lines = sha256(), 0
        with path.open("rb") as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
                lines += piece.count(b"\n")
        return cls(path, digest.hexdigest(), lines)


@dataclass(frozen=True, slots=True)
class _Marks:
    """How far a file has come, under an edition: messages that are seen once a chunk has been committed.

    Under another edition the file is booked again, for rows that were rejected may be good by then.
    """

    target: Target
    source: _Source
    clerk: Clerk

    def message(self, row: int) -> tuple[str, str]:
        """The message that says that everything up to a row is booked."""
        return SENDER, f"{self.source.hash[:32]}:{self.clerk.edition.hash[:16]}:{row}"

    def is_done(self, row: int) -> bool:
        """Whether everything up to a row was booked by an earlier run."""
        with self.target.books.transaction() as transaction:
            return bool(transaction.seen([self.message(row)]))


@dataclass(slots=True)
class _About:
    """Which nodes a stock file names, and when and with which sequences it counted."""

    nodes: set[str] = field(default_factory=set)
    instants: set[datetime] = field(default_factory=set)
    sequences: set[int] = field(default_factory=set)

    def add(self, chunk: Chunk) -> None:
        """Look at a chunk."""
        self.nodes.update(chunk.columns.codes.nodes[node] for node in set(chunk.columns.nodes))
        self.instants.update(chunk.columns.instants)
        self.sequences.update(sequence for sequence in set(chunk.columns.sequences) if sequence != NO_SEQUENCE)

    def named(self) -> Named | None:
        """What the file is about."""
        return spanning(self.nodes, self.instants, self.sequences)
