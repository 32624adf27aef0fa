"""Law 15 for stored decisions: each is recomputed, re-checked by the verifier, and held against what was reserved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from poolwise.core.orders import Order
from poolwise.core.policy.evaluate import OrderFacts, route_facts
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.problem import Demand, Problem
from poolwise.core.sourcing.record import decode_facts, digest
from poolwise.core.values import Cost, Refused
from poolwise.core.verify import verify, verify_many
from poolwise.flows.explain import Library, recall_wave
from poolwise.flows.ports import Books, Decision
from poolwise.flows.source import PARTS_PER_ATTEMPT
from poolwise.store.check import StoredPlan


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What came of a decision about an order when it was made again: the plan, and what is wrong with it."""

    decision: Decision
    order: Order
    plan: Plan
    wrong: tuple[str, ...]


def verifier(
    library: Library, books: Books, kept: dict[tuple[UUID, int], Recomputed] | None = None
) -> Callable[[StoredPlan], Iterator[str]]:
    """What `check` calls for every stored plan: the hard constraints it breaks, in words.

    Who looks at the same plans again and again has what was recomputed of them `kept`: the same decision about the
    same order is recomputed once.
    """

    waves: dict[UUID, dict[UUID, tuple[Problem, Plan]]] = {}

    def broken(stored: StoredPlan) -> Iterator[str]:
        decision = stored.decision
        found = None if kept is None else kept.get((decision.owner, decision.attempt))
        if found is None or (found.decision, found.order) != (decision, stored.record.order_at(decision.attempt)):
            try:
                found = recomputed(stored)
            except Refused as refused:
                yield f"it names what is not there: {refused}"
                return
            if kept is not None:
                kept[decision.owner, decision.attempt] = found
        yield from found.wrong
        yield from _not_reserved(stored, found.plan)

    def recomputed(stored: StoredPlan) -> Recomputed:
        decision = stored.decision
        atlas = library.atlas(decision.edition, decision.policy, decision.policy_version)
        if decision.wave is not None:
            if decision.wave not in waves:
                # Orders of a wave come one after another; the newest wave is enough to keep.
                waves.clear()
                waves[decision.wave] = recall_wave(books, atlas, decision.wave)
            problem, plan = waves[decision.wave][stored.record.order.id]
            violations = verify_many((problem,), (plan,), (verdicts(atlas, problem),))
        else:
            problem = _problem(atlas, stored)
            plan = solve(problem, atlas)
            violations = verify(problem, plan, verdicts(atlas, problem))
        wrong = [f"{violation.constraint.value}: {violation.detail}" for violation in violations]
        if digest(plan) != decision.digest:
            wrong.insert(0, "it recomputes to another plan (law 8)")
        return Recomputed(decision, stored.record.order_at(decision.attempt), plan, tuple(wrong))

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
