"""A worker's machine and Redis's, as two network namespaces of Linux with a cable between them that can be cut."""

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.support import redis_server

REDIS, WORKER, LINK = "10.213.7.1", "10.213.7.2", "cable"
PORT = 6379


class Network:
    """See this module. Redis is at `url` for who is `within`, and at `beside` for all who share its disk."""

    def __init__(self, redis, worker, socket):
        self._redis, self._worker = redis, worker
        self.url, self.beside = f"redis://{REDIS}:{PORT}/0", f"unix://{socket}"
        self.within = ["ip", "netns", "exec", worker]  # before a command: it runs on the worker's machine

    def cut(self):
        """Nothing comes through any more, and neither side is told so."""
        ip("-n", self._redis, "link", "set", LINK, "down")

    def heal(self):
        """What was sent meanwhile comes through late."""
        ip("-n", self._redis, "link", "set", LINK, "up")


@contextmanager
def network():
    """Both machines, with Redis running; skips where no namespace can be made."""
    names = [f"onlineguard-{os.getpid()}-{side}" for side in ("redis", "worker")]
    if shutil.which("ip") is None:
        pytest.skip("ip is not on PATH; install it (e.g. apt-get install iproute2) to run this test")
    redis_server.program()
    made = []
    try:
        try:
            for name in names:
                ip("netns", "add", name)
                made.append(name)
            ip("link", "add", LINK, "netns", names[0], "type", "veth", "peer", "name", LINK, "netns", names[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespace can be made here, which needs root: {error.stderr.strip()}")
        for name, address in zip(names, (REDIS, WORKER), strict=True):
            ip("-n", name, "addr", "add", f"{address}/30", "dev", LINK)
            for link in (LINK, "lo"):
                ip("-n", name, "link", "set", link, "up")
        with tempfile.TemporaryDirectory(prefix="og") as folder, running(names[0], Path(folder)) as socket:
            yield Network(*names, socket)
    finally:
        for name in made:
            ip("netns", "del", name)


@contextmanager
def running(namespace, folder):
    """The socket of a redis-server in a namespace. Its path has to be short."""
    socket = folder / "s"
    command = ["ip", "netns", "exec", namespace, "redis-server", "--port", str(PORT), "--bind", REDIS]
    command += ["--protected-mode", "no", "--save", "", "--dir", str(folder), "--unixsocket", str(socket)]
    with (folder / "redis.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            for _ in range(600):
                if socket.exists():
                    break
                time.sleep(0.05)
            with redis.Redis(unix_socket_path=str(socket)) as client:
                assert client.ping()
            yield socket
        finally:
            process.terminate()


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
