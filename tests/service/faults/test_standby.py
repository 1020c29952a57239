"""A standby follows a service under load and takes over from it: when it is killed, when it stands still, on command.

Several clients send to whichever of the two answers, each request until it is answered. Afterwards all entries of the
journal are applied to a guard that nothing ever happened to. It must be in the state of the one that took over last,
and must give every answer that any client got. The history must hold what the journal says, nothing twice.
"""

import asyncio
import contextlib
import os
import signal
from functools import partial

import httpx2
import pytest
from onlineguard_service.config import Settings
from onlineguard_service.models import Models
from onlineguard_service.recovery import check, journal_of, options_of, recovered

from onlineguard.compilation import VARIABLE
from tests.support.histories import Collected, assert_history
from tests.support.redis_server import serving
from tests.support.under_load import CLIENTS, JSON, Client, Starter, applied, free_port, keep, killed, told, until

EVENT = b'[{"slice": "s0", "x": [10.0, 0.0], "ts": 0}]'


class Either:
    """A client of two services, which goes to the other one where one does not answer."""

    def __init__(self, *services: httpx2.AsyncClient):
        self._services = services

    async def post(self, route: str, content: bytes) -> httpx2.Response:
        """The answer of the one that answered last; a failure has the next call go to the other one."""
        try:
            response = await self._services[0].post(route, content=content)
        except httpx2.TransportError:
            self._services = self._services[::-1]
            raise
        if response.status_code == 503:
            self._services = self._services[::-1]
        return response


async def says(service: httpx2.AsyncClient, status: int, words: str = "") -> None:
    """Wait until /readyz does."""
    for _ in range(6_000):
        with contextlib.suppress(httpx2.TransportError):
            answer = await service.get("/readyz")
            if answer.status_code == status and words in answer.text:
                return
        await asyncio.sleep(0.01)
    pytest.fail(f"the service did not come to {status} {words}", pytrace=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "redis"])
def test_a_standby_takes_over_all_that_was_answered_and_the_old_service_answers_nothing_more(
    tmp_path, model_folder, clicks, kind
):
    state, copies = tmp_path / "state", tmp_path / "copies" / "journal"
    copies.mkdir(parents=True)
    settings = {
        "state": state, "durability": "async", "n_features": 2, "snapshot_every": 3_600.0, "history": "on",
        "history_days": 0, "remember": 1_000_000, "max_slices": 1_000,
    }  # fmt: skip
    ports = free_port(), free_port()

    async def run(starter, stack):
        one, other = [
            await stack.enter_async_context(
                httpx2.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}", timeout=timeout, headers=JSON,
                    limits=httpx2.Limits(max_connections=CLIENTS + 2),
                )
            )
            for port, timeout in zip(ports, (2.0, 30.0), strict=True)
        ]  # fmt: skip
        standby = {**settings, "standby": "on", "standby_after": 600.0}  # by silence never
        first = starter.start(**settings, port=ports[0], model=model_folder)
        await says(one, 200)
        second = starter.start(**standby, port=ports[1])
        await says(other, 503, "has applied entry")
        stop = asyncio.Event()
        clients = [Client(i, Either(one, other), clicks) for i in range(CLIENTS)]
        tasks = [asyncio.create_task(client.run(stop)) for client in clients]

        async def some():
            """Wait until many more requests were answered."""
            enough = len(told(clients)) + 150
            await until(lambda: len(told(clients)) > enough, tasks)

        async def snapshot(service):
            """Write one, once the service that was taken over has let go of the history."""
            if kind == "folder":
                keep(state / "journal", copies)
            for _ in range(20):
                answer = await service.post("/v1/snapshot", timeout=30.0)
                if answer.status_code == 200:
                    return
                assert "holds it until it has ended" in answer.text
            pytest.fail("no snapshot could be written", pytrace=False)

        async def refuses(service):
            """It is alive, and nothing that it is sent is answered."""
            await says(service, 503, "another process")
            for _ in range(20):
                assert (await service.post("/v1/update", content=EVENT)).status_code == 503

        for _ in range(3 if kind == "folder" else 0):  # the first entries are removed while the standby follows
            await some()
            await snapshot(one)
        await some()
        await killed(first)
        if kind == "redis":  # where nobody sees that a process has ended
            os.kill(second, signal.SIGUSR1)
        await says(other, 200)
        await some()

        first = starter.start(**standby, port=ports[0])
        await says(one, 503, "has applied entry")
        await some()
        os.kill(second, signal.SIGSTOP)  # with requests under way, whose clients wait
        os.kill(first, signal.SIGUSR1)
        await says(one, 200)
        os.kill(second, signal.SIGCONT)
        await refuses(other)
        await some()
        if kind == "folder":
            await snapshot(one)
            await some()
        await killed(second)

        second = starter.start(**standby, port=ports[1])
        await says(other, 503, "has applied entry")
        os.kill(second, signal.SIGUSR1)
        await says(other, 200)
        await refuses(one)
        await some()
        stop.set()
        await asyncio.gather(*tasks)
        await snapshot(other)
        await killed(first)
        await killed(second)
        return clients

    async def all_of_it(starter):
        async with contextlib.AsyncExitStack() as stack:
            return await run(starter, stack)

    with contextlib.ExitStack() as stack:
        if kind == "redis":
            port = stack.enter_context(serving(tmp_path))
            settings |= {"redis": f"redis://127.0.0.1:{port}", "journal": "redis"}
        starter = stack.enter_context(Starter(os.environ[VARIABLE]))
        clients = asyncio.run(all_of_it(starter))
        models, chosen = Models(state / "models"), Settings(**settings)
        if kind == "folder":
            keep(state / "journal", copies)
        journal = journal_of(Settings(**{**settings, "state": copies.parent}))
        collected = Collected()
        never_stopped, answers = applied(journal.replay(0), models, collected)
        asyncio.run(journal.close())
        journal = journal_of(chosen)
        again = recovered(journal, partial(check, asked=options_of(chosen)), models)
        asyncio.run(journal.close())
    assert never_stopped.digest() == again.digest()
    assert_history(state / "history", collected)
    for key, answer in told(clients).items():
        assert answers[key] == answer
