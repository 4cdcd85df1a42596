"""Every kind that is fitted answers any text, and learns from any set or refuses it by name (L8)."""

import numpy as np
import pytest

from bessemer.core.errors import InvalidRequest
from bessemer.engine.rungs.embedding import StaticEmbedding
from bessemer.engine.rungs.head import Head, HeadKind
from bessemer.engine.rungs.kinds import open_rung
from bessemer.engine.rungs.rung import RungItem
from bessemer.ladder.fit import KINDS, fit
from bessemer.ladder.lessons import Lesson
from bessemer.ladder.task import VectorSource

STATIC = StaticEmbedding(["drill", "k", "##x", "##1", "name", "x"], np.eye(6, 3, dtype=np.float16) + 1)
NETWORKS = {
    kind: VectorSource("toy@1", lambda texts: np.array([[len(t), "x" in t] for t in texts], np.float32).reshape(-1, 2))
    for kind in HeadKind
}
TEXTS = {
    "empty": "",
    "spaces": " \n\t",
    "nul": "a\0b",
    "right-to-left": "\u202eabc \u05d0\u05d1",
    "emoji": "👩‍👩‍👧" * 50,
    "lone surrogate": "\ud800",
    "one long word": "x" * 1_000_000,
    "many words": "x 1 " * 250_000,
    "long number": "9" * 400,
}
PAIRS = [
    Lesson(
        RungItem(
            input={
                "a": {"title": f"drill kx{n}", "price": str(n)},
                "b": {"title": f"drill kx{n + n % 2}", "price": str(n)},
            }
        ),
        "no" if n % 2 else "yes",
    )
    for n in range(60)
]
SETS = {
    "one label": [Lesson(RungItem(f"name{n}"), "only") for n in range(30)],
    "equal features": [Lesson(RungItem("x"), "ab"[n % 2]) for n in range(30)],
    "equal pairs": [Lesson(RungItem(input={"a": {"t": "x"}, "b": {"t": "x"}}), "ab"[n % 2]) for n in range(30)],
    "pairs of one label": [one._replace(answer="no") for one in PAIRS],
    "one row": PAIRS[:1],
    "odd texts": [
        Lesson(RungItem(text[:2000]), "ab"[n % 2]) for n, text in enumerate(TEXTS.values()) if text != "\ud800"
    ]
    * 3,
}


@pytest.fixture(scope="module")
def opened():
    return {kind: opened_of(fit(kind, PAIRS, static=STATIC, networks=NETWORKS)) for kind in KINDS}


def opened_of(made):
    rung = open_rung(made.artefact)
    if isinstance(rung, Head):
        rung.vectorise = NETWORKS[rung.kind].vectors
    return rung


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TEXTS)
def test_any_text_is_answered(opened, kind, name):
    text = TEXTS[name]
    items = [
        RungItem(text),
        RungItem(input={"a": {"title": text, "price": text}, "b": {"title": "drill", "price": "1"}}),
        RungItem(input={"a": text, "b": [text], text[:100]: {"deep": [{"deeper": text}]}}),
    ]
    rung = opened[kind]
    said = rung.predict(items)
    assert np.isfinite(said.probabilities).all() and said.probabilities.sum(axis=1) == pytest.approx(np.ones(3))
    assert len(rung.answers(said)) == len(rung.outside(said)) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SETS)
def test_any_set_is_learned_or_refused_by_name(kind, name):
    learned_or_refused(kind, SETS[name])


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_500_labels_of_one_example_each(kind):
    learned_or_refused(kind, [Lesson(RungItem(f"name{n}"), f"label{n}") for n in range(500)])


def learned_or_refused(kind, lessons):
    try:
        made = fit(kind, lessons, static=STATIC, networks=NETWORKS)
    except InvalidRequest as refusal:
        assert len(refusal.message) > 20
        return
    rung = opened_of(made)
    said = rung.predict([one.item for one in lessons[:20]])
    assert np.isfinite(said.probabilities).all() and said.probabilities.sum(axis=1) == pytest.approx(1.0)
