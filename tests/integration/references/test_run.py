"""The real command with a CRDS server."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from command import acs_batch
from crds_server import CrdsServer

from batch.simulation.visit import Visit

SECRET = "s3cr3t-t0k3n-of-the-user"


class Run:
    """``acs-batch run`` with a cache of its own."""

    def __init__(self, source: Path, cache: Path, work: Path) -> None:
        self.source, self.cache, self.work = source, cache, work

    def __call__(
        self, *options: str, verb: str = "run", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        where = ["--from", str(self.source), "--crds-cache", str(self.cache), "--work", str(self.work)]
        with_secret = {**os.environ, "MAST_API_TOKEN": SECRET, **environment}
        return acs_batch(verb, *where, *options, environment=with_secret)

    def record(self, stage: str) -> dict[str, Any]:
        """The record of the one exposure."""
        (path,) = (self.work / "products" / stage).rglob("record.json")
        return dict(json.loads(path.read_text()))

    def header(self) -> fits.Header:
        """Of the flt."""
        (path,) = (self.work / "products" / "calibrate").rglob("*_flt.fits")
        return fits.getheader(path)


@pytest.fixture
def run(visit: Visit, tmp_path: Path) -> Run:
    return Run(visit.raw, tmp_path / "cache", tmp_path / "work")


@pytest.fixture
def filled(run: Run, visit: Visit) -> Run:
    """The same with everything in the cache."""
    shutil.copytree(visit.crds, run.cache)
    return run


@pytest.mark.slow
def test_an_empty_cache_is_filled_once_and_the_context_pinned(run: Run, store: CrdsServer) -> None:
    looked = run("--sync", "--set", f"references.server={store.url}", verb="plan")
    assert looked.returncode == 0, looked.stderr
    assert "reference files" in looked.stderr
    assert not any(name.endswith(".fits") for name in store.downloads)
    done = run("--sync", "--set", f"references.server={store.url}", "--until", "references")
    assert done.returncode == 0, done.stderr
    assert set(store.downloads.values()) == {1}
    plan = json.loads((run.work / "plan.json").read_text())
    assert plan["settings"]["references"]["context"] == "hst_0001.pmap"
    results = run.record("references")["results"]
    assert results["context"] == "hst_0001.pmap"
    assert results["verified"]
    assert not results["unverified"]
    # offline it goes on with what is there, and the newest context of the cache is the same
    again = run("--until", "references", "--set", "references.sync=never")
    assert again.returncode == 0, again.stderr
    _no_secret(run, store, done, again)


def _no_secret(run: Run, store: CrdsServer, *outputs: subprocess.CompletedProcess[str]) -> None:
    said = "".join(o.stdout + o.stderr for o in outputs) + json.dumps(store.headers)
    assert SECRET not in said
    for folder in (run.work, run.cache):
        for path in folder.rglob("*"):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_custom_files_and_switches_end_in_headers_records_and_notes(filled: Run, tmp_path: Path) -> None:
    (dark,) = filled.cache.rglob("*_drk.fits")
    (flat,) = filled.cache.rglob("*_pfl.fits")
    mine = tmp_path / "my_dark.fits"
    with fits.open(dark) as hdus:
        hdus["SCI", 1].data[...] = 0.5
        hdus.writeto(mine)
    flat.unlink()
    done = filled("--until", "calibrate", "--reference", f"DARKFILE={mine}", "--switch", "flatcorr=omit")
    assert done.returncode == 0, done.stderr
    header = filled.header()
    assert header["DARKFILE"] == "jref$my_dark.fits"
    digest = hashlib.sha256(mine.read_bytes()).hexdigest()
    assert digest in " ".join(header["HISTORY"])
    assert (header["FLATCORR"], header["DARKCORR"]) == ("OMIT", "COMPLETE")
    assert "acs-batch: FLATCORR set to OMIT as asked for" in str(header["HISTORY"])
    record = filled.record("references")
    assert record["results"]["custom"] == {"DARKFILE": {"path": str(mine), "sha256": digest}}
    assert record["results"]["switches"] == {"FLATCORR": "OMIT"}
    assert any("DARKFILE is your own" in note for note in record["notes"])
