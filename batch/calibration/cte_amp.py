"""CTE correction and readout model of one amp, on arrays.

Source: specification of the CTE correction, sections 3, 4 and 6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batch.calibration.cte_pass import correct_pass, forward_pass, shared_among, trap_map
from batch.calibration.cte_table import COLUMNS, CteTable, TrapSet
from batch.errors import InputError

SM4 = 54962.0
"""MJD of Servicing Mission 4: the serial direction is corrected from here on."""

Image = NDArray[np.float32]


def correct(
    sci: Image,
    err: Image,
    *,
    amp: str,
    table: CteTable,
    expstart: float,
    read_noise: float,
    x_begin: int | None = None,
    threads: int = 1,
) -> tuple[Image, Image]:
    """Put trailed charge back where it was collected.

    Parameters
    ----------
    sci, err : ndarray of float32, shape (ny, nx)
        One amp of a bias-subtracted, trimmed image and its uncertainty, e-, in image orientation (row 0 at
        the bottom of the chip). Not changed.
    amp : {"A", "B", "C", "D"}
        The amplifier it was read through: A top left, B top right, C bottom left, D bottom right.
    table : CteTable
        From `read_table`. For other settings than the table's use `dataclasses.replace`.
    expstart : float
        Start of the exposure, MJD.
    read_noise : float
        Read noise of the amp, e-.
    x_begin : int, optional
        First column of the amp on its chip; by default 0 for A and C, 2048 for B and D (a frame that is
        read through all four). For a chip or subarray that is read through B or D alone it is 0.
    threads : int
        The result does not depend on it.

    Returns
    -------
    sci, err : ndarray of float32, shape (ny, nx)
        Corrected image, and its uncertainty with 10 % of each pass's correction added in quadrature, e-.

    Raises
    ------
    InputError
        Arrays of the wrong kind, pixels that are not finite, an unknown amp, columns that the table does
        not cover, a noise model other than 0.
    """
    sci, err = _checked(sci, "sci"), _checked(err, "err")
    if err.shape != sci.shape:
        raise InputError.about("err", f"has shape {err.shape}, sci {sci.shape}", "give both of one amp")
    if table.noise_model != 0:
        raise InputError.about(
            f"{table.path} PCTENSMD", f"is {table.noise_model}", "only noise model 0 is defined"
        )
    if not read_noise > 0:
        raise InputError.about("read_noise", f"is {read_noise}", "it must be above 0 e-")
    with shared_among(threads) as share:
        for traps, axis in _passes(table, amp, expstart):
            view = _model_frame(sci, amp, axis)
            densities = _densities(traps, expstart, amp, x_begin, view)
            frame = np.ascontiguousarray(view)
            _add(sci, err, amp, axis, correct_pass(frame, traps, table, densities, read_noise, share))
    return sci, err


def forward(
    sci: Image,
    *,
    amp: str,
    table: CteTable,
    expstart: float,
    x_begin: int | None = None,
    threads: int = 1,
) -> Image:
    """Simulate the readout of one amp: trail its charge as imperfect CTE does.

    Parameters
    ----------
    sci : ndarray of float32, shape (ny, nx)
        Charge as it was collected, e-, in image orientation; no read noise yet. Not changed.
    amp, table, expstart, x_begin, threads
        As for `correct`.

    Returns
    -------
    ndarray of float32, shape (ny, nx)
        The image read out, e-.

    Raises
    ------
    InputError
        As `correct`.
    """
    sci, _ = forward_with_error(
        sci,
        np.zeros_like(sci),
        amp=amp,
        table=table,
        expstart=expstart,
        x_begin=x_begin,
        threads=threads,
    )
    return sci


def forward_with_error(
    sci: Image,
    err: Image,
    *,
    amp: str,
    table: CteTable,
    expstart: float,
    x_begin: int | None = None,
    threads: int = 1,
) -> tuple[Image, Image]:
    """`forward`, and `err` (e-) with 10 % of each pass's change added in quadrature, as acscte does."""
    sci, err = _checked(sci, "sci"), _checked(err, "err")
    with shared_among(threads) as share:
        for traps, axis in _passes(table, amp, expstart):
            view = _model_frame(sci, amp, axis)
            densities = _densities(traps, expstart, amp, x_begin, view)
            _add(sci, err, amp, axis, forward_pass(np.ascontiguousarray(view), traps, densities, share))
    return sci, err


def _passes(table: CteTable, amp: str, expstart: float) -> list[tuple[TrapSet, str]]:
    if amp not in ("A", "B", "C", "D"):
        raise InputError.about("amp", f"{amp!r} is unknown", "A, B, C and D exist")
    serial = [(table.serial[amp], "serial")] if expstart >= SM4 and table.serial else []
    return [*serial, (table.parallel, "parallel")]


def _model_frame(image: Image, amp: str, axis: str) -> Image:
    """A view as [column, row] of the model frame (section 3), row 0 being read out first."""
    near = image[::-1] if amp in "AB" else image
    near = near[:, ::-1] if amp in "BD" else near
    return near.T if axis == "parallel" else near[::-1]


def _densities(traps: TrapSet, expstart: float, amp: str, x_begin: int | None, frame: Image) -> Image:
    if x_begin is None:
        x_begin = 2048 if amp in "BD" else 0
    offset = x_begin + (4096 if amp in "AB" else 0)
    if not 0 <= offset <= COLUMNS - len(frame):
        what = f"{x_begin}, with {len(frame)} columns amp {amp} would end beyond the table"
        raise InputError.about("x_begin", what, f"the table has {COLUMNS} columns for C, D, A and B")
    return trap_map(traps, traps.growth(expstart), offset, *frame.shape)


def _add(sci: Image, err: Image, amp: str, axis: str, change: Image) -> None:
    """Sections 4.6 and 4.7, in place."""
    _model_frame(sci, amp, axis)[...] += change
    view = _model_frame(err, amp, axis)
    for first in range(0, len(change), 64):  # by pieces: the sum is in float64
        piece = slice(first, first + 64)
        tenth = 0.1 * np.abs(change[piece]).astype(np.float64)
        view[piece] = np.sqrt((view[piece] * view[piece]).astype(np.float64) + tenth * tenth)


def _checked(array: Image, name: str) -> Image:
    """A contiguous native float32 copy."""
    values = np.asarray(array)
    if values.ndim != 2 or values.dtype.kind != "f" or values.dtype.itemsize != 4 or 0 in values.shape:
        raise InputError.about(name, f"is {values.dtype} of shape {values.shape}", "give a float32 image")
    values = values.astype(np.float32, order="C", copy=True)
    if not np.isfinite(values.sum(dtype=np.float64)) and not np.isfinite(values).all():
        raise InputError.about(name, "has pixels that are not finite numbers", "repair or mask them first")
    return values
