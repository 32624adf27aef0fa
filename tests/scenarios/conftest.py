"""A stage of its own for every story."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.scenarios.stage import Stage, staged


@pytest.fixture
def stage(database: Database, tmp_path: Path) -> Iterator[Stage]:
    """An empty stage."""
    with staged(database.url, tmp_path) as running:
        yield running
