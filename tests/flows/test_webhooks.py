"""What webhooks decide: when something is sent again, what an outcome means, who wants what."""

from __future__ import annotations

import ast
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import poolwise
from poolwise.core.messages import ReportKind
from poolwise.core.values import Refused
from poolwise.flows.ports import EVENT_TYPES, Event
from poolwise.flows.webhooks import (
    GIVEN_UP_AFTER,
    JITTER_BITS,
    LONGEST_HOLD,
    PAUSES,
    Claimed,
    DeliveryState,
    Receiver,
    Told,
    check_webhook,
    judge,
    pause_after,
    wants,
)

SOURCES = Path(poolwise.__file__).parent
NOW = datetime(2026, 1, 12, 10, tzinfo=UTC)
RECEIVER = Receiver(UUID(int=7), "https://hooks.example/", b"n" * 32, b"o" * 32, NOW)
CLAIMED = Claimed(RECEIVER, 0, 4711, 1, NOW, NOW, Event("order.sourced", "s", {}, 0))


def bits(value: int) -> object:
    return lambda count: value & ((1 << count) - 1)


@pytest.mark.parametrize(
    ("attempts", "text"),
    [
        (1, "5 s"),
        (2, "5 min"),
        (3, "30 min"),
        (4, "2 h"),
        (5, "5 h"),
        (6, "10 h"),
        (7, "14 h"),
        (8, "20 h"),
        (9, "24 h"),
    ],
)
def test_the_pauses_are_those_of_standard_webhooks(attempts: int, text: str) -> None:
    number, unit = text.split()
    seconds = int(number) * {"s": 1, "min": 60, "h": 3_600}[unit]
    assert pause_after(attempts, bits(0)) == timedelta(seconds=seconds)
    assert pause_after(10, bits(0)) is None


@given(st.integers(1, len(PAUSES)), st.integers(0, 2**JITTER_BITS - 1))
def test_jitter_adds_less_than_a_fifth(attempts: int, chance: int) -> None:
    pause = pause_after(attempts, bits(chance))
    assert PAUSES[attempts - 1] <= pause < PAUSES[attempts - 1] * 6 / 5


def test_jitter_spreads_over_the_whole_fifth() -> None:
    found = {pause_after(2, bits(chance << (JITTER_BITS - 3))) for chance in range(8)}
    assert len(found) == 8
    assert max(found) - min(found) > timedelta(minutes=5) / 6


def test_all_attempts_take_three_days_and_a_little_more() -> None:
    assert GIVEN_UP_AFTER < sum(PAUSES, timedelta(0)) < sum(PAUSES, timedelta(0)) * 6 / 5 < timedelta(days=4)


@pytest.mark.parametrize(
    ("status", "attempts", "state"),
    [
        *[(status, attempts, DeliveryState.DONE) for status in (200, 201, 204, 299) for attempts in (1, 10)],
        *[(status, 1, DeliveryState.WAITING) for status in (0, 301, 302, 304, 400, 404, 410, 429, 500, 503)],
        *[(status, 9, DeliveryState.WAITING) for status in (0, 302, 410, 503)],
        *[(status, 10, DeliveryState.FAILED) for status in (0, 302, 404, 429, 500)],
        (410, 10, DeliveryState.WAITING),
    ],
)
def test_an_outcome_by_status_and_attempt(status: int, attempts: int, state: DeliveryState) -> None:
    outcome = judge(replace(CLAIMED, attempts=attempts), Told(status), NOW, bits(0))
    assert (outcome.state, outcome.gone) == (state, status == 410)


@given(st.integers(1, 9), st.integers(0, LONGEST_HOLD // timedelta(seconds=1)))
def test_who_asks_for_time_gets_it_and_never_shortens_a_pause(attempts: int, seconds: int) -> None:
    hold = timedelta(seconds=seconds)
    outcome = judge(replace(CLAIMED, attempts=attempts), Told(429, "", hold), NOW, bits(0))
    assert outcome.due - NOW == max(hold, PAUSES[attempts - 1])


def test_what_the_feed_has_no_longer_fails_at_once() -> None:
    assert judge(replace(CLAIMED, event=None), Told(0), NOW, bits(0)).state is DeliveryState.FAILED


def test_the_former_secret_signs_until_its_instant() -> None:
    assert len(RECEIVER.secrets_at(NOW - timedelta(microseconds=1))) == 2
    assert RECEIVER.secrets_at(NOW) == (b"n" * 32,)
    assert "nnn" not in repr(RECEIVER)


@pytest.mark.parametrize(
    ("types", "type_", "wanted"),
    [
        ((), "order.sourced", True),
        (("order.sourced",), "order.sourced", True),
        (("order.sourced",), "order.sourced_again", False),
        (("order.*",), "order.sourced", True),
        (("order.*",), "order", False),
        (("order.*",), "orders.sourced", False),
        (("stock.moved", "order.*"), "order.changed", True),
        (("stock.moved",), "order.changed", False),
    ],
)
def test_who_wants_what(types: tuple[str, ...], type_: str, wanted: bool) -> None:
    assert wants(types, type_) is wanted


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("order.sourcd", "there are order.*, order.accepted, "),
        ("order", "there are order.*, order.accepted, "),
        ("orders.sourced", "there are order.sourced"),
        ("nope", "there are offer.*, order.*, purchase_order.*, "),
    ],
)
def test_a_name_of_no_event_is_refused_with_what_there_is_near_it(name: str, told: str) -> None:
    with pytest.raises(Refused) as refused:
        check_webhook("", [*EVENT_TYPES, name], lambda _: "")
    (fault,) = refused.value.problems
    assert fault.field == f"types[{len(EVENT_TYPES)}]"
    assert told in fault.reason


def test_every_type_that_is_written_in_the_sources_is_listed_and_no_other() -> None:
    nodes = [
        node
        for path in SOURCES.rglob("*.py")
        if path.name != "ports.py"
        for node in ast.walk(ast.parse(path.read_text()))
    ]
    made = [
        node.args[0]
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Event" and node.args
    ]
    begun = {str(each.values[0].value) for each in made if isinstance(each, ast.JoinedStr)}
    whole = {part.value for each in made for part in ast.walk(each) if isinstance(part, ast.Constant)} - begun
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    assert begun == {"order.", "reservation.", "return.", "shipment."}, "what goes on is in the feeds of the stories"
    assert whole <= set(EVENT_TYPES)
    assert {each for each in EVENT_TYPES if not each.startswith(tuple(begun))} <= texts
    assert {f"shipment.{kind}" for kind in ReportKind} <= set(EVENT_TYPES)


def test_ids_differ_by_webhook_cell_and_number_and_by_nothing_else() -> None:
    other = replace(RECEIVER, webhook=UUID(int=8))
    different = [CLAIMED, replace(CLAIMED, cell=1), replace(CLAIMED, number=-4711), replace(CLAIMED, receiver=other)]
    assert len({each.message_id for each in different}) == 4
    assert replace(CLAIMED, attempts=5, at=NOW + timedelta(1)).message_id == CLAIMED.message_id
    assert "." not in CLAIMED.message_id
