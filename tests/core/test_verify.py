"""The verifier finds every constraint that is broken, and nothing where none is (law 15)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from hypothesis import given, settings

from poolwise.core.network import (
    CapacityUnit,
    Node,
    RateBand,
    RateCard,
    Slot,
)
from poolwise.core.orders import Line
from poolwise.core.policy.terms import Buffer, CostKind
from poolwise.core.sourcing.plan import CostPart, Plan
from poolwise.core.sourcing.problem import Demand, Problem
from poolwise.core.values import Rate, replace
from poolwise.core.verify import Constraint, verify, verify_many
from tests.core import brute_force
from tests.core.planted import (
    KG,
    MONDAY,
    PLANTED,
    TWO_LINES,
    WORLDS,
    Planted,
    changed,
    one_shipment,
    problem,
    two_shipments,
    with_assignment,
    with_shipment,
)
from tests.core.worlds import problem_of, problems


@pytest.mark.parametrize("world", WORLDS)
def test_a_lawful_plan_is_clean(world: Callable[[], Problem]) -> None:
    made = world()
    assert verify(made, brute_force.solve(made)) == ()


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: f"{planted.constraint}-{planted.world.__name__}")
def test_a_planted_violation_is_found(planted: Planted) -> None:
    made = planted.world()
    plan = brute_force.solve(made)
    assert verify(made, plan) == ()
    assert planted.constraint in {found.constraint for found in verify(*planted.plant(made, plan))}


def test_every_constraint_is_planted() -> None:
    assert {planted.constraint for planted in PLANTED} == set(Constraint)


def test_a_route_that_a_rule_excludes_is_found_and_a_penalty_is_asked_for() -> None:
    made = one_shipment()
    plan = brute_force.solve(made)
    assert verify(made, plan, {("near",): None})[0].constraint is Constraint.EXCLUDED
    assert [found.constraint for found in verify(made, plan, {("near",): 5_000_000})] == [Constraint.COST]
    priced = replace(plan, costs=(*plan.costs, CostPart(CostKind.NODE, 5_000_000, 1)))
    assert verify(made, priced, {("near",): 5_000_000}) == ()


WEIGHTED = dict.fromkeys(CostKind, 3_000_000)


@pytest.mark.parametrize(
    "more",
    [
        {"policy": {"weights_ppm": WEIGHTED}},
        {"pool_main": {"per_unit": Rate(1, 6)}},
        {"pool_main": {"per_kg": Rate(1)}},
        {"policy": {"pool_rank_cost": Rate(1), "pool_order": {"web": ("rest",)}}},
        {"policy": {"stockout_target": 9, "stockout_cost_per_unit": Rate(1)}},
        {"policy": {"transit_cost_per_day": Rate(1)}},
        {"policy": {"miss_cost_per_line": Rate(1)}},
        {"policy": {"late_cost_per_day": Rate(1)}, "order": {"requested_date": MONDAY}},
        {"node_N2": {"costs": replace(Node("x").costs, per_line=Rate(1))}},
        {"policy": {"carbon_price_per_kg": Rate(2)}},
        {"terms": {"split_cost": Rate(2)}},
        {"network": {"rates": {"card": RateCard("card", (RateBand(0, 100 * KG, minimum=Rate(900)),))}}},
    ],
    ids=str,
)
def test_a_price_that_changes_is_noticed(more: dict[str, object]) -> None:
    made = two_shipments()
    plan = brute_force.solve(made)
    assert Constraint.COST in {found.constraint for found in verify(changed(made, **more), plan)}


# --- random worlds


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_lawful_plans_of_random_worlds_are_clean(first: int) -> None:
    for seed in range(first, first + 100):
        made = problem_of(seed)
        assert verify(made, brute_force.solve(made)) == (), f"seed {seed}"


@settings(max_examples=60, deadline=None)
@given(problems)
def test_no_change_of_a_lawful_plan_goes_unnoticed(made: Problem) -> None:
    plan = brute_force.solve(made)
    assert verify(made, plan) == ()
    for other in spoiled(plan):
        assert verify(made, other), f"nothing was found wrong with {other}"


def spoiled(plan: Plan) -> Iterator[Plan]:
    """The plan with one number wrong."""
    for place, each in enumerate(plan.assignments):
        yield with_assignment(plan, place, quantity=each.quantity + 1)
        yield with_assignment(plan, place, line_quantity=each.line_quantity + 1)
        yield with_assignment(plan, place, position=each.position + 1_000)
    for shipment in plan.shipments:
        for name in ("ship_on", "arrive_by"):
            moved = getattr(shipment, name) + timedelta(days=1)
            yield with_shipment(plan, shipment.no, **{name: moved})
        yield with_shipment(plan, shipment.no, weight_ug=shipment.weight_ug + 1)
        yield with_shipment(plan, shipment.no, co2e_mg=shipment.co2e_mg + 1)
        for booking in shipment.bookings:
            yield with_shipment(plan, shipment.no, bookings=(replace(booking, quantity=booking.quantity + 1),))
    for place, cost in enumerate(plan.costs):
        spoilt = list(plan.costs)
        spoilt[place] = replace(cost, amount=cost.amount - 1)
        yield replace(plan, costs=tuple(spoilt))
    for place, unserved in enumerate(plan.unserved):
        wrong = list(plan.unserved)
        wrong[place] = replace(unserved, quantity=unserved.quantity + 1)
        yield replace(plan, unserved=tuple(wrong))


# --- sequences


def test_a_sequence_may_use_what_there_is_and_no_more() -> None:
    one = problem(Line(1, "A", 2), stock={"A N1": 4})
    plan = brute_force.solve(one)
    assert verify_many([one, one], [plan, plan]) == ()
    assert [found.constraint for found in verify_many([one] * 3, [plan] * 3)][:1] == [Constraint.STOCK]


def test_orders_of_a_sequence_share_what_is_withheld_from_some_of_them() -> None:
    """Of four, web must leave three and shop none: one for web, then three for shop, and not the other way round."""
    web = problem(Line(1, "A", 1), stock={"A N1": 4}, policy={"buffers": (Buffer("web", 3, channel="web"),)})
    shop = changed(web, order={"channel": "shop"})
    plan = brute_force.solve(web)
    assert verify_many([shop, shop, shop, web], [plan] * 4) == ()
    assert Constraint.WITHHELD in {found.constraint for found in verify_many([web, web], [plan] * 2)}


def test_bookings_of_a_sequence_add_up() -> None:
    one = problem(Line(1, "A", 1), stock={"A N1": 9}, node_N1={"slots": (Slot(CapacityUnit.ORDERS, 2),)})
    plan = brute_force.solve(one)
    assert verify_many([one, one], [plan, plan]) == ()
    assert {found.constraint for found in verify_many([one] * 3, [plan] * 3)} == {Constraint.CAPACITY}


def test_facts_of_a_sequence_may_be_cut_down_to_what_each_order_needs() -> None:
    both = problem(*TWO_LINES, stock={"A N1": 3, "B N1": 2})
    first = changed(both, facts={"shelves": both.facts.shelves[:1]})
    first = replace(first, demand=Demand(first.demand.order, ((1, 3),)))
    second = changed(both, facts={"shelves": both.facts.shelves[1:]})
    second = replace(second, demand=Demand(second.demand.order, ((2, 2),)))
    assert verify_many([first, second], [brute_force.solve(first), brute_force.solve(second)]) == ()


def test_a_violation_says_where_it_is() -> None:
    made = two_shipments()
    found = verify(made, with_shipment(brute_force.solve(made), 2, weight_ug=1))[0]
    assert (found.order, found.shipment_no, found.constraint) == ("O-1", 2, Constraint.WEIGHT)
    assert "2000000000" in found.detail
