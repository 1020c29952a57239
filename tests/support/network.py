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


class Cable:
    """Between the namespaces of two machines, which have the addresses `REDIS` and `WORKER`."""

    def __init__(self, *names):
        self.names = names

    def cut(self):
        """Nothing comes through any more, and neither side is told so."""
        ip("-n", self.names[0], "link", "set", LINK, "down")

    def heal(self):
        """What was sent meanwhile comes through late."""
        ip("-n", self.names[0], "link", "set", LINK, "up")


class Network:
    """See this module. Redis is at `url` for who is `within`, and at `beside` for all who share its disk."""

    def __init__(self, cable, socket):
        self.cut, self.heal = cable.cut, cable.heal
        self.url, self.beside = f"redis://{REDIS}:{PORT}/0", f"unix://{socket}"
        self.within = within(cable.names[1])


@contextmanager
def network():
    """Both machines, with Redis running; skips where no namespace can be made."""
    with (
        machines() as cable,
        tempfile.TemporaryDirectory(prefix="og") as folder,
        running(cable.names[0], Path(folder)) as socket,
    ):
        yield Network(cable, socket)


@contextmanager
def machines():
    """The cable between two machines on which nothing runs yet; skips where no namespace can be made."""
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
        yield Cable(*names)
    finally:
        for name in made:
            ip("netns", "del", name)


def within(name):
    """Words before a command that is to run on a machine."""
    return ["ip", "netns", "exec", name]


@contextmanager
def running(namespace, folder, *options, address=REDIS, port=PORT, sentinel=None):
    """The socket of a redis-server in a namespace, a Sentinel if it has settings. Its path has to be short."""
    socket = folder / "s"
    kind = ["--save", ""] if sentinel is None else ["--sentinel"]
    command = [*within(namespace), "redis-server", *([] if sentinel is None else [str(sentinel)])]
    command += ["--port", str(port), "--bind", address, "--protected-mode", "no", "--dir", str(folder), *kind]
    command += ["--unixsocket", str(socket), *options]
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
