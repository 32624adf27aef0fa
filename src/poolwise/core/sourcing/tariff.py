"""What weights and quantities cost by many routes at once: freight, carbon and handling as arrays of exact integers.

Same amounts as `costs.Prices`, which a property test compares; here as arrays (what is sent x routes), since this is
where an order with forty nodes spends its time. Products that could pass 63 bits are computed with Python's integers
instead (law 11).

A weight has the same band of a rate card wherever no band and no limit of any lane begins or ends in between. So all
weights between two such edges share one row of coefficients (fixed, per kg, minimum) for all routes; a row is made
when a weight first falls there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import gcd
from typing import Final

import numpy as np

from poolwise.core.network import CostCard, Lane, Network, RateBand
from poolwise.core.policy.terms import CostKind, Terms
from poolwise.core.sourcing.costs import Sent
from poolwise.core.sourcing.partition import NEVER, Ints
from poolwise.core.sourcing.routes import Route
from poolwise.core.values import MICROGRAMS_PER_KG, MILLION, ZERO_RATE, Rate

_LARGEST: Final = 1 << 62
_FREE: Final = RateBand(0, 0)


class Rates:
    """An array of exact decimals with a common number of places."""

    def __init__(self, rates: Sequence[Rate]) -> None:
        """One rate an element."""
        self.places = max((rate.places for rate in rates), default=0)
        numerators = [rate.numerator * 10 ** (self.places - rate.places) for rate in rates]
        self.largest = max(map(abs, numerators), default=0)
        self.signed = any(numerator < 0 for numerator in numerators)
        self.numerators = np.array(numerators, dtype=np.int64 if self.largest < _LARGEST else object)

    def times(self, amounts: Ints, most: int, per: int = 1) -> Ints:
        """Millionths of rate x amount / per, as `Rate.times` rounds them; no amount is more than `most`."""
        return millionths(self.numerators, amounts, _ratio(self.places, per), self.largest * most, self.signed)


Ratio = tuple[int, int]


@lru_cache(maxsize=256)
def _ratio(places: int, per: int) -> Ratio:
    """A million over `per` x 10^places, in lowest terms."""
    common = gcd(MILLION, per * 10**places)
    return MILLION // common, per * 10**places // common


def millionths(numerators: Ints, amounts: Ints, ratio: Ratio, bound: int, signed: bool = False) -> Ints:
    """Numerator x amount x ratio, rounded half away from zero; what is dearer than NEVER is NEVER.

    Amounts are not negative, numerators only where it is `signed`. No product of two is more than `bound`.
    """
    top, bottom = ratio
    if 2 * (bound * top + bottom) >= _LARGEST or bound * top >= NEVER * bottom:
        return _in_python(numerators, amounts, ratio)
    product: Ints = numerators * amounts
    if top != 1:
        product *= top
    return product if bottom == 1 else _divided(product, bottom, signed)


def _in_python(numerators: Ints, amounts: Ints, ratio: Ratio) -> Ints:
    """The same with integers of any length."""
    top, bottom = ratio
    product = numerators.astype(object) * amounts.astype(object) * top
    rounded = np.minimum((2 * abs(product) + bottom) // (2 * bottom), NEVER)
    return np.asarray(np.where(product < 0, -rounded, rounded), dtype=np.int64)


def _divided(products: Ints, bottom: int, signed: bool) -> Ints:
    """Division of products that may be overwritten, rounded half away from zero."""
    if signed:
        return np.where(products < 0, -_divided(-products, bottom, signed=False), _divided(products, bottom, False))
    if bottom % 2:
        products *= 2
        products += bottom
        products //= 2 * bottom
    else:
        products += bottom // 2
        products //= bottom
    return products


def weighted(amounts: Ints, ppm: int | Ints, signed: bool = False) -> Ints:
    """Amounts after the policy's weight, in parts per million, for their kind of cost."""
    if isinstance(ppm, int):
        if ppm == MILLION:
            return amounts
        ppm = np.array(ppm, dtype=np.int64)
    bound = max(int(amounts.max(initial=0)), -int(amounts.min(initial=0))) * int(ppm.max())
    return millionths(amounts, ppm, (1, MILLION), bound, signed)


class Tariff:
    """What the weight of a shipment costs by each of some routes."""

    def __init__(self, network: Network, routes: Sequence[Route], terms: Terms) -> None:
        """`routes` keep their order in the arrays."""
        longest = max((len(route.lanes) for route in routes), default=0)
        self._legs = [_Leg(network, routes, place, terms) for place in range(longest)]
        price, ppm = terms.policy.carbon_price_per_kg, terms.weight_ppm(CostKind.CARBON)
        self._carbon = _Carbon(routes, price, ppm) if price.numerator and ppm and routes else None

    def price(self, weights_ug: Ints, heaviest: int) -> Ints:
        """Weighted freight, transfer freight and carbon in millionths (weights x routes); NEVER where not carried.

        `heaviest` is the largest of the weights.
        """
        column = weights_ug[:, None]
        total = self._legs[0].price(weights_ug, column, heaviest)
        for leg in self._legs[1:]:
            total += leg.price(weights_ug, column, heaviest)
        if self._carbon is not None:
            total += self._carbon.price(column, heaviest)
        return total


class _Leg:
    """The n-th lane of each route: its bands as rows of coefficients by weight, made as they are needed."""

    def __init__(self, network: Network, routes: Sequence[Route], place: int, terms: Terms) -> None:
        self._network = network
        self._lanes = [route.lanes[place] if place < len(route.lanes) else None for route in routes]
        lanes = [lane for lane in self._lanes if lane is not None]
        bands = [band for lane in lanes if lane.rates in network.rates for band in network.rates[lane.rates].bands]
        edges = {min(edge, _LARGEST) for band in bands for edge in (band.above_ug, band.up_to_ug)}
        edges.update(lane.max_weight_ug for lane in lanes)
        self._edges = np.array(sorted(edges), dtype=np.int64)
        # For the weights between two edges: their row in the arrays below, or -1 until one of them is asked for.
        self._rows = np.full(len(edges) + 1, -1, dtype=np.int64)
        self._missing = len(self._rows)
        per_kg = Rates([band.per_kg for band in bands])
        self._ratio = _ratio(per_kg.places, MICROGRAMS_PER_KG)
        self._places, self._largest, self._signed = per_kg.places, per_kg.largest, per_kg.signed
        self._kind = per_kg.numerators.dtype
        self._per_kg = np.zeros((0, len(routes)), dtype=self._kind)
        self._fixed = np.zeros((0, len(routes)), dtype=np.int64)
        self._minimum, self._gap = self._fixed, self._fixed
        self._has_minimum = any(band.minimum.numerator for band in bands)
        self._has_gap = False
        kinds = [CostKind.FREIGHT if place == len(route.lanes) - 1 else CostKind.TRANSFER for route in routes]
        ppm = [terms.weight_ppm(kind) for kind in kinds]
        self._ppm = MILLION if all(each == MILLION for each in ppm) else np.array(ppm, dtype=np.int64)

    def price(self, weights_ug: Ints, column: Ints, heaviest: int) -> Ints:
        """Cost of shipments of these weights by the leg of each route (weights x routes)."""
        places = self._edges.searchsorted(weights_ug)
        rows = self._rows.take(places)
        if self._missing and int(rows.min()) < 0:
            for place in sorted({int(place) for place in places[rows < 0]}):
                self._add_row(place)
            rows = self._rows.take(places)
        per_kg = self._per_kg.take(rows, axis=0)
        amount = millionths(per_kg, column, self._ratio, self._largest * heaviest, self._signed)
        amount += self._fixed.take(rows, axis=0)
        if self._has_minimum:
            np.maximum(amount, self._minimum.take(rows, axis=0), out=amount)
        amount = weighted(amount, self._ppm, self._signed)
        if self._has_gap:
            amount += self._gap.take(rows, axis=0)
        return amount

    def _add_row(self, place: int) -> None:
        """Add the coefficients of the weights below an edge; above all edges, of any weight there."""
        edges = self._edges
        weight_ug = int(edges[place]) if place < len(edges) else int(edges[-1]) + 1 if len(edges) else 0
        found = [_FREE if lane is None else self._band(lane, weight_ug) for lane in self._lanes]
        bands = [band or _FREE for band in found]
        per_kg = [band.per_kg.numerator * 10 ** (self._places - band.per_kg.places) for band in bands]
        self._per_kg = np.vstack((self._per_kg, np.array(per_kg, dtype=self._kind)))
        self._fixed = np.vstack((self._fixed, _amounts([band.fixed for band in bands])))
        self._minimum = np.vstack((self._minimum, _amounts([band.minimum for band in bands])))
        self._gap = np.vstack((self._gap, [0 if band is not None else NEVER for band in found]))
        self._has_gap |= None in found
        self._rows[place] = len(self._fixed) - 1
        self._missing -= 1

    def _band(self, lane: Lane, weight_ug: int) -> RateBand | None:
        card = self._network.rates.get(lane.rates)
        if card is None or 0 < lane.max_weight_ug < weight_ug:
            return None
        return card.band(weight_ug)


def _amounts(rates: Sequence[Rate]) -> Ints:
    """One of each, in millionths."""
    return np.array([min(rate.times(1), NEVER) for rate in rates], dtype=np.int64)


class _Carbon:
    """Cost of the emissions of each route, by weight."""

    def __init__(self, routes: Sequence[Route], price: Rate, ppm: int) -> None:
        longest = max(len(route.lanes) for route in routes)
        # The grams that come with every shipment add up exactly; those per kg are rounded lane by lane.
        fixed = [sum(lane.co2e_g.times(1) for lane in route.lanes) for route in routes]
        self._fixed = np.array(fixed, dtype=np.int64)
        self._most_fixed = max(fixed)
        self._per_kg = [
            Rates([route.lanes[n].co2e_g_per_kg if n < len(route.lanes) else ZERO_RATE for route in routes])
            for n in range(longest)
        ]
        self._price = Rates([price])
        self._ppm = ppm

    def price(self, column: Ints, heaviest: int) -> Ints:
        """Weighted cost (weights x routes); the weights are a column."""
        emitted = self._fixed
        for per_kg in self._per_kg:
            emitted = emitted + per_kg.times(column, heaviest, MICROGRAMS_PER_KG)
        milligrams = _divided(emitted, 1000, signed=False)
        amount = self._price.times(milligrams, self._most(heaviest), MILLION)
        return weighted(amount, self._ppm, self._price.signed)

    def _most(self, heaviest: int) -> int:
        """A number of milligrams that no route emits more of with the heaviest weight."""
        per_kg = sum(rates.largest * heaviest // 10 ** (rates.places + 3) + 1 for rates in self._per_kg)
        return int(self._most_fixed + per_kg) // 1000 + 1


class Handling:
    """What the goods of an order line cost at the origin of each route, and at the nodes it passes."""

    def __init__(self, routes: Sequence[Route], terms: Terms) -> None:
        """`routes` keep their order in the arrays. `per_line` is what each line costs, whatever it is."""
        longest = max((len(route.via) for route in routes), default=0)
        transfer = terms.weight_ppm(CostKind.TRANSFER)
        stations = [(terms.weight_ppm(CostKind.HANDLING), [route.node.costs for route in routes])]
        for place in range(longest):
            passed = [route.via[place].costs if place < len(route.via) else CostCard() for route in routes]
            stations.append((transfer, passed))
        self.per_line: Ints = np.zeros(len(routes), dtype=np.int64)
        self._by_unit: list[tuple[Rates, int]] = []
        self._by_kg: list[tuple[Rates, int]] = []
        for place, (ppm, cards) in enumerate(stations):
            self.per_line = self.per_line + weighted(_amounts([card.per_line for card in cards]), ppm, signed=True)
            self._by_unit.append((Rates([card.per_unit for card in cards]), ppm))
            self._by_kg.append((Rates([card.per_kg for card in cards]), ppm))
            if place:
                self._by_unit.append((Rates([card.inbound_per_unit for card in cards]), ppm))
        self._by_unit = [(rates, ppm) for rates, ppm in self._by_unit if rates.largest and ppm]
        self._by_kg = [(rates, ppm) for rates, ppm in self._by_kg if rates.largest and ppm]

    def price(self, goods: Sequence[Sent], scale: int) -> Ints:
        """Cost by unit and by kg of goods of one decimal scale (goods x routes)."""
        quantities, weights_ug = [each.quantity for each in goods], [each.weight_ug for each in goods]
        counts, weights = np.array((quantities, weights_ug), dtype=np.int64)[:, :, None]
        most, heaviest = max(quantities), max(weights_ug)
        total: Ints = np.zeros((len(goods), len(self.per_line)), dtype=np.int64)
        for rates, ppm in self._by_unit:
            total += weighted(rates.times(counts, most, 10**scale), ppm, rates.signed)
        for rates, ppm in self._by_kg:
            total += weighted(rates.times(weights, heaviest, MICROGRAMS_PER_KG), ppm, rates.signed)
        return total
