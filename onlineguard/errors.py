"""The exceptions that onlineguard raises on purpose.

OnlineguardError(Exception)                 catch this one to catch them all
├── InvalidArgument(…, ValueError)          the call is wrong: change the argument
├── CheckpointError                         the saved state is wrong: use another file
└── SourceError                             the event source is wrong: mend or name another source
"""


class OnlineguardError(Exception):
    """Base of every exception below."""


class InvalidArgument(OnlineguardError, ValueError):
    """A caller's mistake. The message names the argument, its value, the rule and the way out."""


class CheckpointError(OnlineguardError):
    """A checkpoint that is truncated, foreign or newer than this version. Nothing was changed by trying to load it."""


class SourceError(OnlineguardError):
    """An event source that cannot be read at all: missing, empty, not a table, or without a named column."""
