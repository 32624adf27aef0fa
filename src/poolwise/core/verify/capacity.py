"""Whether every shipment books the slots it needs, has room in them, and leaves on the earliest day it can.

Keeps laws 14 and 15 for docs/sourcing.md, "Days". Bookings of a sequence of orders add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, time, timedelta
from typing import TypeAlias

from poolwise.core.network import CapacityUnit, Node, Slot
from poolwise.core.sourcing.plan import PlannedShipment
from poolwise.core.sourcing.problem import Problem
from poolwise.core.verify.case import Case, Constraint, Load, Violation, local, units_up
from poolwise.core.verify.supply import SlotKey
from poolwise.core.verify.travel import first_ship_day, is_ship_day, last_ship_day

MICROGRAMS_PER_GRAM = 1_000_000

Taken: TypeAlias = dict[SlotKey, int]
"""What is booked of a slot."""


def add_bookings(taken: Taken, shipment: PlannedShipment) -> None:
    """Count the bookings of a shipment."""
    for booking in shipment.bookings:
        key = (booking.node, booking.day, booking.slot)
        taken[key] = taken.get(key, 0) + booking.quantity


def check_capacity(case: Case, before: Mapping[SlotKey, int]) -> Iterator[Violation]:
    """Each shipment books all slots of one stretch of hours, with what it counts, and there is room.

    `before` is what is taken by others; the shipments add to it in the order of their numbers.
    """
    taken = dict(before)
    hard = case.problem.terms.policy.capacity_is_hard
    for shipment in case.plan.shipments:
        node, loads = case.network.nodes[shipment.node], case.loads(shipment.no)
        booked = {booking.slot: booking.quantity for booking in shipment.bookings}
        choices = [
            {slot: measure(node.slots[slot].unit, loads) for slot in hours}
            for hours in hours_of(case.problem, node, shipment.ship_on)
        ]
        elsewhere = any((b.node, b.day) != (shipment.node, shipment.ship_on) for b in shipment.bookings)
        if elsewhere or len(booked) < len(shipment.bookings):
            yield case.violation(Constraint.CAPACITY, "books another node or day, or a slot twice", shipment.no)
            continue
        if booked not in (choices if node.slots else [{}]):
            text = f"books {booked} of {node.code} where one of {choices} is needed"
            yield case.violation(Constraint.CAPACITY, text, shipment.no)
            continue
        if hard and not _has_room(node, shipment.ship_on, booked, taken):
            yield case.violation(Constraint.CAPACITY, f"no room at {node.code} on {shipment.ship_on}", shipment.no)
        if not hard and node.slots:
            roomy = [choice for choice in choices if _has_room(node, shipment.ship_on, choice, taken)]
            if booked != (roomy or choices)[0]:
                yield case.violation(Constraint.CAPACITY, "not the first hours with room", shipment.no)
        add_bookings(taken, shipment)


def check_earliest(case: Case) -> Iterator[Violation]:
    """A shipment leaves on the first day that its route, its receipts and the slots beside the others allow."""
    due = {receipt: fact.due_on for receipt, fact in case.supply.expected.items()}
    for shipment in case.plan.shipments:
        lanes, node = case.lanes(shipment), case.network.nodes[shipment.node]
        own = [each for each in case.plan.assignments if each.shipment_no == shipment.no]
        used = [due[each.receipt] for each in own if each.receipt is not None]
        others = dict(case.supply.taken)
        for other in case.plan.shipments:
            if other.no != shipment.no:
                add_bookings(others, other)
        day = max(first_ship_day(case.problem, lanes) or shipment.ship_on, *used, date.min)
        while day < min(shipment.ship_on, last_ship_day(case.problem, lanes)):
            if is_ship_day(case.network, lanes, day) and _fits(case, node, day, case.loads(shipment.no), others):
                yield case.violation(Constraint.EARLIEST, f"could leave on {day}, not {shipment.ship_on}", shipment.no)
                break
            day += timedelta(days=1)


def _fits(case: Case, node: Node, day: date, loads: tuple[Load, ...], taken: Mapping[SlotKey, int]) -> bool:
    if not node.slots:
        return True
    choices = hours_of(case.problem, node, day)
    if not case.problem.terms.policy.capacity_is_hard:
        return bool(choices)
    measured = ({slot: measure(node.slots[slot].unit, loads) for slot in hours} for hours in choices)
    return any(_has_room(node, day, choice, taken) for choice in measured)


def _has_room(node: Node, day: date, booked: Mapping[int, int], taken: Mapping[SlotKey, int]) -> bool:
    return all(
        taken.get((node.code, day, slot), 0) + quantity <= node.slots[slot].limit for slot, quantity in booked.items()
    )


def hours_of(problem: Problem, node: Node, day: date) -> list[list[int]]:
    """The slots of a node that can be used on a day, by their hours: each stretch is one choice, earliest first."""
    dated = [slot for slot in node.slots if slot.only_on == day]
    usual = [slot for slot in node.slots if slot.only_on is None and day.weekday() in slot.weekdays]
    now = local(problem, node)
    stretches: dict[tuple[time, time], list[int]] = {}
    for place, slot in enumerate(node.slots):
        if slot in (dated or usual) and _is_still_open(slot, day, now.date(), now.time()):
            stretches.setdefault((slot.since, slot.until), []).append(place)
    return [stretches[hours] for hours in sorted(stretches)]


def _is_still_open(slot: Slot, day: date, today: date, now: time) -> bool:
    return day > today or (day == today and now < slot.until)


def measure(unit: CapacityUnit, loads: tuple[Load, ...]) -> int:
    """What a shipment counts in a unit of capacity; weight in grams."""
    match unit:
        case CapacityUnit.ORDERS:
            return 1
        case CapacityUnit.LINES:
            return len({load.line.no for load in loads})
        case CapacityUnit.UNITS:
            return units_up(loads)
        case CapacityUnit.WEIGHT:
            return -(-sum(load.weight_ug for load in loads) // MICROGRAMS_PER_GRAM)


def capacity_over(case: Case, before: Mapping[SlotKey, int]) -> dict[int, list[tuple[int, int]]]:
    """By how much each shipment takes its slots further above their limits: (amount, per) by shipment number.

    A unit of weight is a kilogram, counted in grams.
    """
    taken = dict(before)
    over: dict[int, list[tuple[int, int]]] = {}
    for shipment in case.plan.shipments:
        for booking in shipment.bookings:
            slot = case.network.nodes[booking.node].slots[booking.slot]
            already = taken.get((booking.node, booking.day, booking.slot), 0)
            further = max(0, already + booking.quantity - slot.limit) - max(0, already - slot.limit)
            over.setdefault(shipment.no, []).append((further, 1_000 if slot.unit is CapacityUnit.WEIGHT else 1))
        add_bookings(taken, shipment)
    return over
