"""Webhooks over HTTP: who sees which, secrets shown once, refusals that name the field; and the how-to."""

from __future__ import annotations

import json
import re
import runpy
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from poolwise.connect.guard import Guard, read_networks
from poolwise.connect.webhooks import Sender
from poolwise.flows.tokens import Role
from poolwise.run.relay import Means, Relay
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.webhooks import PostgresOutbound
from tests.conftest import copied_database
from tests.run.receiving import receiving
from tests.web.shop import Shop, new_key, opened
from tests.web.test_tour import HOW_TO, fits, steps

HOOK = {"url": "https://hooks.example/poolwise?shop=7", "types": ["order.*"]}
PAGE = HOW_TO / "webhooks.md"


def create(shop: Shop, role: Role = Role.INTEGRATOR, **values: object) -> dict[str, object]:
    answer = shop.post("/v1/webhooks", {**HOOK, **values}, role=role)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/v1/webhooks/{answer.json()['webhook']['id']}"
    return answer.json()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": ""}, "url"),
        ({"url": "https://127.0.0.2/"}, "url"),
        ({"url": "https://inside.example/"}, "url"),
        ({"url": "https://nobody.here/"}, "url"),
        ({"url": "http://hooks.example/"}, "url"),
        ({"url": "https://u@hooks.example/"}, "url"),
        ({"url": "https://hooks.example/" + "x" * 2_000}, "url"),
        ({**HOOK, "types": "order.*"}, "types"),
        ({**HOOK, "types": ["order.*", "Order"]}, "types[1]"),
        ({**HOOK, "types": ["*"]}, "types[0]"),
        ({**HOOK, "types": ["order.*", "nope"]}, "types[1]"),
        ({**HOOK, "types": ["order"]}, "types[0]"),
        ({**HOOK, "types": ["order.nope"]}, "types[0]"),
        ({**HOOK, "types": ["order.sourced.*"]}, "types[0]"),
        ({**HOOK, "types": ["order.sour*"]}, "types[0]"),
        ({**HOOK, "types": ["order.*"] * 51}, "types"),
        ({**HOOK, "after": "yesterday"}, "after"),
        ({**HOOK, "after": "9:1"}, "after"),
        ({**HOOK, "after": "0:999999999"}, "after"),
        ({**HOOK, "secret": "whsec_x"}, "secret"),
    ],
)
def test_what_cannot_be_subscribed_is_refused_by_field(shop: Shop, body: object, field: str) -> None:
    answer = shop.post("/v1/webhooks", body)
    assert (answer.status_code, [each["field"] for each in answer.json()["problems"]]) == (422, [field])


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("replay", {}, "replay_invalid"),
        ("replay", {"after": "0:1", "failed": True}, "replay_invalid"),
        ("replay", {"after": "0:999999999"}, "place_unknown"),
        ("rotate", {"overlap_hours": -1}, "body_invalid"),
        ("rotate", {"overlap_hours": 169}, "body_invalid"),
    ],
)
def test_a_change_that_says_nothing_clear_is_refused(shop: Shop, path: str, body: object, code: str) -> None:
    id_ = create(shop)["webhook"]["id"]
    answer = shop.post(f"/v1/webhooks/{id_}/{path}", body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_a_party_sees_its_own_webhooks_and_an_administrator_all(shop: Shop) -> None:
    mine, other = create(shop)["webhook"]["id"], create(shop, Role.ADMIN)["webhook"]["id"]

    def listed(role: Role) -> set[str]:
        return {each["id"] for each in shop.get("/v1/webhooks?limit=500", role).json()["webhooks"]}

    assert (mine in listed(Role.INTEGRATOR), other in listed(Role.INTEGRATOR)) == (True, False)
    assert {mine, other} <= listed(Role.ADMIN)
    statuses = [
        shop.get(f"/v1/webhooks/{other}", Role.INTEGRATOR).status_code,
        shop.get(f"/v1/webhooks/{other}/deliveries", Role.INTEGRATOR).status_code,
        *[
            shop.post(f"/v1/webhooks/{other}/{action}", body).status_code
            for action, body in [("pause", None), ("delete", None), ("rotate", {}), ("replay", {"failed": True})]
        ],
    ]
    assert statuses == [404] * 6
    assert shop.get(f"/v1/webhooks/{other}", Role.ADMIN).json()["state"] == "active"


def test_a_list_comes_in_pages(shop: Shop) -> None:
    made = [create(shop)["webhook"]["id"] for _ in range(3)]
    seen, path = [], "/v1/webhooks?limit=1"
    while path:
        page = shop.get(path, Role.INTEGRATOR).json()
        seen += [each["id"] for each in page["webhooks"]]
        path = page["next"] and f"/v1/webhooks?limit=1&cursor={page['next']}"
    assert seen[-3:] == made


def test_a_secret_is_shown_once_and_is_in_no_list_and_no_audit(shop: Shop) -> None:
    key = new_key()
    first = shop.post("/v1/webhooks", HOOK, key).json()
    again = shop.post("/v1/webhooks", HOOK, key).json()
    id_ = first["webhook"]["id"]
    rotated = shop.post(f"/v1/webhooks/{id_}/rotate", {}, key + "r").json()
    once_more = shop.post(f"/v1/webhooks/{id_}/rotate", {}, key + "r").json()

    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", first["secret"])
    assert rotated["secret"] not in (None, first["secret"])
    assert (again, once_more["secret"]) == ({**first, "secret": None}, None)
    shown = shop.get("/v1/webhooks?limit=500", Role.ADMIN).text + shop.get(f"/v1/webhooks/{id_}", Role.ADMIN).text
    audited = shop.rows(b"SELECT action, detail::text FROM audit WHERE action LIKE 'webhooks.%'")
    for secret in (first["secret"], rotated["secret"]):
        assert secret.removeprefix("whsec_") not in shown + str(audited)
    assert {"webhooks.create", "webhooks.rotate"} <= {action for action, _ in audited}
    assert "shop=7" not in str(audited), "what follows in a url may be a secret, too"
    count = "SELECT count(*) FROM audit WHERE action = 'webhooks.rotate' AND subject = '%s'"
    assert shop.rows((count % id_).encode()) == [(1,)]


def test_what_is_deleted_is_gone_with_its_secrets(shop: Shop) -> None:
    id_, key = create(shop)["webhook"]["id"], new_key()
    answers = [shop.post(f"/v1/webhooks/{id_}/delete", None, key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 204]
    assert shop.get(f"/v1/webhooks/{id_}", Role.ADMIN).status_code == 404
    assert shop.post(f"/v1/webhooks/{id_}/enable", None).status_code == 404
    kept = "SELECT state, length(secret), former_secret FROM webhook WHERE id = '%s'"
    assert shop.rows((kept % id_).encode()) == [("ended", 0, None)]


def test_a_refusal_stays_the_answer_under_its_key(shop: Shop) -> None:
    id_, key = create(shop)["webhook"]["id"], new_key()
    shop.post(f"/v1/webhooks/{id_}/pause", None)
    first = shop.post(f"/v1/webhooks/{id_}/ping", None, key)
    shop.post(f"/v1/webhooks/{id_}/enable", None)
    again = shop.post(f"/v1/webhooks/{id_}/ping", None, key)
    assert [(answer.status_code, answer.json()["code"]) for answer in (first, again)] == [(409, "not_allowed")] * 2
    assert again.headers["Idempotency-Replayed"] == "true"


def test_the_how_to_is_true(server: EmbeddedServer, template: str, tmp_path: Path) -> None:
    """Each request of the page, to a receiver that runs here; what a worker and a relay do is done after each."""
    assert len(list(steps(PAGE))) == PAGE.read_text().count("```http") == 9
    for database in copied_database(server, template):
        with receiving() as receiver, opened(database.url) as shop:
            secret = told(shop, receiver.url)
    kinds = [json.loads(body)["type"] for body in receiver.bodies.values()]
    assert kinds[0] == "webhook.ping"
    assert "order.accepted" in kinds
    assert max(receiver.came.values()) == 2, "what came after the place was sent again"
    assert verified(tmp_path, secret, *receiver.last) == kinds[-1]


def told(shop: Shop, url: str) -> str:
    """Go through the page; the first secret. It is signed by the clock on the wall, by which it is verified."""
    shown: list[str] = []
    id_ = ""
    sender = Sender(Guard(read_networks("127.0.0.1/32")), lambda: datetime.now(UTC))
    with shop.client(Role.INTEGRATOR) as client:
        for method, path, headers, sent, written in steps(PAGE):
            body = sent.replace(b"https://hooks.example/poolwise", url.encode())
            expected = json.loads(json.dumps(written).replace("https://hooks.example/poolwise", url))
            kind = {"Content-Type": "application/json"} if body else {}
            answer = client.request(method, path.replace("{id}", id_), headers={**headers, **kind}, content=body)
            assert fits(answer.json(), expected), f"{method} {path}: {answer.text}"
            if "secret" in answer.json():
                shown.append(answer.json()["secret"])
                id_ = answer.json()["webhook"]["id"]
            shop.number_events()
            Relay(Means(PostgresOutbound(shop.pool), sender.send, shop.clock, secrets.randbits, 0.002)).run(True)
    sender.close()
    return shown[0]


def verified(folder: Path, secret: str, headers: Mapping[str, str], body: bytes) -> object:
    """The type of an event that the lines of the page handle, run as they stand."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (folder / "page.py").write_text(code)
    handled: list[object] = []
    names = {"secret": secret, "headers": headers, "body": body, "seen_for_the_first_time": lambda _id: True}
    runpy.run_path(str(folder / "page.py"), {**names, "handle": lambda *what: handled.append(what[0])})
    return handled[0]
