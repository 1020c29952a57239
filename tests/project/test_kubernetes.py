"""The manifests for Kubernetes, held against its schemas, against each other, and against the service."""

import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from onlineguard_service import config
from onlineguard_service.partitions.memory import MemoryLog
from onlineguard_service.partitions.urls import parsed
from onlineguard_service.shards.owner import Owner
from onlineguard_service.shards.serving import metrics, serving
from onlineguard_service.shards.snapshots import Snapshots
from prometheus_client.parser import text_string_to_metric_families

from onlineguard.slidr.registry.stores import opened
from onlineguard.wire import operations
from tests.support.exported import SHARDS, names
from tests.support.worker_flags import told

FOLDER = Path(__file__).parents[2] / "service" / "kubernetes"
DOCKERFILE = (FOLDER.parent / "Dockerfile").read_text("utf-8")
FOLDERS = (".", "workers", "workers/autoscaling")


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text("utf-8"))


KUSTOMIZATIONS = {folder: read(f"{folder}/kustomization.yaml") for folder in FOLDERS}
KUSTOMIZATION, WORKERS = KUSTOMIZATIONS["."], KUSTOMIZATIONS["workers"]
MANIFESTS: dict[str, Any] = {
    str(Path(folder) / name): read(f"{folder}/{name}")
    for folder in FOLDERS
    for name in KUSTOMIZATIONS[folder]["resources"]
}
OF_OTHERS = {"PodMonitor", "ScaledObject", "ServiceMonitor"}  # whose schemas are not Kubernetes' own
VERSION = "1.33"


def labelled(value: Any, labels: dict[str, str]) -> Any:
    """A manifest as kustomize makes it of ours: with the labels in all places where they belong."""
    value["metadata"].setdefault("labels", {}).update(labels)
    spec, kind = value["spec"], value["kind"]
    if kind == "Service":
        spec.setdefault("selector", {}).update(labels)
    else:
        spec.setdefault("selector", {}).setdefault("matchLabels", {}).update(labels)
    if kind in ("Deployment", "StatefulSet"):
        spec["template"].setdefault("metadata", {}).setdefault("labels", {}).update(labels)
    return value


@pytest.mark.parametrize("name", sorted(name for name, each in MANIFESTS.items() if each["kind"] not in OF_OTHERS))
def test_a_manifest_is_what_the_schema_of_kubernetes_says(name):
    validate = pytest.importorskip("kubernetes_validate", reason="of the group dev: 100 MB of schemas")
    (labels,) = KUSTOMIZATIONS[str(Path(name).parent)]["labels"]
    assert labels["includeSelectors"]
    made = labelled(read(name), labels["pairs"])
    validate.validate(made, VERSION, strict=True)
    del made["spec"]
    with pytest.raises(validate.ValidationError):  # so the schema is one that says something
        validate.validate({**made, "spec": {"unknown": 1}}, VERSION, strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_is_a_resource_of_its_kustomization(folder):
    files = {path.name for path in (FOLDER / folder).iterdir() if path.is_file()}
    assert files == {*KUSTOMIZATIONS[folder]["resources"], "kustomization.yaml"}


def test_the_pod_has_the_state_the_user_and_the_ports_of_the_image():
    pod = MANIFESTS["statefulset.yaml"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert f"--uid {pod['securityContext']['runAsUser']} " in DOCKERFILE
    assert f"EXPOSE {container['ports'][0]['containerPort']}" in DOCKERFILE
    claims = {claim["metadata"]["name"] for claim in MANIFESTS["statefulset.yaml"]["spec"]["volumeClaimTemplates"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {mounts[claim] for claim in claims} == {"/var/lib/onlineguard"}
    assert "VOLUME /var/lib/onlineguard" in DOCKERFILE
    for probe, operation in (("readinessProbe", operations.READYZ), ("livenessProbe", operations.LIVEZ)):
        assert container[probe]["httpGet"]["path"] == operation.path
        assert container[probe]["httpGet"]["port"] == container["ports"][0]["name"]
    assert MANIFESTS["monitor.yaml"]["spec"]["endpoints"][0]["path"] == operations.METRICS.path


def test_the_settings_are_settings_and_a_pod_has_time_to_stop():
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    settings = dict(literal.split("=") for literal in generated["literals"])
    loaded = config.load({}, settings).settings
    pod = MANIFESTS["statefulset.yaml"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["envFrom"][0]["configMapRef"]["name"] == generated["name"]
    assert pod["terminationGracePeriodSeconds"] >= loaded.drain + loaded.grace + 30
    # the balancer has heard of it before the listener closes
    probe = pod["containers"][0]["readinessProbe"]
    assert loaded.drain >= 2 * probe["periodSeconds"] * probe["failureThreshold"]


def test_a_worker_is_called_with_flags_and_settings_that_it_takes():
    pod = MANIFESTS["workers/deployment.yaml"]["spec"]["template"]["spec"]
    (container,), (generated,) = pod["containers"], WORKERS["configMapGenerator"]
    assert container["envFrom"][0]["configMapRef"]["name"] == generated["name"]
    given = told(container["args"], dict(literal.split("=", 1) for literal in generated["literals"]))
    assert parsed(given["source"]).kind == "redis"
    assert given["snapshots"].startswith("s3://")
    assert (given["metrics_host"], given["metrics_port"]) == ("0.0.0.0", container["ports"][0]["containerPort"])


def test_a_worker_has_the_user_of_the_image_writes_where_it_may_and_has_time_to_leave_snapshots():
    pod = MANIFESTS["workers/deployment.yaml"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert f"--uid {pod['securityContext']['runAsUser']} " in DOCKERFILE
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {mounts[volume["name"]] for volume in pod["volumes"]} == {"/var/lib/onlineguard", "/tmp"}
    assert "ONLINEGUARD_COMPILATION_CACHE=/var/lib/onlineguard/" in DOCKERFILE
    assert pod["terminationGracePeriodSeconds"] >= 120  # as long as actors have, see `cluster.placing.LEAVING`
    assert MANIFESTS["workers/deployment.yaml"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_a_worker_answers_its_probes_and_its_monitor(tmp_path):
    pod = MANIFESTS["workers/deployment.yaml"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/livez", "readiness": "/readyz", "liveness": "/livez"}
    assert {container[f"{probe}Probe"]["httpGet"]["port"] for probe in paths} == {container["ports"][0]["name"]}
    (endpoint,) = MANIFESTS["workers/monitor.yaml"]["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == container["ports"][0]["name"]
    assert [each["replacement"] for each in endpoint["relabelings"] if each["targetLabel"] == "job"] == [SHARDS]
    log = MemoryLog(1)
    owner = Owner(log.member(), log.writer(), Snapshots(opened(tmp_path)), lambda partition, dump: None)
    with serving(owner, "127.0.0.1", 0) as port:
        for path in (*paths.values(), endpoint["path"]):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                assert answer.status == 200
    owner.close()


def test_workers_are_scaled_by_metrics_that_they_have_up_to_the_number_of_partitions(tmp_path):
    spec = MANIFESTS["workers/autoscaling/scaling.yaml"]["spec"]
    deployment = MANIFESTS["workers/deployment.yaml"]
    assert spec["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert spec["minReplicaCount"] == deployment["spec"]["replicas"]
    url = dict(literal.split("=", 1) for literal in WORKERS["configMapGenerator"][0]["literals"])["ONLINEGUARD_FROM"]
    assert spec["maxReplicaCount"] == int(parsed(url).query["partitions"])
    log = MemoryLog(1)
    owner = Owner(log.member(), log.writer(), Snapshots(opened(tmp_path)), lambda partition, dump: None)
    owner.behind.lags = {0: 1.5}
    known = {sample.name for each in text_string_to_metric_families(metrics(owner).decode()) for sample in each.samples}
    used = [names(trigger["metadata"]["query"]) for trigger in spec["triggers"]]
    assert used == [{"onlineguard_worker_records_total"}, {"onlineguard_shard_lag_seconds"}]
    assert set.union(*used) <= known
    owner.close()
