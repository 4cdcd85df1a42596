"""Softmax regression on sparse or dense rows by L-BFGS."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from bessemer.engine.rungs.rung import Floats
from bessemer.evals.verdict_losses import LossAndGradient, not_this
from bessemer.ladder.lessons import Targets

_CORRECTIONS = 6
"""Pairs that L-BFGS remembers: each is as large as the weights."""
_SIDES = np.array([[-0.5, 0.5]])
"""Two labels are one column of log-odds, half for one and half against the other: the minimum is the same."""
Weights = tuple[Floats, Floats]
"""Weights [columns, k] and intercept [k]."""
LogitLoss = Callable[[Floats], LossAndGradient]
"""Of logits [n, k]."""


def fit_softmax(
    x: csr_matrix | Floats,
    targets: Targets,
    labels: int,
    *,
    c: float,
    start: Weights | None = None,
    iterations: int = 40,
    tolerance: float = 1e-6,
    loss: LogitLoss | None = None,
) -> Weights:
    """Return the weights that minimise the mean loss + |weights|^2 / (2 c n); `loss`: another one than of the targets.

    With labels alone this is scikit-learn's LogisticRegression(C=c). `start`: weights to go on from. `tolerance`: of
    the loss, relative; a sum over rows is in float32, which is what the weights are kept in.
    """
    n, columns = x.shape
    if labels == 1:
        return np.zeros((columns, 1)), np.zeros(1)
    two = labels == 2
    begin = np.zeros((columns + 1, labels))
    if start is not None:
        begin[:-1], begin[-1] = start
    else:
        shares = np.bincount(targets.answers, targets.weights * targets.right, labels) + 1.0
        begin[-1] = np.log(shares / shares.sum())
    if two:
        begin = begin @ (2 * _SIDES.T)
    rows: Any = x.astype(np.float32)
    turned: Any = rows.T.tocsr() if isinstance(x, csr_matrix) else rows.T
    scale = (0.5 if two else 1.0) / (c * n)

    def objective(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(begin.shape)
        logits = (rows @ weights[:-1].astype(np.float32)).astype(np.float64) + weights[-1]
        shown = logits @ _SIDES if two else logits
        value, pull = not_this(shown, *targets) if loss is None else loss(shown)
        pull = pull @ _SIDES.T if two else pull
        gradient = np.empty_like(weights)
        gradient[:-1] = turned @ pull.astype(np.float32)
        gradient[:-1] += scale * weights[:-1]
        gradient[-1] = pull.sum(axis=0)
        return value + scale / 2 * float(np.vdot(weights[:-1], weights[:-1])), gradient.ravel()

    options = {"maxiter": iterations, "maxcor": _CORRECTIONS, "gtol": 1e-7, "ftol": tolerance}
    found = minimize(objective, begin.ravel(), jac=True, method="L-BFGS-B", options=options)
    weights = found.x.reshape(begin.shape)
    weights = weights @ _SIDES if two else weights
    return weights[:-1], weights[-1]
