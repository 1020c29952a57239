"""The manifests for Kubernetes, held against its schemas, against each other, and against the service."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from onlineguard_service import config

from onlineguard.wire import operations

FOLDER = Path(__file__).parents[2] / "service" / "kubernetes"
DOCKERFILE = (FOLDER.parent / "Dockerfile").read_text("utf-8")
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))
MANIFESTS: dict[str, Any] = {
    name: yaml.safe_load((FOLDER / name).read_text("utf-8")) for name in KUSTOMIZATION["resources"]
}
VERSION = "1.33"


def labelled(value: Any, labels: dict[str, str]) -> Any:
    """A manifest as kustomize makes it of ours: with the labels in all places where they belong."""
    value["metadata"].setdefault("labels", {}).update(labels)
    spec, kind = value["spec"], value["kind"]
    if kind == "Service":
        spec.setdefault("selector", {}).update(labels)
    else:
        spec.setdefault("selector", {}).setdefault("matchLabels", {}).update(labels)
    if kind == "StatefulSet":
        spec["template"].setdefault("metadata", {}).setdefault("labels", {}).update(labels)
    return value


@pytest.mark.parametrize("name", sorted(set(MANIFESTS) - {"monitor.yaml"}))
def test_a_manifest_is_what_the_schema_of_kubernetes_says(name):
    validate = pytest.importorskip("kubernetes_validate", reason="of the group dev: 100 MB of schemas")
    (labels,) = KUSTOMIZATION["labels"]
    assert labels["includeSelectors"]
    made = labelled(yaml.safe_load((FOLDER / name).read_text("utf-8")), labels["pairs"])
    validate.validate(made, VERSION, strict=True)
    del made["spec"]
    with pytest.raises(validate.ValidationError):  # so the schema is one that says something
        validate.validate({**made, "spec": {"unknown": 1}}, VERSION, strict=True)


def test_every_file_is_a_resource_of_the_kustomization():
    assert {path.name for path in FOLDER.iterdir()} == {*KUSTOMIZATION["resources"], "kustomization.yaml"}


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
