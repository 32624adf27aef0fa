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

from poolwise.core.messages import Address, LineChange, OrderAmendment, OrderCancellation, OrderDivision, OrderJoin
from poolwise.core.orders import Blocks, Hold
from poolwise.core.values import Refused
from poolwise.flows import change, regroup
from poolwise.flows.intake import Rejected
from poolwise.flows.ports import Answer
from poolwise.web.endpoint import Call, Nothing, Reply, Sent
from poolwise.web.forms import CURRENCY, HOLD, Code, Decimal, LongText, Text
from poolwise.web.idempotency import kept, kept_refusal, once
from poolwise.web.orders import MOST_LINES, AddressIn, LineIn, counter_of, line_of, shown

LineNo = Annotated[int, Meta(ge=1, le=MOST_LINES, description="The number of a line of the order.")]


class CancelledLineIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units of a line, in its item's own unit; without a quantity as many as can still be cancelled."""

    no: LineNo
    quantity: Decimal | None = None


class CancellationIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is not wanted any more; without `lines` all that can still be cancelled of the order."""

    lines: Annotated[list[CancelledLineIn], Meta(min_length=1, max_length=MOST_LINES)] | None = None
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
    collect_at: Text = ""
    service_level: Text = ""
    requested_date: date | None = None
    currency: Annotated[str, Meta(max_length=3, pattern=CURRENCY, description="ISO 4217, of prices in `add`.")] = ""
    reason: LongText = ""


class HoldIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reason not to proceed, by a code of yours, and what it blocks: that the order is sourced, or released."""

    code: Annotated[str, Meta(pattern=HOLD)]
    blocks: Annotated[list[Blocks], Meta(min_length=1, max_length=len(Blocks))]
    reason: LongText = ""


class DivisionIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new order, by its number, of units of some lines; without a quantity all of a line that no node has in hand."""

    number: Code
    lines: Annotated[list[CancelledLineIn], Meta(min_length=1, max_length=MOST_LINES)]
    reason: LongText = ""


class JoinIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The number of the order of which all becomes part of this one."""

    other: Code
    reason: LongText = ""


def create_cancellation(call: Call[Nothing, CancellationIn]) -> Reply:
    """Cancel units of an order: what waits first, then what is pledged, planned, and released.

    What is picked, or has left, cannot be cancelled any more (409 `too_late`, with how much of it still could be).
    """
    sent = call.body
    lines = tuple([LineChange(no=line.no, quantity=line.quantity) for line in sent.lines or ()])

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
            collect_at=sent.collect_at,
            service_level=sent.service_level,
            requested_date=sent.requested_date,
            currency=sent.currency,
            reason=sent.reason,
        )
        return change.amend(call.services.books, counter_of(call), message, call.now, keep)

    return _changed(call, do)


def create_division(call: Call[Nothing, DivisionIn]) -> Reply:
    """Divide an order in two, with what is reserved and planned for it. Answers with the new one.

    What a node has in hand, or has sent, stays where it is.
    """
    sent = call.body
    lines = tuple([LineChange(no=line.no, quantity=line.quantity) for line in sent.lines])

    def do(number: str, keep: change.Kept) -> change.Outcome:
        message = OrderDivision(order=number, number=sent.number, lines=lines, reason=sent.reason)
        return regroup.divide(call.services.books, counter_of(call), message, call.now, keep)

    return _changed(call, do, sent.number)


def create_join(call: Call[Nothing, JoinIn]) -> Reply:
    """Join another order to this one, with what is reserved and planned for it; the other is cancelled.

    Both go to the same zone, for the same customer and on the same terms, and no node has any of the other in hand.
    """
    sent = call.body

    def do(number: str, keep: change.Kept) -> change.Outcome:
        message = OrderJoin(order=number, other=sent.other, reason=sent.reason)
        return regroup.join(call.services.books, counter_of(call), message, call.now, keep)

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


def _changed(call: Call[Nothing, Sent], do: Callable[[str, change.Kept], change.Outcome], new: str = "") -> Reply:
    """A change under its key, and the order as it is then; the `new` one, if there is one."""
    view = call.services.views.order(call.path["number"])
    # That there is no such order is refused by the flow, and kept under the key.
    number = call.path["number"] if view is None else view.record.order.number
    told = new or number

    def keep(outcome: change.Outcome) -> Answer:
        if isinstance(outcome, Rejected):
            return kept_refusal(call.key, outcome)
        return kept(call.key, 200, told)

    def first() -> Reply:
        outcome = do(number, keep)
        if isinstance(outcome, Rejected):
            raise Refused(outcome.code, outcome.problems)
        return shown(call, told)

    return once(call.services.books, call.key, first, lambda _: shown(call, told), look_first=True)
