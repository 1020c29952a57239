"""Hashes of user agent, ip prefix and ad."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.clicks.categories import categories, category


def frame(rows):
    return pl.DataFrame(rows, schema=dict.fromkeys(("user_agent", "ip", "ad_id"), pl.String), orient="row")


def test_equal_values_and_addresses_of_one_prefix_have_one_number():
    numbers = categories(frame([("a", "192.0.2.1", "x"), ("a", "192.0.2.200", "y"), ("b", "192.0.3.1", "x")]))
    assert numbers.dtype == np.uint32
    assert numbers.shape == (3, 3)
    assert (numbers[0] == numbers[1]).tolist() == [True, True, False]
    assert (numbers[0] == numbers[2]).tolist() == [False, False, True]


def test_a_row_of_a_frame_has_the_numbers_of_its_values():
    numbers = categories(frame([("Firefox é", "192.0.2.1", "ad"), ("", "2001:db8:1::5", "b")]))
    assert numbers[0].tolist() == [category("Firefox é"), category("192.0.2.0/24"), category("ad")]
    assert numbers[1].tolist() == [category(""), category("2001:db8:1::/48"), category("b")]


def test_a_null_counts_as_empty_text_and_no_clicks_have_no_numbers():
    assert categories(frame([(None, "192.0.2.1", "")]))[0, ::2].tolist() == [category("")] * 2
    assert categories(frame([])).shape == (0, 3)


def test_numbers_are_the_same_in_every_process():
    code = "from onlineguard.slidr.clicks.categories import category; print(category('Mozilla/5.0'))"
    ran = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[3],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert ran == [f"{category('Mozilla/5.0')}\n"] * 2
    assert category("Mozilla/5.0") == 1_719_204_700


def test_the_rows_of_a_table_are_used_evenly():
    """The highest bits choose the row of an embedding: 4,096 values over 1,024 rows leave e^-4 of them empty."""
    rows = np.array([category(f"10.{i >> 8}.{i & 255}.0/24") for i in range(4096)]) >> 22
    assert abs(len(np.unique(rows)) / 1024 - (1 - np.exp(-4))) < 0.01


def test_a_frame_without_a_needed_column_is_refused_by_name():
    with pytest.raises(InvalidArgument, match="clicks lack user_agent, ad_id"):
        categories(pl.DataFrame({"ip": ["192.0.2.1"]}))
