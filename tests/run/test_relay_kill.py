"""Kill -9 of relays in the middle of everything: at whoever verifies and remembers ids, nothing is lost or doubled."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from poolwise.run.settings import Settings
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.migrate import ensure_partitions
from tests.conftest import copied_database
from tests.forks import context
from tests.run.doomed import Doom
from tests.run.doomed_relay import relay
from tests.run.posting import ALLOWED, Office, office
from tests.run.receiving import PATIENCE_S, Receiver, receiving, wait_until

EVENTS = 180
DOOMS = (Doom("made", 1), Doom("leased", 4), Doom("recorded", 3), Doom("moved", 1))


@pytest.fixture
def post(server: EmbeddedServer, template: str) -> Iterator[tuple[Office, Settings]]:
    for database in copied_database(server, template):
        with psycopg.connect(database.owner_url, autocommit=True) as owner:
            ensure_partitions(owner, datetime.now(UTC).date().replace(day=1), 1)
        settings = Settings(database_url=database.url, connections=3, log_level="error", internal_webhooks=ALLOWED)
        with office(database.url) as opened:
            opened.now = datetime.now(UTC)
            yield opened, settings


def test_nothing_is_lost_or_doubled_though_relays_are_killed_while_they_send(post: tuple[Office, Settings]) -> None:
    opened, settings = post
    with receiving() as receiver:
        webhook, receiver.secret = opened.subscribe(receiver.url)
        for doom in DOOMS:
            opened.happen(*["order.sourced"] * (EVENTS // 6))
            doomed = context.Process(target=relay, args=(settings, doom))
            doomed.start()
            doomed.join(PATIENCE_S)
            assert doomed.exitcode == -signal.SIGKILL, f"it did not come to {doom.step}: {doomed.exitcode}"
        killed_while_sending(opened, settings, receiver)
        two = [context.Process(target=relay, args=(settings, None)) for _ in range(2)]
        [each.start() for each in two]
        wait_until(lambda: len(receiver.came) == EVENTS)
        [each.terminate() for each in two]
        [each.join(PATIENCE_S) for each in two]

        end = opened.book.by_id(webhook).place[0]
        assert {f"evt_{webhook.hex}_0_{number}" for number in range(end - EVENTS + 1, end + 1)} == set(receiver.came)
        assert receiver.refused == 0, "every signature was verified"
        assert receiver.came.total() > EVENTS, "something was under way when they died, and was sent again"
        assert [each.exitcode for each in two] == [0, 0]


def killed_while_sending(opened: Office, settings: Settings, receiver: Receiver) -> None:
    """A relay dies between the answer of a receiver and what is recorded of it, at no step in particular."""
    before = receiver.came.total()
    opened.happen(*["order.changed"] * (EVENTS // 3))
    process = context.Process(target=relay, args=(settings, None))
    process.start()
    wait_until(lambda: receiver.came.total() > before + 30)
    process.kill()
    process.join(PATIENCE_S)
