"""Tables that every reader opens, the rows that they give, and the columns that are wanted of them."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np
import polars as pl
from jaxtyping import Int

from onlineguard.errors import SourceError
from onlineguard.sources.numerals import Numerals
from onlineguard.sources.rejects import Reject

HEAD_ROWS = 1_000  # of a table, by which the kinds of its columns are told


@dataclass
class FieldRows:
    """Rows of one block, by column, unconverted: text or JSON values, or what Parquet holds."""

    columns: Mapping[str, pl.Series | list[Any]]
    line_numbers: Int[np.ndarray, " n"]
    text: Callable[[int], str | bytes]  # row i as it stands in the source
    rejects: list[Reject]


class Table(Protocol):
    """A file whose head has been read."""

    names: list[str]  # of its columns, in order
    numerals: Numerals  # how numbers are written in its texts

    @property
    def sample(self) -> Mapping[str, pl.Series]:
        """The first cells of every column: as text, or as what Parquet holds."""
        ...

    def describe(self) -> str:
        """How it is read, in a few words."""
        ...

    def rows(self, columns: "Columns") -> Iterator[FieldRows]:
        """The rows, a block at a time."""
        ...


@dataclass(frozen=True)
class Columns:
    """The columns that are wanted from a source, and the role of each."""

    source: str  # its name, for messages
    slices: list[str]
    features: list[str] | None  # with patterns such as load*, until `resolved`; None: every column with numbers
    time: str | None
    label: str | None
    categories: list[str]  # those of the features that are categories, whatever they hold
    kept: Sequence[str] = ()  # carried along as they are; patterns, too

    @property
    def roles(self) -> list[tuple[str, str]]:
        """Role and name of every column; a column may have several roles."""
        named = [("slice", c) for c in self.slices] + [("feature", c) for c in self.features or ()]
        named += [(role, c) for role, c in (("time", self.time), ("label", self.label)) if c is not None]
        return named + [("kept", column) for column in self.kept]

    @property
    def asked(self) -> set[str]:
        """The names that are no patterns."""
        return {name for _, name in self.roles if not _is_pattern(name)}

    def resolved(self, present: Sequence[str], numbers: Callable[[], Sequence[str]]) -> "Columns":
        """The same with names in place of patterns. `numbers`: the columns that hold numbers, looked for when needed.

        Raises SourceError where a pattern fits no column, or no column holds numbers.
        """
        taken = {*self.slices, *(c for c in (self.time, self.label) if c is not None)}
        if self.features is None:
            features = [c for c in numbers() if c not in taken]
            if not features:
                raise SourceError(
                    f"no column of {self.source} holds numbers: its columns are {_listed(present)}; name features "
                    "(--feature), or say how it is written (--delimiter, --decimal, --no-header)"
                )
        else:
            features = self._expanded("feature", self.features, present, taken)
        kept = self._expanded("kept", self.kept, present, set())
        return replace(self, features=features + [c for c in self.categories if c not in features], kept=kept)

    def found_in(self, present: list[str], written: str = "") -> list[str]:
        """The names of the columns, each once; raises SourceError unless each is there exactly once.

        written: how the source is read, for the message.
        """
        for role, column in self.roles:
            if column not in present:
                near = difflib.get_close_matches(column, present, 1, 0.5)
                hint = f"did you mean {near[0]!r}?" if near else "name one of these"
                raise SourceError(
                    f"{role} column {column!r} is not in {self.source}, whose columns are {_listed(present)}; "
                    f"{hint}{written}"
                )
            if present.count(column) > 1:
                raise SourceError(f"{role} column {column!r} is in {self.source} twice; rename one of the two")
        return list(dict.fromkeys(column for _, column in self.roles))

    def _expanded(self, role: str, names: Sequence[str], present: Sequence[str], taken: set[str]) -> list[str]:
        found: list[str] = []
        for name in names:
            if name in present or not _is_pattern(name):
                found.append(name)
                continue
            fitting = [c for c in present if fnmatchcase(c, name) and c not in taken]
            if not fitting:
                raise SourceError(f"{role} pattern {name!r} fits no column of {self.source}: {_listed(present)}")
            found += fitting
        return list(dict.fromkeys(found))


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")
