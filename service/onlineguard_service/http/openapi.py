"""The OpenAPI 3.1 document of the HTTP API, made from the contract in `onlineguard.wire`."""

from functools import lru_cache
from typing import Any

import msgspec

import onlineguard
from onlineguard.wire.answers import Problem
from onlineguard.wire.operations import OPERATIONS, READYZ, Operation
from onlineguard_service.http.bodies import SECONDS

_COMPONENTS = "#/components/schemas/{name}"

_REFUSALS = {
    400: "The body is not JSON in UTF-8.",
    401: "A key is needed, or the key is unknown.",
    403: "The key lacks the scope, or there are no keys and a page of another site had a browser send the request.",
    404: "There is no such slice, version or alarm.",
    408: "The body came too slowly.",
    409: "An id came before with other content, another candidate is on trial, or another change came between; nothing "
    "was learned.",
    413: "The body, or the batch, is too large.",
    415: "The content type is not one that the service takes.",
    421: "There are no keys, and the Host is neither this machine nor among the service's hosts.",
    422: "A field is wrong: the detail gives its path, its value and the rule.",
    429: "Too many requests.",
    500: "The service failed; its log says why.",
    503: "The service is not ready, its journal takes no entry now, or the registry cannot be reached; nothing was "
    "learned.",
}
_RETRIED = (429, 503)  # their Retry-After says when to try again
_RETRY: dict[str, Any] = {
    "headers": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
}
_IN_PATHS = {
    "key": "The slice's key, URL-encoded (also /). A key of events that is a number or a list is its JSON.",
    "version": "A version of the registry, or the one that decides.",
    "id": "The id of an alarm.",
}


@lru_cache(2)
def document(locked: bool) -> bytes:
    """The document as JSON; `locked`: whether keys are configured."""
    return msgspec.json.encode(build(locked))


def build(locked: bool) -> dict[str, Any]:
    """The document as nested dicts."""
    structs = {kind: None for each in OPERATIONS for kind in (*each.body, each.answer) if kind is not None}
    _, schemas = msgspec.json.schema_components([*structs, Problem], ref_template=_COMPONENTS)
    numbers, null = {"type": "array"}, {"type": "null"}
    schemas["Event"]["oneOf"] = [
        {"required": ["x"], "properties": {"x": numbers, "features": null}},
        {"required": ["features"], "properties": {"features": {"type": "object"}, "x": null}},
    ]
    schemas["Click"]["properties"]["ts"]["anyOf"] = [{"exclusiveMaximum": SECONDS.start}, {"minimum": SECONDS.stop}]
    api: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "onlineguard",
            "version": onlineguard.__version__,
            "description": "Anomaly scores and decisions about clicks, from models that learn from every event. A "
            "batch is refused whole or taken whole; an id that is sent again gets its first answer again.",
        },
        "paths": {
            path: {each.method.lower(): _operation(each, locked) for each in OPERATIONS if each.path == path}
            for path in dict.fromkeys(each.path for each in OPERATIONS)
        },
        "components": {"schemas": schemas},
    }
    if locked:
        api["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "description": "The API key."},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The API key."},
        }
    return api


def _operation(operation: Operation, locked: bool) -> dict[str, Any]:
    answered: dict[str, Any] = {operation.media: {"schema": {"type": "string"}}}
    if operation.answer is not None:
        answered = _content(operation.answer, many=operation.many)
    elif operation.media == "application/json":
        answered = {operation.media: {}}
    responses: dict[str, Any] = {"200": {"description": "Answered.", "content": answered}}
    refusals = {*operation.refusals, 500}
    if operation.scope is not None:
        refusals |= {401, 403, 429} if locked else {403, 421, 429}
    for status in sorted(refusals):
        responses[str(status)] = {
            "description": _REFUSALS[status],
            "content": {"application/problem+json": {"schema": _ref(Problem)}},
            **(_RETRY if status in _RETRIED else {}),
        }
    if operation is READYZ:
        responses["503"] = {"description": "Not ready, and why.", "content": answered, **_RETRY}
    described: dict[str, Any] = {"summary": operation.summary, "responses": responses}
    if operation.scope is not None:
        described["description"] = f"Needs a key with the scope {operation.scope}, if keys are configured."
        if locked:
            described["security"] = [{"bearer": []}, {"header": []}]
    if operation.body:
        described["requestBody"] = {"required": True, "content": _content(*operation.body, many=operation.many)}
    if parameters := _parameters(operation):
        described["parameters"] = parameters
    return described


def _ref(kind: type[Any]) -> dict[str, Any]:
    return {"$ref": _COMPONENTS.format(name=kind.__name__)}


def _content(*kinds: type[Any], many: bool) -> dict[str, Any]:
    """An object of one of the kinds as JSON; if there may be many, also an array of them or one a line."""
    schema = _ref(kinds[0]) if len(kinds) == 1 else {"anyOf": [_ref(kind) for kind in kinds]}
    if not many:
        return {"application/json": {"schema": schema}}
    lines = {"type": "string", "description": f"One {kinds[0].__name__} a line."}
    return {
        "application/json": {"schema": {"oneOf": [schema, {"type": "array", "items": schema}]}},
        "application/x-ndjson": {"schema": lines},
    }


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": about}
        for name, about in _IN_PATHS.items()
        if f"{{{name}}}" in operation.path
    ]
    if operation.query is None:
        return parameters
    schema = msgspec.json.schema_components([operation.query])[1][operation.query.__name__]
    for name, rule in schema["properties"].items():
        about = rule.pop("description")
        needed = name in schema.get("required", ())
        parameters.append({"name": name, "in": "query", "required": needed, "schema": rule, "description": about})
    return parameters
