"""Options that several commands share: written once, as a dataclass of Typer's options."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command as Typer takes it: the fields of a dataclass stand where the command has a parameter of that class."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        group = hints[name]
        if not (isinstance(group, type) and dataclasses.is_dataclass(group)):
            parameters.append(parameter.replace(annotation=group, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        of_fields = get_type_hints(group, include_extras=True)
        fields = dataclasses.fields(group)
        groups[name] = group, [field.name for field in fields]
        parameters += [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=of_fields[field.name]
            )
            for field in fields
        ]

    @functools.wraps(command)
    def with_fields(**given: Any) -> None:
        for name, (group, fields) in groups.items():
            given[name] = group(**{field: given.pop(field) for field in fields})
        command(**given)

    with_fields.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what Typer reads
    with_fields.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_fields
