"""What is due: baskets expire.

Timers are taken and their effect is recorded in one transaction, so that none fires twice or is lost (laws 4 and 6).
"""

from __future__ import annotations

from datetime import datetime

from poolwise.flows.freeing import GivenBack
from poolwise.flows.ports import Books, Ending
from poolwise.flows.source import Desk


def run_timers(books: Books, desk: Desk, cell: int, now: datetime, limit: int) -> int:
    """Do what is due in a cell, in one transaction; how many timers that were."""
    with books.transaction() as transaction:
        timers = transaction.due(cell, now, limit)
        if not timers:
            return 0
        baskets = [timer.subject for timer in timers]
        records = transaction.orders(baskets, lock=True)
        given = GivenBack(transaction, desk.atlas.edition, desk.actor, now)
        for basket in baskets:
            if basket in records:
                given.add(records[basket], Ending.EXPIRED)
        given.record("reservations.expire")
        return len(timers)
