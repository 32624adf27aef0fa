"""One order, exactly: the cheapest way to serve its lines.

1. A *portion* is what one shipment may carry of a line: all of it by one alternative (itself, from parts, a
   substitute); some of it, where the line may be divided; some parts of a kit, where the bill allows several nodes.
2. A *block* is at most one portion of every line. What each block costs by each route is one integer array (blocks x
   routes): what its portions cost at the origin, freight and carbon of its weight, the days.
3. Where no line is divided, only the cheapest route of a block matters: the lines are shared out among blocks by the
   dynamic program over sets (`partition`), 3^m / 2 steps for m lines.
4. Else, and where two of these blocks would leave from one node, each node makes its offer: what it could send, in
   one shipment or in several. The dynamic program over amounts (`spread`) takes at most one offer of each.
5. At a node where shipments get in each other's way (one takes the stock on hand and the other waits for a receipt,
   one fills the slot) all ways to send one after another are tried (`_Contest`).

Larger orders go to the MIP in `divide`: more than MOST_LINES lines, or amounts of more than MOST_STATES states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import product
from math import prod
from operator import mul
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poolwise.core.network import CapacityUnit
from poolwise.core.sourcing.atlas import Atlas, Dock, OpenRoute, wanted
from poolwise.core.sourcing.build import Block, Leaving, Piece, build, drawing, leave, substitution
from poolwise.core.sourcing.costs import Sent, need_of
from poolwise.core.sourcing.divide import divide
from poolwise.core.sourcing.options import Options, Shelf, draw, ready_on
from poolwise.core.sourcing.partition import NEVER, TIES, Ints, Lattice, Offer, Spread, partition, spread
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.portions import MOST_BLOCKS, Portion, Wanted, kit_across_nodes, wanted_of
from poolwise.core.sourcing.problem import Problem
from poolwise.core.sourcing.routes import Need, Taken, book
from poolwise.core.sourcing.whole import (
    Sheet,
    as_foreseen,
    groups_of,
    later,
    limits_of,
    served_whole,
    sheets_of,
    value_of,
    waiting_cost,
    waits_of_one,
)
from poolwise.core.values import Cost, Quantity

MOST_LINES: Final = 9
MOST_STATES: Final = 4_096
MOST_STEPS: Final = 30_000_000
"""States x amounts offered in the dynamic program over amounts; more would take longer than the MIP."""

MOST_TRIALS: Final = 20_000
"""Shipments tried at nodes where they get in each other's way."""

HEAVIEST_UG: Final = 1 << 60
COUNTING_GOODS: Final = (CapacityUnit.UNITS, CapacityUnit.WEIGHT)


def solve(problem: Problem, atlas: Atlas, sheet: Sheet | None = None) -> Plan:
    """The cheapest plan that keeps every hard constraint. Nothing to serve it with gives a plan in which all waits.

    `sheet` is the order's, where it was priced, or decided, together with others.
    """
    options = Options(atlas, problem)
    if sheet is None:
        (sheet,) = sheets_of(atlas, [(problem.demand, problem.terms)])
    plan = None if sheet is None else as_foreseen(options, sheet)
    if plan is not None:
        return plan
    chosen = None if sheet is None else served_whole(options, sheet)
    if chosen is None:
        chosen = _chosen(options)
    return divide(options) if chosen is None else build(options, chosen)


def _chosen(options: Options) -> list[Block] | None:
    """The blocks of the cheapest plan; None when that is left to the MIP."""
    demand = options.problem.demand.open
    if len(demand) > MOST_LINES:
        return None
    lines: list[Wanted] = []
    for no, quantity in demand:
        line = wanted_of(options, no, quantity)
        if line is None:
            return None
        lines.append(line)
    if not any(line.portions for line in lines):
        return []
    if prod(1 + len(line.portions) for line in lines) > MOST_BLOCKS or _largest(lines) > HEAVIEST_UG:
        return None
    blocks = _Blocks(options, lines)
    chosen = None
    if not any(line.axes for line in lines) and not _compete(options, lines):
        chosen = _by_sets(blocks)
    return _by_nodes(blocks) if chosen is None else chosen


def _largest(lines: Sequence[Wanted]) -> int:
    """A number that no weight or quantity in a block is more than."""
    return (
        sum(
            max(
                (max(goods.weight_ug, goods.quantity) for portion in line.portions for goods in portion.goods),
                default=0,
            )
            for line in lines
        )
        * 4
    )


# --- blocks


class _Blocks:
    """All blocks of an order with their cost by route, each as if it were the only shipment of its node.

    Row 0 is the empty block; the portions of the first line are the fastest.
    """

    def __init__(self, options: Options, lines: list[Wanted]) -> None:
        """At least one line has a portion."""
        self.options = options
        self.lines = lines
        self._needs: dict[int, Need] = {}
        weights = [[portion.weight_ug for portion in line.portions] for line in lines]
        self.weights = self.by_row(weights)
        self.cost = self._at_origins()
        self.cost += options.access.tariff.price(self.weights, sum([max(each, default=0) for each in weights]))
        if options.access.has_credits:
            # What is impossible at a credit is impossible all the same.
            np.copyto(self.cost, NEVER, where=self.cost >= NEVER // 2)
        self._correct_days()

    def by_row(self, amounts: Sequence[Sequence[int]]) -> Ints:
        """By row the sum of what each portion, of each line, stands for."""
        total = [0]
        for of_line in amounts:
            total = [before + amount for amount in (0, *of_line) for before in total]
        return np.array(total, dtype=np.int64)

    @cached_property
    def lattice(self) -> Lattice:
        """How much may be shipped of every line, along its axes."""
        return Lattice([size for line in self.lines for size in line.axes or (2,)])

    @cached_property
    def states(self) -> Ints:
        """By row the state of the lattice that it ships."""
        found: list[list[int]] = []
        axis = 0
        for line in self.lines:
            strides = self.lattice.strides[axis : axis + (len(line.axes) or 1)]
            found.append([sum(map(mul, portion.steps, strides)) for portion in line.portions])
            axis += len(strides)
        return self.by_row(found)

    def steps(self, row: int) -> tuple[int, ...]:
        """How far a row takes the order on every axis."""
        state = int(self.states[row])
        return tuple(state // s % size for s, size in zip(self.lattice.strides, self.lattice.sizes, strict=True))

    def members(self, row: int) -> list[Portion]:
        """The portions in a row."""
        found: list[Portion] = []
        for line in self.lines:
            row, choice = divmod(row, 1 + len(line.portions))
            if choice:
                found.append(line.portions[choice - 1])
        return found

    def block(self, row: int, index: int) -> Block:
        """What leaves by a route."""
        way = self.options.openings.by_index[index]
        assert way is not None
        members = self.members(row)
        place = self.options.access.nodes[way.route.node.code]
        ready = max([portion.ready[place] for portion in members if place in portion.ready], default=0)
        return Block(way, tuple([piece for portion in members for piece in portion.pieces]), ready)

    def _at_origins(self) -> Ints:
        """What each row costs whatever it weighs, on the first day; the empty row is what opening a shipment costs."""
        access = self.options.access
        total: Ints = np.empty((len(self.weights), len(access.routes)), dtype=np.int64)
        total[0] = self.options.openings.costs
        size, place = 1, 0
        costs = self._of_portions([portion for line in self.lines for portion in line.portions])
        for line in self.lines:
            for n in range(1, 1 + len(line.portions)):
                np.add(total[:size], costs[place], out=total[n * size : (n + 1) * size])
                place += 1
            size *= 1 + len(line.portions)
        return total

    def _of_portions(self, portions: Sequence[Portion]) -> Ints:
        """What each portion costs at the origin of each route, and at the nodes it passes (portions x routes)."""
        access = self.options.access
        costs = np.array([portion.at_node for portion in portions], dtype=np.int64).take(access.node_of, axis=1)
        costs += access.handling.per_line
        goods = [(n, each) for n, portion in enumerate(portions) for each in portion.goods]
        scales = dict.fromkeys([each.item.scale for _, each in goods])
        for scale in scales:
            alike = [(n, each) for n, each in goods if each.item.scale == scale]
            prices = access.handling.price([each for _, each in alike], scale)
            if len(alike) == len(portions) == len(goods):
                costs += prices
            else:
                for (n, _), price in zip(alike, prices, strict=True):
                    costs[n] += price
        for n, each in goods:
            barred = access.carriage(each.item)
            if barred is not None:
                costs[n] += barred
        return costs

    def _correct_days(self) -> None:
        """Where a block cannot leave on the first day, or may not find room then, its day depends on what it is."""
        options, openings = self.options, self.options.openings
        late = dict.fromkeys([place for line in self.lines for portion in line.portions for place in portion.ready])
        if openings.counts_only_orders:
            days = waits_of_one(options).costs
            if days is not None:
                self.cost[1:] += days
                np.minimum(self.cost, NEVER, out=self.cost)
            full = set[int]()
        else:
            full = {index for dock in self._tight_docks(shipments=1) for index in dock.routes}
        if late or full:
            for way in options.routes:
                place = int(options.access.node_of[way.index])
                if place in late:
                    self._correct_rows(way, place, is_full=way.index in full)
                elif way.index in full:
                    self._correct_rows(way, None, is_full=True)

    def _correct_rows(self, way: OpenRoute, late: int | None, is_full: bool) -> None:
        """Correct the rows of a route: those that are not ready, and all where the first day may be full."""
        options, column = self.options, self.cost[:, way.index]
        for (ready, need), rows in self._alike(way, late).items():
            if ready or is_full:
                wait = later(options, way, ready, need)
                if wait < NEVER and options.openings.counts_only_orders:
                    # What they wait for room at once is there already.
                    wait -= later(options, way, 0, need)
                column[rows] = np.minimum(column[rows] + wait, NEVER) if wait < NEVER else NEVER

    def _alike(self, way: OpenRoute, late: int | None) -> dict[tuple[int, Need], list[int]]:
        """The rows that may leave by a route, by the day they are ready and by what they take of its slots.

        `late` is the place of its node where something is not ready at once. Of the need only what the slots count is
        told apart.
        """
        rows = np.flatnonzero(self.cost[1:, way.index] < NEVER) + 1
        ready = [0]
        for line in self.lines:
            days = [0, *(0 if late is None else portion.ready.get(late, 0) for portion in line.portions)]
            ready = [max(before, day) for day in days for before in ready]
        counts_goods = any(slot.unit in COUNTING_GOODS for slot in way.route.node.slots)
        found: dict[tuple[int, Need], list[int]] = {}
        for row in rows.tolist():
            need = self._need(row) if counts_goods else Need(self.counts[row], 0, 0)
            found.setdefault((ready[row], need), []).append(row)
        return found

    @cached_property
    def counts(self) -> list[int]:
        """By row the number of lines in it."""
        return [mask.bit_count() for mask in _masks(tuple([len(line.portions) for line in self.lines]))]

    def _need(self, row: int) -> Need:
        """The capacity a row takes."""
        found = self._needs.get(row)
        if found is None:
            goods = [each for portion in self.members(row) for each in portion.goods]
            found = self._needs[row] = need_of(self.counts[row], goods)
        return found

    def tight_nodes(self, shipments: int) -> set[str]:
        """Nodes where so many shipments, in which every line may be, might not leave on the day the first of them does.

        Slots that count orders have room for one as for the other, so that day is known.
        """
        if self.options.openings.counts_only_orders:
            return {node for node, room in waits_of_one(self.options).room.items() if room < shipments}
        return {dock.node.code for dock in self._tight_docks(shipments)}

    def _tight_docks(self, shipments: int) -> list[Dock]:
        """Docks where so many shipments, in which every line may be, might not find room on the first day."""
        options, openings = self.options, self.options.openings
        if not openings.docks:
            return []
        need = Need(len(self.lines), 0, 0)
        if openings.counts_goods:
            need = need_of(len(self.lines), [each for line in self.lines for each in _at_most(options, line)])
        fullest = max(options.taken.values(), default=0)
        for unit, limit in openings.least_room.items():
            if fullest + wanted(need, unit, shipments) > limit:
                return [dock for dock in openings.docks if not dock.has_room(need, shipments, options.taken)]
        return []


def _at_most(options: Options, line: Wanted) -> list[Sent]:
    """Goods that take at least as much capacity as all shipments of a line can."""
    if not line.divisible:
        return [goods for portion in line.portions for goods in portion.goods]
    full = [options.goods(line.line, each, line.quantity // each.per * each.per) for each in line.alternatives]
    return [goods for sent in full if sent for goods in sent]


# --- lines that are served whole: sets


def _compete(options: Options, lines: Sequence[Wanted]) -> bool:
    """Whether lines want the same item, and a node may not have enough of it on hand for all of them."""
    codes = [code for line in lines for code in dict.fromkeys([g.item.code for p in line.portions for g in p.goods])]
    if len(dict.fromkeys(codes)) == len(codes):
        return False
    for code in dict.fromkeys(codes):
        if codes.count(code) > 1:
            uses = [[g.quantity for p in line.portions for g in p.goods if g.item.code == code] for line in lines]
            most = sum([max(quantities, default=0) for quantities in uses])
            if any(shelf[0].ready or shelf[0].quantity < most for shelf in options.shelves(code).values()):
                return True
    return False


def _by_sets(blocks: _Blocks) -> list[Block] | None:
    """The blocks of the cheapest plan; None when two of them may be in each other's way."""
    ways = blocks.cost.argmin(axis=1).tolist()
    costs = blocks.cost.min(axis=1).tolist()
    best, rows = [NEVER] * (1 << len(blocks.lines)), [0] * (1 << len(blocks.lines))
    for row, mask in enumerate(_masks(tuple([len(line.portions) for line in blocks.lines]))):
        if costs[row] < best[mask]:
            best[mask], rows[mask] = costs[row], row
    found = [
        blocks.block(rows[mask], ways[rows[mask]]) for mask in partition(best, limits_of(blocks.options, blocks.lines))
    ]
    if len(found) < 2:
        return found
    indexes = [block.way.index for block in found]
    nodes = [block.way.route.node.code for block in found]
    if len(set(nodes)) < len(nodes):
        # By different routes they may leave from one node, if there is room for both.
        may_fill = any(block.way.route.node.slots for block in found) and (
            bool(blocks.tight_nodes(len(found))) or any(block.ready for block in found)
        )
        if len(set(indexes)) < len(indexes) or may_fill:
            return None
    return found


@lru_cache(maxsize=1024)
def _masks(portions: tuple[int, ...]) -> tuple[int, ...]:
    """By row the set of lines in it, as bits, for lines of so many portions."""
    masks = [0]
    for line, count in enumerate(portions):
        masks += [mask | 1 << line for _ in range(count) for mask in masks[:]]
    return tuple(masks)


# --- lines that are divided, or in each other's way: amounts


class _NodeOffer(NamedTuple):
    """What a node offers, and the blocks behind each of its amounts."""

    offer: Offer
    blocks: Callable[[int], list[Block]]


def _by_nodes(blocks: _Blocks) -> list[Block] | None:
    """The blocks of the cheapest plan; None when there is too much to try."""
    lattice = blocks.lattice
    if lattice.states > MOST_STATES:
        return None
    lawful = _lawful(blocks)
    split = blocks.options.prices.split(blocks.options.terms)
    best = np.minimum.reduceat(blocks.cost, blocks.options.access.first_of, axis=1)
    contested = _contested(blocks)
    trials = MOST_TRIALS
    offers: list[_NodeOffer] = []
    for code, place in blocks.options.access.nodes.items():
        rows = np.flatnonzero(lawful & (best[:, place] < NEVER))
        if not len(rows):
            continue
        if code in contested:
            contest = _Contest(blocks, code, rows.tolist(), trials)
            found = contest.offer(split)
            if found is None:
                return None
            trials -= contest.trials
        else:
            found = _plain_offer(blocks, place, rows, split)
        if len(found.offer.states):
            offers.append(found)
    if lattice.states * sum(len(found.offer.states) for found in offers) > MOST_STEPS:
        return None
    taken = spread(lattice, [found.offer for found in offers], _finals(blocks), blocks.options.terms.max_shipments)
    return [block for node, place in taken for block in offers[node].blocks(place)]


def _lawful(blocks: _Blocks) -> NDArray[np.bool_]:
    """The rows that may be a shipment beside others: lines that belong together whole, and worth enough.

    A shipment of the whole order is the only part there is, whatever it is worth.
    """
    options, lines = blocks.options, blocks.lines
    lawful: NDArray[np.bool_] = np.ones(len(blocks.weights), dtype=np.bool_)
    lawful[0] = False
    for group in groups_of(lines):
        present = blocks.by_row([[int(n in group) for _ in line.portions] for n, line in enumerate(lines)])
        whole = blocks.by_row([[int(n in group and p.complete) for p in line.portions] for n, line in enumerate(lines)])
        lawful &= (present == whole) & ((present == 0) | (present == len(group)))
    least = options.terms.min_shipment_value.times(1)
    if least > 0:
        worth = blocks.by_row([[value_of(options, line, p.served) for p in line.portions] for line in lines])
        complete = blocks.by_row([[int(p.complete) for p in line.portions] for line in lines])
        lawful &= (worth >= least) | (complete == len(lines))
    return lawful


def _finals(blocks: _Blocks) -> Ints:
    """By state: what waits costs, less the split that the first shipment is not; NEVER where it may not be all."""
    options, terms = blocks.options, blocks.options.terms
    least = terms.min_shipment_value.times(1)
    costs: Ints = np.zeros(1, dtype=np.int64)
    waiting, values = costs, costs
    for line in blocks.lines:
        # The first axis is the fastest.
        left = [_left(line, amounts[::-1]) for amounts in product(*map(range, reversed(line.axes or (2,))))]
        own = [NEVER if quantity is None else waiting_cost(options, line, quantity) for quantity in left]
        costs = np.minimum(np.add.outer(np.array(own, dtype=np.int64), costs).ravel(), NEVER)
        waiting = np.add.outer(np.array([quantity or 0 for quantity in left], dtype=np.int64), waiting).ravel()
        if least > 0:
            own = [value_of(options, line, quantity or 0) for quantity in left]
            values = np.add.outer(np.array(own, dtype=np.int64), values).ravel()
    if terms.ship_complete:
        costs[1:][waiting[1:] > 0] = NEVER
    if least > 0:
        costs[1:][(waiting[1:] > 0) & (values[1:] < least)] = NEVER
    costs[1:] -= options.prices.split(terms)
    return costs * TIES


def _left(line: Wanted, amounts: Sequence[Quantity]) -> Quantity | None:
    """What waits of a line when that much is shipped along its axes; None when kits would be left incomplete."""
    if not line.divisible:
        served, *parts = amounts
        if len(dict.fromkeys(parts)) > 1 or (served and any(parts)):
            return None
        return 0 if served or any(parts) else line.quantity
    served, *parts = amounts
    if parts:
        kit = kit_across_nodes(line.alternatives)
        assert kit is not None, "only such a kit has more than one axis"
        needs = kit.needs
        sets = parts[0] // needs[0][1]
        if any(part != sets * n for part, (_, n) in zip(parts, needs, strict=True)):
            return None
        served += sets
    return line.quantity - served if served <= line.quantity else None


def _contested(blocks: _Blocks) -> frozenset[str]:
    """Nodes where shipments may get in each other's way: by stock that is short or not there yet, or by slots."""
    options = blocks.options
    most: dict[str, Quantity] = {}
    users: dict[str, int] = {}
    for line in blocks.lines:
        for alternative in line.alternatives:
            for code, count in alternative.needs:
                most[code] = most.get(code, 0) + line.quantity // alternative.per * count
                users[code] = users.get(code, 0) + 1
    by_several_ways = any(len(line.alternatives) > 1 for line in blocks.lines)
    # Where one more than one by each route finds room, none has to leave on another day than the first.
    most_ways = max(len(ways) for ways in options.by_node.values())
    found = set(blocks.tight_nodes(most_ways + 1))
    for node, ways in options.by_node.items():
        for code, quantity in most.items():
            shelf = options.shelves(code).get(node, ())
            if not shelf or (not shelf[0].ready and shelf[0].quantity >= quantity):
                continue
            in_turn = len(ways) > 1 and (len(shelf) > 1 or by_several_ways)
            if in_turn or users[code] > 1 or _waits_for_receipts(shelf, quantity):
                found.add(node)
    return frozenset(found)


def _waits_for_receipts(shelf: Shelf, quantity: Quantity) -> bool:
    for source in shelf:
        if quantity <= 0:
            return False
        if source.ready:
            return True
        quantity -= source.quantity
    return False


def _plain_offer(blocks: _Blocks, place: int, rows: Ints, split: Cost) -> _NodeOffer:
    """What a node offers where shipments by its routes, one each, are not in each other's way."""
    access = blocks.options.access
    own = np.flatnonzero(access.node_of == place)
    costs = blocks.cost[np.ix_(rows, own)]
    ways = own[costs.argmin(axis=1)]
    states = blocks.states.take(rows)
    single = Offer(states, (costs.min(axis=1) + split) * TIES + 1, np.ones(len(rows), dtype=np.int64))

    def alone(entry: int) -> list[Block]:
        return [blocks.block(int(rows[entry]), int(ways[entry]))]

    if len(own) == 1 or len(rows) < 2:
        return _NodeOffer(single, alone)
    several = Spread(blocks.lattice, most=len(own))
    for column in range(len(own)):
        several.add(Offer(states, (np.minimum(costs[:, column], NEVER) + split) * TIES + 1, single.shipments))
    reach = _in_stock(blocks, place)
    found = [
        (count, state)
        for count in range(2, len(own) + 1)
        for state in np.flatnonzero(reach & (several.sums[count, :-1] < several.sums[count - 1, :-1])).tolist()
    ]
    if not found:
        return _NodeOffer(single, alone)
    counts, more = (np.array(each, dtype=np.int64) for each in zip(*found, strict=True))
    offer = Offer(
        np.concatenate((states, more)),
        np.concatenate((single.costs, several.sums[counts, more])),
        np.concatenate((single.shipments, counts)),
    )

    def together(entry: int) -> list[Block]:
        if entry < len(rows):
            return alone(entry)
        taken = several.walk(*found[entry - len(rows)])
        return [blocks.block(int(rows[row]), int(own[column])) for column, row in taken]

    return _NodeOffer(offer, together)


def _in_stock(blocks: _Blocks, place: int) -> NDArray[np.bool_]:
    """The states a node has the stock for, where every line is served by one alternative."""
    found: NDArray[np.bool_] = np.ones(blocks.lattice.states, dtype=np.bool_)
    axis = 0
    for line in blocks.lines:
        for _ in line.axes or (2,):
            there = [portion.steps[0] for portion in line.portions if portion.at_node[place] < NEVER]
            found &= blocks.lattice.amounts(axis) <= max(there, default=0)
            axis += 1
    return found


class _Candidate(NamedTuple):
    """A block that a node could send, and what is asked of it again and again."""

    row: int
    portions: list[Portion]
    pieces: tuple[Piece, ...]
    steps: tuple[int, ...]
    need: Need


class _Contest:
    """All that a node can send where shipments get in each other's way, tried one after another.

    Shipments are tried in the order of their numbers: each draws what those before it left, and leaves on the first
    day on which all of it is there and they left room. None can leave earlier beside those that come after it, since
    these leave on later days or by later routes of the day.
    """

    def __init__(self, blocks: _Blocks, node: str, rows: Sequence[int], most_trials: int) -> None:
        self.trials = 0
        self._most_trials = most_trials
        self._blocks = blocks
        self._options = blocks.options
        self._node = node
        self._ways = blocks.options.by_node[node]
        self._candidates = [self._candidate(row) for row in rows]
        self._fixed: dict[tuple[int, int], Cost] = {}
        self._best: dict[tuple[tuple[int, ...], int], tuple[Cost, list[Block]]] = {}

    def offer(self, split: Cost) -> _NodeOffer | None:
        """What the node offers; None when there is too much to try."""
        taken = {key: amount for key, amount in self._options.taken.items() if key[0] == self._node}
        self._extend((0, 0), tuple(0 for _ in self._blocks.lattice.sizes), {}, taken, 0, [])
        if self.trials > self._most_trials:
            return None
        strides = self._blocks.lattice.strides
        if not self._best:
            return _NodeOffer(Offer(*(np.zeros(0, dtype=np.int64) for _ in range(3))), lambda _: [])
        states = [sum(a * b for a, b in zip(amounts, strides, strict=True)) for amounts, _ in self._best]
        counts = [count for _, count in self._best]
        costs = [(cost + split * count) * TIES + count for (_, count), (cost, _) in self._best.items()]
        found = [sent for _, sent in self._best.values()]
        offer = Offer(*(np.array(each, dtype=np.int64) for each in (states, costs, counts)))
        return _NodeOffer(offer, lambda entry: found[entry])

    def _candidate(self, row: int) -> _Candidate:
        portions = self._blocks.members(row)
        pieces = tuple(piece for portion in portions for piece in portion.pieces)
        need = need_of(len(portions), [goods for piece in pieces for goods in piece.sent])
        return _Candidate(row, portions, pieces, self._blocks.steps(row), need)

    def _extend(
        self,
        last: tuple[int, int],
        amounts: tuple[int, ...],
        used: Mapping[str, Quantity],
        taken: Taken,
        cost: Cost,
        sent: list[Block],
    ) -> None:
        """Try every shipment that may come next, after the one numbered by day and route as `last`."""
        for candidate in self._candidates:
            after = tuple(a + b for a, b in zip(amounts, candidate.steps, strict=True))
            if any(amount >= size for amount, size in zip(after, self._blocks.lattice.sizes, strict=True)):
                continue
            self.trials += 1
            if self.trials > self._most_trials:
                return
            drawn = self._drawn(candidate, used)
            if drawn is None:
                continue
            ready, for_stock, used_after = drawn
            for way in self._ways:
                if self._blocks.cost[candidate.row, way.index] >= NEVER:
                    continue
                for leaving, window in self._leavings(way, ready, candidate.need, taken):
                    number = (leaving.departure.ships, way.index)
                    if number <= last:
                        continue
                    total = cost + for_stock + self._fixed_cost(candidate, way) + leaving.cost
                    sequence = [*sent, Block(way, candidate.pieces, leaving.departure.ships, window)]
                    known = self._best.get((after, len(sequence)))
                    if known is None or total < known[0]:
                        self._best[after, len(sequence)] = (total, sequence)
                    booked = dict(taken)
                    for booking in leaving.bookings:
                        key = (booking.node, booking.day.toordinal(), booking.slot)
                        booked[key] = booked.get(key, 0) + booking.quantity
                    self._extend(number, after, used_after, booked, total, sequence)

    def _drawn(
        self, candidate: _Candidate, used: Mapping[str, Quantity]
    ) -> tuple[int, Cost, Mapping[str, Quantity]] | None:
        """First day, cost and what is used in all when a shipment draws its goods; None when they are not there."""
        after = dict(used)
        ready, cost = 0, 0
        for piece in candidate.pieces:
            for goods in piece.sent:
                code = goods.item.code
                shelf = self._options.shelves(code).get(self._node, ())
                before = after.get(code, 0)
                after[code] = before + goods.quantity
                day = ready_on(shelf, after[code])
                if day is None:
                    return None
                ready = max(ready, day)
                cost += sum(drawing(self._options, piece, goods, draw(shelf, goods.quantity, before)))
        return ready, cost, after

    def _leavings(
        self, way: OpenRoute, ready: int, need: Need, taken: Taken
    ) -> Iterator[tuple[Leaving, tuple[int, ...] | None]]:
        """The departure on the first day with room, once for each window of the day that has it."""
        leaving = leave(self._options, way, ready, need, taken)
        if leaving is None:
            return
        node, day = way.route.node, leaving.departure.ships
        if not node.slots or not self._options.terms.policy.capacity_is_hard:
            yield leaving, None
            return
        for window in way.departures.windows(day):
            bookings = book(node, day, [window], need, taken, hard=True)
            if bookings is not None:
                yield leaving._replace(bookings=bookings), window

    def _fixed_cost(self, candidate: _Candidate, way: OpenRoute) -> Cost:
        """What the goods of a shipment cost whatever stock they are and whenever they leave."""
        key = (candidate.row, way.index)
        known = self._fixed.get(key)
        if known is None:
            prices, route = self._options.prices, way.route
            goods = [portion.goods for portion in candidate.portions]
            weight_ug = sum(each.weight_ug for sent in goods for each in sent)
            freight = prices.freight(route, weight_ug)
            assert freight is not None, "the block is carried by this route"
            known = sum(amount for _, amount in freight) + prices.carbon(route, weight_ug)[1][1]
            known += sum(prices.leaving(route.node, sent) + prices.passing(route, sent) for sent in goods)
            known += sum(substitution(self._options, piece) for piece in candidate.pieces)
            self._fixed[key] = known
        return known
