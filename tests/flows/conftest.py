"""A market on each kind of books."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from poolwise.flows.ports import EVENT_TYPES
from tests.flows.market import Market, in_memory, on_postgres


@pytest.fixture(params=["memory", "postgres"])
def market(request: pytest.FixtureRequest) -> Iterator[Market]:
    """A market in which the laws hold at the end of every story."""
    if request.param == "memory":
        found = in_memory()
        yield found
        assert found.findings() == []
        assert {event.type for _, event in found.books.shelves.outbox} <= set(EVENT_TYPES)
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
        assert {event.type for _, event in found.books.shelves.outbox} <= set(EVENT_TYPES)
        return
    with on_postgres(request.getfixturevalue("database"), daily_orders=1, horizon_days=1) as found:
        yield found
        assert found.findings() == []
