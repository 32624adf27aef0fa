"""Bad input for every endpoint, one line each: a clear refusal that names the field, and never a fault of ours."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import pytest
from msgspec.inspect import DictType, ListType, Metadata, StrType, StructType, Type, UnionType, type_info

from poolwise.flows.tokens import Role
from poolwise.web import routes
from poolwise.web.endpoint import Endpoint
from poolwise.web.examples import EXAMPLES
from poolwise.web.operations import Measured
from tests.web.shop import ORDER, Shop, new_key

TABLE = routes.endpoints(Measured(lambda: 0, lambda: 0))
READ_OTHERWISE = {"cursor", "after", "url", "latitude", "longitude", "item", "zone"}
LINE = {"item": "MUG-BLUE", "quantity": "1"}
COUNT = EXAMPLES["POST /v1/stock/counts"]["counts"][0]
MOVEMENT = EXAMPLES["POST /v1/stock/movements"]["movements"][0]
RECEIPT = EXAMPLES["POST /v1/receipts"]["receipts"][0]
REPORT = {**EXAMPLES["POST /v1/shipments/reports"], "order": "GHOST"}
OFFER = {**EXAMPLES["POST /v1/offers/claims"], "order": "GHOST"}
BASKET = EXAMPLES["POST /v1/reservations"]
RETURN = {**EXAMPLES["POST /v1/returns"], "order": "GHOST"}
BACK = {"line": 1, "quantity": "1"}
CAME = {**EXAMPLES["POST /v1/returns/{id}/receipts"], "order": "GHOST"}
GONE = {**EXAMPLES["POST /v1/returns/{id}/dispositions"], "order": "GHOST"}
RMA = "/v1/returns/RMA-9"

REFUSED = [
    # path, body, field that is named
    ("/v1/orders", [], ""),
    ("/v1/orders", "order", ""),
    ("/v1/orders", {}, "channel"),
    ("/v1/orders", {**ORDER, "lines": []}, "lines"),
    ("/v1/orders", {**ORDER, "lines": "MUG"}, "lines"),
    ("/v1/orders", {**ORDER, "lines": [LINE] * 2_001}, "lines"),
    ("/v1/orders", {**ORDER, "lines": [{"item": "MUG-BLUE"}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "quantity": 2}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "quantity": 2.5}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "quantity": "NaN"}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "quantity": "Infinity"}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "quantity": "1e9"}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "quantity": "-1"}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "quantity": "0"}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "quantity": "0.5"}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "quantity": "9" * 15}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "quantity": "9" * 400}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "pack": "ton"}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "item": "UNICORN"}]}, "lines[0].item"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "item": "4006381333932"}]}, "lines[0].item"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "colour": "red"}]}, "lines[0].colour"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "unit_price": 9.99}]}, "lines[0].unit_price"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "unit_price": "-1"}]}, "lines[0].unit_price"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "unit_price": "0.001"}]}, "lines[0].unit_price"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "substitutes": 1}]}, "lines[0].substitutes"),
    ("/v1/orders", {**ORDER, "channel": ""}, "channel"),
    ("/v1/orders", {**ORDER, "channel": "w\u0000b"}, "channel"),
    ("/v1/orders", {**ORDER, "channel": 7}, "channel"),
    ("/v1/orders", {**ORDER, "number": "x" * 201}, "number"),
    ("/v1/orders", {**ORDER, "zone": "mars"}, "zone"),
    ("/v1/orders", {"channel": "web", "lines": [LINE]}, "ship_to"),
    ("/v1/orders", {"channel": "web", "lines": [LINE], "ship_to": {"country": "XX"}}, "ship_to.postcode"),
    ("/v1/orders", {"channel": "web", "lines": [LINE], "ship_to": {"country": "Germany"}}, "ship_to.country"),
    ("/v1/orders", {"channel": "web", "lines": [LINE], "ship_to": {"latitude": "95", "longitude": "0"}},
     "ship_to.latitude"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "quantity": "1000000001"}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "service_level": "yesterday"}, "service_level"),
    ("/v1/orders", {**ORDER, "priority": 101}, "priority"),
    ("/v1/orders", {**ORDER, "priority": 10**30}, "priority"),
    ("/v1/orders", {**ORDER, "priority": "1"}, "priority"),
    ("/v1/orders", {**ORDER, "max_shipments": 0}, "max_shipments"),
    ("/v1/orders", {**ORDER, "requested_date": "2026-02-30"}, "requested_date"),
    ("/v1/orders", {**ORDER, "requested_date": 20260130}, "requested_date"),
    ("/v1/orders", {**ORDER, "reservation": "none"}, "reservation"),
    ("/v1/orders", {**ORDER, "facts": {"gift": 1.5}}, "facts.gift"),
    ("/v1/orders", {**ORDER, "facts": {"b": "x", "a": [1]}}, "facts.a[0]"),
    ("/v1/orders", {**ORDER, "facts": {"a b": ["x", None]}}, "facts.a b[1]"),
    ("/v1/orders", {**ORDER, "facts": {"a": "x\n"}}, "facts.a"),
    ("/v1/orders", {**ORDER, "facts": {"a": ["y", "x\u0000"]}}, "facts.a"),
    ("/v1/orders", {**ORDER, "number": "x\n"}, "number"),
    ("/v1/orders", {**ORDER, "currency": "EUR\n"}, "currency"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "quantity": "1\n"}]}, "lines[0].quantity"),
    ("/v1/orders", {**ORDER, "lines": [{**LINE, "unit_price": "1\n"}]}, "lines[0].unit_price"),
    ("/v1/orders", {**ORDER, "zone": "", "ship_to": {"latitude": "50\n", "longitude": "10"}}, "ship_to.latitude"),
    ("/v1/orders/ANY/cancellations", {"lines": []}, "lines"),
    ("/v1/orders/ANY/holds", {"code": "fraud\n", "blocks": ["release"]}, "code"),
    ("/v1/orders", {**ORDER, "currency": "euro"}, "currency"),
    ("/v1/orders:bulk", {"orders": []}, "orders"),
    ("/v1/orders:bulk", {"orders": [ORDER] * 1_001}, "orders"),
    ("/v1/orders:bulk", {"orders": [ORDER, {**ORDER, "lines": [{}]}]}, "orders[1].lines[0].item"),
    ("/v1/reservations", {**BASKET, "expires_in_seconds": 0}, "expires_in_seconds"),
    ("/v1/reservations", {**BASKET, "expires_in_seconds": 10**9}, "expires_in_seconds"),
    ("/v1/reservations", {**BASKET, "expires_in_seconds": "60"}, "expires_in_seconds"),
    ("/v1/reservations", {**BASKET, "lines": [{**LINE, "item": "UNICORN"}]}, "lines[0].item"),
    ("/v1/stock/counts", {"counts": []}, "counts"),
    ("/v1/stock/counts", {"counts": [COUNT] * 1_001}, "counts"),
    ("/v1/stock/counts", {"counts": [{**COUNT, "as_of": "2026-01-05"}]}, "counts[0].as_of"),
    ("/v1/stock/counts", {"counts": [{**COUNT, "as_of": "2026-01-05T08:00:00"}]}, "counts[0].as_of"),
    ("/v1/stock/counts", {"counts": [{**COUNT, "basis": "guess"}]}, "counts[0].basis"),
    ("/v1/stock/counts", {"counts": [{**COUNT, "sequence": -1}]}, "counts[0].sequence"),
    ("/v1/stock/counts", {"counts": [{**COUNT, "quantity": 4}]}, "counts[0].quantity"),
    ("/v1/stock/counts", {"counts": [{**COUNT, "lot": "a\n"}]}, "counts[0].lot"),
    ("/v1/stock/movements", {"movements": [{**MOVEMENT, "id": ""}]}, "movements[0].id"),
    ("/v1/stock/movements", {"movements": [{**MOVEMENT, "at": None}]}, "movements[0].at"),
    ("/v1/receipts", {"receipts": [{**RECEIPT, "due_on": "soon"}]}, "receipts[0].due_on"),
    ("/v1/receipts", {"receipts": [{**RECEIPT, "sequence": 2**70}]}, "receipts[0].sequence"),
    ("/v1/receipts", {"receipts": [{**RECEIPT, "reference": "x\n"}]}, "receipts[0].reference"),
    ("/v1/shipments/reports", {**REPORT, "id": ""}, "id"),
    ("/v1/shipments/reports", {**REPORT, "id": "x" * 201}, "id"),
    ("/v1/shipments/reports", REPORT, "order"),
    ("/v1/shipments/reports", {**REPORT, "order": ""}, "order"),
    ("/v1/shipments/reports", {**REPORT, "shipment": 0}, "shipment"),
    ("/v1/shipments/reports", {**REPORT, "shipment": "1"}, "shipment"),
    ("/v1/shipments/reports", {**REPORT, "shipment": 2**63}, "shipment"),
    ("/v1/shipments/reports", {**REPORT, "kind": "lost"}, "kind"),
    ("/v1/shipments/reports", {**REPORT, "at": "2026-01-05T08:00:00"}, "at"),
    ("/v1/shipments/reports", {**REPORT, "at": "2027-01-05T08:00:00Z"}, "at"),
    ("/v1/shipments/reports", {**REPORT, "at": "0001-01-01T00:00:00+14:00"}, "at"),
    ("/v1/shipments/reports", {**REPORT, "kind": "short", "lines": []}, "lines"),
    ("/v1/shipments/reports", {**REPORT, "lines": [{**LINE, "quantity": "999999999999999"}]}, "lines[0].quantity"),
    ("/v1/shipments/reports", {**REPORT, "lines": [{**LINE, "quantity": "999999999999"}] * 2}, "lines[1].quantity"),
    ("/v1/shipments/reports", {**REPORT, "kind": "declined"}, "lines"),
    ("/v1/shipments/reports", {**REPORT, "kind": "delivered"}, "lines"),
    ("/v1/shipments/reports", {**REPORT, "lines": [LINE] * 2_001}, "lines"),
    ("/v1/shipments/reports", {**REPORT, "lines": [{**LINE, "item": "UNICORN"}]}, "lines[0].item"),
    ("/v1/shipments/reports", {**REPORT, "lines": [LINE, {**LINE, "quantity": "0"}]}, "lines[1].quantity"),
    ("/v1/shipments/reports", {**REPORT, "lines": [{**LINE, "quantity": "-1"}]}, "lines[0].quantity"),
    ("/v1/shipments/reports", {**REPORT, "lines": [{**LINE, "quantity": "0.5"}]}, "lines[0].quantity"),
    ("/v1/shipments/reports", {**REPORT, "lines": [{**LINE, "quantity": "NaN"}]}, "lines[0].quantity"),
    ("/v1/shipments/reports", {**REPORT, "lines": [{**LINE, "quantity": 1}]}, "lines[0].quantity"),
    ("/v1/shipments/reports", {**REPORT, "tracking": "x" * 201}, "tracking"),
    ("/v1/shipments/reports", {**REPORT, "tracking": "\n"}, "tracking"),
    ("/v1/shipments/reports", {**REPORT, "colour": "red"}, "colour"),
    ("/v1/returns", {}, "order"),
    ("/v1/returns", RETURN, "order"),
    ("/v1/returns", {**RETURN, "number": "R M A"}, "number"),
    ("/v1/returns", {**RETURN, "number": "x" * 101}, "number"),
    ("/v1/returns", {**RETURN, "lines": []}, "lines"),
    ("/v1/returns", {**RETURN, "lines": [BACK] * 2_001}, "lines"),
    ("/v1/returns", {**RETURN, "lines": [{**BACK, "line": 0}]}, "lines[0].line"),
    ("/v1/returns", {**RETURN, "lines": [{**BACK, "line": "1"}]}, "lines[0].line"),
    ("/v1/returns", {**RETURN, "lines": [{**BACK, "quantity": 1}]}, "lines[0].quantity"),
    ("/v1/returns", {**RETURN, "lines": [{**BACK, "quantity": "NaN"}]}, "lines[0].quantity"),
    ("/v1/returns", {**RETURN, "lines": [{**BACK, "colour": "red"}]}, "lines[0].colour"),
    ("/v1/returns", {**RETURN, "node": "x" * 201}, "node"),
    ("/v1/returns", {**RETURN, "exchange": {}}, "exchange.lines"),
    ("/v1/returns", {**RETURN, "exchange": {"lines": [{"item": "PAN"}]}}, "exchange.lines[0].quantity"),
    (f"{RMA}/receipts", CAME, "order"),
    (f"{RMA}/receipts", {**CAME, "order": ""}, "order"),
    (f"{RMA}/receipts", {**CAME, "id": ""}, "id"),
    (f"{RMA}/receipts", {**CAME, "at": "2026-01-05T08:00:00"}, "at"),
    (f"{RMA}/receipts", {**CAME, "at": "2027-01-05T08:00:00Z"}, "at"),
    (f"{RMA}/receipts", {**CAME, "at": "0001-01-01T00:00:00+14:00"}, "at"),
    (f"{RMA}/receipts", {**CAME, "lines": []}, "lines"),
    ("/v1/returns/R%20M/receipts", CAME, "number"),
    (f"{RMA}/dispositions", GONE, "order"),
    (f"{RMA}/dispositions", {**GONE, "id": "x" * 201}, "id"),
    (f"{RMA}/dispositions", {**GONE, "lines": [{**BACK, "disposition": "burn"}]}, "lines[0].disposition"),
    (f"{RMA}/dispositions", {**GONE, "lines": [BACK]}, "lines[0].disposition"),
    (f"{RMA}/end", {"state": "received"}, "state"),
    (f"{RMA}/end", {}, "state"),
    (f"{RMA}/end", {"state": "closed"}, "id"),
    ("/v1/shipments/reports", {**REPORT, "kind": "ready"}, "lines"),
    ("/v1/shipments/reports", {**REPORT, "kind": "arrived", "lines": []}, "node"),
    ("/v1/shipments/reports", {**REPORT, "node": "HAM-DC"}, "node"),
    ("/v1/shipments/reports", {**REPORT, "kind": "arrived", "node": "\x07"}, "node"),
    ("/v1/orders", {**ORDER, "collect_at": "HAM-DC"}, "collect_at"),
    ("/v1/orders", {**ORDER, "collect_at": 7}, "collect_at"),
    ("/v1/orders", {**ORDER, "collect_at": "BER-SHOP", "zone": "de-east"}, "zone"),
    ("/v1/offers/claims", OFFER, "order"),
    ("/v1/offers/claims", {**OFFER, "order": ""}, "order"),
    ("/v1/offers/claims", {**OFFER, "shipment": 0}, "shipment"),
    ("/v1/offers/claims", {**OFFER, "shipment": "1"}, "shipment"),
    ("/v1/offers/claims", {**OFFER, "shipment": 2**63}, "shipment"),
    ("/v1/offers/claims", {**OFFER, "node": "x" * 201}, "node"),
    ("/v1/offers/claims", {**OFFER, "node": "\x00"}, "node"),
    ("/v1/offers/claims", {**OFFER, "colour": "red"}, "colour"),
    ("/v1/offers/declines", OFFER, "order"),
    ("/v1/offers/declines", {**OFFER, "node": None}, "node"),
    ("/v1/plan", {"order": {**ORDER, "zone": "mars"}}, "zone"),
    ("/v1/plan", {"order": ORDER, "at": "2026-01-05T08:00:00"}, "at"),
    ("/v1/plan", {"order": ORDER, "at": "0005-01-01T01:01:00Z"}, "at"),
    ("/v1/plan", {"order": ORDER, "at": "9999-12-31T23:59:59Z"}, "at"),
    ("/v1/plan", {"order": ORDER, "policy": {"code": "default", "version": 0}}, "policy.version"),
    ("/v1/plan", {"order": ORDER, "facts": {"stock": [{"item": "PAN", "node": "MARS", "pool": "web",
     "available": "1"}]}}, "facts.stock[0].node"),
    ("/v1/plan", {"order": {**ORDER, "lines": [LINE] * 201}}, "order.lines"),
    ("/v1/tokens", {"party": "", "role": "viewer"}, "party"),
    ("/v1/tokens", {"party": "p", "role": "king"}, "role"),
    ("/v1/tokens", {"party": "p", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
]  # fmt: skip

REFUSED_STATEMENTS = [
    ("/v1/stock/counts", "counts", {**COUNT, "item": "UNICORN"}, "item"),
    ("/v1/stock/counts", "counts", {**COUNT, "node": "MARS"}, "node"),
    ("/v1/stock/counts", "counts", {**COUNT, "pool": "car"}, "pool"),
    ("/v1/stock/counts", "counts", {**COUNT, "quantity": "-1"}, "quantity"),
    ("/v1/stock/counts", "counts", {**COUNT, "quantity": "1.5"}, "quantity"),
    ("/v1/stock/counts", "counts", {**COUNT, "quantity": "9" * 15}, "quantity"),
    ("/v1/stock/counts", "counts", {**COUNT, "as_of": "2027-01-05T08:00:00Z"}, "as_of"),
    ("/v1/stock/movements", "movements", {**MOVEMENT, "source": "pocket"}, "source"),
    ("/v1/stock/movements", "movements", {**MOVEMENT, "quantity": "0"}, "quantity"),
    ("/v1/stock/movements", "movements", {**MOVEMENT, "target": "available"}, "target"),
    ("/v1/receipts", "receipts", {**RECEIPT, "item": "UNICORN"}, "item"),
    ("/v1/receipts", "receipts", {**RECEIPT, "quantity": "-1"}, "quantity"),
]  # fmt: skip

QUERIES = [
    ("/v1/orders?limit=0", "limit"),
    ("/v1/orders?limit=many", "limit"),
    ("/v1/orders?limit=501", "limit"),
    ("/v1/orders?limit=5&limit=6", "limit"),
    ("/v1/orders?colour=red", "colour"),
    ("/v1/orders?state=lost", "state"),
    ("/v1/orders?cursor=nonsense", "cursor"),
    ("/v1/orders?cursor=WzFd", "cursor"),
    ("/v1/orders?received_since=yesterday", "received_since"),
    ("/v1/orders?channel=%00", "channel"),
    ("/v1/orders?channel=%FF", ""),
    ("/v1/shipments", "node"),
    ("/v1/shipments?node=", "node"),
    ("/v1/shipments?node=HAM-DC&stage=planned", "stage"),
    ("/v1/shipments?node=HAM-DC&stage=shipped", "stage"),
    ("/v1/shipments?node=HAM-DC&collect_at=BER-SHOP", "node"),
    ("/v1/shipments?collect_at=%00", "collect_at"),
    ("/v1/purchase-orders", "partner"),
    ("/v1/purchase-orders?partner=nobody", "partner"),
    ("/v1/purchase-orders?partner=blech&limit=0", "limit"),
    ("/v1/purchase-orders?partner=blech&cursor=WzFd", "cursor"),
    ("/v1/count-tasks", "node"),
    ("/v1/count-tasks?node=%00", "node"),
    ("/v1/count-tasks?node=HAM-DC&limit=0", "limit"),
    ("/v1/count-tasks?node=HAM-DC&cursor=WzFd", "cursor"),
    ("/v1/shipments?node=HAM-DC&limit=0", "limit"),
    ("/v1/shipments?node=HAM-DC&cursor=WzFd", "cursor"),
    ("/v1/shipments?node=%00", "node"),
    ("/v1/offers", "node"),
    ("/v1/offers?node=HAM-DC&limit=0", "limit"),
    ("/v1/offers?node=HAM-DC&cursor=WzFd", "cursor"),
    ("/v1/offers?node=%00", "node"),
    ("/v1/orders/X/explanation?attempt=0", "attempt"),
    ("/v1/availability", "items"),
    ("/v1/availability?items=PAN", "channel"),
    ("/v1/availability?items=UNICORN&channel=web", "items[0]"),
    ("/v1/availability?items=PAN&channel=web&by=colour", "by"),
    ("/v1/availability?items=PAN&channel=web&quantities=1,2", "quantities"),
    ("/v1/availability?items=PAN&channel=web&quantities=-1", "quantities[0]"),
    ("/v1/availability?items=PAN&channel=web&quantities=NaN", "quantities[0]"),
    ("/v1/availability?items=UNICORN&channel=web&quantities=-1", "quantities[0]"),
    ("/v1/availability?items=PAN&channel=web&zone=mars", "zone"),
    ("/v1/availability?items=PAN&channel=web&nodes=MARS", "nodes[0]"),
    ("/v1/availability?items=PAN&channel=web&date=soon", "date"),
    ("/v1/availability?items=" + ",".join(["PAN"] * 101) + "&channel=web", "items"),
    ("/v1/network/nodes?cursor=%21", "cursor"),
    ("/v1/events?after=yesterday", "after"),
    ("/v1/events?after=9:1", "after"),
    ("/v1/tokens?cursor=WzFd", "cursor"),
]

UNREADABLE = [
    b"",
    b"{",
    b'{"channel": "web", "lines": [{"item": "MUG-BLUE"',
    b"\xff\xfe{}",
    b'{"channel": "\xc3\x28"}',
    b'{"channel": NaN}',
    b'{"channel": "\\ud800"}',
    b"[" * 100_000,
    b'{"channel": "web"} trailing',
]


@pytest.mark.parametrize(("path", "body", "field"), REFUSED, ids=lambda value: json.dumps(value)[:60])
def test_a_bad_body_is_refused_by_field(shop: Shop, path: str, body: object, field: str) -> None:
    answer = shop.post(path, body, role=Role.ADMIN)

    assert answer.status_code in (400, 404, 422), answer.text
    assert field in {problem["field"] for problem in answer.json()["problems"]}, answer.text
    assert "regex" not in answer.text, "who reads this need not read patterns"


@pytest.mark.parametrize(("path", "name", "statement", "field"), REFUSED_STATEMENTS)
def test_a_bad_statement_about_stock_is_refused_by_itself(
    shop: Shop, path: str, name: str, statement: object, field: str
) -> None:
    said = shop.post(path, {name: [statement]}).json()

    assert (said["refused"], [p["field"] for p in said["outcomes"][0]["problems"]]) == (1, [field])


@pytest.mark.parametrize(("path", "field"), QUERIES)
def test_a_bad_query_is_refused_by_field(shop: Shop, path: str, field: str) -> None:
    answer = shop.get(path, role=Role.ADMIN)

    assert (answer.status_code, answer.json()["code"]) == (422, "query_invalid"), answer.text
    assert field in {problem["field"] for problem in answer.json()["problems"]}, answer.text
    assert "regex" not in answer.text, "who reads this need not read patterns"


@pytest.mark.parametrize("path", [title.split()[1] for title in EXAMPLES])
@pytest.mark.parametrize("raw", UNREADABLE, ids=lambda raw: repr(raw[:20]))
def test_a_body_that_is_no_json_is_refused(shop: Shop, path: str, raw: bytes) -> None:
    headers = {"Idempotency-Key": new_key(), "Content-Type": "application/json"}
    with shop.client(Role.ADMIN) as client:
        answer = client.post(path, content=raw, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (400, "body_unreadable"), answer.text


@pytest.mark.parametrize("path", ["/v1/orders/none", "/v1/orders/%00", "/v1/orders/%FF", "/v1/orders/" + "9" * 300,
                                  "/v1/orders/none/explanation", "/v1/reservations/none",
                                  "/v1/reservations/019b0000-0000-7000-8000-000000000000"])  # fmt: skip
def test_an_unknown_name_is_not_found(shop: Shop, path: str) -> None:
    answer = shop.get(path)

    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")


def test_a_body_that_is_cut_off_changes_nothing(shop: Shop) -> None:
    body = json.dumps({**ORDER, "number": "CUT-1"}).encode()
    host, port = shop.url.removeprefix("http://").split(":")
    head = f"POST /v1/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {shop.tokens[Role.ADMIN]}\r\n"
    head += f"Idempotency-Key: cut\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])

    assert shop.get("/v1/orders/CUT-1").status_code == 404


def test_what_is_no_choice_is_told_what_there_is_to_choose_from(shop: Shop) -> None:
    held = shop.post("/v1/orders/ANY/holds", {"code": "fraud", "blocks": ["relase"]}).json()["problems"]
    assert held == [
        {"field": "blocks[0]", "reason": "invalid enum value 'relase'; it is one of sourcing, release"}]  # fmt: skip
    listed = shop.get("/v1/orders?state=gone").json()["problems"]
    assert "it is one of basket, received" in listed[0]["reason"]
    ended = shop.post("/v1/returns/RMA-9/end", {"state": "received"}).json()["problems"]
    assert ended[0]["reason"] == "invalid enum value 'received'; it is one of closed, cancelled, refused"
    at_stage = shop.get("/v1/shipments?node=MUC-DC&stage=eaten").json()["problems"]
    assert at_stage[0]["reason"] == "invalid enum value 'eaten'; it is one of released, picked, shipped, ready"


def test_no_lines_are_not_all_of_them(shop: Shop) -> None:
    path = f"/v1/orders/{shop.post('/v1/orders', ORDER).json()['number']}"
    assert shop.post(f"{path}/cancellations", {"lines": []}).status_code == 422
    assert shop.get(path).json()["state"] == "received"
    assert shop.post(f"{path}/cancellations", {"lines": None}).json()["state"] == "cancelled"


def texts_of(type_: Type, path: str) -> Iterator[tuple[str, StrType]]:
    """The texts in what an endpoint takes, with where they are."""
    match type_:
        case StrType():
            yield path, type_
        case StructType(fields=fields):
            for field in fields:
                yield from texts_of(field.type, f"{path}.{field.encode_name}")
        case UnionType(types=types):
            for each in types:
                yield from texts_of(each, path)
        case ListType(item_type=inside) | DictType(key_type=inside) | Metadata(type=inside):
            yield from texts_of(inside, path)


@pytest.mark.parametrize("endpoint", [each for each in TABLE if each.body or each.query], ids=lambda each: each.title)
def test_no_text_takes_a_newline_after_it(endpoint: Endpoint) -> None:
    for taken in (endpoint.body, endpoint.query):
        for path, text in texts_of(type_info(taken), "") if taken is not None else ():
            pattern = text.pattern
            if pattern is None:
                # Whoever reads it refuses it: there is no such item, zone, address or place in a list.
                assert path.rpartition(".")[2] in READ_OTHERWISE, path
                continue
            good = [each for each in ("a", "1", "DE", "EUR") if re.search(pattern, each)]
            assert good, path
            assert not any(re.search(pattern, f"{each}\n") for each in good), path
