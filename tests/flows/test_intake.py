"""Stories of intake: a message is an order or is refused with every reason; the same message is the same order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

import pytest

from poolwise.core.messages import Address, OrderLine
from poolwise.core.values import Conflict
from poolwise.flows.intake import Accepted, Outcome, Rejected, accept
from poolwise.flows.ports import Answer
from tests.flows.market import Market, message


def faults(outcome) -> list[str]:
    """The fields that are named, in order."""
    assert isinstance(outcome, Rejected), outcome
    return [fault.field for fault in outcome.problems]


def test_an_order_is_accepted_and_waits(market: Market) -> None:
    order = market.order("1", ("BOLT", 1))
    assert (market.state(order), market.waiting()) == ("received", ["1"])


def test_the_same_order_again_is_the_same_order(market: Market) -> None:
    first, second = market.send("1", ("BOLT", 1)), market.send("1", ("BOLT", 1))
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert (second.order, second.known, market.waiting()) == (first.order, True, ["1"])


def test_a_number_names_one_content_only(market: Market) -> None:
    market.order("1", ("BOLT", 1))
    second = market.send("1", ("BOLT", 2))
    assert isinstance(second, Rejected)
    assert (second.code, faults(second)) == ("number_taken", ["number"])


def test_a_number_twice_in_one_message_is_one_order(market: Market) -> None:
    twice = [message("1", ("BOLT", 1)), message("1", ("BOLT", 1)), message("1", ("BOLT", 2))]
    first, second, third = accept(market.books, market.counter, twice, market.later(seconds=1))
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert (second.order, second.known, faults(third)) == (first.order, True, ["number"])
    assert market.waiting() == ["1"]


def test_one_bad_order_of_many_leaves_the_others(market: Market) -> None:
    sent = [message("1", ("BOLT", 1)), message("2", ("GHOST", 1)), message("3", ("NUT", 1))]
    outcomes = accept(market.books, market.counter, sent, market.later(seconds=1))
    assert [isinstance(outcome, Accepted) for outcome in outcomes] == [True, False, True]
    assert market.waiting() == ["1", "3"]


def test_every_reason_is_given_at_once(market: Market) -> None:
    found = market.send(
        "1", ("GHOST", 1), ("BOLT", 0), ("NUT", -1), service_level="teleport", max_shipments=0, priority=1_000
    )
    assert faults(found) == [
        "lines[0].item", "lines[1].quantity", "lines[2].quantity", "service_level", "max_shipments", "priority",
    ]  # fmt: skip
    assert market.waiting() == []


@pytest.mark.parametrize("quantity", ["-1", "0", "NaN"])
def test_an_unknown_item_hides_no_other_fault_of_its_line(market: Market, quantity: str) -> None:
    line = OrderLine(item="GHOST", quantity=quantity, unit_price="-3")
    sent = type(message("1"))(channel="web", zone="Z", number="1", lines=(line,))
    (outcome,) = accept(market.books, market.counter, [sent], market.now)
    assert faults(outcome) == ["lines[0].item", "lines[0].quantity", "lines[0].unit_price"]


@pytest.mark.parametrize("quantity", ["", "NaN", "1e99", "-0", "0.5", "9" * 40, "one"])
def test_a_quantity_that_is_none_is_refused(market: Market, quantity: str) -> None:
    bad = message("1")
    sent = type(bad)(channel="web", zone="Z", number="1", lines=(OrderLine(item="BOLT", quantity=quantity),))
    (outcome,) = accept(market.books, market.counter, [sent], market.now)
    assert faults(outcome) == ["lines[0].quantity"]


@pytest.mark.parametrize("received", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-11-23T10:00:00"])
def test_an_instant_no_calendar_knows_is_refused(market: Market, received: str) -> None:
    outcome = market.send("1", ("BOLT", 1), received_at=datetime.fromisoformat(received))
    assert (faults(outcome), market.waiting()) == (["received_at"], [])


def test_an_order_needs_a_place_a_channel_and_a_line(market: Market) -> None:
    empty = type(message("1"))(channel="", lines=())
    (outcome,) = accept(market.books, market.counter, [empty], market.now)
    assert faults(outcome) == ["ship_to", "lines", "channel"]


def test_a_person_is_kept_in_the_contact_table_only(market: Market) -> None:
    """The check of law 17 looks through events, audit and orders at the end of the story."""
    sent = type(message("1"))(
        channel="web", zone="Z", number="1", lines=(OrderLine(item="BOLT", quantity="1"),),
        ship_to=Address(name="Ada", street="1 Engine Road", email="ada@example.org"),
    )  # fmt: skip
    (outcome,) = accept(market.books, market.counter, [sent], market.now)
    assert isinstance(outcome, Accepted)
    order = market.record(outcome.order).order
    assert order.contact is not None
    assert "Ada" not in repr(order)


def test_an_answer_on_record_commits_with_its_order(market: Market) -> None:
    answer = Answer("shop", "key-1", b"hash", 201, "1")

    def keep(_outcomes: Sequence[Outcome]) -> list[Answer]:
        return [answer]

    accept(market.books, market.counter, [message("1", ("BOLT", 1))], market.later(seconds=1), keep)
    with market.books.transaction() as transaction:
        assert transaction.answer("shop", "key-1") == answer
    with pytest.raises(Conflict):
        accept(
            market.books,
            market.counter,
            [message("2", ("BOLT", 1))],
            market.later(seconds=1),
            keep,
        )
    assert market.waiting() == ["1"]


def test_a_reservation_that_nobody_has_is_refused(market: Market) -> None:
    assert faults(market.send("1", ("BOLT", 1), reservation=uuid4())) == ["reservation"]
