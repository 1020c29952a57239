import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from onlineguard_service import config
from onlineguard_service.config import Settings, load, show
from typer.testing import CliRunner

from onlineguard.cli import app as cli
from onlineguard.errors import InvalidArgument


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "serve.toml"
    path.write_text('[serve]\nport = 1\nhost = "h1"\nfeatures = ["a", "b"]\ntarget_rate = 0.05\n')
    return path


def test_a_flag_goes_before_the_environment_before_the_file_before_the_default(file):
    environ = {"ONLINEGUARD_PORT": "2", "ONLINEGUARD_HOST": "h2"}
    loaded = load({"port": "3", "host": None}, environ, file)
    assert (loaded.settings.port, loaded.settings.host, loaded.settings.target_rate) == (3, "h2", 0.05)
    assert loaded.settings.features == ("a", "b")
    assert loaded.settings.patience == Settings().patience
    assert loaded.sources["port"] == "flag --port"
    assert loaded.sources["host"] == "environment ONLINEGUARD_HOST"
    assert loaded.sources["target_rate"] == f"file {file}"
    assert loaded.sources["patience"] == "default"


def test_the_file_may_be_named_in_the_environment(file):
    assert load({}, {"ONLINEGUARD_CONFIG": str(file)}).settings.port == 1


def test_nothing_given_is_all_defaults():
    assert load({}, {}).settings == Settings()


@pytest.mark.parametrize("name", list(config.FIELDS))
def test_every_setting_is_explained_and_can_be_given_as_text(name):
    assert config.about(name).endswith(".")
    texts = {
        "keys": "k.toml",
        "tls_cert": "c",
        "tls_key": "k",
        "redis": "redis://h",
        "webhook": "https://h",
        "journal": "folder",
        "target_rate": "0.1",
        "trusted_proxies": "10.0.0.0/8,192.0.2.1",
    }
    text = texts.get(name, str(config.default(name) or "7"))
    environ = {"ONLINEGUARD_" + name.upper(): text}
    for other in ("tls_cert", "tls_key", "tls_clients") if name.startswith("tls") else ():
        environ["ONLINEGUARD_" + other.upper()] = "x"
    if name == "replica_log":
        environ |= {"ONLINEGUARD_REPLICA_OF": "x", "ONLINEGUARD_REDIS": "redis://h"}
    if name.startswith("webhook"):
        environ["ONLINEGUARD_WEBHOOK"] = "https://h"
        environ.setdefault("ONLINEGUARD_WEBHOOK_SECRET" + "_FILE" * (name != "webhook_secret"), "7")
    loaded = load({}, environ)
    assert loaded.sources[name] == "environment ONLINEGUARD_" + name.upper()
    assert type(getattr(loaded.settings, name)) is not type(None)


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("port", "99999", "a whole number from 0 to 65535"),
        ("port", "http", "a whole number from 0 to 65535"),
        ("target_rate", "0.9", "a number from 1e-06 to 0.2"),
        ("target_rate", "nan", "a number from 1e-06 to 0.2"),
        ("patience", "inf", "a number of at least 1"),
        ("durability", "often", "one of async, group, sync"),
        ("log_level", "loud", "one of debug"),
        ("features", "a,,b", "names, separated by commas"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_the_rule_and_what_it_is_for(name, text, rule):
    flag, variable = "--" + name.replace("_", "-"), "ONLINEGUARD_" + name.upper()
    with pytest.raises(InvalidArgument, match=rule) as by_flag:
        load({name: text}, {})
    assert str(by_flag.value).startswith(f"{flag} is ")
    assert config.FIELDS[name].metadata["about"] in str(by_flag.value)
    with pytest.raises(InvalidArgument, match=rule) as by_environment:
        load({}, {variable: text})
    assert str(by_environment.value).startswith(f"{variable} is ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[serve]\nprot = 1\n", "serve.prot is unknown; did you mean port?"),
        ("[serve]\nzzzzzz = 1\n", "serve.zzzzzz is unknown; it must be one of host, port"),
        ("port = 1\n", "port is unknown; the settings stand in the table"),
        ("serve = 1\n", "serve must be a table"),
        ("[serve\n", "is no TOML"),
        ("[serve]\nport = true\n", "serve.port is True; it must be a whole number"),
        ("[serve]\nport = 1.0\n", "serve.port is 1.0; it must be a whole number"),
        ("[serve]\nhost = 3\n", "serve.host is 3; it must be text"),
        ("[serve]\nfeatures = [1]\n", "serve.features is"),
        ("[serve]\nstate = ''\n", "serve.state is ''; it must be a path"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path, text, told):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(InvalidArgument) as raised:
        load({}, {}, path)
    assert told in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="cannot be read: No such file"):
        load({}, {}, tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"tls_cert": Path("c")}, "tls_cert is c, but tls_key is not set"),
        ({"tls_key": Path("k")}, "tls_key is k, but tls_cert is not set"),
        ({"journal": "redis"}, "redis is not set"),
        ({"features": ("a", "b"), "n_features": 3}, "leave n_features out"),
        ({"features": ("a", "a")}, "each name may stand once"),
        ({"replica_log": "redis://h"}, "replica_of is not; name the snapshots"),
        ({"replica_of": "f", "redis": "redis://h"}, "redis is set, but replica_log is not"),
        ({"replica_of": "f", "model": Path("m")}, "model is m, but replica_of is set"),
        ({"port": "80"}, "it must be a whole number"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong, told):
    with pytest.raises(InvalidArgument, match=told):
        Settings(**wrong)


def test_what_is_shown_is_a_file_that_gives_the_same_settings(tmp_path, file):
    flags = {"model": 'a "quoted" \\ path\x7f', "patience": "1e4", "tls_cert": "c", "tls_key": "k"}
    loaded = load(flags, {"ONLINEGUARD_HOST": "::1"}, file)
    shown = tmp_path / "shown.toml"
    shown.write_text(show(loaded))
    again = load({}, {}, shown)
    assert again.settings == loaded.settings
    unset = {"redis", "registry", "keys", "tls_clients", "history_folder", "lookups", "replica_of", "replica_log"}
    unset |= {"webhook", "webhook_secret", "webhook_secret_file"}
    assert set(tomllib.loads(show(loaded))["serve"]) == set(config.FIELDS) - unset


def test_every_line_that_is_shown_says_where_its_value_comes_from(file):
    lines = show(load({"port": "5"}, {"ONLINEGUARD_PATIENCE": "9"}, file)).splitlines()
    assert "port = 5  # flag --port" in lines
    assert "patience = 9.0  # environment ONLINEGUARD_PATIENCE" in lines
    assert f'host = "h1"  # file {file}' in lines
    assert "body_limit = 4194304  # default" in lines
    assert "# keys is not set  # default" in lines


def test_a_password_is_never_shown():
    url = "redis://me:geheim@db:6379/0?password=geheim"
    loaded = load({"redis": url}, {})
    assert loaded.settings.redis == url
    assert "geheim" not in show(loaded) + repr(loaded)
    assert 'redis = "redis://***@db:6379/0?***"' in show(loaded)
    with pytest.raises(InvalidArgument) as raised:
        replace(loaded.settings, journal="redis", tls_cert=Path("c"))
    assert "geheim" not in str(raised.value)


def test_show_config_prints_and_leaves(file, monkeypatch):
    monkeypatch.setenv("ONLINEGUARD_BACKLOG", "77")
    result = CliRunner().invoke(cli.app, ["serve", "--config", str(file), "--port", "5", "--show-config"])
    assert result.exit_code == 0
    assert (
        tomllib.loads(result.stdout)["serve"] | {"port": 5, "host": "h1", "backlog": 77}
        == (tomllib.loads(result.stdout)["serve"])
    )


def test_a_wrong_flag_is_one_line_and_exit_code_2():
    result = CliRunner().invoke(cli.app, ["serve", "--port", "x"])
    assert result.exit_code == 2
    assert result.stderr == (
        "error: --port is 'x'; it must be a whole number from 0 to 65535. Port to listen on; 0 takes a free one.\n"
    )


def test_help_names_every_setting():
    result = CliRunner().invoke(cli.app, ["serve", "--help"], env={"COLUMNS": "300"})
    assert result.exit_code == 0
    for name in config.FIELDS:
        assert "--" + name.replace("_", "-") in result.stdout
        assert config.about(name) in result.stdout


@pytest.mark.slow
def test_the_command_line_needs_nothing_of_the_service_before_it_serves():
    hide = """
import sys
for name in ("starlette", "uvicorn", "httptools", "httpx2", "redis", "uvloop"):
    sys.modules[name] = None
from onlineguard.cli import app as cli
try:
    cli.main()
finally:  # so an error is told within a second, too
    assert "jax" not in sys.modules and "numpy" not in sys.modules
"""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ONLINEGUARD_")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", hide, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environ)

    assert "serve" in run("--help").stdout
    assert "port" in run("serve", "--show-config").stdout
    for command, needed in (("serve", "httptools, starlette, uvicorn"), ("worker", "httpx2, redis")):
        missing = run(command)
        assert missing.returncode == 2
        told = f"error: `onlineguard {command}` needs {needed}: pip install 'onlineguard[serve]'\n"
        assert missing.stderr == told
    wrong = run("serve", "--port", "99999")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: --port is 99999; it must be a whole number from 0 to 65535")
