"""What a plan says, added up by shipment and line, and the words in which the verifier complains.

A `Case` is one problem with its plan; the checks of this package are functions from a case to violations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from poolwise.core.catalog import Bill, Item, Substitution
from poolwise.core.network import Lane, Network, Node
from poolwise.core.orders import Line
from poolwise.core.sourcing.plan import Assignment, Plan, PlannedShipment
from poolwise.core.sourcing.problem import Problem
from poolwise.core.values import Cost, Quantity, divide_rounded
from poolwise.core.verify.supply import Supply

Verdicts: TypeAlias = Mapping[tuple[str, ...], Cost | None]
"""What the candidate rules said of a route (its lane codes): millionths they add, None where one excludes it.

A route that is not listed is allowed and adds nothing.
"""

NO_VERDICTS: Final[Verdicts] = MappingProxyType({})


class Constraint(StrEnum):
    """The hard constraints, by the name under which a breach is reported."""

    STRUCTURE = "structure"
    CONSERVATION = "conservation"
    SUSPENDED = "suspended"
    ALLOW_LIST = "partner_allow_list"
    POOL = "pool_access"
    SERVICE_AREA = "service_area"
    LANE = "lane"
    CAPABILITY = "capability"
    DISTANCE = "distance"
    LATE = "late"
    CALENDAR = "calendar_or_cut_off"
    HORIZON = "horizon"
    EARLIEST = "earliest_day"
    ARRIVAL = "arrival"
    RATE = "rate"
    EXCLUDED = "excluded_by_rule"
    STOCK = "stock"
    WITHHELD = "withheld"
    EXPIRED = "expired"
    RECEIPT = "receipt_not_due"
    DRAW_ORDER = "draw_order"
    CAPACITY = "capacity"
    WEIGHT = "weight"
    EMISSIONS = "emissions"
    MAX_SHIPMENTS = "max_shipments"
    SHIP_COMPLETE = "ship_complete"
    TOGETHER = "together"
    LINE_SPLIT = "line_split"
    SUBSTITUTE = "substitute"
    KIT = "kit"
    VALUE = "min_shipment_value"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class Violation:
    """A constraint that a plan breaks: which, of which order, where in it (0 = the order), and how in a sentence."""

    constraint: Constraint
    detail: str
    order: str = ""
    shipment_no: int = 0
    line_no: int = 0


class Way(StrEnum):
    """How an item comes to serve a line."""

    ITSELF = "itself"
    PART = "part"
    SUBSTITUTE = "substitute"


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one pool gives of a load: base units, of them from stock on hand, and the weight of it."""

    quantity: Quantity
    on_hand: Quantity
    weight_ug: int


@dataclass(frozen=True, slots=True)
class Load:
    """What one line puts into one shipment of one item, over all positions. `pools` are in order of their codes."""

    line: Line
    item: Item
    way: Way
    quantity: Quantity
    line_quantity: Quantity
    weight_ug: int
    pools: tuple[tuple[str, Drawn], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One problem with its plan, what is there to serve it, and what the rules said of its routes."""

    problem: Problem
    plan: Plan
    supply: Supply
    verdicts: Verdicts
    lines: Mapping[int, Line] = field(init=False)
    open: Mapping[int, Quantity] = field(init=False)
    _loads_of: dict[int, tuple[Load, ...]] = field(init=False, default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Index the lines of the order by number."""
        object.__setattr__(self, "lines", {line.no: line for line in self.problem.demand.order.lines})
        object.__setattr__(self, "open", dict(self.problem.demand.open))

    @property
    def network(self) -> Network:
        """The network of the edition."""
        return self.problem.edition.network

    def violation(self, constraint: Constraint, detail: str, shipment_no: int = 0, line_no: int = 0) -> Violation:
        """A violation of this order."""
        return Violation(constraint, detail, self.problem.demand.order.number, shipment_no, line_no)

    def lanes(self, shipment: PlannedShipment) -> tuple[Lane, ...]:
        """The lanes of a shipment; the structure check has made sure that they exist."""
        return tuple(self.network.lanes[code] for code in shipment.lanes)

    def bill(self, line: Line) -> Bill | None:
        """The bill of a line's item, where the policy allows kits from parts."""
        return self.problem.edition.catalog.bills.get(line.item) if self.problem.terms.policy.kits_from_parts else None

    def substitution(self, line: Line, item: str) -> Substitution | None:
        """How `item` replaces the line's item, whether that is allowed here or not."""
        known = self.problem.edition.catalog.substitutions.get(line.item, ())
        return next((substitution for substitution in known if substitution.substitute == item), None)

    def way(self, line: Line, item: str) -> Way | None:
        """How an item can serve a line; None when it cannot."""
        if item == line.item:
            return Way.ITSELF
        bill = self.bill(line)
        if bill is not None and any(component.item == item for component in bill.components):
            return Way.PART
        return None if self.substitution(line, item) is None else Way.SUBSTITUTE

    def loads(self, shipment_no: int) -> tuple[Load, ...]:
        """The loads of a shipment by line number, then item code; what serves no line is left out (and reported)."""
        found = self._loads_of.get(shipment_no)
        if found is None:
            by_key: dict[tuple[int, str], list[Assignment]] = {}
            for assignment in self.plan.assignments:
                if assignment.shipment_no == shipment_no:
                    by_key.setdefault((assignment.line_no, assignment.item), []).append(assignment)
            found = self._loads_of[shipment_no] = tuple(self._loads(by_key))
        return found

    def _loads(self, by_key: Mapping[tuple[int, str], list[Assignment]]) -> Iterator[Load]:
        for (line_no, code), assignments in sorted(by_key.items()):
            line, item = self.lines[line_no], self.problem.edition.catalog.items[code]
            way = self.way(line, code)
            if way is not None:
                pools = tuple(
                    (pool, _drawn(line, item, way, [each for each in assignments if each.pool == pool]))
                    for pool in sorted({each.pool for each in assignments})
                )
                whole = _drawn(line, item, way, assignments)
                line_quantity = sum(each.line_quantity for each in assignments)
                yield Load(line, item, way, whole.quantity, line_quantity, whole.weight_ug, pools)


def _drawn(line: Line, item: Item, way: Way, assignments: list[Assignment]) -> Drawn:
    quantity = sum(each.quantity for each in assignments)
    on_hand = sum(each.quantity for each in assignments if each.receipt is None)
    if line.weight_ug is None or way is Way.PART:
        return Drawn(quantity, on_hand, item.weight_of(quantity))
    line_quantity = sum(each.line_quantity for each in assignments)
    return Drawn(quantity, on_hand, divide_rounded(line.weight_ug * line_quantity, line.quantity))


def local(problem: Problem, node: Node) -> datetime:
    """The instant of the decision on the clock of a node."""
    return problem.facts.at.astimezone(ZoneInfo(node.time_zone))


def decision_day(problem: Problem) -> date:
    """The day of the decision, UTC: what lots expire by and exchange rates are taken of."""
    return problem.facts.at.astimezone(UTC).date()


def units_up(loads: tuple[Load, ...]) -> int:
    """Whole units of all loads together, rounded up once."""
    finest = max((load.item.scale for load in loads), default=0)
    total: int = sum(load.quantity * 10 ** (finest - load.item.scale) for load in loads)
    one: int = 10**finest
    return -(-total // one)
