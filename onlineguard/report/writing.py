"""Text that is safe in a page, and pages written at once or not at all."""

import html
import re
from pathlib import Path

from onlineguard import atomic
from onlineguard.errors import InvalidArgument


def escaped(text: object) -> str:
    """The text, safe anywhere in the page: escaped, and without characters that HTML does not allow."""
    clean = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]", "\ufffd", str(text))
    return html.escape(clean)


def write_page(path: str | Path, page: str) -> None:
    """Replace the file at once, or leave it as it was; raises InvalidArgument where it cannot be written."""
    try:
        atomic.write(path, page.encode())
    except OSError as error:
        raise InvalidArgument(
            f"path is {path}, where no report can be written ({error.strerror}); name a file in a writable folder"
        ) from error
