"""The application: every endpoint of the table behind one way in - token, limits, key, form - and one way out.

Handlers are plain functions that run in threads, as many as the connection pool has connections. Only what the
protocol makes wait is asynchronous: the stream of events, and `Prefer: wait`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import msgspec
from anyio import CapacityLimiter, to_thread

from poolwise.core.values import Conflict, Refused, Upstream
from poolwise.flows.tokens import Role
from poolwise.web import routes
from poolwise.web.asgi import Answer, Paths, Receive, Scope, Send, live, read_whole, send_answer
from poolwise.web.auth import Door
from poolwise.web.endpoint import Actor, Endpoint, Reply, Request, Waiting, answered
from poolwise.web.errors import MEDIA_TYPE, problem_of, refused
from poolwise.web.gathering import Gathering
from poolwise.web.idempotency import InHand, key_of
from poolwise.web.live import Tail
from poolwise.web.operations import Measured
from poolwise.web.waiting import Decisions
from poolwise.web.wiring import Services

LOG: Final = logging.getLogger("poolwise.web")
NOBODY: Final = Actor("", Role.VIEWER)
UNROUTED: Final = "unrouted"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request before anything is known of who sends it."""

    path: Mapping[str, str]
    query: str
    headers: Mapping[str, str]
    body: bytes


class Front:
    """The application around `services`, to be served by uvicorn: what one process keeps between requests."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._door = Door(services.tokens)
        self._in_hand = InHand()
        self._limiter: CapacityLimiter | None = None
        self._decisions = Decisions(services.views, services.limits, self._threads)
        self._tail = Tail(services.feed, services.limits, self._threads)
        self._measured = Measured(lambda: self._tail.followers, self._waiting_for_threads)
        self.endpoints = routes.endpoints(self._measured)
        self._paths = Paths(self.endpoints)
        self._gathered = {
            endpoint.title: Gathering(partial(self._answer, endpoint), self._threads)
            for endpoint in self.endpoints
            if endpoint.gathers
        }

    def _threads(self) -> CapacityLimiter:
        """The threads of this process; made in its event loop."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(self.services.threads)
        return self._limiter

    def _waiting_for_threads(self) -> int:
        waiting = 0 if self._limiter is None else self._limiter.statistics().tasks_waiting
        return waiting + sum(len(gathered) for gathered in self._gathered.values())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the server, as ASGI."""
        if scope["type"] == "lifespan":
            await live(receive, send, self._tail.close)
            return
        assert scope["type"] == "http", "the server is told to take nothing else"
        await send_answer(await self._handle(scope, receive), receive, send)

    async def _handle(self, scope: Scope, receive: Receive) -> Answer:
        began, title = self.services.stopwatch(), UNROUTED
        try:
            by_method, path = self._paths.find(scope["path"])
            endpoint = by_method.get(scope["method"])
            if endpoint is None:
                allowed = ", ".join(by_method)
                return self._refused(title, refused("method_not_allowed", f"the path takes {allowed}"), began, allowed)
            title = endpoint.title
            reply = await self._reply(endpoint, path, scope, receive)
            self._measured.answered(title, reply.status, self.services.stopwatch() - began)
            if reply.waiting is not None:
                reply = await self._waited(reply.waiting)
        except (Refused, Conflict, Upstream) as error:
            return self._refused(title, error, began)
        except Exception as error:
            LOG.exception("%s failed", title)
            return self._refused(title, error, began)
        if reply.follow is not None:
            return Answer(200, self._tail.follow(reply.follow), endpoint.media_type, reply.headers)
        body = msgspec.json.encode(reply.body) if isinstance(reply.body, msgspec.Struct) else reply.body or b""
        return Answer(reply.status, body, endpoint.media_type, reply.headers)

    async def _reply(self, endpoint: Endpoint, path: Mapping[str, str], scope: Scope, receive: Receive) -> Reply:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        limits = self.services.limits
        takes_body = endpoint.body is not None or endpoint.writes
        most_bytes = limits.most_bytes_in_bulk if endpoint.bulk else limits.most_bytes
        body = await read_whole(receive, most_bytes) if takes_body else b""
        if endpoint.body is not None and headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise refused("not_json", "send the body as application/json", "Content-Type")
        if self._waiting_for_threads() >= limits.most_waiting:
            raise refused("too_many_requests", "this process has its hands full; repeat in a moment")
        if endpoint.streams:
            self._tail.check_room()
        query = scope["query_string"].decode("ascii", errors="replace")
        arrived = Arrived(path, query, headers, body)
        if endpoint.gathers:
            return await self._gathered[endpoint.title].done(arrived)
        done = await to_thread.run_sync(self._answer, endpoint, [arrived], limiter=self._threads())
        if isinstance(done[0], Exception):
            raise done[0]
        return done[0]

    def _answer(self, endpoint: Endpoint, arrived: Sequence[Arrived]) -> list[Reply | Exception]:
        """Requests from token to answer, in a thread."""
        now = self.services.clock()
        admitted = [answered(partial(self._admit, endpoint, each, now)) for each in arrived]
        requests = [each for each in admitted if not isinstance(each, Exception)]
        try:
            done = iter(endpoint.run(requests) if requests else ())
            return [each if isinstance(each, Exception) else next(done) for each in admitted]
        finally:
            for request in requests:
                if request.key is not None:
                    self._in_hand.let_go(request.key)

    def _admit(self, endpoint: Endpoint, arrived: Arrived, now: datetime) -> Request:
        """Refuses who may not, and a write without a key of its own."""
        headers, path = arrived.headers, arrived.path
        actor = NOBODY if endpoint.public else self._door.actor(headers.get("authorization", ""), endpoint.title, now)
        if any(not value.isprintable() for value in path.values()):
            raise refused("path_unknown", "the path holds a character that no name may hold")
        key = None
        if endpoint.writes:
            key = key_of(headers, actor.party, endpoint.title, "/".join(path.values()), arrived.body)
            self._in_hand.take(key)
        return Request(self.services, actor, now, path, arrived.query, headers, arrived.body, key)

    async def _waited(self, waiting: Waiting) -> Reply:
        decided = await self._decisions.decided(waiting.order, waiting.seconds)
        return await to_thread.run_sync(waiting.then, decided, limiter=self._threads())

    def _refused(self, title: str, error: Exception, began: float, allowed: str = "") -> Answer:
        status, body, headers = problem_of(error)
        self._measured.answered(title, status, self.services.stopwatch() - began)
        return Answer(status, body, MEDIA_TYPE, headers | {"Allow": allowed} if allowed else headers)
