"""What the law checks look at in the memory books: everything, every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import date
from uuid import UUID

from poolwise.core.ledger import ACCOUNTS, EMPTY, Account, Reservation
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
    SlotRow,
    Stored,
    StoredPlan,
)
from poolwise.store.shelves import Shelves


class MemoryEvidence:
    """The shelves, as store.check reads them. Memory books keep no editions and policies; they may be told some."""

    def __init__(
        self,
        shelves: Shelves,
        editions: Collection[str] | None = None,
        policies: Collection[tuple[str, int]] | None = None,
    ) -> None:
        self._shelves = shelves
        self._editions = editions
        self._policies = policies

    def positions(self) -> Iterator[PositionRow]:
        """See store.check."""
        for position in sorted(self._shelves.positions.values(), key=lambda p: (p.cell, p.id)):
            yield PositionRow(position.cell, position.id, position.balances, position.version, 0, EMPTY)

    def movements(self) -> Iterator[MovementRow]:
        """See store.check."""
        positions = self._shelves.positions
        cells = {id_: positions[id_].cell if id_ in positions else 0 for id_ in self._shelves.journal}
        for id_ in sorted(self._shelves.journal, key=lambda id_: (cells[id_], id_)):
            for row in self._shelves.journal[id_]:
                source, target = ACCOUNTS.index(row.movement.source), ACCOUNTS.index(row.movement.target)
                yield MovementRow(cells[id_], id_, row.version, source, target, row.movement.quantity)

    def held(self) -> Iterator[HeldRow]:
        """See store.check."""
        for position in self._shelves.positions.values():
            accounts = (Account.EXPECTED, Account.PLEDGED, Account.RESERVED)
            yield HeldRow(position.id, *(position.balance(account) for account in accounts))

    def open_reservations(self) -> Iterator[OpenReservations]:
        """See store.check."""
        sums: Counter[tuple[int, UUID | None]] = Counter()
        for reservation in self._shelves.reservations.values():
            sums[reservation.position, reservation.receipt] += reservation.quantity - sum(_endings(reservation))
        for (position, receipt), units in sums.items():
            yield OpenReservations(position, receipt, units)

    def receipts(self) -> Iterator[ReceiptRow]:
        """See store.check."""
        for r in self._shelves.receipts.values():
            yield ReceiptRow(r.id, r.position, r.quantity, r.pledged, r.arrived, r.cancelled)

    def reservations(self) -> Iterator[ReservationRow]:
        """See store.check."""
        for reservation in self._shelves.reservations.values():
            yield _reservation(reservation)

    def orders(self) -> Iterator[OrderRow]:
        """See store.check."""
        shelves = self._shelves
        queued = {todo.order.id for todo in shelves.todo.values()}
        incidents = Counter(incident.order for incident in shelves.incidents.values())
        decisions: dict[object, list[DecisionRow]] = {}
        for d in shelves.decisions.values():
            row = DecisionRow(d.attempt, d.edition, d.policy, d.policy_version)
            decisions.setdefault(d.owner, []).append(row)
        for id_, record in shelves.orders.items():
            own = [shelves.reservations[id_, no] for no in shelves.reservations_of.get(id_, ())]
            yield OrderRow(
                id_,
                record.state.value,
                record.attempt,
                [(line.no, line.quantity) for line in record.order.lines],
                _lines(record),
                decisions.get(id_, []),
                [_reservation(reservation) for reservation in own],
                incidents[id_],
                id_ in queued,
                record.order.reservation is not None,
            )

    def ownerless(self) -> Iterator[tuple[str, str]]:
        """See store.check. Memory needs no guards: a decision's key is unique."""
        decided = {owner for owner, _ in self._shelves.decisions}
        for owner, no in self._shelves.reservations:
            if owner not in self._shelves.orders and owner not in decided:
                yield "reservation", f"{owner}/{no}"

    def editions(self) -> Collection[str] | None:
        """See store.check."""
        return self._editions

    def policies(self) -> Collection[tuple[str, int]] | None:
        """See store.check."""
        return self._policies

    def slots(self) -> Iterator[SlotRow]:
        """See store.check."""
        booked: Counter[tuple[str, date, int]] = Counter()
        for record in self._shelves.shipments.values():
            for booking in record.shipment.bookings:
                booked[booking.node, booking.day, booking.slot] += booking.quantity
        for (_, node), slots in self._shelves.capacity.items():
            for (day, slot), (taken, limit) in slots.items():
                yield SlotRow(node, day, slot, taken, limit, booked.pop((node, day, slot), 0))
        yield from (SlotRow(*key, 0, None, units) for key, units in booked.items())

    def documents(self) -> Iterator[Stored]:
        """See store.check."""
        for place, (_, event) in enumerate(self._shelves.outbox):
            yield Stored("event", f"{place}/{event.type}/{event.subject}", dict(event.data))
        for place, (_, entry) in enumerate(self._shelves.audit):
            yield Stored("audit", f"{place}/{entry.action}/{entry.subject}", dict(entry.detail))
        for record in self._shelves.orders.values():
            facts: dict[str, Json] = dict(record.order.facts)
            yield Stored("order", str(record.order.id), facts)

    def plans(self) -> Iterator[StoredPlan]:
        """See store.check."""
        shelves = self._shelves
        for id_, record in shelves.orders.items():
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
