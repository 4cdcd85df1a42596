"""The tagger: values are spans of the input, confidence is calibrated, what is no span is handed over (L29)."""

import json
import random

import numpy as np
import pytest

from bessemer.core.errors import EngineError, InvalidRequest
from bessemer.engine.rungs import artefact
from bessemer.engine.rungs.kinds import open_rung
from bessemer.engine.rungs.rung import RungItem
from bessemer.engine.rungs.spans import Spans, tokens_of, viterbi
from bessemer.ladder.lessons import Lesson
from bessemer.ladder.spans import fit_spans, suits_spans

BRANDS = ("Acme", "Nordwind", "Rosso Uno", "Halva & Co", "Tessmer")
COLOURS = ("black", "navy blue", "red", "olive green")


def lessons_of(count, seed, write=lambda title, category: RungItem(input={"title": title, "kind": category})):
    random_ = random.Random(seed)
    lessons = []
    for _ in range(count):
        kind = random_.choice(("drill", "shoes"))
        brand, colour = random_.choice(BRANDS), random_.choice(COLOURS)
        size = f"{random_.randint(1, 99)} {'V' if kind == 'drill' else 'EU'}"
        coloured = random_.random() < 0.7
        title = f"{brand} {kind} {random_.choice(('pro', 'new', 'x'))}{f', {colour}' if coloured else ''}, {size}"
        fields = {
            "Brand": brand,
            "Colour": colour if coloured else "n/a",
            ("Voltage" if kind == "drill" else "Size"): size,
        }
        lessons.append(Lesson(write(title, kind), json.dumps(fields)))
    return lessons


@pytest.fixture(scope="module")
def fitted():
    return fit_spans(lessons_of(160, 1))


@pytest.fixture(scope="module")
def rung(fitted):
    return Spans(artefact.decode(*artefact.encode(fitted.artefact)))


def test_values_are_found_and_are_spans(rung):
    """L29"""
    right = total = 0
    for one in lessons_of(60, 2):
        found = rung.extract([one.item])[0]
        title, fields = one.item.input["title"], json.loads(one.answer)
        for name, value in found.values.items():
            assert title[value.begin : value.end] == value.text and 0 <= value.confidence <= 1
            assert name in fields
        for name, value in fields.items():
            total += 1
            right += (name in found.absent) if value == "n/a" else found.values.get(name, (None,))[0] == value
    assert right / total > 0.95


def test_a_category_has_its_own_fields(rung):
    """L29: the schema of the category is never left."""
    item = RungItem(input={"title": "Acme drill pro, 9 EU", "kind": "drill"})
    found = rung.extract([item])[0]
    assert set(found.values) | set(found.absent) == {"Brand", "Colour", "Voltage"}


def test_texts_around_the_title_are_learned():
    def write(title, _category):
        return RungItem(f"Extract the attributes as JSON.\nTitle: {title}\nJSON:")

    rung = Spans(fit_spans(lessons_of(80, 3, write)).artefact)
    assert rung.extract([write("Tessmer drill x, red, 12 V", "")])[0].values["Brand"].text == "Tessmer"
    assert rung.extract([RungItem("hello")])[0].unread


def test_equal_lessons_make_equal_artefacts(fitted):
    """L9"""
    assert fit_spans(lessons_of(160, 1)[::-1]).artefact.sha256 == fitted.artefact.sha256


def test_confidence_is_of_values_left_out(fitted):
    assert len(fitted.confidence) == len(fitted.right) > 40
    assert abs(fitted.confidence.mean() - fitted.right.mean()) < 0.1


@pytest.mark.parametrize("text", ["", "\0", "👩‍👩‍👧" * 40, "x" * 1_000_000, "a " * 100_000, "\u202eabc"])
def test_any_text_is_answered(rung, text):
    """L8"""
    found = rung.extract([RungItem(input={"title": text, "kind": "sofa"})])[0]
    assert all(value.text in text for value in found.values.values())


def test_fields_that_are_no_spans_are_handed_over():
    """L29: a field that is written, not found."""
    lessons = [
        one._replace(answer=json.dumps(json.loads(one.answer) | {"Summary": f"good thing number {n}"}))
        for n, one in enumerate(lessons_of(60, 4))
    ]
    assert suits_spans(lessons)
    mostly = [one if n % 4 else more for n, (one, more) in enumerate(zip(lessons_of(60, 4), lessons, strict=True))]
    rung = Spans(fit_spans(mostly).artefact)
    assert rung.parameters.free == ("Summary",)
    assert rung.extract([mostly[0].item])[0].unread


def test_labels_and_broken_answers_teach_nothing():
    with pytest.raises(InvalidRequest, match="JSON objects"):
        fit_spans([Lesson(RungItem("x"), "Yes")] * 50)


def test_viterbi_is_the_best_of_all_paths():
    random_ = np.random.default_rng(0)
    logged, start, follows = random_.normal(size=(4, 3)), random_.normal(size=3), random_.normal(size=(3, 3))
    paths = np.array(np.meshgrid(*[range(3)] * 4, indexing="ij")).reshape(4, -1).T
    score = start[paths[:, 0]] + sum(logged[i, paths[:, i]] for i in range(4))
    score += sum(follows[paths[:, i], paths[:, i + 1]] for i in range(3))
    assert viterbi(logged, start, follows) == paths[score.argmax()].tolist()


def test_tokens_stand_where_they_say():
    text = "Nordwind's 7,5 V – red_x"
    assert all(text[token.begin : token.end] == token.text for token in tokens_of(text))


def test_another_kind_extracts_nothing(rung):
    with pytest.raises(EngineError, match="extracts nothing"):
        Spans(artefact.changed(artefact.decode(*artefact.encode(fit_spans(lessons_of(40, 5)).artefact)), kind="pairs"))


def test_an_answer_is_a_json_object_of_spans_with_a_confidence_of_each_field(rung):
    """L29"""
    items = [one.item for one in lessons_of(40, 6)]
    for item, said, found in zip(items, rung.answered(items), rung.extract(items), strict=True):
        fields = json.loads(said.text)
        assert fields == {name: value.text for name, value in found.values.items()} | dict.fromkeys(found.absent, "n/a")
        assert "".join(part for part, _ in said.parts()) == said.text
        assert said.confidence == pytest.approx(np.mean([field.confidence for field in said.fields]))
        only = rung.answered([item], asked=["Brand"])[0]
        assert set(json.loads(only.text)) <= {"Brand"}
    strange = rung.answered([RungItem("no title at all")])[0]
    assert strange.confidence is None and json.loads(strange.text) == {}


def test_it_is_opened_like_any_rung_and_says_whether_an_answer_is_right(fitted):
    opened = open_rung(artefact.decode(*artefact.encode(fitted.artefact)))
    lessons = lessons_of(80, 8)
    said = opened.predict([one.item for one in lessons])
    right = np.array([
        json.loads(answer.text) == json.loads(one.answer)
        for answer, one in zip(opened.answered([one.item for one in lessons]), lessons, strict=True)
    ])  # fmt: skip
    assert opened.labels == ("right", "wrong") and np.allclose(said.probabilities.sum(axis=1), 1.0)
    assert right.mean() > 0.9
    assert not opened.outside(said).any()
