"""What a report says of units and of the parcels they left in: read into our codes, and kept as it is shown (law 9)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from poolwise.core.messages import ReportKind, ReportLine, ReportParcel, ShipmentReport
from poolwise.core.values import LARGEST_QUANTITY, Fault, Json, Quantity, Rate, parse_scaled
from poolwise.flows.tallying import Clerk

LEFT: Final = frozenset({ReportKind.SHIPPED, ReportKind.DELIVERED, ReportKind.FAILED})
"""Reports of what has left the node: only that is in parcels."""

Units = list[tuple[str, Quantity]]


def read_lines(clerk: Clerk, lines: Iterable[ReportLine], field: str) -> tuple[Units, list[Fault]]:
    """The lines of a report by our codes, in base units, and what is wrong with them."""
    units: Units = []
    faults, total = [], 0
    for place, line in enumerate(lines):
        code = clerk.item(line.item)
        if code is None:
            faults.append(Fault(f"{field}[{place}].item", f"there is no item '{line.item}'"))
            continue
        try:
            quantity = parse_scaled(line.quantity, clerk.edition.catalog.items[code].scale)
        except ValueError as error:
            faults.append(Fault(f"{field}[{place}].quantity", str(error)))
            continue
        total += max(0, quantity)
        if not 0 < quantity <= total <= LARGEST_QUANTITY:
            more = f"{line.quantity}, with what was named before, is more than {LARGEST_QUANTITY} base units"
            faults.append(Fault(f"{field}[{place}].quantity", more if quantity > 0 else "must be more than 0"))
        units.append((code, quantity))
    return units, faults


def read_parcels(clerk: Clerk, report: ShipmentReport) -> tuple[tuple[ReportParcel, ...], Units, list[Fault]]:
    """The parcels of a report by our codes, all that is in them, and what is wrong with them.

    Parcels of a report without lines say what has left: all of them by lines, or none.
    """
    faults = []
    if report.parcels and report.kind is not ReportKind.SHIPPED:
        faults.append(Fault("parcels", f"{report.kind.value} is of no parcels"))
    itemised = any(parcel.lines for parcel in report.parcels)
    parcels: list[ReportParcel] = []
    units: Units = []
    for place, parcel in enumerate(report.parcels):
        if not parcel.lines and itemised and not report.lines:
            faults.append(Fault(f"parcels[{place}].lines", "is missing, and other parcels have it"))
        found, wrong = read_lines(clerk, parcel.lines, f"parcels[{place}].lines")
        if parcel.tracking and parcel.tracking in [before.tracking for before in parcels]:
            faults.append(Fault(f"parcels[{place}].tracking", f"another parcel has {parcel.tracking}"))
        parcels.append(ReportParcel(tracking=parcel.tracking, box=parcel.box, lines=_lines(clerk, found)))
        units += found
        faults += wrong
    return tuple(parcels), units, faults


def contradictions(report: ShipmentReport, lines: Units, packed: Units) -> list[Fault]:
    """Where its parcels hold more than the lines of a report, or less though each of them tells what is in it."""
    told, held = _sums(lines), _sums(packed)
    is_more = any(units > told.get(item, 0) for item, units in held.items())
    is_less = held != told and all(parcel.lines for parcel in report.parcels)
    if not (report.lines and packed) or not (is_more or is_less):
        return []
    return [Fault("parcels", "hold other units than the lines of the report: leave one of the two out")]


def _sums(units: Units) -> dict[str, Quantity]:
    found: dict[str, Quantity] = {}
    for item, quantity in units:
        found[item] = found.get(item, 0) + quantity
    return found


def fields_of(report: ShipmentReport) -> list[str]:
    """The field of each line that says what a report is about: its own lines, else those of its parcels."""
    if report.lines:
        return [f"lines[{place}]" for place in range(len(report.lines))]
    return [
        f"parcels[{box}].lines[{place}]"
        for box, parcel in enumerate(report.parcels)
        for place in range(len(parcel.lines))
    ]


def parcels_left(clerk: Clerk, report: ShipmentReport, left: Sequence[tuple[str, Quantity]]) -> list[Json]:
    """The parcels in which units have left, as they are kept: one, where only its tracking number is known."""
    parcels = report.parcels
    if not parcels and report.tracking and report.kind in LEFT:
        units: dict[str, Quantity] = {}
        for item, quantity in left:
            units[item] = units.get(item, 0) + quantity
        parcels = (ReportParcel(tracking=report.tracking, lines=_lines(clerk, sorted(units.items()))),)
    return [
        {
            "tracking": parcel.tracking,
            "box": parcel.box,
            "lines": [{"item": line.item, "quantity": line.quantity} for line in parcel.lines],
        }
        for parcel in parcels
    ]


def _lines(clerk: Clerk, units: Iterable[tuple[str, Quantity]]) -> tuple[ReportLine, ...]:
    items = clerk.edition.catalog.items
    return tuple(
        ReportLine(item=code, quantity=str(Rate(quantity, items[code].scale if code in items else 0).reduced()))
        for code, quantity in units
    )
