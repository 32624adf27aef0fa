"""The timeline of an order over HTTP: what happened to it, in the order in which it happened."""

from __future__ import annotations

from datetime import timedelta

from poolwise.flows.webhooks import DeliveryState, Outcome, Told
from poolwise.store.webhooks import PostgresOutbound
from tests.web.shop import ORDER, Shop


def kinds(shop: Shop, number: str) -> list[str]:
    return [each["kind"] for each in shop.get(f"/v1/orders/{number}/timeline").json()["happenings"]]


def test_a_life_is_told_from_the_order_to_the_return(shop: Shop) -> None:
    shop.post("/v1/orders", {**ORDER, "number": "TOLD"})
    shop.decide()
    shop.post("/v1/orders/TOLD/holds", {"code": "fraud", "blocks": ["release"]})
    shop.post("/v1/orders/TOLD/holds/fraud/lift", None)
    shop.release()
    at = shop.clock().isoformat()
    for kind in ("picked", "shipped", "delivered"):
        report = {"id": f"told-{kind}", "order": "TOLD", "shipment": 1, "kind": kind, "at": at}
        assert shop.post("/v1/shipments/reports", report).status_code == 200
    back = {"number": "RMA-TOLD", "order": "TOLD", "lines": [{"line": 1, "quantity": "1"}]}
    assert shop.post("/v1/returns", back).status_code == 201
    assert kinds(shop, "TOLD") == [
        "accepted", "sourced", "reserved", "held", "hold_lifted", "released", "picked", "shipped", "delivered",
        "return_announced",
    ]  # fmt: skip


def test_what_happened_earlier_stands_earlier_whenever_we_heard_of_it(shop: Shop) -> None:
    shop.post("/v1/orders", {**ORDER, "number": "LATE"})
    shop.decide()
    shop.release()
    now = shop.clock()
    for kind, at in (("delivered", now), ("shipped", now - timedelta(minutes=5))):
        report = {"id": f"late-{kind}", "order": "LATE", "shipment": 1, "kind": kind, "at": at.isoformat()}
        assert shop.post("/v1/shipments/reports", report).status_code == 200
    told = shop.get("/v1/orders/LATE/timeline").json()["happenings"]
    by_kind = {each["kind"]: each for each in told}
    assert list(by_kind).index("shipped") < list(by_kind).index("delivered")
    assert by_kind["shipped"]["told_at"] >= by_kind["delivered"]["told_at"] > by_kind["shipped"]["at"]
    assert (by_kind["shipped"]["shipment"], by_kind["accepted"]["shipment"]) == (1, None)


def test_it_says_who_brought_it_what_was_set_aside_and_who_was_given_a_link(shop: Shop) -> None:
    shop.post("/v1/orders", {**ORDER, "number": "WHO"})
    shop.decide()
    shop.post("/v1/orders/WHO/tracking-links", {})
    told = {each["kind"]: each for each in shop.get("/v1/orders/WHO/timeline").json()["happenings"]}
    assert (told["accepted"]["by"], told["link_given"]["by"]) == ("the integrator", "the integrator")
    assert told["accepted"]["detail"] == {"channel": "web", "zone": "de-north", "lines": 1}
    assert [(each["item"], each["quantity"]) for each in told["reserved"]["detail"]["units"]] == [("MUG-BLUE", "2")]
    assert told["reserved"]["shipment"] == 1


def test_it_says_what_was_sent_to_whom(shop: Shop) -> None:
    shop.number_events()
    made = shop.post("/v1/webhooks", {"url": "http://127.0.0.1:1/hook", "types": ["order.*"]}).json()
    shop.post("/v1/orders", {**ORDER, "number": "SENT"})
    shop.decide()
    shop.number_events()
    outbound = PostgresOutbound(shop.pool)
    for webhook, cell in outbound.behind():
        outbound.fan_out(webhook, cell, shop.clock())
    (claimed, *_) = outbound.claim(lambda _webhook: 1, shop.clock(), shop.clock() + timedelta(minutes=1))
    outbound.record([Outcome(claimed, Told(204), DeliveryState.DONE, shop.clock())], shop.clock())
    told = shop.get("/v1/orders/SENT/timeline").json()["happenings"]
    sent = [(each["kind"], each["detail"]["attempts"]) for each in told if each["kind"].startswith("webhook")]
    assert sorted(sent) == [("webhook_done", 1), ("webhook_waiting", 0)]
    assert {each["detail"]["webhook"] for each in told if "webhook" in each["detail"]} == {made["webhook"]["id"]}
    assert shop.post(f"/v1/webhooks/{made['webhook']['id']}/delete", None).status_code == 204


def test_an_unknown_order_has_no_timeline(shop: Shop) -> None:
    assert shop.get("/v1/orders/GHOST/timeline").status_code == 404
