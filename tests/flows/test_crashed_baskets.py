"""Baskets and crashes (law 6): whatever dies at whatever step, two sweeps after its time nothing of a basket is held.

Who gets no answer asks again, or gives up; half-done work is taken back by the books, and what was set aside for
nobody ends when its time is over. A few hundred baskets in `make test`, a hundred thousand in `make soak`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from uuid import UUID

import pytest

from poolwise.core.orders import OrderState
from poolwise.core.values import replace
from poolwise.flows import reserve as reserving
from poolwise.flows import timers
from poolwise.flows.freeing import GivenBack
from poolwise.flows.intake import Rejected, accept
from poolwise.flows.ports import Answer, Books, Effects, Ending
from poolwise.flows.reserve import Reserved, free, reserve
from poolwise.flows.source import Choice, Desk
from poolwise.store.books import PostgresBooks
from poolwise.store.memory import MemoryBooks
from poolwise.store.steps import Step
from tests.conftest import Database
from tests.flows.market import CELLS, NODES, Market, basket_of, in_memory, message, on_postgres

FULL = os.environ.get("POOLWISE_CAMPAIGN") == "full"
BASKETS, BASKETS_ON_POSTGRES = (80_000, 20_000) if FULL else (300, 100)
CHUNK, CHUNK_ON_POSTGRES = (2_000, 500) if FULL else (300, 100)
SWEEP_EVERY = timedelta(seconds=60)
LONGEST_S = 600
AT_ONCE = 20
ITEMS = ("BOLT", "NUT", "NAIL", "KIT")
TO_FIND = 500
"""Baskets in which what is planted must have shown."""

pytestmark = pytest.mark.slow


class Crashed(BaseException):
    """The process dies. No flow catches it."""


@dataclass(slots=True)
class Failpoint:
    """Where the next crash is."""

    at: str = ""
    crashes: int = 0

    def __call__(self, step: str) -> None:
        if step == self.at:
            self.at = ""
            self.crashes += 1
            raise Crashed(step)


@dataclass(slots=True)
class Till:
    """A market whose processes die, and what it has promised to hold until when."""

    market: Market
    failpoint: Failpoint
    chance: random.Random
    restarted: Callable[[], None]
    due: dict[UUID, datetime] = field(default_factory=dict)
    made: int = 0

    def maybe_dying(self, work: Callable[[], object], often: float = 0.5) -> object:
        """Do something, in a process that may die over it; None where it did."""
        self.failpoint.at = self.chance.choice(list(Step)).value if self.chance.random() < often else ""
        try:
            return work()
        except Crashed:
            self.restarted()
            return None
        finally:
            self.failpoint.at = ""

    def live(self, baskets: int) -> list[str]:
        """Until so many baskets were set aside, with a sweep now and then; what is held after its time and two."""
        wrong: list[str] = []
        numbers = count()
        while self.made < baskets:
            number = next(numbers)
            self._basket(number)
            if number % AT_ONCE == AT_ONCE - 1:
                self.market.now += SWEEP_EVERY
                wrong += self._swept()
                if wrong:
                    return wrong
        self.market.now += timedelta(seconds=LONGEST_S)
        return wrong + self._swept() + self._left()

    def _basket(self, number: int) -> None:
        """A customer asks, perhaps again, and gives the basket back, orders it, or is not heard of any more."""
        market, chance = self.market, self.chance
        asked = basket_of(
            *((item, chance.randint(1, 3)) for item in chance.sample(ITEMS, chance.randint(1, 2))),
            expires_in_seconds=chance.randint(1, LONGEST_S),
            ship_complete=chance.random() < 0.5,
        )
        market.later(seconds=0.1)
        found: list[Reserved] = []
        key = f"{number}"

        def kept(outcome: Reserved | Rejected) -> Answer:
            return Answer("shop", key, b"", 201, str(getattr(outcome, "reservation", "")))

        def ask() -> None:
            outcome = reserve(market.books, market.desk, market.counter, asked, market.now, kept)
            if isinstance(outcome, Reserved):
                found.append(outcome)

        self.maybe_dying(ask)
        reference = self._reference(key)
        if reference is None and chance.random() < 0.9:
            self.maybe_dying(ask)
            reference = self._reference(key)
        if not reference:
            return
        basket = UUID(reference)
        self.made += 1
        self.due[basket] = market.now + timedelta(seconds=asked.expires_in_seconds)
        match chance.randint(0, 5):
            case 0 | 1:
                self.maybe_dying(lambda: free(market.books, market.desk, basket, market.now))
            case 2:
                order = message(f"O-{number}", ("BOLT", 1), reservation=basket)
                self.maybe_dying(lambda: accept(market.books, market.counter, [order], market.now))

    def _reference(self, key: str) -> str | None:
        with self.market.books.transaction() as transaction:
            known = transaction.answer("shop", key)
        return None if known is None else known.reference

    def _swept(self) -> list[str]:
        """Two sweeps, in processes that may die over them; a sweep that died is followed by the next one's."""
        market = self.market
        overdue = [basket for basket, until in self.due.items() if until <= market.now]
        self.maybe_dying(lambda: timers.run_timers(market.books, market.desk, 0, market.now, 1_000))
        market.now += SWEEP_EVERY
        timers.run_timers(market.books, market.desk, 0, market.now, 1_000)
        return self._held(overdue)

    def _held(self, baskets: list[UUID]) -> list[str]:
        """Baskets whose time was over before the last two sweeps, and of which something is held."""
        with self.market.books.transaction() as transaction:
            records = transaction.orders(baskets)
            held = [basket for basket in baskets if any(part.open for part in transaction.reservations(basket))]
        for basket in baskets:
            del self.due[basket]
        held += [basket for basket in baskets if records[basket].state is OrderState.BASKET and basket not in held]
        return [f"basket {basket} is held after its time" for basket in held]

    def _left(self) -> list[str]:
        """Baskets that nobody was told of are over, too."""
        return [str(finding) for finding in self.market.findings()]


@contextmanager
def till_in_memory(seed: int) -> Iterator[Till]:
    """Memory keeps what is committed, as a database would, whatever dies."""
    market, failpoint = in_memory(), Failpoint()
    market.books = MemoryBooks(failpoint)
    yield stocked(Till(market, failpoint, random.Random(seed), lambda: None))


@contextmanager
def till_on_postgres(database: Database, seed: int) -> Iterator[Till]:
    """Whoever starts again knows nothing but what the database does."""
    failpoint = Failpoint()
    with on_postgres(database) as market:
        assert market.connections is not None

        def restarted() -> None:
            market.books = PostgresBooks(market.connections, CELLS, failpoint)

        restarted()
        yield stocked(Till(market, failpoint, random.Random(seed), restarted))


def stocked(till: Till) -> Till:
    """Plenty of two items, and never enough of a third."""
    for node in NODES:
        for item, units in (("BOLT", 1_000_000), ("NUT", 1_000_000), ("NAIL", 4)):
            till.market.count(item, node, units)
    return till


def lived(till: Till, baskets: int, seed: int) -> list[str]:
    """What is wrong after that many; the campaign would find nothing if nobody died."""
    wrong = till.live(baskets)
    print(f"seed {seed}: {till.made} baskets were set aside, {till.failpoint.crashes} crashes")
    assert till.failpoint.crashes > baskets // 3
    return wrong


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(BASKETS // CHUNK))
def test_nothing_of_a_basket_is_held_after_its_time(seed: int) -> None:
    with till_in_memory(seed) as till:
        assert lived(till, CHUNK, seed) == []


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(BASKETS_ON_POSTGRES // CHUNK_ON_POSTGRES))
def test_nothing_of_a_basket_is_held_after_its_time_on_postgres(database: Database, seed: int) -> None:
    with till_on_postgres(database, seed) as till:
        assert lived(till, CHUNK_ON_POSTGRES, seed) == []


def taken_before(books: Books, desk: Desk, cell: int, now: datetime, limit: int) -> int:
    """What is due is taken in one transaction, and done in another."""
    with books.transaction() as transaction:
        due = transaction.due(cell, now, limit)
    with books.transaction() as transaction:
        records = transaction.orders([timer.subject for timer in due], lock=True)
        given = GivenBack(transaction, desk.atlas.edition, desk.actor, now)
        for record in records.values():
            given.add(record, Ending.EXPIRED)
        given.record("reservations.expire")
    return len(due)


def without_a_timer(patch: pytest.MonkeyPatch) -> None:
    """A basket that is set aside in part has no timer."""
    real = reserving._effects

    def effects(desk: Desk, choice: Choice, *more: object) -> Effects:
        made = real(desk, choice, *more)
        return replace(made, timers=[]) if choice.plan.unserved else made

    patch.setattr(reserving, "_effects", effects)


def taken_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(timers, "run_timers", taken_before)


PLANTED = [(without_a_timer, "memory"), (taken_first, "memory"), (taken_first, "postgres")]


@pytest.mark.campaign
@pytest.mark.parametrize(("plant", "books"), PLANTED if FULL else PLANTED[:2])
def test_what_is_planted_is_found(
    database: Database, monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], books: str
) -> None:
    plant(monkeypatch)
    with till_in_memory(1) if books == "memory" else till_on_postgres(database, 1) as till:
        wrong = till.live(TO_FIND)
    assert any("after its time" in each for each in wrong), wrong
