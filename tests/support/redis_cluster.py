"""A Redis Cluster of real processes, whose primaries may have replicas that take over."""

import os
import signal
from contextlib import ExitStack, contextmanager

import numpy as np
import redis

from tests.support.redis_failover import until
from tests.support.redis_server import serving

SLOTS = 16_384
SETTINGS = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": "2000",
    "cluster-replica-validity-factor": "0",  # a replica takes over however old what it has is
    "repl-diskless-sync-delay": "0",
    "repl-ping-replica-period": "1",
}


class Node:
    """One process. It may be killed, and started again with what it knows of the cluster."""

    def __init__(self, folder, stack):
        folder.mkdir()
        self._folder, self._stack = folder, stack
        self.port = None
        self.start()
        self.client = stack.enter_context(redis.Redis(port=self.port))
        self.id = self.client.execute_command("CLUSTER", "MYID").decode()

    def start(self):
        options = [part for name, value in SETTINGS.items() for part in (f"--{name}", value)]
        self.port = self._stack.enter_context(serving(self._folder, *options, port=self.port))

    def kill(self):
        os.kill(self.client.info("server")["process_id"], signal.SIGKILL)

    def ask(self, *command):
        return self.client.execute_command(*command)

    def role(self):
        return self.client.info("replication")["role"]

    def replicas(self):
        """How many are connected to it."""
        return self.client.info("replication")["connected_slaves"]

    def replicated(self):
        """Wait until its replicas have all that it has."""
        told = self.client.info("replication")
        until(lambda: _acknowledged(self.client) >= told["master_repl_offset"])

    def part(self):
        """Its replicas hear no more of it, and keep what they have; whoever is connected stays so."""
        self.replicated()
        self.client.config_set("requirepass", "new")
        self.client.client_kill_filter(_type="replica")


@contextmanager
def cluster(folder, n=3, replicated=False):
    """The nodes of a cluster of n primaries, which divide the slots evenly, and after them a replica of each."""
    with ExitStack() as ending:
        nodes = [Node(folder / f"{i}", ending) for i in range(2 * n if replicated else n)]
        ends = np.linspace(0, SLOTS, n + 1).astype(int).tolist()
        for node, begin, end in zip(nodes[:n], ends[:-1], ends[1:], strict=True):
            node.ask("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        for node in nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        for primary, replica in zip(nodes[:n], nodes[n:], strict=False):
            until(lambda replica=replica, primary=primary: primary.id in str(replica.ask("CLUSTER", "NODES")))
            replica.ask("CLUSTER", "REPLICATE", primary.id)
        until(lambda: all("ok" in str(node.ask("CLUSTER INFO")["cluster_state"]) for node in nodes))
        if replicated:
            until(lambda: all(node.replicas() for node in nodes[:n]))
            ids = [node.id for node in nodes]  # all of which every node must know, to vote for it
            until(lambda: all(id in str(node.ask("CLUSTER", "NODES")) for node in nodes for id in ids))
        yield nodes


def _acknowledged(client):
    told = client.info("replication")
    return min((about["offset"] for name, about in told.items() if name.startswith("slave") and name[5:].isdecimal()))
