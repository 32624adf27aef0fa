"""Drop-shipping: what is released to a node of a supplier is a purchase order, derived from the shipment alone.

Keeps laws 17 and 19: it names no person, and what has no known cost has none here. Nothing of it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from poolwise.core.edition.build import Edition
from poolwise.core.orders import Order
from poolwise.core.values import Cost, Json, Quantity, Rate, base_to_text


@dataclass(frozen=True, slots=True)
class PurchaseLine:
    """Units of an item to be bought. `identifier` is the supplier's own, '' where we know none.

    `unit_cost`, of a whole unit, and `amount`, in millionths, are in the costing currency; None where unknown.
    """

    item: str
    identifier: str
    quantity: Quantity
    unit_cost: Rate | None
    amount: Cost | None


def number_of(order: str, shipment_no: int) -> str:
    """The number of a purchase order: that of the order and of the shipment, which never change."""
    return f"{order}-{shipment_no}"


def shipment_of(number: str) -> tuple[str, int] | None:
    """The order and the shipment that a purchase order is of; None where this is no such number."""
    order, _, no = number.rpartition("-")
    return (order, int(no)) if order and no.isascii() and no.isdigit() and len(no) < 20 else None


def purchase_lines(edition: Edition, supplier: str, units: Mapping[str, Quantity]) -> list[PurchaseLine]:
    """The lines of a purchase order, by item."""
    found = []
    for code, quantity in sorted(units.items()):
        item = edition.catalog.items.get(code)
        cost = item.unit_cost if item else None
        amount = None if item is None or cost is None else cost.times(quantity, 10**item.scale)
        identifier = edition.catalog.identifiers.get((supplier, code), "")
        found.append(PurchaseLine(code, identifier, quantity, cost, amount))
    return found


def total_of(lines: list[PurchaseLine]) -> Cost | None:
    """The amount of all lines; None where that of one is unknown."""
    known = [line.amount for line in lines if line.amount is not None]
    return sum(known) if len(known) == len(lines) else None


def sent_to(edition: Edition, zone: str, lanes: tuple[str, ...]) -> str:
    """The node a supplier sends it to, by its first lane or to be collected there; '' where it goes to the customer."""
    first = edition.network.lanes.get(lanes[0]) if lanes else None
    return first.destination if first and first.to_node else edition.network.collected_at(zone)


def placed(
    edition: Edition, supplier: str, order: Order, shipment_no: int, units: Mapping[str, Quantity]
) -> dict[str, Json]:
    """What is told when a purchase order is placed, with costs as they are then."""
    lines: list[Json] = []
    for line in purchase_lines(edition, supplier, units):
        item = edition.catalog.items.get(line.item)
        told: dict[str, Json] = {
            "item": line.item,
            "quantity": base_to_text(line.quantity, item.scale if item else 0),
            "unit_cost": None if line.unit_cost is None else str(line.unit_cost),
        }
        lines.append(told | ({"identifier": line.identifier} if line.identifier else {}))
    number = number_of(order.number, shipment_no)
    return {
        "number": number, "partner": supplier, "order": order.number, "shipment": shipment_no,
        "currency": edition.network.currency, "lines": lines,
    }  # fmt: skip
