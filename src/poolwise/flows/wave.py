"""Waves: orders whose service level waits for one are planned together.

Keeps laws 2, 4, 8, 13. Facts are read without locks and the plan is worked out on them; then the positions it takes are
locked and checked again, and an order that no longer fits goes to the queue of orders decided at once. A wave is stored
once, under its own id: its facts and who was in it. Every order's decision names it, and recomputes with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

from poolwise.core.sourcing.columns import MOST_COLUMNS, Wish
from poolwise.core.sourcing.problem import Demand, Facts
from poolwise.core.sourcing.record import Member, digest, encode_facts, encode_wave
from poolwise.core.sourcing.wave import Planned, Wave, solve_wave
from poolwise.core.values import Conflict, replace
from poolwise.flows.ports import Books, Decision, Event, Queue, Todo, Transaction
from poolwise.flows.source import Batch, Choice, Desk, Shelf, items_wanted, terms_of

MOST_CLAIMED: Final = 500
COLUMNS_A_LINE: Final = 20
"""What is expected of a line when orders are claimed for a wave; what more there is waits for the next one."""

MOST_CONFLICTS: Final = 3


@dataclass(frozen=True, slots=True)
class Wove:
    """What became of a wave: orders planned, of these left short, sent back; its columns, and the gap that is left."""

    wave: UUID | None = None
    planned: int = 0
    short: int = 0
    returned: int = 0
    columns: int = 0
    gap_ppm: int = 0


def run_wave(books: Books, desk: Desk, cell: int, now: datetime, most_columns: int = MOST_COLUMNS) -> Wove:
    """Plan the orders of a cell that wait for a wave, as many as make `most_columns`, in one transaction."""
    for _ in range(MOST_CONFLICTS):
        try:
            with books.transaction() as transaction:
                claimed = _claimed(transaction, cell, now, most_columns // COLUMNS_A_LINE)
                return _plan(transaction, desk, cell, claimed, now) if claimed else Wove()
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


def _plan(transaction: Transaction, desk: Desk, cell: int, claimed: list[Todo], now: datetime) -> Wove:
    atlas = desk.atlas
    items = {todo.order.id: items_wanted(atlas, todo.order) for todo in claimed}
    wanted = sorted({item for own in items.values() for item in own})
    stock = transaction.stock(desk.cells, wanted, now.date() - timedelta(days=1))
    facts = Shelf(stock, atlas).facts(wanted, now)
    wishes = tuple(Wish(Demand(todo.order, todo.open), terms_of(atlas, todo.order)) for todo in claimed)
    planned = solve_wave(Wave(atlas.edition, wishes, facts), atlas, items)
    batch = _checked(transaction, desk, claimed, planned, Shelf(stock, atlas), now)
    wave = desk.ids.new(now)
    members = tuple(Member(todo.order.id, todo.attempt, todo.open) for todo in claimed)
    effects = batch.effects()
    # Facts are kept with the wave, once; the decision about an order says which of it was asked for.
    decisions = [
        replace(decision, wave=wave, facts=encode_facts(Facts(now), choice.todo.open))
        for decision, choice in zip(effects.decisions, batch.made, strict=True)
    ]
    event = Event("wave.planned", str(wave), {"orders": len(batch.made)}, cell)
    whole = _decision(desk, cell, wave, facts, members, planned, now)
    transaction.record(replace(effects, decisions=[whole, *decisions], events=[event, *effects.events]))
    short = sum(1 for choice in batch.made if choice.plan.unserved)
    return Wove(wave, len(batch.made), short, len(batch.returned), planned.columns, planned.gap_ppm)


def _checked(
    transaction: Transaction, desk: Desk, claimed: list[Todo], planned: Planned, shelf: Shelf, now: datetime
) -> Batch:
    """Lock what the wave takes and check it again; what does not fit any more is decided at once, by itself."""
    parts = [part for plan in planned.plans for part in plan.assignments]
    shelf.lock(transaction, {part.position for part in parts if part.receipt is None})
    shelf.lock_receipts(transaction, {part.receipt for part in parts if part.receipt is not None})
    shelf.lock_capacity(transaction, planned.plans)
    batch = Batch(transaction, desk, now)
    for todo, problem, plan in zip(claimed, planned.problems, planned.plans, strict=True):
        # What would be left short is decided under the locks of all that could serve it: not here, but at once.
        if not plan.unserved and shelf.fits(plan):
            shelf.draw(plan)
            batch.made.append(Choice(todo, problem.facts, plan))
        else:
            batch.returned.append(replace(todo, queue=Queue.ONCE))
    return batch


def _decision(
    desk: Desk, cell: int, wave: UUID, facts: Facts, members: tuple[Member, ...], planned: Planned, now: datetime
) -> Decision:
    """The wave itself, stored once: what it was decided on and for whom, and a digest of all its plans."""
    policy = desk.atlas.policy.policy
    digests = b"".join(digest(plan) for plan in planned.plans)
    return Decision(
        cell=cell,
        owner=wave,
        attempt=1,
        at=now,
        edition=desk.atlas.edition.hash,
        policy=policy.code,
        policy_version=policy.version,
        release=desk.release,
        batch=wave,
        place=0,
        facts=encode_wave(facts, members),
        digest=sha256(digests).digest()[:16],
    )
