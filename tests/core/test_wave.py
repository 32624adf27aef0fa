"""A wave shares scarce stock and slots where it saves most, and is never worse than its orders one by one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from uuid import UUID

import pytest

from poolwise.core.catalog import Catalog, Item
from poolwise.core.edition.build import Edition
from poolwise.core.network import CapacityUnit, Lane, Network, Node, Pool, RateBand, RateCard, Slot, Zone
from poolwise.core.orders import Line, Order
from poolwise.core.policy.evaluate import OrderFacts, compile_policy
from poolwise.core.policy.terms import SourcingPolicy
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.columns import MOST_COLUMNS, Wish
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.problem import (
    ClassFact,
    Facts,
    PickFact,
    Place,
    Problem,
    StockFact,
    shelves_of,
    whole_demand,
)
from poolwise.core.sourcing.record import Held, Member, encode_wave, members_of_wave
from poolwise.core.sourcing.wave import Left, Planned, Wave, solve_wave
from poolwise.core.values import MILLION, PlanAt, Rate, ServiceLevel
from poolwise.core.verify import verify_many

AT = datetime(2026, 3, 2, 8, tzinfo=UTC)
CARD = tuple[int, ...]


@dataclass
class Market:
    """Orders for one item each, and nodes that send it to each order's own zone for a price of their own."""

    prices: list[CARD]
    stock: CARD
    slots: CARD | None = None
    delay: int = 0
    lines: int = 1
    unit: CapacityUnit = CapacityUnit.ORDERS
    misses: tuple[ClassFact, ...] = ()
    atlas: Atlas = field(init=False)

    def __post_init__(self) -> None:
        """Each order is a zone, each node a price for it."""
        nodes = {
            f"N{n}": Node(f"N{n}", slots=(Slot(self.unit, self.slots[n]),) if self.slots else ())
            for n in range(len(self.stock))
        }
        zones = {f"Z{o}": Zone(f"Z{o}") for o in range(len(self.prices))}
        rates = {
            f"{o}-{n}": RateCard(f"{o}-{n}", (RateBand(0, 10**12, fixed=Rate(price)),))
            for o, row in enumerate(self.prices)
            for n, price in enumerate(row)
        }
        lanes = {code: Lane(code, f"N{code.split('-')[1]}", f"Z{code.split('-')[0]}", code) for code in rates}
        network = Network(nodes=nodes, zones=zones, rates=rates, lanes=lanes, pools={"web": Pool("web")})
        items = {f"I{n}": Item(f"I{n}", weight_ug=MILLION * 500) for n in range(self.lines)}
        policy = SourcingPolicy(
            "test", 1, service_levels={"standard": ServiceLevel("standard", plan=PlanAt.WAVE)},
            delay_cost_per_day=Rate(self.delay), miss_cost_per_line=Rate(100 if self.misses else 0),
        )  # fmt: skip
        self.atlas = Atlas(Edition("market", network, Catalog(items=items)), compile_policy(policy))

    def facts(self) -> Facts:
        """What is there: the same of every item."""
        places = itertools.count(1)
        return Facts(
            AT,
            shelves_of(
                StockFact(Place(next(places), item, f"N{n}", "web"), units)
                for item in self.atlas.edition.catalog.items
                for n, units in enumerate(self.stock)
            ),
            misses=self.misses,
        )

    def wave(self) -> Wave:
        """All orders, each for one unit of every item."""
        edition = self.atlas.edition
        wishes = []
        for o in range(len(self.prices)):
            lines = tuple(Line(n + 1, item, 1) for n, item in enumerate(edition.catalog.items))
            order = Order(UUID(int=o + 1), f"O{o}", 0, AT, "web", f"Z{o}", lines)
            terms = self.atlas.policy.terms(OrderFacts(order, edition.network, edition.catalog))
            wishes.append(Wish(whole_demand(order), terms))
        return Wave(edition, tuple(wishes), self.facts())

    def planned(self, most_columns: int = MOST_COLUMNS) -> Planned:
        """The wave's plans."""
        wave = self.wave()
        items = {wish.demand.order.id: tuple(line.item for line in wish.demand.order.lines) for wish in wave.wishes}
        return solve_wave(wave, self.atlas, items, most_columns)

    def one_by_one(self) -> list[Plan]:
        """The same orders in their sequence, each on what its predecessors left."""
        left, plans = Left(self.facts()), []
        for wish in self.wave().wishes:
            facts = left.facts((line.item for line in wish.demand.order.lines), dict(self.misses))
            plans.append(solve(Problem(wish.demand, self.atlas.edition, wish.terms, facts), self.atlas))
            left.draw(plans[-1])
        return plans


def in_units(plans: list[Plan] | tuple[Plan, ...]) -> int:
    """Cost of plans in whole currency units."""
    whole, rest = divmod(sum(plan.objective for plan in plans), MILLION)
    assert rest == 0
    return whole


@pytest.mark.parametrize(
    ("prices", "alone", "together"),
    [
        ([(2, 5, 6), (7, 19, 20), (8, 15, 18)], 39, 28),
        ([(3, 4, 9), (5, 16, 18), (6, 14, 21)], 40, 28),
        ([(1, 2), (1, 30)], 31, 3),
    ],
)
def test_units_go_where_they_save_most(prices: list[CARD], alone: int, together: int) -> None:
    market = Market(prices, (1,) * len(prices[0]))
    assert in_units(market.one_by_one()) == alone
    assert in_units(market.planned().plans) == together
    assert market.planned().gap_ppm == 0


def test_a_wave_counts_what_nodes_miss() -> None:
    # At N0 every other pick fails, which costs 51 for a line; elsewhere it costs 2.
    market = Market([(99, 50, 60), (20, 50, 200)], (1, 1, 1), misses=(ClassFact("", (PickFact("N0", 0, 50),)),))
    assert in_units(market.one_by_one()) == 52 + 71
    assert in_units(market.planned().plans) == 62 + 52


def test_full_slots_make_the_cheaper_order_wait() -> None:
    # One shipment a day at N0; a day of waiting costs 3, going to N1 instead costs 2 or 10 more.
    market = Market([(5, 7), (5, 15), (5, 15)], (9, 9), slots=(1, 9), delay=3)
    planned = market.planned()
    days = sorted((plan.shipments[0].node, plan.shipments[0].ship_on.day) for plan in planned.plans)
    assert days == [("N0", 2), ("N0", 3), ("N1", 2)]
    assert in_units(planned.plans) == 7 + 5 + 5 + 3


def test_what_is_short_waits_with_the_dearest_order_served_last() -> None:
    market = Market([(5,), (2,), (9,)], (2,))
    planned = market.planned()
    assert [bool(plan.unserved) for plan in planned.plans] == [False, False, True]


@pytest.mark.parametrize("seed", range(40))
def test_a_wave_is_lawful_and_never_worse(seed: int) -> None:
    random = Random(seed)
    orders, nodes, lines = random.randint(2, 9), random.randint(1, 4), random.randint(1, 3)
    market = Market(
        [tuple(random.randint(1, 40) for _ in range(nodes)) for _ in range(orders)],
        tuple(random.randint(0, 4) for _ in range(nodes)),
        slots=tuple(random.randint(1, 4) for _ in range(nodes)) if random.random() < 0.5 else None,
        delay=random.randint(0, 4),
        lines=lines,
        unit=random.choice([CapacityUnit.ORDERS, CapacityUnit.LINES, CapacityUnit.UNITS]),
    )
    planned = market.planned()
    assert planned.objective <= sum(plan.objective for plan in market.one_by_one())
    wave = market.wave()
    problems = [Problem(wish.demand, wave.edition, wish.terms, wave.facts) for wish in wave.wishes]
    assert verify_many(problems, planned.plans) == ()
    again = market.planned()
    assert again.plans == planned.plans


def test_a_wave_with_few_columns_is_lawful_and_never_worse() -> None:
    random = Random(5)
    prices = [tuple(random.randint(1, 40) for _ in range(4)) for _ in range(12)]
    market = Market(prices, (4, 4, 4, 4), slots=(2, 2, 2, 2), delay=1, lines=2)
    alone = sum(plan.objective for plan in market.one_by_one())
    for most in (MOST_COLUMNS, 200, 60, 10, 0):
        planned = market.planned(most)
        assert planned.columns <= most
        assert planned.objective <= alone


def test_an_order_of_very_many_lines_holds_up_no_wave() -> None:
    market = Market([(2, 3), (3, 9)], (2, 1), lines=400)
    assert [len(plan.assignments) for plan in market.planned().plans] == [400, 400]


@pytest.mark.parametrize("seed", range(60))
def test_orders_planned_before_move_for_a_gain_only_and_never_arrive_later(seed: int) -> None:
    random = Random(seed)
    orders, nodes, lines = random.randint(2, 8), random.randint(2, 4), random.randint(1, 3)
    market = Market(
        [tuple(random.randint(1, 40) for _ in range(nodes)) for _ in range(orders)],
        tuple(random.randint(1, 4) for _ in range(nodes)),
        slots=tuple(random.randint(1, 4) for _ in range(nodes)) if random.random() < 0.6 else None,
        delay=random.randint(0, 4),
        lines=lines,
        unit=random.choice([CapacityUnit.ORDERS, CapacityUnit.LINES]),
    )
    wave, before = market.wave(), market.one_by_one()
    known = [not plan.unserved and random.random() < 0.7 for plan in before]
    wishes = tuple(
        replace(wish, held=Held(plan.shipments, plan.assignments)) if is_held else wish
        for wish, plan, is_held in zip(wave.wishes, before, known, strict=True)
    )
    wave = replace(wave, wishes=wishes)
    items = {wish.demand.order.id: tuple(line.item for line in wish.demand.order.lines) for wish in wishes}
    planned = solve_wave(wave, market.atlas, items)
    left, now = Left(wave.facts), 0
    for wish, plan in sorted(zip(wishes, before, strict=True), key=lambda each: each[0].held is None):
        if wish.held is None:
            facts = left.facts(items[wish.demand.order.id])
            plan = solve(Problem(wish.demand, wave.edition, wish.terms, facts), market.atlas)  # noqa: PLW2901
        left.draw(plan)
        now += plan.objective
    assert planned.objective <= now
    for place, (wish, plan) in enumerate(zip(wishes, planned.plans, strict=True)):
        if wish.held is not None:
            assert not plan.unserved
            assert Held(plan.shipments, plan.assignments).latest <= wish.held.latest
            assert (place in planned.kept) == (Held(plan.shipments, plan.assignments) == wish.held)
    problems = [Problem(wish.demand, wave.edition, wish.terms, wave.facts) for wish in wishes]
    assert verify_many(problems, planned.plans) == ()
    if planned.objective == now:
        assert len(planned.kept) == sum(known)
    assert solve_wave(wave, market.atlas, items) == planned


def test_a_wave_with_what_is_held_is_stored_and_read_back() -> None:
    market = Market([(2, 5, 6), (7, 19, 20)], (1, 1, 1), slots=(1, 1, 1))
    plan, facts = market.one_by_one()[1], market.facts()
    member = Member(UUID(int=2), 3, ((1, 1),), Held(plan.shipments, plan.assignments))
    other = Member(UUID(int=1), 1, ((1, 1), (2, 5)))
    places = {fact.place.position: fact.place for fact in facts.stock}
    assert members_of_wave(encode_wave(facts, (member, other)), places) == (member, other)
