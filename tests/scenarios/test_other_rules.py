"""An order that nobody could serve is served once the network changes, or a day comes, though no stock moves."""

from __future__ import annotations

from tests.scenarios.stage import Stage, csv, held, network, stock


def test_orders_that_wait_are_sourced_when_a_node_is_opened_again(stage: Stage) -> None:
    nodes = [{"node": node, "status": status} for node, status in (("N", "active"), ("M", "suspended"))]
    stage.bring({**network({"N": 5, "M": 6}), "nodes.csv": csv(nodes), "stock.csv": stock(("A", "M", 5))})
    orders = []
    for _ in range(2):
        orders.append(stage.order([{"item": "A", "quantity": "3"}]))
        stage.pass_time(seconds=1)
    assert [order["state"] for order in orders] == ["backordered", "backordered"]

    stage.bring({"nodes.csv": csv([{"node": "M", "status": "active"}])})
    stage.work()

    first, second = (stage.get(f"/v1/orders/{order['number']}") for order in orders)
    assert (held(first), held(second)) == ({("A", "M"): 3}, {("A", "M"): 2})
    stage.prove()


def test_an_order_that_waits_is_promised_a_receipt_when_it_comes_into_the_horizon(stage: Stage) -> None:
    stage.bring(network({"N": 5}, horizon_days=7))
    notice = {"reference": "PO", "item": "A", "node": "N", "pool": "P", "quantity": "5", "due_on": "2026-01-22"}
    assert stage.post("/v1/receipts", {"receipts": [{**notice, "announced": True}]}).status_code < 300
    order = stage.order([{"item": "A", "quantity": "3"}])
    states = []
    for _ in range(4):
        stage.work()
        states.append(stage.get(f"/v1/orders/{order['number']}")["state"])
        stage.pass_time(days=1)
    # It is Monday the 12th at first.
    assert states == ["backordered"] * 3 + ["sourced"]
    stage.prove()
