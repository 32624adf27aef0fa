"""The parcels of a shipment: those that have left, and how the node should pack the rest. Worked out, never kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from poolwise.core.cartons import proposed
from poolwise.core.edition.build import Edition
from poolwise.core.fulfilment import Stage
from poolwise.core.values import MICROGRAMS_PER_KG, Quantity, base_to_text
from poolwise.flows.views import LeftParcel, OrderView
from poolwise.web.forms import Decimal, quantity_text
from poolwise.web.plans import ShipmentOut, shipments_out

_KILOGRAM_PLACES: Final = len(str(MICROGRAMS_PER_KG)) - 1


class ParcelLineOut(msgspec.Struct, frozen=True, kw_only=True):
    """Units of an item in a parcel, in its own unit."""

    item: str
    quantity: Decimal


class ParcelOut(msgspec.Struct, frozen=True, kw_only=True):
    """A parcel that has left, by its `tracking`; without one, how the node should pack what is still to be sent.

    What fits into no box has none (`""`): it ships in its own packaging.
    """

    no: int
    box: str
    lines: list[ParcelLineOut]
    weight_kg: Annotated[Decimal | None, Meta(description="With the box; of what has left nobody weighed it here.")]
    tracking: str


class PackedShipmentOut(ShipmentOut, frozen=True, kw_only=True):
    """One departure, and its parcels. `lanes` are taken in turn, the last one reaches the customer.

    What is `planned` may be planned anew, under another number; what is `released` the node works on.
    """

    parcels: list[ParcelOut]


def proposed_out(
    edition: Edition, node: str, units: Iterable[tuple[str, Quantity]], first_no: int = 1
) -> list[ParcelOut]:
    """How a node should pack so many base units of items, numbered from `first_no`."""
    return [
        ParcelOut(
            no=parcel.no - 1 + first_no,
            box=parcel.box,
            lines=[
                ParcelLineOut(item=item, quantity=quantity_text(edition.catalog, item, quantity))
                for item, quantity in parcel.contents
            ],
            weight_kg=base_to_text(parcel.weight_ug, _KILOGRAM_PLACES),
            tracking="",
        )
        for parcel in proposed(edition, node, units)
    ]


def left_out(parcels: Iterable[LeftParcel]) -> list[ParcelOut]:
    """Parcels that have left, numbered from 1."""
    return [
        ParcelOut(
            no=no,
            box=parcel.box,
            lines=[ParcelLineOut(item=item, quantity=quantity) for item, quantity in parcel.lines],
            weight_kg=None,
            tracking=parcel.tracking,
        )
        for no, parcel in enumerate(parcels, start=1)
    ]


def packed_shipments_out(view: OrderView, edition: Edition) -> list[PackedShipmentOut]:
    """The shipments of an order with their parcels: first those that have left, then how to pack the rest."""
    open_: dict[int, list[tuple[str, Quantity]]] = {}
    for held in view.reservations:
        if held.open:
            open_.setdefault(held.shipment_no, []).append((held.item, held.open))
    shown = []
    for shipment in shipments_out(view.shipments, view.stages):
        left = left_out(view.parcels.get(shipment.no, ()))
        # What is ready is packed.
        open_lines = () if shipment.stage is Stage.READY else open_.get(shipment.no, ())
        rest = proposed_out(edition, shipment.node, open_lines, len(left) + 1)
        shown.append(PackedShipmentOut(**msgspec.structs.asdict(shipment), parcels=left + rest))
    return shown
