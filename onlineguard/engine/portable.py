"""Slices that leave an engine, enter another one, or go on with other features: all of it on what `Engine.dump` gives.

A dump is the configuration as plain values, and the states as arrays: rows of bits, float64 origins, the clock at which
each slice was last used, and what people said of its verdicts. None of that depends on the row that a slice has.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from onlineguard.engine.arguments import checked_categories, checked_features
from onlineguard.engine.keys import check_key
from onlineguard.engine.parts import FIRST_ROW, FRESH, TYPICAL
from onlineguard.engine.table import Layout
from onlineguard.errors import InvalidArgument
from onlineguard.models.base import SliceModel
from onlineguard.models.carrying import NEW, Columns, remaining
from onlineguard.models.categories import carried_with

AT_ONCE = 1_024  # rows that are unpacked together

Dump = tuple[dict[str, Any], dict[str, np.ndarray]]


def as_slice_keys(slices: Any) -> list[Hashable]:
    """The keys of some slices, each once; a string, an int or a tuple is the key of one."""
    several = [slices] if isinstance(slices, (str, int, np.integer, tuple)) else slices
    if not isinstance(several, Iterable):
        raise InvalidArgument("slices", f"is {slices!r}; it must be a list of keys, e.g. ['mobile', 'desktop']")
    return list(dict.fromkeys(check_key(key, i) for i, key in enumerate(several)))


def selected(dump: Dump, keys: Sequence[Hashable]) -> Dump:
    """The dump of an engine that has forgotten all slices but these. Raises KeyError for a slice that is not there."""
    config, tensors = dump
    place_of = {key: i for i, key in enumerate(config["slices"]["keys"])}
    at = np.array(sorted(place_of[key] for key in keys), np.int64)
    before, after = tensors["rows"][at], FIRST_ROW + np.arange(len(at))
    slices = config["slices"] | {
        "keys": [config["slices"]["keys"][i] for i in at.tolist()],
        "end": FIRST_ROW + len(at),
    }
    logs = np.zeros(len(tensors["table"]))
    logs[tensors.get("feedback_rows", [])] = tensors.get("feedback_logs", 0.0)
    said = np.flatnonzero(logs[before])
    feedback = {"feedback_rows": after[said], "feedback_logs": logs[before[said]]} if len(said) else {}
    rows = np.concatenate([np.arange(FIRST_ROW), before])
    return config | {"slices": slices}, {
        "rows": after,
        "last_used": tensors["last_used"][at],
        "numbers": tensors["numbers"][at],
        "free": np.zeros(0, np.int64),
        "table": tensors["table"][rows],
        "origins": tensors["origins"][rows],
        **feedback,
    }


def split(dump: Dump, by: Callable[[Any], Hashable]) -> Iterator[tuple[Hashable, Dump]]:
    """`selected` for each value that `by` gives of the keys, with that value."""
    groups: dict[Hashable, list[Hashable]] = {}
    for key in dump[0]["slices"]["keys"]:
        groups.setdefault(by(key), []).append(key)
    return ((name, selected(dump, keys)) for name, keys in groups.items())


def coming(dump: Dump, known: Collection[Hashable], both: str, max_slices: int) -> Dump:
    """What an engine that knows some slices takes in of another one's dump; see `Engine.add` for `both`."""
    theirs = dump[0]["slices"]["keys"]
    shared = {key for key in theirs if key in known}
    if shared and both == "refuse":
        name = next(key for key in theirs if key in shared)
        raise InvalidArgument(
            "other",
            f"has the slice {name!r}, which this engine has too; choose both='keep' or both='replace', or add only "
            "others with `select`",
        )
    if (needed := len(known) + len(theirs) - len(shared)) > max_slices:
        raise InvalidArgument(
            "other",
            f"would make it {needed:,} slices, and max_slices is {max_slices:,}; raise max_slices, or add fewer with "
            "`select`",
        )
    return selected(dump, [key for key in theirs if both == "replace" or key not in shared])


def check_alike(
    mine: SliceModel, theirs: SliceModel, my_features: Sequence[Any] | int, their_features: Sequence[Any] | int
) -> None:
    """Raises InvalidArgument unless slices of one engine can go on in the other."""
    if my_features != their_features:
        raise InvalidArgument(
            "other",
            f"has the features {their_features}, and this engine has {my_features}; they must be the same in the same "
            "order: bring one of them there with `with_features`",
        )
    # As text, which has the classes: to JAX the structures of two classes with like fields are equal.
    same = str(jax.tree.structure(mine)) == str(jax.tree.structure(theirs)) and all(
        np.array_equal(one, other) for one, other in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True)
    )
    if not same:
        raise InvalidArgument(
            "other",
            f"has the model {theirs!r}, and this engine has {mine!r}; they must be equal: target_rate and patience may "
            "be set on an engine, any other choice is for good",
        )


def with_features(
    dump: Dump, model: SliceModel, layout: Layout, features: Sequence[str] | int, categories: Sequence[str | int]
) -> tuple[SliceModel, Dump]:
    """The model and the dump of an engine whose events have other features from now on; see `Engine.with_features`."""
    config, known = dump[0], dump[0]["features"]
    columns = columns_of(features, known, config["n_features"])
    names = None if known is None else checked_features(features)  # type: ignore[arg-type]
    new = checked_categories(categories, len(columns), names)
    _check_categories(new, columns, model.categories, names)
    if columns == list(range(config["n_features"])):
        return model, dump
    stay = (j for j, column in enumerate(columns) if column in model.categories)
    carried, tensors = _carried(dump[1], model, layout, columns, tuple(sorted({*new, *stay})))
    return carried, (config | {"n_features": len(columns), "features": names}, tensors)


def columns_of(asked: Sequence[str] | int, known: Sequence[str] | None, n_features: int) -> list[int]:
    """For each feature that is asked for its number so far, or NEW."""
    if known is None:
        if isinstance(asked, bool) or not isinstance(asked, (int, np.integer)) or asked < 1:
            raise InvalidArgument(
                "features",
                f"is {asked!r}, but the engine's features have no names; give how many there are from now on, e.g. "
                f"{n_features + 1}: the first ones stay",
            )
        return [*range(min(int(asked), n_features)), *[NEW] * (int(asked) - n_features)]
    if isinstance(asked, (int, np.integer)):
        raise InvalidArgument(
            "features", f"is {asked!r}; it must be a list of names, since the engine's have some: {', '.join(known)}"
        )
    number = {name: i for i, name in enumerate(known)}
    columns = [number.get(name, NEW) for name in asked]
    if all(column == NEW for column in columns):
        raise InvalidArgument(
            "features",
            f"is {list(asked)!r}, none of which the engine has: {', '.join(known)}; nothing would be left of what it "
            "learned, so begin a new Engine",
        )
    return columns


def _check_categories(
    categories: Sequence[int], columns: Columns, before: Sequence[int], names: Sequence[str] | None
) -> None:
    """Raises InvalidArgument where a feature that was a number is to become a category."""
    for j in categories:
        if columns[j] != NEW and columns[j] not in before:
            raise InvalidArgument(
                "categories",
                f"names {j if names is None else names[j]!r}, which was a number so far and cannot become a category; "
                "give the category a name of its own",
            )


def _carried(
    tensors: dict[str, np.ndarray],
    model: SliceModel,
    layout: Layout,
    columns: Columns,
    categories: tuple[int, ...],
) -> tuple[SliceModel, dict[str, np.ndarray]]:
    """The model and the arrays of a dump for other features; raises InvalidArgument where the model cannot go on."""
    rows = np.concatenate([[FRESH, TYPICAL], np.sort(tensors["rows"])])
    after, before = remaining(columns)
    origins = np.zeros((len(tensors["origins"]), len(columns)))
    origins[:, after] = tensors["origins"][:, before]
    table, new = np.zeros((0, 0), np.int32), model
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        states = layout.unpack(tensors["table"][part].view(np.float32))
        new, states = carried_with(model, states, columns, categories)
        packed = np.ascontiguousarray(Layout.of(jax.tree.map(lambda leaf: leaf[0], states)).pack(states))
        if not len(table):
            table = np.zeros((len(tensors["table"]), packed.shape[1]), np.int32)
        table[part] = packed.view(np.int32)
    return new, tensors | {"table": table, "origins": origins}
