"""Fits one kind of rung on lessons: the artefact, and what it says of each lesson as fits without it would have."""

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from bessemer.core.content import content_hash
from bessemer.core.errors import InvalidRequest
from bessemer.core.ladders import WrittenRule
from bessemer.core.types import JSON
from bessemer.engine.rungs import committee, embedding, linear, pairs, rules
from bessemer.engine.rungs.artefact import Artefact, Scope, make
from bessemer.engine.rungs.embedding import StaticEmbedding
from bessemer.engine.rungs.head import HeadKind
from bessemer.engine.rungs.kinds import MAJORITY, MEMBERS
from bessemer.engine.rungs.rung import Floats, MajorityParameters, Rung, nothing
from bessemer.ladder.committee import fit_committee
from bessemer.ladder.embedding import NO_ENCODER, fit_embedding
from bessemer.ladder.groups import grouped
from bessemer.ladder.head import MISSING, fit_encoder, fit_states
from bessemer.ladder.lessons import Ints, Lesson
from bessemer.ladder.linear import fit_linear
from bessemer.ladder.pairs import fit_pairs, suits_pairs
from bessemer.ladder.rules import fit_rules
from bessemer.ladder.task import Fitted, FittedMember, Task, VectorSource

_FAMILIAR = 0.005
"""Share of the training inputs that the scope's thresholds would hand over."""


class RungFit(NamedTuple):
    """A fitted rung."""

    artefact: Artefact
    out_of_fold: Floats
    """[n, k]: probabilities of the lessons that count, by fits that saw nothing of their group; NaN: none was made."""
    truth: Ints
    """[n]: the place of the right label, -1 where it is not known."""
    seconds: float


def _fit_majority(task: Task) -> Fitted:
    right = task.truth >= 0
    shares = np.bincount(task.truth[right], task.targets.weights[right], len(task.labels)) + 1.0
    shares /= shares.sum()
    n = len(task.lessons)
    return Fitted(MAJORITY, MajorityParameters(), {"shares": shares}, np.tile(shares, (n, 1)), nothing(n), nothing(n))


_FITS: dict[str, Callable[[Task], Fitted]] = {
    MAJORITY: _fit_majority,
    rules.KIND: fit_rules,
    linear.KIND: fit_linear,
    pairs.KIND: fit_pairs,
    embedding.KIND: fit_embedding,
    HeadKind.ENCODER: fit_encoder,
    HeadKind.STATES: fit_states,
    committee.KIND: fit_committee,
}
KINDS = tuple(_FITS)


def suits(
    kind: str,
    lessons: Sequence[Lesson],
    static: StaticEmbedding | None = None,
    networks: Mapping[str, VectorSource] | None = None,
) -> str | None:
    """Return why a kind cannot learn from these lessons with what there is; None when it can. See `fit`."""
    if not any(one.weight > 0 for one in lessons):
        return "no row says what is right or wrong"
    if kind == pairs.KIND:
        return suits_pairs([one.item for one in lessons])
    if kind == embedding.KIND and static is None:
        return NO_ENCODER
    if kind in set(HeadKind) and kind not in (networks or {}):
        return MISSING[HeadKind(kind)]
    return None


def fit(
    kind: str,
    lessons: Sequence[Lesson],
    *,
    labels: Sequence[str] | None = None,
    positive: str | None = None,
    seed: int = 0,
    start: Rung | None = None,
    static: StaticEmbedding | None = None,
    written: Sequence[WrittenRule] = (),
    members: Sequence[FittedMember] = (),
    networks: Mapping[str, VectorSource] | None = None,
    threads: int = 1,
) -> RungFit:
    """Fit a kind of rung.

    `labels`: the answers to choose among, when the lessons do not show all; `positive`: the label whose F1 is wanted,
    else accuracy; `start`: the rung to go on from, where the kind can; `static`: vectors of words (`distil.kept`), for
    the kind that reads them; `written`: rules that stand first in the kind that has rules; `members`: fits of the same
    lessons that a committee is made of, all that suit when there are none; `networks`: by kind, what makes the vectors
    that a head reads. Equal lessons, seed and threads give equal artefacts, in any order of the lessons. Raises
    InvalidRequest saying why nothing can be learned.
    """
    began = time.perf_counter()
    if kind not in _FITS:
        raise InvalidRequest(f"Unknown rung {kind!r}; known: {', '.join(KINDS)}.", param="rungs")
    ordered = sorted(grouped(lessons), key=_order)
    if kind == committee.KIND and not members:
        members = _members(lessons, labels=labels, positive=positive, seed=seed, static=static, written=written)
    task = Task(ordered, labels, seed, start=start, static=static, written=written, members=members, networks=networks)
    if not task.lessons:
        raise InvalidRequest("No row says what is right or wrong: give feedback first.", param="dataset")
    with threadpool_limits(threads):
        fitted = _FITS[kind](task)
    artefact = make(
        fitted.kind,
        task.labels,
        fitted.parameters,
        fitted.arrays,
        bias=_bias(fitted.out_of_fold, task, positive),
        scope=_scope(fitted),
        lineage=_lineage(task, fitted),
    )
    return RungFit(artefact, fitted.out_of_fold, task.truth, time.perf_counter() - began)


def _members(lessons: Sequence[Lesson], **options: Any) -> list[FittedMember]:
    found = []
    for kind in MEMBERS:
        if suits(kind, lessons, options["static"]) is None:
            try:
                made = fit(kind, lessons, **options)
            except InvalidRequest:  # too few labels for this kind
                continue
            found.append(FittedMember(made.artefact, made.out_of_fold))
    return found


def _order(lesson: Lesson) -> tuple[str, str, float, float]:
    return (content_hash([lesson.item.text, lesson.item.input]), lesson.answer, lesson.right, lesson.weight)


def _lineage(task: Task, fitted: Fitted) -> JSON:
    return {
        "n": len(task.lessons),
        "n_labels": int((task.truth >= 0).sum()),
        "splits": "grouped",
        "seed": task.seed,
        "library": f"scikit-learn {version('scikit-learn')}",
        **fitted.told,
    }


def _scope(fitted: Fitted) -> Scope:
    """Return the thresholds that nearly all training inputs pass, out of fold."""
    known, distance = (signal[np.isfinite(signal)] for signal in (fitted.known_share, fitted.distance))
    return Scope(
        known_share=float(np.clip(_least(known), 0.0, 1.0)) if len(known) else None,
        distance=-_least(-distance) if len(distance) else None,
    )


def _least(values: Floats) -> float:
    """Return what all but a small share of new values of the same kind are above.

    Of n values, one new one in n + 1 is below the smallest: where that is more than the share, the bound is as far
    below the smallest as this is below the median.
    """
    if len(values) * _FAMILIAR >= 1:
        return float(np.quantile(values, _FAMILIAR))
    return float(2 * values.min() - np.median(values))


def _bias(out_of_fold: Floats, task: Task, positive: str | None) -> tuple[float, ...]:
    """Return the bias on `positive` that maximises its F1 as the out-of-fold probabilities expect it.

    Of a threshold that is 2 sum(p of the answered) / (answered + sum p); the best threshold is half of the best F1
    (Lipton, Elkan & Naryanaswamy 2014, arXiv 1402.1892).
    """
    rows = np.isfinite(out_of_fold).all(axis=1) if out_of_fold.size else np.zeros(0, np.bool_)
    if positive is None or positive not in task.labels or not rows.any():
        return ()
    place = task.labels.index(positive)
    p = np.sort(out_of_fold[rows, place])[::-1]
    f1 = 2 * p.cumsum() / (np.arange(1, len(p) + 1) + p.sum())
    threshold = float(np.clip(f1.max() / 2, 1e-6, 1 - 1e-6))
    return tuple(
        float(np.log1p(-threshold) - np.log(threshold)) if i == place else 0.0 for i in range(len(task.labels))
    )
