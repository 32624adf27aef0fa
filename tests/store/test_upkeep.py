"""Answers under idempotency keys are kept for thirty days, and forgotten in bounded batches. Stock is tidied."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from poolwise.core.ledger import PositionKey
from poolwise.flows.ports import Answer, Effects
from poolwise.store import postgres, upkeep
from poolwise.store.books import PostgresBooks
from poolwise.store.upkeep import ANSWERS_ARE_KEPT, forget_answers, tidy
from tests.conftest import Database
from tests.store.contract import position, stocked

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_old_answers_are_forgotten_a_batch_at_a_time_and_no_other_is(database: Database) -> None:
    ages = [ANSWERS_ARE_KEPT + timedelta(seconds=n) for n in range(1, 6)] + [ANSWERS_ARE_KEPT, timedelta(0)]
    with postgres.connect(database.url, connections=2) as pool:
        books = PostgresBooks(pool)
        for place, age in enumerate(ages):
            with books.transaction() as transaction:
                answer = Answer("shop", f"key-{place}", b"hash", 201, str(place))
                transaction.record(Effects(at=NOW - age, answers=[answer]))

        assert [forget_answers(pool, NOW, 2) for _ in range(4)] == [2, 2, 1, 0]
        with books.transaction() as transaction:
            left = [transaction.answer("shop", f"key-{place}") is not None for place in range(len(ages))]
    assert left == [False] * 5 + [True, True]


PAGES = "SELECT count(DISTINCT (ctid::text::point)[0]) FROM position WHERE item = 'I007'"


def test_the_positions_of_an_item_lie_side_by_side_once_it_was_tidied(database: Database) -> None:
    nodes = [[(PositionKey(f"I{item:03}", f"N{node:02}", "web"), node) for item in range(100)] for node in range(40)]
    with postgres.connect(database.url, connections=2) as pool, pool.connection() as connection:
        books = PostgresBooks(pool)
        kept = [id_ for amounts in nodes for id_ in stocked(books, *amounts)]
        before = connection.execute(PAGES).fetchone()
        connection.commit()

        tidy(database.owner_url)

        after = connection.execute(PAGES).fetchone()
        balances = {id_: position(books, id_).on_hand for id_ in kept}
    assert before is not None
    assert after is not None
    assert after[0] <= 3 < before[0]
    assert balances == {key.id(): quantity for amounts in nodes for key, quantity in amounts}


def test_stock_that_is_in_use_is_not_tidied(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "TIDY", ("SET lock_timeout = '50ms'", *upkeep.TIDY[1:]))
    with psycopg.connect(database.url) as connection:
        connection.execute("SELECT count(*) FROM position")
        with pytest.raises(postgres.DatabaseUnavailable, match="in use by others too long"):
            tidy(database.owner_url)
