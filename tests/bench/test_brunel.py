"""The oracle finds the optimum of small tables like the published ones, and the network directory says the same."""

from __future__ import annotations

import csv
import itertools
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest

from bench.brunel import NOW, chosen, run
from bench.brunel_network import write_directory
from bench.brunel_oracle import Assignment, Published, cost_only, greedy, judge, optimal, subset
from poolwise.connect.directory.loading import load_directory
from poolwise.core.values import parse_scaled
from poolwise.run.bootstrap import prepare
from poolwise.store import postgres
from tests.conftest import Database

FREIGHT_COLUMNS = (
    "Carrier,Orig_Port,Min_Weight_Quant,Max_Weight_Quant,Service_Level,"
    "Min_Cost,Rate,Mode_DSC,TPT_Day_Count,Carrier_Type"
)
TABLES = {
    "OrderList": """Order_ID,Orig_Port,Service_Level,Customer,Product_ID,Plant_Code,Dest_Port,Unit_Quant,Weight
        1,P1,CRF,ann,10,A,P9,5,1
        2,P1,DTD,ann,10,A,P9,5,2.00
        3,P1,DTP,bob,10,A,P9,7,10.505
        4,P2,DTP,bob,10,B,P9,3,0
        5,P2,DTD,ann,20,B,P9,100,3
        6,P1,DTD,ann,20,A,P9,4,0.3""",
    "FreightRates": FREIGHT_COLUMNS
    + """
        X,P1,0.01,10.5,DTD,2,0.5,AIR   ,2,t
        X,P1,10.51,99.99,DTD,3,0.4,AIR   ,2,t
        X,P1,0.01,10.5,DTD,1.5,0.9,AIR   ,2,t
        X,P1,0.01,50,DTP,1,0.2,AIR   ,2,t
        Y,P2,0,50,DTD,0.7,1.1,GROUND,1,t""",
    "WhCosts": "Plant_Code,Cost_Per_Unit\nA,0.25\nB,0.3333333333333333\nC,0.1",
    "WhCapacities": "Plant_Code,Daily_Capacity\nA,2\nB,1\nC,1",
    "ProductsPerPlant": "Plant_Code,Product_ID\nA,10\nB,10\nC,10\nA,20\nB,20\nCND9,10",
    "VmiCustomers": "Plant_Code,Customer\nC,bob",
    "PlantPorts": "Plant_Code,Ports\nA,P1\nB,P2\nB,P1\nC,P2",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, text in TABLES.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(line.strip() for line in text.splitlines()))
    return tmp_path


def test_who_may_serve_an_order_and_for_how_much(data: Path) -> None:
    published = Published(data)
    third = Decimal("0.3333333333333333")
    # 1 keeps its port and pays no freight; only A and B have that port; C serves nobody but bob.
    assert published.options(published.orders[0]) == {"A": Decimal("1.25"), "B": 5 * third}
    # 2 by DTD rows: the dearer rate has the lower price of 2 kg, 1.80 against a minimum of 2; B also has port P2.
    assert published.options(published.orders[1]) == {"A": Decimal("3.05"), "B": 5 * third + Decimal("1.8")}
    # 3 lies between two bands, which are closed; DTP may go by DTD rows, and here by its own, 2.101.
    assert published.options(published.orders[2]) == {
        "A": Decimal("1.75") + Decimal("2.101"),
        "B": 7 * third + Decimal("2.101"),
        "C": Decimal("0.7") + Decimal("11.5555"),
    }
    # 4 weighs nothing, which counts as 0.011 kg.
    assert published.options(published.orders[3])["C"] == Decimal("0.3") + Decimal("0.7")


@pytest.mark.parametrize("day_price", ["0", "0.1", "2", "50"])
def test_the_optimum_is_that_of_trying_all(data: Path, day_price: str) -> None:
    published, price = Published(data), Decimal(day_price)
    every = []
    for plants in itertools.product(*(published.options(order) for order in published.orders)):
        costs = [published.options(order)[plant] for order, plant in zip(published.orders, plants, strict=True)]
        earlier = [plants[:place].count(plant) for place, plant in enumerate(plants)]
        days = sum(count // published.capacity[plant] for count, plant in zip(earlier, plants, strict=True))
        every.append(sum(costs) + price * days)
    found = judge(published, published.orders, optimal(published, published.orders, price))
    assert found.violations == ()
    assert found.cost + price * found.delay_order_days == min(every)


def test_greedy_and_cost_only_are_lawful_and_bound_the_cost(data: Path) -> None:
    published = Published(data)
    least = judge(published, published.orders, cost_only(published, published.orders))
    dear = judge(published, published.orders, greedy(published, published.orders))
    assert least.violations == dear.violations == ()
    assert least.cost <= dear.cost


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"1": ("C", 0)}, "C does not serve ann"),
        ({"1": ("CND9", 0)}, "CND9 is no plant"),
        ({"5": ("C", 0)}, "C does not make 20"),
        ({"1": ("A", 9), "2": ("A", 9), "3": ("A", 9)}, "A ships 3 on day 9, more than 2"),
        ({"1": ("A", -1)}, "day -1"),
        ({"7": ("A", 0)}, "order 7 is not on the list"),
    ],
)
def test_a_planted_violation_is_found(data: Path, change: Assignment, why: str) -> None:
    published = Published(data)
    lawful = optimal(published, published.orders, Decimal(2))
    assert any(why in found for found in judge(published, published.orders, {**lawful, **change}).violations)
    missing = {number: served for number, served in lawful.items() if number != "1"}
    assert judge(published, published.orders, missing).violations == ("order 1 is not served",)


def test_the_network_directory_loads_and_has_the_same_prices(data: Path, tmp_path: Path) -> None:
    directory = tmp_path / "network"
    write_directory(data, directory)
    loaded = load_directory(directory)
    assert loaded.rejects == []
    network, published = loaded.edition.network, Published(data)
    with (directory / "orders.csv").open() as file:
        rows = {row["order"]: row for row in csv.DictReader(file)}
    for order in published.orders:
        weight_ug = parse_scaled(rows[order.id]["weight_kg"], 9)
        found: dict[str, int] = {}
        for lane in network.lanes.values():
            node, band = network.nodes[lane.origin], network.rates[lane.rates].band(weight_ug)
            is_served = order.product in ("10", "20") and node.code in published.makers[order.product]
            if not is_served or band is None or lane.destination != rows[order.id]["zone"]:
                continue
            if order.level in lane.service_levels and (not node.customers or order.customer in node.customers):
                cost = band.price(weight_ug) + node.costs.per_unit.times(order.units)
                found[node.code] = min(cost, found.get(node.code, cost))
        expected = {plant: round(cost * 1_000_000) for plant, cost in published.options(order).items()}
        assert found == expected


def write_tables(folder: Path, seed: int) -> None:
    """Tables of the published shape, drawn by a seed: plants with scarce capacity, bands, allow-lists, three levels."""
    random = Random(seed)
    plants, ports, products = [f"A{n}" for n in range(5)], ["P1", "P2", "P3"], [f"{n}0" for n in range(1, 6)]
    levels = ["CRF", "DTD", "DTP"]
    plant_ports = {(plant, ports[n % 3]) for n, plant in enumerate(plants)} | {("A0", port) for port in ports}
    tables: dict[str, tuple[str, list[tuple[object, ...]]]] = {
        "OrderList": (
            "Order_ID,Orig_Port,Service_Level,Customer,Product_ID,Plant_Code,Dest_Port,Unit_Quant,Weight",
            [
                (
                    n, random.choice(ports), random.choice(levels), random.choice(["ann", "bob", "eve"]),
                    random.choice(products), "A0", "P9", random.randint(1, 900), random.randint(0, 9_000) / 100,
                )
                for n in range(1, 91)
            ],
        ),
        "FreightRates": (
            FREIGHT_COLUMNS,
            [
                (
                    carrier, port, low, high, level, random.randint(100, 900) / 100, random.randint(1, 900) / 1000,
                    "AIR", random.randint(1, 4), "t",
                )
                for carrier in ("X", "Y")
                for port in ports
                for level in ("DTD", "DTP")
                for low, high in ((0, 4.99), (5, 49.99), (50, 99.99))
            ],
        ),
        "WhCosts": ("Plant_Code,Cost_Per_Unit", [(plant, random.randint(1, 99) / 100) for plant in plants]),
        "WhCapacities": ("Plant_Code,Daily_Capacity", [(plant, random.randint(3, 9)) for plant in plants]),
        "ProductsPerPlant": (
            "Plant_Code,Product_ID",
            [(plant, product) for plant in plants for product in products if plant == "A0" or random.random() < 0.5],
        ),
        "VmiCustomers": ("Plant_Code,Customer", [("A1", "bob"), ("A3", "ann")]),
        "PlantPorts": ("Plant_Code,Ports", sorted(plant_ports)),
    }  # fmt: skip
    for name, (columns, rows) in tables.items():
        lines = [columns, *(",".join(str(value) for value in row) for row in rows)]
        (folder / f"{name}.csv").write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("seed", "day_price", "capacity", "count"),
    [
        (1, "2", "1", None),
        (2, "0", "1", None),
        (3, "0.5", "1/2", None),
        (4, "20", "2", 60),
        (5, "2", "1/3", 40),
        (6, "0.07", "3/2", 75),
    ],
)
def test_a_wave_plans_such_a_network_as_the_oracle_does(
    empty_database: Database, tmp_path: Path, seed: int, day_price: str, capacity: str, count: int | None
) -> None:
    write_tables(tmp_path, seed)
    price, scale = Decimal(day_price), Fraction(capacity)
    published = Published(tmp_path, scale)
    orders = subset(published.orders, count, seed)
    directory = tmp_path / "network"
    write_directory(tmp_path, directory, day_price=price, scale=scale, chosen={order.id for order in orders})
    prepare(empty_database.owner_url, NOW)
    with postgres.connect(empty_database.url, connections=2) as pool:
        timed = run(directory, pool)
        outcome = judge(published, orders, chosen(pool))
    best = judge(published, orders, optimal(published, orders, price))
    assert (outcome.violations, timed.rejected, timed.gap_ppm) == ((), 0, 0)
    assert abs(outcome.objective(price) - best.objective(price)) < Decimal("0.001")
