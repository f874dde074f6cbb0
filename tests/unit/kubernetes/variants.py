"""What the overlays of k8s/ are in settings: heading, work directory, changes to those of the base."""

SPOT = 'key="cloud.google.com/gke-spot", value="true"'
VARIANTS: dict[str, tuple[str, str, list[str]]] = {
    "small": (
        "A visit at a time: one or two small workers, one large.",
        "/work/run",
        [
            "cluster.classes=[{memory=2147483648, workers=1, minimum=1, maximum=2}, {memory=6442450944}]",
            "cluster.kubernetes.scheduler_memory=2147483648",
            "cluster.window=2",
        ],
    ),
    "large": (
        "Survey reprocessing: up to 500 small workers, 40 large, a scheduler and a driver to match.",
        "/work/run",
        [
            "cluster.classes=[{memory=2147483648, workers=100, minimum=20, maximum=500},"
            " {memory=6442450944, workers=40}]",
            "cluster.kubernetes.scheduler_memory=17179869184",
            "cluster.window=256",
        ],
    ),
    "spot": (
        "Workers on spot nodes, which may be taken away with 25 s notice; scheduler and driver are not.",
        "/work/run",
        [
            'cluster.kubernetes.node_selector={"cloud.google.com/gke-spot"="true"}',
            f"cluster.kubernetes.tolerations=[{{{SPOT}}}]",
            "cluster.kubernetes.grace=25",
        ],
    ),
    "s3": (
        "Work directory in an object store, CRDS cache on each node: no volume that many nodes write.",
        "s3://my-bucket/run",
        [
            "fetch.source=s3://my-bucket/raw",
            "references.cache=/scratch/crds",
            "references.sync=missing",
            "cluster.kubernetes.volumes=[]",
            "cluster.kubernetes.scratch=68719476736",
            "cluster.cache=34359738368",
        ],
    ),
}
