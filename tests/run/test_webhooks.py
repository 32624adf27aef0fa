"""Webhooks against receivers that misbehave: nothing is lost, nothing is doubled at whoever remembers ids."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import trustme
from standardwebhooks import Webhook, WebhookVerificationError

from poolwise.core.values import Refused
from poolwise.flows.views import Place
from poolwise.flows.webhooks import KEPT, MOST_WEBHOOKS, PAUSES, DeliveryState, WebhookState
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.migrate import ensure_partitions
from poolwise.store.webhooks import PostgresOutbound
from tests.conftest import copied_database
from tests.run import receiving as r
from tests.run.posting import Office, office
from tests.run.receiving import INSIDE, receiving

DONE, FAILED, WAITING = DeliveryState.DONE, DeliveryState.FAILED, DeliveryState.WAITING


@pytest.fixture(scope="module")
def database_url(server: EmbeddedServer, template: str) -> Iterator[str]:
    """With partitions for today, too: signatures are verified by the clock on the wall."""
    for database in copied_database(server, template):
        with psycopg.connect(database.owner_url, autocommit=True) as owner:
            ensure_partitions(owner, datetime.now(UTC).date().replace(day=1), 1)
        yield database.url


@pytest.fixture
def post(database_url: str) -> Iterator[Office]:
    """An office; webhooks of other tests have ended."""
    with office(database_url) as opened:
        yield opened
        for webhook in opened.book.all("", None, 500):
            opened.book.put(webhook.id, WebhookState.ENDED, opened.change())


def test_an_event_arrives_signed_as_a_cloud_event_with_what_a_consumer_needs(post: Office) -> None:
    post.now = datetime.now(UTC)
    with receiving() as receiver:
        webhook, receiver.secret = post.subscribe(receiver.url, "order.*")
        post.happen("order.sourced", "stock.moved", at=datetime(2026, 1, 12, 10, tzinfo=UTC))
        post.send()

    (id_,) = receiver.came
    number = post.only(webhook).number
    assert id_ == f"evt_{webhook.hex}_0_{number}"
    said = json.loads(receiver.bodies[id_])
    assert (said["specversion"], said["type"], said["source"]) == ("1.0", "order.sourced", "/v1/events")
    assert (said["id"], said["sequence"]) == (f"0:{number}", f"0:{number}")
    assert (said["time"], said["data"]) == ("2026-01-12T10:00:00Z", {"order": "O-1", "units": 3})
    assert receiver.headers[0]["content-type"] == "application/cloudevents+json"
    assert (receiver.refused, post.only(webhook).state, post.only(webhook).status) == (0, DONE, 204)


MISBEHAVING = [
    ("fails", r.always(500), 500, "answered 500"),
    ("is not found", r.always(404), 404, "answered 404"),
    ("hangs", r.hang, 0, "no whole answer within 0.5 s"),
    ("trickles its answer", r.trickle, 0, "no whole answer within 0.5 s"),
    ("trickles its headers", r.trickle_headers, 0, "no whole answer within 0.5 s"),
    ("hangs up", r.hang_up, 0, "the connection broke (RemoteProtocolError)"),
    ("babbles", r.babble, 0, "the connection broke (RemoteProtocolError)"),
]


@pytest.mark.parametrize(
    ("behave", "status", "reason"), [each[1:] for each in MISBEHAVING], ids=[each[0] for each in MISBEHAVING]
)
def test_a_receiver_that(post: Office, behave: object, status: int, reason: str) -> None:
    """... has it again after the first pause, and once when it is well."""
    with receiving(behave) as receiver:
        webhook, _ = post.subscribe(receiver.url)
        post.happen("order.sourced")
        post.send()
        told = post.only(webhook)
        assert (told.state, told.attempts, told.status, told.reason) == (WAITING, 1, status, reason)
        assert timedelta(seconds=5) <= told.due - post.now <= timedelta(seconds=6)

        receiver.behave = r.accept
        post.send()
        assert receiver.came.total() == 1, "it is not due yet"
        post.pass_time(seconds=6)
        post.send()
        assert (post.only(webhook).state, list(receiver.came.values())) == (DONE, [2])


def test_an_answer_without_end_is_not_read_to_its_end(post: Office) -> None:
    with receiving(r.endless) as receiver:
        webhook, _ = post.subscribe(receiver.url)
        post.happen("order.sourced")
        post.send()
        assert post.only(webhook).state is DONE


def test_a_redirect_is_a_failure_and_is_not_followed(post: Office) -> None:
    with receiving(host=INSIDE) as inside, receiving(r.always(302, Location=inside.url)) as receiver:
        webhook, _ = post.subscribe(receiver.url)
        post.happen("order.sourced")
        post.send()
        assert (inside.connections, receiver.came.total()) == (0, 1)
        assert (post.only(webhook).state, post.only(webhook).reason) == (WAITING, "answered 302 and is not followed")


def test_a_receiver_that_is_gone_is_disabled_and_keeps_what_waits_until_it_is_enabled(post: Office) -> None:
    with receiving(r.always(410)) as receiver:
        webhook, _ = post.subscribe(receiver.url)
        post.happen("order.sourced", "order.changed")
        post.send()
        assert post.state(webhook) == (WebhookState.DISABLED, "the receiver answered 410 Gone")
        came = receiver.came.total()
        assert 1 <= came <= 2
        post.happen("order.cancelled")
        post.pass_time(days=9)
        post.send()
        assert receiver.came.total() == came

        receiver.behave = r.accept
        post.book.put(webhook, WebhookState.ACTIVE, post.change())
        post.send()
        assert [each.state for each in post.deliveries(webhook)] == [DONE] * 3
        assert len(receiver.came) == 3


@pytest.mark.parametrize(
    ("status", "asked", "seconds"),
    [(429, "120", 120), (503, "120", 120), (429, "9999999999", 3_600), (429, "Mon, 12 Jan 2026 10:02:00 GMT", 120)],
)
def test_who_asks_to_be_left_alone_is_for_all_events(post: Office, status: int, asked: str, seconds: int) -> None:
    with receiving(r.always(status, Retry_After=asked)) as receiver:
        webhook, _ = post.subscribe(receiver.url)
        post.happen("order.sourced")
        post.send()
        assert post.only(webhook).due == post.now + timedelta(seconds=seconds)
        receiver.behave = r.accept
        post.happen("order.changed")
        post.pass_time(seconds=seconds - 1)
        post.send()
        assert receiver.came.total() == 1
        post.pass_time(seconds=1)
        post.send()
        assert len(receiver.came) == 2


def test_one_that_asks_for_nothing_that_can_be_read_is_tried_as_every_other(post: Office) -> None:
    with receiving(r.always(429, Retry_After="soon")) as receiver:
        webhook, _ = post.subscribe(receiver.url)
        post.happen("order.sourced")
        post.send()
        assert post.only(webhook).due - post.now <= timedelta(seconds=6)


def test_three_days_of_failures_disable_the_webhook_and_enabling_it_sends_everything(post: Office) -> None:
    began = post.now
    with receiving(r.always(500)) as receiver:
        webhook, _ = post.subscribe(receiver.url)
        post.happen("order.sourced")
        post.send()
        for attempt, pause in enumerate(PAUSES, start=1):
            told = post.only(webhook)
            assert (told.state, told.attempts) == (WAITING, attempt)
            assert pause <= told.due - post.now <= pause * 6 / 5
            post.now = told.due
            post.send()
        assert timedelta(days=3) < post.now - began < timedelta(days=4)
        assert (post.only(webhook).state, receiver.came.total()) == (FAILED, 10)
        assert post.state(webhook) == (WebhookState.DISABLED, "nothing was accepted for three days")

        post.happen("order.changed")
        receiver.behave = r.accept
        post.book.put(webhook, WebhookState.ACTIVE, post.change())
        post.send()
        assert [(each.state, each.attempts) for each in post.deliveries(webhook)] == [(DONE, 1)] * 2


def test_one_event_that_is_never_accepted_disables_nothing_and_can_be_sent_again(post: Office) -> None:
    def picky(receiver: r.Receiver, request: BaseHTTPRequestHandler) -> None:
        bad = b"order.sourced" in receiver.bodies[request.headers["webhook-id"]]
        r.answer(request, 500 if bad else 200)

    with receiving(picky) as receiver:
        webhook, _ = post.subscribe(receiver.url)
        post.happen("order.sourced")
        post.send()
        while (bad := post.deliveries(webhook)[-1]).state is WAITING:
            post.now = bad.due
            post.happen("order.changed")
            post.send()
        assert (bad.state, post.state(webhook)[0]) == (FAILED, WebhookState.ACTIVE)

        receiver.behave = r.accept
        post.book.retry_failed(webhook, post.change())
        post.send()
        assert {each.state for each in post.deliveries(webhook)} == {DONE}
        assert receiver.came[f"evt_{webhook.hex}_0_{bad.number}"] == 11


def test_a_backlog_costs_no_more_rows_than_may_be_open(post: Office) -> None:
    with receiving(r.always(500)) as receiver:
        webhook, _ = post.subscribe(receiver.url, "order.*")
        begin = _place(post, webhook)[0]
        post.happen(*["order.sourced", "stock.moved", "order.changed"] * 20)
        post.send()
        assert post.most_open // 2 < len(post.deliveries(webhook)) <= post.most_open
        assert begin < _place(post, webhook)[0] < begin + 60

        receiver.behave = r.accept
        post.pass_time(seconds=6)
        post.send()
        assert len(receiver.came) == 40
        assert {each.state for each in post.deliveries(webhook)} == {DONE}


def _place(post: Office, webhook: UUID) -> Place:
    found = post.book.by_id(webhook)
    assert found is not None
    return found.place


def test_a_receiver_that_hangs_holds_up_nobody_else(post: Office) -> None:
    post.attempt_s = 3.0
    with receiving(r.hang) as bad, receiving() as good:
        relay = post.relay()
        ill, _ = post.subscribe(bad.url)
        well, _ = post.subscribe(good.url)
        post.happen(*["order.sourced"] * 100)
        running = threading.Thread(target=relay.run, daemon=True)
        running.start()
        r.wait_until(lambda: len(good.came) == 100)
        assert bad.came.total() == 1, "whoever does not answer is asked one thing at a time"
        bad.closing.set()
        relay.stop()
        running.join()
    assert (len(post.deliveries(ill)), len(post.deliveries(well))) == (post.most_open, 100)


def test_both_secrets_sign_while_they_overlap_and_then_the_new_one_alone(post: Office) -> None:
    began = post.now = datetime.now(UTC)
    with receiving() as receiver:
        webhook, old = post.subscribe(receiver.url)
        stolen = bytes(range(32))
        post.book.rotate(webhook, stolen, post.now + timedelta(seconds=60), post.change())
        post.happen("order.sourced")
        post.send()
        post.now = began + timedelta(seconds=60)
        post.happen("order.changed")
        post.send()
    (during, after), bodies = receiver.headers, list(receiver.bodies.values())
    new = "whsec_" + base64.b64encode(stolen).decode()
    assert len(during["webhook-signature"].split()) == 2
    for secret in (old, new):
        assert Webhook(secret).verify(bodies[0], during)["type"] == "order.sourced"
    assert Webhook(new).verify(bodies[1], after)["type"] == "order.changed"
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(bodies[1], after)


def test_a_replay_sends_what_came_after_a_place_under_the_same_ids(post: Office) -> None:
    with receiving() as receiver:
        webhook, _ = post.subscribe(receiver.url)
        post.happen("order.sourced", "order.changed", "order.cancelled")
        post.send()
        first = post.deliveries(webhook)[-1].number
        post.book.go_back(webhook, {0: first}, post.change())
        post.send()
        post.book.go_back(webhook, {0: first + 100}, post.change())
        post.send()
    assert {id_.rpartition("_")[2]: count for id_, count in receiver.came.items()} == {
        str(first): 1, str(first + 1): 2, str(first + 2): 2}  # fmt: skip


def test_what_is_paused_waits_and_goes_on_without_loss(post: Office) -> None:
    with receiving() as receiver:
        webhook, _ = post.subscribe(receiver.url)
        post.book.put(webhook, WebhookState.PAUSED, post.change())
        post.happen("order.sourced", "order.changed")
        post.send()
        assert receiver.came.total() == 0
        post.book.put(webhook, WebhookState.ACTIVE, post.change())
        post.send()
    assert list(receiver.came.values()) == [1, 1]


def test_a_ping_is_signed_and_says_what_it_is(post: Office) -> None:
    post.now = datetime.now(UTC)
    with receiving() as receiver:
        webhook, receiver.secret = post.subscribe(receiver.url, "order.sourced")
        post.book.ping(webhook, 0, -5, post.change())
        post.send()
    ((id_, body),) = receiver.bodies.items()
    assert (id_, json.loads(body)["type"]) == (f"evt_{webhook.hex}_ping_5", "webhook.ping")


def test_what_was_done_long_ago_is_forgotten_and_all_of_a_webhook_that_ended(post: Office) -> None:
    with receiving() as receiver:
        webhook, _ = post.subscribe(receiver.url)
        post.happen("order.sourced")
        post.send()
        post.now += KEPT
        assert (post.outbound.sweep(post.now, 1_000) > 1_000, len(post.deliveries(webhook))) == (False, 1)
        post.pass_time(seconds=1)
        while post.outbound.sweep(post.now, 1_000):
            pass
        assert post.deliveries(webhook) == []

        receiver.behave = r.always(500)
        post.happen("order.changed")
        post.send()
        post.book.put(webhook, WebhookState.ENDED, post.change())
        while post.outbound.sweep(post.now, 1_000):
            pass
        assert (post.deliveries(webhook), post.book.by_id(webhook)) == ([], None)


def test_nobody_has_more_than_a_hundred(post: Office) -> None:
    for _ in range(MOST_WEBHOOKS):
        post.subscribe("http://127.0.0.1:9/")
    with pytest.raises(Refused, match="there are 100 of yours"):
        post.subscribe("http://127.0.0.1:9/")


class Stop(Exception):
    pass


@pytest.mark.parametrize("step", ["made", "moved"])
def test_a_place_moves_only_together_with_its_deliveries(post: Office, step: str) -> None:
    def crash(reached: str) -> None:
        if reached == step:
            raise Stop

    with receiving() as receiver:
        webhook, _ = post.subscribe(receiver.url)
        begin = _place(post, webhook)
        post.happen("order.sourced")
        with pytest.raises(Stop):
            PostgresOutbound(post.pool, failpoint=crash).fan_out(webhook, 0, post.now)
        assert (_place(post, webhook), post.deliveries(webhook)) == (begin, [])
        post.send()
    assert list(receiver.came.values()) == [1]


def test_what_is_leased_is_nobody_elses_until_the_lease_ends(post: Office) -> None:
    webhook, _ = post.subscribe("http://127.0.0.1:9/")
    post.happen("order.sourced")
    for _, cell in post.outbound.behind():
        post.outbound.fan_out(webhook, cell, post.now)
    until = post.now + timedelta(seconds=60)
    first = post.outbound.claim(lambda _: 10, post.now, until)
    assert [each.attempts for each in first] == [1]
    assert post.outbound.claim(lambda _: 10, post.now, until) == []
    again = post.outbound.claim(lambda _: 10, until, until + timedelta(seconds=60))
    assert [(each.attempts, each.message_id) for each in again] == [(2, first[0].message_id)]


# --- where nothing is sent


def test_a_name_that_means_something_else_the_second_time_is_followed_to_neither(post: Office) -> None:
    """What was checked is what is connected to; what it means later is checked again, and refused."""
    answers = [["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]]
    post.resolver = lambda _name, _port: answers.pop(0)
    with receiving() as receiver, receiving(host=INSIDE, port=int(receiver.url.rpartition(":")[2][:-5])) as inside:
        url = receiver.url.replace("127.0.0.1", "rebinding.example")
        webhook, _ = post.subscribe(url)
        post.happen("order.sourced")
        post.send()
        assert (receiver.came.total(), len(answers)) == (1, 2)
        assert receiver.headers[0]["host"].startswith("rebinding.example:")
        post.hang_up()
        post.happen("order.changed")
        post.send()
        assert (inside.connections, receiver.came.total()) == (0, 1)
        assert "address inside" in post.deliveries(webhook)[0].reason


def test_a_name_with_an_address_inside_among_others_is_refused(post: Office) -> None:
    post.resolver = lambda _name, _port: ["127.0.0.1", "127.0.0.2"]
    with receiving() as receiver, receiving(host=INSIDE, port=int(receiver.url.rpartition(":")[2][:-5])) as inside:
        webhook, _ = post.subscribe(receiver.url.replace("127.0.0.1", "both.example"))
        post.happen("order.sourced")
        post.send()
        assert (receiver.connections, inside.connections) == (0, 0)
        assert "address inside" in post.only(webhook).reason


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Who signs certificates, and is trusted here."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return ca


def certified(ca: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(name).configure_cert(context)
    return context


def test_by_https_the_receiver_proves_the_name_in_the_url_at_whatever_address(
    post: Office, authority: trustme.CA
) -> None:
    post.now = datetime.now(UTC)
    post.resolver = lambda _name, _port: ["127.0.0.1"]
    with receiving(tls=certified(authority, "shop.example")) as receiver:
        webhook, receiver.secret = post.subscribe(receiver.url.replace("127.0.0.1", "shop.example"))
        post.happen("order.sourced")
        post.send()
        assert (post.only(webhook).status, receiver.came.total(), receiver.refused) == (204, 1, 0)
        # Two more by the connection that is open.
        post.happen("order.changed", "order.cancelled")
        post.send()
        assert (receiver.came.total(), receiver.connections) == (3, 1)


@pytest.mark.parametrize("whose", ["another name", "a stranger", "nobody"])
def test_to_who_does_not_prove_it_nothing_is_sent(post: Office, authority: trustme.CA, whose: str) -> None:
    post.resolver = lambda _name, _port: ["127.0.0.1"]
    own = certified(authority, "other.example")
    told = {
        "another name": (own, "certificate is not accepted (Hostname mismatch"),
        "a stranger": (certified(trustme.CA(), "shop.example"), "certificate is not accepted (unable to get local"),
        "nobody": (None, "the connection broke (SSLError)"),
    }
    tls, reason = told[whose]
    with receiving(tls=tls) as receiver:
        port = receiver.url.split(":")[2]
        webhook, _ = post.subscribe(f"https://shop.example:{port}")
        post.happen("order.sourced")
        post.send()
        assert receiver.came.total() == 0
    assert post.only(webhook).state is WAITING
    assert reason in post.only(webhook).reason


def test_a_resolver_that_hangs_is_left_behind(post: Office) -> None:
    never = threading.Event()
    post.resolver = lambda _name, _port: [str(never.wait(5))]
    webhook, _ = post.subscribe("https://slow.example/")
    post.happen("order.sourced")
    post.send()
    never.set()
    assert post.only(webhook).reason == "no whole answer within 0.5 s"
