"""What planned shipments take of the slots of nodes, and what dropped ones give back (law 14)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from poolwise.core.network import Network
from poolwise.flows.ports import CapacityChange, ShipmentRecord


def bookings_of(
    network: Network, shipments: Iterable[ShipmentRecord], sign: int = 1, hard: bool = False
) -> list[CapacityChange]:
    """Capacity taken by shipments, summed by slot, in key order; with sign -1 what is given back.

    Where capacity is `hard` the change is refused above the slot's limit.
    """
    summed: dict[tuple[int, str, date, int], int] = {}
    for record in shipments:
        for booking in record.shipment.bookings:
            key = (network.nodes[booking.node].cell, booking.node, booking.day, booking.slot)
            summed[key] = summed.get(key, 0) + sign * booking.quantity
    return [
        CapacityChange(cell, node, day, slot, quantity, network.nodes[node].slots[slot].limit if hard else None)
        for (cell, node, day, slot), quantity in sorted(summed.items())
        if quantity
    ]
