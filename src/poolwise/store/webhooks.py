"""Webhooks on PostgreSQL: subscriptions, how far each has come in the feed, and what is on its way (ADR 0020).

Moving a place and making the deliveries of what it passed is one commit (law 4). A delivery that is sent is leased by
moving its time ahead: whoever dies with it loses nothing, it comes due again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from psycopg import Connection, Cursor
from psycopg.rows import TupleRow

from poolwise.core.values import Fault, Refused
from poolwise.flows.ports import Audit, Event
from poolwise.flows.views import Numbered, Place
from poolwise.flows.webhooks import (
    GIVEN_UP_AFTER,
    KEPT,
    MOST_OPEN,
    MOST_WEBHOOKS,
    PING,
    Change,
    Claimed,
    Delivery,
    DeliveryQuery,
    DeliveryState,
    Outcome,
    Receiver,
    Webhook,
    WebhookState,
    wants,
)
from poolwise.store import postgres
from poolwise.store.arrays import array
from poolwise.store.books import translated
from poolwise.store.codec import bucket
from poolwise.store.feed import read_after, read_numbered
from poolwise.store.journal import first_of_month
from poolwise.store.postgres import Pool
from poolwise.store.steps import Failpoint, never
from poolwise.store.tokens import AUDIT
from poolwise.store.writing import jsonb

MOST_READ: Final = 500
RELAY: Final = "poolwise relay"

ANSWER: Final = """
INSERT INTO answer (cell, sender, key, body_hash, status, reference, at) VALUES (%b, %b, %b, %b, %b, %b, %b)
"""
COUNT: Final = "SELECT count(*) FROM webhook WHERE party = %b AND state <> 'ended'"
ADD: Final = """
INSERT INTO webhook (id, party, url, types, state, secret, made_at) VALUES (%b, %b, %b, %b, %b, %b, %b)
"""
SET_OUT: Final = """
INSERT INTO webhook_place (cell, webhook, number)
SELECT p.cell, %(webhook)b, p.number FROM unnest(%(cells)b::smallint[], %(numbers)b::bigint[]) AS p (cell, number)
"""
READ: Final = """
SELECT w.id, w.party, w.url, w.types, w.state, w.reason, w.made_at, w.former_until, w.failing_since,
    array(SELECT p.cell FROM webhook_place AS p WHERE p.webhook = w.id ORDER BY p.cell),
    array(SELECT p.number FROM webhook_place AS p WHERE p.webhook = w.id ORDER BY p.cell)
FROM webhook AS w
WHERE w.state <> 'ended' AND (%(id)b::uuid IS NULL OR w.id = %(id)b::uuid)
    AND (%(after)b::uuid IS NULL OR w.id > %(after)b::uuid) AND (%(party)b = '' OR w.party = %(party)b)
ORDER BY w.id
LIMIT %(limit)b
"""
LOCK: Final = "SELECT state, failing_since FROM webhook WHERE id = %b AND state <> 'ended' FOR UPDATE"
PUT: Final = """
UPDATE webhook SET state = %(state)b, reason = '', failing_since = NULL, held_until = NULL WHERE id = %(webhook)b
"""
END: Final = """
UPDATE webhook SET state = 'ended', secret = '', former_secret = NULL, former_until = NULL WHERE id = %b
"""
# What was lost while every attempt failed comes back together with what waits.
REVIVE: Final = """
UPDATE delivery SET state = 'waiting', due = %(now)b, changed_at = %(now)b, attempts = 0
WHERE cell = ANY (%(cells)b::smallint[]) AND webhook = %(webhook)b
    AND (state = 'waiting' OR (state = 'failed' AND changed_at >= %(since)b::timestamptz))
"""
RETRY_FAILED: Final = """
UPDATE delivery SET state = 'waiting', due = %(now)b, changed_at = %(now)b, attempts = 0
WHERE cell = ANY (%(cells)b::smallint[]) AND webhook = %(webhook)b AND state = 'failed'
"""
ROTATE: Final = """
UPDATE webhook SET former_secret = secret, former_until = %(until)b, secret = %(secret)b WHERE id = %(webhook)b
"""
GO_BACK: Final = """
UPDATE webhook_place AS p
SET number = u.number
FROM unnest(%(cells)b::smallint[], %(numbers)b::bigint[]) AS u (cell, number)
WHERE p.webhook = %(webhook)b AND p.cell = u.cell AND p.number > u.number
"""
MAKE: Final = """
INSERT INTO delivery (cell, webhook, number, subject, made_at, changed_at, due)
SELECT %(cell)b, %(webhook)b, u.number, u.subject, %(now)b, %(now)b, %(now)b
FROM unnest(%(numbers)b::bigint[], %(subjects)b::text[]) AS u (number, subject)
ON CONFLICT (cell, webhook, number) DO UPDATE
SET state = 'waiting', due = excluded.due, changed_at = excluded.changed_at, attempts = 0
WHERE delivery.state <> 'waiting'
"""
LIST: Final = """
SELECT cell, number, state, attempts, due, changed_at, status, reason
FROM delivery
WHERE cell = %(cell)b AND webhook = %(webhook)b AND number < %(before)b AND (%(state)b = '' OR state = %(state)b)
ORDER BY cell DESC, webhook DESC, number DESC
LIMIT %(limit)b
"""
LIST_WAITING: Final = """
SELECT cell, number, state, attempts, due, changed_at, status, reason
FROM delivery
WHERE cell = %(cell)b AND webhook = %(webhook)b AND number < %(before)b AND state = 'waiting'
ORDER BY cell DESC, webhook DESC, number DESC
LIMIT %(limit)b
"""
LIST_FAILED: Final = """
SELECT cell, number, state, attempts, due, changed_at, status, reason
FROM delivery
WHERE cell = %(cell)b AND webhook = %(webhook)b AND number < %(before)b AND state = 'failed'
ORDER BY cell DESC, webhook DESC, number DESC
LIMIT %(limit)b
"""
LISTS: Final = {
    None: LIST,
    DeliveryState.DONE: LIST,
    DeliveryState.WAITING: LIST_WAITING,
    DeliveryState.FAILED: LIST_FAILED,
}
LAST: Final = 2**63 - 1


class PostgresWebhooks:
    """flows.webhooks.WebhookBook on the database behind `pool`, for the `cells` in use."""

    def __init__(self, pool: Pool, cells: Sequence[int] = (0,)) -> None:
        self._pool = pool
        self._cells = sorted(cells)

    def add(self, webhook: Webhook, secret: bytes, change: Change) -> None:
        """See flows.webhooks."""
        row = (
            webhook.id,
            webhook.party,
            webhook.url,
            list(webhook.types),
            webhook.state.value,
            secret,
            webhook.made_at,
        )
        with translated(), postgres.transaction(self._pool) as connection:
            _keep(connection, min(self._cells), change)
            count = connection.execute(COUNT, (webhook.party,)).fetchone()
            assert count is not None
            if count[0] >= MOST_WEBHOOKS:
                raise Refused("too_many_webhooks", [Fault("", f"there are {count[0]} of yours; delete one first")])
            connection.execute(ADD, row)
            connection.execute(SET_OUT, {"webhook": webhook.id, **_columns(webhook.place)})

    def by_id(self, webhook: UUID) -> Webhook | None:
        """See flows.webhooks."""
        found = self._read(webhook, "", None, 1)
        return found[0] if found else None

    def all(self, party: str, after: UUID | None, limit: int) -> Sequence[Webhook]:
        """See flows.webhooks."""
        return self._read(None, party, after, limit)

    def _read(self, id_: UUID | None, party: str, after: UUID | None, limit: int) -> list[Webhook]:
        asked = {"id": id_, "party": party, "after": after, "limit": limit}
        with translated(), self._pool.connection() as connection:
            return [_webhook(row) for row in connection.execute(READ, asked)]

    def put(self, webhook: UUID, state: WebhookState, change: Change) -> None:
        """See flows.webhooks."""

        def do(connection: Connection[TupleRow], was: WebhookState, failing_since: datetime | None) -> None:
            if state is WebhookState.ENDED:
                connection.execute(END, (webhook,))
                return
            connection.execute(PUT, {"webhook": webhook, "state": state.value})
            if was is WebhookState.DISABLED and state is WebhookState.ACTIVE:
                asked = {"cells": self._cells, "webhook": webhook, "now": change.now, "since": failing_since}
                connection.execute(REVIVE, asked)

        self._change(webhook, change, do)

    def rotate(self, webhook: UUID, secret: bytes, former_until: datetime, change: Change) -> None:
        """See flows.webhooks."""
        asked = {"webhook": webhook, "secret": secret, "until": former_until}
        self._change(webhook, change, lambda connection, _was, _since: connection.execute(ROTATE, asked))

    def go_back(self, webhook: UUID, place: Place, change: Change) -> None:
        """See flows.webhooks."""
        asked = {"webhook": webhook, **_columns(place)}
        self._change(webhook, change, lambda connection, _was, _since: connection.execute(GO_BACK, asked))

    def retry_failed(self, webhook: UUID, change: Change) -> None:
        """See flows.webhooks."""
        asked = {"webhook": webhook, "cells": self._cells, "now": change.now}
        self._change(webhook, change, lambda connection, _was, _since: connection.execute(RETRY_FAILED, asked))

    def ping(self, webhook: UUID, cell: int, number: int, change: Change) -> None:
        """See flows.webhooks."""
        asked = {"webhook": webhook, "cell": cell, "numbers": [number], "subjects": [""], "now": change.now}
        self._change(webhook, change, lambda connection, _was, _since: connection.execute(MAKE, asked))

    def deliveries(self, query: DeliveryQuery) -> Sequence[Delivery]:
        """See flows.webhooks."""
        found: list[Delivery] = []
        state = "" if query.state is None else query.state.value
        with translated(), self._pool.connection() as connection:
            for cell in reversed(self._cells):
                before = LAST if query.before is None or cell < query.before[0] else query.before[1]
                if len(found) == query.limit or (query.before is not None and cell > query.before[0]):
                    continue
                asked = {"cell": cell, "webhook": query.webhook, "before": before, "state": state,
                         "limit": query.limit - len(found)}  # fmt: skip
                rows = connection.execute(LISTS[query.state], asked)
                found += [Delivery(row[0], row[1], DeliveryState(row[2]), *row[3:]) for row in rows]
        return found

    def _change(
        self,
        webhook: UUID,
        change: Change,
        do: Callable[[Connection[TupleRow], WebhookState, datetime | None], object],
    ) -> None:
        with translated(), postgres.transaction(self._pool) as connection:
            was = connection.execute(LOCK, (webhook,)).fetchone()
            if was is not None:
                _keep(connection, min(self._cells), change)
                do(connection, WebhookState(was[0]), was[1])


def _keep(connection: Connection[TupleRow], cell: int, change: Change) -> None:
    """The answer first, so that a key that has one already ends the transaction before anything is done."""
    kept = change.answer
    if kept is not None:
        row = (bucket(kept.key), kept.sender, kept.key, kept.body_hash, kept.status, kept.reference, change.now)
        connection.execute(ANSWER, row)
    _audit(connection, cell, change.now, change.audit)


def _audit(connection: Connection[TupleRow], cell: int, at: datetime, audit: Audit) -> None:
    row = (cell, first_of_month(at), at, audit.actor, audit.action, audit.subject, jsonb(audit.detail))
    connection.execute(AUDIT, row)


def _columns(place: Place) -> Mapping[str, object]:
    return {"cells": list(place), "numbers": array("int8", list(place.values()))}


def _webhook(row: TupleRow) -> Webhook:
    id_, party, url, types, state, reason, made_at, former_until, failing_since, cells, numbers = row
    place = dict(zip(cells, numbers, strict=True))
    return Webhook(
        id_, party, url, tuple(types), place, made_at, WebhookState(state), reason, former_until, failing_since
    )


BEHIND: Final = """
SELECT w.id, f.cell
FROM webhook AS w
JOIN feed_position AS f ON f.cell = ANY (%b::smallint[])
LEFT JOIN webhook_place AS p ON p.cell = f.cell AND p.webhook = w.id
WHERE w.state = 'active' AND coalesce(p.number, 0) < f.next_seq - 1
ORDER BY w.id, f.cell
"""
BEGIN: Final = """
INSERT INTO webhook_place (cell, webhook, number) VALUES (%(cell)b, %(webhook)b, 0)
ON CONFLICT (cell, webhook) DO NOTHING
"""
# Whoever holds this row fans out; others do not wait for it.
PLACE: Final = """
SELECT p.number, w.types
FROM webhook_place AS p
JOIN webhook AS w ON w.id = p.webhook
WHERE p.cell = %(cell)b AND p.webhook = %(webhook)b AND w.state = 'active'
FOR UPDATE OF p SKIP LOCKED
"""
OPEN: Final = """
SELECT count(*)
FROM (
    SELECT 1 FROM delivery
    WHERE cell = ANY (%(cells)b::smallint[]) AND webhook = %(webhook)b AND state = 'waiting' LIMIT %(limit)b
) AS waiting
"""
MOVE: Final = "UPDATE webhook_place SET number = %(number)b WHERE cell = %(cell)b AND webhook = %(webhook)b"
DUE: Final = """
SELECT w.id, w.url, w.secret, w.former_secret, w.former_until
FROM webhook AS w
WHERE w.state = 'active' AND (w.held_until IS NULL OR w.held_until <= %(now)b) AND EXISTS (
        SELECT 1 FROM delivery AS d
        WHERE d.cell = ANY (%(cells)b::smallint[]) AND d.webhook = w.id AND d.state = 'waiting' AND d.due <= %(now)b
    )
"""
# Each webhook has its own share, however many deliveries of others are due.
TAKE: Final = """
SELECT d.webhook, d.number, d.attempts + 1, d.made_at
FROM unnest(%(webhooks)b::uuid[], %(rooms)b::integer[]) AS w (id, room)
CROSS JOIN LATERAL (
    SELECT cell, webhook, number, attempts, made_at
    FROM delivery
    WHERE cell = %(cell)b AND webhook = w.id AND state = 'waiting' AND due <= %(now)b
    ORDER BY cell, webhook, due
    LIMIT w.room
    FOR UPDATE SKIP LOCKED
) AS d
"""
LEASE: Final = """
UPDATE delivery AS d
SET due = %(until)b, attempts = u.attempts
FROM unnest(%(webhooks)b::uuid[], %(numbers)b::bigint[], %(attempts)b::integer[]) AS u (webhook, number, attempts)
WHERE d.cell = %(cell)b AND d.webhook = u.webhook AND d.number = u.number
"""
# What somebody else claimed since is his, unless the receiver has it: then it is done.
RECORD: Final = """
UPDATE delivery AS d
SET state = u.state, due = u.due, status = u.status, reason = u.reason, changed_at = %(now)b
FROM unnest(
        %(cells)b::smallint[], %(webhooks)b::uuid[], %(numbers)b::bigint[], %(attempts)b::integer[],
        %(states)b::text[], %(dues)b::timestamptz[], %(statuses)b::smallint[], %(reasons)b::text[]
    ) AS u (cell, webhook, number, attempts, state, due, status, reason)
WHERE d.cell = u.cell AND d.webhook = u.webhook AND d.number = u.number AND d.state = 'waiting'
    AND (d.attempts = u.attempts OR u.state = 'done')
"""
GIVE_BACK: Final = """
UPDATE delivery AS d
SET due = %(now)b, attempts = u.attempts - 1
FROM unnest(%(cells)b::smallint[], %(webhooks)b::uuid[], %(numbers)b::bigint[], %(attempts)b::integer[])
    AS u (cell, webhook, number, attempts)
WHERE d.cell = u.cell AND d.webhook = u.webhook AND d.number = u.number AND d.state = 'waiting'
    AND d.attempts = u.attempts
"""
WELL: Final = "UPDATE webhook SET failing_since = NULL WHERE id = %b AND failing_since IS NOT NULL"
FAILING: Final = """
UPDATE webhook SET failing_since = coalesce(failing_since, %(now)b), held_until = greatest(held_until, %(held)b)
WHERE id = %(webhook)b
"""
DISABLE: Final = """
UPDATE webhook SET state = 'disabled', reason = %(reason)b
WHERE id = %(webhook)b AND state = 'active' AND failing_since <= %(since)b
"""
OLD: Final = """
SELECT cell, webhook, number FROM delivery
WHERE cell = ANY (%(cells)b::smallint[]) AND state = 'done' AND changed_at < %(before)b
ORDER BY cell, changed_at
LIMIT %(limit)b
FOR UPDATE SKIP LOCKED
"""
ORPHANED: Final = """
SELECT d.cell, d.webhook, d.number
FROM webhook AS w
JOIN delivery AS d ON d.cell = ANY (%(cells)b::smallint[]) AND d.webhook = w.id
WHERE w.state = 'ended'
LIMIT %(limit)b
FOR UPDATE OF d SKIP LOCKED
"""
FORGET: Final = """
DELETE FROM delivery AS d
USING unnest(%b::smallint[], %b::uuid[], %b::bigint[]) AS u (cell, webhook, number)
WHERE d.cell = u.cell AND d.webhook = u.webhook AND d.number = u.number
"""
GONE_REASON: Final = "the receiver answered 410 Gone"
GIVEN_UP_REASON: Final = "nothing was accepted for three days"


class PostgresOutbound:
    """flows.webhooks.Outbound on the database behind `pool`, for the `cells` in use."""

    def __init__(
        self, pool: Pool, cells: Sequence[int] = (0,), most_open: int = MOST_OPEN, failpoint: Failpoint = never
    ) -> None:
        """`most_open` deliveries of a webhook wait at a time; `failpoint` lets a test end the process between steps."""
        self._pool = pool
        self._cells = sorted(cells)
        self._most_open = most_open
        self._failpoint = failpoint

    def behind(self) -> Sequence[tuple[UUID, int]]:
        """See flows.webhooks."""
        with translated(), self._pool.connection() as connection:
            return connection.execute(BEHIND, (self._cells,)).fetchall()

    def fan_out(self, webhook: UUID, cell: int, now: datetime) -> int:
        """See flows.webhooks."""
        asked = {"cell": cell, "webhook": webhook, "cells": self._cells, "limit": self._most_open, "now": now}
        with translated(), postgres.transaction(self._pool) as connection:
            cursor = connection.cursor(binary=True)
            cursor.execute(BEGIN, asked)
            place = cursor.execute(PLACE, asked).fetchone()
            waiting = cursor.execute(OPEN, asked).fetchone()
            assert waiting is not None
            room = self._most_open - waiting[0]
            if place is None or room * 2 < self._most_open:
                return 0
            found, wanted = _wanted(read_after(cursor, cell, place[0], min(room, MOST_READ)), place[1], room)
            if wanted:
                numbers, subjects = [each.number for each in wanted], [each.event.subject for each in wanted]
                cursor.execute(MAKE, {**asked, "numbers": array("int8", numbers), "subjects": subjects})
            self._failpoint("made")
            if found:
                cursor.execute(MOVE, {**asked, "number": found})
            self._failpoint("moved")
        moved: int = found - place[0] if found else 0
        return moved

    def claim(self, room: Callable[[UUID], int], now: datetime, leased_until: datetime) -> Sequence[Claimed]:
        """See flows.webhooks."""
        claimed: list[Claimed] = []
        with translated(), postgres.transaction(self._pool) as connection:
            cursor = connection.cursor(binary=True)
            due = cursor.execute(DUE, {"cells": self._cells, "now": now}).fetchall()
            receivers = {row[0]: Receiver(*row) for row in due}
            rooms = {each: room(each) for each in sorted(receivers)}
            for cell in self._cells if receivers else ():
                taken = self._take(cursor, cell, rooms, now, leased_until)
                events = read_numbered(cursor, cell, [number for _, number, *_ in taken if number > 0]) if taken else {}
                for webhook, number, attempts, made_at in taken:
                    rooms[webhook] -= 1
                    event = _event(webhook, cell, number, made_at, events)
                    at = made_at if event is None else event.at
                    what = None if event is None else event.event
                    claimed.append(Claimed(receivers[webhook], cell, number, attempts, leased_until, at, what))
        self._failpoint("leased")
        return claimed

    def _take(
        self, cursor: Cursor[TupleRow], cell: int, rooms: Mapping[UUID, int], now: datetime, until: datetime
    ) -> Sequence[TupleRow]:
        wanted = [webhook for webhook, room in rooms.items() if room > 0]
        asked = {"cell": cell, "webhooks": wanted, "rooms": [rooms[each] for each in wanted], "now": now}
        taken = cursor.execute(TAKE, asked).fetchall() if wanted else []
        if taken:
            webhooks, numbers, attempts, _ = (list(column) for column in zip(*taken, strict=True))
            leased = {"cell": cell, "until": until, "webhooks": webhooks, "numbers": numbers, "attempts": attempts}
            cursor.execute(LEASE, leased)
        return taken

    def record(self, outcomes: Sequence[Outcome], now: datetime) -> Sequence[UUID]:
        """See flows.webhooks."""
        ordered = sorted(
            outcomes, key=lambda each: (each.claimed.cell, each.claimed.receiver.webhook, each.claimed.number)
        )
        told = [(each, each.told) for each in ordered if each.told is not None]
        back = [each for each in ordered if each.told is None]
        with translated(), postgres.transaction(self._pool) as connection:
            cursor = connection.cursor(binary=True)
            if told:
                values = {
                    **_keys([each for each, _ in told]),
                    "states": [each.state.value for each, _ in told],
                    "dues": [each.due for each, _ in told],
                    "statuses": [what.status for _, what in told],
                    "reasons": [what.reason for _, what in told],
                }
                cursor.execute(RECORD, {**values, "now": now})
            if back:
                cursor.execute(GIVE_BACK, {**_keys(back), "now": now})
            self._failpoint("recorded")
            return self._judged(connection, [each for each, _ in told], now)

    def _judged(self, connection: Connection[TupleRow], told: Sequence[Outcome], now: datetime) -> list[UUID]:
        """What the outcomes say of their webhooks."""
        by_webhook: dict[UUID, list[Outcome]] = defaultdict(list)
        for each in told:
            by_webhook[each.claimed.receiver.webhook].append(each)
        disabled = []
        for webhook in sorted(by_webhook):
            mine = by_webhook[webhook]
            if any(each.state is DeliveryState.DONE for each in mine):
                connection.execute(WELL, (webhook,))
                if not any(each.gone for each in mine):
                    continue
            hold = max(each.told.hold for each in mine if each.told is not None)
            held = now + hold if hold else None
            connection.execute(FAILING, {"webhook": webhook, "now": now, "held": held})
            reason, since = "", now
            if any(each.gone for each in mine):
                reason = GONE_REASON
            elif any(each.state is DeliveryState.FAILED for each in mine):
                reason, since = GIVEN_UP_REASON, now - GIVEN_UP_AFTER
            asked = {"webhook": webhook, "reason": reason, "since": since}
            if reason and connection.execute(DISABLE, asked).rowcount:
                disabled.append(webhook)
                _audit(
                    connection,
                    min(self._cells),
                    now,
                    Audit(RELAY, "webhooks.disable", str(webhook), {"reason": reason}),
                )
        return disabled

    def sweep(self, now: datetime, limit: int) -> int:
        """See flows.webhooks."""
        asked = {"cells": self._cells, "before": now - KEPT, "limit": limit}
        with translated(), postgres.transaction(self._pool) as connection:
            cursor = connection.cursor(binary=True)
            old = cursor.execute(OLD, asked).fetchall() or cursor.execute(ORPHANED, asked).fetchall()
            if old:
                cursor.execute(FORGET, [list(column) for column in zip(*old, strict=True)])
        return len(old)


def _wanted(events: Sequence[Numbered], types: Sequence[str], room: int) -> tuple[int, list[Numbered]]:
    """The number of the last event that is passed, 0 for none, and those on the way that are wanted."""
    passed = 0
    wanted: list[Numbered] = []
    for each in events:
        if wants(types, each.event.type):
            if len(wanted) == room:
                break
            wanted.append(each)
        passed = each.number
    return passed, wanted


def _event(webhook: UUID, cell: int, number: int, made_at: datetime, events: Mapping[int, Numbered]) -> Numbered | None:
    if number > 0:
        return events.get(number)
    return Numbered(cell, number, made_at, Event(PING, str(webhook), {}, cell))


def _keys(outcomes: Sequence[Outcome]) -> Mapping[str, object]:
    claimed = [each.claimed for each in outcomes]
    return {
        "cells": [each.cell for each in claimed],
        "webhooks": [each.receiver.webhook for each in claimed],
        "numbers": [each.number for each in claimed],
        "attempts": [each.attempts for each in claimed],
    }
