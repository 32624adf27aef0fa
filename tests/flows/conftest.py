"""A market on each kind of books."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.flows.market import Market, in_memory, on_postgres


@pytest.fixture(params=["memory", "postgres"])
def market(request: pytest.FixtureRequest) -> Iterator[Market]:
    """A market in which the laws hold at the end of every story."""
    if request.param == "memory":
        found = in_memory()
        yield found
        assert found.findings() == []
        return
    with on_postgres(request.getfixturevalue("database")) as found:
        yield found
        assert found.findings() == []


@pytest.fixture(params=["memory", "postgres"])
def full_market(request: pytest.FixtureRequest) -> Iterator[Market]:
    """A market whose nodes send one order a day, today or tomorrow."""
    if request.param == "memory":
        found = in_memory(daily_orders=1, horizon_days=1)
        yield found
        assert found.findings() == []
        return
    with on_postgres(request.getfixturevalue("database"), daily_orders=1, horizon_days=1) as found:
        yield found
        assert found.findings() == []


FULL = os.environ.get("POOLWISE_CAMPAIGN") == "full"
TOLD_IN_MEMORY = frozenset(
    f"test_{name}.py" for name in ("collect", "offers", "picks", "purchasing", "regroup", "returns")
)
"""Stories that make test tells in memory only, as its ten minutes allow: there the simulator lives them on both books.
In soak they are told on both."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out on PostgreSQL what is told in memory; in soak these stories belong to the campaigns."""
    late = [item for item in items if item.path.name in TOLD_IN_MEMORY and "postgres" in item.name]
    for item in late:
        item.add_marker(pytest.mark.campaign)
    if not FULL:
        config.hook.pytest_deselected(items=late)
        items[:] = [item for item in items if item not in late]
