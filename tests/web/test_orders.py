"""Orders over HTTP: accepted once and for good, read back at once, listed page by page, explained."""

from __future__ import annotations

import threading
import time

from tests.web.shop import BASKET, ORDER, Shop, new_key


def test_an_accepted_order_is_read_back_at_once_with_all_its_lines(shop: Shop) -> None:
    order = {
        **ORDER,
        "number": "A-1",
        "lines": [*ORDER["lines"], {"item": "MUG-GREEN", "quantity": "1", "pack": "case"}],
    }

    answer = shop.post("/v1/orders", order)
    read = shop.get(answer.headers["Location"]).json()

    assert (answer.status_code, answer.json()["number"]) == (201, "A-1")
    assert (read["state"], [(line["item"], line["quantity"], line["open"]) for line in read["lines"]]) == (
        "received",
        [("MUG-BLUE", "2", "2"), ("MUG-GREEN", "12", "12")],
    )
    assert read["allowed_actions"][:1] == [
        {"action": "explain", "allowed": False, "reason": "the order still waits to be decided"}
    ]


def test_an_order_without_a_number_is_given_one_that_leads_to_it(shop: Shop) -> None:
    answer = shop.post("/v1/orders", ORDER).json()

    assert answer["number"].startswith("PW-")
    assert shop.get(f"/v1/orders/{answer['number']}").json()["id"] == answer["id"]
    assert shop.get(f"/v1/orders/{answer['id']}").json()["number"] == answer["number"]


def test_the_same_number_is_the_same_order_and_another_content_is_refused(shop: Shop) -> None:
    first = shop.post("/v1/orders", {**ORDER, "number": "A-2"}).json()
    again = shop.post("/v1/orders", {**ORDER, "number": "A-2"})
    other = shop.post("/v1/orders", {**ORDER, "number": "A-2", "channel": "store"})

    assert (again.status_code, again.json()) == (201, first)
    assert (other.status_code, other.json()["problems"][0]["field"]) == (409, "number")


def test_every_reason_is_given_at_once_and_nothing_is_kept(shop: Shop) -> None:
    order = {"number": "A-3", "channel": "web", "zone": "nowhere", "service_level": "never", "lines": [
        {"item": "UNICORN", "quantity": "1"}, {"item": "MUG-BLUE", "quantity": "0.5"}]}  # fmt: skip

    answer = shop.post("/v1/orders", order)

    assert answer.status_code == 422
    assert {problem["field"] for problem in answer.json()["problems"]} == {
        "zone", "service_level", "lines[0].item", "lines[1].quantity",
    }  # fmt: skip
    assert shop.get("/v1/orders/A-3").status_code == 404


def test_bulk_accepts_and_refuses_order_by_order(shop: Shop) -> None:
    orders = [{**ORDER, "number": "B-1"}, {**ORDER, "zone": "nowhere"}, ORDER, {**ORDER, "number": "B-1"}]
    key = new_key()

    answer = shop.post("/v1/orders:bulk", {"orders": orders}, key)
    again = shop.post("/v1/orders:bulk", {"orders": orders}, key)

    said = answer.json()
    assert (answer.status_code, said["accepted"], said["refused"]) == (200, 3, 1)
    assert said["outcomes"][1]["refused"]["problems"][0]["field"] == "zone"
    assert said["outcomes"][0] == said["outcomes"][3]
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (said, "true")


def test_lists_come_in_pages_without_loss_or_repeat(shop: Shop) -> None:
    numbers = [f"L-{place}" for place in range(7)]
    for number in numbers:
        shop.post("/v1/orders", {**ORDER, "number": number, "customer": "lister"})

    seen, path = [], "/v1/orders?customer=lister&limit=3"
    while path:
        page = shop.get(path).json()
        seen += [head["number"] for head in page["orders"]]
        path = f"/v1/orders?customer=lister&limit=3&cursor={page['next']}" if page["next"] else ""

    assert seen == numbers[::-1]


def test_an_order_that_has_not_changed_is_not_sent_again(shop: Shop) -> None:
    shop.post("/v1/orders", {**ORDER, "number": "E-1"})
    tag = shop.get("/v1/orders/E-1").headers["ETag"]

    unchanged = shop.get("/v1/orders/E-1", **{"If-None-Match": tag})
    shop.decide()
    changed = shop.get("/v1/orders/E-1", **{"If-None-Match": tag})

    assert (unchanged.status_code, changed.status_code) == (304, 200)
    assert changed.json()["state"] == "sourced"


def test_who_waits_gets_the_plan(shop: Shop) -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            shop.decide()
            time.sleep(0.01)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        answer = shop.post("/v1/orders", {**ORDER, "number": "W-1"}, Prefer="wait=10")
    finally:
        stop.set()
        worker.join()

    assert (answer.status_code, answer.headers["Preference-Applied"]) == (201, "wait=10")
    assert (answer.json()["state"], len(answer.json()["shipments"])) == ("sourced", 1)


def test_who_waits_in_vain_is_told_that_the_order_waits(shop: Shop) -> None:
    answer = shop.post("/v1/orders", {**ORDER, "number": "W-2"}, Prefer="respond-async, wait=1")

    assert (answer.status_code, answer.json()["number"]) == (202, "W-2")


def test_a_decision_is_explained_from_what_was_stored(shop: Shop) -> None:
    shop.post("/v1/orders", {**ORDER, "number": "X-1"})
    before = shop.get("/v1/orders/X-1/explanation")
    shop.decide()
    explained = shop.get("/v1/orders/X-1/explanation").json()

    assert (before.status_code, before.json()["code"]) == (404, "decision_unknown")
    assert (explained["same"], explained["attempt"]) == (True, 1)
    assert {"HAM-DC", "MUC-DC"} <= {candidate["node"] for candidate in explained["candidates"]}


def test_a_basket_is_set_aside_read_ordered_and_given_back(shop: Shop) -> None:
    held = shop.post("/v1/reservations", BASKET)
    place = held.headers["Location"]
    freed = shop.post(f"{place}/free", None)
    gone = shop.post("/v1/orders", {**ORDER, "reservation": held.json()["id"]})

    assert (held.status_code, held.json()["lines"][0]["held"]) == (201, "2")
    assert (freed.json()["state"], freed.json()["lines"][0]["held"]) == ("ended", "0")
    assert shop.get(place).json()["allowed_actions"][0]["allowed"] is False
    assert gone.status_code == 409
    assert shop.get(f"/v1/orders/R-{held.json()['id']}").status_code == 404


def test_a_basket_that_cannot_be_had_is_refused_line_by_line(shop: Shop) -> None:
    answer = shop.post("/v1/reservations", {**BASKET, "lines": [{"item": "MUG-BLUE", "quantity": "9999999"}]})

    assert (answer.status_code, answer.json()["problems"][0]["field"]) == (409, "lines[0]")
