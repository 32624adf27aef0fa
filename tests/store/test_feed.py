"""The change feed: whatever commits when, and whatever is killed where, a reader sees every event once, in order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from poolwise.flows.ports import Effects, Event
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.feed import PostgresFeed, sequence_once
from poolwise.store.postgres import Pool
from tests.conftest import Database

NOW = datetime(2026, 1, 12, 10, tzinfo=UTC)


@pytest.fixture
def pool(database: Database) -> Iterator[Pool]:
    with postgres.connect(database.url, connections=6) as open_pool:
        yield open_pool


def told(pool: Pool, *names: str, cell: int = 0) -> None:
    """One transaction with some events."""
    with PostgresBooks(pool, (0, 1)).transaction() as transaction:
        transaction.record(Effects(at=NOW, events=[Event("test", name, {}, cell) for name in names]))


def numbered(pool: Pool, cell: int = 0, limit: int = 100) -> int:
    return sequence_once(pool, cell, NOW, limit).events


def read(pool: Pool, after: int = 0, limit: int = 100, cell: int = 0) -> list[tuple[int, str]]:
    return [(each.number, each.event.subject) for each in PostgresFeed(pool, (cell,)).after({cell: after}, limit)]


def test_events_are_numbered_without_a_gap_in_their_order(pool: Pool) -> None:
    told(pool, "a", "b", "c")
    told(pool, "d")
    numbered(pool)

    assert read(pool) == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    assert [read(pool, after) for after in (1, 2, 3, 4)] == [
        [(2, "b"), (3, "c"), (4, "d")],
        [(3, "c"), (4, "d")],
        [(4, "d")],
        [],
    ]
    assert PostgresFeed(pool, (0,)).end() == {0: 4}


def test_a_transaction_that_commits_later_than_its_number_says_is_neither_lost_nor_repeated(pool: Pool) -> None:
    seen: list[tuple[int, str]] = []
    with PostgresBooks(pool).transaction() as slow:
        slow.record(Effects(at=NOW, events=[Event("test", "slow", {})]))
        told(pool, "quick")
        numbered(pool)
        seen += read(pool, len(seen))
    sequence_once(pool, 0, NOW, 100)
    seen += read(pool, len(seen))

    assert seen == [(1, "quick"), (2, "slow")]


def test_cells_are_numbered_each_by_itself(pool: Pool) -> None:
    told(pool, "here")
    told(pool, "there", cell=1)
    numbered(pool, 0)
    numbered(pool, 1)

    both = PostgresFeed(pool, (0, 1))
    assert [(each.cell, each.number) for each in both.after({}, 10)] == [(0, 1), (1, 1)]
    assert both.end() == {0: 1, 1: 1}


def test_a_reader_with_a_small_limit_gets_everything_in_the_end(pool: Pool) -> None:
    for place in range(7):
        told(pool, f"{place}a", f"{place}b")
    numbered(pool, limit=3)
    while sequence_once(pool, 0, NOW, 3).rows:
        pass
    seen: list[tuple[int, str]] = []
    while found := read(pool, len(seen), limit=2):
        seen += found

    assert seen == [(2 * place + part + 1, f"{place}{'ab'[part]}") for place in range(7) for part in range(2)]


@pytest.mark.parametrize("step", ["leased", "numbered", "advanced", "committed"])
def test_a_sequencer_killed_between_any_two_lines_loses_nothing(pool: Pool, step: str) -> None:
    told(pool, "before")
    numbered(pool)
    told(pool, "a", "b")

    def killed(reached: str) -> None:
        if reached == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sequence_once(pool, 0, NOW, 100, killed)
    sequence_once(pool, 0, NOW, 100)

    assert read(pool) == [(1, "before"), (2, "a"), (3, "b")]


def test_while_one_numbers_others_do_not_wait(pool: Pool) -> None:
    told(pool, "a")
    numbered(pool)
    told(pool, "b")
    others = []

    def meanwhile(reached: str) -> None:
        if reached == "numbered":
            others.append(sequence_once(pool, 0, NOW, 100).rows)

    assert (sequence_once(pool, 0, NOW, 100, meanwhile).rows, others) == (1, [0])


def test_the_lag_of_the_feed_is_told(pool: Pool) -> None:
    sequence_once(pool, 0, NOW, 100)
    told(pool, "a")

    assert sequence_once(pool, 0, NOW + timedelta(seconds=3), 100).lag == timedelta(seconds=3)
