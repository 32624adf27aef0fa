"""Master data in any order: the newest statement holds, what does not fit changes nothing, equal data is equal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolwise.core.catalog import Item
from poolwise.core.edition.rows import BandRow, ExchangeRate, ItemRow, NodeRow, Row, Section, Settings, key_of
from poolwise.core.network import Calendar, CostCard, Lane, Node, RateBand, Zone
from poolwise.core.policy.terms import SourcingPolicy
from poolwise.core.values import Conflict, Rate, ServiceLevel, replace
from poolwise.flows.masterdata import Told, adopt_policy, in_force, open_edition, publish, read_version
from poolwise.flows.ports import Publication
from poolwise.store.editions import MemoryEditions

NOW = datetime(2026, 8, 3, 8, tzinfo=UTC)
SECTIONS = {
    ItemRow: Section.ITEMS,
    NodeRow: Section.NODES,
    Calendar: Section.CALENDARS,
    Zone: Section.ZONES,
    Lane: Section.LANES,
    ExchangeRate: Section.EXCHANGE_RATES,
    Settings: Section.NETWORK,
}


def told(row: Row, sequence: int | None = None, hour: int | None = None) -> Told:
    """A statement, newer by its sequence or by its hour."""
    return Told(row, SECTIONS[type(row)], sequence, None if hour is None else NOW.replace(hour=hour))


def item(name: str, code: str = "A") -> ItemRow:
    return ItemRow(Item(code, name=name))


def name_of(editions: MemoryEditions, code: str = "A") -> str | None:
    edition = in_force(editions)
    found = edition.catalog.items.get(code) if edition else None
    return found.name if found else None


@pytest.mark.parametrize(
    ("first", "second", "holds"),
    [
        ((1, None), (2, None), "second"),
        ((2, None), (1, None), "first"),
        ((None, 5), (None, 6), "second"),
        ((None, 6), (None, 5), "first"),
        ((5, 5), (None, 6), "second"),
        ((5, 6), (6, 5), "second"),
        ((None, None), (None, None), "second"),
    ],
)
def test_the_newer_statement_holds(first, second, holds):
    editions = MemoryEditions()
    publish(editions, [told(item("first"), *first)], NOW, "x")
    publish(editions, [told(item("second"), *second)], NOW + timedelta(minutes=1), "x")
    assert name_of(editions) == holds


@given(st.permutations(range(5)), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_statements_may_come_in_any_order_and_in_any_batches(order: list[int], cuts: list[int]):
    editions = MemoryEditions()
    waiting: list[Told] = []
    for place, sequence in enumerate(order):
        waiting.append(told(item(f"version {sequence}"), sequence))
        if cuts[place] == 0 or place == 4:
            publish(editions, waiting, NOW + timedelta(minutes=place), "x")
            waiting = []
    assert name_of(editions) == "version 4"


def test_a_removed_row_does_not_come_back_with_an_older_statement():
    editions = MemoryEditions()
    publish(editions, [told(item("one"), 5), told(item("two", "B"))], NOW, "x")
    publish(editions, [told(item("two", "B"))], NOW, "x", complete=[Section.ITEMS])
    assert name_of(editions) is None
    publish(editions, [told(item("older"), 4)], NOW + timedelta(hours=1), "x")
    assert name_of(editions) is None
    publish(editions, [told(item("newer"), 6)], NOW + timedelta(hours=1), "x")
    assert name_of(editions) == "newer"


def test_the_same_again_is_the_same_edition_and_writes_nothing():
    editions = MemoryEditions()
    first = publish(editions, [told(item("one"))], NOW, "x")
    second = publish(editions, [told(item("one"))], NOW + timedelta(days=1), "x")
    assert (second.edition.hash, second.rows_changed) == (first.edition.hash, 0)
    assert len(editions.audit) == 1


def test_what_was_before_is_the_same_edition_again():
    editions = MemoryEditions()
    first = publish(editions, [told(item("one"))], NOW, "x")
    publish(editions, [told(item("two"))], NOW + timedelta(minutes=1), "x")
    third = publish(editions, [told(item("one"))], NOW + timedelta(minutes=2), "x")
    assert third.edition.hash == first.edition.hash == editions.in_force()


def test_a_statement_that_does_not_fit_leaves_the_row_it_would_replace():
    editions = MemoryEditions()
    publish(editions, [told(NodeRow(Node("N", name="good")))], NOW, "x")
    done = publish(editions, [told(NodeRow(Node("N", name="bad", calendar="none")))], NOW + timedelta(hours=1), "x")
    assert [(place, fault.field) for place, fault in done.faults] == [(0, "calendar")]
    edition = in_force(editions)
    assert edition is not None
    assert edition.network.nodes["N"].name == "good"


def test_a_row_that_only_seemed_wrong_because_of_another_is_taken():
    editions = MemoryEditions()
    publish(editions, [told(Zone("Z")), told(NodeRow(Node("N")))], NOW, "x")
    band = RateBand(0, 10)
    lane = Lane("L", "N", "Z", "R")
    bad_node = NodeRow(Node("N", calendar="none"))
    statements = [Told(BandRow("R", band), Section.RATES), told(lane), told(bad_node)]
    done = publish(editions, statements, NOW + timedelta(hours=1), "x")
    assert [(place, fault.field) for place, fault in done.faults if not fault.warning] == [(2, "calendar")]
    assert "L" in done.edition.network.lanes


def test_rows_that_hang_on_a_removed_row_leave_the_edition_and_are_named():
    editions = MemoryEditions()
    publish(editions, [told(Calendar("c")), told(NodeRow(Node("N", calendar="c")))], NOW, "x")
    done = publish(editions, [], NOW + timedelta(hours=1), "x", complete=[Section.CALENDARS])
    assert [(place, fault.section, fault.field) for place, fault in done.faults] == [(None, Section.NODES, "calendar")]
    assert not done.edition.network.nodes
    back = publish(editions, [told(Calendar("c"))], NOW + timedelta(hours=2), "x")
    assert "N" in back.edition.network.nodes


def test_costs_are_converted_at_the_rate_of_the_day_exactly():
    editions = MemoryEditions()
    rates = [ExchangeRate("USD", NOW.date() + timedelta(days=days), Rate(90 + days, 2)) for days in (-1, 0, 1)]
    node = NodeRow(Node("N", costs=CostCard(per_line=Rate(33, 2))), "USD")
    done = publish(editions, [*map(told, rates), told(node)], NOW, "x")
    assert done.edition.network.nodes["N"].costs.per_line == Rate(2970, 4).reduced()
    next_day = publish(editions, [], NOW + timedelta(days=1), "x")
    assert next_day.edition.network.nodes["N"].costs.per_line == Rate(33 * 91, 4)
    assert next_day.edition.hash != done.edition.hash


def test_an_edition_reopens_as_it_was():
    editions = MemoryEditions()
    done = publish(editions, [told(item(f"n{n}", f"I{n:04}")) for n in range(1_000)], NOW, "x")
    assert open_edition(editions, done.edition.hash) == done.edition


def test_a_changed_item_writes_one_chunk():
    editions = MemoryEditions()
    before = publish(editions, [told(item("n", f"I{n:04}")) for n in range(1_000)], NOW, "x")
    after = publish(editions, [told(item("changed", "I0500"))], NOW + timedelta(hours=1), "x")
    assert len({part.hash for part in after.parts} - {part.hash for part in before.parts}) == 1


def test_a_lost_race_is_run_again_on_what_the_winner_left():
    class Racing(MemoryEditions):
        raced = False

        def publish(self, publication: Publication) -> None:
            if not self.raced:
                self.raced = True
                publish(self, [told(item("winner", "B"))], NOW, "winner")
                raise Conflict("somebody was first")
            super().publish(publication)

    editions = Racing()
    publish(editions, [told(item("loser"))], NOW, "x")
    assert (name_of(editions, "A"), name_of(editions, "B")) == ("loser", "winner")


def test_a_dry_run_shows_what_would_be():
    editions = MemoryEditions()
    done = publish(editions, [told(item("one"))], NOW, "x", dry_run=True)
    assert (done.changed, editions.in_force()) == ({Section.ITEMS: 1}, "")


def test_a_policy_has_a_new_version_only_when_it_says_something_new():
    editions = MemoryEditions()
    policy = SourcingPolicy("default", 0, service_levels={"standard": ServiceLevel("standard")})
    assert [adopt_policy(editions, policy, NOW, "x")[0].version for _ in range(2)] == [1, 1]
    changed, new = adopt_policy(editions, replace(policy, max_shipments=2), NOW, "x")
    assert (changed.version, new) == (2, True)
    kept = editions.policy("default", 1)
    assert kept is not None
    assert read_version(kept).max_shipments is None


def test_every_row_has_a_key_of_its_own():
    rows = [item("a"), item("b", "B"), NodeRow(Node("A")), Calendar("A")]
    assert len({(SECTIONS[type(row)], key_of(row)) for row in rows}) == 4
