"""Orders served whole: the short way finds what the long way finds, and pricing orders together changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from poolwise.core.policy.evaluate import compile_policy
from poolwise.core.policy.terms import Terms
from poolwise.core.sourcing import exact
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.options import Market, Options
from poolwise.core.sourcing.problem import Demand, Problem, StockFact, shelves_of
from poolwise.core.sourcing.record import plan_bytes
from poolwise.core.sourcing.together import as_foreseen, foresee
from poolwise.core.sourcing.wave import Left
from poolwise.core.sourcing.whole import served_whole, sheets_of
from poolwise.core.values import Rate, replace
from tests.core import brute_force
from tests.core.worlds import problem_of

SEEDS = range(120)
MIXED = range(400)
"""Of the problems as they come, few can be foreseen: there must be enough of these."""


def atlas_of(problem: Problem) -> Atlas:
    return Atlas(problem.edition, compile_policy(problem.terms.policy))


def simple(problem: Problem) -> Problem:
    """The same without what is left to the long way from the start."""
    lines = tuple(replace(line, substitutes=False) for line in problem.demand.order.lines)
    order = replace(problem.demand.order, lines=lines)
    lasting = [fact for fact in problem.facts.stock if fact.place.expires_on is None]
    kept = {(fact.place.node, fact.place.item): fact for fact in lasting}
    facts = replace(problem.facts, receipts=(), shelves=shelves_of(kept.values()))
    terms = replace(problem.terms, policy=replace(problem.terms.policy, kits_from_parts=False))
    return replace(problem, demand=Demand(order, problem.demand.open), facts=facts, terms=terms)


@pytest.mark.slow
def test_the_short_way_finds_what_the_long_way_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    short: list[tuple[Problem, int]] = []
    for seed in SEEDS:
        problem = simple(problem_of(seed))
        atlas = atlas_of(problem)
        (sheet,) = sheets_of(atlas, [(problem.demand, problem.terms)])
        if sheet is not None and served_whole(Options(atlas, problem), sheet) is not None:
            short.append((problem, exact.solve(problem, atlas).objective))
    assert len(short) > len(SEEDS) // 10, "the short way is seldom taken here"
    assert [brute_force.solve(problem).objective for problem, _ in short] == [cost for _, cost in short]
    monkeypatch.setattr(exact, "served_whole", lambda *_: None)
    assert [exact.solve(problem, atlas_of(problem)).objective for problem, _ in short] == [cost for _, cost in short]


def test_orders_priced_together_cost_what_they_cost_alone() -> None:
    compared = 0
    for seed in SEEDS:
        problem = simple(problem_of(seed))
        atlas = atlas_of(problem)
        asked = varied(problem, times=7)
        for alone, together in zip(asked, sheets_of(atlas, asked), strict=True):
            (by_itself,) = sheets_of(atlas, [alone])
            if by_itself is None or together is None:
                assert by_itself is together
                continue
            assert by_itself.pieces == together.pieces
            assert np.array_equal(by_itself.cost, together.cost)
            compared += 1
    assert compared > len(SEEDS)


def dear_at_the_end(problem: Problem) -> Problem:
    """The same with more stock, of which each unit makes the next one dearer."""
    problem = simple(problem)
    policy = replace(problem.terms.policy, stockout_target=9, stockout_cost_per_unit=Rate(2))
    stock = shelves_of(StockFact(fact.place, fact.available + 3) for fact in problem.facts.stock)
    terms, facts = replace(problem.terms, policy=policy), replace(problem.facts, shelves=stock)
    return replace(problem, terms=terms, facts=facts)


@pytest.mark.parametrize(
    ("made", "seeds"), [(simple, SEEDS), (dear_at_the_end, SEEDS), (lambda problem: problem, MIXED)]
)
def test_orders_decided_together_are_decided_as_one_after_another(
    made: Callable[[Problem], Problem], seeds: range
) -> None:
    stood, fell = 0, 0
    for seed in seeds:
        problem = made(problem_of(seed))
        atlas, left = atlas_of(problem), Left(problem.facts)
        stock = {own.positions.item: own for own in problem.facts.shelves}
        receipts = {fact.place.item: [fact] for fact in problem.facts.receipts}
        misses = dict(problem.facts.misses)
        market = Market(problem.facts.at, stock, receipts, problem.facts.capacity, misses)
        one_each = Demand(problem.demand.order, tuple((no, 1) for no, _ in problem.demand.open))
        asked = [*varied(problem, times=1), *[(one_each, problem.terms)] * 6]
        for (demand, terms), known in zip(asked, foresee(atlas, asked, market), strict=True):
            one = Problem(demand, problem.edition, terms, left.facts([*stock, *receipts], misses))
            plan = exact.solve(one, atlas, known)
            assert plan_bytes(plan) == plan_bytes(exact.solve(one, atlas)), f"seed {seed}"
            left.draw(plan)
            if known.foreseen is not None:
                holds = as_foreseen(one, atlas, known.foreseen) is not None
                stood, fell = stood + holds, fell + (not holds)
    assert min(stood, fell) > 10, f"{stood} stood and {fell} fell: not both are tried here"


def varied(problem: Problem, times: int) -> list[tuple[Demand, Terms]]:
    """An order, and others like it that want so many times more and one, or less, of the same lines."""
    demand, terms = problem.demand, problem.terms
    more = tuple((no, times * quantity + 1) for no, quantity in demand.open)
    return [(Demand(demand.order, open_), terms) for open_ in (demand.open, more, demand.open[:1], demand.open[::-1])]
