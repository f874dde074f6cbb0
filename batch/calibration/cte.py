"""Pixel-based CTE correction of ACS/WFC, and the readout model that it inverts.

Charge is trapped while it is moved to the readout amplifier and released behind the pixel it belongs to.
`forward` simulates that; `correct` finds the image that, read out, gives the one observed. Both treat the
array of one amp: first along the serial register (exposures after Servicing Mission 4), then along the
columns. `correct_image` and `forward_image` do it for a whole exposure, keywords and HISTORY included.

Charge is in electrons, dates are MJD, images are float32 of shape (ny, nx) with row 0 at the bottom of the
chip. Everything that can be wrong with an input is an `batch.errors.InputError`.

Source: the specification of the CTE correction, which describes acscte 10.5.0 (generation 3, "Par/Serial
PixelCTE 2023"); Anderson & Bedin 2010 (PASP 122, 1035), ACS ISR 2018-04 (parallel) and 2024-07 (serial).

Examples
--------
>>> table = read_table("combined_cte.fits")                                              # doctest: +SKIP
>>> sci, err = correct(sci, err, amp="C", table=table, expstart=58000.0, read_noise=4.0)  # doctest: +SKIP
>>> trailed = forward(scene, amp="C", table=table, expstart=58000.0)                      # doctest: +SKIP
"""

from batch.calibration.cte_amp import SM4, correct, forward
from batch.calibration.cte_image import correct_image, forward_image
from batch.calibration.cte_table import CteTable, TrapSet, read_table

__all__ = [
    "SM4",
    "CteTable",
    "TrapSet",
    "correct",
    "correct_image",
    "forward",
    "forward_image",
    "read_table",
]
