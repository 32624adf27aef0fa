"""Stories of inbound stock: expected, pledged, arrived, late, short, cancelled, and told in any order."""

from __future__ import annotations

from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolwise.core.ledger import Account, PositionKey, Receipt, replay
from poolwise.core.messages import ReceiptNotice
from poolwise.core.orders import Progress
from poolwise.core.values import replace
from poolwise.flows.receipts import book_receipts
from poolwise.flows.stock import Outcome, book_movements
from poolwise.store.memory import MemoryBooks
from tests.flows.stockroom import NOW, at, balances, clerk, moved, order_of, queued, reserve

DUE = date(2026, 1, 20)
NOTICE = ReceiptNotice(reference="PO-1", item="A", node="N", pool="P", quantity="10", due_on=DUE, sequence=1)


def receive(books: MemoryBooks, *notices: ReceiptNotice, now=NOW) -> list[Outcome]:
    return [result.outcome for result in book_receipts(books, clerk(), notices, now)]


def expected(quantity: int = 10) -> MemoryBooks:
    books = MemoryBooks()
    receive(books, replace(NOTICE, quantity=str(quantity)), now=at(0))
    return books


def receipt(books: MemoryBooks) -> Receipt:
    with books.transaction() as transaction:
        (found,) = transaction.receipts_named([(PositionKey("A", "N", "P").id(), "PO-1")]).values()
        return found


def test_what_is_announced_is_expected():
    books = expected()
    assert balances(books) == {Account.EXPECTED: 10}
    assert (receipt(books).open, receipt(books).due_on) == (10, DUE)


def test_what_arrives_is_available_and_the_rest_is_still_expected():
    books = expected()
    assert receive(books, replace(NOTICE, arrived="4", sequence=2)) == [Outcome.BOOKED]
    assert balances(books) == {Account.EXPECTED: 6, Account.AVAILABLE: 4}
    assert receive(books, replace(NOTICE, arrived="10", sequence=3)) == [Outcome.BOOKED]
    assert balances(books) == {Account.AVAILABLE: 10}


def test_more_may_arrive_than_was_expected():
    books = expected()
    receive(books, replace(NOTICE, arrived="12", sequence=2))
    assert balances(books) == {Account.AVAILABLE: 12}
    assert receipt(books).quantity == 12


def test_what_arrives_serves_the_oldest_pledge_first():
    books = expected()
    old = reserve(books, "O1", [("A", 4, 4)], 1, receipt=receipt(books).id)
    new = reserve(books, "O2", [("A", 4, 4)], 2, receipt=receipt(books).id)
    receive(books, replace(NOTICE, arrived="6", sequence=2))
    assert balances(books) == {Account.PLEDGED: 2, Account.EXPECTED: 2, Account.RESERVED: 6}
    assert order_of(books, old).lines == (Progress(4, reserved=4),)
    assert order_of(books, new).lines == (Progress(4, reserved=2, pledged=2),)
    assert (receipt(books).pledged, receipt(books).arrived) == (2, 6)


def test_a_substitute_in_another_ratio_arrives_whole_or_is_sourced_again():
    books = expected()
    order = reserve(books, "O1", [("A", 8, 2)], 1, ordered=("B", 2), receipt=receipt(books).id)
    receive(books, replace(NOTICE, arrived="5", sequence=2))
    assert order_of(books, order).lines == (Progress(2, backordered=2),)
    assert queued(books) == [("at_once", "O1", ((1, 2),))]
    assert balances(books) == {Account.EXPECTED: 5, Account.AVAILABLE: 5}


def test_a_cancelled_receipt_breaks_its_pledges_and_may_be_revived():
    books = expected()
    order = reserve(books, "O1", [("A", 4, 4)], 1, receipt=receipt(books).id)
    receive(books, replace(NOTICE, arrived="1", cancelled=True, sequence=2))
    assert balances(books) == {Account.RESERVED: 1}
    assert order_of(books, order).lines == (Progress(4, reserved=1, backordered=3),)
    assert (receipt(books).open, receipt(books).cancelled) == (0, 9)
    receive(books, replace(NOTICE, arrived="1", sequence=3))
    assert balances(books) == {Account.RESERVED: 1, Account.EXPECTED: 9}


def test_a_smaller_receipt_breaks_the_newest_pledge_only_for_what_is_lacking():
    books = expected()
    old = reserve(books, "O1", [("A", 4, 4)], 1, receipt=receipt(books).id)
    new = reserve(books, "O2", [("A", 4, 4)], 2, receipt=receipt(books).id)
    receive(books, replace(NOTICE, quantity="5", sequence=2))
    assert order_of(books, old).lines == (Progress(4, pledged=4),)
    assert order_of(books, new).lines == (Progress(4, pledged=1, backordered=3),)
    assert balances(books) == {Account.PLEDGED: 5}


def test_a_receipt_may_slip():
    books = expected()
    receive(books, replace(NOTICE, due_on=date(2026, 1, 27), sequence=2))
    assert receipt(books).due_on == date(2026, 1, 27)


def test_what_arrives_pays_what_is_owed():
    books = expected()
    book_movements(books, clerk(), [moved("m1", "3", "available", "outside", at(1))], NOW)
    receive(books, replace(NOTICE, arrived="10", sequence=2))
    assert balances(books) == {Account.AVAILABLE: 7}


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"sequence": 0}, Outcome.STALE),
        ({"sequence": 1}, Outcome.DUPLICATE),
        ({"sequence": 2, "arrived": "2"}, Outcome.REFUSED),
        ({"sequence": 2, "arrived": "5"}, Outcome.BOOKED),
    ],
)
def test_a_notice_counts_only_when_it_is_newer_and_takes_nothing_back(change, outcome):
    books = MemoryBooks()
    receive(books, replace(NOTICE, arrived="3"))
    assert receive(books, replace(NOTICE, **change)) == [outcome]


def test_without_sequences_the_last_word_counts_and_the_same_again_changes_nothing():
    books, plain = MemoryBooks(), replace(NOTICE, sequence=0)
    assert receive(books, plain, plain) == [Outcome.STALE, Outcome.BOOKED]
    before = len(books.shelves.outbox)
    assert receive(books, plain) == [Outcome.UNCHANGED]
    assert len(books.shelves.outbox) == before
    assert receive(books, replace(plain, quantity="8")) == [Outcome.BOOKED]
    assert balances(books) == {Account.EXPECTED: 8}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"item": "X"}, "item"),
        ({"quantity": "-1"}, "quantity"),
        ({"arrived": "x"}, "arrived"),
        ({"quantity": "1" + "0" * 13}, "quantity"),
        ({"reference": ""}, "reference"),
    ],
)
def test_a_notice_that_makes_no_sense_is_refused_by_field(change, field):
    result = book_receipts(MemoryBooks(), clerk(), [replace(NOTICE, **change)], NOW)[0]
    assert (result.outcome, [fault.field for fault in result.faults]) == (Outcome.REFUSED, [field])


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.booleans()), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=3),
)
def test_whatever_a_supplier_says_the_laws_hold(words: list[tuple[int, int, bool]], pledges: list[tuple[int, bool]]):
    books = expected(8)
    owners: list[UUID] = []
    for number, (units, plain) in enumerate(pledges):
        if units <= receipt(books).open:
            line = units if plain else 1
            owners.append(
                reserve(
                    books, f"O{number}", [("A", units, line)], number, ordered=("B", line), receipt=receipt(books).id
                )
            )
    for sequence, (quantity, arrived, cancelled) in enumerate(words, start=2):
        told = replace(NOTICE, quantity=str(quantity), arrived=str(arrived), cancelled=cancelled, sequence=sequence)
        receive(books, told, now=at(sequence))
        found, held = receipt(books), balances(books)
        assert held.get(Account.EXPECTED, 0) == found.open
        assert held.get(Account.PLEDGED, 0) == found.pledged
        open_ = [r for r in books.shelves.reservations.values() if r.open]
        assert sum(r.open for r in open_ if r.receipt) == found.pledged
        assert sum(r.open for r in open_ if not r.receipt) == held.get(Account.RESERVED, 0)
        assert held.get(Account.AVAILABLE, 0) + held.get(Account.RESERVED, 0) == found.arrived
        for owner in owners:
            lines = [r for r in open_ if r.owner == owner]
            progress = order_of(books, owner).lines[0]
            assert sum(r.line_quantity * r.open // r.quantity for r in lines if r.receipt) == progress.pledged
            assert sum(r.line_quantity * r.open // r.quantity for r in lines if not r.receipt) == progress.reserved
    for id_, position in books.shelves.positions.items():
        assert replay(position, [row.movement for row in books.shelves.journal[id_]]).balances == position.balances
