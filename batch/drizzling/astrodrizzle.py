"""AstroDrizzle, called for the whole chain on an association and for the final drizzle alone.

It works in the current folder, opens its inputs for update and leaves files beside them, so the process
must stand in a folder of its own that holds private copies.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batch.errors import LibraryError
from batch.isolation.library import library_call

COSMIC_RAY = 4096
"""DQ bit of pixels that AstroDrizzle found hit."""
STATIC = 16384
"""DQ bit (flagged by the user) of pixels in AstroDrizzle's static mask, far below the sky in any exposure."""
OUTPUT = "final"
EXTENSIONS = ("sci", "wht", "ctx")


def combine_type(count: int) -> dict[str, Any]:
    """How the comparison image is made of `count` exposures (DrizzlePac documentation, createMedian).

    ``minmed`` falls back to the minimum where the median may still hold a cosmic ray, and is good for two to
    six exposures; with more its minimum is biased low, and the median without the highest values is safe, of
    an odd number, since that of an even one is a mean of two.
    """
    if count <= 6:
        return {"combine_type": "minmed", "combine_nhigh": 0}
    return {"combine_type": "median", "combine_nhigh": 1 + count % 2}


def full(
    names: Sequence[str],
    *,
    bits: int,
    weight: str,
    pixfrac: float,
    rotation: float,
    scale: float,
    cosmic_rays: bool,
) -> dict[str, Path]:
    """Sky, cosmic-ray masks and a mosaic.

    The inputs get MDRIZSKY, and the cosmic-ray flag (4096) in their DQ arrays.

    Parameters
    ----------
    names : sequence of str
        flt files in the current folder, aligned.
    bits : int
        Sum of the DQ bits that count as good.
    weight : str
        ``EXP``, ``ERR`` or ``IVM``.
    pixfrac : float
    rotation : float
        Position angle of the output's y axis, deg.
    scale : float
        Output pixel, arcsec.
    cosmic_rays : bool
        Whether to compare exposures; needs two or more.

    Returns
    -------
    dict
        ``sci``, ``wht``, ``ctx`` -> path in the current folder.

    Raises
    ------
    LibraryError
        When AstroDrizzle fails, or writes no image.
    """
    snr = {"driz_cr_snr": "3.5 3.0", "driz_cr_scale": "1.2 0.7"}
    return _call(
        names,
        # flags that an earlier run left would be taken for cosmic rays that were looked for here
        resetbits=COSMIC_RAY if cosmic_rays else 0,
        static=True,
        skysub=True,
        driz_separate=cosmic_rays,
        driz_sep_bits=bits,
        median=cosmic_rays,
        blot=cosmic_rays,
        driz_cr=cosmic_rays,
        **snr,
        **combine_type(len(names)),
        final_bits=bits,
        final_wht_type=weight,
        final_kernel="square",
        final_pixfrac=pixfrac,
        final_wcs=True,
        final_rot=rotation,
        final_scale=scale,
    )


def final(
    names: Sequence[str],
    *,
    grid: Path,
    sky: Mapping[str, Sequence[float]],
    bits: int,
    weight: str,
    pixfrac: float,
    kernel: str,
) -> dict[str, Path]:
    """The final drizzle alone: given masks, given sky, given grid.

    Parameters
    ----------
    names : sequence of str
        flt files in the current folder with their final masks in the DQ arrays.
    grid : Path
        An image in the current folder whose primary HDU has the output's shape and WCS.
    sky : mapping
        What is subtracted from each chip of each file, in the units of the chip.
    bits, weight, pixfrac
        See `full`.
    kernel : str

    Returns
    -------
    dict
        ``sci``, ``wht``, ``ctx`` -> path in the current folder.

    Raises
    ------
    LibraryError
        When AstroDrizzle fails, or writes no image.
    """
    lines = ["#applied=False", *(" ".join([n, *(repr(float(v)) for v in sky[n])]) for n in names)]
    Path("sky.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return _call(
        names,
        # 4096, the default, would take the cosmic-ray masks away
        resetbits=0,
        static=False,
        # skysub=False would leave the sky in the mosaic
        skysub=True,
        skyfile="sky.txt",
        driz_separate=False,
        median=False,
        blot=False,
        driz_cr=False,
        final_bits=bits,
        final_wht_type=weight,
        final_kernel=kernel,
        final_pixfrac=pixfrac,
        final_wcs=True,
        final_refimage=f"{grid.name}[0]",
    )


def weight_of_inputs(path: Path, chip: int) -> Path:
    """Where AstroDrizzle left the weight of every pixel of one chip in the final drizzle, 0 where masked."""
    return path.with_name(f"{path.stem.rpartition('_')[0]}_sci{chip}_final_mask.fits")


def _call(names: Sequence[str], **parameters: Any) -> dict[str, Path]:
    os.environ["MPLBACKEND"] = "agg"
    with library_call(f"AstroDrizzle of {names[0]} and {len(names) - 1} more") as words:
        from drizzlepac.astrodrizzle import AstroDrizzle

        AstroDrizzle(
            list(names),
            output=OUTPUT,
            mdriztab=False,
            runfile="astrodrizzle.log",
            preserve=False,
            clean=False,
            build=False,
            context=True,
            num_cores=1,
            # the intermediate images of an association would not fit beside its mosaic
            in_memory=False,
            driz_combine=True,
            final_units="cps",
            **parameters,
        )
    kind = "drc" if names[0].endswith("_flc.fits") else "drz"
    made = {extension: Path(f"{OUTPUT}_{kind}_{extension}.fits") for extension in EXTENSIONS}
    for path in made.values():
        if not path.is_file():
            raise LibraryError(f"AstroDrizzle wrote no {path.name}; its last message: {words.text()}")
    return made
