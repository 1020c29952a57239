"""Names under which models are saved, so that a file holds names and numbers and never a pickle.

    @register("running-range")
    @pytree
    class RunningRange(SliceModel): ...

A registered pytree is written as a JSON object: its name as "kind", then its fields. Fields may be numbers, texts,
arrays, tuples, and registered pytrees again, so a whole `Chain` of estimators is written by the same two functions.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np

from onlineguard.errors import CheckpointError, InvalidArgument

OWN = ("onlineguard.core", "onlineguard.models")  # the packages whose modules register models when they are imported

RETIRED = {  # names of models that are gone, and what came after them
    "Series": "a Series that forecast by regression and held its alarms. It learned nothing that today's Series could "
    "go on from: start with a new file",
    "Series 2": "a Series that learned neither how still a series is nor which jumps it makes by itself. Today's "
    "Series needs both from the first event on: start with a new file",
}

_classes: dict[str, type] = {}
_names: dict[type, str] = {}


def register[T](name: str) -> Callable[[type[T]], type[T]]:
    """Give a pytree class the name by which checkpoints know it.

    Raises InvalidArgument if another class has the name already. A class of the same module and qualified name takes
    the place of the earlier one, as happens when a notebook's cell is run again.
    """

    def named(cls: type[T]) -> type[T]:
        known = _classes.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise InvalidArgument(
                f"name is {name!r}, which {known.__module__}.{known.__qualname__} has already; choose another"
            )
        _classes[name], _names[cls] = cls, name
        return cls

    return named


def as_plain(value: Any) -> Any:
    """The value as JSON can hold it. Raises CheckpointError for a class that has no name."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (tuple, list)):
        return [as_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    name = _names.get(type(value))
    if name is not None:
        fields = {field.name: as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": name, **fields}
    if hasattr(value, "__array__") and hasattr(value, "dtype"):
        array = np.asarray(value)
        return {"array": array.tolist(), "dtype": array.dtype.name}
    kind = type(value).__name__
    raise CheckpointError(
        f'a model of {kind} cannot be saved, since {kind} has no name; put @register("...") above its class'
    )


def from_plain(value: Any) -> Any:
    """What `as_plain` was given; lists come back as tuples.

    Raises CheckpointError for a name that nothing is registered under.
    """
    if isinstance(value, list):
        return tuple(from_plain(item) for item in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.array(value["array"], value["dtype"])
    fields = {name: from_plain(field) for name, field in value.items() if name != "kind"}
    return _class_of(value["kind"])(**fields)


def _class_of(name: str) -> type:
    if name in RETIRED:
        raise CheckpointError(f"it holds {RETIRED[name]}")
    if name not in _classes:
        _import_own()
    if name not in _classes:
        raise CheckpointError(
            f"it holds a model that was registered as {name!r}, and nothing is registered under that name here; "
            "import the module that registers it first"
        )
    return _classes[name]


def _import_own() -> None:
    """Import every module that registers something of the library's own."""
    for package in OWN:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            importlib.import_module(f"{package}.{module.name}")
