"""The contract of the queues and timers of the books: one suite, run on memory and on PostgreSQL."""

from __future__ import annotations

from poolwise.core.values import replace
from poolwise.flows.ports import (
    Effects,
    Queue,
    Timer,
    TimerKind,
)
from tests.store.contract import (
    all_of,
    at,
    claim,
    failing,
    new_id,
    order,
    recorded,
    refused,
    todo,
)


class TestQueues:
    """Work is claimed in order, once, and comes back when its transaction fails."""

    def claimed(self, books, limit: int = 500, queue: Queue = Queue.ONCE, cell: int = 0) -> list[str]:
        """Numbers of the orders that are claimed."""
        with books.transaction() as transaction:
            return [todo.order.number for todo in claim(transaction, cell, queue, limit)]

    def test_urgent_before_oldest(self, books) -> None:
        waits = [order(("BOLT", 1), number=number) for number in "abc"]
        work = [todo(waits[0], minute=2), todo(waits[1], minute=1), todo(waits[2], rank=5, minute=3)]
        recorded(books, todo=work)
        assert self.claimed(books, 2) == ["c", "b"]
        assert self.claimed(books) == ["a"]
        assert self.claimed(books) == []

    def test_a_demand_comes_back_as_it_was_queued(self, books) -> None:
        waiting = replace(todo(order(("BOLT", 4), ("NUT", 2))), open=((2, 1),), attempt=3, returns=1, rules="r")
        recorded(books, todo=[waiting])
        with books.transaction() as transaction:
            assert claim(transaction) == (waiting,)

    def test_each_cell_and_queue_has_its_own_work(self, books) -> None:
        recorded(books, todo=[todo(order(("BOLT", 1), number="a")), todo(order(("BOLT", 1), cell=1, number="b"))])
        recorded(books, todo=[todo(order(("BOLT", 1), number="c"), Queue.WAVE)])
        assert self.claimed(books, cell=1) == ["b"]
        assert self.claimed(books, queue=Queue.WAVE) == ["c"]
        assert self.claimed(books) == ["a"]

    def test_who_waits_for_stock_anew_waits_for_what_the_new_demand_says_at_the_old_place(self, books) -> None:
        """Found by the simulator: PostgreSQL kept the old demand, memory the new place."""
        asked = order(("BOLT", 1), ("NUT", 1))
        first = replace(todo(asked, Queue.STOCK, minute=1), open=((1, 1),), attempt=2, rules="old")
        second = replace(todo(asked, Queue.STOCK, minute=3), open=((2, 1),), attempt=3, rules="new")
        recorded(books, todo=[first])
        recorded(books, todo=[second])
        with books.transaction() as transaction:
            assert transaction.waiting(all_of("BOLT"), 9) == ()
            assert transaction.claim(0, Queue.STOCK, at(9), 9, "new") == ()
            assert transaction.waiting(all_of("NUT"), 9) == (replace(second, since=at(1)),)

    def test_what_begins_later_is_not_claimed_yet(self, books) -> None:
        recorded(books, todo=[todo(order(("BOLT", 1), number="later"), rank=1, minute=5), todo(order(("BOLT", 1)))])
        with books.transaction() as transaction:
            taken = transaction.claim(0, Queue.ONCE, at(4), 9)
        assert len(taken) == 1
        assert self.claimed(books) == ["later"]

    def test_a_large_order_is_claimed_alone(self, books) -> None:
        large = order(*[("BOLT", 1)] * 9, number="large")
        small = [order(("BOLT", 1), number=number) for number in "abc"]
        recorded(
            books, todo=[todo(small[0]), todo(large, minute=1), todo(small[1], minute=2), todo(small[2], minute=3)]
        )
        assert self.claimed(books) == ["a", "b", "c"]
        recorded(books, todo=[todo(small[0], minute=4)])
        assert self.claimed(books) == ["large"]
        assert self.claimed(books) == ["a"]

    def test_a_claim_that_fails_gives_its_work_back(self, books) -> None:
        recorded(books, todo=[todo(order(("BOLT", 1), number="a")), todo(order(("BOLT", 1), number="b"))])
        with failing(books) as transaction:
            claim(transaction, limit=1)
            raise ZeroDivisionError
        assert self.claimed(books) == ["a", "b"]

    def test_the_same_demand_is_queued_once(self, books) -> None:
        recorded(books, todo=[waiting := todo(order(("BOLT", 1)))])
        refused(books, todo=[waiting])

    def test_work_can_be_put_back_where_it_was(self, books) -> None:
        recorded(books, todo=[waiting := todo(order(("BOLT", 1), number="a"))])
        with books.transaction() as transaction:
            claim(transaction)
            transaction.record(Effects(at=at(1), todo=[waiting]))
        assert self.claimed(books) == ["a"]

    def test_demand_that_waits_for_an_item_oldest_first(self, books) -> None:
        waits = [todo(order(*lines), Queue.STOCK, minute=minute) for minute, lines in self.DEMANDS]
        recorded(books, todo=waits)
        with books.transaction() as transaction:
            first, second, third = (transaction.waiting(all_of("NUT", "BOLT"), 1) for _ in range(3))
        assert [first, second, third] == [(waits[1], waits[0]), (waits[2],), ()]

    def test_demand_that_waits_behind_another(self, books) -> None:
        orders = [order(("BOLT", 1)), order(("BOLT", 1)), order(("BOLT", 1), ("NUT", 1))]
        waits = [todo(one, Queue.STOCK, minute=1) for one in orders]
        recorded(books, todo=waits)
        with books.transaction() as transaction:
            assert transaction.waiting({"BOLT": waits[1].age, "NUT": waits[2].age}, 9) == (waits[2],)
            assert transaction.waiting({"BOLT": waits[0].age}, 9) == (waits[1],)

    DEMANDS = (
        (2, [("BOLT", 1), ("NUT", 1)]),
        (1, [("NUT", 1)]),
        (3, [("BOLT", 1)]),
        (0, [("NAIL", 1)]),
    )

    def test_only_open_lines_wait(self, books) -> None:
        waiting = replace(todo(order(("BOLT", 1), ("NUT", 1)), Queue.STOCK), open=((2, 1),))
        recorded(books, todo=[waiting])
        with books.transaction() as transaction:
            assert transaction.waiting(all_of("BOLT"), 9) == ()
            assert transaction.waiting(all_of("NUT"), 9) == (waiting,)
        assert self.claimed(books, queue=Queue.STOCK) == []

    def test_waiting_that_fails_gives_its_demand_back(self, books) -> None:
        recorded(books, todo=[waiting := todo(order(("BOLT", 1)), Queue.STOCK)])
        with failing(books) as transaction:
            transaction.waiting(all_of("BOLT"), 9)
            claim(transaction, queue=Queue.STOCK)
            raise ZeroDivisionError
        with books.transaction() as transaction:
            assert claim(transaction, queue=Queue.STOCK) == (waiting,)
            assert transaction.waiting(all_of("BOLT"), 9) == ()

    def test_who_was_left_short_under_other_rules_looks_again_oldest_first(self, books) -> None:
        ruled = enumerate(("old", "new", "older", "old", "new", "old", "older"))
        waits = [replace(todo(order(("BOLT", 1)), Queue.STOCK, minute=9 - n), rules=rules) for n, rules in ruled]
        elsewhere = replace(todo(order(("NUT", 1), cell=1), Queue.STOCK), rules="old")
        recorded(books, todo=[*waits, elsewhere])
        with books.transaction() as transaction:
            found = [claim(transaction, queue=Queue.STOCK, limit=limit, rules="new") for limit in (1, 3, 9, 9)]
            assert found == [(waits[6],), (waits[5], waits[3], waits[2]), (waits[0],), ()]
            assert transaction.waiting(all_of("BOLT", "NUT"), 9) == (elsewhere, waits[4], waits[1])

    def test_who_waits_for_a_day_looks_again_once_it_has_begun(self, books) -> None:
        days = [None, at(60), at(3_000), at(61), at(60)]
        waits = [
            replace(todo(order(("BOLT", 1)), Queue.STOCK, minute=9 - n), again_at=day) for n, day in enumerate(days)
        ]
        recorded(books, todo=waits)
        with books.transaction() as transaction:
            looks = [transaction.claim(0, Queue.STOCK, at(minute), 9) for minute in (59, 60, 60, 2_999, 3_000)]
        assert looks == [(), (waits[4], waits[1]), (), (waits[3],), (waits[2],)]

    def test_who_must_look_again_for_two_reasons_is_claimed_once(self, books) -> None:
        recorded(books, todo=[waiting := replace(todo(order(("BOLT", 1)), Queue.STOCK), again_at=at(1), rules="old")])
        with failing(books) as transaction:
            assert claim(transaction, queue=Queue.STOCK) == (waiting,)
            raise ZeroDivisionError
        with books.transaction() as transaction:
            assert [claim(transaction, queue=Queue.STOCK) for _ in range(2)] == [(waiting,), ()]

    def test_a_large_order_looks_again_alone(self, books) -> None:
        large = todo(order(*[("BOLT", 1)] * 9), Queue.STOCK, minute=1)
        small = [todo(order(("BOLT", 1)), Queue.STOCK, minute=minute) for minute in (0, 2)]
        recorded(books, todo=[large, *small])
        with books.transaction() as transaction:
            looks = [claim(transaction, queue=Queue.STOCK) for _ in range(3)]
        assert looks == [tuple(small), (large,), ()]

    def test_timers_are_due_in_order_and_can_be_dropped(self, books) -> None:
        timers = [Timer(0, TimerKind.EXPIRE, new_id(), at(minute)) for minute in (3, 1, 2, 9)]
        recorded(books, timers=timers)
        recorded(books, timers_dropped=[(0, timers[2].subject, TimerKind.EXPIRE), (0, new_id(), TimerKind.EXPIRE)])
        with books.transaction() as transaction:
            assert transaction.due(0, at(5), 1) == (timers[1],)
            assert transaction.due(0, at(5), 9) == (timers[0],)
            assert transaction.due(1, at(99), 9) == ()
        with books.transaction() as transaction:
            assert transaction.due(0, at(99), 9) == (timers[3],)

    def test_a_timer_can_be_set_again(self, books) -> None:
        timer = Timer(0, TimerKind.EXPIRE, new_id(), at(3))
        recorded(books, timers=[timer])
        refused(books, timers=[replace(timer, due_at=at(4))])
        later = replace(timer, due_at=at(7))
        recorded(books, timers_dropped=[(0, timer.subject, TimerKind.EXPIRE)], timers=[later])
        with books.transaction() as transaction:
            assert transaction.due(0, at(5), 9) == ()
            assert transaction.due(0, at(7), 9) == (later,)
