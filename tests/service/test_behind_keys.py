"""The real service behind TLS and keys: who is let in, what each sees, and what is kept of them."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2
import numpy as np
import pyarrow as pa
import pytest
from backports import zstd

from onlineguard.wire import arrow
from tests.support.attacked import ASKED, MIB, learned_beside, memory
from tests.support.keys import keys_file
from tests.support.real import Service
from tests.support.tables import stream

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").exists(), reason="memory is read in /proc")]

EACH = 20  # connections of one address
FLOODING = 16  # of them, of one client
USERS = 'onlineguard_evicted_total{kind="users"}'


def certificate(folder, name):
    """A certificate of this machine and its key, in files of this name."""
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    command += f" -subj /CN={name} -addext subjectAltName=IP:127.0.0.1 -out {paths[0]} -keyout {paths[1]}"
    subprocess.run(command.split(), check=True, capture_output=True, timeout=60)
    return paths


class House:
    """The service, those whom it knows, and how they come in."""

    def __init__(self, folder, environment, model_folder):
        self.folder = folder
        self.first, self.second, self.client = (certificate(folder, name) for name in ("first", "second", "client"))
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.use(self.first)
        path, self.keys = keys_file(
            folder,
            {"acme": "acme", "umbrella": "umbrella"},
            operator=["score", "update", "admin"],
            flooder=["score", "update"],
            acme=["score", "update"],
            umbrella=["score", "update"],
        )
        self.service = Service(
            folder, environment, "--model", str(model_folder), "--n-features", "2", "--detector", "marginal",
            "--snapshot-every", "3600", "--keys", str(path), "--tls-cert", str(self.cert), "--tls-key", str(self.key),
            "--tls-clients", str(self.client[0]), "--connections-each", str(EACH), "--max-slices", "200",
            "--max-entities", "10000", "--remember", "1000", "--history", "off",
            key=self.keys["operator"], tls=self.trusting(self.client),
        )  # fmt: skip

    def use(self, pair):
        """Have the service find this certificate the next time that it looks."""
        for path, of in zip((self.cert, self.key), pair, strict=True):
            path.write_bytes(of.read_bytes())

    def trusting(self, own=None):
        """Trusts both certificates of the service, and shows one of its own."""
        context = ssl.create_default_context(cafile=self.first[0])
        context.load_verify_locations(self.second[0])
        if own is not None:
            context.load_cert_chain(*own)
        return context

    def of(self, name):
        """A client with the key of this name."""
        return httpx2.Client(
            base_url=self.service.url, headers={"x-api-key": self.keys[name]}, verify=self.service.tls, timeout=60
        )

    def shown(self):
        """The certificate that the service shows to a new connection, in PEM."""
        with self.connected() as connection:
            return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True))

    def connected(self):
        """A connection over TLS that waits for half a minute at most."""
        plain = socket.create_connection(("127.0.0.1", self.service.port), timeout=30)
        return self.trusting(self.client).wrap_socket(plain, server_hostname="127.0.0.1")

    def figure(self, line):
        """A number in /metrics, by the beginning of its line."""
        with self.of("operator") as client:
            return float(re.search(rf"^{re.escape(line)} (\S+)", client.get("/metrics").text, re.MULTILINE)[1])


@pytest.fixture(scope="module")
def house(tmp_path_factory, environment, model_folder):
    house = House(tmp_path_factory.mktemp("house"), environment, model_folder)
    house.service.start()
    yield house
    house.service.kill()


def until(holds):
    """Wait for it; fails after half a minute."""
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    pytest.fail("it did not come to that")


def test_who_shows_no_certificate_or_another_authoritys_is_refused(house):
    for own in (None, house.second):
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"{house.service.url}/livez", verify=house.trusting(own))
    assert httpx2.get(f"{house.service.url}/livez", verify=house.trusting(house.client)).status_code == 200


def test_a_new_certificate_is_shown_after_sighup_and_a_broken_one_leaves_the_old_in_force(house):
    assert house.shown() == house.first[0].read_text()
    with house.of("operator") as open_before:
        assert open_before.get("/readyz").status_code == 200
        house.use(house.second)
        assert house.shown() == house.first[0].read_text()  # nothing happens by itself
        house.service.process.send_signal(signal.SIGHUP)
        until(lambda: house.shown() == house.second[0].read_text())
        for broken in (b"no certificate", house.first[0].read_bytes()):  # and one whose key is another's
            house.cert.write_bytes(broken)
            before = house.service.log.read_text().count("not read again, the old ones stay: --tls-cert ")
            house.service.process.send_signal(signal.SIGHUP)
            until(lambda n=before: house.service.log.read_text().count("the old ones stay: --tls-cert ") == n + 1)
            assert house.shown() == house.second[0].read_text()
        assert open_before.get("/readyz").status_code == 200


def test_handshakes_that_never_end_are_bounded_and_others_are_let_in(house):
    files = Path(f"/proc/{house.service.process.pid}/fd")
    waiting = []
    try:
        for number in range(3 * EACH):
            waiting.append(socket.create_connection(("127.0.0.1", house.service.port)))
            if number % 2:
                waiting[-1].sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # the beginning of one
        time.sleep(1.0)
        assert len(os.listdir(files)) < 2 * EACH + 40
        with socket.socket() as other:
            other.bind(("127.0.0.2", 0))
            other.connect(("127.0.0.1", house.service.port))
            other.settimeout(30)
            with house.trusting(house.client).wrap_socket(other, server_hostname="127.0.0.1") as connection:
                connection.sendall(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        closed = 0
        for connection in waiting:
            connection.settimeout(0.01)
            with suppress(TimeoutError):
                try:
                    closed += connection.recv(1) == b""
                except ConnectionResetError:
                    closed += 1
        assert closed >= 2 * EACH
    finally:
        for connection in waiting:
            connection.close()
    until(lambda: len(os.listdir(files)) < 40)
    assert house.shown()


def test_namespaces_see_and_change_nothing_of_each_other_over_http(house):
    with house.of("acme") as acme, house.of("umbrella") as umbrella, house.of("operator") as operator:
        first = acme.post("/v1/update", json={"slice": "web", "x": [1.0, 2.0], "id": "one"})
        assert first.status_code == 200
        other = umbrella.post("/v1/update", json={"slice": "web", "x": [9.0, 9.0], "id": "one"})
        assert other.status_code == 200  # the id is its own
        assert acme.post("/v1/update", json={"slice": "web", "x": [9.0, 9.0], "id": "one"}).status_code == 409
        assert acme.post("/v1/update", json={"slice": "only acme", "x": [1.0, 2.0]}).status_code == 200
        assert acme.get("/v1/slices/only%20acme?of=events").status_code == 200
        for client in (umbrella, operator):
            assert client.get("/v1/slices/only%20acme?of=events").status_code == 404
        listed = {name: client.get("/v1/slices").json()["total"] for name, client in [("a", acme), ("u", umbrella)]}
        assert listed == {"a": 2, "u": 1}
        inside = operator.get("/v1/slices", headers={"x-namespace": "acme"}).json()
        assert {row["slice"] for row in inside["slices"]} == {"web", "only acme"}
        assert operator.get("/v1/slices", headers={"x-namespace": "nobody"}).status_code == 404
        assert acme.get("/v1/slices", headers={"x-namespace": "umbrella"}).status_code == 403
        for path in ("/metrics", "/v1/live", "/v1/alarms/stream", "/v1/model"):
            assert acme.get(path).status_code in (403, 405)
        assert operator.get("/v1/slices?of=events").json()["total"] == 0
    assert house.figure('onlineguard_namespace_slices{namespace="acme"}') == 2.0


def test_what_an_admin_does_is_a_line_of_the_log_with_the_key_and_the_address(house):
    with house.of("operator") as operator, house.of("acme") as acme:
        assert operator.post("/v1/snapshot", headers={"x-request-id": "who-was-it"}).status_code == 200
        assert acme.post("/v1/snapshot").status_code == 403
    lines = [json.loads(line) for line in house.service.log.read_text().splitlines() if line.startswith("{")]
    told = [line for line in lines if line["logger"] == "onlineguard_service.audit"]
    assert [(line["route"], line["key"], line["address"]) for line in told] == [
        ("/v1/snapshot", "operator", "127.0.0.1")
    ]
    assert told[0]["request_id"] == "who-was-it"
    assert house.keys["operator"] not in house.service.log.read_text()


def test_alarms_come_as_server_sent_events_and_a_reader_goes_on_where_it_was(house):
    numbers = np.random.default_rng(0).normal(size=(400, 2)).tolist()
    with house.of("operator") as operator:

        def sent(slice_, *xs):
            assert operator.post("/v1/update", json=[{"slice": slice_, "x": x} for x in xs]).status_code == 200

        def read(count, **headers):
            """So many alarms, and the id of the last one."""
            found, last = [], ""
            with operator.stream("GET", "/v1/alarms/stream", headers=headers) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                for line in answer.iter_lines():
                    if line.startswith(": no news") and not headers and not found:
                        sent("shop", [1e6, -1e6])  # once it listens
                    last = line.removeprefix("id: ") if line.startswith("id: ") else last
                    if line.startswith("data: {"):
                        found.append(json.loads(line.removeprefix("data: ")))
                        if len(found) == count:
                            return found, last
            raise AssertionError("it ended")

        sent("shop", *numbers)
        (alarm,), last = read(1)
        assert (alarm["slice"], alarm["state"], alarm["kind"]) == ("shop", "open", "anomaly")
        sent("other shop", *numbers, [1e6, -1e6])  # while nobody reads
        found, _ = read(1, **{"last-event-id": last})
        assert [each["slice"] for each in found] == ["other shop"]
        assert operator.get(f"/v1/alarms/{alarm['id']}").json()["slice"] == "shop"


def test_tables_of_arrow_come_and_go_packed_and_say_what_json_says(house):
    rows = [{"slice": f"s{n % 5}", "x": [0.5 * n, -1.0], "id": f"arrow {n}"} for n in range(200)]
    with house.of("operator") as operator:
        plain = operator.post("/v1/score", json=rows)
        body = zstd.compress(stream(pa.Table.from_pylist(rows)))
        headers = {"content-type": arrow.MEDIA, "content-encoding": "zstd", "accept": arrow.MEDIA}
        answer = operator.post("/v1/score", content=body, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (200, arrow.MEDIA)
        assert arrow.table(answer.content).to_pylist() == plain.json()


def test_entities_and_slices_are_evicted_at_their_bound_and_memory_stays(house):
    def flood(number, size):
        clicks = [
            {
                **{"click_id": f"c{number}.{n}", "ts": 1_790_000_000_000 + 12_000 * number + n, "user_agent": "u"},
                **{"user_id": f"u{number}.{n}", "session_id": f"s{number}.{n}", "ad_id": f"a{number}.{n}"},
                **{"ip": f"10.{number}.{n >> 8}.{n & 255}", "device": "phone", "marketplace": "US", "logged_in": True},
            }
            for n in range(size)
        ]
        for start in range(0, len(clicks), 4_000):
            answer = operator.post("/v1/clicks", json=clicks[start : start + 4_000])
            assert answer.status_code == 200, answer.text

    with house.of("operator") as operator:
        flood(0, 12_000)  # fills what the others have to push out
        flood(1, 4_000)
        before, evicted = memory(house.service), house.figure(USERS)
        flood(2, 4_000)
        flood(3, 4_000)
        until(lambda: house.figure(USERS) >= evicted + 4_000)
        assert house.figure('onlineguard_entities{kind="users"}') <= 10_000
        assert memory(house.service) - before < 40 * MIB
        events = [{"slice": f"slice {n}", "x": [1.0, 2.0]} for n in range(1_000)]
        assert operator.post("/v1/update", json=events).status_code == 200
    until(lambda: house.figure('onlineguard_slices_evicted_total{of="events"}') >= 800.0)
    assert 100.0 < house.figure('onlineguard_slices{of="events"}') <= 200.0 + 3.0  # and three in namespaces


def test_of_two_keys_at_one_address_one_is_answered_however_much_the_other_has_outstanding(house):
    """How much of the flood has been learned by then is what the answers tell: it is no matter of time."""
    with house.of("operator") as operator, ExitStack() as held:
        assert operator.post("/v1/update", json={"slice": "flood", "x": [1.0, 2.0]}).status_code == 200
        flooder, mine = (f"x-api-key: {house.keys[name]}\r\n" for name in ("flooder", "operator"))
        flooding = {held.enter_context(house.connected()): [flooder] * 12 for _ in range(FLOODING)}
        learned = learned_beside(flooding, held.enter_context(house.connected()), mine)
    assert learned[-1] - learned[0] < ASKED * 2 * 256  # in shared turns each would wait for a part of every connection


def test_beside_handshakes_that_are_completed_over_and_over_others_are_answered_and_nothing_is_left(house):
    files, over, completed = Path(f"/proc/{house.service.process.pid}/fd"), threading.Event(), []
    context = house.trusting(house.client)

    def storm():
        while not over.is_set():
            with suppress(OSError), socket.create_connection(to, 30, ("127.0.0.2", 0)) as plain:
                context.wrap_socket(plain, server_hostname="127.0.0.1").close()
                completed.append(1)

    to, storms = ("127.0.0.1", house.service.port), [threading.Thread(target=storm, daemon=True) for _ in range(8)]
    before, open_before = memory(house.service), len(os.listdir(files))
    for thread in storms:
        thread.start()
    try:
        with house.of("operator") as operator:
            answered = 0
            while len(completed) < 400 or answered < 40:
                assert operator.post("/v1/update", json={"slice": "web", "x": [1.0, 2.0]}).status_code == 200
                answered += 1
    finally:
        over.set()
        for thread in storms:
            thread.join(60)
    assert memory(house.service) - before < 40 * MIB
    until(lambda: len(os.listdir(files)) <= open_before + 2)
