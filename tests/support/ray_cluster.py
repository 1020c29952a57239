"""A cluster of Ray with two nodes on this machine, and workers of shards as its actors.

The head has room for one actor, the other node for two. Ray's own `Cluster` keeps the nodes, in a process of its own
(`python -m tests.support.ray_cluster`), since it forks and JAX does not allow that. It takes a line for each thing to
be done, and answers with one of JSON.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

from tests.support.workers import PATIENCE, Workers

NODE = {"object_store_memory": 80_000_000}  # shards put nothing there


@contextmanager
def ray_cluster(environment, folder):
    """The function that has the cluster do something."""
    program = [sys.executable, "-m", "tests.support.ray_cluster"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        (folder / "ray.log").open("w") as log,
        subprocess.Popen(program, **pipes, stderr=log, env=os.environ | environment) as process,
    ):

        def ask(what):
            process.stdin.write(f"{what}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer, (folder / "ray.log").read_text()
            return json.loads(answer)

        try:
            yield ask
        finally:
            process.stdin.close()
            process.wait(PATIENCE)


class Actors(Workers):
    """See `Workers`: those of a deployment on Ray. `ask` has the cluster do something."""

    def __init__(self, ask, *given):
        super().__init__(*given)
        self.ask, self.address = ask, ask("address")

    def command(self, what, *flags):
        """What `onlineguard cluster` says on standard output. It must end with exit code 0."""
        command = [sys.executable, "-m", "onlineguard", "cluster", what, "--address", self.address, *flags]
        environment = os.environ | self.environment | {"COLUMNS": "200"}
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def start_actors(self, n):
        return self.command("start", "--shards", str(n), *self.flags())

    def status(self):
        """What each actor tells, by its name; None of one that does not answer."""
        return {name: told and SimpleNamespace(**told) for name, told in self.ask("status").items()}

    def shared(self, n):
        """Wait until there are so many actors, and each of them is ready and has partitions; how they are."""
        found = {}

        def holds():
            found.clear()
            found.update(self.status())
            return len(found) == n and all(told and told.partitions and not told.reason for told in found.values())

        self.until(holds)
        return found

    def kill_actor(self, name):
        """Kill it, and wait until Ray has started it again."""
        pid = self.status()[name].pid
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: (told := self.status()[name]) is not None and told.pid != pid)


def serve():
    """Do what standard input says until it ends."""
    from onlineguard_service.cluster import placing
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **NODE})
    node = cluster.add_node(num_cpus=2, **NODE)
    try:
        with placing.connected(cluster.address, "onlineguard"):
            for line in sys.stdin:
                answer = None
                match line.strip():
                    case "address":
                        answer = cluster.address
                    case "status":
                        answer = {name: told and told._asdict() for name, told in placing.status()}
                    case "node":
                        answer = node.node_id
                    case "kill node":
                        cluster.remove_node(node, allow_graceful=False)
                    case "add node":
                        node = cluster.add_node(num_cpus=2, **NODE)
                    case "kill head":
                        cluster.head_node.kill_gcs_server()
                    case "start head":
                        cluster.head_node.start_gcs_server()
                os.write(answers, f"{json.dumps(answer)}\n".encode())
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    answers = os.dup(1)
    os.dup2(2, 1)  # Ray prints
    serve()
