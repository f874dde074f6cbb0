"""What can be simulated, and how it is read out."""

from __future__ import annotations

import numpy as np
import pytest

from batch.errors import UsageError
from batch.simulation.frame import frame
from batch.simulation.randomness import stream
from batch.simulation.settings import VisitSettings


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"exposures": 0}, "exposures"),
        ({"exptime": -1.0}, "exptime"),
        ({"short_exptime": 0.0}, "short_exptime"),
        ({"date": "2006-02-30"}, "date"),
        ({"date": "1999-01-01"}, "date"),
        ({"date": "20060313"}, "date"),
        ({"program": "../"}, "program"),
        ({"flash": 500.0}, "flash"),
        ({"visit": 100}, "visit"),
    ],
)
def test_impossible_settings_are_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        VisitSettings(**change)  # type: ignore[arg-type]


def test_the_short_exposure_comes_first_and_can_be_left_out() -> None:
    assert VisitSettings(exposures=2).times == (30.0, 339.0, 339.0)
    assert VisitSettings(exposures=2, short_exptime=None).times == (339.0, 339.0)


def test_full_frame_has_the_sizes_of_real_raw_exposures() -> None:
    """Calibration specification, section 1."""
    readout = frame(VisitSettings(size="full"))
    assert readout.ccdamp == "ABCD"
    assert not readout.subarray
    assert [(c.number, c.extver) for c in readout.chips] == [(2, 1), (1, 2)]
    for chip in readout.chips:
        assert (chip.nx, chip.ny, chip.width, chip.height) == (4144, 2068, 4096, 2048)
    chip2, chip1 = readout.chips
    assert chip2.ltv(trimmed=False) == (24, 0)
    assert chip1.ltv(trimmed=False) == (24, 20)
    assert chip1.ltv(trimmed=True) == (0, 0)
    assert chip2.light == (slice(0, 2048), slice(24, 4120))
    assert chip1.light == (slice(20, 2068), slice(24, 4120))


@pytest.mark.parametrize(
    ("size", "amp", "raw", "ltv"),
    [
        ("1k", "A", (1024, 2072), (24, -1024)),
        ("1k", "B", (1024, 2072), (-2048, -1024)),
        ("1k", "C", (1024, 2072), (24, 0)),
        ("512", "D", (512, 2072), (-2048, 0)),
        ("2k", "A", (2068, 2072), (24, 20)),
        ("2k", "D", (2068, 2072), (-2048, 0)),
    ],
)
def test_subarrays_begin_at_their_amplifier(
    size: str, amp: str, raw: tuple[int, int], ltv: tuple[int, int]
) -> None:
    readout = frame(VisitSettings(size=size, amp=amp))  # type: ignore[arg-type]
    (chip,) = readout.chips
    assert readout.subarray
    assert readout.ccdamp == amp
    assert (chip.ny, chip.nx) == raw
    assert chip.ltv(trimmed=False) == ltv
    assert chip.width == 2048


def test_streams_are_reproducible_and_independent() -> None:
    first = stream(1, "photons", 0).standard_normal(1000)
    assert np.array_equal(first, stream(1, "photons", 0).standard_normal(1000))
    for other in (stream(2, "photons", 0), stream(1, "photons", 1), stream(1, "readout", 0)):
        assert abs(np.corrcoef(first, other.standard_normal(1000))[0, 1]) < 0.12
