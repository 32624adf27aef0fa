"""The hindsight bound: no way to serve these orders from this stock could have cost less (ALGORITHMS section 1, H).

Stock is relaxed: a unit of an item at a node has a price instead of a limit, and every order is then served at its
best by itself. What that costs, less the price of all stock, is a lower bound for any prices (Lagrangian duality);
a subgradient method looks for prices at which it is high. Costs and prices are integer millionths, so that the bound
is exact; a cost that had to be rounded is to be handed in rounded down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from poolwise.core.sourcing.partition import NEVER, Ints
from poolwise.core.values import Cost

MOST_LINES: Final = 8
FIRST_SHARE: Final = 0.1
FADING: Final = 0.7
"""The search aims this share above the best bound so far; by this it aims lower when a while brought little."""

PATIENCE_ROUNDS: Final = 5
LITTLE: Final = 0.1
_LARGEST: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Crowd:
    """Orders of equally many lines, and what serving them costs when stock is no matter.

    A shipment costs `fixed` (orders x nodes) and `goods` (orders x lines x nodes) for each line in it, NEVER where the
    node does not keep the item; a line that nothing serves costs `unserved` (orders x lines). `items` and `quantities`
    (orders x lines) are what lines take.
    """

    fixed: Ints
    goods: Ints
    unserved: Ints
    items: Ints
    quantities: Ints


class Dual(NamedTuple):
    """The bound at some prices, and what all orders together would take of each item at each node."""

    bound: Cost
    taken: Ints


def lagrangian(crowds: Sequence[Crowd], stock: Ints, prices: Ints) -> Dual:
    """The lower bound at `prices` (items x nodes, millionths, not negative) for a `stock` of the same shape."""
    assert prices.min(initial=0) >= 0, "stock has no negative price"
    assert int(prices.max(initial=0)) * int(stock.sum()) < _LARGEST, "prices beyond all measure"
    taken = np.zeros_like(stock)
    total = -int((prices * stock).sum())
    for crowd in crowds:
        total += _serve(crowd, prices, taken)
    return Dual(total, taken)


def _serve(crowd: Crowd, prices: Ints, taken: Ints) -> Cost:
    """What orders cost at their best, each by itself; adds what they take. Exact: a best cover of lines by blocks."""
    orders, lines, _ = crowd.goods.shape
    assert lines <= MOST_LINES, f"at most {MOST_LINES} lines are covered exactly"
    goods = np.minimum(crowd.goods + prices[crowd.items] * crowd.quantities[:, :, None], NEVER)
    full = (1 << lines) - 1
    node_of = np.zeros((full + 1, orders), dtype=np.int64)
    together = np.zeros((full + 1, *crowd.fixed.shape), dtype=np.int64)
    least = np.zeros((full + 1, orders), dtype=np.int64)
    block_of = np.zeros((full + 1, orders), dtype=np.int64)
    everyone = np.arange(orders)
    alone = np.zeros((full + 1, orders), dtype=np.int64)
    for block in range(1, full + 1):
        lowest = (block & -block).bit_length() - 1
        together[block] = together[block & (block - 1)] + goods[:, lowest]
        costs = together[block] + crowd.fixed
        node_of[block] = costs.argmin(axis=1)
        alone[block] = costs[everyone, node_of[block]]
        if block & (block - 1) == 0:
            waits = crowd.unserved[:, lowest] < alone[block]
            node_of[block][waits] = -1
            alone[block][waits] = crowd.unserved[waits, lowest]
    for lines_left in range(1, full + 1):
        first = lines_left & -lines_left
        others = lines_left ^ first
        rest = others
        least[lines_left], block_of[lines_left] = alone[first] + least[others], first
        while rest:
            block = first | rest
            cost = alone[block] + least[lines_left ^ block]
            better = cost < least[lines_left]
            least[lines_left][better], block_of[lines_left][better] = cost[better], block
            rest = (rest - 1) & others
    _take(crowd, node_of, block_of, taken)
    return int(least[full].sum())


def _take(crowd: Crowd, node_of: Ints, block_of: Ints, taken: Ints) -> None:
    """Follow the best covers and add up what they take."""
    orders, lines, _ = crowd.goods.shape
    everyone = np.arange(orders)
    left = np.full(orders, (1 << lines) - 1)
    for _ in range(lines):
        block = block_of[left, everyone]
        node = node_of[block, everyone]
        for line in range(lines):
            served = (block >> line & 1).astype(bool) & (node >= 0)
            np.add.at(taken, (crowd.items[served, line], node[served]), crowd.quantities[served, line])
        left ^= block


class Bound(NamedTuple):
    """The highest bound that was found, and the prices that give it."""

    cost: Cost
    prices: Ints


def hindsight_bound(crowds: Sequence[Crowd], stock: Ints, rounds: int = 250) -> Bound:
    """A high lower bound on the cost of serving all orders from the stock.

    Each step goes along the mean of the newest subgradient and the direction before, as far as would reach a level
    somewhat above the best bound if that direction kept its promise.
    """
    # A unit is worth no more than the line it serves costs unserved.
    dearest = max(int(crowd.unserved.max()) for crowd in crowds)
    prices = np.zeros(stock.shape, dtype=np.float64)
    direction = np.zeros_like(prices)
    best = Bound(lagrangian(crowds, stock, np.zeros_like(stock)).bound, np.zeros_like(stock))
    share, idle = FIRST_SHARE, 0
    for _ in range(rounds):
        whole = np.rint(prices).astype(np.int64)
        bound, taken = lagrangian(crowds, stock, whole)
        idle = 0 if bound - best.cost > LITTLE * share * abs(best.cost) else idle + 1
        if bound > best.cost:
            best = Bound(bound, whole)
        if idle >= PATIENCE_ROUNDS:
            share, idle = share * FADING, 0
        direction = (direction + (taken - stock)) / 2
        uphill = np.where((direction < 0) & (prices <= 0), 0, direction)
        length = float((uphill * uphill).sum())
        if not length:
            break
        step = (best.cost + share * abs(best.cost) - bound) / length
        prices = np.clip(prices + step * uphill, 0, dearest)
    return best
