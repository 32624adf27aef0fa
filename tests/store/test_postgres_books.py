"""What only a real database can show: two connections at once, plans by key, rights, and what lies in the rows."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
from psycopg import Cursor
from psycopg.errors import InsufficientPrivilege
from psycopg.rows import TupleRow

from poolwise.core.ledger import Account, Cause, Movement, Position
from poolwise.core.values import Conflict, Upstream
from poolwise.flows.ports import Answer, Audit, Effects, Event, OrderRecord, Queue
from poolwise.store import arrays
from poolwise.store.books import GO_BY_KEY, PostgresBooks, PostgresTransaction
from poolwise.store.codec import unpack_events
from poolwise.store.places import Places
from poolwise.store.steps import Step, never
from tests.conftest import Database
from tests.store.contract import (
    DAY,
    Sourcing,
    accepted,
    all_of,
    at,
    claim,
    expected,
    failing,
    into,
    key,
    new_id,
    order,
    position,
    received,
    sourced,
    stocked,
    todo,
)
from tests.store.kept import CELLS, KeptInPostgres
from tests.store.test_books_contract import everything, recorded


@pytest.fixture
def kept(database: Database) -> Iterator[KeptInPostgres]:
    with KeptInPostgres(database) as books:
        yield books


@pytest.fixture
def books(kept: KeptInPostgres) -> PostgresBooks:
    return kept.books


class TestTwoConnections:
    """Two transactions that are open at the same time."""

    def test_claims_step_past_each_other(self, books) -> None:
        accepted(books, *[order(("BOLT", 1), number=number) for number in "abc"])
        with books.transaction() as one, books.transaction() as other:
            first, second = claim(one, limit=2), claim(other, limit=2)
        assert [len(first), len(second)] == [2, 1]
        assert {t.order.number for t in (*first, *second)} == {"a", "b", "c"}

    def test_a_large_order_that_is_being_decided_holds_up_nobody(self, books) -> None:
        large, small = order(*[("BOLT", 1)] * 9, number="large"), order(("BOLT", 1), number="small")
        recorded(books, todo=[todo(large), todo(small, minute=1)])
        with books.transaction() as one, books.transaction() as other:
            assert [t.order.number for t in claim(one)] == ["large"]
            assert [t.order.number for t in claim(other)] == ["small"]

    @pytest.mark.parametrize(("keeps", "left"), [(True, 0), (False, 1)], ids=["kept", "put back"])
    def test_waiting_demand_is_taken_by_the_other_only_if_one_puts_it_back(self, books, keeps, left) -> None:
        recorded(books, todo=[todo(order(("BOLT", 1)), Queue.STOCK)])
        taken: list[int] = []

        def take() -> None:
            with books.transaction() as other:
                taken.append(len(other.waiting(all_of("BOLT"), 9)))

        second = threading.Thread(target=take)
        with suppress(ZeroDivisionError), books.transaction() as one:
            assert len(one.waiting(all_of("BOLT"), 9)) == 1
            second.start()
            if not keeps:
                raise ZeroDivisionError
        second.join(timeout=30)
        assert taken == [left]

    def test_those_who_look_again_step_past_each_other(self, books) -> None:
        recorded(books, todo=[todo(order(("BOLT", 1)), Queue.STOCK, minute=minute) for minute in range(4)])
        with suppress(ZeroDivisionError), books.transaction() as one, books.transaction() as other:
            first, second = (claim(each, queue=Queue.STOCK, limit=2) for each in (one, other))
            assert [[todo.since for todo in taken] for taken in (first, second)] == [[at(0), at(1)], [at(2), at(3)]]
            raise ZeroDivisionError
        with books.transaction() as one:
            assert len(claim(one, queue=Queue.STOCK)) == 4

    def test_no_position_comes_to_be_of_an_item_that_is_closed(self, books) -> None:
        made: list[list[int]] = []
        with books.transaction() as one:
            assert one.positions_of(["BOLT"], close=True) == {}
            maker = threading.Thread(target=lambda: made.append(stocked(books, (key(), 5))))
            maker.start()
            stocked(books, (key("NUT"), 5))
            maker.join(timeout=0.1)
            assert (made, one.positions_of(["BOLT"])) == ([], {})
        maker.join(timeout=30)
        assert made == [[key().id()]]

    def test_who_waits_for_a_lock_sees_what_the_other_left(self, books) -> None:
        (bolt,) = stocked(books, (key(), 5))
        seen: list[int] = []

        def look() -> None:
            with books.transaction() as other:
                seen.append(other.positions([bolt], lock=True)[bolt].balance(Account.AVAILABLE))

        with books.transaction() as one:
            one.positions([bolt], lock=True)
            waiting = threading.Thread(target=look)
            waiting.start()
            one.record(Effects(at=at(1), movements=[into(bolt, 2)]))
        waiting.join(timeout=30)
        assert seen == [7]

    def test_both_reserve_what_is_there_for_both(self, books) -> None:
        """No false refusal: the second waits for the first, and then there is still enough."""
        (bolt,) = stocked(books, (key(), 5))
        moved = [Movement(bolt, Account.AVAILABLE, Account.BLOCKED, 2, Cause.STOCK, new_id()) for _ in range(2)]
        second = threading.Thread(target=lambda: recorded(books, movements=[moved[1]]))
        with books.transaction() as one:
            one.record(Effects(at=at(1), movements=[moved[0]]))
            second.start()
        second.join(timeout=30)
        assert position(books, bolt).balance(Account.BLOCKED) == 4

    def test_a_key_that_is_being_written_is_a_conflict_once_it_is_there(self, books) -> None:
        answer = Answer("shop", "key-1", b"hash", 201, "orders/1")
        caught: list[Exception] = []

        def repeat() -> None:
            try:
                recorded(books, answers=[answer])
            except Conflict as conflict:
                caught.append(conflict)

        with books.transaction() as one:
            one.record(Effects(at=at(1), answers=[answer]))
            other = threading.Thread(target=repeat)
            other.start()
        other.join(timeout=30)
        assert len(caught) == 1

    def test_stock_that_another_has_not_committed_is_not_seen(self, books) -> None:
        (bolt,) = stocked(books, (key(), 5))
        with books.transaction() as one, books.transaction() as other:
            one.record(Effects(at=at(1), movements=[into(bolt, 2)]))
            (fact,) = other.stock([0], ["BOLT"], DAY).by_item["BOLT"]
        assert fact.available == 5

    def test_a_position_that_another_has_not_committed_is_not_seen(self, books) -> None:
        stocked(books, (key(), 5), (key("NUT"), 7))
        there = key(node="BOS")
        with books.transaction() as one, books.transaction() as other:
            one.record(Effects(at=at(1), positions=[Position(there.id(), 0, there)], movements=[into(there.id(), 3)]))
            for _ in range(2):
                mine, others = (t.stock([0], ["BOLT", "NUT"], DAY).by_item for t in (one, other))
                assert {fact.place.node: fact.available for fact in mine["BOLT"]} == {"NYC": 5, "BOS": 3}
                assert {fact.place.node: fact.available for fact in others["BOLT"]} == {"NYC": 5}
                assert [fact.available for fact in (*mine["NUT"], *others["NUT"])] == [7, 7]

    def test_a_position_that_never_came_to_be_is_forgotten(self, books) -> None:
        stocked(books, (key(), 5))
        with failing(books) as transaction:
            there = key(node="BOS")
            transaction.record(Effects(at=at(1), positions=[Position(there.id(), 0, there, expires_on=DAY)]))
            assert len(transaction.stock([0], ["BOLT"], DAY).by_item["BOLT"]) == 2
            raise ZeroDivisionError
        stocked(books, (key(node="LAX"), 5), (key(node="BOS"), 1))
        with books.transaction() as transaction:
            facts = transaction.stock([0], ["BOLT"], DAY).by_item["BOLT"]
        assert {(fact.place.node, fact.place.expires_on) for fact in facts} == {
            ("NYC", None),
            ("LAX", None),
            ("BOS", None),
        }


class TestLocks:
    """All row locks in one order."""

    def test_a_class_that_comes_before_a_held_one_is_a_bug(self, books) -> None:
        (bolt,) = stocked(books, (key(), 5))
        with books.transaction() as one:
            one.positions([bolt], lock=True)
            with pytest.raises(AssertionError, match="ORDERS are locked before POSITIONS"):
                one.orders([new_id()], lock=True)

    def test_orders_that_a_recording_changes_can_be_locked_first(self, books) -> None:
        (bolt,) = stocked(books, (key(), 5))
        accepted(books, bought := order(("BOLT", 3)))
        with books.transaction() as transaction:
            assert transaction.orders([bought.id], lock=True) == {bought.id: received(bought)}
            transaction.positions([bolt], lock=True)
            transaction.record(Sourcing(bought, [bolt]).effects())


class TestErrors:
    """The error tree."""

    def test_a_server_that_is_gone_is_upstream(self, kept) -> None:
        with failing(kept.books, Upstream) as transaction:
            with psycopg.connect(kept.database.superuser_url, autocommit=True) as administrator:
                administrator.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            transaction.positions([1])

    def test_a_deadlock_is_a_conflict_for_one_and_success_for_the_other(self, books) -> None:
        bolt, nut = sorted(stocked(books, (key(), 5), (key("NUT"), 5)))
        both_hold_one = threading.Barrier(2)
        outcomes: list[str] = []

        def cross(first: int, second: int) -> None:
            try:
                with books.transaction() as transaction:
                    transaction.positions([first], lock=True)
                    both_hold_one.wait(timeout=30)
                    transaction.positions([second], lock=True)
                outcomes.append("done")
            except Conflict:
                outcomes.append("conflict")

        threads = [threading.Thread(target=cross, args=pair) for pair in ((bolt, nut), (nut, bolt))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert sorted(outcomes) == ["conflict", "done"]


class TestRows:
    """What others read in the database."""

    def test_the_events_of_a_transaction_are_one_row_for_each_cell_and_wait_for_their_numbers(self, kept) -> None:
        events = [Event("a", "1", {"n": 1}), Event("b", "2", {"deep": [{"x": None}]}, cell=1), Event("c", "3", {})]
        recorded(kept.books, events=events)
        with psycopg.connect(kept.database.url) as connection:
            rows = connection.execute("SELECT cell, count, first_seq, at, events FROM outbox ORDER BY cell").fetchall()
        assert [row[:4] for row in rows] == [(0, 2, None, at(1)), (1, 1, None, at(1))]
        assert unpack_events(rows[0][4], 0) == (events[0], events[2])
        assert unpack_events(rows[1][4], 1) == (events[1],)

    def test_movements_carry_the_version_after_them_and_lie_in_their_month(self, kept) -> None:
        bolt, there = stocked(kept.books, (key(), 5), (key(node="BOS"), 0))
        moved = Movement(bolt, Account.AVAILABLE, Account.AVAILABLE, 2, Cause.TRANSFER, new_id(), to_position=there)
        recorded(kept.books, at=at(40_000), movements=[moved, into(bolt, 1)])
        with psycopg.connect(kept.database.url) as connection:
            rows = connection.execute(
                "SELECT position, version, source, target, other_position, month::text FROM movement"
                " WHERE cause_id = %s OR month > '2026-01-01' ORDER BY version, position = %s",
                (moved.cause_id, there),
            ).fetchall()
        assert rows == [
            (there, 1, 0, 4, bolt, "2026-02-01"),
            (bolt, 2, 4, 0, there, "2026-02-01"),
            (bolt, 3, 0, 4, None, "2026-02-01"),
        ]

    def test_the_audit_lies_in_the_cell_of_what_was_done(self, kept) -> None:
        recorded(kept.books, orders=[received(order(("BOLT", 1), cell=2))], audit=[Audit("shop", "order", "1")])
        with psycopg.connect(kept.database.url) as connection:
            assert connection.execute("SELECT cell, actor, detail FROM audit").fetchall() == [(2, "shop", {})]


class TestRights:
    """The application cannot change what is immutable; a partner sees what a policy shows."""

    @pytest.mark.parametrize("table", ["movement", "decision", "audit", "edition", "inbox"])
    def test_the_application_cannot_change_what_is_immutable(self, kept, table) -> None:
        with psycopg.connect(kept.database.url) as connection, pytest.raises(InsufficientPrivilege):
            connection.execute(f"DELETE FROM {table}")

    def test_a_partner_sees_the_positions_of_its_nodes(self, kept) -> None:
        stocked(kept.books, (key(), 5), (key(node="BOS"), 6), (key(node="LAX"), 7))
        with psycopg.connect(kept.database.partner_url) as partner:
            assert partner.execute("SELECT node FROM position").fetchall() == []
            partner.execute("SELECT set_config('poolwise.partner_nodes', 'BOS,LAX', true)")
            rows = partner.execute("SELECT node, available FROM position ORDER BY node").fetchall()
            assert rows == [("BOS", 6), ("LAX", 7)]
            partner.commit()
            assert partner.execute("SELECT node FROM position").fetchall() == []
            with pytest.raises(InsufficientPrivilege):
                partner.execute("SELECT count(*) FROM customer_order")


executed: dict[str, object] = {}


class Noting(Cursor[TupleRow]):
    """A cursor that notes each statement with its parameters."""

    def execute(self, query, params=None, **details):
        if isinstance(query, str):
            executed[query] = params
        return super().execute(query, params, **details)


def test_every_statement_goes_by_key(kept: KeptInPostgres) -> None:
    """A plan that reads a whole table, or all of a cell, would be slow only once it matters."""
    stocked(kept.books, *[(key(f"ITEM-{item}", f"NODE-{node}"), 5) for item in range(200) for node in range(10)])
    accepted(kept.books, *[order((f"ITEM-{number}", 1)) for number in range(1_000)], queue=Queue.WAVE)
    accepted(kept.books, *[order((f"ITEM-{number}", 1)) for number in range(1_000)], queue=Queue.STOCK)
    effects = everything(kept.books)
    bolt = key().id()
    executed.clear()
    with psycopg.connect(kept.database.url, autocommit=True, cursor_factory=Noting) as connection:
        arrays.register(connection)
        with connection.transaction():
            transaction = PostgresTransaction(connection, Places(CELLS), never, [])
            claim(transaction)
            transaction.record(effects)
        read_all(PostgresTransaction(connection, Places(CELLS), never, []), bolt, effects.orders_changed[0])
        connection.execute(GO_BY_KEY.replace("true)", "false)"))
        explaining = connection.cursor()
        faults = [
            f"{line.strip()}: {statement.strip()}"
            for statement, parameters in list(executed.items())
            if re.match(r"\s*(SELECT|UPDATE|DELETE|INSERT|WITH)", statement) and "set_config" not in statement
            for line in unkeyed(explaining.execute(f"EXPLAIN {statement}", parameters).fetchall())
        ]
    assert len(executed) > 40
    assert not faults, "\n".join(faults)


def read_all(transaction: PostgresTransaction, bolt: int, record: OrderRecord) -> None:
    """Call every read once, so that its statements are noted."""
    order_id = record.order.id
    receipt = transaction.stock(CELLS, ["BOLT", "NUT"], DAY).receipts["NUT"][0].receipt
    transaction.positions([bolt])
    transaction.positions_of(["BOLT"])
    transaction.positions_as_of({bolt: at(-1)})
    transaction.count_marks([bolt])
    transaction.receipts([receipt])
    transaction.receipts_named([(bolt, "PO-1")])
    transaction.orders([order_id])
    transaction.order_numbered(["A"])
    transaction.reservations(order_id)
    transaction.reservations_at(bolt)
    transaction.shipments(order_id)
    transaction.seen([("wms", "m1")])
    transaction.answer("shop", "k1")
    transaction.decision(order_id, 1)
    transaction.waiting(all_of("BOLT"), 9)
    claim(transaction, queue=Queue.STOCK)
    transaction.due(0, at(99), 9)


def unkeyed(plan: list[TupleRow]) -> list[str]:
    """Lines of a plan that read a table, or all of a cell, from one end to the other."""
    lines = [line for (line,) in plan]
    bad = [line for line in lines if "Seq Scan" in line]
    for place, line in enumerate(lines):
        if re.search(r"Index (Only )?Scan", line):
            condition = next((after for after in lines[place + 1 : place + 3] if "Index Cond:" in after), "")
            if " AND " not in condition:
                bad.append(line)
    return bad


def test_a_crash_between_two_steps_leaves_no_lock(kept: KeptInPostgres) -> None:
    (bolt,) = stocked(kept.books, (key(), 5))
    accepted(kept.books, bought := order(("BOLT", 3)))

    def crash(step: str) -> None:
        if step == Step.CAPACITY:
            raise ZeroDivisionError

    with failing(kept.with_failpoint(crash)) as transaction:
        claim(transaction)
        transaction.record(Sourcing(bought, [bolt]).effects())
    sourced(kept.books, bought, bolt)
    assert kept.check() == []
    assert expected(kept.books, key("NUT"), 1).open == 1


def test_locks_are_taken_in_one_order_and_what_is_locked_may_be_asked_again(kept: KeptInPostgres) -> None:
    bolt, other = stocked(kept.books, (key(), 5), (key(node="BOS"), 5))
    receipt = expected(kept.books, key("NUT"), 1)
    with kept.books.transaction() as transaction:
        transaction.positions([bolt], lock=True)
        transaction.receipts([receipt.id], lock=True)
        assert list(transaction.positions([bolt], lock=True)) == [bolt]
        with pytest.raises(AssertionError, match="before RECEIPTS"):
            transaction.positions([bolt, other], lock=True)
