"""Clients who do not know whether they were heard: every request is repeated, some are cut off, some come altered.

What they ask for is drawn from a seed. Two applications serve them, as two processes would: what one has in hand the
other does not know.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from http.client import HTTPConnection, HTTPException
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit

from tests.scenarios.stage import Stage

THREADS = 6
PATIENCE_S = 120.0
PAUSE_S = 0.04
AGAIN = frozenset({"in_progress", "conflict", "too_many_requests", "upstream", "not_ready"})
"""Refusals that leave the key free: the same request may be sent again."""


class Manner(Enum):
    """How a request is sent: and its answer read; and the line cut before that; or another under the same key."""

    READ = "read"
    CUT = "cut"
    OTHER = "other"


@dataclass(frozen=True, slots=True, eq=False)
class Deed:
    """Something that is asked for under a key. `other` is what somebody else asks for under it later.

    Of what `shows` the present state of an order or basket, an answer is the same if it is about the same one.
    """

    key: str
    kind: str
    path: str
    body: Mapping[str, object] | None
    other: Mapping[str, object] | None = None
    shows: bool = False


Answer = tuple[int, str]
"""Status, and what is the same each time."""


@dataclass(slots=True)
class Clients:
    """Clients of some servers, and what they were answered."""

    stage: Stage
    urls: Sequence[str]
    token: str
    sent: Counter[Manner] = field(default_factory=Counter)
    known: set[str] = field(default_factory=set)
    turned_away: Counter[str] = field(default_factory=Counter)
    answers: dict[Deed, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    bodies: dict[Deed, dict[str, Any]] = field(default_factory=dict)
    first: Counter[Deed] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    @property
    def repeated(self) -> int:
        """Requests under keys that had been sent before; not those that were told to come again, which did."""
        return self.sent.total() - len(self.known)

    def send(self, sends: Sequence[tuple[Deed, Manner]], seed: int) -> None:
        """All of them, by several threads, each as soon as one is free."""
        rest = iter(sends)
        threads = [Thread(target=self._client, args=(rest, f"{seed}/{n}")) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, rest: Iterator[tuple[Deed, Manner]], seed: str) -> None:
        chance = random.Random(seed)
        lines = {url: HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S) for url in self.urls}
        try:
            while True:
                with self._lock:
                    found = next(rest, None)
                if found is None or self.wrong:
                    return
                self._persist(lines, chance, *found)
        except BaseException as error:  # noqa: BLE001  # a thread has nobody else to tell
            self.wrong.append(repr(error))
        finally:
            for line in lines.values():
                line.close()

    def _persist(self, lines: Mapping[str, HTTPConnection], chance: random.Random, deed: Deed, manner: Manner) -> None:
        body = deed.other if manner is Manner.OTHER else deed.body
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": deed.key}
        if body is not None:
            headers["Content-Type"] = "application/json"
        deadline = time.monotonic() + PATIENCE_S
        with self._lock:
            self.sent[manner] += 1
            self.known.add(deed.key)
        while time.monotonic() < deadline:
            line = lines[chance.choice(self.urls)]
            try:
                line.request("POST", deed.path, content, headers)
                if manner is Manner.CUT:
                    _cut(line, chance)
                    return
                answer = line.getresponse()
                told = json.loads(answer.read())
            except (OSError, HTTPException):
                line.close()
                continue
            if told.get("code") not in AGAIN:
                self._note(deed, manner, answer.status, told, "Idempotency-Replayed" in answer.headers)
                return
            with self._lock:
                self.turned_away[told["code"]] += 1
            time.sleep(PAUSE_S)
        self.wrong.append(f"{deed} has no answer")

    def _note(self, deed: Deed, manner: Manner, status: int, told: dict[str, Any], replayed: bool) -> None:
        with self._lock:
            if manner is Manner.OTHER:
                if (status, told.get("code")) != (422, "key_reused"):
                    self.wrong.append(f"{deed}: another request under its key is answered {status} {told}")
                return
            same = told["id"] if deed.shows and status < 300 else json.dumps(told, sort_keys=True)
            self.answers[deed].append((status, same))
            self.bodies[deed] = told
            self.first[deed] += not replayed

    def unlike(self) -> list[str]:
        """Keys that have several answers, or whose request was done more than once."""
        found = [f"{d.key} {d.kind} is answered {set(told)}" for d, told in self.answers.items() if len(set(told)) > 1]
        return found + [f"{d.key} {d.kind} is done {times} times" for d, times in self.first.items() if times > 1]

    def done(self, kind: str) -> list[Deed]:
        """Deeds of a kind that were not refused."""
        return [deed for deed, told in self.answers.items() if deed.kind == kind and told[0][0] < 300]


def _cut(line: HTTPConnection, chance: random.Random) -> None:
    """The line is cut: at once, while it is being done, or when the answer is on its way."""
    time.sleep(chance.choice((0, 0, 0.001, 0.01)))
    with suppress(OSError):
        line.sock.shutdown(socket.SHUT_RDWR)
    line.close()


def repeated(deeds: Sequence[Deed], before: Sequence[Deed], chance: random.Random) -> list[tuple[Deed, Manner]]:
    """Deeds in the order in which they are sent: again at once, again later, and some of those of before."""
    placed: list[tuple[float, Deed, Manner]] = []
    for deed in deeds:
        at = chance.random()
        manners = [Manner.CUT if chance.random() < 0.2 else Manner.READ for _ in range(1 + chance.randint(1, 4))]
        placed.append((at, deed, manners[0]))
        for manner in manners[1:]:
            placed.append((at if chance.random() < 0.5 else chance.uniform(at, 1), deed, manner))
    for deed in chance.sample(before, len(before) // 3):
        placed.append((chance.random(), deed, Manner.READ))
    placed.sort(key=lambda each: each[0])
    return [(deed, manner) for _, deed, manner in placed]
