"""Handwritten digits: MNIST from a folder or by download, or for a quick run the small digits of scikit-learn.

An IDX file is a magic number, which says type and number of dimensions, the dimensions, and then one unsigned byte a
pixel or label, all big-endian. A file is used only if its unpacked content is, by SHA-256, that of MNIST.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", CC BY-SA 3.0; of scikit-learn: Alpaydin,
Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

import gzip
import hashlib
import http.client
import io
import os
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.common import ExperimentError, console
from onlineguard import atomic

VARIABLE = "ONLINEGUARD_DATA"  # of the environment: a folder with data for experiments and tests, MNIST in `mnist`
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
TIMEOUT = 20.0  # seconds a mirror may stay silent

_LONGEST = 32 << 20  # bytes; the longest packed file has 9.9 million
_SMALL_TRAINING = 1_500  # of the 1,797 small digits; the rest are test images


@dataclass(frozen=True)
class Digits:
    """Upright digits in the order of their source."""

    images: Float[np.ndarray, "n side side"]  # float32, 0 background, 1 ink
    labels: Int[np.ndarray, " n"]  # int64, 0 to 9
    source: str  # which images these are, for the results


@dataclass(frozen=True)
class _File:
    name: str  # without .gz
    shape: tuple[int, ...]
    sha256: str  # of the unpacked file, so that it does not depend on who packed it

    @property
    def header(self) -> bytes:
        """What the file has to begin with: 8 is the code for unsigned bytes."""
        return bytes([0, 0, 8, len(self.shape)]) + b"".join(size.to_bytes(4, "big") for size in self.shape)


TRAINING = (
    _File(
        "train-images-idx3-ubyte", (60_000, 28, 28), "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    _File("train-labels-idx1-ubyte", (60_000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
)
TEST = (
    _File(
        "t10k-images-idx3-ubyte", (10_000, 28, 28), "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    _File("t10k-labels-idx1-ubyte", (10_000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)


class _Unusable(Exception):
    """What is wrong with the content of a file, without its place and the way out."""


def load(folder: Path | None, quick: bool, test: bool = False) -> Digits:
    """The training images of MNIST, or its test images instead.

    From `folder` (or `mnist` in it); else from `mnist` in the folder that ONLINEGUARD_DATA names; else from the user's
    cache, downloaded into it first where needed. With `quick` and no such folder it is the 8x8 digits of scikit-learn,
    whatever the cache holds, and the network is left alone.

    Raises ExperimentError if a file is missing or is not MNIST's, and if there is neither folder nor download.
    """
    files = TEST if test else TRAINING
    if folder is None and VARIABLE in os.environ:
        place = Path(os.environ[VARIABLE]) / "mnist"
        folder = place if place.is_dir() else None
    if folder is not None:
        place = folder / "mnist" if (folder / "mnist").is_dir() else folder
        paths = [_find(place, file) for file in files]
        way_out = "put the original file there, or name another folder with --data DIR"
    elif quick:
        return _small_digits(test)
    else:
        paths = [_cached(file) for file in files]
        way_out = "delete it to have it downloaded again"
    images, labels = (_read(path, file, way_out) for path, file in zip(paths, files, strict=True))
    source = f"MNIST, {len(labels):,} {'test' if test else 'training'} images"
    return Digits(np.divide(images, 255, dtype=np.float32), labels.astype(np.int64), source)


def _small_digits(test: bool) -> Digits:
    from sklearn.datasets import load_digits  # here, since a run with MNIST need not wait for scikit-learn

    pixels, digits = load_digits(return_X_y=True)
    part = slice(_SMALL_TRAINING, None) if test else slice(_SMALL_TRAINING)
    images = np.asarray(pixels, np.float32).reshape(-1, 8, 8)[part] / np.float32(16)
    labels = np.asarray(digits, np.int64)[part]
    return Digits(
        images, labels, f"8x8 digits of scikit-learn, {len(labels):,} {'test' if test else 'training'} images"
    )


def _find(folder: Path, file: _File) -> Path:
    for path in (folder / f"{file.name}.gz", folder / file.name):
        if path.is_file():
            return path
    found = "has no such file" if folder.is_dir() else "is no folder"
    raise ExperimentError(
        f"{file.name}.gz is needed, packed or unpacked, and {folder} {found}; "
        f"name the folder with the IDX files of MNIST with --data DIR; without it and {VARIABLE} they are downloaded"
    )


def _read(path: Path, file: _File, way_out: str) -> UInt8[np.ndarray, "*shape"]:
    try:
        return _decode(path.read_bytes(), file)
    except OSError as error:
        raise ExperimentError(f"{path} cannot be read: {error.strerror or error}; {way_out}") from error
    except _Unusable as error:
        raise ExperimentError(f"{path} {error}; {way_out}") from error


def _decode(content: bytes, file: _File) -> UInt8[np.ndarray, "*shape"]:
    """The array in a packed or unpacked file, checked from what is most wrong to what is least."""
    header, size = file.header, len(file.header) + int(np.prod(file.shape))
    if content.startswith(b"\x1f\x8b"):  # gzip, whatever the name says: browsers unpack and keep it
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
                content = packed.read(size + 1)  # the last byte finds what is too long, and its check sum is checked
        except EOFError as error:
            raise _Unusable(f"is truncated: its gzip data break off after {len(content):,} bytes") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise _Unusable(f"is damaged: it begins as gzip does, but cannot be unpacked ({error})") from error
    if content[:4] != header[:4]:
        begins = f"begins with the bytes {content[:4].hex(' ')}" if content else "is empty"
        raise _Unusable(f"is not the IDX file {file.name}: it {begins}, expected {header[:4].hex(' ')}")
    if len(content) < len(header):
        raise _Unusable(f"is truncated: it has {len(content):,} bytes unpacked, expected {size:,}")
    if content[: len(header)] != header:
        shape = tuple(int(size) for size in np.frombuffer(content, ">u4", len(file.shape), offset=4))
        raise _Unusable(f"has the wrong counts: it says it holds {_times(shape)}, expected {_times(file.shape)}")
    if len(content) != size:
        state = (
            f"is truncated: it has {len(content):,}" if len(content) < size else f"is too long: it has over {size:,}"
        )
        raise _Unusable(f"{state} bytes unpacked, expected {size:,}")
    array = np.frombuffer(content, np.uint8, offset=len(header)).reshape(file.shape)
    if array.ndim == 1 and array.max() > 9:
        index = int(np.argmax(array > 9))
        raise _Unusable(f"has the label {array[index]} at index {index:,}, expected 0 to 9")
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise _Unusable(f"is not the file of MNIST: unpacked its SHA-256 is {found}, expected {file.sha256}")
    return array


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{size:,}" for size in shape) + (" pixels" if len(shape) > 1 else " labels")


def _cached(file: _File) -> Path:
    """Where the file is in the user's cache, after a download if it was not there; it is written whole or not."""
    cache = _cache()
    path = cache / f"{file.name}.gz"
    if path.is_file():
        return path
    try:
        cache.mkdir(parents=True, exist_ok=True)
        atomic.write(path, _download(file))
    except OSError as error:
        raise ExperimentError(
            f"{path} cannot be written: {error.strerror or error}; "
            "name another cache in XDG_CACHE_HOME, or a folder that has the IDX files of MNIST with --data DIR"
        ) from error
    console.print(f"downloaded {path}", highlight=False, markup=False, soft_wrap=True)
    return path


def _cache() -> Path:
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative path there is to be ignored, says the XDG Base Directory Specification.
    try:
        return (named if named.is_absolute() else Path.home() / ".cache") / "onlineguard" / "mnist"
    except RuntimeError as error:  # a user without a home, as in some containers
        raise ExperimentError(
            "there is no home for a cache of MNIST; name a folder for it in XDG_CACHE_HOME, "
            "or a folder that has the IDX files of MNIST with --data DIR"
        ) from error


def _download(file: _File) -> bytes:
    """The packed file from the first mirror that has it right."""
    failures: list[str] = []
    for mirror in MIRRORS:
        url = f"{mirror}{file.name}.gz"
        try:
            content = _fetch(url)
            _decode(content, file)
            return content
        except urllib.error.HTTPError as error:
            error.close()
            failures.append(f"{url} answered {error.code} {error.reason}")
        except urllib.error.URLError as error:
            failures.append(f"{url} was not reached ({error.reason})")
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{url} broke off ({error})")
        except _Unusable as error:
            failures.append(f"{url} {error}")
    folder = f"{VARIABLE} names no folder with `mnist` in it" if os.environ.get(VARIABLE) else f"{VARIABLE} is not set"
    raise ExperimentError(
        f"there is no MNIST: no --data was given, {folder}, {_cache()} has no {file.name}.gz, "
        f"and the download failed: {'; '.join(failures)}. "
        "Put the IDX files of MNIST into a folder and name it with --data DIR, or try --quick, which needs none"
    )


def _fetch(url: str) -> bytes:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT) as response,
        Progress(*columns, console=console, transient=True) as bar,
    ):
        expected = response.length  # None where the mirror does not say
        task = bar.add_task(url.rpartition("/")[2], total=expected)
        content = bytearray()
        while len(content) <= _LONGEST and (chunk := response.read(1 << 16)):
            content += chunk
            bar.advance(task, len(chunk))
    if expected is not None and len(content) < expected:
        raise _Unusable(f"broke off after {len(content):,} of {expected:,} bytes")
    return bytes(content)
