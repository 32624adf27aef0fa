"""Where the memory books keep things: dictionaries by key, changed through an `Undo`, which can take all of it back.

Queues are heaps of keys. A key whose thing is gone is dropped when it is met, so that nothing is ever searched in them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, TypeVar
from uuid import UUID

from poolwise.core.ledger import Movement, Position, Receipt, Reservation
from poolwise.core.sourcing.problem import CapacityFact, ItemStock, Place
from poolwise.flows.ports import (
    Answer,
    Audit,
    Contact,
    CountMark,
    Decision,
    Event,
    Incident,
    Milestone,
    OrderRecord,
    Queue,
    ShipmentRecord,
    Timer,
    Todo,
)

K = TypeVar("K")
V = TypeVar("V")

QueueKey = tuple[int, Queue]
TodoKey = tuple[Queue, UUID]
TimerKey = tuple[int, UUID, str]
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class JournalRow:
    """A movement of one position as it stands in the journal: inside it, with its version and time."""

    version: int
    at: datetime
    movement: Movement
    other: int | None = None


@dataclass(slots=True)
class Shelves:
    """Everything the memory books hold. Tests may change it directly, as an owner may change a database."""

    positions: dict[int, Position] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)
    moved_at: dict[int, datetime] = field(default_factory=dict)
    positions_of: dict[str, tuple[int, ...]] = field(default_factory=dict)
    journal: dict[int, list[JournalRow]] = field(default_factory=lambda: defaultdict(list))
    receipts: dict[UUID, Receipt] = field(default_factory=dict)
    receipt_ids: dict[tuple[int, str], UUID] = field(default_factory=dict)
    receipts_of: dict[str, tuple[UUID, ...]] = field(default_factory=dict)
    reservations: dict[tuple[UUID, int], Reservation] = field(default_factory=dict)
    reservations_of: dict[UUID, tuple[int, ...]] = field(default_factory=dict)
    open_at: dict[int, dict[tuple[UUID, int], None]] = field(default_factory=lambda: defaultdict(dict))
    capacity: dict[tuple[int, str], dict[tuple[date, int], tuple[int, int | None]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    shipments: dict[tuple[UUID, int], ShipmentRecord] = field(default_factory=dict)
    shipments_of: dict[UUID, tuple[int, ...]] = field(default_factory=dict)
    milestones: dict[tuple[UUID, UUID], Milestone] = field(default_factory=dict)
    count_tasks: dict[int, tuple[datetime, int]] = field(default_factory=dict)
    picks: dict[tuple[int, str], dict[str, tuple[int, int]]] = field(default_factory=lambda: defaultdict(dict))
    orders: dict[UUID, OrderRecord] = field(default_factory=dict)
    order_ids: dict[str, UUID] = field(default_factory=dict)
    todo: dict[TodoKey, Todo] = field(default_factory=dict)
    queues: dict[QueueKey, list[tuple[int, datetime, UUID]]] = field(default_factory=lambda: defaultdict(list))
    waiting: dict[str, dict[TodoKey, None]] = field(default_factory=lambda: defaultdict(dict))
    timers: dict[TimerKey, Timer] = field(default_factory=dict)
    timer_keys: dict[int, list[tuple[datetime, UUID, str]]] = field(default_factory=lambda: defaultdict(list))
    decisions: dict[tuple[UUID, int], Decision] = field(default_factory=dict)
    marks: dict[int, CountMark] = field(default_factory=dict)
    inbox: dict[tuple[str, str], datetime] = field(default_factory=dict)
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    incidents: dict[UUID, Incident] = field(default_factory=dict)
    contacts: dict[UUID, Contact] = field(default_factory=dict)
    outbox: list[tuple[datetime, Event]] = field(default_factory=list)
    audit: list[tuple[datetime, Audit]] = field(default_factory=list)
    # Facts that were made from the above, by item or by node, until it changes.
    stock_facts: dict[str, dict[tuple[int, ...], ItemStock | None]] = field(default_factory=dict)
    capacity_facts: dict[tuple[int, str], tuple[date, tuple[CapacityFact, ...]]] = field(default_factory=dict)


class Undo:
    """The changes of one transaction, newest last, each as the call that takes it back."""

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def put(self, shelf: dict[K, V], key: K, value: V) -> None:
        """Set a key."""
        self._steps.append((_restore, (shelf, key, shelf.get(key, _ABSENT))))
        shelf[key] = value

    def drop(self, shelf: dict[K, V], key: K) -> None:
        """Remove a key that is there."""
        self._steps.append((_restore, (shelf, key, shelf.pop(key))))

    def append(self, items: list[V], value: V) -> None:
        """Add to the end of a list."""
        self._steps.append((items.pop, ()))
        items.append(value)

    def later(self, call: Callable[..., object], *arguments: object) -> None:
        """Remember a call that takes back what the caller has just done."""
        self._steps.append((call, arguments))

    def everything(self) -> None:
        """Take all of it back."""
        while self._steps:
            call, arguments = self._steps.pop()
            call(*arguments)


def _restore(shelf: dict[K, V], key: K, value: V) -> None:
    if value is _ABSENT:
        shelf.pop(key, None)
    else:
        shelf[key] = value
