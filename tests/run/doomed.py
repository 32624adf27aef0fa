"""Processes that die where a test says: the real API and the real worker, with a failpoint in their books.

Only tests start them, as the target of a spawned process; nothing of it can be reached from outside (no setting, no
environment variable).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import uvicorn

from poolwise.core.values import replace
from poolwise.run import processes
from poolwise.run.bootstrap import opened
from poolwise.run.settings import Settings
from poolwise.store import feed, upkeep
from poolwise.store.books import PostgresBooks
from poolwise.web.app import create_app

FEED_STEPS = ("leased", "numbered", "advanced", "committed")


@dataclass(frozen=True, slots=True)
class Doom:
    """Kill -9 of `victim` (None: this very process) when a step is done for the `nth` time."""

    step: str
    nth: int = 1
    victim: int | None = None

    def failpoint(self) -> Callable[[str], None]:
        """The failpoint that kills."""
        seen = 0

        def reached(step: str) -> None:
            nonlocal seen
            seen += step == self.step
            if step == self.step and seen == self.nth:
                os.kill(os.getpid() if self.victim is None else self.victim, signal.SIGKILL)

        return reached


@contextmanager
def doomed(settings: Settings, doom: Doom):
    """The application whose books, and whose feed, have the failpoint."""
    failpoint = doom.failpoint()
    with opened(settings) as app:
        books = PostgresBooks(app.pool, settings.cell_numbers, failpoint)
        sequencing = partial(feed.sequence_once, failpoint=failpoint)
        forgetting = partial(upkeep.forget_answers, failpoint=failpoint)
        with (
            patch.object(processes, "sequence_once", sequencing),
            patch.object(processes, "forget_answers", forgetting),
        ):
            yield replace(app, books=books)


def work(settings: Settings, doom: Doom) -> None:
    """A worker that will be killed, or whose server will."""
    with doomed(settings, doom) as app:
        worker = processes.worker_of(app)
        worker.stop_on_signals()
        worker.run()


def serve(settings: Settings, doom: Doom) -> None:
    """An API that will be killed."""
    with doomed(settings, doom) as app:
        services = processes.services_of(app)
        uvicorn.run(
            create_app(services), host=settings.host, port=settings.port, log_level="critical", access_log=False
        )
