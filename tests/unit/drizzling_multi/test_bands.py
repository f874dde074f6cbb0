"""What holds of every drizzle, whatever the mapping."""

from __future__ import annotations

import dataclasses
import threading
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.drizzling import bands
from batch.errors import BatchError, InputError, InsufficientMemoryError, StorageError, UsageError

RELAXED = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SHAPE = (48, 52)
MAPPINGS = {
    "scale": st.floats(0.5, 2.4),
    "angle": st.floats(-3.2, 3.2),
    "flip": st.booleans(),
    "bend": st.floats(-0.3, 0.3),
    "seed": st.integers(0, 1000),
}


@given(pixfrac=st.floats(0.01, 1.0), **MAPPINGS)
@RELAXED
def test_flux_and_weight_are_conserved(build: ModuleType, pixfrac: float, **mapping: float) -> None:
    """All of a chip falls on the output: nothing is lost, nothing is made."""
    chip = build.make(at=(5.0, 6.0), **mapping)
    (image,) = build.run([chip], (64, 64), [pixfrac])
    weights = image.weights.astype(np.float64)
    assert weights.sum() == pytest.approx(chip.weights.astype(np.float64).sum(), rel=1e-6)
    flux = np.nansum(np.where(weights > 0, image.science, 0) * weights)
    given = chip.values.astype(np.float64) * chip.weights
    assert abs(flux - given.sum()) < 1e-6 * np.abs(given).sum()


@given(pixfracs=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=3), **MAPPINGS)
@RELAXED
def test_weights_are_positive_where_a_chip_was(
    build: ModuleType, pixfracs: list[float], **mapping: float
) -> None:
    chips = [build.make(at=(3.0, 3.0), **mapping), build.make(at=(9.5, 7.25), **mapping)]
    for image in build.run(chips, SHAPE, pixfracs):
        assert (image.weights >= 0).all()
        assert ((image.contexts[0] != 0) == (image.weights > 0)).all()
        assert np.isfinite(image.science[image.weights > 0]).all()
        assert image.coverage == bands.Coverage(np.count_nonzero(image.weights), 0)


@given(order=st.permutations(range(4)), **MAPPINGS)
@RELAXED
def test_the_order_of_chips_only_rounds(build: ModuleType, order: list[int], **mapping: float) -> None:
    chips = [build.make(at=(3.0 + n, 5.0 - n), masked=0.3, **mapping | {"seed": n}) for n in range(4)]
    (image,) = build.run(chips, SHAPE, [0.7])
    (other,) = build.run([chips[i] for i in order], SHAPE, [0.7])
    np.testing.assert_allclose(other.weights, image.weights, rtol=2e-7)
    used = image.weights > 0
    np.testing.assert_allclose(other.science[used], image.science[used], rtol=1e-5, atol=1e-6)
    for new, old in enumerate(order):
        assert ((other.contexts[0] >> new & 1) == (image.contexts[0] >> old & 1)).all()


@given(threads=st.integers(1, 4), rows=st.integers(1, 40), tile=st.integers(1, 60), **MAPPINGS)
@RELAXED
def test_cutting_up_the_output_changes_no_bit(
    build: ModuleType, threads: int, rows: int, tile: int, **mapping: float
) -> None:
    """Nor does the number of threads."""
    chips = [build.make((23, 130), at=(2.0 + n, 3.0), **mapping | {"seed": n}) for n in range(3)]
    shape = (60, 150)
    expected = build.run(chips, shape, [1.0, 0.35])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "TILE", tile)
        patch.setattr(bands, "band_rows", lambda *_: rows)
        got = build.run(chips, shape, [1.0, 0.35], threads)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a.science.view(np.uint32), b.science.view(np.uint32))
        np.testing.assert_array_equal(a.weights, b.weights)
        np.testing.assert_array_equal(a.contexts, b.contexts)
        assert a.coverage == b.coverage


def test_a_pixfrac_is_the_same_alone(build: ModuleType) -> None:
    chips = [build.make(seed=n, at=(2.0 + n, 3.0)) for n in range(2)]
    together = build.run(chips, SHAPE, [0.9, 0.5, 0.1])
    for image, pixfrac in zip(together, [0.9, 0.5, 0.1], strict=True):
        (alone,) = build.run(chips, SHAPE, [pixfrac])
        np.testing.assert_array_equal(alone.weights, image.weights)


def test_more_chips_than_bits(build: ModuleType) -> None:
    """The 32nd chip is the sign of the first plane, the 33rd begins a second one."""
    chips = [build.make((3, 3), at=(1.0 + 4 * (n % 6), 1.0 + 4 * (n // 6)), scale=1.0, angle=0.0, masked=0.0)
             for n in range(35)]  # fmt: skip
    (image,) = build.run(chips, (30, 30), [1.0])
    assert image.contexts.shape == (2, 30, 30)
    for n in range(35):
        x, y = 2 + 4 * (n % 6), 2 + 4 * (n // 6)
        bits = image.contexts[:, y, x].view(np.uint32)
        assert list(bits) == [1 << n if n < 32 else 0, 1 << n - 32 if n >= 32 else 0]


def test_a_mask_leaves_its_value_in_a_hole(build: ModuleType) -> None:
    """As AstroDrizzle has it: a pixel that only masked ones reach has their value, and no weight."""
    chip = build.make((9, 9), scale=2.0, angle=0.0, at=(4.0, 4.0), masked=0.0)
    chip.weights[4, 4] = 0
    (image,) = build.run([chip], (26, 26), [1.0])
    hole = image.weights[4:22, 4:22] == 0
    assert hole.sum() == 4
    np.testing.assert_array_equal(image.science[4:22, 4:22][hole], chip.values[4, 4])
    assert (image.contexts[0, 4:22, 4:22][hole] == 0).all()
    assert np.isnan(image.science[0, 0])


@pytest.mark.parametrize("pixfracs", [[0.0], [1.01], [-0.5], [0.5, float("nan")], []])
def test_pixfracs_out_of_range(build: ModuleType, pixfracs: list[float]) -> None:
    with pytest.raises(UsageError, match="pixfrac"):
        build.run([build.make()], SHAPE, pixfracs)


def test_nothing_on_the_grid(build: ModuleType) -> None:
    with pytest.raises(InputError, match=r"made1\[sci,1\].*grid"):
        build.run([build.make(at=(500.0, 3.0))], SHAPE, [0.5])


def test_no_chips(build: ModuleType) -> None:
    with pytest.raises(InputError, match="no exposures"):
        build.run([], SHAPE, [0.5])


def test_all_weights_zero(build: ModuleType) -> None:
    with pytest.raises(InputError, match=r"no pixel .* has weight"):
        build.run([build.make(masked=1.0)], SHAPE, [0.5])


def test_a_mapping_without_numbers(build: ModuleType) -> None:
    chip = build.make()
    chip.mapping.nodes_x[1, 1] = np.nan
    with pytest.raises(InputError, match=r"made1\[sci,1\].*WCS"):
        build.run([chip], SHAPE, [0.5])


def test_output_pixels_far_too_small(build: ModuleType) -> None:
    with pytest.raises(UsageError, match="output scale"):
        build.run([build.make(scale=30.0)], SHAPE, [1.0])


def test_too_little_memory_is_said_before_work_starts(build: ModuleType) -> None:
    with pytest.raises(InsufficientMemoryError, match="MB"):
        build.run([build.make()], (9000, 9000), [0.5], memory=bands.BASE + 1_000_000)


def test_bands_shrink_to_the_memory(build: ModuleType) -> None:
    """And what is planned for them does not exceed it."""
    pixels, shape = 67_000_000, (9256, 9232)
    for memory in (890_000_000, 950_000_000, 4_000_000_000):
        rows = bands.band_rows(pixels, 8, shape, 2, memory)
        assert bands.needed(pixels, 8, shape, 2, rows) <= memory
    assert 32 <= bands.band_rows(pixels, 8, shape, 2, 900_000_000) < bands.TILE
    assert bands.band_rows(pixels, 8, shape, 2, 4_000_000_000) == bands.TILE


def test_two_threads_work_at_once(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "TILE", 16)
    both = threading.Barrier(2, timeout=60)

    def wait(index: int, row: int, *_: object) -> None:
        if row < 32:
            both.wait()

    chip = build.make((300, 20), angle=0.0, at=(2.0, 2.0))
    bands.drizzle_chips([chip], (600, 60), [0.8], wait, threads=2)
    assert not both.broken


def test_a_failing_sink_ends_the_drizzle(build: ModuleType) -> None:
    def full(*_: object) -> None:
        raise StorageError("no space left")

    with pytest.raises(BatchError, match="no space left"):
        bands.drizzle_chips([build.make()], SHAPE, [0.8], full, threads=2)


def test_values_that_are_not_finite_are_counted(build: ModuleType) -> None:
    chip = build.make((5, 5), scale=1.0, angle=0.0, at=(3.0, 3.0), masked=0.0)
    values = chip.values.copy()
    values[2, 2] = np.inf
    (image,) = build.run([dataclasses.replace(chip, values=values)], (12, 12), [1.0])
    assert image.coverage.covered == 25
    # and those in whose box it lies
    assert 1 <= image.coverage.not_finite <= 9
