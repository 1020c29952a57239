"""Shapes in annotations, as jaxtyping writes them; `...` and `*lead` are any number of axes, `*#lead` may be 1 there.

Only readers and type checkers look at them. At run time they are plain `Annotated`, so that no user waits for jaxtyping
to be imported. `Float` is float32 in the Engine, and may be float64 where an estimator is stepped by itself.
"""

from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Float64, Int, Int32
else:
    Bool = Float = Float32 = Float64 = Int = Int32 = Annotated

__all__ = ["Bool", "Float", "Float32", "Float64", "Int", "Int32"]
