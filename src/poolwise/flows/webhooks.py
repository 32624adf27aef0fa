"""Webhooks: what happens is sent to receivers that subscribed, signed, until they have it (ADR 0020).

A webhook has a place in the feed and follows it with a bounded number of deliveries that are not done: how far it is
behind costs nothing and loses nothing, since the feed is durable (law 7). A delivery is sent under the same id however
often it is sent, so that whoever remembers ids has everything once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID

from poolwise.core.values import Fault, Json, Refused
from poolwise.flows.ports import EVENT_TYPES, Answer, Audit, Event
from poolwise.flows.views import Place

SECRET_BITS: Final = 256
MOST_OPEN: Final = 1_000
"""Deliveries of one webhook that are neither done nor failed; beyond it the webhook's place stays behind."""

MOST_WEBHOOKS: Final = 100
MOST_TYPES: Final = 50
LONGEST_URL: Final = 2_000
LONGEST_REASON: Final = 200
LONGEST_OVERLAP: Final = timedelta(days=7)
KEPT: Final = timedelta(days=7)
"""How long a delivery that is done is shown."""

PAUSES: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""What is waited after each attempt that failed, as Standard Webhooks recommends; one more attempt than pauses."""

JITTER_BITS: Final = 16
MOST_JITTER: Final = 5
"""At most a fifth is added to a pause, so that what failed together does not come back together."""

LONGEST_HOLD: Final = timedelta(hours=1)
"""As long a receiver may ask us to leave it alone."""

GIVEN_UP_AFTER: Final = timedelta(days=3)
PING: Final = "webhook.ping"
PING_BITS: Final = 62
GONE: Final = 410
_TYPE: Final = re.compile(r"[a-z][a-z_]*(\.[a-z][a-z_]*)*(\.\*)?")


class WebhookState(StrEnum):
    """Whether anything is sent. `DISABLED`: by Poolwise, with a reason. `ENDED`: deleted, and not shown any more."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"
    ENDED = "ended"


class DeliveryState(StrEnum):
    """Whether a delivery is still to be sent, was accepted by its receiver, or was given up."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A subscription without its secrets. `types` are names, or `order.*`; none means every event."""

    id: UUID
    party: str
    url: str
    types: tuple[str, ...]
    place: Place
    made_at: datetime
    state: WebhookState = WebhookState.ACTIVE
    reason: str = ""
    former_until: datetime | None = None
    failing_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where to send, and what to sign with: the secret, and until an instant the one before it, too."""

    webhook: UUID
    url: str
    secret: bytes = field(repr=False)
    former: bytes | None = field(default=None, repr=False)
    former_until: datetime | None = None

    def secrets_at(self, now: datetime) -> tuple[bytes, ...]:
        """The secrets that sign at an instant, the newest first."""
        if self.former is None or self.former_until is None or now >= self.former_until:
            return (self.secret,)
        return (self.secret, self.former)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this process is to send until `leased_until`; its `attempts` include the one to come.

    `number` is that of the event in the feed of its cell, below zero for a ping. `event` is None where the feed no
    longer has it.
    """

    receiver: Receiver
    cell: int
    number: int
    attempts: int
    leased_until: datetime
    at: datetime
    event: Event | None

    @property
    def message_id(self) -> str:
        """The same for every attempt, and for no other event or webhook."""
        what = f"{self.cell}_{self.number}" if self.number > 0 else f"ping_{-self.number}"
        return f"evt_{self.receiver.webhook.hex}_{what}"


@dataclass(frozen=True, slots=True)
class Told:
    """What became of an attempt: the status of the answer, 0 for none, and why it counts as failed.

    `hold`: for how long the receiver asks to be left alone, at most `LONGEST_HOLD`.
    """

    status: int
    reason: str = ""
    hold: timedelta = timedelta(0)

    @property
    def accepted(self) -> bool:
        """Whether the receiver has it."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is recorded of an attempt: the state, when it is due again, and whether the receiver wants no more.

    `told` is None for one that was claimed and not sent: as if it had not been claimed.
    """

    claimed: Claimed
    told: Told | None
    state: DeliveryState
    due: datetime

    @property
    def gone(self) -> bool:
        """Whether the receiver said that it is gone for good."""
        return self.told is not None and self.told.status == GONE


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as people read it. `status` and `reason` are those of the last attempt; 0: none was answered."""

    cell: int
    number: int
    state: DeliveryState
    attempts: int
    due: datetime
    changed_at: datetime
    status: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryQuery:
    """Which deliveries of a webhook: the newest first, those before (cell, number)."""

    webhook: UUID
    state: DeliveryState | None = None
    before: tuple[int, int] | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes something, when; `answer` is kept under the key of the request, in the same commit (law 5)."""

    now: datetime
    audit: Audit
    answer: Answer | None = None


class WebhookBook(Protocol):
    """Where webhooks are kept, as people see and change them. Changes of one that is not there change nothing.

    A change commits together with its audit row and its answer, and raises Conflict where the key has one already.
    """

    def add(self, webhook: Webhook, secret: bytes, change: Change) -> None:
        """Keep a new webhook. Refuses more than `MOST_WEBHOOKS` of a party."""

    def by_id(self, webhook: UUID) -> Webhook | None:
        """A webhook; None where there is none, or it has ended."""

    def all(self, party: str, after: UUID | None, limit: int) -> Sequence[Webhook]:
        """Webhooks of a party, or of all (''), oldest first, those after an id."""

    def put(self, webhook: UUID, state: WebhookState, change: Change) -> None:
        """Set the state. One that was disabled and is active again sends at once what waits, or failed meanwhile."""

    def rotate(self, webhook: UUID, secret: bytes, former_until: datetime, change: Change) -> None:
        """Sign with another secret; the one before goes on until an instant, and the one before that ends."""

    def go_back(self, webhook: UUID, place: Place, change: Change) -> None:
        """Let the webhook's place be no later than this one."""

    def retry_failed(self, webhook: UUID, change: Change) -> None:
        """Send again what failed for good."""

    def ping(self, webhook: UUID, cell: int, number: int, change: Change) -> None:
        """Add the delivery of a ping."""

    def deliveries(self, query: DeliveryQuery) -> Sequence[Delivery]:
        """Deliveries, at most `query.limit`."""


class Outbound(Protocol):
    """Where webhooks are kept, as those who send see it. Any number of processes may work on it."""

    def behind(self) -> Sequence[tuple[UUID, int]]:
        """The active webhooks and cells in whose feed there is more."""

    def fan_out(self, webhook: UUID, cell: int, now: datetime) -> int:
        """Make deliveries of the next events of a cell and move the place behind them, in one commit: how many events.

        Nothing where another process is at it, or more than half as many as may be are open.
        """

    def claim(self, room: Callable[[UUID], int], now: datetime, leased_until: datetime) -> Sequence[Claimed]:
        """Take what is due, of each webhook as much as there is room: nobody else does before the lease ends."""

    def record(self, outcomes: Sequence[Outcome], now: datetime) -> Sequence[UUID]:
        """Record what became of attempts; the webhooks that were disabled for it."""

    def sweep(self, now: datetime, limit: int) -> int:
        """Forget up to `limit` deliveries that were done long ago, or whose webhook has ended: how many."""


def wants(types: Sequence[str], type_: str) -> bool:
    """Whether a webhook that asked for these types wants an event."""
    return not types or any(
        type_ == each or (each.endswith(".*") and type_.startswith(each.removesuffix("*"))) for each in types
    )


def pause_after(attempts: int, random_bits: Callable[[int], int]) -> timedelta | None:
    """How long to wait after so many attempts, the last of which failed; None when that was the last one."""
    assert attempts > 0, "an attempt was made"
    if attempts > len(PAUSES):
        return None
    pause = PAUSES[attempts - 1]
    return pause + pause * random_bits(JITTER_BITS) // (MOST_JITTER << JITTER_BITS)


def judge(claimed: Claimed, told: Told, now: datetime, random_bits: Callable[[int], int]) -> Outcome:
    """What follows from an attempt. A receiver that is gone keeps what waits, for when it is enabled again."""
    if told.accepted:
        return Outcome(claimed, told, DeliveryState.DONE, now)
    pause = pause_after(claimed.attempts, random_bits)
    if claimed.event is None or (pause is None and told.status != GONE):
        return Outcome(claimed, told, DeliveryState.FAILED, now)
    return Outcome(claimed, told, DeliveryState.WAITING, now + max(told.hold, pause or timedelta(0)))


def given_back(claimed: Claimed, now: datetime) -> Outcome:
    """It was not sent after all."""
    return Outcome(claimed, None, DeliveryState.WAITING, now)


def check_webhook(url: str, types: Sequence[str], url_fault: Callable[[str], str]) -> None:
    """Refuse a url to which nothing may be sent, and names that are no event's."""
    faults = [Fault("url", fault)] if (fault := url_fault(url)) else []
    for index, name in enumerate(types):
        if _TYPE.fullmatch(name) is None:
            faults.append(Fault(f"types[{index}]", "is no name of events, such as order.sourced or order.*"))
        elif not any(wants([name], each) for each in EVENT_TYPES):
            faults.append(Fault(f"types[{index}]", f"no event is called so; there are {', '.join(_near(name))}"))
    if faults:
        raise Refused("webhook_invalid", faults)


def _near(name: str) -> Sequence[str]:
    """Names of events that somebody may have meant."""
    groups = list(dict.fromkeys(f"{each.partition('.')[0]}.*" for each in EVENT_TYPES))
    group = f"{name.partition('.')[0]}.*"
    beside = [each for each in EVENT_TYPES if wants([group], each)]
    return [group, *beside] if beside else get_close_matches(name, [*groups, *EVENT_TYPES]) or groups


def subscribe(
    book: WebhookBook, random_bits: Callable[[int], int], webhook: Webhook, actor: str, answer: Answer
) -> bytes:
    """Keep a webhook that was checked; its new secret, which nobody can read again."""
    secret = _new_secret(random_bits)
    detail: Mapping[str, Json] = {
        "url": webhook.url.partition("?")[0],
        "types": list(webhook.types),
        "party": webhook.party,
    }
    audit = Audit(actor, "webhooks.create", str(webhook.id), detail)
    book.add(webhook, secret, Change(webhook.made_at, audit, answer))
    return secret


def rotate_secret(
    book: WebhookBook, random_bits: Callable[[int], int], webhook: UUID, overlap: timedelta, change: Change
) -> bytes:
    """Give a webhook a new secret; the one before goes on signing for `overlap`."""
    assert timedelta(0) <= overlap <= LONGEST_OVERLAP
    secret = _new_secret(random_bits)
    book.rotate(webhook, secret, change.now + overlap, change)
    return secret


def _new_secret(random_bits: Callable[[int], int]) -> bytes:
    return random_bits(SECRET_BITS).to_bytes(SECRET_BITS // 8, "big")
