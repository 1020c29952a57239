"""What services and workers tell Prometheus, what the rules make of it, and whether an expression is of that alone."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import yaml
from onlineguard_service.fleet import COUNTS
from onlineguard_service.http.metrics import Metrics
from onlineguard_service.partitions.log import Owned
from onlineguard_service.partitions.memory import MemoryLog
from onlineguard_service.shards.held import Held
from onlineguard_service.shards.owner import Owner
from onlineguard_service.shards.serving import metrics as of_worker
from onlineguard_service.shards.snapshots import Snapshots
from onlineguard_service.standing import Standing
from prometheus_client.parser import text_string_to_metric_families

from onlineguard.slidr.registry.stores import opened
from tests.support.double import Double

DEPLOY = Path(__file__).parents[2] / "service" / "deploy"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text("utf-8"))["groups"] for rule in group["rules"]
]
SHARDS = "onlineguard-shards"  # the job of workers
_WORDS = {"and", "or", "unless", "by", "on", "bool", "offset", "group_left"}


def metrics() -> dict[str, set[str]]:
    """The names of the samples of a service that has answered, of a worker that owns a shard, and of what is recorded,
    and the labels of each."""
    double = Double()
    double.tried = "n"  # a trial goes on
    standing = Standing()
    standing.sequence = 1
    told = Metrics(lambda: {**double.status(), "labels": {"last_ts": 0}}, standing=standing)
    told.count("/v1/clicks", 200, 0.0, 3)
    told.called("dashboard")
    found: dict[str, set[str]] = {"up": {"job"}, "ALERTS": {"alertname", "alertstate"}}
    for text in (told.text(), _of_a_worker()):
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                found.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
    for rule in RULES:
        if "record" in rule:
            found[rule["record"]] = {label for name in names(rule["expr"]) for label in found[name]}
    return found


def _of_a_worker() -> bytes:
    log = MemoryLog(1)
    figures = SimpleNamespace(rates=lambda most: {name: {"slice 0": 1} for name in COUNTS})
    guard = SimpleNamespace(n_learned=lambda of: 1, click_figures=figures, model=SimpleNamespace(version="v1"))
    with TemporaryDirectory() as folder:
        owner = Owner(log.member(), log.writer(), Snapshots(opened(folder)), lambda partition, dump: None)
        shard: Any = SimpleNamespace(offset=7, guard=guard)
        owner.held[0] = Held(Owned(0, 1), shard=shard)
        owner.behind.lags = {0: 1.5}
        return of_worker(owner)


def names(expression: str) -> set[str]:
    """The metrics in an expression."""
    plain = re.sub(r'\{[^}]*\}|\[[^\]]*\]|(?:by|on) \([^)]*\)|"[^"]*"', "", expression)
    return {name for name, call in re.findall(r"([a-zA-Z_][\w:]*)(\s*\()?", plain) if not call} - _WORDS


def check(expression: str, known: dict[str, set[str]]) -> None:
    """Fails for a metric that is not told, and for a label that it does not have."""
    assert names(expression) <= known.keys(), expression
    plain = re.sub(r'"[^"]*"', '""', expression)
    for name, labels in re.findall(r"([\w:]+)\{([^}]*)\}", plain):
        assert {label for label, _ in re.findall(r"(\w+)\s*(=~|!~|!=|=)", labels)} <= known[name], expression
