"""What a plan costs, computed again part by part, and compared exactly with what it says.

Keeps laws 11 and 15 for docs/sourcing.md, "What is chosen".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from poolwise.core.network import CostCard, Lane
from poolwise.core.policy.terms import CostKind
from poolwise.core.sourcing.plan import PlannedShipment
from poolwise.core.values import MICROGRAMS_PER_KG, MILLION, Cost
from poolwise.core.verify.capacity import capacity_over
from poolwise.core.verify.case import Case, Constraint, Load, Violation, local
from poolwise.core.verify.demand import waits
from poolwise.core.verify.draws import supply
from poolwise.core.verify.prices import miss_amount, pool_place, stockout_amount, weighted
from poolwise.core.verify.supply import SlotKey
from poolwise.core.verify.travel import band_of, deadline, first_ship_day

Key: TypeAlias = tuple[CostKind, int, int]
"""Kind, shipment and line of a cost part; 0 where it is of none."""

Amounts: TypeAlias = Iterator[tuple[Key, Cost]]


def check_costs(case: Case, before: Mapping[SlotKey, int]) -> Iterator[Violation]:
    """Every cost part is the documented amount, to the millionth, and none is missing.

    `before` is the capacity taken by others. Asks for a plan whose structure, rates and bookings are right.
    """
    right: dict[Key, Cost] = {}
    for key, amount in _amounts(case, before):
        right[key] = right.get(key, 0) + weighted(case.problem, key[0], amount)
    said: dict[Key, Cost] = {}
    for part in case.plan.costs:
        said_key = (part.kind, part.shipment_no, part.line_no)
        said[said_key] = said.get(said_key, 0) + part.amount
    for key in sorted(right.keys() | said.keys()):
        if right.get(key, 0) != said.get(key, 0):
            text = f"{key[0]} is {right.get(key, 0)} millionths, not {said.get(key, 0)}"
            yield case.violation(Constraint.COST, text, key[1], key[2])


def _amounts(case: Case, before: Mapping[SlotKey, int]) -> Amounts:
    """Every elementary amount, rounded to millionths and not yet weighted."""
    policy, terms = case.problem.terms.policy, case.problem.terms
    over = {} if policy.capacity_is_hard else capacity_over(case, before)
    for shipment in case.plan.shipments:
        lanes, loads = case.lanes(shipment), case.loads(shipment.no)
        yield from _travel_amounts(case, shipment, lanes, loads)
        yield from _day_amounts(case, shipment, lanes)
        yield from _line_amounts(case, shipment, loads)
        for amount, per in over.get(shipment.no, ()):
            yield (CostKind.CAPACITY, shipment.no, 0), policy.capacity_penalty.times(amount, per)
        yield (CostKind.NODE, shipment.no, 0), case.verdicts.get(shipment.lanes) or 0
    for _ in case.plan.shipments[1:]:
        yield (CostKind.SPLIT, 0, 0), terms.split_cost.times(1)
    for no in case.open:
        if waiting := waits(case, no):
            item = case.problem.edition.catalog.items[case.lines[no].item]
            yield (CostKind.BACKORDER, 0, no), policy.backorder_cost_per_line.times(1)
            yield (CostKind.BACKORDER, 0, no), policy.backorder_cost_per_unit.times(waiting, 10**item.scale)


def _travel_amounts(case: Case, shipment: PlannedShipment, lanes: Sequence[Lane], loads: Sequence[Load]) -> Amounts:
    """Freight, transfers, and handling at the origin and wherever the shipment passes."""
    weight_ug, nodes = sum(load.weight_ug for load in loads), case.network.nodes
    yield from _handling(CostKind.HANDLING, shipment.no, nodes[lanes[0].origin].costs, loads)
    for lane in lanes:
        kind = CostKind.TRANSFER if lane.to_node else CostKind.FREIGHT
        band = band_of(case.network, lane, weight_ug)
        if band is not None:
            price = band.fixed.times(1) + band.per_kg.times(weight_ug, MICROGRAMS_PER_KG)
            yield (kind, shipment.no, 0), max(band.minimum.times(1), price)
        if lane.to_node:
            reached = nodes[lane.destination].costs
            yield from _handling(CostKind.TRANSFER, shipment.no, reached, loads)
            for load in loads:
                inbound = reached.inbound_per_unit.times(load.quantity, 10**load.item.scale)
                yield (CostKind.TRANSFER, shipment.no, load.line.no), inbound
    carbon = case.problem.terms.policy.carbon_price_per_kg.times(shipment.co2e_mg, MILLION)
    yield (CostKind.CARBON, shipment.no, 0), carbon


def _handling(kind: CostKind, shipment_no: int, card: CostCard, loads: Sequence[Load]) -> Amounts:
    yield (kind, shipment_no, 0), card.per_shipment.times(1)
    for line_no in dict.fromkeys(load.line.no for load in loads):
        yield (kind, shipment_no, line_no), card.per_line.times(1)
    for load in loads:
        yield (kind, shipment_no, load.line.no), card.per_unit.times(load.quantity, 10**load.item.scale)
        yield (kind, shipment_no, load.line.no), card.per_kg.times(load.weight_ug, MICROGRAMS_PER_KG)


def _day_amounts(case: Case, shipment: PlannedShipment, lanes: Sequence[Lane]) -> Amounts:
    """Days in transit, late and delayed."""
    policy, due = case.problem.terms.policy, deadline(case.problem)
    today = local(case.problem, case.network.nodes[lanes[0].origin]).date()
    in_transit = (shipment.arrive_by - today).days
    yield (CostKind.TRANSIT, shipment.no, 0), policy.transit_cost_per_day.times(in_transit)
    if due is not None:
        late = max(0, (shipment.arrive_by - due).days)
        yield (CostKind.LATE, shipment.no, 0), policy.late_cost_per_day.times(late)
    first = first_ship_day(case.problem, lanes)
    if first is not None:
        delay = (shipment.ship_on - first).days
        yield (CostKind.DELAY, shipment.no, 0), policy.delay_cost_per_day.times(delay)


def _line_amounts(case: Case, shipment: PlannedShipment, loads: Sequence[Load]) -> Amounts:
    """Picks that may fail, pools, stock-outs avoided and substitutes."""
    rank_cost, items = case.problem.terms.policy.pool_rank_cost, case.problem.edition.catalog.items
    for line in {load.line.no: load.line for load in loads}.values():
        risk = miss_amount(case.problem, items[line.item].product, shipment.node)
        yield (CostKind.MISS, shipment.no, line.no), risk
    for load in loads:
        one = 10**load.item.scale
        for code, drawn in load.pools:
            pool, key = case.network.pools[code], (CostKind.POOL, shipment.no, load.line.no)
            yield key, pool.per_unit.times(drawn.quantity, one)
            yield key, pool.per_kg.times(drawn.weight_ug, MICROGRAMS_PER_KG)
            yield key, rank_cost.times(drawn.quantity * pool_place(case.problem, code), one)
            on_hand, _ = supply(case, (load.item.code, shipment.node, code))
            there = sum(stock.available for stock in on_hand)
            avoided = stockout_amount(case.problem, load.item, there, drawn.on_hand)
            yield (CostKind.STOCKOUT, shipment.no, load.line.no), avoided
        substitution = case.substitution(load.line, load.item.code)
        if load.way == "substitute" and substitution is not None:
            penalty = substitution.penalty.times(load.line_quantity, 10 ** items[load.line.item].scale)
            yield (CostKind.SUBSTITUTION, shipment.no, load.line.no), penalty
