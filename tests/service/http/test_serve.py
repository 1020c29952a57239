import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from onlineguard_service.http import auth

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "support" / "serve_double.py"
EVENT = {"slice": "a", "x": [1.0]}


@contextmanager
def process(
    seconds: float, *flags: str, script: tuple[str, ...] = (str(SCRIPT),)
) -> Generator[tuple[subprocess.Popen[str], str]]:
    """A started service whose core opens in so many seconds, and its address as it says it; killed at the end."""
    command = [sys.executable, *script, str(seconds), "--port", "0", *flags]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        assert line.startswith("listens on "), line + (started.stderr.read() if started.stderr and not line else "")
        yield started, line.split()[2].rstrip(",")
    finally:
        started.kill()
        started.communicate()


def ready(address: str) -> None:
    for _ in range(600):
        if httpx2.get(f"{address}/readyz").status_code == 200:
            return
        time.sleep(0.05)
    raise AssertionError("not ready after 30 s")


def test_it_listens_at_once_answers_when_ready_and_stops_with_0():
    with process(2.0) as (started, address):
        assert httpx2.get(f"{address}/livez").status_code == 200
        assert httpx2.get(f"{address}/readyz").status_code == 503
        early = httpx2.post(f"{address}/v1/update", json=EVENT)
        assert (early.status_code, early.headers["retry-after"]) == (503, "1")
        ready(address)
        assert httpx2.post(f"{address}/v1/update", json=EVENT).json()["score"] == 1.0
        with httpx2.Client(base_url=address) as client:
            client.get("/livez")  # this connection stays open
            time.sleep(0.3)  # the loop is looked at every 0.1 s
            told = client.get("/metrics").text
        assert "onlineguard_ready 1.0" in told
        assert "onlineguard_connections 1.0" in told
        assert re.search(r"onlineguard_loop_lag_seconds_count [1-9]", told)
        started.send_signal(signal.SIGTERM)
        out, err = started.communicate(timeout=60)
        assert started.returncode == 0
        told = out.splitlines()
        assert "journal is kept in onlineguard-state" in told[0]
        assert "simulated clicks" in told[1]
        assert told[2].startswith(f"try: curl -s {address}/v1/update ")
        assert told[3] == f"page: {address}/"
        assert told[4] == "closed after 1"
        assert [json.loads(line)["message"] for line in err.splitlines()] == [
            "stopping",
            "stopped; nothing that was answered is lost",
        ]


def test_it_serves_and_stops_without_uvloop():
    code = f"import runpy, sys; sys.modules['uvloop'] = None; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    with process(0.0, script=("-c", code)) as (started, address):
        ready(address)
        assert httpx2.post(f"{address}/v1/update", json=EVENT).json()["score"] == 1.0
        started.send_signal(signal.SIGTERM)
        out, _ = started.communicate(timeout=60)
        assert (started.returncode, out.splitlines()[-1]) == (0, "closed after 1")


def test_the_line_that_is_told_to_try_works():
    with process(0.0) as (started, address):
        ready(address)
        assert started.stdout is not None
        lines = [started.stdout.readline() for _ in range(4)]
        line = next(line for line in lines if line.startswith("try: ")).removeprefix("try: ")
        answer = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=30)
        assert json.loads(answer.stdout)["slice"] == "web"


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_request_under_way_is_finished_before_it_stops(name):
    with process(0.0) as (started, address):
        ready(address)
        answers: list[httpx2.Response] = []
        slow = {"slice": "slow", "x": [7.0]}
        asking = threading.Thread(target=lambda: answers.append(httpx2.post(f"{address}/v1/update", json=slow)))
        asking.start()
        while "a slow request" not in started.stdout.readline():
            pass
        started.send_signal(name)
        out, _ = started.communicate(timeout=60)
        asking.join(30)
        assert started.returncode == 0
        assert [answer.json()["score"] for answer in answers] == [7.0]
        assert "closed after 1" in out


def test_a_lame_duck_says_so_and_still_takes_requests():
    with process(0.0, "--drain", "1.5") as (started, address):
        ready(address)
        started.send_signal(signal.SIGTERM)
        while httpx2.get(f"{address}/readyz").status_code == 200:
            time.sleep(0.02)
        assert httpx2.post(f"{address}/v1/update", json=EVENT).status_code == 200  # on a new connection
        out, _ = started.communicate(timeout=60)
        assert (started.returncode, out.splitlines()[-1]) == (0, "closed after 1")


def test_keys_are_read_again_on_sighup_and_a_wrong_file_changes_nothing(tmp_path):
    keys = tmp_path / "keys.toml"
    first, second = (auth.new_key(name, ["update"]) for name in ("first", "second"))
    keys.write_text(first[1])

    def asked(key: str) -> int:
        return httpx2.post(f"{address}/v1/update", json=EVENT, headers={"x-api-key": key}).status_code

    def reloaded() -> str:
        started.send_signal(signal.SIGHUP)
        assert started.stderr is not None
        return json.loads(started.stderr.readline())["message"]

    with process(0.0, "--keys", str(keys)) as (started, address):
        ready(address)
        assert (asked(first[0]), asked(second[0])) == (200, 401)
        keys.write_text(second[1])
        assert reloaded().startswith("read again")
        assert (asked(first[0]), asked(second[0])) == (401, 200)
        keys.write_text("[nobody]")
        assert "needs key_sha256" in reloaded()
        assert asked(second[0]) == 200


def test_a_second_signal_ends_it_at_once():
    with process(0.0) as (started, address):
        ready(address)
        slow = {"slice": "slow", "x": [7.0]}

        def ask() -> None:
            with pytest.raises(httpx2.TransportError):
                httpx2.post(f"{address}/v1/update", json=slow)

        asking = threading.Thread(target=ask)
        asking.start()
        while "a slow request" not in started.stdout.readline():
            pass
        started.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        started.send_signal(signal.SIGTERM)
        out, _ = started.communicate(timeout=60)
        asking.join(30)
        assert started.returncode == 128 + signal.SIGTERM
        assert "closed" not in out


def test_a_signal_while_the_state_is_recovered_ends_with_0():
    with process(1_000.0) as (started, address):
        assert httpx2.get(f"{address}/livez").status_code == 200
        started.send_signal(signal.SIGTERM)
        out, _ = started.communicate(timeout=60)
        assert (started.returncode, "closed" in out) == (0, False)


def test_a_state_that_cannot_be_read_is_one_line_and_2():
    with process(-1.0) as (started, _):
        _, err = started.communicate(timeout=60)
        assert started.returncode == 2
        assert err.splitlines()[-1] == "error: the state cannot be read: made so by a test"


def test_a_port_that_is_taken_is_one_line_and_2():
    with process(0.0) as (_, address):
        port = address.rpartition(":")[2]
        second = [sys.executable, str(SCRIPT), "0", "--port", port]
        result = subprocess.run(second, capture_output=True, text=True, timeout=120)
        assert result.returncode == 2
        assert f"--port {port} cannot be listened on: Address already in use" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_certificate_that_cannot_be_used_is_one_line_and_2(tmp_path):
    (tmp_path / "c.pem").write_text("nonsense")
    flags = ["--tls-cert", str(tmp_path / "c.pem"), "--tls-key", str(tmp_path / "c.pem")]
    result = subprocess.run([sys.executable, str(SCRIPT), "0", *flags], capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert result.stderr.startswith("error: --tls-cert ")
    assert len(result.stderr.splitlines()) == 1


def test_open_to_the_world_without_keys_is_warned_of():
    with process(0.0, "--host", "0.0.0.0") as (started, address):
        ready(address)
        started.terminate()
        _, err = started.communicate(timeout=60)
        assert json.loads(err.splitlines()[0])["level"] == "warning"
        assert "no --keys are given" in err
