"""The books on PostgreSQL, beside those in memory: what a simulation needs of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

from poolwise.core.policy.terms import SourcingPolicy
from poolwise.flows.masterdata import Told as ToldRow
from poolwise.flows.masterdata import adopt_policy, publish
from poolwise.flows.ports import Books
from poolwise.sim.hamlet import Told
from poolwise.sim.stage import CELL
from poolwise.sim.truth import LONGEST_STEP_S, START
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.check import Finding, Verify
from poolwise.store.editions import PostgresEditions
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.evidence import check_database
from poolwise.store.migrate import ensure_partitions, migrate
from poolwise.store.postgres import Pool
from poolwise.store.upkeep import empty

CONNECTIONS = 2
DAYS_OF_A_MONTH = 28


class PostgresBeside:
    """A database that holds nothing yet; every published edition and policy version goes there, too."""

    def __init__(self, pool: Pool) -> None:
        """`pool` is of the application role."""
        self._pool = pool
        self._editions = PostgresEditions(pool)
        self._published = 0

    def books(self, failpoint: Callable[[str], None]) -> Books:
        """See simulator.Second."""
        return PostgresBooks(self._pool, (CELL,), failpoint)

    def put_in_force(self, rows: Sequence[Told], policy: SourcingPolicy, edition: str) -> None:
        """See simulator.Second."""
        self._published += 1
        at = START + timedelta(microseconds=self._published)
        if rows:
            found = publish(self._editions, [ToldRow(row, section) for section, row in rows], at, "simulator")
            assert found.edition.hash == edition, "memory and PostgreSQL make another edition of the same rows"
        known = {kept.code: kept.version for kept in self._editions.policies()}
        if known.get(policy.code) != policy.version:
            adopt_policy(self._editions, policy, at, "simulator")

    def findings(self, verify: Verify) -> Iterable[Finding]:
        """See simulator.Second."""
        return check_database(self._pool, (CELL,), START, full=True, verify=verify).findings


def prepare(owner_url: str, steps: int) -> None:
    """Bring a database to today's schema, with partitions for all months that so many steps can last."""
    migrate(owner_url, START)
    days = steps * LONGEST_STEP_S // 86_400 + 62
    with postgres.connect(owner_url, connections=1) as pool, pool.connection() as connection:
        ensure_partitions(connection, date(START.year, START.month, 1), days // DAYS_OF_A_MONTH + 1)


@contextmanager
def own_server(steps: int) -> Iterator[Callable[[], PostgresBeside]]:
    """A server of our own in a folder that is gone afterwards; each call gives the database on it, emptied."""
    with tempfile.TemporaryDirectory(prefix="poolwise-sim-") as folder:
        server = EmbeddedServer(Path(folder) / "server", durable=False)
        owner_url = server.start()
        try:
            prepare(owner_url, steps)
            with postgres.connect(server.application_url(), connections=CONNECTIONS) as pool:

                def emptied() -> PostgresBeside:
                    empty(owner_url)
                    return PostgresBeside(pool)

                yield emptied
        finally:
            server.stop()
