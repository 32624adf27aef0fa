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
from operator import add
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poolwise.core.policy.terms import LineSplit, Terms
from poolwise.core.sourcing.atlas import Access, Atlas, OpenRoute, Waits, wanted
from poolwise.core.sourcing.build import Block, Piece, drawing, leave
from poolwise.core.sourcing.costs import Sent, need_of, weight_of
from poolwise.core.sourcing.options import Options, draw
from poolwise.core.sourcing.partition import NEVER, Ints, Limits, partition
from poolwise.core.sourcing.portions import Wanted
from poolwise.core.sourcing.problem import Demand
from poolwise.core.sourcing.routes import NO_GOODS, Departure, Need
from poolwise.core.values import Cost, Quantity

MOST_WHOLE: Final = 8
"""Lines of an order that is tried here."""

MOST_TOGETHER: Final = 64
HEAVIEST_UG: Final = 1 << 56


class Sheet(NamedTuple):
    """All of each open line, as one piece, and what every set of them (as bits) costs by each route of the access."""

    pieces: tuple[Piece, ...]
    cost: Ints

    @property
    def goods(self) -> list[Sent]:
        """What leaves, by line."""
        return [piece.sent[0] for piece in self.pieces]


def sheets_of(atlas: Atlas, asked: Sequence[tuple[Demand, Terms]]) -> list[Sheet | None]:
    """The sheet of each order; None for one that is left to `exact` from the start."""
    found: list[Sheet | None] = [None] * len(asked)
    alike: dict[tuple[Access, int, int], list[tuple[int, tuple[Piece, ...]]]] = {}
    for place, (demand, terms) in enumerate(asked):
        pieces = _pieces(atlas, demand, terms)
        if pieces:
            access = atlas.access(demand.order, terms)
            goods = [piece.sent[0] for piece in pieces]
            if access.routes and not any(access.carriage(each.item) is not None for each in goods):
                alike.setdefault((access, len(pieces), goods[0].item.scale), []).append((place, pieces))
    for (access, lines, scale), members in alike.items():
        for first in range(0, len(members), MOST_TOGETHER):
            some = members[first : first + MOST_TOGETHER]
            costs = _priced(access, [piece.sent[0] for _, pieces in some for piece in pieces], lines, scale)
            for (place, pieces), cost in zip(some, costs, strict=True):
                found[place] = Sheet(pieces, cost)
    return found


def _pieces(atlas: Atlas, demand: Demand, terms: Terms) -> tuple[Piece, ...]:
    """All of each line of an order whose lines are different items, which nothing else can serve; else nothing."""
    if len(demand.open) > MOST_WHOLE:
        return ()
    items, lines = atlas.edition.catalog.items, {line.no: line for line in demand.order.lines}
    pieces: list[Piece] = []
    codes: set[str] = set()
    scale: int | None = None
    for no, quantity in demand.open:
        line = lines[no]
        alternatives, item = atlas.alternatives(line, terms), items[line.item]
        weight_ug = weight_of(line, item, quantity, quantity)
        if (
            len(alternatives) > 1
            or (terms.line_split is LineSplit.ALWAYS and quantity > 1)
            or item.code in codes
            or item.scale != (item.scale if scale is None else scale)
            or max(quantity, weight_ug) > HEAVIEST_UG // MOST_WHOLE
        ):
            return ()
        codes.add(item.code)
        scale = item.scale
        pieces.append(Piece(line, alternatives[0], quantity, (Sent(item, quantity, weight_ug),)))
    return tuple(pieces)


def _priced(access: Access, goods: Sequence[Sent], lines: int, scale: int) -> Ints:
    """Cost of every set of lines of some orders by each route (orders x sets x routes), without what opens a route.

    `goods` are those of one order after another, each of so many `lines`.
    """
    sets = _sets(lines)
    handling = access.handling.price(goods, scale)
    handling += access.handling.per_line
    weights = np.array([each.weight_ug for each in goods], dtype=np.int64).reshape(-1, lines) @ sets.T
    freight = access.tariff.price(weights.ravel(), int(weights.max()))
    return sets @ handling.reshape(len(weights), lines, -1) + freight.reshape(*weights.shape, -1)


@lru_cache(maxsize=MOST_WHOLE + 1)
def _sets(lines: int) -> Ints:
    """Which lines are in each set (sets x lines)."""
    return np.array([[mask >> line & 1 for line in range(lines)] for mask in range(1 << lines)], dtype=np.int64)


def served_whole(options: Options, sheet: Sheet) -> list[Block] | None:
    """The blocks of the cheapest plan; None when the order is not that simple after all."""
    drawn = None if may_be_full(options, sheet) else _drawn(options, sheet)
    if drawn is None:
        return None
    cost = by_route(options, np.array(drawn, dtype=np.int64), sheet.cost)
    best = cost.min(axis=1)
    if any(min(costs) < NEVER and not alone for costs, alone in zip(drawn, sent_alone(best).tolist(), strict=True)):
        return None
    ways = cost.argmin(axis=1).tolist()
    lines = [Wanted(piece.line, piece.quantity, (), []) for piece in sheet.pieces]
    chosen = partition(best.tolist(), limits_of(options, lines))
    blocks = [_block(options, sheet, ways[mask], mask) for mask in chosen]
    if len({block.way.route.node.code for block in blocks}) < len(blocks):
        return None
    return blocks


def sent_alone(best: Ints) -> NDArray[np.bool_]:
    """Whether all of a line can leave in one shipment (.. x lines); `best` is what sets of lines cost (.. x sets).

    What is there, and leaves in no one shipment, may be divided.
    """
    lines = best.shape[-1].bit_length() - 1
    alone: NDArray[np.bool_] = best[..., 1 << np.arange(lines)] < NEVER
    return alone


def may_be_full(options: Options, sheet: Sheet) -> bool:
    """Whether a shipment may not find room on the first day, in slots that count what is in it."""
    if options.openings.counts_only_orders or not options.openings.docks:
        return False
    need = need_of(len(sheet.pieces), sheet.goods)
    fullest = max(options.taken.values(), default=0)
    return any(fullest + wanted(need, unit, 1) > limit for unit, limit in options.openings.least_room.items())


def _drawn(options: Options, sheet: Sheet) -> list[list[Cost]] | None:
    """By line and node what drawing and picking all of it costs, NEVER or more where the node has not got it.

    None when that is not so simple, or some but not all of a line is there.
    """
    found: list[tuple[list[Cost], list[str]]] = []
    for goods in sheet.goods:
        spots = options.spots(goods.item.code, goods.quantity)
        if spots is None:
            return None
        found.append(spots)
    for piece, (at_nodes, priced) in zip(sheet.pieces, found, strict=True):
        for node in priced:
            at_nodes[options.access.nodes[node]] = _drawing(options, piece, node)
    costs = [at_nodes for at_nodes, _ in found]
    for n, piece in enumerate(sheet.pieces):
        missing = options.missing(piece.line)
        if missing:
            costs[n] = list(map(add, costs[n], missing))
    return costs


def _drawing(options: Options, piece: Piece, node: str) -> Cost:
    """What drawing all of a line costs at a node that has it in one position."""
    (goods,) = piece.sent
    return sum(drawing(options, piece, goods, draw(options.shelf(goods.item.code, node), goods.quantity)))


def by_route(options: Options, drawn: Ints, sheet: Ints) -> Ints:
    """What each set of lines costs by each route now (.. x sets x routes); `drawn` is .. x lines x nodes."""
    openings = options.openings
    cost: Ints = _sets(drawn.shape[-2]) @ drawn.take(options.access.node_of, axis=-1)
    cost += sheet
    cost += openings.costs
    waits = waits_of_one(options).costs if openings.counts_only_orders else None
    if waits is not None:
        cost += waits
    # What is impossible at a credit is impossible all the same.
    np.copyto(cost, NEVER, where=cost >= NEVER // 2)
    return cost


def _block(options: Options, sheet: Sheet, index: int, mask: int) -> Block:
    way = options.openings.by_index[index]
    assert way is not None
    return Block(way, tuple([piece for place, piece in enumerate(sheet.pieces) if mask >> place & 1]))


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
    return _later_on(options, way, way.departures.with_room(ready, need, options.taken))


def _later_on(options: Options, way: OpenRoute, departure: Departure | None) -> Cost:
    """What it costs more to leave on a later day, where capacity is hard; NEVER if none is early enough."""
    limit = options.deadline if options.terms.service_level.late_is_hard else None
    if departure is None or (limit is not None and departure.arrives > limit):
        return NEVER
    parts = options.parts_on(way, departure)
    return sum([amount for _, amount in parts]) - int(options.openings.costs[way.index])


def waits_of_one(options: Options) -> Waits:
    """What it takes one shipment to wait for room, where slots count orders only.

    Orders of a batch mostly see the same capacity, so what was found last is kept with the openings.
    """
    openings, capacity = options.openings, options.problem.facts.capacity
    found = openings.settled
    if found is None or found.capacity is not capacity:
        costs: Ints | None = None
        room: dict[str, int] = {}
        for dock in openings.docks:
            places = [dock.room(options.taken)]
            if places[0] < 1:
                ways = [way for index in dock.routes if (way := openings.by_index[index]) is not None]
                costs = np.zeros(len(openings.costs), dtype=np.int64) if costs is None else costs
                if options.terms.policy.capacity_is_hard:
                    found_at = [way.departures.room(options.taken) for way in ways]
                    places = [there for _, there in found_at]
                    for way, (departure, _) in zip(ways, found_at, strict=True):
                        costs[way.index] = _later_on(options, way, departure)
                else:
                    for way in ways:
                        costs[way.index] = later(options, way, 0, NO_GOODS)
            room[dock.node.code] = min(*places, room.get(dock.node.code, places[0]))
        found = openings.settled = Waits(capacity, costs, room)
    return found
