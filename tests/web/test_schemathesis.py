"""Schemathesis over the whole description: no fault of ours, and no answer that is not documented.

A few examples for each operation; POOLWISE_CAMPAIGN=full tries many more.
"""

from __future__ import annotations

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import poolwise
from poolwise.flows.tokens import Role
from poolwise.web import routes
from poolwise.web.openapi import description
from poolwise.web.operations import Measured
from tests.web.shop import Shop

FULL = os.environ.get("POOLWISE_CAMPAIGN") == "full"
EXAMPLES = 500 if FULL else 6
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)

document = description(routes.endpoints(Measured(lambda: 0, lambda: 0)), poolwise.__version__)
schema = schemathesis.openapi.from_dict(document).exclude(path="/v1/events")


@pytest.mark.slow
@pytest.mark.campaign
@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=not FULL,
)
def test_every_answer_is_documented(case: Case, shop: Shop) -> None:
    headers = {"Authorization": f"Bearer {shop.tokens[Role.ADMIN]}"}
    case.call_and_validate(base_url=shop.url, headers=headers, checks=CHECKS)
