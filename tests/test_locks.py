"""A lock is one process's at a time, and free again however that process ends."""

import math
import os
import signal
import subprocess
import sys
import threading

import pytest

from onlineguard import locks

HOLDS = "import sys, time\nfrom pathlib import Path\nfrom onlineguard import locks\nlocks.hold(Path(sys.argv[1]), 0)\n"
HOLDS += "print('held', flush=True)\ntime.sleep(60)"


def test_a_lock_that_is_held_is_refused_at_once_and_free_when_it_is_closed(tmp_path):
    first = locks.hold(tmp_path / "lock", 0.0)
    with pytest.raises(BlockingIOError, match="another process holds it"):
        locks.hold(tmp_path / "lock", 0.0)
    os.close(first)
    with locks.held(tmp_path / "lock", 0.0), pytest.raises(BlockingIOError):
        locks.hold(tmp_path / "lock", 0.05)
    os.close(locks.hold(tmp_path / "lock", 0.0))


def test_whoever_waits_has_the_lock_when_its_process_is_killed(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    had = threading.Event()

    def wait():
        with locks.held(tmp_path / "lock", math.inf):
            had.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not had.wait(0.2)
    holder.send_signal(signal.SIGKILL)
    assert had.wait(60)
    waiting.join()
    holder.wait()
    holder.stdout.close()
