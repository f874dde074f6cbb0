"""select: the smallest pixfrac without holes, with an even weight map and round stars, as one file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from batch.config import SelectSettings, Settings
from batch.drizzling.choice import cards, choose, history, limits
from batch.drizzling.size import output_pixels
from batch.errors import InputError
from batch.model.drizzle import Drizzle
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage, subject
from batch.stages.interface import Inputs, Outcome, image_product, product
from batch.stages.statistics import pixfrac_of

if TYPE_CHECKING:
    import xarray as xr

_EXTENSIONS = {"SCI": "mosaic", "WHT": "weight", "CTX": "context"}
"""EXTNAME in the chosen mosaic, and the kind of the sweep's product that it comes from."""


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """Stars in bands of one mosaic; then one copy of three images of 4 bytes a pixel, at some 200 MB/s.

    Measured: 0.25 GB and 4 s at 3,026 x 3,866, 0.33 GB at 9,264 x 9,240.
    """
    pixels = output_pixels(association, settings.combine.scale)
    seconds = 8 + 12 * pixels / 2e8
    return Needs(
        memory=round(250_000_000 + 12_000 * pixels**0.5), seconds=seconds, timeout=300 + 20 * seconds
    )


STAGE = Stage("select", "association", after=("statistics", "sweep"), version=2, needs=needs)


def run(inputs: Inputs, area: Path, settings: SelectSettings) -> Outcome:
    """Choose, and write ``<association>_drz.fits`` (``_drc``): primary header, SCI, WHT, CTX, HDRTAB.

    The stars that were measured, if there are any, are in ``<association>_stars.nc``.

    Raises
    ------
    InputError
        If the sweep's images of the chosen pixfrac are not there.
    """
    from batch.drizzling.bundle import bundle
    from batch.photometry.sweep import summarize

    association = inputs.association.name
    stars = _stars(inputs, settings)
    judged = stars.sizes["star"] >= settings.min_stars
    typical = summarize(stars) if judged else []
    choice = choose(inputs.record("statistics").results["pixfracs"], settings, typical)
    wanted = subject(association, None, Drizzle(choice.pixfrac))
    found = {
        product.kind: inputs.path(record, product)
        for record in inputs.records("sweep")
        if record.subject == wanted
        for product in record.products
    }
    absent = [kind for kind in ("mosaic", "weight") if kind not in found]
    if absent:
        raise InputError.about(wanted, f"the sweep left no {' and no '.join(absent)}", "run the sweep again")
    # drz, or drc of exposures corrected for imperfect CTE
    kind = found["mosaic"].name.split("_")[-2]
    name = f"{association}_{kind}.fits"
    bundle(
        {extension: found[kind] for extension, kind in _EXTENSIONS.items() if kind in found},
        area / name,
        cards(choice, settings),
        history(choice, settings),
    )
    notes = [] if choice.passed else [f"{choice.why}: {'; '.join(choice.chosen.reasons)}"]
    if len(inputs.association.exposures) == 1:
        notes.append("one exposure: without dithers a small pixfrac cannot gain resolution")
    if not judged:
        notes.append(
            f"stars were not judged: {stars.sizes['star']} are bright, unsaturated, alone and without gaps, "
            f"{settings.min_stars} are needed"
        )
    results = {
        "pixfrac": choice.pixfrac,
        "passed": choice.passed,
        "why": choice.why,
        "virtues": choice.virtues,
        "limits": limits(settings),
        "verdicts": [{**asdict(v), "passes": v.passes} for v in choice.verdicts],
        "stars": {
            "judged": judged,
            "found": stars.sizes["star"],
            "needed": settings.min_stars,
            "apertures": stars["aperture"].values.tolist(),
            "pixfracs": typical,
        },
    }
    products = [image_product(area, name, "chosen")]
    # classic netCDF has no dimension of length zero
    if stars.sizes["star"]:
        stars.to_netcdf(area / f"{association}_stars.nc", engine="scipy")
        products.append(product(area, f"{association}_stars.nc", "stars"))
    return Outcome(tuple(products), results, tuple(notes))


def _stars(inputs: Inputs, settings: SelectSettings) -> xr.Dataset:
    """Measure the same stars in the mosaics of the sweep."""
    from batch.drizzling.lazy import FitsImage
    from batch.photometry.sampling import Sampling
    from batch.photometry.sweep import measure_stars

    mosaics = {}
    for record in inputs.records("sweep"):
        images = {p.kind: FitsImage.of(inputs.path(record, p), p) for p in record.products}
        if "mosaic" in images and "weight" in images:
            mosaics[pixfrac_of(record)] = images["mosaic"], images["weight"]
    if not mosaics:
        where = inputs.association.name
        raise InputError.about(where, "the sweep left no mosaic and no weight", "run the sweep again")
    largest = mosaics[max(mosaics)][0]
    exposures = inputs.association.exposures
    sampling = Sampling.of(
        largest.path, largest.hdu, exposures[0].detector, max(e.exptime for e in exposures)
    )
    kernel = inputs.records("sweep")[0].results["drizzle"]["kernel"]
    return measure_stars(mosaics, sampling, settings.stars, kernel)
