"""The network and the catalogue in force, and the policies: read from the current edition, page by page, by code."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from poolwise.core.catalog import Item
from poolwise.core.network import Box, CapacityUnit, Echelon, Lane, Network, Node, NodeStatus, Pool, Zone
from poolwise.core.picking import miss_ppm
from poolwise.core.values import MICROGRAMS_PER_KG, base_to_text
from poolwise.flows.views import PickRecord, PolicyHead
from poolwise.web.endpoint import Call, Nothing, Reply
from poolwise.web.forms import Code, Cursor, Decimal, Limit, from_cursor, page_of, to_cursor

_T = TypeVar("_T")
_Out = TypeVar("_Out")
_MILLION_PLACES: Final = 6
_PERCENT_PLACES: Final = 4
_KILOGRAM_PLACES: Final = len(str(MICROGRAMS_PER_KG)) - 1


class PageAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page."""

    cursor: Cursor = ""
    limit: Limit = 100


class SlotOut(msgspec.Struct, frozen=True, kw_only=True):
    """Work a node accepts in a part of a day, in local time."""

    unit: CapacityUnit
    limit: int
    since: str
    until: str
    weekdays: Annotated[list[int], Meta(description="0 is Monday.")]
    only_on: str | None


class BoxOut(msgspec.Struct, frozen=True, kw_only=True):
    """A size of packaging: inner sides, the heaviest contents, and the share of its volume that can be used."""

    code: str
    length_mm: int
    width_mm: int
    height_mm: int
    max_weight_kg: Decimal
    fill: Decimal
    tare_kg: Decimal


class NodeOut(msgspec.Struct, frozen=True, kw_only=True):
    """A place that holds or passes stock. `boxes` are those in which it packs, its own or those of every node."""

    code: str
    name: str
    echelon: Echelon
    kind: str
    status: NodeStatus
    cell: int
    country: str
    postcode: str
    latitude: Decimal | None
    longitude: Decimal | None
    time_zone: str
    calendar: str
    cut_off: str
    handling_days: int
    capabilities: list[str]
    service_area: list[str]
    customers: list[str]
    partner: str
    slots: list[SlotOut]
    boxes: list[BoxOut]


class PoolOut(msgspec.Struct, frozen=True, kw_only=True):
    """Stock set aside for a purpose; empty lists mean everybody. `protection` counts base units."""

    code: str
    name: str
    channels: list[str]
    customers: list[str]
    zones: list[str]
    protection: int
    per_unit: Decimal
    per_kg: Decimal


class ZoneOut(msgspec.Struct, frozen=True, kw_only=True):
    """Destinations treated alike."""

    code: str
    country: str
    postcode_prefixes: list[str]
    latitude: Decimal | None
    longitude: Decimal | None
    time_zone: str
    cell: int
    collect_at: Annotated[str, Meta(description="The node at which its orders are collected; empty for all others.")]


class TransitOut(msgspec.Struct, frozen=True, kw_only=True):
    """A transit time and how often it comes, in parts per million."""

    working_days: int
    share_ppm: int


class LaneOut(msgspec.Struct, frozen=True, kw_only=True):
    """From a node to a zone, or to another node, by a carrier service."""

    code: str
    origin: str
    destination: str
    to_node: bool
    carrier: str
    service: str
    service_levels: list[str]
    rates: str
    transit: list[TransitOut]
    calendar: str
    cut_off: str
    distance_km: int
    carries: list[str]


class ItemOut(msgspec.Struct, frozen=True, kw_only=True):
    """What is ordered and counted. `scale` is the number of decimal places of a quantity."""

    code: str
    product: str
    name: str
    unit: str
    scale: int
    weight_kg: Decimal
    length_mm: int
    width_mm: int
    height_mm: int
    unit_cost: Decimal | None
    requires: list[str]


class PolicyOut(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a policy by name."""

    family: str
    code: str
    version: int
    state: str
    made_by: str
    made_at: datetime
    active_from: datetime | None


class PicksAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page, of all nodes or of one."""

    node: Code = ""
    cursor: Cursor = ""
    limit: Limit = 100


class PickRecordOut(msgspec.Struct, frozen=True, kw_only=True):
    """Order lines of a class of items (`product`; "" for items that have none) that a node found, and missed.

    `miss_percent` is how likely the next one is missed, as sourcing reckons: 2 % where nothing is known of a node.
    """

    node: str
    product: str
    found: int
    missed: int
    miss_percent: Decimal


class PicksOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of records of nodes."""

    picks: list[PickRecordOut]
    next: str | None


class NodesOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of nodes of an edition."""

    edition: str
    nodes: list[NodeOut]
    next: str | None


class PoolsOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of pools of an edition."""

    edition: str
    pools: list[PoolOut]
    next: str | None


class ZonesOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of zones of an edition."""

    edition: str
    zones: list[ZoneOut]
    next: str | None


class LanesOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of lanes of an edition."""

    edition: str
    lanes: list[LaneOut]
    next: str | None


class ItemsOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of items of an edition."""

    edition: str
    items: list[ItemOut]
    next: str | None


class PoliciesOut(msgspec.Struct, frozen=True, kw_only=True):
    """A page of versions of policies."""

    policies: list[PolicyOut]
    next: str | None


def list_nodes(call: Call[PageAsked, Nothing]) -> Reply:
    """List nodes by code."""
    edition = call.services.rules.current().edition
    nodes, next_ = _page(call, edition.network.nodes, partial(node_out, edition.network))
    return Reply(200, NodesOut(edition=edition.hash, nodes=nodes, next=next_))


def list_pools(call: Call[PageAsked, Nothing]) -> Reply:
    """List pools by code."""
    edition = call.services.rules.current().edition
    pools, next_ = _page(call, edition.network.pools, pool_out)
    return Reply(200, PoolsOut(edition=edition.hash, pools=pools, next=next_))


def list_zones(call: Call[PageAsked, Nothing]) -> Reply:
    """List zones by code."""
    edition = call.services.rules.current().edition
    zones, next_ = _page(call, edition.network.zones, zone_out)
    return Reply(200, ZonesOut(edition=edition.hash, zones=zones, next=next_))


def list_lanes(call: Call[PageAsked, Nothing]) -> Reply:
    """List lanes by code."""
    edition = call.services.rules.current().edition
    lanes, next_ = _page(call, edition.network.lanes, lane_out)
    return Reply(200, LanesOut(edition=edition.hash, lanes=lanes, next=next_))


def list_items(call: Call[PageAsked, Nothing]) -> Reply:
    """List items by code."""
    edition = call.services.rules.current().edition
    items, next_ = _page(call, edition.catalog.items, item_out)
    return Reply(200, ItemsOut(edition=edition.hash, items=items, next=next_))


def list_picks(call: Call[PicksAsked, Nothing]) -> Reply:
    """List what nodes found of what they were to send, and what not, by node and product."""
    asked = call.query
    after = from_cursor(asked.cursor, tuple[str, str]) if asked.cursor else ("", "")
    page, more = page_of(call.services.views.pick_records(asked.node, after, asked.limit + 1), asked.limit)
    next_ = to_cursor(page[-1].node, page[-1].item_class) if more else None
    return Reply(200, PicksOut(picks=[pick_record_out(record) for record in page], next=next_))


def list_policies(call: Call[PageAsked, Nothing]) -> Reply:
    """List versions of policies by family and code, the newest version first."""
    heads = call.services.views.policies()
    begin = from_cursor(call.query.cursor, tuple[int])[0] if call.query.cursor else 0
    page, more = page_of(heads[max(begin, 0) :][: call.query.limit + 1], call.query.limit)
    next_ = to_cursor(begin + len(page)) if more else None
    return Reply(200, PoliciesOut(policies=[policy_out(head) for head in page], next=next_))


def _page(
    call: Call[PageAsked, Nothing], of: Mapping[str, _T], show: Callable[[_T], _Out]
) -> tuple[list[_Out], str | None]:
    """A page of things by code, and the cursor of the next one."""
    codes = sorted(of)
    begin = bisect_right(codes, from_cursor(call.query.cursor, tuple[str])[0]) if call.query.cursor else 0
    page, more = page_of(codes[begin : begin + call.query.limit + 1], call.query.limit)
    return [show(of[code]) for code in page], to_cursor(page[-1]) if more else None


def _degrees(udeg: int | None) -> str | None:
    return None if udeg is None else base_to_text(udeg, _MILLION_PLACES)


def node_out(network: Network, node: Node) -> NodeOut:
    """A node as the API shows it."""
    return NodeOut(
        code=node.code,
        name=node.name,
        echelon=node.echelon,
        kind=node.kind,
        status=node.status,
        cell=node.cell,
        country=node.country,
        postcode=node.postcode,
        latitude=_degrees(node.latitude_udeg),
        longitude=_degrees(node.longitude_udeg),
        time_zone=node.time_zone,
        calendar=node.calendar,
        cut_off=node.cut_off.isoformat("minutes"),
        handling_days=node.handling_days,
        capabilities=sorted(node.capabilities),
        service_area=sorted(node.service_area),
        customers=sorted(node.customers),
        partner=node.partner,
        slots=[
            SlotOut(
                unit=slot.unit,
                limit=slot.limit,
                since=slot.since.isoformat("minutes"),
                until=slot.until.isoformat("minutes"),
                weekdays=sorted(slot.weekdays),
                only_on=None if slot.only_on is None else slot.only_on.isoformat(),
            )
            for slot in node.slots
        ],
        boxes=[box_out(box) for box in network.boxes_of(node.code)],
    )


def box_out(box: Box) -> BoxOut:
    """A box as the API shows it."""
    return BoxOut(
        code=box.code,
        length_mm=box.length_mm,
        width_mm=box.width_mm,
        height_mm=box.height_mm,
        max_weight_kg=base_to_text(box.most_weight_ug, _KILOGRAM_PLACES),
        fill=base_to_text(box.fill_ppm, _MILLION_PLACES),
        tare_kg=base_to_text(box.tare_ug, _KILOGRAM_PLACES),
    )


def pool_out(pool: Pool) -> PoolOut:
    """A pool as the API shows it."""
    return PoolOut(
        code=pool.code,
        name=pool.name,
        channels=sorted(pool.channels),
        customers=sorted(pool.customers),
        zones=sorted(pool.zones),
        protection=pool.protection,
        per_unit=str(pool.per_unit),
        per_kg=str(pool.per_kg),
    )


def zone_out(zone: Zone) -> ZoneOut:
    """A zone as the API shows it."""
    return ZoneOut(
        code=zone.code,
        country=zone.country,
        postcode_prefixes=list(zone.postcode_prefixes),
        latitude=_degrees(zone.latitude_udeg),
        longitude=_degrees(zone.longitude_udeg),
        time_zone=zone.time_zone,
        cell=zone.cell,
        collect_at=zone.collect_at,
    )


def lane_out(lane: Lane) -> LaneOut:
    """A lane as the API shows it."""
    return LaneOut(
        code=lane.code,
        origin=lane.origin,
        destination=lane.destination,
        to_node=lane.to_node,
        carrier=lane.carrier,
        service=lane.service,
        service_levels=sorted(lane.service_levels),
        rates=lane.rates,
        transit=[TransitOut(working_days=days, share_ppm=share) for days, share in lane.transit.days],
        calendar=lane.calendar,
        cut_off=lane.cut_off.isoformat("minutes"),
        distance_km=lane.distance_km,
        carries=sorted(lane.carries),
    )


def item_out(item: Item) -> ItemOut:
    """An item as the API shows it."""
    return ItemOut(
        code=item.code,
        product=item.product,
        name=item.name,
        unit=item.unit,
        scale=item.scale,
        weight_kg=base_to_text(item.weight_ug, _KILOGRAM_PLACES),
        length_mm=item.length_mm,
        width_mm=item.width_mm,
        height_mm=item.height_mm,
        unit_cost=None if item.unit_cost is None else str(item.unit_cost),
        requires=sorted(item.requires),
    )


def pick_record_out(record: PickRecord) -> PickRecordOut:
    """A record of picks as the API shows it."""
    return PickRecordOut(
        node=record.node,
        product=record.item_class,
        found=record.found,
        missed=record.missed,
        miss_percent=base_to_text(miss_ppm(record.found, record.missed), _PERCENT_PLACES),
    )


def policy_out(head: PolicyHead) -> PolicyOut:
    """A version of a policy as the API shows it."""
    return PolicyOut(
        family=head.family,
        code=head.code,
        version=head.version,
        state=head.state,
        made_by=head.made_by,
        made_at=head.made_at,
        active_from=head.active_from,
    )
