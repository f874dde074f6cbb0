"""Clusters on Kubernetes: one made for a run through the Dask operator, or one that `submit` has left.

``python -m batch.runtime.kubernetes`` prints the manifests that ``k8s/base`` holds; settings may follow:
``cluster.kubernetes.namespace=hst``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from batch.config import Settings
from batch.config.cluster import ClusterSettings, KubernetesSettings, TlsFiles, WorkerClass
from batch.errors import UsageError
from batch.runtime import manifests, security, submit, surroundings
from batch.runtime.kubeapi import Api, refusals
from batch.runtime.manifests import DASK, Manifest

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

BASE = ("fetch.source=/work/raw", "references.cache=/crds")
"""Settings of ``k8s/base``."""
_SIZES = {"acs-batch-work": "2Ti", "acs-batch-crds": "200Gi"}
_SETTLE_S = 5.0
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@contextlib.contextmanager
def start(settings: ClusterSettings, classes: Sequence[WorkerClass]) -> Iterator[Client]:
    """A client of a cluster on Kubernetes.

    Parameters
    ----------
    settings : ClusterSettings
        `kubernetes` and `tls`.
    classes : sequence of WorkerClass
        The workers.

    Raises
    ------
    UsageError
        If dask-kubernetes, Kubernetes or the operator are not there, or the scheduler does not come up.
    """
    if settings.kubernetes.existing:
        with _existing(settings) as client:
            yield client
    else:
        with _made(settings, classes) as client:
            yield client


@contextlib.contextmanager
def _existing(settings: ClusterSettings) -> Iterator[Client]:
    """Connect to the scheduler of a submitted run."""
    from distributed import Client

    address = manifests.scheduler_address(settings)
    keys = security.for_address(address, settings.tls)
    try:
        client = Client(address, timeout=settings.kubernetes.timeout, security=keys)
    except (OSError, TimeoutError) as error:
        raise UsageError(f"{address}: cannot be reached ({error}); is the DaskCluster there?") from None
    with client:
        yield client


@contextlib.contextmanager
def ending(settings: ClusterSettings) -> Iterator[None]:
    """Remove the cluster of a submitted run at its driver's end, good or bad.

    After an interruption (a lost node, an eviction) it stays for the driver's next attempt; after any other
    end the Job makes none (see `submit.driver_job`), and workers would wait for nothing.
    """
    try:
        yield
    except Exception:
        _remove_submitted(settings)
        raise
    _remove_submitted(settings)


def _remove_submitted(settings: ClusterSettings) -> None:
    if settings.chosen_kind == "kubernetes" and settings.kubernetes.existing:
        remove(settings.kubernetes, os.environ, TOKEN)


def remove(own: KubernetesSettings, environment: Mapping[str, str], token: Path) -> None:
    """Delete the DaskCluster from within, with the account of the driver's pod; the operator does the rest.

    What goes wrong is logged and no more: the cluster ends of itself when it has been idle for long.
    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if host is None:
        log.warning("not within Kubernetes: DaskCluster %s stays", own.name)
        return
    host = f"[{host}]" if ":" in host else host
    url = f"https://{host}:{port}/apis/{DASK}/namespaces/{own.namespace}/daskclusters/{own.name}"
    try:
        request = urllib.request.Request(url, method="DELETE")
        request.add_header("Authorization", f"Bearer {(token / 'token').read_text().strip()}")
        context = ssl.create_default_context(cafile=str(token / "ca.crt"))
        with urllib.request.urlopen(request, context=context, timeout=30):
            log.info("DaskCluster %s removed", own.name)
    except OSError as error:
        log.warning("DaskCluster %s could not be removed: %s", own.name, error)


@contextlib.contextmanager
def _made(settings: ClusterSettings, classes: Sequence[WorkerClass]) -> Iterator[Client]:
    """Make a cluster and all that belongs to it; take everything away again, however the block ends."""
    own = settings.kubernetes.model_copy(update={"name": submit.run_name(settings.kubernetes.name)})
    settings = settings.model_copy(update={"kubernetes": own})
    certificates = certificates_of(settings)
    cluster = manifests.cluster(settings, classes)
    around = [*surroundings.policies(own), *surroundings.budgets(own)]
    if certificates is not None:
        around.append(surroundings.tls_secret(own, certificates))
    # they belong to the cluster: it must be there first
    groups = [*manifests.worker_groups(settings, classes), *manifests.autoscalers(settings, classes)]
    api = Api()
    with api.kept(around), api.gone_at_last(cluster):
        from distributed import Client

        from batch.runtime.operator_cluster import OperatorCluster

        keys = None if certificates is None else security.security(certificates)
        try:
            with refusals(cluster):
                made = OperatorCluster(cluster, keys, own.timeout)
        except BaseException as error:
            # the operator may be in the midst of making the parts, and one that comes after its cluster is
            # gone belongs to nobody
            api.delete(cluster)
            api.delete(manifests.default_group(own), late=_SETTLE_S)
            if isinstance(error, TimeoutError):
                raise UsageError(
                    f"the scheduler of {own.name} did not come up in {own.timeout:.0f} s; see "
                    f"kubectl -n {own.namespace} describe pods, and whether the Dask operator runs"
                ) from None
            raise
        with made, api.kept(groups), Client(made, security=keys) as client:
            yield client


def certificates_of(settings: ClusterSettings) -> security.Certificates | None:
    """The user's certificates, or some of the run's own; None if off."""
    if settings.tls == "off":
        return None
    return security.read(settings.tls) if isinstance(settings.tls, TlsFiles) else security.issue()


def submit_run(
    settings: Settings, work: str, wanted: Sequence[str], until: str | None, *, dry: bool = False
) -> tuple[str, list[Manifest]]:
    """Leave a Job that does the run in the cluster; returns how to watch it, and what was made.

    Parameters
    ----------
    settings : Settings
        Folders in them are those of the driver's pod.
    work : str
        The work directory as the driver's pod sees it, or ``s3://...``.
    wanted : sequence of str
        Associations or exposures.
    until : str, optional
        The last stage to run.
    dry : bool
        Make nothing; secrets are returned without their values.

    Raises
    ------
    UsageError
        If Kubernetes cannot be reached or refuses; nothing is left behind then.
    """
    ready = submit.prepared(settings, submit.run_name(settings.cluster.kubernetes.name))
    own = ready.cluster.kubernetes
    certificates = certificates_of(settings.cluster)
    job, *others = submit.documents(ready, work, wanted, until)
    if certificates is not None:
        others.insert(0, surroundings.tls_secret(own, certificates))
    if not dry:
        api = Api()
        made = api.create(job)
        try:
            for manifest in others:
                api.create(submit.owned(manifest, made))
        except BaseException:
            api.delete(job)
            raise
    shown = [surroundings.without_values(m) for m in (job, *others)]
    return submit.watching(own), shown


def static(settings: Settings, work: str) -> dict[str, list[Manifest]]:
    """The manifests of a cluster, its driver and its namespace, by file of ``k8s/base``.

    Parameters
    ----------
    settings : Settings
        Folders in them are those of the driver's pod.
    work : str
        The work directory as the driver's pod sees it, or ``s3://...``.
    """
    ready = submit.prepared(settings, settings.cluster.kubernetes.name)
    own = ready.cluster.kubernetes
    job, config_map, *others = submit.documents(ready, work, [], None)
    *once, silence = surroundings.installation(own)
    files = {
        "NetworkPolicy": "network.yaml",
        "ServiceAccount": "driver.yaml",
        "Role": "driver.yaml",
        "RoleBinding": "driver.yaml",
    }
    made: dict[str, list[Manifest]] = {
        "namespace.yaml": once,
        "volumes.yaml": surroundings.claims(own, _SIZES),
        "settings.yaml": [config_map],
        "network.yaml": [silence],
        "cluster.yaml": [],
        "driver.yaml": [job],
    }
    for manifest in others:
        made[files.get(manifest["kind"], "cluster.yaml")].append(manifest)
    return made


def text(documents: Sequence[Manifest]) -> str:
    """Manifests as YAML; texts of several lines as blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    def block(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, block)
    return yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, width=110)


if __name__ == "__main__":
    from batch.config import load

    for name, documents in static(load(None, [*BASE, *sys.argv[1:]]), "/work/run").items():
        sys.stdout.write(f"---\n# {name}\n{text(documents)}")
