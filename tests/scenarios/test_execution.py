"""Scenario 24 as far as the doorstep: released, a unit not found, the rest from elsewhere, shipped, delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.scenarios.stage import Stage, held, network, stock


def sent(stage: Stage, number: str, shipment: int, kind: str, units: int = 0) -> dict[str, object]:
    """A report as a node sends it; its id follows from what it says."""
    lines = [{"item": "A", "quantity": str(units)}] if units else []
    at = stage.clock().isoformat()
    id_ = f"{number}-{shipment}-{kind}-{units}"
    return {"id": id_, "order": number, "shipment": shipment, "kind": kind, "at": at, "lines": lines}


def told(stage: Stage, *reports: Mapping[str, object]) -> list[str]:
    """Reports are sent, each under a key of its own; what became of them."""
    answers = [stage.post("/v1/shipments/reports", report) for report in reports]
    assert [answer.status_code for answer in answers] == [200] * len(reports), [each.text for each in answers]
    return [answer.json()["outcome"] for answer in answers]


def picks(stage: Stage, node: str) -> list[tuple[int, int]]:
    """What a node has to send: shipments and units."""
    shown = stage.get(f"/v1/shipments?node={node}&stage=released")["shipments"]
    return [(each["shipment"], sum(int(line["quantity"]) for line in each["lines"])) for each in shown]


def stages(order: Mapping[str, Any]) -> dict[int, tuple[str, str]]:
    """Shipments of an order: where from, and where they stand."""
    return {each["no"]: (each["node"], each["stage"]) for each in order["shipments"]}


def blocked(stage: Stage) -> dict[str, int]:
    """Units that were reserved and are blocked now, by item."""
    moved = [each for event in stage.events("stock.moved") for each in event["moved"]]
    found: dict[str, int] = {}
    for position, source, target, units, *_ in moved:
        if (source, target) == ("reserved", "blocked"):
            found[position] = found.get(position, 0) + units
    return found


def bring(stage: Stage, here: int, there: int) -> None:
    """A store that is near, and a depot that is dearer."""
    stage.bring({**network({"STORE": 3, "DEPOT": 8}), "stock.csv": stock(("A", "STORE", here), ("A", "DEPOT", there))})


@pytest.mark.parametrize(("wanted", "missing", "here", "there"), [(3, 1, 7, 4), (11, 4, 11, 25)])
def test_a_unit_that_is_not_found_comes_from_elsewhere_in_the_same_round(
    stage: Stage, wanted: int, missing: int, here: int, there: int
) -> None:
    bring(stage, here, there)
    order = stage.order([{"item": "A", "quantity": str(wanted)}], number="O-1")
    assert (held(order), stages(order), picks(stage, "STORE")) == (
        {("A", "STORE"): wanted}, {1: ("STORE", "planned")}, [])  # fmt: skip
    stage.pass_time(hours=1)
    stage.work()
    assert picks(stage, "STORE") == [(1, wanted)]

    short = sent(stage, "O-1", 1, "short", missing)
    assert told(stage, short, short) == ["booked", "duplicate"]
    # What is missing is nowhere to be had until it is counted; what else lies at the store still is.
    assert stage.available("A") == str(here - wanted + there)
    assert list(blocked(stage).values()) == [missing]
    stage.work()
    order = stage.get("/v1/orders/O-1")
    (other,) = set(stages(order)) - {1}
    assert held(order) == {("A", "STORE"): wanted - missing, ("A", "DEPOT"): missing}
    assert stages(order) == {1: ("STORE", "released"), other: ("DEPOT", "planned")}
    assert stage.available("A") == str(here - wanted + there - missing)
    assert stage.why(order)["plan"]["unserved"] == []

    told(stage, sent(stage, "O-1", 1, "shipped"))
    stage.pass_time(hours=1)
    stage.work()
    assert (picks(stage, "STORE"), picks(stage, "DEPOT")) == ([], [(other, missing)])
    told(stage, sent(stage, "O-1", other, "shipped"), sent(stage, "O-1", other, "delivered"),
         sent(stage, "O-1", 1, "delivered"))  # fmt: skip
    order = stage.get("/v1/orders/O-1")
    line = order["lines"][0]
    assert (order["state"], line["released"], line["shipped"]) == ("shipped", "0", str(wanted))
    assert stages(order) == {1: ("STORE", "delivered"), other: ("DEPOT", "delivered")}
    stage.prove()


@pytest.mark.parametrize(
    ("wanted", "missing", "here", "there", "order_of_reports"),
    [
        (3, 1, 7, 4, (0, 1, 2)),
        (3, 1, 7, 4, (1, 1, 0, 0, 2, 2, 1)),
        (6, 5, 6, 9, (0, 2, 1)),
        (6, 5, 6, 9, (1, 0, 2, 0, 1)),
    ],
)
def test_reports_that_come_twice_and_in_any_order_give_the_same(
    stage: Stage, wanted: int, missing: int, here: int, there: int, order_of_reports: Sequence[int]
) -> None:
    """0 short, 1 the rest has left, 2 delivered. Only what was not found is told before all of it is delivered."""
    bring(stage, here, there)
    stage.order([{"item": "A", "quantity": str(wanted)}], number="O-2")
    stage.pass_time(hours=1)
    stage.work()
    found = wanted - missing
    reports = [
        sent(stage, "O-2", 1, "short", missing),
        sent(stage, "O-2", 1, "shipped", found),
        sent(stage, "O-2", 1, "delivered"),
    ]

    told(stage, *[reports[place] for place in order_of_reports])
    stage.work()
    order = stage.get("/v1/orders/O-2")
    assert order["lines"][0]["shipped"] == str(found)
    assert held(order) == {("A", "DEPOT"): missing}
    assert sorted(stages(order).values()) == [("DEPOT", "planned"), ("STORE", "delivered")]
    assert (stage.available("A"), list(blocked(stage).values())) == (str(here - wanted + there - missing), [missing])
    stage.prove()
