"""The generated world: a network over Europe with its goods and stock, written as a network directory.

It enters Poolwise by the same import as anybody's data. Equal seeds, instants and sizes give equal files.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

from poolwise.connect.directory.columns import File, texts_of
from poolwise.connect.directory.master import MASTER_FILES
from poolwise.connect.directory.messages import RECEIPTS, STOCK
from poolwise.core.catalog import Item
from poolwise.core.edition.rows import Row, Section, Settings
from poolwise.core.messages import ReceiptNotice, StockCount
from poolwise.core.network import Calendar
from poolwise.core.values import Rate
from poolwise.sim import places
from poolwise.sim.assortment import Assortment, assortment
from poolwise.sim.carriage import lanes, rate_cards
from poolwise.sim.geography import Region, regions
from poolwise.sim.places import COMMON, MARK_DOWN, STORE, WEB, Site

ITEMS: Final = 2_000
ORDERS: Final = 5_000
"""Stock and capacity are for about so many orders a day, unless more are asked for."""

UNITS_PER_ORDER: Final = 3
COUNTED_BEFORE: Final = timedelta(hours=3)
NAME: Final = "Poolwise demo network"
APART: Final = frozenset({"hazmat", "cold"})

# How much of an item there is, in hundredths of what is expected to be asked for, and how often that is so.
COVER: Final = ((35, 3), (90, 9), (160, 38), (260, 50))
LOW_COVER: Final = 90

# How a node's part of an item compares with that of others.
PARTS: Final = {
    "supplier_site": 40, "distribution_centre": 50, "3pl": 30, "drop_shipper": 60, "store": 8, "depot": 18,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class World:
    """A network with what is in it at an instant; `items` come most wanted first, `wanted` is their share."""

    seed: int
    at: datetime
    rows: Mapping[Section, Sequence[Row]]
    stock: tuple[StockCount, ...]
    receipts: tuple[ReceiptNotice, ...]
    items: tuple[Item, ...]
    wanted: tuple[float, ...]
    regions: tuple[Region, ...]
    calendars: Mapping[str, Calendar]
    trade_numbers: Mapping[str, str]

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.rows[Section.NODES])


def make_world(seed: int, at: datetime, *, items: int = ITEMS, orders: int = ORDERS) -> World:
    """The world of a seed as it is at an instant, with stock and capacity for about `orders` a day."""
    random = Random(seed)
    sites = places.sites(random)
    goods = assortment(random, items, places.MARKETPLACES)
    wanted = popularity(items)
    calendars = places.calendars(at.date())
    rows: dict[Section, Sequence[Row]] = {
        Section.NETWORK: [Settings("EUR", NAME, APART)],
        Section.EXCHANGE_RATES: places.exchange_rates(at.date()),
        Section.PARTNERS: places.partners(),
        Section.CALENDARS: calendars,
        Section.ZONES: [region.zone for region in regions()],
        Section.NODES: list(places.node_rows(sites)),
        Section.POOLS: places.pools(),
        Section.RATES: list(rate_cards(random)),
        Section.LANES: list(lanes(sites, regions())),
        Section.CAPACITIES: list(places.capacities(random, sites, orders)),
        Section.BOXES: places.boxes(),
        **goods.rows(),
    }
    filling = _Filling(random, sites, goods, at)
    for item, share in zip(goods.items, wanted, strict=True):
        filling.fill(item, int(share * orders * UNITS_PER_ORDER))
    return World(
        seed,
        at,
        rows,
        tuple(filling.stock),
        tuple(filling.receipts),
        goods.items,
        wanted,
        regions(),
        {calendar.code: calendar for calendar in calendars},
        {reference.item: reference.identifier for reference in goods.references if not reference.partner},
    )


def popularity(items: int) -> tuple[float, ...]:
    """Shares of demand by rank after Zipf's law, flattened at the top; they add up to 1."""
    weights = [1 / (rank + 20) ** 0.9 for rank in range(items)]
    whole = sum(weights)
    return tuple(weight / whole for weight in weights)


class _Filling:
    """Lays goods out over nodes and pools, and lets more come where there is too little."""

    def __init__(self, random: Random, sites: Sequence[Site], goods: Assortment, at: datetime) -> None:
        self._random, self._at = random, at
        self._counted_at = at.replace(minute=0, second=0, microsecond=0) - COUNTED_BEFORE
        self._kinds: dict[str, list[Site]] = {}
        for site in sites:
            self._kinds.setdefault(site.node.kind, []).append(site)
        self._kits = frozenset(row.kit for row in goods.bills)
        self.stock: list[StockCount] = []
        self.receipts: list[ReceiptNotice] = []

    def fill(self, item: Item, expected: int) -> None:
        """Stock for an item that is expected to be asked for so often."""
        random = self._random
        cover = random.choices([hundredths for hundredths, _ in COVER], [often for _, often in COVER])[0]
        total = expected * cover // 100 + random.randint(4, 12)
        found = self._holders(item)
        parts = [PARTS[site.node.kind] * random.randint(60, 140) for site in found]
        for site, part in zip(found, parts, strict=True):
            units = max(3, total * part // sum(parts))
            for pool, share in self._pools(site, units):
                self._count(item, site, pool, share)
        if found and (cover <= LOW_COVER or random.random() < 0.05):
            self._expect(item, expected)

    def _holders(self, item: Item) -> list[Site]:
        """The nodes that hold an item: few for what needs care, more the plainer it is."""
        random = self._random
        if item.code in self._kits:
            return self._some("distribution_centre", random.choice((0, 2, 4)))
        if item.requires:
            depots = random.randint(2, 5) if "cold" in item.requires else 0
            suppliers = 0 if "cold" in item.requires else random.choice((1, 2))
            return [
                *self._some("distribution_centre", random.randint(4, 6)),
                *self._some("supplier_site", suppliers),
                *self._some("depot", depots),
            ]
        if random.random() < 0.04:
            return self._some("drop_shipper", random.choice((1, 1, 2)))
        return [
            *self._some("distribution_centre", random.randint(4, 7)),
            *self._some("3pl", random.choice((0, 1, 1))),
            *self._some("supplier_site", random.choice((0, 1, 1))),
            *self._some("store", random.randint(2, 8)),
            *self._some("depot", random.randint(1, 5)),
        ]

    def _some(self, kind: str, count: int) -> list[Site]:
        return self._random.sample(self._kinds[kind], count)

    def _pools(self, site: Site, units: int) -> Iterator[tuple[str, int]]:
        """How a node's units are divided over its pools."""
        match site.node.kind:
            case "store":
                yield STORE, units
            case "distribution_centre":
                common = units * 4 // 10 if self._random.random() < 0.5 else 0
                sold_off = units // 5 if self._random.random() < 0.04 else 0
                yield WEB, units - common - sold_off
                yield COMMON, common
                yield MARK_DOWN, sold_off
            case "depot":
                yield WEB, units
            case _:
                yield COMMON, units

    def _count(self, item: Item, site: Site, pool: str, units: int) -> None:
        if not units:
            return
        random = self._random
        quantity = f"{units}.{random.choice((0, 25, 5, 75))}" if item.scale else str(units)
        lot, expires_on = "", None
        if "cold" in item.requires:
            days = random.randint(6, 40)
            lot, expires_on = f"L{days:02d}{random.randint(100, 999)}", self._at.date() + timedelta(days=days)
        self.stock.append(
            StockCount(
                item=item.code, node=site.node.code, pool=pool, quantity=quantity, as_of=self._counted_at,
                lot=lot, expires_on=expires_on, sequence=1,
            )
        )  # fmt: skip

    def _expect(self, item: Item, expected: int) -> None:
        """A delivery to a centre within two weeks."""
        random = self._random
        (site,) = self._some("distribution_centre", 1)
        self.receipts.append(
            ReceiptNotice(
                reference=f"PO-{77_000 + len(self.receipts)}-1",
                item=item.code,
                node=site.node.code,
                pool=WEB,
                quantity=str(expected // 2 + random.randint(6, 30)),
                due_on=self._day(random.randint(1, 11)),
                announced=random.random() < 0.6,
                sequence=1,
            )
        )

    def _day(self, ahead: int) -> date:
        return self._at.date() + timedelta(days=ahead)


def write_directory(world: World, folder: Path) -> None:
    """Write a world as a network directory."""
    folder.mkdir(parents=True, exist_ok=True)
    for section, file in MASTER_FILES.items():
        _write(folder, file, world.rows[section])
    _write(folder, STOCK, world.stock)
    _write(folder, RECEIPTS, world.receipts)


def _write(folder: Path, file: File, rows: Iterable[object]) -> None:
    """One file of it, with the columns that any of its rows fills."""
    texts = [texts_of(file, row) for row in rows]
    names = [name for name in file.names if any(text.get(name) for text in texts)]
    with (folder / f"{file.name}.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([text[name] for name in names] for text in texts)


def price_of(item: Item) -> Rate:
    """What an item is sold for, per unit: some two and a half times its cost, ending in 90 cents."""
    cents = (item.unit_cost or Rate(0)).numerator
    return Rate(cents * 5 // 200 * 100 + 90, 2)
