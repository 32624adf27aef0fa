"""A plan without any effect: what would be decided for an order now, or under facts that somebody supposes.

The very engine that sources orders works on it, under the edition and policy named (laws 8, 10). Nothing is reserved
and nothing is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from poolwise.core.ledger import PositionKey
from poolwise.core.messages import OrderMessage
from poolwise.core.orders import Order
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.problem import (
    CapacityFact,
    Facts,
    Problem,
    ReceiptFact,
    StockFact,
    classes_of,
    shelves_of,
    whole_demand,
)
from poolwise.core.sourcing.rivals import limits
from poolwise.core.values import LARGEST_QUANTITY, Quantity, Refused, parse_scaled
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Counter, Reader
from poolwise.flows.ports import Books, place_of
from poolwise.flows.source import Shelf, items_wanted, terms_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SupposedStock:
    """Units of a position that are supposed to be available; decimal text in the item's own unit."""

    item: str
    node: str
    pool: str
    available: str
    lot: str = ""
    expires_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SupposedReceipt:
    """Units that are supposed to be expected at a position."""

    item: str
    node: str
    pool: str
    open: str
    due_on: date
    lot: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupposedCapacity:
    """What is supposed to be taken of a node's slot, in the slot's unit (weight in grams)."""

    node: str
    day: date
    slot: int
    taken: int


@dataclass(frozen=True, slots=True)
class Supposed:
    """Facts to plan with instead of those in the books. A slot that is not named has nothing taken; no node has missed
    or found anything before."""

    stock: Sequence[SupposedStock] = ()
    receipts: Sequence[SupposedReceipt] = ()
    capacity: Sequence[SupposedCapacity] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan, the order it is for as it was read, the facts it was made on, and what limits the lines that wait."""

    order: Order
    plan: Plan
    facts: Facts
    limits: Mapping[int, str]


def propose(
    books: Books,
    atlas: Atlas,
    cells: tuple[int, ...],
    ids: Ids,
    sender: str,
    message: OrderMessage,
    now: datetime,
    supposed: Supposed | None = None,
) -> Proposal:
    """Plan an order without any effect. Refuses what intake would refuse, and facts that name what there is not."""
    reader = Reader(Counter(atlas.edition, atlas.policy.policy, ids, sender))
    reader.instant("at", now)
    if reader.faults:
        raise Refused("order_invalid", reader.faults)
    order = _order(atlas, reader, message, ids.new(now), now)
    supposition = None if supposed is None else _Reading(reader, atlas).facts(supposed, now)
    if order is None or reader.faults:
        raise Refused("order_invalid", reader.faults)
    facts = supposition or _facts(books, atlas, cells, order, now)
    problem = Problem(whole_demand(order), atlas.edition, terms_of(atlas, order), facts)
    plan = solve(problem, atlas)
    return Proposal(order, plan, facts, limits(problem, atlas, plan))


def _order(atlas: Atlas, reader: Reader, message: OrderMessage, id_: UUID, now: datetime) -> Order | None:
    zone = reader.place(message)
    lines = reader.lines(message.lines, message.currency)
    reader.check_order(message)
    if reader.faults or zone is None:
        return None
    return Order(
        id=id_,
        number=message.number,
        cell=atlas.edition.network.zones[zone].cell,
        received_at=message.received_at or now,
        channel=message.channel,
        zone=zone,
        lines=lines,
        service_level=message.service_level,
        customer=message.customer,
        priority=message.priority,
        requested_date=message.requested_date,
        ship_complete=message.ship_complete,
        max_shipments=message.max_shipments,
        facts=tuple(sorted((message.facts or {}).items())),
    )


def _facts(books: Books, atlas: Atlas, cells: tuple[int, ...], order: Order, now: datetime) -> Facts:
    items = items_wanted(atlas, order)
    classes = classes_of(atlas.edition.catalog, order, atlas.policy.policy)
    with books.transaction() as transaction:
        shelf = Shelf(transaction.stock(cells, items, now.date() - timedelta(days=1), classes), atlas)
    return shelf.facts(items, now, classes=classes)


@dataclass(slots=True)
class _Reading:
    """Reads supposed facts against an edition; what is wrong goes to the reader's faults."""

    reader: Reader
    atlas: Atlas

    def facts(self, supposed: Supposed, now: datetime) -> Facts:
        """The facts that can be read, in key order."""
        stock, receipts, capacity = [], [], []
        for place, told in enumerate(supposed.stock):
            path = f"facts.stock[{place}]"
            key = self._key(path, told)
            units = None if key is None else self._units(f"{path}.available", key.item, told.available)
            if key is not None and units is not None:
                stock.append(StockFact(place_of(key, told.expires_on), units))
        for place, coming in enumerate(supposed.receipts):
            path = f"facts.receipts[{place}]"
            key = self._key(path, coming)
            units = None if key is None else self._units(f"{path}.open", key.item, coming.open)
            if key is not None and units is not None:
                receipts.append(ReceiptFact(UUID(int=place + 1), place_of(key), coming.due_on, units))
        for place, slot in enumerate(supposed.capacity):
            node = self.atlas.edition.network.nodes.get(slot.node)
            if node is None or not 0 <= slot.slot < len(node.slots):
                self.reader.fault(f"facts.capacity[{place}]", f"there is no slot {slot.slot} of a node '{slot.node}'")
            else:
                capacity.append(CapacityFact(slot.node, slot.day, slot.slot, slot.taken))
        self._once("facts.stock", [fact.place.position for fact in stock])
        self._once("facts.capacity", [(fact.node, fact.day, fact.slot) for fact in capacity])
        return Facts(
            now,
            shelves_of(sorted(stock, key=lambda fact: (fact.place.item, fact.place.position))),
            tuple(sorted(receipts, key=lambda fact: (fact.place.item, fact.due_on, fact.receipt))),
            tuple(sorted(capacity)),
        )

    def _key(self, path: str, told: SupposedStock | SupposedReceipt) -> PositionKey | None:
        item = self.reader.item(f"{path}.item", told.item)
        network = self.atlas.edition.network
        for name, code, known in (("node", told.node, network.nodes), ("pool", told.pool, network.pools)):
            if code not in known:
                self.reader.fault(f"{path}.{name}", f"there is no {name} '{code}'")
        if item is None or told.node not in network.nodes or told.pool not in network.pools:
            return None
        return PositionKey(item, told.node, told.pool, told.lot)

    def _units(self, path: str, item: str, text: str) -> Quantity | None:
        try:
            units = parse_scaled(text, self.atlas.edition.catalog.items[item].scale)
        except ValueError as error:
            self.reader.fault(path, str(error))
            return None
        if not 0 <= units <= LARGEST_QUANTITY:
            self.reader.fault(path, f"{text} is not between 0 and {LARGEST_QUANTITY} base units")
            return None
        return units

    def _once(self, path: str, keys: Sequence[object]) -> None:
        if len(set(keys)) < len(keys):
            self.reader.fault(path, "names the same thing twice")
