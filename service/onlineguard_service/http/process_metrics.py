"""What the operating system and Python say of this process, under the names that Prometheus' own libraries use."""

import gc
import os
import time
from pathlib import Path

from onlineguard_service.http.exposition import Exposition

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None

_STARTED = time.time()  # when this module was imported, a moment after the process began
_PROC = Path("/proc/self")


def tell(into: Exposition) -> None:
    """Add the families. Where there is no /proc, those are left out that come from there."""
    into.gauge("start_time_seconds", "When the process began, in seconds since 1970.", _STARTED, "process_")
    used = os.times()
    into.counter("cpu_seconds", "Time of processors that was used.", used.user + used.system, "process_")
    if resource is not None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        into.gauge("max_fds", "Files and connections that may be open.", most, "process_")
    if _PROC.exists():
        pages = (_PROC / "statm").read_bytes().split()
        size = os.sysconf("SC_PAGE_SIZE")
        into.gauge("virtual_memory_bytes", "Memory that is mapped.", int(pages[0]) * size, "process_")
        into.gauge("resident_memory_bytes", "Memory that is held.", int(pages[1]) * size, "process_")
        into.gauge("open_fds", "Files and connections that are open.", len(os.listdir(_PROC / "fd")), "process_")
    collections = {str(generation): float(stat["collections"]) for generation, stat in enumerate(gc.get_stats())}
    into.counters("gc_collections", "Collections of garbage, by generation.", "generation", collections, "python_")
