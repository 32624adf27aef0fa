"""Where benchmarks run: an embedded server with fsync in its own folder, databases, worker processes, CPU time.

Workers are the real ones: processes that run `poolwise.run.processes.work` on a database URL, stopped by signal.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from itertools import count
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from poolwise.run.processes import work
from poolwise.run.settings import Settings
from poolwise.store.embedded import OWNER, EmbeddedServer
from poolwise.store.migrate import ensure_partitions, migrate

MONTHS_AHEAD: Final = 2
PATIENCE_S: Final = 60
PROCESSES: Final = Path("/proc")

WAITING: Final = "SELECT count(*) FROM todo WHERE queue = 'at_once'"
ANY_WAITS: Final = "SELECT 1 FROM todo WHERE queue = 'at_once' ORDER BY cell, queue, rank, since, order_id LIMIT 1"
BLOCKED: Final = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
HOLD: Final = "LOCK TABLE todo IN ACCESS EXCLUSIVE MODE"

numbers = count(1)
beside = multiprocessing.get_context("forkserver")
"""Where processes come from that are not measured themselves: forks of one that has imported everything."""


@contextmanager
def running_server() -> Iterator[EmbeddedServer]:
    """A new embedded server, stopped and removed at the end."""
    beside.set_forkserver_preload(["poolwise.run.processes", "poolwise.run.directories"])
    with tempfile.TemporaryDirectory(prefix="poolwise-bench-") as folder:
        server = EmbeddedServer(Path(folder) / "server")
        server.start()
        try:
            yield server
        finally:
            server.stop()


def new_database(server: EmbeddedServer, now: datetime) -> str:
    """A migrated database; its name."""
    name = f"bench_{next(numbers)}"
    with psycopg.connect(server.superuser_url(), autocommit=True) as administrator:
        owned = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(OWNER))
        administrator.execute(owned)
    migrate(server.owner_url(name), now)
    with psycopg.connect(server.owner_url(name), autocommit=True) as owner:
        ensure_partitions(owner, date(now.year, now.month, 1), MONTHS_AHEAD)
    return name


def drop_database(server: EmbeddedServer, name: str) -> None:
    """Remove a database."""
    with psycopg.connect(server.superuser_url(), autocommit=True) as administrator:
        administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def settle(server: EmbeddedServer, name: str) -> None:
    """What autovacuum does in its own time: statistics. And a checkpoint, so that none falls into a measurement."""
    with psycopg.connect(server.superuser_url(name), autocommit=True) as administrator:
        administrator.execute("VACUUM ANALYZE")
        administrator.execute("CHECKPOINT")


def settings_for(server: EmbeddedServer, name: str, **values: object) -> Settings:
    """Settings of a process that works on a database of the server as on any other by URL."""
    url = server.application_url(name)
    return Settings(database_url=url, connections=4, log_level="warning", **values)  # type: ignore[arg-type]  # by name


@dataclass(frozen=True, slots=True)
class CpuSeconds:
    """CPU seconds used so far: by processes of ours, and by all of PostgreSQL."""

    ours: float
    postgres: float


class Crew:
    """Worker processes, one for each of the settings given."""

    def __init__(self, server: EmbeddedServer, name: str, everyone: Sequence[Settings]) -> None:
        """Starts them. They wait at the queue, which is held, until `released`."""
        self._server, self._name = server, name
        self._hold = psycopg.connect(server.owner_url(name))
        self._hold.execute(HOLD)
        context = multiprocessing.get_context("spawn")
        self.processes: list[SpawnProcess] = [context.Process(target=work, args=(each,)) for each in everyone]
        for process in self.processes:
            process.start()

    def release(self) -> None:
        """Let go of the queue once every worker stands at it."""
        deadline = time.monotonic() + PATIENCE_S
        with psycopg.connect(self._server.superuser_url(), autocommit=True) as administrator:
            while self._blocked(administrator) < len(self.processes):
                assert all(process.is_alive() for process in self.processes), "a worker died before it began"
                assert time.monotonic() < deadline, "the workers do not come to the queue"
                time.sleep(0.02)
        self._hold.rollback()
        self._hold.close()

    def _blocked(self, administrator: psycopg.Connection[tuple[int, ...]]) -> int:
        row = administrator.execute(BLOCKED, (self._name,)).fetchone()
        assert row is not None
        return row[0]

    def stop(self) -> None:
        """End them gracefully. Raises AssertionError when one had failed."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join(PATIENCE_S)
            assert process.exitcode == 0, f"a worker ended with {process.exitcode}"

    def cpu(self) -> CpuSeconds | None:
        """CPU used so far; None where the system does not tell (it is read from /proc)."""
        if not PROCESSES.is_dir():
            return None
        postmaster = self._server.status().process
        assert postmaster is not None
        ours = sum(cpu_seconds(process.pid) for process in self.processes if process.pid is not None)
        children = [each for each, parent in _parents().items() if parent == postmaster]
        return CpuSeconds(ours, sum(map(cpu_seconds, (postmaster, *children))))


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold anything."""
    try:
        return (PROCESSES / str(process) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_seconds(process: int) -> float:
    """User and system time of a process, and of those of its children that have ended."""
    fields = _stat(process)
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _parents() -> dict[int, int]:
    found = {}
    for entry in PROCESSES.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            found[int(entry.name)] = int(fields[1])
    return found


def waiting(connection: psycopg.Connection[tuple[int, ...]]) -> int:
    """How many orders wait to be sourced at once."""
    row = connection.execute(WAITING).fetchone()
    assert row is not None
    return row[0]


def any_waits(connection: psycopg.Connection[tuple[int, ...]]) -> bool:
    """Whether an order waits to be sourced at once: to count them while others work costs these what they share."""
    return connection.execute(ANY_WAITS).fetchone() is not None
