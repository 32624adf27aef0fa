"""What one shipment may carry of a line: the portions that the order engine puts together.

A portion is all of a line by one alternative (itself, from parts, a substitute); some of it, where the line may be
divided; or some parts of a kit, where its bill allows several nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import Final, NamedTuple

from poolwise.core.orders import Line
from poolwise.core.policy.terms import LineSplit
from poolwise.core.sourcing.atlas import Alternative, carries
from poolwise.core.sourcing.build import Piece, drawing, substitution
from poolwise.core.sourcing.costs import Sent
from poolwise.core.sourcing.options import Options, draw, ready_on
from poolwise.core.sourcing.partition import NEVER
from poolwise.core.values import Cost, Quantity

MOST_BLOCKS: Final = 8_192


class Portion(NamedTuple):
    """What one shipment may carry of a line.

    `steps` is how far that takes the line on each of its axes, `served` how much of it counts here, `complete` whether
    that is all of it. `at_node` is by node what drawing it costs, the penalty of a substitute, and what it costs to
    count on the node; NEVER where that has not got it. `ready` is by node the first day, where that is not at once.
    """

    pieces: tuple[Piece, ...]
    goods: tuple[Sent, ...]
    weight_ug: int
    steps: tuple[int, ...]
    served: Quantity
    complete: bool
    at_node: list[Cost]
    ready: Mapping[int, int]


class Wanted(NamedTuple):
    """A line that is to be served, by which alternatives and in what portions.

    `axes` is empty where one shipment serves all of it or nothing. Else the first counts what is served by
    alternatives that leave in one shipment, and each further one the units of a part of a kit across nodes; `sets` are
    the units of each part that make the line complete.
    """

    line: Line
    quantity: Quantity
    alternatives: tuple[Alternative, ...]
    portions: list[Portion]
    axes: tuple[int, ...] = ()
    divisible: bool = False


def wanted_of(options: Options, no: int, quantity: Quantity) -> Wanted | None:
    """A line with its portions; None when these are too many."""
    line, split = options.lines[no], options.terms.line_split
    offered = options.alternatives(line, quantity)
    portions: list[Portion] = []
    on_hand = False
    for alternative in offered:
        sent = options.goods(line, alternative, quantity)
        if sent is not None:
            portion = _portion(options, (Piece(line, alternative, quantity, sent),), (1,), quantity, complete=True)
            if portion is not None:
                portions.append(portion)
                own = alternative.substitution is None
                on_hand = on_hand or (own and _is_on_hand(options, portion))
    wanted = Wanted(line, quantity, offered, portions)
    across = kit_across_nodes(offered)
    divisible = split == LineSplit.ALWAYS or (split == LineSplit.WHEN_SHORT and not on_hand)
    if divisible and offered and (quantity > 1 or across):
        return _divided(options, wanted, across)
    return _in_parts(options, wanted, across) if across and len(across.needs) > 1 else wanted


def kit_across_nodes(alternatives: Sequence[Alternative]) -> Alternative | None:
    """The alternative whose parts may leave from several nodes, if there is one."""
    for alternative in alternatives:
        if alternative.across_nodes:
            return alternative
    return None


def _portion(
    options: Options, pieces: tuple[Piece, ...], steps: tuple[int, ...], served: Quantity, complete: bool
) -> Portion | None:
    """The portion of these pieces; None where no node ever has all of it."""
    at_node: list[Cost] = []
    ready: dict[int, int] = {}
    for piece in pieces:
        penalty = substitution(options, piece)
        for sent in piece.sent:
            costs = drawn(options, piece, sent, penalty, ready)
            at_node = _both(at_node, costs) if at_node else costs
            penalty = 0
    if min(at_node, default=NEVER) >= NEVER:
        return None
    missing = options.missing(pieces[0].line)
    if missing:
        at_node = [min(NEVER, sum(pair)) for pair in zip(at_node, missing, strict=True)]
    goods = pieces[0].sent if len(pieces) == 1 else tuple(each for piece in pieces for each in piece.sent)
    weight_ug = sum(each.weight_ug for each in goods)
    return Portion(pieces, goods, weight_ug, steps, served, complete, at_node, ready)


def _both(some: Sequence[Cost], more: Sequence[Cost]) -> list[Cost]:
    return [NEVER if NEVER in pair else sum(pair) for pair in zip(some, more, strict=True)]


def drawn(options: Options, piece: Piece, goods: Sent, penalty: Cost, ready: dict[int, int]) -> list[Cost]:
    """By node: the penalty and what drawing goods of a piece costs; notes in `ready` the days that are not at once."""
    nodes, free_from = options.access.nodes, options.access.drawing_is_free_from
    quantity = goods.quantity
    costs = [NEVER] * len(nodes)
    for node, shelf in options.shelves(goods.item.code).items():
        first = shelf[0]
        if first.quantity >= quantity and not first.ready and free_from is not None and first.available >= free_from:
            costs[nodes[node]] = penalty
            continue
        day = ready_on(shelf, quantity)
        if day is not None:
            place = nodes[node]
            costs[place] = min(NEVER, penalty + sum(drawing(options, piece, goods, draw(shelf, quantity))))
            if day:
                ready[place] = max(day, ready.get(place, 0))
    return costs


def _is_on_hand(options: Options, portion: Portion) -> bool:
    """Whether a node with a route left for it, which carries so much at once, has all of a portion on hand."""
    access, weight_ug = options.access, portion.weight_ug
    at_once = not portion.ready and weight_ug <= access.carries_ug
    if at_once and not any(access.carriage(goods.item) is not None for goods in portion.goods):
        return True
    return any(
        cost < NEVER
        and place not in portion.ready
        and any(
            all(carries(way.route, each.item) for each in portion.goods)
            and options.prices.freight(way.route, weight_ug) is not None
            for way in options.by_node.get(node, ())
        )
        for (node, place), cost in zip(access.nodes.items(), portion.at_node, strict=True)
    )


def _in_parts(options: Options, wanted: Wanted, kit: Alternative) -> Wanted:
    """A line that is served whole, where each part of a kit may leave in a shipment of its own."""
    line, quantity = wanted.line, wanted.quantity
    nothing = tuple(0 for _ in kit.needs)
    found = [p._replace(steps=(1, *nothing)) for p in wanted.portions if p.pieces[0].alternative is not kit]
    for chosen in product((0, 1), repeat=len(kit.needs)):
        sent = _parts(options, kit, [taken * n * quantity for taken, (_, n) in zip(chosen, kit.needs, strict=True)])
        if sent:
            served = quantity if chosen[0] else 0
            portion = _portion(options, (Piece(line, kit, 0, sent),), (0, *chosen), served, complete=all(chosen))
            if portion is not None:
                found.append(portion)
    return wanted._replace(portions=found, axes=(2, *(2 for _ in kit.needs)))


def _parts(options: Options, kit: Alternative, amounts: Sequence[Quantity]) -> tuple[Sent, ...]:
    """Some amount of each part of a kit, nothing left out."""
    items = options.catalog.items
    pairs = [(items[code], amount) for (code, _), amount in zip(kit.needs, amounts, strict=True) if amount]
    return tuple(Sent(item, amount, item.weight_of(amount)) for item, amount in pairs)


def _divided(options: Options, wanted: Wanted, kit: Alternative | None) -> Wanted | None:
    """A line of which a shipment may carry any amount, by several alternatives at once; None when that is too much."""
    line, quantity = wanted.line, wanted.quantity
    others = [alternative for alternative in wanted.alternatives if alternative is not kit]
    needs = () if kit is None else kit.needs
    most = [min(_most(options, c, quantity // a.per * n) // n for c, n in a.needs) for a in others]
    most += [_most(options, code, quantity * n) for code, n in needs]
    if prod(1 + each for each in most) > MOST_BLOCKS:
        return None
    found: list[Portion] = []
    for chosen in product(*(range(1 + each) for each in most)):
        counts, parts = chosen[: len(others)], chosen[len(others) :]
        served = sum(count * other.per for count, other in zip(counts, others, strict=True))
        if not any(chosen) or served > quantity:
            continue
        pieces: list[Piece] = []
        for count, other in zip(counts, others, strict=True):
            sent = options.goods(line, other, count * other.per) if count else None
            if sent:
                pieces.append(Piece(line, other, count * other.per, sent))
        if kit is not None and any(parts):
            pieces.append(Piece(line, kit, 0, _parts(options, kit, parts)))
        sets = parts[0] // needs[0][1] if needs else 0
        even = all(part == sets * n for part, (_, n) in zip(parts, needs, strict=True))
        complete = even and served + sets == quantity
        if line.together and not complete:
            continue
        portion = _portion(options, tuple(pieces), (served, *parts), served + sets, complete)
        if portion is not None:
            found.append(portion)
    return wanted._replace(portions=found, axes=(quantity + 1, *(quantity * n + 1 for _, n in needs)), divisible=True)


def _most(options: Options, code: str, wanted: Quantity) -> Quantity:
    """How much of an item a node can at most give."""
    shelves = options.shelves(code).values()
    return min(wanted, max((sum(source.quantity for source in shelf) for shelf in shelves), default=0))
