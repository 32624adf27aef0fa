"""Where master data, editions and policy versions are kept: in PostgreSQL, or in memory. Laws 8 and 10.

Which edition is in force is one row, changed only by somebody who knows what was in force before: two publications that
meet cannot overwrite each other. Parts are shared between editions, so a changed item writes one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

import msgspec
from psycopg import Cursor
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from poolwise.core.edition.chunks import Part, hash_of
from poolwise.core.values import Conflict
from poolwise.flows.ports import Audit, MasterRow, PolicyVersion, Publication
from poolwise.store import postgres
from poolwise.store.books import translated
from poolwise.store.journal import first_of_month
from poolwise.store.postgres import Pool
from poolwise.store.writing import jsonb

NO_BODY: Final = "null"
"""What stands in the place of the body of a removed row, so that an older statement does not bring it back."""

READ_IN_FORCE: Final = "SELECT value #>> '{}' FROM setting WHERE name = 'edition'"
READ_PARTS: Final = """
SELECT p.kind, p.hash, p.body
FROM edition AS e
CROSS JOIN unnest(e.parts) WITH ORDINALITY AS u (hash, place)
JOIN edition_part AS p ON p.hash = u.hash
WHERE e.hash = %b
ORDER BY u.place
"""
READ_ROWS: Final = "SELECT kind, key, body::text, changed_at, sequence FROM master ORDER BY kind, key"
FIRST_IN_FORCE: Final = """
INSERT INTO setting (name, value, changed_at, changed_by)
VALUES ('edition', %(value)b, %(at)b, %(actor)b)
ON CONFLICT DO NOTHING
"""
NEXT_IN_FORCE: Final = """
UPDATE setting
SET value = %(value)b, changed_at = %(at)b, changed_by = %(actor)b
WHERE name = 'edition' AND value = %(before)b
"""
WRITE_PART: Final = """
INSERT INTO edition_part (hash, kind, body)
SELECT u.hash, u.kind, u.body FROM unnest(%b::text[], %b::text[], %b::bytea[]) AS u (hash, kind, body)
ON CONFLICT DO NOTHING
"""
WRITE_EDITION: Final = """
INSERT INTO edition (hash, parts, made_at, made_by) VALUES (%b, %b, %b, %b) ON CONFLICT DO NOTHING
"""
WRITE_ROWS: Final = """
INSERT INTO master (kind, key, body, changed_at, sequence)
SELECT u.kind, u.key, u.body::jsonb, u.changed_at, u.sequence
FROM unnest(%b::text[], %b::text[], %b::text[], %b::timestamptz[], %b::bigint[])
    AS u (kind, key, body, changed_at, sequence)
ON CONFLICT (kind, key) DO UPDATE
SET body = excluded.body, changed_at = excluded.changed_at, sequence = excluded.sequence
"""
WRITE_AUDIT: Final = """
INSERT INTO audit (cell, month, at, actor, action, subject, detail) VALUES (0, %b, %b, %b, %b, %b, %b)
"""
READ_POLICIES: Final = """
SELECT code, version, family, body::text, made_by, made_at FROM policy_version WHERE state = 'active' ORDER BY code
"""
READ_POLICY: Final = """
SELECT code, version, family, body::text, made_by, made_at FROM policy_version WHERE code = %b AND version = %b
"""
RETIRE_POLICY: Final = """
UPDATE policy_version SET state = 'retired' WHERE code = %b AND version = %b AND state = 'active'
"""
WRITE_POLICY: Final = """
INSERT INTO policy_version (code, version, family, state, body, made_by, made_at, active_from)
VALUES (%(code)b, %(version)b, %(family)b, 'active', %(body)b, %(made_by)b, %(made_at)b, %(made_at)b)
"""


class PostgresEditions:
    """flows.ports.Editions on the database behind `pool`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @contextmanager
    def _cursor(self) -> Iterator[Cursor[TupleRow]]:
        with translated(), postgres.transaction(self._pool) as connection:
            yield connection.cursor(binary=True)

    @contextmanager
    def _reading(self) -> Iterator[Cursor[TupleRow]]:
        """A cursor for one statement, without a transaction: every process asks twice a second what is in force."""
        with translated(), self._pool.connection() as connection:
            yield connection.cursor(binary=True)

    def in_force(self) -> str:
        """See ports."""
        with self._reading() as cursor:
            row = cursor.execute(READ_IN_FORCE).fetchone()
            return "" if row is None else str(row[0])

    def parts(self, edition: str) -> tuple[Part, ...]:
        """See ports."""
        with self._reading() as cursor:
            found = tuple(Part(*row) for row in cursor.execute(READ_PARTS, (edition,)))
        if not found:
            raise KeyError(edition)
        return found

    def rows(self) -> tuple[MasterRow, ...]:
        """See ports."""
        with self._reading() as cursor:
            return tuple(
                MasterRow(kind, key, None if body == NO_BODY else body.encode(), *rest)
                for kind, key, body, *rest in cursor.execute(READ_ROWS)
            )

    def publish(self, publication: Publication) -> None:
        """See ports."""
        p = publication
        with self._cursor() as cursor:
            words = {"value": Jsonb(p.edition), "before": Jsonb(p.before), "at": p.at, "actor": p.actor}
            cursor.execute(NEXT_IN_FORCE if p.before else FIRST_IN_FORCE, words)
            if cursor.rowcount != 1:
                raise Conflict("another edition is in force by now")
            parts = {part.hash: part for part in p.parts}.values()
            cursor.execute(
                WRITE_PART,
                ([part.hash for part in parts], [part.kind for part in parts], [part.body for part in parts]),
            )
            cursor.execute(WRITE_EDITION, (p.edition, [part.hash for part in p.parts], p.at, p.actor))
            if p.rows:
                bodies = [NO_BODY if row.body is None else row.body.decode() for row in p.rows]
                cursor.execute(
                    WRITE_ROWS,
                    (
                        [row.section for row in p.rows],
                        [row.key for row in p.rows],
                        bodies,
                        [row.changed_at for row in p.rows],
                        [row.sequence for row in p.rows],
                    ),
                )
            _audit(cursor, p)

    def policies(self) -> tuple[PolicyVersion, ...]:
        """See ports."""
        with self._reading() as cursor:
            return tuple(_version(row) for row in cursor.execute(READ_POLICIES))

    def policy(self, code: str, version: int) -> PolicyVersion | None:
        """See ports."""
        with self._reading() as cursor:
            row = cursor.execute(READ_POLICY, (code, version)).fetchone()
            return None if row is None else _version(row)

    def adopt(self, policy: PolicyVersion) -> None:
        """See ports."""
        with self._cursor() as cursor:
            cursor.execute(RETIRE_POLICY, (policy.code, policy.version - 1))
            if cursor.rowcount != (policy.version > 1):
                raise Conflict(f"version {policy.version - 1} of policy {policy.code} is not the active one")
            words = {name: getattr(policy, name) for name in ("code", "version", "family", "made_by", "made_at")}
            cursor.execute(WRITE_POLICY, {**words, "body": jsonb(policy.body)})
            detail = jsonb({"version": policy.version})
            month = first_of_month(policy.made_at)
            cursor.execute(WRITE_AUDIT, (month, policy.made_at, policy.made_by, "policy.adopt", policy.code, detail))


def _audit(cursor: Cursor[TupleRow], p: Publication) -> None:
    month = first_of_month(p.at)
    cursor.execute(WRITE_AUDIT, (month, p.at, p.actor, "master.publish", p.edition, jsonb(p.detail)))


def _version(row: TupleRow) -> PolicyVersion:
    code, version, family, body, made_by, made_at = row
    return PolicyVersion(code, version, family, msgspec.json.decode(body), made_by, made_at)


class MemoryEditions:
    """flows.ports.Editions in this process."""

    def __init__(self) -> None:
        self._in_force = ""
        self._parts: dict[str, Part] = {}
        self._editions: dict[str, tuple[str, ...]] = {}
        self._rows: dict[tuple[str, str], MasterRow] = {}
        self._policies: dict[str, list[PolicyVersion]] = {}
        self._one_at_a_time = Lock()
        self.audit: list[Audit] = []

    def in_force(self) -> str:
        """See ports."""
        return self._in_force

    def parts(self, edition: str) -> tuple[Part, ...]:
        """See ports."""
        return tuple(self._parts[name] for name in self._editions[edition])

    def rows(self) -> tuple[MasterRow, ...]:
        """See ports."""
        return tuple(self._rows[name] for name in sorted(self._rows))

    def publish(self, publication: Publication) -> None:
        """See ports."""
        with self._one_at_a_time:
            if self._in_force != publication.before:
                raise Conflict("another edition is in force by now")
            names = tuple(part.hash for part in publication.parts)
            assert hash_of(names) == publication.edition, "an edition is named by its parts (law 8)"
            self._in_force = publication.edition
            self._editions[publication.edition] = names
            self._parts |= {part.hash: part for part in publication.parts}
            self._rows |= {(row.section, row.key): row for row in publication.rows}
            self.audit.append(Audit(publication.actor, "master.publish", publication.edition, publication.detail))

    def policies(self) -> tuple[PolicyVersion, ...]:
        """See ports."""
        return tuple(self._policies[code][-1] for code in sorted(self._policies))

    def policy(self, code: str, version: int) -> PolicyVersion | None:
        """See ports."""
        versions = self._policies.get(code, [])
        return versions[version - 1] if 0 < version <= len(versions) else None

    def adopt(self, policy: PolicyVersion) -> None:
        """See ports."""
        with self._one_at_a_time:
            versions = self._policies.setdefault(policy.code, [])
            if len(versions) != policy.version - 1:
                raise Conflict(f"version {policy.version - 1} of policy {policy.code} is not the active one")
            versions.append(policy)
            self.audit.append(Audit(policy.made_by, "policy.adopt", policy.code, {"version": policy.version}))
