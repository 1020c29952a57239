"""A GPU plugin that fails costs one line, and the CPU is used."""

import os
import subprocess
import sys

import pytest

PROGRAM = "from onlineguard import Engine; print(Engine(1).n_slices)"
NO_DRIVER = """
def initialize():
    raise RuntimeError("Unable to load cuPTI. Is it installed?\\nA second line.")
"""
OLD_DRIVER = """
from jax._src import xla_bridge
def broken():
    raise RuntimeError("CUDA driver version is insufficient\\nA second line.")
def initialize():
    xla_bridge.register_backend_factory("onlineguard_fake", broken, priority=500, fail_quietly=False)
"""


def ran(tmp_path, plugin, **variables):
    """A program in a process of its own, on a machine with this plugin."""
    folder = tmp_path / "jax_plugins" / "fake"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(plugin, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, capture_output=True, text=True, env=environment | variables, check=False)


@pytest.mark.parametrize(
    ("plugin", "says"),
    [(NO_DRIVER, "Unable to load cuPTI. Is it installed?"), (OLD_DRIVER, "CUDA driver version is insufficient")],
)
def test_a_driver_that_is_missing_or_too_old_is_one_line_and_the_cpu_is_used(tmp_path, plugin, says):
    done = ran(tmp_path, plugin)
    assert done.stdout == "0\n"
    (line,) = done.stderr.splitlines()
    assert says in line
    assert line.endswith("the CPU is used; update the driver, or uninstall the plugin")


def test_a_platform_that_the_user_named_is_not_replaced(tmp_path):
    done = ran(tmp_path, OLD_DRIVER, JAX_PLATFORMS="onlineguard_fake")
    assert done.returncode == 1
    assert "CUDA driver version is insufficient" in done.stderr
