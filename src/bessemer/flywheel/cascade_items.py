"""What a cascade is decided on: the items' answers, scored, with everything unknown at its worst for the small model.

Nothing that would be served is left out: an item whose small answer failed is one that is handed over, an unknown score
of the small model counts as wrong, one of the large model as right. Only inputs of which nobody said anything stay out
where the metric needs it: the guarantee's population is the others.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bessemer.core.datasets import Example
from bessemer.core.errors import InvalidRequest
from bessemer.core.types import Frozen
from bessemer.evals.metrics import ItemTerms, Terms

Array = npt.NDArray[np.float64]


class Parts(NamedTuple):
    """What the confidence map is fitted on, and what the threshold is chosen on."""

    fit: tuple[Example, ...]
    choose: tuple[Example, ...]


class ItemAnswer(Frozen, frozen=True):
    """One calibration item as a version answered it."""

    id: str
    text: str | None
    score: float | None


class GradedAnswer(NamedTuple):
    """An answer's quality in [0, 1] as terms, and its terms in the metric that is promised."""

    quality: ItemTerms
    terms: ItemTerms


class ConfidenceItems(NamedTuple):
    """Items of the confidence map: raw confidence and quality [n]."""

    raw: Array
    quality: Array
    terms: Array
    """[n, 2]"""


class ThresholdItems(NamedTuple):
    """Items that the threshold is chosen on, [n] or [n, 2]."""

    raw: Array
    """NaN where the small model failed or showed no confidence: such an answer is never kept."""
    small_quality: Array
    large_quality: Array | None
    small_terms: Array
    large_terms: Array | None
    unknown: int
    """Of the items, those whose score is not known, and counts against the small model."""
    left_out: int
    """Items of which nobody said anything, beside the n."""


def fit_items(
    examples: Sequence[Example], asked: Mapping[str, ItemAnswer], graded: Mapping[str, GradedAnswer]
) -> ConfidenceItems:
    """Return the items that fit the map: those with a confidence and anything said of them. InvalidRequest for none."""
    kept = [
        (raw, graded[example.id])
        for example in examples
        if (raw := asked[example.id].score) is not None and _known(example, graded.get(example.id))
    ]
    if not kept:
        raise _too_few()
    qualities = [_at(one.quality, best=False, largest=1.0) for _, one in kept]
    terms = [_at(one.terms, best=False, largest=1.0) for _, one in kept]
    return ConfidenceItems(
        np.array([raw for raw, _ in kept], dtype=np.float64),
        np.array([one.quality for one in qualities], dtype=np.float64),
        np.array(terms, dtype=np.float64),
    )


def chosen_items(
    examples: Sequence[Example],
    small: tuple[Mapping[str, ItemAnswer], Mapping[str, GradedAnswer]],
    large: tuple[Mapping[str, ItemAnswer], Mapping[str, GradedAnswer]] | None,
    largest: float,
) -> ThresholdItems:
    """Return the items that decide; `largest` bounds a term's denominator. InvalidRequest when none is left."""
    rows: list[tuple[float, Terms, Terms, Terms, Terms]] = []
    unknown = left_out = 0
    for example in examples:
        said, own = small[0][example.id], small[1].get(example.id)
        other = None if large is None else large[1].get(example.id)
        if not _known(example, own) and not _known(example, other):
            left_out += 1
            continue
        kept = said.text is not None and said.score is not None
        same = large is not None and said.text is not None and said.text == large[0][example.id].text
        quality, other_quality = _pair(own and own.quality, other and other.quality, same=same, largest=1.0)
        terms, other_terms = _pair(own and own.terms, other and other.terms, same=same, largest=largest)
        open_ = [own] if large is None else [own, other]
        unknown += kept and any(one is None or not isinstance(one.terms, Terms) for one in open_)
        raw = said.score if kept and said.score is not None else np.nan
        rows.append((raw, quality, other_quality, terms, other_terms))
    if not rows:
        raise _too_few()
    raws, qualities, other_qualities, terms_, others = zip(*rows, strict=True)
    return ThresholdItems(
        raw=np.array(raws, dtype=np.float64),
        small_quality=np.array([one.quality for one in qualities], dtype=np.float64),
        large_quality=None if large is None else np.array([one.quality for one in other_qualities], dtype=np.float64),
        small_terms=np.array(terms_, dtype=np.float64),
        large_terms=None if large is None else np.array(others, dtype=np.float64),
        unknown=unknown,
        left_out=left_out,
    )


def _pair(small: ItemTerms, large: ItemTerms, *, same: bool, largest: float) -> tuple[Terms, Terms]:
    """Return both scores with the unknown at the small model's worst; one answer is worth the same from both."""
    low = _at(small, best=False, largest=largest)
    if same and not isinstance(small, Terms) and not isinstance(large, Terms):
        return low, low
    return low, _at(large, best=True, largest=largest)


def _at(score: ItemTerms, *, best: bool, largest: float) -> Terms:
    if isinstance(score, Terms):
        return score
    if score is not None:
        return score.best if best else score.worst
    return Terms(largest, largest) if best else Terms(0.0, 1.0)


def _known(example: Example, graded: GradedAnswer | None) -> bool:
    """Whether the item belongs to the population: it was judged, or this metric needs no judgement."""
    judged = example.verdict is not None or example.demonstration is not None or bool(example.scores)
    return judged or (graded is not None and graded.terms is not None)


def _too_few() -> InvalidRequest:
    return InvalidRequest(
        "Too few items of the selection and calibration splits can be scored with this metric: build a larger dataset.",
        param="dataset",
    )
