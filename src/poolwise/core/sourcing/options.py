"""Every way a line could be served, and the reason where a way is closed (docs/sourcing.md, "Routes" and "Stock").

`Atlas` keeps what an edition and a policy version make of a destination, for all orders; `Options` is one order's
view of it with the facts of its decision: open routes, what each node could give each line, and what that costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from poolwise.core.catalog import Catalog, Item, Substitution
from poolwise.core.edition.build import Edition
from poolwise.core.network import Network, Node, NodeStatus, Pool
from poolwise.core.orders import Line, Order
from poolwise.core.policy.evaluate import CompiledPolicy, OrderFacts, RouteFacts, route_facts
from poolwise.core.policy.terms import SubstitutionMode, Terms
from poolwise.core.sourcing.costs import Prices, Sent, deadline, weight_of
from poolwise.core.sourcing.plan import Elimination, Unserved
from poolwise.core.sourcing.problem import Place, Problem, StockFact
from poolwise.core.sourcing.routes import Departure, Departures, Need, Route, book, routes_to
from poolwise.core.sourcing.tariff import Tariff
from poolwise.core.values import Cost, Quantity, ServiceLevel

MOST_CACHED: Final = 100_000


class Source(NamedTuple):
    """Units of a position (ready at once) or of a receipt there (ready from a day on) that a line may take."""

    place: Place
    quantity: Quantity
    available: Quantity
    rank: int
    ready: int = 0
    receipt: UUID | None = None


Shelf = tuple[Source, ...]
"""What an item offers at a node, in the order in which it is taken."""


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


@dataclass(slots=True)
class Timetable:
    """The routes of an access that leave at all, for orders decided at one instant."""

    at: datetime
    ways: tuple[OpenRoute, ...]
    idle: tuple[Route, ...]
    first_costs: dict[tuple[int, int | None], Cost] = field(default_factory=dict)


@dataclass(slots=True)
class Access:
    """What orders of one kind may use: routes, those closed to them with the reason, pools by rank.

    The rest is remembered as it is worked out, and never changes an answer: how positions stand, what handling a
    quantity of an item costs by node, what rules may read of a route, and the timetable of the newest instant.
    """

    routes: tuple[Route, ...]
    closed: tuple[tuple[Route, Elimination], ...]
    pools: Mapping[str, int]
    pools_closed: Mapping[str, Elimination]
    tariff: Tariff
    drawing_is_free: bool
    standings: dict[int, Standing | None] = field(default_factory=dict)
    handling: dict[tuple[str, Quantity, int], dict[str, Cost]] = field(default_factory=dict)
    facts: dict[tuple[str, ...], RouteFacts] = field(default_factory=dict)
    timetable: Timetable | None = None

    def facts_of(self, route: Route, level: ServiceLevel) -> RouteFacts:
        """What rules may read of a route."""
        found = self.facts.get(route.key)
        if found is None:
            found = self.facts[route.key] = route_facts(route.node, route.lanes, level.confidence_ppm)
        return found


class Atlas:
    """Routes, access and ship days under one edition and one policy version; derived once and kept."""

    def __init__(self, edition: Edition, policy: CompiledPolicy) -> None:
        """An atlas answers only for problems of this edition and policy."""
        self.edition = edition
        self.policy = policy
        self._named = frozenset(
            customer
            for customers in (
                *(node.customers for node in edition.network.nodes.values()),
                *(pool.customers for pool in edition.network.pools.values()),
            )
            for customer in customers
        )
        self._routes: dict[str, tuple[Route, ...]] = {}
        self._access: dict[tuple[object, ...], Access] = {}

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
            if len(self._access) >= MOST_CACHED:
                self._access.clear()
            found = self._access[key] = _access(self.edition.network, self.routes(order.zone), order, terms)
        return found

    def timetable(self, access: Access, at: datetime, level: ServiceLevel) -> Timetable:
        """When the routes of an access leave, for decisions at an instant; the newest instant is kept."""
        found = access.timetable
        if found is None or found.at != at:
            ways: list[OpenRoute] = []
            idle: list[Route] = []
            for index, route in enumerate(access.routes):
                horizon = self.policy.policy.horizon_days
                departures = Departures(self.edition.network, route, at, horizon, level.confidence_ppm)
                first = departures.first()
                if first is None:
                    idle.append(route)
                else:
                    ways.append(OpenRoute(index, route, departures, first))
            found = access.timetable = Timetable(at, tuple(ways), tuple(idle))
        return found

    def standing(self, access: Access, order: Order, place: Place) -> Standing | None:
        """How a position stands to an order: None where its pool, or a closed buffer, keeps it out."""
        if place.position not in access.standings:
            if len(access.standings) >= MOST_CACHED:
                access.standings.clear()
            rank = access.pools.get(place.pool)
            node = self.edition.network.nodes[place.node]
            held = self.policy.buffer(place.item, node, place.pool, order.channel)
            protection = self.edition.network.pools[place.pool].protection
            access.standings[place.position] = (
                None if rank is None or held.closed else Standing(rank, held.quantity + protection)
            )
        return access.standings[place.position]


def _access(network: Network, routes: tuple[Route, ...], order: Order, terms: Terms) -> Access:
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
    return Access(
        routes=tuple(opened),
        closed=tuple(closed),
        pools=ranks,
        pools_closed=pools_closed,
        tariff=Tariff(network, opened, terms),
        drawing_is_free=_drawing_is_free(network, terms, ranks),
    )


def _drawing_is_free(network: Network, terms: Terms, ranks: Mapping[str, int]) -> bool:
    """Whether taking stock costs nothing, whatever pool it is in, so that nobody has to work out what is taken."""
    policy = terms.policy
    nears_stockout = policy.stockout_target and policy.stockout_cost_per_unit.numerator
    ranks_cost = policy.pool_rank_cost.numerator and any(ranks.values())
    rates = [rate for code in ranks for rate in (network.pools[code].per_unit, network.pools[code].per_kg)]
    return not nears_stockout and not ranks_cost and not any(rate.numerator for rate in rates)


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
            if bill is None or all(swap.substitute != component.item for component in bill.components):
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


class Options:
    """One order's ways: the routes left open at the instant of its decision, and shelves of what nodes offer."""

    def __init__(self, atlas: Atlas, problem: Problem) -> None:
        """The problem's edition and policy are those of the atlas."""
        assert problem.edition.hash == atlas.edition.hash
        self.problem = problem
        self.order = problem.demand.order
        self.network = problem.edition.network
        self.catalog = problem.edition.catalog
        self.terms = problem.terms
        self.atlas = atlas
        self.access = atlas.access(self.order, self.terms)
        self.prices = Prices(self.network, self.terms)
        self.deadline = deadline(self.network, self.order, self.terms)
        self.taken = {(f.node, f.day.toordinal(), f.slot): f.taken for f in problem.facts.capacity}
        self.closed: list[tuple[Route, Elimination, str]] = []
        self.timetable = atlas.timetable(self.access, problem.facts.at, self.terms.service_level)
        self.routes = self._open_routes()
        self.by_node: dict[str, list[OpenRoute]] = {}
        for way in self.routes:
            self.by_node.setdefault(way.route.node.code, []).append(way)
        self._stock: dict[str, list[StockFact]] = {}
        for fact in problem.facts.stock:
            self._stock.setdefault(fact.place.item, []).append(fact)
        self._shelves: dict[str, dict[str, Shelf]] = {}
        self.lines = {line.no: line for line in self.order.lines}

    def _open_routes(self) -> tuple[OpenRoute, ...]:
        """The routes that leave in time and that no rule excludes."""
        level = self.terms.service_level
        judge = None
        if self.atlas.policy.candidate_rules or self.terms.failed:
            judge = self.atlas.policy.judge_for(OrderFacts(self.order, self.network, self.catalog))
        self.closed.extend((route, Elimination.CALENDAR, "") for route in self.timetable.idle)
        latest = self.deadline if level.late_is_hard else None
        if judge is None and latest is None:
            return self.timetable.ways
        found: list[OpenRoute] = []
        for way in self.timetable.ways:
            if latest is not None and way.first.arrives > latest:
                self.closed.append((way.route, Elimination.TOO_SLOW, ""))
                continue
            if judge is not None:
                verdict = judge(self.access.facts_of(way.route, level))
                if verdict.excluded_by is not None:
                    self.closed.append((way.route, Elimination.EXCLUDED, verdict.excluded_by))
                    continue
                found.append(replace(way, penalty=verdict.penalty) if verdict.penalty else way)
            else:
                found.append(way)
        return tuple(found)

    def alternatives(self, line: Line, quantity: Quantity) -> tuple[Alternative, ...]:
        """The ways to serve a quantity of a line that something is there for."""
        found = []
        for alternative in alternatives(self.catalog, line, self.terms):
            short_only = self.terms.substitution == SubstitutionMode.WHEN_SHORT
            if alternative.substitution is not None and short_only and self._own_suffices(line, quantity):
                break
            if all(self.shelves(code) for code, _ in alternative.needs):
                found.append(alternative)
        return tuple(found)

    def _own_suffices(self, line: Line, quantity: Quantity) -> bool:
        """Whether the item itself is on hand for the line, over all nodes that may send it."""
        item = self.catalog.items[line.item]
        nodes = self.by_node
        if item.requires or item.length_mm:
            nodes = {way.route.node.code: [way] for way in self.routes if carries(way.route, item)}
        return quantity <= sum(
            source.quantity
            for node, shelf in self.shelves(line.item).items()
            for source in shelf
            if not source.ready and node in nodes
        )

    def shelves(self, item: str) -> dict[str, Shelf]:
        """What each node with an open route offers of an item, in the order it is taken; empty shelves left out."""
        found = self._shelves.get(item)
        if found is None:
            found = self._shelves[item] = self._stock_up(item)
        return found

    def _stock_up(self, item: str) -> dict[str, Shelf]:
        decided_on = self.problem.facts.at.date()
        standings, nodes = self.access.standings, self.by_node
        sources: dict[str, list[Source]] = {}
        withheld: dict[str, Quantity] = {}
        for place, available in self._stock.get(item, ()):
            node = place.node
            if node not in nodes or (place.expires_on is not None and place.expires_on <= decided_on):
                continue
            known = place.position in standings
            standing = standings[place.position] if known else self.atlas.standing(self.access, self.order, place)
            if standing is not None:
                sources.setdefault(node, []).append(Source(place, available, available, standing.rank))
                withheld[node] = standing.withheld
        receipts = () if self.terms.on_hand_only else self.problem.facts.receipts
        for receipt, place, due_on, amount in receipts:
            expired = place.expires_on is not None and place.expires_on <= decided_on
            if place.item == item and place.node in nodes and not expired:
                standing = self.atlas.standing(self.access, self.order, place)
                if standing is not None:
                    source = Source(place, amount, amount, standing.rank, due_on.toordinal(), receipt)
                    sources.setdefault(place.node, []).append(source)
        shelves: dict[str, Shelf] = {}
        for node, found in sources.items():
            # Nearly every node has one position of an item; only where there are more does order matter.
            if len(found) == 1 and not found[0].ready:
                quantity = found[0].quantity - withheld[node]
                if quantity > 0:
                    shelves[node] = (found[0]._replace(quantity=quantity) if withheld[node] else found[0],)
            else:
                shelf = self._arranged(found)
                if shelf:
                    shelves[node] = shelf
        return shelves

    def _arranged(self, sources: list[Source]) -> Shelf:
        """The sources of a node, less what is withheld of each pool, in the order in which they are taken."""
        groups: dict[str, list[Source]] = {}
        for source in sources:
            groups.setdefault(source.place.pool, []).append(source)
        kept: list[Source] = []
        for group in groups.values():
            on_hand = sum(source.quantity for source in group if not source.ready)
            kept.extend(source._replace(available=on_hand) for source in self._less_withheld(group))
        return tuple(sorted(kept, key=self._taking_order))

    def _less_withheld(self, sources: list[Source]) -> list[Source]:
        """A group's sources less what is withheld, which is left of those taken last."""
        standing = self.atlas.standing(self.access, self.order, sources[0].place)
        withheld = 0 if standing is None else standing.withheld
        kept: list[Source] = []
        usable = max(0, sum(source.quantity for source in sources if not source.ready) - withheld)
        missing = max(0, withheld - sum(source.quantity for source in sources if not source.ready))
        for source in sorted(sources, key=_lot_order):
            quantity = source.quantity
            if source.ready:
                covered = min(quantity, missing)
                missing, quantity = missing - covered, quantity - covered
            else:
                quantity = min(quantity, usable)
                usable -= quantity
            if quantity:
                kept.append(source._replace(quantity=quantity))
        return kept

    def _taking_order(self, source: Source) -> tuple[object, ...]:
        """On hand before receipts by due date; then cost per unit, rank, pool, and the lot that expires first."""
        item = self.catalog.items[source.place.item]
        pool = self.network.pools[source.place.pool]
        unit = Sent(item, 10**item.scale, item.weight_ug)
        cost = self.prices.drawing(pool, source.rank, unit)
        cost += self.prices.stockout(item, unit.quantity, source.available)
        return (source.ready, cost, source.rank, source.place.pool, *_lot_order(source))

    def goods(self, line: Line, alternative: Alternative, line_quantity: Quantity) -> tuple[Sent, ...] | None:
        """What leaves for a quantity of a line; None when the alternative's ratio leaves a remainder."""
        units = alternative.units(line_quantity)
        if units is None:
            return None
        items = self.catalog.items
        if alternative.parts:
            return tuple(Sent(items[code], count, items[code].weight_of(count)) for code, count in units)
        code, count = units[0]
        return (Sent(items[code], count, weight_of(line, items[code], line_quantity, count)),)

    def leaving(self, node: Node, sent: tuple[Sent, ...]) -> Cost:
        """Handling of one line's goods at a node; that of a single item is remembered for all orders of this kind."""
        if len(sent) != 1:
            return self.prices.leaving(node, sent)
        key = (sent[0].item.code, sent[0].quantity, sent[0].weight_ug)
        by_node = self.access.handling.get(key)
        if by_node is None:
            if len(self.access.handling) >= MOST_CACHED:
                self.access.handling.clear()
            by_node = self.access.handling[key] = {}
        amount = by_node.get(node.code)
        if amount is None:
            amount = by_node[node.code] = self.prices.leaving(node, sent)
        return amount

    def first_cost(self, way: OpenRoute) -> Cost:
        """What a shipment by a route costs whatever is in it, when it leaves on the first day."""
        key = (way.index, self.deadline)
        amount = self.timetable.first_costs.get(key)
        if amount is None:
            parts = self.prices.opening(way.route)
            parts += self.prices.days(way.first, way.first, way.today, self.deadline)
            amount = self.timetable.first_costs[key] = sum(part for _, part in parts)
        return amount + self.prices.node(way.penalty)[1] if way.penalty else amount

    def has_room(self, way: OpenRoute) -> bool:
        """Whether a shipment that counts as one order finds room on the first day, in a slot that lasts all day."""
        slots = way.route.node.slots
        if len(slots) != 1 or slots[0].until != time.max or slots[0].only_on is not None or len(slots[0].weekdays) < 7:
            return False
        return self.taken.get((way.route.node.code, way.first.ships, 0), 0) < slots[0].limit

    def unserved(self, line: Line, waiting: Quantity) -> Unserved:
        """Part of a line that waits: the reason, and the day supply is thought to come."""
        facts = self.problem.facts
        wanted = {line.item}
        bill = self.catalog.bills.get(line.item)
        if bill is not None:
            wanted.update(component.item for component in bill.components)
        due = [fact.due_on for fact in facts.receipts if fact.place.item in wanted]
        lead = self.catalog.items[line.item].lead_time_days
        expected = min(due) if due else None if lead is None else facts.at.date() + timedelta(days=lead)
        return Unserved(line.no, waiting, self._why_waiting(line, wanted), expected)

    def _why_waiting(self, line: Line, wanted: set[str]) -> Elimination:
        item = self.catalog.items[line.item]
        if not self.routes:
            reasons = [reason for _, reason in self.access.closed] + [reason for _, reason, _ in self.closed]
            return min(reasons, key=list(Elimination).index, default=Elimination.LANE_MISSING)
        if not any(carries(way.route, item) for way in self.routes):
            return Elimination.CAPABILITY
        if any(self.shelves(code) for code in wanted):
            return self._why_not_taken(line)
        held = any(
            fact.place.item in wanted and fact.available and fact.place.pool in self.access.pools
            for fact in self.problem.facts.stock
        )
        return Elimination.BUFFER if held else Elimination.INVENTORY

    def _why_not_taken(self, line: Line) -> Elimination:
        """There is something on a shelf: capacity, a split rule, or simply too little of it."""
        offered = sum(source.quantity for shelf in self.shelves(line.item).values() for source in shelf)
        full = all(
            book(way.route.node, day.ships, way.departures.local, Need(1, 1, 1), self.taken, hard=True) is None
            for way in self.routes
            for day in way.departures
        )
        if full and self.terms.policy.capacity_is_hard:
            return Elimination.CAPACITY
        return Elimination.SPLIT_RULE if offered >= line.quantity else Elimination.INVENTORY


def _lot_order(source: Source) -> tuple[object, ...]:
    place = source.place
    never = place.expires_on is None
    expires = 0 if place.expires_on is None else place.expires_on.toordinal()
    return (source.ready, never, expires, place.lot, place.position, str(source.receipt or ""))


def ready_on(shelf: Shelf, quantity: Quantity) -> int | None:
    """First day (0 = at once) on which a shelf holds `quantity`; None when it never does."""
    for source in shelf:
        quantity -= source.quantity
        if quantity <= 0:
            return source.ready
    return None


def draw(shelf: Shelf, quantity: Quantity) -> list[tuple[Source, Quantity]]:
    """Which units of a shelf are taken for `quantity`, in order; the shelf holds that much."""
    taken: list[tuple[Source, Quantity]] = []
    for source in shelf:
        part = min(quantity, source.quantity)
        taken.append((source, part))
        quantity -= part
        if quantity == 0:
            return taken
    raise AssertionError("more drawn from a shelf than it holds")
