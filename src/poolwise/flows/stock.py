"""Physical stock: what nodes count and report is booked, never refused for what it says.

Keeps laws 1, 4, 5, 9 and 12. A small flow: it locks its positions first, in key order; decides with `core.counting`;
records movements, count marks, broken and woken demand, events and the audit row in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from poolwise.core.counting import IN_DEBT, OWN_LOT, Statement
from poolwise.core.ledger import Account, Cause, PositionKey
from poolwise.core.messages import StockCount, StockMovement
from poolwise.core.values import LARGEST_QUANTITY, Fault, Json, Quantity, parse_scaled, replace
from poolwise.flows.ports import Answer, Books, CountMark, Transaction
from poolwise.flows.tallying import MOST_STATEMENTS, Clerk, Room, Wanted, in_transaction, untimely

REPORTABLE: Final = (Account.OUTSIDE, *IN_DEBT)
"""The accounts a node may name in a movement; the others follow from what we decide."""


class Outcome(StrEnum):
    """What became of a statement about stock."""

    BOOKED = "booked"
    UNCHANGED = "unchanged"
    STALE = "stale"
    DUPLICATE = "duplicate"
    CANCELLED = "cancelled"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one statement; refused ones say why."""

    outcome: Outcome
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """A count whose form is right: which position, with its number, how much in base units.

    `as_of` is when it counts: never in the future, and never before an older statement. `known_as_of` and `sequence`
    are what later statements are compared with.
    """

    key: PositionKey
    position: int
    quantity: Quantity
    message: StockCount
    as_of: datetime
    known_as_of: datetime
    sequence: int | None


def book_counts(
    books: Books,
    clerk: Clerk,
    counts: Sequence[StockCount],
    now: datetime,
    messages_seen: Sequence[tuple[str, str]] = (),
    answer: Callable[[Sequence[Result]], Answer] | None = None,
) -> list[Result]:
    """Book absolute counts; one result for each, in order. Of several counts of a position the newest counts.

    `messages_seen` are recorded in the same commit: an importer marks there how far it has come. `answer` makes of the
    results what is kept as the answer; it commits with them, as in all flows of this kind.
    """
    assert len(counts) <= MOST_STATEMENTS
    read = [_counted(clerk, count, now) for count in counts]

    def work(transaction: Transaction, wanted: Wanted, at: datetime) -> list[Result]:
        keys = {found.key: found.message.expires_on for found in read if isinstance(found, Counted)}
        room = Room(transaction, clerk, wanted, keys, at)
        known = transaction.count_marks({found.position for found in read if isinstance(found, Counted)})
        results, newest = _newest(known, read, at)
        then = room.as_of({found.key: found.as_of for found in newest.values()})
        for place, found in newest.items():
            tally = room.tally(found.key)
            before = len(tally.movements)
            said = Statement(Cause.COUNT, room.batch, found.as_of)
            doubt = _doubt(known.get(found.position), found.known_as_of)
            tally.count(*then[found.key], found.message.basis, found.quantity, said, doubt)
            results[place] = Result(Outcome.BOOKED if len(tally.movements) > before else Outcome.UNCHANGED)
        marks = [
            CountMark(clerk.cell_of(found.key.node), found.position, found.known_as_of, found.sequence)
            for found in newest.values()
        ]
        told = [results[place] for place in range(len(read))]
        room.answer(told, answer)
        if newest or messages_seen:
            detail: dict[str, Json] = {"counts": len(counts), "newer": len(newest)}
            room.record("stock.count", detail, marks, messages_seen)
        return told

    return in_transaction(books, now, work)


def book_movements(
    books: Books,
    clerk: Clerk,
    movements: Sequence[StockMovement],
    now: datetime,
    messages_seen: Sequence[tuple[str, str]] = (),
    answer: Callable[[Sequence[Result]], Answer] | None = None,
) -> list[Result]:
    """Book changes that nodes report; one result for each, in order. Each id has its effect once, in any order."""
    assert len(movements) <= MOST_STATEMENTS
    read = [_changed(clerk, movement, now) for movement in movements]

    def work(transaction: Transaction, wanted: Wanted, at: datetime) -> list[Result]:
        valid = [found for found in read if isinstance(found, Changed)]
        keys: dict[PositionKey, date | None] = dict.fromkeys(
            key for found in valid for key in (found.key, found.to_key) if key
        )
        room = Room(transaction, clerk, wanted, keys, at)
        marks = transaction.count_marks([key.id() for key in keys])
        ids = [(clerk.actor, found.message.id) for found in valid]
        seen = set(transaction.seen(ids))
        results: list[Result] = []
        new: list[tuple[str, str]] = []
        for found in read:
            if isinstance(found, Result):
                results.append(found)
            elif (clerk.actor, found.message.id) in seen:
                results.append(Result(Outcome.DUPLICATE))
            else:
                seen.add((clerk.actor, found.message.id))
                new.append((clerk.actor, found.message.id))
                _book(room, found, marks)
                results.append(Result(Outcome.BOOKED))
        room.answer(results, answer)
        if new or messages_seen:
            room.record("stock.move", {"movements": len(new)}, messages_seen=[*new, *messages_seen])
        return results

    return in_transaction(books, now, work)


# --- counts -------------------------------------------------------------------------------------------------------


def _counted(clerk: Clerk, count: StockCount, now: datetime) -> Counted | Result:
    faults: list[Fault] = []
    key = position_key(clerk, count.item, count.node, count.pool, count.lot, faults)
    quantity = quantity_of(clerk, key, "quantity", count.quantity, faults)
    faults += untimely("as_of", count.as_of, now)
    if faults or key is None or quantity is None:
        return Result(Outcome.REFUSED, tuple(faults))
    return Counted(key, key.id(), quantity, count, min(count.as_of, now), count.as_of, count.sequence)


def _newest(
    marks: Mapping[int, CountMark], read: Sequence[Counted | Result], now: datetime
) -> tuple[dict[int, Result], dict[int, Counted]]:
    """Results of the counts that are refused, stale or repeated, and the others, by their place; one per position."""
    known = {id_: (mark.as_of, mark.sequence) for id_, mark in marks.items()}
    results: dict[int, Result] = {}
    newest: dict[int, tuple[int, Counted]] = {}
    for place, found in enumerate(read):
        if isinstance(found, Result):
            results[place] = found
            continue
        id_ = found.position
        if id_ in known:
            outcome = compared(found.known_as_of, found.sequence, *known[id_])
            if outcome is not None:
                results[place] = Result(outcome)
                continue
        newer = _after(found, *known[id_], now) if id_ in known else found
        if id_ in newest:
            results[newest[id_][0]] = Result(Outcome.STALE)
        newest[id_] = (place, newer)
        known[id_] = (newer.known_as_of, newer.sequence)
    return results, dict(sorted(newest.values()))


def _doubt(mark: CountMark | None, as_of: datetime) -> Quantity:
    """Units that a count of this instant is the first to settle."""
    return mark.doubt if mark is not None and mark.doubted_at is not None and mark.doubted_at < as_of else 0


def _after(found: Counted, known_as_of: datetime, known_sequence: int | None, now: datetime) -> Counted:
    """A count that is newer by its sequence than one with a later time is as of that time: the sequence rules."""
    if known_as_of <= found.as_of and found.sequence is not None:
        return found
    return replace(
        found,
        as_of=min(max(found.as_of, known_as_of), now),
        known_as_of=max(found.known_as_of, known_as_of),
        sequence=known_sequence if found.sequence is None else found.sequence,
    )


def compared(
    as_of: datetime, sequence: int | None, known_as_of: datetime, known_sequence: int | None
) -> Outcome | None:
    """STALE or DUPLICATE when a statement is not newer than the one known; None when it is.

    Sequences are compared where both have one, else the times.
    """
    if sequence is not None and known_sequence is not None:
        difference = sequence - known_sequence
    else:
        difference = (as_of > known_as_of) - (as_of < known_as_of)
    if difference > 0:
        return None
    return Outcome.DUPLICATE if difference == 0 else Outcome.STALE


# --- movements ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changed:
    """A reported movement whose form is right."""

    key: PositionKey
    to_key: PositionKey | None
    source: Account
    target: Account
    quantity: Quantity
    message: StockMovement
    at: datetime


def _changed(clerk: Clerk, movement: StockMovement, now: datetime) -> Changed | Result:
    faults: list[Fault] = []
    key = position_key(clerk, movement.item, movement.node, movement.pool, movement.lot, faults)
    to_key = None
    if movement.to_node or movement.to_pool:
        node, pool = movement.to_node or movement.node, movement.to_pool or movement.pool
        to_key = position_key(clerk, movement.item, node, pool, movement.lot, faults)
        to_key = None if to_key == key else to_key
    quantity = quantity_of(clerk, key, "quantity", movement.quantity, faults)
    if quantity == 0:
        faults.append(Fault("quantity", "must be more than 0"))
    source, target = _account("source", movement.source, faults), _account("target", movement.target, faults)
    if to_key is None and source is target:
        faults.append(Fault("target", "is the source itself"))
    if to_key is not None and Account.OUTSIDE in (source, target):
        faults.append(Fault("to_node", "stock that goes to another position neither comes from outside nor goes there"))
    if not movement.id or len(movement.id) > 200:
        faults.append(Fault("id", "is 1 to 200 characters"))
    faults += untimely("at", movement.at, now)
    if faults or key is None or quantity is None or source is None or target is None:
        return Result(Outcome.REFUSED, tuple(faults))
    return Changed(key, to_key, source, target, quantity, movement, min(movement.at, now))


def _account(field: str, text: str, faults: list[Fault]) -> Account | None:
    for account in REPORTABLE:
        if account.value == text:
            return account
    faults.append(Fault(field, f"is none of {', '.join(account.value for account in REPORTABLE)}"))
    return None


def _book(room: Room, found: Changed, marks: Mapping[int, CountMark]) -> None:
    said = Statement(Cause.STOCK, room.batch, found.at)
    tally = room.tally(found.key)
    here = is_counted(marks.get(found.key.id()), found.message.at)
    if found.to_key is None:
        tally.change(found.source, found.target, found.quantity, said, counted=here)
        return
    there = is_counted(marks.get(found.to_key.id()), found.message.at)
    taker = room.tally(found.to_key)
    tally.send(found.source, found.target, found.quantity, taker, said, counted_here=here, counted_there=there)


def is_counted(mark: CountMark | None, at: datetime) -> bool:
    """Whether the newest count of a position is newer than a change, so that it has seen it already."""
    return mark is not None and at < mark.as_of


# --- form ---------------------------------------------------------------------------------------------------------


def position_key(clerk: Clerk, item: str, node: str, pool: str, lot: str, faults: list[Fault]) -> PositionKey | None:
    """The position that a statement is about; None, with faults, when a part of it is not known."""
    code = clerk.item(item)
    network = clerk.edition.network
    if code is None:
        faults.append(Fault("item", f"there is no item '{item}'"))
    if node not in network.nodes:
        faults.append(Fault("node", f"there is no node '{node}'"))
    if pool not in network.pools:
        faults.append(Fault("pool", f"there is no pool '{pool}'"))
    if lot.startswith(OWN_LOT):
        faults.append(Fault("lot", f"no lot of a sender begins with {OWN_LOT}"))
    if code is None or node not in network.nodes or pool not in network.pools or lot.startswith(OWN_LOT):
        return None
    return PositionKey(code, node, pool, lot)


def quantity_of(clerk: Clerk, key: PositionKey | None, field: str, text: str, faults: list[Fault]) -> Quantity | None:
    """Base units of a quantity in the item's own unit; None, with a fault, when it is not a lawful one."""
    if key is None:
        return None
    try:
        quantity = parse_scaled(text, clerk.edition.catalog.items[key.item].scale)
    except ValueError as error:
        faults.append(Fault(field, str(error)))
        return None
    if not 0 <= quantity <= LARGEST_QUANTITY:
        faults.append(Fault(field, f"{text} is not between 0 and {LARGEST_QUANTITY} base units"))
        return None
    return quantity
