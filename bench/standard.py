"""The standard instance for the quality of decisions: pools and regions in a plane, small orders, scarce stock.

Regions and pools lie in 4,000 x 2,500 km. A parcel costs 3.0 + 0.6 x zone and (0.3 + 0.2 x zone) per kg, zone = 1..8 by
350 km. Weights are lognormal; of the further lines of an order 60 % are of the first one's category; demand is Zipf 0.7
by item and Dirichlet by region. Each item is kept in about half of the pools, its stock (coverage x forecast) shared
near demand with lognormal 0.7 noise. A line that no pool serves is drop-shipped at 15 and 1 per kg. Nothing is
replenished.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

WIDE_KM: Final = 4_000
HIGH_KM: Final = 2_500
ZONE_KM: Final = 350
ZONES: Final = 8
LINES_SHARES: Final = (0.50, 0.25, 0.13, 0.07, 0.05)
SAME_CATEGORY: Final = 0.6
ZIPF: Final = 0.7
NOISE: Final = 0.7
ITEMS_A_CATEGORY: Final = 20
WEIGHT_SPREAD: Final = 0.7
DROP_FIXED: Final = 15
DROP_PER_KG: Final = 1
GRAMS: Final = 1_000

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Size:
    """How large an instance is, and the stock as a multiple of the forecast."""

    pools: int = 10
    items: int = 1_000
    orders: int = 10_000
    regions: int = 50
    coverage: float = 1.3


@dataclass(frozen=True, slots=True)
class Instance:
    """`zones` are by pool and region, `weights_g` by item, `stock` by item and pool; orders are a region and items."""

    zones: Ints
    distances_km: NDArray[np.float64]
    weights_g: Ints
    stock: Ints
    orders: tuple[tuple[int, tuple[int, ...]], ...]


def instance(seed: int, size: Size) -> Instance:
    """The instance of a seed."""
    random = np.random.default_rng(seed)
    plane = np.array([WIDE_KM, HIGH_KM])
    pools, regions = random.random((size.pools, 2)) * plane, random.random((size.regions, 2)) * plane
    distances = np.linalg.norm(pools[:, None] - regions[None], axis=2)
    zones = np.minimum(ZONES, 1 + (distances // ZONE_KM).astype(np.int64))
    weights_g = np.maximum(1, np.rint(GRAMS * random.lognormal(0, WEIGHT_SPREAD, size.items))).astype(np.int64)
    popular = 1 / np.arange(1, size.items + 1) ** ZIPF
    popular = random.permutation(popular / popular.sum())
    wanted = random.dirichlet(np.ones(size.regions))
    orders = _orders(random, size, popular, wanted)
    # The forecast knows the model of demand, not the orders: lines a category draws by itself included.
    lines = size.orders * sum(share * count for count, share in enumerate(LINES_SHARES, start=1))
    stock = _stock(random, size, popular * lines, wanted, distances)
    return Instance(zones, distances, weights_g, stock, orders)


def _orders(
    random: np.random.Generator, size: Size, popular: NDArray[np.float64], wanted: NDArray[np.float64]
) -> tuple[tuple[int, tuple[int, ...]], ...]:
    category = np.arange(size.items) // ITEMS_A_CATEGORY
    members = [np.flatnonzero(category == number) for number in range(category[-1] + 1)]
    chances = [popular[own] / popular[own].sum() for own in members]
    orders = []
    firsts = random.choice(size.items, size.orders, p=popular)
    regions = random.choice(size.regions, size.orders, p=wanted)
    counts = random.choice(len(LINES_SHARES), size.orders, p=LINES_SHARES) + 1
    for first, region, count in zip(firsts.tolist(), regions.tolist(), counts.tolist(), strict=True):
        items = [first]
        own = category[first]
        while len(items) < count:
            if random.random() < SAME_CATEGORY:
                item = int(random.choice(members[own], p=chances[own]))
            else:
                item = int(random.choice(size.items, p=popular))
            if item not in items:
                items.append(item)
        orders.append((region, tuple(items)))
    return tuple(orders)


def _stock(
    random: np.random.Generator,
    size: Size,
    forecast: NDArray[np.float64],
    wanted: NDArray[np.float64],
    distances: NDArray[np.float64],
) -> Ints:
    keeps = random.random((size.items, size.pools)) < 1 / 2
    lonely = ~keeps.any(axis=1)
    keeps[lonely, random.integers(size.pools, size=int(lonely.sum()))] = True
    # A region's demand for an item belongs to the nearest pool that keeps it.
    nearest = np.where(keeps[:, :, None], distances[None], np.inf).argmin(axis=1)
    shares = np.zeros((size.items, size.pools))
    for region, share in enumerate(wanted):
        np.add.at(shares, (np.arange(size.items), nearest[:, region]), share)
    shares = np.where(keeps, shares * random.lognormal(0, NOISE, shares.shape), 0)
    shares /= shares.sum(axis=1, keepdims=True)
    found: Ints = np.rint(size.coverage * forecast[:, None] * shares).astype(np.int64)
    return found
