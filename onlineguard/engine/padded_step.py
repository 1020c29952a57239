"""A model's step in operations that a GPU kernel can hold.

A model knows nothing of kernels. Its `step` is traced to JAX's intermediate form, and every operation of that is
carried out on arrays padded to powers of two, by `operations`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, use_abstract_mesh

from onlineguard.engine.operations import NUMBER_BY_NUMBER, RULES
from onlineguard.engine.padded import NotInAKernel, Padded, Value, as_padded, padded_shape, spread

NO_MESH = AbstractMesh((), ())  # a step is traced, and what is known computed, as if for this machine
CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint"}
AS_THEY_ARE = {"optimization_barrier", "stop_gradient", "copy", "copy_p"}


def stepped(step: Callable[..., Any], like: Sequence[Any], values: Sequence[Padded]) -> list[Padded]:
    """The leaves of `step(*like)`, of padded leaves of its arguments.

    `like` are arguments of which only the shapes and types count. Raises NotInAKernel.
    """
    with use_abstract_mesh(NO_MESH):
        closed: Any = jax.make_jaxpr(step)(*like)
    return [as_padded(value) for value in _run(closed, values)]


def _run(closed: Any, inputs: Sequence[Value]) -> list[Value]:
    """The outputs of traced code."""
    jaxpr = getattr(closed, "jaxpr", closed)
    known: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, getattr(closed, "consts", ())), strict=False))
    known.update(zip(jaxpr.invars, inputs, strict=True))

    for equation in jaxpr.eqns:
        values = [_read(atom, known) for atom in equation.invars]
        known.update(zip(equation.outvars, _done(equation, values), strict=True))
    return [_read(atom, known) for atom in jaxpr.outvars]


def _read(atom: Any, known: dict[Any, Value]) -> Value:
    """The value of a variable, or of a literal."""
    return np.asarray(atom.val, atom.aval.dtype) if hasattr(atom, "val") else known[atom]


def _done(equation: Any, values: list[Value]) -> Sequence[Value]:
    """The outputs of one operation."""
    name, parameters = equation.primitive.name, equation.params
    if name in CALLS:
        return _run(next(parameters[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in parameters), values)
    if name in AS_THEY_ARE:
        return values
    if all(isinstance(value, (np.ndarray, np.generic)) for value in values) and values:
        with use_abstract_mesh(NO_MESH), jax.ensure_compile_time_eval():
            found = equation.primitive.bind(*values, **parameters)
        return list(map(np.asarray, found)) if equation.primitive.multiple_results else [np.asarray(found)]
    shapes = [tuple(variable.aval.shape) for variable in equation.outvars]
    if name in NUMBER_BY_NUMBER:
        whole = padded_shape(shapes[0])
        arrays = [spread(value, whole) for value in values]
        return [Padded(NUMBER_BY_NUMBER[name](equation.primitive, parameters, *arrays), shapes[0])]
    if name not in RULES:
        raise NotInAKernel(f"`{name}`")
    return RULES[name](values, parameters, shapes)
