"""Every kernel of the CCD steps against the specification read literally, on random and on odd inputs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from batch.calibration import (
    destripe,
    kernels,
    overscan_fit,
    rejection,
    rejection_kernels,
    shading,
    sm4_kernels,
)
from batch.calibration.crrejtab import RejectionParameters

SEEDS = range(6)
f32 = np.float32


class Images:
    """Random SCI, ERR and DQ, odd values among them."""

    def __init__(self, seed: int, shape: tuple[int, int] = (13, 17)) -> None:
        self.random = np.random.default_rng(seed)
        self.shape = shape

    def sci(self, scale: float = 300.0) -> np.ndarray:
        values = self.random.normal(50, scale, self.shape).astype(f32)
        odd = [0.0, -0.0, 1e30, -1e30, 1e-40, 65535.0, 5e4]
        places = self.random.integers(0, values.size, len(odd))
        values.flat[places] = odd
        return values

    def err(self) -> np.ndarray:
        values = np.abs(self.random.normal(5, 3, self.shape)).astype(f32)
        values[self.random.random(self.shape) < 0.1] = 0
        return values

    def dq(self) -> np.ndarray:
        bits = self.random.choice(np.array([0, 0, 0, 1, 4, 8, 16, 64, 512, -32768, -1], np.int16), self.shape)
        return np.ascontiguousarray(bits)


def same(found: np.ndarray, wanted: np.ndarray) -> None:
    """Equal to the last bit; NaN equals NaN."""
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("seed", SEEDS)
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def test_subtract_and_divide(seed: int, naive: Any) -> None:
    make = Images(seed)
    image = make.sci(), make.err(), make.dq()
    ref = make.sci(), make.err(), make.dq()
    ref[0][2, 3:6] = 0
    for kernel, literal in ((kernels.subtract, naive.subtract), (kernels.divide, naive.divide)):
        mine = tuple(a.copy() for a in image)
        kernel(*mine, *ref)
        for found, wanted in zip(mine, literal(*image, *ref), strict=True):
            same(found, wanted)


@pytest.mark.parametrize("seed", SEEDS)
@np.errstate(over="ignore", invalid="ignore")
def test_subtract_scaled(seed: int, naive: Any) -> None:
    make = Images(seed)
    image, ref = (make.sci(), make.err(), make.dq()), (make.sci(), make.err(), make.dq())
    factor, bits = f32(make.random.normal(100, 50)), np.int16([-1, 31743, 0][seed % 3])
    mine = tuple(a.copy() for a in image)
    sums, counts = np.zeros(make.shape[0]), np.zeros(make.shape[0], np.int64)
    kernels.subtract_scaled(*mine, *ref, factor, bits, sums, counts)
    for found, wanted in zip(mine, naive.subtract(*image, *ref, factor), strict=True):
        same(found, wanted)
    wanted_sums, wanted_counts = naive.good_sums(ref[0], ref[2], factor, bits)
    same(sums, wanted_sums)
    assert counts.tolist() == wanted_counts.tolist()


@pytest.mark.parametrize("split", [(0, 0), (17, 13), (5, 4), (17, 0), (0, 13)])
@np.errstate(over="ignore", invalid="ignore")
def test_quadrants(split: tuple[int, int], naive: Any) -> None:
    make = Images(1)
    sci, err = make.sci(), make.err()
    values = np.array([1.5, 2.25, 0.1, 7.0], f32)
    mine = sci.copy()
    kernels.multiply_quadrants(mine, *split, *values)
    same(mine, naive.multiply_quadrants(sci, *split, values))
    mine = err.copy()
    kernels.add_noise_quadrants(mine, sci, *split, *values)
    same(mine, naive.initial_error(err, sci, *split, values))


@pytest.mark.parametrize("seed", SEEDS)
def test_flag_runs(seed: int, naive: Any) -> None:
    make = Images(seed)
    dq = make.dq()
    columns = [make.random.integers(-9, 30, 40) for _ in "xy"] + [make.random.integers(1, 50, 40)]
    columns += [make.random.integers(1, 3, 40), make.random.choice([1, 16, 512, 32767], 40)]
    wanted = naive.flag_runs(dq, zip(*columns, strict=True))
    kernels.flag_runs(dq, *columns[:4], columns[4].astype(np.int16))
    same(dq, wanted)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("block", [1, 4, 13])
def test_flag_sinks(seed: int, block: int, naive: Any) -> None:
    make = Images(seed)
    dq, sci = make.dq(), make.sci(40)
    sink = make.random.choice(np.array([0, -1, -20, -0.5, 30, 90, 1], f32), make.shape)
    for step in (1, -1):
        mine = dq.copy()
        active, depth = np.zeros(make.shape[1], bool), np.zeros(make.shape[1], f32)
        for y in range(0, make.shape[0], block)[::step]:
            rows = slice(y, y + block)
            kernels.flag_sinks(mine[rows], sci[rows], sink[rows], step, active, depth)
        same(mine, naive.flag_sinks(dq, sci, sink, step == 1))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("bits", [-1, 31743, 0])
def test_statistics(seed: int, bits: int, naive: Any) -> None:
    make = Images(seed)
    sci, err, dq = make.sci(), make.err(), make.dq()
    found = np.zeros(10)
    kernels.statistics(sci, err, dq, np.int16(bits), found)
    wanted = naive.statistics(sci, err, dq, bits)
    assert found.tolist() == [float(v) for v in wanted]


def test_statistics_without_a_good_pixel() -> None:
    found = np.ones(10)
    kernels.statistics(
        np.ones((3, 3), f32), np.zeros((3, 3), f32), np.zeros((3, 3), np.int16), np.int16(-1), found
    )
    assert found[0] == 0


@pytest.mark.parametrize("seed", SEEDS)
@np.errstate(over="ignore")
def test_subtract_level(seed: int, naive: Any) -> None:
    make = Images(seed)
    sci = make.sci()
    area, line = (1, 12, 2, 15), tuple(make.random.normal(0, 10, 4))
    mine = sci.copy()
    kernels.subtract_level(mine, *area, 6, *line)
    same(mine, naive.subtract_level(sci, area, 6, *line))


@pytest.mark.parametrize("seed", SEEDS)
def test_overscan_line(seed: int, naive: Any) -> None:
    random = np.random.default_rng(seed)
    levels = random.normal(2400, 2, 60) + np.arange(60) * 0.01
    levels[random.integers(0, 60, 5)] += random.choice([3, 40, 5000], 5)
    used = random.random(60) > 0.1
    if seed == 5:
        used[:] = False
    keep = overscan_fit.clip_levels(levels, used, 4.35)
    found = overscan_fit.fit_line(levels, keep, 30, 2390.5)
    wanted = naive.overscan_line(levels, used, 4.35, 30, 2390.5)
    assert found == pytest.approx(wanted, rel=1e-12, abs=1e-12)


def test_masked_medians() -> None:
    values = np.array([[3, 1, 2, 9], [4, 1, 8, 8], [7, 7, 7, 7]], f32)
    good = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
    medians, found = overscan_fit.masked_medians(values, good)
    assert medians.tolist() == [2.0, 2.5, 0.0]
    assert found.tolist() == [True, True, False]


@pytest.mark.parametrize("amp", "ABCD")
def test_bias_shift(amp: str, naive: Any) -> None:
    random = np.random.default_rng(3)
    sci = random.normal(4800, 300, (9, 22)).astype(f32)
    view = destripe.AmpView(
        amp, sci, *((8, -1) if amp in "AB" else (0, 1)), *((21, -1) if amp in "BD" else (0, 1)), 9, 22
    )
    flipped = sci[::-1] if amp in "AB" else sci
    flipped = flipped[:, ::-1] if amp in "BD" else flipped
    same(np.ascontiguousarray(view.flipped()), np.ascontiguousarray(flipped))
    q = 1 - math.exp(-1 / 1700.0)
    found = np.empty((9, 22))
    sm4_kernels.remove_bias_shift(found, sci, *view.address, 11, 4790.0, q, 0.3, 0.0108)
    same(found, naive.remove_bias_shift(flipped, 11, 4790.0, q, 0.3, 0.0108))


@pytest.mark.parametrize("width", [2, 9, 16])
def test_crosstalk(width: int, naive: Any) -> None:
    sci = np.random.default_rng(width).normal(1e4, 2e4, (5, width)).astype(f32)
    wanted = naive.remove_crosstalk(sci)
    sm4_kernels.remove_crosstalk(sci)
    same(sci, wanted)


@pytest.mark.parametrize("seed", SEEDS)
def test_stripes(seed: int, naive: Any) -> None:
    random = np.random.default_rng(seed)
    rows, columns = 46, 36
    stripes = random.normal(0, 1.5, rows)[:, None]
    views = [(random.normal(level, 4, (rows, columns)) + stripes).astype(f32) for level in (5, -3, 40, 2000)]
    for k, view in enumerate(views):
        view[random.integers(0, rows), 24 + k] = 80000  # saturated beside the bias columns
        view[random.integers(0, rows), 3] += 400  # a cosmic ray in the bias columns
        view[random.integers(0, rows), 30:] += 900  # a bright row
    if seed == 4:
        views[0][:, 24:] = 9e4  # no row of this amp can be used
    wanted, levels, fixed = naive.remove_stripes(views, 146)
    bias = np.stack([view[:, :24].astype(np.float64) for view in views])
    usable = np.zeros((4, rows), bool)
    for k, view in enumerate(views):
        sm4_kernels.remove_bias_pattern(bias[k], view[:, 24:30].max(axis=1) < sm4_kernels.PATTERN_LIMIT)
    found_levels = []
    for k, view in enumerate(views):
        sm4_kernels.find_usable_rows(usable[k], bias[k], view, 0, 1, 0, 1, columns)
        found_levels.append(sm4_kernels.clipped_level(bias[k], usable[k]))
        bias[k] -= found_levels[k]
    stripe = np.zeros(rows)
    assert sm4_kernels.find_stripes(stripe, bias, usable) == fixed
    assert found_levels == levels
    for k, view in enumerate(views):
        sm4_kernels.subtract_stripes(view, 0, 1, 0, 1, columns, 146, bias[k], found_levels[k], stripe)
        same(view, wanted[k])


PARAMETERS = RejectionParameters(
    sigma_text="6.5,5.5,4.5",
    sigmas=(6.5, 5.5, 4.5),
    sky="mode",
    radius=2.1,
    threshold=0.5555,
    guess="min",
    scale_noise=30.0,
    bad_bits=-25600,
    write_mask=True,
)


@pytest.mark.parametrize(
    ("images", "changes"),
    [
        (2, {}),
        (3, {"guess": "med"}),
        (4, {"guess": "median", "sky": "none", "threshold": 0.0, "radius": 1.5}),
        (3, {"radius": 0.0, "scale_noise": 0.0}),
        (3, {"bad_bits": 4 | 16}),
    ],
)
@pytest.mark.parametrize("calibration", [False, True])
@pytest.mark.parametrize("zero", [False, True])
def test_rejection(images: int, changes: dict[str, Any], calibration: bool, zero: bool, naive: Any) -> None:
    random = np.random.default_rng(images)
    parameters = replace(PARAMETERS, **changes)
    times = np.array([60, 90, 120, 33.3], f32)[:images]
    if zero and images > 2:
        times[1] = 0
    shape = (images, 14, 19)
    truth = random.gamma(2.0, 3.0, shape[1:])
    sci = (random.poisson(truth * np.maximum(times, 1)[:, None, None]) + random.normal(0, 5, shape)).astype(
        f32
    )
    for n in range(images):
        for _ in range(4):
            y, x = random.integers(0, 12), random.integers(0, 16)
            sci[n, y : y + 2, x : x + 3] += random.uniform(50, 5000)
    err = np.sqrt(np.maximum(sci, 0) + 25).astype(f32)
    dq = random.choice(np.array([0] * 20 + [2, 4, 8, 16, 1024, 2048, 8192, 4096], np.int16), shape)
    kept = sci.copy(), err.copy(), dq.copy()
    found = rejection.combine_imsets(sci, err, dq, times, parameters, calibration)
    for before, after in zip(kept, (sci, err, dq), strict=True):
        same(after, before)  # the inputs are not touched

    skies = [
        naive.sky_mode(sci[n], dq[n], sci[0], dq[0], parameters.bad_bits)
        if parameters.sky == "mode"
        else f32(0)
        for n in range(images)
    ]
    assert found.sky.tolist() == [float(s) for s in skies]
    sigmas = [f32(s) for s in parameters.sigmas]
    scale = f32(parameters.scale_noise) / f32(100)
    if np.count_nonzero(times) == 1:
        assert not found.rejected.any()
        return
    image, error, flags, hit = naive.reject(
        sci,
        err,
        dq,
        np.array(skies, f32),
        times,
        sigmas,
        scale,
        f32(parameters.threshold),
        f32(parameters.radius),
        parameters.bad_bits,
        parameters.by_median,
        calibration,
    )
    sky = f32(0)
    for value in skies:
        sky = sky + value
    same(found.sci, image + max(f32(0), sky))
    same(found.err, error)
    same(found.dq, flags)
    exposed = times > 0
    same(found.rejected[exposed], hit[exposed])


@pytest.mark.parametrize("level", [0.0, 30.0, 3000.0, 20000.0, -500.0])
def test_sky_mode(level: float, naive: Any) -> None:
    random = np.random.default_rng(7)
    first = random.normal(level, 20, (40, 40)).astype(f32)
    other = random.normal(level * 1.4, 25, (40, 40)).astype(f32)
    dq = random.choice(np.array([0, 0, 0, 16, -32768], np.int16), (40, 40))
    skies = rejection.skies(np.stack([first, other]), np.stack([dq, dq]), PARAMETERS)
    wanted = [naive.sky_mode(image, dq, first, dq, PARAMETERS.bad_bits) for image in (first, other)]
    assert skies.tolist() == [float(v) for v in wanted]


@pytest.mark.parametrize(("rx", "ry"), [(2, 2), (3, 4), (8, 1), (1, 5)])
def test_binned_shading(rx: int, ry: int, naive: Any) -> None:
    image = np.random.default_rng(rx).normal(1, 0.1, (6, 7)).astype(f32)
    same(shading.expand_bilinear(image, rx, ry), naive.expand_bilinear(image, rx, ry))


def test_mask_values_are_those_of_the_specification() -> None:
    assert (rejection_kernels.BAD, rejection_kernels.HIT, rejection_kernels.SPILL) == (4, 8, 2)
