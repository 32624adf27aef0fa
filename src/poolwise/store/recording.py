"""Writes one `Effects` value, step by step, or raises Conflict: laws 3, 4, 5, 7, 13, and those of `store.posting`.

Rows that come to be are copied in. Rows that change are updated from arrays, each only if it is as the flow read it,
and the number of changed rows must be right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from poolwise.core.orders import TRANSITIONS, OrderState, Progress
from poolwise.core.values import Conflict, replace
from poolwise.flows.ports import RETURN, Effects, Event, OrderRecord, Queue, Todo
from poolwise.store.arrays import texts
from poolwise.store.claiming import DELETE_ITEMS
from poolwise.store.codec import bucket, hold_texts, pack_events, pack_former, pack_order, pack_return, pack_todo
from poolwise.store.journal import first_of_month
from poolwise.store.posting import (
    add_picks,
    change_capacity,
    ensure_positions,
    move,
    write_receipts,
    write_reservations,
)
from poolwise.store.steps import Failpoint, Step
from poolwise.store.writing import Writing, columns, jsonb


def record(w: Writing, failpoint: Failpoint) -> None:
    """Take every step. Raises Conflict when a condition no longer holds; the transaction is then of no more use."""
    steps: tuple[tuple[Step, Callable[[Writing], None]], ...] = (
        (Step.KEYS, write_keys),
        (Step.ORDERS, write_orders),
        (Step.ORDERS_CHANGED, change_orders),
        (Step.POSITIONS, ensure_positions),
        (Step.MOVEMENTS, move),
        (Step.RECEIPTS, write_receipts),
        (Step.RESERVATIONS, write_reservations),
        (Step.SHIPMENTS, write_shipments),
        (Step.QUEUES, write_queues),
        (Step.DECISIONS, write_decisions),
        (Step.COUNTS, write_counts),
        (Step.EVENTS, write_events),
        (Step.CAPACITY, change_capacity),
        (Step.PICKS, add_picks),
    )
    for step, take in steps:
        take(w)
        failpoint(step)


COPY_ANSWERS: Final = """
COPY answer (cell, sender, key, body_hash, status, reference, at) FROM STDIN (FORMAT BINARY)
"""
COPY_MESSAGES: Final = "COPY inbox (cell, sender, message, at) FROM STDIN (FORMAT BINARY)"


def write_keys(w: Writing) -> None:
    """Law 5: a message that somebody else has had the effect of is a conflict, before anything is locked."""
    at = w.effects.at
    answers = [(bucket(a.key), a.sender, a.key, a.body_hash, a.status, a.reference, at) for a in w.effects.answers]
    w.copy(COPY_ANSWERS, ("int2", "text", "text", "bytea", "int2", "text", "timestamptz"), answers)
    messages = [(bucket(message), sender, message, at) for sender, message in w.effects.messages_seen]
    w.copy(COPY_MESSAGES, ("int2", "text", "text", "timestamptz"), messages)


COPY_NUMBERS: Final = "COPY order_number (cell, number, order_cell, order_id) FROM STDIN (FORMAT BINARY)"
COPY_ORDERS: Final = """
COPY customer_order (cell, id, state, attempt, number, channel, zone, customer, service_level, received_at, changed_at,
    document)
FROM STDIN (FORMAT BINARY)
"""
ORDER_TYPES: Final = (
    "int2", "uuid", "text", "int4", "text", "text", "text", "text", "text", "timestamptz", "timestamptz", "bytea",
)  # fmt: skip
COPY_LINES: Final = """
COPY order_line (cell, order_id, no, item, ordered, open, reserved, pledged, backordered, released, shipped, cancelled)
FROM STDIN (FORMAT BINARY)
"""
LINE_TYPES: Final = ("int2", "uuid", "int4", "text", *["int8"] * 8)
COPY_CONTACTS: Final = "COPY contact (cell, id, made_at, data) FROM STDIN (FORMAT BINARY)"


def write_orders(w: Writing) -> None:
    """New orders under their numbers, with their lines, and the persons they are for."""
    at = w.effects.at
    records = w.effects.orders
    numbers = [(bucket(r.order.number), r.order.number, r.order.cell, r.order.id) for r in records]
    for each in w.effects.returns:
        if each.is_new:
            number = RETURN + each.found.number
            numbers.append((bucket(number), number, each.cell, each.order))
    w.copy(COPY_NUMBERS, ("int2", "text", "int2", "uuid"), sorted(numbers))
    orders = [
        (
            record.order.cell,
            record.order.id,
            record.state.value,
            record.attempt,
            record.order.number,
            record.order.channel,
            record.order.zone,
            record.order.customer,
            record.order.service_level,
            record.order.received_at,
            at,
            pack_order(record.order),
        )
        for record in records
    ]
    w.copy(COPY_ORDERS, ORDER_TYPES, orders)
    lines = [
        (record.order.cell, record.order.id, line.no, line.item, *_parts(progress))
        for record in records
        for line, progress in zip(record.order.lines, record.lines, strict=True)
    ]
    w.copy(COPY_LINES, LINE_TYPES, lines)
    contacts = [(bucket(c.id.bytes), c.id, at, jsonb(c.data)) for c in w.effects.contacts]
    w.copy(COPY_CONTACTS, ("int2", "uuid", "timestamptz", "jsonb"), contacts)


ALLOWED_BEFORE: Final = {
    after: ",".join(before for before in OrderState if before is after or after in TRANSITIONS[before])
    for after in OrderState
}
"""For each state those an order may come from, itself included."""

UPDATE_ORDERS: Final = """
UPDATE customer_order AS o
SET state = u.state, attempt = u.attempt, changed_at = %(at)b
FROM unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::text[], %(c4)b::text[], %(c5)b::integer[], %(c6)b::integer[])
    AS u (cell, id, state, allowed_before, attempt, attempt_before)
WHERE o.cell = u.cell AND o.id = u.id AND o.attempt = u.attempt_before
    AND o.state = ANY (string_to_array(u.allowed_before, ','))
"""
TEXTS_APART: Final = "\x1f"
# Hardly any order has them.
UPDATE_DECLINED: Final = """
UPDATE customer_order AS o
SET declined = string_to_array(u.declined, E'\\x1f')
FROM unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::text[]) AS u (cell, id, declined)
WHERE o.cell = u.cell AND o.id = u.id
"""
UPDATE_LINES: Final = """
UPDATE order_line AS l
SET open = u.open, reserved = u.reserved, pledged = u.pledged, backordered = u.backordered, released = u.released,
    shipped = u.shipped, cancelled = u.cancelled
FROM unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::integer[], %(c4)b::bigint[], %(c5)b::bigint[], %(c6)b::bigint[],
    %(c7)b::bigint[], %(c8)b::bigint[], %(c9)b::bigint[], %(c10)b::bigint[], %(c11)b::bigint[])
    AS u (cell, order_id, no, ordered, open, reserved, pledged, backordered, released, shipped, cancelled)
WHERE l.cell = u.cell AND l.order_id = u.order_id AND l.no = u.no AND l.ordered = u.ordered
"""


UPDATE_DOCUMENTS: Final = """
UPDATE customer_order AS o
SET zone = u.zone, service_level = u.service_level, document = u.document, former = u.former
FROM unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::text[], %(c4)b::text[], %(c5)b::bytea[], %(c6)b::bytea[])
    AS u (cell, id, zone, service_level, document, former)
WHERE o.cell = u.cell AND o.id = u.id
"""
ADD_LINES: Final = """
INSERT INTO order_line AS l
    (cell, order_id, no, item, ordered, open, reserved, pledged, backordered, released, shipped, cancelled)
SELECT u.cell, u.order_id, u.no, u.item, u.quantity, u.quantity, 0, 0, 0, 0, 0, 0
FROM unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::integer[], %(c4)b::text[], %(c5)b::bigint[])
    AS u (cell, order_id, no, item, quantity)
ON CONFLICT (cell, order_id, no) DO UPDATE
SET ordered = excluded.ordered, open = l.open + excluded.ordered - l.ordered
WHERE excluded.ordered > l.ordered
"""
UPDATE_HOLDS: Final = """
UPDATE customer_order AS o
SET holds = string_to_array(u.holds, E'\\x1f'), changed_at = %(at)b
FROM unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::text[]) AS u (cell, id, holds)
WHERE o.cell = u.cell AND o.id = u.id
"""


def change_orders(w: Writing) -> None:
    """What orders are now, then where they stand, then what holds them."""
    _amend(w)
    _change(w)
    held = [(r.order.cell, r.order.id, TEXTS_APART.join(hold_texts(r.holds))) for r in w.effects.held]
    if held:
        w.change(UPDATE_HOLDS, ("int2", "uuid", "text"), sorted(held), at=w.effects.at)
    if w.effects.returns:
        _write_returns(w)


COUNT_RETURNS: Final = """
UPDATE customer_order AS o
SET returns = o.returns + u.more, changed_at = %(at)b
FROM unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::smallint[]) AS u (cell, id, more)
WHERE o.cell = u.cell AND o.id = u.id
"""
WRITE_RETURNS: Final = """
INSERT INTO customer_return (cell, order_id, id, number, node, state, opened_at, changed_at, document)
SELECT u.cell, u.order_id, u.id, u.number, u.node, u.state, u.opened_at, %(at)b, u.document::jsonb
FROM unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::uuid[], %(c4)b::text[], %(c5)b::text[], %(c6)b::text[],
    %(c7)b::timestamptz[], %(c8)b::text[]) AS u (cell, order_id, id, number, node, state, opened_at, document)
ON CONFLICT (cell, order_id, id) DO UPDATE
SET node = excluded.node, state = excluded.state, changed_at = excluded.changed_at, document = excluded.document
"""
RETURN_TYPES: Final = ("int2", "uuid", "uuid", "text", "text", "text", "timestamptz", "text")


def _write_returns(w: Writing) -> None:
    """Returns as they are now, and how many an order has: those that have none are read without looking."""
    rows = [
        (r.cell, r.order, r.found.id, r.found.number, r.found.node, r.found.state.value, r.found.opened_at,
         pack_return(r.found))
        for r in w.effects.returns
    ]  # fmt: skip
    w.change(WRITE_RETURNS, RETURN_TYPES, rows, at=w.effects.at)
    more: dict[tuple[int, UUID], int] = {}
    for each in w.effects.returns:
        more[each.cell, each.order] = more.get((each.cell, each.order), 0) + each.is_new
    w.change(
        COUNT_RETURNS, ("int2", "uuid", "int2"), [(*key, count) for key, count in sorted(more.items())], at=w.effects.at
    )


def _amend(w: Writing) -> None:
    """Other documents, and more of their lines, which begin as open. The rows are locked."""
    records = sorted(w.effects.amended, key=lambda record: record.order.id)
    if not records:
        return
    documents = [
        (o.cell, o.id, o.zone, o.service_level, pack_order(o), pack_former(record.former))
        for record in records
        for o in [record.order]
    ]
    w.change(UPDATE_DOCUMENTS, ("int2", "uuid", "text", "text", "bytea", "bytea"), documents)
    lines = [(r.order.cell, r.order.id, line.no, line.item, line.quantity) for r in records for line in r.order.lines]
    w.cursor.execute(ADD_LINES, columns(("int2", "uuid", "int4", "text", "int8"), lines))


def _change(w: Writing) -> None:
    """Where orders stand now. Law 3: an attempt rises by one in the commit that holds its decision, or stays.

    The life cycle is kept too: an order that has come into a state from which it cannot go on is a conflict.
    """
    records = sorted(w.effects.orders_changed, key=lambda record: record.order.id)
    if not records:
        return
    decided = {(decision.owner, decision.attempt) for decision in w.effects.decisions}
    orders = [
        (
            r.order.cell,
            r.order.id,
            r.state.value,
            ALLOWED_BEFORE[r.state],
            r.attempt,
            r.attempt - ((r.order.id, r.attempt) in decided),
        )
        for r in records
    ]
    w.change(UPDATE_ORDERS, ("int2", "uuid", "text", "text", "int4", "int4"), orders, at=w.effects.at)
    declined = [(r.order.cell, r.order.id, TEXTS_APART.join(r.declined)) for r in records if r.declined]
    if declined:
        w.change(UPDATE_DECLINED, ("int2", "uuid", "text"), declined)
    lines = [
        (record.order.cell, record.order.id, line.no, *_parts(progress))
        for record in records
        for line, progress in zip(record.order.lines, record.lines, strict=True)
    ]
    w.change(UPDATE_LINES, ("int2", "uuid", "int4", *["int8"] * 8), lines)


def _parts(line: Progress) -> tuple[int, int, int, int, int, int, int, int]:
    """The columns of a line, in the order of the statements."""
    return (
        line.ordered,
        line.open,
        line.reserved,
        line.pledged,
        line.backordered,
        line.released,
        line.shipped,
        line.cancelled,
    )


DELETE_BOOKINGS: Final = """
DELETE FROM booking AS b
USING unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::bigint[]) AS u (cell, owner, no)
WHERE b.cell = u.cell AND b.owner = u.owner AND b.shipment_no = u.no
"""
DELETE_SHIPMENTS: Final = """
DELETE FROM shipment AS s
USING unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::bigint[]) AS u (cell, owner, no)
WHERE s.cell = u.cell AND s.owner = u.owner AND s.no = u.no
"""
COPY_SHIPMENTS: Final = """
COPY shipment (cell, owner, no, node, lanes, ship_on, arrive_by, weight_ug, co2e_mg, collect_at)
FROM STDIN (FORMAT BINARY)
"""
SHIPMENT_TYPES: Final = ("int2", "uuid", "int8", "text", "text[]", "date", "date", "int8", "int8", "text")
COPY_BOOKINGS: Final = """
COPY booking (cell, owner, shipment_no, no, node, day, slot, quantity) FROM STDIN (FORMAT BINARY)
"""
BOOKING_TYPES: Final = ("int2", "uuid", "int8", "int4", "text", "date", "int4", "int8")


SET_OFFERS: Final = """
UPDATE shipment AS s
SET offered_to = string_to_array(u.nodes, E'\\x1f'), offered_until = u.until
FROM unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::bigint[], %(c4)b::text[], %(c5)b::timestamptz[])
    AS u (cell, owner, no, nodes, until)
WHERE s.cell = u.cell AND s.owner = u.owner AND s.no = u.no
"""
OFFER_TYPES: Final = ("int2", "uuid", "int8", "text", "timestamptz")
CHANGE_STAGES: Final = """
UPDATE shipment AS s
SET stage = u.after, stage_at = u.at
FROM unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::bigint[], %(c4)b::text[], %(c5)b::text[],
    %(c6)b::timestamptz[]) AS u (cell, owner, no, before, after, at)
WHERE s.cell = u.cell AND s.owner = u.owner AND s.no = u.no AND s.stage = u.before
"""
STAGE_TYPES: Final = ("int2", "uuid", "int8", "text", "text", "timestamptz")
COPY_MILESTONES: Final = """
COPY milestone (cell, owner, id, shipment_no, kind, at, told_at, told_by, detail) FROM STDIN (FORMAT BINARY)
"""
MILESTONE_TYPES: Final = ("int2", "uuid", "uuid", "int8", "text", "timestamptz", "timestamptz", "text", "jsonb")


def write_shipments(w: Writing) -> None:
    """Planned shipments that end, then those that begin, each with the capacity it has booked, and those that go on."""
    dropped = sorted(set(w.effects.shipments_dropped))
    if dropped:
        w.cursor.execute(DELETE_BOOKINGS, columns(("int2", "uuid", "int8"), dropped))
        w.change(DELETE_SHIPMENTS, ("int2", "uuid", "int8"), dropped)
    shipments, bookings = [], []
    for cell, owner, s, point in ((r.cell, r.owner, r.shipment, r.collect_at) for r in w.effects.shipments):
        how = (s.no, s.node, texts(s.lanes), s.ship_on, s.arrive_by, s.weight_ug, s.co2e_mg, point)
        shipments.append((cell, owner, *how))
        for no, b in enumerate(s.bookings):
            bookings.append((cell, owner, s.no, no, b.node, b.day, b.slot, b.quantity))
    w.copy(COPY_SHIPMENTS, SHIPMENT_TYPES, shipments)
    w.copy(COPY_BOOKINGS, BOOKING_TYPES, bookings)
    offers = [(o.cell, o.owner, o.no, TEXTS_APART.join(o.nodes), o.until) for o in w.effects.offers]
    if offers:
        w.change(SET_OFFERS, OFFER_TYPES, sorted(offers))
    stages = [(s.cell, s.owner, s.no, s.before.value, s.after.value, s.at or w.effects.at) for s in w.effects.stages]
    if stages:
        w.change(CHANGE_STAGES, STAGE_TYPES, sorted(stages))
    told = w.effects.at
    milestones = [
        (m.cell, m.owner, m.id, m.shipment_no, m.kind, m.at, told, m.told_by, jsonb(m.detail))
        for m in w.effects.milestones
    ]
    w.copy(COPY_MILESTONES, MILESTONE_TYPES, milestones)


TAKE_DEMAND: Final = """
DELETE FROM todo AS t
USING unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::text[]) AS u (cell, order_id, queue)
WHERE t.cell = u.cell AND t.order_id = u.order_id AND t.queue = u.queue
"""
# Who has one of these may want the order next, which we hold: he is not waited for.
FREE_WAITING: Final = """
SELECT t.order_id
FROM todo AS t JOIN unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::text[]) AS u (cell, order_id, queue)
    ON t.cell = u.cell AND t.order_id = u.order_id AND t.queue = u.queue
FOR NO KEY UPDATE OF t SKIP LOCKED
"""
COUNT_WAITING: Final = """
SELECT count(*)
FROM todo AS t JOIN unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::text[]) AS u (cell, order_id, queue)
    ON t.cell = u.cell AND t.order_id = u.order_id AND t.queue = u.queue
"""
COPY_TODO: Final = "COPY todo (cell, queue, rank, since, order_id, alone, demand) FROM STDIN (FORMAT BINARY)"
# Demand of an order that was decided before may wait in the queue already. A row that is to be sourced says all there
# is to say; of one that waits for stock the new one knows better for what and under which rules, the old one since
# when.
TAKE_BACK: Final = """
DELETE FROM todo AS t
USING unnest(%(c1)b::smallint[], %(c2)b::uuid[]) AS u (cell, order_id)
WHERE t.cell = u.cell AND t.order_id = u.order_id AND t.queue = 'stock'
RETURNING t.order_id, t.since
"""
ADD_TODO: Final = """
INSERT INTO todo (cell, queue, rank, since, order_id, alone, demand)
SELECT u.* FROM unnest(%(c1)b::smallint[], %(c2)b::text[], %(c3)b::integer[], %(c4)b::timestamptz[], %(c5)b::uuid[],
    %(c6)b::boolean[], %(c7)b::bytea[]) AS u
ON CONFLICT (cell, order_id, queue) DO NOTHING
"""
ADD_TODO_ITEMS: Final = """
INSERT INTO todo_item (cell, item, since, order_id)
SELECT u.* FROM unnest(%(c1)b::smallint[], %(c2)b::text[], %(c3)b::timestamptz[], %(c4)b::uuid[]) AS u
ON CONFLICT (cell, order_id, item) DO NOTHING
"""
TODO_TYPES: Final = ("int2", "text", "int4", "timestamptz", "uuid", "bool", "bytea")
TODO_ITEM_TYPES: Final = ("int2", "text", "timestamptz", "uuid")
COPY_TODO_ITEMS: Final = "COPY todo_item (cell, item, since, order_id) FROM STDIN (FORMAT BINARY)"
DELETE_TIMERS: Final = """
DELETE FROM timer AS t
USING unnest(%(c1)b::smallint[], %(c2)b::uuid[], %(c3)b::text[]) AS u (cell, subject, kind)
WHERE t.cell = u.cell AND t.subject = u.subject AND t.kind = u.kind
"""
COPY_TIMERS: Final = "COPY timer (cell, kind, subject, due_at) FROM STDIN (FORMAT BINARY)"


def write_queues(w: Writing) -> None:
    """Demand that waits, and timers: those that end, then those that begin. A timer that is gone is no conflict."""
    _take(w)
    new = [todo for todo in w.effects.todo if todo.is_new]
    w.copy(COPY_TODO, TODO_TYPES, [_todo_row(todo) for todo in new])
    w.copy(COPY_TODO_ITEMS, TODO_ITEM_TYPES, [row for todo in new for row in _waits(todo)])
    again = _renewed(w, [todo for todo in w.effects.todo if not todo.is_new])
    if again:
        w.cursor.execute(ADD_TODO, columns(TODO_TYPES, [_todo_row(todo) for todo in again]))
        items = [row for todo in again for row in _waits(todo)]
        if items:
            w.cursor.execute(ADD_TODO_ITEMS, columns(TODO_ITEM_TYPES, items))
    dropped = sorted({(cell, subject, kind.value) for cell, subject, kind in w.effects.timers_dropped})
    if dropped:
        w.cursor.execute(DELETE_TIMERS, columns(("int2", "uuid", "text"), dropped))
    timers = [(t.cell, t.kind.value, t.subject, t.due_at) for t in w.effects.timers]
    w.copy(COPY_TIMERS, ("int2", "text", "uuid", "timestamptz"), timers)


TAKEN_TYPES: Final = ("int2", "uuid", "text")


def _take(w: Writing) -> None:
    """Demand leaves queues, if it is there."""
    rows = sorted({(cell, order, queue.value) for cell, order, queue in w.effects.taken})
    waiting = [row for row in rows if row[2] == Queue.STOCK]
    if waiting:
        named = columns(TAKEN_TYPES, waiting)
        free = len(w.cursor.execute(FREE_WAITING, named).fetchall())
        if w.cursor.execute(COUNT_WAITING, named).fetchall() != [(free,)]:
            raise Conflict("somebody is deciding this order")
        w.cursor.execute(DELETE_ITEMS, ([row[1] for row in waiting], sorted({row[0] for row in waiting})))
    if rows:
        w.cursor.execute(TAKE_DEMAND, columns(TAKEN_TYPES, rows))


def _renewed(w: Writing, again: Sequence[Todo]) -> list[Todo]:
    """Demand in place of what waits for stock already, in its place in line."""
    waiting = [(todo.cell, todo.order.id) for todo in again if todo.queue is Queue.STOCK]
    before: dict[UUID, datetime] = {}
    if waiting:
        before = dict(w.cursor.execute(TAKE_BACK, columns(("int2", "uuid"), waiting)).fetchall())
        if before:
            w.cursor.execute(DELETE_ITEMS, (list(before), sorted({cell for cell, _ in waiting})))
    return [
        replace(todo, since=min(todo.since, before.get(todo.order.id, todo.since)))
        if todo.queue is Queue.STOCK
        else todo
        for todo in again
    ]


def _todo_row(todo: Todo) -> tuple[object, ...]:
    return (todo.cell, todo.queue.value, todo.rank, todo.since, todo.order.id, todo.alone, pack_todo(todo))


def _waits(todo: Todo) -> list[tuple[int, str, datetime, UUID]]:
    if todo.queue is not Queue.STOCK:
        return []
    return [(todo.cell, item, todo.since, todo.order.id) for item in todo.lines]


COPY_DECISIONS: Final = """
COPY decision (cell, owner, attempt, month, at, edition, policy, policy_version, release, batch, place, wave, facts,
    digest)
FROM STDIN (FORMAT BINARY)
"""
DECISION_TYPES: Final = (
    "int2", "uuid", "int4", "date", "timestamptz", "text", "text", "int4", "text", "uuid", "int4", "uuid",
    "bytea", "bytea",
)  # fmt: skip
COPY_GUARDS: Final = "COPY decision_guard (cell, owner, attempt) FROM STDIN (FORMAT BINARY)"


def write_decisions(w: Writing) -> None:
    """Law 3: (owner, attempt) is unique for good: by the row of the order, or else by a row of `decision_guard`."""
    decisions = [
        (
            d.cell,
            d.owner,
            d.attempt,
            first_of_month(d.at),
            d.at,
            d.edition,
            d.policy,
            d.policy_version,
            d.release,
            d.batch,
            d.place,
            d.wave,
            d.facts,
            d.digest,
        )
        for d in w.effects.decisions
    ]
    w.copy(COPY_DECISIONS, DECISION_TYPES, decisions)
    by_order = guarded_attempts(w.effects)
    guards = [(d.cell, d.owner, d.attempt) for d in w.effects.decisions if (d.owner, d.attempt) not in by_order]
    w.copy(COPY_GUARDS, ("int2", "uuid", "int4"), guards)


def guarded_attempts(effects: Effects) -> frozenset[tuple[UUID, int]]:
    """The attempts that are guarded by an order row of the same recording."""
    records: Iterable[OrderRecord] = (*effects.orders, *effects.orders_changed)
    return frozenset((record.order.id, record.attempt) for record in records)


UPSERT_MARKS: Final = """
INSERT INTO count_mark (cell, position, as_of, sequence)
SELECT u.* FROM unnest(%(c1)b::smallint[], %(c2)b::bigint[], %(c3)b::timestamptz[], %(c4)b::bigint[]) AS u
ON CONFLICT (cell, position) DO UPDATE SET as_of = excluded.as_of, sequence = excluded.sequence
"""
# A count that is as of a later time has answered the question.
DELETE_COUNT_TASKS: Final = """
DELETE FROM count_task AS t
USING unnest(%(c1)b::smallint[], %(c2)b::bigint[], %(c3)b::timestamptz[]) AS u (cell, position, as_of)
WHERE t.cell = u.cell AND t.position = u.position AND t.since < u.as_of
"""
ADD_COUNT_TASKS: Final = """
INSERT INTO count_task AS t (cell, position, cause, since, units, node, order_id, shipment_no)
SELECT u.* FROM unnest(%(c1)b::smallint[], %(c2)b::bigint[], %(c3)b::uuid[], %(c4)b::timestamptz[], %(c5)b::bigint[],
    %(c6)b::text[], %(c7)b::uuid[], %(c8)b::bigint[]) AS u
ON CONFLICT (cell, position) DO UPDATE
SET since = excluded.since, units = t.units + excluded.units, order_id = excluded.order_id,
    shipment_no = excluded.shipment_no
"""
COUNT_TASK_TYPES: Final = ("int2", "int8", "uuid", "timestamptz", "int8", "text", "uuid", "int8")
COPY_INCIDENTS: Final = "COPY incident (cell, id, kind, cause, order_id, at) FROM STDIN (FORMAT BINARY)"


def write_counts(w: Writing) -> None:
    """The newest statements about positions, whose rows the flow has locked, and the incidents they led to (law 9)."""
    marks = sorted({mark.position: mark for mark in w.effects.counts}.items())
    if marks:
        rows = [(mark.cell, mark.position, mark.as_of, mark.sequence) for _, mark in marks]
        w.cursor.execute(UPSERT_MARKS, columns(("int2", "int8", "timestamptz", "int8"), rows))
        counted = [(mark.cell, mark.position, mark.as_of) for _, mark in marks]
        w.cursor.execute(DELETE_COUNT_TASKS, columns(("int2", "int8", "timestamptz"), counted))
    at = w.effects.at
    tasks = sorted(
        (t.cell, t.position, t.cause, at, t.units, t.node, t.order, t.shipment_no) for t in w.effects.count_tasks
    )
    if tasks:
        w.cursor.execute(ADD_COUNT_TASKS, columns(COUNT_TASK_TYPES, tasks))
    incidents = [(i.cell, i.id, i.kind, i.cause, i.order, w.effects.at) for i in w.effects.incidents]
    w.copy(COPY_INCIDENTS, ("int2", "uuid", "text", "text", "uuid", "timestamptz"), incidents)


COPY_AUDIT: Final = "COPY audit (cell, month, at, actor, action, subject, detail) FROM STDIN (FORMAT BINARY)"
COPY_OUTBOX: Final = "COPY outbox (cell, month, at, count, events) FROM STDIN (FORMAT BINARY)"


def write_events(w: Writing) -> None:
    """Law 4: who did it, and what others are told, commit with it. All events for one cell are one row."""
    at = w.effects.at
    cell = home_cell(w.effects, w.places.cells[0])
    audit = [(cell, w.month, at, a.actor, a.action, a.subject, jsonb(a.detail)) for a in w.effects.audit]
    w.copy(COPY_AUDIT, ("int2", "date", "timestamptz", "text", "text", "text", "jsonb"), audit)
    by_cell: dict[int, list[Event]] = {}
    for event in w.effects.events:
        by_cell.setdefault(event.cell, []).append(event)
    outbox = [(cell, w.month, at, len(events), pack_events(events)) for cell, events in sorted(by_cell.items())]
    w.copy(COPY_OUTBOX, ("int2", "date", "timestamptz", "int4", "bytea"), outbox)


def home_cell(effects: Effects, otherwise: int) -> int:
    """The cell of the first thing written: audit rows commit beside it."""
    for record in (*effects.orders[:1], *effects.orders_changed[:1]):
        return record.order.cell
    for things in (effects.decisions, effects.reservations, effects.reservation_ends, effects.positions):
        for thing in things[:1]:
            return thing.cell
    return otherwise
