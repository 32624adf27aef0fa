"""Races: operations overlap on real connections. Planted ones are found, and the real code has none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest
from psycopg.errors import LockNotAvailable

from poolwise.core.values import Conflict
from poolwise.flows import freeing, source
from poolwise.flows.ports import Queue
from poolwise.flows.reserve import reserve
from poolwise.flows.source import source_batch
from poolwise.store import locking
from poolwise.store.books import PostgresTransaction
from poolwise.store.locking import RowLocks
from tests.conftest import Database
from tests.flows.interleaved import COMMIT, MEETINGS, Machine, Operation
from tests.flows.market import Market, basket_of, on_postgres

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


@pytest.fixture
def tight(database: Database) -> Iterator[Market]:
    """A market whose nodes send ten orders a day, and have something each that the others have not."""
    with on_postgres(database, daily_orders=10, connections=12) as found:
        for item, node in (("BOLT", "A"), ("NUT", "B"), ("NAIL", "A"), ("SCREW", "B")):
            found.count(item, node, 99)
        yield found
        assert found.findings() == []


def claims_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of orders claimed from now on: one for each time that somebody begins."""
    claims: list[int] = []
    real = PostgresTransaction.claim

    def claim(self, *asked):
        found = real(self, *asked)
        claims.append(len(found))
        return found

    monkeypatch.setattr(PostgresTransaction, "claim", claim)
    return claims


def test_batches_that_take_much_of_each_others_slots_do_not_wait_in_a_circle(
    tight: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One takes most of B's day and one of A's, the other the reverse: B must not be locked before A."""
    for batch, items in enumerate((["BOLT"] + ["NUT"] * 6, ["NAIL"] * 6 + ["SCREW"])):
        for place, item in enumerate(items):
            tight.order(f"{batch}-{place}", (item, 1))
    claims = claims_of(monkeypatch)
    works = [
        Operation(tight, lambda books: source_batch(books, tight.desk, 0, tight.later(seconds=1), 7)).begin()
        for _ in range(2)
    ]
    assert [work.go_to("record") for work in works] == [True, False]
    for work in works:
        work.end()
    assert (claims, [work.error for work in works]) == ([7, 7], [None, None])
    assert [tight.taken(node, tight.now.date()) for node in "AB"] == [7, 7]


def test_a_slot_that_comes_before_one_that_is_locked_is_not_waited_for(tight: Market) -> None:
    """Who holds B and finds A taken gives way at once, before anybody waits in a circle."""
    today = tight.now.date()
    with tight.books.transaction() as one, suppress(Conflict), tight.books.transaction() as other:
        one.capacity([(0, "A", today, 0)])
        other.capacity([(0, "B", today, 0)])
        other.capacity([(0, "C", today, 0)])
        with pytest.raises(LockNotAvailable):
            other.capacity([(0, "A", today, 0), (0, "D", today, 0)])
        raise Conflict("it is over")
    with tight.books.transaction() as one:
        assert one.capacity([(0, node, today, 0) for node in "ABCD"]) == {(0, "A", today, 0): 0}


def test_who_pledges_a_receipt_has_locked_its_position_before(market: Market) -> None:
    """Who is left short holds all positions of the item, and nobody holds a receipt of it and waits for one."""
    market.expect("BOLT", "A", 3)
    market.order("large", ("BOLT", 9))
    seeker = worker(market)
    assert seeker.go_to("record")
    asked = basket_of(("BOLT", 1), expires_in_seconds=60)
    at = market.later(seconds=1)
    basket = Operation(market, lambda books: reserve(books, market.desk, market.counter, asked, at)).begin()
    assert not basket.go_to("receipts"), "it waits for the position first"
    seeker.end()
    basket.end()
    assert (seeker.error, basket.error, market.findings()) == (None, None, [])


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
