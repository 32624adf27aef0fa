"""A post office on a database: webhooks, events in the feed, a relay that is driven by a clock which a test moves."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from poolwise.connect.guard import Guard, Resolver, read_networks, resolved
from poolwise.connect.webhooks import Sender
from poolwise.flows.identity import Ids
from poolwise.flows.ports import Answer, Audit, Effects, Event
from poolwise.flows.webhooks import Change, Delivery, DeliveryQuery, Webhook, WebhookState, subscribe
from poolwise.run.relay import Means, Relay
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.feed import PostgresFeed, sequence_once
from poolwise.store.postgres import Pool
from poolwise.store.webhooks import PostgresOutbound, PostgresWebhooks
from poolwise.web.webhooks import _with_secret

OPENED = datetime(2026, 1, 12, 10, tzinfo=UTC)
ALLOWED = "127.0.0.1/32"


@dataclass
class Office:
    """Everything behind webhooks; `now` is moved by tests."""

    pool: Pool
    now: datetime = OPENED
    attempt_s: float = 0.5
    most_open: int = 30
    resolver: Resolver = resolved

    def __post_init__(self) -> None:
        self.book = PostgresWebhooks(self.pool)
        self.outbound = PostgresOutbound(self.pool, most_open=self.most_open)
        self.senders: dict[float, Sender] = {}
        self.ids = Ids(secrets.randbits)

    def clock(self) -> datetime:
        return self.now

    def subscribe(self, url: str, *types: str, place: int | None = None) -> tuple[UUID, str]:
        """A webhook that begins at the end of the feed; its id and secret as its owner is told it."""
        begin = PostgresFeed(self.pool).end().get(0, 0) if place is None else place
        webhook = Webhook(self.ids.new(self.now), "tests", url, types, {0: begin}, self.now)
        answer = Answer("tests", str(webhook.id), b"", 201, str(webhook.id))
        secret = subscribe(self.book, secrets.randbits, webhook, "tests", answer)
        shown = _with_secret(201, webhook, secret).body.secret
        return webhook.id, shown

    def change(self, action: str = "webhooks.test") -> Change:
        return Change(self.now, Audit("tests", action, "subject"))

    def happen(self, *types: str, at: datetime | None = None) -> None:
        """Events, each in a commit of its own, numbered."""
        books = PostgresBooks(self.pool)
        for type_ in types:
            event = Event(type_, str(self.ids.new(self.now)), {"order": "O-1", "units": 3}, 0)
            with books.transaction() as transaction:
                transaction.record(Effects(at=at or self.now, events=[event]))
        while sequence_once(self.pool, 0, self.now, 500).rows:
            pass

    def relay(self) -> Relay:
        if self.attempt_s not in self.senders:
            guard = Guard(read_networks(ALLOWED), self.resolver)
            self.senders[self.attempt_s] = Sender(guard, self.clock, self.attempt_s)
        return Relay(Means(self.outbound, self.senders[self.attempt_s].send, self.clock, secrets.randbits, 0.002))

    def send(self) -> None:
        """What relays do until there is nothing to do at this time."""
        self.relay().run(until_idle=True)

    def hang_up(self) -> None:
        """The next request needs a connection of its own."""
        for sender in self.senders.values():
            sender.close()
        self.senders = {}

    def deliveries(self, webhook: UUID, limit: int = 2_000) -> list[Delivery]:
        return list(self.book.deliveries(DeliveryQuery(webhook=webhook, limit=limit)))

    def only(self, webhook: UUID) -> Delivery:
        (delivery,) = self.deliveries(webhook)
        return delivery

    def state(self, webhook: UUID) -> tuple[WebhookState, str]:
        found = self.book.by_id(webhook)
        assert found is not None
        return found.state, found.reason

    def pass_time(self, **span: float) -> None:
        self.now += timedelta(**span)


@contextmanager
def office(url: str) -> Iterator[Office]:
    with postgres.connect(url, connections=6) as pool:
        opened = Office(pool)
        yield opened
        opened.hang_up()
