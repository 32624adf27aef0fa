"""What the handlers are given: the two sides of the books, the rules in force, a clock. Wired in `run.bootstrap`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from poolwise.core.sourcing.atlas import Atlas
from poolwise.flows.explain import Library
from poolwise.flows.identity import Ids
from poolwise.flows.ports import Books
from poolwise.flows.tokens import TokenBook
from poolwise.flows.tracking import LinkKeys
from poolwise.flows.views import Feed, Views
from poolwise.flows.webhooks import WebhookBook


class Rules(Library, Protocol):
    """Editions and policy versions: the ones in force, and any by name."""

    def current(self) -> Atlas:
        """The edition and policy in force. Raises Refused("nothing_in_force") before the first import."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one process takes on; what is more is answered 429 with Retry-After.

    `most_waiting` requests wait for one of the threads; `most_streams` clients follow the feed;
    `most_deciding` requests with `Prefer: wait` wait for a worker.
    """

    most_waiting: int = 500
    most_streams: int = 200
    most_deciding: int = 1_000
    most_bytes: int = 1_000_000
    most_bytes_in_bulk: int = 20_000_000
    feed_poll_seconds: float = 0.1
    decided_poll_seconds: float = 0.02
    heartbeat_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class Shop:
    """What customers see of the company: the address of its pages (`https://orders.example.com`), name and contact."""

    url: str = ""
    name: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a handler may use. `threads` is the size of the connection pool: one request, one connection.

    `url_fault` says what is wrong with the url of a receiver of webhooks, '' for nothing. `clock` tells the time,
    `stopwatch` measures seconds, `random_bits(n)` gives n secret random bits.
    """

    books: Books
    views: Views
    feed: Feed
    tokens: TokenBook
    links: LinkKeys
    webhooks: WebhookBook
    url_fault: Callable[[str], str]
    rules: Rules
    clock: Callable[[], datetime]
    stopwatch: Callable[[], float]
    random_bits: Callable[[int], int]
    ids: Ids
    release: str
    cells: tuple[int, ...]
    threads: int
    shop: Shop = Shop()
    limits: Limits = Limits()
