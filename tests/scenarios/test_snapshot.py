"""Scenario 23: a large snapshot of which little has changed, with everything in it that senders get wrong."""

from __future__ import annotations

import random

import pytest

from tests.scenarios.stage import BEFORE, Row, Stage, csv, network

LATER = "2026-01-12T09:30:00Z"


def count(item: str, quantity: object, sequence: int, node: str = "N", as_of: str = BEFORE) -> Row:
    return {"item": item, "node": node, "pool": "P", "quantity": quantity, "as_of": as_of, "sequence": sequence}


def moved(stage: Stage) -> int:
    """Movements that the feed tells of."""
    return sum(len(event["moved"]) for event in stage.events("stock.moved"))


def crossings(stage: Stage) -> list[tuple[str, int]]:
    """Positions that sold out or have stock again: item, and what there is now."""
    told = [*stage.events("stock.exhausted"), *stage.events("stock.available")]
    return sorted((event["item"], event["available"]) for event in told)


@pytest.mark.parametrize(("items", "changed", "seed"), [(2_000, 40, 1), (777, 31, 2)])
def test_a_snapshot_moves_what_has_changed_and_nothing_else(stage: Stage, items: int, changed: int, seed: int) -> None:
    chance = random.Random(seed)
    names = [f"I{n:05}" for n in range(items)]
    first = [count(name, 10, 5) for name in names]
    stage.bring({**network({"N": 5}, names), "stock.csv": first})
    before, told = moved(stage), crossings(stage)

    differing = chance.sample(names, changed)
    sold_out, others = differing[: changed // 4], differing[changed // 4 :]
    rows = [count(name, 10, 6, as_of=LATER) for name in names if name not in differing]
    rows += [count(name, 0, 6, as_of=LATER) for name in sold_out]
    rows += [count(name, 3 + place, 6, as_of=LATER) for place, name in enumerate(others)]
    duplicates = chance.sample(rows, 25)
    stale = [count(name, 999, 4, as_of=LATER) for name in chance.sample(names, 25)]
    rows += [*duplicates, *stale]
    chance.shuffle(rows)
    bad = [count("UNKNOWN", 1, 6), count(names[0], -1, 6), count(names[1], "many", 6), count(names[2], 1, 6, "NOWHERE"),
           count(names[3], 1, 6, as_of="yesterday")]  # fmt: skip
    done = stage.bring({"stock.csv": csv([*rows, *bad])})

    result = done.files["stock"]
    changes = changed - (1 if 10 in range(3, 3 + len(others)) else 0)
    assert (result.changed, moved(stage) - before) == (changes, changes)
    assert (result.rejected, result.stale + result.duplicate) == (len(bad), len(stale) + len(duplicates))
    assert {(reject.row - 1 - len(rows), reject.field) for reject in done.rejects} == {
        (1, "item"), (2, "quantity"), (3, "quantity"), (4, "node"), (5, "as_of")
    }  # fmt: skip
    assert all(reject.reason for reject in done.rejects)
    assert sorted(set(crossings(stage)) - set(told)) == [(name, 0) for name in sorted(sold_out)]
    assert {stage.available(name) for name in sold_out[:3]} == {"0"}
    assert stage.available(others[0]) == "3"

    again = stage.bring({"stock.csv": csv(rows)})
    assert again.files["stock"].changed == 0
    assert moved(stage) - before == changes
    stage.prove()
