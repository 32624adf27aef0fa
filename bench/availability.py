"""What may be promised of a basket, at a million positions: in this process, and over HTTP at a rate.

    python -m bench.availability --json [--items 50000] [--nodes 20] [--rounds 5] [--quick]

Every question is a new basket of ten items, drawn at random, for one channel, over all its nodes and with a date. The
shipped policy holds a unit back at every store, and two receipts of every item are expected. In process that is the
flow and the database; over HTTP the real API, asked by another process at random moments (an open loop). The database
was tidied after its first import (`poolwise db tidy`), as docs/how-to/database.md advises.
p99 is taken by round, and of the rounds the median. `pgbench_s_ms` is the mean latency of `pgbench -S` at one client
and, for HTTP, at the same rate, in the same rounds. `wrong` names answers that are not what the files said.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

import msgspec

from bench import pgbench
from bench.front import Api, Ask, Told, asked_elsewhere, percentile, running_api
from bench.hall import new_database, running_server, settings_for, settle
from bench.imports import bring_in
from bench.million import CENTRES, CHANNEL, Extra, World
from poolwise.flows.promisable import Outlooks, look_up
from poolwise.run.bootstrap import Rulebook, seek_cycles_seldom
from poolwise.run.settings import Settings
from poolwise.store import postgres
from poolwise.store.editions import PostgresEditions
from poolwise.store.upkeep import tidy
from poolwise.store.views import PostgresViews
from poolwise.web.availability import AvailabilityOut

BASKET: Final = 10
RECEIPTS_OF_AN_ITEM: Final = 2

Basket = list[int]


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: positions, rounds, questions of each kind in a round and before them, and of pgbench."""

    items: int = 50_000
    nodes: int = 20
    rounds: int = 5
    questions: int = 2_000
    warm_up: int = 300
    pgbench_s: int = 4
    pgbench_scale: int = pgbench.SCALE


QUICK: Final = Size(items=100, rounds=1, questions=100, warm_up=20, pgbench_s=1, pgbench_scale=1)


def measure(size: Size, rate: int, seed: int) -> dict[str, object]:
    """Everything, on a server of its own; the report."""
    random = Random(seed)
    with running_server() as server, tempfile.TemporaryDirectory(prefix="poolwise-bench-") as folder:
        name = new_database(server, datetime.now(UTC))
        settings, directory = settings_for(server, name), Path(folder)
        world = World.of(size.items, size.nodes, seed)
        world.write_network(directory)
        world.write_snapshot(directory, datetime.now(UTC), Extra(0, 0, 0, 0))
        receipts = world.write_receipts(directory, RECEIPTS_OF_AN_ITEM, datetime.now(UTC).date())
        bring_in(settings, directory)
        tidy(server.owner_url(name))
        settle(server, name)
        pgbench.prepare(server, size.pgbench_scale)
        inside: list[list[float]] = []
        outside: list[list[float]] = []
        yardsticks: list[tuple[float, float]] = []
        wrong: list[str] = []
        with running_api(settings) as api:
            over_http(api, world, random, size.warm_up, rate)
            for _ in range(size.rounds):
                took, faults = in_process(settings, world, random, size)
                answers, more = over_http(api, world, random, size.questions, rate)
                inside.append(took)
                outside.append([told.milliseconds for told in answers])
                wrong += [*faults, *more]
                alone = pgbench.measure(server, "-S", size.pgbench_s, clients=1)
                at_rate = pgbench.measure(server, "-S", size.pgbench_s, rate=rate)
                yardsticks.append((alone.latency_ms, at_rate.latency_ms))
    return {
        "in_process_p99_ms": round(median(percentile(took, 0.99) for took in inside), 2),
        "http_p99_ms": round(median(percentile(took, 0.99) for took in outside), 2),
        "positions": world.positions,
        "in_process_p50_ms": round(median(percentile(took, 0.5) for took in inside), 2),
        "http_p50_ms": round(median(percentile(took, 0.5) for took in outside), 2),
        "pgbench_s_ms": [round(median(each), 3) for each in zip(*yardsticks, strict=True)],
        "wrong": wrong[:10],
        "inputs": {"items": size.items, "nodes": size.nodes, "receipts": receipts, "basket": BASKET,
                   "rounds": size.rounds, "questions": size.questions, "rate": rate, "seed": seed},
        "load": os.getloadavg(),
    }  # fmt: skip


def in_process(settings: Settings, world: World, random: Random, size: Size) -> tuple[list[float], list[str]]:
    """Milliseconds of each question, and what was wrong."""
    took: list[float] = []
    wrong: list[str] = []
    seek_cycles_seldom()  # as the API does
    with postgres.connect(settings.database_url, connections=1) as pool:
        views, outlooks, rules = PostgresViews(pool), Outlooks(), Rulebook(PostgresEditions(pool))
        for number in range(-size.warm_up, size.questions):
            basket = random.sample(range(world.items), BASKET)
            wanted = {world.item(item): 1 + item % 3 for item in basket}
            began = time.perf_counter()
            outlook = outlooks.of(rules.current(), CHANNEL)
            found = look_up(views, outlook, list(wanted), datetime.now(UTC).date()).basket(wanted)
            if number >= 0:
                took.append((time.perf_counter() - began) * 1_000)
            wrong += compared(world, basket, {line.item: line.there.now for line in found.lines})
    return took, wrong


def over_http(api: Api, world: World, random: Random, questions: int, rate: int) -> tuple[list[Told], list[str]]:
    """The answers to questions that come at a rate, and what was wrong with them."""
    baskets = [random.sample(range(world.items), BASKET) for _ in range(questions)]
    day = datetime.now(UTC).date() + timedelta(days=7)
    due, at = [], 0.0
    for _ in baskets:
        at += random.expovariate(rate)
        due.append(at)
    answers = asked_elsewhere(api, [Ask("GET", _path(world, basket, day)) for basket in baskets], due)
    wrong: list[str] = []
    for told, basket in zip(answers, baskets, strict=True):
        assert told.status == 200, told.body
        answer = msgspec.json.decode(told.body, type=AvailabilityOut)
        wrong += compared(world, basket, {item.item: int(item.now) for item in answer.items})
    return answers, wrong


def _path(world: World, basket: Basket, day: date) -> str:
    items = ",".join(world.item(item) for item in basket)
    wanted = ",".join(str(1 + item % 3) for item in basket)
    return f"/v1/availability?channel={CHANNEL}&items={items}&quantities={wanted}&date={day}"


def compared(world: World, basket: Basket, found: dict[str, int]) -> list[str]:
    """What is wrong with what is there now: stores hold a unit back."""
    wrong = []
    for item in basket:
        due = sum(max(0, shelf[item] - (node % CENTRES > 0)) for node, shelf in enumerate(world.quantities))
        if found[world.item(item)] != due:
            wrong.append(f"{world.item(item)}: {found[world.item(item)]} instead of {due}")
    return wrong


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the document on one line")
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--nodes", type=int, default=20, help="of the channel")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=2_000, help="of each kind, in a round")
    parser.add_argument("--rate", type=int, default=200, help="HTTP requests a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two thousand positions, one round")
    asked = parser.parse_args()
    size = QUICK if asked.quick else Size(asked.items, asked.nodes, asked.rounds, asked.questions)
    report = measure(size, asked.rate, asked.seed)
    print(json.dumps(report, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
