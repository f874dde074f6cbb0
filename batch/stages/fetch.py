"""fetch: bring a raw exposure into the work directory and see that it is whole."""

from __future__ import annotations

import shutil
from pathlib import Path

from batch.config import FetchSettings, Settings
from batch.errors import InputError
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage
from batch.stages.interface import Inputs, Outcome, image_product, product


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """A copy and one reading of the file."""
    assert exposure is not None
    pixels = exposure.chips * exposure.shape[0] * exposure.shape[1]
    return Needs(memory=int(120e6 + 4 * pixels), seconds=1 + pixels * 2e-8, timeout=600)


STAGE = Stage("fetch", "exposure", after=(), version=1, needs=needs, set_aside_too=True)


def run(inputs: Inputs, area: Path, settings: FetchSettings) -> Outcome:
    """Copy ``<rootname>_raw.fits``, and ``_spt.fits`` if there is one, from the source folder."""
    from batch.storage.raw import check_whole

    if settings.source is None:
        raise InputError("fetch.source: no folder of raw exposures was given; use --from DIR")
    name = f"{inputs.exposure.rootname}_raw.fits"
    source = settings.source / name
    if not source.is_file():
        raise InputError.about(
            source, "there is no such file", "put it there, or leave the exposure out with --exclude"
        )
    check_whole(source)
    shutil.copyfile(source, area / name)
    products = [image_product(area, name, "raw")]
    support = settings.source / f"{inputs.exposure.rootname}_spt.fits"
    if support.is_file():
        shutil.copyfile(support, area / support.name)
        products.append(product(area, support.name, "spt"))
    return Outcome(tuple(products))
