"""Exposures, and AstroDrizzle's mosaics of them, made in processes of their own."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch.drizzling.multi import Grid, Input

ROOT = Path(__file__).resolve().parents[3]
BITS = 16 + 64 + 256

_PREPARE = """
import json, shutil, sys
from pathlib import Path
from stwcs.updatewcs import updatewcs
from batch.calibration import get_engine
from batch.drizzling.astrodrizzle import full
from batch.simulation.visit import VisitSettings, simulate
from batch.stages.combine import _finish

settings = json.loads(sys.argv[1])
here = Path.cwd()
visit = simulate(here / "visit", VisitSettings(**settings))
names = []
for raw in visit.exposures:
    area = here / "calibrate" / raw.stem
    area.mkdir(parents=True)
    copy = Path(shutil.copyfile(raw, area / raw.name))
    made = get_engine("builtin").calibrate(copy, visit.references, area, 2)
    (flt,) = [p for p in made if p.name.endswith("_flt.fits")]
    names.append(shutil.move(flt, here / flt.name).name)
    updatewcs(names[-1], use_db=False)
    shutil.rmtree(area)
    raw.unlink()
mosaic = full(names, bits=336, weight="EXP", pixfrac=1.0, rotation=0.0, scale=0.03, cosmic_rays=True)
sky = {n: _finish(here / n, 336)["sky"] for n in names}
flat = next(visit.references.glob("*_pfl.fits"), None)
for path in here.glob("*_mask.fits"):
    path.unlink()
Path("made.json").write_text(json.dumps({"sky": sky, "flat": str(flat)}))
"""

_FINALS = """
import json, os, sys, traceback
from pathlib import Path
import drizzlepac.astrodrizzle
from batch.drizzling.astrodrizzle import final

for line in sys.stdin:
    given = json.loads(line)
    own = os.fork()
    if own == 0:
        try:
            os.chdir(given.pop("area"))
            log = os.open("log", os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 1), os.dup2(log, 2)
            final(given.pop("names"), grid=Path(given.pop("grid")), **given)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(own, 0)[1]), flush=True)
"""


def _environment(jref: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "jref": f"{jref}/", "MPLBACKEND": "agg"}


class Finals:
    """AstroDrizzle's final step, each in a process of its own, forked from one that has it imported."""

    def __init__(self, jref: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FINALS],
            env=_environment(jref),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, area: Path, given: dict[str, object]) -> None:
        """Run it in a folder."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(given | {"area": str(area)}), file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "0\n", (area / "log").read_text()[-4000:]

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def child(code: str, folder: Path, jref: Path, argument: object) -> None:
    """Run a piece of a program that stands in `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(argument)],
        cwd=folder,
        env=_environment(jref),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-4000:])


@dataclasses.dataclass(frozen=True)
class Case:
    """Exposures with their masks, and the mosaic that defines the grid."""

    folder: Path
    sky: dict[str, list[float]]
    flat: Path
    finals: Finals | None = None

    @property
    def jref(self) -> Path:
        """The folder of reference files."""
        return self.folder / "visit" / "crds" / "references" / "hst"

    @property
    def grid(self) -> Grid:
        """That of the first mosaic."""
        return Grid.read(*(self.folder / f"final_drz_{kind}.fits" for kind in ("sci", "wht", "ctx")))

    @property
    def inputs(self) -> list[Input]:
        """For the multi-pixfrac drizzle."""
        return [Input(self.folder / n, tuple(v), self.flat) for n, v in self.sky.items()]

    def astrodrizzle(
        self, area: Path, pixfrac: float, weight: str = "EXP", grid: Grid | None = None
    ) -> dict[str, Path]:
        """AstroDrizzle's final step with the same inputs, on the grid of the first mosaic or on another."""
        area.mkdir()
        for name in self.sky:
            shutil.copyfile(self.folder / name, area / name)
        if grid is None:
            (area / "grid.fits").symlink_to(self.folder / "final_drz_sci.fits")
        else:
            grid.write_reference(area / "grid.fits")
        given = {"names": list(self.sky), "grid": "grid.fits", "sky": self.sky, "bits": BITS}
        assert self.finals is not None
        self.finals(area, given | {"weight": weight, "pixfrac": pixfrac, "kernel": "square"})
        return {kind: area / f"final_drz_{kind}.fits" for kind in ("sci", "wht", "ctx")}


def prepare(folder: Path, **settings: object) -> Case:
    """Simulate a visit, calibrate it, and combine it with AstroDrizzle."""
    folder.mkdir(parents=True, exist_ok=True)
    child(_PREPARE, folder, folder / "visit" / "crds" / "references" / "hst", settings)
    made = json.loads((folder / "made.json").read_text())
    return Case(folder, made["sky"], Path(made["flat"]))


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """Four dithered exposures of 1024 x 2048 pixels."""
    made = prepare(tmp_path_factory.mktemp("case"), size="1k", exposures=4, short_exptime=None)
    finals = Finals(made.jref)
    yield dataclasses.replace(made, finals=finals)
    finals.close()
