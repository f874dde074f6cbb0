"""Where exposures lie on the sky, from the linear WCS of their raw headers: enough to plan with.

Distortion moves corners by some tens of pixels, and the headers of HST are off by up to an arcsecond or two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from batch.model.observation import Exposure

Sky = tuple[float, float]
"""Right ascension and declination, deg."""
Plane = tuple[float, float]

GAP = 50
"""Pixels between WFC's chips."""
_POINTS = 24
"""Points each way that stand for an area."""
_QUARTER = 0.2
"""Where the middle of an exposure lies on another one of its size, a quarter of it does or nearly so."""


def outline(exposure: Exposure) -> tuple[Sky, ...]:
    """The four corners of an exposure, all of its chips together; empty where its header does not tell."""
    if not exposure.wcs or min(exposure.shape) < 1:
        return ()
    ra, dec, x0, y0, a, b, c, d = exposure.wcs
    rows, columns = exposure.shape
    # the first chip of a file, WFC2, is the lower one
    height = rows * exposure.chips + GAP * (exposure.chips - 1)
    corners = ((0, 0), (columns, 0), (columns, height), (0, height))
    offsets = ((x + 0.5 - x0, y + 0.5 - y0) for x, y in corners)
    return tuple(from_plane((ra, dec), (a * x + b * y, c * x + d * y)) for x, y in offsets)


def to_plane(centre: Sky, sky: Sky) -> Plane | None:
    """Gnomonic projection about `centre`, deg; None for the other half of the sky."""
    ra, dec, ra0, dec0 = (math.radians(v) for v in (*sky, *centre))
    depth = math.sin(dec0) * math.sin(dec) + math.cos(dec0) * math.cos(dec) * math.cos(ra - ra0)
    if depth <= 1e-6:
        return None
    xi = math.cos(dec) * math.sin(ra - ra0) / depth
    eta = (math.cos(dec0) * math.sin(dec) - math.sin(dec0) * math.cos(dec) * math.cos(ra - ra0)) / depth
    return math.degrees(xi), math.degrees(eta)


def from_plane(centre: Sky, plane: Plane) -> Sky:
    """The inverse of `to_plane`."""
    ra0, dec0, xi, eta = (math.radians(v) for v in (*centre, *plane))
    across = math.cos(dec0) - eta * math.sin(dec0)
    ra = ra0 + math.atan2(xi, across)
    dec = math.atan2(math.sin(dec0) + eta * math.cos(dec0), math.hypot(xi, across))
    return math.degrees(ra) % 360, math.degrees(dec)


@dataclass(frozen=True)
class Frame:
    """What exposures cover together, with the sides of a mosaic as axes, deg."""

    quads: tuple[tuple[Plane, ...], ...]
    """Corners of each exposure: to the west of the frame's left side, and above its lower one."""
    width: float
    height: float

    def holds(self, points: Sequence[Plane], margin: float) -> bool:
        """Whether each of the points lies in an exposure, or within `margin` of one."""
        return all(any(_inside(p, quad, margin) for quad in self.quads) for p in points)


def frame(exposures: Sequence[Exposure], rotation: float = 0.0) -> Frame | None:
    """Lay the mosaic's frame around exposures; None where it is not known of all where they are.

    Parameters
    ----------
    exposures : sequence of Exposure
    rotation : float
        Position angle of the y axis, deg.
    """
    outlines = [outline(e) for e in exposures]
    if not outlines or not all(outlines):
        return None
    centre = outlines[0][0]
    angle = math.radians(rotation)
    turned = []
    for corners in outlines:
        points = [p for sky in corners if (p := to_plane(centre, sky)) is not None]
        if len(points) < len(corners):
            return None
        turned.append(
            [
                (y * math.sin(angle) - x * math.cos(angle), x * math.sin(angle) + y * math.cos(angle))
                for x, y in points
            ]
        )
    columns, rows = ([p[axis] for quad in turned for p in quad] for axis in (0, 1))
    left, bottom = min(columns), min(rows)
    quads = tuple(tuple((x - left, y - bottom) for x, y in quad) for quad in turned)
    return Frame(quads, max(columns) - left, max(rows) - bottom)


def apart(exposures: Sequence[Exposure], margin: float, least: float) -> tuple[str, ...]:
    """Names of the exposures that no chain of overlaps connects with the largest group of the others.

    Parameters
    ----------
    exposures : sequence of Exposure
        Those that do not tell where they point are left out.
    margin : float
        How far positions may be off, deg.
    least : float
        Part of an exposure's area that has to lie on another one.
    """
    known = [(e.rootname, corners) for e in exposures if (corners := outline(e))]
    groups: list[set[int]] = []
    for i, (_, corners) in enumerate(known):
        joined = {i}
        rest = []
        for group in groups:
            if any(_overlap(corners, known[j][1], margin, least) for j in group):
                joined |= group
            else:
                rest.append(group)
        groups = [*rest, joined]
    largest = max(groups, key=lambda g: (len(g), -min(g)), default=set())
    return tuple(name for i, (name, _) in enumerate(known) if i not in largest)


def _overlap(one: tuple[Sky, ...], other: tuple[Sky, ...], margin: float, least: float) -> bool:
    """Whether one of them covers that part of the other."""
    return any(_covers(a, b, margin, least) for a, b in ((one, other), (other, one)))


def _covers(one: tuple[Sky, ...], other: tuple[Sky, ...], margin: float, least: float) -> bool:
    """Whether `one` covers that part of `other`, by points spread over it."""
    area, mine = ([to_plane(one[0], sky) for sky in corners] for corners in (one, other))
    known = [p for p in area if p is not None]
    corners = [p for p in mine if p is not None]
    if len(known) < len(area) or len(corners) < len(mine):
        return False
    middle, centre = _middle(corners), _middle(known)
    reach = sum(math.dist(m, quad[0]) for m, quad in ((middle, corners), (centre, known)))
    # twice, for the corners of a rhomb are not equally far from its middle
    if math.dist(middle, centre) > 2 * reach + margin:
        return False
    if least <= _QUARTER and _inside(middle, known, 0.0):
        return True
    a, b, c, d = corners
    steps = [(i + 0.5) / _POINTS for i in range(_POINTS)]
    inside = 0
    for u in steps:
        for v in steps:
            # bilinear between the corners
            x, y = ((a[k] * (1 - u) + b[k] * u) * (1 - v) + (d[k] * (1 - u) + c[k] * u) * v for k in (0, 1))
            inside += _inside((x, y), known, margin)
    return inside >= least * _POINTS**2


def _middle(corners: Sequence[Plane]) -> Plane:
    return sum(x for x, _ in corners) / len(corners), sum(y for _, y in corners) / len(corners)


def _inside(point: Plane, corners: Sequence[Plane], margin: float) -> bool:
    """Whether a point lies in a convex quadrilateral, or within `margin` of its sides."""
    sides = []
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        cross = (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0)
        sides.append(cross / math.hypot(x1 - x0, y1 - y0))
    return all(s >= -margin for s in sides) or all(s <= margin for s in sides)
