"""Webhook: an address that is told of every alarm that begins or ends, until it has heard it.

Messages are those of Standard Webhooks (https://www.standardwebhooks.com), a POST of JSON with the headers

    webhook-id: 7f3a9c01-42.begin       the same at every attempt: a receiver that got it before ignores it
    webhook-timestamp: 1793941200       of the attempt
    webhook-signature: v1,BASE64        HMAC-SHA256 of "id.timestamp.body" under the secret; several while it is changed

One message is sent at a time, in the order of the begins and ends. What is not answered with a 2xx within `TIMEOUT` is
sent again after `FIRST_WAIT`, doubled each time up to `LONGEST_WAIT`, or as Retry-After says, with a random half of it
left out, so that services do not come together. An alarm that is older than `GIVE_UP` when an attempt fails is dropped,
and so are the oldest of more than `alarms.BACKLOG` messages that wait: both are counted. After a 410 nothing more is
sent to this address.

How far it has come stands in a file beside the journal, written after each message. So a restart goes on there, and
sends the message again that it was killed over.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import logging
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from onlineguard import atomic
from onlineguard.errors import InvalidArgument
from onlineguard.wire.alarms import AlarmState
from onlineguard_service.alarms import Alarm, name_of, shown
from onlineguard_service.config import Settings, hidden
from onlineguard_service.guard import Guard

if TYPE_CHECKING:
    import httpx2  # at run time where it is used: a service without a webhook starts sooner

EVERY = 0.5  # seconds between looks for news
TIMEOUT = 15.0  # seconds for the whole of an attempt
FIRST_WAIT, LONGEST_WAIT = 2.0, 900.0  # seconds between attempts
GIVE_UP = 86_400_000  # ms
FILE = "webhook.json"
PREFIX = "whsec_"
LEAST_SECRET = 24  # bytes, as the standard asks for

_log = logging.getLogger("onlineguard.service")


class Message(msgspec.Struct, frozen=True):
    """The body of a message."""

    type: str  # alarm.begin or alarm.end
    timestamp: int  # ms since 1970 of that
    data: AlarmState


class Position(msgspec.Struct):
    """How far it has come."""

    notice: int  # the last one that was dealt with
    gone: str = ""  # the address that said 410, as a hash


class _Due(NamedTuple):
    """A message, ready to be sent."""

    notice: int
    id: str
    t: int
    body: bytes


class Webhook:
    """See this module. `url` is told what happens to the alarms of a guard. Made before requests are answered.

    scale: of all times but `timeout`.
    """

    def __init__(
        self, guard: Guard, url: str, keys: list[bytes], state: Path, scale: float = 1.0, timeout: float = TIMEOUT
    ):
        self._guard, self._url, self._keys, self._file, self._scale = guard, url, keys, state / FILE, scale
        self._timeout = timeout
        self.sent = self.failures = self.dropped = 0
        self._named = hashlib.sha256(url.encode()).hexdigest()
        self._due: _Due | None = None  # the message under way: the same at every attempt
        self._tries = 0
        self._position = self._read()

    @property
    def gone(self) -> bool:
        """Whether the address said that it wants nothing more."""
        return self._position.gone == self._named

    def status(self) -> dict[str, Any]:
        """What the metrics show."""
        waiting = self._guard.alarms.after(self._position.notice)
        age = 0.0 if waiting is None else max(0.0, time.time() - _moment(*waiting) / 1_000)
        return {
            "sent": self.sent,
            "failures": self.failures,
            "dropped": self.dropped,
            "waiting": self._guard.alarms.notice - self._position.notice,
            "age": age,
            "gone": self.gone,
        }

    @property
    def trouble(self) -> str | None:
        """Why alarms are not told, in a sentence; None where they are."""
        if self.gone:
            return f"{hidden(self._url)} answered 410, so it is told of no alarm any more"
        return f"{self._tries} attempts have failed, the next follows" if self._tries else None

    async def run(self) -> None:
        """Tell of alarms, for ever."""
        client = await asyncio.to_thread(_client, self._timeout)
        async with client:
            while True:
                try:
                    await asyncio.sleep(await self._turn(client))
                except Exception:  # whatever it is, the next attempt may succeed
                    _log.exception("the webhook failed")
                    await asyncio.sleep(LONGEST_WAIT * self._scale)

    async def _turn(self, client: "httpx2.AsyncClient") -> float:
        """Send the message that is due, if there is one. Returns the seconds to wait then."""
        if self._due is None:
            self._due = None if self.gone else self._next()
        due = self._due
        if due is None:
            return EVERY * self._scale
        status, asked = await self._attempt(client, due)
        if 200 <= status < 300:
            self.sent += 1
            await self._done(due.notice)
            return 0.0
        if status == 410:
            self._position.gone, self._due = self._named, None
            await self._keep()
            _log.error("%s", self.trouble)
            return EVERY * self._scale
        self.failures += 1
        self._tries += 1
        if self._tries == 1:
            _log.warning("the webhook %s answered %s; it is tried again", hidden(self._url), status or "nothing")
        if time.time() * 1_000 - due.t > GIVE_UP:
            self.dropped += 1
            _log.error("the webhook has not heard of alarm %s within a day: it is not told any more", due.id)
            tries = self._tries
            await self._done(due.notice)
            self._tries = tries
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._tries - 1, 20)) * random.uniform(0.5, 1.0)
        return max(wait, min(asked, LONGEST_WAIT)) * self._scale

    def _next(self) -> _Due | None:
        alarms, position = self._guard.alarms, self._position
        position.notice = min(position.notice, alarms.notice)  # a power cut may have taken the newest entries
        found = alarms.after(position.notice)
        upto = alarms.notice + 1 if found is None else found[0]
        if (lost := upto - position.notice - 1) > 0:
            self.dropped += lost
            _log.error("%d messages to the webhook are dropped: more waited than are kept", lost)
            position.notice = upto - 1
        if found is None:
            return None
        notice, alarm = found
        what, t = ("begin" if notice == alarm.notice else "end"), _moment(notice, alarm)
        state = shown(alarm, self._guard.source, self._guard.alarm_names(alarm), alarm.why)
        body = msgspec.json.encode(Message(f"alarm.{what}", t, state))
        return _Due(notice, f"{name_of(alarm, self._guard.source)}.{what}", t, body)

    async def _attempt(self, client: "httpx2.AsyncClient", due: _Due) -> tuple[int, float]:
        """The status, 0 without an answer, and the seconds that the answer asks to wait. The body is not read."""
        import httpx2

        headers = {"content-type": "application/json", **signed(self._keys, due.id, int(time.time()), due.body)}
        try:
            async with (
                asyncio.timeout(self._timeout),
                client.stream("POST", self._url, content=due.body, headers=headers) as response,
            ):
                asked = response.headers.get("retry-after", "")
                return response.status_code, float(asked) if asked.isdecimal() and len(asked) < 9 else 0.0
        except (TimeoutError, httpx2.HTTPError, OSError):
            return 0, 0.0

    async def _done(self, notice: int) -> None:
        self._position.notice, self._due, self._tries = notice, None, 0
        await self._keep()

    def _read(self) -> Position:
        """The position of a process before; of a webhook that is new, that of now."""
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            return msgspec.json.decode(self._file.read_bytes(), type=Position)
        position = Position(self._guard.alarms.notice)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(self._file, msgspec.json.encode(position))
        return position

    async def _keep(self) -> None:
        """Write how far it has come; begun once, it ends, though the service stops meanwhile."""
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._write))

    def _write(self) -> None:
        try:
            atomic.write(self._file, msgspec.json.encode(self._position))
        except OSError as error:  # a restart sends again what was sent since
            _log.warning("how far the webhook has come cannot be kept: %s", error)


def keys_for(settings: Settings) -> list[bytes]:
    """The keys that the settings name; none without a webhook. Raises InvalidArgument for a secret that is none."""
    if settings.webhook is None:
        return []
    secret = settings.webhook_secret
    if settings.webhook_secret_file is not None:
        try:
            secret = settings.webhook_secret_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgument(
                f"webhook_secret_file {settings.webhook_secret_file} cannot be read: {error}"
            ) from error
    return keys_of(secret or "")


def _client(timeout: float) -> "httpx2.AsyncClient":
    import httpx2

    return httpx2.AsyncClient(timeout=timeout, follow_redirects=False)


def keys_of(secret: str) -> list[bytes]:
    """The keys in a secret: one, or several with spaces between them, while it is changed.

    Raises InvalidArgument, which does not show it.
    """
    keys: list[bytes] = []
    for part in secret.split():
        try:
            keys.append(base64.b64decode(part.removeprefix(PREFIX), validate=True))
        except binascii.Error:
            keys.append(b"")
    if not keys or min(map(len, keys)) < LEAST_SECRET:
        raise InvalidArgument(
            f"webhook_secret must be {PREFIX} and base64 of at least {LEAST_SECRET} bytes, e.g. as "
            "`openssl rand -base64 24` prints them"
        )
    return keys


def signed(keys: list[bytes], id_: str, seconds: int, body: bytes) -> dict[str, str]:
    """The headers of a message that is sent at this time.

    >>> key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    >>> signed([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')["webhook-signature"]
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    signatures = (hmac.digest(key, f"{id_}.{seconds}.".encode() + body, "sha256") for key in keys)
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signatures),
    }


def _moment(notice: int, alarm: Alarm) -> int:
    """When an alarm began or ended."""
    return alarm.ended if notice == alarm.ended_notice and alarm.ended is not None else alarm.began
