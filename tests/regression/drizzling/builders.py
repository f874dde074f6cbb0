"""Chips with mappings of every kind, and mosaics as arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from batch.drizzling.bands import Chip, Coverage, Words, drizzle_chips, planes
from batch.drizzling.geometry import Mapping


@dataclasses.dataclass
class Images:
    """What a drizzle gave at one pixfrac."""

    science: NDArray[np.float32]
    weights: NDArray[np.float32]
    contexts: NDArray[np.int32]
    coverage: Coverage | None = None


class Collector:
    """A sink that keeps everything."""

    def __init__(self, shape: tuple[int, int], pixfracs: int, chips: int) -> None:
        self.images = [
            Images(
                np.full(shape, -7, np.float32),
                np.full(shape, -7, np.float32),
                np.full((planes(chips), *shape), -7, np.int32),
            )
            for _ in range(pixfracs)
        ]

    def __call__(self, index: int, row: int, science: Words, weights: Words, contexts: Words) -> None:
        image = self.images[index]
        rows = slice(row, row + science.shape[0])
        assert (image.weights[rows] == -7).all(), "a band came twice"
        image.science[rows] = science.view(">f4")
        image.weights[rows] = weights.view(">f4")
        image.contexts[:, rows] = contexts.view(">i4")


def run(
    chips: Sequence[Chip],
    shape: tuple[int, int],
    pixfracs: Sequence[float],
    threads: int = 1,
    memory: int | None = None,
) -> list[Images]:
    """Drizzle to arrays."""
    collector = Collector(shape, len(pixfracs), len(chips))
    found = drizzle_chips(chips, shape, pixfracs, collector, threads=threads, memory=memory)
    for image, coverage in zip(collector.images, found, strict=True):
        image.coverage = coverage
    return collector.images


def make(
    shape: tuple[int, int] = (11, 13),
    scale: float = 1.7,
    angle: float = 0.4,
    flip: bool = False,
    bend: float = 0.0,
    at: tuple[float, float] = (3.0, 4.0),
    step: int = 10,
    exact: bool = False,
    seed: int = 1,
    masked: float = 0.1,
    weight: float = 340.0,
) -> Chip:
    """A chip of random values whose lower left corner falls near `at`.

    Parameters
    ----------
    scale : float
        Output pixels in an input pixel.
    angle : float
        rad
    bend : float
        Quadratic terms: output pixels at the far corner.
    masked : float
        Fraction of pixels without weight.
    """
    rng = np.random.default_rng(seed)
    ny, nx = shape
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    corners = np.array([[0, 0], [nx, 0], [0, ny], [nx, ny]]) @ np.array([[c, s], [-s, c]])
    x0, y0 = np.array(at) - corners.min(axis=0)
    mirror = corners[:, 0].max() - corners[:, 0].min() + 2 * at[0] if flip else 0.0

    def function(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        u, v = x - 0.5, y - 0.5
        p = x0 + c * u - s * v + bend * (u / nx) * (v / ny) + bend * (v / ny) ** 2 / 3
        q = y0 + s * u + c * v - bend * (u / nx) ** 2 / 2
        return (mirror - p if flip else p), q

    values = rng.normal(1.0, 1.0, shape).astype(np.float32)
    weights = (weight * rng.uniform(0.5, 1.5, shape)).astype(np.float32)
    weights[rng.random(shape) < masked] = 0
    return Chip(f"made{seed}[sci,1]", values, weights, Mapping.sample(function, shape, step, exact))
