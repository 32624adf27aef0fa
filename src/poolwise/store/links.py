"""The key of tracking links, kept among the settings, where only the application reads."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from poolwise.flows.ports import Audit
from poolwise.store import postgres
from poolwise.store.books import translated
from poolwise.store.journal import first_of_month
from poolwise.store.postgres import Pool
from poolwise.store.writing import jsonb

READ: Final = "SELECT value ->> 'key' FROM setting WHERE name = 'tracking_key'"
BEGIN: Final = """
INSERT INTO setting (name, value, changed_at, changed_by) VALUES ('tracking_key', %b, %b, %b) ON CONFLICT DO NOTHING
"""
RENEW: Final = """
INSERT INTO setting (name, value, changed_at, changed_by) VALUES ('tracking_key', %b, %b, %b)
ON CONFLICT (name) DO UPDATE
SET value = excluded.value, changed_at = excluded.changed_at, changed_by = excluded.changed_by
"""
AUDIT: Final = """
INSERT INTO audit (cell, month, at, actor, action, subject, detail) VALUES (0, %b, %b, %b, %b, %b, %b)
"""


class PostgresLinkKeys:
    """flows.tracking.LinkKeys on the database behind `pool`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def key(self) -> bytes | None:
        """See flows.tracking."""
        with translated(), self._pool.connection() as connection:
            row = connection.execute(READ).fetchone()
        return None if row is None else bytes.fromhex(row[0])

    def begin(self, fresh: bytes, now: datetime, actor: str) -> bytes:
        """See flows.tracking."""
        with translated(), postgres.transaction(self._pool) as connection:
            connection.execute(BEGIN, (jsonb({"key": fresh.hex()}), now, actor))
        known = self.key()
        assert known is not None, "it was committed"
        return known

    def renew(self, fresh: bytes, now: datetime, audit: Audit) -> None:
        """See flows.tracking."""
        row = (first_of_month(now), now, audit.actor, audit.action, audit.subject, jsonb(audit.detail))
        with translated(), postgres.transaction(self._pool) as connection:
            connection.execute(RENEW, (jsonb({"key": fresh.hex()}), now, audit.actor))
            connection.execute(AUDIT, row)
