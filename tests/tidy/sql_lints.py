"""Lints on SQL, in store's Python and in its migrations: no clock, one dialect that cells can be cut from, cell first.

Laws: 18 (no SQL reads the clock), 8 (a decision replays: no chance), and the rules of docs/decisions 0002 and 0003,
which let the same SQL run where a cell is a database or a shard.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.tidy.source import Finding, Source
from tests.tidy.sql_text import (
    Statement,
    column_names,
    literal_strings,
    looks_like_sql,
    parenthesised,
    statements,
    tables,
    top_level_parts,
)

HOT_TABLES = frozenset(
    """
    booking customer_order decision delivery inbox movement order_line outbox pick_outcome position receipt reservation
    shipment timer todo
    """.split()
)

CLOCK = re.compile(
    r"\b(now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|current_date|current_time"
    r"|current_timestamp|localtime|localtimestamp)\b(?!\s*\.)(?!\s+(smallint|integer|bigint|text|timestamp|date)\b)"
)
CLOCK_TEXT = re.compile(
    r"'(now|today|yesterday|tomorrow)'\s*::|\b(date|time|timestamptz?|cast\s*\()\s*'(now|today|yesterday|tomorrow)'",
    re.IGNORECASE,
)
CLOCK_FUNCTIONS = frozenset({"now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday"})
CHANCE = re.compile(r"\b(gen_random_uuid|uuidv[47]|uuid_generate_v\w+|random|random_normal|gen_random_bytes)\s*\(")
AGE = re.compile(r"\bage\s*\([^(),]*\)")

NOT_PORTABLE = (
    (re.compile(r"\b(ctid|xmin|xmax|cmin|cmax)\b"), "a row's physical place or transaction"),
    (re.compile(r"\b(txid_\w+|pg_current_xact_id\w*|pg_current_snapshot|pg_snapshot_\w+)\s*\("), "transaction numbers"),
    (re.compile(r"^create\s+(or\s+replace\s+)?(constraint\s+|event\s+)?trigger\b"), "a trigger"),
    (re.compile(r"^create\s+(or\s+replace\s+)?rule\b"), "a rewrite rule"),
    (re.compile(r"\bmerge\s+into\b"), "MERGE"),
    (re.compile(r"\bas\s+((not\s+)?materialized\s*)?\(\s*(insert|update|delete|merge)\b"), "a CTE that modifies data"),
    (re.compile(r"\bpg_(try_)?advisory_\w+"), "an advisory lock"),
    (re.compile(r"^(listen|notify|unlisten)\b|\bpg_notify\s*\("), "LISTEN and NOTIFY"),
)
VOLATILE = re.compile(
    r"\b(random|nextval|setval|clock_timestamp|timeofday|gen_random_uuid|pg_sleep|pg_backend_pid|set_config)\s*\("
)


def statements_of(source: Source) -> Iterator[Statement]:
    """Every statement of a migration, or of the SQL constants of a Python file."""
    if source.path.endswith(".sql"):
        yield from statements(source.text)
        return
    for literal in literal_strings(source.tree):
        if looks_like_sql(literal.text):
            yield from statements(literal.text, literal.line)


def no_clock_in_sql(source: Source) -> list[Finding]:
    """Time, ids and chance come from the flow: none is read by SQL or by a default."""
    found = []
    for statement in statements_of(source):
        names = [m[1] for m in CLOCK.finditer(statement.bare) if _is_clock(statement.bare, m)]
        names += [m[1] for m in CHANCE.finditer(statement.bare)]
        names += ["age of one argument" for _ in AGE.finditer(statement.bare)]
        names += [m[0] for m in CLOCK_TEXT.finditer(statement.text)]
        found += [source.finding(statement.line, f"SQL reads the clock or chance: {name}") for name in names]
    return found


def _is_clock(bare: str, match: re.Match[str]) -> bool:
    """`now` alone may be a parameter's or a column's name; `now(` and `current_date` are the clock."""
    called = bare[match.end() :].lstrip().startswith("(")
    named = bare[: match.start()].endswith(("%(", "."))
    return called or (match[1] not in CLOCK_FUNCTIONS and not named)


def portable_sql(source: Source) -> list[Finding]:
    """Nothing that a distributed PostgreSQL refuses or that works only inside one server."""
    found = []
    for statement in statements_of(source):
        for pattern, what in NOT_PORTABLE:
            if pattern.search(statement.bare):
                found.append(source.finding(statement.line, f"not portable to cells: {what}"))
        if re.match(r"update\b|insert\b.*\bdo\s+update\b", statement.bare, re.DOTALL):
            found += [
                source.finding(statement.line, f"volatile function in an UPDATE: {match[1]}")
                for match in VOLATILE.finditer(statement.bare)
            ]
    return found


def one_statement_each(source: Source) -> list[Finding]:
    """A constant of SQL holds one statement, as one execute sends it."""
    found = []
    for literal in literal_strings(source.tree):
        if looks_like_sql(literal.text) and len(statements(literal.text)) > 1:
            found.append(source.finding(literal.line, "more than one statement in a constant"))
    return found


CELL_TEST = re.compile(
    r"\bcell\s*(=|in\b)"  # cell = $1, p.cell = any($1), cell in (...)
    r"|=\s*[\w.]*\bcell\b(?!\s*=)"  # u.x = p.cell
    r"|\busing\s*\(\s*cell\b"  # join ... using (cell, item)
    r"|\(\s*(\w+\.)?cell\s*,[^()]*\)\s*(=|in\b)"  # (cell, id) in (...)
)
WRITTEN = re.compile(r"\b(?:insert\s+into|copy)\s+(?:\w+\.)?(\w+)\s*(?:as\s+\w+\s*)?(\()?")
DOUBLE_TEST = re.compile(r"(\bcell)\s*=\s*([\w.]*\bcell\b)")


def hot_statements_name_cell(source: Source) -> list[Finding]:
    """A statement tests `cell` once for every hot table it reads or changes; INSERT and COPY list the column."""
    found = []
    for statement in statements_of(source):
        found += [source.finding(statement.line, text) for text in _cell_faults(statement.bare)]
    return found


def _cell_faults(quoted: str) -> Iterator[str]:
    bare = quoted.replace('"', "")
    if not re.match(r"(select|insert|update|delete|with|copy|merge|truncate|lock)\b", bare):
        return
    hot = [name for name in tables(bare) if name in HOT_TABLES]
    for written in WRITTEN.finditer(bare):
        if written[1] in HOT_TABLES:
            hot.remove(written[1])
            if not written[2] or "cell" not in column_names(parenthesised(bare, written.start())):
                yield f"{written[1]} is hot: list the column cell"
            conflict = re.search(r"\bon\s+conflict\s*\(", bare)
            if conflict and "cell" not in column_names(parenthesised(bare, conflict.start())):
                yield f"{written[1]} is hot: ON CONFLICT must name cell"
    tests = len(CELL_TEST.findall(DOUBLE_TEST.sub(r"\1 = other", bare)))
    if tests < len(hot):
        yield f"names {', '.join(hot)} but tests cell {tests} times: every hot table needs `cell =` or `cell = any(`"


CREATE_TABLE = re.compile(r"create\s+(?:unlogged\s+)?table\s+(?:if\s+not\s+exists\s+)?(?:\w+\.)?(\w+)\s*\(")
ALTER_TABLE = re.compile(r"alter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?(?:\w+\.)?(\w+)\s+(.*)", re.DOTALL)
UNIQUE_INDEX = re.compile(
    r"create\s+unique\s+index\s+(?:concurrently\s+)?(?:if\s+not\s+exists\s+)?(?:\w+\s+)?on\s+(?:only\s+)?(?:\w+\.)?(\w+)"
)
REFERENCE = re.compile(r"\breferences\s+(?:\w+\.)?(\w+)")


def cell_first_in_keys(source: Source) -> list[Finding]:
    """In a hot table the primary key begins with cell; unique keys, and foreign keys to hot tables, hold it."""
    found = []
    for statement in statements_of(source):
        bare = statement.bare.replace('"', "")
        if match := CREATE_TABLE.match(bare):
            faults = _table_faults(match[1], top_level_parts(parenthesised(bare, match.end() - 1)))
        elif match := ALTER_TABLE.match(bare):
            added = [part.removeprefix("add ").strip() for part in top_level_parts(match[2]) if part.startswith("add ")]
            faults = _constraint_faults(match[1], added)
        elif match := UNIQUE_INDEX.match(bare):
            columns = column_names(parenthesised(bare, match.end()))
            faults = iter([f"unique index on {match[1]} without cell"] if "cell" not in columns else [])
            faults = faults if match[1] in HOT_TABLES else iter([])
        else:
            continue
        found += [source.finding(statement.line, fault) for fault in faults]
    return found


def _table_faults(table: str, parts: list[str]) -> Iterator[str]:
    if table in HOT_TABLES and not any("primary key" in part for part in parts):
        yield f"{table} is hot and has no primary key that begins with cell"
    yield from _constraint_faults(table, parts)


def _constraint_faults(table: str, parts: list[str]) -> Iterator[str]:
    """Faults of the constraints in a list of columns and constraints of one table."""
    if table not in HOT_TABLES:
        return
    for part in parts:
        bare = re.sub(r"^constraint\s+\w+\s+", "", part)
        bare = re.sub(r"^(column\s+)?if\s+not\s+exists\s+|^column\s+", "", bare)
        key = re.match(r"(primary\s+key|unique|foreign\s+key)\b", bare)
        columns = column_names(parenthesised(bare, 0)) if key else column_names(bare)[:1]
        reference = REFERENCE.search(bare)
        if "primary key" in bare and columns[:1] != ["cell"]:
            yield f"primary key of {table} does not begin with cell"
        elif re.search(r"\bunique\b", bare) and "cell" not in columns:
            yield f"unique key of {table} without cell"
        if reference and reference[1] in HOT_TABLES and "cell" not in columns:
            yield f"{table} refers to {reference[1]} across cells: a foreign key between hot tables holds cell"
