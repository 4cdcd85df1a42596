"""Heads on a network's vectors: fitted on them, answered by them, refused without them."""

import numpy as np
import pytest

from bessemer.core.errors import EngineError, InvalidRequest
from bessemer.engine.rungs.head import HeadKind
from bessemer.engine.rungs.kinds import open_rung
from bessemer.engine.rungs.rung import RungItem
from bessemer.ladder.fit import fit, suits
from bessemer.ladder.lessons import Lesson
from bessemer.ladder.task import VectorSource

TOPICS = {"card": ("plastic", "chip", "pin", "visa"), "money": ("cash", "cheque", "coins", "notes")}


def vectors(texts):
    """What a network knows and letters do not show: which words are of one topic. Its last columns are large."""
    rows = [
        [float(any(word in text for word in words)) for words in TOPICS.values()] + [500.0, float(len(text))]
        for text in texts
    ]
    return np.array(rows, np.float32)


NETWORKS = {kind: VectorSource("toy@1", vectors) for kind in HeadKind}
LESSONS = [
    Lesson(RungItem(f"{more} {word}"), topic)
    for topic, words in TOPICS.items()
    for word in words[:3]
    for more in ("my", "the", "a new", "no", "which", "about")
]


@pytest.mark.parametrize("kind", list(HeadKind))
def test_it_knows_words_that_no_lesson_has(kind):
    made = fit(kind, LESSONS, networks=NETWORKS)
    rung = open_rung(made.artefact)
    items = [RungItem("one visa"), RungItem("some notes")]
    said = rung.answered(items, vectors(rung.texts(items)))
    assert [rung.labels[place] for place in rung.answers(said)] == ["card", "money"]
    assert made.artefact.manifest.lineage["network"] == rung.parameters.network == "toy@1"


def test_two_records_are_compared_whatever_their_order():
    lessons = [
        Lesson(RungItem(input={"a": {"t": f"{a} {n}"}, "b": {"t": f"{b} {n}"}}), "yes" if one == other else "no")
        for n in range(8)
        for one, words in TOPICS.items()
        for other, others in TOPICS.items()
        for a, b in [(words[n % 4], others[(n + 1) % 4])]
    ]
    rung = open_rung(fit("encoder", lessons, networks=NETWORKS).artefact)
    items = [
        RungItem(input={"a": {"t": "visa"}, "b": {"t": "chip"}}),
        RungItem(input={"a": {"t": "x"}, "b": {"t": "y"}}),
    ]
    turned = [RungItem(input={"a": item.input["b"], "b": item.input["a"]}) for item in items]
    both = [rung.answered(these, vectors(rung.texts(these))).probabilities for these in (items, turned)]
    assert np.array_equal(*both)
    other = rung.answered([RungItem("hello")], vectors(rung.texts([RungItem("hello")])))
    assert rung.outside(other).all()


def test_without_its_network_it_is_refused():
    assert "sentence encoder" in suits("encoder", LESSONS) and "language model" in suits("states", LESSONS)
    with pytest.raises(InvalidRequest, match=r"\[local\]"):
        fit("states", LESSONS)
    rung = open_rung(fit("encoder", LESSONS, networks=NETWORKS).artefact)
    with pytest.raises(EngineError, match="where its network is"):
        rung.predict([RungItem("my card")])
    with pytest.raises(EngineError, match="another network"):
        rung.answered([RungItem("my card")], np.zeros((1, 7), np.float32))
