"""The simulator finds nothing, and finds what is planted: a bug of each kind, on memory and on PostgreSQL.

In `make test` 2,000 seeds live a hundred steps on memory and 150 on both books; in `make soak` 50,000 and 1,500.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from poolwise.core.ledger import Account, Cause
from poolwise.core.messages import ReportKind
from poolwise.core.values import replace
from poolwise.flows import execute, release, returns, source, timers
from poolwise.flows.identity import Ids
from poolwise.flows.ports import Effects
from poolwise.sim import stage
from poolwise.sim.__main__ import main
from poolwise.sim.database import PostgresBeside, own_server
from poolwise.sim.simulator import Books, Outcome, Second, shortest, simulate, told
from poolwise.sim.truth import Act, history
from poolwise.store.books import PostgresTransaction

FULL = os.environ.get("POOLWISE_CAMPAIGN") == "full"
STEPS = 100
SEEDS, SEEDS_ON_BOTH = (50_000, 1_500) if FULL else (2_000, 150)
CHUNK, CHUNK_ON_BOTH = 50, 5
TRIED = 60
"""Seeds in which a planted bug must show."""

Patch = pytest.MonkeyPatch
Beside = Callable[[], PostgresBeside]


@pytest.fixture(scope="module")
def beside() -> Iterator[Beside]:
    """A database beside the memory books, emptied for each history."""
    with own_server(STEPS) as emptied:
        yield emptied


def lived(seed: int, second: Second | None = None) -> Outcome:
    return simulate(seed, history(seed, STEPS), second)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_law_holds_on_memory(first: int) -> None:
    for seed in range(first, first + CHUNK):
        outcome = lived(seed)
        assert not outcome.wrong, f"python -m poolwise.sim --seed {seed} --steps {STEPS}: {outcome.wrong}"


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, SEEDS_ON_BOTH, CHUNK_ON_BOTH))
def test_memory_and_postgres_agree_and_every_law_holds(first: int, beside: Beside) -> None:
    for seed in range(first, first + CHUNK_ON_BOTH):
        outcome = lived(seed, beside())
        assert not outcome.wrong, f"python -m poolwise.sim --seed {seed} --steps {STEPS}: {outcome.wrong}"


def test_equal_seeds_give_equal_journals() -> None:
    first, again, other = lived(1), lived(1), lived(2)
    assert first == again
    assert first.journal != other.journal


def test_every_act_happens_and_processes_crash() -> None:
    acts = {step.act for seed in range(20) for step in history(seed, STEPS)}
    assert acts == set(Act)
    outcomes = [lived(seed) for seed in range(5)]
    assert min(outcome.orders for outcome in outcomes) > 0
    assert sum(outcome.decided for outcome in outcomes) > 0
    assert sum(outcome.crashes for outcome in outcomes) > 0


# --- planted bugs


def recorded(change: Callable[[Effects], Effects]) -> Callable[[Patch], None]:
    """What reaches the books is not what the flow decided."""

    def plant(patch: Patch) -> None:
        real = stage._WatchedTransaction.record
        patch.setattr(stage._WatchedTransaction, "record", lambda self, effects: real(self, change(effects)))

    return plant


def lost_message(effects: Effects) -> Effects:
    """A message is remembered, and what it says is not booked."""
    return replace(effects, movements=()) if effects.messages_seen else effects


def booked_again(effects: Effects) -> Effects:
    """That a message had its effect is forgotten."""
    return replace(effects, messages_seen=())


def leaked(patch: Patch) -> None:
    """Timers go off, and nothing is given back."""
    patch.setattr(timers.GivenBack, "add", lambda *_: None)


def unsorted(patch: Patch) -> None:
    """Positions are locked one by one, from the last to the first."""
    real = source.Shelf.lock

    def backwards(shelf, transaction, positions) -> None:
        for position in sorted(set(positions), reverse=True):
            real(shelf, transaction, [position])

    patch.setattr(source.Shelf, "lock", backwards)


def wrong_compensation(patch: Patch) -> None:
    """What a node declines is given back, and does not come to be there again."""
    patch.setitem(execute.GOES, ReportKind.DECLINED, (Account.OUTSIDE, Cause.DECLINE))


def too_early(patch: Patch) -> None:
    """Shipments are released at once."""
    patch.setattr(release, "release_at", lambda _node, _day, decided_at, _minutes: decided_at)
    patch.setattr(source, "release_at", lambda _node, _day, decided_at, _minutes: decided_at)


def offered_for_good(patch: Patch) -> None:
    """The time of an offer is over, and nothing follows."""
    patch.setattr(timers, "expire", lambda *_: None)


def system_clock(patch: Patch) -> None:
    """Ids are of the time that a real clock shows."""
    real = Ids.new
    patch.setattr(Ids, "new", lambda self, _: real(self, datetime.now(UTC)))


def never_sorted_out(patch: Patch) -> None:
    """B-grade stays in the pool it had left from."""
    patch.setattr(returns, "_goes_to", lambda gone: gone.part.key)


PLANTED: dict[str, tuple[Callable[[Patch], None], str]] = {
    "lost message": (recorded(lost_message), "on hand, but"),
    "double booking": (recorded(booked_again), "law 5"),
    "leaked reservation": (leaked, "after its time (law 6)"),
    "unsorted lock": (unsorted, "positions are not locked by key"),
    "wrong compensation": (wrong_compensation, "on hand, but"),
    "early release": (too_early, "too early"),
    "return to the wrong pool": (never_sorted_out, "on hand, but"),
    "offer without end": (offered_for_good, "is offered after"),
    "clock from the system": (system_clock, "law 18"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found_on_memory(name: str, monkeypatch: Patch) -> None:
    plant, says = PLANTED[name]
    plant(monkeypatch)
    assert any(says in lived(seed).wrong for seed in range(TRIED))


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found_on_postgres(name: str, monkeypatch: Patch, beside: Beside) -> None:
    """On PostgreSQL alone, in the first history in which memory shows it."""
    plant, says = PLANTED[name]
    plant(monkeypatch)
    seed = next(seed for seed in range(TRIED) if says in lived(seed).wrong)
    assert says in simulate(seed, history(seed, STEPS), beside(), memory=False).wrong


def test_books_that_differ_are_found(monkeypatch: Patch, beside: Beside) -> None:
    """PostgreSQL alone forgets what was counted when."""
    real = PostgresTransaction.record
    monkeypatch.setattr(PostgresTransaction, "record", lambda self, effects: real(self, replace(effects, counts=())))
    assert any("PostgreSQL" in lived(seed, beside()).wrong for seed in range(TRIED))


def test_a_failing_history_is_told_in_few_steps(monkeypatch: Patch) -> None:
    leaked(monkeypatch)
    seed = next(seed for seed in range(TRIED) if lived(seed).wrong)
    short = shortest(seed, history(seed, STEPS), lambda: None)
    assert len(short) < STEPS // 5
    assert "law 6" in told(seed, short)[-1]


def test_the_command_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(seed=3, steps=20, books=Books.MEMORY)
    line = capsys.readouterr().out
    assert line.startswith("seed 3: 20 steps, ")
    assert line.count("\n") == 1
