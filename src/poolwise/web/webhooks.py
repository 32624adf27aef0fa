"""Webhooks: receivers subscribed, their secrets rotated, their deliveries read and sent again.

A token sees the webhooks of its party, an administrator all of them. Every change commits with its answer (law 5).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from poolwise.core.values import Json, Refused
from poolwise.flows.intake import Rejected
from poolwise.flows.ports import EVENT_TYPES, Answer, Audit, Effects
from poolwise.flows.tokens import Role
from poolwise.flows.views import written_place
from poolwise.flows.webhooks import (
    LONGEST_OVERLAP,
    LONGEST_URL,
    MOST_TYPES,
    PING_BITS,
    Change,
    DeliveryQuery,
    DeliveryState,
    Webhook,
    WebhookState,
    check_webhook,
    rotate_secret,
    subscribe,
)
from poolwise.web.endpoint import Asked, Call, Nothing, Reply, Sent
from poolwise.web.errors import refused
from poolwise.web.forms import Code, Cursor, Limit, from_cursor, page_of, to_cursor
from poolwise.web.idempotency import kept, kept_refusal, once
from poolwise.web.live import read_place

HOUR: Final = timedelta(hours=1)
SECRET_PREFIX: Final = "whsec_"
Place = Annotated[str, Meta(max_length=2_000, description="A place in the feed such as `0:4711`, or `start`.")]


class WebhookIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A receiver of events of some `types` (`order.sourced`, `order.*`), or of all: after a place, or from now on."""

    url: Annotated[str, Meta(min_length=1, max_length=LONGEST_URL)]
    types: Annotated[
        list[Code], Meta(max_length=MOST_TYPES, description=f"Some of {', '.join(EVENT_TYPES)}; `order.*` for a kind.")
    ] = []
    after: Place = ""


class WebhookOut(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook without its secrets. `place` is the last event that was taken over into deliveries."""

    id: UUID
    party: str
    url: str
    types: list[str]
    state: WebhookState
    reason: str
    place: str
    made_at: datetime
    former_secret_until: datetime | None
    failing_since: datetime | None


class SecretOut(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook and its new secret. The secret is shown this once; an answer that is given again has none."""

    webhook: WebhookOut
    secret: str | None


class WebhooksAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page of webhooks."""

    cursor: Cursor = ""
    limit: Limit = 50


class WebhooksOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of webhooks, oldest first."""

    webhooks: list[WebhookOut]
    next: str | None


class RotationIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how many hours the secret before goes on signing, too; 0 where it was stolen."""

    overlap_hours: Annotated[int, Meta(ge=0, le=LONGEST_OVERLAP // HOUR)] = 24


class ReplayIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent again: all events `after` a place, or what `failed` for good. One of the two."""

    after: Place = ""
    failed: bool = False


class DeliveriesAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deliveries."""

    state: DeliveryState | None = None
    cursor: Cursor = ""
    limit: Limit = 50


class DeliveryOut(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way: `event` is its place in the feed, null for a ping.

    `status` and `reason` are those of the last attempt, `status` null where there was no answer; `due` is the next one.
    """

    event: str | None
    state: DeliveryState
    attempts: int
    due: datetime | None
    changed_at: datetime
    status: int | None
    reason: str


class DeliveriesOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of deliveries, newest event first."""

    deliveries: list[DeliveryOut]
    next: str | None


def create_webhook(call: Call[Nothing, WebhookIn]) -> Reply:
    """Subscribe a receiver. Its secret is in this answer and nowhere else: if it is lost, rotate it.

    Events from now on are sent, or those after a place of the feed. Every request is signed as Standard Webhooks says.
    """
    services, asked = call.services, call.body
    check_webhook(asked.url, asked.types, services.url_fault)
    place = dict.fromkeys(services.cells, 0) | services.feed.end()
    if asked.after:
        place |= _place(call, asked.after, place)
    id_ = services.ids.new(call.now)
    webhook = Webhook(id_, call.actor.party, asked.url, tuple(asked.types), place, call.now)

    def do() -> Reply:
        answer = kept(call.key, 201, str(id_))
        secret = subscribe(services.webhooks, services.random_bits, webhook, call.actor.party, answer)
        return _with_secret(201, webhook, secret)

    return once(services.books, call.key, do, lambda known: _with_secret(201, _found(call, known.reference), None))


def list_webhooks(call: Call[WebhooksAsked, Nothing]) -> Reply:
    """List webhooks, oldest first: those of the party of the token; administrators see all."""
    after = from_cursor(call.query.cursor, tuple[UUID])[0] if call.query.cursor else None
    party = "" if call.actor.role is Role.ADMIN else call.actor.party
    found, more = page_of(call.services.webhooks.all(party, after, call.query.limit + 1), call.query.limit)
    next_ = to_cursor(found[-1].id) if more else None
    return Reply(200, WebhooksOut(webhooks=[webhook_out(each) for each in found], next=next_))


def read_webhook(call: Call[Nothing, Nothing]) -> Reply:
    """Read a webhook: its state, why it was disabled, since when it fails, how far it has come in the feed."""
    return Reply(200, webhook_out(_found(call, call.path["id"])))


def list_deliveries(call: Call[DeliveriesAsked, Nothing]) -> Reply:
    """List what is on its way to a receiver, or was, newest event first. What is done is shown for seven days."""
    asked, webhook = call.query, _found(call, call.path["id"])
    before = from_cursor(asked.cursor, tuple[int, int]) if asked.cursor else None
    query = DeliveryQuery(webhook=webhook.id, state=asked.state, before=before, limit=asked.limit + 1)
    found, more = page_of(call.services.webhooks.deliveries(query), asked.limit)
    shown = [
        DeliveryOut(
            event=f"{each.cell}:{each.number}" if each.number > 0 else None,
            state=each.state,
            attempts=each.attempts,
            due=each.due if each.state is DeliveryState.WAITING else None,
            changed_at=each.changed_at,
            status=each.status or None,
            reason=each.reason,
        )
        for each in found
    ]
    next_ = to_cursor(found[-1].cell, found[-1].number) if more else None
    return Reply(200, DeliveriesOut(deliveries=shown, next=next_))


def rotate(call: Call[Nothing, RotationIn]) -> Reply:
    """Give a webhook a new secret, shown once. The one before signs, too, for as long as is asked."""
    services, overlap = call.services, call.body.overlap_hours * HOUR

    def do(webhook: Webhook, change: Change) -> Reply:
        secret = rotate_secret(services.webhooks, services.random_bits, webhook.id, overlap, change)
        return _with_secret(200, _found(call, str(webhook.id)), secret)

    def again(known: Answer) -> Reply:
        return _with_secret(200, _found(call, known.reference), None)

    return _changed(call, "rotate", do, again)


def replay(call: Call[Nothing, ReplayIn]) -> Reply:
    """Send events again, under the same ids: all after a place, or those whose deliveries failed for good."""
    services, asked = call.services, call.body
    if bool(asked.after) == asked.failed:
        raise refused("replay_invalid", "say either after or failed", "after")
    place = _place(call, asked.after, services.feed.end()) if asked.after else {}

    def do(webhook: Webhook, change: Change) -> Reply:
        if asked.failed:
            services.webhooks.retry_failed(webhook.id, change)
        else:
            services.webhooks.go_back(webhook.id, place, change)
        return _now(call, str(webhook.id))

    return _changed(call, "replay", do, detail={"after": asked.after, "failed": asked.failed})


def ping(call: Call[Nothing, Nothing]) -> Reply:
    """Send a test event of type `webhook.ping`, signed like every other."""

    def do(webhook: Webhook, change: Change) -> Reply:
        if webhook.state is not WebhookState.ACTIVE:
            raise refused("not_allowed", f"the webhook is {webhook.state}: enable it first")
        number = -1 - call.services.random_bits(PING_BITS)
        call.services.webhooks.ping(webhook.id, min(call.services.cells), number, change)
        return _now(call, str(webhook.id))

    return _changed(call, "ping", do)


def pause(call: Call[Nothing, Nothing]) -> Reply:
    """Send nothing more until the webhook is enabled. Nothing is lost meanwhile."""

    def do(webhook: Webhook, change: Change) -> Reply:
        if webhook.state is WebhookState.DISABLED:
            raise refused("not_allowed", "the webhook is disabled, so nothing is sent already")
        call.services.webhooks.put(webhook.id, WebhookState.PAUSED, change)
        return _now(call, str(webhook.id))

    return _changed(call, "pause", do)


def enable(call: Call[Nothing, Nothing]) -> Reply:
    """Send again, from where it was paused or disabled on."""

    def do(webhook: Webhook, change: Change) -> Reply:
        call.services.webhooks.put(webhook.id, WebhookState.ACTIVE, change)
        return _now(call, str(webhook.id))

    return _changed(call, "enable", do)


def delete_webhook(call: Call[Nothing, Nothing]) -> Reply:
    """Delete a webhook with its secrets and deliveries. What is being sent at this moment may still arrive."""

    def do(webhook: Webhook, change: Change) -> Reply:
        call.services.webhooks.put(webhook.id, WebhookState.ENDED, change)
        return Reply(204, None)

    return _changed(call, "delete", do, lambda _known: Reply(204, None))


def _changed(
    call: Call[Nothing, Sent],
    action: str,
    do: Callable[[Webhook, Change], Reply],
    again: Callable[[Answer], Reply] | None = None,
    detail: dict[str, Json] | None = None,
) -> Reply:
    """A change under its key; that it is refused is kept under the key, too."""
    services, key = call.services, call.key

    def first() -> Reply:
        try:
            webhook = _found(call, call.path["id"])
            audit = Audit(call.actor.party, f"webhooks.{action}", str(webhook.id), detail or {})
            return do(webhook, Change(call.now, audit, kept(key, 200, str(webhook.id))))
        except Refused as refusal:
            answer = kept_refusal(key, Rejected(refusal.code, tuple(refusal.problems)))
            with services.books.transaction() as transaction:
                transaction.record(Effects(at=call.now, answers=[answer]))
            raise

    return once(services.books, key, first, again or (lambda known: _now(call, known.reference)), look_first=True)


def _found(call: Call[Asked, Sent], id_: str) -> Webhook:
    """A webhook that the token may see. Refuses one that is not there as it does one of somebody else."""
    try:
        found = call.services.webhooks.by_id(UUID(id_))
    except ValueError:
        found = None
    if found is None or (call.actor.role is not Role.ADMIN and found.party != call.actor.party):
        raise refused("webhook_unknown", f"there is no webhook '{id_}' of yours", "id")
    return found


def _place(call: Call[Nothing, Sent], text: str, end: dict[int, int]) -> dict[int, int]:
    """A place as it was written. Refuses one that lies ahead: what comes would be left out."""
    if text == "start":
        return dict.fromkeys(end, 0)
    place = read_place(text, "after", call.services.cells)
    if any(number > end.get(cell, 0) for cell, number in place.items()):
        raise refused("place_unknown", f"the feed has come to {written_place(end)}", "after")
    return place


def _now(call: Call[Nothing, Sent], id_: str) -> Reply:
    return Reply(200, webhook_out(_found(call, id_)))


def _with_secret(status: int, webhook: Webhook, secret: bytes | None) -> Reply:
    shown = None if secret is None else SECRET_PREFIX + base64.b64encode(secret).decode()
    headers = {"Location": f"/v1/webhooks/{webhook.id}"} if status == 201 else {}
    return Reply(status, SecretOut(webhook=webhook_out(webhook), secret=shown), headers)


def webhook_out(webhook: Webhook) -> WebhookOut:
    """A webhook as the API shows it."""
    return WebhookOut(
        id=webhook.id,
        party=webhook.party,
        url=webhook.url,
        types=list(webhook.types),
        state=webhook.state,
        reason=webhook.reason,
        place=written_place(webhook.place),
        made_at=webhook.made_at,
        former_secret_until=webhook.former_until,
        failing_since=webhook.failing_since,
    )
