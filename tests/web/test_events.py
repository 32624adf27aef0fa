"""The feed over HTTP: followed live, resumed from any event, by many at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import httpx

from poolwise.flows.tokens import Role
from tests.web.shop import ORDER, Shop


def events(shop: Shop, count: int, path: str = "/v1/events", last: str = "") -> list[tuple[str, dict[str, object]]]:
    """The next events of a stream: (id, what it says)."""
    headers = {"Last-Event-ID": last} if last else {}
    with shop.client(Role.VIEWER) as client, client.stream("GET", path, headers=headers) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        found = []
        for event in parsed(stream):
            found.append(event)
            if len(found) == count:
                return found
    raise AssertionError("the stream ended")


def parsed(stream: httpx.Response) -> Iterator[tuple[str, dict[str, object]]]:
    id_ = ""
    for line in stream.iter_lines():
        if line.startswith("id: "):
            id_ = line[4:]
        elif line.startswith("data: "):
            yield id_, json.loads(line[6:])


def accepted(shop: Shop, *numbers: str) -> None:
    for number in numbers:
        assert shop.post("/v1/orders", {**ORDER, "number": number}).status_code == 201
    shop.number_events()


def test_a_client_resumes_after_any_event_without_loss_or_repeat(shop: Shop) -> None:
    accepted(shop, "S-1", "S-2", "S-3")
    end = shop.services.feed.end()[0]
    whole = events(shop, end, "/v1/events?after=start")

    assert [id_ for id_, _ in whole] == [f"0:{number}" for number in range(1, end + 1)]
    for place in range(len(whole) - 1):
        assert events(shop, len(whole) - place - 1, last=whole[place][0]) == whole[place + 1 :]


def test_a_follower_sees_what_happens_from_now_on(shop: Shop) -> None:
    shop.number_events()
    seen: list[tuple[str, dict[str, object]]] = []
    with shop.client(Role.VIEWER) as client, client.stream("GET", "/v1/events") as stream:
        teller = threading.Thread(target=accepted, args=(shop, "F-1", "F-2"))
        teller.start()
        for event in parsed(stream):
            seen.append(event)
            if len(seen) == 2:
                break
        teller.join()

    assert [(said["type"], said["data"]["order"]) for _, said in seen] == [
        ("order.accepted", "F-1"),
        ("order.accepted", "F-2"),
    ]


def test_many_followers_see_the_same(shop: Shop) -> None:
    shop.number_events()
    begin = f"0:{shop.services.feed.end()[0]}"
    seen: list[list[tuple[str, dict[str, object]]]] = []
    followers = [
        threading.Thread(target=lambda: seen.append(events(shop, 3, last=begin))) for _ in range(5)
    ]  # fmt: skip
    [follower.start() for follower in followers]
    accepted(shop, "M-1", "M-2", "M-3")
    [follower.join() for follower in followers]

    assert [[said["data"]["order"] for _, said in each] for each in seen] == [["M-1", "M-2", "M-3"]] * 5


def test_a_quiet_stream_gives_a_sign_of_life(shop: Shop) -> None:
    with shop.client(Role.VIEWER) as client, client.stream("GET", "/v1/events") as stream:
        assert next(line for line in stream.iter_lines() if line.startswith(":")) == ": nothing new"
