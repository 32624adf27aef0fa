"""Many orders together: a wave shares scarce stock and capacity where it saves most (ALGORITHMS section 1, engine B).

1. Every order gets its columns: a set of its lines that leave from one node by the cheapest route of a day. Later
   days are columns only where the slots of a node could fill.
2. One MIP picks columns: each line in one column or waiting; stock of each shelf, slots of each node and day, and the
   order's own rules are rows. An arrival that was answered already is a hard limit: columns after it do not exist.
3. What was picked is carried out order by order, in exact integers, on what its predecessors left. Orders with lines
   that no column serves whole, or that must be divided, are decided by the order engine on what is left then.
4. The same orders one by one are the incumbent: the cheaper of both is the answer, so a wave is never worse.

Limits are counts: columns of an order and of a wave, nodes of the search; the gap that is left is given with the plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, NamedTuple
from uuid import UUID

from poolwise.core.edition.build import Edition
from poolwise.core.orders import Line
from poolwise.core.policy.terms import CostKind, LineSplit, Terms
from poolwise.core.sourcing.build import Block, Piece, build
from poolwise.core.sourcing.costs import Sent, need_of
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.options import Atlas, OpenRoute, Options, carries, ready_on
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.problem import CapacityFact, Demand, Facts, Problem, ReceiptFact, StockFact
from poolwise.core.sourcing.routes import Departure, Need, windows
from poolwise.core.sourcing.solver import INFINITE, Model
from poolwise.core.values import Cost, Quantity, replace

MOST_COLUMNS: Final = 250_000
MOST_COLUMNS_OF_AN_ORDER: Final = 400
MOST_LINES_TOGETHER: Final = 3
"""Larger blocks than this are columns only as the whole order."""

MOST_NODES: Final = 2_000


@dataclass(frozen=True, slots=True)
class Wish:
    """One order of a wave: what is to be sourced of it, its terms, and the latest arrival already answered."""

    demand: Demand
    terms: Terms
    latest: int | None = None


@dataclass(frozen=True, slots=True)
class Wave:
    """Orders that are planned together, and the facts they share."""

    edition: Edition
    wishes: tuple[Wish, ...]
    facts: Facts


@dataclass(frozen=True, slots=True)
class Planned:
    """The plans of a wave, in the order of its wishes, with the problem each was carried out on, and the gap."""

    plans: tuple[Plan, ...]
    problems: tuple[Problem, ...]
    gap_ppm: int
    columns: int

    @property
    def objective(self) -> Cost:
        """Sum over all plans."""
        return sum(plan.objective for plan in self.plans)


class _Column(NamedTuple):
    """Lines (by place) of an order that leave together: cost, route, day, and what it takes."""

    order: int
    lines: tuple[int, ...]
    cost: Cost
    way: OpenRoute
    departure: Departure
    pieces: tuple[Piece, ...]
    need: Need
    ready: int


class Left:
    """Stock, receipts and slots as they are left after the plans carried out so far; equal input, equal facts."""

    def __init__(self, facts: Facts) -> None:
        """Begins with the facts of a wave."""
        self.at = facts.at
        self._stock: dict[str, list[StockFact]] = {}
        self._receipts: dict[str, list[ReceiptFact]] = {}
        for fact in facts.stock:
            self._stock.setdefault(fact.place.item, []).append(fact)
        for receipt in facts.receipts:
            self._receipts.setdefault(receipt.place.item, []).append(receipt)
        self._available = {fact.place.position: fact.available for fact in facts.stock}
        self._open = {fact.receipt: fact.open for fact in facts.receipts}
        self._taken: dict[str, dict[tuple[int, int], CapacityFact]] = {}
        for slot in facts.capacity:
            self._taken.setdefault(slot.node, {})[slot.day.toordinal(), slot.slot] = slot

    def facts(self, items: Iterable[str]) -> Facts:
        """What an order that could use these items is decided on."""
        wanted = sorted(set(items))
        stock = tuple(
            StockFact(fact.place, self._available[fact.place.position])
            for item in wanted
            for fact in self._stock.get(item, ())
        )
        receipts = tuple(
            fact._replace(open=self._open[fact.receipt])
            for item in wanted
            for fact in self._receipts.get(item, ())
            if self._open[fact.receipt]
        )
        nodes = sorted({fact.place.node for fact in stock} | {fact.place.node for fact in receipts})
        capacity = tuple(slot for node in nodes for _, slot in sorted(self._taken.get(node, {}).items()) if slot.taken)
        return Facts(self.at, stock, receipts, capacity)

    def draw(self, plan: Plan) -> None:
        """Take what a plan takes."""
        for part in plan.assignments:
            if part.receipt is None:
                self._available[part.position] -= part.quantity
            else:
                self._open[part.receipt] -= part.quantity
        for shipment in plan.shipments:
            for booking in shipment.bookings:
                slots = self._taken.setdefault(booking.node, {})
                key = (booking.day.toordinal(), booking.slot)
                before = slots[key].taken if key in slots else 0
                slots[key] = CapacityFact(booking.node, booking.day, booking.slot, before + booking.quantity)


def solve_wave(wave: Wave, atlas: Atlas, items: Mapping[UUID, tuple[str, ...]]) -> Planned:
    """Plan all orders of a wave. `items` names, by order, the items whose stock could serve it."""
    left = Left(wave.facts)
    options = [
        Options(atlas, Problem(wish.demand, wave.edition, wish.terms, left.facts(items[wish.demand.order.id])))
        for wish in wave.wishes
    ]
    columns = _columns(wave, options)
    picked, gap_ppm = _pick(wave, options, columns)
    together = _carry_out(wave, atlas, items, picked)
    if gap_ppm == 0 and len(picked) == len(wave.wishes):
        return Planned(*together, gap_ppm, len(columns))
    alone = _carry_out(wave, atlas, items, {})
    best = min(together, alone, key=lambda made: sum(plan.objective for plan in made[0]))
    return Planned(*best, gap_ppm, len(columns))


def _carry_out(
    wave: Wave, atlas: Atlas, items: Mapping[UUID, tuple[str, ...]], picked: Mapping[int, Sequence[_Column]]
) -> tuple[tuple[Plan, ...], tuple[Problem, ...]]:
    """Carry out what was picked, then decide the other orders one by one, each on what is left."""
    left = Left(wave.facts)
    plans: dict[int, tuple[Plan, Problem]] = {}
    for place in [*sorted(picked), *(n for n in range(len(wave.wishes)) if n not in picked)]:
        wish = wave.wishes[place]
        facts = left.facts(items[wish.demand.order.id])
        problem = Problem(wish.demand, wave.edition, wish.terms, facts)
        plan = _as_picked(Options(atlas, problem), picked[place]) if place in picked else None
        plan = plan or _in_time(solve(problem, atlas), wish, problem, atlas)
        left.draw(plan)
        plans[place] = (plan, problem)
    ordered = [plans[place] for place in range(len(wave.wishes))]
    return tuple(plan for plan, _ in ordered), tuple(problem for _, problem in ordered)


def _as_picked(options: Options, columns: Sequence[_Column]) -> Plan | None:
    """The plan of the columns picked for an order; None where what they need is not left as they assumed."""
    ways = {way.route.key: way for way in options.routes}
    blocks = []
    for column in columns:
        way = ways.get(column.way.route.key)
        if way is None or not _holds(options, way, column):
            return None
        blocks.append(Block(way, column.pieces, column.departure.ships, not_before=column.departure.ships))
    if len({block.way.route.node.code for block in blocks}) < len(blocks):
        return None
    plan = build(options, blocks)
    ships = sorted(column.departure.ships for column in columns)
    return plan if sorted(shipment.ship_on.toordinal() for shipment in plan.shipments) == ships else None


def _holds(options: Options, way: OpenRoute, column: _Column) -> bool:
    """Whether a node still has, on the day of a column, the goods and the slots it takes."""
    node = way.route.node
    for piece in column.pieces:
        for goods in piece.sent:
            day = ready_on(options.shelves(goods.item.code).get(node.code, ()), goods.quantity)
            if day is None or day > column.departure.ships:
                return False
    return any(
        _room(options, node.code, column.departure.ships, window, column.need)
        for window in _windows(way, column.departure)
    )


def _windows(way: OpenRoute, departure: Departure) -> list[tuple[int, ...]]:
    if not way.route.node.slots:
        return [()]
    return windows(way.route.node, departure.ships, way.departures.local)


def _room(options: Options, node: str, day: int, window: tuple[int, ...], need: Need) -> bool:
    slots = options.network.nodes[node].slots
    return all(options.taken.get((node, day, n), 0) + need.of(slots[n].unit) <= slots[n].limit for n in window)


def _in_time(plan: Plan, wish: Wish, problem: Problem, atlas: Atlas) -> Plan:
    """The plan of the order engine; where it would arrive after what was answered, only faster routes are left."""
    if wish.latest is None or all(shipment.arrive_by.toordinal() <= wish.latest for shipment in plan.shipments):
        return plan
    order = wish.demand.order
    level = replace(problem.terms.service_level, late_is_hard=True)
    sooner = replace(order, requested_date=order.received_at.date().fromordinal(wish.latest))
    demand = Demand(sooner, wish.demand.open)
    return solve(replace(problem, demand=demand, terms=replace(problem.terms, service_level=level)), atlas)


# --- columns ------------------------------------------------------------------------------------------------------


class _Proposal(NamedTuple):
    """Lines (by place) of an order that a node could send together."""

    order: int
    lines: tuple[int, ...]
    node: str
    pieces: tuple[Piece, ...]
    need: Need


def _columns(wave: Wave, options: Sequence[Options]) -> list[_Column]:
    proposals = [
        proposal
        for order, option in enumerate(options)
        for proposal in _proposals(order, option, wave.wishes[order].demand)
    ]
    days = _days_needed(options, proposals)
    calendars = Calendars()
    by_order: dict[int, list[_Column]] = {}
    for proposal in proposals:
        option, wish = options[proposal.order], wave.wishes[proposal.order]
        by_order.setdefault(proposal.order, []).extend(_days_of(option, wish, proposal, days[proposal.node], calendars))
    found = [
        column
        for _, own in sorted(by_order.items())
        for column in sorted(own, key=lambda column: column.cost)[:MOST_COLUMNS_OF_AN_ORDER]
    ]
    assert len(found) <= MOST_COLUMNS, f"a wave has at most {MOST_COLUMNS} columns; plan fewer orders at a time"
    return found


def _proposals(order: int, options: Options, demand: Demand) -> Iterator[_Proposal]:
    """What nodes could send of an order whose lines can all be served whole; nothing where one must be divided."""
    wanted = [(options.lines[no], quantity) for no, quantity in demand.open]
    if options.terms.line_split == LineSplit.ALWAYS or options.terms.min_shipment_value.numerator:
        return
    pieces = [_pieces(options, line, quantity) for line, quantity in wanted]
    if not all(pieces):
        return
    for lines in _blocks(wanted):
        for node in sorted(set.intersection(*(set(pieces[place]) for place in lines))):
            together = tuple(pieces[place][node] for place in lines)
            need = need_of(len(lines), [goods for piece in together for goods in piece.sent])
            yield _Proposal(order, lines, node, together, need)


def _days_needed(options: Sequence[Options], proposals: Iterable[_Proposal]) -> dict[str, int]:
    """How many ship days of each node are enough for everything that could leave there.

    A shipment leaves later than need be only where slots fill; on a day that cannot take the largest shipment any
    more, all but that much of its slots is taken. So the days that take everything, counted that way, are enough.
    """
    wanted: dict[str, dict[int, _Proposal]] = {}
    for proposal in proposals:
        known = wanted.setdefault(proposal.node, {}).get(proposal.order)
        if known is None or _size(proposal) > _size(known):
            wanted[proposal.node][proposal.order] = proposal
    return {node: _days_at(options[next(iter(own))], node, list(own.values())) for node, own in wanted.items()}


def _size(proposal: _Proposal) -> tuple[int, int, int]:
    return (proposal.need.lines, proposal.need.units, proposal.need.grams)


def _days_at(options: Options, code: str, proposals: Sequence[_Proposal]) -> int:
    node = options.network.nodes[code]
    if not node.slots or not options.terms.policy.capacity_is_hard:
        return 1
    way = options.by_node[code][0]
    waiting = {slot.unit: sum(proposal.need.of(slot.unit) for proposal in proposals) for slot in node.slots}
    largest = {unit: max(proposal.need.of(unit) for proposal in proposals) for unit in waiting}
    for count, departure in enumerate(way.departures, start=1):
        for window in _windows(way, departure):
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


def _blocks(demand: Sequence[tuple[Line, Quantity]]) -> Iterator[tuple[int, ...]]:
    """Sets of lines that may leave together: groups stay whole."""
    places = range(len(demand))
    sizes = [*range(1, min(MOST_LINES_TOGETHER, len(demand)) + 1)]
    if len(demand) > MOST_LINES_TOGETHER:
        sizes.append(len(demand))
    groups: dict[str, set[int]] = {}
    for place, (line, _) in enumerate(demand):
        if line.together:
            groups.setdefault(line.together, set()).add(place)
    for size in sizes:
        for lines in combinations(places, size):
            if all(group <= set(lines) or not group & set(lines) for group in groups.values()):
                yield lines


def _pieces(options: Options, line: Line, quantity: Quantity) -> dict[str, Piece]:
    """The first alternative by which each node has the whole line."""
    found: dict[str, Piece] = {}
    for alternative in options.alternatives(line, quantity):
        sent = options.goods(line, alternative, quantity)
        if sent is None or alternative.across_nodes:
            continue
        for node in options.by_node:
            if node not in found and all(
                ready_on(options.shelves(goods.item.code).get(node, ()), goods.quantity) is not None for goods in sent
            ):
                found[node] = Piece(line, alternative, quantity, sent)
    return found


def _days_of(options: Options, wish: Wish, proposal: _Proposal, days: int, calendars: Calendars) -> Iterator[_Column]:
    """The cheapest route of each day on which a node can send some lines together, for as many days as are enough."""
    sent = [goods for piece in proposal.pieces for goods in piece.sent]
    wanted: dict[str, Quantity] = {}
    for goods in sent:
        wanted[goods.item.code] = wanted.get(goods.item.code, 0) + goods.quantity
    there = [ready_on(options.shelves(code)[proposal.node], quantity) for code, quantity in wanted.items()]
    ready = max((day for day in there if day is not None), default=0)
    ways = [w for w in options.by_node[proposal.node] if all(carries(w.route, goods.item) for goods in sent)]
    if None in there or not ways:
        return
    here: Cost | None = None
    best: dict[int, tuple[Cost, OpenRoute, Departure]] = {}
    for number, (way, travel) in _not_dominated(options, wish, calendars, proposal.need, ready, ways, sent):
        here = _at_origin(options, way, proposal.pieces, ready) if here is None else here
        if here is None:
            return
        for departure, time in calendars.days(number)[:days]:
            cost = here + travel + time
            if departure.ships not in best or cost < best[departure.ships][0]:
                best[departure.ships] = (cost, way, departure)
    for _, (cost, way, departure) in sorted(best.items()):
        yield _Column(proposal.order, proposal.lines, cost, way, departure, proposal.pieces, proposal.need, ready)


def _not_dominated(
    options: Options, wish: Wish, calendars: Calendars, need: Need, ready: int, ways: Sequence[OpenRoute],
    sent: Sequence[Sent],
) -> list[tuple[int, tuple[OpenRoute, Cost]]]:  # fmt: skip
    """Routes with what they cost without their days; of those with equal days only the cheapest."""
    cheapest: dict[int, tuple[OpenRoute, Cost]] = {}
    for way in ways:
        travel = _travel(options, way, sent)
        number = calendars.number(options, way, wish, ready, need)
        if travel is not None and (number not in cheapest or travel < cheapest[number][1]):
            cheapest[number] = (way, travel)
    return list(cheapest.items())


Days = tuple[tuple[Departure, Cost], ...]
"""The days a route leaves on, in order, each with what its time costs."""


class Calendars:
    """The days on which routes leave; worked out once for all orders of a wave that share them, equal ones numbered."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: dict[tuple[object, ...], int] = {}
        self._numbers: dict[Days, int] = {}
        self._days: list[Days] = []

    def number(self, options: Options, way: OpenRoute, wish: Wish, ready: int, need: Need) -> int:
        """The number of the days of a route for a need; equal days have equal numbers."""
        slots = way.route.node.slots
        level = options.terms.service_level
        # Slots that are partly taken may leave no room for a large need on a day: only then does the need matter.
        size = (need.lines, need.units, need.grams) if slots and options.taken else ()
        key = (way.route.key, level.code, options.deadline, wish.latest, ready, size)
        known = None if size else self._known.get(key)
        if known is None:
            days = self._of(options, way, wish, ready, need)
            known = self._numbers.setdefault(days, len(self._days))
            if known == len(self._days):
                self._days.append(days)
            self._known[key] = known
        return known

    def days(self, number: int) -> Days:
        """The days of a number."""
        return self._days[number]

    def _of(self, options: Options, way: OpenRoute, wish: Wish, ready: int, need: Need) -> Days:
        prices = options.prices
        return tuple(
            (departure, sum(cost for _, cost in prices.days(departure, way.first, way.today, options.deadline)))
            for departure in _departures(options, way, wish, ready, need)
        )


def _at_origin(options: Options, way: OpenRoute, pieces: tuple[Piece, ...], ready: int) -> Cost | None:
    """What the goods cost at their node, whatever the route: the parts of lines, as `build` computes them."""
    if not any(departure.ships >= ready for departure in way.departures):
        return None
    if options.taken:
        # Full slots must not move the day here: only what the goods cost at their node is wanted.
        options = Options(options.atlas, replace(options.problem, facts=replace(options.problem.facts, capacity=())))
        way = next(other for other in options.routes if other.route.key == way.route.key)
    plan = build(options, [Block(way, pieces, ready)])
    return sum(p.amount for p in plan.costs if p.line_no and p.kind not in (CostKind.TRANSFER, CostKind.BACKORDER))


def _travel(options: Options, way: OpenRoute, sent: Sequence[Sent]) -> Cost | None:
    """What a shipment costs by a route, without its days; None where the weight is not carried."""
    weight_ug = sum(goods.weight_ug for goods in sent)
    freight = options.prices.freight(way.route, weight_ug)
    if freight is None:
        return None
    parts = [*freight, *options.prices.opening(way.route), options.prices.carbon(way.route, weight_ug)[1]]
    passing = options.prices.passing(way.route, sent) if way.route.via else 0
    return sum(amount for _, amount in parts) + passing + options.prices.node(way.penalty)[1]


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
        found = _windows(way, departure)
        if any(_room(options, way.route.node.code, departure.ships, window, need) for window in found) or (
            found and not hard
        ):
            yield departure
        if not way.route.node.slots or not hard:
            return


# --- the model ----------------------------------------------------------------------------------------------------


def _pick(wave: Wave, options: Sequence[Options], columns: Sequence[_Column]) -> tuple[dict[int, list[_Column]], int]:
    """The columns of the cheapest wave, by order; orders with a line in no column are left out."""
    model = Model()
    variables = [model.variable(column.cost) for column in columns]
    _cover(model, wave, options, columns, variables)
    _share_stock(model, options, columns, variables)
    _share_slots(model, options, columns, variables)
    solution = model.minimise(MOST_NODES) if columns else None
    if solution is None:
        return {}, 0
    picked: dict[int, list[_Column]] = {}
    for column, variable in zip(columns, variables, strict=True):
        if solution.values[variable] > 1 / 2:
            picked.setdefault(column.order, []).append(column)
    whole = {
        order: found
        for order, found in picked.items()
        if sum(len(column.lines) for column in found) == len(wave.wishes[order].demand.open)
    }
    return whole, solution.gap_ppm


def _cover(
    model: Model, wave: Wave, options: Sequence[Options], columns: Sequence[_Column], variables: Sequence[int]
) -> None:
    """Each line is in one column or waits; the order's limits on shipments, and what splits cost."""
    by_line: dict[tuple[int, int], list[int]] = {}
    by_order: dict[int, list[int]] = {}
    for column, variable in zip(columns, variables, strict=True):
        by_order.setdefault(column.order, []).append(variable)
        for place in column.lines:
            by_line.setdefault((column.order, place), []).append(variable)
    waits: dict[int, list[int]] = {}
    for (order, place), members in by_line.items():
        option = options[order]
        no, quantity = wave.wishes[order].demand.open[place]
        waiting = model.variable(option.prices.waiting(option.catalog.items[option.lines[no].item], quantity))
        waits.setdefault(order, []).append(waiting)
        model.row([*((member, 1.0) for member in members), (waiting, 1.0)], 1, 1)
    for order, members in by_order.items():
        terms = options[order].terms
        if terms.max_shipments is not None:
            model.row([(member, 1.0) for member in members], upper=terms.max_shipments)
        if len(waits[order]) > 1:
            _rules_of_parts(model, terms, options[order], members, waits[order])


def _rules_of_parts(model: Model, terms: Terms, options: Options, members: list[int], waits: list[int]) -> None:
    split = options.prices.weighted(CostKind.SPLIT, terms.split_cost.times(1))
    if split:
        splits = model.variable(split, INFINITE, integer=False)
        model.row([(splits, 1.0), *((member, -1.0) for member in members)], lower=-1)
    if terms.ship_complete:
        for waiting in waits[1:]:
            model.row([(waiting, 1.0), (waits[0], -1.0)], 0, 0)


def _share_stock(
    model: Model, options: Sequence[Options], columns: Sequence[_Column], variables: Sequence[int]
) -> None:
    """What leaves of an item at a node, by orders that may use the same positions, is on the shelf by then."""
    held: dict[tuple[str, str, tuple[int, ...]], tuple[Quantity, Quantity]] = {}
    uses: dict[tuple[str, str, tuple[int, ...]], list[tuple[int, Quantity, int]]] = {}
    for column, variable in zip(columns, variables, strict=True):
        node = column.way.route.node.code
        for piece in column.pieces:
            for goods in piece.sent:
                shelf = options[column.order].shelves(goods.item.code)[node]
                key = (goods.item.code, node, tuple(sorted({source.place.position for source in shelf})))
                on_hand = sum(source.quantity for source in shelf if not source.ready)
                total = sum(source.quantity for source in shelf)
                held[key] = max(held.get(key, (0, 0)), (on_hand, total))
                uses.setdefault(key, []).append((variable, goods.quantity, column.ready))
    for key in sorted(uses):
        within = [k for k in uses if k[:2] == key[:2] and set(k[2]) <= set(key[2])] if len(key[2]) > 1 else [key]
        shared = [use for k in within for use in uses[k]]
        for limit, terms in (
            (held[key][0], [(variable, float(quantity)) for variable, quantity, ready in shared if not ready]),
            (held[key][1], [(variable, float(quantity)) for variable, quantity, _ in shared]),
        ):
            if _could_exceed(model, terms, limit):
                model.row(terms, upper=limit)


def _share_slots(
    model: Model, options: Sequence[Options], columns: Sequence[_Column], variables: Sequence[int]
) -> None:
    """Slots with the same hours limit together; a shipment is counted in the windows of its day added up."""
    uses: dict[tuple[str, int, int], list[tuple[int, float]]] = {}
    limits: dict[tuple[str, int, int], int] = {}
    for column, variable in zip(columns, variables, strict=True):
        option, node = options[column.order], column.way.route.node
        if not option.terms.policy.capacity_is_hard or not node.slots:
            continue
        for unit, slots in _by_unit(column).items():
            key = (node.code, column.departure.ships, slots[0])
            free = sum(
                max(0, node.slots[n].limit - option.taken.get((node.code, column.departure.ships, n), 0)) for n in slots
            )
            limits[key] = max(limits.get(key, 0), free)
            uses.setdefault(key, []).append((variable, float(column.need.of(node.slots[slots[0]].unit))))
            assert unit
    for key, terms in sorted(uses.items()):
        if _could_exceed(model, terms, limits[key]):
            model.row(terms, upper=limits[key])


def _by_unit(column: _Column) -> dict[str, list[int]]:
    """The slots of a column's day by what they count."""
    found: dict[str, list[int]] = {}
    for window in _windows(column.way, column.departure):
        for number in window:
            found.setdefault(column.way.route.node.slots[number].unit.value, []).append(number)
    return found


def _could_exceed(model: Model, terms: Sequence[tuple[int, float]], limit: float) -> bool:
    """Whether a row could ever bind; most shelves and slots are ample, and their rows would only slow the solver."""
    return sum(coefficient * model.upper[variable] for variable, coefficient in terms) > limit
