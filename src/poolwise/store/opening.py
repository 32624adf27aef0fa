"""Positions that a snapshot names for the first time come to be as a set: each with its one movement.

Laws 1, 3 and 4: a position is what its journal says, from its first version on; journal, events and the audit row
commit with it, and so do the mark and the waking that the caller sees to. A position that somebody else has made
meanwhile is left to the flow of counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import Cursor
from psycopg.rows import TupleRow

from poolwise.core.ledger import Account, Cause
from poolwise.core.values import Json
from poolwise.flows.ports import Event
from poolwise.flows.snapshot import CountColumns, Sifting
from poolwise.store.codec import pack_events
from poolwise.store.journal import first_of_month
from poolwise.store.locking import RowLocks
from poolwise.store.posting import ACCOUNT_NUMBER
from poolwise.store.recording import COPY_OUTBOX
from poolwise.store.writing import columns, jsonb

POSITIONS_IN_AN_EVENT: Final = 500

OPEN: Final = """
INSERT INTO position (cell, id, item, node, pool, lot, expires_on, moved_at, version,
    outside, expected, pledged, in_transit, available, reserved, blocked)
SELECT u.cell, u.id, u.item, u.node, u.pool, '', NULL, %(at)b, sign(u.quantity), -u.quantity, 0, 0, 0, u.quantity, 0, 0
FROM unnest(%(c1)b::smallint[], %(c2)b::bigint[], %(c3)b::text[], %(c4)b::text[], %(c5)b::text[], %(c6)b::bigint[])
    AS u (cell, id, item, node, pool, quantity)
ON CONFLICT DO NOTHING
RETURNING id
"""
MOVE_IN: Final = """
INSERT INTO movement (cell, position, version, month, at, source, target, quantity, cause, cause_id, occurred_at)
SELECT u.cell, u.id, 1, %(month)b, %(at)b, %(outside)b::smallint, %(available)b::smallint, u.quantity, %(cause)b,
    %(batch)b, least(u.as_of, %(at)b)
FROM unnest(%(c1)b::smallint[], %(c2)b::bigint[], %(c3)b::bigint[], %(c4)b::timestamptz[])
    AS u (cell, id, quantity, as_of)
WHERE u.quantity > 0
"""
WRITE_AUDIT: Final = """
INSERT INTO audit (cell, month, at, actor, action, subject, detail) VALUES (%b, %b, %b, %b, %b, %b, %b)
"""


@dataclass(frozen=True, slots=True)
class Opened:
    """Places of the counts whose positions came to be, and how many of these have stock."""

    places: frozenset[int] = frozenset()
    with_stock: int = 0


def open_positions(cursor: Cursor[TupleRow], counts: CountColumns, unknown: Sequence[int], said: Sifting) -> Opened:
    """Make the positions of the counts at the places of `unknown`, with what was counted."""
    if not unknown:
        return Opened()
    order = sorted(unknown, key=lambda place: (counts.cells[place], counts.positions[place]))
    rows = [(counts.cells[p], counts.positions[p], *counts.key(p), counts.quantities[p]) for p in order]
    # Whoever leaves demand for an item short holds its gate: he comes first and is woken, or sees these.
    RowLocks(cursor).gates({(cell, item) for cell, _, item, *_ in rows})
    cursor.execute(OPEN, {"at": said.at, **columns(("int2", "int8", "text", "text", "text", "int8"), rows)})
    made = {id_ for (id_,) in cursor.fetchall()}
    places = [p for p in order if counts.positions[p] in made]
    if not places:
        return Opened()
    _journal(cursor, counts, places, said)
    _tell(cursor, counts, places, said)
    return Opened(frozenset(places), sum(counts.quantities[p] > 0 for p in places))


def _journal(cursor: Cursor[TupleRow], counts: CountColumns, places: Sequence[int], said: Sifting) -> None:
    rows = [
        (counts.cells[p], counts.positions[p], counts.quantities[p], counts.instants[counts.as_of[p]]) for p in places
    ]
    cursor.execute(
        MOVE_IN,
        {
            "at": said.at,
            "month": first_of_month(said.at),
            "batch": said.batch,
            "cause": Cause.COUNT.value,
            "outside": ACCOUNT_NUMBER[Account.OUTSIDE],
            "available": ACCOUNT_NUMBER[Account.AVAILABLE],
            **columns(("int2", "int8", "int8", "timestamptz"), rows),
        },
    )


def _tell(cursor: Cursor[TupleRow], counts: CountColumns, places: Sequence[int], said: Sifting) -> None:
    """The events, which tell positions and what moved, and the audit row."""
    month = first_of_month(said.at)
    by_cell: dict[int, list[int]] = {}
    for p in places:
        by_cell.setdefault(counts.cells[p], []).append(p)
    outbox = []
    for cell, own in sorted(by_cell.items()):
        events = [
            Event("stock.opened", str(said.batch), _told(counts, own[first : first + POSITIONS_IN_AN_EVENT]), cell)
            for first in range(0, len(own), POSITIONS_IN_AN_EVENT)
        ]
        outbox.append((cell, month, said.at, len(events), pack_events(events)))
    with cursor.copy(COPY_OUTBOX) as copy:
        copy.set_types(("int2", "date", "timestamptz", "int4", "bytea"))
        for row in outbox:
            copy.write_row(row)
    cell, detail = min(by_cell), jsonb({"positions": len(places)})
    cursor.execute(WRITE_AUDIT, (cell, month, said.at, said.actor, "stock.open", str(said.batch), detail))


def _told(counts: CountColumns, places: Sequence[int]) -> dict[str, Json]:
    outside, available = Account.OUTSIDE.value, Account.AVAILABLE.value
    keys: list[Json] = [[str(counts.positions[p]), *counts.key(p)] for p in places]
    moved: list[Json] = [
        [str(counts.positions[p]), outside, available, counts.quantities[p]] for p in places if counts.quantities[p]
    ]
    return {"positions": keys, "moved": moved}
