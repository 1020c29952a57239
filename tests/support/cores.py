"""Settings of a core for tests, and how one is left as by a kill."""

from onlineguard_service.config import Settings


def chosen(state, model=None, **more):
    """Settings of a core that writes snapshots only when asked to."""
    usual = {"history": "off", "durability": "async", "snapshot_every": 3_600.0, "remember": 1_000, "max_slices": 1_000}
    return Settings(state=state, model=model, **(usual | more))


async def crashed(core):
    """Leave the folder as a process does that is killed: no snapshot, nothing more written."""
    core._timer.cancel()
    await core._journal.close()
    if core._counting is not None:
        await core._counting.close()
    if core._guard.recorder is not None:
        core._guard.recorder.close()
