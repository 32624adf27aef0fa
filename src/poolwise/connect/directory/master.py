"""The files of master data, column by column."""

from __future__ import annotations

import re
from datetime import date, time
from typing import Final

from poolwise.connect.directory.columns import Column, File, RowError, Values
from poolwise.connect.directory.kinds import (
    CLOCK,
    CODE,
    COUNTRY,
    CURRENCY,
    DAY,
    FLAG,
    INSTANT,
    POSITIVE_RATE,
    RATE,
    SIGNED_RATE,
    TEXT,
    TIME_ZONE,
    TRANSIT,
    WEEKDAYS,
    choice,
    in_order,
    integer,
    scaled,
    some,
)
from poolwise.core.catalog import CrossReference, Item
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
    Section,
    Settings,
    SubstitutionRow,
)
from poolwise.core.network import (
    Box,
    Calendar,
    CapacityUnit,
    CostCard,
    Echelon,
    Lane,
    Node,
    NodeStatus,
    Partner,
    Pool,
    RateBand,
    Slot,
    Zone,
)
from poolwise.core.values import LARGEST_QUANTITY, MILLION, Fault, Rate, replace

EVERY_DAY: Final = "Mon Tue Wed Thu Fri Sat Sun"
LATITUDE: Final = scaled(6, -90_000_000, 90_000_000)
LONGITUDE: Final = scaled(6, -180_000_000, 180_000_000)
KILOGRAMS: Final = scaled(9)
CENTIMETRES: Final = scaled(1, 0, 10**6)
INNER_SIDE: Final = scaled(1, 1, 10**6)
LAST_SLOT: Final = 99
MOST_HOLIDAY_YEARS: Final = 50

SEQUENCE: Final = integer(0, 2**63 - 1)
ENVELOPE: Final = (
    Column("sequence", SEQUENCE, "number of the sender's statement; a lower one never overwrites a higher one"),
    Column(
        "changed_at",
        INSTANT,
        "when the statement was made, where there is no sequence; an earlier one never overwrites a later one; "
        "else the time of the import counts",
    ),
)
"""Stand at the end of every master file; they are no part of the edition."""

_CURRENCY: Final = Column("currency", CURRENCY, "of the amounts in this row", "currency", default="", example="USD")


def currency_column(unit: str = "costing currency") -> Column:
    """The column that names the currency of a row's amounts."""
    return replace(_CURRENCY, meaning=f"currency of the amounts in this row; the {unit} where it is empty")


NETWORK: Final = File(
    "network",
    "One row with what holds for the whole network.",
    (),
    (
        Column("currency", CURRENCY, "the one costing currency; every cost is converted into it", "currency",
               required=True, example="EUR"),
        Column("name", TEXT, "name of the network", "name", example="Five nodes"),
        Column("apart", some(CODE), "capabilities that travel apart: only what needs the same of them is in one parcel",
               "apart", example="hazmat cold"),
    ),
    Settings,
    section=Section.NETWORK,
    notes="Without this file the network keeps its currency; a new one has EUR.",
)  # fmt: skip

EXCHANGE_RATES: Final = File(
    "exchange_rates",
    "What a unit of another currency is worth, from a day on.",
    ("currency", "since"),
    (
        Column("currency", CURRENCY, "the other currency", "currency", required=True, example="USD"),
        Column("since", DAY, "first day on which the rate applies", "since", required=True, example="2026-01-01"),
        Column("rate", POSITIVE_RATE, "worth of one unit", "rate", required=True, unit="costing currency",
               example="0.92"),
    ),
    ExchangeRate,
    section=Section.EXCHANGE_RATES,
    notes="Amounts in other currencies are converted exactly, at the newest rate dated before or on the day of import.",
)  # fmt: skip

PARTNERS: Final = File(
    "partners",
    "Suppliers, carriers, third-party logistics providers and marketplaces.",
    ("partner",),
    (
        Column("partner", CODE, "code of the partner", "code", required=True, example="nordlog"),
        Column("name", TEXT, "name", "name", example="Nord Logistik"),
        Column("kind", CODE, "supplier, carrier, 3pl, marketplace, ...", "kind", example="3pl"),
    ),
    Partner,
    section=Section.PARTNERS,
)


def _calendar(values: Values) -> Calendar:
    """A calendar; the holidays of a country are expanded into closed days here."""
    closed = frozenset(values.get("closed", frozenset()))
    if ("holidays" in values) != ("holiday_years" in values):
        raise RowError([Fault("holiday_years", "goes with holidays: give both or neither, such as DE-BY, 2025-2030")])
    if "holidays" in values:
        closed |= _holidays(values["holidays"], values["holiday_years"])
    return Calendar(
        values["calendar"],
        values.get("working_days", frozenset(range(7))),
        closed,
        frozenset(values.get("open", frozenset())),
    )


def _holidays(place: str, years: str) -> frozenset[date]:
    # Loading it takes every command a tenth of a second, and few read calendars.
    import holidays

    country, _, region = place.partition("-")
    span = re.fullmatch(r"(\d{4})(?:-(\d{4}))?", years)
    if not span or not 0 <= int(span[2] or span[1]) - int(span[1]) < MOST_HOLIDAY_YEARS:
        raise RowError([Fault("holiday_years", f"'{years}' is no range of at most {MOST_HOLIDAY_YEARS} years")])
    try:
        found = holidays.country_holidays(
            country, subdiv=region or None, years=range(int(span[1]), int(span[2] or span[1]) + 1)
        )
    except NotImplementedError as error:
        raise RowError([Fault("holidays", f"the holidays of '{place}' are not known")]) from error
    return frozenset(found)


def _calendar_values(calendar: Calendar) -> Values:
    return {
        "calendar": calendar.code,
        "working_days": calendar.weekdays,
        "closed": calendar.closed,
        "open": calendar.open,
    }


CALENDARS: Final = File(
    "calendars",
    "Working days of nodes and carriers.",
    ("calendar",),
    (
        Column("calendar", CODE, "code of the calendar", required=True, example="de-weekdays"),
        Column("working_days", WEEKDAYS, "days of the week that are worked", default=EVERY_DAY,
               example="Mon Tue Wed Thu Fri"),
        Column("holidays", CODE, "country, or country and region, whose public holidays are closed days",
               example="DE-BY"),
        Column("holiday_years", CODE, "first and last year for which they are expanded", example="2025-2030"),
        Column("closed", some(DAY), "further closed days", example="2026-12-24 2026-12-31"),
        Column("open", some(DAY), "days that are worked although they would be closed", example="2026-12-19"),
    ),
    Calendar,
    make=_calendar,
    take=_calendar_values,
    section=Section.CALENDARS,
    notes="Holidays are expanded on import, so that an edition names days only; an export lists them in `closed`.",
)  # fmt: skip

ZONES: Final = File(
    "zones",
    "Destinations treated alike.",
    ("zone",),
    (
        Column("zone", CODE, "code of the zone", "code", required=True, example="de-south"),
        Column("country", COUNTRY, "country of its addresses; any where it is empty", "country", example="DE"),
        Column("postcode_prefixes", in_order(CODE),
               "beginnings of its postcodes; the longest that fits an address wins, "
               "any postcode of the country where it is empty", "postcode_prefixes", example="80 81 82"),
        Column("latitude", LATITUDE, "latitude of its centre", "latitude_udeg", unit="degrees", example="48.137"),
        Column("longitude", LONGITUDE, "longitude of its centre", "longitude_udeg", unit="degrees", example="11.575"),
        Column("time_zone", TIME_ZONE, "time zone in which delivery days are counted", "time_zone", default="UTC",
               example="Europe/Berlin"),
        Column("cell", integer(0, 32_767), "cell that serves its orders", "cell", default="0"),
        Column("collect_at", CODE,
               "node at which its orders are collected; no address is in such a zone, orders name the node",
               "collect_at", example="BER-SHOP"),
    ),
    Zone,
    section=Section.ZONES,
)  # fmt: skip

_COST = "node.costs"
NODES: Final = File(
    "nodes",
    "Places that hold or pass stock, with their cost cards.",
    ("node",),
    (
        Column("node", CODE, "code of the node", "node.code", required=True, example="MUC"),
        Column("name", TEXT, "name", "node.name", example="Munich centre"),
        Column("echelon", choice(Echelon), "level in the network", "node.echelon", default="regional",
               example="regional"),
        Column("kind", CODE,
               "what sort of place: supplier_site, distribution_centre, store, depot, 3pl, drop_shipper, ...",
               "node.kind", default="distribution_centre", example="store"),
        Column("cell", integer(0, 32_767), "cell the node's stock is kept in", "node.cell", default="0"),
        Column("country", COUNTRY, "country", "node.country", example="DE"),
        Column("postcode", TEXT, "postcode", "node.postcode", example="85748"),
        Column("latitude", LATITUDE, "latitude", "node.latitude_udeg", unit="degrees", example="48.25"),
        Column("longitude", LONGITUDE, "longitude", "node.longitude_udeg", unit="degrees", example="11.65"),
        Column("time_zone", TIME_ZONE, "time zone of calendar and cut-off", "node.time_zone", default="UTC",
               example="Europe/Berlin"),
        Column("calendar", CODE, "calendar of its working days; every day where it is empty", "node.calendar",
               example="de-weekdays"),
        Column("cut_off", CLOCK, "last moment for work of the same day, local time", "node.cut_off", default="24:00",
               example="15:00"),
        Column("handling_days", integer(0, 365), "working days from order to departure", "node.handling_days",
               default="0", unit="working days", example="1"),
        Column("capabilities", some(CODE), "what it can handle: hazmat, cold, gift, oversize, ...", "node.capabilities",
               example="cold gift"),
        Column("service_area", some(CODE), "zones it serves; all where it is empty", "node.service_area",
               example="de-south at"),
        Column("customers", some(CODE), "customers it serves; all where it is empty", "node.customers",
               example="C-1 C-7"),
        Column("status", choice(NodeStatus), "whether it may be given new work", "node.status", default="active",
               example="active"),
        Column("partner", CODE, "partner that runs it", "node.partner", example="nordlog"),
        Column("cost_per_shipment", RATE, "handling of a shipment", f"{_COST}.per_shipment", default="0",
               unit="currency", example="1.10"),
        Column("cost_per_line", RATE, "handling of an order line", f"{_COST}.per_line", default="0", unit="currency",
               example="0.25"),
        Column("cost_per_unit", RATE, "handling of a unit", f"{_COST}.per_unit", default="0", unit="currency",
               example="0.05"),
        Column("cost_per_kg", RATE, "handling of a kilogram", f"{_COST}.per_kg", default="0", unit="currency",
               example="0.02"),
        Column("inbound_cost_per_unit", RATE, "taking in a unit that is transferred here", f"{_COST}.inbound_per_unit",
               default="0", unit="currency", example="0.03"),
        currency_column(),
    ),
    NodeRow,
    {"node": Node, _COST: CostCard},
    section=Section.NODES,
)  # fmt: skip

POOLS: Final = File(
    "pools",
    "Stock set aside for a purpose: who may draw on it, and what that costs.",
    ("pool",),
    (
        Column("pool", CODE, "code of the pool", "pool.code", required=True, example="web"),
        Column("name", TEXT, "name", "pool.name", example="Web shop"),
        Column("channels", some(CODE), "channels it is open to; all where it is empty", "pool.channels",
               example="web app"),
        Column("customers", some(CODE), "customers it is open to; all where it is empty", "pool.customers",
               example="C-1"),
        Column("zones", some(CODE), "zones it may be sent to; all where it is empty", "pool.zones", example="de-south"),
        Column("protection", integer(0, LARGEST_QUANTITY), "kept back of each item at each node", "pool.protection",
               default="0", unit="base units", example="2"),
        Column("cost_per_unit", SIGNED_RATE, "cost of drawing a unit", "pool.per_unit", default="0", unit="currency",
               example="-0.50"),
        Column("cost_per_kg", SIGNED_RATE, "cost of drawing a kilogram", "pool.per_kg", default="0", unit="currency",
               example="0.10"),
        currency_column(),
    ),
    PoolRow,
    {"pool": Pool},
    section=Section.POOLS,
    notes="A negative cost is a credit: a mark-down pool pays to be emptied.",
)  # fmt: skip

RATES: Final = File(
    "rates",
    "Rate cards of carrier services, one row for each weight band: max(minimum, fixed + per_kg x weight).",
    ("rates", "above_kg"),
    (
        Column("rates", CODE, "code of the rate card", "rates", required=True, example="parcel-1"),
        Column("above_kg", KILOGRAMS, "the band begins above this weight; the band from 0 includes 0", "band.above_ug",
               default="0", unit="kg", example="0"),
        Column("up_to_kg", scaled(9, 1), "the band ends with this weight", "band.up_to_ug", required=True, unit="kg",
               example="5"),
        Column("fixed", SIGNED_RATE, "price of a shipment", "band.fixed", default="0", unit="currency", example="3.90"),
        Column("minimum", RATE, "least price of a shipment", "band.minimum", default="0", unit="currency",
               example="4.50"),
        Column("per_kg", RATE, "price of a kilogram", "band.per_kg", default="0", unit="currency", example="0.35"),
        currency_column(),
    ),
    BandRow,
    {"band": lambda above_ug=0, **rest: RateBand(above_ug, **rest)},
    section=Section.RATES,
    notes="A weight between two bands, or above the last, has no price; a lane without a price is never used (law 19).",
)  # fmt: skip

LANES: Final = File(
    "lanes",
    "From a node to a zone, or to another node, by a carrier service.",
    ("lane",),
    (
        Column("lane", CODE, "code of the lane", "code", required=True, example="MUC-south"),
        Column("origin", CODE, "node it starts at", "origin", required=True, example="MUC"),
        Column("destination", CODE, "zone it leads to, or node", "destination", required=True, example="de-south"),
        Column("to_node", FLAG, "whether the destination is a node: a transfer", "to_node", default="false"),
        Column("carrier", CODE, "carrier", "carrier", example="dhl"),
        Column("service", CODE, "the carrier's service", "service", example="ground"),
        Column("service_levels", some(CODE),
               "service levels it may serve; where it is empty all whose deadline it meets",
               "service_levels", example="standard express"),
        Column("transit", TRANSIT, "working days in transit and their probability, which add up to 1", "transit",
               default="1", unit="working days", example="2:0.7 3:0.3"),
        Column("calendar", CODE, "the carrier's working days; those of the origin where it is empty", "calendar",
               example="de-weekdays"),
        Column("cut_off", CLOCK, "last moment for the pick-up of the same day, local time of the origin", "cut_off",
               default="24:00", example="17:00"),
        Column("distance_km", integer(0, 50_000), "distance; where it is empty as the crow flies, if both ends have "
               "coordinates", "distance_km", default="0", unit="km", example="35"),
        Column("co2e_g", RATE, "emissions of a shipment", "co2e_g", default="0", unit="g CO2e", example="120"),
        Column("co2e_g_per_kg", RATE, "emissions of a kilogram", "co2e_g_per_kg", default="0", unit="g CO2e",
               example="35.5"),
        Column("carries", some(CODE), "capabilities of items it may carry: hazmat, cold, oversize, ...", "carries",
               example="cold"),
        Column("max_weight_kg", KILOGRAMS, "heaviest shipment; 0 is no limit", "max_weight_ug", default="0", unit="kg",
               example="31.5"),
        Column("max_length_cm", CENTIMETRES, "longest item; 0 is no limit", "max_length_mm", default="0", unit="cm",
               example="120"),
        Column("rates", CODE, "rate card", "rates", required=True, example="parcel-1"),
    ),
    Lane,
    section=Section.LANES,
)  # fmt: skip


def _capacity(values: Values) -> CapacityRow:
    """A slot; a weight limit is written in kg and kept in grams, the others are whole numbers."""
    unit, limit = CapacityUnit(values["unit"]), values["limit"]
    places = 3 if unit is CapacityUnit.WEIGHT else 0
    if limit.places > places:
        raise RowError([Fault("limit", f"has more than {places} decimal places")])
    slot = Slot(
        unit,
        limit.numerator * 10 ** (places - limit.places),
        values.get("since", time.min),
        values.get("until", time.max),
        values.get("weekdays", frozenset(range(7))),
        values.get("only_on"),
    )
    return CapacityRow(values["node"], values.get("slot", 0), slot)


def _capacity_values(row: CapacityRow) -> Values:
    slot = row.slot
    return {
        "node": row.node,
        "slot": row.no,
        "unit": slot.unit,
        "limit": Rate(slot.limit, 3 if slot.unit is CapacityUnit.WEIGHT else 0).reduced(),
        "since": slot.since,
        "until": slot.until,
        "weekdays": slot.weekdays,
        "only_on": slot.only_on,
    }


CAPACITIES: Final = File(
    "capacities",
    "Work a node accepts in a time slot of a day.",
    ("node", "slot"),
    (
        Column("node", CODE, "node", required=True, example="MUC"),
        Column("slot", integer(0, LAST_SLOT), "number of the slot at its node; keep it when hours or limit change",
               default="0"),
        Column("unit", choice(CapacityUnit), "what is counted", required=True, example="orders"),
        Column("limit", RATE, "how much the slot takes", required=True, unit="the slot's unit", example="500"),
        Column("since", CLOCK, "begin, local time", default="00:00", example="09:00"),
        Column("until", CLOCK, "end, local time", default="24:00", example="12:00"),
        Column("weekdays", WEEKDAYS, "days of the week on which it is there", default=EVERY_DAY, example="Mon Tue"),
        Column("only_on", DAY, "the one day it is for; such slots replace those of the weekday", example="2026-11-27"),
    ),
    CapacityRow,
    make=_capacity,
    take=_capacity_values,
    section=Section.CAPACITIES,
    notes="Slots of a node with the same hours hold together; slots with other hours are alternatives, earliest first.",
)  # fmt: skip

BOXES: Final = File(
    "boxes",
    "Sizes of packaging that nodes have, in which shipments are proposed to be packed.",
    ("node", "box"),
    (
        Column("node", CODE, "node that has it; every node without boxes of its own where it is empty", "node",
               example="MUC"),
        Column("box", CODE, "code of the box", "box.code", required=True, example="M"),
        Column("length_cm", INNER_SIDE, "inner length", "box.length_mm", required=True, unit="cm", example="40"),
        Column("width_cm", INNER_SIDE, "inner width", "box.width_mm", required=True, unit="cm", example="30"),
        Column("height_cm", INNER_SIDE, "inner height", "box.height_mm", required=True, unit="cm", example="20"),
        Column("max_weight_kg", scaled(9, 1), "heaviest contents", "box.most_weight_ug", required=True, unit="kg",
               example="15"),
        Column("fill", scaled(6, 1, MILLION), "share of its volume that can be used, up to 1; the rest is gaps",
               "box.fill_ppm", required=True, example="0.8"),
        Column("tare_kg", KILOGRAMS, "weight of the empty box", "box.tare_ug", default="0", unit="kg", example="0.25"),
    ),
    BoxRow,
    {"box": Box},
    section=Section.BOXES,
    notes="How they are filled: docs/cartons.md. A node without any ships one parcel of what may travel together.",
)  # fmt: skip

ITEMS: Final = File(
    "items",
    "What is sold and counted: the variant (SKU).",
    ("item",),
    (
        Column("item", CODE, "code of the item", "item.code", required=True, example="MUG-BLUE"),
        Column("product", CODE, "family it is a variant of", "item.product", example="MUG"),
        Column("name", TEXT, "name", "item.name", example="Mug, blue"),
        Column("unit", CODE, "name of its unit", "item.unit", default="each", example="each"),
        Column("scale", integer(0, 6), "decimal places of its quantities: 3 lets 5.5 kg be 5500", "item.scale",
               default="0"),
        Column("weight_kg", KILOGRAMS, "gross weight of one unit", "item.weight_ug", default="0", unit="kg",
               example="0.35"),
        Column("length_cm", CENTIMETRES, "longest side", "item.length_mm", default="0", unit="cm", example="12"),
        Column("width_cm", CENTIMETRES, "width", "item.width_mm", default="0", unit="cm", example="9"),
        Column("height_cm", CENTIMETRES, "height", "item.height_mm", default="0", unit="cm", example="10"),
        Column("unit_cost", RATE, "what one unit has cost us", "item.unit_cost", unit="currency", example="2.40"),
        currency_column(),
        Column("requires", some(CODE), "capabilities that node and lane must have", "item.requires", example="cold"),
        Column("lead_time_days", integer(0, 3_650), "days until more can be had", "item.lead_time_days", unit="days",
               example="14"),
    ),
    ItemRow,
    {"item": Item},
    section=Section.ITEMS,
)  # fmt: skip

PACKS: Final = File(
    "packs",
    "Packaging levels of an item: cases, layers, pallets.",
    ("item", "pack"),
    (
        Column("item", CODE, "item", "item", required=True, example="MUG-BLUE"),
        Column("pack", CODE, "name of the pack", "pack", required=True, example="case"),
        Column("contains", POSITIVE_RATE, "units in `per` packs", "contains", required=True, unit="the item's unit",
               example="12"),
        Column("per", integer(1, 10**6), "number of packs that hold them; 3 where three packs hold 1 unit", "per",
               default="1"),
    ),
    PackRow,
    section=Section.PACKS,
)  # fmt: skip

BILLS: Final = File(
    "bills",
    "Components of kits, one row for each.",
    ("kit", "item"),
    (
        Column("kit", CODE, "item that is put together", "kit", required=True, example="BREAKFAST"),
        Column("item", CODE, "component", "item", required=True, example="MUG-BLUE"),
        Column("quantity", POSITIVE_RATE, "how much of it one kit needs", "quantity", required=True,
               unit="the component's unit", example="2"),
        Column("across_nodes", FLAG,
               "whether the parts may come from several nodes; true in any row counts for the kit",
               "across_nodes", default="false"),
    ),
    ComponentRow,
    section=Section.BILLS,
)  # fmt: skip

SUBSTITUTIONS: Final = File(
    "substitutions",
    "Which item may replace another: `quantity` of the substitute for `per` of the item.",
    ("item", "substitute"),
    (
        Column("item", CODE, "item that was ordered", "item", required=True, example="MUG-BLUE"),
        Column("substitute", CODE, "item that may be sent", "substitute", required=True, example="MUG-GREEN"),
        Column("quantity", POSITIVE_RATE, "how much of the substitute", "quantity", default="1",
               unit="the substitute's unit"),
        Column("per", integer(1, 10**6), "for how much of the item", "per", default="1", unit="the item's unit"),
        Column("penalty", RATE, "cost of disappointing the customer, per unit ordered", "penalty", default="0",
               unit="currency", example="0.80"),
        currency_column(),
    ),
    SubstitutionRow,
    section=Section.SUBSTITUTIONS,
)  # fmt: skip

CROSS_REFERENCES: Final = File(
    "cross_references",
    "Identifiers of others for our items.",
    ("scheme", "partner", "identifier"),
    (
        Column("scheme", CODE, "gtin (also ean, upc: the check digit is verified), sku, asin, ...", "scheme",
               required=True,
               example="gtin"),
        Column("partner", CODE, "partner whose identifier it is; empty for a global scheme", "partner",
               example="nordlog"),
        Column("identifier", CODE, "the identifier", "identifier", required=True, example="4006381333931"),
        Column("item", CODE, "our item", "item", required=True, example="MUG-BLUE"),
    ),
    lambda partner="", **rest: CrossReference(partner=partner, **rest),
    section=Section.CROSS_REFERENCES,
)  # fmt: skip


def _with_envelope(file: File) -> File:
    return replace(file, columns=file.columns + ENVELOPE)


MASTER_FILES: Final = {
    file.section: _with_envelope(file)
    for file in (
        NETWORK, EXCHANGE_RATES, PARTNERS, CALENDARS, ZONES, NODES, POOLS, RATES, LANES, CAPACITIES, BOXES, ITEMS,
        PACKS, BILLS, SUBSTITUTIONS, CROSS_REFERENCES,
    )
    if file.section
}  # fmt: skip
"""The files of master data by section, in the order in which they are read."""
