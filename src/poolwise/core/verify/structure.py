"""Whether a plan refers only to what is there; the other checks may then look everything up."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from poolwise.core.sourcing.plan import Assignment
from poolwise.core.sourcing.problem import Place
from poolwise.core.verify.case import Case, Constraint, Violation


def check_structure(case: Case) -> Iterator[Violation]:
    """Shipments are numbered and sorted, not empty and not double; every reference leads somewhere."""
    numbers = [shipment.no for shipment in case.plan.shipments]
    if numbers != list(range(1, len(numbers) + 1)):
        yield case.violation(Constraint.STRUCTURE, f"shipments are numbered {numbers}, not 1, 2, ...")
    keys = [(shipment.ship_on, shipment.node, shipment.lanes) for shipment in case.plan.shipments]
    if any(first >= second for first, second in pairwise(keys)):
        yield case.violation(Constraint.STRUCTURE, "shipments are not one each and sorted by day, node and lanes")
    network = case.network
    filled = {assignment.shipment_no for assignment in case.plan.assignments}
    for shipment in case.plan.shipments:
        unknown = [lane for lane in shipment.lanes if lane not in network.lanes]
        if shipment.node not in network.nodes or not shipment.lanes or unknown:
            text = f"no such node or lane: {shipment.node}, {', '.join(shipment.lanes)}"
            yield case.violation(Constraint.STRUCTURE, text, shipment.no)
        if shipment.no not in filled:
            yield case.violation(Constraint.STRUCTURE, "an empty shipment", shipment.no)
        for booking in shipment.bookings:
            if booking.node not in network.nodes or not 0 <= booking.slot < len(network.nodes[booking.node].slots):
                text = f"no such slot: {booking.slot} of {booking.node}"
                yield case.violation(Constraint.STRUCTURE, text, shipment.no)
    for unserved in case.plan.unserved:
        if unserved.line_no not in case.open or unserved.quantity <= 0:
            text = f"{unserved.quantity} waiting for a line that is not open"
            yield case.violation(Constraint.STRUCTURE, text, line_no=unserved.line_no)
    yield from _check_assignments(case)


def _check_assignments(case: Case) -> Iterator[Violation]:
    catalog = case.problem.edition.catalog
    nodes = {shipment.no: shipment.node for shipment in case.plan.shipments}
    for assignment in case.plan.assignments:
        place = case.supply.place(assignment.position, assignment.receipt)
        if nodes.get(assignment.shipment_no) != assignment.node:
            fault = f"node {assignment.node} is not that of its shipment"
        elif assignment.line_no not in case.open:
            fault = "the line is not open"
        elif assignment.item not in catalog.items or assignment.pool not in case.network.pools:
            fault = f"no such item or pool: {assignment.item}, {assignment.pool}"
        elif assignment.quantity <= 0 or assignment.line_quantity < 0:
            fault = f"quantity {assignment.quantity} for {assignment.line_quantity} of the line"
        elif place is None or not _is_at(assignment, place):
            fault = f"no such stock or receipt: position {assignment.position} as {assignment.item} {assignment.lot}"
        else:
            continue
        yield case.violation(Constraint.STRUCTURE, fault, assignment.shipment_no, assignment.line_no)


def _is_at(assignment: Assignment, place: Place) -> bool:
    named = (assignment.position, assignment.item, assignment.node, assignment.pool, assignment.lot)
    return named == (place.position, place.item, place.node, place.pool, place.lot)
