import sys

import numpy as np
import pytest

from onlineguard.slidr.counting.pages import Pages


@pytest.mark.parametrize("row", [(), (3,)])
def test_an_array_keeps_what_it_held_and_its_new_rows_are_zeros(row):
    pages = Pages(*row, dtype=np.int32)
    array = pages.array(5)
    assert array.shape == (5, *row)
    assert array.dtype == np.int32
    assert not array.any()
    array[:] = 7
    del array
    for rows in (6, 5_000, 3_000_000):
        array = pages.array(rows)
        assert array.shape == (rows, *row)
        assert (array[:5] == 7).all()
        assert not array[5:].any()
        del array


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is copied")
def test_an_array_that_is_still_in_use_does_not_grow_and_is_unharmed():
    pages = Pages(dtype=np.int64)
    array = pages.array(4)
    array[:] = 1
    with pytest.raises(BufferError):
        pages.array(1_000_000)
    assert (array == 1).all()
