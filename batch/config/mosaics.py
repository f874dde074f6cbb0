"""Settings of everything from the WCS to the chosen mosaic and its page."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from batch.config.base import Absolute, Section
from batch.model.drizzle import Drizzle, combinations

Pixfrac = Annotated[float, Field(gt=0, le=1)]
Kernel = Literal["square", "point", "turbo", "gaussian"]
_several = BeforeValidator(lambda given: (given,) if isinstance(given, (int, float, str)) else given)


class WcsSettings(Section):
    """Distortion model and WCS."""

    use_db: bool = False
    """Ask the astrometry database of MAST for better solutions (needs network)."""


class AlignSettings(Section):
    """Alignment, with a quality gate."""

    catalog: Absolute | None = None
    """Table with columns RA and DEC (deg): align to it absolutely; otherwise relative to one exposure."""
    search_radius: float = Field(2.0, gt=0)
    """How far off pointings may be, arcsec."""
    min_sources: int = Field(50, ge=3)
    max_sources: int = Field(2000, ge=10, le=5000)
    """The detection threshold adapts until the number of sources lies between these; TweakReg compares all
    pairs, and its memory grows with the square of the upper one."""
    geometry: Literal["shift", "rscale", "general"] = "rscale"
    """What is fitted: a shift, also rotation and scale, or a general linear map."""
    min_matches: int = Field(15, ge=3)
    max_rms: float = Field(0.3, gt=0)
    """Gate: largest rms of the fit in input pixels per axis."""


class CombineSettings(Section):
    """Sky, cosmic-ray masks, first mosaic, the output grid."""

    bits: tuple[int, ...] = (16, 64, 256)
    """DQ bits that count as good."""
    weight: Literal["EXP", "ERR", "IVM"] = "EXP"
    rotation: float = 0.0
    """Position angle of the output's y axis, deg."""
    scale: float | None = Field(None, gt=0)
    """Output pixel, arcsec; None is 0.03 for WFC and 0.025 for HRC."""
    pixfrac: Pixfrac = 1.0
    """Of this first mosaic; the sweep has its own."""
    cosmic_rays: bool = True
    """Reject cosmic rays by comparing exposures (needs two or more)."""


class SweepSettings(Section):
    """The final drizzles: every combination of pixfrac, scale and kernel."""

    pixfrac: Annotated[tuple[Pixfrac, ...], _several] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    scale: Annotated[tuple[Annotated[float, Field(gt=0)], ...], _several] = ()
    """Output pixels, arcsec; none: that of combine."""
    kernel: Annotated[tuple[Kernel, ...], _several] = ("square",)
    """One or more, the one to be preferred first."""
    engine: Literal["auto", "multi", "astrodrizzle"] = "auto"
    """``multi`` drizzles all pixfracs in one pass (square kernel); ``astrodrizzle`` makes one call for
    each; ``auto`` takes multi where it can."""

    @property
    def drizzles(self) -> tuple[Drizzle, ...]:
        """Every combination, in the order of preference."""
        return combinations(self.pixfrac, self.scale, self.kernel)

    def engine_of(self, kernel: str) -> Literal["multi", "astrodrizzle"]:
        """The engine that is meant for a kernel."""
        if self.engine == "auto":
            return "multi" if kernel == "square" else "astrodrizzle"
        return self.engine

    @model_validator(mode="after")
    def _kernel_of_engine(self) -> SweepSettings:
        others = [k for k in self.kernel if k != "square"]
        if self.engine == "multi" and others:
            raise ValueError(
                f"engine multi has no kernel {', '.join(others)}; use engine astrodrizzle, or auto"
            )
        return self

    @field_validator("kernel")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("at least one kernel is needed")
        return tuple(dict.fromkeys(value))

    @field_validator("scale")
    @classmethod
    def _finest_first(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        rounded = tuple(sorted({round(v, 4) for v in value}))
        if rounded and rounded[0] <= 0:
            raise ValueError("scales are 0.0001 arcsec or more")
        return rounded

    @field_validator("pixfrac")
    @classmethod
    def _distinct(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        rounded = tuple(sorted({round(v, 4) for v in value}))
        if not rounded or rounded[0] <= 0:
            raise ValueError("at least one pixfrac of 0.0001 or more is needed")
        return rounded


class Box(Section):
    """A rectangle of the mosaic; zero-based, the upper limits are outside."""

    x0: int = Field(ge=0)
    x1: int
    y0: int = Field(ge=0)
    y1: int

    @model_validator(mode="after")
    def _not_empty(self) -> Box:
        if self.x1 - self.x0 < 2 or self.y1 - self.y0 < 2:
            raise ValueError("a box needs two pixels or more each way: x1 >= x0 + 2, y1 >= y0 + 2")
        return self


class StatisticsSettings(Section):
    """Numbers from the weight maps."""

    boxes: tuple[Box, ...] = ()
    """Where RMS/median is measured, pixels of the finest scale; none: chosen inside the common coverage."""
    box_size: int = Field(400, ge=16)
    """Side of the automatic boxes, output pixels of the finest scale; halved until one fits."""
    box_count: int = Field(5, ge=1, le=100)
    """How many automatic boxes there are at most. The median of their RMS/median is what `select` judges."""
    tile: int = Field(256, ge=32)
    """Side of the tiles in which RMS/median is mapped all over the mosaic, output pixels; rounded up to a
    multiple of 8."""
    chunk: int = Field(1024, ge=64)
    """Side of the chunks that are in memory at a time, output pixels; rounded up to whole tiles."""


class SelectSettings(Section):
    """Which drizzle is chosen of those that stand the three tests of the DrizzlePac documentation.

    That is the one with the first kernel of the settings, at the finest scale, with the smallest pixfrac; a
    kernel or scale none of whose pixfracs passes is passed over.

    No holes, an even weight map, round stars. The ACS drizzling tutorial asks for a RMS/median below "2",
    which reads like a slip: every pixfrac of its own table, with 0.65 at the worst, would pass. The published
    advice (DrizzlePac handbook) is 0.2 to 0.3.
    """

    rms_over_median: float = Field(0.2, gt=0)
    """Largest RMS/median of the weight map. 0.2 is the strict end of the advice: noise then varies by a tenth
    from pixel to pixel."""
    empty_fraction: float = Field(0.0, ge=0, lt=1)
    """Largest fraction of pixels without weight inside the footprint (what counts: `drizzling.weights`). None
    at all by default, because a hole in a star spoils its photometry."""
    max_ellipticity: float = Field(0.15, gt=0, le=1)
    """Largest ellipticity, 1 - minor axis / major axis, of the typical star. Stars that are round in WFC's
    pixels, which are rhombs on the sky, have up to 0.09; two halves of a visit one pixel apart give 0.15."""
    max_fwhm_growth: float = Field(0.1, gt=0)
    """How much wider the typical star may be than at the pixfrac where it is narrowest, a fraction. Drops as
    large as pixels widen WFC's stars by 0.09; more comes from something else."""
    stars: int = Field(50, ge=5, le=1000)
    """How many stars are measured at most, the brightest that are unsaturated and alone."""
    min_stars: int = Field(5, ge=1)
    """With fewer in the field, stars are not judged."""


class ReportSettings(Section):
    """The page per association."""

    preview: int = Field(900, ge=100, le=4000)
    """Longest side of the preview image, pixels."""
    zoom: int = Field(96, ge=16, le=512)
    """Side of the detail that is shown at several pixfracs, output pixels."""
    published_curve: Literal["auto", "always", "never"] = "auto"
    """Lay the published curve of J9L960010 under the visit's own. ``auto``: where the two can be compared,
    that is for four WFC exposures, the square kernel and a scale of 0.03 arcsec, as in the demo."""
