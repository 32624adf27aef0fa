"""Whether master rows fit together: every reference is there, nothing overlaps, bills have no cycle, rates are known.

Sections are checked in their order, so a row that refers to a dropped row is dropped too. What is reported names
section, row and field (law 12); only the bad rows are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, TypeAlias, TypeVar

from poolwise.core.catalog import CrossReference, check_digit_is_right
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
    Row,
    Rows,
    Section,
    Settings,
    SubstitutionRow,
    key_of,
)
from poolwise.core.network import Lane, Zone
from poolwise.core.values import LARGEST_QUANTITY, Rate

GLOBAL_TRADE_NUMBERS: Final = ("ean", "gtin", "upc")
"""Schemes whose identifiers end in a GS1 check digit."""

Problem: TypeAlias = "tuple[str, str]"
"""A field and what is wrong with it."""

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True)
class RowFault:
    """What is wrong with a row. A warning leaves the row in."""

    section: Section
    key: str
    field: str
    reason: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """The rows that fit together, what is wrong with the others, and the day whose exchange rates apply."""

    rows: Rows
    faults: tuple[RowFault, ...]
    converted_on: date | None


def check(rows: Rows, on: date | None) -> Checked:
    """Check rows against each other. Exchange rates dated after `on` do not apply yet; with None all of them do."""
    good: dict[Section, Mapping[str, Row]] = {
        section: dict(sorted(rows.get(section, {}).items())) for section in Section
    }
    faults: list[RowFault] = []
    known = _Known(good, on)
    for section in Section:
        faults += _dropped(known, section)
        while section is Section.NODES and (more := [*_dropped(known, Section.ZONES), *_dropped(known, Section.NODES)]):
            # Zones and nodes refer to each other.
            faults += more
    faults += _unreached_zones(good)
    return Checked(good, tuple(faults), known.converted_on)


def _dropped(known: _Known, section: Section) -> list[RowFault]:
    """Drop the rows of a section that do not fit; what is wrong with them."""
    good = known.good
    bad: dict[str, list[Problem]] = {}
    for key, row in good[section].items():
        if problems := list(_problems(known, row)):
            bad[key] = problems
    good[section] = {key: row for key, row in good[section].items() if key not in bad}
    for key, problem in _misfits(section, good[section]):
        bad.setdefault(key, []).append(problem)
    good[section] = {key: row for key, row in good[section].items() if key not in bad}
    return [RowFault(section, key, field, why) for key, problems in bad.items() for field, why in problems]


def costing_currency(rows: Rows) -> str:
    """The currency of the network settings; euro where there are none."""
    return next((row.currency for row in rows_of(rows, Section.NETWORK, Settings)), Settings().currency)


def rows_of(rows: Rows, section: Section, kind: type[_Kind]) -> list[_Kind]:
    """The rows of a section, typed, in the order they are kept."""
    return [row for row in rows.get(section, {}).values() if isinstance(row, kind)]


class _Known:
    """The rows that later rows may refer to; `good` shrinks while sections are checked."""

    def __init__(self, good: dict[Section, Mapping[str, Row]], on: date | None) -> None:
        rates = [row for row in rows_of(good, Section.EXCHANGE_RATES, ExchangeRate) if on is None or row.since <= on]
        self.good = good
        self.currency = costing_currency(good)
        self.converted_on = max((row.since for row in rates), default=None)
        self.convertible = frozenset(["", self.currency, *(row.currency for row in rates)])
        self._cards: frozenset[str] | None = None

    def rate_cards(self) -> frozenset[str]:
        """Codes of the rate cards; asked for the first time when their bands have been checked."""
        if self._cards is None:
            self._cards = frozenset(row.rates for row in rows_of(self.good, Section.RATES, BandRow))
        return self._cards

    def missing(self, field: str, section: Section, codes: Iterable[str]) -> Iterator[Problem]:
        """A problem for each code, other than '', that is no row of the section."""
        for code in codes:
            if code and code not in self.good[section]:
                yield field, f"there is no '{code}' in {section}"

    def unpriced(self, currency: str) -> Iterator[Problem]:
        """A problem when amounts in this currency cannot be converted."""
        if currency not in self.convertible:
            yield "currency", f"there is no exchange rate from {currency} to {self.currency}"

    def scale(self, item: str) -> int:
        """Decimal places of an item's quantities; 0 for an unknown one, which is reported elsewhere."""
        row = self.good[Section.ITEMS].get(item)
        return row.item.scale if isinstance(row, ItemRow) else 0


def _problems(known: _Known, row: Row) -> Iterator[Problem]:
    """What is wrong with one row in the light of the sections before it."""
    match row:
        case ExchangeRate() if row.currency == known.currency:
            yield "currency", f"{row.currency} is the costing currency itself"
        case Zone() | NodeRow():
            yield from _place_problems(known, row)
        case PoolRow(pool=pool):
            yield from known.missing("zones", Section.ZONES, sorted(pool.zones))
            yield from known.unpriced(row.currency)
        case BandRow(band=band):
            if band.above_ug >= band.up_to_ug:
                yield "up_to_kg", "must be more than above_kg"
            yield from known.unpriced(row.currency)
        case Lane():
            yield from _lane_problems(known, row)
        case CapacityRow(slot=slot):
            yield from known.missing("node", Section.NODES, [row.node])
            if slot.since >= slot.until:
                yield "until", "must be later than since"
        case BoxRow():
            yield from known.missing("node", Section.NODES, [row.node])
        case ItemRow():
            yield from known.unpriced(row.currency)
        case PackRow() | ComponentRow() | SubstitutionRow() | CrossReference():
            yield from _item_problems(known, row)
        case _:
            return


def _place_problems(known: _Known, row: Zone | NodeRow) -> Iterator[Problem]:
    if isinstance(row, Zone):
        yield from known.missing("collect_at", Section.NODES, [row.collect_at])
        return
    node = row.node
    yield from known.missing("calendar", Section.CALENDARS, [node.calendar])
    yield from known.missing("partner", Section.PARTNERS, [node.partner])
    yield from known.missing("service_area", Section.ZONES, sorted(node.service_area))
    yield from known.unpriced(row.currency)


def _lane_problems(known: _Known, lane: Lane) -> Iterator[Problem]:
    yield from known.missing("origin", Section.NODES, [lane.origin])
    yield from known.missing("destination", Section.NODES if lane.to_node else Section.ZONES, [lane.destination])
    yield from known.missing("calendar", Section.CALENDARS, [lane.calendar])
    if lane.to_node and lane.origin == lane.destination:
        yield "destination", "a transfer ends at another node"
    if lane.rates not in known.rate_cards():
        yield "rates", f"there is no '{lane.rates}' in {Section.RATES}"


def _item_problems(known: _Known, row: PackRow | ComponentRow | SubstitutionRow | CrossReference) -> Iterator[Problem]:
    yield from known.missing("item", Section.ITEMS, [row.item])
    match row:
        case PackRow():
            owner = known.good[Section.ITEMS].get(row.item)
            if isinstance(owner, ItemRow) and owner.item.unit == row.pack:
                yield "pack", f"'{row.pack}' is the unit of the item itself"
            yield from _too_large("contains", row.contains, known.scale(row.item))
        case ComponentRow():
            yield from known.missing("kit", Section.ITEMS, [row.kit])
            scale = known.scale(row.item)
            if row.quantity.places > scale:
                yield "quantity", f"item {row.item} is counted with {scale} decimal places, this has more"
            yield from _too_large("quantity", row.quantity, scale)
        case SubstitutionRow():
            yield from known.missing("substitute", Section.ITEMS, [row.substitute])
            yield from known.unpriced(row.currency)
            if row.item == row.substitute:
                yield "substitute", "an item does not replace itself"
        case CrossReference():
            yield from known.missing("partner", Section.PARTNERS, [row.partner])
            if row.scheme.lower() in GLOBAL_TRADE_NUMBERS and not check_digit_is_right(row.identifier):
                yield (
                    "identifier",
                    f"'{row.identifier}' is no {row.scheme}: 8, 12, 13 or 14 digits, the last one a check",
                )


def _too_large(field: str, quantity: Rate, scale: int) -> Iterator[Problem]:
    if quantity.numerator * 10**scale > LARGEST_QUANTITY * 10**quantity.places:
        yield field, f"is more than {LARGEST_QUANTITY} base units"


def _misfits(section: Section, rows: Mapping[str, Row]) -> Iterator[tuple[str, Problem]]:
    """What is wrong between rows of one section: the key of the row to drop, and the problem."""
    match section:
        case Section.ZONES:
            yield from _shared_points([row for row in rows.values() if isinstance(row, Zone)])
        case Section.RATES:
            yield from _overlaps([row for row in rows.values() if isinstance(row, BandRow)])
        case Section.BILLS:
            yield from _cycles([row for row in rows.values() if isinstance(row, ComponentRow)])
        case _:
            return


def _shared_points(zones: list[Zone]) -> Iterator[tuple[str, Problem]]:
    """Zones whose orders are collected at a node that is the collection point of another zone; the first one stays."""
    taken: dict[str, str] = {}
    for zone in sorted(zones, key=key_of):
        first = taken.setdefault(zone.collect_at, zone.code) if zone.collect_at else zone.code
        if first != zone.code:
            yield key_of(zone), ("collect_at", f"what is collected at '{zone.collect_at}' is in zone '{first}' already")


def _overlaps(bands: list[BandRow]) -> Iterator[tuple[str, Problem]]:
    """Bands of a card that begin before the one below them ends; the lower one stays."""
    last: BandRow | None = None
    for row in sorted(bands, key=lambda row: (row.rates, row.band.above_ug)):
        if last and last.rates == row.rates and row.band.above_ug < last.band.up_to_ug:
            yield key_of(row), ("above_kg", f"overlaps another band of rate card '{row.rates}'")
        else:
            last = row


def _cycles(components: list[ComponentRow]) -> Iterator[tuple[str, Problem]]:
    """Components that lead back to their own kit, found by taking bills in key order; the closing row is dropped."""
    parts: dict[str, list[str]] = {}
    for row in sorted(components, key=lambda row: (row.kit, row.item)):
        reached, waiting = {row.item}, [row.item]
        while waiting and row.kit not in reached:
            found = [part for part in parts.get(waiting.pop(), ()) if part not in reached]
            reached.update(found)
            waiting += found
        if row.kit in reached:
            yield key_of(row), ("item", f"a kit cannot contain itself: '{row.item}' leads back to '{row.kit}'")
        else:
            parts.setdefault(row.kit, []).append(row.item)


def _unreached_zones(rows: Rows) -> list[RowFault]:
    """A warning for each zone to which no lane leads."""
    reached = {lane.destination for lane in rows_of(rows, Section.LANES, Lane) if not lane.to_node}
    zones = rows_of(rows, Section.ZONES, Zone)
    return [
        RowFault(Section.ZONES, zone.code, "zone", "no lane leads to this zone", warning=True)
        for zone in zones
        if zone.code not in reached
    ]
