"""A wave as a story, on both kinds of books: orders wait, are planned together, and each explains itself afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from poolwise.core.catalog import Catalog, Item
from poolwise.core.edition.build import Edition
from poolwise.core.messages import OrderLine, OrderMessage, StockCount
from poolwise.core.network import Lane, Network, Node, Pool, RateBand, RateCard, Zone
from poolwise.core.orders import OrderState
from poolwise.core.policy.evaluate import compile_policy
from poolwise.core.policy.terms import SourcingPolicy
from poolwise.core.sourcing.options import Atlas
from poolwise.core.values import PlanAt, Rate, ServiceLevel
from poolwise.flows.explain import explain_order
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Counter, accept
from poolwise.flows.ports import Books
from poolwise.flows.source import Desk, source_batch
from poolwise.flows.stock import book_counts
from poolwise.flows.tallying import Clerk
from poolwise.flows.wave import run_wave
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.memory import MemoryBooks

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
PRICES = [(2, 5, 6), (7, 19, 20), (8, 15, 18)]


@pytest.fixture(params=["memory", "postgres"])
def books(request: pytest.FixtureRequest) -> Iterator[Books]:
    if request.param == "memory":
        yield MemoryBooks()
        return
    with postgres.connect(request.getfixturevalue("database").url, connections=2) as pool:
        yield PostgresBooks(pool)


class House:
    """Three nodes with one unit each, three orders, and what it costs from each to each."""

    def __init__(self, books: Books, plan: PlanAt) -> None:
        rates = {
            f"{o}-{n}": RateCard(f"{o}-{n}", (RateBand(0, 10**12, fixed=Rate(price)),))
            for o, row in enumerate(PRICES)
            for n, price in enumerate(row)
        }
        network = Network(
            nodes={f"N{n}": Node(f"N{n}") for n in range(3)},
            zones={f"Z{o}": Zone(f"Z{o}") for o in range(3)},
            rates=rates,
            lanes={code: Lane(code, f"N{code[2]}", f"Z{code[0]}", code) for code in rates},
            pools={"web": Pool("web")},
        )
        policy = SourcingPolicy("test", 1, service_levels={"standard": ServiceLevel("standard", plan=plan)})
        self.books = books
        self.atlas_ = Atlas(Edition("house", network, Catalog(items={"CUP": Item("CUP")})), compile_policy(policy))
        ids = Ids(random.Random(7).getrandbits)
        self.desk = Desk(self.atlas_, "test", (0,), ids)
        self.counter = Counter(self.atlas_.edition, policy, ids, "shop")
        counts = [
            StockCount(item="CUP", node=f"N{n}", pool="web", quantity="1", as_of=NOW - timedelta(hours=1))
            for n in range(3)
        ]
        book_counts(books, Clerk(self.atlas_.edition, ids, "test"), counts, NOW)

    def atlas(self, edition: str, policy: str, version: int) -> Atlas:
        """As a library of one edition and one policy."""
        assert (edition, policy, version) == ("house", "test", 1)
        return self.atlas_

    def order_all(self) -> None:
        """Three orders, in sequence."""
        line = OrderLine(item="CUP", quantity="1")
        messages = [OrderMessage(number=f"O{o}", channel="web", zone=f"Z{o}", lines=(line,)) for o in range(3)]
        for minute, message in enumerate(messages):
            accept(self.books, self.counter, [message], NOW + timedelta(minutes=minute))

    def nodes(self) -> dict[str, list[str]]:
        """Which nodes serve each order."""
        with self.books.transaction() as transaction:
            numbered = transaction.order_numbered(["O0", "O1", "O2"])
            return {
                number: [entry.shipment.node for entry in transaction.shipments(order)]
                for number, order in sorted(numbered.items())
            }


LATER = NOW + timedelta(hours=1)


def test_one_by_one_the_first_takes_the_best(books: Books) -> None:
    house = House(books, PlanAt.ONCE)
    house.order_all()
    source_batch(books, house.desk, 0, LATER, 10)
    assert house.nodes() == {"O0": ["N0"], "O1": ["N1"], "O2": ["N2"]}


def test_orders_wait_for_the_wave_and_share_what_is_there(books: Books) -> None:
    house = House(books, PlanAt.WAVE)
    house.order_all()
    assert source_batch(books, house.desk, 0, LATER, 10).decided == 0
    wove = run_wave(books, house.desk, 0, LATER)
    assert (wove.planned, wove.short, wove.returned, wove.gap_ppm) == (3, 0, 0, 0)
    assert house.nodes() == {"O0": ["N2"], "O1": ["N0"], "O2": ["N1"]}
    assert run_wave(books, house.desk, 0, LATER).wave is None


def test_every_order_of_a_wave_recomputes_and_explains_itself(books: Books) -> None:
    house = House(books, PlanAt.WAVE)
    house.order_all()
    run_wave(books, house.desk, 0, LATER)
    with books.transaction() as transaction:
        numbered = transaction.order_numbered(["O0", "O1", "O2"])
    for order in numbered.values():
        recalled, explanation = explain_order(books, house, order)
        assert recalled.same
        chosen = [candidate.node for candidate in explanation.candidates if candidate.taken]
        assert chosen == [shipment.node for shipment in recalled.plan.shipments]


def test_what_a_wave_leaves_short_is_decided_at_once_and_waits_for_stock(books: Books) -> None:
    house = House(books, PlanAt.WAVE)
    house.order_all()
    line = OrderLine(item="CUP", quantity="2")
    accept(books, house.counter, [OrderMessage(number="BIG", channel="web", zone="Z0", lines=(line,))], LATER)
    wove = run_wave(books, house.desk, 0, LATER)
    assert wove.returned == 1
    source_batch(books, house.desk, 0, LATER, 10)
    with books.transaction() as transaction:
        big = transaction.order_numbered(["BIG"])["BIG"]
        assert transaction.orders([big])[big].state == OrderState.BACKORDERED
