"""Venn-Abers prediction: two probabilities of which one is right, however few the items (Vovk & Petej 2014, 1211.0025).

For a new score s the isotonic fit is made twice, with (s, wrong) and with (s, right) added: p0 and p1. Under
exchangeability one of the two is perfectly calibrated, for any n; their distance says how much the items leave open.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bessemer.core.routes import VennAbers

Array = npt.NDArray[np.float64]
_DIGITS = 6


def venn_abers(scores: Array, correct: Array, weights: Array | None = None) -> VennAbers:
    """Return p0 and p1 as step functions of the score, from n >= 1 items.

    The isotonic value at the added item is the slope of the greatest convex minorant of the cumulative sums there: the
    bridge between the hull of the sums before it and that of the sums after it, max over the former and min over the
    latter of the slope between two points. O(n) hulls of few corners each.
    """
    w = np.ones(len(scores)) if weights is None else weights
    x, group = np.unique(scores, return_inverse=True)
    points = np.zeros((len(x) + 1, 2))
    points[1:, 0] = np.cumsum(np.bincount(group, weights=w))
    points[1:, 1] = np.cumsum(np.bincount(group, weights=w * correct))
    m = len(x)
    before, mirrored = _hulls(points), _hulls(points[::-1] * (-1.0, 1.0))
    after = [[m - place for place in mirrored[m - groups]] for groups in range(m + 1)]
    pair = np.empty((2 * m + 1, 2))
    for groups in range(m + 1):
        left = points[before[groups]]
        pair[2 * groups] = [_bridge(left, points[after[groups]], label) for label in (0.0, 1.0)]
        if groups < m:
            pair[2 * groups + 1] = [_bridge(left, points[after[groups + 1]], label) for label in (0.0, 1.0)]
    pair = pair.round(_DIGITS)
    changes = (pair[1::2] != pair[0:-1:2]).any(axis=1) | (pair[2::2] != pair[0:-1:2]).any(axis=1)
    kept = np.concatenate([[0], *([2 * place + 1, 2 * place + 2] for place in np.flatnonzero(changes))]).astype(np.intp)
    return VennAbers(x=tuple(x[changes].tolist()), p0=tuple(pair[kept, 0].tolist()), p1=tuple(pair[kept, 1].tolist()))


def _bridge(left: Array, right: Array, label: float) -> float:
    """Return the slope of the inserted item: points on its right are moved by (1, label)."""
    run = right[None, :, 0] + 1.0 - left[:, None, 0]
    rise = right[None, :, 1] + label - left[:, None, 1]
    return float((rise / run).min(axis=1).max())


def _hulls(points: Array) -> list[list[int]]:
    """Return, for each k, the places of the corners of the lower convex hull of points 0..k (Andrew's chain)."""
    hull: list[int] = []
    found: list[list[int]] = []
    listed: Sequence[Sequence[float]] = points.tolist()
    for place, (x, y) in enumerate(listed):
        while len(hull) > 1:
            (a, b), (c, d) = listed[hull[-2]], listed[hull[-1]]
            if (c - a) * (y - b) > (d - b) * (x - a):
                break
            hull.pop()
        hull.append(place)
        found.append(list(hull))
    return found
