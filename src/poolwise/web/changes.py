"""Changes of an order: cancelled in part or whole, amended, held and let go. Each answers with the order as it is then.

A cancellation and a pick that race have one winner; the other is refused, or told `cancelled`. A change that is refused
changes nothing, and says everything that is wrong with it, or why it comes too late.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from poolwise.core.messages import Address, LineChange, OrderAmendment, OrderCancellation
from poolwise.core.orders import Blocks, Hold
from poolwise.core.values import Refused
from poolwise.flows import change
from poolwise.flows.intake import Rejected
from poolwise.flows.ports import Answer
from poolwise.web.endpoint import Call, Nothing, Reply, Sent
from poolwise.web.forms import CURRENCY, Decimal, LongText, Text
from poolwise.web.idempotency import kept, kept_refusal, once
from poolwise.web.orders import MOST_LINES, AddressIn, LineIn, counter_of, found, line_of, shown

LineNo = Annotated[int, Meta(ge=1, le=MOST_LINES, description="The number of a line of the order.")]


class CancelledLineIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units of a line, in its item's own unit; without a quantity as many as can still be cancelled."""

    no: LineNo
    quantity: Decimal | None = None


class CancellationIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is not wanted any more; without `lines` all that can still be cancelled of the order."""

    lines: Annotated[list[CancelledLineIn], Meta(max_length=MOST_LINES)] = []
    reason: LongText = ""


class AmendedLineIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is wanted of a line in all, what has left included. With `item`: another item in place of what can
    still be given up of it, as much as that or as `quantity` says."""

    no: LineNo
    quantity: Decimal | None = None
    item: Annotated[str, Meta(max_length=200)] = ""


class AmendmentIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; what is left out stays. `add` are more lines."""

    lines: Annotated[list[AmendedLineIn], Meta(max_length=MOST_LINES)] = []
    add: Annotated[list[LineIn], Meta(max_length=MOST_LINES)] = []
    ship_to: AddressIn | None = None
    zone: Text = ""
    service_level: Text = ""
    requested_date: date | None = None
    currency: Annotated[str, Meta(max_length=3, pattern=CURRENCY, description="ISO 4217, of prices in `add`.")] = ""
    reason: LongText = ""


class HoldIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reason not to proceed, by a code of yours, and what it blocks: that the order is sourced, or released."""

    code: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
    blocks: Annotated[list[Blocks], Meta(min_length=1, max_length=len(Blocks))]
    reason: LongText = ""


def create_cancellation(call: Call[Nothing, CancellationIn]) -> Reply:
    """Cancel units of an order: what waits first, then what is pledged, planned, and released.

    What is picked, or has left, cannot be cancelled any more (409 `too_late`, with how much of it still could be).
    """
    sent = call.body
    lines = tuple([LineChange(no=line.no, quantity=line.quantity) for line in sent.lines])

    def do(number: str, keep: change.Kept) -> change.Outcome:
        message = OrderCancellation(order=number, lines=lines, reason=sent.reason)
        return change.cancel(call.services.books, counter_of(call), message, call.now, keep)

    return _changed(call, do)


def create_amendment(call: Call[Nothing, AmendmentIn]) -> Reply:
    """Amend an order: quantities, items, more lines, destination, service level, requested day.

    More is sourced like any demand, less is cancelled. With another destination, service level or day all that is not
    picked yet is planned anew; while something is picked and has not left, that is too late (409 `too_late`).
    """
    sent = call.body

    def do(number: str, keep: change.Kept) -> change.Outcome:
        message = OrderAmendment(
            order=number,
            lines=tuple([LineChange(no=line.no, quantity=line.quantity, item=line.item) for line in sent.lines]),
            add=tuple([line_of(line) for line in sent.add]),
            zone=sent.zone,
            ship_to=None if sent.ship_to is None else Address(**msgspec.structs.asdict(sent.ship_to)),
            service_level=sent.service_level,
            requested_date=sent.requested_date,
            currency=sent.currency,
            reason=sent.reason,
        )
        return change.amend(call.services.books, counter_of(call), message, call.now, keep)

    return _changed(call, do)


def create_hold(call: Call[Nothing, HoldIn]) -> Reply:
    """Hold an order: it blocks what it names and nothing else, and stock stays reserved. The same code replaces it."""
    sent = call.body
    held = Hold(sent.code, tuple(sorted(set(sent.blocks))))

    def do(number: str, keep: change.Kept) -> change.Outcome:
        return change.hold(call.services.books, counter_of(call), number, held, sent.reason, call.now, keep)

    return _changed(call, do)


def lift_hold(call: Call[Nothing, Nothing]) -> Reply:
    """Let an order go on. What other holds block stays blocked."""

    def do(number: str, keep: change.Kept) -> change.Outcome:
        return change.lift(call.services.books, counter_of(call), number, call.path["code"], "", call.now, keep)

    return _changed(call, do)


def _changed(call: Call[Nothing, Sent], do: Callable[[str, change.Kept], change.Outcome]) -> Reply:
    """A change under its key, and the order as it is then."""
    number = found(call, call.path["number"]).record.order.number

    def keep(outcome: change.Outcome) -> Answer:
        if isinstance(outcome, Rejected):
            return kept_refusal(call.key, outcome)
        return kept(call.key, 200, number)

    def first() -> Reply:
        outcome = do(number, keep)
        if isinstance(outcome, Rejected):
            raise Refused(outcome.code, outcome.problems)
        return shown(call, number)

    return once(call.services.books, call.key, first, lambda _: shown(call, number), look_first=True)
