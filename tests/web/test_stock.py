"""Stock over HTTP: statements are booked, and what may be promised follows at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from poolwise.core.values import Refused
from poolwise.flows.tokens import Role
from poolwise.web.endpoint import Actor, Reply, Request
from poolwise.web.routes import availability as availability_endpoint
from tests.web.shop import OPENED, ORDER, Shop

COUNT = {"item": "CREAM", "node": "HAM-DC", "pool": "web", "basis": "available"}


def available(shop: Shop, item: str, query: str = "") -> dict[str, object]:
    answer = shop.get(f"/v1/availability?items={item}&channel=web{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()["items"][0]


def counted(shop: Shop, item: str, quantity: str) -> None:
    as_of = shop.clock().isoformat()
    said = shop.post("/v1/stock/counts", {"counts": [{**COUNT, "item": item, "quantity": quantity, "as_of": as_of}]})
    assert said.json()["outcomes"][0]["outcome"] in ("booked", "unchanged"), said.text


def test_a_count_is_seen_at_once(shop: Shop) -> None:
    counted(shop, "KETTLE", "40")
    before = int(available(shop, "KETTLE", "&nodes=HAM-DC")["now"])
    counted(shop, "KETTLE", "7")

    assert int(available(shop, "KETTLE", "&nodes=HAM-DC")["now"]) == before - 33


def test_an_older_count_is_ignored_and_a_movement_is_booked_once(shop: Shop) -> None:
    counted(shop, "COFFEE", "5.5")
    old = {**COUNT, "item": "COFFEE", "quantity": "9", "as_of": (OPENED - timedelta(days=1)).isoformat()}
    movement = {"id": "M-1", "item": "COFFEE", "node": "HAM-DC", "pool": "web", "quantity": "0.25",
                "source": "available", "target": "outside", "at": shop.clock().isoformat()}  # fmt: skip

    outcomes = [
        shop.post("/v1/stock/counts", {"counts": [old]}).json()["outcomes"][0]["outcome"],
        shop.post("/v1/stock/movements", {"movements": [movement]}).json()["outcomes"][0]["outcome"],
        shop.post("/v1/stock/movements", {"movements": [movement]}).json()["outcomes"][0]["outcome"],
    ]
    assert outcomes == ["stale", "booked", "duplicate"]
    assert available(shop, "COFFEE", "&nodes=HAM-DC")["now"] == "5.25"


def test_a_receipt_counts_from_its_day(shop: Shop) -> None:
    counted(shop, "PAN", "3")
    due = (OPENED + timedelta(days=5)).date().isoformat()
    receipt = {"reference": "PO-1", "item": "PAN", "node": "HAM-DC", "pool": "web", "quantity": "20", "due_on": due}
    before = int(available(shop, "PAN", f"&nodes=HAM-DC&date={due}")["on_date"])
    shop.post("/v1/receipts", {"receipts": [receipt]})
    after = available(shop, "PAN", f"&nodes=HAM-DC&date={due}")

    assert int(after["on_date"]) == before + 20
    assert after["later"][-1]["since"] == due
    assert int(after["now"]) == before


def test_lots_count_until_they_expire_and_a_receipt_for_a_lot_with_it(shop: Shop) -> None:
    """Added up from columns (by channel) and position by position, the answers are the same."""
    today, lots = OPENED.date(), {"OLD": -1, "NEXT": 3, "LATER": 9}
    before = available(shop, "CREAM", "&nodes=HAM-DC")
    for lot, days in lots.items():
        counts = [{**COUNT, "quantity": "5", "lot": lot, "as_of": shop.clock().isoformat(),
                   "expires_on": (today + timedelta(days)).isoformat()}]  # fmt: skip
        shop.post("/v1/stock/counts", {"counts": counts})
    due = (today + timedelta(2)).isoformat()
    receipt = {"item": "CREAM", "node": "HAM-DC", "pool": "web", "quantity": "4", "due_on": due, "lot": "NEXT"}
    shop.post("/v1/receipts", {"receipts": [{**receipt, "reference": "PO-CREAM"}]})
    after = available(shop, "CREAM", "&nodes=HAM-DC")
    places = available(shop, "CREAM", "&nodes=HAM-DC&by=position")
    steps = {step["since"]: int(step["quantity"]) for step in after["later"]}

    assert int(after["now"]) == int(before["now"]) + 10
    assert [steps[(today + timedelta(day)).isoformat()] - int(before["now"]) for day in (2, 3, 9)] == [14, 5, 0]
    assert (places["now"], places["later"]) == (after["now"], after["later"])


def test_a_connection_that_was_cut_costs_one_answer_and_no_more(shop: Shop) -> None:
    """What is asked by way of the driver's lowest layer is refused and repeated like everything else."""
    before = available(shop, "PLATE")["now"]
    shop.rows(b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
              b" AND datname = current_database()")  # fmt: skip
    answers = [shop.get("/v1/availability?items=PLATE&channel=web") for _ in range(3)]

    assert {answer.status_code for answer in answers} <= {200, 503}
    assert answers[-1].json()["items"][0]["now"] == before


@pytest.mark.parametrize("by", ["position", "node", "pool", "echelon", "channel"])
def test_the_parts_add_up_to_the_whole(shop: Shop, by: str) -> None:
    item = available(shop, "MUG-BLUE", f"&by={by}")

    assert sum(int(group["now"]) for group in item["groups"]) == int(item["now"]) > 0
    assert all(by == "position" or by in group for group in item["groups"])


def test_a_basket_says_when_and_from_which_single_node_it_can_be_had(shop: Shop) -> None:
    counted(shop, "MUG-GREEN", "1")
    answer = shop.get("/v1/availability?items=MUG-GREEN,PLATE&quantities=500,1&channel=web").json()
    nodes = {ready["node"] for ready in answer["from_one_node"]}

    assert [item["item"] for item in answer["items"]] == ["MUG-GREEN", "PLATE"]
    assert ("HAM-DC" in nodes, "MUC-DC" in nodes, answer["ready_on"]) == (False, True, answer["asked_on"])


def test_a_zone_leaves_only_what_reaches_it(shop: Shop) -> None:
    everywhere = available(shop, "MUG-BLUE", "&by=node")
    north = available(shop, "MUG-BLUE", "&by=node&zone=de-north")

    assert {group["node"] for group in north["groups"]} <= {group["node"] for group in everywhere["groups"]}


QUESTIONS = [
    "items=MUG-BLUE&channel=web",
    "items=NOT-THERE&channel=web",
    "items=MUG-BLUE,PLATE&quantities=2,1&channel=web&by=node",
    "items=PLATE&channel=store&by=pool",
    "items=MUG-BLUE&channel=web&by=position",
    "items=MUG-BLUE&channel=web&zone=de-north",
    "items=MUG-BLUE&channel=web&zone=nowhere",
    "items=PLATE&channel=web&nodes=HAM-DC&date=2026-02-20",
    "items=BREAKFAST&channel=web",
    "channel=web",
]
WRONG = [QUESTIONS[1], QUESTIONS[6], QUESTIONS[9]]


@pytest.mark.parametrize("asked", [QUESTIONS, WRONG, [QUESTIONS[-1], QUESTIONS[-1]]])
def test_questions_that_are_read_together_are_answered_as_they_are_alone(shop: Shop, asked: list[str]) -> None:
    asking = availability_endpoint()
    who = Actor("planner", Role.VIEWER)
    requests = [Request(shop.services, who, shop.clock(), {}, question, {}, b"", None) for question in asked]
    together = list(asking.run(requests))
    alone = [reply for request in requests for reply in asking.run([request])]

    assert [_said(reply) for reply in together] == [_said(reply) for reply in alone]
    assert [isinstance(reply, Refused) for reply in together] == [question in WRONG for question in asked]


def _said(reply: Reply | Exception) -> object:
    return reply.body if isinstance(reply, Reply) else (type(reply), str(reply))


def test_a_plan_has_no_effect(shop: Shop) -> None:
    before = shop.rows(b"SELECT count(*) FROM movement UNION ALL SELECT count(*) FROM customer_order")
    planned = shop.post("/v1/plan", {"order": ORDER}).json()

    assert shop.rows(b"SELECT count(*) FROM movement UNION ALL SELECT count(*) FROM customer_order") == before
    assert (planned["policy"], len(planned["plan"]["shipments"])) == ("default", 1)
    assert planned["plan"]["unserved"] == []


def test_the_parts_of_a_plan_add_up_to_its_cost(shop: Shop) -> None:
    plan = shop.post("/v1/plan", {"order": {**ORDER, "lines": [{"item": "PLATE", "quantity": "9"}]}}).json()["plan"]

    def millionths(text: str) -> int:
        whole, _, fraction = text.partition(".")
        return int(whole + fraction.ljust(6, "0"))

    assert sum(millionths(part["amount"]) for part in plan["costs"]) == millionths(plan["cost"])


def test_a_plan_can_be_made_on_other_facts_edition_and_policy(shop: Shop) -> None:
    facts = {"stock": [{"item": "MUG-BLUE", "node": "MUC-DC", "pool": "web", "available": "2"}]}
    ready = shop.get("/ready").json()
    named = {"edition": ready["edition"], "policy": {"code": "default", "version": 1}}
    planned = shop.post("/v1/plan", {"order": ORDER, "facts": facts, **named}).json()
    unknown = shop.post("/v1/plan", {"order": ORDER, "edition": "none"})

    assert [part["node"] for part in planned["plan"]["assignments"]] == ["MUC-DC"]
    assert (unknown.status_code, unknown.json()["code"]) == (404, "edition_unknown")


@pytest.mark.parametrize("kind", ["nodes", "pools", "zones", "lanes", "items"])
def test_the_network_is_listed_page_by_page(shop: Shop, kind: str) -> None:
    whole = [each["code"] for each in shop.get(f"/v1/network/{kind}").json()[kind]]
    seen, path = [], f"/v1/network/{kind}?limit=2"
    while path:
        page = shop.get(path).json()
        seen += [each["code"] for each in page[kind]]
        path = f"/v1/network/{kind}?limit=2&cursor={page['next']}" if page["next"] else ""

    assert (seen, whole) == (sorted(whole), seen)


@pytest.mark.parametrize("kind", ["counts", "movements", "receipts"])
def test_effect_and_answer_commit_together(shop: Shop, kind: str) -> None:
    """Whatever is committed when the process dies in the midst of it, the same request again has one effect."""
    where = {"item": "PLATE", "node": "STR-SHOP", "pool": "shop", "quantity": "4"}
    at = shop.clock().isoformat()
    path, body = {
        "counts": ("/v1/stock/counts", {"counts": [{**where, "as_of": at}]}),
        "movements": ("/v1/stock/movements", {"movements": [
            {**where, "id": "TOGETHER", "source": "outside", "target": "available", "at": at}]}),
        "receipts": ("/v1/receipts", {"receipts": [{**where, "reference": "TOGETHER", "due_on": "2026-02-02"}]}),
    }[kind]  # fmt: skip
    statement = (
        b"SELECT count(*), count(DISTINCT xmin::text) FROM (SELECT xmin FROM answer WHERE key = 'together-%s'"
        b" UNION ALL SELECT a.xmin FROM audit AS a WHERE a.at = (SELECT max(at) FROM audit)) AS x" % kind.encode()
    )

    assert shop.post(path, body, f"together-{kind}").json()["outcomes"][0]["outcome"] == "booked"
    assert shop.rows(statement) == [(2, 1)]


def test_a_later_notice_may_say_that_a_receipt_is_announced(shop: Shop) -> None:
    notice = {"reference": "ASN-1", "item": "PLATE", "node": "HAM-DC", "pool": "web", "quantity": "9",
              "due_on": "2026-02-02"}  # fmt: skip
    outcomes = [
        shop.post("/v1/receipts", {"receipts": [{**notice, **more}]}).json()["outcomes"][0]["outcome"]
        for more in ({}, {"announced": True}, {"announced": True}, {"announced": False, "sequence": 2})
    ]

    assert outcomes == ["booked", "booked", "unchanged", "booked"]
    assert shop.rows(b"SELECT announced, sequence FROM receipt WHERE reference = 'ASN-1'") == [(False, 2)]
