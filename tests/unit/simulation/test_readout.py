"""From charge to DN: gain, noise, overscan, saturation, traps."""

from __future__ import annotations

import numpy as np
import pytest

from batch.simulation import detector
from batch.simulation.electronics import BIAS, GAINS, READ_NOISE
from batch.simulation.frame import Chip, frame
from batch.simulation.randomness import stream
from batch.simulation.settings import VisitSettings

SETTINGS = VisitSettings(size="512", amp="C")


def quiet(chip: Chip, settings: VisitSettings = SETTINGS) -> detector.Silicon:
    return detector.silicon(settings, chip)


def pair(settings: VisitSettings, electrons: float) -> tuple[np.ndarray, np.ndarray, Chip]:
    (chip,) = frame(settings).chips
    silicon = quiet(chip, settings)
    rng = stream(9, "flat", str(electrons))
    raws = []
    for number in (0, 1):
        charge = rng.poisson(electrons, (chip.height, chip.width)).astype(np.float32)
        raws.append(detector.read_out(charge, silicon, chip, settings, number).astype(float))
    return raws[0], raws[1], chip


@pytest.mark.parametrize("gain", [1, 2])
@pytest.mark.parametrize("amp", ["A", "B", "C", "D"])
def test_gain_and_read_noise_follow_from_mean_and_variance(amp: str, gain: int) -> None:
    settings = VisitSettings(size="512", amp=amp, gain=gain)  # type: ignore[arg-type]
    signal, variance = [], []
    for electrons in (0.0, 4000.0):
        a, b, chip = pair(settings, electrons)
        light = chip.light
        prescan = np.delete(np.arange(chip.nx), np.arange(light[1].start, light[1].stop))
        signal.append(((a + b)[light].mean() - (a + b)[:, prescan].mean()) / 2)
        variance.append(np.var((a - b)[light]) / 2)
    quantisation = 1 / 12
    assert (signal[1] - signal[0]) / (variance[1] - variance[0]) == pytest.approx(GAINS[gain][amp], rel=0.01)
    noise = np.sqrt(variance[0] - quantisation) * GAINS[gain][amp]
    assert noise == pytest.approx(READ_NOISE[gain][amp], rel=0.01)


def test_overscan_holds_the_bias_level_and_nothing_else() -> None:
    raw, _, chip = pair(SETTINGS, 4000.0)
    corrected = raw - quiet(chip).bias
    assert corrected[:, :24].mean() == pytest.approx(BIAS["C"], abs=5)
    assert corrected[:, 24:].mean() - corrected[:, :24].mean() == pytest.approx(
        4000 / GAINS[2]["C"], rel=1e-3
    )


def test_virtual_overscan_holds_no_light() -> None:
    settings = VisitSettings(size="2k", amp="A")
    (chip,) = frame(settings).chips
    charge = np.full((chip.height, chip.width), 500.0, np.float32)
    raw = detector.read_out(charge, quiet(chip, settings), chip, settings, 0)
    assert raw[:20].mean() == pytest.approx(raw[:, :24].mean(), abs=1.0)
    assert raw[20:, 24:].mean() > raw[:20].mean() + 200


def test_the_converter_stops_at_its_limit() -> None:
    (chip,) = frame(SETTINGS).chips
    charge = np.zeros((chip.height, chip.width), np.float32)
    charge[10, 10] = 1e6
    raw = detector.read_out(charge, quiet(chip), chip, SETTINGS, 0)
    assert raw.dtype == np.uint16
    assert raw[10, 34] == 65535
    assert (raw == 65535).sum() == 1


def test_stripes_are_shared_by_all_amplifiers_after_sm4_only() -> None:
    for date, expected in (("2006-03-13", 0.0), ("2012-06-01", 0.9)):
        settings = VisitSettings(size="full", date=date)
        chip2, chip1 = frame(settings).chips
        rows = []
        for chip in (chip2, chip1):
            charge = np.zeros((chip.height, chip.width), np.float32)
            silicon = quiet(chip, settings)
            corrected = detector.read_out(charge, silicon, chip, settings, 0) - silicon.bias
            halves = [corrected[:, amp.columns].mean(axis=1) * GAINS[2][amp.name] for amp in chip.amps]
            rows += [h[::-1] if chip.number == 1 else h for h in halves]
        # Rows as the amplifiers see them; the drift of the level is slow.
        fast = [np.diff(r) / np.sqrt(2) for r in rows]
        shared = np.mean([np.mean(fast[i] * fast[j]) for i in range(4) for j in range(i)])
        assert np.sqrt(max(shared, 0)) == pytest.approx(expected, abs=0.06)


def test_hot_pixels_are_flagged_as_such() -> None:
    (chip,) = frame(SETTINGS).chips
    dark = quiet(chip).dark
    flags = detector.dark_flags(dark)
    assert np.all((flags == 16) == (dark >= 0.08))
    assert 0.002 < np.mean(flags == 16) < 0.03
    assert 0.002 < np.mean(flags == 64) < 0.03
    assert np.median(dark) == pytest.approx(0.0032, rel=0.05)


def test_silicon_does_not_change_between_visits_of_one_seed() -> None:
    (chip,) = frame(SETTINGS).chips
    one, two = quiet(chip), quiet(chip, VisitSettings(size="512", exposures=7, stars=3))
    assert np.array_equal(one.flat, two.flat)
    assert np.array_equal(one.bias, two.bias)
    other = quiet(chip, VisitSettings(size="512", seed=2))
    assert not np.array_equal(one.flat, other.flat)
