"""Explaining a decision on record: its problem is put together again from what was stored, and worked out (law 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from poolwise.core.orders import Order, OrderState
from poolwise.core.policy.evaluate import OrderFacts
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.columns import Wish
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.explain import Explanation, explain
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.problem import Demand, Place, Problem
from poolwise.core.sourcing.record import decode_facts, digest, facts_of_wave, members_of_wave, positions_in
from poolwise.core.sourcing.wave import Wave, solve_wave
from poolwise.core.values import Fault, Refused, replace
from poolwise.flows.ports import Books, Decision, Transaction
from poolwise.flows.wave import items_of


class Library(Protocol):
    """Editions and policy versions by name: all that were ever decided under stay readable."""

    def atlas(self, edition: str, policy: str, version: int) -> Atlas:
        """The atlas of an edition and a policy version. Raises Refused when one of them is unknown."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A decision put together again: what was decided, on what, and what comes out now.

    `same` tells whether the plan has the bytes of the one that was carried out; it must, within a release. It was made
    without the nodes that had `declined` the order, or had not found what they should have: its facts do not name them.
    """

    decision: Decision
    order: Order
    problem: Problem
    plan: Plan
    same: bool
    declined: tuple[str, ...] = ()


def recall(books: Books, library: Library, owner: UUID, attempt: int | None = None) -> tuple[Recalled, Atlas]:
    """Recompute a decision, the newest one unless an attempt is named. Raises Refused when there is none."""
    with books.transaction() as transaction:
        record = transaction.orders([owner]).get(owner)
        if record is None:
            raise Refused("order_unknown", (Fault("order", f"there is no order {owner}"),))
        number = attempt if attempt is not None else record.attempt
        decision = transaction.decision(owner, number) if number else None
        basket = record.order.began_elsewhere
        if decision is None and number == 1 and basket is not None:
            # The first attempt of an order that names a basket, or that was divided from another, is the other's.
            record = transaction.orders([basket])[basket]
            number = record.attempt
            decision = transaction.decision(basket, number)
        if decision is None:
            is_over = record.state is OrderState.CANCELLED
            waits = "was cancelled before it was decided" if is_over else "still waits to be decided"
            reason = f"it has no decision {number}" if number else f"it {waits}"
            raise Refused("decision_unknown", (Fault("order", f"{record.order.number}: {reason}"),))
        order = record.order_at(number)
        places = places_in(transaction, decision)
    atlas = library.atlas(decision.edition, decision.policy, decision.policy_version)
    if decision.wave is not None:
        problem, plan = recall_wave(books, atlas, decision.wave)[owner]
        return Recalled(decision, order, problem, plan, digest(plan) == decision.digest), atlas
    kept = decode_facts(decision.facts, places)
    edition = atlas.edition
    terms = atlas.policy.terms(OrderFacts(order, edition.network, edition.catalog))
    problem = Problem(Demand(order, kept.open), edition, terms, kept.facts)
    plan = solve(problem, atlas)
    seen = {place.node for place in places.values()}
    declined = tuple(node for node in record.declined if node not in seen)
    return Recalled(decision, order, problem, plan, digest(plan) == decision.digest, declined), atlas


def recall_wave(books: Books, atlas: Atlas, wave: UUID) -> dict[UUID, tuple[Problem, Plan]]:
    """A wave worked out again as a whole: by order, the problem it was carried out on, and its plan."""
    with books.transaction() as transaction:
        whole = transaction.decision(wave, 1)
        assert whole is not None, f"law 4 broken: wave {wave} is not there"
        shared = replace(whole, facts=facts_of_wave(whole.facts))
        places = places_in(transaction, shared)
        members = members_of_wave(whole.facts, places)
        records = transaction.orders([member.order for member in members])
    edition = atlas.edition
    wishes = tuple(
        Wish(
            Demand(records[member.order].first, member.open),
            atlas.policy.terms(OrderFacts(records[member.order].first, edition.network, edition.catalog)),
            member.held,
        )
        for member in members
    )
    items = {wish.demand.order.id: items_of(atlas, wish) for wish in wishes}
    planned = solve_wave(Wave(edition, wishes, decode_facts(shared.facts, places).facts), atlas, items)
    answers = zip(planned.problems, planned.plans, strict=True)
    return dict(zip((member.order for member in members), answers, strict=True))


def places_in(transaction: Transaction, decision: Decision) -> dict[int, Place]:
    """The positions that a decision's facts name, by id; what is kept of them here never changes."""
    found = transaction.positions(positions_in(decision.facts))
    return {p.id: Place(p.id, p.key.item, p.key.node, p.key.pool, p.key.lot, p.expires_on) for p in found.values()}


def explain_order(
    books: Books, library: Library, owner: UUID, attempt: int | None = None
) -> tuple[Recalled, Explanation]:
    """A decision with every candidate, reason, cost part and the smallest flip."""
    recalled, atlas = recall(books, library, owner, attempt)
    return recalled, explain(recalled.problem, atlas, recalled.plan)
