"""What a run looks like to Kubernetes: the cluster for the Dask operator, as a pure function of settings.

Nothing here talks to anybody. Every pod meets the ``restricted`` profile of the Pod Security Standards:
user 1000, a root file system that cannot be written, no capability, the runtime's seccomp filter. Requests
equal limits, so that a pod is never the one to be evicted for what it was promised, and a worker is told to
offer to tasks what of that memory is left for them (`batch.runtime.classes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from batch.config.cluster import ClusterSettings, KubernetesSettings, WorkerClass
from batch.runtime import scheduling
from batch.runtime.classes import THREADS, promised
from batch.runtime.security import CA, CERT, KEY

Manifest = dict[str, Any]

DASK = "kubernetes.dask.org/v1"
SCHEDULER_PORT, DASHBOARD_PORT = 8786, 8787
WORKER_PORT, NANNY_PORT, WORKER_DASHBOARD_PORT = 8789, 8790, 8788
KEYS = "/etc/acs-batch/tls"
"""Where certificates are mounted."""
SCRATCH = "/scratch"
TOKENS = ("MAST_API_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
TLS_ARGUMENTS = (
    *("--protocol", "tls"),
    *("--tls-ca-file", f"{KEYS}/{CA}"),
    *("--tls-cert", f"{KEYS}/{CERT}"),
    *("--tls-key", f"{KEYS}/{KEY}"),
)
_USER = 1000
# what the scheduler answers over HTTP; the operator scales and ends clusters through the last one
_ROUTES = ("scheduler.prometheus", "scheduler.info", "scheduler.json", "health", "statics", "scheduler.api")


def labels(name: str, component: str | None = None) -> dict[str, str]:
    """Labels of what belongs to the cluster `name`."""
    made = {"app.kubernetes.io/name": "acs-batch", "app.kubernetes.io/instance": name}
    return made if component is None else {**made, "app.kubernetes.io/component": component}


def members(name: str, component: str | None = None) -> dict[str, str]:
    """Labels by which pods of a cluster are chosen; the operator puts them on scheduler and workers."""
    made = {"dask.org/cluster-name": name}
    return made if component is None else {**made, "dask.org/component": component}


def metadata(settings: KubernetesSettings, name: str, component: str | None = None) -> Manifest:
    """The ``metadata`` of an object."""
    return {"name": name, "namespace": settings.namespace, "labels": labels(settings.name, component)}


def quantity(size: int) -> str:
    """Bytes as Kubernetes writes them: ``8Gi``, ``384Mi``."""
    for unit, letters in ((2**30, "Gi"), (2**20, "Mi")):
        if size % unit == 0:
            return f"{size // unit}{letters}"
    return str(int(size))


def scheduler_address(settings: ClusterSettings) -> str:
    """Where pods of the namespace, and of others, find the scheduler."""
    own = settings.kubernetes
    protocol = "tcp" if settings.tls == "off" else "tls"
    return f"{protocol}://{own.name}-scheduler.{own.namespace}.svc:{SCHEDULER_PORT}"


def cluster(settings: ClusterSettings, classes: Sequence[WorkerClass]) -> Manifest:
    """The DaskCluster: scheduler, its service, and the workers of the first class."""
    own = settings.kubernetes
    return {
        "apiVersion": DASK,
        "kind": "DaskCluster",
        "metadata": metadata(own, own.name),
        "spec": {
            "idleTimeout": own.idle_timeout,
            "scheduler": {
                "metadata": _pod_metadata(own, "scheduler", DASHBOARD_PORT),
                "spec": scheduler_pod(settings),
                "service": _service(own.name),
            },
            "worker": _workers(settings, classes[0]),
        },
    }


def worker_groups(settings: ClusterSettings, classes: Sequence[WorkerClass]) -> list[Manifest]:
    """A DaskWorkerGroup for every class but the first, which is the cluster's own."""
    own = settings.kubernetes
    return [
        {
            "apiVersion": DASK,
            "kind": "DaskWorkerGroup",
            "metadata": metadata(own, f"{own.name}-{quantity(size.memory).lower()}"),
            "spec": {"cluster": own.name, "worker": _workers(settings, size)},
        }
        for size in classes[1:]
    ]


def default_group(own: KubernetesSettings) -> Manifest:
    """The group that the operator makes of the cluster's own workers, as far as it takes to name it."""
    return {"apiVersion": DASK, "kind": "DaskWorkerGroup", "metadata": metadata(own, f"{own.name}-default")}


def autoscalers(settings: ClusterSettings, classes: Sequence[WorkerClass]) -> list[Manifest]:
    """A DaskAutoscaler, if the first class scales."""
    own = settings.kubernetes
    return [
        {
            "apiVersion": DASK,
            "kind": "DaskAutoscaler",
            "metadata": metadata(own, own.name),
            "spec": {"cluster": own.name, "minimum": size.minimum, "maximum": size.maximum},
        }
        for size in classes[:1]
        if size.scales
    ]


def _workers(settings: ClusterSettings, size: WorkerClass) -> Manifest:
    return {
        "replicas": size.workers,
        "metadata": _pod_metadata(settings.kubernetes, "worker", WORKER_DASHBOARD_PORT),
        "spec": worker_pod(settings, size),
    }


def _pod_metadata(own: KubernetesSettings, component: str, port: int) -> Manifest:
    return {
        "labels": labels(own.name, component),
        "annotations": {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(port),
            "prometheus.io/path": "/metrics",
        },
    }


def _service(name: str) -> Manifest:
    return {
        # no way in from outside; see the port-forward in k8s/README.md
        "type": "ClusterIP",
        "selector": members(name, "scheduler"),
        "ports": [
            {"name": "tcp-comm", "protocol": "TCP", "port": SCHEDULER_PORT, "targetPort": "tcp-comm"},
            {
                "name": "http-dashboard",
                "protocol": "TCP",
                "port": DASHBOARD_PORT,
                "targetPort": "http-dashboard",
            },
        ],
    }


def scheduler_pod(settings: ClusterSettings) -> Manifest:
    """The pod of the scheduler."""
    own = settings.kubernetes
    routes = ", ".join(f"'distributed.http.{route}'" for route in _ROUTES)
    return pod(
        own,
        {
            "name": "scheduler",
            "args": [
                *("dask", "scheduler", "--port", str(SCHEDULER_PORT)),
                *("--dashboard-address", f":{DASHBOARD_PORT}"),
                *_tls(settings),
            ],
            "env": [
                {"name": "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES", "value": f"[{routes}]"},
                *_set_up(),
            ],
            "ports": [_port("tcp-comm", SCHEDULER_PORT), _port("http-dashboard", DASHBOARD_PORT)],
            "resources": resources(1, own.scheduler_memory, 2**30),
            "readinessProbe": _health(period=2, failures=3),
            "livenessProbe": _health(period=30, failures=10),
        },
        encrypted=settings.tls != "off",
    )


def worker_pod(settings: ClusterSettings, size: WorkerClass) -> Manifest:
    """The pod of a worker of one class."""
    own = settings.kubernetes
    made = pod(
        own,
        {
            "name": "worker",
            "args": [
                *("dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", "1"),
                # the nanny hands tasks back when the pod has to go; it sees no memory but the worker's own
                *("--nanny", "--memory-limit", "0"),
                *("--resources", f"memory={promised(size.memory)}"),
                *("--local-directory", SCRATCH, "--worker-port", str(WORKER_PORT)),
                *("--nanny-port", str(NANNY_PORT)),
                *("--dashboard-address", f":{WORKER_DASHBOARD_PORT}", "--death-timeout", "300"),
                *_tls(settings),
            ],
            "env": [
                {"name": "DASK_SCHEDULER_ADDRESS", "value": scheduler_address(settings)},
                *_set_up(),
                *environment(own, "worker"),
            ],
            "ports": [
                _port("tcp-comm", WORKER_PORT),
                _port("tcp-nanny", NANNY_PORT),
                _port("http-dashboard", WORKER_DASHBOARD_PORT),
            ],
            "resources": resources(own.cpu, size.memory, own.scratch),
            "livenessProbe": _health(period=30, failures=10),
        },
        encrypted=settings.tls != "off",
        scratch=own.scratch,
        claims=True,
    )
    made["terminationGracePeriodSeconds"] = own.grace
    # the pause process reaps what a killed task leaves behind
    made["shareProcessNamespace"] = True
    if own.node_selector:
        made["nodeSelector"] = dict(own.node_selector)
    if own.tolerations:
        made["tolerations"] = [
            {
                "key": t.key,
                "operator": "Exists" if t.value is None else "Equal",
                **({} if t.value is None else {"value": t.value}),
                "effect": t.effect,
            }
            for t in own.tolerations
        ]
    return made


def _set_up() -> list[Manifest]:
    """Settings of Dask, the same for schedulers and workers."""
    return [{"name": name, "value": value} for name, value in scheduling.environment().items()]


def environment(own: KubernetesSettings, container: str) -> list[Manifest]:
    """Threads from the container's own limit; tokens from a secret, never from here."""
    threads = {"containerName": container, "resource": "limits.cpu", "divisor": "1"}
    made: list[Manifest] = [{"name": n, "valueFrom": {"resourceFieldRef": dict(threads)}} for n in THREADS]
    if own.endpoint:
        made.append({"name": "AWS_ENDPOINT_URL", "value": own.endpoint})
    return made + [
        {
            "name": token,
            "valueFrom": {"secretKeyRef": {"name": own.tokens, "key": token, "optional": True}},
        }
        for token in TOKENS
    ]


def pod(
    own: KubernetesSettings,
    container: Manifest,
    *,
    encrypted: bool,
    scratch: int = 2**30,
    claims: bool = False,
    files: Mapping[str, Manifest] | None = None,
) -> Manifest:
    """A pod of one container under the ``restricted`` profile.

    Parameters
    ----------
    own : KubernetesSettings
        Image, account, volumes.
    container : dict
        Name, arguments, environment, resources and probes of the container.
    encrypted : bool
        Mount the certificates.
    scratch : int
        Size of the only folder that can be written, bytes.
    claims : bool
        Mount the volumes of the settings.
    files : mapping, optional
        Further volumes, by the path where they are mounted, read-only.
    """
    volumes: list[Manifest] = [{"name": "scratch", "emptyDir": {"sizeLimit": quantity(scratch)}}]
    mounts: list[Manifest] = [{"name": "scratch", "mountPath": SCRATCH}]
    mounted = dict(files or {})
    if encrypted:
        # readable by the pod's group only
        mounted[KEYS] = {"secret": {"secretName": f"{own.name}-tls", "defaultMode": 0o440}}
    for path, source in mounted.items():
        name = path.rpartition("/")[2]
        volumes.append({"name": name, **source})
        mounts.append({"name": name, "mountPath": path, "readOnly": True})
    for volume in own.volumes if claims else ():
        claim = {"claimName": volume.claim, **({"readOnly": True} if volume.read_only else {})}
        volumes.append({"name": volume.claim, "persistentVolumeClaim": claim})
        read_only = {"readOnly": True} if volume.read_only else {}
        mounts.append({"name": volume.claim, "mountPath": volume.path, **read_only})
    return {
        "serviceAccountName": own.account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"imagePullSecrets": [{"name": own.pull_secret}]} if own.pull_secret else {}),
        "containers": [
            {
                **container,
                "image": own.image,
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }


def resources(cpu: int, memory: int, storage: int) -> Manifest:
    """Requests that equal the limits."""
    asked = {"cpu": str(cpu), "memory": quantity(memory), "ephemeral-storage": quantity(storage)}
    return {"requests": asked, "limits": dict(asked)}


def _tls(settings: ClusterSettings) -> tuple[str, ...]:
    return () if settings.tls == "off" else TLS_ARGUMENTS


def _port(name: str, number: int) -> Manifest:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _health(period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": "/health", "port": "http-dashboard"},
        "periodSeconds": period,
        "timeoutSeconds": 20,
        "failureThreshold": failures,
    }
