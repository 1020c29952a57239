"""Options that several commands share: the fields of one dataclass become options of each."""

import dataclasses
from typing import Annotated

import typer
from typer.testing import CliRunner

from onlineguard.cli.app import app
from onlineguard.cli.options import with_options
from onlineguard.cli.written import Written


@dataclasses.dataclass(frozen=True)
class Wrapping:
    """How a parcel is wrapped."""

    paper: Annotated[str | None, typer.Option(metavar="COLOUR", help="Of the paper.")] = None
    ribbon: Annotated[bool, typer.Option("--ribbon", help="With a ribbon.")] = False


def called(*arguments: str) -> dict[str, object]:
    """What a command with shared options was called with."""
    found: dict[str, object] = {}

    @with_options
    def parcel(name: str, wrapping: Wrapping, *, times: int = 1) -> None:
        """Wrap a parcel."""
        found.update(name=name, wrapping=wrapping, times=times)

    single = typer.Typer()
    single.command()(parcel)
    result = CliRunner().invoke(single, arguments)
    return found | {"status": result.exit_code, "output": result.output}


def test_a_command_gets_the_dataclass_that_its_options_fill():
    found = called("book", "--ribbon", "--paper", "red", "--times", "2")
    assert found["wrapping"] == Wrapping("red", True)
    assert (found["name"], found["times"]) == ("book", 2)
    assert called("book")["wrapping"] == Wrapping()


def test_shared_options_are_shown_where_the_parameter_stands_and_checked_as_others_are():
    shown = called("--help")["output"]
    assert shown.index("--paper") < shown.index("--ribbon") < shown.index("--times")
    assert "Wrap a parcel." in shown
    assert called("book", "--papier", "red")["status"] == 2


def test_how_a_file_is_written_comes_back_as_the_flags_that_said_it():
    how = Written(delimiter=";", decimal=",", time_zone="Europe/Berlin", na="x, y", header=False)
    said = ["--delimiter", ";", "--decimal", ",", "--time-zone", "Europe/Berlin", "--na", "x, y", "--no-header"]
    assert how.flags() == said
    assert how.choices().missing == ("x", "y")
    assert Written().flags() == []


def test_square_brackets_of_a_help_text_are_shown():
    shown = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "160"}).output
    assert "table [run] has options" in " ".join(shown.split())
