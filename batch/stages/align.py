"""Alignment of an association's exposures by their stars, with a quality gate."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.config import Settings
from batch.config.mosaics import AlignSettings
from batch.drizzling.size import PIXEL, largest_chip
from batch.errors import InputError
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage
from batch.model.pointing import apart
from batch.stages.interface import Inputs, Outcome, image_product

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from batch.alignment.sources import Sources
    from batch.alignment.tweakreg import Fit

LEAST_OVERLAP = 0.02
"""Fraction of an exposure's area that has to lie on another one for stars to be shared."""
ENOUGH_OVERLAP = 0.3
"""With less than this on the reference exposure, stars of other exposures have to help."""
_UNKNOWN = 5.0
"""How far the linear WCS of a raw header is off the true position of a chip's corners, arcsec."""
CATALOG_ROWS = 5000
"""Rows of a catalogue that are used, the brightest where brightness is given."""


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """TweakReg's comparison of all pairs of stars, or the search for stars in the largest chip."""
    count = len(association.exposures)
    if count < 2 and settings.align.catalog is None:
        return Needs(memory=120_000_000, seconds=2, timeout=300)
    pixels = largest_chip(association)
    chips = sum(e.chips for e in association.exposures)
    return Needs(
        memory=400_000_000 + 20 * pixels,
        seconds=4 + 0.7 * count + 2.4e-7 * pixels * chips,
        timeout=1200 + 60 * count,
        imports=("drizzlepac",),
    )


def check(association: Association, settings: Settings) -> None:
    """Refuse exposures that do not overlap, by what their raw headers tell.

    Raises
    ------
    InputError
        With the names of those that have nothing to do with the others.
    """
    away = apart(association.exposures, (settings.align.search_radius + _UNKNOWN) / 3600, LEAST_OVERLAP)
    if away:
        raise InputError.about(
            f"{association.name}: {', '.join(away)}",
            f"{'does' if len(away) == 1 else 'do'} not overlap with the other exposures on the sky",
            "leave them out (--exclude, associate.exclude), or reduce them in an association of their own",
        )


STAGE = Stage("align", "association", ("wcs",), version=1, needs=needs, check=check)


def run(inputs: Inputs, area: Path, settings: AlignSettings) -> Outcome:
    """Find stars, choose the reference, let TweakReg correct the WCS of copies, and judge the fits.

    Raises
    ------
    InputError
        Where exposures do not overlap, have too few stars or cannot be matched well enough.
    LibraryError
        When TweakReg fails.
    """
    paths = [_copy(path, area) for path in inputs.files("wcs", "flt")]
    exposures = inputs.association.exposures
    products = tuple(image_product(area, p.name, "flt") for p in paths)
    if len(paths) < 2 and settings.catalog is None:
        return Outcome(products, skipped="one exposure has nothing to be aligned to")

    from batch.alignment.catalog import read_catalog
    from batch.alignment.overlap import order_by_overlap, overlap_matrix
    from batch.alignment.tweakreg import align

    detector = exposures[0].detector
    grids = [_wcs(path) for path in paths]
    margin = settings.search_radius / PIXEL[detector]
    matrix = overlap_matrix(grids, margin)
    # before any pixel is looked at: an exposure of another field may have no stars, but that is not what is
    # wrong with it
    _together(exposures, matrix)
    sources = [_sources(path, detector, settings) for path in paths]
    first, reason = _reference(exposures, [sum(map(len, chips)) for chips in sources])
    catalog: list[tuple[float, float]] = []
    if settings.catalog is not None:
        catalog = read_catalog(settings.catalog, grids, margin, CATALOG_ROWS)
        reason = f"{len(catalog)} stars of catalogue {settings.catalog.name}"
    order = list(range(len(exposures))) if catalog else order_by_overlap(matrix, first)
    for exposure, chips in zip(exposures, sources, strict=True):
        _enough(exposure.rootname, chips, settings)
    found = align(
        [paths[i] for i in order],
        [sources[i] for i in order],
        geometry=settings.geometry,
        search_radius=settings.search_radius,
        pixel=PIXEL[detector],
        min_matches=settings.min_matches,
        catalog=catalog,
        expand=bool((matrix[:, first] < ENOUGH_OVERLAP).any()) and not catalog,
    )
    fits = dict(zip(order, found, strict=True))
    reference = "catalogue" if catalog else exposures[first].rootname
    results = {
        "reference": reference,
        "reason": reason,
        "exposures": {
            e.rootname: _describe(fits[i], sources[i], is_reference=e.rootname == reference)
            for i, e in enumerate(exposures)
        },
    }
    _gate(results, settings)
    return Outcome(tuple(image_product(area, p.name, "flt") for p in paths), results)


def _copy(path: Path, area: Path) -> Path:
    return Path(shutil.copyfile(path, area / path.name))


def _sources(path: Path, detector: str, settings: AlignSettings) -> list[Sources]:
    """Stars of every chip; the limits are shared between the chips."""
    import numpy as np
    from astropy.io import fits

    from batch.alignment.sources import find_sources

    with fits.open(path, memmap=False) as hdus:
        versions = [hdu.ver for hdu in hdus if hdu.name == "SCI"]
        at_least, at_most = (-(-n // len(versions)) for n in (settings.min_sources, settings.max_sources))
        found = []
        for version in versions:
            sci = np.asarray(hdus["SCI", version].data, dtype=np.float32)
            dq = np.asarray(hdus["DQ", version].data, dtype=np.int16)
            found.append(find_sources(sci, dq, detector, at_least, at_most))
            del hdus["SCI", version].data, hdus["DQ", version].data
        return found


def _wcs(path: Path) -> list[Any]:
    """The WCS of every chip."""
    from astropy.io import fits
    from astropy.wcs import WCS

    with fits.open(path) as hdus:
        return [WCS(hdu.header, hdus) for hdu in hdus if hdu.name == "SCI"]


def _reference(exposures: Sequence[Exposure], counts: Sequence[int]) -> tuple[int, str]:
    """The exposure that the others are aligned to: of the longest ones, the one with the most stars."""
    longest = max(e.exptime for e in exposures)
    candidates = [i for i, e in enumerate(exposures) if e.exptime > 0.99 * longest]
    first = max(candidates, key=lambda i: (counts[i], -i))
    rank = (
        "longest exposure"
        if len(candidates) == 1
        else f"most stars of the {len(candidates)} longest exposures"
    )
    return first, f"{rank} ({longest:g} s, {counts[first]} stars)"


def _together(exposures: Sequence[Exposure], matrix: NDArray[np.float64]) -> None:
    """Refuse exposures that share no sky with the others, whatever they are aligned to.

    Raises
    ------
    InputError
        With their names.
    """
    from batch.alignment.overlap import out_of_reach

    # most of them are what the others are apart from
    away = min((out_of_reach(matrix, i, LEAST_OVERLAP) for i in range(len(exposures))), key=len)
    if away:
        roots = ", ".join(exposures[i].rootname for i in away)
        raise InputError.about(
            roots,
            f"{'does' if len(away) == 1 else 'do'} not overlap with the other exposures on the sky",
            "leave them out (--exclude, associate.exclude), or reduce them in an association of their own",
        )


def _describe(fit: Fit, sources: Sequence[Sources], is_reference: bool) -> dict[str, Any]:
    """What is recorded about an exposure; where there is no fit, its numbers are None."""
    numbers = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(fit).items()}
    return {
        **numbers,
        "is_reference": is_reference,
        "sources": sum(map(len, sources)),
        "threshold": [round(s.threshold, 3) for s in sources],
    }


def _enough(root: str, chips: Sequence[Sources], settings: AlignSettings) -> None:
    """Refuse an exposure that cannot be aligned whatever the others show."""
    found = sum(map(len, chips))
    if found < settings.min_matches:
        raise InputError.about(
            root,
            f"not aligned: {found} stars found, {settings.min_matches} matches are needed",
            "exclude the exposure (associate.exclude), or lower align.min_matches (3 suffice for "
            "align.geometry = 'shift')",
        )


def _gate(results: dict[str, Any], settings: AlignSettings) -> None:
    """Refuse an alignment that would blur the mosaic."""
    for root, fit in results["exposures"].items():
        if fit["is_reference"]:
            continue
        said = f"{fit['sources']} stars, {fit['matches']} matches with {results['reference']}"
        if fit["dx"] is None or fit["matches"] < settings.min_matches:
            raise InputError.about(
                root,
                f"not aligned: {said}, {settings.min_matches} are needed",
                "raise align.search_radius if the pointing may be further off, or lower align.min_matches",
            )
        worst = max(fit["rms_x"], fit["rms_y"])
        if not worst <= settings.max_rms:
            raise InputError.about(
                root,
                f"alignment too uncertain: rms {fit['rms_x']:.3f}, {fit['rms_y']:.3f} pixel in x, y "
                f"({said}), {settings.max_rms:g} is allowed",
                "exclude the exposure (associate.exclude) or raise align.max_rms",
            )
