"""calibrate: raw -> flt (and flc), through a calibration engine."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from batch.config import Settings
from batch.config.calibration import CalibrateSettings
from batch.errors import InputError
from batch.isolation.environment import reference_environment, reference_folder
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage
from batch.references.needed import STEPS
from batch.stages.interface import Inputs, Outcome, image_product


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """What the engine asks for."""
    from batch.calibration import get_engine

    assert exposure is not None
    return get_engine(settings.calibrate.engine).needs(exposure)


STAGE = Stage(
    "calibrate", "exposure", after=("fetch", "references"), version=2, needs=needs, set_aside_too=True
)


def run(inputs: Inputs, area: Path, settings: CalibrateSettings) -> Outcome:
    """Set the header as CRDS and the user want it, and call the engine on a private copy."""
    from batch.calibration import get_engine

    source = inputs.file("fetch", "raw")
    references = json.loads(inputs.file("references", "references").read_text(encoding="utf-8"))
    mine = references["exposures"][inputs.exposure.rootname]
    raw = area / source.name
    shutil.copyfile(source, raw)
    raw.chmod(0o644)
    jref = reference_folder({n: Path(f["path"]) for n, f in references["files"].items()}, area)
    os.environ.update(reference_environment(jref))
    _stand_in(mine["nominal"], raw, inputs.exposure, jref)
    set_header(raw, mine)
    engine = get_engine(settings.engine)
    paths = engine.calibrate(raw, jref, area, inputs.task.needs.threads, destripe=settings.destripe)
    if not paths:
        raise InputError.about(
            raw.name,
            "no calibration switch is PERFORM, so that no flt was made",
            "set the switches of the steps",
        )
    products = tuple(image_product(area, p.name, p.stem.rpartition("_")[2]) for p in paths)
    return Outcome(products, {"engine": engine.name, "engine_version": engine.version()})


def _stand_in(tables: list[str], raw: Path, exposure: Exposure, jref: Path) -> None:
    from batch.calibration import nominal

    for keyword in tables:
        nominal.write(keyword, raw, exposure, jref)


def set_header(raw: Path, references: dict[str, Any]) -> None:
    """Write the names of reference files, and the switches asked for or forced, into a raw primary header.

    Parameters
    ----------
    raw : Path
        A private copy of the raw file.
    references : dict
        The exposure's part of ``references.json``: ``keywords``, ``asked``, ``switches``, ``missing``,
        ``custom``, ``nominal``.
    """
    from astropy.io import fits

    from batch.calibration.nominal import NAMES

    with fits.open(raw, mode="update") as hdus:
        header = hdus[0].header
        for keyword, value in references["keywords"].items():
            header[keyword] = value
        for keyword, digest in references["custom"].items():
            header.add_history(f"acs-batch: {keyword} is the user's own, sha256")
            header.add_history(f"  {digest}")
        for switch, value in references["asked"].items():
            if header.get(switch) != value:
                header[switch] = value
                header.add_history(f"acs-batch: {switch} set to {value} as asked for")
        for switch, value in references["switches"].items():
            header[switch] = value
            absent = [f"{k} {references['missing'][k]}" for k in STEPS[switch] if k in references["missing"]]
            header.add_history(f"acs-batch: {switch} set to {value}, missing {', '.join(absent)}")
        for keyword in references["nominal"]:
            header[keyword] = f"jref${NAMES[keyword]}"
            header.add_history(
                f"acs-batch: {keyword} {references['missing'][keyword]} missing, nominal figures used"
            )
