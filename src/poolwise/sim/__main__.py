"""`python -m poolwise.sim --seed N --steps M`: live through one history; on failure tell the shortest that fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated

import typer

from poolwise.sim.database import own_server
from poolwise.sim.simulator import Books, Outcome, Second, shortest, simulate, told
from poolwise.sim.truth import history


def main(
    seed: Annotated[int, typer.Option(help="which network and history")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="length of the history")] = 100,
    books: Annotated[Books, typer.Option(help="one kind alone, or both in step")] = Books.BOTH,
) -> None:
    """Live through a history of a random network, with every law looked at after each step."""
    lived = history(seed, steps)
    with ExitStack() as stack:
        second: Callable[[], Second | None] = _nothing
        if books is not Books.MEMORY:
            second = stack.enter_context(own_server(steps))
        outcome = simulate(seed, lived, second(), memory=books is not Books.POSTGRES)
        if not outcome.wrong:
            print(_line(seed, outcome))
            return
        # Memory is quick: what fails there is made shorter there.
        in_memory = simulate(seed, lived).wrong
        short = shortest(seed, lived, _nothing if in_memory else second)
        for line in told(seed, short, None if in_memory else second()):
            print(line)
    sys.exit(1)


def _nothing() -> None:
    return None


def _line(seed: int, outcome: Outcome) -> str:
    return (
        f"seed {seed}: {outcome.steps} steps, {outcome.orders} orders, {outcome.decided} decisions, "
        f"{outcome.crashes} crashes, every law holds; journal {outcome.journal}"
    )


if __name__ == "__main__":
    typer.run(main)
