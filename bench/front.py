"""The API as a process of its own, and clients of it: as little as keeps a load going at a rate."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import secrets
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from typing import Final, TypeVar

import uvloop

from bench.hall import beside
from poolwise.flows.identity import Ids
from poolwise.flows.tokens import Role, issue_token
from poolwise.run.processes import serve
from poolwise.run.settings import Settings
from poolwise.store import postgres
from poolwise.store.tokens import PostgresTokens

Done = TypeVar("Done")

PATIENCE_S: Final = 60
LONGEST_ANSWER: Final = 10_000_000
LONGEST_IDLE_S: Final = 2.0
"""The API closes connections that were idle for five seconds."""


@dataclass(frozen=True, slots=True)
class Api:
    """Where an API answers, and the token of an operator."""

    port: int
    token: str
    process: int

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}


@contextmanager
def running_api(settings: Settings) -> Iterator[Api]:
    """A process that runs `poolwise serve` with these settings, on a free port."""
    with postgres.connect(settings.database_url, connections=1) as pool:
        issued = issue_token(
            PostgresTokens(pool),
            Ids(secrets.randbits),
            secrets.randbits,
            party="bench",
            role=Role.OPERATOR,
            now=datetime.now(UTC),
            actor="bench",
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(replace(settings, port=port),))
    process.start()
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(port):
            assert process.is_alive(), "the API died"
            assert time.monotonic() < deadline, "the API does not come up"
            time.sleep(0.05)
        assert process.pid is not None
        yield Api(port, issued.secret, process.pid)
    finally:
        process.terminate()
        process.join(PATIENCE_S)


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except ConnectionError:
        return False
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] | None = None


@dataclass(slots=True)
class Told:
    """An answer: its status and body, when it was due to be asked, and when it was there, in seconds of `monotonic`."""

    status: int
    body: bytes
    due: float
    there: float

    @property
    def milliseconds(self) -> float:
        """From when it was due: waiting for a free connection counts."""
        return (self.there - self.due) * 1_000


class Clients:
    """Connections that are kept alive, as many as requests are under way."""

    def __init__(self, api: Api) -> None:
        """Opens nothing yet."""
        self._api = api
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    def close(self) -> None:
        """Close the connections, once nothing is under way."""
        for _, _, writer in self._idle:
            writer.close()

    async def ask(self, asked: Ask, due: float) -> Told:
        """Ask, and wait for the answer."""
        api = self._api
        while self._idle and self._idle[0][0] < time.monotonic() - LONGEST_IDLE_S:
            self._idle.pop(0)[2].close()
        if self._idle:
            _, reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=LONGEST_ANSWER)
        fields = {**api.headers, **(asked.headers or {}), "Host": "127.0.0.1", "Content-Length": str(len(asked.body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"{asked.method} {asked.path} HTTP/1.1\r\n{head}\r\n".encode() + asked.body)
        answer = await reader.readuntil(b"\r\n\r\n")
        lines = answer.decode().split("\r\n")
        length = next(int(line[15:]) for line in lines if line[:15].lower() == "content-length:")
        body = await reader.readexactly(length)
        there = time.monotonic()
        self._idle.append((there, reader, writer))
        return Told(int(lines[0].split(" ")[1]), body, due, there)

    async def at_rate(
        self, asked: Sequence[Ask], due: Sequence[float], on_answer: Callable[[Told], None] = lambda _: None
    ) -> list[Told]:
        """Ask each when it is due (seconds from now), whatever became of the others: an open loop."""
        begin = time.monotonic()
        asking: list[asyncio.Task[Told]] = []
        for each, after in zip(asked, due, strict=True):
            wait = begin + after - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            asking.append(asyncio.create_task(self._asked(each, begin + after, on_answer)))
        return await asyncio.gather(*asking)

    async def _asked(self, asked: Ask, due: float, on_answer: Callable[[Told], None]) -> Told:
        told = await self.ask(asked, due)
        on_answer(told)
        return told

    async def as_fast_as_it_goes(self, asked: Sequence[Ask], at_once: int) -> list[Told]:
        """Ask all, so many at a time: a closed loop."""
        waiting = iter(asked)

        async def one_by_one() -> list[Told]:
            return [await self.ask(each, time.monotonic()) for each in waiting]

        return [told for some in await asyncio.gather(*(one_by_one() for _ in range(at_once))) for told in some]


def asked_elsewhere(api: Api, asked: Sequence[Ask], due: Sequence[float]) -> list[Told]:
    """Ask each when it is due, from a process of its own."""
    receiving, sending = beside.Pipe(duplex=False)
    process = beside.Process(target=_ask_all, args=(api, asked, due, sending))
    process.start()
    sending.close()
    told: list[Told] = receiving.recv()
    process.join(PATIENCE_S)
    return told


def _ask_all(api: Api, asked: Sequence[Ask], due: Sequence[float], sending: Connection) -> None:
    sending.send(in_loop(Clients(api).at_rate(asked, due)))


def in_loop(work: Coroutine[None, None, Done]) -> Done:
    """Run a client in an event loop in C, as the API does: what a client takes, the measured miss.

    Its process looks for no cycles: one look at all that is imported took 80 ms, which answers seemed to be late.
    """
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many of them do not exceed."""
    return sorted(values)[max(0, -(-len(values) * round(share * 1_000) // 1_000) - 1)]
