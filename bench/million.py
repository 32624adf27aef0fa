"""A network with a million positions, as a directory: stores and centres with one pool each, and snapshots of stock.

Everything follows from a seed. Snapshots are written as a warehouse system writes them: node by node, with the rows
that are wrong, repeated or old at random places. The world remembers what every position should have in the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

CENTRES: Final = 10
"""One in so many nodes is a centre, the others are stores, of which the shipped policy holds a unit back."""

CHANNEL: Final = "web"
HEADER: Final = "item,node,pool,quantity,as_of,sequence\n"
RECEIPTS_HEADER: Final = "reference,item,node,pool,quantity,due_on\n"
WRONG: Final = (
    "{item},{node},{pool},many,{as_of},{sequence}",
    "{item},{node},{pool},-3,{as_of},{sequence}",
    "{item},{node},{pool},2.5,{as_of},{sequence}",
    "NOTHING,{node},{pool},3,{as_of},{sequence}",
    "{item},NOWHERE,{pool},3,{as_of},{sequence}",
    "{item},{node},NONE,3,{as_of},{sequence}",
    "{item},{node},{pool},3,yesterday,{sequence}",
    "{item},{node},{pool},3,{as_of},first",
    "{item},{node},{pool},3",
    ",{node},{pool},3,{as_of},{sequence}",
)
"""Rows that make no sense, each in its own way."""


@dataclass(frozen=True, slots=True)
class Extra:
    """How many positions a snapshot changes, and how many rows it has besides: bad, repeated, and old ones."""

    changed: int
    bad: int
    duplicate: int
    stale: int


@dataclass(slots=True)
class World:
    """The network, and what every position has: `quantities` by node, then by item."""

    items: int
    nodes: int
    random: Random
    quantities: list[list[int]] = field(default_factory=list)
    sequence: int = 1

    @classmethod
    def of(cls, items: int, nodes: int, seed: int) -> World:
        """A world whose shelves hold 0 to 60 units, one in thirteen none."""
        random = Random(seed)
        shelves = [[max(0, random.randint(-4, 60)) for _ in range(items)] for _ in range(nodes)]
        return cls(items, nodes, random, shelves)

    @property
    def positions(self) -> int:
        """How many there are."""
        return self.items * self.nodes

    def item(self, number: int) -> str:
        """The code of an item."""
        return f"I{number:06}"

    def node(self, number: int) -> str:
        """The code of a node."""
        return f"N{number:03}"

    def pool(self, number: int) -> str:
        """The code of the pool at a node: stores and centres have one each, both open to the channel."""
        return "centres" if number % CENTRES == 0 else "stores"

    def write_network(self, directory: Path) -> None:
        """Write master data: what a lookup needs, and a lane from every node to the one zone."""
        nodes = range(self.nodes)
        kinds = ["centre,regional" if number % CENTRES == 0 else "store,last_mile" for number in nodes]
        _write(directory, "network", "currency,name", ["EUR,a million positions"])
        _write(directory, "nodes", "node,kind,echelon", [f"{self.node(n)},{kinds[n]}" for n in nodes])
        _write(directory, "pools", "pool,channels", [f"centres,{CHANNEL}", f"stores,{CHANNEL}"])
        _write(directory, "items", "item", [self.item(number) for number in range(self.items)])
        _write(directory, "zones", "zone", ["Z"])
        _write(directory, "rates", "rates,up_to_kg,fixed", ["R,1000,5"])
        lanes = [f"{self.node(n)}-Z,{self.node(n)},Z,R" for n in nodes]
        _write(directory, "lanes", "lane,origin,destination,rates", lanes)

    def write_receipts(self, directory: Path, of_an_item: int, first_day: date) -> int:
        """Write `of_an_item` expected receipts of every item, at random nodes, in the next four weeks; how many."""
        rows = []
        for number in range(self.items):
            for place, node in enumerate(self.random.sample(range(self.nodes), of_an_item)):
                due_on = first_day + timedelta(days=self.random.randint(1, 28))
                row = f"PO{number}-{place},{self.item(number)},{self.node(node)},{self.pool(node)}"
                rows.append(f"{row},{self.random.randint(5, 50)},{due_on}\n")
        (directory / "receipts.csv").write_text(RECEIPTS_HEADER + "".join(rows))
        return len(rows)

    def write_snapshot(self, directory: Path, as_of: datetime, extra: Extra) -> int:
        """Change `extra.changed` positions, and write a full count, with the other rows besides; how many rows."""
        random = self.random
        self.sequence += 1
        for place in random.sample(range(self.positions), extra.changed):
            shelf = self.quantities[place // self.items]
            shelf[place % self.items] += random.randint(1, 9)
        said, old = as_of.isoformat(), (as_of - timedelta(days=30)).isoformat()
        places = random.sample(range(self.positions), extra.bad + extra.duplicate + extra.stale)
        besides: list[tuple[int, str]] = []
        for which, place in enumerate(random.choices(range(self.positions), k=len(places))):
            about = places[which]
            if which < extra.bad:
                node = about // self.items
                words = {"item": self.item(about % self.items), "node": self.node(node), "pool": self.pool(node)}
                row = WRONG[which % len(WRONG)].format(**words, as_of=said, sequence=self.sequence)
            elif which < extra.bad + extra.duplicate:
                row = self._row(about, said, self.sequence)
            else:
                row = self._row(about, old, self.sequence - 2, 70)
            besides.append((place, row))
        besides.sort(key=lambda entry: entry[0])
        with (directory / "stock.csv").open("w") as file:
            file.write(HEADER)
            file.writelines(self._rows(said, besides))
        return self.positions + len(besides)

    def _row(self, place: int, as_of: str, sequence: int, more: int = 0) -> str:
        node, item = divmod(place, self.items)
        quantity = self.quantities[node][item] + more
        return f"{self.item(item)},{self.node(node)},{self.pool(node)},{quantity},{as_of},{sequence}"

    def _rows(self, as_of: str, besides: list[tuple[int, str]]) -> Iterator[str]:
        """Every position once, with the other rows in between."""
        waiting = iter([*besides, (self.positions, "")])
        at, other = next(waiting)
        items = [self.item(number) for number in range(self.items)]
        for number, shelf in enumerate(self.quantities):
            tail, first = f",{self.node(number)},{self.pool(number)},", number * self.items
            end = f",{as_of},{self.sequence}\n"
            for place, (item, quantity) in enumerate(zip(items, shelf, strict=True), start=first):
                while place == at:
                    yield other + "\n"
                    at, other = next(waiting)
                yield f"{item}{tail}{quantity}{end}"


def _write(directory: Path, name: str, header: str, rows: list[str]) -> None:
    (directory / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
