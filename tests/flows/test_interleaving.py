"""Races: operations overlap on real connections as a seed says. Planted ones are found, and the real code has none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from poolwise.core.ledger import Account
from poolwise.flows import freeing, source
from poolwise.store.books import PostgresTransaction
from tests.conftest import Database
from tests.flows.interleaved import Machine
from tests.flows.market import Market, on_postgres

FULL = os.environ.get("POOLWISE_CAMPAIGN") == "full"
ROUNDS = 1_000 if FULL else 25
TO_FIND = 150
"""Rounds in which a planted race must have shown; some ten were enough when this was written."""

pytestmark = [pytest.mark.slow, pytest.mark.campaign]


@pytest.fixture
def market(database: Database) -> Iterator[Market]:
    """A market with connections for all that overlaps."""
    with on_postgres(database, connections=12) as found:
        yield found


def first_wrong(market: Market, rounds: int, seed: int = 1) -> tuple[int, list[str]] | None:
    """The first round after which something is wrong, and what."""
    machine = Machine(market, seed)
    for number in range(rounds):
        wrong = machine.round()
        if wrong:
            return number, wrong
    return None


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_wrong_however_operations_overlap(market: Market, seed: int) -> None:
    assert first_wrong(market, ROUNDS, seed) is None


def without_lock(real: Callable[..., object]) -> Callable[..., object]:
    """A method of the transaction that reads without locking."""

    def method(self, ids, lock=False):
        return real(self, ids)

    return method


def short_without_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker leaves demand short on what it read, and locks nothing."""
    monkeypatch.setattr(source.Shelf, "positions", lambda *_: [])
    monkeypatch.setattr(source.Shelf, "renew", lambda *_: None)


def waking_without_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A basket is given back: who waits is looked for before the position is locked."""

    def woken(self):
        places = self._transaction.positions(sorted({movement.position for movement in self.movements}))
        items = sorted({place.key.item for place in places.values()})
        found = self._transaction.waiting(items, 1_000) if items else ()
        return [freeing.replace(todo, queue=freeing.Queue.ONCE) for todo in found]

    monkeypatch.setattr(freeing.GivenBack, "woken", woken)


def nothing_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions are read without a lock where one is asked for."""
    monkeypatch.setattr(PostgresTransaction, "positions", without_lock(PostgresTransaction.positions))


@pytest.mark.parametrize("plant", [short_without_lock, nothing_is_locked, waking_without_lock])
def test_a_planted_race_is_found(
    market: Market, monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    plant(monkeypatch)
    assert first_wrong(market, TO_FIND) is not None


def test_the_machine_moves_stock(market: Market) -> None:
    """It would find nothing if nothing happened."""
    machine = Machine(market, 3)
    for _ in range(5):
        assert machine.round() == []
    assert machine.orders
    assert any(market.at("BOLT", node).get(Account.RESERVED.value) for node in "ABC")
