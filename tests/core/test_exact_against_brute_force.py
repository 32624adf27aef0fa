"""The exact engine finds what trying all combinations finds, on small random problems with every feature.

`POOLWISE_CASES` sets how many; a seed that fails is printed with the smallest problem that fails the same way.
"""

from __future__ import annotations

import os

import pytest

from poolwise.core.policy.evaluate import compile_policy
from poolwise.core.sourcing import exact
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.problem import Problem
from poolwise.core.verify import verify
from tests.core import brute_force
from tests.core.shrink import described, shrink
from tests.core.worlds import MOST_COMBINATIONS, problem_of

IN_SOAK = os.environ.get("POOLWISE_CAMPAIGN") == "full"
CASES = int(os.environ.get("POOLWISE_CASES") or (10_000 if IN_SOAK else 750))
CHUNK = 250


def engine(problem: Problem) -> Plan:
    """The plan of the exact engine, by an atlas that has seen nothing else."""
    return exact.solve(problem, Atlas(problem.edition, compile_policy(problem.terms.policy)))


def fault_of(problem: Problem) -> str:
    """What is wrong with the engine's plan; empty when nothing is."""
    best = brute_force.solve(problem)
    try:
        plan = engine(problem)
    except AssertionError as error:
        return f"stops at: {error}; not"
    if plan.objective != best.objective:
        return "dearer than" if plan.objective > best.objective else "cheaper than"
    broken = verify(problem, plan)
    if broken:
        return f"breaks {broken[0].constraint}"
    return "" if engine(problem) == plan else "not the same twice"


def report(seed: int, problem: Problem, fault: str) -> str:
    """The smallest problem with the same fault, and both plans for it."""

    def fails_alike(simpler: Problem) -> bool:
        # With fewer constraints there may be more to try than is bearable.
        return brute_force.size(simpler, MOST_COMBINATIONS) <= MOST_COMBINATIONS and fault_of(simpler) == fault

    smallest = shrink(problem, fails_alike)
    best = brute_force.solve(smallest)
    lines = [
        f"seed {seed}: {fault} brute force",
        described(smallest),
        f"--- brute force: {best.objective}",
        described(best),
    ]
    if not fault.startswith("stops"):
        plan = engine(smallest)
        lines += [f"--- engine: {plan.objective}", described(plan), str(verify(smallest, plan))]
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_the_exact_engine_equals_brute_force(first: int) -> None:
    for seed in range(first, min(first + CHUNK, CASES)):
        problem = problem_of(seed)
        fault = fault_of(problem)
        assert not fault, report(seed, problem, fault)
