"""select: the smallest pixfrac that leaves no holes and an even weight map, and its mosaic as one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from batch.config import SelectSettings, Settings
from batch.drizzling.size import output_pixels
from batch.errors import InputError
from batch.model.observation import Association, Exposure
from batch.model.plan import Needs, Stage, pixfrac_name, subject
from batch.stages.interface import Inputs, Outcome, image_product

_EXTENSIONS = {"SCI": "mosaic", "WHT": "weight", "CTX": "context"}
"""EXTNAME in the chosen mosaic, and the kind of the sweep's product that it comes from."""


def needs(association: Association, exposure: Exposure | None, settings: Settings) -> Needs:
    """One copy of three images of 4 bytes a pixel, 4 MB at a time, at some 200 MB/s."""
    seconds = 2 + 12 * output_pixels(association, settings.combine.scale) / 2e8
    return Needs(memory=120_000_000, seconds=seconds, timeout=300 + 20 * seconds)


STAGE = Stage("select", "association", after=("statistics", "sweep"), version=1, needs=needs)


@dataclass(frozen=True)
class Verdict:
    """How one pixfrac stood the tests."""

    pixfrac: float
    rms_over_median: float | None
    """None where the median weight is zero."""
    empty_fraction: float
    reasons: tuple[str, ...]
    """Why it is rejected; none: it passes."""

    @property
    def passes(self) -> bool:
        """True if it stood every test."""
        return not self.reasons


@dataclass(frozen=True)
class Choice:
    """The pixfrac that is taken."""

    pixfrac: float
    passed: bool
    """False where no pixfrac stood the tests and this one is a compromise."""
    verdicts: tuple[Verdict, ...]
    """Of every pixfrac, ascending."""

    @property
    def chosen(self) -> Verdict:
        """The verdict of the pixfrac that is taken."""
        return next(v for v in self.verdicts if v.pixfrac == self.pixfrac)

    @property
    def why(self) -> str:
        """The choice in one sentence."""
        name = f"pixfrac {pixfrac_name(self.pixfrac)[2:]}"
        if self.passed:
            return f"{name} is the smallest that leaves no holes and an even weight map"
        return f"no pixfrac passes; {name}, the largest, is the best compromise"


def judge(row: Mapping[str, Any], settings: SelectSettings) -> Verdict:
    """Hold the numbers of one pixfrac against the limits.

    Parameters
    ----------
    row : mapping
        ``pixfrac``, ``rms_over_median`` (None where not finite), ``empty_fraction``, ``empty_pixels``.
    """
    reasons = []
    ratio, empty = row["rms_over_median"], row["empty_fraction"]
    if empty > settings.empty_fraction:
        reasons.append(f"{row['empty_pixels']} empty pixels")
    if ratio is None:
        reasons.append("the median weight is zero")
    elif ratio > settings.rms_over_median:
        reasons.append(f"RMS/median {ratio:.3f} > {settings.rms_over_median:g}")
    return Verdict(row["pixfrac"], ratio, empty, tuple(reasons))


def choose(rows: Sequence[Mapping[str, Any]], settings: SelectSettings) -> Choice:
    """Take the smallest pixfrac that passes or, where none does, the largest.

    Small drops keep resolution and leave noise less correlated; the tests say how small the dithers allow.
    """
    verdicts = tuple(sorted((judge(row, settings) for row in rows), key=lambda v: v.pixfrac))
    passing = [v for v in verdicts if v.passes]
    taken = passing[0] if passing else verdicts[-1]
    return Choice(taken.pixfrac, bool(passing), verdicts)


def run(inputs: Inputs, area: Path, settings: SelectSettings) -> Outcome:
    """Choose, and write ``<association>_drz.fits``: primary header, SCI, WHT, CTX, HDRTAB.

    Raises
    ------
    InputError
        If the sweep's images of the chosen pixfrac are not there.
    """
    from batch.drizzling.bundle import bundle

    association = inputs.association.name
    choice = choose(inputs.record("statistics").results["pixfracs"], settings)
    wanted = subject(association, None, choice.pixfrac)
    found = {
        product.kind: inputs.path(record, product)
        for record in inputs.records("sweep")
        if record.subject == wanted
        for product in record.products
    }
    absent = [kind for kind in ("mosaic", "weight") if kind not in found]
    if absent:
        raise InputError.about(wanted, f"the sweep left no {' and no '.join(absent)}", "run the sweep again")
    name = f"{association}_drz.fits"
    bundle(
        {extension: found[kind] for extension, kind in _EXTENSIONS.items() if kind in found},
        area / name,
        cards(choice, settings),
        history(choice, settings),
    )
    notes = [] if choice.passed else [f"{choice.why}: {'; '.join(choice.chosen.reasons)}"]
    if len(inputs.association.exposures) == 1:
        notes.append("one exposure: without dithers a small pixfrac cannot gain resolution")
    results = {
        "pixfrac": choice.pixfrac,
        "passed": choice.passed,
        "why": choice.why,
        "limits": {
            "rms_over_median": settings.rms_over_median,
            "empty_fraction": settings.empty_fraction,
        },
        "verdicts": [{**asdict(v), "passes": v.passes} for v in choice.verdicts],
    }
    return Outcome((image_product(area, name, "chosen"),), results, tuple(notes))


def cards(choice: Choice, settings: SelectSettings) -> list[tuple[str, Any, str]]:
    """The choice as FITS keywords."""
    chosen = choice.chosen
    return [
        ("PIXFRAC", choice.pixfrac, "chosen pixfrac"),
        ("PFPASSED", choice.passed, "T if the chosen pixfrac stood every test"),
        ("PFNTRIED", len(choice.verdicts), "number of pixfracs compared"),
        ("PFRMSMED", chosen.rms_over_median, "weight RMS/median at the chosen pixfrac"),
        ("PFRMSLIM", settings.rms_over_median, "largest RMS/median allowed"),
        ("PFEMPTY", chosen.empty_fraction, "fraction of the footprint without weight"),
        ("PFEMPLIM", settings.empty_fraction, "largest such fraction allowed"),
    ]


def history(choice: Choice, settings: SelectSettings) -> list[str]:
    """The verdict on every pixfrac as HISTORY lines."""
    lines = [
        f"acs-batch select: {choice.why}",
        f"limits: RMS/median {settings.rms_over_median:g}, empty fraction {settings.empty_fraction:g}",
    ]
    for verdict in choice.verdicts:
        ratio = "-" if verdict.rms_over_median is None else f"{verdict.rms_over_median:.4f}"
        words = "passes" if verdict.passes else "rejected: " + "; ".join(verdict.reasons)
        lines.append(
            f"{pixfrac_name(verdict.pixfrac)} RMS/median {ratio} empty {verdict.empty_fraction:.6g} {words}"
        )
    return lines
