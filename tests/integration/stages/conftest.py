"""Stages run as the runtime runs them, on small exposures with known stars."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from batch.config import Settings, identity, override
from batch.isolation.nursery import Nursery
from batch.model.drizzle import Drizzle, combinations
from batch.model.observation import Association, Exposure
from batch.model.plan import Task, expand
from batch.model.record import Record, Status
from batch.runtime import announcing, lending
from batch.runtime.request import Request
from batch.runtime.worker import environment, execute
from batch.stages import align, calibrate, combine, fetch, references, report, select, statistics, sweep, wcs
from batch.stages.interface import image_product, product
from batch.storage.files import write_json
from batch.storage.workdir import WorkDirectory

GEOMETRY = ("IDCTAB", "NPOLFILE", "D2IMFILE")
NAME = "jtst01010"


_kept: list[Nursery] = []


@contextlib.contextmanager
def one_worker() -> Iterator[None]:
    """Tasks are forked from one process, as on a worker that has memory for anything."""
    if not _kept:
        _kept.append(Nursery(lending.PROGRAM, environment(1)))
    with (
        mock.patch.object(lending, "lent", return_value=contextlib.nullcontext(_kept[0])),
        mock.patch.object(announcing, "memory", return_value=2**40),
    ):
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_process_left() -> Iterator[None]:
    yield
    while _kept:
        _kept.pop().close()


@dataclasses.dataclass
class Bench:
    """A work directory in which calibrated exposures are published already."""

    work: WorkDirectory
    association: Association
    settings: Settings
    tasks: dict[str, Task]
    records: dict[str, Record]

    def do(self, stage: str, exposure: str | None = None, pixfrac: float | None = None) -> Record:
        """Run one task in a process of its own; a failure is returned, as the runtime returns it."""
        task = next(
            t
            for t in self.tasks.values()
            if (t.stage, t.exposure, t.drizzle and t.drizzle.pixfrac) == (stage, exposure, pixfrac)
        )
        (record,) = self.share(task)
        return record

    def share(self, *tasks: Task) -> tuple[Record, ...]:
        """Run tasks of one stage together in one process."""
        request = Request(
            tasks=tasks,
            needs=tasks[0].needs,
            association=self.association,
            settings=self.settings.model_dump(mode="json"),
            work=self.work.location,
        )
        with one_worker():
            made = execute(request, *(self.records[name] for name in tasks[0].upstream))
        self.records |= {record.id: record for record in made}
        return made

    def pass_on(self, stage: str, earlier: str) -> None:
        """Publish the exposures of an earlier stage as those of an association's stage."""
        (task,) = (t for t in self.tasks.values() if t.stage == stage)
        place = self.work.folder(task.id)
        place.mkdir(parents=True)
        made = []
        for record in [r for r in self.records.values() if r.stage == earlier]:
            path = self.path(record, "flt")
            shutil.copyfile(path, place / path.name)
            made.append(image_product(place, path.name, "flt"))
        record = Record(stage, task.subject, task.fingerprint, Status.DONE, products=tuple(made))
        write_json(place / "record.json", record)
        self.records[task.id] = record

    def sweeping(self, boxes: Sequence[Mapping[str, int]] = (), **values: Any) -> Bench:
        """The same work directory with another sweep to be done, and what follows it."""
        settings = override(self.settings, {"sweep": values, "statistics": {"boxes": list(boxes)}})
        tasks = lay(self.association, settings, settings.sweep.drizzles)
        return Bench(self.work, self.association, settings, tasks, dict(self.records))

    def through(self, last: str, pixfracs: Sequence[float] = ()) -> Record:
        """Run the stages from wcs to `last`; every one has to succeed. Returns the last record."""
        record = None
        for stage in ("wcs", "align", "combine", "sweep"):
            subjects: list[dict[str, Any]] = [{}]
            if stage == "wcs":
                subjects = [{"exposure": e.rootname} for e in self.association.exposures]
            if stage == "sweep":
                subjects = [{"pixfrac": p} for p in pixfracs]
            for subject in subjects:
                record = self.do(stage, **subject)
                assert record.status.ok, record.failure
            if stage == last:
                break
        assert record is not None
        return record

    def path(self, record: Record, kind: str) -> Path:
        """The one product of a kind."""
        (name,) = [p.name for p in record.products if p.kind == kind]
        return self.work.folder(record.id) / name

    def paths(self, record: Record, kind: str) -> list[Path]:
        """All products of a kind."""
        return [self.work.folder(record.id) / p.name for p in record.products if p.kind == kind]


def lay(association: Association, settings: Settings, drizzles: Sequence[Drizzle]) -> dict[str, Task]:
    """The tasks, by id."""
    modules = (fetch, references, calibrate, wcs, align, combine, sweep, statistics, select, report)
    stages = [m.STAGE for m in modules]
    made = expand(stages, [association], identity(settings), drizzles, typed_settings=settings)
    return {t.id: t for t in made}


def set_up(
    folder: Path,
    flts: Sequence[Path],
    jref: Path | None = None,
    missing: Sequence[str] = (),
    pixfracs: Sequence[float] = (1.0, 0.5),
    **sections: Mapping[str, Any],
) -> Bench:
    """Publish calibrated exposures, and the names of their reference files in the folder `jref`."""
    from astropy.io import fits

    work = WorkDirectory(folder)
    work.create()
    settings = Settings.model_validate(sections)
    exposures, names = [], {}
    for path in flts:
        with fits.open(path) as hdus:
            header, chips = hdus[0].header, [h for h in hdus if h.name == "SCI"]
            exposures.append(
                Exposure(
                    header["ROOTNAME"].strip(), header["DETECTOR"].strip(), header["APERTURE"].strip(), "C",
                    ("F606W",), header["EXPTIME"], header["EXPSTART"], chips[0].shape, len(chips), "1-1",
                )
            )  # fmt: skip
            wanted = (*GEOMETRY, "PFLTFILE")
            names[path] = {k: header[k].removeprefix("jref$") for k in wanted if "$" in header.get(k, "")}
    association = Association(NAME, tuple(exposures))
    tasks = lay(association, settings, combinations(pixfracs))
    bench = Bench(work, association, settings, tasks, {})
    for path, exposure in zip(flts, exposures, strict=True):
        for stage in ("references", "calibrate"):
            task = tasks[f"{stage}/{NAME}/{exposure.rootname}"]
            place = work.folder(task.id)
            place.mkdir(parents=True)
            if stage == "calibrate":
                shutil.copyfile(path, place / path.name)
                made = image_product(place, path.name, "flt")
            else:
                here = {k: n for k, n in names[path].items() if k not in missing}
                text = {
                    "context": "hst_0001.pmap",
                    "files": {n: {"path": str((jref or folder) / n)} for n in here.values()},
                    "exposures": {
                        exposure.rootname: {
                            "keywords": {k: f"jref${n}" for k, n in here.items()},
                            "switches": {},
                            "missing": {k: n for k, n in names[path].items() if k in missing},
                            "nominal": [],
                        }
                    },
                }
                (place / "references.json").write_text(json.dumps(text))
                made = product(place, "references.json", "references")
            record = Record(task.stage, task.subject, task.fingerprint, Status.DONE, products=(made,))
            write_json(place / "record.json", record)
            bench.records[task.id] = record
    return bench


@pytest.fixture(scope="session")
def bench() -> Callable[..., Bench]:
    """`set_up`, for the tests of this folder."""
    return set_up


@dataclasses.dataclass(frozen=True)
class Sky:
    """Stars with known positions, and exposures of them."""

    folder: Path
    ra: np.ndarray
    dec: np.ndarray
    """deg"""
    flux: np.ndarray
    """electrons / s"""
    flts: tuple[Path, ...]
    hits: dict[str, np.ndarray]
    """Where cosmic rays struck, by rootname."""


SIDE, PIXEL, SCENE = 400, 0.05, (5.6, -72.05)


def observe(
    folder: Path,
    offsets: Sequence[tuple[float, float]] = ((0.0, 0.0), (5.5, 2.5), (8.0, -3.5)),
    errors: Sequence[tuple[float, float]] = ((0.0, 0.0), (11.0, -7.0), (-6.0, 14.0)),
    stars: int = 150,
    exptime: float = 300.0,
    rays: int = 60,
) -> Sky:
    """Exposures of one undistorted chip of 400 x 400 pixels without any reference file.

    Parameters
    ----------
    offsets : sequence of (float, float)
        Where each exposure points, pixels.
    errors : sequence of (float, float)
        How far off its header says it points, pixels.
    """
    from astropy.io import fits
    from scipy.special import erf

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    step = PIXEL / 3600
    x, y = rng.uniform(-15, SIDE + 15, (2, stars))
    flux = 10 ** rng.uniform(0.8, 2.6, stars)
    dec = SCENE[1] + (y - SIDE / 2) * step
    # plane enough: the field is 20 arcsec across
    ra = SCENE[0] - (x - SIDE / 2) * step / np.cos(np.radians(SCENE[1]))
    flts, hits = [], {}
    for number, (offset, error) in enumerate(zip(offsets, errors, strict=False)):
        root = f"jtst01a{'abcdefgh'[number]}q"
        image = np.full((SIDE, SIDE), 30.0)
        edges = np.arange(SIDE + 1) - 0.5
        for u, v, f in zip(x - offset[0], y - offset[1], flux, strict=True):
            across = np.diff(erf((edges - u) / (0.85 * np.sqrt(2)))) / 2
            along = np.diff(erf((edges - v) / (0.85 * np.sqrt(2)))) / 2
            image += f * exptime * np.outer(along, across)
        image = rng.poisson(image) + rng.normal(0, 5, image.shape)
        hit = np.zeros(image.shape, bool)
        for i, j in rng.integers(2, SIDE - 2, (rays, 2)):
            hit[j, i : i + rng.integers(1, 5)] = True
        image[hit] += rng.uniform(300, 3000, int(hit.sum()))
        # far below the sky, yet not flagged: what AstroDrizzle's static mask is for
        image[7 + number, 50:60] = -5000.0
        header = fits.Header(
            {
                "ROOTNAME": root, "FILENAME": f"{root}_flt.fits", "TELESCOP": "HST", "INSTRUME": "ACS",
                "DETECTOR": "WFC", "APERTURE": "WFC1-512", "FILTER1": "F606W", "FILTER2": "CLEAR2L",
                "EXPTIME": exptime, "EXPSTART": 53900.0 + 0.01 * number, "EXPEND": 53900.005 + 0.01 * number,
                "DATE-OBS": "2006-06-14", "TIME-OBS": "01:00:00", "CCDAMP": "A", "CCDGAIN": 2.0, "NEXTEND": 3,
                "ATODGNA": 2.0, "READNSEA": 5.0, "EXPFLAG": "NORMAL", "IDCTAB": "N/A", "PROPOSID": 1,
                "TARGNAME": "TEST", "IMAGETYP": "EXT", "LINENUM": "01.001", "PA_V3": 0.0, "ASN_ID": "NONE",
                **{f"{k}{a}": v for k, v in {"ATODGN": 2.0, "READNSE": 5.0}.items() for a in "BCD"},
            }
        )  # fmt: skip
        chip = fits.Header(
            {
                "CCDCHIP": 1, "BUNIT": "ELECTRONS", "EXPNAME": root, "NGOODPIX": SIDE**2, "MEANDARK": 0.0,
                "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": SIDE / 2 + 1, "CRPIX2": SIDE / 2 + 1,
                "CRVAL1": SCENE[0] - (offset[0] + error[0]) * step / np.cos(np.radians(SCENE[1])),
                "CRVAL2": SCENE[1] + (offset[1] + error[1]) * step,
                "CD1_1": -step, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": step, "ORIENTAT": 0.0,
                "LTV1": 0.0, "LTV2": 0.0, "PHOTFLAM": 7.9e-20, "PHOTPLAM": 5917.0,
                "PHOTMODE": "ACS WFC1 F606W",
                "VAFACTOR": 1.0, "BINAXIS1": 1, "BINAXIS2": 1,
            }
        )  # fmt: skip
        path = folder / f"{root}_flt.fits"
        error_plane = np.sqrt(np.maximum(image, 0) + 25).astype(np.float32)
        fits.HDUList(
            [
                fits.PrimaryHDU(header=header),
                fits.ImageHDU(image.astype(np.float32), chip, name="SCI", ver=1),
                fits.ImageHDU(error_plane, name="ERR", ver=1),
                fits.ImageHDU(np.zeros(image.shape, np.int16), name="DQ", ver=1),
            ]
        ).writeto(path, overwrite=True)
        flts.append(path)
        hits[root] = hit
    return Sky(folder, ra, dec, flux, tuple(flts), hits)


@pytest.fixture(scope="session")
def expose() -> Callable[..., Sky]:
    """`observe`, for the tests of this folder."""
    return observe


@pytest.fixture(scope="session")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    """Three exposures whose headers are off by up to 16 pixels."""
    return observe(tmp_path_factory.mktemp("sky"))


@pytest.fixture(scope="session", params=["multi", "astrodrizzle"])
def swept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sky: Sky) -> Bench:
    """Those exposures, through to the sweep, with either engine."""
    made = set_up(tmp_path_factory.mktemp("swept"), sky.flts, sweep={"engine": request.param})
    made.through("sweep", (1.0, 0.5))
    return made
