"""The standard instance is as described, equal seeds give equal ones, and the engine is the cheapest order by order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.quality import Engine, Prices, cheapest, quality
from bench.standard import Size, instance

SMALL = Size(pools=6, items=60, orders=300)


def test_the_instance_is_as_described() -> None:
    found = instance(3, Size())
    lines = [len(items) for _, items in found.orders]
    assert [round(lines.count(n) / len(lines), 2) for n in range(1, 6)] == pytest.approx(
        [0.5, 0.25, 0.13, 0.07, 0.05], abs=0.02
    )
    assert found.stock.sum() / sum(lines) == pytest.approx(1.3, abs=0.05)
    assert (found.stock > 0).mean() == pytest.approx(0.5, abs=0.1)
    assert {int(zone) for zone in np.unique(found.zones)} <= set(range(1, 9))
    assert all(len(set(items)) == len(items) for _, items in found.orders)


def test_equal_seeds_give_equal_instances() -> None:
    one, same, other = instance(1, SMALL), instance(1, SMALL), instance(2, SMALL)
    assert one.orders == same.orders
    assert (one.stock == same.stock).all()
    assert one.orders != other.orders


@pytest.mark.parametrize("seed", [1, 2])
def test_the_engine_beats_the_simple_rules_and_nothing_beats_the_bound(seed: int) -> None:
    # `quality` itself compares each plan of the engine with the few independent lines.
    found = quality(seed, SMALL)
    assert 1 <= found.exact <= min(found.nearest, found.fewest_parcels)
    assert found.exact < 1.3


def test_a_plan_that_is_not_the_cheapest_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def dropped(_: Engine, _number: int, _region: int, items: list[int], _stock: object) -> tuple[int, list[int]]:
        return 0, [-1] * len(items)

    monkeypatch.setattr(Engine, "choose", dropped)
    with pytest.raises(AssertionError, match="is the least"):
        quality(1, replace(SMALL, orders=20))


def test_the_few_lines_find_the_cheapest_of_all_plans() -> None:
    prices = Prices([3, 4], [[5, 1], [2, 9], [7, 7]], [20, 20, 6])
    assert cheapest(prices, [[True, True], [True, False], [True, True]]) == [0, 0, -1]
    assert cheapest(prices, [[True, True], [True, False], [True, True]], per_parcel=1_000) == [0, 0, 0]
