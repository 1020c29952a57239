"""Public names that are loaded when first used, so that importing a package costs none of its modules."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from onlineguard.extras import require


def loading(
    package: str, names: Mapping[str, Sequence[str]], extra: str | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose modules hold these public names.

    Raises MissingExtra at once where the packages of `extra`, which that package needs, are not installed.
    """
    if extra is not None:
        require(package, extra)
    module_of = {name: module for module, public in names.items() for name in public}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{module_of[name]}"), name)
        setattr(sys.modules[package], name, value)  # from now on found without this function
        return value

    def names_of() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of})

    return get, names_of
