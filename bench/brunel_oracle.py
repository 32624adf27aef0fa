"""An independent model of the Brunel supply chain data, straight from the published tables: no line of Poolwise in it.

It prices and checks a given assignment of orders to plants and days, and computes what a solution is measured by: the
cost-only bound, the greedy answer, the network's own decisions, and the optimum for a price of an order-day of delay.

How the tables are read: an order may be served by a plant that makes its product; a plant with a customer list serves
only these; CRF keeps the port of the order and pays no freight; DTD goes by DTD rows, DTP by DTP and DTD rows of any
port of the plant and any carrier; a row holds for weights from 0.0051 kg below its first to 0.0051 kg above its last;
freight is max(minimum, rate x weight), a weight of 0 counts as 0.011 kg; stock is no limit. A plant code without a
cost is no plant. Data: Kalganova and Dzalbs, Supply Chain Logistics Problem Dataset, Brunel University.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import highspy
import numpy as np

CLOSED_BY_KG = Decimal("0.0051")
WEIGHT_OF_NOTHING_KG = Decimal("0.011")
CUSTOMER_REFERS_FREIGHT = "CRF"
SERVED_BY = {"DTD": ("DTD",), "DTP": ("DTP", "DTD")}

Assignment = Mapping[str, tuple[str, int]]
"""Plant and day (0 first) of each order."""


@dataclass(frozen=True, slots=True)
class Order:
    """A row of the order list."""

    id: str
    port: str
    level: str
    customer: str
    product: str
    plant: str
    units: int
    weight_kg: Decimal


@dataclass(frozen=True, slots=True)
class Row:
    """A priced row of the freight rates."""

    port: str
    level: str
    from_kg: Decimal
    to_kg: Decimal
    minimum: Decimal
    rate: Decimal


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an assignment comes to. `cost` is without the price of delay; `days` is how many it takes to ship all."""

    cost: Decimal
    days: int
    day_one_orders: int
    delay_order_days: int
    violations: tuple[str, ...] = ()

    def objective(self, day_price: Decimal) -> Decimal:
        """Cost, and the price of the days of delay."""
        return self.cost + day_price * self.delay_order_days

    def as_json(self) -> dict[str, object]:
        """For people and scripts."""
        shown = {name: getattr(self, name) for name in ("days", "day_one_orders", "delay_order_days")}
        return {"cost": str(self.cost), **shown, "violations": list(self.violations)}


class Published:
    """The tables, and what each order may cost at each plant."""

    def __init__(self, data: Path, scale: Fraction = Fraction(1)) -> None:
        """`scale` multiplies the daily capacities, rounded down, at least 1."""
        self.orders = [_order(row) for row in _table(data, "OrderList")]
        self.unit_cost = {row["Plant_Code"]: Decimal(row["Cost_Per_Unit"]) for row in _table(data, "WhCosts")}
        self.capacity = {
            row["Plant_Code"]: max(1, int(int(row["Daily_Capacity"]) * scale)) for row in _table(data, "WhCapacities")
        }
        self.makers = _grouped(data, "ProductsPerPlant", "Product_ID", "Plant_Code")
        self.customers = _grouped(data, "VmiCustomers", "Plant_Code", "Customer")
        self.ports = _grouped(data, "PlantPorts", "Plant_Code", "Ports")
        self.rows: dict[str, list[Row]] = {}
        for row in (_row(record) for record in _table(data, "FreightRates")):
            self.rows.setdefault(row.port, []).append(row)
        self._freight: dict[tuple[str, str, Decimal], Decimal | None] = {}

    def cost(self, order: Order, plant: str) -> Decimal | None:
        """The least cost of an order from a plant; None when no row prices it. Does not ask who may serve it."""
        ports = self.ports.get(plant, frozenset())
        if order.level == CUSTOMER_REFERS_FREIGHT:
            freight = [Decimal(0)] if order.port in ports else []
        else:
            found = (self._freight_from(port, order.level, order.weight_kg) for port in sorted(ports))
            freight = [price for price in found if price is not None]
        return min(freight) + order.units * self.unit_cost[plant] if freight else None

    def refusal(self, order: Order, plant: str) -> str:
        """Why a plant may not serve an order; '' when it may."""
        if plant not in self.unit_cost:
            return f"{plant} is no plant"
        if plant not in self.makers.get(order.product, frozenset()):
            return f"{plant} does not make {order.product}"
        if plant in self.customers and order.customer not in self.customers[plant]:
            return f"{plant} does not serve {order.customer}"
        return "" if self.cost(order, plant) is not None else f"no {order.level} freight from {plant}"

    def options(self, order: Order) -> dict[str, Decimal]:
        """Every plant that may serve an order, with the cost."""
        plants = [plant for plant in sorted(self.unit_cost) if not self.refusal(order, plant)]
        return {plant: cost for plant in plants if (cost := self.cost(order, plant)) is not None}

    def _freight_from(self, port: str, level: str, weight_kg: Decimal) -> Decimal | None:
        key = (port, level, weight_kg)
        if key not in self._freight:
            weight = weight_kg or WEIGHT_OF_NOTHING_KG
            prices = [
                max(row.minimum, row.rate * weight)
                for row in self.rows.get(port, ())
                if row.level in SERVED_BY[level] and row.from_kg - CLOSED_BY_KG <= weight <= row.to_kg + CLOSED_BY_KG
            ]
            self._freight[key] = min(prices, default=None)
        return self._freight[key]


def _table(data: Path, name: str) -> Iterator[dict[str, str]]:
    with (data / f"{name}.csv").open(encoding="utf-8-sig", newline="") as file:
        for record in csv.DictReader(file):
            yield {column: value.strip() for column, value in record.items()}


def _grouped(data: Path, name: str, by: str, column: str) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for record in _table(data, name):
        found.setdefault(record[by], set()).add(record[column])
    return {key: frozenset(values) for key, values in found.items()}


def _order(record: Mapping[str, str]) -> Order:
    return Order(
        record["Order_ID"],
        record["Orig_Port"],
        record["Service_Level"],
        record["Customer"],
        record["Product_ID"],
        record["Plant_Code"],
        int(record["Unit_Quant"]),
        Decimal(record["Weight"]),
    )


def _row(record: Mapping[str, str]) -> Row:
    weights = (Decimal(record["Min_Weight_Quant"]), Decimal(record["Max_Weight_Quant"]))
    prices = (Decimal(record["Min_Cost"]), Decimal(record["Rate"]))
    return Row(record["Orig_Port"], record["Service_Level"], *weights, *prices)


def judge(published: Published, orders: Sequence[Order], assignment: Assignment) -> Outcome:
    """Price an assignment again and check it against every published constraint: all orders once, lawfully, in time."""
    violations, cost, load = [], Decimal(0), Counter[tuple[str, int]]()
    for order in orders:
        if order.id not in assignment:
            violations.append(f"order {order.id} is not served")
            continue
        plant, day = assignment[order.id]
        load[plant, day] += 1
        refusal = published.refusal(order, plant) or ("" if day >= 0 else f"day {day}")
        price = None if refusal else published.cost(order, plant)
        if price is None:
            violations.append(f"order {order.id}: {refusal}")
        else:
            cost += price
    known = {order.id for order in orders}
    violations += [f"order {number} is not on the list" for number in assignment if number not in known]
    for (plant, day), count in sorted(load.items()):
        if count > published.capacity.get(plant, 0):
            violations.append(f"{plant} ships {count} on day {day}, more than {published.capacity.get(plant, 0)}")
    return _outcome(cost, load, violations)


def _outcome(cost: Decimal, load: Mapping[tuple[str, int], int], violations: Sequence[str] = ()) -> Outcome:
    days = 1 + max((day for _, day in load), default=-1)
    day_one = sum(count for (_, day), count in load.items() if day == 0)
    return Outcome(cost, days, day_one, sum(day * count for (_, day), count in load.items()), tuple(violations))


def in_days(published: Published, plants: Mapping[str, str]) -> Assignment:
    """Days for orders whose plants are known: each plant ships as many as it can, in list order."""
    used: Counter[str] = Counter()
    assignment = {}
    for number, plant in plants.items():
        assignment[number] = (plant, used[plant] // published.capacity[plant])
        used[plant] += 1
    return assignment


def cost_only(published: Published, orders: Sequence[Order]) -> Assignment:
    """Every order at its cheapest plant, whatever the capacity: its cost is a lower bound."""
    cheapest = {}
    for order in orders:
        options = published.options(order)
        cheapest[order.id] = min(options, key=lambda plant: (options[plant], plant))
    return in_days(published, cheapest)


def greedy(published: Published, orders: Sequence[Order]) -> Assignment:
    """In list order the cheapest plant with capacity left today; the rest waits for tomorrow."""
    assignment: dict[str, tuple[str, int]] = {}
    waiting, day = list(orders), 0
    while waiting:
        left, later = dict(published.capacity), []
        for order in waiting:
            options = {plant: cost for plant, cost in published.options(order).items() if left[plant]}
            if options:
                plant = min(options, key=lambda plant: (options[plant], plant))
                assignment[order.id] = (plant, day)
                left[plant] -= 1
            else:
                later.append(order)
        waiting, day = later, day + 1
    return assignment


def history(published: Published, orders: Sequence[Order]) -> Outcome:
    """The network's own decisions, priced at the cheapest row there is for the recorded plant."""
    assignment = in_days(published, {order.id: order.plant for order in orders})
    prices = [published.cost(order, order.plant) for order in orders]
    cost = sum((price for price in prices if price is not None), Decimal(0))
    return _outcome(cost, Counter(assignment.values()))


def optimal(published: Published, orders: Sequence[Order], day_price: Decimal) -> Assignment:
    """Lowest cost plus price of delay. A transport problem, so that its LP has an integral optimum.

    A plant with n orders delays each beyond its daily capacity K by a day, beyond 2 K by two: a convex cost, as many
    arcs of K orders per plant as days could be needed.
    """
    options = [published.options(order) for order in orders]
    plants = sorted({plant for found in options for plant in found})
    most = Counter(plant for found in options for plant in found)
    arcs = [(number, plant) for number, found in enumerate(options) for plant in found]
    stages = [(plant, day) for plant in plants for day in range(-(-most[plant] // published.capacity[plant]))]
    costs = [float(options[number][plant]) for number, plant in arcs]
    costs += [float(day_price * day) for _, day in stages]
    upper = [1.0] * len(arcs) + [float(published.capacity[plant]) for plant, _ in stages]
    row_of = {plant: len(orders) + place for place, plant in enumerate(plants)}
    entries = [[(number, 1.0), (row_of[plant], 1.0)] for number, plant in arcs]
    entries += [[(row_of[plant], -1.0)] for plant, _ in stages]
    demand = [1.0] * len(orders) + [0.0] * len(plants)
    values = _solve(costs, upper, entries, demand)
    chosen = {orders[number].id: plant for (number, plant), x in zip(arcs, values, strict=False) if x > 0.5}
    assert len(chosen) == len(orders), "the optimum is not integral"
    return in_days(published, chosen)


class _Silent(highspy.Highs):
    """Says nothing on the standard output, which is for figures: not even its banner, sent as callbacks are enabled."""

    def enableCallbacks(self) -> None:  # noqa: N802
        self.setOptionValue("output_flag", False)


def _solve(
    costs: list[float], upper: list[float], entries: list[list[tuple[int, float]]], demand: list[float]
) -> list[float]:
    """Minimise costs over 0 <= x <= upper where every row of the matrix, given by columns, equals its demand."""
    problem = highspy.HighsLp()
    problem.num_col_, problem.num_row_ = len(costs), len(demand)
    problem.col_cost_, problem.col_lower_ = np.array(costs), np.zeros(len(costs))
    problem.col_upper_ = np.array(upper)
    problem.row_lower_ = problem.row_upper_ = np.array(demand)
    matrix = problem.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kColwise
    matrix.start_ = np.cumsum([0, *(len(column) for column in entries)])
    matrix.index_ = np.array([row for column in entries for row, _ in column])
    matrix.value_ = np.array([value for column in entries for _, value in column])
    solver = _Silent()  # type: ignore[no-untyped-call]  # highspy types only part of itself
    solver.setOptionValue("solver", "simplex")
    solver.setOptionValue("threads", 1)
    solver.passModel(problem)
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return list(solver.getSolution().col_value)


def subset(orders: Sequence[Order], count: int | None, seed: int) -> list[Order]:
    """So many of the orders, drawn by a seed, in the sequence of the list; all of them for None."""
    if count is None:
        return list(orders)
    return [orders[place] for place in sorted(random.Random(seed).sample(range(len(orders)), count))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the network is asked to plan: data, day price, capacities, and a subset of the orders."""
    parser.add_argument("--data", type=Path, required=True, help="folder with the published CSV files")
    parser.add_argument("--day-price", type=Decimal, default=Decimal(2), help="price of an order-day of delay")
    parser.add_argument(
        "--capacity", type=Fraction, default=Fraction(1), help="multiplies the daily capacities, such as 1/2 or 2"
    )
    parser.add_argument("--orders", type=int, help="only so many orders, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1, help="draws the orders, where not all are planned")


def main() -> None:
    """Print the reference figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    asked = parser.parse_args()
    published = Published(asked.data, asked.capacity)
    orders = subset(published.orders, asked.orders, asked.seed)
    found = {
        "history": history(published, orders),
        "cost_only": judge(published, orders, cost_only(published, orders)),
        "greedy": judge(published, orders, greedy(published, orders)),
        "optimal": judge(published, orders, optimal(published, orders, asked.day_price)),
    }
    print(json.dumps({name: outcome.as_json() for name, outcome in found.items()}, indent=2))


if __name__ == "__main__":
    main()
