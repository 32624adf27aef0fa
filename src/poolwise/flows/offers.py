"""Offers: a shipment is offered to several nodes for a while, and the first that claims it has it.

Keeps laws 2, 4, 6, 8, 13 and 15. While a shipment is offered its units stay reserved at the node that was planned. The
order's lock decides who is first. Where another node claims it, what was held is given back and the demand is decided
anew on facts that name no other node, in one commit: a decision like every other, which replays and is verified. When
nobody has claimed it in time, the nodes that were asked count as having declined the order, and it is sourced again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from poolwise.core.counting import Break, Statement
from poolwise.core.fulfilment import HELD_BACK, Stage
from poolwise.core.ledger import Account, Cause, Movement, Position, Reservation
from poolwise.core.orders import Blocks, OrderState, Progress, state_of
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.problem import ClassFact, Demand, Facts, Problem, shelves_of
from poolwise.core.sourcing.record import Packer
from poolwise.core.values import Fault, Json, Quantity, replace
from poolwise.flows.breaking import Mended, mend, open_line_quantity, stands_alone
from poolwise.flows.capacity import bookings_of
from poolwise.flows.intake import Rejected
from poolwise.flows.ports import (
    ROOM,
    Answer,
    Audit,
    Books,
    Effects,
    Event,
    Milestone,
    Offered,
    OrderRecord,
    ShipmentRecord,
    StageChange,
    Timer,
    TimerKind,
    Transaction,
)
from poolwise.flows.purchasing import placed
from poolwise.flows.source import Choice, Desk, Shelf, Written, ask, items_wanted, terms_of
from poolwise.flows.tallying import Clerk, Room, Wanted, in_transaction, moved_events
from poolwise.flows.waking import wake

INVALID: Final = "offer_invalid"
TAKEN: Final = "offer_taken"
OVER: Final = "offer_over"
HELD: Final = "order_held"
UNAVAILABLE: Final = "not_available"


@dataclass(frozen=True, slots=True)
class OfferOf:
    """An offer by name: an order's number, the shipment that is offered, and the node that it is offered to."""

    order: str
    shipment: int
    node: str


@dataclass(frozen=True, slots=True)
class Replied:
    """A reply counts. Who has claimed a shipment works on it under this number."""

    shipment: int


@dataclass(frozen=True, slots=True)
class _Known:
    """What an offer is about: the order, which is locked, the shipment offered, and what is held for it."""

    record: OrderRecord
    offered: ShipmentRecord
    parts: Sequence[Reservation]

    @property
    def until(self) -> datetime:
        """When nobody can claim it any more."""
        assert self.offered.offered_until is not None, "what is offered is offered until some time"
        return self.offered.offered_until


# --- an offer is made


def nodes_to_ask(
    transaction: Transaction,
    desk: Desk,
    record: OrderRecord,
    planned: ShipmentRecord,
    held: Sequence[Reservation],
    now: datetime,
) -> tuple[str, ...]:
    """The nodes that a shipment is to be offered to: the one it was planned for, then others that could send all of
    it, the cheapest first. None where the policy offers nothing of that node. `held` is all that is held for the order.
    """
    atlas, shipment = desk.atlas, planned.shipment
    offers, nodes = atlas.policy.policy.offers, atlas.edition.network.nodes
    node = nodes.get(shipment.node)
    if offers is None or node is None or not offers.are_made_to(node) or node.code in record.declined:
        return ()
    found = [node.code]
    parts = [part for part in held if part.shipment_no == shipment.no]
    if not _is_by_itself(parts, held):
        return (node.code,)
    order = record.order
    items = items_wanted(atlas, order)
    facts = Shelf(transaction.stock(desk.cells, items, now.date() - timedelta(days=1)), atlas).facts(items, now)
    terms = replace(terms_of(atlas, order), max_shipments=1, ship_complete=True)
    left = {
        code for code in {fact.place.node for fact in facts.stock} & nodes.keys() if offers.are_made_to(nodes[code])
    }
    left -= {node.code, *record.declined}
    while left and len(found) < offers.most:
        plan = solve(Problem(Demand(order, _demand(parts)), atlas.edition, terms, _only(facts, left)), atlas)
        if plan.unserved or len(plan.shipments) != 1:
            break
        found.append(plan.shipments[0].node)
        left.discard(found[-1])
    return tuple(found)


def _is_by_itself(parts: Sequence[Reservation], held: Sequence[Reservation]) -> bool:
    """Whether a shipment can go to another node and leave the others of the order as they are."""
    numbers, lines = {part.no for part in parts}, {part.line_no for part in parts}
    return all(stands_alone(part) or part.no in numbers for part in held if part.line_no in lines)


def _demand(parts: Sequence[Reservation]) -> tuple[tuple[int, Quantity], ...]:
    served: dict[int, Quantity] = {}
    for part in parts:
        served[part.line_no] = served.get(part.line_no, 0) + open_line_quantity(part)
    return tuple(sorted(served.items()))


def _only(facts: Facts, nodes: Collection[str]) -> Facts:
    """Facts as they are where nothing is but what lies at some nodes now."""
    stock = shelves_of(fact for fact in facts.stock if fact.place.node in nodes)
    capacity = tuple([fact for fact in facts.capacity if fact.node in nodes])
    known = [(each, tuple(fact for fact in picks if fact.node in nodes)) for each, picks in facts.misses]
    misses = tuple(ClassFact(item_class, picks) for item_class, picks in known if picks)
    return replace(facts, shelves=stock, receipts=(), capacity=capacity, misses=misses)


def told_of(record: OrderRecord, planned: ShipmentRecord, node: str = "") -> dict[str, Json]:
    """What an event says of a shipment that is offered."""
    shipment = planned.shipment
    return {"order": record.order.number, "shipment": shipment.no, "node": node or shipment.node}


def released_events(
    transaction: Transaction, desk: Desk, record: OrderRecord, released: ShipmentRecord, parts: Sequence[Reservation]
) -> list[Event]:
    """What is told when a shipment with these parts is released; of a supplier's it is a purchase order, too."""
    order, shipment, edition = record.order, released.shipment, desk.atlas.edition
    found = [Event("shipment.released", str(order.id), told_of(record, released), order.cell)]
    if supplier := edition.network.supplier_of(shipment.node):
        places = transaction.positions({part.position for part in parts})
        units: dict[str, Quantity] = {}
        for part in parts:
            item = places[part.position].key.item
            units[item] = units.get(item, 0) + part.open
        purchase = placed(edition, supplier, order, shipment.no, units)
        found.append(Event("purchase_order.placed", str(order.id), purchase, order.cell))
    return found


# --- a node replies


def claim(
    books: Books,
    desk: Desk,
    asked: OfferOf,
    now: datetime,
    answer: Callable[[Replied | Rejected], Answer] | None = None,
) -> Replied | Rejected:
    """A node takes a shipment that was offered to it, if it is the first: it is released to it at once.

    Where stock it needs is gone meanwhile the claim is refused and the offer of this node ends; nothing else changes.
    `answer` makes of the outcome what is kept as the answer; it commits with it.
    """

    def take(transaction: Transaction, known: _Known, at: datetime) -> Replied | Rejected:
        record, node = known.record, asked.node
        elsewhere = node != known.offered.shipment.node
        if record.is_held(Blocks.RELEASE) or (elsewhere and record.is_held(Blocks.SOURCING)):
            return _no(HELD, "order", f"is held: {', '.join(hold.code for hold in record.holds)}")
        if not elsewhere:
            transaction.record(_taken(transaction, desk, known, at))
            return Replied(asked.shipment)
        shipment = _take_over(transaction, desk, known, node, at)
        if shipment is not None:
            return Replied(shipment)
        ended, reason = _ended(desk, known, node, at), "what it needs is no longer there"
        transaction.record(replace(ended, events=[_event(known, "offer.withdrawn", {"node": node, "reason": reason})]))
        return _no(UNAVAILABLE, "node", f"{node}: {reason}")

    return _reply(books, asked, now, take, Replied(asked.shipment), answer)


def decline(
    books: Books,
    desk: Desk,
    asked: OfferOf,
    now: datetime,
    answer: Callable[[Replied | Rejected], Answer] | None = None,
) -> Replied | Rejected:
    """A node will not take what was offered to it: the order is served without it from now on.

    When all have declined the order is sourced again at once.
    """

    def let_go(transaction: Transaction, known: _Known, at: datetime) -> Replied | Rejected:
        record, node = known.record, asked.node
        declined = record.declined if node in record.declined else (*record.declined, node)
        milestone = _milestone(desk, known, "offer_declined", at, {"node": node})
        ended = _ended(desk, known, node, at)
        transaction.record(
            replace(
                ended,
                orders_changed=[replace(record, declined=declined)],
                milestones=[milestone],
                events=[_event(known, "offer.declined", {"node": node})],
                audit=[Audit(desk.actor, "offer.decline", str(record.order.id), told_of(record, known.offered, node))],
            )
        )
        return Replied(asked.shipment)

    has_it = _no(TAKEN, "node", f"'{asked.node}' has it already; report it as declined")
    return _reply(books, asked, now, let_go, has_it, answer)


def _reply(
    books: Books,
    asked: OfferOf,
    now: datetime,
    do: Callable[[Transaction, _Known, datetime], Replied | Rejected],
    has_it: Replied | Rejected,
    answer: Callable[[Replied | Rejected], Answer] | None,
) -> Replied | Rejected:
    """What becomes of a reply: `do` it if the offer stands; `has_it` where the node has the shipment already."""

    def work(transaction: Transaction, _: Wanted, at: datetime) -> Replied | Rejected:
        match _known(transaction, asked, at):
            case _Known() as known:
                found = do(transaction, known, at)
            case None:
                found = has_it
            case refused:
                found = refused
        if answer is not None:
            transaction.record(Effects(at=at, answers=[answer(found)]))
        return found

    return in_transaction(books, now, work)


def _no(code: str, field: str, reason: str) -> Rejected:
    return Rejected(code, (Fault(field, reason),))


def _known(transaction: Transaction, asked: OfferOf, now: datetime) -> _Known | Rejected | None:
    """The offer, if it stands; the order is locked. Else why it does not; None if the node has the shipment already."""
    id_ = transaction.order_numbered([asked.order]).get(asked.order)
    record = None if id_ is None else transaction.orders([id_], lock=True)[id_]
    if id_ is None or record is None or record.state is OrderState.BASKET:
        return _no(INVALID, "order", f"there is no order '{asked.order}'")
    offered = {each.shipment.no: each for each in transaction.shipments(id_)}.get(asked.shipment)
    if offered is None:
        return _no(
            INVALID, "shipment", f"order '{asked.order}' has no shipment {asked.shipment}, or it was planned anew"
        )
    node, stage = asked.node, offered.stage
    if stage is Stage.CANCELLED and not offered.offered_to:
        return _no(OVER, "shipment", f"shipment {asked.shipment} is not to be sent any more")
    if node not in offered.offered_to:
        if node in record.declined:
            return _no(OVER, "node", f"'{node}' has declined it, or let its time pass")
        return _no(INVALID, "node", f"shipment {asked.shipment} is not offered to '{node}'")
    if stage is Stage.OFFERED and offered.offered_until is not None and offered.offered_until > now:
        parts = [p for p in transaction.reservations(id_) if p.open and p.shipment_no == asked.shipment]
        return _Known(record, offered, parts)
    if stage in HELD_BACK or node in record.declined:
        return _no(OVER, "shipment", f"the offer of shipment {asked.shipment} is over")
    if stage is not Stage.CANCELLED and node == offered.shipment.node:
        return None
    return _no(TAKEN, "shipment", f"shipment {asked.shipment} is taken already")


def _event(known: _Known, kind: str, more: Mapping[str, Json]) -> Event:
    told = {**told_of(known.record, known.offered), **more}
    return Event(kind, str(known.record.order.id), told, known.record.order.cell)


def _milestone(desk: Desk, known: _Known, kind: str, now: datetime, detail: Mapping[str, Json]) -> Milestone:
    offered = known.offered
    return Milestone(offered.cell, offered.owner, desk.ids.new(now), offered.shipment.no, kind, now, desk.actor, detail)


def _ended(desk: Desk, known: _Known, node: str, now: datetime) -> Effects:
    """One node is out. The last of them is not: the time of the offer is over instead."""
    offered, order = known.offered, known.record.order
    left = tuple(code for code in offered.offered_to if code != node)
    is_over = not left
    offer = Offered(offered.cell, order.id, offered.shipment.no, left or (node,), now if is_over else known.until)
    return Effects(
        at=now,
        offers=[offer],
        timers_dropped=[(order.cell, order.id, TimerKind.RELEASE)] if is_over else [],
        timers=[Timer(order.cell, TimerKind.RELEASE, order.id, now)] if is_over else [],
        audit=[Audit(desk.actor, "offer.end", str(order.id), told_of(known.record, offered, node))],
    )


def _taken(transaction: Transaction, desk: Desk, known: _Known, now: datetime) -> Effects:
    """The node that it was planned for has claimed it."""
    offered, no = known.offered, known.offered.shipment.no
    record = _released(known.record, [(part.line_no, open_line_quantity(part)) for part in known.parts])
    told = told_of(record, offered)
    return Effects(
        at=now,
        orders_changed=[record],
        stages=[StageChange(offered.cell, offered.owner, no, Stage.OFFERED, Stage.RELEASED)],
        milestones=[_milestone(desk, known, kind, now, {}) for kind in ("claimed", "released")],
        events=[
            _event(known, "offer.claimed", {}),
            *released_events(transaction, desk, record, offered, known.parts),
        ],
        audit=[Audit(desk.actor, "offer.claim", str(record.order.id), told)],
    )


def _released(record: OrderRecord, units: Sequence[tuple[int, Quantity]]) -> OrderRecord:
    """An order of which a node works on some units of its lines, which were reserved."""
    lines = dict(zip((line.no for line in record.order.lines), record.lines, strict=True))
    for no, quantity in units:
        before: Progress = lines[no]
        lines[no] = replace(before, reserved=before.reserved - quantity, released=before.released + quantity)
    after = tuple(lines.values())
    return replace(record, lines=after, state=state_of(after))


def _take_over(transaction: Transaction, desk: Desk, known: _Known, node: str, now: datetime) -> int | None:
    """Decide the demand anew on what lies at another node, under the lock: the number of its shipment, released.

    None where that node cannot send all of it any more; then nothing is recorded.
    """
    atlas, id_ = desk.atlas, known.record.order.id
    if not _is_by_itself(known.parts, [part for part in transaction.reservations(id_) if part.open]):
        return None
    cells = {code: each.cell for code, each in atlas.edition.network.nodes.items()}
    batch = desk.ids.new(now)
    breaks = [Break(part, part.open) for part in known.parts]
    mended = mend(
        transaction, {id_: known.record}, breaks, {}, lambda code: cells[code], batch, desk.ids, now, {id_: {}}
    )
    ((record,), (todo,)) = mended.orders, mended.todo
    asked = ask(atlas, todo)
    there = {id_ for id_, each in transaction.positions_of(asked.items).items() if each.key.node == node}
    places = transaction.positions(there | {part.position for part in known.parts}, lock=True)
    shelf = Shelf(transaction.stock(desk.cells, asked.items, now.date() - timedelta(days=1)), atlas)
    facts = _only(shelf.facts(asked.items, now), {node})
    plan = solve(Problem(Demand(todo.order, todo.open), atlas.edition, asked.terms, facts), atlas)
    if plan.unserved or len(plan.shipments) != 1:
        return None
    written = Written(desk, Choice(todo, facts, plan), record, now)
    released = released_events(transaction, desk, record, written.shipments[0], written.reservations)
    effects = _taken_over(desk, known, mended, written, batch, places)
    transaction.record(replace(effects, events=[*effects.events, *released]))
    freed = {places[part.position].key.item for part in known.parts}
    wake(transaction, atlas.edition.catalog, {*freed, ROOM} if mended.capacity else freed, now)
    return written.shipments[0].shipment.no


def _taken_over(
    desk: Desk, known: _Known, mended: Mended, written: Written, batch: UUID, places: Mapping[int, Position]
) -> Effects:
    """What was held is given back, and what lies at the other node is taken and released, in one go."""
    network, now = desk.atlas.edition.network, written.now
    offered, (new,) = known.offered, written.shipments
    record = _released(written.order(), [(part.line_no, part.line_quantity) for part in written.reservations])
    freed = [
        Movement(part.position, Account.RESERVED, Account.AVAILABLE, part.open, Cause.FREE, batch)
        for part in known.parts
    ]
    freed += mended.movements
    node, no = new.shipment.node, new.shipment.no
    told = told_of(record, new)
    claimed: dict[str, Json] = {"node": node, "instead_of": offered.shipment.node, "as": no}
    released = Milestone(new.cell, new.owner, desk.ids.new(now), no, "released", now, desk.actor, {})
    return Effects(
        at=now,
        movements=[*freed, *written.movements],
        reservations=written.reservations,
        reservation_ends=mended.ends,
        receipt_changes=mended.receipts,
        capacity=[
            *mended.capacity,
            *bookings_of(network, [new], hard=desk.atlas.policy.policy.capacity_is_hard),
        ],
        shipments=[*mended.shipments, new],
        shipments_dropped=mended.shipments_dropped,
        offers=[Offered(offered.cell, offered.owner, offered.shipment.no, offered.offered_to, known.until)],
        stages=[*mended.stages, StageChange(new.cell, new.owner, no, Stage.PLANNED, Stage.RELEASED)],
        milestones=[_milestone(desk, known, "claimed", now, claimed), released],
        orders_changed=[record],
        decisions=[written.decision(batch, 0, Packer())],
        events=[
            *moved_events(batch, freed, {id_: place.cell for id_, place in places.items()}),
            Event("order.sourced", str(written.owner), written.event(), written.cell),
            _event(known, "offer.claimed", claimed),
        ],
        audit=[Audit(desk.actor, "offer.claim", str(written.owner), {**told, "instead_of": offered.shipment.node})],
    )


# --- nobody has claimed it


def expire(transaction: Transaction, desk: Desk, overdue: Sequence[tuple[UUID, int]], now: datetime) -> None:
    """The time of some offers, by order and shipment, is over: the nodes asked have declined, and the orders, which are
    locked, are sourced again without them."""
    orders = sorted({order for order, _ in overdue})
    held = {order: [part for part in transaction.reservations(order) if part.open] for order in orders}
    places = transaction.positions({part.position for parts in held.values() for part in parts})
    gone = {(order, no): [part for part in held[order] if part.shipment_no == no] for order, no in overdue}
    keys = {places[part.position].key: None for parts in gone.values() for part in parts}
    room = Room(transaction, Clerk(desk.atlas.edition, desk.ids, desk.actor), Wanted(set(orders)), keys, now)
    said = Statement(Cause.DECLINE, room.batch, now)
    for order in orders:
        record = room.orders[order]
        by_no = {each.shipment.no: each for each in transaction.shipments(order)}
        for offered in [by_no[no] for owner, no in overdue if owner == order]:
            known = _Known(record, offered, gone[order, offered.shipment.no])
            for part in known.parts:
                room.tally(places[part.position].key).move(Account.RESERVED, Account.AVAILABLE, part.open, said)
                room.also.breaks.append(Break(part, part.open))
            room.also.offers.append(Offered(offered.cell, order, offered.shipment.no, offered.offered_to, known.until))
            asked: dict[str, Json] = {"nodes": list(offered.offered_to)}
            room.also.milestones.append(_milestone(desk, known, "offer_expired", now, asked))
            room.also.events.append(_event(known, "offer.expired", asked))
            record = replace(record, declined=tuple(dict.fromkeys((*record.declined, *offered.offered_to))))
        room.also.orders[order] = record
        room.also.given_up[order] = {}
    room.record("offers.expire", {"offers": len(overdue)})
