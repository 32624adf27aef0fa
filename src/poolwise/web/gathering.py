"""Gathers requests of one kind that arrive while others are being committed, and does them together.

An idle process commits every request at once; a busy one commits what has come meanwhile in one transaction, which is
what pays (DESIGN section 3). Nobody waits for a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from poolwise.web.threads import Threads

MOST_TOGETHER: Final = 100

Item = TypeVar("Item")
Result = TypeVar("Result")


class Gathering(Generic[Item, Result]):
    """Hands items to `work` in batches, one batch at a time. Lives in the event loop; works in a thread.

    `work` answers with a result or an error for every item, in order.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result | Exception]], threads: Threads) -> None:
        self._work = work
        self._threads = threads
        self._queue: list[tuple[Item, asyncio.Future[Result]]] = []
        self._working: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._queue)

    async def done(self, item: Item) -> Result:
        """The result of an item. Raises its error."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        while self._queue:
            batch, self._queue = self._queue[:MOST_TOGETHER], self._queue[MOST_TOGETHER:]
            items = [item for item, _ in batch]
            results: Sequence[Result | Exception]
            try:
                results = await self._threads.run(self._work, items)
            except Exception as error:  # noqa: BLE001  # those who wait raise it, each for itself
                results = [error] * len(items)
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
