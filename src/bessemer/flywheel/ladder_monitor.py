"""How the route that a ladder proposes is watched."""

import msgspec
import numpy as np

from bessemer.core.routes import Monitor
from bessemer.evals.guarantee import CurvePoint
from bessemer.evals.outcomes import NEVER, Outcomes, answered_by
from bessemer.flywheel.ladder_outcome import LadderPlan

_MOST_ALPHA = 0.95
"""Loss of a rung above which nothing is left to be watched."""


def monitor_of(plan: LadderPlan, items: Outcomes, chosen: CurvePoint) -> Monitor | None:
    """Return how the route is watched: by how often its rungs' answers may be wrong while the promise is kept.

    A loss of alpha in all is alpha / share on the items that rungs answer, on top of what the incumbent gets wrong
    there. No rung is held to less than it was seen to keep, two standard errors added.
    """
    who = answered_by(items.confidence, [NEVER if one is None else one for one in chosen.thresholds])
    accepted = who < items.rungs
    if not accepted.any():
        return None
    by_incumbent = items.quality[accepted, -1]
    known = by_incumbent[np.isfinite(by_incumbent)]
    missed = 1.0 - float(known.mean()) if len(known) else 0.0
    bounds = [missed + plan.request.alpha / float(accepted.mean())]
    for rung in range(items.rungs):
        own = items.quality[who == rung, rung]
        own = 1.0 - own[np.isfinite(own)]
        if len(own):
            wrong = (float(own.sum()) + 1.0) / (len(own) + 2.0)
            bounds.append(wrong + 2.0 * float(np.sqrt(wrong * (1.0 - wrong) / len(own))))
    return Monitor(alpha=min(max(bounds), _MOST_ALPHA), **msgspec.structs.asdict(plan.monitor))
