"""Purchase orders over HTTP: what a supplier is told of what he has to send, and what he is not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from poolwise.flows.timers import run_timers
from poolwise.flows.tokens import Role
from tests.web.shop import Shop

TO = {"country": "DE", "postcode": "80331", "name": "Ada", "street": "Marienplatz 1", "city": "Munich", "phone": "112"}
PLACED = "/v1/purchase-orders?partner=blech"


@pytest.fixture(autouse=True)
def only_he_has_it(shop: Shop) -> Iterator[None]:
    """Pans are nowhere else."""
    for node, units in (("HAM-DC", 0), ("MUC-DC", 0), ("ZRH-SUP", 100)):
        shop.stock("PAN", units, node)
    yield
    shop.stock("PAN", 1_000, "HAM-DC")
    shop.stock("PAN", 1_000, "MUC-DC")


def bought(shop: Shop, number: str, lines: list[dict[str, str]], **more: object) -> Any:
    """An order that has been released to the supplier."""
    order = {"number": number, "channel": "web", "ship_to": TO, "lines": lines, **more}
    answer = shop.post("/v1/orders", order)
    assert answer.status_code == 201, answer.text
    shop.decide()
    shop.clock.ahead += timedelta(days=7)
    run_timers(shop.services.books, shop.desk(), 0, shop.clock(), 100)
    return shop.get(f"/v1/orders/{number}").json()


def listed(shop: Shop, limit: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    path: str | None = f"{PLACED}&limit={limit}"
    while path is not None:
        page = shop.get(path).json()
        assert len(page["purchase_orders"]) <= limit
        found |= {each["number"]: each for each in page["purchase_orders"]}
        path = f"{PLACED}&limit={limit}&cursor={page['next']}" if page["next"] else None
    return found


@pytest.mark.parametrize("limit", [1, 50])
def test_what_is_released_to_a_supplier_is_a_purchase_order(shop: Shop, limit: int) -> None:
    numbers = [f"BUY-{limit}-{n}" for n in (1, 2)]
    before = {*listed(shop, limit)}
    shipments = [bought(shop, n, [{"item": "PAN", "quantity": "2"}])["shipments"][0] for n in numbers]
    found = listed(shop, limit)
    one = found[f"{numbers[0]}-1"]

    assert {*found} - before == {f"{number}-1" for number in numbers}
    assert (one["order"], one["shipment"], one["node"], one["partner"], one["stage"]) == (
        numbers[0], 1, "ZRH-SUP", "blech", "released")  # fmt: skip
    assert (one["zone"], one["to_node"], one["ship_on"]) == ("de-south", None, shipments[0]["ship_on"])
    (line,) = one["lines"]
    assert (line["item"], line["identifier"], line["quantity"], line["open"]) == ("PAN", "BG-4410", "2", "2")
    assert one["amount"] == line["amount"] == str(2 * float(line["unit_cost"]))
    assert (one["currency"], one["placed_at"] is None) == ("EUR", False)


def test_only_who_may_act_reads_where_it_goes_and_no_list_does(shop: Shop) -> None:
    bought(shop, "WHERE", [{"item": "PAN", "quantity": "1"}])
    path = "/v1/purchase-orders/WHERE-1"
    seen = {role: shop.get(path, role=role).json()["ship_to"] for role in Role}

    needed = {name: TO[name] for name in ("name", "street", "postcode", "city", "country")}
    assert seen == {Role.VIEWER: None, Role.OPERATOR: needed, Role.INTEGRATOR: needed, Role.ADMIN: needed}
    assert "Ada" not in shop.get(f"{PLACED}&limit=200", role=Role.ADMIN).text


def test_it_is_placed_once_with_the_costs_of_then_and_names_nobody(shop: Shop) -> None:
    bought(shop, "PLACED", [{"item": "PAN", "quantity": "3"}])
    shop.number_events()
    events = [each.event for each in shop.services.feed.after({0: 0}, 10_000)]
    placed = [each for each in events if each.type == "purchase_order.placed" and each.data["order"] == "PLACED"]

    assert len(placed) == 1
    told = placed[0].data
    shown = shop.get("/v1/purchase-orders/PLACED-1").json()["lines"][0]
    assert (told["number"], told["partner"]) == ("PLACED-1", "blech")
    assert told["lines"] == [
        {"item": "PAN", "identifier": "BG-4410", "quantity": "3", "unit_cost": shown["unit_cost"]}]  # fmt: skip
    assert "Ada" not in str(told)


def test_the_supplier_answers_with_reports(shop: Shop) -> None:
    bought(shop, "ANSWER", [{"item": "PAN", "quantity": "3"}])
    path = "/v1/purchase-orders/ANSWER-1"

    def said(kind: str, *lines: dict[str, str]) -> Any:
        at = shop.clock().isoformat()
        body = {"id": f"A-{kind}", "order": "ANSWER", "shipment": 1, "kind": kind, "at": at, "lines": list(lines)}
        assert shop.post("/v1/shipments/reports", body).json() == {"outcome": "booked"}
        found = shop.get(path).json()
        return found["stage"], [(line["quantity"], line["open"]) for line in found["lines"]]

    assert said("accepted") == ("released", [("3", "3")])
    assert said("short", {"item": "PAN", "quantity": "1"}) == ("released", [("2", "2")])
    assert said("shipped") == ("shipped", [("2", "0")])
    assert "ANSWER-1" not in listed(shop, 50)


@pytest.mark.parametrize("number", ["NOBODY-1", "NOBODY", "-1", "WHO-x", "OURS-1", "EARLY-1", "EARLY-7"])
def test_what_was_never_placed_is_unknown(shop: Shop, number: str) -> None:
    order = {"channel": "web", "ship_to": TO}
    shop.post("/v1/orders", {**order, "number": "OURS", "lines": [{"item": "MUG-BLUE", "quantity": "1"}]})
    shop.post("/v1/orders", {**order, "number": "EARLY", "lines": [{"item": "PAN", "quantity": "1"}]})
    shop.decide()

    answer = shop.get(f"/v1/purchase-orders/{number}")
    assert (answer.status_code, answer.json()["code"]) == (404, "purchase_order_unknown")
