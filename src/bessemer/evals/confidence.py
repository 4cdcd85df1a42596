"""From a raw confidence score to P(correct), by a map that suits the number of items, and how far it may be off.

Below 200 items: logistic regression with a prior (Platt 1999). From 200: that or beta calibration (Kull, Silva Filho &
Flach 2017); from 1,000 also centred isotonic regression: the simplest of which none is better by a standard error of
the cross-validated log loss. The first two are fitted on log-odds: a score that is a probability, or the logarithm of
one, is taken for what it says. n items never show more certainty than 1 − 1/(n + 2), Laplace's rule of succession. Of
many labels the top one is calibrated: the score is that of the answer given, whatever it is.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from bessemer.core.routes import Calibration, ConfidenceScore
from bessemer.evals.calibration import centred_isotonic
from bessemer.evals.venn_abers import venn_abers

Array = npt.NDArray[np.float64]
SMALL, LARGE = 200, 1_000
"""Numbers of items at which the choice of map changes."""
_SLOPE_SPREAD, _OFFSET_SPREAD = 0.5, 1.0
"""Standard deviations of the priors on the calibration's slopes (around 1) and offset (around 0)."""
_EXTREME = 1e-9
_KNOTS, _BEYOND, _FOLDS = 129, 2.0, 5
_LOGARITHMS = {ConfidenceScore.MEAN_LOGPROB, ConfidenceScore.MIN_LOGPROB, ConfidenceScore.SUM_LOGPROB}
MapName = Literal["isotonic", "platt", "beta"]
ConfidenceMap = Callable[[Array], Array]
"""P(correct) of raw scores."""
FitMap = Callable[[ConfidenceScore, Array, Array, Array], ConfidenceMap]


def fit_confidence(
    scores: npt.ArrayLike,
    correct: npt.ArrayLike,
    *,
    version: str,
    score: ConfidenceScore,
    dataset_sha256: str,
    weights: npt.ArrayLike | None = None,
    pair: bool = True,
) -> Calibration:
    """FitMap P(correct | score), non-decreasing, bound to the version it was measured on.

    `correct` [n] may be graded in [0, 1]; `weights` [n] say how much of the population an item stands for. Smooth maps
    are kept as knots so close that lines between them are off by less than 0.001. With `pair` the Venn-Abers pair is
    kept beside. Raises ValueError for no items, scores that are not finite or qualities outside [0, 1].
    """
    x, y, w = _checked(scores, correct, weights)
    n = len(x)
    name, fitted = _chosen(score, x, y, w)
    knots = centred_isotonic(x, y, w, succession=True)[0] if name == "isotonic" else _knots(score, x)
    least = 1.0 / (n + 2)
    return Calibration(
        version=version,
        score=score,
        dataset_sha256=dataset_sha256,
        x=tuple(knots.tolist()),
        y=tuple(np.clip(fitted(knots), least, 1.0 - least).tolist()),
        map=name,
        n=n,
        venn_abers=venn_abers(x, y, w) if pair else None,
    )


def _checked(
    scores: npt.ArrayLike, correct: npt.ArrayLike, weights: npt.ArrayLike | None
) -> tuple[Array, Array, Array]:
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    if x.shape != y.shape or x.shape != w.shape or not ((y >= 0) & (y <= 1)).all():
        raise ValueError("every score needs a quality in [0, 1] and a weight")
    kept = w > 0
    if not kept.any() or not np.isfinite(x[kept]).all():
        raise ValueError("a calibration needs at least one item, and finite scores")
    return x[kept], y[kept], w[kept] / w[kept].mean()


def _log_odds(score: ConfidenceScore, raw: Array) -> Array:
    """Return the log-odds that a raw score stands for; a margin between log-probabilities is one already."""
    if score is ConfidenceScore.CHOICE_MARGIN:
        return raw
    p = np.exp(np.minimum(raw, 0.0)) if score in _LOGARITHMS else raw
    return np.asarray(logit(np.clip(p, _EXTREME, 1.0 - _EXTREME)))


def _raw(score: ConfidenceScore, log_odds: Array) -> Array:
    if score is ConfidenceScore.CHOICE_MARGIN:
        return log_odds
    p = expit(log_odds)
    return np.asarray(np.log(p) if score in _LOGARITHMS else p)


def _chosen(score: ConfidenceScore, x: Array, y: Array, w: Array) -> tuple[MapName, ConfidenceMap]:
    """Return the name of the map, and the map of raw scores."""
    fits: dict[MapName, FitMap] = {"platt": _platt, "beta": _beta, "isotonic": _isotonic}
    names: tuple[MapName, ...] = ("platt",) if len(x) < SMALL else ("platt", "beta") if len(x) < LARGE else tuple(fits)
    best = names[0]
    losses = {name: _validated_losses(fits[name], score, x, y, w) for name in names} if len(names) > 1 else {}
    for name in names[1:]:
        saved = losses[best] - losses[name]
        if saved.mean() > saved.std() / len(x) ** 0.5:  # one standard error: of equals the simplest
            best = name
    return best, fits[best](score, x, y, w)


def _validated_losses(fit: FitMap, score: ConfidenceScore, x: Array, y: Array, w: Array) -> Array:
    """Log loss of each item by a map that was fitted without its fold."""
    fold = np.random.default_rng(0).permutation(len(x)) % _FOLDS
    found = np.empty(len(x))
    for one in range(_FOLDS):
        rest = fold != one
        p = np.clip(fit(score, x[rest], y[rest], w[rest])(x[~rest]), 1e-6, 1 - 1e-6)
        found[~rest] = -w[~rest] * (y[~rest] * np.log(p) + (1 - y[~rest]) * np.log1p(-p))
    return found


def platt(z: Array, truth: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> tuple[float, float]:
    """Return slope and offset of P(true) = sigmoid(slope * z + offset), by maximum a posteriori (Platt 1999).

    The prior says that z are log-odds already (slope 1 ± 0.5, offset 0 ± 1), which is what training on log-likelihood
    aims at: items that are few or perfectly separated cannot move the fit far. `truth` may be graded in [0, 1]. The
    slope is at least 0.05. Newton's method on a convex loss.
    """
    y = np.asarray(truth, dtype=np.float64)
    v = np.ones(len(z)) if weights is None else np.asarray(weights, dtype=np.float64)
    x = np.stack([z, np.ones_like(z)], axis=1)
    mean, precision = np.array([1.0, 0.0]), np.array([_SLOPE_SPREAD**-2, _OFFSET_SPREAD**-2])

    def loss(at: Array) -> float:
        logits = x @ at
        data = v @ (np.logaddexp(0.0, logits) - y * logits)
        return float(data + 0.5 * (precision * (at - mean) ** 2).sum())

    at = mean.copy()
    for _ in range(50):
        p = expit(x @ at)
        gradient = x.T @ (v * (p - y)) + precision * (at - mean)
        step = np.linalg.solve(x.T @ (x * (v * p * (1 - p))[:, None]) + np.diag(precision), gradient)
        size = 1.0
        while loss(at - size * step) > loss(at) and size > 1e-6:
            size /= 2
        at = at - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return max(float(at[0]), 0.05), float(at[1])


def _platt(score: ConfidenceScore, x: Array, y: Array, w: Array) -> ConfidenceMap:
    slope, offset = platt(_log_odds(score, x), y, w)
    return lambda at: np.asarray(expit(slope * _log_odds(score, at) + offset))


def _beta(score: ConfidenceScore, x: Array, y: Array, w: Array) -> ConfidenceMap:
    """P = sigmoid(a ln s − b ln(1 − s) + c) with s = sigmoid(z), a, b >= 0: each end has its own slope."""
    mean, precision = np.array([1.0, 1.0, 0.0]), np.array([_SLOPE_SPREAD**-2, _SLOPE_SPREAD**-2, _OFFSET_SPREAD**-2])

    def features(raw: Array) -> Array:
        z = _log_odds(score, raw)
        return np.stack([-np.logaddexp(0.0, -z), np.logaddexp(0.0, z), np.ones_like(z)], axis=1)

    seen = features(x)

    def loss(at: Array) -> tuple[float, Array]:
        logits = seen @ at
        value = float(w @ (np.logaddexp(0.0, logits) - y * logits) + 0.5 * (precision * (at - mean) ** 2).sum())
        return value, seen.T @ (w * (expit(logits) - y)) + precision * (at - mean)

    at = minimize(loss, mean, jac=True, method="L-BFGS-B", bounds=[(0.0, None), (0.0, None), (None, None)]).x
    return lambda other: np.asarray(expit(features(other) @ at))


def _isotonic(score: ConfidenceScore, x: Array, y: Array, w: Array) -> ConfidenceMap:
    del score
    knots = centred_isotonic(x, y, w, succession=True)
    return lambda at: np.asarray(np.interp(at, *knots))


def _knots(score: ConfidenceScore, raw: Array) -> Array:
    """Return places, evenly spread in log-odds over what was seen and a little beyond."""
    seen = _log_odds(score, raw)
    z = np.linspace(float(seen.min()) - _BEYOND, float(seen.max()) + _BEYOND, _KNOTS)
    return np.unique(_raw(score, z))
