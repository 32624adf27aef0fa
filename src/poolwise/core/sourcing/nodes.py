"""Lines that are divided, or in each other's way: what each node sends, by the dynamic program over amounts.

1. The cheapest plan in which no node sends more than one shipment (`spread`) can be carried out: nodes do not get in
   each other's way.
2. Shipments of one node may (one takes the stock on hand and the other waits for a receipt, one fills the slot). What
   each costs at least is known: what it costs alone, its goods drawn from the cheapest pool. `least` is, by what is
   left of the order, what that costs at least if such shipments could be added as often as one likes.
3. Only a node of which two shipments could be part of a cheaper plan is tried: by the same dynamic program over its
   routes where they are not in each other's way, else one shipment after another (`_Contest`), no further than to where
   what was sent, with `least` for what is left, costs as much as the plan of step 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poolwise.core.policy.terms import CostKind
from poolwise.core.sourcing.atlas import OpenRoute
from poolwise.core.sourcing.blocks import Blocks
from poolwise.core.sourcing.build import Block, Leaving, Piece, drawing, drawing_at_least, leave, substitution
from poolwise.core.sourcing.costs import need_of
from poolwise.core.sourcing.options import Shelf, draw, ready_on
from poolwise.core.sourcing.partition import NEVER, TIES, Ints, Lattice, Offer, Spread, spread
from poolwise.core.sourcing.portions import Portion, Wanted, kit_across_nodes
from poolwise.core.sourcing.routes import Need, Taken, book
from poolwise.core.sourcing.whole import groups_of, value_of, waiting_cost
from poolwise.core.values import Cost, Quantity

MOST_STATES: Final = 4_096
MOST_STEPS: Final = 30_000_000
"""States x amounts offered in the dynamic program over amounts; more would take longer than the MIP."""

MOST_TRIALS: Final = 20_000
"""Shipments tried at nodes where they get in each other's way."""


class _NodeOffer(NamedTuple):
    """What a node offers, and the blocks behind each of its amounts."""

    offer: Offer
    blocks: Callable[[int], list[Block]]

    def beside(self, more: _NodeOffer) -> _NodeOffer:
        """Both."""
        first = len(self.offer.states)
        offer = Offer(*[np.concatenate(pair) for pair in zip(self.offer, more.offer, strict=True)])
        return _NodeOffer(offer, lambda entry: self.blocks(entry) if entry < first else more.blocks(entry - first))


def by_nodes(blocks: Blocks) -> list[Block] | None:
    """The blocks of the cheapest plan; None when there is too much to try."""
    lattice, most = blocks.lattice, blocks.options.terms.max_shipments
    if lattice.states > MOST_STATES:
        return None
    table = _Table(blocks)
    if lattice.states * table.size > MOST_STEPS:
        return None
    offers = {place: table.single(place) for place in table.places}
    finals = _finals(blocks)[::-1]
    found, taken = spread(lattice, [each.offer for each in offers.values()], finals, most)
    several = _several(table, found)
    if several is None or lattice.states * sum(len(each.offer.states) for each in several.values()) > MOST_STEPS:
        return None
    if several:
        for place, more in several.items():
            offers[place] = offers[place].beside(more)
        _, taken = spread(lattice, [each.offer for each in offers.values()], finals, most)
    found_at = list(offers.values())
    return [block for node, entry in taken for block in found_at[node].blocks(entry)]


class _Table:
    """The rows that may be shipments, what each costs by node where it is the only one, and how it is sent."""

    def __init__(self, blocks: Blocks) -> None:
        """Where shipments may be in each other's way, a row that sends an item twice is tried."""
        access, options = blocks.options.access, blocks.options
        self.blocks = blocks
        self.split = options.prices.split(options.terms)
        self.rows = np.flatnonzero(_lawful(blocks))
        self.states = blocks.states.take(self.rows)
        self.cost = blocks.cost.take(self.rows, axis=0)
        self._wants = _wants(blocks)
        self._nodes = list(access.nodes)
        self.contested = {access.nodes[node] for node in _contested(blocks, self._wants) if node in access.nodes}
        self._first = [*access.first_of.tolist(), len(access.routes)]
        best = np.minimum.reduceat(self.cost, access.first_of, axis=1).T
        self._possible = best < NEVER
        at, self._numbers = self._possible.nonzero()
        self._from: list[int] = at.searchsorted(np.arange(len(best) + 1)).tolist()
        self._prices = (best + self.split) * TIES + 1
        self._tried: dict[tuple[int, int], Block] = {}
        self.size = len(self._numbers)
        self.places = [place for place in range(len(best)) if self._from[place] < self._from[place + 1]]
        self._lows = {place: self._prices[place].copy() for place in self.contested}
        if self.contested:
            self._try(self._twice())

    def node(self, place: int) -> str:
        """The code of a node."""
        return self._nodes[place]

    def possible(self, place: int) -> Ints:
        """The numbers of the rows that a node can send."""
        return self._numbers[self._from[place] : self._from[place + 1]]

    def own(self, place: int) -> range:
        """The routes of a node."""
        return range(self._first[place], self._first[place + 1])

    def single(self, place: int) -> _NodeOffer:
        """What a node offers in one shipment."""
        mine = self.possible(place)
        offer = Offer(self.states.take(mine), self._prices[place].take(mine), np.ones(len(mine), dtype=np.int64))
        return _NodeOffer(offer, lambda entry: [self._block(place, int(mine[entry]))])

    def _block(self, place: int, number: int) -> Block:
        tried = self._tried.get((place, number))
        if tried is not None:
            return tried
        own = self.own(place)
        best = int(self.cost[number, own.start : own.stop].argmin())
        return self.blocks.block(int(self.rows[number]), own[best])

    def lows(self, place: int) -> Ints:
        """By row that a node can send what that costs at least, whatever else it sends."""
        mine, lows = self.possible(place), self._lows.get(place)
        if lows is None:
            alone: Ints = self._prices[place].take(mine)
            return alone
        slack = [[self._slack(place, portion) for portion in line.portions] for line in self.blocks.lines]
        least: Ints = lows.take(mine) - self.blocks.by_row(slack).take(self.rows.take(mine)) * TIES
        if not self.blocks.options.terms.policy.capacity_is_hard:
            contest = _Contest(self, place)
            least -= np.array([contest.overfull(number) for number in mine.tolist()], dtype=np.int64) * TIES
        return least

    def _slack(self, place: int, portion: Portion) -> Cost:
        """How much less a portion may cost at a node where its goods are drawn after others."""
        options, node = self.blocks.options, self._nodes[place]
        if portion.at_node[place] >= NEVER:
            return 0
        slack = 0
        for piece in portion.pieces:
            for goods in piece.sent:
                shelf = options.shelf(goods.item.code, node)
                if len(shelf) > 1:
                    slack += sum(drawing(options, piece, goods, draw(shelf, goods.quantity)))
                    slack -= drawing_at_least(options, goods, shelf)
        return slack

    def _twice(self) -> Ints:
        """The numbers of the rows that send an item more than once."""
        found: NDArray[np.bool_] = np.zeros(len(self.rows), dtype=np.bool_)
        for code, users in self._wants.users.items():
            if users > 1:
                counts = [[sum([g.item.code == code for g in p.goods]) for p in w.portions] for w in self.blocks.lines]
                found |= self.blocks.by_row(counts).take(self.rows) > 1
        return np.flatnonzero(found)

    def _try(self, numbers: Ints) -> None:
        """Correct what rows cost that draw an item more than once."""
        for place in sorted(self.contested) if len(numbers) else ():
            contest = _Contest(self, place)
            for number in numbers[self._possible[place, numbers]].tolist():
                found = contest.alone(number)
                self._prices[place, number] = NEVER * TIES if found is None else found[0]
                if found is not None:
                    self._tried[place, number] = found[1]


def _several(table: _Table, found: Spread) -> dict[int, _NodeOffer] | None:
    """What nodes offer in several shipments that may be part of a cheaper plan; None where that is too much to try."""
    blocks = table.blocks
    lattice = blocks.lattice
    suspects = [p for p in table.places if p in table.contested or len(table.own(p)) > 1]
    if not suspects:
        return {}
    lows = {place: table.lows(place) for place in suspects}
    anywhere: Ints = np.full(lattice.states, NEVER * TIES, dtype=np.int64)
    for place in suspects:
        np.minimum.at(anywhere, table.states.take(table.possible(place)), lows[place])
    offered = np.flatnonzero(anywhere < NEVER * TIES)
    if lattice.states * len(offered) > MOST_STEPS:
        return None
    least = found.lowered(Offer(offered, anywhere.take(offered), np.ones(len(offered), dtype=np.int64)))
    most, trials = int(found.sums[-1, -2]), MOST_TRIALS
    several: dict[int, _NodeOffer] = {}
    for place in suspects if least[-1, -2] < most else ():
        reach = _in_stock(blocks, place)
        states = table.states.take(table.possible(place))
        pairs = _pairs(lattice, states, lows[place])
        if not (pairs + least[-1, -2::-1] < most)[reach].any():
            continue
        if place in table.contested:
            contest = _Contest(table, place)
            offer = contest.offer(lows[place], least, most, trials)
            if offer is None:
                return None
            trials -= contest.trials
        else:
            offer = _by_its_routes(table, place, reach, most - least[-1, -2::-1])
        if len(offer.offer.states):
            several[place] = offer
    return several


def _pairs(lattice: Lattice, states: Ints, costs: Ints) -> Ints:
    """By state the least cost of two shipments that make it."""
    alone: Ints = np.full(lattice.states + 1, NEVER * TIES, dtype=np.int64)
    np.minimum.at(alone, states, costs)
    found: Ints = (alone.take(lattice.without(states)) + costs).min(axis=1)
    return found


# --- what may be sent, and what waiting costs


def _lawful(blocks: Blocks) -> NDArray[np.bool_]:
    """The rows that may be a shipment beside others: lines that belong together whole, and worth enough.

    A shipment of the whole order is the only part there is, whatever it is worth.
    """
    options, lines = blocks.options, blocks.lines
    lawful: NDArray[np.bool_] = np.ones(len(blocks.weights), dtype=np.bool_)
    lawful[0] = False
    for group in groups_of(lines):
        present = blocks.by_row([[int(n in group) for _ in line.portions] for n, line in enumerate(lines)])
        whole = blocks.by_row([[int(n in group and p.complete) for p in line.portions] for n, line in enumerate(lines)])
        lawful &= (present == whole) & ((present == 0) | (present == len(group)))
    least = options.terms.min_shipment_value.times(1)
    if least > 0:
        worth = blocks.by_row([[value_of(options, line, p.served) for p in line.portions] for line in lines])
        complete = blocks.by_row([[int(p.complete) for p in line.portions] for line in lines])
        lawful &= (worth >= least) | (complete == len(lines))
    return lawful


def _finals(blocks: Blocks) -> Ints:
    """By state: what waits costs, less the split that the first shipment is not; NEVER where it may not be all."""
    options, terms = blocks.options, blocks.options.terms
    least = terms.min_shipment_value.times(1)
    costs: Ints = np.zeros(1, dtype=np.int64)
    waiting, values = costs, costs
    for line in blocks.lines:
        left = _left_of(line)
        own = [NEVER if quantity is None else waiting_cost(options, line, quantity) for quantity in left]
        costs = np.minimum(np.array(own, dtype=np.int64)[:, None] + costs, NEVER).ravel()
        if terms.ship_complete or least > 0:
            waits = np.array([quantity or 0 for quantity in left], dtype=np.int64)
            waiting = np.add.outer(waits, waiting).ravel()
        if least > 0:
            own = [value_of(options, line, quantity or 0) for quantity in left]
            values = np.add.outer(np.array(own, dtype=np.int64), values).ravel()
    if terms.ship_complete:
        costs[1:][waiting[1:] > 0] = NEVER
    if least > 0:
        costs[1:][(waiting[1:] > 0) & (values[1:] < least)] = NEVER
    costs[1:] -= options.prices.split(terms)
    return costs * TIES


def _left_of(line: Wanted) -> Sequence[Quantity | None]:
    """By state of the axes of a line what waits of it, see `_left`."""
    if len(line.axes) < 2:
        return range(line.quantity, -1, -1) if line.divisible else (line.quantity, 0)
    # The first axis is the fastest.
    return [_left(line, amounts[::-1]) for amounts in product(*map(range, reversed(line.axes)))]


def _left(line: Wanted, amounts: Sequence[Quantity]) -> Quantity | None:
    """What waits of a line when that much is shipped along its axes; None when kits would be left incomplete."""
    if not line.divisible:
        served, *parts = amounts
        if len(dict.fromkeys(parts)) > 1 or (served and any(parts)):
            return None
        return 0 if served or any(parts) else line.quantity
    served, *parts = amounts
    if parts:
        kit = kit_across_nodes(line.alternatives)
        assert kit is not None, "only such a kit has more than one axis"
        needs = kit.needs
        sets = parts[0] // needs[0][1]
        if any(part != sets * n for part, (_, n) in zip(parts, needs, strict=True)):
            return None
        served += sets
    return line.quantity - served if served <= line.quantity else None


# --- nodes that may send several shipments


class _Wants(NamedTuple):
    """By item: the most that all lines together could take of it, and how many alternatives of lines do."""

    most: dict[str, Quantity]
    users: dict[str, int]


def _wants(blocks: Blocks) -> _Wants:
    found = _Wants({}, {})
    for line in blocks.lines:
        for alternative in line.alternatives:
            for code, count in alternative.needs:
                found.most[code] = found.most.get(code, 0) + line.quantity // alternative.per * count
                found.users[code] = found.users.get(code, 0) + 1
    return found


def _contested(blocks: Blocks, wants: _Wants) -> frozenset[str]:
    """Nodes where shipments may get in each other's way: by stock that is short or not there yet, or by slots."""
    options = blocks.options
    by_several_ways = any(len(line.alternatives) > 1 for line in blocks.lines)
    # Where one more than one by each route finds room, none has to leave on another day than the first.
    most_ways = max(len(ways) for ways in options.by_node.values())
    found = set(blocks.tight_nodes(most_ways + 1))
    for code, quantity in wants.most.items():
        for node, shelf in options.shelves(code).items():
            if not shelf[0].ready and shelf[0].quantity >= quantity:
                continue
            in_turn = len(options.by_node[node]) > 1 and (len(shelf) > 1 or by_several_ways)
            if in_turn or wants.users[code] > 1 or _waits_for_receipts(shelf, quantity):
                found.add(node)
    return frozenset(found)


def _waits_for_receipts(shelf: Shelf, quantity: Quantity) -> bool:
    for source in shelf:
        if quantity <= 0:
            return False
        if source.ready:
            return True
        quantity -= source.quantity
    return False


def _in_stock(blocks: Blocks, place: int) -> NDArray[np.bool_]:
    """The states a node has the stock for, where every line is served by one alternative."""
    found: NDArray[np.bool_] = np.ones(blocks.lattice.states, dtype=np.bool_)
    axis = 0
    for line in blocks.lines:
        for step, _ in enumerate(line.axes or (2,)):
            there = [portion.steps[step] for portion in line.portions if portion.at_node[place] < NEVER]
            found &= blocks.lattice.amounts(axis) <= max(there, default=0)
            axis += 1
    return found


def _by_its_routes(table: _Table, place: int, reach: NDArray[np.bool_], allowed: Ints) -> _NodeOffer:
    """Several shipments of a node by its routes, one each, where they are not in each other's way.

    Of states in `reach`, where they cost less than is `allowed`.
    """
    blocks, own, mine = table.blocks, table.own(place), table.possible(place)
    states, ones = table.states.take(mine), np.ones(len(mine), dtype=np.int64)
    nothing: Ints = np.full(blocks.lattice.states, NEVER * TIES, dtype=np.int64)
    nothing[0] = 0
    together = Spread(blocks.lattice, nothing, most=len(own))
    for way in own:
        costs = np.minimum(table.cost[mine, way], NEVER)
        together.add(Offer(states, (costs + table.split) * TIES + 1, ones))
    sums = together.sums[:, :-1]
    found = [
        (count, state)
        for count in range(2, len(own) + 1)
        for state in np.flatnonzero(reach & (sums[count] < sums[count - 1]) & (sums[count] < allowed)).tolist()
    ]
    counts, several = np.array(found, dtype=np.int64).reshape(-1, 2).T

    def sent(entry: int) -> list[Block]:
        return [blocks.block(int(table.rows[mine[n]]), own[way]) for way, n in together.walk(*found[entry])]

    return _NodeOffer(Offer(several, sums[counts, several], counts), sent)


class _Candidate(NamedTuple):
    """A block that a node could send, and what is asked of it again and again."""

    row: int
    portions: list[Portion]
    pieces: tuple[Piece, ...]
    need: Need


class _Trial(NamedTuple):
    """A shipment that comes next: its number by day and route, what it costs, and what is used and taken after it."""

    number: tuple[int, int]
    cost: Cost
    block: Block
    used: Mapping[str, Quantity]
    taken: Taken


class _Contest:
    """All that a node can send where shipments get in each other's way, tried one after another.

    Shipments are tried in the order of their numbers: each draws what those before it left, and leaves on the first
    day on which all of it is there and they left room. None can leave earlier beside those that come after it, since
    these leave on later days or by later routes of the day.
    """

    def __init__(self, table: _Table, place: int) -> None:
        """Nothing is tried yet."""
        self.trials = 0
        self._table = table
        self._blocks = table.blocks
        self._options = table.blocks.options
        self._node = table.node(place)
        self._ways = self._options.by_node[self._node]
        self._taken = {key: amount for key, amount in self._options.taken.items() if key[0] == self._node}
        self._candidates: dict[int, _Candidate] = {}
        self._numbers = table.possible(place)
        self._states = table.states.take(self._numbers)
        self._fixed: dict[tuple[int, int], Cost] = {}
        self._best: dict[tuple[int, int], tuple[Cost, list[Block]]] = {}

    def alone(self, number: int) -> tuple[Cost, Block] | None:
        """The cheapest way to send a row of the table as the only shipment; None where there is none."""
        found = [(trial.cost, place, trial.block) for place, trial in enumerate(self._next(number, {}, self._taken))]
        if not found:
            return None
        cost, _, block = min(found, key=lambda each: each[:2])
        return cost, block

    def overfull(self, number: int) -> Cost:
        """The most that a row of the table pays for slots that hold too much, sent alone.

        After others it may have to wait for goods, and leave on a day on which they are not full; so it may where its
        lines want the same goods, which the table prices as if each came first.
        """
        candidate = self._candidate(number)
        drawn = self._drawn(candidate, {})
        place = self._options.access.nodes[self._node]
        first = max([portion.ready.get(place, 0) for portion in candidate.portions])
        days = () if drawn is None else dict.fromkeys((first, drawn[0]))
        leavings = [leave(self._options, way, day, candidate.need, self._taken) for day in days for way in self._ways]
        parts = [leaving.parts for leaving in leavings if leaving is not None]
        return max((sum(cost for kind, cost in own if kind is CostKind.CAPACITY) for own in parts), default=0)

    def offer(self, lows: Ints, least: Ints, most: Cost, trials: int) -> _NodeOffer | None:
        """What the node offers in more than one shipment, where plans with it may cost less than `most`.

        `lows` is by row what it costs at least, `least` what `Spread.lowered` found. None where it is too much to try.
        """
        self._lows, self._least, self._most, self._most_trials = lows, least, most, trials
        self._extend((0, 0), self._blocks.lattice.states - 1, {}, self._taken, 0, [])
        if self.trials > trials:
            return None
        full = self._blocks.lattice.states - 1
        states, counts = (
            (np.array(each, dtype=np.int64) for each in zip(*self._best, strict=True))
            if self._best
            else (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        )
        found = list(self._best.values())
        costs = np.array([cost for cost, _ in found], dtype=np.int64)
        return _NodeOffer(Offer(full - states, costs, counts), lambda entry: found[entry][1])

    def _extend(
        self,
        last: tuple[int, int],
        left: int,
        used: Mapping[str, Quantity],
        taken: Taken,
        cost: Cost,
        sent: list[Block],
    ) -> None:
        """Try every shipment that may come next, after the one numbered by day and route as `last`."""
        count = len(sent) + 1
        if len(self._least) == 1:
            least = self._least[0]
        elif count < len(self._least):
            least = self._least[-1 - count]
        else:
            return
        rests = self._blocks.lattice.rests(left, self._states)
        promising = np.flatnonzero(self._lows + least.take(rests) < self._most - cost)
        for place in promising.tolist():
            self.trials += 1
            if self.trials > self._most_trials:
                return
            rest = int(rests[place])
            limit = self._most - cost - int(least[rest])
            for trial in self._next(int(self._numbers[place]), used, taken):
                assert trial.cost >= self._lows[place], "a shipment costs less than it can at least"
                if trial.number <= last or trial.cost >= limit:
                    continue
                total, sequence = cost + trial.cost, [*sent, trial.block]
                known = self._best.get((rest, count))
                if count > 1 and (known is None or total < known[0]):
                    self._best[rest, count] = (total, sequence)
                self._extend(trial.number, rest, trial.used, trial.taken, total, sequence)

    def _next(self, number: int, used: Mapping[str, Quantity], taken: Taken) -> Iterator[_Trial]:
        """The ways to send a row of the table after other shipments."""
        candidate = self._candidates.get(number) or self._candidates.setdefault(number, self._candidate(number))
        drawn = self._drawn(candidate, used)
        if drawn is None:
            return
        ready, for_stock, used_after = drawn
        for way in self._ways:
            if self._blocks.cost[candidate.row, way.index] >= NEVER:
                continue
            for leaving, window in self._leavings(way, ready, candidate.need, taken):
                cost = for_stock + self._fixed_cost(candidate, way) + leaving.cost + self._table.split
                booked = dict(taken)
                for booking in leaving.bookings:
                    key = (booking.node, booking.day.toordinal(), booking.slot)
                    booked[key] = booked.get(key, 0) + booking.quantity
                ships = leaving.departure.ships
                block = Block(way, candidate.pieces, ships, window)
                yield _Trial((ships, way.index), cost * TIES + 1, block, used_after, booked)

    def _candidate(self, number: int) -> _Candidate:
        row = int(self._table.rows[number])
        portions = self._blocks.members(row)
        pieces = tuple([piece for portion in portions for piece in portion.pieces])
        need = need_of(len(portions), [goods for piece in pieces for goods in piece.sent])
        return _Candidate(row, portions, pieces, need)

    def _drawn(
        self, candidate: _Candidate, used: Mapping[str, Quantity]
    ) -> tuple[int, Cost, Mapping[str, Quantity]] | None:
        """First day, cost and what is used in all when a shipment draws its goods; None when they are not there."""
        after = dict(used)
        ready, cost = 0, 0
        for piece in candidate.pieces:
            for goods in piece.sent:
                code = goods.item.code
                shelf = self._options.shelves(code).get(self._node, ())
                before = after.get(code, 0)
                after[code] = before + goods.quantity
                day = ready_on(shelf, after[code])
                if day is None:
                    return None
                ready = max(ready, day)
                cost += sum(drawing(self._options, piece, goods, draw(shelf, goods.quantity, before)))
        return ready, cost, after

    def _leavings(
        self, way: OpenRoute, ready: int, need: Need, taken: Taken
    ) -> Iterator[tuple[Leaving, tuple[int, ...] | None]]:
        """The departure on the first day with room, once for each window of the day that has it."""
        leaving = leave(self._options, way, ready, need, taken)
        if leaving is None:
            return
        node, day = way.route.node, leaving.departure.ships
        if not node.slots or not self._options.terms.policy.capacity_is_hard:
            yield leaving, None
            return
        for window in way.departures.windows(day):
            bookings = book(node, day, [window], need, taken, hard=True)
            if bookings is not None:
                yield leaving._replace(bookings=bookings), window

    def _fixed_cost(self, candidate: _Candidate, way: OpenRoute) -> Cost:
        """What the goods of a shipment cost whatever stock they are and whenever they leave."""
        key = (candidate.row, way.index)
        known = self._fixed.get(key)
        if known is None:
            prices, route = self._options.prices, way.route
            goods = [portion.goods for portion in candidate.portions]
            weight_ug = sum(each.weight_ug for sent in goods for each in sent)
            freight = prices.freight(route, weight_ug)
            assert freight is not None, "the block is carried by this route"
            known = sum(amount for _, amount in freight) + prices.carbon(route, weight_ug)[1][1]
            known += sum(prices.leaving(route.node, sent) + prices.passing(route, sent) for sent in goods)
            known += sum(substitution(self._options, piece) for piece in candidate.pieces)
            lines = [portion.pieces[0].line for portion in candidate.portions]
            known += sum(self._options.missing_at(line, route.node.code) for line in lines)
            self._fixed[key] = known
        return known
