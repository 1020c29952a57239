"""JAX's persistent cache: a program is compiled once a machine, and every later process loads it.

The programs are kept in the user's cache folder, or in the folder that the environment variable
`ONLINEGUARD_COMPILATION_CACHE` names; `off` keeps none. JAX names an entry by the program, the versions and flags of
its compiler and the features of the processor, so an entry is only found where compiling would give the same code.
The cache then serves every JAX program of this process. A cache that the user has configured in JAX is left alone.
"""

import logging
import os
import secrets
import stat
import sys
import time
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

import jax

_log = logging.getLogger(__name__)

VARIABLE = "ONLINEGUARD_COMPILATION_CACHE"
OFF = "off"
WRITING = 60.0  # seconds; an empty entry that is older was left by a process that died while it wrote it


@cache
def keep_programs() -> Path | None:
    """Switch the cache on, unless the user has one or wants none, and give its folder; None where there is none.

    Call it before the first program is compiled; later calls cost nothing. A folder that cannot be written, or that
    another user could write, is not used: JAX runs the code it finds there.
    """
    if jax.config.jax_compilation_cache_dir is not None or not jax.config.jax_enable_compilation_cache:
        return None
    folder = _folder()
    if folder is None:
        return None
    if not _usable(folder):
        if VARIABLE in os.environ:
            _log.warning(
                "%s is %s, a folder that only this user must be able to write; programs are not kept", VARIABLE, folder
            )
        return None
    _remove_rests(folder)
    # Several processes may write and read one entry at once. The one that finds a part of it compiles for itself.
    for doing in ("reading", "writing"):
        warnings.filterwarnings("ignore", f"Error {doing} persistent compilation cache entry")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # an engine has many small programs
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def _folder() -> Path | None:
    named = os.environ.get(VARIABLE, "")
    if named:
        return None if named == OFF else Path(named).absolute()
    if sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        caches = "~/Library/Caches"
    else:
        caches = os.environ.get("XDG_CACHE_HOME", "")
        caches = caches if os.path.isabs(caches) else "~/.cache"  # a relative one is to be ignored, says its standard
    folder = Path(os.path.expanduser(caches))
    return folder / "onlineguard" / "programs" if folder.is_absolute() else None  # a user may have no home


def _usable(folder: Path) -> bool:
    """Whether this user can write there, and nobody else."""
    probe = folder / f".{os.getpid()}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        if sys.platform != "win32" and (about.st_uid != os.geteuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
            return False
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def _remove_rests(folder: Path) -> None:
    """Remove the empty entries, which JAX would try to load, and complain about, at every start."""
    oldest = time.time() - WRITING
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            about = entry.stat()
            if about.st_size == 0 and about.st_mtime < oldest:
                os.unlink(entry.path)
