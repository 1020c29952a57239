"""What both clients need of httpx2: its settings, its arguments, and its responses as replies."""

import ssl
from pathlib import Path
from typing import Any

import httpx2

from onlineguard.client.conversations import Call, Conversations, Reply
from onlineguard.wire.encodings import Encoding

Verify = bool | str | Path | ssl.SSLContext
Certificate = str | tuple[str, str]


class Connected[H: (httpx2.Client, httpx2.AsyncClient)]:
    """A client's conversations, and the connections that they are held over."""

    _kind: type[H]

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 10.0,
        retries: int = 5,
        backoff: float = 0.1,
        batch: int = 1_000,
        verify: Verify = True,
        cert: Certificate | None = None,
        encoding: Encoding | None = None,
    ):
        self._conversations = Conversations(base_url, api_key, timeout, retries, backoff, batch, encoding)
        self.base_url = self._conversations.base_url
        self._http: H = self._kind(
            base_url=self.base_url, headers=self._conversations.headers, timeout=timeout, verify=_trust(verify, cert)
        )


def arguments(call: Call) -> dict[str, Any]:
    """The arguments of `request` for a call."""
    headers = {"Accept": call.accept}
    if call.body is not None:
        headers["Content-Type"] = call.media
    if call.encoding is not None:
        headers["Content-Encoding"] = call.encoding
    return {
        "method": call.method,
        "url": call.path,
        "content": call.body,
        "params": dict(call.query),
        "headers": headers,
    }


def reply(response: httpx2.Response) -> Reply:
    """The reply in a response."""
    retry_after = response.headers.get("Retry-After", "")
    return Reply(response.status_code, response.reason_phrase, retry_after, response.content)


def _trust(verify: Verify, cert: Certificate | None) -> ssl.SSLContext | bool:
    """httpx2's `verify`: whom to trust, with the client's own certificate if there is one."""
    if isinstance(verify, ssl.SSLContext):
        context = verify
    elif isinstance(verify, bool) and cert is None:
        return verify
    else:
        context = ssl.create_default_context(cafile=None if isinstance(verify, bool) else str(verify))
        if verify is False:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if cert is not None:
        context.load_cert_chain(*((cert,) if isinstance(cert, str) else cert))
    return context
