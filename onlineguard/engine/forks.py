"""Forks: JAX works by threads, of which a process that is forked has none, so it would wait for them for ever.

Linux forks by default up to Python 3.13: `multiprocessing.Pool()` behind an engine that has judged would stand still.
Here it raises an error that names the way out.
"""

import os

from onlineguard.errors import OnlineguardError

_worked = _forked = False  # whether JAX has worked in this process, and whether it had in the one it was forked from


def check_fork() -> None:
    """Note that JAX works here from now on; raises OnlineguardError in a process forked from one in which it did."""
    global _worked
    if _forked:
        raise OnlineguardError(
            "this process was forked from one in which an engine has worked, and JAX does not survive a fork; start "
            "processes by multiprocessing.get_context('spawn') or by joblib, or fork before the first engine is made"
        )
    _worked = True


def _in_child() -> None:
    global _forked
    _forked = _forked or _worked


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
