"""Which stock an order may draw on, how much of it, and what comes first.

The verifier's own reading of docs/sourcing.md, "Stock".
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple, TypeAlias
from uuid import UUID

from poolwise.core.catalog import Item
from poolwise.core.policy.terms import Buffer, CostKind
from poolwise.core.sourcing.problem import Place, ReceiptFact, StockFact
from poolwise.core.values import MICROGRAMS_PER_KG, Cost, Quantity
from poolwise.core.verify.case import Case, Constraint, decision_day
from poolwise.core.verify.prices import pool_place, stockout_amount, weighted
from poolwise.core.verify.supply import Group

Source: TypeAlias = tuple[int, UUID | None]
"""A position, and the receipt that is expected there when it is not the stock on hand."""


class Draw(NamedTuple):
    """A source with the base units an order may take of it; `rank` is that of its group among those of the node."""

    rank: int
    due_on: date | None
    source: Source
    usable: Quantity


def pool_refusal(case: Case, code: str) -> tuple[Constraint, str] | None:
    """Why an order may not draw on a pool; None when it may."""
    order, policy, pool = case.problem.demand.order, case.problem.terms.policy, case.network.pools[code]
    if pool.customers and order.customer not in pool.customers:
        return Constraint.ALLOW_LIST, f"pool {code} does not serve customer '{order.customer}'"
    if pool.channels and order.channel not in pool.channels:
        return Constraint.POOL, f"pool {code} is not open to channel {order.channel}"
    if policy.only_listed_pools and code not in policy.pool_order.get(order.channel, ()):
        return Constraint.POOL, f"pool {code} is not listed for channel {order.channel}"
    if pool.zones and order.zone not in pool.zones:
        return Constraint.POOL, f"pool {code} does not serve zone {order.zone}"
    return None


def has_expired(case: Case, place: Place) -> bool:
    """Whether a lot is not to be sold any more on the day of the decision."""
    return place.expires_on is not None and place.expires_on <= decision_day(case.problem)


def withheld(case: Case, group: Group) -> Quantity | None:
    """Base units kept back of a group: protection and buffer; None when a closed buffer leaves nothing."""
    item, node_code, pool = group
    node, channel = case.network.nodes[node_code], case.problem.demand.order.channel
    facts = (item, node_code, pool, channel, node.kind, str(node.echelon))
    matching = [
        buffer
        for buffer in case.problem.terms.policy.buffers
        if all(named in ("", fact) for named, fact in zip(_selectors(buffer), facts, strict=True))
    ]
    if matching and not case.problem.terms.policy.stackable_buffers:
        matching = [min(matching, key=_precedence)]
    if any(buffer.closed for buffer in matching):
        return None
    return case.network.pools[pool].protection + sum(buffer.quantity for buffer in matching)


def _selectors(buffer: Buffer) -> tuple[str, ...]:
    return (buffer.item, buffer.node, buffer.pool, buffer.channel, buffer.node_kind, buffer.echelon)


def _precedence(buffer: Buffer) -> tuple[int, list[bool], str]:
    """More selectors named come first, then earlier ones, then the smaller id."""
    named = [selector != "" for selector in _selectors(buffer)]
    return -sum(named), [not name for name in named], buffer.id


def supply(case: Case, group: Group) -> tuple[list[StockFact], list[ReceiptFact]]:
    """Lots on hand and receipts of a group that have not expired, in the order in which they are drawn."""
    on_hand = [stock for stock in case.supply.on_hand.get(group, ()) if not has_expired(case, stock.place)]
    receipts = [receipt for receipt in case.supply.receipts.get(group, ()) if not has_expired(case, receipt.place)]
    return on_hand, receipts


def usable_on_hand(case: Case, item: str, node: str) -> Quantity:
    """Base units of an item on hand at a node that an order may take, over all pools."""
    draws = draw_order(case, case.problem.edition.catalog.items[item], node)
    return sum(draw.usable for draw in draws if draw.due_on is None)


def draw_order(case: Case, item: Item, node: str) -> list[Draw]:
    """Sources of an item at a node, first drawn first: all that is on hand, then receipts by due date."""
    known = [pool for pool in case.supply.pools.get((item.code, node), ()) if pool in case.network.pools]
    open_pools = [pool for pool in known if pool_refusal(case, pool) is None]
    ranked = sorted(open_pools, key=lambda pool: (*_unit_cost(case, item, node, pool), pool))
    on_hand: list[Draw] = []
    expected: list[Draw] = []
    for rank, pool in enumerate(ranked):
        group = (item.code, node, pool)
        kept = withheld(case, group)
        if kept is None:
            continue
        stock, receipts = supply(case, group)
        there = sum(each.available for each in stock)
        usable, still_kept = max(0, there - kept), max(0, kept - there)
        for lot in stock:
            given = min(lot.available, usable)
            usable -= given
            on_hand.append(Draw(rank, None, (lot.place.position, None), given))
        for receipt in () if case.problem.terms.on_hand_only else receipts:
            given = max(0, receipt.open - still_kept)
            still_kept -= receipt.open - given
            expected.append(Draw(rank, receipt.due_on, (receipt.place.position, receipt.receipt), given))
    expected.sort(key=lambda draw: (draw.due_on or date.max, draw.rank, draw.source[1] or UUID(int=0)))
    return on_hand + expected


def _unit_cost(case: Case, item: Item, node: str, pool_code: str) -> tuple[Cost, int]:
    pool, place = case.network.pools[pool_code], pool_place(case.problem, pool_code)
    one = 10**item.scale
    on_hand, _ = supply(case, (item.code, node, pool_code))
    cost = weighted(case.problem, CostKind.POOL, pool.per_unit.times(1))
    cost += weighted(case.problem, CostKind.POOL, pool.per_kg.times(item.weight_ug, MICROGRAMS_PER_KG))
    cost += weighted(case.problem, CostKind.POOL, case.problem.terms.policy.pool_rank_cost.times(place))
    there = sum(stock.available for stock in on_hand)
    cost += weighted(case.problem, CostKind.STOCKOUT, stockout_amount(case.problem, item, there, one))
    return cost, place
