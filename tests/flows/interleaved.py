"""A machine that interleaves: rules START operations and STEP a drawn one, from one access to the books to the next.

Every operation is a thread on a connection of its own. It stands still before each call of its transaction and before
the commit, until the machine lets it go on. One that waits for a lock of another stays under way meanwhile. A machine
that runs operations one after another finds no race; this one finds those that are planted, seed by seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Condition, Thread
from uuid import UUID

from poolwise.core.values import Conflict
from poolwise.flows.ports import Books, Transaction
from poolwise.flows.reserve import Reserved, free
from poolwise.flows.source import source_batch
from tests.flows.market import NODES, Market

WAIT_S = 0.01
LONGEST_BURST = 8
ROUNDS_BETWEEN_CHECKS = 10
PATIENCE_S = 30
ITEM = "BOLT"


class Operation(Thread):
    """Some work on the books that can be stepped."""

    def __init__(self, books: Books, work: Callable[[Books], object]) -> None:
        super().__init__(daemon=True)
        self._books, self._work = books, work
        self._moved = Condition()
        self._steps = 0
        self._standing = False
        self._free = False
        self.over = False
        self.error: BaseException | None = None

    def run(self) -> None:
        """Work until the end; a lost race is no error."""
        try:
            with suppress(Conflict):
                self._work(GatedBooks(self._books, self.gate))
        except BaseException as error:  # noqa: BLE001
            self.error = error
        finally:
            with self._moved:
                self.over = True
                self._moved.notify_all()

    def gate(self) -> None:
        """Stand still until the machine lets go."""
        with self._moved:
            self._standing = True
            self._moved.notify_all()
            while not self._steps and not self._free:
                self._moved.wait()
            self._steps = max(0, self._steps - 1)
            self._standing = False

    def step(self) -> None:
        """Go on to the next gate, or to the end, or until a lock of another is in the way."""
        with self._moved:
            if self._standing:
                self._steps += 1
                self._standing = False
                self._moved.notify_all()
            self._moved.wait_for(lambda: self._standing or self.over, WAIT_S)

    def let_go(self) -> None:
        """Go on without stopping."""
        with self._moved:
            self._free = True
            self._moved.notify_all()


class GatedBooks:
    """Books whose transactions stand still at a gate before every access, and before they commit."""

    def __init__(self, books: Books, gate: Callable[[], None]) -> None:
        self._books, self._gate = books, gate

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See ports."""
        with self._books.transaction() as transaction:
            yield Gated(transaction, self._gate)  # type: ignore[misc]  # it answers every call of a transaction
            self._gate()


class Gated:
    """A transaction that stops at the gate before every call."""

    def __init__(self, transaction: Transaction, gate: Callable[[], None]) -> None:
        self._transaction, self._gate = transaction, gate

    def __getattr__(self, name: str) -> object:
        self._gate()
        return getattr(self._transaction, name)


class Machine:
    """A market in which operations overlap as a seed says."""

    def __init__(self, market: Market, seed: int) -> None:
        self.market = market
        self.random = random.Random(seed)
        self.number = seed * 100_000
        self.rounds = 0
        self.orders: list[UUID] = []
        self.baskets: list[UUID] = []
        self.running: list[Operation] = []

    def round(self, operations: int = 4) -> list[str]:
        """Start some operations, step drawn ones a few times until all are over; what is wrong afterwards."""
        to_start = operations
        for _ in range(1_000):
            if to_start and (len(self.running) < 2 or self.random.random() < 0.2):
                to_start -= 1
                self.start(self.drawn())
            alive = [operation for operation in self.running if not operation.over]
            if not alive and not to_start:
                break
            if alive:
                one = self.random.choice(alive)
                for _ in range(self.random.randint(1, LONGEST_BURST)):
                    one.step()
        return self.finish()

    def finish(self) -> list[str]:
        """Let everything run to its end, and work off what waits; what is wrong."""
        for operation in self.running:
            operation.let_go()
        for operation in self.running:
            operation.join(PATIENCE_S)
            assert operation.over, "an operation is stuck"
        wrong = [repr(operation.error) for operation in self.running if operation.error is not None]
        self.running.clear()
        self.market.work()
        self.rounds += 1
        if self.rounds % ROUNDS_BETWEEN_CHECKS == 0:
            wrong += [f"law {finding.law}: {finding.detail}" for finding in self.market.findings()]
        free_units = sum(self.market.at(ITEM, node).get("available", 0) for node in NODES)
        # Who is served no longer counts.
        waiting = {order: self.market.record(order).lines[0].backordered for order in self.orders[-20:]}
        short = sum(waiting.values())
        if short and free_units:
            wrong.append(f"{short} units are waited for while {free_units} are free")
        return wrong

    def start(self, work: Callable[[Books], object]) -> None:
        """Start an operation; it stands at its first gate."""
        operation = Operation(self.market.books, work)
        self.running.append(operation)
        operation.start()
        operation.step()

    def drawn(self) -> Callable[[Books], object]:
        """An operation by chance: often a worker, for whom there is an order."""
        market = self.market
        draw = self.random.random()
        if draw < 0.4:
            self.number += 1
            self.orders.append(market.order(f"M-{self.number}", (ITEM, self.random.randint(1, 2))))
            at = market.later(seconds=1)
            return lambda books: source_batch(books, market.desk, 0, at, 3)
        if draw < 0.5:
            return self._reserve
        if draw < 0.7 and self.baskets:
            basket = self.baskets.pop(self.random.randrange(len(self.baskets)))
            at = market.later(seconds=1)
            return lambda books: free(books, market.desk, basket, at)
        node, units = self.random.choice(NODES), self.random.choice((0, 0, 0, 1, 2))
        return lambda books: self._count(books, node, units)

    def _reserve(self, books: Books) -> None:
        market = Market(books, self.market.edition, self.market.policy, self.market.connections, self.market.now)
        found = market.set_aside((ITEM, 1))
        if isinstance(found, Reserved):
            self.baskets.append(found.reservation)

    def _count(self, books: Books, node: str, units: int) -> None:
        market = Market(books, self.market.edition, self.market.policy, self.market.connections, self.market.now)
        market.count(ITEM, node, units)
