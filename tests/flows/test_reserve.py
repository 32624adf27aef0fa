"""Stories of baskets: set aside, freed, expired, or part of an order at last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

import pytest

from poolwise.core.edition.rows import CapacityRow, Section
from poolwise.core.messages import StockMovement
from poolwise.core.network import CapacityUnit, Slot
from poolwise.core.values import Conflict, KeyTaken, replace
from poolwise.flows.freeing import GivenBack
from poolwise.flows.intake import Accepted, Rejected
from poolwise.flows.ports import Answer, Queue
from poolwise.flows.reserve import Reserved, free, reserve
from poolwise.flows.stock import book_movements
from poolwise.flows.wave import run_wave
from poolwise.store.locking import RowLocks
from tests.conftest import Database
from tests.flows.market import Market, basket_of, in_memory, on_postgres


def test_a_basket_is_set_aside(market: Market) -> None:
    market.count("BOLT", "A", 10)
    basket = market.basket(("BOLT", 4))
    assert (market.held(basket), market.at("BOLT", "A")) == ([("A", 4)], {"available": 6, "reserved": 4})


def test_a_basket_that_is_freed_gives_everything_back(market: Market) -> None:
    market.count("BOLT", "A", 10)
    basket = market.basket(("BOLT", 4))
    assert (market.free(basket), market.free(basket)) == (4, 0)
    assert market.at("BOLT", "A") == {"available": 10}
    assert market.taken("A", market.now.date()) == 0


def test_a_basket_is_given_back_though_a_lock_was_lost(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    market.count("BOLT", "A", 10)
    basket = market.basket(("BOLT", 4))
    real, lost = GivenBack.record, []

    def record(given: GivenBack, *args: object) -> None:
        real(given, *args)
        if not lost:
            lost.append(basket)
            raise Conflict("deadlock")

    monkeypatch.setattr(GivenBack, "record", record)
    assert (market.free(basket), market.at("BOLT", "A")) == (4, {"available": 10})


def test_a_request_that_has_an_answer_is_not_tried_again(market: Market) -> None:
    """Somebody else was first with the very same request: whoever tries on finds the key taken each time."""
    market.count("BOLT", "A", 10)
    tried: list[object] = []

    def kept(outcome: object) -> Answer:
        tried.append(outcome)
        return Answer("shop", "key", b"", 201, "")

    def move(id_: str) -> None:
        moved = StockMovement(
            id=id_, item="BOLT", node="A", pool="P", quantity="1", source="available", target="blocked", at=market.now
        )
        book_movements(market.books, market.clerk, [moved], market.now, answer=kept)

    move("first")
    with pytest.raises(KeyTaken):
        move("again")
    asked = basket_of(("BOLT", 1), expires_in_seconds=60)
    with pytest.raises(KeyTaken):
        reserve(market.books, market.desk, market.counter, asked, market.now, kept)
    with pytest.raises(KeyTaken):
        free(market.books, market.desk, market.basket(("BOLT", 2)), market.now, kept(None))
    assert (len(tried), market.at("BOLT", "A")) == (4, {"available": 7, "blocked": 1, "reserved": 2})


def test_what_is_forgotten_of_a_position_while_it_is_read_is_read_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who made it first is rolled back just now, another makes it: that is a lost race, and no fault of ours."""
    real, forgotten = RowLocks.positions, []

    def positions(self: RowLocks, cells: Sequence[int], ids: Sequence[int]) -> object:
        found = real(self, cells, ids)
        if not forgotten:
            forgotten.extend(ids)
            market.books._places.forget(ids)
        return found

    with on_postgres(database) as market:
        market.count("BOLT", "A", 5)
        monkeypatch.setattr(RowLocks, "positions", positions)
        market.count("BOLT", "A", 7)
        assert (len(forgotten), market.at("BOLT", "A")) == (1, {"available": 7})


def test_a_basket_expires(market: Market) -> None:
    market.count("BOLT", "A", 10)
    basket = market.basket(("BOLT", 4), seconds=60)
    market.later(seconds=59)
    assert market.expire() == 0
    market.later(seconds=2)
    assert (market.expire(), market.held(basket), market.state(basket)) == (1, [], "cancelled")
    assert market.at("BOLT", "A") == {"available": 10}


def test_a_basket_that_was_freed_does_not_expire(market: Market) -> None:
    market.count("BOLT", "A", 10)
    market.free(market.basket(("BOLT", 4), seconds=60))
    market.later(seconds=90)
    assert market.expire() == 0
    assert market.at("BOLT", "A") == {"available": 10}


def test_what_a_basket_gives_back_wakes_who_waits_for_it(market: Market) -> None:
    market.count("BOLT", "A", 4)
    basket = market.basket(("BOLT", 4), seconds=60)
    order = market.order("1", ("BOLT", 3))
    market.work()
    assert market.waiting(Queue.STOCK) == ["1"]
    market.free(basket)
    market.work()
    assert (market.state(order), market.held(order)) == ("sourced", [("A", 3)])


def test_a_basket_that_expires_wakes_who_waits_for_it(market: Market) -> None:
    market.count("BOLT", "A", 4)
    market.basket(("BOLT", 4), seconds=60)
    order = market.order("1", ("BOLT", 4))
    market.work()
    market.later(seconds=61)
    market.expire()
    market.work()
    assert market.state(order) == "sourced"


def test_a_basket_that_cannot_be_whole_is_refused_with_every_line_that_lacks(market: Market) -> None:
    market.count("BOLT", "A", 2)
    found = market.set_aside(("BOLT", 3), ("NUT", 1))
    assert isinstance(found, Rejected)
    assert (found.code, [fault.field for fault in found.problems]) == ("not_available", ["lines[0]", "lines[1]"])
    assert market.at("BOLT", "A") == {"available": 2}


def test_a_basket_may_be_set_aside_in_part(market: Market) -> None:
    market.count("BOLT", "A", 2)
    basket = market.basket(("BOLT", 2), ("NUT", 1), ship_complete=False)
    assert market.held(basket) == [("A", 2)]


def test_an_order_takes_its_basket_over(market: Market) -> None:
    market.count("BOLT", "A", 4)
    basket = market.basket(("BOLT", 4))
    order = market.order("1", ("BOLT", 4), reservation=basket)
    assert (market.state(order), market.held(order), market.held(basket)) == ("sourced", [("A", 4)], [])
    market.later(hours=1)
    market.expire()
    assert market.at("BOLT", "A") == {"reserved": 4}


def test_an_order_for_less_keeps_the_very_units_that_were_set_aside(market: Market) -> None:
    """Somebody waits for what is freed, and may have the rest, not what the order named."""
    market.count("BOLT", "A", 3)
    market.count("BOLT", "B", 3)
    basket = market.basket(("BOLT", 5))
    rival = market.order("rival", ("BOLT", 6), ship_complete=False)
    market.work()
    assert market.held(rival) == [("B", 1)]
    order = market.order("1", ("BOLT", 4), reservation=basket)
    assert (market.state(order), market.held(order), market.held(basket)) == ("sourced", [("A", 3), ("B", 1)], [])
    market.work()
    assert (market.reserved(order), market.reserved(rival)) == (4, 2)
    assert (market.at("BOLT", "A"), market.at("BOLT", "B")) == ({"reserved": 3}, {"reserved": 3})


def test_an_order_for_less_of_a_pledge_keeps_that_much_of_the_receipt(market: Market) -> None:
    market.expect("BOLT", "A", 5)
    order = market.order("1", ("BOLT", 2), reservation=market.basket(("BOLT", 4)))
    assert (market.held(order), market.at("BOLT", "A")) == ([("A", 2)], {"expected": 3, "pledged": 2})
    assert (market.record(order).lines[0].pledged, market.state(order)) == (2, "sourced")


KILOGRAM = 1_000_000_000
SLOTS = (CapacityUnit.UNITS, CapacityUnit.WEIGHT, CapacityUnit.LINES, CapacityUnit.ORDERS)


@pytest.fixture
def counting(market: Market) -> Market:
    """A market in which a day of node A is limited in units, grams, lines and orders."""
    market.under([(Section.CAPACITIES, CapacityRow("A", n, Slot(unit, 9_000))) for n, unit in enumerate(SLOTS)])
    return market


def booked(market: Market, order: UUID) -> tuple[int, list[int]]:
    """The weight of an order's only shipment, and what it has booked of each slot."""
    with market.books.transaction() as transaction:
        (record,) = transaction.shipments(order)
    return record.shipment.weight_ug, [booking.quantity for booking in record.shipment.bookings]


def test_what_an_order_does_not_take_of_a_shipment_weighs_nothing_and_gives_its_room_back(counting: Market) -> None:
    counting.count("BOLT", "A", 9)
    counting.count("NUT", "A", 9)
    basket = counting.basket(("BOLT", 5), ("NUT", 2))
    assert booked(counting, basket) == (7 * KILOGRAM // 2, [7, 3_500, 2, 1])
    order = counting.order("1", ("BOLT", 2), reservation=basket)
    assert booked(counting, order) == (KILOGRAM, [2, 1_000, 1, 1])
    assert counting.taken("A", counting.now.date()) == 2 + 1_000 + 1 + 1


def test_parts_of_kits_that_an_order_does_not_take_weigh_nothing(counting: Market) -> None:
    counting.count("BOLT", "A", 3)
    counting.count("NUT", "A", 6)
    order = counting.order("1", ("KIT", 1), reservation=counting.basket(("KIT", 3)))
    assert booked(counting, order) == (3 * KILOGRAM // 2, [3, 1_500, 1, 1])


def test_room_that_an_order_does_not_take_over_serves_who_waits_for_it(market: Market) -> None:
    room = (Section.CAPACITIES, CapacityRow("A", 0, Slot(CapacityUnit.UNITS, 5)))
    market.under([room], replace(market.policy, horizon_days=0))
    market.count("BOLT", "A", 9)
    basket = market.basket(("BOLT", 5))
    rival = market.order("rival", ("BOLT", 3))
    market.work()
    assert market.state(rival) == "backordered"
    market.order("1", ("BOLT", 2), reservation=basket)
    market.work()
    assert (market.state(rival), market.taken("A", market.now.date())) == ("sourced", 5)


def test_an_order_for_fewer_kits_keeps_their_parts_in_proportion(market: Market) -> None:
    market.count("BOLT", "A", 3)
    market.count("NUT", "A", 6)
    order = market.order("1", ("KIT", 2), reservation=market.basket(("KIT", 3)))
    assert (market.state(order), sorted(units for _, units in market.held(order))) == ("sourced", [2, 4])
    assert (market.at("BOLT", "A"), market.at("NUT", "A")) == (
        {"available": 1, "reserved": 2},
        {"available": 2, "reserved": 4},
    )


def test_lines_of_an_order_share_the_lines_of_its_basket(market: Market) -> None:
    """Four and three of a basket serve five and one: nothing is sourced afresh, one is freed."""
    market.count("BOLT", "A", 7)
    basket = market.basket(("BOLT", 4), ("BOLT", 3))
    order = market.order("1", ("BOLT", 5), ("BOLT", 1), reservation=basket)
    assert (market.state(order), market.waiting()) == ("sourced", [])
    assert (market.reserved(order), market.at("BOLT", "A")) == (6, {"available": 1, "reserved": 6})


def test_an_order_for_more_keeps_its_basket_and_is_sourced_for_the_rest(market: Market) -> None:
    market.count("BOLT", "A", 3)
    basket = market.basket(("BOLT", 3))
    market.count("BOLT", "C", 5)
    order = market.order("1", ("BOLT", 5), reservation=basket)
    market.work()
    assert (market.state(order), market.held(order)) == ("sourced", [("A", 3), ("C", 2)])


def test_an_order_that_waits_for_a_wave_keeps_its_basket_and_is_planned_for_the_rest(market: Market) -> None:
    """Found by the simulator: such an order was dropped by the wave and never planned."""
    market.count("BOLT", "A", 9)
    market.count("NUT", "B", 9)
    basket = market.basket(("BOLT", 2))
    order = market.order("1", ("BOLT", 3), ("NUT", 1), reservation=basket, service_level="economy")
    wave = run_wave(market.books, market.desk, 0, market.later(seconds=1))
    assert (wave.claimed, wave.planned, wave.moved) == (1, 1, 0)
    assert market.state(order) == "sourced"
    assert sorted(market.held(order)) == [("A", 1), ("A", 2), ("B", 1)]
    assert market.findings() == []


def test_an_order_that_loses_what_it_took_over_says_why_it_waits(market: Market) -> None:
    """Found by the simulator: the check missed a decision, though the broken reservation's incident says why."""
    market.count("BOLT", "A", 2)
    order = market.order("1", ("BOLT", 2), reservation=market.basket(("BOLT", 2)))
    market.count("BOLT", "A", 0)
    assert market.state(order) == "backordered"
    assert market.findings() == []


def test_a_basket_is_part_of_one_order_only(market: Market) -> None:
    market.count("BOLT", "A", 8)
    basket = market.basket(("BOLT", 4))
    assert isinstance(market.send("1", ("BOLT", 4), reservation=basket), Accepted)
    second = market.send("2", ("BOLT", 4), reservation=basket)
    assert isinstance(second, Rejected)
    assert [fault.field for fault in second.problems] == ["reservation"]


def test_a_basket_whose_stock_is_gone_holds_what_is_left(market: Market) -> None:
    market.count("BOLT", "A", 4)
    basket = market.basket(("BOLT", 4))
    market.count("BOLT", "A", 1)
    assert market.held(basket) == [("A", 1)]
    assert market.free(basket) == 1


def test_a_basket_of_which_nothing_is_left_is_over(market: Market) -> None:
    market.count("BOLT", "A", 4)
    basket = market.basket(("BOLT", 4), seconds=60)
    market.count("BOLT", "A", 0)
    assert (market.state(basket), market.free(basket)) == ("cancelled", 0)
    market.later(seconds=90)
    market.expire()
    assert market.at("BOLT", "A") == {}


def test_a_basket_may_pledge_a_receipt(market: Market) -> None:
    market.expect("BOLT", "A", 5)
    basket = market.basket(("BOLT", 2))
    assert market.at("BOLT", "A") == {"expected": 3, "pledged": 2}
    market.free(basket)
    assert market.at("BOLT", "A") == {"expected": 5}


def test_a_basket_is_refused_with_all_reasons(market: Market) -> None:
    found = market.set_aside(("BOLT", 0), ("GHOST", 1), seconds=0)
    assert isinstance(found, Rejected)
    assert [fault.field for fault in found.problems] == ["lines[0].quantity", "lines[1].item", "expires_in_seconds"]


@pytest.fixture(params=["memory", "postgres"])
def busy(request: pytest.FixtureRequest) -> Iterator[Market]:
    """A market whose nodes send one order a day, for two days."""
    if request.param == "memory":
        yield in_memory(1, horizon_days=1)
        return
    with on_postgres(request.getfixturevalue("database"), 1, horizon_days=1) as found:
        yield found


@pytest.mark.parametrize("ending", ["freed", "expired"])
def test_room_that_a_basket_gives_back_serves_who_waits_for_it(busy: Market, ending: str) -> None:
    """Node A has plenty of both items, and no room; what comes back is of the other item."""
    busy.count("BOLT", "A", 9)
    busy.count("NUT", "A", 9)
    baskets = [busy.basket(("BOLT", 1), seconds=60)]
    while isinstance(found := busy.set_aside(("BOLT", 1), seconds=60), Reserved):
        baskets.append(found.reservation)
    orders = [busy.order(str(number), ("NUT", 1)) for number in range(len(baskets) + 1)]
    busy.work()
    assert {busy.state(order) for order in orders} == {"backordered"}
    if ending == "freed":
        for basket in baskets:
            busy.free(basket)
    else:
        busy.later(seconds=61)
        busy.expire()
    busy.work()
    assert [busy.state(order) for order in orders] == ["sourced"] * len(baskets) + ["backordered"]
    assert busy.findings() == []
