"""The page at `/`, the description of the API at `/docs`, and their files under `/static/`: sent from memory."""

import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
TYPES["svg"] = "image/svg+xml"

PAGES = {"index.html": "/", "docs.html": "/docs"}

# A page loads from this service alone, and runs no script that stands in the page itself.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def routes() -> list[Route]:
    """The routes `/` and `/docs` and, for every other file of these pages, `/static/NAME`. None needs a key."""
    folder = resources.files("onlineguard_service.http") / "static"
    listed: list[Route] = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        kind = file.name.rpartition(".")[2]
        if kind in TYPES:
            path = PAGES.get(file.name, f"/static/{file.name}")
            listed.append(Route(path, _File(file.read_bytes(), TYPES[kind]).answer, include_in_schema=False))
    return listed


class _File:
    """One file in memory. Its name has no version, so browsers are told to ask each time whether it has changed."""

    def __init__(self, body: bytes, kind: str):
        self._body = body
        self._headers = {
            "content-type": kind,
            "etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
            "cache-control": "no-cache",
            "content-security-policy": POLICY,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        }

    async def answer(self, request: Request) -> Response:
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if self._headers["etag"] in known or "*" in known:
            return Response(status_code=304, headers=self._headers)
        return Response(self._body, headers=self._headers)
