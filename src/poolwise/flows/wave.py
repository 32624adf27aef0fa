"""Waves: orders whose service level waits for one are planned together, with those that may still be planned again.

Keeps laws 2, 4, 6, 8, 13, 14. The queue of a wave holds both: who waits, and behind them who is reserved and not
released (a cut-off that has passed counts as released until there is releasing). Facts are read without locks, what is
held counted as free, and the plan is worked out on them; then orders, positions, receipts and slots concerned are
locked and checked again. An order that moves gives back what it held and takes its new plan in the same commit, as its
next attempt; an order that gains nothing stays as it is, and nothing is written for it. What no longer fits is decided
at once if it waited; if somebody was to move, the wave is planned anew, the last time without moving anybody.

A wave is stored once, under its own id: its facts, who was in it, and what was held. The decision about an order that
it planned names it, and recomputes with it. Each wave is one transaction: killed, it has not been.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

from poolwise.core.fulfilment import Stage
from poolwise.core.ledger import Account, Reservation
from poolwise.core.orders import Blocks, OrderState, Progress
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.columns import MOST_COLUMNS, Wish
from poolwise.core.sourcing.problem import (
    NO_CLASSES,
    Demand,
    Facts,
    Place,
    ReceiptFact,
    StockFact,
    classes_of,
    shelves_of,
)
from poolwise.core.sourcing.record import Held, Member, digest, encode_wave, part_at
from poolwise.core.sourcing.wave import Planned, Wave, solve_wave
from poolwise.core.values import Conflict, Json, replace
from poolwise.flows.freeing import GivenBack
from poolwise.flows.ports import (
    Books,
    Decision,
    Effects,
    Ending,
    Event,
    OrderRecord,
    Queue,
    ShipmentRecord,
    Stock,
    Todo,
    Transaction,
    place_of,
)
from poolwise.flows.source import Batch, Choice, Desk, Shelf, again_in_wave, items_wanted, terms_of, waiting_of

MOST_CLAIMED: Final = 500
MOST_CONFLICTS: Final = 3
OFF_HAND: Final = (Account.RESERVED.value, Account.AVAILABLE.value)
TO_EXPECTED: Final = (Account.PLEDGED.value, Account.EXPECTED.value)
"""From which account to which units move that are given back."""


@dataclass(frozen=True, slots=True)
class Wove:
    """What became of a wave: orders claimed and planned, of these left short, moved (they were planned before), sent
    back to be decided at once; its columns, and the gap that is left. It has no id where there was nothing to write.
    """

    wave: UUID | None = None
    claimed: int = 0
    planned: int = 0
    short: int = 0
    moved: int = 0
    returned: int = 0
    columns: int = 0
    gap_ppm: int = 0


def run_wave(books: Books, desk: Desk, cell: int, now: datetime, most_columns: int = MOST_COLUMNS) -> Wove:
    """Plan a wave of a cell in one transaction: as many orders as make about `most_columns`, those that wait first.

    What is left in the queue is for the next call; it is empty when nothing was claimed.
    """
    most_lines = max(1, most_columns // max(1, len(desk.atlas.edition.network.nodes)))
    for conflicts in range(MOST_CONFLICTS):
        try:
            with books.transaction() as transaction:
                claimed = _claimed(transaction, cell, now, most_lines)
                if not claimed:
                    return Wove()
                return _Weaving(transaction, desk, cell, now, may_move=conflicts < MOST_CONFLICTS - 1).weave(claimed)
        except Conflict:
            # Somebody took a slot or a receipt while the wave was planned: it is planned again on what is left.
            continue
    raise Conflict(f"a wave of cell {cell} met {MOST_CONFLICTS} conflicts in a row")


def _claimed(transaction: Transaction, cell: int, now: datetime, most_lines: int) -> list[Todo]:
    found: list[Todo] = []
    lines = 0
    while lines < most_lines:
        claimed = transaction.claim(cell, Queue.WAVE, now, min(MOST_CLAIMED, most_lines - lines))
        if not claimed:
            break
        found.extend(claimed)
        lines += sum(len(todo.open) for todo in claimed)
    return found


def items_of(atlas: Atlas, wish: Wish) -> tuple[str, ...]:
    """Items whose stock could serve an order of a wave, or do."""
    held = () if wish.held is None else [part.item for part in wish.held.assignments]
    return tuple(sorted({*items_wanted(atlas, wish.demand.order), *held}))


@dataclass(frozen=True, slots=True)
class _Standing:
    """An order that is planned again: its record, the reservations that are open, and the shipments they are in."""

    record: OrderRecord
    reservations: tuple[Reservation, ...]
    shipments: tuple[ShipmentRecord, ...]

    @property
    def open(self) -> tuple[tuple[int, int], ...]:
        """What is set aside, by line."""
        lines = zip(self.record.order.lines, self.record.lines, strict=True)
        return tuple((line.no, p.reserved + p.pledged) for line, p in lines if p.reserved + p.pledged)

    def held(self, places: Mapping[int, Place]) -> Held:
        """As the engine sees it."""
        parts = [
            part_at(places[r.position], r.line_no, r.shipment_no, r.quantity, r.line_quantity, r.receipt)
            for r in self.reservations
        ]
        return Held(tuple(record.shipment for record in self.shipments), tuple(parts))

    def opened(self) -> OrderRecord:
        """The order with all that was set aside waiting again, as the next attempt finds it."""
        return replace(self.record, lines=tuple(_waiting(line) for line in self.record.lines))


def _waiting(line: Progress) -> Progress:
    return replace(line, reserved=0, pledged=0, backordered=line.backordered + line.reserved + line.pledged)


class _Weaving:
    """One wave on its way from the queue to what is recorded."""

    def __init__(self, transaction: Transaction, desk: Desk, cell: int, now: datetime, may_move: bool) -> None:
        self._transaction, self._desk, self._cell, self._now = transaction, desk, cell, now
        self._may_move = may_move
        self._standing: dict[UUID, _Standing] = {}
        self._rest: dict[UUID, OrderRecord] = {}
        self._members: list[Todo] = []
        self._again: list[Todo] = []

    def weave(self, claimed: Sequence[Todo]) -> Wove:
        """Plan what was claimed, and record what came of it."""
        atlas, now = self._desk.atlas, self._now
        self._take_in(claimed)
        wishes = self._wishes()
        items = {wish.demand.order.id: items_of(atlas, wish) for wish in wishes}
        wanted = sorted({item for own in items.values() for item in own})
        policy, catalog = atlas.policy.policy, atlas.edition.catalog
        classes = NO_CLASSES.union(*[classes_of(catalog, wish.demand.order, policy) for wish in wishes])
        stock = self._transaction.stock(self._desk.cells, wanted, now.date() - timedelta(days=1), classes)
        facts = _given_back(self._transaction, Shelf(stock, atlas).facts(wanted, now, classes=classes), wishes)
        planned = solve_wave(Wave(atlas.edition, wishes, facts), atlas, items)
        kept = [self._members[n].order.id for n in sorted(planned.kept - planned.fixed)]
        self._again += [each for id_ in kept if (each := again_in_wave(atlas, self._standing[id_].record, now))]
        if len(planned.kept) == len(wishes):
            self._transaction.record(Effects(at=now, todo=self._again))
            return Wove(None, len(claimed), columns=planned.columns, gap_ppm=planned.gap_ppm)
        batch = self._checked(wishes, planned, stock)
        wave = self._desk.ids.new(now)
        given = GivenBack(self._transaction, atlas.edition, self._desk.actor, now)
        self._transaction.record(self._effects(batch, given, wave, facts, wishes, planned))
        given.wake()
        short = sum(1 for choice in batch.made if choice.plan.unserved)
        moved = sum(1 for choice in batch.made if choice.todo.order.id in self._standing)
        counts = (len(claimed), len(batch.made), short, moved, len(batch.returned))
        return Wove(wave, *counts, planned.columns, planned.gap_ppm)

    def _take_in(self, claimed: Sequence[Todo]) -> None:
        """Who waits, as the queue says; who was planned before, as its record says, if all of it is still held.

        Of an order that began with a basket only the rest waits.
        """
        before = [todo.order.id for todo in claimed if not todo.is_new]
        records = self._transaction.orders(before) if before else {}
        for todo in claimed:
            if todo.is_new:
                self._members.append(todo)
                continue
            record = records.get(todo.order.id)
            if record is None:
                continue
            standing = self._standing_of(record)
            if record.declined or record.former or record.is_held(Blocks.SOURCING):
                # A wave decides on the same facts for all, and recomputes with orders as they were accepted: who is
                # served without some nodes, was changed, or is held, is left to be decided by himself.
                rest = waiting_of(record)
                self._again += [replace(todo, queue=Queue.ONCE, open=rest, attempt=record.attempt + 1)] if rest else []
                continue
            if standing is None:
                if any(line.open for line in record.lines):
                    self._rest[todo.order.id] = record
                    rest, attempt = waiting_of(record), record.attempt + 1
                    self._members.append(replace(todo, order=record.order, open=rest, attempt=attempt))
                continue
            if self._may_move:
                self._standing[todo.order.id] = standing
                open_, attempt = standing.open, standing.record.attempt + 1
                self._members.append(replace(todo, order=standing.record.order, open=open_, attempt=attempt))
            elif (again := again_in_wave(self._desk.atlas, standing.record, self._now)) is not None:
                self._again.append(again)

    def _standing_of(self, record: OrderRecord) -> _Standing | None:
        """What is held for an order; None where not all of it is, where some of it has ended, or is offered."""
        if record.state is not OrderState.SOURCED:
            return None
        owner = record.order.id
        held = tuple(part for part in self._transaction.reservations(owner) if part.open)
        shipments = self._transaction.shipments(owner)
        numbers = {part.shipment_no for part in held}
        if not held or any(part.open != part.quantity for part in held):
            return None
        if any(each.stage is not Stage.PLANNED for each in shipments if each.shipment.no in numbers):
            return None
        return _Standing(record, held, tuple(each for each in shipments if each.shipment.no in numbers))

    def _wishes(self) -> tuple[Wish, ...]:
        ids = {part.position for standing in self._standing.values() for part in standing.reservations}
        found = self._transaction.positions(ids).values()
        places = {position.id: place_of(position.key, position.expires_on) for position in found}
        wishes = []
        for todo in self._members:
            standing = self._standing.get(todo.order.id)
            held = None if standing is None else standing.held(places)
            wishes.append(Wish(Demand(todo.order, todo.open), terms_of(self._desk.atlas, todo.order), held))
        return tuple(wishes)

    def _checked(self, wishes: Sequence[Wish], planned: Planned, stock: Stock) -> Batch:
        """Lock what the wave takes and gives back, and check it again."""
        choices = [
            Choice(todo, Facts(self._now), plan)
            for place, (todo, plan) in enumerate(zip(self._members, planned.plans, strict=True))
            if place not in planned.kept
        ]
        moved = [choice.todo.order.id for choice in choices if choice.todo.order.id in self._standing]
        self._lock_known(moved, [choice.todo.order.id for choice in choices if choice.todo.order.id in self._rest])
        old = [part for id_ in moved for part in self._standing[id_].reservations]
        parts = [part for choice in choices for part in choice.plan.assignments]
        shelf = Shelf(stock, self._desk.atlas)
        shelf.lock(self._transaction, {part.position for part in parts} | {part.position for part in old})
        receipts = [*(part.receipt for part in parts), *(part.receipt for part in old)]
        shelf.lock_receipts(self._transaction, {receipt for receipt in receipts if receipt is not None})
        if not moved:
            # Where orders move, slots are given back as well as taken: all are locked at the end, in their order. That
            # one is full is found out there, and the wave is planned anew, as it is where other things do not fit.
            shelf.lock_capacity(self._transaction, [choice.plan for choice in choices])
        for place, wish in enumerate(wishes):
            if wish.held is not None and place not in planned.kept:
                shelf.draw(wish.held, -1)
        batch = Batch(self._transaction, self._desk, self._now)
        batch.known = {id_: self._standing[id_].opened() for id_ in moved} | self._rest
        for choice in choices:
            fits = shelf.fits(choice.plan)
            if moved and not fits:
                raise Conflict("somebody took what orders of a wave were to move to")
            # What would be left short is decided under the locks of all that could serve it: not here, but at once.
            if fits and not choice.plan.unserved:
                shelf.draw(choice.plan)
                batch.made.append(choice)
            else:
                batch.returned.append(replace(choice.todo, queue=Queue.ONCE))
        return batch

    def _lock_known(self, moved: Sequence[UUID], rest: Sequence[UUID]) -> None:
        """Lock orders that are to move, and those of which a rest waits; they must be as they were read."""
        locked = self._transaction.orders([*moved, *rest], lock=True) if moved or rest else {}
        for id_ in moved:
            if id_ not in locked or self._standing_of(locked[id_]) != self._standing[id_]:
                raise Conflict(f"order {id_} changed while a wave was planned")
        for id_ in rest:
            if locked.get(id_) != self._rest[id_]:
                raise Conflict(f"order {id_} changed while a wave was planned")

    def _effects(
        self, batch: Batch, given: GivenBack, wave: UUID, facts: Facts, wishes: Sequence[Wish], planned: Planned
    ) -> Effects:
        """What the orders give back, then what they take, and the wave."""
        freed: list[Event] = []
        for id_ in (choice.todo.order.id for choice in batch.made if choice.todo.order.id in self._standing):
            standing = self._standing[id_]
            given.end(standing.reservations, Ending.FREED, id_)
            given.dropped.extend(standing.shipments)
            freed.append(_freed(standing))
        effects = batch.effects()
        # Facts are kept with the wave, once; the decision about an order says which of it was asked for.
        decisions = [replace(decision, wave=wave) for decision in effects.decisions]
        event = Event("wave.planned", str(wave), {"orders": len(batch.made), "moved": len(freed)}, self._cell)
        return replace(
            effects,
            movements=[*given.movements, *effects.movements],
            reservation_ends=given.ends,
            receipt_changes=[*given.receipts, *effects.receipt_changes],
            capacity=[*given.capacity(), *effects.capacity],
            shipments_dropped=given.shipments_gone(),
            decisions=[self._decision(wave, facts, wishes, planned), *decisions],
            todo=[*effects.todo, *self._again],
            events=[event, *freed, *effects.events],
        )

    def _decision(self, wave: UUID, facts: Facts, wishes: Sequence[Wish], planned: Planned) -> Decision:
        """The wave itself, stored once: what it was decided on and for whom, and a digest of all its plans."""
        policy = self._desk.atlas.policy.policy
        members = tuple(
            Member(todo.order.id, todo.attempt, todo.open, wish.held)
            for todo, wish in zip(self._members, wishes, strict=True)
        )
        digests = b"".join(digest(plan) for plan in planned.plans)
        return Decision(
            cell=self._cell,
            owner=wave,
            attempt=1,
            at=self._now,
            edition=self._desk.atlas.edition.hash,
            policy=policy.code,
            policy_version=policy.version,
            release=self._desk.release,
            batch=wave,
            place=0,
            facts=encode_wave(facts, members),
            digest=sha256(digests).digest()[:16],
        )


def _freed(standing: _Standing) -> Event:
    """What a moving order gives back, as the feed tells it."""
    moved: list[Json] = [
        [str(part.position), *(OFF_HAND if part.receipt is None else TO_EXPECTED), part.open]
        for part in standing.reservations
    ]
    order = standing.record.order
    return Event("order.moved", str(order.id), {"order": order.number, "moved": moved}, order.cell)


def _given_back(transaction: Transaction, facts: Facts, wishes: Sequence[Wish]) -> Facts:
    """Facts as they would be without what is held for the orders of a wave."""
    available: dict[int, int] = {}
    pledged: dict[UUID, int] = {}
    booked: dict[tuple[str, date, int], int] = {}
    for held in (wish.held for wish in wishes if wish.held is not None):
        for part in held.assignments:
            if part.receipt is None:
                available[part.position] = available.get(part.position, 0) + part.quantity
            else:
                pledged[part.receipt] = pledged.get(part.receipt, 0) + part.quantity
        for booking in (booking for shipment in held.shipments for booking in shipment.bookings):
            key = (booking.node, booking.day, booking.slot)
            booked[key] = booked.get(key, 0) + booking.quantity
    if not available and not pledged:
        return facts
    stock = tuple(StockFact(place, units + available.get(place.position, 0)) for place, units in facts.stock)
    capacity = tuple(fact._replace(taken=fact.taken - booked.get(fact[:3], 0)) for fact in facts.capacity)
    receipts = facts.receipts
    if pledged:
        places = {fact.place.position: fact.place for fact in facts.stock}
        known = transaction.receipts(pledged)
        open_ = {fact.receipt: fact for fact in receipts} | {
            id_: ReceiptFact(id_, places[receipt.position], receipt.due_on, receipt.open + pledged[id_])
            for id_, receipt in known.items()
        }
        receipts = tuple(sorted(open_.values(), key=lambda fact: (fact.place.item, fact.due_on, fact.receipt)))
    taken = tuple(fact for fact in capacity if fact.taken)
    return replace(facts, shelves=shelves_of(stock), receipts=receipts, capacity=taken)
