"""The contract of the books: one suite, run on memory and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace

import pytest

from poolwise.core.ledger import Account, Cause, Movement, Position, Reservation, ReservationKind
from poolwise.core.orders import OrderState, Progress
from poolwise.core.returns import Return
from poolwise.core.values import Conflict, replace
from poolwise.flows.ports import (
    Answer,
    Audit,
    CapacityChange,
    Contact,
    CountMark,
    CountTask,
    Effects,
    Ending,
    Event,
    Incident,
    Milestone,
    OrderRecord,
    PickOutcome,
    Queue,
    ReceiptChange,
    ReservationEnd,
    ReturnRecord,
    Timer,
    TimerKind,
)
from poolwise.flows.source import PARTS_PER_ATTEMPT
from poolwise.store.steps import Step
from tests.store.contract import (
    DAY,
    Sourcing,
    accepted,
    at,
    claim,
    decision,
    expected,
    failing,
    into,
    key,
    loaded,
    new_id,
    order,
    position,
    received,
    recorded,
    refused,
    reservation,
    shipment,
    sourced,
    stocked,
    todo,
)


class TestLedger:
    """Laws 1, 2 and 3."""

    def test_a_position_holds_what_came_less_what_left(self, books) -> None:
        (bolt,) = stocked(books, (key(), 10))
        recorded(books, movements=[Movement(bolt, Account.AVAILABLE, Account.BLOCKED, 4, Cause.STOCK, new_id())])
        assert position(books, bolt).balances == (-10, 0, 0, 0, 6, 0, 4)

    def test_movements_of_one_recording_count_versions_one_by_one(self, books, kept) -> None:
        (bolt,) = stocked(books, (key(), 10))
        recorded(books, movements=[into(bolt, 1), into(bolt, 2), into(bolt, 3)])
        assert position(books, bolt).version == 4
        assert kept.check() == []

    def test_more_than_there_is_cannot_be_moved(self, books) -> None:
        (bolt,) = stocked(books, (key(), 10))
        refused(books, movements=[Movement(bolt, Account.AVAILABLE, Account.RESERVED, 11, Cause.RESERVE, new_id())])
        assert position(books, bolt).balance(Account.AVAILABLE) == 10

    def test_two_movements_together_cannot_move_more_than_there_is(self, books) -> None:
        (bolt,) = stocked(books, (key(), 10))
        half = Movement(bolt, Account.AVAILABLE, Account.RESERVED, 6, Cause.RESERVE, new_id())
        refused(books, movements=[half, half])

    def test_stock_must_come_before_it_goes(self, books) -> None:
        (bolt,) = stocked(books, (key(), 0))
        comes = into(bolt, 5)
        goes = Movement(bolt, Account.AVAILABLE, Account.BLOCKED, 5, Cause.STOCK, new_id())
        refused(books, movements=[goes, comes])
        recorded(books, movements=[comes, goes])
        assert position(books, bolt).balance(Account.BLOCKED) == 5

    def test_a_transfer_leaves_one_position_and_enters_the_other(self, books, kept) -> None:
        bolt, there = stocked(books, (key(), 10), (key(node="BOS"), 0))
        moved = Movement(bolt, Account.AVAILABLE, Account.IN_TRANSIT, 4, Cause.TRANSFER, new_id(), to_position=there)
        recorded(books, movements=[moved])
        assert position(books, bolt).balance(Account.AVAILABLE) == 6
        assert position(books, there).balance(Account.IN_TRANSIT) == 4
        assert kept.check() == []

    def test_a_transfer_of_more_than_there_is_moves_nothing(self, books) -> None:
        bolt, there = stocked(books, (key(), 3), (key(node="BOS"), 0))
        moved = Movement(bolt, Account.AVAILABLE, Account.IN_TRANSIT, 4, Cause.TRANSFER, new_id(), to_position=there)
        refused(books, movements=[moved])
        assert position(books, there).version == 0

    def test_a_transfer_moves_one_item(self, books) -> None:
        bolt, nut = stocked(books, (key(), 3), (key("NUT"), 0))
        moved = Movement(bolt, Account.AVAILABLE, Account.AVAILABLE, 1, Cause.TRANSFER, new_id(), to_position=nut)
        with pytest.raises(AssertionError, match="one item"):
            recorded(books, movements=[moved])

    def test_a_movement_of_an_unknown_position_is_a_conflict(self, books) -> None:
        refused(books, movements=[into(17, 1)])

    def test_a_position_that_exists_stays_as_it_is(self, books) -> None:
        (bolt,) = stocked(books, (key(), 10))
        recorded(books, positions=[Position(bolt, 0, key())])
        assert position(books, bolt).balance(Account.AVAILABLE) == 10

    def test_a_position_comes_to_be_empty(self, books) -> None:
        with pytest.raises(AssertionError, match="law 1"):
            recorded(books, positions=[Position(key().id(), 0, key(), (-5, 0, 0, 0, 5, 0, 0), 1)])

    def test_positions_keep_their_expiry(self, books) -> None:
        recorded(books, positions=[Position(key(lot="L1").id(), 0, key(lot="L1"), expires_on=DAY)])
        assert position(books, key(lot="L1").id()).expires_on == DAY

    def test_positions_of_items_come_by_id(self, books) -> None:
        ids = stocked(books, (key(), 1), (key(node="BOS"), 1), (key("NUT"), 1), (key("NAIL"), 1))
        with books.transaction() as transaction:
            found = transaction.positions_of(["NUT", "BOLT", "GHOST"], close=True)
        assert list(found) == sorted(ids[:3])


class TestAsOf:
    """Law 9 needs balances as they were."""

    def test_balances_as_they_were(self, books) -> None:
        (bolt,) = stocked(books, (key(), 10))
        for minute in (1, 2, 3):
            recorded(books, at=at(minute), movements=[into(bolt, minute * 100)])
        for minute, available in ((0, 10), (1, 110), (2, 310), (3, 610), (60, 610)):
            with books.transaction() as transaction:
                found = transaction.positions_as_of({bolt: at(minute)})[bolt]
            assert (found.balance(Account.AVAILABLE), found.version) == (available, minute + 1 if minute < 4 else 4)

    def test_before_everything_a_position_is_empty(self, books) -> None:
        (bolt,) = stocked(books, (key(), 10))
        with books.transaction() as transaction:
            found = transaction.positions_as_of({bolt: at(0) - timedelta(seconds=1), 17: at(0)})
        assert found == {bolt: replace(position(books, bolt), balances=(0,) * 7, version=0)}

    def test_across_a_month_and_many_movements(self, books) -> None:
        (bolt,) = stocked(books, (key(), 10))
        recorded(books, at=at(40_000), movements=[into(bolt, 1) for _ in range(300)])
        with books.transaction() as transaction:
            assert transaction.positions_as_of({bolt: at(39_999)})[bolt].balance(Account.AVAILABLE) == 10
            assert transaction.positions_as_of({bolt: at(40_000)})[bolt].balance(Account.AVAILABLE) == 310

    def test_what_had_happened_by_then_counts_though_it_was_recorded_later(self, books) -> None:
        (bolt,) = stocked(books, (key(), 10))
        late = replace(into(bolt, 5), occurred_at=at(1))
        recorded(books, at=at(9), movements=[into(bolt, 100), late])
        for minute, available in ((0, 10), (1, 15), (9, 115)):
            with books.transaction() as transaction:
                found = transaction.positions_as_of({bolt: at(minute)})[bolt]
            assert found.balance(Account.AVAILABLE) == available

    def test_the_time_of_a_position_never_goes_back(self, books) -> None:
        (bolt,) = stocked(books, (key(), 10), minute=5)
        recorded(books, at=at(3), movements=[into(bolt, 1)])
        with books.transaction() as transaction:
            assert transaction.positions_as_of({bolt: at(4)})[bolt].version == 0
            assert transaction.positions_as_of({bolt: at(5)})[bolt].version == 2


class TestStock:
    """What the sourcing flow reads."""

    def test_stock_by_item_in_the_order_of_ids(self, books) -> None:
        ids = stocked(books, (key(), 3), (key(node="BOS"), 0), (key("NUT"), 5), (key("NAIL"), 5))
        with books.transaction() as transaction:
            by_item = transaction.stock([0], ["NUT", "BOLT", "GHOST"], DAY).by_item
        assert set(by_item) == {"NUT", "BOLT"}
        assert [fact.place.position for fact in by_item["BOLT"]] == sorted(ids[:2])
        assert {fact.place.node: fact.available for fact in by_item["BOLT"]} == {"NYC": 3, "BOS": 0}

    def test_stock_is_that_of_the_cells_asked_for(self, books) -> None:
        stocked(books, (key(), 3), cell=0)
        stocked(books, (key(node="LAX"), 4), cell=1)
        with books.transaction() as transaction:
            nodes = [
                [fact.place.node for fact in transaction.stock(cells, ["BOLT"], DAY).by_item.get("BOLT", ())]
                for cells in ([0], [1], [2])
            ]
        assert nodes == [["NYC"], ["LAX"], []]

    def test_stock_sees_the_last_commit_and_its_own_writes(self, books) -> None:
        (bolt,) = stocked(books, (key(), 3))
        with books.transaction() as transaction:
            transaction.stock([0], ["BOLT"], DAY)
            transaction.record(Effects(at=at(1), movements=[into(bolt, 2)]))
            (own,) = transaction.stock([0], ["BOLT"], DAY).by_item["BOLT"]
        with books.transaction() as transaction:
            (later,) = transaction.stock([0], ["BOLT"], DAY).by_item["BOLT"]
        assert own.available == later.available == 5

    def test_stock_that_was_rolled_back_is_not_there(self, books) -> None:
        (bolt,) = stocked(books, (key(), 3))
        with failing(books) as transaction:
            transaction.record(Effects(at=at(1), movements=[into(bolt, 2)]))
            transaction.stock([0], ["BOLT"], DAY)
            raise ZeroDivisionError
        with books.transaction() as transaction:
            (fact,) = transaction.stock([0], ["BOLT"], DAY).by_item["BOLT"]
        assert fact.available == 3

    def test_open_receipts_come_by_due_date(self, books) -> None:
        late, soon = expected(books, key(), 5), expected(books, key(node="BOS"), 7)
        recorded(books, receipt_changes=[ReceiptChange(0, late.id, due_on=DAY + timedelta(days=9))])
        with books.transaction() as transaction:
            facts = transaction.stock([0], ["BOLT"], DAY).receipts["BOLT"]
        assert [(fact.receipt, fact.open) for fact in facts] == [(soon.id, 7), (late.id, 5)]

    def test_a_receipt_that_is_all_pledged_is_not_offered(self, books) -> None:
        receipt = expected(books, key(), 5)
        recorded(books, receipt_changes=[ReceiptChange(0, receipt.id, pledged=5)])
        with books.transaction() as transaction:
            assert transaction.stock([0], ["BOLT"], DAY).receipts == {}

    def test_capacity_taken_from_a_day_on(self, books) -> None:
        days = [DAY - timedelta(days=1), DAY, DAY + timedelta(days=1)]
        recorded(books, capacity=[CapacityChange(0, node, day, 0, 1, 9) for node in ("NYC", "BOS") for day in days])
        with books.transaction() as transaction:
            capacity = transaction.stock([0], [], DAY).capacity
        assert {node: [fact.day for fact in facts] for node, facts in capacity.items()} == {
            "BOS": days[1:],
            "NYC": days[1:],
        }


class TestReceipts:
    """Law 2 for what is expected."""

    def test_receipts_by_id_and_by_name(self, books) -> None:
        receipt = expected(books, key(), 5)
        with books.transaction() as transaction:
            assert transaction.receipts([receipt.id, new_id()]) == {receipt.id: receipt}
            name = (receipt.position, receipt.reference)
            assert transaction.receipts_named([name, (17, "PO")]) == {name: receipt}

    def test_changes_add_up_and_dates_replace(self, books) -> None:
        receipt = expected(books, key(), 5)
        later = DAY + timedelta(days=3)
        changes = [
            ReceiptChange(0, receipt.id, quantity=2, pledged=3),
            ReceiptChange(0, receipt.id, pledged=1, due_on=later, sequence=7),
        ]
        recorded(books, receipt_changes=changes)
        with books.transaction() as transaction:
            changed = transaction.receipts([receipt.id])[receipt.id]
        assert changed == replace(receipt, quantity=7, pledged=4, due_on=later, sequence=7)

    @pytest.mark.parametrize("change", [{"pledged": 6}, {"arrived": 6}, {"quantity": -6}, {"cancelled": -1}])
    def test_no_more_can_be_taken_than_a_receipt_holds(self, books, change) -> None:
        receipt = expected(books, key(), 5)
        refused(books, receipt_changes=[ReceiptChange(0, receipt.id, **change)])

    def test_a_reference_names_one_receipt_of_a_position(self, books) -> None:
        receipt = expected(books, key(), 5)
        refused(books, receipts=[replace(receipt, id=new_id())])

    def test_a_receipt_needs_its_position(self, books) -> None:
        receipt = expected(books, key(), 5)
        refused(books, receipts=[replace(receipt, id=new_id(), position=17)])


class TestReservations:
    """Law 6."""

    def test_reservations_of_an_owner_and_at_a_position(self, books) -> None:
        bolt, nut = stocked(books, (key(), 9), (key("NUT"), 9))
        first, second = order(("BOLT", 2), ("NUT", 1)), order(("BOLT", 3))
        accepted(books, first, second)
        sourced(books, first, bolt, nut, minute=1)
        accepted(books, another := order(("BOLT", 1)))
        sourced(books, second, bolt, minute=2)
        del another
        with books.transaction() as transaction:
            assert transaction.reservations(first.id) == (
                reservation(first, 1, bolt, 2),
                reservation(first, 2, nut, 1),
            )
            assert [r.owner for r in transaction.reservations_at(bolt)] == [second.id, first.id]

    def test_units_end_once(self, books) -> None:
        (bolt,) = stocked(books, (key(), 9))
        accepted(books, bought := order(("BOLT", 3)))
        sourced(books, bought, bolt)
        two = ReservationEnd(0, bought.id, 1, Ending.FREED, 2)
        recorded(books, reservation_ends=[two])
        refused(books, reservation_ends=[two])
        recorded(books, reservation_ends=[replace(two, ending=Ending.BROKEN, quantity=1)])
        with books.transaction() as transaction:
            (ended,) = transaction.reservations(bought.id)
            assert (ended.freed, ended.broken, ended.open) == (2, 1, 0)
            assert transaction.reservations_at(bolt) == ()

    def test_endings_of_one_recording_count_together(self, books) -> None:
        (bolt,) = stocked(books, (key(), 9))
        accepted(books, bought := order(("BOLT", 3)))
        sourced(books, bought, bolt)
        two = ReservationEnd(0, bought.id, 1, Ending.FREED, 2)
        refused(books, reservation_ends=[two, replace(two, ending=Ending.CONSUMED)])

    def test_a_reservation_keeps_all_it_says(self, books) -> None:
        kept = Reservation(
            0, new_id(), 3, 17, 5, 2, 4, ReservationKind.SOFT, 6, at(1), receipt=new_id(), expires_at=at(9)
        )
        recorded(books, reservations=[kept])
        with books.transaction() as transaction:
            assert transaction.reservations(kept.owner) == (kept,)


class TestCapacity:
    """Law 14."""

    def test_capacity_is_refused_above_its_limit_and_below_zero(self, books) -> None:
        change = CapacityChange(0, "NYC", DAY, 0, 3, 4)
        recorded(books, capacity=[change])
        refused(books, capacity=[replace(change, quantity=2)])
        refused(books, capacity=[replace(change, quantity=-4)])
        recorded(books, capacity=[replace(change, quantity=1)])
        assert self.taken(books) == 4

    def test_the_first_booking_is_refused_too(self, books) -> None:
        refused(books, capacity=[CapacityChange(0, "NYC", DAY, 0, 3, 2)])
        refused(books, capacity=[CapacityChange(0, "NYC", DAY, 0, -1, 2)])

    def test_changes_of_one_slot_count_together(self, books) -> None:
        change = CapacityChange(0, "NYC", DAY, 0, 3, 4)
        refused(books, capacity=[change, change])
        recorded(books, capacity=[change, replace(change, quantity=-2), change])
        assert self.taken(books) == 4

    def test_without_a_limit_nothing_is_refused(self, books) -> None:
        recorded(books, capacity=[CapacityChange(0, "NYC", DAY, 0, 10**12, None)])
        assert self.taken(books) == 10**12

    def test_a_limit_that_fell_refuses_more_but_breaks_nothing(self, books) -> None:
        change = CapacityChange(0, "NYC", DAY, 0, 8, 9)
        recorded(books, capacity=[change])
        refused(books, capacity=[replace(change, quantity=1, limit=5)])
        recorded(books, capacity=[replace(change, quantity=-1, limit=5)])
        recorded(books, capacity=[replace(change, quantity=-1, limit=None)])
        assert self.taken(books) == 6

    def taken(self, books) -> int:
        """What is taken of the slot."""
        with books.transaction() as transaction:
            ((fact,),) = transaction.stock([0], [], DAY).capacity.values()
        return fact.taken


class TestOrders:
    """Laws 3, 4 and 13."""

    def test_an_order_is_kept_as_it_was_accepted(self, books) -> None:
        full = replace(
            order(("BOLT", 3), ("NUT", 5)),
            customer="C-1",
            contact=new_id(),
            requested_date=DAY,
            ship_complete=True,
            max_shipments=2,
            reservation=new_id(),
            facts=(("gift", True), ("tags", ["a", {"b": None}])),
        )
        accepted(books, full)
        assert loaded(books, full) == received(full)

    def test_a_number_names_one_order(self, books) -> None:
        accepted(books, first := order(("BOLT", 1), number="A-1"))
        refused(books, orders=[received(order(("BOLT", 1), cell=1, number="A-1"))])
        with books.transaction() as transaction:
            assert transaction.order_numbered(["A-1", "A-2"]) == {"A-1": first.id}

    def test_sourcing_moves_an_order_on(self, books, kept) -> None:
        (bolt,) = stocked(books, (key(), 9))
        accepted(books, bought := order(("BOLT", 3), ("NUT", 1)))
        sourced(books, bought, bolt, None)
        record = loaded(books, bought)
        assert (record.state, record.attempt) == (OrderState.PARTIAL, 1)
        assert record.lines == (Progress(3, reserved=3), Progress(1, backordered=1))
        assert kept.check() == []

    def test_an_attempt_is_decided_once(self, books) -> None:
        (bolt,) = stocked(books, (key(), 9))
        accepted(books, bought := order(("BOLT", 3)))
        effects = Sourcing(bought, [bolt]).effects()
        with books.transaction() as transaction:
            transaction.record(effects)
        again = replace(effects, reservations=[], shipments=[], at=at(40_000))
        with failing(books, Conflict) as transaction:
            transaction.record(again)
        assert position(books, bolt).balance(Account.RESERVED) == 3

    def test_a_decision_of_a_basket_is_made_once_even_in_another_month(self, books) -> None:
        basket = order(("BOLT", 3))
        recorded(books, decisions=[decision(basket)])
        refused(books, decisions=[replace(decision(basket), at=at(40_000))])
        recorded(books, decisions=[decision(basket, attempt=2)])

    def test_a_change_without_a_decision_needs_the_attempt_it_saw(self, books) -> None:
        (bolt,) = stocked(books, (key(), 9))
        accepted(books, bought := order(("BOLT", 3)))
        before = loaded(books, bought)
        sourced(books, bought, bolt)
        waits = OrderRecord(bought, OrderState.WAITING, before.lines, before.attempt)
        refused(books, orders_changed=[waits])

    def test_a_state_is_reached_from_those_before_it_only(self, books) -> None:
        accepted(books, bought := order(("BOLT", 3)))
        cancelled = OrderRecord(bought, OrderState.CANCELLED, (Progress(3, cancelled=3),))
        recorded(books, orders_changed=[cancelled])
        refused(books, orders_changed=[OrderRecord(bought, OrderState.SOURCED, (Progress(3, reserved=3),))])

    def test_an_unknown_order_cannot_change(self, books) -> None:
        refused(books, orders_changed=[received(order(("BOLT", 3)))])

    def test_shipments_with_their_bookings(self, books, kept) -> None:
        (bolt,) = stocked(books, (key(), 9))
        accepted(books, bought := order(("BOLT", 3)))
        sourced(books, bought, bolt)
        with books.transaction() as transaction:
            assert transaction.shipments(bought.id) == (shipment(bought, 1, "NYC"),)
        back = CapacityChange(0, "NYC", DAY, 0, -1, None)
        recorded(books, shipments_dropped=[(0, bought.id, 1)], capacity=[back])
        refused(books, shipments_dropped=[(0, bought.id, 1)])
        with books.transaction() as transaction:
            assert transaction.shipments(bought.id) == ()
        assert kept.check() == []

    def test_an_order_has_parts_however_often_it_is_decided(self, books) -> None:
        (bolt,) = stocked(books, (key(), 9))
        accepted(books, bought := order(("BOLT", 3)))
        no = 2**31 * PARTS_PER_ATTEMPT
        part = replace(reservation(bought, 1, bolt, 3), no=no, shipment_no=no)
        recorded(books, reservations=[part], shipments=[shipment(bought, no, "NYC")])
        with books.transaction() as transaction:
            assert transaction.reservations(bought.id) == (part,)
            assert transaction.shipments(bought.id) == (shipment(bought, no, "NYC"),)
        ends = [ReservationEnd(0, bought.id, no, Ending.FREED, 3)]
        recorded(books, reservation_ends=ends, shipments_dropped=[(0, bought.id, no)])
        with books.transaction() as transaction:
            assert transaction.shipments(bought.id) == ()
            assert transaction.reservations(bought.id) == (replace(part, freed=3),)

    def test_a_basket_is_set_aside_and_given_back(self, books, kept) -> None:
        (bolt,) = stocked(books, (key(), 9))
        basket = order(("BOLT", 3))
        held = OrderRecord(basket, OrderState.BASKET, (Progress(3, reserved=3),), 1)
        taken = replace(Sourcing(basket, [bolt]).effects(), orders=[held], orders_changed=[])
        with books.transaction() as transaction:
            transaction.record(taken)
        assert kept.check() == []
        recorded(
            books,
            movements=[Movement(bolt, Account.RESERVED, Account.AVAILABLE, 3, Cause.FREE, basket.id)],
            reservation_ends=[ReservationEnd(0, basket.id, 1, Ending.EXPIRED, 3)],
            orders_changed=[replace(held, state=OrderState.CANCELLED, lines=(Progress(3, cancelled=3),))],
        )
        assert kept.check() == []

    def test_a_decision_is_kept_as_it_was_made(self, books) -> None:
        made = replace(decision(order(("BOLT", 3))), wave=new_id(), facts=b"\x00\xff", digest=b"")
        recorded(books, decisions=[made])
        with books.transaction() as transaction:
            assert transaction.decision(made.owner, 1) == made
            assert transaction.decision(made.owner, 2) is None


class TestMessages:
    """Law 5, and what goes along."""

    def test_an_answer_is_on_record_once(self, books) -> None:
        answer = Answer("shop", "key-1", b"hash", 201, "orders/1")
        recorded(books, answers=[answer])
        refused(books, answers=[replace(answer, status=409)])
        recorded(books, answers=[replace(answer, sender="other")])
        with books.transaction() as transaction:
            assert transaction.answer("shop", "key-1") == answer
            assert transaction.answer("shop", "key-2") is None

    def test_a_message_has_its_effect_once(self, books) -> None:
        recorded(books, messages_seen=[("wms", "m1"), ("wms", "m2")])
        refused(books, messages_seen=[("wms", "m3"), ("wms", "m1")])
        with books.transaction() as transaction:
            asked = [("wms", "m1"), ("wms", "m3"), ("erp", "m1")]
            assert transaction.seen(asked) == {("wms", "m1")}

    def test_the_newest_count_mark(self, books) -> None:
        (bolt,) = stocked(books, (key(), 1))
        recorded(books, counts=[CountMark(0, bolt, at(1), None)])
        recorded(books, counts=[CountMark(0, bolt, at(2), 7)])
        with books.transaction() as transaction:
            assert transaction.count_marks([bolt, 17]) == {bolt: CountMark(0, bolt, at(2), 7)}

    def test_an_incident_and_a_contact_come_once(self, books) -> None:
        incident, contact = Incident(new_id(), 0, "short", "count"), Contact(new_id(), {"name": "Ada"})
        recorded(books, incidents=[incident], contacts=[contact])
        refused(books, incidents=[incident])
        refused(books, contacts=[contact])


def everything(books) -> Effects:
    """An Effects value with something in every part, on books that are ready for it."""
    bolt, other = stocked(books, (key(), 9), (key(node="BOS"), 9))
    receipt = expected(books, key("NUT"), 5)
    known, dropped, fresh = order(("BOLT", 3)), order(("NUT", 1)), order(("BOLT", 1))
    accepted(books, known, dropped)
    sourced(books, dropped, receipt.id, positions={receipt.id: receipt.position})
    timer = Timer(0, TimerKind.EXPIRE, new_id(), at(30))
    recorded(books, timers=[timer], todo=[todo(known)])
    effects = Sourcing(known, [bolt], minute=2).effects()
    transfer = Movement(other, Account.AVAILABLE, Account.AVAILABLE, 2, Cause.TRANSFER, new_id(), to_position=bolt)
    return replace(
        effects,
        positions=[Position(key("NAIL").id(), 0, key("NAIL"))],
        movements=[*effects.movements, transfer, into(key("NAIL").id(), 4)],
        reservation_ends=[ReservationEnd(0, dropped.id, 1, Ending.FREED, 1)],
        receipts=[replace(receipt, id=new_id(), reference="PO-2")],
        receipt_changes=[ReceiptChange(0, receipt.id, pledged=-1)],
        shipments_dropped=[(0, dropped.id, 1)],
        milestones=[Milestone(0, known.id, new_id(), 1, "released", at(2), "worker", {"units": 1})],
        count_tasks=[CountTask(0, other, new_id(), 1, "A", new_id(), 1)],
        pick_outcomes=[PickOutcome(0, "NYC", "", missed=1)],
        orders=[received(fresh)],
        returns=[ReturnRecord(0, known.id, Return(new_id(), "R-1", "NYC", at(2), "default", 1), is_new=True)],
        contacts=[Contact(new_id(), {"name": "Ada"})],
        todo=[todo(fresh), todo(fresh, Queue.STOCK)],
        timers=[Timer(0, TimerKind.EXPIRE, new_id(), at(60))],
        timers_dropped=[(0, timer.subject, TimerKind.EXPIRE)],
        counts=[CountMark(0, bolt, at(2), 1)],
        messages_seen=[("wms", "m1")],
        answers=[Answer("shop", "k1", b"h", 201, "r")],
        incidents=[Incident(new_id(), 0, "short", "count", known.id)],
        events=[Event("order.sourced", str(known.id), {"lines": 1}), Event("stock", "BOLT", {}, cell=1)],
        audit=[Audit("worker", "source", str(known.id), {"batch": 1})],
    )


class TestWhole:
    """Law 4: all or nothing."""

    def test_everything_is_recorded(self, books, kept) -> None:
        effects = everything(books)
        before = kept.dump()
        with books.transaction() as transaction:
            claim(transaction)
            transaction.record(effects)
        after = kept.dump()
        assert all(after[table] != before[table] for table in before)

    @pytest.mark.parametrize("step", [step for step in Step if step is not Step.AFTER_COMMIT])
    def test_a_crash_after_any_step_leaves_nothing_behind(self, kept, step) -> None:
        effects = everything(kept.books)
        before = kept.dump()
        with failing(kept.with_failpoint(crash_after(step))) as transaction:
            claim(transaction)
            transaction.record(effects)
        assert kept.dump() == before

    def test_a_crash_after_the_commit_leaves_everything(self, kept) -> None:
        effects = everything(kept.books)
        with failing(kept.with_failpoint(crash_after(Step.AFTER_COMMIT))) as transaction:
            transaction.record(effects)
        assert position(kept.books, key("NAIL").id()).balance(Account.AVAILABLE) == 4

    def test_every_step_is_a_failpoint_once_and_in_order(self, kept) -> None:
        effects = everything(kept.books)
        met: list[str] = []
        with kept.with_failpoint(met.append).transaction() as transaction:
            transaction.record(effects)
        assert met == list(Step)

    def test_a_conflict_that_is_swallowed_keeps_nothing(self, books) -> None:
        (bolt,) = stocked(books, (key(), 3))
        with failing(books, Conflict) as transaction:
            transaction.record(Effects(at=at(1), movements=[into(bolt, 2)]))
            with pytest.raises(Conflict):
                transaction.record(Effects(at=at(1), movements=[into(17, 2)]))
        assert position(books, bolt).balance(Account.AVAILABLE) == 3

    def test_a_late_conflict_takes_back_the_early_steps(self, books, kept) -> None:
        (bolt,) = stocked(books, (key(), 3))
        recorded(books, capacity=[CapacityChange(0, "NYC", DAY, 0, 1, 1)])
        accepted(books, bought := order(("BOLT", 3)))
        before = kept.dump()
        with failing(books, Conflict) as transaction:
            claim(transaction)
            transaction.record(Sourcing(bought, [bolt], limit=1).effects())
        assert kept.dump() == before


def crash_after(step: Step) -> Callable[[str], None]:
    """A failpoint that fails once a step is done."""

    def failpoint(met: str) -> None:
        if met == step:
            raise ZeroDivisionError

    return failpoint


class TestRaces:
    """Law 2 with several threads, each with a transaction of its own."""

    def test_the_last_units_are_sold_once(self, kept) -> None:
        books = kept.books
        (bolt,) = stocked(books, (key(), 7))
        accepted(books, *[order(("BOLT", 1)) for _ in range(12)])
        sold, none_left = SimpleNamespace(count=0), SimpleNamespace(count=0)
        count = threading.Lock()

        def sell() -> None:
            while True:
                with books.transaction() as transaction:
                    taken = claim(transaction, limit=1)
                    if not taken:
                        return
                    left = transaction.positions([bolt], lock=True)[bolt].balance(Account.AVAILABLE)
                    part = bolt if left else None
                    transaction.record(Sourcing(taken[0].order, [part]).effects())
                with count:
                    sold.count += part is not None
                    none_left.count += part is None

        run_together(sell, sell, sell)
        assert (sold.count, none_left.count) == (7, 5)
        assert position(books, bolt).balance(Account.RESERVED) == 7
        assert kept.check() == []

    def test_without_a_lock_nobody_is_refused_while_stock_is_free(self, kept) -> None:
        books = kept.books
        (bolt,) = stocked(books, (key(), 60))

        def sell() -> None:
            for _ in range(20):
                moved = Movement(bolt, Account.AVAILABLE, Account.BLOCKED, 1, Cause.STOCK, new_id())
                recorded(books, movements=[moved])

        run_together(sell, sell, sell)
        assert position(books, bolt).balance(Account.BLOCKED) == 60
        assert kept.check() == []


def run_together(*calls: Callable[[], None]) -> None:
    """Run calls in threads of their own; the first error is raised here."""
    with ThreadPoolExecutor(len(calls)) as threads:
        running = [threads.submit(call) for call in calls]
        for each in running:
            each.result(timeout=60)
