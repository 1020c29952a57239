from typing import Any

import httpx2
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onlineguard_service.config import Settings
from onlineguard_service.core import Core
from onlineguard_service.http.app import application
from onlineguard_service.http.openapi import build
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.support.double import Double, served

# Events, clicks and labels alike, so that some are right for each route.
_LINE = st.fixed_dictionaries(
    {"slice": st.text(max_size=5), "x": st.lists(st.floats(-1e6, 1e6), max_size=3), "click_id": st.text(max_size=5)}
)
schemathesis.openapi.media_type(
    "application/x-ndjson",
    st.lists(_LINE, min_size=1, max_size=3).map(lambda lines: b"\n".join(msgspec.json.encode(line) for line in lines)),
)

# Which models there are is not in the document, nor which cursors an answer gave.
OF_WHAT_THERE_IS = ("/v1/model", "/v1/trial", "/v1/registry/promote", "/v1/registry/rollback", "/v1/alarms")


@pytest.fixture(scope="module")
def address(tmp_path_factory, model_folder):
    chosen = Settings(
        port=0, grace=1.0, state=tmp_path_factory.mktemp("state"), model=model_folder, n_features=2, durability="async"
    )
    with served(chosen, opening=Core.open) as address:
        event = {"slice": "", "x": [1.0, 2.0]}
        httpx2.post(f"{address}/v1/update", json=[event] * 150).raise_for_status()
        yield address


def whole(body: Any) -> Any:
    """With 5 for 5.0: to a JSON schema both are integers, to the service only the first is."""
    if isinstance(body, list):
        return [whole(each) for each in body]
    if isinstance(body, dict):
        return {name: whole(each) for name, each in body.items()}
    return int(body) if isinstance(body, float) and body.is_integer() else body


def fitting(body: Any) -> Any:
    """With two numbers an event, as the stream has them; the document cannot know how many, and that none is a text."""
    if isinstance(body, list):
        return [fitting(each) for each in body]
    if isinstance(body, dict) and "slice" in body:
        features = body.get("features") or {}
        values = [*(body.get("x") or features.values()), 0.5, 0.5][:2]
        numbers = [0.5 if isinstance(value, str) else value for value in values]
        return {name: value for name, value in body.items() if name not in ("x", "features")} | {"x": numbers}
    return body


def operations() -> list[tuple[str, str]]:
    return [
        (path, method)
        for path, methods in build(False)["paths"].items()
        for method in methods
        if path != "/v1/live"  # its answer has no end
    ]


def cases() -> list[tuple[str, str, GenerationMode]]:
    both = [(path, method, GenerationMode.POSITIVE) for path, method in operations()]
    return both + [
        (path, method, GenerationMode.NEGATIVE)
        for path, method in operations()
        if "requestBody" in build(False)["paths"][path][method] or path == "/v1/slices"  # what could be wrong
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method", "mode"), cases())
def test_what_the_server_answers_is_what_its_document_says(address, path, method, mode):
    operation = schemathesis.openapi.from_url(f"{address}/openapi.json")[path][method]
    checks = [
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
        status_code_conformance,
        unsupported_method,
    ]
    right = mode is GenerationMode.POSITIVE

    @settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def conforms(case: Any) -> None:
        case.body = whole(case.body)
        if right and case.media_type == "application/json":
            case.body = fitting(case.body)
        response = case.call()
        assert response.status_code < 500
        if case.media_type == "application/x-ndjson":
            case.validate_response(response, checks=checks)  # to the document its body is any text
        elif right and path not in OF_WHAT_THERE_IS:
            case.validate_response(response, checks=[*checks, positive_data_acceptance])
        else:
            case.validate_response(response, checks=[*checks, negative_data_rejection])

    conforms()


def test_every_route_stands_in_the_document_and_nothing_else():
    app = application(Double(), Settings())
    assert (
        set(build(True)["paths"])
        == {each.path.replace(":any", "") for each in app.routes if each.include_in_schema} | app.hot.paths
    )


def test_operations_name_their_key_only_where_keys_are_configured():
    locked, opened = build(True), build(False)
    assert locked["paths"]["/v1/update"]["post"]["security"] == [{"bearer": []}, {"header": []}]
    assert "security" not in locked["paths"]["/livez"]["get"]
    assert "401" in locked["paths"]["/v1/slices"]["get"]["responses"]
    assert "401" not in opened["paths"]["/v1/slices"]["get"]["responses"]
    assert "securitySchemes" not in opened["components"]


def test_no_answer_is_left_without_a_schema():
    def refs(value: Any) -> set[str]:
        if isinstance(value, dict):
            return {value["$ref"]} if "$ref" in value else set().union(*map(refs, value.values()))
        return set().union(*map(refs, value)) if isinstance(value, list) else set()

    document = build(True)
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert refs(document) <= schemas
    assert schemas - refs(document) == set()
