"""What is bound to fail is refused before any task starts, in one message that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from astropy.io import fits

import batch
from batch.errors import BatchError, InputError, InsufficientMemoryError, UsageError
from batch.runtime.planning import make_plan

if TYPE_CHECKING:
    from conftest import Run


def sound(source: Path) -> None:
    """Leave the exposures as they are."""


def elsewhere(source: Path) -> None:
    """Let the second exposure point a degree to the east."""
    path = sorted(source.glob("*_raw.fits"))[1]
    with fits.open(path, mode="update") as hdus:
        for hdu in hdus:
            if "CRVAL1" in hdu.header:
                hdu.header["CRVAL1"] += 1.0


def beside(source: Path) -> None:
    """Let it point half a minute of arc beside the first, so that they share no pixel."""
    path = sorted(source.glob("*_raw.fits"))[1]
    with fits.open(path, mode="update") as hdus:
        for hdu in hdus:
            if "CRVAL2" in hdu.header:
                hdu.header["CRVAL2"] += 0.05


def turned(source: Path) -> None:
    """Turn the rows of all exposures to the south-west, so that two corners of the mosaic are empty."""
    side = 0.05 / 3600 * 0.5**0.5
    for path in source.glob("*_raw.fits"):
        with fits.open(path, mode="update") as hdus:
            for hdu in hdus:
                if "CD1_1" in hdu.header:
                    hdu.header.update(CD1_1=-side, CD1_2=-side, CD2_1=-side, CD2_2=side)


FIRST, SECOND = "jsim01aaq", "jsim01abq"
BOX = "{x0=%d, x1=%d, y0=100, y1=200}"


@pytest.mark.parametrize(
    ("damage", "changes", "error", "message"),
    [
        (elsewhere, [], InputError, rf"jsim01010: {SECOND}: does not overlap with the other exposures"),
        (beside, [], InputError, rf"jsim01010: {SECOND}: does not overlap with the other exposures"),
        (
            elsewhere,
            ["align.catalog={catalog}"],
            InputError,
            r"leave them out \(--exclude, associate\.exclude\)",
        ),
        (
            sound,
            ["combine.scale=0.0005", "sweep.engine=astrodrizzle", "cluster.memory=4000000000"],
            InsufficientMemoryError,
            r"combine/jsim01010 needs \d+\.\d+ GB, the largest worker offers 4\.00 GB.* coarser",
        ),
        (
            sound,
            ["sweep.scale=[0.03, 0.0005]", "sweep.engine=astrodrizzle", "cluster.memory=4000000000"],
            InsufficientMemoryError,
            r"pf0\.1_s0\.0005 needs \d+\.\d+ GB, the largest worker offers 4\.00 GB.* sweep\.scale",
        ),
        (
            sound,
            [f"statistics.boxes=[{BOX % (90000, 90100)}]"],
            InputError,
            r"boxes x 90000:90100, y 100:200: reaches beyond the mosaic of jsim01010, about \d+ x \d+ pix",
        ),
        (
            turned,
            [f"statistics.boxes=[{BOX % (100, 200)}]"],
            InputError,
            r"boxes x 100:200, y 100:200: lies where no exposure of jsim01010 points.* middle",
        ),
        (
            sound,
            [f"statistics.boxes=[{BOX % (200, 201)}]"],
            UsageError,
            r"statistics\.boxes.*a box needs two pixels",
        ),
        (
            sound,
            ["sweep.scale=[0.03, 0.004]"],
            UsageError,
            r"sweep\.scale 0\.004: an input pixel of jsim01aaq covers 1\d\.\d output pixels.*choose 0\.00",
        ),
        (sound, ["sweep.pixfrac=[0.5, 0.0]"], UsageError, r"sweep\.pixfrac\.1: .*greater than 0"),
        (sound, ["sweep.pixfrac=[0.5, 1.5]"], UsageError, r"sweep\.pixfrac\.1: .*less than or equal to 1"),
        (sound, ["sweep.pixfrac=[-0.5]"], UsageError, r"sweep\.pixfrac\.0: .*greater than 0"),
        (sound, ["sweep.pixfrac=[nan]"], UsageError, r"sweep\.pixfrac\.0"),
        (sound, ["sweep.scale=[0.0]"], UsageError, r"sweep\.scale\.0: .*greater than 0"),
    ],
)
def test_refused(
    tiny: Run,
    tmp_path: Path,
    damage: Callable[[Path], None],
    changes: list[str],
    error: type[BatchError],
    message: str,
) -> None:
    damage(tiny.source)
    catalog = tmp_path / "catalog.ecsv"
    catalog.write_text("# %ECSV 1.0\n# ---\n# datatype:\n# - {name: RA, datatype: float64}\nRA\n1.0\n")
    given = [c.replace("{catalog}", str(catalog)) for c in changes]
    cache = tiny.arguments[tiny.arguments.index("--crds-cache") + 1]
    with pytest.raises(error, match=message) as raised:
        batch.reduce(
            batch.load(None, [f"fetch.source={tiny.source}", f"references.cache={cache}", *given]), tiny.work
        )
    assert "\n" not in raised.value.message
    assert not list(tiny.work.glob("products/*"))


def test_an_exposure_that_is_left_out_need_not_overlap(tiny: Run) -> None:
    elsewhere(tiny.source)
    cache = tiny.arguments[tiny.arguments.index("--crds-cache") + 1]
    changes = [f"fetch.source={tiny.source}", f"references.cache={cache}", f"associate.exclude=['{SECOND}']"]
    plan = make_plan(batch.load(None, changes))
    assert [e.rootname for e in plan.associations[0].exposures] == [FIRST]
