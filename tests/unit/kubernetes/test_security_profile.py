"""The restricted profile, secrets, rights and networks, read off the manifests themselves."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from batch.runtime import manifests
from batch.runtime.classes import KEPT, THREADS

K8S = Path(__file__).resolve().parents[3] / "k8s"
UNITS = {"Gi": 2**30, "Mi": 2**20, "": 1}
# https://kubernetes.io/docs/concepts/security/pod-security-standards/ (restricted, volume types)
VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"),
    *("projected", "secret"),
}


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Gi|Mi|)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def violations(spec: dict[str, Any]) -> list[str]:
    """What the Pod Security Standard ``restricted`` has against a pod; empty: nothing."""
    found = []
    pod = spec.get("securityContext", {})
    found += [f"{k} is on" for k in ("hostNetwork", "hostPID", "hostIPC") if spec.get(k)]
    for volume in spec.get("volumes", ()):
        kinds = set(volume) - {"name"}
        found += [f"volume {volume['name']}: {k}" for k in kinds - VOLUMES]
    for key in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(key, ()):
            own = container.get("securityContext", {})
            name = container["name"]
            if own.get("privileged"):
                found.append(f"{name}: privileged")
            if own.get("allowPrivilegeEscalation") is not False:
                found.append(f"{name}: allowPrivilegeEscalation")
            if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
                found.append(f"{name}: capabilities")
            if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
                found.append(f"{name}: runAsNonRoot")
            if own.get("runAsUser", pod.get("runAsUser")) == 0:
                found.append(f"{name}: runAsUser 0")
            seccomp = own.get("seccompProfile", pod.get("seccompProfile", {})).get("type")
            if seccomp not in ("RuntimeDefault", "Localhost"):
                found.append(f"{name}: seccompProfile")
            if own.get("procMount", "Default") != "Default":
                found.append(f"{name}: procMount")
            found += [f"{name}: hostPort" for p in container.get("ports", ()) if p.get("hostPort")]
    if pod.get("sysctls"):
        found.append("sysctls")
    return found


def test_every_pod_is_restricted(documents: list[dict[str, Any]], pods: Any) -> None:
    found = list(pods(documents))
    assert {name for name, _, _ in found} == {"driver", "scheduler", "worker"}
    for name, _, spec in found:
        assert violations(spec) == [], name
        # and what the profile does not ask for
        assert spec["securityContext"]["runAsUser"] == 1000
        assert spec["enableServiceLinks"] is False
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            writable = [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")]
            assert writable[0] == "/scratch"


def test_a_violation_is_seen() -> None:
    """An init container has to follow the profile as well."""
    spec = {
        "hostPID": True,
        "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
        "containers": [],
        "initContainers": [{"name": "init", "securityContext": {"capabilities": {"drop": ["NET_RAW"]}}}],
    }
    assert violations(spec) == [
        "hostPID is on",
        "volume host: hostPath",
        "init: allowPrivilegeEscalation",
        "init: capabilities",
        "init: runAsNonRoot",
        "init: seccompProfile",
    ]


def test_the_namespace_enforces_it(documents: list[dict[str, Any]]) -> None:
    [namespace] = [d for d in documents if d["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {d["metadata"].get("namespace") for d in documents if d["kind"] != "Namespace"} == {"acs-batch"}


def test_requests_are_the_planned_memory(documents: list[dict[str, Any]], pods: Any) -> None:
    for name, _, spec in pods(documents):
        [container] = spec["containers"]
        resources = container["resources"]
        assert resources["requests"] == resources["limits"], name
        assert set(resources["limits"]) == {"cpu", "memory", "ephemeral-storage"}
        if name == "worker":
            [promise] = [a for a in container["args"] if a.startswith("memory=")]
            assert int(promise.removeprefix("memory=")) + KEPT == size(resources["limits"]["memory"])
            assert container["args"][container["args"].index("--nthreads") + 1] == "1"
        if name != "scheduler":
            [scratch] = [v for v in spec["volumes"] if v["name"] == "scratch"]
            assert scratch["emptyDir"]["sizeLimit"] == resources["limits"]["ephemeral-storage"]


def test_threads_follow_the_limit(documents: list[dict[str, Any]], pods: Any) -> None:
    for name, _, spec in pods(documents):
        if name == "scheduler":
            continue
        [container] = spec["containers"]
        env = {e["name"]: e for e in container["env"]}
        for variable in THREADS:
            source = env[variable]["valueFrom"]["resourceFieldRef"]
            assert source == {"containerName": container["name"], "resource": "limits.cpu", "divisor": "1"}


def test_secrets_come_from_secrets(documents: list[dict[str, Any]], pods: Any) -> None:
    for _, _, spec in pods(documents):
        for container in spec["containers"]:
            for variable in container.get("env", ()):
                if re.search("TOKEN|KEY|SECRET|PASSW|CREDENTIAL", variable["name"]):
                    assert set(variable) == {"name", "valueFrom"}
                    assert set(variable["valueFrom"]) == {"secretKeyRef"}
    assert not [d for d in documents if d["kind"] == "Secret"]


def test_no_value_of_a_secret_lies_in_the_folder(kustomize: ModuleType) -> None:
    found = [d for path in K8S.rglob("*.yaml") for d in kustomize.load(path) if d["kind"] == "Secret"]
    assert {d["metadata"]["name"] for d in found} == {"acs-batch-tls", "acs-batch-tokens"}
    for document in found:
        assert set(document["data"].values()) == {""}
        assert "stringData" not in document
    for path in K8S.rglob("*"):
        if path.is_file():
            assert "PRIVATE KEY" not in path.read_text()


def test_the_template_names_what_pods_look_for(kustomize: ModuleType) -> None:
    found = {d["metadata"]["name"]: d for d in kustomize.load(K8S / "secrets.template.yaml")}
    assert tuple(found["acs-batch-tokens"]["data"]) == manifests.TOKENS
    assert [f"{manifests.KEYS}/{name}" for name in found["acs-batch-tls"]["data"]] == [
        a for a in manifests.TLS_ARGUMENTS if a.startswith("/")
    ]


def test_everybody_speaks_tls_with_keys_that_are_mounted(documents: list[dict[str, Any]], pods: Any) -> None:
    for name, _, spec in pods(documents):
        [container] = spec["containers"]
        [mount] = [m for m in container["volumeMounts"] if m["mountPath"] == manifests.KEYS]
        [volume] = [v for v in spec["volumes"] if v["name"] == mount["name"]]
        assert volume["secret"] == {"secretName": "acs-batch-tls", "defaultMode": 0o440}
        assert mount["readOnly"]
        if name != "driver":
            assert container["args"][-8:] == list(manifests.TLS_ARGUMENTS)


def test_only_the_driver_has_a_token_and_it_opens_one_door(
    documents: list[dict[str, Any]], pods: Any
) -> None:
    tokens = {name: spec["automountServiceAccountToken"] for name, _, spec in pods(documents)}
    assert tokens == {"driver": True, "scheduler": False, "worker": False}
    accounts = {name: spec["serviceAccountName"] for name, _, spec in pods(documents)}
    bindings = {
        (s["name"], d["roleRef"]["name"])
        for d in documents
        if d["kind"] == "RoleBinding"
        for s in d["subjects"]
    }
    assert bindings == {(accounts["driver"], "acs-batch-driver")}
    [role] = [d for d in documents if d["kind"] == "Role" and d["metadata"]["name"] == "acs-batch-driver"]
    assert role["rules"] == [
        {
            "apiGroups": ["kubernetes.dask.org"],
            "resources": ["daskclusters"],
            "resourceNames": ["acs-batch"],
            "verbs": ["delete"],
        }
    ]


def test_no_role_is_broader_than_it_looks(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        assert not document["kind"].startswith("ClusterRole")
        for rule in document.get("rules", ()):
            assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
            if "secrets" in rule["resources"]:
                assert not {"get", "list", "watch"} & set(rule["verbs"])


def test_scheduler_and_driver_outlive_a_drained_node(documents: list[dict[str, Any]]) -> None:
    budgets = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "PodDisruptionBudget"}
    assert budgets["acs-batch-scheduler"]["minAvailable"] == 1
    assert budgets["acs-batch-driver"]["minAvailable"] == 1
    assert budgets["acs-batch-worker"]["maxUnavailable"] == "25%"


# who reaches whom: pods as (namespace, labels), others as addresses
def own(component: str, cluster: str = "acs-batch") -> tuple[str, dict[str, str]]:
    return "acs-batch", {"dask.org/cluster-name": cluster, "dask.org/component": component}


SCHEDULER, WORKER, DRIVER = own("scheduler"), own("worker"), own("driver")
STRANGER = ("acs-batch", {"app": "notebook"})
OTHER_RUN = own("worker", "acs-batch-other")
PROMETHEUS, OPERATOR, ELSEWHERE = ("monitoring", {}), ("dask-operator", {}), ("default", {})
DNS = ("kube-system", {"k8s-app": "kube-dns"})

ALLOWED = [
    (WORKER, SCHEDULER, 8786),
    (DRIVER, SCHEDULER, 8786),
    (SCHEDULER, WORKER, 8789),
    (WORKER, WORKER, 8789),
    (SCHEDULER, WORKER, 8790),
    (PROMETHEUS, SCHEDULER, 8787),
    (PROMETHEUS, WORKER, 8788),
    (OPERATOR, SCHEDULER, 8787),
    (WORKER, DNS, 53),
    (DRIVER, DNS, 53),
    (SCHEDULER, DNS, 53),
    (WORKER, "130.167.201.60", 443),
    (DRIVER, "130.167.201.60", 443),
    (DRIVER, "10.0.0.1", 6443),
]
REFUSED = [
    (STRANGER, SCHEDULER, 8786),
    (STRANGER, SCHEDULER, 8787),
    (STRANGER, WORKER, 8789),
    (STRANGER, WORKER, 8790),
    (DRIVER, WORKER, 8790),
    (STRANGER, DRIVER, 22),
    (OTHER_RUN, SCHEDULER, 8786),
    (OTHER_RUN, WORKER, 8789),
    (ELSEWHERE, SCHEDULER, 8786),
    (ELSEWHERE, WORKER, 8789),
    (OPERATOR, SCHEDULER, 8786),
    (OPERATOR, WORKER, 8788),
    (PROMETHEUS, SCHEDULER, 8786),
    (PROMETHEUS, WORKER, 8789),
    (DRIVER, WORKER, 8789),
    (WORKER, DRIVER, 8786),
    (WORKER, STRANGER, 80),
    (STRANGER, "130.167.201.60", 443),
    (WORKER, "169.254.169.254", 443),
    (WORKER, "130.167.201.60", 80),
    (SCHEDULER, "130.167.201.60", 443),
    (WORKER, "10.0.0.1", 6443),
]


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())


def reaches(documents: list[dict[str, Any]], source: Any, target: Any, port: int) -> bool:
    """Kubernetes' rules: a chosen pod may do what some policy allows, one that none chooses may do all."""
    policies = [d for d in documents if d["kind"] == "NetworkPolicy"]
    return _passes(policies, source, target, port, "egress") and _passes(
        policies, target, source, port, "ingress"
    )


def _passes(policies: list[Any], pod: Any, peer: Any, port: int, way: str) -> bool:
    if isinstance(pod, str) or pod[0] != "acs-batch":
        return True
    mine = [
        p["spec"]
        for p in policies
        if matches(p["spec"]["podSelector"], pod[1]) and way.title() in p["spec"]["policyTypes"]
    ]
    if not mine:
        return True
    side = "to" if way == "egress" else "from"
    rules = [rule for spec in mine for rule in spec.get(way, ())]
    return any(port in {p["port"] for p in r["ports"]} and any(_is(d, peer) for d in r[side]) for r in rules)


def _is(described: dict[str, Any], peer: Any) -> bool:
    if "ipBlock" in described:
        if not isinstance(peer, str):
            return False
        block = described["ipBlock"]
        address = ipaddress.ip_address(peer)
        return address in ipaddress.ip_network(block["cidr"]) and not any(
            address in ipaddress.ip_network(e) for e in block["except"]
        )
    if isinstance(peer, str):
        return False
    namespace, labels = peer
    if "namespaceSelector" in described:
        there = matches(described["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
    else:
        there = namespace == "acs-batch"
    return there and matches(described.get("podSelector", {}), labels)


@pytest.mark.parametrize(("source", "target", "port"), ALLOWED)
def test_who_may(rendered: dict[str, Any], source: Any, target: Any, port: int) -> None:
    assert reaches(rendered["base"], source, target, port)


@pytest.mark.parametrize(("source", "target", "port"), REFUSED)
def test_who_may_not(rendered: dict[str, Any], source: Any, target: Any, port: int) -> None:
    assert not reaches(rendered["base"], source, target, port)


def test_prometheus_finds_the_metrics(documents: list[dict[str, Any]], pods: Any) -> None:
    for name, metadata, spec in pods(documents):
        if name == "driver":
            continue
        port = metadata["annotations"]["prometheus.io/port"]
        assert metadata["annotations"]["prometheus.io/scrape"] == "true"
        [container] = spec["containers"]
        assert container["args"][container["args"].index("--dashboard-address") + 1] == f":{port}"
        assert int(port) in {p["containerPort"] for p in container["ports"]}


def test_the_yaml_has_no_surprises() -> None:
    """No anchors or tags: what is read is what stands there."""
    for path in K8S.rglob("*.yaml"):
        for event in yaml.parse(path.read_text()):
            assert not isinstance(event, yaml.AliasEvent), path
