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
from typing import Final
from uuid import UUID

import msgspec

from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.problem import CapacityFact, Facts, Place, ReceiptFact, StockFact
from poolwise.core.values import Quantity

FORM: Final = 1
"""Version of the stored form; a reader refuses one it does not know."""

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
        positions = array("q", [place.position for place, _ in facts.stock])
        return _ENCODE(
            (
                FORM,
                (facts.at - _EPOCH) // _MICROSECOND,
                positions.tobytes(),
                [available for _, available in facts.stock],
                [
                    (fact.receipt.bytes, fact.place.position, fact.due_on.toordinal() - _DAY_ZERO, fact.open)
                    for fact in facts.receipts
                ],
                self._packed,
                open_,
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


_Stored = tuple[
    int,
    int,
    bytes,
    list[int],
    list[tuple[bytes, int, int, int]],
    dict[str, list[tuple[int, int, int]]],
    list[tuple[int, int]],
]
_DECODE: Final = msgspec.msgpack.Decoder(_Stored).decode


def positions_in(stored: bytes) -> tuple[int, ...]:
    """Ids of the positions that stored facts name, so that their places can be looked up."""
    _, _, positions, _, receipts, _, _ = _DECODE(stored)
    return (*array("q", positions), *(position for _, position, _, _ in receipts))


def decode_facts(stored: bytes, places: Mapping[int, Place]) -> Recorded:
    """The facts of a decision from their stored form; `places` holds every position they name."""
    form, at, positions, available, receipts, capacity, open_ = _DECODE(stored)
    if form != FORM:
        raise ValueError(f"facts of form {form} cannot be read by this release, which knows form {FORM}")
    return Recorded(
        Facts(
            at=_EPOCH + at * _MICROSECOND,
            stock=tuple(
                StockFact(places[position], count)
                for position, count in zip(array("q", positions), available, strict=True)
            ),
            receipts=tuple(
                ReceiptFact(UUID(bytes=receipt), places[position], date.fromordinal(due + _DAY_ZERO), count)
                for receipt, position, due, count in receipts
            ),
            capacity=tuple(
                CapacityFact(node, date.fromordinal(day + _DAY_ZERO), slot, taken)
                for node, entries in capacity.items()
                for day, slot, taken in entries
            ),
        ),
        tuple((line_no, quantity) for line_no, quantity in open_),
    )


@dataclass(frozen=True, slots=True)
class Member:
    """An order of a wave: which attempt it was, and what of it was to be sourced."""

    order: UUID
    attempt: int
    open: tuple[tuple[int, Quantity], ...]


def encode_wave(facts: Facts, members: tuple[Member, ...]) -> bytes:
    """The stored form of a wave: the facts its orders shared, and the orders in their sequence."""
    return _ENCODE((encode_facts(facts, ()), [(m.order.bytes, m.attempt, m.open) for m in members]))


_DECODE_WAVE: Final = msgspec.msgpack.Decoder(tuple[bytes, list[tuple[bytes, int, list[tuple[int, int]]]]]).decode


def facts_of_wave(stored: bytes) -> bytes:
    """The stored form of the facts of a wave, by itself."""
    return _DECODE_WAVE(stored)[0]


def members_of_wave(stored: bytes) -> tuple[Member, ...]:
    """Who was in a wave, in sequence."""
    return tuple(
        Member(UUID(bytes=order), attempt, tuple((no, quantity) for no, quantity in open_))
        for order, attempt, open_ in _DECODE_WAVE(stored)[1]
    )


def plan_bytes(plan: Plan) -> bytes:
    """A plan in the one form in which two plans are compared byte for byte."""
    return _ENCODE(plan)


def digest(plan: Plan) -> bytes:
    """Sixteen bytes that tell plans apart; stored with the decision."""
    return sha256(plan_bytes(plan)).digest()[:16]
