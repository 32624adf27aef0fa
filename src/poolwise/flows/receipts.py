"""Receipts: what suppliers announce is expected, what arrives becomes stock, what is cancelled leaves no promise.

Keeps laws 1, 2, 5, 6, 9, 12 and 13. Units that arrive serve those who were promised them first, the oldest pledge
first; the rest is available. A notice states all there is to know of a receipt; a later one replaces an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from poolwise.core.counting import Break, Statement, Tally
from poolwise.core.ledger import Account, Cause, PositionKey, Receipt, Reservation
from poolwise.core.messages import ReceiptNotice
from poolwise.core.values import Fault, Json, Quantity, replace
from poolwise.flows.breaking import open_line_quantity, stands_alone
from poolwise.flows.ports import (
    Answer,
    Books,
    CountMark,
    Ending,
    Event,
    OrderRecord,
    ReceiptChange,
    ReservationEnd,
    Transaction,
)
from poolwise.flows.stock import Outcome, Result, position_key, quantity_of
from poolwise.flows.tallying import MOST_STATEMENTS, Clerk, Room, Wanted, in_transaction, untimely

LONGEST_REFERENCE: Final = 200


@dataclass(frozen=True, slots=True)
class Announced:
    """A notice whose form is right; quantities are in base units."""

    key: PositionKey
    quantity: Quantity
    arrived: Quantity
    message: ReceiptNotice

    @property
    def name(self) -> tuple[int, str]:
        """What the receipt is found by."""
        return self.key.id(), self.message.reference


def book_receipts(
    books: Books,
    clerk: Clerk,
    notices: Sequence[ReceiptNotice],
    now: datetime,
    messages_seen: Sequence[tuple[str, str]] = (),
    answer: Callable[[Sequence[Result]], Answer] | None = None,
) -> list[Result]:
    """Book notices of inbound stock; one result for each, in order. Of several of one receipt the newest counts."""
    assert len(notices) <= MOST_STATEMENTS
    read = [_announced(clerk, notice) for notice in notices]

    def work(transaction: Transaction, wanted: Wanted, at: datetime) -> list[Result]:
        keys: dict[PositionKey, date | None] = {found.key: None for found in read if isinstance(found, Announced)}
        room = Room(transaction, clerk, wanted, keys, at)
        marks = transaction.count_marks(key.id() for key in keys)
        known = transaction.receipts_named({found.name for found in read if isinstance(found, Announced)})
        results = [_before(found, known.get(found.name)) if isinstance(found, Announced) else found for found in read]
        newest: dict[tuple[int, str], int] = {}
        for place, found in enumerate(read):
            if isinstance(found, Announced) and results[place] is None:
                rival = newest.get(found.name)
                if rival is not None and _sequence(read[rival]) > found.message.sequence:
                    results[place] = Result(Outcome.STALE)
                    continue
                if rival is not None:
                    results[rival] = Result(Outcome.STALE)
                newest[found.name] = place
        for place in newest.values():
            found = read[place]
            assert isinstance(found, Announced)
            results[place] = _Delivery(room, found, known.get(found.name), marks.get(found.key.id())).book()
        changed = sum(result is not None and result.outcome is Outcome.BOOKED for result in results)
        told = [result for result in results if result is not None]
        room.answer(told, answer)
        if changed or messages_seen:
            room.record("stock.receive", {"notices": len(notices), "changed": changed}, messages_seen=messages_seen)
        return told

    return in_transaction(books, now, work)


def refusals(clerk: Clerk, notices: Sequence[ReceiptNotice]) -> list[tuple[Fault, ...]]:
    """What is wrong with the form of each notice, without booking any."""
    read = [_announced(clerk, notice) for notice in notices]
    return [found.faults if isinstance(found, Result) else () for found in read]


def _sequence(found: Announced | Result) -> int:
    assert isinstance(found, Announced)
    return found.message.sequence


def _announced(clerk: Clerk, notice: ReceiptNotice) -> Announced | Result:
    faults: list[Fault] = []
    key = position_key(clerk, notice.item, notice.node, notice.pool, notice.lot, faults)
    quantity = quantity_of(clerk, key, "quantity", notice.quantity, faults)
    arrived = quantity_of(clerk, key, "arrived", notice.arrived, faults)
    if not 0 < len(notice.reference) <= LONGEST_REFERENCE:
        faults.append(Fault("reference", f"is 1 to {LONGEST_REFERENCE} characters"))
    if notice.arrived_at is not None:
        # One in the future counts as now.
        faults += untimely("arrived_at", notice.arrived_at, notice.arrived_at)
    if faults or key is None or quantity is None or arrived is None:
        return Result(Outcome.REFUSED, tuple(faults))
    # More may arrive than was expected; then that was the quantity.
    return Announced(key, max(quantity, arrived), arrived, notice)


def _before(found: Announced, receipt: Receipt | None) -> Result | None:
    """The result of a notice that is not newer than what is known, or that contradicts it; else None."""
    if receipt is None:
        return None
    if found.message.sequence < receipt.sequence:
        return Result(Outcome.STALE)
    if found.message.sequence == receipt.sequence and receipt.sequence > 0:
        return Result(Outcome.DUPLICATE)
    if found.arrived < receipt.arrived:
        reason = "is less than what has arrived already; correct that by a count or a movement"
        return Result(Outcome.REFUSED, (Fault("arrived", reason),))
    return None


class _Delivery:
    """One receipt while a notice is booked: first what is expected, then what has arrived, then what is cancelled."""

    def __init__(self, room: Room, found: Announced, receipt: Receipt | None, mark: CountMark | None) -> None:
        self.room, self.found = room, found
        self.counted_at = mark.as_of if mark else None
        self.tally: Tally = room.tally(found.key)
        self.new = receipt is None
        self.receipt = receipt or self._first()
        self.before = self.receipt
        self.said = Statement(Cause.RECEIPT, room.batch, room.now)
        self.pledges = [held for held in room.reservations_at(self.tally.position) if held.receipt == self.receipt.id]

    def _first(self) -> Receipt:
        message, cell = self.found.message, self.room.clerk.cell_of(self.found.key.node)
        id_ = self.room.clerk.ids.new(self.room.now)
        return Receipt(
            id_, cell, self.found.key.id(), message.reference, message.due_on, 0,
            announced=message.announced, sequence=message.sequence,
        )  # fmt: skip

    def book(self) -> Result:
        """Book the notice."""
        message = self.found.message
        if not self._says_the_same():
            self._expect(self.found.quantity)
            self._arrive(self.found.arrived - self.receipt.arrived)
            if message.cancelled:
                self._cancel()
        self.receipt = replace(
            self.receipt, due_on=message.due_on, sequence=message.sequence, announced=message.announced
        )
        if not self.new and self.receipt == self.before:
            return Result(Outcome.UNCHANGED)
        if self.new:
            self.room.also.receipts.append(self.receipt)
        else:
            self.room.also.receipt_changes.append(_difference(self.before, self.receipt))
        self.room.also.events.append(self._event())
        return Result(Outcome.BOOKED)

    def _says_the_same(self) -> bool:
        """Whether the notice changes no quantity."""
        rest = self.found.quantity - self.found.arrived
        told = (self.found.quantity, self.found.arrived, rest if self.found.message.cancelled else 0)
        return not self.new and told == (self.receipt.quantity, self.receipt.arrived, self.receipt.cancelled)

    def _expect(self, quantity: Quantity) -> None:
        """Expect `quantity` in all: more than before, or less, for which the newest pledges break first."""
        self.tally.move(Account.OUTSIDE, Account.EXPECTED, self.receipt.cancelled, self.said)
        self.receipt = replace(self.receipt, cancelled=0)
        more = quantity - self.receipt.quantity
        if more > 0:
            self.tally.move(Account.OUTSIDE, Account.EXPECTED, more, self.said)
        elif more < 0:
            self._give_up(-more)
        self.receipt = replace(self.receipt, quantity=quantity)

    def _give_up(self, quantity: Quantity) -> None:
        """Expect `quantity` less, which is no more than is open or pledged."""
        lacking = quantity - self.receipt.open
        for held in self.pledges:
            if lacking > 0:
                # Units that serve a line only together break together.
                part = min(lacking, held.open) if stands_alone(held) else held.open
                self._break(held, part)
                lacking -= part
        assert lacking <= 0, f"a receipt is pledged beyond its reservations: {self.receipt}"
        self.tally.move(Account.EXPECTED, Account.OUTSIDE, quantity, self.said)

    def _break(self, held: Reservation, quantity: Quantity) -> None:
        """Units that were promised from this receipt are no longer: they are expected by nobody in particular."""
        said = replace(self.said, cause=Cause.BREAK)
        self.tally.move(Account.PLEDGED, Account.EXPECTED, quantity, said)
        self.receipt = replace(self.receipt, pledged=self.receipt.pledged - quantity)
        self.room.also.breaks.append(Break(held, quantity))
        self._shrink(held, quantity)

    def _shrink(self, held: Reservation, quantity: Quantity) -> None:
        left = [replace(each, consumed=each.consumed + quantity) if each is held else each for each in self.pledges]
        self.pledges = [each for each in left if each.open]

    def _arrive(self, quantity: Quantity) -> None:
        """Units are there: first for those who were promised them, then for everybody."""
        arrived_at = self.found.message.arrived_at
        seen = arrived_at is not None and self.counted_at is not None and arrived_at < self.counted_at
        at = self.room.now if arrived_at is None else min(arrived_at, self.room.now)
        said = replace(self.said, cause=Cause.ARRIVAL, at=at)
        left = quantity
        for held in reversed(self.pledges):
            part = min(left, held.open)
            if part == 0:
                break
            if part < held.open and not stands_alone(held):
                self._break(held, held.open)
                continue
            self._keep(held, part, said)
            left -= part
        self.tally.change(Account.EXPECTED, Account.AVAILABLE, left, said, counted=seen)
        if seen and left < quantity:
            counted = replace(said, cause=Cause.COUNT)
            self.tally.change(Account.AVAILABLE, Account.OUTSIDE, quantity - left, counted)
        self.receipt = replace(self.receipt, arrived=self.receipt.arrived + quantity)

    def _keep(self, held: Reservation, quantity: Quantity, said: Statement) -> None:
        """Pledged units have come: the pledge is consumed, and the stock is reserved instead."""
        self.room.require([held.owner])
        also = self.room.also
        line_quantity = quantity if stands_alone(held) else open_line_quantity(held)
        taken = [r.no for r in self.room.transaction.reservations(held.owner)]
        taken += [r.no for r in also.reservations if r.owner == held.owner]
        self.tally.move(Account.PLEDGED, Account.RESERVED, quantity, said)
        self.receipt = replace(self.receipt, pledged=self.receipt.pledged - quantity)
        also.ends.append(ReservationEnd(held.cell, held.owner, held.no, Ending.CONSUMED, quantity))
        also.reservations.append(
            replace(
                held,
                no=max(taken) + 1,
                quantity=quantity,
                line_quantity=line_quantity,
                made_at=self.room.now,
                receipt=None,
                consumed=0,
                freed=0,
                expired=0,
                broken=0,
            )
        )
        record = also.orders.get(held.owner) or self.room.orders.get(held.owner)
        if record is not None:
            also.orders[held.owner] = _kept(record, held.line_no, line_quantity)
        self._shrink(held, quantity)

    def _cancel(self) -> None:
        """The rest will not come."""
        rest = self.receipt.quantity - self.receipt.arrived - self.receipt.cancelled
        for held in self.pledges:
            self._break(held, held.open)
        self.tally.move(Account.EXPECTED, Account.OUTSIDE, rest, self.said)
        self.receipt = replace(self.receipt, cancelled=self.receipt.cancelled + rest)

    def _event(self) -> Event:
        receipt, key = self.receipt, self.found.key
        told: dict[str, Json] = {
            "item": key.item,
            "node": key.node,
            "pool": key.pool,
            "reference": receipt.reference,
            "due_on": receipt.due_on.isoformat(),
            "quantity": receipt.quantity,
            "arrived": receipt.arrived,
            "cancelled": receipt.cancelled,
            "announced": receipt.announced,
        }
        return Event("receipt.changed", str(receipt.id), told, receipt.cell)


def _kept(record: OrderRecord, line_no: int, quantity: Quantity) -> OrderRecord:
    lines = tuple(
        replace(progress, pledged=progress.pledged - quantity, reserved=progress.reserved + quantity)
        if line.no == line_no
        else progress
        for line, progress in zip(record.order.lines, record.lines, strict=True)
    )
    return replace(record, lines=lines)


def _difference(before: Receipt, after: Receipt) -> ReceiptChange:
    return ReceiptChange(
        after.cell,
        after.id,
        quantity=after.quantity - before.quantity,
        pledged=after.pledged - before.pledged,
        arrived=after.arrived - before.arrived,
        cancelled=after.cancelled - before.cancelled,
        due_on=after.due_on if after.due_on != before.due_on else None,
        sequence=after.sequence if after.sequence != before.sequence else None,
        announced=after.announced if after.announced != before.announced else None,
    )
