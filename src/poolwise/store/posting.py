"""Writes what happens to stock: positions, movements, receipts, reservations, capacity. Laws 1, 2, 3, 6, 14.

Nothing is read before it is changed: the conditions are in the statements, so two recordings that meet cannot both take
the last unit, and a recording fails only if stock is really gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from psycopg.rows import TupleRow

from poolwise.core.counting import owner_of
from poolwise.core.ledger import ACCOUNTS, EMPTY, Movement
from poolwise.core.values import LARGEST_QUANTITY, Conflict
from poolwise.flows.ports import CapacityChange, Ending, PickOutcome, ReceiptChange, ReservationEnd
from poolwise.store.journal import first_of_month
from poolwise.store.locking import PickKey, Slot
from poolwise.store.writing import Writing, columns

ACCOUNT_NUMBER: Final = {account: number for number, account in enumerate(ACCOUNTS)}
OUTSIDE: Final = 0

INSERT_POSITIONS: Final = """
INSERT INTO position (cell, id, item, node, pool, lot, expires_on, moved_at,
    outside, expected, pledged, in_transit, available, reserved, blocked, version)
SELECT u.*, %(at)b, 0, 0, 0, 0, 0, 0, 0, 0
FROM unnest(%(c1)b::smallint[], %(c2)b::bigint[], %(c3)b::text[], %(c4)b::text[], %(c5)b::text[], %(c6)b::text[],
    %(c7)b::date[]) AS u
ON CONFLICT DO NOTHING
RETURNING id
"""


POSITION_TYPES: Final = ("int2", "int8", "text", "text", "text", "text", "date")


def ensure_positions(w: Writing) -> None:
    """Positions come to be empty, those of an item side by side; one that exists already stays as it is."""
    positions = sorted(w.effects.positions, key=lambda position: position.key)
    if not positions:
        return
    assert all(p.balances == EMPTY and p.version == 0 for p in positions), "stock is moved, never set (law 1)"
    w.locks.gates({(p.cell, p.key.item) for p in positions if owner_of(p.key) is None})
    rows = [(p.cell, p.id, p.key.item, p.key.node, p.key.pool, p.key.lot, p.expires_on) for p in positions]
    w.cursor.execute(INSERT_POSITIONS, {"at": w.effects.at, **columns(POSITION_TYPES, rows)})
    made = {position for (position,) in w.cursor.fetchall()}
    others = [p for p in positions if p.id not in made]
    places, _ = w.places.learn(w.cursor, [p.id for p in others])
    for p in others:
        place = places.get(p.id)
        same = place is not None and (place.item, place.node, place.pool, place.lot) == (
            p.key.item,
            p.key.node,
            p.key.pool,
            p.key.lot,
        )
        assert same, f"two positions share the number {p.id}: {p.key} and {place}"


Leg = tuple[int, int, int, str, UUID, datetime | None, int | None]
"""One row of the journal: source, target, quantity, cause, its id, when it happened if that was earlier than now, and
the position at the other end of a transfer."""


def legs_of(movements: Iterable[Movement]) -> dict[int, list[Leg]]:
    """Rows of the journal by position. A transfer has a leg at each side, which passes through that side's outside."""
    legs: dict[int, list[Leg]] = {}
    for m in movements:
        assert 0 < m.quantity <= LARGEST_QUANTITY, f"no quantity to move: {m}"
        source, target = ACCOUNT_NUMBER[m.source], ACCOUNT_NUMBER[m.target]
        other = m.to_position
        what = (m.quantity, m.cause.value, m.cause_id, m.occurred_at)
        if other is None or other == m.position:
            assert source != target, f"a movement goes from one account to another: {m}"
            legs.setdefault(m.position, []).append((source, target, *what, None))
        else:
            assert OUTSIDE not in (source, target), f"a transfer moves stock that is there: {m}"
            legs.setdefault(m.position, []).append((source, OUTSIDE, *what, other))
            legs.setdefault(other, []).append((OUTSIDE, target, *what, m.position))
    return legs


Posting = tuple[int, ...]
"""What the movements of a position come to: its cell and number, how many they are, and the sums by account without
outside."""


def posting_of(cell: int, position: int, legs: Sequence[Leg]) -> tuple[Posting, tuple[int, ...]]:
    """The posting of a position, and by account how low its sum falls on the way; () when that is no lower than at
    one of the ends."""
    sums = [0] * len(ACCOUNTS)
    if len(legs) == 1:
        leg = legs[0]
        sums[leg[0]], sums[leg[1]] = -leg[2], leg[2]
        return (cell, position, 1, *sums[1:]), ()
    lows = [0] * len(ACCOUNTS)
    for source, target, quantity, *_ in legs:
        sums[source] -= quantity
        sums[target] += quantity
        lows[source] = min(lows[source], sums[source])
    dips = any(low < min(0, total) for low, total in zip(lows[1:], sums[1:], strict=True))
    return (cell, position, len(legs), *sums[1:]), tuple(lows[1:]) if dips else ()


UPDATE_POSITIONS: Final = """
UPDATE position AS p
SET outside = p.outside - u.expected - u.pledged - u.in_transit - u.available - u.reserved - u.blocked,
    expected = p.expected + u.expected,
    pledged = p.pledged + u.pledged,
    in_transit = p.in_transit + u.in_transit,
    available = p.available + u.available,
    reserved = p.reserved + u.reserved,
    blocked = p.blocked + u.blocked,
    version = p.version + u.movements,
    moved_at = greatest(p.moved_at, %(at)b)
FROM unnest(%(c1)b::smallint[], %(c2)b::bigint[], %(c3)b::bigint[], %(c4)b::bigint[], %(c5)b::bigint[],
    %(c6)b::bigint[], %(c7)b::bigint[], %(c8)b::bigint[], %(c9)b::bigint[])
    AS u (cell, id, movements, expected, pledged, in_transit, available, reserved, blocked)
WHERE p.cell = u.cell AND p.id = u.id
    AND p.expected + u.expected >= 0
    AND p.pledged + u.pledged >= 0
    AND p.in_transit + u.in_transit >= 0
    AND p.available + u.available >= 0
    AND p.reserved + u.reserved >= 0
    AND p.blocked + u.blocked >= 0
RETURNING p.id, p.cell, p.version, CASE WHEN p.moved_at > %(at)b THEN p.moved_at END
"""
POSTING_TYPES: Final = ("int2", *["int8"] * 8)
COPY_MOVEMENTS: Final = """
COPY movement (cell, position, version, month, at, source, target, quantity, cause, cause_id, occurred_at,
    other_position)
FROM STDIN (FORMAT BINARY)
"""
MOVEMENT_TYPES: Final = (
    "int2", "int8", "int8", "date", "timestamptz", "int2", "int2", "int8", "text", "uuid", "timestamptz", "int8",
)  # fmt: skip


def move(w: Writing) -> None:
    """Laws 1 and 2: each position is updated once, by the sum of its movements, if no account falls below zero."""
    if not w.effects.movements:
        return
    legs = legs_of(w.effects.movements)
    cell_of = w.places.cells_of(w.cursor, list(legs))
    _assert_one_item(w, legs)
    postings: list[Posting] = []
    dipping: dict[int, tuple[int, ...]] = {}
    for position in sorted(legs):
        posting, lows = posting_of(cell_of[position], position, legs[position])
        postings.append(posting)
        if lows:
            dipping[position] = lows
    _require_stock_on_the_way(w, dipping, cell_of)
    w.cursor.execute(UPDATE_POSITIONS, {"at": w.effects.at, **columns(POSTING_TYPES, postings)})
    moved = w.cursor.fetchall()
    if len(moved) != len(postings):
        raise Conflict(f"{len(postings) - len(moved)} of {len(postings)} positions no longer hold what is moved")
    w.copy(COPY_MOVEMENTS, MOVEMENT_TYPES, _journal(w, legs, moved))


def _assert_one_item(w: Writing, legs: Mapping[int, Sequence[Leg]]) -> None:
    """A transfer moves one item."""
    places = w.places.known
    for position, own in legs.items():
        for leg in own:
            if (other := leg[-1]) is not None:
                assert places[position].item == places[other].item, f"a movement moves one item: {position} to {other}"


def _require_stock_on_the_way(w: Writing, dipping: Mapping[int, Sequence[int]], cell_of: Mapping[int, int]) -> None:
    """Law 1 at every instant: what one recording brings and takes must come before it goes.

    The UPDATE sees sums only. The few positions with a balance that is lower on the way than at both ends are looked at
    here, under lock.
    """
    if not dipping:
        return
    positions = sorted(dipping)
    cells = [cell_of[position] for position in positions]
    for position, _outside, *balances, _version in w.locks.positions(cells, positions):
        if any(balance + low < 0 for balance, low in zip(balances, dipping[position], strict=True)):
            raise Conflict(f"position {position} does not hold what is moved when it is moved")


def _journal(w: Writing, legs: Mapping[int, Sequence[Leg]], moved: Sequence[TupleRow]) -> list[tuple[object, ...]]:
    """The rows of the journal in the order of their key, each with its position's version after it (law 3)."""
    at = w.effects.at
    rows: list[tuple[object, ...]] = []
    for position, cell, version, later in sorted(moved):
        moved_at, month = (at, w.month) if later is None else (later, first_of_month(later))
        own = legs[position]
        for after, leg in enumerate(own, version - len(own) + 1):
            rows.append((cell, position, after, month, moved_at, *leg))
    return rows


COPY_RECEIPTS: Final = """
COPY receipt (cell, id, position, item, reference, due_on, quantity, pledged, arrived, cancelled, announced, sequence)
FROM STDIN (FORMAT BINARY)
"""
RECEIPT_TYPES: Final = (
    "int2", "uuid", "int8", "text", "text", "date", "int8", "int8", "int8", "int8", "bool", "int8",
)  # fmt: skip
UPDATE_RECEIPTS: Final = """
UPDATE receipt AS r
SET quantity = r.quantity + u.quantity,
    pledged = r.pledged + u.pledged,
    arrived = r.arrived + u.arrived,
    cancelled = r.cancelled + u.cancelled,
    due_on = coalesce(u.due_on, r.due_on),
    sequence = coalesce(u.sequence, r.sequence),
    announced = coalesce(u.announced, r.announced)
FROM unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::bigint[], %(c4)b::bigint[], %(c5)b::bigint[],
    %(c6)b::bigint[], %(c7)b::date[], %(c8)b::bigint[], %(c9)b::boolean[])
    AS u (cell, id, quantity, pledged, arrived, cancelled, due_on, sequence, announced)
WHERE r.cell = u.cell AND r.id = u.id
    AND r.pledged + u.pledged >= 0
    AND r.arrived + u.arrived >= 0
    AND r.cancelled + u.cancelled >= 0
    AND r.pledged + u.pledged + r.arrived + u.arrived + r.cancelled + u.cancelled <= r.quantity + u.quantity
"""


def write_receipts(w: Writing) -> None:
    """Law 2: a receipt never holds less than is pledged, arrived and cancelled of it."""
    positions = [receipt.position for receipt in w.effects.receipts]
    w.places.cells_of(w.cursor, positions)
    places = w.places.known
    receipts = [
        (
            r.cell,
            r.id,
            r.position,
            places[r.position].item,
            r.reference,
            r.due_on,
            r.quantity,
            r.pledged,
            r.arrived,
            r.cancelled,
            r.announced,
            r.sequence,
        )
        for r in w.effects.receipts
    ]
    w.copy(COPY_RECEIPTS, RECEIPT_TYPES, receipts)
    changes = merged_receipt_changes(w.effects.receipt_changes)
    if changes:
        rows = [
            (c.cell, c.receipt, c.quantity, c.pledged, c.arrived, c.cancelled, c.due_on, c.sequence, c.announced)
            for c in changes
        ]
        w.change(UPDATE_RECEIPTS, ("int2", "uuid", *["int8"] * 4, "date", "int8", "bool"), rows)


def merged_receipt_changes(changes: Iterable[ReceiptChange]) -> list[ReceiptChange]:
    """One change for each receipt, in id order: the sums, and the last of what replaces."""
    merged: dict[UUID, ReceiptChange] = {}
    for change in changes:
        before = merged.get(change.receipt)
        merged[change.receipt] = change if before is None else _added(before, change)
    return [merged[receipt] for receipt in sorted(merged)]


def _added(first: ReceiptChange, then: ReceiptChange) -> ReceiptChange:
    return ReceiptChange(
        then.cell,
        then.receipt,
        first.quantity + then.quantity,
        first.pledged + then.pledged,
        first.arrived + then.arrived,
        first.cancelled + then.cancelled,
        first.due_on if then.due_on is None else then.due_on,
        first.sequence if then.sequence is None else then.sequence,
        first.announced if then.announced is None else then.announced,
    )


COPY_RESERVATIONS: Final = """
COPY reservation (cell, owner, no, position, quantity, line_no, line_quantity, kind, shipment_no, made_at, receipt,
    expires_at)
FROM STDIN (FORMAT BINARY)
"""
RESERVATION_TYPES: Final = (
    "int2", "uuid", "int8", "int8", "int8", "int4", "int8", "text", "int8", "timestamptz", "uuid",
    "timestamptz",
)  # fmt: skip
END_RESERVATIONS: Final = """
UPDATE reservation AS r
SET consumed = r.consumed + u.consumed,
    freed = r.freed + u.freed,
    expired = r.expired + u.expired,
    broken = r.broken + u.broken
FROM unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::bigint[], %(c4)b::bigint[], %(c5)b::bigint[],
    %(c6)b::bigint[], %(c7)b::bigint[]) AS u (cell, owner, no, consumed, freed, expired, broken)
WHERE r.cell = u.cell AND r.owner = u.owner AND r.no = u.no
    AND r.consumed + u.consumed + r.freed + u.freed + r.expired + u.expired + r.broken + u.broken <= r.quantity
"""


def write_reservations(w: Writing) -> None:
    """Law 6: a reservation begins whole, and no unit of it ends twice."""
    assert all(r.open == r.quantity > 0 for r in w.effects.reservations), "a reservation begins whole (law 6)"
    reservations = [
        (
            r.cell,
            r.owner,
            r.no,
            r.position,
            r.quantity,
            r.line_no,
            r.line_quantity,
            r.kind.value,
            r.shipment_no,
            r.made_at,
            r.receipt,
            r.expires_at,
        )
        for r in w.effects.reservations
    ]
    w.copy(COPY_RESERVATIONS, RESERVATION_TYPES, reservations)
    ends = merged_ends(w.effects.reservation_ends)
    if ends:
        rows = [(*key, *(ended[ending] for ending in Ending)) for key, ended in ends.items()]
        w.change(END_RESERVATIONS, ("int2", "uuid", *["int8"] * 5), rows)


def merged_ends(ends: Iterable[ReservationEnd]) -> dict[tuple[int, UUID, int], dict[Ending, int]]:
    """Units that end by reservation (cell, owner, number) and ending, in key order."""
    merged: dict[tuple[int, UUID, int], dict[Ending, int]] = {}
    for end in ends:
        assert end.quantity, f"nothing ends: {end}"
        merged.setdefault((end.cell, end.owner, end.no), dict.fromkeys(Ending, 0))[end.ending] += end.quantity
    return {key: merged[key] for key in sorted(merged)}


UPDATE_CAPACITY: Final = """
UPDATE capacity AS c
SET taken = c.taken + u.quantity,
    limit_quantity = CASE WHEN u.ceiling IS NULL THEN NULL ELSE greatest(u.ceiling, c.taken + u.quantity) END
FROM unnest(%(c1)b::smallint[], %(c2)b::text[], %(c3)b::date[], %(c4)b::integer[], %(c5)b::bigint[],
    %(c6)b::bigint[]) AS u (cell, node, day, slot, quantity, ceiling)
WHERE c.cell = u.cell AND c.node = u.node AND c.day = u.day AND c.slot = u.slot
    AND c.taken + u.quantity >= 0
    AND (u.quantity < 0 OR u.ceiling IS NULL OR c.taken + u.quantity <= u.ceiling)
"""

SLOT_TYPES: Final = ("int2", "text", "date", "int4")


def change_capacity(w: Writing) -> None:
    """Law 14: taken stays between zero and the limit; giving back is never refused."""
    changes = merged_capacity_changes(w.effects.capacity)
    if not changes:
        return
    keys = list(changes)
    w.locks.slots(keys)
    rows = [(*key, *change) for key, change in changes.items()]
    w.change(UPDATE_CAPACITY, (*SLOT_TYPES, "int8", "int8"), rows)


def merged_capacity_changes(changes: Iterable[CapacityChange]) -> dict[Slot, tuple[int, int | None]]:
    """The sum and the last limit given for each slot, in key order, without those that do not change."""
    sums: dict[Slot, tuple[int, int | None]] = {}
    for change in changes:
        key = (change.cell, change.node, change.day, change.slot)
        before, _ = sums.get(key, (0, None))
        sums[key] = (before + change.quantity, change.limit)
    return {key: sums[key] for key in sorted(sums) if sums[key][0]}


ADD_PICKS: Final = """
UPDATE pick_outcome AS p
SET found = greatest(0, p.found + u.found), missed = p.missed + u.missed
FROM unnest(%(c1)b::smallint[], %(c2)b::text[], %(c3)b::text[], %(c4)b::bigint[], %(c5)b::bigint[])
    AS u (cell, item_class, node, found, missed)
WHERE p.cell = u.cell AND p.item_class = u.item_class AND p.node = u.node
"""


def add_picks(w: Writing) -> None:
    """The records of nodes are totals. What was found before they were kept is no less than nothing when taken back."""
    sums = merged_picks(w.effects.pick_outcomes)
    if not sums:
        return
    w.locks.picks(list(sums))
    w.change(ADD_PICKS, ("int2", "text", "text", "int8", "int8"), [(*key, *added) for key, added in sums.items()])


def merged_picks(outcomes: Iterable[PickOutcome]) -> dict[PickKey, tuple[int, int]]:
    """The sums of found and missed for each cell, class of items and node, in key order."""
    sums: dict[PickKey, tuple[int, int]] = {}
    for outcome in outcomes:
        key = (outcome.cell, outcome.item_class, outcome.node)
        found, missed = sums.get(key, (0, 0))
        sums[key] = (found + outcome.found, missed + outcome.missed)
    return {key: sums[key] for key in sorted(sums) if any(sums[key])}
