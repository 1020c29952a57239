"""A cluster of Ray with two nodes on this machine, and workers of shards as its actors.

Ray's own `Cluster` keeps the nodes, in a process of its own (`python -m tests.support.ray_cluster`), since it forks and
JAX does not allow that. It takes a line for each thing to be done, and answers with one of JSON. Its head keeps what it
knows in the Redis of RAY_REDIS_ADDRESS, so that it can be killed and started again.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

from typer.testing import CliRunner

from tests.support.workers import PATIENCE, Workers

NODE = {"num_cpus": 3, "object_store_memory": 80_000_000}  # shards put nothing into the store
HEAD = {**NODE, "include_dashboard": False, "include_log_monitor": False}


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
        self.ask = ask

    def command(self, what, *flags):
        """What `onlineguard cluster` prints. It must end with exit code 0."""
        code, printed = self.ask(shlex.join(["cluster", what, *flags]))
        assert code == 0, printed
        return printed

    def start_actors(self, n):
        return self.command(
            "start", "--shards", str(n), "--metrics-port", "0", "--metrics-host", "0.0.0.0", *self.flags()
        )

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

    def targets(self):
        """Where their metrics are, as Prometheus is told."""
        return {target for each in json.loads(self.command("status", "--targets")) for target in each["targets"]}

    def kill_actor(self, name):
        os.kill(self.status()[name].pid, signal.SIGKILL)


def serve():
    """Do what standard input says until it ends."""
    from onlineguard_service.cluster import placing
    from ray.cluster_utils import Cluster

    from onlineguard.cli import app as cli

    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    node = cluster.add_node(**NODE)
    try:
        with placing.connected(cluster.address, "onlineguard"):
            placing.connected = lambda address, name: nullcontext()  # the commands find that done
            for line in sys.stdin:
                answer = None
                match shlex.split(line):
                    case ["cluster", *_] as words:
                        ran = CliRunner().invoke(cli.app, words)
                        answer = ran.exit_code, ran.output
                    case ["status"]:
                        answer = {name: told and told._asdict() for name, told in placing.status()}
                    case ["node"]:
                        answer = node.node_id
                    case ["kill", "node"]:
                        cluster.remove_node(node, allow_graceful=False)
                    case ["kill", "head"]:
                        cluster.head_node.kill_gcs_server()
                    case ["start", "head"]:
                        cluster.head_node.start_gcs_server()
                    case words:
                        raise ValueError(words)
                os.write(answers, f"{json.dumps(answer)}\n".encode())
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    answers = os.dup(1)
    os.dup2(2, 1)  # Ray prints
    serve()
