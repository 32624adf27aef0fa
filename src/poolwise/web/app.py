"""The application: every endpoint of the table behind one way in - token, limits, key, form - and one way out.

Handlers are plain functions that run in threads, as many as the connection pool has connections. Only what the
protocol makes wait is asynchronous: the stream of events, and `Prefer: wait`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import msgspec
from anyio import CapacityLimiter, to_thread
from litestar import HttpMethod, Litestar, Response
from litestar import Request as HttpRequest
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from poolwise.core.values import Conflict, Fault, Refused, Upstream
from poolwise.flows.tokens import Role
from poolwise.web import routes
from poolwise.web.auth import Door
from poolwise.web.endpoint import Actor, Endpoint, Reply, Request, Waiting, answered
from poolwise.web.errors import MEDIA_TYPE, document, problem_of, refused
from poolwise.web.gathering import Gathering
from poolwise.web.idempotency import InHand, key_of
from poolwise.web.live import Tail
from poolwise.web.operations import Measured
from poolwise.web.waiting import Decisions
from poolwise.web.wiring import Services

LOG: Final = logging.getLogger("poolwise.web")
NOBODY: Final = Actor("", Role.VIEWER)
CODE_OF_STATUS: Final[Mapping[int, str]] = {404: "path_unknown", 405: "method_not_allowed", 413: "body_too_large"}

Asking = HttpRequest[object, object, State]
Answer = Response[bytes | None]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request before anything is known of who sends it."""

    path: Mapping[str, str]
    query: str
    headers: Mapping[str, str]
    body: bytes


def create_app(services: Services) -> Litestar:
    """The application around `services`, to be served by uvicorn."""
    front = Front(services)
    return Litestar(
        [*front.told_of_methods(), *(front.mounted(endpoint) for endpoint in front.endpoints)],
        openapi_config=None,
        exception_handlers={HTTPException: front.unrouted, Exception: front.unrouted},
        lifespan=[front.open],
        debug=False,
        logging_config=None,
    )


def _options(path: str, allow: str) -> HTTPRouteHandler:
    async def handle() -> Answer:
        return Response(None, status_code=204, headers={"Allow": allow})

    return HTTPRouteHandler(routes.litestar_path(path), http_method=HttpMethod.OPTIONS, status_code=200)(handle)


class Front:
    """What one process keeps between requests."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._door = Door(services.tokens)
        self._in_hand = InHand()
        self._limiter: CapacityLimiter | None = None
        self._decisions = Decisions(services.views, services.limits, self._threads)
        self._tail = Tail(services.feed, services.limits, self._threads)
        self._measured = Measured(lambda: self._tail.followers, self._waiting_for_threads)
        self.endpoints = routes.endpoints(self._measured)
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

    @asynccontextmanager
    async def open(self, _app: Litestar) -> AsyncIterator[None]:
        """While the application runs."""
        try:
            yield
        finally:
            self._tail.close()

    def told_of_methods(self) -> list[HTTPRouteHandler]:
        """OPTIONS of every path: Litestar's own answers for the first method of a path that has two."""
        methods: dict[str, list[str]] = {}
        for endpoint in self.endpoints:
            methods.setdefault(endpoint.path, [HttpMethod.OPTIONS.value]).append(endpoint.method)
        return [_options(path, ", ".join(sorted(own))) for path, own in methods.items()]

    def mounted(self, endpoint: Endpoint) -> HTTPRouteHandler:
        """An endpoint as a route."""

        async def handle(request: Asking) -> Answer | Stream:
            return await self._handle(endpoint, request)

        limits = self.services.limits
        return HTTPRouteHandler(
            routes.litestar_path(endpoint.path),
            http_method=HttpMethod(endpoint.method),
            request_max_body_size=limits.most_bytes_in_bulk if endpoint.bulk else limits.most_bytes,
            status_code=200,
            name=endpoint.title,
        )(handle)

    async def _handle(self, endpoint: Endpoint, request: Asking) -> Answer | Stream:
        began = self.services.stopwatch()
        try:
            reply = await self._reply(endpoint, request)
        except HTTPException:
            raise
        except (Refused, Conflict, Upstream) as error:
            return self._refused(endpoint, error, began)
        except Exception as error:
            LOG.exception("%s failed", endpoint.title)
            return self._refused(endpoint, error, began)
        self._measured.answered(endpoint.title, reply.status, self.services.stopwatch() - began)
        if reply.waiting is not None:
            try:
                reply = await self._waited(reply.waiting)
            except (Refused, Conflict, Upstream) as error:
                return self._refused(endpoint, error, began)
        if reply.follow is not None:
            return Stream(self._tail.follow(reply.follow), media_type=endpoint.media_type, headers=dict(reply.headers))
        body = msgspec.json.encode(reply.body) if isinstance(reply.body, msgspec.Struct) else reply.body
        return Response(body, status_code=reply.status, media_type=endpoint.media_type, headers=dict(reply.headers))

    async def _reply(self, endpoint: Endpoint, request: Asking) -> Reply:
        headers = {name.lower(): value for name, value in request.headers.items()}
        takes_body = endpoint.body is not None or endpoint.writes
        body = await request.body() if takes_body else b""
        if endpoint.body is not None and headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise refused("not_json", "send the body as application/json", "Content-Type")
        if self._waiting_for_threads() >= self.services.limits.most_waiting:
            raise refused("too_many_requests", "this process has its hands full; repeat in a moment")
        if endpoint.streams:
            self._tail.check_room()
        path = {name: str(value) for name, value in request.path_params.items()}
        query = request.scope["query_string"].decode("ascii", errors="replace")
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

    def _refused(self, endpoint: Endpoint, error: Exception, began: float) -> Answer:
        status, body, headers = problem_of(error)
        self._measured.answered(endpoint.title, status, self.services.stopwatch() - began)
        return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)

    def unrouted(self, _request: Asking, error: Exception) -> Answer:
        """What no endpoint answers: an unknown path, another method, too large a body, a bug in the framework."""
        if isinstance(error, HTTPException):
            code = CODE_OF_STATUS.get(error.status_code, "body_unreadable")
            status, body, headers = document(code, [Fault("", error.detail or code)])
            headers = {**(error.headers or {}), **headers}
        else:
            LOG.error("a request failed outside the endpoints", exc_info=error)
            status, body, headers = problem_of(error)
        return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)
