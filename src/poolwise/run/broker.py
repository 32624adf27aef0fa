"""Keeps a stream of a message broker in step with the feed: publishes what is new, fills what was emptied.

Any number of these may run: the stream takes each event once, from whoever is first. After a kill, a lost leader or a
lost connection the stream says how far it has come.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from poolwise.connect.jetstream import Diverged, Reached, Stream, Target, opened
from poolwise.core.values import Upstream
from poolwise.flows.views import Feed, Place, written_place
from poolwise.run.worker import LONGEST_BACK_OFF_S

MOST_ROWS: Final = 100
POLL_S: Final = 0.1
LOOK_EVERY_S: Final = 3.0
"""How often the stream is looked at: it may have been emptied."""

REFUSED_S: Final = 30.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Means:
    """What it is handed; `target.keep` is how far back an empty stream is filled."""

    feed: Feed
    target: Target
    clock: Callable[[], datetime]
    poll_s: float = POLL_S
    look_every_s: float = LOOK_EVERY_S


class AheadOfUs(Exception):
    """The stream has events that our feed never had: it is another installation's, or our database was set back."""


class Broker:
    """Publishes in a loop until it is stopped."""

    def __init__(self, means: Means) -> None:
        """Nothing is opened before it runs."""
        self._means = means
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Ask it to finish what is under way and end."""
        self._stopped.set()

    async def run(self) -> None:
        """Publish until stopped. Into a stream that is ahead of us nothing is put, until somebody has mended that."""
        back_off = self._means.poll_s
        while not self._stopped.is_set():
            try:
                async with opened(self._means.target) as stream:
                    while not self._stopped.is_set():
                        try:
                            await self._follow(stream)
                        except Diverged as diverged:
                            log.info("broker.looks_again", reason=str(diverged))
                            await stream.ensure()
                            await self._wait(self._means.poll_s)
                        back_off = self._means.poll_s
            except AheadOfUs as ahead:
                log.error("broker.refuses", reason=str(ahead), again_in_s=REFUSED_S)
                await self._wait(REFUSED_S)
            except Upstream as upstream:
                log.warning("broker.waits", reason=str(upstream), again_in_s=round(back_off, 1))
                await self._wait(back_off)
                back_off = min(back_off * 2, LONGEST_BACK_OFF_S)

    async def _follow(self, stream: Stream) -> None:
        """From where the stream is, until it is not where it should be; it is looked at from time to time."""
        loop, feed = asyncio.get_running_loop(), self._means.feed
        look_at = loop.time()
        reached = Reached(0)
        while not self._stopped.is_set():
            if loop.time() >= look_at:
                reached = await self._look(stream)
                look_at = loop.time() + self._means.look_every_s
            events = await asyncio.to_thread(feed.after, reached.place or {}, MOST_ROWS)
            if events:
                reached = await stream.publish(events, reached)
            else:
                await self._wait(self._means.poll_s)

    async def _look(self, stream: Stream) -> Reached:
        """Where the stream is. One that lacks events that it should still keep is emptied and filled again."""
        reached = await stream.reached()
        end, keeps = await self._place(None), await self._place(self._means.target.keep)
        ahead = {cell: number for cell, number in (reached.place or {}).items() if number > end.get(cell, 0)}
        if ahead:
            raise AheadOfUs(
                f"the stream {self._means.target.stream} is at {written_place(ahead)}, and this database at"
                f" {written_place(end)}: it is another installation's, or the database was set back to an older state"
            )
        # What is about to be old enough may be gone already.
        surely = await self._place(self._means.target.keep * 9 / 10)
        if any(number > surely.get(cell, 0) + 1 for cell, number in (reached.begins or {}).items()):
            await stream.empty()
            reached = await stream.reached()
        if reached.place is None:
            if keeps != end:
                log.info("broker.fills", stream=self._means.target.stream, after=written_place(keeps))
            return Reached(reached.sequence, keeps)
        return reached

    async def _place(self, ago: timedelta | None) -> Place:
        """The place in the feed so long ago, or its end."""
        feed = self._means.feed
        if ago is None:
            return await asyncio.to_thread(feed.end)
        return await asyncio.to_thread(feed.before, self._means.clock() - ago)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass


def run(means: Means) -> None:
    """Publish in this process until it is told to stop."""

    async def until_stopped() -> None:
        broker, loop = Broker(means), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, broker.stop)
        await broker.run()

    asyncio.run(until_stopped())
