"""The demo lives: a month of history made through the very flows, then on and on, as fast as whoever looks on likes.

Time here is a clock of its own that is moved from step to step: what happens in a step is done before the next begins.
So no speed loses anything; a machine that is too slow for it lives more slowly.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from threading import Thread
from typing import Final

import uvicorn

from poolwise.core.fulfilment import Stage
from poolwise.core.values import replace
from poolwise.flows.tokens import Role, issue_token
from poolwise.flows.tracking import fresh_key, link_to
from poolwise.flows.views import PickQuery
from poolwise.run import processes
from poolwise.run.bootstrap import App, clock, urls
from poolwise.run.settings import Settings
from poolwise.run.worker import Duties, Worker
from poolwise.sim.lives import Lives, Means
from poolwise.sim.world import World
from poolwise.store import postgres
from poolwise.store.feed import PostgresFeed, sequence_once
from poolwise.store.links import PostgresLinkKeys
from poolwise.store.migrate import ensure_partitions
from poolwise.store.tokens import PostgresTokens
from poolwise.store.views import PostgresViews
from poolwise.web.app import create_app
from poolwise.web.tracking import PATH

HISTORY_DAYS: Final = 30
ORDERS_A_DAY: Final = 30
STEP: Final = timedelta(minutes=30)
NUMBERED_AT_ONCE: Final = 500
MOST_ROUNDS: Final = 1_000
LIVE_BATCH: Final = 100
SPEEDS: Final = (0, 1, 10, 60, 300, 900, 3_600)
"""Seconds that pass in one second."""

AT_FIRST: Final = SPEEDS.index(300)
LINK_DAYS: Final = 30
FRAME_S: Final = 0.2


def reach_back(settings: Settings, at: datetime) -> None:
    """Make the partitions of months that are past, which nobody else needs."""
    _, owner_url = urls(settings)
    months = (clock().year - at.year) * 12 + clock().month - at.month
    with postgres.connect(owner_url, connections=1) as pool, pool.connection() as connection:
        ensure_partitions(connection, date(at.year, at.month, 1), months)


class Clock:
    """Shows the time to which everything is done."""

    def __init__(self, now: datetime) -> None:
        """It stands until it is set."""
        self.now = now

    def __call__(self) -> datetime:
        """The time."""
        return self.now


class Life:
    """A world that lives on an application: orders come, workers decide, nodes and carriers tell what became of it."""

    def __init__(self, app: App, world: World, a_day: int) -> None:
        """It begins when the world does."""
        self.clock = Clock(world.at)
        self.app = replace(app, clock=self.clock)
        feed = PostgresFeed(app.pool, app.settings.cell_numbers)
        self.lives = Lives(world, Means(app.books, feed, app.ids, app.rules.current), a_day)
        duties = Duties(app.books, self.app.desk, self.clock, app.settings.cell_numbers, LIVE_BATCH, 1, (self._number,))
        self._worker = Worker(duties)

    def until(self, at: datetime, told: Callable[[datetime], None] = lambda _at: None) -> None:
        """Live until an instant, step by step; `told` hears of each."""
        while self.clock.now < at:
            self.clock.now = min(at, self.clock.now + STEP)
            self.lives.step(self.clock.now)
            for _ in range(MOST_ROUNDS):
                if not sum(self._worker.round(cell) for cell in self.app.settings.cell_numbers):
                    break
            told(self.clock.now)

    def _number(self, cell: int, now: datetime) -> None:
        sequence_once(self.app.pool, cell, now, NUMBERED_AT_ONCE)


# --- live ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Pace:
    """How fast time passes, by place in SPEEDS, and whether to go on."""

    place: int = AT_FIRST
    before: int = AT_FIRST
    over: bool = False

    @property
    def speed(self) -> int:
        """Seconds in a second."""
        return SPEEDS[self.place]

    def key(self, key: str) -> None:
        """What a key does: `+` faster, `-` slower, space pauses and goes on, `q` ends."""
        if key in "+=":
            self.place = min(self.place + 1, len(SPEEDS) - 1)
        elif key in "-_":
            self.place = max(self.place - 1, 1)
        elif key == " ":
            self.place, self.before = (self.before, 0) if self.place == 0 else (0, self.place)
        elif key in "qQ\x03\x04":
            self.over = True


def live(life: Life, pace: Pace, show: Callable[[list[str]], None], seconds: float | None) -> None:
    """Live on, with the API on the clock of the demo, until a key ends it, or after so many seconds."""
    with _served(life.app) as url, keys(pace):
        access = Access(life, url)
        ends = None if seconds is None else time.monotonic() + seconds
        last = time.monotonic()
        while not pace.over and (ends is None or time.monotonic() < ends):
            now = time.monotonic()
            passed, last = now - last, now
            life.until(life.clock.now + timedelta(seconds=passed * pace.speed))
            show(access.lines(pace))
            time.sleep(max(0.0, FRAME_S - (time.monotonic() - now)))


class Access:
    """How somebody gets at what lives: a token, and a link to the page of an order that is on its way."""

    def __init__(self, life: Life, url: str) -> None:
        self._life, self._url = life, url
        app = life.app
        issued = issue_token(
            PostgresTokens(app.pool), app.ids, app.ids_bits, party="demo", role=Role.ADMIN, now=app.clock(),
            actor="poolwise demo",
        )  # fmt: skip
        self._secret = issued.secret
        self._key = PostgresLinkKeys(app.pool).begin(fresh_key(app.ids_bits), app.clock(), "poolwise demo")
        self._link, self._looked = "", 0.0

    def lines(self, pace: Pace) -> list[str]:
        """What stands below the screen."""
        if time.monotonic() - self._looked > 10:
            self._looked, self._link = time.monotonic(), self._page()
        speed = f"{pace.speed:,}x" if pace.speed else "stands"
        return [
            f" {self._life.clock.now:%a %d %b %H:%M} UTC · {speed} · + faster  - slower  space pause  q end",
            f" API {self._url}/v1  token {self._secret}",
            f" page {self._link}" if self._link else " page: as soon as something is released",
        ]

    def _page(self) -> str:
        """The page of an order that a node works on."""
        app = self._life.app
        views = PostgresViews(app.pool, app.settings.cell_numbers)
        for node in app.rules.current().edition.network.nodes:
            for stage in (Stage.PICKED, Stage.RELEASED):
                for found in views.pick_lists(PickQuery(node=node, stage=stage, limit=1)):
                    ends = app.clock() + timedelta(days=LINK_DAYS)
                    return f"{self._url}{PATH}{link_to(self._key, found.order, ends)}"
        return ""


@contextmanager
def _served(app: App) -> Iterator[str]:
    """The API in a thread, on the port of the settings or, where that is taken, on a free one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((app.settings.host, app.settings.port))
    except OSError:
        listener.bind((app.settings.host, 0))
    url = f"http://{app.settings.host}:{listener.getsockname()[1]}"
    services = processes.services_of(app)
    services = replace(services, shop=replace(services.shop, url=url, name="Poolwise demo"))
    server = uvicorn.Server(uvicorn.Config(create_app(services), log_level="error", access_log=False, ws="none"))
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True, name="demo-api")
    thread.start()
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@contextmanager
def keys(pace: Pace) -> Iterator[None]:
    """Hands keys to the pace as they are pressed; where there is no keyboard, none are."""
    if not sys.stdin.isatty():
        yield
        return
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    tty.setcbreak(file)

    def listen() -> None:
        while not pace.over:
            ready, _, _ = select.select([file], [], [], 0.2)
            for key in os.read(file, 100).decode("ascii", "replace") if ready else "":
                pace.key(key)

    listener = Thread(target=listen, daemon=True, name="demo-keys")
    listener.start()
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        pace.over = True
        listener.join(1)
        termios.tcsetattr(file, termios.TCSADRAIN, before)
