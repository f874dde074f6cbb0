"""Scheduler, workers and driver in containers: the same bits, whatever happens to a worker."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest
from pods import HARDENED, TLS, Site, hardened, podman

from batch.runtime.classes import promised

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(1200, func_only=True)]

GIB = 2**30
MB = 10**6
WORKERS = ("worker-1", "worker-2")
# what shapes a product: the image has them as they were locked, this environment as they were newest
SHAPING = ("numpy", "scipy", "numba", "llvmlite", "astropy", "pyerfa", "xarray", "photutils", "scikit-image",
           "drizzlepac", "stwcs", "tweakwcs", "spherical-geometry", "fitsblender", "crds", "stsci.image",
           "stsci.imagestats", "stsci.skypac", "stsci.stimage", "stsci.tools")  # fmt: skip
VERSIONS = f"""
import json
from importlib import metadata
print(json.dumps({{name: metadata.version(name) for name in {SHAPING!r}}}))
"""


def records(work: Path) -> dict[str, dict[str, Any]]:
    """Published records by task id."""
    products = work / "products"
    found = products.rglob("record.json")
    return {str(p.parent.relative_to(products)): json.loads(p.read_text()) for p in found}


def attempts(work: Path) -> dict[str, dict[str, Any]]:
    """The record of the first failed attempt by task id."""
    failures = work / "failures"
    found = failures.rglob("attempt-1/record.json")
    return {str(p.parents[1].relative_to(failures)): json.loads(p.read_text()) for p in found}


def bits(work: Path) -> dict[str, str]:
    """Digest of every image and table, of all that is in it but the day on which it was made."""
    made = {}
    for path in (work / "products").rglob("*"):
        if path.suffix in (".fits", ".nc"):
            content = re.sub(rb"(DATE    = )'[0-9-]{10}", rb"\1'          ", path.read_bytes())
            made[str(path.relative_to(work))] = hashlib.sha256(content).hexdigest()
    return made


@pytest.fixture(scope="session")
def local(
    finished: tuple[Path, str], visit: Path, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A work directory of the same visit, reduced on one machine by the same software."""
    printed = podman("run", "--rm", *hardened(), "--network", "none", image, "python", "-I", "-c", VERSIONS)
    if json.loads(printed) == {name: metadata.version(name) for name in SHAPING}:
        return finished[0]
    print(
        f"this environment differs from the image's, {printed}: the run on one machine is made in the image"
    )
    work = tmp_path_factory.mktemp("local") / "work"
    work.mkdir(mode=0o777)
    work.chmod(0o777)
    with Site(image, {visit: "/visit:ro", work: "/work"}) as site:
        catalog = "align.catalog=/visit/truth/catalog.ecsv"
        command = [
            "acs-batch",
            "run",
            "--workers",
            "2",
            "--from",
            "/visit/raw",
            "--crds-cache",
            "/visit/crds",
        ]
        site.start("alone", *command, "--work", "/work", "--set", catalog)
        assert site.wait("alone") == 0, site.logs("alone")
    return work


@pytest.fixture
def site(image: str, visit: Path, work: Path, certificates: Path, token: str) -> Site:
    """Not started yet."""
    return Site(image, {visit: "/visit:ro", work: "/work", certificates: f"{TLS}:ro"}, token)


def test_a_worker_container_killed_mid_run_changes_no_bit(
    site: Site, local: Path, work: Path, token: str
) -> None:
    with site:
        site.scheduler()
        for name in WORKERS:
            site.worker(name, memory=2 * GIB, planned=promised(2 * GIB))
        site.wait_until("two workers that are well", lambda: all(map(site.healthy, WORKERS)))
        site.drive("--set", "align.catalog=/visit/truth/catalog.ecsv")
        victim = site.wait_until(
            "the mosaic to be begun",
            lambda: [n for n in WORKERS if site.task_of(n).startswith("combine__")],
            seconds=600,
        )[0]
        processes = {name: site.processes(name) for name in ("scheduler", "driver", *WORKERS)}
        site.kill(victim)
        _, alive = psutil.wait_procs(processes[victim], timeout=10)
        assert not alive
        assert site.wait("driver") == 0, site.logs("driver")
        for name in ("scheduler", "driver", *WORKERS):
            held_back(site, name)
    made = records(work)
    (survivor,) = set(WORKERS) - {victim}
    assert made["combine/jsim01010"]["usage"]["host"] == survivor
    assert {r["usage"]["host"] for r in made.values()} == set(WORKERS)
    assert made.keys() == records(local).keys()
    expected = bits(local)
    assert len(expected) > 50
    assert bits(work) == expected
    nothing_is_left(site, [p for part in processes.values() for p in part])
    assert "tls://" in site.said["driver"] + site.said["scheduler"]
    nothing_is_told(token, site.said, work)


def held_back(site: Site, name: str) -> None:
    """The container had what the image promises to do with, and no more."""
    found = json.loads(podman("inspect", f"{site.name}-{name}"))[0]
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert not found["EffectiveCaps"]
    assert found["Config"]["User"] == HARDENED[HARDENED.index("--user") + 1]
    assert "no-new-privileges" in found["HostConfig"]["SecurityOpt"]
    assert not found["HostConfig"]["Privileged"]


def nothing_is_left(site: Site, processes: list[psutil.Process]) -> None:
    """No container, network, secret or process of a site that has ended."""
    assert not podman("ps", "--all", "--quiet", "--filter", f"label=site={site.name}")
    assert site.name not in podman("network", "ls", "--format", "{{.Name}}").split()
    assert site.name not in podman("secret", "ls", "--format", "{{.Name}}").split()
    assert not podman("volume", "ls", "--quiet", "--filter", f"label=site={site.name}")
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


def nothing_is_told(token: str, said: Mapping[str, str], work: Path) -> None:
    """The secret that every container had is in no log, record, page or product."""
    assert len(said) == 4
    assert not [name for name, text in said.items() if token in text]
    files = [p for p in work.rglob("*") if p.is_file()]
    assert {"record.json", "task.log", "run.json", "plan.json"} <= {p.name for p in files}
    assert not [p for p in files if token.encode() in p.read_bytes()]


KILLS = """
import pathlib
for name in ("memory.events", "memory/memory.oom_control"):
    path = pathlib.Path("/sys/fs/cgroup", name)
    if path.exists():
        print(dict(line.split() for line in path.read_text().splitlines())["oom_kill"])
"""


def test_a_task_killed_by_the_kernel_is_done_on_a_larger_worker(site: Site, work: Path) -> None:
    """The small worker promises more than its container has: only the kernel can tell."""
    with site:
        site.scheduler()
        site.worker("small", memory=220 * MB, planned=450 * MB)
        site.worker("large", memory=2 * GIB, planned=promised(2 * GIB))
        site.wait_until("two workers that are well", lambda: all(map(site.healthy, ("small", "large"))))
        # an association's attempts are counted together, and each of its tasks may be killed once
        site.drive("--until", "calibrate", "--set", "cluster.attempts=5")
        assert site.wait("driver") == 0, site.logs("driver")
        assert int(site.inside("small", KILLS)) > 0
        assert site.healthy("small")
    killed = attempts(work)
    assert [task for task in killed if task.startswith("calibrate/")]
    for record in killed.values():
        assert record["usage"]["host"] == "small"
        assert record["failure"]["out_of_memory"]
    done = {i: r["usage"]["host"] for i, r in records(work).items() if i.startswith("calibrate/")}
    assert len(done) == 5
    assert set(done.values()) == {"large"}


def test_a_task_too_large_for_every_worker_is_refused_with_the_numbers(site: Site, work: Path) -> None:
    with site:
        site.scheduler()
        site.worker("small", memory=500 * MB, planned=250 * MB)
        site.wait_until("a worker that is well", lambda: site.healthy("small"))
        site.drive("--until", "calibrate")
        assert site.wait("driver", timeout=120) == 2
        said = site.logs("driver")
    assert re.search(r"need more memory than any worker has: calibrate/\S+ needs 0\.30 GB", said), said
    assert "the largest worker offers 0.25 GB" in said
    assert not records(work)
