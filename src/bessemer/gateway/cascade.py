"""The pure parts of a route: weighted draws, confidence from log-probabilities, calibration, the accept rule."""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bessemer.core.errors import InvalidRequest
from bessemer.core.feedback import Asked, Stream
from bessemer.core.inferences import ModelCall
from bessemer.core.routes import Calibration, ConfidenceScore, Target
from bessemer.gateway.fields import mean_probability


class Draw(NamedTuple):
    """The target that the router drew, and with what probability it draws it."""

    target: Target
    propensity: float


def draw(targets: Sequence[Target], inference_id: str, step: int) -> Draw:
    """Draw one target by weight, seeded by the inference id, so that the draw can be made again from the record.

    Propensities are weight / sum of weights. Raises InvalidRequest for no target, negative or all-zero weights.
    """
    weights = [target.weight for target in targets]
    total = math.fsum(weights)
    if not targets or min(weights) < 0 or not 0 < total < math.inf:
        raise InvalidRequest("A step needs targets with weights of at least 0 and a positive sum.", param="targets")
    digest = hashlib.sha256(f"{inference_id}:{step}".encode()).digest()
    point = int.from_bytes(digest[:7], "big") / 2**56 * total
    reached = 0.0
    for target in targets:
        reached += target.weight
        if point < reached:
            return Draw(target, target.weight / total)
    last = next(target for target in reversed(targets) if target.weight > 0)
    return Draw(last, last.weight / total)


def audited(inference_id: str, share: float, salt: str = "audit") -> Asked | None:
    """Draw a request for the audit with P = share, the same again for the same id; None: not drawn.

    Raises ValueError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"the audited share is a probability above 0, not {share:g}")
    digest = hashlib.sha256(f"{salt}:{inference_id}".encode()).digest()
    return Asked(Stream.AUDIT, share) if int.from_bytes(digest[:7], "big") / 2**56 < share else None


def _choice_margin(call: ModelCall) -> float | None:
    values = sorted((call.choice_logprobs or {}).values(), reverse=True)
    return values[0] - values[1] if len(values) > 1 else None


def _decided(call: ModelCall) -> list[float]:
    return [token.logprob for token in call.token_logprobs if not token.forced]


def _mean(call: ModelCall) -> float | None:
    values = _decided(call)
    return math.fsum(values) / len(values) if values else None


def _minimum(call: ModelCall) -> float | None:
    return min(_decided(call), default=None)


def _sum(call: ModelCall) -> float | None:
    values = _decided(call)
    return math.fsum(values) if values else None


def _fields(call: ModelCall) -> float | None:
    return mean_probability(call.token_logprobs)


def _top(call: ModelCall) -> float | None:
    values = (call.choice_logprobs or {}).values()
    return math.exp(max(values)) if values else None


SCORES: Mapping[ConfidenceScore, Callable[[ModelCall], float | None]] = {
    ConfidenceScore.CHOICE_MARGIN: _choice_margin,
    ConfidenceScore.MEAN_LOGPROB: _mean,
    ConfidenceScore.MIN_LOGPROB: _minimum,
    ConfidenceScore.SUM_LOGPROB: _sum,
    ConfidenceScore.FIELD_PROBABILITY: _fields,
    ConfidenceScore.TOP_PROBABILITY: _top,
}


def raw_score(name: ConfidenceScore, call: ModelCall) -> float | None:
    """Return a call's raw confidence score; None when the call lacks what the score is made of."""
    value = SCORES[name](call)
    return value if value is not None and math.isfinite(value) else None


def calibrated(calibration: Calibration, score: float) -> float:
    """Map a raw score to P(correct): linear between the calibration's points, constant outside them."""
    x, y = calibration.x, calibration.y
    if not x or len(x) != len(y):
        raise InvalidRequest("A calibration needs as many `y` as `x`, at least one.", param="calibration")
    right = bisect_right(x, score)
    if right == 0:
        return y[0]
    if right == len(x):
        return y[-1]
    left = right - 1
    share = (score - x[left]) / (x[right] - x[left])
    return y[left] + share * (y[right] - y[left])


def doubt(calibration: Calibration, score: float) -> float | None:
    """Return how far the calibration items leave P(correct) open at a raw score (p1 − p0); None: not known."""
    if calibration.venn_abers is None:
        return None
    low, high = calibration.venn_abers.at(score)
    return high - low


def accepts(threshold: float | None, confidence: float | None) -> bool:
    """Say whether a step's answer is taken: always without a threshold, never with an unknown confidence."""
    if threshold is None:
        return True
    return confidence is not None and confidence >= threshold
