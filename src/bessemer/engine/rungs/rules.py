"""Short rules that a person can read: the first that holds answers, the majority answers where none does.

A condition is a line of text, and an item is the set of conditions that hold for it (`conditions_of`): a rule holds
when all of its conditions are in that set. Rules are learned (`bessemer.ladder.rules`) or written by the operator.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from rapidfuzz import fuzz

from bessemer.core.errors import EngineError
from bessemer.core.ladders import RECORD, WrittenRule
from bessemer.core.types import Frozen
from bessemer.engine.rungs.artefact import Arrays, Artefact
from bessemer.engine.rungs.comparison import written
from bessemer.engine.rungs.ngrams import normalised, word_grams
from bessemer.engine.rungs.records import MAX_FIELDS, Record, RecordForm, Text, plain, records_of, value_text
from bessemer.engine.rungs.rung import Floats, Prediction, Rung, RungItem, nothing, parameters_of, text_of

KIND = "rules"
MAX_RULES = 512
_TENTHS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
_LONGEST_VALUE = 64


class StatedRule(WrittenRule, frozen=True):
    """A rule with what rows say of it that it was not chosen by."""

    held: Annotated[float, msgspec.Meta(ge=0)]
    """Rows, by weight, that it was the first to hold for."""
    right: Annotated[float, msgspec.Meta(ge=0)]
    """Of these, those whose label is its answer."""
    at_least: Annotated[float, msgspec.Meta(ge=0, le=1)]
    """Bound on the share of right ones: it holds with 95 %."""

    def told(self) -> str:
        """Return it in a line, for a card."""
        return (
            f"if {' and '.join(self.when)} then {self.answer}: right in {self.right:.0f} of {self.held:.0f}, "
            f"at least {self.at_least:.0%}"
        )


class RulesParameters(Frozen, frozen=True):
    """The rules in their order, and how items are read."""

    rules: Annotated[tuple[StatedRule, ...], msgspec.Meta(max_length=MAX_RULES)]
    form: RecordForm | None = None
    fields: Annotated[tuple[Text, ...], msgspec.Meta(max_length=MAX_FIELDS)] = ()
    """Of two records: those that conditions may speak of."""


def conditions_of(item: RungItem, form: RecordForm | None, fields: Sequence[str]) -> frozenset[str] | None:
    """Return the conditions that hold for an item; None for one of another form."""
    if form is not None:
        pair = records_of(item, form)
        return None if pair is None else frozenset(_of_records(*pair, fields))
    held = {f"has {gram}" for gram in word_grams(normalised(text_of(item)))}
    for key, value in (item.input or {}).items():
        if not isinstance(value, dict | list) and 0 < len(text := plain(value_text(value))) <= _LONGEST_VALUE:
            held.add(f"{key} is {text}")
    return frozenset(held)


def _of_records(left: Record, right: Record, fields: Sequence[str]) -> set[str]:
    texts = {name: (plain(left.get(name, "")), plain(right.get(name, ""))) for name in fields}
    held: set[str] = set()
    for name, (a, b) in texts.items():
        held |= {f"{name} missing"} if not a or not b else _of_values(name, a, b)
    a, b = (" ".join(pair[side] for pair in texts.values()) for side in (0, 1))
    if len(fields) > 1 and RECORD not in fields:
        held |= _of_values(RECORD, a, b)
    mine, theirs = written(a).unique, written(b).unique
    held |= {f"both have {word}" for word in mine & theirs}
    return held | {f"one alone has {word}" for word in mine ^ theirs}


def _of_values(name: str, a: str, b: str) -> set[str]:
    alike = fuzz.token_sort_ratio(*sorted((a, b))) / 100
    near = {f"{name} {'alike' if alike >= tenth else 'unlike'} {tenth:g}" for tenth in _TENTHS}
    return near | {f"{name} {'equal' if a == b else 'differs'}"}


class Rules(Rung):
    """Answers by the first rule that holds."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises EngineError for arrays of another kind or shape."""
        super().__init__(artefact)
        self.parameters = parameters_of(artefact, RulesParameters)
        self._when = [frozenset(rule.when) for rule in self.parameters.rules]
        arrays = Arrays(artefact.arrays)
        self._shares: Floats = arrays.take("shares", np.float64, len(self._when) + 1, len(self.labels))
        arrays.done()
        if (self._shares < 0).any() or not np.allclose(self._shares.sum(axis=1), 1.0):
            raise EngineError("The shares of a rung of rules do not sum to 1.")

    def told(self) -> list[str]:
        """See `Rung`."""
        return [rule.told() for rule in self.parameters.rules]

    def predict(self, items: Sequence[RungItem]) -> Prediction:
        """See `Rung`."""
        held = [conditions_of(item, self.parameters.form, self.parameters.fields) for item in items]
        places = [first(self._when, one or frozenset()) for one in held]
        n = len(items)
        unread = np.array([one is None for one in held], np.bool_)
        return Prediction(self._shares[places].reshape(n, -1), nothing(n), nothing(n), unread)


def first(rules: Sequence[frozenset[str]], held: frozenset[str]) -> int:
    """Return the place of the first rule that holds; behind the last one where none does."""
    return next((place for place, when in enumerate(rules) if when <= held), len(rules))
