"""What is minimised over logits when some answers are known to be right and others to be wrong."""

import numpy as np

from bessemer.engine.rungs.rung import Floats, softmax
from bessemer.ladder.lessons import Targets

_MOST = 0.999
"""Of p in -log(1 - p): beyond it one verdict would outweigh all others."""


def not_this(logits: Floats, targets: Targets) -> tuple[float, Floats]:
    """Return the mean loss of the rows and its gradient on the logits [n, k].

    -w log p(answer) where it is right, -w log(1 - p(answer)) where it is wrong, whose gradient is
    w p_a / (1 - p_a) (e_a - p) with p_a at most .999. Needs no propensities.
    """
    p, rows = softmax(logits), np.arange(len(logits))
    answered = p[rows, targets.answers]
    right, wrong = targets.right * targets.weights, (1 - targets.right) * targets.weights
    clipped = np.minimum(answered, _MOST)
    value = -float(right @ np.log(np.maximum(answered, 1e-300)) + wrong @ np.log1p(-clipped))
    pull = right - wrong * clipped / (1 - clipped)
    gradient = pull[:, None] * p
    gradient[rows, targets.answers] -= pull
    return value / len(logits), gradient / len(logits)
