"""What groups offer, added up: by item, node, pool and echelon, now and by date, and when a basket can be had.

The groups of some items are a table, a row for each item and a column for each *gate* (a pool at a node, seen from one
channel), so that thousands of them are added at once. Only groups that change later - lots expire, receipts come - are
looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from poolwise.core.network import Echelon
from poolwise.core.policy.evaluate import BuffersAt
from poolwise.core.values import Quantity

Profile = tuple[tuple[date, Quantity], ...]
"""Quantities by date: each holds from its day until the next one. The first day is the day that was asked on."""


class Gate(msgspec.Struct, frozen=True):
    """An open pool at an active node, seen from one channel; `kept` is kept back of items that no buffer names."""

    node: str
    pool: str
    echelon: Echelon
    protection: Quantity
    buffers: BuffersAt
    kept: Quantity


class Available(NamedTuple):
    """Usable units under one heading: now, and by date."""

    now: Quantity
    by_date: Profile

    def on(self, day: date) -> Quantity:
        """Units that may be promised for a day."""
        quantity = 0
        for since, held in self.by_date:
            if since > day:
                break
            quantity = held
        return quantity


NONE_AVAILABLE = Available(0, ())


class BasketLine(NamedTuple):
    """One item of a basket: how much is wanted and there, and the first day on which all of it can be promised."""

    item: str
    wanted: Quantity
    there: Available
    ready_on: date | None


class Basket(NamedTuple):
    """When a basket can be promised: line by line, over all nodes, and from one node alone.

    `ready_on` is None where the facts never suffice; `from_one_node` names only nodes that can do it alone.
    """

    lines: tuple[BasketLine, ...]
    ready_on: date | None
    from_one_node: Mapping[str, date]


class Offered(Protocol):
    """What one group offers: `availability.Offer` is such."""

    @property
    def item(self) -> str:
        """Code of the item."""
        ...

    @property
    def gate(self) -> Gate:
        """The pool at a node."""
        ...

    @property
    def now(self) -> Quantity:
        """Usable units on hand."""
        ...

    @property
    def by_date(self) -> Profile:
        """Usable units by date."""
        ...


def by_node(gate: Gate) -> str:
    """A heading: the node."""
    return gate.node


def by_pool(gate: Gate) -> str:
    """A heading: the pool."""
    return gate.pool


def by_echelon(gate: Gate) -> str:
    """A heading: the level of the network."""
    return gate.echelon.value


class Totals:
    """What is offered of some items, asked on one day."""

    def __init__(
        self,
        day: date,
        items: Sequence[str],
        gates: Sequence[Gate],
        now: NDArray[np.int64],
        known: NDArray[np.bool_],
        later: Sequence[Mapping[int, Profile]],
    ) -> None:
        """Of tables of shape (items, gates): usable units now, and where there is a group at all.

        `later` holds, for each item by column, the profiles of the groups that change.
        """
        self._day = day
        self._rows = {item: row for row, item in enumerate(items)}
        self._gates, self._now, self._known, self._later = gates, now, known, later
        self._sums: list[Quantity] = now.sum(axis=1).tolist()
        self._any = np.any(known, axis=1)

    @classmethod
    def of(cls, day: date, items: Sequence[str], offers: Iterable[Offered]) -> Totals:
        """Of groups one by one; all are about the items, and were asked on the day."""
        rows = {item: row for row, item in enumerate(items)}
        placed = list(offers)
        columns: dict[tuple[str, str], int] = {}
        gates: list[Gate] = []
        for offer in placed:
            if (where := (offer.gate.node, offer.gate.pool)) not in columns:
                columns[where] = len(gates)
                gates.append(offer.gate)
        shape = (len(items), len(gates))
        now, known = np.zeros(shape, np.int64), np.zeros(shape, bool)
        later: list[dict[int, Profile]] = [{} for _ in items]
        for offer in placed:
            row, column = rows[offer.item], columns[offer.gate.node, offer.gate.pool]
            now[row, column], known[row, column] = offer.now, True
            if len(offer.by_date) > 1 or offer.by_date[0][1] != offer.now:
                later[row][column] = offer.by_date
        return cls(day, items, gates, now, known, later)

    def knows(self, items: Iterable[str]) -> bool:
        """Whether this is about all of some items."""
        return all(item in self._rows for item in items)

    def within(self, holds: Callable[[str, str], bool]) -> Totals:
        """Only the groups of which `holds` says so of node and pool."""
        inside = np.array([holds(gate.node, gate.pool) for gate in self._gates], bool)
        later = [{at: profile for at, profile in each.items() if inside[at]} for each in self._later]
        return Totals(self._day, list(self._rows), self._gates, self._now * inside, self._known & inside, later)

    def of_item(self, item: str) -> Available:
        """All groups of an item together."""
        row = self._rows[item]
        return self._added(row, self._sums[row], self._later[row]) if self._any[row] else NONE_AVAILABLE

    def parts(self, item: str, heading: Callable[[Gate], str]) -> dict[str, Available]:
        """The groups of an item under a heading, sorted by its names."""
        row = self._rows[item]
        columns: dict[str, list[int]] = {}
        for column in np.flatnonzero(self._known[row]).tolist():
            columns.setdefault(heading(self._gates[column]), []).append(column)
        return {name: self._at(row, columns[name]) for name in sorted(columns)}

    def basket(self, wanted: Mapping[str, Quantity]) -> Basket:
        """When all of `wanted` (item to base units, each more than zero) can be promised out of what is offered."""
        needs = [(self.of_item(item), quantity) for item, quantity in wanted.items()]
        lines = [
            BasketLine(item, quantity, there, _ready([(there, quantity)]))
            for item, (there, quantity) in zip(wanted, needs, strict=True)
        ]
        return Basket(tuple(lines), _ready(needs), self._alone(wanted))

    def _alone(self, wanted: Mapping[str, Quantity]) -> dict[str, date]:
        """The nodes that have all of it by themselves, and from when on.

        Most nodes have it at once, or never will: that is seen without adding dates up. Of the others only the items
        that change there are looked at.
        """
        rows = [self._rows[item] for item in wanted]
        numbers: dict[str, int] = {}
        node_of = [numbers.setdefault(gate.node, len(numbers)) for gate in self._gates]
        nodes = list(numbers)
        first = self._now[rows]
        changing: dict[int, set[int]] = {}
        for place, row in enumerate(rows):
            for column, profile in self._later[row].items():
                first[place, column] = profile[0][1]
                changing.setdefault(node_of[column], set()).add(place)
        there = np.zeros((len(nodes), len(rows)), np.int64)
        np.add.at(there, node_of, first.T)
        lacking: NDArray[np.bool_] = there < np.array(list(wanted.values()))
        missing: list[int] = np.sum(lacking, axis=1).tolist()
        found = {name: self._day for name, lacks in zip(nodes, missing, strict=True) if not lacks}
        quantities = list(wanted.values())
        for node, places in changing.items():
            if not 0 < missing[node] <= len(places) or not places.issuperset(np.flatnonzero(lacking[node]).tolist()):
                continue
            columns = [column for column, number in enumerate(node_of) if number == node]
            needs = [(self._at(rows[place], columns), quantities[place]) for place in sorted(places)]
            if (day := _ready(needs)) is not None:
                found[nodes[node]] = day
        return {node: found[node] for node in sorted(found)}

    def _at(self, row: int, columns: Collection[int]) -> Available:
        """Some groups of an item together."""
        now = int(self._now[row, list(columns)].sum())
        later = {column: self._later[row][column] for column in columns if column in self._later[row]}
        return self._added(row, now, later)

    def _added(self, row: int, now: Quantity, later: Mapping[int, Profile]) -> Available:
        """So many units now, some of them in groups that change."""
        first = now
        changes: dict[date, Quantity] = {}
        for column, by_date in later.items():
            before = by_date[0][1]
            # Receipts that are due already make the first step more than what is on hand.
            first += before - int(self._now[row, column])
            for since, quantity in by_date[1:]:
                changes[since] = changes.get(since, 0) + quantity - before
                before = quantity
        return Available(now, stepped(changes, self._day, first, 0))


def stepped(changes: Mapping[date, Quantity], day: date, there: Quantity, kept: Quantity) -> Profile:
    """Usable units from `day` on, where `there` units count all the time and others come and go; `kept` are not usable.

    Before `day` nothing changes; what changes on it counts from the first step on.
    """
    there += changes.get(day, 0)
    before = max(0, there - kept)
    steps = [(day, before)]
    for when in sorted(changes):
        if when == day:
            continue
        there += changes[when]
        quantity = max(0, there - kept)
        if quantity != before:
            steps.append((when, quantity))
            before = quantity
    return tuple(steps)


def _ready(needs: Sequence[tuple[Available, Quantity]]) -> date | None:
    """First day on which every need is covered at once; stock may run out again when lots expire."""
    if all(there.by_date and there.by_date[0][1] >= quantity for there, quantity in needs):
        return needs[0][0].by_date[0][0]
    days = sorted({since for there, _ in needs for since, _ in there.by_date})
    return next((day for day in days if all(there.on(day) >= quantity for there, quantity in needs)), None)
