"""The hindsight bound is below the optimum of an independent MIP at any prices, and close to it at good ones."""

from __future__ import annotations

import numpy as np
import pytest

from poolwise.core.sourcing.bound import Crowd, hindsight_bound, lagrangian
from poolwise.core.sourcing.partition import NEVER, Ints
from poolwise.core.sourcing.solver import Model

SEEDS = range(25)


def small(seed: int) -> tuple[list[Crowd], Ints]:
    """A few orders of one to three lines for a few items at a few nodes, with little stock."""
    random = np.random.default_rng(seed)
    items, nodes = int(random.integers(1, 5)), int(random.integers(1, 4))
    stock = random.integers(0, 4, (items, nodes))
    crowds = []
    for lines in range(1, 1 + min(3, items)):
        orders = int(random.integers(1, 5))
        chosen = np.array([random.permutation(items)[:lines] for _ in range(orders)])
        goods = random.integers(0, 9_000_000, (orders, lines, nodes))
        goods[(stock == 0)[chosen]] = NEVER
        fixed = random.integers(0, 9_000_000, (orders, nodes))
        unserved = random.integers(5_000_000, 30_000_000, (orders, lines))
        crowds.append(Crowd(fixed, goods, unserved, chosen, random.integers(1, 3, (orders, lines))))
    return crowds, stock


def optimum(crowds: list[Crowd], stock: Ints) -> float:
    """Every order at once: a line is at one node, whose shipment is paid for, or unserved; stock is a limit."""
    model = Model()
    uses: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for crowd in crowds:
        for order in range(len(crowd.fixed)):
            opened = [model.variable(int(cost)) for cost in crowd.fixed[order]]
            for line, item in enumerate(crowd.items[order].tolist()):
                served = [(model.variable(int(crowd.unserved[order, line])), 1.0)]
                for node, cost in enumerate(crowd.goods[order, line].tolist()):
                    if cost < NEVER:
                        here = model.variable(cost)
                        served.append((here, 1.0))
                        model.row([(here, 1.0), (opened[node], -1.0)], upper=0)
                        uses.setdefault((item, node), []).append((here, float(crowd.quantities[order, line])))
                model.row(served, 1, 1)
    for (item, node), terms in uses.items():
        model.row(terms, upper=int(stock[item, node]))
    solution = model.minimise(100_000)
    assert solution is not None
    assert solution.gap_ppm == 0
    return float(np.dot(solution.values, model.costs))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bound_is_below_the_optimum_at_any_prices(seed: int) -> None:
    crowds, stock = small(seed)
    least = optimum(crowds, stock)
    random = np.random.default_rng(seed)
    for scale in (0, 1_000, 1_000_000, 5_000_000, 20_000_000):
        prices = random.integers(0, scale + 1, stock.shape)
        assert lagrangian(crowds, stock, prices).bound <= least + 1
    assert hindsight_bound(crowds, stock).cost <= least + 1


def test_the_bound_is_close_to_the_optimum() -> None:
    bounds, optima, unpriced = 0, 0.0, 0
    for seed in SEEDS:
        crowds, stock = small(seed)
        bounds += hindsight_bound(crowds, stock).cost
        unpriced += lagrangian(crowds, stock, np.zeros_like(stock)).bound
        optima += optimum(crowds, stock)
    assert 0.95 * optima < bounds <= optima
    assert unpriced < 0.9 * optima


def test_scarce_stock_gets_the_price_of_what_it_saves() -> None:
    # One unit, two orders: it saves one of them 6, the other 9; at any price between, only one wants it.
    fixed = np.zeros((2, 1), dtype=np.int64)
    goods = np.ones((2, 1, 1), dtype=np.int64)
    unserved = np.array([[7], [10]])
    crowd = Crowd(fixed, goods, unserved, np.zeros((2, 1), dtype=np.int64), np.ones((2, 1), dtype=np.int64))
    found = hindsight_bound([crowd], np.array([[1]]))
    assert found.cost == 8
    assert 6 <= found.prices[0, 0] <= 9
    assert lagrangian([crowd], np.array([[1]]), np.array([[7]])).taken.tolist() == [[1]]
