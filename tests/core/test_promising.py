"""When a shipment arrives: the window of its lanes."""

from __future__ import annotations

from datetime import date, time

import pytest

from poolwise.core.network import Calendar, Lane, Network, Node, Transit
from poolwise.core.promising import Window, arrival_window

MONDAY = date(2026, 1, 12)
WEEKDAYS = Calendar("weekdays", frozenset(range(5)))
SLOW = Transit(((1, 400_000), (2, 400_000), (4, 200_000)))
NETWORK = Network(
    nodes={"A": Node("A"), "B": Node("B", calendar="weekdays", cut_off=time(12))},
    calendars={"weekdays": WEEKDAYS},
    lanes={
        "A-Z": Lane("A-Z", "A", "Z", "r", transit=SLOW, calendar="weekdays"),
        "A-B": Lane("A-B", "A", "B", "r", to_node=True),
        "B-Z": Lane("B-Z", "B", "Z", "r", transit=SLOW),
    },
)


@pytest.mark.parametrize(
    ("lanes", "leaves", "first", "last"),
    [
        (("A-Z",), 12, 14, 16),  # half have come after two working days, 95 of 100 after four
        (("A-Z",), 15, 19, 21),  # over the weekend
        (("A-B", "B-Z"), 12, 15, 19),  # a day to B, then as before
        (("A-B", "B-Z"), 16, 21, 23),  # comes to B on Saturday, goes on on Monday
    ],
)
def test_half_of_it_has_come_by_the_first_day_and_nearly_all_by_the_last(
    lanes: tuple[str, ...], leaves: int, first: int, last: int
) -> None:
    found = arrival_window(NETWORK, lanes, date(2026, 1, leaves))
    assert found == Window(date(2026, 1, first), date(2026, 1, last))


def test_a_lane_that_is_no_more_has_no_window() -> None:
    assert arrival_window(NETWORK, ("A-Z", "GONE"), MONDAY) is None
    assert arrival_window(NETWORK, (), MONDAY) is None
