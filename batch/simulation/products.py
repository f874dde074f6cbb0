"""The files beside the raw exposures: association, support file, and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from astropy.table import Table

from batch.simulation import headers
from batch.simulation.frame import Frame
from batch.simulation.scene import Stars
from batch.simulation.settings import VisitSettings

if TYPE_CHECKING:
    from batch.simulation.exposure import Seen

CATALOG_LIMIT = 20.5
"""The catalogue to align to ends at this magnitude, about where Gaia does in a crowded field."""


def write_association(path: Path, settings: VisitSettings, name: str, rootnames: Sequence[str]) -> None:
    """Write the association table: one row for each exposure, one for the product."""
    kind = "DTH" if settings.dithers else "CRJ"
    product = name if settings.dithers else f"{name[:-1]}1"
    rows = [(root.upper(), f"EXP-{kind}", True) for root in rootnames]
    rows.append((product.upper(), f"PROD-{kind}", False))
    table = fits.BinTableHDU(
        Table(rows=rows, names=("MEMNAME", "MEMTYPE", "MEMPRSNT"), dtype=["S14", "S14", "bool"])
    )
    table.name, table.ver = "ASN", 1
    header = fits.Header()
    header.update(
        NEXTEND=1,
        DATE=settings.date,
        FILENAME=path.name,
        FILETYPE="ASN_TABLE",
        TELESCOP="HST",
        INSTRUME="ACS",
        DETECTOR="WFC",
        ROOTNAME=name,
        ASN_ID=name.upper(),
        ASN_TAB=path.name,
        ASN_PROD=False,
    )
    fits.HDUList([fits.PrimaryHDU(header=header), table]).writeto(path, overwrite=True)


def write_support(path: Path, settings: VisitSettings, observation: headers.Observation) -> None:
    """Write the support file: who, what, when; its engineering snapshot is empty."""
    header = fits.Header()
    header.update(
        NEXTEND=1,
        DATE=settings.date,
        FILENAME=path.name,
        FILETYPE="SPT",
        TELESCOP="HST",
        INSTRUME="ACS",
        DETECTOR="WFC",
        ROOTNAME=observation.rootname,
        PROPOSID=10775,
        PROGRMID=observation.rootname[1:4].upper(),
        OBSET_ID=observation.rootname[4:6].upper(),
        OBSERVTN=observation.rootname[6:8].upper(),
        TARGNAME="NGC104",
        EXPSTART=observation.start,
        EXPTIME=observation.exptime,
    )
    snapshot = fits.ImageHDU(np.zeros(64, np.int16), name="UDL", ver=1)
    fits.HDUList([fits.PrimaryHDU(header=header), snapshot]).writeto(path, overwrite=True)


def write_cosmic_rays(path: Path, frame: Frame, hits: Sequence[Table]) -> None:
    """Write the pixels that cosmic rays struck: one table for each chip, EXTNAME CRS, EXTVER of the chip."""
    hdus: list[fits.PrimaryHDU | fits.BinTableHDU] = [fits.PrimaryHDU()]
    for chip, pixels in zip(frame.chips, hits, strict=True):
        hdu = fits.BinTableHDU(pixels, name="CRS", ver=chip.extver)
        hdu.header["CCDCHIP"] = chip.number
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(path, overwrite=True)


def write_truth(
    folder: Path,
    stars: Stars,
    rootnames: Sequence[str],
    seen: Sequence[Seen],
    plan: Sequence[headers.Observation],
) -> None:
    """Write stars.ecsv, catalog.ecsv and pointing.ecsv."""
    on_any = np.any([s.chip > 0 for s in seen], axis=0)
    table = Table({"RA": stars.ra[on_any], "DEC": stars.dec[on_any]}, units=["deg", "deg"])
    table["MAG"] = np.round(stars.magnitude[on_any], 4)
    table["FLUX"] = np.round(stars.flux[on_any], 5)
    table["FLUX"].unit = "electron / s"
    for rootname, where in zip(rootnames, seen, strict=True):
        table[f"{rootname}_chip"] = where.chip[on_any]
        table[f"{rootname}_x"] = np.round(where.x[on_any], 4)
        table[f"{rootname}_y"] = np.round(where.y[on_any], 4)
    table.meta["positions"] = "FITS pixels of calibrated chips, the first is 1; chip 0: not in that exposure"
    table.write(folder / "stars.ecsv", overwrite=True)
    bright = table[table["MAG"] <= CATALOG_LIMIT]["RA", "DEC", "MAG"]
    bright.meta.clear()
    bright.write(folder / "catalog.ecsv", overwrite=True)
    pointing = Table(
        rows=[(o.rootname, *o.offset, *o.error) for o in plan],
        names=("rootname", "east", "north", "east_error", "north_error"),
        units=[None, *["arcsec"] * 4],
    )
    pointing.meta["error"] = "header minus true pointing"
    pointing.write(folder / "pointing.ecsv", overwrite=True)
