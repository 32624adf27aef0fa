"""What each elementary part of a plan costs, once, for every engine (docs/sourcing.md, "What is chosen").

Keeps law 11: each amount is rounded once to millionths and once more by its weight, and parts simply add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from poolwise.core.catalog import Item
from poolwise.core.network import CapacityUnit, Lane, Network, Node, Pool
from poolwise.core.orders import Line, Order
from poolwise.core.picking import miss_ppm
from poolwise.core.policy.terms import CostKind, SourcingPolicy, Terms
from poolwise.core.sourcing.routes import Departure, Need, Route
from poolwise.core.values import MICROGRAMS_PER_KG, MILLION, Cost, Quantity, Rate, divide_rounded

MOST_REMEMBERED: Final = 100_000

Part = tuple[CostKind, Cost]


class Sent(NamedTuple):
    """What really leaves for a line in one shipment: base units of an item, and their weight."""

    item: Item
    quantity: Quantity
    weight_ug: int


def need_of(lines: int, sent: Sequence[Sent]) -> Need:
    """The capacity that goods of `lines` order lines take."""
    units, weight_ug, finest = 0, 0, 0
    for goods in sent:
        scale = goods.item.scale
        if scale > finest:
            units *= 10 ** (scale - finest)
            finest = scale
        units += goods.quantity * 10 ** (finest - scale) if finest else goods.quantity
        weight_ug += goods.weight_ug
    return Need(lines, -(-units // 10**finest), -(-weight_ug // MILLION))


def weight_of(line: Line, item: Item, line_quantity: Quantity, quantity: Quantity) -> int:
    """Weight in micrograms of `quantity` of `item` sent for `line_quantity` of a line: declared, else the item's."""
    if line.weight_ug is not None:
        return divide_rounded(line.weight_ug * line_quantity, line.quantity)
    return item.weight_of(quantity)


class Prices:
    """The amounts orders pay under a policy, in the network's costing currency."""

    def __init__(self, network: Network, policy: SourcingPolicy) -> None:
        """What an order is granted beyond the policy (its split cost) is an argument where it matters."""
        self._network = network
        self._policy = policy
        self._ppm = {kind: ppm for kind, ppm in policy.weights_ppm.items() if ppm != MILLION}
        self._waiting: dict[tuple[Quantity, int], Cost] = {}
        self._missing: dict[tuple[int, int], Cost] = {}

    def weighted(self, kind: CostKind, raw: Cost) -> Cost:
        """An amount after the policy's weight for its kind."""
        if not self._ppm:
            return raw
        return divide_rounded(raw * self._ppm.get(kind, MILLION), MILLION)

    def leaving(self, node: Node, sent: Sequence[Sent]) -> Cost:
        """Handling of one line's goods at its origin: per line, unit and kg."""
        card, kind = node.costs, CostKind.HANDLING
        amount = self.weighted(kind, card.per_line.times(1))
        for piece in sent:
            amount += self.weighted(kind, card.per_unit.times(piece.quantity, 10**piece.item.scale))
            amount += self.weighted(kind, card.per_kg.times(piece.weight_ug, MICROGRAMS_PER_KG))
        return amount

    def passing(self, route: Route, sent: Sequence[Sent]) -> Cost:
        """Transfer cost of one line's goods at the nodes a route passes: in per unit, and out as at an origin."""
        amount, kind = 0, CostKind.TRANSFER
        for card in (node.costs for node in route.via):
            amount += self.weighted(kind, card.per_line.times(1))
            for piece in sent:
                scale = 10**piece.item.scale
                amount += self.weighted(kind, card.inbound_per_unit.times(piece.quantity, scale))
                amount += self.weighted(kind, card.per_unit.times(piece.quantity, scale))
                amount += self.weighted(kind, card.per_kg.times(piece.weight_ug, MICROGRAMS_PER_KG))
        return amount

    def drawing(self, pool: Pool, rank: int, piece: Sent) -> Cost:
        """What drawing on a pool costs: its own rates, and its place in the policy's order of pools."""
        scale, kind = 10**piece.item.scale, CostKind.POOL
        if not (pool.per_unit.numerator or pool.per_kg.numerator or rank):
            return 0
        return (
            self.weighted(kind, pool.per_unit.times(piece.quantity, scale))
            + self.weighted(kind, pool.per_kg.times(piece.weight_ug, MICROGRAMS_PER_KG))
            + self.weighted(kind, self._policy.pool_rank_cost.times(rank * piece.quantity, scale))
        )

    def stockout(self, item: Item, quantity: Quantity, available: Quantity) -> Cost:
        """Stock-out avoidance: taking `quantity` from a group with `available` on hand, below the target."""
        target = self._policy.stockout_target
        if available >= target:
            return 0
        rate = self._policy.stockout_cost_per_unit
        raw = rate.times(quantity * (target - available), 10**item.scale * target)
        return self.weighted(CostKind.STOCKOUT, raw)

    def missing(self, found: int, missed: int) -> Cost:
        """What it costs to count on a node for a line where so many picks were found and missed."""
        key = (found, missed)
        amount = self._missing.get(key)
        if amount is None:
            if len(self._missing) >= MOST_REMEMBERED:
                self._missing.clear()
            amount = self._policy.miss_cost_per_line.times(miss_ppm(found, missed), MILLION)
            amount = self._missing[key] = self.weighted(CostKind.MISS, amount)
        return amount

    def substitution(self, ordered: Item, penalty: Rate, line_quantity: Quantity) -> Cost:
        """Penalty for sending something else."""
        return self.weighted(CostKind.SUBSTITUTION, penalty.times(line_quantity, 10**ordered.scale))

    def opening(self, route: Route) -> list[Part]:
        """What a shipment costs whatever is in it: handling at the origin, and at the nodes it passes."""
        kinds = (CostKind.HANDLING, *(CostKind.TRANSFER for _ in route.via))
        nodes = (route.node, *route.via)
        return [
            (kind, self.weighted(kind, node.costs.per_shipment.times(1)))
            for kind, node in zip(kinds, nodes, strict=True)
        ]

    def freight(self, route: Route, weight_ug: int) -> list[Part] | None:
        """Freight and transfer freight of a shipment; None when a lane does not carry or price the weight."""
        parts: list[Part] = []
        for place, lane in enumerate(route.lanes):
            card = self._network.rates.get(lane.rates)
            band = None if card is None else card.band(weight_ug)
            if band is None or (lane.max_weight_ug and weight_ug > lane.max_weight_ug):
                return None
            kind = CostKind.FREIGHT if place == len(route.lanes) - 1 else CostKind.TRANSFER
            parts.append((kind, self.weighted(kind, band.price(weight_ug))))
        return parts

    def carbon(self, route: Route, weight_ug: int) -> tuple[int, Part]:
        """Milligrams of CO2 equivalent of a shipment, and the cost of it."""
        co2e_mg = divide_rounded(sum(lane_co2e(lane, weight_ug) for lane in route.lanes), 1000)
        raw = self._policy.carbon_price_per_kg.times(co2e_mg, MILLION)
        return co2e_mg, (CostKind.CARBON, self.weighted(CostKind.CARBON, raw))

    def days(self, departure: Departure, first: Departure, today: int, deadline: int | None) -> list[Part]:
        """Cost of time: days from `today` (at the origin) to the arrival, days late, days waited at the node."""
        late = 0 if deadline is None else max(0, departure.arrives - deadline)
        policy = self._policy
        amounts = (
            (CostKind.TRANSIT, policy.transit_cost_per_day, departure.arrives - today),
            (CostKind.LATE, policy.late_cost_per_day, late),
            (CostKind.DELAY, policy.delay_cost_per_day, departure.ships - first.ships),
        )
        return [(kind, self.weighted(kind, rate.times(count))) for kind, rate, count in amounts]

    def on_day(
        self, route: Route, departure: Departure, first: Departure, today: int, deadline: int | None, penalty: Cost
    ) -> tuple[Part, ...]:
        """What a shipment that leaves on a day costs whatever is in it; parts that are nothing are left out."""
        parts = (*self.opening(route), *self.days(departure, first, today, deadline), self.node(penalty))
        return tuple(part for part in parts if part[1])

    def over_capacity(self, unit: CapacityUnit, over: int) -> Part:
        """Penalty for booking a soft capacity further above its limit; weight counts in kg."""
        per = 1000 if unit == CapacityUnit.WEIGHT else 1
        return CostKind.CAPACITY, self.weighted(CostKind.CAPACITY, self._policy.capacity_penalty.times(over, per))

    def node(self, penalty: Cost) -> Part:
        """What the policy's rules add for a route."""
        return CostKind.NODE, self.weighted(CostKind.NODE, penalty)

    def split(self, terms: Terms) -> Cost:
        """Price of each shipment after the first."""
        return self.weighted(CostKind.SPLIT, terms.split_cost.times(1))

    def waiting(self, item: Item, quantity: Quantity) -> Cost:
        """Price of a line, or part of it, that waits for supply."""
        key = (quantity, item.scale)
        amount = self._waiting.get(key)
        if amount is None:
            if len(self._waiting) >= MOST_REMEMBERED:
                self._waiting.clear()
            kind, policy = CostKind.BACKORDER, self._policy
            amount = self.weighted(kind, policy.backorder_cost_per_line.times(1))
            amount += self.weighted(kind, policy.backorder_cost_per_unit.times(quantity, 10**item.scale))
            self._waiting[key] = amount
        return amount

    def value(self, line: Line, item: Item, line_quantity: Quantity, on: date) -> Cost:
        """Value of part of a line in millionths; a line without a price, or in an unknown currency, is worth 0."""
        if line.unit_price is None:
            return 0
        per_unit = self._network.in_costing_currency(line.unit_price, on)
        return 0 if per_unit is None else divide_rounded(per_unit * line_quantity, 10**item.scale)


def lane_co2e(lane: Lane, weight_ug: int) -> int:
    """Millionths of a gram of CO2 equivalent of one shipment on a lane."""
    return lane.co2e_g.times(1) + lane.co2e_g_per_kg.times(weight_ug, MICROGRAMS_PER_KG)


def deadline(network: Network, order: Order, terms: Terms) -> int | None:
    """Day, as ordinal, by which the order should arrive; None when its service level has no rule for one."""
    if order.requested_date is not None:
        return order.requested_date.toordinal()
    days = terms.service_level.deliver_within_days
    if days is None:
        return None
    received = order.received_at.astimezone(ZoneInfo(network.zones[order.zone].time_zone)).date()
    return (received + timedelta(days=days)).toordinal()
