"""Converts the Brunel supply chain data into a network directory, with general mechanisms only.

Plants become nodes: their unit cost is handling per unit, their daily capacity a slot counted in orders, their list of
customers an allow-list. A row group of the freight rates becomes a rate card, and a lane from every plant at that port.
Zones are where the goods change hands: the one destination port for freight that we pay, and for orders whose customer
refers the freight (CRF) the port at which they are collected, reached by a lane that costs nothing. Weights are those
that the order lines declare. Stock covers the demand a plant may serve, so that only capacity limits it.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path

from poolwise.core.values import replace

START = date(2013, 5, 26)
"""The day of the order list, and the first day on which a plant ships."""

COUNTED_AT = "2013-05-25T00:00:00Z"
RECEIVED_AT = "2013-05-26T00:00:00Z"
HORIZON_DAYS = 90
CLOSED_BY_KG = Decimal("0.0051")
MICROGRAM_KG = Decimal("0.000000001")
WEIGHT_OF_NOTHING_KG = "0.011"
HEAVIEST_KG = "1000000"
REFERRED = "CRF"
LEVELS_OF_A_ROW = {"DTD": "DTD DTP", "DTP": "DTP"}
"""Service levels that a freight row may serve: door to door may serve door to port, not the reverse."""

Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Band:
    """A freight row: max(minimum, rate x weight) for weights above one and up to another, in kg."""

    above: Decimal
    up_to: Decimal
    minimum: Decimal
    rate: Decimal

    def price(self, weight: Decimal) -> Decimal:
        """What a shipment of that weight costs."""
        return max(self.minimum, self.rate * weight)


@dataclass(frozen=True, slots=True)
class Tariff:
    """Freight rows of one carrier from one port at one level and transit time that do not overlap."""

    code: str
    port: str
    carrier: str
    level: str
    days: int
    mode: str
    bands: tuple[Band, ...]


def write_directory(
    data: Path,
    directory: Path,
    *,
    day_price: Decimal = Decimal(2),
    scale: Fraction = Fraction(1),
    chosen: Collection[str] | None = None,
) -> None:
    """Write the network directory of the published tables in `data`.

    `day_price` is the price of an order-day of delay, `scale` multiplies the daily capacities (rounded down, at least
    1), and of the orders only the `chosen` are taken, by their ids. The horizon grows as capacities shrink.
    """
    directory.mkdir(parents=True, exist_ok=True)
    plants = {row["Plant_Code"]: row["Cost_Per_Unit"] for row in _table(data, "WhCosts")}
    customers = _grouped(data, "VmiCustomers", "Plant_Code", "Customer")
    ports = _grouped(data, "PlantPorts", "Plant_Code", "Ports")
    orders = [row for row in _table(data, "OrderList") if chosen is None or row["Order_ID"] in chosen]
    destinations = sorted({row["Dest_Port"] for row in _table(data, "OrderList")})
    found = tariffs(_table(data, "FreightRates"))
    _write(directory, "network", [{"currency": "USD", "name": "Microchip maker"}])
    _write(directory, "zones", [{"zone": zone} for zone in [*destinations, *_collections(ports)]])
    _write(directory, "nodes", _nodes(plants, customers))
    _write(directory, "pools", [{"pool": "stock"}])
    _write(directory, "rates", _rates(found))
    _write(directory, "lanes", _lanes(ports, found, destinations))
    _write(directory, "capacities", _capacities(data, scale))
    products = sorted({row["Product_ID"] for row in _table(data, "ProductsPerPlant")})
    _write(directory, "items", [{"item": product} for product in products])
    _write(directory, "stock", _stock(data, plants, customers, orders))
    _write(directory, "orders", _orders(orders))
    policy = POLICY.format(day_price=day_price, horizon_days=max(HORIZON_DAYS, ceil(HORIZON_DAYS / scale)))
    (directory / "policy.yaml").write_text(policy, encoding="utf-8")


POLICY = """\
code: sourcing
name: Lowest landed cost, with a price on delay
service_levels:
  CRF: {{plan: next_wave}}
  DTD: {{plan: next_wave}}
  DTP: {{plan: next_wave}}
line_split: never
substitution: never
on_hand_only: true
horizon_days: {horizon_days}
delay_cost_per_day: {day_price}
backorder_cost_per_line: 100000
backorder_cost_per_unit: 1000
"""


def _nodes(plants: Mapping[str, str], customers: Mapping[str, Sequence[str]]) -> Iterator[Record]:
    for plant, unit_cost in sorted(plants.items()):
        yield {
            "node": plant,
            "echelon": "supplier",
            "kind": "plant",
            "customers": " ".join(customers.get(plant, ())),
            "cost_per_unit": unit_cost,
        }


def _collections(ports: Mapping[str, Sequence[str]]) -> list[str]:
    """Zones of customers who collect at a port."""
    return sorted({f"AT-{port}" for some in ports.values() for port in some})


def _capacities(data: Path, scale: Fraction) -> Iterator[Record]:
    for row in _table(data, "WhCapacities"):
        limit = max(1, int(int(row["Daily_Capacity"]) * scale))
        yield {"node": row["Plant_Code"], "slot": 0, "unit": "orders", "limit": limit}


def tariffs(rows: Iterable[Mapping[str, str]]) -> list[Tariff]:
    """The freight rows as tariffs: those of one kind that overlap are competing offers, and become several."""
    kinds: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        names = ("Orig_Port", "Carrier", "Service_Level", "TPT_Day_Count", "Mode_DSC", "Carrier_Type")
        kinds.setdefault(tuple(row[name] for name in names), []).append(row)
    found: list[Tariff] = []
    for (port, carrier, level, days, mode, _), some in sorted(kinds.items()):
        bands = sorted((_band(row) for row in some), key=lambda band: (band.above, band.up_to, band.rate, band.minimum))
        for offer in _offers(bands):
            number = sum(1 for other in found if (other.port, other.carrier) == (port, carrier)) + 1
            code = f"{port}-{carrier}-{number}"
            found.append(Tariff(code, port, carrier, level, int(days), mode, _without_overlap(offer)))
    return found


def _band(row: Mapping[str, str]) -> Band:
    """A freight row, closed at both ends. A band excludes the weight it is above, so a microgram is taken off."""
    above = max(Decimal(0), Decimal(row["Min_Weight_Quant"]) - CLOSED_BY_KG - MICROGRAM_KG)
    up_to = Decimal(row["Max_Weight_Quant"]) + CLOSED_BY_KG
    return Band(above, up_to, Decimal(row["Min_Cost"]), Decimal(row["Rate"]))


def _offers(bands: Sequence[Band]) -> list[list[Band]]:
    """Bands in as few rows as possible that overlap by no more than what closes them."""
    offers: list[list[Band]] = []
    for band in bands:
        free = next((offer for offer in offers if offer[-1].up_to - band.above < 2 * CLOSED_BY_KG), None)
        if free is None:
            offers.append([band])
        else:
            free.append(band)
    return offers


def _without_overlap(bands: Sequence[Band]) -> tuple[Band, ...]:
    """Where two bands meet in the weights that close them, the cheaper one has these."""
    cleared = list(bands[:1])
    for band in bands[1:]:
        before, begins = cleared[-1], band.above
        if before.up_to > band.above:
            is_cheaper = [band.price(weight) <= before.price(weight) for weight in (band.above, before.up_to)]
            assert is_cheaper[0] == is_cheaper[1], f"{before} and {band} cross where they meet"
            begins = band.above if is_cheaper[0] else before.up_to
            cleared[-1] = replace(before, up_to=min(before.up_to, begins))
        cleared.append(replace(band, above=begins))
    return tuple(cleared)


def _rates(found: Sequence[Tariff]) -> Iterator[Record]:
    yield {"rates": "referred", "above_kg": 0, "up_to_kg": HEAVIEST_KG}
    for tariff in found:
        for band in tariff.bands:
            yield {
                "rates": tariff.code,
                "above_kg": band.above,
                "up_to_kg": band.up_to,
                "minimum": band.minimum,
                "per_kg": band.rate,
            }


def _lanes(
    ports: Mapping[str, Sequence[str]], found: Sequence[Tariff], destinations: Sequence[str]
) -> Iterator[Record]:
    for plant, port in ((plant, port) for plant, some in sorted(ports.items()) for port in some):
        lane = {"lane": f"{plant}-{port}-{REFERRED}", "origin": plant, "service_levels": REFERRED, "transit": 0}
        yield {**lane, "destination": f"AT-{port}", "rates": "referred"}
        for tariff in found:
            for destination in destinations if tariff.port == port else ():
                yield {
                    "lane": f"{plant}-{tariff.code}",
                    "origin": plant,
                    "destination": destination,
                    "carrier": tariff.carrier,
                    "service": f"{tariff.level}-{tariff.mode}",
                    "service_levels": LEVELS_OF_A_ROW[tariff.level],
                    "transit": tariff.days,
                    "rates": tariff.code,
                }


def _stock(
    data: Path, plants: Mapping[str, str], customers: Mapping[str, Sequence[str]], orders: Iterable[Mapping[str, str]]
) -> Iterator[Record]:
    """For each plant and product all that the orders it may serve ask for. A plant code without a cost is no plant."""
    asked: dict[tuple[str, str], int] = {}
    for order in orders:
        key = (order["Product_ID"], order["Customer"])
        asked[key] = asked.get(key, 0) + int(order["Unit_Quant"])
    for row in _table(data, "ProductsPerPlant"):
        plant, product = row["Plant_Code"], row["Product_ID"]
        served = [
            quantity
            for (item, customer), quantity in asked.items()
            if item == product and (plant not in customers or customer in customers[plant])
        ]
        if served and plant in plants:
            stock = {"item": product, "node": plant, "pool": "stock", "quantity": sum(served)}
            yield {**stock, "as_of": COUNTED_AT}


def _orders(orders: Iterable[Mapping[str, str]]) -> Iterator[Record]:
    for row in orders:
        referred = row["Service_Level"] == REFERRED
        yield {
            "order": row["Order_ID"],
            "channel": "b2b",
            "zone": f"AT-{row['Orig_Port']}" if referred else row["Dest_Port"],
            "service_level": row["Service_Level"],
            "customer": row["Customer"],
            "received_at": RECEIVED_AT,
            "item": row["Product_ID"],
            "quantity": row["Unit_Quant"],
            "weight_kg": row["Weight"] if Decimal(row["Weight"]) else WEIGHT_OF_NOTHING_KG,
        }


def _table(data: Path, name: str) -> Iterator[dict[str, str]]:
    with (data / f"{name}.csv").open(encoding="utf-8-sig", newline="") as file:
        for record in csv.DictReader(file):
            yield {column: value.strip() for column, value in record.items()}


def _grouped(data: Path, name: str, by: str, column: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for record in _table(data, name):
        if record[column] not in found.setdefault(record[by], []):
            found[record[by]].append(record[column])
    return found


def _write(directory: Path, name: str, records: Iterable[Record]) -> None:
    rows = list(records)
    with (directory / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(column for row in rows for column in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Convert the published tables into a network directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the published CSV files")
    parser.add_argument("--day-price", type=Decimal, default=Decimal(2), help="price of an order-day of delay")
    parser.add_argument("--capacity", type=Fraction, default=Fraction(1), help="multiplies the daily capacities")
    parser.add_argument("directory", type=Path, help="where to write the network directory")
    asked = parser.parse_args()
    write_directory(asked.data, asked.directory, day_price=asked.day_price, scale=asked.capacity)


if __name__ == "__main__":
    main()
