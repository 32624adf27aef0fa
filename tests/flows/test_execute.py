"""Stories of execution, on both kinds of books: released, short, declined, shipped, delivered, told in any order."""

from __future__ import annotations

from uuid import UUID

import psycopg
import pytest

from poolwise.core.messages import StockMovement
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.values import replace
from poolwise.flows.explain import recall
from poolwise.flows.stock import Outcome, book_movements
from poolwise.store.migrate import read_schema
from tests.conftest import Database
from tests.flows.market import Market, on_postgres, policy
from tests.flows.test_planted_laws import Kept


def sourced(market: Market, *lines: tuple[str, int], released: bool = True) -> UUID:
    """An order with the number 1, and what became of it an hour later."""
    order = market.order("1", *lines)
    market.work()
    if released:
        market.release()
    return order


def parts(market: Market, order: UUID) -> dict[str, int]:
    """Where the units of all lines of an order stand."""
    lines = market.record(order).lines
    names = ("reserved", "pledged", "backordered", "released", "shipped")
    sums = {name: sum(getattr(line, name) for line in lines) for name in names}
    return {name: units for name, units in sums.items() if units}


def test_a_shipment_is_released_a_while_after_it_was_decided(market: Market) -> None:
    market.count("BOLT", "A", 3)
    order = sourced(market, ("BOLT", 3), released=False)
    market.later(minutes=20)
    assert (market.expire(), market.state(order)) == (0, "sourced")
    market.later(minutes=10)
    assert (market.expire(), market.state(order)) == (1, "released")
    assert (parts(market, order), market.stages(order)) == ({"released": 3}, ["A released"])
    assert market.at("BOLT", "A") == {"reserved": 3}


def test_what_is_pledged_is_released_when_it_has_come(market: Market) -> None:
    market.expect("BOLT", "A", 3, due_in_days=0)
    order = sourced(market, ("BOLT", 3))
    assert (market.state(order), parts(market, order)) == ("sourced", {"pledged": 3})
    market.arrive("BOLT", "A", 3)
    market.later(days=1)
    market.expire()
    assert (market.state(order), parts(market, order)) == ("released", {"released": 3})


def test_what_has_left_is_no_longer_there(market: Market) -> None:
    market.count("BOLT", "A", 5)
    order = sourced(market, ("BOLT", 3))
    assert market.report("1", "shipped") is Outcome.BOOKED
    assert (market.state(order), market.stages(order)) == ("shipped", ["A shipped"])
    assert (parts(market, order), market.at("BOLT", "A")) == ({"shipped": 3}, {"available": 2})
    assert market.report("1", "delivered") is Outcome.BOOKED
    assert market.stages(order) == ["A delivered"]


@pytest.mark.parametrize("released", [True, False])
@pytest.mark.parametrize("told", ["delivered shipped", "shipped delivered", "shipped shipped delivered"])
def test_reports_may_come_before_those_they_depend_on(market: Market, told: str, released: bool) -> None:
    market.count("BOLT", "A", 5)
    order = sourced(market, ("BOLT", 3), released=released)
    for kind in told.split():
        market.report("1", kind)
    assert (market.state(order), market.stages(order)) == ("shipped", ["A delivered"])
    assert market.at("BOLT", "A") == {"available": 2}
    assert market.release() == (0 if released else 1)


@pytest.mark.parametrize("told", ["failed shipped", "shipped failed"])
def test_what_could_not_be_delivered_has_left(market: Market, told: str) -> None:
    market.count("BOLT", "A", 5)
    order = sourced(market, ("BOLT", 3))
    for kind in told.split():
        market.report("1", kind)
    assert (market.state(order), market.stages(order)) == ("shipped", ["A failed"])
    assert market.at("BOLT", "A") == {"available": 2}


def test_a_report_of_what_has_happened_already_changes_nothing(market: Market) -> None:
    market.count("BOLT", "A", 5)
    order = sourced(market, ("BOLT", 3))
    market.report("1", "delivered")
    assert market.report("1", "shipped") is Outcome.UNCHANGED
    assert market.report("1", "picked") is Outcome.UNCHANGED
    assert (parts(market, order), market.stages(order)) == ({"shipped": 3}, ["A delivered"])


@pytest.mark.parametrize("told", ["shipped", "delivered", "picked shipped", "shipped delivered"])
def test_what_was_not_found_had_not_left_though_it_was_told_first(market: Market, told: str) -> None:
    market.count("BOLT", "A", 5)
    market.count("BOLT", "B", 2)
    order = sourced(market, ("BOLT", 3))
    for kind in told.split():
        market.report("1", kind)
    assert market.state(order) == "shipped"
    assert market.report("1", "short", ("BOLT", 1)) is Outcome.BOOKED
    assert market.at("BOLT", "A") == {"available": 2, "blocked": 1}
    market.work()
    assert (parts(market, order), market.held(order)) == ({"shipped": 2, "reserved": 1}, [("B", 1)])


def test_all_of_a_shipment_turns_out_not_to_have_left(market: Market) -> None:
    market.count("BOLT", "A", 3)
    order = sourced(market, ("BOLT", 3))
    market.report("1", "shipped")
    market.report("1", "short", ("BOLT", 7))
    assert (parts(market, order), market.stages(order)) == ({"backordered": 3}, ["A cancelled"])
    assert market.report("1", "short", ("BOLT", 3)) is Outcome.UNCHANGED


def test_what_leaves_beyond_what_is_asked_for_serves_what_waits_of_the_order(market: Market) -> None:
    market.count("BOLT", "A", 5)
    order = sourced(market, ("BOLT", 4))
    market.count("BOLT", "A", 2)
    assert parts(market, order) == {"released": 2, "backordered": 2}
    # All four were there after all.
    market.report("1", "shipped", ("BOLT", 4))
    assert (parts(market, order), market.state(order)) == ({"shipped": 4}, "shipped")
    market.count("BOLT", "A", 1)
    assert market.at("BOLT", "A") == {"available": 1}


def test_what_leaves_beyond_that_is_gone_and_somebody_is_told(market: Market) -> None:
    market.count("BOLT", "A", 5)
    order = sourced(market, ("BOLT", 2))
    market.report("1", "shipped", ("BOLT", 3))
    assert (parts(market, order), market.at("BOLT", "A")) == ({"shipped": 2}, {"available": 2})
    assert market.incidents() == ["sent_beyond"]


@pytest.mark.parametrize("before", [("declined",), ("short", ("BOLT", 2))])
def test_what_was_declined_and_left_after_all_is_told_to_somebody(market: Market, before: tuple) -> None:
    market.count("BOLT", "A", 5)
    order = sourced(market, ("BOLT", 2))
    market.report("1", *before)
    assert market.report("1", "shipped") is Outcome.UNCHANGED
    assert (parts(market, order), market.incidents()) == (
        {"backordered": 2}, ["reservation_broken", "sent_though_declined"])  # fmt: skip
    # Named, they are gone, and serve what waits.
    market.report("1", "shipped", ("BOLT", 2))
    assert parts(market, order) == {"shipped": 2}


def test_a_node_picks_and_what_is_picked_leaves_or_is_short(market: Market) -> None:
    market.count("BOLT", "A", 3)
    order = sourced(market, ("BOLT", 3))
    assert market.report("1", "picked") is Outcome.BOOKED
    assert (parts(market, order), market.stages(order)) == ({"released": 3}, ["A picked"])
    market.report("1", "short", ("BOLT", 1))
    assert (parts(market, order), market.stages(order)) == ({"released": 2, "backordered": 1}, ["A picked"])
    market.report("1", "shipped")
    assert market.stages(order) == ["A shipped"]


def test_what_is_picked_before_it_was_released_is_in_hand(market: Market) -> None:
    market.count("BOLT", "A", 3)
    order = sourced(market, ("BOLT", 3), released=False)
    market.report("1", "picked")
    assert (parts(market, order), market.stages(order)) == ({"released": 3}, ["A picked"])


def test_what_a_node_has_that_is_no_longer_in_the_network_is_released(market: Market) -> None:
    market.count("BOLT", "A", 3)
    order = sourced(market, ("BOLT", 3), released=False)
    network = market.edition.network
    nodes = {code: node for code, node in network.nodes.items() if code != "A"}
    edition = replace(market.edition, network=replace(network, nodes=nodes))
    market.desk = replace(market.desk, atlas=Atlas(edition, market.desk.atlas.policy))
    market.release()
    assert market.stages(order) == ["A released"]


def test_orders_that_were_sourced_before_there_was_releasing_are_released(database: Database) -> None:
    with on_postgres(database) as market, psycopg.connect(database.owner_url) as owner:
        market.count("BOLT", "A", 3)
        order = sourced(market, ("BOLT", 3), released=False)
        owner.execute("DELETE FROM timer")
        owner.execute(next(each.text for each in read_schema() if each.name.startswith("0013")).encode())
        owner.commit()
        market.release()
        assert market.stages(order) == ["A released"]


def test_an_order_that_still_waits_sets_no_timer(market: Market) -> None:
    order = sourced(market, ("BOLT", 3))
    market.under(policy=policy(max_shipments=2))
    assert (market.look_again(), market.state(order)) == (1, "backordered")
    assert market.release() == 0


def test_a_report_has_its_effect_once(market: Market) -> None:
    market.count("BOLT", "A", 5)
    order = sourced(market, ("BOLT", 3))
    assert market.report("1", "shipped", ("BOLT", 1), id="r") is Outcome.BOOKED
    assert market.report("1", "shipped", ("BOLT", 1), id="r") is Outcome.DUPLICATE
    assert parts(market, order) == {"released": 2, "shipped": 1}
    assert (market.state(order), market.stages(order)) == ("released", ["A released"])


@pytest.mark.parametrize("first", ["short", "taken away"])
def test_blocked_units_that_are_taken_away_are_gone_whatever_we_hear_first(market: Market, first: str) -> None:
    market.count("BOLT", "A", 9)
    sourced(market, ("BOLT", 3))

    def take_away() -> None:
        said = StockMovement(
            id="m", item="BOLT", node="A", pool="P", quantity="1", source="blocked", target="outside", at=market.now
        )
        book_movements(market.books, market.clerk, [said], market.later(seconds=1))

    if first == "taken away":
        take_away()
    market.report("1", "short", ("BOLT", 1))
    if first == "short":
        take_away()
    assert market.at("BOLT", "A") == {"available": 6, "reserved": 2}
    assert market.at("BOLT", "A", "~blocked") == {}


def test_what_is_not_found_is_blocked_and_comes_from_elsewhere(market: Market) -> None:
    market.count("BOLT", "A", 9)
    market.count("BOLT", "B", 4)
    order = sourced(market, ("BOLT", 3))
    assert market.report("1", "short", ("BOLT", 1)) is Outcome.BOOKED
    assert parts(market, order) == {"released": 2, "backordered": 1}
    assert market.at("BOLT", "A") == {"available": 6, "reserved": 2, "blocked": 1}
    assert market.work() == 1
    # There are six more at A, but nobody is sent there again for this order.
    assert sorted(market.held(order)) == [("A", 2), ("B", 1)]
    assert parts(market, order) == {"released": 2, "reserved": 1}
    market.report("1", "shipped")
    market.release()
    assert market.stages(order) == ["A shipped", "B released"]
    market.report("1", "shipped", shipment=100_001)
    assert (market.state(order), parts(market, order)) == ("shipped", {"shipped": 3})


def test_what_is_declined_is_free_again_and_comes_from_elsewhere(market: Market) -> None:
    market.count("BOLT", "A", 3)
    market.count("BOLT", "B", 4)
    order = sourced(market, ("BOLT", 3))
    market.report("1", "declined")
    assert (market.at("BOLT", "A"), parts(market, order)) == ({"available": 3}, {"backordered": 3})
    market.work()
    assert market.held(order) == [("B", 3)]
    library = Kept(market.desk.atlas)
    assert [recall(market.books, library, order, n)[0].declined for n in (1, 2)] == [(), ("A",)]
    market.release()
    market.report("1", "declined", shipment=100_001)
    market.work()
    # Nobody is left; and stock that comes to A is not for this order.
    market.count("BOLT", "A", 9)
    market.work()
    assert (market.held(order), market.state(order)) == ([], "backordered")


def test_a_part_leaves_and_the_rest_is_not_found(market: Market) -> None:
    market.count("BOLT", "A", 3)
    market.count("BOLT", "B", 1)
    order = sourced(market, ("BOLT", 3))
    market.report("1", "shipped", ("BOLT", 2))
    market.report("1", "short", ("BOLT", 1))
    assert market.stages(order) == ["A shipped"]
    market.work()
    assert (parts(market, order), market.stages(order)) == ({"reserved": 1, "shipped": 2}, ["A shipped", "B planned"])


def test_a_kit_that_lacks_a_part_is_made_elsewhere(market: Market) -> None:
    for node in "AB":
        market.count("BOLT", node, 1)
        market.count("NUT", node, 2)
    order = sourced(market, ("KIT", 1))
    market.report("1", "short", ("NUT", 1))
    assert (market.at("NUT", "A"), market.at("BOLT", "A")) == ({"available": 1, "blocked": 1}, {"available": 1})
    market.work()
    assert sorted(market.held(order)) == [("B", 1), ("B", 2)]


@pytest.mark.parametrize("missing", [("NUT", 1), ("NUT", 4), ("BOLT", 1)])
@pytest.mark.parametrize("told", ["short", "picked short", "shipped short", "shipped delivered short"])
def test_a_kit_that_lacks_a_part_has_not_left_in_whatever_order_it_is_told(
    market: Market, told: str, missing: tuple[str, int]
) -> None:
    for node in "AB":
        market.count("BOLT", node, 2)
        market.count("NUT", node, 5)
    order = sourced(market, ("KIT", 2))
    for kind in told.split():
        market.report("1", kind, *([missing] if kind == "short" else []))
    item, units = missing
    for part, there in (("BOLT", 2), ("NUT", 5)):
        gone = units if part == item else 0
        left = {"available": there - gone, "blocked": gone}
        assert market.at(part, "A") == {account: n for account, n in left.items() if n}
    assert parts(market, order) == {"backordered": 2}
    market.work()
    assert sorted(market.held(order)) == [("B", 2), ("B", 4)]


def test_parts_that_had_to_leave_together_and_a_count_has_seen_are_not_there_twice(market: Market) -> None:
    market.count("BOLT", "A", 3)
    market.count("NUT", "A", 4)
    order = sourced(market, ("KIT", 2))
    at = market.now
    market.later(hours=1)
    market.count("BOLT", "A", 3)
    market.count("NUT", "A", 3)
    market.report("1", "shipped", at=at)
    market.report("1", "short", ("NUT", 1), at=at)
    assert (market.at("BOLT", "A"), market.at("NUT", "A")) == ({"available": 3}, {"available": 3})
    assert parts(market, order) == {"backordered": 2}


def test_a_kit_of_which_something_came_back_had_left(market: Market) -> None:
    market.count("BOLT", "A", 1)
    market.count("NUT", "A", 2)
    order = sourced(market, ("KIT", 1))
    market.report("1", "shipped")
    market.come_back("RMA-1", (1, 1, "BOLT"), order="1", node="A")
    market.report("1", "short", ("NUT", 1))
    assert (market.at("NUT", "A"), parts(market, order)) == ({}, {"shipped": 1})


def test_stock_that_is_counted_away_breaks_what_is_released_too(market: Market) -> None:
    market.count("BOLT", "A", 3)
    market.count("BOLT", "B", 3)
    order = sourced(market, ("BOLT", 3))
    market.count("BOLT", "A", 1)
    assert parts(market, order) == {"released": 1, "backordered": 2}
    market.work()
    assert parts(market, order) == {"released": 1, "reserved": 2}


@pytest.mark.parametrize(
    ("kind", "lines", "shipment", "number"),
    [
        ("shipped", (), 2, "1"),
        ("shipped", (), 1, "ghost"),
        ("shipped", (("GHOST", 1),), 1, "1"),
        ("short", (), 1, "1"),
        ("short", (("BOLT", 0),), 1, "1"),
        ("declined", (("BOLT", 1),), 1, "1"),
        ("picked", (("BOLT", 1),), 1, "1"),
        ("shipped", (("NUT", 1),), 1, "1"),
    ],
)
def test_bad_reports_are_refused_and_change_nothing(
    market: Market, kind: str, lines: tuple[tuple[str, int], ...], shipment: int, number: str
) -> None:
    market.count("BOLT", "A", 3)
    order = sourced(market, ("BOLT", 3))
    assert market.report(number, kind, *lines, shipment=shipment) is Outcome.REFUSED
    assert (parts(market, order), market.stages(order)) == ({"released": 3}, ["A released"])


def test_a_count_settles_what_was_not_found(market: Market) -> None:
    market.count("BOLT", "A", 9)
    sourced(market, ("BOLT", 4))
    market.report("1", "short", ("BOLT", 3))
    assert market.at("BOLT", "A") == {"available": 5, "reserved": 1, "blocked": 3}
    # One of the three was found behind the shelf.
    market.count("BOLT", "A", 7)
    assert market.at("BOLT", "A") == {"available": 6, "reserved": 1}
    market.count("BOLT", "A", 6)
    assert market.at("BOLT", "A") == {"available": 5, "reserved": 1}


@pytest.mark.parametrize("kind", ["shipped", "short"])
def test_what_a_count_has_seen_is_not_booked_once_more(market: Market, kind: str) -> None:
    """It left, or was missing, before the count; the report of it comes after."""
    market.count("BOLT", "A", 9)
    sourced(market, ("BOLT", 4))
    before = market.later(seconds=1)
    market.count("BOLT", "A", 7)
    assert market.at("BOLT", "A") == {"available": 3, "reserved": 4}
    market.report("1", kind, ("BOLT", 2), at=before)
    assert market.at("BOLT", "A") == {"available": 5, "reserved": 2}


def test_a_policy_says_how_long_a_shipment_is_held_back(market: Market) -> None:
    market.under(policy=replace(policy(), release_after_minutes=5))
    market.count("BOLT", "A", 3)
    order = sourced(market, ("BOLT", 3), released=False)
    market.later(minutes=4)
    assert (market.expire(), market.state(order)) == (0, "sourced")
    market.later(minutes=1)
    assert (market.expire(), market.state(order)) == (1, "released")


def test_what_is_short_is_sourced_before_all_that_is_new(market: Market) -> None:
    market.count("BOLT", "A", 3)
    sourced(market, ("BOLT", 3))
    market.order("2", ("NUT", 1), priority=100)
    market.order("3", ("NUT", 1))
    market.report("1", "short", ("BOLT", 1))
    assert market.waiting() == ["1", "2", "3"]
