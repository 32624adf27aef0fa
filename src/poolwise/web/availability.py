"""What may be promised of some items, now and by date: by position, node, pool, echelon or channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from enum import StrEnum
from functools import partial
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from poolwise.core.availability import Offer, Outlook
from poolwise.core.catalog import Catalog
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.totals import Available, BasketLine, Totals, by_echelon, by_node, by_pool
from poolwise.core.values import Fault, Quantity, Refused, base_to_text
from poolwise.flows.intake import Counter, Reader
from poolwise.flows.promisable import ANYWHERE, Outlooks, Within, look_closer, look_up, serving
from poolwise.flows.views import Views
from poolwise.web.endpoint import Call, Nothing, Reply, answered
from poolwise.web.forms import Code, Decimal
from poolwise.web.kits import KitsOut, kits_of

Day = date  # the name of a parameter hides it in the class below
MOST_ITEMS: Final = 100
MOST_NODES: Final = 1_000


class By(StrEnum):
    """What the answer is broken down by."""

    POSITION = "position"
    NODE = "node"
    POOL = "pool"
    ECHELON = "echelon"
    CHANNEL = "channel"


class AvailabilityAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which items, for whom. Lists are repeated parameters or words with commas between."""

    items: Annotated[
        list[Code], Meta(min_length=1, max_length=MOST_ITEMS, description="Items, as an order names them.")
    ]
    channel: Code
    quantities: Annotated[
        list[Decimal], Meta(max_length=MOST_ITEMS, description="How much is wanted of each item, in order; else one.")
    ] = []
    zone: Annotated[str, Meta(max_length=200, description="Only what can be sent there.")] = ""
    nodes: Annotated[list[Code], Meta(max_length=MOST_NODES, description="Only at these nodes.")] = []
    by: By = By.CHANNEL
    date: Annotated[Day, Meta(description="A day to promise for; receipts due by then count.")] | None = None


class StepOut(msgspec.Struct, frozen=True, kw_only=True):
    """From a day on, so much."""

    since: date
    quantity: Decimal


class GroupOut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of what is available of an item: under the heading asked for. Parts that do not apply are left out.

    `later` says how the quantity changes after today, where it does.
    """

    now: Decimal
    node: str = ""
    pool: str = ""
    lot: str | None = None
    position: Annotated[str, Meta(description="The position's id, as text: it has 64 bits.")] = ""
    echelon: str = ""
    channel: str = ""
    on_date: Decimal | None = None
    later: list[StepOut] = []


class ItemOut(msgspec.Struct, frozen=True, kw_only=True):
    """What is available of one item in all, and its parts. `ready_on` is the first day on which all wanted is there."""

    item: str
    unit: str
    wanted: Decimal
    now: Decimal
    on_date: Decimal | None
    ready_on: date | None
    later: list[StepOut]
    groups: list[GroupOut]
    kits: Annotated[KitsOut | None, Meta(description="Where it is a kit that may be made of its parts.")]


class NodeReadyOut(msgspec.Struct, frozen=True, kw_only=True):
    """A node that has the whole basket by itself, and from when on."""

    node: str
    ready_on: date


class AvailabilityOut(msgspec.Struct, frozen=True, kw_only=True):
    """What may be promised: item by item, and for the basket as a whole."""

    asked_on: date
    edition: str
    policy: str
    policy_version: int
    items: list[ItemOut]
    ready_on: date | None
    from_one_node: list[NodeReadyOut]


class Availability:
    """The endpoint, with what it remembers of channels."""

    def __init__(self) -> None:
        self._outlooks = Outlooks()

    def read_availability(self, call: Call[AvailabilityAsked, Nothing]) -> Reply:
        """Read what may be promised to a channel now and by date, after buffers and protection.

        A reader sees its own writes at once. With several items the answer also says when the whole basket can be had,
        and which nodes have it alone.
        """
        (reply,) = self.read_gathered([call])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def read_gathered(self, calls: Sequence[Call[AvailabilityAsked, Nothing]]) -> list[Reply | Exception]:
        """Several at once: what they ask for one channel is read and added up in one go."""
        atlas, day = calls[0].services.rules.current(), calls[0].now.date()
        wanted = [answered(partial(_wanted, call, atlas)) for call in calls]
        items: dict[str, dict[str, None]] = {}
        for call, each in zip(calls, wanted, strict=True):
            if not isinstance(each, Exception) and call.query.by is not By.POSITION:
                items.setdefault(call.query.channel, {}).update(dict.fromkeys(each))
        views, outlooks = calls[0].services.views, self._outlooks
        seen = {
            channel: look_up(views, outlooks.of(atlas, channel), list(asked), day) for channel, asked in items.items()
        }
        replies: list[Reply | Exception] = []
        for call, each in zip(calls, wanted, strict=True):
            if isinstance(each, Exception):
                replies.append(each)
                continue
            channel = call.query.channel
            look = _Look(views, outlooks.of(atlas, channel), day, _within(atlas, call.query), seen.get(channel))
            replies.append(Reply(200, _answer(call, atlas, each, look)))
        return replies


class _Look(NamedTuple):
    """Where an answer looks: the stock one channel may be promised, asked on a day, within some nodes and pools.

    `seen` is what was added up of it already, everywhere.
    """

    views: Views
    outlook: Outlook
    day: Day
    within: Within
    seen: Totals | None

    def up(self, items: Sequence[str]) -> Totals:
        """What may be promised of some items, added up."""
        if self.seen is not None and self.seen.knows(items):
            return self.seen if self.within is ANYWHERE else self.seen.within(self.within.holds)
        return look_up(self.views, self.outlook, items, self.day, self.within)

    def closer(self, items: Sequence[str]) -> tuple[Totals, Sequence[Offer]]:
        """The same, and the positions it is made of."""
        offers = look_closer(self.views, self.outlook, items, self.day, self.within)
        return Totals.of(self.day, items, offers), offers


def _answer(
    call: Call[AvailabilityAsked, Nothing], atlas: Atlas, wanted: Mapping[str, Quantity], look: _Look
) -> AvailabilityOut:
    asked = call.query
    totals, offers = look.closer(list(wanted)) if asked.by is By.POSITION else (look.up(list(wanted)), ())
    basket = totals.basket(wanted)
    catalog, policy = atlas.edition.catalog, atlas.policy.policy
    bundles = [item for item in wanted if item in catalog.bills] if policy.kits_from_parts else []
    made = {item: kits_of(catalog, item, look.up) for item in bundles}
    return AvailabilityOut(
        asked_on=call.now.date(),
        edition=atlas.edition.hash,
        policy=policy.code,
        policy_version=policy.version,
        items=[
            _item(catalog, asked, line, _groups(asked, line, totals, offers, catalog), made.get(line.item))
            for line in basket.lines
        ],
        ready_on=basket.ready_on,
        from_one_node=[NodeReadyOut(node=node, ready_on=day) for node, day in basket.from_one_node.items()],
    )


def _wanted(call: Call[AvailabilityAsked, Nothing], atlas: Atlas) -> dict[str, Quantity]:
    """Base units by our code of each item. Refuses items, quantities, a zone and nodes that there are not."""
    asked = call.query
    reader = Reader(Counter(atlas.edition, atlas.policy.policy, call.services.ids, call.actor.party))
    if asked.quantities and len(asked.quantities) != len(asked.items):
        reader.fault("quantities", f"there are {len(asked.quantities)} for {len(asked.items)} items")
    wanted: dict[str, Quantity] = {}
    for place, text in enumerate(asked.items):
        item = reader.item(f"items[{place}]", text)
        amount = asked.quantities[place] if place < len(asked.quantities) else "1"
        units = reader.quantity(f"quantities[{place}]", item, "", amount)
        if item is not None and units is not None:
            wanted[item] = wanted.get(item, 0) + units
    if asked.zone and asked.zone not in atlas.edition.network.zones:
        reader.fault("zone", f"there is no zone '{asked.zone}'")
    for place, node in enumerate(asked.nodes):
        if node not in atlas.edition.network.nodes:
            reader.fault(f"nodes[{place}]", f"there is no node '{node}'")
    if reader.faults:
        raise Refused("query_invalid", [Fault(fault.field, fault.reason) for fault in reader.faults])
    return wanted


def _within(atlas: Atlas, asked: AvailabilityAsked) -> Within:
    """The nodes that are named, and the nodes and pools from which the zone is served."""
    nodes = frozenset(asked.nodes) if asked.nodes else None
    if not asked.zone:
        return ANYWHERE if nodes is None else Within(nodes)
    served = serving(atlas, asked.zone)
    return served if nodes is None else Within(served.nodes and served.nodes & nodes, served.pools)


def _item(
    catalog: Catalog, asked: AvailabilityAsked, line: BasketLine, groups: Iterable[GroupOut], made: KitsOut | None
) -> ItemOut:
    scale = catalog.items[line.item].scale
    there = line.there
    return ItemOut(
        item=line.item,
        unit=catalog.items[line.item].unit,
        wanted=base_to_text(line.wanted, scale),
        now=base_to_text(there.now, scale),
        on_date=None if asked.date is None else base_to_text(there.on(asked.date), scale),
        ready_on=line.ready_on,
        later=_later(there, scale),
        groups=list(groups),
        kits=made,
    )


def _groups(
    asked: AvailabilityAsked, line: BasketLine, totals: Totals, offers: Sequence[Offer], catalog: Catalog
) -> Iterable[GroupOut]:
    """What there is of the item of a line, under the heading that is asked for."""
    item, scale = line.item, catalog.items[line.item].scale
    match asked.by:
        case By.POSITION:
            yield from (each for offer in offers if offer.item == item for each in _positions(offer, scale))
        case By.NODE:
            yield from (_group(part, asked, scale, node=name) for name, part in totals.parts(item, by_node).items())
        case By.POOL:
            yield from (_group(part, asked, scale, pool=name) for name, part in totals.parts(item, by_pool).items())
        case By.ECHELON:
            parts = totals.parts(item, by_echelon)
            yield from (_group(part, asked, scale, echelon=name) for name, part in parts.items())
        case By.CHANNEL:
            if line.there.by_date:
                yield _group(line.there, asked, scale, channel=asked.channel)


def _positions(offer: Offer, scale: int) -> Iterable[GroupOut]:
    for place in offer.positions:
        yield GroupOut(
            now=base_to_text(place.now, scale),
            node=offer.gate.node,
            pool=offer.gate.pool,
            lot=place.lot,
            position=str(place.position),
            echelon=offer.gate.echelon.value,
        )


def _group(
    there: Available,
    asked: AvailabilityAsked,
    scale: int,
    node: str = "",
    pool: str = "",
    echelon: str = "",
    channel: str = "",
) -> GroupOut:
    return GroupOut(
        now=base_to_text(there.now, scale),
        node=node,
        pool=pool,
        echelon=echelon,
        channel=channel,
        on_date=None if asked.date is None else base_to_text(there.on(asked.date), scale),
        later=_later(there, scale),
    )


def _later(there: Available, scale: int) -> list[StepOut]:
    """How it changes: every step but one that says what is there now."""
    steps = there.by_date
    if steps and steps[0][1] == there.now:
        steps = steps[1:]
    return [StepOut(since=since, quantity=base_to_text(quantity, scale)) for since, quantity in steps]
