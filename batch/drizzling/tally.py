"""Sums and order statistics that no chunking and no order of work can change by a digit.

A float32 that is not negative sorts like the integer its 32 bits spell. Cut those bits in two: the upper
half (exponent and seven bits of the fraction) is a *prefix*, the lower half a number below 65,536. For every
prefix count the values and add up their lower halves and the squares of these; all of it in integers, so that
the order of additions does not matter. That is enough for the exact sum and sum of squares, and it says in
which prefix any order statistic lies. A second look at the values, in those prefixes only, gives the order
statistic itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_HALF = 16
_LOWS = 1 << _HALF
_PREFIXES = 1 << (31 - _HALF)  # without the sign bit
_SLICE = 1 << 18  # fits a processor's cache; float64 holds the sum of 2**20 squared lower halves exactly

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
    """Integer sums over a set of values; good for up to 2**31 values."""

    prefixes: Integers
    """The prefixes that occur, ascending, shape (k,)."""
    counts: Integers
    """How many values have each prefix, shape (k,)."""
    sums: Integers
    """Sum of their lower halves, shape (k,)."""
    squares: Integers
    """Sum of the squares of their lower halves, shape (k,)."""
    zeros: int
    """How many values are zero."""

    @property
    def size(self) -> int:
        """How many values there are."""
        return int(self.counts.sum())

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation (of the population), each rounded once from the exact value.

        Of no values, both are nan.
        """
        n = self.size
        if n == 0:
            return math.nan, math.nan
        total = squared = 0  # in units of 2**-149 and 2**-298, the smallest float32 and its square
        for prefix, count, lows, low_squares in zip(
            self.prefixes.tolist(),
            self.counts.tolist(),
            self.sums.tolist(),
            self.squares.tolist(),
            strict=True,
        ):
            exponent, fraction = divmod(prefix, 1 << (23 - _HALF))
            high = (fraction + ((1 << (23 - _HALF)) if exponent else 0)) << _HALF
            shift = max(exponent - 1, 0)
            total += (count * high + lows) << shift
            squared += (count * high * high + 2 * high * lows + low_squares) << (2 * shift)
        mean = float(Fraction(total, n << 149))
        variance = float(Fraction(n * squared - total * total, n * n << 298))
        return mean, math.sqrt(variance)

    def prefix_of(self, rank: int) -> tuple[int, int]:
        """The prefix in which the value of a rank (0 is the smallest) lies, and its rank therein."""
        ends = np.cumsum(self.counts)
        i = int(np.searchsorted(ends, rank, side="right"))
        return int(self.prefixes[i]), rank - int(ends[i] - self.counts[i])


@dataclass(frozen=True)
class Histogram:
    """How often values with chosen prefixes occur, each distinct value by itself."""

    bits: Integers
    """The values as integers, ascending, shape (k,)."""
    counts: Integers
    """shape (k,)"""


def tally(values: NDArray[np.float32]) -> Tally:
    """Count and add up.

    Parameters
    ----------
    values : ndarray of float32
        Finite and not negative; any shape.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).reshape(-1).view(np.uint32)
    counts, sums, squares = (np.zeros(_PREFIXES, dtype=np.int64) for _ in range(3))
    for start in range(0, bits.size, _SLICE):
        part = bits[start : start + _SLICE]
        prefix = (part >> np.uint32(_HALF)).astype(np.intp)
        low = (part & np.uint32(_LOWS - 1)).astype(np.float64)
        counts += np.bincount(prefix, minlength=_PREFIXES)
        sums += np.bincount(prefix, low, _PREFIXES).astype(np.int64)
        low *= low
        squares += np.bincount(prefix, low, _PREFIXES).astype(np.int64)
    present = np.flatnonzero(counts)
    zeros = bits.size - int(np.count_nonzero(bits))
    return Tally(present, counts[present], sums[present], squares[present], zeros)


def merge(tallies: Iterable[Tally]) -> Tally:
    """The tally of all the values together."""
    parts = list(tallies)
    prefixes, place = np.unique(np.concatenate([t.prefixes for t in parts]), return_inverse=True)
    counts, sums, squares = (np.zeros(prefixes.size, dtype=np.int64) for _ in range(3))
    np.add.at(counts, place, np.concatenate([t.counts for t in parts]))
    np.add.at(sums, place, np.concatenate([t.sums for t in parts]))
    np.add.at(squares, place, np.concatenate([t.squares for t in parts]))
    return Tally(prefixes, counts, sums, squares, sum(t.zeros for t in parts))


def histogram(values: NDArray[np.float32], prefixes: Sequence[int]) -> Histogram:
    """The second look: the distinct values that have one of the prefixes, and how often each occurs."""
    bits = np.ascontiguousarray(values, dtype=np.float32).reshape(-1).view(np.uint32)
    wanted = np.asarray(prefixes, dtype=np.int64)
    table = np.full(_PREFIXES, -1, dtype=np.int16)
    table[wanted] = np.arange(wanted.size)
    index = table[bits >> np.uint32(_HALF)]
    chosen = np.flatnonzero(index >= 0)
    slot = index[chosen].astype(np.int64) * _LOWS + (bits[chosen] & np.uint32(_LOWS - 1))
    counts = np.bincount(slot, minlength=wanted.size * _LOWS)
    present = np.flatnonzero(counts)
    found = (wanted[present // _LOWS] << _HALF) + present % _LOWS if wanted.size else present
    order = np.argsort(found)
    return Histogram(found[order], counts[present][order])


def merge_histograms(histograms: Iterable[Histogram]) -> Histogram:
    """The histogram of all the values together."""
    parts = list(histograms)
    bits, place = np.unique(np.concatenate([h.bits for h in parts]), return_inverse=True)
    counts = np.zeros(bits.size, dtype=np.int64)
    np.add.at(counts, place, np.concatenate([h.counts for h in parts]))
    return Histogram(bits, counts)


def ranks(size: int, fractions: Sequence[float]) -> list[tuple[int, int, float]]:
    """For each quantile its two neighbours' ranks and where between them it lies (NumPy's ``linear``)."""
    positions = [fraction * (size - 1) for fraction in fractions]
    return [(math.floor(p), min(math.floor(p) + 1, size - 1), p - math.floor(p)) for p in positions]


def wanted_prefixes(total: Tally, fractions: Sequence[float]) -> list[int]:
    """The prefixes that the second look has to resolve for these quantiles."""
    pairs = ranks(total.size, fractions) if total.size else []
    return sorted({total.prefix_of(rank)[0] for low, high, _ in pairs for rank in (low, high)})


def quantiles(total: Tally, resolved: Histogram, fractions: Sequence[float]) -> list[float]:
    """Exact quantiles, as ``numpy.quantile`` of the values in float64; nan of no values."""
    if total.size == 0:
        return [math.nan] * len(fractions)
    result = []
    for low, high, weight in ranks(total.size, fractions):
        first, second = (_value(total, resolved, rank) for rank in (low, high))
        # measured from the nearer neighbour, as NumPy does
        step = second - first
        result.append(first + step * weight if weight < 0.5 else second - step * (1 - weight))
    return result


def _value(total: Tally, resolved: Histogram, rank: int) -> float:
    prefix, inside = total.prefix_of(rank)
    start = int(np.searchsorted(resolved.bits, prefix << _HALF))
    stop = int(np.searchsorted(resolved.bits, (prefix + 1) << _HALF))
    ends = np.cumsum(resolved.counts[start:stop])
    bits = resolved.bits[start + int(np.searchsorted(ends, inside, side="right"))]
    return float(np.uint32(bits).view(np.float32))
