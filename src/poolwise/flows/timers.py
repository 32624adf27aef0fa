"""What is due: baskets expire, and a new day at a node wakes those that wait for room.

Timers are taken and their effect is recorded in one transaction, so that none fires twice or is lost (laws 4 and 6).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from poolwise.flows.freeing import GivenBack
from poolwise.flows.ports import ROOM, Books, Ending, Timer, TimerKind, Transaction
from poolwise.flows.source import Desk

MOST_LOOKS: Final = 100


def run_timers(books: Books, desk: Desk, cell: int, now: datetime, limit: int) -> int:
    """Do what is due in a cell, in one transaction; how many timers that were.

    A day that has turned wakes the line of those that wait for room, once however many left a timer for it.
    """
    with books.transaction() as transaction:
        timers = _due(transaction, cell, now, limit)
        if not timers:
            return 0
        baskets = [timer.subject for timer in timers if timer.kind is TimerKind.EXPIRE]
        records = transaction.orders(baskets, lock=True) if baskets else {}
        given = GivenBack(transaction, desk.atlas.edition, desk.actor, now)
        for basket in baskets:
            if basket in records:
                given.add(records[basket], Ending.EXPIRED)
        given.record("reservations.expire", others={ROOM} if len(baskets) < len(timers) else ())
        return len(timers)


def _due(transaction: Transaction, cell: int, now: datetime, limit: int) -> list[Timer]:
    """Timers that are due: `limit` at most, and more only while nothing but new days comes, which cost nothing each."""
    timers: list[Timer] = []
    for _ in range(MOST_LOOKS):
        found = transaction.due(cell, now, limit)
        timers += found
        if len(found) < limit or any(timer.kind is not TimerKind.DAY for timer in found):
            break
    return timers
