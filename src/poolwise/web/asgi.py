"""What the server and the application say to each other (ASGI 3): bodies in, answers and streams out; paths to find.

By hand and not through a web framework, because its routes, requests and answers cost as much as the server itself.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypedDict

from anyio import CancelScope, create_task_group

from poolwise.web.endpoint import Endpoint
from poolwise.web.errors import refused


class Scope(TypedDict):
    """Head of a request."""

    type: str
    method: str
    path: str
    query_string: bytes
    headers: Sequence[tuple[bytes, bytes]]


class Event(TypedDict, total=False):
    """A piece of a request, of an answer, or of the life of the server."""

    type: str
    body: bytes
    more_body: bool
    status: int
    headers: Sequence[tuple[bytes, bytes]]


Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

WITHOUT_BODY: Final = frozenset({204, 304})
_PARAMETER: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out: a body, or pieces of one as they come."""

    status: int
    body: bytes | AsyncIterator[bytes]
    media_type: str
    headers: Mapping[str, str]


class Paths:
    """The endpoints by path."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._plain: dict[str, dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            self._plain.setdefault(endpoint.path, {})[endpoint.method] = endpoint
        self._patterns = [
            (re.compile(_PARAMETER.sub(r"(?P<\1>[^/]+)", path)), found)
            for path, found in self._plain.items()
            if "{" in path
        ]

    def find(self, path: str) -> tuple[Mapping[str, Endpoint], Mapping[str, str]]:
        """The endpoints of a path by method, and the parts of the path by name. Refuses a path that there is not."""
        path = path.rstrip("/")
        if path in self._plain and "{" not in path:
            return self._plain[path], {}
        for pattern, found in self._patterns:
            if (match := pattern.fullmatch(path)) is not None:
                return found, match.groupdict()
        raise refused("path_unknown", "there is no such path")


async def read_whole(receive: Receive, most_bytes: int) -> bytes:
    """The body of a request. Refuses one that is too large, or that its sender breaks off."""
    parts: list[bytes] = []
    length, more = 0, True
    while more:
        event = await receive()
        if event["type"] != "http.request":
            raise refused("body_unreadable", "the body was broken off")
        part = event.get("body", b"")
        length += len(part)
        if length > most_bytes:
            raise refused("body_too_large", f"the body has more than {most_bytes} bytes")
        parts.append(part)
        more = event.get("more_body", False)
    return b"".join(parts)


async def send_answer(answer: Answer, receive: Receive, send: Send) -> None:
    """Send all of an answer; a stream until it ends, or nobody listens any more."""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    body = answer.body
    if answer.status not in WITHOUT_BODY:
        headers.append((b"content-type", answer.media_type.encode()))
        if isinstance(body, bytes):
            headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if isinstance(body, bytes):
        await send({"type": "http.response.body", "body": body})
        return
    async with create_task_group() as group:
        group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
        async for part in body:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        group.cancel_scope.cancel()


async def _cancel_when_gone(receive: Receive, scope: CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def live(receive: Receive, send: Send, end: Callable[[], None]) -> None:
    """Follow the life of the server; `end` is called before it stops."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    end()
    await send({"type": "lifespan.shutdown.complete"})
