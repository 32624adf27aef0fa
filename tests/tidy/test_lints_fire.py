"""Every lint finds what it is for, and lets pass what only looks like it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.tidy.rules import RULES
from tests.tidy.source import ROOT, Source, tracked_paths
from tests.tidy.sql_text import looks_like_sql, statements, tables
from tests.tidy.text_lints import dead_links

CORE = "src/poolwise/core/orders.py"
LEDGER = "src/poolwise/core/ledger.py"
STORE = "src/poolwise/store/books.py"
SCHEMA = "src/poolwise/store/schema/0001_pre_first.sql"

PYPI = "pypi" + ".org"
HOME = "/" + "home/ann/poolwise"


@dataclass(frozen=True, slots=True)
class Plant:
    """A file that breaks a rule in each of `bad`, and keeps it in each of `good`."""

    path: str
    bad: tuple[str, ...]
    good: tuple[str, ...]


def constant(sql: str) -> str:
    """A module of store with one constant."""
    return f'SQL = """{sql}"""\n'


DOC = '"""Module."""\n'

PLANTS: dict[str, list[Plant]] = {
    "a function has at most 70 lines": [
        Plant(
            CORE,
            ("def f():\n" + "    x = 1\n" * 70, "class A:\n    async def f():\n" + "        x = 1\n" * 70),
            ("@decorated\ndef f():\n" + "    x = 1\n" * 69,),
        )
    ],
    "a file has at most 800 lines": [
        Plant("bench/quality.py", ("x = 1\n" * 801,), ("x = 1\n" * 800,)),
        Plant(SCHEMA, ("-- x\n" * 801,), ("-- x\n" * 800,)),
    ],
    "a module name says what is decided": [
        Plant("src/poolwise/core/utils.py", (DOC,), ()),
        Plant("src/poolwise/helpers/dates.py", (DOC,), ()),
        Plant("src/poolwise/flows/order_service.py", (DOC,), ()),
        Plant("tests/common.py", (DOC,), ()),
        Plant("src/poolwise/core/service_levels.py", (), (DOC,)),
    ],
    "every public name is documented": [
        Plant(
            CORE,
            (
                "x = 1",
                DOC + "def f():\n    return 1\n",
                DOC + "class A:\n    x = 1\n",
                DOC + 'class A:\n    """A."""\n    def f(self):\n        return 1\n',
                DOC + 'class A(Protocol):\n    """A."""\n    def f(self): ...\n',
                DOC + 'class A(StrEnum):\n    """A."""\n    def f(self): ...\n',
            ),
            (
                DOC + "def _f():\n    return 1\n",
                DOC + 'def f():\n    """F."""\n    def inner():\n        return 1\n',
                DOC + 'class A:\n    """A."""\n    def __init__(self): ...\n',
                DOC + 'class A(Books):\n    """A."""\n    def load(self): ...\n',
                DOC + "@overload\ndef f(): ...\n",
            ),
        )
    ],
    "no Any outside connect": [
        Plant(
            CORE,
            ("from typing import Any", "import typing\nx: typing.Any", "def f(x: dict[str, Any]): ...", "x: Any = 1"),
            ("x: object = 1", 'x = "Any"', "# Any"),
        ),
        Plant("src/poolwise/connect/shopify.py", (), ("from typing import Any",)),
    ],
    "an ignored type error has a reason": [
        Plant(
            CORE,
            ("x = 1  # type: ignore", "x = 1  # type: ignore[assignment]", "x = 1  # type: ignore[arg-type]  # sorry"),
            ("x = 1  # type: ignore[arg-type]  # the stub lacks the second form", 'x = "# type: ignore"'),
        )
    ],
    "core reads no clock, id, environment or chance": [
        Plant(
            CORE,
            (
                "x = datetime.now(UTC)",
                "x = datetime.datetime.utcnow()",
                "x = date.today()",
                "x = time.time()",
                "x = os.environ['A']",
                "x = uuid4()",
                "x = uuid.uuid7()",
                "import uuid",
                "from uuid import UUID, uuid4 as new",
                "x = random.random()",
                "x = secrets.token_hex()",
                "x = sorted(a, key=hash)[0], hash('a')",
                "f = open('a')",
                "print('a')",
            ),
            (
                "from uuid import UUID",
                "x = order.now",
                "x = now + timedelta(days=1)",
                "x = position.id",
                "x = clock.time_of(order)",
            ),
        )
    ],
    "core iterates over no set": [
        Plant(
            CORE,
            (
                "for x in {1, 2}: ...",
                "x = [y for y in set(z)]",
                "x = list(frozenset(z))",
                "for x in set(a) | set(b): ...",
                "x = tuple({y for y in z})",
            ),
            ("for x in sorted(set(z)): ...", "x = y in {1, 2}", "x = {y for y in z}", "x = len(set(z))"),
        )
    ],
    "no float for quantity or money": [
        Plant(LEDGER, ("x = 0.5", "x = float(y)", "x = y / 2", "def f(x: float): ..."), ("x = y // 2", "x = 'a/b'")),
        Plant("src/poolwise/core/sourcing/exact.py", ("x = 1e6",), ("x = 10**6",)),
        Plant("src/poolwise/core/sourcing/solver.py", (), ("x = 0.5",)),
    ],
    "no SQL outside store": [
        Plant(
            "src/poolwise/flows/intake.py",
            (
                "x = 'SELECT cell FROM node'",
                "x = 'select * from node where id = %s'",
                "x = '  INSERT INTO node (cell) VALUES (1)'",
                "x = 'UPDATE node SET name = %s'",
                "x = 'DELETE FROM node'",
                "x = 'WITH a AS (SELECT 1) SELECT * FROM a'",
                "x = 'CREATE TABLE a (b int)'",
                "x = 'create unique index a on b (c)'",
                "x = 'COPY node (cell) FROM STDIN'",
                "x = 'TRUNCATE node'",
                "x = f'SELECT a FROM {table}'",
                "x = 'SELECT pg_is_in_recovery()'",
                "x = '-- first\\nSELECT 1'",
                "x = 'LISTEN orders'",
            ),
            (
                '"""Select a pool from the list (see node)."""',
                "x = 'Select a pool from the list'",
                "x = 'Update the position, then set its version'",
                "x = 'with lines as ordered'",
                "x = 'delete'",
                "x = 'Create a table of nodes'",
                "x = 'listen to the change feed'",
                "x = 'copy items from the catalogue'",
                "x = 'drop the row'",
                "x = 'set aside for a demand'",
            ),
        )
    ],
    "SQL is a module-level constant": [
        Plant(
            STORE,
            (
                "x = f'SELECT a FROM {table}'",
                "x = 'SELECT a FROM b WHERE c = ' + d",
                "x = 'SELECT a FROM b WHERE c = %s' % d",
                "x = 'SELECT a FROM {}'.format(d)",
                "def f():\n    run('SELECT a FROM b WHERE c = 1')",
            ),
            (
                "X = 'SELECT a FROM b'",
                "X = ('SELECT a'\n' FROM b')",
                "def f():\n    run(SELECT_A)",
                "x = f'no {order}'",
            ),
        )
    ],
    "a constant holds one statement": [
        Plant(
            STORE,
            ("X = 'SELECT 1; SELECT 2'", "X = 'SET statement_timeout = 1; DELETE FROM b WHERE c = 1'"),
            ("X = 'SELECT 1;'", "X = \"SELECT a FROM b WHERE c = ';'\"", "X = 'SELECT 1 -- one; only'"),
        )
    ],
    "no SQL reads the clock": [
        Plant(
            SCHEMA,
            (
                "CREATE TABLE a (at timestamptz NOT NULL DEFAULT now());",
                "CREATE TABLE a (at date DEFAULT CURRENT_DATE);",
                "CREATE TABLE a (id uuid DEFAULT gen_random_uuid());",
                "CREATE TABLE a (id uuid DEFAULT uuidv7 ());",
                "ALTER TABLE a ALTER at SET DEFAULT 'now'::timestamptz;",
                "CREATE VIEW a AS SELECT clock_timestamp();",
            ),
            (
                "CREATE TABLE a (at timestamptz NOT NULL); -- never now()",
                "COMMENT ON TABLE a IS 'does not use now()';",
                "CREATE TABLE a (now timestamptz, random bigint);",
            ),
        ),
        Plant(
            STORE,
            (
                constant("UPDATE a SET at = now() WHERE b = 1"),
                constant("UPDATE a SET at = current_timestamp WHERE b = 1"),
                constant("UPDATE a SET at = localtime WHERE b = 1"),
                constant("UPDATE a SET at = localtimestamp(0) WHERE b = 1"),
                constant("UPDATE a SET at = statement_timestamp() WHERE b = 1"),
                constant("UPDATE a SET at = transaction_timestamp() WHERE b = 1"),
                constant("UPDATE a SET at = timeofday() WHERE b = 1"),
                constant("UPDATE a SET at = age(c) WHERE b = 1"),
                constant("SELECT a FROM b ORDER BY random()"),
                constant("SELECT a FROM b WHERE c < date 'today'"),
            ),
            (
                constant("UPDATE a SET at = %(now)s WHERE b = 1"),
                constant("SELECT a FROM b WHERE b.now < %(now)s"),
                constant("SELECT age(a, b) FROM b"),
            ),
        ),
    ],
    "SQL is portable to cells": [
        Plant(
            STORE,
            (
                constant("DELETE FROM a WHERE ctid = ANY(%s)"),
                constant("SELECT xmin FROM a"),
                constant("SELECT pg_current_snapshot()"),
                constant("MERGE INTO a USING b ON a.c = b.c WHEN MATCHED THEN DELETE"),
                constant("WITH gone AS (DELETE FROM a RETURNING b) SELECT b FROM gone"),
                constant("WITH new AS MATERIALIZED (INSERT INTO a (b) VALUES (1) RETURNING b) SELECT b FROM new"),
                constant("SELECT pg_advisory_xact_lock(1)"),
                constant("SELECT pg_try_advisory_lock(1)"),
                constant("NOTIFY orders"),
                constant("SELECT pg_notify('orders', '')"),
                constant("UPDATE a SET b = nextval('c') WHERE d = 1"),
                constant("INSERT INTO a (b) VALUES (1) ON CONFLICT (b) DO UPDATE SET c = random()"),
            ),
            (
                constant("WITH old AS (SELECT b FROM a) SELECT b FROM old"),
                constant("SELECT b FROM a WHERE c = 'ctid'"),
                constant("INSERT INTO a (b) VALUES (nextval('c'))"),
                constant("SELECT b FROM a FOR UPDATE SKIP LOCKED"),
            ),
        ),
        Plant(
            SCHEMA,
            (
                "CREATE TRIGGER a AFTER INSERT ON b EXECUTE FUNCTION c();",
                "CREATE TABLE a (b int); CREATE OR REPLACE TRIGGER a BEFORE UPDATE ON b EXECUTE FUNCTION c();",
                "CREATE CONSTRAINT TRIGGER a AFTER INSERT ON b EXECUTE FUNCTION c();",
                "CREATE RULE a AS ON INSERT TO b DO NOTHING;",
            ),
            ("-- CREATE TRIGGER would be wrong\nCREATE TABLE a (b int);", "CREATE POLICY a ON b USING (c);"),
        ),
    ],
    "cell comes first in hot keys": [
        Plant(
            SCHEMA,
            (
                "CREATE TABLE position (id bigint PRIMARY KEY, cell smallint);",
                "CREATE TABLE todo (cell smallint, id uuid, PRIMARY KEY (id, cell));",
                "CREATE TABLE IF NOT EXISTS poolwise.timer (cell smallint, id uuid);",
                "CREATE TABLE inbox (cell smallint, key text UNIQUE, PRIMARY KEY (cell, key));",
                "CREATE TABLE inbox (cell smallint, key text, PRIMARY KEY (cell, key), UNIQUE (key));",
                "CREATE TABLE outbox (id uuid, CONSTRAINT p PRIMARY KEY (id)) PARTITION BY RANGE (id);",
                "ALTER TABLE receipt ADD CONSTRAINT u UNIQUE (number);",
                "CREATE UNIQUE INDEX ON movement (position, version);",
                "CREATE UNIQUE INDEX a ON ONLY movement USING btree (position) WHERE cell = 0;",
                "CREATE TABLE order_line (cell int, o uuid REFERENCES customer_order, PRIMARY KEY (cell, o));",
                "CREATE TABLE booking (cell int, o uuid, PRIMARY KEY (cell, o), FOREIGN KEY (o) REFERENCES shipment);",
            ),
            (
                "CREATE TABLE position (cell smallint, id bigint CHECK (id > 0), PRIMARY KEY (cell, id));",
                "CREATE TABLE todo_log (id bigint PRIMARY KEY);",
                "CREATE TABLE movement_2026_01 PARTITION OF movement FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');",
                "CREATE TABLE order_line (cell int, o uuid, item bigint REFERENCES item, PRIMARY KEY (cell, o));",
                "ALTER TABLE order_line ADD FOREIGN KEY (cell, o) REFERENCES customer_order (cell, id);",
                "CREATE INDEX ON movement (position);",
                "CREATE UNIQUE INDEX ON node (name);",
                "ALTER TABLE receipt ADD COLUMN note text;",
            ),
        )
    ],
    "a statement on a hot table names cell": [
        Plant(
            STORE,
            (
                constant("SELECT a FROM position WHERE id = %s"),
                constant("SELECT cell, a FROM position"),
                constant("UPDATE position SET available = 0 WHERE id = %s"),
                constant("DELETE FROM todo WHERE id = ANY(%s)"),
                constant("SELECT a FROM node n, position p WHERE p.node = n.id"),
                constant("SELECT a FROM position p JOIN reservation r ON r.position = p.id WHERE p.cell = %s"),
                constant("INSERT INTO movement (position, quantity) VALUES (1, 2)"),
                constant("INSERT INTO movement SELECT 1"),
                constant("WITH a AS (SELECT 1) INSERT INTO movement (position) SELECT 1 FROM a"),
                constant("COPY outbox (id, event) FROM STDIN"),
                constant("INSERT INTO inbox (cell, key) VALUES (1, 2) ON CONFLICT (key) DO NOTHING"),
                constant("DELETE FROM a USING reservation r WHERE r.id = a.id"),
                constant("SELECT a FROM b WHERE c IN (SELECT d FROM timer WHERE due < %(now)s)"),
                constant("SELECT a FROM unnest(%s) AS u (id), position p WHERE p.id = u.id"),
            ),
            (
                constant("SELECT a FROM position WHERE cell = %(cell)s AND id = ANY(%(ids)s)"),
                constant("SELECT a FROM position p WHERE p.cell = any(%(cells)s)"),
                constant(
                    "UPDATE position p SET available = u.a FROM unnest(%s, %s) AS u (cell, id)"
                    " WHERE p.cell = u.cell AND p.id = u.id"
                ),
                constant("DELETE FROM todo WHERE (cell, id) IN (SELECT cell, id FROM todo WHERE cell = %(cell)s)"),
                constant("SELECT a FROM position JOIN reservation USING (cell, id) WHERE cell = %s"),
                constant("INSERT INTO movement (cell, position) VALUES (1, 2)"),
                constant("WITH a AS (SELECT 1) INSERT INTO movement AS m (cell, position) SELECT 1, 2 FROM a"),
                constant("COPY outbox (cell, id, event) FROM STDIN"),
                constant("SELECT name FROM node WHERE id = %s"),
                constant("SELECT a FROM node WHERE position IS DISTINCT FROM shipment"),
                constant(
                    "INSERT INTO customer_order (cell, a) VALUES (1, 2) ON CONFLICT (cell, a) DO UPDATE SET b = 1"
                ),
            ),
        ),
        Plant("src/poolwise/store/views.py", (), (constant("SELECT a FROM position WHERE id = %s"),)),
    ],
    "the product names no data set": [
        Plant(CORE, ("# as Brunel does", "x = 'scms.csv'", "SupplyGraph = 1"), ("x = 'plants'",)),
        Plant("bench/brunel.py", (), ("x = 'brunel'",)),
    ],
    "no file names a registry or a machine": [
        Plant(
            "docs/index.md",
            (f"from https://{PYPI}/simple", f"cd {HOME}", "cd /" + "work/main"),
            ("see docs/index.md", "the rework/ folder", "a home/office order"),
        ),
        Plant(
            "requirements.lock",
            ("--index-url https://example.com", "a @ file:///b", "--find-links wheels"),
            ("a==1.0 \\\n    --hash=sha256:00\n    # via b",),
        ),
    ],
}


@pytest.mark.parametrize("name", RULES)
def test_lint_fires_on_what_breaks_its_rule(name: str) -> None:
    silent = [bad for plant in PLANTS[name] for bad in plant.bad if not RULES[name].findings(Source(plant.path, bad))]

    assert silent == []


@pytest.mark.parametrize("name", RULES)
def test_lint_lets_pass_what_keeps_its_rule(name: str) -> None:
    false_alarms = [
        str(finding)
        for plant in PLANTS[name]
        for good in plant.good
        for finding in RULES[name].findings(Source(plant.path, good))
    ]

    assert false_alarms == []


def test_every_lint_has_a_plant() -> None:
    assert set(PLANTS) == set(RULES)
    assert all(any(plant.bad for plant in plants) for plants in PLANTS.values())


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("[here](other.md)", 0),
        ("[here](../README.md#the-two-commands)", 0),
        ("[here](#a-heading)\n# A heading", 0),
        ("[there](https://example.com/a)", 0),
        ("```\n[code](nothing.md)\n```", 0),
        ("`[code](nothing.md)`", 0),
        ("[folder](decisions)", 0),
        ("[here](nothing.md)", 1),
        ("![picture](nothing.svg)", 1),
        ("[here](../README.md#nothing)", 1),
        ("[here](../../outside.md)", 1),
        ("[here]: nothing.md", 1),
    ],
)
def test_dead_links_are_found(text: str, faults: int) -> None:
    files = {"docs/other.md": "", "README.md": "## The two commands", "docs/decisions": ""}

    found = dead_links(Source("docs/index.md", text), files.get)

    assert len(found) == faults


def test_dead_links_in_rst_are_found() -> None:
    found = dead_links(Source("docs/a.rst", "`here <b.rst>`_ and `there <c.rst>`_"), {"docs/b.rst": ""}.get)

    assert [str(finding) for finding in found] == ["docs/a.rst:1: link to c.rst: there is no such file"]


def test_a_statement_ends_only_at_its_own_semicolon() -> None:
    text = "SELECT ';' -- no;\n;\nDO $$ a; b; $$;\n/* ; */ SELECT 2"

    assert [(s.line, s.text.split()[0]) for s in statements(text)] == [(1, "SELECT"), (3, "DO"), (4, "SELECT")]


def test_tables_of_a_statement_are_found_through_lists_and_subqueries() -> None:
    sql = (
        "select a from only p.x as y, (select 1 from z) q, unnest(b) u, w join v using (c) where d in (select e from t)"
    )

    assert sorted(tables(sql)) == ["t", "v", "w", "x", "z"]


def test_sql_is_told_from_english() -> None:
    assert looks_like_sql("select id from node")
    assert not looks_like_sql("select a node from the list")


def test_a_finding_says_where() -> None:
    rule = RULES["no Any outside connect"]

    assert [str(finding) for finding in rule.findings(Source(CORE, "x = 1\ny: Any = 2"))] == [
        f"{CORE}:2: Any outside connect: say what it is, or object"
    ]


def test_ignored_files_are_not_read() -> None:
    assert not [path for path in tracked_paths(ROOT) if path.startswith((".venv/", ".mypy_cache/"))]
