"""What a process remembers of positions: the part that never changes, so that reading stock makes no new objects."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from sys import intern
from typing import Final

import numpy as np
from numpy.typing import NDArray
from psycopg import Cursor
from psycopg.rows import TupleRow

from poolwise.core.ledger import PositionKey
from poolwise.core.sourcing.problem import Place, Positions, positions_of
from poolwise.core.values import Conflict
from poolwise.store.arrays import array

MOST_REMEMBERED: Final = 2_000_000

READ_PLACES: Final = """
SELECT id, item, node, pool, lot, expires_on, cell
FROM position
WHERE cell = ANY (%b::smallint[]) AND id = ANY (%b::bigint[])
"""

PlaceOf = dict[int, Place]
CellOf = dict[int, int]


class Places:
    """Places and cells by position id. Shared by the threads of a process, which see either pair of maps whole."""

    def __init__(self, cells: Sequence[int]) -> None:
        self.cells = sorted(cells)  # a list, because that is what the driver makes an array of
        self._maps: tuple[PlaceOf, CellOf] = ({}, {})
        self._keys: dict[int, PositionKey] = {}
        self._lists: dict[str, Positions] = {}

    @property
    def known(self) -> PlaceOf:
        """The places known by now."""
        return self._maps[0]

    def learn(self, cursor: Cursor[TupleRow], positions: Sequence[int]) -> tuple[PlaceOf, CellOf]:
        """Places and cells, which hold all of `positions` that exist; those not known yet are read."""
        places, cell_of = self._maps
        missing = [position for position in positions if position not in cell_of]
        if not missing:
            return places, cell_of
        if len(places) + len(missing) > MOST_REMEMBERED:
            places, cell_of = self._maps = ({}, {})
            self._keys, self._lists = {}, {}
            missing = list(positions)
        cursor.execute(READ_PLACES, (self.cells, array("int8", missing)))
        for position, item, node, pool, lot, expires_on, cell in cursor.fetchall():
            places[position] = Place(position, intern(item), intern(node), intern(pool), lot, expires_on)
            cell_of[position] = cell
        return places, cell_of

    def cells_of(self, cursor: Cursor[TupleRow], positions: Sequence[int]) -> CellOf:
        """The cell of each position. Raises Conflict when one does not exist (any more)."""
        _, cell_of = self.learn(cursor, positions)
        for position in positions:
            if position not in cell_of:
                raise Conflict(f"position {position} does not exist")
        return cell_of

    def key_of(self, place: Place) -> PositionKey:
        """The position's key, one shared value for each."""
        key = self._keys.get(place.position)
        if key is None:
            key = self._keys[place.position] = PositionKey(place.item, place.node, place.pool, place.lot)
        return key

    def listed(
        self, cursor: Cursor[TupleRow], items: Sequence[str], ids: NDArray[np.int64]
    ) -> tuple[list[Positions], NDArray[np.intp]]:
        """The positions of items, of each that has any, in the order of their ids, and where in `ids` each of them is.

        `ids` are all there are of these items, and rise. Whose they are is known from the last time, if no position has
        come to be since.
        """
        lists = {item: self._lists[item] for item in items if item in self._lists}
        listed = np.sort(_ids_of(lists.values()))
        if not np.array_equal(listed, ids):
            self._correct(cursor, lists, _without(ids, listed), _without(listed, ids))
            self._lists.update(lists)
        known = [lists[item] for item in items if item in lists]
        return known, np.searchsorted(ids, _ids_of(known))

    def _correct(
        self, cursor: Cursor[TupleRow], lists: dict[str, Positions], new: Sequence[int], gone: Sequence[int]
    ) -> None:
        """Items are met for the first time, or positions have come to be, which at first one transaction alone sees."""
        missing = set(gone)
        own = {
            item: each.index.keys() - missing
            for item, each in lists.items()
            if missing and not missing.isdisjoint(each.index)
        }
        places, _ = self.learn(cursor, new)
        for position in new:
            item = places[position].item
            before = lists[item].index if item in lists else ()
            own.setdefault(item, set(before)).add(position)
        for item, positions in own.items():
            places, _ = self.learn(cursor, sorted(positions))
            lists.pop(item, None)
            if positions:
                lists[item] = positions_of([places[position] for position in sorted(positions)])

    def forget(self, positions: Collection[int]) -> None:
        """Drop places that may never have come to be: their transaction was rolled back."""
        places, cell_of = self._maps
        for position in positions:
            cell_of.pop(position, None)
            places.pop(position, None)
            self._keys.pop(position, None)
        if positions:
            self._lists = {}


def _ids_of(known: Iterable[Positions]) -> NDArray[np.int64]:
    return np.frombuffer(b"".join([each.ids for each in known]), np.int64)


def _without(some: NDArray[np.int64], others: NDArray[np.int64]) -> list[int]:
    """Those of `some` that are not among `others`; both rise."""
    if len(others):
        some = some[others.take(np.searchsorted(others, some), mode="clip") != some]
    left: list[int] = some.tolist()
    return left
