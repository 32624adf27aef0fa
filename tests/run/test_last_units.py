"""The last units under many hands (law 2): exactly as many are sold as there are, and nobody is refused before.

The real API, eight real workers, each a process, and five hundred clients who all ask at the same moment, each on a
connection of its own.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple
from uuid import UUID

import pytest

from poolwise.core.catalog import Item
from poolwise.core.edition.rows import BandRow, CapacityRow, ItemRow, NodeRow, Row, Section
from poolwise.core.ledger import Account, Position
from poolwise.core.network import CapacityUnit, Lane, Node, RateBand, Slot
from poolwise.core.values import Rate, replace
from poolwise.flows.ports import OrderRecord
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.evidence import check_database
from tests.conftest import data_folder
from tests.flows.market import rows
from tests.run.works import PATIENCE_S, POLL_S, Works

WORKERS = 8
CLIENTS = 500
ITEMS = tuple(f"ITEM-{number}" for number in range(12))
BUSY = ("D", "E", "F")
"""Nodes that send thirty orders a day."""

pytestmark = pytest.mark.slow
numbers = count(1)
items = iter(ITEMS)


def sections() -> list[tuple[Section, Row]]:
    """The market's three nodes, three busy ones, and an item for every story."""
    found = rows()
    found += [(Section.ITEMS, ItemRow(Item(code, weight_ug=1_000_000_000))) for code in ITEMS]
    found.append((Section.RATES, BandRow("far", RateBand(0, 10**12, fixed=Rate(30)))))
    for node in BUSY:
        found += [
            (Section.NODES, NodeRow(Node(node))),
            (Section.CAPACITIES, CapacityRow(node, 0, Slot(CapacityUnit.ORDERS, 30))),
            (Section.LANES, Lane(f"{node}-Z", node, "Z", "far", distance_km=900)),
        ]
    return found


class Answer(NamedTuple):
    """What a client is answered."""

    status: int
    body: dict[str, object]


Asked = tuple[str, object]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Clients of a works, and what became of what they asked for."""

    works: Works
    books: PostgresBooks
    pool: postgres.Pool
    repeated: Counter[object] = field(default_factory=Counter)

    def stocked(self, item: str, nodes: str, *units: int) -> None:
        """Units at nodes, in their order."""
        asyncio.run(self._all([(self.count(item, node, n)) for node, n in zip(nodes, units, strict=True)]))

    def count(self, item: str, node: str, units: int) -> Asked:
        """What a node says that counts."""
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        said = {"item": item, "node": node, "pool": "P", "quantity": str(units), "as_of": at}
        return "/v1/stock/counts", {"counts": [said]}

    def all_order(self, *lines: tuple[str, int], also: Asked | None = None) -> list[OrderRecord]:
        """Every client orders the same, all at once; the orders once everything is decided."""
        asked = [("/v1/orders", {**basket(*lines), "number": f"N-{next(numbers)}"}) for _ in range(CLIENTS)]
        if also is not None:
            asked.insert(CLIENTS // 2, also)
        answers = asyncio.run(self._all(asked))
        assert {answer.status for answer in answers} <= {200, 201, 202}
        self.works.work_off()
        ids = [UUID(str(answer.body["id"])) for answer in answers if "id" in answer.body]
        with self.books.transaction() as transaction:
            records = transaction.orders(ids)
        assert len(records) == CLIENTS
        return list(records.values())

    def all_reserve(self, *lines: tuple[str, int]) -> tuple[int, int]:
        """Every client sets the same aside, all at once; how many could, and how many were refused for want of it."""
        asked = [("/v1/reservations", {**basket(*lines), "expires_in_seconds": 600})] * CLIENTS
        answers = asyncio.run(self._all(asked))
        made = [answer for answer in answers if answer.status == 201]
        refused = [answer.body for answer in answers if answer.status == 409]
        assert len(made) + len(refused) == CLIENTS
        for refusal in refused:
            assert refusal["code"] == "not_available"
            assert str(refusal["detail"]).endswith("cannot be set aside: inventory")
        return len(made), len(refused)

    async def _all(self, asked: list[Asked]) -> list[Answer]:
        """Everybody connects, and only then does everybody ask."""
        connected = 0
        go = asyncio.Event()

        async def client(path: str, body: object) -> Answer:
            nonlocal connected
            connection = await self._connect()
            connected += 1
            if connected == len(asked):
                go.set()
            await go.wait()
            return await self._persisted(connection, path, body)

        async with asyncio.timeout(PATIENCE_S):
            return list(await asyncio.gather(*(client(*each) for each in asked)))

    async def _connect(self) -> Connection:
        return await asyncio.open_connection(self.works.settings.host, self.works.settings.port)

    async def _persisted(self, connection: Connection, path: str, body: object) -> Answer:
        """The answer; who is told that others were first, or that many wait, asks again under the same key."""
        reader, writer = connection
        content = json.dumps(body)
        request = (
            f"POST {path} HTTP/1.1\r\nHost: {self.works.settings.host}\r\n"
            f"Authorization: Bearer {self.works.token}\r\nIdempotency-Key: {secrets.token_hex(8)}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n{content}"
        )
        while True:
            writer.write(request.encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].split()[0])
            answer = Answer(int(head.split()[1]), json.loads(await reader.readexactly(length)))
            if answer.status not in (409, 429, 503) or answer.body["code"] == "not_available":
                writer.close()
                return answer
            self.repeated[answer.body["code"]] += 1
            await asyncio.sleep(POLL_S)

    def held(self, order: OrderRecord) -> list[tuple[str, str, int]]:
        """Item, node and open units of what is set aside for an order."""
        with self.books.transaction() as transaction:
            held = [part for part in transaction.reservations(order.order.id) if part.open]
            places = transaction.positions([part.position for part in held])
        return sorted((places[p.position].key.item, places[p.position].key.node, p.open) for p in held)

    def positions(self, item: str) -> list[Position]:
        """Where an item is."""
        with self.books.transaction() as transaction:
            return list(transaction.positions_of([item]).values())

    def units(self, item: str, account: Account) -> int:
        """Units of an item in an account, everywhere."""
        return sum(position.balance(account) for position in self.positions(item))


def basket(*lines: tuple[str, int]) -> dict[str, object]:
    """What is asked for: all of it or nothing."""
    wanted = [{"item": item, "quantity": str(quantity)} for item, quantity in lines]
    return {"channel": "web", "zone": "Z", "ship_complete": True, "lines": wanted}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    """API and workers, on a server of their own."""
    with data_folder(tmp_path_factory) as folder:
        works = Works(EmbeddedServer(folder, durable=False), 1, sections())
        try:
            works.settings = replace(works.settings, idle_ms=200, batch=500)
            works.start_api()
            for _ in range(WORKERS):
                works.start_worker()
            with postgres.connect(works.settings.database_url, connections=3) as pool:
                yield Crowd(works, PostgresBooks(pool), pool)
        finally:
            works.close()


@pytest.fixture
def crowd(running: Crowd) -> Iterator[Crowd]:
    """A crowd; afterwards nobody has died and every law holds."""
    yield running
    print(f"asked again: {running.repeated}")
    assert len(running.works.processes) == 1 + WORKERS
    assert all(process.is_alive() for process in running.works.processes)
    assert check_database(running.pool, (0,), datetime.now(UTC), full=True).findings == ()


@pytest.fixture
def item() -> str:
    """An item nobody has asked for."""
    return next(items)


def sold(orders: list[OrderRecord]) -> list[OrderRecord]:
    """The orders that got all they wanted; the others got nothing."""
    assert {order.state.value for order in orders} <= {"sourced", "backordered"}
    return [order for order in orders if order.state == "sourced"]


def test_one_unit_is_set_aside_once(crowd: Crowd, item: str) -> None:
    crowd.stocked(item, "A", 1)
    assert crowd.all_reserve((item, 1)) == (1, CLIENTS - 1)
    (position,) = crowd.positions(item)
    assert sum(position.balances) == 0
    assert (position.balance(Account.AVAILABLE), position.balance(Account.RESERVED)) == (0, 1)


def test_exactly_as_many_orders_as_there_are_units(crowd: Crowd, item: str) -> None:
    crowd.stocked(item, "ABC", 30, 20, 10)
    assert len(sold(crowd.all_order((item, 1)))) == 60


def test_a_new_shelf_that_fills_while_all_are_at_it_is_sold_out(crowd: Crowd, item: str) -> None:
    crowd.stocked(item, "AB", 10, 10)
    orders = crowd.all_order((item, 1), also=crowd.count(item, "C", 25))
    assert len(sold(orders)) == 45


def test_an_order_of_several_lines_is_atomic(crowd: Crowd) -> None:
    bolt, nut = next(items), next(items)
    crowd.stocked(bolt, "AB", 20, 20)
    crowd.stocked(nut, "AB", 15, 10)
    orders = crowd.all_order((bolt, 1), (nut, 1))
    for order in orders:
        whole = [bolt, nut] if order.state == "sourced" else []
        assert [of for of, _, _ in crowd.held(order)] == sorted(whole)
    assert len(sold(orders)) == 25


def test_ten_over_four_four_and_two_are_sold_once(crowd: Crowd, item: str) -> None:
    crowd.stocked(item, "ABC", 4, 4, 2)
    (winner,) = sold(crowd.all_order((item, 10)))
    assert crowd.held(winner) == [(item, "A", 4), (item, "B", 4), (item, "C", 2)]


def test_the_same_item_twice_counts_together(crowd: Crowd, item: str) -> None:
    crowd.stocked(item, "AB", 4, 3)
    assert len(sold(crowd.all_order((item, 1), (item, 1)))) == 3
    assert crowd.units(item, Account.RESERVED) == 6


def test_daily_capacity_is_never_exceeded_and_nobody_waits_for_it(crowd: Crowd, item: str) -> None:
    """Thirty a day and node: the days fill one by one, whoever comes."""
    crowd.stocked(item, "DEF", 200, 150, 150)
    assert len(sold(crowd.all_order((item, 1)))) == CLIENTS
