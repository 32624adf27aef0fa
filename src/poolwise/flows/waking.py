"""Waking: demand that waits for stock returns to the queue when stock of its items rises (law 2).

Called last in the transaction that raised it. By then the positions are locked, so whoever finds too little at the same
time has committed his demand or will see the stock; and rows of the queue are locked after everything else, so nobody
waits in a circle. Nobody steps past them either: who holds them may yet roll back.

Not all that waits wakes at once. The oldest wake, and when they are decided, those next in line after them, served or
not, as long as anything is free that could serve: stock that the oldest cannot use is offered to every other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from poolwise.core.catalog import Catalog
from poolwise.core.values import replace
from poolwise.flows.ports import Age, Effects, Queue, Transaction

MOST_WOKEN: Final = 200
"""Of each item and cell, at a time."""
EVERYBODY: Final[Age] = datetime.min.replace(tzinfo=UTC), UUID(int=0)


def wake(transaction: Transaction, catalog: Catalog, items: Collection[str], now: datetime) -> None:
    """Put demand that waits for these items, or for what they could serve, back to the queue: the oldest."""
    wanted = {served for item in items for served in (item, *catalog.served_by.get(item, ()))}
    wake_after(transaction, dict.fromkeys(wanted, EVERYBODY), MOST_WOKEN, now)


def wake_after(transaction: Transaction, last: Mapping[str, Age], most: int, now: datetime) -> None:
    """Put demand back to the queue that waits next in the line of an item: `most` of each, after the age given."""
    woken = transaction.waiting(last, min(most, MOST_WOKEN)) if last else ()
    if woken:
        todo = [replace(waiting, queue=Queue.ONCE, returns=0) for waiting in woken]
        transaction.record(Effects(at=now, todo=todo))
