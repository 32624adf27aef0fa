"""The books on PostgreSQL: reads by key and claims; `store.recording` writes. Law 4: one transaction, all or nothing.

Every statement names its cells. Row locks are taken by `store.locking` only. Texts are sorted by code point.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from itertools import islice
from typing import Final
from uuid import UUID

import numpy as np
import psycopg
from psycopg import Connection, Cursor, errors
from psycopg.rows import TupleRow

from poolwise.core.fulfilment import Stage
from poolwise.core.ledger import Position, Receipt, Reservation, ReservationKind
from poolwise.core.orders import OrderState, Progress
from poolwise.core.returns import Return
from poolwise.core.sourcing.plan import Booking, PlannedShipment
from poolwise.core.sourcing.problem import NO_CLASSES, CapacityFact, ItemStock, PickFact, ReceiptFact
from poolwise.core.values import Conflict, KeyTaken, Upstream, replace
from poolwise.flows.ports import (
    NEVER_COUNTED,
    Age,
    Answer,
    CountMark,
    Decision,
    Effects,
    OrderRecord,
    Queue,
    ShipmentRecord,
    SlotKey,
    Stock,
    Timer,
    Todo,
)
from poolwise.store import arrays, claiming, postgres
from poolwise.store.codec import bucket, holds_of, unpack_former, unpack_order, unpack_return
from poolwise.store.journal import balances_as_of, first_of_month
from poolwise.store.locking import RowLocks
from poolwise.store.places import Places
from poolwise.store.postgres import DatabaseUnavailable, Pool, diagnose
from poolwise.store.recording import record
from poolwise.store.sheets import greatest, read_sheets
from poolwise.store.steps import Access, Failpoint, Step, never
from poolwise.store.writing import Writing

LOST_RACES: Final = (
    errors.UniqueViolation,
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
)


ANSWERS: Final = "answer"
"""The table whose keys are those of requests."""

# Every statement of the books finds its rows by key, and is planned anew each time: a plan made while a table was small
# might read all of it, and would stay in use while it grows. The first few of many are read in the order of an index:
# gathered in a bitmap, they would all be read.
GO_BY_KEY: Final = """
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true), set_config('enable_bitmapscan', 'off', true),
    set_config('plan_cache_mode', 'force_custom_plan', true)
"""


class PostgresBooks:
    """Books on the database behind `pool`, for the `cells` in use. `failpoint` lets a test crash between two steps."""

    def __init__(self, pool: Pool, cells: Sequence[int] = (0,), failpoint: Failpoint = never) -> None:
        self._pool = pool
        self._places = Places(cells)
        self._failpoint = failpoint

    @contextmanager
    def transaction(self) -> Iterator[PostgresTransaction]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        Raises Conflict for a lost race, and Upstream when the database cannot be reached.
        """
        created: list[int] = []
        try:
            with translated(), postgres.transaction(self._pool, GO_BY_KEY) as connection:
                current = PostgresTransaction(connection, self._places, self._failpoint, created)
                yield current
                current.assert_whole()
                self._failpoint(Step.BEFORE_COMMIT)
        except BaseException:
            self._places.forget(created)
            raise
        self._failpoint(Step.AFTER_COMMIT)


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the driver as the error tree: Conflict for a lost race, Upstream for a server out of reach."""
    try:
        yield
    except LOST_RACES as error:
        kind = KeyTaken if error.diag.table_name == ANSWERS else Conflict
        raise kind(error.diag.message_primary or type(error).__name__) from error
    except (psycopg.OperationalError, DatabaseUnavailable) as error:
        raise Upstream(str(diagnose(error))) from error


class PostgresTransaction:
    """flows.ports.Transaction on one connection. What the methods answer is written there."""

    def __init__(
        self, connection: Connection[TupleRow], places: Places, failpoint: Failpoint, created: list[int]
    ) -> None:
        self._cursor: Cursor[TupleRow] = connection.cursor(binary=True)
        self._locks = RowLocks(self._cursor)
        self._places = places
        self._cells = places.cells
        self._failpoint = failpoint
        self._created = created
        self._refused = False

    def assert_whole(self) -> None:
        """Raise Conflict when a recording was refused: a caller who swallows that must not commit the rest (law 4)."""
        if self._refused:
            raise Conflict("a recording was refused, so nothing of its transaction is kept")

    def claim(self, cell: int, queue: Queue, now: datetime, limit: int, rules: str = "") -> tuple[Todo, ...]:
        """See ports."""
        if queue is Queue.STOCK:
            return claiming.claim_again(self._cursor, cell, now, limit, rules)
        return claiming.claim(self._cursor, cell, queue, now, limit)

    def waiting(self, after: Mapping[str, Age], limit: int) -> tuple[Todo, ...]:
        """See ports."""
        taken = claiming.claim_waiting(self._cursor, self._locks, self._cells, after, limit)
        if taken:
            self._failpoint(Access.WOKEN)
        return taken

    def due(self, cell: int, now: datetime, limit: int) -> tuple[Timer, ...]:
        """See ports."""
        return claiming.claim_due(self._cursor, cell, now, limit)

    def stock(
        self, cells: Sequence[int], items: Iterable[str], since: date, classes: Collection[str] = NO_CLASSES
    ) -> Stock:
        """See ports."""
        wanted = sorted(set(items))
        asked = (list(cells), arrays.array("text", wanted))
        return Stock(
            read_stock(self._cursor, self._places, wanted, asked) if wanted else {},
            read_open_receipts(self._cursor, self._places, asked) if wanted else {},
            read_capacity(self._cursor, cells, since),
            read_misses(self._cursor, cells, classes) if classes else {},
        )

    def positions(self, ids: Iterable[int], lock: bool = False) -> dict[int, Position]:
        """See ports."""
        wanted = sorted(set(ids))
        if not wanted:
            return {}
        places, cell_of = self._places.learn(self._cursor, wanted)
        cells_of = {position: cell for position in wanted if (cell := cell_of.get(position)) is not None}
        known, cells = list(cells_of), list(cells_of.values())
        if lock:
            rows = self._locks.positions(cells, known)
        else:
            asked = (sorted(set(cells)), arrays.array("int8", known))
            rows = self._cursor.execute(READ_POSITIONS, asked).fetchall()
        found = {}
        for row in rows:
            position = row[0]
            place = places.get(position)
            if place is None:
                raise Conflict(f"who made position {position} first was rolled back, and what was known of it is gone")
            key = self._places.key_of(place)
            found[position] = Position(position, cells_of[position], key, row[1:8], row[8], place.expires_on)
        return found

    def positions_of(self, items: Iterable[str], close: bool = False) -> dict[int, Position]:
        """See ports."""
        wanted = sorted(set(items))
        if close:
            self._locks.gates([(cell, item) for cell in self._cells for item in wanted])
            self._failpoint(Access.CLOSED)
        self._cursor.execute(READ_POSITION_IDS, (self._cells, wanted))
        return self.positions([position for (position,) in self._cursor.fetchall()])

    def positions_as_of(self, asked: Mapping[int, datetime]) -> dict[int, Position]:
        """See ports."""
        return balances_as_of(self._cursor, self.positions(asked), asked)

    def receipts(self, ids: Iterable[UUID], lock: bool = False) -> dict[UUID, Receipt]:
        """See ports."""
        wanted = sorted(set(ids))
        if lock:
            rows = self._locks.receipts(self._cells, wanted)
        else:
            rows = self._cursor.execute(READ_RECEIPTS, (self._cells, wanted)).fetchall()
        return {row[0]: Receipt(*row) for row in rows}

    def receipts_named(self, references: Iterable[tuple[int, str]]) -> dict[tuple[int, str], Receipt]:
        """See ports."""
        wanted = sorted(set(references))
        positions = [position for position, _ in wanted]
        names = [reference for _, reference in wanted]
        self._cursor.execute(FIND_RECEIPTS, {"cells": self._cells, "positions": positions, "references": names})
        found = self.receipts([receipt for (receipt,) in self._cursor.fetchall()], lock=True)
        return {(receipt.position, receipt.reference): receipt for receipt in found.values()}

    def capacity(self, slots: Iterable[SlotKey]) -> dict[SlotKey, int]:
        """See ports."""
        keys = sorted(set(slots))
        return {(cell, node, day, slot): taken for cell, node, day, slot, taken in self._locks.capacity(keys)}

    def orders(self, ids: Iterable[UUID], lock: bool = False) -> dict[UUID, OrderRecord]:
        """See ports."""
        wanted = sorted(set(ids))
        if lock:
            rows = self._locks.orders(self._cells, wanted)
        else:
            rows = self._cursor.execute(READ_ORDERS, (self._cells, wanted)).fetchall()
        self._cursor.execute(READ_LINES, (self._cells, wanted))
        lines = {(row[0], row[1]): Progress(*row[2:]) for row in self._cursor.fetchall()}
        returns = self._returns([row[0] for row in rows if row[6]])
        found = {}
        for order_id, state, attempt, declined, holds, former, _, document in rows:
            order = unpack_order(document)
            progress = tuple(lines[order_id, line.no] for line in order.lines)
            own = tuple(returns.get(order_id, ()))
            found[order_id] = OrderRecord(
                order,
                OrderState(state),
                progress,
                attempt,
                tuple(declined),
                holds_of(holds),
                unpack_former(former),
                own,
            )
        return found

    def _returns(self, orders: Sequence[UUID]) -> dict[UUID, list[Return]]:
        """The returns of orders that have some."""
        found: dict[UUID, list[Return]] = {}
        if orders:
            for order, document in self._cursor.execute(READ_RETURNS, (self._cells, orders)):
                found.setdefault(order, []).append(unpack_return(document))
        return found

    def order_numbered(self, numbers: Iterable[str]) -> dict[str, UUID]:
        """See ports."""
        wanted = sorted(set(numbers))
        self._cursor.execute(FIND_NUMBERS, ([bucket(number) for number in wanted], wanted))
        return dict(self._cursor.fetchall())

    def reservations(self, owner: UUID) -> tuple[Reservation, ...]:
        """See ports."""
        return tuple(reservation_of(row) for row in self._cursor.execute(READ_RESERVATIONS, (self._cells, owner)))

    def shipments(self, owner: UUID) -> tuple[ShipmentRecord, ...]:
        """See ports."""
        bookings: dict[int, list[Booking]] = {}
        for shipment_no, *booking in self._cursor.execute(READ_BOOKINGS, (self._cells, owner)):
            bookings.setdefault(shipment_no, []).append(Booking(*booking))
        found = []
        rows = self._cursor.execute(READ_SHIPMENTS, (self._cells, owner)).fetchall()
        for cell, no, node, lanes, ship_on, arrive_by, weight_ug, co2e_mg, stage, *rest in rows:
            booked = tuple(bookings.get(no, ()))
            planned = PlannedShipment(no, node, tuple(lanes), ship_on, arrive_by, weight_ug, co2e_mg, booked)
            since, point, offered_to, until = rest
            asked = tuple(offered_to or ())
            found.append(ShipmentRecord(cell, owner, planned, Stage(stage), since, point, asked, until))
        return tuple(found)

    def reservations_at(self, position: int) -> tuple[Reservation, ...]:
        """See ports."""
        rows = self._cursor.execute(READ_RESERVATIONS_AT, (self._cells, position))
        return tuple(reservation_of(row) for row in rows)

    def count_marks(self, positions: Iterable[int]) -> dict[int, CountMark]:
        """See ports."""
        wanted = sorted(set(positions))
        places, cell_of = self._places.learn(self._cursor, wanted)
        known = [position for position in wanted if position in cell_of]
        cells = [cell_of[position] for position in known]
        marks = read_sheets(self._cursor, self._locks, cells, [places[position].node for position in known], known)
        for cell, position, as_of, sequence in self._cursor.execute(
            READ_MARKS, (self._cells, arrays.array("int8", wanted))
        ):
            marks[position] = greatest(marks.get(position), CountMark(cell, position, as_of, sequence))
        for cell, position, units, since in self._cursor.execute(
            READ_DOUBTS, (self._cells, arrays.array("int8", wanted))
        ):
            mark = marks.get(position) or CountMark(cell, position, NEVER_COUNTED, None)
            marks[position] = replace(mark, doubt=units, doubted_at=since)
        return marks

    def seen(self, messages: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """See ports."""
        wanted = sorted(set(messages))
        senders, ids = [sender for sender, _ in wanted], [message for _, message in wanted]
        self._cursor.execute(FIND_SEEN, ([bucket(message) for message in ids], senders, ids))
        return frozenset((sender, message) for sender, message in self._cursor.fetchall())

    def answer(self, sender: str, key: str) -> Answer | None:
        """See ports."""
        row = self._cursor.execute(READ_ANSWER, (bucket(key), sender, key)).fetchone()
        return None if row is None else Answer(sender, key, *row)

    def decision(self, owner: UUID, attempt: int) -> Decision | None:
        """See ports."""
        row = self._cursor.execute(READ_DECISION, (self._cells, owner, attempt)).fetchone()
        return None if row is None else Decision(*row)

    def record(self, effects: Effects) -> None:
        """See ports."""
        writing = Writing(self._cursor, self._locks, self._places, effects, first_of_month(effects.at))
        self._created += [position.id for position in effects.positions]
        try:
            with translated():
                record(writing, self._failpoint)
                writing.finish()
        except BaseException:
            self._refused = True
            raise


READ_POSITIONS: Final = """
SELECT id, outside, expected, pledged, in_transit, available, reserved, blocked, version
FROM position
WHERE cell = ANY (%b::smallint[]) AND id = ANY (%b::bigint[])
ORDER BY id
"""
READ_POSITION_IDS: Final = """
SELECT id FROM position WHERE cell = ANY (%b::smallint[]) AND item = ANY (%b::text[])
"""
READ_RECEIPTS: Final = """
SELECT id, cell, position, reference, due_on, quantity, pledged, arrived, cancelled, announced, sequence
FROM receipt
WHERE cell = ANY (%b::smallint[]) AND id = ANY (%b::uuid[])
ORDER BY id
"""
FIND_RECEIPTS: Final = """
SELECT r.id
FROM receipt AS r
JOIN unnest(%(positions)b::bigint[], %(references)b::text[]) AS u (position, reference)
    ON r.position = u.position AND r.reference = u.reference
WHERE r.cell = ANY (%(cells)b::smallint[])
"""
READ_ORDERS: Final = """
SELECT id, state, attempt, declined, holds, former, returns, document
FROM customer_order
WHERE cell = ANY (%b::smallint[]) AND id = ANY (%b::uuid[])
ORDER BY id
"""
READ_RETURNS: Final = """
SELECT order_id, document::text
FROM customer_return
WHERE cell = ANY (%b::smallint[]) AND order_id = ANY (%b::uuid[])
ORDER BY order_id, id
"""
READ_LINES: Final = """
SELECT order_id, no, ordered, open, reserved, pledged, backordered, released, shipped, cancelled
FROM order_line
WHERE cell = ANY (%b::smallint[]) AND order_id = ANY (%b::uuid[])
"""
FIND_NUMBERS: Final = """
SELECT number, order_id FROM order_number WHERE cell = ANY (%b::smallint[]) AND number = ANY (%b::text[])
"""
READ_RESERVATIONS: Final = """
SELECT cell, owner, no, position, quantity, line_no, line_quantity, kind, shipment_no, made_at, receipt, expires_at,
    consumed, freed, expired, broken
FROM reservation
WHERE cell = ANY (%b::smallint[]) AND owner = %b
ORDER BY no
"""
READ_RESERVATIONS_AT: Final = """
SELECT cell, owner, no, position, quantity, line_no, line_quantity, kind, shipment_no, made_at, receipt, expires_at,
    consumed, freed, expired, broken
FROM reservation
WHERE cell = ANY (%b::smallint[]) AND position = %b AND consumed + freed + expired + broken < quantity
ORDER BY made_at DESC, owner DESC, no DESC
"""
READ_BOOKINGS: Final = """
SELECT shipment_no, node, day, slot, quantity
FROM booking
WHERE cell = ANY (%b::smallint[]) AND owner = %b
ORDER BY shipment_no, no
"""
READ_SHIPMENTS: Final = """
SELECT cell, no, node, lanes, ship_on, arrive_by, weight_ug, co2e_mg, stage, stage_at, collect_at,
    offered_to, offered_until
FROM shipment
WHERE cell = ANY (%b::smallint[]) AND owner = %b
ORDER BY no
"""
READ_MARKS: Final = """
SELECT cell, position, as_of, sequence
FROM count_mark
WHERE cell = ANY (%b::smallint[]) AND position = ANY (%b::bigint[])
"""
READ_DOUBTS: Final = """
SELECT cell, position, units, since
FROM count_task
WHERE cell = ANY (%b::smallint[]) AND position = ANY (%b::bigint[])
"""
FIND_SEEN: Final = """
SELECT i.sender, i.message
FROM inbox AS i
JOIN unnest(%b::smallint[], %b::text[], %b::text[]) AS u (cell, sender, message)
    ON i.cell = u.cell AND i.sender = u.sender AND i.message = u.message
"""
READ_ANSWER: Final = """
SELECT body_hash, status, reference FROM answer WHERE cell = %b::smallint AND sender = %b AND key = %b
"""
READ_DECISION: Final = """
SELECT cell, owner, attempt, at, edition, policy, policy_version, release, batch, place, facts, digest, wave
FROM decision
WHERE cell = ANY (%b::smallint[]) AND owner = %b AND attempt = %b
"""


def reservation_of(row: TupleRow) -> Reservation:
    """A reservation from its columns in the order of its fields."""
    found = Reservation(*row)
    return replace(found, kind=ReservationKind(found.kind))


READ_STOCK: Final = """
SELECT array_agg(id), array_agg(available)
FROM position
WHERE cell = ANY (%b::smallint[]) AND item = ANY (%b::text[])
"""


def read_stock(
    cursor: Cursor[TupleRow], places: Places, items: Sequence[str], asked: Sequence[object]
) -> dict[str, ItemStock]:
    """Available units of every position of the items, by item, in the order of position ids.

    This is the most frequent read of all. Everything comes as two columns of numbers, in whatever order it lies; whose
    they are is known from the last time. `asked` are cells and items as parameters.
    """
    cursor.execute(READ_STOCK, asked)
    ((ids, available),) = arrays.raw_rows(cursor)
    numbers = arrays.unpacked(ids)
    rising = np.argsort(numbers)
    known, where = places.listed(cursor, items, numbers[rising])
    units = iter(arrays.unpacked(available)[rising[where]].tolist())
    return {each.item: ItemStock(each, list(islice(units, len(each.places)))) for each in known}


READ_OPEN_RECEIPTS: Final = """
SELECT id, position, due_on, quantity - pledged - arrived - cancelled
FROM receipt
WHERE cell = ANY (%b::smallint[]) AND item = ANY (%b::text[]) AND arrived + cancelled < quantity
    AND pledged + arrived + cancelled < quantity
ORDER BY due_on, id
"""


def read_open_receipts(
    cursor: Cursor[TupleRow], places: Places, asked: Sequence[object]
) -> dict[str, tuple[ReceiptFact, ...]]:
    """Open units of the receipts of the items that are `asked` for, by item, by due date and id."""
    rows = cursor.execute(READ_OPEN_RECEIPTS, asked).fetchall()
    known, _cells = places.learn(cursor, [row[1] for row in rows])
    found: dict[str, list[ReceiptFact]] = {}
    for receipt, position, due_on, units in rows:
        place = known[position]
        found.setdefault(place.item, []).append(ReceiptFact(receipt, place, due_on, units))
    return {item: tuple(facts) for item, facts in sorted(found.items())}


READ_CAPACITY: Final = """
SELECT node, day, slot, taken
FROM capacity
WHERE cell = ANY (%b::smallint[]) AND day >= %b
ORDER BY node, day, slot
"""


def read_capacity(cursor: Cursor[TupleRow], cells: Sequence[int], since: date) -> dict[str, tuple[CapacityFact, ...]]:
    """Capacity taken from a day on, by node, by day and slot."""
    found: dict[str, list[CapacityFact]] = {}
    for row in cursor.execute(READ_CAPACITY, (list(cells), since)).fetchall():
        found.setdefault(row[0], []).append(CapacityFact(*row))
    return {node: tuple(facts) for node, facts in found.items()}


READ_MISSES: Final = """
SELECT item_class, array_agg(node ORDER BY node), array_agg(found ORDER BY node), array_agg(missed ORDER BY node)
FROM pick_outcome
WHERE cell = ANY (%b::smallint[]) AND item_class = ANY (%b::text[])
GROUP BY item_class
"""


def read_misses(
    cursor: Cursor[TupleRow], cells: Sequence[int], classes: Collection[str]
) -> dict[str, tuple[PickFact, ...]]:
    """What became of picks, by class of items, by node."""
    rows = cursor.execute(READ_MISSES, (list(cells), arrays.array("text", sorted(classes)))).fetchall()
    return {row[0]: tuple(map(PickFact, *row[1:])) for row in rows}
