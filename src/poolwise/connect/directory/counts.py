"""Read a stock file in chunks, as columns: a million rows pass without an object for each of them.

A row of the usual form is taken to pieces here; any other is read by the specification of the file, so that both ways
accept the same and say the same about what is wrong (law 12).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import compress, islice
from pathlib import Path
from typing import Final

import numpy as np

from poolwise.connect.directory.columns import RowError, read_values, row_of
from poolwise.connect.directory.kinds import read_instant
from poolwise.connect.directory.messages import STOCK
from poolwise.connect.directory.reading import ROWS_IN_A_BLOCK, Bad, Block, Record, Reject, blocks, decoded, records
from poolwise.core.counting import COUNTED
from poolwise.core.ledger import position_ids
from poolwise.core.messages import CountBasis, StockCount
from poolwise.core.values import Fault
from poolwise.flows.snapshot import NO_SEQUENCE, CountColumns
from poolwise.flows.stock import Outcome, compared, position_key, quantity_of
from poolwise.flows.tallying import CLOCK_SKEW, Clerk

ROWS_IN_A_CHUNK: Final = 50_000
ACCOUNTS_OF: Final = {basis: len(accounts) for basis, accounts in COUNTED.items()}
LONGEST_WHOLE: Final = 12
"""Digits of a whole quantity that is surely below the limit."""

LENGTHS: Final = {"quantity": set(range(1, LONGEST_WHOLE + 1)), "sequence": set(range(LONGEST_WHOLE + 1))}
MOST_INSTANTS: Final = 10_000
NOTHING: Final = frozenset(("",))
_ON_HAND: Final = array("q", (ACCOUNTS_OF[CountBasis.ON_HAND],))
_NO_LOT: Final = array("q", (0,))


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
        item, node, pool = columns.items[place], columns.nodes[place], columns.pools[place]
        return StockCount(item=item, node=node, pool=pool, quantity=quantity, as_of=as_of, sequence=sequence)


def chunks(
    path: Path, clerk: Clerk, now: datetime, reject: Callable[[Reject], object], size: int = ROWS_IN_A_CHUNK
) -> Iterator[Chunk]:
    """The counts of a stock file, about `size` rows at a time. Rows that make no sense go to `reject`.

    Raises FileError when the file is refused as a whole.
    """
    reader: _Reader | None = None
    some = min(size, ROWS_IN_A_BLOCK)
    for block in blocks(STOCK, path, some) if path.suffix == ".csv" else _blocks_of_records(path, some):
        reader = reader or _Reader(block.header, clerk, now, reject)
        reader.take(block)
        if reader.chunk.rows >= size:
            yield reader.finished()
    if reader and reader.chunk.rows:
        yield reader.finished()


def _blocks_of_records(path: Path, size: int) -> Iterator[Block]:
    """A JSONL file in the form of a CSV file with all columns."""
    header = list(STOCK.names)
    entries = records(STOCK, path)
    while taken := list(islice(entries, size)):
        good = [entry for entry in taken if isinstance(entry, Record)]
        yield Block(
            header,
            [entry.row for entry in good],
            [[entry.texts.get(name, "") for entry in good] for name in header],
            [entry for entry in taken if isinstance(entry, Bad)],
            taken[-1].row,
        )


class _Reader:
    """Reads blocks of rows into the current chunk."""

    def __init__(self, header: list[str], clerk: Clerk, now: datetime, reject: Callable[[Reject], object]) -> None:
        network, catalog = clerk.edition.network, clerk.edition.catalog
        self._header, self._clerk, self._reject = header, clerk, reject
        self._latest = now + CLOCK_SKEW
        self._cells = {code: node.cell for code, node in network.nodes.items()}
        self._pools = frozenset(network.pools)
        self._allowed: Mapping[str, frozenset[str]] = {
            "item": frozenset(code for code, item in catalog.items.items() if item.scale == 0),
            "node": frozenset(self._cells),
            "pool": self._pools,
            "lot": NOTHING,
            "basis": frozenset(("", CountBasis.ON_HAND)),
            "expires_on": NOTHING,
        }
        self._codes = {code: code for code in (*self._cells, *self._pools)}
        self._known: dict[str, datetime] = {}
        self._instants: dict[str, int] = {}
        self.chunk = Chunk()

    def finished(self) -> Chunk:
        """The chunk, each position once, and begin the next one."""
        done, self.chunk = self.chunk, Chunk()
        self._instants = {}
        _keep_newest(done)
        return done

    def take(self, block: Block) -> None:
        """Read the rows of a block."""
        chunk = self.chunk
        chunk.rows += len(block.numbers) + len(block.bad)
        chunk.last_row = block.last_line
        for bad in block.bad:
            self._refuse(bad.row, bad.faults)
        usual = self._usual(block)
        if not all(usual):
            for number, plain, *fields in zip(block.numbers, usual, *block.columns, strict=True):
                if not plain:
                    self._take_any(number, fields)
            numbers = list(compress(block.numbers, usual))
            columns = [list(compress(column, usual)) for column in block.columns]
            block = Block(block.header, numbers, columns, [], block.last_line)
        if block.numbers:
            self._take_usual(block)

    def _usual(self, block: Block) -> list[bool]:
        """Which rows are of the usual form: known codes, a whole number, a valid instant, no lot, on hand.

        A column is looked at as a whole first, and text by text only if something in it is unusual.
        """
        columns = dict(zip(block.header, block.columns, strict=True))
        unusual = []
        for name, texts in columns.items():
            if name in ("quantity", "sequence"):
                digits = "".join(texts)
                if (digits.isdecimal() or not digits) and set(map(len, texts)) <= LENGTHS[name]:
                    continue
                fits = [(text.isdecimal() or not text) and len(text) in LENGTHS[name] for text in texts]
            elif name == "as_of":
                different = set(texts)
                self._learn(different)
                if different <= self._known.keys():
                    continue
                fits = list(map(self._known.__contains__, texts))
            else:
                allowed = self._allowed[name]
                if allowed.issuperset(texts):
                    continue
                fits = list(map(allowed.__contains__, texts))
            unusual.append(fits)
        return [all(row) for row in zip(*unusual, strict=True)] if unusual else [True] * len(block.numbers)

    def _learn(self, texts: set[str]) -> None:
        """Read instants that were not met before."""
        if len(self._known) > MOST_INSTANTS:
            self._known = {}
        for text in texts - self._known.keys():
            try:
                as_of = read_instant(text)
            except ValueError:
                continue
            if as_of <= self._latest:
                self._known[text] = as_of

    def _take_usual(self, block: Block) -> None:
        """Rows of the usual form, column by column."""
        columns, count = self.chunk.columns, len(block.numbers)
        texts = dict(zip(block.header, block.columns, strict=True))
        items = texts["item"]
        nodes, pools = (list(map(self._codes.__getitem__, texts[name])) for name in ("node", "pool"))
        columns.rows.extend(block.numbers)
        columns.cells.extend(_numbers(nodes, self._cells.__getitem__))
        columns.positions.extend(position_ids(items, nodes, pools))
        columns.quantities.extend(map(int, texts["quantity"]))
        columns.as_of.extend(_numbers(texts["as_of"], self._place_of))
        columns.sequences.extend(_numbers(texts.get("sequence", ("",) * count), _sequence))
        columns.accounts.extend(_ON_HAND * count)
        columns.lots.extend(_NO_LOT * count)
        columns.items += items
        columns.nodes += nodes
        columns.pools += pools

    def _place_of(self, text: str) -> int:
        return self._instant(text, self._known[text])

    def _take_any(self, row: int, fields: Sequence[str]) -> None:
        """A row of any form, read as its specification says."""
        entry = decoded(row, dict(zip(self._header, fields, strict=True)))
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
        if count.as_of > self._latest:
            faults.append(Fault("as_of", "is in the future"))
        if faults or key is None or quantity is None:
            self._refuse(row, tuple(faults))
            return
        columns = self.chunk.columns
        columns.rows.append(row)
        columns.cells.append(self._cells[key.node])
        columns.positions.append(key.id())
        columns.quantities.append(quantity)
        columns.as_of.append(self._instant(entry.texts["as_of"], count.as_of))
        columns.sequences.append(NO_SEQUENCE if count.sequence is None else count.sequence)
        columns.accounts.append(ACCOUNTS_OF[count.basis])
        columns.lots.append(bool(count.lot or count.expires_on))
        columns.items.append(key.item)
        columns.nodes.append(key.node)
        columns.pools.append(key.pool)
        self.chunk.told[row] = count

    def _instant(self, text: str, as_of: datetime) -> int:
        """The place of an instant among those of the chunk."""
        place = self._instants.get(text)
        if place is None:
            place = self._instants[text] = len(self.chunk.columns.instants)
            self.chunk.columns.instants.append(as_of)
        return place

    def _refuse(self, row: int, faults: tuple[Fault, ...]) -> None:
        for fault in faults:
            self._reject(Reject(STOCK.name, row, fault.field, fault.reason))


def _keep_newest(chunk: Chunk) -> None:
    """Of several counts of a position in a chunk keep the newest, of equal ones the first."""
    columns = chunk.columns
    keep = np.ones(len(columns), bool)
    newest: dict[int, int] = {}
    for place in sorted(_met_twice(columns.positions), key=columns.rows.__getitem__):
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
    if newest:
        for name in ("rows", "cells", "positions", "quantities", "as_of", "sequences", "accounts", "lots"):
            setattr(columns, name, array("q", np.asarray(getattr(columns, name))[keep].tobytes()))
        for name in ("items", "nodes", "pools"):
            setattr(columns, name, list(compress(getattr(columns, name), keep)))


def _met_twice(positions: array[int]) -> list[int]:
    """The places of positions that are there more than once."""
    ids = np.asarray(positions)
    order = np.argsort(ids, kind="stable")
    same = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    return [int(place) for place in np.unique(order[np.concatenate((same, same + 1))])]


def _numbers(texts: Sequence[str], number: Callable[[str], int]) -> Sequence[int]:
    """The number of each text, of which there are few different ones."""
    found = {text: number(text) for text in dict.fromkeys(texts)}
    if len(found) == 1:
        return array("q", found.values()) * len(texts)
    return list(map(found.__getitem__, texts))


def _sequence(text: str) -> int:
    return int(text) if text else NO_SEQUENCE


def _said(columns: CountColumns, place: int) -> tuple[datetime, int | None]:
    sequence = columns.sequences[place]
    return columns.instants[columns.as_of[place]], None if sequence == NO_SEQUENCE else sequence
