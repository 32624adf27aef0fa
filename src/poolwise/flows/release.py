"""Release: what is due of an order's shipments goes to their nodes, or is offered to several (ADR 0018).

Keeps laws 4, 6 and 13. A shipment is released on the day it leaves, a while after it was decided and never past the
cut-off (core.fulfilment), once all of it is on hand and no hold is in the way; what is not due has its timer set again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from poolwise.core.fulfilment import Stage, release_at
from poolwise.core.ledger import Reservation
from poolwise.core.network import Node
from poolwise.core.orders import Blocks, OrderState, state_of
from poolwise.core.values import Json, replace
from poolwise.flows.breaking import open_line_quantity
from poolwise.flows.offers import nodes_to_ask, released_events, told_of
from poolwise.flows.ports import (
    Audit,
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
from poolwise.flows.source import Desk, tomorrow


def release(
    transaction: Transaction, desk: Desk, records: Sequence[OrderRecord], now: datetime
) -> tuple[Effects, list[tuple[UUID, int]]]:
    """Release what is due of some orders, which are locked, or offer it; what is not due has its timer set again.

    The second are shipments, by order and number, that were offered and nobody has claimed in time.
    """
    due = _Due(transaction, desk, now)
    for record in records:
        if record.state is not OrderState.BASKET:
            due.look_at(record)
    return due.effects(), due.overdue


class _Due:
    """What is due of the shipments of some orders."""

    def __init__(self, transaction: Transaction, desk: Desk, now: datetime) -> None:
        self._transaction, self._desk, self._now = transaction, desk, now
        self._stages: list[StageChange] = []
        self._milestones: list[Milestone] = []
        self._offers: list[Offered] = []
        self._changed: list[OrderRecord] = []
        self._timers: list[Timer] = []
        self._events: list[Event] = []
        self.overdue: list[tuple[UUID, int]] = []

    def look_at(self, record: OrderRecord) -> None:
        """All shipments of an order that is no basket."""
        order, again = record.order, list[datetime]()
        reservations = [part for part in self._transaction.reservations(order.id) if part.open]
        held = _held_by_shipment(reservations)
        lines = dict(zip((line.no for line in order.lines), record.lines, strict=True))
        for planned in self._transaction.shipments(order.id):
            parts = held.get(planned.shipment.no, ())
            if planned.stage is Stage.OFFERED:
                self._look_at_offer(record, planned, again)
            elif planned.stage is Stage.PLANNED and parts and not record.is_held(Blocks.RELEASE):
                if (later := self._not_before(planned, parts)) is not None:
                    again.append(later)
                elif nodes := nodes_to_ask(self._transaction, self._desk, record, planned, reservations, self._now):
                    again.append(self._offer(record, planned, nodes))
                else:
                    for part in parts:
                        lines[part.line_no] = lines[part.line_no].moved(
                            open_line_quantity(part), "reserved", "released"
                        )
                    self._go_on(record, planned, Stage.RELEASED, {})
                    self._events += released_events(self._transaction, self._desk, record, planned, parts)
        after = tuple(lines.values())
        if after != record.lines:
            self._changed.append(replace(record, lines=after, state=state_of(after)))
        if again:
            self._timers.append(Timer(order.cell, TimerKind.RELEASE, order.id, min(again)))

    def _not_before(self, planned: ShipmentRecord, parts: Sequence[Reservation]) -> datetime | None:
        """When a shipment is to be looked at again, if it is not due."""
        shipment, now = planned.shipment, self._now
        # One that is no longer in the network still has what it was given.
        node = self._desk.atlas.edition.network.nodes.get(shipment.node, Node(shipment.node))
        minutes = self._desk.atlas.policy.policy.release_after_minutes
        due = release_at(node, shipment.ship_on, max(part.made_at for part in parts), minutes)
        if due > now:
            return due
        # What is pledged is not there yet: it is looked for again when a day begins.
        is_pledged = any(part.receipt is not None for part in parts)
        return tomorrow(now, node.time_zone) if is_pledged else None

    def _look_at_offer(self, record: OrderRecord, planned: ShipmentRecord, again: list[datetime]) -> None:
        assert planned.offered_until is not None, "what is offered is offered until some time"
        if planned.offered_until > self._now:
            again.append(planned.offered_until)
        elif record.is_held(Blocks.RELEASE):
            # Nobody could claim it.
            self._go_on(record, planned, Stage.PLANNED, {})
        else:
            self.overdue.append((record.order.id, planned.shipment.no))

    def _offer(self, record: OrderRecord, planned: ShipmentRecord, nodes: tuple[str, ...]) -> datetime:
        offers = self._desk.atlas.policy.policy.offers
        assert offers is not None, "who offers nothing asks nobody"
        until = self._now + timedelta(minutes=offers.minutes)
        self._offers.append(Offered(planned.cell, planned.owner, planned.shipment.no, nodes, until))
        self._go_on(record, planned, Stage.OFFERED, {"nodes": list(nodes), "until": until.isoformat()})
        return until

    def _go_on(self, record: OrderRecord, planned: ShipmentRecord, stage: Stage, detail: Mapping[str, Json]) -> None:
        desk, no, now = self._desk, planned.shipment.no, self._now
        self._stages.append(StageChange(planned.cell, planned.owner, no, planned.stage, stage))
        kind, event = _TOLD[stage]
        self._milestones.append(
            Milestone(planned.cell, planned.owner, desk.ids.new(now), no, kind, now, desk.actor, detail)
        )
        if event:
            told = {**told_of(record, planned), **detail}
            self._events.append(Event(event, str(planned.owner), told, record.order.cell))

    def effects(self) -> Effects:
        """All of it."""
        told: dict[str, Json] = {"shipments": len(self._stages)}
        return Effects(
            at=self._now,
            orders_changed=self._changed,
            offers=self._offers,
            stages=self._stages,
            milestones=self._milestones,
            timers=self._timers,
            events=self._events,
            audit=[Audit(self._desk.actor, "shipments.release", "", told)] if self._stages else [],
        )


_TOLD: Final = {
    Stage.RELEASED: ("released", ""),
    Stage.OFFERED: ("offered", "offer.made"),
    Stage.PLANNED: ("offer_withdrawn", "offer.withdrawn"),
}
"""Milestone and event of a shipment that comes to a stage when it is due; of release more is told."""


def _held_by_shipment(reservations: Sequence[Reservation]) -> dict[int, list[Reservation]]:
    found: dict[int, list[Reservation]] = {}
    for part in reservations:
        if part.open:
            found.setdefault(part.shipment_no, []).append(part)
    return found
