"""The exceptions that onlineguard raises on purpose.

OnlineguardError(Exception)                 catch this one to catch them all
├── InvalidArgument(…, ValueError)          the call is wrong: change what `argument` names
├── InfeasibleBudget(…, ValueError)         the demands on thresholds contradict each other: lower one of them
├── CheckpointError                         the saved state is wrong: use another file
├── Conflict                                somebody else changed the registry meanwhile: look again
├── MissingExtra(…, ImportError)            an optional part was not installed: install the extra that is named
├── SourceError                             the event source is wrong: mend or name another source
└── ServiceError                            the service refused a request, or failed at it: mend what `detail` names
    ├── ServiceUnavailable                  it could not be reached, is not ready, or is too busy: try again later
    └── PartlyAnswered                      some of several services failed: see what `failures` says of each
"""

from collections.abc import Mapping, Sequence
from typing import Any, overload


class OnlineguardError(Exception):
    """Base of every exception below."""


class InvalidArgument(OnlineguardError, ValueError):
    """A caller's mistake. The message names the argument, its value, the rule and the way out.

    argument: what the mistake is in, as the caller wrote it, e.g. "batch" or "events[3].x"; None if no single argument
        is wrong.
    problem: the message without the argument, for callers who know it by another name, such as a flag.

    >>> error = InvalidArgument("batch", "is 0; it must be at least 1, e.g. 1000 events a request")
    >>> str(error), error.argument
    ('batch is 0; it must be at least 1, e.g. 1000 events a request', 'batch')
    """

    argument: str | None
    problem: str

    @overload
    def __init__(self, message: str, /) -> None: ...
    @overload
    def __init__(self, argument: str, problem: str, /) -> None: ...
    def __init__(self, *parts: str):
        super().__init__(*parts)  # an exception is pickled by its args alone
        self.argument, self.problem = parts if len(parts) == 2 else (None, " ".join(parts))

    def __str__(self) -> str:
        return " ".join(self.args)


class InfeasibleBudget(OnlineguardError, ValueError):
    """No thresholds meet the demands within the false-positive budget. The message names each slice and its demand.

    asks: the false-positive rate that each slice, or pool of slices, needs to meet its own demand.
    least: the smallest budget that meets all demands.
    """

    def __init__(self, message: str, asks: dict[str, float], least: float):
        super().__init__(message)
        self.asks, self.least = asks, least

    def __reduce__(self) -> tuple[type["InfeasibleBudget"], tuple[str, dict[str, float], float]]:
        return type(self), (str(self), self.asks, self.least)  # an exception is pickled by its args alone


class CheckpointError(OnlineguardError):
    """A checkpoint that is truncated, foreign or newer than this version. Nothing was changed by trying to load it."""


class Conflict(OnlineguardError):
    """A change of a registry that another one forestalled. Nothing was changed; the message says who changed what."""


class MissingExtra(OnlineguardError, ImportError):
    """Packages of an optional part that are not installed. The message names them and the extra that brings them."""

    def __init__(self, part: str, packages: Sequence[str], extra: str):
        super().__init__(f"{part} needs {', '.join(packages)}: pip install 'onlineguard[{extra}]'")
        self.part, self.packages, self.extra = part, packages, extra

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, Sequence[str], str]]:
        return type(self), (self.part, self.packages, self.extra)


class SourceError(OnlineguardError):
    """An event source that cannot be read at all: it is missing or empty, is no table, or lacks a named column."""


class ServiceError(OnlineguardError):
    """`onlineguard.client` raises this when the service refused a request or did not answer it.

    title, detail: the service's own words: the kind of problem, and the field of the event that caused it.
    status: the HTTP status; None if there was no answer at all.
    answers: when many events were given, the answers to those sent in earlier requests. They are done;
        `events[len(error.answers):]` are left to send.
    """

    def __init__(self, title: str, detail: str, status: int | None = None, answers: Sequence[Any] = ()):
        super().__init__(f"{title}: {detail}" if status is None else f"{status} {title}: {detail}")
        self.title, self.detail, self.status, self.answers = title, detail, status, list(answers)

    def __reduce__(self) -> tuple[type["ServiceError"], tuple[str, str, int | None, list[Any]]]:
        return type(self), (self.title, self.detail, self.status, self.answers)


class PartlyAnswered(ServiceError):
    """A router of `onlineguard.client` raises this when some of the services that it asked failed.

    answers: one for each item, in order; None where the item's owner gave none. What was answered is done.
    failures: why, by the URL of the service.
    """

    def __init__(self, answers: Sequence[Any], failures: Mapping[str, ServiceError]):
        missing = sum(answer is None for answer in answers)
        reasons = "; ".join(f"{url}: {error}" for url, error in failures.items())
        super().__init__("Partly answered", f"{missing} of {len(answers)} have no answer. {reasons}", None, answers)
        self.failures = dict(failures)

    def __reduce__(self) -> Any:
        return type(self), (self.answers, self.failures)


class ServiceUnavailable(ServiceError):
    """The service cannot be reached, is not ready, or refuses more for now. The same call may succeed later."""
