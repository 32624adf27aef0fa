"""Fulfilment: what a node has to send, and what nodes and carriers report of it.

A report has its effect once, by its own id, in whatever order reports come (ADR 0017); its answer commits with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from poolwise.core.fulfilment import Stage
from poolwise.core.messages import ReportKind, ReportLine, ReportParcel, ShipmentReport
from poolwise.core.values import Refused
from poolwise.flows.execute import book_report
from poolwise.flows.intake import Rejected
from poolwise.flows.ports import Answer
from poolwise.flows.stock import Outcome, Result
from poolwise.flows.tallying import Clerk
from poolwise.flows.views import CountQuery, PickQuery
from poolwise.web.endpoint import Call, Nothing, Reply
from poolwise.web.errors import refused
from poolwise.web.forms import Code, Cursor, Decimal, Limit, Text, from_cursor, page_of, quantity_text, to_cursor
from poolwise.web.idempotency import kept, kept_refusal, once
from poolwise.web.orders import MOST_LINES, url_of
from poolwise.web.parcels import ParcelOut, left_out, proposed_out
from poolwise.web.stock import Instant

REFUSAL: Final = "report_invalid"
MOST_PARCELS: Final = 1_000

# --- reports ------------------------------------------------------------------------------------------------------


class ReportLineIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units of an item, in its own unit."""

    item: Code
    quantity: Decimal


class ReportParcelIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A parcel that has left, by the carrier's number; `box` is your name of its size."""

    tracking: Code
    box: Text = ""
    lines: Annotated[list[ReportLineIn], Meta(max_length=MOST_LINES)] = []


class ReportIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a shipment, by an id of yours: booked once, in any order.

    `lines` are what was not found (short) or what has left (shipped); a shipment that leaves whole needs none. All
    other kinds are of the whole shipment. `tracking` is the carrier's number, `node` the stop at which it has arrived.
    What has shipped may name its `parcels` instead: without `lines`, what is in them has left, or all of it where none
    of them has lines.
    """

    id: Code
    order: Code
    shipment: Annotated[int, Meta(ge=1, le=2**62)]
    kind: ReportKind
    at: Instant
    lines: Annotated[list[ReportLineIn], Meta(max_length=MOST_LINES)] = []
    tracking: Text = ""
    parcels: Annotated[list[ReportParcelIn], Meta(max_length=MOST_PARCELS)] = []
    node: Text = ""


class ReportedOut(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a report: `booked`; `unchanged` when all it says had happened already; `duplicate` by its
    id; `cancelled` when a node has in hand what it need not send any more.
    """

    outcome: Outcome


def create_report(call: Call[Nothing, ReportIn]) -> Reply:
    """Report that a shipment was accepted, short, declined, picked, shipped in part or whole, has arrived at a stop on
    its way, is ready to be collected, was delivered (or collected), or was not.

    A report counts for what has happened already, so that reports may come late, twice or in any order. What is not
    found is blocked where it should be, what is declined is free again; in both cases the rest of the order is sourced
    again at once, without that node. What was cancelled before it was picked answers `cancelled`: it goes back to its
    shelf. What has left is gone, whatever was asked for. A report that is wrong changes nothing (422, with every fault
    by its field).
    """
    services, sent = call.services, call.body
    clerk = Clerk(services.rules.current().edition, services.ids, call.actor.party)
    report = ShipmentReport(
        id=sent.id,
        order=sent.order,
        shipment=sent.shipment,
        kind=sent.kind,
        at=sent.at,
        lines=lines_of(sent.lines),
        tracking=sent.tracking,
        parcels=tuple([ReportParcel(tracking=p.tracking, box=p.box, lines=lines_of(p.lines)) for p in sent.parcels]),
        node=sent.node,
    )

    def keep(result: Result) -> Answer:
        if result.outcome is Outcome.REFUSED:
            return kept_refusal(call.key, Rejected(REFUSAL, result.faults))
        return kept(call.key, 200, result.outcome.value)

    def do() -> Reply:
        result = book_report(services.books, clerk, report, call.now, keep)
        if result.outcome is Outcome.REFUSED:
            raise Refused(REFUSAL, result.faults)
        return Reply(200, ReportedOut(outcome=result.outcome))

    def again(known: Answer) -> Reply:
        return Reply(200, ReportedOut(outcome=Outcome(known.reference)))

    return once(services.books, call.key, do, again, look_first=True)


def lines_of(lines: Sequence[ReportLineIn]) -> tuple[ReportLine, ...]:
    """Lines as the flows read them."""
    return tuple([ReportLine(item=line.item, quantity=line.quantity) for line in lines])


# --- pick lists ---------------------------------------------------------------------------------------------------


class ShipmentsAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which node, and how far it has come: what is to be picked there (the default), is picked, or waits to be
    collected. Or, in place of `node`, what is collected at a node, wherever it comes from: what waits there (the
    default), is on its way, or is yet to be sent.
    """

    node: Text = ""
    collect_at: Text = ""
    stage: Literal["released", "picked", "shipped", "ready"] | None = None
    cursor: Cursor = ""
    limit: Limit = 50


class PickLineOut(msgspec.Struct, frozen=True, kw_only=True):
    """Units still to be sent or handed out, in the unit of their item, and where they lie; of a parcel, lay."""

    item: str
    pool: str
    lot: str
    quantity: Decimal


class PickListOut(msgspec.Struct, frozen=True, kw_only=True):
    """A shipment that the node works on. Reports name it by `order` and `shipment`. What has `collect_at` is handed out
    there, when it has arrived where it comes from another node.

    `parcels` are how to pack what is in `lines`, until it is packed: a proposal, made anew whenever somebody asks. Of
    what is sent to the node where it is collected, they are those that have left.
    """

    order: str
    shipment: int
    node: str
    collect_at: str
    stage: Stage
    ship_on: date
    arrive_by: date
    lines: list[PickLineOut]
    parcels: list[ParcelOut]
    url: str


class ShipmentsOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of pick lists, those that leave first at first."""

    shipments: list[PickListOut]
    next: str | None


def list_shipments(call: Call[ShipmentsAsked, Nothing]) -> Reply:
    """List what a node has in hand: the shipments released to it, or picked, with what of them has not left yet.

    Or, with `collect_at`, what it has to hand out to customers who collect it there.
    """
    asked, edition = call.query, call.services.rules.current().edition
    if bool(asked.node) == bool(asked.collect_at):
        raise refused("query_invalid", "name one of node and collect_at", "node")
    if asked.node and asked.stage == "shipped":
        raise refused("query_invalid", "what has left a node is not listed there; ask with collect_at", "stage")
    query = PickQuery(
        node=asked.node or asked.collect_at,
        stage=Stage(asked.stage or ("ready" if asked.collect_at else "released")),
        after=from_cursor(asked.cursor, tuple[date, UUID, int]) if asked.cursor else None,
        limit=asked.limit + 1,
        collected=bool(asked.collect_at),
    )
    found, more = page_of(call.services.views.pick_lists(query), asked.limit)
    last = found[-1] if more else None
    shown = [
        PickListOut(
            order=each.number,
            shipment=each.shipment_no,
            node=each.node,
            collect_at=each.collect_at,
            stage=query.stage,
            ship_on=each.ship_on,
            arrive_by=each.arrive_by,
            lines=[
                PickLineOut(
                    item=line.item,
                    pool=line.pool,
                    lot=line.lot,
                    quantity=quantity_text(edition.catalog, line.item, line.quantity),
                )
                for line in each.lines
            ],
            parcels=proposed_out(edition, each.node, [(line.item, line.quantity) for line in each.lines])
            if query.stage in (Stage.RELEASED, Stage.PICKED)
            else left_out(each.parcels),
            url=url_of(each.number, each.order),
        )
        for each in found
    ]
    next_ = None if last is None else to_cursor(last.ship_on, last.order, last.shipment_no)
    return Reply(200, ShipmentsOut(shipments=shown, next=next_))


# --- count tasks --------------------------------------------------------------------------------------------------


class CountTasksAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which node."""

    node: Code
    cursor: Cursor = ""
    limit: Limit = 50


class CountTaskOut(msgspec.Struct, frozen=True, kw_only=True):
    """Where somebody must count: something was not found there for a shipment of an order.

    `blocked` is what nobody is promised until then, in the unit of the item.
    """

    item: str
    node: str
    pool: str
    lot: str
    blocked: Decimal
    since: datetime
    order: str | None
    shipment: int | None
    url: str | None


class CountTasksOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of count tasks, the oldest first."""

    count_tasks: list[CountTaskOut]
    next: str | None


def list_count_tasks(call: Call[CountTasksAsked, Nothing]) -> Reply:
    """List what is to be counted at a node. A count of the position, as of a later time, ends its task."""
    asked, catalog = call.query, call.services.rules.current().edition.catalog
    after = from_cursor(asked.cursor, tuple[datetime, int]) if asked.cursor else None
    query = CountQuery(node=asked.node, after=after, limit=asked.limit + 1)
    found, more = page_of(call.services.views.count_tasks(query), asked.limit)
    shown = [
        CountTaskOut(
            item=each.item,
            node=each.node,
            pool=each.pool,
            lot=each.lot,
            blocked=quantity_text(catalog, each.item, each.blocked),
            since=each.since,
            order=each.number,
            shipment=each.shipment_no,
            url=None if each.number is None or each.order is None else url_of(each.number, each.order),
        )
        for each in found
    ]
    next_ = to_cursor(found[-1].since, found[-1].position) if more else None
    return Reply(200, CountTasksOut(count_tasks=shown, next=next_))
