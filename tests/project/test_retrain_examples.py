"""The examples of a daily retraining: schedulers read them, and the commands in them are those that there are."""

import configparser
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from onlineguard.cli.app import app

EXAMPLES = Path(__file__).parents[2] / "examples" / "retrain"


def loaded(name):
    """The module of an example."""
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def options():
    """Those of `slidr retrain` and of `slidr lookups build`."""
    from typer.main import get_command

    commands = get_command(app).commands["slidr"].commands
    chosen = (commands["retrain"], commands["lookups"].commands["build"])
    return {name for command in chosen for parameter in command.params for name in parameter.opts}


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_every_option_in_an_example_is_one_of_the_command(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".timer":
        assert "slidr retrain" in text or '"slidr", "retrain"' in text
        assert "lookups build" in text or '"lookups", "build"' in text
    found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    assert found <= options()


def test_the_unit_and_its_timer_are_read_as_systemd_reads_them():
    for name, sections in (("service", ["Unit", "Service"]), ("timer", ["Unit", "Timer", "Install"])):
        parser = configparser.ConfigParser(strict=True)
        parser.optionxform = str
        parser.read(EXAMPLES / f"onlineguard-retrain.{name}")
        assert parser.sections() == sections
        if name == "service":
            assert shlex.split(parser["Service"]["ExecStartPre"])[1:5] == ["onlineguard", "slidr", "lookups", "build"]
            assert shlex.split(parser["Service"]["ExecStart"])[1:4] == ["onlineguard", "slidr", "retrain"]


def test_the_airflow_file_makes_a_dag():
    pytest.importorskip("airflow", reason="Airflow is not installed here; it takes a hundred packages")
    dag = loaded("airflow_dag").dag
    assert [task.task_id for task in dag.tasks] == ["lookups", "retrain"]
    assert dag.max_active_runs == 1


def test_the_dagster_file_makes_a_job_with_a_schedule():
    pytest.importorskip("dagster", reason="Dagster is not installed here; it takes forty packages")
    module = loaded("dagster_job")
    assert module.definitions.resolve_job_def("retrain").name == "retrain"
