"""What may be promised: usable stock by position, node, pool and echelon, now and by date, for one channel.

A *group* is all positions of one item at one node in one pool (docs/sourcing.md, "Stock"). What protection and buffers
keep back of it is taken from its stock on hand first, of the lots that expire last, then from its receipts, the one
due first first. Everything else here adds groups up, so that positions, nodes, pools and echelons agree (law 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec

from poolwise.core.catalog import Bill
from poolwise.core.network import Echelon, Network, NodeStatus, Pool
from poolwise.core.policy.evaluate import NOTHING_WITHHELD, BuffersAt, CompiledPolicy, Withheld
from poolwise.core.values import Quantity

Profile = tuple[tuple[date, Quantity], ...]
"""Quantities by date: each holds from its day until the next one. The first day is the day that was asked on."""


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
    node: str
    pool: str
    echelon: Echelon
    on_hand: Quantity
    now: Quantity
    by_date: Profile
    positions: tuple[PositionOffer, ...]
    protection: Quantity
    withheld: Withheld


class _Gate(msgspec.Struct, frozen=True):
    """An open pool at an active node, seen from one channel; `kept` is kept back of items that no buffer names."""

    echelon: Echelon
    protection: Quantity
    buffers: BuffersAt
    kept: Quantity


_GroupKey = tuple[str, str, str]
Shelf = tuple[str, int, str, str, Quantity, date | None]
"""What is available at a position: its item, number, node and pool, the units, and the day its lot expires on."""

Coming = tuple[int, date, Quantity]
"""Units that come to a position, by its number, on a day."""

ALL_OF_IT: Final = 2**63
"""Kept back where a buffer closes a pool: more than any group has."""


class Outlook:
    """What one channel may be promised under one edition and policy. Remembers which pools are open to it where."""

    def __init__(self, network: Network, policy: CompiledPolicy, channel: str) -> None:
        """An outlook answers only for this edition, policy and channel."""
        self._network = network
        self._policy = policy
        self._channel = channel
        self._gates: dict[tuple[str, str], _Gate | None] = {}

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
        Receipts count from their due date, an overdue one from today, unless the policy is `on_hand_only`. Facts that
        come sorted are answered fastest.
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
        gates, named = self._gates, self._policy.buffers_by_item
        found = []
        for key in sorted(on_shelf):
            item, node, pool = key
            where = (node, pool)
            gate = gates[where] if where in gates else self._gate(where)
            if gate is None:
                continue
            protection, buffers = gate.protection, gate.buffers
            withheld = buffers.of(item) if item in named else buffers.otherwise
            facts = on_shelf[key]
            if len(facts) > 1 or key in coming or facts[0].place.expires_on is not None:
                found.append(_offer(key, gate, withheld, day, facts, coming.get(key, ())))
                continue
            # The usual group: one position, no expiry, no receipt. Made without a call, because there are so many.
            place, on_hand = facts[0].place, facts[0].available
            now = on_hand - protection - withheld.quantity
            if now < 0 or withheld.closed:
                now = 0
            lot = (_new_position(PositionOffer, (place.position, place.lot, now)),)
            parts = (item, node, pool, gate.echelon, on_hand, now, ((day, now),), lot, protection, withheld)
            found.append(_new_offer(Offer, parts))
        return found

    def sums(self, day: date, shelves: Sequence[Shelf], coming: Sequence[Coming] = ()) -> dict[str, list[Sum]]:
        """What the groups offer by item, without their positions: the same as `offers`, from rows; in no order.

        `coming` names positions that are among the shelves.
        """
        gates, named = self._gates, self._policy.buffers_by_item
        on_hand, changes = self._added_up(day, shelves, coming)
        found: dict[str, list[Sum]] = {}
        for key, units in on_hand.items():
            item, node, pool = key
            where = (node, pool)
            gate = gates[where] if where in gates else self._gate(where)
            if gate is None:
                continue
            kept = _kept(gate.protection, gate.buffers.of(item)) if item in named else gate.kept
            now = units - kept if units > kept else 0
            by_date = _stepped(changes[key], day, units, kept) if key in changes else ((day, now),)
            if item not in found:
                found[item] = []
            found[item].append(Sum(item, node, pool, gate.echelon, now, by_date))
        return found

    def _added_up(
        self, day: date, shelves: Sequence[Shelf], coming: Sequence[Coming]
    ) -> tuple[dict[_GroupKey, Quantity], dict[_GroupKey, dict[date, Quantity]]]:
        """Units of each group on `day`, and how lots that expire and receipts change them."""
        on_hand: dict[_GroupKey, Quantity] = {}
        changes: dict[_GroupKey, dict[date, Quantity]] = {}
        for item, _, node, pool, units, expires_on in shelves:
            key = (item, node, pool)
            counted = units if expires_on is None or not has_expired(expires_on, day) else 0
            on_hand[key] = on_hand.get(key, 0) + counted
            if expires_on is not None and counted:
                going = changes.setdefault(key, {})
                going[expires_on] = going.get(expires_on, 0) - counted
        if coming and not self._policy.policy.on_hand_only:
            at = {shelf[1]: shelf for shelf in shelves}
            for position, due_on, units in coming:
                item, _, node, pool, _, expires_on = at[position]
                _count(changes.setdefault((item, node, pool), {}), day, due_on, expires_on, units)
        return on_hand, changes

    def _gate(self, where: tuple[str, str]) -> _Gate | None:
        gate = self._gates[where] = _gate(self._network, self._policy, self._channel, *where)
        return gate


class Sum(msgspec.Struct, frozen=True, gc=False):
    """What one group offers, without its positions: what `Offer` says, for answers that add up."""

    item: str
    node: str
    pool: str
    echelon: Echelon
    now: Quantity
    by_date: Profile


_new_offer: Callable[[type[Offer], tuple[object, ...]], Offer] = tuple.__new__
_new_position: Callable[[type[PositionOffer], tuple[int, str, Quantity]], PositionOffer] = tuple.__new__


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


def _gate(network: Network, policy: CompiledPolicy, channel: str, node_code: str, pool_code: str) -> _Gate | None:
    node, pool = network.nodes.get(node_code), network.pools.get(pool_code)
    if node is None or pool is None or node.status is not NodeStatus.ACTIVE or node.customers or pool.customers:
        return None
    if not _is_open(pool, policy, channel):
        return None
    buffers = policy.buffers_at(node, pool_code, channel)
    return _Gate(node.echelon, pool.protection, buffers, _kept(pool.protection, buffers.otherwise))


def _kept(protection: Quantity, withheld: Withheld) -> Quantity:
    return ALL_OF_IT if withheld.closed else protection + withheld.quantity


def _is_open(pool: Pool, policy: CompiledPolicy, channel: str) -> bool:
    if pool.channels and channel not in pool.channels:
        return False
    said = policy.policy
    return not said.only_listed_pools or pool.code in said.pool_order.get(channel, ())


def _offer(
    key: _GroupKey,
    gate: _Gate,
    withheld: Withheld,
    day: date,
    stock: Sequence[StockFact],
    receipts: Sequence[ReceiptFact],
) -> Offer:
    """One group of several lots, with lots that expire, or with receipts."""
    item, node, pool = key
    lots = sorted(stock, key=_taken_first) if len(stock) > 1 else stock
    counted = [0 if has_expired(fact.place.expires_on, day) else fact.available for fact in lots]
    on_hand = sum(counted)
    now = usable(on_hand, gate.protection, withheld)
    shares = zip(lots, shared_out(counted, now), strict=True)
    positions = tuple([PositionOffer(fact.place.position, fact.place.lot, share) for fact, share in shares])
    by_date = _by_date(gate, withheld, day, stock, receipts)
    return Offer(item, node, pool, gate.echelon, on_hand, now, by_date, positions, gate.protection, withheld)


def _taken_first(fact: StockFact) -> tuple[date, str]:
    return fact.place.expires_on or date.max, fact.place.lot


def _by_date(
    gate: _Gate, withheld: Withheld, day: date, stock: Sequence[StockFact], receipts: Sequence[ReceiptFact]
) -> Profile:
    """The group's usable units on each day on which they change: receipts come in, lots expire."""
    changes: dict[date, Quantity] = {}
    for fact in stock:
        _count(changes, day, day, fact.place.expires_on, fact.available)
    for receipt in receipts:
        _count(changes, day, receipt.due_on, receipt.place.expires_on, receipt.open)
    return _stepped(changes, day, 0, _kept(gate.protection, withheld))


def _stepped(changes: Mapping[date, Quantity], day: date, there: Quantity, kept: Quantity) -> Profile:
    """Usable units from `day` on, where `there` units count all the time and others come and go."""
    there += changes.get(day, 0)
    before = max(0, there - kept)
    steps = [(day, before)]
    for when in sorted(changes):
        if when == day:
            continue
        there += changes[when]
        quantity = max(0, there - kept)
        if quantity != before:
            steps.append((when, quantity))
            before = quantity
    return tuple(steps)


def _count(changes: dict[date, Quantity], day: date, since: date, expires_on: date | None, quantity: Quantity) -> None:
    """Note units that count from a day, or from `day` if that is later, until they expire."""
    begin = max(day, since)
    if has_expired(expires_on, begin):
        return
    changes[begin] = changes.get(begin, 0) + quantity
    if expires_on is not None:
        changes[expires_on] = changes.get(expires_on, 0) - quantity


# --- adding up ----------------------------------------------------------------------------------------------------


class Offered(Protocol):
    """What is added up: `Offer` and `Sum` are such."""

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
    def echelon(self) -> Echelon:
        """Level of the node."""
        ...

    @property
    def now(self) -> Quantity:
        """Usable units on hand."""
        ...

    @property
    def by_date(self) -> Profile:
        """Usable units by date."""
        ...


class Available(NamedTuple):
    """Usable units under one heading: now, and by date."""

    now: Quantity
    by_date: Profile

    def on(self, day: date) -> Quantity:
        """Units that may be promised for a day."""
        quantity = 0
        for since, held in self.by_date:
            if since > day:
                break
            quantity = held
        return quantity


NONE_AVAILABLE = Available(0, ())


def added_up(offered: Sequence[Offered]) -> Available:
    """All these groups together; all were asked on the same day."""
    if not offered:
        return NONE_AVAILABLE
    now = first = 0
    changing: list[Profile] = []
    for offer in offered:
        now += offer.now
        by_date = offer.by_date
        first += by_date[0][1]
        if len(by_date) > 1:
            changing.append(by_date)
    changes: dict[date, Quantity] = {}
    for by_date in changing:
        before = by_date[0][1]
        for since, quantity in by_date[1:]:
            changes[since] = changes.get(since, 0) + quantity - before
            before = quantity
    # Receipts that are due already make the first step more than what is on hand.
    return Available(now, _stepped(changes, offered[0].by_date[0][0], first, 0))


_Group = TypeVar("_Group", bound=Offered)


def sorted_out(offered: Iterable[_Group]) -> dict[str, list[_Group]]:
    """What is offered of each item."""
    groups: dict[str, list[_Group]] = {}
    for offer in offered:
        groups.setdefault(offer.item, []).append(offer)
    return groups


def by_item(offered: Iterable[Offered]) -> dict[str, Available]:
    """Available units of each item, over everything."""
    return _by(offered, lambda offer: offer.item)


def by_node(offered: Iterable[Offered]) -> dict[str, Available]:
    """Available units at each node; the offers are of one item."""
    return _by(offered, lambda offer: offer.node)


def by_pool(offered: Iterable[Offered]) -> dict[str, Available]:
    """Available units in each pool; the offers are of one item."""
    return _by(offered, lambda offer: offer.pool)


def by_echelon(offered: Iterable[Offered]) -> dict[str, Available]:
    """Available units on each level of the network; the offers are of one item."""
    return _by(offered, lambda offer: offer.echelon.value)


def _by(offered: Iterable[Offered], heading: Callable[[Offered], str]) -> dict[str, Available]:
    groups: dict[str, list[Offered]] = {}
    for offer in offered:
        groups.setdefault(heading(offer), []).append(offer)
    return {name: added_up(groups[name]) for name in sorted(groups)}


# --- baskets and kits ---------------------------------------------------------------------------------------------


class BasketLine(NamedTuple):
    """One item of a basket: how much is wanted and there, and the first day on which all of it can be promised."""

    item: str
    wanted: Quantity
    there: Available
    ready_on: date | None


class Basket(NamedTuple):
    """When a basket can be promised: line by line, over all nodes, and from one node alone.

    `ready_on` is None where the facts never suffice; `from_one_node` names only nodes that can do it alone.
    """

    lines: tuple[BasketLine, ...]
    ready_on: date | None
    from_one_node: Mapping[str, date]


def basket(of_item: Mapping[str, Sequence[Offered]], wanted: Mapping[str, Quantity]) -> Basket:
    """When all of `wanted` (item to base units, each more than zero) can be promised out of what is offered of each."""
    needs = [(added_up(of_item.get(item, ())), quantity) for item, quantity in wanted.items()]
    lines = [
        BasketLine(item, quantity, there, _ready([(there, quantity)]))
        for item, (there, quantity) in zip(wanted, needs, strict=True)
    ]
    return Basket(tuple(lines), _ready(needs), _alone(of_item, wanted))


def _alone(of_item: Mapping[str, Sequence[Offered]], wanted: Mapping[str, Quantity]) -> dict[str, date]:
    """The nodes that have all of it by themselves, and from when on.

    Most nodes have it at once, or never will: that is seen without adding dates up.
    """
    have = [_nodes_with(of_item.get(item, ()), quantity) for item, quantity in wanted.items()]
    at_once = set.intersection(*[nodes for nodes, _ in have])
    needs: dict[str, list[tuple[Available, Quantity]]] = {
        node: [] for node in set.intersection(*[nodes | changing for nodes, changing in have]) - at_once
    }
    for item, quantity in wanted.items() if needs else ():
        here: dict[str, list[Offered]] = {node: [] for node in needs}
        for offer in of_item[item]:
            if offer.node in here:
                here[offer.node].append(offer)
        for node, offers_here in here.items():
            needs[node].append((added_up(offers_here), quantity))
    days = {node: _ready(needs[node]) for node in needs}
    days |= {node: of_item[next(iter(wanted))][0].by_date[0][0] for node in at_once}
    return {node: day for node in sorted(days) if (day := days[node]) is not None}


def _nodes_with(offered: Iterable[Offered], quantity: Quantity) -> tuple[set[str], set[str]]:
    """The nodes that have so much on the first day, and those where it changes later."""
    first: dict[str, Quantity] = {}
    changing = set()
    for offer in offered:
        node, by_date = offer.node, offer.by_date
        first[node] = first.get(node, 0) + by_date[0][1]
        if len(by_date) > 1:
            changing.add(node)
    return {node for node, there in first.items() if there >= quantity}, changing


def _ready(needs: Sequence[tuple[Available, Quantity]]) -> date | None:
    """First day on which every need is covered at once; stock may run out again when lots expire."""
    if all(there.by_date and there.by_date[0][1] >= quantity for there, quantity in needs):
        return needs[0][0].by_date[0][0]
    days = sorted({since for there, _ in needs for since, _ in there.by_date})
    return next((day for day in days if all(there.on(day) >= quantity for there, quantity in needs)), None)


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
