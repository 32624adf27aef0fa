"""Answers under idempotency keys are kept for thirty days, and forgotten in bounded batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from poolwise.flows.ports import Answer, Effects
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.upkeep import ANSWERS_ARE_KEPT, forget_answers
from tests.conftest import Database

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
