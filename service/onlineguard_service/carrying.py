"""Other features for a state that goes on: what its slices learned of those that remain goes along.

It is an entry of the journal, `entries.Features`, which a service writes when it starts with other_features = carry. So
a replay and a standby do it at the same place, and everything else of the state stays as it is.
"""

from typing import Any

from onlineguard.engine.engine import Engine
from onlineguard.engine.portable import columns_of
from onlineguard.errors import InvalidArgument
from onlineguard.models.carrying import Columns
from onlineguard_service.entries import Options


def asked_features(options: Options) -> list[str] | int:
    """The names of the features, or how many there are; raises InvalidArgument where the options say neither."""
    asked = list(options.features) or options.n_features
    if not asked:
        raise InvalidArgument(
            "features", "is not set, and neither is n_features; a state that goes on with others needs one of them"
        )
    return asked


def columns_for(engine: Engine, options: Options) -> Columns:
    """For each feature that is asked for its number in the engine so far, or NEW."""
    return columns_of(asked_features(options), engine.features, engine.n_features)


def check(engine: Engine | None, options: Options) -> None:
    """Raises InvalidArgument where the engine cannot go on with the features that are asked for."""
    if engine is not None:
        engine = Engine(engine.n_features, features=engine.features, estimator=engine.model)  # without its slices
    carried_engine(engine, options)


def carried_engine(engine: Engine | None, options: Options) -> Engine | None:
    """The engine, with the features that are asked for; None where no event came yet. See `Engine.with_features`.

    Raises InvalidArgument where it cannot go on with them.
    """
    asked = asked_features(options)
    if engine is None:
        return None
    categories: list[Any] = list(options.categories)
    if engine.features is None:
        categories = [int(name) if name.isdecimal() else name for name in categories]
    return engine.with_features(asked, categories=categories)
