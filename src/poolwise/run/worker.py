"""The worker: claims demand in batches, expires baskets, plans waves, numbers the feed - until it is told to stop.

Any number of workers run on any hosts; each step is a transaction of its own, so kill -9 between any two loses and
doubles nothing (law 7).
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Event
from typing import Final

import structlog

from poolwise.core.sourcing.exact import Undecidable
from poolwise.core.values import Conflict, Refused, Upstream
from poolwise.flows.change import set_aside
from poolwise.flows.intake import Counter
from poolwise.flows.ports import Books, Queue
from poolwise.flows.source import Desk, Sourced, source_batch
from poolwise.flows.timers import run_timers

SMALLEST_BATCH: Final = 8
PROMPT_BATCH_S: Final = 0.06
LONGEST_BATCH_S: Final = 0.5
"""How long a batch should take, with an order in it that somebody waits for, and without."""

MOST_TIMERS: Final = 200
MOST_LOOKING: Final = 50
LOOK_EVERY_S: Final = 10
"""How many of those who wait for stock look again in a round, and how often it is seen whether somebody must."""

LONGEST_BACK_OFF_S: Final = 10.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Duties:
    """What a worker is handed: its books, who decides now, the clock, and steps besides sourcing (by cell)."""

    books: Books
    desk: Callable[[], Desk]
    clock: Callable[[], datetime]
    cells: tuple[int, ...]
    batch: int
    idle_ms: int
    others: tuple[Callable[[int, datetime], None], ...] = ()
    on_batch: Callable[[Sourced, float], None] = lambda _sourced, _seconds: None


def call_on_signals(stop: Callable[[], None]) -> None:
    """Let a process end gracefully on SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop())


class Worker:
    """Runs the duties in a loop. Batches are small while there is little to do and grow to the limit under load."""

    def __init__(self, duties: Duties) -> None:
        """A worker that has not started."""
        self._duties = duties
        self._stopped = Event()
        self._batch = min(SMALLEST_BATCH, duties.batch)
        self._looked: dict[int, tuple[str, datetime]] = {}

    def stop(self) -> None:
        """Ask the worker to finish its transaction and end."""
        self._stopped.set()

    def stop_on_signals(self) -> None:
        """End gracefully on SIGTERM and SIGINT."""
        call_on_signals(self.stop)

    def run(self, until_idle: bool = False) -> None:
        """Work until stopped; with `until_idle`, until a round finds nothing to do."""
        back_off = self._duties.idle_ms / 1000
        while not self._stopped.is_set():
            try:
                done = sum(self.round(cell) for cell in self._duties.cells)
                back_off = self._duties.idle_ms / 1000
            except Conflict as conflict:
                log.info("worker.conflict", reason=str(conflict))
                continue
            except (Upstream, Refused) as reason:
                # The database is not there, or nothing is in force yet by which to decide.
                log.warning("worker.waits", reason=str(reason), again_in_s=round(back_off, 1))
                self._stopped.wait(back_off)
                back_off = min(back_off * 2, LONGEST_BACK_OFF_S)
                continue
            if not done:
                if until_idle:
                    return
                self._stopped.wait(self._duties.idle_ms / 1000)

    def round(self, cell: int) -> int:
        """One round of every duty for a cell; how much was done. An order that cannot be decided is set aside."""
        try:
            return self._duty(cell)
        except Undecidable as fault:
            log.exception("worker.undecidable", order=fault.order.number)
            duties = self._duties
            atlas, ids, actor = (desk := duties.desk()).atlas, desk.ids, desk.actor
            counter = Counter(atlas.edition, atlas.policy.policy, ids, actor)
            set_aside(duties.books, counter, fault.order.number, duties.clock())
            return 1

    def _duty(self, cell: int) -> int:
        duties = self._duties
        now = duties.clock()
        done = run_timers(duties.books, duties.desk(), cell, now, MOST_TIMERS)
        done += self._source(cell, now) + self._look_again(cell, now)
        for step in duties.others:
            step(cell, duties.clock())
        return done

    def _look_again(self, cell: int, now: datetime) -> int:
        """Let those who wait for stock look again, a few in a round, until nobody must under the rules of now.

        Another worker may have decided under older rules meanwhile, and be killed: so it is seen from time to time.
        """
        duties, desk = self._duties, self._duties.desk()
        rules, at = self._looked.get(cell, ("", now))
        if rules == desk.rules and now - at < timedelta(seconds=LOOK_EVERY_S):
            return 0
        sourced = source_batch(duties.books, desk, cell, now, min(MOST_LOOKING, duties.batch), Queue.STOCK)
        looked = sourced.decided + sourced.returned
        if not looked:
            self._looked[cell] = (desk.rules, now)
        return looked

    def _source(self, cell: int, now: datetime) -> int:
        duties = self._duties
        sourced = source_batch(duties.books, duties.desk(), cell, now, self._batch)
        claimed = sourced.decided + sourced.returned
        seconds = (duties.clock() - now).total_seconds()
        if claimed >= self._batch:
            # Whoever comes next waits for the whole batch before his own begins.
            longest_s = PROMPT_BATCH_S if sourced.prompt else LONGEST_BATCH_S
            most = min(duties.batch, int(longest_s * claimed / seconds)) if seconds > 0 else duties.batch
            self._batch = max(SMALLEST_BATCH, min(most, self._batch * 2))
        else:
            self._batch = max(SMALLEST_BATCH, claimed)
        if claimed:
            duties.on_batch(sourced, seconds)
            log.debug("worker.batch", cell=cell, decided=sourced.decided, short=sourced.short, back=sourced.returned)
        return claimed
