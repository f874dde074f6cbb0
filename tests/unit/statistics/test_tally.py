"""Integer tallies against plain float64 NumPy, and against themselves in other orders."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batch.drizzling.tally import (
    histogram,
    merge,
    merge_histograms,
    quantiles,
    tally,
    wanted_prefixes,
)

FRACTIONS = (0.0, 0.05, 0.25, 0.5, 0.61, 0.95, 1.0)

weights = hnp.arrays(
    np.float32,
    st.integers(1, 300),
    elements=st.one_of(
        st.just(0.0),
        st.floats(0, 2.0**20, width=32),
        st.floats(1000, 1001, width=32),
        st.sampled_from([2.0**-149, 2.0**-126, 3.0e38]),
    ),
)


@given(weights)
def test_moments_and_quantiles_equal_float64_numpy(values: np.ndarray) -> None:
    total = tally(values)
    exact = values.astype(np.float64)
    mean, rms = total.moments()
    assert total.size == values.size
    assert total.zeros == np.count_nonzero(values == 0)
    assert mean == pytest.approx(math.fsum(exact.tolist()) / exact.size, rel=1e-15)
    assert rms == pytest.approx(exact.std(), rel=1e-9, abs=1e-9 * exact.max() / exact.size)
    resolved = histogram(values, wanted_prefixes(total, FRACTIONS))
    assert quantiles(total, resolved, FRACTIONS) == np.quantile(exact, FRACTIONS).tolist()
    assert quantiles(total, resolved, [0.5]) == [np.median(exact)]


@given(weights, st.integers(0, 2**31), st.lists(st.integers(0, 300), max_size=6))
def test_no_cut_and_no_order_changes_a_digit(values: np.ndarray, seed: int, cuts: list[int]) -> None:
    shuffled = np.random.default_rng(seed).permutation(values)
    parts = np.split(shuffled, sorted(cuts))
    whole, merged = tally(values), merge(tally(p) for p in parts)
    assert merged.moments() == whole.moments()
    assert merged.zeros == whole.zeros
    wanted = wanted_prefixes(merged, FRACTIONS)
    resolved = merge_histograms(histogram(p, wanted) for p in parts)
    assert quantiles(merged, resolved, FRACTIONS) == quantiles(whole, histogram(values, wanted), FRACTIONS)


def test_rms_of_nearly_equal_weights_does_not_cancel() -> None:
    # the textbook formula in float64 leaves nothing of this variance
    values = np.array([3.0e7, 3.0e7 + 2, 3.0e7 + 4], dtype=np.float32)
    assert tally(np.tile(values, 1000)).moments()[1] == pytest.approx(math.sqrt(8 / 3), rel=1e-15)


def test_more_values_than_one_slice() -> None:
    values = np.random.default_rng(5).gamma(9.0, 100.0, 2_500_000).astype(np.float32)
    total = tally(values)
    resolved = histogram(values, wanted_prefixes(total, [0.5]))
    exact = values.astype(np.float64)
    assert quantiles(total, resolved, [0.5]) == [np.median(exact)]
    assert total.moments() == pytest.approx((exact.mean(), exact.std()), rel=1e-12)


def test_nothing_has_no_moments() -> None:
    total = tally(np.empty(0, np.float32))
    assert all(
        map(math.isnan, (*total.moments(), *quantiles(total, histogram(np.empty(0, np.float32), []), [0.5])))
    )
