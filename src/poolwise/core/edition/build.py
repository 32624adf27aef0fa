"""Compile master rows into an edition: network and catalogue in the costing currency, under the content hash.

Amounts of other currencies are converted here, exactly, at the rate dated for the edition's day of conversion. Keeps
law 8 (equal contents give an equal edition) and law 11 (one costing currency).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from math import asin, cos, gcd, radians, sin, sqrt
from typing import Final

from poolwise.core.catalog import Bill, Catalog, Component, CrossReference, Item, Pack, Substitution
from poolwise.core.edition.checks import Checked, costing_currency, rows_of
from poolwise.core.edition.chunks import Part, hash_of, pack, unpack
from poolwise.core.edition.rows import (
    BandRow,
    BoxRow,
    CapacityRow,
    ComponentRow,
    ExchangeRate,
    ItemRow,
    NodeRow,
    PackRow,
    PoolRow,
    Rows,
    Section,
    Settings,
    SubstitutionRow,
)
from poolwise.core.network import (
    Box,
    Calendar,
    CapacityUnit,
    CostCard,
    Lane,
    Network,
    Node,
    Partner,
    Pool,
    RateBand,
    RateCard,
    Slot,
    Zone,
)
from poolwise.core.values import MILLION, Rate, replace

EARTH_RADIUS_KM: Final = 6371

NO_SLOT: Final = Slot(CapacityUnit.ORDERS, 0, weekdays=frozenset())
"""Stands where a slot number of a node is not used: it applies on no day, so that other slots keep their number."""


@dataclass(frozen=True, slots=True)
class Edition:
    """An immutable state of network and catalogue under its content hash."""

    hash: str
    network: Network
    catalog: Catalog


def edition_of(checked: Checked) -> tuple[Edition, tuple[Part, ...]]:
    """The edition of checked rows, and the parts in which it is kept."""
    parts = pack(checked.rows, checked.converted_on)
    return compiled(hash_of([part.hash for part in parts]), checked.rows, checked.converted_on), parts


def opened(parts: Sequence[Part]) -> Edition:
    """The edition that was kept in these parts, in their order. Its rows were checked when it was made."""
    return compiled(hash_of([part.hash for part in parts]), *unpack(parts))


def compiled(name: str, rows: Rows, converted_on: date | None) -> Edition:
    """Network and catalogue of rows that have been checked."""
    prices = _Prices(rows, converted_on)
    return Edition(name, _network(rows, prices), _catalog(rows, prices))


class _Prices:
    """Converts rates into the costing currency at the rates that apply on a day."""

    def __init__(self, rows: Rows, on: date | None) -> None:
        dated = sorted(rows_of(rows, Section.EXCHANGE_RATES, ExchangeRate), key=lambda row: (row.currency, row.since))
        self.currency = costing_currency(rows)
        self.exchange: dict[str, tuple[tuple[date, Rate], ...]] = {}
        self.rates = {row.currency: row.rate for row in dated if on is not None and row.since <= on}
        for row in dated:
            self.exchange[row.currency] = (*self.exchange.get(row.currency, ()), (row.since, row.rate))

    def rate(self, rate: Rate, currency: str) -> Rate:
        """A rate in the costing currency."""
        return rate if currency in ("", self.currency) else rate.multiplied(self.rates[currency])

    def card(self, card: CostCard, currency: str) -> CostCard:
        """A cost card in the costing currency."""
        return CostCard(*(self.rate(getattr(card, field.name), currency) for field in fields(card)))


def _network(rows: Rows, prices: _Prices) -> Network:
    nodes = _nodes(rows, prices)
    zones = {zone.code: zone for zone in rows_of(rows, Section.ZONES, Zone)}
    return Network(
        currency=prices.currency,
        nodes=nodes,
        pools={row.pool.code: _pool(row, prices) for row in rows_of(rows, Section.POOLS, PoolRow)},
        zones=zones,
        lanes={lane.code: _measured(lane, nodes, zones) for lane in rows_of(rows, Section.LANES, Lane)},
        rates=_rate_cards(rows, prices),
        calendars={calendar.code: calendar for calendar in rows_of(rows, Section.CALENDARS, Calendar)},
        partners={partner.code: partner for partner in rows_of(rows, Section.PARTNERS, Partner)},
        exchange=prices.exchange,
        boxes=_boxes(rows),
        apart=next(iter(rows_of(rows, Section.NETWORK, Settings)), Settings()).apart,
    )


def _nodes(rows: Rows, prices: _Prices) -> dict[str, Node]:
    slots: dict[str, dict[int, Slot]] = {}
    for row in rows_of(rows, Section.CAPACITIES, CapacityRow):
        slots.setdefault(row.node, {})[row.no] = row.slot
    nodes = {}
    for node_row in rows_of(rows, Section.NODES, NodeRow):
        node, numbered = node_row.node, slots.get(node_row.node.code, {})
        nodes[node.code] = replace(
            node,
            costs=prices.card(node.costs, node_row.currency),
            slots=tuple(numbered.get(no, NO_SLOT) for no in range(max(numbered, default=-1) + 1)),
        )
    return nodes


def _boxes(rows: Rows) -> dict[str, tuple[Box, ...]]:
    found: dict[str, list[Box]] = {}
    for row in rows_of(rows, Section.BOXES, BoxRow):
        found.setdefault(row.node, []).append(row.box)
    return {node: tuple(boxes) for node, boxes in found.items()}


def _pool(row: PoolRow, prices: _Prices) -> Pool:
    pool = row.pool
    return replace(
        pool, per_unit=prices.rate(pool.per_unit, row.currency), per_kg=prices.rate(pool.per_kg, row.currency)
    )


def _rate_cards(rows: Rows, prices: _Prices) -> dict[str, RateCard]:
    bands: dict[str, list[RateBand]] = {}
    for row in rows_of(rows, Section.RATES, BandRow):
        band = replace(
            row.band,
            fixed=prices.rate(row.band.fixed, row.currency),
            minimum=prices.rate(row.band.minimum, row.currency),
            per_kg=prices.rate(row.band.per_kg, row.currency),
        )
        bands.setdefault(row.rates, []).append(band)
    return {
        code: RateCard(code, tuple(sorted(found, key=lambda band: band.above_ug)))
        for code, found in sorted(bands.items())
    }


def _measured(lane: Lane, nodes: Mapping[str, Node], zones: Mapping[str, Zone]) -> Lane:
    """The lane with the distance as the crow flies, where none is given and both ends have coordinates."""
    if lane.distance_km:
        return lane
    origin = nodes[lane.origin]
    end = nodes[lane.destination] if lane.to_node else zones[lane.destination]
    here, there = (origin.latitude_udeg, origin.longitude_udeg), (end.latitude_udeg, end.longitude_udeg)
    if None in here or None in there:
        return lane
    return replace(lane, distance_km=great_circle_km(*here, *there))  # type: ignore[arg-type]  # none of them is None


def great_circle_km(latitude: int, longitude: int, other_latitude: int, other_longitude: int) -> int:
    """Distance in whole km, rounded up, of two points in millionths of a degree (haversine formula)."""
    here, there, east = (radians(angle / MILLION) for angle in (latitude, other_latitude, other_longitude - longitude))
    half_chord = sin((there - here) / 2) ** 2 + cos(here) * cos(there) * sin(east / 2) ** 2
    return int(2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(half_chord))) + 0.999)


def _catalog(rows: Rows, prices: _Prices) -> Catalog:
    items = {row.item.code: _item(row, prices) for row in rows_of(rows, Section.ITEMS, ItemRow)}
    packs = (_pack(row, items) for row in rows_of(rows, Section.PACKS, PackRow))
    substitutions: dict[str, tuple[Substitution, ...]] = {}
    for row in rows_of(rows, Section.SUBSTITUTIONS, SubstitutionRow):
        substitutions[row.item] = (*substitutions.get(row.item, ()), _substitution(row, items, prices))
    return Catalog(
        items=items,
        packs={(found.item, found.code): found for found in packs},
        bills=_bills(rows, items),
        substitutions=substitutions,
        cross_references={
            (row.scheme, row.partner, row.identifier): row.item
            for row in rows_of(rows, Section.CROSS_REFERENCES, CrossReference)
        },
    )


def _item(row: ItemRow, prices: _Prices) -> Item:
    cost = row.item.unit_cost
    return row.item if cost is None else replace(row.item, unit_cost=prices.rate(cost, row.currency))


def _pack(row: PackRow, items: Mapping[str, Item]) -> Pack:
    ratio = _ratio(row.contains.numerator * 10 ** items[row.item].scale, row.per * 10**row.contains.places)
    return Pack(row.item, row.pack, *ratio)


def _substitution(row: SubstitutionRow, items: Mapping[str, Item], prices: _Prices) -> Substitution:
    ratio = _ratio(
        row.quantity.numerator * 10 ** items[row.substitute].scale,
        row.per * 10 ** (row.quantity.places + items[row.item].scale),
    )
    return Substitution(row.item, row.substitute, *ratio, penalty=prices.rate(row.penalty, row.currency))


def _ratio(numerator: int, denominator: int) -> tuple[int, int]:
    divisor = gcd(numerator, denominator)
    return numerator // divisor, denominator // divisor


def _bills(rows: Rows, items: Mapping[str, Item]) -> dict[str, Bill]:
    components: dict[str, list[ComponentRow]] = {}
    for row in rows_of(rows, Section.BILLS, ComponentRow):
        components.setdefault(row.kit, []).append(row)
    return {
        kit: Bill(
            kit,
            tuple(
                Component(row.item, row.quantity.numerator * 10 ** (items[row.item].scale - row.quantity.places))
                for row in found
            ),
            across_nodes=any(row.across_nodes for row in found),
        )
        for kit, found in components.items()
    }
