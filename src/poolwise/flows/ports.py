"""The only interfaces of the flows: `Books`, the write side, and `Views`, the read side.

A flow loads by key, decides with core, and hands ONE `Effects` value to `record`, all inside one transaction
(law 4). PostgreSQL (`store.books`) and memory (`store.memory`) implement the same contract and pass the same suite.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID

from msgspec import Struct

from poolwise.core.edition.chunks import Part
from poolwise.core.fulfilment import Stage
from poolwise.core.ledger import Movement, Position, PositionKey, Receipt, Reservation
from poolwise.core.orders import Blocks, Hold, Order, OrderState, Progress
from poolwise.core.returns import Return
from poolwise.core.sourcing.plan import PlannedShipment
from poolwise.core.sourcing.problem import NO_CLASSES, CapacityFact, ItemStock, PickFact, Place, ReceiptFact
from poolwise.core.values import Json, Quantity


class OrderRecord(Struct, frozen=True, gc=False):
    """An order with where it stands. `attempt` counts the decisions made for it.

    It is sourced without the nodes that have `declined` it, or did not find what they should have. `former` is what it
    was before each change, oldest first, with the last attempt that was made about it. `returns` are in the order of
    their ids.
    """

    order: Order
    state: OrderState
    lines: tuple[Progress, ...]
    attempt: int = 0
    declined: tuple[str, ...] = ()
    holds: tuple[Hold, ...] = ()
    former: tuple[tuple[int, Order], ...] = ()
    returns: tuple[Return, ...] = ()

    def is_held(self, what: Blocks) -> bool:
        """Whether some hold blocks this."""
        return any(what in hold.blocks for hold in self.holds)

    def order_at(self, attempt: int) -> Order:
        """The order that a decision was made about."""
        return next((order for last, order in self.former if attempt <= last), self.order)

    @property
    def first(self) -> Order:
        """The order as it was accepted. A wave knows no other: what was changed is decided by itself."""
        return self.former[0][1] if self.former else self.order


RANKS_OF_A_SOURCE: Final = 1_000
"""Demand of the first source (HTTP) has ranks around 0, that of the next (files) around this."""


RETURN: Final = "\x1e"
"""How a return's number begins where its order is found by it; no order has such a number."""


class Queue(StrEnum):
    """What a waiting demand waits for."""

    ONCE = "at_once"
    WAVE = "next_wave"
    STOCK = "stock"


Age = tuple[datetime, UUID]
"""Since when an order waits, and its id: its place in the line of all that wait for the same."""


ROOM: Final = ""
"""What demand waits for that waits for capacity; no item has this name."""
UNDER: Final = " ="
DAY: Final = " @"
"""How the names of lines begin that demand waits in for other rules, or for a day; no item has such a name."""


def line_of_day(at: datetime) -> str:
    """The line of those who wait for a day that begins at an instant: of two such lines the earlier is less."""
    return f"{DAY}{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"


class Todo(Struct, frozen=True, gc=False):
    """Demand to be sourced, with everything the worker needs to do it (ADR 0008).

    Claimed by (queue, rank, since, order): HTTP orders before files, urgent before others, oldest first.
    `returns` counts how often the order came back because somebody took its stock first. One that was left short though
    there was stock, at a node of which a day may be full, waits `for_room` too. Demand that waits for stock was left
    short under some `rules`, and looks again under others; at `again_at` a day begins that may bring what it lacks.
    It is served `without` some nodes. An order that was `changed` before anybody decided it is known otherwise.
    """

    cell: int
    queue: Queue
    rank: int
    since: datetime
    order: Order
    open: tuple[tuple[int, Quantity], ...]
    attempt: int = 1
    returns: int = 0
    for_room: bool = False
    rules: str = ""
    again_at: datetime | None = None
    without: tuple[str, ...] = ()
    changed: bool = False

    @property
    def is_new(self) -> bool:
        """Whether it says all there is to say of its order; of any other the order's record says it, under its lock."""
        return self.attempt == 1 and not self.changed

    @property
    def items(self) -> tuple[str, ...]:
        """What it waits for: the items of the lines that are open, each once, in line order, and room."""
        open_lines = {no for no, _ in self.open}
        items = dict.fromkeys([line.item for line in self.order.lines if line.no in open_lines])
        return (*items, ROOM) if self.for_room else tuple(items)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines it stands in while it waits for stock: of what it waits for, of its rules, and of a day."""
        days = () if self.again_at is None else (line_of_day(self.again_at),)
        return (*self.items, UNDER + self.rules, *days)

    @property
    def age(self) -> Age:
        """Its place in line; the older is less."""
        return self.since, self.order.id

    @property
    def prompt(self) -> bool:
        """Whether somebody waits for it: it came by itself, and not in a file."""
        return self.rank < RANKS_OF_A_SOURCE // 2

    @property
    def alone(self) -> bool:
        """Large orders are claimed alone, so that they hold up no batch."""
        return len(self.order.lines) > 8


class TimerKind(StrEnum):
    """What happens when a timer is due."""

    EXPIRE = "expire_reservation"
    RELEASE = "release_shipments"


@dataclass(frozen=True, slots=True)
class Timer:
    """Something that happens at an instant, to a basket or an order."""

    cell: int
    kind: TimerKind
    subject: UUID
    due_at: datetime


class Decision(Struct, frozen=True, gc=False):
    """What is stored of a decision so that it recomputes (law 8): names of what is immutable, and volatile facts.

    `facts` and `digest` are made by core.sourcing.record. `owner` is the order, the reservation or the wave.
    """

    cell: int
    owner: UUID
    attempt: int
    at: datetime
    edition: str
    policy: str
    policy_version: int
    release: str
    batch: UUID
    place: int
    facts: bytes
    digest: bytes
    wave: UUID | None = None


EVENT_TYPES: Final = (
    "offer.claimed", "offer.declined", "offer.expired", "offer.made", "offer.withdrawn",
    "order.accepted", "order.cancelled", "order.changed", "order.divided", "order.held", "order.hold_lifted",
    "order.joined", "order.moved", "order.sourced",
    "purchase_order.placed",
    "receipt.changed",
    "reservation.broken", "reservation.expired", "reservation.freed", "reservation.made",
    "return.announced", "return.ended", "return.inspected", "return.received",
    "shipment.accepted", "shipment.arrived", "shipment.changed", "shipment.declined", "shipment.delivered",
    "shipment.failed", "shipment.picked", "shipment.ready", "shipment.released", "shipment.shipped", "shipment.short",
    "stock.available", "stock.exhausted", "stock.moved", "stock.opened",
    "wave.planned",
)  # fmt: skip
"""All that happens: the types of events on the feed."""


class Event(Struct, frozen=True, gc=False):
    """Something that happened, for the feed. `data` names ids and quantities only, never a person (law 17).

    `cell` is its subject's: the feed is numbered per cell, so the events of one order or position keep their order.
    """

    type: str
    subject: str
    data: Mapping[str, Json]
    cell: int = 0


@dataclass(frozen=True, slots=True)
class Audit:
    """Who did what to what; `actor` is a token's party or a process."""

    actor: str
    action: str
    subject: str
    detail: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Incident:
    """A business exception: its kind, what caused it, and the order it concerns, if one."""

    id: UUID
    cell: int
    kind: str
    cause: str
    order: UUID | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer on record for a message (law 5): a hash of its body and a reference to what it made."""

    sender: str
    key: str
    body_hash: bytes
    status: int
    reference: str


class Ending(StrEnum):
    """How units of a reservation end."""

    CONSUMED = "consumed"
    FREED = "freed"
    EXPIRED = "expired"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class ReservationEnd:
    """Units of one reservation that end now, and how."""

    cell: int
    owner: UUID
    no: int
    ending: Ending
    quantity: Quantity


@dataclass(frozen=True, slots=True)
class ReceiptChange:
    """Differences to be added to a receipt; `due_on`, `sequence` and `announced` replace when given."""

    cell: int
    receipt: UUID
    quantity: int = 0
    pledged: int = 0
    arrived: int = 0
    cancelled: int = 0
    due_on: date | None = None
    sequence: int | None = None
    announced: bool | None = None


SlotKey = tuple[int, str, date, int]
"""Cell, node, day and slot: the key of a capacity."""


class CapacityChange(Struct, frozen=True, gc=False):
    """Units to add to (or, negative, give back of) a node's slot; refused above `limit` unless that is None."""

    cell: int
    node: str
    day: date
    slot: int
    quantity: int
    limit: int | None


class ShipmentRecord(Struct, frozen=True, gc=False):
    """A shipment of an owner, with the capacity it has booked, and where it stands, since when it does.

    One with `collect_at` is handed out there; '' is brought. It was, or is, offered to some nodes
    until an instant; while it is, its stage says so.
    """

    cell: int
    owner: UUID
    shipment: PlannedShipment
    stage: Stage = Stage.PLANNED
    since: datetime | None = None
    collect_at: str = ""
    offered_to: tuple[str, ...] = ()
    offered_until: datetime | None = None

    @property
    def waits_on_its_shelf(self) -> bool:
        """Whether it never leaves its node before it is collected there."""
        return self.collect_at == self.shipment.node


class StageChange(Struct, frozen=True, gc=False):
    """A shipment goes on from one stage to another. `at` is when it did, if not now."""

    cell: int
    owner: UUID
    no: int
    before: Stage
    after: Stage
    at: datetime | None = None


class ReturnRecord(Struct, frozen=True, gc=False):
    """A return as it is now, of an order that is locked; `is_new` where nobody had heard of it."""

    cell: int
    order: UUID
    found: Return
    is_new: bool = False


class Offered(Struct, frozen=True, gc=False):
    """Whom a shipment is, or was, offered to, and until when; what was said of it before is forgotten."""

    cell: int
    owner: UUID
    no: int
    nodes: tuple[str, ...]
    until: datetime


class Milestone(Struct, frozen=True, gc=False):
    """What somebody has said of a shipment: what happened, when, and who told us. Ids rise as we hear of it."""

    cell: int
    owner: UUID
    id: UUID
    shipment_no: int
    kind: str
    at: datetime
    told_by: str
    detail: Mapping[str, Json]


OF_THE_ORDER: Final = 0
"""The shipment number of milestones that are of the whole order."""


class CountTask(Struct, frozen=True, gc=False):
    """A position that somebody must count: so many units of a shipment that should be there were not found, and are
    blocked.
    """

    cell: int
    position: int
    cause: UUID
    units: Quantity
    node: str
    order: UUID
    shipment_no: int


class PickOutcome(Struct, frozen=True, gc=False):
    """Picks to be added to a node's record of a class of items, or taken back from it: found, and missed."""

    cell: int
    node: str
    item_class: str
    found: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class CountMark:
    """The newest statement a source made about a position; older ones are ignored.

    `doubt` are the units that were not found there at `doubted_at`, and that no count has been asked about since. A
    position that was never counted has its mark at the beginning of time.
    """

    cell: int
    position: int
    as_of: datetime
    sequence: int | None
    doubt: Quantity = 0
    doubted_at: datetime | None = None


NEVER_COUNTED: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Contact:
    """Personal data, the only place it is kept (law 17)."""

    id: UUID
    data: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Everything one flow writes, recorded in one go. Every part is keyed by cell through its own values.

    Positions come to be empty, and one that exists already stays as it is; timers to be dropped may be gone. An
    order's attempt rises by one in the recording that holds its decision, or stays. Reservations begin whole; units
    that ended wrongly are taken back by as many less.
    Orders `amended` get more of a line, more lines, or another destination, and the new units are open; where they
    stand in the end, and their holds, is said by `orders_changed` and `held`. Demand `taken` out of a queue may not be
    there. Whoever decides it at the moment is waited for, but not with what waits for stock: that is a conflict.
    Movements of other cells than the orders' are allowed on one PostgreSQL.
    """

    at: datetime
    positions: Sequence[Position] = ()
    movements: Sequence[Movement] = ()
    reservations: Sequence[Reservation] = ()
    reservation_ends: Sequence[ReservationEnd] = ()
    receipts: Sequence[Receipt] = ()
    receipt_changes: Sequence[ReceiptChange] = ()
    capacity: Sequence[CapacityChange] = ()
    shipments: Sequence[ShipmentRecord] = ()
    shipments_dropped: Sequence[tuple[int, UUID, int]] = ()
    offers: Sequence[Offered] = ()
    stages: Sequence[StageChange] = ()
    milestones: Sequence[Milestone] = ()
    count_tasks: Sequence[CountTask] = ()
    pick_outcomes: Sequence[PickOutcome] = ()
    orders: Sequence[OrderRecord] = ()
    amended: Sequence[OrderRecord] = ()
    orders_changed: Sequence[OrderRecord] = ()
    held: Sequence[OrderRecord] = ()
    returns: Sequence[ReturnRecord] = ()
    contacts: Sequence[Contact] = ()
    taken: Sequence[tuple[int, UUID, Queue]] = ()
    todo: Sequence[Todo] = ()
    timers: Sequence[Timer] = ()
    timers_dropped: Sequence[tuple[int, UUID, TimerKind]] = ()
    decisions: Sequence[Decision] = ()
    counts: Sequence[CountMark] = ()
    messages_seen: Sequence[tuple[str, str]] = ()
    answers: Sequence[Answer] = ()
    incidents: Sequence[Incident] = ()
    events: Sequence[Event] = ()
    audit: Sequence[Audit] = ()


@dataclass(frozen=True, slots=True)
class Stock:
    """What the sourcing flow reads without locks: facts by item, capacity by node, picks by class of items."""

    by_item: Mapping[str, ItemStock]
    receipts: Mapping[str, tuple[ReceiptFact, ...]]
    capacity: Mapping[str, tuple[CapacityFact, ...]]
    misses: Mapping[str, tuple[PickFact, ...]]


class Transaction(Protocol):
    """One transaction on the books: everything read and recorded in it commits together or not at all.

    `record` raises `values.Conflict` when a condition of the effects no longer holds (a balance, a receipt, a
    capacity, a key that exists); the transaction is then rolled back as a whole.
    """

    def claim(self, cell: int, queue: Queue, now: datetime, limit: int, rules: str = "") -> tuple[Todo, ...]:
        """Take up to `limit` demands that wait since `now` or longer; one that is `alone` comes by itself.

        Of those that wait for stock, which others wake, only the ones that must look again whatever comes, oldest
        first: they were left short under other `rules`, or a day they wait for has begun.
        """

    def waiting(self, after: Mapping[str, Age], limit: int) -> tuple[Todo, ...]:
        """Take demands that wait for stock, oldest first: of each item at most `limit` in each cell, next after an age.

        Called last of all that is locked.

        What another transaction has taken is waited for: it may be rolled back.
        """

    def due(self, cell: int, now: datetime, limit: int) -> tuple[Timer, ...]:
        """Take timers that are due."""

    def stock(
        self, cells: Sequence[int], items: Iterable[str], since: date, classes: Collection[str] = NO_CLASSES
    ) -> Stock:
        """Stock, receipts, capacity from day `since` on, and picks of some classes of items.

        Read without locks, each in key order.
        """

    def positions(self, ids: Iterable[int], lock: bool = False) -> dict[int, Position]:
        """Positions by id; with `lock` they are locked first, in id order."""

    def positions_of(self, items: Iterable[str], close: bool = False) -> dict[int, Position]:
        """All positions of the items, in id order; with `close` no other comes to be until the transaction ends."""

    def positions_as_of(self, asked: Mapping[int, datetime]) -> dict[int, Position]:
        """Positions as they were after every movement up to an instant each (included), from the journal.

        A position without a movement by then is empty, with version 0; one that does not exist is not in the answer.
        """

    def receipts(self, ids: Iterable[UUID], lock: bool = False) -> dict[UUID, Receipt]:
        """Receipts by id; with `lock` locked in id order."""

    def receipts_named(self, references: Iterable[tuple[int, str]]) -> dict[tuple[int, str], Receipt]:
        """Receipts by (position, reference), locked."""

    def capacity(self, slots: Iterable[SlotKey]) -> dict[SlotKey, int]:
        """What is taken of slots, locked in key order; a slot of which nothing was ever taken is not in the answer."""

    def orders(self, ids: Iterable[UUID], lock: bool = False) -> dict[UUID, OrderRecord]:
        """Orders by id; with `lock` locked in id order."""

    def order_numbered(self, numbers: Iterable[str]) -> dict[str, UUID]:
        """Ids of orders by the sender's number, or by that of a return of theirs, after RETURN."""

    def reservations(self, owner: UUID) -> tuple[Reservation, ...]:
        """All reservations of an owner, by number."""

    def shipments(self, owner: UUID) -> tuple[ShipmentRecord, ...]:
        """Planned shipments of an owner, by number."""

    def reservations_at(self, position: int) -> tuple[Reservation, ...]:
        """Reservations with open units at a position, newest first."""

    def count_marks(self, positions: Iterable[int]) -> dict[int, CountMark]:
        """Newest count mark by position, with what is in doubt there.

        Until the end of the transaction no snapshot marks these positions.
        """

    def seen(self, messages: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Which of the messages (sender, id) have had their effect already."""

    def answer(self, sender: str, key: str) -> Answer | None:
        """The answer on record for a message."""

    def decision(self, owner: UUID, attempt: int) -> Decision | None:
        """A stored decision."""

    def record(self, effects: Effects) -> None:
        """Write all of it, or raise Conflict."""


class Books(Protocol):
    """The write side. `transaction` commits when its block ends and rolls back when it raises."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin a transaction."""


def place_of(key: PositionKey, expires_on: date | None = None) -> Place:
    """The shared identity of a position in facts."""
    return Place(key.id(), key.item, key.node, key.pool, key.lot, expires_on)


@dataclass(frozen=True, slots=True)
class MasterRow:
    """The newest accepted statement about one key of master data. `body` is its row as text; None once it is removed.

    An older statement, by sequence or else by time, is ignored; that holds for removed keys too.
    """

    section: str
    key: str
    body: bytes | None
    changed_at: datetime
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """A new state of master data: the edition it makes, in place of the edition `before` ('' where there was none)."""

    at: datetime
    actor: str
    before: str
    edition: str
    parts: Sequence[Part]
    rows: Sequence[MasterRow]
    detail: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One immutable version of a policy, as plain data."""

    code: str
    version: int
    family: str
    body: Mapping[str, Json]
    made_by: str
    made_at: datetime


class Editions(Protocol):
    """Where master data, editions and policy versions are kept. Every method is a transaction of its own."""

    def in_force(self) -> str:
        """The hash of the edition in force; '' while there is none."""

    def parts(self, edition: str) -> tuple[Part, ...]:
        """The parts of an edition, in their order. Raises KeyError when there is no such edition."""

    def rows(self) -> tuple[MasterRow, ...]:
        """All rows of master data, by section and key, with those that were removed."""

    def publish(self, publication: Publication) -> None:
        """Keep rows and edition and put it in force. Raises Conflict when `before` is no longer in force."""

    def policies(self) -> tuple[PolicyVersion, ...]:
        """The active version of every policy, by code."""

    def policy(self, code: str, version: int) -> PolicyVersion | None:
        """One version of a policy."""

    def adopt(self, policy: PolicyVersion) -> None:
        """Make this the active version of its code. Raises Conflict unless it follows the newest one."""
