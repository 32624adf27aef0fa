"""The amounts that both the order of draws and the cost parts need: weights, places of pools, stock-out avoidance."""

from __future__ import annotations

from poolwise.core.catalog import Item
from poolwise.core.policy.terms import CostKind
from poolwise.core.sourcing.problem import Problem
from poolwise.core.values import MILLION, Cost, Quantity, divide_rounded


def weighted(problem: Problem, kind: CostKind, amount: Cost) -> Cost:
    """An elementary amount with the weight of its kind, rounded once."""
    return divide_rounded(amount * problem.terms.policy.weights_ppm.get(kind, MILLION), MILLION)


def miss_amount(problem: Problem, item_class: str, node: str) -> Cost:
    """What it costs to count on a node for a line, by its record: of 50 picks one has failed before the first."""
    found, missed = 49, 1
    for fact in (fact for known, picks in problem.facts.misses if known == item_class for fact in picks):
        if fact.node == node:
            found, missed = found + fact.found, missed + fact.missed
    ppm = divide_rounded(missed * MILLION, found + missed)
    return problem.terms.policy.miss_cost_per_line.times(ppm, MILLION)


def pool_place(problem: Problem, pool: str) -> int:
    """The place of a pool in the policy's order for the channel, 0 first; behind all when it is not named."""
    preferred = problem.terms.policy.pool_order.get(problem.demand.order.channel, ())
    return preferred.index(pool) if pool in preferred else len(preferred)


def stockout_amount(problem: Problem, item: Item, there: Quantity, drawn: Quantity) -> Cost:
    """What drawing on-hand units costs where a group with `there` base units on hand is below its target."""
    target, rate = problem.terms.policy.stockout_target, problem.terms.policy.stockout_cost_per_unit
    if there >= target:
        return 0
    return rate.times(drawn * (target - there), per=target * 10**item.scale)
