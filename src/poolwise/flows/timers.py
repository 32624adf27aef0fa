"""What is due: baskets expire, shipments are released or offered, and offers end.

Timers are taken and their effect is recorded in one transaction, so that none fires twice or is lost (laws 4 and 6).
"""

from __future__ import annotations

from datetime import datetime

from poolwise.flows.freeing import GivenBack
from poolwise.flows.offers import expire
from poolwise.flows.ports import Books, Effects, Ending, TimerKind
from poolwise.flows.release import release
from poolwise.flows.source import Desk


def run_timers(books: Books, desk: Desk, cell: int, now: datetime, limit: int) -> int:
    """Do what is due in a cell; how many timers that were."""
    with books.transaction() as transaction:
        timers = transaction.due(cell, now, limit)
        if not timers:
            return 0
        records = transaction.orders([timer.subject for timer in timers], lock=True)
        due = {kind: [t.subject for t in timers if t.kind is kind and t.subject in records] for kind in TimerKind}
        effects, overdue = release(transaction, desk, [records[order] for order in due[TimerKind.RELEASE]], now)
        transaction.record(effects)
        if not overdue:
            given = GivenBack(transaction, desk.atlas.edition, desk.actor, now)
            for basket in due[TimerKind.EXPIRE]:
                given.add(records[basket], Ending.EXPIRED)
            given.record("reservations.expire")
            return len(timers)
        # Positions are locked once in a transaction, before those who wait for stock: baskets have one of their own.
        baskets = [timer for timer in timers if timer.kind is TimerKind.EXPIRE]
        transaction.record(Effects(at=now, timers=baskets))
        expire(transaction, desk, overdue, now)
    return len(timers) - len(baskets) + (run_timers(books, desk, cell, now, limit) if baskets else 0)
