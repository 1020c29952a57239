"""A cluster of Ray on this machine, and workers of shards as its actors.

It is kept by a process of its own (`python -m tests.support.ray_cluster`), since it forks and JAX does not allow that.
The process takes a line for each thing to be done, and answers with one of JSON. There are two kinds:

- "two nodes": Ray's own `Cluster`. Its head keeps what it knows in the Redis of RAY_REDIS_ADDRESS, so that it can be
  killed and started again.
- "autoscaled": a head with one CPU, and one GPU that it only claims to have; Ray's autoscaler adds nodes with one CPU
  for whatever finds no room, which its fake provider makes of processes on this machine.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

from typer.testing import CliRunner

from tests.support.workers import PATIENCE, Workers

NODE = {"num_cpus": 3, "object_store_memory": 80_000_000}  # shards put nothing into the store
HEAD = {**NODE, "include_dashboard": False, "include_log_monitor": False}
ADDED = {"CPU": 1, "object_store_memory": NODE["object_store_memory"]}  # nodes of the autoscaler
IDLE = 0.1  # minutes after which they are taken away
HEAD_TYPE = "ray.head.default"  # the name that the fake provider has for it
OURS = "ONLINEGUARD_TEST_RAY"  # a variable that tells the processes of a cluster from others


@contextmanager
def ray_cluster(environment, folder, kind="two nodes"):
    """The function that has the cluster do something."""
    program = [sys.executable, "-m", "tests.support.ray_cluster", kind]
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

    def start_actors(self, n, *flags):
        return self.command(
            "start", "--shards", str(n), "--metrics-port", "0", "--metrics-host", "0.0.0.0", *flags, *self.flags()
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


@contextmanager
def two_nodes():
    """Its address, and what it can do besides what all clusters can."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    node = cluster.add_node(**NODE)
    try:
        yield (
            cluster.address,
            {
                "node": lambda: node.node_id,
                "kill node": lambda: cluster.remove_node(node, allow_graceful=False),
                "kill head": lambda: cluster.head_node.kill_gcs_server(),
                "start head": lambda: cluster.head_node.start_gcs_server(),
            },
        )
    finally:
        cluster.shutdown()


@contextmanager
def autoscaled():
    """The same. Ray's own `AutoscalingCluster` would end every cluster of this machine first."""
    import ray

    port = _free_port()
    address = f"{ray.util.get_node_ip_address()}:{port}"
    types = {
        HEAD_TYPE: {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "max_workers": 0},
        "added": {"resources": ADDED, "node_config": {}, "min_workers": 0, "max_workers": 2},
    }
    lists = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    lists += ("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files")
    config = {
        "cluster_name": "autoscaled",
        "provider": {"type": "fake_multinode", "gcs_address": address, "use_node_id_as_ip": True},
        "head_node_type": HEAD_TYPE,
        "available_node_types": types,
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": IDLE,
        "auth": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in lists},
    }
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "autoscaling.json"
        file.write_text(json.dumps(config))
        flags = {"port": port, "ray-client-server-port": _free_port(), "num-cpus": 1, "num-gpus": 1}
        flags |= {"object-store-memory": NODE["object_store_memory"], "include-dashboard": "false"}
        flags |= {"temp-dir": folder, "autoscaling-config": file}
        ours = {OURS: folder, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        ours["RAY_raylet_start_wait_time_s"] = str(int(PATIENCE))
        program = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head"]
        try:
            subprocess.run(
                [*program, *(f"--{name}={value}" for name, value in flags.items())], env=os.environ | ours, check=True
            )
            yield address, {"nodes": lambda: sum(node["Alive"] for node in ray.nodes())}
        finally:
            ray.shutdown()
            _kill_all(folder)


def _free_port():
    with socket.socket() as found:
        found.bind(("", 0))
        return found.getsockname()[1]


def _kill_all(folder):
    """End a cluster: each of its processes has its folder in the environment."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{OURS}={folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)


def serve(cluster):
    """Do what standard input says until it ends."""
    from onlineguard_service.cluster import placing

    from onlineguard.cli import app as cli

    with cluster as (address, more), placing.connected(address, "onlineguard"):
        placing.connected = lambda address, name: nullcontext()  # the commands find that done
        for line in sys.stdin:
            match shlex.split(line):
                case ["cluster", *_] as words:
                    ran = CliRunner().invoke(cli.app, words)
                    answer = ran.exit_code, ran.output
                case ["status"]:
                    answer = {name: told and told._asdict() for name, told in placing.status()}
                case _:
                    answer = more[line.strip()]()
            os.write(answers, f"{json.dumps(answer)}\n".encode())


if __name__ == "__main__":
    answers = os.dup(1)
    os.dup2(2, 1)  # Ray prints
    serve({"two nodes": two_nodes, "autoscaled": autoscaled}[sys.argv[1]]())
