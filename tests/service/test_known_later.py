"""Labels and delayed decisions, of which a request may hold thousands: it is worked off in parts, as one would be."""

import asyncio

import pytest
from onlineguard_service import answering, entries
from onlineguard_service.core import Core
from onlineguard_service.replacing import standing

from onlineguard.records.decisions import Decision, Standing
from onlineguard.wire.requests import Label
from tests.support.cores import chosen, crashed

MANY = 10_000


def labels(clicks):
    """Of each click in turn, over and over, and of many that never came."""
    known = [Label(click.click_id, click.ts) for click in clicks]
    return [known[n // 2 % len(known)] if n % 2 else Label(f"absent {n}", rfm=5.0) for n in range(MANY)]


def decisions(answers):
    """The same: the first of a click is applied, the next ones come again, and later ones of another model conflict."""
    known = [
        Decision(
            click_id=answer.click_id, decision="robotic", p_robot=0.75, threshold=0.5, slice=answer.slice,
            model_version="later", replaces=standing(answer),
        )
        for answer in answers
    ]  # fmt: skip
    return [known[n // 2 % len(known)] if n % 2 else absent(n % 700, n // 4_000) for n in range(MANY)]


def absent(n, model):
    before = Standing("first", "valid", 0.25, 0.5)
    return Decision(
        click_id=f"absent {n}", decision="robotic", p_robot=0.75, threshold=0.5, slice="s",
        model_version=f"later {model}", replaces=before,
    )  # fmt: skip


async def taught(folder, model_folder, clicks, counted=None):
    """A core that was told a lot of clicks, its answers, and how many entries it took."""
    core = await Core.open(chosen(folder, model_folder))
    answers = await core.clicks(clicks)
    before = core._journal.sequence
    told = [await core.labels(labels(clicks)), await core.decisions(decisions(answers))]
    return core, told, core._journal.sequence - before


def test_a_large_request_in_parts_is_answered_as_one_whole_would_be_to_the_last_bit(
    tmp_path, model_folder, clicks, monkeypatch
):
    monkeypatch.setattr(entries, "now", lambda: 1_790_000_000_000)

    async def run():
        core, in_parts, parts = await taught(tmp_path / "parts", model_folder, clicks[:200])
        assert parts == 2 * -(-MANY // answering.KNOWN_AT_ONCE)
        digest = core.digest()
        await crashed(core)
        again = await Core.open(chosen(tmp_path / "parts"))
        assert again.digest() == digest
        await again.close()
        monkeypatch.setattr(answering, "KNOWN_AT_ONCE", MANY)
        core, whole, entries_ = await taught(tmp_path / "whole", model_folder, clicks[:200])
        assert (entries_, whole) == (2, in_parts)
        assert core.digest() == digest
        assert {answer.outcome for answer in whole[1]} == {"applied", "repeated", "conflict"}
        await core.close()

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["labels", "decisions"])
def test_others_are_answered_between_the_parts_of_a_large_request(tmp_path, model_folder, clicks, kind):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder))
        answers = await core.clicks(clicks[:5])
        many, order = {"labels": labels(clicks[:5]), "decisions": decisions(answers)}[kind], []

        async def asked(name, items):
            assert len(await getattr(core, kind)(items)) == len(items)
            order.append(name)

        await asyncio.gather(asked("large", many), asked("small", many[:1]))
        assert order == ["small", "large"]
        await core.close()

    asyncio.run(run())
