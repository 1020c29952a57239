"""The real service as a process of its own: `python -m onlineguard serve`, started, asked, killed and started again."""

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import numpy as np
import pytest


class Service:
    """A service on a port of its own, and those who send to it. Its state outlives the process.

    `environment` is the fixture of that name, in which later starts compile nothing anew. `tls`: where it speaks TLS,
    what is trusted, and the certificate of those who send.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *flags: str,
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
    ):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self.tls: ssl.SSLContext | bool = True if tls is None else tls
        self.log = folder / "service.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._environment = {**os.environ, **environment}
        self._folder: Path | None = None
        flags = ("--port", str(self.port), "--state", str(folder / "state"), *flags)
        self._command = [sys.executable, "-m", "onlineguard", "serve", *flags]
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def start(self) -> None:
        """Start, and wait until it is ready."""
        self.begin()
        self.wait(200)

    def as_told(self, words: Sequence[str], folder: Path) -> None:
        """Start `onlineguard WORDS` in a folder, on this port, and wait until it is ready."""
        self._command = [sys.executable, "-m", "onlineguard", *words]
        self._environment |= {"ONLINEGUARD_PORT": str(self.port)}
        self._folder = folder
        self.start()

    def begin(self) -> None:
        """Start, without waiting for anything."""
        self._client = httpx2.Client(base_url=self.url, headers=self._headers, timeout=30, verify=self.tls)
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment, cwd=self._folder
            )

    def wait(self, status: int, path: str = "/readyz") -> httpx2.Response:
        """The first answer that has this status; fails if the process has ended, or after two minutes."""
        assert self.process is not None
        for _ in range(2_400):
            with suppress(httpx2.TransportError):
                if (answer := self._client.get(path)).status_code == status:
                    return answer
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        pytest.fail(f"the service did not come to {status}: {self.log.read_text()}", pytrace=False)

    def kill(self) -> None:
        """As a crash does."""
        if self.process is not None:
            self.process.kill()
            self._ended(30)

    def terminate(self) -> int:
        """The exit status after SIGTERM."""
        assert self.process is not None
        self.process.terminate()
        return self._ended(60)

    def _ended(self, seconds: float) -> int:
        assert self.process is not None
        status = self.process.wait(seconds)
        self._client.close()
        self.process = None
        return status

    def get(self, path: str) -> Any:
        """The JSON that it answers."""
        return self._client.get(path).raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        """The JSON that it answers."""
        headers = {"content-type": "application/json"}
        answer = self._client.post(path, content=msgspec.json.encode(body), headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def events(self, slice_: Any, numbers: Sequence[float]) -> list[dict[str, Any]]:
        """The answers to events of one number each, as of now."""
        now = time.time_ns() // 1_000_000
        return self.post("/v1/update", [{"slice": slice_, "x": [number], "ts": now} for number in numbers])

    def slice(self, of: str, name: str) -> dict[str, Any]:
        """One slice as it is."""
        return self.get(f"/v1/slices/{name.replace('/', '%2F')}?of={of}")


def usual(n: int, seed: int = 0) -> list[float]:
    """Numbers without anything odd among them."""
    return np.random.default_rng(seed).uniform(-1.0, 1.0, n).tolist()
