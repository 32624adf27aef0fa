"""Running processes: the API, workers, and `up`, which is all of them on the embedded database."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from importlib.util import find_spec
from multiprocessing.synchronize import Event
from socket import socket
from typing import Final

import uvicorn

from poolwise.connect.webhooks import Sender, guard_of
from poolwise.core.values import Refused
from poolwise.flows.wave import run_wave
from poolwise.run.bootstrap import WORKER_NICENESS, App, opened, seek_cycles_seldom, step_back
from poolwise.run.relay import Means, Relay
from poolwise.run.settings import Settings
from poolwise.run.telemetry import configure_logs
from poolwise.run.worker import Duties, Worker
from poolwise.store.feed import PostgresFeed, sequence_once
from poolwise.store.links import PostgresLinkKeys
from poolwise.store.tokens import PostgresTokens
from poolwise.store.upkeep import forget_answers
from poolwise.store.views import PostgresViews
from poolwise.store.webhooks import PostgresOutbound, PostgresWebhooks
from poolwise.web.app import create_app
from poolwise.web.wiring import Services, Shop

MOST_NUMBERED: Final = 500
MOST_FORGOTTEN: Final = 1_000
FORGET_EVERY_S: Final = 60
GRACE_S: Final = 15
VALUES_OF_A_BATCH: Final = 500_000
"""More than a batch of 500 orders ever holds at a time."""


def services_of(app: App) -> Services:
    """What the API's handlers may use."""
    return Services(
        books=app.books,
        views=PostgresViews(app.pool, app.settings.cell_numbers),
        feed=PostgresFeed(app.pool, app.settings.cell_numbers),
        tokens=PostgresTokens(app.pool),
        links=PostgresLinkKeys(app.pool),
        shop=Shop(app.settings.pages_url, app.settings.shop_name, app.settings.shop_contact),
        webhooks=PostgresWebhooks(app.pool, app.settings.cell_numbers),
        url_fault=guard_of(app.settings.internal_webhooks).url_fault,
        rules=app.rules,
        clock=app.clock,
        stopwatch=time.monotonic,
        random_bits=secrets.randbits,
        ids=app.ids,
        release=app.release,
        cells=app.settings.cell_numbers,
        threads=app.settings.connections,
    )


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, listens: Callable[[], None]) -> None:
        super().__init__(config)
        self._listens = listens

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._listens()


def serve(settings: Settings, listens: Event | None = None) -> None:
    """Run the API until it is told to stop; `listens` is set when it answers."""
    seek_cycles_seldom()
    configure_logs(settings.log_level)
    with opened(settings) as app:
        config = uvicorn.Config(
            create_app(services_of(app)),
            host=settings.host,
            port=settings.port,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )
        server = _Server(config, listens.set if listens else lambda: None)
        with suppress(KeyboardInterrupt):
            server.run()
        if not server.started:
            raise SystemExit(1)


class Every:
    """When something that is done for a cell from time to time is due."""

    def __init__(self, every_s: int) -> None:
        """The first time is due at once."""
        self._every = timedelta(seconds=every_s)
        self._last: dict[int, datetime] = {}

    def is_due(self, cell: int, now: datetime) -> bool:
        """Whether it is time to do it for a cell; says so once."""
        last = self._last.get(cell)
        if last is not None and now - last < self._every:
            return False
        self._last[cell] = now
        return True

    def go_on(self, cell: int) -> None:
        """It is not finished for a cell: it is due again at once."""
        self._last.pop(cell, None)


def worker_of(app: App) -> Worker:
    """A worker with all its duties on an application."""

    def number(cell: int, now: datetime) -> None:
        sequence_once(app.pool, cell, now, MOST_NUMBERED)

    settings = app.settings
    waves, sweeps = Every(settings.wave_every_s), Every(FORGET_EVERY_S)

    def weave(cell: int, now: datetime) -> None:
        if waves.is_due(cell, now):
            while run_wave(app.books, app.desk(), cell, now).claimed:
                pass

    def forget(cell: int, now: datetime) -> None:
        # Answers are of no cell of the network: one of them has it as its duty.
        due = cell == min(settings.cell_numbers) and sweeps.is_due(cell, now)
        if due and forget_answers(app.pool, now, MOST_FORGOTTEN) == MOST_FORGOTTEN:
            sweeps.go_on(cell)

    others = (number, weave, forget)
    return Worker(
        Duties(app.books, app.desk, app.clock, settings.cell_numbers, settings.batch, settings.idle_ms, others)
    )


def work(settings: Settings, until_idle: bool = False) -> None:
    """Run one worker in this process until it is told to stop."""
    configure_logs(settings.log_level)
    seek_cycles_seldom(VALUES_OF_A_BATCH)
    with opened(settings) as app:
        step_back(WORKER_NICENESS)
        worker = worker_of(app)
        worker.stop_on_signals()
        worker.run(until_idle)


def relay(settings: Settings, until_idle: bool = False) -> None:
    """Run one relay of webhooks in this process until it is told to stop."""
    configure_logs(settings.log_level)
    with opened(settings) as app:
        sender = Sender(guard_of(settings.internal_webhooks), app.clock)
        book = PostgresOutbound(app.pool, settings.cell_numbers)
        running = Relay(Means(book, sender.send, app.clock, secrets.randbits))
        running.stop_on_signals()
        running.run(until_idle)
        sender.close()


def publish(settings: Settings) -> None:
    """Keep the stream of a message broker in step with the feed, in this process, until it is told to stop.

    Raises Refused where no servers are set, or the library for them is not installed.
    """
    check_broker(settings)
    from poolwise.connect.jetstream import Target
    from poolwise.run import broker

    configure_logs(settings.log_level)
    target = Target(
        servers=tuple(each.strip() for each in settings.nats_servers.split(",") if each.strip()),
        stream=settings.nats_stream,
        replicas=settings.nats_replicas,
        keep=timedelta(days=settings.nats_keep_days),
        credentials=settings.nats_credentials,
    )
    with opened(settings) as app:
        broker.run(broker.Means(PostgresFeed(app.pool, settings.cell_numbers), target, app.clock))


def check_broker(settings: Settings) -> None:
    """Refuse settings under which nothing can be published."""
    if not settings.nats_servers.strip():
        raise Refused.one("settings_invalid", "nats_servers", "is needed to publish events to a message broker")
    if find_spec("nats") is None:
        raise Refused.one("settings_invalid", "nats_servers", "needs: pip install 'poolwise[nats]'")


def supervise(settings: Settings, processes: int, up: Callable[[], None] | None = None) -> int:
    """Run workers as processes; one that dies is started again. Ends when told to stop.

    With `up`, which is called once the API answers, the API and a relay run, too.
    """
    context = multiprocessing.get_context("spawn")
    listens = context.Event()
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    roles: list[tuple[str, multiprocessing.context.SpawnProcess]] = []
    names = [f"worker-{n}" for n in range(processes)]
    if up:
        names += ["api", "relay"]
    if up and settings.nats_servers:
        check_broker(settings)
        names.append("broker")
    for name in names:
        roles.append((name, _start(context, name, settings, listens)))
    while not stopping:
        time.sleep(0.2)
        if up and listens.is_set():
            up()
            up = None
        roles = [
            (name, process if process.is_alive() else _start(context, name, settings, listens))
            for name, process in roles
        ]
    _end([process for _, process in roles])
    return 0


def _start(
    context: multiprocessing.context.SpawnContext, name: str, settings: Settings, listens: Event
) -> multiprocessing.context.SpawnProcess:
    targets: dict[str, Callable[..., None]] = {"api": serve, "relay": relay, "broker": publish}
    args = (settings, listens) if name == "api" else (settings,)
    process = context.Process(target=targets.get(name, work), args=args, name=name, daemon=False)
    process.start()
    return process


def _end(processes: Sequence[multiprocessing.context.SpawnProcess]) -> None:
    for process in processes:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    for process in processes:
        process.join(max(0.1, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
