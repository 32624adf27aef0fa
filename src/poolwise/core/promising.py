"""When a shipment arrives: the window in which its lanes bring it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final, NamedTuple

from poolwise.core.network import Network

LIKELY_PPM: Final = 500_000
SURE_PPM: Final = 950_000


class Window(NamedTuple):
    """Days between which it arrives: as likely as not by the first one, all but surely by the last one."""

    first: date
    last: date


def arrival_window(network: Network, lanes: Sequence[str], leaves_on: date) -> Window | None:
    """The days by which half, and 95 of 100, of what leaves on a day has come over lanes, taken in turn.

    Each lane is counted at the quantile as a whole, as the engine counts `arrive_by`, so that the last day is a little
    later than that of the sum. None where the network has one of the lanes no more, or it is closed for too long.
    """
    known = [network.lanes[code] for code in lanes if code in network.lanes]
    if not known or len(known) < len(lanes):
        return None
    first = network.arrival_along(known, leaves_on, LIKELY_PPM)
    last = network.arrival_along(known, leaves_on, SURE_PPM)
    return None if first is None or last is None else Window(first, last)
