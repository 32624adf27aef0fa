"""A small problem as docs/sourcing.md reads it: its routes and their days, its stock in the order of drawing.

The brute force stands on this; it shares no code with the engines or the verifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from poolwise.core.network import Lane, NodeStatus
from poolwise.core.policy.terms import Buffer, CostKind
from poolwise.core.sourcing.problem import Place, Problem
from poolwise.core.values import MICROGRAMS_PER_KG, MILLION, divide_rounded


class Route(NamedTuple):
    """Lanes from a node to the zone, with the days on which a shipment may leave by them."""

    node: str
    lanes: tuple[Lane, ...]
    days: tuple[date, ...]


class Cell(NamedTuple):
    """A route on a day: what is served from one cell is one shipment. Cells sort as shipments are numbered."""

    day: date
    node: str
    codes: tuple[str, ...]
    route: Route
    arrive_by: date


class Source(NamedTuple):
    """A lot on hand or a receipt, with what the order may take of it."""

    position: int
    pool: str
    lot: str
    receipt: UUID | None
    due_on: date
    usable: int
    there: int
    """On hand in the group before anything is withheld."""


@dataclass
class World:
    """A problem with everything that is looked up again and again."""

    problem: Problem
    cells: list[Cell] = field(default_factory=list)
    sources: dict[tuple[str, str], list[Source]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.network, self.catalog = self.problem.edition.network, self.problem.edition.catalog
        self.order, self.terms = self.problem.demand.order, self.problem.terms
        self.policy = self.terms.policy
        self.lines = {line.no: line for line in self.order.lines}
        self.open = dict(self.problem.demand.open)
        self.today = self.problem.facts.at.astimezone(UTC).date()
        self.deadline = deadline(self)
        self.taken = {(fact.node, fact.day, fact.slot): fact.taken for fact in self.problem.facts.capacity}
        places: list[Place] = [fact.place for fact in self.problem.facts.stock]
        places += [fact.place for fact in self.problem.facts.receipts]
        for item, node in sorted({(place.item, place.node) for place in places}):
            self.sources[item, node] = sources_of(self, item, node)
        self.routes = [route for node in sorted(self.network.nodes) for route in routes_from(self, node)]
        self.cells = sorted(cell for route in self.routes for cell in cells_of(self, route))

    def weighted(self, kind: CostKind, amount: int) -> int:
        """An elementary amount with its weight."""
        return divide_rounded(amount * self.policy.weights_ppm.get(kind, MILLION), MILLION)

    def here(self, node: str) -> date:
        """The day of the decision at a node."""
        return self.problem.facts.at.astimezone(ZoneInfo(self.network.nodes[node].time_zone)).date()


# --- routes and days


def routes_from(world: World, node: str) -> Iterator[Route]:
    """Routes of the order from a node, without regard to what is sent."""
    chains: list[list[Lane]] = [[]]
    for _ in range(world.policy.max_transfer_hops + 1):
        longer = []
        for chain in chains:
            end = chain[-1].destination if chain else node
            for lane in world.network.lanes.values():
                if lane.origin != end:
                    continue
                if lane.to_node:
                    longer.append([*chain, lane])
                elif lane.destination == world.order.zone:
                    days = ship_days(world, node, (*chain, lane))
                    if days and is_open_to_order(world, (*chain, lane)):
                        yield Route(node, (*chain, lane), days)
        chains = longer


def is_open_to_order(world: World, lanes: tuple[Lane, ...]) -> bool:
    nodes = [world.network.nodes[lane.origin] for lane in lanes]
    level = world.terms.service_level.code
    if world.terms.failed or len({node.code for node in nodes}) < len(nodes):
        return False
    if any(node.status is not NodeStatus.ACTIVE for node in nodes):
        return False
    if nodes[0].customers and world.order.customer not in nodes[0].customers:
        return False
    if nodes[0].service_area and world.order.zone not in nodes[0].service_area:
        return False
    if any(lane.service_levels and level not in lane.service_levels for lane in lanes):
        return False
    longest = world.terms.max_distance_km
    return longest is None or sum(lane.distance_km for lane in lanes) <= longest


def carries(world: World, lanes: Iterable[Lane], item: str) -> bool:
    """Whether nodes and lanes of a route can take an item."""
    sent = world.catalog.items[item]
    for lane in lanes:
        if not sent.requires <= world.network.nodes[lane.origin].capabilities or not sent.requires <= lane.carries:
            return False
        if 0 < lane.max_length_mm < sent.length_mm:
            return False
    return True


def ship_days(world: World, node_code: str, lanes: tuple[Lane, ...]) -> tuple[date, ...]:
    """All days in the horizon on which a route's origin and first lane work, from its first ship day."""
    node, lane = world.network.nodes[node_code], lanes[0]
    work = world.network.calendar(node.calendar)
    carrier = world.network.calendar(lane.calendar) if lane.calendar else work
    now = world.problem.facts.at.astimezone(ZoneInfo(node.time_zone))
    last = now.date() + timedelta(days=world.policy.horizon_days)
    day, working = now.date(), -1
    # Count working days: number 0 is the day the order counts as received on.
    while working < node.handling_days:
        late_today = day == now.date() and now.time() > min(node.cut_off, lane.cut_off)
        if work.is_open(day) and not late_today:
            working += 1
        if working < node.handling_days:
            day += timedelta(days=1)
        if day > last:
            return ()
    days = []
    while day <= last:
        if work.is_open(day) and carrier.is_open(day) and arrival(world, lanes, day) is not None:
            days.append(day)
        day += timedelta(days=1)
    return tuple(days)


def arrival(world: World, lanes: tuple[Lane, ...], day: date) -> date | None:
    """The day of arrival of what leaves on a day; None when it is too late and that is forbidden, or never."""
    for place, lane in enumerate(lanes):
        code = lane.calendar or world.network.nodes[lane.origin].calendar
        calendar = world.network.calendar(code)
        opens = calendar.on_or_after(day) if place else day
        arrives = None
        if opens is not None:
            arrives = calendar.plus_working_days(opens, lane.transit.quantile(world.terms.service_level.confidence_ppm))
        if arrives is None:
            return None
        day = arrives
    too_late = world.deadline is not None and day > world.deadline
    return None if too_late and world.terms.service_level.late_is_hard else day


def deadline(world: World) -> date | None:
    level, order = world.terms.service_level, world.order
    if order.requested_date is not None:
        return order.requested_date
    if level.deliver_within_days is None:
        return None
    received = order.received_at.astimezone(ZoneInfo(world.network.zones[order.zone].time_zone)).date()
    return received + timedelta(days=level.deliver_within_days)


def cells_of(world: World, route: Route) -> Iterator[Cell]:
    """A shipment leaves on its earliest day: the first, the first after a receipt, or any where slots may be full."""
    due = {source.due_on for (_, node), found in world.sources.items() if node == route.node for source in found}
    after = {min((day for day in route.days if day >= when), default=None) for when in due}
    for day in route.days:
        if day == route.days[0] or day in after or world.network.nodes[route.node].slots:
            arrive_by = arrival(world, route.lanes, day)
            assert arrive_by is not None
            yield Cell(day, route.node, tuple(lane.code for lane in route.lanes), route, arrive_by)


# --- stock


def sources_of(world: World, item: str, node: str) -> list[Source]:
    """All that the order may take of an item at a node, in the order of drawing."""
    facts, pools = world.problem.facts, world.network.pools
    stock = [f for f in facts.stock if (f.place.item, f.place.node) == (item, node)]
    receipts = [f for f in facts.receipts if (f.place.item, f.place.node) == (item, node)]
    stock = [f for f in stock if f.place.expires_on is None or f.place.expires_on > world.today]
    receipts = [f for f in receipts if f.place.expires_on is None or f.place.expires_on > world.today]
    if world.terms.on_hand_only:
        receipts = []
    codes = sorted({f.place.pool for f in stock} | {f.place.pool for f in receipts})
    there = {code: sum(f.available for f in stock if f.place.pool == code) for code in codes}
    usable_pools = [code for code in codes if pool_is_open(world, code)]
    usable_pools.sort(key=lambda code: (unit_cost(world, item, code, there[code]), place_of(world, code), code))
    first: list[Source] = []
    later: list[tuple[date, int, Source]] = []
    for rank, code in enumerate(usable_pools):
        kept = buffered(world, item, node, code)
        if kept is None:
            continue
        kept += pools[code].protection
        lots = [f for f in stock if f.place.pool == code]
        lots.sort(key=lambda f: (f.place.expires_on is None, f.place.expires_on or date.min, f.place.lot))
        offered = [(f.place, None, date.min, f.available) for f in lots]
        left: list[Source] = []
        # From the back: what expires last is what stays.
        for place, _, due_on, quantity in reversed(offered):
            stays = min(kept, quantity)
            kept -= stays
            left.append(Source(place.position, code, place.lot, None, due_on, quantity - stays, there[code]))
        first += reversed(left)
        expected = sorted((f for f in receipts if f.place.pool == code), key=lambda f: (f.due_on, f.receipt))
        for f in expected:
            stays = min(kept, f.open)
            kept -= stays
            source = Source(f.place.position, code, f.place.lot, f.receipt, f.due_on, f.open - stays, there[code])
            later.append((f.due_on, rank, source))
    later.sort(key=lambda each: (each[0], each[1], each[2].receipt))
    return [source for source in (*first, *(source for _, _, source in later)) if source.usable]


def pool_is_open(world: World, code: str) -> bool:
    pool, order = world.network.pools[code], world.order
    listed = code in world.policy.pool_order.get(order.channel, ())
    return (
        (not pool.customers or order.customer in pool.customers)
        and (not pool.channels or order.channel in pool.channels)
        and (not pool.zones or order.zone in pool.zones)
        and (listed or not world.policy.only_listed_pools)
    )


def place_of(world: World, pool: str) -> int:
    listed = world.policy.pool_order.get(world.order.channel, ())
    return listed.index(pool) if pool in listed else len(listed)


def unit_cost(world: World, item: str, pool: str, there: int) -> int:
    """Weighted cost of one whole unit on hand, for the order of drawing."""
    rates, sent = world.network.pools[pool], world.catalog.items[item]
    return (
        world.weighted(CostKind.POOL, rates.per_unit.times(1))
        + world.weighted(CostKind.POOL, rates.per_kg.times(sent.weight_ug, MICROGRAMS_PER_KG))
        + world.weighted(CostKind.POOL, world.policy.pool_rank_cost.times(place_of(world, pool)))
        + world.weighted(CostKind.STOCKOUT, stockout(world, item, there, 10**sent.scale))
    )


def stockout(world: World, item: str, there: int, quantity: int) -> int:
    target = world.policy.stockout_target
    if target <= there:
        return 0
    whole = 10 ** world.catalog.items[item].scale
    return world.policy.stockout_cost_per_unit.times(quantity * (target - there), per=whole * target)


def buffered(world: World, item: str, node_code: str, pool: str) -> int | None:
    """What the buffers withhold; None for everything."""
    node = world.network.nodes[node_code]
    wanted = {"item": item, "node": node_code, "pool": pool, "channel": world.order.channel}
    wanted |= {"node_kind": node.kind, "echelon": node.echelon.value}
    matching: list[tuple[tuple[int, ...], Buffer]] = []
    for buffer in world.policy.buffers:
        names = {selector: getattr(buffer, selector) for selector in wanted}
        if all(name in ("", wanted[selector]) for selector, name in names.items()):
            named = tuple(1 if name else 0 for name in names.values())
            matching.append(((sum(named), *named), buffer))
    if not world.policy.stackable_buffers and matching:
        top = max(rank for rank, _ in matching)
        matching = sorted((m for m in matching if m[0] == top), key=lambda m: m[1].id)[:1]
    if any(buffer.closed for _, buffer in matching):
        return None
    return sum(buffer.quantity for _, buffer in matching)


def on_hand(world: World, item: str, node: str) -> int:
    return sum(source.usable for source in world.sources.get((item, node), ()) if source.receipt is None)
