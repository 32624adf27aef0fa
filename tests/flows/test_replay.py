"""Law 8: a decision on record recomputes to the same plan, byte for byte, in a process that has never seen it.

Orders, counts, receipts and breaks by chance, decided singly and in waves; in the middle a new edition and a new policy
version come into force. A new process with another hash seed then recalls every decision from the database alone, and
every wave as a whole.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from poolwise.core.edition.rows import BandRow, Section
from poolwise.core.network import RateBand
from poolwise.core.sourcing.plan import Plan
from poolwise.core.sourcing.record import digest, plan_bytes
from poolwise.core.values import Rate, replace
from poolwise.flows import source, wave
from poolwise.flows.masterdata import Told, adopt_policy, publish
from poolwise.flows.wave import run_wave
from poolwise.store.editions import PostgresEditions
from tests.conftest import Database
from tests.flows.market import CELLS, ITEMS, NODES, Market, on_postgres, policy, rows

FULL = os.environ.get("POOLWISE_CAMPAIGN") == "full"
DECISIONS = 1_000 if FULL else 100
PATIENCE_S = 1_800 if FULL else 300
"""A wave is worked out again for each of its orders that is asked about."""

pytestmark = [pytest.mark.slow, pytest.mark.campaign]

DECISIONS_MADE = """
SELECT owner, attempt, owner = batch AND wave IS NULL FROM decision WHERE cell = ANY (%s) ORDER BY at, place, owner
"""
RECALL = """
import json, sys
from hashlib import sha256
from poolwise.core.sourcing.record import digest, plan_bytes
from poolwise.flows.explain import recall, recall_wave
from poolwise.run.bootstrap import Rulebook
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.editions import PostgresEditions
from uuid import UUID

url, asked = sys.argv[1], json.load(sys.stdin)
with postgres.connect(url, connections=2) as pool:
    books, rules = PostgresBooks(pool), Rulebook(PostgresEditions(pool))
    for owner, attempt, is_wave in asked:
        if is_wave:
            with books.transaction() as transaction:
                whole = transaction.decision(UUID(owner), attempt)
            atlas = rules.atlas(whole.edition, whole.policy, whole.policy_version)
            plans = [plan for _, plan in recall_wave(books, atlas, UUID(owner)).values()]
            again = sha256(b"".join(digest(plan) for plan in plans)).digest()[:16]
            kept = whole.digest.hex()
            print(json.dumps([owner, attempt, again == whole.digest, [plan_bytes(plan).hex() for plan in plans], kept]))
            continue
        found, _ = recall(books, rules, UUID(owner), attempt)
        print(json.dumps([owner, attempt, found.same, plan_bytes(found.plan).hex(), found.decision.digest.hex()]))
"""


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[bytes, bytes]]:
    """The bytes of every plan as it was carried out, by its digest."""
    made: dict[bytes, bytes] = {}

    def noting(plan: Plan) -> bytes:
        made[digest(plan)] = plan_bytes(plan)
        return digest(plan)

    monkeypatch.setattr(source, "digest", noting)
    monkeypatch.setattr(wave, "digest", noting)
    return made


def happens(market: Market, chance: random.Random, number: int) -> None:
    """Something that a decision depends on, or an order."""
    item, node = chance.choice(ITEMS), chance.choice(NODES)
    match chance.randrange(8):
        case 0 | 1:
            market.count(item, node, chance.choice((0, 9, *[400] * 6)))
        case 2:
            market.expect(item, node, chance.randint(1, 9), chance.randint(0, 20), f"PO-{number}")
        case _:
            lines = [(chance.choice(ITEMS), chance.randint(1, 6)) for _ in range(chance.randint(1, 3))]
            level = chance.choice(("standard", "express", *["economy"] * 4))
            whole = chance.random() < 0.2
            market.order(
                f"R-{number}", *lines, service_level=level, priority=chance.choice((0, 9)), ship_complete=whole
            )


def dearer(market: Market) -> Market:
    """The market under a new edition, in which node A is dear, and a policy that splits reluctantly."""
    assert market.connections is not None
    editions = PostgresEditions(market.connections)
    row = next(row for _, row in rows(20) if isinstance(row, BandRow) and row.rates == "ring-1")
    band = RateBand(row.band.above_ug, row.band.up_to_ug, fixed=Rate(12))
    published = publish(editions, [Told(replace(row, band=band), Section.RATES)], market.now, "test")
    adopted, is_new = adopt_policy(editions, policy(split_cost=Rate(40)), market.now, "test")
    assert is_new
    assert published.edition.hash != market.edition.hash
    return Market(market.books, published.edition, adopted, market.connections, market.now)


def decisions(market: Market) -> list[tuple[str, int, bool]]:
    """Every decision on record: its owner, its attempt, and whether it is of a wave as a whole."""
    assert market.connections is not None
    with market.connections.connection() as connection:
        rows_ = connection.execute(DECISIONS_MADE, (list(CELLS),)).fetchall()
    return [(str(owner), attempt, is_wave) for owner, attempt, is_wave in rows_]


def recalled(url: str, asked: list[tuple[str, int, bool]]) -> list[list[object]]:
    """What a new process makes of them."""
    done = subprocess.run(
        [sys.executable, "-c", RECALL, url],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def test_decisions_recompute_byte_for_byte_in_a_new_process(database: Database, plans: dict[bytes, bytes]) -> None:
    chance = random.Random(1)
    with on_postgres(database, daily_orders=40) as opened:
        market, number = opened, 0
        while len(asked := decisions(market)) < DECISIONS:
            for _ in range(10):
                number += 1
                happens(market, chance, number)
            market.work(limit=chance.choice((1, 7, 100)))
            run_wave(market.books, market.desk, 0, market.later(seconds=1))
            if market.edition.hash == first_edition(market) and len(asked) > DECISIONS // 2:
                market = dearer(market)
        found = recalled(database.url, asked)
        planned_together = len(in_waves(market))
    assert [(owner, attempt) for owner, attempt, *_ in found] == [(owner, attempt) for owner, attempt, _ in asked]
    assert all(same for _, _, same, _, _ in found)
    carried_out = {kept.hex(): made.hex() for kept, made in plans.items()}
    for (_, _, is_wave), (*_, again, kept) in zip(asked, found, strict=True):
        assert set(again) <= set(carried_out.values()) if is_wave else again == carried_out[kept]
    assert any(attempt > 1 for _, attempt, _ in asked)
    assert sum(is_wave for *_, is_wave in asked) >= 3
    print(f"{len(asked)} decisions, {planned_together} of them in waves")
    assert planned_together >= len(asked) // 5


def in_waves(market: Market) -> list[str]:
    """Orders whose decision names a wave."""
    assert market.connections is not None
    with market.connections.connection() as connection:
        statement = "SELECT owner FROM decision WHERE cell = ANY (%s) AND wave IS NOT NULL"
        return [str(owner) for (owner,) in connection.execute(statement, (list(CELLS),))]


def first_edition(market: Market) -> str:
    """The edition the market opened with."""
    assert market.connections is not None
    with market.connections.connection() as connection:
        row = connection.execute("SELECT hash FROM edition ORDER BY made_at LIMIT 1").fetchone()
    assert row is not None
    return str(row[0])
