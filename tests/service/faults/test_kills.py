"""The service is killed at random moments under load; what it answered is true afterwards, to the last bit.

Several clients send events, clicks and labels without pause, each waiting for its answer and sending the request again
after a crash. Afterwards the entries of the journal, taken from copies made at every kill, are applied to a guard that
is never killed: it must be in the same state, and must give every answer that any client got. The history must hold
what came of these entries, nothing more and nothing twice.
"""

import asyncio
import os
import random
from functools import partial

import httpx2
import pytest
from onlineguard_service.config import Settings
from onlineguard_service.core import Core
from onlineguard_service.journal.folder_journal import FolderJournal
from onlineguard_service.models import Models
from onlineguard_service.recovery import check, options_of, recovered

from onlineguard.slidr.history.reading import History
from tests.support.histories import Collected, assert_history
from tests.support.under_load import CLIENTS, JSON, Client, Starter, free_port, keep, killed, ready, replayed, told

KILLS = int(os.environ.get("ONLINEGUARD_KILLS", "200"))  # each takes some two seconds
LIVES = (0.02, 0.4)  # seconds from ready to kill


@pytest.mark.slow
def test_nothing_that_was_answered_is_lost_or_changed_by_kills(tmp_path, model_folder, clicks):
    state, copies = tmp_path / "state", tmp_path / "copies" / "journal"
    copies.mkdir(parents=True)
    port = free_port()
    settings = {
        "port": port, "state": state, "durability": "group", "n_features": 2, "snapshot_every": 3_600.0,
        "remember": 1_000_000, "history_days": 0,
    }  # fmt: skip
    draw = random.Random(0)

    async def run(starter):
        limits = httpx2.Limits(max_connections=CLIENTS + 2)
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=30.0, headers=JSON
        ) as http:
            pid = starter.start(**settings, model=model_folder)
            await ready(http)
            stop = asyncio.Event()
            clients = [Client(i, http, clicks) for i in range(CLIENTS)]
            tasks = [asyncio.create_task(client.run(stop)) for client in clients]
            for kill in range(KILLS):
                await asyncio.sleep(draw.uniform(*LIVES))
                if kill % 3 == 0:  # killed beside, in, or after a snapshot
                    snapshot = asyncio.create_task(http.post("/v1/snapshot"))
                    snapshot.add_done_callback(lambda task: task.cancelled() or task.exception())
                    await asyncio.wait([snapshot], timeout=draw.choice((0.0, 0.02, 0.2, 10.0)))
                if kill % 10 == 9:  # while it starts
                    await killed(pid)
                    keep(state / "journal", copies)
                    pid = starter.start(**settings)
                    await asyncio.sleep(draw.uniform(0.0, 0.6))
                await killed(pid)
                keep(state / "journal", copies)
                for task in tasks:
                    if task.done():
                        task.result()
                pid = starter.start(**settings)
                await ready(http)
            stop.set()
            await asyncio.gather(*tasks)
            await killed(pid)
            return clients

    with Starter(tmp_path / "cache") as starter:
        clients = asyncio.run(run(starter))
    keep(state / "journal", copies)
    models = Models(state / "models")
    journal = FolderJournal(state / "journal")
    again = recovered(journal, partial(check, asked=options_of(Settings(**settings))), models)
    collected = Collected()
    never_killed, answers = replayed(copies, models, collected)
    assert never_killed.digest() == again.digest()
    answered = told(clients)
    assert len(answered) > 10 * KILLS
    for key, answer in answered.items():
        assert answers[key] == answer
    assert sum(client.repeated for client in clients) > KILLS // 2  # kills that hit somebody
    asyncio.run(journal.close())
    asyncio.run(finished(Settings(**settings)))
    assert_history(state / "history", collected)
    assert not History(state / "history").missing()


async def finished(settings):
    """Start once more, and stop in order."""
    await (await Core.open(settings)).close()
