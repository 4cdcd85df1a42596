"""Fits the rung on a static embedding."""

import numpy as np
from scipy.sparse import csr_matrix, hstack

from bessemer.core.errors import InvalidRequest
from bessemer.engine.rungs.embedding import (
    KIND,
    Embedding,
    EmbeddingParameters,
    Vectors,
    arrays_of,
    mix,
    vote,
)
from bessemer.engine.rungs.rung import Floats, nothing, softmax, text_of
from bessemer.ladder.forms import learn_form
from bessemer.ladder.lessons import Ints
from bessemer.ladder.linear import Counted, Kept, count, keep, known_shares, strangeness, vocabulary, weighed
from bessemer.ladder.softmax import Weights, fit_softmax
from bessemer.ladder.task import Fitted, Task, scaling

NO_ENCODER = (
    "there is no sentence encoder to make vectors of words from: name a folder by the setting embedding_model, or have "
    "all-MiniLM-L6-v2 brought by a grader that compares by `cosine`"
)
_C = 20.0
_SCALE = 2.0
"""What vectors of length 1 are multiplied by beside n-grams, whose blocks have length 1, too."""
_MOST_KNOWN = 10_000
"""Confirmed answers that are kept as neighbours: all of them are looked at for each request."""
_SHARES = (0.0, 0.25, 0.5, 0.75)
_UNKNOWN_SHARE = 0.0
"""Of the vote, where too few labels are known to choose it."""


def fit_embedding(task: Task) -> Fitted:
    """Fit the head, keep the confirmed answers, and choose how both are mixed by out-of-fold predictions.

    Raises InvalidRequest when the task has no vectors of words.
    """
    static = task.static
    if static is None:
        raise InvalidRequest(NO_ENCODER, param="rungs")
    items = [one.item for one in task.lessons]
    form = learn_form(items)
    rows, _ = Embedding(static, form).vectors(items)
    found = count([text_of(item) if form is None else "" for item in items])
    n, k = len(items), len(task.labels)
    every, right = np.arange(n), np.flatnonzero(task.truth >= 0)
    heads, votes = np.full((n, k), np.nan), np.full((n, k), np.nan)
    distance, known_share = nothing(n), nothing(n)
    for train, test in task.parts():
        part = keep(found, train)
        weights, intercept = _head(found, part, rows, train, task)
        heads[test] = softmax(_columns(found, part, rows, test) @ weights + intercept)
        inside = np.intersect1d(train, right)[:_MOST_KNOWN]
        votes[test], distance[test] = vote(rows[test], rows[inside], task.truth[inside], k)
        if form is None:
            known_share[test], distance[test] = known_shares(found, part, test), strangeness(found, part, test)
    share = _share(heads, votes, task)
    mixed = mix(heads, votes, share)
    scale = scaling(mixed, task)
    kept = keep(found, every)
    weights, intercept = _head(found, kept, rows, every, task)
    weights[-rows.shape[1] :] *= _SCALE
    known = right[:: max(1, -(-len(right) // _MOST_KNOWN))]
    return Fitted(
        kind=KIND,
        parameters=EmbeddingParameters(form=form, vote=share, factor=scale.factor, shift=scale.shift),
        arrays=arrays_of(static, vocabulary(found, kept), weights, intercept, rows[known], task.truth[known]),
        out_of_fold=scale.probabilities(mixed),
        known_share=known_share,
        distance=distance,
        told={"neighbours": len(known), "vote": share},
    )


def _columns(found: Counted, kept: Kept, rows: Vectors, places: Ints) -> csr_matrix:
    """Return the n-grams and the vectors beside each other."""
    return hstack([weighed(found, kept, places), csr_matrix(rows[places].astype(np.float64) * _SCALE)]).tocsr()


def _head(found: Counted, kept: Kept, rows: Vectors, places: Ints, task: Task) -> Weights:
    x = _columns(found, kept, rows, places)
    return fit_softmax(x, task.targets.rows(places), len(task.labels), c=_C)


def _share(heads: Floats, votes: Floats, task: Task) -> float:
    """Return the share of the vote that makes the right labels likeliest out of fold."""
    rows = task.scored(heads)
    if len(rows) < 20:
        return _UNKNOWN_SHARE
    truth = task.truth[rows]

    def loss(share: float) -> float:
        p = mix(heads[rows], votes[rows], share)[np.arange(len(rows)), truth]
        return -float(task.targets.weights[rows] @ np.log(np.maximum(p, 1e-12)))

    return min(_SHARES, key=loss)
