"""How sure a model is of each value in a JSON answer, from the log-probabilities of the value's tokens."""

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from bessemer.core.inferences import TokenLogprob

_PAIR = re.compile(r'"(?P<name>(?:[^"\\]|\\.)*)"\s*:\s*(?P<value>"(?:[^"\\]|\\.)*"|[^\s,\[\]{}"]+)')


class Field(NamedTuple):
    """A name and its value in an answer."""

    name: str
    value: str
    """As it stands in the JSON text, quotes included."""
    probability: float
    """exp of the summed log-probabilities of the tokens that spell the value and its end; forced ones count as 1."""
    first: int
    """Index of the first token that has a character of the name, its opening quote included."""
    end: int
    """Index after the last token that has a character of the value, its closing quote included."""


def fields(tokens: Sequence[TokenLogprob]) -> list[Field]:
    """Return the pairs of text, number or literal values of a JSON answer, in order; none for other text.

    A token belongs to a value when one of its characters, the closing quote included, does. The opening quote stands
    before the value is decided and does not count.
    """
    text = "".join(token.token for token in tokens)
    ends: list[int] = []
    reached = 0
    for token in tokens:
        reached += len(token.token)
        ends.append(reached)
    found = []
    for match in _PAIR.finditer(text):
        start, stop = match.span("value")
        start += match["value"].startswith('"')
        # Ends never fall: tokens with a character in [start, stop), and empty ones between them.
        first, decided, end = bisect_right(ends, match.start()), bisect_right(ends, start), bisect_left(ends, stop) + 1
        inside = (token.logprob for token in tokens[decided:end] if not token.forced and token.token)
        found.append(Field(match["name"], match["value"], math.exp(math.fsum(inside)), first, end))
    return found


def mean_probability(tokens: Sequence[TokenLogprob]) -> float | None:
    """Return the mean probability of an answer's values: the share that is expected to be right. None without values.

    A mean of log-probabilities over all tokens is diluted by names and marks that are never in doubt, and a minimum
    follows the one value that is.
    """
    found = fields(tokens)
    return math.fsum(field.probability for field in found) / len(found) if found else None


def confident(text: str, tokens: Sequence[TokenLogprob], threshold: float) -> str:
    """Return a JSON object's text without the values whose probability is below the threshold.

    A wrong value costs F1 twice, in precision and recall, a missing one once: leaving out what is less likely than half
    of the reachable F1 raises it. Text that is no JSON object, and values that are objects or lists, stay as they are.
    """
    try:
        answer = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text
    if not isinstance(answer, dict):
        return text
    known = {_decoded(field.name): field.probability for field in fields(tokens)}
    kept = {
        name: value
        for name, value in answer.items()
        if isinstance(value, dict | list) or known.get(name, 1.0) >= threshold
    }
    return text if len(kept) == len(answer) else msgspec.json.encode(kept).decode()


def _decoded(name: str) -> str:
    try:
        return msgspec.json.decode(f'"{name}"', type=str)
    except msgspec.DecodeError:
        return name
