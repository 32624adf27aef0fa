"""Every way a line could be served, and the reason where a way is closed (docs/sourcing.md, "Stock").

`Options` is one order's view of an `Atlas` with the facts of its decision: the routes left, what each node could give
each line, and what that costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Final, NamedTuple
from uuid import UUID

from poolwise.core.orders import Line
from poolwise.core.policy.terms import SubstitutionMode
from poolwise.core.sourcing.atlas import Alternative, Atlas, OpenRoute, carries
from poolwise.core.sourcing.costs import Part, Sent, deadline, weight_of
from poolwise.core.sourcing.partition import NEVER
from poolwise.core.sourcing.plan import Elimination, Unserved
from poolwise.core.sourcing.problem import (
    CapacityFact,
    Facts,
    ItemStock,
    PickFact,
    Place,
    Positions,
    Problem,
    ReceiptFact,
)
from poolwise.core.sourcing.routes import Departure, Need, book
from poolwise.core.values import Cost, Quantity


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


NOTHING: Final = ItemStock(Positions("", (), b"", {}, frozenset()), ())
"""The stock of an item that is nowhere."""

NO_RECORDS: Final[Mapping[str, Sequence[PickFact]]] = MappingProxyType({})


class Market(NamedTuple):
    """What there is at an instant: stock and receipts by item, taken capacity, records of picks by class of items."""

    at: datetime
    stock: Mapping[str, ItemStock]
    receipts: Mapping[str, Sequence[ReceiptFact]]
    capacity: tuple[CapacityFact, ...]
    misses: Mapping[str, Sequence[PickFact]] = NO_RECORDS


class Options:
    """One order's ways: the routes left open at the instant of its decision, and shelves of what nodes offer."""

    def __init__(self, atlas: Atlas, problem: Problem, market: Market | None = None) -> None:
        """The problem's edition and policy are those of the atlas; stock is that of its facts, or of a market."""
        assert problem.edition.hash == atlas.edition.hash
        self.problem = problem
        self.order = problem.demand.order
        self.network = problem.edition.network
        self.catalog = problem.edition.catalog
        self.terms = problem.terms
        self.atlas = atlas
        self.access = atlas.access(self.order, self.terms)
        self.prices = atlas.prices
        self.deadline = deadline(self.network, self.order, self.terms)
        self.openings = atlas.openings(self.access, self.order, self.terms, problem.facts.at, self.deadline)
        self.routes = self.openings.ways
        self.by_node = self.openings.by_node
        self.closed = self.openings.closed
        self.taken = atlas.taken(problem.facts.capacity)
        self.lines = {line.no: line for line in self.order.lines}
        found = _market(problem.facts) if market is None else market
        self._stock = found.stock
        self._receipts = {} if self.terms.on_hand_only else found.receipts
        self._shelves: dict[str, dict[str, Shelf]] = {}
        self._spots: dict[str, dict[str, tuple[Place, Quantity]]] = {}
        self._counts_misses = atlas.policy.policy.counts_misses
        self._misses = found.misses
        self._missing: dict[str, list[Cost]] = {}

    def missing(self, line: Line) -> Sequence[Cost]:
        """By node what it costs to count on its finding a line; nothing where the policy does not ask."""
        if not self._counts_misses:
            return ()
        item_class = self.catalog.items[line.item].product
        costs = self._missing.get(item_class)
        if costs is None:
            nodes = self.access.nodes
            costs = self._missing[item_class] = [self.prices.missing(0, 0)] * len(nodes)
            for node, found, missed in self._misses.get(item_class, ()):
                if node in nodes:
                    costs[nodes[node]] = self.prices.missing(found, missed)
        return costs

    def missing_at(self, line: Line, node: str) -> Cost:
        """The same at one node."""
        missing = self.missing(line)
        return missing[self.access.nodes[node]] if missing else 0

    def parts_on(self, way: OpenRoute, departure: Departure) -> tuple[Part, ...]:
        """What a shipment that leaves on a day costs whatever is in it."""
        if departure is way.first:
            return self.openings.parts[way.index]
        key = (way.index, departure.ships)
        found = self.openings.later.get(key)
        if found is None:
            found = self.prices.on_day(way.route, departure, way.first, way.today, self.deadline, way.penalty)
            self.openings.later[key] = found
        return found

    def alternatives(self, line: Line, quantity: Quantity) -> tuple[Alternative, ...]:
        """The ways to serve a quantity of a line that something is there for."""
        every = self.atlas.alternatives(line, self.terms)
        if len(every) == 1:
            return every if self.shelves(line.item) else ()
        found = []
        for alternative in every:
            short_only = self.terms.substitution == SubstitutionMode.WHEN_SHORT
            if alternative.substitution is not None and short_only and self._own_suffices(line, quantity):
                break
            if all(self.shelves(code) for code, _ in alternative.needs):
                found.append(alternative)
        return tuple(found)

    def _own_suffices(self, line: Line, quantity: Quantity) -> bool:
        """Whether the item itself is on hand for the line, over all nodes that may send it."""
        item = self.catalog.items[line.item]
        for node, shelf in self.shelves(line.item).items():
            if any(carries(way.route, item) for way in self.by_node[node]):
                quantity -= sum(source.quantity for source in shelf if not source.ready)
                if quantity <= 0:
                    return True
        return False

    def shelves(self, item: str) -> dict[str, Shelf]:
        """What each node with an open route offers of an item, in the order it is taken; empty shelves left out."""
        found = self._shelves.get(item)
        if found is None:
            found = self._shelves[item] = self._stock_up(item)
        return found

    def shelf(self, item: str, node: str) -> Shelf:
        """What a node offers of an item; it offers something."""
        spot = None if item in self._shelves else self._spots.get(item, {}).get(node)
        if spot is None:
            return self.shelves(item)[node]
        place, available = spot
        standing = self.access.kind.standings[place.position]
        assert standing is not None
        return (Source(place, available - standing.withheld, available, standing.rank),)

    def in_one_spot(self, item: str, node: str) -> Quantity:
        """What a node offers of an item that it has in one position at most; 0 where it is out of it."""
        stock = self._stock.get(item, NOTHING)
        for place, available in zip(stock.positions.places, stock.available, strict=True):
            if place.node == node:
                standing = self.atlas.standing(self.access, self.order, place)
                if standing is not None:
                    self._spots.setdefault(item, {})[node] = (place, available)
                    return available - standing.withheld
        return 0

    def spots(self, item: str, quantity: Quantity) -> tuple[list[Cost], list[str]] | None:
        """By node 0 where a quantity of an item is drawn at no cost, else NEVER; and the nodes where it has a price.

        None where a node with an open route has it in more than one position, or in lots, or as a receipt; and where no
        node has that much but some of it is there.
        """
        if item in self._receipts:
            return None
        access = self.access
        standings, by_node, nodes = access.kind.standings, self.by_node, access.nodes
        free_from = access.drawing_is_free_from
        drawn = [NEVER] * len(nodes)
        priced: list[str] = []
        found: dict[str, tuple[Place, Quantity]] = {}
        left = 0
        stock = self._stock.get(item, NOTHING)
        for place, available in zip(stock.positions.places, stock.available, strict=True):
            node, position = place.node, place.position
            if node not in by_node:
                continue
            standing = standings[position] if position in standings else self.atlas.standing(access, self.order, place)
            if standing is None:
                continue
            if node in found or place.expires_on is not None:
                return None
            found[node] = (place, available)
            left = max(left, available - standing[1])
            if available - standing[1] >= quantity:
                if free_from is not None and available >= free_from:
                    drawn[nodes[node]] = 0
                else:
                    priced.append(node)
        self._spots[item] = found
        return (drawn, priced) if left >= quantity or left <= 0 else None

    def _stock_up(self, item: str) -> dict[str, Shelf]:
        """Nearly every node has one position of an item, and no receipt; the rest is for `_arrange`."""
        if item in self._receipts:
            return self._arrange(item)
        decided_on = self.problem.facts.at.date()
        standings, nodes = self.access.kind.standings, self.by_node
        shelves: dict[str, Shelf] = {}
        empty: list[str] = []
        stock = self._stock.get(item, NOTHING)
        for place, available in zip(stock.positions.places, stock.available, strict=True):
            node, position = place.node, place.position
            if node not in nodes or (place.expires_on is not None and place.expires_on <= decided_on):
                continue
            if node in shelves or node in empty:
                return self._arrange(item)
            standing = (
                standings[position] if position in standings else self.atlas.standing(self.access, self.order, place)
            )
            if standing is not None:
                rank, withheld = standing
                if available > withheld:
                    shelves[node] = (Source(place, available - withheld, available, rank),)
                else:
                    empty.append(node)
        return shelves

    def _arrange(self, item: str) -> dict[str, Shelf]:
        """The same where nodes have several positions of an item, or receipts of it."""
        decided_on = self.problem.facts.at.date()
        sources: dict[str, list[Source]] = {}
        for place, available in self._stock.get(item, ()):
            self._add(sources, decided_on, Source(place, available, available, 0))
        for receipt, place, due_on, amount in self._receipts.get(item, ()):
            self._add(sources, decided_on, Source(place, amount, amount, 0, due_on.toordinal(), receipt))
        shelves = {node: self._arranged(found) for node, found in sources.items()}
        return {node: shelf for node, shelf in shelves.items() if shelf}

    def _add(self, sources: dict[str, list[Source]], decided_on: date, source: Source) -> None:
        """Add a source to those of its node, if the order may use it."""
        place = source.place
        if place.node in self.by_node and (place.expires_on is None or place.expires_on > decided_on):
            standing = self.atlas.standing(self.access, self.order, place)
            if standing is not None:
                sources.setdefault(place.node, []).append(source._replace(rank=standing.rank))

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
        items = self.catalog.items
        if alternative.name == line.item:
            item = items[line.item]
            return (Sent(item, line_quantity, weight_of(line, item, line_quantity, line_quantity)),)
        units = alternative.units(line_quantity)
        if units is None:
            return None
        if alternative.parts:
            return tuple(Sent(items[code], count, items[code].weight_of(count)) for code, count in units)
        code, count = units[0]
        return (Sent(items[code], count, weight_of(line, items[code], line_quantity, count)),)

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
        return Unserved(line.no, waiting, self._why_waiting(line, wanted, waiting), expected)

    def _why_waiting(self, line: Line, wanted: set[str], waiting: Quantity) -> Elimination:
        item = self.catalog.items[line.item]
        if not self.routes:
            reasons = [reason for _, reason in self.access.closed] + [reason for _, reason, _ in self.closed]
            return min(reasons, key=list(Elimination).index, default=Elimination.LANE_MISSING)
        if not any(carries(way.route, item) for way in self.routes):
            return Elimination.CAPABILITY
        if any(self.shelves(code) for code in wanted):
            return self._why_not_taken(line, waiting)
        held = any(
            fact.place.item in wanted and fact.available and fact.place.pool in self.access.pools
            for fact in self.problem.facts.stock
        )
        return Elimination.BUFFER if held else Elimination.INVENTORY

    def _why_not_taken(self, line: Line, waiting: Quantity) -> Elimination:
        """There is something on a shelf: capacity, a split rule, a value threshold, the cost, or too little of it."""
        latest = self.problem.facts.at.date().toordinal() + self.terms.policy.horizon_days
        sources = [source for shelf in self.shelves(line.item).values() for source in shelf]
        offered = sum(source.quantity for source in sources if source.ready <= latest)
        full = all(
            book(way.route.node, day.ships, way.departures.windows(day.ships), Need(1, 1, 1), self.taken, hard=True)
            is None
            for way in self.routes
            for day in way.departures
        )
        if full and self.terms.policy.capacity_is_hard:
            return Elimination.CAPACITY
        terms, whole = self.terms, offered >= line.quantity
        may_split = terms.max_shipments != 1 if whole else not terms.ship_complete
        if terms.min_shipment_value.numerator > 0 and waiting == line.quantity and offered and may_split:
            return Elimination.VALUE
        if self._could_go_alone(line, waiting, latest):
            return Elimination.COST
        return Elimination.SPLIT_RULE if whole else Elimination.INVENTORY

    def _could_go_alone(self, line: Line, waiting: Quantity, latest: int) -> bool:
        """Whether a line of which all waits could have been one more shipment, from where it is."""
        terms, item, open_ = self.terms, self.catalog.items[line.item], dict(self.problem.demand.open)
        is_bound = terms.ship_complete or line.together or terms.min_shipment_value.numerator > 0
        others = [self.lines[no] for no in open_ if no != line.no]
        is_bound = is_bound or terms.max_shipments is not None or any(each.item == line.item for each in others)
        if waiting < open_[line.no] or (is_bound and others):
            return False
        weight_ug = weight_of(line, item, waiting, waiting)
        days = {node: ready_on(shelf, waiting) for node, shelf in self.shelves(line.item).items()}
        return any(
            (ready := days.get(way.route.node.code)) is not None
            and ready <= latest
            and carries(way.route, item)
            and self.prices.freight(way.route, weight_ug) is not None
            for way in self.routes
        )


def _market(facts: Facts) -> Market:
    """What some facts say, by item."""
    receipts: dict[str, list[ReceiptFact]] = {}
    for receipt in facts.receipts:
        receipts.setdefault(receipt.place.item, []).append(receipt)
    stock = {own.positions.item: own for own in facts.shelves}
    return Market(facts.at, stock, receipts, facts.capacity, dict(facts.misses))


def _lot_order(source: Source) -> tuple[object, ...]:
    """Of stock on hand the lot that expires first, of receipts by due date, then id."""
    place = source.place
    if source.receipt is not None:
        return (source.ready, False, 0, "", 0, str(source.receipt))
    never = place.expires_on is None
    expires = 0 if place.expires_on is None else place.expires_on.toordinal()
    return (source.ready, never, expires, place.lot, place.position, "")


def ready_on(shelf: Shelf, quantity: Quantity) -> int | None:
    """First day (0 = at once) on which a shelf holds `quantity`; None when it never does."""
    for source in shelf:
        quantity -= source.quantity
        if quantity <= 0:
            return source.ready
    return None


def draw(shelf: Shelf, quantity: Quantity, after: Quantity = 0) -> list[tuple[Source, Quantity]]:
    """Which units of a shelf are taken for `quantity`, in order, `after` so many of it; the shelf holds that much."""
    first = shelf[0]
    if not after and quantity <= first.quantity:
        return [(first, quantity)]
    taken: list[tuple[Source, Quantity]] = []
    for source in shelf:
        there = source.quantity - after
        if there <= 0:
            after = -there
            continue
        after = 0
        part = min(quantity, there)
        taken.append((source, part))
        quantity -= part
        if quantity == 0:
            return taken
    raise AssertionError("more drawn from a shelf than it holds")
