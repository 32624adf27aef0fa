"""Scenarios 11, 14 and 15: orders planned together, substitutes in their packs, kits from parts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.scenarios.stage import Row, Stage, csv, held, network, stock

BOOK = [[2, 5, 6], [7, 19, 20], [8, 15, 18]]


def matrix(costs: list[list[int]], policy: str) -> dict[str, Any]:
    """Orders to zones Z0, Z1, ... from nodes N0, N1, ..., of which each has one unit."""
    places = [(zone, node) for zone in range(len(costs)) for node in range(len(costs[0]))]
    rates = [{"rates": f"R{z}{n}", "up_to_kg": 100, "fixed": costs[z][n]} for z, n in places]
    lanes = [{"lane": f"L{z}{n}", "origin": f"N{n}", "destination": f"Z{z}", "rates": f"R{z}{n}"} for z, n in places]
    files = network({f"N{n}": 0 for n in range(len(costs[0]))})
    return {
        **files,
        "zones.csv": csv([{"zone": f"Z{z}", "country": "US"} for z in range(len(costs))]),
        "rates.csv": csv(rates),
        "lanes.csv": csv(lanes),
        "policy.yaml": policy,
        "stock.csv": stock(*[("A", f"N{n}", 1) for n in range(len(costs[0]))]),
    }


@pytest.mark.parametrize("by_file", [False, True])
@pytest.mark.parametrize(
    ("costs", "one_by_one", "as_a_wave"), [(BOOK, 39, 28), ([[1, 2], [2, 100]], 101, 4), ([[4, 9], [3, 1]], 5, 5)]
)
def test_a_wave_is_cheaper_than_one_order_after_the_other(
    stage: Stage, costs: list[list[int]], one_by_one: int, as_a_wave: int, by_file: bool
) -> None:
    levels = "{now: {}, later: {plan: next_wave}}"
    stage.bring(matrix(costs, f"code: default\nservice_levels: {levels}\n"))
    total = {}
    for level in ("now", "later"):
        shared = {"channel": "web", "service_level": level, "item": "A", "quantity": 1}
        rows = [{"order": f"{level}-{z}", "zone": f"Z{z}", **shared} for z in range(len(costs))]
        if by_file:
            stage.bring({"orders.csv": csv(rows)})
        else:
            for row in rows:
                sent = {"number": row["order"], "channel": "web", "zone": row["zone"], "service_level": level}
                stage.post("/v1/orders", {**sent, "lines": [{"item": "A", "quantity": "1"}]})
                stage.pass_time(seconds=1)
        stage.pass_time(hours=1)
        stage.work()
        plans = [stage.why(stage.get(f"/v1/orders/{row['order']}")) for row in rows]
        assert all(not plan["plan"]["unserved"] for plan in plans)
        total[level] = sum(Decimal(plan["plan"]["cost"]) for plan in plans)
        assert all((plan["wave"] is not None) == (level == "later") for plan in plans)
        # The units come back for the second half.
        counts = [{**row, "sequence": 2, "quantity": 1, "as_of": stage.clock().isoformat(), "basis": "available"}
                  for row in stock(*[("A", f"N{n}", 1) for n in range(len(costs[0]))])]  # fmt: skip
        stage.bring({"stock.csv": csv(counts)})
    assert total == {"now": one_by_one, "later": as_a_wave}
    stage.prove()


def swap(stage: Stage, ordered: Row, own: int, other: int, ratio: str, receipt: str = "", **policy: object) -> Any:
    """An order of A, of which there is `own`, while there is `other` of its substitute B, `ratio` for `per`."""
    quantity, per = ratio.split(":")
    files = network({"N": 5}, ["A", "B"], **policy)
    files["packs.csv"] = "item,pack,contains\nA,case,12\nB,tray,6\n"
    files["substitutions.csv"] = f"item,substitute,quantity,per,penalty\nA,B,{quantity},{per},0.10\n"
    if receipt:
        files["receipts.csv"] = receipt
    stage.bring({**files, "stock.csv": stock(("A", "N", own), ("B", "N", other))})
    return stage.order([ordered])


@pytest.mark.parametrize(
    ("ordered", "own", "other", "ratio", "expected"),
    [
        ({"item": "A", "quantity": "100"}, 80, 50, "1:1", {"A": 80, "B": 20}),
        ({"item": "A", "quantity": "10", "pack": "case"}, 84, 50, "1:1", {"A": 84, "B": 36}),
        # B is a case of 12: two of them are 24 A, the rest is A itself.
        ({"item": "A", "quantity": "100"}, 80, 50, "1:12", {"A": 76, "B": 2}),
        ({"item": "A", "quantity": "9", "pack": "case"}, 96, 50, "1:12", {"A": 96, "B": 1}),
        # One A is three B.
        ({"item": "A", "quantity": "30"}, 20, 50, "3:1", {"A": 20, "B": 30}),
    ],
)
def test_what_is_short_is_substituted_in_whole_ratios(
    stage: Stage, ordered: Row, own: int, other: int, ratio: str, expected: dict[str, int]
) -> None:
    order = swap(stage, ordered, own, other, ratio)

    assert held(order) == {(item, "N"): units for item, units in expected.items()}
    assert order["lines"][0]["reserved"] == order["lines"][0]["quantity"]
    penalty = [part for part in stage.why(order)["plan"]["costs"] if part["kind"] == "substitution"]
    quantity, per = map(int, ratio.split(":"))
    assert sum(Decimal(part["amount"]) for part in penalty) == Decimal("0.10") * expected["B"] * per / quantity
    stage.prove()


@pytest.mark.parametrize("by_file", [False, True])
@pytest.mark.parametrize(
    ("wanted", "own", "due", "on_hand_only"),
    [(100, 80, "2026-01-30", False), (40, 13, "2026-03-02", False), (100, 80, "2026-01-20", True)],
)
def test_without_substitutes_the_rest_waits_with_a_date(
    stage: Stage, wanted: int, own: int, due: str, on_hand_only: bool, by_file: bool
) -> None:
    """The receipt is due beyond the horizon, or the policy promises only what is there."""
    receipt = f"reference,item,node,pool,quantity,due_on\nPO-1,A,N,P,500,{due}\n"
    order = swap(
        stage, {"item": "A", "quantity": "1"}, own + 1, 50, "1:1", receipt, on_hand_only=str(on_hand_only).lower()
    )
    if by_file:
        text = f"order,channel,zone,item,quantity,substitutes\nNO,web,Z,A,{wanted},false\n"
        stage.bring({"orders.csv": text})
        stage.work()
        order = stage.get("/v1/orders/NO")
    else:
        order = stage.order([{"item": "A", "quantity": str(wanted), "substitutes": False}])

    assert held(order) == {("A", "N"): own}
    line = order["lines"][0]
    assert (line["reserved"], line["backordered"]) == (str(own), str(wanted - own))
    (unserved,) = stage.why(order)["plan"]["unserved"]
    assert (unserved["reason"], unserved["limited_by"], unserved["expected_on"]) == ("inventory", "A", due)
    assert order["waits"] == [{"line_no": 1, "quantity": str(wanted - own), "expected_on": due}]
    stage.prove()


def test_what_is_due_within_the_horizon_is_promised_from_its_receipt(stage: Stage) -> None:
    receipt = "reference,item,node,pool,quantity,due_on\nPO-1,A,N,P,500,2026-01-20\n"
    order = swap(stage, {"item": "A", "quantity": "100", "substitutes": False}, 80, 50, "1:1", receipt)

    line = order["lines"][0]
    assert (line["reserved"], line["pledged"], line["backordered"]) == ("80", "20", "0")
    assert [(s["ship_on"]) for s in order["shipments"]] == ["2026-01-20"]


def kits(stage: Stage, wanted: int, a: int, b: int, elsewhere: int, across: bool, **policy: object) -> Any:
    """An order of kits of 1 A and 2 B; N has A and B, M only B."""
    files = network({"N": 5, "M": 6}, ["KIT", "A", "B"], **policy)
    files["bills.csv"] = f"kit,item,quantity,across_nodes\nKIT,A,1,{str(across).lower()}\nKIT,B,2,\n"
    stage.bring({**files, "stock.csv": stock(("A", "N", a), ("B", "N", b), ("B", "M", elsewhere))})
    return stage.order([{"item": "KIT", "quantity": str(wanted)}])


@pytest.mark.parametrize(
    ("a", "b", "elsewhere", "across", "made", "limit"),
    [
        (10, 13, 0, False, 6, "B"),
        (10, 13, 4, False, 6, "B"),
        (10, 13, 4, True, 8, "B"),
        (5, 13, 4, True, 5, "A"),
        (7, 30, 0, False, 7, "A"),
        (9, 6, 11, True, 8, "B"),
    ],
)
def test_kits_are_made_as_far_as_the_scarcest_part_goes_and_it_is_named(
    stage: Stage, a: int, b: int, elsewhere: int, across: bool, made: int, limit: str
) -> None:
    order = kits(stage, made + 3, a, b, elsewhere, across)

    line = order["lines"][0]
    assert (line["reserved"], line["backordered"]) == (str(made), "3")
    units = held(order)
    assert sum(n for (item, _), n in units.items() if item == "A") == made
    assert sum(n for (item, _), n in units.items() if item == "B") == 2 * made
    assert across or {node for _, node in units} == {"N"}
    assert [(wait["quantity"], wait["limited_by"]) for wait in stage.why(order)["plan"]["unserved"]] == [("3", limit)]
    assert stage.get("/v1/availability?items=KIT&channel=web")["items"][0]["kits"]["now"] == "0"
    stage.prove()


@pytest.mark.parametrize(("across", "total", "at_n"), [(False, "6", "6"), (True, "8", "6")])
def test_availability_says_how_many_kits_can_be_made(stage: Stage, across: bool, total: str, at_n: str) -> None:
    kits(stage, 1, 11, 15, 4, across)

    kit = stage.get("/v1/availability?items=KIT&channel=web")["items"][0]["kits"]

    assert (kit["now"], kit["limited_by"]) == (total, "B")
    assert kit["nodes"] == [
        {"node": "M", "now": "0", "limited_by": "A"},
        {"node": "N", "now": at_n, "limited_by": "B"},
    ]


def test_the_parts_of_a_kit_are_set_aside_together_or_not_at_all(stage: Stage) -> None:
    order = kits(stage, 5, 10, 9, 0, False, ship_complete="true")

    assert held(order) == {}
    assert stage.available("A") == "10"
    assert stage.available("B") == "9"
