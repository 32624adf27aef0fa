"""The read side: `Views`, what people and programs ask, and `Feed`, what happened in order. PostgreSQL only.

Nothing here is locked or changed, and a reader sees what it has written at once. Views filter, sort and join; they do
no arithmetic of availability, which is core's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Protocol
from uuid import UUID

from poolwise.core.availability import Coming, Shelves
from poolwise.core.fulfilment import Stage
from poolwise.core.ledger import ReservationKind
from poolwise.core.orders import Order, OrderState
from poolwise.core.returns import Return, ReturnState
from poolwise.core.sourcing.plan import PlannedShipment
from poolwise.core.sourcing.problem import ReceiptFact, StockFact
from poolwise.core.values import Json, Quantity
from poolwise.flows.ports import Event, OrderRecord


@dataclass(frozen=True, slots=True)
class Held:
    """A reservation as people read it: where its units lie, how many are still set aside, and how many have `left`."""

    no: int
    line_no: int
    shipment_no: int
    item: str
    node: str
    pool: str
    lot: str
    kind: ReservationKind
    quantity: Quantity
    open: Quantity
    receipt: UUID | None
    expires_at: datetime | None
    left: Quantity = 0


@dataclass(frozen=True, slots=True)
class LeftParcel:
    """A parcel that has left, as its node told it; lines are items with decimal text in their unit."""

    tracking: str
    box: str
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class DecisionHead:
    """A decision by name: what it was made under; its facts stay in the books."""

    attempt: int
    at: datetime
    edition: str
    policy: str
    policy_version: int
    release: str
    wave: UUID | None


@dataclass(frozen=True, slots=True)
class OrderView:
    """An order with everything that hangs on it, of one instant; `stages` and `parcels` are by number of shipment."""

    record: OrderRecord
    changed_at: datetime
    shipments: tuple[PlannedShipment, ...]
    stages: Mapping[int, Stage]
    reservations: tuple[Held, ...]
    decisions: tuple[DecisionHead, ...]
    parcels: Mapping[int, tuple[LeftParcel, ...]]


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to an order or one of its shipments (0: none): when, and when and from whom we heard."""

    at: datetime
    told_at: datetime
    kind: str
    shipment_no: int
    told_by: str
    detail: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class OrderHead:
    """An order as a list shows it."""

    id: UUID
    number: str
    state: OrderState
    channel: str
    zone: str
    customer: str
    service_level: str
    received_at: datetime
    changed_at: datetime
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderQuery:
    """Which orders a list shows: newest first, those older than `before` (received at, id). Empty texts mean any."""

    state: OrderState | None = None
    channel: str = ""
    zone: str = ""
    customer: str = ""
    received_since: datetime | None = None
    before: tuple[datetime, UUID] | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class PickLine:
    """Units that still lie at a position of the node, to be sent or handed out; of a parcel what is in it."""

    item: str
    pool: str
    lot: str
    quantity: Quantity


@dataclass(frozen=True, slots=True)
class PickList:
    """A shipment that its node works on, or its collection point, which knows the `parcels` that are sent to it."""

    order: UUID
    number: str
    shipment_no: int
    node: str
    ship_on: date
    arrive_by: date
    lines: tuple[PickLine, ...]
    collect_at: str = ""
    parcels: tuple[LeftParcel, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PickQuery:
    """Which pick lists: those of a node at a stage, the earliest first, after (ship on, order, shipment number).

    What is `READY` is listed at the node where it waits. With `collected` it is those that are collected at the node,
    wherever they come from.
    """

    node: str
    stage: Stage = Stage.RELEASED
    after: tuple[date, UUID, int] | None = None
    limit: int = 50
    collected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnQuery:
    """Which returns: newest first, those older than `before` (opened at, id). Left out means any."""

    node: str = ""
    state: ReturnState | None = None
    before: tuple[datetime, UUID] | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class ReturnHead:
    """A return with the number of its order."""

    found: Return
    order: UUID
    order_number: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class PickRecord:
    """What became of a node's picks of a class of items: order lines that it found, and missed."""

    node: str
    item_class: str
    found: int
    missed: int


@dataclass(frozen=True, slots=True)
class Purchase:
    """A shipment of a supplier's node: since when it is released, and by item all units and those still to be sent."""

    order: Order
    shipment_no: int
    node: str
    lanes: tuple[str, ...]
    stage: Stage
    ship_on: date
    arrive_by: date
    released_at: datetime | None
    units: tuple[tuple[str, Quantity, Quantity], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchaseQuery:
    """Which shipments: those released to some nodes, the earliest first, after (ship on, order, shipment number)."""

    nodes: tuple[str, ...]
    after: tuple[date, UUID, int] | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class ToCount:
    """A position that somebody must count since an instant, what is blocked there, and the shipment it is due to."""

    position: int
    item: str
    node: str
    pool: str
    lot: str
    blocked: Quantity
    since: datetime
    order: UUID | None
    number: str | None
    shipment_no: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CountQuery:
    """Which count tasks: those of a node, the oldest first, after (since, position)."""

    node: str
    after: tuple[datetime, int] | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Offer:
    """A shipment that a node may claim, and units of items that are to be sent."""

    order: UUID
    number: str
    shipment_no: int
    until: datetime
    ship_on: date
    arrive_by: date
    lines: tuple[tuple[str, Quantity], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferQuery:
    """What is offered to a node now: what ends first at first, after (until, order, shipment number)."""

    node: str
    now: datetime
    after: tuple[datetime, UUID, int] | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Supply:
    """What is there and what is coming of some items, read in one go."""

    stock: Mapping[str, Sequence[StockFact]]
    receipts: Mapping[str, Sequence[ReceiptFact]]


@dataclass(frozen=True, slots=True)
class PolicyHead:
    """A version of a policy by name."""

    code: str
    version: int
    family: str
    state: str
    made_by: str
    made_at: datetime
    active_from: datetime | None


class Views(Protocol):
    """What may be asked. Every method reads one snapshot and answers at most what its limit says."""

    def order(self, name: str | UUID) -> OrderView | None:
        """An order by the sender's number, else by ours, else by its id; no basket. By its return's as in Books.

        A number may look like the id of another order: whoever has an id as such is told of no other order.
        """

    def timeline(self, order: UUID, number: str, limit: int) -> Sequence[Happening]:
        """What happened to an order of ours, in the order in which it happened, the newest `limit`: by whom it came,
        decisions, what they set aside, what was reported and changed, links that were given, incidents."""

    def basket(self, reservation: UUID) -> OrderView | None:
        """A basket by the id of its reservation, ended or not."""

    def orders(self, query: OrderQuery) -> Sequence[OrderHead]:
        """Orders, newest first, at most `query.limit`."""

    def pick_lists(self, query: PickQuery) -> Sequence[PickList]:
        """Shipments that a node works on, or hands out, the earliest first, at most `query.limit`."""

    def pick_records(self, node: str, after: tuple[str, str], limit: int) -> Sequence[PickRecord]:
        """Records of a node, or of all ('' for which), by node and class, behind these two; at most `limit`."""

    def returns(self, query: ReturnQuery) -> Sequence[ReturnHead]:
        """Returns, newest first, at most `query.limit`."""

    def purchases(self, query: PurchaseQuery) -> Sequence[Purchase]:
        """What is released to some nodes, the earliest first, at most `query.limit`."""

    def purchase(self, order: UUID, shipment_no: int) -> Purchase | None:
        """One shipment, wherever it stands."""

    def contact(self, contact: UUID) -> Mapping[str, Json]:
        """The personal part of an address (law 17); empty where it was deleted."""

    def count_tasks(self, query: CountQuery) -> Sequence[ToCount]:
        """What is to be counted at a node, the oldest task first, at most `query.limit`."""

    def offers(self, query: OfferQuery) -> Sequence[Offer]:
        """What a node may claim, what ends first at first, at most `query.limit`."""

    def decided(self, orders: Iterable[UUID]) -> frozenset[UUID]:
        """Which of the orders have been decided at least once."""

    def supply(self, items: Sequence[str], pools: Sequence[str] | None = None) -> Supply:
        """Positions of items, in these pools only where given, by node, pool and lot; and their open receipts."""

    def shelves(self, items: Sequence[str]) -> tuple[Shelves, Coming]:
        """Positions of items, and what is open of their receipts, in no order: what `supply` says, for adding up."""

    def policies(self) -> Sequence[PolicyHead]:
        """All versions of all policies, by family, code and version, newest version first."""

    def ready(self) -> str:
        """Why the database cannot serve, in a sentence; '' when it can."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event with its place in the feed of its cell: numbers have no gap and never change."""

    cell: int
    number: int
    at: datetime
    event: Event


_PLACE: Final = re.compile(r"([0-9]{1,5}):([0-9]{1,18})")
Place = Mapping[int, int]
"""How far a reader has come: for each cell the number of the last event it has seen, 0 for none."""


def written_place(place: Place) -> str:
    """A place as clients and brokers keep it: `0:4711`, or `0:4711,3:15` where there are more cells."""
    return ",".join(f"{cell}:{number}" for cell, number in sorted(place.items()))


def place_of(text: str) -> dict[int, int]:
    """A place that was written so. Raises ValueError."""
    place = {}
    for part in text.split(","):
        match = _PLACE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"'{part}' is no place in the feed")
        place[int(match[1])] = int(match[2])
    return place


class Feed(Protocol):
    """What happened, in an order that a reader can resume from without loss or repeat (law 7)."""

    def after(self, place: Place, limit: int) -> Sequence[Numbered]:
        """The next events after a place, at most about `limit`: cell by cell, each cell's without a gap."""

    def end(self) -> dict[int, int]:
        """The number of the last event of every cell."""

    def before(self, at: datetime) -> dict[int, int]:
        """The place after what happened before an instant, as far as it is still known."""
