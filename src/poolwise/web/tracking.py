"""What the tracking page of an order says: where its parts are, when they come, why there are several, what may change.

Everything is worked out from the order as it is. The page names goods and days; of the person and the address it says
nothing, since a link may be passed on (law 17).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from poolwise.core.edition.build import Edition
from poolwise.core.fulfilment import STAGES, Stage
from poolwise.core.orders import Line, OrderState, Progress
from poolwise.core.policy.terms import CustomerAct, CustomerTerms
from poolwise.core.promising import Window, arrival_window
from poolwise.core.sourcing.plan import PlannedShipment
from poolwise.core.values import Fault, Refused, base_to_text
from poolwise.flows.execute import AFTER
from poolwise.flows.intake import Rejected
from poolwise.flows.ports import Audit
from poolwise.flows.tracking import Why, fresh_key, keep_answer, link_to, stages_open
from poolwise.flows.views import Happening, OrderView
from poolwise.web.endpoint import Call, Nothing, Reply
from poolwise.web.idempotency import kept, kept_refusal, once
from poolwise.web.orders import WaitOut

PATH: Final = "/t/"
ORDERED, PREPARED, UNDER_WAY, READY = "Ordered", "Being prepared", "On its way", "Ready to collect"
STEP: Final = {
    Stage.PLANNED: ORDERED, Stage.OFFERED: ORDERED, Stage.RELEASED: PREPARED, Stage.PICKED: PREPARED,
    Stage.SHIPPED: UNDER_WAY, Stage.FAILED: UNDER_WAY, Stage.READY: READY,
}  # fmt: skip
"""The step at which a shipment is, as long as it has not come."""

REASONS: Final = {
    Why.NOT_TOGETHER: "No single place had all of it, so it is sent from several.",
    Why.SOONER: "From a single place it would have come later.",
    Why.LESS_EFFORT: "Sent this way it takes less transport than from a single place.",
    Why.NOT_FOUND: "One place could not send all of its part, so another one sends the rest.",
    Why.FOLLOWS: "Some of it was not in stock at first and follows.",
}
NEWS: Final = {
    "accepted": "We received your order.",
    "released": "{It} is being prepared.",
    "picked": "{It} is packed.",
    "shipped": "{It} has left.",
    "arrived": "{It} came to a stop on its way.",
    "ready": "{It} is ready to be collected.",
    "delivered": "{It} was delivered.",
    "failed": "{It} could not be delivered.",
    "cancelled": "Something of it was cancelled.",
    "changed": "It was changed.",
    "divided": "It was divided into two orders.",
    "joined": "It was joined with another order.",
    "return_announced": "A return was announced.",
    "return_received": "Goods of a return have come back.",
    "return_ended": "A return was closed.",
}
"""What customers are told of the timeline; of the rest, such as holds, nothing."""

AFTER_REPORT: Final = {kind.value: stage for kind, stage in AFTER.items()}


# --- the link


class LinkIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many days the link leads to the page."""

    days: Annotated[int, Meta(ge=1, le=366)] = 90


class LinkOut(msgspec.Struct, frozen=True, kw_only=True):
    """The link. Whoever has it sees the order, and may do what the policy lets customers do."""

    url: str
    expires_at: datetime


def create_link(call: Call[Nothing, LinkIn]) -> Reply:
    """Make a link to the tracking page of an order, to be sent to its customer. Nothing is kept of it but that it was.

    It cannot be changed or guessed, and ends by itself; `poolwise track renew-key` ends all of them.
    """
    services, number = call.services, call.path["number"]

    def given(reference: str) -> Reply:
        order, until = reference.split()
        expires_at = datetime.fromisoformat(until)
        key = services.links.begin(fresh_key(services.random_bits), call.now, call.actor.party)
        url = f"{services.shop.url}{PATH}{link_to(key, UUID(order), expires_at)}"
        return Reply(201, LinkOut(url=url, expires_at=expires_at), {"Location": url})

    def do() -> Reply:
        view = services.views.order(number)
        if view is None:
            unknown = Rejected("order_unknown", (Fault("number", f"there is no order '{number}'"),))
            keep_answer(services.books, [kept_refusal(call.key, unknown)], call.now)
            raise Refused(unknown.code, unknown.problems)
        order, expires_at = view.record.order, (call.now + timedelta(days=call.body.days)).replace(microsecond=0)
        reference = f"{order.id} {expires_at.isoformat()}"
        audit = Audit(call.actor.party, "tracking.link", order.number, {"until": expires_at.isoformat()})
        keep_answer(services.books, [kept(call.key, 201, reference)], call.now, audit)
        return given(reference)

    return once(services.books, call.key, do, lambda known: given(known.reference), look_first=True)


# --- the page


@dataclass(frozen=True, slots=True)
class Step:
    """A step on the way: `done`, the one it is at (`now`), or still to come (`next`)."""

    word: str
    state: str


@dataclass(frozen=True, slots=True)
class Box:
    """A parcel by its tracking number, and what is in it."""

    tracking: str
    goods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A shipment as its customer sees it."""

    heading: str
    steps: tuple[Step, ...]
    when: str
    goods: tuple[str, ...]
    boxes: tuple[Box, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A line that something can be taken off: its number, what it is, and how many there are."""

    line: int
    goods: str
    most: str
    step: str


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the page says. `acts` are what may be done now; where that is nothing, `closed` says why."""

    number: str
    headline: str
    when: str
    parts: tuple[Part, ...]
    reasons: tuple[str, ...]
    waits: tuple[str, ...]
    gone: tuple[str, ...]
    news: tuple[tuple[datetime, str], ...]
    acts: frozenset[CustomerAct]
    choices: tuple[Choice, ...]
    closed: str
    country: str
    earliest: date


class Drawing:
    """Draws the page of one order under the rules in force."""

    def __init__(self, view: OrderView, edition: Edition, terms: CustomerTerms, now: datetime) -> None:
        self._view, self._edition, self._terms = view, edition, terms
        order, network = view.record.order, edition.network
        zone = network.zones.get(order.zone)
        self._zone = ZoneInfo("UTC" if zone is None else zone.time_zone)
        self._country = "" if zone is None else zone.country
        self._counter = network.nodes.get(network.collected_at(order.zone))
        self._today = network.day_in(order.zone, now)
        self._goods: dict[int, dict[str, int]] = {}
        for held in view.reservations:
            if held.open + held.left:
                items = self._goods.setdefault(held.shipment_no, {})
                items[held.item] = items.get(held.item, 0) + held.open + held.left

    def page(self, happenings: Sequence[Happening], reasons: Sequence[Why], waits: Sequence[WaitOut]) -> Page:
        """The page; `happenings` is the timeline, the oldest first."""
        record, happenings = self._view.record, self._true(happenings)
        shown = [
            each
            for each in self._view.shipments
            if self._goods.get(each.no) and self._stage(each) is not Stage.CANCELLED
        ]
        windows = {each.no: self._window(each, happenings) for each in shown}
        parts = tuple(self._part(place, shown, windows, happenings) for place in range(len(shown)))
        may, closed = self._may()
        elsewhere = self._elsewhere(happenings)
        gone = [
            (line.item, units) for line, each in self._lines() if (units := each.cancelled - elsewhere.get(line.no, 0))
        ]
        return Page(
            number=record.order.number,
            headline=self._headline(shown, bool(elsewhere) and not gone),
            when=self._when(shown, windows),
            parts=parts,
            reasons=self._reasons(parts, reasons, len({each.node for each in shown})),
            waits=tuple(self._waits(wait) for wait in waits),
            gone=tuple(self._named(*each) for each in gone),
            news=tuple(self._news(happenings)),
            acts=may,
            choices=self._choices() if CustomerAct.FEWER in may else (),
            closed=closed,
            country=self._country,
            earliest=self._today,
        )

    def _stage(self, shipment: PlannedShipment) -> Stage:
        return self._view.stages[shipment.no]

    def _lines(self) -> list[tuple[Line, Progress]]:
        return list(zip(self._view.record.order.lines, self._view.record.lines, strict=True))

    def _elsewhere(self, happenings: Sequence[Happening]) -> dict[int, int]:
        """Units of lines that are another order's now: they count as cancelled in this one, though nobody did that."""
        units_of: dict[int, int] = {}
        for each in happenings:
            if each.kind in ("divided", "joined") and each.detail.get("from") == self._view.record.order.number:
                for no, units in msgspec.convert(each.detail.get("lines", []), list[tuple[int, int]]):
                    units_of[no] = units_of.get(no, 0) + units
        return units_of

    def _named(self, item: str, units: int) -> str:
        known = self._edition.catalog.items.get(item)
        if known is None:
            return f"{units} × {item}"
        text, name = base_to_text(units, known.scale), known.name or item
        return f"{text} × {name}" if known.unit == "each" else f"{text} {known.unit} {name}"

    # Where it is

    def _headline(self, shown: Sequence[PlannedShipment], is_elsewhere: bool) -> str:
        record = self._view.record
        if record.state is OrderState.CANCELLED:
            return "Your order is a part of another one now" if is_elsewhere else "Your order is cancelled"
        if not shown:
            waits = any(line.backordered for line in record.lines)
            return "Your order waits for goods" if waits else "We have your order"
        words = {self._step(each) for each in shown}
        rest = len(words) > 1 or any(line.open + line.backordered for line in record.lines)
        word = next(each for each in (READY, UNDER_WAY, PREPARED, self._end, ORDERED) if each in words)
        if word == ORDERED:
            return "We have your order"
        return f"{'A part of your order' if rest else 'Your order'} is {word[0].lower()}{word[1:]}"

    @property
    def _end(self) -> str:
        return "Delivered" if self._counter is None else "Collected"

    def _step(self, shipment: PlannedShipment) -> str:
        return STEP.get(self._stage(shipment), self._end)

    def _steps(self, shipment: PlannedShipment) -> tuple[Step, ...]:
        """The steps of a shipment: what is collected where it lies is never on its way."""
        stays = self._counter is not None and shipment.node == self._counter.code
        way = [ORDERED, PREPARED] if stays else [ORDERED, PREPARED, UNDER_WAY]
        words = [*way, self._end] if self._counter is None else [*way, READY, self._end]
        here = self._step(shipment)
        at = words.index(here) if here in words else 1
        last = len(words) - 1
        states = ["done" if no < at or at == last else "now" if no == at else "next" for no in range(len(words))]
        return tuple(Step(word, state) for word, state in zip(words, states, strict=True))

    def _window(self, shipment: PlannedShipment, happenings: Sequence[Happening]) -> Window | None:
        """When it comes: from the day on which it left, once that is known."""
        left = [each.at for each in happenings if (each.shipment_no, each.kind) == (shipment.no, "shipped")]
        node = self._edition.network.nodes.get(shipment.node)
        day = left[0].astimezone(ZoneInfo(node.time_zone)).date() if left and node else shipment.ship_on
        window = arrival_window(self._edition.network, shipment.lanes, day) if shipment.lanes else None
        return window or Window(shipment.arrive_by, shipment.arrive_by)

    def _when(self, shown: Sequence[PlannedShipment], windows: dict[int, Window | None]) -> str:
        coming = [windows[each.no] for each in shown if self._stage(each) not in (Stage.DELIVERED, Stage.FAILED)]
        days = [window for window in coming if window is not None]
        if not days or all(self._stage(each) in (Stage.DELIVERED, Stage.READY) for each in shown):
            return ""
        return self._days(Window(min(each.first for each in days), max(each.last for each in days)))

    def _days(self, window: Window) -> str:
        verb = "Arrives" if self._counter is None else "Ready"
        if window.last < self._today:
            return f"Later than planned: it was expected by {self._day(window.last)}. We are sorry."
        first = max(window.first, self._today)
        return (
            f"{verb} {self._day(first)}"
            if first == window.last
            else f"{verb} {self._day(first)} to {self._day(window.last)}"
        )

    def _part(
        self,
        place: int,
        shown: Sequence[PlannedShipment],
        windows: dict[int, Window | None],
        happenings: Sequence[Happening],
    ) -> Part:
        shipment = shown[place]
        stage, window = self._stage(shipment), windows[shipment.no]
        ended = [each.at for each in happenings if (each.shipment_no, each.kind) == (shipment.no, "delivered")]
        counter = "" if self._counter is None else self._counter.name or self._counter.code
        match stage:
            case Stage.DELIVERED:
                when = f"{self._end} {self._day(ended[-1].astimezone(self._zone).date())}" if ended else self._end
            case Stage.READY:
                when = f"Waits for you at {counter}"
            case Stage.FAILED:
                when = ""
            case _:
                when = "" if window is None else self._days(window)
        return Part(
            heading=f"Part {place + 1} of {len(shown)}" if len(shown) > 1 else "What is in it",
            steps=self._steps(shipment),
            when=when,
            goods=tuple(self._named(item, units) for item, units in sorted(self._goods[shipment.no].items())),
            boxes=tuple(
                Box(box.tracking, tuple(self._lined(item, units) for item, units in box.lines))
                for box in self._view.parcels.get(shipment.no, ())
            ),
            note="It could not be delivered. The carrier will try again or tell you where it is."
            if stage is Stage.FAILED
            else "",
        )

    def _lined(self, item: str, units: str) -> str:
        known = self._edition.catalog.items.get(item)
        return f"{units} × {known.name if known and known.name else item}"

    # Why, and what else there is to know

    def _reasons(self, parts: Sequence[Part], reasons: Sequence[Why], places: int) -> tuple[str, ...]:
        said = [REASONS[why] for why in reasons] if len(parts) > 1 else []
        if places > 1 and not said:
            said = ["It comes from several places."]
        if any(len(part.boxes) > 1 for part in parts):
            said.append("What does not fit into one box, or may not travel together, comes in several.")
        return tuple(said)

    def _waits(self, wait: WaitOut) -> str:
        line = next(each for each in self._view.record.order.lines if each.no == wait.line_no)
        goods = self._lined(line.item, wait.quantity)
        known = (
            "we do not know yet when it comes"
            if wait.expected_on is None
            else f"expected {self._day(wait.expected_on)}"
        )
        return f"{goods}: {known}"

    def _true(self, happenings: Sequence[Happening]) -> list[Happening]:
        """What happened, but for reports that changed nothing when we heard of them, or were undone since."""
        stages: dict[int, Stage] = {}
        false = set()
        for place, each in sorted(enumerate(happenings), key=lambda told: told[1].told_at):
            after = AFTER_REPORT.get(each.kind) if each.shipment_no else None
            if after is None:
                continue
            if self._counts(each, stages.get(each.shipment_no, Stage.PLANNED), after):
                stages[each.shipment_no] = after
            else:
                false.add(place)
        return [each for place, each in enumerate(happenings) if place not in false]

    def _counts(self, report: Happening, before: Stage, after: Stage) -> bool:
        """Whether a report took a shipment on, and it has not come back since: of such a one there are no goods."""
        units, goods = report.detail.get("units"), self._goods.get(report.shipment_no)
        if report.detail.get("cancelled"):
            return False
        match after:
            case Stage.PICKED:
                return bool(units) and before not in (Stage.PICKED, Stage.READY)
            case Stage.SHIPPED:  # The rest of it may leave after a part has.
                return bool(units and goods)
            case Stage.DELIVERED:
                return bool(goods) and after in STAGES[before]
            case _:
                return bool(units or goods) and after in STAGES[before]

    def _news(self, happenings: Sequence[Happening]) -> list[tuple[datetime, str]]:
        told = [(self._view.record.order.received_at, NEWS["accepted"])]
        # That a node has seen its part is no news.
        told += [(each.at, NEWS[each.kind]) for each in happenings if each.kind in NEWS and each.kind != "accepted"]
        news = [(at.astimezone(self._zone).replace(second=0, microsecond=0), words) for at, words in reversed(told)]
        it = "A part of it" if len(self._goods) > 1 else "It"
        news = [(at, words.format(It=it)) for at, words in news]
        return list(dict.fromkeys(news))  # of what happens to many parts at once one line is enough

    def _day(self, day: date) -> str:
        year = "" if day.year == self._today.year else f" {day.year}"
        return f"{day:%A} {day.day} {day:%B}{year}"

    # What may be done

    def _may(self) -> tuple[frozenset[CustomerAct], str]:
        record, open_ = self._view.record, stages_open(self._terms)
        if record.state is OrderState.CANCELLED:
            return frozenset(), ""
        held = [each for each in self._view.reservations if each.open]
        loose = [each for each in held if self._view.stages.get(each.shipment_no) in open_]
        if not loose and not any(line.open + line.backordered for line in record.lines):
            return frozenset(), "It is on its way already, or being packed, so it cannot be changed any more."
        # Another day or address is for all that has not left: nobody may have begun to pack some of it.
        whole = {CustomerAct.DAY, CustomerAct.ADDRESS} if len(loose) == len(held) else set()
        may = frozenset(self._terms.may) & {CustomerAct.CANCEL, CustomerAct.FEWER, *whole}
        if self._counter is not None:
            may -= {CustomerAct.ADDRESS}
        return may, "" if may else "To change it, please contact us."

    def _choices(self) -> tuple[Choice, ...]:
        found_ = []
        for line, each in self._lines():
            left = each.ordered - each.cancelled - each.shipped
            if left:
                known = self._edition.catalog.items.get(line.item)
                scale = 0 if known is None else known.scale
                step = base_to_text(1, scale)
                found_.append(Choice(line.no, self._named(line.item, left), base_to_text(left, scale), step))
        return tuple(found_)
