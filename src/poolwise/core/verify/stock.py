"""Whether the stock is there: positions and receipts, what is withheld, who may draw on a pool, and in which order.

Keeps law 15 for docs/sourcing.md, "Stock". All orders of a sequence are counted together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from poolwise.core.sourcing.problem import ReceiptFact
from poolwise.core.values import Quantity
from poolwise.core.verify.case import Case, Constraint, Violation
from poolwise.core.verify.draws import Source, draw_order, has_expired, pool_refusal, supply, withheld
from poolwise.core.verify.supply import Group, Supply


def check_pools(case: Case) -> Iterator[Violation]:
    """Every assignment draws on a pool that is open to the order, on a lot that keeps, on a receipt that is due."""
    ships = {shipment.no: shipment.ship_on for shipment in case.plan.shipments}
    for each in case.plan.assignments:
        where = (each.shipment_no, each.line_no)
        refusal = pool_refusal(case, each.pool)
        if refusal is not None:
            yield case.violation(*refusal, *where)
        place = case.supply.place(each.position, each.receipt)
        if place is not None and has_expired(case, place):
            yield case.violation(Constraint.EXPIRED, f"lot {each.lot} of {each.item} has expired", *where)
        if each.receipt is not None:
            due_on = case.supply.expected[each.receipt].due_on
            if case.problem.terms.on_hand_only:
                yield case.violation(Constraint.RECEIPT, "the policy takes only what is on hand", *where)
            if due_on > ships[each.shipment_no]:
                text = f"receipt {each.receipt} is due on {due_on}, after the shipment leaves"
                yield case.violation(Constraint.RECEIPT, text, *where)


@dataclass(slots=True)
class _Use:
    """What one group gives to all orders that must leave the same quantity in it (None: to leave it alone)."""

    case: Case
    on_hand: Quantity = 0
    receipts: dict[date, Quantity] = field(default_factory=dict)

    def until(self, day: date | None) -> Quantity:
        """Base units drawn on hand, and on receipts due by a day."""
        return self.on_hand + sum(q for due, q in self.receipts.items() if day is not None and due <= day)


def check_totals(cases: Sequence[Case]) -> Iterator[Violation]:
    """No position, receipt or group gives more than it has, over all orders; what is withheld stays."""
    taken: dict[Source, Quantity] = {}
    users: dict[Source, Case] = {}
    groups: dict[Group, dict[Quantity | None, _Use]] = {}
    for case in cases:
        kept: dict[Group, Quantity | None] = {}
        for each in case.plan.assignments:
            source, group = (each.position, each.receipt), (each.item, each.node, each.pool)
            taken[source] = taken.get(source, 0) + each.quantity
            users[source] = case
            if group not in kept:
                kept[group] = withheld(case, group)
            use = groups.setdefault(group, {}).setdefault(kept[group], _Use(case))
            if each.receipt is None:
                use.on_hand += each.quantity
            else:
                due_on = case.supply.expected[each.receipt].due_on
                use.receipts[due_on] = use.receipts.get(due_on, 0) + each.quantity
    for source, quantity in taken.items():
        there = _there(users[source].supply, source)
        if quantity > there:
            name = f"position {source[0]}" if source[1] is None else f"receipt {source[1]}"
            yield users[source].violation(Constraint.STOCK, f"{quantity} taken from {name} with {there}")
    for group, uses in groups.items():
        yield from _check_withheld(group, uses)


def _there(known: Supply, source: Source) -> Quantity:
    position, receipt = source
    return known.positions[position].available if receipt is None else known.expected[receipt].open


def _check_withheld(group: Group, uses: Mapping[Quantity | None, _Use]) -> Iterator[Violation]:
    """Orders that must leave W or more may together take no more than W less than there is, at any date."""
    for level, use in uses.items():
        if level is None:
            yield use.case.violation(Constraint.WITHHELD, f"{' '.join(group)} is closed by a buffer")
            continue
        bound = [other for kept, other in uses.items() if kept is None or kept >= level]
        stock, receipts = supply(use.case, group)
        for day in (None, *(receipt.due_on for receipt in receipts)):
            there = sum(lot.available for lot in stock) + _due_by(receipts, day)
            taken = sum(other.until(day) for other in bound)
            if taken > max(0, there - level):
                text = f"{taken} taken from {' '.join(group)} with {there}, of which {level} are withheld"
                yield use.case.violation(Constraint.WITHHELD, text)
                break


def _due_by(receipts: Sequence[ReceiptFact], day: date | None) -> Quantity:
    return sum(receipt.open for receipt in receipts if day is not None and receipt.due_on <= day)


def check_draw_order(cases: Sequence[Case]) -> Iterator[Violation]:
    """Cheapest group first, in it the lot that expires first, receipts only after all that is on hand.

    Orders that see different stock (another channel, customer or zone) cannot be compared and are passed over.
    """
    drawn: dict[tuple[str, str], dict[Source, Quantity]] = {}
    users: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        for key in dict.fromkeys((each.item, each.node) for each in case.plan.assignments):
            users.setdefault(key, []).append(case)
        for each in case.plan.assignments:
            sources = drawn.setdefault((each.item, each.node), {})
            sources[each.position, each.receipt] = sources.get((each.position, each.receipt), 0) + each.quantity
    for (code, node), sources in drawn.items():
        item = users[code, node][0].problem.edition.catalog.items[code]
        seen = [draw_order(case, item, node) for case in users[code, node]]
        left = sum(sources.values())
        for draw in seen[0] if all(other == seen[0] for other in seen) else ():
            expected = min(draw.usable, left)
            left -= expected
            if sources.get(draw.source, 0) != expected:
                text = f"{sources.get(draw.source, 0)} of {code} from {draw.source[0]} where {expected} come first"
                yield users[code, node][-1].violation(Constraint.DRAW_ORDER, text)
                break
