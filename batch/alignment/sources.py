"""Stars in one chip, as many as an alignment can use, and few cosmic rays."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FWHM = {"WFC": 2.0, "HRC": 2.6}
"""Width of stars in pixels of each detector (ACS Instrument Handbook 5.6: 0.1 and 0.07 arcsec)."""
FIRST, LAST = 20.0, 4.0
"""Detection thresholds in units of the noise: the first one tried, and the one below which noise counts."""
SHARPNESS = (0.3, 0.9)
ROUNDNESS = 0.5
"""DAOFIND's measures: a cosmic ray is sharper than the optics allow (above 0.9), or drawn out."""
SATURATED = 256 | 2048


@dataclass(frozen=True)
class Sources:
    """What was found in one chip, highest peak first."""

    x: NDArray[np.float64]
    """Pixels, zero-based."""
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    """In the units of the chip."""
    peak: NDArray[np.float64]
    """Of the brightest pixel, above the sky."""
    threshold: float
    """The peak that a source had to reach, in the units of the chip."""

    def brightest(self, count: int) -> Sources:
        """The `count` brightest, as a higher threshold would have found them."""
        if len(self) <= count:
            return self
        x, y, flux, peak = self.x[:count], self.y[:count], self.flux[:count], self.peak[:count]
        return Sources(x, y, flux, peak, max(self.threshold, float(peak[-1])))

    def __len__(self) -> int:
        return int(self.x.size)


def find_sources(
    sci: NDArray[np.float32], dq: NDArray[np.int16], detector: str, at_least: int, at_most: int
) -> Sources:
    """Find stars with DAOFIND, with a threshold that adapts to the field.

    The threshold starts at 20 times the noise and is halved until there are `at_least` sources or
    noise would be counted; of more than `at_most`, the brightest are kept, which amounts to a higher
    threshold.

    Parameters
    ----------
    sci : ndarray of float32, shape (rows, columns)
        A calibrated chip, electrons or counts.
    dq : ndarray of int16, shape (rows, columns)
        Its flags. A source with a flagged pixel in its 3 x 3 core, or with saturation within 3 pixels,
        has no trustworthy position and is left out.
    detector : str
        ``WFC`` or ``HRC``.
    at_least, at_most : int
        How many sources are wanted.

    Returns
    -------
    Sources
        Possibly fewer than `at_least`, even none.
    """
    from photutils.detection import DAOStarFinder
    from photutils.utils.exceptions import NoDetectionsWarning
    from scipy.ndimage import binary_dilation

    good = (dq == 0) & np.isfinite(sci)
    if not good.any():
        return _none(0.0)
    level = float(np.median(sci[good]))
    noise = 1.4826 * float(np.median(np.abs(sci[good] - level))) or 1.0
    flat = np.where(np.isfinite(sci), sci - np.float32(level), np.float32(0))
    bad = binary_dilation((dq & SATURATED) != 0, iterations=2) | ~good
    bad = binary_dilation(bad, np.ones((3, 3), bool))
    factor, found = FIRST, _none(FIRST * noise)
    while len(found) < at_least and factor >= LAST:
        finder = DAOStarFinder(threshold=factor * noise, fwhm=FWHM.get(detector, 2.0))
        with warnings.catch_warnings():
            # that nothing was found is an answer, and taken care of
            warnings.simplefilter("ignore", NoDetectionsWarning)
            table = finder(flat)
        found = _none(factor * noise) if table is None else _select(table, bad, factor * noise)
        factor /= 2
    return found.brightest(at_most)


def _select(table: object, bad: NDArray[np.bool_], threshold: float) -> Sources:
    """The rows that look like stars and touch no bad pixel, highest peak first."""
    columns = {name.replace("_", ""): name for name in table.colnames}  # type: ignore[attr-defined]

    def column(name: str) -> NDArray[np.float64]:
        # photutils 3 writes x_centroid for what used to be xcentroid
        return np.asarray(table[columns[name]], dtype=np.float64)  # type: ignore[index]

    x, y, flux, peak = (column(name) for name in ("xcentroid", "ycentroid", "flux", "peak"))
    rows = np.clip(np.rint(y).astype(int), 0, bad.shape[0] - 1)
    cols = np.clip(np.rint(x).astype(int), 0, bad.shape[1] - 1)
    sharpness = column("sharpness")
    keep = (
        (flux > 0)
        & ~bad[rows, cols]
        & (sharpness > SHARPNESS[0])
        & (sharpness < SHARPNESS[1])
        & (np.abs(column("roundness2")) < ROUNDNESS)
    )
    order = np.flatnonzero(keep)[np.argsort(-peak[keep], kind="stable")]
    return Sources(x[order], y[order], flux[order], peak[order], threshold)


def _none(threshold: float) -> Sources:
    empty = np.empty(0)
    return Sources(empty, empty, empty, empty, threshold)
