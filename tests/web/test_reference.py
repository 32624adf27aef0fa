"""The description of the API: what is kept is what is served, and every operation is documented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from poolwise.web import routes
from poolwise.web.examples import EXAMPLES
from poolwise.web.operations import Measured
from poolwise.web.reference import text
from tests.web.shop import Shop

KEPT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "openapi.json"
TABLE = routes.endpoints(Measured(lambda: 0, lambda: 0))


def test_the_page_is_up_to_date() -> None:
    assert KEPT.read_text() == text(), "write it again: python -m poolwise.web.reference"


def test_what_is_served_is_what_is_kept(shop: Shop) -> None:
    assert shop.get("/v1/openapi.json").json() == json.loads(KEPT.read_text())


@pytest.mark.parametrize("endpoint", TABLE, ids=lambda endpoint: endpoint.title)
def test_every_operation_says_what_it_takes_and_answers(endpoint: routes.Endpoint) -> None:
    operation = json.loads(text())["paths"][endpoint.path][endpoint.method.lower()]

    assert len(operation["description"]) > 40
    assert endpoint.body is None or endpoint.title in EXAMPLES
    assert {"429", "500", "503"} <= set(operation["responses"])


def test_operations_have_names_of_their_own() -> None:
    names = [endpoint.name for endpoint in TABLE]

    assert len(set(names)) == len(names)
