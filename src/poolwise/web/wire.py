"""Requests and answers as the server hands them over (ASGI): every endpoint's come in and go out here.

The framework's own objects for a request and a response cost more than most endpoints do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from litestar.exceptions import InternalServerException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import HTTPScope, Receive, Send

BODILESS: Final = frozenset({204, 304})


def headers_of(scope: HTTPScope) -> dict[str, str]:
    """The headers of a request by name in lower case, the last one of each."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def body_of(receive: Receive, announced: str, most: int) -> bytes:
    """The body of a request. Raises RequestEntityTooLarge where it is, or says that it is, longer than `most` bytes."""
    if announced.isdigit() and int(announced) > most:
        raise RequestEntityTooLarge
    parts: list[bytes] = []
    length, more = 0, True
    while more:
        event = await receive()
        if event["type"] != "http.request":
            raise InternalServerException("client disconnected prematurely")
        part = event["body"]
        length += len(part)
        if length > most:
            raise RequestEntityTooLarge
        parts.append(part)
        more = event["more_body"]
    return b"".join(parts)


async def answer(send: Send, status: int, headers: Mapping[str, str], body: bytes | None, media_type: str) -> None:
    """Send an answer as a whole."""
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    content = body or b""
    if status not in BODILESS:
        encoded.append((b"content-type", media_type.encode("latin-1")))
        encoded.append((b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": content, "more_body": False})
