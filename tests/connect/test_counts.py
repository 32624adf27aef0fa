"""A stock file that is read by column says what it says row by row."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from poolwise.connect.directory.counts import chunks
from poolwise.connect.directory.fields import LONGEST_TEXT, UNKNOWN, cut
from poolwise.connect.directory.messages import STOCK
from poolwise.connect.directory.reading import Bad, Reject, typed
from poolwise.flows.identity import Ids
from poolwise.flows.masterdata import in_force
from poolwise.flows.stock import position_key, quantity_of
from poolwise.flows.tallying import Clerk
from tests.connect.depot import NOW, SMALL, Depot, write

HEADER = "item,node,pool,quantity,as_of,sequence,basis,lot"
GOOD = ("A", "N", "P", "3", "2026-08-01T00:00:00Z", "2", "on_hand", "")
NUMBERS = ["", "007", "+7", "-7", "7.5", "1e3", "7 ", "\u0667", "9" * 12, "9" * 13, "9" * 70]
INSTANTS = ["2026-08-02T00:00:00Z", "2026-08-01T02:00:00+02:00", "2099-01-01T00:00:00Z", "yesterday"]
ODD = [*NUMBERS, *INSTANTS, "B", "M", "G", "A\0", "M\u00e9", "A" * 70, "available"]
ROWS = [GOOD, *([*GOOD[:place], odd, *GOOD[place + 1 :]] for place in range(len(GOOD)) for odd in ODD), GOOD]


@pytest.fixture(scope="module")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Clerk:
    depot = Depot()
    depot.take(write(tmp_path_factory.mktemp("counts"), SMALL))
    edition = in_force(depot.editions)
    assert edition is not None
    return Clerk(edition, Ids(lambda _: 0), "import")


def read_by_row(path: Path, clerk: Clerk) -> tuple[dict[int, tuple[object, ...]], set[int]]:
    """What each good row says, and the numbers of the others."""
    good: dict[int, tuple[object, ...]] = {}
    bad = set()
    for entry in typed(STOCK, path):
        if isinstance(entry, Bad):
            bad.add(entry.row)
            continue
        count = entry.value
        key = position_key(clerk, count.item, count.node, count.pool, count.lot, [])
        quantity = quantity_of(clerk, key, "quantity", count.quantity, [])
        if key is None or quantity is None or count.as_of > NOW + timedelta(days=1):
            bad.add(entry.row)
        else:
            good[entry.row] = (key.id(), quantity, count.as_of, count.sequence, count.basis, count.lot)
    return good, bad


def test_a_long_field_is_not_taken_for_its_beginning() -> None:
    known = {b"A" * LONGEST_TEXT: 1}
    (fields,), _ = cut(b"A" * LONGEST_TEXT + b"\n" + b"A" * (LONGEST_TEXT + 1) + b"\n", 1)
    assert fields.look_up(lambda text: known.get(text, UNKNOWN)).tolist() == [1, UNKNOWN]


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_column_says_what_its_rows_say(tmp_path: Path, clerk: Clerk, size: int):
    path = tmp_path / "stock.csv"
    path.write_text("\n".join([HEADER, *map(",".join, ROWS)]) + "\n", encoding="utf-8")
    rejects: list[Reject] = []
    good, passed_over = {}, 0
    for chunk in chunks(path, clerk, NOW, rejects.append, size):
        passed_over += chunk.stale + chunk.duplicate
        for place, row in enumerate(chunk.columns.rows):
            said = chunk.message(place)
            told = (said.as_of, said.sequence, said.basis, said.lot)
            good[row] = (chunk.columns.positions[place], chunk.columns.quantities[place], *told)
    expected, bad = read_by_row(path, clerk)
    assert {reject.row for reject in rejects} == bad
    assert len(good) + passed_over == len(expected)
    assert {row: expected[row] for row in good} == good
