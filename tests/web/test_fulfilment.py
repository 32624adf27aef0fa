"""Fulfilment over HTTP: nodes read what they have to send, and report what became of it."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from typing import Any

import pytest

from poolwise.core.messages import ReportKind, ShipmentReport
from poolwise.flows.execute import book_report
from poolwise.flows.stock import Outcome
from poolwise.flows.tallying import Clerk
from poolwise.flows.tokens import Role
from poolwise.store.views import COLLECTIONS
from poolwise.web.idempotency import kept, key_of
from tests.web.shop import BASKET, OPENED, ORDER, RULES, Shop

SATURDAY = 5
REPORTS = "/v1/shipments/reports"
days = (day for day in itertools.count(1) if (OPENED + timedelta(days=day)).weekday() < SATURDAY)


@pytest.fixture(autouse=True)
def morning(shop: Shop) -> None:
    """Every story begins at ten on a working day, so that what is ordered leaves on that day."""
    shop.clock.ahead = timedelta(days=next(days))


def ordered(shop: Shop, number: str, quantity: str = "3", item: str = "MUG-BLUE") -> Any:
    """An order that has been released to its node."""
    shop.post("/v1/orders", {**ORDER, "number": number, "lines": [{"item": item, "quantity": quantity}]})
    shop.decide()
    shop.release()
    return read(shop, number)


def read(shop: Shop, number: str) -> Any:
    return shop.get(f"/v1/orders/{number}").json()


def said(shop: Shop, number: str, kind: str, units: str = "", **more: object) -> dict[str, object]:
    lines = [{"item": "MUG-BLUE", "quantity": units}] if units else []
    at = shop.clock().isoformat()
    return {"id": f"{number}-{kind}", "order": number, "shipment": 1, "kind": kind, "at": at, "lines": lines, **more}


def report(shop: Shop, number: str, kind: str, units: str = "", **more: object) -> str:
    answer = shop.post(REPORTS, said(shop, number, kind, units, **more))
    assert answer.status_code == 200, answer.text
    return answer.json()["outcome"]


def lists(shop: Shop, node: str, limit: int = 50) -> list[Any]:
    """All pick lists of a node, read page by page."""
    found: list[Any] = []
    path: str | None = f"/v1/shipments?node={node}&stage=released&limit={limit}"
    while path is not None:
        page = shop.get(path).json()
        found += page["shipments"]
        path = f"/v1/shipments?node={node}&limit={limit}&cursor={page['next']}" if page["next"] else None
    return found


def test_an_order_shows_how_its_shipment_goes_on_and_its_tag_changes_with_it(shop: Shop) -> None:
    shop.post("/v1/orders", {**ORDER, "number": "LIFE"})
    shop.decide()
    seen, tags = [], []
    for step in ("", "release", "shipped", "failed", "delivered"):
        if step == "release":
            shop.release()
        elif step:
            assert report(shop, "LIFE", step) == "booked"
        answer = shop.get("/v1/orders/LIFE")
        order, line = answer.json(), answer.json()["lines"][0]
        tags.append(answer.headers["ETag"])
        seen.append((order["state"], order["shipments"][0]["stage"], line["reserved"], line["released"],
                     line["shipped"]))  # fmt: skip

    assert seen == [
        ("sourced", "planned", "2", "0", "0"),
        ("released", "released", "0", "2", "0"),
        ("shipped", "shipped", "0", "0", "2"),
        ("shipped", "failed", "0", "0", "2"),
        ("shipped", "delivered", "0", "0", "2"),
    ]
    assert len(set(tags)) == len(tags)


def test_a_report_is_booked_once_by_its_id_and_answered_once_by_its_key(shop: Shop) -> None:
    ordered(shop, "ONCE")
    body = said(shop, "ONCE", "shipped", "1")
    first, again = shop.post(REPORTS, body, "once"), shop.post(REPORTS, body, "once")
    other = shop.post(REPORTS, body, "another-key")

    assert [answer.json() for answer in (first, again, other)] == [
        {"outcome": "booked"}, {"outcome": "booked"}, {"outcome": "duplicate"}]  # fmt: skip
    assert [answer.headers.get("Idempotency-Replayed") for answer in (first, again, other)] == [None, "true", None]
    assert shop.post(REPORTS, {**body, "id": "x"}, "once").json()["code"] == "key_reused"
    assert read(shop, "ONCE")["lines"][0]["shipped"] == "1"


def test_effect_and_answer_commit_together(shop: Shop) -> None:
    ordered(shop, "TOGETHER")
    statement = (
        b"SELECT count(*), count(DISTINCT xmin::text) FROM (SELECT xmin FROM answer WHERE key = 'together'"
        b" UNION ALL SELECT xmin FROM milestone WHERE kind = 'shipped' AND detail->>'tracking' = 'T-1') AS x"
    )

    assert shop.post(REPORTS, said(shop, "TOGETHER", "shipped", tracking="T-1"), "together").status_code == 200
    assert shop.rows(statement) == [(2, 1)]


def test_who_never_got_the_answer_gets_it_when_the_request_is_sent_again(shop: Shop) -> None:
    """The process dies between the commit and the answer."""
    ordered(shop, "CUT")
    body = said(shop, "CUT", "declined")
    raw, headers = json.dumps(body).encode(), {"idempotency-key": "cut", "content-type": "application/json"}
    key = key_of(headers, "the integrator", f"POST {REPORTS}", "", raw)
    sent = ShipmentReport(id="CUT-declined", order="CUT", shipment=1, kind=ReportKind.DECLINED, at=shop.clock())
    clerk = Clerk(RULES.current().edition, shop.services.ids, "the integrator")
    done = book_report(
        shop.services.books, clerk, sent, shop.clock(), lambda result: kept(key, 200, result.outcome.value)
    )
    with shop.client(Role.INTEGRATOR) as client:
        answer = client.post(REPORTS, content=raw, headers=headers)

    assert done.outcome is Outcome.BOOKED
    assert (answer.json(), answer.headers["Idempotency-Replayed"]) == ({"outcome": "booked"}, "true")


def test_a_refused_report_tells_all_that_is_wrong_and_stays_refused_under_its_key(shop: Shop) -> None:
    lines = [{"item": "UNICORN", "quantity": "1"}, {"item": "PAN", "quantity": "0"}]
    wrong = said(shop, "LATER", "short", at="2027-01-01T00:00:00Z", lines=lines)
    early = said(shop, "LATER", "shipped")
    answer, first = shop.post(REPORTS, wrong), shop.post(REPORTS, early, "early")
    ordered(shop, "LATER")
    again, anew = shop.post(REPORTS, early, "early"), shop.post(REPORTS, early)

    assert (answer.status_code, answer.json()["code"]) == (422, "report_invalid")
    assert [p["field"] for p in answer.json()["problems"]] == ["at", "lines[0].item", "lines[1].quantity", "order"]
    assert (first.status_code, again.status_code, anew.json()) == (422, 422, {"outcome": "booked"})
    assert again.headers["Idempotency-Replayed"] == "true"
    assert shop.post(REPORTS, said(shop, "LATER", "failed", shipment=7)).json()["problems"][0]["field"] == "shipment"


def test_a_short_moves_the_record_of_its_node(shop: Shop) -> None:
    def records(query: str = "") -> dict[tuple[str, str], tuple[int, int, str]]:
        found: dict[tuple[str, str], tuple[int, int, str]] = {}
        path: str | None = f"/v1/network/picks?limit=1{query}"
        while path is not None:
            page = shop.get(path).json()
            found |= {(p["node"], p["product"]): (p["found"], p["missed"], p["miss_percent"]) for p in page["picks"]}
            path = page["next"] and f"/v1/network/picks?limit=1{query}&cursor={page['next']}"
        return found

    node = ordered(shop, "MISSED")["shipments"][0]["node"]
    product = next(i["product"] for i in shop.get("/v1/network/items").json()["items"] if i["code"] == "MUG-BLUE")
    found, missed, _ = records().get((node, product), (0, 0, ""))
    report(shop, "MISSED", "short", "1")
    report(shop, "MISSED", "shipped")

    percent = f"{100 * (missed + 2) / (found + missed + 51):.4f}".rstrip("0").rstrip(".")
    assert records()[node, product] == records(f"&node={node}")[node, product] == (found, missed + 1, percent)
    assert records("&node=GHOST") == {}


def test_a_basket_is_nothing_to_send(shop: Shop) -> None:
    basket = shop.post("/v1/reservations", BASKET).json()["id"]

    answer = shop.post(REPORTS, said(shop, f"R-{basket}", "shipped"))
    assert (answer.status_code, answer.json()["problems"][0]["field"]) == (422, "order")


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.OPERATOR, 200), (Role.ADMIN, 200)])
def test_viewers_read_pick_lists_and_report_nothing(shop: Shop, role: Role, status: int) -> None:
    ordered(shop, f"BY-{role}")

    assert shop.post(REPORTS, said(shop, f"BY-{role}", "shipped"), role=role).status_code == status
    assert shop.get("/v1/shipments?node=HAM-DC", role=role).status_code == 200


@pytest.mark.parametrize("limit", [1, 50])
def test_a_node_reads_what_is_still_to_be_sent_page_by_page(shop: Shop, limit: int) -> None:
    numbers = [f"PICK-{limit}-{n}" for n in range(4)]
    for number in numbers:
        shop.post("/v1/orders", {**ORDER, "number": number, "lines": [{"item": "MUG-BLUE", "quantity": "5"}]})
    shop.decide()
    (node,) = {each["node"] for number in numbers for each in read(shop, number)["shipments"]}
    assert not {each["order"] for each in lists(shop, node, limit)} & {*numbers}
    shop.release()
    report(shop, numbers[0], "shipped")
    report(shop, numbers[1], "shipped", "2")
    report(shop, numbers[2], "short", "1")
    found = lists(shop, node, limit)
    mine = {each["order"]: each for each in found if each["order"] in numbers}

    assert {number: each["lines"] for number, each in mine.items()} == {
        number: [{"item": "MUG-BLUE", "pool": "web", "lot": "", "quantity": left}]
        for number, left in zip(numbers[1:], ("3", "4", "5"), strict=True)
    }
    places = [(each["ship_on"], each["order"], each["shipment"]) for each in found]
    assert len(set(places)) == len(places) >= 3
    assert [place[0] for place in places] == sorted(place[0] for place in places)
    shown = read(shop, numbers[3])["shipments"][0]
    assert {name: shown[name] for name in ("node", "stage", "ship_on", "arrive_by")} == {
        name: mine[numbers[3]][name] for name in ("node", "stage", "ship_on", "arrive_by")
    }
    assert {each["node"] for each in lists(shop, "BER-SHOP")} == set()


@pytest.mark.parametrize("limit", [1, 50])
def test_a_store_reads_what_it_hands_out_wherever_it_comes_from(shop: Shop, limit: int) -> None:
    shop.stock("COFFEE", 9, "BER-SHOP")
    own, sent = f"OWN-{limit}", f"SENT-{limit}"
    for number, item in ((own, "COFFEE"), (sent, "KETTLE")):
        order = {"number": number, "channel": "web", "collect_at": "BER-SHOP", "ship_to": {"name": "Ada"}}
        assert shop.post("/v1/orders", {**order, "lines": [{"item": item, "quantity": "2"}]}).status_code == 201
    shop.decide()
    shop.release()
    seen = [hand_outs(shop, stage, limit) for stage in ("released", "shipped", "ready")]
    packed = {"tracking": sent, "box": "S", "lines": [{"item": "KETTLE", "quantity": "2"}]}
    report(shop, sent, "shipped", parcels=[packed])
    assert report(shop, sent, "arrived", node="BER-SHOP") == "booked"
    seen += [hand_outs(shop, "shipped", limit)]
    for number in (own, sent):
        report(shop, number, "ready")
    waiting = hand_outs(shop, "", limit)
    parcels = {number: read(shop, number)["shipments"][0]["parcels"] for number in (own, sent)}
    here = {each["order"] for each in shop.get("/v1/shipments?node=BER-SHOP&stage=ready").json()["shipments"]}
    there = {each["order"] for each in shop.get("/v1/shipments?node=HAM-DC&stage=ready").json()["shipments"]}
    for number in (own, sent):
        report(shop, number, "delivered")

    assert [{*each} & {own, sent} for each in seen] == [{own, sent}, set(), set(), {sent}]
    assert [(waiting[number]["node"], waiting[number]["lines"][0]["quantity"]) for number in (own, sent)] == [
        ("BER-SHOP", "2"), ("HAM-DC", "2")]  # fmt: skip
    assert ({own, sent} & here, {own, sent} & there, {own, sent} & {*hand_outs(shop, "ready", limit)}) == (
        {own}, set(), set())  # fmt: skip
    assert {number: waiting[number]["parcels"] for number in parcels} == parcels
    assert {number: [each["tracking"] for each in parcels[number]] for number in parcels} == {own: [], sent: [sent]}
    assert read(shop, own)["zone"] == "ber-desk"


def hand_outs(shop: Shop, stage: str, limit: int) -> dict[str, Any]:
    """What the shop in Berlin has to hand out, by order, read page by page."""
    found: dict[str, Any] = {}
    path: str | None = f"/v1/shipments?collect_at=BER-SHOP&limit={limit}" + (stage and f"&stage={stage}")
    query = path
    while path is not None:
        page = shop.get(path).json()
        found |= {each["order"]: each for each in page["shipments"]}
        path = f"{query}&cursor={page['next']}" if page["next"] else None
    return found


def test_what_is_brought_is_never_ready_and_comes_only_where_its_lanes_lead(shop: Shop) -> None:
    ordered(shop, "BROUGHT")
    assert shop.post(REPORTS, said(shop, "BROUGHT", "ready")).json()["problems"][0]["field"] == "kind"
    assert shop.post(REPORTS, said(shop, "BROUGHT", "arrived", node="BER-SHOP")).json()["problems"] == [
        {"field": "node", "reason": "shipment 1 of order 'BROUGHT' does not come to 'BER-SHOP'; on its way it passes "
                                    "no node"}]  # fmt: skip


def test_what_waits_to_be_handed_out_is_found_by_index(shop: Shop) -> None:
    """However many shipments there are, planned, delivered and of other nodes."""
    statement = COLLECTIONS
    for name, kind in (("cells", "'{0}'"), ("node", "'BER-SHOP'"), ("stage", "'ready'"), ("day", "'2026-01-01'"),
                       ("order", "'00000000-0000-0000-0000-000000000000'"), ("no", "0"), ("limit", "50")):  # fmt: skip
        statement = statement.replace(f"%({name})b", kind)
    with shop.pool.connection() as connection, connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off")
        plan = connection.execute(b"EXPLAIN " + statement.encode()).fetchall()
    assert any("shipment_to_collect" in str(line) for (line,) in plan)


@pytest.mark.parametrize(("limit", "items"), [(1, ("MUG-GREEN", "KETTLE")), (50, ("PLATE", "MUG-BLUE"))])
def test_what_was_not_found_is_to_be_counted_until_it_is(shop: Shop, limit: int, items: tuple[str, str]) -> None:
    """The count of one position ends its task and no other; one as of an earlier time ends none."""
    first, second = items
    for item in items:
        shop.stock(item, 1_000, "HAM-DC")
    before = counting(shop, limit)
    numbers = {item: f"COUNT-{limit}-{item}" for item in items}
    for item, number in numbers.items():
        shop.stock(item, 0, "MUC-DC")
        ordered(shop, number, "3", item)
        short = said(shop, number, "short", lines=[{"item": item, "quantity": "2"}])
        assert shop.post(REPORTS, short).json() == {"outcome": "booked"}
    tasks = counting(shop, limit)
    shop.stock(second, 998, "HAM-DC")
    rest = counting(shop, limit)

    found = [each for each in tasks if each not in before]
    assert [(each["item"], each["node"], each["blocked"], each["order"], each["shipment"]) for each in found] == [
        (item, "HAM-DC", "2", number, 1) for item, number in numbers.items()]  # fmt: skip
    assert [each["url"] for each in found] == [f"/v1/orders/{number}" for number in numbers.values()]
    assert [each["item"] for each in rest if each not in before] == [first]
    shop.stock(first, 1_000, "HAM-DC")
    assert counting(shop, limit) == before


def counting(shop: Shop, limit: int) -> list[Any]:
    """All that is to be counted in Hamburg, read page by page."""
    found: list[Any] = []
    path: str | None = f"/v1/count-tasks?node=HAM-DC&limit={limit}"
    while path is not None:
        page = shop.get(path).json()
        found += page["count_tasks"]
        path = f"/v1/count-tasks?node=HAM-DC&limit={limit}&cursor={page['next']}" if page["next"] else None
    return found
