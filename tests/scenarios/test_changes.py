"""Scenario 24 through the public API: a hold, more after some has left, and a cancellation that races with a pick."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Barrier, Thread
from typing import Any

import pytest

from tests.scenarios.stage import Stage, held, network, stock
from tests.scenarios.test_execution import picks, sent, stages, told


def bring(stage: Stage, here: int, there: int) -> None:
    """A store that is near, and a depot that is dearer."""
    stage.bring({**network({"STORE": 3, "DEPOT": 8}), "stock.csv": stock(("A", "STORE", here), ("A", "DEPOT", there))})


def changed(stage: Stage, number: str, what: str, body: object = None) -> Any:
    """An order after a change of it."""
    answer = stage.post(f"/v1/orders/{number}/{what}", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def units(order: Mapping[str, Any], no: int = 1) -> dict[str, int]:
    """Where the units of a line stand."""
    names = ("open", "reserved", "pledged", "backordered", "released", "shipped", "cancelled")
    return {name: int(order["lines"][no - 1][name]) for name in names if order["lines"][no - 1][name] != "0"}


def later(stage: Stage, hours: int = 1) -> None:
    """Time passes, and what is due is done."""
    stage.pass_time(hours=hours)
    stage.work()


@pytest.mark.parametrize(("wanted", "more", "here", "there"), [(3, 5, 3, 4), (4, 11, 6, 9)])
def test_a_fraud_hold_then_more_after_one_has_left(stage: Stage, wanted: int, more: int, here: int, there: int) -> None:
    bring(stage, here, there)
    order = stage.order([{"item": "A", "quantity": str(wanted)}], number="O-1")
    order = changed(stage, "O-1", "holds", {"code": "fraud", "blocks": ["release"], "reason": "new address"})
    assert order["holds"] == [{"code": "fraud", "blocks": ["release"]}]
    later(stage)
    # The hold blocks the release and nothing else: the stock stays where it is, reserved.
    assert (picks(stage, "STORE"), held(stage.get("/v1/orders/O-1"))) == ([], {("A", "STORE"): wanted})
    assert stage.available("A") == str(here + there - wanted)
    changed(stage, "O-1", "holds/fraud/lift")
    stage.work()
    assert picks(stage, "STORE") == [(1, wanted)]

    told(stage, sent(stage, "O-1", 1, "shipped", 1))
    order = changed(stage, "O-1", "amendments", {"lines": [{"no": 1, "quantity": str(more)}]})
    assert units(order) == {"released": wanted - 1, "shipped": 1, "backordered": more - wanted}
    stage.work()
    order = stage.get("/v1/orders/O-1")
    assert (order["lines"][0]["quantity"], units(order)) == (
        str(more), {"released": wanted - 1, "shipped": 1, "reserved": more - wanted})  # fmt: skip
    stage.why(order)
    assert stage.get("/v1/orders/O-1/explanation?attempt=1")["same"] is True
    told(stage, sent(stage, "O-1", 1, "shipped"))
    later(stage)
    for no, (_, where) in stages(stage.get("/v1/orders/O-1")).items():
        if where == "released":
            told(stage, sent(stage, "O-1", no, "shipped"))
    order = stage.get("/v1/orders/O-1")
    assert (order["state"], units(order)) == ("shipped", {"shipped": more})
    stage.prove()


@pytest.mark.parametrize("rounds", [8])
def test_a_cancellation_and_a_pick_that_race_have_one_winner(stage: Stage, rounds: int) -> None:
    bring(stage, 2 * rounds, 5)
    for n in range(rounds):
        number = f"R-{n}"
        stage.order([{"item": "A", "quantity": "2"}], number=number)
        later(stage)
        start, answers = Barrier(2), {}

        def send(name: str, path: str, body: object, start: Barrier = start, answers: Any = answers) -> None:
            start.wait()
            answers[name] = stage.post(path, body)

        threads = [
            Thread(target=send, args=("pick", "/v1/shipments/reports", sent(stage, number, 1, "picked"))),
            Thread(target=send, args=("cancel", f"/v1/orders/{number}/cancellations", {})),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        order = stage.get(f"/v1/orders/{number}")
        (pick, cancel) = (answers["pick"], answers["cancel"])
        assert pick.status_code == 200, pick.text
        if cancel.status_code == 200:
            assert (pick.json()["outcome"], units(order), stages(order)) == (
                "cancelled", {"cancelled": 2}, {1: ("STORE", "cancelled")})  # fmt: skip
        else:
            assert (cancel.status_code, cancel.json()["code"]) == (409, "too_late")
            assert (pick.json()["outcome"], units(order), stages(order)) == (
                "booked", {"released": 2}, {1: ("STORE", "picked")})  # fmt: skip
    stage.prove()


def test_the_same_change_again_has_one_effect_and_one_answer(stage: Stage) -> None:
    bring(stage, 9, 9)
    stage.order([{"item": "A", "quantity": "6"}], number="O-2")
    body = {"lines": [{"no": 1, "quantity": "2"}]}
    answers = [stage.post("/v1/orders/O-2/cancellations", body, key="once") for _ in range(3)]
    assert [(each.status_code, units(each.json())) for each in answers] == [(200, {"reserved": 4, "cancelled": 2})] * 3
    body = {"lines": [{"no": 1, "quantity": "5"}]}
    late = [stage.post("/v1/orders/O-2/cancellations", body, key="late") for _ in range(2)]
    assert [(each.status_code, each.json()["code"]) for each in late] == [(409, "too_late")] * 2
    reason = "at most 4 can still be given up: of 6 there are 2 cancelled"
    assert late[0].json()["problems"] == [{"field": "lines[0].quantity", "reason": reason}]
    stage.prove()


def test_an_order_says_what_may_be_done_with_it(stage: Stage) -> None:
    bring(stage, 9, 9)
    order = stage.order([{"item": "A", "quantity": "6"}], number="O-3")
    assert {each["action"] for each in order["allowed_actions"] if each["allowed"]} == {
        "explain", "cancel", "amend", "hold"}  # fmt: skip
    later(stage)
    told(stage, sent(stage, "O-3", 1, "picked"))
    actions = {each["action"]: each["reason"] for each in stage.get("/v1/orders/O-3")["allowed_actions"]}
    assert actions["cancel"] == "all of it is picked, or has left"
