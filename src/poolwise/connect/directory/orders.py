"""Read a file of orders: consecutive rows with the same number are one order, taken whole or not at all (law 12)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from poolwise.connect.directory.columns import RowError, Texts, Values, read_values
from poolwise.connect.directory.messages import ORDERS
from poolwise.connect.directory.reading import Bad, Reject, records
from poolwise.core.messages import Address, OrderLine, OrderMessage
from poolwise.core.orders import MOST_LINES
from poolwise.core.values import Fault, Rate

LINE_COLUMNS: Final = ("item", "quantity", "pack", "unit_price", "weight_kg", "substitutes", "together")
ADDRESS_COLUMNS: Final = (
    "country", "postcode", "latitude", "longitude", "name", "street", "city", "email", "phone",
)  # fmt: skip
ORDER_COLUMNS: Final = tuple(name for name in ORDERS.names if name not in ("order", *LINE_COLUMNS))
DEGREE_PLACES: Final = 6


@dataclass(slots=True)
class ReadOrder:
    """An order of a file: its message, and the line of the file for each of its lines."""

    message: OrderMessage
    rows: list[int]


@dataclass(slots=True)
class _Gathering:
    """Rows of one order, as far as they have come."""

    number: str
    first: Texts
    values: list[Values] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    faults: list[Reject] = field(default_factory=list)


def orders(path: Path, reject: Callable[[Reject], object]) -> Iterator[ReadOrder]:
    """The orders of a file. One with a bad row is rejected whole. Raises FileError when the file is refused."""
    order: _Gathering | None = None
    for entry in records(ORDERS, path):
        if isinstance(entry, Bad):
            for fault in entry.faults:
                reject(Reject(ORDERS.name, entry.row, fault.field, fault.reason))
            if order:
                reason = "the row after it cannot be read and may belong to the order"
                order.faults.append(Reject(ORDERS.name, order.rows[0], "", reason))
            continue
        number = entry.texts.get("order", "").strip()
        if order and number != order.number:
            yield from _finished(order, reject)
            order = None
        if order is None:
            order = _Gathering(number, entry.texts)
        _add(order, entry.row, entry.texts)
    if order:
        yield from _finished(order, reject)


def _add(order: _Gathering, row: int, texts: Texts) -> None:
    order.rows.append(row)
    if len(order.rows) > MOST_LINES:
        if len(order.rows) == MOST_LINES + 1:
            order.faults.append(Reject(ORDERS.name, row, "", f"an order has at most {MOST_LINES} lines"))
        return
    for name in ORDER_COLUMNS:
        text = texts.get(name, "").strip()
        if text and text != order.first.get(name, "").strip():
            order.faults.append(Reject(ORDERS.name, row, name, "differs from the first row of the order"))
    try:
        order.values.append(read_values(ORDERS, texts))
    except RowError as error:
        order.faults += [Reject(ORDERS.name, row, fault.field, fault.reason) for fault in error.faults]


def _finished(order: _Gathering, reject: Callable[[Reject], object]) -> Iterator[ReadOrder]:
    """The order, or every reason why it is not taken."""
    if not order.faults and "channel" not in order.values[0]:
        order.faults.append(Reject(ORDERS.name, order.rows[0], "channel", "is missing"))
    if not order.faults:
        yield ReadOrder(_message(order.number, order.values), order.rows)
        return
    for fault in order.faults:
        reject(fault)


def _message(number: str, rows: list[Values]) -> OrderMessage:
    first = rows[0]
    given: dict[str, Any] = {
        name: first[name] for name in ORDER_COLUMNS if name in first and name not in ADDRESS_COLUMNS
    }
    address = {name: _degrees(name, first[name]) for name in ADDRESS_COLUMNS if name in first}
    return OrderMessage(
        number=number,
        ship_to=Address(**address) if address else None,
        lines=tuple(OrderLine(**{name: row[name] for name in LINE_COLUMNS if name in row}) for row in rows),
        **given,
    )


def _degrees(name: str, value: Any) -> str:
    return str(Rate(value, DEGREE_PLACES).reduced()) if name in ("latitude", "longitude") else value


def rejects_of(order: ReadOrder, faults: tuple[Fault, ...]) -> Iterator[Reject]:
    """Faults that intake found in a message, by row and column of the file: `lines[2].item` is of the third row."""
    for fault in faults:
        row, column = order.rows[0], fault.field
        if column.startswith("lines["):
            place, _, column = column.removeprefix("lines[").partition("].")
            row = order.rows[int(place)] if place.isdecimal() and int(place) < len(order.rows) else row
        column = {"number": "order"}.get(column.removeprefix("ship_to."), column.removeprefix("ship_to."))
        yield Reject(ORDERS.name, row, column, fault.reason)
