"""Consensus: the JSON answer that most of several samples agree with, and how much they do.

Minimum Bayes risk decoding (Kumar and Byrne 2004, aclanthology.org/N04-1022) with F1 over an object's fields as the
gain: a value that the most likely answer happens to hold may be one of many, and what several samples share is seldom
wrong. Decision 010 has what it brings.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec


class Consensus(NamedTuple):
    """An answer made of samples."""

    text: str
    """A JSON object; each of its fields stands in at least one sample."""
    agreement: float
    """The answer's F1 against its samples (0 to 1), fields counted over all of them: what it expects to reach."""


def consensus(samples: Sequence[str]) -> Consensus | None:
    """Return the fields whose F1 against the samples is highest; None when no sample is a JSON object.

    A field is a name with its value; of a name with several values the most frequent stands (of equal ones the first).
    Fields are taken by falling share as long as F1 rises: the best set of any size begins with the most frequent. They
    stand in the order in which the samples first have them.
    """
    objects = [found for sample in samples if (found := _object(sample)) is not None]
    if not objects:
        return None
    counts = Counter((name, msgspec.json.encode(value)) for one in objects for name, value in one.items())
    values: dict[str, tuple[bytes, int]] = {}
    for (name, value), count in counts.items():
        if count > values.get(name, (b"", 0))[1]:
            values[name] = (value, count)
    order = sorted(values, key=lambda name: -values[name][1])
    in_samples = counts.total()
    shared, best, size = 0, 0.0, 0
    for length, name in enumerate(order, start=1):
        shared += values[name][1]
        # Each field stands against every sample: length * len(objects) in all.
        gain = 2 * shared / (length * len(objects) + in_samples)
        if gain > best:
            best, size = gain, length
    kept = set(order[:size])
    text = msgspec.json.encode({name: msgspec.Raw(value) for name, (value, _) in values.items() if name in kept})
    return Consensus(text.decode(), best if in_samples else 1.0)


def _object(text: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
