"""A works that is running: embedded server, API, worker, and clients that write down what was acknowledged to them."""

from __future__ import annotations

import itertools
import os
import random
import secrets
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.context import ForkServerProcess
from threading import Event, Lock, Thread
from uuid import UUID

import httpx
import psycopg

from poolwise.connect.directory.policies import default_policy
from poolwise.core.edition.rows import Row, Section
from poolwise.core.values import Rate, replace
from poolwise.flows.identity import Ids
from poolwise.flows.masterdata import Told, adopt_policy, publish
from poolwise.flows.tokens import Role, issue_token
from poolwise.run import processes
from poolwise.run.bootstrap import Rulebook, prepare
from poolwise.run.settings import Settings
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.editions import PostgresEditions
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.evidence import OVERLAP, check_database
from poolwise.store.feed import PostgresFeed
from poolwise.store.proof import verifier
from poolwise.store.tokens import PostgresTokens
from tests.flows.market import NODES, rows
from tests.forks import context
from tests.run import doomed
from tests.run.doomed import Doom

PATIENCE_S = 180.0
POLL_S = 0.02
LONGEST_PAUSE_S = 0.2
"""Between two orders of a client: some hundred orders arrive from one kill to the next."""
NEWEST = 40
AT_ONCE = ("conflict", "in_progress")
"""Refusals after which the same is asked again."""
ITEMS = ("BOLT", "NUT", "NAIL", "SCREW")
IN_FLIGHT = """
SELECT pid FROM pg_stat_activity
WHERE usename = 'poolwise_app' AND xact_start IS NOT NULL AND state <> 'idle'
"""
LEFT = """
SELECT (SELECT count(*) FROM todo WHERE queue = 'at_once'), (SELECT count(*) FROM outbox WHERE first_seq IS NULL),
    (SELECT count(*) FROM todo_item AS t, policy_version AS p
        WHERE t.item LIKE ' =%' AND p.state = 'active' AND t.item NOT LIKE '%/' || p.code || '/' || p.version)
"""
OLD_ANSWERS = """
INSERT INTO answer (cell, sender, key, body_hash, status, reference, at)
SELECT n, 'long ago', gen_random_uuid()::text, '', 201, '', timestamptz '2020-01-01' FROM generate_series(1, %s) AS n
"""
MILESTONES = b"""
SELECT o.number, m.kind, count(*) FROM milestone AS m JOIN customer_order AS o ON (o.cell, o.id) = (m.cell, m.owner)
WHERE o.number = ANY(%b) AND m.kind IN ('cancelled', 'changed', 'held', 'shipped', 'declined') GROUP BY 1, 2
"""
ANSWERS_LEFT = "SELECT count(*) FROM answer WHERE sender = 'long ago'"


def until(what: Callable[[], object], says: str, poll_s: float = POLL_S) -> None:
    """Wait for something, not for ever."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, says
        time.sleep(poll_s)


@dataclass
class Works:
    """Everything that runs. What dies is started again by `repair`."""

    server: EmbeddedServer
    seed: int
    sections: Sequence[tuple[Section, Row]] = field(default_factory=lambda: rows(daily_orders=50))
    api: ForkServerProcess | None = None
    worker: ForkServerProcess | None = None
    processes: list[ForkServerProcess] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    happened: Counter[tuple[str, str]] = field(default_factory=Counter)
    proven: set[str] = field(default_factory=set)
    place: int = 0
    accepted: dict[UUID, int] = field(default_factory=dict)
    sourced: dict[UUID, list[object]] = field(default_factory=dict)
    numbers: itertools.count = field(default_factory=lambda: itertools.count(1))
    closing: Event = field(default_factory=Event)
    paused: Event = field(default_factory=Event)
    clients: list[Thread] = field(default_factory=list)
    busy: set[int] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)
    errors: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        with closing(socket.socket()) as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.server.start()
        self.settings = Settings(
            database_url=self.server.application_url(), port=port, connections=6, log_level="error", idle_ms=5, batch=20
        )
        self.url = f"http://127.0.0.1:{port}"
        now = datetime.now(UTC)
        prepare(self.server.owner_url(), now)
        with postgres.connect(self.settings.database_url, connections=1) as pool:
            editions = PostgresEditions(pool)
            publish(editions, [Told(row, section) for section, row in self.sections], now, "test")
            adopt_policy(editions, default_policy(), now, "test")
            self.token = issue_token(
                PostgresTokens(pool), Ids(secrets.randbits), secrets.randbits,
                party="shop", role=Role.INTEGRATOR, now=now, actor="test",
            ).secret  # fmt: skip

    # Processes

    def start_api(self, doom: Doom | None = None) -> None:
        """Start the API, and wait until it answers; one that is doomed may be dead by then: clients do not wait."""
        api = self.api = self._start(doomed.serve if doom else processes.serve, doom)
        until(lambda: self._answers() or (doom and not api.is_alive()), "the API does not answer")

    def start_worker(self, doom: Doom | None = None) -> ForkServerProcess:
        """Start a worker, which may be doomed."""
        worker = self._start(doomed.work if doom else processes.work, doom)
        if doom is None:
            self.worker = worker
        return worker

    def _start(self, target: Callable[..., None], doom: Doom | None) -> ForkServerProcess:
        process = context.Process(target=target, args=(self.settings, doom) if doom else (self.settings,), daemon=True)
        process.start()
        self.processes.append(process)
        return process

    def _answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health", timeout=1).status_code < 600
        return False

    def repair(self) -> None:
        """Start again what died."""
        self.server.start()
        if self.api is None or not self.api.is_alive():
            self.start_api()
        if self.worker is None or not self.worker.is_alive():
            self.start_worker()

    # Clients

    def open(self, clients: int = 3) -> None:
        """Clients order and change their minds, a node counts and reports, all the time; each repeats under its key
        until it has an answer."""
        for number, act in enumerate([self._order] * clients + [self._count, self._change, self._report]):
            self.clients.append(Thread(target=self._client, args=(number, act), daemon=True))
        for client in self.clients:
            client.start()

    def _client(self, number: int, act: Callable[[httpx.Client, random.Random], None]) -> None:
        chance = random.Random(self.seed * 100 + number)
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            with httpx.Client(base_url=self.url, headers=headers, timeout=20) as http:
                while not self.closing.is_set():
                    if self.paused.is_set():
                        time.sleep(POLL_S)
                        continue
                    with self.lock:
                        self.busy.add(number)
                    act(http, chance)
                    with self.lock:
                        self.busy.discard(number)
        except BaseException as error:  # noqa: BLE001
            self.errors.append(error)

    def _order(self, http: httpx.Client, chance: random.Random) -> None:
        number = f"K-{next(self.numbers)}"
        lines = [{"item": item, "quantity": str(chance.randint(1, 3))} for item in chance.sample(ITEMS, 2)]
        answer = self._sent(http, "/v1/orders", {"channel": "web", "zone": "Z", "number": number, "lines": lines})
        assert answer.status_code < 300, answer.text
        assert answer.json()["number"] == number
        self.acknowledged[number] = answer.json()["id"]
        time.sleep(chance.uniform(0, LONGEST_PAUSE_S))

    def _count(self, http: httpx.Client, chance: random.Random) -> None:
        counts = [
            {"item": item, "node": chance.choice(NODES), "pool": "P", "quantity": str(chance.randint(0, 60)),
             "as_of": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
            for item in chance.sample(ITEMS, 2)
        ]  # fmt: skip
        answer = self._sent(http, "/v1/stock/counts", {"counts": counts})
        assert answer.status_code < 300, answer.text
        time.sleep(chance.uniform(0, 2 * LONGEST_PAUSE_S))

    def _change(self, http: httpx.Client, chance: random.Random) -> None:
        """A customer takes something back, or wants more, of an order that may have left already."""
        what, body, milestone = chance.choice(
            (
                ("cancellations", {"lines": [{"no": 1, "quantity": "1"}]}, "cancelled"),
                ("amendments", {"add": [{"item": chance.choice(ITEMS), "quantity": "1"}]}, "changed"),
                ("holds", {"code": f"h{chance.randrange(9)}", "blocks": ["release"]}, "held"),
            )
        )
        self._of_some_order(http, chance, lambda number: (f"/v1/orders/{number}/{what}", body), milestone)

    def _report(self, http: httpx.Client, chance: random.Random) -> None:
        """A node sends a shipment, or will not, as it was planned a moment ago."""
        kind, id_ = chance.choice(("shipped", "shipped", "declined")), secrets.token_hex(8)

        def said(number: str) -> tuple[str, dict[str, object]]:
            at = datetime.now(UTC).isoformat()
            body: dict[str, object] = {"id": id_, "order": number, "shipment": 1, "kind": kind, "at": at}
            return "/v1/shipments/reports", body

        self._of_some_order(http, chance, said, kind)

    def _of_some_order(
        self,
        http: httpx.Client,
        chance: random.Random,
        asked: Callable[[str], tuple[str, dict[str, object]]],
        milestone: str,
    ) -> None:
        """What is asked of one of the newest orders. What is acknowledged is in the order's timeline once; it may be
        refused."""
        newest = list(self.acknowledged)[-NEWEST:]
        if newest:
            number = chance.choice(newest)
            answer = self._sent(http, *asked(number))
            assert answer.status_code < 500, answer.text
            if answer.status_code < 300:
                self.happened[number, milestone] += 1
        time.sleep(chance.uniform(0, LONGEST_PAUSE_S))

    def _sent(self, http: httpx.Client, path: str, body: object) -> httpx.Response:
        """The answer, however often it takes: no answer and a server's trouble mean the same request again."""
        key = secrets.token_hex(8)
        while not self.closing.is_set():
            try:
                answer = http.post(path, json=body, headers={"Idempotency-Key": key})
            except httpx.HTTPError:
                time.sleep(POLL_S)
                continue
            if answer.status_code in (429, 503) or (answer.status_code == 409 and answer.json()["code"] in AT_ONCE):
                time.sleep(POLL_S)
                continue
            return answer
        raise SystemExit

    # Killing

    def wait_for_work_in_flight(self) -> list[int]:
        """Until a transaction of the application is open; the server processes that have one."""
        found: list[int] = []
        with psycopg.connect(self.server.superuser_url(), autocommit=True) as watcher:

            def seen() -> bool:
                found[:] = [backend for (backend,) in watcher.execute(IN_FLIGHT)]
                return bool(found)

            until(seen, "nothing is in flight", poll_s=0)
        return found

    def kill(self, process: ForkServerProcess) -> None:
        """Kill -9 of a process while work is in flight."""
        assert process.pid is not None
        self.wait_for_work_in_flight()
        os.kill(process.pid, signal.SIGKILL)
        process.join(PATIENCE_S)

    def kill_server(self, random_backend: bool, chance: random.Random) -> None:
        """Kill -9 of the server, or of one of its processes that is in a transaction."""
        postmaster = self.server.status().process
        backends = self.wait_for_work_in_flight()
        victim = chance.choice(backends) if random_backend else postmaster
        assert victim is not None
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)

    def wait_for_the_end_of(self, process: int | None) -> None:
        """Until the process is gone."""
        assert process is not None
        until(lambda: self.server.status().process != process, f"process {process} lives on")

    def other_rules(self, number: int) -> None:
        """Another version of the policy is in force: whoever waits is to look again."""
        with self._opened() as pool:
            adopt_policy(
                PostgresEditions(pool), replace(default_policy(), split_cost=Rate(number)), datetime.now(UTC), "test"
            )

    def orders_arrive(self, count: int) -> None:
        """Until that many orders are acknowledged in all."""
        until(lambda: len(self.acknowledged) >= count or self.errors, "no orders are acknowledged")

    # What must hold

    def settle(self) -> None:
        """Let clients have their answers, and workers finish."""
        self.paused.set()
        until(lambda: not self.busy or self.errors, "clients have no answer")
        assert not self.errors, self.errors
        self.work_off()

    def work_off(self) -> None:
        """Let workers decide what waits, and number what they tell."""
        until(lambda: self._left() == (0, 0, 0), "something is stuck")

    def _left(self) -> tuple[int, ...]:
        with psycopg.connect(self.server.superuser_url("poolwise"), autocommit=True) as watcher:
            row = watcher.execute(LEFT).fetchone()
        assert row is not None
        return row

    def answers_grow_old(self, count: int = 50) -> None:
        """Answers of long ago are on record, besides those of the clients."""
        with psycopg.connect(self.server.owner_url()) as owner:
            owner.execute(OLD_ANSWERS, (count,))

    def old_answers_go(self) -> None:
        """Until a worker has forgotten them."""
        with psycopg.connect(self.server.superuser_url("poolwise"), autocommit=True) as watcher:
            until(lambda: watcher.execute(ANSWERS_LEFT).fetchone() == (0,), "old answers are not forgotten")

    def go_on(self) -> None:
        """Let clients order again."""
        self.paused.clear()

    def prove(self) -> None:
        """What came since the last proof: acknowledged orders are there once and decided, every law holds, the feed is
        whole.

        Called when all is settled: nothing is open, so the next proof needs no overlap with this one.
        """
        with self._opened() as pool:
            numbers = [number for number in self.acknowledged if number not in self.proven]
            self._prove_orders(pool, numbers)
            self._prove_timelines(pool)
            self.proven.update(numbers)
            assert check_database(pool, (0,), datetime.now(UTC) + OVERLAP).findings == ()

    def prove_everything(self) -> None:
        """The same from the beginning; every stored plan is computed again and verified (laws 8 and 15)."""
        with self._opened() as pool:
            self._prove_orders(pool, list(self.acknowledged))
            verify = verifier(Rulebook(PostgresEditions(pool)), PostgresBooks(pool))
            report = check_database(pool, (0,), datetime.now(UTC), full=True, verify=verify)
            assert report.findings == ()
            assert report.orders >= len(self.acknowledged)
            assert {kind for _, kind in self.happened} == {"cancelled", "changed", "held", "shipped", "declined"}

    def _opened(self) -> postgres.Pool:
        return postgres.connect(self.settings.database_url, connections=3)

    def _prove_orders(self, pool: postgres.Pool, numbers: list[str]) -> None:
        told = self._read_feed(PostgresFeed(pool))
        with PostgresBooks(pool).transaction() as transaction:
            kept = transaction.order_numbered(numbers)
            records = transaction.orders({*kept.values(), *told})
        assert {number: str(id_) for number, id_ in kept.items()} == {n: self.acknowledged[n] for n in numbers}
        assert all(record.attempt > 0 for record in records.values())
        for id_, record in records.items():
            assert self.accepted.get(id_) == 1, f"{id_} was accepted {self.accepted.get(id_)} times"
            assert self.sourced.get(id_) == list(range(1, record.attempt + 1)), f"{id_}: {self.sourced.get(id_)}"

    def _prove_timelines(self, pool: postgres.Pool) -> None:
        """What was acknowledged of orders, changes and reports, happened once each."""
        numbers = sorted({number for number, _ in self.happened})
        with pool.connection() as connection:
            kept = Counter({tuple(row[:2]): row[2] for row in connection.execute(MILESTONES, (numbers,))})
        assert kept == self.happened, f"not alike: {dict((kept - self.happened) | (self.happened - kept))}"

    def _read_feed(self, feed: PostgresFeed) -> set[UUID]:
        """Read on in the feed, in which no number is missing; the orders it tells of."""
        told: set[UUID] = set()
        while found := feed.after({0: self.place}, 500):
            for numbered in found:
                assert numbered.number == self.place + 1, f"{numbered.number} follows {self.place}"
                self.place = numbered.number
                event = numbered.event
                if event.type in ("order.accepted", "order.sourced"):
                    told.add(order := UUID(event.subject))
                if event.type == "order.accepted":
                    self.accepted[order] = self.accepted.get(order, 0) + 1
                elif event.type == "order.sourced":
                    self.sourced.setdefault(order, []).append(event.data["attempt"])
        return told

    def close(self) -> None:
        """Stop everything."""
        self.closing.set()
        for client in self.clients:
            client.join(PATIENCE_S)
        for process in self.processes:
            if process.is_alive():
                process.kill()
        self.server.stop()
