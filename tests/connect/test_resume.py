"""An import that was killed goes on where it was: in the end everything is there once."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import psycopg
import pytest

from poolwise.connect.directory.exporting import export_directory
from poolwise.connect.directory.importing import Imported, import_directory
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.contents import PostgresContents
from poolwise.store.editions import PostgresEditions
from tests.conftest import Database, copied_database
from tests.connect.depot import SMALL, contents, write
from tests.connect.doomed import ROWS, bring_until, target_of
from tests.forks import context

PATIENCE_S = 120
COUNT = 300
BAD = (7, 155)
CHUNKS = -(-COUNT // ROWS)

FULL = os.environ.get("POOLWISE_CAMPAIGN") == "full"
SEED = 1


def drawn(count: int) -> list[tuple[str, str]]:
    """Kills between chunks and inside of them, as the seed says."""
    chance = random.Random(SEED)
    steps = {"row": COUNT - 1, "opened": CHUNKS, "sifted": CHUNKS, "before_commit": CHUNKS, "after_commit": CHUNKS}
    return [(step, str(chance.randint(1, steps[step]))) for step in chance.choices(sorted(steps), k=count)]


DRAWN = drawn(100 if FULL else 4)

pytestmark = [pytest.mark.slow, pytest.mark.campaign]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred counts, two of them bad; receipts; orders."""
    items = "".join(f"I{n}\n" for n in range(COUNT))
    stock = ["item,node,pool,quantity,as_of,sequence"]
    stock += [f"I{n},N,P,{'x' if n in BAD else n % 9 + 1},2026-01-10T00:00:00Z,1" for n in range(COUNT)]
    receipts = ["reference,item,node,pool,quantity,due_on,arrived"]
    receipts += [f"PO{n},I{n},N,P,5,2026-09-01,{n % 2}" for n in range(30)]
    orders = ["order,channel,zone,item,quantity", *(f"S{n},web,Z,I{n},1" for n in range(30))]
    files = {
        "items.csv": f"item\n{items}",
        "stock.csv": "\n".join(stock) + "\n",
        "receipts.csv": "\n".join(receipts) + "\n",
        "orders.csv": "\n".join(orders) + "\n",
    }
    return write(tmp_path_factory.mktemp("doomed"), {**SMALL, **files})


@pytest.fixture(scope="module")
def undisturbed(directory: Path, tmp_path_factory: pytest.TempPathFactory, server, template):
    """What an import leaves that nobody interrupts: the export, and how often each position moved."""
    for database in copied_database(server, template):
        bring(database, directory)
        yield exported(database, tmp_path_factory.mktemp("undisturbed")), movements(database)


def bring(database: Database, directory: Path) -> Imported:
    with postgres.connect(database.url, connections=3) as pool:
        return import_directory(directory, target_of(pool, PostgresBooks(pool)))


def exported(database: Database, to: Path) -> dict[str, str]:
    """What the books hold; times that depend on the moment left out."""
    with postgres.connect(database.url, connections=3) as pool:
        export_directory(to, PostgresEditions(pool), PostgresContents(pool))
    return contents(to)


def movements(database: Database) -> list[tuple[object, ...]]:
    with psycopg.connect(database.owner_url) as connection:
        statement = "SELECT position, count(*) FROM movement GROUP BY position ORDER BY position"
        return connection.execute(statement).fetchall()


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("row", "1"),
        ("row", "90"),
        ("row", "299"),
        ("before_commit", "3"),
        ("after_commit", "3"),
        ("movements", "4"),
        ("before_commit", "10"),
        ("after_commit", "14"),
        ("published", "1"),
        ("opened", str(CHUNKS)),
        ("sifted", str(CHUNKS)),
        *DRAWN,
    ],
)
def test_a_killed_import_goes_on_where_it_was(
    step: str, number: str, database: Database, directory: Path, undisturbed, tmp_path: Path
):
    doomed = context.Process(target=bring_until, args=(database.url, str(directory), step, int(number)))
    doomed.start()
    doomed.join(PATIENCE_S)
    assert doomed.exitcode == -signal.SIGKILL, f"the import ended with {doomed.exitcode}"
    done = bring(database, directory)
    assert done.rejected == len(BAD)
    assert (exported(database, tmp_path), movements(database)) == undisturbed
    again = bring(database, directory)
    assert (again.changed, again.rejected) == (0, len(BAD))
