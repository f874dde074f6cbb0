"""How large a mosaic will be, before anything is known about its exposures but their raw frames."""

from __future__ import annotations

from batch.model.observation import Association

_GROWTH = {"WFC": 5.0, "HRC": 2.0}
"""Output pixels for each raw pixel of one exposure, at the default scales (0.03 and 0.025 arcsec): smaller
pixels, the frame turned to north up, dithers. Four full WFC exposures, 2 x 2068 x 4144, gave 9250 x 9227."""


def expected_pixels(association: Association) -> int:
    """Pixels of an association's mosaic, as far as can be foreseen; 0 where no raw header could be read."""
    return max(
        (
            int(_GROWTH.get(e.detector, 5.0) * e.chips * e.shape[0] * e.shape[1])
            for e in association.exposures
            if len(e.shape) == 2
        ),
        default=0,
    )
