"""Whether each line gets what was asked in a way it may be given, and the order's own wishes are kept.

Keeps laws 13 and 15 for docs/sourcing.md, "Alternatives of a line" and the hard rules of "What is chosen".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from poolwise.core.catalog import Bill
from poolwise.core.orders import Line
from poolwise.core.policy.terms import LineSplit, SubstitutionMode
from poolwise.core.sourcing.plan import Assignment
from poolwise.core.values import Cost, Quantity, divide_rounded
from poolwise.core.verify.case import Case, Constraint, Load, Violation, Way, decision_day
from poolwise.core.verify.draws import usable_on_hand
from poolwise.core.verify.travel import has_route, nodes_with_a_route

Loads = Mapping[int, tuple[Load, ...]]


def check_demand(case: Case) -> Iterator[Violation]:
    """Every line in full, by ways and divisions that are allowed; then the rules on the order as a whole."""
    loads = {shipment.no: case.loads(shipment.no) for shipment in case.plan.shipments}
    for no in case.open:
        own = [(shipment, load) for shipment, all_loads in loads.items() for load in all_loads if load.line.no == no]
        yield from _check_line(case, case.lines[no], own)
    for each in case.plan.assignments:
        if case.way(case.lines[each.line_no], each.item) is None:
            text = f"{each.item} is neither the item, a part nor a substitute"
            yield case.violation(Constraint.SUBSTITUTE, text, each.shipment_no, each.line_no)
    yield from _check_wishes(case, loads)
    yield from _check_value(case, loads)


def _check_line(case: Case, line: Line, own: Sequence[tuple[int, Load]]) -> Iterator[Violation]:
    served, waiting = sum(load.line_quantity for _, load in own), waits(case, line.no)
    if served + waiting != case.open[line.no]:
        text = f"{served} served and {waiting} waiting of {case.open[line.no]}"
        yield case.violation(Constraint.CONSERVATION, text, line_no=line.no)
    for shipment_no, load in own:
        yield from _check_ratio(case, load, shipment_no)
    bill = case.bill(line)
    if bill is not None and any(load.way is Way.PART for _, load in own):
        yield from _check_kit(case, line, bill, own)
    if any(load.way is Way.SUBSTITUTE for _, load in own) and not _may_substitute(case, line):
        yield case.violation(Constraint.SUBSTITUTE, "no substitute is allowed here", line_no=line.no)
    if _is_divided(case, own, waiting) and not _may_divide(case, line):
        yield case.violation(Constraint.LINE_SPLIT, "the line may not be divided here", line_no=line.no)


def waits(case: Case, line_no: int) -> Quantity:
    """Base units of a line that wait for supply."""
    return sum(unserved.quantity for unserved in case.plan.unserved if unserved.line_no == line_no)


def _check_ratio(case: Case, load: Load, shipment_no: int) -> Iterator[Violation]:
    """The item one for one, a substitute exactly in its ratio, each shared out in proportion."""
    where = (shipment_no, load.line.no)
    own = [each for each in case.plan.assignments if (each.shipment_no, each.line_no) == where]
    own = [each for each in own if each.item == load.item.code]
    if load.way is Way.ITSELF and any(each.quantity != each.line_quantity for each in own):
        text = f"{load.quantity} of {load.item.code} serve {load.line_quantity} of the line"
        yield case.violation(Constraint.CONSERVATION, text, *where)
    substitution = case.substitution(load.line, load.item.code)
    if load.way is Way.SUBSTITUTE and substitution is not None:
        exact = load.quantity * substitution.denominator == load.line_quantity * substitution.numerator
        if not exact or not _is_proportional(own):
            text = f"{load.quantity} of {load.item.code} for {load.line_quantity} of {load.line.item}"
            yield case.violation(Constraint.SUBSTITUTE, text, *where)


def _is_proportional(assignments: Sequence[Assignment]) -> bool:
    """Whether line quantities follow quantities to less than one unit."""
    whole, served = sum(each.quantity for each in assignments), sum(each.line_quantity for each in assignments)
    return all(abs(each.line_quantity * whole - each.quantity * served) < whole for each in assignments)


def _check_kit(case: Case, line: Line, bill: Bill, own: Sequence[tuple[int, Load]]) -> Iterator[Violation]:
    """Parts come in complete sets: in each shipment, or over all of them where the bill allows several nodes."""
    parts = [(shipment_no, load) for shipment_no, load in own if load.way is Way.PART]
    first = bill.components[0].item
    for shipment_no, load in parts:
        if load.item.code != first and load.line_quantity:
            yield case.violation(Constraint.KIT, f"{load.item.code} carries the line's quantity", shipment_no, line.no)
    heads = [each for each in case.plan.assignments if (each.line_no, each.item) == (line.no, first)]
    for shipments in _scopes(bill, [shipment_no for shipment_no, _ in parts]):
        inside = [load for shipment_no, load in parts if shipment_no in shipments]
        sets = sum(load.line_quantity for load in inside)
        for component in bill.components:
            sent = sum(load.quantity for load in inside if load.item.code == component.item)
            if sent != sets * component.quantity:
                text = f"{sent} of {component.item} for {sets} sets of {component.quantity}"
                yield case.violation(Constraint.KIT, text, shipments[0], line.no)
        if not _is_proportional([each for each in heads if each.shipment_no in shipments]):
            yield case.violation(Constraint.KIT, "sets are not shared in proportion", shipments[0], line.no)


def _scopes(bill: Bill, shipments: Sequence[int]) -> list[list[int]]:
    distinct = list(dict.fromkeys(shipments))
    return [distinct] if bill.across_nodes else [[shipment] for shipment in distinct]


def _may_substitute(case: Case, line: Line) -> bool:
    mode = case.problem.terms.substitution
    if not line.substitutes or mode is SubstitutionMode.NEVER:
        return False
    if mode is SubstitutionMode.ALWAYS:
        return True
    item = case.problem.edition.catalog.items[line.item]
    nodes = nodes_with_a_route(case.problem, item, case.verdicts)
    return sum(usable_on_hand(case, line.item, node) for node in nodes) < case.open[line.no]


def _is_divided(case: Case, own: Sequence[tuple[int, Load]], waiting: Quantity) -> bool:
    """Whether a line is served in pieces: in part, by two ways, or one item of it in two shipments."""
    if own and waiting:
        return True
    ways = {load.item.code if load.way is not Way.PART else "" for _, load in own}
    items = [load.item.code for _, load in own]
    if len(ways) > 1 or len(set(items)) < len(items):
        return True
    bill = case.bill(own[0][1].line) if own else None
    shipments = {shipment_no for shipment_no, _ in own}
    return len(shipments) > 1 and (bill is None or not bill.across_nodes)


def _may_divide(case: Case, line: Line) -> bool:
    match case.problem.terms.line_split:
        case LineSplit.NEVER:
            return False
        case LineSplit.ALWAYS:
            return True
        case LineSplit.WHEN_SHORT:
            return not any(_has_it_all(case, line, node) for node in sorted(case.network.nodes))


def _has_it_all(case: Case, line: Line, node: str) -> bool:
    """Whether a node has the whole open quantity usable on hand, as the item or all its parts, and a route that takes
    it in one shipment."""
    items, asked = case.problem.edition.catalog.items, case.open[line.no]
    alternatives = [{line.item: asked}]
    bill = case.bill(line)
    if bill is not None:
        alternatives.append({part.item: part.quantity * asked for part in bill.components})
    for needs in alternatives:
        weight_ug = sum(items[item].weight_of(quantity) for item, quantity in needs.items())
        if needs is alternatives[0] and line.weight_ug is not None:
            weight_ug = divide_rounded(line.weight_ug * asked, line.quantity)
        there = all(usable_on_hand(case, item, node) >= quantity for item, quantity in needs.items())
        if there and has_route(case.problem, node, [items[item] for item in needs], weight_ug, case.verdicts):
            return True
    return False


def _check_wishes(case: Case, loads: Loads) -> Iterator[Violation]:
    """At most so many shipments; the order, and lines that belong together, whole or not at all."""
    terms = case.problem.terms
    if terms.max_shipments is not None and len(loads) > terms.max_shipments:
        yield case.violation(Constraint.MAX_SHIPMENTS, f"{len(loads)} shipments, more than {terms.max_shipments}")
    if terms.ship_complete and loads and case.plan.unserved:
        yield case.violation(Constraint.SHIP_COMPLETE, "part of a ship-complete order waits")
    groups: dict[str, list[int]] = {}
    for no in case.open:
        if case.lines[no].together:
            groups.setdefault(case.lines[no].together, []).append(no)
    for name, members in groups.items():
        shipments = {no for no, own in loads.items() for load in own if load.line.no in members}
        waiting = sum(waits(case, no) for no in members)
        absent = [no for no in members if not any(load.line.no == no for own in loads.values() for load in own)]
        if len(shipments) > 1 or (shipments and (waiting or absent)):
            text = f"lines of group {name} neither leave whole in one shipment nor wait whole"
            yield case.violation(Constraint.TOGETHER, text, line_no=members[0])


def _check_value(case: Case, loads: Loads) -> Iterator[Violation]:
    least = case.problem.terms.min_shipment_value.times(1)
    if least <= 0 or len(loads) + bool(case.plan.unserved) < 2:
        return
    for shipment_no, own in loads.items():
        worth = sum(_worth(case, load.line, load.line_quantity) for load in own)
        if worth < least:
            text = f"a shipment worth {worth} millionths, less than {least}"
            yield case.violation(Constraint.VALUE, text, shipment_no)
    if case.plan.unserved:
        worth = sum(_worth(case, case.lines[no], waits(case, no)) for no in case.open)
        if worth < least:
            yield case.violation(Constraint.VALUE, f"what waits is worth {worth} millionths, less than {least}")


def _worth(case: Case, line: Line, quantity: Quantity) -> Cost:
    if line.unit_price is None:
        return 0
    price = case.network.in_costing_currency(line.unit_price, decision_day(case.problem))
    return divide_rounded((price or 0) * quantity, 10 ** case.problem.edition.catalog.items[line.item].scale)
