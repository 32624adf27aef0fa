"""Scenarios 1 and 2: the last units, reserved by many at once, or by one who asks again and again."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.front import Api, Ask, Clients, Told
from poolwise.flows.tokens import Role
from tests.scenarios.stage import Stage, held, network, stock

MINUTES = 60


def basket(quantity: int, minutes: int = 15) -> dict[str, object]:
    return {"channel": "web", "zone": "Z", "expires_in_seconds": minutes * MINUTES,
            "lines": [{"item": "A", "quantity": str(quantity)}]}  # fmt: skip


async def all_at_once(stage: Stage, requests: int) -> list[Told]:
    """As many connections as requests, each with its own key."""
    port = int(stage.url.rpartition(":")[2])
    body = json.dumps(basket(1)).encode()
    asks = [Ask("POST", "/v1/reservations", body, {"Idempotency-Key": f"many-{n}"}) for n in range(requests)]
    clients = Clients(Api(port, stage.tokens[Role.INTEGRATOR], process=0))
    answers = await clients.as_fast_as_it_goes(asks, requests)
    clients.close()
    return answers


@pytest.mark.parametrize(("units", "requests"), [(1, 500), (7, 120)])
def test_as_many_succeed_as_there_are_units_and_all_others_are_refused_clearly(
    stage: Stage, units: int, requests: int
) -> None:
    stage.bring(
        {**network({"N": 5, "M": 6}), "stock.csv": stock(("A", "N", units - units // 2), ("A", "M", units // 2))}
    )

    answers = asyncio.run(all_at_once(stage, requests))

    assert Counter(answer.status for answer in answers) == {201: units, 409: requests - units}
    refusals = [json.loads(answer.body) for answer in answers if answer.status == 409]
    assert {refusal["code"] for refusal in refusals} == {"not_available"}
    assert {refusal["problems"][0]["field"] for refusal in refusals} == {"lines[0]"}
    assert stage.available("A") == "0"
    stage.prove()


@pytest.mark.parametrize(("there", "wanted", "minutes"), [(100, 20, 15), (37, 37, 4)])
def test_a_reservation_sent_three_times_holds_once_shows_at_once_and_ends_on_the_minute(
    stage: Stage, there: int, wanted: int, minutes: int
) -> None:
    stage.bring({**network({"N": 5}), "stock.csv": stock(("A", "N", there))})

    answers = [stage.post("/v1/reservations", basket(wanted, minutes), key="same") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true", "true"]
    assert {stage.available("A", channel) for channel in ("web", "store", "marketplace")} == {str(there - wanted)}

    stage.pass_time(minutes=minutes, microseconds=-1)
    stage.work()
    assert stage.available("A") == str(there - wanted)
    stage.pass_time(microseconds=1)
    stage.work()
    assert stage.available("A") == str(there)
    assert stage.get(f"/v1/reservations/{answers[0].json()['id']}")["state"] == "ended"
    stage.prove()


def test_the_same_key_at_the_same_moment_holds_once(stage: Stage) -> None:
    stage.bring({**network({"N": 5}), "stock.csv": stock(("A", "N", 100))})

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: stage.post("/v1/reservations", basket(20), key="same"), range(8)))

    assert {answer.json().get("code", "made") for answer in answers} <= {"made", "in_progress"}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert stage.available("A") == "80"


@pytest.mark.parametrize("by_file", [False, True])
@pytest.mark.parametrize(("there", "set_aside", "ordered"), [(100, 20, 20), (50, 12, 30)])
def test_an_order_takes_its_reservation_over_in_one_commit(
    stage: Stage, there: int, set_aside: int, ordered: int, by_file: bool
) -> None:
    stage.bring({**network({"N": 5}), "stock.csv": stock(("A", "N", there))})
    made = stage.post("/v1/reservations", basket(set_aside)).json()

    if by_file:
        stage.bring({"orders.csv": f"order,channel,zone,item,quantity,reservation\nO,web,Z,A,{ordered},{made['id']}\n"})
    else:
        body = {"number": "O", "channel": "web", "zone": "Z", "reservation": made["id"],
                "lines": [{"item": "A", "quantity": str(ordered)}]}  # fmt: skip
        assert stage.post("/v1/orders", body).status_code == 201

    # Before any worker: the order has the reserved units already, and nobody else could have had them meanwhile.
    assert stage.available("A") == str(there - set_aside)
    assert held(stage.get("/v1/orders/O")) == {("A", "N"): set_aside}
    assert stage.get(f"/v1/reservations/{made['id']}")["state"] == "ended"
    stage.work()
    stage.pass_time(hours=1)
    stage.work()
    assert held(stage.get("/v1/orders/O")) == {("A", "N"): ordered}
    assert stage.available("A") == str(there - ordered)
    again = stage.post("/v1/orders", {"channel": "web", "zone": "Z", "reservation": made["id"],
                                      "lines": [{"item": "A", "quantity": "1"}]})  # fmt: skip
    assert again.json()["code"] == "reservation_gone"
    stage.prove()
