"""Bring the schema up to date: roles, then the plain SQL files of `schema/` in order, then the partitions by month.

A file is applied whole or not at all and is recorded with its hash, so that a file that changed afterwards is noticed.
Files named `NNNN_pre_*.sql` are applied before a new release runs, and leave a schema on which the old release works
too; those named `NNNN_post_*.sql` once no process of the old release is left. No SQL reads the clock (law 18): the time
of a migration is an argument.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import Connection, sql
from psycopg.errors import DuplicateObject, DuplicateTable, InsufficientPrivilege, UniqueViolation
from psycopg.rows import TupleRow

from poolwise.store.postgres import GUIDE, DatabaseUnavailable, check_version, diagnose, session_parameters

SCHEMA = Path(__file__).parent / "schema"
FILE_NAME = re.compile(r"(\d{4})_(pre|post)_[a-z0-9_]+\.sql")
STATEMENT_TIMEOUT_MS = 3_600_000
ROLES = ("poolwise_owner", "poolwise_app", "poolwise_partner")
MOST_MONTHS_AHEAD = 120

ROLE_RIGHTS = "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = %s"
CREATE_ROLE = sql.SQL("CREATE ROLE {} LOGIN")

CREATE_RECORD = """
CREATE TABLE IF NOT EXISTS schema_migration (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL
)
"""
HAS_RECORD = "SELECT to_regclass('schema_migration') IS NOT NULL"
SHOW_RECORD = "GRANT SELECT ON schema_migration TO poolwise_app"
# One at a time: this mode excludes itself, but neither readers nor writers.
LOCK_RECORD = "LOCK TABLE schema_migration IN SHARE UPDATE EXCLUSIVE MODE"
READ_RECORD = "SELECT name, sha256 FROM schema_migration ORDER BY name"
RECORD = "INSERT INTO schema_migration (name, sha256, applied_at) VALUES (%s, %s, %s)"
# Waiting longer for a table would make everybody else wait behind us.
WAIT_FOR_TABLES = "SET LOCAL lock_timeout = '10s'"
WAIT_FOR_RECORD = "SET LOCAL lock_timeout = 0"

PARTITIONED_BY_MONTH = """
SELECT parent.relname
FROM pg_partitioned_table AS partitioned
JOIN pg_class AS parent ON parent.oid = partitioned.partrelid
JOIN pg_attribute AS key ON key.attrelid = parent.oid AND key.attnum = partitioned.partattrs[0]
WHERE partitioned.partstrat = 'r' AND partitioned.partnatts = 1
    AND key.attname = 'month' AND key.atttypid = 'date'::regtype
    AND parent.relnamespace = current_schema()::regnamespace
ORDER BY parent.relname
"""
TABLE_EXISTS = "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = %s"
# Attached after it is made: CREATE TABLE ... PARTITION OF would lock out readers and writers of the whole table.
CREATE_PARTITION = sql.SQL(
    "CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS"
    " INCLUDING STORAGE INCLUDING COMPRESSION)"
)
ATTACH_PARTITION = sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})")


class SchemaRefused(Exception):
    """The files of the schema contradict each other or what was applied: a fault of the release, not of the server."""


class Phase(StrEnum):
    """What is applied: what the old release works on, too, or everything."""

    PRE = "pre"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of the schema."""

    name: str
    phase: Literal["pre", "post"]
    text: str

    @property
    def sha256(self) -> str:
        """The hash of the file's content, by which a later change of it is noticed."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrate(
    url: str,
    at: datetime,
    *,
    phase: Phase = Phase.ALL,
    folder: Path = SCHEMA,
    progress: Callable[[str], None] = lambda _name: None,
) -> list[str]:
    """Apply what is pending and return the names of the files applied, in order.

    `url` is the owner's, `at` the time that is recorded. Phase PRE stops before the first pending post file. Any
    number of processes may migrate at once: each file is applied by one of them. Raises DatabaseUnavailable, or
    SchemaRefused when an applied file was changed or a new file is older than an applied one.
    """
    assert at.tzinfo is not None, "an instant has a zone"
    files = read_schema(folder)
    applied: list[str] = []
    try:
        with psycopg.connect(
            session_parameters(url, STATEMENT_TIMEOUT_MS, "poolwise migrate"), autocommit=True
        ) as owner:
            check_version(owner)
            ensure_roles(owner)
            _ensure_record(owner)
            for file in files:
                if phase is Phase.PRE and file.phase == "post" and file in pending(owner, files):
                    break
                if _apply(owner, file, files, at):
                    applied.append(file.name)
                    progress(file.name)
    except psycopg.OperationalError as error:
        raise diagnose(error, url) from error
    except InsufficientPrivilege as error:
        raise diagnose(error, url) from error
    return applied


def read_schema(folder: Path = SCHEMA) -> list[Migration]:
    """The files of the schema by number. Raises SchemaRefused for a bad name or a number used twice."""
    files: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        name = FILE_NAME.fullmatch(path.name)
        if name is None:
            raise SchemaRefused(f"{path.name}: a migration is named NNNN_pre_words.sql or NNNN_post_words.sql.")
        if files and files[-1].name[:4] == name[1]:
            raise SchemaRefused(f"{path.name} and {files[-1].name} have the same number.")
        files.append(Migration(path.name, "pre" if name[2] == "pre" else "post", path.read_text(encoding="utf-8")))
    return files


def pending(connection: Connection[TupleRow], files: list[Migration]) -> list[Migration]:
    """The files that are not applied yet. Raises SchemaRefused when the record and the files contradict each other."""
    row = connection.execute(HAS_RECORD).fetchone()
    record: dict[str, str] = {}
    if row is not None and row[0]:
        record = dict(connection.execute(READ_RECORD).fetchall())
    for file in files:
        if record.get(file.name, file.sha256) != file.sha256:
            raise SchemaRefused(f"{file.name} was changed after it was applied; write a new migration instead.")
    missing = [file for file in files if file.name not in record]
    if missing and (later := [name for name in record if name > missing[0].name]):
        raise SchemaRefused(
            f"{missing[0].name} is not applied, but the later {min(later)} is; give it a higher number."
        )
    return missing


def _apply(owner: Connection[TupleRow], file: Migration, files: list[Migration], at: datetime) -> bool:
    """Apply one file in one transaction with its record; False if it is applied already, maybe while we waited."""
    with owner.transaction():
        owner.execute(WAIT_FOR_RECORD)
        owner.execute(LOCK_RECORD)
        if file not in pending(owner, files):
            return False
        owner.execute(WAIT_FOR_TABLES)
        for number, statement in enumerate(statements(file.text), start=1):
            try:
                owner.execute(statement.encode())
            except psycopg.Error as error:
                error.add_note(f"in statement {number} of {file.name}")
                raise
        owner.execute(RECORD, (file.name, file.sha256, at))
    return True


def _ensure_record(owner: Connection[TupleRow]) -> None:
    with suppress(DuplicateTable, DuplicateObject, UniqueViolation):  # another process made it at the same moment
        owner.execute(CREATE_RECORD)
    with owner.transaction():  # two grants at once would disturb each other
        owner.execute(LOCK_RECORD)
        owner.execute(SHOW_RECORD)


def ensure_roles(owner: Connection[TupleRow]) -> None:
    """Make the three roles that are missing; the application's and the partner's must have no administrator's rights.

    New roles cannot log in by password before an administrator sets one. Raises DatabaseUnavailable with the SQL to run
    when the server does not let this connection make roles.
    """
    for role in ROLES:
        row = owner.execute(ROLE_RIGHTS, (role,)).fetchone()
        if row is not None:
            if row[0] and role != "poolwise_owner":
                raise DatabaseUnavailable(
                    f"The role {role} has an administrator's rights, so that row policies and laws would not bind it.",
                    f"Run as an administrator: ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB;",
                )
            continue
        try:
            owner.execute(CREATE_ROLE.format(sql.Identifier(role)))
        except (DuplicateObject, UniqueViolation):
            continue  # another process made it at the same moment
        except InsufficientPrivilege as error:
            raise DatabaseUnavailable(
                f"The role {role} does not exist, and {owner.info.user} may not create it.",
                f"Run the SQL of {GUIDE} as an administrator: CREATE ROLE {role} LOGIN PASSWORD '...';",
                error.sqlstate,
            ) from error


def ensure_partitions(connection: Connection[TupleRow], month: date, ahead: int) -> list[str]:
    """Make the partitions of `month` and of the `ahead` months after it that are missing; their names.

    They are those of all tables that are partitioned by range on one column `month date`, each named table_YYYY_MM.
    Needs the owner's connection, after a migration.
    """
    assert 0 <= ahead <= MOST_MONTHS_AHEAD, "partitions are made for at most ten years"
    made: list[str] = []
    with connection.transaction():
        connection.execute(LOCK_RECORD)
        connection.execute(WAIT_FOR_TABLES)
        for (parent,) in connection.execute(PARTITIONED_BY_MONTH).fetchall():
            for distance in range(ahead + 1):
                first = month_after(month, distance)
                name = f"{parent}_{first:%Y_%m}"
                if connection.execute(TABLE_EXISTS, (name,)).fetchone() is None:
                    partition, whole = sql.Identifier(name), sql.Identifier(parent)
                    bounds = sql.Literal(first), sql.Literal(month_after(first, 1))
                    connection.execute(CREATE_PARTITION.format(partition, whole))
                    connection.execute(ATTACH_PARTITION.format(whole, partition, *bounds))
                    made.append(name)
    return made


def month_after(month: date, distance: int) -> date:
    """The first day of the month that comes `distance` months after the one of a day."""
    years, months = divmod(month.month - 1 + distance, 12)
    return date(month.year + years, months + 1, 1)


# What a semicolon may hide in. An E before a quote makes backslashes escape; a dollar quote ends with its own tag.
PIECE = re.compile(
    r"""(?P<end>;)
      | (?P<comment>--[^\n]*)
      | (?P<block>/\*)
      | (?P<text>
            (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*'
          | '[^']*'
          | "[^"]*"
          | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
        )
      | (?P<unclosed>['"] | (?<![\w$])\$(?:[^\W\d]\w*)?\$)
      | (?P<body>\bBEGIN\s+ATOMIC\b)""",
    re.DOTALL | re.VERBOSE | re.IGNORECASE,
)
BLOCK_EDGE = re.compile(r"/\*|\*/")


def statements(text: str) -> list[str]:
    """The statements of a file of SQL, split at the semicolons outside quotes, comments and dollar quotes.

    Comments stay where they are inside a statement; what is only a comment is no statement. Raises SchemaRefused for a
    quote or comment that does not end, and for a body in BEGIN ATOMIC: write it in dollar quotes.
    """
    found: list[str] = []
    start = place = 0
    is_blank = True
    while piece := PIECE.search(text, place):
        is_blank = is_blank and not text[place : piece.start()].strip()
        place = piece.end()
        if piece["end"]:
            if not is_blank:
                found.append(text[start : piece.start()].strip())
            start, is_blank = place, True
        elif piece["block"]:
            place = _end_of_block(text, place)
        elif piece["unclosed"] or piece["body"]:
            line = text.count("\n", 0, piece.start()) + 1
            raise SchemaRefused(f"line {line}: {piece[0]} begins what cannot be read to its end.")
        elif not piece["comment"]:
            is_blank = False
    if not is_blank or text[place:].strip():
        found.append(text[start:].strip())
    return found


def _end_of_block(text: str, place: int) -> int:
    """The place after a block comment that was opened before `place`; block comments nest."""
    depth = 1
    while depth:
        edge = BLOCK_EDGE.search(text, place)
        if edge is None:
            raise SchemaRefused(f"line {text.count(chr(10), 0, place) + 1}: /* begins what cannot be read to its end.")
        depth += 1 if edge[0] == "/*" else -1
        place = edge.end()
    return place
