"""Tokens: who may ask what. A token's secret is shown once; only its hash is kept, and every change is audited.

A secret holds 256 random bits, so that one pass of SHA-256 hides it: there is nothing to guess that a slow hash would
protect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final, Protocol
from uuid import UUID

from poolwise.core.values import Fault, Json, Refused
from poolwise.flows.identity import Ids
from poolwise.flows.ports import Audit

PREFIX: Final = "pw_"
SECRET_BITS: Final = 256
LONGEST_PARTY: Final = 100
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Role(StrEnum):
    """What the holder of a token may do (SECURITY.md)."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    INTEGRATOR = "integrator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret. `party` is the sender that idempotency is scoped by (law 5)."""

    id: UUID
    party: str
    role: Role
    made_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def holds_at(self, now: datetime) -> bool:
        """Whether it opens anything at an instant."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class TokenBook(Protocol):
    """Where tokens are kept. What is changed commits together with its audit row."""

    def add(self, token: Token, secret_hash: bytes, audit: Audit) -> None:
        """Keep a new token."""

    def revoke(self, token: UUID, now: datetime, audit: Audit) -> Token | None:
        """Revoke a token, once: the token as it is then, or None when there is none."""

    def by_hash(self, secret_hash: bytes) -> Token | None:
        """The token of a secret."""

    def by_id(self, token: UUID) -> Token | None:
        """The token of an id."""

    def all(self, after: UUID | None, limit: int) -> Sequence[Token]:
        """Tokens, oldest first, those after an id."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token and its secret, which nobody can read again."""

    token: Token
    secret: str


def hash_of(secret: str) -> bytes:
    """What is kept of a secret."""
    return sha256(secret.encode()).digest()


def check_token(*, party: str, expires_at: datetime | None, now: datetime) -> None:
    """Refuse a party that has no name or too long a one, and an end in the past."""
    faults = []
    if not party.strip() or len(party) > LONGEST_PARTY or not party.isprintable():
        faults.append(Fault("party", f"is 1 to {LONGEST_PARTY} characters that can be printed"))
    if expires_at is not None and expires_at <= now:
        faults.append(Fault("expires_at", "is not in the future"))
    if faults:
        raise Refused("token_invalid", faults)


def issue_token(
    book: TokenBook,
    ids: Ids,
    random_bits: Callable[[int], int],
    *,
    party: str,
    role: Role,
    now: datetime,
    actor: str,
    expires_at: datetime | None = None,
    id_: UUID | None = None,
) -> Issued:
    """Make a token for a party. Refuses as `check_token` does.

    `random_bits(n)` gives n bits that nobody can guess.
    """
    check_token(party=party, expires_at=expires_at, now=now)
    secret = PREFIX + _written(random_bits(SECRET_BITS))
    token = Token(id_ or ids.new(now), party, role, now, expires_at)
    detail: dict[str, Json] = {"party": party, "role": role.value}
    book.add(token, hash_of(secret), Audit(actor, "tokens.issue", str(token.id), detail))
    return Issued(token, secret)


def revoke_token(book: TokenBook, token: UUID, *, now: datetime, actor: str) -> Token:
    """Revoke a token; one that is revoked already stays as it is. Refuses an unknown one."""
    found = book.revoke(token, now, Audit(actor, "tokens.revoke", str(token)))
    if found is None:
        raise Refused("token_unknown", [Fault("id", f"there is no token {token}")])
    return found


def _written(number: int) -> str:
    """A number as digits and letters, always of the same length."""
    digits = []
    for _ in range(43):
        number, place = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[place])
    return "".join(reversed(digits))
