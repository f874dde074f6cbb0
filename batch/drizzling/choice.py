"""The tests that a drizzle of a sweep has to stand, and the choice among those that do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from batch.config.mosaics import SelectSettings
from batch.model.drizzle import pixfrac_name


@dataclass(frozen=True)
class Verdict:
    """How one drizzle stood the tests."""

    name: str
    """``pf0.3``, ``pf0.3_s0.04_gaussian``"""
    pixfrac: float
    scale: float
    """Side of an output pixel, arcsec."""
    kernel: str
    rms_over_median: float | None
    """None where the median weight is zero."""
    empty_fraction: float
    fwhm: float | None = None
    """Of the typical star, arcsec; None where the field has too few stars to tell, like the next three."""
    fwhm_growth: float | None = None
    """Over the narrowest of the sweep, a fraction."""
    ellipticity: float | None = None
    stars: int = 0
    """How many were measured."""
    noise_factor: float | None = None
    """Noise of large areas over noise of pixels, by theory."""
    reasons: tuple[str, ...] = ()
    """Why it is rejected; none: it passes."""

    @property
    def passes(self) -> bool:
        """True if it stood every test."""
        return not self.reasons


@dataclass(frozen=True)
class Choice:
    """The drizzle that is taken."""

    name: str
    passed: bool
    """False where none stood the tests and this one is a compromise."""
    stars_judged: bool
    """False where there were too few stars for the third test."""
    verdicts: tuple[Verdict, ...]
    """Of every drizzle, in the order of preference."""

    @property
    def chosen(self) -> Verdict:
        """The verdict on the drizzle that is taken."""
        return next(v for v in self.verdicts if v.name == self.name)

    @property
    def pixfrac(self) -> float:
        """Of the drizzle that is taken."""
        return self.chosen.pixfrac

    @property
    def label(self) -> str:
        """The drizzle that is taken, with what varies in the sweep: ``pixfrac 0.8 at 0.03 arcsec``."""
        chosen, words = self.chosen, [f"pixfrac {pixfrac_name(self.pixfrac)[2:]}"]
        if self._several("scale"):
            words.append(f"at {chosen.scale:g} arcsec")
        if self._several("kernel"):
            words.append(f"with the {chosen.kernel} kernel")
        return " ".join(words)

    @property
    def rule(self) -> str:
        """The order of preference; empty where only pixfracs compete."""
        parts = ["kernels in the order of the settings"] * self._several("kernel")
        parts += ["the finest scale first"] * self._several("scale")
        return ", ".join([*parts, "then the smallest pixfrac"]) if parts else ""

    @property
    def why(self) -> str:
        """The choice in one sentence."""
        if self.passed and not self.rule:
            return f"{self.label} is the smallest that leaves {self.virtues}"
        if self.passed:
            return f"{self.label} leaves {self.virtues}, and is preferred ({self.rule})"
        if not self.rule:
            return f"no pixfrac passes; {self.label}, the largest, is the best compromise"
        return f"nothing passes; {self.label} is the best compromise: the coarsest pixels, the largest drops"

    @property
    def virtues(self) -> str:
        """What was asked for."""
        if self.stars_judged:
            return "no holes, an even weight map and round stars"
        return "no holes and an even weight map"

    def _several(self, what: str) -> bool:
        return len({getattr(v, what) for v in self.verdicts}) > 1


def judge(row: Mapping[str, Any], settings: SelectSettings, star: Mapping[str, Any] | None = None) -> Verdict:
    """Hold the numbers of one drizzle against the limits.

    Parameters
    ----------
    row : mapping
        ``name``, ``pixfrac``, ``scale`` (arcsec), ``kernel``, ``rms_over_median`` (None where not finite),
        ``empty_fraction``, ``empty_pixels``.
    settings : SelectSettings
    star : mapping, optional
        The typical star, ``stars``, ``fwhm``, ``fwhm_growth``, ``ellipticity``, ``noise_factor``; without it
        stars are not judged.
    """
    reasons = []
    ratio, empty = _finite(row["rms_over_median"]), row["empty_fraction"]
    if empty > settings.empty_fraction:
        reasons.append(f"{row['empty_pixels']} empty pixels")
    if ratio is None:
        reasons.append("the median weight is zero")
    elif ratio > settings.rms_over_median:
        reasons.append(f"RMS/median {ratio:.3f} > {settings.rms_over_median:g}")
    verdict = Verdict(
        name=row["name"],
        pixfrac=row["pixfrac"],
        scale=row["scale"],
        kernel=row["kernel"],
        rms_over_median=ratio,
        empty_fraction=empty,
        reasons=tuple(reasons),
    )
    if star is None:
        return verdict
    if star["stars"] < settings.min_stars:
        reasons.append(f"gaps leave {star['stars']} stars that can be measured")
    else:
        if star["ellipticity"] > settings.max_ellipticity:
            reasons.append(f"ellipticity {star['ellipticity']:.3f} > {settings.max_ellipticity:g}")
        if star["fwhm_growth"] > settings.max_fwhm_growth:
            reasons.append(f"FWHM grown by {star['fwhm_growth']:.3f} > {settings.max_fwhm_growth:g}")
    return replace(
        verdict,
        fwhm=_finite(star["fwhm"]),
        fwhm_growth=_finite(star["fwhm_growth"]),
        ellipticity=_finite(star["ellipticity"]),
        stars=star["stars"],
        noise_factor=_finite(star["noise_factor"]),
        reasons=tuple(reasons),
    )


def choose(
    rows: Sequence[Mapping[str, Any]], settings: SelectSettings, stars: Sequence[Mapping[str, Any]] = ()
) -> Choice:
    """Take the first that passes, in the order of preference.

    Of one scale and kernel that is the smallest pixfrac: small drops keep resolution and leave noise less
    correlated; the tests say how small the dithers allow. The finest scale goes before, because pixels can be
    binned later but not split; and kernels go in the order of the settings, because their pixfracs do not
    compare. Where none passes, the compromise is the largest pixfrac at the coarsest scale, of the first
    kernel: there the weight is the most even.

    Parameters
    ----------
    rows : sequence of mapping
        The weight of each drizzle, as for `judge`; kernels in the order in which they are preferred.
    settings : SelectSettings
    stars : sequence of mapping
        The typical star of each drizzle, with its ``name``; empty where there are too few stars to judge.
    """
    typical = {s["name"]: s for s in stars}
    kernels = list(dict.fromkeys(row["kernel"] for row in rows))
    ordered = sorted(rows, key=lambda r: (kernels.index(r["kernel"]), r["scale"], r["pixfrac"]))
    verdicts = tuple(judge(row, settings, typical.get(row["name"])) for row in ordered)
    passing = [v for v in verdicts if v.passes]
    taken = passing[0] if passing else [v for v in verdicts if v.kernel == kernels[0]][-1]
    return Choice(taken.name, bool(passing), bool(typical), verdicts)


def limits(settings: SelectSettings) -> dict[str, float]:
    """What the verdicts rest on."""
    names = ("rms_over_median", "empty_fraction", "max_ellipticity", "max_fwhm_growth")
    return {name: getattr(settings, name) for name in names}


def cards(choice: Choice, settings: SelectSettings) -> list[tuple[str, Any, str]]:
    """The choice as FITS keywords, undefined where there is no number: FITS knows neither inf nor nan."""
    chosen = choice.chosen
    return [
        ("PIXFRAC", chosen.pixfrac, "chosen pixfrac"),
        ("PFSCALE", chosen.scale, "[arcsec] chosen output pixel"),
        ("PFKERNEL", chosen.kernel, "chosen kernel"),
        ("PFPASSED", choice.passed, "T if the chosen drizzle stood every test"),
        ("PFNTRIED", len(choice.verdicts), "number of drizzles compared"),
        ("PFRMSMED", _finite(chosen.rms_over_median), "weight RMS/median at the chosen pixfrac"),
        ("PFRMSLIM", settings.rms_over_median, "largest RMS/median allowed"),
        ("PFEMPTY", _finite(chosen.empty_fraction), "fraction of the footprint without weight"),
        ("PFEMPLIM", settings.empty_fraction, "largest such fraction allowed"),
        ("PFNSTAR", chosen.stars, "stars measured; 0: too few to judge"),
        ("PFELLIP", _finite(chosen.ellipticity), "median ellipticity of stars"),
        ("PFELLLIM", settings.max_ellipticity, "largest ellipticity allowed"),
        ("PFFWHM", _finite(chosen.fwhm), "[arcsec] median FWHM of stars"),
        ("PFFWGROW", _finite(chosen.fwhm_growth), "FWHM over the narrowest tried, less 1"),
        ("PFFWLIM", settings.max_fwhm_growth, "largest such growth allowed"),
        ("PFNOISE", _finite(chosen.noise_factor), "noise of areas over noise of pixels, theory"),
    ]


def history(choice: Choice, settings: SelectSettings) -> list[str]:
    """The verdict on every drizzle as HISTORY lines."""
    lines = [
        f"acs-batch select: {choice.why}",
        f"limits: RMS/median {settings.rms_over_median:g}, empty fraction {settings.empty_fraction:g}",
        f"limits of stars: ellipticity {settings.max_ellipticity:g}, FWHM growth {settings.max_fwhm_growth:g}"
        if choice.stars_judged
        else "stars: too few to judge",
    ]
    for verdict in choice.verdicts:
        numbers = [
            f"{verdict.name} RMS/median {_text(verdict.rms_over_median)}",
            f"empty {verdict.empty_fraction:.6g}",
        ]
        if choice.stars_judged:
            numbers.append(f'FWHM {_text(verdict.fwhm)}" ellipticity {_text(verdict.ellipticity)}')
        words = "passes" if verdict.passes else "rejected: " + "; ".join(verdict.reasons)
        lines.append(" ".join([*numbers, words]))
    return lines


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
