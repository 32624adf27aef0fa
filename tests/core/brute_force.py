"""The cheapest lawful plan of a small problem, found by trying all of them.

Written from docs/sourcing.md and from nothing else: it shares no code with the engines or the verifier. Every way to
spread every line over routes, days and alternatives is enumerated; each combination is drawn from stock, checked and
priced with integers. Candidate rules (ZEN) are not read: the worlds it is used on have none.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple
from zoneinfo import ZoneInfo

from poolwise.core.catalog import Bill
from poolwise.core.network import CapacityUnit, CostCard, Lane
from poolwise.core.orders import Line
from poolwise.core.policy.terms import CostKind, LineSplit, SubstitutionMode
from poolwise.core.sourcing.plan import Assignment, Booking, CostPart, Elimination, Plan, PlannedShipment, Unserved
from poolwise.core.sourcing.problem import Problem
from poolwise.core.values import MICROGRAMS_PER_KG, MILLION, divide_rounded, shares
from tests.core.reading import Cell, Source, World, carries, on_hand, place_of, stockout

Key = tuple[CostKind, int, int]


class Part(NamedTuple):
    """What a line puts of an item into a cell. `way` is itself, part or substitute."""

    cell: int
    line_no: int
    item: str
    quantity: int
    line_quantity: int
    way: str


class Serving(NamedTuple):
    """One way to serve one line: its parts, and what waits."""

    line_no: int
    parts: tuple[Part, ...]
    waiting: int


Prices = dict[tuple[int, tuple[Part, ...]], dict[Key, int] | None]
"""What a shipment costs to travel, by cell and content; None where it cannot. Its number in the keys is 0."""

Hours = dict[int, int]
"""What a shipment books: quantity by slot."""


def solve(problem: Problem) -> Plan:
    """The cheapest plan; ties go to fewer shipments, then to the earlier cells."""
    world, prices = World(problem), Prices()
    best: tuple[int, int, tuple[int, ...], Plan] | None = None
    for combination in itertools.product(*(list(servings(world, no)) for no in world.open)):
        used = sorted({part.cell for serving in combination for part in serving.parts})
        if not is_allowed(world, combination, used):
            continue
        plan = priced_plan(world, prices, combination, used)
        if plan is not None:
            candidate = (plan.objective, len(used), tuple(used), plan)
            if best is None or candidate[:3] < best[:3]:
                best = candidate
    # That everything waits keeps all hard rules.
    assert best is not None
    return best[3]


def size(problem: Problem, limit: int) -> int:
    """How many combinations `solve` would try; more than `limit` is given as limit + 1."""
    world, total = World(problem), 1
    for no in world.open:
        total *= sum(1 for _ in itertools.islice(servings(world, no), limit + 1))
        if total > limit:
            return limit + 1
    return total


# --- how one line may be served


def servings(world: World, line_no: int) -> Iterator[Serving]:
    """Every way to serve a line: whole, where allowed divided in every proportion, or not at all."""
    line, asked = world.lines[line_no], world.open[line_no]
    ways = alternatives(world, line)
    if may_divide(world, line, ways):
        yield from divided(world, line, ways, asked)
        return
    yield Serving(line_no, (), asked)
    for kind, needs in ways:
        if kind == "across":
            yield from across_whole(world, line, needs, asked)
        else:
            for cell in range(len(world.cells)):
                parts = parts_at(world, line, kind, needs, cell, asked)
                if parts:
                    yield Serving(line_no, parts, 0)


Needs = tuple[tuple[str, int, int], ...]
"""Items with the ratio in which they serve the line: numerator / denominator base units of it for one of the line."""


def alternatives(world: World, line: Line) -> list[tuple[str, Needs]]:
    """The item, its parts (kit or across), its substitutes, as far as they are allowed."""
    ways: list[tuple[str, Needs]] = [("itself", ((line.item, 1, 1),))]
    bill: Bill | None = world.catalog.bills.get(line.item) if world.policy.kits_from_parts else None
    if bill:
        needs = tuple((component.item, component.quantity, 1) for component in bill.components)
        ways.append(("across" if bill.across_nodes else "kit", needs))
    if line.substitutes and world.terms.substitution is not SubstitutionMode.NEVER:
        nodes = {route.node for route in world.routes if carries(world, route.lanes, line.item)}
        short = sum(on_hand(world, line.item, node) for node in nodes) < world.open[line.no]
        if short or world.terms.substitution is SubstitutionMode.ALWAYS:
            parts = [component.item for component in bill.components] if bill else []
            for substitution in world.catalog.substitutions.get(line.item, ()):
                if substitution.substitute not in (line.item, *parts):
                    need = (substitution.substitute, substitution.numerator, substitution.denominator)
                    ways.append(("substitute", (need,)))
    return ways


def may_divide(world: World, line: Line, ways: list[tuple[str, Needs]]) -> bool:
    if world.terms.line_split is not LineSplit.WHEN_SHORT:
        return world.terms.line_split is LineSplit.ALWAYS
    asked = world.open[line.no]
    for kind, needs in ways:
        for route in world.routes:
            if (
                kind != "substitute"
                and all(
                    (asked * up) % down == 0
                    and on_hand(world, item, route.node) >= asked * up // down
                    and carries(world, route.lanes, item)
                    for item, up, down in needs
                )
                and fits_at_once(world, line, kind, needs, route.lanes)
            ):
                return False
    return True


def fits_at_once(world: World, line: Line, kind: str, needs: Needs, lanes: tuple[Lane, ...]) -> bool:
    """Whether all that is open of a line weighs no more than every lane takes and prices in one shipment."""
    asked, way = world.open[line.no], "part" if kind in ("kit", "across") else kind
    parts = [
        Part(0, line.no, item, asked * up // down, asked if place == 0 else 0, way)
        for place, (item, up, down) in enumerate(needs)
    ]
    weight_ug = weight_of_all(world, tuple(parts))
    return all(price_of(world, lane, weight_ug) is not None for lane in lanes)


def parts_at(world: World, line: Line, kind: str, needs: Needs, cell: int, served: int) -> tuple[Part, ...]:
    """The parts that serve so much of a line from one cell; none where that is impossible."""
    parts: list[Part] = []
    for item, up, down in needs:
        quantity, remainder = divmod(served * up, down)
        if remainder or quantity > reachable(world, item, cell):
            return ()
        carried = served if not parts else 0
        parts.append(Part(cell, line.no, item, quantity, carried, "part" if kind in ("kit", "across") else kind))
    return tuple(parts)


def reachable(world: World, item: str, cell: int) -> int:
    """What one shipment could at most take of an item."""
    day, node, _, route, _ = world.cells[cell]
    if not carries(world, route.lanes, item):
        return 0
    return sum(source.usable for source in world.sources.get((item, node), ()) if source.due_on <= day)


def across_whole(world: World, line: Line, needs: Needs, asked: int) -> Iterator[Serving]:
    choices = []
    for place, (item, up, _) in enumerate(needs):
        carried = asked if place == 0 else 0
        cells = [cell for cell in range(len(world.cells)) if reachable(world, item, cell) >= asked * up]
        choices.append([Part(cell, line.no, item, asked * up, carried, "part") for cell in cells])
    for parts in itertools.product(*choices):
        yield Serving(line.no, tuple(parts), 0)


def divided(world: World, line: Line, ways: list[tuple[str, Needs]], asked: int) -> Iterator[Serving]:
    """Every division of a line over alternatives, then over cells; what is left waits."""
    for amounts in amounts_up_to(asked, [asked] * len(ways)):
        spread = [
            list(spread_over_cells(world, line, kind, needs, amount) if amount else [()])
            for (kind, needs), amount in zip(ways, amounts, strict=True)
        ]
        for parts in itertools.product(*spread):
            together = tuple(part for some in parts for part in some)
            yield Serving(line.no, together, asked - sum(amounts))


def spread_over_cells(world: World, line: Line, kind: str, needs: Needs, amount: int) -> Iterator[tuple[Part, ...]]:
    cells = range(len(world.cells))
    if kind != "across":
        options = [
            [parts_at(world, line, kind, needs, cell, served) for served in range(1, amount + 1)] for cell in cells
        ]
        caps = [max((served for served, parts in enumerate(o, start=1) if parts), default=0) for o in options]
        for served in amounts_up_to(amount, caps):
            chosen = [options[cell][quantity - 1] for cell, quantity in enumerate(served) if quantity]
            if sum(served) == amount and all(chosen):
                yield tuple(part for parts in chosen for part in parts)
        return
    of_each = []
    for place, (item, up, _) in enumerate(needs):
        caps = [reachable(world, item, cell) for cell in cells]
        exact = [found for found in amounts_up_to(amount * up, caps) if sum(found) == amount * up]
        # The line quantity of the first component is shared among its assignments once they are known.
        carried = amount if place == 0 else 0
        of_each.append(
            [
                tuple(Part(cell, line.no, item, q, carried, "part") for cell, q in enumerate(found) if q)
                for found in exact
            ]
        )
    for parts in itertools.product(*of_each):
        yield tuple(part for some in parts for part in some)


def amounts_up_to(total: int, caps: list[int]) -> Iterator[tuple[int, ...]]:
    """All tuples of non-negative amounts under their caps that add up to at most `total`."""
    if not caps:
        yield ()
        return
    for amount in range(min(total, caps[0]) + 1):
        for rest in amounts_up_to(total - amount, caps[1:]):
            yield (amount, *rest)


# --- one combination of servings


def is_allowed(world: World, combination: tuple[Serving, ...], used: list[int]) -> bool:
    """The rules that need neither stock nor prices: number of shipments, ship-complete, lines that belong together."""
    if world.terms.max_shipments is not None and len(used) > world.terms.max_shipments:
        return False
    if world.terms.ship_complete and used and any(serving.waiting for serving in combination):
        return False
    groups: dict[str, list[Serving]] = {}
    for serving in combination:
        if world.lines[serving.line_no].together:
            groups.setdefault(world.lines[serving.line_no].together, []).append(serving)
    for members in groups.values():
        served = [serving for serving in members if serving.parts]
        if served and any(serving.waiting for serving in members):
            return False
        if len({part.cell for serving in served for part in serving.parts}) > 1:
            return False
    return True


Drawn = dict[Part, list[tuple[Source, int]]]


def priced_plan(world: World, prices: Prices, combination: tuple[Serving, ...], used: list[int]) -> Plan | None:
    """The plan of a combination with its cost, or None when stock, rates, value or slots forbid it."""
    parts = sorted(part for serving in combination for part in serving.parts)
    by_cell = {cell: tuple(part for part in parts if part.cell == cell) for cell in used}
    drawn = draw(world, parts)
    if drawn is None or not leaves_in_time(world, by_cell, drawn):
        return None
    assignments = assigned(world, used, parts, drawn)
    if not is_worth_it(world, combination, used, assignments):
        return None
    costs: dict[Key, int] = {}
    for no, cell in enumerate(used, start=1):
        if (cell, by_cell[cell]) not in prices:
            prices[cell, by_cell[cell]] = travel_costs(world, cell, by_cell[cell])
        found = prices[cell, by_cell[cell]]
        if found is None:
            return None
        for (kind, _, line_no), amount in found.items():
            costs[kind, no, line_no] = amount
    booked = book(world, by_cell, drawn, costs)
    if booked is None:
        return None
    add_stock_costs(world, used, parts, drawn, assignments, costs)
    add_miss_costs(world, used, parts, costs)
    for serving in combination:
        if serving.waiting:
            whole = 10 ** world.catalog.items[world.lines[serving.line_no].item].scale
            fixed = world.weighted(CostKind.BACKORDER, world.policy.backorder_cost_per_line.times(1))
            each = world.policy.backorder_cost_per_unit.times(serving.waiting, whole)
            costs[CostKind.BACKORDER, 0, serving.line_no] = fixed + world.weighted(CostKind.BACKORDER, each)
    if len(used) > 1:
        one = world.weighted(CostKind.SPLIT, world.terms.split_cost.times(1))
        costs[CostKind.SPLIT, 0, 0] = (len(used) - 1) * one
    unserved = [Unserved(s.line_no, s.waiting, Elimination.INVENTORY) for s in combination if s.waiting]
    return Plan(
        tuple(shipment(world, no, cell, by_cell[cell], booked[cell]) for no, cell in enumerate(used, start=1)),
        tuple(assignments),
        tuple(unserved),
        tuple(CostPart(kind, amount, no, line) for (kind, no, line), amount in sorted(costs.items()) if amount),
    )


def draw(world: World, parts: list[Part]) -> Drawn | None:
    """Take every part from its sources, shipment by shipment, line by line; None when they do not reach in time."""
    left: dict[tuple[str, str], list[tuple[Source, int]]] = {}
    drawn: Drawn = {}
    for part in parts:
        cell = world.cells[part.cell]
        found = world.sources.get((part.item, cell.node), [])
        queue = left.setdefault((part.item, cell.node), [(source, source.usable) for source in found])
        wanted, takes = part.quantity, []
        while wanted:
            if not queue or queue[0][0].due_on > cell.day:
                return None
            source, there = queue[0]
            taken = min(wanted, there)
            takes.append((source, taken))
            wanted -= taken
            queue[0] = (source, there - taken)
            if taken == there:
                queue.pop(0)
        drawn[part] = takes
    return drawn


def leaves_in_time(world: World, by_cell: dict[int, tuple[Part, ...]], drawn: Drawn) -> bool:
    """Where a node has no slots a shipment leaves on the first day after its receipts (with slots: see `book`)."""
    for number, own in by_cell.items():
        cell = world.cells[number]
        if not world.network.nodes[cell.node].slots and cell.day != next(free_days(cell, own, drawn)):
            return False
    return True


def free_days(cell: Cell, own: tuple[Part, ...], drawn: Drawn) -> Iterator[date]:
    """Days on which a shipment could leave if every slot had room, earliest first."""
    ready = max(source.due_on for part in own for source, _ in drawn[part])
    return (day for day in cell.route.days if day >= ready)


def assigned(world: World, used: list[int], parts: list[Part], drawn: Drawn) -> list[Assignment]:
    """Assignments by shipment; those of one item share the line's quantity by the largest remainder."""
    numbers = {cell: no for no, cell in enumerate(used, start=1)}
    sharing: dict[tuple[int, int, str], list[int]] = {}
    totals: dict[tuple[int, int, str], int] = {}
    flat: list[tuple[Part, Source, int]] = []
    for part in parts:
        across = part.way == "part" and world.catalog.bills[world.lines[part.line_no].item].across_nodes
        key = (0 if across else part.cell + 1, part.line_no, part.item)
        totals[key] = part.line_quantity
        for source, quantity in drawn[part]:
            sharing.setdefault(key, []).append(len(flat))
            flat.append((part, source, quantity))
    carried = [0] * len(flat)
    for key, places in sharing.items():
        for place, share in zip(places, shares(totals[key], [flat[place][2] for place in places]), strict=True):
            carried[place] = share
    return [
        Assignment(
            part.line_no, numbers[part.cell], part.item, source.position, world.cells[part.cell].node,
            source.pool, source.lot, quantity, carried[place], source.receipt,
        )
        for place, (part, source, quantity) in enumerate(flat)
    ]  # fmt: skip


def is_worth_it(world: World, combination: tuple[Serving, ...], used: list[int], assignments: list[Assignment]) -> bool:
    """With more than one part, each is worth at least the minimum."""
    least = world.terms.min_shipment_value.times(1)
    waiting = any(serving.waiting for serving in combination)
    if least <= 0 or len(used) + waiting < 2:
        return True
    worth = dict.fromkeys(range(len(used) + 1), 0)
    served: dict[tuple[int, int], int] = {}
    for each in assignments:
        key = (each.shipment_no, each.line_no)
        served[key] = served.get(key, 0) + each.line_quantity
    for serving in combination:
        served[0, serving.line_no] = serving.waiting
    for (no, line_no), quantity in served.items():
        worth[no] += value(world, world.lines[line_no], quantity)
    return all(amount >= least for no, amount in worth.items() if no or waiting)


def value(world: World, line: Line, quantity: int) -> int:
    if line.unit_price is None:
        return 0
    price = world.network.in_costing_currency(line.unit_price, world.today) or 0
    return divide_rounded(price * quantity, 10 ** world.catalog.items[line.item].scale)


# --- prices


def weight_of(world: World, part: Part, quantity: int, line_quantity: int) -> int:
    line = world.lines[part.line_no]
    if line.weight_ug is not None and part.way != "part":
        return divide_rounded(line.weight_ug * line_quantity, line.quantity)
    return world.catalog.items[part.item].weight_of(quantity)


def weight_of_all(world: World, own: tuple[Part, ...]) -> int:
    return sum(weight_of(world, part, part.quantity, part.line_quantity) for part in own)


def price_of(world: World, lane: Lane, weight_ug: int) -> int | None:
    """What a lane costs for a weight; None without a rate."""
    if lane.rates not in world.network.rates or 0 < lane.max_weight_ug < weight_ug:
        return None
    for band in world.network.rates[lane.rates].bands:
        if band.above_ug < weight_ug <= band.up_to_ug or weight_ug == band.above_ug == 0:
            by_weight = band.per_kg.times(weight_ug, MICROGRAMS_PER_KG)
            return max(band.minimum.times(1), band.fixed.times(1) + by_weight)
    return None


def emitted(lanes: tuple[Lane, ...], weight_ug: int) -> int:
    """Milligrams of CO2 equivalent."""
    total = 0
    for lane in lanes:
        total += lane.co2e_g.times(1) + lane.co2e_g_per_kg.times(weight_ug, MICROGRAMS_PER_KG)
    return divide_rounded(total, 1_000)


def travel_costs(world: World, number: int, own: tuple[Part, ...]) -> dict[Key, int] | None:
    """All costs of a shipment that do not depend on where in the node its goods lie, its number left at 0."""
    cell, weight_ug, policy = world.cells[number], weight_of_all(world, own), world.policy
    lanes = cell.route.lanes
    costs: dict[Key, int] = {}

    def add(kind: CostKind, amount: int, line_no: int = 0) -> None:
        costs[kind, 0, line_no] = costs.get((kind, 0, line_no), 0) + world.weighted(kind, amount)

    def handle(kind: CostKind, card: CostCard) -> None:
        add(kind, card.per_shipment.times(1))
        for line_no in {part.line_no for part in own}:
            add(kind, card.per_line.times(1), line_no)
        for part in own:
            add(kind, card.per_unit.times(part.quantity, 10 ** world.catalog.items[part.item].scale), part.line_no)
            part_ug = weight_of(world, part, part.quantity, part.line_quantity)
            add(kind, card.per_kg.times(part_ug, MICROGRAMS_PER_KG), part.line_no)

    handle(CostKind.HANDLING, world.network.nodes[cell.node].costs)
    for lane in lanes:
        price = price_of(world, lane, weight_ug)
        if price is None:
            return None
        add(CostKind.TRANSFER if lane.to_node else CostKind.FREIGHT, price)
        if lane.to_node:
            reached = world.network.nodes[lane.destination].costs
            handle(CostKind.TRANSFER, reached)
            for part in own:
                whole = 10 ** world.catalog.items[part.item].scale
                add(CostKind.TRANSFER, reached.inbound_per_unit.times(part.quantity, whole), part.line_no)
    add(CostKind.CARBON, policy.carbon_price_per_kg.times(emitted(lanes, weight_ug), MILLION))
    add(CostKind.TRANSIT, policy.transit_cost_per_day.times((cell.arrive_by - world.here(cell.node)).days))
    add(CostKind.DELAY, policy.delay_cost_per_day.times((cell.day - cell.route.days[0]).days))
    if world.deadline is not None and cell.arrive_by > world.deadline:
        add(CostKind.LATE, policy.late_cost_per_day.times((cell.arrive_by - world.deadline).days))
    for part in own:
        if part.way == "substitute":
            line = world.lines[part.line_no]
            known = world.catalog.substitutions[line.item]
            penalty = next(known_one.penalty for known_one in known if known_one.substitute == part.item)
            whole = 10 ** world.catalog.items[line.item].scale
            add(CostKind.SUBSTITUTION, penalty.times(part.line_quantity, whole), part.line_no)
    return costs


def add_miss_costs(world: World, used: list[int], parts: list[Part], costs: dict[Key, int]) -> None:
    """For each line in a shipment the share of missed picks of its class at the node, after one of 50 nobody saw."""
    numbers = {cell: no for no, cell in enumerate(used, start=1)}
    for cell, line_no in {(part.cell, part.line_no) for part in parts}:
        node, item_class = world.cells[cell].node, world.catalog.items[world.lines[line_no].item].product
        known = dict(world.problem.facts.misses).get(item_class, ())
        facts = [fact for fact in known if fact.node == node]
        missed, picks = 1 + sum(fact.missed for fact in facts), 50 + sum(fact.found + fact.missed for fact in facts)
        amount = world.policy.miss_cost_per_line.times(divide_rounded(missed * MILLION, picks), MILLION)
        costs[CostKind.MISS, numbers[cell], line_no] = world.weighted(CostKind.MISS, amount)


def add_stock_costs(
    world: World,
    used: list[int],
    parts: list[Part],
    drawn: Drawn,
    assignments: list[Assignment],
    costs: dict[Key, int],
) -> None:
    """Pool and stock-out parts: of what each group gives to a line's item in a shipment."""
    numbers = {cell: no for no, cell in enumerate(used, start=1)}
    for part in parts:
        no, whole = numbers[part.cell], 10 ** world.catalog.items[part.item].scale
        pool_key, stock_key = (CostKind.POOL, no, part.line_no), (CostKind.STOCKOUT, no, part.line_no)
        for code in dict.fromkeys(source.pool for source, _ in drawn[part]):
            given = [(source, quantity) for source, quantity in drawn[part] if source.pool == code]
            quantity = sum(taken for _, taken in given)
            carried = sum(
                each.line_quantity
                for each in assignments
                if (each.shipment_no, each.line_no, each.item, each.pool) == (no, part.line_no, part.item, code)
            )
            pool, place = world.network.pools[code], place_of(world, code)
            for amount in (
                pool.per_unit.times(quantity, whole),
                pool.per_kg.times(weight_of(world, part, quantity, carried), MICROGRAMS_PER_KG),
                world.policy.pool_rank_cost.times(quantity * place, whole),
            ):
                costs[pool_key] = costs.get(pool_key, 0) + world.weighted(CostKind.POOL, amount)
            at_hand = sum(taken for source, taken in given if source.receipt is None)
            avoided = stockout(world, part.item, given[0][0].there, at_hand)
            costs[stock_key] = costs.get(stock_key, 0) + world.weighted(CostKind.STOCKOUT, avoided)


def shipment(world: World, no: int, number: int, own: tuple[Part, ...], booked: Hours) -> PlannedShipment:
    cell, weight_ug = world.cells[number], weight_of_all(world, own)
    bookings = tuple(Booking(cell.node, cell.day, slot, quantity) for slot, quantity in sorted(booked.items()))
    co2e_mg = emitted(cell.route.lanes, weight_ug)
    return PlannedShipment(no, cell.node, cell.codes, cell.day, cell.arrive_by, weight_ug, co2e_mg, bookings)


# --- slots


def book(
    world: World, by_cell: dict[int, tuple[Part, ...]], drawn: Drawn, costs: dict[Key, int]
) -> dict[int, Hours] | None:
    """Hours for every shipment, or None. Soft capacity adds its penalty to `costs`."""
    choices = {cell: hours_on(world, cell, world.cells[cell].day, own) for cell, own in by_cell.items()}
    if not all(choices.values()):
        return None
    if world.policy.capacity_is_hard:
        for chosen in itertools.product(*choices.values()):
            booked = dict(zip(choices, chosen, strict=True))
            if fits(world, booked) and is_earliest(world, by_cell, drawn, booked):
                return booked
        return None
    booked = {}
    for no, cell in enumerate(by_cell, start=1):
        where = (world.cells[cell].node, world.cells[cell].day)
        roomy = [hours for hours in choices[cell] if has_room(world, *where, hours, booked)]
        hours = (roomy or choices[cell])[0]
        before = overflow(world, booked)
        booked[cell] = hours
        after = overflow(world, booked)
        key = (CostKind.CAPACITY, no, 0)
        for slot, (amount, per) in after.items():
            further = amount - before.get(slot, (0, 1))[0]
            penalty = world.policy.capacity_penalty.times(further, per)
            costs[key] = costs.get(key, 0) + world.weighted(CostKind.CAPACITY, penalty)
    return booked if is_earliest(world, by_cell, drawn, booked) else None


def hours_on(world: World, number: int, day: date, own: tuple[Part, ...]) -> list[Hours]:
    """The choices of hours a shipment has on a day, with what it would book; one empty choice without slots."""
    node = world.network.nodes[world.cells[number].node]
    if not node.slots:
        return [{}]
    now = world.problem.facts.at.astimezone(ZoneInfo(node.time_zone))
    dated = any(slot.only_on == day for slot in node.slots)
    choices: dict[tuple[str, str], Hours] = {}
    for place, slot in enumerate(node.slots):
        applies = slot.only_on == day if dated else slot.only_on is None and day.weekday() in slot.weekdays
        if applies and (day > now.date() or now.time() < slot.until):
            hours = (slot.since.isoformat("microseconds"), slot.until.isoformat("microseconds"))
            choices.setdefault(hours, {})[place] = counted(world, slot.unit, own)
    return [choices[hours] for hours in sorted(choices)]


def counted(world: World, unit: CapacityUnit, own: tuple[Part, ...]) -> int:
    if unit is CapacityUnit.ORDERS:
        return 1
    if unit is CapacityUnit.LINES:
        return len({part.line_no for part in own})
    if unit is CapacityUnit.WEIGHT:
        return -(-weight_of_all(world, own) // 1_000_000)
    # Twelve places are finer than any item's scale here.
    fine = sum(part.quantity * 10 ** (12 - world.catalog.items[part.item].scale) for part in own)
    return int(-(-fine // 10**12))


def totals(world: World, booked: dict[int, Hours]) -> dict[tuple[str, date, int], int]:
    """What is taken of each slot that is booked, by others and by these shipments."""
    found: dict[tuple[str, date, int], int] = {}
    for number, hours in booked.items():
        cell = world.cells[number]
        for slot, quantity in hours.items():
            key = (cell.node, cell.day, slot)
            found[key] = found.get(key, world.taken.get(key, 0)) + quantity
    return found


def fits(world: World, booked: dict[int, Hours]) -> bool:
    return all(
        quantity <= world.network.nodes[node].slots[slot].limit
        for (node, _, slot), quantity in totals(world, booked).items()
    )


def overflow(world: World, booked: dict[int, Hours]) -> dict[tuple[str, date, int], tuple[int, int]]:
    """By how much these shipments (not others before them) take slots over their limits, in what a penalty is per."""
    found = {}
    for (node, day, slot), quantity in totals(world, booked).items():
        known, already = world.network.nodes[node].slots[slot], world.taken.get((node, day, slot), 0)
        beyond = max(0, quantity - known.limit) - max(0, already - known.limit)
        found[node, day, slot] = (beyond, 1_000 if known.unit is CapacityUnit.WEIGHT else 1)
    return found


def is_earliest(world: World, by_cell: dict[int, tuple[Part, ...]], drawn: Drawn, booked: dict[int, Hours]) -> bool:
    """No shipment could leave on an earlier day beside the others."""
    for number, own in by_cell.items():
        cell = world.cells[number]
        others = {other: hours for other, hours in booked.items() if other != number}
        for day in free_days(cell, own, drawn):
            if day >= cell.day:
                break
            choices = hours_on(world, number, day, own)
            soft = not world.policy.capacity_is_hard
            if any(soft or has_room(world, cell.node, day, hours, others) for hours in choices):
                return False
    return True


def has_room(world: World, node: str, day: date, hours: Hours, others: dict[int, Hours]) -> bool:
    taken = totals(world, others)
    for slot, quantity in hours.items():
        already = taken.get((node, day, slot), world.taken.get((node, day, slot), 0))
        if already + quantity > world.network.nodes[node].slots[slot].limit:
            return False
    return True
