"""Why a decision came out as it did: the reason of every candidate, its cost, and the smallest change that flips it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

import pytest

from poolwise.core.catalog import Catalog, Item
from poolwise.core.edition.build import Edition
from poolwise.core.network import (
    Calendar,
    CapacityUnit,
    CostCard,
    Lane,
    Network,
    Node,
    NodeStatus,
    Pool,
    RateBand,
    RateCard,
    Slot,
    Transit,
    Zone,
)
from poolwise.core.orders import Line, Order
from poolwise.core.policy.evaluate import OrderFacts, compile_policy
from poolwise.core.policy.terms import Buffer, Rule, RuleScope, SourcingPolicy
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.explain import Candidate, Explanation, explain
from poolwise.core.sourcing.plan import Elimination
from poolwise.core.sourcing.problem import CapacityFact, Facts, Place, Problem, StockFact, shelves_of, whole_demand
from poolwise.core.values import Rate, ServiceLevel, replace

AT = datetime(2026, 3, 2, 8, tzinfo=UTC)
KG = 10**9
NODE, LANE, POOL = Node("B"), Lane("B-Z", "B", "Z", "flat"), Pool("web")
POLICY = SourcingPolicy("test", 1, service_levels={"standard": ServiceLevel("standard", 3)})
FREE = CostCard()
ITEM = Item("CUP", weight_ug=KG)


def problem(
    node: Node = NODE, lane: Lane | None = LANE, pool: Pool = POOL, policy: SourcingPolicy = POLICY, item: Item = ITEM,
    units: int = 9, near: CostCard = FREE, taken: int = 0,
) -> Problem:  # fmt: skip
    """Two units wanted; node A serves them at 5, node B, which the tests bend, at 8."""
    network = Network(
        nodes={"A": Node("A", costs=near, capabilities=frozenset({"hazmat"})), "B": node},
        zones={"Z": Zone("Z")},
        rates={
            "near": RateCard("near", (RateBand(0, 50 * KG, fixed=Rate(5)),)),
            "flat": RateCard("flat", (RateBand(0, 50 * KG, fixed=Rate(8)),)),
            "light": RateCard("light", (RateBand(0, KG, fixed=Rate(8)),)),
        },
        lanes={
            "A-Z": Lane("A-Z", "A", "Z", "near", distance_km=10, carries=frozenset({"hazmat"})),
            **({} if lane is None else {lane.code: lane}),
        },
        calendars={"shut": Calendar("shut", weekdays=frozenset())},
        pools={"main": Pool("main"), "web": pool},
    )
    order = Order(UUID(int=1), "O-1", 0, AT, "web", "Z", (Line(1, item.code, 2),), customer="ann")
    edition = Edition("two", network, Catalog(items={item.code: item}))
    stock = (StockFact(Place(1, item.code, "A", "main"), 9), StockFact(Place(2, item.code, "B", "web"), units))
    capacity = tuple(CapacityFact("B", date(2026, 3, day), 0, taken) for day in range(2, 20)) if taken else ()
    terms = compile_policy(policy).terms(OrderFacts(order, network, edition.catalog))
    return Problem(whole_demand(order), edition, terms, Facts(AT, shelves_of(stock), (), capacity))


def explained(asked: Problem) -> Explanation:
    atlas = Atlas(asked.edition, compile_policy(asked.terms.policy))
    return explain(asked, atlas, solve(asked, atlas))


def other(asked: Problem) -> Candidate:
    """The candidate at node B."""
    (found,) = (candidate for candidate in explained(asked).candidates if candidate.node == "B")
    return found


BENT = {
    Elimination.SUSPENDED: problem(node=replace(NODE, status=NodeStatus.SUSPENDED)),
    Elimination.ALLOW_LIST: problem(node=replace(NODE, customers=frozenset({"bob"}))),
    Elimination.POOL_CLOSED: problem(pool=replace(POOL, channels=frozenset({"till"}))),
    Elimination.RESTRICTION: problem(pool=replace(POOL, zones=frozenset({"elsewhere"}))),
    Elimination.ZONE: problem(node=replace(NODE, service_area=frozenset({"elsewhere"}))),
    Elimination.LANE_MISSING: problem(lane=None),
    Elimination.CAPABILITY: problem(item=replace(ITEM, requires=frozenset({"hazmat"}))),
    Elimination.DISTANCE: problem(
        lane=replace(LANE, distance_km=900), policy=replace(POLICY, max_distance_km=800)
    ),
    Elimination.TOO_SLOW: problem(
        lane=replace(LANE, transit=Transit(((9, 1_000_000),))),
        policy=replace(POLICY, service_levels={"standard": ServiceLevel("standard", 3, late_is_hard=True)}),
    ),
    Elimination.CALENDAR: problem(node=replace(NODE, calendar="shut")),
    Elimination.NO_RATE: problem(lane=replace(LANE, rates="light")),
    Elimination.EXCLUDED: problem(
        policy=replace(POLICY, rules=(Rule("not-b", RuleScope.CANDIDATE, "node.code == 'B'", exclude=True),))
    ),
    Elimination.INVENTORY: problem(units=1),
    Elimination.BUFFER: problem(policy=replace(POLICY, buffers=(Buffer("keep", 8, node="B"),))),
    Elimination.CAPACITY: problem(node=replace(NODE, slots=(Slot(CapacityUnit.ORDERS, 3),)), taken=3),
}  # fmt: skip


@pytest.mark.parametrize("reason", BENT, ids=lambda reason: reason.value)
def test_each_reason_is_given(reason: Elimination) -> None:
    assert other(BENT[reason]).reason == reason


def test_the_first_reason_by_precedence_is_given() -> None:
    bent = problem(node=replace(NODE, status=NodeStatus.SUSPENDED, customers=frozenset({"bob"})), units=0)
    assert other(bent).reason == Elimination.SUSPENDED


def test_rules_and_buffers_are_named() -> None:
    assert "not-b" in other(BENT[Elimination.EXCLUDED]).detail
    assert "keep" in other(BENT[Elimination.BUFFER]).detail
    assert other(BENT[Elimination.INVENTORY]).detail == "has 1 of 2"


def test_a_possible_candidate_has_the_cost_of_serving_the_line_alone() -> None:
    candidate = other(problem())
    assert candidate.reason is None
    assert candidate.cost == 8_000_000
    assert (candidate.ship_on, candidate.arrive_by) == (date(2026, 3, 2), date(2026, 3, 3))


def test_the_margin_is_where_the_choice_flips() -> None:
    flip = explained(problem()).dearer
    assert flip is not None
    assert (flip.node, flip.margin, flip.nodes) == ("A", 3_000_000, ("B",))
    for dearer, chosen in ((Rate(299, 2), "A"), (Rate(301, 2), "B")):
        asked = problem(near=CostCard(per_shipment=dearer))
        plan = explained(asked).plan
        assert [shipment.node for shipment in plan.shipments] == [chosen]


def test_the_fewest_units_that_would_change_the_plan_are_named() -> None:
    flip = explained(problem(near=CostCard(per_shipment=Rate(9)), units=1)).stocked
    assert flip is not None
    assert (flip.node, flip.item, flip.units, flip.margin, flip.nodes) == ("B", "CUP", 1, 6_000_000, ("B",))
