"""Waiting for a decision (`Prefer: wait=N`): one small question for all who wait, never one each."""

from __future__ import annotations

import asyncio
import logging
from typing import Final
from uuid import UUID

from poolwise.core.values import Upstream
from poolwise.flows.views import Views
from poolwise.web.errors import refused
from poolwise.web.threads import Threads
from poolwise.web.wiring import Limits

LOG: Final = logging.getLogger("poolwise.web")


class Decisions:
    """Tells those who wait when their order is decided. Lives in the event loop; asks in a thread."""

    def __init__(self, views: Views, limits: Limits, threads: Threads) -> None:
        self._views = views
        self._limits = limits
        self._threads = threads
        self._waiting: dict[UUID, list[asyncio.Future[None]]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def decided(self, order: UUID, seconds: int) -> bool:
        """Whether an order is decided within so many seconds. Refuses when too many wait already."""
        if len(self._waiting) >= self._limits.most_deciding:
            raise refused("too_many_requests", "too many requests wait for decisions; the order is accepted")
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(order, []).append(future)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        try:
            await asyncio.wait_for(future, seconds)
        except TimeoutError:
            return False
        finally:
            left = [each for each in self._waiting.get(order, ()) if each is not future]
            if left:
                self._waiting[order] = left
            else:
                self._waiting.pop(order, None)
        return True

    async def _ask(self) -> None:
        while self._waiting:
            try:
                done = await self._threads.run(self._views.decided, tuple(self._waiting))
            except Upstream:
                LOG.warning("the database cannot be asked for decisions at the moment")
                done = frozenset()
            for order in done:
                for future in self._waiting.pop(order, ()):
                    if not future.done():
                        future.set_result(None)
            await asyncio.sleep(self._limits.decided_poll_seconds)
