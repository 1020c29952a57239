"""Object stores: S3 by a stand-in on this machine, the others by what is said without their packages."""

import gzip
import io

import fsspec
import polars as pl
import pytest

from onlineguard.errors import MissingExtra, SourceError
from onlineguard.sources import Source, places
from onlineguard.sources.looking import look
from tests.support.reading import rows
from tests.support.s3 import s3

TEXT = b"host,cpu\na,1\nb,2\n"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The objects of a stand-in, which may be changed, and what happens before one is read."""
    pytest.importorskip("s3fs")
    monkeypatch.chdir(tmp_path)
    parquet = io.BytesIO()
    pl.DataFrame({"host": ["d"], "cpu": [4.0]}).write_parquet(parquet)
    objects = {
        "logs/day/1.csv": TEXT,
        "logs/day/2.csv.gz": gzip.compress(b"host,cpu\nc,3\n"),
        "logs/day/3.parquet": parquet.getvalue(),
        "logs/day/_SUCCESS": b"",
        "logs/other/notes.md": b"not read",
        "logs/secret.csv": TEXT,
    }
    happens = []
    with s3(objects, lambda name: [each(name) for each in happens]) as address:
        for name, value in {
            **{"AWS_ENDPOINT_URL": address, "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"},
            **{"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": "none"},
        }.items():
            monkeypatch.setenv(name, value)
        yield objects, happens
        fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.mark.parametrize("pattern", ["s3://logs/day", "s3://logs/day/*.*", "s3://logs/**/[1-3].*"])
def test_objects_of_s3_are_one_source_in_the_order_of_their_names(store, pattern):
    read = Source(pattern, ["host"], ["cpu"])
    assert [(key, x) for key, x, *_ in rows(read)] == [("a", (1,)), ("b", (2,)), ("c", (3,)), ("d", (4,))]
    assert read.places[0].name == "s3://logs/day/1.csv"
    assert look(pattern).files == [place.name for place in read.places]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://logs/none.csv", "s3://logs/none.csv cannot be read: there is no such file"),
        ("s3://logs/secret.csv", "s3://logs/secret.csv cannot be read: Forbidden; these credentials may not read it"),
        ("s3://nobucket/1.csv", "s3://nobucket/1.csv cannot be read: The bucket does not exist"),
        ("s3://logs/other", "s3://logs/other holds no file that can be read; it must end in .csv"),
        ("s3://logs/none/*.csv", "s3://logs/none/*.csv holds no file that can be read"),
    ],
)
def test_what_s3_refuses_is_one_sentence(store, url, said):
    for read in (lambda: rows(Source(url, ["host"], ["cpu"])), lambda: look(url)):
        with pytest.raises(SourceError) as caught:
            read()
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_without_credentials_the_way_to_public_data_is_named(store, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SourceError, match=r"Unable to locate credentials; log in, .* FSSPEC_S3='\{\"anon\": true\}'"):
        look("s3://logs/day/1.csv")


def test_an_object_that_is_replaced_while_it_is_read_is_said(store):
    objects, happens = store
    happens.append(lambda name: objects.update({name: TEXT + b"c,3\n"}))
    with pytest.raises(SourceError, match="it was changed or removed while it was read; read it again"):
        rows(Source("s3://logs/day/1.csv", ["host"], ["cpu"]))


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("s3://logs/1.csv", "s3fs", "s3"),
        ("gs://logs/1.csv", "gcsfs", "gcs"),
        ("az://logs/1.csv", "adlfs", "azure"),
        ("abfs://logs@account.dfs.core.windows.net/1.csv", "adlfs", "azure"),
        ("memory://logs/1.csv", "fsspec", "registry"),
    ],
)
def test_a_store_whose_package_is_missing_says_what_to_install(url, package, extra, monkeypatch):
    monkeypatch.setattr(places, "find_spec", lambda name: None if name == package else object())
    for read in (lambda: Source(url, [], None), lambda: look(url)):
        with pytest.raises(MissingExtra) as caught:
            read()
        assert str(caught.value) == f"source {url} needs {package}: pip install 'onlineguard[{extra}]'"


def test_a_scheme_that_nobody_knows_is_one_sentence():
    with pytest.raises(SourceError, match=r"source foo://logs/1.csv cannot be read: Protocol not known: foo"):
        look("foo://logs/1.csv")
