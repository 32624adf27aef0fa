"""Memory equals PostgreSQL: the same drawn recordings have the same outcome in both, and leave the same books."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta

import pytest

from poolwise.core.ledger import ACCOUNTS, Account, Cause, Movement, Position
from poolwise.core.values import Conflict
from poolwise.flows.ports import (
    Books,
    CapacityChange,
    CountMark,
    Effects,
    Ending,
    Queue,
    ReceiptChange,
    ReservationEnd,
    Timer,
    TimerKind,
)
from tests.conftest import Database
from tests.store.contract import DAY, Sourcing, accepted, all_of, at, expected, into, key, new_id, order, stocked, todo
from tests.store.kept import KeptInMemory, KeptInPostgres

ROUNDS = 120
KEYS = [key(item, node) for item in ("BOLT", "NUT", "NAIL") for node in ("NYC", "BOS")]
IDS = [each.id() for each in KEYS]


@pytest.fixture
def both(database: Database) -> Iterator[tuple[Books, Books]]:
    with KeptInPostgres(database) as postgres:
        yield KeptInMemory().books, postgres.books


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_recordings_leave_the_same_books(both: tuple[Books, Books], seed: int) -> None:
    dice = random.Random(seed)
    orders = [order(("BOLT", 3), ("NUT", 2)) for _ in range(10)]
    receipts = [expected(both[0], KEYS[place], 6) for place in (2, 3)]
    with both[1].transaction() as transaction:
        for receipt in receipts:
            incoming = into(receipt.position, 6, Account.EXPECTED)
            transaction.record(Effects(at=at(0), positions=first_positions(), movements=[incoming], receipts=[receipt]))
    with both[0].transaction() as transaction:
        transaction.record(Effects(at=at(0), positions=first_positions()))
    for books in both:
        stocked(books, *[(each, 9) for each in KEYS])
        accepted(books, *orders)
    outcomes = set()
    for step in range(ROUNDS):
        effects = drawn(dice, step, orders, [receipt.id for receipt in receipts])
        results = [outcome(books, effects) for books in both]
        assert results[0] == results[1], f"seed {seed}, step {step}: {effects}"
        outcomes.add(results[0])
        assert seen(both[0], orders) == seen(both[1], orders), f"seed {seed}, step {step}: {effects}"
    assert outcomes == {"recorded", "conflict"}, "both kinds of outcome were drawn"
    assert queued(both[0]) == queued(both[1])


def first_positions() -> list[Position]:
    """The positions of the world, empty."""
    return [Position(each.id(), 0, each) for each in KEYS]


def drawn(dice: random.Random, step: int, orders, receipts) -> Effects:
    """A recording of one to three parts, any of which may be impossible."""
    parts = {}
    for kind in dice.sample(["movements", "receipts", "ends", "capacity", "sourcing", "queues"], dice.randint(1, 3)):
        match kind:
            case "movements":
                parts["movements"] = [movement(dice) for _ in range(dice.randint(1, 4))]
            case "receipts":
                amounts = {part: dice.randint(-2, 3) for part in ("pledged", "arrived", "quantity")}
                parts["receipt_changes"] = [ReceiptChange(0, dice.choice(receipts), **amounts)]
            case "ends":
                owner, ending = dice.choice(orders).id, dice.choice(list(Ending))
                parts["reservation_ends"] = [ReservationEnd(0, owner, dice.randint(1, 2), ending, dice.randint(1, 2))]
            case "capacity":
                day = DAY + timedelta(days=dice.randint(0, 2))
                limit = dice.choice([None, 3, 6])
                parts["capacity"] = [CapacityChange(0, "BOS", day, 0, dice.randint(-3, 4), limit)]
            case "sourcing":
                sourcing = Sourcing(dice.choice(orders), [dice.choice(IDS), dice.choice(IDS)], minute=step)
                made = sourcing.effects()
                parts |= {"orders_changed": made.orders_changed, "decisions": made.decisions}
                parts |= {"reservations": made.reservations, "shipments": made.shipments}
                parts["movements"] = [*parts.get("movements", []), *made.movements]
            case "queues":
                waiting = todo(dice.choice(orders), dice.choice(list(Queue)), rank=dice.randint(1, 3), minute=step % 7)
                parts["todo"] = [waiting]
                parts["timers"] = [Timer(0, TimerKind.EXPIRE, dice.choice(orders).id, at(step))]
                parts["counts"] = [CountMark(0, dice.choice(IDS), at(step), None)]
    # The clock of whoever records may lag behind.
    return Effects(at=at(step - dice.randint(0, 3)), **parts)


def movement(dice: random.Random) -> Movement:
    """A movement of a few units between two accounts, or to another position of the item."""
    place = dice.randrange(len(IDS))
    if dice.random() < 0.2:
        source, target = dice.choices(ACCOUNTS[3:], k=2)
        there = IDS[place ^ 1]
        return Movement(IDS[place], source, target, dice.randint(1, 4), Cause.TRANSFER, new_id(), to_position=there)
    source, target = dice.sample(ACCOUNTS, 2)
    return Movement(IDS[place], source, target, dice.randint(1, 4), Cause.STOCK, new_id())


def outcome(books: Books, effects: Effects) -> str:
    """Record, between claims that take something out of a queue."""
    try:
        with books.transaction() as transaction:
            transaction.claim(0, Queue.ONCE, effects.at, 1)
            transaction.due(0, effects.at - timedelta(minutes=5), 1)
            transaction.record(effects)
            transaction.waiting(all_of("NUT"), 1)
    except Conflict:
        return "conflict"
    return "recorded"


def seen(books: Books, orders) -> list[object]:
    """What the reads of the contract answer."""
    with books.transaction() as transaction:
        return [
            transaction.positions(IDS),
            transaction.positions_as_of(dict.fromkeys(IDS, at(40))),
            transaction.stock([0], ["BOLT", "NUT", "NAIL"], DAY),
            transaction.orders([each.id for each in orders]),
            [transaction.reservations(each.id) for each in orders],
            [transaction.shipments(each.id) for each in orders],
            [transaction.reservations_at(id_) for id_ in IDS],
            [transaction.decision(each.id, 1) for each in orders],
            transaction.count_marks(IDS),
        ]


def queued(books: Books) -> list[object]:
    """All that waits, in the order in which it is claimed."""
    with books.transaction() as transaction:
        demands = [transaction.claim(0, queue, at(10_000), 99) for queue in Queue]
        return [demands, transaction.due(0, at(10_000), 99)]
