"""What must hold for `correct` and `forward`, whatever the numbers."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from batch.calibration import cte_pass, cte_smooth
from batch.calibration.cte import SM4, CteTable, correct, forward
from batch.calibration.cte_kernels import read_out
from batch.calibration.cte_pass import prepare
from batch.errors import InputError

QUICK = settings(max_examples=15, deadline=None, derandomize=True)
AMPS = st.sampled_from("ABCD")


def scene(build: ModuleType, seed: int, ny: int = 40, nx: int = 30) -> NDArray[np.float32]:
    image: NDArray[np.float32] = build.columns(seed, ny, nx, "sources")
    return image


def table(build: ModuleType, seed: int, shifts: int = 3) -> CteTable:
    serial = build.trap_set(seed + 1, n_traps=12, trail=15, shifts=shifts, density=60)
    result: CteTable = build.table(build.trap_set(seed, trail=10, shifts=shifts, density=60), serial)
    return result


@QUICK
@given(st.integers(0, 10**6), AMPS)
def test_no_traps_change_nothing(build: ModuleType, seed: int, amp: str) -> None:
    full = table(build, seed)
    none = replace(full.parallel, densities=np.zeros((8192, 4)))
    empty = replace(full, parallel=none, serial=dict.fromkeys("ABCD", none))
    sci = scene(build, seed)
    err = np.sqrt(np.abs(sci))
    np.testing.assert_array_equal(forward(sci, amp=amp, table=empty, expstart=59000.0), sci)
    same, same_err = correct(sci, err, amp=amp, table=empty, expstart=59000.0, read_noise=4.0)
    np.testing.assert_array_equal(same, sci)
    # the square of ERR is taken in single precision, as calacs does
    np.testing.assert_allclose(same_err, err, rtol=1.2e-7)


@QUICK
@given(st.integers(0, 10**6), st.sampled_from(["sky", "sources", "huge", "low"]))
def test_charge_is_conserved_up_to_what_leaves_the_column(build: ModuleType, seed: int, kind: str) -> None:
    """A tail of empty pixels, longer than any trail, catches all that the traps hold at the end."""
    traps = build.trap_set(seed, n_traps=30, trail=9, shifts=4)
    charge = np.full((5, 60), -1000.0, np.float32)
    charge[:, :50] = build.columns(seed, 5, 50, kind)
    densities = build.densities(seed, 5, 60, "random")
    densities.sort(axis=1)  # where the density falls, the model loses charge by definition
    ready = prepare(traps, densities)
    result = charge.copy()
    read_out(result, densities, 0, 5, ready.tables, ready.single, ready.literal)
    assert (result != charge).any()
    total, before = result.sum(axis=1, dtype=np.float64), charge.sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(total, before, rtol=0, atol=1.2e-7 * np.abs(charge).sum(axis=1).max())
    # without the tail charge is lost, and never gained
    cut = charge[:, :50].copy()
    read_out(cut, densities[:, :50].copy(), 0, 5, ready.tables, ready.single, ready.literal)
    assert (cut.sum(axis=1, dtype=np.float64) <= charge[:, :50].sum(axis=1, dtype=np.float64) + 1e-3).all()


@QUICK
@given(st.integers(0, 10**6), AMPS)
def test_correct_undoes_forward(build: ModuleType, seed: int, amp: str) -> None:
    """Without noise, five iterations take out nearly all that the readout did."""
    full = table(build, seed)
    gentle = replace(full.parallel, iterations=5, capacities=0.3 * full.parallel.capacities)
    full = replace(full, parallel=gentle, serial=dict.fromkeys("ABCD", gentle), fix_rocr=False)
    sci = scene(build, seed, 60, 50)
    trailed = forward(sci, amp=amp, table=full, expstart=53000.0)
    restored, _ = correct(trailed, sci, amp=amp, table=full, expstart=53000.0, read_noise=0.05)
    done, left = np.std(trailed - sci), np.std(restored - sci)
    assert done > 0
    assert left < 0.2 * done


@QUICK
@given(st.integers(0, 10**6), AMPS)
def test_columns_are_independent(build: ModuleType, seed: int, amp: str) -> None:
    """Before SM4 only columns are read out: a changed column changes no other one."""
    full = table(build, seed)
    sci = scene(build, seed)
    other = sci.copy()
    other[:, 11] *= 3
    one, two = (forward(a, amp=amp, table=full, expstart=53000.0) for a in (sci, other))
    same = np.arange(sci.shape[1]) != 11
    np.testing.assert_array_equal(one[:, same], two[:, same])
    assert (one[:, 11] != two[:, 11]).any()


@pytest.mark.parametrize("amp", "ABCD")
def test_trails_point_away_from_the_amplifier(build: ModuleType, amp: str) -> None:
    sci = np.full((60, 60), 0.01, np.float32)
    sci[30, 30] = 5000
    change = forward(sci, amp=amp, table=table(build, 3), expstart=59000.0) - sci
    dy, dx = np.argwhere(change > 0.01).T - 30
    away_y, away_x = (-1 if amp in "AB" else 1), (-1 if amp in "BD" else 1)
    assert change[30, 30] < -1
    assert (dy * away_y >= 0).all()
    assert (dx * away_x >= 0).all()
    assert (dy != 0).any()
    assert (dx != 0).any()


def test_threads_and_turns_change_no_bit(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    full = table(build, 7)
    sci = scene(build, 7, 70, 90)
    err = np.sqrt(np.abs(sci))

    def run(threads: int) -> list[NDArray[np.float32]]:
        corrected = correct(sci, err, amp="D", table=full, expstart=59000.0, read_noise=4.0, threads=threads)
        return [*corrected, forward(sci, amp="D", table=full, expstart=59000.0, threads=threads)]

    reference = run(1)
    for threads, columns, smoothed in ((2, 8, 64), (3, 1, 1), (2, 7, 13), (1, 1000, 1000)):
        monkeypatch.setattr(cte_pass, "_COLUMNS_PER_TURN", columns)
        monkeypatch.setattr(cte_smooth, "_COLUMNS_PER_TURN", smoothed)
        for got, truth in zip(run(threads), reference, strict=True):
            np.testing.assert_array_equal(got, truth)


def test_the_serial_direction_is_corrected_after_sm4_only(build: ModuleType) -> None:
    full = table(build, 1)
    still = replace(full.parallel, densities=np.zeros((8192, 4)))
    full = replace(full, parallel=still)
    sci = scene(build, 1)
    before = forward(sci, amp="C", table=full, expstart=np.nextafter(SM4, 0))
    after = forward(sci, amp="C", table=full, expstart=SM4)
    np.testing.assert_array_equal(before, sci)
    assert (after != sci).any()


def test_inputs_are_left_alone(build: ModuleType) -> None:
    sci = scene(build, 2)
    err = np.ones_like(sci)
    copy = sci.copy()
    correct(sci, err, amp="A", table=table(build, 2), expstart=59000.0, read_noise=4.0)
    np.testing.assert_array_equal(sci, copy)
    np.testing.assert_array_equal(err, 1)


def test_arrays_from_fits_are_accepted(build: ModuleType) -> None:
    """Big-endian, and a window of a larger array."""
    sci = scene(build, 4, 50, 50)
    full = table(build, 4)
    truth = forward(sci[5:45, 10:30].copy(), amp="B", table=full, expstart=53000.0)
    np.testing.assert_array_equal(
        forward(sci.astype(">f4")[5:45, 10:30], amp="B", table=full, expstart=53000.0), truth
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"amp": "E"}, "amp"),
        ({"sci": np.zeros((4, 4))}, "float64"),
        ({"sci": np.zeros(4, np.float32)}, "sci"),
        ({"sci": np.full((4, 4), np.nan, np.float32)}, "finite"),
        ({"sci": np.full((4, 4), np.inf, np.float32)}, "finite"),
        ({"err": np.zeros((4, 5), np.float32)}, "err"),
        ({"x_begin": 4095, "amp": "B"}, "x_begin"),
        ({"x_begin": -1}, "x_begin"),
        ({"read_noise": 0.0}, "read_noise"),
        ({"read_noise": np.nan}, "read_noise"),
    ],
)
def test_wrong_inputs_are_named(build: ModuleType, change: dict[str, object], message: str) -> None:
    plane = np.ones((4, 4), np.float32)
    good = {
        "sci": plane,
        "err": plane,
        "amp": "C",
        "table": table(build, 0),
        "expstart": 59000.0,
        "read_noise": 4.0,
    }
    with pytest.raises(InputError, match=message):
        correct(**{**good, **change})  # type: ignore[arg-type]
