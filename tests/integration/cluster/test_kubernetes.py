"""A run on Kubernetes: real client, operator, scheduler and workers; API server and node are stand-ins."""

from __future__ import annotations

import base64
import gc
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from beside import load

from batch import config
from batch.config.cluster import ClusterSettings, KubernetesSettings, TlsFiles, Volume, WorkerClass
from batch.errors import UsageError
from batch.runtime import kubernetes, manifests, surroundings
from batch.runtime.classes import KEPT
from batch.runtime.cluster import capacity, connect

# kr8s and the operator's client close no connection to the API server
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HERE = Path(__file__).parent
NAMESPACE = "hst"
SMALL = WorkerClass.model_validate({"memory": KEPT + 4 * 10**8, "workers": 1})
LARGE = WorkerClass.model_validate({"memory": KEPT + 10**9, "workers": 1})
PATIENCE_S = 180
"""The operator tries again a minute after something has gone wrong."""


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Each test has an API server of its own; kr8s keeps connections by thread, and closes none."""
    from kr8s._api import Api

    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        Api._instances.clear()
        gc.collect()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Kubernetes without an operator; KUBECONFIG leads a user of `acs-batch` there."""
    monkeypatch.syspath_prepend(str(HERE))
    names = ("apiserver", "control", "kubelet", "rights")
    apiserver, control, kubelet, rights = (load(HERE / f"{name}.py") for name in names)
    with apiserver.serving(apiserver.Server(lambda pod, port: made.forward(pod, port))) as server:
        made = kubelet.Processes(tmp_path / "node", server)
        made.root.mkdir()
        control.prepare(server, NAMESPACE)
        control.kubeconfig(server, NAMESPACE, tmp_path / "kubeconfig", token="user")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        # whoever runs and submits has the role that the manifests give them, and no more
        made.rights = rights.Rights(server)
        own = KubernetesSettings(namespace=NAMESPACE)
        [role] = [m for m in surroundings.installation(own) if m["kind"] == "Role"]
        made.rights.people["user"] = (NAMESPACE, role["rules"])
        server.allowed = made.rights.allowed
        yield made
    made.close()


@pytest.fixture
def operator(node: Any, tmp_path: Path) -> Iterator[None]:
    """The operator of that Kubernetes."""
    control, config = load(HERE / "control.py"), tmp_path / "operator"
    control.kubeconfig(node.server, NAMESPACE, config)
    with control.operator(NAMESPACE, config, tmp_path / "operator.log"):
        yield


@pytest.fixture
def settings(toys: Any) -> ClusterSettings:
    own = KubernetesSettings(
        namespace=NAMESPACE,
        timeout=PATIENCE_S,
        grace=5,
        # from outside the cluster the operator takes half a minute to ask whether it is idle
        idle_timeout=0,
        volumes=(Volume(claim="acs-batch-work", path=str(toys.work.root.parent)),),
    )
    return ClusterSettings(kind="kubernetes", kubernetes=own, classes=(SMALL, LARGE))


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def left(node: Any) -> set[tuple[str, str]]:
    """Plural and name of what is still there."""
    return {(k[1], k[3]) for k in node.server.objects if k[1] not in ("namespaces", "events")}


def phase_pending_for_ever(node: Any) -> None:
    """Let the operator's handlers write a cluster's phase in the order in which Pending is what stays."""

    def hold(key: tuple[str, ...], change: Any) -> bool:
        if key[1] != "daskclusters" or isinstance(change, list):
            return False
        phases = [o.get("status", {}).get("phase") for o in (change, node.server.objects.get(key, {}))]
        return phases[0] == "Pending" and phases[1] != "Running"

    node.server.hold = hold


@pytest.mark.slow
@pytest.mark.usefixtures("operator")
def test_a_whole_run(toys: Any, node: Any, settings: ClusterSettings, no_secrets: Any) -> None:
    toys.work.create()
    phase_pending_for_ever(node)
    with connect(settings, toys.plan.tasks, toys.work) as client:
        assert client.scheduler.address.startswith("tls://")
        [cluster] = [o for k, o in node.server.objects.items() if k[1] == "daskclusters"]
        assert cluster["status"]["phase"] == "Pending"
        assert capacity(client) == (2, 10**9)
        kinds = {k for k, _ in left(node)}
        assert {"daskclusters", "daskworkergroups", "networkpolicies", "poddisruptionbudgets"} <= kinds
        [secret] = [o for k, o in node.server.objects.items() if k[1] == "secrets"]
        records = toys.run(client, workers=2)
    assert {r.status.value for r in records.values()} == {"done"}
    until(lambda: all(p.poll() is not None for p in node.processes.values()), "all processes end")
    assert not left(node)
    key = base64.b64decode(secret["data"]["tls.key"]).decode()
    no_secrets(toys.work.root, key)
    logs = "".join(p.read_text() for p in (*node.root.glob("*.log"), node.root.parent / "operator.log"))
    assert key.splitlines()[1] not in logs


@pytest.mark.slow
@pytest.mark.usefixtures("operator")
def test_an_interrupt_leaves_nothing_behind(toys: Any, node: Any, settings: ClusterSettings) -> None:
    """Ctrl-C while the scheduler comes up: nobody holds the cluster yet."""

    def interrupt() -> None:
        until(lambda: any(k == "deployments" for k, _ in left(node)), "the operator acts")
        os.kill(os.getpid(), signal.SIGINT)

    toys.work.create()
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt), connect(settings, toys.plan.tasks, toys.work):
        pass
    until(lambda: not left(node), "the operator and the garbage collector tidy up")
    until(lambda: all(p.poll() is not None for p in node.processes.values()), "all processes end")


def test_without_an_operator(toys: Any, node: Any, settings: ClusterSettings) -> None:
    own = settings.kubernetes.model_copy(update={"timeout": 2.0})
    hurried = settings.model_copy(update={"kubernetes": own})
    with (
        pytest.raises(UsageError, match=r"did not come up in 2 s;.*whether the Dask operator runs"),
        connect(hurried, (), toys.work),
    ):
        pass
    assert not left(node)


def test_what_kubernetes_refuses(toys: Any, node: Any, settings: ClusterSettings) -> None:
    node.server.refuse.add("daskclusters")
    with pytest.raises(UsageError, match="daskclusters is forbidden"), connect(settings, (), toys.work):
        pass
    assert not left(node)


def test_kubernetes_that_is_not_there(
    toys: Any, tmp_path: Path, settings: ClusterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="Kubernetes, NetworkPolicy"), connect(settings, (), toys.work):
        pass


def submitted(settings: ClusterSettings, **options: Any) -> tuple[str, list[Any]]:
    whole = config.load(None, ["fetch.source=/work/raw", "references.cache=/crds"])
    whole = whole.model_copy(update={"cluster": settings})
    return kubernetes.submit_run(whole, "/work/visit", ["j9l960010"], "calibrate", **options)


def test_a_submitted_run_is_all_there_and_goes_with_its_job(node: Any, settings: ClusterSettings) -> None:
    watching, made = submitted(settings)
    there = [o for k, o in node.server.objects.items() if k[1] != "namespaces"]
    assert [(d["kind"], d["metadata"]["name"]) for d in made] == [
        (o["kind"], o["metadata"]["name"]) for o in there
    ]
    [job] = [o for k, o in node.server.objects.items() if k[1] == "jobs"]
    name = job["metadata"]["name"]
    assert f"kubectl -n hst logs -f job/{name}" in watching
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[-5:] == ["--work", "/work/visit", "--until", "calibrate", "j9l960010"]
    for key, found in node.server.objects.items():
        if key[1] not in ("namespaces", "jobs"):
            [owner] = found["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["uid"]) == ("Job", job["metadata"]["uid"])
    # what was returned is fit to be shown
    assert "PRIVATE" not in str(made)
    [shown] = [d for d in made if d["kind"] == "Secret"]
    assert set(shown["data"].values()) == {""}
    [kept] = [o for k, o in node.server.objects.items() if k[1] == "secrets"]
    assert b"PRIVATE KEY" in base64.b64decode(kept["data"]["tls.key"])
    node.server.delete(("batch/v1", "jobs", NAMESPACE, name))
    assert not left(node)


def test_a_submitted_driver_may_do_nothing_but_remove_its_own_cluster(
    node: Any, settings: ClusterSettings
) -> None:
    submitted(settings)
    [name] = [k[3] for k in node.server.objects if k[1] == "jobs"]
    node.rights.accounts["token"] = (NAMESPACE, f"{name}-driver")
    dask = "kubernetes.dask.org/v1"
    assert node.rights.allowed("token", "delete", (dask, "daskclusters", NAMESPACE, name))
    for verb, version, plural, namespace, other in (
        ("delete", dask, "daskclusters", NAMESPACE, "acs-batch-other"),
        ("get", dask, "daskclusters", NAMESPACE, name),
        ("delete", dask, "daskclusters", "elsewhere", name),
        ("get", "v1", "secrets", NAMESPACE, f"{name}-tls"),
    ):
        assert not node.rights.allowed("token", verb, (version, plural, namespace, other)), (
            verb,
            plural,
            other,
        )


def test_half_a_submission_is_none(node: Any, settings: ClusterSettings) -> None:
    node.server.refuse.add("roles")
    with pytest.raises(UsageError, match="roles is forbidden"):
        submitted(settings)
    assert ("create", "jobs") in {(verb, plural) for verb, plural, _ in node.server.log}
    assert not left(node)


def test_a_dry_run_makes_nothing(node: Any, settings: ClusterSettings) -> None:
    _, made = submitted(settings, dry=True)
    assert {d["kind"] for d in made} >= {"Job", "Secret", "ConfigMap", "DaskCluster"}
    assert not node.server.log


def test_the_settings_that_a_submitted_driver_reads(
    node: Any, settings: ClusterSettings, tmp_path: Path
) -> None:
    submitted(settings)
    [found] = [o for k, o in node.server.objects.items() if k[1] == "configmaps"]
    (tmp_path / "settings.toml").write_text(found["data"]["settings.toml"])
    read = config.load(tmp_path / "settings.toml")
    [cluster] = [o for k, o in node.server.objects.items() if k[1] == "daskclusters"]
    own = read.cluster.kubernetes
    assert own.existing
    assert own.name == cluster["metadata"]["name"]
    [container] = cluster["spec"]["worker"]["spec"]["containers"]
    address = {e["name"]: e.get("value") for e in container["env"]}["DASK_SCHEDULER_ADDRESS"]
    assert manifests.scheduler_address(read.cluster) == address
    assert read.cluster.classes == (SMALL, LARGE)
    assert isinstance(read.cluster.tls, TlsFiles)
    assert str(read.cluster.tls.key) == "/etc/acs-batch/tls/tls.key"
