import inspect
import subprocess
import sys
import types
from dataclasses import dataclass, fields
from typing import Any

import pytest
from onlineguard_service.commands import worker
from onlineguard_service.redis.worker import WorkerSettings
from onlineguard_service.shards.running import ShardSettings
from typer.testing import CliRunner

from onlineguard.cli import app as cli
from onlineguard.errors import InvalidArgument


@pytest.fixture
def worked(monkeypatch) -> list[Any]:
    """The settings that a worker was started with, in a module that stands for onlineguard_service.redis.worker."""

    @dataclass
    class WorkerSettings:
        redis: str = "r"
        url: str | None = None
        stream: str = "s"
        output: str = "o"
        dead: str = "d"
        group: str = "g"
        consumer: str | None = None
        batch: int = 64
        claim_after: float = 60.0
        deliveries: int = 10
        keep: int = 5
        timeout: float = 10.0

        def __post_init__(self) -> None:
            if self.batch > 1_000:
                raise InvalidArgument("batch", f"is {self.batch}; it must be at most 1000")

    found: list[Any] = []
    module: Any = types.ModuleType("onlineguard_service.redis.worker")
    module.WorkerSettings = WorkerSettings
    module.run = lambda settings: found.append(settings) or "answered 3"
    monkeypatch.setitem(sys.modules, "onlineguard_service.redis.worker", module)
    monkeypatch.setattr("onlineguard_service.logs.configure", lambda level: None)
    return found


def test_a_worker_is_given_what_was_said_and_its_own_defaults_for_the_rest(worked):
    result = CliRunner().invoke(cli.app, ["worker", "--out", "answers", "--batch", "8", "--claim-after", "1.5"])
    assert (result.exit_code, result.stdout) == (0, "answered 3\n")
    (settings,) = worked
    assert (settings.output, settings.batch, settings.claim_after, settings.stream) == ("answers", 8, 1.5, "s")


def test_a_worker_that_cannot_work_is_one_line_and_2(worked):
    result = CliRunner().invoke(cli.app, ["worker", "--batch", "5000"])
    assert (result.exit_code, result.stderr) == (2, "error: --batch is 5000; it must be at most 1000\n")
    assert worked == []


def test_both_commands_stand_in_the_help():
    shown = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "200"}).stdout
    assert "serve" in shown
    assert "worker" in shown


LOADED = """
import sys
import onlineguard_service.http.server, onlineguard_service.core
print(*sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv)))
"""
UNUSED = ("fsspec", "httpx2", "optax", "opentelemetry", "pandas", "redis", "river", "scipy", "sklearn")


@pytest.mark.slow
def test_a_service_imports_nothing_that_it_may_not_need():
    command = [sys.executable, "-c", LOADED, "polars", *UNUSED]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == "polars\n"


def test_a_worker_takes_the_flags_of_one_kind_and_names_the_other(tmp_path):
    runner = CliRunner()
    for flags, said in (
        (["--from", "redis://db"], "--snapshots is not given"),
        (
            ["--from", "redis://db", "--snapshots", "s", "--url", "http://x"],
            "--url is for a worker that asks a service",
        ),
        (["--snapshots", "s"], "--snapshots is for a worker of shards"),
        (["--from", "redis://db", "--snapshots", "s", "--most", "0"], "--most is 0; it must be more than 0"),
        (["--from", "nothing", "--snapshots", str(tmp_path)], "is no log; name one as kafka://"),
    ):
        result = runner.invoke(cli.app, ["worker", *flags])
        assert result.exit_code == 2
        assert said in " ".join(result.output.split())


def test_what_a_key_may_is_no_flag_of_a_start():
    for flag in ("--scope", "--namespace"):
        result = CliRunner().invoke(cli.app, ["serve", flag, "score"])
        assert result.exit_code == 2
        assert result.stderr == f"error: {flag} is for a key that --new-key makes; give both, or leave it out\n"


def test_the_help_of_a_worker_names_the_defaults_that_it_has():
    flags = inspect.signature(worker).parameters
    chosen = {
        each.name: each.default
        for kind in (ShardSettings, WorkerSettings)
        for each in fields(kind)
        if isinstance(each.default, str | int | float)
    }
    assert len(chosen) > 10
    for name, default in chosen.items():
        shown = default if isinstance(default, str) else f"{default:,.0f}"
        assert f"lse {shown}." in flags[name].annotation.__metadata__[0].help
