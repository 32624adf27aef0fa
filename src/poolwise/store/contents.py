"""Streams what the books hold, from PostgreSQL or from memory; a snapshot does not see what is written meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow

from poolwise.core.counting import owner_of
from poolwise.core.ledger import Account, Position, PositionKey, Receipt
from poolwise.core.orders import Order, OrderState
from poolwise.flows.contents import Inbound, Shelved
from poolwise.flows.ports import Contact, CountMark
from poolwise.store.books import translated
from poolwise.store.codec import bucket, unpack_order
from poolwise.store.memory import MemoryBooks
from poolwise.store.postgres import Pool
from poolwise.store.shelves import Shelves
from poolwise.store.snapshot import OWING

ROWS_AT_ONCE: Final = 5_000
NOT_EXPORTED: Final = (OrderState.BASKET, OrderState.CANCELLED)

READ_STOCK: Final = """
SELECT p.id, p.cell, p.item, p.node, p.pool, p.lot, p.expires_on, p.version, p.moved_at,
    ARRAY[p.outside, p.expected, p.pledged, p.in_transit, p.available, p.reserved, p.blocked],
    greatest(m.as_of, s.as_of), greatest(m.sequence, nullif(s.sequence, -1))
FROM position AS p
LEFT JOIN count_mark AS m ON m.cell = p.cell AND m.position = p.id
LEFT JOIN (
    SELECT k.cell, u.position, k.as_ofs[u.which] AS as_of, k.sequences[u.which] AS sequence
    FROM count_sheet AS k
    CROSS JOIN LATERAL unnest(k.positions, k.which) AS u (position, which)
    WHERE k.cell = ANY (%b::smallint[])
) AS s ON s.cell = p.cell AND s.position = p.id
WHERE p.cell = ANY (%b::smallint[])
ORDER BY p.item, p.node, p.pool, p.lot
"""
READ_RECEIPTS: Final = """
SELECT p.item, p.node, p.pool, p.lot, p.moved_at,
    r.id, r.cell, r.position, r.reference, r.due_on, r.quantity, r.pledged, r.arrived, r.cancelled, r.announced,
    r.sequence
FROM receipt AS r
JOIN position AS p ON p.cell = r.cell AND p.id = r.position
WHERE r.cell = ANY (%(cells)b::smallint[])
ORDER BY r.reference, p.item, p.node, p.pool, p.lot
"""
READ_ORDERS: Final = """
SELECT document FROM customer_order
WHERE cell = ANY (%b::smallint[]) AND state <> ALL (%b::text[])
ORDER BY received_at, number
"""
READ_CONTACTS: Final = """
SELECT id, data FROM contact WHERE cell = ANY (%b::smallint[]) AND id = ANY (%b::uuid[])
"""


class PostgresContents:
    """flows.contents.Contents on the database behind `pool`, for the `cells` in use."""

    def __init__(self, pool: Pool, cells: Sequence[int] = (0,)) -> None:
        self._pool = pool
        self._cells = sorted(cells)

    @contextmanager
    def snapshot(self) -> Iterator[PostgresSnapshot]:
        """See flows.contents."""
        with translated(), self._pool.connection() as connection:
            before = connection.isolation_level
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            try:
                with connection.transaction():
                    yield PostgresSnapshot(connection, self._cells)
            finally:
                connection.isolation_level = before


class PostgresSnapshot:
    """flows.contents.Snapshot inside one read-only view of the database."""

    def __init__(self, connection: Connection[TupleRow], cells: Sequence[int]) -> None:
        self._connection = connection
        self._cells = list(cells)

    def _stream(self, name: str, statement: str, parameters: object) -> Iterator[TupleRow]:
        """Rows of a statement through a cursor on the server, some at a time."""
        with self._connection.cursor(name, binary=True) as cursor:
            cursor.itersize = ROWS_AT_ONCE
            cursor.execute(statement, parameters)  # type: ignore[arg-type]  # a sequence or a mapping
            yield from cursor

    def stock(self) -> Iterator[Shelved]:
        """See flows.contents."""
        for row in self._stream("stock", READ_STOCK, (self._cells, self._cells)):
            id_, cell, item, node, pool, lot, expires_on, version, moved_at, balances, as_of, sequence = row
            key = PositionKey(item, node, pool, lot)
            position = Position(id_, cell, key, tuple(balances), version, expires_on)
            yield Shelved(position, moved_at, None if as_of is None else CountMark(cell, id_, as_of, sequence))

    def owing(self) -> frozenset[PositionKey]:
        """See flows.contents."""
        with self._connection.cursor(binary=True) as cursor:
            rows = cursor.execute(OWING, (self._cells,)).fetchall()
        owners = (owner_of(PositionKey(*key)) for _, *key in rows)
        return frozenset(owner for owner in owners if owner is not None)

    def receipts(self) -> Iterator[Inbound]:
        """See flows.contents."""
        for item, node, pool, lot, moved_at, *rest in self._stream("receipts", READ_RECEIPTS, {"cells": self._cells}):
            yield Inbound(PositionKey(item, node, pool, lot), Receipt(*rest), moved_at)

    def orders(self) -> Iterator[tuple[Order, Contact | None]]:
        """See flows.contents."""
        left_out = [state.value for state in NOT_EXPORTED]
        some: list[Order] = []
        for (document,) in self._stream("orders", READ_ORDERS, (self._cells, left_out)):
            some.append(unpack_order(document))
            if len(some) == ROWS_AT_ONCE:
                yield from self._with_contacts(some)
                some = []
        yield from self._with_contacts(some)

    def _with_contacts(self, orders: Sequence[Order]) -> Iterator[tuple[Order, Contact | None]]:
        ids = sorted({order.contact for order in orders if order.contact is not None})
        cells = sorted({bucket(id_.bytes) for id_ in ids})
        with self._connection.cursor(binary=True) as cursor:
            rows = cursor.execute(READ_CONTACTS, (cells, ids)).fetchall() if ids else []
        contacts: dict[UUID | None, Contact] = {id_: Contact(id_, data) for id_, data in rows}
        for order in orders:
            yield order, contacts.get(order.contact)


class MemoryContents:
    """flows.contents.Contents of memory books."""

    def __init__(self, books: MemoryBooks) -> None:
        self._books = books

    @contextmanager
    def snapshot(self) -> Iterator[MemorySnapshot]:
        """See flows.contents."""
        with self._books.transaction():
            yield MemorySnapshot(self._books.shelves)


class MemorySnapshot:
    """flows.contents.Snapshot of the shelves."""

    def __init__(self, shelves: Shelves) -> None:
        self._shelves = shelves

    def stock(self) -> Iterator[Shelved]:
        """See flows.contents."""
        for position in sorted(self._shelves.positions.values(), key=lambda position: position.key):
            yield Shelved(position, self._shelves.moved_at[position.id], self._shelves.marks.get(position.id))

    def owing(self) -> frozenset[PositionKey]:
        """See flows.contents."""
        owing = (p.key for p in self._shelves.positions.values() if p.balance(Account.IN_TRANSIT))
        owners = (owner_of(key) for key in owing)
        return frozenset(owner for owner in owners if owner is not None)

    def receipts(self) -> Iterator[Inbound]:
        """See flows.contents."""
        found = [
            (self._shelves.positions[receipt.position].key, receipt) for receipt in self._shelves.receipts.values()
        ]
        for key, receipt in sorted(found, key=lambda pair: (pair[1].reference, pair[0])):
            yield Inbound(key, receipt, self._shelves.moved_at[receipt.position])

    def orders(self) -> Iterator[tuple[Order, Contact | None]]:
        """See flows.contents."""
        kept = [record.order for record in self._shelves.orders.values() if record.state not in NOT_EXPORTED]
        for order in sorted(kept, key=lambda order: (order.received_at, order.number)):
            yield order, None if order.contact is None else self._shelves.contacts.get(order.contact)
