"""Shards over a log in this process, replicas that answer from their snapshots, and counters in a real Redis."""

import asyncio
import time

import msgspec
from onlineguard_service.config import Settings
from onlineguard_service.entries import Options
from onlineguard_service.following import Following
from onlineguard_service.models import Models
from onlineguard_service.partitions.memory import MemoryLog
from onlineguard_service.replicas import replica as replicas
from onlineguard_service.shards.beginning import SharedModels, begun
from onlineguard_service.shards.choosing import Choosing
from onlineguard_service.shards.owner import Owner, Pace
from onlineguard_service.shards.shard import Shard
from onlineguard_service.shards.snapshots import Snapshots

from onlineguard.slidr.registry.stores import opened
from onlineguard.wire.answers import ClickAnswer

PARTITIONS = 2
PATIENCE = 60.0  # seconds
OPTIONS = Options(
    n_features=2, detector="marginal", max_slices=1_000, remember=10_000, max_entities=10_000, counting=False
)


class Fleet:
    """See this module. `model`: the folder of the first one; `registry`: the URL of one that everybody follows."""

    def __init__(self, folder, redis, model, registry=None):
        self.folder, self.redis, self.registry = folder, redis, registry
        self.log, self.store, self.replicas = MemoryLog(PARTITIONS), opened(folder / "snapshots"), []
        models = Models(folder / "shards" / "models")
        following = registry and Following(registry, models, folder / "shards" / "models")
        self.models = SharedModels(self.store, models, folder / "shards" / "models", following)
        self.first = models.put(model)
        self.models.put(self.first)
        begun(self.store, OPTIONS, PARTITIONS, self.first)
        choosing = Choosing(OPTIONS, None, following, self.models.put, 0.0)
        self.snapshots = Snapshots(self.store)
        self.owner = Owner(
            self.log.member("only"),
            self.log.writer(),
            self.snapshots,
            self._made,
            Pace(wait=0.0, snapshot_every=0.0),
            choosing,
        )

    def _made(self, partition, dump):
        if dump is None:
            return Shard(partition, PARTITIONS, OPTIONS, self.first.version, self.models.get)
        return Shard.restored(partition, PARTITIONS, dump, self.models.get)

    async def start(self, monkeypatch, n, **settings):
        """So many replicas more."""
        monkeypatch.setattr(replicas, "open_writer", lambda url: self.log.writer())
        self.settle()
        for _ in range(n):
            chosen = {"redis": self.redis, "redis_prefix": "fleet", "replica_log": "memory"}
            chosen |= {"registry": self.registry, "registry_every": 0.1, "replica_every": 0.1} | settings
            state = self.folder / f"replica{len(self.replicas)}"
            one = await replicas.Replica.open(
                Settings(state=state, replica_of=str(self.folder / "snapshots"), **chosen)
            )
            self.replicas.append(one)
        return self.replicas

    async def clicked(self, replica, clicks):
        """The answers."""
        self.log.t = time.time_ns() // 1_000_000
        return await replica.clicks(clicks)

    def settle(self):
        """Turn until every record is applied, published, and in a snapshot."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            self.owner.turn()
            time.sleep(0.002)
            held = self.owner.held.values()
            if (
                len(held) == PARTITIONS
                and not any(each.unread for each in held)
                and not self.owner._pending
                and all(each.shard.offset == each.kept == self.log.end(each.owned.partition) for each in held)
                and all(self.snapshots.current(partition)[1] for partition in range(PARTITIONS))
            ):
                return
        raise AssertionError("it does not come to an end")

    @property
    def shards(self):
        """All of them."""
        return [self.owner.held[partition].shard for partition in range(PARTITIONS)]

    def decisions(self):
        """What was published of each click, by its id."""
        told = [output.value for _, output in self.log.outputs if output.to == "decisions"]
        answers = [msgspec.json.decode(value, type=ClickAnswer) for value in told if b"click_id" in value]
        return {answer.click_id: answer for answer in answers}

    async def until(self, holds):
        """Turn the owner until something holds."""
        for _ in range(1_200):
            self.owner.turn()
            if holds():
                return
            await asyncio.sleep(0.05)
        raise AssertionError("did not come about")

    async def close(self):
        """Stop all."""
        for one in self.replicas:
            await one.close()
        self.owner.close()
