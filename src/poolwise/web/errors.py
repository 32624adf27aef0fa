"""The only place where HTTP codes of refusals are: the error tree as problem documents (RFC 9457).

Refused is 422 unless its code says more; Conflict is 409 and may be repeated at once; Upstream is 503 and may be
repeated later. Anything else that is raised is a bug: 500, without a word about the inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from poolwise.core.values import Conflict, Fault, Refused, Upstream

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:poolwise:problem:"

STATUS_OF: Final[Mapping[str, int]] = {
    "body_unreadable": 400,
    "key_missing": 400,
    "key_invalid": 400,
    "token_missing": 401,
    "token_refused": 401,
    "role_lacking": 403,
    "order_unknown": 404,
    "purchase_order_unknown": 404,
    "reservation_unknown": 404,
    "return_unknown": 404,
    "decision_unknown": 404,
    "edition_unknown": 404,
    "policy_unknown": 404,
    "token_unknown": 404,
    "webhook_unknown": 404,
    "code_unknown": 404,
    "hold_unknown": 404,
    "path_unknown": 404,
    "method_not_allowed": 405,
    "number_taken": 409,
    "not_available": 409,
    "reservation_gone": 409,
    "too_late": 409,
    "not_allowed": 409,
    "offer_taken": 409,
    "offer_over": 409,
    "order_held": 409,
    "too_many_webhooks": 409,
    "in_progress": 409,
    "conflict": 409,
    "nothing_in_force": 409,
    "body_too_large": 413,
    "not_json": 415,
    "too_many_requests": 429,
    "internal": 500,
    "not_ready": 503,
    "upstream": 503,
}
"""Codes of refusals that are not 422."""

RETRY_AFTER: Final[Mapping[str, str]] = {
    "in_progress": "1",
    "conflict": "1",
    "too_many_requests": "1",
    "upstream": "2",
    "not_ready": "5",
}
"""Seconds after which the same request may be repeated."""


REPLAYED: Final = {"Idempotency-Replayed": "true"}


class GivenAgain(Refused):
    """A refusal that was given before, under the same key."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong: one field and one reason."""

    field: Annotated[str, Meta(description="Path of the field, for example `lines[0].item`; empty for the whole.")]
    reason: Annotated[str, Meta(description="A sentence that says what is wrong with it.")]


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was refused (RFC 9457), with everything that is wrong at once."""

    type: Annotated[str, Meta(description="A URN that names the kind of problem and never changes.")]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    code: Annotated[str, Meta(description="The last part of `type`.")]
    detail: str
    problems: list[Problem]


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """One thing of many that was refused, inside an answer about all of them."""

    code: str
    problems: list[Problem]


def rejection(code: str, faults: Sequence[Fault]) -> Rejection:
    """A refusal as a part of a larger answer."""
    return Rejection(code=code, problems=[Problem(field=fault.field, reason=fault.reason) for fault in faults])


def refusal_of(rejection: Rejection) -> Sequence[Fault]:
    """What a part of a larger answer says is wrong."""
    return [Fault(problem.field, problem.reason) for problem in rejection.problems]


def refused(code: str, reason: str, field: str = "") -> Refused:
    """A refusal with one reason."""
    return Refused(code, [Fault(field, reason)])


def problem_of(error: Exception) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of the answer to a request that raised `error`."""
    match error:
        case Refused(code=code, problems=problems):
            status, body, headers = document(code, problems)
            return status, body, headers | REPLAYED if isinstance(error, GivenAgain) else headers
        case Conflict():
            return document("conflict", [Fault("", "somebody else was first; repeat the request with the same key")])
        case Upstream():
            return document("upstream", [Fault("", "the database cannot be reached at the moment; repeat later")])
        case _:
            return document("internal", [Fault("", "a fault of ours; it is logged, and nothing was changed")])


def document(code: str, faults: Sequence[Fault]) -> tuple[int, bytes, dict[str, str]]:
    """A problem document with its status and headers."""
    status = STATUS_OF.get(code, 422)
    body = ProblemDocument(
        type=TYPE_PREFIX + code,
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail="; ".join(f"{fault.field}: {fault.reason}" if fault.field else fault.reason for fault in faults[:5]),
        problems=[Problem(field=fault.field, reason=fault.reason) for fault in faults],
    )
    headers = {"Retry-After": RETRY_AFTER[code]} if code in RETRY_AFTER else {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="poolwise"'
    return status, msgspec.json.encode(body), headers
