"""The web: a file behind http or https, read once from its beginning, which any server can serve.

A connection that ends before its time is an error, though Python takes it for the end of the file. What a server or
the net refuses is one sentence with a way out.
"""

import base64
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from onlineguard.errors import SourceError

TIMEOUT = 60.0  # seconds without a byte
_REFUSALS = {
    401: "it asks who you are; put the user into the address, https://user:password@host/..., or sign the address",
    403: "it may not be read by everyone, or the signature of the address has run out; ask for a new address",
    429: "it was asked too often; try again later",
}


def shown(url: str) -> str:
    """A URL for people, without its user and without its query, which may be a signature."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextmanager
def opened_url(url: str) -> Generator[BinaryIO]:
    """The bytes behind a URL of http or https. Redirections are followed. Raises OSError, also while it is read."""
    with _answer(url) as answer:
        yield cast(BinaryIO, _Body(answer))


def content_names(url: str) -> list[str]:
    """Names under which a server has the file behind a URL: the one it is saved under, and that of its address.

    Raises SourceError where there is none.
    """
    try:
        with _answer(url) as answer:
            said = answer.headers.get_filename()
            magic = answer.read(4)
            names = [said, urlsplit(answer.url).path, {b"PAR1": "e.parquet"}.get(magic)]
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(f"source {shown(url)} cannot be read: {error}") from error
    return [name for name in names if name]


class _Body:
    """What an answer holds, as a stream that gives what is there and knows whether all of it came."""

    def __init__(self, answer: http.client.HTTPResponse):
        self._answer, self._done = answer, 0
        length = answer.headers.get("Content-Length", "")
        self._whole = int(length) if length.isdigit() else None

    def read(self, size: int = -1) -> bytes:
        try:
            part = self._answer.read1(size) if size >= 0 else self._answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"the connection ended after {self._done:,} bytes ({error!r})") from error
        self._done += len(part)
        if not part and size and self._whole is not None and self._done < self._whole:
            raise OSError(f"the connection ended after {self._done:,} of {self._whole:,} bytes; try again")
        return part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answer, name)


@contextmanager
def _answer(url: str) -> Generator[http.client.HTTPResponse]:
    parts = urlsplit(url)
    request = urllib.request.Request(
        urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")),
        headers={"User-Agent": "onlineguard", "Accept-Encoding": "identity"},
    )
    if parts.username:
        request.add_unredirected_header("Authorization", _basic(parts))
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT, context=ssl.create_default_context())
    except urllib.error.HTTPError as error:
        error.close()
        if 300 <= error.code < 400:
            raise OSError("the server sends from one address to the next without end; look at the address") from None
        advice = _REFUSALS.get(error.code, "try again later" if error.code >= 500 else "look at the address")
        raise OSError(f"the server answers {error.code} {error.reason}: {advice}") from None
    except urllib.error.URLError as error:
        raise OSError(_failure(error.reason, parts)) from None
    except (http.client.HTTPException, UnicodeError, ValueError) as error:
        raise OSError(f"it is no address that can be asked: {error}") from None
    with answer:
        yield answer


def _basic(parts: SplitResult) -> str:
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(user.encode()).decode()


def _failure(reason: object, parts: SplitResult) -> str:
    """Why no answer came, and what to do."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {parts.hostname} is not trusted: {reason.verify_message}; where the server has one of "
            "its own, name the file of its authority in the variable SSL_CERT_FILE"
        )
    if isinstance(reason, ssl.SSLError):
        return f"{parts.hostname} does not speak TLS as is expected ({reason.reason}); try http://"
    if isinstance(reason, TimeoutError):
        return f"{parts.hostname} does not answer within {TIMEOUT:g} s"
    said = getattr(reason, "strerror", None) or str(reason)
    return f"{parts.hostname} cannot be reached: {said}; look at the address, or set HTTPS_PROXY"
