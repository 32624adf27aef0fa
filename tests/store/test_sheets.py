"""What a snapshot marks in sheets, and what others book at the same time: law 9 holds in whatever order they come."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Event
from time import monotonic

import numpy as np
import pytest

from poolwise.core.ledger import PositionKey
from poolwise.core.messages import StockCount, StockMovement
from poolwise.flows.ports import Books, CountMark
from poolwise.flows.snapshot import NO_SEQUENCE, Codes, CountColumns, Sifted, Sifting
from poolwise.flows.source import source_batch
from poolwise.flows.stock import Outcome, book_counts, book_movements
from poolwise.store.arrays import instant
from poolwise.store.locking import RowLocks
from poolwise.store.sheets import NEVER, Sheets, read_sheets
from poolwise.store.snapshot import PostgresSieve
from tests.conftest import Database
from tests.flows.interleaved import COMMIT, Operation
from tests.flows.market import START, Market, on_postgres

FULL = os.environ.get("POOLWISE_CAMPAIGN") == "full"
PATIENCE_S = 60
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
BOLT_AT_A = PositionKey("BOLT", "A", "P")


@pytest.fixture
def market(database: Database) -> Iterator[Market]:
    with on_postgres(database, connections=8) as found:
        yield found


def hours(number: float) -> datetime:
    return START + timedelta(hours=number)


def sifted(market: Market, *told: tuple[str, str, int], as_of: float, sequence: int | None = None) -> Sifted:
    """Sift a snapshot: item, node and quantity of each count."""
    codes = Codes([item for item, _, _ in told], [node for _, node, _ in told], ["P"])
    columns = CountColumns(codes, instants=[hours(as_of)])
    ids = [PositionKey(item, node, "P").id() for item, node, _ in told]
    for place in sorted(range(len(told)), key=ids.__getitem__):
        columns.rows.append(place + 2)
        columns.cells.append(0)
        columns.positions.append(ids[place])
        columns.items.append(place)
        columns.nodes.append(place)
        columns.pools.append(0)
        columns.quantities.append(told[place][2])
        columns.as_of.append(0)
        columns.sequences.append(NO_SEQUENCE if sequence is None else sequence)
        columns.accounts.append(3)
        columns.lots.append(0)
    assert market.connections is not None
    now = max(market.now, hours(as_of))
    return PostgresSieve(market.connections).sift(
        columns, Sifting(market.clerk.ids.new(now), "import", now, market.edition.catalog)
    )


def counted(market: Market, books, quantity: int, as_of: float, sequence: int | None = None) -> Outcome:
    """A node counts its bolts."""
    said = StockCount(item="BOLT", node="A", pool="P", quantity=str(quantity), as_of=hours(as_of), sequence=sequence)
    (result,) = book_counts(books, market.clerk, [said], hours(48))
    return result.outcome


def sold(market: Market, books, quantity: int, at: float) -> None:
    """A node reports that bolts are gone."""
    said = StockMovement(
        id="1",
        item="BOLT",
        node="A",
        pool="P",
        quantity=str(quantity),
        source="available",
        target="outside",
        at=hours(at),
    )
    book_movements(books, market.clerk, [said], hours(48))


def mark(market: Market) -> CountMark | None:
    with market.books.transaction() as transaction:
        return transaction.count_marks([BOLT_AT_A.id()]).get(BOLT_AT_A.id())


def available(market: Market) -> int:
    return market.at("BOLT", "A")["available"]


# --- what was marked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", [True, False], ids=["opened by it", "there before"])
@pytest.mark.parametrize(
    ("of_the_snapshot", "later", "outcome"),
    [
        ((2, None), (1, None), Outcome.STALE),
        ((2, None), (2, None), Outcome.DUPLICATE),
        ((2, None), (3, None), Outcome.BOOKED),
        ((2, 7), (3, 6), Outcome.STALE),
        ((2, 7), (1, 7), Outcome.DUPLICATE),
        ((2, 7), (1, 8), Outcome.BOOKED),
        ((2, 7), (3, None), Outcome.BOOKED),
        ((2, 7), (1, None), Outcome.STALE),
        ((2, None), (1, 9), Outcome.STALE),
    ],
)
def test_a_count_after_a_snapshot_is_compared_with_it(market, opened, of_the_snapshot, later, outcome) -> None:
    if not opened:
        counted(market, market.books, 10, 0.5)
    found = sifted(market, ("BOLT", "A", 10), as_of=of_the_snapshot[0], sequence=of_the_snapshot[1])
    assert not found.differing
    assert counted(market, market.books, 3, *later) is outcome
    assert available(market) == (3 if outcome is Outcome.BOOKED else 10)


def test_a_sequence_outlives_a_snapshot_without_one(market: Market) -> None:
    counted(market, market.books, 10, 1, 5)
    sifted(market, ("BOLT", "A", 10), as_of=2)
    assert mark(market) == CountMark(0, BOLT_AT_A.id(), hours(2), 5)


def test_a_snapshot_is_compared_with_counts_and_with_snapshots(market: Market) -> None:
    sifted(market, ("BOLT", "A", 10), as_of=1, sequence=1)
    counted(market, market.books, 4, 3, 3)
    kinds = [sifted(market, ("BOLT", "A", 4), as_of=3, sequence=number) for number in (2, 3, 1, 4, 4)]
    assert [(found.stale, found.duplicate) for found in kinds] == [(1, 0), (0, 1), (1, 0), (0, 0), (0, 1)]


def test_a_change_that_a_snapshot_has_seen_changes_nothing(market: Market) -> None:
    counted(market, market.books, 10, 1)
    sifted(market, ("BOLT", "A", 10), as_of=3)
    sold(market, market.books, 2, 2)
    assert available(market) == 10


@pytest.mark.parametrize(("told", "differing"), [(10, []), (8, [0])])
def test_a_snapshot_is_compared_with_the_balance_of_its_time(market: Market, told: int, differing: list[int]) -> None:
    counted(market, market.books, 10, 1)
    sold(market, market.books, 2, 3)
    assert list(sifted(market, ("BOLT", "A", told), as_of=2).differing) == differing


def test_marks_of_many_snapshots_take_the_room_of_one(market: Market) -> None:
    nodes = [(item, node, 5) for item in ("BOLT", "NUT", "NAIL") for node in "ABC"]
    for hour in range(1, 6):
        counted(market, market.books, 5, hour - 0.5)
        sifted(market, *nodes, as_of=hour)
    assert market.connections is not None
    with market.connections.connection() as connection:
        stamps = connection.execute("SELECT array_length(as_ofs, 1) FROM count_sheet WHERE positions <> '{}'")
        assert {length for (length,) in stamps} == {1}
        assert connection.execute("SELECT count(*) FROM count_mark").fetchone() == (0,)


# --- at the same time ---------------------------------------------------------------------------------------------


@contextmanager
def beside() -> Iterator[Callable[..., Future]]:
    """Something that happens meanwhile."""
    with ThreadPoolExecutor(max_workers=2) as threads:
        yield threads.submit


def until_blocked(market: Market, under_way: Future) -> None:
    """Wait until somebody waits for a lock, or it is done without."""
    assert market.connections is not None
    deadline = monotonic() + PATIENCE_S
    with market.connections.connection() as connection:
        while not under_way.done() and connection.execute(BLOCKED).fetchone() == (0,):
            assert monotonic() < deadline, "nothing happens"
            wait([under_way], timeout=0.01)


@pytest.mark.parametrize(
    "change",
    [lambda market, books: counted(market, books, 12, 2), lambda market, books: sold(market, books, 2, 2)],
    ids=["count", "movement"],
)
def test_a_snapshot_sees_what_is_being_booked(market: Market, change: Callable[[Market, Books], object]) -> None:
    """Else the position would be marked as unchanged, and what was booked would remain."""
    counted(market, market.books, 10, 1)
    other = Operation(market, lambda books: change(market, books)).begin()
    assert other.go_to(COMMIT)
    with beside() as start:
        snapshot = start(sifted, market, ("BOLT", "A", 10), as_of=3)
        until_blocked(market, snapshot)
        other.end()
        assert list(snapshot.result(PATIENCE_S).differing) == [0]


@pytest.mark.parametrize("opened", [True, False], ids=["opened by it", "there before"])
def test_a_count_that_is_older_than_a_snapshot_under_way_is_stale(market, opened, monkeypatch) -> None:
    """It waits for the snapshot, which has not committed what it marked."""
    if not opened:
        counted(market, market.books, 10, 1)
    has_marked, may_commit = Event(), Event()
    real = Sheets.write

    def write(self, *what) -> None:
        real(self, *what)
        if what[1].any():
            has_marked.set()
            assert may_commit.wait(PATIENCE_S)

    monkeypatch.setattr(Sheets, "write", write)
    with beside() as start:
        snapshot = start(sifted, market, ("BOLT", "A", 10), as_of=3)
        assert has_marked.wait(PATIENCE_S)
        count = start(counted, market, market.books, 12, 2)
        until_blocked(market, count)
        may_commit.set()
        assert count.result(PATIENCE_S) is Outcome.STALE
        assert not snapshot.result(PATIENCE_S).differing
    assert available(market) == 10


def test_counts_of_the_same_sheet_do_not_wait_for_each_other(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolwise.store.sheets.PARTS", 1)
    sifted(market, *((item, "A", 5) for item in ("BOLT", "NUT", "NAIL", "KIT", "SCREW")), as_of=-1)
    one = Operation(market, lambda books: counted(market, books, 4, 2)).begin()
    assert one.go_to(COMMIT)
    with beside() as start:
        others = [start(market.count, item, "A", 4) for item in ("NUT", "NAIL", "KIT", "SCREW")]
        assert {other.result(PATIENCE_S) for other in others} == {Outcome.BOOKED}
    one.end()


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(200 if FULL else 8))
def test_the_newest_statement_is_what_is_there_whoever_books_it(market: Market, seed: int) -> None:
    """Counts and snapshots of the same position, all at once and in any order, often of the figure that is there."""
    chance = random.Random(seed)
    figures = [chance.choice([10, 10, 11]) for _ in range(8)]

    def book(hour: int) -> None:
        if hour % 2 or sifted(market, ("BOLT", "A", figures[hour]), as_of=hour).differing:
            counted(market, market.books, figures[hour], hour)

    with ThreadPoolExecutor(max_workers=3) as threads:
        list(threads.map(book, chance.sample(range(8), 8)))
    found = mark(market)
    assert found is not None
    assert (available(market), found.as_of) == (figures[-1], hours(7))


def test_two_snapshots_of_the_same_positions_end_in_the_newer(market: Market) -> None:
    counted(market, market.books, 10, 1)
    with beside() as start:
        both = [start(sifted, market, ("BOLT", "A", 10), as_of=hour) for hour in (3, 2)]
        for snapshot in both:
            snapshot.result(PATIENCE_S)
    found = mark(market)
    assert found is not None
    assert found.as_of == hours(3)


# --- what comes to be ---------------------------------------------------------------------------------------------


def test_what_a_snapshot_opens_wakes_who_waits_in_the_same_commit(market: Market) -> None:
    """The import may be killed before it books anything else, and never go on."""
    orders = [market.order(number, (item, 1)) for number, item in (("1", "BOLT"), ("2", "KIT"), ("3", "NAIL"))]
    market.work()
    sifted(market, ("BOLT", "A", 5), ("NUT", "A", 5), ("NAIL", "A", 0), as_of=1)
    assert market.waiting() == ["1", "2"]
    market.work()
    assert [market.state(order) for order in orders] == ["sourced", "sourced", "backordered"]


def test_who_is_being_left_short_while_a_snapshot_opens_a_position_is_woken_too(market: Market) -> None:
    """He has looked everywhere, and holds the gate of the item until he has committed that he waits."""
    order = market.order("1", ("BOLT", 1))
    decides = Operation(market, lambda books: source_batch(books, market.desk, 0, market.later(seconds=1), 9)).begin()
    assert decides.go_to(COMMIT)
    with beside() as start:
        opens = start(sifted, market, ("BOLT", "A", 5), as_of=1)
        until_blocked(market, opens)
        assert not opens.done()
        decides.end()
        opens.result(PATIENCE_S)
    market.work()
    assert market.state(order) == "sourced"


# --- how it is kept -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_sheets_keep_the_greatest_of_all_they_were_told(market: Market, seed: int) -> None:
    chance = np.random.default_rng(seed)
    positions = chance.integers(-(2**63), 2**63 - 1, 60)
    nodes = chance.integers(0, 3, 60)
    known = dict.fromkeys(positions.tolist(), (NEVER, NO_SEQUENCE))
    assert market.connections is not None
    for _ in range(4):
        some = chance.permutation(60)[:40]
        as_ofs, sequences = chance.integers(0, 4, 40) * 1_000_000, chance.integers(-1, 3, 40)
        accepted = chance.random(40) < 0.7
        with market.connections.connection() as connection, connection.transaction():
            sheets = Sheets(np.zeros(40, np.int64), nodes[some], positions[some], ["B", "A", "C"])
            cursor = connection.cursor(binary=True)
            RowLocks(cursor).sheets(sheets.keys)
            told = sheets.read(cursor)
            assert list(zip(*(column.tolist() for column in told), strict=True)) == [
                known[position] for position in positions[some].tolist()
            ]
            sheets.write(cursor, accepted, as_ofs, sequences)
        for place in np.flatnonzero(accepted):
            position = int(positions[some][place])
            was = known[position]
            known[position] = (max(was[0], int(as_ofs[place])), max(was[1], int(sequences[place])))


@pytest.mark.parametrize("looked_up", [0, 1_000], ids=["read whole", "looked up"])
def test_marks_are_found_whichever_way_they_are_read(market: Market, monkeypatch, looked_up: int) -> None:
    """Some positions are marked, the first and the last of their sheets are among those that are not."""
    monkeypatch.setattr("poolwise.store.sheets.MOST_LOOKED_UP", looked_up)
    chance = np.random.default_rng(1)
    positions, nodes = np.sort(chance.integers(-(2**63), 2**63 - 1, 300)), chance.integers(0, 2, 300)
    accepted = chance.random(300) < 0.8
    as_ofs, sequences = chance.integers(0, 4, 300) * 1_000_000, chance.integers(-1, 3, 300)
    assert market.connections is not None
    with market.connections.connection() as connection, connection.transaction():
        cursor, sheets = connection.cursor(binary=True), Sheets(np.zeros(300, np.int64), nodes, positions, ["A", "B"])
        RowLocks(cursor).sheets(sheets.keys)
        sheets.read(cursor)
        sheets.write(cursor, accepted, as_ofs, sequences)
        names = ["AB"[node] for node in nodes]
        found = read_sheets(cursor, RowLocks(cursor), [0] * 300, names, positions.tolist())
    assert found == {
        int(position): CountMark(0, int(position), instant(int(as_of)), None if sequence < 0 else int(sequence))
        for position, as_of, sequence, is_marked in zip(positions, as_ofs, sequences, accepted, strict=True)
        if is_marked
    }
