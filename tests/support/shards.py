"""Records of every kind for shards, and shards to apply them."""

import msgspec
import numpy as np
from onlineguard_service.entries import Options, Switch
from onlineguard_service.partitions.log import Record
from onlineguard_service.partitions.records import controlled
from onlineguard_service.shards.shard import Shard

from onlineguard.wire.requests import Event, Label

NOON = 1_700_000_000_000
OPTIONS = {"n_features": 2, "detector": "marginal", "remember": 60, "max_alarms": 30, "max_slices": 2_000}


def records(n, seed=0, clicks=(), versions=(), slices=2):
    """Records of one item or a few: odd events among usual ones, repeats, poison, labels, switches of the model."""
    rng, sent, found, t, offset = np.random.default_rng(seed), [], [], NOON, -1
    clicks = iter(clicks)

    def event(i):
        x = rng.normal(100.0, 5.0, 2)
        return Event(
            f"s{rng.integers(slices)}",
            (x + 900.0 * (rng.random() < 0.03)).tolist(),
            id=f"{seed}.{i}" if rng.random() < 0.5 else None,
        )

    for i in range(n):
        t, offset, kind = t + int(rng.integers(0, 90)), offset + int(rng.integers(1, 4)), "events"
        which = rng.random()
        if which < 0.03 and sent:
            value = sent[rng.integers(max(0, len(sent) - 80), len(sent))]
        elif which < 0.05:
            value = [b"{", b'{"slice": "a", "x": [1]}', b'{"slice": "a", "x": [1, "text"]}'][rng.integers(3)]
        elif which < 0.35 and (some := [click for _, click in zip(range(rng.integers(1, 3)), clicks, strict=False)]):
            kind, value = "clicks", msgspec.json.encode(some)
            if rng.random() < 0.1:
                found.append(Record(offset, t, msgspec.json.encode(Label(some[0].click_id, some[0].ts)), "labels"))
                offset += 1
        elif which < 0.37 and versions:
            kind, value = "control", controlled(Switch(versions[rng.integers(len(versions))], 0))
        else:
            value = msgspec.json.encode([event((i, k)) for k in range(rng.integers(1, 4))])
            sent.append(value)
        found.append(Record(offset, t, value, kind))
    return found


def shard(models, partition=0, partitions=1, **options):
    one = Shard(partition, partitions, Options(**OPTIONS | options), models.first, models.get)
    one.warmup(0)
    return one


def one_by_one(one, given):
    """The outputs and the records to append, when each record comes by itself."""
    outputs, appended = [], []
    for record in given:
        outcome = one.apply([record])
        outputs += outcome.outputs
        appended += outcome.appended
    return outputs, appended
