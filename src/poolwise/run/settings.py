"""Settings: defaults, a TOML file and environment variables, read once; every value knows where it came from.

Unknown keys are errors, so that a misspelt setting never passes silently.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from poolwise.core.values import Fault, Refused

FILE_NAME: Final = "poolwise.toml"
PREFIX: Final = "POOLWISE_"
NOT_SETTINGS: Final = frozenset({"POOLWISE_CAMPAIGN", "POOLWISE_CASES", "POOLWISE_CONFIG"})


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator can set. `origin` says for each name where its value came from."""

    database_url: str = field(default="", metadata={"help": "server to use; empty for the embedded one"})
    owner_url: str = field(default="", metadata={"help": "URL of the owner role, for migrations of an external server"})
    data_folder: str = field(default="poolwise-data", metadata={"help": "folder of the embedded server and its files"})
    host: str = field(default="127.0.0.1", metadata={"help": "address the API listens on"})
    port: int = field(default=8080, metadata={"help": "port the API listens on"})
    processes: int = field(default=1, metadata={"help": "worker processes of `up` and `work`"})
    batch: int = field(default=500, metadata={"help": "most orders decided in one transaction"})
    idle_ms: int = field(default=20, metadata={"help": "pause of a worker that finds nothing to do"})
    wave_every_s: int = field(default=60, metadata={"help": "how often orders that wait for a wave are planned"})
    connections: int = field(default=10, metadata={"help": "database connections of one process"})
    cells: str = field(default="0", metadata={"help": "cells this process serves, separated by commas"})
    public_url: str = field(default="", metadata={"help": "address under which customers reach the pages; empty: this"})
    shop_name: str = field(default="", metadata={"help": "name of the company on its pages"})
    shop_contact: str = field(default="", metadata={"help": "email or https address on its pages, for questions"})
    internal_webhooks: str = field(
        default="", metadata={"help": "networks inside to which webhooks may be sent, such as 10.1.0.0/16, by commas"}
    )
    nats_servers: str = field(
        default="", metadata={"help": "NATS servers that events are published to, such as nats://a:4222, by commas"}
    )
    nats_stream: str = field(default="POOLWISE", metadata={"help": "JetStream stream of the events, Poolwise's own"})
    nats_replicas: int = field(default=1, metadata={"help": "copies of the stream, where it is not there yet"})
    nats_keep_days: int = field(default=7, metadata={"help": "days for which the stream keeps events"})
    nats_credentials: str = field(default="", metadata={"help": "credentials file for the NATS servers"})
    log_level: str = field(default="info", metadata={"help": "debug, info, warning or error"})
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def cell_numbers(self) -> tuple[int, ...]:
        """The cells served, as numbers."""
        return tuple(int(cell) for cell in self.cells.split(","))

    @property
    def pages_url(self) -> str:
        """What a link to a page begins with."""
        return self.public_url.rstrip("/") or f"http://{self.host}:{self.port}"


NAMES: Final = tuple(f.name for f in fields(Settings) if f.name != "origin")
_KINDS: Final = {f.name: f.type for f in fields(Settings)}
_LIMITS: Final = {
    "port": (0, 65_535), "processes": (1, 64), "batch": (1, 500), "idle_ms": (1, 10_000),
    "wave_every_s": (1, 86_400), "connections": (1, 200), "nats_replicas": (1, 5), "nats_keep_days": (1, 3_650),
}  # fmt: skip

_TEXTS: Final = {
    "cells": (r"\s*\d+\s*(,\s*\d+\s*)*", "numbers separated by commas"),
    "public_url": (r"(https?://\S+)?", "an address such as https://orders.example.com"),
    "shop_contact": (r"(https://\S+|[^\s@]+@[^\s@]+)?", "an email or an https address"),
    "nats_servers": (r"(\s*(nats|tls)://\S+?\s*(,|$))*", "addresses such as nats://a:4222, separated by commas"),
    "nats_stream": (r"[A-Za-z0-9_-]{1,64}", "letters, digits, - and _"),
    "log_level": ("debug|info|warning|error", "debug, info, warning or error"),
}
"""The form of texts, and what it is."""


def load(file: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the file (`poolwise.toml` here, or the one named by POOLWISE_CONFIG), then the environment.

    Raises Refused("settings_invalid") with every unknown name and wrong value at once.
    """
    environment = os.environ if environment is None else environment
    named = file or (Path(environment["POOLWISE_CONFIG"]) if "POOLWISE_CONFIG" in environment else None)
    faults: list[Fault] = []
    values: dict[str, object] = {}
    origin: dict[str, str] = dict.fromkeys(NAMES, "default")
    path = named or Path(FILE_NAME)
    if path.exists():
        for name, value in _read(path, faults).items():
            _take(name, value, str(path), values, origin, faults)
    elif named is not None:
        faults.append(Fault(str(named), "there is no such file"))
    for variable, text in sorted(environment.items()):
        if variable.startswith(PREFIX) and variable not in NOT_SETTINGS:
            _take(variable[len(PREFIX) :].lower(), text, f"environment {variable}", values, origin, faults)
    if faults:
        raise Refused("settings_invalid", faults)
    return Settings(**values, origin=origin)  # type: ignore[arg-type]  # kinds were checked by _take


def _read(path: Path, faults: list[Fault]) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        faults.append(Fault(str(path), f"cannot be read: {error}"))
        return {}


def _take(
    name: str, value: object, where: str, values: dict[str, object], origin: dict[str, str], faults: list[Fault]
) -> None:
    if name not in NAMES:
        faults.append(Fault(name, f"is no setting ({where}); there are: {', '.join(NAMES)}"))
        return
    if _KINDS[name] == "int":
        number = _whole(value)
        low, high = _LIMITS[name]
        if number is None or not low <= number <= high:
            faults.append(Fault(name, f"is a whole number from {low} to {high}, not {value!r} ({where})"))
            return
        value = number
    elif not isinstance(value, str):
        faults.append(Fault(name, f"is text, not {value!r} ({where})"))
        return
    pattern, form = _TEXTS.get(name, (r"(?s).*", ""))
    if isinstance(value, str) and re.fullmatch(pattern, value) is None:
        faults.append(Fault(name, f"is {form}, not {value!r} ({where})"))
        return
    if name == "internal_webhooks" and not _are_networks(str(value)):
        faults.append(Fault(name, f"is networks separated by commas, such as 10.1.0.0/16, not {value!r} ({where})"))
        return
    values[name] = value
    origin[name] = where


def _are_networks(text: str) -> bool:
    try:
        for part in text.split(",") if text.strip() else ():
            ip_network(part.strip())
    except ValueError:
        return False
    return True


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.strip().lstrip("-").isdigit():
        return int(value)
    return None
