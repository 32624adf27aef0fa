"""The orders of a batch, decided together: each as if it were the first, from one table of what there is.

Orders that may go the same ways are priced as one array (orders x sets of lines x routes), and the cheapest way to
share each order out is found for all of one size at once. Those decided before an order take stock and room, which
makes other ways dearer and none cheaper: what was foreseen is still the best if what it takes is there and costs the
same (`as_foreseen`). Else the order is decided again, by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from itertools import chain
from typing import NamedTuple

import numpy as np

from poolwise.core.policy.terms import CostKind, Terms
from poolwise.core.sourcing.atlas import Atlas, Columns, Kind, Openings, OpenRoute
from poolwise.core.sourcing.build import Leaving, Piece, drawing, leave
from poolwise.core.sourcing.costs import deadline, need_of
from poolwise.core.sourcing.options import Market, Options, Source
from poolwise.core.sourcing.partition import NEVER, Ints, partition_alike
from poolwise.core.sourcing.plan import Assignment, CostPart, Plan, PlannedShipment
from poolwise.core.sourcing.problem import Demand, Facts, ItemStock, Problem
from poolwise.core.sourcing.routes import Need
from poolwise.core.sourcing.whole import Sheet, by_route, may_be_full, sent_alone, sheets_of
from poolwise.core.values import Cost, Quantity


class Foreseen(NamedTuple):
    """A plan that serves every line, and what must be left of an item at a position for the plan to stay the best."""

    plan: Plan
    least: tuple[tuple[str, int, Quantity], ...]


class Prepared(NamedTuple):
    """What was worked out of an order together with others: its sheet, and the plan that is best if it is the first.

    It has no sheet where it is left to `exact`.
    """

    sheet: Sheet | None
    foreseen: Foreseen | None = None


class _Member(NamedTuple):
    """An order of a batch at its place."""

    place: int
    demand: Demand
    terms: Terms
    sheet: Sheet


def foresee(atlas: Atlas, asked: Sequence[tuple[Demand, Terms]], market: Market) -> list[Prepared]:
    """What is known of each order of a batch before the first is decided."""
    sheets = sheets_of(atlas, asked)
    prepared = [Prepared(sheet) for sheet in sheets]
    by_size: dict[int, list[_Alike]] = {}
    tables: dict[Kind, _Table] = {}
    risks = _Risks(atlas, market) if atlas.policy.policy.counts_misses else None
    for members in _going_the_same_ways(atlas, asked, sheets, market):
        demand, terms = members[0].demand, members[0].terms
        # The first stands for all of them: only what they want differs.
        problem = Problem(demand, atlas.edition, terms, Facts(market.at, capacity=market.capacity))
        options = Options(atlas, problem, market)
        kind = options.access.kind
        table = tables.get(kind) or tables.setdefault(kind, _Table(options, market))
        known = [each for each in members if table.has_all(each.sheet) and not may_be_full(options, each.sheet)]
        if known:
            by_size.setdefault(len(demand.open), []).append(_Alike(options, table, known, risks))
    for groups in by_size.values():
        waiting = np.array([row for group in groups for row in group.waiting], dtype=np.int64)
        split_cost = np.array([cost for group in groups for cost in group.split_cost], dtype=np.int64)
        best = np.concatenate([group.best for group in groups])
        ways = np.concatenate([group.ways for group in groups]).tolist()
        everyone = ((group, *each) for group in groups for each in zip(group.members, group.alone, strict=True))
        for (group, member, alone), masks, routes in zip(
            everyone, partition_alike(best, waiting, split_cost), ways, strict=True
        ):
            if masks is not None and alone:
                foreseen = group.foreseen(member, [(routes[mask], mask) for mask in masks])
                prepared[member.place] = Prepared(member.sheet, foreseen)
    return prepared


def as_foreseen(problem: Problem, atlas: Atlas, foreseen: Foreseen) -> Plan | None:
    """The plan that was foreseen, if it can still be carried out and costs what it did: nothing is better then.

    What was taken since has made no other way cheaper, and of ways that cost the same the first is chosen.
    """
    plan, facts = foreseen.plan, problem.facts
    stock = {own.positions.item: own for own in facts.shelves}
    for item, position, least in foreseen.least:
        if stock[item].at(position) < least:
            return None
    taken, nodes = atlas.taken(facts.capacity), problem.edition.network.nodes
    for shipment in plan.shipments:
        for booking in shipment.bookings:
            key = (booking.node, booking.day.toordinal(), booking.slot)
            if taken.get(key, 0) + booking.quantity > nodes[booking.node].slots[booking.slot].limit:
                return None
    return plan


def _going_the_same_ways(
    atlas: Atlas, asked: Sequence[tuple[Demand, Terms]], sheets: Sequence[Sheet | None], market: Market
) -> Iterable[list[_Member]]:
    """Orders with the same openings and so many lines, without those that have more rules than a cost."""
    found: dict[tuple[Openings, int], list[_Member]] = {}
    for place, ((demand, terms), sheet) in enumerate(zip(asked, sheets, strict=True)):
        if sheet is None or terms.min_shipment_value.numerator > 0:
            continue
        if any(piece.line.together for piece in sheet.pieces):
            continue
        order = demand.order
        due = deadline(atlas.edition.network, order, terms)
        openings = atlas.openings(atlas.access(order, terms), order, terms, market.at, due)
        found.setdefault((openings, len(sheet.pieces)), []).append(_Member(place, demand, terms, sheet))
    return found.values()


class _Table:
    """The stock of a batch as orders of one kind see it, as arrays: items x nodes of the network.

    `left` is what may be taken, -1 where there is nothing for such orders; `available` what is on hand. Items that are
    not that simple have no row.
    """

    def __init__(self, options: Options, market: Market) -> None:
        """As the order of these options sees it."""
        self.rows: dict[str, int] = {}
        self._standings = options.access.kind.standings
        self._found = found = list[tuple[ItemStock, Columns]]()
        for item, stock in market.stock.items():
            if not market.receipts.get(item):
                columns = options.atlas.columns(options.access, options.order, stock.positions)
                if columns is not None:
                    self.rows[item] = len(found)
                    found.append((stock, columns))
        # The last column is of positions that such orders may not use.
        shape = (len(found), len(options.network.nodes) + 1)
        self.left: Ints = np.full(shape, -1, dtype=np.int64)
        self.available: Ints = np.zeros(shape, dtype=np.int64)
        if found:
            units = np.fromiter(chain.from_iterable([stock.available for stock, _ in found]), dtype=np.int64)
            cell = (
                np.repeat(np.arange(len(found)), [len(stock) for stock, _ in found]),
                np.concatenate([columns.nodes for _, columns in found]),
            )
            self.left[cell] = units - np.concatenate([columns.withheld for _, columns in found])
            self.available[cell] = units
        self.most: list[int] = self.left.max(axis=1).tolist()

    def source(self, item: str, node: str) -> Source:
        """What a node has of an item, in the one position it has it in."""
        stock, columns = self._found[self.rows[item]]
        n = columns.at[node]
        place, available = stock.positions.places[n], stock.available[n]
        standing = self._standings[place.position]
        assert standing is not None
        return Source(place, available - standing.withheld, available, standing.rank)

    def has_all(self, sheet: Sheet) -> bool:
        """Whether all items of an order have a row, and are there: only who is served whole is decided with others."""
        rows = [self.rows.get(piece.line.item) for piece in sheet.pieces]
        return all(
            row is not None and self.most[row] >= piece.quantity for row, piece in zip(rows, sheet.pieces, strict=True)
        )


class _Risks:
    """What it costs to count on nodes for a line, as an array: classes of items x nodes of the network.

    The last row is that of a class of which no node has a record.
    """

    def __init__(self, atlas: Atlas, market: Market) -> None:
        """By the records of a market."""
        self._items, self._numbers, missing = atlas.edition.catalog.items, atlas.numbers, atlas.prices.missing
        self._rows = {item_class: n for n, item_class in enumerate(market.misses)}
        unknown = [missing(0, 0)] * len(atlas.numbers)
        self._costs: list[list[Cost]] = []
        for picks in market.misses.values():
            costs = unknown.copy()
            for node, found, missed in picks:
                if node in atlas.numbers:
                    costs[atlas.numbers[node]] = missing(found, missed)
            self._costs.append(costs)
        self._costs.append(unknown)
        self.costs: Ints = np.array(self._costs, dtype=np.int64)

    def row(self, piece: Piece) -> int:
        """The row of a piece's line."""
        return self._rows.get(self._items[piece.line.item].product, -1)

    def at(self, piece: Piece, node: str) -> Cost:
        """What it costs to count on a node for a piece."""
        return self._costs[self.row(piece)][self._numbers[node]]


class _Alike:
    """Orders that may go the same ways on the same days: by order and set of lines the best route, and what it costs.

    Also what it costs that each line waits, and that a shipment is one more.
    """

    def __init__(
        self, options: Options, table: _Table, members: Sequence[_Member], risks: _Risks | None = None
    ) -> None:
        """At least one order, of which the table knows all items; the options are those of one of them."""
        self.options, self.members = options, members
        self._table, self._risks = table, risks
        self._leaving: dict[tuple[int, Need], Leaving | None] = {}
        sheets = [member.sheet for member in members]
        cost = by_route(options, self._drawn(), np.stack([sheet.cost for sheet in sheets]))
        self.best, self.ways = cost.min(axis=-1), cost.argmin(axis=-1)
        self.alone: list[bool] = np.logical_and.reduce(sent_alone(self.best), axis=-1).tolist()
        prices = options.prices
        self.waiting = [[prices.waiting(p.sent[0].item, p.quantity) for p in sheet.pieces] for sheet in sheets]
        self.split_cost = [prices.split(member.terms) for member in members]

    def _drawn(self) -> Ints:
        """What drawing and picking all of each line costs at each node (orders x lines x nodes)."""
        access, table = self.options.access, self._table
        pieces = [member.sheet.pieces for member in self.members]
        rows = np.array([[table.rows[piece.line.item] for piece in own] for own in pieces])
        amounts = np.array([[piece.quantity for piece in own] for own in pieces], dtype=np.int64)
        cell = rows[:, :, None], access.numbers
        has_it = table.left[cell] >= amounts[:, :, None]
        drawn: Ints = np.where(has_it, 0, NEVER)
        free_from = access.drawing_is_free_from
        priced = has_it if free_from is None else has_it & (table.available[cell] < free_from)
        if priced.any():
            nodes = list(access.nodes)
            for order, line, node in np.argwhere(priced).tolist():
                piece = pieces[order][line]
                drawn[order, line, node] = sum(self._drawing(piece, table.source(piece.line.item, nodes[node])))
        if self._risks is not None:
            classes = [[self._risks.row(piece) for piece in own] for own in pieces]
            drawn += self._risks.costs[np.array(classes)[:, :, None], access.numbers]
        return drawn

    def _drawing(self, piece: Piece, source: Source) -> tuple[Cost, Cost]:
        return drawing(self.options, piece, piece.sent[0], ((source, piece.quantity),))

    def _leave(self, way: OpenRoute, need: Need) -> Leaving | None:
        """When a shipment leaves if it is the first of the batch."""
        need = way.departures.counted(need)
        key = (way.index, need)
        if key not in self._leaving:
            self._leaving[key] = leave(self.options, way, 0, need, self.options.taken)
        return self._leaving[key]

    def foreseen(self, member: _Member, shipments: Sequence[tuple[int, int]]) -> Foreseen | None:
        """The plan with these shipments, as routes and sets of lines (as bits), as `build` makes it.

        None where two leave from one node, or there are too many.
        """
        openings, most = self.options.openings, member.terms.max_shipments
        blocks: list[tuple[Leaving, OpenRoute, list[Piece]]] = []
        for index, mask in shipments:
            pieces = [piece for place, piece in enumerate(member.sheet.pieces) if mask >> place & 1]
            way = openings.by_index[index]
            assert way is not None
            leaving = self._leave(way, need_of(len(pieces), [piece.sent[0] for piece in pieces]))
            if leaving is None:
                return None
            blocks.append((leaving, way, pieces))
        if len(blocks) > 1:
            if len({way.route.node.code for _, way, _ in blocks}) < len(blocks) or (most or len(blocks)) < len(blocks):
                return None
            blocks.sort(key=lambda block: (block[0].departure.ships, block[1].index))
        plan = _Draft(self.options, self._table, self._risks)
        for leaving, way, pieces in blocks:
            plan.ship(leaving, way, pieces)
        return plan.done(member.terms)


class _Draft:
    """The plan of an order of which every line is served whole, from one position: what `build` makes, without looking.

    Also what must be left at its positions.
    """

    def __init__(self, options: Options, table: _Table, risks: _Risks | None) -> None:
        self._options, self._table, self._risks = options, table, risks
        self._shipments: list[PlannedShipment] = []
        self._assignments: list[Assignment] = []
        self._costs: list[CostPart] = []
        self._least: list[tuple[str, int, Quantity]] = []

    def ship(self, leaving: Leaving, way: OpenRoute, pieces: Sequence[Piece]) -> None:
        """Add a shipment."""
        prices, route, number = self._options.prices, way.route, len(self._shipments) + 1
        for piece in pieces:
            self._draw(piece, route.node.code, number)
        weight_ug = 0
        for piece in pieces:
            weight_ug += piece.sent[0].weight_ug
            self._cost(CostKind.HANDLING, prices.leaving(route.node, piece.sent), number, piece.line.no)
            if route.via:
                self._cost(CostKind.TRANSFER, prices.passing(route, piece.sent), number, piece.line.no)
            if self._risks is not None:
                self._cost(CostKind.MISS, self._risks.at(piece, route.node.code), number, piece.line.no)
        freight = prices.freight(route, weight_ug)
        assert freight is not None, "a route was chosen that does not carry the weight"
        co2e_mg, carbon = prices.carbon(route, weight_ug)
        for kind, amount in (*leaving.parts, *freight, carbon):
            self._cost(kind, amount, number)
        ships, arrives = date.fromordinal(leaving.departure.ships), date.fromordinal(leaving.departure.arrives)
        lanes = route.key[1:]
        self._shipments.append(
            PlannedShipment(number, route.node.code, lanes, ships, arrives, weight_ug, co2e_mg, leaving.bookings)
        )

    def _draw(self, piece: Piece, node: str, number: int) -> None:
        line, quantity = piece.line, piece.quantity
        source = self._table.source(line.item, node)
        place, free_from = source.place, self._options.access.drawing_is_free_from
        if free_from is not None and source.available >= free_from:
            least = max(source.available - source.quantity + quantity, free_from)
        else:
            # It has a price, which is another one when anything was drawn before.
            least = source.available
            for_pool, for_stockout = drawing(self._options, piece, piece.sent[0], ((source, quantity),))
            self._cost(CostKind.POOL, for_pool, number, line.no)
            self._cost(CostKind.STOCKOUT, for_stockout, number, line.no)
        self._least.append((line.item, place.position, least))
        where = (place.item, place.position, place.node, place.pool, place.lot)
        self._assignments.append(Assignment(line.no, number, *where, quantity, quantity))

    def _cost(self, kind: CostKind, amount: Cost, shipment_no: int, line_no: int = 0) -> None:
        if amount:
            self._costs.append(CostPart(kind, amount, shipment_no, line_no))

    def done(self, terms: Terms) -> Foreseen:
        """The plan."""
        split = self._options.prices.split(terms) * (len(self._shipments) - 1)
        if split > 0:
            self._costs.append(CostPart(CostKind.SPLIT, split))
        plan = Plan(tuple(self._shipments), tuple(self._assignments), (), tuple(self._costs))
        return Foreseen(plan, tuple(self._least))
