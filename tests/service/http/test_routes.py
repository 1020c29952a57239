"""The answers of the routes that are not of events, clicks or labels: slices, models, the registry and trials."""

import json

import msgspec
import pytest
from onlineguard_service.config import Settings
from onlineguard_service.errors import RegistryUnavailable
from onlineguard_service.http.app import application

from onlineguard.errors import Conflict, InvalidArgument
from onlineguard.wire.answers import TrialState
from tests.support.asking import CLICK, EVENT, problem
from tests.support.double import Double, ask


@pytest.fixture
def app():
    return application(Double(), Settings())


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/update/", "/v1/slices/a/../../b", "/static/../app.py", "//"])
def test_an_unknown_path_is_404(app, path):
    assert problem(ask(app, "GET", path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/update", "POST, OPTIONS"),
        ("DELETE", "/v1/slices", "GET, HEAD, OPTIONS"),
        ("POST", "/v1/slices/web", "GET, HEAD, OPTIONS"),
        ("PUT", "/v1/snapshot", "POST, OPTIONS"),
        ("POST", "/livez", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_405_and_told_the_right_ones(app, method, path, allowed):
    answer = ask(app, method, path)
    assert allowed in problem(answer, 405)
    assert answer[1]["allow"] == allowed
    status, headers, body = ask(app, "OPTIONS", path)
    assert (status, headers["allow"], body) == (204, allowed, b"")
    assert not any(name.startswith("access-control") for name in headers)  # no other site's page may ask


def test_slices_are_listed_as_asked(app):
    answer = json.loads(ask(app, "GET", "/v1/slices?of=events&sort=name&order=asc&limit=2&offset=1&contains=We")[2])
    assert [row["slice"] for row in answer["slices"]] == [7, ["a", 1]]
    assert answer["asked"] == ["events", "name", "We"]
    assert json.loads(ask(app, "GET", "/v1/slices")[2])["asked"] == [None, "events", ""]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("of=labels", 'of is "labels"; it must be one of events, clicks'),
        ("sort=size", 'sort is "size"; it must be one of events, name'),
        ("order=up", 'order is "up"; it must be one of desc, asc'),
        ("limit=0", 'limit is "0"; it must be a whole number from 1 to 1000'),
        ("limit=1e2", 'limit is "1e2"; it must be a whole number'),
        ("offset=-1", 'offset is "-1"; it must be a whole number'),
        ("limt=5", 'the query has "limt", which is unknown; did you mean limit?'),
        ("limit=5&limit=6", "the query has limit twice"),
    ],
)
def test_a_wrong_query_is_422(app, query, detail):
    assert problem(ask(app, "GET", f"/v1/slices?{query}"), 422).startswith(detail)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("phone / US / true", "phone / US / true"),
        ("web?of=events", "web"),
        ("7?of=events", 7),
        ('["a",1]?of=events', ["a", 1]),
        ('"web"?of=events', "web"),
    ],
)
def test_one_slice_is_found_by_its_text_or_the_json_of_its_key(app, path, key):
    status, _, answer = ask(app, "GET", f"/v1/slices/{path}")
    assert (status, json.loads(answer)["slice"]) == (200, key)


@pytest.mark.parametrize("path", ["none", "none?of=events", "7", "[]?of=events", "8?of=events", "", "\ufffd"])
def test_a_slice_that_there_is_not_is_404(app, path):
    assert "no slice of" in problem(ask(app, "GET", f"/v1/slices/{path}"), 404)


@pytest.mark.parametrize("item", [EVENT, CLICK])
def test_explain_takes_an_event_or_a_click(app, item):
    answer = json.loads(ask(app, "POST", "/v1/explain", json.dumps(item).encode())[2])
    assert answer["slice"] == item.get("slice", "phone")
    assert app.core.learned == []


def test_a_person_is_erased_by_their_user_id_alone(app):
    assert ask(app, "POST", "/v1/erase", b'{"user_id": "u-1"}')[::2] == (200, b'{"clicks":2,"labels":1}')
    for body, said in [(b'{"user": "u-1"}', b"user_id"), (b'{"user_id": 7}', b"user_id"), (b"[]", b"user_id")]:
        status, _, problem = ask(app, "POST", "/v1/erase", body)
        assert (status, said in problem) == (422, True)
    assert app.core.erased == ["u-1"]


def test_a_model_is_switched_and_a_snapshot_written(app):
    assert ask(app, "POST", "/v1/model", b'{"folder": "models/model-2"}')[::2] == (200, b'{"model_version":"v2"}')
    assert ask(app, "POST", "/v1/snapshot", kind=None)[::2] == (200, b'{"sequence":1}')


def test_what_the_registry_refuses_is_told_in_a_sentence(app):
    body = b'{"version": "v1", "why": "daily"}'
    app.core.versions.fails = Conflict("models was changed meanwhile")
    assert problem(ask(app, "POST", "/v1/registry/promote", body), 409) == "models was changed meanwhile"
    app.core.versions.fails = InvalidArgument("version", "is v1, which is current already")
    assert "current already" in problem(ask(app, "POST", "/v1/registry/promote", body), 422)
    app.core.versions.fails = RegistryUnavailable("the registry cannot be used now: no route")
    answer = ask(app, "GET", "/v1/registry")
    assert (problem(answer, 503), answer[1]["retry-after"]) == ("the registry cannot be used now: no route", "5")
    assert "models has v1" in problem(ask(app, "GET", "/v1/registry/versions/none"), 404)
    assert "the query has no b" in problem(ask(app, "GET", "/v1/registry/diff?a=v1"), 422)
    assert "forced" in problem(ask(app, "POST", "/v1/registry/promote", b'{"version": "v", "forced": true}'), 422)
    assert "why" in problem(ask(app, "POST", "/v1/registry/rollback", b"{}"), 422)


def test_a_candidate_is_tried_shown_and_ended_at_one_path(app):
    status, _, answer = ask(app, "POST", "/v1/trial", b'{"version": "v2", "share": 0.05}')
    begun = msgspec.json.decode(answer, type=TrialState)
    assert (status, begun.running, begun.version, begun.share, begun.overall.only_live) == (200, True, "v2", 0.05, 1)
    assert ask(app, "GET", "/v1/trial")[2] == answer
    taken = ask(app, "POST", "/v1/trial", b'{"version": "v3"}')
    assert problem(taken, 409).endswith("model v2 is on trial; end that trial first")
    assert msgspec.json.decode(ask(app, "DELETE", "/v1/trial", kind=None)[2], type=TrialState).running is False
    status, headers, _ = ask(app, "PUT", "/v1/trial")
    assert (status, headers["allow"]) == (405, "DELETE, GET, HEAD, POST, OPTIONS")
