"""Races: operations overlap on real connections. Planted ones are found, and the real code has none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import pytest

from poolwise.flows import freeing, source
from poolwise.flows.ports import Queue
from poolwise.flows.source import source_batch
from poolwise.store import locking
from poolwise.store.books import PostgresTransaction
from poolwise.store.locking import RowLocks
from tests.conftest import Database
from tests.flows.interleaved import COMMIT, MEETINGS, Machine, Operation
from tests.flows.market import Market, on_postgres

FULL = os.environ.get("POOLWISE_CAMPAIGN") == "full"
ROUNDS = 1_000 if FULL else 24
TO_FIND = 200
"""Rounds in which a planted race must have shown."""

campaign = pytest.mark.campaign
pytestmark = pytest.mark.slow


@pytest.fixture
def market(database: Database) -> Iterator[Market]:
    """A market with connections for all that overlaps."""
    with on_postgres(database, connections=12) as found:
        yield found


# --- stories ------------------------------------------------------------------------------------------------------


def worker(market: Market) -> Operation:
    """A worker that sources what waits, at its first access."""
    return Operation(market, lambda books: source_batch(books, market.desk, 0, market.later(seconds=1), 9)).begin()


def giver(market: Market, node: str, units: int) -> Operation:
    """A node that counts, at its first access."""
    told = Market(market.books, market.edition, market.policy, market.connections, market.later(seconds=1))

    def count(books) -> None:
        told.books = books
        told.count("BOLT", node, units)

    return Operation(market, count).begin()


def test_stock_at_a_new_place_serves_demand_that_was_left_short_just_before_it_came_to_be(market: Market) -> None:
    order = market.order("1", ("BOLT", 1))
    seeker = worker(market)
    assert seeker.go_to(COMMIT)
    comes = giver(market, "B", 5)
    comes.finish()
    assert not comes.is_over, "who makes a place waits for who has looked everywhere"
    seeker.end()
    comes.end()
    market.work()
    assert market.state(order) == "sourced"
    assert market.findings() == []


def test_demand_waits_for_stock_at_a_place_that_is_coming_to_be(market: Market) -> None:
    market.count("BOLT", "A", 0)
    order = market.order("1", ("BOLT", 1))
    comes = giver(market, "B", 5)
    assert comes.go_to(COMMIT)
    seeker = worker(market)
    seeker.finish()
    assert not seeker.is_over
    comes.end()
    seeker.end()
    assert (market.state(order), market.record(order).attempt) == ("sourced", 1)


@pytest.mark.parametrize("dies", [True, False])
def test_demand_that_one_has_woken_is_woken_by_the_other_if_he_dies(market: Market, dies: bool) -> None:
    order = market.order("1", ("BOLT", 1))
    for node in "AB":
        market.count("BOLT", node, 0)
    market.work()
    one = giver(market, "A", 1)
    assert one.go_to(COMMIT)
    other = giver(market, "B", 1)
    other.finish()
    assert not other.is_over
    if dies:
        one.abandon()
    one.end()
    other.end()
    assert market.waiting(Queue.STOCK) == []
    market.work()
    assert market.state(order) == "sourced"


# --- the machine --------------------------------------------------------------------------------------------------


def first_wrong(
    market: Market, rounds: int, seed: int = 1, meetings: Sequence[tuple[str, str]] = MEETINGS
) -> tuple[int, list[str]] | None:
    """The first round after which something is wrong, and what."""
    machine = Machine(market, seed, meetings)
    for number in range(rounds):
        wrong = machine.round()
        if wrong:
            return number, wrong
    return None


@campaign
@pytest.mark.parametrize("seed", [1, 2] if FULL else [1])
def test_nothing_is_wrong_however_operations_overlap(market: Market, seed: int) -> None:
    assert first_wrong(market, ROUNDS, seed) is None


Plant = Callable[[pytest.MonkeyPatch], None]


def short_without_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker leaves demand short on what it read: it locks nothing, and reads nothing again."""
    monkeypatch.setattr(source.Batch, "_check_under_lock", decided_as_read)


def decided_as_read(self, stock, made, patient) -> None:
    self.made = list(made)


def nothing_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions are read without a lock where one is asked for."""
    real = PostgresTransaction.positions

    def positions(self, ids, lock=False):
        return real(self, ids)

    monkeypatch.setattr(PostgresTransaction, "positions", positions)


def gates_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions come to be while somebody has looked everywhere."""
    monkeypatch.setattr(RowLocks, "gates", lambda *_: None)


def waking_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A basket is given back: who waits is looked for before the position is locked."""
    real = freeing.GivenBack.record

    def record(self, action, answer=None) -> None:
        self.wake()
        self.wake = lambda: None
        real(self, action, answer)

    def waiting(self, cells, orders):
        return self._cursor.execute(locking.LOCK_WAITING, (cells, orders)).fetchall()

    monkeypatch.setattr(freeing.GivenBack, "record", record)
    monkeypatch.setattr(RowLocks, "waiting", waiting)


def waking_steps_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """Demand that another has taken is stepped past, though he may roll back."""
    monkeypatch.setattr(locking, "LOCK_WAITING", f"{locking.LOCK_WAITING} SKIP LOCKED")


@campaign
@pytest.mark.parametrize(
    ("plant", "meetings"),
    [
        (short_without_lock, MEETINGS),
        (nothing_is_locked, MEETINGS),
        (gates_stay_open, [("seek", "lot"), ("lot", "seek")]),
        (waking_first, [("free", "seek"), ("seek", "free")]),
        (waking_steps_past, [("more", "free"), ("free", "more")]),
    ],
)
def test_a_planted_race_is_found(
    market: Market, monkeypatch: pytest.MonkeyPatch, plant: Plant, meetings: Sequence[tuple[str, str]]
) -> None:
    """Where the race is between two kinds of operation, these meet: it shows sooner."""
    plant(monkeypatch)
    found = first_wrong(market, TO_FIND, meetings=meetings)
    assert found is not None
    print(f"found in round {found[0]}: {found[1]}")
    assert all("waited for" in wrong or wrong.startswith("law") for wrong in found[1])


def test_the_machine_moves_stock(market: Market) -> None:
    """It would find nothing if nothing happened."""
    machine = Machine(market, 3)
    for _ in range(5):
        assert machine.round() == []
    assert any("reserved" in market.at("BOLT", node) for node in "ABC")
