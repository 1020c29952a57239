"""The disk fills up under load: what cannot be kept is refused and not learned, and all goes on once there is room."""

import asyncio
import os
import random
import subprocess

import pytest
from onlineguard_service.config import Settings
from onlineguard_service.core import Core
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal import snapshots
from onlineguard_service.models import Models

from onlineguard.wire.requests import Event
from tests.support.events import told
from tests.support.under_load import crashed, keep, replayed, until

pytestmark = pytest.mark.slow

CI = os.environ.get("CI") == "true"
SIZE = 64 << 20  # bytes of the disk
TASKS = 4
LEFT = 100_000  # bytes that the ballast leaves
GENEROUS = 60  # seconds; a test that takes as long hangs


@pytest.fixture
def small_disk(tmp_path):
    """A folder with a file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", folder]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        reason = f"a small tmpfs cannot be mounted ({mounted.stderr.strip()}); run this test as root, with the right to"
        if CI:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def free(folder):
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


class Sending:
    """Sends events and clicks to a core, each request again until it is taken; a refused one must change nothing."""

    def __init__(self, core):
        self._core = core
        self.answers = {}  # (route, id): answer
        self.refused = 0

    async def send(self, task, clicks, stop):
        draw, request = random.Random(task), 0
        while not stop.is_set():
            request += 1
            if request % 2:
                sent = [
                    Event(f"s{draw.randrange(9)}", [draw.gauss(10.0, 1.0), 1.0], id=f"{task}-{request}-{i}", ts=request)
                    for i in range(draw.choice((1, 2, 8, 200)))
                ]
                ids = [("/v1/update", event.id) for event in sent]
            else:
                sent = draw.sample(clicks, draw.choice((1, 2, 8, 64)))
                ids = [("/v1/clicks", click.click_id) for click in sent]
            while (answers := await self._taken(sent)) is None and not stop.is_set():
                await asyncio.sleep(0.01)
            for id_, answer in zip(ids, told(answers or ()), strict=bool(answers)):
                assert self.answers.setdefault(id_, answer) == answer
            await asyncio.sleep(0.001)

    async def _taken(self, sent):
        digest = self._core.digest() if self.refused else None  # it takes a while
        try:
            return await (self._core.update(sent) if isinstance(sent[0], Event) else self._core.clicks(sent))
        except JournalUnavailable:
            assert digest in (None, self._core.digest())  # nobody else had a turn: a full disk is known at once
            self.refused += 1


@pytest.mark.parametrize("durability", ["async", "group"])
def test_a_full_disk_refuses_requests_whole_until_there_is_room_and_loses_nothing(
    small_disk, tmp_path, model_folder, clicks, durability
):
    journal, ballast, copies = small_disk / "journal", small_disk / "ballast", tmp_path / "copies"
    copies.mkdir()
    settings = Settings(
        state=small_disk, model=model_folder, durability=durability, n_features=2, snapshot_every=3_600.0,
        max_slices=1_000, remember=10_000,
    )  # fmt: skip

    def fill():
        ballast.write_bytes(bytes(free(small_disk) - LEFT))

    async def snapshot_refused(core):
        kept = snapshots.found(journal)
        with pytest.raises(JournalUnavailable, match="make room"):
            await core.snapshot()
        assert snapshots.found(journal) == kept
        assert not list(journal.glob(".*.tmp"))

    async def filled():
        core = await Core.open(settings)
        sending, stop = Sending(core), asyncio.Event()
        tasks = [asyncio.create_task(sending.send(i, clicks[i::TASKS], stop)) for i in range(TASKS)]
        await until(lambda: len(sending.answers) > 500, tasks)
        taken = await core.snapshot()
        fill()
        await until(lambda: sending.refused > 5 * TASKS, tasks)
        await snapshot_refused(core)
        answered = len(sending.answers)
        ballast.unlink()
        await until(lambda: len(sending.answers) > answered + 500, tasks)
        fill()
        refused = sending.refused
        await until(lambda: sending.refused > refused + TASKS, tasks)
        stop.set()
        await asyncio.gather(*tasks)
        await crashed(core)
        assert snapshots.found(journal) == [taken]
        return core.digest(), sending.answers

    async def opened_again():
        core = await Core.open(settings)
        digest = core.digest()
        await core.close()  # its last snapshot does not fit while the disk is full
        return digest

    digest, answers = asyncio.run(asyncio.wait_for(filled(), GENEROUS))
    assert asyncio.run(opened_again()) == digest  # also while the disk is full
    keep(journal, copies)
    without_faults, expected = replayed(copies, Models(small_disk / "models"))
    assert without_faults.digest() == digest
    for id_, answer in answers.items():
        assert expected[id_] == answer
    ballast.unlink()
    assert asyncio.run(opened_again()) == digest
    assert len(snapshots.found(journal)) == 2
