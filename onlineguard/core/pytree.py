"""`@pytree`: a frozen dataclass that JAX sees into.

Fields are leaves (or further pytrees): they may be traced, stacked and changed without recompiling. A field made with
`static()` is part of the structure instead: it must be hashable, and another value means another compilation.
Constructors check nothing, since JAX also calls them with placeholders; shells check what a caller gives.
"""

import dataclasses
from typing import Any, dataclass_transform

try:
    import jax
except ModuleNotFoundError:  # models then run on NumPy alone, e.g. beside PyFlink, whose NumPy is too old for JAX
    jax = None


def static(**kwargs: Any) -> Any:
    """A dataclass field that JAX treats as structure, for sizes and names."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def pytree[T](cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and a JAX pytree; `static()` fields become its structure, all others its leaves."""
    frozen = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(frozen)  # type: ignore[arg-type]
    if jax is None:
        return frozen
    leaves = [f.name for f in fields if not f.metadata.get("static", False)]
    structure = [f.name for f in fields if f.metadata.get("static", False)]
    jax.tree_util.register_dataclass(frozen, leaves, structure)
    return frozen
