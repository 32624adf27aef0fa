"""How plans and what hangs on them are shown: shipments, assignments, reservations, decisions, costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from poolwise.core.catalog import Catalog
from poolwise.core.fulfilment import Stage
from poolwise.core.ledger import ReservationKind
from poolwise.core.orders import Order
from poolwise.core.policy.terms import CostKind
from poolwise.core.sourcing.plan import Elimination, Plan, PlannedShipment
from poolwise.core.values import MICROGRAMS_PER_KG, base_to_text
from poolwise.flows.views import DecisionHead, Held
from poolwise.web.forms import Decimal, cost_text, quantity_text

_KILOGRAM_PLACES = len(str(MICROGRAMS_PER_KG)) - 1
_CO2E_PLACES = 6


class BookingOut(msgspec.Struct, frozen=True, kw_only=True):
    """Capacity that a shipment takes of a slot of its node (weight in grams)."""

    day: date
    slot: int
    quantity: int


class ShipmentOut(msgspec.Struct, frozen=True, kw_only=True):
    """One departure. `lanes` are taken in turn, the last one reaches the customer.

    What is `planned` may be planned anew, under another number; what is `released` the node works on.
    """

    no: int
    node: str
    stage: Stage
    lanes: list[str]
    ship_on: date
    arrive_by: date
    weight_kg: Decimal
    co2e_kg: Decimal
    bookings: list[BookingOut]


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """Units set aside for a line, in the unit of their item; `open` are those still set aside."""

    no: int
    line_no: int
    shipment_no: int
    item: str
    node: str
    pool: str
    lot: str
    kind: ReservationKind
    quantity: Decimal
    open: Decimal
    receipt: UUID | None
    expires_at: datetime | None


class DecisionOut(msgspec.Struct, frozen=True, kw_only=True):
    """A decision by the names of what it was made under."""

    attempt: int
    at: datetime
    edition: str
    policy: str
    policy_version: int
    release: str
    wave: UUID | None


class AssignmentOut(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity of an item from a position (or from a receipt there) for a line, in a shipment."""

    line_no: int
    shipment_no: int
    item: str
    node: str
    pool: str
    lot: str
    quantity: Decimal
    receipt: UUID | None


class UnservedOut(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a line that waits for supply, why, what limits it (a part of a kit, else the item), and until when."""

    line_no: int
    quantity: Decimal
    reason: Elimination
    limited_by: str
    expected_on: date | None


class CostOut(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the cost, weighted; `shipment_no` and `line_no` are 0 where it is not of one."""

    kind: CostKind
    amount: Decimal
    shipment_no: int
    line_no: int


class PlanOut(msgspec.Struct, frozen=True, kw_only=True):
    """A plan. The parts of the cost add up exactly to `cost`, in the costing currency of the network."""

    cost: Decimal
    currency: str
    co2e_kg: Decimal
    gap_ppm: Annotated[int, Meta(description="Proven distance from the optimum; 0 when it is the optimum.")]
    shipments: list[ShipmentOut]
    assignments: list[AssignmentOut]
    unserved: list[UnservedOut]
    costs: list[CostOut]


def shipments_out(shipments: Iterable[PlannedShipment], stages: Mapping[int, Stage] | None = None) -> list[ShipmentOut]:
    """Shipments by number; without `stages` they are planned and no more."""
    return [
        ShipmentOut(
            no=shipment.no,
            node=shipment.node,
            stage=Stage.PLANNED if stages is None else stages[shipment.no],
            lanes=list(shipment.lanes),
            ship_on=shipment.ship_on,
            arrive_by=shipment.arrive_by,
            weight_kg=base_to_text(shipment.weight_ug, _KILOGRAM_PLACES),
            co2e_kg=base_to_text(shipment.co2e_mg, _CO2E_PLACES),
            bookings=[BookingOut(day=b.day, slot=b.slot, quantity=b.quantity) for b in shipment.bookings],
        )
        for shipment in shipments
    ]


def held_out(held: Iterable[Held], catalog: Catalog) -> list[HeldOut]:
    """Reservations by number."""
    return [
        HeldOut(
            no=each.no,
            line_no=each.line_no,
            shipment_no=each.shipment_no,
            item=each.item,
            node=each.node,
            pool=each.pool,
            lot=each.lot,
            kind=each.kind,
            quantity=quantity_text(catalog, each.item, each.quantity),
            open=quantity_text(catalog, each.item, each.open),
            receipt=each.receipt,
            expires_at=each.expires_at,
        )
        for each in held
    ]


def decisions_out(decisions: Iterable[DecisionHead]) -> list[DecisionOut]:
    """Decisions by attempt."""
    return [
        DecisionOut(
            attempt=each.attempt,
            at=each.at,
            edition=each.edition,
            policy=each.policy,
            policy_version=each.policy_version,
            release=each.release,
            wave=each.wave,
        )
        for each in decisions
    ]


def plan_out(plan: Plan, order: Order, catalog: Catalog, currency: str, limits: Mapping[int, str]) -> PlanOut:
    """A plan with its costs; `limits` says of lines what allows no more of them."""
    ordered = {line.no: line.item for line in order.lines}
    return PlanOut(
        cost=cost_text(plan.objective),
        currency=currency,
        co2e_kg=base_to_text(plan.co2e_mg, _CO2E_PLACES),
        gap_ppm=plan.gap_ppm,
        shipments=shipments_out(plan.shipments),
        assignments=[
            AssignmentOut(
                line_no=part.line_no,
                shipment_no=part.shipment_no,
                item=part.item,
                node=part.node,
                pool=part.pool,
                lot=part.lot,
                quantity=quantity_text(catalog, part.item, part.quantity),
                receipt=part.receipt,
            )
            for part in plan.assignments
        ],
        unserved=[
            UnservedOut(
                line_no=part.line_no,
                quantity=quantity_text(catalog, ordered[part.line_no], part.quantity),
                reason=part.reason,
                limited_by=limits.get(part.line_no, ""),
                expected_on=part.expected_on,
            )
            for part in plan.unserved
        ],
        costs=[
            CostOut(kind=part.kind, amount=cost_text(part.amount), shipment_no=part.shipment_no, line_no=part.line_no)
            for part in plan.costs
        ],
    )
