"""Whoever is short of room only returns to the queue when a day comes into the horizon, once for each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from poolwise.flows import waking
from poolwise.flows.ports import Queue
from poolwise.flows.source import tomorrow
from tests.flows.market import START, Market

MIDNIGHT = datetime(2026, 1, 13, tzinfo=UTC)


def test_orders_that_are_short_of_room_take_that_of_a_new_day(full_market: Market) -> None:
    market = full_market
    market.count("BOLT", "A", 9)
    orders = [market.order(str(number), ("BOLT", 1)) for number in range(4)]
    market.work()
    assert [market.state(order) for order in orders] == ["sourced"] * 2 + ["backordered"] * 2
    market.now = MIDNIGHT - timedelta(seconds=1)
    assert (market.expire(), market.waiting()) == (0, [])
    market.now = MIDNIGHT
    assert (market.expire(), market.waiting()) == (1, ["2", "3"])
    market.work()
    assert [market.state(order) for order in orders[2:]] == ["sourced", "backordered"]
    assert (market.expire(), market.waiting(), market.record(orders[3]).attempt) == (0, [], 2)
    market.now = MIDNIGHT + timedelta(days=1)
    market.expire()
    market.work()
    assert market.state(orders[3]) == "sourced"


def test_a_new_day_wakes_the_whole_line_once_however_many_left_a_timer(
    full_market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waking, "MOST_WOKEN", 2)
    market = full_market
    market.count("BOLT", "A", 99)
    orders = []
    for number in range(9):
        orders.append(market.order(str(number), ("BOLT", 1)))
        market.work()
    market.now = MIDNIGHT
    assert (market.expire(), market.waiting()) == (7, ["2", "3"])
    market.work()
    assert [market.record(order).attempt for order in orders] == [1, 1] + [2] * 7
    assert (market.expire(), len(market.waiting(Queue.STOCK))) == (0, 6)


def test_what_lacks_stock_does_not_wait_for_a_day(full_market: Market) -> None:
    market = full_market
    order = market.order("1", ("BOLT", 1))
    market.work()
    market.now = MIDNIGHT
    assert (market.expire(), market.state(order)) == (0, "backordered")


def test_a_day_begins_in_the_time_zone_of_the_node() -> None:
    assert tomorrow(START, "UTC") == MIDNIGHT
    assert tomorrow(START, "America/New_York") == MIDNIGHT + timedelta(hours=5)
    assert tomorrow(START, "Pacific/Auckland") == MIDNIGHT - timedelta(hours=13)
    assert tomorrow(MIDNIGHT, "UTC") == MIDNIGHT + timedelta(days=1)
    # In Beirut the clock of this night goes from 0 to 1.
    assert tomorrow(datetime(2026, 3, 28, 12, tzinfo=UTC), "Asia/Beirut") == datetime(2026, 3, 28, 22, tzinfo=UTC)
