"""Schemathesis over the whole description: no fault of ours, and no answer that is not documented.

A few examples for each operation; POOLWISE_CAMPAIGN=full tries many more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.python._constants.orchestrator import make_constants_value_source
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import poolwise
from poolwise.flows.tokens import Role
from poolwise.web import routes
from poolwise.web.endpoint import Endpoint
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

ENDPOINTS = routes.endpoints(Measured(lambda: 0, lambda: 0))
document = schemathesis.openapi.from_dict(description(ENDPOINTS, poolwise.__version__))
OPERATIONS = [endpoint for endpoint in ENDPOINTS if endpoint.path != "/v1/events"]


@pytest.fixture(scope="module")
def line() -> Iterator[requests.Session]:
    """A connection that stays open."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=not FULL,
)
def answered(case: Case, shop: Shop, line: requests.Session) -> None:
    headers = {"Authorization": f"Bearer {shop.tokens[Role.ADMIN]}"}
    case.call_and_validate(base_url=shop.url, headers=headers, checks=CHECKS, session=line)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("endpoint", OPERATIONS, ids=lambda endpoint: endpoint.title)
def test_every_answer_is_documented(endpoint: Endpoint, shop: Shop, line: requests.Session) -> None:
    """Its many cases are made here: `schema.parametrize()` makes them in each process that collects tests."""
    test = build_operation_test(
        config=document.config,
        operation=document[endpoint.path][endpoint.method],
        test_func=answered,
        given_kwargs={},
        feedback=FeedbackSources(make_constants_value_source(document)),
    )
    test(shop=shop, line=line)
