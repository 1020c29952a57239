"""Memory for an array that grows in place.

Linux grows a mapping by moving the entries of its pages, not their bytes: nobody waits, where a copy of a table of a
million entities would keep all clicks waiting for some tenths of a second. Elsewhere it is copied.
"""

import math
import mmap
import sys
from typing import Any

import numpy as np


class Pages:
    """Gives out one array of zeros, and later the same one with more rows."""

    def __init__(self, *row: int, dtype: Any):
        self._row, self._dtype = row, np.dtype(dtype)
        self._memory: Any = None  # a mapping, or an array where a mapping cannot grow

    def array(self, rows: int) -> np.ndarray:
        """The array (rows, *row), whose first rows hold what they held, and new ones zeros.

        No earlier array, nor a view of one, may be left: on Linux that raises BufferError.
        """
        shape = (rows, *self._row)
        if sys.platform != "linux":
            array = np.zeros(shape, self._dtype)
            if self._memory is not None:
                array[: len(self._memory)] = self._memory
            self._memory = array
            return array
        size = math.prod(shape) * self._dtype.itemsize
        if self._memory is None:
            # private: a fork that writes a snapshot must not see what is changed meanwhile
            self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:
            self._memory.resize(size)
        return np.frombuffer(self._memory, self._dtype).reshape(shape)
