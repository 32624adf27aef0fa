"""What nodes did not find moves what it costs to count on them, on both kinds of books."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import count

import pytest

from poolwise.core.catalog import Item
from poolwise.core.edition.rows import ItemRow, Section
from poolwise.core.policy.terms import CostKind
from poolwise.core.sourcing.plan import Plan
from poolwise.core.values import Rate
from poolwise.flows.explain import Recalled, recall
from poolwise.flows.stock import Outcome
from tests.conftest import Database
from tests.flows.market import CELLS, Market, in_memory, on_postgres, policy
from tests.flows.test_planted_laws import Kept

DEAR = {"miss_cost_per_line": Rate(30)}


@pytest.fixture(params=["memory", "postgres"])
def market(request: pytest.FixtureRequest) -> Iterator[Market]:
    """Everything there is plenty of, at A and B."""
    with _market(request) as found:
        for item in ("BOLT", "NUT"):
            for node in ("A", "B"):
                found.count(item, node, 500)
        yield found
        assert found.findings() == []


def _market(request: pytest.FixtureRequest) -> AbstractContextManager[Market]:
    if request.param == "memory":
        return nullcontext(in_memory(**DEAR))
    database: Database = request.getfixturevalue("database")
    return on_postgres(database, **DEAR)


numbers = count(1)


def sent(market: Market, *lines: tuple[str, int]) -> str:
    """A new order that was released; its number."""
    number = f"O-{next(numbers)}"
    market.order(number, *lines)
    market.work()
    market.release()
    return number


def nodes(market: Market, number: str) -> list[str]:
    with market.books.transaction() as transaction:
        order = transaction.order_numbered([number])[number]
    return [stage.split()[0] for stage in market.stages(order)]


def picks(market: Market, item_class: str = "") -> dict[str, tuple[int, int]]:
    """By node how many picks of a class were found, and missed."""
    with market.books.transaction() as transaction:
        found = transaction.stock(CELLS, [], market.now.date(), {item_class}).misses.get(item_class, ())
    return {fact.node: (fact.found, fact.missed) for fact in found}


def risk(plan: Plan) -> int:
    return sum(part.amount for part in plan.costs if part.kind is CostKind.MISS)


def recalled(market: Market, number: str) -> Recalled:
    with market.books.transaction() as transaction:
        order = transaction.order_numbered([number])[number]
    return recall(market.books, Kept(market.desk.atlas), order, 1)[0]


def test_after_several_shorts_the_same_order_goes_to_the_other_node(market: Market) -> None:
    first = sent(market, ("BOLT", 1))
    assert nodes(market, first) == ["A"]
    for _ in range(12):
        number = sent(market, ("BOLT", 1))
        if nodes(market, number) != ["A"]:
            break
        assert market.report(number, "short", ("BOLT", 1), id=f"{number}-short") is Outcome.BOOKED
        assert market.report(number, "short", ("BOLT", 1), id=f"{number}-short") is Outcome.DUPLICATE
        market.work()
    assert nodes(market, number) == ["B"]
    # A carries for 5 less: (1 + m) / (50 + m) x 30 is more than 0.6 + 5 from m = 11.
    assert picks(market) == {"A": (0, 11)}
    # What was decided before is what it was, on the record as it was then.
    old = recalled(market, first)
    assert (old.same, old.problem.facts.misses, risk(old.plan)) == (True, (), 600_000)
    new = recalled(market, number)
    assert (new.same, risk(new.plan)) == (True, 600_000)
    assert [[tuple(fact) for fact in picks] for _, picks in new.problem.facts.misses] == [[("A", 0, 11)]]


def test_what_is_found_earns_a_node_trust_again(market: Market) -> None:
    for kind in ("short", "shipped", "delivered"):
        number = sent(market, ("BOLT", 2), ("NUT", 1))
        market.report(number, kind, *([("BOLT", 1)] if kind == "short" else []))
    # One line was missed; its rest, and the other line, are still in hand.
    assert picks(market) == {"A": (4, 1)}
    market.report(number, "delivered")
    assert picks(market) == {"A": (4, 1)}


@pytest.mark.parametrize(
    "told",
    [
        [("short", 1), ("shipped", 0)],
        [("shipped", 0), ("short", 1)],
        [("shipped", 2), ("short", 1)],
        [("shipped", 1), ("shipped", 1), ("short", 1)],
        [("short", 1), ("shipped", 1), ("shipped", 1)],
        [("short", 1), ("short", 1), ("delivered", 0)],
    ],
)
def test_a_line_is_one_pick_in_whatever_parts_and_order_it_is_told(market: Market, told: list[tuple[str, int]]) -> None:
    number = sent(market, ("BOLT", 3))
    for kind, units in told:
        market.report(number, kind, *([("BOLT", units)] if units else []))
    assert picks(market) == {"A": (0, 1)}


def test_a_kit_from_parts_is_one_pick_too(market: Market) -> None:
    market.report(sent(market, ("KIT", 1)), "shipped")
    market.report(sent(market, ("KIT", 1)), "short", ("NUT", 1))
    assert picks(market) == {"A": (1, 1)}


def test_what_is_declined_tells_nothing_of_the_stock(market: Market) -> None:
    market.report(sent(market, ("BOLT", 1)), "declined")
    assert picks(market) == {}


def test_each_class_of_items_has_a_record_of_its_own(market: Market) -> None:
    market.under([(Section.ITEMS, ItemRow(Item("BOLT", product="IRON", weight_ug=500_000_000)))])
    market.report(sent(market, ("BOLT", 1), ("NUT", 1)), "short", ("BOLT", 1))
    assert (picks(market), picks(market, "IRON")) == ({}, {"A": (0, 1)})
    again = sent(market, ("BOLT", 1))
    assert [known.item_class for known in recalled(market, again).problem.facts.misses] == ["IRON"]


def test_who_does_not_count_misses_reads_no_record(market: Market) -> None:
    for _ in range(11):
        market.report(sent(market, ("BOLT", 1)), "short", ("BOLT", 1))
        market.work()
    market.under(policy=policy(miss_cost_per_line=Rate(0)))
    number = sent(market, ("BOLT", 1))
    assert nodes(market, number) == ["A"]
    plan = recalled(market, number)
    assert (plan.problem.facts.misses, risk(plan.plan)) == ((), 0)
