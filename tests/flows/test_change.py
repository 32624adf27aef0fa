"""Stories of change, on both kinds of books: orders held, cancelled, amended, before and while nodes work on them."""

from __future__ import annotations

from uuid import UUID

import pytest

from poolwise.core.edition.rows import Section
from poolwise.core.messages import Address, LineChange, OrderCancellation, OrderLine
from poolwise.core.network import Lane, Zone
from poolwise.core.orders import Progress
from poolwise.core.policy.terms import SourcingPolicy
from poolwise.core.values import PlanAt, Refused, replace
from poolwise.flows.change import Changed, cancel
from poolwise.flows.explain import recall
from poolwise.flows.intake import Rejected
from poolwise.flows.stock import Outcome
from poolwise.flows.wave import run_wave
from tests.flows.market import Market, policy
from tests.flows.test_planted_laws import Kept


def parts(market: Market, order: UUID, no: int = 1) -> dict[str, int]:
    """Where the units of a line stand."""
    line = market.record(order).lines[no - 1]
    names = [name for name in Progress.__struct_fields__ if name != "ordered"]
    return {name: getattr(line, name) for name in names if getattr(line, name)}


def sourced(market: Market, *lines: tuple[str, int], released: bool = False, there: int = 9) -> UUID:
    """An order with the number 1, sourced from node A."""
    for item in dict.fromkeys(item for item, _ in lines):
        market.count(item, "A", there)
    order = market.order("1", *lines)
    market.work()
    if released:
        market.release()
    return order


def why_not(outcome: object) -> str:
    """The one reason of a refusal, with its code."""
    assert isinstance(outcome, Rejected), outcome
    (fault,) = outcome.problems
    return f"{outcome.code} {fault.field}: {fault.reason}"


# --- cancelled


@pytest.mark.parametrize("released", [False, True])
def test_what_is_cancelled_is_free_again(market: Market, released: bool) -> None:
    order = sourced(market, ("BOLT", 5), released=released)
    assert market.cancel("1", (1, 2)) == Changed(order, "1", ((1, 2),))
    assert parts(market, order) == {"released" if released else "reserved": 3, "cancelled": 2}
    assert market.at("BOLT", "A") == {"available": 6, "reserved": 3}
    market.cancel("1")
    assert (market.state(order), market.at("BOLT", "A")) == ("cancelled", {"available": 9})
    assert market.stages(order) == (["A cancelled"] if released else [])
    assert market.taken("A", market.now.date()) == 0


def test_an_order_that_nobody_has_decided_yet_is_cancelled_in_part_and_sourced_for_the_rest(market: Market) -> None:
    market.count("BOLT", "A", 9)
    order = market.order("1", ("BOLT", 5), ("NUT", 1))
    market.cancel("1", (1, 2), (2, None))
    assert (parts(market, order), market.state(order)) == ({"open": 3, "cancelled": 2}, "received")
    assert market.work() == 1
    assert (parts(market, order), market.state(order)) == ({"reserved": 3, "cancelled": 2}, "sourced")


def test_an_order_that_nobody_has_decided_yet_is_cancelled_whole(market: Market) -> None:
    market.count("BOLT", "A", 9)
    order = market.order("1", ("BOLT", 5))
    market.cancel("1")
    assert (market.state(order), market.work(), market.at("BOLT", "A")) == ("cancelled", 0, {"available": 9})
    assert [why_not(market.cancel("1")), why_not(market.amend("1", (1, 7)))] == [
        "too_late order: order '1' is cancelled"
    ] * 2


def test_an_order_that_was_cancelled_before_its_first_decision_does_not_wait_for_one(market: Market) -> None:
    order = market.order("1", ("BOLT", 5))
    library = Kept(market.desk.atlas)
    with pytest.raises(Refused, match="1: it still waits to be decided"):
        recall(market.books, library, order)
    market.cancel("1")
    with pytest.raises(Refused, match="1: it was cancelled before it was decided"):
        recall(market.books, library, order)


def test_what_waits_is_cancelled_first_then_what_is_pledged(market: Market) -> None:
    market.count("BOLT", "A", 2)
    market.expect("BOLT", "A", 2)
    order = market.order("1", ("BOLT", 5))
    market.work()
    assert parts(market, order) == {"reserved": 2, "pledged": 2, "backordered": 1}
    market.cancel("1", (1, 1))
    assert (parts(market, order), market.waiting(), market.state(order)) == (
        {"reserved": 2, "pledged": 2, "cancelled": 1}, [], "sourced")  # fmt: skip
    market.cancel("1", (1, 1))
    assert parts(market, order) == {"reserved": 2, "pledged": 1, "cancelled": 2}
    assert market.at("BOLT", "A") == {"reserved": 2, "pledged": 1, "expected": 1}


def test_what_comes_free_goes_to_who_waits(market: Market) -> None:
    sourced(market, ("BOLT", 5), there=5)
    other = market.order("2", ("BOLT", 2))
    market.work()
    assert market.state(other) == "backordered"
    market.cancel("1", (1, 3))
    market.work()
    assert (market.state(other), market.at("BOLT", "A")) == ("sourced", {"available": 1, "reserved": 4})


def test_of_a_kit_whole_ones_are_cancelled(market: Market) -> None:
    market.count("BOLT", "A", 3)
    market.count("NUT", "A", 6)
    order = market.order("1", ("KIT", 3))
    market.work()
    market.cancel("1", (1, 2))
    assert parts(market, order) == {"backordered": 1, "cancelled": 2}
    market.work()
    assert parts(market, order) == {"reserved": 1, "cancelled": 2}
    assert (market.at("BOLT", "A"), market.at("NUT", "A")) == (
        {"available": 2, "reserved": 1}, {"available": 4, "reserved": 2})  # fmt: skip


@pytest.mark.parametrize("stage", ["picked", "shipped"])
def test_what_is_picked_or_has_left_is_not_cancelled(market: Market, stage: str) -> None:
    order = sourced(market, ("BOLT", 5), released=True)
    market.report("1", stage)
    refused = why_not(market.cancel("1", (1, 2)))
    assert refused == (
        f"too_late lines[0].quantity: at most 0 can still be given up: of 5 there are 5 {stage}")  # fmt: skip
    assert why_not(market.cancel("1")).startswith("too_late order: nothing of it can be cancelled any more")
    assert parts(market, order) == {"released" if stage == "picked" else "shipped": 5}


@pytest.mark.parametrize("quantity", ["0", "-1", "1.5", "six", "6"])
def test_a_quantity_that_no_line_could_have_is_no_matter_of_time(market: Market, quantity: str) -> None:
    order = sourced(market, ("BOLT", 5))
    asked = OrderCancellation(order="1", lines=(LineChange(no=1, quantity=quantity),))
    refused = cancel(market.books, market.counter, asked, market.now)
    assert why_not(refused).startswith("change_invalid lines[0].quantity: ")
    assert parts(market, order) == {"reserved": 5}


def test_what_is_wrong_with_a_cancellation_is_told_before_what_comes_too_late(market: Market) -> None:
    sourced(market, ("BOLT", 5), ("NUT", 5), released=True)
    market.report("1", "picked")
    refused = market.cancel("1", (1, 2), (2, 6))
    assert isinstance(refused, Rejected)
    assert (refused.code, [fault.field for fault in refused.problems]) == (
        "change_invalid", ["lines[1].quantity", "lines[0].quantity"])  # fmt: skip
    assert refused.problems[0].reason == "6 is more than the 5 of the line"


def test_of_an_order_in_several_shipments_what_can_be_cancelled_is(market: Market) -> None:
    market.count("BOLT", "A", 3)
    market.count("BOLT", "B", 3)
    order = market.order("1", ("BOLT", 5))
    market.work()
    market.release()
    market.report("1", "picked", shipment=1)
    picked = next(units for node, units in market.held(order) if node == market.stages(order)[0][0])
    market.cancel("1")
    assert parts(market, order) == {"released": picked, "cancelled": 5 - picked}
    assert sorted(stage.split()[1] for stage in market.stages(order)) == ["cancelled", "picked"]


def test_a_pick_that_comes_too_late_is_told_so(market: Market) -> None:
    order = sourced(market, ("BOLT", 5), released=True)
    market.cancel("1")
    assert market.report("1", "picked", id="p") is Outcome.CANCELLED
    assert market.report("1", "picked", id="p") is Outcome.DUPLICATE
    assert (market.at("BOLT", "A"), market.stages(order)) == ({"available": 9}, ["A cancelled"])


def test_what_leaves_although_it_was_cancelled_is_gone_and_somebody_is_told(market: Market) -> None:
    order = sourced(market, ("BOLT", 5), released=True)
    market.cancel("1")
    assert market.report("1", "shipped") is Outcome.BOOKED
    assert (market.at("BOLT", "A"), market.stages(order)) == ({"available": 4}, ["A shipped"])
    assert (parts(market, order), market.incidents()) == ({"cancelled": 5}, ["sent_beyond"])


# --- held


def test_a_hold_blocks_what_it_names_and_the_stock_stays_reserved(market: Market) -> None:
    order = sourced(market, ("BOLT", 5))
    market.hold("1", "release")
    market.release()
    assert (market.stages(order), market.at("BOLT", "A")) == (["A planned"], {"available": 4, "reserved": 5})
    market.hold("1", "release", code="payment")
    market.lift("1")
    market.release()
    assert market.stages(order) == ["A planned"]
    market.lift("1", "payment")
    market.expire()
    assert market.stages(order) == ["A released"]
    assert why_not(market.lift("1")) == "hold_unknown code: order '1' has no hold 'fraud'"


@pytest.mark.parametrize("decided", [False, True])
def test_an_order_held_from_sourcing_waits_until_it_is_let_go(market: Market, decided: bool) -> None:
    order = market.order("1", ("BOLT", 5))
    if decided:
        market.work()
    market.hold("1", "sourcing")
    market.count("BOLT", "A", 9)
    assert (market.work(), parts(market, order)) == (0, {"backordered" if decided else "open": 5})
    assert market.findings() == []
    market.lift("1")
    assert (market.work(), parts(market, order)) == (1, {"reserved": 5})


def test_what_breaks_of_an_order_held_from_sourcing_waits_too(market: Market) -> None:
    order = sourced(market, ("BOLT", 5), there=5)
    market.hold("1", "sourcing", "release")
    market.count("BOLT", "A", 3)
    market.count("BOLT", "B", 3)
    assert (market.work(), parts(market, order)) == (0, {"reserved": 3, "backordered": 2})
    market.lift("1")
    market.work()
    assert parts(market, order) == {"reserved": 5}


# --- amended


def test_more_is_sourced_after_one_has_left(market: Market) -> None:
    order = sourced(market, ("BOLT", 3), released=True)
    market.report("1", "shipped", ("BOLT", 1))
    assert market.amend("1", (1, 5)) == Changed(order, "1", (), ((1, 2),))
    assert parts(market, order) == {"released": 2, "shipped": 1, "backordered": 2}
    market.work()
    assert parts(market, order) == {"released": 2, "shipped": 1, "reserved": 2}
    assert market.record(order).order.lines[0].quantity == 5


def test_more_of_an_order_that_has_left_whole(market: Market) -> None:
    order = sourced(market, ("BOLT", 3), released=True)
    market.report("1", "shipped")
    market.amend("1", (1, 4), add=(OrderLine(item="NUT", quantity="2"),))
    market.count("NUT", "B", 2)
    market.work()
    assert (parts(market, order), parts(market, order, 2)) == ({"shipped": 3, "reserved": 1}, {"reserved": 2})


def test_less_is_cancelled_and_more_again_is_more(market: Market) -> None:
    order = sourced(market, ("BOLT", 5))
    market.amend("1", (1, 3))
    market.amend("1", (1, 4))
    market.work()
    assert parts(market, order) == {"reserved": 4, "cancelled": 2}
    assert market.record(order).lines[0].ordered == 6


def test_an_order_that_nobody_has_decided_yet_is_amended(market: Market) -> None:
    market.count("BOLT", "A", 9)
    order = market.order("1", ("BOLT", 2))
    market.amend("1", (1, 4), service_level="express")
    assert (market.work(), parts(market, order)) == (1, {"reserved": 4})
    assert (market.record(order).order.service_level, market.record(order).attempt) == ("express", 1)


def test_another_item_takes_the_place_of_what_can_be_given_up(market: Market) -> None:
    order = sourced(market, ("BOLT", 5), released=True)
    market.report("1", "shipped", ("BOLT", 1))
    market.count("NUT", "A", 9)
    market.amend("1", (1, 4, "NUT"))
    market.work()
    assert (parts(market, order), parts(market, order, 2)) == ({"shipped": 1, "cancelled": 4}, {"reserved": 4})


def test_another_destination_is_planned_anew_but_for_what_is_picked(market: Market) -> None:
    order = sourced(market, ("BOLT", 5), released=True)
    market.under(_other_zone())
    market.amend("1", ship_to=Address(country="XY", postcode="1", name="Ada", street="Elsewhere 1"))
    assert (market.record(order).order.zone, parts(market, order)) == ("Y", {"backordered": 5})
    assert market.record(order).order.contact is not None
    market.work()
    assert (parts(market, order), market.stages(order)) == ({"reserved": 5}, ["A cancelled", "A planned"])
    library = Kept(market.desk.atlas)
    assert [recall(market.books, library, order, n)[0].order.zone for n in (2,)] == ["Y"]
    market.release()
    market.report("1", "picked", shipment=100_001)
    refused = why_not(market.amend("1", zone="Z"))
    assert refused == "too_late order: shipment 100001 from A is picked already"


def test_a_decision_made_before_a_change_is_still_explained(market: Market) -> None:
    order = sourced(market, ("BOLT", 5))
    market.amend("1", (1, 7), service_level="express")
    market.work()
    library = Kept(market.desk.atlas)
    both = [recall(market.books, library, order, attempt)[0] for attempt in (1, 2)]
    assert [(each.same, each.order.service_level, each.order.lines[0].quantity) for each in both] == [
        (True, "standard", 5), (True, "express", 7)]  # fmt: skip


def test_the_first_message_again_is_still_the_same_order(market: Market) -> None:
    order = sourced(market, ("BOLT", 5))
    market.amend("1", (1, 7))
    assert market.order("1", ("BOLT", 5)) == order


def test_an_order_that_waits_for_a_wave_is_changed(market: Market) -> None:
    market.under(policy=_in_waves(market.policy))
    market.count("BOLT", "A", 9)
    orders = [market.order(number, ("BOLT", 3)) for number in "123"]
    market.cancel("1", (1, 1))
    market.amend("2", (1, 4))
    market.hold("3", "sourcing")
    assert [market.state(order) for order in orders] == ["waiting"] * 3
    run_wave(market.books, market.desk, 0, market.later(seconds=1))
    market.work()
    assert [parts(market, order) for order in orders] == [
        {"reserved": 2, "cancelled": 1}, {"reserved": 4}, {"open": 3}]  # fmt: skip
    market.lift("3")
    run_wave(market.books, market.desk, 0, market.later(seconds=1))
    assert parts(market, orders[2]) == {"reserved": 3}


@pytest.mark.parametrize(
    ("lines", "more", "reason"),
    [
        (((2, 1),), {}, "change_invalid lines[0].no: the order has no line 2"),
        (((1, 5),), {}, "change_invalid : it changes nothing"),
        (((1, 2, "GHOST"),), {}, "change_invalid lines[0].item: there is no item 'GHOST'"),
        ((), {"zone": "nowhere"}, "change_invalid zone: there is no zone 'nowhere'"),
        ((), {"add": (OrderLine(item="GHOST", quantity="1"),)}, "change_invalid add[0].item: there is no item 'GHOST'"),
        ((), {"service_level": "magic"}, "change_invalid service_level: the policy has no 'magic'"),
    ],
)
def test_bad_amendments_change_nothing(
    market: Market, lines: tuple[tuple[int, int], ...], more: dict[str, object], reason: str
) -> None:
    order = sourced(market, ("BOLT", 5))
    before = market.record(order)
    assert why_not(market.amend("1", *lines, **more)).startswith(reason)
    assert market.record(order) == before


def test_a_refused_change_leaves_an_undecided_order_in_the_queue(market: Market) -> None:
    market.count("BOLT", "A", 9)
    order = market.order("1", ("BOLT", 5))
    assert isinstance(market.cancel("1", (1, 6)), Rejected)
    assert isinstance(market.amend("1", (1, 5)), Rejected)
    assert (market.work(), parts(market, order)) == (1, {"reserved": 5})


def _other_zone() -> list[tuple[Section, Zone | Lane]]:
    """A zone Y with a lane from A."""
    zone = Zone("Y", country="XY", postcode_prefixes=("1",))
    return [(Section.ZONES, zone), (Section.LANES, Lane("A-Y", "A", "Y", "ring-1", distance_km=100))]


def _in_waves(before: SourcingPolicy) -> SourcingPolicy:
    levels = {code: replace(level, plan=PlanAt.WAVE) for code, level in before.service_levels.items()}
    return replace(policy(), version=before.version, service_levels=levels)
