"""What a node's statement does to a position: an absolute count, or a change it reports (laws 1, 6 and 9).

Physical truth is never refused, and statements may come in any order. A count fixes the balance as of its own instant:
the difference to the balance known for then is booked, so that what happened later survives. A change that is older
than the newest count was seen by that count, and is booked together with its reversal. Units that leave an account
before anybody saw them come are a *debt* of it: kept apart in a position of their own, and paid with the next units
that arrive. So the balance less the debt is always the newest count and all later changes, in any order.

Units that are missing leave `available` first. Then reservations break: the newest soft one first, then the newest
hard one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from poolwise.core.ledger import (
    Account,
    Cause,
    Movement,
    Position,
    PositionKey,
    Reservation,
    ReservationKind,
    position_id,
    post,
    transfer,
)
from poolwise.core.messages import CountBasis
from poolwise.core.values import Quantity, replace

OWN_LOT: Final = "~"
"""Lots that begin with this are kept by the books themselves; nobody may report stock of one."""

COUNTED: Final = {
    CountBasis.AVAILABLE: (Account.AVAILABLE,),
    CountBasis.WITH_RESERVED: (Account.AVAILABLE, Account.RESERVED),
    CountBasis.ON_HAND: (Account.AVAILABLE, Account.RESERVED, Account.BLOCKED),
}
"""The accounts that a counted figure includes."""

ON_HAND: Final = COUNTED[CountBasis.ON_HAND]

IN_DEBT: Final = (Account.AVAILABLE, Account.BLOCKED, Account.IN_TRANSIT)
"""The accounts that can owe units; with `outside` they are those that a node may name in a movement."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Who says so: the cause and id of every movement it makes, and when it happened."""

    cause: Cause
    id: UUID
    at: datetime


@dataclass(frozen=True, slots=True)
class Break:
    """Units of a reservation whose stock is gone."""

    reservation: Reservation
    quantity: Quantity


def debt_key(key: PositionKey, account: Account) -> PositionKey:
    """The position that holds, in transit, what an account of `key` owes."""
    assert account in IN_DEBT
    return PositionKey(key.item, key.node, key.pool, OWN_LOT + account.value + key.lot)


def debt_id(key: PositionKey, account: Account) -> int:
    """The number of that position, where nobody needs its key."""
    assert account in IN_DEBT
    return position_id(key.item, key.node, key.pool, OWN_LOT + account + key.lot)


def owner_of(debt: PositionKey) -> PositionKey | None:
    """The position that owes what is in this one; None when this is no position of a debt."""
    for account in IN_DEBT:
        prefix = OWN_LOT + account.value
        if debt.lot.startswith(prefix):
            return replace(debt, lot=debt.lot.removeprefix(prefix))
    return None


def breaking_order(reservations: Iterable[Reservation]) -> list[Reservation]:
    """Reservations on hand in the order in which they break: newest soft first, then newest hard."""
    on_hand = [reservation for reservation in reservations if reservation.receipt is None and reservation.open]
    on_hand.sort(key=lambda reservation: (reservation.made_at, reservation.owner, reservation.no), reverse=True)
    return sorted(on_hand, key=lambda reservation: reservation.kind is ReservationKind.HARD)


class Tally:
    """A position while statements about it are booked: its balances and debts, what was moved, and what broke."""

    def __init__(
        self,
        position: Position,
        debts: Mapping[Account, Position],
        reservations: Iterable[Reservation],
        movements: list[Movement],
    ) -> None:
        """`debts` are those positions of `debt_key` that exist; `reservations` are the open ones.

        Every movement is added to `movements`, which the tallies of a batch share, so that they stay in order.
        """
        self.position = position
        self.debts = dict(debts)
        self.movements = movements
        self.breaks: list[Break] = []
        self._unbroken = {(held.owner, held.no): held.open for held in reservations}
        self._breaking_order = breaking_order(reservations)

    def count(
        self,
        then: Position,
        debts_then: Mapping[Account, Position],
        basis: CountBasis,
        counted: Quantity,
        said: Statement,
        doubt: Quantity = 0,
    ) -> None:
        """Book a count. `then` and `debts_then` are the position and its debts as of the instant of the count.

        Of units blocked in `doubt`, since somebody did not find them, those that are not counted are gone first; the
        others are there after all.
        """
        known = sum(then.balance(account) for account in COUNTED[basis])
        owed = sum(
            debts_then[account].balance(Account.IN_TRANSIT) for account in COUNTED[basis] if account in debts_then
        )
        difference = self._settle(counted - (known - owed), Account.BLOCKED in COUNTED[basis], doubt, said)
        if difference > 0:
            self.move(Account.OUTSIDE, Account.AVAILABLE, difference, said)
            self.pay(Account.AVAILABLE, said)
        elif difference < 0:
            self._leave(Account.AVAILABLE, Account.OUTSIDE, -difference, self, said)

    def _settle(self, difference: Quantity, has_blocked: bool, doubt: Quantity, said: Statement) -> Quantity:
        """Settle what is in doubt; what is left of a difference. `has_blocked`: the count includes what is blocked."""
        doubt = min(doubt, self.position.balance(Account.BLOCKED))
        if not doubt:
            return difference
        gone = min(doubt, max(0, -difference)) if has_blocked else doubt - min(doubt, max(0, difference))
        self.move(Account.BLOCKED, Account.OUTSIDE, gone, said)
        self.move(Account.BLOCKED, Account.AVAILABLE, doubt - gone, said)
        self.pay(Account.AVAILABLE, said)
        return difference + gone if has_blocked else difference - (doubt - gone)

    def change(
        self, source: Account, target: Account, quantity: Quantity, said: Statement, *, counted: bool = False
    ) -> None:
        """Book a change inside the position; `counted` says that a newer count has seen it."""
        came = (target in ON_HAND) - (source in ON_HAND)
        if counted and came < 0:
            self.move(Account.OUTSIDE, source, quantity, replace(said, cause=Cause.COUNT))
        self._leave(source, target, quantity, self, said)
        if counted and came > 0:
            self.move(target, Account.OUTSIDE, quantity, replace(said, cause=Cause.COUNT))
        self.pay(target, said)

    def send(
        self,
        source: Account,
        target: Account,
        quantity: Quantity,
        taker: Tally,
        said: Statement,
        *,
        counted_here: bool = False,
        counted_there: bool = False,
    ) -> None:
        """Book units that go to another position; a newer count of this side, or of that side, may have seen it."""
        if counted_here and source in ON_HAND:
            self.move(Account.OUTSIDE, source, quantity, replace(said, cause=Cause.COUNT))
        self._leave(source, target, quantity, taker, said)
        if counted_there and target in ON_HAND:
            taker.move(target, Account.OUTSIDE, quantity, replace(said, cause=Cause.COUNT))
        taker.pay(target, said)

    def move(self, source: Account, target: Account, quantity: Quantity, said: Statement) -> None:
        """Move units that are there, and nothing else."""
        if quantity and source is not target:
            movement = self._movement(self.position.id, source, target, quantity, said)
            self.position = post(self.position, movement)
            self.movements.append(movement)

    def end(self, held: Reservation, target: Account, quantity: Quantity, said: Statement) -> None:
        """Units of a reservation leave it, and are nobody's to be broken any more."""
        self.move(Account.RESERVED if held.receipt is None else Account.PLEDGED, target, quantity, said)
        if (held.owner, held.no) in self._unbroken:
            self._unbroken[held.owner, held.no] -= quantity

    def pay(self, account: Account, said: Statement) -> None:
        """Pay the debt of an account with the units that are in it."""
        owed = self.owed(account)
        paid = min(owed, self.position.balance(account)) if owed else 0
        if paid:
            self.move(account, Account.OUTSIDE, paid, said)
            self._owe(account, Account.IN_TRANSIT, Account.OUTSIDE, paid, said)

    def owed(self, account: Account) -> Quantity:
        """Units that were taken from an account and were not in it."""
        debt = self.debts.get(account)
        return 0 if debt is None else debt.balance(Account.IN_TRANSIT)

    def _leave(self, source: Account, target: Account, quantity: Quantity, taker: Tally, said: Statement) -> None:
        """Move units from `source` to `target` of `taker`; what is not there is taken from reservations, or owed."""
        if source is Account.OUTSIDE:
            taker.move(source, target, quantity, said)
            return
        there = min(quantity, self.position.balance(source))
        self._send(source, target, there, taker, said)
        left = quantity - there
        if source is Account.AVAILABLE:
            broken = self._break(left)
            self._send(Account.RESERVED, target, broken, taker, replace(said, cause=Cause.BREAK))
            left -= broken
        if left:
            self._owe(source, Account.OUTSIDE, Account.IN_TRANSIT, left, said)
            taker.move(Account.OUTSIDE, target, left, said)

    def _break(self, quantity: Quantity) -> Quantity:
        """Break reservations for `quantity` units, as far as they go; how many units that gave."""
        left = quantity
        for held in self._breaking_order:
            part = min(left, self._unbroken[held.owner, held.no])
            if part:
                self._unbroken[held.owner, held.no] -= part
                self.breaks.append(Break(held, part))
                left -= part
        return quantity - left

    def _send(self, source: Account, target: Account, quantity: Quantity, taker: Tally, said: Statement) -> None:
        if taker is self or target is Account.OUTSIDE:
            self.move(source, target, quantity, said)
        elif quantity:
            movement = self._movement(self.position.id, source, target, quantity, said)
            movement = replace(movement, to_position=taker.position.id)
            self.position, taker.position = transfer(self.position, taker.position, movement)
            self.movements.append(movement)

    def _owe(self, account: Account, source: Account, target: Account, quantity: Quantity, said: Statement) -> None:
        debt = self.debts.get(account)
        if debt is None:
            key = debt_key(self.position.key, account)
            debt = Position(key.id(), self.position.cell, key)
        movement = self._movement(debt.id, source, target, quantity, said)
        self.debts[account] = post(debt, movement)
        self.movements.append(movement)

    @staticmethod
    def _movement(position: int, source: Account, target: Account, quantity: Quantity, said: Statement) -> Movement:
        return Movement(position, source, target, quantity, said.cause, said.id, occurred_at=said.at)
