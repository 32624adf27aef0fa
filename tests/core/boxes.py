"""Boxes and orders drawn by seed, and the model of docs/cartons.md written a second time: limits, optimum, MIP.

It shares no code with the packing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import Final, NamedTuple

from poolwise.core.cartons import Parcel
from poolwise.core.catalog import Item
from poolwise.core.network import Box
from poolwise.core.sourcing.solver import Model
from poolwise.core.values import replace

MOST_PIECES: Final = 12
MOST_MIP_STEPS: Final = 20_000
APART: Final = frozenset({"hazmat", "cold"})

Goods = list[tuple[Item, int]]


class Order(NamedTuple):
    """What is to be packed, and into what."""

    goods: Goods
    boxes: list[Box]


def order_of(seed: int, most_pieces: int = MOST_PIECES, *, decimals: bool = False) -> Order:
    """An order of a few pieces for a node with a few boxes; some hold all of it, most do not.

    With decimals some items come in thousandths, and the last piece of one may be a fraction.
    """
    random = Random(seed)
    boxes = [box_of(random, f"B{no}") for no in range(random.randint(1, 6))]
    pieces = random.randint(1, most_pieces)
    goods: Goods = []
    # Where two or three pieces fill a box, what is packed first is often wrong.
    limit = min(box.most_weight_ug for box in boxes) if random.random() < 0.3 else 0
    while pieces:
        count = min(pieces, random.choice((1, 1, 1, 2, 3, 6)))
        item = item_of(random, f"I{len(goods)}", 3 if decimals and random.random() < 0.3 else 0)
        if limit:
            item = replace(item, weight_ug=limit * random.randint(18, 50) // 100, length_mm=0, requires=frozenset())
        goods.append((item, count * 10**item.scale - (random.randrange(1_000) if item.scale else 0)))
        pieces -= count
    return Order(goods, boxes)


def box_of(random: Random, code: str) -> Box:
    times = random.choice((2, 3, 4))
    sides = [random.randint(60, 140) * times for _ in range(3)]
    most_weight_ug, tare_ug = random.randint(3_000, 9_000) * times, 50 * times
    return Box(code, *sides, most_weight_ug, random.choice((700_000, 850_000, 1_000_000)), tare_ug)


def item_of(random: Random, code: str, scale: int) -> Item:
    times = random.choice((1, 2, 2, 3, 3))
    sides = [0, 0, 0] if random.random() < 0.1 else [random.randint(30, 110) * times for _ in range(3)]
    weight_ug = 0 if random.random() < 0.1 else random.randint(300, 3_000) * times
    requires = random.choices(("", "hazmat", "cold", "gift", "cold hazmat"), (75, 10, 5, 5, 5))[0]
    return Item(code, "", "", "each", scale, weight_ug, *sides, requires=frozenset(requires.split()))


# --- the limits


def sides_of(thing: Item | Box) -> list[int]:
    return sorted([thing.length_mm, thing.width_mm, thing.height_mm])


def volume_of(thing: Item | Box) -> int:
    return thing.length_mm * thing.width_mm * thing.height_mm


def pieces_of(item: Item, units: int) -> int:
    """A fraction of a unit is a piece too, as large as any."""
    return -(-units // 10**item.scale)


def weight_of(item: Item, units: int) -> int:
    """Rounded half up."""
    return (2 * item.weight_ug * units + 10**item.scale) // (2 * 10**item.scale)


def holds(box: Box, contents: Sequence[tuple[Item, int]]) -> bool:
    """Whether a box takes so many base units of the items, by sides, volume and weight."""
    for item, _ in contents:
        if any(side > inner for side, inner in zip(sides_of(item), sides_of(box), strict=True)):
            return False
    volume = sum(volume_of(item) * pieces_of(item, units) for item, units in contents)
    weight = sum(weight_of(item, units) for item, units in contents)
    return volume * 1_000_000 <= volume_of(box) * box.fill_ppm and weight <= box.most_weight_ug


def faults(order: Order, parcels: Sequence[Parcel]) -> list[str]:
    """What is wrong with the parcels of an order."""
    items, boxes = {item.code: item for item, _ in order.goods}, {box.code: box for box in order.boxes}
    found = []
    wanted, given = Counter[str](), Counter[str]()
    for item, units in order.goods:
        wanted[item.code] += units
    for parcel in parcels:
        given.update(dict(parcel.contents))
        contents = [(items[code], units) for code, units in parcel.contents]
        if len({item.requires & APART for item, _ in contents}) != 1:
            found.append(f"parcel {parcel.no} mixes what travels apart")
        tare = 0
        if parcel.box:
            tare = boxes[parcel.box].tare_ug
            if not holds(boxes[parcel.box], contents):
                found.append(f"parcel {parcel.no} is too full, or something in it too long")
        elif sum(pieces_of(*each) for each in contents) != 1 or any(holds(box, contents) for box in order.boxes):
            found.append(f"parcel {parcel.no} has no box")
        if parcel.weight_ug != tare + sum(weight_of(*each) for each in contents):
            found.append(f"parcel {parcel.no} does not weigh {parcel.weight_ug}")
    if wanted != given:
        found.append(f"packed {given} of {wanted}")
    if [parcel.no for parcel in parcels] != list(range(1, len(parcels) + 1)):
        found.append("parcels are misnumbered")
    return found


def price_of(order: Order, parcels: Sequence[Parcel]) -> tuple[int, int]:
    """Boxes used, and their volume in sum."""
    volumes = {box.code: volume_of(box) for box in order.boxes}
    used = [volumes[parcel.box] for parcel in parcels if parcel.box]
    return len(used), sum(used)


# --- the optimum


def groups_of(order: Order) -> list[Goods]:
    """The goods of which every piece fits a box, by what may travel together."""
    groups: dict[frozenset[str], Goods] = {}
    for item, count in order.goods:
        if any(holds(box, [(item, 1)]) for box in order.boxes):
            groups.setdefault(item.requires & APART, []).append((item, count))
    return list(groups.values())


def best_by_trying_all(order: Order) -> tuple[int, int]:
    """The fewest boxes, and their least volume, over all partitions of the pieces."""
    boxes = volume = 0
    for goods in groups_of(order):
        pieces = [item for item, count in goods for _ in range(count)]
        best = min(price for price in (_priced(order, parts) for parts in _partitions(pieces)) if price)
        boxes, volume = boxes + best[0], volume + best[1]
    return boxes, volume


def _priced(order: Order, parts: list[list[Item]]) -> tuple[int, int] | None:
    volume = 0
    for part in parts:
        taking = [volume_of(box) for box in order.boxes if holds(box, [(item, 1) for item in part])]
        if not taking:
            return None
        volume += min(taking)
    return len(parts), volume


def _partitions(pieces: list[Item]) -> Iterator[list[list[Item]]]:
    if not pieces:
        yield []
        return
    for parts in _partitions(pieces[1:]):
        yield [[pieces[0]], *parts]
        for no, part in enumerate(parts):
            yield [*parts[:no], [pieces[0], *part], *parts[no + 1 :]]


def fewest_boxes(order: Order) -> int:
    """The fewest boxes, by a MIP of the same model."""
    return sum(_fewest(order.boxes, goods) for goods in groups_of(order))


def _fewest(boxes: Sequence[Box], goods: Goods) -> int:
    if any(holds(box, goods) for box in boxes):
        return 1
    model, most = Model(scale=1), sum(count for _, count in goods)
    parcels = []
    for _ in range(most):
        sizes = [model.variable(cost=1) for _ in boxes]
        parcels.append(sizes)
        model.row([(size, 1) for size in sizes], upper=1)
    for fuller, emptier in pairwise(parcels):
        model.row([(size, 1) for size in fuller] + [(size, -1) for size in emptier], lower=0)
    placed: list[list[int]] = []
    for item, count in goods:
        fitting = [no for no, box in enumerate(boxes) if holds(box, [(item, 1)])]
        amounts = [model.variable(upper=count) for _ in parcels]
        placed.append(amounts)
        model.row([(amount, 1) for amount in amounts], lower=count, upper=count)
        for amount, sizes in zip(amounts, parcels, strict=True):
            model.row([(amount, 1)] + [(sizes[no], -count) for no in fitting], upper=0)
    for no, sizes in enumerate(parcels):
        for measure, limit in (
            (volume_of, [volume_of(box) * box.fill_ppm // 1_000_000 for box in boxes]),
            (lambda item: item.weight_ug, [box.most_weight_ug for box in boxes]),
        ):
            terms = [(amounts[no], measure(item)) for amounts, (item, _) in zip(placed, goods, strict=True)]
            model.row(terms + [(size, -most_of) for size, most_of in zip(sizes, limit, strict=True)], upper=0)
    solution = model.minimise(MOST_MIP_STEPS)
    assert solution is not None
    assert solution.gap_ppm == 0, "the MIP was cut short"
    return sum(solution.count(size) for sizes in parcels for size in sizes)
