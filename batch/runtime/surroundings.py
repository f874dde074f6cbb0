"""What stands around a cluster on Kubernetes: who may reach or end it, and what a namespace needs once."""

from __future__ import annotations

import base64
from typing import Any

from batch.config.cluster import KubernetesSettings
from batch.runtime.manifests import (
    DASHBOARD_PORT,
    DASK,
    NANNY_PORT,
    SCHEDULER_PORT,
    WORKER_DASHBOARD_PORT,
    WORKER_PORT,
    Manifest,
    members,
    metadata,
)
from batch.runtime.security import CA, CERT, KEY, Certificates

_NAMESPACE = "kubernetes.io/metadata.name"
# instance metadata of the providers hands out the credentials of the node
_METADATA = (("0.0.0.0/0", ["169.254.0.0/16"]), ("::/0", ["fd00:ec2::254/128", "fe80::/10"]))


def tls_secret(own: KubernetesSettings, certificates: Certificates) -> Manifest:
    """The certificates of a cluster. Never printed: see `without_values`."""
    texts = {CA: certificates.ca, CERT: certificates.cert, KEY: certificates.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(own, f"{own.name}-tls"),
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()},
    }


def without_values(manifest: Manifest) -> Manifest:
    """The manifest as it may be shown: a secret with its keys, but nothing in them."""
    if manifest["kind"] != "Secret":
        return manifest
    return {**manifest, "data": dict.fromkeys(manifest["data"], "")}


def policies(own: KubernetesSettings) -> list[Manifest]:
    """Who reaches whom.

    Only pods of this cluster reach its scheduler, only scheduler and workers reach a worker, nothing reaches
    the driver; Prometheus and the operator see the dashboards' port. Out go names, the cluster, and HTTPS, by
    which exposures and reference files come.
    """
    scheduler, worker = members(own.name, "scheduler"), members(own.name, "worker")
    cluster = _from_pods(members(own.name))
    inner = [_from_pods(scheduler), _from_pods(worker)]
    watchers = [_from_namespace(own.monitoring), _from_namespace(own.operator)]
    to_scheduler = {"to": [_from_pods(scheduler)], "ports": _tcp(SCHEDULER_PORT)}
    to_workers = {"to": [_from_pods(worker)], "ports": _tcp(WORKER_PORT, NANNY_PORT, WORKER_DASHBOARD_PORT)}
    return [
        _policy(
            own,
            "scheduler",
            ingress=[
                {"from": [cluster], "ports": _tcp(SCHEDULER_PORT)},
                {"from": watchers, "ports": _tcp(DASHBOARD_PORT)},
            ],
            egress=[_dns(), to_workers],
        ),
        _policy(
            own,
            "worker",
            ingress=[
                {"from": inner, "ports": _tcp(WORKER_PORT, NANNY_PORT, WORKER_DASHBOARD_PORT)},
                {"from": [_from_namespace(own.monitoring)], "ports": _tcp(WORKER_DASHBOARD_PORT)},
            ],
            egress=[_dns(), to_scheduler, to_workers, _https(443)],
        ),
        # 6443: the API server, where its service leads to
        _policy(own, "driver", ingress=[], egress=[_dns(), to_scheduler, _https(443, 6443)]),
    ]


def budgets(own: KubernetesSettings) -> list[Manifest]:
    """What a drained node may not take: the scheduler, the driver, more than a quarter of the workers."""
    rules: dict[str, dict[str, Any]] = {
        "scheduler": {"minAvailable": 1},
        "driver": {"minAvailable": 1},
        "worker": {"maxUnavailable": "25%"},
    }
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata(own, f"{own.name}-{component}"),
            "spec": {**rule, "selector": {"matchLabels": members(own.name, component)}},
        }
        for component, rule in rules.items()
    ]


def driver_rights(own: KubernetesSettings) -> list[Manifest]:
    """The driver may do one thing: remove its own cluster when the work is done."""
    name = f"{own.name}-driver"
    rule = {
        "apiGroups": [DASK.partition("/")[0]],
        "resources": ["daskclusters"],
        "resourceNames": [own.name],
        "verbs": ["delete"],
    }
    return [
        _account(own, name),
        _role(own, name, [rule]),
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata(own, name),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": own.namespace}],
        },
    ]


def installation(own: KubernetesSettings) -> list[Manifest]:
    """What a namespace needs once: itself, silence, an account without rights, rights for submitters."""
    make, look = ["create", "patch", "delete"], ["get", "list", "watch"]
    rights = [
        (DASK.partition("/")[0], ["daskclusters", "daskworkergroups", "daskautoscalers"], [*make, *look]),
        ("batch", ["jobs"], [*make, *look]),
        ("", ["configmaps", "serviceaccounts"], [*make, *look]),
        ("networking.k8s.io", ["networkpolicies"], [*make, *look]),
        ("policy", ["poddisruptionbudgets"], [*make, *look]),
        ("rbac.authorization.k8s.io", ["roles", "rolebindings"], [*make, *look]),
        # put there, but not read: tokens are other people's
        ("", ["secrets"], make),
        ("", ["pods", "pods/log", "services"], look),
        # over WebSockets a forward begins with a GET, which newer API servers ask both for
        ("", ["pods/portforward"], ["create", "get"]),
    ]
    profile = {
        f"pod-security.kubernetes.io/{mode}{what}": value
        for mode in ("enforce", "audit", "warn")
        for what, value in (("", "restricted"), ("-version", "latest"))
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": own.namespace, "labels": profile},
        },
        _account(own, own.account),
        _role(
            own,
            f"{own.account}-user",
            [{"apiGroups": [g], "resources": r, "verbs": v} for g, r, v in rights],
        ),
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata(own, "default-deny"),
            "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        },
    ]


def claims(own: KubernetesSettings, sizes: dict[str, str]) -> list[Manifest]:
    """The volumes of the settings, for many pods on many nodes at a time; sizes by the claim's name."""
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata(own, volume.claim),
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": sizes.get(volume.claim, "100Gi")}},
            },
        }
        for volume in own.volumes
    ]


def _account(own: KubernetesSettings, name: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(own, name),
        "automountServiceAccountToken": False,
    }


def _role(own: KubernetesSettings, name: str, rules: list[Manifest]) -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata(own, name),
        "rules": rules,
    }


def _policy(
    own: KubernetesSettings, component: str, ingress: list[Manifest], egress: list[Manifest]
) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(own, f"{own.name}-{component}"),
        "spec": {
            "podSelector": {"matchLabels": members(own.name, component)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }


def _from_pods(chosen: dict[str, str]) -> Manifest:
    return {"podSelector": {"matchLabels": chosen}}


def _from_namespace(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {_NAMESPACE: name}}}


def _tcp(*ports: int) -> list[Manifest]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _dns() -> Manifest:
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    return {"to": [_from_namespace("kube-system")], "ports": ports}


def _https(*ports: int) -> Manifest:
    blocks = [{"ipBlock": {"cidr": cidr, "except": without}} for cidr, without in _METADATA]
    return {"to": blocks, "ports": _tcp(*ports)}
