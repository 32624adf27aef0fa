"""From chosen blocks to a plan: which units are taken, what every part costs, when it leaves and arrives.

Every engine ends here, so that a plan's costs and bookings are computed in one place, in exact integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from poolwise.core.network import Node
from poolwise.core.orders import Line
from poolwise.core.policy.terms import CostKind
from poolwise.core.sourcing.costs import Part, Sent, need_of, weight_of
from poolwise.core.sourcing.options import Alternative, OpenRoute, Options, Shelf, Source, draw
from poolwise.core.sourcing.plan import Assignment, Booking, CostPart, Plan, PlannedShipment
from poolwise.core.sourcing.routes import Departure, Need, Taken, book, excess
from poolwise.core.values import Cost, Quantity, shares


@dataclass(frozen=True, slots=True)
class Piece:
    """A quantity of a line served by one alternative, and the goods that leave for it."""

    line: Line
    alternative: Alternative
    quantity: Quantity
    sent: tuple[Sent, ...]

    def cost_at(self, options: Options, node: Node) -> Cost:
        """Everything the goods cost at their origin: handling, drawing on pools, stock-outs, substitution."""
        amount = options.leaving(node, self.sent) + self.substitution(options)
        if options.access.drawing_is_free:
            return amount
        for place, goods in enumerate(self.sent):
            taken = draw(options.shelves(goods.item.code)[node.code], goods.quantity)
            amount += sum(part for _, part in drawing(options, self, place, taken))
        return amount

    def substitution(self, options: Options) -> Cost:
        """The penalty for sending something else."""
        swap = self.alternative.substitution
        if swap is None:
            return 0
        return options.prices.substitution(options.catalog.items[self.line.item], swap.penalty, self.quantity)


@dataclass(frozen=True, slots=True)
class Block:
    """Pieces that leave together by one route, on a day not before `ready` (an ordinal; 0 is at once).

    A wave lets a block wait for other orders' sake: `not_before` is the day it gave it.
    """

    way: OpenRoute
    pieces: tuple[Piece, ...]
    ready: int = 0
    not_before: int = 0


@dataclass(frozen=True, slots=True)
class Leaving:
    """When a shipment leaves, the capacity it books, and what its days cost."""

    departure: Departure
    bookings: tuple[Booking, ...]
    parts: tuple[tuple[CostKind, Cost], ...]

    @property
    def cost(self) -> Cost:
        """Sum of the parts."""
        return sum(amount for _, amount in self.parts)


def leave(options: Options, way: OpenRoute, ready: int, need: Need, taken: Taken) -> Leaving | None:
    """The earliest departure of a route with room for `need`, not before `ready`; None when there is none."""
    hard = options.terms.policy.capacity_is_hard
    limit = options.deadline if options.terms.service_level.late_is_hard else None
    for departure in way.departures:
        if departure.ships < ready:
            continue
        if limit is not None and departure.arrives > limit:
            return None
        node = way.route.node
        bookings = book(node, departure.ships, way.departures.local, need, taken, hard)
        if bookings is None:
            continue
        parts = options.prices.days(departure, way.first, way.today, options.deadline)
        if not hard:
            parts.extend(options.prices.over_capacity(unit, over) for unit, over in excess(node, bookings, taken))
        return Leaving(departure, bookings, tuple(parts))
    return None


def drawing(options: Options, piece: Piece, place: int, taken: Sequence[tuple[Source, Quantity]]) -> list[Part]:
    """What drawing a piece's goods costs: for each pool they come from, and for nearing a stock-out there."""
    goods = piece.sent[place]
    served = shares(piece.quantity if place == 0 else 0, [part for _, part in taken])
    parts: list[Part] = []
    for code in dict.fromkeys(source.place.pool for source, _ in taken):
        mine = [n for n, (source, _) in enumerate(taken) if source.place.pool == code]
        quantity = sum(taken[n][1] for n in mine)
        weight_ug = goods.item.weight_of(quantity)
        if not piece.alternative.parts:
            weight_ug = weight_of(piece.line, goods.item, sum(served[n] for n in mine), quantity)
        first = taken[mine[0]][0]
        pool = options.network.pools[code]
        parts.append((CostKind.POOL, options.prices.drawing(pool, first.rank, Sent(goods.item, quantity, weight_ug))))
        on_hand = sum(taken[n][1] for n in mine if taken[n][0].receipt is None)
        parts.append((CostKind.STOCKOUT, options.prices.stockout(goods.item, on_hand, first.available)))
    return parts


class _Builder:
    """Collects shipments, assignments and cost parts; draws each shelf down as blocks take from it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.left: dict[tuple[str, str], Shelf] = {}
        self.taken = dict(options.taken)
        self.shipments: list[PlannedShipment] = []
        self.assignments: list[Assignment] = []
        self.costs: list[CostPart] = []

    def ship(self, block: Block) -> None:
        """Add one shipment: it draws its goods, and leaves on the first day they are all there and a slot has room."""
        options, route = self.options, block.way.route
        number = len(self.shipments) + 1
        sent = [goods for piece in block.pieces for goods in piece.sent]
        ready = self._draw_pieces(block, number)
        lines = len({piece.line.no for piece in block.pieces})
        leaving = leave(options, block.way, max(ready, block.not_before), need_of(lines, sent), self.taken)
        weight_ug = sum(goods.weight_ug for goods in sent)
        freight = options.prices.freight(route, weight_ug)
        assert leaving is not None and freight is not None, "an engine chose a route that cannot be taken"
        for booking in leaving.bookings:
            key = (booking.node, booking.day.toordinal(), booking.slot)
            self.taken[key] = self.taken.get(key, 0) + booking.quantity
        co2e_mg, carbon = options.prices.carbon(route, weight_ug)
        parts = [*options.prices.opening(route), *freight, carbon, options.prices.node(block.way.penalty)]
        self._cost([*parts, *leaving.parts], number)
        self.shipments.append(
            PlannedShipment(
                no=number,
                node=route.node.code,
                lanes=tuple(lane.code for lane in route.lanes),
                ship_on=date.fromordinal(leaving.departure.ships),
                arrive_by=date.fromordinal(leaving.departure.arrives),
                weight_ug=weight_ug,
                co2e_mg=co2e_mg,
                bookings=leaving.bookings,
            )
        )

    def _draw_pieces(self, block: Block, number: int) -> int:
        """Draw what leaves in a shipment, line by line; the first day on which all of it is there."""
        handled: set[int] = set()
        ready = 0
        for piece in sorted(block.pieces, key=lambda piece: piece.line.no):
            ready = max(ready, self._piece(block, piece, number, again=piece.line.no in handled))
            handled.add(piece.line.no)
        return ready

    def _piece(self, block: Block, piece: Piece, number: int, again: bool) -> int:
        """Goods of a line in a shipment; a line that is there `again`, by another alternative, is handled once."""
        options, route, line_no = self.options, block.way.route, piece.line.no
        handling = [(CostKind.HANDLING, options.leaving(route.node, piece.sent))]
        handling.append((CostKind.TRANSFER, options.prices.passing(route, piece.sent)))
        if again:
            handling.append((CostKind.HANDLING, -options.prices.leaving(route.node, ())))
            handling.append((CostKind.TRANSFER, -options.prices.passing(route, ())))
        handling.append((CostKind.SUBSTITUTION, piece.substitution(options)))
        self._cost(handling, number, line_no)
        ready = 0
        for place, goods in enumerate(piece.sent):
            taken = self._take(route.node.code, goods)
            if not options.access.drawing_is_free:
                self._cost(drawing(options, piece, place, taken), number, line_no)
            served = shares(piece.quantity if place == 0 else 0, [part for _, part in taken])
            for (source, part), line_quantity in zip(taken, served, strict=True):
                ready = max(ready, source.ready)
                where = source.place
                self.assignments.append(
                    Assignment(
                        line_no, number, where.item, where.position, where.node, where.pool, where.lot,
                        part, line_quantity, source.receipt,
                    )
                )  # fmt: skip
        return ready

    def _take(self, node: str, goods: Sent) -> list[tuple[Source, Quantity]]:
        key = (goods.item.code, node)
        shelf = self.left[key] if key in self.left else self.options.shelves(goods.item.code)[node]
        taken = draw(shelf, goods.quantity)
        last, part = taken[-1]
        rest = shelf[len(taken) :]
        if part < last.quantity:
            rest = (last._replace(quantity=last.quantity - part), *rest)
        self.left[key] = rest
        return taken

    def _cost(self, parts: Sequence[tuple[CostKind, Cost]], shipment_no: int, line_no: int = 0) -> None:
        self.costs.extend(CostPart(kind, amount, shipment_no, line_no) for kind, amount in parts if amount)


def _day(options: Options, block: Block) -> int:
    """The day a block would leave if it were alone: by it, and by their routes, shipments are numbered."""
    sent = [goods for piece in block.pieces for goods in piece.sent]
    lines = len({piece.line.no for piece in block.pieces})
    leaving = leave(options, block.way, block.ready, need_of(lines, sent), options.taken)
    assert leaving is not None, "an engine chose a route that cannot be taken"
    return leaving.departure.ships


def build(options: Options, blocks: Sequence[Block], gap_ppm: int = 0) -> Plan:
    """The plan that ships these blocks and lets the rest of the demand wait.

    Blocks leave in order of their day, then of their route; blocks of one route and day are one shipment already.
    """
    builder = _Builder(options)
    for block in sorted(blocks, key=lambda block: (_day(options, block), block.way.index)):
        builder.ship(block)
    served: dict[int, Quantity] = {}
    for assignment in builder.assignments:
        served[assignment.line_no] = served.get(assignment.line_no, 0) + assignment.line_quantity
    unserved = []
    for no, quantity in options.problem.demand.open:
        waiting = quantity - served.get(no, 0)
        if waiting:
            line = options.lines[no]
            unserved.append(options.unserved(line, waiting))
            cost = options.prices.waiting(options.catalog.items[line.item], waiting)
            builder.costs.append(CostPart(CostKind.BACKORDER, cost, 0, no))
    split = options.prices.split(len(builder.shipments))
    if split:
        builder.costs.append(CostPart(CostKind.SPLIT, split))
    return Plan(
        tuple(builder.shipments), tuple(builder.assignments), tuple(unserved), tuple(builder.costs), gap_ppm
    )
