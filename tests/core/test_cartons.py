"""Parcels keep every limit, hold every unit once, and are as few as an exact packing needs, or nearly.

`POOLWISE_CASES` sets how many orders are compared with the MIP; a seed that fails is named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolwise.core.cartons import MOST_PARCELS, PROPOSED_PARCELS, Parcel, pack, proposed
from poolwise.core.catalog import Catalog, Item
from poolwise.core.edition.build import Edition
from poolwise.core.network import Box, Network
from tests.core.boxes import APART, Order, best_by_trying_all, faults, fewest_boxes, order_of, price_of

IN_SOAK = os.environ.get("POOLWISE_CAMPAIGN") == "full"
ORDERS = int(os.environ.get("POOLWISE_CASES") or (2_000 if IN_SOAK else 200))
PAGE = Path(__file__).resolve().parents[2] / "docs" / "cartons.md"

SMALL = Box("S", 100, 100, 100, 1_000, 1_000_000, 10)
LARGE = Box("L", 200, 200, 100, 2_000, 1_000_000, 20)
LOOSE = Box("HALF", 100, 100, 100, 1_000, 500_000)


def item(code: str, *sides: int, weight: int = 0, scale: int = 0, requires: str = "") -> Item:
    length, width, height = sides or (0, 0, 0)
    return Item(code, "", "", "each", scale, weight, length, width, height, requires=frozenset(requires.split()))


CUBE = item("CUBE", 100, 100, 100, weight=100)
ROD = item("ROD", 10, 190, 10)
LONG = item("LONG", 300, 1, 1, weight=9)
TALL = item("TALL", 201, 1, 1, weight=7)
ACID = item("ACID", 10, 10, 10, requires="hazmat")
ICE = item("ICE", 10, 10, 10, requires="cold gift")
CARD = item("CARD")
IRON = item("IRON", weight=600)
WIRE = item("WIRE", 50, 100, 100, weight=10, scale=2)
LEAD = item("LEAD", weight=1_000)
MISFITS = [
    (item("A", weight=500), 1),
    (item("B", weight=400), 1),
    (item("C", weight=300), 3),
    (item("D", weight=200), 1),
]
REFITTED = ["S A=1 C=1 D=1 1010", "S B=1 C=2 1010"]

CASES = {
    "one unit, the smallest box": ([(CUBE, 1)], [LARGE, SMALL], ["S CUBE=1 110"]),
    "fewest boxes come before small ones": ([(CUBE, 4)], [LARGE, SMALL], ["L CUBE=4 420"]),
    "then the smallest in sum": ([(CUBE, 5)], [LARGE, SMALL], ["L CUBE=4 420", "S CUBE=1 110"]),
    "sides are sorted before they are compared": ([(ROD, 1)], [LARGE, SMALL], ["L ROD=1 20"]),
    "a long side chooses the box of all": ([(ROD, 1), (CUBE, 1)], [LARGE, SMALL], ["L CUBE=1 ROD=1 120"]),
    "what fits into no box is its own": ([(TALL, 2), (CUBE, 1)], [SMALL], ["S CUBE=1 110", "- TALL=1 7", "- TALL=1 7"]),
    "and in order of code": ([(TALL, 1), (LONG, 1)], [SMALL], ["- LONG=1 9", "- TALL=1 7"]),
    "the fill factor counts": ([(item("SLAB", 50, 100, 100), 2)], [LOOSE], ["HALF SLAB=1 0"] * 2),
    "even for one unit": ([(CUBE, 1)], [LOOSE], ["- CUBE=1 100"]),
    "weight counts": ([(IRON, 3)], [SMALL, LARGE], ["L IRON=3 1820"]),
    "weight alone makes a second parcel": ([(IRON, 4)], [SMALL, LARGE], ["L IRON=3 1820", "S IRON=1 610"]),
    "the weight limit is that of the contents": ([(item("FULL", weight=1_000), 1)], [SMALL], ["S FULL=1 1010"]),
    "too heavy for any box": ([(item("ANVIL", weight=1_001), 1)], [SMALL], ["- ANVIL=1 1001"]),
    "without size or weight a thousand fit": ([(CARD, 1_000)], [SMALL, LARGE], ["S CARD=1000 10"]),
    "and need no parcel of their own": ([(CARD, 9), (CUBE, 2)], [SMALL], ["S CARD=9 CUBE=1 110", "S CUBE=1 110"]),
    "hazardous goods travel apart": ([(ACID, 1), (CARD, 1), (ICE, 1)], [SMALL], ["S CARD=1 ICE=1 10", "S ACID=1 10"]),
    "the same item twice": ([(CUBE, 1), (CUBE, 1)], [LARGE], ["L CUBE=2 220"]),
    "a fraction is as large as a unit": ([(WIRE, 250)], [SMALL], ["S WIRE=200 30", "S WIRE=50 15"]),
    "largest first is not always right": (MISFITS, [SMALL], REFITTED),
    "nor where there is much more": ([*MISFITS, (LEAD, 60)], [SMALL], [*REFITTED, *["S LEAD=1 1010"] * 60]),
    "a node without boxes": ([(CUBE, 3), (ACID, 1)], [], ["- CUBE=3 300", "- ACID=1 0"]),
    "nothing": ([], [SMALL], []),
}


def told(parcel: Parcel) -> str:
    units = " ".join(f"{code}={units}" for code, units in parcel.contents)
    return f"{parcel.box or '-'} {units} {parcel.weight_ug}"


@pytest.mark.parametrize("case", CASES)
def test_small_cases(case: str) -> None:
    goods, boxes, expected = CASES[case]

    assert [told(parcel) for parcel in pack(goods, boxes, frozenset({"hazmat"}))] == expected


@pytest.mark.parametrize(
    ("apart", "parcels"), [("", 1), ("gift", 2), ("hazmat", 2), ("hazmat cold", 3), ("hazmat cold gift", 3)]
)
def test_only_what_is_named_travels_apart(apart: str, parcels: int) -> None:
    assert len(pack([(ACID, 1), (CARD, 1), (ICE, 1)], [SMALL], frozenset(apart.split()))) == parcels


# --- against an exact packing


@pytest.mark.campaign
def test_few_more_boxes_than_an_exact_packing() -> None:
    ours = offered = fewest = 0
    for seed in range(ORDERS):
        order = order_of(seed)
        parcels, proposal = pack(order.goods, order.boxes, APART), proposed(*as_edition(order))
        assert (faults(order, parcels), faults(order, proposal)) == ([], []), f"seed {seed}"
        ours, offered = ours + price_of(order, parcels)[0], offered + price_of(order, proposal)[0]
        fewest += fewest_boxes(order)
    assert fewest > ORDERS * 3 // 2, "most orders fit into one box: nothing is tried here"
    assert fewest <= ours <= offered <= fewest * 115 // 100, f"{ours} and {offered} boxes, {fewest} are enough"


def test_small_orders_have_the_fewest_and_smallest_boxes() -> None:
    several = 0
    for seed in range(ORDERS):
        order = order_of(seed, most_pieces=6)
        boxes, volume = price_of(order, pack(order.goods, order.boxes, APART))
        assert (boxes, volume) == best_by_trying_all(order), f"seed {seed}"
        several += boxes > 1
    assert several > ORDERS // 4


def test_the_two_exact_packings_agree() -> None:
    for seed in range(0, ORDERS, 4):
        order = order_of(seed, most_pieces=6)
        assert fewest_boxes(order) == best_by_trying_all(order)[0], f"seed {seed}"


# --- proposals to nodes


def as_edition(order: Order) -> tuple[Edition, str, list[tuple[str, int]]]:
    """The order as base units of items, for a node of an edition with these boxes; another node has none of them."""
    network = Network(boxes={"N": tuple(order.boxes), "OTHER": (Box("X", 1, 1, 1, 1, 1),)}, apart=APART)
    items = {item.code: item for item, _ in order.goods}
    return Edition("", network, Catalog(items)), "N", [(item.code, units) for item, units in order.goods]


def edition_with(boxes: dict[str, tuple[Box, ...]]) -> Edition:
    return Edition("", Network(boxes=boxes, apart=frozenset({"hazmat"})), Catalog({"CUBE": CUBE, "ACID": ACID}))


def test_a_node_packs_into_its_own_boxes_else_into_those_of_every_node() -> None:
    edition = edition_with({"": (SMALL,), "N": (LARGE,)})

    assert [told(*proposed(edition, node, [("CUBE", 1)])) for node in ("N", "M")] == ["L CUBE=1 120", "S CUBE=1 110"]


def test_positions_of_one_item_are_packed_together_and_what_is_in_no_catalogue_takes_no_room() -> None:
    parcels = proposed(edition_with({}), "N", [("CUBE", 1), ("GONE", 5), ("ACID", 1), ("CUBE", 2)])

    assert [told(parcel) for parcel in parcels] == ["- CUBE=3 GONE=5 300", "- ACID=1 0"]


def test_a_proposal_has_an_end() -> None:
    parcels = proposed(edition_with({"": (SMALL,)}), "N", [("CUBE", 10**9)])

    assert [told(parcel) for parcel in parcels[:-1]] == ["S CUBE=1 110"] * PROPOSED_PARCELS
    assert told(parcels[-1]) == f"- CUBE={10**9 - PROPOSED_PARCELS} {100 * (10**9 - PROPOSED_PARCELS)}"


# --- laws


@st.composite
def orders(draw: st.DrawFn) -> Order:
    """Some pieces of several kinds, or hundreds of a few."""
    most = draw(st.sampled_from((3, 12, 20, 60)))
    order = order_of(draw(st.integers(0, 10**6)), most, decimals=True)
    times = draw(st.sampled_from((1, 1, 1, 17)))
    return Order([(item, units * times) for item, units in order.goods], order.boxes)


@settings(max_examples=200, deadline=None)
@given(orders())
def test_every_unit_is_packed_once_within_every_limit(order: Order) -> None:
    assert faults(order, pack(order.goods, order.boxes, APART)) == []


@settings(max_examples=100, deadline=None)
@given(orders(), st.randoms(use_true_random=False))
def test_the_order_of_goods_and_boxes_does_not_matter(order: Order, random: Random) -> None:
    shuffled = Order(random.sample(order.goods, len(order.goods)), random.sample(order.boxes, len(order.boxes)))

    assert pack(*shuffled, APART) == pack(*order, APART)


@settings(max_examples=100, deadline=None)
@given(orders())
def test_a_search_cut_short_is_lawful_and_no_better(order: Order) -> None:
    cut, whole = (pack(order.goods, order.boxes, APART, most_steps) for most_steps in (0, 1_000))

    assert faults(order, cut) == []
    assert price_of(order, cut) >= price_of(order, whole)


def test_a_search_ends_at_its_limit() -> None:
    assert [len(pack(MISFITS, [SMALL], most_steps=most_steps)) for most_steps in (0, 2, 1_000)] == [3, 3, 2]


def test_a_thousand_of_an_item_need_what_they_fill() -> None:
    parcels = pack([(CUBE, 1_001)], [SMALL, LARGE])

    assert [told(parcel) for parcel in parcels] == ["L CUBE=4 420"] * 250 + ["S CUBE=1 110"]


@pytest.mark.parametrize(("units", "size"), [(MOST_PARCELS, 101), (MOST_PARCELS + 1, 101), (10**12, 100)])
def test_what_would_be_too_many_parcels_stays_together(units: int, size: int) -> None:
    parcels = pack([(item("CUBE", size, size, size, weight=3), units)], [SMALL])

    left = units - MOST_PARCELS
    assert len(parcels) == MOST_PARCELS + (left > 0)
    assert sum(quantity for parcel in parcels for _, quantity in parcel.contents) == units
    if left:
        assert told(parcels[-1]) == f"- CUBE={left} {3 * left}"


# --- shapes that are bugs of the caller

BAD_SHAPES: dict[str, Callable[[], object]] = {
    "a box without a code": lambda: Box("", 1, 1, 1, 1, 1),
    "box X has a side of nothing": lambda: Box("X", 1, 0, 1, 1, 1),
    "box X may hold no weight": lambda: Box("X", 1, 1, 1, 0, 1),
    "box X is filled by 0 ppm": lambda: Box("X", 1, 1, 1, 1, 0),
    "box X is filled by 1000001 ppm": lambda: Box("X", 1, 1, 1, 1, 1_000_001),
    "box X weighs less than nothing": lambda: Box("X", 1, 1, 1, 1, 1, -1),
    "two boxes of one code": lambda: pack([(CUBE, 1)], [SMALL, SMALL]),
    "0 units of item CUBE": lambda: pack([(CUBE, 0)], [SMALL]),
    "-1 units of item CUBE": lambda: pack([(CUBE, -1)], [SMALL]),
    "two items CUBE": lambda: pack([(CUBE, 1), (item("CUBE"), 1)], [SMALL]),
    "item X is smaller or lighter than nothing": lambda: pack([(item("X", 1, -1, 1), 1)], [SMALL]),
    "item Y is smaller or lighter than nothing": lambda: pack([(item("Y", weight=-1), 1)], [SMALL]),
    "0 parcels": lambda: pack([(CUBE, 1)], [SMALL], most_parcels=0),
    "-1 steps": lambda: pack([(CUBE, 1)], [SMALL], most_steps=-1),
}


@pytest.mark.parametrize("reason", BAD_SHAPES)
def test_a_bad_shape_is_a_bug(reason: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(reason)):
        BAD_SHAPES[reason]()


def test_the_example_of_the_page_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    ((program, output),) = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", PAGE.read_text(), re.DOTALL)

    exec(compile(program, str(PAGE), "exec"), {})  # noqa: S102 - an example is run to be checked

    assert capsys.readouterr().out == output
