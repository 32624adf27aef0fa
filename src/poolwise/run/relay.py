"""The relay: brings what happens to the receivers that subscribed (ADR 0020).

Any number of relays run on any hosts. A receiver has a lane of its own: a few threads, fewer while it does not answer
well, and never all of them, so that one that hangs holds up nobody else. What is taken is leased: after a kill -9 it is
sent again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event
from typing import Final
from uuid import UUID

import structlog

from poolwise.core.values import Conflict, Upstream
from poolwise.flows.webhooks import Claimed, Outbound, Outcome, Told, given_back, judge
from poolwise.run.worker import LONGEST_BACK_OFF_S, call_on_signals

THREADS: Final = 64
AT_ONCE: Final = 4
"""Threads of one receiver. Of one that does not answer well, or is new, one delivery is taken at a time, and all such
receivers have half of the threads."""

MOST_TAKEN: Final = 128
POLL_S: Final = 0.2
GATHER_S: Final = 0.02
LEASE: Final = timedelta(seconds=60)
LONGEST_ATTEMPT: Final = timedelta(seconds=20)
MOST_SWEPT: Final = 2_000
SWEEP_EVERY_S: Final = 60

log = structlog.get_logger()


@dataclass(slots=True)
class Lane:
    """What was taken for one receiver, how much may be, and how many threads are at it; `well` once it has accepted."""

    queue: deque[Claimed] = field(default_factory=deque)
    window: int = 1
    threads: int = 0
    well: bool = False

    @property
    def room(self) -> int:
        """How many more may be taken."""
        return self.window - len(self.queue) - self.threads


class Ended:
    """A thread has come to the end of its lane."""

    def __init__(self, lane: Lane) -> None:
        """Of which lane."""
        self.lane = lane


@dataclass(frozen=True, slots=True)
class Means:
    """What a relay is handed: `random_bits(n)` gives n random bits, and `attempt` is longer than any takes."""

    book: Outbound
    send: Callable[[Claimed], Told]
    clock: Callable[[], datetime]
    random_bits: Callable[[int], int]
    poll_s: float = POLL_S
    lease: timedelta = LEASE
    attempt: timedelta = LONGEST_ATTEMPT


class Relay:
    """Fans out, claims, sends and records in a loop; threads do nothing but send."""

    def __init__(self, means: Means) -> None:
        """A relay that has not started."""
        self._means = means
        self._stopped = Event()
        self._lanes: dict[UUID, Lane] = {}
        self._told: SimpleQueue[Outcome | Ended] = SimpleQueue()
        self._unrecorded: list[Outcome] = []
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="relay")
        self._looked = self._swept = float("-inf")
        self._found = 0
        self._idle = False

    def stop(self) -> None:
        """Ask the relay to finish what it is sending and end."""
        self._stopped.set()

    def stop_on_signals(self) -> None:
        """End gracefully on SIGTERM and SIGINT."""
        call_on_signals(self.stop)

    def run(self, until_idle: bool = False) -> None:
        """Work until stopped; with `until_idle`, until nothing is due and nothing under way."""
        back_off = self._means.poll_s
        while not self._stopped.is_set():
            try:
                self.round()
                back_off = self._means.poll_s
            except Conflict as conflict:
                log.info("relay.conflict", reason=str(conflict))
                continue
            except Upstream as upstream:
                log.warning("relay.waits", reason=str(upstream), again_in_s=round(back_off, 1))
                self._stopped.wait(back_off)
                back_off = min(back_off * 2, LONGEST_BACK_OFF_S)
                continue
            if until_idle and self._idle:
                break
        self._end()

    def round(self) -> None:
        """Look for what is new and due, send, and record what has become of it."""
        look = time.monotonic() - self._looked >= self._means.poll_s or (self._found > 0 and self._has_room)
        if look:
            self._looked = time.monotonic()
            self._found = self._fan_out() + self._claim()
            self._start()
            if not self._found:
                self._sweep()
        self._listen(self._looked + self._means.poll_s - time.monotonic())
        recorded = self._record()
        self._idle = look and not self._found and not recorded and not self._under_way

    @property
    def _has_room(self) -> bool:
        """Whether somebody who answers well has been sent half of what may be under way."""
        return any(lane.well and lane.room * 2 >= lane.window for lane in self._lanes.values())

    @property
    def _under_way(self) -> int:
        return sum(lane.threads + len(lane.queue) for lane in self._lanes.values())

    def _fan_out(self) -> int:
        book, now = self._means.book, self._means.clock()
        return sum(book.fan_out(webhook, cell, now) for webhook, cell in book.behind())

    def _claim(self) -> int:
        now = self._means.clock()
        claimed = self._means.book.claim(lambda webhook: self._lane(webhook).room, now, now + self._means.lease)
        for each in claimed:
            self._lane(each.receiver.webhook).queue.append(each)
        return len(claimed)

    def _lane(self, webhook: UUID) -> Lane:
        return self._lanes.setdefault(webhook, Lane())

    def _start(self) -> None:
        """Put threads to work: of those that do not answer well never more than half of all."""
        ill = sum(lane.threads for lane in self._lanes.values() if not lane.well)
        for lane in self._lanes.values():
            while lane.threads < min(AT_ONCE, lane.threads + len(lane.queue)) and (lane.well or ill < THREADS // 2):
                lane.threads += 1
                ill += not lane.well
                self._threads.submit(self._work, lane).add_done_callback(partial(self._ended, lane))

    def _ended(self, lane: Lane, work: Future[None]) -> None:
        if (fault := work.exception()) is not None:
            log.error("relay.fault", exc_info=fault)
        self._told.put(Ended(lane))

    def _work(self, lane: Lane) -> None:
        """Send what is in a lane, until it is empty or something fails: then the rest is given back."""
        while not self._stopped.is_set():
            try:
                claimed = lane.queue.popleft()
            except IndexError:
                return
            now = self._means.clock()
            if claimed.leased_until - now < self._means.attempt:
                self._told.put(given_back(claimed, now))
                continue
            told = self._means.send(claimed)
            self._told.put(judge(claimed, told, self._means.clock(), self._means.random_bits))
            if not told.accepted:
                break
        self._give_back(lane)

    def _give_back(self, lane: Lane) -> None:
        with suppress(IndexError):
            while True:
                self._told.put(given_back(lane.queue.popleft(), self._means.clock()))

    def _listen(self, most_s: float) -> None:
        """Wait for the first outcome, and a little for more of them: they are recorded together."""
        with suppress(Empty):
            self._hear(self._told.get(timeout=max(most_s, 0.0)))
            until = time.monotonic() + GATHER_S
            while self._under_way:
                self._hear(self._told.get(timeout=max(until - time.monotonic(), 0.0)))

    def _hear(self, told: Outcome | Ended) -> None:
        if isinstance(told, Ended):
            told.lane.threads -= 1
            return
        self._unrecorded.append(told)
        lane = self._lane(told.claimed.receiver.webhook)
        if told.told is None:
            lane.window = min(lane.window, AT_ONCE)
        elif told.told.accepted:
            lane.well = True
            lane.window = min(MOST_TAKEN, lane.window * 2)
        else:
            lane.well, lane.window = False, 1

    def _record(self) -> int:
        if not self._unrecorded:
            return 0
        for webhook in self._means.book.record(self._unrecorded, self._means.clock()):
            log.warning("webhook.disabled", webhook=str(webhook))
        recorded = len(self._unrecorded)
        self._unrecorded = []
        return recorded

    def _sweep(self) -> None:
        """Forget what is old, a batch in a round; and lanes in which nothing is."""
        now = time.monotonic()
        if now - self._swept < SWEEP_EVERY_S:
            return
        if self._means.book.sweep(self._means.clock(), MOST_SWEPT) < MOST_SWEPT:
            self._swept = now
        for webhook in [webhook for webhook, lane in self._lanes.items() if not lane.threads and not lane.queue]:
            if len(self._lanes) > THREADS:
                del self._lanes[webhook]

    def _end(self) -> None:
        """Wait for what is being sent; what was taken and not sent is given back."""
        self._threads.shutdown(wait=True)
        for lane in self._lanes.values():
            self._give_back(lane)
        with suppress(Empty):
            while True:
                self._hear(self._told.get_nowait())
        try:
            self._record()
        except (Conflict, Upstream) as error:
            log.info("relay.unrecorded", reason=str(error), sent_again=len(self._unrecorded))
