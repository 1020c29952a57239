"""Files behind http and https: read from any server, and each failure is one sentence with a way out."""

import base64
import gzip
import io
import tarfile
import zipfile
from collections import Counter

import polars as pl
import pytest

from onlineguard.errors import SourceError
from onlineguard.sources import Source
from onlineguard.sources.looking import look
from tests.support.reading import rows, set_aside
from tests.support.web import certificate, serving

TEXT = b"host,cpu\na,1\nb,2\n"
PAGE = b"<!DOCTYPE html>\n<html><body>Sign in</body></html>"
LONG = b"host,cpu\n" + b"".join(b"a,%d\n" % i for i in range(700_000))


def parquet() -> bytes:
    file = io.BytesIO()
    pl.DataFrame({"host": ["a", "b"], "cpu": [1.0, 2.0]}).write_parquet(file)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("1.csv", "host,cpu\na,1\n")
        archive.writestr("2.csv", "host,cpu\nb,2\n")
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo("logs/1.csv")
        member.size = len(TEXT)
        archive.addfile(member, io.BytesIO(TEXT))
    return file.getvalue()


READ = {
    "/e.csv": (200, {}, TEXT),
    "/e.csv?X-Signature=secret": (200, {}, TEXT),
    "/export?day=1&as=csv": (200, {}, TEXT),
    "/export.php": (200, {"Content-Disposition": 'attachment; filename="e.csv"'}, TEXT),
    "/e.csv.gz": (200, {}, gzip.compress(TEXT)),
    "/packed.csv": (200, {"Content-Encoding": "gzip"}, gzip.compress(TEXT)),
    "/unknown-length.csv": (200, {"Content-Length": ""}, TEXT),
    "/lines.ndjson": (200, {}, b'{"host":"a","cpu":1}\n{"host":"b","cpu":2}\n'),
    "/e.parquet": (200, {}, parquet()),
    "/download?id=7": (200, {}, parquet()),
    "/named": (200, {"Content-Disposition": "attachment; filename=e.zip"}, zipped()),
    "/logs.zip": (200, {}, zipped()),
    "/logs.tar.gz?sig=1": (200, {}, tarred()),
    "/moved.csv": (302, {"Location": "/e.csv"}, b""),
    "/moved": (307, {"Location": "/e.parquet"}, b""),
}
REFUSED = {
    "/none.csv": (404, {}, b"", "the server answers 404 Not Found: look at the address"),
    "/export?day=9": (404, {}, b"", "the server answers 404 Not Found: look at the address"),
    "/mine.csv": (403, {}, b"", "the server answers 403 Forbidden: it may not be read by everyone, or the signature"),
    "/who.csv": (
        401,
        {},
        b"",
        "the server answers 401 Unauthorized: it asks who you are; put the user",
    ),
    "/busy.csv": (503, {}, b"", "the server answers 503 Service Unavailable: try again later"),
    "/loop.csv": (302, {"Location": "/loop.csv"}, b"", "the server sends from one address to the next without end"),
    "/page.csv": (200, {}, PAGE, "is a web page, not a table; name the address of the file itself"),
    "/blob?id=1": (200, {"Content-Type": "text/html"}, PAGE, "is a web page, not a table"),
    "/bad.zip": (200, {}, b"no zip", "File is not a zip file"),
    "/bad.parquet": (200, {}, b"no parquet at all", "cannot be read"),
    "/empty.csv": (200, {}, b"", "is empty; it must hold at least one row"),
}


@pytest.fixture(scope="module")
def server():
    def answer(request):
        known = READ.get(request.path) or REFUSED[request.path]
        return known[:3]

    with serving(answer) as address:
        yield address


@pytest.mark.parametrize("path", READ)
def test_a_file_is_read_however_the_server_has_it(server, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [(key, x) for key, x, *_ in rows(Source(server + path, ["host"], ["cpu"]))] == [("a", (1.0,)), ("b", (2.0,))]
    assert list(look(server + path).kinds) == ["host", "cpu"]


@pytest.mark.parametrize("path", REFUSED)
def test_what_cannot_be_read_is_one_sentence(server, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for read in (lambda: rows(Source(server + path, ["host"], ["cpu"])), lambda: look(server + path)):
        with pytest.raises(SourceError) as caught:
            read()
        said = str(caught.value)
        assert REFUSED[path][3] in said
        assert said.startswith(f"source {server}{path.partition('?')[0]} ")
        assert "\n" not in said


def test_a_connection_that_ends_early_is_no_end_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with serving(lambda _: (200, {"Content-Length": str(len(LONG) + 1_000)}, LONG)) as address:
        seen: list[float] = []
        with pytest.raises(SourceError, match=r"breaks off after the rows read so far: .* of [\d,]+ bytes"):
            seen += [x for batch in Source(f"{address}/e.csv", ["host"], ["cpu"]) for x in batch.X[:, 0].tolist()]
    with serving(lambda _: (200, {"Transfer-Encoding": "chunked", "Content-Length": ""}, b"5\r\nhost,")) as address:
        with pytest.raises(SourceError, match=r"cannot be read: the connection ended after \d bytes"):
            rows(Source(f"{address}/e.csv", ["host"], ["cpu"]))


def test_who_reads_is_named_in_the_address_and_shown_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked: list[str | None] = []

    def answer(request):
        asked.append(request.headers["Authorization"])
        if request.path == "/there.csv":
            return 302, {"Location": f"http://localhost:{request.server.server_port}/e.csv"}, b""
        return 200, {}, TEXT + b"torn\n"

    with serving(answer) as address:
        read = Source(address.replace("//", "//me:p%40ss@") + "/e.csv?sig=secret", ["host"], ["cpu"])
        assert len(rows(read)) == 2
        assert (read.name, read.rejects.name) == (f"{address}/e.csv", "e.csv.rejects.ndjson")
        assert len(set_aside(read)) == 1
        assert asked.pop() == "Basic " + base64.b64encode(b"me:p@ss").decode()
        rows(Source(address.replace("//", "//me:p%40ss@") + "/there.csv", ["host"], ["cpu"]))
        assert asked[-1] is None  # another server is not told


def test_an_archive_is_fetched_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fetched = Counter()

    def answer(request):
        fetched[request.path] += 1
        return READ[request.path]

    with serving(answer) as address:
        for path in ("/logs.zip", "/logs.tar.gz?sig=1"):
            read = Source(address + path, ["host"], ["cpu"])
            assert len(rows(read)) == len(rows(read)) == 2
    assert fetched == {"/logs.zip": 1, "/logs.tar.gz?sig=1": 1}


def test_a_certificate_of_ones_own_is_named_in_a_variable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = certificate(tmp_path)
    with serving(lambda _: (200, {}, TEXT), made) as address:
        with pytest.raises(SourceError, match=r"the certificate of 127.0.0.1 is not trusted: .* SSL_CERT_FILE"):
            rows(Source(f"{address}/e.csv", ["host"], ["cpu"]))
        monkeypatch.setenv("SSL_CERT_FILE", str(made[0]))
        assert len(rows(Source(f"{address}/e.csv", ["host"], ["cpu"]))) == 2
        with pytest.raises(SourceError, match="cannot be read"):
            rows(Source(f"{address.replace('https', 'http')}/e.csv", ["host"], ["cpu"]))
    with pytest.raises(SourceError, match=r"127.0.0.1 cannot be reached: Connection refused; look at the address"):
        rows(Source(f"{address}/e.csv", ["host"], ["cpu"]))
