"""Every law that is visible in data: a bug is planted in both kinds of books, and its check finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from datetime import timedelta

import pytest
from msgspec import Struct
from msgspec.structs import force_setattr

from poolwise.core.ledger import Account, Cause, Movement
from poolwise.core.orders import Order, OrderState
from poolwise.core.values import replace
from poolwise.flows.ports import Audit, CapacityChange, Effects, Event, Incident, Queue
from poolwise.store.check import StoredPlan, findings
from poolwise.store.evidence import BEGINNING, OVERLAP, check_database
from poolwise.store.memory_evidence import MemoryEvidence
from poolwise.store.shelves import JournalRow, Shelves
from tests.conftest import Database
from tests.store.contract import DAY, accepted, all_of, at, expected, into, key, order, position, sourced, stocked
from tests.store.kept import CELLS, EDITIONS, POLICIES, KeptInMemory, KeptInPostgres

Kept = KeptInMemory | KeptInPostgres
BOLT, NUT = key().id(), key("NUT").id()


@dataclass(frozen=True, slots=True)
class World:
    """Books with an order that is reserved, pledged and backordered, and one that waits."""

    kept: Kept
    served: Order
    waits: Order


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Books of each kind in which every law has something to hold for."""
    if request.param == "memory":
        yield busy(KeptInMemory())
        return
    database: Database = request.getfixturevalue("database")
    with KeptInPostgres(database) as kept:
        yield busy(kept)


def busy(kept: Kept) -> World:
    """The world, which is in order."""
    books = kept.books
    stocked(books, (key(), 9), (key(node="BOS"), 4))
    receipt = expected(books, key("NUT"), 5)
    served = order(("BOLT", 3), ("NUT", 2), ("NAIL", 1))
    accepted(books, served)
    sourced(books, served, BOLT, receipt.id, None, positions={receipt.id: NUT}, limit=5)
    waits = order(("BOLT", 1))
    accepted(books, waits, minute=2)
    with books.transaction() as transaction:
        event = Event("order.sourced", str(served.id), {"order": served.number, "lines": [{"no": 1}]})
        transaction.record(Effects(at=at(2), events=[event], audit=[Audit("worker", "source", str(served.id))]))
    assert kept.check() == []
    return World(kept, served, waits)


def found(kept: Kept) -> set[tuple[int, str]]:
    """Law and kind of what the check finds."""
    return {(finding.law, finding.kind) for finding in kept.check()}


Poke = Callable[[Shelves, World], object]


@dataclass(frozen=True, slots=True)
class Bug:
    """A broken law: the row kind that shows it, how it comes into memory, and into PostgreSQL."""

    law: int
    kind: str
    poke: Poke
    constraint: str
    statement: str


def poke_position(id_: int, **changes: object) -> Poke:
    return lambda shelves, _: shelves.positions.update({id_: replace(shelves.positions[id_], **changes)})


def unchecked(thing, **changes: object):
    """A changed copy of a value whose constructor would refuse it."""
    found = copy(thing)
    put = force_setattr if isinstance(thing, Struct) else object.__setattr__
    for name, value in changes.items():
        put(found, name, value)
    return found


def poke_reservation(**changes: object) -> Poke:
    def poke(shelves: Shelves, world: World) -> None:
        old = shelves.reservations[world.served.id, 1]
        shelves.reservations[world.served.id, 1] = unchecked(old, **changes)

    return poke


def poke_line(**changes: object) -> Poke:
    def poke(shelves: Shelves, world: World) -> None:
        record = shelves.orders[world.served.id]
        lines = (unchecked(record.lines[0], **changes), *record.lines[1:])
        shelves.orders[world.served.id] = replace(record, lines=lines)

    return poke


def poke_order(**changes: object) -> Poke:
    def poke(shelves: Shelves, world: World) -> None:
        shelves.orders[world.served.id] = replace(shelves.orders[world.served.id], **changes)

    return poke


def poke_decision(**changes: object) -> Poke:
    def poke(shelves: Shelves, world: World) -> None:
        old = shelves.decisions[world.served.id, 1]
        shelves.decisions[world.served.id, 1] = replace(old, **changes)

    return poke


def poke_receipt(**changes: object) -> Poke:
    def poke(shelves: Shelves, _: World) -> None:
        ((id_, old),) = shelves.receipts.items()
        shelves.receipts[id_] = unchecked(old, **changes)

    return poke


def forget_movement(shelves: Shelves, _: World) -> None:
    shelves.journal[BOLT].pop()


def repeat_movement(shelves: Shelves, _: World) -> None:
    shelves.journal[BOLT].append(shelves.journal[BOLT][-1])


def stray_movement(shelves: Shelves, _: World) -> None:
    movement = Movement(17, Account.OUTSIDE, Account.AVAILABLE, 1, Cause.STOCK, order(("A", 1)).id)
    shelves.journal[17].append(JournalRow(1, at(1), movement))


def sell_before_it_came(shelves: Shelves, _: World) -> None:
    came, reserved = shelves.journal[BOLT]
    shelves.journal[BOLT] = [replace(reserved, version=1), replace(came, version=2)]


def too_large_movement(shelves: Shelves, _: World) -> None:
    first = shelves.journal[BOLT][0]
    shelves.journal[BOLT][0] = replace(first, movement=replace(first.movement, quantity=0))


def forget_decision(shelves: Shelves, world: World) -> None:
    del shelves.decisions[world.served.id, 1]


def forget_order(shelves: Shelves, world: World) -> None:
    del shelves.orders[world.served.id]
    del shelves.decisions[world.served.id, 1]


def forget_queue(shelves: Shelves, _: World) -> None:
    shelves.todo.clear()


def poke_slot(taken: int, limit: int | None) -> Poke:
    return lambda shelves, _: shelves.capacity[0, "NYC"].update({(DAY, 0): (taken, limit)})


def tell_a_name(shelves: Shelves, _: World) -> None:
    shelves.outbox.append((at(3), Event("order", "1", {"ship_to": {"name": "Ada"}})))


def audit_a_phone(shelves: Shelves, _: World) -> None:
    shelves.audit.append((at(3), Audit("worker", "source", "1", {"numbers": [{"phone": "555"}]})))


SERVED = "(SELECT owner FROM reservation WHERE position = %(bolt)s)"
BUGS = {
    "an account below zero": Bug(
        1, "position", poke_position(BOLT, balances=(-9, 0, -1, 0, 7, 3, 0)), "position_pledged_check",
        "UPDATE position SET pledged = -1, available = 7 WHERE id = %(bolt)s",
    ),
    "balances that do not sum to zero": Bug(
        1, "position", poke_position(BOLT, balances=(-9, 0, 0, 0, 7, 3, 0)), "position_sums_to_zero",
        "UPDATE position SET available = 7 WHERE id = %(bolt)s",
    ),
    "units that leave before they came": Bug(
        1, "movement", sell_before_it_came, "",
        "UPDATE movement SET (source, target, quantity) = (4 * (2 - version), 6 - version, 15 - 6 * (3 - version))"
        " WHERE position = %(bolt)s",
    ),
    "stock that was set": Bug(
        3, "position", poke_position(BOLT, balances=(-10, 0, 0, 0, 7, 3, 0)), "",
        "UPDATE position SET outside = -10, available = 7 WHERE id = %(bolt)s",
    ),
    "a movement that is lost": Bug(
        3, "position", forget_movement, "", "DELETE FROM movement WHERE position = %(bolt)s AND version = 2",
    ),
    "a version twice, in two months": Bug(
        3, "movement", repeat_movement, "",
        "INSERT INTO movement (cell, position, version, month, at, source, target, quantity, cause, cause_id)"
        " SELECT cell, position, version, '2026-02-01', at, source, target, quantity, cause, cause_id"
        " FROM movement WHERE position = %(bolt)s AND version = 2",
    ),
    "a movement of no position": Bug(
        3, "movement", stray_movement, "", "UPDATE movement SET position = 17 WHERE position = %(nut)s AND version = 1",
    ),
    "a movement of nothing": Bug(
        11, "movement", too_large_movement, "movement_quantity_check",
        "UPDATE movement SET quantity = 0 WHERE position = %(bolt)s AND version = 1",
    ),
    "reserved units that nobody reserved": Bug(
        2, "position", poke_position(BOLT, balances=(-9, 0, 0, 0, 5, 4, 0)), "",
        "UPDATE position SET reserved = 4, available = 5 WHERE id = %(bolt)s",
    ),
    "a reservation of units that are not reserved": Bug(
        2, "position", poke_reservation(position=key(node="BOS").id()), "",
        "UPDATE reservation SET position = %(bos)s WHERE position = %(bolt)s",
    ),
    "a receipt pledged beyond what it holds": Bug(
        2, "receipt", poke_receipt(pledged=6), "receipt_open", "UPDATE receipt SET pledged = 6",
    ),
    "a pledge that nobody reserved": Bug(
        2, "receipt", poke_receipt(pledged=3), "", "UPDATE receipt SET pledged = 3",
    ),
    "a decision that is lost": Bug(4, "decision", forget_decision, "", "DELETE FROM decision"),
    "a reservation of nobody": Bug(
        4, "reservation", forget_order, "", f"DELETE FROM customer_order WHERE id = {SERVED}",
    ),
    "a unit that ends twice": Bug(
        6, "reservation", poke_reservation(consumed=2, freed=2), "reservation_ends_once",
        "UPDATE reservation SET consumed = 2, freed = 2 WHERE position = %(bolt)s",
    ),
    "demand that is in no queue": Bug(7, "order", forget_queue, "", "DELETE FROM todo"),
    "a broken reservation without an incident": Bug(
        9, "order", poke_reservation(broken=1), "", "UPDATE reservation SET broken = 1 WHERE position = %(bolt)s",
    ),
    "an edition that is not on record": Bug(
        10, "decision", poke_decision(edition="edition-2"), "", "UPDATE decision SET edition = 'edition-2'",
    ),
    "a policy version that is not on record": Bug(
        10, "decision", poke_decision(policy_version=2), "", "UPDATE decision SET policy_version = 2",
    ),
    "a line of which units are lost": Bug(
        13, "order_line", poke_line(reserved=2), "order_line_conserved",
        f"UPDATE order_line SET reserved = 2 WHERE no = 1 AND order_id = {SERVED}",
    ),
    "a line that asks for more than its document": Bug(
        11, "order_line", poke_line(ordered=4, reserved=4), "",
        f"UPDATE order_line SET ordered = 4, reserved = 4 WHERE no = 1 AND order_id = {SERVED}",
    ),
    "a line whose reservations are others": Bug(
        13, "order_line", poke_line(reserved=0, released=2, shipped=0, cancelled=1), "",
        f"UPDATE order_line SET reserved = 2, cancelled = 1 WHERE no = 1 AND order_id = {SERVED}",
    ),
    "a state that does not follow from the lines": Bug(
        13, "order", poke_order(state=OrderState.SOURCED), "",
        f"UPDATE customer_order SET state = 'sourced' WHERE id = {SERVED}",
    ),
    "capacity that nobody booked": Bug(
        14, "capacity", poke_slot(2, 5), "", "UPDATE capacity SET taken = 2",
    ),
    "capacity beyond its limit": Bug(
        14, "capacity", poke_slot(1, 0), "capacity_within_limit", "UPDATE capacity SET limit_quantity = 0",
    ),
    "a person's name in an event": Bug(17, "event", tell_a_name, "", ""),
    "a person's phone in the audit": Bug(
        17, "audit", audit_a_phone, "", """UPDATE audit SET detail = '{"numbers": [{"phone": "555"}]}'""",
    ),
    "demand left short by nobody": Bug(19, "order", forget_decision, "", "DELETE FROM decision"),
}  # fmt: skip


@pytest.mark.parametrize("name", BUGS)
def test_the_check_finds(world: World, name: str) -> None:
    bug, kept = BUGS[name], world.kept
    if isinstance(kept, KeptInMemory):
        bug.poke(kept.shelves, world)
    else:
        plant(kept, bug)
    assert (bug.law, bug.kind) in found(kept)


def plant(kept: KeptInPostgres, bug: Bug) -> None:
    """Break the law in the database, as only its owner can: a constraint may have to go first."""
    if not bug.statement:
        with kept.books.transaction() as transaction:
            transaction.record(Effects(at=at(3), events=[Event("order", "1", {"ship_to": {"name": "Ada"}})]))
        return
    if bug.constraint:
        table = bug.constraint.partition("_")[0] if not bug.constraint.startswith("order_line") else "order_line"
        kept.plant(f"ALTER TABLE {table} DROP CONSTRAINT {bug.constraint}")
    ids = {"bolt": BOLT, "nut": NUT, "bos": key(node="BOS").id()}
    assert kept.plant(bug.statement, **ids) > 0, "the bug was planted"


def test_an_incident_answers_for_a_broken_reservation(world: World) -> None:
    kept = world.kept
    if isinstance(kept, KeptInMemory):
        poke_reservation(broken=1)(kept.shelves, world)
    else:
        kept.plant("UPDATE reservation SET broken = 1 WHERE position = %(bolt)s", bolt=BOLT)
    with kept.books.transaction() as transaction:
        incident = Incident(order(("A", 1)).id, 0, "short", "count", world.served.id)
        transaction.record(Effects(at=at(3), incidents=[incident]))
    assert (9, "order") not in found(kept)


def test_plans_are_verified_once_the_rest_is_in_order(world: World) -> None:
    kept = world.kept
    seen: list[StoredPlan] = []

    def verify(plan: StoredPlan) -> list[str]:
        seen.append(plan)
        return ["ships on a holiday"]

    if isinstance(kept, KeptInMemory):
        (finding,) = findings(MemoryEvidence(kept.shelves, EDITIONS, POLICIES), verify)
    else:
        (finding,) = check_database(kept.pool, CELLS, at(60), full=True, verify=verify).findings
    assert (finding.law, finding.detail) == (15, "ships on a holiday")
    (plan,) = seen
    assert (plan.record.order, plan.decision.attempt) == (world.served, 1)
    assert [plan.places[r.position].item for r in plan.reservations] == ["BOLT", "NUT"]


@pytest.fixture
def proven(database: Database) -> Iterator[KeptInPostgres]:
    """A database that was checked and found in order."""
    with KeptInPostgres(database) as kept:
        busy(kept)
        assert kept.check(full=True) == []
        yield kept


class TestIncremental:
    """A check looks at what is not proven yet."""

    def test_the_first_check_looks_at_everything(self, database: Database) -> None:
        with KeptInPostgres(database) as kept:
            stocked(kept.books, (key(), 9))
            assert kept.report(full=False).since == BEGINNING

    def test_what_is_proven_is_not_replayed(self, proven: KeptInPostgres) -> None:
        first = proven.report(full=False)
        assert (first.since, first.positions, first.movements) == (at(60) - OVERLAP, 0, 0)
        with proven.books.transaction() as transaction:
            transaction.record(Effects(at=at(61), movements=[into(BOLT, 1)]))
        second = proven.report(full=False)
        assert (second.positions, second.movements, second.findings) == (1, 1, ())

    def test_orders_that_did_not_change_are_not_looked_at(self, proven: KeptInPostgres) -> None:
        with proven.books.transaction() as transaction:
            transaction.record(Effects(at=at(500), capacity=[CapacityChange(0, "BOS", DAY, 0, 0, 1)]))
        check_database(proven.pool, CELLS, at(500))
        assert check_database(proven.pool, CELLS, at(600)).orders == 0

    def test_stock_that_was_set_is_found(self, proven: KeptInPostgres) -> None:
        proven.plant("UPDATE position SET outside = outside - 1, blocked = blocked + 1 WHERE id = %(bolt)s", bolt=BOLT)
        assert {finding.law for finding in proven.check(full=False)} == {3}

    def test_what_is_off_is_not_kept_as_proven(self, proven: KeptInPostgres) -> None:
        with proven.books.transaction() as transaction:
            transaction.record(Effects(at=at(61), movements=[into(BOLT, 1)]))
        proven.plant("DELETE FROM movement WHERE position = %(bolt)s AND version = 3", bolt=BOLT)
        assert proven.check(full=False) == proven.check(full=False) != []

    def test_an_old_row_that_was_changed_is_found_by_a_full_check(self, proven: KeptInPostgres) -> None:
        proven.plant("UPDATE movement SET quantity = 8 WHERE position = %(bolt)s AND version = 1", bolt=BOLT)
        assert proven.check(full=False) == []
        assert {finding.law for finding in proven.check(full=True)} == {3}

    def test_a_check_sees_one_snapshot(self, proven: KeptInPostgres) -> None:
        """Stock moves between two reads of the check; each of them sees the time before."""
        moved: list[bool] = []

        def verify(_: StoredPlan) -> list[str]:
            if not moved:
                moved.append(True)
                with proven.books.transaction() as transaction:
                    transaction.record(Effects(at=at(61), movements=[into(BOLT, 1)]))
            return []

        assert check_database(proven.pool, CELLS, at(62), full=True, verify=verify).findings == ()
        assert moved
        report = check_database(proven.pool, CELLS, at(63) + timedelta(0))
        assert (report.positions, report.findings) == (1, ())
        assert position(proven.books, BOLT).version == 3


def test_demand_in_the_stock_queue_counts_as_waiting(world: World) -> None:
    with world.kept.books.transaction() as transaction:
        (waiting,) = transaction.waiting(all_of("NAIL"), 5)
        transaction.record(Effects(at=at(3), todo=[replace(waiting, queue=Queue.ONCE)]))
    assert found(world.kept) == set()
