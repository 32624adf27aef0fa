"""How orders, waiting demand and events are written as bytes: msgpack arrays, small and independent of names in core.

A stored form only ever grows at its end, by fields with defaults, so that every release reads what older ones wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Final
from uuid import UUID
from zlib import crc32

import msgspec

from poolwise.core.orders import Blocks, Hold, Line, Order
from poolwise.core.returns import Return
from poolwise.core.values import Json, Money
from poolwise.flows.ports import Event, Queue, Todo

BUCKETS: Final = 256


class _Line(msgspec.Struct, array_like=True, frozen=True):
    no: int
    item: str
    quantity: int
    unit_price: tuple[int, str] | None
    weight_ug: int | None
    substitutes: bool
    together: str


class _Order(msgspec.Struct, array_like=True, frozen=True):
    id: UUID
    number: str
    cell: int
    received_at: datetime
    channel: str
    zone: str
    lines: tuple[_Line, ...]
    service_level: str
    customer: str
    contact: UUID | None
    priority: int
    requested_date: date | None
    ship_complete: bool
    max_shipments: int | None
    reservation: UUID | None
    facts: msgspec.Raw
    part_of: UUID | None = None


class _Todo(msgspec.Struct, array_like=True, frozen=True):
    cell: int
    queue: Queue
    rank: int
    since: datetime
    order: _Order
    open: tuple[tuple[int, int], ...]
    attempt: int
    returns: int
    for_room: bool
    rules: str = ""
    again_at: datetime | None = None
    without: tuple[str, ...] = ()
    changed: bool = False


class _Event(msgspec.Struct, array_like=True, frozen=True):
    type: str
    subject: str
    data: msgspec.Raw


_ENCODER: Final = msgspec.msgpack.Encoder(uuid_format="bytes")
_ORDER: Final = msgspec.msgpack.Decoder(_Order)
_TODO: Final = msgspec.msgpack.Decoder(_Todo)
_FORMER: Final = msgspec.msgpack.Decoder(list[tuple[int, _Order]])
_EVENTS: Final = msgspec.msgpack.Decoder(list[_Event])
_RETURN: Final = msgspec.json.Decoder(Return)
_RETURNS: Final = msgspec.json.Decoder(tuple[Return, ...])
_NO_FACTS: Final = msgspec.Raw(_ENCODER.encode(()))


def bucket(key: str | bytes) -> int:
    """The cell of a row that is found by a key alone, before anybody knows whose it is: crc32 modulo 256."""
    return crc32(key.encode() if isinstance(key, str) else key) % BUCKETS


def pack_order(order: Order) -> bytes:
    """An order as bytes."""
    return _ENCODER.encode(_order_out(order))


def unpack_order(document: bytes) -> Order:
    """The order that `pack_order` wrote."""
    return _order_in(_ORDER.decode(document))


def pack_former(former: Iterable[tuple[int, Order]]) -> bytes | None:
    """What an order was before its changes, as bytes; None where there was none."""
    packed = [(attempt, _order_out(order)) for attempt, order in former]
    return _ENCODER.encode(packed) if packed else None


def unpack_former(packed: bytes | None) -> tuple[tuple[int, Order], ...]:
    """What `pack_former` wrote."""
    return () if packed is None else tuple([(attempt, _order_in(kept)) for attempt, kept in _FORMER.decode(packed)])


def holds_of(kept: Iterable[str]) -> tuple[Hold, ...]:
    """Holds as they are kept: 'code=what it blocks'."""
    pairs = [each.rpartition("=") for each in kept]
    return tuple([Hold(code, tuple([Blocks(name) for name in blocks.split("+")])) for code, _, blocks in pairs])


def hold_texts(holds: Iterable[Hold]) -> list[str]:
    """What `holds_of` reads."""
    return [f"{hold.code}={'+'.join(hold.blocks)}" for hold in holds]


def pack_return(found: Return) -> str:
    """A return as JSON: few are read, and people read them by name. Its fields are those of core, by name."""
    return msgspec.json.encode(found).decode()


def unpack_return(document: str | bytes) -> Return:
    """The return that `pack_return` wrote."""
    return _RETURN.decode(document)


def unpack_returns(documents: str) -> tuple[Return, ...]:
    """Several returns, as a JSON array."""
    return _RETURNS.decode(documents)


def pack_todo(todo: Todo) -> bytes:
    """A waiting demand as bytes, with its order."""
    return _ENCODER.encode(
        _Todo(
            todo.cell,
            todo.queue,
            todo.rank,
            todo.since,
            _order_out(todo.order),
            todo.open,
            todo.attempt,
            todo.returns,
            todo.for_room,
            todo.rules,
            todo.again_at,
            todo.without,
            todo.changed,
        )
    )


def unpack_todo(demand: bytes) -> Todo:
    """The demand that `pack_todo` wrote."""
    kept = _TODO.decode(demand)
    order = _order_in(kept.order)
    return Todo(
        kept.cell,
        kept.queue,
        kept.rank,
        kept.since,
        order,
        kept.open,
        kept.attempt,
        kept.returns,
        kept.for_room,
        kept.rules,
        kept.again_at,
        kept.without,
        kept.changed,
    )


def pack_events(events: Iterable[Event]) -> bytes:
    """The events of one transaction for one cell, in order."""
    return _ENCODER.encode([(event.type, event.subject, event.data) for event in events])


def unpack_events(packed: bytes, cell: int) -> tuple[Event, ...]:
    """The events that `pack_events` wrote, for the cell of their row."""
    return tuple(Event(kept.type, kept.subject, _mapping(kept.data), cell) for kept in _EVENTS.decode(packed))


def mentions(packed: bytes, names: Iterable[str]) -> bool:
    """Whether one of the names may be a field of what was packed; if not, there is no need to unpack it."""
    return any(name.encode() in packed for name in names)


def _order_out(order: Order) -> _Order:
    return _Order(
        order.id,
        order.number,
        order.cell,
        order.received_at,
        order.channel,
        order.zone,
        tuple([_line_out(line) for line in order.lines]),
        order.service_level,
        order.customer,
        order.contact,
        order.priority,
        order.requested_date,
        order.ship_complete,
        order.max_shipments,
        order.reservation,
        msgspec.Raw(_ENCODER.encode(order.facts)) if order.facts else _NO_FACTS,
        order.part_of,
    )


def _line_out(line: Line) -> _Line:
    price = line.unit_price
    return _Line(
        line.no,
        line.item,
        line.quantity,
        None if price is None else (price.minor, price.currency),
        line.weight_ug,
        line.substitutes,
        line.together,
    )


def _order_in(kept: _Order) -> Order:
    return Order(
        kept.id,
        kept.number,
        kept.cell,
        kept.received_at,
        kept.channel,
        kept.zone,
        tuple([_line_in(line) for line in kept.lines]),
        kept.service_level,
        kept.customer,
        kept.contact,
        kept.priority,
        kept.requested_date,
        kept.ship_complete,
        kept.max_shipments,
        kept.reservation,
        () if kept.facts == _NO_FACTS else _facts(kept.facts),
        kept.part_of,
    )


def _line_in(kept: _Line) -> Line:
    price = None if kept.unit_price is None else Money(*kept.unit_price)
    return Line(kept.no, kept.item, kept.quantity, price, kept.weight_ug, kept.substitutes, kept.together)


def _facts(packed: msgspec.Raw) -> tuple[tuple[str, Json], ...]:
    pairs: list[tuple[str, Json]] = msgspec.msgpack.decode(packed)
    return tuple((name, value) for name, value in pairs)


def _mapping(packed: msgspec.Raw) -> dict[str, Json]:
    found: dict[str, Json] = msgspec.msgpack.decode(packed)
    return found
