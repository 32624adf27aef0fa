"""The stock ledger: positions with accounts, movements between accounts, receipts and reservations.

Keeps laws 1, 2, 3, 6: stock is never set, only moved; the accounts of a position sum to zero and only `outside` may
be negative; every movement carries its position's version after it; every unit of a reservation ends exactly once.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from hashlib import sha256
from itertools import repeat
from typing import Final
from uuid import UUID

from msgspec import Struct

from poolwise.core.values import LARGEST_QUANTITY, Quantity, replace


class Account(StrEnum):
    """The accounts of a position. `available` + `reserved` + `blocked` is on-hand."""

    OUTSIDE = "outside"
    EXPECTED = "expected"
    PLEDGED = "pledged"
    IN_TRANSIT = "in_transit"
    AVAILABLE = "available"
    RESERVED = "reserved"
    BLOCKED = "blocked"


ACCOUNTS: Final = tuple(Account)
"""The accounts in the order in which balances are stored."""

_INDEX: Final = {account: place for place, account in enumerate(ACCOUNTS)}

Balances = tuple[int, ...]
EMPTY: Final[Balances] = (0, 0, 0, 0, 0, 0, 0)


DIGEST_WORDS: Final = 4
"""Words of 64 bits in a sha256."""


class PositionKey(Struct, frozen=True, order=True, gc=False):
    """An item at a node in a pool and lot: the unit of locking."""

    item: str
    node: str
    pool: str
    lot: str = ""

    def id(self) -> int:
        """The position's number, the same everywhere: the first 64 bits of sha256 over its key (ADR 0007)."""
        return position_id(self.item, self.node, self.pool, self.lot)


def position_id(item: str, node: str, pool: str, lot: str = "") -> int:
    """The number of a position, where nobody needs its key."""
    text = "\x1f".join((item, node, pool, lot))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big", signed=True)


def position_ids(items: Sequence[str], nodes: Sequence[str], pools: Sequence[str]) -> array[int]:
    """The numbers of many positions without a lot."""
    keys = map("\x1f".join, zip(items, nodes, pools, repeat("")))
    numbers = array("q", b"".join([sha256(key.encode()).digest() for key in keys]))[::DIGEST_WORDS]
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


class Position(Struct, frozen=True, gc=False):
    """Balances of a position in base units, in the order of ACCOUNTS, after `version` movements."""

    id: int
    cell: int
    key: PositionKey
    balances: Balances = EMPTY
    version: int = 0
    expires_on: date | None = None

    def balance(self, account: Account) -> Quantity:
        """Balance of one account."""
        return self.balances[_INDEX[account]]

    @property
    def on_hand(self) -> Quantity:
        """available + reserved + blocked."""
        return sum(self.balances[4:])


class Cause(StrEnum):
    """Why a movement was made; with the id of the order, message, reservation or count that made it."""

    COUNT = "count"
    STOCK = "stock_movement"
    RECEIPT = "receipt"
    ARRIVAL = "arrival"
    RESERVE = "reserve"
    FREE = "free"
    EXPIRE = "expire"
    BREAK = "break"
    TRANSFER = "transfer"
    ASSEMBLY = "assembly"
    SHIP = "ship"
    SHORT = "short"
    DECLINE = "decline"
    RETURN = "return"
    DISPOSE = "dispose"


class Movement(Struct, frozen=True, gc=False):
    """A quantity of one item from an account to an account, of one position or of two.

    `occurred_at` is when it happened, where that was before it was recorded; balances as of an instant go by it.
    """

    position: int
    source: Account
    target: Account
    quantity: Quantity
    cause: Cause
    cause_id: UUID
    to_position: int | None = None
    occurred_at: datetime | None = None


class LedgerRefusal(StrEnum):
    """Why a movement cannot be posted, in order of precedence."""

    NOT_POSITIVE = "quantity_not_positive"
    TOO_LARGE = "quantity_too_large"
    SAME_ACCOUNT = "same_account"
    SHORT = "balance_too_small"


def refusal(position: Position, movement: Movement) -> LedgerRefusal | None:
    """Why `movement` cannot leave `position` now; None when it can."""
    if movement.quantity <= 0:
        return LedgerRefusal.NOT_POSITIVE
    if movement.quantity > LARGEST_QUANTITY:
        return LedgerRefusal.TOO_LARGE
    if movement.source == movement.target and movement.to_position in (None, movement.position):
        return LedgerRefusal.SAME_ACCOUNT
    if movement.source != Account.OUTSIDE and position.balance(movement.source) < movement.quantity:
        return LedgerRefusal.SHORT
    return None


def post(position: Position, movement: Movement) -> Position:
    """The position after a movement inside it. The caller has asked `refusal` first; a refusal here is a bug."""
    assert refusal(position, movement) is None, f"{refusal(position, movement)}: {movement} on {position}"
    balances = list(position.balances)
    balances[_INDEX[movement.source]] -= movement.quantity
    balances[_INDEX[movement.target]] += movement.quantity
    after = replace(position, balances=tuple(balances), version=position.version + 1)
    assert_lawful(after)
    return after


def transfer(giver: Position, taker: Position, movement: Movement) -> tuple[Position, Position]:
    """Both positions after a movement from one to the other; each side passes through its own `outside`."""
    assert giver.key.item == taker.key.item, "a movement moves one item"
    left = post(giver, replace(movement, target=Account.OUTSIDE, to_position=None))
    right = post(taker, replace(movement, source=Account.OUTSIDE, to_position=None, position=taker.id))
    return left, right


def assert_lawful(position: Position) -> None:
    """Assert law 1 for one position."""
    assert sum(position.balances) == 0, f"law 1 broken, balances do not sum to zero: {position}"
    assert min(position.balances[1:]) >= 0, f"law 1 broken, negative account: {position}"


def replay(position: Position, movements: Iterable[Movement]) -> Position:
    """The position after all movements of its journal, from empty balances (law 3)."""
    current = replace(position, balances=EMPTY, version=0)
    for movement in movements:
        current = post(current, movement)
    return current


@dataclass(frozen=True, slots=True)
class Receipt:
    """Expected inbound stock of a position. open = quantity - pledged - arrived - cancelled."""

    id: UUID
    cell: int
    position: int
    reference: str
    due_on: date
    quantity: Quantity
    pledged: Quantity = 0
    arrived: Quantity = 0
    cancelled: Quantity = 0
    announced: bool = False
    sequence: int = 0

    def __post_init__(self) -> None:
        """Assert law 2 for receipts."""
        assert min(self.pledged, self.arrived, self.cancelled) >= 0, f"negative part: {self}"
        assert self.open >= 0, f"law 2 broken, pledged more than the receipt holds: {self}"

    @property
    def open(self) -> Quantity:
        """Units nobody has pledged, received or cancelled yet."""
        return self.quantity - self.pledged - self.arrived - self.cancelled


class ReservationKind(StrEnum):
    """Soft for a cart or quote, hard once ordered."""

    SOFT = "soft"
    HARD = "hard"


class Reservation(Struct, frozen=True, gc=False):
    """Units of a position, or of a receipt, set aside for one owner (an order, or a basket reserved by itself).

    `owner` and `no` are its key. `line_no` is the owner's line; `line_quantity` says how many base units of the
    ordered item it serves (they differ for substitutes and kits). Each unit is open or has ended exactly once.
    """

    cell: int
    owner: UUID
    no: int
    position: int
    quantity: Quantity
    line_no: int
    line_quantity: Quantity
    kind: ReservationKind
    shipment_no: int
    made_at: datetime
    receipt: UUID | None = None
    expires_at: datetime | None = None
    consumed: Quantity = 0
    freed: Quantity = 0
    expired: Quantity = 0
    broken: Quantity = 0

    def __post_init__(self) -> None:
        """Assert law 6."""
        consumed, freed, expired, broken = self.consumed, self.freed, self.expired, self.broken
        assert min(consumed, freed, expired, broken) >= 0, f"negative ending: {self}"
        assert consumed + freed + expired + broken <= self.quantity, f"law 6 broken, ended more than once: {self}"

    @property
    def open(self) -> Quantity:
        """Units still set aside."""
        return self.quantity - self.consumed - self.freed - self.expired - self.broken
