"""Many orders together: a wave shares scarce stock and capacity where it saves most (ALGORITHMS section 1, engine B).

1. Every order gets its columns (`core.sourcing.columns`); one that is planned again may also stay as it is.
2. One MIP picks columns: each line in one column or waiting; stock of each shelf and the order's own rules are rows.
   Columns that are alike to the slots of their node share one number of shipments a day, which the slots limit; who
   leaves on which of these days is settled afterwards, in the order of the wave. An arrival that was answered already
   is a hard limit: columns after it do not exist.
3. What was picked is carried out order by order, in exact integers, on what its predecessors left. Orders with lines
   that no column serves whole, or that must be divided, are decided by the order engine on what is left then.
4. The same orders one by one, with those planned before as they stand, are the incumbent: the cheaper of both is the
   answer, so a wave is never worse. An order that gains nothing by its new plan, and takes nobody's, stays as it is.

Limits are counts: columns of an order and of a wave, nodes of the search; the gap that is left is given with the plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from poolwise.core.edition.build import Edition
from poolwise.core.network import CapacityUnit, Slot
from poolwise.core.policy.terms import CostKind, Terms
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.build import Block, Piece, build
from poolwise.core.sourcing.columns import (
    MOST_COLUMNS,
    Column,
    Columns,
    Wish,
    columns_of,
    has_room,
    windows_of,
)
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.options import Options, ready_on
from poolwise.core.sourcing.plan import Assignment, Plan
from poolwise.core.sourcing.problem import CapacityFact, Facts, Problem, ReceiptFact, classes_of
from poolwise.core.sourcing.record import Held
from poolwise.core.sourcing.solver import INFINITE, Model
from poolwise.core.values import Cost, Quantity

MOST_NODES: Final = 2_000
MOST_SECOND_THOUGHTS: Final = 3


@dataclass(frozen=True, slots=True)
class Wave:
    """Orders that are planned together, and the facts they share: what is held for some of them counts as free."""

    edition: Edition
    wishes: tuple[Wish, ...]
    facts: Facts


@dataclass(frozen=True, slots=True)
class Planned:
    """The plans of a wave, in the order of its wishes, with the problem each was carried out on, and the gap.

    `kept` are the places of orders whose reservations stay as they are; their plan is what is held, at today's price.
    `fixed` are those of them that could not even be planned like that any more.
    """

    plans: tuple[Plan, ...]
    problems: tuple[Problem, ...]
    gap_ppm: int
    columns: int
    kept: frozenset[int] = frozenset()
    fixed: frozenset[int] = frozenset()

    @property
    def objective(self) -> Cost:
        """Sum over all plans."""
        return sum(plan.objective for plan in self.plans)


class Left:
    """Stock, receipts and slots as they are left after the plans carried out so far; equal input, equal facts."""

    def __init__(self, facts: Facts) -> None:
        """Begins with the facts of a wave."""
        self.at = facts.at
        self._stock = {stock.positions.item: stock for stock in facts.shelves}
        self._receipts: dict[str, list[ReceiptFact]] = {}
        for receipt in facts.receipts:
            self._receipts.setdefault(receipt.place.item, []).append(receipt)
        self._open = {fact.receipt: fact.open for fact in facts.receipts}
        self._misses = {known.item_class: known for known in facts.misses}
        self._taken: dict[str, dict[tuple[int, int], CapacityFact]] = {}
        for slot in facts.capacity:
            self._taken.setdefault(slot.node, {})[slot.day.toordinal(), slot.slot] = slot

    def facts(self, items: Iterable[str], classes: Iterable[str] = ()) -> Facts:
        """What an order that could use these items, and orders such of these classes, is decided on."""
        wanted = sorted(set(items))
        stock = tuple([self._stock[item] for item in wanted if item in self._stock])
        receipts = tuple(
            [
                fact._replace(open=self._open[fact.receipt])
                for item in wanted
                for fact in self._receipts.get(item, ())
                if self._open[fact.receipt]
            ]
        )
        nodes = sorted({fact.place.node for fact in receipts}.union(*[own.positions.nodes for own in stock]))
        capacity = tuple(
            [slot for node in nodes for _, slot in sorted(self._taken.get(node, {}).items()) if slot.taken]
        )
        misses = tuple([self._misses[each] for each in sorted(classes) if each in self._misses])
        return Facts(self.at, stock, receipts, capacity, misses)

    def draw(self, plan: Plan | Held, sign: int = 1) -> None:
        """Take what a plan takes; with sign -1 give it back."""
        for part in plan.assignments:
            if part.receipt is None:
                self._stock[part.item] = self._stock[part.item].moved(part.position, -sign * part.quantity)
            else:
                self._open[part.receipt] -= sign * part.quantity
        for shipment in plan.shipments:
            for booking in shipment.bookings:
                slots = self._taken.setdefault(booking.node, {})
                key = (booking.day.toordinal(), booking.slot)
                before = slots[key].taken if key in slots else 0
                after = before + sign * booking.quantity
                slots[key] = CapacityFact(booking.node, booking.day, booking.slot, after)

    def holds(self, plan: Plan, atlas: Atlas) -> bool:
        """Whether all that a plan takes is there."""
        self.draw(plan)
        nodes, hard = atlas.edition.network.nodes, atlas.policy.policy.capacity_is_hard
        parts, bookings = plan.assignments, [each for shipment in plan.shipments for each in shipment.bookings]
        there = all(
            self._stock[part.item].at(part.position) >= 0 if part.receipt is None else self._open[part.receipt] >= 0
            for part in parts
        ) and not (
            hard
            and any(
                self._taken[each.node][each.day.toordinal(), each.slot].taken > nodes[each.node].slots[each.slot].limit
                for each in bookings
            )
        )
        self.draw(plan, -1)
        return there


@dataclass(frozen=True, slots=True)
class _Carried:
    """Plans and problems by place."""

    plans: dict[int, Plan]
    problems: dict[int, Problem]
    kept: frozenset[int]

    @property
    def objective(self) -> Cost:
        return sum(plan.objective for plan in self.plans.values())

    def planned(self, gap_ppm: int, columns: int, fixed: frozenset[int]) -> Planned:
        places = range(len(self.plans))
        plans, problems = tuple(self.plans[n] for n in places), tuple(self.problems[n] for n in places)
        return Planned(plans, problems, gap_ppm, columns, self.kept, fixed)


def solve_wave(
    wave: Wave, atlas: Atlas, items: Mapping[UUID, tuple[str, ...]], most_columns: int = MOST_COLUMNS
) -> Planned:
    """Plan all orders of a wave. `items` names, by order, the items whose stock could serve it."""
    scene = _Scene(wave, atlas, items)
    left = Left(wave.facts)
    for place in sorted(scene.fixed):
        left.draw(scene.standing[place])
    free = [place for place in range(len(wave.wishes)) if place not in scene.fixed]
    options = {place: Options(atlas, scene.problem(place, left)) for place in free}
    picked, gap_ppm, size = _Picking(scene, options, columns_of(wave.wishes, options, most_columns)).pick()
    together = scene.settled(picked)
    if together is not None and not scene.standing and gap_ppm == 0 and len(picked) == len(wave.wishes):
        return together.planned(gap_ppm, size, scene.fixed)
    alone = scene.carried_out({}, frozenset(scene.standing))
    assert alone is not None, "what is held can stay as it is"
    # Whoever is planned already moves for a gain only.
    rivals = (alone, together) if scene.standing else (together, alone)
    best = min([made for made in rivals if made is not None], key=lambda made: made.objective)
    return best.planned(gap_ppm, size, scene.fixed)


class Departing(NamedTuple):
    """Lines that leave together by a route, named by its key, on a day."""

    route: tuple[str, ...]
    day: int
    pieces: tuple[Piece, ...]


Picked = Mapping[int, Sequence[Departing]]
"""What was picked for each order, by place."""


class _Scene:
    """A wave with what stands already: by place, the plan of each order that is planned again, at today's price.

    `fixed` are those of them that could not be carried out as they stand (a cut-off has passed, say): they stay.
    """

    def __init__(self, wave: Wave, atlas: Atlas, items: Mapping[UUID, tuple[str, ...]]) -> None:
        self.wave, self._atlas, self._items = wave, atlas, items
        self.standing: dict[int, Plan] = {}
        fixed: set[int] = set()
        left = Left(wave.facts)
        for place, wish in enumerate(wave.wishes):
            if wish.held is not None:
                again = _again(Options(atlas, self.problem(place, left)), wish.held)
                if again is None:
                    fixed.add(place)
                costs = () if again is None else again.costs
                self.standing[place] = Plan(wish.held.shipments, wish.held.assignments, (), costs)
                left.draw(wish.held)
        self.fixed = frozenset(fixed)

    def problem(self, place: int, left: Left) -> Problem:
        """An order on what is left."""
        wish, edition = self.wave.wishes[place], self.wave.edition
        order = wish.demand.order
        classes = classes_of(edition.catalog, order, self._atlas.policy.policy)
        return Problem(wish.demand, edition, wish.terms, left.facts(self._items[order.id], classes))

    def settled(self, picked: Picked) -> _Carried | None:
        """What was picked, carried out; an order that gains nothing by it, and takes nobody's place, stays as it is."""
        kept = frozenset(place for place in self.standing if place not in picked)
        made = self.carried_out(picked, kept)
        for _ in range(MOST_SECOND_THOUGHTS):
            needless = frozenset() if made is None else self._needless(made)
            if not needless:
                break
            kept |= needless
            made = self.carried_out(picked, kept)
        return made

    def carried_out(self, picked: Picked, kept: frozenset[int]) -> _Carried | None:
        """Carry out what was picked, then decide the other orders one by one, each on what is left.

        `kept` stay as they are. None where another order that is planned again would be worse off.
        """
        left = Left(self.wave.facts)
        plans: dict[int, Plan] = {}
        problems: dict[int, Problem] = {}
        rest = [place for place in range(len(self.wave.wishes)) if place not in kept]
        for place in (*sorted(kept), *(n for n in rest if n in picked), *(n for n in rest if n not in picked)):
            problems[place] = problem = self.problem(place, left)
            plan = self.standing[place] if place in kept else self._plan(problem, picked.get(place), place)
            if plan is None:
                return None
            left.draw(plan)
            plans[place] = plan
        return _Carried(plans, problems, kept)

    def _plan(self, problem: Problem, departing: Sequence[Departing] | None, place: int) -> Plan | None:
        plan = None if departing is None else _built(Options(self._atlas, problem), departing)
        latest = self.wave.wishes[place].latest
        if latest is None:
            return plan or solve(problem, self._atlas)
        if plan is None or plan.unserved or Held(plan.shipments, plan.assignments).latest > latest:
            return None
        return plan

    def _needless(self, made: _Carried) -> frozenset[int]:
        """Orders that were planned again and could as well stay as they are, one after another."""
        left = Left(self.wave.facts)
        for plan in made.plans.values():
            left.draw(plan)
        found: set[int] = set()
        for place in sorted(set(self.standing) - made.kept):
            before, after = self.standing[place], made.plans[place]
            left.draw(after, -1)
            stays = before.objective <= after.objective and left.holds(before, self._atlas)
            left.draw(before if stays else after)
            if stays:
                found.add(place)
        return frozenset(found)


def _built(options: Options, departing: Sequence[Departing]) -> Plan | None:
    """The plan of what departs; None where what it needs is not left, or it would leave on other days."""
    if len({(each.route[0], each.day) for each in departing}) < len(departing):
        return None
    blocks = []
    used: dict[tuple[str, str], Quantity] = {}
    for each in sorted(departing, key=lambda each: each.day):
        ways = {way.route.key: way for way in options.by_node.get(each.route[0], ())}
        block = Block(ways[each.route], each.pieces, each.day, not_before=each.day) if each.route in ways else None
        if block is None or not _can_leave(options, block, used):
            return None
        blocks.append(block)
    plan = build(options, blocks)
    days = sorted(each.day for each in departing)
    return plan if sorted(shipment.ship_on.toordinal() for shipment in plan.shipments) == days else None


def _can_leave(options: Options, block: Block, used: dict[tuple[str, str], Quantity]) -> bool:
    """Whether a node still has, on the day of a block, the goods and the slots it takes, after what is `used`."""
    way, day, node = block.way, block.not_before, block.way.route.node.code
    weight_ug = 0
    for goods in (goods for piece in block.pieces for goods in piece.sent):
        key = (goods.item.code, node)
        used[key] = used.get(key, 0) + goods.quantity
        weight_ug += goods.weight_ug
        ready = ready_on(options.shelves(goods.item.code).get(node, ()), used[key])
        if ready is None or ready > day:
            return False
    departure = next((departure for departure in way.departures if departure.ships == day), None)
    if departure is None or options.prices.freight(way.route, weight_ug) is None:
        return False
    need = block.need()
    windows = windows_of(way, departure)
    if not options.terms.policy.capacity_is_hard:
        return bool(windows)
    return any(has_room(options, node, day, window, need) for window in windows)


def _again(options: Options, held: Held) -> Plan | None:
    """What is held, as a plan of today; None where it could not be planned like that any more."""
    departing = []
    for shipment in held.shipments:
        own = [part for part in held.assignments if part.shipment_no == shipment.no]
        pieces = _pieces_held(options, own)
        if not pieces:
            return None
        route = (shipment.node, *shipment.lanes)
        departing.append(Departing(route, shipment.ship_on.toordinal(), pieces))
    plan = _built(options, departing)
    return plan if plan is not None and not plan.unserved else None


def _pieces_held(options: Options, parts: Sequence[Assignment]) -> tuple[Piece, ...]:
    """The pieces of a shipment, worked out from what is in it; none where that is not how a line could be served."""
    found = []
    by_line: dict[int, list[Assignment]] = {}
    for part in parts:
        by_line.setdefault(part.line_no, []).append(part)
    for no, own in sorted(by_line.items()):
        line = options.lines[no]
        sent: dict[str, Quantity] = {}
        for part in own:
            sent[part.item] = sent.get(part.item, 0) + part.quantity
        quantity = sum(part.line_quantity for part in own)
        piece = None
        for alternative in options.atlas.alternatives(line, options.terms):
            goods = None if alternative.across_nodes else options.goods(line, alternative, quantity)
            if goods is not None and sent == {each.item.code: each.quantity for each in goods}:
                piece = Piece(line, alternative, quantity, goods)
                break
        if piece is None:
            return ()
        found.append(piece)
    return tuple(found)


# --- the model ----------------------------------------------------------------------------------------------------

Uses = list[tuple[int, float]]


class _Picking:
    """The MIP that picks columns, or to stay."""

    def __init__(self, scene: _Scene, options: Mapping[int, Options], columns: Columns) -> None:
        self._scene, self._options, self._columns = scene, options, columns
        self._model = Model()
        self._variables = [self._model.variable(column.cost) for column in columns.found]
        self._stays = {
            place: self._model.variable(plan.objective)
            for place, plan in scene.standing.items()
            if place not in scene.fixed
        }
        self._groups: list[tuple[list[int], list[tuple[int, int]]]] = []
        self._cover()
        self._share_stock()
        self._share_slots()

    def pick(self) -> tuple[Picked, int, int]:
        """What leaves of each order that is served whole, the gap that is left, and the number of columns."""
        size = len(self._variables) + sum(len(days) for _, days in self._groups)
        solution = self._model.minimise(MOST_NODES) if self._variables else None
        if solution is None:
            return {}, 0, size
        days: dict[int, int] = {}
        for members, shares in self._groups:
            open_days = iter([day for day, variable in shares for _ in range(solution.count(variable))])
            for number in members:
                if solution.count(self._variables[number]):
                    days[number] = next(open_days)
        picked: dict[int, list[tuple[Column, int]]] = {}
        for number, (column, variable) in enumerate(zip(self._columns.found, self._variables, strict=True)):
            if solution.count(variable):
                day = days[number] if number in days else self._columns.days(column)[0][0]
                picked.setdefault(column.order, []).append((column, day))
        whole = {
            place: [self._departing(column, day) for column, day in found]
            for place, found in picked.items()
            if sum(len(column.lines) for column, _ in found) == len(self._scene.wave.wishes[place].demand.open)
        }
        return whole, solution.gap_ppm, size

    def _departing(self, column: Column, day: int) -> Departing:
        way, departure = self._columns.leaving(column, day)
        return Departing(way.route.key, departure.ships, column.pieces)

    def _cover(self) -> None:
        """Each line is in one column, stays, or waits; the order's limits on shipments, and what splits cost."""
        model, wishes = self._model, self._scene.wave.wishes
        by_line: dict[tuple[int, int], list[int]] = {}
        by_order: dict[int, list[int]] = {}
        for column, variable in zip(self._columns.found, self._variables, strict=True):
            by_order.setdefault(column.order, []).append(variable)
            for place in column.lines:
                by_line.setdefault((column.order, place), []).append(variable)
        waits: dict[int, list[int]] = {}
        for (order, place), members in by_line.items():
            option = self._options[order]
            if order in self._stays:
                # What is planned already never waits again.
                model.row([(member, 1.0) for member in (*members, self._stays[order])], 1, 1)
                continue
            no, quantity = wishes[order].demand.open[place]
            waiting = model.variable(option.prices.waiting(option.catalog.items[option.lines[no].item], quantity))
            waits.setdefault(order, []).append(waiting)
            model.row([(member, 1.0) for member in (*members, waiting)], 1, 1)
        for order, stay in self._stays.items():
            if order not in by_order:
                model.row([(stay, 1.0)], 1, 1)
        for order, members in by_order.items():
            terms = self._options[order].terms
            if terms.max_shipments is not None:
                model.row([(member, 1.0) for member in members], upper=terms.max_shipments)
            self._rules_of_parts(terms, self._options[order], members, waits.get(order, []))

    def _rules_of_parts(self, terms: Terms, options: Options, members: list[int], waits: list[int]) -> None:
        if len(options.problem.demand.open) == 1:
            return
        split = options.prices.weighted(CostKind.SPLIT, terms.split_cost.times(1))
        if split:
            splits = self._model.variable(split, INFINITE, integer=False)
            self._model.row([(splits, 1.0), *((member, -1.0) for member in members)], lower=-1)
        if terms.ship_complete:
            for waiting in waits[1:]:
                self._model.row([(waiting, 1.0), (waits[0], -1.0)], 0, 0)

    def _share_stock(self) -> None:
        """What leaves of an item at a node, by orders that may use the same positions, is on the shelf by then."""
        held: dict[_ShelfKey, tuple[Quantity, Quantity]] = {}
        uses: dict[_ShelfKey, tuple[Uses, Uses]] = {}
        for column, variable in zip(self._columns.found, self._variables, strict=True):
            options = self._options[column.order]
            for goods in (goods for piece in column.pieces for goods in piece.sent):
                shelf = options.shelves(goods.item.code)[column.node]
                positions = (
                    (shelf[0].place.position,)
                    if len(shelf) == 1
                    else tuple(sorted({source.place.position for source in shelf}))
                )
                key = (goods.item.code, column.node, positions)
                if key not in uses:
                    uses[key] = ([], [])
                on_hand = sum([source.quantity for source in shelf if not source.ready])
                total = sum([source.quantity for source in shelf])
                before = held.get(key, (0, 0))
                held[key] = max(before[0], on_hand), max(before[1], total)
                if not column.ready:
                    uses[key][0].append((variable, float(goods.quantity)))
                uses[key][1].append((variable, float(goods.quantity)))
        self._stay_on_shelf(uses)
        for key in sorted(uses):
            within = [k for k in uses if k[:2] == key[:2] and set(k[2]) <= set(key[2])] if len(key[2]) > 1 else [key]
            for kind in (0, 1):
                terms = [use for k in within for use in uses[k][kind]]
                if self._could_exceed(terms, held[key][kind]):
                    self._model.row(terms, upper=held[key][kind])

    def _stay_on_shelf(self, uses: Mapping[_ShelfKey, tuple[Uses, Uses]]) -> None:
        """What stays is still on the shelf it was taken from."""
        if not self._stays:
            return
        shelves: dict[tuple[str, str, int], list[_ShelfKey]] = {}
        for key in uses:
            for position in key[2]:
                shelves.setdefault((key[0], key[1], position), []).append(key)
        for place, variable in self._stays.items():
            for part in self._scene.standing[place].assignments:
                # Of several the one with the fewest positions: the others count it in.
                found = shelves.get((part.item, part.node, part.position))
                if found:
                    key = min(found, key=lambda key: (len(key[2]), key))
                    if part.receipt is None:
                        uses[key][0].append((variable, float(part.quantity)))
                    uses[key][1].append((variable, float(part.quantity)))

    def _share_slots(self) -> None:
        """Slots limit what leaves a day, those with the same hours together; the windows of a day are added up.

        Columns alike to the slots of their node are a group: what it sends on a day is one variable.
        """
        uses: dict[_SlotsKey, Uses] = {}
        limits: dict[_SlotsKey, int] = {}
        groups: dict[tuple[str, int, tuple[int, ...]], list[int]] = {}
        for number, column in enumerate(self._columns.found):
            options = self._options[column.order]
            node = options.network.nodes[column.node]
            if not options.terms.policy.capacity_is_hard or not node.slots:
                continue
            needs = tuple([column.need.of(unit) for unit in _units(node.slots)])
            groups.setdefault((column.node, column.profile, needs), []).append(number)
        for (code, profile, needs), members in groups.items():
            days = self._columns.profiles[profile]
            column = self._columns.found[members[0]]
            options = self._options[column.order]
            sharing: list[tuple[int, list[int]]] = [(days[0][0], [self._variables[number] for number in members])]
            if len(days) > 1:
                shares = [(day, self._model.variable(extra, len(members))) for day, extra in days]
                terms = [(self._variables[number], 1.0) for number in members]
                self._model.row([*terms, *((variable, -1.0) for _, variable in shares)], 0, 0)
                self._groups.append((members, shares))
                sharing = [(day, [variable]) for day, variable in shares]
            units = _units(options.network.nodes[code].slots)
            for day, variables in sharing:
                for unit, free in self._free(options, column, day).items():
                    key = (code, day, unit)
                    limits[key] = max(limits.get(key, 0), free)
                    need = float(needs[units.index(unit)])
                    uses.setdefault(key, []).extend((variable, need) for variable in variables)
        self._stay_in_slots(uses)
        for key, terms in sorted(uses.items()):
            if self._could_exceed(terms, limits[key]):
                self._model.row(terms, upper=limits[key])

    def _stay_in_slots(self, uses: Mapping[_SlotsKey, Uses]) -> None:
        """What stays keeps its slots."""
        for place, variable in self._stays.items():
            nodes = self._options[place].network.nodes
            for booking in (each for shipment in self._scene.standing[place].shipments for each in shipment.bookings):
                key = (booking.node, booking.day.toordinal(), nodes[booking.node].slots[booking.slot].unit)
                if key in uses:
                    uses[key].append((variable, float(booking.quantity)))

    def _free(self, options: Options, column: Column, day: int) -> dict[CapacityUnit, int]:
        """What is left of the slots of a node on a day, by what they count."""
        way, departure = self._columns.leaving(column, day)
        slots, found = way.route.node.slots, dict[CapacityUnit, int]()
        for number in (number for window in windows_of(way, departure) for number in window):
            left = slots[number].limit - options.taken.get((column.node, day, number), 0)
            found[slots[number].unit] = found.get(slots[number].unit, 0) + max(0, left)
        return found

    def _could_exceed(self, terms: Sequence[tuple[int, float]], limit: float) -> bool:
        """Whether a row could bind; most shelves and slots are ample, and their rows would only slow the solver."""
        upper = self._model.upper
        return sum([coefficient * upper[variable] for variable, coefficient in terms]) > limit


_ShelfKey = tuple[str, str, tuple[int, ...]]
"""An item at a node, and the positions that orders of one kind may use of it."""

_SlotsKey = tuple[str, int, CapacityUnit]
"""A node, a day, and what some of its slots count."""


def _units(slots: Sequence[Slot]) -> list[CapacityUnit]:
    return sorted({slot.unit for slot in slots})
