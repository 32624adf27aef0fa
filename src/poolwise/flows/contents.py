"""What the books hold, as a stream: the read side of an export. Two implementations, as of everything else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from poolwise.core.ledger import Position, PositionKey, Receipt
from poolwise.core.orders import Order
from poolwise.flows.ports import Contact, CountMark


@dataclass(frozen=True, slots=True)
class Shelved:
    """A position, when it last moved, and the newest count of it."""

    position: Position
    moved_at: datetime
    mark: CountMark | None


@dataclass(frozen=True, slots=True)
class Inbound:
    """A receipt and the position it is for."""

    key: PositionKey
    receipt: Receipt
    moved_at: datetime


class Snapshot(Protocol):
    """The contents of the books at one instant, in key order, a row at a time."""

    def stock(self) -> Iterator[Shelved]:
        """All positions, with those that hold debts."""

    def owing(self) -> frozenset[PositionKey]:
        """The positions that owe units."""

    def receipts(self) -> Iterator[Inbound]:
        """All receipts."""

    def orders(self) -> Iterator[tuple[Order, Contact | None]]:
        """All orders that are neither cancelled nor baskets, oldest first, each with its contact."""


class Contents(Protocol):
    """Gives snapshots of the books."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """What the books hold now. Valid until the end of the block."""
