"""The compiled drizzle against polygons clipped one by one."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RELAXED = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SHAPE = (40, 44)


def agree(build: ModuleType, naive: ModuleType, chips: list, pixfracs: list[float]) -> None:
    """Every image to single precision, the context exactly but where a drop only grazes a pixel."""
    for image, pixfrac in zip(build.run(chips, SHAPE, pixfracs), pixfracs, strict=True):
        values, weights, touched = naive.drizzle(chips, SHAPE, pixfrac)
        largest = weights.max()
        assert largest > 0
        np.testing.assert_allclose(image.weights, weights, rtol=3e-7, atol=1e-9 * largest)
        solid = weights > 1e-6 * largest
        np.testing.assert_allclose(image.science[solid], values[solid], rtol=1e-5, atol=1e-6)
        bits = (image.contexts[0] >> np.arange(len(chips))[:, None, None]) & 1
        grazed = np.logical_xor(bits, touched)
        assert (weights[grazed.any(axis=0)] < 1e-9 * largest).all()
        assert image.coverage.covered == np.count_nonzero(image.weights)


@given(
    scale=st.floats(0.4, 4.5),
    angle=st.floats(-3.2, 3.2),
    flip=st.booleans(),
    bend=st.floats(-0.4, 0.4),
    at=st.tuples(st.floats(-6, 9), st.floats(-6, 9)),
    step=st.sampled_from([1, 3, 10]),
    exact=st.booleans(),
    pixfracs=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=2),
    seed=st.integers(0, 1000),
)
@RELAXED
def test_any_mapping(
    build: ModuleType,
    naive: ModuleType,
    scale: float,
    angle: float,
    flip: bool,
    bend: float,
    at: tuple[float, float],
    step: int,
    exact: bool,
    pixfracs: list[float],
    seed: int,
) -> None:
    chip = build.make(
        scale=scale, angle=angle, flip=flip, bend=bend, at=at, step=step, exact=exact, seed=seed
    )
    if chip.mapping.bounds[0] < SHAPE[1] - 2 and chip.mapping.bounds[1] < SHAPE[0] - 2:
        agree(build, naive, [chip], pixfracs)


@pytest.mark.parametrize("angle", [0.0, np.pi / 2, np.pi, 1e-9, -1e-7, 1e-5])
@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0, 0.5])
@pytest.mark.parametrize("at", [(2.0, 3.0), (2.5, 3.25)])
def test_edges_along_the_axes(
    build: ModuleType, naive: ModuleType, angle: float, scale: float, at: tuple[float, float]
) -> None:
    """Upright and level edges, some of them on the borders of output pixels."""
    agree(build, naive, [build.make((5, 7), scale=scale, angle=angle, at=at)], [1.0, 0.5])


@pytest.mark.parametrize("scale", [2.9, 4.4, 7.0])
def test_small_output_pixels(build: ModuleType, naive: ModuleType, scale: float) -> None:
    """Boxes of up to 12 output pixels."""
    chip = build.make((4, 5), scale=scale, angle=0.7, at=(1.0, 1.0))
    agree(build, naive, [chip], [1.0, 0.7])


def test_chips_on_top_of_each_other(build: ModuleType, naive: ModuleType) -> None:
    chips = [build.make(angle=0.3 * n, at=(3.0 + n, 4.0 - n), seed=n, bend=0.2) for n in range(3)]
    agree(build, naive, chips, [1.0, 0.6, 0.2])


def test_runs_longer_than_the_lanes(build: ModuleType, naive: ModuleType) -> None:
    """Rows of input pixels that are worked on in several runs, the last one incomplete."""
    chip = build.make((3, 211), scale=0.19, angle=0.1, at=(1.0, 1.0), masked=0.2)
    agree(build, naive, [chip], [1.0, 0.3])
