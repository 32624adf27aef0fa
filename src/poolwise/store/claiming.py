"""Taking work out of a queue: rows are locked, past those that others hold, and deleted in the same transaction.

A claim that is rolled back leaves the work where it was (law 7), and no two workers take the same (law 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import TupleRow

from poolwise.flows.ports import UNDER, Age, Queue, Timer, TimerKind, Todo, line_of_day
from poolwise.store.arrays import array
from poolwise.store.codec import unpack_todo
from poolwise.store.locking import RowLocks

HEAD_IS_ALONE: Final = """
SELECT alone
FROM todo
WHERE cell = %(cell)b AND queue = %(queue)b AND since <= %(now)b
ORDER BY cell, queue, rank, since, order_id
LIMIT 1
FOR UPDATE SKIP LOCKED
"""
CHOOSE: Final = """
SELECT order_id, demand
FROM todo
WHERE cell = %(cell)b AND queue = %(queue)b AND since <= %(now)b AND alone = %(alone)b
ORDER BY cell, queue, rank, since, order_id
LIMIT %(limit)b
FOR UPDATE SKIP LOCKED
"""
# Deleted by key in a statement of its own: one that chooses and deletes may run in the square of its rows, if the
# planner last saw the queue empty.
DELETE: Final = "DELETE FROM todo WHERE cell = ANY (%b::smallint[]) AND order_id = ANY (%b::uuid[]) AND queue = %b"
# Order by order, and with a word about the item, which is always true: else the planner may walk through the index of
# the lines, skipping from one to the next.
DELETE_ITEMS: Final = """
DELETE FROM todo_item AS t
USING unnest(%b::uuid[]) AS u (order_id)
WHERE t.cell = ANY (%b::smallint[]) AND t.order_id = u.order_id AND t.item >= ''
"""
# Of each item the oldest that are younger than an age, from the index: reads no more than items times limit rows.
FIND_WAITING: Final = """
SELECT DISTINCT w.since, w.order_id
FROM unnest(%(cells)b::smallint[]) AS c (cell)
CROSS JOIN unnest(%(items)b::text[], %(since)b::timestamptz[], %(orders)b::uuid[]) AS i (item, since, order_id)
CROSS JOIN LATERAL (
    SELECT t.since, t.order_id
    FROM todo_item AS t
    WHERE t.cell = c.cell AND t.item = i.item AND (t.since, t.order_id) > (i.since, i.order_id)
    ORDER BY t.cell, t.item, t.since, t.order_id
    LIMIT %(limit)b
) AS w
ORDER BY w.since, w.order_id
"""
# Lines of rules come before those of days, and of both the ones that are due are read oldest first. One line after the
# other is found from the index: there are few, whoever waits in them.
FIND_AGAIN: Final = """
WITH RECURSIVE line (item) AS (
    SELECT min(t.item) FROM todo_item AS t WHERE t.cell = %(cell)b AND t.item BETWEEN %(first)b AND %(last)b
    UNION ALL
    SELECT (
        SELECT min(t.item)
        FROM todo_item AS t
        WHERE t.cell = %(cell)b AND t.item > line.item AND t.item <= %(last)b
    )
    FROM line
    WHERE line.item IS NOT NULL
)
SELECT DISTINCT w.since, w.order_id
FROM line
CROSS JOIN LATERAL (
    SELECT t.since, t.order_id
    FROM todo_item AS t
    WHERE t.cell = %(cell)b AND t.item = line.item
    ORDER BY t.cell, t.item, t.since, t.order_id
    LIMIT %(limit)b
) AS w
WHERE line.item <> %(under)b
ORDER BY w.since, w.order_id
LIMIT %(limit)b
"""
CHOOSE_AGAIN: Final = """
SELECT order_id, demand, alone
FROM todo
WHERE cell = %b AND order_id = ANY (%b::uuid[]) AND queue = 'stock'
ORDER BY since, order_id
LIMIT %b
FOR UPDATE SKIP LOCKED
"""
LOOKERS: Final = 4
"""So many workers find demand to look at again that none of the others has taken."""

CHOOSE_DUE: Final = """
SELECT cell, kind, subject, due_at
FROM timer
WHERE cell = %(cell)b AND due_at <= %(now)b
ORDER BY cell, due_at, subject, kind
LIMIT %(limit)b
FOR UPDATE SKIP LOCKED
"""
DELETE_DUE: Final = """
DELETE FROM timer WHERE cell = %b AND subject = ANY (%b::uuid[]) AND kind = %b AND due_at <= %b
"""


def claim(cursor: Cursor[TupleRow], cell: int, queue: Queue, now: datetime, limit: int) -> tuple[Todo, ...]:
    """Take demands of one cell's queue, in its order. If the first that is free is `alone`, it comes by itself."""
    assert limit > 0, "a claim takes something"
    asked = {"cell": cell, "queue": queue.value, "now": now}
    head = cursor.execute(HEAD_IS_ALONE, asked).fetchone()
    if head is None:
        return ()
    alone = bool(head[0])
    rows = cursor.execute(CHOOSE, {**asked, "alone": alone, "limit": 1 if alone else limit}).fetchall()
    _delete(cursor, [cell], queue, [order for order, _ in rows])
    return tuple(sorted((unpack_todo(demand) for _, demand in rows), key=claim_order))


def claim_waiting(
    cursor: Cursor[TupleRow], locks: RowLocks, cells: Sequence[int], after: Mapping[str, Age], limit: int
) -> tuple[Todo, ...]:
    """Take demands that wait for stock, oldest first: of each item at most `limit` in each cell, next after an age.

    One that another transaction has taken is waited for: stepped past, it would sleep on if that is rolled back.
    """
    assert limit > 0, "a claim takes something"
    items = sorted(after)
    since, orders = [after[item][0] for item in items], [after[item][1] for item in items]
    asked = {"cells": cells, "items": items, "since": since, "orders": array("uuid", orders), "limit": limit}
    oldest = [order for _, order in cursor.execute(FIND_WAITING, asked).fetchall()]
    rows = locks.waiting(cells, oldest) if oldest else []
    _delete(cursor, cells, Queue.STOCK, [order for order, _ in rows])
    return tuple(sorted((unpack_todo(demand) for _, demand in rows), key=lambda todo: todo.age))


def claim_again(cursor: Cursor[TupleRow], cell: int, now: datetime, limit: int, rules: str) -> tuple[Todo, ...]:
    """Take demands of a cell that wait for stock and must look again: left short under other rules, or for a day."""
    assert limit > 0, "a claim takes something"
    asked = {"cell": cell, "first": UNDER, "under": UNDER + rules, "last": line_of_day(now), "limit": limit * LOOKERS}
    found = [order for _, order in cursor.execute(FIND_AGAIN, asked).fetchall()]
    rows = cursor.execute(CHOOSE_AGAIN, (cell, array("uuid", found), limit)).fetchall() if found else []
    taken = [row for row in rows if row[2] == rows[0][2]][: 1 if rows and rows[0][2] else limit]
    _delete(cursor, [cell], Queue.STOCK, [row[0] for row in taken])
    return tuple(unpack_todo(row[1]) for row in taken)


def claim_due(cursor: Cursor[TupleRow], cell: int, now: datetime, limit: int) -> tuple[Timer, ...]:
    """Take timers that are due, the earliest first."""
    assert limit > 0, "a claim takes something"
    rows = cursor.execute(CHOOSE_DUE, {"cell": cell, "now": now, "limit": limit}).fetchall()
    for kind in sorted({kind for _, kind, _, _ in rows}):
        subjects = [subject for _, of_kind, subject, _ in rows if of_kind == kind]
        cursor.execute(DELETE_DUE, (cell, subjects, kind, now))
    return tuple(Timer(of, TimerKind(kind), subject, due_at) for of, kind, subject, due_at in rows)


def _delete(cursor: Cursor[TupleRow], cells: Sequence[int], queue: Queue, orders: Sequence[UUID]) -> None:
    """Take demands, which are locked, out of a queue."""
    if not orders:
        return
    cursor.execute(DELETE, (cells, array("uuid", orders), queue.value))
    assert cursor.rowcount == len(orders), "rows that are locked can be deleted"
    if queue is Queue.STOCK:
        cursor.execute(DELETE_ITEMS, (array("uuid", orders), cells))


def claim_order(todo: Todo) -> tuple[int, datetime, int]:
    """The order inside a cell's queue: urgent first, then oldest."""
    return todo.rank, todo.since, todo.order.id.int
