"""Stories of collection, on both kinds of books: from the store's own shelf, sent there, collected or not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import permutations
from uuid import UUID

import pytest

from poolwise.core.edition.rows import BandRow, Row, Section
from poolwise.core.fulfilment import Stage
from poolwise.core.messages import Address, ReportKind, ShipmentReport
from poolwise.core.network import Lane, RateBand, Transit, Zone
from poolwise.core.values import MICROGRAMS_PER_KG, MILLION, Rate
from poolwise.flows.execute import book_report
from poolwise.flows.intake import Rejected
from poolwise.flows.stock import Outcome
from tests.flows.market import START, Market, in_memory, on_postgres

AT_ONCE = Transit(((0, MILLION),))
POINT: tuple[tuple[Section, Row], ...] = (
    (Section.ZONES, Zone("DESK", collect_at="C")),
    (Section.RATES, BandRow("desk", RateBand(0, 1_000 * MICROGRAMS_PER_KG))),
    (Section.RATES, BandRow("van", RateBand(0, 1_000 * MICROGRAMS_PER_KG, fixed=Rate(2)))),
    (Section.LANES, Lane("C-DESK", "C", "DESK", "desk", transit=AT_ONCE)),
    (Section.LANES, Lane("A-C", "A", "C", "van", to_node=True)),
)
"""C is a store where orders are collected; a van goes there from A overnight."""


@pytest.fixture(params=["memory", "postgres"])
def market(request: pytest.FixtureRequest) -> Iterator[Market]:
    if request.param == "memory":
        found = in_memory(max_transfer_hops=1)
        found.under(POINT)
        yield found
        return
    with on_postgres(request.getfixturevalue("database"), max_transfer_hops=1) as found:
        found.under(POINT)
        yield found


@pytest.fixture(autouse=True)
def lawful(market: Market) -> Iterator[None]:
    """Every story ends in lawful books."""
    yield
    assert market.findings() == []


def collected(market: Market, *lines: tuple[str, int], node: str = "C") -> UUID:
    """An order with the number 1 that is collected at C, released, with its items on the shelf of a node."""
    for item, _ in lines:
        market.count(item, node, 9)
    order = market.order("1", *lines, collect_at="C")
    market.work()
    market.release()
    return order


def kinds(market: Market, *kinds: str) -> list[Outcome]:
    return [market.report("1", kind) for kind in kinds]


def shipped(market: Market, order: UUID) -> tuple[int, int, int]:
    """Units of the first line that are released, shipped, and cancelled."""
    line = market.record(order).lines[0]
    return line.released, line.shipped, line.cancelled


def test_what_is_on_the_stores_own_shelf_is_ready_the_same_day_and_else_it_is_sent_there(market: Market) -> None:
    market.count("BOLT", "A", 9)
    market.count("BOLT", "C", 2)
    orders = [market.order(str(n), ("BOLT", 2), collect_at="C") for n in (1, 2)]
    market.work()
    with market.books.transaction() as transaction:
        found = [transaction.shipments(order)[0] for order in orders]

    today = START.date()
    assert [(each.shipment.node, each.shipment.lanes, each.collect_at) for each in found] == [
        ("C", ("C-DESK",), "C"), ("A", ("A-C", "C-DESK"), "C")]  # fmt: skip
    assert [(each.shipment.ship_on, each.shipment.arrive_by) for each in found] == [
        (today, today), (today, today + timedelta(days=1))]  # fmt: skip


def test_an_order_that_is_brought_is_collected_nowhere(market: Market) -> None:
    market.count("BOLT", "C", 9)
    order = market.order("1", ("BOLT", 1))
    market.work()
    with market.books.transaction() as transaction:
        assert [each.collect_at for each in transaction.shipments(order)] == [""]
    assert market.report("1", "ready") is Outcome.REFUSED
    assert market.report("1", "shipped") is Outcome.BOOKED


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"collect_at": "B"}, ["collect_at"]),
        ({"collect_at": "NOWHERE"}, ["collect_at"]),
        ({"collect_at": "C", "zone": "Z"}, ["zone"]),
        ({"collect_at": "C", "ship_to": Address(country="DE", city="Bonn")}, ["ship_to.country", "ship_to.city"]),
        ({"collect_at": "B", "zone": "Z", "service_level": "?"}, ["collect_at", "service_level"]),
    ],
)
def test_an_order_that_cannot_be_collected_there_is_refused(
    market: Market, more: dict[str, object], fields: list[str]
) -> None:
    outcome = market.send("1", ("BOLT", 1), **more)
    assert isinstance(outcome, Rejected)
    assert [problem.field for problem in outcome.problems] == fields


def test_who_collects_says_whom_to_call_and_may_name_the_zone_as_well(market: Market) -> None:
    order = market.order("1", ("BOLT", 1), collect_at="C", zone="DESK", ship_to=Address(name="Ada", phone="1"))
    record = market.record(order)
    assert (record.order.zone, record.order.contact is None) == ("DESK", False)


def test_what_waits_on_the_shelf_is_still_there_until_it_is_collected(market: Market) -> None:
    order = collected(market, ("BOLT", 2))
    assert kinds(market, "picked", "ready", "ready", "picked") == [
        Outcome.BOOKED, Outcome.BOOKED, Outcome.UNCHANGED, Outcome.UNCHANGED]  # fmt: skip
    waiting = market.at("BOLT", "C"), shipped(market, order), market.stages(order)
    market.report("1", "delivered")

    assert waiting == ({"available": 7, "reserved": 2}, (2, 0, 0), ["C ready"])
    assert (market.at("BOLT", "C"), shipped(market, order)) == ({"available": 7}, (0, 2, 0))
    assert (market.stages(order), market.state(order)) == (["C delivered"], "shipped")


@pytest.mark.parametrize("before", [(), ("picked",), ("ready",), ("picked", "ready")])
def test_what_nobody_collects_is_free_again_and_no_longer_ordered(market: Market, before: tuple[str, ...]) -> None:
    order = collected(market, ("BOLT", 2), ("KIT", 1), ("NUT", 1))
    kinds(market, *before)
    assert kinds(market, "failed", "failed", "ready") == [Outcome.BOOKED, Outcome.UNCHANGED, Outcome.CANCELLED]

    assert (market.at("BOLT", "C"), market.at("NUT", "C")) == ({"available": 9}, {"available": 9})
    assert [line.cancelled for line in market.record(order).lines] == [2, 1, 1]
    assert (market.state(order), market.waiting(), market.incidents()) == ("cancelled", [], [])


def test_what_was_not_released_yet_is_not_collected_either(market: Market) -> None:
    market.count("BOLT", "C", 9)
    order = market.order("1", ("BOLT", 2), collect_at="C")
    market.work()
    assert kinds(market, "failed", "picked") == [Outcome.BOOKED, Outcome.CANCELLED]
    assert (market.at("BOLT", "C"), shipped(market, order)) == ({"available": 9}, (0, 0, 2))
    assert market.release() == 1
    assert market.stages(order) == ["C cancelled"]


def test_what_is_free_again_goes_to_who_waits_for_it(market: Market) -> None:
    collected(market, ("BOLT", 9))
    other = market.order("2", ("BOLT", 9), collect_at="C")
    market.work()
    before = market.state(other)
    kinds(market, "ready", "failed")
    market.work()
    assert (before, market.state(other)) == ("backordered", "sourced")


def test_of_two_units_one_is_collected_and_the_other_never(market: Market) -> None:
    order = collected(market, ("BOLT", 2))
    kinds(market, "ready")
    market.report("1", "shipped", ("BOLT", 1))
    part = market.stages(order), shipped(market, order)
    kinds(market, "failed")
    assert part == (["C ready"], (1, 1, 0))
    assert (market.stages(order), shipped(market, order)) == (["C delivered"], (0, 1, 1))
    assert market.at("BOLT", "C") == {"available": 8}


def test_what_waits_may_turn_out_not_to_be_there(market: Market) -> None:
    order = collected(market, ("BOLT", 2))
    market.count("BOLT", "A", 9)
    kinds(market, "ready")
    market.report("1", "short", ("BOLT", 2))
    market.work()
    assert market.at("BOLT", "C") == {"available": 7, "blocked": 2}
    assert market.stages(order) == ["C cancelled", "A planned"]


def test_who_collects_it_after_all_takes_it_from_the_shelf(market: Market) -> None:
    order = collected(market, ("BOLT", 2))
    kinds(market, "ready", "failed", "delivered")
    assert (market.at("BOLT", "C"), market.stages(order)) == ({"available": 7}, ["C delivered"])
    assert (shipped(market, order), market.incidents()) == ((0, 0, 2), ["sent_beyond"])


@pytest.mark.parametrize("told", [*permutations(("shipped", "ready", "delivered")), ("ready",), ("delivered",)])
def test_what_is_sent_to_the_store_has_left_when_it_is_ready_there(market: Market, told: tuple[str, ...]) -> None:
    order = collected(market, ("BOLT", 2), node="A")
    assert kinds(market, *told)[0] is Outcome.BOOKED
    assert (market.at("BOLT", "A"), market.at("BOLT", "C"), shipped(market, order)) == (
        {"available": 7}, {}, (0, 2, 0))  # fmt: skip
    assert market.stages(order) == ["A delivered" if "delivered" in told else "A ready"]


def test_a_parcel_that_nobody_collects_has_left_its_node(market: Market) -> None:
    order = collected(market, ("BOLT", 2), node="A")
    kinds(market, "shipped", "ready", "failed")
    assert (market.stages(order), shipped(market, order)) == (["A failed"], (0, 2, 0))
    assert market.at("BOLT", "A") == {"available": 7}


def test_a_stop_on_the_way_is_kept_and_changes_nothing(market: Market) -> None:
    order = collected(market, ("BOLT", 2), node="A")
    before = market.record(order), market.stages(order), market.at("BOLT", "A")

    assert arrived(market, "C") is Outcome.BOOKED
    assert (market.record(order), market.stages(order), market.at("BOLT", "A")) == before
    assert [arrived(market, node) for node in ("A", "B", "NOWHERE", "")] == [Outcome.REFUSED] * 4
    assert arrived(market, "C", ReportKind.SHIPPED) is Outcome.REFUSED


def arrived(market: Market, node: str, kind: ReportKind = ReportKind.ARRIVED) -> Outcome:
    said = ShipmentReport(id=f"{kind} {node}", order="1", shipment=1, kind=kind, at=market.now, node=node)
    result = book_report(market.books, market.clerk, said, market.now)
    assert [fault.field for fault in result.faults] == ["node"] * (result.outcome is Outcome.REFUSED)
    return result.outcome


def test_what_is_divided_from_an_order_or_joined_to_one_is_collected_there_still(market: Market) -> None:
    market.count("BOLT", "C", 9)
    orders = [market.order(number, ("BOLT", 2), collect_at="C") for number in ("1", "2")]
    market.work()
    market.divide("1", "3", (1, 1))
    market.join("1", "2")
    with market.books.transaction() as transaction:
        (third,) = transaction.order_numbered(["3"]).values()
        shipments = [each for order in (*orders, third) for each in transaction.shipments(order)]
    assert {(each.shipment.node, each.collect_at) for each in shipments} == {("C", "C")}
    assert len(shipments) >= 3


def test_an_order_that_was_to_be_brought_is_collected_after_all_and_the_other_way_round(market: Market) -> None:
    market.count("BOLT", "C", 9)
    order = market.order("1", ("BOLT", 2))
    market.work()
    market.amend("1", collect_at="C")
    market.work()
    assert market.record(order).order.zone == "DESK"
    assert points(market, order) == ["C"]
    market.amend("1", zone="Z")
    market.work()
    assert points(market, order) == [""]
    refused = market.amend("1", collect_at="B")
    assert isinstance(refused, Rejected)
    assert [fault.field for fault in refused.problems] == ["collect_at"]


def points(market: Market, order: UUID) -> list[str]:
    """Where what is planned is collected."""
    with market.books.transaction() as transaction:
        return [each.collect_at for each in transaction.shipments(order) if each.stage is Stage.PLANNED]


def test_a_basket_may_be_collected(market: Market) -> None:
    market.count("BOLT", "C", 9)
    basket = market.basket(("BOLT", 2), zone="", collect_at="C")
    assert market.record(basket).order.zone == "DESK"
