"""A receiver of webhooks: a real HTTP server that verifies, remembers ids - and misbehaves as a test says."""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

HERE = "127.0.0.1"
INSIDE = "127.0.0.2"
"""Where tests may send, and an address inside where they may not."""

PATIENCE_S = 20


@dataclass
class Receiver:
    """What came: how often each id, and the bodies. `secret` is what it verifies with; `connections` counts them."""

    behave: Callable[[Receiver, BaseHTTPRequestHandler], None]
    secret: str = ""
    url: str = ""
    connections: int = 0
    came: Counter[str] = field(default_factory=Counter)
    bodies: dict[str, bytes] = field(default_factory=dict)
    last: tuple[Mapping[str, str], bytes] = ({}, b"")
    headers: list[Mapping[str, str]] = field(default_factory=list)
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def take(self, headers: Mapping[str, str], body: bytes) -> None:
        """Verify with the library that receivers use, and remember by id."""
        if self.secret:
            try:
                Webhook(self.secret).verify(body, dict(headers))
            except WebhookVerificationError:
                self.refused += 1
                raise
        id_ = headers["webhook-id"]
        with self.lock:
            assert self.bodies.setdefault(id_, body) == body, "an id has one body"
            self.came[id_] += 1
            self.last = (headers, body)


def accept(receiver: Receiver, request: BaseHTTPRequestHandler) -> None:
    answer(request, 204)


def answer(request: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    if status != 204:
        request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def always(status: int, body: bytes = b"", **headers: str) -> Callable[[Receiver, BaseHTTPRequestHandler], None]:
    return lambda _receiver, request: answer(request, status, body, **headers)


def fails(times: int, status: int = 500) -> Callable[[Receiver, BaseHTTPRequestHandler], None]:
    """Fails for every event so many times, then works."""

    def behave(receiver: Receiver, request: BaseHTTPRequestHandler) -> None:
        answer(request, status if receiver.came[request.headers["webhook-id"]] <= times else 200)

    return behave


def hang(receiver: Receiver, request: BaseHTTPRequestHandler) -> None:
    receiver.closing.wait(PATIENCE_S)
    request.close_connection = True


def trickle(receiver: Receiver, request: BaseHTTPRequestHandler) -> None:
    """Headers at once, and then a byte now and then for ever."""
    request.send_response(200)
    request.send_header("Content-Length", "1000000")
    request.end_headers()
    try:
        while not receiver.closing.wait(0.02):
            request.wfile.write(b".")
    except OSError:
        pass
    request.close_connection = True


def trickle_headers(receiver: Receiver, request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    try:
        while not receiver.closing.wait(0.02):
            request.wfile.write(b"x-more: 1\r\n")
    except OSError:
        pass
    request.close_connection = True


def hang_up(receiver: Receiver, request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True


def babble(receiver: Receiver, request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"I am no HTTP server\r\n\r\n")
    request.close_connection = True


def endless(receiver: Receiver, request: BaseHTTPRequestHandler) -> None:
    """Accepts, with a body that nobody should read to its end."""
    request.send_response(200)
    request.send_header("Content-Length", str(10**12))
    request.end_headers()
    try:
        while not receiver.closing.is_set():
            request.wfile.write(b"." * 65_536)
    except OSError:
        pass
    request.close_connection = True


@contextmanager
def receiving(
    behave: Callable[[Receiver, BaseHTTPRequestHandler], None] = accept,
    host: str = HERE,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Receiver]:
    """A receiver that listens on a port of its own; with `tls` by https."""
    receiver = Receiver(behave)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # whoever sends was killed
                return
            with receiver.lock:
                receiver.headers.append(dict(self.headers))
            receiver.take({name.lower(): value for name, value in self.headers.items()}, body)
            receiver.behave(receiver, self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def process_request(self, request: object, address: object) -> None:
            receiver.connections += 1
            super().process_request(request, address)

        def handle_error(self, *_: object) -> None:
            """Whoever sends may be killed."""

    server = Server((host, port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.url = f"http{'' if tls is None else 's'}://{host}:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE_S)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.005)
