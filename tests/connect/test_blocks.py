"""Lines that are taken to pieces at once and lines that go through the CSV reader are the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolwise.connect.directory.messages import STOCK
from poolwise.connect.directory.reading import blocks
from poolwise.core.ledger import PositionKey, position_ids

HEADER = "item,node,pool,quantity,as_of"
TEXTS = st.text(st.characters(exclude_characters='",\r\n', exclude_categories=["Cs"]), max_size=4)
ROWS = st.lists(st.lists(TEXTS, min_size=4, max_size=6), max_size=12)


def read(path: Path, size: int) -> tuple[list[tuple[int, tuple[str, ...]]], list[int]]:
    """Rows with their numbers, and the numbers of the bad ones."""
    found = list(blocks(STOCK, path, size))
    good = []
    for block in found:
        rows = [block.row(place) for place in range(len(block.numbers))]
        good += [(number, tuple(fields)) for number, fields in sorted([*rows, *block.odd])]
    return good, [bad.row for block in found for bad in block.bad]


@given(rows=ROWS, end=st.sampled_from(["\n", "\r\n"]), size=st.integers(1, 5), closed=st.booleans())
def test_a_quote_changes_no_row(tmp_path_factory: pytest.TempPathFactory, rows, end, size, closed):
    plain, quoted = (tmp_path_factory.mktemp("blocks") / name for name in ("plain.csv", "quoted.csv"))
    # What is quoted is never blank; a row of empty texts would be told apart only by its quotes.
    lines = [HEADER, *(",".join(["x", *row[1:]]) for row in rows)]
    plain.write_text(end.join(lines) + (end if closed else ""), encoding="utf-8", newline="")
    lines = [HEADER, *(",".join(['"x"', *row[1:]]) for row in rows)]
    quoted.write_text(end.join(lines) + (end if closed else ""), encoding="utf-8", newline="")
    good, bad = read(plain, size)
    assert (good, bad) == read(quoted, size)
    assert good == [(n, ("x", *row[1:])) for n, row in enumerate(rows, start=2) if len(row) == 5]
    assert bad == [n for n, row in enumerate(rows, start=2) if len(row) != 5]


def test_a_quoted_line_end_moves_the_numbers_of_what_follows(tmp_path: Path):
    path = tmp_path / "stock.csv"
    path.write_text(f'{HEADER}\na,n,p,1,t\n"b\n",n,p,1,t\n\nc,n,p,1,t\nd,n,p\ne,n,p,1,t\n')
    for size in range(1, 9):
        good, bad = read(path, size)
        assert ([(number, row[0]) for number, row in good], bad) == ([(2, "a"), (3, "b\n"), (6, "c"), (8, "e")], [7])


@given(keys=st.lists(st.tuples(*[st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))] * 3)))
def test_numbers_of_many_positions_are_those_of_each(keys: list[tuple[str, str, str]]):
    items, nodes, pools = ([key[part] for key in keys] for part in range(3))
    assert list(position_ids(items, nodes, pools)) == [PositionKey(*key).id() for key in keys]
