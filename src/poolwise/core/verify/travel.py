"""Whether a shipment can travel as planned: nodes, lanes, capability, distance, days, arrival, weight and rates.

Keeps law 15 for docs/sourcing.md, "Routes" and "Days" (capacity apart).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from poolwise.core.catalog import Item
from poolwise.core.network import LONGEST_CLOSURE_DAYS, Calendar, Lane, Network, NodeStatus, RateBand
from poolwise.core.sourcing.plan import PlannedShipment
from poolwise.core.sourcing.problem import Problem
from poolwise.core.values import MICROGRAMS_PER_KG, divide_rounded
from poolwise.core.verify.case import Case, Constraint, Verdicts, Violation, local

Fault = tuple[Constraint, str]


def check_travel(case: Case) -> Iterator[Violation]:
    """Every constraint on the route, the days and the weight of every shipment."""
    for shipment in case.plan.shipments:
        lanes = case.lanes(shipment)
        loads = case.loads(shipment.no)
        faults = list(route_faults(case.problem, lanes, case.verdicts))
        if lanes[0].origin != shipment.node:
            faults.append((Constraint.LANE, f"lane {lanes[0].code} does not start at {shipment.node}"))
        for item in {load.item.code: load.item for load in loads}.values():
            faults += _capability_faults(case.network, lanes, item)
        faults += _day_faults(case.problem, shipment, lanes)
        faults += _weight_faults(case.network, shipment, lanes, sum(load.weight_ug for load in loads))
        for constraint, text in faults:
            yield case.violation(constraint, text, shipment.no)


def route_faults(problem: Problem, lanes: Sequence[Lane], verdicts: Verdicts) -> Iterator[Fault]:
    """What forbids a route to this order, whatever is sent and whenever; `lanes` is not empty."""
    network, order, terms = problem.edition.network, problem.demand.order, problem.terms
    passed = [lane.origin for lane in lanes]
    for code in passed:
        if network.nodes[code].status is not NodeStatus.ACTIVE:
            yield Constraint.SUSPENDED, f"node {code} is not active"
    origin = network.nodes[passed[0]]
    if origin.customers and order.customer not in origin.customers:
        yield Constraint.ALLOW_LIST, f"node {origin.code} does not serve customer '{order.customer}'"
    if origin.service_area and order.zone not in origin.service_area:
        yield Constraint.SERVICE_AREA, f"zone {order.zone} is not in the service area of {origin.code}"
    yield from _connection_faults(problem, lanes)
    distance_km = sum(lane.distance_km for lane in lanes)
    if terms.max_distance_km is not None and distance_km > terms.max_distance_km:
        yield Constraint.DISTANCE, f"{distance_km} km is more than {terms.max_distance_km}"
    if terms.failed:
        yield Constraint.EXCLUDED, f"the terms of the order are not settled: {terms.failed}"
    codes = tuple(lane.code for lane in lanes)
    if codes in verdicts and verdicts[codes] is None:
        yield Constraint.EXCLUDED, f"a rule excludes the route {', '.join(codes)}"


def _connection_faults(problem: Problem, lanes: Sequence[Lane]) -> Iterator[Fault]:
    """Lanes follow one another to the zone, without a detour, and serve the level."""
    order, terms, passed = problem.demand.order, problem.terms, [lane.origin for lane in lanes]
    for lane, following in pairwise(lanes):
        if not lane.to_node or lane.destination != following.origin:
            yield Constraint.LANE, f"lane {following.code} does not start where {lane.code} ends"
    if lanes[-1].to_node or lanes[-1].destination != order.zone:
        yield Constraint.LANE, f"lane {lanes[-1].code} does not reach zone {order.zone}"
    if len(lanes) - 1 > terms.policy.max_transfer_hops or len(set(passed)) < len(passed):
        yield Constraint.LANE, f"{len(lanes) - 1} transfers by {', '.join(passed)}"
    for lane in lanes:
        if lane.service_levels and terms.service_level.code not in lane.service_levels:
            yield Constraint.LANE, f"lane {lane.code} does not serve level {terms.service_level.code}"


def nodes_with_a_route(problem: Problem, item: Item, verdicts: Verdicts) -> list[str]:
    """Nodes from which a route is *left* for an item: no fault but, perhaps, a missing rate for the weight."""
    return [
        node
        for node in sorted(problem.edition.network.nodes)
        if any(_is_left(problem, lanes, item, verdicts) for lanes in _routes_from(problem, node))
    ]


def has_route(problem: Problem, node: str, items: Sequence[Item], weight_ug: int, verdicts: Verdicts) -> bool:
    """Whether one route from a node is left for all these items together, in one shipment of that weight."""
    network = problem.edition.network
    return any(
        all(_is_left(problem, lanes, item, verdicts) for item in items)
        and all(band_of(network, lane, weight_ug) is not None for lane in lanes)
        for lanes in _routes_from(problem, node)
    )


def _routes_from(problem: Problem, node: str) -> Iterator[tuple[Lane, ...]]:
    network, zone = problem.edition.network, problem.demand.order.zone
    unfinished: list[tuple[Lane, ...]] = [()]
    for _ in range(problem.terms.policy.max_transfer_hops + 1):
        longer: list[tuple[Lane, ...]] = []
        for lanes in unfinished:
            here = lanes[-1].destination if lanes else node
            leaving = [lane for lane in network.lanes.values() if lane.origin == here]
            yield from ((*lanes, lane) for lane in leaving if not lane.to_node and lane.destination == zone)
            longer += [(*lanes, lane) for lane in leaving if lane.to_node]
        unfinished = longer


def _is_left(problem: Problem, lanes: Sequence[Lane], item: Item, verdicts: Verdicts) -> bool:
    if any(True for _ in route_faults(problem, lanes, verdicts)):
        return False
    if any(True for _ in _capability_faults(problem.edition.network, lanes, item)):
        return False
    first = first_ship_day(problem, lanes)
    if first is None or first > last_ship_day(problem, lanes):
        return False
    arrival = arrive_by(problem, lanes, first)
    return arrival is not None and not _is_too_late(problem, arrival)


def _capability_faults(network: Network, lanes: Sequence[Lane], item: Item) -> Iterator[Fault]:
    for lane in lanes:
        lacking = sorted(item.requires - (network.nodes[lane.origin].capabilities & lane.carries))
        if lacking:
            yield Constraint.CAPABILITY, f"{lane.origin} or {lane.code} lacks {', '.join(lacking)} for {item.code}"
        if lane.max_length_mm and item.length_mm > lane.max_length_mm:
            yield Constraint.CAPABILITY, f"{item.code} is longer than {lane.code} takes"


def calendar_of(network: Network, lane: Lane) -> Calendar:
    """A lane's calendar: its own, else that of the node it starts from."""
    return network.calendar(lane.calendar or network.nodes[lane.origin].calendar)


def is_ship_day(network: Network, lanes: Sequence[Lane], day: date) -> bool:
    """Whether the origin and the first lane both work on a day."""
    origin = network.calendar(network.nodes[lanes[0].origin].calendar)
    return origin.is_open(day) and calendar_of(network, lanes[0]).is_open(day)


def first_ship_day(problem: Problem, lanes: Sequence[Lane]) -> date | None:
    """The first ship day of a route for an order that arrives at the decision; None when there is none in a year."""
    network = problem.edition.network
    node = network.nodes[lanes[0].origin]
    calendar, now = network.calendar(node.calendar), local(problem, node)
    too_late_today = now.time() > min(node.cut_off, lanes[0].cut_off)
    day = calendar.on_or_after(now.date())
    if day == now.date() and too_late_today:
        day = calendar.on_or_after(day + timedelta(days=1))
    day = None if day is None else calendar.plus_working_days(day, node.handling_days)
    if day is None:
        return None
    ahead = (day + timedelta(days=count) for count in range(LONGEST_CLOSURE_DAYS))
    return next((candidate for candidate in ahead if is_ship_day(network, lanes, candidate)), None)


def last_ship_day(problem: Problem, lanes: Sequence[Lane]) -> date:
    """The last day of the horizon, on the clock of the origin."""
    node = problem.edition.network.nodes[lanes[0].origin]
    return local(problem, node).date() + timedelta(days=problem.terms.policy.horizon_days)


def arrive_by(problem: Problem, lanes: Sequence[Lane], ship_on: date) -> date | None:
    """The day of arrival at the confidence of the service level; None when a lane does not work for a year."""
    network, confidence = problem.edition.network, problem.terms.service_level.confidence_ppm
    day: date | None = ship_on
    for place, lane in enumerate(lanes):
        calendar = calendar_of(network, lane)
        if place and day is not None:
            day = calendar.on_or_after(day)
        if day is not None:
            day = calendar.plus_working_days(day, lane.transit.quantile(confidence))
    return day


def deadline(problem: Problem) -> date | None:
    """The day by which the order should be there, in the time zone of its destination; None for no matter when."""
    order, level = problem.demand.order, problem.terms.service_level
    if order.requested_date is not None or level.deliver_within_days is None:
        return order.requested_date
    zone = problem.edition.network.zones.get(order.zone)
    received = order.received_at.astimezone(ZoneInfo(zone.time_zone if zone else "UTC"))
    return received.date() + timedelta(days=level.deliver_within_days)


def _is_too_late(problem: Problem, arrival: date) -> bool:
    due = deadline(problem)
    return problem.terms.service_level.late_is_hard and due is not None and arrival > due


def _day_faults(problem: Problem, shipment: PlannedShipment, lanes: Sequence[Lane]) -> Iterator[Fault]:
    first, last = first_ship_day(problem, lanes), last_ship_day(problem, lanes)
    if first is None or shipment.ship_on < first:
        yield Constraint.CALENDAR, f"leaves on {shipment.ship_on}, before the first ship day {first}"
    if not is_ship_day(problem.edition.network, lanes, shipment.ship_on):
        yield Constraint.CALENDAR, f"{lanes[0].origin} or {lanes[0].code} is closed on {shipment.ship_on}"
    if shipment.ship_on > last:
        yield Constraint.HORIZON, f"leaves on {shipment.ship_on}, after {last}"
    arrival = arrive_by(problem, lanes, shipment.ship_on)
    if shipment.arrive_by != arrival:
        yield Constraint.ARRIVAL, f"arrives by {arrival}, not {shipment.arrive_by}"
    if arrival is not None and _is_too_late(problem, arrival):
        yield Constraint.LATE, f"arrives by {arrival}, after the deadline {deadline(problem)}"


def band_of(network: Network, lane: Lane, weight_ug: int) -> RateBand | None:
    """The band of a lane's rate card that a weight falls in; None in a gap or over the lane's limit."""
    card = network.rates.get(lane.rates)
    if card is None or (lane.max_weight_ug and weight_ug > lane.max_weight_ug):
        return None
    inside = (band for band in card.bands if band.above_ug < weight_ug <= band.up_to_ug)
    weightless = (band for band in card.bands if weight_ug == band.above_ug == 0)
    return next(inside, None) or next(weightless, None)


def emissions_mg(lanes: Sequence[Lane], weight_ug: int) -> int:
    """Milligrams of CO2 equivalent of a shipment over all its lanes."""
    micrograms = sum(lane.co2e_g.times(1) + lane.co2e_g_per_kg.times(weight_ug, MICROGRAMS_PER_KG) for lane in lanes)
    return divide_rounded(micrograms, 1_000)


def _weight_faults(
    network: Network, shipment: PlannedShipment, lanes: Sequence[Lane], weight_ug: int
) -> Iterator[Fault]:
    if shipment.weight_ug != weight_ug:
        yield Constraint.WEIGHT, f"weighs {weight_ug} ug, not {shipment.weight_ug}"
    for lane in lanes:
        if band_of(network, lane, weight_ug) is None:
            yield Constraint.RATE, f"lane {lane.code} has no rate for {weight_ug} ug"
    if shipment.co2e_mg != emissions_mg(lanes, weight_ug):
        yield Constraint.EMISSIONS, f"emits {emissions_mg(lanes, weight_ug)} mg, not {shipment.co2e_mg}"
