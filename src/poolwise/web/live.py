"""The feed as server-sent events: one shared tail for all clients of a process, resumed by one number for each cell.

A client's place is its Last-Event-ID, such as `0:4711` (or `0:4711,3:15` where there are more cells). The tail keeps
the newest events; a client that is further back reads from the books until it has caught up. Nothing is sent twice or
left out, because an event is sent only if its number is the next one of its cell (law 7).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from poolwise.core.values import Upstream
from poolwise.flows.views import Feed, Numbered, place_of, written_place
from poolwise.web.endpoint import Call, Nothing, Reply
from poolwise.web.errors import refused
from poolwise.web.threads import Threads
from poolwise.web.wiring import Limits

LOG: Final = logging.getLogger("poolwise.web")
MOST_KEPT: Final = 10_000
MOST_AT_ONCE: Final = 1_000
LAST_EVENT_ID: Final = "last-event-id"
PAUSE_SECONDS: Final = 1.0


class EventsAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to begin. The header Last-Event-ID comes before it."""

    after: Annotated[
        str,
        Meta(
            max_length=2_000,
            description="A place such as `0:4711`, or `start` for the first event. Else only what is new is sent.",
        ),
    ] = ""


def follow_events(call: Call[EventsAsked, Nothing]) -> Reply:
    """Follow what happens: server-sent events, each with type, subject and data, as JSON.

    Every event has an `id`. A client that was cut off sends the last one it has seen as `Last-Event-ID` and goes on
    without loss or repeat. Events of one cell come in order; a comment line is sent when nothing happens.
    """
    field, text = (LAST_EVENT_ID, call.headers.get(LAST_EVENT_ID, "")) if call.headers.get(LAST_EVENT_ID) else (
        "after", call.query.after
    )  # fmt: skip
    if text == "start":
        place: dict[int, int] = {}
    elif text:
        place = read_place(text, field, call.services.cells)
    else:
        place = call.services.feed.end()
    return Reply(200, None, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}, follow=place)


def read_place(text: str, field: str, cells: tuple[int, ...]) -> dict[int, int]:
    """A place as a client sends it. Refuses what is none."""
    try:
        place = place_of(text)
    except ValueError:
        place = {}
    if not place or not place.keys() <= set(cells):
        raise refused("query_invalid", "is not an id of an event of ours, such as 0:4711", field)
    return place


class Tail:
    """The newest events of every cell, read once for all who follow. Lives in the event loop; reads in a thread."""

    def __init__(self, feed: Feed, limits: Limits, threads: Threads) -> None:
        self._feed = feed
        self._limits = limits
        self._threads = threads
        self._first: dict[int, int] = {}  # number before the first that is kept, by cell
        self._kept: dict[int, list[bytes]] = {}
        self._changed = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._closed = False
        self.followers = 0

    def check_room(self) -> None:
        """Refuses one more follower when there are too many."""
        if self.followers >= self._limits.most_streams:
            raise refused("too_many_requests", f"{self.followers} clients follow this process already")

    def close(self) -> None:
        """End every stream; the clients resume at another process, or later."""
        self._closed = True
        self._changed.set()
        if self._reading is not None:
            self._reading.cancel()

    async def follow(self, begin: Mapping[int, int]) -> AsyncIterator[bytes]:
        """The stream of one client, from after a place on."""
        place = dict(begin)
        self.followers += 1
        try:
            if self._reading is None or self._reading.done():
                await self._begin()
            yield b"retry: 1000\n\n"
            while not self._closed:
                changed = self._changed
                new = self._newer(place)
                if new is None:
                    found = await self._read(place)
                    new = [(each.cell, each.number, _text(each)) for each in found]
                if not new:
                    try:
                        await asyncio.wait_for(changed.wait(), self._limits.heartbeat_seconds)
                    except TimeoutError:
                        yield b": nothing new\n\n"
                    continue
                chunks = []
                for cell, number, text in new:
                    place[cell] = number
                    chunks.append(b"id: " + written_place(place).encode() + b"\n" + text)
                yield b"".join(chunks)
        finally:
            self.followers -= 1

    def _newer(self, place: Mapping[int, int]) -> list[tuple[int, int, bytes]] | None:
        """What is kept and newer than a place; None when some of it is no longer kept."""
        found: list[tuple[int, int, bytes]] = []
        for cell, first in self._first.items():
            seen = place.get(cell, 0)
            if seen < first:
                return None
            texts = self._kept[cell][seen - first : seen - first + MOST_AT_ONCE]
            found += [(cell, number, text) for number, text in enumerate(texts, start=seen + 1)]
        return found

    async def _begin(self) -> None:
        """Keep what comes from now on, and begin to read it."""
        end = await self._threads.run(self._feed.end)
        if self._reading is None or self._reading.done():
            self._first, self._kept = dict(end), {cell: [] for cell in end}
            self._reading = asyncio.create_task(self._keep_reading())

    async def _keep_reading(self) -> None:
        while self.followers and not self._closed:
            place = {cell: first + len(self._kept[cell]) for cell, first in self._first.items()}
            try:
                found = await self._read(place)
            except Upstream:
                LOG.warning("the feed cannot be read at the moment")
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            for each in found:
                self._keep(each)
            if found:
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
            if len(found) < MOST_AT_ONCE:
                await asyncio.sleep(self._limits.feed_poll_seconds)

    def _keep(self, event: Numbered) -> None:
        self._first.setdefault(event.cell, event.number - 1)
        kept = self._kept.setdefault(event.cell, [])
        assert event.number == self._first[event.cell] + len(kept) + 1, "the feed has no gaps"
        kept.append(_text(event))
        if len(kept) > MOST_KEPT:
            gone = len(kept) - MOST_KEPT // 2
            del kept[:gone]
            self._first[event.cell] += gone

    async def _read(self, place: Mapping[int, int]) -> list[Numbered]:
        return list(await self._threads.run(self._feed.after, dict(place), MOST_AT_ONCE))


def _text(event: Numbered) -> bytes:
    """An event as the stream carries it, without its id."""
    body = msgspec.json.encode(
        {
            "type": event.event.type,
            "subject": event.event.subject,
            "at": event.at,
            "cell": event.cell,
            "number": event.number,
            "data": event.event.data,
        }
    )
    return b"event: " + event.event.type.encode() + b"\ndata: " + body + b"\n\n"
