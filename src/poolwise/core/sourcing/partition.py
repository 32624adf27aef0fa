"""The cheapest partition of an order's lines into shipments, and what waits: a dynamic program over sets of lines.

A set of lines is a bit mask. `f[A] = min over B with the lowest line of A of best[B] + f[A without B]`; equal costs go
to fewer shipments, then to what was found first, so that the answer is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from poolwise.core.values import Cost

_TIES = 64
"""Costs are multiplied by this and the number of shipments added, so that one comparison orders by both."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The order's hard rules and what waiting and splitting cost, for lines 0, 1, 2 ... of `full`."""

    full: int
    waiting: tuple[Cost, ...]
    split_cost: Cost
    most: int | None = None
    complete: bool = False
    together: tuple[int, ...] = ()
    values: tuple[Cost, ...] = ()
    least_value: Cost = 0


def partition(best: Mapping[int, tuple[Cost, int, int]], limits: Limits) -> list[int]:
    """The masks of the shipments of the cheapest plan; lines in none of them wait.

    `best` gives the cost of the cheapest shipment for the sets of lines that can leave together.
    """
    whole = _no_split(best, limits)
    allowed = {mask: entry[0] for mask, entry in best.items() if _keeps_together(mask, limits)}
    if limits.least_value:
        allowed = {mask: cost for mask, cost in allowed.items() if _value(mask, limits) >= limits.least_value}
    most = limits.full.bit_count() if limits.most is None else min(limits.most, limits.full.bit_count())
    answer = _search(allowed, limits, most)
    return whole[1] if whole is not None and (answer is None or whole[0] <= answer[0]) else (answer or (0, []))[1]


def _no_split(best: Mapping[int, tuple[Cost, int, int]], limits: Limits) -> tuple[int, list[int]] | None:
    """The plan of one shipment with everything: no rule about parts concerns it."""
    entry = best.get(limits.full)
    if entry is None or limits.most == 0:
        return None
    return entry[0] * _TIES + 1, [limits.full]


def _search(allowed: Mapping[int, Cost], limits: Limits, most: int) -> tuple[int, list[int]] | None:
    """Cost with ties, and the masks, of the best plan of at most `most` shipments; None when no plan is lawful."""
    by_lowest: dict[int, list[tuple[int, int]]] = {}
    for mask, cost in sorted(allowed.items()):
        by_lowest.setdefault(mask & -mask, []).append((mask, (cost + limits.split_cost) * _TIES + 1))
    unlimited: _Table = {0: (0, 0)}
    _fill(unlimited, by_lowest, unlimited, limits.full)
    answer = _cheapest(unlimited, limits)
    if answer is None:
        return None
    cost, shipped = answer
    masks = _walk(shipped, [unlimited] * (limits.full.bit_count() + 1))
    if len(masks) <= most:
        return cost, masks
    layers: list[_Table] = [{0: (0, 0)}]
    for _ in range(most):
        layer: _Table = {0: (0, 0)}
        _fill(layer, by_lowest, layers[-1], limits.full)
        layers.append(layer)
    answer = _cheapest(layers[-1], limits)
    return None if answer is None else (answer[0], _walk(answer[1], layers))


_Table = dict[int, tuple[int, int]]
"""By set of lines: cost (with ties) of shipping all of it, and the mask of the shipment with its lowest line."""


def _fill(table: _Table, by_lowest: Mapping[int, list[tuple[int, int]]], rests: _Table, full: int) -> None:
    """Complete `table`, where what a shipment leaves over is looked up in `rests` (which may be the table itself)."""
    for wanted in range(1, full + 1):
        least = -1
        chosen = 0
        for mask, cost in by_lowest.get(wanted & -wanted, ()):
            if mask & wanted == mask:
                rest = rests.get(wanted ^ mask)
                if rest is not None and (not chosen or rest[0] + cost < least):
                    least, chosen = rest[0] + cost, mask
        if chosen:
            table[wanted] = (least, chosen)


def _cheapest(table: _Table, limits: Limits) -> tuple[int, int] | None:
    """Cost and shipped set of the best plan: what is not shipped waits, and the first shipment is no split."""
    best: tuple[int, int] | None = None
    for waiting in (0, limits.full) if limits.complete else range(limits.full + 1):
        shipped = limits.full ^ waiting
        if shipped in table and _lawful_wait(waiting, limits):
            cost = table[shipped][0] + _TIES * (_waiting_cost(waiting, limits) - (limits.split_cost if shipped else 0))
            if best is None or cost < best[0]:
                best = (cost, shipped)
    return best


def _walk(wanted: int, layers: list[_Table]) -> list[int]:
    masks: list[int] = []
    while wanted:
        mask = layers[-1 - len(masks)][wanted][1]
        masks.append(mask)
        wanted ^= mask
    return masks


def _keeps_together(mask: int, limits: Limits) -> bool:
    return all(mask & group in (0, group) for group in limits.together)


def _lawful_wait(waiting: int, limits: Limits) -> bool:
    """Whether these lines may wait: groups whole, and worth enough where something else is sent."""
    if not _keeps_together(waiting, limits):
        return False
    alone = waiting in (0, limits.full)
    return alone or not limits.least_value or _value(waiting, limits) >= limits.least_value


def _value(mask: int, limits: Limits) -> Cost:
    return sum(value for line, value in enumerate(limits.values) if mask >> line & 1)


def _waiting_cost(waiting: int, limits: Limits) -> Cost:
    return sum(cost for line, cost in enumerate(limits.waiting) if waiting >> line & 1)
