"""Stories of orders that are divided and joined, on both kinds of books: nothing moves, and nothing is decided anew."""

from __future__ import annotations

from datetime import date
from uuid import UUID

import pytest

from poolwise.flows.change import Changed
from poolwise.flows.explain import recall
from poolwise.flows.intake import Rejected
from tests.flows.market import Market
from tests.flows.test_change import parts, sourced, why_not
from tests.flows.test_planted_laws import Kept


def made(outcome: object) -> UUID:
    """The order that a change has made, or added to."""
    assert isinstance(outcome, Changed), outcome
    return outcome.order


def test_what_is_divided_keeps_its_stock_and_its_day(market: Market) -> None:
    order = sourced(market, ("BOLT", 5), ("NUT", 2))
    new = made(market.divide("1", "2", (1, 3), (2, None)))
    assert (parts(market, order), parts(market, order, 2)) == ({"reserved": 2, "cancelled": 3}, {"cancelled": 2})
    assert (parts(market, new), parts(market, new, 2)) == ({"reserved": 3}, {"reserved": 2})
    assert (market.at("BOLT", "A"), market.stages(new)) == ({"available": 4, "reserved": 5}, ["A planned"])
    # Two orders leave now where it was one.
    assert market.taken("A", market.now.date()) == 2
    assert recall(market.books, Kept(market.desk.atlas), new)[0].same
    market.release()
    assert (market.stages(order), market.stages(new)) == (["A released"], ["A released"])
    market.report("2", "shipped")
    assert (market.state(new), market.state(order)) == ("shipped", "released")


def test_of_what_waits_a_part_waits_on(market: Market) -> None:
    order = sourced(market, ("BOLT", 5), there=2)
    new = made(market.divide("1", "2", (1, 4)))
    assert (parts(market, order), parts(market, new)) == ({"reserved": 1, "cancelled": 4}, {"open": 3, "reserved": 1})
    market.work()
    assert parts(market, new) == {"reserved": 1, "backordered": 3}
    market.count("BOLT", "A", 9)
    market.work()
    assert parts(market, new) == {"reserved": 4}


def test_an_order_that_nobody_has_decided_yet_is_divided(market: Market) -> None:
    market.count("BOLT", "A", 9)
    order = market.order("1", ("BOLT", 5))
    new = made(market.divide("1", "2", (1, 2)))
    assert market.work() == 2
    assert (parts(market, order), parts(market, new)) == ({"reserved": 3, "cancelled": 2}, {"reserved": 2})


def test_holds_stay_with_both(market: Market) -> None:
    sourced(market, ("BOLT", 5))
    market.hold("1", "release")
    new = made(market.divide("1", "2", (1, 2)))
    market.release()
    assert market.stages(new) == ["A planned"]
    market.lift("2")
    market.expire()
    assert market.stages(new) == ["A released"]


def test_kits_are_divided_whole(market: Market) -> None:
    market.count("BOLT", "A", 3)
    market.count("NUT", "A", 6)
    order = market.order("1", ("KIT", 3))
    market.work()
    new = made(market.divide("1", "2", (1, 2)))
    assert (parts(market, order), parts(market, new)) == ({"reserved": 1, "cancelled": 2}, {"reserved": 2})
    assert sorted(market.held(new)) == [("A", 2), ("A", 4)]


@pytest.mark.parametrize(
    ("new", "lines", "reason"),
    [
        ("1", ((1, 1),), "change_invalid number: there is an order '1' already"),
        ("", ((1, 1),), "change_invalid number: is 1 to 200 characters that can be printed"),
        ("2", (), "change_invalid lines: name what the new order is to have"),
        ("2", ((1, 5),), "too_late lines: nothing would be left of the order"),
        ("2", ((1, 6),), "change_invalid lines[0].quantity: 6 is more than the 5 of the line"),
        ("2", ((1, 0),), "change_invalid lines[0].quantity: 0 is not between 1 and"),
    ],
)
def test_bad_divisions_change_nothing(
    market: Market,
    new: str,
    lines: tuple[tuple[int, int], ...],
    reason: str,
) -> None:
    order = sourced(market, ("BOLT", 5))
    assert why_not(market.divide("1", new, *lines)).startswith(reason)
    assert parts(market, order) == {"reserved": 5}


def test_what_a_node_has_in_hand_stays(market: Market) -> None:
    sourced(market, ("BOLT", 5), released=True)
    assert why_not(market.divide("1", "2", (1, 2))) == (
        "too_late lines[0].quantity: 0 of the line are not in a node's hands")  # fmt: skip


def test_orders_that_are_joined_leave_as_one(market: Market) -> None:
    order = sourced(market, ("BOLT", 5))
    market.count("NUT", "A", 3)
    other = market.order("2", ("NUT", 4), ("BOLT", 1))
    market.work()
    assert made(market.join("1", "2")) == order
    assert [parts(market, order, no) for no in (1, 2, 3)] == [
        {"reserved": 5}, {"reserved": 3, "backordered": 1}, {"reserved": 1}]  # fmt: skip
    assert (market.state(other), market.held(other)) == ("cancelled", [])
    market.count("NUT", "B", 1)
    market.work()
    assert parts(market, order, 2) == {"reserved": 4}
    market.release()
    assert set(market.stages(order)) == {"A released", "B released"}
    recalled = [recall(market.books, Kept(market.desk.atlas), order, n)[0] for n in (1, 2)]
    assert [(each.same, len(each.order.lines)) for each in recalled] == [(True, 1), (True, 3)]


def test_orders_that_nobody_has_decided_yet_are_joined(market: Market) -> None:
    market.count("BOLT", "A", 9)
    order = market.order("1", ("BOLT", 5))
    market.order("2", ("BOLT", 1))
    market.join("1", "2")
    assert (market.work(), parts(market, order), parts(market, order, 2)) == (1, {"reserved": 5}, {"reserved": 1})


def test_orders_that_differ_are_not_joined(market: Market) -> None:
    sourced(market, ("BOLT", 5))
    market.order("2", ("NUT", 4), service_level="express")
    assert why_not(market.join("1", "2")) == "change_invalid other: its service_level is express, not standard"
    assert why_not(market.join("1", "1")) == "change_invalid other: is the same order"
    assert why_not(market.join("1", "ghost")) == "order_unknown other: there is no order 'ghost'"
    assert why_not(market.join("ghost", "1")) == "order_unknown order: there is no order 'ghost'"
    market.order("3", ("NUT", 4), requested_date=date(2020, 1, 1))
    assert why_not(market.join("3", "1")) == (
        "change_invalid other: it has no requested_date; that of the order is 2020-01-01")  # fmt: skip
    assert why_not(market.join("1", "3")) == (
        "change_invalid other: its requested_date is 2020-01-01, and the order has none")  # fmt: skip
    market.cancel("3")
    assert why_not(market.join("1", "3")) == "too_late other: order '3' is cancelled"


def test_an_order_of_which_something_is_in_hand_joins_no_other(market: Market) -> None:
    sourced(market, ("BOLT", 5), released=True)
    other = market.order("2", ("BOLT", 1))
    market.work()
    assert why_not(market.join("2", "1")) == "too_late other: line 1 of order '1' is in a node's hands, or has left"
    # The other way round it may: what is added leaves by itself.
    market.join("1", "2")
    assert market.state(other) == "cancelled"


def test_what_comes_back_stays_with_the_order_that_it_had_left_for(market: Market) -> None:
    order = sourced(market, ("BOLT", 5), there=2, released=True)
    market.report("1", "shipped")
    assert market.announce("RMA", (1, 1)) == "RMA"
    new = made(market.divide("1", "2", (1, 3)))
    assert (parts(market, order), parts(market, new)) == ({"shipped": 2, "cancelled": 3}, {"open": 3})
    market.work()
    market.come_back("RMA", (1, 1))
    market.inspect("RMA", (1, 1, "restock"))
    assert (market.returned(order), market.returned(new)) == (["RMA closed"], [])
    refused = market.announce("RMA-2", (1, 1), order="2")
    assert isinstance(refused, Rejected), "nothing of the new order has left"
    joined = made(market.join("1", "2"))
    assert joined == order
    assert [parts(market, order, no) for no in (1, 2)] == [{"shipped": 2, "cancelled": 3}, {"backordered": 3}]
    assert market.announce("RMA-3", (1, 1)) == "RMA-3"
    assert market.returned(order) == ["RMA closed", "RMA-3 announced"]
