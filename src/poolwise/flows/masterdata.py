"""Master data: statements about nodes, lanes, items and the rest become the next edition, whole or not at all.

Keeps laws 5, 8, 10 and 12: of two statements about a key the newer one holds, in whatever order they come; what does
not fit is refused by row and field, and the row it would have replaced stays; equal master data is the same edition; an
edition and its policy versions never change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from poolwise.core.edition.build import Edition, edition_of, opened
from poolwise.core.edition.checks import Checked, RowFault, check
from poolwise.core.edition.chunks import Part, decode, encode
from poolwise.core.edition.rows import Row, Section, key_of
from poolwise.core.policy.language import content_hash, parse_policy, to_data
from poolwise.core.policy.terms import SourcingPolicy
from poolwise.core.values import Conflict, Json, replace
from poolwise.flows.ports import Editions, MasterRow, PolicyVersion, Publication

MOST_TRIES: Final = 8
SOURCING: Final = "sourcing"

Name = tuple[Section, str]
"""A row of master data: its section and key."""


@dataclass(frozen=True, slots=True)
class Told:
    """A statement about one row: newer than others by `sequence`, or else by `changed_at` (None: as of now)."""

    row: Row
    section: Section
    sequence: int | None = None
    changed_at: datetime | None = None


@dataclass(slots=True)
class Published:
    """What became of statements about master data.

    `places` of a fault is the place of its statement, None for a row that was there before. `changed` counts the rows
    added, changed and removed by section.
    """

    edition: Edition
    parts: tuple[Part, ...]
    faults: list[tuple[int | None, RowFault]] = field(default_factory=list)
    stale: int = 0
    changed: dict[Section, int] = field(default_factory=dict)

    @property
    def rows_changed(self) -> int:
        """Rows added, changed and removed."""
        return sum(self.changed.values())


def publish(
    editions: Editions,
    told: Sequence[Told],
    now: datetime,
    actor: str,
    *,
    complete: Collection[Section] = (),
    dry_run: bool = False,
) -> Published:
    """Take statements about master data over into the next edition.

    In the sections of `complete` a row that nobody names is removed. With `dry_run` nothing is kept.
    """
    for _ in range(MOST_TRIES):
        before = editions.in_force()
        state = _State(editions.rows(), now)
        published = state.take(told, frozenset(complete))
        if dry_run or (published.edition.hash == before and not state.changed):
            return published
        detail: dict[str, Json] = {section.value: count for section, count in published.changed.items()}
        try:
            editions.publish(
                Publication(now, actor, before, published.edition.hash, published.parts, state.changed, detail)
            )
        except Conflict:
            continue
        return published
    raise Conflict(f"others published master data {MOST_TRIES} times in a row")


def in_force(editions: Editions, known: Edition | None = None) -> Edition | None:
    """The edition in force: `known` if it still is, None while there is none."""
    name = editions.in_force()
    if known is not None and known.hash == name:
        return known
    return open_edition(editions, name) if name else None


def open_edition(editions: Editions, name: str) -> Edition:
    """An edition by its hash. Raises KeyError when there is none."""
    edition = opened(editions.parts(name))
    assert edition.hash == name, f"edition {name} is not what it was (law 8): {edition.hash}"
    return edition


def adopt_policy(editions: Editions, policy: SourcingPolicy, now: datetime, actor: str) -> tuple[SourcingPolicy, bool]:
    """Make a policy the active one of its code, as the next version, and whether it is a new one.

    The same content again is the version it was. Raises Refused when it would not be read again.
    """
    for _ in range(MOST_TRIES):
        active = {version.code: version for version in editions.policies()}.get(policy.code)
        if active is not None:
            known = read_version(active)
            if content_hash(known) == content_hash(policy):
                return known, False
        version = active.version + 1 if active else 1
        made = PolicyVersion(policy.code, version, SOURCING, to_data(policy), actor, now)
        adopted = read_version(made)
        try:
            editions.adopt(made)
        except Conflict:
            continue
        return adopted, True
    raise Conflict(f"others changed policy {policy.code} {MOST_TRIES} times in a row")


def read_version(kept: PolicyVersion) -> SourcingPolicy:
    """The policy that a version is."""
    return parse_policy(kept.body, kept.version)


class _State:
    """Master data while statements are taken over: what is known, what is new, what does not fit."""

    def __init__(self, kept: Iterable[MasterRow], now: datetime) -> None:
        self._now = now
        self._marks = {(Section(row.section), row.key): row for row in kept}
        self._bodies = {name: row.body for name, row in self._marks.items() if row.body is not None}
        self._known = _decoded(self._bodies)
        self.changed: list[MasterRow] = []

    def take(self, told: Sequence[Told], complete: Collection[Section]) -> Published:
        """The next edition, and what became of each statement."""
        newest, stale, faults = self._newest(told)
        removed = [
            name for name in self._known if name[0] in complete and name not in newest and self._may_remove(name)
        ]
        checked, refused = self._fitting(told, newest, removed)
        faults += refused
        faults += [(None, fault) for fault in checked.faults if (fault.section, fault.key) not in newest]
        faults += [
            (newest[fault.section, fault.key], fault)
            for fault in checked.faults
            if (fault.section, fault.key) in newest
        ]
        edition, parts = edition_of(checked)
        published = Published(edition, parts, sorted(faults, key=_by_place), stale)
        self._write(told, newest, removed, published)
        return published

    def _newest(self, told: Sequence[Told]) -> tuple[dict[Name, int], int, list[tuple[int | None, RowFault]]]:
        """The places of the statements that count, how many are older than what is known, and those that contradict."""
        newest: dict[Name, int] = {}
        stale = 0
        faults: list[tuple[int | None, RowFault]] = []
        for place, statement in enumerate(told):
            name = (statement.section, key_of(statement.row))
            rival = newest.get(name)
            if rival is not None:
                order = _compared(self._mark(statement, name), self._mark(told[rival], name))
                if order == 0 and statement.row != told[rival].row:
                    faults.append((place, RowFault(*name, "", "the same key is there already, with another content")))
                if order > 0:
                    newest[name] = place
                stale += 1
            elif name in self._marks and _compared(self._mark(statement, name), self._marks[name]) < 0:
                stale += 1
            else:
                newest[name] = place
        return newest, stale, faults

    def _mark(self, statement: Told, name: Name) -> MasterRow:
        return MasterRow(*name, None, statement.changed_at or self._now, statement.sequence)

    def _may_remove(self, name: Name) -> bool:
        return self._marks[name].changed_at <= self._now

    def _fitting(
        self, told: Sequence[Told], newest: dict[Name, int], removed: Collection[Name]
    ) -> tuple[Checked, list[tuple[int | None, RowFault]]]:
        """The rows that fit together. A statement that does not leaves `newest`, and the row it would replace stays.

        Statements are given up section by section, for a row may only seem wrong because another one is.
        """
        refused: list[tuple[int | None, RowFault]] = []
        rows: dict[Section, dict[str, Row]] = {section: {} for section in Section}
        for (section, key), row in self._known.items():
            rows[section][key] = row
        for section, key in removed:
            del rows[section][key]
        for (section, key), place in newest.items():
            rows[section][key] = told[place].row
        for _ in range(len(newest) + 1):
            checked = check(rows, self._now.date())
            wrong = [f for f in checked.faults if not f.warning and (f.section, f.key) in newest]
            if not wrong:
                return checked, refused
            first = min(list(Section).index(fault.section) for fault in wrong)
            for fault in wrong:
                name = (fault.section, fault.key)
                if list(Section).index(fault.section) == first:
                    refused.append((newest[name], fault))
                    if name in self._known and name not in removed:
                        rows[fault.section][fault.key] = self._known[name]
                    else:
                        rows[fault.section].pop(fault.key, None)
            for _, fault in refused:
                newest.pop((fault.section, fault.key), None)
        raise AssertionError("each round gives up a statement")

    def _write(
        self, told: Sequence[Told], newest: Mapping[Name, int], removed: Collection[Name], published: Published
    ) -> None:
        """The rows to keep: those that changed, and those whose statement is newer than the one known."""
        for name, place in newest.items():
            statement = told[place]
            body = encode([statement.row])[1:-1]
            same = self._known.get(name) == statement.row
            known = self._marks.get(name)
            if same and known is not None and statement.sequence is None and statement.changed_at is None:
                continue
            mark = self._mark(statement, name)
            if same and known is not None and _compared(mark, known) == 0:
                continue
            if mark.sequence is None and known is not None:
                mark = replace(mark, sequence=known.sequence)
            self.changed.append(replace(mark, body=body))
            if not same:
                published.changed[name[0]] = published.changed.get(name[0], 0) + 1
        for name in removed:
            gone = self._marks[name]
            self.changed.append(replace(gone, body=None, changed_at=max(self._now, gone.changed_at)))
            published.changed[name[0]] = published.changed.get(name[0], 0) + 1


def _by_place(entry: tuple[int | None, RowFault]) -> int:
    return -1 if entry[0] is None else entry[0]


def _compared(one: MasterRow, other: MasterRow) -> int:
    """More than 0 when the first statement is newer: by sequence where both have one, else by time."""
    if one.sequence is not None and other.sequence is not None:
        return one.sequence - other.sequence
    return (one.changed_at > other.changed_at) - (one.changed_at < other.changed_at)


def _decoded(bodies: Mapping[Name, bytes]) -> dict[Name, Row]:
    """The rows of bodies, a section at a time, which is many times faster than row by row."""
    names: dict[Section, list[Name]] = {}
    for name in sorted(bodies):
        names.setdefault(name[0], []).append(name)
    found: dict[Name, Row] = {}
    for section, own in names.items():
        rows = decode(section, b"[" + b",".join(bodies[name] for name in own) + b"]")
        found.update(zip(own, rows, strict=True))
    return found
