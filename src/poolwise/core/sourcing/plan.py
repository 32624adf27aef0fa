"""The answer to a problem: shipments, assignments, what waits, and what all of it costs, part by part.

Keeps law 11: the cost parts of a plan add up exactly to its objective.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from poolwise.core.policy.terms import CostKind
from poolwise.core.values import Cost, Quantity


class Elimination(StrEnum):
    """Why a candidate cannot serve a line, in order of precedence: the first that applies is given."""

    SUSPENDED = "suspended"
    ALLOW_LIST = "partner_allow_list"
    POOL_CLOSED = "pool_not_open_to_channel"
    RESTRICTION = "restriction"
    ZONE = "zone"
    LANE_MISSING = "lane_missing"
    CAPABILITY = "capability"
    DISTANCE = "distance"
    TOO_SLOW = "service_too_slow"
    CALENDAR = "calendar_or_cut_off"
    NO_RATE = "no_rate_for_weight"
    EXCLUDED = "excluded_by_rule"
    INVENTORY = "inventory"
    BUFFER = "buffer"
    CAPACITY = "capacity"
    SPLIT_RULE = "split_rule"
    VALUE = "value_threshold"
    COST = "waiting_is_cheaper"


class CostPart(Struct, frozen=True, gc=False):
    """One part of the cost: weighted millionths, for a shipment (number) or, with 0, for the order."""

    kind: CostKind
    amount: Cost
    shipment_no: int = 0
    line_no: int = 0


class Booking(Struct, frozen=True, gc=False):
    """Capacity a shipment takes: `quantity` in the unit of the node's slot (weight in grams)."""

    node: str
    day: date
    slot: int
    quantity: int


class PlannedShipment(Struct, frozen=True, gc=False):
    """One departure: by `lanes` (transfers first, the last one reaches the customer) from a node on a day.

    `arrive_by` is the day at the confidence of the service level.
    """

    no: int
    node: str
    lanes: tuple[str, ...]
    ship_on: date
    arrive_by: date
    weight_ug: int
    co2e_mg: int
    bookings: tuple[Booking, ...] = ()


class Assignment(Struct, frozen=True, gc=False):
    """`quantity` base units of `item` from a position (or from a receipt there) for a line, in a shipment.

    `line_quantity` is how much of the ordered line it serves, in the ordered item's base units; of the parts of a kit
    only the first carries it.
    """

    line_no: int
    shipment_no: int
    item: str
    position: int
    node: str
    pool: str
    lot: str
    quantity: Quantity
    line_quantity: Quantity
    receipt: UUID | None = None


class Unserved(Struct, frozen=True, gc=False):
    """Part of a line that waits for supply, why, and the day supply is thought to come if that is known."""

    line_no: int
    quantity: Quantity
    reason: Elimination
    expected_on: date | None = None


class Plan(Struct, frozen=True, gc=False):
    """A decision's outcome. `gap_ppm` is the proven distance from the optimum, 0 when it is exact."""

    shipments: tuple[PlannedShipment, ...]
    assignments: tuple[Assignment, ...]
    unserved: tuple[Unserved, ...]
    costs: tuple[CostPart, ...]
    gap_ppm: int = 0

    @property
    def objective(self) -> Cost:
        """What was minimised: the sum of the weighted parts, in millionths."""
        return sum(part.amount for part in self.costs)

    @property
    def co2e_mg(self) -> int:
        """Milligrams of CO2 equivalent of all shipments."""
        return sum(shipment.co2e_mg for shipment in self.shipments)
