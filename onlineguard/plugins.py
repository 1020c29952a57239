"""JAX's plugin for GPUs on a machine whose driver is missing or too old: one line says so, and the CPU is used.

JAX prints the traceback of a plugin that fails, at every start, though all goes on without it; and of one whose driver
is too old it raises an error at the first array. Nothing is changed where plugins load, nor where the user has named
the platforms to use (`JAX_PLATFORMS`).
"""

import logging
import re
from typing import Any

import jax

_log = logging.getLogger(__name__)
_jax_log = logging.getLogger("jax._src.xla_bridge")  # where JAX says that a plugin failed
WAY_OUT = "the CPU is used; update the driver, or uninstall the plugin"


def say_failures_in_one_line() -> None:
    """Shorten what JAX says of plugins that fail. Call it before the first array is made; more calls change nothing."""
    _jax_log.addFilter(_shortened)


def devices() -> list[Any]:
    """`jax.devices()`, those of the CPU where the first choice fails and the user has not made it."""
    try:
        return jax.devices()
    except RuntimeError as error:
        if jax.config.jax_platforms:
            raise
        found = re.sub(r" \(you may need to .*", "", str(error).partition("\n")[0])
        _log.warning("%s; %s", found, WAY_OUT)
        jax.config.update("jax_platforms", "cpu")
        return jax.devices()


def _shortened(record: logging.LogRecord) -> bool:
    """The record, without a traceback if it is of a plugin."""
    if record.exc_info and "plugin" in record.getMessage():
        error = record.exc_info[1]
        plugin = record.args[0] if isinstance(record.args, tuple) and record.args else "a plugin"
        record.msg, record.args = "JAX cannot load %s: %s; %s", (plugin, str(error).partition("\n")[0], WAY_OUT)
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True
