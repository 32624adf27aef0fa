"""Lines that are served whole, each from one position a node: what nearly every order is, priced many at a time.

1. A *sheet* is what each set of an order's lines costs by each route, wherever stock is and whenever it leaves:
   handling, freight and carbon, one array (sets x routes). It depends on nothing that changes, so the orders of a batch
   that go the same ways are priced together.
2. To decide, what drawing each line costs at each node is added, and what waiting for room costs each route; the
   cheapest route of every set then goes to the dynamic program over sets (`partition`).

An order of which more is to be known (kits, substitutes, receipts, lots, amounts that must be divided, shipments that
get in each other's way) is left to `exact`, which finds the same where both apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from poolwise.core.policy.terms import LineSplit, Terms
from poolwise.core.sourcing.build import Block, Piece, drawing, leave
from poolwise.core.sourcing.costs import Sent, need_of, weight_of
from poolwise.core.sourcing.options import Access, Atlas, OpenRoute, Options, draw, wanted
from poolwise.core.sourcing.partition import NEVER, Ints, Limits, partition
from poolwise.core.sourcing.portions import Wanted
from poolwise.core.sourcing.problem import Demand
from poolwise.core.sourcing.routes import Need
from poolwise.core.values import Cost, Quantity

MOST_WHOLE: Final = 8
"""Lines of an order that is tried here."""

MOST_TOGETHER: Final = 64
HEAVIEST_UG: Final = 1 << 56
ONE_SHIPMENT: Final = Need(1, 0, 0)
"""What a shipment takes of slots that count orders, whatever is in it."""


class Sheet(NamedTuple):
    """What leaves for each open line, and what every set of lines (as bits) costs by each route of the access."""

    goods: tuple[Sent, ...]
    cost: Ints


def sheets_of(atlas: Atlas, asked: Sequence[tuple[Demand, Terms]]) -> list[Sheet | None]:
    """The sheet of each order; None for one that is left to `exact` from the start."""
    found: list[Sheet | None] = [None] * len(asked)
    alike: dict[tuple[Access, int, int], list[tuple[int, tuple[Sent, ...]]]] = {}
    for place, (demand, terms) in enumerate(asked):
        goods = _goods(atlas, demand, terms)
        if goods:
            access = atlas.access(demand.order, terms)
            scale = goods[0].item.scale
            if access.routes and not any(access.carriage(each.item) is not None for each in goods):
                alike.setdefault((access, len(goods), scale), []).append((place, goods))
    for (access, lines, scale), members in alike.items():
        for first in range(0, len(members), MOST_TOGETHER):
            some = members[first : first + MOST_TOGETHER]
            costs = _priced(access, [goods for _, goods in some], lines, scale)
            for (place, goods), cost in zip(some, costs, strict=True):
                found[place] = Sheet(goods, cost)
    return found


def _goods(atlas: Atlas, demand: Demand, terms: Terms) -> tuple[Sent, ...] | None:
    """What leaves for the lines of an order whose lines are different items, which nothing else can serve."""
    if len(demand.open) > MOST_WHOLE:
        return None
    items, lines = atlas.edition.catalog.items, {line.no: line for line in demand.order.lines}
    goods: list[Sent] = []
    for no, quantity in demand.open:
        line = lines[no]
        if len(atlas.alternatives(line, terms)) > 1 or (terms.line_split is LineSplit.ALWAYS and quantity > 1):
            return None
        item = items[line.item]
        goods.append(Sent(item, quantity, weight_of(line, item, quantity, quantity)))
    if len({each.item.code for each in goods}) < len(goods) or len({each.item.scale for each in goods}) > 1:
        return None
    if max([max(each.quantity, each.weight_ug) for each in goods], default=0) > HEAVIEST_UG // MOST_WHOLE:
        return None
    return tuple(goods)


def _priced(access: Access, orders: Sequence[tuple[Sent, ...]], lines: int, scale: int) -> Ints:
    """Cost of every set of lines of some orders by each route (orders x sets x routes), without what opens a route."""
    sets = _sets(lines)
    handling = access.handling.price([each for goods in orders for each in goods], scale)
    handling += access.handling.per_line
    weights = np.array([[each.weight_ug for each in goods] for goods in orders], dtype=np.int64) @ sets.T
    freight = access.tariff.price(weights.ravel(), int(weights.max()))
    return sets @ handling.reshape(len(orders), lines, -1) + freight.reshape(len(orders), len(sets), -1)


@lru_cache(maxsize=MOST_WHOLE + 1)
def _sets(lines: int) -> Ints:
    """Which lines are in each set (sets x lines)."""
    return np.array([[mask >> line & 1 for line in range(lines)] for mask in range(1 << lines)], dtype=np.int64)


def served_whole(options: Options, sheet: Sheet) -> list[Block] | None:
    """The blocks of the cheapest plan; None when the order is not that simple after all."""
    access, openings, lines = options.access, options.openings, options.lines
    if not openings.counts_only_orders and _may_be_full(options, sheet):
        return None
    asked = [Wanted(lines[no], quantity, (), []) for no, quantity in options.problem.demand.open]
    drawn: list[list[Cost]] = []
    for each, goods in zip(asked, sheet.goods, strict=True):
        at_nodes = _drawn(options, each, goods)
        if at_nodes is None or min(at_nodes) >= NEVER:
            return None
        drawn.append(at_nodes)
    cost = _sets(len(asked)) @ np.array(drawn, dtype=np.int64).take(access.node_of, axis=1)
    cost += sheet.cost
    cost += openings.costs
    waits = days_of_one(options) if openings.counts_only_orders else None
    if waits is not None:
        cost += waits
    # What is impossible at a credit is impossible all the same.
    np.copyto(cost, NEVER, where=cost >= NEVER // 2)
    ways = cost.argmin(axis=1).tolist()
    chosen = partition(cost.min(axis=1).tolist(), limits_of(options, asked))
    blocks = [_block(options, ways[mask], mask, asked, sheet.goods) for mask in chosen]
    if len({block.way.route.node.code for block in blocks}) < len(blocks):
        return None
    return blocks


def _may_be_full(options: Options, sheet: Sheet) -> bool:
    """Whether a shipment may not find room on the first day, in slots that count what is in it."""
    if not options.openings.docks:
        return False
    need = need_of(len(sheet.goods), sheet.goods)
    fullest = max(options.taken.values(), default=0)
    return any(fullest + wanted(need, unit, 1) > limit for unit, limit in options.openings.least_room.items())


def _drawn(options: Options, line: Wanted, goods: Sent) -> list[Cost] | None:
    """By node what drawing all of a line costs, NEVER where it has not got it; None when that is not so simple."""
    code, quantity = goods.item.code, goods.quantity
    found = options.spots(code, quantity)
    if found is None:
        return None
    drawn, priced = found
    piece = _piece(options, line, goods)
    for node in priced:
        taken = draw(options.shelf(code, node), quantity)
        drawn[options.access.nodes[node]] = sum(drawing(options, piece, goods, taken))
    return drawn


def _piece(options: Options, line: Wanted, goods: Sent) -> Piece:
    (alternative,) = options.atlas.alternatives(line.line, options.terms)
    return Piece(line.line, alternative, line.quantity, (goods,))


def _block(options: Options, index: int, mask: int, lines: Sequence[Wanted], goods: Sequence[Sent]) -> Block:
    way = options.openings.by_index[index]
    assert way is not None
    return Block(way, tuple([_piece(options, lines[n], goods[n]) for n in range(len(lines)) if mask >> n & 1]))


# --- for all engines: what an order may not do, and what waiting costs


def limits_of(options: Options, lines: Sequence[Wanted]) -> Limits:
    """The hard rules of an order, and what waiting and splitting cost, for lines served whole or not at all."""
    terms = options.terms
    least_value = max(0, terms.min_shipment_value.times(1))
    return Limits(
        waiting=[waiting_cost(options, line, line.quantity) for line in lines],
        split_cost=options.prices.split(terms),
        most=terms.max_shipments,
        complete=terms.ship_complete,
        together=[sum(1 << place for place in group) for group in groups_of(lines)],
        values=[value_of(options, line, line.quantity) for line in lines] if least_value else (),
        least_value=least_value,
    )


def groups_of(lines: Sequence[Wanted]) -> list[list[int]]:
    """Places of the lines that belong together, by group."""
    groups: dict[str, list[int]] = {}
    for place, line in enumerate(lines):
        if line.line.together:
            groups.setdefault(line.line.together, []).append(place)
    return list(groups.values())


def waiting_cost(options: Options, line: Wanted, quantity: Quantity) -> Cost:
    """What it costs that some of a line waits."""
    return options.prices.waiting(options.catalog.items[line.line.item], quantity) if quantity else 0


def value_of(options: Options, line: Wanted, quantity: Quantity) -> Cost:
    """What some of a line is worth, on the day of the decision."""
    on = options.problem.facts.at.date()
    return options.prices.value(line.line, options.catalog.items[line.line.item], quantity, on)


def later(options: Options, way: OpenRoute, ready: int, need: Need) -> Cost:
    """What it costs more to leave when all is ready and there is room, than on the first day."""
    terms = options.terms
    if not terms.policy.capacity_is_hard:
        leaving = leave(options, way, ready, need, options.taken)
        return NEVER if leaving is None else leaving.cost - int(options.openings.costs[way.index])
    departure = way.departures.with_room(ready, need, options.taken)
    limit = options.deadline if terms.service_level.late_is_hard else None
    if departure is None or (limit is not None and departure.arrives > limit):
        return NEVER
    parts = options.parts_on(way, departure)
    return sum([amount for _, amount in parts]) - int(options.openings.costs[way.index])


def days_of_one(options: Options) -> Ints | None:
    """By route what waiting for room costs a shipment, where slots count orders only; None where none has to wait.

    Orders of a batch mostly see the same capacity, so what was found last is kept with the openings.
    """
    openings, capacity = options.openings, options.problem.facts.capacity
    seen, waits = openings.settled or (None, None)
    if seen is not capacity:
        waits = None
        for dock in openings.docks:
            if not dock.has_room(ONE_SHIPMENT, 1, options.taken):
                waits = np.zeros(len(openings.costs), dtype=np.int64) if waits is None else waits
                for index in dock.routes:
                    way = openings.by_index[index]
                    assert way is not None
                    waits[index] = later(options, way, 0, ONE_SHIPMENT)
        openings.settled = (capacity, waits)
    return waits
