"""What all flows about physical stock share: positions under lock, what is booked on them, and what follows from it.

Keeps laws 2, 4 and 9: locks are taken in their global order before anything is decided; broken demand, woken demand,
movements, events and the audit row are recorded with the statements in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from poolwise.core.counting import IN_DEBT, Break, Tally, debt_id
from poolwise.core.edition.build import Edition
from poolwise.core.ledger import EMPTY, Account, Cause, Movement, Position, PositionKey, Receipt, Reservation
from poolwise.core.values import Conflict, Fault, Json, KeyTaken, Quantity, replace
from poolwise.flows.breaking import Mended, mend
from poolwise.flows.identity import Ids
from poolwise.flows.ports import (
    ROOM,
    Answer,
    Audit,
    Books,
    Contact,
    CountMark,
    CountTask,
    Effects,
    Event,
    Incident,
    Milestone,
    Offered,
    OrderRecord,
    PickOutcome,
    Queue,
    ReceiptChange,
    ReservationEnd,
    ReturnRecord,
    StageChange,
    Timer,
    Todo,
    Transaction,
)
from poolwise.flows.waking import wake

MOST_STATEMENTS: Final = 5_000
MOST_TRIES: Final = 20
MOST_MOVED_IN_AN_EVENT: Final = 500
CLOCK_SKEW: Final = timedelta(hours=1)
"""How far ahead of our clock a sender's may be."""

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""No message tells of anything before."""

_Done = TypeVar("_Done")
_Result = TypeVar("_Result")


class Clerk:
    """Who books stock, under which edition, with which generator of ids."""

    def __init__(self, edition: Edition, ids: Ids, actor: str) -> None:
        """`actor` is the sender: cross-references of that partner are understood."""
        self.edition = edition
        self.ids = ids
        self.actor = actor

    def item(self, text: str) -> str | None:
        """Our code for an item, by itself or by a cross-reference; None when nobody knows it."""
        catalog = self.edition.catalog
        if text in catalog.items:
            return text
        for scheme, partner in catalog.schemes:
            if partner in ("", self.actor) and (scheme, partner, text) in catalog.cross_references:
                return catalog.cross_references[scheme, partner, text]
        return None

    def cell_of(self, node: str) -> int:
        """The cell in which a node's stock is kept."""
        return self.edition.network.nodes[node].cell


@dataclass(slots=True)
class Wanted:
    """Orders that must be locked before anything else. Known only after a first look, which then is repeated."""

    orders: set[UUID] = field(default_factory=set)


class LookAgain(Exception):
    """The batch turned out to concern orders that are not locked yet. Never leaves the flow."""

    def __init__(self, orders: Iterable[UUID]) -> None:
        """`orders` are those to be locked first."""
        super().__init__("orders are to be locked first")
        self.orders = frozenset(orders)


def untimely(field_: str, at: datetime, now: datetime) -> list[Fault]:
    """What is wrong with the instant at which something is said to have happened."""
    if at > now + CLOCK_SKEW:
        return [Fault(field_, "is in the future")]
    return [Fault(field_, f"is before the year {EARLIEST.year}")] if at < EARLIEST else []


def in_transaction(books: Books, now: datetime, work: Callable[[Transaction, Wanted, datetime], _Done]) -> _Done:
    """Do `work` in a transaction, again while somebody else was first or more has to be locked.

    Each repetition is a microsecond later, so that its queue rows have keys of their own.
    """
    wanted = Wanted()
    for tried in range(MOST_TRIES):
        try:
            with books.transaction() as transaction:
                return work(transaction, wanted, now + timedelta(microseconds=tried))
        except LookAgain as again:
            wanted.orders |= again.orders
        except KeyTaken:
            raise
        except Conflict:
            continue
    raise Conflict(f"stock could not be booked in {MOST_TRIES} tries: others were always first")


@dataclass(slots=True)
class Also:
    """What a flow adds to the books besides movements and what follows from them."""

    receipts: list[Receipt] = field(default_factory=list)
    receipt_changes: list[ReceiptChange] = field(default_factory=list)
    reservations: list[Reservation] = field(default_factory=list)
    ends: list[ReservationEnd] = field(default_factory=list)
    orders: dict[UUID, OrderRecord] = field(default_factory=dict)
    breaks: list[Break] = field(default_factory=list)
    offers: list[Offered] = field(default_factory=list)
    stages: list[StageChange] = field(default_factory=list)
    milestones: list[Milestone] = field(default_factory=list)
    count_tasks: list[CountTask] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    pick_outcomes: list[PickOutcome] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    amended: list[OrderRecord] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)
    held: list[OrderRecord] = field(default_factory=list)
    returns: list[ReturnRecord] = field(default_factory=list)
    given_up: dict[UUID, dict[int, Quantity]] = field(default_factory=dict)
    taken: list[tuple[int, UUID, Queue]] = field(default_factory=list)
    todo: list[Todo] = field(default_factory=list)
    timers: list[Timer] = field(default_factory=list)
    """Each in place of one of its kind."""


class Room:
    """The positions of a batch under lock, and everything that is booked on them."""

    def __init__(
        self,
        transaction: Transaction,
        clerk: Clerk,
        wanted: Wanted,
        keys: Mapping[PositionKey, date | None],
        now: datetime,
    ) -> None:
        """Lock the orders wanted, then the positions of `keys` (with the day their lot expires) and their debts.

        A position that does not exist yet comes to be first, empty: whoever leaves demand for its item short at
        the same time waits for us, or we for him.
        """
        self.transaction, self.clerk, self.now = transaction, clerk, now
        self.batch = clerk.ids.new(now)
        self.orders = transaction.orders(sorted(wanted.orders), lock=True) if wanted.orders else {}
        self.also = Also()
        self._wanted = wanted
        self._ids = {key: key.id() for key in keys}
        there = transaction.positions(self._ids.values())
        new = [
            Position(id_, clerk.cell_of(key.node), key, expires_on=keys[key])
            for key, id_ in self._ids.items()
            if id_ not in there
        ]
        if new:
            transaction.record(Effects(at=now, positions=new))
        self._before = transaction.positions(self._ids.values(), lock=True)
        made = {position.id for position in new}
        self._debts = self._locked_debts([key for key, id_ in self._ids.items() if id_ not in made])
        self._movements: list[Movement] = []
        self._tallies: dict[PositionKey, Tally] = {}

    def _locked_debts(self, keys: Iterable[PositionKey]) -> dict[PositionKey, dict[Account, Position]]:
        """Debts of positions, locked; they have their owner's lock already, so nobody else makes one meanwhile."""
        owed = {debt_id(key, account): (key, account) for key in keys for account in IN_DEBT}
        there = self.transaction.positions(owed, lock=True) if owed else {}
        found: dict[PositionKey, dict[Account, Position]] = {}
        for id_, position in there.items():
            key, account = owed[id_]
            found.setdefault(key, {})[account] = position
        return found

    def tally(self, key: PositionKey) -> Tally:
        """The tally of a position of this batch."""
        found = self._tallies.get(key)
        if found is None:
            position = self._before[self._ids[key]]
            reservations = self.reservations_at(position)
            found = self._tallies[key] = Tally(position, self._debts.get(key, {}), reservations, self._movements)
        return found

    def reservations_at(self, position: Position) -> tuple[Reservation, ...]:
        """Open reservations of a position's stock and of its receipts, newest first."""
        if position.balance(Account.RESERVED) or position.balance(Account.PLEDGED):
            return self.transaction.reservations_at(position.id)
        return ()

    def require(self, owners: Iterable[UUID]) -> None:
        """Raise LookAgain unless the orders among these owners are locked."""
        unlocked = set(owners) - self._wanted.orders
        if unlocked:
            raise LookAgain(unlocked)

    def as_of(
        self, asked: Mapping[PositionKey, datetime]
    ) -> dict[PositionKey, tuple[Position, dict[Account, Position]]]:
        """Positions and their debts as they were at an instant each."""
        instants = {
            position.id: at
            for key, at in asked.items()
            for position in (self._before[self._ids[key]], *self._debts.get(key, {}).values())
            if position.version
        }
        then = self._before | (self.transaction.positions_as_of(instants) if instants else {})
        return {
            key: (
                then[self._ids[key]],
                {account: then[debt.id] for account, debt in self._debts.get(key, {}).items()},
            )
            for key in asked
        }

    def answer(self, results: Sequence[_Result], answer: Callable[[Sequence[_Result]], Answer] | None) -> None:
        """Keep what is answered, in the same commit: also where nothing is booked."""
        if answer is not None:
            self.transaction.record(Effects(at=self.now, answers=[answer(results)]))

    def record(
        self,
        action: str,
        detail: Mapping[str, Json],
        counts: Sequence[CountMark] = (),
        messages_seen: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Record what was booked, with everything that follows from it. Raises LookAgain when orders broke that are
        not locked."""
        also, mended = self.also, self._mended()
        movements = [*self._movements, *mended.movements]
        self.transaction.record(
            Effects(
                at=self.now,
                positions=self._new_debts(),
                movements=movements,
                reservations=also.reservations,
                reservation_ends=[*also.ends, *mended.ends],
                receipts=also.receipts,
                receipt_changes=[*also.receipt_changes, *mended.receipts],
                capacity=mended.capacity,
                shipments=mended.shipments,
                shipments_dropped=mended.shipments_dropped,
                offers=also.offers,
                stages=[*mended.stages, *also.stages],
                milestones=also.milestones,
                count_tasks=also.count_tasks,
                amended=also.amended,
                pick_outcomes=also.pick_outcomes,
                returns=also.returns,
                orders_changed=list((also.orders | {record.order.id: record for record in mended.orders}).values()),
                taken=also.taken,
                todo=[*mended.todo, *also.todo],
                timers=also.timers,
                timers_dropped=[(timer.cell, timer.subject, timer.kind) for timer in also.timers],
                contacts=also.contacts,
                held=also.held,
                counts=counts,
                messages_seen=messages_seen,
                incidents=[*also.incidents, *mended.incidents],
                events=[*self._events(movements), *also.events, *mended.events],
                audit=[Audit(self.clerk.actor, action, str(self.batch), detail)],
            )
        )
        room = (ROOM,) if mended.capacity else ()
        wake(self.transaction, self.clerk.edition.catalog, {*self._risen(movements), *room}, self.now)

    def _mended(self) -> Mended:
        """What follows from what broke; the orders concerned are locked, else the batch is looked at again."""
        breaks = [*self.also.breaks, *(each for tally in self._tallies.values() for each in tally.breaks)]
        self.require(each.reservation.owner for each in breaks)
        ended: dict[tuple[UUID, int], int] = {}
        for end in self.also.ends:
            ended[end.owner, end.no] = ended.get((end.owner, end.no), 0) + end.quantity
        orders = {**self.orders, **self.also.orders}
        clerk = self.clerk
        return mend(
            self.transaction, orders, breaks, ended, clerk.cell_of, self.batch, clerk.ids, self.now, self.also.given_up
        )

    def _new_debts(self) -> list[Position]:
        """Positions of debts that are owed for the first time; they come to be empty."""
        return [
            replace(debt, balances=EMPTY, version=0)
            for key, tally in self._tallies.items()
            for account, debt in tally.debts.items()
            if account not in self._debts.get(key, {})
        ]

    def _risen(self, movements: Sequence[Movement]) -> set[str]:
        """Items of which some position has more available, or expects more, than before."""
        risen = {
            tally.position.key.item
            for tally in self._tallies.values()
            for account in (Account.AVAILABLE, Account.EXPECTED)
            if tally.position.balance(account) > self._balance_before(tally.position.id, account)
        }
        freed = {m.position for m in movements if m.cause is Cause.FREE}
        return risen | {place.key.item for place in self.transaction.positions(freed).values()}

    def _balance_before(self, position: int, account: Account) -> int:
        before = self._before.get(position)
        return before.balance(account) if before else 0

    def _events(self, movements: Sequence[Movement]) -> list[Event]:
        """All movements, by cell, a few hundred to an event; and each position that sold out or has stock again."""
        cells = {tally.position.id: tally.position.cell for tally in self._tallies.values()}
        cells |= {debt.id: debt.cell for tally in self._tallies.values() for debt in tally.debts.values()}
        return moved_events(self.batch, movements, cells) + [
            event for tally in self._tallies.values() if (event := self._crossing(tally.position))
        ]

    def _crossing(self, position: Position) -> Event | None:
        before = self._balance_before(position.id, Account.AVAILABLE)
        after = position.balance(Account.AVAILABLE)
        if (before > 0) == (after > 0):
            return None
        key = position.key
        told: dict[str, Json] = {
            "item": key.item,
            "node": key.node,
            "pool": key.pool,
            "lot": key.lot,
            "available": after,
        }
        return Event("stock.available" if after else "stock.exhausted", str(position.id), told, position.cell)


def moved_events(batch: UUID, movements: Sequence[Movement], cells: Mapping[int, int]) -> list[Event]:
    """Movements as the feed tells them, by cell, a few hundred to an event. `cells` gives the cell of a position."""
    by_cell: dict[int, list[Json]] = {}
    for m in movements:
        told: list[Json] = [str(m.position), m.source.value, m.target.value, m.quantity]
        told += [] if m.to_position is None else [str(m.to_position)]
        by_cell.setdefault(cells.get(m.position, 0), []).append(told)
    return [
        Event("stock.moved", str(batch), {"moved": told[first : first + MOST_MOVED_IN_AN_EVENT]}, cell)
        for cell, told in sorted(by_cell.items())
        for first in range(0, len(told), MOST_MOVED_IN_AN_EVENT)
    ]
