"""What a sweep varies: pixfrac, output scale and kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Drizzle:
    """One final drizzle of an association.

    Drizzles of one scale and kernel are a family: they lie on one grid, so that their pixfracs compare.
    """

    pixfrac: float
    """In (0, 1]."""
    scale: float | None = None
    """Side of an output pixel, arcsec; None is that of combine."""
    kernel: str = "square"
    family: str = ""
    """The plain name of the family, ``s0.04_gaussian``, with what varies in the sweep; else empty."""

    @property
    def name(self) -> str:
        """The plain name, unique in a sweep: ``pf0.3``, ``pf0.3_s0.04_gaussian``."""
        return "_".join(filter(None, (pixfrac_name(self.pixfrac), self.family)))


def pixfrac_name(pixfrac: float) -> str:
    """The plain name of a pixfrac: 0.3 -> ``pf0.3``, whatever arithmetic it came from."""
    return f"pf{round(pixfrac, 4):.4g}" if pixfrac != 1 else "pf1.0"


def combinations(
    pixfracs: Sequence[float], scales: Sequence[float] = (), kernels: Sequence[str] = ("square",)
) -> tuple[Drizzle, ...]:
    """Every combination, in the order in which they are preferred where they stand the tests.

    Kernels in the order given, because their pixfracs do not compare; the finest scale first; then the
    smallest pixfrac.

    Parameters
    ----------
    pixfracs : sequence of float
    scales : sequence of float
        Output scales, arcsec; empty takes that of combine.
    kernels : sequence of str
    """
    finest_first: list[float | None] = [*sorted(scales)] or [None]
    return tuple(
        Drizzle(pixfrac, scale, kernel, _family(scale, kernel, len(scales) > 1, len(kernels) > 1))
        for kernel in kernels
        for scale in finest_first
        for pixfrac in sorted(pixfracs)
    )


def _family(scale: float | None, kernel: str, with_scale: bool, with_kernel: bool) -> str:
    def parts() -> Iterator[str]:
        if with_scale:
            yield f"s{scale:g}"
        if with_kernel:
            yield kernel

    return "_".join(parts())
