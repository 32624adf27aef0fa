"""The stream of orders that a generated world meets: who orders what, where, how soon, and under which conditions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from itertools import accumulate
from random import Random
from typing import Final
from zoneinfo import ZoneInfo

from poolwise.core.messages import Address, OrderLine, OrderMessage
from poolwise.core.values import Json
from poolwise.sim.geography import City, Region, postcode
from poolwise.sim.world import World, price_of

# Channel, beginning of its order numbers, how often in a hundred orders.
CHANNELS: Final = (("web", "SO", 68), ("store", "ST", 14), ("marketplace", "MP", 18))

LINES: Final = ((1, 42), (2, 28), (3, 16), (4, 9), (5, 5))
QUANTITIES: Final = ((1, 76), (2, 16), (3, 6), (6, 2))

EXPRESS: Final = 17
SHIP_COMPLETE: Final = 6
ONE_PARCEL: Final = 3
NO_SUBSTITUTES: Final = 15
NO_STORES: Final = 2
URGENT: Final = 2
"""Of a hundred orders."""

EXPRESS_DAYS: Final = 2
"""Working days, where the order goes to, that express promises."""

FIRST_NAMES: Final = tuple("Ada Ben Clara David Elena Felix Greta Hugo Ines Jan Klara Luca Marta Nils Olga Pia".split())
LAST_NAMES: Final = tuple("Adler Bernard Costa Dvorak Ek Ferrari Garcia Hansen Kowalski Lindt Moreau Novak".split())


class Demand:
    """Makes orders for a world, one after another; equal seeds and instants give equal orders."""

    def __init__(self, world: World) -> None:
        """Starts before the first order."""
        self._world = world
        self._random = Random(world.seed ^ 0x5EED)
        self._by_item = list(accumulate(world.wanted))
        self._by_zone = list(accumulate(region.people for region in world.regions))
        self._by_city = {
            region.zone.code: list(accumulate(city.population for city in region.cities)) for region in world.regions
        }
        self._number = 100_000 + world.seed % 900 * 1_000

    def orders(self, count: int, at: datetime) -> Iterator[OrderMessage]:
        """The next orders, as if placed at an instant."""
        for _ in range(count):
            yield self.order(at)

    def order(self, at: datetime) -> OrderMessage:
        """The next order, as if placed at an instant."""
        random = self._random
        channel, prefix, _ = random.choices(CHANNELS, [often for *_, often in CHANNELS])[0]
        region = random.choices(self._world.regions, cum_weights=self._by_zone)[0]
        city = random.choices(region.cities, cum_weights=self._by_city[region.zone.code])[0]
        express = self._now_and_then(EXPRESS)
        self._number += random.randint(1, 9)
        return OrderMessage(
            number=f"{prefix}-{self._number}",
            channel=channel,
            ship_to=self._address(region, city),
            lines=tuple(self._lines(channel)),
            service_level="express" if express else "standard",
            customer=f"C-{random.randint(1_000, 9_999)}",
            currency="EUR",
            priority=9 if self._now_and_then(URGENT) else 0,
            requested_date=self._promised(region, at) if express else None,
            ship_complete=self._now_and_then(SHIP_COMPLETE),
            max_shipments=1 if self._now_and_then(ONE_PARCEL) else None,
            facts=self._facts(),
        )

    def _now_and_then(self, times_in_100: int) -> bool:
        return self._random.randrange(100) < times_in_100

    def _address(self, region: Region, city: City) -> Address:
        random = self._random
        return Address(
            country=region.zone.country,
            postcode=postcode(region.zone, random),
            city=city.name,
            street=f"{random.choice(LAST_NAMES)}street {random.randint(1, 180)}",
            name=f"{random.choice(FIRST_NAMES)} {random.choice(LAST_NAMES)}",
        )

    def _lines(self, channel: str) -> Iterator[OrderLine]:
        """One to five lines; a marketplace names goods by their trade numbers."""
        random = self._random
        count = random.choices([count for count, _ in LINES], [often for _, often in LINES])[0]
        substitutes = not self._now_and_then(NO_SUBSTITUTES)
        for item in dict.fromkeys(random.choices(self._world.items, cum_weights=self._by_item, k=count)):
            units = random.choices([units for units, _ in QUANTITIES], [often for _, often in QUANTITIES])[0]
            yield OrderLine(
                item=self._world.trade_numbers[item.code] if channel == "marketplace" else item.code,
                quantity=f"{units}.5" if item.scale and units > 1 else str(units),
                unit_price=str(price_of(item)),
                substitutes=substitutes,
            )

    def _promised(self, region: Region, at: datetime) -> date | None:
        """The day an express order is wanted: some working days on, so that nobody is promised a Sunday."""
        calendar = self._world.calendars[f"{region.zone.country.lower()}-weekdays"]
        today = at.astimezone(ZoneInfo(region.zone.time_zone)).date()
        return calendar.plus_working_days(today, EXPRESS_DAYS)

    def _facts(self) -> dict[str, Json] | None:
        return {"no_stores": True} if self._now_and_then(NO_STORES) else None
