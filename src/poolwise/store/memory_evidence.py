"""What the law checks look at in the memory books: everything, or only the rows that somebody has touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from poolwise.core.counting import debt_id
from poolwise.core.fulfilment import IN_HAND
from poolwise.core.ledger import ACCOUNTS, EMPTY, Account, Cause, Position, Reservation
from poolwise.core.orders import Blocks
from poolwise.core.values import Json
from poolwise.flows.ports import OrderRecord
from poolwise.store.check import (
    DecisionRow,
    HeldRow,
    MovementRow,
    OpenReservations,
    OrderRow,
    PositionRow,
    ReceiptRow,
    ReservationRow,
    ReturnsRow,
    SlotRow,
    Stored,
    StoredPlan,
)
from poolwise.store.shelves import Shelves


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows: positions, owners of reservations and decisions, slots (node, day, slot), later events and audit."""

    positions: Collection[int]
    owners: Collection[UUID]
    slots: Collection[tuple[str, date, int]]
    events_from: int
    audit_from: int


class MemoryEvidence:
    """The shelves, as store.check reads them. Memory books keep no editions and policies; they may be told some."""

    def __init__(
        self,
        shelves: Shelves,
        editions: Collection[str] | None = None,
        policies: Collection[tuple[str, int]] | None = None,
        only: Rows | None = None,
    ) -> None:
        """With `only`, what is found is of these rows; their sums are over all that belongs to them."""
        self._shelves = shelves
        self._editions = editions
        self._policies = policies
        self._only = only

    def _positions(self) -> list[Position]:
        kept = self._shelves.positions
        chosen = kept if self._only is None else self._only.positions
        return sorted((kept[id_] for id_ in chosen if id_ in kept), key=lambda p: (p.cell, p.id))

    def _reservations(self) -> Iterable[Reservation]:
        shelves = self._shelves
        if self._only is None:
            return shelves.reservations.values()
        owned = shelves.reservations_of
        return [shelves.reservations[owner, no] for owner in sorted(self._only.owners) for no in owned.get(owner, ())]

    def _orders(self) -> list[OrderRecord]:
        kept = self._shelves.orders
        chosen = kept if self._only is None else sorted(self._only.owners)
        return [kept[id_] for id_ in chosen if id_ in kept]

    def positions(self) -> Iterator[PositionRow]:
        """See store.check."""
        for position in self._positions():
            yield PositionRow(position.cell, position.id, position.balances, position.version, 0, EMPTY)

    def movements(self) -> Iterator[MovementRow]:
        """See store.check."""
        positions = self._shelves.positions
        journal = self._shelves.journal if self._only is None else self._only.positions
        cells = {id_: positions[id_].cell if id_ in positions else 0 for id_ in journal}
        for id_ in sorted(cells, key=lambda id_: (cells[id_], id_)):
            for row in self._shelves.journal.get(id_, ()):
                source, target = ACCOUNTS.index(row.movement.source), ACCOUNTS.index(row.movement.target)
                yield MovementRow(cells[id_], id_, row.version, source, target, row.movement.quantity)

    def held(self) -> Iterator[HeldRow]:
        """See store.check."""
        for position in self._positions():
            accounts = (Account.EXPECTED, Account.PLEDGED, Account.RESERVED)
            yield HeldRow(position.id, *(position.balance(account) for account in accounts))

    def open_reservations(self) -> Iterator[OpenReservations]:
        """See store.check."""
        sums: Counter[tuple[int, UUID | None]] = Counter()
        for reservation in self._held_here():
            sums[reservation.position, reservation.receipt] += reservation.quantity - sum(_endings(reservation))
        for (position, receipt), units in sums.items():
            yield OpenReservations(position, receipt, units)

    def _held_here(self) -> Iterable[Reservation]:
        """Reservations with open units at the positions."""
        kept = self._shelves.reservations
        if self._only is None:
            return kept.values()
        return [kept[key] for id_ in self._only.positions for key in self._shelves.open_at.get(id_, ())]

    def receipts(self) -> Iterator[ReceiptRow]:
        """See store.check."""
        for r in self._shelves.receipts.values():
            if self._only is None or r.position in self._only.positions:
                yield ReceiptRow(r.id, r.position, r.quantity, r.pledged, r.arrived, r.cancelled)

    def reservations(self) -> Iterator[ReservationRow]:
        """See store.check."""
        for reservation in self._reservations():
            yield _reservation(reservation)

    def orders(self) -> Iterator[OrderRow]:
        """See store.check."""
        shelves, records = self._shelves, self._orders()
        if not records:
            return
        queued = {id_ for _, id_ in shelves.todo}
        incidents = Counter(incident.order for incident in shelves.incidents.values())
        decisions: dict[object, list[DecisionRow]] = {}
        for (owner, attempt), d in shelves.decisions.items():
            decisions.setdefault(owner, []).append(DecisionRow(attempt, d.edition, d.policy, d.policy_version))
        for record in records:
            id_ = record.order.id
            own = [shelves.reservations[id_, no] for no in shelves.reservations_of.get(id_, ())]
            stages = {no: shelves.shipments[id_, no].stage for no in shelves.shipments_of.get(id_, ())}
            in_hand = {no for no, stage in stages.items() if stage in IN_HAND}
            yield OrderRow(
                id_,
                record.state.value,
                record.attempt,
                [(line.no, line.quantity) for line in record.order.lines],
                _lines(record),
                decisions.get(id_, []),
                [
                    _reservation(reservation)._replace(released=reservation.shipment_no in in_hand)
                    for reservation in own
                ],
                incidents[id_],
                id_ in queued or record.is_held(Blocks.SOURCING),
                record.order.began_elsewhere is not None,
            )

    def returns(self) -> Iterator[ReturnsRow]:
        """See store.check."""
        shelves = self._shelves
        for record in self._orders():
            if not record.returns:
                continue
            id_ = record.order.id
            own = [shelves.reservations[id_, no] for no in shelves.reservations_of.get(id_, ())]
            moved: dict[tuple[UUID, int], tuple[int, int]] = {}
            for return_, key in {(found.id, part.key) for found in record.returns for part in found.parts}:
                debt = debt_id(key, Account.BLOCKED)
                here = [row.movement for row in shelves.journal.get(key.id(), ()) if row.movement.cause_id == return_]
                owed = [row.movement for row in shelves.journal.get(debt, ()) if row.movement.cause_id == return_]
                came = sum(m.quantity for m in here if m.cause is Cause.RETURN and m.target is Account.BLOCKED)
                went = sum(m.quantity for m in here if m.cause is Cause.DISPOSE and m.source is Account.BLOCKED)
                went += sum(m.quantity for m in owed if m.cause is Cause.DISPOSE and m.source is Account.OUTSIDE)
                moved[return_, key.id()] = came, went
            yield ReturnsRow(id_, record.returns, {part.no: part.consumed for part in own}, moved)

    def ownerless(self) -> Iterator[tuple[str, str]]:
        """See store.check. Memory needs no guards: a decision's key is unique."""
        strangers = [held for held in self._reservations() if held.owner not in self._shelves.orders]
        decided = {owner for owner, _ in self._shelves.decisions} if strangers else set()
        for held in strangers:
            if held.owner not in decided:
                yield "reservation", f"{held.owner}/{held.no}"

    def editions(self) -> Collection[str] | None:
        """See store.check."""
        return self._editions

    def policies(self) -> Collection[tuple[str, int]] | None:
        """See store.check."""
        return self._policies

    def slots(self) -> Iterator[SlotRow]:
        """See store.check."""
        if self._only is not None and not self._only.slots:
            return
        booked: Counter[tuple[str, date, int]] = Counter()
        for record in self._shelves.shipments.values():
            for booking in record.shipment.bookings:
                booked[booking.node, booking.day, booking.slot] += booking.quantity
        found = [
            SlotRow(node, day, slot, taken, limit, booked.pop((node, day, slot), 0))
            for (_, node), slots in self._shelves.capacity.items()
            for (day, slot), (taken, limit) in slots.items()
        ]
        found += [SlotRow(*key, 0, None, units) for key, units in booked.items()]
        yield from (row for row in found if self._only is None or row[:3] in self._only.slots)

    def documents(self) -> Iterator[Stored]:
        """See store.check."""
        first, second = (0, 0) if self._only is None else (self._only.events_from, self._only.audit_from)
        for place, (_, event) in enumerate(self._shelves.outbox[first:], first):
            yield Stored("event", f"{place}/{event.type}/{event.subject}", dict(event.data))
        for place, (_, entry) in enumerate(self._shelves.audit[second:], second):
            yield Stored("audit", f"{place}/{entry.action}/{entry.subject}", dict(entry.detail))
        for record in self._orders():
            facts: dict[str, Json] = dict(record.order.facts)
            yield Stored("order", str(record.order.id), facts)

    def plans(self) -> Iterator[StoredPlan]:
        """See store.check."""
        shelves = self._shelves
        for record in self._orders():
            id_ = record.order.id
            decision = shelves.decisions.get((id_, record.attempt))
            if decision is not None:
                reservations = tuple(shelves.reservations[id_, no] for no in shelves.reservations_of.get(id_, ()))
                yield StoredPlan(record, decision, reservations, shelves.places)


def _endings(reservation: Reservation) -> tuple[int, int, int, int]:
    return reservation.consumed, reservation.freed, reservation.expired, reservation.broken


def _reservation(r: Reservation) -> ReservationRow:
    return ReservationRow(r.owner, r.no, r.quantity, _endings(r), r.line_no, r.line_quantity, r.receipt is not None)


def _lines(record: OrderRecord) -> dict[int, tuple[int, ...]]:
    return {
        line.no: (
            progress.ordered,
            progress.open,
            progress.reserved,
            progress.pledged,
            progress.backordered,
            progress.released,
            progress.shipped,
            progress.cancelled,
        )
        for line, progress in zip(record.order.lines, record.lines, strict=True)
    }
