"""The OpenAPI 3.1 document of the HTTP API, made from the structs that decode and encode its messages."""

from functools import lru_cache
from typing import Any

import msgspec

import onlineguard
from onlineguard.wire.requests import Click, ClickAnswer, Event, EventAnswer, Label, LabelAnswer, Problem, Verdict
from onlineguard_service.http.app import MOST_ROWS, SORTS, ModelFolder

_COMPONENTS = "#/components/schemas/{name}"
_NUMBER: dict[str, Any] = {"type": ["number", "null"]}
_NAMED_NUMBERS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "number"}}
_KEY: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {"type": "integer"},
        {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
    ]
}

# Answers that are put together by the core, and so have no struct.
_ROW: dict[str, Any] = {
    "of": {"enum": ["events", "clicks"]},
    "slice": _KEY,
    "events": {"type": "integer"},
    "anomalies": {"type": "integer"},
    "last_ts": {"type": ["integer", "null"], "description": "milliseconds since 1970 UTC"},
    "score": {**_NUMBER, "description": "of the newest event"},
    "threshold": _NUMBER,
    "drift": {"type": "number", "description": "share flagged of its events among the latest 65,536 of the stream"},
    "ivr": {**_NUMBER, "description": "share of the slice's clicks that were called robotic"},
    "fpr": {**_NUMBER, "description": "share of its purchases that were"},
    "p_robot": {**_NUMBER, "description": "of the newest click"},
    "robot_threshold": _NUMBER,
}
_OF_CLICKS = ("ivr", "fpr", "p_robot", "robot_threshold")  # absent from slices of events
_ROW_REQUIRED = [name for name in _ROW if name not in _OF_CLICKS]
_HISTORY = {name: {"type": "array"} for name in ("ts", "score", "threshold", "anomalous", "p_robot")}
_SCHEMAS: dict[str, Any] = {
    "SliceRow": {"type": "object", "properties": _ROW, "required": _ROW_REQUIRED},
    "Slices": {
        "type": "object",
        "properties": {
            "slices": {"type": "array", "items": {"$ref": _COMPONENTS.format(name="SliceRow")}},
            "total": {"type": "integer"},
            "found": {"type": "integer", "description": "those whose key contains what was asked for"},
        },
        "required": ["slices", "total", "found"],
    },
    "Slice": {
        "type": "object",
        "properties": {
            **_ROW,
            "history": {"type": "object", "properties": _HISTORY, "description": "the last 256, oldest first"},
            "drivers": {"anyOf": [_NAMED_NUMBERS, {"type": "null"}]},
        },
        "required": [*_ROW_REQUIRED, "history", "drivers"],
    },
    "Explanation": {
        "type": "object",
        "properties": {
            "slice": _KEY,
            "score": _NUMBER,
            "threshold": _NUMBER,
            "anomalous": {"type": "boolean"},
            "drivers": {**_NAMED_NUMBERS, "description": "share of the score by feature, the largest first"},
        },
        "required": ["slice", "score", "threshold", "anomalous", "drivers"],
    },
    "ModelVersion": {
        "type": "object",
        "properties": {"model_version": {"type": "string"}},
        "required": ["model_version"],
    },
    "Sequence": {"type": "object", "properties": {"sequence": {"type": "integer"}}, "required": ["sequence"]},
    "Alive": {"type": "object", "properties": {"status": {"const": "alive"}}, "required": ["status"]},
    "Ready": {
        "type": "object",
        "properties": {"ready": {"type": "boolean"}, "reasons": {"type": "array", "items": {"type": "string"}}},
        "required": ["ready", "reasons"],
    },
}

_REFUSALS = {
    400: "The body is no JSON in UTF-8.",
    401: "A key is needed, or the key is unknown.",
    403: "The key has not the scope.",
    404: "There is no such slice.",
    408: "The body came too slowly.",
    413: "The body, or the batch, is too large.",
    415: "The content type is none of those that are taken.",
    422: "A field is wrong: its path, its value and the rule are told.",
    429: "Too many requests.",
    500: "The service failed; its log says why.",
    503: "The service is not ready, or its journal takes nothing now; nothing was learned.",
}
_WAITING = (429, 503)  # tell in Retry-After when to come again


@lru_cache(2)
def document(locked: bool) -> bytes:
    """The document as JSON; `locked`: whether keys are configured."""
    return msgspec.json.encode(build(locked))


def build(locked: bool) -> dict[str, Any]:
    """The document as nested dicts."""
    structs = (Event, EventAnswer, Click, ClickAnswer, Label, LabelAnswer, Verdict, Problem, ModelFolder)
    _, schemas = msgspec.json.schema_components(structs, ref_template=_COMPONENTS)
    numbers, no = {"type": "array"}, {"type": "null"}
    schemas["Event"]["oneOf"] = [
        {"required": ["x"], "properties": {"x": numbers, "features": no}},
        {"required": ["features"], "properties": {"features": {"type": "object"}, "x": no}},
    ]
    schemas["ModelFolder"]["properties"]["folder"] |= {"minLength": 1, "pattern": "^[^\\u0000]+$"}
    paths: dict[str, Any] = {
        "/v1/update": _stream("update", "Score events with what was known before them, then learn from them.", "Event"),
        "/v1/score": _stream("score", "Score events, and learn nothing.", "Event"),
        "/v1/clicks": _stream("update", "Decide about clicks, and learn from them.", "Click"),
        "/v1/labels": _stream("update", "Tell what became known of clicks later.", "Label"),
        "/v1/slices": {"get": _get("score", "The slices and how they are.", "Slices", _slices_query(), (422, 503))},
        "/v1/slices/{key}": {
            "get": _get("score", "One slice, with its history.", "Slice", _slice_query(), (404, 422, 503))
        },
        "/v1/live": {"get": _get("score", "Server-sent events, one a second.", None, [], (404, 503), _SSE)},
        "/v1/explain": {"post": _post("score", "What drives a score.", ["Event", "Click"], "Explanation")},
        "/v1/model": {"post": _post("admin", "Judge by another model from now on.", ["ModelFolder"], "ModelVersion")},
        "/v1/snapshot": {"post": _get("admin", "Write a snapshot now.", "Sequence", [], (503,))},
        "/metrics": {"get": _get("score", "Figures for Prometheus.", None, [], (), _TEXT)},
        "/livez": {"get": _get(None, "Whether the process answers.", "Alive", [], ())},
        "/readyz": {"get": _ready()},
        "/openapi.json": {"get": _get(None, "This document.", None, [], (), {"application/json": {}})},
    }
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "onlineguard",
            "version": onlineguard.__version__,
            "description": "Anomaly scores and decisions about clicks, from models that learn from every event. A "
            "batch is refused whole or taken whole; an id that is sent again is answered as before.",
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas, **_SCHEMAS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "The API key."},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The API key."},
            },
        },
    }
    if not locked:  # anyone may do all, and no answer is about keys
        del found["components"]["securitySchemes"]
        for methods in paths.values():
            for operation in methods.values():
                operation.pop("security", None)
                for status in ("401", "403"):
                    operation["responses"].pop(status, None)
    return found


_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_SSE = {"text/event-stream": {"schema": {"type": "string"}}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": _COMPONENTS.format(name=name)}


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": _ref(name)}}


def _shapes(name: str) -> dict[str, Any]:
    """One, an array of them, or one a line."""
    one = _ref(name)
    return {
        "application/json": {"schema": {"oneOf": [one, {"type": "array", "items": one}]}},
        "application/x-ndjson": {"schema": {"type": "string", "description": f"One {name} a line."}},
    }


def _stream(scope: str, summary: str, name: str) -> dict[str, Any]:
    operation = _operation(scope, summary, _shapes(f"{name}Answer"), (400, 408, 413, 415, 422, 503))
    return {"post": {**operation, "requestBody": {"required": True, "content": _shapes(name)}}}


def _post(scope: str, summary: str, names: list[str], answer: str) -> dict[str, Any]:
    operation = _operation(scope, summary, _json(answer), (400, 404, 408, 413, 415, 422, 503))
    schema = {"anyOf": [_ref(name) for name in names]} if len(names) > 1 else _ref(names[0])
    return {**operation, "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _get(
    scope: str | None,
    summary: str,
    answer: str | None,
    parameters: list[dict[str, Any]],
    refusals: tuple[int, ...],
    content: dict[str, Any] | None = None,
) -> dict[str, Any]:
    operation = _operation(scope, summary, _json(answer) if answer is not None else content or {}, refusals)
    return {**operation, "parameters": parameters} if parameters else operation


def _ready() -> dict[str, Any]:
    operation = _get(None, "Whether requests are answered.", "Ready", [], ())
    operation["responses"]["503"] = {"description": "Not ready, and why.", "content": _json("Ready"), **_RETRY}
    return operation


def _operation(scope: str | None, summary: str, content: dict[str, Any], refusals: tuple[int, ...]) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "Answered.", "content": content}}
    for status in sorted({*refusals, 500, *((401, 403, 429) if scope is not None else ())}):
        responses[str(status)] = {
            "description": _REFUSALS[status],
            "content": {"application/problem+json": {"schema": _ref("Problem")}},
            **(_RETRY if status in _WAITING else {}),
        }
    if scope is None:
        return {"summary": summary, "responses": responses}
    told = f"Needs a key with the scope {scope}, where keys are configured."
    return {
        "summary": summary,
        "description": told,
        "security": [{"bearer": []}, {"header": []}],
        "responses": responses,
    }


_RETRY: dict[str, Any] = {
    "headers": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
}


def _parameter(name: str, schema: dict[str, Any], about: str, place: str = "query") -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": about}


def _slices_query() -> list[dict[str, Any]]:
    return [
        _parameter("of", {"enum": ["events", "clicks"]}, "Of which stream; both without it."),
        _parameter("sort", {"enum": list(SORTS), "default": "events"}, "By what."),
        _parameter("order", {"enum": ["desc", "asc"], "default": "desc"}, "Largest or smallest first."),
        _parameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": 100}, "Rows at most."),
        _parameter("offset", {"type": "integer", "minimum": 0, "maximum": 2**31, "default": 0}, "Rows left out."),
        _parameter("contains", {"type": "string", "default": ""}, "Only slices whose key has this in it, in any case."),
    ]


def _slice_query() -> list[dict[str, Any]]:
    about = "The slice; of events a number's or a list's JSON stands for it. URL-encoded, also /."
    return [
        _parameter("key", {"type": "string"}, about, "path"),
        _parameter("of", {"enum": ["events", "clicks"], "default": "clicks"}, "Of which stream."),
    ]
