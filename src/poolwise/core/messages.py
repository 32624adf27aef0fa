"""Canonical messages: the published language that connectors and the API speak and flows accept.

Every message is checked for form when it is decoded and for meaning by its flow, which refuses with all reasons at
once (law 12). Quantities are decimal texts in the named pack or unit until a flow has the item's scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from poolwise.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a shipment goes, and whom to call. The personal part goes to the `contact` table only (law 17).

    Latitude and longitude, decimal degrees as text, find the zone where no postcode does.
    """

    country: str = ""
    postcode: str = ""
    latitude: str = ""
    longitude: str = ""
    name: str = ""
    street: str = ""
    city: str = ""
    email: str = ""
    phone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """A line as the sender writes it: `item` is our code or a cross-reference of the sender's or of a scheme.

    `quantity` is decimal text in `pack` ('' = the item's unit); `weight_kg` a declared weight of the whole line.
    """

    item: str
    quantity: str
    pack: str = ""
    unit_price: str | None = None
    weight_kg: str | None = None
    substitutes: bool = True
    together: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderMessage:
    """A new order. One of `ship_to`, `zone` and `collect_at` (a node) says where it goes. `number` '' lets us give one.

    Of one that is collected `ship_to` may say whom to call, and no place.
    """

    channel: str
    lines: tuple[OrderLine, ...]
    number: str = ""
    ship_to: Address | None = None
    zone: str = ""
    collect_at: str = ""
    service_level: str = "standard"
    customer: str = ""
    currency: str = ""
    priority: int = 0
    requested_date: date | None = None
    ship_complete: bool = False
    max_shipments: int | None = None
    reservation: UUID | None = None
    facts: dict[str, Json] | None = None
    received_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChange:
    """How much is wanted of a line, by its number: decimal text in the item's unit (None: as before).

    With `item` the line becomes another item: what can still be cancelled of it is, and as much of the other is added.
    """

    no: int
    quantity: str | None = None
    item: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAmendment:
    """What is to be different of an order; what is not said stays. A destination is all of what has not left yet."""

    order: str
    lines: tuple[LineChange, ...] = ()
    add: tuple[OrderLine, ...] = ()
    zone: str = ""
    ship_to: Address | None = None
    collect_at: str = ""
    service_level: str = ""
    requested_date: date | None = None
    currency: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCancellation:
    """Units of lines that are not wanted any more; no quantity: as many as can still be cancelled; no lines: of all."""

    order: str
    lines: tuple[LineChange, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDivision:
    """A new order of units of some lines of another; no quantity: all of the line that no node has in hand."""

    order: str
    number: str
    lines: tuple[LineChange, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderJoin:
    """All of another order becomes part of this one."""

    order: str
    other: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRequest:
    """A basket to set aside for a while: an order that is not one yet."""

    channel: str
    lines: tuple[OrderLine, ...]
    expires_in_seconds: int
    zone: str = ""
    ship_to: Address | None = None
    collect_at: str = ""
    service_level: str = "standard"
    customer: str = ""
    ship_complete: bool = True


class CountBasis(StrEnum):
    """What a counted figure includes besides free stock."""

    AVAILABLE = "available"
    WITH_RESERVED = "with_reserved"
    ON_HAND = "on_hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class StockCount:
    """A node's absolute statement about a position as of an instant; booked as an adjusting movement (law 9).

    `sequence` orders the statements of one source about one position; an older one is ignored.
    """

    item: str
    node: str
    pool: str
    quantity: str
    as_of: datetime
    lot: str = ""
    basis: CountBasis = CountBasis.ON_HAND
    expires_on: date | None = None
    sequence: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StockMovement:
    """A change a node reports, by its own id: always applied once, in any order.

    `source` and `target` are accounts (outside, in_transit, available, blocked); with `to_node` or `to_pool` the
    movement ends at another position.
    """

    id: str
    item: str
    node: str
    pool: str
    quantity: str
    source: str
    target: str
    at: datetime
    lot: str = ""
    to_node: str = ""
    to_pool: str = ""


class ReportKind(StrEnum):
    """What a node or a carrier reports of a shipment.

    What is `accepted` by a node, or has `arrived` at a stop on its way, is kept as a milestone and changes nothing.
    """

    ACCEPTED = "accepted"
    SHORT = "short"
    DECLINED = "declined"
    PICKED = "picked"
    READY = "ready"
    SHIPPED = "shipped"
    ARRIVED = "arrived"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLine:
    """Units of an item in a report: decimal text in the item's unit."""

    item: str
    quantity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportParcel:
    """A parcel that has left, by the carrier's number; `box` is the node's name of its size."""

    tracking: str
    box: str = ""
    lines: tuple[ReportLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipmentReport:
    """What became of a shipment of an order, by the sender's own id: once, in any order.

    `lines` are what was not found, or what has left; none means all of it. `declined`, `delivered` and `failed` are of
    the whole shipment. `tracking` is the carrier's number. What has shipped may name its `parcels`; without `lines`,
    what is in them has left. `node` is the stop at which it has `arrived`.
    """

    id: str
    order: str
    shipment: int
    kind: ReportKind
    at: datetime
    lines: tuple[ReportLine, ...] = ()
    tracking: str = ""
    parcels: tuple[ReportParcel, ...] = ()
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnedLine:
    """Units of a line of an order that come back: decimal text in the unit of `item`, which is the line's own where it
    is not named."""

    line: int
    quantity: str
    item: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnNotice:
    """Goods of an order will come back, by the sender's number for it; `exchange` is the order that replaces them.

    `node` is where the customer brings them; left out, we say where they go. With `customer`, only this one's order.
    """

    number: str
    order: str
    lines: tuple[ReturnedLine, ...]
    node: str = ""
    customer: str = ""
    exchange: OrderMessage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnReceipt:
    """Goods of a return have come to a node, by the sender's own id: once, in any order.

    `order` is needed where the return may not have been announced. Without `node` it is the return's.
    """

    id: str
    number: str
    at: datetime
    lines: tuple[ReturnedLine, ...]
    order: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DisposedLine:
    """What becomes of units of a line: a disposition by name; `supplier` is to whom they go back."""

    line: int
    quantity: str
    disposition: str
    item: str = ""
    supplier: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnInspection:
    """What becomes of the goods of a return at a node, by the sender's own id: once, in any order.

    What is said of units that have not come yet is kept until they come.
    """

    id: str
    number: str
    at: datetime
    lines: tuple[DisposedLine, ...]
    order: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptNotice:
    """Expected inbound stock, by the supplier's reference; a later sequence replaces an earlier one.

    `arrived` is what has come so far, in all; `arrived_at` when the last of it came (None: now). A count later than
    that has seen it.
    """

    reference: str
    item: str
    node: str
    pool: str
    quantity: str
    due_on: date
    lot: str = ""
    arrived: str = "0"
    cancelled: bool = False
    announced: bool = False
    sequence: int = 0
    arrived_at: datetime | None = None
