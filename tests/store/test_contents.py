"""An export from PostgreSQL is the export from memory, byte by byte."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import psycopg

from poolwise.connect.directory.exporting import export_directory
from poolwise.connect.directory.importing import import_directory
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.contents import PostgresContents
from poolwise.store.editions import PostgresEditions
from poolwise.store.migrate import ensure_partitions
from tests.conftest import Database
from tests.connect.depot import FIVE_NODES, NOW, Depot, contents, target


def test_both_books_export_the_same(database: Database, tmp_path: Path):
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        ensure_partitions(owner, date(NOW.year, NOW.month, 1), 0)
    depot = Depot()
    depot.take(FIVE_NODES)
    depot.give(tmp_path / "memory")
    with postgres.connect(database.url, connections=2) as pool:
        books, editions = PostgresBooks(pool), PostgresEditions(pool)
        import_directory(FIVE_NODES, target(books, editions, seed=1, minutes=1))
        export_directory(tmp_path / "postgres", editions, PostgresContents(pool))
    assert contents(tmp_path / "postgres") == contents(tmp_path / "memory")
    assert "Ada Beispiel" in contents(tmp_path / "postgres")["orders.csv"]
