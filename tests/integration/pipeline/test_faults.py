"""Faults injected into real runs: a clear word, no half product, and a second run that does only the rest."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from astropy.io import fits

from batch.simulation.visit import Visit

if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.slow

ASN = "jsim01010"
ROOTS = tuple(f"jsim01a{letter}q" for letter in "abcdef")


def tasks_of(roots: tuple[str, ...]) -> set[str]:
    """Ids of every task of some exposures."""
    return {f"{stage}/{ASN}/{root}" for stage in ("fetch", "references", "calibrate") for root in roots}


ALL = tasks_of(ROOTS[:2])


def child_of(run: Run, stage: str) -> psutil.Process:
    """The process of a task of a stage, once it is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in run.processes():
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            if "batch.runtime.task" in line and f"/{stage}__" in line[-1]:
                return process
        time.sleep(0.02)
    raise AssertionError(f"no process of {stage}")


def assert_whole(run: Run) -> None:
    """Every published product is there in full, as its record says."""
    import hashlib

    for task, record in run.records().items():
        for product in record["products"]:
            content = (run.work / "products" / task / product["name"]).read_bytes()
            assert len(content) == product["size"]
            assert hashlib.sha256(content).hexdigest() == product["sha256"]


def finish(run: Run, before: dict[str, int], missing: set[str], whole: set[str] = ALL) -> None:
    """Run again: all is done, and only what was missing was run."""
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    after = run.identities()
    assert set(after) == whole
    assert {t for t in whole if after[t] != before.get(t)} == missing
    assert_whole(run)
    assert not [p for p in (run.work / "scratch").iterdir() if p.name != "dask"]


def no_processes(run: Run) -> bool:
    deadline = time.monotonic() + 20
    while run.processes():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_the_driver_is_killed(tiny: Run) -> None:
    """kill -9: workers and children go as well, and the next run goes on."""
    driver = tiny.start()
    tiny.wait_for(f"fetch/{ASN}/{ROOTS[0]}")
    child_of(tiny, "references")
    driver.kill()
    driver.communicate()
    assert no_processes(tiny)
    before = tiny.identities()
    assert set(before) < ALL
    assert_whole(tiny)
    finish(tiny, before, ALL - set(before))


def test_the_driver_is_terminated(tiny: Run) -> None:
    driver = tiny.start()
    tiny.wait_for(f"fetch/{ASN}/{ROOTS[0]}")
    driver.send_signal(signal.SIGTERM)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "run the same command again to go on" in output
    assert no_processes(tiny)


def test_a_worker_is_killed(tiny: Run) -> None:
    """The task is done by another worker within the same run."""
    driver = tiny.start("--workers", "2")
    child = child_of(tiny, "calibrate")
    worker = child.parent().parent()
    worker.kill()
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    assert set(tiny.records()) == ALL
    assert_whole(tiny)
    assert no_processes(tiny)


def test_a_child_is_killed_for_good(tiny: Run) -> None:
    """With one attempt allowed the failure stands, says so, and blocks nothing else."""
    driver = tiny.start("--set", "cluster.attempts=1")
    child = child_of(tiny, "calibrate")
    task = Path(child.cmdline()[-1]).name.rpartition("-")[0].replace("__", "/")
    child.kill()
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 3, output
    assert f"{task}: its process was killed by SIGKILL, most often for want of memory" in output
    before = tiny.identities()
    assert set(before) == ALL - {task}
    finish(tiny, before, {task})


def test_a_child_is_killed_once(tiny: Run) -> None:
    """By default it is tried again at once."""
    driver = tiny.start()
    child_of(tiny, "calibrate").kill()
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    assert "attempt 2" in output
    assert set(tiny.records()) == ALL


def truncated(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)


def without_science(path: Path) -> None:
    with fits.open(path, memmap=False) as hdus:
        del hdus["SCI", 1]
        hdus.writeto(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def not_numbers(path: Path) -> None:
    with fits.open(path, memmap=False) as hdus:
        data = hdus["SCI", 1].data.astype("float32")
        data[100, 200] = np.nan
        hdus["SCI", 1].data = data
        hdus.writeto(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def wrong_detector(path: Path) -> None:
    fits.setval(path, "DETECTOR", value="SBC")


DAMAGES: tuple[tuple[Callable[[Path], None], str], ...] = (
    (truncated, r"_raw.fits[1]: the file is cut short"),
    (without_science, r"_raw.fits[SCI,1]: there is no such extension"),
    (not_numbers, r"_raw.fits[SCI,1]: 1 pixels are NaN or infinite"),
    (wrong_detector, r"_raw.fits[0] DETECTOR: 'SBC' is not supported"),
    (os.unlink, r"_raw.fits: there is no such file"),
)


def test_damaged_exposures(six: Run) -> None:
    """Each fails with file, place and remedy; the sixth goes on; mended, only the five are done."""
    whole = tasks_of(ROOTS)
    intact = {root: (six.source / f"{root}_raw.fits").read_bytes() for root in ROOTS[:5]}
    for root, (damage, _) in zip(ROOTS, DAMAGES, strict=False):
        damage(six.source / f"{root}_raw.fits")
    done = six()
    assert done.returncode == 3, done.stdout + done.stderr
    failed = six.failures()
    assert set(failed) == {f"fetch/{ASN}/{root}" for root in ROOTS[:5]}
    for root, (_, message) in zip(ROOTS, DAMAGES, strict=False):
        text = failed[f"fetch/{ASN}/{root}"]
        assert root + message in text
        assert "; " in text
        assert text in done.stdout
    before = six.identities()
    assert set(before) == tasks_of(ROOTS[5:])
    for root, content in intact.items():
        (six.source / f"{root}_raw.fits").write_bytes(content)
    finish(six, before, whole - set(before), whole)


def test_an_excluded_exposure_is_not_waited_for(tiny: Run) -> None:
    truncated(tiny.source / f"{ROOTS[1]}_raw.fits")
    done = tiny("--exclude", ROOTS[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(tiny.records()) == tasks_of(ROOTS[:1])


def test_missing_references_stop_the_run_before_it_starts(
    tiny: Run, tiny_visit: Visit, tmp_path: Path
) -> None:
    cache = tmp_path / "crds"
    shutil.copytree(tiny_visit.crds, cache)
    gone = sorted((cache / "references/hst").glob("*_[bd][ir][ak].fits"))
    assert len(gone) == 2
    for path in gone:
        path.unlink()
    done = tiny("--crds-cache", str(cache))
    assert done.returncode == 1
    assert "2 reference files are not in the CRDS cache" in done.stderr
    for path in gone:
        assert done.stderr.count(path.name) == 1
    assert not tiny.records()
    done = tiny("--crds-cache", str(cache), "--missing-references", "omit")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "steps BIASCORR, DARKCORR omitted" in done.stdout
    header = fits.getheader(tiny.work / f"products/calibrate/{ASN}/{ROOTS[0]}/{ROOTS[0]}_flt.fits", 0)
    assert (header["BIASCORR"], header["DARKCORR"], header["FLATCORR"]) == ("OMIT", "OMIT", "COMPLETE")
    # the files come back: what was made without them is stale
    before = tiny.identities()
    finish(tiny, before, {t for t in ALL if not t.startswith("fetch/")})


def test_a_reference_that_goes_missing_during_the_run(tiny: Run, tiny_visit: Visit, tmp_path: Path) -> None:
    cache = tmp_path / "crds"
    shutil.copytree(tiny_visit.crds, cache)
    done = tiny("--crds-cache", str(cache), "--until", "references")
    assert done.returncode == 0
    (dark,) = (cache / "references/hst").glob("*_drk.fits")
    before = tiny.identities()
    aside = dark.rename(dark.with_suffix(".aside"))
    done = tiny("--crds-cache", str(cache))
    assert done.returncode == 1
    assert dark.name in done.stderr
    assert tiny.identities() == before
    aside.rename(dark)
    done = tiny("--crds-cache", str(cache))
    assert done.returncode == 0, done.stdout + done.stderr
    after = tiny.identities()
    assert {t: after[t] for t in before} == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB, which can be made larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("no permission to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(tiny: Run, small_disk: Path) -> None:
    """Fails with that word, publishes nothing half, and goes on once there is space."""
    tiny.work = small_disk / "work"
    tiny.arguments[tiny.arguments.index("--work") + 1] = str(tiny.work)
    done = tiny()
    assert done.returncode in (1, 3), done.stdout + done.stderr
    assert "o space left" in done.stdout + done.stderr
    before = tiny.identities()
    assert set(before) < ALL
    assert_whole(tiny)
    subprocess.run(["mount", "-o", "remount,size=500m", small_disk], check=True)
    finish(tiny, before, ALL - set(before))


def test_a_table_that_leads_out_of_the_folder(tiny: Run) -> None:
    name = "../../../../evil"
    path = tiny.source / f"{ASN}_asn.fits"
    with fits.open(path, memmap=False) as hdus:
        columns = hdus[1].columns
        names = list(hdus[1].data["MEMNAME"])
        names[0] = name
        table = fits.BinTableHDU.from_columns(
            [
                fits.Column("MEMNAME", "40A", array=names),
                *(fits.Column(c.name, c.format, array=hdus[1].data[c.name]) for c in columns[1:]),
            ]
        )
        fits.HDUList([hdus[0], table]).writeto(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    done = tiny()
    assert done.returncode == 1
    assert f"{ASN}_asn.fits[1] MEMNAME: {name!r} is not a rootname" in done.stderr
    assert not tiny.records()


def test_a_second_run_beside_the_first_is_refused(tiny: Run) -> None:
    driver = tiny.start()
    tiny.wait_for(f"fetch/{ASN}/{ROOTS[0]}")
    done = tiny()
    assert done.returncode == 2
    assert "another run works here" in done.stderr
    driver.communicate(timeout=300)
    assert driver.returncode == 0
