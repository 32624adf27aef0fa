"""How good decisions are, and how quick: against the hindsight bound, and beside two simple rules.

The standard instance (`bench.standard`) is served order by order, in sequence, from the same stock: by the order engine
through an edition and a policy; from the nearest pool that has everything, else greedily; and in as few parcels as can
be. `ratio_*` is cost over the bound of `core.sourcing.bound`, by seed. Every plan of the engine is compared with a few
lines here that know nothing of it. Then the engine is timed under the shipped policy, with orders of 5 and 8 lines at
40 nodes, and where a line's quantity must be split: the median over rounds of the 99th percentile, solving alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from random import Random
from statistics import median, quantiles
from typing import Final
from uuid import UUID

import numpy as np

from bench.standard import DROP_FIXED, DROP_PER_KG, GRAMS, ZONES, Instance, Size, instance
from poolwise.connect.directory.policies import default_policy
from poolwise.core.catalog import Catalog, Item
from poolwise.core.edition.build import Edition
from poolwise.core.network import (
    CapacityUnit,
    CostCard,
    Lane,
    Network,
    Node,
    Pool,
    RateBand,
    RateCard,
    Slot,
    Transit,
    Zone,
)
from poolwise.core.orders import Line, Order
from poolwise.core.policy.evaluate import OrderFacts, compile_policy
from poolwise.core.policy.terms import LineSplit, SourcingPolicy, SubstitutionMode
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.bound import Crowd, hindsight_bound
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.partition import NEVER
from poolwise.core.sourcing.problem import Demand, Facts, Place, Problem, StockFact, shelves_of
from poolwise.core.values import MICROGRAMS_PER_KG, MILLION, Cost, Rate, ServiceLevel
from poolwise.run.bootstrap import seek_cycles_seldom

AT: Final = datetime(2026, 3, 2, 8, tzinfo=UTC)
STANDARD: Final = Size()
SEEDS: Final = (1, 2, 3, 4, 5)
ROUNDS: Final = 5
NODES: Final = 40
DROP: Final = "DROP"
PLENTY: Final = 1_000_000


def parcel_fixed(zone: int) -> Rate:
    """What a parcel costs into a zone: 3.0 + 0.6 x zone."""
    return Rate(30 + 6 * zone, 1)


def parcel_per_kg(zone: int) -> Rate:
    """And for each kg: 0.3 + 0.2 x zone."""
    return Rate(3 + 2 * zone, 1)


# --- the engine ---------------------------------------------------------------------------------------------------


class Engine:
    """The order engine on an instance. What no pool serves comes from a drop-shipper that has everything."""

    def __init__(self, standard: Instance) -> None:
        """The instance as an edition: a node and a pool for each of its pools."""
        pools, regions = standard.zones.shape
        bands = {z: RateBand(0, 10**12, parcel_fixed(z), per_kg=parcel_per_kg(z)) for z in range(1, ZONES + 1)}
        rates = {f"R{z}": RateCard(f"R{z}", (band,)) for z, band in bands.items()}
        rates[DROP] = RateCard(DROP, (RateBand(0, 10**12, per_kg=Rate(DROP_PER_KG)),))
        lanes = {}
        for region in range(regions):
            for pool in range(pools):
                code = f"N{pool}-Z{region}"
                lanes[code] = Lane(code, f"N{pool}", f"Z{region}", f"R{standard.zones[pool, region]}")
            lanes[f"{DROP}-Z{region}"] = Lane(f"{DROP}-Z{region}", DROP, f"Z{region}", DROP)
        nodes = {f"N{pool}": Node(f"N{pool}") for pool in range(pools)}
        nodes[DROP] = Node(DROP, costs=CostCard(per_line=Rate(DROP_FIXED)))
        network = Network(
            nodes=nodes,
            zones={f"Z{region}": Zone(f"Z{region}") for region in range(regions)},
            rates=rates,
            lanes=lanes,
            pools={code: Pool(code) for code in nodes},
        )
        weights = standard.weights_g.tolist()
        items = {f"I{n}": Item(f"I{n}", weight_ug=w * (MICROGRAMS_PER_KG // GRAMS)) for n, w in enumerate(weights)}
        policy = SourcingPolicy(
            "standard", 1, service_levels={"standard": ServiceLevel("standard")}, line_split=LineSplit.NEVER,
            substitution=SubstitutionMode.NEVER, backorder_cost_per_line=Rate(100_000),
        )  # fmt: skip
        self.atlas = Atlas(Edition("standard", network, Catalog(items=items)), compile_policy(policy))
        numbers = count(1)
        kept = [np.flatnonzero(row).tolist() for row in standard.stock]
        self._places = [
            [*(Place(next(numbers), f"I{n}", f"N{p}", f"N{p}") for p in own), Place(next(numbers), f"I{n}", DROP, DROP)]
            for n, own in enumerate(kept)
        ]

    def choose(self, number: int, region: int, items: Sequence[int], stock: np.ndarray) -> tuple[Cost, list[int]]:
        """The plan for an order: its cost, and which pool serves each line (-1 is the drop-shipper)."""
        lines = tuple(Line(no, f"I{item}", 1) for no, item in enumerate(items, start=1))
        order = Order(UUID(int=number), f"O{number}", 0, AT, "web", f"Z{region}", lines)
        places = [place for item in sorted(items, key=lambda item: f"I{item}") for place in self._places[item]]
        left = [PLENTY if p.node == DROP else int(stock[int(p.item[1:]), int(p.node[1:])]) for p in places]
        facts = Facts(AT, shelves_of(map(StockFact, places, left)))
        edition = self.atlas.edition
        terms = self.atlas.policy.terms(OrderFacts(order, edition.network, edition.catalog))
        plan = solve(Problem(Demand(order, tuple((line.no, 1) for line in lines)), edition, terms, facts), self.atlas)
        assert not plan.unserved, "the drop-shipper has everything"
        by_line = {part.line_no: -1 if part.node == DROP else int(part.node[1:]) for part in plan.assignments}
        return plan.objective, [by_line[line.no] for line in lines]


# --- the same, in a few lines -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Prices:
    """What an order of an instance can be served for: by pool, in millionths."""

    fixed: list[Cost]
    goods: list[list[Cost]]
    drop: list[Cost]

    @classmethod
    def of(cls, standard: Instance, region: int, items: Sequence[int]) -> Prices:
        """A parcel from each pool, each line in it, and each line drop-shipped."""
        zones = standard.zones[:, region].tolist()
        weights = [int(standard.weights_g[item]) for item in items]
        per_g = [(3 + 2 * zone) * (MILLION // 10 // GRAMS) for zone in zones]
        return cls(
            [(30 + 6 * zone) * (MILLION // 10) for zone in zones],
            [[weight * rate for rate in per_g] for weight in weights],
            [DROP_FIXED * MILLION + weight * DROP_PER_KG * (MILLION // GRAMS) for weight in weights],
        )

    def cost(self, pools: Sequence[int]) -> Cost:
        """What it costs to serve each line from a pool, or (-1) not at all."""
        parcels = sum(self.fixed[pool] for pool in {pool for pool in pools if pool >= 0})
        return parcels + sum(self.drop[n] if pool < 0 else self.goods[n][pool] for n, pool in enumerate(pools))


def cheapest(prices: Prices, has: Sequence[Sequence[bool]], per_parcel: Cost = 0) -> list[int]:
    """The pools of the cheapest plan: opened pools are tried one after another. `per_parcel` is added to each."""
    lines = len(has)
    best: dict[int, tuple[Cost, tuple[int, ...]]] = {0: (0, ())}
    for pool in range(len(prices.fixed)):
        mine = [n for n in range(lines) if has[n][pool]]
        after = dict(best)
        for served, (cost, pools) in best.items():
            own = [n for n in mine if not served >> n & 1]
            for chosen in range(1, 1 << len(own)):
                block = [own[k] for k in range(len(own)) if chosen >> k & 1]
                total = cost + prices.fixed[pool] + per_parcel + sum(prices.goods[n][pool] for n in block)
                mask = served | sum(1 << n for n in block)
                if mask not in after or total < after[mask][0]:
                    placed = dict(enumerate(pools)) if pools else dict.fromkeys(range(lines), -1)
                    placed.update(dict.fromkeys(block, pool))
                    after[mask] = (total, tuple(placed[n] for n in range(lines)))
        best = after
    ends = [
        (cost + sum(prices.drop[n] + per_parcel for n in range(lines) if not mask >> n & 1), mask)
        for mask, (cost, _) in best.items()
    ]
    pools = best[min(ends)[1]][1]
    return list(pools) if pools else [-1] * lines


def nearest(standard: Instance, region: int, has: Sequence[Sequence[bool]]) -> list[int]:
    """The nearest pool with everything; else, again and again, that with most of what is left, the nearest of them."""
    by_distance = np.argsort(standard.distances_km[:, region], kind="stable").tolist()
    pools = [-1] * len(has)
    left = set(range(len(has)))
    while left:
        pool = max(by_distance, key=lambda pool: sum(has[n][pool] for n in left))
        taken = {n for n in left if has[n][pool]}
        if not taken:
            break
        for n in taken:
            pools[n] = pool
        left -= taken
    return pools


def served(standard: Instance, choose: Callable[[int, int, Sequence[int], np.ndarray], list[int]]) -> Cost:
    """What it costs to serve all orders in sequence, each from what its predecessors left."""
    stock = standard.stock.copy()
    total = 0
    for number, (region, items) in enumerate(standard.orders, start=1):
        pools = choose(number, region, items, stock)
        total += Prices.of(standard, region, items).cost(pools)
        for item, pool in zip(items, pools, strict=True):
            if pool >= 0:
                stock[item, pool] -= 1
                assert stock[item, pool] >= 0, "nothing is sold twice"
    return total


def crowds_of(standard: Instance) -> list[Crowd]:
    """The orders by number of lines, for the bound."""
    keeps = standard.stock > 0
    crowds = []
    for lines in sorted({len(items) for _, items in standard.orders}):
        own = [(region, items) for region, items in standard.orders if len(items) == lines]
        priced = [Prices.of(standard, region, items) for region, items in own]
        items = np.array([items for _, items in own])
        goods = np.where(keeps[items], np.array([each.goods for each in priced]), NEVER)
        fixed, drop = np.array([each.fixed for each in priced]), np.array([each.drop for each in priced])
        crowds.append(Crowd(fixed, goods, drop, items, np.ones_like(items)))
    return crowds


@dataclass(frozen=True, slots=True)
class Quality:
    """Costs over the bound for one seed."""

    nearest: float
    fewest_parcels: float
    exact: float


def quality(seed: int, size: Size) -> Quality:
    """The three ways and the bound on the instance of a seed."""
    standard = instance(seed, size)
    engine = Engine(standard)

    def has(items: Sequence[int], stock: np.ndarray) -> list[list[bool]]:
        return [(stock[item] > 0).tolist() for item in items]

    def exact(number: int, region: int, items: Sequence[int], stock: np.ndarray) -> list[int]:
        prices = Prices.of(standard, region, items)
        objective, pools = engine.choose(number, region, items, stock)
        least = prices.cost(cheapest(prices, has(items, stock)))
        assert objective == prices.cost(pools) == least, f"order {number}: {objective}, but {least} is the least"
        return pools

    def fewest(_: int, region: int, items: Sequence[int], stock: np.ndarray) -> list[int]:
        return cheapest(Prices.of(standard, region, items), has(items, stock), per_parcel=1_000 * MILLION)

    costs = [
        served(standard, lambda _, region, items, stock: nearest(standard, region, has(items, stock))),
        served(standard, fewest),
        served(standard, exact),
    ]
    bound = hindsight_bound(crowds_of(standard), standard.stock).cost
    return Quality(*(cost / bound for cost in costs))


# --- how quick ----------------------------------------------------------------------------------------------------


class Clocked:
    """Orders at forty nodes under the shipped policy, with stock, daily capacity and transit times."""

    def __init__(self, seed: int) -> None:
        """The network of a seed."""
        random = Random(seed)
        items = {f"I{n}": Item(f"I{n}", weight_ug=random.randint(50, 5_000) * 1_000_000) for n in range(500)}
        slot = Slot(CapacityUnit.ORDERS, 10_000)
        bands = {z: RateBand(0, 10**12, parcel_fixed(z), per_kg=parcel_per_kg(z)) for z in range(1, ZONES + 1)}
        lanes = {}
        for node in range(NODES):
            for zone in range(50):
                ring = random.randint(1, ZONES)
                transit = Transit(((1 + ring // 3, 800_000), (2 + ring // 3, 200_000)))
                code = f"N{node}-Z{zone}"
                lanes[code] = Lane(
                    code, f"N{node}", f"Z{zone}", f"R{ring}", transit=transit, distance_km=350 * ring,
                    co2e_g_per_kg=Rate(20 * ring),
                )  # fmt: skip
        cards = [CostCard(Rate(random.randint(20, 90), 2), Rate(random.randint(10, 60), 2)) for _ in range(NODES)]
        network = Network(
            nodes={f"N{n}": Node(f"N{n}", costs=card, slots=(slot,)) for n, card in enumerate(cards)},
            zones={f"Z{n}": Zone(f"Z{n}") for n in range(50)},
            rates={f"R{z}": RateCard(f"R{z}", (band,)) for z, band in bands.items()},
            lanes=lanes,
            pools={"stock": Pool("stock")},
        )
        self._random = random
        self.atlas = Atlas(Edition("clocked", network, Catalog(items=items)), compile_policy(default_policy()))
        numbers = count(1)
        self._places = {code: [Place(next(numbers), code, f"N{n}", "stock") for n in range(NODES)] for code in items}

    def problem(self, number: int, lines: int, split: bool) -> Problem:
        """An order; with `split` one of its lines wants more than any node has."""
        random = self._random
        codes = random.sample(sorted(self._places), lines)
        wanted = tuple(Line(no, code, random.randint(1, 3)) for no, code in enumerate(codes, start=1))
        most = dict.fromkeys(codes, 40)
        if split:
            wanted = (Line(1, codes[0], random.randint(11, 20)), *wanted[1:])
            most[codes[0]] = 10
        order = Order(UUID(int=number), f"O{number}", 0, AT, "web", f"Z{random.randrange(50)}", wanted)
        facts = [
            StockFact(place, 0 if random.random() < 0.4 else random.randint(1, most[code]))
            for code in sorted(codes)
            for place in self._places[code]
        ]
        edition = self.atlas.edition
        terms = self.atlas.policy.terms(OrderFacts(order, edition.network, edition.catalog))
        return Problem(
            Demand(order, tuple((line.no, line.quantity) for line in wanted)),
            edition,
            terms,
            Facts(AT, shelves_of(facts)),
        )

    def p99_ms(self, lines: int, decisions: int, split: bool = False) -> float:
        """The median over rounds of the 99th percentile; the first decisions warm the memories up."""
        seek_cycles_seldom()  # as a worker does
        found = []
        for round_no in range(ROUNDS + 1):
            taken = []
            for number in range(decisions):
                problem = self.problem(1 + round_no * decisions + number, lines, split)
                began = time.perf_counter_ns()
                solve(problem, self.atlas)
                taken.append((time.perf_counter_ns() - began) / 1e6)
            found.append(quantiles(taken, n=100)[98])
        return median(found[1:])


def main() -> None:
    """Run the benchmark and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--orders", type=int, default=STANDARD.orders)
    parser.add_argument("--coverage", type=float, default=STANDARD.coverage)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()
    size = replace(STANDARD, orders=asked.orders, coverage=asked.coverage)
    clocked = Clocked(asked.seeds[0])
    quick = {
        "decision_p99_ms": round(clocked.p99_ms(5, 1_000), 3),
        "decision_8x40_p99_ms": round(clocked.p99_ms(8, 500), 3),
        "decision_split_p99_ms": round(clocked.p99_ms(5, 100, split=True), 3),
    }
    found = [quality(seed, size) for seed in asked.seeds]
    report = {
        "seeds": asked.seeds,
        "ratio_nearest": [round(each.nearest, 4) for each in found],
        "ratio_fewest_parcels": [round(each.fewest_parcels, 4) for each in found],
        "ratio_exact": [round(each.exact, 4) for each in found],
        **quick,
        "inputs": {"pools": size.pools, "items": size.items, "orders": size.orders, "coverage": size.coverage},
    }
    print(json.dumps(report, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
