"""Packing shipments into boxes: milliseconds by size of order, and boxes beside what volume and weight alone need.

    python -m bench.cartons --json [--orders 3000] [--seed 1] [--quick]

Eight boxes from a book's to a removal's, a fill factor of 0.85; items with lognormal sides of some 120 mm and the
density of water, give or take; orders of pieces that all differ, and orders of few items in large numbers. `at_least`
is the sum over orders of the boxes that their volume or weight would fill: no packing can use fewer. `pages` are pages
of pick lists, whose parcels are proposed within narrower limits.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from random import Random
from statistics import median
from typing import Final

from poolwise.core.cartons import Parcel, pack, proposed
from poolwise.core.catalog import Catalog, Item
from poolwise.core.edition.build import Edition
from poolwise.core.network import Box, Network

GRAM: Final = 1_000_000
SIDES: Final = (
    (230, 160, 80), (305, 215, 150), (350, 250, 120), (380, 280, 200),
    (450, 350, 160), (500, 400, 300), (600, 400, 400), (800, 600, 500),
)  # fmt: skip
BOXES: Final = tuple(
    Box(f"BOX-{no}", *sides, (5 + 4 * no) * 1_000 * GRAM, 850_000, 100 * no * GRAM) for no, sides in enumerate(SIDES)
)
SHAPES: Final = (
    (3, 1, 8), (3, 1, 3), (12, 1, 8), (12, 1, 3), (50, 1, 8), (200, 1, 8), (400, 1, 8),
    (5, 20, 8), (5, 200, 8), (1, 1_000, 8),
)  # fmt: skip
"""Items in an order, units of each, and how many of the boxes there are, the small ones first."""

PAGES: Final = ((3, 1), (12, 1), (50, 1), (200, 1), (5, 200), (1, 1_000_000), (2_000, 50))
"""Items in each pick list of a page, and units of each."""

LISTS_ON_A_PAGE: Final = 50

Goods = list[tuple[Item, int]]


def order_of(random: Random, items: int, units: int) -> Goods:
    """An order of some items of random size and weight."""
    goods = []
    for no in range(items):
        length, width, height = (max(5, round(random.lognormvariate(4.8, 0.5))) for _ in range(3))
        weight_ug = length * width * height * random.randint(300, 1_500)
        item = Item(f"ITEM-{no}", weight_ug=weight_ug, length_mm=length, width_mm=width, height_mm=height)
        goods.append((item, units))
    return goods


def at_least(goods: Goods, boxes: Sequence[Box]) -> int:
    """Boxes that volume or weight alone would fill, of what fits into one."""
    largest, volume, weight = boxes[-1], 0, 0
    for item, units in goods:
        if pack([(item, 1)], boxes)[0].box:
            volume += item.length_mm * item.width_mm * item.height_mm * units
            weight += item.weight_ug * units
    room = largest.volume_mm3 * largest.fill_ppm // 1_000_000
    return max(-(-volume // room), -(-weight // largest.most_weight_ug))


def measure(orders: int, seed: int) -> dict[str, object]:
    """By shape of order: how long packing takes, and how many boxes it uses."""
    random, shapes = Random(seed), []
    for items, units, sizes in SHAPES:
        took: list[float] = []
        used = least = 0
        for _ in range(max(5, orders // items)):
            goods = order_of(random, items, units)
            start = time.perf_counter()
            parcels: tuple[Parcel, ...] = pack(goods, BOXES[:sizes])
            took.append((time.perf_counter() - start) * 1_000)
            used += sum(parcel.box != "" for parcel in parcels)
            least += at_least(goods, BOXES[:sizes])
        shapes.append({
            "items": items, "units_each": units, "sizes": sizes, "orders": len(took), "boxes": used, "at_least": least,
            "median_ms": round(median(took), 3), "largest_ms": round(max(took), 3),
        })  # fmt: skip
    lists = max(5, min(orders, LISTS_ON_A_PAGE))
    pages = [page_of(random, lists, items, units) for items, units in PAGES]
    return {"seed": seed, "shapes": shapes, "pages": pages, "boxes": sum(shape["boxes"] for shape in shapes)}


def page_of(random: Random, lists: int, items: int, units: int) -> dict[str, object]:
    """How much CPU the parcels of a page of pick lists take."""
    orders = [order_of(random, items, units) for _ in range(lists)]
    asked = [
        (
            Edition("", Network(boxes={"": BOXES}), Catalog({item.code: item for item, _ in goods})),
            [(item.code, count) for item, count in goods],
        )
        for goods in orders
    ]
    start = time.process_time()
    parcels = sum(len(proposed(edition, "N", goods)) for edition, goods in asked)
    took = round((time.process_time() - start) * 1_000)
    return {"lists": lists, "items": items, "units_each": units, "parcels": parcels, "cpu_ms": took}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the document on one line")
    parser.add_argument("--orders", type=int, default=3_000, help="orders of one item; of more, as many fewer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="five orders of each shape")
    asked = parser.parse_args()
    print(json.dumps(measure(0 if asked.quick else asked.orders, asked.seed), indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
