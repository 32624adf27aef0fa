"""Cartonisation: which units of a shipment go into which boxes of the node. Pure; integers only (law 11).

The model (docs/cartons.md): an item's sorted sides fit the box's sorted sides, volumes add up within the box's volume
times its fill factor, weights within its limit, and only what may travel together is together. Fewest boxes win, then
the smallest boxes in sum. What fits into no box travels in its own packaging.

What must travel apart is packed apart, so each such group is a problem of its own, and one that a single box holds is
solved. Else pieces are placed largest first, into the first parcel that takes them, in three orders of size: the best
is where the search begins. A group of few pieces is searched by branch and bound: each piece in turn into every
different parcel, or a new one, bounded by the room and weight that the pieces left must still be given. Of a larger
group the emptiest parcels are packed anew by the same search. The limit of a search is a number of steps, never time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from poolwise.core.catalog import Item
from poolwise.core.edition.build import Edition
from poolwise.core.network import Box
from poolwise.core.values import MILLION, Quantity

SEARCHED_PIECES: Final = 16
"""So many pieces are searched exactly; of more, the emptiest parcels with so many."""

MOST_STEPS: Final = 1_000
"""Limit of one search: pieces placed on trial. What was found by then is the answer."""

MOST_ROUNDS: Final = 4
"""How often the emptiest parcels of a large group are packed anew."""

MOST_PARCELS: Final = 10_000
"""Of one group: what would need more is no parcel freight, and stays together without a box."""

PROPOSED_STEPS: Final = 100
PROPOSED_PARCELS: Final = 100
"""Limits of a proposal to a node, which is worked out whenever somebody looks."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One labelled box: its number from 1, the code of the box ('' for own packaging), and what is in it.

    `contents` are item codes and base units, in order of code; `weight_ug` is theirs and the empty box's.
    """

    no: int
    box: str
    contents: tuple[tuple[str, Quantity], ...]
    weight_ug: int


class _Size(NamedTuple):
    """A box as it is packed: usable volume, and a price that counts boxes first and their volume second."""

    code: str
    sides: tuple[int, ...]
    room: int
    most_weight: int
    volume: int
    price: int
    tare: int


class _Kind(NamedTuple):
    """Pieces that are alike: one whole unit of an item, or the fraction left over. `fits` are sizes, as bits."""

    item: str
    quantity: Quantity
    volume: int
    weight: int
    fits: int


class _Load(NamedTuple):
    """What is in a parcel, as the limits see it, and the cheapest size that takes it."""

    volume: int
    weight: int
    fits: int
    size: int


_Contents = dict[_Kind, int]
_Packed = tuple[_Load, _Contents]


def pack(
    goods: Iterable[tuple[Item, Quantity]],
    boxes: Sequence[Box],
    apart: frozenset[str] = frozenset(),
    most_steps: int = MOST_STEPS,
    most_parcels: int = MOST_PARCELS,
) -> tuple[Parcel, ...]:
    """The parcels of a shipment: `goods` are items with base units, `boxes` the sizes of the node.

    Items travel together when they require the same of the capabilities in `apart`: with hazmat in it, hazardous goods
    travel with hazardous goods only. A node without any boxes ships one parcel, without a box, of what may travel
    together. The answer does not depend on the order of `goods` or `boxes`. `most_steps` limits each search,
    `most_parcels` those of what may travel together.
    """
    assert most_steps >= 0, f"{most_steps} steps"
    assert most_parcels > 0, f"{most_parcels} parcels"
    wanted: dict[str, tuple[Item, Quantity]] = {}
    for item, units in goods:
        assert units > 0, f"{units} units of item {item.code}"
        known, before = wanted.get(item.code, (item, 0))
        assert known == item, f"two items {item.code}"
        wanted[item.code] = (item, before + units)
    assert len({box.code for box in boxes}) == len(boxes), "two boxes of one code"
    groups: dict[tuple[str, ...], list[tuple[Item, Quantity]]] = {}
    for _, (item, units) in sorted(wanted.items()):
        groups.setdefault(tuple(sorted(item.requires & apart)), []).append((item, units))
    found = [
        parcel for _, group in sorted(groups.items()) for parcel in _pack_group(group, boxes, most_steps, most_parcels)
    ]
    return tuple(Parcel(no, box, contents, weight) for no, (box, contents, weight) in enumerate(found, start=1))


def proposed(edition: Edition, node: str, units: Iterable[tuple[str, Quantity]]) -> tuple[Parcel, ...]:
    """How a node should pack so many base units of items, by what the edition says of its boxes and of the items.

    Where it takes more than PROPOSED_PARCELS, the rest stays together without a box. Of an item that is no longer in
    the catalogue neither size nor weight is known.
    """
    network, items = edition.network, edition.catalog.items
    goods = [(items.get(code) or Item(code), quantity) for code, quantity in units]
    return pack(goods, network.boxes_of(node), network.apart, PROPOSED_STEPS, PROPOSED_PARCELS)


_Found = tuple[str, tuple[tuple[str, Quantity], ...], int]


def _pack_group(
    goods: Sequence[tuple[Item, Quantity]], boxes: Sequence[Box], most_steps: int, most_parcels: int
) -> list[_Found]:
    """The parcels of what may all travel together: large and heavy boxes first, then what has no box."""
    sizes = _sizes(boxes, sum(units for _, units in goods))
    kinds = _kinds(goods, sizes)
    if not sizes:
        return [_unboxed(kinds)]
    boxed = {kind: count for kind, count in kinds.items() if kind.fits}
    packed, left = _Packing(sizes, most_steps, most_parcels).packed(boxed) if boxed else ([], {})
    packed.sort(key=lambda each: (-each[0].size, -each[0].weight, _listed(each[1])))
    parcels = [_boxed(sizes[load.size], load, contents) for load, contents in packed]
    for kind, count in kinds.items():
        if not kind.fits:
            own = min(count, most_parcels - len(parcels))
            parcels += [_unboxed({kind: 1})] * own
            if own < count:
                left[kind] = count - own
    return [*parcels, _unboxed(left)] if left else parcels


def _sizes(boxes: Sequence[Box], units: Quantity) -> list[_Size]:
    """Boxes as sizes, the cheapest first: no sum of volumes outweighs one box more."""
    one_more = 1 + max((box.volume_mm3 for box in boxes), default=0) * units
    return [
        _Size(
            box.code,
            tuple(sorted((box.length_mm, box.width_mm, box.height_mm))),
            box.volume_mm3 * box.fill_ppm // MILLION,
            box.most_weight_ug,
            box.volume_mm3,
            one_more + box.volume_mm3,
            box.tare_ug,
        )
        for box in sorted(boxes, key=lambda box: (box.volume_mm3, box.code))
    ]


def _kinds(goods: Sequence[tuple[Item, Quantity]], sizes: Sequence[_Size]) -> _Contents:
    """How many pieces of which kind; a fraction of a unit takes as much room as a whole one."""
    kinds: _Contents = {}
    for item, units in goods:
        sides = sorted((item.length_mm, item.width_mm, item.height_mm))
        volume = sides[0] * sides[1] * sides[2]
        assert sides[0] >= 0 <= item.weight_ug, f"item {item.code} is smaller or lighter than nothing"
        whole = 10**item.scale
        for quantity, count in ((whole, units // whole), (units % whole, 1)):
            if quantity and count:
                weight, fits = item.weight_of(quantity), 0
                for no, size in enumerate(sizes):
                    small, middle, large = size.sides
                    if (
                        sides[0] <= small and sides[1] <= middle and sides[2] <= large
                        and volume <= size.room and weight <= size.most_weight
                    ):  # fmt: skip
                        fits |= 1 << no
                kinds[_Kind(item.code, quantity, volume, weight, fits)] = count
    return kinds


def _listed(contents: _Contents) -> tuple[tuple[str, Quantity], ...]:
    units: dict[str, Quantity] = {}
    for kind, count in contents.items():
        units[kind.item] = units.get(kind.item, 0) + kind.quantity * count
    return tuple(sorted(units.items()))


def _boxed(size: _Size, load: _Load, contents: _Contents) -> _Found:
    return size.code, _listed(contents), load.weight + size.tare


def _unboxed(contents: _Contents) -> _Found:
    return "", _listed(contents), sum(kind.weight * count for kind, count in contents.items())


class _Packing:
    """Packs kinds of which every piece fits some size."""

    def __init__(self, sizes: Sequence[_Size], most_steps: int, most_parcels: int) -> None:
        self.sizes, self.most_steps, self.most_parcels = sizes, most_steps, most_parcels
        self.every = (1 << len(sizes)) - 1
        self.empty = _Load(0, 0, self.every, 0)
        self.room, self.most_weight = max(size.room for size in sizes), max(size.most_weight for size in sizes)

    def packed(self, kinds: _Contents) -> tuple[list[_Packed], _Contents]:
        """The parcels, and what is left over because there would be too many."""
        # What takes neither room nor weight rides along with the rest.
        riders = {
            kind: count
            for kind, count in kinds.items()
            if not kind.volume and not kind.weight and kind.fits == self.every
        }
        real = {kind: count for kind, count in kinds.items() if kind not in riders}
        whole = self.with_added(self.empty, real)
        if whole is not None:
            return [(whole, kinds)], {}
        packed, left = min(
            (self._first_fit(order, real) for order in self._orders(real)),
            key=lambda found: (sum(found[1].values()), self._price(found[0])),
        )
        packed = self._improved(packed)
        load, contents = packed[0]
        packed[0] = (load, contents | riders)
        return packed, left

    def with_added(self, load: _Load, contents: _Contents) -> _Load | None:
        """A load with more in it; None when no size takes it."""
        volume, weight, fits = load.volume, load.weight, load.fits
        for kind, count in contents.items():
            volume, weight, fits = volume + kind.volume * count, weight + kind.weight * count, fits & kind.fits
        return self._load(volume, weight, fits, load.size)

    def with_piece(self, load: _Load, kind: _Kind) -> _Load | None:
        """A load with one piece more; None when no size takes it."""
        return self._load(load.volume + kind.volume, load.weight + kind.weight, load.fits & kind.fits, load.size)

    def _load(self, volume: int, weight: int, fits: int, size: int) -> _Load | None:
        sizes = self.sizes
        while fits >> size:
            if fits >> size & 1 and volume <= sizes[size].room and weight <= sizes[size].most_weight:
                return _Load(volume, weight, fits, size)
            size += 1
        return None

    def _price(self, packed: Iterable[_Packed]) -> int:
        return sum(self.sizes[load.size].price for load, _ in packed)

    # --- first fit

    def _orders(self, kinds: Iterable[_Kind]) -> list[list[_Kind]]:
        """The kinds, largest first: by the larger share of room and weight, by room, by weight."""

        def by_share(kind: _Kind) -> tuple[int, int, str, Quantity]:
            share = max(kind.volume * self.most_weight, kind.weight * self.room)
            return -share, kind.fits.bit_count(), kind.item, -kind.quantity

        ordered = sorted(kinds, key=by_share)
        by_room = sorted(ordered, key=lambda kind: -kind.volume)
        by_weight = sorted(ordered, key=lambda kind: -kind.weight)
        return [order for no, order in enumerate((ordered, by_room, by_weight)) if no == 0 or order != ordered]

    def _first_fit(self, order: Iterable[_Kind], counts: _Contents) -> tuple[list[_Packed], _Contents]:
        packed: list[_Packed] = []
        left: _Contents = {}
        for kind in order:
            count, fits = counts[kind], kind.fits
            most_volume, most_weight = self.room - kind.volume, self.most_weight - kind.weight
            for no, (load, contents) in enumerate(packed):
                # Most parcels are full: that is seen before anything is called.
                if load.volume > most_volume or load.weight > most_weight or not load.fits & fits:
                    continue
                if room := self._room_for(load, kind, count):
                    packed[no] = self.filled(load, contents, {kind: room})
                    count -= room
                    if not count:
                        break
            while count and len(packed) < self.most_parcels:
                room = self._room_for(self.empty, kind, count)
                packed.append(self.filled(self.empty, {}, {kind: room}))
                count -= room
            if count:
                left[kind] = count
        return packed, left

    def _room_for(self, load: _Load, kind: _Kind, count: int) -> int:
        """How many of `count` pieces a load takes in the size that takes most."""
        fits, most = load.fits & kind.fits, 0
        for no, size in enumerate(self.sizes):
            room, weight = size.room - load.volume, size.most_weight - load.weight
            if fits >> no & 1 and room >= kind.volume and weight >= kind.weight:
                by_volume = room // kind.volume if kind.volume else count
                by_weight = weight // kind.weight if kind.weight else count
                most = max(most, min(by_volume, by_weight))
        return min(most, count)

    def filled(self, load: _Load, contents: _Contents, more: _Contents) -> _Packed:
        """A parcel with more in it, which some size takes."""
        fuller = self.with_added(load, more)
        assert fuller is not None
        return fuller, contents | {kind: contents.get(kind, 0) + count for kind, count in more.items()}

    # --- better

    def _fullness(self, each: _Packed) -> tuple[int, _Load, list[tuple[_Kind, int]]]:
        load, contents = each
        return max(load.volume * self.most_weight, load.weight * self.room), load, sorted(contents.items())

    def _improved(self, packed: list[_Packed]) -> list[_Packed]:
        """The same with its emptiest parcels packed anew, and those it helps again; all at once, where they are few."""
        settled: list[_Packed] = []
        for _ in range(MOST_ROUNDS):
            taken: list[_Packed] = []
            others: list[_Packed] = []
            pieces: list[_Kind] = []
            for each in sorted(packed, key=self._fullness):
                some = [kind for kind, count in each[1].items() for _ in range(min(count, SEARCHED_PIECES + 1))]
                if len(pieces) + len(some) > SEARCHED_PIECES:
                    others.append(each)
                else:
                    taken.append(each)
                    pieces += some
            if len(taken) < 2:
                break
            order = [kind for kind in self._orders(dict.fromkeys(pieces))[0] for _ in range(pieces.count(kind))]
            better = _Search(self, order, self._price(taken)).run()
            if better is None:
                settled += taken
                packed = others
            else:
                packed = better + others
                if not others and not settled:
                    break
        return settled + packed


class _Search:
    """Branch and bound over pieces in their order, for parcels at a lower price than is known."""

    def __init__(self, packing: _Packing, pieces: Sequence[_Kind], price: int) -> None:
        self.packing, self.pieces, self.best = packing, pieces, price
        self.steps = packing.most_steps
        self.found: list[int] | None = None
        self.seen: set[tuple[int, tuple[_Load, ...]]] = set()
        self.loads: list[_Load] = []
        self.path: list[int] = []
        self.volumes, self.weights = [0], [0]
        for piece in reversed(pieces):
            self.volumes.append(self.volumes[-1] + piece.volume)
            self.weights.append(self.weights[-1] + piece.weight)
        self.volumes.reverse()
        self.weights.reverse()
        sizes = packing.sizes
        self.one_more = sizes[0].price - sizes[0].volume
        self.per_room = _cheapest_gain([(size.room, size.volume) for size in sizes])
        self.per_weight = _cheapest_gain([(size.most_weight, size.volume) for size in sizes])

    def run(self) -> list[_Packed] | None:
        """The best parcels found; None when nothing better was."""
        self._place(0, 0)
        if self.found is None:
            return None
        contents: list[_Contents] = [{} for _ in range(max(self.found) + 1)]
        for piece, no in zip(self.pieces, self.found, strict=True):
            contents[no][piece] = contents[no].get(piece, 0) + 1
        return [self.packing.filled(self.packing.empty, {}, each) for each in contents]

    def _place(self, no: int, price: int) -> None:
        if no == len(self.pieces):
            self.best, self.found = price, self.path.copy()
            return
        if price + self._bound(no) >= self.best:
            return
        loads, piece, packing = self.loads, self.pieces[no], self.packing
        state = (no, tuple(sorted(loads)))
        if state in self.seen:
            return
        self.seen.add(state)
        prices = packing.sizes
        options: list[tuple[int, int, int, _Load]] = []
        for place, load in enumerate([*loads, packing.empty]):
            if (fuller := packing.with_piece(load, piece)) is not None:
                before = prices[load.size].price if place < len(loads) else 0
                options.append((prices[fuller.size].price - before, -fuller.volume, place, fuller))
        options.sort()
        for more, _, place, fuller in options:
            if self.steps == 0 or price + more >= self.best:
                return
            self.steps -= 1
            self.path.append(place)
            if place == len(loads):
                loads.append(fuller)
                self._place(no + 1, price + more)
                loads.pop()
            else:
                load, loads[place] = loads[place], fuller
                self._place(no + 1, price + more)
                loads[place] = load
            self.path.pop()

    def _bound(self, no: int) -> int:
        """The least price of what the pieces from `no` on need beyond the sizes that the parcels have now."""
        volume, weight = self.volumes[no], self.weights[no]
        largest_volume, largest_weight = volume, weight
        for load in self.loads:
            size = self.packing.sizes[load.size]
            volume -= size.room - load.volume
            weight -= size.most_weight - load.weight
            largest_volume -= self.packing.room - load.volume
            largest_weight -= self.packing.most_weight - load.weight
        more = max(0, -(-largest_volume // self.packing.room), -(-largest_weight // self.packing.most_weight))
        by_room, by_weight = self.per_room, self.per_weight
        larger = max(0, -(-volume * by_room[1] // by_room[0]), -(-weight * by_weight[1] // by_weight[0]))
        return more * self.one_more + larger


def _cheapest_gain(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """What is gained by a box more, or a larger one, and its volume: of all the least volume for the gain."""
    best = sizes[0]
    for gain, volume in sizes:
        for less, before in [(0, 0), *sizes]:
            if volume >= before and gain > less and (volume - before) * best[0] < best[1] * (gain - less):
                best = (gain - less, volume - before)
    return best
