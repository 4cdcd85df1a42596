"""The rung on n-grams: what it equals, what it learns from, what it answers (L5, L8 to L12, L26)."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bessemer.engine.rungs.kinds import open_rung
from bessemer.engine.rungs.rung import RungItem
from bessemer.ladder.fit import fit
from bessemer.ladder.lessons import Lesson, targets_of
from bessemer.ladder.softmax import fit_softmax

WORDS = {
    "card": ["my card has not come", "when does the card arrive", "card delivery", "where is the new card"],
    "top-up": ["how do I top up", "topping up failed", "add money by cheque", "top up with cash"],
    "rate": ["which exchange rate", "the rate was wrong", "foreign currency rate", "bad exchange rate abroad"],
}
LESSONS = [
    Lesson(RungItem(f"{text} {more}"), label)
    for label, texts in WORDS.items()
    for text in texts
    for more in ("please", "today", "now", "again", "thanks", "urgent")
]


def test_the_weights_are_those_of_logistic_regression():
    """L5: with labels alone, scikit-learn's own."""
    random_ = np.random.default_rng(0)
    x = random_.normal(size=(300, 5))
    y = (x[:, 0] + 0.5 * random_.normal(size=300) > 0).astype(int) + (x[:, 1] > 1)
    weights = random_.uniform(0.5, 2, 300)
    lessons = [
        Lesson(RungItem(str(n)), str(label), weight=w) for n, (label, w) in enumerate(zip(y, weights, strict=True))
    ]
    found, intercept = fit_softmax(x, targets_of(lessons, ["0", "1", "2"]), 3, c=0.5, iterations=2000, tolerance=1e-14)
    model = LogisticRegression(C=0.5, tol=1e-8, max_iter=5000).fit(x, y, sample_weight=weights / weights.mean())
    logits = x @ found + intercept
    expected = model.decision_function(x)
    centred = [z - z.mean(axis=1, keepdims=True) for z in (logits, expected)]
    assert np.allclose(*centred, atol=2e-3)


def test_it_answers_what_it_was_taught():
    rung = open_rung(fit("linear", LESSONS).artefact)
    said = rung.predict([RungItem("top up please"), RungItem("exchange rate?"), RungItem("is my card here")])
    assert [rung.labels[place] for place in rung.answers(said)] == ["top-up", "rate", "card"]


def test_equal_lessons_make_equal_artefacts():
    """L9"""
    assert fit("linear", LESSONS).artefact.sha256 == fit("linear", LESSONS[::-1]).artefact.sha256


def test_trust_zero_is_an_absent_row_and_weights_have_no_unit():
    """L11"""
    with_noise = [one._replace(weight=3.0) for one in LESSONS] + [Lesson(RungItem("card"), "junk", weight=0.0)]
    assert fit("linear", with_noise).artefact.sha256 == fit("linear", LESSONS).artefact.sha256


@pytest.mark.parametrize("count", [3, 77])
def test_a_wrong_verdict_lowers_the_probability_of_its_label(count):
    """L12"""
    lessons = [Lesson(RungItem(f"question about thing{n}"), f"thing{n}") for n in range(count)] * 3
    item = RungItem("question about something new")
    before = open_rung(fit("linear", lessons).artefact)
    after = open_rung(fit("linear", [*lessons, *[Lesson(item, "thing1", right=0.0)] * 3]).artefact)
    place = before.labels.index("thing1")
    assert after.predict([item]).probabilities[0, place] < before.predict([item]).probabilities[0, place]


def test_it_goes_on_from_an_earlier_rung():
    """L10: what it knew is where it starts; new labels and n-grams join."""
    first = open_rung(fit("linear", LESSONS).artefact)
    more = [*LESSONS, *[Lesson(RungItem(f"forgot my passcode {n}"), "passcode") for n in range(6)]]
    rung = open_rung(fit("linear", more, start=first).artefact)
    said = rung.predict([RungItem("passcode forgot"), RungItem("card delivery now")])
    assert [rung.labels[place] for place in rung.answers(said)] == ["passcode", "card"]


@pytest.mark.parametrize("text", ["", " ", "a\0b", "\u202eabc", "👩‍👩‍👧" * 50, "x" * 1_000_000, "x " * 500_000])
def test_any_text_is_answered(text):
    """L8"""
    rung = open_rung(fit("linear", LESSONS).artefact)
    said = rung.predict([RungItem(text)])
    assert said.probabilities.sum() == pytest.approx(1.0)
    if not text.strip():
        assert rung.outside(said).all()


@pytest.mark.long
def test_many_labels_of_one_example_one_label_and_equal_texts():
    """L8"""
    many = [Lesson(RungItem(f"name{n}"), f"label{n}") for n in range(500)]
    rung = open_rung(fit("linear", many).artefact)
    assert rung.labels[rung.answers(rung.predict([RungItem("name77")]))[0]] == "label77"
    one = open_rung(fit("linear", LESSONS[:5]).artefact)
    assert one.predict([RungItem("x")]).probabilities.tolist() == [[1.0]]
    same = open_rung(fit("linear", [Lesson(RungItem("x"), "a"), Lesson(RungItem("x"), "b")] * 5).artefact)
    assert same.predict([RungItem("x")]).probabilities[0] == pytest.approx([0.5, 0.5], abs=0.02)


def test_long_texts_of_another_task_are_handed_over_though_their_letters_are_known():
    """L26: half of the requests from another task, written in words of which this one has half."""
    random_ = np.random.default_rng(0)
    words = ["".join(random_.choice(list("abcdeilmnorst"), 5)) for _ in range(600)]
    own = [" ".join(random_.choice(words[:300], random_.integers(4, 14))) for _ in range(900)]
    rung = open_rung(fit("linear", [Lesson(RungItem(text), text[0]) for text in own[:600]]).artefact)
    other = [RungItem(" ".join(random_.choice(words[150:450], 40))) for _ in range(300)]
    assert rung.outside(rung.predict(other)).mean() >= 0.95
    assert rung.outside(rung.predict([RungItem(text) for text in own[600:]])).mean() <= 0.1


def test_another_task_s_requests_are_handed_over():
    """L26, in the small: texts of other words are outside."""
    rung = open_rung(fit("linear", LESSONS).artefact)
    other = ["Tessmer battery drill FO-1649U 500 g", "ARRAY index out of bounds in kernel", "λόγος ἐστίν", "12 34 56"]
    assert rung.outside(rung.predict([RungItem(text) for text in other])).all()
    assert not rung.outside(rung.predict([RungItem("when does my card arrive")])).any()
