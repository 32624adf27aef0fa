"""One order whose lines must be divided, compete for the same stock, or are many: an exact small MIP.

Variables: which shipments (route and day) are opened, how much of each line leaves in each by which alternative, how
much waits. The freight of a shipment is the band of its weight, so every band of every opened shipment is a binary.
Rows: stock by day, capacity of slots, the order's hard rules. Limits are counts of branch-and-bound nodes; the gap
that is left is stored with the plan. Costs of the chosen plan are computed by `build`, in exact integers. Where the
model takes two shipments for apart that leave as one, or a route for open that is not, the next best is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, gcd
from typing import Final

from poolwise.core.network import CapacityUnit
from poolwise.core.orders import Line
from poolwise.core.policy.terms import CostKind, LineSplit
from poolwise.core.sourcing.atlas import Alternative, OpenRoute, carries
from poolwise.core.sourcing.build import Block, Piece, build, tried
from poolwise.core.sourcing.costs import Sent
from poolwise.core.sourcing.options import Options, Shelf
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.routes import Departure, windows
from poolwise.core.sourcing.solver import INFINITE, Model, Solution
from poolwise.core.values import MICROGRAMS_PER_KG, MILLION, Quantity, replace, shares

MOST_NODES: Final = 5_000
LARGEST_WEIGHT: Final = 100_000
"""In the model's units of weight; more would cost the solver its precision."""

LEAST_STEP: Final = 1e-4
"""In these units: what a weight above a limit is above it at least, where weights are not whole."""

MOST_TRIES: Final = 20
"""Solutions that turn out not to be what the model took them for, before everything waits."""

MOST_DAYS: Final = 8
"""Most ship days of one route that are considered: the first, and the first after each receipt."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A shipment that could be opened: a route on a day, and its binary variable."""

    way: OpenRoute
    departure: Departure
    variable: int


@dataclass(frozen=True, slots=True)
class Flow:
    """`count` x `per` base units of a line by an alternative in an opening; `items` base units leave per count."""

    line: int
    alternative: Alternative
    opening: Opening
    variable: int
    per: Quantity
    items: tuple[tuple[str, Quantity], ...]
    weight_ug: float


def divide(options: Options) -> Plan:
    """The cheapest plan of an order, lines divided where the terms allow it."""
    model = _OrderModel(options)
    if not model.flows and not model.kits:
        return build(options, [])
    least = 0.0
    for trial in range(MOST_TRIES):
        solution = model.model.minimise(MOST_NODES)
        assert solution is not None, "letting everything wait is always lawful"
        least = least or model.model.cost(solution)
        plan = tried(options, model.blocks(solution))
        if plan is not None and _leave_apart(plan):
            above = max(0.0, plan.objective - least) / max(1, plan.objective) if trial else 0.0
            return replace(plan, gap_ppm=max(solution.gap_ppm, ceil(above * MILLION)))
        model.forbid(solution)
    return build(options, [])


def _leave_apart(plan: Plan) -> bool:
    """Whether no two shipments are one: of goods that are there, what was to leave later leaves with the others."""
    keys = [(shipment.ship_on, shipment.node, shipment.lanes) for shipment in plan.shipments]
    return len({*keys}) == len(keys)


class _OrderModel:
    """The MIP of one order. Methods add one kind of variable or row each, in the order of the constructor."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.model = Model()
        self.demand = [(options.lines[no], quantity) for no, quantity in options.problem.demand.open]
        self.alternatives = [options.alternatives(line, quantity) for line, quantity in self.demand]
        self.whole = [self._goes_whole(place) for place in range(len(self.demand))]
        self.weight_unit = self._weight_unit()
        self.openings = list(self._open())
        self.flows: list[Flow] = []
        self.kits: list[tuple[int, Alternative, int, list[Flow]]] = []
        self.present: dict[tuple[int, int], int] = {}
        for opening in self.openings:
            self._flows(opening)
        for place in range(len(self.demand)):
            self._kits_across_nodes(place)
        self.waits = [self._wait(place) for place in range(len(self.demand))]
        self._stock()
        for opening in self.openings:
            self._contents(opening)
            self._freight(opening)
        self._capacity()
        if not options.terms.policy.capacity_is_hard:
            self._no_idle_waiting()
        self._order_rules()

    def _goes_whole(self, place: int) -> bool:
        """Whether a line may not be divided: by policy, or because one node has it all on hand and can send it."""
        line, quantity = self.demand[place]
        split = self.options.terms.line_split
        return split == LineSplit.NEVER or (
            split == LineSplit.WHEN_SHORT
            and any(
                alternative.substitution is None and self._one_node_has(line, alternative, quantity)
                for alternative in self.alternatives[place]
            )
        )

    def _one_node_has(self, line: Line, alternative: Alternative, quantity: Quantity) -> bool:
        units = alternative.units(quantity)
        goods = self.options.goods(line, alternative, quantity)
        if units is None or goods is None:
            return False
        weight_ug = sum(each.weight_ug for each in goods)
        return any(
            self.options.prices.freight(way.route, weight_ug) is not None
            and all(
                carries(way.route, self.options.catalog.items[code])
                and count <= sum(s.quantity for s in self._shelf(way, code) if not s.ready)
                for code, count in units
            )
            for way in self.options.routes
        )

    def _shelf(self, way: OpenRoute, code: str) -> Shelf:
        return self.options.shelves(code).get(way.route.node.code, ())

    def _weight_unit(self) -> int:
        """The model's unit of weight: the greatest common divisor of all weights, unless that makes large numbers."""
        unit, heaviest = 0, 0
        for place, (line, quantity) in enumerate(self.demand):
            for alternative in self.alternatives[place]:
                weights = [self._weight(line, alternative, alternative.per, *need) for need in alternative.needs]
                unit = gcd(unit, *(round(weight) for weight in weights))
                heaviest += round(sum(weights)) * (quantity // alternative.per)
        return max(unit, heaviest // LARGEST_WEIGHT, 1)

    def _open(self) -> Iterator[Opening]:
        """Openings: each route on its first day and on the first day after each receipt that could use it."""
        items = sorted({code for found in self.alternatives for a in found for code, _ in a.needs})
        hard_deadline = self.options.deadline if self.options.terms.service_level.late_is_hard else None
        for way in self.options.routes:
            shelf = [source for code in items for source in self._shelf(way, code)]
            if not shelf:
                continue
            counted = self._may_fill(way)
            wanted = sorted({source.ready for source in shelf})
            days: list[Departure] = []
            for departure in way.departures:
                if hard_deadline is not None and departure.arrives > hard_deadline:
                    break
                due = any(day <= departure.ships for day in wanted)
                if (due or counted) and departure.ships >= wanted[0] and self._has_room(way, departure):
                    days.append(departure)
                    wanted = [day for day in wanted if day > departure.ships] if not counted else wanted
                if len(days) == MOST_DAYS or not wanted:
                    break
            yield from (Opening(way, day, self._opening_variable(way, day)) for day in days)

    def _may_fill(self, way: OpenRoute) -> bool:
        """Whether what this order sends could fill the slots of the first day, so that later days matter too."""
        node = way.route.node
        orders = CapacityUnit.ORDERS
        return self.options.terms.policy.capacity_is_hard and any(
            slot.unit != orders or self._free(node.code, way.first.ships, number) < len(self.demand)
            for number, slot in enumerate(node.slots)
        )

    def _has_room(self, way: OpenRoute, departure: Departure) -> bool:
        node = way.route.node
        if not node.slots:
            return True
        found = windows(node, departure.ships, way.departures.local)
        if not self.options.terms.policy.capacity_is_hard:
            return bool(found)
        return any(all(self._free(node.code, departure.ships, slot) > 0 for slot in window) for window in found)

    def _free(self, node: str, day: int, slot: int) -> int:
        return self.options.network.nodes[node].slots[slot].limit - self.options.taken.get((node, day, slot), 0)

    def _opening_variable(self, way: OpenRoute, departure: Departure) -> int:
        prices = self.options.prices
        cost = sum(amount for _, amount in prices.opening(way.route)) + prices.node(way.penalty)[1]
        days = prices.days(departure, way.first, way.today, self.options.deadline)
        return self.model.variable(cost + sum(amount for _, amount in days))

    def _flows(self, opening: Opening) -> None:
        """One variable for each line and alternative that this shipment could carry."""
        catalog = self.options.catalog
        for place, (_, quantity) in enumerate(self.demand):
            for alternative in self.alternatives[place]:
                items = [catalog.items[code] for code, _ in alternative.needs]
                if alternative.across_nodes or not all(carries(opening.way.route, item) for item in items):
                    continue
                if not all(self._shelf(opening.way, item.code) for item in items):
                    continue
                if self.whole[place]:
                    units = alternative.units(quantity)
                    if units is not None:
                        self._flow(place, alternative, opening, quantity, units, 1)
                else:
                    most = quantity // alternative.per
                    self._flow(place, alternative, opening, alternative.per, alternative.needs, most)

    def _flow(
        self, place: int, alternative: Alternative, opening: Opening, per: Quantity,
        items: tuple[tuple[str, Quantity], ...], most: int,
    ) -> None:  # fmt: skip
        if most == 0:
            return
        line = self.demand[place][0]
        prices, catalog = self.options.prices, self.options.catalog
        weights = [self._weight(line, alternative, per, code, count) for code, count in items]
        # Costs per count are taken from many counts at once, so that their rounding does not add up.
        many = 1_000_000
        sent = tuple(
            Sent(catalog.items[code], count * many, round(weight * many))
            for (code, count), weight in zip(items, weights, strict=True)
        )
        route = opening.way.route
        per_lines = prices.leaving(route.node, ()) + prices.passing(route, ())
        cost = (prices.leaving(route.node, sent) + prices.passing(route, sent) - per_lines) / many
        if alternative.substitution is not None:
            ordered = catalog.items[line.item]
            cost += prices.substitution(ordered, alternative.substitution.penalty, per * many) / many
        variable = self.model.variable(cost, most)
        self.flows.append(Flow(place, alternative, opening, variable, per, items, sum(weights)))

    def _weight(self, line: Line, alternative: Alternative, per: Quantity, code: str, count: Quantity) -> float:
        if line.weight_ug is None or alternative.parts:
            item = self.options.catalog.items[code]
            return float(item.weight_ug * count / 10**item.scale)
        return line.weight_ug * per / line.quantity

    def _kits_across_nodes(self, place: int) -> None:
        """A kit whose parts may come from several nodes: one count of kits, and one flow a part and shipment.

        Of a line that goes whole all of a part leaves in one shipment.
        """
        for alternative in self.alternatives[place]:
            if not alternative.across_nodes:
                continue
            most = 1 if self.whole[place] else self.demand[place][1] // alternative.per
            sets = self.demand[place][1] // alternative.per if self.whole[place] else 1
            if most == 0:
                continue
            kits = self.model.variable(0, most)
            parts: list[Flow] = []
            for code, count in alternative.needs:
                step = count * sets if self.whole[place] else 1
                before = len(self.flows)
                for opening in self.openings:
                    if self._shelf(opening.way, code) and carries(opening.way.route, self.options.catalog.items[code]):
                        self._flow(place, alternative, opening, 0, ((code, step),), most * sets * count // step)
                made = self.flows[before:]
                parts.extend(made)
                self.model.row([(kits, -count * sets // step), *((flow.variable, 1) for flow in made)], 0, 0)
            self.kits.append((place, alternative, kits, parts))

    def _wait(self, place: int) -> int:
        """How much of a line waits, and whether any does."""
        line, quantity = self.demand[place]
        item = self.options.catalog.items[line.item]
        prices = self.options.prices
        some = prices.waiting(item, 0)
        per_unit = (prices.waiting(item, quantity) - some) / quantity
        amount = self.model.variable(per_unit, quantity)
        waits = self.model.variable(some)
        self.model.row([(amount, 1), (waits, -quantity)], upper=0)
        served = [(flow.variable, float(flow.per)) for flow in self.flows if flow.line == place and flow.per]
        for kit_place, alternative, kits, _ in self.kits:
            if kit_place == place:
                served.append((kits, float(quantity if self.whole[place] else alternative.per)))
        self.model.row([(amount, 1), *served], quantity, quantity)
        if self.whole[place] or line.together:
            self.model.row([(amount, 1), (waits, -quantity)], lower=0)
        return amount

    def _stock(self) -> None:
        """Rows of stock by node and item, by day where receipts come in; draws where units differ in cost."""
        used: dict[tuple[str, str], list[tuple[Flow, Quantity]]] = {}
        for flow in self.flows:
            for code, count in flow.items:
                used.setdefault((flow.opening.way.route.node.code, code), []).append((flow, count))
        for (node, code), flows in sorted(used.items(), key=lambda entry: entry[0]):
            shelf = self.options.shelves(code)[node]
            for day in sorted({source.ready for source in shelf} - {0} | {INFINITE}):
                held = sum(source.quantity for source in shelf if source.ready < day)
                terms = [(flow.variable, count) for flow, count in flows if flow.opening.departure.ships < day]
                if terms:
                    self.model.row(terms, upper=held)
            if self.options.access.drawing_is_free_from != 0:
                self._draws(shelf, code, flows)

    def _draws(self, shelf: Shelf, code: str, flows: list[tuple[Flow, Quantity]]) -> None:
        """Units are taken from a shelf in its order; a dearer source before a cheaper one needs a binary."""
        item = self.options.catalog.items[code]
        many = 10**item.scale * 1_000
        draws: list[tuple[int, Quantity, float]] = []
        for source in shelf:
            piece = Sent(item, many, item.weight_of(many))
            pool = self.options.network.pools[source.place.pool]
            cost = self.options.prices.drawing(pool, source.rank, piece)
            if not source.receipt:
                cost += self.options.prices.stockout(item, many, source.available)
            draw = self.model.variable(cost / many, source.quantity, integer=False)
            if any(cost / many < dearer for _, _, dearer in draws):
                begun = self.model.variable()
                self.model.row([(draw, 1), (begun, -source.quantity)], upper=0)
                for earlier, quantity, _ in draws:
                    self.model.row([(earlier, 1), (begun, -quantity)], lower=0)
            draws.append((draw, source.quantity, cost / many))
        taken = [(flow.variable, float(-count)) for flow, count in flows]
        self.model.row([*((draw, 1.0) for draw, _, _ in draws), *taken], 0, 0)

    def _contents(self, opening: Opening) -> None:
        """Nothing leaves in a shipment that is not opened; each line in it is handled once."""
        route = opening.way.route
        prices = self.options.prices
        handling = prices.leaving(route.node, ()) + prices.passing(route, ())
        present: list[tuple[int, float]] = []
        for place, (line, _) in enumerate(self.demand):
            inside = [flow for flow in self.flows if flow.opening is opening and flow.line == place]
            if not inside:
                continue
            there = self.model.variable(handling + self.options.missing_at(line, route.node.code))
            present.append((there, 1.0))
            for flow in inside:
                self.model.row([(flow.variable, 1), (there, -self.model.upper[flow.variable])], upper=0)
            self.model.row([(there, 1), *((flow.variable, -1) for flow in inside)], upper=0)
            self.model.row([(there, 1), (opening.variable, -1)], upper=0)
            self.present[(opening.variable, place)] = there
        self.model.row([(opening.variable, 1), *((there, -1) for there, _ in present)], upper=0)

    def _freight(self, opening: Opening) -> None:
        """Freight of each lane of a shipment: exactly one band, the one its weight falls in; and its carbon."""
        unit = self.weight_unit
        prices = self.options.prices
        route = opening.way.route
        contents = [(f.variable, f.weight_ug / unit) for f in self.flows if f.opening is opening]
        heaviest = sum(self.model.upper[v] * w for v, w in contents)
        # A limit between two whole weights is moved to the one that keeps it: the solver's tolerance takes no more.
        is_whole = all(weight.is_integer() for _, weight in contents)
        fixed, per = prices.carbon(route, 0)[1][1], prices.carbon(route, MICROGRAMS_PER_KG)[1][1]
        self.model.costs[opening.variable] += fixed
        for variable, weight in contents:
            self.model.costs[variable] += (per - fixed) * weight * unit / MICROGRAMS_PER_KG
        for place, lane in enumerate(route.lanes):
            kind = CostKind.FREIGHT if place == len(route.lanes) - 1 else CostKind.TRANSFER
            limit = lane.max_weight_ug or heaviest * unit
            chosen: list[tuple[int, float]] = []
            weights: list[tuple[int, float]] = []
            card = self.options.network.rates.get(lane.rates)
            for band in () if card is None else card.bands:
                least, most = band.above_ug / unit, min(band.up_to_ug, limit) / unit
                if band.above_ug:
                    least = floor(least) + 1 if is_whole else least + LEAST_STEP
                most = floor(most) if is_whole else most
                if least > heaviest or most < least:
                    continue
                most = min(most, heaviest)
                pick = self.model.variable()
                weight = self.model.variable(0, most, integer=False)
                cost = self.model.variable(MILLION, INFINITE, integer=False)
                lowest, start = band.minimum.times(1), band.fixed.times(1)
                slope = band.per_kg.times(MILLION * unit, MICROGRAMS_PER_KG) / MILLION
                share = self.options.terms.weight_ppm(kind) / MILLION
                self.model.row([(weight, 1), (pick, -most)], upper=0)
                self.model.row([(weight, 1), (pick, -least)], lower=0)
                self.model.row([(cost, 1), (pick, -lowest * share / MILLION)], lower=0)
                self.model.row(
                    [(cost, 1), (pick, -start * share / MILLION), (weight, -slope * share / MILLION)], lower=0
                )
                chosen.append((pick, 1.0))
                weights.append((weight, 1.0))
            self.model.row([*chosen, (opening.variable, -1)], 0, 0)
            self.model.row([*weights, *((variable, -weight) for variable, weight in contents)], 0, 0)

    def _capacity(self) -> None:
        """Slots of a node and day are shared by all shipments of the order that leave from it then."""
        by_day: dict[tuple[str, int], list[Opening]] = {}
        for opening in self.openings:
            by_day.setdefault((opening.way.route.node.code, opening.departure.ships), []).append(opening)
        for (code, day), openings in by_day.items():
            node = self.options.network.nodes[code]
            if not node.slots:
                continue
            found = windows(node, day, openings[0].way.departures.local)
            if len(found) > 1:
                self._windows(code, day, openings, found)
                continue
            for slot in found[0]:
                needs = [term for o in openings for term in self._need(o, node.slots[slot].unit)]
                self._within(code, day, slot, needs, overfilled=not self.options.terms.policy.capacity_is_hard)

    def _within(self, code: str, day: int, slot: int, needs: list[tuple[int, float]], overfilled: bool) -> None:
        """What a slot takes is within what is free of it, or, where it may be overfilled, above that at a price."""
        terms = list(needs)
        if overfilled:
            unit = self.options.network.nodes[code].slots[slot].unit
            per_unit = self.options.prices.over_capacity(unit, 1000)[1] / 1000
            terms.append((self.model.variable(per_unit, INFINITE, integer=False), -1.0))
        self.model.row(terms, upper=max(0, self._free(code, day, slot)))

    def _no_idle_waiting(self) -> None:
        """Where slots may be overfilled, a shipment waits for a later day only for a receipt, not for a free slot."""
        for opening in self.openings:
            node = opening.way.route.node
            earlier = [
                other.departure.ships
                for other in self.openings
                if other.way is opening.way and other.departure.ships < opening.departure.ships
            ]
            if not node.slots or not earlier:
                continue
            reasons: list[tuple[int, float]] = []
            for code in sorted({code for flow in self.flows if flow.opening is opening for code, _ in flow.items}):
                held = sum(s.quantity for s in self._shelf(opening.way, code) if s.ready <= max(earlier))
                so_far = self._uses(node.code, code, opening.departure.ships)
                mine = [flow for flow in self.flows if flow.opening is opening and code in dict(flow.items)]
                own = [(flow.variable, 1.0) for flow in mine]
                needed = self.model.variable()
                self.model.row([*so_far, (needed, -held - 1)], lower=0)
                self.model.row([*own, (needed, -1)], lower=0)
                reasons.append((needed, 1.0))
            self.model.row([*reasons, (opening.variable, -1)], lower=0)

    def _uses(self, node: str, code: str, until: int) -> list[tuple[int, float]]:
        """What leaves of an item from a node up to a day, as terms of a row."""
        return [
            (flow.variable, float(count))
            for flow in self.flows
            if flow.opening.way.route.node.code == node and flow.opening.departure.ships <= until
            for item, count in flow.items
            if item == code
        ]

    def _windows(self, code: str, day: int, openings: list[Opening], found: list[tuple[int, ...]]) -> None:
        """Each shipment is worked in one window; windows are the alternatives of a day."""
        node = self.options.network.nodes[code]
        inside: dict[int, list[int]] = {}
        for opening in openings:
            picks = [self.model.variable() for _ in found]
            self.model.row([*((pick, 1.0) for pick in picks), (opening.variable, -1)], 0, 0)
            for pick, window in zip(picks, found, strict=True):
                for slot in window:
                    need = self._need(opening, node.slots[slot].unit)
                    most = sum(coefficient * self.model.upper[variable] for variable, coefficient in need)
                    taken = self.model.variable(0, most, integer=False)
                    # taken >= need where the window is picked, and at least 0 elsewhere.
                    self.model.row([(taken, 1), (pick, -most), *((v, -c) for v, c in need)], lower=-most)
                    inside.setdefault(slot, []).append(taken)
        soft = not self.options.terms.policy.capacity_is_hard
        for slot, variables in inside.items():
            # Only the first window of a day is ever overfilled.
            needs = [(variable, 1.0) for variable in variables]
            self._within(code, day, slot, needs, overfilled=soft and slot in found[0])

    def _need(self, opening: Opening, unit: CapacityUnit) -> list[tuple[int, float]]:
        """What a shipment takes of a slot, as terms of a row."""
        flows = [flow for flow in self.flows if flow.opening is opening]
        match unit:
            case CapacityUnit.ORDERS:
                return [(opening.variable, 1.0)]
            case CapacityUnit.LINES:
                places = {flow.line for flow in flows}
                return [(self.present[opening.variable, place], 1.0) for place in sorted(places)]
            case CapacityUnit.WEIGHT:
                return [(flow.variable, flow.weight_ug / MILLION) for flow in flows]
            case CapacityUnit.UNITS:
                return self._units(flows)

    def _units(self, flows: Sequence[Flow]) -> list[tuple[int, float]]:
        """Whole units of all that leaves in a shipment, rounded up once."""
        items = self.options.catalog.items
        counts = [(flow.variable, count, 10 ** items[code].scale) for flow in flows for code, count in flow.items]
        if all(count % one == 0 for _, count, one in counts):
            return [(variable, float(count // one)) for variable, count, one in counts]
        finest = max(one for _, _, one in counts)
        terms = [(variable, count * finest // one) for variable, count, one in counts]
        most = sum(int(self.model.upper[variable]) * count for variable, count in terms)
        whole = self.model.variable(0, -(-most // finest))
        self.model.row([(whole, float(finest)), *((variable, -float(count)) for variable, count in terms)], lower=0)
        return [(whole, 1.0)]

    def _order_rules(self) -> None:
        terms = self.options.terms
        opened = [(opening.variable, 1.0) for opening in self.openings]
        if terms.max_shipments is not None:
            self.model.row(opened, upper=terms.max_shipments)
        split = self.options.prices.split(self.options.terms)
        if split:
            splits = self.model.variable(split, INFINITE, integer=False)
            self.model.row([(splits, 1), *((variable, -1) for variable, _ in opened)], lower=-1)
        if terms.ship_complete:
            nothing = self.model.variable()
            for amount, (_, quantity) in zip(self.waits, self.demand, strict=True):
                self.model.row([(amount, 1), (nothing, -quantity)], 0, 0)
        if terms.min_shipment_value.numerator:
            self._least_value(terms.min_shipment_value.times(1) / MILLION)
        for label in sorted({line.together for line, _ in self.demand if line.together}):
            self._together([place for place, (line, _) in enumerate(self.demand) if line.together == label])

    def _together(self, places: list[int]) -> None:
        """Lines of a group leave in one shipment, of whatever serves each of them, or wait together."""
        first = places[0]
        anywhere = [self.present.get((opening.variable, first)) for opening in self.openings]
        self.model.row([(there, 1.0) for there in anywhere if there is not None], upper=1)
        for place in places[1:]:
            for opening in self.openings:
                mine = self.present.get((opening.variable, place))
                theirs = self.present.get((opening.variable, first))
                pair = [(v, sign) for v, sign in ((mine, 1.0), (theirs, -1.0)) if v is not None]
                if pair:
                    self.model.row(pair, 0, 0)
            shares = 1 / self.demand[place][1], -1 / self.demand[first][1]
            self.model.row([(self.waits[place], shares[0]), (self.waits[first], shares[1])], 0, 0)

    def _least_value(self, least: float) -> None:
        """With more than one part, each shipment and what waits is worth at least `least` currency units."""
        options = self.options
        on = options.problem.facts.at.date()
        worth = [
            options.prices.value(line, options.catalog.items[line.item], quantity, on) / quantity / MILLION
            for line, quantity in self.demand
        ]
        waiting = self.model.variable()
        for amount, (_, quantity) in zip(self.waits, self.demand, strict=True):
            self.model.row([(amount, 1), (waiting, -quantity)], upper=0)
        parted = self.model.variable()
        parts = [(waiting, 1.0), *((opening.variable, 1.0) for opening in self.openings)]
        self.model.row([*parts, (parted, -len(parts))], upper=1)
        contents = [(waiting, [(amount, worth[place]) for place, amount in enumerate(self.waits)])]
        for opening in self.openings:
            flows = [(f.variable, worth[f.line] * self._served(f)) for f in self.flows if f.opening is opening]
            contents.append((opening.variable, flows))
        for part, values in contents:
            # worth >= least x (part + parted - 1)
            self.model.row([*values, (part, -least), (parted, -least)], lower=-least)

    def _served(self, flow: Flow) -> float:
        """Units of its line that a count of a flow serves; of a kit across nodes the first part does."""
        code, count = flow.alternative.needs[0]
        if flow.per or flow.items[0][0] != code:
            return flow.per
        return flow.items[0][1] * flow.alternative.per / count

    def forbid(self, solution: Solution) -> None:
        """These shipments cannot be opened together after all."""
        opened = [opening.variable for opening in self.openings if solution.count(opening.variable)]
        self.model.row([(variable, 1.0) for variable in opened], upper=len(opened) - 1)

    def blocks(self, solution: Solution) -> list[Block]:
        """The shipments of a solution with what leaves in each."""
        kit_shares = self._kit_shares(solution)
        found: list[Block] = []
        for opening in self.openings:
            pieces = []
            for flow in self.flows:
                count = solution.count(flow.variable)
                if flow.opening is opening and count:
                    line = self.demand[flow.line][0]
                    quantity = kit_shares.get(flow.variable, 0) if flow.per == 0 else flow.per * count
                    pieces.append(self._piece(line, flow, quantity, count))
            if pieces:
                found.append(Block(opening.way, tuple(pieces), opening.departure.ships))
        return found

    def _piece(self, line: Line, flow: Flow, quantity: Quantity, count: int) -> Piece:
        if flow.per:
            sent = self.options.goods(line, flow.alternative, quantity)
            assert sent is not None
        else:
            code, step = flow.items[0]
            item = self.options.catalog.items[code]
            sent = (Sent(item, count * step, round(flow.weight_ug * count)),)
        return Piece(line, flow.alternative, quantity, sent)

    def _kit_shares(self, solution: Solution) -> dict[int, Quantity]:
        """For kits across nodes: how many kits each shipment of the first part stands for."""
        found: dict[int, Quantity] = {}
        for place, alternative, kits, parts in self.kits:
            made = solution.count(kits) * (self.demand[place][1] if self.whole[place] else alternative.per)
            first = [flow for flow in parts if flow.items[0][0] == alternative.needs[0][0]]
            counts = [solution.count(flow.variable) for flow in first]
            if made and any(counts):
                found.update(zip((f.variable for f in first), shares(made, counts), strict=True))
        return found
