"""Golden vectors computed once with sacrebleu 2 (effective order, exp smoothing), nltk 3.9 and rouge-score 0.1.2."""

import json
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import LCSseq

from bessemer.evals.similarity import MAX_TEXT, SIMILARITIES, common_subsequence, cosine

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


PAIRS: dict[str, Any] = json.loads(Path(__file__).with_name("similarity_golden.json").read_text())


@pytest.mark.parametrize("pair", PAIRS["pairs"], ids=lambda pair: pair["candidate"][:20])
def test_fifty_pairs_of_sacrebleu_and_rouge_score(pair: Any) -> None:
    texts = pair["candidate"], pair["reference"]
    assert SIMILARITIES["bleu"](*texts) == pytest.approx(pair["bleu"], abs=1e-5)
    if pair["rouge"] is not None:
        one, two, three, longest = pair["rouge"]
        if one == longest == 1.0:
            # Equal texts that are shorter than the order: rouge-score says 0, this says 1.
            two, three = 1.0, 1.0
        names = ("rouge_1", "rouge_2", "rouge_3", "rouge_l")
        assert [SIMILARITIES[name](*texts) for name in names] == pytest.approx([one, two, three, longest], abs=1e-5)


OF_WORDS = ("bleu", "gleu", "meteor", "rouge_1", "rouge_l")
ONE_MORE = [
    ("The weather is nice today", "The weather is very nice today"),
    ("今天天气好", "今天天气很好"),
    ("今日は天気がいいです", "今日は天気がとてもいいです"),
    ("วันนี้อากาศดี", "วันนี้อากาศดีมาก"),
    ("ວັນນີ້ອາກາດດີ", "ວັນນີ້ອາກາດດີຫຼາຍ"),
    ("ថ្ងៃនេះអាកាសធាតុល្អ", "ថ្ងៃនេះអាកាសធាតុល្អណាស់"),
    ("ဒီနေ့ရာသီဥတုကောင်းတယ်", "ဒီနေ့ရာသီဥတုအရမ်းကောင်းတယ်"),
    ("आज मौसम अच्छा है", "आज मौसम बहुत अच्छा है"),
    ("الطقس جميل اليوم", "الطقس جميل جدا اليوم"),
    ("오늘 날씨가 좋다", "오늘 날씨가 아주 좋다"),
]


@pytest.mark.parametrize("name", OF_WORDS)
@pytest.mark.parametrize(("candidate", "reference"), ONE_MORE)
def test_no_script_is_left_out(candidate: str, reference: str, name: str) -> None:
    assert 0.3 < SIMILARITIES[name](candidate, reference) < 1.0


@pytest.mark.parametrize("name", sorted(SIMILARITIES))
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "👍",
        "👍🏽",
        "👩‍👩‍👧",
        "???",
        "…",
        "今",
        "ก็",
        "caf\u00e9",
        "e\u0301\u0327",
        "ﬁ",
        "_",
        "\u200d",
        "\u0301",
        "５",
    ],
)
def test_equal_texts_are_equal_in_any_script(text: str, name: str) -> None:
    assert SIMILARITIES[name](text, text) == pytest.approx(1.0)
    assert SIMILARITIES[name](text, unicodedata.normalize("NFD", text)) == pytest.approx(1.0)


@pytest.mark.parametrize("name", sorted(SIMILARITIES))
@pytest.mark.parametrize(
    ("candidate", "reference"),
    [
        ("👍", "👎"),
        ("???", "!!!"),
        ("", "a"),
        ("a", ""),
        ("今", "明"),
        ("。", "、"),
        ("👍", ""),
        ("???", "yes"),
        ("ก", "ข"),
    ],
)
def test_different_texts_are_not_equal(candidate: str, reference: str, name: str) -> None:
    assert SIMILARITIES[name](candidate, reference) == 0.0


@given(mine=st.text("abcd", max_size=40), theirs=st.text("abcd", max_size=40))
def test_the_common_subsequence_is_the_longest(mine: str, theirs: str) -> None:
    assert common_subsequence(mine, theirs) == LCSseq.similarity(mine, theirs)
    assert common_subsequence(mine * 40, theirs * 40) == LCSseq.similarity(mine * 40, theirs * 40)


@pytest.mark.parametrize("name", sorted(SIMILARITIES))
@pytest.mark.parametrize(
    "unit", ["a ", "的", "\u0301\u0316", "?", "👍"], ids=["letter", "Han", "marks on marks", "punctuation", "emoji"]
)
def test_long_texts_take_no_square_of_their_length(name: str, unit: str) -> None:
    texts = ("x" + unit * MAX_TEXT)[:MAX_TEXT], ("y" + unit * MAX_TEXT)[:MAX_TEXT]
    start = time.process_time()
    SIMILARITIES[name](*texts)
    assert time.process_time() - start < 20


def test_measures_may_run_in_several_threads() -> None:
    texts = [" ".join(f"{'abcdefghij'[n % 10]}ational{n}ness" for n in range(k, k + 800)) for k in range(0, 8000, 1000)]
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda text: SIMILARITIES["meteor"](text, text + " ending"), texts)) != {0.0}
        assert list(threads.map(lambda text: SIMILARITIES["rouge_1"](text, text), texts)) == [1.0] * len(texts)
