"""Where the digits of the MNIST experiment come from, and what is said when they do not come.

Small made files stand in for those of MNIST, and a server on this machine for the mirrors.
"""

import dataclasses
import gzip
import hashlib
import os
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from experiments.common import ExperimentError
from experiments.mnist_drift import data

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 4), np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 10
IMAGES_NAME, LABELS_NAME = (file.name for file in data.TRAINING)


def idx(array):
    """An IDX file of unsigned bytes."""
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


PACKED = {IMAGES_NAME: gzip.compress(idx(IMAGES)), LABELS_NAME: gzip.compress(idx(LABELS))}


class Mirror:
    """Answers `/path` with what `answers` has for it: bytes, or a function that writes to the request's handler."""

    def __init__(self):
        self.answers, self.asked = {}, []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.asked.append(self.path)
                answer = mirror.answers.get(self.path, 404)
                if isinstance(answer, bytes):
                    answer = sends(answer, len(answer))
                if isinstance(answer, int):
                    self.send_error(answer)
                else:
                    answer(self)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def offer(self, folder, files=PACKED):
        self.answers |= {f"/{folder}/{name}.gz": content for name, content in files.items()}

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def sends(content, length):
    """An answer that announces `length` bytes, or with None nothing, and sends `content`."""

    def answer(handler):
        handler.send_response(200)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


@pytest.fixture
def small(monkeypatch):
    """The made files instead of those of MNIST, for training and test alike."""
    files = tuple(
        dataclasses.replace(file, shape=array.shape, sha256=hashlib.sha256(idx(array)).hexdigest())
        for file, array in zip(data.TRAINING, (IMAGES, LABELS), strict=True)
    )
    monkeypatch.setattr(data, "TRAINING", files)
    monkeypatch.delenv(data.VARIABLE, raising=False)


@pytest.fixture
def cache(small, tmp_path, monkeypatch):
    """The folder of the cache, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "onlineguard" / "mnist"


@pytest.fixture
def mirror(cache, monkeypatch):
    """A server with two mirrors, /a/ and then /b/, both still empty."""
    mirror = Mirror()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(data, "MIRRORS", (f"{mirror.url}/a/", f"{mirror.url}/b/"))
    yield mirror
    mirror.close()


@pytest.fixture
def no_network(monkeypatch):
    def reached(*args, **kwargs):
        raise AssertionError("the network was tried")

    monkeypatch.setattr("urllib.request.urlopen", reached)


@pytest.fixture
def folder(small, tmp_path):
    """A folder with the made files, packed."""
    return fill(tmp_path / "digits")


def fill(folder, files=PACKED):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"{name}.gz").write_bytes(content)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def said(*args, **kwargs):
    """The error of loading, which is one line."""
    with pytest.raises(ExperimentError) as caught:
        data.load(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def is_made(digits):
    return (digits.images == IMAGES.astype(np.float32) / np.float32(255)).all() and (digits.labels == LABELS).all()


# The real files


@pytest.mark.parametrize(
    ("test", "source", "counts"),
    [
        (False, "MNIST, 60,000 training images", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        (True, "MNIST, 10,000 test images", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_mnist_has_the_published_number_of_each_digit(data_dir, test, source, counts):
    digits = data.load(data_dir / "mnist", quick=False, test=test)
    assert digits.source == source
    assert digits.images.shape == (sum(counts), 28, 28)
    assert digits.images.dtype == np.float32
    assert digits.labels.dtype == np.int64
    assert np.bincount(digits.labels).tolist() == counts
    assert (digits.images.min(), digits.images.max()) == (0.0, 1.0)


def test_the_training_images_have_the_mean_and_deviation_that_everyone_standardises_by(data_dir):
    images = data.load(data_dir, quick=False).images
    assert images.mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)
    assert images.std(dtype=np.float64) == pytest.approx(0.3081, abs=5e-5)


# Where they come from


def test_files_may_be_packed_or_not_whatever_their_name_says_and_lie_in_a_folder_mnist(small, tmp_path, no_network):
    unpacked = {name: gzip.decompress(content) for name, content in PACKED.items()}
    assert is_made(data.load(fill(tmp_path / "packed"), quick=False))
    assert is_made(data.load(fill(tmp_path / "browser", unpacked), quick=False))
    assert is_made(data.load(fill(tmp_path / "all" / "mnist").parent, quick=False))
    for path in fill(tmp_path / "plain", unpacked).iterdir():
        path.rename(path.with_suffix(""))
    assert is_made(data.load(tmp_path / "plain", quick=False))


@pytest.mark.parametrize("quick", [False, True])
def test_the_folder_given_goes_before_the_one_of_the_environment(folder, quick, tmp_path, monkeypatch, no_network):
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "others"))
    broken = fill(tmp_path / "others" / "mnist", {IMAGES_NAME: b"", LABELS_NAME: b""})
    assert is_made(data.load(folder, quick))
    assert str(broken) in said(None, quick)
    fill(tmp_path / "good" / "mnist")
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "good"))
    assert is_made(data.load(None, quick))


def test_a_quick_run_without_a_folder_takes_the_small_digits_whatever_the_cache_holds(cache, no_network, monkeypatch):
    fill(cache)
    training, test = data.load(None, quick=True), data.load(None, quick=True, test=True)
    assert training.source == "8x8 digits of scikit-learn, 1,500 training images"
    assert test.source == "8x8 digits of scikit-learn, 297 test images"
    for digits in (training, test):
        assert digits.images.shape == (len(digits.labels), 8, 8)
        assert (digits.images.dtype, digits.labels.dtype) == (np.float32, np.int64)
        assert (digits.images.min(), digits.images.max()) == (0.0, 1.0)
        assert set(digits.labels.tolist()) == set(range(10))
    monkeypatch.setenv(data.VARIABLE, str(cache))  # has no folder mnist in it
    assert data.load(None, quick=True).source == training.source


def test_a_full_run_fills_the_cache_once_and_then_needs_no_network(mirror, cache, capsys):
    mirror.offer("a")
    assert is_made(data.load(None, quick=False))
    assert contents(cache) == {f"{name}.gz": content for name, content in PACKED.items()}
    assert str(cache) in capsys.readouterr().err
    asked = list(mirror.asked)
    assert asked == [f"/a/{IMAGES_NAME}.gz", f"/a/{LABELS_NAME}.gz"]
    assert is_made(data.load(None, quick=False))
    assert mirror.asked == asked


def test_the_cache_is_in_the_home_without_an_absolute_xdg_cache_home(monkeypatch, tmp_path, small, no_network):
    fill(tmp_path / ".cache" / "onlineguard" / "mnist")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert is_made(data.load(None, quick=False))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert is_made(data.load(None, quick=False))


# Mirrors that fail

BAD_ANSWERS = {
    "no such file": (404, "answered 404 Not Found"),
    "a server error": (500, "answered 500 Internal Server Error"),
    "a page of a hotel": (b"<html>Welcome</html>", "begins with the bytes 3c 68 74 6d, expected 00 00 08 03"),
    "other images": (gzip.compress(idx(IMAGES[::-1])), "its SHA-256 is "),
    "half of it": (sends(PACKED[IMAGES_NAME][:90], len(PACKED[IMAGES_NAME])), "broke off after 90 of "),
    "half of it, of no announced length": (sends(PACKED[IMAGES_NAME][:90], None), "gzip data break off after 90 bytes"),
    "nothing": (b"", "it is empty"),
    "no answer": (lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), "broke off"),
}


@pytest.mark.parametrize(("answer", "what"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_the_next_mirror_is_taken_if_one_fails_and_nothing_is_kept_if_all_do(mirror, cache, answer, what):
    mirror.offer("a", {IMAGES_NAME: answer})
    message = said(None, quick=False)
    assert re.search(f"/a/{IMAGES_NAME}.gz [^;]*{re.escape(what)}", message)
    assert f"/b/{IMAGES_NAME}.gz answered 404" in message
    assert contents(cache) == {}
    mirror.offer("b")
    assert is_made(data.load(None, quick=False))
    assert contents(cache) == {f"{name}.gz": content for name, content in PACKED.items()}


def test_a_mirror_that_never_answers_is_given_up(mirror, cache, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(data, "MIRRORS", (f"http://127.0.0.1:{silent.getsockname()[1]}/",))
        monkeypatch.setattr(data, "TIMEOUT", 0.05)
        assert "timed out" in said(None, quick=False)
    assert contents(cache) == {}


def test_a_mirror_that_sends_without_end_is_given_up(mirror, cache, monkeypatch):
    monkeypatch.setattr(data, "_LONGEST", 1 << 20)

    def endless(handler):
        sends(b"\x1f\x8b", None)(handler)
        try:
            while True:
                handler.wfile.write(bytes(1 << 16))
        except OSError:
            pass  # they hung up

    mirror.offer("a", {IMAGES_NAME: endless})
    mirror.offer("b")
    assert is_made(data.load(None, quick=False))


def test_without_folder_and_network_the_error_names_what_was_tried_and_the_way_out(mirror, cache, monkeypatch):
    mirror.close()
    message = said(None, quick=False)
    for url in data.MIRRORS:
        assert f"{url}{IMAGES_NAME}.gz was not reached" in message
    assert f"{data.VARIABLE} is not set" in message
    assert str(cache) in message
    assert "--data DIR" in message
    assert contents(cache) == {}
    monkeypatch.setenv(data.VARIABLE, str(cache))
    assert f"{data.VARIABLE} names no folder with `mnist` in it" in said(None, quick=False)


# Downloads that are interrupted


def test_an_interrupted_transfer_leaves_the_files_that_are_whole(mirror, cache, monkeypatch):
    mirror.offer("a")

    def interrupted(bar, task, received):
        if LABELS_NAME in bar.tasks[task].description:
            raise KeyboardInterrupt

    monkeypatch.setattr("rich.progress.Progress.advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.load(None, quick=False)
    assert mirror.asked[-1] == f"/a/{LABELS_NAME}.gz"
    assert contents(cache) == {f"{IMAGES_NAME}.gz": PACKED[IMAGES_NAME]}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_file_that_is_not_yet_in_its_place_is_removed(mirror, cache, monkeypatch, error):
    mirror.offer("a")
    written = []

    def broken(source, target):
        written.append(source.read_bytes())
        raise error

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises((KeyboardInterrupt, ExperimentError), match=r"^$|No space left on device.*--data DIR"):
        data.load(None, quick=False)
    assert written == [PACKED[IMAGES_NAME]]
    assert contents(cache) == {}


def test_a_cache_that_cannot_be_written_is_said_before_the_download(cache, tmp_path, no_network):
    (tmp_path / "cache").write_text("mine")
    message = said(None, quick=False)
    assert str(cache) in message
    assert "XDG_CACHE_HOME" in message
    assert (tmp_path / "cache").read_text() == "mine"


def test_a_user_without_a_home_is_told_to_name_a_cache(small, monkeypatch, no_network):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert "XDG_CACHE_HOME" in said(None, quick=False)


# Files that are not as they should be

WHOLE = idx(IMAGES)
WRONG_IMAGES = {
    "empty": (b"", "is not the IDX file .*: it is empty, expected 00 00 08 03"),
    "text": (b"P5 28 28", "is not the IDX file .* bytes 50 35 20 32, expected 00 00 08 03"),
    "labels": (idx(LABELS), "is not the IDX file .* bytes 00 00 08 01, expected 00 00 08 03"),
    "header cut": (WHOLE[:15], "is truncated: it has 15 bytes unpacked, expected 208"),
    "cut": (WHOLE[:-1], "is truncated: it has 207 bytes unpacked, expected 208"),
    "cut, then packed": (gzip.compress(WHOLE[:-1]), "is truncated: it has 207 bytes unpacked, expected 208"),
    "packed, then cut": (PACKED[IMAGES_NAME][:-1], "is truncated: its gzip data break off after .* bytes"),
    "too long": (WHOLE + b"\0", "is too long: it has over 208 bytes unpacked, expected 208"),
    "too long, packed": (gzip.compress(WHOLE + bytes(99)), "is too long: it has over 208 bytes"),
    "a bit flipped": (PACKED[IMAGES_NAME][:-8] + b"\1\2\3\4" + PACKED[IMAGES_NAME][-4:], "is damaged: .*CRC"),
    "gzip of nothing": (b"\x1f\x8b" + bytes(30), "is damaged: "),
    "too few": (idx(IMAGES[:-1]), "wrong counts: it says it holds 11 x 4 x 4 pixels, expected 12 x 4 x 4 pixels"),
    "too large": (idx(np.zeros((12, 5, 5), np.uint8)), "wrong counts: it says it holds 12 x 5 x 5 pixels"),
    "a header that asks for all memory": (WHOLE[:4] + b"\xff" * 12, "wrong counts: it says it holds 4,294,967,295 x"),
    "other images": (idx(IMAGES[::-1]), "is not the file of MNIST: unpacked its SHA-256 is [0-9a-f]{64}, expected "),
}
WRONG_LABELS = {
    "fewer than images": (idx(LABELS[:-2]), "wrong counts: it says it holds 10 labels, expected 12 labels"),
    "no digit": (idx(np.where(LABELS == 7, 17, LABELS).astype(np.uint8)), "label 17 at index 7, expected 0 to 9"),
    "other labels": (idx(LABELS[::-1]), "is not the file of MNIST: unpacked its SHA-256 is [0-9a-f]{64}, expected "),
}
WRONG = [
    pytest.param(name, content, what, id=f"{name.split('-')[1]}: {case}")
    for name, cases in ((IMAGES_NAME, WRONG_IMAGES), (LABELS_NAME, WRONG_LABELS))
    for case, (content, what) in cases.items()
]


@pytest.mark.parametrize(("name", "content", "what"), WRONG)
def test_a_wrong_file_is_named_with_what_it_has_what_was_expected_and_the_way_out(folder, name, content, what):
    path = folder / f"{name}.gz"
    path.write_bytes(content)
    before = contents(folder)
    for quick in (False, True):
        message = said(folder, quick)
        assert message.startswith(f"{path} ")
        assert re.search(what, message)
        assert message.endswith("--data DIR")
    assert contents(folder) == before


def test_a_wrong_file_in_the_cache_is_to_be_deleted(cache, no_network):
    fill(cache, PACKED | {LABELS_NAME: b"?"})
    message = said(None, quick=False)
    assert message.startswith(f"{cache / LABELS_NAME}.gz is not the IDX file")
    assert message.endswith("delete it to have it downloaded again")


def test_a_missing_file_or_folder_is_named(folder, tmp_path):
    (folder / f"{LABELS_NAME}.gz").unlink()
    assert f"{LABELS_NAME}.gz is needed, packed or unpacked, and {folder} has no such file" in said(folder, quick=False)
    nowhere = tmp_path / "nowhere"
    assert f"{nowhere} is no folder; name the folder" in said(nowhere, quick=True)


def test_a_file_that_may_not_be_read_is_named(folder, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", forbidden)
    assert f"{IMAGES_NAME}.gz cannot be read: Permission denied; put the original" in said(folder, quick=False)
