"""Editions, master data and policies: the same on PostgreSQL and in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from poolwise.core.catalog import Item
from poolwise.core.edition.rows import ItemRow, Section
from poolwise.core.policy.terms import SourcingPolicy
from poolwise.core.values import Conflict, Rate, ServiceLevel
from poolwise.flows.masterdata import Told, adopt_policy, in_force, open_edition, publish
from poolwise.flows.ports import Editions, PolicyVersion, Publication
from poolwise.store import postgres
from poolwise.store.editions import MemoryEditions, PostgresEditions
from tests.conftest import Database

NOW = datetime(2026, 1, 10, 8, tzinfo=UTC)


@pytest.fixture(params=["memory", "postgres"])
def editions(request: pytest.FixtureRequest) -> Iterator[Editions]:
    if request.param == "memory":
        yield MemoryEditions()
        return
    database: Database = request.getfixturevalue("database")
    with postgres.connect(database.url, connections=2) as pool:
        yield PostgresEditions(pool)


def items(count: int, name: str = "") -> list[Told]:
    cost = Rate(123456789012345678, 9)
    rows = [Item(f"I{n:03}", name=name, unit_cost=cost, requires=frozenset({"cold", "äß"})) for n in range(count)]
    return [Told(ItemRow(row), Section.ITEMS, sequence=n) for n, row in enumerate(rows)]


def test_an_edition_is_kept_and_in_force(editions: Editions):
    assert (editions.in_force(), in_force(editions)) == ("", None)
    done = publish(editions, items(600), NOW, "x")
    assert editions.in_force() == done.edition.hash
    assert in_force(editions) == done.edition
    assert in_force(editions, done.edition) is done.edition


def test_older_editions_stay_readable(editions: Editions):
    first = publish(editions, items(3), NOW, "x")
    second = publish(editions, [Told(ItemRow(Item("NEW")), Section.ITEMS)], NOW, "x")
    assert open_edition(editions, first.edition.hash) == first.edition
    assert open_edition(editions, second.edition.hash) == second.edition
    with pytest.raises(KeyError):
        editions.parts("none")


def test_rows_come_back_as_they_were_with_those_that_were_removed(editions: Editions):
    publish(editions, items(3), NOW, "x")
    publish(editions, items(2), NOW, "x", complete=[Section.ITEMS])
    rows = editions.rows()
    assert [(row.key, row.body is None, row.sequence) for row in rows] == [
        ("I000", False, 0),
        ("I001", False, 1),
        ("I002", True, 2),
    ]
    again = publish(editions, items(2), NOW, "x")
    assert (again.rows_changed, len(again.edition.catalog.items)) == (0, 2)


def test_of_two_publications_on_the_same_edition_one_loses(editions: Editions):
    done = publish(editions, items(1), NOW, "x")
    for before in ("", "other"):
        with pytest.raises(Conflict):
            editions.publish(Publication(NOW, "x", before, done.edition.hash, done.parts, ()))


def test_a_policy_version_follows_the_active_one(editions: Editions):
    policy = SourcingPolicy("default", 0, service_levels={"standard": ServiceLevel("standard")})
    adopt_policy(editions, policy, NOW, "x")
    kept = editions.policy("default", 1)
    assert kept is not None
    assert editions.policies() == (kept,)
    for version in (1, 3):
        with pytest.raises(Conflict):
            editions.adopt(PolicyVersion("default", version, "sourcing", kept.body, "x", NOW))
    editions.adopt(PolicyVersion("default", 2, "sourcing", kept.body, "x", NOW))
    assert [version.version for version in editions.policies()] == [2]
    assert editions.policy("default", 1) == kept
    assert editions.policy("default", 3) is None


def test_what_was_done_is_audited(database: Database):
    with postgres.connect(database.url, connections=2) as pool:
        publish(PostgresEditions(pool), items(2), NOW, "somebody")
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute("SELECT actor, action, detail FROM audit").fetchall()
    assert rows == [("somebody", "master.publish", {"items": 2})]
