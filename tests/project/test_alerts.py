"""The alert rules fire where they should and rest where they should, as Prometheus' own `promtool test rules` finds."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.redis_server import CI

RULES = Path(__file__).parents[2] / "service/deploy/alerts.yml"
CASES = {  # rule: series that make it fire within two hours, and series with which it rests
    "OnlineguardModelDeviates": ({'onlineguard_alarms_total{figure="fpr"}': "0x30 1x90"}, "0x120"),
    "OnlineguardTrafficDeviates": ({'onlineguard_alarms_total{figure="scores"}': "0x80 1x40"}, "0x120"),
    "OnlineguardRolledBack": ({"onlineguard_rollbacks_total": "0x80 1x40"}, "0x120"),
    "OnlineguardModelRefused": ({"onlineguard_registry_refused": "1x120"}, "0x120"),
    "OnlineguardRegistryAway": ({"onlineguard_registry_age_seconds": "0+60x120"}, "20x120"),
    "OnlineguardLookupsOld": ({"onlineguard_lookups_age_seconds": "192000+60x120"}, "9x120"),
    "OnlineguardModelOld": (
        {"onlineguard_model_age_seconds": "259000+60x120", "onlineguard_model_watched": "1x120"},
        "9x120",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_rule_of_the_live_watch_fires_and_rests(name, tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        missing = "promtool is not installed; on Debian it is in the package prometheus"
        if CI:
            pytest.fail(missing)
        pytest.skip(missing)
    firing, resting = CASES[name]
    rule = next(r for g in yaml.safe_load(RULES.read_text())["groups"] for r in g["rules"] if r["alert"] == name)
    labels = {"figure": next(iter(firing)).split('"')[1]} if "figure" in next(iter(firing)) else {}
    told = {"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": rule["annotations"]}
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in given.items()],
            "alert_rule_test": [{"eval_time": "85m", "alertname": name, "exp_alerts": expected}],
        }
        for given, expected in ((firing, [told]), (dict.fromkeys(firing, resting), []))
    ]
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
