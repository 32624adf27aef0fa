"""How-tos of the API: every request on a page is sent, and its answer is what the page says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from poolwise.flows.tokens import Role
from poolwise.store.embedded import EmbeddedServer
from tests.conftest import copied_database
from tests.web.shop import OPENED, opened

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"
STEP = re.compile(r"```http\n(\w+) (\S+)\n((?:[\w-]+: [^\n]*\n)*)\n?(.*?)```\n+```json\n(.*?)```", re.DOTALL)


def steps(page: Path) -> Iterator[tuple[str, str, dict[str, str], bytes, object]]:
    for method, path, headers, body, answer in STEP.findall(page.read_text()):
        named = dict(line.split(": ", 1) for line in headers.splitlines())
        yield method, path, named, body.strip().encode(), json.loads(answer)


@pytest.mark.parametrize(
    ("name", "requests", "released"),
    [("api.md", 9, False), ("changes.md", 11, False), ("fulfilment.md", 16, True), ("returns.md", 12, True)],
)
def test_every_request_of_a_page_answers_what_the_page_says(
    server: EmbeddedServer, template: str, name: str, requests: int, released: bool
) -> None:
    """A worker does what there is to do after each request; where it is `released`, an hour passes, too."""
    page = HOW_TO / name
    assert len(list(steps(page))) == page.read_text().count("```http") == requests
    for database in copied_database(server, template):
        with opened(database.url, stocked=False) as shop, shop.client(Role.OPERATOR) as client:
            for method, path, headers, body, expected in steps(page):
                kind = {"Content-Type": "application/json"} if body else {}
                answer = client.request(method, path, headers={**headers, **kind}, content=body)
                assert fits(answer.json(), expected), f"{method} {path}: {answer.text}"
                if shop.decide().decided and released:
                    shop.release()
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
