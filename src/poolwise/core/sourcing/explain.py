"""Why a decision came out as it did: every candidate with its reason or its cost, and the smallest change that flips.

Nothing here is stored. It is worked out again from the problem of the decision, by the code that decided (law 8).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from poolwise.core.orders import Line
from poolwise.core.policy.terms import CostKind
from poolwise.core.sourcing.atlas import Alternative, Atlas, OpenRoute, alternatives, carries
from poolwise.core.sourcing.build import Block, Piece, build, leave
from poolwise.core.sourcing.costs import Sent, need_of
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.options import Options
from poolwise.core.sourcing.plan import Elimination, Plan
from poolwise.core.sourcing.problem import Facts, Place, Problem, StockFact, shelves_of
from poolwise.core.sourcing.rivals import Rival, limits, rivals
from poolwise.core.sourcing.routes import Route
from poolwise.core.values import Cost, Quantity, Rate, replace

MOST_FLIPS_TRIED: Final = 24
_PRECEDENCE: Final = {reason: place for place, reason in enumerate(Elimination)}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A position and a route that might serve a line, alone and in full: eliminated, or at a cost.

    `reason` is the first elimination that applies and `detail` what it rests on. `costs` are the weighted parts of
    serving the line from here in a shipment of its own. `taken` is what the plan takes of it for the line.
    """

    line_no: int
    item: str
    node: str
    pool: str
    lot: str
    lanes: tuple[str, ...]
    available: Quantity
    wanted: Quantity
    taken: Quantity
    reason: Elimination | None
    detail: str
    ship_on: date | None = None
    arrive_by: date | None = None
    costs: tuple[tuple[CostKind, Cost], ...] = ()

    @property
    def cost(self) -> Cost:
        """Sum of the parts."""
        return sum(amount for _, amount in self.costs)


@dataclass(frozen=True, slots=True)
class Flip:
    """A change after which the plan would be another: `margin` dearer at a node, or `units` more stock at one."""

    node: str
    item: str
    units: Quantity
    margin: Cost
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The plan again, every candidate considered, and the smallest changes of cost and of stock that flip it.

    `rivals` are other plans as a whole, `limits` by line that waits for stock what allows no more of it.
    """

    plan: Plan
    candidates: tuple[Candidate, ...]
    rivals: tuple[Rival, ...]
    limits: Mapping[int, str]
    dearer: Flip | None
    stocked: Flip | None
    rules: tuple[str, ...]


def explain(problem: Problem, atlas: Atlas, plan: Plan) -> Explanation:
    """Explain the plan that was made of a problem: by the order engine, or, on what its others left, by a wave."""
    options = Options(atlas, problem)
    candidates = tuple(
        candidate
        for no, quantity in problem.demand.open
        for alternative in alternatives(options.catalog, options.lines[no], options.terms)
        for candidate in _candidates(options, plan, options.lines[no], quantity, alternative)
    )
    others = rivals(problem, atlas, plan)
    return Explanation(
        plan=plan,
        candidates=_with_rules(candidates, others),
        rivals=others,
        limits=limits(problem, atlas, plan),
        dearer=_dearer(problem, atlas, plan),
        stocked=_stocked(problem, atlas, plan, candidates),
        rules=options.terms.fired,
    )


def _candidates(
    options: Options, plan: Plan, line: Line, quantity: Quantity, alternative: Alternative
) -> Iterator[Candidate]:
    sent = options.goods(line, alternative, quantity)
    not_short = alternative.substitution is not None and alternative not in options.alternatives(line, quantity)
    wanted = dict(alternative.units(quantity) or ())
    ways = {way.route.key: way for way in options.routes}
    closed = {route.key: (reason, rule) for route, reason, rule in options.closed}
    closed |= {route.key: (reason, "") for route, reason in options.access.closed}
    for item, _ in alternative.needs:
        for fact in options.problem.facts.stock:
            if fact.place.item != item:
                continue
            routes = [route for route in options.atlas.routes(options.order.zone) if route.node.code == fact.place.node]
            base = Candidate(
                line.no, item, fact.place.node, fact.place.pool, fact.place.lot, (), fact.available,
                wanted.get(item, 0), 0, Elimination.LANE_MISSING, f"no lane to zone {options.order.zone}",
            )  # fmt: skip
            if not routes:
                yield base
            for route in routes:
                found = replace(base, lanes=tuple(lane.code for lane in route.lanes), reason=None, detail="")
                found = replace(found, taken=_taken(plan, found))
                barred = _barred(options, fact, route, closed.get(route.key), found)
                if barred is None and not_short:
                    barred = (Elimination.RESTRICTION, f"substitutes only where {line.item} is short")
                if barred is not None:
                    yield replace(found, reason=barred[0], detail=barred[1])
                elif sent is not None:
                    yield _priced(options, ways[route.key], Piece(line, alternative, quantity, sent), found)


def _with_rules(candidates: Iterable[Candidate], others: Iterable[Rival]) -> tuple[Candidate, ...]:
    """The candidates, those that only a forbidden split would use eliminated by the rule that forbids it."""
    lawful = [rival for rival in others if rival.barred is None]
    barred = [rival for rival in others if rival.barred is not None]

    def judged(found: Candidate) -> Candidate:
        if found.reason is not None or found.taken or any(_taken(rival.plan, found) for rival in lawful):
            return found
        for rival in barred:
            if _taken(rival.plan, found):
                cheaper = f"with shipments from {', '.join(rival.nodes)}"
                return replace(found, reason=rival.barred, detail=cheaper, costs=(), ship_on=None, arrive_by=None)
        return found

    return tuple(judged(candidate) for candidate in candidates)


def _taken(plan: Plan, candidate: Candidate) -> Quantity:
    numbers = {shipment.no for shipment in plan.shipments if shipment.lanes == candidate.lanes}
    return sum(
        part.quantity
        for part in plan.assignments
        if part.shipment_no in numbers
        and (part.line_no, part.item, part.node, part.pool, part.lot)
        == (candidate.line_no, candidate.item, candidate.node, candidate.pool, candidate.lot)
    )


def _barred(
    options: Options, fact: StockFact, route: Route, closed: tuple[Elimination, str] | None, candidate: Candidate
) -> tuple[Elimination, str] | None:
    """The first reason, by precedence, why a position cannot serve by a route; None where nothing stands against it."""
    item = options.catalog.items[fact.place.item]
    found: list[tuple[Elimination, str]] = []
    if closed is not None:
        found.append((closed[0], f"rule {closed[1]}" if closed[1] else ""))
    pool_closed = options.access.pools_closed.get(fact.place.pool)
    if pool_closed is not None:
        found.append((pool_closed, f"pool {fact.place.pool}"))
    if not carries(route, item):
        found.append((Elimination.CAPABILITY, f"needs {', '.join(sorted(item.requires)) or 'a longer lane'}"))
    short = _short_of_stock(options, fact, candidate)
    if short is not None:
        found.append(short)
    return min(found, key=lambda entry: _PRECEDENCE[entry[0]], default=None)


def _short_of_stock(options: Options, fact: StockFact, candidate: Candidate) -> tuple[Elimination, str] | None:
    expires, item = fact.place.expires_on, options.catalog.items[fact.place.item]
    if expires is not None and expires <= options.problem.facts.at.date():
        return Elimination.INVENTORY, f"lot {fact.place.lot} has expired on {expires}"
    if candidate.taken:
        return None
    expected = sum(
        receipt.open for receipt in options.problem.facts.receipts if receipt.place.position == fact.place.position
    )
    if fact.available + (0 if options.terms.on_hand_only else expected) < candidate.wanted:
        has, wanted = (Rate(each, item.scale).reduced() for each in (fact.available, candidate.wanted))
        return Elimination.INVENTORY, f"has {has} of {wanted}"
    standing = options.atlas.standing(options.access, options.order, fact.place)
    node = options.network.nodes[fact.place.node]
    held = options.atlas.policy.buffer(fact.place.item, node, fact.place.pool, options.order.channel)
    named = f" ({', '.join(held.buffers)})" if held.buffers else ""
    if held.closed:
        return Elimination.BUFFER, f"closed by buffer{named}"
    if standing is not None and fact.available + expected - standing.withheld < candidate.wanted:
        kept, has = (Rate(each, item.scale).reduced() for each in (standing.withheld, fact.available))
        return Elimination.BUFFER, f"keeps {kept} of {has}{named}"
    return None


def _priced(options: Options, way: OpenRoute, piece: Piece, candidate: Candidate) -> Candidate:
    """The candidate with the cost of sending the whole line from its node, where the node has all of it."""
    node = way.route.node.code
    for goods in piece.sent:
        offered = sum(source.quantity for source in options.shelves(goods.item.code).get(node, ()))
        if offered < goods.quantity:
            if candidate.taken:
                return replace(candidate, detail="part of the line")
            return replace(
                candidate, reason=Elimination.INVENTORY, detail=f"{goods.item.code}: {offered} of {goods.quantity}"
            )
    weight_ug = sum(goods.weight_ug for goods in piece.sent)
    if options.prices.freight(way.route, weight_ug) is None:
        return replace(candidate, reason=Elimination.NO_RATE, detail=f"{_kilograms(weight_ug)} kg")
    ready = _ready(options, node, piece.sent)
    leaving = leave(options, way, ready, need_of(1, piece.sent), options.taken)
    if leaving is None:
        return replace(candidate, reason=Elimination.CAPACITY, detail="no room within the horizon")
    alone = build(options, [Block(way, (piece,), ready)])
    parts: dict[CostKind, Cost] = {}
    for part in alone.costs:
        if part.kind != CostKind.BACKORDER:
            parts[part.kind] = parts.get(part.kind, 0) + part.amount
    return replace(
        candidate,
        ship_on=date.fromordinal(leaving.departure.ships),
        arrive_by=date.fromordinal(leaving.departure.arrives),
        costs=tuple(parts.items()),
    )


def _ready(options: Options, node: str, sent: Iterable[Sent]) -> int:
    latest = 0
    for goods in sent:
        missing = goods.quantity
        for source in options.shelves(goods.item.code)[node]:
            if missing > 0:
                latest = max(latest, source.ready)
                missing -= source.quantity
    return latest


def _kilograms(weight_ug: int) -> str:
    return f"{weight_ug // 10**9}.{weight_ug % 10**9 // 10**6:03d}"


def _dearer(problem: Problem, atlas: Atlas, plan: Plan) -> Flip | None:
    """The node whose loss costs least: were it dearer by that, the plan would do without it."""
    found: list[Flip] = []
    for node in sorted({shipment.node for shipment in plan.shipments})[:MOST_FLIPS_TRIED]:
        facts = problem.facts
        without = replace(
            facts,
            shelves=shelves_of(fact for fact in facts.stock if fact.place.node != node),
            receipts=tuple(fact for fact in facts.receipts if fact.place.node != node),
        )
        other = solve(replace(problem, facts=without), atlas)
        nodes = tuple(shipment.node for shipment in other.shipments)
        # Without a node's stock a line may be short, and what was barred before, allowed: that is no price of the node.
        if other.objective > plan.objective:
            found.append(Flip(node, "", 0, other.objective - plan.objective, nodes))
    return min(found, key=lambda flip: (flip.margin, flip.node), default=None)


def _stocked(problem: Problem, atlas: Atlas, plan: Plan, candidates: Iterable[Candidate]) -> Flip | None:
    """The fewest units of stock at one position after which another plan would be cheaper."""
    tried = {
        (c.item, c.node, c.pool, c.lot): c.wanted - c.available
        for c in candidates
        if c.reason == Elimination.INVENTORY and c.available < c.wanted
    }
    for (item, node, pool, lot), units in sorted(tried.items(), key=lambda entry: (entry[1], entry[0]))[
        :MOST_FLIPS_TRIED
    ]:
        facts = _with_more(problem.facts, (item, node, pool, lot), units)
        other = solve(replace(problem, facts=facts), atlas)
        if other.objective < plan.objective:
            nodes = tuple(shipment.node for shipment in other.shipments)
            return Flip(node, item, units, plan.objective - other.objective, nodes)
    return None


def _with_more(facts: Facts, wanted: tuple[str, str, str, str], units: Quantity) -> Facts:
    def raised(place: Place, available: Quantity) -> StockFact:
        here = (place.item, place.node, place.pool, place.lot) == wanted
        return StockFact(place, available + units if here else available)

    return replace(facts, shelves=shelves_of(raised(fact.place, fact.available) for fact in facts.stock))
