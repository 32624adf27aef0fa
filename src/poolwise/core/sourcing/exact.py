"""One order, exactly: the cheapest way to serve its lines, by dynamic programming over blocks of lines.

The lines of an order are partitioned into blocks, each leaving from one node by one route on one day:

1. Every line gets its *columns*: the alternatives (itself, from parts, a substitute) that some node has in full.
2. Blocks are all choices of at most one column per line. The cost of each block by each route is one integer array
   (blocks x routes): lines' costs add up, freight is the band of the block's weight, days cost what they cost.
3. `best[B]` is the cheapest route of the blocks that serve exactly the set of lines B.
4. `f[A] = min over B with the lowest line of A of best[B] + f[A without B]`: 3^m / 2 steps for m lines.
5. Lines that wait are one more block; the plan is the cheapest over what waits.

Exact for up to MOST_LINES lines that are not divided (ALGORITHMS section 1, engine R). Everything else - a line no
node has in full, lines that compete for the same scarce stock, larger orders - goes to the MIP in `divide`. The MIP
also takes over when two blocks of the best partition leave from the same node, since they may share stock or slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from poolwise.core.network import CapacityUnit
from poolwise.core.orders import Line
from poolwise.core.policy.terms import LineSplit
from poolwise.core.sourcing.build import Block, Piece, build, leave
from poolwise.core.sourcing.costs import Sent, need_of
from poolwise.core.sourcing.divide import divide
from poolwise.core.sourcing.options import Alternative, Atlas, OpenRoute, Options, Shelf, carries, ready_on
from poolwise.core.sourcing.partition import Limits, partition
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.problem import Problem
from poolwise.core.sourcing.routes import Need
from poolwise.core.values import Cost, Quantity

MOST_LINES: Final = 8
MOST_BLOCKS: Final = 6_561
NEVER: Final = 1 << 55
"""More than any cost: what is infinite in the arrays. Larger real costs are planned by the MIP."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Column:
    """A line served in full by one alternative: cost and first day by route, and what it weighs and takes."""

    line: int
    piece: Piece
    cost: Ints
    ready: Ints | None
    weight_ug: int


def solve(problem: Problem, atlas: Atlas) -> Plan:
    """The cheapest plan that keeps every hard constraint. Nothing to serve it with gives a plan in which all waits."""
    options = Options(atlas, problem)
    demand = [(options.lines[no], quantity) for no, quantity in problem.demand.open]
    columns = _columns(options, demand) if len(demand) <= MOST_LINES else None
    if columns is None:
        return divide(options)
    blocks = _Blocks(options, demand, columns)
    chosen = blocks.cheapest() if blocks.small_enough else None
    return divide(options) if chosen is None else build(options, chosen)


def _columns(options: Options, demand: list[tuple[Line, Quantity]]) -> list[list[Column]] | None:
    """The columns of every line; None when the lines are not independent, or one has to be divided."""
    columns: list[list[Column]] = []
    wanted: dict[str, int] = {}
    for place, (line, quantity) in enumerate(demand):
        found, divisible = _line_columns(options, place, line, quantity)
        if divisible:
            return None
        columns.append(found)
        for column in {piece.item.code: piece for c in found for piece in c.piece.sent}.values():
            wanted[column.item.code] = wanted.get(column.item.code, 0) + 1
    shared = [item for item, lines in wanted.items() if lines > 1]
    if shared and not _enough_for_all(options, columns, shared):
        return None
    return columns


def _enough_for_all(options: Options, columns: list[list[Column]], shared: list[str]) -> bool:
    """Whether every shelf that could serve one of the lines holds, on hand, what all of them together want."""
    for item in shared:
        total = 0
        for line_columns in columns:
            total += max(
                (sum(p.quantity for p in c.piece.sent if p.item.code == item) for c in line_columns), default=0
            )
        for shelf in options.shelves(item).values():
            if len(shelf) > 1 or shelf[0].ready or shelf[0].quantity < total:
                return False
    return True


def _line_columns(options: Options, place: int, line: Line, quantity: Quantity) -> tuple[list[Column], bool]:
    """The columns of a line, and whether its quantity may be divided."""
    split = options.terms.line_split
    offered = options.alternatives(line, quantity)
    if (offered and split == LineSplit.ALWAYS) or any(alternative.across_nodes for alternative in offered):
        return [], True
    found: list[Column] = []
    whole = False
    for alternative in offered:
        column, on_hand = _column(options, place, line, quantity, alternative)
        whole |= on_hand
        if column is not None:
            found.append(column)
    return found, bool(offered) and not whole and split == LineSplit.WHEN_SHORT


def _column(
    options: Options, place: int, line: Line, quantity: Quantity, alternative: Alternative
) -> tuple[Column | None, bool]:
    """The column of an alternative, None where no node ever has all of it; and whether some node has it on hand."""
    sent = options.goods(line, alternative, quantity)
    if sent is None:
        return None, False
    shelves = [options.shelves(goods.item.code) for goods in sent]
    piece = Piece(line, alternative, quantity, sent)
    plain = not any(goods.item.requires or goods.item.length_mm for goods in sent)
    cost = [NEVER] * len(options.access.routes)
    ready: dict[int, int] = {}
    on_hand = False
    for node in shelves[0] if len(sent) == 1 else [node for node in shelves[0] if all(node in s for s in shelves)]:
        day = _ready(shelves, sent, node)
        if day is None:
            continue
        ways = options.by_node[node]
        if not plain:
            ways = [way for way in ways if all(carries(way.route, goods.item) for goods in sent)]
            if not ways:
                continue
        at_node = piece.cost_at(options, ways[0].route.node)
        if not -NEVER < at_node < NEVER:
            return None, False
        on_hand |= not day
        for way in ways:
            cost[way.index] = at_node + options.prices.passing(way.route, sent) if way.route.via else at_node
            if day:
                ready[way.index] = day
    weight_ug = sum(goods.weight_ug for goods in sent)
    days = np.array([ready.get(index, 0) for index in range(len(cost))], dtype=np.int64) if ready else None
    return Column(place, piece, np.array(cost, dtype=np.int64), days, weight_ug), on_hand


def _ready(shelves: list[dict[str, Shelf]], sent: tuple[Sent, ...], node: str) -> int | None:
    """First day (0 = at once) on which a node has everything; None when it never has."""
    latest = 0
    for offers, goods in zip(shelves, sent, strict=True):
        day = ready_on(offers[node], goods.quantity)
        if day is None:
            return None
        latest = max(latest, day)
    return latest


class _Blocks:
    """All blocks of an order's columns with their cost by route, and the search for the cheapest partition."""

    def __init__(self, options: Options, demand: Sequence[tuple[Line, Quantity]], columns: list[list[Column]]) -> None:
        self.options = options
        self.demand = demand
        self.full = (1 << len(demand)) - 1
        count = 1
        for line_columns in columns:
            count *= 1 + len(line_columns)
        self.small_enough = count <= MOST_BLOCKS
        if self.small_enough:
            self._enumerate(columns)

    def _enumerate(self, columns: list[list[Column]]) -> None:
        """Rows of blocks, by doubling: what there was, and what there was with each column of the next line."""
        cost = np.zeros((1, len(self.options.access.routes)), dtype=np.int64)
        weight = np.zeros(1, dtype=np.int64)
        ready: Ints | None = None
        members: list[tuple[Column, ...]] = [()]
        masks = [0]
        for of_line in columns:
            rows = len(masks)
            costs, weights, readies = [cost], [weight], [ready]
            for column in of_line:
                costs.append(cost + column.cost)
                weights.append(weight + column.weight_ug)
                readies.append(_later(ready, column.ready, cost.shape))
                members.extend((*member, column) for member in members[:rows])
                masks.extend(mask | 1 << column.line for mask in masks[:rows])
            if any(part is not None for part in readies):
                ready = np.concatenate([np.zeros_like(cost) if part is None else part for part in readies])
            cost, weight = np.concatenate(costs), np.concatenate(weights)
        self.members, self.masks, self.cost, self.weight, self.ready = members, masks, cost, weight, ready

    def cheapest(self) -> list[Block] | None:
        """The blocks of the cheapest plan; None when two of them leave from the same node (the MIP decides)."""
        if not self.options.routes or len(self.masks) == 1:
            return []
        best = self._best_by_mask()
        chosen = partition(best, self._limits())
        ways = {way.index: way for way in self.options.routes}
        nodes = [ways[best[mask][2]].route.node.code for mask in chosen]
        if len(set(nodes)) < len(nodes):
            return None
        blocks = []
        for mask in chosen:
            _, row, way = best[mask]
            ready = 0 if self.ready is None else int(self.ready[row, way])
            pieces = tuple(column.piece for column in self.members[row])
            blocks.append(Block(ways[way], pieces, ready))
        return blocks

    def _best_by_mask(self) -> dict[int, tuple[Cost, int, int]]:
        """Cost, row and route of the cheapest block for each set of lines that one shipment can serve."""
        total = self.cost + self.options.access.tariff.price(self.weight, NEVER)
        self._add_leaving(total)
        ways = total.argmin(axis=1).tolist()
        amounts = total.min(axis=1).tolist()
        best: dict[int, tuple[Cost, int, int]] = {}
        for row, mask in enumerate(self.masks):
            if mask and amounts[row] < NEVER and (mask not in best or amounts[row] < best[mask][0]):
                best[mask] = (amounts[row], row, ways[row])
        return best

    def _add_leaving(self, total: Ints) -> None:
        """Add what opening a shipment and its days cost; NEVER where it cannot leave in time."""
        simple = np.full(total.shape[1], NEVER, dtype=np.int64)
        for way in self.options.routes:
            waits = self.ready is not None and bool(self.ready[:, way.index].any())
            if waits or any(slot.unit != CapacityUnit.ORDERS for slot in way.route.node.slots):
                simple[way.index] = 0
                self._add_by_block(total, way)
            elif not way.route.node.slots or self.options.has_room(way):
                simple[way.index] = self.options.first_cost(way)
            else:
                simple[way.index] = self._leaving_cost(way, 0, Need(1, 1, 1))
        total += simple

    def _add_by_block(self, total: Ints, way: OpenRoute) -> None:
        """The same by a route whose day depends on what leaves: waiting for receipts, or by lines, units or weight."""
        for row, member in enumerate(self.members):
            if member and total[row, way.index] < NEVER:
                need = need_of(len(member), [goods for c in member for goods in c.piece.sent])
                ready = 0 if self.ready is None else int(self.ready[row, way.index])
                total[row, way.index] += self._leaving_cost(way, ready, need)

    def _leaving_cost(self, way: OpenRoute, ready: int, need: Need) -> Cost:
        leaving = leave(self.options, way, ready, need, self.options.taken)
        if leaving is None:
            return NEVER
        opening = sum(amount for _, amount in self.options.prices.opening(way.route))
        return leaving.cost + opening + self.options.prices.node(way.penalty)[1]

    def _limits(self) -> Limits:
        options, terms = self.options, self.options.terms
        on = options.problem.facts.at.date()
        values = [options.prices.value(ln, options.catalog.items[ln.item], qty, on) for ln, qty in self.demand]
        labels = sorted({line.together for line, _ in self.demand if line.together})
        groups = tuple(
            sum(1 << place for place, (line, _) in enumerate(self.demand) if line.together == label)
            for label in labels
        )
        return Limits(
            full=self.full,
            waiting=tuple(options.prices.waiting(options.catalog.items[ln.item], qty) for ln, qty in self.demand),
            split_cost=options.prices.split(2),
            most=terms.max_shipments,
            complete=terms.ship_complete,
            together=groups,
            values=tuple(values),
            least_value=terms.min_shipment_value.times(1),
        )


def _later(ready: Ints | None, own: Ints | None, shape: tuple[int, ...]) -> Ints | None:
    if own is None:
        return ready
    return np.broadcast_to(own, shape) if ready is None else np.maximum(ready, own)
