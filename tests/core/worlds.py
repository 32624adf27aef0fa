"""Small random problems: every feature of docs/sourcing.md now and then, small enough to be solved by trying all.

`problem_of(seed)` is fast and the same everywhere; `problems` is the Hypothesis strategy that shrinks. Both draw from
the same description.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Final, TypeVar
from uuid import UUID

from hypothesis import strategies as st

from poolwise.core.catalog import Bill, Catalog, Component, Item, Substitution
from poolwise.core.edition.build import Edition
from poolwise.core.network import (
    Calendar,
    CapacityUnit,
    CostCard,
    Echelon,
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
from poolwise.core.policy.terms import Buffer, CostKind, LineSplit, SourcingPolicy, SubstitutionMode, Terms
from poolwise.core.sourcing.problem import (
    CapacityFact,
    ClassFact,
    Demand,
    Facts,
    PickFact,
    Place,
    Problem,
    ReceiptFact,
    StockFact,
    shelves_of,
)
from poolwise.core.values import Money, Rate, ServiceLevel, replace
from tests.core.brute_force import size

T = TypeVar("T")

MOST_COMBINATIONS: Final = 3_000
MONDAY: Final = date(2026, 3, 2)
GRAM_UG: Final = 1_000_000
NEVER_REACHED_UG: Final = 10**12


@dataclass(slots=True)
class Draw:
    """Chance, and how often a feature appears."""

    random: Random
    ugly: bool = False
    harsh: bool = False
    scarce: bool = False
    order: Order | None = None
    today: date = MONDAY
    nodes: list[str] = field(default_factory=list)
    pools: list[str] = field(default_factory=list)

    def chance(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    def forbids(self, percent: int) -> bool:
        """Whether something is in the way: seldom in a friendly world."""
        return self.chance(percent // 2 if self.harsh else percent // 8)

    def unless_forbidden(self, percent: int, make: Callable[[], T], otherwise: T) -> T:
        return make() if self.forbids(percent) else otherwise

    def maybe(self, percent: int, make: Callable[[], T], otherwise: T) -> T:
        return make() if self.chance(percent) else otherwise

    def one_of(self, *values: T) -> T:
        return values[self.random.randrange(len(values))]

    def between(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def rate(self, low: int, high: int) -> Rate:
        """A rate in hundredths; seven places, so that rounding matters, in an ugly world."""
        if self.ugly:
            return Rate(self.random.randint(low * 100_000, high * 100_000), 7)
        return Rate(self.random.randint(low, high), 2)


def problem_of(seed: int) -> Problem:
    """The problem of a seed."""
    return small_problem(Random(seed))


def small_problem(random: Random) -> Problem:
    """Draw problems until one is small enough to be solved by trying all combinations."""
    for _ in range(200):
        ugly, harsh, scarce = (random.randrange(100) < percent for percent in (8, 25, 25))
        draw = Draw(random, ugly, harsh, scarce)
        problem = draw_problem(draw)
        combinations = size(problem, MOST_COMBINATIONS)
        # Most problems that leave next to no choice are passed over.
        if combinations <= MOST_COMBINATIONS and (combinations > 5 or draw.chance(8)):
            return problem
    raise AssertionError("no small problem in 200 attempts")


problems: Final = st.randoms(use_true_random=False).map(small_problem)
"""Hypothesis strategy of the same problems."""


def draw_problem(draw: Draw) -> Problem:
    """One problem, of any size."""
    at = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(days=draw.between(0, 6), minutes=15 * draw.between(0, 95))
    draw.today = at.date()
    draw.nodes = ["N1", "N2", "N3"][: draw.one_of(1, 2, 2, 3, 3, 3)]
    draw.pools = ["main", "outlet", "store"][: draw.one_of(1, 1, 2, 3)]
    catalog = draw_catalog(draw)
    order = draw_order(draw, at)
    hops = 1 if len(draw.nodes) > 1 and draw.chance(30) else 0
    network = draw_network(draw, hops)
    terms = draw_terms(draw, hops)
    demand = Demand(order, tuple((line.no, draw_open(draw, line)) for line in order.lines))
    facts = draw_facts(draw, at, catalog, network, order)
    return draw_records(draw, Problem(demand, Edition("small", network, catalog), terms, facts))


def draw_open(draw: Draw, line: Line) -> int:
    return draw.maybe(10, lambda: draw.between(1, line.quantity), line.quantity)


# --- catalogue and order


def draw_catalog(draw: Draw) -> Catalog:
    items = {}
    for code in ("A", "B", "C", "D", "KIT"):
        items[code] = Item(
            code,
            scale=1 if draw.chance(8) else 0,
            weight_ug=draw.between(1, 30) * 100 * GRAM_UG + (draw.between(0, 999) if draw.ugly else 0),
            length_mm=draw.between(1, 9) * 100,
            requires=frozenset({"hazmat"}) if draw.chance(10) else frozenset(),
        )
    bills, substitutions = {}, {}
    if draw.chance(40):
        second = (Component("C", draw.between(1, 2)),) if draw.chance(80) else ()
        bills["KIT"] = Bill("KIT", (Component("B", draw.between(1, 2)), *second), across_nodes=draw.chance(30))
    for item, others in (("A", ("B", "D")), ("KIT", ("D",)), ("C", ("A",))):
        if draw.chance(40):
            found = [
                Substitution(item, other, *draw.one_of((1, 1), (1, 1), (2, 1), (1, 2), (3, 2)), draw.rate(0, 400))
                for other in others
                if draw.chance(70)
            ]
            substitutions[item] = tuple(found)
    return Catalog(items=items, bills=bills, substitutions=substitutions)


def draw_order(draw: Draw, at: datetime) -> Order:
    lines = []
    together = draw.chance(12)
    for no in range(1, (draw.one_of(1, 1, 2) if draw.scarce else draw.one_of(1, 2, 2, 3)) + 1):
        item = draw.one_of("A", "A", "B", "C", "KIT")
        lines.append(
            Line(
                no,
                item,
                draw.one_of(2, 3, 4) if draw.scarce else draw.one_of(1, 1, 2, 2, 3, 4),
                unit_price=draw.one_of(None, Money(draw.between(1, 60) * 100, "EUR"), Money(1_999, "USD")),
                weight_ug=draw.maybe(10, lambda: draw.between(1, 40) * 100 * GRAM_UG + draw.between(0, 1), None),
                substitutes=draw.chance(85),
                together="pair" if together and draw.chance(75) else "",
            )
        )
    return Order(
        id=UUID(int=1),
        number="ORDER-1",
        cell=0,
        received_at=at - timedelta(hours=draw.one_of(0, 0, 1, 30)),
        channel=draw.one_of("web", "shop"),
        zone="Z",
        lines=tuple(lines),
        customer=draw.one_of("", "ann", "bob"),
        requested_date=draw.maybe(10, lambda: draw.today + timedelta(days=draw.between(0, 6)), None),
    )


# --- network

CALENDARS: Final = (
    Calendar("workdays", weekdays=frozenset(range(5))),
    Calendar("holiday", closed=frozenset({MONDAY + timedelta(days=1), MONDAY + timedelta(days=4)})),
    Calendar("saturdays", weekdays=frozenset(range(5)), open=frozenset({MONDAY + timedelta(days=5)})),
)


def draw_network(draw: Draw, hops: int) -> Network:
    cards = [draw_card(draw, f"card{number}") for number in range(3)]
    lanes = []
    for node in draw.nodes:
        for number in range(0 if draw.forbids(40) or (hops and draw.chance(30)) else draw.one_of(1, 1, 2, 2)):
            lanes.append(draw_lane(draw, f"{node}-Z{number}", node, "Z"))
        if draw.chance(15):
            lanes.append(draw_lane(draw, f"{node}-Y", node, "Y"))
        for other in draw.nodes:
            if hops and other != node and draw.chance(50):
                lanes.append(draw_lane(draw, f"{node}-{other}", node, other))
    usd = ((MONDAY - timedelta(days=9), Rate(9, 1)), (MONDAY + timedelta(days=3), Rate(11, 1)))
    return Network(
        nodes={code: draw_node(draw, code) for code in draw.nodes},
        pools={code: draw_pool(draw, code) for code in draw.pools},
        zones={"Z": Zone("Z", time_zone=draw.one_of("UTC", "Asia/Tokyo", "America/New_York")), "Y": Zone("Y")},
        lanes={lane.code: lane for lane in lanes},
        rates={card.code: card for card in cards},
        calendars={calendar.code: calendar for calendar in CALENDARS},
        exchange={"USD": usd} if draw.chance(70) else {},
    )


def draw_card(draw: Draw, code: str) -> RateCard:
    bands, above = [], 0
    for _ in range(draw.one_of(1, 2, 2, 3)):
        up_to = above + draw.between(1, 5) * 1_000 * GRAM_UG
        bands.append(RateBand(above, up_to, draw.rate(100, 900), draw.rate(0, 700), draw.rate(0, 300)))
        # A gap has no price.
        above = up_to + (500 * GRAM_UG if draw.forbids(30) else 0)
    if not draw.forbids(30):
        bands.append(RateBand(above, NEVER_REACHED_UG, draw.rate(300, 1500), per_kg=draw.rate(0, 200)))
    return RateCard(code, tuple(bands))


def draw_calendar(draw: Draw) -> str:
    return draw.one_of("workdays", "holiday", "saturdays") if draw.chance(25 if draw.harsh else 12) else ""


def draw_lane(draw: Draw, code: str, origin: str, destination: str) -> Lane:
    return Lane(
        code,
        origin,
        destination,
        rates="unknown" if draw.forbids(5) else draw.one_of("card0", "card1", "card2"),
        to_node=destination in draw.nodes,
        service_levels=draw.one_of(frozenset(), frozenset({"standard"}), frozenset({"express"}))
        if draw.forbids(40)
        else frozenset(),
        transit=draw.one_of(
            Transit(),
            Transit(((0, 1_000_000),)),
            Transit(((1, 600_000), (2, 300_000), (4, 100_000))),
            Transit(((3, 1),)),
        ),
        calendar=draw_calendar(draw),
        cut_off=draw.unless_forbidden(40, lambda: time(draw.between(6, 20)), time.max),
        distance_km=draw.between(0, 10) * 100,
        co2e_g=draw.rate(0, 30_000),
        co2e_g_per_kg=draw.rate(0, 9_000),
        carries=frozenset() if draw.forbids(50) else frozenset({"hazmat"}),
        max_weight_ug=draw.unless_forbidden(30, lambda: draw.between(2, 9) * 1_000 * GRAM_UG, 0),
        max_length_mm=draw.unless_forbidden(24, lambda: draw.between(4, 8) * 100, 0),
    )


def draw_node(draw: Draw, code: str) -> Node:
    costs = CostCard(
        draw.rate(0, 300), draw.rate(0, 100), draw.rate(0, 90), draw.rate(0, 60), inbound_per_unit=draw.rate(-20, 90)
    )
    return Node(
        code,
        echelon=draw.one_of(Echelon.REGIONAL, Echelon.LAST_MILE),
        kind=draw.one_of("store", "distribution_centre"),
        time_zone=draw.one_of("UTC", "UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo"),
        calendar=draw_calendar(draw),
        cut_off=draw.unless_forbidden(60, lambda: time(draw.between(6, 20), 30), time.max),
        handling_days=draw.one_of(0, 0, 0, 0, 0, 1, 2),
        capabilities=frozenset() if draw.forbids(50) else frozenset({"hazmat"}),
        service_area=draw.unless_forbidden(
            20, lambda: draw.one_of(frozenset({"Z", "Y"}), frozenset({"Y"})), frozenset()
        ),
        customers=draw.unless_forbidden(16, lambda: frozenset({"ann"}), frozenset()),
        costs=costs,
        status=draw.unless_forbidden(8, lambda: NodeStatus.SUSPENDED, NodeStatus.ACTIVE),
        slots=draw.maybe(30, lambda: draw_slots(draw), ()),
    )


HOURS: Final = ((time.min, time.max), (time(8), time(12)), (time(12), time(17)))


def draw_slots(draw: Draw) -> tuple[Slot, ...]:
    slots = []
    for since, until in draw.one_of(HOURS[:1], HOURS[:1], HOURS[1:]):
        units: tuple[CapacityUnit, ...] = draw.one_of(
            (CapacityUnit.ORDERS,),
            (CapacityUnit.UNITS,),
            (CapacityUnit.LINES,),
            (CapacityUnit.WEIGHT,),
            (CapacityUnit.ORDERS, CapacityUnit.UNITS),
        )
        for unit in units:
            limit = draw.between(1, 5) * (1_000 if unit is CapacityUnit.WEIGHT else 1)
            weekdays = frozenset(range(7)) if draw.chance(80) else frozenset(range(5))
            slots.append(Slot(unit, limit, since, until, weekdays))
    if draw.chance(15):
        slots.append(
            Slot(CapacityUnit.ORDERS, draw.between(0, 2), only_on=draw.today + timedelta(days=draw.between(0, 2)))
        )
    return tuple(slots)


def draw_pool(draw: Draw, code: str) -> Pool:
    return Pool(
        code,
        channels=draw.unless_forbidden(
            30, lambda: draw.one_of(frozenset({"web"}), frozenset({"shop", "web"})), frozenset()
        ),
        customers=draw.unless_forbidden(16, lambda: frozenset({"ann", "bob"}), frozenset()),
        zones=draw.unless_forbidden(16, lambda: draw.one_of(frozenset({"Z"}), frozenset({"Y"})), frozenset()),
        protection=draw.one_of(1, 2) if draw.chance(12) else 0,
        per_unit=draw.maybe(50, lambda: draw.rate(-300, 300), Rate(0)),
        per_kg=draw.maybe(20, lambda: draw.rate(-50, 50), Rate(0)),
    )


# --- policy


def draw_terms(draw: Draw, hops: int) -> Terms:
    cheap_to_wait = draw.chance(12)
    policy = SourcingPolicy(
        "small",
        1,
        weights_ppm=draw_weights(draw),
        horizon_days=draw.one_of(1, 2, 3, 3, 4) if not draw.forbids(40) else 0,
        max_transfer_hops=hops,
        late_cost_per_day=draw.rate(0, 300),
        delay_cost_per_day=draw.rate(0, 200),
        transit_cost_per_day=draw.maybe(40, lambda: draw.rate(0, 100), Rate(0)),
        carbon_price_per_kg=draw.maybe(40, lambda: draw.rate(0, 50), Rate(0)),
        backorder_cost_per_line=draw.rate(100, 1_500) if cheap_to_wait else Rate(1_000),
        backorder_cost_per_unit=draw.rate(0, 500) if cheap_to_wait else Rate(100),
        stockout_target=draw.one_of(0, 0, 2, 4, 5),
        stockout_cost_per_unit=draw.rate(0, 200),
        capacity_is_hard=draw.chance(75),
        capacity_penalty=draw.rate(0, 300),
        kits_from_parts=draw.chance(90),
        pool_order=draw.maybe(30, lambda: {"web": tuple(reversed(draw.pools[:2])), "shop": ("store",)}, {}),
        only_listed_pools=draw.forbids(16),
        pool_rank_cost=draw.maybe(30, lambda: draw.rate(0, 80), Rate(0)),
        stackable_buffers=draw.chance(30),
        buffers=tuple(draw_buffer(draw, f"buffer{number}") for number in range(draw.one_of(0, 0, 0, 0, 1, 2))),
    )
    level = ServiceLevel(
        draw.one_of("standard", "standard", "express"),
        draw.one_of(None, 1, 2, 4, 6),
        draw.one_of(500_000, 900_000, 950_000),
        late_is_hard=draw.forbids(40),
    )
    return Terms(
        policy,
        level,
        max_shipments=draw.one_of(None, None, None, 1, 2),
        split_cost=draw.maybe(50, lambda: draw.rate(0, 300), Rate(0)),
        min_shipment_value=draw.unless_forbidden(40, lambda: draw.rate(500, 6_000), Rate(0)),
        ship_complete=draw.forbids(30),
        line_split=draw.one_of(
            LineSplit.WHEN_SHORT if draw.scarce else LineSplit.NEVER,
            LineSplit.WHEN_SHORT,
            LineSplit.WHEN_SHORT,
            LineSplit.ALWAYS,
        ),
        substitution=draw.one_of(SubstitutionMode.NEVER, SubstitutionMode.WHEN_SHORT, SubstitutionMode.ALWAYS),
        on_hand_only=draw.chance(25),
        max_distance_km=draw.unless_forbidden(40, lambda: draw.between(3, 12) * 100, None),
    )


def draw_weights(draw: Draw) -> dict[CostKind, int]:
    values = (0, 500_000, 2_000_000, 333_333 if draw.ugly else 1_500_000)
    return {kind: draw.one_of(*values) for kind in CostKind if draw.chance(6)}


def draw_buffer(draw: Draw, name: str) -> Buffer:
    return Buffer(
        name,
        quantity=draw.between(0, 2),
        item=draw.maybe(50, lambda: draw.one_of("A", "B"), ""),
        node=draw.maybe(40, lambda: draw.one_of(*draw.nodes), ""),
        pool=draw.maybe(20, lambda: draw.one_of(*draw.pools), ""),
        channel=draw.maybe(20, lambda: draw.one_of("web", "shop"), ""),
        node_kind=draw.maybe(20, lambda: "store", ""),
        echelon=draw.maybe(10, lambda: "regional", ""),
        closed=draw.forbids(30),
    )


# --- facts


def draw_facts(draw: Draw, at: datetime, catalog: Catalog, network: Network, order: Order) -> Facts:
    stock: list[StockFact] = []
    receipts: list[ReceiptFact] = []
    most = draw.one_of(1, 2, 3) if draw.scarce else draw.one_of(2, 3, 4, 5, 6, 8)
    with_receipts = draw.chance(40)
    for place in draw_places(draw, catalog, order):
        stock.append(StockFact(place, draw.between(0 if draw.chance(25) else (most + 1) // 2, most)))
        if with_receipts and draw.chance(35):
            due = draw.today + timedelta(days=draw.between(-1, 4))
            receipts.append(ReceiptFact(UUID(int=100 + len(receipts)), place, due, draw.between(1, 4)))
    capacity = [
        CapacityFact(
            node.code,
            draw.today + timedelta(days=day),
            slot,
            draw.between(node.slots[slot].limit // 2, node.slots[slot].limit + 1),
        )
        for node in network.nodes.values()
        for slot in range(len(node.slots))
        for day in range(2)
        if draw.chance(50)
    ]
    return Facts(at, shelves_of(stock), tuple(receipts), tuple(capacity))


def draw_records(draw: Draw, problem: Problem) -> Problem:
    """The same where, every other time, it costs something to count on a node that often missed.

    Chance of its own, so that all else is as it would be without.
    """
    draw = replace(draw, random=Random(repr(draw.random.getstate())))
    if draw.chance(50):
        return problem
    edition, classes = problem.edition, ("", "hardware")
    items = {code: replace(item, product=draw.one_of(*classes)) for code, item in edition.catalog.items.items()}
    policy = replace(problem.terms.policy, miss_cost_per_line=draw.rate(0, 3_000))
    misses = tuple(
        ClassFact(item_class, tuple(draw_picks(draw, node) for node in draw.nodes if draw.chance(80)))
        for item_class in classes
    )
    return replace(
        problem,
        edition=replace(edition, catalog=replace(edition.catalog, items=items)),
        terms=replace(problem.terms, policy=policy),
        facts=replace(problem.facts, misses=misses),
    )


def draw_picks(draw: Draw, node: str) -> PickFact:
    return PickFact(node, draw.between(0, 60), draw.one_of(0, 1, 5, 40))


def draw_places(draw: Draw, catalog: Catalog, order: Order) -> list[Place]:
    """Where stock of what the order may need lies: some items at some nodes in some pools, sometimes in lots."""
    needed = set()
    for line in order.lines:
        needed |= {line.item} | {each.substitute for each in catalog.substitutions.get(line.item, ())}
        if line.item in catalog.bills:
            needed |= {component.item for component in catalog.bills[line.item].components}
    places: list[Place] = []
    with_lots, spread = draw.chance(25), draw.one_of(45, 70, 90)
    for item in sorted(needed):
        for node in draw.nodes:
            for pool in draw.pools:
                if not draw.chance(spread if item != "KIT" or "KIT" not in catalog.bills else 30):
                    continue
                for lot in draw_lots(draw) if with_lots else ("",):
                    expires = draw.today + timedelta(days=draw.one_of(-1, 0, 1, 30, 60)) if lot > "L1" else None
                    places.append(Place(len(places) + 1, item, node, pool, lot, expires))
    return places


def draw_lots(draw: Draw) -> Sequence[str]:
    return draw.one_of(("",), ("L1", "L2"), ("L2", "L3"), ("L3",))
