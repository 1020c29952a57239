"""What the service tells Prometheus, what the rules make of it, and whether an expression goes by that alone."""

import re
from pathlib import Path
from typing import Any

import yaml
from onlineguard_service.http.metrics import Metrics
from onlineguard_service.standing import Standing
from prometheus_client.parser import text_string_to_metric_families

from tests.support.double import Double

DEPLOY = Path(__file__).parents[2] / "service" / "deploy"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text("utf-8"))["groups"] for rule in group["rules"]
]
_WORDS = {"and", "or", "unless", "by", "on", "bool", "offset"}


def metrics() -> dict[str, set[str]]:
    """The names of the samples of a service that has answered, and of what is recorded, and the labels of each."""
    double = Double()
    double.tried = "n"  # a trial goes on
    standing = Standing()
    standing.sequence = 1
    told = Metrics(lambda: {**double.status(), "labels": {"last_ts": 0}}, standing=standing)
    told.count("/v1/clicks", 200, 0.0, 3)
    told.called("dashboard")
    found: dict[str, set[str]] = {"up": {"job"}, "ALERTS": {"alertname", "alertstate"}}
    for family in text_string_to_metric_families(told.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
    for rule in RULES:
        if "record" in rule:
            found[rule["record"]] = {label for name in names(rule["expr"]) for label in found[name]}
    return found


def names(expression: str) -> set[str]:
    """The metrics in an expression."""
    plain = re.sub(r'\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)|"[^"]*"', "", expression)
    return {name for name, call in re.findall(r"([a-zA-Z_][\w:]*)(\s*\()?", plain) if not call} - _WORDS


def check(expression: str, known: dict[str, set[str]]) -> None:
    """Fails for a metric that is not told, and for a label that it does not have."""
    assert names(expression) <= known.keys(), expression
    plain = re.sub(r'"[^"]*"', '""', expression)
    for name, labels in re.findall(r"([\w:]+)\{([^}]*)\}", plain):
        assert {label for label, _ in re.findall(r"(\w+)\s*(=~|!~|!=|=)", labels)} <= known[name], expression
