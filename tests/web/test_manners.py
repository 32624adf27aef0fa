"""Manners of every endpoint: keys, tokens and roles, limits, refusals that list everything."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import httpx
import pytest

from poolwise.core.values import replace
from poolwise.flows.tokens import Role
from poolwise.store.embedded import EmbeddedServer
from poolwise.web import routes
from poolwise.web.auth import ROLES
from poolwise.web.endpoint import Endpoint
from poolwise.web.examples import EXAMPLES
from poolwise.web.operations import Measured
from poolwise.web.wiring import Limits
from tests.conftest import copied_database
from tests.web.shop import BASKET, ORDER, Shop, new_key, opened, served

TABLE = routes.endpoints(Measured(lambda: 0, lambda: 0))
WRITES = [endpoint for endpoint in TABLE if endpoint.writes]
GUARDED = [endpoint for endpoint in TABLE if not endpoint.public]


def title(endpoint: Endpoint) -> str:
    return endpoint.title


def call(shop: Shop, endpoint: Endpoint, token: str = "", key: str = "", body: object = None) -> httpx.Response:
    """One call of an endpoint with something in the place of its parameters."""
    path = endpoint.path.replace("{number}", "none").replace("{id}", "019b0000-0000-7000-8000-000000000000")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if key:
        headers["Idempotency-Key"] = key
    with httpx.Client(base_url=shop.url, timeout=10) as client, client.stream(
        endpoint.method, path, headers=headers, json=body if body is not None else EXAMPLES.get(endpoint.title)
    ) as answer:  # fmt: skip
        if not (endpoint.streams and answer.status_code == 200):
            answer.read()
        return answer


def test_every_path_says_which_methods_it_takes_and_takes_no_other(shop: Shop) -> None:
    methods: dict[str, set[str]] = {}
    for endpoint in TABLE:
        methods.setdefault(endpoint.path, {"OPTIONS"}).add(endpoint.method)
    assert {"GET", "POST", "OPTIONS"} in methods.values()
    with httpx.Client(base_url=shop.url, timeout=10) as client:
        for path, own in methods.items():
            asked, other = client.options(path), client.request("TRACE", path)
            assert (asked.status_code, asked.headers["Allow"]) == (204, ", ".join(sorted(own))), path
            assert other.status_code == 405
            assert set(other.headers["Allow"].split(", ")) == own, path


# --- tokens and roles


def test_every_endpoint_has_a_row_in_the_table_of_roles_and_no_row_is_left_over() -> None:
    assert {endpoint.title for endpoint in GUARDED} == set(ROLES)


@pytest.mark.parametrize("endpoint", GUARDED, ids=title)
def test_nothing_opens_without_a_token(shop: Shop, endpoint: Endpoint) -> None:
    answers = [call(shop, endpoint, token, new_key()) for token in ("", "pw_wrong", "nonsense")]

    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert answers[0].headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("endpoint", GUARDED, ids=title)
def test_a_role_opens_what_the_table_says_and_nothing_else(shop: Shop, endpoint: Endpoint, role: Role) -> None:
    answer = call(shop, endpoint, shop.tokens[role], new_key())

    assert (answer.status_code == 403) == (role not in ROLES[endpoint.title])
    assert answer.status_code < 500


def test_a_token_that_expired_or_was_revoked_opens_nothing(shop: Shop) -> None:
    expires_at = (shop.clock() + timedelta(minutes=1)).isoformat()
    short = shop.post("/v1/tokens", {"party": "p", "role": "viewer", "expires_at": expires_at}, role=Role.ADMIN).json()
    long = shop.post("/v1/tokens", {"party": "p", "role": "viewer"}, role=Role.ADMIN).json()
    shop.post(f"/v1/tokens/{long['token']['id']}/revoke", None, role=Role.ADMIN)
    shop.clock.ahead += timedelta(minutes=2)

    refused = [
        httpx.get(f"{shop.url}/v1/orders", headers={"Authorization": f"Bearer {issued['secret']}"}).status_code
        for issued in (short, long)
    ]
    assert refused == [401, 401]


def test_the_secret_of_a_token_is_shown_once_and_its_hash_is_all_that_is_kept(shop: Shop) -> None:
    key = new_key()
    first = shop.post("/v1/tokens", {"party": "once", "role": "viewer"}, key, Role.ADMIN).json()
    again = shop.post("/v1/tokens", {"party": "once", "role": "viewer"}, key, Role.ADMIN).json()

    assert (again["token"], again["secret"]) == (first["token"], None)
    assert first["secret"].encode() not in b"".join(bytes(str(row), "utf-8") for row in shop.rows(b"TABLE token"))
    assert shop.rows(b"SELECT count(*) FROM audit WHERE action = 'tokens.issue' AND detail ->> 'party' = 'once'") == [
        (1,)
    ]


def test_every_write_is_audited_under_the_party_of_its_token(shop: Shop) -> None:
    shop.post("/v1/orders", {**ORDER, "number": "AUDIT-1"})

    assert shop.rows(b"SELECT actor FROM audit WHERE subject = 'AUDIT-1'") == [("the integrator",)]


# --- keys


@pytest.mark.parametrize("endpoint", WRITES, ids=title)
def test_a_write_without_a_key_is_refused(shop: Shop, endpoint: Endpoint) -> None:
    answers = [call(shop, endpoint, shop.tokens[Role.ADMIN], key) for key in ("", "k" * 256)]

    assert [(answer.status_code, answer.json()["problems"][0]["field"]) for answer in answers] == [
        (400, "idempotency-key"),
        (400, "idempotency-key"),
    ]


@pytest.mark.parametrize("endpoint", [endpoint for endpoint in WRITES if endpoint.title in EXAMPLES], ids=title)
def test_the_same_key_and_body_have_one_effect_and_one_answer(shop: Shop, endpoint: Endpoint) -> None:
    key, token = new_key(), shop.tokens[Role.ADMIN]
    first = call(shop, endpoint, token, key)
    before = shop.rows(b"SELECT count(*) FROM audit")
    again = call(shop, endpoint, token, key)
    after = shop.rows(b"SELECT count(*) FROM audit")

    assert (again.status_code, again.headers["Idempotency-Replayed"], after) == (first.status_code, "true", before)
    if endpoint.path not in ("/v1/tokens", "/v1/webhooks"):  # a secret is shown once
        assert again.json() == first.json()


@pytest.mark.parametrize("endpoint", [endpoint for endpoint in WRITES if endpoint.title in EXAMPLES], ids=title)
def test_the_same_key_with_another_body_is_refused(shop: Shop, endpoint: Endpoint) -> None:
    key, token = new_key(), shop.tokens[Role.ADMIN]
    example = json.loads(json.dumps(EXAMPLES[endpoint.title]).replace("WEB-", "KEY-").replace("WMS-", "KEY-"))
    call(shop, endpoint, token, key, example)
    other = call(shop, endpoint, token, key, json.loads(json.dumps(example).replace("KEY-", "OTHER-") + " "))
    other = other if other.json().get("code") == "key_reused" else call(shop, endpoint, token, key, changed(example))

    assert (other.status_code, other.json()["code"]) == (422, "key_reused")


def changed(example: object) -> object:
    """Another lawful body."""
    text = json.dumps(example)
    for old, new in (
        ('"quantity": "2"', '"quantity": "3"'),
        ('"quantity": "', '"quantity": "1'),
        ("web-shop", "other"),
        ('"other": "', '"other": "B'),
        ('"code": "', '"code": "b'),
        ('"closed"', '"cancelled"'),
        ('"days": 6', '"days": 5'),
        ('"overlap_hours": 24', '"overlap_hours": 25'),
        ('"failed": true', '"after": "start"'),
    ):
        if old in text:
            return json.loads(text.replace(old, new, 1))
    raise AssertionError(text)


def test_a_key_belongs_to_the_party_behind_the_token(shop: Shop) -> None:
    key = new_key()
    mine = shop.post("/v1/orders", ORDER, key, Role.INTEGRATOR).json()
    theirs = shop.post("/v1/orders", ORDER, key, Role.OPERATOR).json()

    assert mine["id"] != theirs["id"]


@pytest.mark.parametrize(("path", "body"), [("/v1/orders", ORDER), ("/v1/reservations", BASKET)])
def test_duplicates_at_the_same_time_have_one_effect(shop: Shop, path: str, body: object) -> None:
    for _ in range(5):
        key, answers = new_key(), []
        begin = threading.Barrier(6)

        def send(key: str = key, answers: list[httpx.Response] = answers, begin: threading.Barrier = begin) -> None:
            begin.wait()
            answers.append(shop.post(path, body, key))

        senders = [threading.Thread(target=send) for _ in range(6)]
        [sender.start() for sender in senders]
        [sender.join() for sender in senders]

        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
        assert all(answer.headers["Retry-After"] for answer in answers if answer.status_code == 409)


def test_two_processes_give_one_answer_under_one_key(shop: Shop) -> None:
    with served(replace(shop.services)) as other:
        for _ in range(5):
            key, answers = new_key(), []
            begin = threading.Barrier(2)

            def send(
                url: str, key: str = key, answers: list[httpx.Response] = answers, begin: threading.Barrier = begin
            ) -> None:
                headers = {"Authorization": f"Bearer {shop.tokens[Role.INTEGRATOR]}", "Idempotency-Key": key}
                begin.wait()
                answers.append(httpx.post(f"{url}/v1/orders", json=ORDER, headers=headers))

            senders = [threading.Thread(target=send, args=(url,)) for url in (shop.url, other)]
            [sender.start() for sender in senders]
            [sender.join() for sender in senders]

            assert [answer.status_code for answer in answers] == [201, 201]
            assert answers[0].json() == answers[1].json()


# --- limits and the rest


def test_too_large_a_body_is_refused(shop: Shop) -> None:
    answer = shop.post("/v1/orders", {**ORDER, "number": "x" * 1_100_000})

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_body_of_another_kind_is_refused(shop: Shop) -> None:
    with shop.client() as client:
        answer = client.post("/v1/orders", content=b"{}", headers={"Idempotency-Key": "k", "Content-Type": "text/csv"})

    assert (answer.status_code, answer.json()["code"]) == (415, "not_json")


def test_unknown_paths_and_methods_are_problem_documents_too(shop: Shop) -> None:
    answers = [shop.get("/v1/nothing"), shop.get("/nothing"), httpx.delete(f"{shop.url}/v1/orders")]

    assert [answer.status_code for answer in answers] == [404, 404, 405]
    assert {answer.headers["Content-Type"] for answer in answers} == {"application/problem+json"}
    assert "GET" in answers[2].headers["Allow"]


def test_a_process_with_its_hands_full_says_so(server: EmbeddedServer, template: str) -> None:
    for database in copied_database(server, template):
        with opened(database.url, Limits(most_waiting=0)) as full:
            answer = full.get("/v1/orders")

    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
    assert int(answer.headers["Retry-After"]) > 0


def test_health_and_readiness_need_no_token_and_metrics_count(shop: Shop) -> None:
    assert httpx.get(f"{shop.url}/health").json()["status"] == "alive"
    assert httpx.get(f"{shop.url}/ready").json()["policy"] == "default"
    assert 'poolwise_http_requests_total{endpoint="GET /health",status="200"}' in shop.get("/metrics").text


def test_a_database_that_is_gone_is_said_and_not_blamed_on_the_caller(server: EmbeddedServer, template: str) -> None:
    for database in copied_database(server, template):
        with opened(database.url) as shop:
            shop.pool.close()
            answers = [shop.get("/v1/orders"), httpx.get(f"{shop.url}/ready")]

    assert [answer.status_code for answer in answers] == [503, 503]
