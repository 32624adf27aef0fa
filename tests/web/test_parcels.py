"""Parcels over HTTP: how a node should pack what is to be sent, and what it says it has sent."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest

from poolwise.core.cartons import Parcel
from poolwise.core.values import parse_scaled
from tests.core import boxes
from tests.web.shop import ORDER, RULES, Shop
from tests.web.test_fulfilment import days, lists, read, report, said

numbers = (f"BOXED-{no}" for no in itertools.count())
REPORTS = "/v1/shipments/reports"
MUGS = [{"item": "MUG-BLUE", "quantity": "6"}]


@pytest.fixture(autouse=True)
def morning(shop: Shop) -> None:
    shop.clock.ahead = timedelta(days=next(days))


def ordered(shop: Shop, lines: list[dict[str, str]] = MUGS, **more: object) -> str:
    """An order that has been released to one node."""
    number = next(numbers)
    shop.post("/v1/orders", {**ORDER, "number": number, "lines": lines, "max_shipments": 1, **more})
    shop.decide()
    shop.release()
    return number


def parcels(shop: Shop, number: str) -> list[tuple[str, str, str]]:
    """Box, contents and tracking of the parcels of the only shipment, numbered from 1."""
    (shipment,) = read(shop, number)["shipments"]
    assert [each["no"] for each in shipment["parcels"]] == [*range(1, len(shipment["parcels"]) + 1)]
    return [
        (each["box"], " ".join(f"{line['item']}={line['quantity']}" for line in each["lines"]), each["tracking"])
        for each in shipment["parcels"]
    ]


def told(*parcel: tuple[str, str, str]) -> list[dict[str, object]]:
    return [
        {"tracking": tracking, "box": box, "lines": [{"item": "MUG-BLUE", "quantity": units}] if units else []}
        for tracking, box, units in parcel
    ]


def picked(shop: Shop, number: str) -> Any:
    node = read(shop, number)["shipments"][0]["node"]
    return next(each for each in lists(shop, node) if each["order"] == number)


def test_what_is_proposed_keeps_every_limit_and_is_the_same_in_list_and_order(shop: Shop) -> None:
    shop.stock("COFFEE", 500)
    wanted = {"MUG-BLUE": "30", "PAN": "3", "PLATE": "7", "KETTLE": "2", "COFFEE": "2.5"}
    number = ordered(shop, [{"item": item, "quantity": quantity} for item, quantity in wanted.items()])
    shown = picked(shop, number)
    edition = RULES.current().edition
    items = edition.catalog.items
    goods = [(items[item], parse_scaled(quantity, items[item].scale)) for item, quantity in wanted.items()]
    found = [
        Parcel(
            each["no"],
            each["box"],
            tuple((line["item"], parse_scaled(line["quantity"], items[line["item"]].scale)) for line in each["lines"]),
            parse_scaled(each["weight_kg"], 9),
        )
        for each in shown["parcels"]
    ]

    assert boxes.faults(boxes.Order(goods, list(edition.network.boxes_of(shown["node"]))), found) == []
    assert len(found) > 1
    assert read(shop, number)["shipments"][0]["parcels"] == shown["parcels"]


def test_chilled_goods_travel_apart_as_the_network_says(shop: Shop) -> None:
    shop.stock("CREAM", 50, "MUC-DC")
    number = ordered(shop, [{"item": "CREAM", "quantity": "2"}, *MUGS], service_level="express", zone="de-south")

    assert sorted(parcels(shop, number)) == [("M", "MUG-BLUE=6", ""), ("S", "CREAM=2", "")]


def test_a_partly_shipped_shipment_shows_what_has_left_and_how_to_pack_the_rest(shop: Shop) -> None:
    number = ordered(shop)
    before = parcels(shop, number)
    first = report(shop, number, "shipped", parcels=told(("T-1", "OWN", "1"), ("T-2", "", "2")))
    middle, left = parcels(shop, number), picked(shop, number)["parcels"]
    last = report(shop, number, "shipped", id=f"{number}-last", tracking="T-3")
    order = read(shop, number)

    assert (before, first, last) == ([("M", "MUG-BLUE=6", "")], "booked", "booked")
    assert middle == [("OWN", "MUG-BLUE=1", "T-1"), ("", "MUG-BLUE=2", "T-2"), ("S", "MUG-BLUE=3", "")]
    assert [(each["no"], each["box"], each["weight_kg"]) for each in left] == [(1, "S", "1.17")]
    assert parcels(shop, number) == [*middle[:2], ("", "MUG-BLUE=3", "T-3")]
    assert (order["lines"][0]["shipped"], order["shipments"][0]["stage"]) == ("6", "shipped")


def test_lines_count_where_parcels_have_them_too_and_parcels_without_any_are_of_all(shop: Shop) -> None:
    some, whole = ordered(shop), ordered(shop)
    report(shop, some, "shipped", "4", parcels=told(("T-1", "", "3"), ("T-2", "", "")))
    report(shop, whole, "shipped", parcels=told(("T-1", "", ""), ("T-2", "", "")))

    assert [read(shop, number)["lines"][0]["shipped"] for number in (some, whole)] == ["4", "6"]
    assert parcels(shop, some)[:2] == [("", "MUG-BLUE=3", "T-1"), ("", "", "T-2")]
    assert parcels(shop, whole) == [("", "", "T-1"), ("", "", "T-2")]


def test_parcels_that_are_told_late_are_shown_once_and_change_the_tag(shop: Shop) -> None:
    number = ordered(shop)
    seen = [report(shop, number, "delivered")]
    tags = [shop.get(f"/v1/orders/{number}").headers["ETag"]]
    for name in ("a", "b"):
        seen.append(report(shop, number, "shipped", id=f"{number}-{name}", parcels=told(("T-1", "S", "4"))))
        tags.append(shop.get(f"/v1/orders/{number}").headers["ETag"])

    assert seen == ["booked", "unchanged", "unchanged"]
    assert (tags[0] != tags[1], tags[1] == tags[2]) == (True, True)
    assert parcels(shop, number) == [("S", "MUG-BLUE=4", "T-1")]


@pytest.mark.parametrize("inside", ["1", "3"])
def test_parcels_that_hold_other_units_than_the_lines_are_refused(shop: Shop, inside: str) -> None:
    number = ordered(shop)
    body = {"id": f"{number}-x", "order": number, "shipment": 1, "kind": "shipped", "at": shop.clock().isoformat(),
            "lines": [{"item": "MUG-BLUE", "quantity": "2"}], "parcels": told(("T-1", "", inside))}  # fmt: skip
    answer = shop.post("/v1/shipments/reports", body)
    assert (answer.status_code, [each["field"] for each in answer.json()["problems"]]) == (422, ["parcels"])


WRONG: dict[str, tuple[str, list[dict[str, object]], list[str]]] = {
    "no such item": (
        "shipped",
        [{"tracking": "T", "lines": [*MUGS, {"item": "UNICORN", "quantity": "1"}]}],
        ["parcels[0].lines[1].item"],
    ),
    "nothing of it": (
        "shipped",
        [*told(("T", "", "1")), {"tracking": "U", "lines": [{"item": "PAN", "quantity": "0"}]}],
        ["parcels[1].lines[0].quantity"],
    ),
    "never in this shipment": (
        "shipped",
        [*told(("T", "", "1")), {"tracking": "U", "lines": [*MUGS, {"item": "PAN", "quantity": "1"}]}],
        ["parcels[1].lines[1].item"],
    ),
    "half a mug": ("shipped", told(("T", "", "0.5")), ["parcels[0].lines[0].quantity"]),
    "some with lines": ("shipped", told(("T", "", ""), ("U", "", "1")), ["parcels[0].lines"]),
    "one number for two": ("shipped", told(("T", "", "1"), ("T", "", "1")), ["parcels[1].tracking"]),
    "not shipped": ("delivered", told(("T", "", "1")), ["parcels"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_parcel_is_refused_by_its_field_and_nothing_has_left(case: str, shop: Shop) -> None:
    kind, sent, fields = WRONG[case]
    number = ordered(shop)
    answer = shop.post(REPORTS, said(shop, number, kind, parcels=sent))

    assert (answer.status_code, [p["field"] for p in answer.json()["problems"]]) == (422, fields)
    assert read(shop, number)["lines"][0]["shipped"] == "0"


@pytest.mark.parametrize("parcel", [{"box": "M"}, {"tracking": ""}, {"tracking": "T", "lines": [{"item": "PAN"}]}])
def test_a_parcel_of_another_form_is_refused(parcel: dict[str, object], shop: Shop) -> None:
    answer = shop.post(REPORTS, said(shop, "ANY", "shipped", parcels=[parcel]))

    assert (answer.status_code, answer.json()["problems"][0]["field"].split(".")[0]) == (422, "parcels[0]")


def test_nodes_show_the_boxes_in_which_they_pack(shop: Shop) -> None:
    shown = {node["code"]: node["boxes"] for node in shop.get("/v1/network/nodes").json()["nodes"]}

    assert [box["code"] for box in shown["HAM-DC"]] == ["L", "M", "S"]
    assert shown["BER-SHOP"] == [
        {"code": "BAG", "length_mm": 350, "width_mm": 250, "height_mm": 120, "max_weight_kg": "6", "fill": "0.7",
         "tare_kg": "0.03"}
    ]  # fmt: skip
