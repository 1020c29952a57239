"""A model is rolled out across a fleet: promoted, tried with a share of the users, and taken back."""

import asyncio

import msgspec
import pytest
from onlineguard_service.entries import Switch
from onlineguard_service.models import Models
from onlineguard_service.partitions.records import controlled

from onlineguard.slidr.registry.registry import Registry
from tests.support.fleets import PARTITIONS, Fleet
from tests.support.redis_server import serving

REPLICAS = 3


@pytest.fixture
def registry(tmp_path, model_folder, other_folder):
    registry = Registry(tmp_path / "registry")
    registry.first, registry.second = (registry.add(folder).version for folder in (model_folder, other_folder))
    registry.promote(registry.first, "the first")
    return registry


def test_a_replica_without_a_registry_decides_by_the_model_of_the_shards(
    tmp_path, model_folder, other_folder, monkeypatch
):
    async def run():
        fleet = Fleet(tmp_path, None, model_folder)
        (replica,) = await fleet.start(monkeypatch, 1, replica_log=None)
        assert replica._guard.model.version == fleet.first.version
        other = Models(tmp_path / "shards" / "models").put(other_folder)
        fleet.models.put(other)
        for partition in range(PARTITIONS):
            fleet.log.writer().write(partition, b"", controlled(Switch(other.version, 0)), "control")
        await fleet.until(lambda: replica._guard.model.version == other.version)
        await fleet.close()

    asyncio.run(run())


def test_all_replicas_and_shards_follow_the_registry_and_share_its_trial_by_user(
    tmp_path, registry, model_folder, clicks, monkeypatch
):
    async def versions(fleet, name):
        """Of every replica, the version that decided each user's click; each time the clicks are new ones."""
        found = []
        for number, replica in enumerate(fleet.replicas):
            asked = [
                msgspec.structs.replace(click, click_id=f"{name} {number} {click.click_id}") for click in clicks[:200]
            ]
            answers = await fleet.clicked(replica, asked)
            found.append(
                {click.user_id or click.session_id: a.model_version for click, a in zip(asked, answers, strict=True)}
            )
        fleet.settle()
        published = fleet.decisions()
        shards = {
            click.user_id or click.session_id: published[f"{name} 0 {click.click_id}"].model_version
            for click in clicks[:200]
        }
        assert found == [shards] * REPLICAS
        return shards

    def follow(fleet, version, share):
        """Whether everybody decides by this version, and tries another one with this share."""

        def holds():
            guards = [replica._guard for replica in fleet.replicas] + [shard.guard for shard in fleet.shards]
            return all(
                guard.model.version == version and (guard.trying.share if guard.trying.running else 0.0) == share
                for guard in guards
            )

        return fleet.until(holds)

    async def run(url):
        fleet = Fleet(tmp_path, url, model_folder, registry.url)
        await fleet.start(monkeypatch, REPLICAS)
        assert set((await versions(fleet, "first")).values()) == {registry.first}
        registry.trial(registry.second, "a candidate", share=0.3)
        await follow(fleet, registry.first, 0.3)
        tried = await versions(fleet, "tried")
        chosen = {user for user, version in tried.items() if version == registry.second}
        assert 0.1 < len(chosen) / len(tried) < 0.5
        registry.trial(registry.second, "more of it", share=0.6)
        await follow(fleet, registry.first, 0.6)
        more = {user for user, version in (await versions(fleet, "more")).items() if version == registry.second}
        assert chosen < more
        registry.promote(registry.second, "it is better")
        await follow(fleet, registry.second, 0.0)
        assert set((await versions(fleet, "second")).values()) == {registry.second}
        registry.rollback("it was not")
        await follow(fleet, registry.first, 0.0)
        assert set((await versions(fleet, "back")).values()) == {registry.first}
        await fleet.close()

    with serving(tmp_path) as port:
        asyncio.run(run(f"redis://127.0.0.1:{port}/0"))
