"""How far to trust who gives verdicts: each author's rates of error, from items that several of them judged.

Two-coin model (Dawid & Skene 1979): the verdict is truly "right" with a prevalence; an author says so of a right answer
with his sensitivity, says "wrong" of a wrong one with his specificity. Estimated by EM with a Beta(8, 2) prior on both
rates. Authors of fewer than 20 verdicts on shared items keep the trust that is stored of them.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from bessemer.core.feedback import Feedback, FeedbackKind
from bessemer.core.inferences import Inference

Array = npt.NDArray[np.float64]
ENOUGH = 20
_RIGHT, _WRONG = 8.0, 2.0
_ROUNDS = 200


class Judgement(NamedTuple):
    """One verdict of one author on one item. An item that was later settled has a judgement of `SETTLED`, too."""

    item: str
    author: str | None
    """None: unknown; all of these are one author."""
    right: bool


class Author(NamedTuple):
    """What is known of an author."""

    sensitivity: float
    specificity: float
    overlaps: int

    @property
    def trust(self) -> float:
        """Youden's J, at least 0: 1 of one who never errs, 0 of one whose verdicts say nothing."""
        return max(0.0, self.sensitivity + self.specificity - 1.0)


SETTLED = "settled"
"""The author of overturned and confirmed verdicts: never wrong."""


def authors(judgements: Sequence[Judgement]) -> dict[str | None, Author]:
    """Return the rates of the authors of at least 20 verdicts on items that somebody else judged too."""
    by_item: dict[str, list[Judgement]] = defaultdict(list)
    for one in judgements:
        by_item[one.item].append(one)
    shared = [group for group in by_item.values() if len({one.author for one in group}) > 1]
    counts = Counter(one.author for group in shared for one in group)
    if not counts:
        return {}
    names = sorted(counts, key=lambda name: (name is not None, name or ""))
    place = {name: index for index, name in enumerate(names)}
    item, author, right = (
        np.array(column)
        for column in zip(
            *((index, place[one.author], one.right) for index, group in enumerate(shared) for one in group), strict=True
        )
    )
    rates = _fitted(item, author, right.astype(np.float64), len(shared), len(names), place.get(SETTLED))
    return {
        name: Author(float(rates[0, place[name]]), float(rates[1, place[name]]), counts[name])
        for name in names
        if counts[name] >= ENOUGH and name != SETTLED
    }


def _fitted(
    item: npt.NDArray[np.intp], author: npt.NDArray[np.intp], right: Array, items: int, people: int, settled: int | None
) -> Array:
    """EM from the majority's verdicts; returns sensitivity and specificity [2, people]."""
    truth = np.bincount(item, weights=right, minlength=items) / np.bincount(item, minlength=items)
    for _ in range(_ROUNDS):
        weight, said = truth[item], right
        rates = np.stack([_rate(author, weight, said, people), _rate(author, 1 - weight, 1 - said, people)])
        if settled is not None:
            rates[:, settled] = 1.0 - 1e-9
        share = float(np.clip(truth.mean(), 1e-3, 1 - 1e-3))
        yes = np.where(said > 0, rates[0, author], 1 - rates[0, author])
        no = np.where(said > 0, 1 - rates[1, author], rates[1, author])
        odds = np.bincount(item, weights=np.log(yes) - np.log(no), minlength=items) + np.log(share / (1 - share))
        updated = 1.0 / (1.0 + np.exp(-np.clip(odds, -50, 50)))
        if np.abs(updated - truth).max() < 1e-8:
            break
        truth = updated
    return rates


def _rate(author: npt.NDArray[np.intp], weight: Array, agreed: Array, people: int) -> Array:
    """Posterior mode of a rate with a Beta(8, 2) prior."""
    hits = np.bincount(author, weights=weight * agreed, minlength=people) + _RIGHT - 1
    total = np.bincount(author, weights=weight, minlength=people) + _RIGHT + _WRONG - 2
    return np.asarray(hits / total)


def judgements(asked: Sequence[Inference], feedback: Mapping[str, Sequence[Feedback]], metric: str) -> list[Judgement]:
    """Return what each key said of each answer, last; a reviewer's correction settles whether the answer was right."""
    found: dict[tuple[str, str | None], Judgement] = {}
    for one in asked:
        for row in sorted(feedback.get(one.id, ()), key=lambda row: row.id):
            if row.kind is FeedbackKind.BOOLEAN and row.metric == metric:
                found[one.id, row.key_id] = Judgement(one.id, row.key_id, bool(row.value))
            elif row.kind is FeedbackKind.DEMONSTRATION and row.reviewer:
                right = str(row.value).strip() == (one.output or "").strip()
                found[one.id, SETTLED] = Judgement(one.id, SETTLED, right)
    return list(found.values())


def weighed(rows: Sequence[Feedback], known: Mapping[str | None, Author]) -> list[Feedback]:
    """Return feedback with the trust that its authors have shown to deserve, at most what is stored of them."""
    return [
        msgspec.structs.replace(row, trust=min(row.trust, trusted(row.key_id, known, row.trust)))
        if row.key_id in known
        else row
        for row in rows
    ]


def trusted(name: str | None, known: Mapping[str | None, Author], stored: float) -> float:
    """Return the weight of an author's verdicts: as estimated, or what is stored of him."""
    return known[name].trust if name in known else stored
