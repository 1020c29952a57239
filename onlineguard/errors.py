"""The exceptions that onlineguard raises on purpose.

OnlineguardError(Exception)                 catch this one to catch them all
├── InvalidArgument(…, ValueError)          the call is wrong: change the argument
├── InfeasibleBudget(…, ValueError)         the demands on thresholds contradict each other: lower one of them
├── CheckpointError                         the saved state is wrong: use another file
└── SourceError                             the event source is wrong: mend or name another source
"""


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


class SourceError(OnlineguardError):
    """An event source that cannot be read at all: missing, empty, not a table, or without a named column."""
