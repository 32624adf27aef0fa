"""Publishes events to a stream of NATS JetStream, which itself says how far it has come; nothing is kept of it here.

Each message carries the place in the feed after it, and names the sequence and the message that it must follow in the
stream: of two publishers, or of messages of which one was lost with a leader, only the very next event is ever taken.
So the stream has the events of the feed in order, each once; whoever begins anew goes on from its last message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RawStreamMsg, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from poolwise.connect.cloudevents import MEDIA_TYPE, event_body
from poolwise.core.values import Upstream
from poolwise.flows.views import Numbered, Place, place_of, written_place

SUBJECT: Final = "poolwise"
PLACE_HEADER: Final = "Poolwise-Place"
MOST_IN_FLIGHT: Final = 256
ANSWER_S: Final = 5.0


class Unreachable(Upstream):
    """The brokers did not answer, or not as they should: what was under way is looked up when they do again."""


class Diverged(Exception):
    """The stream is not what it was: another publisher was first, it was emptied, or something of it was lost."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which brokers, and the stream there: its copies, and how long it keeps events."""

    servers: tuple[str, ...]
    stream: str
    replicas: int
    keep: timedelta
    credentials: str = ""
    answer_s: float = ANSWER_S


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a stream has come: its last sequence, and the place after its last message; None where it is empty.

    `begins` is the place after its first message; None where it has limits of its own to what it keeps. `last` is the
    id of the message that we have put there last; '' where we have only looked.
    """

    sequence: int
    place: Place | None = None
    begins: Place | None = None
    last: str = ""


class Stream:
    """A stream that is open. Made by `opened`."""

    def __init__(self, jetstream: JetStreamContext, target: Target) -> None:
        self._jetstream = jetstream
        self._target = target

    async def ensure(self) -> None:
        """Make the stream where it is not there; one that is there stays as its operators have it."""
        try:
            await self._jetstream.stream_info(self._target.stream)
        except NotFoundError:
            await self._jetstream.add_stream(
                StreamConfig(
                    name=self._target.stream,
                    subjects=[f"{SUBJECT}.>"],
                    storage=StorageType.FILE,
                    num_replicas=self._target.replicas,
                    max_age=self._target.keep.total_seconds(),
                    discard=DiscardPolicy.OLD,
                )
            )

    async def reached(self) -> Reached:
        """How far it has come. Raises Unreachable, and Diverged where what is in it is none of ours."""
        try:
            found = await self._jetstream.stream_info(self._target.stream)
            if not found.state.messages:
                return Reached(found.state.last_seq)
            first = await self._place(found.state.first_seq)
            last = await self._jetstream.get_last_msg(self._target.stream, f"{SUBJECT}.>")
        except NotFoundError:
            raise Diverged(f"the stream {self._target.stream} is gone, or was emptied this moment") from None
        except (NatsError, TimeoutError) as error:
            raise _unreachable(error) from error
        assert last.seq is not None, "a message in a stream has its sequence"
        limited = any(limit is not None and limit > 0 for limit in (found.config.max_msgs, found.config.max_bytes))
        return Reached(last.seq, self._read(last), None if limited else first)

    async def empty(self) -> None:
        """Take out all that is in it. Raises Unreachable."""
        try:
            await self._jetstream.purge_stream(self._target.stream)
        except (NatsError, TimeoutError) as error:
            raise _unreachable(error) from error

    async def _place(self, sequence: int) -> Place:
        return self._read(await self._jetstream.get_msg(self._target.stream, sequence))

    def _read(self, message: RawStreamMsg) -> Place:
        try:
            return place_of((message.headers or {}).get(PLACE_HEADER, ""))
        except ValueError:
            raise Diverged(f"{self._target.stream} has messages that are none of ours: it must be Poolwise's") from None

    async def publish(self, events: Sequence[Numbered], reached: Reached) -> Reached:
        """Publish the next events of the feed; how far the stream has come then.

        Raises Diverged where it is not where it was, and Unreachable: some of the events may be there then.
        """
        for begin in range(0, len(events), MOST_IN_FLIGHT):
            reached = await self._publish(events[begin : begin + MOST_IN_FLIGHT], reached)
        return reached

    async def _publish(self, events: Sequence[Numbered], reached: Reached) -> Reached:
        place, last = dict(reached.place or {}), reached.last
        sending = []
        for sequence, each in enumerate(events, start=reached.sequence + 1):
            place[each.cell] = each.number
            number = f"{each.cell}:{each.number}"
            headers = {
                "Content-Type": MEDIA_TYPE,
                PLACE_HEADER: written_place(place),
                "Nats-Msg-Id": f"{number}@{sequence}",
                "Nats-Expected-Last-Sequence": str(sequence - 1),
            }
            if last:
                headers["Nats-Expected-Last-Msg-Id"] = last
            last = headers["Nats-Msg-Id"]
            sending.append(self._send(each, number, headers))
        # They go out in this order. The library's own way of many at once waits for ever where one is refused.
        for answer in await asyncio.gather(*sending, return_exceptions=True):
            if isinstance(answer, APIError):
                raise Diverged(answer.description or "the stream refused an event") from answer
            if isinstance(answer, NatsError | TimeoutError):
                raise _unreachable(answer) from answer
            if isinstance(answer, BaseException):
                raise answer
        return Reached(reached.sequence + len(events), place, reached.begins, last)

    async def _send(self, each: Numbered, number: str, headers: dict[str, str]) -> None:
        await self._jetstream.publish(
            f"{SUBJECT}.{each.cell}.{each.event.type}",
            event_body(each.event, number, each.at, number),
            timeout=self._target.answer_s,
            stream=self._target.stream,
            headers=headers,
        )


@asynccontextmanager
async def opened(target: Target) -> AsyncIterator[Stream]:
    """A connection to the brokers with the stream on it. Raises Unreachable."""
    connection = Client()
    try:
        try:
            await connection.connect(
                servers=list(target.servers),
                user_credentials=target.credentials or None,
                connect_timeout=ceil(target.answer_s),
                allow_reconnect=False,
                error_cb=_quiet,
                name="poolwise",
            )
            stream = Stream(connection.jetstream(timeout=target.answer_s), target)
            await stream.ensure()
        except (NatsError, OSError, TimeoutError) as error:
            raise _unreachable(error) from error
        yield stream
    finally:
        await connection.close()


async def _quiet(_error: Exception) -> None:
    """What goes wrong is told where it matters: by who waits for the answer."""


def _unreachable(error: Exception) -> Unreachable:
    return Unreachable(f"the brokers do not answer ({str(error) or type(error).__name__})")
