"""What may be promised: usable stock by position, node, pool and echelon, now and by date, for one channel.

A *group* is all positions of one item at one node in one pool (docs/sourcing.md, "Stock"). What protection and buffers
keep back of it is taken from its stock on hand first, of the lots that expire last, then from its receipts, the one
due first first. Everything else here adds groups up, so that positions, nodes, pools and echelons agree (law 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple, Protocol

from poolwise.core.catalog import Bill
from poolwise.core.network import Echelon, Network, Node, NodeStatus, Pool
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


class _Gate(NamedTuple):
    """An open pool at an active node, seen from one channel."""

    node: Node
    protection: Quantity
    buffers: BuffersAt


_GroupKey = tuple[str, str, str]
_Known = tuple[str, str, Echelon, Quantity, BuffersAt]
Coming = tuple[int, date, Quantity]
"""Units that come to a place of `Outlook.open_gates` (counted from 1) on a day."""


class Outlook:
    """What one channel may be promised under one edition and policy. Remembers which pools are open to it where."""

    def __init__(self, network: Network, policy: CompiledPolicy, channel: str) -> None:
        """An outlook answers only for this edition, policy and channel."""
        self._network = network
        self._policy = policy
        self._channel = channel
        self._gates: dict[tuple[str, str], _Gate | None] = {}
        self._open: tuple[tuple[str, str], ...] | None = None
        self._by_place: dict[int, _Known] = {}

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
            _, protection, buffers = gate
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
            echelon = gate[0].echelon
            parts = (item, node, pool, echelon, on_hand, now, ((day, now),), lot, protection, withheld)
            found.append(_new_offer(Offer, parts))
        return found

    @property
    def open_gates(self) -> tuple[tuple[str, str], ...]:
        """Every (node, pool) whose stock the channel may be promised, in order."""
        if self._open is None:
            wheres = [(node, pool) for node in sorted(self._network.nodes) for pool in self.open_pools]
            self._open = tuple(where for where in wheres if self._gate(where) is not None)
        return self._open

    def sums(
        self, item: str, day: date, places: Sequence[int], units: Sequence[Quantity], coming: Sequence[Coming] = ()
    ) -> list[Sum]:
        """What the groups of one item offer, where no lot expires: the same as `offers`, from columns.

        `places` counts in `open_gates`, from 1; `units` are available there. A group is one or several places.
        """
        if len(set(places)) < len(places):
            together: dict[int, Quantity] = {}
            for place, quantity in zip(places, units, strict=True):
                together[place] = together.get(place, 0) + quantity
            places, units = list(together), list(together.values())
        named = item in self._policy.buffers_by_item
        later, known = self._later(day, coming), self._by_place
        found = []
        for place, on_hand in zip(places, units, strict=True):
            node, pool, echelon, protection, buffers = known.get(place) or self._known(place)
            withheld = buffers.of(item) if named else buffers.otherwise
            now = on_hand - protection - withheld.quantity
            if now < 0 or withheld.closed:
                now = 0
            by_date: Profile = ((day, now),)
            if place in later:
                by_date = _stepped(later[place], day, on_hand, protection, withheld)
            found.append(_new_sum(Sum, (item, node, pool, echelon, now, by_date)))
        return found

    def _later(self, day: date, coming: Sequence[Coming]) -> dict[int, dict[date, Quantity]]:
        """What comes to each place, by the day from which it counts."""
        later: dict[int, dict[date, Quantity]] = {}
        for place, due_on, quantity in () if self._policy.policy.on_hand_only else coming:
            _count(later.setdefault(place, {}), day, due_on, None, quantity)
        return later

    def _known(self, place: int) -> _Known:
        known = self._by_place.get(place)
        if known is None:
            node, pool = self.open_gates[place - 1]
            gate = self._gates[node, pool]
            assert gate is not None, "an open gate is open"
            known = self._by_place[place] = (node, pool, gate.node.echelon, gate.protection, gate.buffers)
        return known

    def _gate(self, where: tuple[str, str]) -> _Gate | None:
        gate = self._gates[where] = _gate(self._network, self._policy, self._channel, *where)
        return gate


class Sum(NamedTuple):
    """What one group offers, without its positions: what `Offer` says, for answers that add up."""

    item: str
    node: str
    pool: str
    echelon: Echelon
    now: Quantity
    by_date: Profile


_new_sum: Callable[[type[Sum], tuple[object, ...]], Sum] = tuple.__new__
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
    return _Gate(node, pool.protection, policy.buffers_at(node, pool_code, channel))


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
    return Offer(item, node, pool, gate.node.echelon, on_hand, now, by_date, positions, gate.protection, withheld)


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
    return _stepped(changes, day, 0, gate.protection, withheld)


def _stepped(
    changes: Mapping[date, Quantity], day: date, there: Quantity, protection: Quantity, withheld: Withheld
) -> Profile:
    """Usable units from `day` on, where `there` units count all the time and others come and go."""
    steps: list[tuple[date, Quantity]] = []
    for when in sorted({day, *changes}):
        there += changes.get(when, 0)
        quantity = usable(there, protection, withheld)
        if not steps or quantity != steps[-1][1]:
            steps.append((when, quantity))
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
    """All these groups together."""
    if len(offered) == 1:
        return Available(offered[0].now, offered[0].by_date)
    now = sum([offer.now for offer in offered])
    if offered and max([len(offer.by_date) for offer in offered]) == 1:
        # Nothing changes after today. Receipts that are due already may make today more than what is on hand.
        begin = offered[0].by_date[0][0]
        return Available(now, ((begin, sum([offer.by_date[0][1] for offer in offered])),))
    changes: dict[date, Quantity] = {}
    for offer in offered:
        before = 0
        for since, quantity in offer.by_date:
            changes[since] = changes.get(since, 0) + quantity - before
            before = quantity
    steps: list[tuple[date, Quantity]] = []
    total = 0
    for since in sorted(changes):
        total += changes[since]
        if not steps or total != steps[-1][1]:
            steps.append((since, total))
    return Available(now, tuple(steps))


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
    now: Quantity
    ready_on: date | None


class Basket(NamedTuple):
    """When a basket can be promised: line by line, over all nodes, and from one node alone.

    `ready_on` is None where the facts never suffice; `from_one_node` names only nodes that can do it alone.
    """

    lines: tuple[BasketLine, ...]
    ready_on: date | None
    from_one_node: Mapping[str, date]


def basket(offered: Iterable[Offered], wanted: Mapping[str, Quantity]) -> Basket:
    """When all of `wanted` (item to base units, each more than zero) can be promised out of these offers."""
    of_item: dict[str, list[Offered]] = {item: [] for item in wanted}
    for offer in offered:
        if offer.item in of_item:
            of_item[offer.item].append(offer)
    needs = [(item, added_up(of_item[item]), quantity) for item, quantity in wanted.items()]
    lines = [BasketLine(item, quantity, there.now, _ready([(there, quantity)])) for item, there, quantity in needs]
    return Basket(tuple(lines), _ready([(there, quantity) for _, there, quantity in needs]), _alone(of_item, wanted))


def _alone(of_item: Mapping[str, Sequence[Offered]], wanted: Mapping[str, Quantity]) -> dict[str, date]:
    """The nodes that have all of it by themselves, and from when on.

    Most nodes have it now, or never will: that is seen without adding dates up.
    """
    have: list[tuple[Quantity, dict[str, Quantity], dict[str, None]]] = []
    for item, quantity in wanted.items():
        now_at: dict[str, Quantity] = {}
        changing: dict[str, None] = {}
        for offer in of_item[item]:
            node, now, by_date = offer.node, offer.now, offer.by_date
            now_at[node] = now_at.get(node, 0) + now
            if len(by_date) > 1 or by_date[0][1] != now:
                changing[node] = None
        have.append((quantity, now_at, changing))
    if not all(now_at for _, now_at, _ in have):
        return {}
    alone: dict[str, date] = {}
    today = min(offers[0].by_date[0][0] for offers in of_item.values())
    for node in sorted(have[0][1]):
        if not all(node in now_at for _, now_at, _ in have):
            continue
        lacking = [changing for quantity, now_at, changing in have if now_at[node] < quantity]
        if not lacking:
            alone[node] = today
        elif all(node in changing for changing in lacking):
            here = {item: [offer for offer in of_item[item] if offer.node == node] for item in wanted}
            day = _ready([(added_up(here[item]), quantity) for item, quantity in wanted.items()])
            if day is not None:
                alone[node] = day
    return alone


def _ready(needs: Sequence[tuple[Available, Quantity]]) -> date | None:
    """First day on which every need is covered at once; stock may run out again when lots expire."""
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
