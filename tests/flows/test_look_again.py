"""Whoever waits looks again once other rules are in force, and when a day comes that may bring what is lacking."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from poolwise.core.edition.rows import CapacityRow, NodeRow, PoolRow, Row, Section
from poolwise.core.network import Calendar, CapacityUnit, Lane, Node, NodeStatus, Pool, Slot
from poolwise.core.values import Rate, replace
from poolwise.flows.ports import Queue
from poolwise.flows.source import source_batch, tomorrow
from tests.flows.market import START, Market

MIDNIGHT = datetime(2026, 1, 13, tzinfo=UTC)
ROOM = (Section.CAPACITIES, CapacityRow("A", 0, Slot(CapacityUnit.ORDERS, 2)))
SHUT = (Section.NODES, NodeRow(Node("A", status=NodeStatus.SUSPENDED)))


def midnight(market: Market, days: int) -> None:
    """A day begins, so many days after the first."""
    market.now = MIDNIGHT + timedelta(days=days - 1)


def served_on(market: Market, days: int) -> UUID:
    """An order that waits, looks again at nothing the day before, and is served when this day begins."""
    order = market.order("1", ("BOLT", 4))
    market.work()
    assert market.state(order) == "backordered"
    midnight(market, days - 1)
    assert market.look_again() == 0
    midnight(market, days)
    assert (market.look_again(), market.state(order)) == (1, "sourced")
    return order


def test_orders_that_are_short_of_room_take_that_of_a_new_day(full_market: Market) -> None:
    market = full_market
    market.count("BOLT", "A", 9)
    orders = [market.order(str(number), ("BOLT", 1)) for number in range(4)]
    market.work()
    assert [market.state(order) for order in orders] == ["sourced"] * 2 + ["backordered"] * 2
    market.now = MIDNIGHT - timedelta(seconds=1)
    assert market.look_again() == 0
    market.now = MIDNIGHT
    assert market.look_again() == 2
    assert [market.state(order) for order in orders[2:]] == ["sourced", "backordered"]
    assert (market.look_again(), market.record(orders[3]).attempt) == (0, 2)
    midnight(market, 2)
    market.look_again()
    assert market.state(orders[3]) == "sourced"


def test_on_a_new_day_everybody_looks_once_oldest_first_and_a_few_at_a_time(full_market: Market) -> None:
    market = full_market
    market.count("BOLT", "A", 99)
    orders = []
    for number in range(9):
        orders.append(market.order(str(number), ("BOLT", 1)))
        market.work()
    market.now = MIDNIGHT
    found = [source_batch(market.books, market.desk, 0, market.now, 3, Queue.STOCK) for _ in range(4)]
    assert [order for sourced in found for order in sourced.orders] == orders[2:]
    assert [sourced.decided for sourced in found] == [3, 3, 1, 0]
    assert [market.record(order).attempt for order in orders] == [1, 1] + [2] * 7


def test_what_lacks_stock_does_not_wait_for_a_day(full_market: Market) -> None:
    market = full_market
    order = market.order("1", ("BOLT", 1))
    market.work()
    midnight(market, 400)
    assert (market.look_again(), market.state(order)) == (0, "backordered")


def test_a_day_begins_in_the_time_zone_of_the_node() -> None:
    assert tomorrow(START, "UTC") == MIDNIGHT
    assert tomorrow(START, "America/New_York") == MIDNIGHT + timedelta(hours=5)
    assert tomorrow(START, "Pacific/Auckland") == MIDNIGHT - timedelta(hours=13)
    assert tomorrow(MIDNIGHT, "UTC") == MIDNIGHT + timedelta(days=1)
    # In Beirut the clock of this night goes from 0 to 1.
    assert tomorrow(datetime(2026, 3, 28, 12, tzinfo=UTC), "Asia/Beirut") == datetime(2026, 3, 28, 22, tzinfo=UTC)


def test_a_receipt_serves_who_waits_on_the_day_it_comes_into_the_horizon(market: Market) -> None:
    market.expect("BOLT", "A", 5, due_in_days=20)
    # The horizon is of 14 days.
    served_on(market, 6)
    assert market.at("BOLT", "A") == {"expected": 1, "pledged": 4}


def test_a_receipt_that_is_due_on_a_closed_day_serves_on_the_next_that_is_open(market: Market) -> None:
    """It is due within the horizon, on the last day but one, from when on the node is closed for three days."""
    due = START.date() + timedelta(days=13)
    closed = frozenset(due + timedelta(days=day) for day in range(3))
    market.under(closing("A", closed))
    market.expect("BOLT", "A", 5, due_in_days=13)
    served_on(market, 2)


def test_receipts_wake_nobody_by_the_calendar_where_they_do_not_count(market: Market) -> None:
    market.under(policy=replace(market.policy, on_hand_only=True))
    market.expect("BOLT", "A", 5, due_in_days=20)
    order = market.order("1", ("BOLT", 4))
    market.work()
    midnight(market, 30)
    assert (market.look_again(), market.state(order)) == (0, "backordered")


def test_a_node_with_stock_serves_who_waits_when_the_day_on_which_it_opens_comes_into_the_horizon(
    market: Market,
) -> None:
    """B is open all the time, and has nothing."""
    closed = frozenset(START.date() + timedelta(days=day) for day in range(20))
    market.under(closing("A", closed))
    market.count("BOLT", "A", 9)
    market.count("BOLT", "B", 0)
    assert market.held(served_on(market, 6)) == [("A", 4)]


def test_a_node_with_stock_serves_who_waits_when_a_day_comes_on_which_it_has_hours(market: Market) -> None:
    """It is open every day, and takes orders on one."""
    day = START.date() + timedelta(days=17)
    market.under([(Section.CAPACITIES, CapacityRow("A", 0, Slot(CapacityUnit.ORDERS, 9, only_on=day)))])
    market.count("BOLT", "A", 9)
    order = market.order("1", ("BOLT", 4))
    market.work()
    assert market.state(order) == "backordered"
    midnight(market, 2)
    market.look_again()
    assert market.state(order) == "backordered"
    midnight(market, 3)
    market.look_again()
    assert (market.held(order), market.taken("A", day)) == ([("A", 4)], 1)


def closing(node: str, days: frozenset[date]) -> list[tuple[Section, Row]]:
    """A node is closed on some days."""
    return [(Section.CALENDARS, Calendar("shut", closed=days)), (Section.NODES, NodeRow(Node(node, calendar="shut")))]


LANE = Lane("D-Z", "D", "Z", "ring-1", distance_km=1)
BEFORE: dict[str, list[tuple[Section, Row]]] = {
    "a lane": [(Section.NODES, NodeRow(Node("D")))],
    "a node reopened": [(Section.NODES, NodeRow(Node("D", status=NodeStatus.SUSPENDED))), (Section.LANES, LANE)],
    "a pool opened": [
        (Section.NODES, NodeRow(Node("D"))),
        (Section.LANES, LANE),
        (Section.POOLS, PoolRow(Pool("P", channels=frozenset(["shop"])))),
    ],
    "a limit": [
        (Section.NODES, NodeRow(Node("D"))),
        (Section.LANES, replace(LANE, max_weight_ug=1)),
    ],
    "slots": [
        (Section.NODES, NodeRow(Node("D"))),
        (Section.LANES, LANE),
        (Section.CAPACITIES, CapacityRow("D", 0, Slot(CapacityUnit.UNITS, 1))),
    ],
}
AFTER: list[tuple[Section, Row]] = [
    (Section.NODES, NodeRow(Node("D"))),
    (Section.LANES, LANE),
    (Section.POOLS, PoolRow(Pool("P"))),
]
SLOTS: list[tuple[Section, Row]] = [(Section.CAPACITIES, CapacityRow("D", 0, Slot(CapacityUnit.UNITS, 99)))]


@pytest.mark.parametrize("what", BEFORE)
def test_who_waits_looks_once_under_another_edition(market: Market, what: str) -> None:
    market.under(BEFORE[what])
    market.count("BOLT", "D", 8)
    orders = [market.order(str(number), ("BOLT", 2)) for number in range(5)]
    market.work()
    assert ({market.state(order) for order in orders}, market.look_again()) == ({"backordered"}, 0)
    market.under(SLOTS if what == "slots" else AFTER)
    assert market.look_again(limit=2) == 5
    assert [market.state(order) for order in orders] == ["sourced"] * 4 + ["backordered"]
    assert (market.look_again(), market.work()) == (0, 0)


def test_who_waits_looks_once_under_another_policy(market: Market) -> None:
    market.under(policy=replace(market.policy, max_distance_km=150))
    market.count("BOLT", "B", 3)
    orders = [market.order(str(number), ("BOLT", 2)) for number in range(2)]
    market.work()
    market.under(policy=replace(market.policy, max_distance_km=250))
    assert (market.look_again(), market.reserved(*orders)) == (2, 3)
    assert (market.look_again(), market.work()) == (0, 0)


def test_of_those_left_short_under_several_editions_the_oldest_look_first(market: Market) -> None:
    orders = []
    for number in range(3):
        market.under([(Section.POOLS, PoolRow(Pool("P", per_unit=Rate(number))))])
        orders.append(market.order(f"{number}-a", ("BOLT", 1)))
        orders.append(market.order(f"{number}-b", ("NUT", 1)))
        market.work()
    # The oldest one was left short last.
    market.count("BOLT", "A", 1)
    market.count("BOLT", "A", 0)
    market.work()
    market.under([(Section.POOLS, PoolRow(Pool("P", per_unit=Rate(9))))])
    looked = [source_batch(market.books, market.desk, 0, market.now, 1, Queue.STOCK).orders for _ in orders]
    assert [order for (order,) in looked] == orders


def test_what_is_left_short_under_an_older_edition_meanwhile_looks_again_too(market: Market) -> None:
    """A worker that has not seen the new edition yet decides when everybody has looked already."""
    market.count("BOLT", "A", 9)
    market.under([SHUT])
    late = market.desk
    market.under([(Section.NODES, NodeRow(Node("A")))])
    assert market.look_again() == 0
    order = market.order("1", ("BOLT", 1))
    source_batch(market.books, late, 0, market.now, 9)
    assert market.state(order) == "backordered"
    assert (market.look_again(), market.state(order)) == (1, "sourced")


def test_a_look_that_fails_comes_again(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    market.count("BOLT", "A", 9)
    market.under([SHUT])
    order = market.order("1", ("BOLT", 1))
    market.work()
    market.under([(Section.NODES, NodeRow(Node("A")))])
    with monkeypatch.context() as patch:
        patch.setattr("poolwise.flows.source.Batch.effects", lambda _: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            market.look_again()
    assert (market.look_again(), market.state(order)) == (1, "sourced")


def test_a_large_order_looks_again_alone(market: Market) -> None:
    small = [market.order(number, ("BOLT", 1)) for number in "abc"]
    large = market.order("large", *[("BOLT", 1)] * 9)
    market.work()
    market.under([ROOM])
    looked = [source_batch(market.books, market.desk, 0, market.now, 9, Queue.STOCK).orders for _ in range(3)]
    assert [set(orders) for orders in looked] == [set(small), {large}, set()]


def test_who_looks_again_in_vain_is_still_woken_by_stock(market: Market) -> None:
    order = market.order("1", ("BOLT", 1))
    market.work()
    market.under([ROOM])
    assert (market.look_again(), market.state(order)) == (1, "backordered")
    market.count("BOLT", "A", 1)
    assert (market.work(), market.state(order), market.waiting(Queue.STOCK)) == (1, "sourced", [])
