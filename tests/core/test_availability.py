"""Availability: what a group offers, that all ways of adding up agree, baskets and kits."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import count
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolwise.core.availability import (
    Assembly,
    Offer,
    kits,
    left_of_receipts,
    offers,
    shared_out,
    usable,
)
from poolwise.core.catalog import Bill, Component
from poolwise.core.network import Echelon, Network, Node, NodeStatus, Pool
from poolwise.core.policy.evaluate import CompiledPolicy, Withheld, compile_policy
from poolwise.core.policy.terms import Buffer, SourcingPolicy
from poolwise.core.sourcing.problem import Place, ReceiptFact, StockFact
from poolwise.core.totals import Available, Basket, Totals, by_echelon, by_node, by_pool

TODAY = date(2026, 9, 1)
NETWORK = Network(
    nodes={
        "DC": Node("DC"),
        "S": Node("S", kind="store", echelon=Echelon.LAST_MILE),
        "OFF": Node("OFF", status=NodeStatus.SUSPENDED),
    },
    pools={
        "common": Pool("common"),
        "kept": Pool("kept", protection=4),
        "b2b": Pool("b2b", channels=frozenset({"b2b"})),
    },
)
numbers = count(1)


def policy(*buffers: Buffer, **keys: object) -> CompiledPolicy:
    return compile_policy(SourcingPolicy("p", 1, buffers=buffers, **keys))  # type: ignore[arg-type]  # keys of a test


def stock(
    available: int, node: str = "S", pool: str = "common", item: str = "I", lot: str = "", expires: int | None = None
) -> StockFact:
    expires_on = None if expires is None else TODAY + timedelta(days=expires)
    return StockFact(Place(next(numbers), item, node, pool, lot, expires_on), available)


def receipt(quantity: int, days: int, node: str = "S", pool: str = "common", item: str = "I") -> ReceiptFact:
    number = next(numbers)
    return ReceiptFact(
        UUID(int=number), Place(number, item, node, pool), TODAY + timedelta(days=days), quantity
    )  # fmt: skip


def basket(found: list[Offer], wanted: dict[str, int]) -> Basket:
    return Totals.of(TODAY, list(wanted), found).basket(wanted)


def one(found: list[Offer]) -> Offer:
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("channel", "now", "named"),
    [
        ("web", 7, "store-web"),
        ("till", 10, "store-till"),
        ("marketplace", 0, "no-marketplace"),
        ("phone", 8, "network"),
    ],
)
def test_each_channel_is_offered_what_its_most_specific_buffer_leaves(channel: str, now: int, named: str) -> None:
    rules = policy(
        Buffer("network", 2),
        Buffer("store-web", 3, node_kind="store", channel="web"),
        Buffer("store-till", 0, node_kind="store", channel="till"),
        Buffer("no-marketplace", closed=True, channel="marketplace"),
    )

    found = one(offers(NETWORK, rules, channel, TODAY, [stock(10)]))

    assert (found.now, found.withheld.buffers) == (now, (named,))


def test_receipts_count_from_their_due_date() -> None:
    found = one(offers(NETWORK, policy(), "web", TODAY, [stock(2)], [receipt(5, 10), receipt(1, 20), receipt(3, -2)]))

    assert found.now == 2
    assert found.by_date == ((TODAY, 5), (TODAY + timedelta(days=10), 10), (TODAY + timedelta(days=20), 11))


def test_on_hand_only_promises_no_receipt() -> None:
    found = one(offers(NETWORK, policy(on_hand_only=True), "web", TODAY, [stock(2)], [receipt(5, 10)]))

    assert found.by_date == ((TODAY, 2),)


def test_what_stock_leaves_missing_of_a_buffer_comes_out_of_receipts() -> None:
    found = one(offers(NETWORK, policy(Buffer("b", 3)), "web", TODAY, [stock(1)], [receipt(1, 5), receipt(5, 10)]))

    assert found.by_date == ((TODAY, 0), (TODAY + timedelta(days=10), 4))


def test_expired_lots_do_not_count_and_others_stop_counting_on_their_day() -> None:
    lots = [stock(5, lot="old", expires=0), stock(4, lot="new", expires=3), stock(1)]

    found = one(offers(NETWORK, policy(), "web", TODAY, lots))

    assert (found.on_hand, found.now) == (5, 5)
    assert found.by_date == ((TODAY, 5), (TODAY + timedelta(days=3), 1))


def test_what_is_kept_back_is_of_the_lots_that_expire_last() -> None:
    lots = [stock(5, pool="kept"), stock(3, pool="kept", lot="b", expires=9), stock(2, pool="kept", lot="a", expires=5)]

    found = one(offers(NETWORK, policy(), "web", TODAY, lots))

    assert [(place.lot, place.now) for place in found.positions] == [("a", 2), ("b", 3), ("", 1)]


@pytest.mark.parametrize(("node", "pool"), [("OFF", "common"), ("S", "b2b"), ("nowhere", "common"), ("S", "nothing")])
def test_what_is_not_open_offers_nothing(node: str, pool: str) -> None:
    assert offers(NETWORK, policy(), "web", TODAY, [stock(9, node=node, pool=pool)]) == []


def test_only_listed_pools_are_open() -> None:
    rules = policy(pool_order={"web": ("kept",)}, only_listed_pools=True)

    found = offers(NETWORK, rules, "web", TODAY, [stock(9), stock(9, pool="kept")])

    assert [(offer.gate.pool, offer.now) for offer in found] == [("kept", 5)]


@pytest.mark.parametrize(
    ("on_hand", "protection", "withheld", "expected"),
    [(10, 0, Withheld(), 10), (10, 4, Withheld(3), 3), (3, 4, Withheld(), 0), (10, 0, Withheld(closed=True), 0)],
)
def test_usable(on_hand: int, protection: int, withheld: Withheld, expected: int) -> None:
    assert usable(on_hand, protection, withheld) == expected


quantities = st.integers(0, 9)
some = st.sampled_from
stocks = st.builds(
    stock, quantities, some(["DC", "S", "OFF"]), some(["common", "kept", "b2b"]), some(["I", "J"]),
    some(["", "x", "y"]), st.none() | st.integers(-2, 9),
)  # fmt: skip
receipts = st.builds(
    receipt, quantities, st.integers(-3, 9), some(["DC", "S"]), some(["common", "kept"]), some(["I", "J"])
)
worlds = st.tuples(st.lists(stocks, max_size=12), st.lists(receipts, max_size=6), some(["web", "b2b"]))
RULES = policy(Buffer("all", 1), Buffer("s", 2, node_kind="store"), Buffer("j", 3, item="J"))


@given(worlds)
def test_positions_nodes_pools_and_echelons_add_up_to_the_same(
    world: tuple[list[StockFact], list[ReceiptFact], str],
) -> None:
    on_shelf, coming, channel = world
    found = offers(NETWORK, RULES, channel, TODAY, on_shelf, coming)
    totals = Totals.of(TODAY, ["I", "J"], found)
    for item in ("I", "J"):
        total = totals.of_item(item)
        assert sum(place.now for offer in found if offer.item == item for place in offer.positions) == total.now
        for way in (by_node, by_pool, by_echelon):
            parts = totals.parts(item, way)
            assert sum(part.now for part in parts.values()) == total.now
            for days in range(12):
                day = TODAY + timedelta(days=days)
                assert sum(part.on(day) for part in parts.values()) == total.on(day)


@given(worlds)
def test_by_date_equals_the_sum_over_the_facts_of_that_day(
    world: tuple[list[StockFact], list[ReceiptFact], str],
) -> None:
    on_shelf, coming, channel = world
    for offer in offers(NETWORK, RULES, channel, TODAY, on_shelf, coming):
        group = (offer.item, offer.gate.node, offer.gate.pool)
        for days in range(12):
            day = TODAY + timedelta(days=days)
            counted = [(fact.place, fact.available) for fact in on_shelf]
            counted += [(fact.place, fact.open) for fact in coming if fact.due_on <= day]
            there = sum(
                quantity
                for place, quantity in counted
                if (place.item, place.node, place.pool) == group
                and (place.expires_on is None or place.expires_on > day)
            )
            assert Available(offer.now, offer.by_date).on(day) == usable(there, offer.gate.protection, offer.withheld)


@given(st.lists(quantities), st.lists(quantities), quantities, quantities)
def test_lots_and_receipts_share_what_is_usable_exactly(
    lots: list[int], coming: list[int], protection: int, buffer: int
) -> None:
    on_hand, withheld = sum(lots), Withheld(buffer)
    now = usable(on_hand, protection, withheld)

    assert sum(shared_out(lots, now)) == now
    left = left_of_receipts(on_hand, coming, protection, withheld)
    for reached in range(len(coming) + 1):
        assert now + sum(left[:reached]) == usable(on_hand + sum(coming[:reached]), protection, withheld)


def test_a_basket_is_ready_when_all_of_it_can_be_promised() -> None:
    facts = [stock(5, "DC", item="A"), stock(1, "DC", item="B"), stock(5, "S", item="A")]
    coming = [receipt(9, 4, "S", item="B"), receipt(9, 7, "DC", item="B")]

    found = basket(offers(NETWORK, policy(), "web", TODAY, facts, coming), {"A": 6, "B": 2})

    assert [(line.item, line.there.now, line.ready_on) for line in found.lines] == [
        ("A", 10, TODAY),
        ("B", 1, TODAY + timedelta(days=4)),
    ]
    assert found.ready_on == TODAY + timedelta(days=4)
    assert found.from_one_node == {}


def test_a_basket_from_one_node() -> None:
    facts = [stock(5, "DC", item="A"), stock(5, "DC", item="B"), stock(5, "S", item="A")]

    there = offers(NETWORK, policy(), "web", TODAY, facts, [receipt(2, 4, "S", item="B")])

    found = basket(there, {"A": 5, "B": 2})

    assert found.from_one_node == {"DC": TODAY, "S": TODAY + timedelta(days=4)}


def test_a_basket_of_what_nobody_has_is_never_ready() -> None:
    found = basket(offers(NETWORK, policy(), "web", TODAY, [stock(5, item="A")]), {"A": 1, "B": 1})

    assert (found.ready_on, found.from_one_node, found.lines[1].ready_on) == (None, {}, None)


PARTS = {"DC": {"A": 10, "B": 13}, "S": {"B": 4}}
COMPONENTS = (Component("A", 1), Component("B", 2))


@pytest.mark.parametrize(("across", "together"), [(False, Assembly(6, "B")), (True, Assembly(8, "B"))])
def test_kits_at_a_node_and_across_nodes(across: bool, together: Assembly) -> None:
    found = kits(Bill("K", COMPONENTS, across_nodes=across), PARTS)

    assert found.by_node == {"DC": Assembly(6, "B"), "S": Assembly(0, "A")}
    assert found.together == together


def test_a_part_named_twice_counts_twice() -> None:
    assert kits(Bill("K", (*COMPONENTS, Component("A", 4))), PARTS).together == Assembly(2, "A")
