"""Where nothing is ever sent: addresses inside, however they are spelt and whoever names them (ADR 0020).

A name is resolved once for a connection, every address it gave is judged, and the connection is made to one of those
addresses, so that the name cannot mean something else between check and use. TLS still asks for the name.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import httpcore

from poolwise.flows.webhooks import LONGEST_URL

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Sequence[str]]

NOT_PUBLIC_V4: Final = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
PUBLIC_V6: Final = IPv6Network("2000::/3")
NOT_PUBLIC_V6: Final = tuple(IPv6Network(each) for each in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
"""Inside `PUBLIC_V6`: Teredo and other protocols, documentation, 6to4. Outside: NAT64, mapped, compatible."""

PORTS: Final = {"http": 80, "https": 443}
RESOLVING_MAY_TAKE_S: Final = 5.0
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_A_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Target:
    """A url that was read: nobody reads it again, so nobody reads it otherwise."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as the receiver is told them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


class Forbidden(httpcore.ConnectError):
    """The address is one to which nothing is sent."""


def read_url(url: str) -> Target:
    """Take a url apart. Raises ValueError with the reason for all that could be read in two ways."""
    if len(url) > LONGEST_URL:
        raise ValueError(f"is longer than {LONGEST_URL} characters")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("holds a character that a url has to encode (write names of hosts as xn--...)")
    if "#" in url:
        raise ValueError("has a fragment, which is never sent")
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not url.lower().startswith(f"{parts.scheme}://"):
        raise ValueError("begins with https://")
    if "@" in parts.netloc:
        raise ValueError("names a user: tell the receiver who sends by the signature")
    host = _host(parts.netloc)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, _port(parts), path)


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("has a port that is no number from 1 to 65535")
    return PORTS[parts.scheme] if port is None else port


def _host(netloc: str) -> str:
    """A host in its one spelling: of an address the plain one, of a name small letters and no dot at the end."""
    if netloc.startswith("["):
        inside, _, rest = netloc[1:].partition("]")
        if "%" in inside or (rest and not rest.startswith(":")):
            raise ValueError("has no host that can be read")
        return str(IPv6Address(inside))
    host = netloc.partition(":")[0].lower()
    try:
        return str(IPv4Address(host))
    except ValueError:
        pass
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or _A_NUMBER.fullmatch(labels[-1]):
        raise ValueError("has no host that can be read: write an address with four decimal numbers, or a name")
    return ".".join(labels)


def read_networks(text: str) -> tuple[Network, ...]:
    """Networks separated by commas. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",")) if text.strip() else ()


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's, and carries no other address in it."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in NOT_PUBLIC_V4)
    return address in PUBLIC_V6 and not any(address in network for network in NOT_PUBLIC_V6)


def resolved(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as the system knows them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Attempt(threading.local):
    """Until when the request of this thread may take, whatever it is waiting for."""

    until = 0.0

    def left_s(self) -> float:
        """Seconds left. Raises httpcore.TimeoutException when there are none."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise httpcore.TimeoutException
        return left


class Guard:
    """Judges urls and addresses. `internal` are networks inside to which something may be sent all the same."""

    def __init__(self, internal: Sequence[Network] = (), resolver: Resolver = resolved) -> None:
        """`resolver` gives the addresses of a name."""
        self._internal = tuple(internal)
        self._resolver = resolver

    def url_fault(self, url: str) -> str:
        """What is wrong with the url of a receiver; '' when something may be sent there, as things are now."""
        try:
            target = read_url(url)
            self.addresses(target.host, target.port, target.scheme == "http", RESOLVING_MAY_TAKE_S)
        except ValueError as error:
            return str(error)
        except Forbidden as forbidden:
            return str(forbidden)
        except httpcore.ConnectError:
            return "names a host that has no address at the moment"
        return ""

    def addresses(self, host: str, port: int, internal_only: bool, most_s: float) -> Sequence[Address]:
        """Every address of a host. Raises httpcore.ConnectError; Forbidden if there is one to which nothing is sent."""
        found = [ip_address(each) for each in self._resolve(host, port, most_s)]
        if not found:
            raise httpcore.ConnectError("the name has no address")
        for address in found:
            if any(address in network for network in self._internal):
                continue
            if not is_public(address):
                raise Forbidden("leads to an address inside, to which nothing is sent (setting internal_webhooks)")
            if internal_only:
                raise Forbidden("is not encrypted: outside of internal_webhooks it begins with https://")
        return found

    def _resolve(self, host: str, port: int, most_s: float) -> Sequence[str]:
        """The system cannot be told how long it may take: it is asked in a thread that is left behind if need be."""
        try:
            return [str(ip_address(host))]
        except ValueError:
            pass
        found: list[Sequence[str]] = []

        def ask() -> None:
            try:
                found.append(self._resolver(host, port))
            except (OSError, UnicodeError):
                found.append(())

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(most_s)
        if not found:
            raise httpcore.ConnectTimeout("the name was not resolved in time")
        return found[0]


class GuardedBackend(httpcore.NetworkBackend):
    """Opens connections for httpcore where the guard allows, within the time of the attempt."""

    def __init__(self, guard: Guard, attempt: Attempt, internal_only: bool) -> None:
        """`internal_only`: nothing is sent to the internet, because this is not encrypted."""
        self._guard = guard
        self._attempt = attempt
        self._internal_only = internal_only

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  # the attempt has a time as a whole
        local_address: str | None = None,  # noqa: ARG002  # never asked for
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002  # never asked for
    ) -> httpcore.NetworkStream:
        """Connect to the first of the addresses that answers, each given its share of the time."""
        addresses = self._guard.addresses(host, port, self._internal_only, self._attempt.left_s())
        for index, address in enumerate(addresses):
            try:
                share_s = self._attempt.left_s() / (len(addresses) - index)
                opened = socket.create_connection((str(address), port), timeout=share_s)
            except OSError:
                continue
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _Stream(opened, self._attempt)
        raise httpcore.ConnectError("no connection to any address of the host")


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends with the attempt. What is written goes out at once when an answer is read."""

    def __init__(self, opened: socket.socket, attempt: Attempt) -> None:
        self._socket = opened
        self._attempt = attempt
        self._written = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002  # the attempt's time
        while self._written:
            with self._waiting():
                self._written = self._written[self._socket.send(self._written) :]
        with self._waiting():
            return self._socket.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002  # nothing waits here
        self._written += buffer

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002  # the attempt's time
    ) -> httpcore.NetworkStream:
        try:
            with self._waiting():
                try:
                    wrapped = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
                except ssl.SSLCertVerificationError as error:
                    reason = f"the certificate is not accepted ({error.verify_message})"
                    raise httpcore.ConnectError(reason) from error
        except BaseException:
            self.close()
            raise
        return _Stream(wrapped, self._attempt)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            closed = self._socket.fileno() < 0
            poll = select.poll()
            if not closed:
                poll.register(self._socket.fileno(), select.POLLIN)
            return closed or bool(poll.poll(0))
        if info == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        return None

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self._socket.settimeout(self._attempt.left_s())
        try:
            yield
        except TimeoutError as error:
            raise httpcore.TimeoutException from error
        except OSError as error:
            raise httpcore.NetworkError(type(error).__name__) from error
