"""A change and whoever works on the order at the same time, on PostgreSQL: one is first, and nothing is lost."""

from __future__ import annotations

from threading import Barrier, Thread

from poolwise.flows.change import Changed
from poolwise.flows.stock import Outcome
from tests.conftest import Database
from tests.flows.market import on_postgres
from tests.flows.test_change import parts


def test_a_cancel_and_a_pick_at_the_same_time_have_one_winner(database: Database) -> None:
    with on_postgres(database) as market:
        market.count("BOLT", "A", 99)
        for n in range(12):
            number = f"race-{n}"
            order = market.order(number, ("BOLT", 2))
            market.work()
            market.release()
            start, told = Barrier(2), {}

            def at_once(name: str, what, start=start, told=told) -> None:
                start.wait()
                told[name] = what()

            threads = [
                Thread(target=at_once, args=("pick", lambda number=number: market.report(number, "picked"))),
                Thread(target=at_once, args=("cancel", lambda number=number: market.cancel(number))),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            cancelled = isinstance(told["cancel"], Changed)
            assert told["pick"] is (Outcome.CANCELLED if cancelled else Outcome.BOOKED), told
            assert parts(market, order) == ({"cancelled": 2} if cancelled else {"released": 2})
        assert market.findings() == []


def test_a_cancel_and_a_decision_at_the_same_time_lose_nothing(database: Database) -> None:
    with on_postgres(database) as market:
        market.count("BOLT", "A", 90)
        for n in range(12):
            order = market.order(f"race-{n}", ("BOLT", 3), ("BOLT", 1))
            start = Barrier(2)

            def decide(start=start) -> None:
                start.wait()
                market.work()

            thread = Thread(target=decide)
            thread.start()
            start.wait()
            assert isinstance(market.cancel(f"race-{n}", (1, 2)), Changed)
            thread.join()
            market.work()
            assert (parts(market, order), parts(market, order, 2)) == ({"reserved": 1, "cancelled": 2}, {"reserved": 1})
        assert market.findings() == []
