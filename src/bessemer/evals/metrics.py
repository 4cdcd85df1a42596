"""Metrics as ratios of sums, so that one bootstrap and one risk control serve all of them.

An item's terms are (numerator, denominator); a system's metric is Σ numerator / Σ denominator:
mean of a score: (score, 1); F1 of a label: (2·TP, predicted + actual); micro-F1 of attributes:
(2·VC, (NV+VC+VW) + (VN+VC+VW)). An item without terms is unscorable: left out and counted.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from bessemer.core.bounds import check_shape
from bessemer.core.types import JSON

NONE_VALUE = "n/a"
"""How targets and predictions write "no value"."""


class Terms(NamedTuple):
    """One item's part of a metric."""

    numerator: float
    denominator: float

    @property
    def quality(self) -> float:
        """The item's own value; 1 where there was nothing to find and nothing was said, though it counts in no sum."""
        return self.numerator / self.denominator if self.denominator else 1.0


class Unknown(NamedTuple):
    """The terms of an answer whose truth is not known, though something is: what it may be worth at worst and best."""

    worst: Terms
    best: Terms


ItemTerms = Terms | Unknown | None
"""What an item's answer is worth; None: it failed or cannot be scored."""


def total(terms: Iterable[Terms]) -> float | None:
    """Return Σ numerator / Σ denominator, None when nothing counts."""
    numerator = denominator = 0.0
    for term in terms:
        numerator += term.numerator
        denominator += term.denominator
    return numerator / denominator if denominator else None


def mean_terms(score: float) -> Terms:
    """Terms of a mean."""
    return Terms(score, 1.0)


def label_terms(predicted: str | None, actual: str, positive: str) -> Terms:
    """F1 terms of one prediction; None (no such label) is not the positive one."""
    return Terms(
        2.0 * (predicted == positive and actual == positive), float(predicted == positive) + float(actual == positive)
    )


class AttributeCounts(NamedTuple):
    """One item's attributes: target none or a value (N, V) against nothing, right, or wrong (N or V, C, W)."""

    nn: int = 0
    nv: int = 0
    vn: int = 0
    vc: int = 0
    vw: int = 0

    @property
    def terms(self) -> Terms:
        """Micro-F1 terms: 2PR/(P+R) with P = VC/(NV+VC+VW), R = VC/(VN+VC+VW)."""
        return Terms(2.0 * self.vc, float(self.nv + self.vn + 2 * (self.vc + self.vw)))

    @property
    def reward(self) -> float | None:
        """F1 of the item alone; 1 when there is nothing to find and nothing was said, None without attributes."""
        return self.terms.quality if any(self) else None


def parse_attributes(text: str | None) -> JSON | None:
    """Return the JSON object that `text` is, else None, also where it exceeds the bounds on JSON (`core.bounds`)."""
    try:
        check_shape(data := (text or "").encode(errors="replace"))
        decoded = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None
    return decoded if isinstance(decoded, dict) else None


def _said(value: Any) -> str | None:
    """A predicted value as text, None when it says "no value"."""
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else (None if not value else msgspec.json.encode(value).decode())
    if value is None:
        return None
    text = (value if isinstance(value, str) else msgspec.json.encode(value).decode()).strip()
    return None if text in ("", NONE_VALUE) else text


def _wanted(value: Any) -> set[str]:
    """A target's accepted values: a mapping's keys, a list's members or one value; "n/a" is none."""
    options = list(value) if isinstance(value, Mapping | list) else [value]
    return {text for option in options if (text := _said(option)) is not None}


def attribute_counts(predicted: JSON | None, target: Mapping[str, Any]) -> AttributeCounts:
    """Count by the published rule: only the target's attributes count, values compare exactly without outer space.

    An output that is no JSON object predicts nothing: its annotated values are all missed. A predicted "None" is no
    value either.
    """
    nn = nv = vn = vc = vw = 0
    for attribute, value in target.items():
        wanted, said = _wanted(value), _said((predicted or {}).get(attribute))
        said = None if said == "None" else said
        if not wanted:
            nn, nv = nn + (said is None), nv + (said is not None)
        elif said is None:
            vn += 1
        else:
            vc, vw = vc + (said in wanted), vw + (said not in wanted)
    return AttributeCounts(nn, nv, vn, vc, vw)
