"""Both kinds of books for the contract suite, with what only a test may do to them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Self

import psycopg
from psycopg import sql

from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.check import Finding, findings
from poolwise.store.evidence import Report, check_database
from poolwise.store.memory import MemoryBooks
from poolwise.store.memory_evidence import MemoryEvidence
from tests.conftest import Database
from tests.store.contract import BEGIN, at

CELLS = (0, 1, 2)
EDITIONS, POLICIES = ("edition-1",), (("default", 1),)
# Memory keeps no bookings, guards or line rows of their own; these tables hold no state of the contract.
# Sheets are written by snapshots only.
OWN_TO_POSTGRES = (
    "edition", "edition_part", "master", "policy_version", "token", "setting", "schema_migration", "count_sheet",
    "webhook", "webhook_place", "delivery",
)  # fmt: skip
CHECKPOINTS = ("verified_position", "verified_until", "feed_position", "decision_guard")

ADD_EDITION = "INSERT INTO edition (hash, parts, made_at, made_by) VALUES (%(edition)s, '{}', %(at)s, 'test')"
ADD_POLICY = """
INSERT INTO policy_version (code, version, family, state, body, made_by, made_at)
VALUES (%(code)s, %(version)s, 'sourcing', 'active', '{}', 'test', %(at)s)
"""


class KeptInMemory:
    """Memory books."""

    def __init__(self) -> None:
        self.memory = MemoryBooks()
        self.books = self.memory

    @property
    def shelves(self):
        """What the books hold, to be changed at will."""
        return self.memory.shelves

    def with_failpoint(self, failpoint: Callable[[str], None]) -> MemoryBooks:
        """Other books on the same shelves."""
        other = MemoryBooks(failpoint)
        other.shelves = self.memory.shelves
        return other

    def check(self, full: bool = True) -> list[Finding]:
        """What the law checks find."""
        return findings(MemoryEvidence(self.shelves, EDITIONS, POLICIES))

    def dump(self) -> Mapping[str, Sequence[object]]:
        """Everything that is kept; queues without entries whose demand is gone, no cached facts."""
        caches = {"stock_facts", "capacity_facts"}
        shelves = {f.name: getattr(self.shelves, f.name) for f in fields(self.shelves) if f.name not in caches}
        shelves["queues"] = {
            name: sorted({entry for entry in heap if (name[1], entry[2]) in self.shelves.todo})
            for name, heap in self.shelves.queues.items()
        }
        shelves["timer_keys"] = {
            cell: sorted({entry for entry in heap if (cell, *entry[1:]) in self.shelves.timers})
            for cell, heap in self.shelves.timer_keys.items()
        }
        return {name: copy.deepcopy(without_empty(shelf)) for name, shelf in shelves.items()}


def without_empty(shelf):
    """A shelf without keys that hold nothing: looking at a key may make it."""
    return {k: v for k, v in shelf.items() if v not in ({}, [], ())} if isinstance(shelf, dict) else shelf


class KeptInPostgres:
    """Books on a fresh database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.pool = postgres.connect(database.url, connections=5)
        self.books = PostgresBooks(self.pool, CELLS)
        for edition in EDITIONS:
            self.plant(ADD_EDITION, edition=edition, at=BEGIN)
        for code, version in POLICIES:
            self.plant(ADD_POLICY, code=code, version=version, at=BEGIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()

    def with_failpoint(self, failpoint: Callable[[str], None]) -> PostgresBooks:
        """Other books on the same database."""
        return PostgresBooks(self.pool, CELLS, failpoint)

    def report(self, full: bool = True) -> Report:
        """A check of the laws."""
        return check_database(self.pool, CELLS, at(60), full=full)

    def check(self, full: bool = True) -> list[Finding]:
        """What the law checks find."""
        return list(self.report(full).findings)

    def dump(self) -> Mapping[str, Sequence[object]]:
        """All rows of all tables, sorted."""
        with psycopg.connect(self.database.owner_url) as owner:
            tables = owner.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
                " AND NOT relispartition ORDER BY relname"
            ).fetchall()
            return {
                name: owner.execute(
                    sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1").format(sql.Identifier(name))
                ).fetchall()
                for (name,) in tables
                if name not in OWN_TO_POSTGRES + CHECKPOINTS
            }

    def plant(self, statement: str, **parameters: object) -> int:
        """Run a statement as the owner, who may do anything; the number of rows."""
        with psycopg.connect(self.database.owner_url, autocommit=True) as owner:
            return owner.execute(statement, parameters).rowcount
