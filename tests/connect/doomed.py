"""Import a directory, as the target of a process of its own, that is killed at a given point.

Either at `row N`, when the stock file is read that far, or at `STEP N`: at that step of the n-th recording, or when the
n-th chunk is `opened` (its new positions are made, and not committed) or `sifted` (committed, and what differs not
booked), or the n-th edition is `published`.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from unittest.mock import patch

from poolwise.connect.directory.importing import Progress, Target, import_directory
from poolwise.core.values import replace
from poolwise.flows.identity import Ids
from poolwise.store import postgres, snapshot
from poolwise.store.books import PostgresBooks
from poolwise.store.editions import PostgresEditions
from poolwise.store.postgres import Pool
from poolwise.store.snapshot import PostgresSieve
from tests.connect.depot import target

ROWS = 40
NOW = datetime(2026, 1, 20, 8, tzinfo=UTC)


def target_of(pool: Pool, books: PostgresBooks) -> Target:
    """A target with small chunks, so that there is much to be interrupted."""
    plain = target(books, PostgresEditions(pool))
    ids = Ids(secrets.randbits)
    return replace(plain, ids=ids, clock=lambda: NOW, sieve=PostgresSieve(pool), rows_in_a_chunk=ROWS)


def bring_until(url: str, directory: str, step: str, number: int) -> None:
    """Import, until the end comes."""
    left = number

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def at_row(progress: Progress) -> None:
        if step == "row" and progress.file == "stock" and progress.done >= left:
            die()

    def at_step(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                die()

    with postgres.connect(url, connections=3) as pool, ExitStack() as patched:
        for owner, name, says in (
            (snapshot, "open_positions", "opened"),
            (PostgresSieve, "sift", "sifted"),
            (PostgresEditions, "publish", "published"),
        ):
            patched.enter_context(patch.object(owner, name, then(getattr(owner, name), partial(at_step, says))))
        import_directory(Path(directory), target_of(pool, PostgresBooks(pool, failpoint=at_step)), progress=at_row)


def then(work: Callable[..., object], tell: Callable[[], None]) -> Callable[..., object]:
    """Does some work, and tells when it is done."""

    def done(*asked: object) -> object:
        found = work(*asked)
        tell()
        return found

    return done
