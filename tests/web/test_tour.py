"""The tour in docs/how-to/api.md: every request on the page is sent, and its answer is what the page says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from poolwise.flows.tokens import Role
from poolwise.store.embedded import EmbeddedServer
from tests.conftest import copied_database
from tests.web.shop import OPENED, opened

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "api.md"
STEP = re.compile(r"```http\n(\w+) (\S+)\n((?:[\w-]+: [^\n]*\n)*)\n?(.*?)```\n+```json\n(.*?)```", re.DOTALL)


def steps() -> Iterator[tuple[str, str, dict[str, str], bytes, object]]:
    for method, path, headers, body, answer in STEP.findall(PAGE.read_text()):
        named = dict(line.split(": ", 1) for line in headers.splitlines())
        yield method, path, named, body.strip().encode(), json.loads(answer)


def test_every_request_of_the_tour_answers_what_the_page_says(server: EmbeddedServer, template: str) -> None:
    assert len(list(steps())) == PAGE.read_text().count("```http") == 9
    for database in copied_database(server, template):
        with opened(database.url, stocked=False) as shop, shop.client(Role.OPERATOR) as client:
            for method, path, headers, body, expected in steps():
                shop.decide()
                kind = {"Content-Type": "application/json"} if body else {}
                answer = client.request(method, path, headers={**headers, **kind}, content=body)
                assert fits(answer.json(), expected), f"{method} {path}: {answer.text}"
    assert OPENED.date().isoformat() == "2026-01-12"


def fits(answer: object, expected: object) -> bool:
    """Whether an answer holds what is expected of it; `...` stands for anything."""
    match expected:
        case "...":
            return True
        case dict():
            assert isinstance(answer, dict)
            return all(name == "..." or (name in answer and fits(answer[name], expected[name])) for name in expected)
        case list():
            assert isinstance(answer, list)
            return len(answer) == len(expected) and all(map(fits, answer, expected))
        case _:
            return answer == expected
