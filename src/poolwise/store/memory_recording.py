"""Writes one `Effects` value into the shelves, in the same steps and under the same conditions as `store.recording`."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from heapq import heappush
from typing import TypeVar
from uuid import UUID

from poolwise.core.ledger import EMPTY, Account, LedgerRefusal, Movement, Receipt, Reservation, post, refusal
from poolwise.core.orders import TRANSITIONS, Progress
from poolwise.core.values import Conflict, KeyTaken, replace
from poolwise.flows.ports import RETURN, Effects, Ending, Queue, ReceiptChange, Todo, place_of
from poolwise.store.posting import merged_capacity_changes, merged_ends, merged_picks, merged_receipt_changes
from poolwise.store.shelves import JournalRow, Shelves, Undo
from poolwise.store.steps import Failpoint, Step

K = TypeVar("K")
V = TypeVar("V")


class MemoryRecording:
    """One `Effects` value on its way into the shelves."""

    def __init__(self, shelves: Shelves, undo: Undo, effects: Effects) -> None:
        self._shelves = shelves
        self._undo = undo
        self._effects = effects

    def write(self, failpoint: Failpoint) -> None:
        """Take every step. Raises Conflict when a condition no longer holds."""
        steps: tuple[tuple[Step, Callable[[], None]], ...] = (
            (Step.KEYS, self._write_keys),
            (Step.ORDERS, self._write_orders),
            (Step.ORDERS_CHANGED, self._change_orders),
            (Step.POSITIONS, self._ensure_positions),
            (Step.MOVEMENTS, self._move),
            (Step.RECEIPTS, self._write_receipts),
            (Step.RESERVATIONS, self._write_reservations),
            (Step.SHIPMENTS, self._write_shipments),
            (Step.QUEUES, self._write_queues),
            (Step.DECISIONS, self._write_decisions),
            (Step.COUNTS, self._write_counts),
            (Step.EVENTS, self._write_events),
            (Step.CAPACITY, self._change_capacity),
            (Step.PICKS, self._add_picks),
        )
        for step, take in steps:
            take()
            failpoint(step)

    def _add(self, shelf: dict[K, V], key: K, value: V) -> None:
        """Put something new under a key that nothing has."""
        if key in shelf:
            raise Conflict(f"{key} exists already")
        self._undo.put(shelf, key, value)

    def _add_number(self, shelf: dict[UUID, tuple[int, ...]], owner: UUID, no: int) -> None:
        """Add a number to those of an owner, which are in order."""
        numbers = shelf.get(owner, ())
        place = bisect(numbers, no)
        self._undo.put(shelf, owner, (*numbers[:place], no, *numbers[place:]))

    def _write_keys(self) -> None:
        for answer in self._effects.answers:
            if (answer.sender, answer.key) in self._shelves.answers:
                raise KeyTaken(f"{answer.key} has an answer already")
            self._undo.put(self._shelves.answers, (answer.sender, answer.key), answer)
        for message in self._effects.messages_seen:
            self._add(self._shelves.inbox, message, self._effects.at)

    def _write_orders(self) -> None:
        for record in self._effects.orders:
            self._add(self._shelves.order_ids, record.order.number, record.order.id)
            self._add(self._shelves.orders, record.order.id, record)
            assert len(record.lines) == len(record.order.lines), "every line has its progress"
        for each in self._effects.returns:
            if each.is_new:
                self._add(self._shelves.order_ids, RETURN + each.found.number, each.order)
        for contact in self._effects.contacts:
            self._add(self._shelves.contacts, contact.id, contact)

    def _change_orders(self) -> None:
        self._amend_orders()
        decided = {(decision.owner, decision.attempt) for decision in self._effects.decisions}
        for record in self._effects.orders_changed:
            order = record.order.id
            before = self._shelves.orders.get(order)
            if before is None or before.attempt != record.attempt - ((order, record.attempt) in decided):
                raise Conflict(f"order {order} is no longer at the attempt before")
            if record.state is not before.state and record.state not in TRANSITIONS[before.state]:
                raise Conflict(f"order {order} cannot go from {before.state} to {record.state}")
            if [line.ordered for line in before.lines] != [line.ordered for line in record.lines]:
                raise Conflict(f"order {order} has other lines")
            kept = replace(record, order=before.order, holds=before.holds, former=before.former, returns=before.returns)
            self._undo.put(self._shelves.orders, order, kept)
        for record in self._effects.held:
            before = self._shelves.orders[record.order.id]
            self._undo.put(self._shelves.orders, record.order.id, replace(before, holds=record.holds))
        for each in self._effects.returns:
            before = self._shelves.orders[each.order]
            known = {found.id: found for found in before.returns}
            assert (each.found.id in known) is not each.is_new, "a return is new once"
            known[each.found.id] = each.found
            returns = tuple(known[id_] for id_ in sorted(known))
            self._undo.put(self._shelves.orders, each.order, replace(before, returns=returns))

    def _amend_orders(self) -> None:
        for record in self._effects.amended:
            before = self._shelves.orders[record.order.id]
            known = dict(zip((line.no for line in before.order.lines), before.lines, strict=True))
            lines = []
            for line in record.order.lines:
                progress = known.get(line.no, Progress(0))
                more = line.quantity - progress.ordered
                lines.append(replace(progress, ordered=line.quantity, open=progress.open + more))
            after = replace(before, order=record.order, former=record.former, lines=tuple(lines))
            self._undo.put(self._shelves.orders, record.order.id, after)

    def _ensure_positions(self) -> None:
        shelves = self._shelves
        for position in self._effects.positions:
            assert position.balances == EMPTY and position.version == 0, "stock is moved, never set (law 1)"
            known = shelves.positions.get(position.id)
            if known is not None:
                assert known.key == position.key, f"two positions share the number {position.id}"
                continue
            item = position.key.item
            self._undo.put(shelves.positions, position.id, position)
            self._undo.put(shelves.places, position.id, place_of(position.key, position.expires_on))
            self._undo.put(shelves.moved_at, position.id, self._effects.at)
            ids = tuple(sorted((*shelves.positions_of.get(item, ()), position.id)))
            self._undo.put(shelves.positions_of, item, ids)
            shelves.stock_facts.pop(item, None)

    def _move(self) -> None:
        for movement in self._effects.movements:
            other = movement.to_position
            if other is None or other == movement.position:
                self._post(replace(movement, to_position=None) if other is not None else movement)
                continue
            assert Account.OUTSIDE not in (movement.source, movement.target), "a transfer moves stock that is there"
            giver, taker = self._shelves.positions.get(movement.position), self._shelves.positions.get(other)
            if giver is not None and taker is not None:
                assert giver.key.item == taker.key.item, "a movement moves one item"
            self._post(replace(movement, target=Account.OUTSIDE, to_position=None), other)
            self._post(replace(movement, position=other, source=Account.OUTSIDE, to_position=None), movement.position)

    def _post(self, movement: Movement, other: int | None = None) -> None:
        """Law 1: one movement inside one position, and its row in the journal."""
        shelves = self._shelves
        position = shelves.positions.get(movement.position)
        if position is None:
            raise Conflict(f"position {movement.position} does not exist")
        if refusal(position, movement) is LedgerRefusal.SHORT:
            raise Conflict(f"position {movement.position} does not hold what is moved")
        after = post(position, movement)
        at = max(shelves.moved_at[position.id], self._effects.at)
        self._undo.put(shelves.positions, position.id, after)
        self._undo.put(shelves.moved_at, position.id, at)
        self._undo.append(shelves.journal[position.id], JournalRow(after.version, at, movement, other))
        shelves.stock_facts.pop(position.key.item, None)

    def _write_receipts(self) -> None:
        shelves = self._shelves
        for receipt in self._effects.receipts:
            place = shelves.places.get(receipt.position)
            if place is None:
                raise Conflict(f"position {receipt.position} does not exist")
            self._add(shelves.receipts, receipt.id, receipt)
            self._add(shelves.receipt_ids, (receipt.position, receipt.reference), receipt.id)
            self._undo.put(shelves.receipts_of, place.item, (*shelves.receipts_of.get(place.item, ()), receipt.id))
        for change in merged_receipt_changes(self._effects.receipt_changes):
            before = shelves.receipts.get(change.receipt)
            if before is None:
                raise Conflict(f"receipt {change.receipt} does not exist")
            self._undo.put(shelves.receipts, change.receipt, _changed(before, change))

    def _write_reservations(self) -> None:
        shelves = self._shelves
        for reservation in self._effects.reservations:
            assert reservation.open == reservation.quantity > 0, "a reservation begins whole (law 6)"
            key = (reservation.owner, reservation.no)
            self._add(shelves.reservations, key, reservation)
            self._add_number(shelves.reservations_of, *key)
            self._undo.put(shelves.open_at[reservation.position], key, None)
        for (_, owner, no), ended in merged_ends(self._effects.reservation_ends).items():
            before = shelves.reservations.get((owner, no))
            if before is None or sum(ended.values()) > before.open:
                raise Conflict(f"reservation {no} of {owner} has fewer open units than end now (law 6)")
            after = _ended(before, ended)
            self._undo.put(shelves.reservations, (owner, no), after)
            if before.open and not after.open:
                self._undo.drop(shelves.open_at[after.position], (owner, no))
            elif after.open and not before.open:
                self._undo.put(shelves.open_at[after.position], (owner, no), None)

    def _write_shipments(self) -> None:
        shelves = self._shelves
        for _, owner, no in sorted(set(self._effects.shipments_dropped)):
            if (owner, no) not in shelves.shipments:
                raise Conflict(f"shipment {no} of {owner} is gone")
            self._undo.drop(shelves.shipments, (owner, no))
            left = tuple(other for other in shelves.shipments_of[owner] if other != no)
            self._undo.put(shelves.shipments_of, owner, left)
        for record in self._effects.shipments:
            new = replace(record, offered_to=(), offered_until=None) if record.offered_to else record
            self._add(shelves.shipments, (record.owner, record.shipment.no), new)
            self._add_number(shelves.shipments_of, record.owner, record.shipment.no)
        for offer in self._effects.offers:
            known = shelves.shipments.get((offer.owner, offer.no))
            if known is None:
                raise Conflict(f"shipment {offer.no} of {offer.owner} is gone")
            offered = replace(known, offered_to=offer.nodes, offered_until=offer.until)
            self._undo.put(shelves.shipments, (offer.owner, offer.no), offered)
        for change in sorted(self._effects.stages, key=lambda change: (change.cell, change.owner, change.no)):
            before = shelves.shipments.get((change.owner, change.no))
            if before is None or before.stage is not change.before:
                raise Conflict(f"shipment {change.no} of {change.owner} is no longer {change.before}")
            after = replace(before, stage=change.after, since=change.at or self._effects.at)
            self._undo.put(shelves.shipments, (change.owner, change.no), after)
        for milestone in self._effects.milestones:
            self._add(shelves.milestones, (milestone.owner, milestone.id), milestone)

    def _write_queues(self) -> None:
        shelves = self._shelves
        for _, order, queue in self._effects.taken:
            if (queue, order) in shelves.todo:
                self._drop(shelves.todo[queue, order])
        for todo in self._effects.todo:
            self._queue(todo)
        for cell, subject, kind in self._effects.timers_dropped:
            if (cell, subject, kind.value) in shelves.timers:
                self._undo.drop(shelves.timers, (cell, subject, kind.value))
        for timer in self._effects.timers:
            self._add(shelves.timers, (timer.cell, timer.subject, timer.kind.value), timer)
            # If the timer does not come to be, its entry is dropped when it is met.
            heappush(shelves.timer_keys[timer.cell], (timer.due_at, timer.subject, timer.kind.value))

    def _drop(self, todo: Todo) -> None:
        """Out of the queue."""
        key = (todo.queue, todo.order.id)
        self._undo.drop(self._shelves.todo, key)
        if todo.queue is Queue.STOCK:
            for item in todo.lines:
                self._undo.drop(self._shelves.waiting[item], key)

    def _queue(self, todo: Todo) -> None:
        key = (todo.queue, todo.order.id)
        before = self._shelves.todo.get(key) if not todo.is_new else None
        if before is not None:
            # As `store.recording` has it: what is to be sourced says all there is to say; who waits keeps his place.
            if todo.queue is not Queue.STOCK:
                return
            todo = replace(todo, since=min(todo.since, before.since))
            self._drop(before)
        self._add(self._shelves.todo, key, todo)
        if todo.queue is not Queue.STOCK:
            heappush(self._shelves.queues[todo.cell, todo.queue], (todo.rank, todo.since, todo.order.id))
        else:
            for item in todo.lines:
                self._undo.put(self._shelves.waiting[item], key, None)

    def _write_decisions(self) -> None:
        for decision in self._effects.decisions:
            self._add(self._shelves.decisions, (decision.owner, decision.attempt), decision)

    def _write_counts(self) -> None:
        for mark in self._effects.counts:
            self._undo.put(self._shelves.marks, mark.position, mark)
            since, _ = self._shelves.count_tasks.get(mark.position, (mark.as_of, 0))
            if since < mark.as_of:
                self._undo.drop(self._shelves.count_tasks, mark.position)
        for task in self._effects.count_tasks:
            _, units = self._shelves.count_tasks.get(task.position, (None, 0))
            self._undo.put(self._shelves.count_tasks, task.position, (self._effects.at, units + task.units))
        for incident in self._effects.incidents:
            self._add(self._shelves.incidents, incident.id, incident)

    def _write_events(self) -> None:
        at = self._effects.at
        for entry in self._effects.audit:
            self._undo.append(self._shelves.audit, (at, entry))
        for event in self._effects.events:
            self._undo.append(self._shelves.outbox, (at, event))

    def _change_capacity(self) -> None:
        for (cell, node, day, slot), (quantity, limit) in merged_capacity_changes(self._effects.capacity).items():
            slots = self._shelves.capacity[cell, node]
            taken, _ = slots.get((day, slot), (0, None))
            after = taken + quantity
            if after < 0 or (quantity > 0 and limit is not None and after > limit):
                raise Conflict(f"slot {slot} of {node} on {day} cannot take {quantity} more (law 14)")
            self._undo.put(slots, (day, slot), (after, None if limit is None else max(limit, after)))
            self._shelves.capacity_facts.pop((cell, node), None)

    def _add_picks(self) -> None:
        for (cell, item_class, node), (found, missed) in merged_picks(self._effects.pick_outcomes).items():
            records = self._shelves.picks[cell, item_class]
            before = records.get(node, (0, 0))
            self._undo.put(records, node, (max(0, before[0] + found), before[1] + missed))


def _changed(receipt: Receipt, change: ReceiptChange) -> Receipt:
    """A receipt after its change. Raises Conflict when more would be taken of it than it holds (law 2)."""
    quantity = receipt.quantity + change.quantity
    parts = (
        receipt.pledged + change.pledged,
        receipt.arrived + change.arrived,
        receipt.cancelled + change.cancelled,
    )
    if min(parts) < 0 or sum(parts) > quantity:
        raise Conflict(f"receipt {receipt.id} does not hold what is taken of it (law 2)")
    return replace(
        receipt,
        quantity=quantity,
        pledged=parts[0],
        arrived=parts[1],
        cancelled=parts[2],
        due_on=receipt.due_on if change.due_on is None else change.due_on,
        sequence=receipt.sequence if change.sequence is None else change.sequence,
        announced=receipt.announced if change.announced is None else change.announced,
    )


def _ended(reservation: Reservation, ended: dict[Ending, int]) -> Reservation:
    return replace(
        reservation,
        consumed=reservation.consumed + ended[Ending.CONSUMED],
        freed=reservation.freed + ended[Ending.FREED],
        expired=reservation.expired + ended[Ending.EXPIRED],
        broken=reservation.broken + ended[Ending.BROKEN],
    )
