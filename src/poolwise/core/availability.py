"""What may be promised: usable stock by position, node, pool and echelon, now and by date, for one channel.

A *group* is all positions of one item at one node in one pool (docs/sourcing.md, "Stock"). What protection and buffers
keep back of it is taken from its stock on hand first, of the lots that expire last, then from its receipts, the one
due first first. `core.totals` adds groups up, so that positions, nodes, pools and echelons agree (law 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from poolwise.core.catalog import Bill
from poolwise.core.network import Network, NodeStatus, Pool
from poolwise.core.policy.evaluate import NOTHING_WITHHELD, CompiledPolicy, Withheld
from poolwise.core.totals import Gate, Profile, Totals, stepped
from poolwise.core.values import Quantity

# --- one group ----------------------------------------------------------------------------------------------------


def has_expired(expires_on: date | None, day: date) -> bool:
    """Whether a lot does not count on a day: it expires on that day or before."""
    return expires_on is not None and expires_on <= day


def usable(on_hand: Quantity, protection: Quantity, withheld: Withheld = NOTHING_WITHHELD) -> Quantity:
    """What may be sold of a group: stock that has not expired, less protection and buffer, never below zero."""
    if withheld.closed:
        return 0
    left = on_hand - protection - withheld.quantity
    if left < 0:
        return 0
    return left


def shared_out(lots: Sequence[Quantity], usable_quantity: Quantity) -> tuple[Quantity, ...]:
    """How much of each lot is usable, in the order in which they are taken: what is kept back is of the last ones."""
    shares = []
    for lot in lots:
        share = min(usable_quantity, lot)
        shares.append(share)
        usable_quantity -= share
    return tuple(shares)


def left_of_receipts(
    on_hand: Quantity, receipts: Sequence[Quantity], protection: Quantity, withheld: Withheld = NOTHING_WITHHELD
) -> tuple[Quantity, ...]:
    """What may be promised of each receipt of a group, earliest first: they first fill what stock leaves missing."""
    if withheld.closed:
        return (0,) * len(receipts)
    missing = max(0, protection + withheld.quantity - on_hand)
    left = []
    for receipt in receipts:
        covered = min(missing, receipt)
        missing -= covered
        left.append(receipt - covered)
    return tuple(left)


# --- all groups of some items -------------------------------------------------------------------------------------


class PlaceFact(Protocol):
    """What is read of a position: `sourcing.problem.Place` is one."""

    @property
    def position(self) -> int:
        """Number of the position."""
        ...

    @property
    def item(self) -> str:
        """Code of the item."""
        ...

    @property
    def node(self) -> str:
        """Code of the node."""
        ...

    @property
    def pool(self) -> str:
        """Code of the pool."""
        ...

    @property
    def lot(self) -> str:
        """Code of the lot, '' where there is none."""
        ...

    @property
    def expires_on(self) -> date | None:
        """Day on which the lot no longer counts."""
        ...


class StockFact(Protocol):
    """Available units of a position: `sourcing.problem.StockFact` is one."""

    @property
    def place(self) -> PlaceFact:
        """The position."""
        ...

    @property
    def available(self) -> Quantity:
        """Base units of its account `available`."""
        ...


class ReceiptFact(Protocol):
    """Open units of a receipt: `sourcing.problem.ReceiptFact` is one."""

    @property
    def place(self) -> PlaceFact:
        """The position it is for."""
        ...

    @property
    def due_on(self) -> date:
        """Day from which it counts."""
        ...

    @property
    def open(self) -> Quantity:
        """Base units nobody has pledged yet."""
        ...


class PositionOffer(NamedTuple):
    """Usable units of a position (a lot of a group) now."""

    position: int
    lot: str
    now: Quantity


class Offer(NamedTuple):
    """What one group offers a channel: now, by date with receipts, by position, and what is kept back and by what."""

    item: str
    gate: Gate
    on_hand: Quantity
    now: Quantity
    by_date: Profile
    positions: tuple[PositionOffer, ...]
    withheld: Withheld


_GroupKey = tuple[str, str, str]
BETWEEN: Final = "\x1f"
"""Stands between node and pool where a place is one text; no code has it."""


class Shelves(NamedTuple):
    """What is available at positions, column by column, and the positions of lots that expire with the days of that.

    A place is node and pool as one text. Days are counted as `date.toordinal` does.
    """

    items: Sequence[str]
    places: Sequence[str]
    positions: NDArray[np.int64]
    available: NDArray[np.int64]
    lots: NDArray[np.int64]
    expires_on: NDArray[np.int64]


class Coming(NamedTuple):
    """Units that come to positions, and the days by number, column by column."""

    positions: NDArray[np.int64]
    due_on: NDArray[np.int64]
    units: NDArray[np.int64]


CLOSED: Final = -1
"""The column of places that are not open."""

ALL_OF_IT: Final = 2**62
"""Kept back where a buffer closes a pool: more than any group has."""


class _Gates(NamedTuple):
    """The gates of one channel, numbered as they were met, and what of them is asked again and again.

    Never changed: who meets new places makes another table, so that threads need not wait for each other.
    """

    column_of: Mapping[str, int]
    gates: Sequence[Gate]
    kept: NDArray[np.int64]


class Outlook:
    """What one channel may be promised under one edition and policy. Remembers which pools are open to it where."""

    def __init__(self, network: Network, policy: CompiledPolicy, channel: str) -> None:
        """An outlook answers only for this edition, policy and channel."""
        self._network = network
        self._policy = policy
        self._channel = channel
        self._met = _Gates({}, (), np.zeros(0, np.int64))

    @property
    def open_pools(self) -> tuple[str, ...]:
        """Codes of the pools whose stock the channel may be promised: of others nothing needs to be read."""
        pools = self._network.pools
        return tuple(
            code
            for code in sorted(pools)
            if not pools[code].customers and _is_open(pools[code], self._policy, self._channel)
        )

    def offers(self, day: date, stock: Iterable[StockFact], receipts: Iterable[ReceiptFact] = ()) -> list[Offer]:
        """What every group among the facts offers, asked on `day` (UTC), sorted by item, node and pool.

        Left out are nodes that are not active, pools not open to the channel, and pools for named customers only.
        Receipts count from their due date, an overdue one from today, unless the policy is `on_hand_only`.
        """
        on_shelf: dict[_GroupKey, list[StockFact]] = {}
        for fact in stock:
            place = fact.place
            key = (place.item, place.node, place.pool)
            if key in on_shelf:
                on_shelf[key].append(fact)
            else:
                on_shelf[key] = [fact]
        coming: dict[_GroupKey, list[ReceiptFact]] = {}
        for receipt in () if self._policy.policy.on_hand_only else receipts:
            place = receipt.place
            key = (place.item, place.node, place.pool)
            coming.setdefault(key, []).append(receipt)
            on_shelf.setdefault(key, [])
        return self._of_groups(day, on_shelf, coming)

    def _of_groups(
        self, day: date, on_shelf: Mapping[_GroupKey, list[StockFact]], coming: Mapping[_GroupKey, list[ReceiptFact]]
    ) -> list[Offer]:
        named = self._policy.buffers_by_item
        found = []
        for item, node, pool in sorted(on_shelf):
            where = node + BETWEEN + pool
            met = self._gates([where])
            if (column := met.column_of[where]) != CLOSED:
                key, gate = (item, node, pool), met.gates[column]
                withheld = gate.buffers.of(item) if item in named else gate.buffers.otherwise
                found.append(_offer(item, gate, withheld, day, on_shelf[key], coming.get(key, ())))
        return found

    def totals(self, day: date, items: Sequence[str], shelves: Shelves, coming: Coming) -> Totals:
        """What the groups of some items offer, added up: the same as `Totals.of` what `offers` says, from columns.

        Shelves are of these items; units come to positions that are among the shelves.
        """
        met = self._gates(shelves.places)
        row_of = {item: row for row, item in enumerate(items)}
        columns = np.fromiter(map(met.column_of.__getitem__, shelves.places), np.intp, len(shelves.places))
        rows = np.fromiter(map(row_of.__getitem__, shelves.items), np.intp, len(columns))
        if len(columns) and columns.min() == CLOSED:
            open_ = columns != CLOSED
            columns, rows = columns[open_], rows[open_]
            shelves = shelves._replace(positions=shelves.positions[open_], available=shelves.available[open_])
        used = np.flatnonzero(np.bincount(columns))
        gates, usual, width = met.gates, met.kept, len(used)
        if width < len(gates):
            gates, usual, columns = (
                [gates[column] for column in used.tolist()],
                usual[used],
                np.searchsorted(used, columns),
            )
        cells = rows * width + columns
        on_hand, known = np.zeros(len(items) * width, np.int64), np.zeros((len(items), width), bool)
        np.add.at(on_hand, cells, shelves.available)
        known.reshape(-1)[cells] = True
        changes = self._changes(day, cells, on_hand, shelves, coming)
        kept = self._kept_of(items, gates, usual, known)
        now = np.maximum(on_hand.reshape(known.shape) - kept, 0)
        later: list[dict[int, Profile]] = [{} for _ in items]
        for cell, moves in changes.items():
            row, column = divmod(cell, width)
            later[row][column] = stepped(moves, day, int(on_hand[cell]), int(kept[row, column]))
        return Totals(day, items, gates, now, known, later)

    def _kept_of(
        self, items: Sequence[str], gates: Sequence[Gate], usual: NDArray[np.int64], known: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """What is kept back of each item at each gate, and all of it where it is closed."""
        kept = np.repeat(usual[None], len(items), axis=0)
        for row, item in enumerate(items):
            if item in self._policy.buffers_by_item:
                for column in np.flatnonzero(known[row]).tolist():
                    gate = gates[column]
                    kept[row, column] = _kept(gate.protection, gate.buffers.of(item))
        return kept

    def _changes(
        self, day: date, cells: NDArray[np.intp], on_hand: NDArray[np.int64], shelves: Shelves, coming: Coming
    ) -> dict[int, dict[date, Quantity]]:
        """How lots that expire and receipts change groups after what is on hand on `day`, by cell of the table.

        `cells` says where the positions of the shelves belong. Lots that have expired are taken off `on_hand`.
        """
        changes: dict[int, dict[date, Quantity]] = {}
        ends: dict[int, date] = {}
        if len(shelves.lots):
            ends = dict(zip(shelves.lots.tolist(), map(date.fromordinal, shelves.expires_on.tolist()), strict=True))
            at, is_there = _found(shelves.positions, shelves.lots)
            for place, lot in zip(at[is_there].tolist(), shelves.lots[is_there].tolist(), strict=True):
                cell, units = int(cells[place]), int(shelves.available[place])
                if ends[lot] <= day:
                    on_hand[cell] -= units
                else:
                    _add(changes, cell, ends[lot], -units)
        if self._policy.policy.on_hand_only or not len(coming.positions):
            return changes
        at, is_there = _found(shelves.positions, coming.positions)
        columns = cells[at[is_there]], *(column[is_there] for column in coming)
        for cell, position, due_on, units in zip(*(column.tolist() for column in columns), strict=True):
            begins, expires_on = max(day, date.fromordinal(due_on)), ends.get(position)
            if expires_on is None:
                _add(changes, cell, begins, units)
            elif expires_on > begins:
                _add(changes, cell, begins, units)
                _add(changes, cell, expires_on, -units)
        return changes

    def _gates(self, places: Sequence[str]) -> _Gates:
        """A table of gates that has the columns of these places."""
        met = self._met
        new = set(places).difference(met.column_of)
        if new:
            column_of, gates = dict(met.column_of), list(met.gates)
            for place in sorted(new):
                gate = _gate(self._network, self._policy, self._channel, *place.split(BETWEEN))
                column_of[place] = CLOSED if gate is None else len(gates)
                gates += [] if gate is None else [gate]
            met = self._met = _Gates(column_of, gates, np.array([gate.kept for gate in gates], np.int64))
        return met


def _found(positions: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where among some positions each wanted one is, and whether it is there at all."""
    if not len(positions):
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), bool)
    order = np.argsort(positions)
    at = order[np.searchsorted(positions, wanted, sorter=order) % len(order)]
    return at, positions[at] == wanted


def _add(changes: dict[int, dict[date, Quantity]], cell: int, day: date, units: Quantity) -> None:
    here = changes.get(cell)
    if here is None:
        changes[cell] = {day: units}
    else:
        here[day] = here.get(day, 0) + units


def offers(
    network: Network,
    policy: CompiledPolicy,
    channel: str,
    day: date,
    stock: Iterable[StockFact],
    receipts: Iterable[ReceiptFact] = (),
) -> list[Offer]:
    """What every group among the facts offers `channel`: see `Outlook.offers`, which remembers between calls."""
    return Outlook(network, policy, channel).offers(day, stock, receipts)


def _gate(network: Network, policy: CompiledPolicy, channel: str, node_code: str, pool_code: str) -> Gate | None:
    node, pool = network.nodes.get(node_code), network.pools.get(pool_code)
    if node is None or pool is None or node.status is not NodeStatus.ACTIVE or node.customers or pool.customers:
        return None
    if not _is_open(pool, policy, channel):
        return None
    buffers = policy.buffers_at(node, pool_code, channel)
    kept = _kept(pool.protection, buffers.otherwise)
    return Gate(node_code, pool_code, node.echelon, pool.protection, buffers, kept)


def _kept(protection: Quantity, withheld: Withheld) -> Quantity:
    return ALL_OF_IT if withheld.closed else protection + withheld.quantity


def _is_open(pool: Pool, policy: CompiledPolicy, channel: str) -> bool:
    if pool.channels and channel not in pool.channels:
        return False
    said = policy.policy
    return not said.only_listed_pools or pool.code in said.pool_order.get(channel, ())


def _offer(
    item: str,
    gate: Gate,
    withheld: Withheld,
    day: date,
    stock: Sequence[StockFact],
    receipts: Sequence[ReceiptFact],
) -> Offer:
    """One group of several lots, with lots that expire, or with receipts."""
    lots = sorted(stock, key=_taken_first) if len(stock) > 1 else stock
    counted = [0 if has_expired(fact.place.expires_on, day) else fact.available for fact in lots]
    on_hand = sum(counted)
    now = usable(on_hand, gate.protection, withheld)
    shares = zip(lots, shared_out(counted, now), strict=True)
    positions = tuple([PositionOffer(fact.place.position, fact.place.lot, share) for fact, share in shares])
    by_date = _by_date(gate, withheld, day, stock, receipts)
    return Offer(item, gate, on_hand, now, by_date, positions, withheld)


def _taken_first(fact: StockFact) -> tuple[date, str]:
    return fact.place.expires_on or date.max, fact.place.lot


def _by_date(
    gate: Gate, withheld: Withheld, day: date, stock: Sequence[StockFact], receipts: Sequence[ReceiptFact]
) -> Profile:
    """The group's usable units on each day on which they change: receipts come in, lots expire."""
    changes: dict[date, Quantity] = {}
    for fact in stock:
        _count(changes, day, day, fact.place.expires_on, fact.available)
    for receipt in receipts:
        _count(changes, day, receipt.due_on, receipt.place.expires_on, receipt.open)
    return stepped(changes, day, 0, _kept(gate.protection, withheld))


def _count(changes: dict[date, Quantity], day: date, since: date, expires_on: date | None, quantity: Quantity) -> None:
    """Note units that count from a day, or from `day` if that is later, until they expire."""
    begin = max(day, since)
    if has_expired(expires_on, begin):
        return
    changes[begin] = changes.get(begin, 0) + quantity
    if expires_on is not None:
        changes[expires_on] = changes.get(expires_on, 0) - quantity


# --- kits -------------------------------------------------------------------------------------------------------------


class Assembly(NamedTuple):
    """How many whole kits can be made, and the part that allows no more."""

    kits: int
    limited_by: str


class KitCount(NamedTuple):
    """Kits that can be made at each node, and in all: across nodes where the bill allows it, else node by node.

    Where kits are not made across nodes, the limiting part of `together` is that of the network as a whole.
    """

    by_node: Mapping[str, Assembly]
    together: Assembly


def kits(bill: Bill, parts: Mapping[str, Mapping[str, Quantity]]) -> KitCount:
    """Kits from `parts`: usable base units by node and item."""
    needs: dict[str, Quantity] = {}
    for component in bill.components:
        needs[component.item] = needs.get(component.item, 0) + component.quantity
    at_nodes = {node: _assembled(needs, parts[node]) for node in sorted(parts)}
    total: dict[str, Quantity] = {}
    for there in parts.values():
        for item, quantity in there.items():
            total[item] = total.get(item, 0) + quantity
    across = _assembled(needs, total)
    if not bill.across_nodes:
        across = across._replace(kits=sum(assembly.kits for assembly in at_nodes.values()))
    return KitCount(at_nodes, across)


def _assembled(needs: Mapping[str, Quantity], there: Mapping[str, Quantity]) -> Assembly:
    counts = [(there.get(item, 0) // quantity, item) for item, quantity in needs.items()]
    count, part = min(counts)
    return Assembly(count, part)
