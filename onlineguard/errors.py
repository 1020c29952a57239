"""The exceptions that onlineguard raises on purpose.

OnlineguardError(Exception)                 catch this one to catch them all
├── InvalidArgument(…, ValueError)          the call is wrong: change the argument
├── InfeasibleBudget(…, ValueError)         the demands on thresholds contradict each other: lower one of them
├── CheckpointError                         the saved state is wrong: use another file
├── MissingExtra(…, ImportError)            an optional part was not installed: install the extra that is named
├── SourceError                             the event source is wrong: mend or name another source
└── ServiceError                            the service refused a request, or failed at it: mend what `detail` names
    └── ServiceUnavailable                  it could not be reached, is not ready, or is too busy: try again later
"""

from collections.abc import Sequence
from typing import Any


class OnlineguardError(Exception):
    """Base of every exception below."""


class InvalidArgument(OnlineguardError, ValueError):
    """A caller's mistake. The message names the argument, its value, the rule and the way out."""


class InfeasibleBudget(OnlineguardError, ValueError):
    """No thresholds meet the demands within the false-positive budget. The message names the slices and what they ask.

    asks: the false-positive rate that each of the slices (or pools of slices) needs by itself.
    least: the smallest budget under which all demands can be met.
    """

    def __init__(self, message: str, asks: dict[str, float], least: float):
        super().__init__(message)
        self.asks, self.least = asks, least

    def __reduce__(self) -> tuple[type["InfeasibleBudget"], tuple[str, dict[str, float], float]]:
        return type(self), (str(self), self.asks, self.least)  # an exception is pickled by its args alone


class CheckpointError(OnlineguardError):
    """A checkpoint that is truncated, foreign or newer than this version. Nothing was changed by trying to load it."""


class MissingExtra(OnlineguardError, ImportError):
    """Packages of an optional part that are not installed. The message names them and the extra that brings them."""

    def __init__(self, part: str, packages: Sequence[str], extra: str):
        super().__init__(f"{part} needs {', '.join(packages)}: pip install 'onlineguard[{extra}]'")
        self.part, self.packages, self.extra = part, packages, extra

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, Sequence[str], str]]:
        return type(self), (self.part, self.packages, self.extra)


class SourceError(OnlineguardError):
    """An event source that cannot be read at all: missing, empty, not a table, or without a named column."""


class ServiceError(OnlineguardError):
    """What `onlineguard.client` raises when the service did not answer a request.

    title, detail: what is wrong, in short, and which field of which event it is, as the service says it.
    status: the HTTP status; None if there was no answer at all.
    answers: the answers to the events before the refused request, when many events were given: those are done, and
        `events[len(error.answers):]` is what is left.
    """

    def __init__(self, title: str, detail: str, status: int | None = None, answers: Sequence[Any] = ()):
        super().__init__(f"{title}: {detail}" if status is None else f"{status} {title}: {detail}")
        self.title, self.detail, self.status, self.answers = title, detail, status, list(answers)

    def __reduce__(self) -> tuple[type["ServiceError"], tuple[str, str, int | None, list[Any]]]:
        return type(self), (self.title, self.detail, self.status, self.answers)


class ServiceUnavailable(ServiceError):
    """The service cannot be reached, is not ready, or refuses more for now. The same call may succeed later."""
