"""Read a stock file in chunks, as columns: a million rows pass without an object for each of them.

A row of the usual form is taken to pieces here; any other is read by the specification of the file, so that both ways
accept the same and say the same about what is wrong (law 12).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from poolwise.connect.directory.columns import RowError, read_values, row_of
from poolwise.connect.directory.fields import UNKNOWN, Ints
from poolwise.connect.directory.kinds import read_instant
from poolwise.connect.directory.messages import STOCK
from poolwise.connect.directory.reading import Bad, Block, Reject, blocks, decoded
from poolwise.core.counting import COUNTED
from poolwise.core.ledger import position_ids
from poolwise.core.messages import CountBasis, StockCount
from poolwise.core.values import Fault
from poolwise.flows.snapshot import NO_SEQUENCE, NUMBERS, Codes, CountColumns
from poolwise.flows.stock import Outcome, compared, position_key, quantity_of
from poolwise.flows.tallying import Clerk, untimely

ROWS_IN_A_CHUNK: Final = 50_000
ACCOUNTS_OF: Final = {basis: len(accounts) for basis, accounts in COUNTED.items()}


@dataclass(slots=True)
class Chunk:
    """Counts of consecutive rows, each position once; `last_row` is the line on which the chunk ends.

    `rows` is how many the file had there; `stale` and `duplicate` are those about a position that another is about.
    `told` are the counts, by row, of which the columns do not say everything.
    """

    columns: CountColumns = field(default_factory=CountColumns)
    told: dict[int, StockCount] = field(default_factory=dict)
    last_row: int = 0
    rows: int = 0
    stale: int = 0
    duplicate: int = 0

    def message(self, place: int) -> StockCount:
        """The count at a place of the columns."""
        columns = self.columns
        told = self.told.get(columns.rows[place])
        if told is not None:
            return told
        as_of, sequence = _said(columns, place)
        quantity = str(columns.quantities[place])
        item, node, pool = columns.key(place)
        return StockCount(item=item, node=node, pool=pool, quantity=quantity, as_of=as_of, sequence=sequence)


def chunks(
    path: Path, clerk: Clerk, now: datetime, reject: Callable[[Reject], object], size: int = ROWS_IN_A_CHUNK
) -> Iterator[Chunk]:
    """The counts of a stock file, about `size` rows at a time. Rows that make no sense go to `reject`.

    Raises FileError when the file is refused as a whole.
    """
    reader = _Reader(clerk, now, reject)
    for block in blocks(STOCK, path, size):
        if chunk := reader.chunk_of(block):
            yield chunk


class _Numbers(dict[bytes, int]):
    """Numbers of texts, UNKNOWN of those that are not there."""

    def __missing__(self, text: bytes) -> int:
        return UNKNOWN


def _numbered(codes: Iterable[str]) -> _Numbers:
    return _Numbers({code.encode(): place for place, code in enumerate(codes)})


class _Reader:
    """Reads each block of rows into a chunk."""

    def __init__(self, clerk: Clerk, now: datetime, reject: Callable[[Reject], object]) -> None:
        network, catalog = clerk.edition.network, clerk.edition.catalog
        self._clerk, self._reject = clerk, reject
        self._now = now
        self._codes = Codes(tuple(catalog.items), tuple(network.nodes), tuple(network.pools))
        self._cells = np.array([node.cell for node in network.nodes.values()], np.int64)
        self._is_whole = np.array([item.scale == 0 for item in catalog.items.values()], bool)
        codes = {"item": self._codes.items, "node": self._codes.nodes, "pool": self._codes.pools}
        self._names = {name: np.array(each, object) for name, each in codes.items()}
        usual = {**codes, "lot": ("",), "basis": ("", CountBasis.ON_HAND.value), "expires_on": ("",)}
        self._number = {name: _numbered(codes).__getitem__ for name, codes in usual.items()}
        self._number["as_of"] = self._place_of
        self._instants: dict[bytes, int] = {}
        self._chunk = Chunk()

    def chunk_of(self, block: Block) -> Chunk | None:
        """The rows of a block, each position once; None where there are none."""
        self._instants = {}
        rows = len(block.numbers) + len(block.odd) + len(block.bad)
        self._chunk = Chunk(CountColumns(self._codes), last_row=block.last_line, rows=rows)
        for bad in block.bad:
            self._refuse(bad.row, bad.faults)
        for number, fields in block.odd:
            self._take_any(block.header, number, fields)
        self._take_plain(block)
        _put_in_order(self._chunk)
        return self._chunk if rows else None

    def _take_plain(self, block: Block) -> None:
        """Rows of the usual form (known codes, whole numbers, a valid instant, no lot, on hand), column by column.

        The others one by one.
        """
        usual = np.ones(len(block.numbers), bool)
        found: dict[str, Ints] = {}
        for name, fields in zip(block.header, block.columns, strict=True):
            if name in ("quantity", "sequence"):
                found[name], fits = fields.whole_numbers(nothing=NO_SEQUENCE)
                usual &= fits
            else:
                found[name] = fields.look_up(self._number[name])
        for name, numbers in found.items():
            usual &= (numbers != UNKNOWN) | (name == "sequence")
        usual[usual] = self._is_whole[found["item"][usual]]
        for place in np.flatnonzero(~usual).tolist():
            self._take_any(block.header, *block.row(place))
        said = {name: numbers[usual] for name, numbers in found.items()}
        count = len(said["item"])
        self._add(
            rows=block.numbers[usual],
            cells=self._cells[said["node"]],
            positions=position_ids(*(self._names[name][said[name]].tolist() for name in ("item", "node", "pool"))),
            items=said["item"],
            nodes=said["node"],
            pools=said["pool"],
            quantities=said["quantity"],
            as_of=said["as_of"],
            sequences=said.get("sequence", np.full(count, NO_SEQUENCE)),
            accounts=np.full(count, ACCOUNTS_OF[CountBasis.ON_HAND]),
            lots=np.zeros(count, np.int64),
        )

    def _add(self, **numbers: Ints | array[int] | tuple[int]) -> None:
        """Numbers of each column of the chunk."""
        for name in NUMBERS:
            getattr(self._chunk.columns, name).frombytes(np.asarray(numbers[name], np.int64).tobytes())

    def _place_of(self, text: bytes) -> int:
        """The place of an instant among those of the chunk."""
        place = self._instants.get(text, UNKNOWN)
        if place != UNKNOWN:
            return place
        try:
            as_of = read_instant(text.decode())
        except ValueError:
            return UNKNOWN
        return UNKNOWN if untimely("as_of", as_of, self._now) else self._instant(text, as_of)

    def _take_any(self, header: Sequence[str], row: int, fields: Sequence[str]) -> None:
        """A row of any form, read as its specification says."""
        entry = decoded(row, dict(zip(header, fields, strict=True)))
        if isinstance(entry, Bad):
            self._refuse(row, entry.faults)
            return
        try:
            count = row_of(STOCK, read_values(STOCK, entry.texts))
        except RowError as error:
            self._refuse(row, error.faults)
            return
        faults: list[Fault] = []
        key = position_key(self._clerk, count.item, count.node, count.pool, count.lot, faults)
        quantity = quantity_of(self._clerk, key, "quantity", count.quantity, faults)
        faults += untimely("as_of", count.as_of, self._now)
        if faults or key is None or quantity is None:
            self._refuse(row, tuple(faults))
            return
        item, node, pool = (code.encode() for code in (key.item, key.node, key.pool))
        self._add(
            rows=(row,),
            cells=(self._clerk.cell_of(key.node),),
            positions=(key.id(),),
            items=(self._number["item"](item),),
            nodes=(self._number["node"](node),),
            pools=(self._number["pool"](pool),),
            quantities=(quantity,),
            as_of=(self._instant(entry.texts["as_of"].encode(), count.as_of),),
            sequences=(NO_SEQUENCE if count.sequence is None else count.sequence,),
            accounts=(ACCOUNTS_OF[count.basis],),
            lots=(int(bool(count.lot or count.expires_on)),),
        )
        self._chunk.told[row] = count

    def _instant(self, text: bytes, as_of: datetime) -> int:
        place = self._instants.setdefault(text, len(self._instants))
        if place == len(self._chunk.columns.instants):
            self._chunk.columns.instants.append(as_of)
        return place

    def _refuse(self, row: int, faults: tuple[Fault, ...]) -> None:
        for fault in faults:
            self._reject(Reject(STOCK.name, row, fault.field, fault.reason))


def _put_in_order(chunk: Chunk) -> None:
    """Order counts by position. Of several of a position keep the newest, of equal ones the first."""
    columns = chunk.columns
    ids = np.asarray(columns.positions)
    order = np.argsort(ids)
    (same,) = np.nonzero(ids[order][1:] == ids[order][:-1])
    keep = np.ones(len(columns), bool)
    newest: dict[int, int] = {}
    for place in sorted({*order[same].tolist(), *order[same + 1].tolist()}, key=columns.rows.__getitem__):
        rival = newest.setdefault(columns.positions[place], place)
        if rival == place:
            continue
        outcome = compared(*_said(columns, place), *_said(columns, rival))
        keep[rival if outcome is None else place] = False
        if outcome is None:
            newest[columns.positions[place]] = place
        if outcome is Outcome.DUPLICATE:
            chunk.duplicate += 1
        else:
            chunk.stale += 1
    order = order[keep[order]]
    for name in NUMBERS:
        setattr(columns, name, array("q", np.asarray(getattr(columns, name))[order].tobytes()))


def _said(columns: CountColumns, place: int) -> tuple[datetime, int | None]:
    sequence = columns.sequences[place]
    return columns.instants[columns.as_of[place]], None if sequence == NO_SEQUENCE else sequence
