"""What the law checks look at in PostgreSQL: one repeatable-read snapshot, and only what is not proven already.

After a check without findings the balances of every position are kept as proven, with the version they were proven at,
and the time of the check. The next one replays the movements that came after that version and looks at what was
written after that time (less OVERLAP, for transactions that were still open). Its cost does not grow with history.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final
from uuid import UUID

from psycopg import Connection, Cursor
from psycopg.errors import SerializationFailure
from psycopg.rows import TupleRow

from poolwise.core.counting import debt_id
from poolwise.core.ledger import Account, Reservation
from poolwise.core.orders import Order
from poolwise.core.returns import Return
from poolwise.core.sourcing.record import positions_in
from poolwise.core.values import Json
from poolwise.flows.ports import Decision
from poolwise.store import postgres
from poolwise.store.arrays import array
from poolwise.store.books import PostgresTransaction, reservation_of
from poolwise.store.check import (
    PERSONAL,
    DecisionRow,
    Finding,
    HeldRow,
    MovementRow,
    OpenReservations,
    OrderRow,
    PositionRow,
    ReceiptRow,
    ReservationRow,
    ReturnsRow,
    SlotRow,
    Stored,
    StoredPlan,
    Verify,
    findings,
)
from poolwise.store.codec import mentions, unpack_events, unpack_order
from poolwise.store.journal import first_of_month
from poolwise.store.places import Places
from poolwise.store.postgres import Pool
from poolwise.store.steps import never

BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
OVERLAP: Final = timedelta(hours=1)
DAYS_OF_CAPACITY: Final = timedelta(days=31)
ROWS_AT_ONCE: Final = 5_000
POSITIONS_AT_ONCE: Final = 1_000
ORDERS_AT_ONCE: Final = 1_000

SNAPSHOT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
TAKE_TIME: Final = "SET LOCAL statement_timeout = '1h'"
READ_PROVEN_UNTIL: Final = "SELECT min(at), count(*) FROM verified_until WHERE cell = ANY (%b::smallint[])"


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found. `since` is the time from which it looked; BEGINNING means everything."""

    findings: tuple[Finding, ...]
    since: datetime
    positions: int
    movements: int
    orders: int


def check_database(
    pool: Pool, cells: Sequence[int], at: datetime, *, full: bool = False, verify: Verify | None = None
) -> Report:
    """Check the laws on a live database, on one snapshot; if nothing is off, keep that as proven.

    `at` is the time of the check by the caller's clock. `full` looks at everything instead of what changed since.
    """
    report: Report | None = None
    try:
        with postgres.transaction(pool) as connection:
            connection.execute(SNAPSHOT)
            connection.execute(TAKE_TIME)
            since = BEGINNING if full else _proven_until(connection, cells)
            evidence = PostgresEvidence(connection, cells, since)
            found = findings(evidence, verify)
            report = Report(tuple(found), since, **evidence.seen)
            if not found:
                connection.execute(KEEP_POSITIONS, (list(cells),))
                connection.execute(KEEP_TIME, {"cells": list(cells), "at": at})
    except SerializationFailure:
        # Another check has kept the same at the same time; what was found here stands.
        assert report is not None, "only what is written can collide"
    return report


def _proven_until(connection: Connection[TupleRow], cells: Sequence[int]) -> datetime:
    row = connection.execute(READ_PROVEN_UNTIL, (list(cells),)).fetchone()
    assert row is not None, "an aggregate has a row"
    until, proven = row
    return until - OVERLAP if proven == len(set(cells)) else BEGINNING


KEEP_POSITIONS: Final = """
INSERT INTO verified_position (cell, position, version, outside, expected, pledged, in_transit, available, reserved,
    blocked, month)
SELECT p.cell, p.id, p.version, p.outside, p.expected, p.pledged, p.in_transit, p.available, p.reserved, p.blocked,
    date_trunc('month', p.moved_at AT TIME ZONE 'UTC')::date
FROM position AS p
LEFT JOIN verified_position AS v ON v.cell = p.cell AND v.position = p.id
WHERE p.cell = ANY (%b::smallint[]) AND v.version IS DISTINCT FROM p.version
ON CONFLICT (cell, position) DO UPDATE
SET version = excluded.version, outside = excluded.outside, expected = excluded.expected, pledged = excluded.pledged,
    in_transit = excluded.in_transit, available = excluded.available, reserved = excluded.reserved,
    blocked = excluded.blocked, month = excluded.month
"""
KEEP_TIME: Final = """
INSERT INTO verified_until (cell, at)
SELECT c.cell, %(at)b FROM unnest(%(cells)b::smallint[]) AS c (cell)
ON CONFLICT (cell) DO UPDATE SET at = excluded.at
"""


class PostgresEvidence:
    """One snapshot of the database: that of the transaction the connection is in."""

    def __init__(self, connection: Connection[TupleRow], cells: Sequence[int], since: datetime) -> None:
        self._connection = connection
        self._cells = sorted(cells)
        self._since = since
        self._full = since == BEGINNING
        self._asked = {"cells": self._cells, "since": since, "month": first_of_month(since)}
        self._names = count(1)
        self.seen = {"positions": 0, "movements": 0, "orders": 0}

    def _stream(self, statement: str, **asked: object) -> Iterator[TupleRow]:
        """The rows of a statement, some thousand at a time."""
        for rows in self._batches(statement, ROWS_AT_ONCE, **asked):
            yield from rows

    def _batches(self, statement: str, size: int, **asked: object) -> Iterator[list[TupleRow]]:
        """The rows of a statement in lists of a size."""
        with self._connection.cursor(name=f"evidence_{next(self._names)}", binary=True) as cursor:
            cursor.execute(statement, {**self._asked, **asked})
            while rows := cursor.fetchmany(size):
                yield rows

    def positions(self) -> Iterator[PositionRow]:
        """See store.check."""
        for row in self._stream(READ_MOVED, incremental=not self._full):
            self.seen["positions"] += 1
            yield PositionRow(row[0], row[1], row[2:9], row[9], row[10], row[11:])

    def movements(self) -> Iterator[MovementRow]:
        """See store.check. What came since is looked up by key, position by position: its cost is that of the news."""
        for row in self._stream(READ_ALL_MOVEMENTS) if self._full else self._new_movements():
            self.seen["movements"] += 1
            yield MovementRow(*row)

    def _new_movements(self) -> Iterator[TupleRow]:
        cursor = self._connection.cursor(binary=True)
        for moved in self._batches(READ_MOVED, POSITIONS_AT_ONCE, incremental=True):
            cells = array("int2", [row[0] for row in moved])
            positions, versions = array("int8", [row[1] for row in moved]), array("int8", [row[10] for row in moved])
            yield from cursor.execute(READ_NEW_MOVEMENTS, (cells, positions, versions)).fetchall()

    def held(self) -> Iterator[HeldRow]:
        """See store.check."""
        yield from map(HeldRow._make, self._stream(READ_HELD))

    def open_reservations(self) -> Iterator[OpenReservations]:
        """See store.check."""
        yield from map(OpenReservations._make, self._stream(READ_OPEN_RESERVATIONS))

    def receipts(self) -> Iterator[ReceiptRow]:
        """See store.check."""
        yield from map(ReceiptRow._make, self._stream(READ_ALL_RECEIPTS if self._full else READ_RECEIPTS))

    def reservations(self) -> Iterator[ReservationRow]:
        """See store.check."""
        for row in self._stream(READ_ALL_RESERVATIONS if self._full else READ_RESERVATIONS):
            yield _reservation(row)

    def orders(self) -> Iterator[OrderRow]:
        """See store.check."""
        queued = {order for (order,) in self._stream(READ_QUEUED)}
        for batch in self._batches(READ_CHANGED_ORDERS, ORDERS_AT_ONCE):
            details = _Details(self._connection.cursor(binary=True), self._cells, [row[1] for row in batch])
            for _, order, state, attempt, document in batch:
                self.seen["orders"] += 1
                yield details.row(order, state, attempt, unpack_order(document), order in queued)

    def returns(self) -> Iterator[ReturnsRow]:
        """See store.check. Only the journals of positions that something came back to are read."""
        reader = PostgresTransaction(self._connection, Places(self._cells), never, [])
        cursor = self._connection.cursor(binary=True)
        for batch in self._batches(READ_RETURNED_ORDERS, ORDERS_AT_ONCE):
            orders = [order for (order,) in batch]
            consumed: dict[UUID, dict[int, int]] = {order: {} for order in orders}
            for order, no, units in cursor.execute(READ_CONSUMED, (self._cells, orders)).fetchall():
                consumed[order][no] = units
            for order, record in reader.orders(orders).items():
                yield ReturnsRow(order, record.returns, consumed[order], self._moved(cursor, record.returns))

    def _moved(self, cursor: Cursor[TupleRow], returns: Sequence[Return]) -> dict[tuple[UUID, int], tuple[int, int]]:
        keys = {(found.id, part.key) for found in returns for part in found.parts}
        owners = {debt_id(key, Account.BLOCKED): key.id() for _, key in keys} | {key.id(): key.id() for _, key in keys}
        asked = {
            "cells": self._cells,
            "positions": sorted(owners),
            "returns": sorted({return_ for return_, _ in keys}),
            "month": first_of_month(min((found.opened_at for found in returns), default=BEGINNING)),
        }
        moved = {(return_, key.id()): (0, 0) for return_, key in keys}
        for return_, position, came, went in cursor.execute(READ_RETURN_MOVEMENTS, asked).fetchall():
            key = (return_, owners[position])
            before = moved.get(key, (0, 0))
            moved[key] = before[0] + came, before[1] + went
        return moved

    def ownerless(self) -> Iterator[tuple[str, str]]:
        """See store.check."""
        for owner, attempt in self._stream(READ_OWNERLESS_DECISIONS):
            yield "decision", f"{owner}/{attempt}"
        for owner, no in self._stream(READ_OWNERLESS_RESERVATIONS):
            yield "reservation", f"{owner}/{no}"

    def editions(self) -> Collection[str]:
        """See store.check."""
        return frozenset(edition for (edition,) in self._stream(READ_EDITIONS))

    def policies(self) -> Collection[tuple[str, int]]:
        """See store.check."""
        return frozenset((code, version) for code, version in self._stream(READ_POLICIES))

    def slots(self) -> Iterator[SlotRow]:
        """See store.check."""
        first = self._since.date() if self._full else self._since.date() - DAYS_OF_CAPACITY
        yield from map(SlotRow._make, self._stream(READ_SLOTS, first=first))

    def documents(self) -> Iterator[Stored]:
        """See store.check."""
        for cell, no, packed in self._stream(READ_EVENTS):
            for event in unpack_events(packed, cell) if mentions(packed, PERSONAL) else ():
                yield Stored("event", f"{cell}/{no}/{event.type}/{event.subject}", dict(event.data))
        for cell, no, subject, detail in self._stream(READ_AUDIT):
            yield Stored("audit", f"{cell}/{no}/{subject}", detail)
        for _, order, _, _, document in self._stream(READ_CHANGED_ORDERS):
            if mentions(document, PERSONAL):
                facts: dict[str, Json] = dict(unpack_order(document).facts)
                yield Stored("order", str(order), facts)

    def plans(self) -> Iterator[StoredPlan]:
        """See store.check."""
        places = Places(self._cells)
        reader = PostgresTransaction(self._connection, places, never, [])
        cursor = self._connection.cursor(binary=True)
        for batch in self._batches(READ_CHANGED_ORDERS, ORDERS_AT_ONCE):
            records = reader.orders([row[1] for row in batch])
            asked = (list(records), [record.attempt for record in records.values()], self._cells)
            decisions = {row[1]: Decision(*row) for row in cursor.execute(READ_NEWEST_DECISIONS, asked).fetchall()}
            reservations: dict[UUID, list[Reservation]] = {id_: [] for id_ in records}
            for row in cursor.execute(READ_WHOLE_RESERVATIONS, (self._cells, list(decisions))).fetchall():
                reservations[row[1]].append(reservation_of(row))
            named = {each.position for own in reservations.values() for each in own}
            named.update(*(positions_in(decision.facts) for decision in decisions.values() if not decision.wave))
            known, _ = places.learn(cursor, sorted(named))
            for id_, decision in decisions.items():
                yield StoredPlan(records[id_], decision, tuple(reservations[id_]), known)


READ_MOVED: Final = """
SELECT p.cell, p.id, p.outside, p.expected, p.pledged, p.in_transit, p.available, p.reserved, p.blocked, p.version,
    coalesce(v.version, 0), coalesce(v.outside, 0), coalesce(v.expected, 0), coalesce(v.pledged, 0),
    coalesce(v.in_transit, 0), coalesce(v.available, 0), coalesce(v.reserved, 0), coalesce(v.blocked, 0)
FROM position AS p
LEFT JOIN verified_position AS v ON v.cell = p.cell AND v.position = p.id AND %(incremental)b
WHERE p.cell = ANY (%(cells)b::smallint[])
    AND (p.version, p.outside, p.expected, p.pledged, p.in_transit, p.available, p.reserved, p.blocked)
    IS DISTINCT FROM
    (v.version, v.outside, v.expected, v.pledged, v.in_transit, v.available, v.reserved, v.blocked)
ORDER BY p.cell, p.id
"""
READ_ALL_MOVEMENTS: Final = """
SELECT cell, position, version, source, target, quantity
FROM movement
WHERE cell = ANY (%(cells)b::smallint[])
ORDER BY cell, position, version
"""
READ_NEW_MOVEMENTS: Final = """
SELECT m.cell, m.position, m.version, m.source, m.target, m.quantity
FROM unnest(%b::smallint[], %b::bigint[], %b::bigint[]) AS u (cell, position, version)
JOIN movement AS m ON m.cell = u.cell AND m.position = u.position AND m.version > u.version
ORDER BY m.cell, m.position, m.version
"""
READ_HELD: Final = """
SELECT id, expected, pledged, reserved
FROM position
WHERE cell = ANY (%(cells)b::smallint[]) AND (expected <> 0 OR pledged <> 0 OR reserved <> 0)
"""
READ_OPEN_RESERVATIONS: Final = """
SELECT position, receipt, sum(quantity - consumed - freed - expired - broken)::bigint
FROM reservation
WHERE cell = ANY (%(cells)b::smallint[]) AND consumed + freed + expired + broken < quantity
GROUP BY position, receipt
"""
READ_ALL_RECEIPTS: Final = """
SELECT id, position, quantity, pledged, arrived, cancelled FROM receipt WHERE cell = ANY (%(cells)b::smallint[])
"""
READ_RECEIPTS: Final = """
SELECT id, position, quantity, pledged, arrived, cancelled
FROM receipt
WHERE cell = ANY (%(cells)b::smallint[]) AND arrived + cancelled < quantity
"""
READ_ALL_RESERVATIONS: Final = """
SELECT owner, no, quantity, consumed, freed, expired, broken, line_no, line_quantity, receipt
FROM reservation
WHERE cell = ANY (%(cells)b::smallint[])
"""
READ_RESERVATIONS: Final = """
SELECT owner, no, quantity, consumed, freed, expired, broken, line_no, line_quantity, receipt
FROM reservation
WHERE cell = ANY (%(cells)b::smallint[]) AND made_at >= %(since)b
"""
# Demand of an order that is held from being sourced waits for that.
READ_QUEUED: Final = """
SELECT order_id FROM todo WHERE cell = ANY (%(cells)b::smallint[])
UNION ALL
SELECT id FROM customer_order
WHERE cell = ANY (%(cells)b::smallint[]) AND holds <> '{}' AND array_to_string(holds, ' ') LIKE '%%sourcing%%'
"""
READ_CHANGED_ORDERS: Final = """
SELECT cell, id, state, attempt, document
FROM customer_order
WHERE cell = ANY (%(cells)b::smallint[]) AND changed_at >= %(since)b
"""
READ_RETURNED_ORDERS: Final = """
SELECT id
FROM customer_order
WHERE cell = ANY (%(cells)b::smallint[]) AND changed_at >= %(since)b AND returns > 0
"""
READ_CONSUMED: Final = """
SELECT owner, no, consumed
FROM reservation
WHERE cell = ANY (%b::smallint[]) AND owner = ANY (%b::uuid[])
"""
# Out of a debt: units that were said to go on and were not there.
READ_RETURN_MOVEMENTS: Final = """
SELECT cause_id, position,
    coalesce(sum(quantity) FILTER (WHERE cause = 'return' AND target = 6), 0)::bigint,
    coalesce(sum(quantity) FILTER (WHERE cause = 'dispose' AND (source = 6 OR (source = 0 AND target = 3))), 0)::bigint
FROM movement
WHERE cell = ANY (%(cells)b::smallint[]) AND position = ANY (%(positions)b::bigint[]) AND month >= %(month)b
    AND cause_id = ANY (%(returns)b::uuid[]) AND cause IN ('return', 'dispose')
GROUP BY cause_id, position
"""
READ_OWNERLESS_DECISIONS: Final = """
SELECT d.owner, d.attempt
FROM decision AS d
LEFT JOIN customer_order AS o ON o.cell = d.cell AND o.id = d.owner
LEFT JOIN decision_guard AS g ON g.cell = d.cell AND g.owner = d.owner AND g.attempt = d.attempt
WHERE d.cell = ANY (%(cells)b::smallint[]) AND d.at >= %(since)b AND d.month >= %(month)b
    AND o.id IS NULL AND g.owner IS NULL
"""
READ_OWNERLESS_RESERVATIONS: Final = """
SELECT r.owner, r.no
FROM reservation AS r
LEFT JOIN customer_order AS o ON o.cell = r.cell AND o.id = r.owner
LEFT JOIN decision_guard AS g ON g.cell = r.cell AND g.owner = r.owner
WHERE r.cell = ANY (%(cells)b::smallint[]) AND r.made_at >= %(since)b AND o.id IS NULL AND g.owner IS NULL
"""
READ_EDITIONS: Final = "SELECT hash FROM edition"
READ_POLICIES: Final = "SELECT code, version FROM policy_version"
READ_SLOTS: Final = """
SELECT node, day, slot, coalesce(c.taken, 0), c.limit_quantity, coalesce(b.booked, 0)
FROM (
    SELECT node, day, slot, taken, limit_quantity
    FROM capacity
    WHERE cell = ANY (%(cells)b::smallint[]) AND day >= %(first)b
) AS c
FULL JOIN (
    SELECT node, day, slot, sum(quantity)::bigint AS booked
    FROM booking
    WHERE cell = ANY (%(cells)b::smallint[]) AND day >= %(first)b
    GROUP BY node, day, slot
) AS b USING (node, day, slot)
"""
READ_EVENTS: Final = """
SELECT cell, no, events
FROM outbox
WHERE cell = ANY (%(cells)b::smallint[]) AND at >= %(since)b AND month >= %(month)b
"""
READ_AUDIT: Final = """
SELECT cell, no, subject, detail
FROM audit
WHERE cell = ANY (%(cells)b::smallint[]) AND at >= %(since)b AND month >= %(month)b
"""
READ_LINES: Final = """
SELECT order_id, no, ordered, open, reserved, pledged, backordered, released, shipped, cancelled
FROM order_line
WHERE cell = ANY (%b::smallint[]) AND order_id = ANY (%b::uuid[])
"""
READ_DECISIONS: Final = """
SELECT owner, attempt, edition, policy, policy_version
FROM decision
WHERE cell = ANY (%b::smallint[]) AND owner = ANY (%b::uuid[])
"""
READ_NEWEST_DECISIONS: Final = """
SELECT d.cell, d.owner, d.attempt, d.at, d.edition, d.policy, d.policy_version, d.release, d.batch, d.place, d.facts,
    d.digest, d.wave
FROM unnest(%b::uuid[], %b::integer[]) AS u (owner, attempt)
JOIN decision AS d ON d.owner = u.owner AND d.attempt = u.attempt
WHERE d.cell = ANY (%b::smallint[])
ORDER BY d.wave, d.owner
"""
READ_WHOLE_RESERVATIONS: Final = """
SELECT cell, owner, no, position, quantity, line_no, line_quantity, kind, shipment_no, made_at, receipt, expires_at,
    consumed, freed, expired, broken
FROM reservation
WHERE cell = ANY (%b::smallint[]) AND owner = ANY (%b::uuid[])
ORDER BY owner, no
"""
READ_OWN_RESERVATIONS: Final = """
SELECT r.owner, r.no, r.quantity, r.consumed, r.freed, r.expired, r.broken, r.line_no, r.line_quantity, r.receipt,
    coalesce(s.stage IN ('released', 'picked', 'ready'), false)
FROM reservation AS r
LEFT JOIN shipment AS s ON s.cell = r.cell AND s.owner = r.owner AND s.no = r.shipment_no
WHERE r.cell = ANY (%b::smallint[]) AND r.owner = ANY (%b::uuid[])
"""
READ_INCIDENTS: Final = """
SELECT order_id, count(*)
FROM incident
WHERE cell = ANY (%b::smallint[]) AND order_id = ANY (%b::uuid[])
GROUP BY order_id
"""


class _Details:
    """What belongs to a batch of orders, by order."""

    def __init__(self, cursor: Cursor[TupleRow], cells: list[int], orders: list[UUID]) -> None:
        asked = (cells, orders)
        self.lines: dict[UUID, dict[int, Sequence[int]]] = {order: {} for order in orders}
        for order, no, *parts in cursor.execute(READ_LINES, asked).fetchall():
            self.lines[order][no] = parts
        self.decisions: dict[UUID, list[DecisionRow]] = {order: [] for order in orders}
        for order, *decision in cursor.execute(READ_DECISIONS, asked).fetchall():
            self.decisions[order].append(DecisionRow(*decision))
        self.reservations: dict[UUID, list[ReservationRow]] = {order: [] for order in orders}
        for row in cursor.execute(READ_OWN_RESERVATIONS, asked).fetchall():
            self.reservations[row[0]].append(_reservation(row))
        self.incidents: dict[UUID, int] = dict(cursor.execute(READ_INCIDENTS, asked).fetchall())

    def row(self, order: UUID, state: str, attempt: int, document: Order, is_queued: bool) -> OrderRow:
        """An order with all that belongs to it."""
        return OrderRow(
            order,
            state,
            attempt,
            [(line.no, line.quantity) for line in document.lines],
            self.lines[order],
            self.decisions[order],
            self.reservations[order],
            self.incidents.get(order, 0),
            is_queued,
            document.began_elsewhere is not None,
        )


def _reservation(row: TupleRow) -> ReservationRow:
    owner, no, quantity, consumed, freed, expired, broken, line_no, line_quantity, receipt, *released = row
    endings = (consumed, freed, expired, broken)
    return ReservationRow(owner, no, quantity, endings, line_no, line_quantity, receipt is not None, any(released))
