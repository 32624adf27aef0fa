"""A refusal is an answer: kept under its key, the same whatever happens meanwhile, and never an effect later."""

from __future__ import annotations

import pytest

from tests.web.shop import BASKET, ORDER, Shop, new_key


@pytest.mark.parametrize("alone", [True, False])
def test_a_refused_order_stays_refused_under_its_key(shop: Shop, alone: bool) -> None:
    path = "/v1/orders" if alone else "/v1/orders:bulk"
    number = f"TAKEN-{alone}"
    order = {**ORDER, "number": number, "lines": [{"item": "UNICORN", "quantity": "1"}]}
    body = order if alone else {"orders": [order, {**ORDER, "number": f"GOOD-{alone}"}]}
    key = new_key()

    first, again = shop.post(path, body, key), shop.post(path, body, key)

    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert (first.headers.get("Idempotency-Replayed"), again.headers["Idempotency-Replayed"]) == (None, "true")
    corrected = shop.post(path, {"orders": [ORDER]} if not alone else ORDER, key)
    assert (corrected.status_code, corrected.json()["code"]) == (422, "key_reused")
    assert shop.get(f"/v1/orders/{number}").status_code == 404


def test_a_basket_that_was_not_available_is_not_set_aside_when_stock_comes(shop: Shop) -> None:
    basket = {**BASKET, "lines": [{"item": "CREAM", "quantity": "3"}], "service_level": "express", "zone": "de-south"}
    key = new_key()

    before = shop.post("/v1/reservations", basket, key)
    shop.stock("CREAM", 40, "MUC-DC")
    after, fresh = shop.post("/v1/reservations", basket, key), shop.post("/v1/reservations", basket)

    assert (before.status_code, after.status_code, fresh.status_code) == (409, 409, 201)
    assert after.json() == before.json()


def test_a_basket_sent_again_is_the_same_though_it_took_the_last_unit(shop: Shop) -> None:
    shop.stock("COFFEE", 1, "HAM-DC")
    shop.stock("COFFEE", 0, "MUC-DC")
    basket = {**BASKET, "lines": [{"item": "COFFEE", "quantity": "1"}]}
    key = new_key()

    answers = [shop.post("/v1/reservations", basket, key) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_what_was_not_understood_leaves_its_key_free(shop: Shop) -> None:
    key = new_key()
    answers = [shop.post("/v1/orders", body, key).status_code for body in ({"channel": 1}, ORDER)]

    assert answers == [422, 201]


def test_a_kept_refusal_repeats_nothing_about_the_address(shop: Shop) -> None:
    nowhere = {**ORDER, "zone": "", "ship_to": {"country": "FR", "postcode": "75001", "name": "Ada Example"}}
    key = new_key()
    first, again = shop.post("/v1/orders", nowhere, key).json(), shop.post("/v1/orders", nowhere, key).json()

    assert "75001" in first["problems"][0]["reason"]
    assert [problem["field"] for problem in again["problems"]] == [problem["field"] for problem in first["problems"]]
    assert "75001" not in str(shop.rows(b"SELECT reference FROM answer"))
    assert "75001" not in str(again)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/stock/counts", {"counts": [{"item": "UNICORN", "node": "HAM-DC", "pool": "web", "quantity": "1",
                                          "as_of": "2026-01-12T08:00:00Z"}]}),
        ("/v1/stock/movements", {"movements": [{"id": "M", "item": "UNICORN", "node": "HAM-DC", "pool": "web",
                                                "quantity": "1", "source": "outside", "target": "available",
                                                "at": "2026-01-12T08:00:00Z"}]}),
        ("/v1/receipts", {"receipts": [{"reference": "R", "item": "UNICORN", "node": "HAM-DC", "pool": "web",
                                        "quantity": "1", "due_on": "2026-02-01"}]}),
    ],
)  # fmt: skip
def test_outcomes_are_kept_also_where_every_statement_was_refused(shop: Shop, path: str, body: object) -> None:
    key = new_key()
    first, again = shop.post(path, body, key), shop.post(path, body, key)

    assert (first.json()["refused"], again.json()) == (1, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
