"""A run as a Job of Kubernetes: the driver in the cluster, so that the machine it was sent from may go.

Everything is named after the run and belongs to the Job (owner references): whoever deletes the Job deletes
the cluster, the certificates and the rest with it.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ByteSize

from batch.config import Settings
from batch.config.cluster import ClusterSettings, KubernetesSettings, TlsFiles, WorkerClass
from batch.errors import UsageError
from batch.runtime import manifests, security, surroundings
from batch.runtime.manifests import KEYS, Manifest

SETTINGS = "/etc/acs-batch/settings"
"""Where the settings are mounted."""
CLASSES = (
    WorkerClass(memory=ByteSize(2 * 2**30), workers=3, minimum=1, maximum=12),
    WorkerClass(memory=ByteSize(6 * 2**30), workers=1),
)
"""Workers where the settings name none: a plan is not known yet. Enough for WFC frames at 0.03 arcsec."""
_DAY = 86400


def run_name(prefix: str) -> str:
    """A name of a run's own: the prefix and five letters."""
    return prefix + "-" + "".join(secrets.choice(string.ascii_lowercase) for _ in range(5))


def prepared(settings: Settings, name: str) -> Settings:
    """The settings as the driver in the cluster needs them."""
    given = settings.cluster
    if given.scheduler is not None:
        raise UsageError("submit makes a cluster of its own; leave out --scheduler")
    files = TlsFiles.model_validate(
        {"ca": f"{KEYS}/{security.CA}", "cert": f"{KEYS}/{security.CERT}", "key": f"{KEYS}/{security.KEY}"}
    )
    cluster = given.model_copy(
        update={
            "kind": "kubernetes",
            "classes": given.classes or CLASSES,
            "tls": "off" if given.tls == "off" else files,
            "kubernetes": given.kubernetes.model_copy(update={"name": name, "existing": True}),
        }
    )
    return settings.model_copy(update={"cluster": cluster})


def documents(settings: Settings, work: str, wanted: Sequence[str], until: str | None) -> list[Manifest]:
    """Everything that makes up a submitted run but the secret; the Job comes first.

    Parameters
    ----------
    settings : Settings
        See `prepared`.
    work : str
        The work directory as the driver sees it.
    wanted : sequence of str
        Associations or exposures.
    until : str, optional
        The last stage to run.
    """
    cluster, own = settings.cluster, settings.cluster.kubernetes
    return [
        driver_job(cluster, work, wanted, until),
        settings_map(settings),
        *surroundings.policies(own),
        *surroundings.budgets(own),
        *surroundings.driver_rights(own),
        manifests.cluster(cluster, cluster.classes),
        *manifests.worker_groups(cluster, cluster.classes),
        *manifests.autoscalers(cluster, cluster.classes),
    ]


def driver_job(cluster: ClusterSettings, work: str, wanted: Sequence[str], until: str | None) -> Manifest:
    """The Job that runs ``acs-batch run``; it is started again where its node was lost, and goes on."""
    own = cluster.kubernetes
    pod = manifests.pod(
        own,
        {
            "name": "driver",
            "args": [
                *("acs-batch", "run", "--settings", f"{SETTINGS}/settings.toml", "--work", work),
                *(() if until is None else ("--until", until)),
                *wanted,
            ],
            "env": manifests.environment(own, "driver"),
            "resources": manifests.resources(1, own.scheduler_memory, own.scratch),
        },
        encrypted=cluster.tls != "off",
        scratch=own.scratch,
        claims=True,
        files={SETTINGS: {"configMap": {"name": f"{own.name}-settings"}}},
    )
    pod |= {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 120,
        "serviceAccountName": f"{own.name}-driver",
        # to remove the cluster at the end, and for nothing else: see the account's role
        "automountServiceAccountToken": True,
    }
    labels = {**manifests.labels(own.name, "driver"), **manifests.members(own.name, "driver")}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": manifests.metadata(own, own.name, "driver"),
        "spec": {
            "backoffLimit": 6,
            "ttlSecondsAfterFinished": 7 * _DAY,
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    # 1 broken, 2 wrong use, 3 done with failures: the same again would end the same way;
                    # 130 cancelled, or interrupted without a disruption: somebody wants it to end
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": "driver",
                            "operator": "In",
                            "values": [1, 2, 3, 130],
                        },
                    },
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def settings_map(settings: Settings) -> Manifest:
    """The settings as the ConfigMap that the driver reads."""
    own = settings.cluster.kubernetes
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": manifests.metadata(own, f"{own.name}-settings"),
        "data": {"settings.toml": toml(settings.model_dump(mode="json", exclude_defaults=True))},
    }


def toml(values: Mapping[str, Any]) -> str:
    """Settings as a TOML file that `batch.config.load` reads back; None is what is not there."""
    sections = []
    for section, keys in values.items():
        lines = [f"{key} = {_toml(value)}" for key, value in keys.items() if value is not None]
        sections.append("\n".join([f"[{section}]", *lines]))
    return "\n\n".join(sections)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items() if v is not None)
        return f"{{{inner}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON writes strings, numbers and booleans as TOML does, but for DEL, and pairs of surrogates
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def owned(manifest: Manifest, job: Mapping[str, Any]) -> Manifest:
    """The manifest as a dependant of the Job that the API server has made."""
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
    }
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner]}}


def watching(own: KubernetesSettings) -> str:
    """How to look at a submitted run, and how to end it."""
    on = f"kubectl -n {own.namespace}"
    return "\n".join(
        (
            f"log        {on} logs -f job/{own.name}",
            f"dashboard  {on} port-forward service/{own.name}-scheduler 8787   # http://localhost:8787",
            f"state      {on} get job/{own.name} daskcluster/{own.name}",
            f"end it     {on} delete job/{own.name}   # with its cluster; the work directory stays",
        )
    )
