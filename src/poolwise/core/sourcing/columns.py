"""What each order of a wave could send together from one node, and what that costs on each day it could leave.

A `Column` is a set of an order's lines that leave from one node. Its days are those on which some route leaves; what a
day costs above the first is its *profile*, and columns with equal profiles are alike to a node's slots. Later days are
there only where the slots of a node could fill. An arrival that was answered already is a hard limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np

from poolwise.core.orders import Line
from poolwise.core.policy.terms import LineSplit, Terms
from poolwise.core.sourcing.atlas import OpenRoute
from poolwise.core.sourcing.build import Piece, drawing, substitution
from poolwise.core.sourcing.costs import Sent, need_of
from poolwise.core.sourcing.options import Options, draw, ready_on
from poolwise.core.sourcing.partition import NEVER, Ints
from poolwise.core.sourcing.problem import Demand
from poolwise.core.sourcing.record import Held
from poolwise.core.sourcing.routes import Departure, Need
from poolwise.core.values import Cost, Quantity

MOST_COLUMNS: Final = 250_000
MOST_COLUMNS_OF_AN_ORDER: Final = 400
MOST_LINES_TOGETHER: Final = 3
"""Larger blocks than this are columns only as the whole order; so is any but a single line of an order of many."""

MANY_LINES: Final = 8
MOST_LINES: Final = 50
"""Orders with more lines have no columns: the order engine decides them."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One order of a wave: what is to be sourced of it, its terms, and what is reserved for it already, if anything."""

    demand: Demand
    terms: Terms
    held: Held | None = None

    @property
    def latest(self) -> int | None:
        """The day, as ordinal, after which nothing of it may arrive: what was answered is kept."""
        return None if self.held is None else self.held.latest


class Way(NamedTuple):
    """A route for a column: what it costs without its days, and the number of its calendar."""

    way: OpenRoute
    cost: Cost
    calendar: int


class Column(NamedTuple):
    """Lines (by place) of an order that leave together from a node: the cost on the first day, and what it takes."""

    order: int
    lines: tuple[int, ...]
    node: str
    cost: Cost
    profile: int
    ways: tuple[Way, ...]
    pieces: tuple[Piece, ...]
    need: Need
    ready: int


Profile = tuple[tuple[int, Cost], ...]
"""The days a column could leave on, in order, and what each costs above the first."""

Days = tuple[tuple[Departure, Cost], ...]
"""The days a route leaves on, in order, each with what its time costs."""


@dataclass(slots=True)
class Columns:
    """All columns of a wave, with their profiles and calendars by number."""

    found: list[Column] = field(default_factory=list)
    profiles: list[Profile] = field(default_factory=list)
    calendars: list[Days] = field(default_factory=list)

    def days(self, column: Column) -> Profile:
        """The days of a column."""
        return self.profiles[column.profile]

    def leaving(self, column: Column, day: int) -> tuple[OpenRoute, Departure]:
        """The cheapest route of a column on one of its days; of equal ones the first."""
        choices = [
            (way.cost + time, place, way.way, departure)
            for place, way in enumerate(column.ways)
            for departure, time in self.calendars[way.calendar]
            if departure.ships == day
        ]
        _, _, route, departure = min(choices, key=lambda choice: choice[:2])
        return route, departure


def columns_of(wishes: Sequence[Wish], options: Mapping[int, Options], most: int = MOST_COLUMNS) -> Columns:
    """The columns of the orders with options, which are by place; with their days they are at most `most`."""
    proposals = [
        proposal
        for order, option in sorted(options.items())
        for proposal in _proposals(order, option, wishes[order].demand)
    ]
    days = _days_needed(options, proposals)
    maker = _Maker(wishes, options, proposals, days)
    by_order: dict[int, list[Column]] = {}
    for proposal in proposals:
        column = maker.column(proposal)
        if column is not None:
            by_order.setdefault(proposal.order, []).append(column)
    ranked = [_ranked(own)[:MOST_COLUMNS_OF_AN_ORDER] for _, own in sorted(by_order.items())]
    made = maker.made
    made.found = _at_most(most, ranked, made)
    return made


def _ranked(columns: Sequence[Column]) -> list[Column]:
    """The cheapest column of each block first, then the second cheapest of each, and so on."""
    seen: dict[tuple[int, ...], int] = {}
    ranked = []
    for column in sorted(columns, key=lambda column: (column.cost, column.node)):
        place = seen.get(column.lines, 0)
        seen[column.lines] = place + 1
        ranked.append((place, column))
    return [column for _, column in sorted(ranked, key=lambda entry: entry[0])]


def _at_most(most: int, by_order: Sequence[Sequence[Column]], made: Columns) -> list[Column]:
    """As many columns of each order, the same number, as there is room for; at the least one block's worth.

    Where there is no room for that either, the last orders have none, and the order engine decides them.
    """
    longest = max((len(own) for own in by_order), default=0)
    keep = longest
    while keep > 1 and sum(_size(column, made) for own in by_order for column in own[:keep]) > most:
        keep //= 2
    found: list[Column] = []
    room = most
    for own in by_order:
        room -= sum(_size(column, made) for column in own[:keep])
        if room < 0:
            break
        found.extend(own[:keep])
    return found


def _size(column: Column, made: Columns) -> int:
    days = len(made.days(column))
    return 1 if days == 1 else 1 + days


# --- proposals ----------------------------------------------------------------------------------------------------


class _Proposal(NamedTuple):
    """Lines (by place) of an order that a node could send together; `sent` is all that leaves."""

    order: int
    lines: tuple[int, ...]
    node: str
    pieces: tuple[Piece, ...]
    sent: tuple[Sent, ...]
    need: Need
    weight_ug: int


def _proposals(order: int, options: Options, demand: Demand) -> Iterator[_Proposal]:
    """What nodes could send of an order whose lines can all be served whole; nothing where one must be divided."""
    if len(demand.open) > MOST_LINES:
        return
    wanted = [(options.lines[no], quantity) for no, quantity in demand.open]
    if options.terms.line_split == LineSplit.ALWAYS or options.terms.min_shipment_value.numerator:
        return
    pieces = [_pieces(options, line, quantity) for line, quantity in wanted]
    if not all(pieces):
        return
    for lines in _blocks(wanted):
        for node in sorted(set.intersection(*(set(pieces[place]) for place in lines))):
            together = tuple([pieces[place][node] for place in lines])
            sent = tuple([goods for piece in together for goods in piece.sent])
            weight_ug = sum([goods.weight_ug for goods in sent])
            yield _Proposal(order, lines, node, together, sent, need_of(len(lines), sent), weight_ug)


def _blocks(demand: Sequence[tuple[Line, Quantity]]) -> Iterator[tuple[int, ...]]:
    """Sets of lines that may leave together: groups stay whole."""
    places = range(len(demand))
    together = MOST_LINES_TOGETHER if len(demand) <= MANY_LINES else 1
    sizes = [*range(1, min(together, len(demand)) + 1)]
    if len(demand) > together:
        sizes.append(len(demand))
    groups: dict[str, set[int]] = {}
    for place, (line, _) in enumerate(demand):
        if line.together:
            groups.setdefault(line.together, set()).add(place)
    for size in sizes:
        for lines in combinations(places, size):
            if not groups or all(group <= set(lines) or not group & set(lines) for group in groups.values()):
                yield lines


def _pieces(options: Options, line: Line, quantity: Quantity) -> dict[str, Piece]:
    """The first alternative by which each node has the whole line."""
    found: dict[str, Piece] = {}
    for alternative in options.alternatives(line, quantity):
        sent = options.goods(line, alternative, quantity)
        if sent is None or alternative.across_nodes:
            continue
        for node in options.shelves(sent[0].item.code):
            if node not in found and all(
                ready_on(options.shelves(each.item.code).get(node, ()), each.quantity) is not None for each in sent
            ):
                found[node] = Piece(line, alternative, quantity, sent)
    return found


# --- days ---------------------------------------------------------------------------------------------------------


def _days_needed(options: Mapping[int, Options], proposals: Iterable[_Proposal]) -> dict[str, int]:
    """How many ship days of each node are enough for everything that could leave there.

    A shipment leaves later than need be only where slots fill; on a day that cannot take the largest shipment any
    more, all but that much of its slots is taken. So the days that take everything, counted that way, are enough.
    """
    wanted: dict[str, dict[int, _Proposal]] = {}
    for proposal in proposals:
        known = wanted.setdefault(proposal.node, {}).get(proposal.order)
        if known is None or proposal.need > known.need:
            wanted[proposal.node][proposal.order] = proposal
    return {node: _days_at(options[next(iter(own))], node, list(own.values())) for node, own in wanted.items()}


def _days_at(options: Options, code: str, proposals: Sequence[_Proposal]) -> int:
    node = options.network.nodes[code]
    if not node.slots or not options.terms.policy.capacity_is_hard:
        return 1
    way = options.by_node[code][0]
    waiting = {slot.unit: sum(proposal.need.of(slot.unit) for proposal in proposals) for slot in node.slots}
    largest = {unit: max(proposal.need.of(unit) for proposal in proposals) for unit in waiting}
    for count, departure in enumerate(way.departures, start=1):
        for window in windows_of(way, departure):
            for unit, left in waiting.items():
                free = min(
                    (
                        node.slots[n].limit - options.taken.get((code, departure.ships, n), 0)
                        for n in window
                        if node.slots[n].unit == unit
                    ),
                    default=left,
                )
                waiting[unit] = left - max(0, free - largest[unit] + 1)
        if all(left <= 0 for left in waiting.values()):
            return count
    return options.terms.policy.horizon_days + 1


def windows_of(way: OpenRoute, departure: Departure) -> list[tuple[int, ...]]:
    """The windows of a route's node on a day; a node without slots has one, which limits nothing."""
    return way.departures.windows(departure.ships) if way.route.node.slots else [()]


def has_room(options: Options, node: str, day: int, window: tuple[int, ...], need: Need) -> bool:
    """Whether the slots of a window have room for a need on a day."""
    slots = options.network.nodes[node].slots
    return all(options.taken.get((node, day, n), 0) + need.of(slots[n].unit) <= slots[n].limit for n in window)


def _departures(options: Options, way: OpenRoute, wish: Wish, ready: int, need: Need) -> Iterator[Departure]:
    """Days a shipment could leave: the first, and later ones where the slots of the node could fill."""
    hard = options.terms.policy.capacity_is_hard
    latest = wish.latest
    if options.terms.service_level.late_is_hard and options.deadline is not None:
        latest = options.deadline if latest is None else min(latest, options.deadline)
    for departure in way.departures:
        if departure.ships < ready:
            continue
        if latest is not None and departure.arrives > latest:
            return
        found = windows_of(way, departure)
        if any(has_room(options, way.route.node.code, departure.ships, window, need) for window in found) or (
            found and not hard
        ):
            yield departure
        if not way.route.node.slots or not hard:
            return


# --- costs --------------------------------------------------------------------------------------------------------


class _Station(NamedTuple):
    """The routes of a node as orders of one kind may use them, and their places in the arrays.

    `fixed` is what a shipment costs by each whatever is in it and whenever it leaves.
    """

    routes: tuple[OpenRoute, ...]
    places: Ints
    fixed: Ints


class _Maker:
    """Makes columns of proposals; what many of them share is worked out once."""

    def __init__(
        self,
        wishes: Sequence[Wish],
        options: Mapping[int, Options],
        proposals: Sequence[_Proposal],
        days: Mapping[str, int],
    ) -> None:
        self.made = Columns()
        self._wishes, self._options, self._days = wishes, options, days
        self._calendars: dict[Days, int] = {}
        self._profiles: dict[Profile, int] = {}
        self._of_one: dict[tuple[int, int], tuple[Cost, int]] = {}
        self._apart: dict[tuple[int, int], Cost | None] = {}
        self._of_route: dict[tuple[object, ...], int] = {}
        self._numbers: dict[tuple[object, ...], tuple[int, ...]] = {}
        self._stations: dict[tuple[int, str], _Station] = {}
        self._kinds = _kinds(options)
        self._freight = _freight([(self._kinds[p.order], options[p.order], p.weight_ug) for p in proposals])

    def column(self, proposal: _Proposal) -> Column | None:
        """The column of a proposal; None where its goods do not come together, or no route leaves in time."""
        options = self._options[proposal.order]
        ready = _ready(options, proposal)
        if ready is None:
            return None
        cheapest = self._cheapest(self._ways(options, proposal, ready))
        if not cheapest:
            return None
        first, profile = self._profile(cheapest, self._days[proposal.node])
        cost = first + _at_origin(options, proposal)
        order, lines, node, pieces, _, need, _ = proposal
        return Column(order, lines, node, cost, profile, cheapest, pieces, need, ready)

    def _ways(self, options: Options, proposal: _Proposal, ready: int) -> Iterator[Way]:
        """The routes that carry a proposal, each with its calendar."""
        kind = self._kinds[proposal.order]
        station = self._station(options, kind, proposal.node)
        costs = self._freight[kind, proposal.weight_ug].take(station.places) + station.fixed
        for barred in [options.access.carriage(goods.item) for goods in proposal.sent]:
            if barred is not None:
                costs = costs + barred.take(station.places)
        numbers = self._numbers_of(options, proposal, ready)
        for way, cost, calendar in zip(station.routes, costs.tolist(), numbers, strict=True):
            if cost >= NEVER or not self.made.calendars[calendar]:
                continue
            passing = 0
            if way.route.via:
                # What a line costs on its way is counted line by line.
                passing = sum(options.prices.passing(way.route, piece.sent) for piece in proposal.pieces)
            yield Way(way, cost + passing, calendar)

    def _station(self, options: Options, kind: int, node: str) -> _Station:
        key = (kind, node)
        found = self._stations.get(key)
        if found is None:
            routes = options.by_node[node]
            prices = options.prices
            fixed = [
                sum(amount for _, amount in prices.opening(way.route)) + prices.node(way.penalty)[1] for way in routes
            ]
            places = np.array([way.index for way in routes])
            found = self._stations[key] = _Station(routes, places, np.array(fixed, dtype=np.int64))
        return found

    def _numbers_of(self, options: Options, proposal: _Proposal, ready: int) -> tuple[int, ...]:
        """The calendars of a node's routes, for orders that may use them alike."""
        wish, node = self._wishes[proposal.order], options.network.nodes[proposal.node]
        # Slots that are partly taken may leave no room for a large need on a day: only then does the need matter.
        need = proposal.need if node.slots and options.taken else None
        key = (self._kinds[proposal.order], node.code, wish.latest, ready, need)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = tuple(
                self._number(options, way, wish, ready, proposal.need, need) for way in options.by_node[node.code]
            )
        return found

    def _number(
        self, options: Options, way: OpenRoute, wish: Wish, ready: int, need: Need, matters: Need | None
    ) -> int:
        """The number of the days of a route for a need; equal days have equal numbers."""
        key = (way.route.key, options.terms.service_level.code, options.deadline, wish.latest, ready, matters)
        known = self._of_route.get(key)
        if known is not None:
            return known
        prices = options.prices
        days = tuple(
            (departure, sum(cost for _, cost in prices.days(departure, way.first, way.today, options.deadline)))
            for departure in _departures(options, way, wish, ready, need)
        )
        number = self._of_route[key] = self._calendars.setdefault(days, len(self.made.calendars))
        if number == len(self.made.calendars):
            self.made.calendars.append(days)
        return number

    def _cheapest(self, ways: Iterable[Way]) -> tuple[Way, ...]:
        """The routes of which no other one is at least as cheap on all their days."""
        cheapest: dict[int, Way] = {}
        for way in ways:
            known = cheapest.get(way.calendar)
            if known is None or way.cost < known.cost:
                cheapest[way.calendar] = way
        kept: list[Way] = []
        for way in sorted(cheapest.values(), key=lambda way: way.cost):
            if not any(self._is_behind(way, other) for other in kept):
                kept.append(way)
        return tuple(kept)

    def _is_behind(self, way: Way, other: Way) -> bool:
        """Whether another route leaves on all days of a route, on each for no more."""
        key = (other.calendar, way.calendar)
        if key not in self._apart:
            times = {departure.ships: time for departure, time in self.made.calendars[other.calendar]}
            own = self.made.calendars[way.calendar]
            missing = any(departure.ships not in times for departure, _ in own)
            self._apart[key] = None if missing else max(times[departure.ships] - time for departure, time in own)
        apart = self._apart[key]
        return apart is not None and other.cost + apart <= way.cost

    def _profile(self, ways: tuple[Way, ...], days: int) -> tuple[Cost, int]:
        """What the first day costs, and the number of the profile of so many days."""
        if len(ways) == 1:
            key = (ways[0].calendar, days)
            known = self._of_one.get(key)
            if known is None:
                calendar = self.made.calendars[ways[0].calendar][:days]
                known = self._of_one[key] = self._keep([(departure.ships, time) for departure, time in calendar])
            return ways[0].cost + known[0], known[1]
        best: dict[int, Cost] = {}
        for way in ways:
            for departure, time in self.made.calendars[way.calendar][:days]:
                cost = way.cost + time
                best[departure.ships] = min(cost, best.get(departure.ships, cost))
        return self._keep(sorted(best.items()))

    def _keep(self, costs: Sequence[tuple[int, Cost]]) -> tuple[Cost, int]:
        first = costs[0][1]
        profile = tuple((day, cost - first) for day, cost in costs)
        number = self._profiles.setdefault(profile, len(self.made.profiles))
        if number == len(self.made.profiles):
            self.made.profiles.append(profile)
        return first, number


def _freight(asked: Iterable[tuple[int, Options, int]]) -> dict[tuple[int, int], Ints]:
    """By kind of order and weight, what each of its routes costs for it.

    A light shipment is not priced with heavy ones, so that most products stay small enough for machine integers.
    """
    weights: dict[tuple[int, int], tuple[Options, set[int]]] = {}
    for kind, options, weight_ug in asked:
        key = (kind, weight_ug.bit_length() // 4)
        weights.setdefault(key, (options, set()))[1].add(weight_ug)
    found: dict[tuple[int, int], Ints] = {}
    for (kind, _), (options, some) in weights.items():
        ordered = sorted(some)
        rows = options.access.tariff.price(np.array(ordered, dtype=np.int64), ordered[-1])
        found.update(((kind, weight), row) for weight, row in zip(ordered, rows, strict=True))
    return found


def _kinds(options: Mapping[int, Options]) -> dict[int, int]:
    """By place of an order the number of its kind: orders of a kind may use the same routes, on the same days."""
    numbers: dict[tuple[object, ...], int] = {}
    kinds: dict[int, int] = {}
    for place, option in options.items():
        order, terms = option.order, option.terms
        # Rules that judge routes may read anything of an order: then each is a kind of its own.
        alone = place if option.atlas.policy.candidate_rules or terms.failed else -1
        level, most_km = terms.service_level, terms.max_distance_km
        key = (order.zone, order.channel, order.customer, level, most_km, option.deadline, alone)
        kinds[place] = numbers.setdefault(key, len(numbers))
    return kinds


def _ready(options: Options, proposal: _Proposal) -> int | None:
    """The day from which all goods of a proposal are at its node (0 = at once); None when they never are."""
    wanted: dict[str, Quantity] = {}
    for goods in proposal.sent:
        wanted[goods.item.code] = wanted.get(goods.item.code, 0) + goods.quantity
    there = [ready_on(options.shelves(code)[proposal.node], quantity) for code, quantity in wanted.items()]
    return None if None in there else max(day for day in there if day is not None)


def _at_origin(options: Options, proposal: _Proposal) -> Cost:
    """What the goods cost at their node, whatever the route: the parts of lines, as `build` computes them."""
    node = options.network.nodes[proposal.node]
    used: dict[str, Quantity] = {}
    total = 0
    for piece in proposal.pieces:
        total += options.prices.leaving(node, piece.sent) + substitution(options, piece)
        total += options.missing_at(piece.line, node.code)
        for goods in piece.sent:
            code = goods.item.code
            before = used.get(code, 0)
            used[code] = before + goods.quantity
            total += sum(drawing(options, piece, goods, draw(options.shelves(code)[node.code], goods.quantity, before)))
    return total
