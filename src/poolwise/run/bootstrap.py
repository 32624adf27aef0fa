"""The only wiring: settings become an `App` - database, books, rules in force, clock and ids."""

from __future__ import annotations

import gc
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Lock
from typing import Final

import poolwise
from poolwise.core.policy.evaluate import compile_policy
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.values import Fault, Refused
from poolwise.flows.identity import Ids
from poolwise.flows.masterdata import open_edition, read_version
from poolwise.flows.ports import Books, Editions
from poolwise.flows.source import Desk
from poolwise.run.settings import Settings
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.editions import PostgresEditions
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.migrate import Phase, ensure_partitions, migrate, pending, read_schema
from poolwise.store.postgres import DatabaseUnavailable, Pool

DEFAULT_POLICY: Final = "default"
MONTHS_AHEAD: Final = 3
WORKER_NICENESS: Final = 5
IMPORT_NICENESS: Final = 10
FRESH_S: Final = 0.5
STALE_S: Final = 1.5
"""How long the answer to "what is in force" is trusted, and used while somebody looks again. A change is live in less
than two seconds."""


def seek_cycles_seldom(after: int = 100_000) -> None:
    """Batches and answers are made of thousands of values that hold no cycles: to look after every 700 is a waste.

    A batch is gone when it is done; who works on such looks `after` more values than a batch has.
    """
    gc.set_threshold(after, 20, 100)


def step_back(niceness: int) -> None:
    """Let others go first on a busy machine: who asks over HTTP waits for an answer, who sources or imports does not.

    Only this process steps back; what it starts later steps back with it, so a server is started before.
    """
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, 0, max(niceness, os.getpriority(os.PRIO_PROCESS, 0)))


def clock() -> datetime:
    """The one place where the time is read."""
    return datetime.now(UTC)


class Rulebook:
    """Editions and policy versions by name, kept once opened; and the ones in force now."""

    def __init__(self, editions: Editions, stopwatch: Callable[[], float] = time.monotonic) -> None:
        """Nothing is read before it is asked for."""
        self._editions = editions
        self._stopwatch = stopwatch
        self._atlases: dict[tuple[str, str, int], Atlas] = {}
        self._current: tuple[float, Atlas] | None = None
        self._lock = Lock()

    def atlas(self, edition: str, policy: str, version: int) -> Atlas:
        """The atlas of an edition and a policy version. Raises Refused when one of them is unknown."""
        key = (edition, policy, version)
        if key not in self._atlases:
            try:
                opened = open_edition(self._editions, edition)
            except KeyError:
                raise Refused("edition_unknown", (Fault("edition", f"there is no edition {edition}"),)) from None
            kept = self._editions.policy(policy, version)
            if kept is None:
                raise Refused("policy_unknown", (Fault("policy", f"there is no version {version} of '{policy}'"),))
            self._atlases[key] = Atlas(opened, compile_policy(read_version(kept)))
        return self._atlases[key]

    def current(self) -> Atlas:
        """The edition and policy in force. Raises Refused("nothing_in_force") before the first import."""
        known = self._current
        if known is not None:
            age = self._stopwatch() - known[0]
            # One looks again; the others need not wait for it.
            if age < FRESH_S or (age < STALE_S and self._lock.locked()):
                return known[1]
        with self._lock:
            latest = self._current
            return self._looked_up() if latest is None or latest is known else latest[1]

    def _looked_up(self) -> Atlas:
        edition = self._editions.in_force()
        versions = {kept.code: kept.version for kept in self._editions.policies()}
        if not edition or not versions:
            reason = "no network has been imported yet; run: poolwise import DIRECTORY"
            raise Refused("nothing_in_force", (Fault("network", reason),))
        code = DEFAULT_POLICY if DEFAULT_POLICY in versions else min(versions)
        found = self.atlas(edition, code, versions[code])
        self._current = (self._stopwatch(), found)
        return found

    def refresh(self) -> None:
        """Look again at once when asked next, for example after an import."""
        self._current = None


@dataclass(frozen=True, slots=True)
class App:
    """Everything a process needs, built once."""

    settings: Settings
    pool: Pool
    books: Books
    editions: Editions
    rules: Rulebook
    ids: Ids
    ids_bits: Callable[[int], int] = secrets.randbits
    release: str = poolwise.__version__
    clock: Callable[[], datetime] = clock

    def desk(self) -> Desk:
        """Who decides now, under the rules in force."""
        return Desk(self.rules.current(), self.release, self.settings.cell_numbers, self.ids)


def server_of(settings: Settings) -> EmbeddedServer | None:
    """The embedded server of these settings; None where they name an external one."""
    if settings.database_url:
        return None
    return EmbeddedServer(Path(settings.data_folder))


def urls(settings: Settings) -> tuple[str, str]:
    """URL of the application role and of the owner role; starts the embedded server where it is used."""
    server = server_of(settings)
    if server is None:
        return settings.database_url, settings.owner_url
    server.start()
    return server.application_url(), server.owner_url()


def prepare(owner_url: str, at: datetime, phase: Phase = Phase.ALL) -> list[str]:
    """Bring the schema up to date and make partitions ahead; names of the migrations that ran."""
    applied = migrate(owner_url, at, phase=phase)
    with postgres.connect(owner_url, connections=1) as pool, pool.connection() as connection:
        ensure_partitions(connection, date(at.year, at.month, 1), MONTHS_AHEAD)
    return applied


@contextmanager
def opened(settings: Settings) -> Iterator[App]:
    """The application on its database, migrated where we own it. Raises DatabaseUnavailable with a remedy."""
    application_url, owner_url = urls(settings)
    if owner_url:
        prepare(owner_url, clock())
    pool = postgres.connect(application_url, connections=settings.connections)
    try:
        with pool.connection() as connection:
            missing = pending(connection, read_schema())
        if missing:
            raise DatabaseUnavailable(
                f"the database lacks {len(missing)} migrations", "run: poolwise db migrate, with owner_url set"
            )
        editions = PostgresEditions(pool)
        books = PostgresBooks(pool, settings.cell_numbers)
        yield App(settings, pool, books, editions, Rulebook(editions), Ids(secrets.randbits))
    finally:
        pool.close()
