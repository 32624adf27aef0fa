"""The cheapest way to share an order out among shipments: a dynamic program over sets, and one over amounts.

Over sets of whole lines, as bit masks: `f[A] = min over B with the lowest line of A of best[B] + f[A without B]`, where
best[B] is the cheapest shipment of exactly the lines B, from anywhere. Over amounts, where lines are divided: a node
gives what it has only once, so nodes are added one after another, `f'[a] = min over b <= a of f[a - b] + node[b]`.

Either way what is not shipped waits, at a cost; equal costs go to fewer shipments, then to what was found first, so
that the answer is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poolwise.core.values import Cost

Ints = NDArray[np.int64]

NEVER: Final = 1 << 53
"""More than any cost: what cannot be done. A few hundred of them still add up within 63 bits."""

TIES: Final = 256
"""Costs are multiplied by this and the number of shipments added, so that one comparison orders by both."""

_NEVER: Final = NEVER * TIES
_SMALL: Final = 512


# --- sets of lines


class Limits(NamedTuple):
    """The order's hard rules and what waiting and splitting cost, for lines 0, 1, 2 ... as bits."""

    waiting: Sequence[Cost]
    split_cost: Cost
    most: int | None = None
    complete: bool = False
    together: Sequence[int] = ()
    values: Sequence[Cost] = ()
    least_value: Cost = 0


def partition(best: Sequence[Cost], limits: Limits) -> list[int]:
    """The masks of the shipments of the cheapest plan; lines in none of them wait.

    `best` gives by mask the cost of the cheapest shipment of these lines, NEVER where there is none.
    """
    full = len(best) - 1
    prices = [(cost + limits.split_cost) * TIES + 1 for cost in best]
    if limits.together or limits.least_value > 0:
        # A shipment of everything is the only part there is, whatever it is worth.
        for mask in range(1, full):
            if not _keeps_together(mask, limits) or _value(mask, limits) < limits.least_value:
                prices[mask] = _NEVER
    sums, picks = _fill(prices, None)
    shipped = _cheapest(sums, limits)
    masks = _walk(shipped, [picks] * shipped.bit_count())
    if limits.most is None or len(masks) <= limits.most:
        return masks
    layers = [picks]
    sums = [0, *(_NEVER for _ in range(full))]
    for _ in range(limits.most):
        sums, picks = _fill(prices, sums)
        layers.append(picks)
    return _walk(_cheapest(sums, limits), layers[::-1])


def _fill(prices: Sequence[int], rests: Sequence[int] | None) -> tuple[list[int], list[int]]:
    """By set of lines: the cost of shipping all of it, and the shipment with its lowest line.

    What a shipment leaves over costs what `rests` says; by default, what this very table says.
    """
    sums, picks = [0] * len(prices), [0] * len(prices)
    known = sums if rests is None else rests
    for wanted in range(1, len(prices)):
        others = wanted & (wanted - 1)
        lowest = wanted ^ others
        least, pick, some = _NEVER, 0, others
        while True:
            cost = prices[some | lowest] + known[others ^ some]
            if cost < least:
                least, pick = cost, some | lowest
            if not some:
                break
            some = (some - 1) & others
        sums[wanted], picks[wanted] = least, pick
    return sums, picks


def partition_alike(best: Ints, waiting: Ints, split_cost: Ints) -> list[list[int] | None]:
    """By order what `partition` finds where it ships every line; None where it does not. No rule but cost counts.

    `best` is orders x sets, `waiting` orders x lines, `split_cost` of one order each.
    """
    prices = (best + split_cost[:, None]) * TIES + 1
    sums, picks = np.zeros_like(prices), np.zeros_like(prices)
    everyone = np.arange(len(prices))
    size = prices.shape[1]
    for wanted in range(1, size):
        some = _with_lowest(wanted)
        costs = prices[:, some]
        costs += sums[:, [wanted ^ mask for mask in some]]
        places = costs.argmin(axis=1)
        sums[:, wanted] = np.minimum(costs[everyone, places], _NEVER)
        picks[:, wanted] = np.array(some)[places]
    masks = np.arange(size)
    waits = waiting @ (masks >> np.arange(waiting.shape[1])[:, None] & 1)
    total = sums + (waits[:, ::-1] - split_cost[:, None]) * TIES
    total[:, 0] = waits[:, -1] * TIES
    shipped = np.where(sums < _NEVER, total, _NEVER * 2).argmin(axis=1)
    full = size - 1
    return [
        _walk(full, [row] * full) if mask == full else None
        for row, mask in zip(picks.tolist(), shipped.tolist(), strict=True)
    ]


@lru_cache(maxsize=_SMALL)
def _with_lowest(wanted: int) -> list[int]:
    """The subsets of a set with its lowest line, largest first."""
    others = wanted & (wanted - 1)
    lowest = wanted ^ others
    found = [wanted]
    some = others
    while some:
        some = (some - 1) & others
        found.append(some | lowest)
    return found


def _cheapest(sums: Sequence[int], limits: Limits) -> int:
    """The set that is shipped in the best plan: what is not shipped waits, and the first shipment is no split."""
    full = len(sums) - 1
    waits = [0]
    for cost in limits.waiting:
        waits += [wait + cost for wait in waits]
    limited = bool(limits.together or limits.least_value > 0)
    best, shipped = waits[full] * TIES, 0
    for mask in range(1, full + 1):
        cost = sums[mask] + (waits[full ^ mask] - limits.split_cost) * TIES
        if cost < best and sums[mask] < _NEVER:
            if mask != full and (limits.complete or (limited and not _may_wait(full ^ mask, limits))):
                continue
            best, shipped = cost, mask
    return shipped


def _walk(wanted: int, layers: Sequence[Sequence[int]]) -> list[int]:
    masks: list[int] = []
    while wanted:
        mask = layers[len(masks)][wanted]
        masks.append(mask)
        wanted ^= mask
    return masks


def _keeps_together(mask: int, limits: Limits) -> bool:
    return all(mask & group in (0, group) for group in limits.together)


def _may_wait(waiting: int, limits: Limits) -> bool:
    """Whether some but not all lines may wait: groups whole, and worth enough."""
    return _keeps_together(waiting, limits) and _value(waiting, limits) >= limits.least_value


def _value(mask: int, limits: Limits) -> Cost:
    return sum(value for line, value in enumerate(limits.values) if mask >> line & 1)


# --- amounts


class Offer(NamedTuple):
    """What a node can do: amounts as states (one may come more than once), at what cost, in how many shipments."""

    states: Ints
    costs: Ints
    shipments: Ints


Taken = tuple[int, int]
"""A node, in the order added, and the place in its offer."""


class Lattice:
    """Amounts along several axes, each from 0 to its size less 1; the number of a state is in mixed radix."""

    def __init__(self, sizes: Sequence[int]) -> None:
        """The first axis is the fastest."""
        self.sizes = tuple(sizes)
        self.strides = [1]
        for size in self.sizes:
            self.strides.append(self.strides[-1] * size)
        self.states = self.strides.pop()

    def amounts(self, axis: int) -> Ints:
        """By state: the amount along an axis."""
        return np.arange(self.states, dtype=np.int64) // self.strides[axis] % self.sizes[axis]

    def rests(self, state: int, taken: Ints) -> Ints:
        """The states left of one state; `states` where it is impossible."""
        if self.states <= _SMALL:
            known: Ints = _all_differences(self.sizes)[state].take(taken)
            return known
        found: Ints = _differences(self, taken, np.array([state], dtype=np.int64))[0]
        return found

    def without(self, taken: Ints) -> Ints:
        """The states left of every state when some are taken (states x taken); `states` where that is impossible."""
        if self.states <= _SMALL:
            return _all_differences(self.sizes).take(taken, axis=1)
        return _differences(self, taken, np.arange(self.states, dtype=np.int64))


@lru_cache(maxsize=16)
def _all_differences(sizes: tuple[int, ...]) -> Ints:
    lattice = Lattice(sizes)
    every = np.arange(lattice.states, dtype=np.int64)
    return _differences(lattice, every, every)


def _differences(lattice: Lattice, taken: Ints, of: Ints) -> Ints:
    """Subtract all axes at once: amounts are packed into the bits of one number, a guard bit above each."""
    packed = np.zeros(lattice.states, dtype=np.int64)
    guards = shift = 0
    for axis, size in enumerate(lattice.sizes):
        packed += lattice.amounts(axis) << shift
        shift += size.bit_length() + 1
        guards |= 1 << (shift - 1)
    assert shift < 63
    # A guard bit is borrowed where more is taken than there is.
    possible = ((packed[of] | guards)[:, None] - packed[taken]) & guards == guards
    return np.where(possible, of[:, None] - taken, lattice.states)


class _Choices(NamedTuple):
    """Of the amounts of an offer in so many shipments (`mine`; None for all): the best by state, and where it is taken.

    Their rows begin with that of so many shipments.
    """

    shipments: int
    mine: Ints | None
    choices: Ints
    better: NDArray[np.bool_]


class Spread:
    """Shipping what is left, node after node: by state left (and by number of shipments, where that is limited)."""

    def __init__(self, lattice: Lattice, finals: Ints, most: int | None = None) -> None:
        """`finals` is by state what it costs that it stays left.

        With `most`, row n of `sums` is the least cost in at most n shipments; else there is one row.
        """
        self._lattice = lattice
        self._most = most
        self.sums: Ints = np.full((1 if most is None else most + 1, lattice.states + 1), _NEVER, dtype=np.int64)
        self.sums[:, :-1] = finals
        self._added: list[tuple[Offer, list[_Choices]]] = []

    def add(self, offer: Offer) -> None:
        """Let a node take part: at most one of the amounts it offers is taken."""
        rows, tables = len(self.sums), []
        counts = [0] if self._most is None else sorted(set(offer.shipments.tolist()))
        before = self.sums if len(counts) == 1 else self.sums.copy()
        for count in counts:
            if count < rows:
                mine = np.flatnonzero(offer.shipments == count) if len(counts) > 1 else None
                some = offer if mine is None else Offer(*[each.take(mine) for each in offer])
                totals = before[: rows - count].take(self._lattice.without(some.states), axis=1)
                totals += some.costs
                least, sums = totals.min(axis=2), self.sums[count:, :-1]
                tables.append(_Choices(count, mine, totals.argmin(axis=2), least < sums))
                np.minimum(sums, least, out=sums)
        self._added.append((offer, tables))

    def walk(self, count: int, state: int) -> list[Taken]:
        """What is taken of a state in at most `count` shipments."""
        taken: list[Taken] = []
        for node in range(len(self._added) - 1, -1, -1):
            offer, tables = self._added[node]
            for shipments, mine, choices, better in reversed(tables):
                if shipments <= count and better[count - shipments, state]:
                    place = int(choices[count - shipments, state])
                    place = place if mine is None else int(mine[place])
                    taken.append((node, place))
                    state -= int(offer.states[place])
                    count -= shipments
                    break
        return taken[::-1]

    def lowered(self, offer: Offer) -> Ints:
        """The sums, if single shipments of an offer could be added as often as one likes."""
        rests = self._lattice.without(offer.states)
        found = self.sums.copy()
        for count in range(self._lattice.states if self._most is None else self._most):
            # In rows of their own shipments are counted; else one more is added until none helps.
            before, after = (0, 0) if self._most is None else (count, count + 1)
            totals = (found[before].take(rests) + offer.costs).min(axis=1)
            if self._most is None and not (totals < found[0, :-1]).any():
                break
            np.minimum(found[after, :-1], totals, out=found[after, :-1])
        return found


def spread(lattice: Lattice, offers: Sequence[Offer], finals: Ints, most: int | None) -> tuple[Spread, list[Taken]]:
    """How the cheapest plan in at most `most` shipments was found, and the offers taken in it.

    `finals` is by state what it costs that it waits. All costs include TIES.
    """
    found = Spread(lattice, finals)
    for offer in offers:
        found.add(offer)
    taken = found.walk(0, lattice.states - 1)
    if most is None or sum(int(offers[node].shipments[place]) for node, place in taken) <= most:
        return found, taken
    found = Spread(lattice, finals, most)
    for offer in offers:
        found.add(offer)
    return found, found.walk(most, lattice.states - 1)
