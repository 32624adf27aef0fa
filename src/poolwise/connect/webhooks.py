"""Sends deliveries: CloudEvents 1.0 as JSON, signed as Standard Webhooks says, over connections the guard allows.

Nothing is followed, decoded or read to the end: what a receiver answers is a status, and how long to leave it alone.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Final

import httpcore
from standardwebhooks import Webhook

from poolwise.connect.cloudevents import MEDIA_TYPE, event_body
from poolwise.connect.guard import (
    Attempt,
    Forbidden,
    Guard,
    GuardedBackend,
    Resolver,
    read_networks,
    read_url,
    resolved,
)
from poolwise.flows.webhooks import LONGEST_HOLD, LONGEST_REASON, Claimed, Told

ATTEMPT_S: Final = 15.0
"""From the name to the end of the answer."""

MOST_ANSWER_BYTES: Final = 16_384
MOST_CONNECTIONS: Final = 256
MOST_IDLE: Final = 64
IDLE_S: Final = 5.0
SECRET_PREFIX: Final = "whsec_"
SLOW_DOWN: Final = frozenset({429, 503})


def guard_of(internal: str, resolver: Resolver = resolved) -> Guard:
    """The guard of the setting internal_webhooks."""
    return Guard(read_networks(internal), resolver)


def body_of(claimed: Claimed) -> bytes:
    """The event as structured CloudEvents JSON; the same bytes for every attempt."""
    event = claimed.event
    assert event is not None, "it was looked at before"
    if claimed.number <= 0:
        return event_body(event, claimed.message_id, claimed.at)
    place = f"{claimed.cell}:{claimed.number}"
    return event_body(event, place, claimed.at, place)


def headers_of(claimed: Claimed, body: bytes, now: datetime) -> dict[str, str]:
    """The headers of one attempt: one signature for each secret that holds."""
    text = body.decode()
    secrets = [base64.b64encode(secret).decode() for secret in claimed.receiver.secrets_at(now)]
    return {
        "content-type": MEDIA_TYPE,
        "user-agent": "Poolwise-Webhooks",
        "webhook-id": claimed.message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(claimed.message_id, now, text) for secret in secrets),
    }


class Sender:
    """Sends from any number of threads, over connections that are kept for a while."""

    def __init__(self, guard: Guard, clock: Callable[[], datetime], attempt_s: float = ATTEMPT_S) -> None:
        """`attempt_s` is the most that one attempt takes, whatever the receiver does."""
        self._clock = clock
        self._attempt_s = attempt_s
        self._attempt = Attempt()
        context = httpcore.default_ssl_context()
        context.load_default_certs()
        self._pools = {
            scheme: httpcore.ConnectionPool(
                ssl_context=context,
                max_connections=MOST_CONNECTIONS,
                max_keepalive_connections=MOST_IDLE,
                keepalive_expiry=IDLE_S,
                network_backend=GuardedBackend(guard, self._attempt, internal_only=scheme == "http"),
            )
            for scheme in ("http", "https")
        }

    def send(self, claimed: Claimed) -> Told:
        """Make one attempt. Whatever goes wrong is told, not raised."""
        if claimed.event is None:
            return Told(0, "the event is no longer in the feed")
        self._attempt.until = monotonic() + self._attempt_s
        try:
            target = read_url(claimed.receiver.url)
            url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
            body = body_of(claimed)
            headers = [("host", target.authority), *headers_of(claimed, body, self._clock()).items()]
            with self._pools[target.scheme].stream("POST", url, headers=headers, content=body) as answer:
                told = self._told(answer.status, {name.lower(): value for name, value in answer.headers})
                seen = 0
                for part in answer.iter_stream():
                    seen += len(part)
                    if seen > MOST_ANSWER_BYTES:
                        break
                return told
        except Forbidden as forbidden:
            return Told(0, f"the url {forbidden}"[:LONGEST_REASON])
        except httpcore.TimeoutException:
            return Told(0, f"no whole answer within {self._attempt_s:g} s")
        except httpcore.ConnectError as error:
            return Told(0, str(error)[:LONGEST_REASON])
        except httpcore.NetworkError as error:
            return Told(0, f"the connection broke ({error})"[:LONGEST_REASON])
        except httpcore.ProtocolError as error:
            return Told(0, f"the connection broke ({type(error).__name__})")
        except ValueError as error:
            return Told(0, f"the url {error}"[:LONGEST_REASON])

    def close(self) -> None:
        """Close the connections that are kept."""
        for pool in self._pools.values():
            pool.close()

    def _told(self, status: int, headers: Mapping[bytes, bytes]) -> Told:
        if 200 <= status < 300:
            return Told(status)
        hold = timedelta(0)
        if status in SLOW_DOWN:
            hold = hold_of(headers.get(b"retry-after", b"").decode("latin-1"), self._clock())
        redirected = " and is not followed" if 300 <= status < 400 else ""
        return Told(status, f"answered {status}{redirected}", hold)


def hold_of(text: str, now: datetime) -> timedelta:
    """What Retry-After says, in seconds or as a date, within bounds; nothing where it says nothing."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), LONGEST_HOLD)
    with suppress(ValueError, OverflowError):
        at = parsedate_to_datetime(text)
        return max(timedelta(0), min((at if at.tzinfo else at.replace(tzinfo=UTC)) - now, LONGEST_HOLD))
    return timedelta(0)
