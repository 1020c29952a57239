import tomllib
from hashlib import sha256

import pytest
from onlineguard_service.config import Settings
from onlineguard_service.http.app import application
from onlineguard_service.http.auth import SCOPES, ApiKeys, new_key
from typer.testing import CliRunner

from onlineguard.cli import app as cli
from onlineguard.errors import InvalidArgument
from onlineguard.wire.registry import Promotion, Rollback
from tests.support.double import Double, ask
from tests.support.keys import keys_file

EVENT = b'{"slice": "a", "x": [1.0]}'
ROUTES = [
    ("POST", "/v1/update", "update", EVENT),
    ("POST", "/v1/clicks", "update", b"[]"),
    ("POST", "/v1/labels", "update", b"[]"),
    ("POST", "/v1/score", "score", EVENT),
    ("POST", "/v1/explain", "score", EVENT),
    ("GET", "/v1/slices", "score", b""),
    ("GET", "/v1/slices/web", "score", b""),
    ("GET", "/metrics", "score", b""),
    ("POST", "/v1/model", "admin", b'{"folder": "model-2"}'),
    ("GET", "/v1/trial", "score", b""),
    ("POST", "/v1/trial", "admin", b'{"version": "v2"}'),
    ("DELETE", "/v1/trial", "admin", b""),
    ("POST", "/v1/snapshot", "admin", b""),
    ("GET", "/v1/registry", "score", b""),
    ("GET", "/v1/registry/versions/v1", "score", b""),
    ("GET", "/v1/registry/changes", "score", b""),
    ("GET", "/v1/registry/diff?a=v1&b=v2", "score", b""),
    ("POST", "/v1/registry/promote", "admin", b'{"version": "v1", "why": "daily"}'),
    ("POST", "/v1/registry/rollback", "admin", b'{"why": "a fault"}'),
    ("POST", "/v1/erase", "admin", b'{"user_id": "u-1"}'),
]


@pytest.fixture
def guarded(tmp_path):
    path, keys = keys_file(tmp_path, score=["score"], update=["update"], admin=["admin"], all=list(SCOPES))
    return application(Double(), Settings(keys=path)), keys


@pytest.mark.parametrize(("method", "path", "scope", "body"), ROUTES)
def test_a_route_answers_only_keys_with_its_scope(guarded, method, path, scope, body):
    app, keys = guarded
    for name, key in keys.items():
        status, _, answer = ask(app, method, path, body, headers={"x-api-key": key})
        assert status == (200 if name in (scope, "all") else 403)
        if status == 403:
            assert f"the key {name} has not the scope {scope}".encode() in answer
    status, headers, _ = ask(app, method, path, body)
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="onlineguard"')
    assert ask(app, method, path, body, headers={"x-api-key": "og_wrong"})[0] == 401


def test_a_key_may_come_as_bearer_or_in_a_header_of_its_own(guarded):
    app, keys = guarded
    for headers in ({"authorization": f"Bearer {keys['score']}"}, {"AUTHORIZATION": f"bearer  {keys['score']} "}):
        assert ask(app, "GET", "/v1/slices", headers=headers)[0] == 200
    assert ask(app, "GET", "/v1/slices", headers={"authorization": f"Basic {keys['score']}"})[0] == 401


def test_who_changed_the_registry_is_the_name_of_the_key_or_the_address(guarded):
    app, keys = guarded
    body = b'{"version": "v1", "why": "daily", "force": true, "generation": 7}'
    assert ask(app, "POST", "/v1/registry/promote", body, headers={"x-api-key": keys["admin"]})[0] == 200
    assert app.core.versions.wanted == [(Promotion("v1", "daily", True, 7), "admin")]
    opened = application(Double(), Settings())
    assert ask(opened, "POST", "/v1/registry/rollback", b'{"why": "a fault"}', client="192.0.2.1")[0] == 200
    assert opened.core.versions.wanted == [(Rollback("a fault"), "without a key, from 192.0.2.1")]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/openapi.json", "/docs"])
def test_health_and_the_documents_need_no_key(guarded, path):
    assert ask(guarded[0], "GET", path)[0] == 200


def test_without_keys_everything_is_open():
    app = application(Double(), Settings())
    assert all(ask(app, method, path, body)[0] == 200 for method, path, _, body in ROUTES)


def test_a_refused_request_teaches_nothing(guarded):
    app, keys = guarded
    ask(app, "POST", "/v1/update", EVENT)
    ask(app, "POST", "/v1/update", EVENT, headers={"x-api-key": keys["score"]})
    assert app.core.learned == []


def test_requests_are_counted_by_key_and_admin_actions_are_logged_with_who_took_them(guarded, caplog):
    app, keys = guarded
    with caplog.at_level("INFO", "onlineguard_service.audit"):
        for name, path, body in (
            ("all", "/v1/update", EVENT),
            ("all", "/v1/snapshot", b""),
            ("admin", "/v1/snapshot", b""),
        ):
            assert ask(app, "POST", path, body, headers={"x-api-key": keys[name]}, client="192.0.2.9")[0] == 200
        assert ask(app, "POST", "/v1/snapshot", headers={"x-api-key": keys["score"]})[0] == 403
        assert ask(application(Double(), Settings()), "POST", "/v1/snapshot")[0] == 200
    told = [(record.route, record.key, record.address) for record in caplog.records]  # type: ignore[attr-defined]
    assert told == [
        ("/v1/snapshot", "all", "192.0.2.9"),
        ("/v1/snapshot", "admin", "192.0.2.9"),
        ("/v1/snapshot", None, "192.0.2.1"),
    ]
    text = app.metrics.text().decode()
    assert 'onlineguard_key_requests_total{key="all"} 2.0' in text
    assert 'onlineguard_key_requests_total{key="admin"} 1.0' in text
    assert 'key="score"' not in text


def test_a_new_key_is_random_and_only_its_digest_is_to_be_kept():
    key, lines = new_key("dashboard", ["score", "update", "score"])
    assert tomllib.loads(lines) == {
        "dashboard": {"key_sha256": sha256(key.encode()).hexdigest(), "scopes": ["score", "update"]}
    }
    assert key not in lines
    assert len({new_key("a", ["score"])[0] for _ in range(100)}) == 100


def test_serve_prints_a_new_key_once_apart_from_what_belongs_in_the_file(tmp_path):
    result = CliRunner().invoke(cli.app, ["serve", "--new-key", "team", "--scope", "score", "--scope", "admin"])
    assert result.exit_code == 0
    path = tmp_path / "keys.toml"
    path.write_text(result.stdout)
    key = result.stderr.split("once: ")[1].split()[0]
    found = ApiKeys.load(path).find(key.encode())
    assert found is not None
    assert (found.name, found.scopes) == ("team", {"score", "admin"})
    assert key not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["team"], "--scope is empty; it must name at least one of score, update, admin"),
        (["team", "--scope", "root"], "--scope is 'root'; it must be one of score, update, admin"),
        (["a b", "--scope", "score"], "--new-key is 'a b'; it must be up to 64 letters"),
    ],
)
def test_a_new_key_needs_a_name_and_scopes_that_there_are(arguments, told):
    result = CliRunner().invoke(cli.app, ["serve", "--new-key", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no key"),
        ("[a", "is no TOML"),
        ("a = 1", "must be a table"),
        ("[a]\nscopes = ['score']", "needs key_sha256"),
        ("[a]\nkey_sha256 = 'abc'\nscopes = ['score']", "64 hexadecimal digits"),
        (f"[a]\nkey_sha256 = '{DIGEST}'", "needs scopes"),
        (f"[a]\nkey_sha256 = '{DIGEST}'\nscopes = []", "is empty"),
        (f"[a]\nkey_sha256 = '{DIGEST}'\nscopes = ['scores']", "is 'scores'; it must be one of"),
        (f"[a]\nkey_sha256 = '{DIGEST}'\nscopes = ['score']\nscope = 1", "did you mean scopes?"),
        ("".join(f"[{n}]\nkey_sha256 = '{DIGEST}'\nscopes = ['score']\n" for n in "ab"), "[b] has the key of [a]"),
    ],
)
def test_a_file_of_keys_that_is_wrong_is_refused_at_the_start(tmp_path, text, told):
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(InvalidArgument) as raised:
        application(None, Settings(keys=path))
    assert told in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_file_of_keys_that_is_not_there_is_refused_at_the_start(tmp_path):
    with pytest.raises(InvalidArgument, match="cannot be read"):
        application(None, Settings(keys=tmp_path / "none.toml"))
