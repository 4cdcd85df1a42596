"""Answers that are one of a few: scores of labels into log-probabilities."""

import math
from collections.abc import Mapping, Sequence


def normalised(scores: Mapping[str, float], bias: Sequence[float] = ()) -> dict[str, float]:
    """Return log softmax(score + bias) per label; labels in the order of the biases."""
    shifted = dict(scores)
    for label, shift in zip(scores, bias, strict=False):
        shifted[label] += shift
    highest = max(shifted.values())
    total = highest + math.log(math.fsum(math.exp(value - highest) for value in shifted.values()))
    return {label: value - total for label, value in shifted.items()}
