"""A primary on one machine with a Sentinel, and two replicas on another with two, between which the cable is cut."""

import os
from contextlib import ExitStack, contextmanager

import redis

from tests.support.network import REDIS, WORKER, machines, running, within
from tests.support.redis_failover import NAME, SETTINGS, until

SENTINELS = [(REDIS, 26_379), (WORKER, 26_379), (WORKER, 26_380)]
PORTS = (6_379, 6_380)  # of the two replicas


class Apart:
    """See this module. This process, and whoever it starts, is on the machine of the replicas."""

    def __init__(self, cable, primary, replicas):
        self.cut, self.heal = cable.cut, cable.heal
        self.afar = within(cable.names[0])  # before a command: it runs on the machine of the primary
        self.primary, self.replicas = primary, replicas  # clients
        hosts = ",".join(f"{host}:{port}" for host, port in SENTINELS)
        self.url = f"redis+sentinel://{hosts}/{NAME}/0"

    def promoted(self):
        """Whether a replica took over, which has the other one as its replica."""
        told = [each.info("replication") for each in self.replicas]
        return any(each["role"] == "master" and each["connected_slaves"] for each in told)

    def demoted(self):
        """Whether the primary of before is a replica that has all."""
        return self.primary.info("replication").get("master_link_status") == "up"


@contextmanager
def cut_sentinels(folder):
    """All of it, until the block ends; skips where no namespace can be made. The folder's path has to be short."""
    with ExitStack() as ending:
        cable = ending.enter_context(machines())
        old, new = cable.names

        def start(namespace, address, port, *options, sentinel=None):
            own = folder / f"{address}-{port}"
            own.mkdir()
            if sentinel is not None:
                (own / "conf").write_text(sentinel)
            settings = None if sentinel is None else own / "conf"
            place = running(namespace, own, *options, address=address, port=port, sentinel=settings)
            return ending.enter_context(redis.Redis(unix_socket_path=str(ending.enter_context(place))))

        primary = start(old, REDIS, PORTS[0], *SETTINGS)
        ending.enter_context(moved(new))
        of = ["--replicaof", f"{REDIS} {PORTS[0]}", *SETTINGS]
        replicas = [start(new, WORKER, port, *of) for port in PORTS]
        until(lambda: all(each.info("replication")["master_link_status"] == "up" for each in replicas))
        settings = (
            f"sentinel monitor {NAME} {REDIS} {PORTS[0]} 2\n"
            f"sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 3000\n"
        )
        sentinels = [start(old if host == REDIS else new, host, port, sentinel=settings) for host, port in SENTINELS]
        for each in sentinels:
            until(lambda each=each: len(each.sentinel_slaves(NAME)) == len(replicas))
            until(lambda each=each: len(each.sentinel_sentinels(NAME)) == len(sentinels) - 1)
        yield Apart(cable, primary, replicas)


@contextmanager
def moved(namespace):
    """This thread, and those and the processes that it starts, are on another machine until the block ends."""
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{namespace}") as other:
        os.setns(other.fileno(), os.CLONE_NEWNET)
        try:
            yield
        finally:
            os.setns(before.fileno(), os.CLONE_NEWNET)
