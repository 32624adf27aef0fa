"""Scenarios 8, 9 and 10: splits against penalties, shipments that must be worth it, mark-downs and scarce stock."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.scenarios.stage import Stage, csv, held, network, stock

POUND_KG = Decimal("0.45359237")


def parts(cost: Any) -> dict[str, Decimal]:
    """What a plan costs, by kind."""
    found: dict[str, Decimal] = {}
    for part in cost:
        found[part["kind"]] = found.get(part["kind"], Decimal(0)) + Decimal(part["amount"])
    return found


@pytest.mark.parametrize(
    ("whole", "first", "second", "penalty", "splits"),
    [
        ("22.56", "8.34", "7.57", "0", True),
        ("22.56", "8.34", "7.57", "6.64", True),
        ("22.56", "8.34", "7.57", "7", False),
        ("30.10", "9.05", "12.95", "8.09", True),
        ("30.10", "9.05", "12.95", "8.11", False),
    ],
)
def test_an_order_is_split_where_that_saves_more_than_its_penalty(
    stage: Stage, whole: str, first: str, second: str, penalty: str, splits: bool
) -> None:
    """8 pounds from one node, or 4.8 and 3.2 from two; rates are by weight, so that a part is not the whole."""
    files = network({"W": whole, "X": first, "Y": second}, ["A", "B"], split_cost=f"'{penalty}'")
    files["items.csv"] = csv(
        [{"item": "A", "weight_kg": POUND_KG * 48 / 10}, {"item": "B", "weight_kg": POUND_KG * 32 / 10}]
    )
    stage.bring({**files, "stock.csv": stock(("A", "W", 9), ("B", "W", 9), ("A", "X", 9), ("B", "Y", 9))})

    order = stage.order([{"item": "A", "quantity": "1"}, {"item": "B", "quantity": "1"}])
    why = stage.why(order)

    split, together = Decimal(first) + Decimal(second) + Decimal(penalty), Decimal(whole)
    assert set(held(order)) == ({("A", "X"), ("B", "Y")} if splits else {("A", "W"), ("B", "W")})
    assert Decimal(why["plan"]["cost"]) == (split if splits else together)
    assert sum(Decimal(shipment["weight_kg"]) for shipment in order["shipments"]) == 8 * POUND_KG
    rival = next(rival for rival in why["rivals"] if rival["shipments"] == (1 if splits else 2))
    assert (set(rival["nodes"]), Decimal(rival["cost"])) == (({"W"}, together) if splits else ({"X", "Y"}, split))
    assert sum(parts(rival["costs"]).values()) == Decimal(rival["cost"])
    assert parts(rival["costs"]).get("split", 0) == (0 if splits else Decimal(penalty))
    stage.prove()


@pytest.mark.parametrize(
    ("values", "least", "splits"),
    [((80, 40), 50, False), ((65, 55), 50, True), ((50, 70), 50, True), ((79, 41), 41, True), ((79, 41), 42, False)],
)
def test_a_split_needs_the_value_on_both_sides(stage: Stage, values: tuple[int, int], least: int, splits: bool) -> None:
    """One node has the first line, another the second; a far one has both and is the next choice."""
    files = network({"N": 3, "M": 4, "FAR": 30}, ["A", "B"], min_shipment_value=least)
    stage.bring({**files, "stock.csv": stock(("A", "N", 1), ("B", "M", 1), ("A", "FAR", 1), ("B", "FAR", 1))})

    prices = dict(zip("AB", map(str, values), strict=True))
    lines = [{"item": item, "quantity": "1", "unit_price": price} for item, price in prices.items()]
    order = stage.order(lines)
    why = stage.why(order)

    assert set(held(order)) == ({("A", "N"), ("B", "M")} if splits else {("A", "FAR"), ("B", "FAR")})
    verdicts = {(c["node"], c["item"]): c["reason"] for c in why["candidates"] if not int(c["taken"])}
    if splits:
        assert verdicts == {("FAR", "A"): None, ("FAR", "B"): None}
    else:
        assert verdicts == {("N", "A"): "value_threshold", ("M", "B"): "value_threshold"}
    stage.prove()


@pytest.mark.parametrize(("here", "quantity", "splits"), [(2, 3, False), (65, 120, True), (1, 2, True)])
def test_what_waits_is_a_part_too(stage: Stage, here: int, quantity: int, splits: bool) -> None:
    """The order is worth 120; what is not there would wait, and is worth too little for that or enough."""
    price = 120 // quantity
    files = network({"N": 3}, min_shipment_value=50)
    stage.bring({**files, "stock.csv": stock(("A", "N", here))})

    order = stage.order([{"item": "A", "quantity": str(quantity), "unit_price": str(price)}])
    why = stage.why(order)

    assert held(order) == ({("A", "N"): here} if splits else {})
    assert order["lines"][0]["backordered"] == str(quantity - here if splits else quantity)
    reason = why["plan"]["unserved"][0]["reason"]
    assert reason == ("inventory" if splits else "value_threshold")
    stage.prove()


@pytest.mark.parametrize(
    ("near", "far", "credit", "weight", "chosen"),
    [
        ("7.05", "15.77", "-50.00", 1, "FAR"),
        ("7.05", "15.77", "-50.00", 0, "NEAR"),
        ("7.05", "15.77", "-8.71", 1, "NEAR"),
        ("7.05", "15.77", "-8.73", 1, "FAR"),
        ("7.05", "15.77", "-17.46", "'0.5'", "FAR"),
        ("7.05", "15.77", "-17.42", "'0.5'", "NEAR"),
    ],
)
def test_a_mark_down_is_worth_the_way_by_its_weight(
    stage: Stage, near: str, far: str, credit: str, weight: object, chosen: str
) -> None:
    files = network({"NEAR": near, "FAR": far}, weights=f"{{pool: {weight}}}")
    files["pools.csv"] = f"pool,cost_per_unit\nP,0\nMARKDOWN,{credit}\n"
    lanes = [
        {"lane": f"{node}-Z", "origin": node, "destination": "Z", "rates": node, "distance_km": km}
        for node, km in (("NEAR", 356), ("FAR", 1434))
    ]
    files["lanes.csv"] = csv(lanes)
    stage.bring({**files, "stock.csv": [*stock(("A", "NEAR", 5)), *stock(("A", "FAR", 5), pool="MARKDOWN")]})

    order = stage.order([{"item": "A", "quantity": "1"}])
    why = stage.why(order)

    assert held(order) == {("A", chosen): 1}
    factor = Decimal(str(weight).strip("'"))
    total = Decimal(near) if chosen == "NEAR" else Decimal(far) + factor * Decimal(credit)
    assert Decimal(why["plan"]["cost"]) == total
    costs = {candidate["node"]: Decimal(candidate["cost"]) for candidate in why["candidates"]}
    assert costs == {"NEAR": Decimal(near), "FAR": Decimal(far) + factor * Decimal(credit)}
    stage.prove()


@pytest.mark.parametrize(
    ("left", "target", "penalty", "weight", "chosen"),
    [(2, 10, "5", 1, "FULL"), (2, 10, "5", 0, "SCARCE"), (9, 10, "5", 1, "SCARCE"), (10, 10, "50", 1, "SCARCE")],
)
def test_the_last_units_of_a_node_are_spared_by_the_weight_of_stock_out_avoidance(
    stage: Stage, left: int, target: int, penalty: str, weight: int, chosen: str
) -> None:
    """FULL is 2 dearer; a unit of SCARCE costs `penalty` x what is missing to the target, as a share of it."""
    terms = {"stockout_target": target, "stockout_cost_per_unit": f"'{penalty}'"}
    files = network({"SCARCE": 5, "FULL": 7}, weights=f"{{stockout_avoidance: {weight}}}", **terms)
    stage.bring({**files, "stock.csv": stock(("A", "SCARCE", left), ("A", "FULL", 900))})

    order = stage.order([{"item": "A", "quantity": "1"}])
    why = stage.why(order)

    assert held(order) == {("A", chosen): 1}
    costs = {candidate["node"]: Decimal(candidate["cost"]) for candidate in why["candidates"]}
    spared = weight * Decimal(penalty) * max(0, target - left) / target
    assert costs == {"SCARCE": 5 + spared, "FULL": Decimal(7)}
