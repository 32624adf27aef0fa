"""What a sourcing policy says, as data: limits, weights, buffers and rules; and the terms it grants one order.

`SourcingPolicy` is one immutable version of the family `sourcing` (law 10). `Terms` is what remains of it once the
rules about orders have been applied to one order; engines and verifier read nothing else of a policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from poolwise.core.network import Node
from poolwise.core.values import MILLION, ZERO_RATE, Quantity, Rate, ServiceLevel


class CostKind(StrEnum):
    """The parts a cost is made of; each has a weight in the policy."""

    FREIGHT = "freight"
    HANDLING = "handling"
    TRANSFER = "transfer"
    SPLIT = "split"
    POOL = "pool"
    STOCKOUT = "stockout_avoidance"
    MISS = "miss_risk"
    CAPACITY = "capacity_penalty"
    NODE = "node_performance"
    TRANSIT = "transit_time"
    LATE = "late"
    CARBON = "carbon"
    SUBSTITUTION = "substitution"
    DELAY = "delay"
    BACKORDER = "backorder"


class LineSplit(StrEnum):
    """When the quantity of one line may come from several nodes."""

    NEVER = "never"
    WHEN_SHORT = "when_short"
    ALWAYS = "always"


class SubstitutionMode(StrEnum):
    """When a substitute is considered."""

    NEVER = "never"
    WHEN_SHORT = "when_short"
    ALWAYS = "always"


class Disposition(StrEnum):
    """What becomes of goods that came back: to their pool and lot, to the pool for B-grade, away, to a supplier."""

    RESTOCK = "restock"
    B_GRADE = "b_grade"
    SCRAP = "scrap"
    TO_SUPPLIER = "to_supplier"


class RuleScope(StrEnum):
    """What a rule looks at: an order (once), or each candidate."""

    ORDER = "order"
    CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition with an effect. `when` and `penalty` are ZEN expressions over the facts of `policy.expressions`.

    Scope candidate: `exclude` removes the candidate, `penalty` (in currency units per shipment) is added to its cost.
    Scope order: `then` replaces terms, for example {"max_shipments": 5, "split_cost": "1.5"}; rates are decimal text.
    """

    id: str
    scope: RuleScope
    when: str
    exclude: bool = False
    penalty: str = ""
    then: Mapping[str, int | str | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Buffer:
    """Stock withheld from promise. Empty selectors mean all; the most specific buffer wins and is named.

    Precedence: number of selectors named, then item, node, pool, channel, kind of node, echelon, then the id.
    `closed` offers nothing at all.
    """

    id: str
    quantity: Quantity = 0
    item: str = ""
    node: str = ""
    pool: str = ""
    channel: str = ""
    node_kind: str = ""
    echelon: str = ""
    closed: bool = False


@dataclass(frozen=True, slots=True)
class ReturnTerms:
    """Which goods may come back, until when, to which nodes, and what is refunded of their price.

    `window_days` is counted from delivery, or from shipment where delivery is not known; None: no limit. `to_node` is
    where goods are sent that nobody brings ('' for the node that sent them); a customer may bring them to nodes of
    the kinds `bring_to`. `not_returnable` are items, and what items require. B-grade goes to `b_grade_pool` and
    `b_grade_lot`, one of which is named; an empty pool is their own. Shares that are not named are whole.
    """

    window_days: int | None = 30
    to_node: str = ""
    bring_to: tuple[str, ...] = ("store",)
    not_returnable: tuple[str, ...] = ()
    b_grade_pool: str = ""
    b_grade_lot: str = ""
    refunds_ppm: Mapping[Disposition, int] = field(default_factory=dict)

    def refund_ppm(self, disposition: Disposition) -> int:
        """The share of its price that is refunded of a unit, in parts per million."""
        return self.refunds_ppm.get(disposition, MILLION)


@dataclass(frozen=True, slots=True)
class Offers:
    """Shipments from some nodes are offered, to the node planned and others like it: the first that claims one has it.

    Empty selectors mean all. Each is offered to at most `most` nodes, for so many `minutes`.
    """

    nodes: tuple[str, ...] = ()
    node_kind: str = ""
    echelon: str = ""
    minutes: int = 30
    most: int = 3

    def are_made_to(self, node: Node) -> bool:
        """Whether a node is asked before something is released to it."""
        return (
            (not self.nodes or node.code in self.nodes)
            and self.node_kind in ("", node.kind)
            and self.echelon in ("", node.echelon)
        )


class CustomerAct(StrEnum):
    """What a customer may do to an order: cancel it, take less of it, have it on a later day, or elsewhere."""

    CANCEL = "cancel"
    FEWER = "fewer"
    DAY = "day"
    ADDRESS = "address"


class Until(StrEnum):
    """How long: until a shipment is released to its node, or until it is picked there."""

    RELEASED = "released"
    PICKED = "picked"


@dataclass(frozen=True, slots=True)
class CustomerTerms:
    """What customers may do on the tracking page, and how long. Nobody needs more than the link of the page for it."""

    may: tuple[CustomerAct, ...] = (CustomerAct.CANCEL, CustomerAct.FEWER, CustomerAct.DAY)
    until: Until = Until.PICKED


@dataclass(frozen=True, slots=True)
class SourcingPolicy:
    """One version of a sourcing policy. Rates are in the costing currency; weights in parts per million.

    `pool_order` gives for a channel the pools it prefers, first first; pools it does not name come last. With
    `only_listed_pools` they are closed to the channel. `stackable_buffers` adds matching buffers up.
    """

    code: str
    version: int
    name: str = ""
    weights_ppm: Mapping[CostKind, int] = field(default_factory=dict)
    service_levels: Mapping[str, ServiceLevel] = field(default_factory=dict)
    max_shipments: int | None = None
    split_cost: Rate = ZERO_RATE
    line_split: LineSplit = LineSplit.WHEN_SHORT
    min_shipment_value: Rate = ZERO_RATE
    ship_complete: bool = False
    on_hand_only: bool = False
    horizon_days: int = 14
    release_after_minutes: int = 30
    max_transfer_hops: int = 0
    max_distance_km: int | None = None
    late_cost_per_day: Rate = ZERO_RATE
    delay_cost_per_day: Rate = ZERO_RATE
    transit_cost_per_day: Rate = ZERO_RATE
    carbon_price_per_kg: Rate = ZERO_RATE
    backorder_cost_per_line: Rate = Rate(1_000)
    backorder_cost_per_unit: Rate = Rate(100)
    stockout_target: Quantity = 0
    stockout_cost_per_unit: Rate = ZERO_RATE
    miss_cost_per_line: Rate = ZERO_RATE
    capacity_is_hard: bool = True
    capacity_penalty: Rate = ZERO_RATE
    substitution: SubstitutionMode = SubstitutionMode.WHEN_SHORT
    kits_from_parts: bool = True
    pool_order: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only_listed_pools: bool = False
    pool_rank_cost: Rate = ZERO_RATE
    stackable_buffers: bool = False
    buffers: tuple[Buffer, ...] = ()
    rules: tuple[Rule, ...] = ()
    returns: ReturnTerms = ReturnTerms()
    offers: Offers | None = None
    customers: CustomerTerms = CustomerTerms()

    @property
    def counts_misses(self) -> bool:
        """Whether it matters to a plan how often nodes did not find what they should have."""
        return bool(self.miss_cost_per_line.numerator and self.weights_ppm.get(CostKind.MISS, MILLION))


@dataclass(frozen=True, slots=True)
class Terms:
    """What one order is granted: the policy with the order's own constraints and the rules about orders applied.

    `fired` are the ids of the order rules that applied, in order. `failed` names what could not be settled (a rule that
    gave no answer, an unknown service level) and why: then every candidate of the order is excluded (law 19).
    """

    policy: SourcingPolicy
    service_level: ServiceLevel
    max_shipments: int | None
    split_cost: Rate
    min_shipment_value: Rate
    ship_complete: bool
    line_split: LineSplit
    substitution: SubstitutionMode
    on_hand_only: bool
    max_distance_km: int | None
    fired: tuple[str, ...] = ()
    failed: str = ""

    def weight_ppm(self, kind: CostKind) -> int:
        """Weight of a cost part in parts per million; 1,000,000 unless the policy says otherwise."""
        return self.policy.weights_ppm.get(kind, MILLION)
