"""A redis-server of the tests' own, on a free port, with nothing written to disk."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

CI = os.environ.get("CI") == "true"


def program() -> str:
    """Where redis-server is; skips where there is none, and fails where CI=true."""
    binary = shutil.which("redis-server")
    if binary is None:
        reason = "redis-server is not on PATH; install it (e.g. apt-get install redis-server) to run this test"
        if CI:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return binary


@contextmanager
def serving(folder: Path, *options: str, port: int | None = None, sentinel: Path | None = None) -> Generator[int]:
    """The port of a running redis-server, by default a free one; skips where there is none, and fails where CI=true.

    sentinel: its settings, where it is to be a Sentinel.
    """
    binary = program()
    port = port or _free_port()
    listening = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    kind = ["--save", ""] if sentinel is None else ["--sentinel"]
    command = [binary, *([] if sentinel is None else [str(sentinel)]), *listening, *kind, *options]
    with (folder / "redis.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_for(port, process, folder)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    """A free port, of which the one 10,000 higher is free too: a cluster talks there."""
    for port in range(20_000 + 7 * (os.getpid() % 4_000), 55_535):
        with socket.socket() as probe, socket.socket() as other, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port
    pytest.fail("no port below 55,535 is free", pytrace=False)


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    client = redis.Redis(port=port, retry=Retry(NoBackoff(), 0))
    for _ in range(200):
        try:
            if client.ping():
                client.close()
                return
        except redis.AuthenticationError:  # it asks for a password, so it is there
            return
        except redis.ConnectionError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
    pytest.fail(f"redis-server did not start: {(folder / 'redis.log').read_text()}", pytrace=False)
