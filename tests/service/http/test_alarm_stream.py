"""The routes of alarms over the double: who may say what, where a stream goes on, and who is let go."""

import asyncio
import json

import pytest
from onlineguard_service.config import Settings
from onlineguard_service.http.alarm_stream import AT_A_TIME, AlarmStream
from onlineguard_service.http.app import application

from tests.support.double import Alarms, Double, ask
from tests.support.keys import keys_file

SOON = 0.01  # seconds between looks for news here


class Reader:
    """One connection, until it leaves. Where it is `stuck`, it takes no more than one part."""

    def __init__(self, stream, last=None, stuck=False):
        self.sent, self.leave, self._stuck = b"", asyncio.Event(), stuck
        headers = [] if last is None else [(b"last-event-id", str(last).encode())]
        self.answer = asyncio.ensure_future(stream({"type": "http", "headers": headers}, self._receive, self._send))

    async def _receive(self):
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        self.sent += message.get("body", b"")
        if self._stuck and message["type"] == "http.response.body":
            await asyncio.Event().wait()

    @property
    def events(self):
        """Ids and data."""
        parts = [part.split(b"\n") for part in self.sent.split(b"\n\n") if b"event: alarm" in part]
        return [(int(part[0].removeprefix(b"id: ")), json.loads(part[2].removeprefix(b"data: "))) for part in parts]

    async def told(self, n):
        async with asyncio.timeout(10):
            while len(self.events) < n:
                await asyncio.sleep(SOON)


def run(scene):
    asyncio.run(asyncio.wait_for(scene(), 30))


def test_a_reader_gets_what_changes_and_goes_on_after_the_change_that_it_saw_last():
    async def scene():
        alarms = Alarms()
        stream = AlarmStream(alarms, SOON)
        first, again, lost = Reader(stream), Reader(stream, 1), Reader(stream, 99)
        await again.told(1)
        assert [(at, each["id"]) for at, each in again.events] == [(2, "ab-2")]
        alarms.touch("ab-1")
        for reader in (first, again, lost):
            await reader.told(1)
        assert first.sent.startswith(b"id: 2\n")
        assert [(at, each["id"]) for at, each in first.events] == [(3, "ab-1")]
        assert lost.events == first.events  # an id of another state: it begins anew
        assert [at for at, _ in again.events] == [2, 3]
        stream.close()
        await asyncio.gather(first.answer, again.answer, lost.answer)

    run(scene)


def test_a_reader_that_takes_nothing_is_let_go_and_the_others_hear_everything():
    async def scene():
        alarms = Alarms()
        stream = AlarmStream(alarms, SOON, backlog=3)
        stuck, good = Reader(stream, stuck=True), Reader(stream)
        while stream.readers < 2:
            await asyncio.sleep(0)
        for n in range(1, 9):
            alarms.touch("ab-1")
            await good.told(n)
        async with asyncio.timeout(10):
            await stuck.answer
        assert stream.readers == 1
        assert [at for at, _ in good.events] == list(range(3, 11))
        stream.close()
        await good.answer

    run(scene)


def test_many_changes_come_in_parts_and_a_reader_that_missed_too_many_is_told_so(monkeypatch):
    monkeypatch.setattr("onlineguard_service.http.alarm_stream.AT_ONCE", 1)
    monkeypatch.setattr("onlineguard_service.http.alarm_stream.MOST", 1)

    async def scene():
        alarms = Alarms()
        stream = AlarmStream(alarms, SOON)
        late, reader = Reader(stream, 0), Reader(stream)
        await late.told(1)
        assert b"event: missed" in late.sent
        assert [at for at, _ in late.events] == [2]
        for name in ("ab-1", "ab-2"):
            alarms.touch(name)
        await reader.told(2)
        assert [at for at, _ in reader.events] == [3, 4]
        stream.close()
        await asyncio.gather(late.answer, reader.answer)

    run(scene)


def test_who_has_missed_much_is_told_a_few_alarms_at_a_time_and_one_reader_after_the_other():
    class Many(Alarms):
        def __init__(self):
            super().__init__()
            self.states = {f"ab-{n}": self.states["ab-1"] for n in range(1, 101)}
            self.change, self.changes = 100, {n: f"ab-{n}" for n in range(1, 101)}
            self.asked = []

        def since(self, change, upto, most):
            self.asked.append((change, most))
            return super().since(change, upto, most)

    async def scene():
        alarms = Many()
        stream = AlarmStream(alarms, SOON)
        readers = [Reader(stream, 0) for _ in range(3)]
        alarms.touch("ab-50")  # while they catch up
        for reader in readers:
            await reader.told(100)
            assert [at for at, _ in reader.events] == [*range(1, 50), *range(51, 102)]
        parts = [change for change, most in alarms.asked if most == AT_A_TIME]
        assert len(parts) >= 3 * 4
        assert parts[:4] != sorted(set(parts))[:4]  # the second began before the first was done
        stream.close()
        await asyncio.gather(*(reader.answer for reader in readers))

    run(scene)


def test_alarms_are_listed_with_filters_and_acknowledged_under_the_name_of_the_key(tmp_path):
    path, keys = keys_file(tmp_path, reader=["score"], eve=["admin"])
    core = Double()
    app = application(core, Settings(state=tmp_path, keys=path))

    def asked(method, path, key, body=b""):
        status, _, answer = ask(app, method, path, body, headers={"x-api-key": keys[key]})
        return status, json.loads(answer)

    status, page = asked("GET", "/v1/alarms?limit=1&least=0.5&since=3&slice=web&state=open", "reader")
    assert (status, page["cursor"], [alarm["id"] for alarm in page["alarms"]]) == (200, "ab-2", ["ab-2"])
    assert asked("GET", "/v1/alarms?cursor=ab-2", "reader")[1]["alarms"][0]["id"] == "ab-1"
    assert asked("GET", "/v1/alarms/ab-1", "reader")[1]["drivers"] == {"a": 1.0}
    for wrong in ("least=high", "least=nan", "since=-1", "cursor=none", "state=shut", "kindd=watch"):
        assert asked("GET", f"/v1/alarms?{wrong}", "reader")[0] == 422
    assert asked("GET", "/v1/alarms/ab-3", "reader")[0] == 404
    assert asked("POST", "/v1/alarms/ab-1", "reader", b"{}")[0] == 403
    assert asked("POST", "/v1/alarms/ab-3", "eve", b"{}")[0] == 404
    assert asked("POST", "/v1/alarms/ab-1", "eve", b'{"not": "a note"}')[0] == 422
    status, noted = asked("POST", "/v1/alarms/ab-1", "eve", b'{"note": "a sale", "usual": true}')
    assert (status, noted["acknowledged"]["who"], noted["usual"]) == (200, "eve", True)
    assert core.alarms.noted[0][2] == "eve"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_the_stream_is_no_alarm(tmp_path, method):
    status, headers, _ = ask(application(Double(), Settings(state=tmp_path)), method, "/v1/alarms/stream", b"{}")
    assert (status, "GET" in headers["allow"]) == (405, True)
