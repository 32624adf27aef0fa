"""Migrations on a real server: order, all or nothing, many at once, changed files, roles, partitions; the splitter."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo, sql

from poolwise.store.embedded import EmbeddedServer
from poolwise.store.migrate import (
    Phase,
    SchemaRefused,
    ensure_partitions,
    ensure_roles,
    migrate,
    month_after,
    pending,
    read_schema,
    statements,
)
from poolwise.store.postgres import DatabaseUnavailable
from tests.conftest import Database

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    """A folder with three files: pre, post, pre."""
    write(tmp_path, "0001_pre_begin.sql", "CREATE TABLE first (word text); INSERT INTO first VALUES ('a;b');")
    write(tmp_path, "0002_post_tidy.sql", "ALTER TABLE first ADD COLUMN number integer;")
    write(tmp_path, "0003_pre_more.sql", "-- only a comment;\nCREATE TABLE second (id integer)")
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")


def rows(url: str, question: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(question.encode()).fetchall()


def test_files_are_applied_in_order_once_and_recorded_with_the_given_time(
    empty_database: Database, schema: Path
) -> None:
    heard: list[str] = []
    names = ["0001_pre_begin.sql", "0002_post_tidy.sql", "0003_pre_more.sql"]
    assert migrate(empty_database.owner_url, AT, folder=schema, progress=heard.append) == names == heard
    assert migrate(empty_database.owner_url, AT, folder=schema) == []
    recorded = rows(
        empty_database.owner_url, "SELECT name, applied_at, length(sha256) FROM schema_migration ORDER BY 1"
    )
    assert recorded == [(name, AT, 64) for name in names]
    assert rows(empty_database.owner_url, "SELECT word, number FROM first") == [("a;b", None)]


def test_phase_pre_stops_before_the_first_pending_post_file(empty_database: Database, schema: Path) -> None:
    assert migrate(empty_database.owner_url, AT, phase=Phase.PRE, folder=schema) == ["0001_pre_begin.sql"]
    assert migrate(empty_database.owner_url, AT, phase=Phase.PRE, folder=schema) == []
    assert len(migrate(empty_database.owner_url, AT, folder=schema)) == 2
    write(schema, "0004_pre_new.sql", "CREATE TABLE third (id integer)")
    assert migrate(empty_database.owner_url, AT, phase=Phase.PRE, folder=schema) == ["0004_pre_new.sql"]


def test_a_file_that_fails_changes_nothing_and_says_where(empty_database: Database, schema: Path) -> None:
    write(
        schema, "0003_pre_more.sql", "CREATE TABLE second (id integer); SELECT 1 / 0; CREATE TABLE third (id integer)"
    )
    with pytest.raises(psycopg.errors.DivisionByZero) as caught:
        migrate(empty_database.owner_url, AT, folder=schema)
    assert caught.value.__notes__ == ["in statement 2 of 0003_pre_more.sql"]
    assert rows(empty_database.owner_url, "SELECT to_regclass('second'), count(*) FROM schema_migration") == [(None, 2)]


def test_many_processes_migrating_at_once_apply_each_file_once(empty_database: Database, schema: Path) -> None:
    def run(_: int) -> list[str]:
        return migrate(empty_database.owner_url, AT, folder=schema)

    with ThreadPoolExecutor(6) as threads:
        applied = [name for names in threads.map(run, range(6)) for name in names]
    assert sorted(applied) == ["0001_pre_begin.sql", "0002_post_tidy.sql", "0003_pre_more.sql"]


def test_a_file_changed_after_it_was_applied_is_refused(empty_database: Database, schema: Path) -> None:
    migrate(empty_database.owner_url, AT, folder=schema)
    write(schema, "0001_pre_begin.sql", "CREATE TABLE other (word text)")
    with pytest.raises(SchemaRefused, match=r"0001_pre_begin\.sql was changed after it was applied"):
        migrate(empty_database.owner_url, AT, folder=schema)


def test_a_new_file_that_is_older_than_an_applied_one_is_refused(empty_database: Database, schema: Path) -> None:
    (schema / "0002_post_tidy.sql").rename(schema / "later")
    migrate(empty_database.owner_url, AT, folder=schema)
    (schema / "later").rename(schema / "0002_post_tidy.sql")
    with pytest.raises(SchemaRefused, match=r"0002_post_tidy\.sql is not applied, but the later 0003"):
        migrate(empty_database.owner_url, AT, folder=schema)


@pytest.mark.parametrize("name", ["1_pre_short.sql", "0004_during_x.sql", "0004_pre_Capital.sql", "0003_pre_twin.sql"])
def test_a_file_with_a_bad_name_or_a_number_used_twice_is_refused(schema: Path, name: str) -> None:
    write(schema, name, "SELECT 1")
    with pytest.raises(SchemaRefused, match=r"is named|same number"):
        read_schema(schema)


def test_the_application_sees_what_is_pending(empty_database: Database, schema: Path) -> None:
    files = read_schema(schema)
    with psycopg.connect(empty_database.url) as application:
        assert pending(application, files) == files
    migrate(empty_database.owner_url, AT, phase=Phase.PRE, folder=schema)
    with psycopg.connect(empty_database.url) as application:
        assert pending(application, files) == files[1:]


def test_the_application_may_not_migrate(empty_database: Database, schema: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="poolwise_app lacks a right") as refused:
        migrate(empty_database.url, AT, folder=schema)
    assert refused.value.sqlstate == "42501"


def test_the_schema_of_this_release_is_applied_completely(database: Database) -> None:
    with psycopg.connect(database.url) as application:
        assert pending(application, read_schema()) == []


@pytest.fixture
def bare_server(tmp_path: Path) -> object:
    """A server of its own whose roles may be dropped and changed."""
    server = EmbeddedServer(tmp_path / "data", durable=False)
    server.start()
    yield server
    server.stop()


def test_missing_roles_are_made_without_any_administrators_right(bare_server: EmbeddedServer) -> None:
    with psycopg.connect(bare_server.superuser_url(), autocommit=True) as administrator:
        administrator.execute("DROP ROLE poolwise_partner")
        administrator.execute("DROP ROLE poolwise_app")
        ensure_roles(administrator)
    question = (
        "SELECT rolname, rolcanlogin, rolsuper, rolbypassrls FROM pg_roles WHERE rolname LIKE 'poolwise%' ORDER BY 1"
    )
    made = rows(bare_server.superuser_url(), question)
    names = ("poolwise_app", "poolwise_owner", "poolwise_partner")
    assert made == [(name, True, False, False) for name in names]


def test_where_roles_may_not_be_made_the_sql_to_run_is_said(bare_server: EmbeddedServer, schema: Path) -> None:
    with psycopg.connect(bare_server.superuser_url(), autocommit=True) as administrator:
        administrator.execute("DROP ROLE poolwise_partner")
    with pytest.raises(DatabaseUnavailable, match="poolwise_partner does not exist") as refused:
        migrate(bare_server.owner_url(), AT, folder=schema)
    assert "CREATE ROLE poolwise_partner LOGIN PASSWORD" in refused.value.remedy


@pytest.mark.parametrize("right", ["SUPERUSER", "BYPASSRLS"])
def test_an_application_role_with_an_administrators_right_is_refused(bare_server: EmbeddedServer, right: str) -> None:
    with psycopg.connect(bare_server.superuser_url(), autocommit=True) as administrator:
        administrator.execute(f"ALTER ROLE poolwise_app {right}".encode())
        with pytest.raises(DatabaseUnavailable, match="has an administrator's rights"):
            ensure_roles(administrator)


PARTITIONED = """
CREATE TABLE entry (
    cell smallint NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, month date NOT NULL, quantity integer DEFAULT 7,
    CHECK (quantity > 0), PRIMARY KEY (cell, id, month)
) PARTITION BY RANGE (month);
CREATE INDEX ON entry (quantity);
CREATE TABLE other (month date NOT NULL) PARTITION BY RANGE (month);
CREATE TABLE listed (month date NOT NULL) PARTITION BY LIST (month);
CREATE TABLE by_day (day date NOT NULL) PARTITION BY RANGE (day);
GRANT SELECT, INSERT ON entry TO poolwise_app;
"""


@pytest.fixture
def partitioned(empty_database: Database, tmp_path: Path) -> Database:
    """A database with two tables by month and two that are partitioned otherwise."""
    write(tmp_path, "0001_pre_partitioned.sql", PARTITIONED)
    migrate(empty_database.owner_url, AT, folder=tmp_path)
    return empty_database


def test_partitions_are_made_for_tables_by_month_and_only_once(partitioned: Database) -> None:
    with psycopg.connect(partitioned.owner_url, autocommit=True) as owner:
        made = ensure_partitions(owner, date(2026, 12, 31), 1)
        assert made == ["entry_2026_12", "entry_2027_01", "other_2026_12", "other_2027_01"]
        assert ensure_partitions(owner, date(2026, 12, 1), 2) == ["entry_2027_02", "other_2027_02"]


def test_rows_go_to_the_partition_of_their_month_with_every_rule_of_the_table(partitioned: Database) -> None:
    with psycopg.connect(partitioned.owner_url, autocommit=True) as owner:
        ensure_partitions(owner, date(2026, 1, 15), 1)
    insert = "INSERT INTO entry (cell, month, quantity) VALUES (0, %s, %s)"
    with psycopg.connect(partitioned.url, autocommit=True) as application:
        application.execute("INSERT INTO entry (cell, month) VALUES (0, '2026-01-31')")
        application.execute(insert, (date(2026, 2, 28), 1))
        places = application.execute("SELECT tableoid::regclass::text, quantity FROM entry ORDER BY id").fetchall()
        assert places == [("entry_2026_01", 7), ("entry_2026_02", 1)]
        with pytest.raises(psycopg.errors.CheckViolation):
            application.execute(insert, (date(2026, 2, 1), 0))
        with pytest.raises(psycopg.errors.CheckViolation):
            application.execute(insert, (date(2026, 3, 1), 1))
    indexes = rows(partitioned.owner_url, "SELECT count(*) FROM pg_indexes WHERE tablename = 'entry_2026_01'")
    assert indexes == [(2,)]


def test_partitions_made_by_many_at_once_are_made_once(partitioned: Database) -> None:
    def run(_: int) -> list[str]:
        with psycopg.connect(partitioned.owner_url, autocommit=True) as owner:
            return ensure_partitions(owner, date(2026, 1, 1), 3)

    with ThreadPoolExecutor(5) as threads:
        made = [name for names in threads.map(run, range(5)) for name in names]
    assert len(made) == len(set(made)) == 8


def test_a_writer_is_not_held_up_by_a_new_partition(partitioned: Database) -> None:
    with psycopg.connect(partitioned.owner_url, autocommit=True) as owner:
        ensure_partitions(owner, date(2026, 1, 1), 0)
        with psycopg.connect(partitioned.url) as writer:
            writer.execute("INSERT INTO entry (cell, month) VALUES (0, '2026-01-02')")
            assert ensure_partitions(owner, date(2026, 2, 1), 0) == ["entry_2026_02", "other_2026_02"]


@pytest.mark.parametrize(
    ("month", "distance", "first"),
    [
        (date(2026, 1, 31), 0, date(2026, 1, 1)),
        (date(2026, 12, 5), 1, date(2027, 1, 1)),
        (date(2026, 11, 5), 26, date(2029, 1, 1)),
    ],
)
def test_months_are_counted_across_years(month: date, distance: int, first: date) -> None:
    assert month_after(month, distance) == first


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" ; ;; \n", []),
        ("-- nothing; here\n/* nor; here */", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1; SELECT 2 ;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'; SELECT 'it''s;'", ["SELECT ';'", "SELECT 'it''s;'"]),
        (r"SELECT E'\';'; SELECT 2", [r"SELECT E'\';'", "SELECT 2"]),
        (r"SELECT '\'; SELECT 2", [r"SELECT '\'", "SELECT 2"]),
        ('SELECT 1 AS "a;""b"; SELECT 2', ['SELECT 1 AS "a;""b"', "SELECT 2"]),
        ("DO $$ BEGIN; END $$; SELECT 2", ["DO $$ BEGIN; END $$", "SELECT 2"]),
        ("DO $a$ $b$; $$; $b$ $a$; SELECT 2", ["DO $a$ $b$; $$; $b$ $a$", "SELECT 2"]),
        ("SELECT a$b$c; SELECT 2", ["SELECT a$b$c", "SELECT 2"]),
        ("SELECT 1 -- one; it's\n; SELECT 2", ["SELECT 1 -- one; it's", "SELECT 2"]),
        ("/* a /* b; */ c; */ SELECT 1; SELECT 2", ["/* a /* b; */ c; */ SELECT 1", "SELECT 2"]),
        ("SELECT 1 - -1; SELECT 4 / 2", ["SELECT 1 - -1", "SELECT 4 / 2"]),
        ("SELECT '/*'; SELECT '*/'; SELECT '--'", ["SELECT '/*'", "SELECT '*/'", "SELECT '--'"]),
        ("SELECT 100 % 7; SELECT 'ä;ß'", ["SELECT 100 % 7", "SELECT 'ä;ß'"]),
    ],
)
def test_statements_are_split_where_postgresql_splits_them(text: str, expected: list[str]) -> None:
    assert statements(text) == expected


@pytest.mark.parametrize(
    "text",
    ["SELECT 'open", 'SELECT "open', "DO $$ open", "DO $a$ open $$", "/* open", "/* /* */", "BEGIN ATOMIC x; END"],
)
def test_what_does_not_end_is_refused(text: str) -> None:
    with pytest.raises(SchemaRefused, match="cannot be read to its end"):
        statements(f"SELECT 1;\n{text}")


def test_what_the_splitter_takes_apart_the_server_executes(empty_database: Database, tmp_path: Path) -> None:
    write(
        tmp_path,
        "0001_pre_all_quotes.sql",
        r"""
        CREATE TABLE "semi;colon" (word text /* ; */, CHECK (word <> ';')); -- ;
        CREATE FUNCTION twice(number integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $body$
        BEGIN RETURN $1 * 2; -- $$ ; '
        END $body$;
        INSERT INTO "semi;colon" VALUES ('a''b;'), (E'a\'b;'), ($$a'b;$$), ('100%s');
        """,
    )
    migrate(empty_database.owner_url, AT, folder=tmp_path)
    assert rows(empty_database.owner_url, 'SELECT word, twice(2) FROM "semi;colon"') == [
        *[("a'b;", 4)] * 3,
        ("100%s", 4),
    ]


def test_an_external_server_is_set_up_by_the_sql_of_the_guide(bare_server: EmbeddedServer, schema: Path) -> None:
    """The SQL in docs/how-to/database.md, run as it is by an administrator, is enough to migrate and to log in."""
    guide = Path(__file__).parents[2] / "docs" / "how-to" / "database.md"
    block = guide.read_text(encoding="utf-8").split("```sql\n")[1].split("```")[0]
    with psycopg.connect(bare_server.superuser_url(), autocommit=True) as administrator:
        administrator.execute("DROP DATABASE poolwise")
        for role in ("poolwise_owner", "poolwise_app", "poolwise_partner"):
            administrator.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
        for statement in statements(block):
            administrator.execute(statement.encode())
    urls = {
        role: conninfo.make_conninfo(bare_server.superuser_url("poolwise"), user=role, password=f"choose-{number}")
        for number, role in enumerate(("poolwise_owner", "poolwise_app", "poolwise_partner"), start=1)
    }
    assert len(migrate(urls["poolwise_owner"], AT, folder=schema)) == 3
    for role in ("poolwise_app", "poolwise_partner"):
        with psycopg.connect(urls[role]) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (role,)
