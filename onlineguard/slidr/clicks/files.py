"""Files of clicks as tables, before a mapping says which column is which field: CSV, NDJSON, Parquet, lines of text.

A file may be packed: `.gz` around CSV or text, `.zip` around a single file of any kind. How a CSV file is written, its
encoding, delimiter and the titles above its header, is told from its first block, as `onlineguard run` tells it.
"""

import gzip
import io
import zipfile
from contextlib import nullcontext
from pathlib import Path, PurePath

import polars as pl

from onlineguard.errors import SourceError

ENDINGS = ".csv, .csv.gz, .ndjson, .parquet or .zip file"


def read_table(path: Path, pattern: str | None = None) -> pl.DataFrame:
    """The rows of a file. CSV is read as text throughout.

    With a pattern, a regular expression with named groups, every line of a text file is a row, and the groups are its
    columns; they are null in a line that does not match. Raises SourceError if the file cannot be read.
    """
    try:
        if path.suffix.lower() != ".zip":
            return _table(path.name, path, pattern)
        with zipfile.ZipFile(path) as archive:
            inside = [member for member in archive.infolist() if not member.is_dir()]
            if len(inside) != 1:
                raise SourceError(f"{path} holds {len(inside)} files; give a .zip of one log")
            return _table(PurePath(inside[0].filename).name, archive.read(inside[0]), pattern)
    except (OSError, EOFError, zipfile.BadZipFile, pl.exceptions.PolarsError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def _table(file: str, source: Path | bytes, pattern: str | None) -> pl.DataFrame:
    name = file.lower()
    if pattern is not None:
        return _lines(name, source, pattern)
    if name.endswith((".csv", ".csv.gz")):
        return _delimited(name, source)
    if name.endswith((".ndjson", ".jsonl")):
        return pl.read_ndjson(source, infer_schema_length=None)
    if name.endswith((".parquet", ".pq")):
        return pl.read_parquet(source)
    raise SourceError(f"{file} has no known ending; name a {ENDINGS}, or a mapping with a pattern for lines of text")


def _delimited(name: str, source: Path | bytes) -> pl.DataFrame:
    # These load JAX, which a program that only makes clicks of its own should not wait for.
    from onlineguard.sources.dialect import HEAD_BYTES, Choices, told_dialect, whole_lines
    from onlineguard.sources.encodings import as_utf8, told_encoding

    opened = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with opened, gzip.open(opened) if name.endswith(".gz") else nullcontext(opened) as content:
        head = content.read(HEAD_BYTES)
        encoding = told_encoding(head)
        text = next(as_utf8(iter([head]), encoding), b"")
        dialect = told_dialect(whole_lines(text, len(head) < HEAD_BYTES), encoding, Choices(header=True), ",")
        if encoding != "utf-8":
            source = b"".join(as_utf8(iter([head + content.read()]), encoding))
    return pl.read_csv(
        source,
        infer_schema=False,
        separator=dialect.delimiter,
        quote_char=dialect.quote,
        skip_lines=dialect.skipped,
    )


def _lines(name: str, source: Path | bytes, pattern: str) -> pl.DataFrame:
    content = source if isinstance(source, bytes) else source.read_bytes()
    content = gzip.decompress(content) if name.endswith(".gz") else content
    lines = pl.Series("line", content.decode("utf-8", "replace").splitlines(), dtype=pl.String)
    return lines.to_frame().select(pl.col("line").str.extract_groups(pattern)).unnest("line")
