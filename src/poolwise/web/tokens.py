"""Tokens: issued, listed, revoked. For administrators only."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from poolwise.flows.ports import Answer, Effects
from poolwise.flows.tokens import LONGEST_PARTY, Role, Token, check_token, issue_token, revoke_token
from poolwise.web.endpoint import Call, Nothing, Reply
from poolwise.web.errors import refused
from poolwise.web.forms import PRINTABLE, Cursor, Limit, from_cursor, page_of, to_cursor
from poolwise.web.idempotency import once


class TokenIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token for a party: a person, a shop, a partner's system."""

    party: Annotated[str, Meta(min_length=1, max_length=LONGEST_PARTY, pattern=PRINTABLE)]
    role: Role
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None


class TokenOut(msgspec.Struct, frozen=True, kw_only=True):
    """A token without its secret."""

    id: UUID
    party: str
    role: Role
    made_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class IssuedOut(msgspec.Struct, frozen=True, kw_only=True):
    """A new token. The secret is shown this once; an answer that is given again has none."""

    token: TokenOut
    secret: str | None


class TokensOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of tokens, oldest first."""

    tokens: list[TokenOut]
    next: str | None


class TokensAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page of tokens."""

    cursor: Cursor = ""
    limit: Limit = 50


def create_token(call: Call[Nothing, TokenIn]) -> Reply:
    """Issue a token. Its secret is in this answer and nowhere else: if it is lost, revoke the token."""
    services, id_ = call.services, call.services.ids.new(call.now)
    answer = Answer(call.key.sender, call.key.text, call.key.body_hash, 201, str(id_))

    check_token(party=call.body.party, expires_at=call.body.expires_at, now=call.now)

    def do() -> Reply:
        with services.books.transaction() as transaction:
            transaction.record(Effects(at=call.now, answers=[answer]))
        return _issued(call, id_)

    def again(known: Answer) -> Reply:
        token = services.tokens.by_id(UUID(known.reference))
        if token is None:  # the first request ended between the key and the token
            return _issued(call, UUID(known.reference))
        return Reply(201, IssuedOut(token=token_out(token), secret=None))

    return once(services.books, call.key, do, again, look_first=True)


def _issued(call: Call[Nothing, TokenIn], id_: UUID) -> Reply:
    services = call.services
    issued = issue_token(
        services.tokens,
        services.ids,
        services.random_bits,
        id_=id_,
        party=call.body.party,
        role=call.body.role,
        now=call.now,
        actor=call.actor.party,
        expires_at=call.body.expires_at,
    )
    return Reply(201, IssuedOut(token=token_out(issued.token), secret=issued.secret))


def list_tokens(call: Call[TokensAsked, Nothing]) -> Reply:
    """List tokens, oldest first, those that ended too."""
    after = from_cursor(call.query.cursor, tuple[UUID])[0] if call.query.cursor else None
    tokens, more = page_of(call.services.tokens.all(after, call.query.limit + 1), call.query.limit)
    next_ = to_cursor(tokens[-1].id) if more else None
    return Reply(200, TokensOut(tokens=[token_out(token) for token in tokens], next=next_))


def revoke(call: Call[Nothing, Nothing]) -> Reply:
    """Revoke a token. It opens nothing any more after a few seconds; revoking it again changes nothing."""
    try:
        id_ = UUID(call.path["id"])
    except ValueError:
        raise refused("token_unknown", f"there is no token '{call.path['id']}'", "id") from None
    token = revoke_token(call.services.tokens, id_, now=call.now, actor=call.actor.party)
    return Reply(200, token_out(token))


def token_out(token: Token) -> TokenOut:
    """A token as the API shows it."""
    return TokenOut(
        id=token.id,
        party=token.party,
        role=token.role,
        made_at=token.made_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
    )
