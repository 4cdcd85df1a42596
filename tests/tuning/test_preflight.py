"""What a job's files give away before it starts."""

from collections.abc import Sequence

import pytest

from bessemer.feedback.rows import TrainingRow
from bessemer.tuning.preflight import Survey, warnings


def row(number: int, question: str, answer: str | None, **item: object) -> TrainingRow:
    messages = ({"role": "user", "content": question},)
    return TrainingRow(messages=messages, completion=answer, item=dict(item), number=number)


def survey(rows: Sequence[TrainingRow], fields: Sequence[str] = ()) -> Survey:
    found = Survey(fields)
    found.add(rows)
    return found


SOUND = [row(i, f"What is {i} plus {i}?", str(2 * i)) for i in range(20)]
LABELLED = [row(i, f"Spam or ham: message {i}?", "spam" if i % 3 else "ham") for i in range(20)]


@pytest.mark.parametrize("rows", [SOUND, LABELLED])
def test_sound_files_are_said_nothing_about(rows: list[TrainingRow]) -> None:
    others = [row(i, f"Another {i}", "spam") for i in range(5)]
    assert warnings(survey(rows), survey(others), None) == ()
    assert warnings(survey(rows), None, 20.0) == ()


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (SOUND[:3], "Only 3 training rows"),
        ([row(i, f"Is picture {i} a violation?", "Yes") for i in range(40)], "same answer"),
        ([*SOUND, row(21, "What is 3 plus 3?", "7")], "otherwise than an earlier row (rows 3 and 21)"),
        (
            [
                row(i, f"A {breed} in the park {i}. Which breed?", breed)
                for i, breed in enumerate(["poodle", "boxer"] * 9)
            ],
            "names the right label",
        ),
        ([*SOUND, row(21, "?", " ")], "1 of 21 training rows have an empty answer"),
    ],
)
def test_what_is_worth_a_look_is_told_of_demonstrations_and_of_references(rows: list[TrainingRow], told: str) -> None:
    (warning,) = warnings(survey(rows), None, None)
    assert told in warning
    questions = [row(one.number, one.messages[0]["content"], None, breed=one.completion, other=1) for one in rows]
    (warning,) = warnings(survey(questions, ("breed",)), None, None)
    assert told in warning


def test_questions_of_both_files_are_counted() -> None:
    (warning,) = warnings(survey(SOUND), survey([*SOUND[:2], row(1, "new", "x")]), None)
    assert warning.startswith("2 of 3 questions of the validation file")


def test_a_rate_that_diverges_is_named() -> None:
    (warning,) = warnings(survey(SOUND), None, 500.0)
    assert "500" in warning
