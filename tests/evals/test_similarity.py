"""Golden vectors computed once with sacrebleu 2 (effective order, exp smoothing), nltk 3.9 and rouge-score 0.1.2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.evals.similarity import SIMILARITIES, cosine

METRICS = ("bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_3", "rouge_l")
GOLDEN = [
    ("the cat sat on the mat", "the cat is on the mat", (0.379918, 0.5, 0.806667, 0.833333, 0.6, 0.25, 0.833333)),
    (
        "running quickly to the shops",
        "he runs quickly to shop",
        (0.213644, 0.214286, 0.75, 0.8, 0.5, 0.333333, 0.8),
    ),
    ("alpha beta", "gamma delta", (0.0,) * 7),
    ("a b c d e f", "a b c d f e", (0.562341, 0.666667, 0.9375, 1.0, 0.6, 0.5, 0.833333)),
]


@pytest.mark.parametrize(("candidate", "reference", "expected"), GOLDEN)
def test_golden(candidate: str, reference: str, expected: tuple[float, ...]) -> None:
    assert [SIMILARITIES[name](candidate, reference) for name in METRICS] == pytest.approx(expected, abs=1e-6)


def test_fuzzy_match_is_indel_similarity() -> None:
    assert SIMILARITIES["fuzzy_match"]("abcd", "abxd") == pytest.approx(0.75)


WORDS = st.lists(st.sampled_from(["a", "b", "cats", "cat", "runs", "run", "!", "é"]), max_size=12).map(" ".join)


@pytest.mark.parametrize("name", sorted(SIMILARITIES))
@given(text=WORDS, other=WORDS)
def test_range_and_identity(name: str, text: str, other: str) -> None:
    assert 0.0 <= SIMILARITIES[name](text, other) <= 1.0 + 1e-12
    assert SIMILARITIES[name](text, text) == pytest.approx(1.0)


def test_cosine() -> None:
    assert cosine([1.0, 0.0], [1.0, 1.0]) == pytest.approx(0.7071068)
    assert cosine([0.0, 0.0], [1.0, 1.0]) == 0.0
