"""`/v1/live`: what a reader is sent, who is let go, and how it ends."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from onlineguard_service.http.live import Live
from onlineguard_service.http.page import POLICY, routes
from starlette.applications import Starlette

from tests.support.double import served

SOON = 0.01  # seconds between ticks here


class Counting:
    """A core whose answers are numbered."""

    def __init__(self):
        self.n = 0

    def live(self) -> dict[str, Any]:
        self.n += 1
        return {"t": self.n, "model_version": "v\n\n1", "marks": [{"t": 0, "model_version": "v1"}]}


class Reader:
    """One connection: what it was sent, until it leaves. Where it is `stuck`, nothing more is taken."""

    def __init__(self, live: Live, stuck: bool = False):
        self.sent: list[dict[str, Any]] = []
        self.leave = asyncio.Event()
        self._stuck = stuck
        self.answer = asyncio.ensure_future(live({"type": "http"}, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        if self._stuck and message["type"] == "http.response.body":
            await asyncio.Event().wait()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def ticks(self) -> list[dict[str, Any]]:
        return [json.loads(part.removeprefix(b"event: tick\ndata: ")) for part in self.body.split(b"\n\n")[:-1]]

    async def told(self, ticks: int) -> None:
        async with asyncio.timeout(10):
            while len(self.ticks) < ticks:
                await asyncio.sleep(SOON)


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 30))


def test_every_tick_is_one_event_of_one_line_of_json():
    async def scene():
        live = Live(Counting(), SOON)
        reader = Reader(live)
        await reader.told(3)
        start = reader.sent[0]
        assert start["status"] == 200
        assert dict(start["headers"])[b"content-type"].startswith(b"text/event-stream")
        parts = reader.body.split(b"\n\n")
        assert all(part.count(b"\n") == 1 and part.startswith(b"event: tick\ndata: {") for part in parts[:-1])
        assert [tick["t"] for tick in reader.ticks] == list(range(1, len(reader.ticks) + 1))
        assert {tick["started"] for tick in reader.ticks} == {reader.ticks[0]["started"]}
        live.close()
        await reader.answer

    run(scene)


def test_the_first_tick_brings_those_before_it_oldest_first_and_no_more_than_are_kept():
    async def scene():
        core = Counting()
        live = Live(core, SOON, keep=5)
        early = Reader(live)
        await early.told(1)
        assert early.ticks[0]["past"] == []
        await early.told(12)
        late = Reader(live)
        await late.told(3)
        first, *later = late.ticks
        assert [tick["t"] for tick in first["past"]] == list(range(first["t"] - 4, first["t"]))
        assert first["marks"]
        assert not any("marks" in tick for tick in first["past"])
        assert [tick["t"] for tick in later[:2]] == [first["t"] + 1, first["t"] + 2]
        assert not any("past" in tick for tick in later)
        live.close()
        await asyncio.gather(early.answer, late.answer)

    run(scene)


def test_all_readers_share_one_ticker_that_runs_before_there_are_any():
    async def scene():
        core = Counting()
        live = Live(core, SOON)
        live.start()
        live.start()
        while core.n < 3:
            await asyncio.sleep(SOON)
        readers = [Reader(live) for _ in range(20)]
        for reader in readers:
            await reader.told(3)
        assert live.readers == 20
        last = max(reader.ticks[-1]["t"] for reader in readers)
        assert core.n <= last + 1  # asked once a tick, not once a reader
        assert all(reader.ticks[0]["past"] for reader in readers)
        live.close()
        await asyncio.gather(*(reader.answer for reader in readers))

    run(scene)


def test_a_reader_that_does_not_take_its_ticks_is_let_go_and_the_others_go_on():
    async def scene():
        live = Live(Counting(), SOON, backlog=4)
        quick, slow = Reader(live), Reader(live, stuck=True)
        await asyncio.wait_for(slow.answer, 10)
        told = len(quick.ticks)
        assert live.readers == 1
        await quick.told(told + 3)
        live.close()
        await quick.answer

    run(scene)


def test_a_reader_that_leaves_is_forgotten():
    async def scene():
        live = Live(Counting(), SOON)
        reader = Reader(live)
        await reader.told(1)
        reader.leave.set()
        await asyncio.wait_for(reader.answer, 10)
        assert live.readers == 0
        live.close()

    run(scene)


def test_closing_ends_every_answer_properly_and_one_that_comes_later_at_once():
    async def scene():
        live = Live(Counting(), SOON)
        reader, stuck = Reader(live), Reader(live, stuck=True)
        await reader.told(2)
        live.close()
        await asyncio.wait_for(reader.answer, 10)
        assert reader.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
        late = Reader(live)
        await asyncio.wait_for(late.answer, 10)
        assert late.sent[-1]["more_body"] is False
        stuck.answer.cancel()  # what no one takes is not waited for by the service: the server cuts it off
        with suppress(asyncio.CancelledError):
            await stuck.answer
        assert live.readers == 0

    run(scene)


def test_a_tick_that_fails_is_left_out_and_the_next_one_is_told(caplog: pytest.LogCaptureFixture):
    class Failing(Counting):
        def live(self) -> dict[str, Any]:
            tick = super().live()
            if self.n == 2:
                raise ValueError("no figures now")
            return tick

    async def scene():
        live = Live(Failing(), SOON)
        reader = Reader(live)
        await reader.told(2)
        assert [tick["t"] for tick in reader.ticks[:2]] == [1, 3]
        live.close()
        await reader.answer

    run(scene)
    assert "a tick of /v1/live was left out" in caplog.text


def test_a_server_that_shuts_down_does_not_wait_for_its_readers():
    with httpx2.Client(timeout=30) as client:
        with served() as address:
            answer = client.send(client.build_request("GET", f"{address}/v1/live"), stream=True)
            lines = answer.iter_lines()
            assert next(lines) == "event: tick"
        rest = list(lines)  # ends, without an error
        answer.close()
    assert rest[-1] == ""


def ask(method: str, path: str, **headers: str) -> httpx2.Response:
    async def answer() -> httpx2.Response:
        transport = httpx2.ASGITransport(Starlette(routes=list(routes())))
        async with httpx2.AsyncClient(transport=transport, base_url="http://page") as client:
            return await client.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return asyncio.run(answer())


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/static/page.js", "text/javascript"), ("/static/page.css", "text/css")],
)
def test_the_files_of_the_page_come_with_their_type_a_policy_and_an_etag_that_saves_a_second_sending(path, kind):
    answer = ask("GET", path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert answer.headers["cache-control"] == "no-cache"
    tag = answer.headers["etag"]
    assert ask("HEAD", path).headers["etag"] == tag
    again = ask("GET", path, if_none_match=f'"other", W/{tag}')
    assert (again.status_code, again.content) == (304, b"")
    assert ask("GET", path, if_none_match='"other"').status_code == 200
    assert ask("POST", path).status_code == 405


@pytest.mark.parametrize("path", ["/static/", "/static/none.js", "/static/..%2flive.py", "/static/index.html"])
def test_only_the_files_of_the_page_are_served(path):
    assert ask("GET", path).status_code == 404
