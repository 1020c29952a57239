"""Text that is safe in a page, and pages written at once or not at all."""

import html
import os
import re
from pathlib import Path

from onlineguard.errors import InvalidArgument


def escaped(text: object) -> str:
    """As it may stand anywhere in the page: escaped, and without characters that HTML does not know."""
    clean = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]", "\ufffd", str(text))
    return html.escape(clean)


def write_page(path: str | Path, page: str) -> None:
    """Replace the file at once, or leave it as it was; raises InvalidArgument where it cannot be written."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            temporary.write_text(page, encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidArgument(
            f"path is {path}, where no report can be written ({error.strerror}); name a file in a folder that can be"
        ) from error
