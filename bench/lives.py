"""Volume: orders that lived through the flows, written again as often as wanted, under other ids and numbers.

The lives are real: at first some orders are accepted, sourced, released and delivered, or left open, by the flows.
Their rows in the journal and in the tables of orders are then copied by statements in the database, a number of times
each: what takes the flows an hour takes minutes. Balances and versions of the positions go along, every unit that is
taken has been brought by a movement before it, and documents carry the new ids, so that every law of `poolwise check`
holds. Not copied are events, audit, messages, and the capacity of the days on which the shipments left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from random import Random
from typing import Final

import psycopg
from psycopg import sql

from bench.ten_pools import order_message, zone_codes
from poolwise.core.ledger import Cause
from poolwise.core.messages import OrderLine, OrderMessage, ReportKind, ShipmentReport
from poolwise.flows.execute import book_report
from poolwise.flows.intake import Accepted, Counter, accept
from poolwise.flows.source import Desk, source_batch
from poolwise.flows.stock import Outcome
from poolwise.flows.tallying import Clerk
from poolwise.flows.timers import run_timers
from poolwise.store.books import PostgresBooks

AT_ONCE: Final = 500
ROWS_AT_ONCE: Final = 100_000
"""Orders that are written in one go."""

_ORDER: Final = "overlay({} PLACING uuid_send(life.id) FROM position(uuid_send(life.old) IN {}) FOR 16)"
_NUMBER: Final = (
    "overlay({} PLACING convert_to(life.number, 'UTF8') "
    "FROM position(convert_to(life.old_number, 'UTF8') IN {}) FOR length(life.number))"
)


def _document(column: str) -> str:
    """An order as it is stored, with its new id and number in place of the old ones: they are as long."""
    renamed = _NUMBER.format(column, column)
    return _ORDER.format(renamed, column)


TABLES: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "order_number": (
        "order_id",
        {"number": "life.number", "cell": "(crc32(convert_to(life.number, 'UTF8')) % 256)::smallint"},
    ),
    "customer_order": (
        "id",
        {
            "number": "life.number",
            "received_at": "life.at",
            "changed_at": "life.at",
            "document": _document("t.document"),
        },
    ),
    "order_line": ("order_id", {}),
    "reservation": ("owner", {"made_at": "life.at"}),
    "shipment": ("owner", {}),
    "milestone": ("owner", {"told_at": "life.at"}),
    "decision": ("owner", {"at": "life.at", "month": "life.month"}),
    "timer": ("subject", {}),
    "todo": ("order_id", {"demand": _document("t.demand")}),
    "todo_item": ("order_id", {}),
}
"""The tables of a life: the column of the order, and what is not copied as it is."""

COLUMNS: Final = """
SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
# What a life moved, position by position; first comes what it is going to take.
KEEP_LEGS: Final = """
CREATE TEMP TABLE {legs} AS
SELECT cell, position, source, target, quantity, cause, cause_id,
    row_number() OVER (PARTITION BY cell, position ORDER BY version) AS place
FROM movement
WHERE version > 1 AND (cause_id = ANY (%(orders)s) OR cause <> 'reserve') AND at >= %(since)s
UNION ALL
SELECT cell, position, 0, 4, sum(quantity), %(brought)s, %(cause)s, 0
FROM movement
WHERE version > 1 AND cause_id = ANY (%(orders)s) AND cause = 'reserve' AND source = 4 AND at >= %(since)s
GROUP BY cell, position
"""
KEEP_SUMS: Final = """
CREATE TEMP TABLE {sums} AS
SELECT cell, position, count(*) AS movements,
    sum(quantity * ((target = 0)::int - (source = 0)::int)) AS outside,
    sum(quantity * ((target = 4)::int - (source = 4)::int)) AS available,
    sum(quantity * ((target = 5)::int - (source = 5)::int)) AS reserved
FROM {legs}
GROUP BY cell, position
"""
# Ids sort by time, as those of the flows do.
MAKE_LIVES: Final = """
CREATE TEMP TABLE life AS
SELECT k, o.id AS old, o.number AS old_number,
    left(o.number, 1) || lpad((k * %(lives)s + substr(o.number, 2)::bigint)::text, 9, '0') AS number,
    overlay(overlay(md5(o.id::text || k) PLACING lpad(to_hex(%(ms)s + k), 12, '0') FROM 1 FOR 12)
        PLACING '7' || substr(md5(o.id::text), 1, 3) || '8' FROM 13 FOR 5)::uuid AS id,
    %(at)s + k * interval '1 microsecond' AS at, %(month)s AS month
FROM customer_order AS o CROSS JOIN generate_series(%(first)s, %(last)s) AS k
WHERE o.id = ANY (%(orders)s)
"""
WRITE_MOVEMENTS: Final = """
INSERT INTO movement (cell, position, version, month, at, source, target, quantity, cause, cause_id)
SELECT m.cell, m.position, p.version + (g.k - %(first)s) * s.movements + m.place - s.least + 1, %(month)s,
    %(at)s + g.k * interval '1 microsecond', m.source, m.target, m.quantity, m.cause, coalesce(life.id, m.cause_id)
FROM {legs} AS m
JOIN position AS p ON p.cell = m.cell AND p.id = m.position
JOIN (SELECT cell, position, min(place) AS least, count(*) AS movements FROM {legs} GROUP BY cell, position) AS s
    ON s.cell = m.cell AND s.position = m.position
CROSS JOIN generate_series(%(first)s, %(last)s) AS g (k)
LEFT JOIN life ON life.old = m.cause_id AND life.k = g.k
ORDER BY 1, 2, 3
"""
MOVE_POSITIONS: Final = """
UPDATE position AS p
SET version = p.version + s.movements * %(times)s, moved_at = %(at)s + %(last)s * interval '1 microsecond',
    outside = p.outside + s.outside * %(times)s, available = p.available + s.available * %(times)s,
    reserved = p.reserved + s.reserved * %(times)s
FROM {sums} AS s
WHERE p.cell = s.cell AND p.id = s.position
"""


@dataclass(frozen=True, slots=True)
class Shop:
    """Where orders are lived: the books, the counter that takes them in, the desk that decides."""

    books: PostgresBooks
    counter: Counter
    desk: Desk
    items: Sequence[str]

    def orders(self, kind: str, many: int, seed: int, item: str = "") -> Iterator[OrderMessage]:
        """Orders of three lines, or of one unit of an item, with numbers that are all as long."""
        random, zones = Random(seed), zone_codes(1, 0)
        for number in range(many):
            message = order_message(random, f"{kind}{number:09}", random.choice(zones), self.items)
            if item:
                line = OrderLine(item=item, quantity="1", unit_price="9.90")
                message = OrderMessage(channel="web", zone=message.zone, number=message.number, lines=(line,))
            yield message

    def take(self, orders: Iterator[OrderMessage], now: datetime) -> list[Accepted]:
        """Accept orders; they wait to be sourced."""
        accepted: list[Accepted] = []
        while batch := list(islice(orders, AT_ONCE)):
            for outcome in accept(self.books, self.counter, batch, now):
                assert isinstance(outcome, Accepted), outcome
                accepted.append(outcome)
        return accepted

    def source(self, now: datetime) -> int:
        """Source all that waits; how many orders were decided."""
        done = 0
        while decided := source_batch(self.books, self.desk, 0, now, AT_ONCE).decided:
            done += decided
        return done

    def deliver(self, orders: Sequence[Accepted], now: datetime) -> None:
        """Let everything be released, if it is due, and delivered that is reserved for orders."""
        while run_timers(self.books, self.desk, 0, now, AT_ONCE):
            pass
        clerk = Clerk(self.desk.atlas.edition, self.desk.ids, "carrier")
        for order in orders:
            with self.books.transaction() as transaction:
                numbers = [record.shipment.no for record in transaction.shipments(order.order)]
            for no in numbers:
                said = ShipmentReport(
                    id=f"{order.number}-{no}", order=order.number, shipment=no, kind=ReportKind.DELIVERED, at=now
                )
                assert book_report(self.books, clerk, said, now).outcome is Outcome.BOOKED


class Lives:
    """Some orders with all that became of them, ready to be written again. Holds one connection, as the owner."""

    def __init__(
        self, connection: psycopg.Connection[tuple[object, ...]], name: str, orders: Sequence[Accepted], at: datetime
    ) -> None:
        """`orders` lived at an instant, and nothing else moved since then."""
        self._connection, self._orders = connection, [each.order for each in orders]
        self._names = {"legs": sql.Identifier(f"{name}_legs"), "sums": sql.Identifier(f"{name}_sums")}
        self._next = 1
        kept = {"orders": self._orders, "since": at, "brought": Cause.STOCK.value, "cause": self._orders[0]}
        self._run(KEEP_LEGS, kept)
        self._run(KEEP_SUMS)
        counted = connection.execute(sql.SQL("SELECT count(*) FROM {legs}").format(**self._names)).fetchone()
        assert counted is not None
        assert isinstance(counted[0], int)
        self.movements = counted[0]
        """Of all of them once."""

    def write(self, times: int, at: datetime) -> None:
        """Write all of them so many times more."""
        step = max(1, ROWS_AT_ONCE // len(self._orders))
        end = self._next + times
        while self._next < end:
            last = min(self._next + step, end) - 1
            self._write(self._next, last, at)
            self._next = last + 1

    def _write(self, first: int, last: int, at: datetime) -> None:
        values = {"first": first, "last": last, "times": last - first + 1, "at": at, "month": at.date().replace(day=1),
                  "ms": int(at.timestamp() * 1_000), "lives": len(self._orders), "orders": self._orders}  # fmt: skip
        with self._connection.transaction():
            self._run(MAKE_LIVES, values)
            self._connection.execute("ANALYZE life")
            for table, (order, changed) in TABLES.items():
                self._copy(table, {order: "life.id", **changed}, order)
            self._run(WRITE_MOVEMENTS, values)
            self._run(MOVE_POSITIONS, values)
            self._connection.execute("DROP TABLE life")

    def _copy(self, table: str, changed: Mapping[str, str], order: str) -> None:
        names = [str(name) for (name,) in self._connection.execute(COLUMNS, (table,))]
        assert changed.keys() <= set(names)
        targets = sql.SQL(", ").join(map(sql.Identifier, names))
        sources = sql.SQL(", ").join(sql.SQL(changed.get(name, f't."{name}"')) for name in names)
        statement = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} AS t JOIN life ON life.old = t.{} ORDER BY life.k")
        named = sql.Identifier(table)
        self._connection.execute(statement.format(named, targets, sources, named, sql.Identifier(order)))

    def _run(self, statement: str, values: Mapping[str, object] | None = None) -> None:
        self._connection.execute(sql.SQL(statement).format(**self._names), values)
