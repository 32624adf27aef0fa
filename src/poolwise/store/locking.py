"""Every row lock of the books is taken here: class by class in one global order, and by key inside a class.

The order is order, gate, position, sheet of count marks, receipt, capacity, record of picks; demand that waits for
stock comes last (ADR 0012, 0013). Two transactions that keep it cannot wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from enum import IntEnum
from typing import Final
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import TupleRow

from poolwise.store.arrays import array


class Locked(IntEnum):
    """What is locked, in the global order."""

    NOTHING = 0
    ORDERS = 1
    GATES = 2
    POSITIONS = 3
    SHEETS = 4
    RECEIPTS = 5
    CAPACITY = 6
    PICKS = 7
    WAITING = 8


LOCK_ORDERS: Final = """
SELECT id, state, attempt, declined, holds, former, returns, document
FROM customer_order
WHERE cell = ANY (%b::smallint[]) AND id = ANY (%b::uuid[])
ORDER BY id
FOR NO KEY UPDATE
"""
# Locks what is there and what it makes, row by row in the order given. No row is updated.
LOCK_GATES: Final = """
INSERT INTO position_gate (cell, item)
SELECT u.* FROM unnest(%b::smallint[], %b::text[]) AS u
ON CONFLICT (cell, item) DO UPDATE SET item = excluded.item WHERE false
RETURNING cell
"""
# In one walk along the index, at half the cost of a join that looks up one by one.
LOCK_POSITIONS: Final = """
SELECT id, outside, expected, pledged, in_transit, available, reserved, blocked, version
FROM position
WHERE cell = ANY (%b::smallint[]) AND id = ANY (%b::bigint[])
ORDER BY id
FOR NO KEY UPDATE
"""
# All of them or, where one is not there, none: else one that is made then would be locked out of order.
SHARE_SHEETS: Final = """
SELECT s.part
FROM count_sheet AS s
JOIN unnest(%(cells)b::smallint[], %(nodes)b::text[], %(parts)b::smallint[]) AS u (cell, node, part)
    ON s.cell = u.cell AND s.node = u.node AND s.part = u.part
WHERE cardinality(%(parts)b::smallint[]) = (
    SELECT count(*)
    FROM count_sheet AS t
    JOIN unnest(%(cells)b::smallint[], %(nodes)b::text[], %(parts)b::smallint[]) AS v (cell, node, part)
        ON t.cell = v.cell AND t.node = v.node AND t.part = v.part
)
ORDER BY s.cell, s.node, s.part
FOR SHARE OF s
"""
# As with gates.
LOCK_SHEETS: Final = """
INSERT INTO count_sheet (cell, node, part)
SELECT u.* FROM unnest(%(cells)b::smallint[], %(nodes)b::text[], %(parts)b::smallint[]) AS u
ON CONFLICT (cell, node, part) DO UPDATE SET part = excluded.part WHERE false
RETURNING part
"""
LOCK_RECEIPTS: Final = """
SELECT id, cell, position, reference, due_on, quantity, pledged, arrived, cancelled, announced, sequence
FROM receipt
WHERE cell = ANY (%b::smallint[]) AND id = ANY (%b::uuid[])
ORDER BY id
FOR NO KEY UPDATE
"""
# As with gates: a slot that comes to be is locked in its turn.
MAKE_SLOTS: Final = """
INSERT INTO capacity (cell, node, day, slot, taken, limit_quantity)
SELECT u.*, 0, NULL FROM unnest(%b::smallint[], %b::text[], %b::date[], %b::integer[]) AS u
ON CONFLICT (cell, day, node, slot) DO UPDATE SET taken = excluded.taken WHERE false
RETURNING cell, node, day, slot
"""
LOCK_CAPACITY: Final = """
SELECT c.cell, c.node, c.day, c.slot, c.taken
FROM capacity AS c
JOIN unnest(%b::smallint[], %b::text[], %b::date[], %b::integer[]) AS u (cell, node, day, slot)
    ON c.cell = u.cell AND c.node = u.node AND c.day = u.day AND c.slot = u.slot
ORDER BY c.cell, c.node, c.day, c.slot
FOR NO KEY UPDATE OF c
"""
# As with gates.
LOCK_PICKS: Final = """
INSERT INTO pick_outcome (cell, item_class, node, found, missed)
SELECT u.*, 0, 0 FROM unnest(%b::smallint[], %b::text[], %b::text[]) AS u
ON CONFLICT (cell, item_class, node) DO UPDATE SET found = excluded.found WHERE false
RETURNING cell
"""
GIVE_WAY: Final = "SET LOCAL lock_timeout = 1"
WAIT_AGAIN: Final = "SET LOCAL lock_timeout = 0"

LOCK_WAITING: Final = """
SELECT order_id, demand
FROM todo
WHERE cell = ANY (%b::smallint[]) AND order_id = ANY (%b::uuid[]) AND queue = 'stock'
ORDER BY order_id
FOR UPDATE
"""

SheetKey = tuple[int, str, int]
"""Cell, node and part: the key of a sheet of count marks, and the order in which sheets are locked."""

Slot = tuple[int, str, date, int]
"""Cell, node, day and slot: the key of a capacity, and the order in which capacities are locked."""

PickKey = tuple[int, str, str]
"""Cell, class of items and node: the key of a record of picks, and the order in which records are locked."""


class RowLocks:
    """The row locks of one transaction. A class may be locked again, but none that comes before it."""

    def __init__(self, cursor: Cursor[TupleRow]) -> None:
        self._cursor = cursor
        self._held = Locked.NOTHING
        self._positions: set[tuple[int, int]] = set()
        self._slots: set[Slot] = set()

    def orders(self, cells: Sequence[int], ids: Sequence[UUID]) -> list[TupleRow]:
        """Lock orders by id: the rows of LOCK_ORDERS."""
        return self._lock(Locked.ORDERS, LOCK_ORDERS, (cells, ids))

    def positions(self, cells: Sequence[int], ids: Sequence[int]) -> list[TupleRow]:
        """Lock positions by cell and id: the rows of LOCK_POSITIONS."""
        asked = (sorted(set(cells)), array("int8", ids))
        keys = set(zip(cells, ids, strict=True))
        if keys <= self._positions:
            # Nothing is locked that was not: that may come at any time.
            return self._cursor.execute(LOCK_POSITIONS, asked).fetchall()
        self._positions |= keys
        return self._lock(Locked.POSITIONS, LOCK_POSITIONS, asked)

    def gates(self, keys: Collection[tuple[int, str]]) -> None:
        """Lock the gates of cells and items: no position of an item comes to be in a cell but by who holds its gate."""
        if keys:
            cells, items = zip(*sorted(keys), strict=True)
            self._lock(Locked.GATES, LOCK_GATES, (array("int2", cells), array("text", items)))

    def sheets(self, keys: Sequence[SheetKey], share: bool = False) -> None:
        """Lock sheets, which are in order, and make those that are not there; or `share` them with others who do."""
        if not keys:
            return
        cells, nodes, parts = zip(*keys, strict=True)
        asked = {"cells": array("int2", cells), "nodes": array("text", nodes), "parts": array("int2", parts)}
        if not share or not self._lock(Locked.SHEETS, SHARE_SHEETS, asked):
            self._lock(Locked.SHEETS, LOCK_SHEETS, asked)

    def receipts(self, cells: Sequence[int], ids: Sequence[UUID]) -> list[TupleRow]:
        """Lock receipts by id: the rows of LOCK_RECEIPTS."""
        return self._lock(Locked.RECEIPTS, LOCK_RECEIPTS, (cells, ids))

    def capacity(self, keys: Collection[Slot]) -> list[TupleRow]:
        """Lock slots by key: the keys of those that were there, and what is taken of them."""
        made = self.slots(keys)
        return [row for row in self._lock(Locked.CAPACITY, LOCK_CAPACITY, _columns(keys)) if row[:4] not in made]

    def slots(self, keys: Collection[Slot]) -> frozenset[Slot]:
        """Lock slots by key, and make those that are not there: the keys of these.

        One that comes before a slot that is locked already is not waited for: if another has it, LockNotAvailable.
        """
        late = [key for key in keys if self._slots and key not in self._slots and key < max(self._slots)]
        made: list[TupleRow] = []
        if late:
            self._cursor.execute(GIVE_WAY)
            made += self._lock(Locked.CAPACITY, MAKE_SLOTS, _columns(late))
            self._cursor.execute(WAIT_AGAIN)
        self._slots.update(keys)
        return frozenset(made + self._lock(Locked.CAPACITY, MAKE_SLOTS, _columns(keys)))

    def picks(self, keys: Collection[PickKey]) -> None:
        """Lock records of picks by key, and make those that are not there."""
        cells, classes, nodes = zip(*sorted(keys), strict=True)
        self._lock(Locked.PICKS, LOCK_PICKS, (array("int2", cells), array("text", classes), array("text", nodes)))

    def waiting(self, cells: Sequence[int], orders: Sequence[UUID]) -> list[TupleRow]:
        """Lock demand that waits for stock, by order: the rows of LOCK_WAITING."""
        return self._lock(Locked.WAITING, LOCK_WAITING, (cells, orders))

    def _lock(
        self, what: Locked, statement: str, parameters: Sequence[object] | Mapping[str, object]
    ) -> list[TupleRow]:
        assert what >= self._held, f"{what.name} are locked before {self._held.name}, not after them"
        self._held = what
        return self._cursor.execute(statement, parameters).fetchall()


def _columns(keys: Collection[Slot]) -> list[list[object]]:
    return [list(column) for column in zip(*sorted(keys), strict=True)]
