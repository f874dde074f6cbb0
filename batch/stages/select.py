"""select: of the drizzles without holes, with even weight and round stars, the one preferred, as one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from batch.config import Settings
from batch.config.mosaics import SelectSettings
from batch.drizzling.choice import cards, choose, history, limits
from batch.drizzling.size import output_pixels
from batch.errors import InputError
from batch.model.drizzle import Drizzle
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage
from batch.stages.interface import Inputs, Outcome, image_product, product
from batch.stages.sweep import Family, families

if TYPE_CHECKING:
    import xarray as xr

    from batch.photometry.stars import Star

_EXTENSIONS = {"SCI": "mosaic", "WHT": "weight", "CTX": "context"}
"""EXTNAME in the chosen mosaic, and the kind of the sweep's product that it comes from."""


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """Stars in bands of one mosaic; then one copy of three images of 4 bytes a pixel, at some 200 MB/s.

    Measured: 0.25 GB and 4 s at 3,026 x 3,866, 0.33 GB at 9,264 x 9,240.
    """
    scales = settings.sweep.scale or (settings.combine.scale,)
    pixels = max(output_pixels(association, scale) for scale in scales)
    seconds = 8 + 12 * pixels / 2e8
    return Needs(
        memory=round(250_000_000 + 12_000 * pixels**0.5), seconds=seconds, timeout=300 + 20 * seconds
    )


STAGE = Stage("select", "association", after=("statistics", "sweep"), version=3, needs=needs)


def run(inputs: Inputs, area: Path, settings: SelectSettings) -> Outcome:
    """Choose, and write ``<association>_drz.fits`` (``_drc``): primary header, SCI, WHT, CTX, HDRTAB.

    The stars that were measured, if there are any, are in ``<association>_stars.nc``; in one file for each
    scale and kernel where there are several.

    Raises
    ------
    InputError
        If the sweep's images of the chosen drizzle are not there.
    """
    from batch.drizzling.bundle import bundle
    from batch.photometry.sweep import narrowest, summarize

    association = inputs.association.name
    swept = families(inputs)
    stars = _stars(inputs, swept, settings)
    judged = next(iter(stars.values())).sizes["star"] >= settings.min_stars
    widths = [w for w in map(narrowest, stars.values()) if w is not None]
    typical = [
        {"name": _name(family, row["pixfrac"]), **family.identity, **row}
        for family in swept
        if judged and family.name in stars
        for row in summarize(stars[family.name], min(widths, default=None))
    ]
    rows = [
        {"name": _name(family, row["pixfrac"]), **family.identity, **row}
        for family in swept
        for measured in inputs.record("statistics").results["families"]
        if measured["family"] == family.name
        for row in measured["pixfracs"]
    ]
    choice = choose(rows, settings, typical)
    chosen = next(f for f in swept if (f.scale, f.kernel) == (choice.chosen.scale, choice.chosen.kernel))
    found = {kind: Path(image.path) for kind, image in chosen.images[choice.pixfrac].items()}
    absent = [kind for kind in ("mosaic", "weight") if kind not in found]
    if absent:
        where = f"{association}/{choice.name}"
        raise InputError.about(where, f"the sweep left no {' and no '.join(absent)}", "run the sweep again")
    # drz, or drc of exposures corrected for imperfect CTE
    kind = found["mosaic"].name.split("_")[-2]
    name = f"{association}_{kind}.fits"
    bundle(
        {extension: found[kind] for extension, kind in _EXTENSIONS.items() if kind in found},
        area / name,
        cards(choice, settings),
        history(choice, settings),
    )
    count = next(iter(stars.values())).sizes["star"]
    notes = [] if choice.passed else [f"{choice.why}: {'; '.join(choice.chosen.reasons)}"]
    if len(inputs.association.exposures) == 1:
        notes.append("one exposure: without dithers a small pixfrac cannot gain resolution")
    if not judged:
        notes.append(
            f"stars were not judged: {count} are bright, unsaturated, alone and without gaps, "
            f"{settings.min_stars} are needed"
        )
    results = {
        **{key: getattr(choice.chosen, key) for key in ("name", "pixfrac", "scale", "kernel")},
        "family": chosen.name,
        "label": choice.label,
        "rule": choice.rule,
        "passed": choice.passed,
        "why": choice.why,
        "virtues": choice.virtues,
        "limits": limits(settings),
        "verdicts": [{**asdict(v), "passes": v.passes} for v in choice.verdicts],
        "stars": {
            "judged": judged,
            "found": count,
            "needed": settings.min_stars,
            "apertures": next(iter(stars.values()))["aperture"].values.tolist(),
            "drizzles": typical,
        },
    }
    products = [image_product(area, name, "chosen")]
    # classic netCDF has no dimension of length zero
    for family, dataset in stars.items() if count else ():
        file = f"{'_'.join(filter(None, (association, family)))}_stars.nc"
        dataset.to_netcdf(area / file, engine="scipy")
        products.append(product(area, file, "stars"))
    return Outcome(tuple(products), results, tuple(notes))


def _name(family: Family, pixfrac: float) -> str:
    return Drizzle(pixfrac, family=family.name).name


def _stars(inputs: Inputs, swept: Sequence[Family], settings: SelectSettings) -> dict[str, xr.Dataset]:
    """Find stars on the finest grid, and measure the same ones in all mosaics of the sweep, by family."""
    from batch.photometry.sampling import Sampling
    from batch.photometry.sweep import measure_stars, stars_of

    exposures = inputs.association.exposures
    longest = max(e.exptime for e in exposures)
    measured: dict[str, xr.Dataset] = {}
    first: tuple[float, list[Star]] | None = None
    for family in swept:
        weights = family.each("weight")
        mosaics = {p: (image, weights[p]) for p, image in family.each("mosaic").items() if p in weights}
        if not mosaics:
            continue
        largest = mosaics[max(mosaics)][0]
        sampling = Sampling.of(largest.path, largest.hdu, exposures[0].detector, longest)
        moved = first and [star.on_grid(first[0] / sampling.scale) for star in first[1]]
        measured[family.name] = measure_stars(mosaics, sampling, settings.stars, family.kernel, moved)
        first = first or (sampling.scale, stars_of(measured[family.name]))
    if not measured:
        where = inputs.association.name
        raise InputError.about(where, "the sweep left no mosaic and no weight", "run the sweep again")
    return measured
