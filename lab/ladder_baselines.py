"""What anyone tries in an afternoon: plain scikit-learn on the same rows, nothing of ours in it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.distance import JaroWinkler
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline, make_union

from bessemer.engine.rungs.rung import Floats, RungItem
from bessemer.ladder.lessons import Lesson


class Baseline(NamedTuple):
    """A fitted baseline: labels in order, probabilities of items, and the threshold of the positive label."""

    labels: list[str]
    predict: Callable[[Sequence[RungItem]], Floats]
    threshold: float


def text(item: RungItem) -> str:
    """Return the text that a baseline reads: all values, in order."""
    if item.input is None:
        return item.text
    return "\n".join(f"{value}" for side in item.input.values() for value in side.values())


def similarities(item: RungItem) -> list[float]:
    """Return seven similarities of each field that both records have; NaN where one is empty."""
    left, right = (item.input or {}).values()
    found: list[float] = []
    for name in sorted(left.keys() & right.keys()):
        a, b = str(left[name] or "").lower(), str(right[name] or "").lower()
        words = set(a.split()), set(b.split())
        if not a or not b:
            found += [np.nan] * 7
            continue
        found += [
            fuzz.ratio(a, b), fuzz.partial_ratio(a, b), fuzz.token_sort_ratio(a, b), fuzz.token_set_ratio(a, b),
            JaroWinkler.similarity(a, b), len(words[0] & words[1]) / len(words[0] | words[1]), abs(len(a) - len(b)),
        ]  # fmt: skip
    return found


def _rows(model: Any, read: Callable[[RungItem], Any], lessons: Sequence[Lesson], positive: str | None) -> Baseline:
    """Fit, and choose the threshold of the best F1 on cross-validated predictions of the same rows."""
    x = [read(one.item) for one in lessons]
    y = np.array([one.answer for one in lessons])
    threshold = 0.5
    if positive is not None and min(np.unique(y, return_counts=True)[1]) >= 5:
        groups = np.unique([one.group for one in lessons], return_inverse=True)[1]
        folds = GroupKFold(4) if len(set(groups.tolist())) >= 4 else 4
        p = cross_val_predict(model, x, y, groups=groups, cv=folds, method="predict_proba")
        threshold = _best(p[:, sorted(set(y)).index(positive)], y == positive)
    model.fit(x, y)
    return Baseline(list(model.classes_), lambda items: model.predict_proba([read(item) for item in items]), threshold)


def _best(p: Floats, truth: Any) -> float:
    order = np.argsort(-p)
    f1 = 2 * np.cumsum(truth[order]) / (np.arange(1, len(p) + 1) + truth.sum())
    return float(p[order][int(f1.argmax())])


def _majority(lessons: Sequence[Lesson], positive: str | None, seed: int) -> Baseline:
    del positive
    model = DummyClassifier(strategy="prior", random_state=seed)
    return _rows(model, lambda _item: [0.0], lessons, None)


def _tfidf(lessons: Sequence[Lesson], positive: str | None, seed: int) -> Baseline:
    del seed
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return _rows(
        make_pipeline(make_union(words, characters), LogisticRegression(C=20, max_iter=200)), text, lessons, positive
    )


def _boosting(lessons: Sequence[Lesson], positive: str | None, seed: int) -> Baseline:
    return _rows(HistGradientBoostingClassifier(random_state=seed), similarities, lessons, positive)


BASELINES: dict[str, Callable[[Sequence[Lesson], str | None, int], Baseline]] = {
    "baseline majority": _majority,
    "baseline TF-IDF + logistic regression": _tfidf,
    "baseline similarities + boosting": _boosting,
}
COUNTERPART = {
    "majority": "baseline majority",
    "linear": "baseline TF-IDF + logistic regression",
    "pairs": "baseline similarities + boosting",
}
"""What each kind of rung must not be worse than."""
