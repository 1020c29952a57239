"""`python slow_disk.py FILE ARGUMENTS...`: `python -m onlineguard` on a disk that stands still while a file exists."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from onlineguard.__main__ import main


def standing_still(sync: Callable[[int], None], stall: Path) -> Callable[[int], None]:
    def slow(file: int) -> None:
        while stall.exists():
            time.sleep(0.02)
        sync(file)

    return slow


if __name__ == "__main__":
    path = Path(sys.argv.pop(1))
    os.fdatasync, os.fsync = standing_still(os.fdatasync, path), standing_still(os.fsync, path)
    main()
