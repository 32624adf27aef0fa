"""Who may call what: one table, deny by default. A route that is not in the table is closed to everybody."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from poolwise.flows.tokens import PREFIX, Role, Token, TokenBook, hash_of
from poolwise.web.endpoint import Actor
from poolwise.web.errors import refused

REMEMBERED: Final = timedelta(seconds=5)
"""How long a token that was looked up is trusted: a revoked one is refused after this time at the latest."""

MOST_REMEMBERED: Final = 10_000
LONGEST_SECRET: Final = 200

ALL: Final = frozenset(Role)
ACTING: Final = frozenset({Role.OPERATOR, Role.INTEGRATOR, Role.ADMIN})
SENDING: Final = frozenset({Role.INTEGRATOR, Role.ADMIN})
ADMIN: Final = frozenset({Role.ADMIN})

ROLES: Final[Mapping[str, frozenset[Role]]] = {
    "POST /v1/orders": ACTING,
    "POST /v1/orders:bulk": ACTING,
    "GET /v1/orders": ALL,
    "GET /v1/orders/{number}": ALL,
    "GET /v1/orders/{number}/explanation": ALL,
    "GET /v1/orders/{number}/timeline": ALL,
    "POST /v1/orders/{number}/tracking-links": ACTING,
    "POST /v1/orders/{number}/cancellations": ACTING,
    "POST /v1/orders/{number}/amendments": ACTING,
    "POST /v1/orders/{number}/divisions": ACTING,
    "POST /v1/orders/{number}/joins": ACTING,
    "POST /v1/orders/{number}/holds": ACTING,
    "POST /v1/orders/{number}/holds/{code}/lift": ACTING,
    "POST /v1/reservations": ACTING,
    "GET /v1/reservations/{id}": ALL,
    "POST /v1/reservations/{id}/free": ACTING,
    "POST /v1/stock/counts": ACTING,
    "POST /v1/stock/movements": ACTING,
    "POST /v1/receipts": ACTING,
    "POST /v1/shipments/reports": ACTING,
    "GET /v1/shipments": ALL,
    "POST /v1/returns": ACTING,
    "GET /v1/returns": ALL,
    "GET /v1/returns/{id}": ALL,
    "POST /v1/returns/{id}/receipts": ACTING,
    "POST /v1/returns/{id}/dispositions": ACTING,
    "POST /v1/returns/{id}/end": ACTING,
    "GET /v1/count-tasks": ALL,
    "GET /v1/purchase-orders": ALL,
    "GET /v1/purchase-orders/{number}": ALL,
    "GET /v1/offers": ALL,
    "POST /v1/offers/claims": ACTING,
    "POST /v1/offers/declines": ACTING,
    "GET /v1/availability": ALL,
    "POST /v1/plan": ALL,
    "GET /v1/network/nodes": ALL,
    "GET /v1/network/pools": ALL,
    "GET /v1/network/zones": ALL,
    "GET /v1/network/lanes": ALL,
    "GET /v1/network/items": ALL,
    "GET /v1/network/picks": ALL,
    "GET /v1/network/policies": ALL,
    "GET /v1/events": ALL,
    "POST /v1/webhooks": SENDING,
    "GET /v1/webhooks": SENDING,
    "GET /v1/webhooks/{id}": SENDING,
    "GET /v1/webhooks/{id}/deliveries": SENDING,
    "POST /v1/webhooks/{id}/rotate": SENDING,
    "POST /v1/webhooks/{id}/replay": SENDING,
    "POST /v1/webhooks/{id}/ping": SENDING,
    "POST /v1/webhooks/{id}/pause": SENDING,
    "POST /v1/webhooks/{id}/enable": SENDING,
    "POST /v1/webhooks/{id}/delete": SENDING,
    "POST /v1/tokens": ADMIN,
    "GET /v1/tokens": ADMIN,
    "POST /v1/tokens/{id}/revoke": ADMIN,
    "GET /metrics": ALL,
}
"""Which roles may call an endpoint. Endpoints marked `public` (health, readiness, this description) need no token."""


class Door:
    """Opens endpoints to tokens. Remembers for a few seconds what it has looked up, so that a token costs no query."""

    def __init__(self, book: TokenBook) -> None:
        self._book = book
        self._known: dict[bytes, tuple[Token, datetime]] = {}

    def actor(self, authorization: str, title: str, now: datetime) -> Actor:
        """Who asks, if they may. Refuses a missing or wrong token (401), and a role that may not (403)."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise refused("token_missing", "send a token: `Authorization: Bearer pw_...`", "Authorization")
        token = self._token(secret.strip(), now)
        if token is None or not token.holds_at(now):
            raise refused("token_refused", "the token is unknown, expired or revoked", "Authorization")
        allowed = ROLES.get(title, frozenset())
        if token.role not in allowed:
            wanted = ", ".join(role.value for role in Role if role in allowed) or "nobody"
            raise refused("role_lacking", f"the role {token.role.value} may not do this; it is for: {wanted}")
        return Actor(token.party, token.role)

    def forget(self) -> None:
        """Look every token up again."""
        self._known = {}

    def _token(self, secret: str, now: datetime) -> Token | None:
        if not secret.startswith(PREFIX) or len(secret) > LONGEST_SECRET or not secret.isascii():
            return None
        hashed = hash_of(secret)
        known = self._known.get(hashed)
        if known is not None and abs(now - known[1]) < REMEMBERED:
            return known[0]
        token = self._book.by_hash(hashed)
        if token is not None:
            if len(self._known) >= MOST_REMEMBERED:
                self._known = {}
            self._known[hashed] = (token, now)
        return token
