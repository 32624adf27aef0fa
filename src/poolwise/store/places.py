"""What a process remembers of positions: the part that never changes, so that reading stock makes no new objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from operator import xor
from sys import intern
from typing import Final

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

READ_ITEM_POSITIONS: Final = """
SELECT item, array_agg(id ORDER BY id)
FROM position
WHERE cell = ANY (%b::smallint[]) AND item = ANY (%b::text[])
GROUP BY item
"""

Fingerprint = tuple[str, int, int]
"""Names a set of positions of an item: the item, how many they are, and the exclusive or of their ids."""

Lists = Mapping[Fingerprint, Positions]
PlaceOf = dict[int, Place]
CellOf = dict[int, int]


class Places:
    """Places and cells by position id. Shared by the threads of a process, which see either pair of maps whole."""

    def __init__(self, cells: Sequence[int]) -> None:
        self.cells = sorted(cells)  # a list, because that is what the driver makes an array of
        self._maps: tuple[PlaceOf, CellOf] = ({}, {})
        self._keys: dict[int, PositionKey] = {}
        self._lists: dict[Fingerprint, Positions] = {}

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

    def listed(self, cursor: Cursor[TupleRow], cells: Sequence[int], fingerprints: Collection[Fingerprint]) -> Lists:
        """The positions of an item in the order of their ids, for each set of them that was met.

        A set that was met before is known by its fingerprint; the ids of others are read.
        """
        lists = self._lists
        missing = {fingerprint[0] for fingerprint in fingerprints if fingerprint not in lists}
        if missing:
            rows = cursor.execute(READ_ITEM_POSITIONS, (list(cells), sorted(missing))).fetchall()
            places, _ = self.learn(cursor, [position for _, positions in rows for position in positions])
            for item, positions in rows:
                found = positions_of([places[position] for position in positions])
                lists[item, len(positions), reduce(xor, positions)] = found
        return lists

    def forget(self, positions: Collection[int]) -> None:
        """Drop places that may never have come to be: their transaction was rolled back."""
        places, cell_of = self._maps
        for position in positions:
            cell_of.pop(position, None)
            places.pop(position, None)
            self._keys.pop(position, None)
        if positions:
            self._lists = {}
