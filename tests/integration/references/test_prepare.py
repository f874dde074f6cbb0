"""What is settled before a run: the context, the files, the user's own ones, what is damaged or bad."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from crds_server import CrdsServer
from spoil import spoil_card

from batch import config
from batch.archive import headers
from batch.errors import BatchError, DamagedReferenceError, InputError, MissingReferenceError, UsageError
from batch.model.observation import Association, Product
from batch.model.plan import Needs, Task
from batch.model.record import Record, Status
from batch.runtime import prefetch
from batch.simulation.visit import Visit
from batch.stages import references as stage
from batch.stages.interface import Inputs


class Planner:
    """`prefetch.prepare` for the one exposure of the visit."""

    def __init__(self, visit: Visit, cache: Path) -> None:
        self.cache = cache
        (self.raw,) = visit.raw.glob("*_raw.fits")
        self.associations = (Association("jsim01010", (headers.describe(self.raw).exposure,)),)

    @property
    def root(self) -> str:
        return self.associations[0].exposures[0].rootname

    def __call__(self, *changes: str, fetch: bool = True) -> tuple[config.Settings, str]:
        """The settings with everything pinned, and the identity of the references task."""
        settings = config.load(None, [f"references.cache={self.cache}", *changes])
        made, identities = prefetch.prepare(settings, self.associations, {self.root: self.raw}, fetch=fetch)
        ((name, identity),) = identities.items()
        assert name == f"references/jsim01010/{self.root}"
        return made, identity


@pytest.fixture
def empty(visit: Visit, tmp_path: Path) -> Planner:
    return Planner(visit, tmp_path / "crds")


@pytest.fixture
def filled(empty: Planner, visit: Visit) -> Planner:
    """The same with everything in the cache."""
    shutil.copytree(visit.crds, empty.cache)
    return empty


def from_server(store: CrdsServer) -> tuple[str, str]:
    return "references.sync=missing", f"references.server={store.url}"


def test_a_look_at_the_plan_fetches_rules_alone(
    empty: Planner, store: CrdsServer, caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = empty(*from_server(store), fetch=False)
    assert made.references.context == "hst_0001.pmap"
    assert {name.rpartition(".")[2] for name in store.downloads} == {"pmap", "imap", "rmap"}
    assert set(store.downloads.values()) == {1}
    assert "reference files, " in caplog.text
    assert "will be fetched" in caplog.text


def test_latest_is_looked_up_at_the_server(filled: Planner, store: CrdsServer) -> None:
    with pytest.raises(UsageError, match="--sync"):
        filled("references.context=latest")
    made, _ = filled("references.context=latest", *from_server(store))
    assert made.references.context == "hst_0001.pmap"
    assert store.calls["get_default_context"] == 1


@pytest.mark.slow
def test_a_damaged_file_in_the_cache_stops_the_run(filled: Planner, store: CrdsServer) -> None:
    (dark,) = filled.cache.rglob("*_drk.fits")
    content = bytearray(dark.read_bytes())
    content[-1] ^= 1
    dark.chmod(0o644)
    dark.write_bytes(content)
    with pytest.raises(DamagedReferenceError, match="sha1") as caught:
        filled(*from_server(store))
    assert str(dark) in caught.value.message
    assert "delete them and sync them again" in caught.value.message
    dark.unlink()
    filled(*from_server(store))
    assert store.downloads[dark.name] == 1


def test_offline_the_catalogue_of_the_last_sync_is_enough(filled: Planner, tmp_path: Path) -> None:
    """A simulated cache has one, as every cache has that a CRDS client has filled."""
    filled()
    (dark,) = filled.cache.rglob("*_drk.fits")
    dark.chmod(0o644)
    with dark.open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(DamagedReferenceError, match=r"bytes, .* in CRDS"):
        filled()


@pytest.mark.parametrize("policy", ["note", "stop"])
def test_bad_files_are_told_of_or_stop_the_run(
    filled: Planner, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    (dark,) = filled.cache.rglob("*_drk.fits")
    (filled.cache / "config/hst/bad_files.txt").write_text(dark.name + "\n")
    if policy == "stop":
        with pytest.raises(InputError, match=f"{dark.name}: CRDS designates"):
            filled("references.bad=stop")
    else:
        filled()
        assert f"scientifically invalid: {dark.name}" in caplog.text


@pytest.mark.slow
def test_a_custom_file_counts_by_its_content_not_by_its_place(filled: Planner, tmp_path: Path) -> None:
    (dark,) = filled.cache.rglob("*_drk.fits")
    here, there = tmp_path / "my_dark.fits", tmp_path / "there" / "my_dark.fits"
    there.parent.mkdir()
    shutil.copy(dark, here)
    shutil.copy(dark, there)
    there.chmod(0o644)
    _, without = filled()
    _, first = filled(f"references.custom=['DARKFILE={here}']")
    _, second = filled(f"references.custom=['DARKFILE[{filled.root}]={there}']")
    fits.setval(there, "COMMENT", value="other")
    _, third = filled(f"references.custom=['DARKFILE[f606w]={there}']")
    assert first == second
    assert len({without, first, third}) == 3


def test_a_switch_decides_what_is_needed(filled: Planner) -> None:
    (flat,) = filled.cache.rglob("*_pfl.fits")
    flat.unlink()
    with pytest.raises(MissingReferenceError, match="PFLTFILE"):
        filled()
    made, _ = filled("calibrate.switches=['flatcorr=omit']")
    assert made.calibrate.switches == ("FLATCORR=OMIT",)


@pytest.mark.parametrize("value", ["PERFORM", "OMIT"])
def test_exposures_know_what_the_switches_make_of_them(filled: Planner, value: str) -> None:
    settings = config.load(None, [f"calibrate.switches=['PCTECORR={value}']"])
    (association,) = prefetch.with_switches(filled.associations, settings)
    assert association.exposures[0].cte == (value == "PERFORM")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("calibrate.switches=['PCTECORR=MAYBE']", "is no switch"),
        ("calibrate.switches=['PCTCORR=OMIT']", "is no switch"),
        ("references.custom=['DARKFILE']", "not of the form"),
        ("references.custom=['DRKFILE=x.fits']", "not a reference keyword"),
        ("references.custom=['DARKFILE=/nowhere/x.fits']", "there is no such file"),
        (f"references.custom=['DARKFILE={__file__}']", "not a FITS file"),
        ("references.custom=['DARKFILE[F999W]=x.fits']", "no exposure of this run"),
        ("references.custom=['DARKFILE[j00000000]=x.fits']", "no exposure of this run"),
        ("references.custom=['DARKFILE=a b.fits']", "cannot be a file name"),
        ("references.server=ftp://x", "not an http address"),
        ("references.server=https://me:hidden@x.org", "password"),
    ],
)
def test_wrong_use_is_refused(filled: Planner, change: str, message: str) -> None:
    with pytest.raises(BatchError, match=message) as caught:
        filled(change)
    assert "hidden" not in caught.value.message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("FILETYPE", "BIAS", "FILETYPE is BIAS, not DARK"), ("INSTRUME", "WFC3", "INSTRUME is WFC3, not ACS")],
)
def test_a_custom_file_of_another_kind_is_refused(
    filled: Planner, tmp_path: Path, key: str, value: str, message: str
) -> None:
    path = tmp_path / "mine.fits"
    header: Any = fits.Header({key: value})
    fits.PrimaryHDU(header=header).writeto(path)
    with pytest.raises(UsageError, match=message):
        filled(f"references.custom=['DARKFILE={path}']")


@pytest.mark.parametrize("key", ["FILETYPE", "INSTRUME"])
def test_a_custom_file_with_a_damaged_card_is_refused(filled: Planner, tmp_path: Path, key: str) -> None:
    path = tmp_path / "mine.fits"
    fits.PrimaryHDU(header=fits.Header({"FILETYPE": "DARK", "INSTRUME": "ACS"})).writeto(path)
    spoil_card(path, key)
    with pytest.raises(InputError, match=f"DARKFILE=.*keyword {key} cannot be read"):
        filled(f"references.custom=['DARKFILE={path}']")


@pytest.mark.slow
def test_a_task_fetches_what_is_still_missing(
    empty: Planner, visit: Visit, store: CrdsServer, tmp_path: Path
) -> None:
    """As for an exposure whose header could not be read when the run was planned."""
    made, _ = empty(*from_server(store), fetch=False)
    (association,) = empty.associations
    files = tmp_path / "work" / "products"
    products = (Product("raw", empty.raw.name, 0, ""),)
    subject = f"{association.name}/{empty.root}"
    fetched = Record("fetch", subject, "", Status.DONE, products=products)
    folder = files / "fetch" / fetched.subject
    folder.mkdir(parents=True)
    shutil.copy(empty.raw, folder)
    task = Task("references", association.name, empty.root, None, (fetched.id,), "", Needs(0, 0, 0))
    area = tmp_path / "area"
    area.mkdir()
    outcome = stage.run(Inputs(task, association, (fetched,), files), area, made.references)
    assert set(outcome.results["verified"]) == set(
        json.loads((area / "references.json").read_text())["files"]
    )
    assert {n for n in store.downloads if n.endswith(".fits")} == set(outcome.results["verified"])
    assert set(store.downloads.values()) == {1}
