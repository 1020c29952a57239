"""A Redis with a replica and Sentinels that have it promoted, all of them real processes."""

import os
import signal
import time
from contextlib import ExitStack, contextmanager, suppress

import redis

from tests.support.redis_server import serving

NAME = "ours"
PATIENCE = 60.0  # seconds
SETTINGS = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
PASSWORD = "s/cret"  # of Redis, where it has one
WATCHER = {"username": "watcher", "password": "watch@it"}  # of Sentinels that ask who one is
_SECRET_SETTINGS = ["--requirepass", PASSWORD, "--masterauth", PASSWORD]
_SECRET_SENTINEL = (
    f"user default off\nuser {WATCHER['username']} on >{WATCHER['password']} allchannels +@all\n"
    f"sentinel sentinel-user {WATCHER['username']}\nsentinel sentinel-pass {WATCHER['password']}\n"
    f"sentinel auth-pass {NAME} {PASSWORD}\n"
)


class Failover:
    """See this module. `url` is that of the primary, whichever it is."""

    def __init__(self, primary, replica, sentinels, secret):
        self.primary, self.replica, self.sentinels = primary, replica, sentinels  # ports
        self._processes = {}
        self._secret = secret
        self._own = {"password": PASSWORD} if secret else {}
        self._theirs = WATCHER if secret else {}
        self.query = "?sentinel_user=watcher&sentinel_password=watch%40it" if secret else ""

    @property
    def url(self):
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://{':s%2Fcret@' if self._secret else ''}{hosts}/{NAME}/0{self.query}"

    def client(self, port):
        return redis.Redis(port=port, **(self._theirs if port in self.sentinels else self._own))

    def ask(self, port, *command):
        with self.client(port) as client:
            return client.execute_command(*command)

    def replicated(self):
        """Wait until the replica has all that the primary has."""
        with self.client(self.primary) as client:
            client.set("replicated", 1)  # what is waited for is what this connection wrote
            assert client.wait(1, int(PATIENCE * 1_000)) == 1

    def part(self):
        """The replica hears no more of the primary, and keeps what it has; the Sentinels know of no replica."""
        self.replicated()
        for sentinel in self.sentinels:
            self.ask(sentinel, "SENTINEL REMOVE", NAME)
        self.ask(self.replica, "REPLICAOF", "NO", "ONE")
        until(lambda: self.client(self.primary).info("replication")["connected_slaves"] == 0)
        for sentinel in self.sentinels:
            self._monitor(sentinel, self.primary)

    def promote(self):
        """Have the Sentinels name the replica, which is a primary by now."""
        for sentinel in self.sentinels:
            self.name(sentinel, self.replica)

    def name(self, sentinel, port):
        """Have one Sentinel name a Redis, and know of no failover."""
        self.ask(sentinel, "SENTINEL REMOVE", NAME)
        self._monitor(sentinel, port)

    def _monitor(self, sentinel, port):
        self.ask(sentinel, "SENTINEL MONITOR", NAME, "127.0.0.1", str(port), str(len(self.sentinels)))
        if self._secret:
            self.ask(sentinel, "SENTINEL SET", NAME, "auth-pass", PASSWORD)

    def kill_primary(self):
        """By SIGKILL. The Sentinels notice, unless they were told otherwise, and have the replica promoted."""
        self.signal(self.primary, signal.SIGKILL)

    def signal(self, port, number):
        """To the process that listens there."""
        if port not in self._processes:
            with self.client(port) as client:
                self._processes[port] = client.info("server")["process_id"]
        os.kill(self._processes[port], number)

    def named(self):
        """The port of the primary that the first Sentinel names."""
        _, port = self.ask(self.sentinels[0], "SENTINEL GET-MASTER-ADDR-BY-NAME", NAME)
        return int(port)


@contextmanager
def failing_over(folder, sentinels=1, secret=False):
    """All of it, until the block ends.

    sentinels: how many, of which more than half must agree; several vote again soon after a tie.
    secret: whether Redis and they ask for passwords.
    """
    with ExitStack() as servers:

        def start(name, *options, sentinel=None):
            (folder / name).mkdir()
            return servers.enter_context(serving(folder / name, *options, sentinel=sentinel))

        own = [*SETTINGS, *(_SECRET_SETTINGS if secret else ())]
        primary = start("primary", *own)
        replica = start("replica", *own, "--replicaof", f"127.0.0.1 {primary}")
        ports = []
        found = Failover(primary, replica, ports, secret)
        until(lambda: found.client(replica).info("replication")["master_link_status"] == "up")
        for i in range(sentinels):
            file = folder / f"sentinel{i}.conf"
            file.write_text(
                f"sentinel monitor {NAME} 127.0.0.1 {primary} {sentinels // 2 + 1}\n"
                f"sentinel down-after-milliseconds {NAME} 500\n"
                f"sentinel failover-timeout {NAME} {5_000 if sentinels == 1 else 1_500}\n" + _SECRET_SENTINEL * secret
            )
            ports.append(start(f"sentinel{i}", sentinel=file))
        for port in ports:
            until(lambda port=port: found.client(port).sentinel_slaves(NAME))
            until(lambda port=port: len(found.client(port).sentinel_sentinels(NAME)) == sentinels - 1)
        yield found


def until(holds):
    end = time.monotonic() + PATIENCE
    while True:
        with suppress(redis.ConnectionError):
            if holds():
                return
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.02)
