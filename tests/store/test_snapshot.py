"""The sieve of snapshots decides as core does: whatever comes in, both ways leave the same books."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from poolwise.connect.directory.importing import Imported, Target, import_directory
from poolwise.core.messages import StockCount, StockMovement
from poolwise.flows.identity import Ids
from poolwise.flows.masterdata import in_force
from poolwise.flows.stock import Outcome, book_counts, book_movements
from poolwise.flows.tallying import Clerk
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.contents import PostgresContents
from poolwise.store.editions import PostgresEditions
from poolwise.store.postgres import Pool
from poolwise.store.snapshot import PostgresSieve
from tests.conftest import Database, copied_database
from tests.connect.depot import SMALL, write

START = datetime(2026, 1, 10, tzinfo=UTC)
HEADER = "item,node,pool,quantity,as_of,sequence,basis"


@pytest.fixture
def pool(database: Database) -> Iterator[Pool]:
    with postgres.connect(database.url, connections=3) as opened:
        yield opened


class Warehouse:
    """Books on PostgreSQL, with a sieve or without, and a clock of its own."""

    def __init__(self, pool: Pool, sieve: bool) -> None:
        self.pool, self.now = pool, START
        self.books, self.editions = PostgresBooks(pool), PostgresEditions(pool)
        self.ids = Ids(random.Random(1).getrandbits)
        self.sieve = PostgresSieve(pool) if sieve else None

    def take(self, directory: Path) -> Imported:
        self.now += timedelta(hours=1)
        target = Target(self.books, self.editions, self.ids, lambda: self.now, lambda *_: (), self.sieve)
        return import_directory(directory, target)

    def count(self, counts: Sequence[StockCount]) -> list[Outcome]:
        self.now += timedelta(hours=1)
        edition = in_force(self.editions)
        assert edition is not None
        return [each.outcome for each in book_counts(self.books, Clerk(edition, self.ids, "wms"), counts, self.now)]

    def move(self, movements: Sequence[StockMovement]) -> None:
        self.now += timedelta(hours=1)
        edition = in_force(self.editions)
        assert edition is not None
        book_movements(self.books, Clerk(edition, self.ids, "wms"), movements, self.now)

    def state(self) -> list[tuple[object, ...]]:
        """Balances and marks of every position, by key."""
        with PostgresContents(self.pool).snapshot() as snapshot:
            return [
                (each.position.key, each.position.balances, each.mark and (each.mark.as_of, each.mark.sequence))
                for each in snapshot.stock()
            ]


def statements(seed: int) -> list[tuple[str, Any]]:
    """A history of snapshots, counts and movements: late, early, repeated, with and without sequences."""
    chance = random.Random(seed)
    history: list[tuple[str, Any]] = []
    for step in range(8):
        kind = chance.random()
        if kind < 0.5:
            rows = [row(chance, step) for _ in range(12)]
            history.append(("snapshot", "\n".join([HEADER, *rows, *rows[:2]]) + "\n"))
        elif kind < 0.75:
            history.append(("counts", [count(chance, step) for _ in range(4)]))
        else:
            history.append(("movements", [movement(chance, step, number) for number in range(4)]))
    return history


def row(chance: random.Random, step: int) -> str:
    as_of = START + timedelta(hours=step, minutes=chance.choice([0, 10, 50]))
    sequence = chance.choice(["", "", str(step), str(chance.randrange(6))])
    basis = chance.choice(["", "on_hand", "available", "with_reserved"])
    place = f"{chance.choice('ABG')},{chance.choice('NM')},P,{chance.randrange(4)}"
    return f"{place},{as_of.isoformat()},{sequence},{basis}"


def count(chance: random.Random, step: int) -> StockCount:
    item, node, pool, quantity, as_of, sequence, _ = row(chance, step).split(",")
    return StockCount(
        item=item,
        node=node,
        pool=pool,
        quantity=quantity,
        as_of=datetime.fromisoformat(as_of),
        sequence=int(sequence) if sequence else None,
    )


def movement(chance: random.Random, step: int, number: int) -> StockMovement:
    source, target = chance.sample(["outside", "available", "blocked", "in_transit"], 2)
    return StockMovement(
        id=f"{step}-{number}",
        item=chance.choice("ABG"),
        node=chance.choice("NM"),
        pool="P",
        quantity=str(chance.randrange(1, 4)),
        source=source,
        target=target,
        at=START + timedelta(hours=step, minutes=chance.choice([0, 20, 55])),
    )


@pytest.mark.parametrize("seed", range(16))
def test_the_sieve_leaves_the_same_books_as_booking_every_count(seed: int, tmp_path: Path, request):
    states: list[list[object]] = []
    for sieve in (True, False):
        database = next(request.getfixturevalue("databases"))
        with postgres.connect(database.url, connections=3) as pool:
            warehouse = Warehouse(pool, sieve)
            warehouse.take(write(tmp_path / "network", SMALL))
            told: list[object] = []
            for place, (kind, what) in enumerate(statements(seed)):
                if kind == "snapshot":
                    directory = write(tmp_path / f"{place}", {"stock.csv": str(what)})
                    told.append(warehouse.take(directory).files["stock"])
                elif kind == "counts":
                    told.append(warehouse.count(what))
                else:
                    warehouse.move(what)
            states.append([*told, *warehouse.state()])
    assert states[0] == states[1]


def test_a_snapshot_is_sifted_into_its_kinds(pool: Pool, tmp_path: Path):
    warehouse = Warehouse(pool, sieve=True)
    first = "\n".join(f"{item},{node},P,5,2026-01-10T00:30:00Z,2," for item in "AB" for node in "NM")
    warehouse.take(write(tmp_path / "1", {**SMALL, "stock.csv": f"{HEADER}\n{first}\n"}))
    second = [
        "A,N,P,5,2026-01-10T01:30:00Z,3,",
        "A,M,P,6,2026-01-10T01:30:00Z,3,",
        "A,M,P,6,2026-01-10T01:30:00Z,3,",
        "B,N,P,9,2026-01-09T00:00:00Z,1,",
        "B,M,P,5,2026-01-10T00:30:00Z,2,",
        "B,M,P,-5,2026-01-10T01:30:00Z,3,",
    ]
    done = warehouse.take(write(tmp_path / "2", {"stock.csv": "\n".join([HEADER, *second]) + "\n"})).files["stock"]
    counts = (done.rows, done.changed, done.unchanged, done.stale, done.duplicate, done.rejected)
    assert counts == (6, 1, 1, 1, 2, 1)


@pytest.fixture
def databases(request: pytest.FixtureRequest) -> Iterator[Iterator[Database]]:
    """Fresh databases, as many as a test asks for."""
    server, template = request.getfixturevalue("server"), request.getfixturevalue("template")
    made = []

    def more() -> Iterator[Database]:
        while True:
            made.append(copied_database(server, template))
            yield next(made[-1])

    yield more()
    for each in made:
        for _ in each:
            pass
