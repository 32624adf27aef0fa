"""NATS servers with JetStream, in processes of their own, on loopback; and a consumer that the how-to describes."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

PATIENCE_S = 60.0
SERVER = Path(sys.executable).parent / "nats-server"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Cluster:
    """Servers by number; each keeps what it acknowledged on disk."""

    folder: Path
    ports: list[int]
    routes: list[int]
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def servers(self) -> tuple[str, ...]:
        return tuple(f"nats://127.0.0.1:{port}" for port in self.ports)

    def start(self, number: int) -> None:
        home = self.folder / str(number)
        home.mkdir(exist_ok=True)
        cluster = ""
        if len(self.ports) > 1:
            routes = ", ".join(f"nats://127.0.0.1:{port}" for port in self.routes)
            cluster = f'cluster {{ name: tests, listen: "127.0.0.1:{self.routes[number]}", routes: [{routes}] }}'
        (home / "server.conf").write_text(
            f'server_name: n{number}\nlisten: "127.0.0.1:{self.ports[number]}"\n'
            f'jetstream {{ store_dir: "{home}/store", sync_interval: always }}\n{cluster}\n'
        )
        with (home / "log").open("ab") as log:
            self.running[number] = subprocess.Popen(
                [SERVER, "-c", home / "server.conf"], stdout=log, stderr=subprocess.STDOUT
            )

    def kill(self, number: int) -> None:
        """kill -9."""
        process = self.running.pop(number)
        process.kill()
        process.wait()

    def leader_of(self, stream: str) -> int:
        """The number of the server that leads a stream."""
        return int(self._asked(stream).cluster.leader.removeprefix("n"))

    def messages(self, stream: str) -> int:
        return self._asked(stream).state.messages

    def _asked(self, stream: str) -> Any:
        async def ask(connection: nats.aio.client.Client) -> Any:
            return await connection.jetstream(timeout=5).stream_info(stream)

        return self.do(ask)

    def first(self, stream: str) -> Any:
        """The first event that is in it; where there is none, nothing of it."""

        async def read(connection: nats.aio.client.Client) -> Any:
            jetstream = connection.jetstream(timeout=5)
            state = (await jetstream.stream_info(stream)).state
            if not state.messages:
                return {"sequence": ""}
            return json.loads((await jetstream.get_msg(stream, state.first_seq)).data)

        return self.do(read)

    def empty(self, stream: str) -> None:
        """Everything in it is gone."""

        async def purge(connection: nats.aio.client.Client) -> None:
            await connection.jetstream(timeout=5).purge_stream(stream)

        self.do(purge)

    def remove(self, stream: str) -> None:
        async def delete(connection: nats.aio.client.Client) -> None:
            await connection.jetstream(timeout=5).delete_stream(stream)

        self.do(delete)

    def do(self, work: Any) -> Any:
        async def connected() -> Any:
            connection = await nats.connect(list(self.servers), error_cb=quiet, connect_timeout=5)
            try:
                return await work(connection)
            finally:
                await connection.close()

        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return asyncio.run(connected())
            except (NatsError, OSError, TimeoutError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


async def quiet(_error: Exception) -> None:
    """Servers are killed here."""


@contextmanager
def cluster_of(folder: Path, many: int) -> Iterator[Cluster]:
    found = Cluster(folder, [free_port() for _ in range(many)], [free_port() for _ in range(many)])
    try:
        for number in range(many):
            found.start(number)
        yield found
    finally:
        for number in list(found.running):
            found.kill(number)


class Consumer:
    """Reads a stream from its beginning and acts on each event once: what it has seen is one number for each cell."""

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}
        self.acted: list[tuple[int, int, str]] = []

    def read(self, cluster: Cluster, stream: str) -> list[int]:
        """All there is, from the beginning: what was read before comes again, and is passed over. The numbers there."""
        there: list[int] = []

        async def work(connection: nats.aio.client.Client) -> None:
            jetstream = connection.jetstream(timeout=5)
            config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL)
            reading = await jetstream.pull_subscribe("poolwise.>", stream=stream, config=config)
            pending = (await reading.consumer_info()).num_pending or 0
            while pending:
                for message in await reading.fetch(min(pending, 200), timeout=5):
                    there.append(self.take(json.loads(message.data)))
                    pending -= 1

        cluster.do(work)
        return there

    def take(self, event: dict[str, Any]) -> int:
        """Act on an event, unless that was done before; its number."""
        cell, number = map(int, event["sequence"].split(":"))
        if number > self.seen.get(cell, 0):
            assert number == self.seen.get(cell, 0) + 1, f"{number} comes after {self.seen}: something is lost"
            self.seen[cell] = number
            self.acted.append((cell, number, event["type"]))
        return number
