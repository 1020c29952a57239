"""What a history holds once its writer has the folder: what was written before fits the journal."""

import logging
import os
from pathlib import Path

from onlineguard.slidr.history.keeping import ASIDE
from onlineguard.slidr.history.layout import KINDS, parts

_log = logging.getLogger("onlineguard.history")


def forget(root: Path, source: str, after: int, newest: int) -> None:
    """Remove the files of entries after the snapshot, which the replay brings again. Those of entries that the journal
    no longer has are set aside."""
    for unfinished in root.glob(f"*/day=*/.*{source}.parquet.*.tmp"):
        unfinished.unlink()
    for kind in KINDS:
        for part in parts(root, kind):
            if part.source != source or part.last <= after:
                continue
            if part.last <= newest:
                part.path.unlink()
                continue
            aside = root / ASIDE / kind / part.path.parent.name
            aside.mkdir(parents=True, exist_ok=True)
            os.replace(part.path, aside / part.path.name)
            _log.warning(
                "the journal has lost entries up to %d, which the history has: %s is set aside", part.last, part.path
            )
