"""Webhooks to one healthy receiver on this machine: how fast a relay drains a backlog, and how late events are.

    python -m bench.webhooks --json
    {"drained_per_second": 900, "arrived_p99_ms": 300, "lost": 0, "doubled": 0, ...}

The relay is `poolwise relay` in a process of its own; the receiver, in another, answers each request and remembers ids
and times. First a backlog is sent; then events come at a rate, ten in a commit as of orders sent together, and are
numbered as a worker does it. How late one is counts from the time before its commit. Last it is idle. fsync is on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Final

import msgspec

from bench.front import in_loop, percentile
from bench.hall import beside, cpu_seconds, new_database, running_server, settings_for, settle
from poolwise.flows.identity import Ids
from poolwise.flows.ports import Answer, Effects, Event
from poolwise.flows.webhooks import Webhook, subscribe
from poolwise.run.processes import relay
from poolwise.run.settings import Settings
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.feed import PostgresFeed, sequence_once
from poolwise.store.postgres import Pool
from poolwise.store.webhooks import PostgresWebhooks

HERE: Final = "127.0.0.1"
PATIENCE_S: Final = 300
EVENTS_IN_A_COMMIT: Final = 10
NUMBER_EVERY_S: Final = 0.02
ROWS_NUMBERED: Final = 500


class Came(msgspec.Struct):
    """What of an event the receiver looks at."""

    id: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    backlog: int = 10_000
    rate: int = 500
    seconds: int = 10
    idle_seconds: int = 10


def measure(size: Size, seed: int) -> dict[str, object]:
    """Everything, on a server of its own; the report."""
    with running_server() as server:
        name = new_database(server, datetime.now(UTC))
        settings = settings_for(server, name, internal_webhooks=f"{HERE}/32")
        with postgres.connect(settings.database_url, connections=3) as pool:
            settle(server, name)
            return _measured(pool, settings, size, seed)


def _measured(pool: Pool, settings: Settings, size: Size, seed: int) -> dict[str, object]:
    receiving, sending = beside.Pipe()
    receiver = beside.Process(target=_receive, args=(sending,))
    receiver.start()
    port: int = receiving.recv()
    _subscribe(pool, f"http://{HERE}:{port}/")
    chance = random.Random(seed)
    _happen(pool, chance, size.backlog, EVENTS_IN_A_COMMIT)
    _number(pool)
    running = multiprocessing.get_context("spawn").Process(target=relay, args=(settings,))
    running.start()
    first, last = _told(receiving, size.backlog)
    drain_s = _cpu(running)
    due = size.rate * size.seconds
    began, cpu = time.perf_counter(), _cpu(running)
    _at_rate(pool, chance, size)
    took_s = time.perf_counter() - began
    _told(receiving, size.backlog + due)
    busy_s = _cpu(running) - cpu
    time.sleep(1)
    cpu = _cpu(running)
    time.sleep(size.idle_seconds)
    idle_s = _cpu(running) - cpu
    running.terminate()
    running.join(PATIENCE_S)
    receiving.send(None)
    came: list[tuple[str, float]] = receiving.recv()
    receiver.join(PATIENCE_S)
    late_ms = [late_s * 1_000 for _, late_s in came[size.backlog :]]
    return {
        "drained_per_second": round(size.backlog / (last - first)),
        "offered_per_second": round(due / took_s),
        "arrived_p50_ms": round(percentile(late_ms, 0.5)),
        "arrived_p99_ms": round(percentile(late_ms, 0.99)),
        "arrived_max_ms": round(max(late_ms)),
        "lost": size.backlog + due - len({id_ for id_, _ in came}),
        "doubled": len(came) - len({id_ for id_, _ in came}),
        "relay_cpu_ms_per_event_drained": round(drain_s / size.backlog * 1_000, 2),
        "relay_cpu_ms_per_event": round(busy_s / due * 1_000, 2),
        "idle_cpu_share": round(idle_s / size.idle_seconds, 3) if size.idle_seconds else None,
        "inputs": {"backlog": size.backlog, "rate": size.rate, "seconds": size.seconds, "seed": seed},
        "load": os.getloadavg(),
    }


def _cpu(process: SpawnProcess) -> float:
    assert process.pid is not None
    return cpu_seconds(process.pid)


def _subscribe(pool: Pool, url: str) -> None:
    now = datetime.now(UTC)
    webhook = Webhook(Ids(secrets.randbits).new(now), "bench", url, (), PostgresFeed(pool).end() or {0: 0}, now)
    subscribe(PostgresWebhooks(pool), secrets.randbits, webhook, "bench", Answer("bench", "hook", b"", 201, ""))


def _happen(pool: Pool, chance: random.Random, count: int, at_once: int) -> None:
    """Events such as orders make, some in a commit."""
    books = PostgresBooks(pool)
    for first in range(0, count, at_once):
        events = [
            Event("order.sourced", f"{chance.getrandbits(128):032x}", {"order": f"O-{first + n}", "attempt": 1}, 0)
            for n in range(min(at_once, count - first))
        ]
        with books.transaction() as transaction:
            transaction.record(Effects(at=datetime.now(UTC), events=events))


def _number(pool: Pool) -> None:
    while sequence_once(pool, 0, datetime.now(UTC), ROWS_NUMBERED).rows:
        pass


def _at_rate(pool: Pool, chance: random.Random, size: Size) -> None:
    """Events at a rate, numbered as often as a worker does."""
    began = numbered = time.perf_counter()
    for n in range(0, size.rate * size.seconds, EVENTS_IN_A_COMMIT):
        wait_s = began + n / size.rate - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        _happen(pool, chance, EVENTS_IN_A_COMMIT, EVENTS_IN_A_COMMIT)
        if time.perf_counter() - numbered > NUMBER_EVERY_S:
            _number(pool)
            numbered = time.perf_counter()
    _number(pool)


def _told(receiving: Connection, count: int) -> tuple[float, float]:
    """When the first and the last of so many had come."""
    receiving.send(count)
    told: tuple[float, float] = receiving.recv()
    return told


def _receive(pipe: Connection) -> None:
    in_loop(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    """Answer every request, and tell the parent what came."""
    came: list[tuple[str, float]] = []
    times: list[float] = []
    decoder = msgspec.json.Decoder(Came)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                id_ = head.partition(b"webhook-id:")[2].partition(b"\r\n")[0].strip().decode()
                event = decoder.decode(await reader.readexactly(length))
                times.append(time.perf_counter())
                came.append((id_, (datetime.now(UTC) - event.time).total_seconds()))
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    server = await asyncio.start_server(answer, HERE, 0)
    pipe.send(server.sockets[0].getsockname()[1])
    while (wanted := await asyncio.to_thread(pipe.recv)) is not None:
        deadline = time.monotonic() + PATIENCE_S
        while len({id_ for id_, _ in came} if len(came) >= wanted else came) < wanted:
            assert time.monotonic() < deadline, f"{len(came)} of {wanted} came"
            await asyncio.sleep(0.01)
        pipe.send((times[0], times[-1]))
    pipe.send(came)
    server.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the document on one line")
    parser.add_argument("--backlog", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=500, help="events a second")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a few hundred events")
    asked = parser.parse_args()
    size = Size(asked.backlog, asked.rate, asked.seconds)
    if asked.quick:
        size = Size(200, 100, 1, 0)
    print(json.dumps(measure(size, asked.seed), indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
