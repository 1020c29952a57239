"""A stand-in for S3: buckets in memory, of which `s3fs` may list, look at and read objects, whole or in ranges."""

import hashlib
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.support.web import Answer, serving

_CHANGED = b"<Message>At least one of the pre-conditions you specified did not hold</Message>"


@contextmanager
def s3(objects: dict[str, bytes], before: Callable[[str], None] = lambda name: None) -> Generator[str]:
    """The address of a server that has these objects, by bucket/key. Keys that begin with "secret" may not be read.

    before: called with the name of an object before each reading of a part of it; it may change the objects.
    """

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        parts = urlsplit(request.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if not any(name.startswith(f"{bucket}/") for name in objects):
            return 404, {}, b"<Error><Code>NoSuchBucket</Code><Message>The bucket does not exist</Message></Error>"
        if not key:
            return _listed(bucket, parse_qs(parts.query), objects)
        if key.startswith("secret"):
            return 403, {}, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        name = f"{bucket}/{key}"
        if request.command == "GET" and name in objects:
            before(name)
        if name not in objects:
            return 404, {}, b"<Error><Code>NoSuchKey</Code><Message>The key does not exist.</Message></Error>"
        content, tag = objects[name], _tag(objects[name])
        if request.headers.get("If-Match", tag) != tag:
            return 412, {}, b"<Error><Code>PreconditionFailed</Code>" + _CHANGED + b"</Error>"
        headers = {"ETag": tag, "Last-Modified": "Sun, 29 Nov 2026 10:00:00 GMT", "Content-Length": str(len(content))}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if part is None:
            return 200, headers, content
        start, stop = int(part[1]), int(part[2] or len(content) - 1) + 1
        body = content[start:stop]
        said = {
            "Content-Range": f"bytes {start}-{start + len(body) - 1}/{len(content)}",
            "Content-Length": str(len(body)),
        }
        return 206, headers | said, body

    with serving(answer) as address:
        yield address


def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _listed(bucket: str, query: dict[str, list[str]], objects: dict[str, bytes]) -> Answer:
    prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
    files, folders = "", dict.fromkeys(())
    for name, content in sorted(objects.items()):
        key = name.removeprefix(f"{bucket}/")
        if not name.startswith(f"{bucket}/{prefix}"):
            continue
        below = key.removeprefix(prefix)
        if delimiter and delimiter in below:
            folders[prefix + below.partition(delimiter)[0] + delimiter] = None
            continue
        files += (
            f"<Contents><Key>{escape(key)}</Key><Size>{len(content)}</Size><ETag>{escape(_tag(content))}</ETag>"
            "<LastModified>2026-11-29T10:00:00.000Z</LastModified></Contents>"
        )
    files += "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders)
    body = f"<ListBucketResult><Name>{bucket}</Name><IsTruncated>false</IsTruncated>{files}</ListBucketResult>"
    return 200, {"Content-Type": "application/xml"}, body.encode()
