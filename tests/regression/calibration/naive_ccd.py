"""The specification of the CCD steps read literally: one pixel at a time, no thought for speed.

float32 values are NumPy scalars, so that every operation is rounded as the specification asks.
"""

from __future__ import annotations

import math

import numpy as np

f32 = np.float32
ONE = f32(1)


def subtract(sci, err, dq, ref, ref_err, ref_dq, factor=ONE):
    """Sections 4.5 and 6.1: SCI - k s, ERR in quadrature, DQ or."""
    sci, err, dq = sci.copy(), err.copy(), dq.copy()
    for p in np.ndindex(sci.shape):
        s, e = factor * ref[p], factor * ref_err[p]
        sci[p] = sci[p] - s
        err[p] = np.sqrt(err[p] * err[p] + e * e)
        dq[p] = dq[p] | ref_dq[p]
    return sci, err, dq


def good_sums(ref, ref_dq, factor, bits):
    """Sections 6.1 and 6.2: float64 sum and number of the reference's good pixels, row by row."""
    sums, counts = [], []
    for row, flags in zip(ref, ref_dq, strict=True):
        total, count = 0.0, 0
        for value, flag in zip(row, flags, strict=True):
            if int(flag) & int(bits) == 0:
                total += float(factor * value)
                count += 1
        sums.append(total)
        counts.append(count)
    return np.array(sums), np.array(counts)


def divide(sci, err, dq, ref, ref_err, ref_dq):
    """Section 6: divide where the reference is not 0, else bit 512."""
    sci, err, dq = sci.copy(), err.copy(), dq.copy()
    for p in np.ndindex(sci.shape):
        s, e = ref[p], ref_err[p]
        if s != 0:
            a = err[p] / s
            b = ((e * sci[p]) / s) / s
            sci[p] = sci[p] / s
            err[p] = np.sqrt(a * a + b * b)
        else:
            dq[p] |= 512
        dq[p] |= ref_dq[p]
    return sci, err, dq


def slot(y, x, split_x, split_y):
    """Section 4.1: 0 top left, 1 top right, 2 bottom left, 3 bottom right."""
    return (0 if y >= split_y else 2) + (1 if x >= split_x else 0)


def multiply_quadrants(image, split_x, split_y, values):
    """Section 4.6."""
    out = image.copy()
    for y, x in np.ndindex(image.shape):
        out[y, x] = image[y, x] * values[slot(y, x, split_x, split_y)]
    return out


def initial_error(err, sci, split_x, split_y, noise):
    """Section 4.10."""
    out = err.copy()
    for y, x in np.ndindex(err.shape):
        rn = noise[slot(y, x, split_x, split_y)]
        signal = sci[y, x] if sci[y, x] > 0 else f32(0)
        out[y, x] = np.sqrt((signal + rn * rn) + err[y, x] * err[y, x])
    return out


def flag_runs(dq, runs):
    """Section 4.3: runs of (x, y, length, axis, value)."""
    out = dq.copy()
    ny, nx = dq.shape
    for x, y, length, axis, value in runs:
        for k in range(length):
            px, py = (x + k, y) if axis == 1 else (x, y + k)
            if 0 <= px < nx and 0 <= py < ny:
                out[py, px] |= value
    return out


def flag_sinks(dq, sci, sink, upwards):
    """Section 4.11, column by column."""
    out = dq.copy()
    ny, nx = dq.shape
    for x in range(nx):
        active, c = False, f32(0)
        for y in range(ny) if upwards else range(ny - 1, -1, -1):
            k = sink[y, x]
            if k < 0:
                active = True
                if k < -1:
                    c = sci[y, x]
                out[y, x] |= 1024
            elif k > 0 and active:
                if k > c:
                    out[y, x] |= 1024
                else:
                    active = False
            elif k == 0:
                active = False
    return out


def statistics(sci, err, dq, bits):
    """Section 6.6: number, then (minimum, maximum, float64 sum) of SCI, SCI/ERR and ERR."""
    good = [
        (s, s / e, e) for s, e, q in zip(sci.flat, err.flat, dq.flat, strict=True) if not q & bits and e > 0
    ]
    if not good:
        return [0] + [0] * 9
    result = [len(good)]
    for values in zip(*good, strict=True):
        total = 0.0
        for value in values:
            total += float(value)
        result += [min(values), max(values), total]
    return result


def subtract_level(sci, area, middle, slope, level, drift, origin):
    """Section 4.7.1 (g)."""
    out = sci.copy()
    y0, y1, x0, x1 = area
    for row in range(y0, y1):
        for column in range(x0, x1):
            line = (row - middle) * slope + level
            along = (column - origin) * drift
            out[row, column] = f32((float(sci[row, column]) - line) - along)
    return out


def overscan_line(levels, used, noise, middle, default):
    """Section 4.7.1 (e) and (f): slope and intercept from the row levels."""
    rows = [j for j, good in enumerate(used) if good]

    def mean(values):
        total = 0.0
        for value in values:
            total += value
        return total / len(values)

    if rows:
        m = mean([levels[j] for j in rows])
        squares = [(levels[j] - m) * (levels[j] - m) for j in rows]
        s = math.sqrt(mean(squares) * len(rows) / (len(rows) - 1)) if len(rows) > 1 else 0.0
        if m >= 0 and s > math.sqrt(m):
            s = math.sqrt(m)
        rows = [j for j in rows if not levels[j] > abs(int(3 * s + m))]
    if rows:
        m = mean([levels[j] for j in rows])
        rows = [j for j in rows if not levels[j] > abs(int(float(f32(3) * f32(noise)) + m))]
    if not rows:
        return 0.0, default
    n = len(rows)
    x = [float(j - middle) for j in rows]
    v = [levels[j] for j in rows]
    denominator = mean([a * a for a in x]) * n - (mean(x) * n) ** 2 / n
    if abs(denominator) < 1.175e-38:
        return 0.0, default
    slope = (mean([a * b for a, b in zip(x, v, strict=True)]) * n - mean(x) * mean(v) * n) / denominator
    return slope, mean(v) - slope * mean(x)


def remove_bias_shift(view, gap, fill, q, r, sens):
    """Section 4.7.2 (2) to (4): the whole readout as one sequence."""
    rows, columns = view.shape
    sequence = []
    for row in view:
        sequence += [float(value) for value in row] + [fill] * gap
    b = [fill * r]
    for d in sequence:
        b.append(d * q * r + (1 - q) * b[-1])
    corrected = [(d - sens * b[j + 1]) - (10 / 22) * (b[j + 1] - b[j]) for j, d in enumerate(sequence)]
    return np.array(corrected).reshape(rows, columns + gap)[:, :columns]


def remove_crosstalk(sci):
    """Section 4.7.3."""
    out = sci.copy()
    for row in out:
        for j in range(len(row)):
            row[j] = f32(row[j] + f32(float(row[len(row) - 1 - j]) * 9.1e-5))
    return out


def remove_stripes(views, gap):
    """Section 4.7.4: four amp views in float64; returns them, the levels, and the number of rows fixed."""
    views = [view.astype(np.float64) for view in views]
    rows, columns = views[0].shape
    usable = []
    for d in views:
        reference = np.array([_mean(row[12:24]) for row in d])
        p = d[:, :24] - reference[:, None]
        dim = np.array([all(value < 50000 for value in row[24:30]) for row in d])
        for j in range(24 if dim.any() else 0):
            values = p[dim, j]
            mu, s = _mean(values), _std(values)
            for _ in range(4):
                kept = values[np.abs(values - mu) <= 5 * s]
                old, mu = mu, _mean(kept)
                s = math.sqrt(_total((kept - old) ** 2) / (len(kept) - 1))
            d[:, j] -= mu
    for d in views:
        b = _mean(d[: rows - 20, :24].ravel())
        a = _mean((d[: rows - 20, 24:] - b).ravel())
        flags = [False]
        for i in range(1, rows):
            ref = _total(np.concatenate([d[i, :24], d[i - 1, :24]])) / 48
            w = _mean(d[i, 24:] - ref)
            flags.append(abs(int(w - a)) <= 100 and not any(value > 70000 for value in d[i, 24:30]))
        usable.append(np.array(flags))
    levels = []
    for d, rows_used in zip(views, usable, strict=True):
        values = d[rows_used, :24].T.ravel()
        before = len(values)
        for number in range(11):
            if len(values) == 0:
                break
            mu = _mean(values)
            q = _mean(np.abs(values - mu))
            values = values[~(np.abs(values - mu) > 6 * q)]
            if number >= 5 and len(values) == before:
                break
            before = len(values)
        levels.append(_mean(values) if len(values) else 0.0)
        d -= levels[-1]
    stripe, fixed = np.zeros(rows), 0
    for i in range(rows):
        means = []
        for d, rows_used in zip(views, usable, strict=True):
            if rows_used[i] and _std(d[i, :24]) < 15:
                means.append(_mean(d[i, :24]))
        if len(means) >= 2:
            stripe[i] = _mean(means)
            fixed += 1
    for d in views:
        for i in range(rows):
            for j in range(columns):
                place = i + (j - 11.5) / (columns + gap)
                low = min(max(math.floor(place), 0), rows - 2)
                d[i, j] -= stripe[low] + (place - low) * (stripe[low + 1] - stripe[low])
    return [d.astype(np.float32) for d in views], levels, fixed


def _total(values):
    total = 0.0
    for value in values:
        total += value
    return total


def _mean(values):
    return _total(values) / len(values)


def _std(values):
    mean = _mean(values)
    return math.sqrt(_total([(value - mean) * (value - mean) for value in values]) / (len(values) - 1))


def sky_mode(sci, dq, first_sci, first_dq, bad):
    """Section 7, sky: the mode of one image, with the range of the first."""
    values = [v for v, q in zip(first_sci.flat, first_dq.flat, strict=True) if not q & bad]
    low = max(int(min(values)), -15000)
    total = f32(0)
    for value in values:
        total = total + value
    mean = int(total / f32(len(values)) + f32(1)) if total > 0 else 1
    bins, width = 2 * mean - low - low + 1, f32(1)
    bins = max(bins, 1000)
    if bins > 10000:
        width, bins = f32(bins) / f32(10000), 10000
    counts = [0] * bins
    for v, q in zip(sci.flat, dq.flat, strict=True):
        h = int((v - f32(low)) / width)
        if q == 0 and 0 <= h < bins:
            counts[h] += 1
    p = counts.index(max(counts))
    place = f32(p + 0.5)
    if 0 < p < bins - 1:
        d1, d2 = f32(counts[p] - counts[p - 1]), f32(counts[p] - counts[p + 1])
        if d1 + d2 != 0:
            place = place + f32(0.5) * (d1 - d2) / (d1 + d2)
    return f32(f32(low) + place * width)


def reject(sci, err, dq, sky, times, sigmas, scale, threshold, radius, bad, median, calibration=False):
    """Section 7: combined SCI (without its sky), ERR, DQ and the rejected pixels of each image."""
    images, ny, nx = sci.shape
    v = np.zeros_like(sci)
    for n in range(images):
        if times[n]:
            v[n] = (sci[n] - sky[n]) / times[n]
    exposed = [n for n in range(images) if times[n]]
    a = np.zeros((ny, nx), f32)
    for y, x in np.ndindex(ny, nx):
        a[y, x] = _guess([(v[n, y, x], not dq[n, y, x] & bad) for n in exposed], median)
    pattern = bad & ~4 if calibration else bad
    rejects = 2 | 8 if calibration else 2 | 4 | 8
    w = math.ceil(radius)
    for number, sigma in enumerate(sigmas):
        last = number == len(sigmas) - 1
        start = a.copy()
        mask = dq.copy()
        out = np.zeros((ny, nx), np.int16)
        total, texp, var = (np.zeros((ny, nx), f32) for _ in range(3))
        hit = np.zeros(sci.shape, bool)
        for y in range(ny):
            seen = np.zeros(nx, np.int64)
            everywhere = np.ones(nx, bool)
            for n in exposed:
                t = times[n]
                for x in range(nx):
                    seen[x] = (seen[x] | int(mask[n, y, x])) & ~(8192 | 2)
                    if mask[n, y, x] & pattern and mask[n, y, x] != 2:
                        mask[n, y, x] = 4
                for x in range(nx):
                    noise = scale * max(start[y, x] * t, f32(0))
                    limit = sigma * sigma * (err[n, y, x] * err[n, y, x] + noise * noise) / (t * t)
                    off = v[n, y, x] - start[y, x]
                    if not off * off > limit or mask[n, y, x] == 4:
                        continue
                    mask[n, y, x] = 8
                    for j in range(max(y - w, 0), min(y + w, ny - 1) + 1):
                        for i in range(max(x - w, 0), min(x + w, nx - 1) + 1):
                            if f32(i - x) ** 2 + f32(j - y) ** 2 > radius * radius:
                                continue
                            near = v[n, j, i] - start[j, i]
                            spill = sigma * sigma * (err[n, j, i] * err[n, j, i]) / (t * t)
                            far = threshold <= 0 or near * near > threshold * threshold * spill
                            if far and mask[n, j, i] != 8 and j >= y:
                                mask[n, j, i] = 2
                for x in range(nx):
                    hit[n, y, x] = mask[n, y, x] in (2, 8)
                    everywhere[x] &= hit[n, y, x]
                    if not mask[n, y, x] & rejects:
                        total[y, x] += v[n, y, x] * t
                        texp[y, x] += t
                        var[y, x] += err[n, y, x] * err[n, y, x]
            for x in range(nx):
                out[y, x] = np.int64(seen[x] | (8192 if everywhere[x] else 0)).astype(np.int16)
                if texp[y, x] > 0:
                    a[y, x] = total[y, x] / texp[y, x]
                elif last:
                    a[y, x] = 0
    whole = f32(0)
    for t in times:
        whole = whole + t
    error = np.zeros((ny, nx), f32)
    for p in np.ndindex(ny, nx):
        if texp[p] > 0:
            error[p] = f32(float(f32(whole / texp[p])) * math.sqrt(float(var[p])))
    error[0, 0] = -1
    return a * whole, error, out, hit


def _guess(values, median):
    if median:
        good = sorted(v for v, is_good in values if is_good)
        if not good:
            return f32(0)
        middle = len(good) // 2
        return good[middle] if len(good) % 2 else (good[middle - 1] + good[middle]) / f32(2)
    value, is_good = values[0]
    current = value if is_good else f32(0)
    for value, is_good in values[1:]:
        if value < current:
            current = value if is_good else f32(0)
    return current


def expand_bilinear(image, rx, ry):
    """Section 6.4: pairs of reference rows to 2 ry rows each."""
    ny, nx = image.shape
    out = np.zeros((ny // 2 * 2 * ry, nx * rx), f32)
    for pair in range(ny // 2):
        for n in range(2 * ry):
            y0, q = _weight(n, 2, ry)
            for m in range(nx * rx):
                x0, s = _weight(m, nx, rx)
                low, high = image[2 * pair + y0], image[2 * pair + y0 + 1]
                value = ((f32(1) - q) * (f32(1) - s)) * low[x0]
                value = value + ((f32(1) - q) * s) * low[x0 + 1]
                value = value + (q * (f32(1) - s)) * high[x0]
                out[pair * 2 * ry + n, m] = value + (q * s) * high[x0 + 1]
    return out


def _weight(n, points, factor):
    a = (f32(n) - f32((factor - 1) / 2)) / f32(factor)
    i0 = min(max(int(a), 0), points - 2)
    return i0, a - f32(i0)
