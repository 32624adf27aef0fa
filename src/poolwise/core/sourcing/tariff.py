"""Freight and carbon of many blocks by many routes at once, in exact integers.

Same amounts as `costs.Prices.freight` and `.carbon`, which a property test compares; here as arrays (blocks x
routes), since this is where an order with forty nodes spends its time. Products that could pass 63 bits are computed
with Python's integers instead (law 11).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from poolwise.core.network import Network, RateBand
from poolwise.core.policy.terms import CostKind, Terms
from poolwise.core.sourcing.routes import Route
from poolwise.core.values import MICROGRAMS_PER_KG, MILLION, ZERO_RATE, Rate

Ints = NDArray[np.int64]
HEAVIEST: Final = 1 << 60
_FREE: Final = (RateBand(-1, HEAVIEST),)


class _Rates:
    """An array of rates with a common number of places: `times` is exact and rounds half away from zero."""

    def __init__(self, rates: Sequence[Sequence[Rate]]) -> None:
        self.places = max(rate.places for row in rates for rate in row)
        numerators = [[rate.numerator * 10 ** (self.places - rate.places) for rate in row] for row in rates]
        self.largest = max(abs(n) for row in numerators for n in row)
        assert min(n for row in numerators for n in row) >= 0, "freight and emission rates are not negative"
        self.numerators = np.array(numerators, dtype=np.int64 if self.largest < HEAVIEST else object)

    def per(self, picked: NDArray[np.int64], amounts: Ints, per: int) -> Ints:
        """Millionths of `rates[picked] x amounts / per`."""
        numerators = self.numerators.reshape(-1)[picked]
        top, bottom = MILLION, per * 10**self.places
        common = int(np.gcd(top, bottom)) if bottom < HEAVIEST else MILLION
        top, bottom = top // common, bottom // common
        heaviest = int(amounts.max(initial=0))
        if 4 * self.largest * max(heaviest, 1) * top + 2 * bottom >= 1 << 62:
            exact = (2 * numerators.astype(object) * amounts.astype(object) * top + bottom) // (2 * bottom)
            return np.asarray(exact, dtype=np.int64)
        result: Ints = (2 * top * numerators * amounts + bottom) // (2 * bottom)
        return result


class _Leg:
    """The n-th lane of each route, with its bands padded to equal number."""

    def __init__(self, network: Network, routes: Sequence[Route], place: int, terms: Terms) -> None:
        bands = [
            _bands(network, route.lanes[place].rates) if place < len(route.lanes) else _FREE for route in routes
        ]
        width = max(len(row) for row in bands) + 1
        # The last band of every row takes what is over the others, and has no price.
        over = RateBand(HEAVIEST, HEAVIEST)
        padded = [(*row, *(over for _ in range(width - len(row)))) for row in bands]
        self.up_to = np.array([[band.up_to_ug for band in row] for row in padded], dtype=np.int64)
        self.above = np.array([[band.above_ug for band in row] for row in padded], dtype=np.int64).reshape(-1)
        self.fixed = np.array([[band.fixed.times(1) for band in row] for row in padded], dtype=np.int64).reshape(-1)
        self.minimum = np.array([[b.minimum.times(1) for b in row] for row in padded], dtype=np.int64).reshape(-1)
        self.per_kg = _Rates([[band.per_kg for band in row] for row in padded])
        limits = [
            (route.lanes[place].max_weight_ug if place < len(route.lanes) else 0) or HEAVIEST for route in routes
        ]
        self.limit = np.array(limits, dtype=np.int64)
        self.first = np.arange(len(routes), dtype=np.int64) * width
        ppm = [
            terms.weight_ppm(CostKind.FREIGHT if place == len(route.lanes) - 1 else CostKind.TRANSFER)
            for route in routes
        ]
        self.weight_ppm = None if set(ppm) == {MILLION} else np.array(ppm, dtype=np.int64)

    def price(self, weights_ug: Ints, never: int) -> Ints:
        """Cost of blocks of these weights (blocks) by the leg of each route: (blocks x routes)."""
        column = weights_ug[:, None]
        picked = self.first + (column[:, :, None] > self.up_to[None, :, :]).sum(axis=2)
        above = self.above[picked]
        lacking = (column > self.limit) | ((column <= above) & ((column != 0) | (above != 0)) & (above >= 0))
        amount = self.fixed[picked] + self.per_kg.per(picked, np.broadcast_to(column, picked.shape), MICROGRAMS_PER_KG)
        amount = _weighted(np.maximum(self.minimum[picked], amount), self.weight_ppm)
        amount[lacking] = never
        return amount


def _bands(network: Network, code: str) -> tuple[RateBand, ...]:
    card = network.rates.get(code)
    return () if card is None else card.bands


def _weighted(amounts: Ints, ppm: Ints | int | None) -> Ints:
    if ppm is None:
        return amounts
    if int(np.abs(amounts).max(initial=0)) * int(np.max(ppm)) >= 1 << 61:
        exact = (2 * amounts.astype(object) * ppm + MILLION) // (2 * MILLION)
        return np.asarray(exact, dtype=np.int64)
    weighted: Ints = (2 * amounts * ppm + MILLION) // (2 * MILLION)
    return weighted


class Tariff:
    """What the weight of a shipment costs by each of some routes."""

    def __init__(self, network: Network, routes: Sequence[Route], terms: Terms) -> None:
        """`routes` keep their order in the arrays."""
        longest = max((len(route.lanes) for route in routes), default=0)
        self._legs = [_Leg(network, routes, place, terms) for place in range(longest)]
        price = terms.policy.carbon_price_per_kg
        ppm = terms.weight_ppm(CostKind.CARBON)
        self._carbon = _Carbon(routes, price, ppm) if price.numerator and ppm and routes else None

    def price(self, weights_ug: Ints, never: int) -> Ints:
        """Weighted freight, transfer freight and carbon in millionths (blocks x routes); `never` where not carried."""
        total = self._legs[0].price(weights_ug, never)
        for leg in self._legs[1:]:
            total = np.minimum(total + leg.price(weights_ug, never), never)
        if self._carbon is not None:
            total = np.where(total >= never, never, total + self._carbon.price(weights_ug))
        return total


class _Carbon:
    """Cost of the emissions of each route, by weight."""

    def __init__(self, routes: Sequence[Route], price: Rate, ppm: int) -> None:
        longest = max(len(route.lanes) for route in routes)
        self.fixed = [
            np.array([r.lanes[n].co2e_g.times(1) if n < len(r.lanes) else 0 for r in routes], dtype=np.int64)
            for n in range(longest)
        ]
        self.per_kg = [
            _Rates([[r.lanes[n].co2e_g_per_kg if n < len(r.lanes) else ZERO_RATE for r in routes]])
            for n in range(longest)
        ]
        self.rate = _Rates([[price]])
        self.ppm = None if ppm == MILLION else ppm
        self.routes = np.arange(len(routes), dtype=np.int64)

    def price(self, weights_ug: Ints) -> Ints:
        """Weighted cost (blocks x routes)."""
        shape = (len(weights_ug), len(self.routes))
        picked = np.broadcast_to(self.routes, shape)
        amounts = np.broadcast_to(weights_ug[:, None], shape)
        co2e_mg = np.zeros(shape, dtype=np.int64)
        for fixed, per_kg in zip(self.fixed, self.per_kg, strict=True):
            co2e_mg = co2e_mg + fixed + per_kg.per(picked, amounts, MICROGRAMS_PER_KG)
        co2e_mg = (2 * co2e_mg + 1000) // 2000
        return _weighted(self.rate.per(np.zeros(shape, dtype=np.int64), co2e_mg, MILLION), self.ppm)
