"""Sourcing: waiting demand is claimed in a batch, decided, reserved and recorded, in one transaction.

Keeps laws 2, 4, 8, 10, 13. The path of a batch (DESIGN section 3): claim demand; read stock and capacity without
locks; decide order by order, each on what its predecessors left; lock only the positions that were chosen, and all
positions of what would be left short; check again. An order that no longer fits goes back to the queue in the same
transaction, and after two returns it is decided under the lock. Only then is everything recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from poolwise.core.ledger import Account, Cause, Movement, Position, Reservation, ReservationKind
from poolwise.core.orders import Order, Progress, state_of
from poolwise.core.policy.evaluate import OrderFacts
from poolwise.core.policy.terms import SubstitutionMode, Terms
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.options import Atlas
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.problem import CapacityFact, Demand, Facts, Problem, ReceiptFact, StockFact
from poolwise.core.sourcing.record import digest, encode_facts
from poolwise.core.values import Conflict, Json, Quantity
from poolwise.flows.capacity import bookings_of
from poolwise.flows.identity import Ids
from poolwise.flows.ports import (
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
    Todo,
    Transaction,
)

RETURNS_BEFORE_LOCK: Final = 2
MOST_CONFLICTS: Final = 8
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


@dataclass(frozen=True, slots=True)
class Sourced:
    """What became of a batch: orders decided, of these left short, and orders that went back to the queue."""

    decided: int = 0
    short: int = 0
    returned: int = 0
    lines: int = 0
    orders: tuple[UUID, ...] = ()


def source_batch(books: Books, desk: Desk, cell: int, now: datetime, limit: int, queue: Queue = Queue.ONCE) -> Sourced:
    """Decide up to `limit` waiting demands of a cell. Repeats the batch when a slot or receipt was taken meanwhile."""
    for conflicts in range(MOST_CONFLICTS):
        try:
            with books.transaction() as transaction:
                claimed = transaction.claim(cell, queue, now, limit)
                if not claimed:
                    return Sourced()
                return _decide(transaction, desk, claimed, now, under_lock=conflicts >= RETURNS_BEFORE_LOCK)
        except Conflict:
            # Somebody took a slot or a receipt between reading and writing: with fewer orders there is less to lose.
            limit = max(1, limit // 2)
    raise Conflict(f"a batch of cell {cell} met {MOST_CONFLICTS} conflicts in a row")


def _decide(transaction: Transaction, desk: Desk, claimed: Sequence[Todo], now: datetime, under_lock: bool) -> Sourced:
    items = sorted({item for todo in claimed for item in items_wanted(desk.atlas, todo.order)})
    since = now.date() - timedelta(days=1)
    stock = transaction.stock(desk.cells, items, since)
    locked = under_lock or any(todo.returns >= RETURNS_BEFORE_LOCK for todo in claimed)
    shelf = Shelf(stock)
    if locked:
        shelf.lock(transaction, shelf.positions(items))
    made = [choose(desk, todo, shelf, now) for todo in claimed]
    returned: list[Todo] = []
    if not locked:
        made, returned = _check_under_lock(transaction, desk, stock, made, now)
    effects = _effects(transaction, desk, made, returned, now)
    transaction.record(effects)
    return Sourced(
        decided=len(made),
        short=sum(1 for choice in made if choice.plan.unserved),
        returned=len(returned),
        lines=sum(len(choice.todo.open) for choice in made),
        orders=tuple(choice.todo.order.id for choice in made),
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """One order's plan, and the facts it was made on."""

    todo: Todo
    facts: Facts
    plan: Plan


class Shelf:
    """Balances as a batch sees them: read once, drawn down by each of its plans in turn."""

    def __init__(self, stock: Stock) -> None:
        """Begins with what was read."""
        self.by_item = stock.by_item
        self.available = {fact.place.position: fact.available for facts in stock.by_item.values() for fact in facts}
        self.receipts = stock.receipts
        self.pledgeable = {fact.receipt: fact.open for facts in stock.receipts.values() for fact in facts}
        self.taken: dict[str, dict[tuple[date, int], int]] = {
            node: {(fact.day, fact.slot): fact.taken for fact in facts} for node, facts in stock.capacity.items()
        }
        self._capacity: dict[str, tuple[CapacityFact, ...]] = {}

    def positions(self, items: Iterable[str]) -> list[int]:
        """Ids of all positions of some items."""
        return [fact.place.position for item in items for fact in self.by_item.get(item, ())]

    def lock(self, transaction: Transaction, positions: Iterable[int]) -> dict[int, Position]:
        """Lock positions and take over their balances as they are now."""
        found = transaction.positions(sorted(set(positions)), lock=True)
        for position in found.values():
            self.available[position.id] = position.balance(Account.AVAILABLE)
        return found

    def facts(self, items: Sequence[str], now: datetime) -> Facts:
        """What an order's decision is made on, in key order."""
        stock = [
            StockFact(fact.place, self.available[fact.place.position])
            for item in items
            for fact in self.by_item.get(item, ())
        ]
        receipts = [
            ReceiptFact(fact.receipt, fact.place, fact.due_on, self.pledgeable[fact.receipt])
            for item in items
            for fact in self.receipts.get(item, ())
            if self.pledgeable[fact.receipt] > 0
        ]
        nodes = sorted({fact.place.node for fact in stock} | {fact.place.node for fact in receipts})
        capacity = tuple(fact for node in nodes for fact in self._taken_at(node))
        return Facts(now, tuple(stock), tuple(receipts), capacity)

    def _taken_at(self, node: str) -> tuple[CapacityFact, ...]:
        found = self._capacity.get(node)
        if found is None:
            entries = sorted(self.taken.get(node, {}).items())
            found = tuple(CapacityFact(node, day, slot, taken) for (day, slot), taken in entries if taken)
            self._capacity[node] = found
        return found

    def draw(self, plan: Plan) -> None:
        """Take what a plan takes."""
        for assignment in plan.assignments:
            if assignment.receipt is None:
                self.available[assignment.position] -= assignment.quantity
            else:
                self.pledgeable[assignment.receipt] -= assignment.quantity
        for shipment in plan.shipments:
            for booking in shipment.bookings:
                taken = self.taken.setdefault(booking.node, {})
                key = (booking.day, booking.slot)
                taken[key] = taken.get(key, 0) + booking.quantity
                self._capacity.pop(booking.node, None)

    def fits(self, plan: Plan) -> bool:
        """Whether what a plan takes of positions is still there."""
        wanted: dict[int, Quantity] = {}
        for assignment in plan.assignments:
            if assignment.receipt is None:
                wanted[assignment.position] = wanted.get(assignment.position, 0) + assignment.quantity
        return all(self.available[position] >= quantity for position, quantity in wanted.items())


def items_wanted(atlas: Atlas, order: Order) -> tuple[str, ...]:
    """Items whose stock could serve an order: its own, their parts and their substitutes, each once, in order."""
    catalog = atlas.edition.catalog
    policy = atlas.policy.policy
    found: dict[str, None] = {}
    for line in order.lines:
        found[line.item] = None
        bill = catalog.bills.get(line.item)
        if bill is not None and policy.kits_from_parts:
            found.update(dict.fromkeys(component.item for component in bill.components))
        if line.substitutes and (policy.substitution != SubstitutionMode.NEVER or policy.rules):
            found.update(dict.fromkeys(swap.substitute for swap in catalog.substitutions.get(line.item, ())))
    return tuple(sorted(found))


def terms_of(atlas: Atlas, order: Order) -> Terms:
    """What the policy grants an order."""
    return atlas.policy.terms(OrderFacts(order, atlas.edition.network, atlas.edition.catalog))


def choose(desk: Desk, todo: Todo, shelf: Shelf, now: datetime) -> Choice:
    """Decide one demand on what the shelf holds now, and draw it down by the plan."""
    atlas, order = desk.atlas, todo.order
    facts = shelf.facts(items_wanted(atlas, order), now)
    plan = solve(Problem(Demand(order, todo.open), atlas.edition, terms_of(atlas, order), facts), atlas)
    shelf.draw(plan)
    return Choice(todo, facts, plan)


def _check_under_lock(
    transaction: Transaction, desk: Desk, stock: Stock, made: list[Choice], now: datetime
) -> tuple[list[Choice], list[Todo]]:
    """Lock what was chosen and check it again; decide those that would be left short once more, under the lock."""
    shelf = Shelf(stock)
    chosen = {a.position for choice in made for a in choice.plan.assignments if a.receipt is None}
    short = [choice for choice in made if choice.plan.unserved]
    short_items = {item for choice in short for item in items_wanted(desk.atlas, choice.todo.order)}
    shelf.lock(transaction, chosen | set(shelf.positions(sorted(short_items))))
    kept: list[Choice] = []
    returned: list[Todo] = []
    for choice in made:
        if choice.plan.unserved:
            kept.append(choose(desk, choice.todo, shelf, now))
        elif shelf.fits(choice.plan):
            shelf.draw(choice.plan)
            kept.append(choice)
        else:
            returned.append(replace(choice.todo, returns=choice.todo.returns + 1))
    return kept, returned


def _effects(
    transaction: Transaction, desk: Desk, made: Sequence[Choice], returned: Sequence[Todo], now: datetime
) -> Effects:
    """Everything the batch writes: one value, recorded in one go."""
    batch = desk.ids.new(now)
    edition = desk.atlas.edition
    again = [choice.todo.order.id for choice in made if choice.todo.attempt > 1]
    known = transaction.orders(again, lock=True) if again else {}
    written = [Written(desk, choice, known.get(choice.todo.order.id), now) for choice in made]
    events: list[Event] = [Event("order.sourced", str(w.choice.todo.order.id), w.event()) for w in written]
    shipments = [record for w in written for record in w.shipments]
    waiting = [w.waiting() for w in written if w.choice.plan.unserved]
    return Effects(
        at=now,
        movements=[movement for w in written for movement in w.movements],
        reservations=[reservation for w in written for reservation in w.reservations],
        receipt_changes=[change for w in written for change in w.pledges()],
        capacity=bookings_of(edition.network, shipments, hard=desk.atlas.policy.policy.capacity_is_hard),
        shipments=shipments,
        orders_changed=[w.order() for w in written],
        todo=[*returned, *waiting],
        decisions=[w.decision(batch, place) for place, w in enumerate(written)],
        events=events,
        audit=[Audit(desk.actor, "orders.source", str(batch), {"orders": len(made), "returned": len(returned)})],
    )


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
        nodes = desk.atlas.edition.network.nodes
        self.shipments = [
            ShipmentRecord(self.cell, self.owner, replace(shipment, no=first + shipment.no))
            for shipment in choice.plan.shipments
        ]
        self.movements: list[Movement] = []
        self.reservations: list[Reservation] = []
        for place, part in enumerate(choice.plan.assignments, start=1):
            receipt = part.receipt is not None
            source, target = (Account.EXPECTED, Account.PLEDGED) if receipt else (Account.AVAILABLE, Account.RESERVED)
            self.movements.append(Movement(part.position, source, target, part.quantity, Cause.RESERVE, self.owner))
            self.reservations.append(
                Reservation(
                    cell=self.cell,
                    owner=self.owner,
                    no=first + place,
                    position=part.position,
                    quantity=part.quantity,
                    line_no=part.line_no,
                    line_quantity=part.line_quantity,
                    kind=ReservationKind.HARD if expires_at is None else ReservationKind.SOFT,
                    shipment_no=first + part.shipment_no,
                    made_at=now,
                    receipt=part.receipt,
                    expires_at=expires_at,
                )
            )
        self.position_cells = {part.position: nodes[part.node].cell for part in choice.plan.assignments}

    def pledges(self) -> list[ReceiptChange]:
        """Receipts of which units are pledged now."""
        return [
            ReceiptChange(self.position_cells[part.position], part.receipt, pledged=part.quantity)
            for part in self.choice.plan.assignments
            if part.receipt is not None
        ]

    def order(self) -> OrderRecord:
        """The order with where its units stand now."""
        order, plan = self.choice.todo.order, self.choice.plan
        reserved: dict[int, Quantity] = {}
        pledged: dict[int, Quantity] = {}
        for part in plan.assignments:
            of = reserved if part.receipt is None else pledged
            of[part.line_no] = of.get(part.line_no, 0) + part.line_quantity
        unserved = {entry.line_no: entry.quantity for entry in plan.unserved}
        demand = dict(self.choice.todo.open)
        before = {line.no: Progress(line.quantity, open=line.quantity) for line in order.lines}
        if self.known is not None:
            before = dict(zip((line.no for line in order.lines), self.known.lines, strict=True))
        after = []
        for no, progress in before.items():
            # What was to be sourced stood as open at the first attempt, as backordered at a later one.
            wanted = demand.get(no, 0)
            from_open = min(wanted, progress.open)
            after.append(
                replace(
                    progress,
                    open=progress.open - from_open,
                    backordered=progress.backordered - (wanted - from_open) + unserved.get(no, 0),
                    reserved=progress.reserved + reserved.get(no, 0),
                    pledged=progress.pledged + pledged.get(no, 0),
                )
            )
        return OrderRecord(order, state_of(tuple(after)), tuple(after), self.attempt)

    def waiting(self) -> Todo:
        """Demand that waits for supply: the next attempt, once stock of its items rises."""
        todo = self.choice.todo
        rest = tuple((entry.line_no, entry.quantity) for entry in self.choice.plan.unserved)
        return replace(todo, queue=Queue.STOCK, open=rest, attempt=self.attempt + 1, returns=0)

    def decision(self, batch: UUID, place: int) -> Decision:
        """What is stored of the decision."""
        atlas = self.desk.atlas
        return Decision(
            cell=self.cell,
            owner=self.owner,
            attempt=self.attempt,
            at=self.now,
            edition=atlas.edition.hash,
            policy=atlas.policy.policy.code,
            policy_version=atlas.policy.policy.version,
            release=self.desk.release,
            batch=batch,
            place=place,
            facts=encode_facts(self.choice.facts, self.choice.todo.open),
            digest=digest(self.choice.plan),
        )

    def event(self) -> dict[str, Json]:
        """The decision as the feed tells it: enough to project balances, no person in it."""
        plan, order = self.choice.plan, self.choice.todo.order
        moved: list[Json] = [[str(m.position), m.source.value, m.target.value, m.quantity] for m in self.movements]
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
