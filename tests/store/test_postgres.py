"""Reaching a server: how a session is set, what a transaction keeps, and one clear sentence for each way to fail."""

from __future__ import annotations

import socket
from contextlib import suppress

import psycopg
import pytest
from psycopg import conninfo, sql

from poolwise.store.arrays import Prepared, packed
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.postgres import DatabaseUnavailable, connect, diagnose, transaction
from tests.conftest import Database


def changed(url: str, **parameters: str | int) -> str:
    return conninfo.make_conninfo(url, **parameters)


def refused(url: str, oldest_version: int = 16) -> DatabaseUnavailable:
    """How the pool refuses a URL."""
    with pytest.raises(DatabaseUnavailable) as caught:
        connect(url, oldest_version=oldest_version)
    return caught.value


def test_every_session_runs_in_utc_read_committed_with_a_timeout(database: Database) -> None:
    with connect(database.url, statement_timeout_ms=1234) as pool, pool.connection() as connection:
        settings = ("TimeZone", "statement_timeout", "transaction_isolation", "application_name")
        shown = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in settings]
    assert shown == [("UTC",), ("1234ms",), ("read committed",), ("poolwise",)]


def test_settings_in_the_url_are_kept_beside_ours(database: Database) -> None:
    url = changed(database.url, application_name="mine", options="-c work_mem=5MB")
    with connect(url) as pool, pool.connection() as connection:
        shown = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in ("application_name", "work_mem")]
        zone = connection.execute("SHOW TimeZone").fetchone()
    assert (shown, zone) == ([("mine",), ("5MB",)], ("UTC",))


def test_a_statement_that_takes_too_long_is_cancelled(database: Database) -> None:
    with (
        connect(database.url, statement_timeout_ms=50) as pool,
        pytest.raises(psycopg.errors.QueryCanceled),
        transaction(pool) as connection,
    ):
        connection.execute("SELECT pg_sleep(30)")


def test_a_transaction_keeps_all_or_nothing(empty_database: Database) -> None:
    with connect(empty_database.owner_url) as pool:
        with transaction(pool) as connection:
            connection.execute("CREATE TABLE kept (number integer)")
            connection.execute("INSERT INTO kept VALUES (1)")
        with suppress(ZeroDivisionError), transaction(pool) as connection:
            connection.execute("INSERT INTO kept VALUES (2)")
            raise ZeroDivisionError
        with pool.connection() as connection:
            assert connection.execute("SELECT number FROM kept").fetchall() == [(1,)]


def test_a_failed_statement_that_nobody_minds_is_not_taken_for_a_commit(database: Database) -> None:
    with connect(database.url) as pool:
        said = pytest.raises(AssertionError, match="a statement failed")
        with said, transaction(pool) as connection, suppress(psycopg.Error):
            connection.execute("SELECT 1 / 0")
        with transaction(pool) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,), "the pool goes on"


def test_what_was_prepared_is_prepared_again_after_the_server_forgot_it(database: Database) -> None:
    """As on every rollback, when the driver lets it forget all statements."""
    twice = Prepared("SELECT unnest(%(numbers)b) * 2", {"numbers": "int4"})
    with connect(database.url) as pool:
        for _ in range(3):
            with pool.connection() as connection:
                assert [int.from_bytes(row[0]) for row in twice.rows(connection, packed("int4", [1, 2]))] == [2, 4]
            with suppress(ZeroDivisionError), transaction(pool) as connection:
                for _ in range(9):  # until the driver prepares it
                    connection.execute("SELECT 1")
                raise ZeroDivisionError


def test_a_pool_outlives_a_restart_of_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = EmbeddedServer(tmp_path_factory.mktemp("restart"), durable=False)
    server.start()
    try:
        with connect(server.application_url()) as pool:
            server.stop()
            server.start()
            with transaction(pool) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.stop()


def test_a_pool_whose_connections_are_all_taken_says_so(database: Database) -> None:
    with connect(database.url, connections=1) as pool:
        pool.timeout = 0.1
        one, other = transaction(pool), transaction(pool)
        with one, pytest.raises(DatabaseUnavailable, match="gave no connection in time"):
            other.__enter__()


def test_nothing_listening_is_said(database: Database) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        refusal = refused(f"postgresql://poolwise_app:secret@127.0.0.1:{port}/poolwise")
    assert f"No PostgreSQL answers at 127.0.0.1:{port}" in refusal.reason
    assert "Check host and port" in refusal.remedy


def test_an_unknown_host_is_said() -> None:
    refusal = refused("postgresql://poolwise_app:secret@no-such-host.invalid/poolwise")
    assert "No PostgreSQL answers at no-such-host.invalid:5432" in refusal.reason


def test_something_that_is_not_postgresql_is_said() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        refusal = refused(f"postgresql://poolwise_app:secret@127.0.0.1:{port}/poolwise?connect_timeout=2")
    assert f"No PostgreSQL answers at 127.0.0.1:{port}" in refusal.reason


def test_a_url_that_cannot_be_read_is_said() -> None:
    assert "cannot be read" in refused("localhost, please").reason


def test_a_wrong_password_is_said_and_not_shown(database: Database) -> None:
    refusal = refused(changed(database.url, password="not-the-password"))
    assert (refusal.sqlstate, "refuses the password of the role poolwise_app" in refusal.reason) == ("28P01", True)
    assert "ALTER ROLE poolwise_app PASSWORD" in refusal.remedy
    assert "not-the-password" not in str(refusal)


def test_a_missing_database_is_said(database: Database) -> None:
    refusal = refused(changed(database.url, dbname="absent"))
    assert (refusal.sqlstate, refusal.reason.endswith("has no database absent.")) == ("3D000", True)
    assert "CREATE DATABASE absent OWNER poolwise_owner" in refusal.remedy


def test_a_server_that_is_too_old_is_said(database: Database) -> None:
    refusal = refused(database.url, oldest_version=99)
    assert "is PostgreSQL 18; Poolwise needs 99 or newer" in refusal.reason
    assert "18 is recommended" in refusal.remedy


def test_a_missing_right_to_connect_is_said(database: Database) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as administrator:
        name = sql.Identifier(database.name)
        administrator.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(name))
    refusal = refused(database.url)
    assert (refusal.sqlstate, "poolwise_app lacks a right" in refusal.reason) == ("42501", True)


def test_a_missing_right_on_a_table_is_said(empty_database: Database) -> None:
    with psycopg.connect(empty_database.owner_url) as owner:
        owner.execute("CREATE TABLE hidden (number integer)")
    with connect(empty_database.url) as pool, pytest.raises(psycopg.Error) as caught, transaction(pool) as connection:
        connection.execute("SELECT number FROM hidden")
    refusal = diagnose(caught.value, empty_database.url)
    assert refusal.reason == (
        f"The role poolwise_app lacks a right in the database {empty_database.name} "
        "(permission denied for table hidden)."
    )


def test_a_role_that_may_not_log_in_is_said(database: Database, server: EmbeddedServer) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as administrator:
        administrator.execute("CREATE ROLE visitor NOLOGIN PASSWORD 'visitor'")
    try:
        refusal = refused(changed(database.url, user="visitor", password="visitor"))
    finally:
        with psycopg.connect(database.superuser_url, autocommit=True) as administrator:
            administrator.execute("DROP ROLE visitor")
    assert (refusal.sqlstate, "does not let the role visitor log in" in refusal.reason) == ("28000", True)


def test_a_full_server_is_said(database: Database) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as administrator:
        administrator.execute("ALTER ROLE poolwise_app CONNECTION LIMIT 0")
        try:
            refusal = refused(database.url)
        finally:
            administrator.execute("ALTER ROLE poolwise_app CONNECTION LIMIT -1")
    assert (refusal.sqlstate, "has no free connection" in refusal.reason) == ("53300", True)


def test_a_message_in_another_language_is_understood_all_the_same(database: Database) -> None:
    """The decision is made on the SQLSTATE: an error whose words say nothing gives the same sentence."""
    error = psycopg.errors.InsufficientPrivilege("keine Berechtigung")
    assert "lacks a right" in diagnose(error, database.url).reason


def test_a_database_with_braces_in_its_name_is_named_as_it_is(database: Database) -> None:
    assert "has no database {0}{user}." in refused(changed(database.url, dbname="{0}{user}")).reason
