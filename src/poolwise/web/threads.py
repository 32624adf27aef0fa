"""The threads of a process, in which everything is done that may wait for the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Done = TypeVar("Done")


class Threads:
    """As many threads as the connection pool has connections. Asked from the event loop, which never waits itself."""

    def __init__(self, many: int) -> None:
        self._many = many
        self._under_way = 0
        self._executor = ThreadPoolExecutor(many, thread_name_prefix="poolwise")

    @property
    def waiting(self) -> int:
        """How much work waits for a thread."""
        return max(0, self._under_way - self._many)

    async def run(self, work: Callable[Given, Done], *given: Given.args, **named: Given.kwargs) -> Done:
        """Do a piece of work in a thread. Raises what it raises."""
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, partial(work, *given, **named))
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """Take no more work."""
        self._executor.shutdown(wait=False)
