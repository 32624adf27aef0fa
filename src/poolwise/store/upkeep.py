"""What the database forgets: answers under idempotency keys, once they are old enough (law 5). And how it is tidied.

Or emptied, for simulations.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import psycopg
from psycopg import sql

from poolwise.store.books import translated
from poolwise.store.codec import BUCKETS
from poolwise.store.postgres import Pool, diagnose, session_parameters
from poolwise.store.steps import Failpoint, Forgetting, never

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


# An item's positions come to be one by one and lie where there was room; whoever asks for an item reads them all.
TIDY: Final = (
    "SET lock_timeout = '10s'",
    "CLUSTER position USING position_cell_item_node_pool_lot_key",
    "RESET lock_timeout",
    "VACUUM (ANALYZE)",
)
TIDYING_MAY_TAKE_MS: Final = 3_600_000


def tidy(owner_url: str) -> None:
    """Put the positions of each item side by side, clear away what is dead, and count anew for the planner.

    Stock can be neither read nor moved meanwhile, some eight seconds for a million positions. Raises
    DatabaseUnavailable, having changed nothing, when it is in use for longer than ten seconds.
    """
    try:
        with psycopg.connect(
            session_parameters(owner_url, TIDYING_MAY_TAKE_MS, "poolwise tidy"), autocommit=True
        ) as owner:
            for statement in TIDY:
                owner.execute(statement)
    except psycopg.Error as error:
        raise diagnose(error, owner_url) from error


ALL_TABLES: Final = """
SELECT relname
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
    AND relname <> 'schema_migration'
ORDER BY relname
"""
DELETE_ALL: Final = sql.SQL("DELETE FROM {}")


def empty(owner_url: str) -> None:
    """Take everything out of a database but its schema: simulations begin with nothing, one after another."""
    with psycopg.connect(session_parameters(owner_url, TIDYING_MAY_TAKE_MS, "poolwise empty")) as owner:
        names = [name for (name,) in owner.execute(ALL_TABLES)]
        # A simulation leaves few rows: to delete them is quicker than to make every file anew.
        owner.execute(sql.SQL("; ").join([DELETE_ALL.format(sql.Identifier(name)) for name in names]))


def forget_answers(pool: Pool, now: datetime, limit: int, failpoint: Failpoint = never) -> int:
    """Delete up to `limit` answers that are older than they are kept; how many it were."""
    assert limit > 0, "it forgets something"
    asked = {"buckets": list(range(BUCKETS)), "before": now - ANSWERS_ARE_KEPT, "limit": limit}
    with translated(), pool.connection() as connection, connection.transaction():
        cursor = connection.cursor(binary=True)
        old = cursor.execute(OLD_ANSWERS, asked).fetchall()
        if not old:
            return 0
        failpoint(Forgetting.CHOSEN)
        cursor.execute(DELETE_ANSWERS, [list(column) for column in zip(*old, strict=True)])
        failpoint(Forgetting.DELETED)
    failpoint(Forgetting.FORGOTTEN)
    return len(old)
