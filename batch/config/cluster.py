"""Settings of where tasks run: this machine, a scheduler that runs, Kubernetes, SLURM."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, ByteSize, Field, model_validator

from batch.config.base import Absolute, Section

CACHE_BYTES = 50_000_000_000

Kind = Literal["local", "scheduler", "kubernetes", "slurm"]

# "8 GB" and "8GiB" as well as a number of bytes; the TOML that is written back holds numbers
Memory = Annotated[ByteSize, Field(gt=0)]
# names of Kubernetes objects: RFC 1123 labels
Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
# what goes into a job script must stay one word
Word = Annotated[str, Field(pattern=r"^[\w.,:@%+/=-]+$")]

# 04:00:00 without quotes is a time to TOML
_of_time = BeforeValidator(lambda value: value.isoformat() if isinstance(value, datetime.time) else value)


class TlsFiles(Section):
    """Certificates of a cluster, PEM files; the same certificate serves client, scheduler and workers."""

    ca: Absolute
    """Certificate of the authority that signed `cert`."""
    cert: Absolute
    key: Absolute


class WorkerClass(Section):
    """Workers of one size."""

    memory: Memory
    """Bytes of the container or job, of which the worker itself keeps some (`batch.runtime.classes`)."""
    workers: int = Field(1, ge=0)
    """How many there are; where they scale, how many at first."""
    minimum: int | None = Field(None, ge=0)
    maximum: int | None = Field(None, ge=1)
    """Between these the number follows the work (Kubernetes: first class only, see `k8s/README.md`)."""

    @model_validator(mode="after")
    def _ordered(self) -> WorkerClass:
        if (self.minimum is None) != (self.maximum is None):
            raise ValueError("minimum and maximum come together")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self

    @property
    def scales(self) -> bool:
        """Whether the number of workers follows the work."""
        return self.maximum is not None


class Volume(Section):
    """A volume claim that driver and workers mount, at the same path."""

    claim: Label
    path: Annotated[str, Field(pattern=r"^/[\w./-]+$")]
    read_only: bool = False


class Toleration(Section):
    """A taint of nodes on which workers may run all the same."""

    key: str
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


class KubernetesSettings(Section):
    """A cluster of the Dask operator's, made for a run."""

    namespace: Label = "acs-batch"
    name: Annotated[Label, Field(max_length=30)] = "acs-batch"
    """Of the cluster and all that belongs to it; runs add some letters of their own."""
    existing: bool = False
    """The cluster is there already: connect to its scheduler, and remove it at the end of the run."""
    image: Annotated[str, Field(pattern=r"^[\w.:@/-]+$")] = "acs-batch:latest"
    pull_secret: Label | None = None
    """Secret with the credentials of a private registry."""
    account: Label = "acs-batch"
    """Service account of scheduler and workers; it has no rights and no token."""
    volumes: tuple[Volume, ...] = (
        Volume(claim="acs-batch-work", path="/work"),
        Volume(claim="acs-batch-crds", path="/crds"),
    )
    """None where the work directory is in an object store."""
    scratch: Memory = ByteSize(20 * 2**30)
    """Ephemeral storage of each worker, bytes."""
    cpu: int = Field(1, ge=1, le=64)
    """Cores of a worker; its task runs on as many threads."""
    scheduler_memory: Memory = ByteSize(4 * 2**30)
    """Bytes; as much for the driver."""
    node_selector: dict[str, str] = Field({})
    """Labels of the nodes that workers run on."""
    tolerations: tuple[Toleration, ...] = ()
    """Of workers: spot nodes, as a rule."""
    grace: int = Field(120, ge=5)
    """Seconds between SIGTERM and SIGKILL of a worker; no more than the provider gives a spot node."""
    tokens: Label = "acs-batch-tokens"
    """Secret with MAST_API_TOKEN, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; each of them may be missing."""
    endpoint: str | None = None
    """Address of an object store that is not Amazon's: AWS_ENDPOINT_URL."""
    operator: Label = "dask-operator"
    """Namespace of the Dask operator, which asks the scheduler how many workers it wants."""
    monitoring: Label = "monitoring"
    """Namespace of Prometheus."""
    timeout: float = Field(600, gt=0)
    """Seconds for scheduler and workers to appear."""
    idle_timeout: int = Field(1800, ge=0)
    """The operator removes a cluster that has had nothing to do for so long, seconds; 0: never."""


class SlurmSettings(Section):
    """Workers as jobs of SLURM; the scheduler runs beside the driver."""

    partition: Word | None = None
    account: Word | None = None
    walltime: Annotated[str, _of_time, Field(pattern=r"^(\d+-)?\d{1,3}:\d{2}:\d{2}$")] = "04:00:00"
    """Of each job. Workers end their last task before and hand the rest back; new jobs take their places."""
    cores: int = Field(1, ge=1)
    """Cores of a job, which holds one worker: one task at a time."""
    scratch: Annotated[str, Field(pattern=r"^[\w.,:@%+/=${}-]+$")] | None = None
    """Local folder of a node for Dask's own files; ``$TMPDIR`` is the node's. None: /tmp."""
    shared: Absolute | None = None
    """A folder that driver and nodes see: job logs, certificates. None: the work directory's."""
    interface: Word | None = None
    """Network interface between driver and nodes, ``ib0``."""
    python: Word | None = None
    """Interpreter on the nodes; None: the driver's."""
    prologue: tuple[str, ...] = ()
    """Lines of the job script before the worker starts: ``module load python``."""
    directives: tuple[str, ...] = ()
    """More lines for SLURM, without the ``#SBATCH``: ``--constraint=haswell``."""
    timeout: float = Field(3600, gt=0)
    """Seconds for the first workers to appear."""


class ClusterSettings(Section):
    """Where tasks run. Never part of a fingerprint: it changes no digit of a product."""

    kind: Kind | None = None
    """None: `scheduler` where an address is given, else `local`."""
    workers: int | None = Field(None, ge=1)
    """Worker processes; None: one a core, as far as memory goes."""
    memory: int | None = Field(None, gt=0)
    """Bytes each worker may plan with; None: an equal share of the machine's."""
    classes: tuple[WorkerClass, ...] = ()
    """Workers of Kubernetes and SLURM by size; none: made from the plan, `workers` of them."""
    scheduler: str | None = None
    """Address of a scheduler that runs already."""
    tls: TlsFiles | Literal["auto", "off"] = "auto"
    """Encryption and certificates between driver, scheduler and workers. ``auto``: certificates of the run's
    own on Kubernetes and SLURM, Dask's own configuration for a scheduler that runs, none within one
    machine. ``off`` allows plain connections to other machines: whoever reaches the port runs code."""
    attempts: int = Field(2, ge=1, le=5)
    """How often a task is tried whose failure a retry can mend."""
    window: int = Field(64, ge=1)
    """Associations in flight at a time; as many as there are workers where that is more."""
    patience: float = Field(300, ge=0)
    """Seconds to wait for a scheduler that was lost to come back, or for a worker that is large enough when
    those that were have gone."""
    grace: float = Field(20, ge=0)
    """Seconds that a worker which is told to go (SIGTERM) has for its task; then the task is handed back.
    Less than what stands between SIGTERM and SIGKILL. Kubernetes has its own (`kubernetes.grace`)."""
    performance_report: bool = False
    """Save Dask's own report of the run, ``report/dask-performance.html``."""
    scratch: Absolute | None = None
    """Where the work directory is in an object store: folder on each machine in which tasks work, and which
    keeps products. None: a folder of the user's own where temporary files go."""
    cache: Memory = ByteSize(CACHE_BYTES)
    """How many bytes of products that folder keeps, those that tasks are using aside."""
    kubernetes: KubernetesSettings = KubernetesSettings()
    slurm: SlurmSettings = SlurmSettings()

    @property
    def chosen_kind(self) -> Kind:
        """The kind that is meant."""
        return self.kind or ("local" if self.scheduler is None else "scheduler")

    @model_validator(mode="after")
    def _address_of_kind(self) -> ClusterSettings:
        if self.kind == "scheduler" and self.scheduler is None:
            raise ValueError("kind scheduler needs an address; use --scheduler tls://HOST:8786")
        if self.kind not in (None, "scheduler") and self.scheduler is not None:
            raise ValueError(f"kind {self.kind} starts a scheduler of its own; leave out --scheduler")
        if any(c.scales for c in self.classes[1:]):
            raise ValueError(
                "only the first class can have minimum and maximum: the operator scales no other"
            )
        return self
