"""Stories of counts and movements: what is booked, what breaks, what wakes, what is refused."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from uuid import UUID

import pytest

from poolwise.core.counting import debt_key
from poolwise.core.ledger import Account, PositionKey
from poolwise.core.messages import CountBasis, ReceiptNotice, StockCount
from poolwise.core.orders import OrderState, Progress
from poolwise.core.sourcing.plan import Booking, PlannedShipment
from poolwise.core.values import Conflict
from poolwise.flows.ports import Effects, Queue, Todo
from poolwise.flows.receipts import book_receipts
from poolwise.flows.stock import Outcome, book_counts, book_movements
from poolwise.store.memory import MemoryBooks
from tests.flows.market import Market
from tests.flows.stockroom import NOW, at, balances, clerk, counted, moved, order_of, queued, reserve


def count(books: MemoryBooks, *counts, now=NOW) -> list[Outcome]:
    return [result.outcome for result in book_counts(books, clerk(), counts, now)]


def move(books: MemoryBooks, *movements, now=NOW) -> list[Outcome]:
    return [result.outcome for result in book_movements(books, clerk(), movements, now)]


def stocked(quantity: int, item: str = "A") -> MemoryBooks:
    """Books in which that much of an item was counted at node N."""
    books = MemoryBooks()
    count(books, counted(str(quantity), at(0), item), now=at(0))
    return books


def test_a_count_is_booked_as_a_movement_from_outside():
    books = stocked(10)
    assert balances(books) == {Account.AVAILABLE: 10}


def test_what_happened_after_the_count_survives_it():
    books = stocked(10)
    move(books, moved("m1", "3", "available", "outside", at(20)), now=at(20))
    assert count(books, counted("8", at(10)), now=at(30)) == [Outcome.BOOKED]
    assert balances(books) == {Account.AVAILABLE: 5}


def test_a_movement_that_the_count_has_seen_is_journaled_and_put_right():
    books = stocked(10)
    count(books, counted("7", at(10)), now=at(10))
    assert move(books, moved("m1", "3", "available", "outside", at(5))) == [Outcome.BOOKED]
    assert balances(books) == {Account.AVAILABLE: 7}


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ((at(5), 7), (at(9), 6), Outcome.STALE),
        ((at(5), 7), (at(5), 7), Outcome.DUPLICATE),
        ((at(5), 7), (at(4), 8), Outcome.BOOKED),
        ((at(5), None), (at(4), None), Outcome.STALE),
        ((at(5), None), (at(5), None), Outcome.DUPLICATE),
        ((at(5), 7), (at(4), None), Outcome.STALE),
        ((at(5), 7), (at(6), None), Outcome.BOOKED),
    ],
)
def test_a_count_is_booked_only_when_it_is_newer(first, second, outcome):
    for books, together in ((MemoryBooks(), False), (MemoryBooks(), True)):
        counts = [counted("5", first[0], sequence=first[1]), counted("9", second[0], sequence=second[1])]
        outcomes = count(books, *counts) if together else [*count(books, counts[0]), *count(books, counts[1])]
        assert outcomes[1] == outcome
        assert balances(books) == {Account.AVAILABLE: 9 if outcome is Outcome.BOOKED else 5}


def test_an_older_sequence_does_not_come_back_after_a_count_without_one():
    books = MemoryBooks()
    count(books, counted("5", at(1), sequence=7))
    count(books, counted("6", at(2)))
    assert count(books, counted("4", at(3), sequence=6)) == [Outcome.STALE]


def test_a_count_may_say_what_it_includes():
    books = stocked(10)
    reserve(books, "O1", [("A", 4, 4)], minute=1)
    move(books, moved("m1", "1", "available", "blocked", at(2)), now=at(2))
    assert count(books, counted("5", at(3), basis=CountBasis.AVAILABLE)) == [Outcome.UNCHANGED]
    assert count(books, counted("9", at(4), basis=CountBasis.WITH_RESERVED)) == [Outcome.UNCHANGED]
    assert count(books, counted("10", at(5), basis=CountBasis.ON_HAND)) == [Outcome.UNCHANGED]


def test_missing_units_leave_available_first_then_the_newest_reservation_breaks():
    books = stocked(10)
    old, new = reserve(books, "O1", [("A", 4, 4)], minute=1), reserve(books, "O2", [("A", 4, 4)], minute=2)
    count(books, counted("5", at(3)))
    assert balances(books) == {Account.RESERVED: 5}
    assert order_of(books, old).lines == (Progress(4, reserved=4),)
    assert order_of(books, new).lines == (Progress(4, reserved=1, backordered=3),)
    assert order_of(books, new).state is OrderState.PARTIAL
    assert queued(books) == [("at_once", "O2", ((1, 3),))]
    assert [(incident.kind, incident.order) for incident in books.shelves.incidents.values()] == [
        ("reservation_broken", new)
    ]


def test_the_parts_of_a_kit_break_together_and_its_shipment_gives_capacity_back():
    books = stocked(3)
    count(books, counted("6", at(0), "B"), now=at(0))
    shipment = PlannedShipment(
        1, "N", ("L",), date(2026, 1, 12), date(2026, 1, 13), 1, 1, (Booking("N", date(2026, 1, 12), 0, 1),)
    )
    order = reserve(books, "O1", [("A", 3, 3), ("B", 6, 0)], 1, ordered=("KIT", 3), shipment=shipment)
    count(books, counted("5", at(2), "B"))
    assert order_of(books, order).lines == (Progress(3, backordered=3),)
    assert balances(books) == {Account.AVAILABLE: 3}
    assert balances(books, "B") == {Account.AVAILABLE: 5}
    assert not books.shelves.shipments
    assert [taken for slots in books.shelves.capacity.values() for taken, _ in slots.values()] == [0]


def test_stock_that_left_before_it_came_is_owed():
    books = MemoryBooks()
    assert move(books, moved("m1", "4", "available", "outside", at(2)), now=at(2)) == [Outcome.BOOKED]
    assert balances(books) == {}
    move(books, moved("m2", "6", "outside", "available", at(1)), now=at(3))
    assert balances(books) == {Account.AVAILABLE: 2}
    owed = debt_key(PositionKey("A", "N", "P"), Account.AVAILABLE)
    assert balances(books, lot=owed.lot) == {}


def test_a_transfer_travels_through_the_taker():
    books = stocked(5)
    move(books, moved("m1", "2", "available", "in_transit", at(1), to_node="M"))
    assert balances(books, node="M") == {Account.IN_TRANSIT: 2}
    arrival = moved("m2", "2", "in_transit", "available", at(2))
    assert balances(books) == {Account.AVAILABLE: 3}
    book_movements(
        books, clerk(), [type(arrival)(**{f: getattr(arrival, f) for f in arrival.__slots__} | {"node": "M"})], NOW
    )
    assert balances(books, node="M") == {Account.AVAILABLE: 2}


def wait(books: MemoryBooks, number: str, item: str, minute: float) -> UUID:
    """An order that waits for stock of an item."""
    order = reserve(stocked(9, item), number, [(item, 1, 1)], minute)
    record = order_of_template(number, item, minute, order)
    with books.transaction() as transaction:
        transaction.record(
            Effects(at=at(minute), todo=[Todo(0, Queue.STOCK, 0, at(minute), record, ((1, 1),), attempt=2)])
        )
    return order


def order_of_template(number: str, item: str, minute: float, order: UUID):
    books = stocked(9, item)
    reserve(books, number, [(item, 1, 1)], minute)
    return order_of(books, order).order


@pytest.mark.parametrize("waits_for", ["A", "B", "KIT"])
def test_when_stock_rises_the_demand_it_could_serve_is_woken(waits_for: str):
    books = MemoryBooks()
    wait(books, "O1", waits_for, 0)
    count(books, counted("1", at(1), "A"))
    assert queued(books) == [("at_once", "O1", ((1, 1),))]


def test_demand_for_another_item_sleeps_on():
    books = MemoryBooks()
    wait(books, "O1", "G", 0)
    count(books, counted("1", at(1), "A"))
    assert queued(books) == [("stock", "O1", ((1, 1),))]


def test_events_tell_every_movement_and_what_sold_out_or_came_back():
    books = stocked(2)
    count(books, counted("1", at(1)))
    count(books, counted("0", at(2)))
    types = [event.type for _, event in books.shelves.outbox]
    assert types == ["stock.moved", "stock.available", "stock.moved", "stock.moved", "stock.exhausted"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"item": "X"}, "item"),
        ({"node": "X"}, "node"),
        ({"pool": "X"}, "pool"),
        ({"quantity": "1.5"}, "quantity"),
        ({"quantity": "-1"}, "quantity"),
        ({"quantity": "NaN"}, "quantity"),
        ({"quantity": "9" * 15}, "quantity"),
        ({"quantity": ""}, "quantity"),
        ({"lot": "~available"}, "lot"),
        ({"as_of": NOW + timedelta(days=1)}, "as_of"),
    ],
)
def test_a_count_that_makes_no_sense_is_refused_by_field_and_the_others_are_booked(change, field):
    books = MemoryBooks()
    good = counted("1", at(1), "G")
    bad = type(good)(**{name: getattr(good, name) for name in good.__slots__} | {"item": "A"} | change)
    results = book_counts(books, clerk(), [bad, good], NOW)
    assert [fault.field for fault in results[0].faults] == [field]
    assert [result.outcome for result in results] == [Outcome.REFUSED, Outcome.BOOKED]
    assert balances(books, "G") == {Account.AVAILABLE: 1000}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"source": "reserved"}, "source"),
        ({"target": "expected"}, "target"),
        ({"target": "available"}, "target"),
        ({"to_node": "M"}, "to_node"),
        ({"quantity": "0"}, "quantity"),
        ({"id": ""}, "id"),
        ({"at": NOW + timedelta(days=1)}, "at"),
        ({"to_pool": "X", "target": "blocked"}, "pool"),
    ],
)
def test_a_movement_that_makes_no_sense_is_refused_by_field(change, field):
    good = moved("m", "1", "available", "outside", at(1))
    bad = type(good)(**{name: getattr(good, name) for name in good.__slots__} | change)
    result = book_movements(MemoryBooks(), clerk(), [bad], NOW)[0]
    assert (result.outcome, [fault.field for fault in result.faults]) == (Outcome.REFUSED, [field])


def test_an_item_may_be_named_by_its_gtin():
    books = MemoryBooks()
    count(books, counted("3", at(1), "4006381333931"))
    assert balances(books, "A") == {Account.AVAILABLE: 3}


def test_a_lost_race_is_run_again():
    books = stocked(3)
    failed = []

    def once(step: str) -> None:
        if step == "before_commit" and not failed:
            failed.append(step)
            raise Conflict("somebody was first")

    books._failpoint = once
    assert count(books, counted("4", at(5))) == [Outcome.BOOKED]
    assert balances(books) == {Account.AVAILABLE: 4}


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "1999-12-31T23:59:59+00:00"])
def test_nothing_is_told_of_before_the_year_2000(market: Market, at: str) -> None:
    long_ago = datetime.fromisoformat(at)
    asked = StockCount(item="BOLT", node="A", pool="P", quantity="1", as_of=long_ago)
    (counted,) = book_counts(market.books, market.clerk, [asked], market.now)
    expected = ReceiptNotice(
        reference="PO", item="BOLT", node="A", pool="P", quantity="2", due_on=market.now.date(), arrived="1",
        arrived_at=long_ago,
    )  # fmt: skip
    (told,) = book_receipts(market.books, market.clerk, [expected], market.now)
    faults = [*counted.faults, *told.faults]
    assert [(each.field, each.reason) for each in faults] == [
        ("as_of", "is before the year 2000"), ("arrived_at", "is before the year 2000")]  # fmt: skip
