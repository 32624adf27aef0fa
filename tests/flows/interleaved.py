"""A machine that interleaves: it starts operations, and steps them from one access to the books to the next.

Every operation is a thread on a connection of its own. It stands still before each call of its transaction and before
the commit, until it is let go on; there it may also be abandoned, as if it were killed. One that waits for a lock of
another stays under way meanwhile. A machine that runs operations one after another finds no race; this one stops the
first of two or three somewhere, more often than not right before its commit, and lets the others happen there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from threading import Condition, Thread
from time import monotonic
from uuid import UUID

from poolwise.core.messages import StockCount
from poolwise.core.values import Conflict
from poolwise.flows.ports import Books, Transaction
from poolwise.flows.reserve import Reserved, free, reserve
from poolwise.flows.source import source_batch
from poolwise.flows.stock import book_counts
from poolwise.store.books import PostgresTransaction
from tests.flows.market import CELLS, NODES, Market, basket_of

LOOK_S = 0.002
LONGEST_STEP_S = 120.0
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
ROUNDS_BETWEEN_CHECKS = 20
PATIENCE_S = 120
MOST_STEPS = 12
COMMIT = "commit"
MEETINGS = (
    ("seek", "more"), ("seek", "free"), ("seek", "lot"), ("free", "seek"), ("more", "seek"), ("lot", "seek"),
    ("more", "free"), ("free", "more"), ("less", "seek"), ("seek", "seek"), ("basket", "free"), ("seek", "less"),
)  # fmt: skip
"""Who is stopped, and who happens meanwhile. Every meeting has its turn."""
ITEM = "BOLT"


class Abandoned(Exception):
    """Ends an operation before its commit."""


class Operation(Thread):
    """Some work on the books that can be stepped."""

    def __init__(self, market: Market, work: Callable[[Books], object]) -> None:
        super().__init__(daemon=True)
        self._market, self._work = market, work
        self._moved = Condition()
        self._backend = 0
        self._is_let_on = False
        self._is_abandoned = False
        self.stands_before = ""
        self.is_over = False
        self.error: BaseException | None = None

    def run(self) -> None:
        """Work until the end; a lost race is no error."""
        try:
            with suppress(Conflict, Abandoned):
                self._work(GatedBooks(self._market.books, self._enter, self._gate))
        except BaseException as error:  # noqa: BLE001
            self.error = error
        finally:
            with self._moved:
                self.is_over = True
                self._moved.notify_all()

    def _enter(self, transaction: PostgresTransaction) -> None:
        self._backend = transaction._cursor.connection.info.backend_pid

    def _gate(self, name: str) -> None:
        with self._moved:
            self.stands_before = name
            self._moved.notify_all()
            while not self._is_let_on:
                self._moved.wait()
            self._is_let_on = False
            self.stands_before = ""
            if self._is_abandoned:
                raise Abandoned

    def begin(self) -> Operation:
        """Go to the first access."""
        self.start()
        self._arrive()
        return self

    def step(self) -> bool:
        """Go on to the next access, or to the end, or until a lock of another is in the way; whether it stands."""
        with self._moved:
            if self.stands_before:
                self._is_let_on = True
                self.stands_before = ""
                self._moved.notify_all()
        return self._arrive()

    def go_to(self, name: str) -> bool:
        """Go on to an access; whether it came there."""
        while self.stands_before != name:
            if not self.step():
                return False
        return True

    def finish(self) -> None:
        """Go on to the end, or as far as locks let it."""
        while self.step():
            pass

    def end(self) -> None:
        """Go on to the end, once nothing is in the way."""
        deadline = monotonic() + PATIENCE_S
        while not self.is_over:
            assert monotonic() < deadline, "an operation is stuck"
            self.finish()

    def abandon(self) -> None:
        """End here, and take everything back."""
        self._is_abandoned = True
        self.step()

    def _arrive(self) -> bool:
        deadline = monotonic() + LONGEST_STEP_S
        while monotonic() < deadline:
            with self._moved:
                if self._moved.wait_for(lambda: self.stands_before or self.is_over, LOOK_S):
                    return not self.is_over
            if self._is_blocked():
                return False
        raise AssertionError("an operation neither moves nor waits for a lock")

    def _is_blocked(self) -> bool:
        """Whether it waits for a lock of another."""
        assert self._market.connections is not None
        with self._market.connections.connection() as connection:
            row = connection.execute(WAITS, (self._backend,)).fetchone()
        return row is not None and row[0] > 0


class GatedBooks:
    """Books whose transactions stand still at a gate before every access, and before they commit."""

    def __init__(self, books: Books, enter: Callable[[PostgresTransaction], None], gate: Callable[[str], None]) -> None:
        self._books, self._enter, self._gate = books, enter, gate

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See ports."""
        with self._books.transaction() as transaction:
            assert isinstance(transaction, PostgresTransaction)
            self._enter(transaction)
            yield Gated(transaction, self._gate)  # type: ignore[misc]  # it answers every call of a transaction
            self._gate(COMMIT)


class Gated:
    """A transaction that stops at the gate before every call."""

    def __init__(self, transaction: Transaction, gate: Callable[[str], None]) -> None:
        self._transaction, self._gate = transaction, gate

    def __getattr__(self, name: str) -> object:
        self._gate(name)
        return getattr(self._transaction, name)


class Machine:
    """A market in which operations overlap as a seed says."""

    def __init__(self, market: Market, seed: int, meetings: Sequence[tuple[str, str]] = MEETINGS) -> None:
        self.market, self.meetings = market, meetings
        self.random = random.Random(seed)
        self.numbers = count(seed * 100_000)
        self.rounds = 0
        self.orders: list[UUID] = []
        self.baskets: list[UUID] = []

    def round(self) -> list[str]:
        """Stop one operation somewhere, let others happen there, and go on with it; what is wrong afterwards."""
        self._prepare()
        kinds = list(self.meetings[self.rounds % len(self.meetings)])
        if self.random.random() < 0.3:
            kinds.append(self.random.choice(MEETINGS)[0])
        first, *others = [Operation(self.market, self._made(kind)) for kind in kinds]
        dies = self.random.random() < 0.3
        first.begin()
        if dies or self.random.random() < 0.6:
            first.go_to(COMMIT)
        else:
            for _ in range(self.random.randrange(MOST_STEPS)):
                first.step()
        for other in others:
            other.begin()
            other.finish()
        if dies and first.stands_before == COMMIT:
            first.abandon()
        self.rounds += 1
        return self._finished([first, *others])

    def _prepare(self) -> None:
        """Leave shelves empty but for a unit now and then; somebody has a basket, and now and then somebody waits."""
        market = self.market
        if self.orders and self._short():
            self._put(self._short() + 1)
            market.work()
        self.orders.clear()
        while len(self.baskets) < 2:
            self._put(1)
            self.baskets.append(market.basket((ITEM, 1)))
        for node, lot, free_units in self._free():
            self._count(market.books, node, lot, -free_units)
        match self.random.randrange(6):
            case 0:
                self._put(1)
            case 1 | 2:
                self._order()
                market.work()

    def _order(self) -> None:
        self.orders.append(self.market.order(f"M-{next(self.numbers)}", (ITEM, self.random.randint(1, 2))))

    def _put(self, units: int) -> None:
        self._count(self.market.books, NODES[0], "", units)

    def _finished(self, operations: list[Operation]) -> list[str]:
        """Let everything run to its end, and work off what waits; what is wrong."""
        deadline = monotonic() + PATIENCE_S
        while any(not operation.is_over for operation in operations):
            assert monotonic() < deadline, "an operation is stuck"
            for operation in operations:
                if not operation.is_over:
                    operation.finish()
        wrong = [repr(operation.error) for operation in operations if operation.error is not None]
        self.market.work()
        if self.rounds % ROUNDS_BETWEEN_CHECKS == 0:
            wrong += [f"law {finding.law}: {finding.detail}" for finding in self.market.findings()]
        short, free_units = self._short(), sum(units for *_, units in self._free())
        if short and free_units:
            wrong.append(f"{short} units are waited for while {free_units} are free")
        return wrong

    def _short(self) -> int:
        with self.market.books.transaction() as transaction:
            records = transaction.orders(self.orders)
        return sum(record.lines[0].backordered for record in records.values())

    def _free(self) -> list[tuple[str, str, int]]:
        """Nodes and lots with something free, and how much."""
        with self.market.books.transaction() as transaction:
            facts = transaction.stock(CELLS, [ITEM], self.market.now.date()).by_item.get(ITEM, ())
        return [(fact.place.node, fact.place.lot, fact.available) for fact in facts if fact.available]

    def _made(self, kind: str) -> Callable[[Books], object]:
        """Somebody who seeks stock, or who gives some."""
        market, node = self.market, self.random.choice(NODES)
        at = market.later(seconds=1)
        match kind:
            case "seek":
                self._order()
                return lambda books: source_batch(books, market.desk, 0, market.now, 3)
            case "basket":
                return self._reserve
            case "free":
                basket = self.baskets.pop(self.random.randrange(len(self.baskets)))
                return lambda books: free(books, market.desk, basket, at)
            case "more":
                units = self.random.randint(1, 2)
                return lambda books: self._count(books, node, "", units)
            case "less":
                return lambda books: self._count(books, node, "", -1)
            case _:
                lot = f"L{next(self.numbers)}"
                return lambda books: self._count(books, node, lot, 1)

    def _reserve(self, books: Books) -> None:
        market = self.market
        found = reserve(books, market.desk, market.counter, basket_of((ITEM, 1), expires_in_seconds=600), market.now)
        if isinstance(found, Reserved):
            self.baskets.append(found.reservation)

    def _count(self, books: Books, node: str, lot: str, change: int) -> None:
        """A node counts so much more, or less, than is known."""
        market = self.market
        there = market.at(ITEM, node, lot)
        units = max(0, there.get("available", 0) + there.get("reserved", 0) + change)
        at = market.later(seconds=1)
        said = StockCount(item=ITEM, node=node, pool="P", lot=lot, quantity=str(units), as_of=at)
        book_counts(books, market.clerk, [said], at)
