"""Goods that come back: what may, where to, of which original, what becomes of them, and what is refunded.

A return is announced, received, inspected and closed; its state follows from what has happened, and goods that are
there are received whatever was said of them. A unit that came back names the reservation it had left by, and no
reservation gets back more than had left (law 6): what is beyond that has no original, and nothing is due for it.
What is said of units before they are there is kept until they are, so that messages may come in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Final, NamedTuple
from uuid import UUID

from msgspec import Struct

from poolwise.core.catalog import Bill
from poolwise.core.fulfilment import Stage
from poolwise.core.ledger import PositionKey, Reservation
from poolwise.core.network import Node, NodeStatus
from poolwise.core.orders import Line
from poolwise.core.policy.terms import Disposition, ReturnTerms
from poolwise.core.values import MILLION, Money, Quantity, divide_rounded, replace


class ReturnState(StrEnum):
    """Where a return stands. What is `RECEIVED` waits for somebody to look at it; of one that is `INSPECTED` all that
    came has its place, and more is expected. Nothing came of one that is `CANCELLED` or `REFUSED`.
    """

    ANNOUNCED = "announced"
    RECEIVED = "received"
    INSPECTED = "inspected"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    REFUSED = "refused"


_THERE: Final = frozenset({ReturnState.RECEIVED, ReturnState.INSPECTED, ReturnState.CLOSED})

TRANSITIONS: Final[dict[ReturnState, frozenset[ReturnState]]] = {
    ReturnState.ANNOUNCED: _THERE | {ReturnState.CANCELLED, ReturnState.REFUSED},
    ReturnState.RECEIVED: frozenset({ReturnState.INSPECTED, ReturnState.CLOSED}),
    ReturnState.INSPECTED: frozenset({ReturnState.RECEIVED, ReturnState.CLOSED}),
    ReturnState.CLOSED: frozenset({ReturnState.RECEIVED, ReturnState.INSPECTED}),
    ReturnState.CANCELLED: _THERE,
    ReturnState.REFUSED: _THERE,
}
"""The states that may follow. Goods may come to a return that is over, and are there then."""

ENDINGS: Final = frozenset({ReturnState.CLOSED, ReturnState.CANCELLED, ReturnState.REFUSED})
"""What a person may say of a return of which nothing more is expected."""


class Ineligible(StrEnum):
    """Why units may not come back, in order of precedence."""

    NOT_SHIPPED = "not_shipped"
    MORE_THAN_SHIPPED = "more_than_shipped"
    WINDOW_OVER = "window_over"
    NOT_RETURNABLE = "not_returnable"


class Sent(NamedTuple):
    """What has left by one reservation: the original of what comes back of it. `quantity` may be 0.

    So many `line_units` of its line are served by `units` of it: of a part of a kit, with the other parts, whose items
    are all in `kit`.
    """

    line_no: int
    reservation_no: int
    shipment_no: int
    key: PositionKey
    expires_on: date | None
    quantity: Quantity
    left_at: datetime | None
    line_units: int
    units: int
    kit: tuple[str, ...] = ()


class ReturnLine(Struct, frozen=True, gc=False):
    """Units of an item that are announced, of a line of the order."""

    line_no: int
    item: str
    quantity: Quantity
    reason: str = ""


class Disposed(Struct, frozen=True, gc=False):
    """What became of some units, and the share of their price that is due for it. `pool` and `lot` are those of
    B-grade."""

    disposition: Disposition
    quantity: Quantity
    refund_ppm: int
    supplier: str = ""
    pool: str = ""
    lot: str = ""


class Part(Struct, frozen=True, gc=False):
    """Units that came back to a position, by the reservation they had left by (0: none that we know of)."""

    line_no: int
    item: str
    node: str
    pool: str
    lot: str
    reservation_no: int
    shipment_no: int
    quantity: Quantity
    line_units: int = 0
    units: int = 0
    kit: tuple[str, ...] = ()
    disposed: tuple[Disposed, ...] = ()

    @property
    def key(self) -> PositionKey:
        """Where they are, until it is decided what becomes of them."""
        return PositionKey(self.item, self.node, self.pool, self.lot)

    @property
    def held(self) -> Quantity:
        """Units that nobody has decided about: they are blocked."""
        return self.quantity - sum(each.quantity for each in self.disposed)

    @property
    def original(self) -> tuple[int, int, str, str, str, str]:
        """What makes it one with others."""
        return self.line_no, self.reservation_no, self.item, self.node, self.pool, self.lot


class Kept(Struct, frozen=True, gc=False):
    """What was said of units at a node that are not there yet."""

    line_no: int
    item: str
    node: str
    at: datetime
    what: Disposed


class Exchange(Struct, frozen=True, gc=False):
    """The order that replaces what comes back, and what it is worth; None where a price of it is not known."""

    order: UUID
    number: str
    value: Money | None


class Return(Struct, frozen=True, gc=False):
    """A return of an order, by the sender's number. Without `lines` nobody has announced it.

    `policy` is the version it was announced or received under; `ended` what somebody has said of it.
    """

    id: UUID
    number: str
    node: str
    opened_at: datetime
    policy: str
    policy_version: int
    lines: tuple[ReturnLine, ...] = ()
    parts: tuple[Part, ...] = ()
    kept: tuple[Kept, ...] = ()
    ended: ReturnState | None = None
    exchange: Exchange | None = None
    state: ReturnState = ReturnState.ANNOUNCED

    def came(self, line_no: int, item: str) -> Quantity:
        """Units of an item of a line that have come, wherever."""
        return sum(part.quantity for part in self.parts if (part.line_no, part.item) == (line_no, item))

    def expected(self, line_no: int, item: str) -> Quantity:
        """Units of it that are announced and may come still."""
        said = sum(line.quantity for line in self.lines if (line.line_no, line.item) == (line_no, item))
        return 0 if self.ended else max(0, said - self.came(line_no, item))


def settled(found: Return) -> Return:
    """A return in the state that follows from what has happened to it."""
    if any(part.held for part in found.parts):
        state = ReturnState.RECEIVED
    elif not found.parts:
        state = found.ended or ReturnState.ANNOUNCED
    elif any(found.expected(line.line_no, line.item) for line in found.lines):
        state = ReturnState.INSPECTED
    else:
        state = ReturnState.CLOSED
    assert state is found.state or state in TRANSITIONS[found.state], f"{found.state} to {state}"
    return replace(found, state=state)


# --- originals


def sent_by(
    reservations: Iterable[Reservation],
    keys: Mapping[int, PositionKey],
    expiries: Mapping[int, date | None],
    left_at: Mapping[int, datetime | None],
    lines: Sequence[Line],
    bills: Mapping[str, Bill],
) -> list[Sent]:
    """What has left by the reservations of an order, which may be nothing. `left_at` is by shipment, `bills` by kit."""
    on_hand = [part for part in reservations if part.receipt is None]
    kits = {line.no: _Kit.of(line, bills, on_hand, keys) for line in lines}
    found = []
    for part in on_hand:
        key, kit = keys[part.position], kits[part.line_no]
        is_part = key.item in kit.units
        found.append(
            Sent(
                part.line_no,
                part.no,
                part.shipment_no,
                key,
                expiries[part.position],
                part.consumed,
                left_at.get(part.shipment_no),
                kit.served if is_part else part.line_quantity,
                kit.units[key.item] if is_part else part.quantity,
                tuple(sorted(kit.units)) if is_part else (),
            )
        )
    return found


class _Kit(NamedTuple):
    """Parts by which a line is served together: units set aside of each item, and what these serve of the line."""

    units: Mapping[str, Quantity]
    served: Quantity

    @classmethod
    def of(
        cls, line: Line, bills: Mapping[str, Bill], on_hand: Iterable[Reservation], keys: Mapping[int, PositionKey]
    ) -> _Kit:
        """Of the parts of a kit only the first serves the line; of them all, the bill tells, unless it was changed."""
        own = [(keys[part.position].item, part) for part in on_hand if part.line_no == line.no]
        more = {item for item, part in own if not part.line_quantity}
        if not more:
            return cls({}, 0)
        bill = {each.item for each in bills[line.item].components} if line.item in bills else set[str]()
        items = bill if more <= bill else {item for item, _ in own} - {line.item}
        units: Counter[str] = Counter()
        for item, part in own:
            if item in items:
                units[item] += part.quantity
        return cls(units, sum(part.line_quantity for item, part in own if item in items))


LEFT: Final = frozenset({Stage.SHIPPED, Stage.DELIVERED, Stage.FAILED})
"""Stages of shipments of which nothing is left to be sent; the window begins with them."""


def returned(returns: Iterable[Return]) -> Counter[int]:
    """Units that have come back, by the number of their reservation."""
    units: Counter[int] = Counter()
    for found in returns:
        for part in found.parts:
            if part.reservation_no:
                units[part.reservation_no] += part.quantity
    return units


def units_back(returns: Iterable[Return], line_no: int) -> Quantity:
    """Units of a line that have come back; of a kit in parts as many as are back with all of them."""
    own = [part for found in returns for part in found.parts if part.line_no == line_no and part.reservation_no]
    return int(_served([(part, Fraction(part.quantity)) for part in own]))


def ineligible(
    asked: ReturnLine,
    sent: Sequence[Sent],
    returns: Sequence[Return],
    terms: ReturnTerms,
    requires: Collection[str],
    now: datetime,
) -> Ineligible | None:
    """Why units may not come back; None when they may. `requires` is what their item requires."""
    own = [each for each in sent if (each.line_no, each.key.item) == (asked.line_no, asked.item)]
    shipped = sum(each.quantity for each in own)
    if not shipped:
        return Ineligible.NOT_SHIPPED
    back = returned(returns)
    gone = sum(back[each.reservation_no] for each in own)
    gone += sum(found.expected(asked.line_no, asked.item) for found in returns)
    if asked.quantity > shipped - gone:
        return Ineligible.MORE_THAN_SHIPPED
    in_time = sum(each.quantity for each in own if not _is_over(each.left_at, terms, now))
    if asked.quantity > in_time:
        return Ineligible.WINDOW_OVER
    if {asked.item, *requires} & set(terms.not_returnable):
        return Ineligible.NOT_RETURNABLE
    return None


def _is_over(left_at: datetime | None, terms: ReturnTerms, now: datetime) -> bool:
    if left_at is None or terms.window_days is None:
        return False
    return now > left_at + timedelta(days=terms.window_days)


# --- routing


def route(
    lines: Sequence[ReturnLine], sent: Sequence[Sent], nodes: Mapping[str, Node], terms: ReturnTerms, chosen: str
) -> str | None:
    """The node a return goes to: the one its customer chose, the policy's, or that most of it was sent from.

    None where that may not be, or is not open.
    """
    if chosen:
        node = nodes.get(chosen)
        is_fit = node is not None and (node.kind in terms.bring_to or chosen == terms.to_node)
        by_origin = chosen in {each.key.node for each in sent if each.quantity}
        return chosen if node is not None and node.status is NodeStatus.ACTIVE and (is_fit or by_origin) else None
    units: Counter[str] = Counter()
    for line in lines:
        for each in sent:
            if (each.line_no, each.key.item) == (line.line_no, line.item):
                units[each.key.node] += each.quantity
    found = terms.to_node or min(units, key=lambda node: (-units[node], node), default="")
    return found if found in nodes and nodes[found].status is NodeStatus.ACTIVE else None


# --- what comes, and what becomes of it


class Came(NamedTuple):
    """Units that have come, as a part of a return."""

    part: Part
    expires_on: date | None


class Went(NamedTuple):
    """Units of a part of which it is known now what becomes of them."""

    part: Part
    what: Disposed
    at: datetime


def receive(
    found: Return, others: Sequence[Return], sent: Sequence[Sent], line_no: int, item: str, node: str, units: Quantity
) -> tuple[Return, list[Came]]:
    """A return with units that have come to a node. Each is of an original, as far as these go, first first.

    `others` are the other returns of the order. The line has a reservation, whatever became of it: units beyond what
    has left belong to the pool and lot of the first.
    """
    back = returned((*others, found))
    own = [each for each in sent if each.line_no == line_no]
    came, left = list[Came](), units
    for each in own:
        share = min(left, each.quantity - back[each.reservation_no]) if each.key.item == item else 0
        if share > 0:
            part = Part(line_no, item, node, each.key.pool, each.key.lot, each.reservation_no, each.shipment_no, share,
                        each.line_units, each.units, each.kit)  # fmt: skip
            came.append(Came(part, each.expires_on))
            left -= share
    if left:
        first = next((each for each in own if each.key.item == item), own[0])
        lot, expires_on = (first.key.lot, first.expires_on) if first.key.item == item else ("", None)
        came.append(Came(Part(line_no, item, node, first.key.pool, lot, 0, 0, left), expires_on))
    parts = {part.original: part for part in found.parts}
    for part, _ in came:
        before = parts.get(part.original)
        parts[part.original] = part if before is None else replace(before, quantity=before.quantity + part.quantity)
    return replace(found, parts=tuple(parts.values())), came


def dispose(
    found: Return, line_no: int, item: str, node: str, what: Disposed, at: datetime
) -> tuple[Return, list[Went]]:
    """A return in which it is known what becomes of some units; what is not there yet is kept."""
    parts, went, left = list[Part](), list[Went](), what.quantity
    for part in found.parts:
        is_meant = (part.line_no, part.item, part.node) == (line_no, item, node)
        share = min(left, part.held) if is_meant else 0
        if not share:
            parts.append(part)
            continue
        own = replace(what, quantity=share)
        parts.append(replace(part, disposed=_added(part.disposed, own)))
        went.append(Went(part, own, at))
        left -= share
    kept = found.kept
    if left:
        kept = (*kept, Kept(line_no, item, node, at, replace(what, quantity=left)))
    return replace(found, parts=tuple(parts), kept=kept), went


def _added(disposed: Sequence[Disposed], more: Disposed) -> tuple[Disposed, ...]:
    """With some more units, which are told of in one where nothing else differs."""
    alike = {replace(each, quantity=0): each.quantity for each in disposed}
    key = replace(more, quantity=0)
    alike[key] = alike.get(key, 0) + more.quantity
    return tuple(replace(each, quantity=quantity) for each, quantity in alike.items())


def catch_up(found: Return) -> tuple[Return, list[Went]]:
    """A return in which what was kept has its effect, as far as the units are there now."""
    waiting, went = found.kept, list[Went]()
    found = replace(found, kept=())
    for each in waiting:
        found, more = dispose(found, each.line_no, each.item, each.node, each.what, each.at)
        went += more
    return found, went


# --- money


class Refund(NamedTuple):
    """What is due for units of a line, or why nobody can say."""

    line_no: int
    amount: Money | None
    reason: str = ""


def refunds(found: Return, returns: Sequence[Return], lines: Sequence[Line], scales: Mapping[str, int]) -> list[Refund]:
    """What is due for the units of a return that have their place, by line, each rounded once, half away from zero.

    A unit is worth the price of its line, times the share for what became of it; a kit of which all parts are back as
    much as the part with the least share, due with the return that completes it. `returns` are all of the order, oldest
    first. Where no price is known nothing is said to be due, with the reason (law 19).
    """
    due, by_no = [], {line.no: line for line in lines}
    before = returns[: returns.index(found)]
    for no in sorted({part.line_no for part in found.parts if part.reservation_no and part.disposed}):
        line = by_no[no]
        if line.unit_price is None:
            due.append(Refund(no, None, f"line {no} has no unit price"))
        elif not _are_complete([(part, units) for part, units, _ in _placed(returns, no)]):
            due.append(Refund(no, None, f"parts of {line.item} have no price of their own, and some are not back"))
        else:
            shares = [
                _served([(part, share) for part, _, share in _placed(some, no)]) for some in ((*before, found), before)
            ]
            worth = (shares[0] - shares[1]) * line.unit_price.minor / 10 ** scales.get(line.item, 0)
            minor = divide_rounded(worth.numerator, worth.denominator)
            due.append(Refund(no, Money(minor, line.unit_price.currency)))
    return due


def _placed(returns: Iterable[Return], line_no: int) -> list[tuple[Part, Fraction, Fraction]]:
    """Parts of a line with units that have their place, and these times the share of their price."""
    return [
        (part, Fraction(each.quantity), Fraction(each.quantity * each.refund_ppm, MILLION))
        for found in returns
        for part in found.parts
        if part.line_no == line_no and part.reservation_no
        for each in part.disposed
    ]


def _by_item(parts: Iterable[tuple[Part, Fraction]]) -> dict[tuple[str, ...], dict[str, Fraction]]:
    """What units of the parts of a line serve of it, by what is served together (nothing, or a kit) and item."""
    served: dict[tuple[str, ...], dict[str, Fraction]] = {}
    for part, units in parts:
        items = served.setdefault(part.kit, dict.fromkeys(part.kit, Fraction(0)))
        items[part.item] = items.get(part.item, Fraction(0)) + units * part.line_units / part.units
    return served


def _served(parts: Iterable[tuple[Part, Fraction]]) -> Fraction:
    """What they serve of their line: of a kit as much as the part does of which there is least."""
    found = [min(items.values()) if kit else sum(items.values(), Fraction(0)) for kit, items in _by_item(parts).items()]
    return sum(found, Fraction(0))


def _are_complete(parts: Iterable[tuple[Part, Fraction]]) -> bool:
    """Whether of all kits all parts are there."""
    return all(len(set(items.values())) == 1 for kit, items in _by_item(parts).items() if kit)


def total_due(found: Return, due: Sequence[Refund], replaced_by: Money | None = None) -> tuple[Money | None, str]:
    """What is due for all of a return, or why nobody can say. With an exchange the difference: less than nothing is
    what the customer pays. `replaced_by` is what the exchange is worth as it stands now."""
    amounts = [each.amount for each in due if each.amount is not None]
    unknown = next((each.reason for each in due if each.amount is None), "")
    if found.exchange is not None:
        if found.state not in (ReturnState.CLOSED, ReturnState.CANCELLED, ReturnState.REFUSED):
            return None, "is known once all that is expected has come and its place is known"
        if found.exchange.value is None:
            return None, f"a line of {found.exchange.number} has no unit price"
        value = found.exchange.value
        if replaced_by != value:
            return None, f"{found.exchange.number} was changed since it was accepted"
        amounts.append(Money(-value.minor, value.currency))
    if unknown:
        return None, unknown
    currencies = sorted({amount.currency for amount in amounts})
    if len(currencies) > 1:
        return None, f"is in {' and '.join(currencies)}"
    if not amounts:
        return None, "no unit that was shipped has its place yet"
    return Money(sum(amount.minor for amount in amounts), currencies[0]), ""


def value_of(
    lines: Sequence[Line], scales: Mapping[str, int], cancelled: Sequence[Quantity] | None = None
) -> Money | None:
    """What lines cost, less what is `cancelled` of each, each rounded once; None where a price is missing, or they are
    in several currencies."""
    gone = [0] * len(lines) if cancelled is None else cancelled
    prices = [line.unit_price for line in lines if line.unit_price is not None]
    if len(prices) < len(lines) or len({price.currency for price in prices}) != 1:
        return None
    minor = sum(
        divide_rounded(price.minor * (line.quantity - less), 10 ** scales.get(line.item, 0))
        for price, line, less in zip(prices, lines, gone, strict=True)
    )
    return Money(minor, prices[0].currency)
