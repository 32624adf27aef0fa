"""The exact engine finds what trying all combinations finds, on small random problems with every feature; so does the
MIP that it leaves larger orders to.

`POOLWISE_CASES` sets how many; a seed that fails is printed with the smallest problem that fails the same way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from poolwise.core.catalog import Bill, Component
from poolwise.core.network import CapacityUnit, Slot
from poolwise.core.orders import Line
from poolwise.core.policy.evaluate import compile_policy
from poolwise.core.policy.terms import LineSplit, SubstitutionMode
from poolwise.core.sourcing import exact
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.divide import divide
from poolwise.core.sourcing.options import Options
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.problem import CapacityFact, Problem, ReceiptFact, StockFact, shelves_of
from poolwise.core.values import Rate, replace
from poolwise.core.verify import verify
from tests.core import brute_force
from tests.core.planted import MONDAY, changed, problem
from tests.core.shrink import described, shrink
from tests.core.worlds import MOST_COMBINATIONS, problem_of

IN_SOAK = os.environ.get("POOLWISE_CAMPAIGN") == "full"
CASES = int(os.environ.get("POOLWISE_CASES") or (10_000 if IN_SOAK else 250))
CHUNK = 250
SHARE_OF_THE_MIP = 4
"""Of so many problems the MIP, which takes longer, solves one."""

NEAR = 10_000
"""The MIP is as good as the best, give or take such a part of it: of 2,500 problems one is dearer, by less."""

GRAM_UG = 1_000_000


def engine(problem: Problem) -> Plan:
    """The plan of the exact engine, by an atlas that has seen nothing else."""
    return exact.solve(problem, Atlas(problem.edition, compile_policy(problem.terms.policy)))


def mip(problem: Problem) -> Plan:
    """The plan of the MIP, however small the order is."""
    return divide(Options(Atlas(problem.edition, compile_policy(problem.terms.policy)), problem))


def is_exact(problem: Problem, plan: Plan) -> bool:
    """Whether the MIP has to find the best: where it says so, and no weight is a microgram off a round one."""
    return not plan.gap_ppm and all((line.weight_ug or 0) % GRAM_UG == 0 for line in problem.demand.order.lines)


def fault_of(problem: Problem, solve: Callable[[Problem], Plan] = engine) -> str:
    """What is wrong with the engine's plan, or the MIP's; empty when nothing is."""
    best = brute_force.solve(problem)
    try:
        plan = solve(problem)
    except (AssertionError, exact.Undecidable) as error:
        return f"stops at: {error.__cause__ or error}; not"
    broken = verify(problem, plan)
    if broken:
        return f"breaks {broken[0].constraint}"
    if plan.objective < best.objective:
        return "cheaper than"
    allowed = 0 if solve is engine else abs(best.objective) // NEAR
    if plan.objective > best.objective + allowed and (solve is engine or is_exact(problem, plan)):
        return "dearer than"
    return "" if solve(problem) == plan else "not the same twice"


def report(seed: int, problem: Problem, fault: str, solve: Callable[[Problem], Plan] = engine) -> str:
    """The smallest problem with the same fault, and both plans for it."""

    def fails_alike(simpler: Problem) -> bool:
        # With fewer constraints there may be more to try than is bearable.
        return brute_force.size(simpler, MOST_COMBINATIONS) <= MOST_COMBINATIONS and fault_of(simpler, solve) == fault

    smallest = shrink(problem, fails_alike)
    best = brute_force.solve(smallest)
    lines = [
        f"seed {seed}: {fault} brute force",
        described(smallest),
        f"--- brute force: {best.objective}",
        described(best),
    ]
    if not fault.startswith("stops"):
        plan = solve(smallest)
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


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_so_does_the_mip(first: int) -> None:
    for seed in range(first, min(first + CHUNK, CASES), SHARE_OF_THE_MIP):
        problem = problem_of(seed)
        fault = fault_of(problem, mip)
        assert not fault, report(seed, problem, fault, mip)


@pytest.mark.parametrize("seed", [69, 168, 244, 662, 1897, 4769])
def test_the_mip_does_where_it_once_did_not(seed: int) -> None:
    assert fault_of(problem_of(seed), mip) == ""


@pytest.mark.parametrize("across", [True, False])
def test_kits_that_go_together_wait_where_no_node_has_all_parts(across: bool) -> None:
    bill = Bill("KIT", (Component("B", 1), Component("C", 1)), across_nodes=across)
    made = problem(Line(1, "KIT", 2, together="g"), Line(2, "KIT", 1, together="g"), stock={"B N1": 3, "C N2": 3})
    made = changed(made, catalog={"bills": {"KIT": bill}})
    for solve in (engine, mip):
        assert fault_of(made, solve) == ""
        assert [entry.quantity for entry in solve(made).unserved] == [2, 1]


def receipts_in_lots() -> Problem:
    """Two receipts of one day; the one with the higher number is of the lot that expires first."""
    made = problem(Line(1, "A", 2), stock={"A N1 L1": 0, "A N1 L2": 0})
    lasting, expiring = (fact.place for fact in made.facts.stock)
    expiring = replace(expiring, expires_on=MONDAY + timedelta(days=40))
    coming = [ReceiptFact(UUID(int=n), place, MONDAY, 2) for n, place in enumerate((lasting, expiring), start=1)]
    stock = [StockFact(place, 0) for place in (lasting, expiring)]
    return changed(made, facts={"shelves": shelves_of(stock), "receipts": tuple(coming)})


def two_lines_of_an_item_at_a_full_node() -> Problem:
    """The slot is full today; both lines together must wait for a receipt, and then it is not."""
    lines = Line(1, "A", 2), Line(2, "A", 2)
    terms = {"line_split": LineSplit.ALWAYS, "substitution": SubstitutionMode.NEVER}
    made = problem(*lines, stock={"A N1": 1, "A N2": 0}, terms=terms)
    soft = {"capacity_is_hard": False, "capacity_penalty": Rate(1)}
    coming = (ReceiptFact(UUID(int=1), made.facts.stock[0].place, MONDAY + timedelta(days=2), 1),)
    facts = {"receipts": coming, "capacity": (CapacityFact("N1", MONDAY, 0, 2_000),)}
    return changed(made, policy=soft, node_N1={"slots": (Slot(CapacityUnit.WEIGHT, 2_000),)}, facts=facts)


def a_kit_across_nodes_at_a_node_that_is_full_with_it() -> Problem:
    """The slot of a day has room for the other line, or for the kit."""
    bill = Bill("KIT", (Component("B", 1), Component("C", 1)), across_nodes=True)
    made = problem(Line(1, "B", 2), Line(2, "KIT", 2), stock={"B N1": 4, "C N1": 2})
    policy = {"capacity_is_hard": True, "backorder_cost_per_line": Rate(1_000)}
    slots = (Slot(CapacityUnit.UNITS, 4),)
    return changed(made, catalog={"bills": {"KIT": bill}}, policy=policy, node_N1={"slots": slots})


def test_why_a_line_waits_that_could_be_served_is_what_that_costs() -> None:
    made = problem(Line(1, "A", 1), stock={"A N1": 1})
    free = {"backorder_cost_per_line": Rate(0), "backorder_cost_per_unit": Rate(0)}
    assert [entry.reason for entry in engine(changed(made, policy=free)).unserved] == ["waiting_is_cheaper"]


@pytest.mark.parametrize(("units", "sent"), [(2, [2]), (3, [2, 1]), (5, [2, 2])])
def test_what_one_shipment_cannot_carry_is_divided_though_a_node_has_it(units: int, sent: list[int]) -> None:
    """Each lane takes two kilograms; N1 has all of it."""
    light = {f"lane_{lane}": {"max_weight_ug": 2 * 10**9} for lane in ("near", "far")}
    made = problem(Line(1, "A", units), stock={"A N1": 5, "A N2": 2})
    made = changed(made, terms={"substitution": SubstitutionMode.NEVER}, **light)
    for solve in (engine, mip):
        assert fault_of(made, solve) == ""
        assert [part.quantity for part in solve(made).assignments] == sent


@pytest.mark.parametrize(
    "made",
    [receipts_in_lots, two_lines_of_an_item_at_a_full_node, a_kit_across_nodes_at_a_node_that_is_full_with_it],
)
def test_so_it_does_where_it_once_did_not(made: Callable[[], Problem]) -> None:
    assert fault_of(made()) == ""
