"""A shop that is open: the real application, server and database, with the five nodes of the example."""

from __future__ import annotations

import itertools
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import uvicorn

from poolwise.connect.directory.loading import load_directory
from poolwise.connect.guard import Guard, read_networks
from poolwise.core.messages import StockCount
from poolwise.core.policy.evaluate import compile_policy
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.values import Fault, Refused, replace
from poolwise.flows.identity import Ids
from poolwise.flows.source import Desk, Sourced, source_batch
from poolwise.flows.stock import Outcome, book_counts
from poolwise.flows.tallying import Clerk
from poolwise.flows.timers import run_timers
from poolwise.flows.tokens import Role, issue_token
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.feed import PostgresFeed, sequence_once
from poolwise.store.links import PostgresLinkKeys
from poolwise.store.postgres import Pool
from poolwise.store.tokens import PostgresTokens
from poolwise.store.views import PostgresViews
from poolwise.store.webhooks import PostgresWebhooks
from poolwise.web.app import create_app
from poolwise.web.wiring import Limits, Services
from poolwise.web.wiring import Shop as Courtesy

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "five-nodes"
OPENED = datetime(2026, 1, 12, 10, tzinfo=UTC)
keys = itertools.count(1)
QUICK = Limits(feed_poll_seconds=0.02, heartbeat_seconds=0.5)

ORDER = {"channel": "web", "zone": "de-north", "lines": [{"item": "MUG-BLUE", "quantity": "2"}]}
BASKET = {**ORDER, "expires_in_seconds": 600}


class Rulebook:
    """One edition and one policy, in force."""

    def __init__(self) -> None:
        loaded = load_directory(EXAMPLE)
        policy = replace(loaded.policies["default"], version=1)
        self._atlas = Atlas(loaded.edition, compile_policy(policy))

    def current(self) -> Atlas:
        return self._atlas

    def atlas(self, edition: str, policy: str, version: int) -> Atlas:
        known = self._atlas
        if edition != known.edition.hash:
            raise Refused("edition_unknown", [Fault("edition", f"there is no edition {edition}")])
        if (policy, version) != (known.policy.policy.code, known.policy.policy.version):
            raise Refused("policy_unknown", [Fault("policy", f"there is no version {version} of '{policy}'")])
        return known


RULES = Rulebook()


@dataclass
class Clock:
    """A clock that begins when the shop opens and can be moved on."""

    ahead: timedelta = timedelta(0)
    began: float = field(default_factory=time.monotonic)

    def __call__(self) -> datetime:
        return OPENED + self.ahead + timedelta(seconds=time.monotonic() - self.began)


@dataclass
class Shop:
    """The running server, who may ask it, and what works behind it."""

    url: str
    services: Services
    pool: Pool
    clock: Clock
    tokens: dict[Role, str]

    def client(self, role: Role = Role.INTEGRATOR, **headers: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.tokens[role]}", **headers}, timeout=30
        )

    def post(
        self, path: str, body: object, key: str = "", role: Role = Role.INTEGRATOR, **headers: str
    ) -> httpx.Response:
        with self.client(role) as client:
            return client.post(path, json=body, headers={"Idempotency-Key": key or new_key(), **headers})

    def get(self, path: str, role: Role = Role.VIEWER, **headers: str) -> httpx.Response:
        with self.client(role) as client:
            return client.get(path, headers=headers)

    def desk(self) -> Desk:
        return Desk(RULES.current(), "0.1.0", (0,), self.services.ids)

    def decide(self) -> Sourced:
        """What a worker does."""
        return source_batch(self.services.books, self.desk(), 0, self.clock(), 100)

    def release(self) -> int:
        """An hour later a worker releases what is due."""
        self.clock.ahead += timedelta(hours=1)
        return run_timers(self.services.books, self.desk(), 0, self.clock(), 100)

    def number_events(self) -> int:
        """What the sequencer does."""
        numbered = 0
        while found := sequence_once(self.pool, 0, self.clock(), 100).events:
            numbered += found
        return numbered

    def stock(self, item: str, quantity: int, node: str = "HAM-DC", pool: str = "web") -> None:
        clerk = Clerk(RULES.current().edition, self.services.ids, "wms")
        count = StockCount(item=item, node=node, pool=pool, quantity=str(quantity), as_of=self.clock())
        results = book_counts(self.services.books, clerk, [count], self.clock())
        assert results[0].outcome in (Outcome.BOOKED, Outcome.UNCHANGED), results

    def rows(self, statement: bytes) -> list[tuple[object, ...]]:
        with self.pool.connection() as connection:
            return connection.execute(statement).fetchall()


def addresses_of(name: str, _port: int) -> list[str]:
    """What names mean in tests, where nobody is asked: those that end so have an address on the internet."""
    known = {"localhost": ["127.0.0.1"], "inside.example": ["127.0.0.1", "127.0.0.2"]}
    return known.get(name, ["93.184.216.34"] if name.endswith(".example") else [])


def new_key() -> str:
    return f"key-{next(keys)}"


def services_on(pool: Pool, clock: Clock, threads: int, limits: Limits) -> Services:
    return Services(
        books=PostgresBooks(pool, (0,)),
        views=PostgresViews(pool, (0,)),
        feed=PostgresFeed(pool, (0,)),
        tokens=PostgresTokens(pool),
        links=PostgresLinkKeys(pool),
        shop=Courtesy(name="Five Nodes & Sons", contact="help@example.com"),
        webhooks=PostgresWebhooks(pool, (0,)),
        url_fault=Guard(read_networks("127.0.0.1/32"), addresses_of).url_fault,
        rules=RULES,
        clock=clock,
        stopwatch=time.perf_counter,
        random_bits=secrets.randbits,
        ids=Ids(secrets.randbits),
        release="0.1.0",
        cells=(0,),
        threads=threads,
        limits=limits,
    )


def token_of(services: Services, role: Role) -> str:
    party = f"the {role}"
    book, ids, bits = services.tokens, services.ids, services.random_bits
    return issue_token(book, ids, bits, party=party, role=role, now=OPENED, actor="test").secret


@contextmanager
def opened(database_url: str, limits: Limits = QUICK, *, stocked: bool = True) -> Iterator[Shop]:
    """A shop on a database of its own, with stock of every item at two nodes unless it is to be empty."""
    clock, threads = Clock(), 6
    with postgres.connect(database_url, connections=threads + 2) as pool:
        services = services_on(pool, clock, threads, limits)
        tokens = {
            role: issue_token(
                services.tokens,
                services.ids,
                secrets.randbits,
                party=f"the {role}",
                role=role,
                now=OPENED,
                actor="test",
            ).secret
            for role in Role
        }
        with served(services) as url:
            shop = Shop(url, services, pool, clock, tokens)
            for item in ("MUG-BLUE", "MUG-GREEN", "PAN", "PLATE", "KETTLE") if stocked else ():
                shop.stock(item, 1_000)
                shop.stock(item, 1_000, "MUC-DC")
            yield shop


@contextmanager
def served(services: Services) -> Iterator[str]:
    """A uvicorn server of its own thread and port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app(services), log_level="error", access_log=False, ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
