"""The yardstick: pgbench, which comes with PostgreSQL, on the same server in a database of its own."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import Final

import psycopg

from poolwise.store.embedded import SUPERUSER, EmbeddedServer

DATABASE: Final = "pgbench"
SCALE: Final = 10
CLIENTS: Final = 8
THREADS: Final = 2
_TPS: Final = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_LATENCY: Final = re.compile(r"^latency average = ([0-9.]+) ms", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: transactions per second, and the mean latency in milliseconds."""

    tps: float
    latency_ms: float


def prepare(server: EmbeddedServer, scale: int = SCALE) -> None:
    """Make and fill the database of pgbench."""
    with psycopg.connect(server.superuser_url(), autocommit=True) as administrator:
        administrator.execute(f"CREATE DATABASE {DATABASE}")
    _run(server, "-i", "-q", "-s", str(scale))


def measure(server: EmbeddedServer, script: str, seconds: int, rate: int = 0, clients: int = CLIENTS) -> Measured:
    """Run one of its scripts: `-N` (simple update) or `-S` (select only); `rate` limits transactions per second."""
    limit = ["--rate", str(rate)] if rate else []
    said = _run(server, script, "-c", str(clients), "-j", str(min(clients, THREADS)), "-T", str(seconds), *limit)
    tps, latency = _TPS.search(said), _LATENCY.search(said)
    assert tps is not None, said
    assert latency is not None, said
    return Measured(float(tps[1]), float(latency[1]))


def _run(server: EmbeddedServer, *options: str) -> str:
    url = server.superuser_url(DATABASE)
    command = [str(server.program("pgbench")), *options, url]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"pgbench as {SUPERUSER}: {done.stderr[-500:]}"
    return done.stdout
