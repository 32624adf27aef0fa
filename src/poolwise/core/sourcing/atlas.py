"""Which ways there are under an edition and a policy: routes, access, departures (docs/sourcing.md, "Routes").

`Atlas` keeps what an edition and a policy version make of a destination, for all orders. Whatever is remembered here
between orders never changes an answer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import numpy as np

from poolwise.core.catalog import Catalog, Item, Substitution
from poolwise.core.edition.build import Edition
from poolwise.core.network import CapacityUnit, Lane, Network, Node, NodeStatus, Pool
from poolwise.core.orders import Line, Order
from poolwise.core.policy.evaluate import CompiledPolicy, OrderFacts, RouteFacts, route_facts
from poolwise.core.policy.terms import SubstitutionMode, Terms
from poolwise.core.sourcing.costs import Part, Prices
from poolwise.core.sourcing.partition import NEVER, Ints
from poolwise.core.sourcing.plan import Elimination
from poolwise.core.sourcing.problem import CapacityFact, Place, Positions
from poolwise.core.sourcing.routes import Departure, Departures, Need, Route, SlotKey, Taken, routes_to
from poolwise.core.sourcing.tariff import Handling, Tariff
from poolwise.core.values import Cost, Quantity, ServiceLevel, replace

MOST_STANDINGS: Final = 1_000_000
MOST_REMEMBERED: Final = 100_000
"""Limits of the memories; at its limit one forgets everything and starts again."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to serve a line: base units of each item for `per` base units of the line, and a penalty."""

    name: str
    needs: tuple[tuple[str, Quantity], ...]
    per: Quantity = 1
    substitution: Substitution | None = None
    parts: bool = False
    across_nodes: bool = False

    def units(self, line_quantity: Quantity) -> tuple[tuple[str, Quantity], ...] | None:
        """Base units of each item for a quantity of the line; None when the ratio leaves a remainder."""
        times, remainder = divmod(line_quantity, self.per)
        return None if remainder else tuple((item, count * times) for item, count in self.needs)


class Standing(NamedTuple):
    """How a position stands to orders of one kind: the rank of its pool, and the units of its group not sold."""

    rank: int
    withheld: Quantity


class Columns(NamedTuple):
    """An item's positions as orders of one kind see them: the number of each one's node, and what is withheld there.

    Nodes are numbered as in the network; the number after the last is of positions that such an order may not use.
    `at` gives by node the place of its position.
    """

    nodes: Ints
    withheld: Ints
    at: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OpenRoute:
    """A route that can be used now: its number in the arrays, its departures, and what the policy's rules add to it."""

    index: int
    route: Route
    departures: Departures
    first: Departure
    penalty: Cost = 0

    @property
    def today(self) -> int:
        """The day of the decision at the origin, as ordinal."""
        return self.departures.local.toordinal()


def wanted(need: Need, unit: CapacityUnit, shipments: int) -> int:
    """What so many shipments take at most that need this in all; its lines may be in each of them."""
    if unit in (CapacityUnit.ORDERS, CapacityUnit.LINES):
        return need.of(unit) * shipments
    # Units and grams are rounded up once per shipment.
    return need.of(unit) + shipments - 1


class Dock(NamedTuple):
    """The slots that shipments by some routes of a node book on their first day; none where there is no window."""

    node: Node
    slots: tuple[tuple[SlotKey, CapacityUnit, int], ...]
    routes: list[int]

    def room(self, taken: Taken) -> int:
        """How many shipments find room in slots that count orders."""
        return min([limit - taken.get(key, 0) for key, _, limit in self.slots], default=0)

    def has_room(self, need: Need, shipments: int, taken: Taken) -> bool:
        """Whether so many shipments that need this in all find room."""
        found = (taken.get(key, 0) + wanted(need, unit, shipments) <= limit for key, unit, limit in self.slots)
        return bool(self.slots) and all(found)


@dataclass(slots=True, eq=False)
class Kind:
    """Orders that see stock alike: how positions stand to them, and by the ids of an item's positions their columns."""

    standings: dict[int, Standing | None] = field(default_factory=dict)
    columns: dict[bytes, Columns | None] = field(default_factory=dict)


class Waits(NamedTuple):
    """What it takes to wait for room under some capacity, where slots count orders only.

    `costs` is by route what that costs a shipment, None where none has to wait; `room` is by node how many shipments
    find room on the day that each of its routes then leaves.
    """

    capacity: tuple[CapacityFact, ...]
    costs: Ints | None
    room: Mapping[str, int]


@dataclass(slots=True, eq=False)
class Openings:
    """The routes left for orders of one kind at an instant. Each equals itself.

    `costs` is by route what a shipment on its first day costs whatever is in it, and `parts` of what; NEVER where a
    route is not left; `later` remembers the parts of later days by route and day. `least_room` is by unit the lowest
    limit of all slots that may be booked on a first day; `counts_goods` says whether one of them counts units or
    weight, `counts_only_orders` whether no slot counts anything but orders; `settled` is what was found last to wait
    for room, for the capacity it was found for.
    """

    ways: tuple[OpenRoute, ...]
    by_node: Mapping[str, tuple[OpenRoute, ...]]
    by_index: tuple[OpenRoute | None, ...]
    closed: tuple[tuple[Route, Elimination, str], ...]
    costs: Ints
    parts: tuple[tuple[Part, ...], ...]
    docks: tuple[Dock, ...]
    least_room: Mapping[CapacityUnit, int]
    counts_goods: bool
    counts_only_orders: bool
    later: dict[tuple[int, int], tuple[Part, ...]] = field(default_factory=dict)
    settled: Waits | None = None


@dataclass(slots=True)
class Timetable:
    """The routes of an access that leave at all, for orders decided from an instant until another."""

    since: datetime
    until: datetime
    ways: tuple[OpenRoute, ...]
    idle: tuple[Route, ...]
    openings: dict[Hashable, Openings] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Access:
    """What orders of one kind may use: routes, those closed to them with the reason, pools by rank. Each equals itself.

    `nodes` are the origins of the routes, in their order, `numbers` theirs in the network; `node_of` gives the place
    of each route's origin in it and `first_of` the first route of each. `drawing_is_free_from` is the stock of a group
    from which taking its units costs nothing; None where pools have a price. Every route carries `carries_ug`.
    """

    routes: tuple[Route, ...]
    closed: tuple[tuple[Route, Elimination], ...]
    pools: Mapping[str, int]
    pools_closed: Mapping[str, Elimination]
    tariff: Tariff
    handling: Handling
    nodes: Mapping[str, int]
    numbers: Ints
    node_of: Ints
    first_of: Ints
    drawing_is_free_from: Quantity | None
    has_credits: bool
    lengths_matter: bool
    carries_ug: int
    kind: Kind
    facts: dict[tuple[str, ...], RouteFacts] = field(default_factory=dict)
    carried: dict[Hashable, Ints | None] = field(default_factory=dict)
    timetable: Timetable | None = None

    def facts_of(self, route: Route, level: ServiceLevel) -> RouteFacts:
        """What rules may read of a route."""
        found = self.facts.get(route.key)
        if found is None:
            found = self.facts[route.key] = route_facts(route.node, route.lanes, level.confidence_ppm)
        return found

    def carriage(self, item: Item) -> Ints | None:
        """By route: 0 where it can handle an item, else NEVER; None where all can."""
        if not item.requires and not self.lengths_matter:
            return None
        key = (item.requires, max(item.length_mm, item.width_mm, item.height_mm) if self.lengths_matter else 0)
        if key not in self.carried:
            if len(self.carried) >= MOST_REMEMBERED:
                self.carried.clear()
            barred = [0 if carries(route, item) else NEVER for route in self.routes]
            self.carried[key] = np.array(barred, dtype=np.int64) if any(barred) else None
        return self.carried[key]


class Atlas:
    """Routes, access and ship days under one edition and one policy version; derived once and kept."""

    def __init__(self, edition: Edition, policy: CompiledPolicy) -> None:
        """An atlas answers only for problems of this edition and policy."""
        self.edition = edition
        self.policy = policy
        self.prices = Prices(edition.network, policy.policy)
        nodes, pools = edition.network.nodes.values(), edition.network.pools.values()
        named = [*(node.customers for node in nodes), *(pool.customers for pool in pools)]
        self._named = frozenset(customer for customers in named for customer in customers)
        self._zones_matter = any(pool.zones for pool in pools)
        self._routes: dict[str, tuple[Route, ...]] = {}
        self._access: dict[tuple[object, ...], Access] = {}
        self.numbers = {code: number for number, code in enumerate(edition.network.nodes)}
        self._kinds: dict[tuple[str, ...], Kind] = {}
        self._alternatives: dict[tuple[str, bool], tuple[Alternative, ...]] = {}
        self._taken: tuple[tuple[CapacityFact, ...], Taken] = ((), {})

    def routes(self, zone: str) -> tuple[Route, ...]:
        """All routes to a zone, open to the order or not."""
        if zone not in self._routes:
            hops = self.policy.policy.max_transfer_hops
            self._routes[zone] = routes_to(self.edition.network, zone, hops)
        return self._routes[zone]

    def access(self, order: Order, terms: Terms) -> Access:
        """What the order may use, whatever the stock and the day."""
        customer = order.customer if order.customer in self._named else ""
        key = (order.zone, order.channel, customer, terms.service_level, terms.max_distance_km)
        found = self._access.get(key)
        if found is None:
            if len(self._access) >= MOST_REMEMBERED:
                self._access.clear()
            kind = (order.channel, customer, order.zone if self._zones_matter else "")
            kept = self._kinds.setdefault(kind, Kind())
            routes = self.routes(order.zone)
            found = self._access[key] = _access(self.edition.network, routes, order, terms, self.numbers, kept)
        return found

    def taken(self, capacity: tuple[CapacityFact, ...]) -> Taken:
        """Capacity facts by slot. Orders of a batch mostly see the same ones, so the last answer is kept."""
        seen, known = self._taken
        if seen is not capacity:
            known = {(node, day.toordinal(), slot): taken for node, day, slot, taken in capacity}
            self._taken = (capacity, known)
        return known

    def openings(self, access: Access, order: Order, terms: Terms, at: datetime, due: int | None) -> Openings:
        """The routes left for an order at the instant of its decision; `due` is its deadline."""
        timetable = access.timetable
        if timetable is None or not timetable.since <= at < timetable.until:
            timetable = access.timetable = self._timetable(access, at, terms.service_level)
        key: Hashable = due
        judged: OrderFacts | None = None
        if self.policy.candidate_rules or terms.failed:
            judged = OrderFacts(order, self.edition.network, self.edition.catalog)
            key = (due, terms.failed, *[read(judged) for read in self.policy.candidate_readers])
        found = timetable.openings.get(key)
        if found is None:
            if len(timetable.openings) >= MOST_REMEMBERED:
                timetable.openings.clear()
            found = timetable.openings[key] = self._openings(access, timetable, terms, due, judged)
        return found

    def _timetable(self, access: Access, at: datetime, level: ServiceLevel) -> Timetable:
        ways: list[OpenRoute] = []
        idle: list[Route] = []
        until = at + timedelta(days=1)
        for index, route in enumerate(access.routes):
            horizon = self.policy.policy.horizon_days
            departures = Departures(self.edition.network, route, at, horizon, level.confidence_ppm)
            until = min(until, departures.until())
            first = departures.first()
            if first is None:
                idle.append(route)
            else:
                ways.append(OpenRoute(index, route, departures, first))
        return Timetable(at, until, tuple(ways), tuple(idle))

    def _openings(
        self, access: Access, timetable: Timetable, terms: Terms, due: int | None, judged: OrderFacts | None
    ) -> Openings:
        """The routes that leave in time and that no rule excludes; rules are asked if there are any."""
        judge = None if judged is None else self.policy.judge_for(judged)
        latest = due if terms.service_level.late_is_hard else None
        ways: list[OpenRoute] = []
        closed = [(route, Elimination.CALENDAR, "") for route in timetable.idle]
        for way in timetable.ways:
            if latest is not None and way.first.arrives > latest:
                closed.append((way.route, Elimination.TOO_SLOW, ""))
                continue
            if judge is not None:
                verdict = judge(access.facts_of(way.route, terms.service_level))
                if verdict.excluded_by is not None:
                    closed.append((way.route, Elimination.EXCLUDED, verdict.excluded_by))
                    continue
                way = replace(way, penalty=verdict.penalty) if verdict.penalty else way  # noqa: PLW2901
            ways.append(way)
        by_node: dict[str, list[OpenRoute]] = {}
        by_index: list[OpenRoute | None] = [None] * len(access.routes)
        parts: list[tuple[Part, ...]] = [()] * len(access.routes)
        docks: dict[tuple[str, int], Dock] = {}
        for way in ways:
            node, day = way.route.node, way.first.ships
            by_node.setdefault(node.code, []).append(way)
            by_index[way.index] = way
            parts[way.index] = self.prices.on_day(way.route, way.first, way.first, way.today, due, way.penalty)
            if node.slots:
                window = next(iter(way.departures.windows(day)), ())
                slots = tuple(((node.code, day, n), node.slots[n].unit, node.slots[n].limit) for n in window)
                docks.setdefault((node.code, day), Dock(node, slots, [])).routes.append(way.index)
        least_room = _least_room(docks.values())
        return Openings(
            ways=tuple(ways),
            by_node={code: tuple(found) for code, found in by_node.items()},
            by_index=tuple(by_index),
            closed=tuple(closed),
            costs=np.array([_sum(part) if way else NEVER for way, part in zip(by_index, parts, strict=True)]),
            parts=tuple(parts),
            docks=tuple(docks.values()),
            least_room=least_room,
            counts_goods=CapacityUnit.UNITS in least_room or CapacityUnit.WEIGHT in least_room,
            counts_only_orders=all(way.departures.counts_only_orders for way in ways),
        )

    def standing(self, access: Access, order: Order, place: Place) -> Standing | None:
        """How a position stands to an order: None where its pool, or a closed buffer, keeps it out."""
        if place.position not in access.kind.standings:
            if len(access.kind.standings) >= MOST_STANDINGS:
                access.kind.standings.clear()
            rank = access.pools.get(place.pool)
            node = self.edition.network.nodes[place.node]
            held = self.policy.buffer(place.item, node, place.pool, order.channel)
            protection = self.edition.network.pools[place.pool].protection
            access.kind.standings[place.position] = (
                None if rank is None or held.closed else Standing(rank, held.quantity + protection)
            )
        return access.kind.standings[place.position]

    def columns(self, access: Access, order: Order, positions: Positions) -> Columns | None:
        """An item's positions as an order sees them; None where it may use several at a node, or one that expires."""
        if positions.ids not in access.kind.columns:
            if len(access.kind.columns) >= MOST_REMEMBERED:
                access.kind.columns.clear()
            standings = [self.standing(access, order, place) for place in positions.places]
            open_ = [place for place, each in zip(positions.places, standings, strict=True) if each is not None]
            nobody = len(self.numbers)
            access.kind.columns[positions.ids] = None
            if len({place.node for place in open_}) == len(open_) and not any(place.expires_on for place in open_):
                numbers = [
                    nobody if each is None else self.numbers[place.node]
                    for place, each in zip(positions.places, standings, strict=True)
                ]
                withheld = [0 if each is None else each.withheld for each in standings]
                access.kind.columns[positions.ids] = Columns(
                    np.array(numbers, dtype=np.int64),
                    np.array(withheld, dtype=np.int64),
                    {place.node: n for n, place in enumerate(positions.places) if numbers[n] != nobody},
                )
        return access.kind.columns[positions.ids]

    def alternatives(self, line: Line, terms: Terms) -> tuple[Alternative, ...]:
        """All ways to serve a line, whatever the stock, see `alternatives`."""
        key = (line.item, line.substitutes and terms.substitution is not SubstitutionMode.NEVER)
        found = self._alternatives.get(key)
        if found is None:
            if len(self._alternatives) >= MOST_REMEMBERED:
                self._alternatives.clear()
            found = self._alternatives[key] = alternatives(self.edition.catalog, line, terms)
        return found


def _sum(parts: Sequence[Part]) -> Cost:
    return min(NEVER, sum(amount for _, amount in parts))


def _least_room(docks: Iterable[Dock]) -> dict[CapacityUnit, int]:
    least: dict[CapacityUnit, int] = {}
    for dock in docks:
        for _, unit, limit in dock.slots or (("", CapacityUnit.ORDERS, -1),):
            least[unit] = min(limit, least.get(unit, limit))
    return least


def _access(
    network: Network,
    routes: tuple[Route, ...],
    order: Order,
    terms: Terms,
    numbers: Mapping[str, int],
    kind: Kind,
) -> Access:
    opened: list[Route] = []
    closed: list[tuple[Route, Elimination]] = []
    for route in routes:
        reason = _closed_to(route, order, terms)
        if reason is None:
            opened.append(route)
        else:
            closed.append((route, reason))
    listed = terms.policy.pool_order.get(order.channel, ())
    ranks: dict[str, int] = {}
    pools_closed: dict[str, Elimination] = {}
    for pool in network.pools.values():
        reason = _pool_closed_to(pool, order, listed if terms.policy.only_listed_pools else None)
        if reason is None:
            ranks[pool.code] = listed.index(pool.code) if pool.code in listed else len(listed)
        else:
            pools_closed[pool.code] = reason
    # Routes are sorted by the code of their origin, so that those of a node are neighbours.
    nodes = {code: place for place, code in enumerate(dict.fromkeys(route.node.code for route in opened))}
    node_of = [nodes[route.node.code] for route in opened]
    return Access(
        routes=tuple(opened),
        closed=tuple(closed),
        pools=ranks,
        pools_closed=pools_closed,
        tariff=Tariff(network, opened, terms),
        handling=Handling(opened, terms),
        nodes=nodes,
        numbers=np.array([numbers[code] for code in nodes], dtype=np.int64),
        node_of=np.array(node_of, dtype=np.int64),
        first_of=np.array([node_of.index(place) for place in range(len(nodes))], dtype=np.int64),
        drawing_is_free_from=_drawing_is_free_from(network, terms, ranks),
        has_credits=_has_credits(network, opened, terms),
        lengths_matter=any(lane.max_length_mm for route in opened for lane in route.lanes),
        carries_ug=min((_carries_ug(network, lane) for route in opened for lane in route.lanes), default=0),
        kind=kind,
    )


def _carries_ug(network: Network, lane: Lane) -> int:
    """Up to which weight a lane carries and prices everything."""
    card, most = network.rates.get(lane.rates), 0
    for band in () if card is None else card.bands:
        if band.above_ug > most:
            break
        most = band.up_to_ug
    return min(most, lane.max_weight_ug or most)


def _has_credits(network: Network, routes: Sequence[Route], terms: Terms) -> bool:
    """Whether something may cost less than nothing."""
    rates = [rate for pool in network.pools.values() for rate in (pool.per_unit, pool.per_kg)]
    for card in (node.costs for route in routes for node in (route.node, *route.via)):
        rates += [card.per_shipment, card.per_line, card.per_unit, card.per_kg, card.inbound_per_unit]
    return any(rate.numerator < 0 for rate in rates) or bool(terms.policy.rules)


def _drawing_is_free_from(network: Network, terms: Terms, ranks: Mapping[str, int]) -> Quantity | None:
    policy = terms.policy
    rates = [rate for code in ranks for rate in (network.pools[code].per_unit, network.pools[code].per_kg)]
    if any(rate.numerator for rate in rates) or (policy.pool_rank_cost.numerator and any(ranks.values())):
        return None
    return policy.stockout_target if policy.stockout_cost_per_unit.numerator else 0


def _closed_to(route: Route, order: Order, terms: Terms) -> Elimination | None:
    """Why a route is closed to an order, whatever it carries; in the order of Elimination."""
    if any(node.status != NodeStatus.ACTIVE for node in (route.node, *route.via)):
        return Elimination.SUSPENDED
    if route.node.customers and order.customer not in route.node.customers:
        return Elimination.ALLOW_LIST
    if route.node.service_area and order.zone not in route.node.service_area:
        return Elimination.ZONE
    level = terms.service_level.code
    if any(lane.service_levels and level not in lane.service_levels for lane in route.lanes):
        return Elimination.LANE_MISSING
    if terms.max_distance_km is not None and route.distance_km > terms.max_distance_km:
        return Elimination.DISTANCE
    return None


def _pool_closed_to(pool: Pool, order: Order, listed: tuple[str, ...] | None) -> Elimination | None:
    if pool.customers and order.customer not in pool.customers:
        return Elimination.ALLOW_LIST
    if (pool.channels and order.channel not in pool.channels) or (listed is not None and pool.code not in listed):
        return Elimination.POOL_CLOSED
    if pool.zones and order.zone not in pool.zones:
        return Elimination.RESTRICTION
    return None


def alternatives(catalog: Catalog, line: Line, terms: Terms) -> tuple[Alternative, ...]:
    """All ways to serve a line, the item itself first, then its parts, then its substitutes by code."""
    found = [Alternative(line.item, ((line.item, 1),))]
    bill = catalog.bills.get(line.item)
    parts: tuple[tuple[str, Quantity], ...] = ()
    if bill is not None and terms.policy.kits_from_parts:
        parts = tuple((component.item, component.quantity) for component in bill.components)
        found.append(Alternative(f"{line.item} from parts", parts, parts=True, across_nodes=bill.across_nodes))
    if line.substitutes and terms.substitution != SubstitutionMode.NEVER:
        for swap in sorted(catalog.substitutions.get(line.item, ()), key=lambda swap: swap.substitute):
            own = (line.item, *(component.item for component in bill.components)) if bill else (line.item,)
            if swap.substitute not in own:
                needs = ((swap.substitute, swap.numerator),)
                found.append(Alternative(swap.substitute, needs, swap.denominator, substitution=swap))
    return tuple(found)


def carries(route: Route, item: Item) -> bool:
    """Whether every node and lane of a route can handle an item."""
    if item.requires and not all(item.requires <= node.capabilities for node in (route.node, *route.via)):
        return False
    length = max(item.length_mm, item.width_mm, item.height_mm)
    return all(
        item.requires <= lane.carries and not (lane.max_length_mm and length > lane.max_length_mm)
        for lane in route.lanes
    )
