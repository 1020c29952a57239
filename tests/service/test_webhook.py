"""The webhook against a real receiver that fails, is slow, has gone: every begin and end is heard, in order, signed."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from onlineguard_service.alarms import STRETCH, Alarms, Said
from onlineguard_service.config import Settings, show
from onlineguard_service.config import load as loaded
from onlineguard_service.figures import ANOMALOUS
from onlineguard_service.webhook import FILE, Webhook, keys_for, keys_of

from onlineguard.errors import InvalidArgument
from onlineguard.wire.answers import VerdictAnswer
from tests.support.real import Service, usual
from tests.support.receiver import KEY, SECRET, Receiver

QUICK = 0.005  # of all times between attempts
WAITS = 0.5  # seconds for an answer: on a busy machine a prompt one may miss that too, and is then asked for again


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


class Guard:
    """What a webhook sees of a guard: alarms that begin and end as they are told."""

    source = "ab"

    def __init__(self) -> None:
        self.alarms = Alarms(10_000, lambda of, key, row: ({"0": 1.0}, {}))

    def alarm_names(self, alarm):
        return ["0"]

    def happens(self, *slices: str, end: bool = False) -> None:
        """An alarm of each slice begins, or ends."""
        names = [name for name in slices for _ in range(STRETCH if end else 1)]
        verdicts = [VerdictAnswer(9.0, 2.0, 0.001, not end, True)] * len(names)
        now = time.time_ns() // 1_000_000
        flags = [0 if end else ANOMALOUS] * len(names)
        self.alarms.take("events", names, flags, verdicts, np.ones((len(names), 1)), lambda i: Said(None, 0), now)


def telling(guard, receiver, tmp_path, until, seconds=30.0):
    """Run the webhook until something holds."""

    async def run():
        webhook = Webhook(guard, receiver.url, [KEY], tmp_path, QUICK, WAITS)
        running = asyncio.create_task(webhook.run())
        async with asyncio.timeout(seconds):
            while not until(webhook):
                await asyncio.sleep(0.005)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        return webhook

    return asyncio.run(run())


def ids(receiver):
    """What was heard, without what was heard again."""
    return list(dict.fromkeys(id_ for id_, _ in receiver.heard))


def test_every_begin_and_end_is_heard_in_order_though_the_receiver_fails_and_is_slow(receiver, tmp_path):
    guard = Guard()
    Webhook(guard, receiver.url, [KEY], tmp_path)  # from here on it tells
    guard.happens("a", "b")
    guard.happens("a", end=True)
    ways, gave_up = iter(["slow", 500, 200, 302, 429, 200]), threading.Event()

    def answer():
        way = next(ways, 200)
        if way == "slow":
            gave_up.wait(30)
            return 503
        gave_up.set()
        return way

    receiver.answer = answer
    webhook = telling(guard, receiver, tmp_path, lambda webhook: webhook.sent == 3)
    assert ids(receiver) == ["ab-1.begin", "ab-2.begin", "ab-1.end"]
    assert receiver.forged == []
    heard = dict(receiver.heard)
    begin = heard["ab-1.begin"]
    assert (begin["type"], begin["data"]["id"], begin["data"]["slice"]) == ("alarm.begin", "ab-1", "a")
    assert begin["data"]["drivers"] == {"0": 1.0}
    assert heard["ab-1.end"]["data"]["state"] == "over"
    assert webhook.failures >= 4
    assert webhook.status()["waiting"] == 0


def test_after_a_restart_it_goes_on_where_it_was_and_repeats_the_message_it_was_killed_over(receiver, tmp_path):
    guard = Guard()
    guard.happens("old")
    Webhook(guard, receiver.url, [KEY], tmp_path)
    guard.happens("a", "b")
    telling(guard, receiver, tmp_path, lambda webhook: webhook.sent == 2)
    assert ids(receiver) == ["ab-2.begin", "ab-3.begin"]  # not of the alarm from before there was a webhook
    guard.happens("c")
    receiver.answer = lambda: 500
    telling(guard, receiver, tmp_path, lambda webhook: webhook.failures >= 2)
    receiver.answer = lambda: 200
    telling(guard, receiver, tmp_path, lambda webhook: webhook.sent == 1)
    assert ids(receiver)[2:] == ["ab-4.begin"]
    (tmp_path / FILE).write_text("{")  # damaged: it begins with what comes from now on
    assert Webhook(guard, receiver.url, [KEY], tmp_path).status()["waiting"] == 0


def test_an_address_that_has_gone_is_told_nothing_more_and_another_one_everything_that_waits(receiver, tmp_path):
    guard = Guard()
    Webhook(guard, receiver.url, [KEY], tmp_path)
    guard.happens("a")
    receiver.answer = lambda: 410
    webhook = telling(guard, receiver, tmp_path, lambda webhook: webhook.gone)
    assert "410" in webhook.trouble
    assert "/hook" not in webhook.trouble
    receiver.answer = lambda: 200
    assert Webhook(guard, receiver.url, [KEY], tmp_path).gone
    receiver.url += "2"
    telling(guard, receiver, tmp_path, lambda webhook: webhook.sent == 1)
    assert ids(receiver) == ["ab-1.begin"]


def test_what_waits_is_bounded_and_what_is_dropped_is_counted(receiver, tmp_path, monkeypatch):
    guard = Guard()
    Webhook(guard, receiver.url, [KEY], tmp_path)
    guard.happens(*map(str, range(50)))
    guard.alarms.keep(3)
    webhook = telling(guard, receiver, tmp_path, lambda webhook: webhook.sent == 3)
    assert (webhook.dropped, ids(receiver)[0]) == (47, "ab-48.begin")
    monkeypatch.setattr("onlineguard_service.webhook.GIVE_UP", -1)
    guard.happens("late")
    receiver.answer = lambda: 503
    webhook = telling(guard, receiver, tmp_path, lambda webhook: webhook.dropped == 1)
    assert webhook.status()["waiting"] == 0


def test_a_secret_is_one_of_the_standard_and_is_shown_to_nobody(tmp_path):
    assert keys_of(SECRET) == [KEY]
    assert len(keys_of(f"{SECRET} {SECRET}\n")) == 2
    (tmp_path / "secret").write_text(SECRET + "\n")
    more = {"webhook": "https://me:pass@hooks.example/T0/token"}
    assert keys_for(Settings(**more, webhook_secret_file=tmp_path / "secret")) == [KEY]
    given = loaded({}, {"ONLINEGUARD_WEBHOOK": more["webhook"], "ONLINEGUARD_WEBHOOK_SECRET": SECRET})
    for secret in (SECRET, SECRET[6:], "token", "pass"):
        assert secret not in show(given)
        assert secret not in repr(given.settings)
    for secret in ("", "whsec_", "not base64", "whsec_c2hvcnQ="):
        with pytest.raises(InvalidArgument, match="whsec_"):
            keys_for(Settings(**more, webhook_secret=secret or " "))
    for wrong in (more, {"webhook_secret": SECRET}, {"webhook": "ftp://x", "webhook_secret": SECRET}):
        with pytest.raises(InvalidArgument, match="webhook"):
            Settings(**wrong)


def comes_true(holds):
    for _ in range(2_400):
        if holds():
            return
        time.sleep(0.05)
    pytest.fail("nothing came within two minutes")


@pytest.mark.slow
def test_a_killed_service_tells_the_rest_after_its_restart(tmp_path, environment, model_folder, receiver):
    flags = ("--model", str(model_folder), "--n-features", "1", "--webhook", receiver.url)
    service = Service(tmp_path, {**environment, "ONLINEGUARD_WEBHOOK_SECRET": SECRET}, *flags)
    service.start()
    try:
        receiver.answer = lambda: 503
        service.events("web", usual(400))
        assert service.events("web", [50.0])[0]["anomalous"]
        listed = service.get("/v1/alarms?limit=1")["alarms"][0]
        service.events("web", usual(200, 1))
        comes_true(lambda: receiver.asked)
        service.kill()
        receiver.answer = lambda: 200
        service.start()
        comes_true(lambda: f"{listed['id']}.end" in ids(receiver))
        again = service.get(f"/v1/alarms/{listed['id']}")
    finally:
        service.kill()
    assert (again["state"], again["x"], again["drivers"]) == ("over", {"0": 50.0}, listed["drivers"])
    assert receiver.forged == []
    told = ids(receiver)
    assert told.index(f"{listed['id']}.begin") < told.index(f"{listed['id']}.end")
    assert msgspec.json.encode(SECRET)[1:-1] not in service.log.read_bytes()
