"""Which requests to label next, so that the rungs of a route learn most of each label.

A request is worth P(it would be handed over) x the cost that learning it saves x how much of the traffic is like it;
of those that are alike one is asked about, the one that is worth most (Dagan & Engelson 1995 for the disagreement of
rungs; ladder of clusters as in batch-mode active learning).
"""

import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from bessemer.core.content import canonical_json
from bessemer.core.inferences import Inference, ModelCall
from bessemer.core.routes import Route
from bessemer.core.totals import total
from bessemer.core.wire import WantedFeedback
from bessemer.engine.rungs.items import item_of
from bessemer.engine.rungs.rung import text_of
from bessemer.evals.asking import disagreement, queries, query_score
from bessemer.feedback.datasets import wanted as asked_before
from bessemer.flywheel.services import FlywheelServices
from bessemer.store import feedback, inferences

Array = npt.NDArray[np.float32]
_RECENT: Final = 2_000
"""Requests that are looked at, the latest: their likenesses are a matrix."""
_COLUMNS: Final = 512
_ALIKE: Final = 0.5
"""Cosine of hashed words from which on two requests are alike."""


def wanted_of(services: FlywheelServices, name: str, limit: int) -> list[WantedFeedback]:
    """Return the requests of a route that are worth a label, the best first. Raises NotFound. Blocking."""
    route = services.catalog.route(name)
    recent = inferences.find(services.database, route=name, limit=_RECENT)
    judged = feedback.for_inferences(services.database, [one.id for one in recent])
    asked = asked_before(services.database)
    rows = [
        one
        for one in recent
        if not (one.made_by_bessemer or one.error or one.output is None or one.asked or one.id in judged)
        and one.id not in asked
    ]
    if not rows:
        return []
    near = _likeness(rows)
    clusters = _clusters(near)
    density = np.clip(near.mean(axis=1), 0.0, 1.0)
    costs = _saved(rows, len(route.steps) - 1)
    scores = query_score([_handed_over(one, route) for one in rows], costs, density)
    return [
        WantedFeedback(
            inference_id=rows[place].id,
            output=rows[place].output,
            score=float(scores[place]),
            confidence=_confidence(rows[place]),
            alike=int((clusters == clusters[place]).sum()),
        )
        for place in queries(scores, clusters, limit)
    ]


def _calls(one: Inference) -> list[ModelCall]:
    return [call for call in one.calls if call.error is None]


def _confidence(one: Inference) -> float | None:
    return next((call.confidence for call in _calls(one) if call.confidence is not None), None)


def _handed_over(one: Inference, route: Route) -> float:
    """Return how likely it is that such a request is handed over: by nearness to a threshold, or by disagreement.

    1 where no rung has been asked: then whoever answers now is who would be saved.
    """
    sure = _confidence(one)
    thresholds = [step.threshold for step in route.steps if step.threshold is not None]
    if sure is None or not thresholds:
        return 1.0
    threshold = thresholds[0]
    near = 1.0 - min(1.0, abs(sure - threshold) / max(threshold, 1.0 - threshold))
    said = {text: place for place, text in enumerate({call.output for call in _calls(one)})}
    votes = float(disagreement([[said[call.output] for call in _calls(one)]])[0])
    return max(near, votes)


def _saved(rows: Sequence[Inference], last: int) -> list[float]:
    """Return the cost of the last step of each request, the mean where it was not asked; 1 where none is known."""
    spent = [total([call.cost_usd for call in _calls(one) if call.step == last]) for one in rows]
    asked = [any(call.step == last for call in _calls(one)) for one in rows]
    known = [usd for usd, was in zip(spent, asked, strict=True) if was and usd]
    if not known:
        return [1.0] * len(rows)
    mean = sum(known) / len(known)
    return [usd if was and usd else mean for usd, was in zip(spent, asked, strict=True)]


def _likeness(rows: Sequence[Inference]) -> Array:
    """Return the cosines [n, n] of counts of hashed words, each weighted by how few requests have it."""
    counts = np.zeros((len(rows), _COLUMNS), np.float32)
    for place, one in enumerate(rows):
        text = text_of(item_of(one.input, one.messages)) or canonical_json(one.messages).decode()
        for word in text.lower().split():
            counts[place, zlib.crc32(word.encode()) % _COLUMNS] += 1.0
    rare = np.log((1 + len(rows)) / (1 + (counts > 0).sum(axis=0))) + 1
    counts *= rare.astype(np.float32)
    lengths = np.sqrt((counts * counts).sum(axis=1, keepdims=True))
    counts /= np.where(lengths > 0, lengths, 1.0)
    return np.asarray(counts @ counts.T)


def _clusters(near: Array) -> npt.NDArray[np.intp]:
    """Return the cluster of each request: that of the first one that it is alike, else its own."""
    found = np.full(len(near), -1, np.intp)
    for place in range(len(near)):
        if found[place] < 0:
            found[(found < 0) & (near[place] >= _ALIKE)] = place
            found[place] = place
    return found
