"""Scenario 18: a shipment is offered to three stores, the first claim wins; what it lacks comes from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.scenarios.stage import Stage, held, network, stock
from tests.scenarios.test_execution import blocked, picks, sent, stages, told
from tests.web.test_tour import HOW_TO, fits, steps

STORES = ("NEAR", "MIDDLE", "FAR")
ALL = (*STORES, "DEPOT")
SECOND = 100_001
"""The first shipment of the second decision."""


def bring(stage: Stage, units: Mapping[str, int], minutes: int = 30, most: int = 3) -> None:
    """Three stores, the near ones cheaper, and a depot that is dearer still. What stores are to send is offered."""
    offers = f"{{nodes: [{', '.join(STORES)}], minutes: {minutes}, most: {most}}}"
    counts = [("A", node, count) for node, count in units.items()]
    stage.bring({**network({"NEAR": 3, "MIDDLE": 4, "FAR": 5, "DEPOT": 8}, offers=offers), "stock.csv": stock(*counts)})


def ordered(stage: Stage, wanted: int, number: str = "O-1") -> Any:
    """An order, an hour after it was decided."""
    stage.order([{"item": "A", "quantity": str(wanted)}], number=number)
    stage.pass_time(hours=1)
    stage.work()
    return stage.get(f"/v1/orders/{number}")


def offered(stage: Stage, node: str, limit: int = 50) -> list[tuple[str, int, str]]:
    """What is offered to a node, read page by page: orders, shipments and units."""
    found: list[Any] = []
    path = f"/v1/offers?node={node}&limit={limit}"
    page = stage.get(path)
    found += page["offers"]
    while page["next"]:
        page = stage.get(f"{path}&cursor={page['next']}")
        found += page["offers"]
    return [(each["order"], each["shipment"], each["lines"][0]["quantity"]) for each in found]


def replied(stage: Stage, what: str, node: str, number: str = "O-1", shipment: int = 1, key: str = "") -> Any:
    """The answer to a claim, or to a decline: its status, and the shipment or the code of the refusal."""
    answer = stage.post(f"/v1/offers/{what}", {"order": number, "shipment": shipment, "node": node}, key)
    said = answer.json()
    return answer.status_code, said["shipment" if answer.status_code == 200 else "code"]


def scores(stage: Stage, node: str) -> list[tuple[int, int, str]]:
    """What a node found and missed, and how likely it is to miss the next one."""
    picks_ = stage.get(f"/v1/network/picks?node={node}")["picks"]
    return [(each["found"], each["missed"], each["miss_percent"]) for each in picks_]


@pytest.mark.parametrize(
    ("wanted", "missing", "units", "minutes"),
    [
        (3, 1, {"NEAR": 5, "MIDDLE": 7, "FAR": 3, "DEPOT": 4}, 30),
        (6, 4, {"NEAR": 6, "MIDDLE": 6, "FAR": 9, "DEPOT": 2}, 7),
    ],
)
def test_the_second_store_claims_it_and_what_it_does_not_find_comes_from_elsewhere(
    stage: Stage, wanted: int, missing: int, units: Mapping[str, int], minutes: int
) -> None:
    bring(stage, units, minutes)
    order = ordered(stage, wanted)
    assert (stages(order), held(order)) == ({1: ("NEAR", "offered")}, {("A", "NEAR"): wanted})
    assert {node: offered(stage, node) for node in ALL} == {
        **{node: [("O-1", 1, str(wanted))] for node in STORES}, "DEPOT": []}  # fmt: skip
    assert [picks(stage, node) for node in ALL] == [[]] * 4
    stage.pass_time(minutes=minutes - 1)
    stage.work()
    stage.post("/v1/orders/O-1/holds", {"code": "fraud", "blocks": ["release"]})
    assert [offered(stage, node) for node in ALL] == [[]] * 4
    stage.post("/v1/orders/O-1/holds/fraud/lift", None)

    assert replied(stage, "claims", "MIDDLE") == (200, SECOND)
    assert [replied(stage, "claims", node) for node in ("NEAR", "FAR")] == [(409, "offer_taken")] * 2
    assert [offered(stage, node) for node in ALL] == [[]] * 4
    assert (picks(stage, "MIDDLE"), picks(stage, "NEAR")) == ([(SECOND, wanted)], [])
    order = stage.get("/v1/orders/O-1")
    assert held(order) == {("A", "MIDDLE"): wanted}
    assert stage.why(order)["plan"]["shipments"][0]["node"] == "MIDDLE"
    kinds = [each["kind"] for each in stage.get("/v1/orders/O-1/timeline")["happenings"]]
    assert [kind for kind in kinds if kind in ("claimed", "sourced", "reserved", "released")][-4:] == [
        "claimed", "sourced", "reserved", "released"]  # fmt: skip
    assert stage.available("A") == str(sum(units.values()) - wanted)

    assert scores(stage, "MIDDLE") == []
    assert told(stage, sent(stage, "O-1", SECOND, "short", missing)) == ["booked"]
    ((found, missed, percent),) = scores(stage, "MIDDLE")
    assert (found, missed) == (0, 1)
    assert list(blocked(stage).values()) == [missing]
    stage.work()
    order = stage.get("/v1/orders/O-1")
    places = held(order)
    assert places.pop(("A", "MIDDLE")) == wanted - missing
    assert sum(places.values()) == missing
    # What cannot be had is nowhere: it is not promised, and it was not sent for from the store that lacks it.
    assert stage.available("A") == str(sum(units.values()) - wanted - missing)
    told(stage, sent(stage, "O-1", SECOND, "shipped"))
    stage.pass_time(hours=1)
    stage.work()
    (third,) = [no for no in stages(stage.get("/v1/orders/O-1")) if no > SECOND]
    assert replied(stage, "claims", "NEAR", shipment=third) == (200, third)
    told(stage, sent(stage, "O-1", third, "shipped"))
    ((found, missed, less),) = scores(stage, "NEAR")
    assert (found, missed, float(less) < float(percent)) == (1, 0, True)
    assert stage.get("/v1/orders/O-1")["state"] == "shipped"
    stage.prove()


@pytest.mark.parametrize(("wanted", "minutes"), [(2, 30), (5, 90)])
def test_when_nobody_claims_it_in_time_the_depot_sends_it(stage: Stage, wanted: int, minutes: int) -> None:
    bring(stage, dict.fromkeys(ALL, wanted), minutes)
    ordered(stage, wanted)
    stage.pass_time(minutes=minutes)
    assert replied(stage, "claims", "FAR") == (409, "offer_over")
    stage.work()
    order = stage.get("/v1/orders/O-1")
    assert held(order) == {("A", "DEPOT"): wanted}
    assert stages(order) == {1: ("NEAR", "cancelled"), SECOND: ("DEPOT", "planned")}
    assert [event["nodes"] for event in stage.events("offer.expired")] == [list(STORES)]
    assert replied(stage, "declines", "FAR") == (409, "offer_over")
    stage.prove()


def test_when_all_have_declined_nobody_waits_for_the_time_to_pass(stage: Stage) -> None:
    bring(stage, dict.fromkeys(ALL, 4))
    ordered(stage, 4)
    assert [replied(stage, "declines", node) for node in STORES] == [(200, 1)] * 3
    stage.work()
    assert held(stage.get("/v1/orders/O-1")) == {("A", "DEPOT"): 4}
    assert len(stage.events("offer.declined")) == 3
    stage.prove()


def test_a_claim_whose_stock_is_gone_is_refused_for_good_and_the_others_are_still_asked(stage: Stage) -> None:
    bring(stage, dict.fromkeys(ALL, 4))
    ordered(stage, 4)
    count = {"item": "A", "node": "FAR", "pool": "P", "as_of": stage.clock().isoformat()}
    stage.post("/v1/stock/counts", {"counts": [{**count, "quantity": "3"}]})
    assert replied(stage, "claims", "FAR", key="far") == (409, "not_available")
    stage.pass_time(minutes=1)
    stage.post("/v1/stock/counts", {"counts": [{**count, "quantity": "9", "as_of": stage.clock().isoformat()}]})
    assert replied(stage, "claims", "FAR", key="far") == (409, "not_available")
    assert [offered(stage, node) for node in STORES] == [[("O-1", 1, "4")], [("O-1", 1, "4")], []]
    assert replied(stage, "claims", "NEAR", key="near") == (200, 1)
    assert replied(stage, "claims", "NEAR", key="near") == (200, 1)
    assert picks(stage, "NEAR") == [(1, 4)]
    stage.prove()


@pytest.mark.parametrize("rivals", [STORES, ("FAR", "MIDDLE"), ("NEAR", "FAR")])
def test_of_claims_that_come_at_the_same_time_one_wins(stage: Stage, rivals: Sequence[str]) -> None:
    bring(stage, dict.fromkeys(ALL, 4))
    ordered(stage, 4)
    with ThreadPoolExecutor(len(rivals)) as together:
        answers = list(together.map(lambda node: replied(stage, "claims", node), rivals))
    assert sorted(status for status, _ in answers) == [200, *[409] * (len(rivals) - 1)]
    assert {code for status, code in answers if status == 409} == {"offer_taken"}
    assert sum(units for node in ALL for _, units in picks(stage, node)) == 4
    stage.prove()


def test_a_store_reads_its_offers_page_by_page_those_that_end_first_at_first(stage: Stage) -> None:
    bring(stage, dict.fromkeys(ALL, 40), most=2)
    for place in range(3):
        stage.order([{"item": "A", "quantity": "1"}], number=f"P-{place}")
        stage.pass_time(minutes=5)
    stage.pass_time(minutes=18)
    for _ in range(3):
        stage.work()
        stage.pass_time(minutes=5)
    assert offered(stage, "MIDDLE", limit=1) == [(f"P-{place}", 1, "1") for place in range(3)]
    assert offered(stage, "FAR") == []


def test_every_request_of_the_how_to_answers_what_it_says(stage: Stage) -> None:
    """Under the policy that stands on the page."""
    page = HOW_TO / "offers.md"
    (policy,) = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    counts = stock(*[("A", node, 9) for node in ALL])
    rates = {"NEAR": 3, "MIDDLE": 4, "FAR": 5, "DEPOT": 8}
    stage.bring({**network(rates), "policy.yaml": policy, "stock.csv": counts})
    ordered(stage, 3, "WEB-1")
    found = list(steps(page))
    assert len(found) == page.read_text().count("```http") == 4
    for method, path, headers, body, expected in found:
        if b"WEB-2" in body:
            ordered(stage, 3, "WEB-2")
        if method == "GET":
            answer = stage.get(path)
        else:
            answer = stage.post(path, json.loads(body), headers["Idempotency-Key"]).json()
        assert fits(answer, expected), f"{method} {path}: {answer}"
