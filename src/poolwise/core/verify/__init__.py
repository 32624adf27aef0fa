"""Re-checks a plan against every hard constraint of docs/sourcing.md, from scratch, and computes its cost again.

Keeps law 15: it shares no code with the engines (an import contract says so), so what both get wrong has to be wrong
in the document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.problem import Problem
from poolwise.core.verify.capacity import Taken, add_bookings, check_capacity, check_earliest
from poolwise.core.verify.case import NO_VERDICTS, Case, Constraint, Verdicts, Violation
from poolwise.core.verify.costs import check_costs
from poolwise.core.verify.demand import check_demand
from poolwise.core.verify.stock import check_draw_order, check_pools, check_totals
from poolwise.core.verify.structure import check_structure
from poolwise.core.verify.supply import gather
from poolwise.core.verify.travel import check_travel

__all__ = ["NO_VERDICTS", "Constraint", "Verdicts", "Violation", "verify", "verify_many"]

# While one of these is broken, amounts cannot be computed.
_BEFORE_COSTS = (Constraint.LANE, Constraint.RATE, Constraint.CALENDAR, Constraint.SUBSTITUTE, Constraint.CAPACITY)


def verify(problem: Problem, plan: Plan, verdicts: Verdicts = NO_VERDICTS) -> tuple[Violation, ...]:
    """What a plan breaks of the hard constraints, and where its cost parts are not the documented amounts.

    `verdicts` is what the candidate rules of the policy said of the routes; the verifier evaluates no rule itself.
    An empty answer means that the plan is lawful; it does not mean that it is the cheapest.
    """
    cases = _cases((problem,), (plan,), (verdicts,))
    found = _check(cases)
    if any(violation.constraint is Constraint.STRUCTURE for violation in found):
        return found
    return *found, *check_earliest(cases[0])


def verify_many(
    problems: Sequence[Problem], plans: Sequence[Plan], verdicts: Sequence[Verdicts] = ()
) -> tuple[Violation, ...]:
    """The same for plans that share stock and capacity, such as a wave: together they take no more than there is.

    The problems carry the facts before the first plan, all of them or those of their items. Bookings of capacity count
    in the given sequence. That a shipment leaves on its earliest day is not asked: it may wait for other orders' sake.
    """
    return _check(_cases(problems, plans, verdicts))


def _cases(problems: Sequence[Problem], plans: Sequence[Plan], verdicts: Sequence[Verdicts]) -> list[Case]:
    assert len(problems) == len(plans)
    assert not verdicts or len(verdicts) == len(problems)
    supply = gather([problem.facts for problem in problems])
    return [
        Case(problem, plan, supply, verdicts[place] if verdicts else NO_VERDICTS)
        for place, (problem, plan) in enumerate(zip(problems, plans, strict=True))
    ]


def _check(cases: Sequence[Case]) -> tuple[Violation, ...]:
    found = [violation for case in cases for violation in check_structure(case)]
    if found or not cases:
        return tuple(found)
    taken = dict(cases[0].supply.taken)
    for case in cases:
        found += _check_one(case, taken)
        for shipment in case.plan.shipments:
            add_bookings(taken, shipment)
    found += check_totals(cases)
    found += check_draw_order(cases)
    return tuple(found)


def _check_one(case: Case, taken: Taken) -> Iterator[Violation]:
    found = [*check_travel(case), *check_pools(case), *check_capacity(case, taken), *check_demand(case)]
    yield from found
    if not any(violation.constraint in _BEFORE_COSTS for violation in found):
        yield from check_costs(case, taken)
