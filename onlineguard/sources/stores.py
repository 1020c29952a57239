"""Stores: files on object stores and whatever else fsspec opens, each failure of theirs an OSError of one sentence."""

import errno
import glob
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import fsspec

_ADVICE = {  # for errors of the clouds' own clients, by their names
    "NoCredentialsError": "log in, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or for what everyone may read set "
    """FSSPEC_S3='{"anon": true}'""",
    "EndpointConnectionError": "look at the region, and at AWS_ENDPOINT_URL",
    "PermissionError": "these credentials may not read it; name others, or ask for the permission",
}


def files_of(url: str, wanted: Callable[[str], bool]) -> tuple[Any, dict[str, int | None]]:
    """The file system of a URL and the sizes of the files that it stands for: one, those of a pattern or of a folder.

    wanted: says of a file of a folder, by its name there, whether it is one to be read. Raises OSError, ValueError for
    a scheme that nobody knows, ImportError where its package is missing.
    """
    try:
        system, path = cast(tuple[Any, str], fsspec.core.url_to_fs(url))
        if glob.has_magic(path) and not system.exists(path):
            names = [name for name in system.glob(path) if system.isfile(name)]
        elif system.isdir(path):
            names = [name for name in system.find(path) if wanted(name.removeprefix(path))]
        else:
            names = [path]
        return system, {name: system.size(name) for name in names}
    except (ImportError, ValueError):
        raise
    except Exception as error:
        raise OSError(_sentence(error)) from error


@contextmanager
def opened_file(system: Any, name: str) -> Generator[BinaryIO]:
    """The bytes of a file."""
    try:
        stream = system.open(name, "rb")
    except Exception as error:
        raise OSError(_sentence(error)) from error
    with stream:
        yield cast(BinaryIO, _Stream(stream))


class _Stream:
    def __init__(self, stream: Any):
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except Exception as error:
            if isinstance(error, FileNotFoundError) or getattr(error, "errno", None) == errno.EBUSY:
                raise OSError("it was changed or removed while it was read; read it again, or a copy of it") from error
            raise OSError(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    said = " ".join((getattr(error, "strerror", None) or str(error)).split())
    if isinstance(error, FileNotFoundError) and " " not in said:  # only the name
        said = "there is no such file"
    advice = _ADVICE.get(type(error).__name__)
    return (said or type(error).__name__) + (f"; {advice}" if advice else "")
