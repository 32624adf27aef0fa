"""The steps of a recording, in their order, and the place between them where a test may crash it (law 4).

Both books take the same steps: keys first, so that a repeated message is noticed before anything is locked; then rows
in the global order of locks; capacity and the records of nodes, which many transactions want, last.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

Failpoint = Callable[[str], None]
"""Called with the name of a step once it is done. It may raise, or end the process."""


class Step(StrEnum):
    """What is written, in order. The last two surround the commit."""

    KEYS = "keys"
    ORDERS = "orders"
    ORDERS_CHANGED = "orders_changed"
    POSITIONS = "positions"
    MOVEMENTS = "movements"
    RECEIPTS = "receipts"
    RESERVATIONS = "reservations"
    SHIPMENTS = "shipments"
    QUEUES = "queues"
    DECISIONS = "decisions"
    COUNTS = "counts"
    EVENTS = "events"
    CAPACITY = "capacity"
    PICKS = "picks"
    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"


class Access(StrEnum):
    """What a transaction takes before it records anything, and changes at once: it must come back if it dies."""

    CLOSED = "gates_closed"
    WOKEN = "waiting_taken"


class Forgetting(StrEnum):
    """The steps in which old answers are forgotten; the last is after the commit."""

    CHOSEN = "answers_chosen"
    DELETED = "answers_deleted"
    FORGOTTEN = "answers_forgotten"


def never(_step: str) -> None:
    """The failpoint that never fails."""
