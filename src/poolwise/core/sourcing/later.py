"""When the calendar alone may bring what waits: days come into the horizon, and with them receipts and open days.

Of everything a node has, or expects, for what waits, the first day is found on which it could leave. If that is past
the horizon, it is known when it will be within, and somebody must look again then; before that nothing changes by
itself. Where it could leave within the horizon, it is no day that is lacking.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from poolwise.core.sourcing.options import Options
from poolwise.core.sourcing.plan import Elimination, Unserved
from poolwise.core.sourcing.routes import Departures

NOW: Final = 0
"""The day from which stock on hand can leave."""


def again_at(options: Options, unserved: Collection[Unserved]) -> datetime | None:
    """The first instant at which a day comes into the horizon on which something for what waits could leave."""
    facts, horizon = options.problem.facts, options.terms.policy.horizon_days
    level = options.terms.service_level.confidence_ppm
    ready = _ready_days(options, unserved)
    left = {way.route.key: way.departures for way in options.routes}
    idle = {route.key for route, reason, _ in options.closed if reason is Elimination.CALENDAR}
    found: list[datetime] = []
    for route in options.access.routes:
        days = ready.get(route.node.code)
        if days and (route.key in left or route.key in idle):
            departures = left.get(route.key) or Departures(options.network, route, facts.at, horizon, level)
            leaves = departures.beyond(days)
            if leaves is not None:
                day = date.fromordinal(leaves) - timedelta(days=horizon)
                found.append(datetime.combine(day, time.min, departures.local.tzinfo))
    return min(found).astimezone(UTC) if found else None


def _ready_days(options: Options, unserved: Collection[Unserved]) -> dict[str, set[int]]:
    """By node the days from which it has something for what waits that the order may use."""
    alternatives = [
        each for entry in unserved for each in options.atlas.alternatives(options.lines[entry.line_no], options.terms)
    ]
    wanted = {code for alternative in alternatives for code, _ in alternative.needs}
    facts = options.problem.facts
    sources = [(fact.place, fact.available, NOW) for fact in facts.stock]
    if not options.terms.on_hand_only:
        sources += [(fact.place, fact.open, fact.due_on.toordinal()) for fact in facts.receipts]
    found: dict[str, set[int]] = {}
    for place, units, day in sources:
        if (
            units > 0
            and place.item in wanted
            and options.atlas.standing(options.access, options.order, place) is not None
        ):
            found.setdefault(place.node, set()).add(day)
    return found
