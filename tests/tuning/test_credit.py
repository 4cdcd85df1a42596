import json
import math

import pytest
import torch

from bessemer.core.inferences import TokenLogprob
from bessemer.evals.metrics import attribute_counts, parse_attributes
from bessemer.feedback.rows import TrainingRow
from bessemer.tuning.credit import TokenizedAnswer, by_answer, by_field, parts

TARGET = {"Brand": {"Kroger": 1}, "Size": {"12": 1}}


def answer(**values):
    """One token for each name and each value with the mark behind it, as tokenizers merge them."""
    tokens = ['{"']
    for index, (name, value) in enumerate(values.items()):
        last = index == len(values) - 1
        tokens += [name, '":"', value, '"}' if last else '","']
    text = "".join(tokens)
    assert json.loads(text) == values
    return TokenizedAnswer(text, tuple(TokenLogprob(token=token, logprob=-0.1, forced=False) for token in tokens))


def reward(pairs):
    return [attribute_counts(parse_attributes(text), item["target"]).reward for item, text in pairs]


def row():
    return TrainingRow(messages=(), completion=None, item={"target": TARGET})


def advantages(grade, answers, rewards):
    return by_field(grade, [row()], [answers], torch.tensor([rewards]))[0]


def test_a_field_is_its_name_its_value_and_the_mark_that_ends_it():
    brand, size = parts(answer(Brand="Kroger", Size="12"))
    assert (brand.first, brand.end, json.loads(brand.without)) == (0, 5, {"Size": "12"})
    assert (size.first, size.end, json.loads(size.without)) == (5, 9, {"Brand": "Kroger"})


@pytest.mark.parametrize("text", ["Yes", '{"a":{"b":"c"}}', '{"a":["b"]}', '{"a":"b","a":"c"}', '{"a":"b'])
def test_other_answers_have_no_fields(text):
    tokens = tuple(TokenLogprob(token=character, logprob=-0.1, forced=False) for character in text)
    assert parts(TokenizedAnswer(text, tokens)) == []


def test_a_right_value_is_rewarded_although_another_of_its_answer_is_wrong():
    """Rewards by hand: F1 2/2, 1/2, 1/2; without Brand 2/3, 0, 2/3; without Size 2/3, 2/3, 0."""
    answers = [
        answer(Brand="Kroger", Size="12"),
        answer(Brand="Kroger", Size="14"),
        answer(Brand="Krog", Size="12"),
    ]
    whole = reward([(row().item, one.text) for one in answers])
    assert whole == pytest.approx([1.0, 0.5, 0.5])
    right, wrong_size, wrong_brand = advantages(reward, answers, whole)
    brand, size = [1 / 3, 1 / 2, -1 / 6], [1 / 3, -1 / 6, 1 / 2]
    mean = (1 / 3 + 1 / 2 - 1 / 6) / 3
    for made, of_brand, of_size in zip((right, wrong_size, wrong_brand), brand, size, strict=True):
        assert made[1].item() == pytest.approx(of_brand - mean)
        assert made[6].item() == pytest.approx(of_size - mean)
    # All alike, a right brand beside a wrong size would be held to account for the size.
    assert by_answer([answers], torch.tensor([whole]))[0][1][1].item() < 0 < wrong_size[1].item()


def test_a_field_that_an_answer_lacks_added_nothing_to_it():
    answers = [answer(Brand="Kroger"), answer(Brand="Kroger", Size="12")]
    _, full = advantages(reward, answers, [2 / 3, 1.0])
    assert full[6].item() == pytest.approx(1 / 3 - (1 / 3) / 2)


def test_answers_without_fields_and_tokens_outside_of_them_get_the_answer_s_reward():
    plain = TokenizedAnswer("no", (TokenLogprob(token="no", logprob=-0.1, forced=False),))
    ended = answer(Brand="Kroger")
    ended = TokenizedAnswer(ended.text, (*ended.tokens, TokenLogprob(token="", logprob=-0.1, forced=False)))
    first, second = advantages(reward, [plain, ended], [0.0, 1.0])
    assert first.tolist() == [-0.5]
    assert second[-1].item() == 0.5


def test_what_cannot_be_scored_carries_no_gradient():
    def unknown(pairs):
        return [None for _ in pairs]

    answers = [answer(Brand="Kroger"), answer(Brand="Krog")]
    for made in advantages(unknown, answers, [1.0, 0.0]):
        assert made[:5].tolist() == [0.0] * 5
    broken = advantages(reward, answers, [math.nan, 0.0])
    assert all(torch.isfinite(made).all() for made in broken)
    assert broken[0].tolist() == [0.0] * 5


def test_the_mean_of_a_field_is_that_of_the_answers_that_could_be_scored():
    """Of three brands, one left out cannot be graded, and one whole answer could not: one third is their only mean."""
    answers = [answer(Brand="Kroger", Size="12"), answer(Brand="Kroger", Size="x"), answer(Brand="Kroger", Size="y")]

    def partly(pairs):
        return [None if "x" in text else grade for (_, text), grade in zip(pairs, reward(pairs), strict=True)]

    good, no_grade, broken = advantages(partly, answers, [1.0, 0.5, math.nan])
    assert good[1].item() == pytest.approx(0.0)
    assert no_grade[1].item() == broken[1].item() == 0.0
