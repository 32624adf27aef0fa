"""Purchase orders: what is released to the node of a supplier, as the supplier reads it.

Nothing here is kept: number, lines and amounts follow from the shipment and the catalogue in force. Law 17: the list
names no person; one purchase order tells where to send it only to who may act, and only where that is a customer.
"""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

import msgspec

from poolwise.core.fulfilment import Stage
from poolwise.flows.purchasing import number_of, purchase_lines, sent_to, shipment_of, total_of
from poolwise.flows.tokens import Role
from poolwise.flows.views import Purchase, PurchaseQuery
from poolwise.web.endpoint import Asked, Call, Nothing, Reply, Sent
from poolwise.web.errors import refused
from poolwise.web.forms import Code, Cursor, Decimal, Limit, cost_text, from_cursor, page_of, quantity_text, to_cursor


class PurchasesAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which supplier."""

    partner: Code
    cursor: Cursor = ""
    limit: Limit = 50


class PurchaseLineOut(msgspec.Struct, frozen=True, kw_only=True):
    """Units of an item, in its own unit, in all and still to be sent. `identifier` is the supplier's own.

    Without a known cost, `unit_cost` and `amount` are null.
    """

    item: str
    identifier: str | None
    unit: str
    quantity: Decimal
    open: Decimal
    unit_cost: Decimal | None
    amount: Decimal | None


class DestinationOut(msgspec.Struct, frozen=True, kw_only=True):
    """What a parcel to a customer must say."""

    name: str
    street: str
    postcode: str
    city: str
    country: str


class PurchaseOut(msgspec.Struct, frozen=True, kw_only=True):
    """A shipment that a supplier sends. Reports name it by `order` and `shipment`.

    It goes to a node of ours (`to_node`), or else to an address in `zone`: `ship_to`, where it is known and you may see
    it. `amount` is null as soon as that of a line is.
    """

    number: str
    partner: str
    node: str
    order: str
    shipment: int
    stage: Stage
    placed_at: datetime | None
    requested_date: date | None
    ship_on: date
    arrive_by: date
    zone: str
    to_node: str | None
    ship_to: DestinationOut | None
    currency: str
    lines: list[PurchaseLineOut]
    amount: Decimal | None


class PurchasesOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of purchase orders, those that leave first at first."""

    purchase_orders: list[PurchaseOut]
    next: str | None


def list_purchases(call: Call[PurchasesAsked, Nothing]) -> Reply:
    """List what a supplier has to send: what is released to its nodes. No address is in a list."""
    asked, network = call.query, call.services.rules.current().edition.network
    if asked.partner not in network.partners:
        raise refused("query_invalid", f"there is no partner '{asked.partner}'", "partner")
    nodes = tuple(code for code in sorted(network.nodes) if network.supplier_of(code) == asked.partner)
    after = from_cursor(asked.cursor, tuple[date, UUID, int]) if asked.cursor else None
    query = PurchaseQuery(nodes=nodes, after=after, limit=asked.limit + 1)
    found, more = page_of(call.services.views.purchases(query), asked.limit)
    next_ = to_cursor(found[-1].ship_on, found[-1].order.id, found[-1].shipment_no) if more else None
    shown = [purchase_out(call, each, asked.partner, None) for each in found]
    return Reply(200, PurchasesOut(purchase_orders=shown, next=next_))


def read_purchase(call: Call[Nothing, Nothing]) -> Reply:
    """Read a purchase order, wherever it stands. To whom it is sent is told to operators, integrators and admins."""
    number = call.path["number"]
    unknown = refused("purchase_order_unknown", f"there is no purchase order '{number}'", "number")
    named = shipment_of(number)
    view = None if named is None else call.services.views.order(named[0])
    found = None if view is None or named is None else call.services.views.purchase(view.record.order.id, named[1])
    edition = call.services.rules.current().edition
    supplier = "" if found is None else edition.network.supplier_of(found.node)
    if found is None or not supplier or found.stage in (Stage.PLANNED, Stage.OFFERED):
        raise unknown
    goes_home = not sent_to(edition, found.order.zone, found.lanes) and found.order.contact is not None
    destination = None
    if goes_home and call.actor.role is not Role.VIEWER and found.order.contact is not None:
        data = call.services.views.contact(found.order.contact)
        destination = DestinationOut(**{name: str(data.get(name, "")) for name in DestinationOut.__struct_fields__})
    return Reply(200, purchase_out(call, found, supplier, destination))


def purchase_out(
    call: Call[Asked, Sent], found: Purchase, supplier: str, destination: DestinationOut | None
) -> PurchaseOut:
    """A purchase order as the API shows it."""
    edition = call.services.rules.current().edition
    items, order = edition.catalog.items, found.order
    lines = purchase_lines(edition, supplier, {item: quantity for item, quantity, _ in found.units})
    left = {item: units for item, _, units in found.units}
    total = total_of(lines)
    return PurchaseOut(
        number=number_of(order.number, found.shipment_no),
        partner=supplier,
        node=found.node,
        order=order.number,
        shipment=found.shipment_no,
        stage=found.stage,
        placed_at=found.released_at,
        requested_date=order.requested_date,
        ship_on=found.ship_on,
        arrive_by=found.arrive_by,
        zone=order.zone,
        to_node=sent_to(edition, order.zone, found.lanes) or None,
        ship_to=destination,
        currency=edition.network.currency,
        lines=[
            PurchaseLineOut(
                item=line.item,
                identifier=line.identifier or None,
                unit=items[line.item].unit if line.item in items else "",
                quantity=quantity_text(edition.catalog, line.item, line.quantity),
                open=quantity_text(edition.catalog, line.item, left[line.item]),
                unit_cost=None if line.unit_cost is None else str(line.unit_cost),
                amount=None if line.amount is None else cost_text(line.amount),
            )
            for line in lines
        ],
        amount=None if total is None else cost_text(total),
    )
