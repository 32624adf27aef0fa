"""The read side on PostgreSQL. Every method is one statement, so that it sees one snapshot and costs one round trip.

Fan-out over cells lives here and nowhere else; still every list is bounded, cell by cell, by its limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Final
from uuid import UUID

import msgspec
import psycopg
from psycopg import Cursor
from psycopg.rows import TupleRow

from poolwise.core.availability import Coming, Shelves
from poolwise.core.fulfilment import Stage
from poolwise.core.ledger import ReservationKind
from poolwise.core.orders import OrderState, Progress
from poolwise.core.sourcing.plan import Booking, PlannedShipment
from poolwise.core.sourcing.problem import Place, ReceiptFact, StockFact
from poolwise.core.values import Json
from poolwise.flows.ports import OrderRecord
from poolwise.flows.views import (
    CountQuery,
    DecisionHead,
    Happening,
    Held,
    LeftParcel,
    Offer,
    OfferQuery,
    OrderHead,
    OrderQuery,
    OrderView,
    PickLine,
    PickList,
    PickQuery,
    PickRecord,
    PolicyHead,
    Purchase,
    PurchaseQuery,
    ReturnHead,
    ReturnQuery,
    Supply,
    ToCount,
)
from poolwise.store.arrays import Prepared, packed, packed_texts, unpacked
from poolwise.store.books import translated
from poolwise.store.codec import bucket, holds_of, unpack_order, unpack_return, unpack_returns
from poolwise.store.places import Places
from poolwise.store.postgres import DatabaseUnavailable, Pool, diagnose


class PostgresViews:
    """flows.views.Views on the database behind `pool`, for the `cells` in use."""

    def __init__(self, pool: Pool, cells: Sequence[int] = (0,)) -> None:
        self._pool = pool
        self._places = Places(cells)
        self._cells = sorted(cells)
        self._packed_cells = packed("int2", self._cells)
        self._shelves = Prepared(SHELVES, {"cells": "int2", "items": "text"})

    @contextmanager
    def _reading(self) -> Iterator[Cursor[TupleRow]]:
        """A cursor outside any transaction: each statement is its own snapshot. Raises Upstream."""
        with translated(), self._pool.connection() as connection:
            yield connection.cursor(binary=True)

    def order(self, name: str | UUID) -> OrderView | None:
        """See flows.views."""
        asked = self._named(name) if isinstance(name, str) else {**self._named(""), "number": None, "id": name}
        with self._reading() as cursor:
            row = cursor.execute(ORDER, asked).fetchone()
        view = None if row is None else _order(row)
        return None if view is None or _is_basket(view) else view

    def _named(self, name: str) -> dict[str, object]:
        """What finds an order by its number, or else by its id."""
        return {"cells": self._cells, "cell": bucket(name), "number": name, "id": _as_id(name)}

    def timeline(self, order: UUID, number: str, limit: int) -> Sequence[Happening]:
        """See flows.views."""
        asked = {"cells": self._cells, "order": order, "number": number, "limit": limit}
        with self._reading() as cursor:
            rows = cursor.execute(TIMELINE, asked).fetchall()
        return [Happening(*row) for row in reversed(rows)]

    def basket(self, reservation: UUID) -> OrderView | None:
        """See flows.views."""
        with self._reading() as cursor:
            row = cursor.execute(ORDER, self._named(f"R-{reservation}")).fetchone()
        view = None if row is None else _order(row)
        return view if view is not None and _is_basket(view) else None

    def orders(self, query: OrderQuery) -> Sequence[OrderHead]:
        """See flows.views."""
        before = query.before or (None, None)
        asked = {
            "cells": self._cells,
            "state": None if query.state is None else query.state.value,
            "channel": query.channel or None,
            "zone": query.zone or None,
            "customer": query.customer or None,
            "since": query.received_since,
            "before_at": before[0],
            "before_id": before[1],
            "limit": query.limit,
        }
        statement = LIST_ORDERS if query.before is None else LIST_ORDERS_BEFORE
        with self._reading() as cursor:
            rows = cursor.execute(statement, asked).fetchall()
        return [OrderHead(row[0], row[1], OrderState(row[2]), *row[3:]) for row in rows]

    def pick_lists(self, query: PickQuery) -> Sequence[PickList]:
        """See flows.views."""
        asked = {"cells": self._cells, "node": query.node, "stage": query.stage.value, "limit": query.limit}
        asked |= dict(zip(("day", "order", "no"), query.after or (date.min, UUID(int=0), 0), strict=True))
        with self._reading() as cursor:
            rows = cursor.execute(COLLECTIONS if query.collected else PICK_LISTS, asked).fetchall()
        return [
            PickList(
                order,
                number,
                no,
                node,
                ship_on,
                arrive_by,
                tuple(PickLine(*e) for e in _PICK_LINES.decode(lines)),
                at,
                _left(parcels or "[]").get(no, ()),
            )
            for order, number, no, node, ship_on, arrive_by, lines, at, parcels in rows
        ]

    def pick_records(self, node: str, after: tuple[str, str], limit: int) -> Sequence[PickRecord]:
        """See flows.views."""
        asked = {"cells": self._cells, "node": node, "after": after[0], "behind": after[1], "limit": limit}
        with self._reading() as cursor:
            rows = cursor.execute(RECORDS_OF_NODE if node else PICK_RECORDS, asked).fetchall()
        return [PickRecord(*row) for row in rows]

    def returns(self, query: ReturnQuery) -> Sequence[ReturnHead]:
        """See flows.views."""
        before = query.before or (None, None)
        asked = {
            "cells": self._cells,
            "node": query.node or None,
            "state": None if query.state is None else query.state.value,
            "before_at": before[0],
            "before_id": before[1],
            "limit": query.limit,
        }
        with self._reading() as cursor:
            rows = cursor.execute(LIST_RETURNS_AT if query.node and query.state else LIST_RETURNS, asked).fetchall()
        return [ReturnHead(unpack_return(document), *rest) for document, *rest in rows]

    def purchases(self, query: PurchaseQuery) -> Sequence[Purchase]:
        """See flows.views."""
        asked = {"cells": self._cells, "nodes": list(query.nodes), "limit": query.limit}
        asked |= dict(zip(("day", "order", "no"), query.after or (date.min, UUID(int=0), 0), strict=True))
        with self._reading() as cursor:
            return [_purchase(row) for row in cursor.execute(PURCHASES, asked).fetchall()]

    def purchase(self, order: UUID, shipment_no: int) -> Purchase | None:
        """See flows.views."""
        asked = {"cells": self._cells, "order": order, "no": shipment_no}
        with self._reading() as cursor:
            row = cursor.execute(PURCHASE, asked).fetchone()
        return None if row is None else _purchase(row)

    def contact(self, contact: UUID) -> Mapping[str, Json]:
        """See flows.views."""
        with self._reading() as cursor:
            row = cursor.execute(CONTACT, {"cell": bucket(contact.bytes), "id": contact}).fetchone()
        return {} if row is None else row[0]

    def count_tasks(self, query: CountQuery) -> Sequence[ToCount]:
        """See flows.views."""
        asked = {"cells": self._cells, "node": query.node, "limit": query.limit}
        asked |= dict(zip(("since", "position"), query.after or (FIRST_OF_ALL, MIN_POSITION), strict=True))
        with self._reading() as cursor:
            return [ToCount(*row) for row in cursor.execute(COUNT_TASKS, asked).fetchall()]

    def offers(self, query: OfferQuery) -> Sequence[Offer]:
        """See flows.views."""
        asked = {"cells": self._cells, "node": query.node, "now": query.now, "limit": query.limit}
        asked |= dict(zip(("until", "order", "no"), query.after or (query.now, UUID(int=0), 0), strict=True))
        with self._reading() as cursor:
            rows = cursor.execute(OFFERS, asked).fetchall()
        return [
            Offer(order, number, no, until, ship_on, arrive_by, tuple(_OFFER_LINES.decode(lines)))
            for order, number, no, until, ship_on, arrive_by, lines in rows
        ]

    def decided(self, orders: Iterable[UUID]) -> frozenset[UUID]:
        """See flows.views."""
        with self._reading() as cursor:
            rows = cursor.execute(DECIDED, (self._cells, sorted(orders))).fetchall()
        return frozenset(id_ for (id_,) in rows)

    def supply(self, items: Sequence[str], pools: Sequence[str] | None = None) -> Supply:
        """See flows.views."""
        asked = {"cells": self._cells, "items": list(items), "pools": None if pools is None else list(pools)}
        with self._reading() as cursor:
            rows = cursor.execute(SUPPLY if pools is None else SUPPLY_OF_POOLS, asked).fetchall()
            needed = [id_ for _, ids, _, _, at, *_ in rows for id_ in (*(ids or ()), *(at or ()))]
            places, _ = self._places.learn(cursor, needed)
        return Supply(
            {row[0]: _stock(places, row[1], row[2]) for row in rows if row[1]},
            {row[0]: _receipts(places, row[3:]) for row in rows if row[3]},
        )

    def shelves(self, items: Sequence[str]) -> tuple[Shelves, Coming]:
        """See flows.views."""
        with translated(), self._pool.connection() as connection:
            (columns,) = self._shelves.rows(connection, self._packed_cells, packed_texts(items))
        codes, places = (column.decode().split(SEPARATOR) if column else [] for column in columns[:2])
        positions, available, lots, expires_on, *coming = map(unpacked, columns[2:])
        return Shelves(codes, places, positions, available, lots, expires_on), Coming(*coming)

    def policies(self) -> Sequence[PolicyHead]:
        """See flows.views."""
        with self._reading() as cursor:
            return [PolicyHead(*row) for row in cursor.execute(POLICIES).fetchall()]

    def ready(self) -> str:
        """See flows.views."""
        try:
            with self._pool.connection() as connection:
                connection.execute(READY, (self._cells,))
        except (psycopg.Error, DatabaseUnavailable) as error:
            return str(diagnose(error))
        return ""


RECORDS_OF_NODE: Final = """
SELECT node, item_class, found, missed
FROM pick_outcome
WHERE cell = ANY (%(cells)b::smallint[]) AND node = %(node)b
    AND (node, item_class) > (%(after)b::text, %(behind)b::text)
ORDER BY node, item_class
LIMIT %(limit)b
"""
PICK_RECORDS: Final = """
SELECT node, item_class, found, missed
FROM pick_outcome
WHERE cell = ANY (%(cells)b::smallint[]) AND (node, item_class) > (%(after)b::text, %(behind)b::text)
ORDER BY node, item_class
LIMIT %(limit)b
"""

# --- one order ----------------------------------------------------------------------------------------------------

# What hangs on an order comes as JSON in the same statement. Its columns are in the order of `_order`.
ORDER: Final = """
SELECT o.state, o.attempt, o.holds, o.changed_at, o.document,
    (SELECT json_agg(json_build_array(l.no, l.ordered, l.open, l.reserved, l.pledged, l.backordered, l.released,
        l.shipped, l.cancelled) ORDER BY l.no)
    FROM order_line AS l WHERE l.cell = o.cell AND l.order_id = o.id)::text,
    (SELECT json_agg(json_build_array(s.no, s.node, s.lanes, s.ship_on, s.arrive_by, s.weight_ug, s.co2e_mg,
        s.stage) ORDER BY s.no)
    FROM shipment AS s WHERE s.cell = o.cell AND s.owner = o.id)::text,
    (SELECT json_agg(json_build_array(b.shipment_no, b.node, b.day, b.slot, b.quantity) ORDER BY b.shipment_no, b.no)
    FROM booking AS b WHERE b.cell = o.cell AND b.owner = o.id)::text,
    (SELECT json_agg(json_build_array(r.no, r.line_no, r.shipment_no, p.item, p.node, p.pool, p.lot, r.kind, r.quantity,
        r.quantity - r.consumed - r.freed - r.expired - r.broken, r.receipt, r.expires_at, r.consumed) ORDER BY r.no)
    FROM reservation AS r JOIN position AS p ON p.id = r.position
    WHERE r.cell = o.cell AND r.owner = o.id)::text,
    (SELECT json_agg(json_build_array(d.attempt, d.at, d.edition, d.policy, d.policy_version, d.release, d.wave)
        ORDER BY d.attempt)
    FROM decision AS d WHERE d.cell = o.cell AND d.owner = o.id)::text,
    (SELECT json_agg(json_build_array(m.shipment_no, m.detail -> 'parcels') ORDER BY m.at, m.id)
    FROM milestone AS m WHERE m.cell = o.cell AND m.owner = o.id AND m.detail -> 'parcels' IS NOT NULL)::text,
    (SELECT json_agg(t.document ORDER BY t.id)
    FROM customer_return AS t WHERE t.cell = o.cell AND t.order_id = o.id)::text
FROM customer_order AS o
WHERE o.cell = ANY (%(cells)b::smallint[]) AND o.id = coalesce(
    (SELECT order_id FROM order_number WHERE cell = %(cell)b::smallint AND number = %(number)b), %(id)b
)
"""

_LINES: Final = msgspec.json.Decoder(list[tuple[int, int, int, int, int, int, int, int, int]])
_SHIPMENTS: Final = msgspec.json.Decoder(list[tuple[int, str, tuple[str, ...], date, date, int, int, Stage]])
_BOOKINGS: Final = msgspec.json.Decoder(list[tuple[int, str, date, int, int]])
_HELD: Final = msgspec.json.Decoder(
    list[tuple[int, int, int, str, str, str, str, ReservationKind, int, int, UUID | None, datetime | None, int]]
)
_DECISIONS: Final = msgspec.json.Decoder(list[tuple[int, datetime, str, str, int, str, UUID | None]])


class _Line(msgspec.Struct):
    item: str
    quantity: str


class _Parcel(msgspec.Struct):
    tracking: str
    box: str
    lines: list[_Line]


_PARCELS: Final = msgspec.json.Decoder(list[tuple[int, list[_Parcel]]])


def _order(row: TupleRow) -> OrderView:
    state, attempt, holds, changed_at, document, lines, shipments, bookings, held, decisions, parcels, returns = row
    order = unpack_order(document)
    progress = {no: Progress(*parts) for no, *parts in _LINES.decode(lines)}
    booked: dict[int, list[Booking]] = {}
    for shipment_no, node, day, slot, quantity in _BOOKINGS.decode(bookings or "[]"):
        booked.setdefault(shipment_no, []).append(Booking(node, day, slot, quantity))
    known = _SHIPMENTS.decode(shipments or "[]")
    return OrderView(
        OrderRecord(
            order,
            OrderState(state),
            tuple(progress[line.no] for line in order.lines),
            attempt,
            holds=holds_of(holds),
            returns=() if returns is None else unpack_returns(returns),
        ),
        changed_at,
        tuple(PlannedShipment(*s[:-1], tuple(booked.get(s[0], ()))) for s in known),
        {s[0]: s[-1] for s in known},
        tuple(Held(*each) for each in _HELD.decode(held or "[]")),
        tuple(DecisionHead(*each) for each in _DECISIONS.decode(decisions or "[]")),
        _left(parcels or "[]"),
    )


def _left(parcels: str) -> dict[int, tuple[LeftParcel, ...]]:
    """The parcels of each shipment as they were told. Whoever tells of a tracking number again has said no more."""
    found: dict[int, list[LeftParcel]] = {}
    for no, told in _PARCELS.decode(parcels):
        known = found.setdefault(no, [])
        numbers = {parcel.tracking for parcel in known}
        known += [
            LeftParcel(each.tracking, each.box, tuple((line.item, line.quantity) for line in each.lines))
            for each in told
            if each.tracking not in numbers
        ]
    return {no: tuple(known) for no, known in found.items()}


def _is_basket(view: OrderView) -> bool:
    """Whether it is, or was, a reservation: its number is given by us."""
    return view.record.order.number == f"R-{view.record.order.id}"


def _as_id(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None


# An order has few of each, and each is found by its index.
# What happens in one commit is told in the order of `rank`: what led to a decision, the decision, what followed.
TIMELINE: Final = """
SELECT x.at, x.told_at, x.kind, x.shipment_no, x.told_by, x.detail
FROM (
    SELECT m.at, m.told_at, m.kind, m.shipment_no, m.told_by, m.detail,
        CASE WHEN m.kind IN ('released', 'offered', 'offer_withdrawn') THEN 4 ELSE 1 END AS rank, m.id::text AS place
    FROM milestone AS m
    WHERE m.cell = ANY (%(cells)b::smallint[]) AND m.owner = %(order)b
    UNION ALL
    SELECT d.at, d.at, 'sourced', 0, '', jsonb_build_object(
        'attempt', d.attempt, 'policy', d.policy, 'policy_version', d.policy_version, 'wave', d.wave
    ), 2, d.attempt::text
    FROM decision AS d
    WHERE d.cell = ANY (%(cells)b::smallint[]) AND d.owner = %(order)b
    UNION ALL
    SELECT r.made_at, r.made_at, 'reserved', r.shipment_no, '', jsonb_build_object('units', jsonb_agg(
        jsonb_build_array(p.item, p.node, p.pool, p.lot, r.quantity) ORDER BY r.no
    )), 3, r.shipment_no::text
    FROM reservation AS r JOIN position AS p ON p.id = r.position
    WHERE r.cell = ANY (%(cells)b::smallint[]) AND r.owner = %(order)b
    GROUP BY r.made_at, r.shipment_no
    UNION ALL
    SELECT a.at, a.at, CASE a.action WHEN 'orders.accept' THEN 'accepted' ELSE 'link_given' END, 0, a.actor,
        a.detail, 0, ''
    FROM audit AS a
    WHERE a.cell = ANY (%(cells)b::smallint[]) AND a.subject = %(number)b
        AND a.action IN ('orders.accept', 'tracking.link')
    UNION ALL
    SELECT d.made_at, d.changed_at, 'webhook_' || d.state, 0, '', jsonb_build_object(
        'webhook', d.webhook, 'event', d.cell || ':' || d.number, 'attempts', d.attempts, 'status', d.status
    ), 5, d.number::text
    FROM delivery AS d
    WHERE d.cell = ANY (%(cells)b::smallint[]) AND d.subject = %(order)b::uuid::text AND d.subject <> ''
    UNION ALL
    SELECT i.at, i.at, i.kind, 0, '', jsonb_build_object('incident', i.id), 1, i.id::text
    FROM incident AS i
    WHERE i.cell = ANY (%(cells)b::smallint[]) AND i.order_id = %(order)b
) AS x
ORDER BY x.at DESC, x.told_at DESC, x.rank DESC, x.place DESC
LIMIT %(limit)b
"""
DECIDED: Final = """
SELECT id
FROM customer_order
WHERE cell = ANY (%b::smallint[]) AND id = ANY (%b::uuid[]) AND (attempt > 0 OR state NOT IN ('received', 'waiting'))
"""

# The second is of a node and a state, as its index has them.
LIST_RETURNS: Final = """
SELECT t.document::text, t.order_id, o.number, t.changed_at
FROM unnest(%(cells)b::smallint[]) AS c (cell)
CROSS JOIN LATERAL (
    SELECT cell, order_id, id, opened_at, changed_at, document
    FROM customer_return
    WHERE cell = c.cell
        AND (%(node)b::text IS NULL OR node = %(node)b::text)
        AND (%(state)b::text IS NULL OR state = %(state)b::text)
        AND (%(before_at)b::timestamptz IS NULL OR (opened_at, id) < (%(before_at)b::timestamptz, %(before_id)b::uuid))
    ORDER BY cell DESC, opened_at DESC, id DESC
    LIMIT %(limit)b
) AS t
JOIN customer_order AS o ON o.cell = t.cell AND o.id = t.order_id
ORDER BY t.opened_at DESC, t.id DESC
LIMIT %(limit)b
"""
LIST_RETURNS_AT: Final = """
SELECT t.document::text, t.order_id, o.number, t.changed_at
FROM unnest(%(cells)b::smallint[]) AS c (cell)
CROSS JOIN LATERAL (
    SELECT cell, order_id, id, opened_at, changed_at, document
    FROM customer_return
    WHERE cell = c.cell AND node = %(node)b::text AND state = %(state)b::text
        AND (%(before_at)b::timestamptz IS NULL OR (opened_at, id) < (%(before_at)b::timestamptz, %(before_id)b::uuid))
    ORDER BY cell DESC, node DESC, state DESC, opened_at DESC, id DESC
    LIMIT %(limit)b
) AS t
JOIN customer_order AS o ON o.cell = t.cell AND o.id = t.order_id
ORDER BY t.opened_at DESC, t.id DESC
LIMIT %(limit)b
"""

# --- lists --------------------------------------------------------------------------------------------------------

# Each cell gives its newest, by index; of those the newest are the answer.
LIST_ORDERS: Final = """
SELECT o.*
FROM unnest(%(cells)b::smallint[]) AS c (cell)
CROSS JOIN LATERAL (
    SELECT id, number, state, channel, zone, customer, service_level, received_at, changed_at, attempt
    FROM customer_order
    WHERE cell = c.cell AND number <> 'R-' || id::text
        AND (%(state)b::text IS NULL OR state = %(state)b::text)
        AND (%(channel)b::text IS NULL OR channel = %(channel)b::text)
        AND (%(zone)b::text IS NULL OR zone = %(zone)b::text)
        AND (%(customer)b::text IS NULL OR customer = %(customer)b::text)
        AND (%(since)b::timestamptz IS NULL OR received_at >= %(since)b::timestamptz)
    ORDER BY cell DESC, received_at DESC, id DESC
    LIMIT %(limit)b
) AS o
ORDER BY o.received_at DESC, o.id DESC
LIMIT %(limit)b
"""
LIST_ORDERS_BEFORE: Final = """
SELECT o.*
FROM unnest(%(cells)b::smallint[]) AS c (cell)
CROSS JOIN LATERAL (
    SELECT id, number, state, channel, zone, customer, service_level, received_at, changed_at, attempt
    FROM customer_order
    WHERE cell = c.cell AND number <> 'R-' || id::text
        AND (received_at, id) < (%(before_at)b::timestamptz, %(before_id)b::uuid)
        AND (%(state)b::text IS NULL OR state = %(state)b::text)
        AND (%(channel)b::text IS NULL OR channel = %(channel)b::text)
        AND (%(zone)b::text IS NULL OR zone = %(zone)b::text)
        AND (%(customer)b::text IS NULL OR customer = %(customer)b::text)
        AND (%(since)b::timestamptz IS NULL OR received_at >= %(since)b::timestamptz)
    ORDER BY cell DESC, received_at DESC, id DESC
    LIMIT %(limit)b
) AS o
ORDER BY o.received_at DESC, o.id DESC
LIMIT %(limit)b
"""
# What a node works on, by index; of each shipment what has not left yet.
PICK_LISTS: Final = """
SELECT s.owner, o.number, s.no, s.node, s.ship_on, s.arrive_by,
    (SELECT coalesce(json_agg(json_build_array(x.item, x.pool, x.lot, x.quantity) ORDER BY x.item, x.pool, x.lot), '[]')
    FROM (
        SELECT p.item, p.pool, p.lot, sum(r.quantity - r.consumed - r.freed - r.expired - r.broken)::bigint AS quantity
        FROM reservation AS r JOIN position AS p ON p.id = r.position
        WHERE r.cell = s.cell AND r.owner = s.owner AND r.shipment_no = s.no
            AND r.consumed + r.freed + r.expired + r.broken < r.quantity
        GROUP BY p.item, p.pool, p.lot
    ) AS x)::text, s.collect_at, '[]'
FROM unnest(%(cells)b::smallint[]) AS c (cell)
CROSS JOIN LATERAL (
    SELECT cell, owner, no, node, ship_on, arrive_by, collect_at
    FROM shipment
    WHERE cell = c.cell AND node = %(node)b AND stage = %(stage)b AND stage IN ('released', 'picked', 'ready')
        AND (stage <> 'ready' OR collect_at = node)
        AND (ship_on, owner, no) > (%(day)b::date, %(order)b::uuid, %(no)b::bigint)
    ORDER BY ship_on, owner, no
    LIMIT %(limit)b
) AS s
JOIN customer_order AS o ON o.cell = s.cell AND o.id = s.owner
ORDER BY s.ship_on, s.owner, s.no
LIMIT %(limit)b
"""
# What a collection point waits for or hands out, by index: what is in a parcel has left the shelf it came from.
COLLECTIONS: Final = """
SELECT s.owner, o.number, s.no, s.node, s.ship_on, s.arrive_by,
    (SELECT coalesce(json_agg(json_build_array(x.item, x.pool, x.lot, x.quantity) ORDER BY x.item, x.pool, x.lot), '[]')
    FROM (
        SELECT p.item, p.pool, p.lot, sum(r.quantity - r.freed - r.expired - r.broken
            - CASE WHEN s.node = s.collect_at THEN r.consumed ELSE 0 END)::bigint AS quantity
        FROM reservation AS r JOIN position AS p ON p.id = r.position
        WHERE r.cell = s.cell AND r.owner = s.owner AND r.shipment_no = s.no
        GROUP BY p.item, p.pool, p.lot
    ) AS x WHERE x.quantity > 0)::text, s.collect_at,
    (SELECT json_agg(json_build_array(m.shipment_no, m.detail -> 'parcels') ORDER BY m.at, m.id)
    FROM milestone AS m WHERE m.cell = s.cell AND m.owner = s.owner AND m.shipment_no = s.no
        AND m.detail -> 'parcels' IS NOT NULL)::text
FROM unnest(%(cells)b::smallint[]) AS c (cell)
CROSS JOIN LATERAL (
    SELECT cell, owner, no, node, ship_on, arrive_by, collect_at
    FROM shipment
    WHERE cell = c.cell AND collect_at = %(node)b AND collect_at <> '' AND stage = %(stage)b
        AND stage IN ('released', 'picked', 'shipped', 'ready')
        AND (ship_on, owner, no) > (%(day)b::date, %(order)b::uuid, %(no)b::bigint)
    ORDER BY ship_on, owner, no
    LIMIT %(limit)b
) AS s
JOIN customer_order AS o ON o.cell = s.cell AND o.id = s.owner
ORDER BY s.ship_on, s.owner, s.no
LIMIT %(limit)b
"""
# What is offered to a node, by an index of all that is offered to it. Few shipments are at a time.
OFFERS: Final = """
SELECT s.owner, o.number, s.no, s.offered_until, s.ship_on, s.arrive_by,
    (SELECT coalesce(json_agg(json_build_array(x.item, x.quantity) ORDER BY x.item), '[]')
    FROM (
        SELECT p.item, sum(r.quantity - r.consumed - r.freed - r.expired - r.broken)::bigint AS quantity
        FROM reservation AS r JOIN position AS p ON p.id = r.position
        WHERE r.cell = s.cell AND r.owner = s.owner AND r.shipment_no = s.no
            AND r.consumed + r.freed + r.expired + r.broken < r.quantity
        GROUP BY p.item
    ) AS x)::text
FROM (
    SELECT cell, owner, no, offered_until, ship_on, arrive_by
    FROM shipment
    WHERE cell = ANY (%(cells)b::smallint[]) AND stage = 'offered' AND offered_to @> ARRAY[%(node)b::text]
        AND offered_until > %(now)b
        AND (offered_until, owner, no) > (%(until)b::timestamptz, %(order)b::uuid, %(no)b::bigint)
        AND NOT EXISTS (
            SELECT FROM customer_order AS h, unnest(h.holds) AS held
            WHERE h.cell = shipment.cell AND h.id = shipment.owner AND held LIKE '%%=%%release%%'
        )
    ORDER BY offered_until, owner, no
    LIMIT %(limit)b
) AS s
JOIN customer_order AS o ON o.cell = s.cell AND o.id = s.owner
ORDER BY s.offered_until, s.owner, s.no
"""
_OFFER_LINES: Final = msgspec.json.Decoder(list[tuple[str, int]])
_PICK_LINES: Final = msgspec.json.Decoder(list[tuple[str, str, str, int]])
# What suppliers are to send, by index: of each node the earliest, and of those the earliest of all.
PURCHASES: Final = """
SELECT o.document, s.no, s.node, s.lanes, s.stage, s.ship_on, s.arrive_by,
    (SELECT min(m.at) FROM milestone AS m
    WHERE m.cell = s.cell AND m.owner = s.owner AND m.shipment_no = s.no AND m.kind = 'released'),
    (SELECT coalesce(json_agg(json_build_array(x.item, x.quantity, x.open) ORDER BY x.item), '[]')
    FROM (
        SELECT p.item, sum(r.quantity - r.freed - r.expired - r.broken)::bigint AS quantity,
            sum(r.quantity - r.freed - r.expired - r.broken - r.consumed)::bigint AS open
        FROM reservation AS r JOIN position AS p ON p.id = r.position
        WHERE r.cell = s.cell AND r.owner = s.owner AND r.shipment_no = s.no
        GROUP BY p.item
    ) AS x WHERE x.quantity > 0)::text
FROM unnest(%(cells)b::smallint[]) AS c (cell)
CROSS JOIN unnest(%(nodes)b::text[]) AS n (node)
CROSS JOIN LATERAL (
    SELECT cell, owner, no, node, lanes, stage, ship_on, arrive_by
    FROM shipment
    WHERE cell = c.cell AND node = n.node AND stage = 'released'
        AND (ship_on, owner, no) > (%(day)b::date, %(order)b::uuid, %(no)b::bigint)
    ORDER BY ship_on, owner, no
    LIMIT %(limit)b
) AS s
JOIN customer_order AS o ON o.cell = s.cell AND o.id = s.owner
ORDER BY s.ship_on, s.owner, s.no
LIMIT %(limit)b
"""
PURCHASE: Final = """
SELECT o.document, s.no, s.node, s.lanes, s.stage, s.ship_on, s.arrive_by,
    (SELECT min(m.at) FROM milestone AS m
    WHERE m.cell = s.cell AND m.owner = s.owner AND m.shipment_no = s.no AND m.kind = 'released'),
    (SELECT coalesce(json_agg(json_build_array(x.item, x.quantity, x.open) ORDER BY x.item), '[]')
    FROM (
        SELECT p.item, sum(r.quantity - r.freed - r.expired - r.broken)::bigint AS quantity,
            sum(r.quantity - r.freed - r.expired - r.broken - r.consumed)::bigint AS open
        FROM reservation AS r JOIN position AS p ON p.id = r.position
        WHERE r.cell = s.cell AND r.owner = s.owner AND r.shipment_no = s.no
        GROUP BY p.item
    ) AS x WHERE x.quantity > 0)::text
FROM shipment AS s
JOIN customer_order AS o ON o.cell = s.cell AND o.id = s.owner
WHERE s.cell = ANY (%(cells)b::smallint[]) AND s.owner = %(order)b AND s.no = %(no)b
"""
CONTACT: Final = "SELECT data FROM contact WHERE cell = %(cell)b::smallint AND id = %(id)b"
_UNITS: Final = msgspec.json.Decoder(tuple[tuple[str, int, int], ...])


def _purchase(row: TupleRow) -> Purchase:
    document, no, node, lanes, stage, ship_on, arrive_by, released_at, units = row
    order, where = unpack_order(document), (node, tuple(lanes), Stage(stage))
    return Purchase(order, no, *where, ship_on, arrive_by, released_at, _UNITS.decode(units))


# What is to be counted at a node, by index. The order may be of another cell than the node.
COUNT_TASKS: Final = """
SELECT t.position, p.item, p.node, p.pool, p.lot, p.blocked, t.since, t.order_id, o.number, t.shipment_no
FROM unnest(%(cells)b::smallint[]) AS c (cell)
CROSS JOIN LATERAL (
    SELECT cell, position, since, order_id, shipment_no
    FROM count_task
    WHERE cell = c.cell AND node = %(node)b AND (since, position) > (%(since)b::timestamptz, %(position)b::bigint)
    ORDER BY since, position
    LIMIT %(limit)b
) AS t
JOIN position AS p ON p.cell = t.cell AND p.id = t.position
LEFT JOIN customer_order AS o ON o.cell = ANY (%(cells)b::smallint[]) AND o.id = t.order_id
ORDER BY t.since, t.position
LIMIT %(limit)b
"""
FIRST_OF_ALL: Final = datetime(1970, 1, 1, tzinfo=UTC)
MIN_POSITION: Final = -(1 << 63)
POLICIES: Final = """
SELECT code, version, family, state, made_by, made_at, active_from
FROM policy_version
ORDER BY family, code, version DESC
"""
READY: Final = "SELECT next_seq FROM feed_position WHERE cell = ANY (%b::smallint[]) LIMIT 1"

# --- supply -------------------------------------------------------------------------------------------------------

SUPPLY: Final = """
SELECT i.item, s.ids, s.available, r.ids, r.positions, r.due_on, r.open
FROM unnest(%(items)b::text[]) AS i (item)
CROSS JOIN LATERAL (
    SELECT array_agg(id ORDER BY node, pool, lot) AS ids,
        array_agg(available ORDER BY node, pool, lot) AS available
    FROM position
    WHERE cell = ANY (%(cells)b::smallint[]) AND item = i.item
) AS s
CROSS JOIN LATERAL (
    SELECT array_agg(id) AS ids, array_agg(position) AS positions, array_agg(due_on) AS due_on,
        array_agg(quantity - pledged - arrived - cancelled) AS open
    FROM receipt
    WHERE cell = ANY (%(cells)b::smallint[]) AND item = i.item AND arrived + cancelled < quantity
        AND pledged + arrived + cancelled < quantity
) AS r
"""
SUPPLY_OF_POOLS: Final = """
SELECT i.item, s.ids, s.available, r.ids, r.positions, r.due_on, r.open
FROM unnest(%(items)b::text[]) AS i (item)
CROSS JOIN LATERAL (
    SELECT array_agg(id ORDER BY node, pool, lot) AS ids,
        array_agg(available ORDER BY node, pool, lot) AS available
    FROM position
    WHERE cell = ANY (%(cells)b::smallint[]) AND item = i.item AND pool = ANY (%(pools)b::text[])
) AS s
CROSS JOIN LATERAL (
    SELECT array_agg(id) AS ids, array_agg(position) AS positions, array_agg(due_on) AS due_on,
        array_agg(quantity - pledged - arrived - cancelled) AS open
    FROM receipt
    WHERE cell = ANY (%(cells)b::smallint[]) AND item = i.item AND arrived + cancelled < quantity
        AND pledged + arrived + cancelled < quantity
) AS r
"""


SEPARATOR: Final = "\x1e"
"""Between texts of a column that comes as one; no code has it."""

# Columns come as a whole, for a value of a row costs more than all that is done with it. Both kinds come as one
# statement, so that they are of one instant. Days are counted as Python does. A list that is worked out when the
# statement runs is the same to every plan, so that one plan is made and kept.
SHELVES: Final = """
SELECT s.*, r.*
FROM (
    SELECT string_agg(item, chr(30)), string_agg(node || chr(31) || pool, chr(30)), array_agg(id),
        array_agg(available), array_agg(id) FILTER (WHERE expires_on IS NOT NULL),
        array_agg(expires_on - DATE '0001-01-01' + 1) FILTER (WHERE expires_on IS NOT NULL)
    FROM position
    WHERE cell = ANY (ARRAY(SELECT unnest(%(cells)b::smallint[])))
        AND item = ANY (ARRAY(SELECT unnest(%(items)b::text[])))
) AS s
CROSS JOIN (
    SELECT array_agg(position), array_agg(due_on - DATE '0001-01-01' + 1),
        array_agg(quantity - pledged - arrived - cancelled)
    FROM receipt
    WHERE cell = ANY (ARRAY(SELECT unnest(%(cells)b::smallint[])))
        AND item = ANY (ARRAY(SELECT unnest(%(items)b::text[])))
        AND arrived + cancelled < quantity AND pledged + arrived + cancelled < quantity
) AS r
"""


def _stock(places: Mapping[int, Place], ids: Sequence[int], available: Sequence[int]) -> list[StockFact]:
    return [_new_fact(StockFact, (places[id_], units)) for id_, units in zip(ids, available, strict=True)]


_new_fact: Callable[[type[StockFact], tuple[Place, int]], StockFact] = tuple.__new__


def _receipts(places: Mapping[int, Place], columns: TupleRow) -> list[ReceiptFact]:
    return [ReceiptFact(id_, places[at], due, units) for id_, at, due, units in zip(*columns, strict=True)]
