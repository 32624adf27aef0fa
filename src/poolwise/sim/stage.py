"""One kind of books on which a simulation plays, watched: what is asked goes through the very flows.

The watch sees what no result shows: in which order locks are taken (DESIGN section 3), and that no instant and no id
is of another time than the simulated one (law 18). It keeps which rows were touched, and a digest of all that was
recorded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Final, TypeAlias, cast
from uuid import UUID

import msgspec

from poolwise.core.counting import OWN_LOT
from poolwise.core.fulfilment import Stage as ShipmentStage
from poolwise.core.ledger import Position
from poolwise.core.messages import (
    OrderAmendment,
    OrderCancellation,
    OrderDivision,
    OrderJoin,
    OrderMessage,
    ReceiptNotice,
    ReservationRequest,
    ReturnInspection,
    ReturnNotice,
    ReturnReceipt,
    ShipmentReport,
    StockCount,
    StockMovement,
)
from poolwise.core.orders import Hold
from poolwise.core.returns import ReturnState
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.values import Refused
from poolwise.flows import change, regroup
from poolwise.flows.execute import book_report
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Counter, Rejected, accept
from poolwise.flows.offers import OfferOf, claim, decline
from poolwise.flows.ports import Answer, Books, Effects, Queue, SlotKey, Transaction
from poolwise.flows.receipts import book_receipts
from poolwise.flows.reserve import Reserved, free, reserve
from poolwise.flows.returns import announce, book_inspection, book_receipt, end
from poolwise.flows.source import Desk, source_batch
from poolwise.flows.stock import book_counts, book_movements
from poolwise.flows.tallying import Clerk
from poolwise.flows.timers import run_timers
from poolwise.flows.tracking import Wish, do_wish
from poolwise.flows.wave import run_wave

CELL: Final = 0
SENDER: Final = "shop"
RELEASE: Final = "simulated"
HORIZON: Final = timedelta(days=400)
"""How far ahead of the simulated time a day or an instant may lie."""

INSTANT: Final = re.compile(rb'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)')
ID_OF_VERSION_7: Final = re.compile(rb'"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-')


SIGN: Final = 1 << 63
"""Added to the number of a position it is not negative."""


class Wrong(Exception):
    """What a simulation has found."""


class Crashed(BaseException):
    """The process dies at a failpoint. No flow catches it."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A basket is asked for, with the key of the request."""

    request: ReservationRequest
    key: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """A basket is given back."""

    basket: UUID


@dataclass(frozen=True, slots=True)
class Work:
    """A worker takes what waits in a queue."""

    queue: Queue
    limit: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """Timers that are due go off."""

    limit: int = 100


@dataclass(frozen=True, slots=True)
class EndReturn:
    """Nothing more is expected of a return."""

    number: str
    ending: ReturnState


@dataclass(frozen=True, slots=True)
class Reply:
    """A node claims what was offered to it, or declines it."""

    offer: OfferOf
    claims: bool


Mail: TypeAlias = (
    OrderMessage
    | StockCount
    | StockMovement
    | ReceiptNotice
    | ShipmentReport
    | ReturnNotice
    | ReturnReceipt
    | ReturnInspection
)


@dataclass(frozen=True, slots=True)
class Sack:
    """Messages of one kind that come together, in order."""

    mail: tuple[Mail, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A customer, or who takes care of him, wants something else of an order; with the key of the request."""

    wanted: OrderCancellation | OrderAmendment | OrderDivision | OrderJoin | Held | Lifted | Wished
    key: str


@dataclass(frozen=True, slots=True)
class Held:
    """An order is held."""

    order: str
    hold: Hold


@dataclass(frozen=True, slots=True)
class Lifted:
    """A hold is lifted."""

    order: str
    code: str


@dataclass(frozen=True, slots=True)
class Wished:
    """Whoever has the link to an order wants something else of it, as far as the policy lets customers."""

    order: str
    wish: Wish


Asked: TypeAlias = Sack | SetAside | GiveBack | EndReturn | Change | Work | Sweep | Reply


@dataclass(slots=True)
class Seen:
    """What the watch has seen since it was last asked, and of everything the digest."""

    now: datetime
    positions: set[int] = field(default_factory=set)
    owners: set[UUID] = field(default_factory=set)
    receipts: set[UUID] = field(default_factory=set)
    slots: set[tuple[str, date, int]] = field(default_factory=set)
    released: set[tuple[UUID, int]] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    journal: bytes = b""

    def forget(self) -> None:
        """Begin a new step."""
        for found in (self.positions, self.owners, self.receipts, self.slots, self.released):
            found.clear()

    def note(self, effects: Effects) -> None:
        """Something is recorded."""
        written = msgspec.json.encode(effects, enc_hook=list)
        self.journal = sha256(self.journal + written).digest()
        self._check_times(written)
        for movement in effects.movements:
            self.positions |= {movement.position, movement.to_position or movement.position}
        self.positions |= {position.id for position in effects.positions}
        for part in effects.reservations:
            self.owners.add(part.owner)
            self.positions.add(part.position)
        for things in (effects.reservation_ends, effects.shipments, effects.decisions, effects.offers):
            self.owners |= {thing.owner for thing in things}
        self.owners |= {owner for _, owner, _ in effects.shipments_dropped}
        records = (*effects.orders, *effects.orders_changed, *effects.held)
        self.owners |= {record.order.id for record in records}
        self.receipts |= {receipt.id for receipt in effects.receipts}
        self.receipts |= {change.receipt for change in effects.receipt_changes}
        self.owners |= {change.owner for change in effects.stages}
        self.owners |= {record.order for record in effects.returns}
        self.released |= {
            (change.owner, change.no) for change in effects.stages if change.after is ShipmentStage.RELEASED
        }
        self.slots |= {(change.node, change.day, change.slot) for change in effects.capacity}

    def _check_times(self, written: bytes) -> None:
        said = sorted(set(INSTANT.findall(written)))
        instants = [datetime.fromisoformat(text.decode()).replace(tzinfo=UTC) for text in said]
        for high, low in sorted(set(ID_OF_VERSION_7.findall(written))):
            instants.append(datetime.fromtimestamp(int(high + low, 16) / 1000, UTC))
        for at in instants:
            if abs(at - self.now) > HORIZON:
                self.wrong.append(f"law 18: {at:%Y-%m-%d %H:%M} is recorded at {self.now:%Y-%m-%d %H:%M}")
                return


class _WatchedTransaction:
    """A transaction whose locks come in their one order: orders, positions, receipts, slots, then who waits.

    Inside a class they come by key; only what a position owes is locked after it.
    """

    def __init__(self, transaction: Transaction, seen: Seen) -> None:
        self._transaction, self._seen = transaction, seen
        self._rank, self._held = 0, dict[int, list[str]]()

    def __getattr__(self, name: str) -> object:
        return getattr(self._transaction, name)

    def _lock(self, rank: int, what: str, keys: Iterable[str]) -> None:
        held = self._held.setdefault(rank, [])
        new = [key for key in keys if key not in held]
        if new and rank < self._rank:
            self._seen.wrong.append(f"locks: {what} are locked after what comes behind them")
        if held and any(key < held[-1] for key in sorted(new)):
            self._seen.wrong.append(f"locks: {what} are not locked by key")
        self._rank = max(self._rank, rank)
        held.extend(new)

    def orders(self, ids: Iterable[UUID], lock: bool = False) -> object:
        """See ports."""
        asked = list(ids)
        if lock:
            self._lock(0, "orders", [str(id_) for id_ in asked])
        return self._transaction.orders(asked, lock)

    def positions(self, ids: Iterable[int], lock: bool = False) -> dict[int, Position]:
        """See ports."""
        found = self._transaction.positions(ids, lock)
        if lock:
            own = [id_ for id_, each in found.items() if not each.key.lot.startswith(OWN_LOT)]
            self._lock(1, "positions", [f"{id_ + SIGN:020}" for id_ in own])
        return found

    def receipts(self, ids: Iterable[UUID], lock: bool = False) -> object:
        """See ports."""
        asked = list(ids)
        if lock:
            self._lock(2, "receipts", [str(id_) for id_ in asked])
        return self._transaction.receipts(asked, lock)

    def capacity(self, slots: Iterable[SlotKey]) -> object:
        """See ports."""
        asked = list(slots)
        self._lock(3, "slots", [f"{cell:05}/{node}/{day}/{slot:03}" for cell, node, day, slot in asked])
        return self._transaction.capacity(asked)

    def record(self, effects: Effects) -> None:
        """See ports."""
        self._transaction.record(effects)
        self._seen.note(effects)


class Watched:
    """Books whose transactions are watched."""

    def __init__(self, books: Books, seen: Seen) -> None:
        """What is seen is told to `seen`."""
        self._books, self._seen = books, seen

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See ports."""
        with self._books.transaction() as transaction:
            yield cast(Transaction, _WatchedTransaction(transaction, self._seen))


class Failpoint:
    """Where the next crash is; it happens once."""

    def __init__(self) -> None:
        """Nowhere yet."""
        self.at = ""

    def __call__(self, step: str) -> None:
        """A step is done."""
        if step == self.at:
            self.at = ""
            raise Crashed(step)


class Stage:
    """Books with everybody who works on them."""

    def __init__(self, name: str, make: Callable[[Failpoint], Books], atlas: Atlas, now: datetime) -> None:
        """`make` makes the books, which crash at the failpoint they are given."""
        self.name, self._failpoint = name, Failpoint()
        self.plain = make(self._failpoint)
        self.seen = Seen(now)
        self.books: Books = Watched(self.plain, self.seen)
        self._random = Random()
        self._ids = Ids(self._random.getrandbits)
        self.under(atlas)

    def under(self, atlas: Atlas) -> None:
        """Another edition or policy is in force."""
        self.desk = Desk(atlas, RELEASE, (CELL,), self._ids)
        self._counter = Counter(atlas.edition, atlas.policy.policy, self._ids, SENDER)
        self._clerk = Clerk(atlas.edition, self._ids, "wms")

    def perform(self, asked: Asked, now: datetime, chance: int, crash_at: str = "") -> tuple[object, bool]:
        """Do what is asked, and whether it was done again after a crash: who gets no answer asks again."""
        self._random.seed(chance)
        self.seen.now = now
        self.seen.forget()
        self._failpoint.at = crash_at
        try:
            return self._done(asked, now), False
        except Crashed:
            return self._done(asked, now), True
        finally:
            self._failpoint.at = ""

    def _done(self, asked: Asked, now: datetime) -> object:
        match asked:
            case Sack():
                return self._read(asked.mail, now)
            case SetAside():
                return self._set_aside(asked, now)
            case GiveBack():
                try:
                    return free(self.books, self.desk, asked.basket, now)
                except Refused as refused:
                    return refused.code
            case Change():
                return self._change(asked, now)
            case EndReturn():
                return end(self.books, self._counter, asked.number, asked.ending, now)
            case Work(Queue.WAVE):
                return run_wave(self.books, self.desk, CELL, now)
            case Work():
                return source_batch(self.books, self.desk, CELL, now, asked.limit, asked.queue)
            case Sweep():
                return run_timers(self.books, self.desk, CELL, now, asked.limit)
            case Reply():
                return (claim if asked.claims else decline)(self.books, self.desk, asked.offer, now)

    def _read(self, mail: Sequence[Mail], now: datetime) -> list[object]:
        """What comes together is booked together, where there is a flow for that."""
        books, clerk = self.books, self._clerk
        match mail[0]:
            case OrderMessage():
                orders = [each for each in mail if isinstance(each, OrderMessage)]
                return list(accept(books, self._counter, orders, now))
            case StockCount():
                return list(book_counts(books, clerk, [each for each in mail if isinstance(each, StockCount)], now))
            case StockMovement():
                moved = [each for each in mail if isinstance(each, StockMovement)]
                return list(book_movements(books, clerk, moved, now))
            case ReceiptNotice():
                told = [each for each in mail if isinstance(each, ReceiptNotice)]
                return list(book_receipts(books, clerk, told, now))
            case ShipmentReport():
                return [book_report(books, clerk, each, now) for each in mail if isinstance(each, ShipmentReport)]
            case ReturnNotice():
                return [announce(books, self._counter, each, now) for each in mail if isinstance(each, ReturnNotice)]
            case ReturnReceipt():
                came = [each for each in mail if isinstance(each, ReturnReceipt)]
                return [book_receipt(books, self._counter, each, now) for each in came]
            case ReturnInspection():
                seen = [each for each in mail if isinstance(each, ReturnInspection)]
                return [book_inspection(books, self._counter, each, now) for each in seen]

    def _set_aside(self, asked: SetAside, now: datetime) -> str:
        """As the API does it: an answer that is on record is given again."""
        with self.books.transaction() as transaction:
            known = transaction.answer(SENDER, asked.key)
        if known is not None:
            return known.reference

        def answer(outcome: Reserved | Rejected) -> Answer:
            return Answer(SENDER, asked.key, b"", 201, _reference(outcome))

        return _reference(reserve(self.books, self.desk, self._counter, asked.request, now, answer))

    def _change(self, asked: Change, now: datetime) -> str:
        """As the API does it, too."""
        with self.books.transaction() as transaction:
            known = transaction.answer(SENDER, asked.key)
        if known is not None:
            return known.reference

        def kept(outcome: change.Outcome) -> Answer:
            return Answer(SENDER, asked.key, b"", 200, _result(outcome))

        books, counter, wanted = self.books, self._counter, asked.wanted
        match wanted:
            case OrderCancellation():
                return _result(change.cancel(books, counter, wanted, now, kept))
            case OrderAmendment():
                return _result(change.amend(books, counter, wanted, now, kept))
            case OrderDivision():
                return _result(regroup.divide(books, counter, wanted, now, kept))
            case OrderJoin():
                return _result(regroup.join(books, counter, wanted, now, kept))
            case Held():
                return _result(change.hold(books, counter, wanted.order, wanted.hold, "", now, kept))
            case Lifted():
                return _result(change.lift(books, counter, wanted.order, wanted.code, "", now, kept))
            case Wished():
                try:
                    return _result(do_wish(books, counter, wanted.order, wanted.wish, now, now.date(), kept))
                except Refused as refused:
                    return refused.code


def _result(outcome: change.Outcome) -> str:
    if isinstance(outcome, Rejected):
        return f"{outcome.code}: {'; '.join(f'{fault.field} {fault.reason}' for fault in outcome.problems)}"
    return f"{outcome.order} cancelled {list(outcome.cancelled)}, added {list(outcome.added)}"


def _reference(outcome: Reserved | Rejected) -> str:
    return str(outcome.reservation) if isinstance(outcome, Reserved) else outcome.code
