"""Every manifest against the schemas of Kubernetes and of the Dask operator, and against the code."""

from __future__ import annotations

import copy
import functools
import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import dask_kubernetes
import jsonschema
import kubernetes_validate
import pytest
import yaml

from batch.runtime import kubernetes

VERSIONS = ("1.29", kubernetes_validate.latest_version())
"""1.29 is the oldest whose schema has podFailurePolicy rules by exit code alone."""
ROOT = Path(__file__).resolve().parents[3] / "k8s"
CRDS = Path(str(resources.files(dask_kubernetes))) / "operator/deployment/helm/dask-kubernetes-operator/crds"


@functools.cache
def custom(kind: str) -> jsonschema.Validator:
    """The schema of one of the operator's kinds, closed: what the API server would silently drop fails."""
    text = (CRDS / f"{kind.lower()}.yaml").read_text()
    definition = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    [version] = definition["spec"]["versions"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"const": kind}, "metadata": {}}
    return jsonschema.Draft202012Validator(schema)


def closed(schema: Any) -> Any:
    """The same schema, in which unknown properties are errors."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    made = {k: closed(v) for k, v in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    # a property may itself be called "properties": it has no type beside it
    if schema.get("type") == "object" and "properties" in schema and "additionalProperties" not in schema:
        made["additionalProperties"] = False
    return made


def check(document: dict[str, Any]) -> None:
    if document["apiVersion"].startswith("kubernetes.dask.org/"):
        custom(document["kind"]).validate(document)
        return
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)


def test_every_manifest_is_valid(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        check(document)


def test_pods_within_custom_resources_are_valid_too(documents: list[dict[str, Any]], pods: Any) -> None:
    """The operator's schema is that of Kubernetes 1.21; nodes run newer ones."""
    for name, metadata, spec in pods(documents):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "name": name}, "spec": spec}
        check(pod)


def test_the_checks_see_what_is_wrong(rendered: dict[str, Any]) -> None:
    for kind, path in (
        ("Job", ("spec", "template", "spec", "containers", 0, "resorces")),
        ("NetworkPolicy", ("spec", "ingres")),
        (
            "DaskCluster",
            ("spec", "worker", "spec", "containers", 0, "securityContext", "readOnlyRootFilesytem"),
        ),
        ("DaskAutoscaler", ("spec", "maximun")),
    ):
        wrong = copy.deepcopy(next(d for d in rendered["base"] if d["kind"] == kind))
        place: Any = wrong
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = {}
        with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
            check(wrong)


def test_what_lies_there_is_what_the_code_makes(documents: Any, built: Any) -> None:
    def by_name(found: list[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
        return {(d["kind"], d["metadata"]["name"]): d for d in found}

    assert by_name(documents) == by_name(built)
    assert len(documents) == len(built)


def test_files_of_the_base_hold_what_their_names_say(kustomize: ModuleType, base: dict[str, Any]) -> None:
    for name, documents in base.items():
        assert kustomize.load(ROOT / "base" / name) == documents


def test_the_command_prints_the_base(base: dict[str, Any]) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "batch.runtime.kubernetes", "cluster.kubernetes.image=mine:1"],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = kubernetes.text([d for file in base.values() for d in file])
    expected = expected.replace("acs-batch:latest", "mine:1")
    printed = list(yaml.safe_load_all(done.stdout))
    # the settings that the driver reads tell of the image, too
    changed = [d for d in yaml.safe_load_all(expected) if d["kind"] != "ConfigMap"]
    assert [d for d in printed if d["kind"] != "ConfigMap"] == changed


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl here")
def test_kustomize_agrees(documents: list[dict[str, Any]], folder: str) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / folder)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": "/nonexistent"},
    )
    printed = list(yaml.safe_load_all(done.stdout))
    key = lambda d: (d["kind"], d["metadata"]["name"])  # noqa: E731
    assert sorted(printed, key=key) == sorted(documents, key=key)


def test_what_the_operator_makes_of_it_is_valid(documents: list[dict[str, Any]]) -> None:
    """The operator's own functions, the API server's schemas."""
    from dask_kubernetes.operator.controller import controller

    [cluster] = [d for d in documents if d["kind"] == "DaskCluster"]
    name, spec = cluster["metadata"]["name"], cluster["spec"]
    scheduler, worker = spec["scheduler"], spec["worker"]
    made = [
        controller.build_scheduler_deployment_spec(name, scheduler["spec"], **scheduler["metadata"]),
        controller.build_scheduler_service_spec(name, scheduler["service"], **scheduler["metadata"]),
        controller.build_worker_deployment_spec(
            f"{name}-default", "acs-batch", name, "0123456789", worker["spec"], **worker["metadata"]
        ),
    ]
    for document in made:
        check(document)
    [container] = made[2]["spec"]["template"]["spec"]["containers"]
    addresses = [e["value"] for e in container["env"] if e["name"] == "DASK_SCHEDULER_ADDRESS"]
    assert addresses == [f"tls://{name}-scheduler.acs-batch.svc:8786"], "ours, not the operator's plain one"
    assert any(e["name"] == "DASK_WORKER_NAME" for e in container["env"])
