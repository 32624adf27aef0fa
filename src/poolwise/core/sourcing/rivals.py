"""Plans that were not chosen, worked out when somebody asks why: the cheapest with fewer shipments or with more, and
those that a hard rule about splitting forbids. Nothing of it is stored (law 8).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from poolwise.core.availability import kits
from poolwise.core.orders import Line
from poolwise.core.policy.terms import CostKind, LineSplit, Terms
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.options import Options
from poolwise.core.sourcing.plan import CostPart, Elimination, Plan
from poolwise.core.sourcing.problem import Problem
from poolwise.core.values import ZERO_RATE, Quantity, replace

MOST_SHIPMENTS: Final = 8
MOST_LINES: Final = 50


@dataclass(frozen=True, slots=True)
class Rival:
    """Another plan with its whole cost, what it would pay for its splits included; `barred` by a hard rule, if so."""

    plan: Plan
    barred: Elimination | None = None

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes it ships from, shipment by shipment."""
        return tuple(shipment.node for shipment in self.plan.shipments)


def rivals(problem: Problem, atlas: Atlas, plan: Plan) -> tuple[Rival, ...]:
    """The rivals of a plan, the cheapest first; each plan once. Large orders have none."""
    if len(problem.demand.open) > MOST_LINES:
        return ()
    found: list[Rival] = []
    for rival in (*_of_other_size(problem, atlas, plan), *_barred(problem, atlas, plan)):
        if rival.plan.shipments and not any(_same(rival.plan, known) for known in (plan, *(r.plan for r in found))):
            found.append(rival)
    return tuple(sorted(found, key=lambda rival: (rival.plan.objective, len(rival.nodes), rival.nodes)))


def _of_other_size(problem: Problem, atlas: Atlas, plan: Plan) -> Iterator[Rival]:
    terms, size = problem.terms, len(plan.shipments)
    for most in range(1, min(size, MOST_SHIPMENTS)):
        yield Rival(_solved(problem, atlas, replace(terms, max_shipments=most)))
    if terms.split_cost.numerator:
        free = _solved(problem, atlas, replace(terms, split_cost=ZERO_RATE))
        if len(free.shipments) > size:
            paid = CostPart(CostKind.SPLIT, atlas.prices.split(terms) * (len(free.shipments) - 1))
            yield Rival(replace(free, costs=(*free.costs, paid)))


def _barred(problem: Problem, atlas: Atlas, plan: Plan) -> Iterator[Rival]:
    """What would be cheaper if a rule did not forbid it."""
    terms = problem.terms
    if terms.min_shipment_value.numerator:
        other = _solved(problem, atlas, replace(terms, min_shipment_value=ZERO_RATE))
        if other.objective < plan.objective:
            yield Rival(other, Elimination.VALUE)
    if terms.max_shipments is not None or terms.line_split != LineSplit.ALWAYS:
        other = _solved(problem, atlas, replace(terms, max_shipments=None, line_split=LineSplit.ALWAYS))
        if other.objective < plan.objective:
            yield Rival(other, Elimination.SPLIT_RULE)


def _solved(problem: Problem, atlas: Atlas, terms: Terms) -> Plan:
    return solve(replace(problem, terms=terms), atlas)


def _same(one: Plan, other: Plan) -> bool:
    return (one.shipments, one.assignments) == (other.shipments, other.assignments)


def limits(problem: Problem, atlas: Atlas, plan: Plan) -> dict[int, str]:
    """By line that waits for want of stock the item, or the part of a kit, that allows no more of it."""
    options = Options(atlas, problem)
    return {
        entry.line_no: _limit(options, options.lines[entry.line_no])
        for entry in plan.unserved
        if entry.reason in (Elimination.INVENTORY, Elimination.BUFFER)
    }


def _limit(options: Options, line: Line) -> str:
    bill = options.catalog.bills.get(line.item)
    if bill is None or not options.terms.policy.kits_from_parts:
        return line.item
    parts: dict[str, dict[str, Quantity]] = {}
    for component in bill.components:
        for node, shelf in options.shelves(component.item).items():
            parts.setdefault(node, {})[component.item] = sum(source.quantity for source in shelf)
    count = kits(bill, parts)
    if bill.across_nodes or not count.by_node:
        return count.together.limited_by
    return max(count.by_node.values(), key=lambda made: made.kits).limited_by
