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
from typing import Final, TypeVar

import msgspec
from litestar import HttpMethod, Litestar, Response
from litestar import Request as HttpRequest
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.handlers import ASGIRouteHandler
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import HTTPScope, Receive, Scope, Send

from poolwise.core.values import Conflict, Fault, Refused, Upstream, replace
from poolwise.flows.tokens import Role
from poolwise.web import routes
from poolwise.web.auth import Door
from poolwise.web.endpoint import Actor, Endpoint, Reply, Request, Waiting, answered
from poolwise.web.errors import MEDIA_TYPE, document, problem_of, refused
from poolwise.web.gathering import Gathering
from poolwise.web.idempotency import InHand, key_of
from poolwise.web.live import Tail
from poolwise.web.operations import Measured
from poolwise.web.pages import Pages
from poolwise.web.threads import Threads
from poolwise.web.tracking import PATH
from poolwise.web.waiting import Decisions
from poolwise.web.wire import answer, body_of, headers_of
from poolwise.web.wiring import Services

LOG: Final = logging.getLogger("poolwise.web")
NOBODY: Final = Actor("", Role.VIEWER)
CODE_OF_STATUS: Final[Mapping[int, str]] = {404: "path_unknown", 405: "method_not_allowed", 413: "body_too_large"}
Answered = TypeVar("Answered", Reply, Reply | Exception)
OPTIONS: Final = HttpMethod.OPTIONS.value


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
        [ASGIRouteHandler("/", is_mount=True, copy_scope=False)(front.handle)],
        openapi_config=None,
        exception_handlers={HTTPException: front.unrouted, Exception: front.unrouted},
        lifespan=[front.open],
        debug=False,
        logging_config=None,
    )


class Front:
    """What one process keeps between requests."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._door = Door(services.tokens)
        self._in_hand = InHand()
        self._threads = Threads(services.threads)
        self._decisions = Decisions(services.views, services.limits, self._threads)
        self._tail = Tail(services.feed, services.limits, self._threads)
        self._measured = Measured(lambda: self._tail.followers, lambda: self._waiting)
        self.endpoints = routes.endpoints(self._measured)
        self._pages = Pages(services, self._threads, self._measured)
        self._paths = routes.Paths(self.endpoints)
        self._gathered = {
            endpoint.title: Gathering(partial(self._answer, endpoint), self._threads)
            for endpoint in self.endpoints
            if endpoint.gathers
        }

    @property
    def _waiting(self) -> int:
        """How many requests wait for a thread."""
        return self._threads.waiting + sum(len(gathered) for gathered in self._gathered.values())

    @asynccontextmanager
    async def open(self, _app: Litestar) -> AsyncIterator[None]:
        """While the application runs."""
        try:
            yield
        finally:
            self._tail.close()
            self._threads.close()

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Any request. Raises what the framework answers: an unknown path, another method, too large a body."""
        if scope["type"] != ScopeType.HTTP:
            raise NotFoundException
        if scope["path"].lstrip("/").startswith(PATH.lstrip("/")):
            await self._pages.handle(scope, receive, send)
            return
        by_method, path = self._paths.find(scope["path"])
        endpoint = by_method.get(scope["method"])
        if endpoint is not None:
            await self._handle(endpoint, path, scope, receive, send)
            return
        allow = {"Allow": ", ".join(sorted((*by_method, OPTIONS)))}
        if scope["method"] != OPTIONS:
            raise MethodNotAllowedException(headers=allow)
        await answer(send, 204, allow, None, "")

    async def _handle(
        self, endpoint: Endpoint, path: Mapping[str, str], scope: HTTPScope, receive: Receive, send: Send
    ) -> None:
        began = self.services.stopwatch()
        try:
            reply = await self._reply(endpoint, path, scope, receive)
            self._measured.answered(endpoint.title, reply.status, self.services.stopwatch() - began)
            if reply.waiting is not None:
                reply = await self._waited(reply.waiting)
        except HTTPException:
            raise
        except Exception as error:
            if not isinstance(error, (Refused, Conflict, Upstream)):
                LOG.exception("%s failed", endpoint.title)
            status, body, headers = problem_of(error)
            self._measured.answered(endpoint.title, status, self.services.stopwatch() - began)
            await answer(send, status, headers, body, MEDIA_TYPE)
            return
        if reply.follow is None:
            assert not isinstance(reply.body, msgspec.Struct), "it was encoded in a thread"
            await answer(send, reply.status, reply.headers, reply.body, endpoint.media_type)
            return
        events = self._tail.follow(reply.follow)
        await ASGIStreamingResponse(iterator=events, media_type=endpoint.media_type, headers=dict(reply.headers))(
            scope, receive, send
        )

    async def _reply(self, endpoint: Endpoint, path: Mapping[str, str], scope: HTTPScope, receive: Receive) -> Reply:
        headers, limits, body = headers_of(scope), self.services.limits, b""
        if endpoint.body is not None or endpoint.writes:
            most = limits.most_bytes_in_bulk if endpoint.bulk else limits.most_bytes
            body = await body_of(receive, headers.get("content-length", ""), most)
        if endpoint.body is not None and headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise refused("not_json", "send the body as application/json", "Content-Type")
        if self._waiting >= limits.most_waiting:
            raise refused("too_many_requests", "this process has its hands full; repeat in a moment")
        if endpoint.streams:
            self._tail.check_room()
        query = scope["query_string"].decode("ascii", errors="replace")
        arrived = Arrived(path, query, headers, body)
        if endpoint.gathers:
            return await self._gathered[endpoint.title].done(arrived)
        (done,) = await self._threads.run(self._answer, endpoint, [arrived])
        if isinstance(done, Exception):
            raise done
        return done

    def _answer(self, endpoint: Endpoint, arrived: Sequence[Arrived]) -> list[Reply | Exception]:
        """Requests from token to answer, in a thread."""
        now = self.services.clock()
        admitted = [answered(partial(self._admit, endpoint, each, now)) for each in arrived]
        requests = [each for each in admitted if not isinstance(each, Exception)]
        try:
            done = iter(endpoint.run(requests) if requests else ())
            return [_encoded(each if isinstance(each, Exception) else next(done)) for each in admitted]
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
        return await self._threads.run(lambda: _encoded(waiting.then(decided)))

    def unrouted(self, _request: HttpRequest[object, object, State], error: Exception) -> Response[bytes]:
        """What no endpoint answers: an unknown path, another method, too large a body, a bug in the framework."""
        if isinstance(error, HTTPException):
            code = CODE_OF_STATUS.get(error.status_code, "body_unreadable")
            status, body, headers = document(code, [Fault("", error.detail or code)])
            headers = {**(error.headers or {}), **headers}
        else:
            LOG.error("a request failed outside the endpoints", exc_info=error)
            status, body, headers = problem_of(error)
        return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def _encoded(reply: Answered) -> Answered:
    """With its body as bytes: that is work for a thread."""
    match reply:
        case Reply(body=msgspec.Struct() as body):
            return replace(reply, body=msgspec.json.encode(body))
        case _:
            return reply
