"""Law 15 for stored decisions: each is recomputed, re-checked by the verifier, and held against what was reserved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

from poolwise.core.policy.evaluate import OrderFacts, route_facts
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.problem import Demand, Problem
from poolwise.core.sourcing.record import decode_facts, digest
from poolwise.core.values import Cost, Refused
from poolwise.core.verify import verify, verify_many
from poolwise.flows.explain import Library, recall_wave
from poolwise.flows.ports import Books
from poolwise.flows.source import PARTS_PER_ATTEMPT
from poolwise.store.check import StoredPlan


def verifier(library: Library, books: Books) -> Callable[[StoredPlan], Iterator[str]]:
    """What `check` calls for every stored plan: the hard constraints it breaks, in words."""

    waves: dict[UUID, dict[UUID, tuple[Problem, Plan]]] = {}

    def broken(stored: StoredPlan) -> Iterator[str]:
        decision, order = stored.decision, stored.record.order
        try:
            atlas = library.atlas(decision.edition, decision.policy, decision.policy_version)
        except Refused as refused:
            yield f"it names what is not there: {refused}"
            return
        if decision.wave is not None:
            if decision.wave not in waves:
                # Orders of a wave come one after another; the newest wave is enough to keep.
                waves.clear()
                waves[decision.wave] = recall_wave(books, atlas, decision.wave)
            problem, plan = waves[decision.wave][order.id]
            violations = verify_many((problem,), (plan,), (verdicts(atlas, problem),))
        else:
            problem = _problem(atlas, stored)
            plan = solve(problem, atlas)
            violations = verify(problem, plan, verdicts(atlas, problem))
        if digest(plan) != decision.digest:
            yield "it recomputes to another plan (law 8)"
        for violation in violations:
            yield f"{violation.constraint.value}: {violation.detail}"
        yield from _not_reserved(stored, plan)

    return broken


def _problem(atlas: Atlas, stored: StoredPlan) -> Problem:
    order, edition = stored.record.order_at(stored.decision.attempt), atlas.edition
    kept = decode_facts(stored.decision.facts, stored.places)
    terms = atlas.policy.terms(OrderFacts(order, edition.network, edition.catalog))
    return Problem(Demand(order, kept.open), edition, terms, kept.facts)


def verdicts(atlas: Atlas, problem: Problem) -> dict[tuple[str, ...], Cost | None]:
    """What the candidate rules say of every route of an order: the penalty, or None where it is excluded."""
    order, network = problem.demand.order, problem.edition.network
    judge = atlas.policy.judge_for(OrderFacts(order, network, problem.edition.catalog))
    if judge is None:
        return {}
    confidence = problem.terms.service_level.confidence_ppm
    found: dict[tuple[str, ...], Cost | None] = {}
    for route in atlas.routes(order.zone):
        verdict = judge(route_facts(route.node, route.lanes, confidence))
        lanes = tuple(lane.code for lane in route.lanes)
        found[lanes] = None if verdict.excluded_by is not None else verdict.penalty
    return found


def _not_reserved(stored: StoredPlan, plan: Plan) -> Iterator[str]:
    """Where the reservations of this attempt are not what the plan assigned. Those made later came of its pledges."""
    first = (stored.decision.attempt - 1) * PARTS_PER_ATTEMPT
    held = {
        part.no - first: (part.position, part.receipt, part.quantity, part.line_no)
        for part in stored.reservations
        if first < part.no <= first + PARTS_PER_ATTEMPT and part.made_at <= stored.decision.at
    }
    planned = {
        no: (part.position, part.receipt, part.quantity, part.line_no) for no, part in enumerate(plan.assignments, 1)
    }
    if stored.record.order.began_elsewhere is None and held != planned:
        yield f"{len(planned)} assignments were planned, {len(held)} reservations stand, and they are not the same"
