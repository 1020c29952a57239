"""How a command ends when it cannot go on: one line that names the flag, and an exit code."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

import typer

EXIT_ERROR, EXIT_REJECTED, EXIT_CONFLICT, EXIT_INTERRUPTED = 2, 3, 4, 130
_ALIKE = (  # whose flag is the name of the argument
    *("state", "out", "report", "rejects", "slice", "patience", "pause", "lags", "keep", "follow"),
    *("delimiter", "decimal", "encoding", "time_format", "time_zone"),
    *("clicks", "days", "start", "robots", "seed", "label_outage"),
    *("kind", "budget", "method", "confidence", "model", "json", "min_coverage", "cap", "rfm_at_least"),
    *("why", "registry", "calibrate_days", "measure_days", "workers", "parts"),
)
# The flag of each argument that the library names in an error.
FLAGS = {name: f"--{name.replace('_', '-')}" for name in _ALIKE} | {
    "target_rate": "--rate",
    "feature_columns": "--feature",
    "slice_columns": "--slice",
    "slices": "--slice",
    "category_columns": "--category",
}


@contextmanager
def one_line_errors() -> Generator[None]:
    """Errors that have a reason become one line and exit code 2, Ctrl-C exit code 130."""
    from onlineguard.errors import InvalidArgument, OnlineguardError

    try:
        yield
    except InvalidArgument as error:
        flag = FLAGS.get(error.argument or "")
        print_error(error if flag is None else InvalidArgument(flag, error.problem))
        raise typer.Exit(EXIT_ERROR) from None
    except OnlineguardError as error:
        print_error(error)
        raise typer.Exit(EXIT_ERROR) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def clean(text: str) -> str:
    """Without what a terminal would obey: a slice's name comes from the data."""
    return "".join(
        character if character.isprintable() else " " if character in "\u00a0\u2009\u202f" else "\ufffd"
        for character in text
    )


def print_error(error: Exception) -> None:
    """One line on standard error."""
    print("error:", clean(" ".join(str(error).split())), file=sys.stderr)
