"""What a run of orders came to: figures added up from the change feed, fact by fact.

Costs stay integer millionths and emissions integer milligrams; they are divided where they are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

from poolwise.core.ledger import PositionKey
from poolwise.core.values import Cost, Json
from poolwise.flows.ports import Event
from poolwise.flows.views import Numbered, Place

SOURCED: Final = "order.sourced"
SET_ASIDE: Final = frozenset({"reserved", "pledged"})

Whereabouts: TypeAlias = Callable[[Sequence[int]], Mapping[int, PositionKey]]
"""Answers which positions have these ids."""

CostOfWaiting: TypeAlias = Callable[[UUID, int], Cost]
"""Answers which part of a decision's cost stands for demand that waits, by order and attempt."""


@dataclass(slots=True)
class _OrderFigures:
    """One order as far as it is decided."""

    number: str
    lines: int
    parcels: int = 0
    waiting: int = 0
    attempt: int = 0
    cost: Cost = 0
    co2e_mg: int = 0
    nodes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision as the feed tells it."""

    order: UUID
    number: str
    attempt: int
    parcels: int
    waiting: int


@dataclass(slots=True)
class Figures:
    """Sums over orders. `cost` leaves out what the policy asks for demand that waits: nobody pays that.

    `picks` counts lines taken from a pool, `parcels` shipments that leave a node.
    """

    accepted: int = 0
    orders: int = 0
    lines: int = 0
    lines_waiting: int = 0
    split: int = 0
    waiting: int = 0
    cost: Cost = 0
    co2e_mg: int = 0
    began: datetime | None = None
    ended: datetime | None = None
    picks: dict[str, int] = field(default_factory=dict)
    parcels: dict[str, int] = field(default_factory=dict)

    @property
    def lines_filled(self) -> int:
        """Lines served whole, from stock or from a delivery that is due."""
        return self.lines - self.lines_waiting

    @property
    def seconds(self) -> float:
        """From the first order that was accepted to the last decision."""
        return (self.ended - self.began).total_seconds() if self.began and self.ended else 0.0


class FeedReader:
    """Adds up the change feed of a run from a place on; what becomes of older orders does not count."""

    def __init__(self, whereabouts: Whereabouts, cost_of_waiting: CostOfWaiting, place: Place) -> None:
        """Starts with nothing."""
        self._whereabouts, self._cost_of_waiting = whereabouts, cost_of_waiting
        self._orders: dict[str, _OrderFigures] = {}
        self._positions: dict[int, PositionKey] = {}
        self.place = dict(place)
        self.figures = Figures()

    def take(self, events: Iterable[Numbered]) -> list[Decided]:
        """Add events in their order; the decisions among them."""
        events = list(events)
        self._learn(events)
        decided = []
        for numbered in events:
            self.place[numbered.cell] = numbered.number
            if numbered.event.type != "order.accepted" and numbered.event.subject not in self._orders:
                continue
            match numbered.event.type:
                case "order.accepted":
                    self._accepted(numbered)
                case "order.sourced":
                    decided.append(self._sourced(numbered))
                case "order.moved":
                    self._given_back(numbered.event)
                case _:
                    pass
        return decided

    def _accepted(self, numbered: Numbered) -> None:
        event, figures = numbered.event, self.figures
        self._orders[event.subject] = _OrderFigures(str(event.data["order"]), _whole(event.data["lines"]))
        figures.accepted += 1
        figures.began = figures.began or numbered.at

    def _sourced(self, numbered: Numbered) -> Decided:
        event, figures = numbered.event, self.figures
        data, order = event.data, self._orders[event.subject]
        owner, attempt = UUID(event.subject), _whole(data["attempt"])
        nodes, waiting = _list(data["nodes"]), len(_list(data["waiting"]))
        if not order.attempt:
            figures.orders += 1
            figures.lines += order.lines
        figures.split += (order.parcels + len(nodes) > 1) - (order.parcels > 1)
        figures.waiting += (waiting > 0) - (order.waiting > 0)
        figures.lines_waiting += waiting - order.waiting
        cost = _whole(data["cost"]) - (self._cost_of_waiting(owner, attempt) if waiting else 0)
        figures.cost, order.cost = figures.cost + cost, order.cost + cost
        figures.co2e_mg += _whole(data["co2e_mg"])
        order.co2e_mg += _whole(data["co2e_mg"])
        order.nodes += [str(node) for node in nodes]
        figures.ended = numbered.at
        order.parcels, order.waiting, order.attempt = order.parcels + len(nodes), waiting, attempt
        for node in nodes:
            figures.parcels[str(node)] = figures.parcels.get(str(node), 0) + 1
        for position, target in _moved(data):
            if target in SET_ASIDE:
                pool = self._positions[position].pool
                figures.picks[pool] = figures.picks.get(pool, 0) + 1
        return Decided(owner, order.number, attempt, order.parcels, waiting)

    def _given_back(self, event: Event) -> None:
        """A wave plans an order again, which has given back what it held: its new plan is told next."""
        figures, order = self.figures, self._orders[event.subject]
        figures.split -= order.parcels > 1
        figures.cost -= order.cost
        figures.co2e_mg -= order.co2e_mg
        for node in order.nodes:
            figures.parcels[node] -= 1
        for position, _ in _moved(event.data):
            figures.picks[self._positions[position].pool] -= 1
        order.parcels, order.cost, order.co2e_mg, order.nodes = 0, 0, 0, []

    def _learn(self, events: Sequence[Numbered]) -> None:
        """Look up positions that are met for the first time."""
        met = {
            position for numbered in events if numbered.event.type == SOURCED
            for position, _ in _moved(numbered.event.data)
        }  # fmt: skip
        new = sorted(met - self._positions.keys())
        if new:
            self._positions.update(self._whereabouts(new))


def _moved(data: Mapping[str, Json]) -> list[tuple[int, str]]:
    """Position and target account of each movement of a decision."""
    return [(int(str(part[0])), str(part[2])) for part in map(_list, _list(data["moved"]))]


def _list(value: Json) -> list[Json]:
    assert isinstance(value, list)
    return value


def _whole(value: Json) -> int:
    assert isinstance(value, int)
    return value
