"""What an endpoint is: one row of the table in `web.routes`, from which routing, checks and documentation are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Generic, TypeVar
from uuid import UUID

import msgspec

from poolwise.core.values import Conflict, Refused, Upstream
from poolwise.flows.tokens import Role
from poolwise.web.decoding import read_body, read_query
from poolwise.web.wiring import Services

Asked = TypeVar("Asked", bound=msgspec.Struct)
Sent = TypeVar("Sent", bound=msgspec.Struct)
Done = TypeVar("Done")


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No query, or no body."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: the party and role behind a token."""

    party: str
    role: Role


@dataclass(frozen=True, slots=True)
class Key:
    """An idempotency key of a party, with the hash of the request it came with (law 5)."""

    sender: str
    text: str
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came, of somebody who may make it. Names of headers are in lower case."""

    services: Services
    actor: Actor
    now: datetime
    path: Mapping[str, str]
    query: str
    headers: Mapping[str, str]
    body: bytes
    key: Key | None


@dataclass(frozen=True, slots=True)
class Call(Generic[Asked, Sent]):
    """A request that has been read. `path` holds the parts of the path by name."""

    services: Services
    actor: Actor
    now: datetime
    path: Mapping[str, str]
    headers: Mapping[str, str]
    query: Asked
    body: Sent
    written_key: Key | None

    @property
    def key(self) -> Key:
        """The idempotency key; every endpoint that writes has one."""
        assert self.written_key is not None, "only an endpoint that writes asks for the key"
        return self.written_key


@dataclass(frozen=True, slots=True)
class Waiting:
    """The rest of an answer that waits for a decision: for which order, how long, and what it is afterwards."""

    order: UUID
    seconds: int
    then: Callable[[bool], Reply]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; None is an empty body. `waiting` finishes it later, `follow` streams the feed after a place."""

    status: int
    body: msgspec.Struct | bytes | None
    headers: Mapping[str, str] = field(default_factory=dict)
    waiting: Waiting | None = None
    follow: Mapping[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One operation: how it is reached, what it takes, what it answers, and the function that does it.

    `answers` gives the body of each success, `refusals` the statuses it may be refused with besides those that follow
    from its form. `writes` asks for an idempotency key. `bulk` allows the larger body. `run`
    takes one request, or, where the endpoint `gathers`, those that came meanwhile; refusals are answers too.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    description: str
    run: Callable[[Sequence[Request]], Sequence[Reply | Exception]]
    gathers: bool
    query: type[msgspec.Struct]
    body: type[msgspec.Struct] | None
    answers: Mapping[int, tuple[str, tuple[type[msgspec.Struct], ...]]]
    refusals: tuple[int, ...]
    writes: bool
    bulk: bool
    public: bool
    media_type: str
    headers: Mapping[str, str]
    answer_headers: Mapping[str, str]
    streams: bool

    @property
    def title(self) -> str:
        """What the table of roles calls it."""
        return f"{self.method} {self.path}"


def answered(work: Callable[[], Done]) -> Done | Exception:
    """What a piece of work gives, or the refusal it raises; a bug is raised still."""
    try:
        return work()
    except (Refused, Conflict, Upstream) as error:
        return error


def endpoint(
    title: str,
    handler: Callable[[Call[Asked, Sent]], Reply],
    *,
    together: Callable[[Sequence[Call[Asked, Sent]]], Sequence[Reply | Exception]] | None = None,
    tag: str,
    summary: str,
    answers: Mapping[int, tuple[str, tuple[type[msgspec.Struct], ...]]],
    query: type[Asked],
    body: type[Sent],
    description: str = "",
    refusals: tuple[int, ...] = (),
    writes: bool = False,
    bulk: bool = False,
    public: bool = False,
    media_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
    answer_headers: Mapping[str, str] | None = None,
    streams: bool = False,
) -> Endpoint:
    """An endpoint whose handler is given its query and body as structs of these types.

    `together`, where given, does several calls at once, for endpoints that are called very often.
    """
    method, path = title.split(" ")
    decoder = msgspec.json.Decoder(body, strict=True)

    def read(request: Request) -> Call[Asked, Sent]:
        asked = read_query(request.query, query)
        sent = read_body(request.body, decoder) if body is not Nothing else body()
        return Call(
            request.services, request.actor, request.now, request.path, request.headers, asked, sent, request.key
        )

    def handle(request: Request) -> Reply:
        return handler(read(request))

    def run(requests: Sequence[Request]) -> Sequence[Reply | Exception]:
        if together is None or len(requests) == 1:
            return [answered(partial(handle, request)) for request in requests]
        calls = [answered(partial(read, request)) for request in requests]
        good = [call for call in calls if not isinstance(call, Exception)]
        done = iter(together(good) if good else ())
        return [call if isinstance(call, Exception) else next(done) for call in calls]

    return Endpoint(
        method=method,
        path=path,
        name=handler.__name__,
        tag=tag,
        summary=summary,
        description=description or (handler.__doc__ or "").strip(),
        run=run,
        gathers=together is not None,
        query=query,
        body=None if body is Nothing else body,
        answers=answers,
        refusals=refusals,
        writes=writes,
        bulk=bulk,
        public=public,
        media_type=media_type,
        headers=headers or {},
        answer_headers=answer_headers or {},
        streams=streams,
    )
