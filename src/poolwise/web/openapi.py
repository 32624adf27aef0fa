"""The description of the API (OpenAPI 3.1), made from the table of endpoints, so that it cannot say anything else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from poolwise.core.values import Json
from poolwise.flows.tokens import Role
from poolwise.web.auth import ROLES
from poolwise.web.decoding import is_list
from poolwise.web.endpoint import Endpoint
from poolwise.web.errors import MEDIA_TYPE, RETRY_AFTER, STATUS_OF, ProblemDocument
from poolwise.web.examples import EXAMPLES

REFERENCE: Final = "#/components/schemas/{name}"
TAGS: Final = {
    "orders": "Accept, read and list orders.",
    "reservations": "Set baskets aside for a while.",
    "stock": "What nodes and suppliers state about stock.",
    "availability": "What may be promised.",
    "plans": "Plans without effect, and explanations of decisions.",
    "network": "The network, the catalogue and the policies in force.",
    "events": "What happens, as it happens.",
    "webhooks": "What happens, sent to receivers of yours, signed.",
    "tokens": "Who may ask what.",
    "operations": "Health, readiness, metrics.",
}
ABOUT: Final = """\
Poolwise takes orders and decides, for every line, which stock serves it, from where, by which lane and on which day.

* **Token**: `Authorization: Bearer pw_...`. What a role may do is said with each operation.
* **Key**: every POST that writes takes an `Idempotency-Key`. The same key and body have one effect and one answer, for
  30 days; the same key with another body is refused (422); while the first request is at work, 409.
* **Refusals** are problem documents (RFC 9457) that list everything that is wrong at once, by field and reason.
* **Numbers** that must be exact (quantities, money, costs) are decimal text. Unknown fields are refused.
* **Lists** come in pages: `next` is the cursor of the next one.
"""


def description(endpoints: Iterable[Endpoint], release: str) -> dict[str, Json]:
    """The whole document."""
    table = list(endpoints)
    types = sorted({type_ for each in table for type_ in _bodies(each)} | {ProblemDocument}, key=lambda t: t.__name__)
    queries = [each.query for each in table]
    _, components = msgspec.json.schema_components([*types, *queries], ref_template=REFERENCE)
    schemas = {name: schema for name, schema in sorted(components.items()) if not name.endswith(("Asked", "Nothing"))}
    paths: dict[str, dict[str, Json]] = {}
    for each in table:
        paths.setdefault(each.path, {})[each.method.lower()] = operation(each, components)
    refused = sorted({status for each in table for status in refusals(each)})
    document: dict[str, object] = {
        "openapi": "3.1.0",
        "info": {"title": "Poolwise", "version": release, "description": ABOUT, "license": {"name": "Apache-2.0"}},
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas,
            "responses": {str(status): problem(status) for status in refused},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "A token of Poolwise."}},
        },
        "security": [{"token": []}],
    }
    # The end of a text is `\Z` for Python; for everybody who reads this it is `$`.
    made: dict[str, Json] = msgspec.json.decode(msgspec.json.encode(document).replace(rb'\\Z"', b'$"'))
    return made


def _bodies(endpoint: Endpoint) -> set[type[msgspec.Struct]]:
    found = {type_ for _, types in endpoint.answers.values() for type_ in types}
    return found if endpoint.body is None else {*found, endpoint.body}


def operation(endpoint: Endpoint, components: Mapping[str, object]) -> dict[str, Json]:
    """One operation."""
    allowed = ROLES.get(endpoint.title, frozenset())
    roles = "no token needed" if endpoint.public else ", ".join(role.value for role in Role if role in allowed)
    said: dict[str, object] = {
        "operationId": endpoint.name,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "description": f"{endpoint.description}\n\nFor: {roles}.",
        "parameters": parameters(endpoint, components),
        "responses": responses(endpoint),
    }
    if endpoint.public:
        said["security"] = []
    if endpoint.body is not None:
        content: dict[str, object] = {"schema": _reference(endpoint.body)}
        if endpoint.title in EXAMPLES:
            content["example"] = EXAMPLES[endpoint.title]
        said["requestBody"] = {"required": True, "content": {"application/json": content}}
    return said  # type: ignore[return-value]  # it is JSON


def parameters(endpoint: Endpoint, components: Mapping[str, object]) -> list[object]:
    """What is in the path, in the query and in headers."""
    found: list[object] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 200}}
        for name in (part.strip("{}") for part in endpoint.path.split("/") if part.startswith("{"))
    ]
    schema = components.get(endpoint.query.__name__)
    properties: Mapping[str, dict[str, object]] = schema.get("properties", {}) if isinstance(schema, dict) else {}
    for field in msgspec.structs.fields(endpoint.query):
        said = dict(properties[field.encode_name])
        parameter: dict[str, object] = {"name": field.encode_name, "in": "query", "required": field.required}
        if "description" in said:
            parameter["description"] = said.pop("description")
        if is_list(field.type):
            parameter |= {"style": "form", "explode": True}
        found.append({**parameter, "schema": _without_null(said)})
    if endpoint.writes:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": True,
                "description": "Names this request: the same key and body have one effect and one answer.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
            }
        )
    for name, text in endpoint.headers.items():
        found.append({"name": name, "in": "header", "description": text, "schema": {"type": "string"}})
    return found


def _without_null(schema: dict[str, object]) -> dict[str, object]:
    """A query has no null: what may be left out is left out."""
    choices = schema.get("anyOf")
    if isinstance(choices, list):
        left = [choice for choice in choices if choice != {"type": "null"}]
        if len(left) == 1 and isinstance(left[0], dict):
            schema = {**{name: value for name, value in schema.items() if name != "anyOf"}, **left[0]}
    if schema.get("default", ...) is None:
        schema = {name: value for name, value in schema.items() if name != "default"}
    return schema


def responses(endpoint: Endpoint) -> dict[str, object]:
    """What it answers, and every way in which it is refused."""
    found: dict[str, object] = {}
    for status, (text, types) in endpoint.answers.items():
        answer: dict[str, object] = {"description": text}
        if types:
            schema = _reference(types[0]) if len(types) == 1 else {"anyOf": [_reference(type_) for type_ in types]}
            answer["content"] = {endpoint.media_type: {"schema": schema}}
        elif status == 200:
            kind = "object" if endpoint.media_type == "application/json" else "string"
            answer["content"] = {endpoint.media_type: {"schema": {"type": kind}}}
        headers = {**endpoint.answer_headers, **({"Idempotency-Replayed": "Given again."} if endpoint.writes else {})}
        if headers:
            answer["headers"] = {
                name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()
            }
        found[str(status)] = answer
    if endpoint.body is None and any(is_list(field.type) for field in msgspec.structs.fields(endpoint.query)):
        text = "The server cannot read the request: most likely its address has more than 65,535 bytes."
        found["400"] = {"description": text, "content": {"text/plain": {"schema": {"type": "string"}}}}
    for status in sorted(refusals(endpoint)):
        found[str(status)] = {"$ref": f"#/components/responses/{status}"}
    return found


def refusals(endpoint: Endpoint) -> set[int]:
    """The statuses an endpoint may be refused with: those of its form, and those it names."""
    found = {422, 429, 500, 503, *endpoint.refusals}
    if not endpoint.public:
        found |= {401, 403, 409}  # 409: nothing is in force before the first import
    if endpoint.path.count("{"):
        found |= {404}
    if endpoint.body is not None:
        found |= {400, 413, 415}
    if endpoint.writes:
        found |= {400, 409, 413}
    return found


def problem(status: int) -> dict[str, object]:
    """The description of a refusal."""
    codes = sorted(code for code, number in STATUS_OF.items() if number == status)
    text = HTTPStatus(status).phrase + (f": {', '.join(codes)}." if codes and status != 422 else ".")
    said: dict[str, object] = {
        "description": text,
        "content": {MEDIA_TYPE: {"schema": _reference(ProblemDocument)}},
    }
    if any(STATUS_OF[code] == status for code in RETRY_AFTER):
        seconds = {"description": "Seconds to wait before the same request.", "schema": {"type": "string"}}
        said["headers"] = {"Retry-After": seconds}
    if status == 401:
        said["headers"] = {"WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string"}}}
    return said


def _reference(type_: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(name=type_.__name__)}
