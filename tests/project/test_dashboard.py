"""The dashboard, held against what Grafana takes, against Prometheus, and against what the service tells."""

import copy
import json
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.support.exported import DEPLOY, check, metrics
from tests.support.redis_server import CI

DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "dashboard.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in SHOWN for target in panel["targets"]]
EXPRESSIONS += [each["expr"] for each in DASHBOARD["annotations"]["list"]]


def lost(given: Any, back: Any, path: str = "") -> list[str]:
    """Where something is not the same any more, in a value that may have got more."""
    if isinstance(given, dict) and isinstance(back, dict):
        return [at for name in given for at in lost(given[name], back.get(name, KeyError), f"{path}/{name}")]
    if isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        return [at for i, pair in enumerate(zip(given, back, strict=True)) for at in lost(*pair, f"{path}/{i}")]
    return [] if given == back else [path]


def test_grafanas_own_types_know_every_field():
    dashboards = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason="of the group dev")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins

    register_default_plugins()

    def returned(dashboard: dict[str, Any]) -> Any:
        return json.loads(json.dumps(dashboards.Dashboard.from_json(copy.deepcopy(dashboard)), cls=JSONEncoder))

    assert lost(DASHBOARD, returned(DASHBOARD)) == []
    wrong = copy.deepcopy(DASHBOARD)
    wrong["panels"][1]["fieldConfig"]["defaults"]["unt"] = "s"
    assert lost(wrong, returned(wrong)) == ["/panels/1/fieldConfig/defaults/unt"]


def test_panels_have_ids_of_their_own_and_do_not_lie_on_each_other():
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    rows = [panel["title"] for panel in PANELS if panel["type"] == "row"]
    about = ["Verdicts", "Alarms", "Models and live watch"]
    assert rows == ["Now", "Traffic", "Latency", *about, "Durability", "Resources", "Workers of shards"]
    assert all(panel["title"] and panel["description"].endswith(".") for panel in SHOWN)


def test_all_data_comes_from_the_source_that_is_chosen():
    assert (
        DASHBOARD["templating"]["list"][0] | {"type": "datasource", "query": "prometheus"}
        == (DASHBOARD["templating"]["list"][0])
    )
    chosen = {"type": "prometheus", "uid": f"${{{DASHBOARD['templating']['list'][0]['name']}}}"}
    asking = [*SHOWN, *(target for panel in SHOWN for target in panel["targets"])]
    asking += [*DASHBOARD["annotations"]["list"], *DASHBOARD["templating"]["list"][1:]]
    assert all(each["datasource"] == chosen for each in asking)


def test_every_expression_goes_by_metrics_and_labels_that_the_service_has():
    known = metrics()
    for expression in EXPRESSIONS:
        check(expression, known)


def test_prometheus_can_read_every_expression(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        missing = "promtool is not installed; on Debian it is in the package prometheus"
        if CI:
            pytest.fail(missing)
        pytest.skip(missing)
    plain = [each.replace("$__rate_interval", "5m").replace("$instance", ".*") for each in EXPRESSIONS]
    assert not any("$" in each for each in plain)
    rules = [{"record": f"panel_{i}", "expr": expression} for i, expression in enumerate(plain)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
