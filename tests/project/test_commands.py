"""Every command of `onlineguard` that a page shows exists, and has the options that the page gives it."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from onlineguard.cli.app import app

ROOT = Path(__file__).parents[2]
COMMAND = typer.main.get_command(app)
UNNAMED = {"history": "show"}  # a group that takes a folder in place of a command: what it then does


def shown():
    """The command lines of the pages, each as its words after `onlineguard`."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
        lines += re.findall(r"`(onlineguard [a-z][^`…]*--[^`…]*)`", text)  # in the text, if it gives options
        for line in lines:
            for part in re.split(r"\s[|&>]+\s", line.removeprefix("$ ")):
                words = shlex.split(part, comments=True)
                while words and "=" in words[0]:  # variables of the environment
                    del words[0]
                if words[:1] == ["onlineguard"]:
                    yield pytest.param(words[1:], id=f"{page.name}: {line[:60]}")


SHOWN = list(shown())


@pytest.mark.parametrize("words", SHOWN)
def test_a_command_of_a_page_exists_and_has_these_options(words):
    command = COMMAND
    while hasattr(command, "commands"):
        if words[0] not in command.commands and command.name in UNNAMED:
            words = [UNNAMED[command.name], *words]
        assert words[0] in command.commands, f"no command {words[0]} among {sorted(command.commands)}"
        command, words = command.commands[words[0]], words[1:]
    known = {name for option in command.params for name in [*option.opts, *option.secondary_opts]} | {"--help"}
    given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert given <= known


def test_pages_show_commands():
    assert len(SHOWN) > 25
