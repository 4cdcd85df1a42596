"""Which tokens of a sampled answer earned its reward: all of them alike, or each field of a JSON answer what it adds.

An answer's reward, shared by all of its tokens, tells a right value nothing while another value of the same answer is
wrong: with five values a group must be five times as large for the same certainty about each. A field's own reward is
its difference reward (Wolpert and Tumer 2001): that of the answer less that of the answer without the field. Any grader
gives it, at one more grade for each field.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bessemer.core.inferences import TokenLogprob
from bessemer.core.lazy import Lazy
from bessemer.feedback.rows import TrainingRow
from bessemer.gateway.fields import fields
from bessemer.tuning.losses import centred
from bessemer.tuning.rewards import number
from bessemer.tuning.spec import RewardFunction

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")


class TokenizedAnswer(NamedTuple):
    """An answer and the tokens that it is made of."""

    text: str
    tokens: tuple[TokenLogprob, ...]


class AnswerField(NamedTuple):
    """A field of a JSON answer: its tokens are [first, end)."""

    name: str
    first: int
    end: int
    without: str
    """The answer's text without the field."""


def parts(answer: TokenizedAnswer) -> list[AnswerField]:
    """Return the fields of an answer that is a JSON object of plain values; none for other answers.

    A token that ends one field and begins the next belongs to the one that it ends.
    """
    try:
        values = msgspec.json.decode(answer.text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return []
    found = fields(answer.tokens)
    plain = isinstance(values, dict) and not any(isinstance(value, dict | list) for value in values.values())
    if not plain or len(values) != len(found):  # a name that stands twice is no field of its own
        return []
    made: list[AnswerField] = []
    for name, field in zip(values, found, strict=True):
        rest = {other: value for other, value in values.items() if other != name}
        first = max(field.first, made[-1].end) if made else field.first
        made.append(AnswerField(name, first, field.end, msgspec.json.encode(rest).decode()))
    return made


def by_answer(groups: Sequence[Sequence[TokenizedAnswer]], reward_RG: Tensor) -> list[list[Tensor]]:
    """Return the advantage of every token, [group][answer] -> [tokens]: the answer's centred reward."""
    return shared(groups, [centred(row) for row in reward_RG])


def shared(groups: Sequence[Sequence[TokenizedAnswer]], value_RG: Sequence[Tensor] | Tensor) -> list[list[Tensor]]:
    """Return each answer's value for all of its tokens, [group][answer] -> [tokens]."""
    return [
        [torch.full((len(answer.tokens),), value) for answer, value in zip(answers, row.tolist(), strict=True)]
        for answers, row in zip(groups, value_RG, strict=True)
    ]


def by_field(
    reward: RewardFunction, rows: Sequence[TrainingRow], groups: Sequence[Sequence[TokenizedAnswer]], reward_RG: Tensor
) -> list[list[Tensor]]:
    """Return the advantage of every token, [group][answer] -> [tokens].

    The tokens of a field get its difference reward less the group's mean of that field's (0 where an answer lacks it),
    all others, and answers without fields, the answer's centred reward. A field that could not be scored takes no part
    in that mean and gets 0.
    """
    advantages = by_answer(groups, reward_RG)
    found = [[parts(answer) for answer in answers] for answers in groups]
    asked = [
        (row.item, part.without) for row, answers in zip(rows, found, strict=True) for of in answers for part in of
    ]
    grades = iter(map(number, reward(asked)) if asked else ())
    for of_group, parts_G, reward_G in zip(advantages, found, reward_RG, strict=True):
        for index, part, advantage in _centred_parts(parts_G, reward_G.tolist(), grades):
            of_group[index][part.first : part.end] = advantage
    return advantages


def _centred_parts(
    parts_G: Sequence[Sequence[AnswerField]], reward_G: Sequence[float], grades: Iterator[float]
) -> list[tuple[int, AnswerField, float]]:
    """Return (answer, field, advantage) of a group; takes the grades of its fields from the iterator."""
    known: list[tuple[int, AnswerField, float | None]] = []
    totals: dict[str, float] = {}
    scored = dict.fromkeys((part.name for of in parts_G for part in of), sum(map(math.isfinite, reward_G)))
    for index, (of_answer, whole) in enumerate(zip(parts_G, reward_G, strict=True)):
        for part in of_answer:
            without = next(grades)
            added = whole - without if math.isfinite(without) and math.isfinite(whole) else None
            known.append((index, part, added))
            totals[part.name] = totals.get(part.name, 0.0) + (added or 0.0)
            scored[part.name] -= math.isnan(without) and math.isfinite(whole)
    return [
        (index, part, 0.0 if added is None else added - totals[part.name] / scored[part.name])
        for index, part, added in known
    ]
