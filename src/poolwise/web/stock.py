"""Stock as nodes and suppliers state it: counts, movements, receipts. Each statement has an outcome of its own.

A statement is refused only for its form; what it says is booked (law 9). Counts are ordered by sequence or time,
movements have ids, receipts have sequences: each has its effect once, under whatever key it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from poolwise.core.messages import CountBasis, ReceiptNotice, StockCount, StockMovement
from poolwise.flows.ports import Answer
from poolwise.flows.receipts import book_receipts
from poolwise.flows.stock import Outcome, Result, book_counts, book_movements
from poolwise.flows.tallying import Clerk
from poolwise.web.endpoint import Call, Nothing, Reply, Sent
from poolwise.web.errors import Problem
from poolwise.web.forms import Code, Decimal, Text
from poolwise.web.idempotency import kept, once

MOST_STATEMENTS: Final = 1_000

Instant = Annotated[datetime, Meta(tz=True, description="With its zone, for example 2026-11-23T10:00:00Z.")]
Sequence_ = Annotated[int, Meta(ge=0, le=2**62)]


class CountIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a node has counted at a position, and when. An older statement than the newest is ignored."""

    item: Code
    node: Code
    pool: Code
    quantity: Decimal
    as_of: Instant
    lot: Text = ""
    basis: CountBasis = CountBasis.ON_HAND
    expires_on: date | None = None
    sequence: Sequence_ | None = None


class MovementIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change at a position, by an id of yours: booked once, in any order.

    `source` and `target` are accounts: outside, in_transit, available, blocked. With `to_node` or `to_pool` it ends at
    another position.
    """

    id: Code
    item: Code
    node: Code
    pool: Code
    quantity: Decimal
    source: Code
    target: Code
    at: Instant
    lot: Text = ""
    to_node: Text = ""
    to_pool: Text = ""


class ReceiptIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is expected at a position, by the supplier's reference. A later sequence replaces an earlier one."""

    reference: Code
    item: Code
    node: Code
    pool: Code
    quantity: Decimal
    due_on: date
    lot: Text = ""
    arrived: Decimal = "0"
    cancelled: bool = False
    announced: bool = False
    sequence: Sequence_ = 0


class CountsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counts of positions."""

    counts: Annotated[list[CountIn], Meta(min_length=1, max_length=MOST_STATEMENTS)]


class MovementsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes at positions."""

    movements: Annotated[list[MovementIn], Meta(min_length=1, max_length=MOST_STATEMENTS)]


class ReceiptsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Notices of inbound stock."""

    receipts: Annotated[list[ReceiptIn], Meta(min_length=1, max_length=MOST_STATEMENTS)]


class StatementOut(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one statement; `problems` says why it was refused."""

    outcome: Outcome
    problems: list[Problem]


class StatementsOut(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome for each statement, in order, and how many were refused."""

    refused: int
    outcomes: list[StatementOut]


def create_counts(call: Call[Nothing, CountsIn]) -> Reply:
    """Book counts. Each is compared with the balance as of its time, so that later movements survive."""
    counts = [StockCount(**msgspec.structs.asdict(count)) for count in call.body.counts]
    books = call.services.books
    return _booked(call, lambda clerk, answer: book_counts(books, clerk, counts, call.now, answer=answer))


def create_movements(call: Call[Nothing, MovementsIn]) -> Reply:
    """Book movements. Each id is booked once, in whatever order they come."""
    movements = [StockMovement(**msgspec.structs.asdict(movement)) for movement in call.body.movements]
    books = call.services.books
    return _booked(call, lambda clerk, answer: book_movements(books, clerk, movements, call.now, answer=answer))


def create_receipts(call: Call[Nothing, ReceiptsIn]) -> Reply:
    """Book notices of inbound stock: what is expected, what of it has arrived, what will not come."""
    notices = [ReceiptNotice(**msgspec.structs.asdict(notice)) for notice in call.body.receipts]
    books = call.services.books
    return _booked(call, lambda clerk, answer: book_receipts(books, clerk, notices, call.now, answer=answer))


def _booked(
    call: Call[Nothing, Sent],
    book: Callable[[Clerk, Callable[[Sequence[Result]], Answer]], Sequence[Result]],
) -> Reply:
    """Book under the key. The outcomes are the answer on record, so that a repeated request gets the same ones."""
    services = call.services
    clerk = Clerk(services.rules.current().edition, services.ids, call.actor.party)

    def keep(results: Sequence[Result]) -> Answer:
        return kept(call.key, 200, msgspec.json.encode(statements_out(results)).decode())

    def do() -> Reply:
        return Reply(200, statements_out(book(clerk, keep)))

    def again(known: Answer) -> Reply:
        return Reply(200, msgspec.json.decode(known.reference, type=StatementsOut))

    return once(services.books, call.key, do, again, look_first=True)


def statements_out(results: Sequence[Result]) -> StatementsOut:
    """Outcomes as the API shows them."""
    return StatementsOut(
        refused=sum(result.outcome is Outcome.REFUSED for result in results),
        outcomes=[
            StatementOut(
                outcome=result.outcome,
                problems=[Problem(field=fault.field, reason=fault.reason) for fault in result.faults],
            )
            for result in results
        ],
    )
