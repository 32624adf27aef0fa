"""Books of each kind, for the suites of their contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Database
from tests.store.contract import Kept
from tests.store.kept import KeptInMemory, KeptInPostgres


@pytest.fixture(params=["memory", "postgres"])
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    """Empty books of each kind."""
    if request.param == "memory":
        yield KeptInMemory()
        return
    database: Database = request.getfixturevalue("database")
    with KeptInPostgres(database) as books:
        yield books


@pytest.fixture
def books(kept: Kept) -> object:
    return kept.books
