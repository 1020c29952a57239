"""Places: files, folders, patterns, archives and URLs give the events of the files in them, in order."""

import bz2
import gzip
import lzma
import sys
import tarfile
import zipfile

import fsspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.sources import Source
from onlineguard.sources.unpacking import unpacked
from tests.support.reading import internals, rows, set_aside

lz4 = pytest.importorskip("lz4.frame")
zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
    ".lz4": lz4.compress,
}
TEXT = b"host,cpu\na,1\nb,2\n"


def values(source) -> list[float]:
    return [x for _, (x,), *_ in rows(source)]


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("name", ["e.csv", "e.ndjson"])
def test_a_packed_file_is_read_whatever_packed_it(tmp_path, kind, name):
    path = tmp_path / f"{name}{kind}"
    lines = b'{"host":"a","cpu":1}\n{"host":"b","cpu":2}\n', b'{"host":"c","cpu":3}\n'
    first, second = (TEXT, b"c,3\n") if name == "e.csv" else lines
    path.write_bytes(PACKERS[kind](first) + PACKERS[kind](second))
    assert values(Source(path, ["host"], ["cpu"])) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("kind", PACKERS)
def test_a_packed_file_that_was_cut_off_gives_its_rows_and_says_so(tmp_path, kind):
    path = tmp_path / f"e.csv{kind}"
    text = b"host,cpu\n" + b"".join(b"a,%d\n" % i for i in range(150_000))
    path.write_bytes(PACKERS[kind](text)[:-20])
    read = Source(path, ["host"], ["cpu"], batch_rows=1_000)
    seen = []
    with pytest.raises(SourceError, match=r"(?s)breaks off after the rows read so far: .*cut off"):
        seen += [x for batch in read for x in batch.X[:, 0].tolist()]
    assert seen == list(range(len(seen)))


@settings(max_examples=40)
@given(
    content=st.binary(max_size=300),
    kind=st.sampled_from(sorted(PACKERS)),
    members=st.integers(1, 3),
    step=st.integers(1, 50),
)
def test_what_was_packed_is_unpacked_however_it_comes(content, kind, members, step):
    packed = PACKERS[kind](content) * members
    parts = iter([packed[at : at + step] for at in range(0, len(packed), step)])
    with internals({"blocks.BLOCK_BYTES": 7}):
        blocks = list(unpacked(parts, "e"))
    assert b"".join(blocks) == content * members
    assert all(0 < len(block) <= 7 for block in blocks)


ARCHIVES = ["logs.zip", "logs.tar", "logs.tar.gz", "logs.tgz", "logs.tar.bz2", "logs.tar.xz", "logs.tar.zst"]


@pytest.mark.parametrize("pattern", ["logs", "logs/*.csv", "logs/**/*.csv", *ARCHIVES])
def test_several_files_are_one_source_in_the_order_of_their_names(tmp_path, pattern):
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "1.csv").write_bytes(TEXT + b"torn\n")
    (folder / "2.csv").write_text("cpu;host\n3,5;c\n", encoding="cp1252")  # of another dialect, in another order
    for other in (".hidden.csv", "_SUCCESS", "notes.md", "old.rejects.ndjson"):
        (folder / other).write_text("not read")
    if pattern in ARCHIVES:
        archive = tmp_path / pattern
        with zipfile.ZipFile(archive, "w") if pattern.endswith(".zip") else tarfile.open(archive, "w") as made:
            for file in sorted(folder.iterdir()):
                (made.write if isinstance(made, zipfile.ZipFile) else made.add)(file, file.name)
        if (kind := {".tgz": ".gz"}.get(archive.suffix, archive.suffix)) in PACKERS:
            archive.write_bytes(PACKERS[kind](archive.read_bytes()))
    read = Source(tmp_path / pattern, ["host"], ["cpu"])
    batches = list(read)
    assert [(key, x, line) for key, x, _, _, line in rows(batches)] == [
        ("a", (1.0,), 2),
        ("b", (2.0,), 3),
        ("c", (3.5,), 2),
    ]
    files = [name.rpartition("/")[2] for batch in batches for name in batch.files]
    assert files == ["1.csv", "1.csv", "2.csv"]
    assert [record["file"].endswith("1.csv") for record in set_aside(read)] == [True]
    assert read.reasons[0].endswith("1.csv, line 4: the row has 1 column, the header has 2")


def test_of_several_files_the_one_that_lacks_a_column_is_named(tmp_path):
    (tmp_path / "1.csv").write_bytes(TEXT)
    (tmp_path / "2.csv").write_text("host,load\na,1\n")
    with pytest.raises(SourceError, match=r"feature column 'cpu' is not in \S+2.csv, whose columns are host, load"):
        rows(Source(tmp_path / "*.csv", ["host"], ["cpu"]))


def test_a_file_with_a_star_in_its_name_is_that_file(tmp_path):
    (tmp_path / "e*.csv").write_bytes(TEXT)
    (tmp_path / "ee.csv").write_bytes(TEXT)
    assert values(Source(tmp_path / "e*.csv", [], ["cpu"])) == [1.0, 2.0]


def test_an_object_store_is_read_through_fsspec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = fsspec.filesystem("memory")
    store.pipe("/places/a/1.csv", TEXT)
    store.pipe("/places/a/2.csv.gz", gzip.compress(b"host,cpu\nc,3\n"))
    pl.DataFrame({"host": ["d"], "cpu": [4.0]}).write_parquet(tmp_path / "3.parquet")
    store.pipe("/places/a/3.parquet", (tmp_path / "3.parquet").read_bytes())
    try:
        for name in ("memory://places/a", "memory://places/*/*"):
            assert values(Source(name, ["host"], ["cpu"])) == [1.0, 2.0, 3.0, 4.0]
        assert values(Source("memory://places/a/1.csv", ["host"], ["cpu"])) == [1.0, 2.0]
        with pytest.raises(SourceError, match=r"memory://places/none.csv cannot be read"):
            Source("memory://places/none.csv", [], ["cpu"])
    finally:
        store.rm("/places", recursive=True)


def workbook(path, table):
    """A minimal Excel file: its parts are XML in a zip."""
    number, text = "<c><v>{}</v></c>", '<c t="inlineStr"><is><t>{}</t></is></c>'
    lines = ["".join((text if isinstance(c, str) else number).format(c) for c in row) for row in table]
    cells = "".join(f"<row>{line}</row>" for line in lines)
    main, package = (
        "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
        "http://schemas.openxmlformats.org/package",
    )
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

    def links(kind, target):
        link = f'<Relationship Id="a" Type="{office}/{kind}" Target="{target}"/>'
        return f'<Relationships xmlns="{package}/2006/relationships">{link}</Relationships>'

    sheets = '<sheets><sheet name="Data" sheetId="1" r:id="a"/></sheets>'
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/2006/content-types"/>',
        "_rels/.rels": links("officeDocument", "xl/workbook.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}">{sheets}</workbook>',
        "xl/_rels/workbook.xml.rels": links("worksheet", "worksheets/s.xml"),
        "xl/worksheets/s.xml": f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, f'<?xml version="1.0"?>{part}')


def test_an_excel_file_is_read_with_numbers_as_numbers_and_as_texts(tmp_path):
    workbook(tmp_path / "e.xlsx", [["host", "cpu", "cost"], ["a", 1.5, "1.234,50"], ["b", 2, "7,25"], ["a", "-", "x"]])
    read = Source(tmp_path / "e.xlsx", ["host"], ["cpu", "cost"])
    (batch,) = read
    np.testing.assert_array_equal(batch.X, np.array([[1.5, 1_234.5], [2.0, 7.25], [np.nan, np.nan]], np.float32))
    assert batch.line_numbers.tolist() == [2, 3, 4]
    assert read.described.startswith("Excel, sheet 'Data'")
    assert read.bad_fields == {"cost": 1}


def test_only_one_text_can_be_followed(tmp_path):
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "e.parquet")
    with pytest.raises(InvalidArgument, match="follow is for one text"):
        Source(tmp_path / "e.parquet", [], ["x"], follow=True)
