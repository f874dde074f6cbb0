"""Which weight map belongs to which pixfrac."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from astropy.io import fits

from batch.drizzling.lazy import FitsImage
from batch.errors import InputError

KEYWORD = "D001PIXF"
"""Where AstroDrizzle notes the pixfrac of the first exposure; it is the same for all of them."""


def find_maps(
    maps: Mapping[float, str | Path | FitsImage] | Iterable[str | Path] | str | Path,
) -> dict[float, FitsImage]:
    """Find the weight maps in files; only headers are read.

    Parameters
    ----------
    maps : mapping of float to path or FitsImage, or paths
        With plain paths, pixfracs come from the headers.

    Raises
    ------
    InputError
        For a file that cannot be read or has no weight map, and for plain paths also where the header tells
        no pixfrac or two files have the same one.
    """
    if isinstance(maps, Mapping):
        return {p: m if isinstance(m, FitsImage) else FitsImage.find(m, "WHT") for p, m in maps.items()}
    found: dict[float, FitsImage] = {}
    for path in [maps] if isinstance(maps, (str, Path)) else maps:
        image = FitsImage.find(path, "WHT")
        pixfrac = _pixfrac(image)
        if pixfrac in found:
            raise InputError.about(
                path,
                f"has the pixfrac {pixfrac:g} of {found[pixfrac].path}",
                "give each pixfrac once; what differs in another way is measured apart",
            )
        found[pixfrac] = image
    return found


def _pixfrac(image: FitsImage) -> float:
    for hdu in (0, image.hdu):
        value = fits.getheader(image.path, hdu).get(KEYWORD)
        if isinstance(value, (int, float)):
            return float(value)
    raise InputError.about(
        image.path, f"the header has no {KEYWORD}, the pixfrac", "give a mapping, {pixfrac: file}"
    )
