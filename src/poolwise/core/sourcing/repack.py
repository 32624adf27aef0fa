"""Repacking: a shipment of which less is sent than was planned weighs and emits less, and gives room back (law 14)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from poolwise.core.edition.build import Edition
from poolwise.core.ledger import Reservation
from poolwise.core.orders import Order
from poolwise.core.sourcing.costs import Sent, lane_co2e, need_of, weight_of
from poolwise.core.sourcing.plan import Booking, PlannedShipment
from poolwise.core.values import divide_rounded, replace


def repacked(
    shipment: PlannedShipment, order: Order, parts: Iterable[Reservation], items: Mapping[int, str], edition: Edition
) -> PlannedShipment:
    """A shipment with only `parts` in it, for lines of an order; `items` are those of their positions.

    It keeps its days and lanes, and takes no more of any slot than before.
    """
    lines = {line.no: line for line in order.lines}
    units: dict[tuple[int, str], tuple[int, int]] = {}
    for part in parts:
        key = (part.line_no, items[part.position])
        quantity, served = units.get(key, (0, 0))
        units[key] = (quantity + part.quantity, served + part.line_quantity)
    sent = []
    for (no, code), (quantity, served) in sorted(units.items()):
        line, item = lines[no], edition.catalog.items[code]
        bill = edition.catalog.bills.get(line.item)
        is_part = bill is not None and any(component.item == code for component in bill.components)
        weight_ug = item.weight_of(quantity) if is_part else weight_of(line, item, served, quantity)
        sent.append(Sent(item, quantity, weight_ug))
    weight_ug = sum(goods.weight_ug for goods in sent)
    need = need_of(len({no for no, _ in units}), sent)
    network = edition.network
    lanes = [network.lanes[code] for code in shipment.lanes if code in network.lanes]
    co2e_mg = divide_rounded(sum(lane_co2e(lane, weight_ug) for lane in lanes), 1000)

    def less(booking: Booking) -> Booking:
        slots = network.nodes[booking.node].slots
        if booking.slot >= len(slots):
            return booking
        return replace(booking, quantity=min(booking.quantity, need.of(slots[booking.slot].unit)))

    return replace(
        shipment,
        weight_ug=weight_ug,
        co2e_mg=co2e_mg if len(lanes) == len(shipment.lanes) else shipment.co2e_mg,
        bookings=tuple(less(booking) for booking in shipment.bookings),
    )


def spared(before: PlannedShipment, after: PlannedShipment) -> PlannedShipment:
    """What a shipment takes no longer of its slots."""
    pairs = zip(before.bookings, after.bookings, strict=True)
    return replace(before, bookings=tuple(replace(was, quantity=was.quantity - now.quantity) for was, now in pairs))
