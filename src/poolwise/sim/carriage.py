"""How goods travel in the generated network: carrier services, their rate cards, a lane wherever one makes sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from random import Random
from typing import Final

from poolwise.core.edition.rows import BandRow
from poolwise.core.network import Lane, RateBand, Transit
from poolwise.core.values import MICROGRAMS_PER_KG, MILLION, Rate
from poolwise.sim.geography import Region, distance_km, tier_of
from poolwise.sim.places import Site

TIERS_KM: Final = (60, 200, 450, 800, 1_200, 1_800, 3_500)
NEAR_ENOUGH_KM: Final = 80
"""A city courier serves the zone whose centre is no farther."""

TRANSFER_KM: Final = 450
NEAREST_CENTRES: Final = 2


@dataclass(frozen=True, slots=True)
class Service:
    """A carrier's service: `days` in transit by tier, prices in cents, emissions in grams.

    `cents` are the base, each tier more, and a border; `bands` are (up to kg, cents more, cents per kg). Emissions are
    grams per shipment, and per kg for every 100 km.
    """

    code: str
    carrier: str
    levels: frozenset[str]
    days: tuple[str, ...]
    cents: tuple[int, int, int]
    bands: tuple[tuple[int, int, int], ...]
    grams: tuple[int, int]
    carries: frozenset[str]
    longest_mm: int
    week: str
    cut_off: time


SERVICES: Final = {
    "ground": Service(
        "ground", "viapost", frozenset({"economy", "standard"}),
        ("1", "1:0.92 2:0.08", "1:0.55 2:0.45", "2:0.8 3:0.2", "2:0.3 3:0.7", "3:0.75 4:0.25", "4:0.7 5:0.3"),
        (290, 44, 90), ((2, 0, 0), (5, 60, 8), (10, 110, 14), (31, 160, 22)),
        (120, 9), frozenset({"hazmat"}), 1_200, "weekdays", time(19),
    ),
    "express": Service(
        "express", "aeris", frozenset({"express", "standard"}),
        ("1", "1", "1", "1", "1:0.985 2:0.015", "2", "2"),
        (560, 90, 140), ((2, 0, 0), (10, 140, 45), (25, 260, 70)),
        (260, 34), frozenset({"cold"}), 1_000, "six", time(20),
    ),
    "freight": Service(
        "freight", "landwerk", frozenset({"economy", "standard"}),
        ("1:0.6 2:0.4", "2:0.8 3:0.2", "2:0.5 3:0.5", "3", "4", "5", "6:0.8 7:0.2"),
        (2_150, 420, 350), ((30, 0, 6), (100, 600, 9), (500, 1_500, 11)),
        (900, 7), frozenset({"hazmat", "oversize"}), 2_600, "weekdays", time(16),
    ),
    "courier": Service(
        "courier", "velo", frozenset({"express", "standard"}),
        ("0:0.7 1:0.3", "1", "1", "1", "1", "1", "1"),
        (260, 60, 0), ((3, 0, 0), (12, 60, 9)),
        (35, 6), frozenset({"cold"}), 700, "six", time(17),
    ),
    "shuttle": Service(
        "shuttle", "landwerk", frozenset(),
        ("1", "1", "1", "1:0.9 2:0.1", "2", "3", "4"),
        (280, 90, 120), ((50, 0, 5), (800, 900, 4)),
        (420, 5), frozenset({"cold", "hazmat", "oversize"}), 2_600, "six", time(18),
    ),
}  # fmt: skip

# How far nodes of a kind send by each service, in km.
REACH_KM: Final[Mapping[str, Mapping[str, int]]] = {
    "supplier_site": {"ground": 900, "freight": 1_200},
    "distribution_centre": {"ground": 1_600, "express": 1_300, "freight": 1_300},
    "3pl": {"ground": 1_200, "express": 900, "freight": 900},
    "drop_shipper": {"ground": 1_500},
    "store": {"ground": 500, "courier": NEAR_ENOUGH_KM},
    "depot": {"ground": 260, "express": 260, "courier": NEAR_ENOUGH_KM},
}


def rate_cards(random: Random) -> Iterator[BandRow]:
    """A card for each service, tier and side of a border, with bands by weight; prices grow with both."""
    for service in SERVICES.values():
        base, tier_cents, border_cents = service.cents
        level = random.randint(94, 108)
        for tier in range(len(TIERS_KM)):
            for border in (False, True):
                above_ug = 0
                for up_to_kg, more_cents, cents_per_kg in service.bands:
                    cents = (base + tier * tier_cents + more_cents + border * border_cents) * level // 100
                    per_kg = Rate(cents_per_kg * (10 + 4 * tier), 3).reduced()
                    band = RateBand(above_ug, up_to_kg * MICROGRAMS_PER_KG, Rate(cents, 2).reduced(), per_kg=per_kg)
                    yield BandRow(card_of(service, tier, border), band)
                    above_ug = band.up_to_ug


def card_of(service: Service, tier: int, border: bool) -> str:
    """The code of a rate card."""
    return f"{service.code}-{tier + 1}{'x' if border else ''}"


def lanes(sites: Sequence[Site], regions: Sequence[Region]) -> Iterator[Lane]:
    """From every node to every zone in reach, and transfers from suppliers to centres and from centres to cities."""
    for site in sites:
        for region in regions:
            km = distance_km(site.city, region.centre)
            for code, reach_km in REACH_KM[site.node.kind].items():
                if km <= reach_km:
                    border = site.city.country != region.centre.country
                    yield _lane(SERVICES[code], site, region.zone.code, km, border)
    yield from _transfers(sites)


def _transfers(sites: Sequence[Site]) -> Iterator[Lane]:
    centres = [site for site in sites if site.node.kind == "distribution_centre"]
    for site in sites:
        for centre in sorted(centres, key=lambda centre: distance_km(centre.city, site.city))[:NEAREST_CENTRES]:
            km, border = distance_km(centre.city, site.city), centre.city.country != site.city.country
            if site.node.kind == "supplier_site":
                yield _lane(SERVICES["shuttle"], site, centre.node.code, km, border, to_node=True)
            elif site.node.kind in ("store", "depot") and km <= TRANSFER_KM:
                yield _lane(SERVICES["shuttle"], centre, site.node.code, km, border, to_node=True)


def _lane(service: Service, site: Site, destination: str, km: int, border: bool, *, to_node: bool = False) -> Lane:
    tier = tier_of(km, TIERS_KM)
    grams, grams_per_kg = service.grams
    longest = service.bands[-1][0] * MICROGRAMS_PER_KG
    return Lane(
        code=f"{site.node.code}>{destination}.{service.code}",
        origin=site.node.code,
        destination=destination,
        rates=card_of(service, tier, border),
        to_node=to_node,
        carrier=service.carrier,
        service=service.code,
        service_levels=service.levels,
        transit=transit(service.days[tier]),
        calendar=f"{site.city.country.lower()}-{service.week}",
        cut_off=service.cut_off,
        distance_km=km,
        co2e_g=Rate(grams + grams * tier // 2),
        co2e_g_per_kg=Rate(max(1, grams_per_kg * km // 10), 1).reduced(),
        carries=service.carries,
        max_weight_ug=longest,
        max_length_mm=service.longest_mm,
    )


def transit(text: str) -> Transit:
    """`1:0.9 2:0.1` as a distribution; one number alone is certain."""
    days = []
    for word in text.split():
        count, _, share = word.partition(":")
        days.append((int(count), MILLION if not share else round(float(share) * MILLION)))
    return Transit(tuple(days))
