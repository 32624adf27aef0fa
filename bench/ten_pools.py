"""The network of the speed benchmarks: per cell ten nodes with a pool each, fifty zones, items, stock, orders.

Everything follows from a seed. Master data goes the way of every edition; opening stock is recorded in large batches,
each unit as a movement from outside, because counting it position by position would take longer than the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, pairwise, product
from random import Random
from typing import Final

from poolwise.core.catalog import Item
from poolwise.core.edition.rows import BandRow, CapacityRow, ItemRow, NodeRow, PoolRow, Row, Section, Settings
from poolwise.core.ledger import Account, Cause, Movement, Position, PositionKey
from poolwise.core.messages import OrderLine, OrderMessage
from poolwise.core.network import CapacityUnit, CostCard, Lane, Node, Pool, RateBand, Slot, Transit, Zone
from poolwise.core.policy.terms import SourcingPolicy
from poolwise.core.sourcing.plan import Booking, PlannedShipment
from poolwise.core.values import MILLION, Rate
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Accepted, Counter, accept
from poolwise.flows.masterdata import Published, Told, adopt_policy, publish
from poolwise.flows.ports import Books, CapacityChange, Editions, Effects, ShipmentRecord

NODES: Final = 10
ZONES: Final = 48
ITEMS: Final = 5_000
LINES: Final = 3
HOT_ITEMS: Final = 100
HOT_SHARE: Final = 0.8
POSITIONS_AT_ONCE: Final = 5_000
ORDERS_AT_ONCE: Final = 1_000
MICROGRAMS: Final = 1_000_000_000
"""Micrograms of a kilogram."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of the world a scenario chooses.

    `hot` draws most lines from a hundred items; `scarce` stocks two thirds of what is ordered; `orders` sizes both, and
    the daily capacity: on a day a node can send the mean of what it has to send, so that cheap nodes fill a day or two.
    Before the first order comes, the first `full_days` are full already.
    """

    cells: int = 1
    hot: bool = False
    scarce: bool = False
    orders: int = 20_000
    full_days: int = 4
    items: int = ITEMS

    @property
    def daily_capacity(self) -> int:
        """Shipments that leave a node on a day."""
        return max(20, self.orders // (NODES * self.cells))


def node_code(cell: int, number: int) -> str:
    """The code of a node; its pool has the same number."""
    return f"C{cell}N{number}"


def zone_codes(cells: int, cell: int) -> list[str]:
    """The zones a cell serves."""
    return [f"Z{number:02}" for number in range(ZONES) if number % cells == cell]


def item_codes(cells: int, cell: int, items: int = ITEMS) -> list[str]:
    """The items that are stocked and ordered in a cell: all positions together are as many with any number of cells."""
    return [f"I{number:04}" for number in range(items) if number % cells == cell]


def told(shape: Shape, seed: int) -> list[Told]:
    """All master rows, as statements."""
    random = Random(seed)
    rows: list[tuple[Section, Row]] = [(Section.NETWORK, Settings("EUR", "ten pools"))]
    rows += [(Section.ITEMS, ItemRow(_item(random, f"I{number:04}"))) for number in range(shape.items)]
    for cell in range(shape.cells):
        rows += [(Section.ZONES, Zone(code, cell=cell)) for code in zone_codes(shape.cells, cell)]
        for number in range(NODES):
            code = node_code(cell, number)
            card = CostCard(_cents(random, 80, 220), _cents(random, 10, 30), _cents(random, 2, 8), _cents(random, 1, 3))
            rows.append((Section.NODES, NodeRow(Node(code, cell=cell, costs=card))))
            slot = Slot(CapacityUnit.ORDERS, shape.daily_capacity)
            rows.append((Section.CAPACITIES, CapacityRow(code, 0, slot)))
            for zone in zone_codes(shape.cells, cell):
                rows.append((Section.LANES, _lane(random, code, zone)))
    rows += [(Section.POOLS, PoolRow(Pool(f"P{number}"))) for number in range(NODES)]
    for ring in range(1, 9):
        fixed, per_kg = Rate(300 + 60 * ring, 2), Rate(3 + 2 * ring, 1)
        for above, up_to in pairwise((0, 1, 5, 30, 1000)):
            band = RateBand(above * MICROGRAMS, up_to * MICROGRAMS, fixed, per_kg=per_kg)
            rows.append((Section.RATES, BandRow(f"ring-{ring}", band)))
    return [Told(row, section) for section, row in rows]


def _item(random: Random, code: str) -> Item:
    return Item(code, weight_ug=random.randint(50, 5_000) * (MICROGRAMS // 1_000))


def _lane(random: Random, node: str, zone: str) -> Lane:
    ring = random.randint(1, 8)
    days = ring // 3 + 1
    return Lane(
        f"{node}-{zone}",
        node,
        zone,
        f"ring-{ring}",
        distance_km=350 * ring,
        co2e_g_per_kg=Rate(20 * ring),
        transit=Transit(((days, MILLION * 8 // 10), (days + 1, MILLION * 2 // 10))),
    )


def _cents(random: Random, low: int, high: int) -> Rate:
    return Rate(random.randint(low, high), 2)


def set_up(
    editions: Editions, books: Books, ids: Ids, policy: SourcingPolicy, shape: Shape, seed: int, now: datetime
) -> tuple[Published, SourcingPolicy]:
    """Publish the network under the policy and put the opening stock on its shelves."""
    published = publish(editions, told(shape, seed), now, "bench")
    assert not published.faults, published.faults[:3]
    adopted, _ = adopt_policy(editions, policy, now, "bench")
    opening = _opening(shape, Random(seed + 1))
    while batch := list(islice(opening, POSITIONS_AT_ONCE)):
        cause = ids.new(now)
        with books.transaction() as transaction:
            transaction.record(
                Effects(
                    at=now,
                    positions=[position for position, _ in batch],
                    movements=[
                        Movement(p.id, Account.OUTSIDE, Account.AVAILABLE, units, Cause.STOCK, cause)
                        for p, units in batch
                        if units
                    ],
                )
            )
    with books.transaction() as transaction:
        transaction.record(_busy_days(shape, ids, now))
    return published, adopted


def _busy_days(shape: Shape, ids: Ids, now: datetime) -> Effects:
    """Shipments of earlier orders, one a node and day, that fill it."""
    shipments: list[ShipmentRecord] = []
    changes: list[CapacityChange] = []
    for cell in range(shape.cells):
        for number, ahead in product(range(NODES), range(shape.full_days)):
            node, day = node_code(cell, number), now.date() + timedelta(days=ahead)
            booked = Booking(node, day, 0, shape.daily_capacity)
            planned = PlannedShipment(1, node, (), day, day, 0, 0, (booked,))
            shipments.append(ShipmentRecord(cell, ids.new(now), planned))
            changes.append(CapacityChange(cell, node, day, 0, booked.quantity, booked.quantity))
    return Effects(at=now, shipments=shipments, capacity=changes)


def _opening(shape: Shape, random: Random) -> Iterator[tuple[Position, int]]:
    """Positions and their stock: what is ordered of an item on average, three times over or two thirds of it."""
    for cell in range(shape.cells):
        items = item_codes(shape.cells, cell, shape.items)
        for place, item in enumerate(items):
            lines = shape.orders * LINES / shape.cells
            share = 1 / len(items)
            if shape.hot:
                share = HOT_SHARE / HOT_ITEMS if place < HOT_ITEMS else (1 - HOT_SHARE) / (len(items) - HOT_ITEMS)
            wanted = lines * share * 2 / NODES
            for number in range(NODES):
                key = PositionKey(item, node_code(cell, number), f"P{number}")
                mean = wanted * (2 / 3 if shape.scarce else 3) + (0 if shape.scarce else 20)
                yield Position(key.id(), cell, key), round(mean * (0.5 + random.random()))


def messages(shape: Shape, seed: int) -> Iterator[OrderMessage]:
    """The orders, of three lines each, in turn from every cell."""
    random = Random(seed + 2)
    zones = [zone_codes(shape.cells, cell) for cell in range(shape.cells)]
    items = [item_codes(shape.cells, cell, shape.items) for cell in range(shape.cells)]
    for number in range(shape.orders):
        cell = number % shape.cells
        yield order_message(random, f"B{seed}-{number}", random.choice(zones[cell]), items[cell], shape.hot)


def order_message(random: Random, number: str, zone: str, items: Sequence[str], hot: bool = False) -> OrderMessage:
    """One order of three lines."""
    chosen: dict[str, None] = {}
    while len(chosen) < LINES:
        of_hot = hot and random.random() < HOT_SHARE
        chosen[random.choice(items[:HOT_ITEMS] if of_hot else items)] = None
    return OrderMessage(
        channel="web",
        zone=zone,
        number=number,
        lines=tuple(
            OrderLine(item=item, quantity=str(random.randint(1, 3)), unit_price=f"{random.randint(5, 90)}.90")
            for item in chosen
        ),
    )


def accept_all(books: Books, counter: Counter, shape: Shape, seed: int, now: datetime) -> int:
    """Let every order wait to be sourced; how many were accepted."""
    accepted = 0
    waiting = messages(shape, seed)
    while batch := list(islice(waiting, ORDERS_AT_ONCE)):
        outcomes = accept(books, counter, batch, now)
        accepted += sum(isinstance(outcome, Accepted) for outcome in outcomes)
    return accepted
