"""What of a decision is stored: its volatile facts in a few hundred bytes, and a digest of its plan (law 8).

Everything else - candidates, reasons, costs, the plan itself - is recomputed from these bytes, the edition, the policy
version and the order, by the same code that decided. Within a release the recomputed plan has the same bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from itertools import chain
from typing import Final
from uuid import UUID

import msgspec

from poolwise.core.sourcing.plan import Assignment, Booking, Plan, PlannedShipment
from poolwise.core.sourcing.problem import (
    CapacityFact,
    ClassFact,
    Facts,
    Place,
    ReceiptFact,
    StockFact,
    shelves_of,
)
from poolwise.core.values import Quantity

FORM: Final = 2
"""Version of the stored form; a reader refuses one it does not know.

Facts without records of picks are still written in the first form, which has no place for them.
"""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_ZERO: Final = _EPOCH.toordinal()
_MICROSECOND: Final = timedelta(microseconds=1)
_ENCODE: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is read back: the facts, and what of the order was to be sourced."""

    facts: Facts
    open: tuple[tuple[int, Quantity], ...]


class Packer:
    """Writes facts in their stored form. What the orders of a batch share, the capacity, is written once."""

    def __init__(self) -> None:
        """Nothing is written yet."""
        self._capacity: tuple[CapacityFact, ...] = ()
        self._packed = msgspec.Raw(_ENCODE({}))

    def facts(self, facts: Facts, open_: tuple[tuple[int, Quantity], ...]) -> bytes:
        """The stored form of the facts of a decision and of the demand it was made for."""
        if facts.capacity is not self._capacity:
            self._capacity, self._packed = facts.capacity, msgspec.Raw(_ENCODE(_by_node(facts.capacity)))
        return _ENCODE(
            (
                FORM if facts.misses else 1,
                (facts.at - _EPOCH) // _MICROSECOND,
                b"".join([stock.positions.ids for stock in facts.shelves]),
                list(chain.from_iterable([stock.available for stock in facts.shelves])),
                [
                    (fact.receipt.bytes, fact.place.position, fact.due_on.toordinal() - _DAY_ZERO, fact.open)
                    for fact in facts.receipts
                ],
                self._packed,
                open_,
                *((facts.misses,) if facts.misses else ()),
            )
        )


def _by_node(capacity: tuple[CapacityFact, ...]) -> dict[str, list[tuple[int, int, int]]]:
    found: dict[str, list[tuple[int, int, int]]] = {}
    for node, day, slot, taken in capacity:
        found.setdefault(node, []).append((day.toordinal() - _DAY_ZERO, slot, taken))
    return found


def encode_facts(facts: Facts, open_: tuple[tuple[int, Quantity], ...]) -> bytes:
    """The stored form of the facts of one decision, see `Packer`."""
    return Packer().facts(facts, open_)


class _Stored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The stored form, field by field in this order; what the first form lacks comes last."""

    form: int
    at: int
    positions: bytes
    available: list[int]
    receipts: list[tuple[bytes, int, int, int]]
    capacity: dict[str, list[tuple[int, int, int]]]
    open: list[tuple[int, int]]
    misses: tuple[ClassFact, ...] = ()


_DECODE: Final = msgspec.msgpack.Decoder(_Stored).decode


def positions_in(stored: bytes) -> tuple[int, ...]:
    """Ids of the positions that stored facts name, so that their places can be looked up."""
    found = _DECODE(stored)
    return (*array("q", found.positions), *(position for _, position, _, _ in found.receipts))


def decode_facts(stored: bytes, places: Mapping[int, Place]) -> Recorded:
    """The facts of a decision from their stored form; `places` holds every position they name."""
    found = _DECODE(stored)
    if found.form > FORM:
        raise ValueError(f"facts of form {found.form} cannot be read by this release, which knows form {FORM}")
    return Recorded(
        Facts(
            at=_EPOCH + found.at * _MICROSECOND,
            shelves=shelves_of(
                StockFact(places[position], count)
                for position, count in zip(array("q", found.positions), found.available, strict=True)
            ),
            receipts=tuple(
                ReceiptFact(UUID(bytes=receipt), places[position], date.fromordinal(due + _DAY_ZERO), count)
                for receipt, position, due, count in found.receipts
            ),
            capacity=tuple(
                CapacityFact(node, date.fromordinal(day + _DAY_ZERO), slot, taken)
                for node, entries in found.capacity.items()
                for day, slot, taken in entries
            ),
            misses=found.misses,
        ),
        tuple((line_no, quantity) for line_no, quantity in found.open),
    )


@dataclass(frozen=True, slots=True)
class Held:
    """What is reserved for an order that is planned again: its shipments, and what is in them."""

    shipments: tuple[PlannedShipment, ...]
    assignments: tuple[Assignment, ...]

    @property
    def latest(self) -> int:
        """The latest arrival that was answered, as ordinal."""
        return max(shipment.arrive_by.toordinal() for shipment in self.shipments)


@dataclass(frozen=True, slots=True)
class Member:
    """An order of a wave: which attempt it was, what of it was to be sourced, and what was held for it already."""

    order: UUID
    attempt: int
    open: tuple[tuple[int, Quantity], ...]
    held: Held | None = None


def encode_wave(facts: Facts, members: tuple[Member, ...]) -> bytes:
    """The stored form of a wave: the facts its orders shared, and the orders in their sequence."""
    packed = [(m.order.bytes, m.attempt, m.open, None if m.held is None else _pack_held(m.held)) for m in members]
    return _ENCODE((encode_facts(facts, ()), packed))


_Shipment = tuple[int, str, list[str], int, int, int, int, list[tuple[str, int, int, int]]]
_Part = tuple[int, int, int, int, int, bytes | None]
_Held = tuple[list[_Shipment], list[_Part]]


def _pack_held(held: Held) -> _Held:
    shipments: list[_Shipment] = [
        (
            s.no, s.node, list(s.lanes), s.ship_on.toordinal(), s.arrive_by.toordinal(), s.weight_ug, s.co2e_mg,
            [(b.node, b.day.toordinal(), b.slot, b.quantity) for b in s.bookings],
        )
        for s in held.shipments
    ]  # fmt: skip
    parts: list[_Part] = [
        (
            p.line_no, p.shipment_no, p.position, p.quantity, p.line_quantity,
            None if p.receipt is None else p.receipt.bytes,
        )
        for p in held.assignments
    ]  # fmt: skip
    return shipments, parts


def _unpack_held(stored: _Held, places: Mapping[int, Place]) -> Held:
    shipments = [
        PlannedShipment(
            no, node, tuple(lanes), date.fromordinal(ship_on), date.fromordinal(arrive_by), weight_ug, co2e_mg,
            tuple(Booking(at, date.fromordinal(day), slot, quantity) for at, day, slot, quantity in bookings),
        )
        for no, node, lanes, ship_on, arrive_by, weight_ug, co2e_mg, bookings in stored[0]
    ]  # fmt: skip
    parts = [
        part_at(places[at], line_no, shipment_no, quantity, served, None if receipt is None else UUID(bytes=receipt))
        for line_no, shipment_no, at, quantity, served, receipt in stored[1]
    ]
    return Held(tuple(shipments), tuple(parts))


def part_at(
    place: Place, line_no: int, shipment_no: int, quantity: Quantity, line_quantity: Quantity, receipt: UUID | None
) -> Assignment:
    """Units of a place that serve a line in a shipment."""
    where = (place.item, place.position, place.node, place.pool, place.lot)
    return Assignment(line_no, shipment_no, *where, quantity, line_quantity, receipt)


_Member = tuple[bytes, int, list[tuple[int, int]], _Held | None]
_DECODE_WAVE: Final = msgspec.msgpack.Decoder(tuple[bytes, list[_Member]]).decode


def facts_of_wave(stored: bytes) -> bytes:
    """The stored form of the facts of a wave, by itself."""
    return _DECODE_WAVE(stored)[0]


def members_of_wave(stored: bytes, places: Mapping[int, Place]) -> tuple[Member, ...]:
    """Who was in a wave, in sequence; `places` holds every position of its facts."""
    return tuple(
        Member(UUID(bytes=order), attempt, tuple(open_), None if held is None else _unpack_held(held, places))
        for order, attempt, open_, held in _DECODE_WAVE(stored)[1]
    )


def plan_bytes(plan: Plan) -> bytes:
    """A plan in the one form in which two plans are compared byte for byte."""
    return _ENCODE(plan)


def digest(plan: Plan) -> bytes:
    """Sixteen bytes that tell plans apart; stored with the decision."""
    return sha256(plan_bytes(plan)).digest()[:16]
