"""What the environment must say before JAX and BLAS are loaded."""

import os

# One thread each, for the requests, so that no pool of threads takes turns with them.
SINGLE_THREADED = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def compute_in_one_thread() -> None:
    """Have JAX and BLAS use one thread, unless the environment says otherwise. Call it before they are imported."""
    for name, value in SINGLE_THREADED.items():
        os.environ.setdefault(name, value)
