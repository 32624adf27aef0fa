"""Sourcing: waiting demand is claimed in a batch, decided, reserved and recorded, in one transaction.

Keeps laws 2, 4, 8, 10, 13. The path of a batch (DESIGN section 3): claim demand; read stock and capacity without
locks; decide order by order, each on what its predecessors left; lock only the positions that were chosen, and all
positions of what would be left short; check again. An order that no longer fits goes back to the queue in the same
transaction, and after two returns it is decided under the lock. Only then is everything recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct

from poolwise.core.fulfilment import release_at
from poolwise.core.ledger import Account, Cause, Movement, Reservation, ReservationKind
from poolwise.core.network import CapacityUnit
from poolwise.core.orders import Blocks, Order, OrderState, Progress, state_of
from poolwise.core.policy.evaluate import OrderFacts
from poolwise.core.policy.terms import SubstitutionMode, Terms
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.later import again_at
from poolwise.core.sourcing.options import Market, Options
from poolwise.core.sourcing.plan import Elimination, Plan
from poolwise.core.sourcing.problem import (
    NO_CLASSES,
    CapacityFact,
    ClassFact,
    Demand,
    Facts,
    Problem,
    ReceiptFact,
    classes_of,
    shelves_of,
)
from poolwise.core.sourcing.record import Held, Packer, digest
from poolwise.core.sourcing.together import Prepared, foresee
from poolwise.core.values import Conflict, Json, Quantity, replace
from poolwise.flows.capacity import bookings_of
from poolwise.flows.identity import Ids
from poolwise.flows.ports import (
    ROOM,
    Age,
    Audit,
    Books,
    Decision,
    Effects,
    Event,
    OrderRecord,
    Queue,
    ReceiptChange,
    ShipmentRecord,
    Stock,
    Timer,
    TimerKind,
    Todo,
    Transaction,
)
from poolwise.flows.waking import wake_after

RETURNS_BEFORE_LOCK: Final = 2
MOST_CONFLICTS: Final = 8
FEW_BOOKINGS: Final = 64
COUNTING_LINES: Final = (CapacityUnit.ORDERS, CapacityUnit.LINES)
ON_HAND: Final = (Account.AVAILABLE, Account.RESERVED)
EXPECTED: Final = (Account.EXPECTED, Account.PLEDGED)
"""From which account to which units move when they are set aside."""
DAYS_LACK: Final = frozenset({Elimination.CAPACITY, Elimination.CALENDAR})
"""Why demand waits though there is something for it: another day may have room."""
SHARES_OF_ROOM: Final = 8
"""A slot is locked before a batch is written when the batch takes more than this part of its room: there may be as many
batches at a time."""
AGAIN_RANK: Final = 1_000_000
"""Orders that a wave plans again are claimed after all that wait for one."""

PARTS_PER_ATTEMPT: Final = 100_000
"""Numbers of reservations and shipments of the n-th attempt begin at n times this."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Who decides, and under what: an atlas (edition and policy), the release of the code, the cells served."""

    atlas: Atlas
    release: str
    cells: tuple[int, ...]
    ids: Ids
    actor: str = "worker"

    @property
    def rules(self) -> str:
        """The name of the edition and the policy that decisions are made under."""
        policy = self.atlas.policy.policy
        return f"{self.atlas.edition.hash[:16]}/{policy.code}/{policy.version}"


@dataclass(frozen=True, slots=True)
class Sourced:
    """What became of a batch: orders decided, of these left short, and orders that went back to the queue.

    `prompt` are those that somebody waits for.
    """

    decided: int = 0
    short: int = 0
    returned: int = 0
    lines: int = 0
    prompt: int = 0
    orders: tuple[UUID, ...] = ()


def source_batch(books: Books, desk: Desk, cell: int, now: datetime, limit: int, queue: Queue = Queue.ONCE) -> Sourced:
    """Decide up to `limit` waiting demands of a cell; again, with fewer, when somebody was first at what they take.

    With the queue of those who wait for stock, the ones that must look again: under other rules, or on a new day.
    """
    for conflicts in range(MOST_CONFLICTS):
        patience = RETURNS_BEFORE_LOCK if conflicts < RETURNS_BEFORE_LOCK else 0
        try:
            with books.transaction() as transaction:
                claimed = transaction.claim(cell, queue, now, limit, desk.rules)
                if not claimed:
                    return Sourced()
                batch = Batch(transaction, desk, now)
                batch.decide(claimed, patience)
                transaction.record(batch.effects())
                if queue is not Queue.STOCK:
                    batch.wake_next()
        except Conflict:
            # With fewer orders there is less to lose.
            limit = max(1, limit // 2)
            continue
        return batch.sourced()
    raise Conflict(f"a batch of cell {cell} met {MOST_CONFLICTS} conflicts in a row")


def waiting_of(record: OrderRecord) -> tuple[tuple[int, Quantity], ...]:
    """What is still to be sourced of an order, by line."""
    lines = zip(record.order.lines, record.lines, strict=True)
    return tuple((line.no, p.open + p.backordered) for line, p in lines if p.open + p.backordered)


class Asked(Struct, frozen=True, gc=False):
    """A demand with what the policy grants its order, and the items whose stock could serve it, in order.

    `classes` are those of its lines of which it matters how often nodes missed them.
    """

    todo: Todo
    terms: Terms
    items: tuple[str, ...]
    classes: frozenset[str]


class Choice(Struct, frozen=True, gc=False):
    """One order's plan, and the facts it was made on."""

    todo: Todo
    facts: Facts
    plan: Plan


class Batch:
    """The demands of one transaction on their way from the queue to what is recorded."""

    def __init__(self, transaction: Transaction, desk: Desk, now: datetime) -> None:
        """Nothing is claimed yet."""
        self._transaction, self._desk, self._now = transaction, desk, now
        self._since = now.date() - timedelta(days=1)
        self.known: Mapping[UUID, OrderRecord] = {}
        self._woken: list[Todo] = []
        self._last: dict[str, Age] = {}
        self.made: list[Choice] = []
        self.returned: list[Todo] = []

    def decide(self, claimed: Sequence[Todo], patience: int) -> None:
        """Decide demands without locks; those that came back `patience` times already are decided under the lock."""
        atlas = self._desk.atlas
        asked = [ask(atlas, todo) for todo in self._as_they_stand(claimed)]
        items = sorted(set(chain.from_iterable([each.items for each in asked])))
        classes = NO_CLASSES.union(*[each.classes for each in asked])
        stock = self._transaction.stock(self._desk.cells, items, self._since, classes)
        shelf = Shelf(stock, atlas)
        first = [each for each in asked if each.todo.returns < patience]
        together = [each for each in first if not each.todo.without]
        demands = [(Demand(each.todo.order, each.todo.open), each.terms) for each in together]
        prepared = iter(foresee(atlas, demands, shelf.market(self._now)))
        made = [
            choose(self._desk, each, shelf, self._now, prepared=None if each.todo.without else next(prepared))
            for each in first
        ]
        self._check_under_lock(stock, made, [each for each in asked if each.todo.returns >= patience])

    def _as_they_stand(self, claimed: Sequence[Todo]) -> list[Todo]:
        """What is still to be sourced: of an order that was decided before, what its record says, under lock.

        Such a row of the queue only says that there may be something to do: stock that came, and reservations that
        broke, may both have put it there.
        """
        self._woken = [todo for todo in claimed if not todo.is_new]
        again = [todo.order.id for todo in self._woken]
        self.known = self._transaction.orders(again, lock=True) if again else {}
        found: list[Todo] = []
        for todo in claimed:
            record = self.known.get(todo.order.id)
            if todo.is_new:
                found.append(todo)
            elif record is not None and not record.is_held(Blocks.SOURCING):
                rest = waiting_of(record)
                if rest:
                    anew = replace(todo, order=record.order, open=rest, attempt=record.attempt + 1)
                    found.append(replace(anew, without=record.declined))
        return found

    def _check_under_lock(self, stock: Stock, made: Sequence[Choice], patient: Sequence[Asked]) -> None:
        """Lock what was chosen and check it again; what does not fit any more goes back to the queue.

        All positions are locked of what would be left short, and of `patient` demand, and none comes to be: it is
        decided here, on facts that nobody changes meanwhile.
        """
        desk, transaction = self._desk, self._transaction
        shelf = Shelf(stock, desk.atlas)
        parts = [part for choice in made for part in choice.plan.assignments]
        short = [ask(desk.atlas, choice.todo) for choice in made if choice.plan.unserved]
        items = sorted({item for each in (*short, *patient) for item in each.items})
        # Those of pledges too: nobody holds a receipt and waits for its position.
        taken = {part.position for part in parts}
        shelf.lock(transaction, taken.union(transaction.positions_of(items, close=True) if items else ()))
        shelf.lock_receipts(transaction, {part.receipt for part in parts if part.receipt is not None})
        shelf.renew(items, transaction.stock(desk.cells, items, self._since))
        shelf.lock_capacity(transaction, [choice.plan for choice in made])
        # What fits together fits in turn.
        if not (short or patient or self._woken) and shelf.fits(*[choice.plan for choice in made]):
            self.made.extend(made)
            return
        again = iter(short)
        for choice in made:
            if choice.plan.unserved:
                self.made.append(choose(desk, next(again), shelf, self._now, choice))
            elif shelf.fits(choice.plan):
                shelf.draw(choice.plan)
                self.made.append(choice)
            else:
                self.returned.append(replace(choice.todo, returns=choice.todo.returns + 1))
        self.made.extend(choose(desk, each, shelf, self._now) for each in patient)
        self._note_last(shelf)

    def _note_last(self, shelf: Shelf) -> None:
        """Of items that somebody was woken for and that could still be served: who of them was last in line."""
        decided = {choice.todo.order.id: choice.todo for choice in self.made}
        back = {todo.order.id for todo in self.returned}
        free = {ROOM: True}
        for woken in self._woken:
            if woken.order.id in back:
                continue
            # Who has nothing to be sourced any more was not looked at: the next in line is asked whatever there is.
            todo = decided.get(woken.order.id)
            for item in woken.items if todo is None else todo.items:
                if item not in free:
                    free[item] = any(shelf.has_some(each) for each in could_serve(self._desk.atlas, item))
                if todo is None or free[item]:
                    self._last[item] = max(self._last.get(item, woken.age), woken.age)

    def wake_next(self) -> None:
        """Wake who is next in line: as many as were woken before and are decided now."""
        wake_after(self._transaction, self._last, len(self._woken), self._now)

    def sourced(self) -> Sourced:
        """What became of the batch."""
        return Sourced(
            decided=len(self.made),
            short=sum(1 for choice in self.made if choice.plan.unserved),
            returned=len(self.returned),
            lines=sum(len(choice.todo.open) for choice in self.made),
            prompt=sum(choice.todo.prompt for choice in self.made),
            orders=tuple(choice.todo.order.id for choice in self.made),
        )

    def effects(self) -> Effects:
        """Everything the batch writes: one value, recorded in one go."""
        desk, now = self._desk, self._now
        batch, packer = desk.ids.new(now), Packer()
        written = [Written(desk, choice, self.known.get(choice.todo.order.id), now) for choice in self.made]
        events = [Event("order.sourced", str(w.owner), w.event(), w.cell) for w in written]
        shipments = [record for w in written for record in w.shipments]
        waiting = [w.waiting() for w in written if w.choice.plan.unserved]
        orders = [w.order() for w in written]
        again = [entry for order in orders if (entry := again_in_wave(desk.atlas, order, now)) is not None]
        hard = desk.atlas.policy.policy.capacity_is_hard
        releases: dict[tuple[str, date], datetime] = {}
        told: dict[str, Json] = {"orders": len(written), "returned": len(self.returned)}
        return Effects(
            at=now,
            movements=[movement for w in written for movement in w.movements],
            reservations=[reservation for w in written for reservation in w.reservations],
            receipt_changes=[change for w in written for change in w.pledges()],
            capacity=bookings_of(desk.atlas.edition.network, shipments, hard=hard),
            shipments=shipments,
            orders_changed=orders,
            todo=[*self.returned, *waiting, *again],
            timers=[timer for w in written if (timer := w.release(releases)) is not None],
            timers_dropped=[
                (w.cell, w.owner, TimerKind.RELEASE) for w in written if w.known is not None and w.shipments
            ],
            decisions=[w.decision(batch, place, packer) for place, w in enumerate(written)],
            events=events,
            audit=[Audit(desk.actor, "orders.source", str(batch), told)],
        )


class Shelf:
    """Balances as a batch sees them: read once, drawn down by each of its plans in turn."""

    def __init__(self, stock: Stock, atlas: Atlas) -> None:
        """Begins with what was read."""
        self._network = atlas.edition.network
        self._hard = atlas.policy.policy.capacity_is_hard
        self._stock = dict(stock.by_item)
        self._receipts = dict(stock.receipts)
        self._open = {fact.receipt: fact.open for facts in stock.receipts.values() for fact in facts}
        self._misses = stock.misses
        self._records: dict[tuple[str, frozenset[str]], ClassFact | None] = {}
        self._taken = _by_slot(stock)
        self._listed: dict[tuple[frozenset[str], bool], tuple[CapacityFact, ...]] = {}

    def positions(self, items: Iterable[str]) -> list[int]:
        """Ids of all positions of some items."""
        return [position for item in items if item in self._stock for position in self._stock[item].positions.index]

    def has_some(self, item: str) -> bool:
        """Whether anything of an item is left, on hand or expected."""
        on_hand = item in self._stock and any(self._stock[item].available)
        return on_hand or any(self._open[fact.receipt] for fact in self._receipts.get(item, ()))

    def lock(self, transaction: Transaction, positions: Iterable[int]) -> None:
        """Lock positions and take over their balances as they are now."""
        for position in transaction.positions(sorted(set(positions)), lock=True).values():
            stock = self._stock.get(position.key.item)
            # One that came to be since is told by what is read again.
            if stock is not None and position.id in stock.positions.index:
                units = position.balance(Account.AVAILABLE) - stock.at(position.id)
                if units:
                    self._stock[position.key.item] = stock.moved(position.id, units)

    def lock_receipts(self, transaction: Transaction, receipts: Collection[UUID]) -> None:
        """Lock receipts and take over what is open of them now."""
        for receipt in transaction.receipts(receipts, lock=True).values() if receipts else ():
            self._open[receipt.id] = receipt.open

    def renew(self, items: Sequence[str], stock: Stock) -> None:
        """Take over what was read again: some items with their receipts, and all capacity."""
        for item in items:
            self._stock.pop(item, None)
            if item in stock.by_item:
                self._stock[item] = stock.by_item[item]
            self._receipts[item] = stock.receipts.get(item, ())
            self._open.update((fact.receipt, fact.open) for fact in self._receipts[item])
        self._taken = _by_slot(stock)
        self._listed.clear()

    def lock_capacity(self, transaction: Transaction, plans: Sequence[Plan]) -> None:
        """Lock the slots that plans leave nearly full, and take over what is taken of them now.

        With the others it is left to the conditional UPDATE at the end: locked here, they would make batches wait for
        each other. But those that come before one of these are locked too: later they would be out of order.
        """
        if not self._hard:
            return
        needs = _bookings(plans)
        nodes = self._network.nodes
        keys = sorted((nodes[node].cell, node, day, slot) for node, day, slot in needs)
        scarce = [key for key in keys if needs[key[1:]] * SHARES_OF_ROOM > self._room(*key[1:])]
        first = [key for key in keys if key <= scarce[-1]] if scarce else []
        for (_, node, day, slot), taken in (transaction.capacity(first) if first else {}).items():
            self._taken.setdefault(node, {})[day, slot] = taken
        self._listed.clear()

    def _room(self, node: str, day: date, slot: int) -> int:
        return self._network.nodes[node].slots[slot].limit - self._taken.get(node, {}).get((day, slot), 0)

    def facts(
        self,
        items: Sequence[str],
        now: datetime,
        most_bookings: int | None = None,
        classes: frozenset[str] = NO_CLASSES,
    ) -> Facts:
        """What an order's decision is made on, in key order: stock, receipts, and the capacity it could depend on.

        Also what became of picks of `classes` at the nodes concerned.
        `most_bookings` is the most order lines, counted once a shipment, that the order can send, if that is known. A
        slot with room for all of them is left out: to the decision it is as good as an empty one.
        """
        stock = tuple([self._stock[item] for item in items if item in self._stock])
        receipts = tuple(
            [
                ReceiptFact(fact.receipt, fact.place, fact.due_on, self._open[fact.receipt])
                for item in items
                for fact in self._receipts.get(item, ())
                if self._open[fact.receipt] > 0
            ]
        )
        brief = most_bookings is not None and most_bookings <= FEW_BOOKINGS
        nodes = frozenset([fact.place.node for fact in receipts]).union(*[each.positions.nodes for each in stock])
        capacity = self._listed.get((nodes, brief))
        if capacity is None:
            listed = chain.from_iterable([self._taken_at(node, brief) for node in sorted(nodes)])
            capacity = self._listed[nodes, brief] = tuple(listed)
        misses: tuple[ClassFact, ...] = ()
        if classes and self._misses:
            records = [self._record(each, nodes) for each in sorted(classes)]
            misses = tuple([record for record in records if record is not None])
        return Facts(now, stock, receipts, capacity, misses)

    def _record(self, item_class: str, nodes: frozenset[str]) -> ClassFact | None:
        """What became of the picks of a class at some nodes; None where nothing is known."""
        key = (item_class, nodes)
        if key not in self._records:
            picks = tuple([fact for fact in self._misses.get(item_class, ()) if fact.node in nodes])
            self._records[key] = ClassFact(item_class, picks) if picks else None
        return self._records[key]

    def market(self, now: datetime) -> Market:
        """All there is before anything is drawn."""
        capacity = [fact for node in sorted(self._taken) for fact in self._taken_at(node, brief=False)]
        return Market(now, self._stock, self._receipts, tuple(capacity), self._misses)

    def _taken_at(self, node: str, brief: bool) -> Iterator[CapacityFact]:
        for (day, slot), taken in sorted(self._taken.get(node, {}).items()):
            if taken and not (brief and self._has_plenty(node, slot, self._room(node, day, slot))):
                yield CapacityFact(node, day, slot, taken)

    def _has_plenty(self, node: str, slot: int, room: int) -> bool:
        return room >= FEW_BOOKINGS and self._network.nodes[node].slots[slot].unit in COUNTING_LINES

    def draw(self, plan: Plan | Held, sign: int = 1) -> None:
        """Take what a plan takes; with sign -1 give it back."""
        for assignment in plan.assignments:
            if assignment.receipt is None:
                item, units = assignment.item, -sign * assignment.quantity
                self._stock[item] = self._stock[item].moved(assignment.position, units)
            else:
                self._open[assignment.receipt] -= sign * assignment.quantity
        for shipment in plan.shipments:
            for booking in shipment.bookings:
                taken = self._taken.setdefault(booking.node, {})
                key = (booking.day, booking.slot)
                after = taken[key] = taken.get(key, 0) + sign * booking.quantity
                room = self._network.nodes[booking.node].slots[booking.slot].limit - after
                self._forget(listed_in_brief=not self._has_plenty(booking.node, booking.slot, room))

    def _forget(self, listed_in_brief: bool) -> None:
        """Drop the lists of capacity that show what has changed: those in brief do not while there is plenty."""
        if listed_in_brief:
            self._listed.clear()
        elif any(not brief for _, brief in self._listed):
            self._listed = {key: facts for key, facts in self._listed.items() if key[1]}

    def fits(self, *plans: Plan) -> bool:
        """Whether all that plans take together is still there."""
        units: dict[tuple[str, int], Quantity] = {}
        pledges: dict[UUID, Quantity] = {}
        for part in chain.from_iterable([plan.assignments for plan in plans]):
            if part.receipt is None:
                key = (part.item, part.position)
                units[key] = units.get(key, 0) + part.quantity
            else:
                pledges[part.receipt] = pledges.get(part.receipt, 0) + part.quantity
        if any(self._stock[item].at(position) < wanted for (item, position), wanted in units.items()):
            return False
        if any(self._open[receipt] < wanted for receipt, wanted in pledges.items()):
            return False
        return not self._hard or all(self._room(*slot) >= need for slot, need in _bookings(plans).items())


def _bookings(plans: Iterable[Plan]) -> dict[tuple[str, date, int], int]:
    """What plans take of slots together."""
    needs: dict[tuple[str, date, int], int] = {}
    for booking in [booking for plan in plans for shipment in plan.shipments for booking in shipment.bookings]:
        key = (booking.node, booking.day, booking.slot)
        needs[key] = needs.get(key, 0) + booking.quantity
    return needs


def _by_slot(stock: Stock) -> dict[str, dict[tuple[date, int], int]]:
    return {node: {(fact.day, fact.slot): fact.taken for fact in facts} for node, facts in stock.capacity.items()}


def items_wanted(atlas: Atlas, order: Order) -> tuple[str, ...]:
    """Items whose stock could serve an order: its own, their parts and their substitutes, each once, in order."""
    catalog = atlas.edition.catalog
    policy = atlas.policy.policy
    # A rule of the policy may allow what the policy itself does not.
    may_substitute = policy.substitution != SubstitutionMode.NEVER or bool(policy.rules)
    found = {line.item for line in order.lines}
    for line in order.lines:
        if policy.kits_from_parts and line.item in catalog.bills:
            found.update([component.item for component in catalog.bills[line.item].components])
        if may_substitute and line.substitutes and line.item in catalog.substitutions:
            found.update([swap.substitute for swap in catalog.substitutions[line.item]])
    return tuple(sorted(found))


def again_in_wave(atlas: Atlas, record: OrderRecord, now: datetime) -> Todo | None:
    """The queue row of an order of which everything is set aside, if its service level has waves plan it again."""
    order = record.order
    level = atlas.policy.policy.service_levels.get(order.service_level)
    if level is None or not level.is_planned_again or record.state is not OrderState.SOURCED:
        return None
    open_ = tuple((line.no, p.reserved + p.pledged) for line, p in zip(order.lines, record.lines, strict=True))
    # Behind those that wait, and not again in the wave that is being planned.
    since = now + timedelta(microseconds=1)
    return Todo(order.cell, Queue.WAVE, AGAIN_RANK, since, order, open_, record.attempt + 1)


def could_serve(atlas: Atlas, item: str) -> list[str]:
    """An item, its parts and its substitutes."""
    catalog = atlas.edition.catalog
    parts = catalog.bills[item].components if item in catalog.bills else ()
    swaps = catalog.substitutions.get(item, ())
    return [item, *(part.item for part in parts), *(swap.substitute for swap in swaps)]


def tomorrow(now: datetime, time_zone: str) -> datetime:
    """The instant at which the next day begins in a time zone."""
    zone = ZoneInfo(time_zone)
    return datetime.combine(now.astimezone(zone).date() + timedelta(days=1), time.min, zone).astimezone(UTC)


def terms_of(atlas: Atlas, order: Order) -> Terms:
    """What the policy grants an order."""
    return atlas.policy.terms(OrderFacts(order, atlas.edition.network, atlas.edition.catalog))


def ask(atlas: Atlas, todo: Todo) -> Asked:
    """A demand with all that is worked out from its order alone."""
    classes = classes_of(atlas.edition.catalog, todo.order, atlas.policy.policy)
    return Asked(todo, terms_of(atlas, todo.order), items_wanted(atlas, todo.order), classes)


def without(facts: Facts, nodes: Collection[str]) -> Facts:
    """Facts as they are for an order that some nodes have declined: as if nothing lay there."""
    left = shelves_of(fact for fact in facts.stock if fact.place.node not in nodes)
    receipts = tuple(fact for fact in facts.receipts if fact.place.node not in nodes)
    left_of = [(known, tuple(fact for fact in picks if fact.node not in nodes)) for known, picks in facts.misses]
    misses = tuple(ClassFact(item_class, picks) for item_class, picks in left_of if picks)
    return replace(facts, shelves=left, receipts=receipts, misses=misses)


def choose(
    desk: Desk,
    asked: Asked,
    shelf: Shelf,
    now: datetime,
    before: Choice | None = None,
    prepared: Prepared | None = None,
) -> Choice:
    """Decide one demand on what the shelf holds now, and draw it down by the plan.

    `before` is what was decided on facts that may not have changed since; then it stands. `prepared` is what was worked
    out of the order together with others.
    """
    todo, terms, atlas = asked.todo, asked.terms, desk.atlas
    most_bookings = None if terms.max_shipments is None else terms.max_shipments * len(todo.order.lines)
    facts = shelf.facts(asked.items, now, most_bookings, asked.classes)
    if todo.without:
        facts = without(facts, todo.without)
    if before is not None and facts == before.facts:
        shelf.draw(before.plan)
        return before
    plan = solve(Problem(Demand(todo.order, todo.open), atlas.edition, terms, facts), atlas, prepared)
    shelf.draw(plan)
    return Choice(todo, facts, plan)


class Written:
    """What one decided order, or basket, adds to the books."""

    def __init__(
        self, desk: Desk, choice: Choice, known: OrderRecord | None, now: datetime, expires_at: datetime | None = None
    ) -> None:
        """`known` is the order as it stands, None where nothing of it was decided; a basket has an expiry."""
        todo = choice.todo
        self.desk, self.choice, self.now = desk, choice, now
        self.owner, self.cell, self.attempt = todo.order.id, todo.cell, todo.attempt
        self.known = known
        first = (self.attempt - 1) * PARTS_PER_ATTEMPT
        kind = ReservationKind.HARD if expires_at is None else ReservationKind.SOFT
        point = desk.atlas.edition.network.collected_at(todo.order.zone)
        self.shipments = [
            ShipmentRecord(
                self.cell, self.owner, replace(each, no=first + each.no) if first else each, collect_at=point
            )
            for each in choice.plan.shipments
        ]
        self.movements: list[Movement] = []
        self.reservations: list[Reservation] = []
        for no, part in enumerate(choice.plan.assignments, start=first + 1):
            position, units, receipt = part.position, part.quantity, part.receipt
            source, target = ON_HAND if receipt is None else EXPECTED
            self.movements.append(Movement(position, source, target, units, Cause.RESERVE, self.owner))
            served, shipment_no = (part.line_no, part.line_quantity), first + part.shipment_no
            self.reservations.append(
                Reservation(
                    self.cell, self.owner, no, position, units, *served, kind, shipment_no, now, receipt, expires_at
                )
            )

    def pledges(self) -> list[ReceiptChange]:
        """Receipts of which units are pledged now."""
        nodes = self.desk.atlas.edition.network.nodes
        return [
            ReceiptChange(nodes[part.node].cell, part.receipt, pledged=part.quantity)
            for part in self.choice.plan.assignments
            if part.receipt is not None
        ]

    def release(self, known: dict[tuple[str, date], datetime]) -> Timer | None:
        """When the first of its shipments is released; of an order that may have others they are looked at at once.

        `known` keeps the instants of nodes and days.
        """
        if not self.shipments:
            return None
        if self.known is not None:
            return Timer(self.cell, TimerKind.RELEASE, self.owner, self.now)
        due, minutes = self.now, self.desk.atlas.policy.policy.release_after_minutes
        for place, record in enumerate(self.shipments):
            key = (record.shipment.node, record.shipment.ship_on)
            at = known.get(key)
            if at is None:
                node = self.desk.atlas.edition.network.nodes[key[0]]
                at = known[key] = max(self.now, release_at(node, key[1], self.now, minutes))
            due = at if not place else min(due, at)
        return Timer(self.cell, TimerKind.RELEASE, self.owner, due)

    def order(self) -> OrderRecord:
        """The order with where its units stand now."""
        order, plan = self.choice.todo.order, self.choice.plan
        reserved: dict[int, Quantity] = {}
        pledged: dict[int, Quantity] = {}
        for part in plan.assignments:
            of = reserved if part.receipt is None else pledged
            of[part.line_no] = of.get(part.line_no, 0) + part.line_quantity
        unserved = {entry.line_no: entry.quantity for entry in plan.unserved}
        wanted = dict(self.choice.todo.open)
        if self.known is None:
            after = [
                Progress(
                    line.quantity,
                    line.quantity - wanted.get(line.no, 0),
                    reserved.get(line.no, 0),
                    pledged.get(line.no, 0),
                    unserved.get(line.no, 0),
                )
                for line in order.lines
            ]
        else:
            after = []
            for line, before in zip(order.lines, self.known.lines, strict=True):
                # What was to be sourced stood as open at the first attempt, as backordered at a later one.
                from_open = min(wanted.get(line.no, 0), before.open)
                from_backorder = wanted.get(line.no, 0) - from_open
                after.append(
                    replace(
                        before,
                        open=before.open - from_open,
                        reserved=before.reserved + reserved.get(line.no, 0),
                        pledged=before.pledged + pledged.get(line.no, 0),
                        backordered=before.backordered - from_backorder + unserved.get(line.no, 0),
                    )
                )
        lines = tuple(after)
        declined = () if self.known is None else self.known.declined
        return OrderRecord(order, state_of(lines), lines, self.attempt, declined)

    def waiting(self) -> Todo:
        """Demand that waits for supply: the next attempt, once stock of its items rises, or it must look again."""
        todo, rooms = self.choice.todo, self._where_room_may_come()
        return replace(
            todo,
            queue=Queue.STOCK,
            open=tuple((entry.line_no, entry.quantity) for entry in self.choice.plan.unserved),
            attempt=self.attempt + 1,
            returns=0,
            for_room=bool(rooms),
            rules=self.desk.rules,
            again_at=self._again_at(rooms),
        )

    def _again_at(self, rooms: Collection[str]) -> datetime | None:
        """When a day comes into the horizon that may bring room, or something that cannot leave before."""
        atlas, todo = self.desk.atlas, self.choice.todo
        nodes = atlas.edition.network.nodes
        turns = [tomorrow(self.now, zone) for zone in {nodes[node].time_zone for node in rooms if node in nodes}]
        problem = Problem(Demand(todo.order, todo.open), atlas.edition, terms_of(atlas, todo.order), self.choice.facts)
        later = again_at(Options(atlas, problem), self.choice.plan.unserved)
        return min(turns if later is None else [*turns, later], default=None)

    def _where_room_may_come(self) -> set[str]:
        """Nodes that have something for what is left short and may have room for it another time.

        They are those whose capacity the decision depended on, and all where it was days that were lacking.
        """
        unserved = self.choice.plan.unserved
        if not unserved:
            return set()
        atlas, facts = self.desk.atlas, self.choice.facts
        days_lack = any(entry.reason in DAYS_LACK for entry in unserved)
        if not (days_lack or (facts.capacity and atlas.policy.policy.capacity_is_hard)):
            return set()
        lines = {line.no: line.item for line in self.choice.todo.order.lines}
        wanted = {item for entry in unserved for item in could_serve(atlas, lines[entry.line_no])}
        there = {fact.place.node for fact in facts.stock if fact.available > 0 and fact.place.item in wanted}
        there.update(fact.place.node for fact in facts.receipts if fact.place.item in wanted)
        return there if days_lack else there.intersection({fact.node for fact in facts.capacity})

    def decision(self, batch: UUID, place: int, packer: Packer) -> Decision:
        """What is stored of the decision."""
        atlas, choice = self.desk.atlas, self.choice
        policy = atlas.policy.policy
        facts = packer.facts(choice.facts, choice.todo.open)
        return Decision(
            self.cell, self.owner, self.attempt, self.now, atlas.edition.hash, policy.code, policy.version,
            self.desk.release, batch, place, facts, digest(choice.plan),
        )  # fmt: skip

    def event(self) -> dict[str, Json]:
        """The decision as the feed tells it: enough to project balances, no person in it."""
        plan, order = self.choice.plan, self.choice.todo.order
        moved: list[Json] = [
            [str(part.position), *(ON_HAND if part.receipt is None else EXPECTED), part.quantity]
            for part in plan.assignments
        ]
        return {
            "order": order.number,
            "attempt": self.attempt,
            "shipments": len(plan.shipments),
            "nodes": [shipment.node for shipment in plan.shipments],
            "waiting": [[entry.line_no, entry.quantity, entry.reason.value] for entry in plan.unserved],
            "cost": plan.objective,
            "co2e_mg": plan.co2e_mg,
            "moved": moved,
        }
