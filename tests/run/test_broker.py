"""Events on a cluster of three message brokers: nothing is lost or doubled, whoever is killed or emptied."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from poolwise.connect.jetstream import Diverged, Target
from poolwise.connect.jetstream import opened as open_stream
from poolwise.core.values import Refused, replace
from poolwise.run import processes
from poolwise.run.broker import Broker, Means
from poolwise.run.settings import Settings
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.feed import PostgresFeed
from poolwise.store.migrate import ensure_partitions
from tests.conftest import Database, copied_database
from tests.forks import context
from tests.run.brokers import PATIENCE_S, Cluster, Consumer, cluster_of
from tests.run.posting import Office, office

STREAM = "EVENTS"


@pytest.fixture
def database(server: EmbeddedServer, template: str) -> Iterator[Database]:
    for made in copied_database(server, template):
        with psycopg.connect(made.owner_url, autocommit=True) as owner:
            ensure_partitions(owner, datetime.now(UTC).date().replace(day=1), 1)
        yield made


@contextmanager
def publishing(database: Database, cluster: Cluster, many: int = 1) -> Iterator[list[object]]:
    """Processes that publish, as `poolwise publish` does."""
    settings = Settings(database_url=database.url, connections=2, log_level="error", nats_stream=STREAM,
                        nats_servers=",".join(cluster.servers), nats_replicas=len(cluster.ports))  # fmt: skip
    running = [context.Process(target=processes.publish, args=(settings,)) for _ in range(many)]
    try:
        for each in running:
            each.start()
        yield running
    finally:
        for each in running:
            each.terminate()
        for each in running:
            each.join(PATIENCE_S)
            if each.is_alive():
                each.kill()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


@contextmanager
def busy(opened: Office) -> Iterator[list[int]]:
    """While things happen all the time; how many, afterwards."""
    told, over = [0], threading.Event()

    def happen() -> None:
        while not over.is_set():
            opened.happen(*["order.sourced", "shipment.released"] * 5)
            told[0] += 10

    thread = threading.Thread(target=happen)
    thread.start()
    try:
        yield told
    finally:
        over.set()
        thread.join()


def test_nothing_is_lost_or_doubled_though_leaders_and_publishers_are_killed_and_the_stream_is_emptied(
    database: Database, tmp_path: Path
) -> None:
    consumer = Consumer()
    with cluster_of(tmp_path, 3) as cluster, office(database.url) as opened:
        opened.now = datetime.now(UTC)
        with publishing(database, cluster, many=2) as running:
            with busy(opened) as told:
                until(lambda: cluster.messages(STREAM) > 50)
                leader = cluster.leader_of(STREAM)
                cluster.kill(leader)
                at = told[0]
                until(lambda: told[0] > at + 50)
                running[0].kill()
                cluster.start(leader)
                until(lambda: cluster.messages(STREAM) > at)
                there = consumer.read(cluster, STREAM)
                assert there == list(range(1, len(there) + 1)), "each event once, in order"
                cluster.empty(STREAM)
                until(lambda: cluster.first(STREAM)["sequence"] == "0:1")
            until(lambda: cluster.messages(STREAM) >= told[0])
            assert consumer.read(cluster, STREAM) == list(range(1, told[0] + 1))
    assert [number for _, number, _ in consumer.acted] == list(range(1, told[0] + 1))


def test_a_stream_that_is_deleted_while_nothing_happens_is_filled_again(database: Database, tmp_path: Path) -> None:
    with cluster_of(tmp_path, 1) as cluster, office(database.url) as opened:
        opened.now = datetime.now(UTC)
        opened.happen(*["order.sourced"] * 5)
        with publishing(database, cluster):
            until(lambda: cluster.messages(STREAM) == 5)
            cluster.remove(STREAM)
            until(lambda: cluster.messages(STREAM) == 5)
            opened.happen("order.cancelled")
            until(lambda: cluster.messages(STREAM) == 6)
        consumer = Consumer()
        consumer.read(cluster, STREAM)
        assert [type_ for *_, type_ in consumer.acted] == ["order.sourced"] * 5 + ["order.cancelled"]


def test_without_servers_it_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="nats_servers"):
        processes.publish(Settings())


def test_of_two_publishers_at_the_same_place_one_is_first_and_the_other_looks_again(
    database: Database, tmp_path: Path
) -> None:
    with cluster_of(tmp_path, 1) as cluster, office(database.url) as opened:
        opened.happen(*["order.sourced"] * 3)
        events = PostgresFeed(opened.pool).after({}, 10)
        target = Target(cluster.servers, STREAM, 1, timedelta(days=7))
        cluster.do(_ready)

        async def race() -> None:
            async with open_stream(target) as one, open_stream(target) as other:
                at = await one.reached()
                assert at == await other.reached()
                after = await one.publish(events[:2], at)
                with pytest.raises(Diverged):
                    await other.publish(events[:2], at)
                again = await other.reached()
                assert (again.sequence, again.place) == (after.sequence, {0: events[1].number})
                await other.publish(events[2:], again)

        asyncio.run(race())
        assert Consumer().read(cluster, STREAM) == [each.number for each in events]


def test_who_has_not_seen_that_the_stream_was_filled_anew_puts_nothing_between(
    database: Database, tmp_path: Path
) -> None:
    """Its sequences may fit by chance, in the middle of what it sends at once: the message before does not."""
    with cluster_of(tmp_path, 1) as cluster, office(database.url) as opened:
        opened.happen(*["order.sourced"] * 20)
        events = PostgresFeed(opened.pool).after({}, 100)
        target = Target(cluster.servers, STREAM, 1, timedelta(days=7))
        cluster.do(_ready)

        async def race() -> None:
            async with open_stream(target) as one, open_stream(target) as other:
                late = await other.publish(events[:10], await other.reached())
                await one.empty()
                await one.publish(events[:5], await one.reached())
                with pytest.raises(Diverged):
                    await other.publish(events[10:], late)
                assert (await other.reached()).place == {0: events[4].number}

        asyncio.run(race())


def test_a_stream_that_is_ahead_of_the_database_is_left_alone(database: Database, tmp_path: Path) -> None:
    with cluster_of(tmp_path, 1) as cluster, office(database.url) as opened:
        opened.now = datetime.now(UTC)
        opened.happen(*["order.sourced"] * 3)
        target = Target(cluster.servers, STREAM, 1, timedelta(days=7))
        cluster.do(_ready)

        async def fill() -> None:
            async with open_stream(target) as stream:
                (first, *_), at = PostgresFeed(opened.pool).after({}, 10), await stream.reached()
                await stream.publish([replace(first, number=77)], at)

        asyncio.run(fill())
        means = Means(PostgresFeed(opened.pool), target, opened.clock)
        broker = Broker(means)

        async def run_for_a_while() -> None:
            asyncio.get_running_loop().call_later(1.5, broker.stop)
            await broker.run()

        with capture_logs() as logged:
            asyncio.run(run_for_a_while())
        (refusal,) = [each["reason"] for each in logged if each["event"] == "broker.refuses"]
        assert "is at 0:77, and this database at 0:3" in refusal
        assert cluster.messages(STREAM) == 1


async def _ready(connection: Client) -> None:
    """Whoever asks before JetStream is up is told so."""
    await connection.jetstream(timeout=5).account_info()
