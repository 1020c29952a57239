"""The features of an engine's events: how many there are, what they are called, and what is read and told by them."""

from collections.abc import Hashable, Sequence
from typing import Any

import jax
import numpy as np

from onlineguard.engine.columns import as_columns, names_at_hand
from onlineguard.engine.events import CodedEvents, as_event, as_events, events_there, texts_among
from onlineguard.errors import InvalidArgument


class Features:
    """`n` features, and their names, None if they have none."""

    __slots__ = ("n", "names")

    def __init__(self, n: int, names: list[str] | None):
        self.n, self.names = n, names

    @property
    def labels(self) -> Sequence[Hashable]:
        """The features by name, or counted from 0."""
        return self.names or range(self.n)

    def read(self, X: Any, categories: tuple[int, ...], growing: bool) -> tuple[np.ndarray, tuple[int, ...]]:
        """X as numbers, see `as_events`, and which features are categories.

        growing: whether features that hold texts become categories. Otherwise they raise InvalidArgument.
        """
        columns = as_columns(X)
        held = X if columns is None else columns  # a reader can be read once
        try:
            return as_events(held, self.n, self.names, categories), categories
        except InvalidArgument:
            if not growing:
                raise
            more = tuple(sorted({*categories, *texts_among(held, self.n, self.names)}))
            if len(more) == len(categories):
                raise
            return as_events(held, self.n, self.names, more), more

    def one(self, x: Any) -> Any:
        """One event in the form of several, for `read`; see `as_event`."""
        return x if isinstance(x, CodedEvents) else as_event(x, self.n, self.names)

    def there(self, X: Any) -> jax.Array | None:
        """X where it is, if it is on an accelerator; see `events_there`."""
        return events_there(X, self.n)

    def check_key(self, slices: Any, X: Any) -> None:
        """Raises InvalidArgument for one key that is the name of a column of X, and of no feature."""
        if isinstance(slices, str) and slices in names_at_hand(X) and slices not in (self.names or ()):
            raise InvalidArgument(
                "slices",
                f"is {slices!r}, a column of X; give X[{slices!r}] for a slice for each of its values, or "
                f"[{slices!r}] * len(X) for one slice of this name",
            )

    def told(self, value: Any, width: int) -> Any:
        """What a model says, for a reader: arrays with a number a feature, or `width` numbers, become dicts."""
        if isinstance(value, dict):
            return {name: self.told(item, width) for name, item in value.items()}
        if np.shape(value) in ((width,), (self.n,)):
            return dict(zip(self.labels, np.asarray(value)[: self.n].tolist(), strict=True))
        return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value

    def __repr__(self) -> str:
        return f"features={self.names}" if self.names else f"n_features={self.n}"
