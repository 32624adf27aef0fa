"""What a customer is shown of an order, and may do to it: links that cannot be forged, why it comes in parts, changes.

A link holds the order's id and when it ends, signed with a key of this installation; nothing else is kept of it. One
that was tampered with, has ended, or was signed with a key that is no longer ours names no order, whatever it says.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final, Protocol
from uuid import UUID

from poolwise.core.fulfilment import HELD_BACK, MAY_GO, Stage
from poolwise.core.messages import Address, LineChange, OrderAmendment, OrderCancellation
from poolwise.core.policy.terms import CustomerAct, CustomerTerms, Until
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.rivals import MOST_LINES, rivals
from poolwise.core.values import Refused
from poolwise.flows import change
from poolwise.flows.explain import Library, recall
from poolwise.flows.intake import Counter
from poolwise.flows.ports import Answer, Audit, Books, Effects

CUSTOMER: Final = "customer"
"""Who changes an order through its page, as the audit names him: the link does not say which person it is."""

KEY_BITS: Final = 256
MOST_COMPARED: Final = 5
"""Plans of more shipments are not compared with others: nobody wonders then, and it takes long."""

_SIGNATURE_BYTES: Final = 16
_LINK: Final = re.compile(r"[A-Za-z0-9_-]{48}")
_PURPOSE: Final = b"poolwise tracking link 1\0"


class LinkKeys(Protocol):
    """Where the key that links are signed with is kept."""

    def key(self) -> bytes | None:
        """The key that is ours now; None before there was one."""

    def begin(self, fresh: bytes, now: datetime, actor: str) -> bytes:
        """The key that is ours now: `fresh`, where there was none."""

    def renew(self, fresh: bytes, now: datetime, audit: Audit) -> None:
        """Put another key in its place: no link that was given out before opens anything any more."""


def fresh_key(random_bits: Callable[[int], int]) -> bytes:
    """A key that nobody can guess; `random_bits(n)` gives n secret random bits."""
    return random_bits(KEY_BITS).to_bytes(KEY_BITS // 8)


def link_to(key: bytes, order: UUID, expires_at: datetime) -> str:
    """The part of a link that names the order: 48 characters that fit into any URL."""
    told = order.bytes + int(expires_at.timestamp()).to_bytes(4)
    return base64.urlsafe_b64encode(told + _signature(key, told)).decode()


def order_behind(key: bytes | None, text: str, now: datetime) -> UUID | None:
    """The order that a link leads to; None for every other text, and for a link that has ended."""
    if key is None or _LINK.fullmatch(text) is None:
        return None
    told, signature = (raw := base64.urlsafe_b64decode(text))[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(key, told)) or now >= ends_at(text):
        return None
    return UUID(bytes=told[:16])


def ends_at(text: str) -> datetime:
    """When a link ends that was signed by us."""
    return datetime.fromtimestamp(int.from_bytes(base64.urlsafe_b64decode(text)[16:20]), UTC)


def _signature(key: bytes, told: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + told, sha256)[:_SIGNATURE_BYTES]


def keep_answer(books: Books, answers: Sequence[Answer], now: datetime, *audit: Audit) -> None:
    """Keep the answer to a request that changes nothing else: a link, or why there is none, and who was given it."""
    with books.transaction() as transaction:
        transaction.record(Effects(at=now, answers=answers, audit=audit))


# --- why it comes in parts


class Why(StrEnum):
    """Why an order comes in several parts."""

    NOT_TOGETHER = "not_together"
    SOONER = "sooner"
    LESS_EFFORT = "less_effort"
    NOT_FOUND = "not_found"
    FOLLOWS = "follows"


def why_in_parts(books: Books, library: Library, order: UUID) -> tuple[Why, ...]:
    """Why an order was planned in several shipments: worked out from its decisions, as explanations are (law 8)."""
    try:
        newest, _ = recall(books, library, order)
        first, atlas = recall(books, library, order, 1) if newest.decision.attempt > 1 else (newest, _)
    except Refused:
        return ()  # a basket's, or decided before it was divided: there is nothing of its own to recall
    found = []
    plan, problem = first.plan, first.problem
    if 1 < len(plan.shipments) <= MOST_COMPARED and len(problem.demand.open) <= MOST_LINES:
        fewer = [
            rival.plan
            for rival in rivals(problem, atlas, plan)
            if rival.barred is None and len(rival.plan.shipments) < len(plan.shipments)
        ]
        found.append(_why(plan, [other for other in fewer if _lacks(other) <= _lacks(plan)]))
    if newest is not first and newest.plan.shipments:
        found.append(Why.NOT_FOUND if newest.declined else Why.FOLLOWS)
    return tuple(found)


def _why(plan: Plan, fewer: list[Plan]) -> Why:
    if not fewer:
        return Why.NOT_TOGETHER
    return Why.SOONER if min(_comes(other) for other in fewer) > _comes(plan) else Why.LESS_EFFORT


def _lacks(plan: Plan) -> int:
    return sum(entry.quantity for entry in plan.unserved)


def _comes(plan: Plan) -> date:
    return max(shipment.arrive_by for shipment in plan.shipments)


# --- what a customer may do


@dataclass(frozen=True, slots=True)
class Wish:
    """What a customer asks for: of a `line` so many units less, in its own unit; the order by another `day`, or to
    another `address`."""

    act: CustomerAct
    line: int = 0
    less: str = ""
    day: date | None = None
    address: Address | None = None


def stages_open(terms: CustomerTerms) -> frozenset[Stage]:
    """The stages of shipments that a customer may still take something from."""
    return HELD_BACK if terms.until is Until.RELEASED else MAY_GO


def do_wish(
    books: Books,
    counter: Counter,
    number: str,
    wish: Wish,
    now: datetime,
    today: date,
    kept: Callable[[change.Outcome], Answer],
) -> change.Outcome:
    """Change an order as its customer wishes, as far as the policy in force lets him. Refuses what it does not.

    `today` is the day in the zone of the order: one that is over there cannot be asked for.
    It is the same change as anybody's: one transaction, judged by where each shipment is at that moment. Of nothing
    it makes more, so that a link costs nobody money.
    """
    terms = counter.policy.customers
    if wish.act not in terms.may:
        raise Refused.one("not_allowed", "act", f"the policy lets customers do {', '.join(terms.may) or 'nothing'}")
    may_go = stages_open(terms)
    if wish.act in (CustomerAct.CANCEL, CustomerAct.FEWER):
        lines = (LineChange(no=wish.line, quantity=wish.less),) if wish.act is CustomerAct.FEWER else ()
        return change.cancel(books, counter, OrderCancellation(order=number, lines=lines), now, kept, may_go)
    if wish.day is not None and wish.day < today:
        raise Refused.one("change_invalid", "day", "is over already")
    amended = OrderAmendment(order=number, requested_date=wish.day, ship_to=wish.address)
    return change.amend(books, counter, amended, now, kept, may_go)
