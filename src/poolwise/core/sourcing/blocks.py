"""Blocks: at most one portion of every line of an order, and what they cost by each route, as one array of integers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from operator import mul
from typing import Final

import numpy as np

from poolwise.core.network import CapacityUnit
from poolwise.core.sourcing.atlas import Dock, OpenRoute, wanted
from poolwise.core.sourcing.build import Block
from poolwise.core.sourcing.costs import Sent, need_of
from poolwise.core.sourcing.options import Options
from poolwise.core.sourcing.partition import NEVER, Ints, Lattice
from poolwise.core.sourcing.portions import Portion, Wanted
from poolwise.core.sourcing.routes import Need
from poolwise.core.sourcing.whole import later, waits_of_one

COUNTING_GOODS: Final = (CapacityUnit.UNITS, CapacityUnit.WEIGHT)


class Blocks:
    """All blocks of an order with their cost by route, each as if it were the only shipment of its node.

    Row 0 is the empty block; the portions of the first line are the fastest.
    """

    def __init__(self, options: Options, lines: list[Wanted]) -> None:
        """At least one line has a portion."""
        self.options = options
        self.lines = lines
        self._needs: dict[int, Need] = {}
        weights = [[portion.weight_ug for portion in line.portions] for line in lines]
        self.weights = self.by_row(weights)
        self.cost = self._at_origins()
        self.cost += options.access.tariff.price(self.weights, sum([max(each, default=0) for each in weights]))
        if options.access.has_credits:
            # What is impossible at a credit is impossible all the same.
            np.copyto(self.cost, NEVER, where=self.cost >= NEVER // 2)
        self._correct_days()

    def by_row(self, amounts: Sequence[Sequence[int]]) -> Ints:
        """By row the sum of what each portion, of each line, stands for."""
        total = [0]
        for of_line in amounts:
            total = [before + amount for amount in (0, *of_line) for before in total]
        return np.array(total, dtype=np.int64)

    @cached_property
    def lattice(self) -> Lattice:
        """How much may be shipped of every line, along its axes."""
        return Lattice([size for line in self.lines for size in line.axes or (2,)])

    @cached_property
    def states(self) -> Ints:
        """By row the state of the lattice that it ships."""
        found: list[list[int]] = []
        axis = 0
        for line in self.lines:
            strides = self.lattice.strides[axis : axis + (len(line.axes) or 1)]
            found.append([sum(map(mul, portion.steps, strides)) for portion in line.portions])
            axis += len(strides)
        return self.by_row(found)

    def steps(self, row: int) -> tuple[int, ...]:
        """How far a row takes the order on every axis."""
        state = int(self.states[row])
        return tuple(state // s % size for s, size in zip(self.lattice.strides, self.lattice.sizes, strict=True))

    def members(self, row: int) -> list[Portion]:
        """The portions in a row."""
        found: list[Portion] = []
        for line in self.lines:
            row, choice = divmod(row, 1 + len(line.portions))
            if choice:
                found.append(line.portions[choice - 1])
        return found

    def block(self, row: int, index: int) -> Block:
        """What leaves by a route."""
        way = self.options.openings.by_index[index]
        assert way is not None
        members = self.members(row)
        place = self.options.access.nodes[way.route.node.code]
        ready = max([portion.ready[place] for portion in members if place in portion.ready], default=0)
        return Block(way, tuple([piece for portion in members for piece in portion.pieces]), ready)

    def _at_origins(self) -> Ints:
        """What each row costs whatever it weighs, on the first day; the empty row is what opening a shipment costs."""
        access = self.options.access
        total: Ints = np.empty((len(self.weights), len(access.routes)), dtype=np.int64)
        total[0] = self.options.openings.costs
        size, place = 1, 0
        costs = self._of_portions([portion for line in self.lines for portion in line.portions])
        for line in self.lines:
            for n in range(1, 1 + len(line.portions)):
                np.add(total[:size], costs[place], out=total[n * size : (n + 1) * size])
                place += 1
            size *= 1 + len(line.portions)
        return total

    def _of_portions(self, portions: Sequence[Portion]) -> Ints:
        """What each portion costs at the origin of each route, and at the nodes it passes (portions x routes)."""
        access = self.options.access
        costs = np.array([portion.at_node for portion in portions], dtype=np.int64).take(access.node_of, axis=1)
        costs += access.handling.per_line
        goods = [(n, each) for n, portion in enumerate(portions) for each in portion.goods]
        scales = dict.fromkeys([each.item.scale for _, each in goods])
        for scale in scales:
            alike = [(n, each) for n, each in goods if each.item.scale == scale]
            prices = access.handling.price([each for _, each in alike], scale)
            if len(alike) == len(portions) == len(goods):
                costs += prices
            else:
                for (n, _), price in zip(alike, prices, strict=True):
                    costs[n] += price
        for n, each in goods:
            barred = access.carriage(each.item)
            if barred is not None:
                costs[n] += barred
        return costs

    def _correct_days(self) -> None:
        """Where a block cannot leave on the first day, or may not find room then, its day depends on what it is."""
        options, openings = self.options, self.options.openings
        late = dict.fromkeys([place for line in self.lines for portion in line.portions for place in portion.ready])
        if openings.counts_only_orders:
            days = waits_of_one(options).costs
            if days is not None:
                self.cost[1:] += days
                np.minimum(self.cost, NEVER, out=self.cost)
            full = set[int]()
        else:
            full = {index for dock in self._tight_docks(shipments=1) for index in dock.routes}
        if late or full:
            for way in options.routes:
                place = int(options.access.node_of[way.index])
                if place in late:
                    self._correct_rows(way, place, is_full=way.index in full)
                elif way.index in full:
                    self._correct_rows(way, None, is_full=True)

    def _correct_rows(self, way: OpenRoute, late: int | None, is_full: bool) -> None:
        """Correct the rows of a route: those that are not ready, and all where the first day may be full."""
        options, column = self.options, self.cost[:, way.index]
        for (ready, need), rows in self._alike(way, late).items():
            if ready or is_full:
                wait = later(options, way, ready, need)
                if wait < NEVER and options.openings.counts_only_orders:
                    # What they wait for room at once is there already.
                    wait -= later(options, way, 0, need)
                column[rows] = np.minimum(column[rows] + wait, NEVER) if wait < NEVER else NEVER

    def _alike(self, way: OpenRoute, late: int | None) -> dict[tuple[int, Need], list[int]]:
        """The rows that may leave by a route, by the day they are ready and by what they take of its slots.

        `late` is the place of its node where something is not ready at once. Of the need only what the slots count is
        told apart.
        """
        rows = np.flatnonzero(self.cost[1:, way.index] < NEVER) + 1
        ready = [0]
        for line in self.lines:
            days = [0, *(0 if late is None else portion.ready.get(late, 0) for portion in line.portions)]
            ready = [max(before, day) for day in days for before in ready]
        counts_goods = any(slot.unit in COUNTING_GOODS for slot in way.route.node.slots)
        found: dict[tuple[int, Need], list[int]] = {}
        for row in rows.tolist():
            need = self._need(row) if counts_goods else Need(self.counts[row], 0, 0)
            found.setdefault((ready[row], need), []).append(row)
        return found

    @cached_property
    def counts(self) -> list[int]:
        """By row the number of lines in it."""
        return [mask.bit_count() for mask in masks_of(tuple([len(line.portions) for line in self.lines]))]

    def _need(self, row: int) -> Need:
        """The capacity a row takes."""
        found = self._needs.get(row)
        if found is None:
            goods = [each for portion in self.members(row) for each in portion.goods]
            found = self._needs[row] = need_of(self.counts[row], goods)
        return found

    def tight_nodes(self, shipments: int) -> set[str]:
        """Nodes where so many shipments, in which every line may be, might not leave on the day the first of them does.

        Slots that count orders have room for one as for the other, so that day is known.
        """
        if self.options.openings.counts_only_orders:
            return {node for node, room in waits_of_one(self.options).room.items() if room < shipments}
        return {dock.node.code for dock in self._tight_docks(shipments)}

    def _tight_docks(self, shipments: int) -> list[Dock]:
        """Docks where so many shipments, in which every line may be, might not find room on the first day."""
        options, openings = self.options, self.options.openings
        if not openings.docks:
            return []
        need = Need(len(self.lines), 0, 0)
        if openings.counts_goods:
            need = need_of(len(self.lines), [each for line in self.lines for each in _at_most(options, line)])
        fullest = max(options.taken.values(), default=0)
        for unit, limit in openings.least_room.items():
            if fullest + wanted(need, unit, shipments) > limit:
                return [dock for dock in openings.docks if not dock.has_room(need, shipments, options.taken)]
        return []


def _at_most(options: Options, line: Wanted) -> list[Sent]:
    """Goods that take at least as much capacity as all shipments of a line can."""
    if not line.divisible:
        return [goods for portion in line.portions for goods in portion.goods]
    full = [options.goods(line.line, each, line.quantity // each.per * each.per) for each in line.alternatives]
    return [goods for sent in full if sent for goods in sent]


@lru_cache(maxsize=1024)
def masks_of(portions: tuple[int, ...]) -> tuple[int, ...]:
    """By row the set of lines in it, as bits, for lines of so many portions."""
    masks = [0]
    for line, count in enumerate(portions):
        masks += [mask | 1 << line for _ in range(count) for mask in masks[:]]
    return tuple(masks)
