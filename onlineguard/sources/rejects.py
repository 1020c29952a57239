"""Rejected rows, and the file to which they are written."""

import json
from pathlib import Path
from typing import TextIO

from onlineguard.errors import SourceError

_KEPT_TEXT = 2_000  # characters of a rejected row that are written down

Reject = tuple[int, str, str | bytes]  # line number, reason, the row as it stands in the source


class RejectFile:
    """Rejected rows as NDJSON, one {"line", "reason", "text"} each; made with the first of them.

    Raises SourceError where it cannot be written.
    """

    def __init__(self, path: Path):
        self._path = path
        self._file: TextIO | None = None

    def remove(self) -> None:
        """Remove the file of an earlier run."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise self._failure(error) from error

    def write(self, rejects: list[Reject], file: str | None = None) -> None:
        """Append these rows, so that they can be read at once. `file`: theirs, where a source is of several."""
        try:
            self._file = self._file or self._path.open("w", encoding="utf-8")
            for line, reason, text in rejects:
                text = text.decode(errors="backslashreplace") if isinstance(text, bytes) else text
                record = {} if file is None else {"file": file}
                record |= {"line": line, "reason": reason, "text": shortened(text.rstrip("\r\n"), _KEPT_TEXT)}
                self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Close the file, if it was ever made."""
        if self._file is not None:
            self._file.close()

    def _failure(self, error: OSError) -> SourceError:
        return SourceError(
            f"rejects is {self._path}, which cannot be written ({error.strerror}); name a file that can, e.g. in /tmp"
        )


def shortened(text: str, length: int) -> str:
    """The text, its end cut off where it is longer."""
    return text if len(text) <= length else text[: length - 1] + "…"
