"""Who sends to a core until it is answered, whatever happens to that meanwhile."""

import asyncio
import random

from onlineguard_service.errors import JournalUnavailable

from onlineguard.wire.requests import Event
from tests.support.events import told


class Clicking:
    """Sends clicks to a core, each request again until all of it is judged."""

    def __init__(self, core):
        self._core = core
        self.answers = {}  # of judged clicks, by id
        self.unknown = 0

    async def send(self, clicks, seed):
        draw, start = random.Random(seed), 0
        while start < len(clicks):
            n = draw.choice((1, 1, 2, 8, 70))
            while not self._taken(await self._core.clicks(clicks[start : start + n])):
                await asyncio.sleep(0.02)
            start += n
            await asyncio.sleep(0.001)

    def _taken(self, answers):
        unknown = 0
        for answer in told(answers):
            if answer["decision"] == "unknown":
                assert answer["degraded"] == ["counters"]
                assert answer["p_robot"] is answer["threshold"] is answer["anomaly"] is None
                assert answer["click_id"] not in self.answers  # what was judged once stays judged
                unknown += 1
            else:
                assert answer["decision"] in ("valid", "robotic")
                assert not answer.get("degraded")
                assert self.answers.setdefault(answer["click_id"], answer) == answer
        self.unknown += unknown
        return not unknown


def events(task, request):
    draw = random.Random(f"{task} {request}")
    return [
        Event(f"s{draw.randrange(9)}", [draw.gauss(10.0, 1.0), draw.gauss(0.0, 5.0)], id=f"{task}-{request}-{i}", ts=i)
        for i in range(draw.choice((1, 1, 2, 8)))
    ]


class Updating:
    """Sends events to a core, each request again until it is taken."""

    def __init__(self, core):
        self._core = core
        self.answers = {}  # by id
        self.refused = 0

    async def send(self, task, stop):
        request = 0
        while not stop.is_set():
            sent = events(task, request)
            try:
                answers = await self._core.update(sent)
            except JournalUnavailable:
                self.refused += 1
                await asyncio.sleep(0.02)
                continue
            self.answers |= {event.id: answer for event, answer in zip(sent, told(answers), strict=True)}
            request += 1
            await asyncio.sleep(0.001)
