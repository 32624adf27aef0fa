"""What a test may ask for: a running PostgreSQL, one for each worker of a run, and a fresh database of its own."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql

from poolwise.store.embedded import EmbeddedServer
from poolwise.store.migrate import ensure_partitions, migrate

TEMPLATE = "poolwise_template"
MIGRATED_AT = datetime(2026, 1, 1, tzinfo=UTC)
FIRST_MONTH = date(2026, 1, 1)
MONTHS_AHEAD = 2

MEMORY = Path("/dev/shm")
ROOM_BYTES = 2_000_000_000

numbers = itertools.count(1)

# A time is never asserted in a test.
settings.register_profile("poolwise", deadline=None)
settings.load_profile("poolwise")

# All that is under test speaks plain HTTP: to read the certificates of every authority takes a client 50 ms.
os.environ.update(SSL_CERT_FILE="", SSL_CERT_DIR=os.devnull)

gc.set_threshold(100_000, 20, 100)


@dataclass(frozen=True, slots=True)
class Database:
    """A database of one test, by its URLs: of the application, the owner, the partner and the administrator."""

    name: str
    url: str
    owner_url: str
    partner_url: str
    superuser_url: str


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A running embedded server for the whole run of a worker. It may lose data in a power cut, in nothing else."""
    with data_folder(tmp_path_factory) as folder:
        embedded = EmbeddedServer(folder, durable=False)
        embedded.start()
        yield embedded
        embedded.stop()


@contextmanager
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """In memory where there is room: a database is several hundred files, and copying them is most of its cost."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
        with tempfile.TemporaryDirectory(prefix="poolwise-tests-", dir=MEMORY) as folder:
            yield Path(folder) / "server"
    else:
        yield tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def template(server: EmbeddedServer) -> str:
    """The name of a migrated database with partitions from January to March 2026, to be copied."""
    create_database(server, TEMPLATE, "template0")
    migrate(server.owner_url(TEMPLATE), MIGRATED_AT)
    with psycopg.connect(server.owner_url(TEMPLATE), autocommit=True) as owner:
        ensure_partitions(owner, FIRST_MONTH, MONTHS_AHEAD)
    return TEMPLATE


@pytest.fixture
def database(server: EmbeddedServer, template: str) -> Iterator[Database]:
    """A fresh database with the current schema."""
    yield from copied_database(server, template)


@pytest.fixture
def empty_database(server: EmbeddedServer) -> Iterator[Database]:
    """A fresh database without any schema."""
    yield from copied_database(server, "template0")


def copied_database(server: EmbeddedServer, template: str) -> Iterator[Database]:
    """A copy of a database under a new name, dropped afterwards even if somebody is still connected."""
    name = f"test_{next(numbers)}"
    create_database(server, name, template)
    yield Database(
        name,
        server.application_url(name),
        server.owner_url(name),
        server.partner_url(name),
        server.superuser_url(name),
    )
    with psycopg.connect(server.superuser_url(), autocommit=True) as administrator:
        administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def create_database(server: EmbeddedServer, name: str, template: str) -> None:
    """Copy a database file by file: with fsync off that is the fastest way."""
    statement = sql.SQL("CREATE DATABASE {} OWNER poolwise_owner TEMPLATE {} STRATEGY FILE_COPY")
    with psycopg.connect(server.superuser_url(), autocommit=True) as administrator:
        administrator.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
