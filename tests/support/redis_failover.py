"""A Redis with a replica and a Sentinel that has it promoted, all of them real processes."""

import os
import signal
import time
from contextlib import ExitStack, contextmanager, suppress

import redis

from tests.support.redis_server import serving

NAME = "ours"
PATIENCE = 60.0  # seconds
SETTINGS = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]


class Failover:
    """See this module. `url` is that of the primary, whichever it is."""

    def __init__(self, primary, replica, sentinel):
        self.primary, self.replica, self.sentinel = primary, replica, sentinel  # ports
        self.url = f"redis+sentinel://127.0.0.1:{sentinel}/{NAME}/0"

    def ask(self, port, *command):
        with redis.Redis(port=port) as client:
            return client.execute_command(*command)

    def replicated(self):
        """Wait until the replica has all that the primary has."""
        with redis.Redis(port=self.primary) as client:
            client.set("replicated", 1)  # what is waited for is what this connection wrote
            assert client.wait(1, int(PATIENCE * 1_000)) == 1

    def part(self):
        """The replica hears no more of the primary, and keeps what it has; the Sentinel does not know of it."""
        self.replicated()
        self.ask(self.sentinel, "SENTINEL REMOVE", NAME)
        self.ask(self.replica, "REPLICAOF", "NO", "ONE")

    def promote(self):
        """Have the Sentinel name the replica, which is a primary by now."""
        self.ask(self.sentinel, "SENTINEL MONITOR", NAME, "127.0.0.1", str(self.replica), "1")

    def kill_primary(self):
        """By SIGKILL. The Sentinel notices, unless it was told otherwise, and has the replica promoted."""
        with redis.Redis(port=self.primary) as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)

    def named(self):
        """The port of the primary that the Sentinel names."""
        _, port = self.ask(self.sentinel, "SENTINEL GET-MASTER-ADDR-BY-NAME", NAME)
        return int(port)


@contextmanager
def failing_over(folder):
    """Both, and the Sentinel, until the block ends."""
    with ExitStack() as servers:

        def start(name, *options, sentinel=None):
            (folder / name).mkdir()
            return servers.enter_context(serving(folder / name, *options, sentinel=sentinel))

        primary = start("primary", *SETTINGS)
        replica = start("replica", *SETTINGS, "--replicaof", f"127.0.0.1 {primary}")
        until(lambda: redis.Redis(port=replica).info("replication")["master_link_status"] == "up")
        file = folder / "sentinel.conf"
        file.write_text(
            f"sentinel monitor {NAME} 127.0.0.1 {primary} 1\n"
            f"sentinel down-after-milliseconds {NAME} 500\n"
            f"sentinel failover-timeout {NAME} 5000\n"
        )
        sentinel = start("sentinel", sentinel=file)
        found = Failover(primary, replica, sentinel)
        until(lambda: redis.Redis(port=sentinel).sentinel_slaves(NAME))
        yield found


def until(holds):
    end = time.monotonic() + PATIENCE
    while True:
        with suppress(redis.ConnectionError):
            if holds():
                return
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.02)
