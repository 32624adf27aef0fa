"""The last units under many hands, on PostgreSQL: exactly as many are sold as there are, and nobody is refused before.

Eight workers and five hundred clients: threads with connections of their own, to the server the same as processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from uuid import UUID

import pytest

from poolwise.core.values import Conflict
from poolwise.flows.intake import Rejected, accept
from poolwise.flows.reserve import Reserved
from poolwise.flows.source import source_batch
from tests.conftest import Database
from tests.flows.market import Market, message, on_postgres

WORKERS = 8
CLIENTS = 500
AT_ONCE = 40

pytestmark = pytest.mark.slow


@pytest.fixture
def market(database: Database) -> Iterator[Market]:
    """A market with a connection for every hand."""
    with on_postgres(database, connections=WORKERS + 12) as found:
        yield found
        assert found.findings() == []


def persisted(market: Market, *lines: tuple[str, int]) -> Reserved | Rejected:
    """A client that repeats its request when it is told that others were first."""
    for _ in range(100):
        try:
            return market.set_aside(*lines)
        except Conflict:
            continue
    raise AssertionError("a hundred conflicts in a row")


def asked_by_all(market: Market, *lines: tuple[str, int]) -> list[Reserved | Rejected]:
    """What every client is answered."""
    with ThreadPoolExecutor(AT_ONCE) as clients:
        return list(clients.map(lambda _: persisted(market, *lines), range(CLIENTS)))


def sell(
    market: Market, orders: Sequence[tuple[tuple[str, int], ...]], during: Callable[[], object] = lambda: None
) -> list[UUID]:
    """Orders that clients send while the workers work; their ids in the order given."""
    sent = Event()

    def work() -> None:
        while True:
            was_sent = sent.is_set()
            try:
                sourced = source_batch(market.books, market.desk, 0, market.later(microseconds=1), 7)
            except Conflict:
                continue
            if was_sent and not sourced.decided + sourced.returned:
                return

    def client(number: int) -> UUID:
        asked = message(f"N-{number}", *orders[number], ship_complete=True)
        (outcome,) = accept(market.books, market.counter, [asked], market.later(microseconds=1))
        if number == len(orders) // 2:
            during()
        assert not isinstance(outcome, Rejected)
        return outcome.order

    workers = [Thread(target=work) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    try:
        with ThreadPoolExecutor(AT_ONCE) as clients:
            return list(clients.map(client, range(len(orders))))
    finally:
        sent.set()
        for worker in workers:
            worker.join()


def stocked(market: Market, item: str, *units: int) -> None:
    """Units at the nodes, in their order."""
    for node, count in zip("ABC", units, strict=False):
        market.count(item, node, count)


def test_exactly_as_many_baskets_as_there_are_units(market: Market) -> None:
    stocked(market, "BOLT", 30, 20, 10)
    answers = asked_by_all(market, ("BOLT", 1))
    assert sum(isinstance(answer, Reserved) for answer in answers) == 60
    assert [market.at("BOLT", node).get("available", 0) for node in "ABC"] == [0, 0, 0]


def test_a_basket_of_two_items_is_whole_or_nothing(market: Market) -> None:
    stocked(market, "BOLT", 12, 8)
    stocked(market, "NUT", 10, 5)
    answers = asked_by_all(market, ("BOLT", 1), ("NUT", 1))
    assert sum(isinstance(answer, Reserved) for answer in answers) == 15
    assert sum(market.at("BOLT", node).get("available", 0) for node in "AB") == 5


def test_exactly_as_many_orders_as_there_are_units(market: Market) -> None:
    stocked(market, "BOLT", 30, 20, 10)
    orders = sell(market, [(("BOLT", 1),)] * CLIENTS)
    states = [market.state(order) for order in orders]
    assert (states.count("sourced"), states.count("backordered")) == (60, CLIENTS - 60)


def test_a_new_shelf_that_fills_while_all_are_at_it_is_sold_out(market: Market) -> None:
    stocked(market, "BOLT", 10, 10)
    orders = sell(market, [(("BOLT", 1),)] * CLIENTS, during=lambda: market.count("BOLT", "C", 25))
    assert [market.state(order) for order in orders].count("sourced") == 45


def test_an_order_of_several_lines_is_atomic(market: Market) -> None:
    stocked(market, "BOLT", 20, 20)
    stocked(market, "NUT", 15, 10)
    orders = sell(market, [(("BOLT", 1), ("NUT", 1))] * 120)
    sold = [order for order in orders if market.state(order) == "sourced"]
    assert (len(sold), market.reserved(*orders)) == (25, 50)


def test_ten_over_four_four_and_two_are_sold_once(market: Market) -> None:
    stocked(market, "BOLT", 4, 4, 2)
    orders = sell(market, [(("BOLT", 10),)] * 40)
    (winner,) = [order for order in orders if market.state(order) == "sourced"]
    assert sorted(market.held(winner)) == [("A", 4), ("B", 4), ("C", 2)]


def test_the_same_item_twice_counts_together(market: Market) -> None:
    stocked(market, "BOLT", 4, 3)
    orders = sell(market, [(("BOLT", 1), ("BOLT", 1))] * 40)
    assert [market.state(order) for order in orders].count("sourced") == 3
    assert market.reserved(*orders) == 6


def test_daily_capacity_is_never_exceeded_and_nobody_waits_for_it(database: Database) -> None:
    """Ten a day and node: the days fill one by one, whoever comes."""
    with on_postgres(database, daily_orders=10, connections=WORKERS + 12) as market:
        stocked(market, "BOLT", 500, 500, 500)
        orders = sell(market, [(("BOLT", 1),)] * 200)
        assert [market.state(order) for order in orders].count("sourced") == 200
        assert market.findings() == []
