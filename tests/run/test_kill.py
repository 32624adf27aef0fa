"""Kill -9 of worker, API and server at every named failpoint and at random moments, with work in flight (law 7).

Each kill: clients are ordering and changing their minds, a node is counting, sending and declining, a worker is
sourcing; then something dies in the middle of a transaction; then what died is started again. Afterwards every
acknowledged order is there once and decided, every acknowledged change and report happened once, nothing is stuck,
every law holds, and the feed is whole. Ten kills in `make test`, a hundred in `make soak`.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice

import pytest

from poolwise.store.embedded import EmbeddedServer
from poolwise.store.steps import Access, Forgetting, Step
from tests.conftest import data_folder
from tests.run.doomed import FEED_STEPS, Doom
from tests.run.works import PATIENCE_S, Works

FULL = os.environ.get("POOLWISE_CAMPAIGN") == "full"
SEED = 1
KILLS = 100 if FULL else 10

pytestmark = [pytest.mark.slow, pytest.mark.campaign]


@dataclass(frozen=True, slots=True)
class Kill:
    """Who dies, and where: at a step of a recording or of the sequencer, or at a random moment ('')."""

    who: str
    step: str = ""
    nth: int = 1


FORGETTING = tuple(step.value for step in Forgetting)
TAKING = tuple(access.value for access in Access)
WORKER_STEPS = (
    *(step.value for step in Step if step not in (Step.ORDERS, Step.COUNTS)),
    *TAKING,
    *FEED_STEPS,
    *FORGETTING,
)
API_STEPS = (*(step.value for step in Step), Access.WOKEN.value)
ALL = (
    *(Kill("worker", step) for step in WORKER_STEPS),
    *(Kill("api", step) for step in API_STEPS),
    *(Kill("server", step) for step in WORKER_STEPS),
)
FEW = (
    ("worker", WORKER_STEPS),
    ("worker", TAKING),
    ("worker", FORGETTING),
    ("api", API_STEPS),
    ("server", WORKER_STEPS),
    ("server", TAKING + FORGETTING),
)
RANDOM = (Kill("worker"), Kill("api"), Kill("server"), Kill("backend"))


def drawn(seed: int, count: int) -> list[Kill]:
    """The kills of a campaign: of few one of each kind, of many every failpoint; the rest at random moments."""
    chance = random.Random(seed)
    # What is to be forgotten is forgotten at once, and who waits is seldom taken out of the line.
    seldom = FORGETTING + TAKING
    named = [Kill(kill.who, kill.step, 1 if kill.step in seldom else chance.randint(1, 4)) for kill in ALL]
    if count < len(named):
        named = [
            chance.choice([kill for kill in named if kill.who == who and kill.step in steps]) for who, steps in FEW
        ]
    kills = [*named, *islice(cycle(RANDOM), count - len(named))]
    chance.shuffle(kills)
    return kills


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    """Everything running, on a server of its own, which will be killed."""
    with data_folder(tmp_path_factory) as folder:
        running = Works(EmbeddedServer(folder, durable=False), SEED)
        try:
            running.repair()
            running.open()
            yield running
        finally:
            running.close()


def die(works: Works, kill: Kill, chance: random.Random) -> None:
    """Let it happen, and see that it did while something was being written."""
    if kill.step in FORGETTING and works.worker is not None:
        # Nobody else is to forget them.
        works.kill(works.worker)
        works.answers_grow_old()
    match kill:
        case Kill("worker", "") if works.worker is not None:
            works.kill(works.worker)
        case Kill("api", "") if works.api is not None:
            works.kill(works.api)
        case Kill("server" | "backend" as who, ""):
            works.kill_server(who == "backend", chance)
        case Kill("worker", step, nth):
            doomed = works.start_worker(Doom(step, nth))
            doomed.join(PATIENCE_S)
            assert doomed.exitcode == -signal.SIGKILL, f"the worker did not come to {step}: {doomed.exitcode}"
        case Kill("api", step, nth):
            assert works.api is not None
            works.kill(works.api)
            works.start_api(Doom(step, nth))
            works.api.join(PATIENCE_S)
            assert works.api.exitcode == -signal.SIGKILL, f"the API did not come to {step}: {works.api.exitcode}"
        case Kill("server", step, nth):
            postmaster = works.server.status().process
            doomed = works.start_worker(Doom(step, nth, postmaster))
            works.wait_for_the_end_of(postmaster)
            doomed.kill()
            doomed.join(PATIENCE_S)


@pytest.mark.parametrize("number", range(KILLS))
def test_nothing_acknowledged_is_lost_and_nothing_is_done_twice(works: Works, number: int) -> None:
    kill = drawn(SEED, KILLS)[number]
    print(f"seed {SEED}, kill {number}: {kill}")
    works.repair()
    before = len(works.acknowledged)
    works.other_rules(number)
    die(works, kill, random.Random(SEED * 1_000 + number))
    works.repair()
    works.orders_arrive(before + 20)
    works.settle()
    works.old_answers_go()
    works.prove()
    if number == KILLS - 1:
        works.prove_everything()
    works.go_on()
