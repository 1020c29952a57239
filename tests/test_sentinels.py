"""The primary is found by real Sentinels, some of which are down, behind the times, or ask for a password."""

import asyncio
import signal
import subprocess
from contextlib import ExitStack

import pytest
import redis
from onlineguard_service.redis.wire import Wire

from onlineguard import sentinels
from onlineguard.sentinels import connected, connected_async, found
from tests.support.redis_failover import NAME, failing_over
from tests.support.redis_server import serving
from tests.support.under_load import free_port


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with failing_over(tmp_path_factory.mktemp("redis"), sentinels=3, secret=True) as servers:
        yield servers


@pytest.fixture
def patient(monkeypatch):
    """A busy machine takes its time; not for tests in which a Sentinel hangs."""
    monkeypatch.setattr(sentinels, "WAIT", 10.0)
    monkeypatch.setattr(sentinels, "SHORT_WAIT", 10.0)


def ports_by(url):
    """The port of the Redis that each kind of client comes to."""

    async def others():
        wire, client = Wire(url, 10.0), connected_async(url)
        (told,) = await wire.execute([("CONFIG", "GET", "port")])
        answers = [int(told[1]), int((await client.config_get("port"))["port"]), (await found(url))["port"]]
        await wire.close()
        await client.aclose()
        return answers

    with connected(url) as client:
        return [int(client.config_get("port")["port"]), *asyncio.run(others())]


@pytest.mark.slow
def test_every_client_comes_to_the_primary_with_both_passwords_while_a_sentinel_hangs_and_another_is_nowhere(
    servers, monkeypatch
):
    monkeypatch.setattr(sentinels, "SHORT_WAIT", sentinels.WAIT)  # on a busy machine
    url = servers.url.replace("@", "@127.0.0.1:1,", 1)
    servers.signal(servers.sentinels[0], signal.SIGSTOP)
    try:
        assert ports_by(url) == [servers.primary] * 4
    finally:
        servers.signal(servers.sentinels[0], signal.SIGCONT)


def test_a_sentinel_that_names_another_primary_since_it_missed_a_failover_is_not_believed(tmp_path, patient):
    with ExitStack() as stack:

        def start(name, sentinel=None):
            (tmp_path / name).mkdir()
            return stack.enter_context(serving(tmp_path / name, sentinel=sentinel))

        before, after = start("before"), start("after")
        ports = []
        for name, port, epoch in (("behind", before, 3), ("agreed", after, 4), ("unknowing", None, 0)):
            file = tmp_path / f"{name}.conf"
            named = f"sentinel monitor {NAME} 127.0.0.1 {port} 2\nsentinel config-epoch {NAME} {epoch}\n"
            file.write_text(named if port else "")
            ports.append(start(name, file))
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        assert ports_by(f"redis+sentinel://{hosts}/{NAME}") == [after] * 4


@pytest.mark.slow
def test_why_no_primary_is_found_is_told_of_each_sentinel_and_no_password_is(servers, patient):
    port, hung = servers.sentinels[2], servers.url
    wrong = hung.replace("watch%40it", "wrong").replace(f":{servers.sentinels[1]}", ":1")
    with pytest.raises(redis.ConnectionError) as error:
        connected(wrong).ping()
    told = str(error.value)
    assert f"no Sentinel names a primary '{NAME}'" in told
    assert f"127.0.0.1:{port}: invalid username-password pair" in told
    assert "127.0.0.1:1: Error 111" in told
    assert "s/cret" not in told
    assert "wrong" not in told
    with pytest.raises(ConnectionError, match=f"127.0.0.1:{port} knows none of that name"):
        asyncio.run(found(servers.url.replace(f"/{NAME}/", "/another/")))


@pytest.mark.slow
def test_with_tls_both_the_sentinel_and_the_primary_are_known_by_their_certificate(tmp_path, patient):
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    files = {"--tls-cert-file": "cert.pem", "--tls-key-file": "key.pem", "--tls-ca-cert-file": "cert.pem"}
    cert = tmp_path / "cert.pem"
    subprocess.run([*command.split(), "-keyout", tmp_path / "key.pem", "-out", cert], check=True, capture_output=True)
    tls = [part for flag, name in files.items() for part in (flag, str(tmp_path / name))]
    with ExitStack() as stack:

        def start(name, sentinel=None):
            """Its port without TLS, and with it."""
            (tmp_path / name).mkdir()
            secure = free_port()
            options = [*tls, "--tls-auth-clients", "no", "--tls-replication", "yes", "--tls-port", str(secure)]
            return stack.enter_context(serving(tmp_path / name, *options, sentinel=sentinel)), secure

        plain, primary = start("primary")
        file = tmp_path / "sentinel.conf"
        file.write_text(f"sentinel monitor {NAME} 127.0.0.1 {primary} 1\n")
        _, sentinel = start("sentinel", file)
        url = f"rediss+sentinel://127.0.0.1:{sentinel}/{NAME}?ssl_ca_certs={cert}"
        assert ports_by(url) == [plain] * 3 + [primary]
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            connected(url.partition("?")[0]).ping()
