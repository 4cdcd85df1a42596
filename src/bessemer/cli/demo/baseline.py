"""A learned baseline without a language model: TF-IDF of both titles' words and a logistic regression.

What a tuned model does better than this is what it knows beyond counted words. It reads what the small model reads (the
words that both titles share, those of one alone) and learns from the same rows.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit

from bessemer.core.template import shared_words
from bessemer.core.types import JSON

_STRENGTH = 1.0
"""Of the L2 penalty, as a sum over rows: scikit-learn's C = 1."""
Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class WordBaseline:
    """A fitted baseline."""

    def __init__(self, inputs: Sequence[JSON], matches: Sequence[bool]) -> None:
        """Fit inputs (`{"left": {"title"}, "right": {"title"}}`) to whether they match."""
        found = [_words(row) for row in inputs]
        seen = Counter(word for words in found for word in words)
        self._places = {word: place for place, word in enumerate(sorted(seen))}
        counts = np.array([seen[word] for word in self._places], dtype=np.float64)
        self._weights = np.log((1 + len(inputs)) / (1 + counts)) + 1  # smooth idf (scikit-learn's TfidfVectorizer)
        self._coefficients = _fit(self._matrix(found), np.array(matches, dtype=np.float64))
        self.threshold = 0.5

    def probabilities(self, inputs: Sequence[JSON]) -> Array:
        """Return P(match) of each input."""
        scores = self._matrix([_words(row) for row in inputs]) @ self._coefficients[:-1] + self._coefficients[-1]
        return np.asarray(expit(scores), dtype=np.float64)

    def choose_threshold(self, inputs: Sequence[JSON], matches: Sequence[bool]) -> None:
        """Answer `match` from the probability on that gives the best F1 on these other rows."""
        p, truth = self.probabilities(inputs), np.array(matches, dtype=bool)
        scores = [float((truth & (p >= t)).sum() * 2 / max(1, truth.sum() + (p >= t).sum())) for t in p]
        self.threshold = float(p[int(np.argmax(scores))]) if scores else 0.5

    def matches(self, inputs: Sequence[JSON]) -> Flags:
        """Return whether each input is said to match."""
        return self.probabilities(inputs) >= self.threshold

    def _matrix(self, found: Sequence[Counter[str]]) -> Any:
        """Return TF-IDF [rows, words], rows of length one; words that were not learned are left out."""
        rows, columns, values = [], [], []
        for row, words in enumerate(found):
            known = [(self._places[word], count) for word, count in words.items() if word in self._places]
            weighed = [count * self._weights[place] for place, count in known]
            length = float(np.linalg.norm(weighed)) or 1.0
            rows += [row] * len(known)
            columns += [place for place, _ in known]
            values += [value / length for value in weighed]
        return csr_matrix((values, (rows, columns)), shape=(len(found), len(self._places)))


def _words(row: JSON) -> Counter[str]:
    left, right = row["left"]["title"].lower(), row["right"]["title"].lower()
    both = shared_words(left, right, keep=True)
    one = shared_words(left, right, keep=False) + " " + shared_words(right, left, keep=False)
    return Counter([f"both:{word}" for word in both.split()] + [f"one:{word}" for word in one.split()])


def _fit(matrix: Any, truth: Array) -> Array:
    """Return weights and intercept of the logistic regression with the smallest penalised loss (L-BFGS)."""

    def loss(w: Array) -> tuple[float, Array]:
        scores = matrix @ w[:-1] + w[-1]
        wrong = expit(scores) - truth
        value = np.logaddexp(0, scores).sum() - truth @ scores + _STRENGTH / 2 * (w[:-1] @ w[:-1])
        return float(value), np.append(matrix.T @ wrong + _STRENGTH * w[:-1], wrong.sum())

    return np.asarray(minimize(loss, np.zeros(matrix.shape[1] + 1), jac=True, method="L-BFGS-B").x)
