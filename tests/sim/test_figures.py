"""Figures of a run are added up from the change feed, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from poolwise.core.ledger import PositionKey
from poolwise.core.values import Json
from poolwise.flows.ports import Event
from poolwise.flows.views import Numbered
from poolwise.sim.figures import FeedReader

AT = datetime(2026, 11, 23, 9, tzinfo=UTC)
ORDER = str(UUID(int=1))
SPLIT, WHOLE = ["LYO-DC", "MIL-DC"], ["LYO-DC"]


def reader(cost_of_waiting: int = 0) -> FeedReader:
    def whereabouts(ids: Sequence[int]) -> Mapping[int, PositionKey]:
        return {id_: PositionKey("MUG", "LYO-DC", "web") for id_ in ids}

    return FeedReader(whereabouts, lambda _order, _attempt: cost_of_waiting, {})


def accepted(number: int, lines: int = 2) -> Numbered:
    return Numbered(0, number, AT, Event("order.accepted", ORDER, {"order": "SO-1", "lines": lines}))


def sourced(number: int, nodes: list[str], waiting: int = 0, attempt: int = 1) -> Numbered:
    short: list[Json] = [[no, 1, "inventory"] for no in range(1, waiting + 1)]
    data: dict[str, Json] = {
        "order": "SO-1", "attempt": attempt, "shipments": len(nodes), "nodes": list(nodes), "waiting": short,
        "cost": 9_000_000, "co2e_mg": 700_000, "moved": [["77", "available", "reserved", 2]],
    }  # fmt: skip
    return Numbered(0, number, AT + timedelta(seconds=number), Event("order.sourced", ORDER, data))


def test_an_order_in_two_parcels_is_a_split_order() -> None:
    feed = reader()
    feed.take([accepted(1), sourced(2, SPLIT)])
    figures = feed.figures
    assert (figures.orders, figures.lines, figures.lines_filled, figures.split) == (1, 2, 2, 1)
    assert figures.parcels == {"LYO-DC": 1, "MIL-DC": 1}
    assert figures.picks == {"web": 1}


def test_what_waits_is_no_cost_that_anybody_pays() -> None:
    feed = reader(cost_of_waiting=5_000_000)
    feed.take([accepted(1), sourced(2, WHOLE, waiting=1)])
    assert (feed.figures.cost, feed.figures.lines_filled, feed.figures.waiting) == (4_000_000, 1, 1)


def test_a_later_attempt_that_serves_the_rest_counts_the_order_once() -> None:
    feed = reader()
    feed.take([accepted(1), sourced(2, WHOLE, waiting=1), sourced(3, WHOLE, attempt=2)])
    figures = feed.figures
    assert (figures.orders, figures.lines_filled, figures.waiting, figures.split) == (1, 2, 0, 1)
    assert figures.cost == 18_000_000


def test_it_resumes_where_it_has_come_to() -> None:
    feed = reader()
    feed.take([accepted(1)])
    feed.take([sourced(2, WHOLE)])
    assert feed.place == {0: 2}
    assert feed.figures.seconds == 2


def test_an_order_that_a_wave_moves_counts_as_it_is_planned_last() -> None:
    feed = reader()
    back: dict[str, Json] = {"order": "SO-1", "moved": [["77", "reserved", "available", 2]]}
    moved = Numbered(0, 3, AT, Event("order.moved", ORDER, back))
    feed.take([accepted(1), sourced(2, SPLIT), moved, sourced(4, WHOLE, attempt=2)])
    figures = feed.figures
    assert (figures.orders, figures.split, figures.cost, figures.co2e_mg) == (1, 0, 9_000_000, 700_000)
    assert figures.parcels == {"LYO-DC": 1, "MIL-DC": 0}
    assert figures.picks == {"web": 1}
