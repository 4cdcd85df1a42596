"""Parsing labels and settling truth from feedback."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.evals.truth import parse_label, truth

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
