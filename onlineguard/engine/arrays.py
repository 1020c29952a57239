"""Arrays of other libraries that lie on a device, such as PyTorch's and CuPy's, as JAX's: by DLPack, without a copy."""

from typing import Any

import jax

CPU = 1  # kDLCPU, the memory of this machine


def there(array: Any) -> jax.Array | None:
    """The same array as JAX knows it, if it is JAX's or lies on an accelerator; None for all else.

    Raises TypeError or ValueError for one that JAX cannot take, such as one of float64.
    """
    if isinstance(array, jax.Array):
        return array
    where = getattr(array, "__dlpack_device__", None)
    if where is None or int(where()[0]) == CPU:
        return None
    return jax.dlpack.from_dlpack(array)
