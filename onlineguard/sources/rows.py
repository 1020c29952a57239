"""The rows that every reader returns, and the columns that it is asked for."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int

from onlineguard.errors import SourceError
from onlineguard.sources.rejects import Reject


@dataclass
class FieldRows:
    """Rows of one block, by column, unconverted: text or JSON values, or what Parquet holds."""

    columns: Mapping[str, pl.Series | list[Any]]
    line_numbers: Int[np.ndarray, " n"]
    text: Callable[[int], str | bytes]  # row i as it stands in the source
    rejects: list[Reject]


@dataclass(frozen=True)
class Columns:
    """The columns that are wanted from a source, and the role of each."""

    source: str  # its name, for messages
    slices: list[str]
    features: list[str]
    time: str | None
    label: str | None
    categories: list[str]  # those of the features that are categories, whatever they hold

    @property
    def roles(self) -> list[tuple[str, str]]:
        """Role and name of every column; a column may have several roles."""
        named = [("slice", column) for column in self.slices] + [("feature", column) for column in self.features]
        return named + [(role, c) for role, c in (("time", self.time), ("label", self.label)) if c is not None]

    def found_in(self, present: list[str]) -> list[str]:
        """The names of the columns, each once; raises SourceError unless each is there exactly once."""
        for role, column in self.roles:
            if column not in present:
                near = difflib.get_close_matches(column, present, 1, 0.5)
                hint = f"did you mean {near[0]!r}?" if near else "name one of these"
                listed = ", ".join(present[:20]) + (f" and {len(present) - 20:,} more" if len(present) > 20 else "")
                raise SourceError(
                    f"{role} column {column!r} is not in {self.source}, whose columns are {listed}; {hint}"
                )
            if present.count(column) > 1:
                raise SourceError(f"{role} column {column!r} is in {self.source} twice; rename one of the two")
        return list(dict.fromkeys(column for _, column in self.roles))
