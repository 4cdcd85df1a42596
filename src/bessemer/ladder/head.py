"""Fits the head on vectors of a network beside n-grams."""

from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, hstack

from bessemer.core.errors import InvalidRequest
from bessemer.engine.rungs.head import HeadKind, HeadParameters, Vectors, rows_of, texts_of
from bessemer.engine.rungs.rung import Floats, nothing, softmax, text_of
from bessemer.ladder.forms import learn_form
from bessemer.ladder.lessons import Ints
from bessemer.ladder.linear import Counted, Kept, count, keep, known_shares, strangeness, vocabulary, weighed
from bessemer.ladder.softmax import Weights, fit_softmax
from bessemer.ladder.task import Fitted, Task, scaling

MISSING = {
    HeadKind.ENCODER: "there is no sentence encoder here: it needs [local] and the encoder's files",
    HeadKind.STATES: "there is no local language model here: it needs [local] and the model's file",
}
_C = 20.0
_SCALE = {HeadKind.ENCODER: 2.0, HeadKind.STATES: 1.0}
"""Length of the vectors beside n-grams, whose blocks have length 1 (docs/decisions/028-rungs.md)."""
_ITERATIONS = 100


class _Scaled(NamedTuple):
    """Vectors as the fit weighs them: less their mean, by their spread, of about one length."""

    rows: Floats
    mean: Floats
    factor: Floats


def fit_head(network: HeadKind, task: Task) -> Fitted:
    """Fit the head on all lessons, and out of fold on each part. Raises InvalidRequest without the network."""
    source = task.networks.get(network)
    if source is None:
        raise InvalidRequest(MISSING[network], param="rungs")
    items = [one.item for one in task.lessons]
    form = learn_form(items) if network is HeadKind.ENCODER else None
    scaled = _scaled(rows_of(source.vectors(texts_of(items, form)), form), network)
    found = count([text_of(item) if form is None else "" for item in items])
    n, k = len(items), len(task.labels)
    out_of_fold, known, distance = np.full((n, k), np.nan), nothing(n), nothing(n)
    for train, test in task.parts():
        kept = keep(found, train)
        weights, intercept = _fit(found, kept, scaled.rows, train, task)
        out_of_fold[test] = softmax(_columns(found, kept, scaled.rows, test) @ weights + intercept)
        if form is None:
            known[test], distance[test] = known_shares(found, kept, test), strangeness(found, kept, test)
    kept = keep(found, np.arange(n))
    weights, intercept = _fit(found, kept, scaled.rows, np.arange(n), task)
    scale = scaling(out_of_fold, task)
    grams = vocabulary(found, kept)
    own = weights[grams.size :] * scaled.factor[:, None]  # of the vectors as they come
    intercept = intercept - scaled.mean @ own
    return Fitted(
        kind=network.value,
        parameters=HeadParameters(network=source.name, form=form),
        arrays=grams.arrays()
        | {
            "gram_weights": (weights[: grams.size] * scale.factor).astype(np.float32),
            "weights": (own * scale.factor).astype(np.float32),
            "intercept": scale.apply(intercept.reshape(1, -1))[0],
        },
        out_of_fold=scale.probabilities(out_of_fold),
        known_share=known,
        distance=distance,
        told={"network": source.name},
    )


fit_encoder, fit_states = (partial(fit_head, network) for network in (HeadKind.ENCODER, HeadKind.STATES))


def _scaled(vectors: Vectors, network: HeadKind) -> _Scaled:
    """Return the vectors at their scale; states less their mean, by their spread: a few of their columns are large."""
    width = vectors.shape[1]
    rows = vectors.astype(np.float64)
    mean, factor = np.zeros(width), np.full(width, _SCALE[network])
    if network is HeadKind.STATES:
        mean = rows.mean(axis=0)
        factor = _SCALE[network] / (np.sqrt(width) * np.maximum(rows.std(axis=0), 1e-6))
    return _Scaled((rows - mean) * factor, mean, factor)


def _columns(found: Counted, kept: Kept, rows: Floats, places: Ints) -> csr_matrix:
    return hstack([weighed(found, kept, places), csr_matrix(rows[places])]).tocsr()


def _fit(found: Counted, kept: Kept, rows: Floats, places: Ints, task: Task) -> Weights:
    x = _columns(found, kept, rows, places)
    return fit_softmax(x, task.targets.rows(places), len(task.labels), c=_C, iterations=_ITERATIONS)
