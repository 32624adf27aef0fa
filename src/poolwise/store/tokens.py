"""Tokens on PostgreSQL. What changes one commits with the audit row that says so (law 4)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from poolwise.flows.ports import Audit
from poolwise.flows.tokens import Role, Token
from poolwise.store import postgres
from poolwise.store.books import translated
from poolwise.store.journal import first_of_month
from poolwise.store.postgres import Pool
from poolwise.store.writing import jsonb

ADD: Final = """
INSERT INTO token (id, party, role, secret_hash, made_at, expires_at) VALUES (%b, %b, %b, %b, %b, %b)
"""
REVOKE: Final = "UPDATE token SET revoked_at = %b WHERE id = %b AND revoked_at IS NULL"
BY_HASH: Final = """
SELECT id, party, role, made_at, expires_at, revoked_at FROM token WHERE secret_hash = %b
"""
BY_ID: Final = "SELECT id, party, role, made_at, expires_at, revoked_at FROM token WHERE id = %b"
ALL: Final = """
SELECT id, party, role, made_at, expires_at, revoked_at
FROM token
WHERE %(after)b::uuid IS NULL OR id > %(after)b::uuid
ORDER BY id
LIMIT %(limit)b
"""
AUDIT: Final = """
INSERT INTO audit (cell, month, at, actor, action, subject, detail) VALUES (%b, %b, %b, %b, %b, %b, %b)
"""


class PostgresTokens:
    """flows.tokens.TokenBook on the database behind `pool`; audit rows go to `cell`."""

    def __init__(self, pool: Pool, cell: int = 0) -> None:
        self._pool = pool
        self._cell = cell

    def add(self, token: Token, secret_hash: bytes, audit: Audit) -> None:
        """See flows.tokens."""
        row = (token.id, token.party, token.role.value, secret_hash, token.made_at, token.expires_at)
        with translated(), postgres.transaction(self._pool) as connection:
            connection.execute(ADD, row)
            self._audit(connection, token.made_at, audit)

    def revoke(self, token: UUID, now: datetime, audit: Audit) -> Token | None:
        """See flows.tokens."""
        with translated(), postgres.transaction(self._pool) as connection:
            if connection.execute(REVOKE, (now, token)).rowcount:
                self._audit(connection, now, audit)
            return _token(connection.execute(BY_ID, (token,)).fetchone())

    def by_hash(self, secret_hash: bytes) -> Token | None:
        """See flows.tokens."""
        with translated(), self._pool.connection() as connection:
            return _token(connection.execute(BY_HASH, (secret_hash,)).fetchone())

    def by_id(self, token: UUID) -> Token | None:
        """See flows.tokens."""
        with translated(), self._pool.connection() as connection:
            return _token(connection.execute(BY_ID, (token,)).fetchone())

    def all(self, after: UUID | None, limit: int) -> Sequence[Token]:
        """See flows.tokens."""
        with translated(), self._pool.connection() as connection:
            rows = connection.execute(ALL, {"after": after, "limit": limit}).fetchall()
        return [Token(row[0], row[1], Role(row[2]), *row[3:]) for row in rows]

    def _audit(self, connection: Connection[TupleRow], at: datetime, audit: Audit) -> None:
        row = (self._cell, first_of_month(at), at, audit.actor, audit.action, audit.subject, jsonb(audit.detail))
        connection.execute(AUDIT, row)


def _token(row: TupleRow | None) -> Token | None:
    return None if row is None else Token(row[0], row[1], Role(row[2]), *row[3:])
