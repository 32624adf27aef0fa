"""Waking: demand that waits for stock returns to the queue when stock of its items rises (law 2).

Called last in the transaction that raised it. By then the positions are locked, so whoever finds too little at the same
time has committed his demand or will see the stock; and rows of the queue are locked after everything else, so nobody
waits in a circle. Nobody steps past them either: who holds them may yet roll back.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from poolwise.core.catalog import Catalog
from poolwise.core.values import replace
from poolwise.flows.ports import Effects, Queue, Transaction

MOST_WOKEN: Final = 1_000


def wake(transaction: Transaction, catalog: Catalog, items: Collection[str], now: datetime) -> None:
    """Put demand that waits for these items, or for what they could serve, back to the queue: oldest first."""
    wanted = {served for item in items for served in (item, *catalog.served_by.get(item, ()))}
    woken = transaction.waiting(sorted(wanted), MOST_WOKEN) if wanted else ()
    if woken:
        todo = [replace(waiting, queue=Queue.ONCE, returns=0) for waiting in woken]
        transaction.record(Effects(at=now, todo=todo))
