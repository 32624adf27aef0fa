"""Where stock lies and how it travels: nodes, pools, zones, lanes with rates, calendars, capacities, partners.

A `Network` is one immutable edition (law 8): everything a decision reads that is not volatile. Keeps law 19: a lane
without a rate for a weight has no price and is eliminated; it never costs zero.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from math import cos, radians
from typing import Final
from zoneinfo import ZoneInfo

from poolwise.core.values import MICROGRAMS_PER_KG, MILLION, ZERO_RATE, Cost, Money, Rate

LONGEST_CLOSURE_DAYS = 366
"""A calendar that is closed longer than this in one stretch is treated as closed for good."""


SELLERS: Final = frozenset({"supplier", "drop_shipper"})
"""Kinds of partners whose goods are theirs until they are sent: what is released to them is a purchase."""


class Echelon(StrEnum):
    """The level of a node in the network."""

    SUPPLIER = "supplier"
    REGIONAL = "regional"
    LAST_MILE = "last_mile"


class NodeStatus(StrEnum):
    """Whether a node may be given new work."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class CapacityUnit(StrEnum):
    """What a capacity counts."""

    ORDERS = "orders"
    LINES = "lines"
    UNITS = "units"
    WEIGHT = "weight_kg"


@dataclass(frozen=True, slots=True)
class Calendar:
    """Working days of a place: days of the week (Monday is 0) less the closed dates, plus the extra open ones."""

    code: str
    weekdays: frozenset[int] = frozenset(range(7))
    closed: frozenset[date] = frozenset()
    open: frozenset[date] = frozenset()

    def is_open(self, day: date) -> bool:
        """Whether `day` is a working day."""
        return day in self.open or (day.weekday() in self.weekdays and day not in self.closed)

    def on_or_after(self, day: date) -> date | None:
        """First working day not before `day`; None when there is none within a year."""
        for ahead in range(LONGEST_CLOSURE_DAYS):
            candidate = day + timedelta(days=ahead)
            if self.is_open(candidate):
                return candidate
        return None

    def plus_working_days(self, day: date, count: int) -> date | None:
        """The `count`-th working day after `day`; `day` itself for 0, whether it is open or not."""
        current: date | None = day
        for _ in range(count):
            assert current is not None
            current = self.on_or_after(current + timedelta(days=1))
            if current is None:
                return None
        return current


ALWAYS_OPEN = Calendar("always")


@dataclass(frozen=True, slots=True)
class CostCard:
    """What handling costs at a node: per shipment, per line, per unit and per kg going out; per unit coming in."""

    per_shipment: Rate = ZERO_RATE
    per_line: Rate = ZERO_RATE
    per_unit: Rate = ZERO_RATE
    per_kg: Rate = ZERO_RATE
    inbound_per_unit: Rate = ZERO_RATE


@dataclass(frozen=True, slots=True)
class Slot:
    """A time slot of a node's day with its limit; `until` is local time, and the slot can be used before it."""

    unit: CapacityUnit
    limit: int
    since: time = time.min
    until: time = time.max
    weekdays: frozenset[int] = frozenset(range(7))
    only_on: date | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A place that holds or passes stock. Latitude and longitude are in millionths of a degree."""

    code: str
    name: str = ""
    echelon: Echelon = Echelon.REGIONAL
    kind: str = "distribution_centre"
    cell: int = 0
    country: str = ""
    postcode: str = ""
    latitude_udeg: int | None = None
    longitude_udeg: int | None = None
    time_zone: str = "UTC"
    calendar: str = ""
    cut_off: time = time.max
    handling_days: int = 0
    capabilities: frozenset[str] = frozenset()
    service_area: frozenset[str] = frozenset()
    customers: frozenset[str] = frozenset()
    costs: CostCard = CostCard()
    status: NodeStatus = NodeStatus.ACTIVE
    partner: str = ""
    slots: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True)
class Pool:
    """Stock set aside for a purpose: who may draw on it (none named = everybody), and what drawing on it costs more.

    `protection` base units per item are kept at each node of the pool and not sold through it. A negative rate is a
    credit: a mark-down pool pays to be emptied.
    """

    code: str
    name: str = ""
    channels: frozenset[str] = frozenset()
    customers: frozenset[str] = frozenset()
    zones: frozenset[str] = frozenset()
    protection: int = 0
    per_unit: Rate = ZERO_RATE
    per_kg: Rate = ZERO_RATE


@dataclass(frozen=True, slots=True)
class Zone:
    """Destinations treated alike: a country and prefixes of postcodes; the longest prefix wins.

    The centre, in millionths of a degree, is used for distance. `cell` serves orders to this zone. Orders to a zone
    with `collect_at` are collected by the customer at that node; no address is in such a zone.
    """

    code: str
    country: str = ""
    postcode_prefixes: tuple[str, ...] = ()
    latitude_udeg: int | None = None
    longitude_udeg: int | None = None
    time_zone: str = "UTC"
    cell: int = 0
    collect_at: str = ""


@dataclass(frozen=True, slots=True)
class RateBand:
    """Price of a shipment over `above_ug` up to and including `up_to_ug`: max(minimum, fixed + per_kg x weight)."""

    above_ug: int
    up_to_ug: int
    fixed: Rate = ZERO_RATE
    minimum: Rate = ZERO_RATE
    per_kg: Rate = ZERO_RATE

    def price(self, weight_ug: int) -> Cost:
        """Cost in millionths for a weight in micrograms inside the band."""
        return max(self.minimum.times(1), self.fixed.times(1) + self.per_kg.times(weight_ug, MICROGRAMS_PER_KG))


@dataclass(frozen=True, slots=True)
class RateCard:
    """Weight bands of a carrier service, lightest first; gaps between bands have no price."""

    code: str
    bands: tuple[RateBand, ...]

    def band(self, weight_ug: int) -> RateBand | None:
        """The band a weight falls in, or None in a gap."""
        place = bisect_left(self.bands, weight_ug, key=lambda band: band.up_to_ug)
        if place == len(self.bands):
            return None
        band = self.bands[place]
        # A weight of zero belongs to a first band that begins at zero.
        return band if weight_ug > band.above_ug or (weight_ug == 0 == band.above_ug) else None


@dataclass(frozen=True, slots=True)
class Transit:
    """Distribution of transit time: working days of the lane and their probability in parts per million."""

    days: tuple[tuple[int, int], ...] = ((1, MILLION),)

    def quantile(self, ppm: int) -> int:
        """Fewest working days within which at least `ppm` of shipments arrive."""
        seen = 0
        for days, share in self.days:
            seen += share
            if seen >= ppm:
                return days
        return self.days[-1][0]


@dataclass(frozen=True, slots=True)
class Lane:
    """From a node to a zone, or to another node (a transfer), by a carrier service.

    `co2e_g` is grams per shipment and `co2e_g_per_kg` grams per kg shipped. Limits of 0 mean none.
    `service_levels` names those it may serve (none named = all whose deadline it meets).
    """

    code: str
    origin: str
    destination: str
    rates: str
    to_node: bool = False
    carrier: str = ""
    service: str = ""
    service_levels: frozenset[str] = frozenset()
    transit: Transit = Transit()
    calendar: str = ""
    cut_off: time = time.max
    distance_km: int = 0
    co2e_g: Rate = ZERO_RATE
    co2e_g_per_kg: Rate = ZERO_RATE
    carries: frozenset[str] = frozenset()
    max_weight_ug: int = 0
    max_length_mm: int = 0


@dataclass(frozen=True, slots=True)
class Partner:
    """A supplier, carrier, 3PL or marketplace."""

    code: str
    name: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A size of packaging that a node has: inner dimensions, and what may go in.

    `most_weight_ug` limits the contents; `fill_ppm` is the share of the volume that can be used, in parts per million;
    `tare_ug` is the weight of the empty box.
    """

    code: str
    length_mm: int
    width_mm: int
    height_mm: int
    most_weight_ug: int
    fill_ppm: int
    tare_ug: int = 0

    def __post_init__(self) -> None:
        """A box has a name, holds something, and weighs no less than nothing."""
        assert self.code, "a box without a code"
        assert min(self.length_mm, self.width_mm, self.height_mm) > 0, f"box {self.code} has a side of nothing"
        assert self.most_weight_ug > 0, f"box {self.code} may hold no weight"
        assert 0 < self.fill_ppm <= MILLION, f"box {self.code} is filled by {self.fill_ppm} ppm"
        assert self.tare_ug >= 0, f"box {self.code} weighs less than nothing"

    @property
    def volume_mm3(self) -> int:
        """Inner volume, all of it."""
        return self.length_mm * self.width_mm * self.height_mm


@dataclass(frozen=True, slots=True)
class Network:
    """One edition: everything a decision reads that is not volatile, looked up by code; and how nodes pack.

    `boxes` are those of a node, under '' those of every node without boxes of its own; goods that need one of the
    capabilities in `apart` travel apart from goods that do not.
    """

    currency: str = "EUR"
    nodes: Mapping[str, Node] = field(default_factory=dict)
    pools: Mapping[str, Pool] = field(default_factory=dict)
    zones: Mapping[str, Zone] = field(default_factory=dict)
    lanes: Mapping[str, Lane] = field(default_factory=dict)
    rates: Mapping[str, RateCard] = field(default_factory=dict)
    calendars: Mapping[str, Calendar] = field(default_factory=dict)
    partners: Mapping[str, Partner] = field(default_factory=dict)
    exchange: Mapping[str, tuple[tuple[date, Rate], ...]] = field(default_factory=dict)
    boxes: Mapping[str, tuple[Box, ...]] = field(default_factory=dict)
    apart: frozenset[str] = frozenset()

    def in_costing_currency(self, money: Money, on: date) -> Cost | None:
        """Value in millionths of the costing currency at the newest rate not after `on`; None when there is none.

        Minor units are hundredths here; currencies with other minor units are converted on import.
        """
        if money.currency == self.currency:
            return money.minor * (MILLION // 100)
        dated = [rate for since, rate in self.exchange.get(money.currency, ()) if since <= on]
        return dated[-1].times(money.minor, 100) if dated else None

    def calendar(self, code: str) -> Calendar:
        """The calendar of that code; no code means every day is a working day."""
        return self.calendars[code] if code else ALWAYS_OPEN

    def boxes_of(self, node: str) -> tuple[Box, ...]:
        """The boxes in which a node packs; none where nobody said."""
        return self.boxes.get(node) or self.boxes.get("", ())

    def first_ship_day(self, node: Node, at: datetime) -> date | None:
        """First working day of the node on which an order that arrives at the instant `at` can leave.

        An order after the cut-off, in the node's own time zone, counts as received on the next working day.
        """
        local = at.astimezone(ZoneInfo(node.time_zone))
        calendar = self.calendar(node.calendar)
        day = calendar.on_or_after(local.date())
        if day == local.date() and local.time() > node.cut_off:
            day = calendar.on_or_after(day + timedelta(days=1))
        return None if day is None else calendar.plus_working_days(day, node.handling_days)

    def arrival(self, lane: Lane, ship_day: date, ppm: int) -> date | None:
        """Day by which `ppm` of the shipments of a lane that leave on `ship_day` arrive."""
        calendar = self.calendar(lane.calendar or self.nodes[lane.origin].calendar)
        return calendar.plus_working_days(ship_day, lane.transit.quantile(ppm))

    def arrival_along(self, lanes: Sequence[Lane], ship_day: date, ppm: int) -> date | None:
        """Day by which what leaves on `ship_day` is at the end of all lanes, each of them counted at `ppm`.

        What is transferred goes on with the next lane on the first day on which that leaves.
        """
        current: date | None = ship_day
        for place, lane in enumerate(lanes):
            assert current is not None
            if place:
                current = self.calendar(lane.calendar or self.nodes[lane.origin].calendar).on_or_after(current)
                if current is None:
                    return None
            current = self.arrival(lane, current, ppm)
            if current is None:
                return None
        return current

    def collected_at(self, zone: str) -> str:
        """The node at which orders to a zone are collected; '' where they are brought, or there is no such zone."""
        found = self.zones.get(zone)
        return found.collect_at if found else ""

    def day_in(self, zone: str, at: datetime) -> date:
        """The day that it is in a zone at an instant; that of UTC where there is no such zone."""
        found = self.zones.get(zone)
        return at.astimezone(ZoneInfo(found.time_zone if found else "UTC")).date()

    def supplier_of(self, node: str) -> str:
        """The partner that what is released to a node is bought from; '' where it is our own, or works for us."""
        found = self.nodes.get(node)
        partner = self.partners.get(found.partner) if found else None
        if found is None or partner is None:
            return ""
        sells = found.echelon is Echelon.SUPPLIER or partner.kind in SELLERS
        return found.partner if sells else ""

    def zone_collected_at(self, node: str) -> str | None:
        """Code of the zone whose orders are collected at a node."""
        return next((zone.code for zone in self.zones.values() if node and zone.collect_at == node), None)

    def zone_of(self, country: str, postcode: str) -> str | None:
        """Code of the zone of an address: the longest matching prefix; ties go to the smaller code."""
        best: tuple[int, str] | None = None
        for zone in self.zones.values():
            if zone.collect_at or (zone.country and zone.country != country):
                continue
            for prefix in zone.postcode_prefixes or ("",):
                if postcode.startswith(prefix) and (best is None or (-len(prefix), zone.code) < best):
                    best = (-len(prefix), zone.code)
        return None if best is None else best[1]

    def zone_near(self, latitude_udeg: int, longitude_udeg: int) -> str | None:
        """Code of the zone whose centre is nearest, on a plane at that latitude; ties go to the smaller code."""
        shrink = cos(radians(latitude_udeg / MILLION))
        found = [
            ((zone.latitude_udeg - latitude_udeg) ** 2 + (shrink * (zone.longitude_udeg - longitude_udeg)) ** 2, code)
            for code, zone in self.zones.items()
            if zone.latitude_udeg is not None and zone.longitude_udeg is not None and not zone.collect_at
        ]
        return min(found)[1] if found else None
