"""The nodes of the generated network, with their calendars, capacities and cost cards; its pools and partners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from random import Random
from typing import Final

import holidays

from poolwise.core.edition.rows import BoxRow, CapacityRow, ExchangeRate, NodeRow, PoolRow
from poolwise.core.network import (
    Box,
    Calendar,
    CapacityUnit,
    CostCard,
    Echelon,
    Node,
    Partner,
    Pool,
    Slot,
)
from poolwise.core.values import MICROGRAMS_PER_KG, Rate
from poolwise.sim.geography import COUNTRIES, City, city

# Code, kind, country, city.
SITES: Final = """
LDZ-SUP|supplier_site|PL|Łódź
TRN-SUP|supplier_site|IT|Turin
OPO-SUP|supplier_site|PT|Braga
BRS-SUP|supplier_site|SE|Borås
BRQ-SUP|supplier_site|CZ|Brno
BIO-SUP|supplier_site|ES|Bilbao
VEN-DC|distribution_centre|NL|Venlo
LEJ-DC|distribution_centre|DE|Leipzig
LYO-DC|distribution_centre|FR|Lyon
MIL-DC|distribution_centre|IT|Novara
ZAZ-DC|distribution_centre|ES|Zaragoza
POZ-DC|distribution_centre|PL|Poznań
VIE-DC|distribution_centre|AT|Vienna
JKG-DC|distribution_centre|SE|Jönköping
MET-3PL|3pl|FR|Metz
PRG-3PL|3pl|CZ|Prague
BSL-DS|drop_shipper|CH|Basel
FLR-DS|drop_shipper|IT|Florence
PAR-S1|store|FR|Paris
LIL-S1|store|FR|Lille
MRS-S1|store|FR|Marseille
BOD-S1|store|FR|Bordeaux
BER-S1|store|DE|Berlin
HAM-S1|store|DE|Hamburg
MUC-S1|store|DE|Munich
FRA-S1|store|DE|Frankfurt am Main
CGN-S1|store|DE|Köln
MAD-S1|store|ES|Madrid
BCN-S1|store|ES|Barcelona
LIS-S1|store|PT|Lisbon
ROM-S1|store|IT|Rome
MIL-S1|store|IT|Milan
AMS-S1|store|NL|Amsterdam
BRU-S1|store|BE|Brussels
WAW-S1|store|PL|Warsaw
CPH-S1|store|DK|Copenhagen
STO-S1|store|SE|Stockholm
ZRH-S1|store|CH|Zürich
PAR-LM|depot|FR|Paris
BER-LM|depot|DE|Berlin
HAM-LM|depot|DE|Hamburg
MUC-LM|depot|DE|Munich
STR-LM|depot|DE|Stuttgart
MAD-LM|depot|ES|Madrid
BCN-LM|depot|ES|Barcelona
NAP-LM|depot|IT|Naples
RTM-LM|depot|NL|Rotterdam
WAW-LM|depot|PL|Warsaw
"""

WEB, STORE, COMMON, MARK_DOWN = "web", "store", "common", "mark-down"

MARKETPLACES: Final = ("bazaro", "merca")

# Worth of one unit in euro; prices there are in the country's own currency.
EXCHANGE: Final = {
    "CH": ("CHF", Rate(1065, 3)),
    "CZ": ("CZK", Rate(4, 2)),
    "DK": ("DKK", Rate(134, 3)),
    "PL": ("PLN", Rate(235, 3)),
    "SE": ("SEK", Rate(9, 2)),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """What nodes of a kind are like: costs in euro cents (line, unit, kg: tenths), capacity a day, reach in km."""

    echelon: Echelon
    days: str
    cut_off: time
    handling_days: int
    capabilities: frozenset[str]
    cents_per_shipment: int
    tenths: tuple[int, int, int, int]
    unit: CapacityUnit
    limit: int
    partner: str = ""


BOXES: Final = (
    ("XS", (230, 160, 80), 3, 60), ("S", (305, 215, 150), 8, 140), ("M", (400, 300, 200), 15, 280),
    ("L", (500, 400, 300), 25, 550), ("XL", (800, 600, 500), 30, 1_400),
)  # fmt: skip
FILL_PPM: Final = 850_000

WEEKDAYS: Final = frozenset(range(5))
SIX_DAYS: Final = frozenset(range(6))
SEVEN_DAYS: Final = frozenset(range(7))
WEEKS: Final = {"weekdays": WEEKDAYS, "six": SIX_DAYS, "seven": SEVEN_DAYS}

PROFILES: Final = {
    "supplier_site": Profile(Echelon.SUPPLIER, "weekdays", time(12), 2, frozenset({"hazmat", "oversize"}),
                             220, (40, 4, 1, 0), CapacityUnit.WEIGHT, 9_000_000),
    "distribution_centre": Profile(Echelon.REGIONAL, "six", time(20), 0,
                                   frozenset({"cold", "gift", "hazmat", "oversize"}),
                                   115, (28, 5, 1, 4), CapacityUnit.ORDERS, 1_400),
    "3pl": Profile(Echelon.REGIONAL, "weekdays", time(17), 0, frozenset({"gift", "hazmat"}),
                   135, (32, 6, 1, 5), CapacityUnit.LINES, 1_500, "nordlog"),
    "drop_shipper": Profile(Echelon.SUPPLIER, "weekdays", time(11), 1, frozenset({"gift"}),
                            240, (50, 5, 0, 0), CapacityUnit.ORDERS, 400, "casabella"),
    "store": Profile(Echelon.LAST_MILE, "six", time(15), 0, frozenset({"gift"}),
                     170, (45, 8, 0, 6), CapacityUnit.ORDERS, 90),
    "depot": Profile(Echelon.LAST_MILE, "seven", time(18), 0, frozenset({"cold", "gift"}),
                     105, (30, 5, 1, 5), CapacityUnit.UNITS, 420),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Site:
    """A node and the city it stands in."""

    node: Node
    city: City


def partners() -> tuple[Partner, ...]:
    """Who supplies, stores, carries and sells for us."""
    return (
        Partner("nordlog", "Nordlog Contract Logistics", "3pl"),
        Partner("casabella", "Casabella Direct", "supplier"),
        Partner("viapost", "Viapost", "carrier"),
        Partner("aeris", "Aeris Express", "carrier"),
        Partner("landwerk", "Landwerk Freight", "carrier"),
        Partner("velo", "Velo City Couriers", "carrier"),
        *(Partner(code, code.capitalize(), "marketplace") for code in MARKETPLACES),
    )


def pools() -> tuple[PoolRow, ...]:
    """Four pools: of the web shop, of the shop floors, for everybody, and what is to be sold off."""
    return (
        PoolRow(Pool(WEB, "Web shop", frozenset({"web", "marketplace"}))),
        PoolRow(Pool(STORE, "Shop floors", frozenset({"store", "web"}), protection=1, per_unit=Rate(20, 2))),
        PoolRow(Pool(COMMON, "Common stock", per_unit=Rate(3, 2))),
        PoolRow(Pool(MARK_DOWN, "Mark-down", frozenset({"web", "marketplace"}), per_unit=Rate(-60, 2))),
    )


def calendars(day: date) -> tuple[Calendar, ...]:
    """Working days by country and number of days a week, without the public holidays of this year and the next."""
    made = []
    for country in COUNTRIES:
        closed = frozenset(holidays.country_holidays(country, years=range(day.year, day.year + 2)))
        made += [Calendar(f"{country.lower()}-{name}", week, closed) for name, week in WEEKS.items()]
    return tuple(made)


def exchange_rates(day: date) -> tuple[ExchangeRate, ...]:
    """Rates that apply from a month before the day."""
    since = day - timedelta(days=30)
    return tuple(ExchangeRate(currency, since, rate) for currency, rate in EXCHANGE.values())


def sites(random: Random) -> tuple[Site, ...]:
    """All nodes, each a little different from others of its kind."""
    made = []
    for line in SITES.strip().splitlines():
        code, kind, country, name = line.split("|")
        made.append(_site(random, code, kind, city(country, name)))
    return tuple(made)


def _site(random: Random, code: str, kind: str, place: City) -> Site:
    profile = PROFILES[kind]

    def varied(amount: int, places: int) -> Rate:
        return in_currency(place.country, Rate(amount * random.randint(85, 120), places + 2))

    line, unit, kg, inbound = profile.tenths
    card = CostCard(
        per_shipment=varied(profile.cents_per_shipment, 2),
        per_line=varied(line, 2),
        per_unit=varied(unit, 2),
        per_kg=varied(kg, 2),
        inbound_per_unit=varied(inbound, 2),
    )
    # A site lies some km outside the middle of its city.
    outside = random.randint(-60_000, 60_000) if kind in ("distribution_centre", "supplier_site", "3pl") else 0
    return Site(
        Node(
            code=code,
            name=f"{place.name} {KIND_NAMES[kind]}",
            echelon=profile.echelon,
            kind=kind,
            country=place.country,
            latitude_udeg=place.latitude_udeg + outside,
            longitude_udeg=place.longitude_udeg - outside,
            time_zone=place.time_zone,
            calendar=f"{place.country.lower()}-{profile.days}",
            cut_off=profile.cut_off,
            handling_days=profile.handling_days,
            capabilities=profile.capabilities,
            costs=card,
            partner=profile.partner,
        ),
        place,
    )


KIND_NAMES: Final[Mapping[str, str]] = {
    "supplier_site": "supplier", "distribution_centre": "centre", "3pl": "contract warehouse",
    "drop_shipper": "drop-shipper", "store": "store", "depot": "last-mile depot",
}  # fmt: skip


def in_currency(country: str, euro: Rate) -> Rate:
    """An amount in euro, in the currency of a country, to four places."""
    if country not in EXCHANGE:
        return euro.reduced()
    worth = EXCHANGE[country][1]
    return Rate(euro.numerator * 10 ** (worth.places + 4) // (worth.numerator * 10**euro.places), 4).reduced()


def currency_of(country: str) -> str:
    """The currency of a country; '' for the euro, in which costs are counted."""
    return EXCHANGE[country][0] if country in EXCHANGE else ""


def node_rows(found: tuple[Site, ...]) -> Iterator[NodeRow]:
    """The nodes as rows, each in its own currency."""
    for site in found:
        yield NodeRow(site.node, currency_of(site.city.country))


def boxes() -> tuple[BoxRow, ...]:
    """Boxes of every node, from a book's to a suitcase's: inner millimetres, kilograms of contents, grams of tare."""
    return tuple(
        BoxRow(Box(code, *sides, kilograms * MICROGRAMS_PER_KG, FILL_PPM, grams * MICROGRAMS_PER_KG // 1_000))
        for code, sides, kilograms, grams in BOXES
    )


def capacities(random: Random, found: tuple[Site, ...], orders: int) -> Iterator[CapacityRow]:
    """What every node can do in a day, in proportion to the orders a day is expected to bring."""
    for site in found:
        profile = PROFILES[site.node.kind]
        limit = profile.limit * max(orders, 2_000) // 5_000 * random.randint(85, 120) // 100
        if site.node.kind == "store":
            # A store packs in the morning and in the afternoon.
            yield CapacityRow(site.node.code, 0, Slot(profile.unit, limit * 2 // 5, time(9), time(12)))
            yield CapacityRow(site.node.code, 1, Slot(profile.unit, limit - limit * 2 // 5, time(12), time(18)))
        else:
            yield CapacityRow(site.node.code, 0, Slot(profile.unit, limit))
