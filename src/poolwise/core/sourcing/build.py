"""From chosen blocks to a plan: which units are taken, what every part costs, when it leaves and arrives.

Every engine ends here, so that a plan's costs and bookings are computed in one place, in exact integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from poolwise.core.orders import Line
from poolwise.core.policy.terms import CostKind
from poolwise.core.sourcing.atlas import Alternative, OpenRoute
from poolwise.core.sourcing.costs import Part, Sent, need_of, weight_of
from poolwise.core.sourcing.options import Options, Source, draw
from poolwise.core.sourcing.plan import Assignment, Booking, CostPart, Plan, PlannedShipment
from poolwise.core.sourcing.routes import Departure, Need, Taken, book, excess
from poolwise.core.values import Cost, Quantity, replace, shares


class Piece(NamedTuple):
    """A quantity of a line served by one alternative, and the goods that leave for it.

    Of a kit across nodes the goods are some of the parts; the quantity is worked out from all its pieces together.
    """

    line: Line
    alternative: Alternative
    quantity: Quantity
    sent: tuple[Sent, ...]


class Block(NamedTuple):
    """Pieces, by line, that leave together by one route, on a day not before `ready` (an ordinal; 0 is at once).

    `window` names the slots to be booked where an engine has settled that; else it is the first with room. A wave lets
    a block wait for other orders' sake: `not_before` is the day it gave it.
    """

    way: OpenRoute
    pieces: tuple[Piece, ...]
    ready: int = 0
    window: tuple[int, ...] | None = None
    not_before: int = 0

    def lines(self) -> dict[int, tuple[Sent, ...]]:
        """What leaves for each line, by its number."""
        found: dict[int, tuple[Sent, ...]] = {}
        for piece in self.pieces:
            no = piece.line.no
            found[no] = found[no] + piece.sent if no in found else piece.sent
        return found

    def need(self) -> Need:
        """The capacity the block takes."""
        lines = self.lines()
        return need_of(len(lines), [goods for sent in lines.values() for goods in sent])


class Leaving(NamedTuple):
    """When a shipment leaves, the capacity it books, and what it costs whatever is in it."""

    departure: Departure
    bookings: tuple[Booking, ...]
    parts: tuple[Part, ...]

    @property
    def cost(self) -> Cost:
        """Sum of the parts."""
        return sum(amount for _, amount in self.parts)


def leave(
    options: Options, way: OpenRoute, ready: int, need: Need, taken: Taken, window: tuple[int, ...] | None = None
) -> Leaving | None:
    """The earliest departure of a route with room for `need`, not before `ready`; None when there is none.

    With a `window`, room is looked for there only.
    """
    hard = options.terms.policy.capacity_is_hard
    node, departures = way.route.node, way.departures
    departure = departures.with_room(ready, need, taken if hard else None, window)
    limit = options.deadline if options.terms.service_level.late_is_hard else None
    if departure is None or (limit is not None and departure.arrives > limit):
        return None
    choices = [window] if window is not None else departures.windows(departure.ships) if node.slots else []
    bookings = book(node, departure.ships, choices, need, taken, hard)
    assert bookings is not None, "the departure has room"
    parts = options.parts_on(way, departure)
    if not hard:
        over = excess(node, bookings, taken)
        parts += tuple(options.prices.over_capacity(unit, amount) for unit, amount in over)
    return Leaving(departure, bookings, parts)


def drawing(options: Options, piece: Piece, goods: Sent, taken: Sequence[tuple[Source, Quantity]]) -> tuple[Cost, Cost]:
    """What drawing some of a piece's goods costs: for the pools they come from, and for nearing a stock-out there."""
    free_from = options.access.drawing_is_free_from
    if free_from is not None and all(source.available >= free_from for source, _ in taken):
        return 0, 0
    own_weight = piece.line.weight_ug is None or piece.alternative.parts
    if len(taken) == 1:
        (source, quantity), item = taken[0], goods.item
        weight_ug = item.weight_of(quantity) if own_weight else weight_of(piece.line, item, piece.quantity, quantity)
        pool = options.network.pools[source.place.pool]
        for_pool = options.prices.drawing(pool, source.rank, Sent(item, quantity, weight_ug))
        on_hand = quantity if source.receipt is None else 0
        return for_pool, options.prices.stockout(item, on_hand, source.available)
    served = shares(piece.quantity, [part for _, part in taken])
    groups: dict[str, list[int]] = {}
    for n, (source, _) in enumerate(taken):
        groups.setdefault(source.place.pool, []).append(n)
    for_pools, for_stockout = 0, 0
    for code, mine in groups.items():
        quantity = sum([taken[n][1] for n in mine])
        if own_weight:
            weight_ug = goods.item.weight_of(quantity)
        else:
            weight_ug = weight_of(piece.line, goods.item, sum([served[n] for n in mine]), quantity)
        first = taken[mine[0]][0]
        pool = options.network.pools[code]
        for_pools += options.prices.drawing(pool, first.rank, Sent(goods.item, quantity, weight_ug))
        on_hand = sum([taken[n][1] for n in mine if taken[n][0].receipt is None])
        for_stockout += options.prices.stockout(goods.item, on_hand, first.available)
    return for_pools, for_stockout


def drawing_at_least(options: Options, goods: Sent, shelf: Sequence[Source]) -> Cost:
    """No more than `drawing` is, in all, whichever units of a shelf are taken for goods.

    Rates are per unit and per kg, so that no mixture of pools is cheaper than the cheapest at each, save by rounding.
    """
    item, quantity, weight_ug = goods
    prices, pools, many = options.prices, options.network.pools, len(shelf)
    weights = Sent(item, 0, max(0, weight_ug - many)), Sent(item, 0, weight_ug + many)
    at_least = min([prices.drawing(pools[s.place.pool], s.rank, Sent(item, quantity, 0)) for s in shelf])
    at_least += min([prices.drawing(pools[s.place.pool], 0, sent) for s in shelf for sent in weights])
    return at_least - 3 * (many + 2) * (1 + prices.weighted(CostKind.POOL, 1))


def substitution(options: Options, piece: Piece) -> Cost:
    """The penalty for sending something else."""
    swap = piece.alternative.substitution
    if swap is None:
        return 0
    return options.prices.substitution(options.catalog.items[piece.line.item], swap.penalty, piece.quantity)


class _Builder:
    """Collects shipments, assignments and cost parts; remembers what blocks took from shelves and booked."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.used: dict[tuple[str, str], Quantity] = {}
        self.booked: dict[str, list[Booking]] = {}
        self.shipments: list[PlannedShipment] = []
        self.assignments: list[Assignment] = []
        self.costs: list[CostPart] = []

    def ship(self, block: Block, foreseen: Leaving) -> bool:
        """Add one shipment: it draws its goods, and leaves on the first day they are all there and a slot has room.

        False where there is none, or no rate for its weight. `foreseen` is when it leaves if all that it draws is there
        when the block says, and nothing else left from its node.
        """
        options, way, route = self.options, block.way, block.way.route
        prices = options.prices
        number = len(self.shipments) + 1
        ready = block.not_before
        for piece in block.pieces:
            ready = max(ready, self._draw(block, piece, number))
        lines = block.lines()
        goods = [each for sent in lines.values() for each in sent]
        leaving: Leaving | None = foreseen
        before = self.booked.setdefault(route.node.code, [])
        if ready != block.ready or before:
            taken = dict(options.taken)
            for booking in before:
                key = (booking.node, booking.day.toordinal(), booking.slot)
                taken[key] = taken.get(key, 0) + booking.quantity
            leaving = leave(options, way, ready, need_of(len(lines), goods), taken, block.window)
        weight_ug = sum([each.weight_ug for each in goods])
        freight = prices.freight(route, weight_ug)
        if leaving is None or freight is None:
            return False
        before += leaving.bookings
        for line_no, sent in lines.items():
            self._cost(CostKind.HANDLING, prices.leaving(route.node, sent), number, line_no)
            if route.via:
                self._cost(CostKind.TRANSFER, prices.passing(route, sent), number, line_no)
            self._cost(CostKind.MISS, options.missing_at(options.lines[line_no], route.node.code), number, line_no)
        co2e_mg, carbon = prices.carbon(route, weight_ug)
        for kind, amount in (*leaving.parts, *freight, carbon):
            self._cost(kind, amount, number)
        self.shipments.append(
            PlannedShipment(
                number,
                route.node.code,
                route.key[1:],
                date.fromordinal(leaving.departure.ships),
                date.fromordinal(leaving.departure.arrives),
                weight_ug,
                co2e_mg,
                leaving.bookings,
            )
        )
        return True

    def _draw(self, block: Block, piece: Piece, number: int) -> int:
        """Draw what leaves for a piece; the first day on which all of it is there."""
        line_no, ready, carried = piece.line.no, 0, piece.quantity
        for goods in piece.sent:
            key = (goods.item.code, block.way.route.node.code)
            used = self.used.get(key, 0)
            self.used[key] = used + goods.quantity
            taken = draw(self.options.shelf(*key), goods.quantity, used)
            for_pools, for_stockout = drawing(self.options, piece, goods, taken)
            self._cost(CostKind.POOL, for_pools, number, line_no)
            self._cost(CostKind.STOCKOUT, for_stockout, number, line_no)
            served = shares(carried, [part for _, part in taken]) if len(taken) > 1 else (carried,)
            # Of the parts of a kit only the first carries the line's quantity.
            carried = 0
            for (source, part), line_quantity in zip(taken, served, strict=True):
                ready = max(ready, source.ready)
                where = source.place
                self.assignments.append(
                    Assignment(
                        line_no, number, where.item, where.position, where.node, where.pool, where.lot,
                        part, line_quantity, source.receipt,
                    )
                )  # fmt: skip
        if piece.alternative.substitution is not None:
            self._cost(CostKind.SUBSTITUTION, substitution(self.options, piece), number, line_no)
        return ready

    def _cost(self, kind: CostKind, amount: Cost, shipment_no: int, line_no: int = 0) -> None:
        if amount:
            self.costs.append(CostPart(kind, amount, shipment_no, line_no))

    def share_kits(self, blocks: Sequence[Block]) -> None:
        """Of a kit across nodes the first part carries the line's quantity, in proportion over all shipments."""
        pieces = [piece for block in blocks for piece in block.pieces]
        kits = {piece.line.no: piece.alternative for piece in pieces if piece.alternative.across_nodes}
        for line_no, kit in kits.items():
            first, per_kit = kit.needs[0]
            heads = [n for n, a in enumerate(self.assignments) if a.line_no == line_no and a.item == first]
            quantities = [self.assignments[n].quantity for n in heads]
            for n, line_quantity in zip(heads, shares(sum(quantities) // per_kit, quantities), strict=True):
                self.assignments[n] = replace(self.assignments[n], line_quantity=line_quantity)


def build(options: Options, blocks: Sequence[Block], gap_ppm: int = 0) -> Plan:
    """The plan that ships these blocks and lets the rest of the demand wait."""
    plan = tried(options, blocks, gap_ppm)
    assert plan is not None, "an engine chose a route that cannot be taken"
    return plan


def tried(options: Options, blocks: Sequence[Block], gap_ppm: int = 0) -> Plan | None:
    """The same; None where a block cannot leave.

    Blocks leave in order of their day, then of their route; blocks of one route and day are one shipment already.
    """
    builder = _Builder(options)
    order: list[tuple[tuple[int, int], int, Leaving]] = []
    for place, block in enumerate(blocks):
        leaving = leave(options, block.way, block.ready, block.need(), options.taken, block.window)
        if leaving is None:
            return None
        order.append(((leaving.departure.ships, block.way.index), place, leaving))
    for _, place, leaving in sorted(order, key=lambda each: each[:2]):
        if not builder.ship(blocks[place], leaving):
            return None
    builder.share_kits(blocks)
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
    split = options.prices.split(options.terms) * (len(builder.shipments) - 1)
    if split > 0:
        builder.costs.append(CostPart(CostKind.SPLIT, split))
    return Plan(tuple(builder.shipments), tuple(builder.assignments), tuple(unserved), tuple(builder.costs), gap_ppm)
