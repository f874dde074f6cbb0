"""How much more noise a drizzled image has than its pixels show."""

from __future__ import annotations


def correlated_noise(pixfrac: float, sampling_ratio: float, kernel: str = "square") -> float | None:
    """The factor between the noise of large areas and the noise that single pixels suggest.

    A drop falls on several output pixels, so that neighbours share noise: the scatter of pixels is smaller
    than the noise of their sum tells. The factor is theory (Fruchter & Hook 2002, PASP 114, 144, section 7):
    it takes for granted that drops fall everywhere with the same weight. It is not measured on the sky, where
    faint stars would count as noise.

    Parameters
    ----------
    pixfrac : float
    sampling_ratio : float
        Output over input pixel, both as sides of squares on the sky.
    kernel : str
        Of the drizzle. A point falls on one pixel; of kernels other than square and turbo, the theory says
        nothing.

    Returns
    -------
    float or None
        1 or more; None for other kernels.
    """
    if kernel == "point":
        return 1.0
    if kernel not in ("square", "turbo"):
        return None
    r = pixfrac / sampling_ratio
    return r / (1 - 1 / (3 * r)) if r >= 1 else 1 / (1 - r / 3)
