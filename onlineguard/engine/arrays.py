"""Arrays on devices: those of other libraries, such as PyTorch's and CuPy's, as JAX's, and copies of NumPy's."""

from typing import Any

import jax
import numpy as np

CPU = 1  # kDLCPU, the memory of this machine


def there(array: Any) -> jax.Array | None:
    """The same array as JAX knows it, by DLPack and so without a copy, if it is JAX's or lies on an accelerator.

    None for all else.

    Raises TypeError or ValueError for one that JAX cannot take, such as one of float64.
    """
    if isinstance(array, jax.Array):
        return array
    where = getattr(array, "__dlpack_device__", None)
    if where is None:
        return None
    try:
        device = where()
    except TypeError:  # pyarrow's answer for an array that has nulls, or is of texts
        return None
    if int(device[0]) == CPU:
        return None
    return jax.dlpack.from_dlpack(array)


def placed(array: np.ndarray, device: Any = None) -> jax.Array:
    """A copy of a NumPy array on a device, None for the one that JAX prefers.

    Unlike `jnp.array` and `jnp.zeros` it runs no program, which would be compiled, or loaded, for every shape.
    """
    return jax.device_put(array, device, may_alias=False)


def as_params(model: Any) -> Any:
    """A tree of numbers as programs take it: its leaves are arrays of float32."""
    return jax.tree.map(lambda leaf: placed(np.asarray(leaf, np.float32)), model)
