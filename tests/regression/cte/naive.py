"""The CTE specification, sections 5 to 8, read literally: plain Python, no thought of speed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

f32 = np.float32


@dataclass
class Parameters:
    """One set: q, DPDE, rp[w][m], cp[w][m], L, PCTENFOR, N_s."""

    q: list[int]
    dpde: list[float]
    rp: NDArray[np.float32]
    cp: NDArray[np.float32]
    L: int
    n_for: int
    n_par: int


def smooth(O: NDArray[np.float32], RN: float) -> NDArray[np.float32]:  # noqa: E741
    """Section 5; O[c][r]."""
    S = O.copy()
    if RN < 0.1:
        return S
    ncol, nrow = O.shape
    b, V = 0.33 * RN, RN**2

    def clip(x: float, bound: float) -> float:
        return min(max(x, -bound), bound)

    for _ in range(100):
        new = S.copy()
        for c in range(ncol):
            for r in range(nrow):
                s = float(S[c, r])
                e0 = float(O[c, r]) - s
                e9 = 0.0
                if 0 < c < ncol - 1 and 0 < r < nrow - 1:
                    for i in (c - 1, c, c + 1):
                        for j in (r - 1, r, r + 1):
                            e9 += float(O[i, j]) - float(S[i, j])
                    e9 /= 9
                g1 = float(S[c, r - 1]) - s if r > 0 else 0.0
                g2 = float(S[c, r + 1]) - s if r < nrow - 1 else 0.0
                adj = f32(
                    0.25
                    * (
                        clip(e0, 1) * e0**2 / (e0**2 + 4 * V)
                        + clip(e9, b) * e9**2 / (e9**2 + 18 * V)
                        + clip(g1, b) * 4 * V / (g1**2 + 4 * V)
                        + clip(g2, b) * 4 * V / (g2**2 + 4 * V)
                    )
                )
                new[c, r] = f32(s + 0.75 * float(adj))
        S = new
        nu = (O - S).astype(np.float64)
        mask = (np.abs(O) > 0.1) | (np.abs(S) > 0.1)
        count = int(mask.sum())
        rms = math.sqrt((nu[mask] ** 2).sum() / count) if count else math.nan
        if RN - rms < 0.00001:
            break
    return S


def trap_map(
    iz: list[int], sens: NDArray[np.float32], frac: float, off: int, ncol: int, nrow: int
) -> NDArray[np.float32]:
    """Section 6; T[c][r]."""
    T = np.full((ncol, nrow), np.nan, np.float32)
    for place, nodes in zip(iz, sens, strict=True):
        c = place - off
        if not 0 <= c < ncol:
            continue
        node = [float(v) for v in nodes]
        for r in range(nrow):
            u = min(r / 512, 2.999)
            k = math.floor(u)
            z = node[k] + (node[k + 1] - node[k]) * (u - k)
            T[c, r] = f32(z * ((r + 1) / 2048) * frac)
    return T


def readout(p: list[float], T: NDArray[np.float32], P: Parameters) -> list[float]:
    """Section 7: all N_s shifts of one column."""
    p = list(p)
    n, n_t = len(p), len(P.q)
    for _ in range(P.n_par):
        p_max = max(10.0, *p)
        reached = [w for w in range(n_t) if P.q[w] <= p_max]
        w_max = reached[-1] if reached else n_t - 1
        for w in range(w_max, -1, -1):
            k, F = P.L, 0.0
            for r in range(n):
                x = p[r]
                inside = k < P.L
                if r > 0 and T[r] < T[r - 1]:
                    F *= float(T[r]) / float(T[r - 1])
                a = e = g = 0.0
                if inside:
                    k += 1
                    a = float(P.rp[w, k - 1]) * F
                if x >= P.q[w]:
                    if inside:
                        e = float(P.cp[w, k - 1]) * F
                    F = (P.dpde[w] / P.n_par) * float(T[r])
                    g = F
                    k = 0
                p[r] = x + ((a + e) - g)
    return p


def invert(
    s32: NDArray[np.float32], T: NDArray[np.float32], P: Parameters, RN: float, thr: float, fix: bool
) -> NDArray[np.float32]:
    """Section 8: one column."""
    s = [float(v) for v in s32]
    n = len(s)
    T = T.copy()
    m = s
    for _ in range(5):
        m = list(s)
        for it in range(max(P.n_for, 1)):
            t = list(m)
            m = readout(m, T, P)
            for r in range(n):
                d = m[r] - s[r]
                if it < P.n_for - 1:
                    d = d * (d * d / (d * d + RN**2))
                m[r] = t[r] - d
        if not fix or not over_subtracted(m, s, T, thr):
            break
    return np.array(m, dtype=np.float32)


def over_subtracted(m: list[float], s: list[float], T: NDArray[np.float32], thr: float) -> bool:
    """The scan of section 8; T is reduced in place."""
    found = False
    n = len(m)
    for r in range(10, n - 2):
        y = [m[i] - s[i] for i in range(n)]
        m2, y2 = m[r] + m[r + 1], (m[r] + m[r + 1]) - (s[r] + s[r + 1])
        m3 = m[r] + m[r + 1] + m[r + 2]
        y3 = m3 - (s[r] + s[r + 1] + s[r + 2])
        if (m[r] < thr and y[r] < thr) or (m2 < -12 and y2 < -12) or (m3 < -15 and y3 < -15):
            found = True
            best = r
            for i in range(r - 10, r):
                if y[i] > y[best]:
                    best = i
            for i in range(best, r + 1):
                T[i] = f32(0.75 * float(T[i]))
    return found
