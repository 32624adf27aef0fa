"""An open shop for every module of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from poolwise.store.embedded import EmbeddedServer
from tests.conftest import copied_database
from tests.web.shop import Shop, opened


@pytest.fixture(scope="module")
def shop(server: EmbeddedServer, template: str) -> Iterator[Shop]:
    """A running server on a database of its own."""
    for database in copied_database(server, template):
        with opened(database.url) as running:
            yield running
