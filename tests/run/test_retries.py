"""Retries over HTTP (law 5): every request has one effect and one answer, however often and at whatever moment it is
sent again, at whichever of two applications, and whether or not its answer was read.

Some hundred repeated requests in `make test`, two hundred thousand in `make soak`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from poolwise.core.values import Conflict, replace
from poolwise.flows.ports import Answer, Effects
from poolwise.flows.tokens import Role
from poolwise.run.processes import services_of, worker_of
from poolwise.store.books import PostgresBooks, PostgresTransaction
from poolwise.web import idempotency
from tests.conftest import Database
from tests.run.errands import KINDS_AFTER, KINDS_BEFORE, KINDS_RELEASED, Errands, bring
from tests.run.retrying import Clients, Manner, repeated
from tests.scenarios.stage import Stage, staged
from tests.web.shop import served

FULL = os.environ.get("POOLWISE_CAMPAIGN") == "full"
REPEATED = 200_000 if FULL else 250
DEEDS_OF_A_DAY = 1_000 if FULL else 70
REPEATED_OF_A_DAY = 7_900 if FULL else 250
LAST_ROUNDS = 4 if FULL else 1
IDLE_S = 0.1
SEED_OF_PLANTED, DEEDS_TO_FIND = 1, 60

pytestmark = pytest.mark.slow


@contextmanager
def working(stage: Stage) -> Iterator[None]:
    """A worker decides what comes, all the time."""
    closing = Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            worker = worker_of(stage.app)
            while not closing.wait(IDLE_S):
                worker.run(until_idle=True)
        except BaseException as error:  # noqa: BLE001  # raised below
            errors.append(error)

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        thread.join()
    assert not errors, errors


def day(stage: Stage, seed: int, many: int = DEEDS_OF_A_DAY) -> tuple[Clients, list[str]]:
    """A day of retries, and what is wrong at its end."""
    bring(stage)
    with served(services_of(stage.app)) as other_url:
        clients = Clients(stage, (stage.url, other_url), stage.tokens[Role.INTEGRATOR])
        chance = random.Random(seed)
        errands = Errands(stage, clients, chance)
        for kinds, share in ((KINDS_BEFORE, 0.45), (KINDS_AFTER, 0.3), (KINDS_RELEASED, 0.25)):
            before = list(errands.deeds)
            deeds = errands.draw(kinds, int(share * many))
            with working(stage):
                clients.send(repeated(deeds, before, chance), seed)
            stage.work()
            stage.pass_time(hours=1)
            stage.work()
        deeds = errands.deeds
        last = deeds * LAST_ROUNDS
        clients.send([(deed, Manner.READ) for deed in chance.sample(last, len(last))], seed)
        clients.send([(deed, Manner.OTHER) for deed in deeds if deed.other is not None], seed)
        stage.work()
    wrong = errands.wrong()
    if not wrong:
        assert errands.baskets_held() > 0
        stage.prove()
        stage.pass_time(days=3)
        stage.work()
        assert errands.baskets_held() == 0
        stage.prove()
    return clients, wrong


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(-(-REPEATED // REPEATED_OF_A_DAY)))
def test_whatever_is_sent_again_has_one_effect_and_one_answer(database: Database, tmp_path: Path, seed: int) -> None:
    with staged(database.url, tmp_path) as stage:
        clients, wrong = day(stage, seed)
    print(
        f"seed {seed}: {clients.repeated} of {clients.sent.total()} requests were repeated; "
        f"{dict(clients.sent)}, turned away: {dict(clients.turned_away)}"
    )
    assert wrong == []
    assert clients.repeated >= REPEATED_OF_A_DAY


# --- planted bugs


def answers_after(patch: pytest.MonkeyPatch) -> None:
    """Answers are kept after the commit, in a transaction of their own."""
    record, transaction = PostgresTransaction.record, PostgresBooks.transaction
    late: dict[PostgresTransaction, list[Effects]] = {}

    def recorded(self: PostgresTransaction, effects: Effects) -> None:
        late.setdefault(self, []).append(Effects(at=effects.at, answers=effects.answers))
        record(self, replace(effects, answers=[]))

    @contextmanager
    def opened(self: PostgresBooks) -> Iterator[PostgresTransaction]:
        with transaction(self) as current:
            yield current
        for effects in late.pop(current, []):
            with suppress(Conflict), transaction(self) as after:
                record(after, effects)

    patch.setattr(PostgresTransaction, "record", recorded)
    patch.setattr(PostgresBooks, "transaction", opened)


def any_request_will_do(patch: pytest.MonkeyPatch) -> None:
    """Whatever is sent under a key is answered with what was asked first."""
    real = idempotency.answer_on_record
    patch.setattr(PostgresTransaction, "answer", unhashed(PostgresTransaction.answer))
    patch.setattr(idempotency, "answer_on_record", lambda books, key: real(books, replace(key, body_hash=b"")))


def unhashed(real: Callable[..., Answer | None]) -> Callable[..., Answer | None]:
    def answer(self: PostgresTransaction, sender: str, key: str) -> Answer | None:
        known = real(self, sender, key)
        return None if known is None else replace(known, body_hash=b"")

    return answer


def ids_forgotten(patch: pytest.MonkeyPatch) -> None:
    """It is not kept which messages have had their effect."""
    real = PostgresTransaction.record
    patch.setattr(
        PostgresTransaction, "record", lambda self, effects: real(self, replace(effects, messages_seen=()))
    )  # fmt: skip


PLANTED = [
    (answers_after, "times"),
    (any_request_will_do, "another request under its key is answered"),
    (ids_forgotten, "is booked under two keys"),
]


@pytest.mark.campaign
@pytest.mark.parametrize(("plant", "says"), PLANTED if FULL else PLANTED[:1])
def test_what_is_planted_is_found(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    says: str,
) -> None:
    plant(monkeypatch)
    with staged(database.url, tmp_path) as stage:
        _, wrong = day(stage, SEED_OF_PLANTED, DEEDS_TO_FIND)
    print(wrong[:3])
    assert any(says in each for each in wrong)
