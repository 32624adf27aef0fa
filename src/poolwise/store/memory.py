"""The books in memory: the what-if engine. Scenarios and the simulator run the same flows on them, with any clock.

They keep the laws by core's own functions, raise Conflict where PostgreSQL does, and take a failed transaction back
whole (law 4). Transactions run one at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from heapq import heappop, heappush
from threading import Lock, get_ident
from uuid import UUID

from poolwise.core.ledger import ACCOUNTS, EMPTY, Account, Position, Receipt, Reservation
from poolwise.core.sourcing.problem import NO_CLASSES, CapacityFact, ItemStock, PickFact, ReceiptFact, positions_of
from poolwise.core.values import Conflict, replace
from poolwise.flows.ports import (
    NEVER_COUNTED,
    UNDER,
    Age,
    Answer,
    CountMark,
    Decision,
    Effects,
    OrderRecord,
    Queue,
    ShipmentRecord,
    SlotKey,
    Stock,
    Timer,
    Todo,
    line_of_day,
)
from poolwise.store.memory_recording import MemoryRecording
from poolwise.store.shelves import JournalRow, Shelves, TodoKey, Undo
from poolwise.store.steps import Access, Failpoint, Step, never


class MemoryBooks:
    """Books in this process. `shelves` is what they hold; `failpoint` lets a test crash between two steps."""

    def __init__(self, failpoint: Failpoint = never) -> None:
        self.shelves = Shelves()
        self._failpoint = failpoint
        self._one_at_a_time = Lock()
        self._holder = 0

    @contextmanager
    def transaction(self) -> Iterator[MemoryTransaction]:
        """One transaction: kept at the end of the block, taken back when it raises."""
        assert self._holder != get_ident(), "a transaction inside a transaction"
        with self._one_at_a_time:
            self._holder = get_ident()
            undo = Undo()
            try:
                current = MemoryTransaction(self.shelves, undo, self._failpoint)
                yield current
                current.assert_whole()
                self._failpoint(Step.BEFORE_COMMIT)
            except BaseException:
                undo.everything()
                self.shelves.stock_facts.clear()
                self.shelves.capacity_facts.clear()
                raise
            finally:
                self._holder = 0
        self._failpoint(Step.AFTER_COMMIT)


class MemoryTransaction:
    """flows.ports.Transaction on dictionaries. What the methods answer is written there."""

    def __init__(self, shelves: Shelves, undo: Undo, failpoint: Failpoint) -> None:
        self._shelves = shelves
        self._undo = undo
        self._failpoint = failpoint
        self._refused = False

    def assert_whole(self) -> None:
        """Raise Conflict when a recording was refused: a caller who swallows that must not keep the rest (law 4)."""
        if self._refused:
            raise Conflict("a recording was refused, so nothing of its transaction is kept")

    def claim(self, cell: int, queue: Queue, now: datetime, limit: int, rules: str = "") -> tuple[Todo, ...]:
        """See ports."""
        assert limit > 0, "a claim takes something"
        if queue is Queue.STOCK:
            return self._look_again(cell, now, limit, rules)
        heap = self._shelves.queues[cell, queue]
        taken: list[Todo] = []
        left: list[tuple[int, datetime, UUID]] = []
        while heap and len(taken) < limit:
            entry = heappop(heap)
            todo = self._shelves.todo.get((queue, entry[2]))
            if todo is not None and (todo.rank, todo.since) != entry[:2]:
                todo = None
            if todo is not None and (todo.since > now or (todo.alone and taken)):
                left.append(entry)
                continue
            self._undo.later(heappush, heap, entry)
            if todo is None:
                continue
            self._take(todo)
            taken.append(todo)
            if todo.alone:
                break
        for entry in left:
            heappush(heap, entry)
        return tuple(taken)

    def _look_again(self, cell: int, now: datetime, limit: int, rules: str) -> tuple[Todo, ...]:
        """Those that wait for stock and must look again."""
        under, today = UNDER + rules, line_of_day(now)
        due = [line for line in self._shelves.waiting if UNDER <= line <= today and line != under]
        found = {key: self._shelves.todo[key] for line in due for key in self._shelves.waiting[line]}
        in_line = sorted((todo for todo in found.values() if todo.cell == cell), key=lambda todo: todo.age)
        alike = [todo for todo in in_line if todo.alone == in_line[0].alone]
        taken = tuple(alike[: 1 if alike and alike[0].alone else limit])
        for todo in taken:
            self._take(todo)
        return taken

    def _take(self, todo: Todo) -> None:
        """Out of the queue."""
        key = key_of(todo)
        self._undo.drop(self._shelves.todo, key)
        if todo.queue is Queue.STOCK:
            for line in todo.lines:
                self._undo.drop(self._shelves.waiting[line], key)

    def waiting(self, after: Mapping[str, Age], limit: int) -> tuple[Todo, ...]:
        """See ports."""
        assert limit > 0, "a claim takes something"
        found: dict[TodoKey, Todo] = {}
        for item, last in after.items():
            by_cell: dict[int, list[Todo]] = {}
            for todo in (self._shelves.todo[key] for key in self._shelves.waiting.get(item, ())):
                if todo.age > last:
                    by_cell.setdefault(todo.cell, []).append(todo)
            for line in by_cell.values():
                found.update((key_of(todo), todo) for todo in sorted(line, key=lambda todo: todo.age)[:limit])
        taken = sorted(found.values(), key=lambda todo: todo.age)
        for todo in taken:
            self._take(todo)
        if taken:
            self._failpoint(Access.WOKEN)
        return tuple(taken)

    def due(self, cell: int, now: datetime, limit: int) -> tuple[Timer, ...]:
        """See ports."""
        assert limit > 0, "a claim takes something"
        heap = self._shelves.timer_keys[cell]
        taken: list[Timer] = []
        while heap and heap[0][0] <= now and len(taken) < limit:
            entry = heappop(heap)
            self._undo.later(heappush, heap, entry)
            due_at, subject, kind = entry
            timer = self._shelves.timers.get((cell, subject, kind))
            if timer is not None and timer.due_at == due_at:
                self._undo.drop(self._shelves.timers, (cell, subject, kind))
                taken.append(timer)
        return tuple(taken)

    def stock(
        self, cells: Sequence[int], items: Iterable[str], since: date, classes: Collection[str] = NO_CLASSES
    ) -> Stock:
        """See ports."""
        served = tuple(sorted(cells))
        wanted = sorted(set(items))
        stock = {item: self._stock_of(item, served) for item in wanted if item in self._shelves.positions_of}
        return Stock(
            {item: own for item, own in stock.items() if own is not None},
            self._open_receipts(wanted, frozenset(served)),
            self._capacity(frozenset(served), since),
            self._misses(classes, served),
        )

    def _misses(self, classes: Collection[str], cells: tuple[int, ...]) -> dict[str, tuple[PickFact, ...]]:
        found = {}
        for item_class in sorted(classes):
            records = [each for cell in cells for each in self._shelves.picks.get((cell, item_class), {}).items()]
            if records:
                found[item_class] = tuple(PickFact(node, *counts) for node, counts in sorted(records))
        return found

    def _stock_of(self, item: str, cells: tuple[int, ...]) -> ItemStock | None:
        cached = self._shelves.stock_facts.setdefault(item, {})
        if cells not in cached:
            positions = [self._shelves.positions[id_] for id_ in self._shelves.positions_of[item]]
            served = [position for position in positions if position.cell in cells]
            places = [self._shelves.places[position.id] for position in served]
            units = [position.balance(Account.AVAILABLE) for position in served]
            cached[cells] = ItemStock(positions_of(places), units) if served else None
        return cached[cells]

    def _open_receipts(self, items: Iterable[str], cells: frozenset[int]) -> dict[str, tuple[ReceiptFact, ...]]:
        found = {}
        for item in items:
            receipts = [self._shelves.receipts[id_] for id_ in self._shelves.receipts_of.get(item, ())]
            is_open = [receipt for receipt in receipts if receipt.open and receipt.cell in cells]
            if is_open:
                found[item] = tuple(
                    ReceiptFact(r.id, self._shelves.places[r.position], r.due_on, r.open)
                    for r in sorted(is_open, key=lambda r: (r.due_on, r.id))
                )
        return found

    def _capacity(self, cells: frozenset[int], since: date) -> dict[str, tuple[CapacityFact, ...]]:
        found = {}
        for key in sorted(self._shelves.capacity, key=lambda key: key[1]):
            if key[0] not in cells:
                continue
            cached = self._shelves.capacity_facts.get(key)
            if cached is None or cached[0] != since:
                slots = sorted(self._shelves.capacity[key].items())
                facts = tuple(CapacityFact(key[1], *slot, taken) for slot, (taken, _) in slots if slot[0] >= since)
                cached = self._shelves.capacity_facts[key] = (since, facts)
            if cached[1]:
                found[key[1]] = cached[1]
        return found

    def positions(self, ids: Iterable[int], lock: bool = False) -> dict[int, Position]:  # noqa: ARG002
        """See ports."""
        shelf = self._shelves.positions
        return {id_: shelf[id_] for id_ in sorted(set(ids)) if id_ in shelf}

    def positions_of(self, items: Iterable[str], close: bool = False) -> dict[int, Position]:
        """See ports."""
        if close:
            self._failpoint(Access.CLOSED)
        return self.positions([id_ for item in items for id_ in self._shelves.positions_of.get(item, ())])

    def positions_as_of(self, asked: Mapping[int, datetime]) -> dict[int, Position]:
        """See ports."""
        found = self.positions(asked)
        return {id_: taken_back(found[id_], self._shelves.journal[id_], asked[id_]) for id_ in found}

    def receipts(self, ids: Iterable[UUID], lock: bool = False) -> dict[UUID, Receipt]:  # noqa: ARG002
        """See ports."""
        shelf = self._shelves.receipts
        return {id_: shelf[id_] for id_ in sorted(set(ids)) if id_ in shelf}

    def receipts_named(self, references: Iterable[tuple[int, str]]) -> dict[tuple[int, str], Receipt]:
        """See ports."""
        ids = self._shelves.receipt_ids
        return {name: self._shelves.receipts[ids[name]] for name in references if name in ids}

    def capacity(self, slots: Iterable[SlotKey]) -> dict[SlotKey, int]:
        """See ports."""
        kept = self._shelves.capacity
        asked = ((key, kept.get(key[:2], {}).get(key[2:])) for key in sorted(set(slots)))
        return {key: found[0] for key, found in asked if found is not None}

    def orders(self, ids: Iterable[UUID], lock: bool = False) -> dict[UUID, OrderRecord]:  # noqa: ARG002
        """See ports."""
        shelf = self._shelves.orders
        return {id_: shelf[id_] for id_ in sorted(set(ids)) if id_ in shelf}

    def order_numbered(self, numbers: Iterable[str]) -> dict[str, UUID]:
        """See ports."""
        ids = self._shelves.order_ids
        return {number: ids[number] for number in numbers if number in ids}

    def reservations(self, owner: UUID) -> tuple[Reservation, ...]:
        """See ports."""
        numbers = self._shelves.reservations_of.get(owner, ())
        return tuple(self._shelves.reservations[owner, no] for no in numbers)

    def shipments(self, owner: UUID) -> tuple[ShipmentRecord, ...]:
        """See ports."""
        return tuple(self._shelves.shipments[owner, no] for no in self._shelves.shipments_of.get(owner, ()))

    def reservations_at(self, position: int) -> tuple[Reservation, ...]:
        """See ports."""
        found = [self._shelves.reservations[key] for key in self._shelves.open_at.get(position, ())]
        return tuple(sorted(found, key=lambda r: (r.made_at, r.owner, r.no), reverse=True))

    def count_marks(self, positions: Iterable[int]) -> dict[int, CountMark]:
        """See ports."""
        found = {}
        for position in positions:
            mark, task = self._shelves.marks.get(position), self._shelves.count_tasks.get(position)
            if task is not None:
                mark = mark or CountMark(self._shelves.positions[position].cell, position, NEVER_COUNTED, None)
                mark = replace(mark, doubt=task[1], doubted_at=task[0])
            if mark is not None:
                found[position] = mark
        return found

    def seen(self, messages: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """See ports."""
        return frozenset(message for message in messages if message in self._shelves.inbox)

    def answer(self, sender: str, key: str) -> Answer | None:
        """See ports."""
        return self._shelves.answers.get((sender, key))

    def decision(self, owner: UUID, attempt: int) -> Decision | None:
        """See ports."""
        return self._shelves.decisions.get((owner, attempt))

    def record(self, effects: Effects) -> None:
        """See ports."""
        try:
            MemoryRecording(self._shelves, self._undo, effects).write(self._failpoint)
        except BaseException:
            self._refused = True
            raise


def key_of(todo: Todo) -> TodoKey:
    """A demand's key."""
    return todo.queue, todo.order.id


def taken_back(position: Position, journal: Sequence[JournalRow], at: datetime) -> Position:
    """The position as it was after every movement up to an instant."""
    balances = dict(zip(ACCOUNTS, position.balances, strict=True))
    version = position.version
    for row in reversed(journal):
        if row.at <= at:
            break
        if row.movement.occurred_at is not None and row.movement.occurred_at <= at:
            continue
        balances[row.movement.source] += row.movement.quantity
        balances[row.movement.target] -= row.movement.quantity
        version -= 1
    assert version or tuple(balances.values()) == EMPTY, "a position begins empty"
    return replace(position, balances=tuple(balances.values()), version=version)
