"""Master rows: what is kept of each row of the network directory, typed, before its references are checked.

Amounts stay in the row's own currency; `core.edition.build` converts them. A section is one file of the directory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final, TypeAlias

from poolwise.core.catalog import CrossReference, Item
from poolwise.core.network import Box, Calendar, Lane, Node, Partner, Pool, RateBand, Slot, Zone
from poolwise.core.values import ZERO_RATE, Rate


class Section(StrEnum):
    """The files of master data, each after those it refers to; only zones and nodes refer to each other."""

    NETWORK = "network"
    EXCHANGE_RATES = "exchange_rates"
    PARTNERS = "partners"
    CALENDARS = "calendars"
    ZONES = "zones"
    NODES = "nodes"
    POOLS = "pools"
    RATES = "rates"
    LANES = "lanes"
    CAPACITIES = "capacities"
    BOXES = "boxes"
    ITEMS = "items"
    PACKS = "packs"
    BILLS = "bills"
    SUBSTITUTIONS = "substitutions"
    CROSS_REFERENCES = "cross_references"


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for the whole network: its one costing currency (law 11), and the capabilities that travel apart."""

    currency: str = "EUR"
    name: str = ""
    apart: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ExchangeRate:
    """From `since` on, one unit of `currency` is worth `rate` units of the costing currency."""

    currency: str
    since: date
    rate: Rate


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node without its slots; its cost card is in `currency` ('' = the costing currency)."""

    node: Node
    currency: str = ""


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool; its costs are in `currency`."""

    pool: Pool
    currency: str = ""


@dataclass(frozen=True, slots=True)
class BandRow:
    """One weight band of the rate card `rates`, in `currency`."""

    rates: str
    band: RateBand
    currency: str = ""


@dataclass(frozen=True, slots=True)
class CapacityRow:
    """Slot number `no` of a node. Bookings name the number, so it stays when hours or limits change."""

    node: str
    no: int
    slot: Slot


@dataclass(frozen=True, slots=True)
class BoxRow:
    """A box of a node; of every node without boxes of its own where `node` is ''."""

    box: Box
    node: str = ""


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item; its unit cost is in `currency`."""

    item: Item
    currency: str = ""


@dataclass(frozen=True, slots=True)
class PackRow:
    """`per` packs hold `contains` units of the item."""

    item: str
    pack: str
    contains: Rate
    per: int = 1


@dataclass(frozen=True, slots=True)
class ComponentRow:
    """One unit of `kit` needs `quantity` units of `item`."""

    kit: str
    item: str
    quantity: Rate
    across_nodes: bool = False


@dataclass(frozen=True, slots=True)
class SubstitutionRow:
    """`quantity` units of `substitute` replace `per` units of `item`; the penalty is in `currency`."""

    item: str
    substitute: str
    quantity: Rate = Rate(1)
    per: int = 1
    penalty: Rate = ZERO_RATE
    currency: str = ""


Row: TypeAlias = (
    Settings
    | ExchangeRate
    | Partner
    | Calendar
    | Zone
    | NodeRow
    | PoolRow
    | BandRow
    | Lane
    | CapacityRow
    | BoxRow
    | ItemRow
    | PackRow
    | ComponentRow
    | SubstitutionRow
    | CrossReference
)

Rows: TypeAlias = Mapping[Section, Mapping[str, Row]]
"""All master rows, by section and key."""

ROW_TYPE: Final[Mapping[Section, type[Row]]] = {
    Section.NETWORK: Settings,
    Section.EXCHANGE_RATES: ExchangeRate,
    Section.PARTNERS: Partner,
    Section.CALENDARS: Calendar,
    Section.ZONES: Zone,
    Section.NODES: NodeRow,
    Section.POOLS: PoolRow,
    Section.RATES: BandRow,
    Section.LANES: Lane,
    Section.CAPACITIES: CapacityRow,
    Section.BOXES: BoxRow,
    Section.ITEMS: ItemRow,
    Section.PACKS: PackRow,
    Section.BILLS: ComponentRow,
    Section.SUBSTITUTIONS: SubstitutionRow,
    Section.CROSS_REFERENCES: CrossReference,
}

SEPARATOR: Final = "\x1f"
"""Stands between the parts of a key; no code contains it."""


def key_of(row: Row) -> str:
    """The key of a row within its section: what another row of the same file may not repeat."""
    return SEPARATOR.join(_KEY[type(row)](row))


def _settings_key(_: Settings) -> tuple[str, ...]:
    return ("",)


def _exchange_key(row: ExchangeRate) -> tuple[str, ...]:
    return row.currency, row.since.isoformat()


def _code(row: Partner | Calendar | Zone | Lane) -> tuple[str, ...]:
    return (row.code,)


def _band_key(row: BandRow) -> tuple[str, ...]:
    return row.rates, f"{row.band.above_ug:020d}"


def _capacity_key(row: CapacityRow) -> tuple[str, ...]:
    return row.node, f"{row.no:02d}"


def _pack_key(row: PackRow) -> tuple[str, ...]:
    return row.item, row.pack


def _component_key(row: ComponentRow) -> tuple[str, ...]:
    return row.kit, row.item


def _substitution_key(row: SubstitutionRow) -> tuple[str, ...]:
    return row.item, row.substitute


def _reference_key(row: CrossReference) -> tuple[str, ...]:
    return row.scheme, row.partner, row.identifier


_KEY: Final[Mapping[type, Callable[..., tuple[str, ...]]]] = {
    Settings: _settings_key,
    ExchangeRate: _exchange_key,
    Partner: _code,
    Calendar: _code,
    Zone: _code,
    NodeRow: lambda row: (row.node.code,),
    PoolRow: lambda row: (row.pool.code,),
    BandRow: _band_key,
    Lane: _code,
    CapacityRow: _capacity_key,
    BoxRow: lambda row: (row.node, row.box.code),
    ItemRow: lambda row: (row.item.code,),
    PackRow: _pack_key,
    ComponentRow: _component_key,
    SubstitutionRow: _substitution_key,
    CrossReference: _reference_key,
}
