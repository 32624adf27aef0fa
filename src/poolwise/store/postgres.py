"""Reach a PostgreSQL server: the connection pool, the transaction, and one clear sentence with a remedy when it fails.

Every session runs in UTC (law 18) at READ COMMITTED and has a `statement_timeout`. What went wrong is decided on
SQLSTATE, never on the words of a message, which depend on the language of the server.
"""

from __future__ import annotations

import os
import re
import select
import selectors
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import Connection, conninfo, pq
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from poolwise.store.arrays import register

Pool = ConnectionPool[Connection[TupleRow]]

OLDEST_VERSION = 16
RECOMMENDED_VERSION = 18
CONNECT_TIMEOUT_S = 10
IDLE_IN_TRANSACTION_TIMEOUT_MS = 300_000
GUIDE = "docs/how-to/database.md"


class DatabaseUnavailable(Exception):
    """The database cannot be used: why, in one sentence; what to do about it; and the SQLSTATE where there is one."""

    def __init__(self, reason: str, remedy: str, sqlstate: str | None = None) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason
        self.remedy = remedy
        self.sqlstate = sqlstate


# SQLSTATE: the reason and the remedy. {server}, {user} and {database} are filled in, {message} is what the server said.
EXPLANATIONS = {
    "28P01": (
        "The server {server} refuses the password of the role {user}.",
        "Correct the password in the database URL, or set it as an administrator: ALTER ROLE {user} PASSWORD '...';",
    ),
    "28000": (
        "The server {server} does not let the role {user} log in to the database {database} from here ({message}).",
        f"Create the role, and allow it in the server's pg_hba.conf; the SQL is in {GUIDE}.",
    ),
    "3D000": (
        "The server {server} has no database {database}.",
        "Create it as an administrator: CREATE DATABASE {database} OWNER poolwise_owner;",
    ),
    "42501": (
        "The role {user} lacks a right in the database {database} ({message}).",
        f"Run the SQL of {GUIDE} as an administrator, then `poolwise db migrate`.",
    ),
    "42P01": (
        "The database {database} lacks a table ({message}).",
        "Bring it up to date: `poolwise db migrate`.",
    ),
    "53300": (
        "The server {server} has no free connection ({message}).",
        "Lower the number of processes or their connections, or raise max_connections of the server.",
    ),
    "53100": ("The disk of the server {server} is full.", "Free space on it; nothing that was acknowledged is lost."),
    "55P03": (
        "A table stayed in use by others too long ({message}).",
        "Try again at a quieter time, or end the long transaction that pg_stat_activity shows.",
    ),
    "57P03": ("The server {server} is starting or stopping ({message}).", "Wait a moment and try again."),
    "00000": (
        "The server {server} answers, but gave no connection in time ({message}).",
        "Try again; if it happens often, allow this process more connections.",
    ),
    "25006": (
        "The server {server} is a standby and accepts no writes.",
        "Point the database URL at the primary, or add target_session_attrs=read-write to it.",
    ),
}
REFUSED_OTHERWISE = (
    "The server {server} refuses the role {user} for the database {database} ({message}).",
    f"Check the database URL; {GUIDE} shows what the server needs.",
)
UNREACHABLE = (
    "No PostgreSQL answers at {server} ({message}).",
    "Check host and port in the database URL and that the server runs, or leave the URL empty to use the embedded one.",
)
UNREADABLE = (
    "The database URL cannot be read ({message}).",
    "Write it as postgresql://role:password@host:5432/database.",
)


def connect(
    url: str,
    *,
    connections: int = 10,
    statement_timeout_ms: int = 30_000,
    oldest_version: int = OLDEST_VERSION,
    application: str = "poolwise",
) -> Pool:
    """An open pool of at most `connections` autocommitting connections. Close it, or use it as a context manager.

    A connection about which there is doubt is tried before it is lent, so that a restart of the server costs nobody an
    error. Raises DatabaseUnavailable when the server cannot be reached, refuses, or is older than `oldest_version`.
    """
    assert connections > 0, "a pool holds at least one connection"
    parameters = session_parameters(url, statement_timeout_ms, application)
    try:
        with psycopg.connect(parameters) as connection:
            check_version(connection, oldest_version)
        pool: Pool = ConnectionPool(
            parameters,
            kwargs={"autocommit": True},
            min_size=1,
            max_size=connections,
            open=False,
            configure=register,
            check=_try,
            timeout=CONNECT_TIMEOUT_S,
            name=application,
        )
        pool.open(wait=True, timeout=CONNECT_TIMEOUT_S)
    except psycopg.Error as error:
        raise diagnose(error, url) from error
    return pool


def _try(connection: Connection[TupleRow]) -> None:
    """Try a connection that has something to read while nobody uses it: the server said farewell, or is gone.

    To try every one would cost a round trip each time. Raises psycopg.OperationalError when it is broken.
    """
    doubt = select.poll()
    doubt.register(connection.fileno(), select.POLLIN)
    if doubt.poll(0):
        ConnectionPool.check_connection(connection)


@contextmanager
def transaction(pool: Pool, first: str = "") -> Iterator[Connection[TupleRow]]:
    """One transaction on a connection of the pool: committed at the end of the block, rolled back when it raises.

    It begins with the statement `first`, in the same round trip. Raises DatabaseUnavailable when no connection comes
    free in time.
    """
    with _lent(pool) as connection:
        try:
            connection.execute(f"BEGIN; {first}")
            yield connection
            # A COMMIT after a failed statement would roll back, and nobody would hear of it.
            whole = connection.info.transaction_status is pq.TransactionStatus.INTRANS
            assert whole, "a statement failed, and who ran it went on"
        except BaseException:
            # Where the connection is broken, the error that is under way says more.
            with suppress(psycopg.Error):
                connection.rollback()
            raise
        connection.commit()


@contextmanager
def _lent(pool: Pool) -> Iterator[Connection[TupleRow]]:
    try:
        connection = pool.getconn()
    except PoolTimeout as error:
        raise diagnose(error, pool.conninfo if isinstance(pool.conninfo, str) else "") from error
    try:
        yield connection
    finally:
        pool.putconn(connection)


def session_parameters(url: str, statement_timeout_ms: int, application: str = "poolwise") -> str:
    """The URL as connection parameters, with what every session sets. Raises DatabaseUnavailable if unreadable."""
    assert statement_timeout_ms > 0, "statement_timeout is always set"
    options = (
        f"-c statement_timeout={statement_timeout_ms} -c TimeZone=UTC "
        f"-c default_transaction_isolation=read\\ committed "
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS}"
    )
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise diagnose(error, url) from error
    parameters: dict[str, str | int | None] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": application,
        "keepalives_idle": 30,
        **given,
        "options": f"{given.get('options') or ''} {options}".strip(),
    }
    return conninfo.make_conninfo("", **parameters)


def check_version(connection: Connection[TupleRow], oldest_version: int = OLDEST_VERSION) -> None:
    """Raise DatabaseUnavailable when the server's major version is below `oldest_version`."""
    major = connection.info.server_version // 10_000
    if major < oldest_version:
        raise DatabaseUnavailable(
            f"The server {_server(connection.info.host, connection.info.port)} is PostgreSQL {major}; "
            f"Poolwise needs {oldest_version} or newer.",
            f"Upgrade it ({RECOMMENDED_VERSION} is recommended), or leave the database URL empty (embedded server).",
        )


def diagnose(error: Exception, url: str = "") -> DatabaseUnavailable:
    """What an error of the driver means, in one sentence, with the remedy.

    A refused connection carries no SQLSTATE in libpq's interface. With `url` the connection is tried once more and the
    code is read from the server's own answer.
    """
    if isinstance(error, DatabaseUnavailable):
        return error
    sqlstate = error.sqlstate if isinstance(error, psycopg.Error) else None
    reached = sqlstate is not None
    try:
        given = conninfo.conninfo_to_dict(url)
        if not reached and url:
            reached, sqlstate = _refusal(url, int(given.get("connect_timeout") or CONNECT_TIMEOUT_S))
        reason, remedy = EXPLANATIONS.get(sqlstate or "", REFUSED_OTHERWISE if reached else UNREACHABLE)
    except psycopg.ProgrammingError:
        given = {}
        reason, remedy = UNREADABLE
    words = {
        "server": _server(str(given.get("host") or "localhost"), given.get("port") or 5432),
        "user": str(given.get("user") or "of the URL"),
        "database": str(given.get("dbname") or given.get("user") or "of the URL"),
        "message": _message(error),
    }
    return DatabaseUnavailable(reason.format_map(words), remedy.format_map(words), sqlstate)


def _server(host: str, port: object) -> str:
    return f"{host}:{port}"


def _message(error: Exception) -> str:
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    lines = [line.strip() for line in str(primary or error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


CODE_IN_TRACE = re.compile(rb'\tErrorResponse\t S "[^"]*" V "[^"]*" C "(\w{5})"')
ANSWER_IN_TRACE = re.compile(rb"\tB\t")


def _refusal(url: str, limit_s: int) -> tuple[bool, str | None]:
    """Whether a server answers a new attempt to connect, and the SQLSTATE with which it refuses.

    libpq keeps the code of a refused connection to itself, but writes it into its protocol trace. Where there is no
    trace (psycopg offers it on Linux only) the answer is known, the code is not. The code 00000 is success.
    """
    with tempfile.TemporaryFile() as trace:
        descriptor = os.dup(trace.fileno())
        attempt = pq.PGconn.connect_start(url.encode())
        connected = False
        try:
            if attempt.status != pq.ConnStatus.BAD:
                attempt.trace(descriptor)
                connected = _finish_connecting(attempt, limit_s)
                attempt.untrace()
        except psycopg.NotSupportedError:
            return pq.PGconn.ping(url.encode()) in {pq.Ping.OK, pq.Ping.REJECT}, None
        finally:
            attempt.finish()
            os.close(descriptor)
        trace.seek(0)
        written = trace.read()
    if connected:
        return True, "00000"
    codes = CODE_IN_TRACE.findall(written)
    return bool(ANSWER_IN_TRACE.search(written)), codes[-1].decode() if codes else None


def _finish_connecting(attempt: pq.abc.PGconn, limit_s: int) -> bool:
    """Drive a connection that has begun to its end: whether it succeeded."""
    deadline = time.monotonic() + limit_s
    while (left := deadline - time.monotonic()) > 0:
        state = attempt.connect_poll()
        if state not in {pq.PollingStatus.READING, pq.PollingStatus.WRITING}:
            return state == pq.PollingStatus.OK
        with selectors.DefaultSelector() as selector:
            reading = state == pq.PollingStatus.READING
            selector.register(attempt.socket, selectors.EVENT_READ if reading else selectors.EVENT_WRITE)
            selector.select(left)
    return False
