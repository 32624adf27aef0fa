"""What the database forgets: answers under idempotency keys, once they are old enough (law 5)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from poolwise.store.books import translated
from poolwise.store.codec import BUCKETS
from poolwise.store.postgres import Pool

ANSWERS_ARE_KEPT: Final = timedelta(days=30)

# Every bucket has its turn in one statement: the times lead to the rows, and hardly any are old.
OLD_ANSWERS: Final = """
SELECT cell, sender, key
FROM answer
WHERE cell = ANY (%(buckets)b::smallint[]) AND at < %(before)b
LIMIT %(limit)b
FOR UPDATE SKIP LOCKED
"""
DELETE_ANSWERS: Final = """
DELETE FROM answer AS a
USING unnest(%b::smallint[], %b::text[], %b::text[]) AS old (cell, sender, key)
WHERE a.cell = old.cell AND a.sender = old.sender AND a.key = old.key
"""


def forget_answers(pool: Pool, now: datetime, limit: int) -> int:
    """Delete up to `limit` answers that are older than they are kept; how many it were."""
    assert limit > 0, "it forgets something"
    asked = {"buckets": list(range(BUCKETS)), "before": now - ANSWERS_ARE_KEPT, "limit": limit}
    with translated(), pool.connection() as connection, connection.transaction():
        cursor = connection.cursor(binary=True)
        old = cursor.execute(OLD_ANSWERS, asked).fetchall()
        if old:
            cursor.execute(DELETE_ANSWERS, [list(column) for column in zip(*old, strict=True)])
        return len(old)
