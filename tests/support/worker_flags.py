"""What `onlineguard worker` is told by a manifest: its flags and its environment, read as it reads them."""

import os
from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

import typer

from onlineguard.cli import app


def told(words: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """The parameters that are given. Fails for a flag that there is none of."""
    name, *flags = words
    command: Any = typer.main.get_command(app.app)
    with patch.dict(os.environ, environment, clear=True):
        params = command.commands[name].make_context(name, flags).params
    return {name: value for name, value in params.items() if value is not None}
