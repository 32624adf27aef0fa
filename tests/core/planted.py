"""Small worlds with a lawful plan each, and for every hard constraint a way to break it.

A violation is planted either in the plan, or by changing the world under a plan that stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from poolwise.core.catalog import Bill, Catalog, Component, Item, Substitution
from poolwise.core.edition.build import Edition
from poolwise.core.network import (
    Calendar,
    CapacityUnit,
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
from poolwise.core.sourcing.plan import CostPart, Elimination, Plan, Unserved
from poolwise.core.sourcing.problem import (
    CapacityFact,
    ClassFact,
    Demand,
    Facts,
    ItemStock,
    PickFact,
    Place,
    Problem,
    ReceiptFact,
    StockFact,
    shelves_of,
)
from poolwise.core.values import Money, Rate, ServiceLevel, replace
from poolwise.core.verify import Constraint

MONDAY = date(2026, 3, 2)
NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
RECEIPT = UUID(int=7)
KG = 1_000_000_000

CARD = RateCard("card", (RateBand(0, 100 * KG, fixed=Rate(4), per_kg=Rate(5, 1)),))


def lane(code: str, origin: str, destination: str = "Z", **more: object) -> Lane:
    return Lane(code, origin, destination, "card", to_node=destination != "Z", **more)  # type: ignore[arg-type]  # any field of a lane


def order_of(*lines: Line) -> Order:
    return Order(UUID(int=1), "O-1", 0, NINE, "web", "Z", lines)


def place(number: int, item: str, node: str, lot: str = "") -> Place:
    return Place(number, item, node, "main", lot)


def problem(*lines: Line, stock: dict[str, int], **more: object) -> Problem:
    """Two nodes with a lane each, N1 nearer; `stock` by "item node [lot]" on hand in pool main."""
    network = Network(
        nodes={code: Node(code) for code in ("N1", "N2")},
        pools={code: Pool(code) for code in ("main", "rest")},
        zones={"Z": Zone("Z")},
        lanes={"near": lane("near", "N1"), "far": lane("far", "N2", co2e_g=Rate(900), distance_km=700)},
        rates={"card": CARD},
    )
    items = {code: Item(code, weight_ug=KG) for code in ("A", "B", "C", "KIT")}
    catalog = Catalog(
        items=items,
        bills={"KIT": Bill("KIT", (Component("B", 1), Component("C", 2)))},
        substitutions={"A": (Substitution("A", "C", 2, 1, Rate(1)),)},
    )
    policy = SourcingPolicy("p", 1, carbon_price_per_kg=Rate(1))
    terms = Terms(
        policy=policy,
        service_level=ServiceLevel("standard", 4),
        max_shipments=None,
        split_cost=Rate(1),
        min_shipment_value=Rate(0),
        ship_complete=False,
        line_split=LineSplit.WHEN_SHORT,
        substitution=SubstitutionMode.WHEN_SHORT,
        on_hand_only=False,
        max_distance_km=None,
    )
    facts = [
        StockFact(place(number, *name.split()), quantity)
        for number, (name, quantity) in enumerate(stock.items(), start=1)
    ]
    order = order_of(*lines)
    made = Problem(
        Demand(order, tuple((line.no, line.quantity) for line in lines)),
        Edition("e", network, catalog),
        terms,
        Facts(NINE, shelves_of(facts)),
    )
    return changed(made, **more)


def changed(old: Problem, **more: object) -> Problem:
    """The problem with fields of its parts changed: `node_N1={...}`, `terms={...}`, `stock=(...)` and so on."""
    for name, change in more.items():
        kind, _, code = name.partition("_")
        edition, order = old.edition, old.demand.order
        network, catalog = edition.network, edition.catalog
        if kind in ("node", "lane", "pool", "zone"):
            table = getattr(network, f"{kind}s")
            network = replace(network, **{f"{kind}s": {**table, code: replace(table[code], **change)}})
        elif kind == "item":
            catalog = replace(catalog, items={**catalog.items, code: replace(catalog.items[code], **change)})
        elif kind == "network":
            network = replace(network, **change)
        elif kind == "catalog":
            catalog = replace(catalog, **change)
        elif kind == "order":
            order = replace(order, **change)
        elif kind == "line":
            lines = tuple(replace(each, **change) if each.no == int(code) else each for each in order.lines)
            order = replace(order, lines=lines)
        terms = replace(old.terms, **change) if kind == "terms" else old.terms
        if kind == "policy":
            terms = replace(terms, policy=replace(terms.policy, **change))
        facts = replace(old.facts, **change) if kind == "facts" else old.facts
        edition = replace(edition, network=network, catalog=catalog)
        old = replace(old, demand=replace(old.demand, order=order), edition=edition, terms=terms, facts=facts)
    return old


def with_shipment(plan: Plan, no: int = 1, **change: object) -> Plan:
    shipments = tuple(replace(each, **change) if each.no == no else each for each in plan.shipments)
    return replace(plan, shipments=shipments)


def with_assignment(plan: Plan, place: int = 0, **change: object) -> Plan:
    assignments = list(plan.assignments)
    assignments[place] = replace(assignments[place], **change)
    return replace(plan, assignments=tuple(assignments))


def waiting(line_no: int, quantity: int) -> Unserved:
    return Unserved(line_no, quantity, Elimination.INVENTORY)


# --- worlds with a lawful plan each

TWO_LINES = (Line(1, "A", 3, Money(1_000, "EUR")), Line(2, "B", 2, Money(1_000, "EUR")))


def one_shipment() -> Problem:
    """Both lines from N1, line 1 from two lots."""
    stock = {"A N1 L1": 2, "A N1 L2": 5, "B N1": 4, "A N2": 9}
    made = problem(*TWO_LINES, stock=stock)
    first = made.facts.stock[0]
    dated = StockFact(replace(first.place, expires_on=MONDAY + timedelta(days=40)), first.available)
    return changed(made, facts={"shelves": shelves_of((dated, *made.facts.stock[1:]))})


def two_shipments() -> Problem:
    """Line 1 from N1, line 2 from N2."""
    return problem(*TWO_LINES, stock={"A N1": 3, "B N2": 2})


def divided_line() -> Problem:
    """Three from N1, one from N2, because no node has four."""
    return problem(Line(1, "A", 4), stock={"A N1": 3, "A N2": 2})


def with_receipt() -> Problem:
    """Two on hand today and one from a receipt on Thursday, in one shipment that waits for it."""
    made = problem(Line(1, "A", 3), stock={"A N1": 2}, terms={"line_split": LineSplit.NEVER})
    due = ReceiptFact(RECEIPT, made.facts.stock[0].place, MONDAY + timedelta(days=3), 4)
    return changed(made, facts={"receipts": (due,)}, policy={"delay_cost_per_day": Rate(1)})


def with_kit() -> Problem:
    return problem(Line(1, "KIT", 2), stock={"B N1": 2, "C N1": 4, "B N2": 2, "C N2": 4})


def with_substitute() -> Problem:
    """Two of A are short, four of C take their place."""
    return problem(Line(1, "A", 2), stock={"A N1": 1, "C N1": 4}, terms={"line_split": LineSplit.NEVER})


def with_slots() -> Problem:
    slots = (Slot(CapacityUnit.ORDERS, 9), Slot(CapacityUnit.UNITS, 9), Slot(CapacityUnit.WEIGHT, 9_000))
    return problem(*TWO_LINES, stock={"A N1": 3, "B N1": 4}, node_N1={"slots": slots})


def with_transfer() -> Problem:
    hop = lane("hop", "N2", "N1", transit=Transit(((2, 1_000_000),)))
    made = problem(Line(1, "A", 1), stock={"A N2": 1}, policy={"max_transfer_hops": 1})
    return changed(made, network={"lanes": {"near": made.edition.network.lanes["near"], "hop": hop}})


def with_records() -> Problem:
    """From N2, since N1 has missed three picks of ten."""
    misses = (ClassFact("", (PickFact("N1", 7, 3),)), ClassFact("hardware", (PickFact("N1", 0, 9),)))
    return problem(
        *TWO_LINES, stock={"A N1": 3, "B N1": 4, "A N2": 3, "B N2": 4},
        policy={"miss_cost_per_line": Rate(60)}, facts={"misses": misses},
    )  # fmt: skip


def everything_waits() -> Problem:
    return problem(*TWO_LINES, stock={"A N1": 0})


WORLDS = [
    one_shipment, two_shipments, divided_line, with_receipt, with_kit, with_substitute, with_slots, with_transfer,
    with_records, everything_waits,
]  # fmt: skip


# --- one planted violation each: the world, what becomes unlawful in it, and how


@dataclass(frozen=True)
class Planted:
    constraint: Constraint
    world: Callable[[], Problem]
    plant: Callable[[Problem, Plan], tuple[Problem, Plan]]


def in_world(constraint: Constraint, world: Callable[[], Problem], **more: object) -> Planted:
    """The plan stays, and the world changes under it."""
    return Planted(constraint, world, lambda made, plan: (changed(made, **more), plan))


def in_plan(constraint: Constraint, world: Callable[[], Problem], change: Callable[[Plan], Plan]) -> Planted:
    return Planted(constraint, world, lambda made, plan: (made, change(plan)))


def later(plan: Plan, days: int = 1) -> Plan:
    old = plan.shipments[0]
    moved = {"ship_on": old.ship_on + timedelta(days=days), "arrive_by": old.arrive_by + timedelta(days=days)}
    return with_shipment(plan, **moved)


def another_cost(plan: Plan) -> Plan:
    return replace(plan, costs=(replace(plan.costs[0], amount=plan.costs[0].amount + 1), *plan.costs[1:]))


def from_the_other_lot(plan: Plan) -> Plan:
    """All three from the lot that keeps longer."""
    every = [each for each in plan.assignments if each.item != "A"]
    late = next(each for each in plan.assignments if each.lot == "L2")
    return replace(plan, assignments=(replace(late, quantity=3, line_quantity=3), *every))


def halves(plan: Plan) -> Plan:
    """One unit of the only line waits."""
    first = plan.assignments[0]
    fewer = replace(first, quantity=first.quantity - 1, line_quantity=first.line_quantity - 1)
    return replace(plan, assignments=(fewer, *plan.assignments[1:]), unserved=(waiting(first.line_no, 1),))


def without_line_2(plan: Plan) -> Plan:
    kept = tuple(each for each in plan.assignments if each.line_no == 1)
    return replace(plan, assignments=kept, unserved=(waiting(2, 2),))


def numbered_from_two(plan: Plan) -> Plan:
    return replace(plan, shipments=(replace(plan.shipments[0], no=2),))


def with_a_discount(plan: Plan) -> Plan:
    return replace(plan, costs=(*plan.costs, CostPart(CostKind.LATE, -1)))


def with_on_hand(made: Problem, quantity: int) -> tuple[ItemStock, ...]:
    return shelves_of(StockFact(each.place, quantity) for each in made.facts.stock)


def without_bookings(plan: Plan) -> Plan:
    return with_shipment(plan, bookings=())


def with_small_bookings(plan: Plan) -> Plan:
    return with_shipment(plan, bookings=tuple(replace(each, quantity=1) for each in plan.shipments[0].bookings))


CLOSED = Buffer("closed", closed=True)
EXPRESS = frozenset({"express"})
TUESDAY_ON = {"calendar": "tuesdays"}
TUESDAYS = {"tuesdays": Calendar("tuesdays", weekdays=frozenset({1}))}
HARD = ServiceLevel("standard", 0, late_is_hard=True)
TAKEN = (CapacityFact("N1", MONDAY, 0, 9),)

PLANTED = [
    in_plan(Constraint.STRUCTURE, one_shipment, numbered_from_two),
    in_plan(Constraint.STRUCTURE, one_shipment, lambda plan: with_assignment(plan, position=99)),
    in_plan(Constraint.STRUCTURE, one_shipment, lambda plan: with_assignment(plan, node="N2")),
    in_plan(Constraint.STRUCTURE, one_shipment, lambda plan: with_assignment(plan, line_no=9)),
    in_plan(Constraint.STRUCTURE, one_shipment, lambda plan: with_assignment(plan, quantity=0)),
    in_plan(Constraint.STRUCTURE, one_shipment, lambda plan: with_assignment(plan, lot="L9")),
    in_plan(Constraint.STRUCTURE, one_shipment, lambda plan: with_assignment(plan, receipt=RECEIPT)),
    in_plan(Constraint.STRUCTURE, one_shipment, lambda plan: with_shipment(plan, lanes=("nowhere",))),
    in_plan(Constraint.STRUCTURE, two_shipments, lambda plan: replace(plan, assignments=plan.assignments[:1])),
    in_plan(Constraint.STRUCTURE, two_shipments, lambda plan: replace(plan, shipments=plan.shipments[::-1])),
    in_plan(Constraint.STRUCTURE, one_shipment, lambda plan: replace(plan, unserved=(waiting(7, 1),))),
    in_plan(Constraint.CONSERVATION, one_shipment, lambda plan: replace(plan, unserved=(waiting(1, 1),))),
    in_plan(Constraint.CONSERVATION, one_shipment, lambda plan: with_assignment(plan, line_quantity=1)),
    in_plan(Constraint.CONSERVATION, everything_waits, lambda plan: replace(plan, unserved=plan.unserved[:1])),
    in_world(Constraint.SUSPENDED, one_shipment, node_N1={"status": NodeStatus.SUSPENDED}),
    in_world(Constraint.SUSPENDED, with_transfer, node_N1={"status": NodeStatus.SUSPENDED}),
    in_world(Constraint.ALLOW_LIST, one_shipment, node_N1={"customers": frozenset({"ann"})}),
    in_world(Constraint.ALLOW_LIST, one_shipment, pool_main={"customers": frozenset({"ann"})}),
    in_world(Constraint.POOL, one_shipment, pool_main={"channels": frozenset({"shop"})}),
    in_world(Constraint.POOL, one_shipment, pool_main={"zones": frozenset({"Y"})}),
    in_world(Constraint.POOL, one_shipment, policy={"only_listed_pools": True, "pool_order": {"web": ("rest",)}}),
    in_world(Constraint.SERVICE_AREA, one_shipment, node_N1={"service_area": frozenset({"Y"})}),
    in_world(Constraint.LANE, one_shipment, lane_near={"service_levels": EXPRESS}),
    in_world(Constraint.LANE, one_shipment, lane_near={"destination": "Y"}),
    in_world(Constraint.LANE, with_transfer, policy={"max_transfer_hops": 0}),
    in_world(Constraint.LANE, with_transfer, lane_hop={"destination": "N2"}),
    in_plan(Constraint.LANE, one_shipment, lambda plan: with_shipment(plan, lanes=("far",))),
    in_world(Constraint.CAPABILITY, one_shipment, item_A={"requires": frozenset({"cold"})}),
    in_world(
        Constraint.CAPABILITY,
        one_shipment,
        item_A={"requires": frozenset({"cold"})},
        node_N1={"capabilities": frozenset({"cold"})},
    ),
    in_world(Constraint.CAPABILITY, one_shipment, item_A={"length_mm": 900}, lane_near={"max_length_mm": 800}),
    in_world(Constraint.DISTANCE, two_shipments, terms={"max_distance_km": 600}),
    in_world(Constraint.LATE, one_shipment, terms={"service_level": HARD}),
    in_world(
        Constraint.LATE, one_shipment, terms={"service_level": replace(HARD, deliver_within_days=9)},
        order={"requested_date": MONDAY},
    ),
    in_world(Constraint.CALENDAR, one_shipment, node_N1={"cut_off": time(8)}),
    in_world(Constraint.CALENDAR, one_shipment, lane_near={"cut_off": time(8)}),
    in_world(Constraint.CALENDAR, one_shipment, node_N1={"time_zone": "Asia/Tokyo", "cut_off": time(17)}),
    in_world(Constraint.CALENDAR, one_shipment, node_N1={"handling_days": 1}),
    in_world(Constraint.CALENDAR, one_shipment, network={"calendars": TUESDAYS}, node_N1=TUESDAY_ON),
    in_world(Constraint.CALENDAR, one_shipment, network={"calendars": TUESDAYS}, lane_near=TUESDAY_ON),
    in_world(Constraint.HORIZON, with_receipt, policy={"horizon_days": 2}),
    in_plan(Constraint.EARLIEST, one_shipment, later),
    in_plan(Constraint.EARLIEST, with_receipt, later),
    in_plan(Constraint.ARRIVAL, one_shipment, lambda plan: with_shipment(plan, arrive_by=MONDAY)),
    in_world(Constraint.ARRIVAL, with_transfer, lane_hop={"transit": Transit()}),
    in_world(Constraint.RATE, one_shipment, network={"rates": {"card": RateCard("c", (RateBand(0, KG),))}}),
    in_world(Constraint.RATE, one_shipment, network={"rates": {"card": RateCard("c", (RateBand(9 * KG, 10 * KG),))}}),
    in_world(Constraint.RATE, one_shipment, lane_near={"max_weight_ug": KG}),
    in_world(Constraint.RATE, one_shipment, network={"rates": {}}),
    in_world(Constraint.EXCLUDED, one_shipment, terms={"failed": "rule r: no answer"}),
    in_world(Constraint.STOCK, two_shipments, facts={"shelves": with_on_hand(two_shipments(), 1)}),
    in_world(Constraint.WITHHELD, two_shipments, pool_main={"protection": 1}),
    in_world(Constraint.WITHHELD, two_shipments, policy={"buffers": (Buffer("b", 1),)}),
    in_world(Constraint.WITHHELD, two_shipments, policy={"buffers": (CLOSED,)}),
    in_world(Constraint.WITHHELD, two_shipments, policy={"buffers": (Buffer("a", 0, item="A"), CLOSED)}),
    in_world(Constraint.WITHHELD, with_receipt, policy={"buffers": (Buffer("b", 4, echelon="regional"),)}),
    in_world(Constraint.EXPIRED, one_shipment, facts={"at": NINE + timedelta(days=40)}),
    in_world(Constraint.RECEIPT, with_receipt, terms={"on_hand_only": True}),
    in_plan(Constraint.RECEIPT, with_receipt, lambda plan: later(plan, -1)),
    in_plan(Constraint.DRAW_ORDER, one_shipment, from_the_other_lot),
    in_plan(Constraint.DRAW_ORDER, with_receipt, lambda plan: replace(
        plan, assignments=(replace(plan.assignments[-1], quantity=3, line_quantity=3),))),
    in_world(Constraint.CAPACITY, with_slots, facts={"capacity": TAKEN}),
    in_world(Constraint.CAPACITY, with_slots, node_N1={"slots": (Slot(CapacityUnit.ORDERS, 9, until=time(9)),) * 3}),
    in_world(Constraint.CAPACITY, with_slots, node_N1={"slots": (Slot(CapacityUnit.LINES, 1),) * 3}),
    in_world(Constraint.CAPACITY, with_slots, node_N1={"slots": (
        *with_slots().edition.network.nodes["N1"].slots, Slot(CapacityUnit.ORDERS, 9, only_on=MONDAY))}),
    in_plan(Constraint.CAPACITY, with_slots, without_bookings),
    in_plan(Constraint.CAPACITY, with_slots, with_small_bookings),
    in_plan(Constraint.WEIGHT, one_shipment, lambda plan: with_shipment(plan, weight_ug=1)),
    in_world(Constraint.WEIGHT, one_shipment, line_1={"weight_ug": 9 * KG}),
    in_plan(Constraint.EMISSIONS, two_shipments, lambda plan: with_shipment(plan, 2, co2e_mg=0)),
    in_world(Constraint.MAX_SHIPMENTS, two_shipments, terms={"max_shipments": 1}),
    Planted(Constraint.SHIP_COMPLETE, one_shipment, lambda made, plan: (
        changed(made, terms={"ship_complete": True}), without_line_2(plan))),
    in_world(Constraint.TOGETHER, two_shipments, line_1={"together": "x"}, line_2={"together": "x"}),
    Planted(Constraint.TOGETHER, one_shipment, lambda made, plan: (
        changed(made, line_1={"together": "x"}, line_2={"together": "x"}), without_line_2(plan))),
    in_world(Constraint.LINE_SPLIT, divided_line, terms={"line_split": LineSplit.NEVER}),
    in_plan(Constraint.LINE_SPLIT, one_shipment, halves),
    in_world(Constraint.SUBSTITUTE, with_substitute, terms={"substitution": SubstitutionMode.NEVER}),
    in_world(Constraint.SUBSTITUTE, with_substitute, line_1={"substitutes": False}),
    in_world(Constraint.SUBSTITUTE, with_substitute, facts={"shelves": with_on_hand(with_substitute(), 4)}),
    in_world(Constraint.SUBSTITUTE, with_substitute, catalog={"substitutions": {}}),
    in_world(Constraint.SUBSTITUTE, with_substitute, catalog={
        "substitutions": {"A": (Substitution("A", "C", 3, 2, Rate(1)),)}}),
    in_world(Constraint.KIT, with_kit, catalog={"bills": {"KIT": Bill("KIT", (Component("B", 1), Component("C", 1)))}}),
    in_plan(Constraint.KIT, with_kit, lambda plan: replace(plan, assignments=plan.assignments[:1])),
    in_plan(Constraint.KIT, with_kit, lambda plan: with_assignment(plan, 1, line_quantity=1)),
    in_world(Constraint.SUBSTITUTE, with_kit, policy={"kits_from_parts": False}),
    in_world(Constraint.VALUE, two_shipments, terms={"min_shipment_value": Rate(21)}),
    in_world(Constraint.VALUE, two_shipments, terms={"min_shipment_value": Rate(5)}, line_2={"unit_price": None}),
    Planted(Constraint.VALUE, one_shipment, lambda made, plan: (
        changed(made, terms={"min_shipment_value": Rate(21)}), without_line_2(plan))),
    in_plan(Constraint.COST, one_shipment, another_cost),
    in_plan(Constraint.COST, one_shipment, lambda plan: replace(plan, costs=plan.costs[1:])),
    in_plan(Constraint.COST, one_shipment, with_a_discount),
    in_plan(Constraint.COST, with_records, lambda plan: replace(
        plan, costs=tuple(part for part in plan.costs if (part.kind, part.line_no) != (CostKind.MISS, 2)))),
    in_world(Constraint.COST, with_records, facts={"misses": (ClassFact("", (PickFact("N2", 1, 0),)),)}),
    in_world(Constraint.COST, with_records, item_B={"product": "hardware"}, facts={
        "misses": (ClassFact("hardware", (PickFact("N2", 0, 1),)),)}),
]  # fmt: skip
