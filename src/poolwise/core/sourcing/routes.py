"""How a zone is reached: routes over lanes, the days they leave and arrive, and the capacity they find.

A route starts at an origin node and takes zero or more transfer lanes and one lane to the zone. Everything here is
derived from an edition and an instant, so that equal inputs give equal routes in equal order (law 8).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from poolwise.core.network import LONGEST_CLOSURE_DAYS, CapacityUnit, Lane, Network, Node
from poolwise.core.sourcing.plan import Booking

MOST_ROUTES_TO_A_ZONE = 20_000


@dataclass(frozen=True, slots=True)
class Route:
    """From an origin node over `lanes` to a zone; `via` are the nodes that transfers pass, in order.

    `key` sorts routes: the code of the origin, then those of the lanes.
    """

    node: Node
    via: tuple[Node, ...]
    lanes: tuple[Lane, ...]
    key: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Work out the key once."""
        object.__setattr__(self, "key", (self.node.code, *(lane.code for lane in self.lanes)))

    @property
    def distance_km(self) -> int:
        """Length of all lanes together."""
        return sum(lane.distance_km for lane in self.lanes)


def routes_to(network: Network, zone: str, hops: int) -> tuple[Route, ...]:
    """All routes to a zone with at most `hops` transfers, no node twice, sorted by their key."""
    into: dict[str, list[Lane]] = {}
    for lane in network.lanes.values():
        if lane.to_node and hops:
            into.setdefault(lane.destination, []).append(lane)
    reached = [
        Route(network.nodes[lane.origin], (), (lane,))
        for lane in network.lanes.values()
        if not lane.to_node and lane.destination == zone
    ]
    routes = list(reached)
    for _ in range(hops):
        reached = [
            Route(network.nodes[lane.origin], (route.node, *route.via), (lane, *route.lanes))
            for route in reached
            for lane in into.get(route.node.code, ())
            if lane.origin != route.node.code and all(lane.origin != node.code for node in route.via)
        ]
        routes.extend(reached)
        assert len(routes) <= MOST_ROUTES_TO_A_ZONE, f"more than {MOST_ROUTES_TO_A_ZONE} routes to zone {zone}"
    return tuple(sorted(routes, key=lambda route: route.key))


@dataclass(frozen=True, slots=True)
class Departure:
    """A day a route can leave on, and the day it then arrives, as proleptic ordinals."""

    ships: int
    arrives: int


class Departures:
    """The ship days of a route for orders that arrive at one instant, found one after another as they are needed."""

    def __init__(self, network: Network, route: Route, at: datetime, horizon_days: int, confidence_ppm: int) -> None:
        """`confidence_ppm` is the transit quantile that arrivals are counted at."""
        self._network = network
        self._route = route
        self._confidence_ppm = confidence_ppm
        self._origin = network.calendar(route.node.calendar)
        self._lane = network.calendar(route.lanes[0].calendar or route.node.calendar)
        self.local = at.astimezone(ZoneInfo(route.node.time_zone))
        self._counted = frozenset([slot.unit for slot in route.node.slots])
        self.counts_only_orders = self._counted <= {CapacityUnit.ORDERS}
        self._windows: dict[int, list[tuple[int, ...]]] = {}
        self._limits: dict[int, list[tuple[tuple[int, ...], Limits]]] = {}
        self._last = self.local.date() + timedelta(days=horizon_days)
        self._found: list[Departure] = []
        self._next = self._first_day()

    def __iter__(self) -> Iterator[Departure]:
        """Departures within the horizon, earliest first."""
        place = 0
        while place < len(self._found) or self._find():
            yield self._found[place]
            place += 1

    def first(self) -> Departure | None:
        """The earliest departure, or None when there is none within the horizon."""
        return self._found[0] if self._found or self._find() else None

    def windows(self, day: int) -> list[tuple[int, ...]]:
        """The time windows of the origin on a day, see `windows`."""
        found = self._windows.get(day)
        if found is None:
            found = self._windows[day] = windows(self._route.node, day, self.local)
        return found

    def with_room(
        self, ready: int, need: Need, taken: Taken | None, only: tuple[int, ...] | None = None
    ) -> Departure | None:
        """The earliest departure, not before `ready`, on a day of which a window has room; None when there is none.

        Where capacity is soft nothing is `taken`, and every window has room. With `only`, no other window counts.
        """
        has_slots, found, place = bool(self._route.node.slots), self._found, -1
        while (place := place + 1) < len(found) or self._find():
            departure = found[place]
            day = departure.ships
            if day < ready:
                continue
            if not has_slots:
                return departure
            for window, limits in self._limits.get(day) or self._limits_on(day):
                if only is not None and window != only:
                    continue
                if taken is None:
                    return departure
                for key, unit, limit in limits:
                    amount = 1 if unit is CapacityUnit.ORDERS else need.of(unit)
                    if (key in taken and taken[key] + amount > limit) or amount > limit:
                        break
                else:
                    return departure
        return None

    def counted(self, need: Need) -> Need:
        """What of a need the slots of the origin count: to all others that are equal the same day has room."""
        if self.counts_only_orders:
            return NO_GOODS
        return Need(
            need.lines if CapacityUnit.LINES in self._counted else 0,
            need.units if CapacityUnit.UNITS in self._counted else 0,
            need.grams if CapacityUnit.WEIGHT in self._counted else 0,
        )

    def room(self, taken: Taken) -> tuple[Departure | None, int]:
        """The earliest departure of one shipment, and how many find room then, in slots that count orders."""
        for departure in self:
            for _, limits in self._limits.get(departure.ships) or self._limits_on(departure.ships):
                places = min([limit - taken.get(key, 0) for key, _, limit in limits])
                if places > 0:
                    return departure, places
        return None, 0

    def beyond(self, ready: Collection[int]) -> int | None:
        """The first day past the horizon on which something could leave that cannot before; `ready` says from when.

        None where everything could leave before, or where there is no such day within a year.
        """
        last = max([departure.ships for departure in self if self._takes(departure.ships)], default=-1)
        late = [day for day in ready if day > last]
        if not late or self._next is None:
            return None
        first = max(min(late), self._next.toordinal(), self._last.toordinal() + 1)
        for number in range(first, first + LONGEST_CLOSURE_DAYS):
            day = date.fromordinal(number)
            is_open = self._origin.is_open(day) and self._lane.is_open(day) and self._takes(number)
            if is_open and self._arrival(day) is not None:
                return number
        return None

    def _takes(self, day: int) -> bool:
        """Whether the origin takes anything on a day: it has a window then, or no slots at all."""
        return not self._route.node.slots or bool(self.windows(day))

    def _limits_on(self, day: int) -> list[tuple[tuple[int, ...], Limits]]:
        node = self._route.node
        found = self._limits[day] = [
            (window, tuple([((node.code, day, n), node.slots[n].unit, node.slots[n].limit) for n in window]))
            for window in self.windows(day)
        ]
        return found

    def until(self) -> datetime:
        """The instant before which none of this changes: a cut-off, the end of a slot, or midnight there."""
        local = self.local
        midnight = datetime.combine(local.date() + timedelta(days=1), time.min, local.tzinfo)
        if midnight.utcoffset() != local.utcoffset():
            # Clocks are set today, and the local time may come twice.
            return local
        # An order at the very instant of the cut-off is still in time; a slot cannot be used at its end.
        ends = [datetime.combine(local.date(), self._cut_off(), local.tzinfo) + timedelta(microseconds=1)]
        ends += [datetime.combine(local.date(), slot.until, local.tzinfo) for slot in self._route.node.slots]
        return min([midnight, *(end for end in ends if end > local)])

    def _cut_off(self) -> time:
        return min(self._route.node.cut_off, self._route.lanes[0].cut_off)

    def _first_day(self) -> date | None:
        node = self._route.node
        day = self._origin.on_or_after(self.local.date())
        if day == self.local.date() and self.local.time() > self._cut_off():
            day = self._origin.on_or_after(day + timedelta(days=1))
        return None if day is None else self._origin.plus_working_days(day, node.handling_days)

    def _find(self) -> bool:
        day = self._next
        while day is not None and day <= self._last:
            if self._origin.is_open(day) and self._lane.is_open(day):
                arrives = self._arrival(day)
                self._next = day + timedelta(days=1)
                if arrives is None:
                    return False
                self._found.append(Departure(day.toordinal(), arrives.toordinal()))
                return True
            day += timedelta(days=1)
        self._next = day
        return False

    def _arrival(self, day: date) -> date | None:
        return self._network.arrival_along(self._route.lanes, day, self._confidence_ppm)


class Need(NamedTuple):
    """The capacity a shipment takes of its origin node: order lines, whole units, and grams, both rounded up."""

    lines: int
    units: int
    grams: int

    def of(self, unit: CapacityUnit) -> int:
        """The need in the unit of a slot."""
        if unit is CapacityUnit.ORDERS:
            return 1
        if unit is CapacityUnit.LINES:
            return self.lines
        return self.units if unit is CapacityUnit.UNITS else self.grams


NO_GOODS: Final = Need(0, 0, 0)
"""What a shipment takes of slots that count orders, whatever is in it."""

SlotKey = tuple[str, int, int]
"""Node, day as ordinal, and number of the slot."""

Taken = Mapping[SlotKey, int]
"""Capacity taken of slots."""

Limits = tuple[tuple[SlotKey, CapacityUnit, int], ...]
"""The slots of a window, what they count, and how much they take."""


def windows(node: Node, day: int, local: datetime) -> list[tuple[int, ...]]:
    """The time windows of a node on a day, earliest first, each as the numbers of the slots that limit it.

    A window whose end has passed at the local instant is left out. A node without slots has no window, and no limit.
    """
    on = date.fromordinal(day)
    special = [n for n, slot in enumerate(node.slots) if slot.only_on == on]
    numbers = special or [
        n for n, slot in enumerate(node.slots) if slot.only_on is None and on.weekday() in slot.weekdays
    ]
    by_hours: dict[tuple[time, time], list[int]] = {}
    for number in numbers:
        slot = node.slots[number]
        if day > local.toordinal() or slot.until > local.time():
            by_hours.setdefault((slot.since, slot.until), []).append(number)
    return [tuple(by_hours[hours]) for hours in sorted(by_hours)]


def book(
    node: Node, day: int, choices: Sequence[tuple[int, ...]], need: Need, taken: Taken, hard: bool
) -> tuple[Booking, ...] | None:
    """The bookings of a shipment in the first window of the day with room; None when there is none.

    `choices` are the windows of the node on the day. Where capacity is not `hard` and none has room, the first one
    takes it all the same.
    """
    if not node.slots:
        return ()
    for window in choices:
        for number in window:
            slot = node.slots[number]
            if taken.get((node.code, day, number), 0) + need.of(slot.unit) > slot.limit:
                break
        else:
            return _bookings(node, day, window, need)
    return None if hard or not choices else _bookings(node, day, choices[0], need)


def _bookings(node: Node, day: int, window: tuple[int, ...], need: Need) -> tuple[Booking, ...]:
    on = date.fromordinal(day)
    return tuple([Booking(node.code, on, number, need.of(node.slots[number].unit)) for number in window])


def excess(node: Node, bookings: tuple[Booking, ...], taken: Taken) -> list[tuple[CapacityUnit, int]]:
    """By how much bookings take slots further above their limits, with the units of the slots."""
    over: list[tuple[CapacityUnit, int]] = []
    for booking in bookings:
        slot = node.slots[booking.slot]
        before = taken.get((node.code, booking.day.toordinal(), booking.slot), 0)
        further = max(0, before + booking.quantity - slot.limit) - max(0, before - slot.limit)
        over.append((slot.unit, further))
    return over
