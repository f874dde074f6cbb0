"""The fast kernels against the specification read literally."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from batch.calibration.cte_kernels import invert, read_out
from batch.calibration.cte_pass import prepare, shared_among, trap_map
from batch.calibration.cte_smooth import smooth
from batch.calibration.cte_table import TrapSet

KINDS = st.sampled_from(["sky", "sources", "huge", "empty", "negative", "low"])
MAPS = st.sampled_from(["rising", "steps", "random", "none"])
QUICK = settings(max_examples=60, deadline=None, derandomize=True)


def literally(naive: ModuleType, traps: TrapSet) -> Any:
    return naive.Parameters(
        q=traps.levels.tolist(),
        dpde=traps.capacities.tolist(),
        rp=traps.release,
        cp=traps.remaining,
        L=traps.trail,
        n_for=traps.iterations,
        n_par=traps.shifts,
    )


def assert_close(result: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
    """The bound of the specification (11.1)."""
    excess = np.abs(result.astype(np.float64) - truth) - (1e-4 + 2.4e-7 * np.abs(truth))
    assert excess.max() <= 0


sets = st.fixed_dictionaries(
    {
        "n_traps": st.integers(1, 40),
        "trail": st.integers(1, 12),
        "shifts": st.integers(1, 4),
        "iterations": st.integers(0, 3),
        "top": st.sampled_from([0.0, 5.0, 60.0, 300.0, 3e4]),
        "contained": st.booleans(),
    }
)


@QUICK
@given(st.integers(0, 10**6), sets, KINDS, MAPS)
# levels that repeat, short trails, charge just above the lowest levels: the walk trap by trap
@example(
    1,
    {"n_traps": 40, "trail": 2, "shifts": 1, "iterations": 1, "top": 5.0, "contained": True},
    "low",
    "rising",
)
@example(
    2,
    {"n_traps": 40, "trail": 12, "shifts": 1, "iterations": 1, "top": 5.0, "contained": False},
    "low",
    "steps",
)
@example(
    3,
    {"n_traps": 1, "trail": 1, "shifts": 4, "iterations": 2, "top": 0.0, "contained": True},
    "huge",
    "random",
)
def test_read_out_follows_section_7(
    naive: ModuleType, build: ModuleType, seed: int, set_: dict[str, Any], kind: str, map_: str
) -> None:
    traps = build.trap_set(seed, **set_)
    scene = build.columns(seed, 3, 40, kind)
    t = build.densities(seed, 3, 40, map_)
    ready = prepare(traps, t)
    assert not ready.literal
    result = scene.copy()
    read_out(result, t, 0, 3, ready.tables, ready.single, False)
    truth = [
        naive.readout([float(v) for v in p], d, literally(naive, traps))
        for p, d in zip(scene, t, strict=True)
    ]
    assert_close(result, np.array(truth, np.float32))


@QUICK
@given(st.integers(0, 10**6), sets, KINDS, MAPS)
def test_the_literal_form_is_exact(
    naive: ModuleType, build: ModuleType, seed: int, set_: dict[str, Any], kind: str, map_: str
) -> None:
    traps = build.trap_set(seed, negative=True, **set_)
    scene = build.columns(seed, 2, 30, kind)
    t = build.densities(seed, 2, 30, map_)
    ready = prepare(traps, t)
    assert ready.literal
    result = scene.copy()
    read_out(result, t, 0, 2, ready.tables, ready.single, ready.literal)
    truth = [
        naive.readout([float(v) for v in p], d, literally(naive, traps))
        for p, d in zip(scene, t, strict=True)
    ]
    np.testing.assert_array_equal(result, np.array(truth, np.float32))


@pytest.mark.parametrize("literal", [False, True])
@QUICK
@given(st.integers(0, 10**6), sets, KINDS, MAPS, st.booleans())
def test_invert_follows_section_8(
    naive: ModuleType,
    build: ModuleType,
    literal: bool,
    seed: int,
    set_: dict[str, Any],
    kind: str,
    map_: str,
    fix_rocr: bool,
) -> None:
    traps = build.trap_set(seed, **set_)
    seen = build.columns(seed, 2, 36, kind)
    seen[0, 20] -= 40  # a trail that ends too low, as behind a readout cosmic ray
    t = build.densities(seed, 2, 36, map_)
    ready = prepare(traps, t)
    reduced, result = t.copy(), np.empty_like(seen)
    invert(
        seen,
        reduced,
        result,
        0,
        2,
        traps.iterations,
        4.0,
        -10.0,
        fix_rocr,
        ready.tables,
        ready.single,
        literal,
    )
    truth = [
        naive.invert(s, d, literally(naive, traps), 4.0, -10.0, fix_rocr)
        for s, d in zip(seen, t, strict=True)
    ]
    if literal:
        np.testing.assert_array_equal(result, np.array(truth))
    else:
        assert_close(result, np.array(truth))


def test_readout_cosmic_rays_reduce_traps(naive: ModuleType, build: ModuleType) -> None:
    """An untrailed spike leaves a hole when it is corrected: the case takes the second to fifth run."""
    traps = build.trap_set(5, n_traps=40, trail=12, iterations=5, shifts=3)
    seen = build.columns(1, 1, 60, "sky") * 0.04
    seen[0, 30] += 4000
    t = build.densities(5, 1, 60, "rising") * 12
    ready = prepare(traps, t)
    reduced, result = t.copy(), np.empty_like(seen)
    invert(seen, reduced, result, 0, 1, 5, 4.0, -10.0, True, ready.tables, ready.single, False)
    once = np.empty_like(seen)
    invert(seen, t.copy(), once, 0, 1, 5, 4.0, -10.0, False, ready.tables, ready.single, False)
    assert (reduced < t).any()
    assert once.min() < result.min()
    assert_close(result[0], naive.invert(seen[0], t[0], literally(naive, traps), 4.0, -10.0, True))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.integers(0, 10**6),
    KINDS,
    st.sampled_from([0.05, 0.5, 3.0, 5.5]),
    st.integers(1, 5),
    st.integers(1, 13),
)
def test_smooth_follows_section_5(
    naive: ModuleType, build: ModuleType, seed: int, kind: str, noise: float, n_columns: int, n_rows: int
) -> None:
    seen = build.columns(seed, n_columns, n_rows, kind)
    with shared_among(1) as share:
        result = smooth(seen, noise, share)
    np.testing.assert_allclose(result, naive.smooth(seen, noise), rtol=2.4e-7, atol=2e-6)


def test_smooth_leaves_an_image_below_the_mask(naive: ModuleType) -> None:
    """No pixel counts: the rms is undefined and 100 iterations pass."""
    seen = np.zeros((4, 5), np.float32)
    with shared_among(1) as share:
        np.testing.assert_array_equal(smooth(seen, 4.0, share), naive.smooth(seen, 4.0))


@pytest.mark.parametrize(("offset", "n_columns", "n_rows"), [(0, 3, 2048), (4096, 2, 700), (8189, 3, 40)])
def test_trap_map_follows_section_6(
    naive: ModuleType, build: ModuleType, offset: int, n_columns: int, n_rows: int
) -> None:
    nodes = np.random.default_rng(0).uniform(0.8, 1.2, (8192, 4)).astype(np.float32)
    traps = replace(build.trap_set(0), densities=nodes.astype(np.float64))
    result = trap_map(traps, 1.2345678, offset, n_columns, n_rows)
    around = slice(max(offset - 2, 0), offset + n_columns + 2)
    iz = list(range(8192))[around]
    truth = naive.trap_map(iz, nodes[around], 1.2345678, offset, n_columns, n_rows)
    np.testing.assert_array_equal(result, truth)
