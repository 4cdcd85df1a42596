"""Parsing labels and settling truth from feedback."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evals.label_phrasings import PHRASINGS

from bessemer.core.errors import InvalidRequest
from bessemer.evals.truth import check_labels, parse_label, plain, truth

LABELS = ("Yes", "No")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Yes", "Yes"),
        (" no.\n", "No"),
        ('"Yes"', "Yes"),
        ("Yes, they are the same.", "Yes"),
        ("No - not the same", "No"),
        ("Yes or No", None),
        ("Nope", None),
        ("The answer is Yes.", "Yes"),
        ("**Answer:** No", "No"),
        ("Yes. There is no difference.", "Yes"),
        ("No, yes would be wrong", "No"),
        ("Yes they are, no difference", None),
        ("I said yes to myself", None),
        ("Yes/No", None),
        ("", None),
        (None, None),
    ],
)
def test_parse_label(text: str | None, label: str | None) -> None:
    assert parse_label(text, LABELS) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Vitamin C", None),
        ("It is vitamin C.", None),
        ("Hepatitis B", None),
        ("Plan B", None),
        ("Vitamin C is meant, so the answer is B", "B"),
        ("I choose C", "C"),
        ("I would go with B.", "B"),
        ("The answer is **C**", "C"),
        ("Die Antwort ist C", "C"),
        ("La réponse est C", "C"),
        ("La respuesta es C", "C"),
        ("La risposta è C", "C"),
    ],
)
def test_a_character_that_is_a_part_of_a_name_is_no_label(text: str, label: str | None) -> None:
    assert parse_label(text, ("A", "B", "C")) == label


@pytest.mark.parametrize("text", ["Yeah, no.", "Yeah no", "Yes, no.", "No, yeah."])
def test_a_no_behind_a_word_of_agreement_is_never_a_yes(text: str) -> None:
    assert parse_label(text, LABELS) != "Yes"


def test_a_label_that_begins_another_is_not_taken_for_it() -> None:
    assert parse_label("card lost abroad", ("card", "card lost abroad")) == "card lost abroad"


@given(st.sampled_from(LABELS), st.booleans())
def test_verdicts_on_two_labels_settle_the_truth(answer: str, verdict: bool) -> None:
    right = truth(answer, verdict, None, LABELS)
    assert (right == answer) is verdict
    assert right in LABELS


def test_what_stays_open() -> None:
    assert truth("a", False, None, ("a", "b", "c")) is None
    assert truth("a", None, None, LABELS) is None
    assert truth(None, True, None, LABELS) is None
    assert truth("maybe", False, None, LABELS) is None


def test_a_demonstration_is_the_truth() -> None:
    assert truth("Yes", True, "no", LABELS) == "No"
    assert truth("x", True, "free text") == "free text"


@pytest.mark.parametrize(("language", "labels", "text", "label"), PHRASINGS)
def test_phrasings_are_read_as_a_person_reads_them(
    language: str, labels: tuple[str, ...], text: str, label: str | None
) -> None:
    assert parse_label(text, labels) == label, language


@pytest.mark.parametrize(
    ("text", "labels", "label"),
    [
        ("I cannot say yes", ("yes", "no"), None),
        ("The reference says: yes. I have no idea.", ("yes", "no"), None),
        ("untrue", ("true", "false"), None),
        ("not true", ("true", "false"), None),
        ("no\n\nyes", ("yes", "no"), None),
        ("C++", ("C", "C++"), "C++"),
        ("1.0", ("1", "1.0"), "1.0"),
        ("-1", ("1", "-1"), "-1"),
        ("はいです", ("はい", "いいえ"), "はい"),
        ("答案是不是", ("是", "不是"), None),
        ("It is not spam", ("spam", "not spam"), "not spam"),
        ("...", (".", "x"), None),
        ("", (".", "!"), None),
    ],
)
def test_other_labels(text: str, labels: tuple[str, ...], label: str | None) -> None:
    assert parse_label(text, labels) == label


@given(st.text(), st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=4, unique_by=plain))
def test_whatever_is_said_a_label_or_none_is_read(text: str, labels: list[str]) -> None:
    assert parse_label(text, labels) in (None, *labels)
    for label in labels:
        if plain(label):
            assert parse_label(label, labels) == label
            assert parse_label(f"**{label}**.", labels) in (label, None)


@pytest.mark.parametrize(
    "labels", [("spam", "Spam"), ("spam", "spam."), ("cafe\u0301", "café"), ("1", "1."), (".", "x"), ("", "x")]
)
def test_labels_that_answers_could_not_tell_apart_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest, match="labels: "):
        check_labels(labels)
    check_labels(("spam", "not spam", "C", "C++"))


@pytest.mark.parametrize("labels", [tuple(f"label {i}" for i in range(1001)), ("a" * 64_000, "b")])
def test_labels_are_bounded(labels: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest, match="1000 labels of 64000 characters"):
        check_labels(labels)
