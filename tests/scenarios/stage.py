"""A stage for stories: a network as a directory of files, the real importer, API and worker, and a clock we move."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from poolwise.connect.directory.importing import Imported, import_directory
from poolwise.flows.identity import Ids
from poolwise.flows.tokens import Role
from poolwise.run.bootstrap import App, Rulebook
from poolwise.run.directories import ensure_policy, target_of
from poolwise.run.processes import services_of, worker_of
from poolwise.run.settings import Settings
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.editions import PostgresEditions
from poolwise.store.evidence import check_database
from poolwise.store.proof import verifier
from tests.web.shop import served, token_of

MONDAY = datetime(2026, 1, 12, 10, tzinfo=UTC)
BEFORE = "2026-01-12T08:00:00Z"
CONNECTIONS = 6

Row = Mapping[str, object]


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = MONDAY

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Stage:
    """Everything that runs, and short words for what people do with it."""

    app: App
    clock: Clock
    url: str
    tokens: Mapping[Role, str]
    folder: Path
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # What people do

    def bring(self, files: Mapping[str, str | Sequence[Row]], *, complete: bool = False) -> Imported:
        """Write files and import them as a directory of their own; a file is its text, or its rows."""
        folder = self.folder / f"directory-{next(self._numbers)}"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content if isinstance(content, str) else csv(content))
        done = import_directory(folder, target_of(self.app), complete=complete)
        ensure_policy(self.app.editions, self.clock())
        self.app.rules.refresh()
        return done

    def post(self, path: str, body: object, key: str = "") -> httpx.Response:
        """Send something, as an integrator."""
        headers = {"Authorization": f"Bearer {self.tokens[Role.INTEGRATOR]}"}
        headers["Idempotency-Key"] = key or f"key-{next(self._numbers)}"
        return httpx.post(self.url + path, json=body, headers=headers, timeout=60)

    def get(self, path: str) -> Any:
        """Read something, as a viewer."""
        answer = httpx.get(self.url + path, headers={"Authorization": f"Bearer {self.tokens[Role.VIEWER]}"}, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def work(self) -> None:
        """Let a worker do all there is to do at this moment."""
        worker_of(self.app).run(until_idle=True)

    def pass_time(self, **much: float) -> None:
        """Move the clock on."""
        self.clock.now += timedelta(**much)

    # Short words

    def order(self, lines: Sequence[Row], **order: object) -> Any:
        """Order something by the API, let a worker source it, and read the order."""
        body = {"channel": "web", "zone": "Z", "lines": lines, **order}
        answer = self.post("/v1/orders", body)
        assert answer.status_code == 201, answer.text
        self.work()
        return self.get(f"/v1/orders/{answer.json()['number']}")

    def why(self, order: Mapping[str, Any]) -> Any:
        """The explanation of an order, which must be of the plan that was carried out."""
        explained = self.get(f"/v1/orders/{order['number']}/explanation")
        assert explained["same"] is True
        return explained

    def available(self, item: str, channel: str = "web") -> Any:
        """How much of an item may be promised now."""
        return self.get(f"/v1/availability?items={item}&channel={channel}")["items"][0]["now"]

    def events(self, kind: str) -> list[Mapping[str, Any]]:
        """All events of a kind, oldest first, as the feed tells them."""
        from poolwise.store.feed import PostgresFeed

        self.work()
        found = PostgresFeed(self.app.pool).after({0: 0}, 100_000)
        return [dict(numbered.event.data) for numbered in found if numbered.event.type == kind]

    def prove(self) -> None:
        """Every law holds, and every plan recomputes."""
        verify = verifier(self.app.rules, self.app.books)
        findings = check_database(self.app.pool, (0,), self.clock(), full=True, verify=verify).findings
        assert not findings, findings


@contextmanager
def staged(database_url: str, folder: Path) -> Iterator[Stage]:
    """A stage on a database of its own."""
    clock = Clock()
    with postgres.connect(database_url, connections=CONNECTIONS + 2) as pool:
        editions = PostgresEditions(pool)
        settings = Settings(database_url=database_url, connections=CONNECTIONS)
        app = App(settings, pool, PostgresBooks(pool), editions, Rulebook(editions), Ids(secrets.randbits), clock=clock)
        services = services_of(app)
        tokens = {role: token_of(services, role) for role in Role}
        with served(services) as url:
            yield Stage(app, clock, url, tokens, folder)


def csv(rows: Sequence[Row]) -> str:
    """Rows as a file; every row has the columns of the first."""
    names = list(rows[0])
    lines = [",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]
    return "\n".join(lines) + "\n"


def stock(*counts: tuple[str, str, int], pool: str = "P") -> list[Row]:
    """Counts of items at nodes."""
    return [
        {"item": item, "node": node, "pool": pool, "quantity": quantity, "as_of": BEFORE, "sequence": 1}
        for item, node, quantity in counts
    ]


def network(rates: Mapping[str, object], items: Sequence[str] = ("A",), **policy: object) -> dict[str, Any]:
    """A network in which each node has one lane to zone Z at a flat rate, with one pool P and these terms of policy."""
    terms = "\n".join(f"{name}: {value}" for name, value in policy.items())
    return {
        "network.csv": "currency\nUSD\n",
        "nodes.csv": csv([{"node": node, "time_zone": "UTC"} for node in rates]),
        "pools.csv": "pool\nP\n",
        "zones.csv": "zone,country\nZ,US\n",
        "items.csv": csv([{"item": item, "weight_kg": 1} for item in items]),
        "rates.csv": csv([{"rates": node, "up_to_kg": 1000, "fixed": rate} for node, rate in rates.items()]),
        "lanes.csv": csv([{"lane": f"{node}-Z", "origin": node, "destination": "Z", "rates": node} for node in rates]),
        "policy.yaml": f"code: default\nservice_levels: {{standard: {{}}, economy: {{plan: next_wave}}}}\n{terms}\n",
    }


def held(order: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """What is set aside for an order: open units by item and node."""
    found: dict[tuple[str, str], int] = {}
    for part in order["reservations"]:
        place = (part["item"], part["node"])
        found[place] = found.get(place, 0) + int(part["open"])
    return {place: units for place, units in found.items() if units}
