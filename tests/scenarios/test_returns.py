"""Scenarios 6 and 24: what comes back to a store goes to its own pool, or where its state says; an exchange stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.scenarios.stage import Stage, csv, held, network, stock

POOLS = [
    {"pool": "WEB", "channels": "web"},
    {"pool": "MARKET-A", "channels": "a"},
    {"pool": "OUTLET", "channels": "outlet"},
]


def bring(stage: Stage, own: int, web: int, items: tuple[str, ...] = ("A",), **returns: object) -> None:
    """A depot that sends, with stock of marketplace A and of the web shop, and a store that takes goods back."""
    terms = ", ".join(f"{name}: {value}" for name, value in {"b_grade_pool": "OUTLET", **returns}.items())
    files = network({"DEPOT": 3, "STORE": 9}, items, returns="{" + terms + "}")
    files["nodes.csv"] = csv([
        {"node": "DEPOT", "kind": "distribution_centre", "time_zone": "UTC"},
        {"node": "STORE", "kind": "store", "time_zone": "UTC"},
    ])  # fmt: skip
    files["pools.csv"] = csv(POOLS)
    counted = [("A", "DEPOT", own)], [(item, "DEPOT", web) for item in items]
    files["stock.csv"] = [*stock(*counted[0], pool="MARKET-A"), *stock(*counted[1], pool="WEB")]
    stage.bring(files)


def delivered(stage: Stage, number: str, units: int, channel: str = "a") -> None:
    """An order that has reached its customer."""
    line = {"item": "A", "quantity": str(units), "unit_price": "12.50"}
    stage.order([line], number=number, channel=channel, currency="USD")
    stage.pass_time(hours=1)
    stage.work()
    at = stage.clock().isoformat()
    said = {"id": f"{number}-sent", "order": number, "shipment": 1, "kind": "delivered", "at": at}
    assert stage.post("/v1/shipments/reports", said).json() == {"outcome": "booked"}


def say(stage: Stage, number: str, what: str, *lines: Mapping[str, object], id: str = "") -> str:  # noqa: A002
    """A receipt or a disposition; what became of it."""
    body = {"id": id or f"{number}-{what}", "at": stage.clock().isoformat(), "lines": lines}
    answer = stage.post(f"/v1/returns/{number}/{what}", body)
    assert answer.status_code == 200, answer.text
    return answer.json()["outcome"]


def free(stage: Stage) -> dict[str, int]:
    """What may be promised of A, by channel."""
    return {channel: int(stage.available("A", channel)) for channel in ("a", "web", "outlet")}


def announced(stage: Stage, **body: object) -> Any:
    answer = stage.post("/v1/returns", body)
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("own", "wanted", "good", "worn", "broken"), [(7, 4, 2, 1, 1), (23, 19, 5, 9, 3), (1, 1, 1, 0, 0)]
)
def test_what_comes_back_to_a_store_goes_to_its_own_pool_or_where_its_state_says(
    stage: Stage, own: int, wanted: int, good: int, worn: int, broken: int
) -> None:
    bring(stage, own, 50)
    delivered(stage, "O-1", wanted)
    assert free(stage) == {"a": own - wanted, "web": 50, "outlet": 0}
    back = good + worn + broken
    line = {"line": 1, "quantity": str(back)}
    assert announced(stage, order="O-1", number="RMA-1", node="STORE", lines=[line])["node"] == "STORE"
    assert say(stage, "RMA-1", "receipts", line) == "booked"
    assert say(stage, "RMA-1", "receipts", line) == "duplicate"
    # Nobody has looked at it yet.
    assert free(stage) == {"a": own - wanted, "web": 50, "outlet": 0}

    told = [("restock", good), ("b_grade", worn), ("scrap", broken)]
    lines = [{"line": 1, "quantity": str(units), "disposition": name} for name, units in told if units]
    assert say(stage, "RMA-1", "dispositions", *lines) == "booked"
    assert free(stage) == {"a": own - wanted + good, "web": 50, "outlet": worn}
    order, found = stage.get("/v1/orders/O-1"), stage.get("/v1/returns/RMA-1")
    assert (order["lines"][0]["returned"], order["returns"][0]["state"]) == (str(back), "closed")
    assert (found["due"]["amount"], found["parts"][0]["pool"]) == (
        f"{back * 1250 // 100}.{back * 1250 % 100:02d}",
        "MARKET-A",
    )
    stage.prove()


@pytest.mark.parametrize("comes", [True, False])
def test_an_exchange_keeps_its_promise_whatever_becomes_of_the_return(stage: Stage, comes: bool) -> None:
    bring(stage, 6, 5, ("A", "B"))
    delivered(stage, "O-2", 2)
    new = [{"item": "B", "quantity": "4", "unit_price": "5.00"}]
    body = {"order": "O-2", "number": "RMA-2", "lines": [{"line": 1, "quantity": "2"}]}
    # It is for the channel of its order unless that has none of it: here the web's.
    stage.post(
        "/v1/orders", {"channel": "web", "zone": "Z", "number": "O-3", "lines": [{"item": "B", "quantity": "1"}]}
    )
    refused = stage.post("/v1/returns", {**body, "exchange": {"lines": [{"item": "C", "quantity": "1"}]}})
    assert [each["field"] for each in refused.json()["problems"]] == ["exchange.lines[0].item"]
    exchange = {"lines": new, "currency": "USD", "channel": "web"}
    assert announced(stage, **body, exchange=exchange) == {
        "id": "RMA-2", "node": "DEPOT", "exchange": "RMA-2-X", "url": "/v1/returns/RMA-2",
    }  # fmt: skip
    stage.work()
    late = stage.order([{"item": "B", "quantity": "1"}], number="O-4")
    promised = stage.get("/v1/orders/RMA-2-X")
    assert (promised["state"], held(promised), late["state"]) == ("sourced", {("B", "DEPOT"): 4}, "backordered")
    if comes:
        say(stage, "RMA-2", "receipts", {"line": 1, "quantity": "2"})
        say(stage, "RMA-2", "dispositions", {"line": 1, "quantity": "2", "disposition": "restock"})
    else:
        assert stage.post("/v1/returns/RMA-2/end", {"state": "cancelled"}).json() == {"outcome": "booked"}
    again = stage.get("/v1/orders/RMA-2-X")
    assert (again["shipments"], held(again)) == (promised["shipments"], {("B", "DEPOT"): 4})
    assert stage.get("/v1/returns/RMA-2")["due"]["amount"] == ("5.00" if comes else "-20.00")
    stage.post("/v1/orders/RMA-2-X/cancellations", {"lines": [{"no": 1, "quantity": "1"}]})
    due = stage.get("/v1/returns/RMA-2")["due"]
    assert (due["amount"], due["reason"]) == (None, "RMA-2-X was changed since it was accepted")
    stage.prove()


@pytest.mark.parametrize("said", ["receipts dispositions", "dispositions receipts", "receipts dispositions receipts"])
def test_messages_in_any_order_and_twice_give_the_same(stage: Stage, said: str) -> None:
    bring(stage, 9, 0)
    delivered(stage, "O-5", 8)
    announced(stage, order="O-5", number="RMA-5", node="STORE", lines=[{"line": 1, "quantity": "6"}])
    for what in said.split():
        how = {"disposition": "restock"} if what == "dispositions" else {}
        say(stage, "RMA-5", what, {"line": 1, "quantity": "6", **how})
    assert free(stage)["a"] == 1 + 6
    assert stage.get("/v1/returns/RMA-5")["state"] == "closed"
    assert [each["id"] for each in stage.get("/v1/returns?node=STORE&state=closed")["returns"]] == ["RMA-5"]
    stage.prove()
