"""One order, exactly: the cheapest way to serve its lines.

1. A *portion* is what one shipment may carry of a line: all of it by one alternative (itself, from parts, a
   substitute); some of it, where the line may be divided; some parts of a kit, where the bill allows several nodes.
2. A *block* is at most one portion of every line. What each block costs by each route is one integer array (blocks x
   routes): what its portions cost at the origin, freight and carbon of its weight, the days (`blocks`).
3. Where no line is divided, only the cheapest route of a block matters: the lines are shared out among blocks by the
   dynamic program over sets (`partition`), 3^m / 2 steps for m lines.
4. Else, and where two of these blocks would leave from one node, each node makes its offer: what it could send, in
   one shipment or in several (`nodes`). The dynamic program over amounts (`spread`) takes at most one offer of each.

Larger orders go to the MIP in `divide`: more than MOST_LINES lines, or amounts of more than MOST_STATES states.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

from poolwise.core.orders import Order
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.blocks import Blocks, masks_of
from poolwise.core.sourcing.build import Block, build
from poolwise.core.sourcing.divide import divide
from poolwise.core.sourcing.nodes import by_nodes
from poolwise.core.sourcing.options import Options
from poolwise.core.sourcing.partition import NEVER, partition
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.portions import MOST_BLOCKS, Wanted, wanted_of
from poolwise.core.sourcing.problem import Problem
from poolwise.core.sourcing.together import Prepared, as_foreseen
from poolwise.core.sourcing.whole import limits_of, served_whole, sheets_of

MOST_LINES: Final = 9
HEAVIEST_UG: Final = 1 << 60
LARGEST: Final = 1 << 63
"""Costs and weights of a plan are kept in 64 bits."""


class Undecidable(Exception):
    """No plan comes of an order: a fault of ours, which must not hold up the orders beside it."""

    def __init__(self, order: Order) -> None:
        """`order` is the one that nobody can decide."""
        super().__init__(f"order '{order.number}' cannot be decided")
        self.order = order


def solve(problem: Problem, atlas: Atlas, prepared: Prepared | None = None) -> Plan:
    """The cheapest plan that keeps every hard constraint. Nothing to serve it with gives a plan in which all waits.

    `prepared` is what was worked out of the order together with others. Raises Undecidable.
    """
    try:
        plan = _solved(problem, atlas, prepared)
        assert max(plan.objective, sum([shipment.weight_ug for shipment in plan.shipments])) < LARGEST, "too large"
    except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError) as fault:
        raise Undecidable(problem.demand.order) from fault
    return plan


def _solved(problem: Problem, atlas: Atlas, prepared: Prepared | None) -> Plan:
    if prepared is not None and prepared.foreseen is not None:
        plan = as_foreseen(problem, atlas, prepared.foreseen)
        if plan is not None:
            return plan
    (sheet,) = sheets_of(atlas, [(problem.demand, problem.terms)]) if prepared is None else (prepared.sheet,)
    options = Options(atlas, problem)
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
    blocks = Blocks(options, lines)
    chosen = None
    if not any(line.axes for line in lines) and not _compete(options, lines):
        chosen = _by_sets(blocks)
    return by_nodes(blocks) if chosen is None else chosen


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


def _by_sets(blocks: Blocks) -> list[Block] | None:
    """The blocks of the cheapest plan; None when two of them may be in each other's way."""
    ways = blocks.cost.argmin(axis=1).tolist()
    costs = blocks.cost.min(axis=1).tolist()
    best, rows = [NEVER] * (1 << len(blocks.lines)), [0] * (1 << len(blocks.lines))
    for row, mask in enumerate(masks_of(tuple([len(line.portions) for line in blocks.lines]))):
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
