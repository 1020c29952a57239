"""A version of the lookups: read as it was written, found singly as in a batch, and refused where it was changed."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from onlineguard.errors import CheckpointError
from onlineguard.slidr.lookups.columns import COLUMNS, TABLES, Keys
from onlineguard.slidr.lookups.file import About, Version, write_version
from onlineguard.slidr.lookups.hosting import Network, ranges
from onlineguard.slidr.lookups.single import Entities, Ranges, Table

ABOUT = About(as_of=5, since=7, days=28, built_from="a log", hosting="", onlineguard="0")
KEYS = st.integers(1, 40) | st.integers(2**64 - 40, 2**64 - 1) | st.integers(1, 2**64 - 1)


def table(keys, width):
    found = np.unique(np.array(list(keys), np.uint64))
    return Table(found, np.random.default_rng(0).random((len(found), width), np.float32) + 1)


def tables(keys=(), networks=()):
    return {name: table(keys, len(columns)) for name, columns in TABLES.items()} | ranges(networks)


@given(st.sets(KEYS, max_size=60), st.lists(st.tuples(KEYS, st.integers(0, 2**32 - 1)), min_size=1))
def test_an_entity_is_found_by_itself_as_in_a_batch_and_by_nobody_else(tmp_path_factory, known, asked):
    path = tmp_path_factory.mktemp("lookups") / "a.safetensors"
    written = tables(known, [Network(4, 9 << 8, 99 << 24, True)])
    assert write_version(path, ABOUT, written)
    version = Version(path).check()
    rows = [Keys(key, key, key ^ 1, key, 4, ip) for key, ip in [*asked, *((key, 0) for key in known)]]
    batch = version.numbers_of(Keys(*(np.array(column, np.uint64) for column in zip(*rows, strict=True))))
    entities, ranges_ = [Entities(version.tables[name]) for name in TABLES], Ranges(version.tables["networks4"])
    for row, numbers in zip(rows, batch.tolist(), strict=True):
        asked_for = zip(entities, (row.user, *row[:4]), strict=True)
        assert [*(n for table, key in asked_for for n in table.numbers(key)), ranges_.number(row.number)] == numbers
    users = dict(zip(written["users"].keys.tolist(), written["users"].values.tolist(), strict=True))
    at = COLUMNS.index("user_daily")
    for row, numbers in zip(rows, batch.tolist(), strict=True):
        assert numbers[at : at + 2] == users.get(row.user, [0.0, 0.0])
        assert numbers[-1] == float(9 << 8 <= row.number < 99 << 24)


def test_a_version_says_what_it_is_of_and_is_a_file_that_other_tools_read(tmp_path):
    path = tmp_path / "a.safetensors"
    write_version(path, ABOUT, tables({1, 2}))
    version = Version(path)
    assert msgspec.structs.replace(version.about, sha256="") == ABOUT
    assert load_file(path)["users.keys"].tolist() == [1, 2]
    assert not version.tables["users"].values.flags.writeable


def test_of_several_who_write_a_version_one_does(tmp_path):
    path = tmp_path / "a.safetensors"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: write_version(path, ABOUT, tables({n})), range(1, 9)))
    assert sum(made) == 1
    assert Version(path).check().tables["users"].keys.tolist() == [made.index(True) + 1]
    assert [found.name for found in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("place", [0, 4, 20, -1, -40])
def test_a_file_with_a_changed_byte_is_refused(tmp_path, place):
    path = tmp_path / "a.safetensors"
    write_version(path, ABOUT, tables(range(1, 50)))
    contents = bytearray(path.read_bytes())
    contents[place] ^= 1
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match="remove it, and build it again"):
        Version(path).check()


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "a.safetensors"
    write_version(path, ABOUT, tables(range(1, 50)))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="remove it, and build it again"):
        Version(path)


def test_a_file_whose_times_were_changed_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    write_version(path, ABOUT, tables(range(1, 50)))
    contents = path.read_bytes()
    assert contents.count(b'"since":"7"') == 1
    path.write_bytes(contents.replace(b'"since":"7"', b'"since":"6"'))
    with pytest.raises(CheckpointError, match="its hash is another than it says"):
        Version(path).check()


def test_a_newer_format_is_refused(tmp_path):
    write_version(tmp_path / "a", msgspec.structs.replace(ABOUT, format=2), tables())
    with pytest.raises(CheckpointError, match="has format 2, and this onlineguard reads up to 1; upgrade"):
        Version(tmp_path / "a")
