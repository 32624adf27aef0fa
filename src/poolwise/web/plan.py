"""Plans without effect, and explanations of those that were carried out."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from poolwise.core.policy.terms import CostKind
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.explain import Candidate, Explanation, Flip
from poolwise.core.sourcing.plan import Elimination
from poolwise.core.sourcing.rivals import Rival
from poolwise.flows.explain import Recalled, explain_order
from poolwise.flows.propose import Supposed, SupposedCapacity, SupposedReceipt, SupposedStock, propose
from poolwise.web.endpoint import Call, Nothing, Reply
from poolwise.web.errors import refused
from poolwise.web.forms import Code, Decimal, Text, cost_text, quantity_text
from poolwise.web.orders import OrderIn, found, message_of
from poolwise.web.plans import PlanOut, plan_out

MOST_FACTS: Final = 20_000
MOST_LINES_PLANNED: Final = 200
MOST_CANDIDATES: Final = 5_000
UNNUMBERED: Final = "plan"


class PolicyIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version of a policy by name."""

    code: Code
    version: Annotated[int, Meta(ge=1, le=2**31 - 1)]


class StockIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units of a position that are supposed to be available, in the item's own unit."""

    item: Code
    node: Code
    pool: Code
    available: Decimal
    lot: Text = ""
    expires_on: date | None = None


class ComingIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units that are supposed to be expected at a position."""

    item: Code
    node: Code
    pool: Code
    open: Decimal
    due_on: date
    lot: Text = ""


class CapacityIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is supposed to be taken of a node's slot, in the slot's unit (weight in grams)."""

    node: Code
    day: date
    slot: Annotated[int, Meta(ge=0, le=10_000)]
    taken: Annotated[int, Meta(ge=0, le=10**12)]


class FactsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts to plan with instead of those in the books."""

    stock: Annotated[list[StockIn], Meta(max_length=MOST_FACTS)] = []
    receipts: Annotated[list[ComingIn], Meta(max_length=MOST_FACTS)] = []
    capacity: Annotated[list[CapacityIn], Meta(max_length=MOST_FACTS)] = []


class PlanIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order to plan, at an instant, under an edition and a policy: those of now unless others are named."""

    order: OrderIn
    at: Annotated[datetime, Meta(tz=True)] | None = None
    edition: Text = ""
    policy: PolicyIn | None = None
    facts: FactsIn | None = None


class PlannedOut(msgspec.Struct, frozen=True, kw_only=True):
    """The plan, and what it was made under."""

    at: datetime
    edition: str
    policy: str
    policy_version: int
    plan: PlanOut


class PartOut(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a candidate's cost."""

    kind: CostKind
    amount: Decimal


class CandidateOut(msgspec.Struct, frozen=True, kw_only=True):
    """A position and a route that might serve a line: eliminated by `reason`, or at `cost` in a shipment of its own."""

    line_no: int
    item: str
    node: str
    pool: str
    lot: str
    lanes: list[str]
    available: Decimal
    wanted: Decimal
    taken: Decimal
    reason: Elimination | None
    detail: str
    ship_on: date | None
    arrive_by: date | None
    cost: Decimal | None
    costs: list[PartOut]


class FlipOut(msgspec.Struct, frozen=True, kw_only=True):
    """A change after which the plan would be another: dearer by `margin` at a node, or `units` more stock there."""

    node: str
    item: str
    units: Decimal
    margin: Decimal
    nodes: list[str]


class RivalOut(msgspec.Struct, frozen=True, kw_only=True):
    """Another plan as a whole: the cheapest with another number of shipments, or one that is `barred` by a rule.

    Its costs are those of the whole order, by kind, with what it would pay for its splits and for what waits.
    """

    shipments: int
    nodes: list[str]
    cost: Decimal
    costs: list[PartOut]
    barred: Elimination | None


class ExplanationOut(msgspec.Struct, frozen=True, kw_only=True):
    """A decision worked out again: the plan, every candidate, and the smallest changes that would flip it.

    `same` says that the plan worked out again is the one that was carried out, byte for byte. `declined` are nodes that
    it was made without, since they had declined the order or not found what they should have.
    """

    order: str
    attempt: int
    at: datetime
    edition: str
    policy: str
    policy_version: int
    release: str
    wave: UUID | None
    same: bool
    plan: PlanOut
    candidates: list[CandidateOut]
    rivals: list[RivalOut]
    dearer: FlipOut | None
    stocked: FlipOut | None
    rules: list[str]
    declined: list[str]


class ExplanationAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which decision: the newest, or that of an attempt."""

    attempt: Annotated[int, Meta(ge=1, le=100_000)] | None = None


def plan_order(call: Call[Nothing, PlanIn]) -> Reply:
    """Plan an order without any effect: shipments, what each line gets from where, and the cost, part by part.

    Stock, receipts and capacity are those of now, unless `facts` gives others. Nothing is reserved or kept, so no
    Idempotency-Key is needed.
    """
    services, body = call.services, call.body
    if len(body.order.lines) > MOST_LINES_PLANNED:
        raise refused("order_invalid", f"a plan has at most {MOST_LINES_PLANNED} lines", "order.lines")
    atlas = _atlas(call)
    at = body.at or call.now
    proposal = propose(
        services.books,
        atlas,
        services.cells,
        services.ids,
        call.actor.party,
        message_of(body.order, UNNUMBERED),
        at,
        None if body.facts is None else supposed(body.facts),
    )
    edition, policy = atlas.edition, atlas.policy.policy
    plan = plan_out(proposal.plan, proposal.order, edition.catalog, edition.network.currency, proposal.limits)
    made = PlannedOut(at=at, edition=edition.hash, policy=policy.code, policy_version=policy.version, plan=plan)
    return Reply(200, made)


def _atlas(call: Call[Nothing, PlanIn]) -> Atlas:
    body, current = call.body, call.services.rules.current()
    if not body.edition and body.policy is None:
        return current
    policy = current.policy.policy
    code, version = (policy.code, policy.version) if body.policy is None else (body.policy.code, body.policy.version)
    return call.services.rules.atlas(body.edition or current.edition.hash, code, version)


def rival_out(rival: Rival) -> RivalOut:
    """Another plan as the API shows it."""
    summed: dict[CostKind, int] = {}
    for part in rival.plan.costs:
        summed[part.kind] = summed.get(part.kind, 0) + part.amount
    return RivalOut(
        shipments=len(rival.plan.shipments),
        nodes=list(rival.nodes),
        cost=cost_text(rival.plan.objective),
        costs=[PartOut(kind=kind, amount=cost_text(amount)) for kind, amount in summed.items()],
        barred=rival.barred,
    )


def supposed(facts: FactsIn) -> Supposed:
    """Facts as the flow reads them."""
    return Supposed(
        [SupposedStock(**msgspec.structs.asdict(fact)) for fact in facts.stock],
        [SupposedReceipt(**msgspec.structs.asdict(fact)) for fact in facts.receipts],
        [SupposedCapacity(**msgspec.structs.asdict(fact)) for fact in facts.capacity],
    )


def read_explanation(call: Call[ExplanationAsked, Nothing]) -> Reply:
    """Explain a decision: every candidate considered, why each other one was not taken, and what would change it.

    It is worked out again from what was stored with the decision, by the code that decides.
    """
    view = found(call, call.path["number"])
    recalled, explanation = explain_order(
        call.services.books, call.services.rules, view.record.order.id, call.query.attempt
    )
    return Reply(200, explanation_out(recalled, explanation))


def explanation_out(recalled: Recalled, explanation: Explanation) -> ExplanationOut:
    """An explanation as the API shows it."""
    decision, edition = recalled.decision, recalled.problem.edition
    catalog = edition.catalog

    def candidate(found: Candidate) -> CandidateOut:
        units = [quantity_text(catalog, found.item, each) for each in (found.available, found.wanted, found.taken)]
        return CandidateOut(
            line_no=found.line_no,
            item=found.item,
            node=found.node,
            pool=found.pool,
            lot=found.lot,
            lanes=list(found.lanes),
            available=units[0],
            wanted=units[1],
            taken=units[2],
            reason=found.reason,
            detail=found.detail,
            ship_on=found.ship_on,
            arrive_by=found.arrive_by,
            cost=cost_text(found.cost) if found.costs else None,
            costs=[PartOut(kind=kind, amount=cost_text(amount)) for kind, amount in found.costs],
        )

    def flip(found: Flip | None) -> FlipOut | None:
        if found is None:
            return None
        units = quantity_text(catalog, found.item, found.units)
        return FlipOut(
            node=found.node, item=found.item, units=units, margin=cost_text(found.margin), nodes=list(found.nodes)
        )

    return ExplanationOut(
        order=recalled.order.number,
        attempt=decision.attempt,
        at=decision.at,
        edition=decision.edition,
        policy=decision.policy,
        policy_version=decision.policy_version,
        release=decision.release,
        wave=decision.wave,
        same=recalled.same,
        plan=plan_out(explanation.plan, recalled.order, catalog, edition.network.currency, explanation.limits),
        candidates=[candidate(each) for each in explanation.candidates[:MOST_CANDIDATES]],
        rivals=[rival_out(rival) for rival in explanation.rivals],
        dearer=flip(explanation.dearer),
        stocked=flip(explanation.stocked),
        rules=list(explanation.rules),
        declined=list(recalled.declined),
    )
