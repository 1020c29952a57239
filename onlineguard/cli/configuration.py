"""A run whose options stand in a file: the table [run] of a TOML file, with the names that the flags have."""

import difflib
import tomllib
from pathlib import Path
from typing import Any

import typer

from onlineguard.cli.exits import one_line_errors

TABLE = "run"


def configured(context: typer.Context, path: Path | None) -> Path | None:
    """Take the options in the file for those that the command line leaves out. Called before they are read."""
    if path is not None:
        with one_line_errors():
            context.default_map = {**(context.default_map or {}), **_options(context, path)}
    return path


def _options(context: typer.Context, path: Path) -> dict[str, Any]:
    from onlineguard.errors import InvalidArgument

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get(TABLE)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgument("--config", f"is {path}, which cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise InvalidArgument("--config", f"is {path}, which has no table [{TABLE}]; begin it with that line")
    parameters = {
        _flag(parameter): parameter.name for parameter in context.command.params if parameter.name != "config"
    }
    found: dict[str, Any] = {}
    for name, value in table.items():
        flag = name.replace("_", "-")
        if flag not in parameters:
            near = difflib.get_close_matches(flag, parameters, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"they are {', '.join(parameters)}"
            raise InvalidArgument("--config", f"is {path}, whose {name!r} is no option of a run; {hint}")
        found[str(parameters[flag])] = ",".join(map(str, value)) if isinstance(value, list) else value
    return found


def _flag(parameter: Any) -> str:
    """The longest flag of an option without its dashes, or the name of an argument."""
    return max((opt.lstrip("-") for opt in parameter.opts), key=len)
