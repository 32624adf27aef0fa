"""A customer's demand: orders, lines, where each line stands, and the life cycle as one transition table.

Keeps law 13: ordered = open + reserved + pledged + backordered + released + shipped + cancelled, for every line.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from msgspec import Struct

from poolwise.core.values import MOST_ORDERED, Json, Money, Quantity, replace

MOST_LINES: Final = 2_000


class OrderState(StrEnum):
    """Where an order stands. `SOURCED` may still be re-planned by a wave; nothing is released yet.

    Nodes work on one that is `RELEASED`; of one that is `SHIPPED` nothing is left to be sent.

    A `BASKET` is no order yet: stock set aside by itself for a while, until an order names it or it expires.
    """

    BASKET = "basket"
    RECEIVED = "received"
    WAITING = "waiting"
    SOURCED = "sourced"
    PARTIAL = "partly_backordered"
    BACKORDERED = "backordered"
    RELEASED = "released"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


_SERVED: Final = frozenset(
    {OrderState.SOURCED, OrderState.PARTIAL, OrderState.BACKORDERED, OrderState.RELEASED, OrderState.SHIPPED}
)
"""An order of which something is decided goes from any of these to any other, until all of it is cancelled.

One that is shipped may want more, or turn out to lack what a node did not find.
"""

TRANSITIONS: Final[dict[OrderState, frozenset[OrderState]]] = {
    OrderState.BASKET: frozenset({OrderState.CANCELLED}),
    OrderState.RECEIVED: _SERVED | {OrderState.WAITING, OrderState.CANCELLED},
    OrderState.WAITING: _SERVED | {OrderState.CANCELLED},
    **{state: _SERVED | {OrderState.CANCELLED} for state in _SERVED},
    OrderState.CANCELLED: frozenset(),
}


class Blocks(StrEnum):
    """What a hold keeps from happening: that the order is sourced, or that nodes begin to work on it."""

    SOURCING = "sourcing"
    RELEASE = "release"


class Hold(Struct, frozen=True, gc=False):
    """A reason not to proceed yet (fraud, payment, an address to be checked): it blocks what it names and no more."""

    code: str
    blocks: tuple[Blocks, ...]


class Line(Struct, frozen=True, gc=False):
    """One item of an order. `quantity` is in base units; `weight_ug` is a declared gross weight of the whole line.

    Lines that name the same `together` group are served from one node. `unit_price` is per whole unit.
    """

    no: int
    item: str
    quantity: Quantity
    unit_price: Money | None = None
    weight_ug: int | None = None
    substitutes: bool = True
    together: str = ""


class Order(Struct, frozen=True, gc=False):
    """What a customer asked for, as accepted: immutable. `facts` are customer preferences that rules may read.

    `contact` is the id of the row with personal data (law 17); nothing else of the person is kept here. `part_of` is
    the order that it was divided from, with what was planned for it.
    """

    id: UUID
    number: str
    cell: int
    received_at: datetime
    channel: str
    zone: str
    lines: tuple[Line, ...]
    service_level: str = "standard"
    customer: str = ""
    contact: UUID | None = None
    priority: int = 0
    requested_date: date | None = None
    ship_complete: bool = False
    max_shipments: int | None = None
    reservation: UUID | None = None
    facts: tuple[tuple[str, Json], ...] = ()
    part_of: UUID | None = None

    def __post_init__(self) -> None:
        """Assert what intake has already refused politely."""
        assert 0 < len(self.lines) <= MOST_LINES
        assert all(0 < line.quantity <= MOST_ORDERED for line in self.lines)

    @property
    def began_elsewhere(self) -> UUID | None:
        """The basket, or the order, whose decision is this one's first attempt."""
        return self.reservation or self.part_of


class Progress(Struct, frozen=True, gc=False):
    """Where the units of a line stand, in the ordered item's base units."""

    ordered: Quantity
    open: Quantity = 0
    reserved: Quantity = 0
    pledged: Quantity = 0
    backordered: Quantity = 0
    released: Quantity = 0
    shipped: Quantity = 0
    cancelled: Quantity = 0

    def __post_init__(self) -> None:
        """Assert law 13."""
        parts = (
            self.open, self.reserved, self.pledged, self.backordered, self.released, self.shipped, self.cancelled
        )  # fmt: skip
        assert min(parts) >= 0, f"negative part in {self}"
        assert sum(parts) == self.ordered, f"law 13 broken: {self}"

    def moved(self, quantity: Quantity, source: str, target: str) -> Progress:
        """With units that stand elsewhere; `source` and `target` are names of its parts."""
        return replace(self, **{source: getattr(self, source) - quantity, target: getattr(self, target) + quantity})


def state_of(lines: tuple[Progress, ...]) -> OrderState:
    """The state of an order, derived from where its units stand."""
    is_open = waiting = planned = released = shipped = 0
    for line in lines:
        is_open += line.open
        waiting += line.backordered
        planned += line.reserved + line.pledged
        released += line.released
        shipped += line.shipped
    served = planned + released + shipped
    if is_open:
        return OrderState.RECEIVED
    if waiting and served:
        return OrderState.PARTIAL
    if waiting:
        return OrderState.BACKORDERED
    if shipped and shipped == served:
        return OrderState.SHIPPED
    if released or shipped:
        return OrderState.RELEASED
    return OrderState.SOURCED if served else OrderState.CANCELLED
