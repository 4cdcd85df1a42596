"""How alike two texts are, as numbers that do not depend on their order: the features of pairs of records.

Similarities are RapidFuzz's, in [0, 1]. Words are weighted by idf learned from traffic: rare words that one side alone
has tell records apart, common ones do not. Numbers are compared as numbers, quantities in the base unit of their kind.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from rapidfuzz import fuzz, process
from rapidfuzz.distance import JaroWinkler

NAN = math.nan
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+", re.UNICODE)
_QUANTITY = re.compile(r"(\d+(?:[.,]\d+)*)\s*-?\s*([^\W\d_]+|[\"%€$£])")
_SQUEEZE = re.compile(r"[\W_]+")
_ITEMS = re.compile(r"\s*(?:[,;|&]|\band\b)\s*")
_MOST_TOKENS = 200
"""Words of a text that are compared one by one."""
_MOST_SOFT = 12
"""Words of either side alone that are compared with each other by letters."""
_ALIKE = 0.85
"""Similarity from which on two words may be one: spellings, endings, abbreviations."""
_UNITS: dict[str, tuple[str, float]] = {
    "mm": ("m", 1e-3), "cm": ("m", 1e-2), "m": ("m", 1.0), "km": ("m", 1e3), "in": ("m", 0.0254), '"': ("m", 0.0254),
    "inch": ("m", 0.0254), "inches": ("m", 0.0254), "ft": ("m", 0.3048), "feet": ("m", 0.3048),
    "mg": ("g", 1e-3), "g": ("g", 1.0), "kg": ("g", 1e3), "oz": ("g", 28.349523125), "lb": ("g", 453.59237),
    "lbs": ("g", 453.59237), "ml": ("l", 1e-3), "cl": ("l", 1e-2), "l": ("l", 1.0), "ltr": ("l", 1.0),
    "gal": ("l", 3.785411784),
    "kb": ("b", 1e3), "mb": ("b", 1e6), "gb": ("b", 1e9), "tb": ("b", 1e12), "w": ("w", 1.0), "kw": ("w", 1e3),
    "v": ("v", 1.0), "mah": ("ah", 1e-3), "ah": ("ah", 1.0), "hz": ("hz", 1.0), "khz": ("hz", 1e3), "mhz": ("hz", 1e6),
    "ghz": ("hz", 1e9), "mp": ("px", 1e6), "megapixel": ("px", 1e6), "megapixels": ("px", 1e6), "%": ("%", 1.0),
    "$": ("$", 1.0), "€": ("€", 1.0), "£": ("£", 1.0),
}  # fmt: skip
"""Spellings of units: the base unit, and the factor to it (SI; the legal definitions of inch, pound and gallon)."""


class Written(NamedTuple):
    """One text, as it is compared."""

    text: str
    tokens: tuple[str, ...]
    unique: frozenset[str]
    numbers: frozenset[str]
    codes: frozenset[str]
    quantities: frozenset[tuple[str, float]]
    squeezed: str
    grams: frozenset[str]


@lru_cache(maxsize=20_000)
def written(text: str) -> Written:
    """Take a text in plain spelling apart."""
    tokens = tokens_of(text)
    squeezed = _SQUEEZE.sub("", text)
    return Written(
        text=text,
        tokens=tokens,
        unique=frozenset(tokens),
        numbers=frozenset(token for token in tokens if token[0].isdigit()),
        codes=frozenset(_codes(text)),
        quantities=frozenset(_quantities(text)),
        squeezed=squeezed,
        grams=frozenset(squeezed[i : i + 3] for i in range(max(1, min(len(squeezed), 2000) - 2))),
    )


def tokens_of(text: str) -> tuple[str, ...]:
    """Return the words and numbers of a text in plain spelling."""
    return tuple(_number(token) for token in _TOKEN.findall(text)[:_MOST_TOKENS])


def _number(token: str) -> str:
    """Return one spelling of a number: no thousands separators, no zeros at the end."""
    if not token[0].isdigit():
        return token
    value = number(token)
    return token if value is None else f"{value:g}" if value < 1e6 else token.replace(",", "")


def number(text: str) -> float | None:
    """Return the number that a text is, with a sign, separators or a unit around it; None when it is none."""
    found = re.search(r"-?\d+(?:[.,]\d+)*", text[:64])
    if found is None:
        return None
    digits = found.group()
    last = max(digits.rfind("."), digits.rfind(","))
    if last > 0 and (len(digits) - last - 1 != 3 or digits[last] == "."):
        digits = re.sub(r"[.,]", "", digits[:last]) + "." + digits[last + 1 :]
    try:
        value = float(re.sub(r",", "", digits))
    except ValueError:
        return None
    return value if abs(value) < 1e15 else None


def _codes(text: str) -> list[str]:
    """Return the words that hold both digits and letters, or four digits and no letter, without their marks."""
    words = [_SQUEEZE.sub("", word) for word in text.split()[:_MOST_TOKENS] if any(map(str.isdigit, word))]
    return [word for word in words if not word.isdigit() or len(word) >= 4]


def _quantities(text: str) -> list[tuple[str, float]]:
    found = []
    for amount, unit in _QUANTITY.findall(text)[:_MOST_TOKENS]:
        known, value = _UNITS.get(unit), number(amount)
        if known is not None and value is not None:
            found.append((known[0], float(f"{value * known[1]:.4g}")))
    return found


def units() -> tuple[list[str], list[int], list[float]]:
    """Return the spellings of units, a number for the kind that each is of, and its factor."""
    kinds = sorted({base for base, _ in _UNITS.values()})
    return list(_UNITS), [kinds.index(base) for base, _ in _UNITS.values()], [factor for _, factor in _UNITS.values()]


class Idf(NamedTuple):
    """How rare words are in traffic."""

    known: Mapping[str, float]
    unknown: float

    def total(self, words: Sequence[str] | frozenset[str]) -> float:
        """Return the sum over words."""
        return math.fsum(self.known.get(word, self.unknown) for word in words)


TEXT_FEATURES = (
    "ratio", "partial", "token_sort", "token_set", "jaro_winkler", "jaccard", "containment", "idf_cosine", "idf_shared",
    "rest_low", "rest_high", "rarest_low", "rarest_high", "soft_low", "soft_high", "first_equal", "last_equal",
    "numbers_jaccard", "numbers_low", "numbers_high", "codes_shared", "codes_low", "codes_high", "codes_within",
    "quantities_equal", "quantities_differ", "grams_jaccard", "squeezed_within", "length_low", "length_high",
)  # fmt: skip


def compare_texts(a: Written, b: Written, idf: Idf) -> list[float]:
    """Return TEXT_FEATURES of two texts; equal when they are swapped. NaN throughout when either is empty."""
    if not a.text or not b.text:
        return [NAN] * len(TEXT_FEATURES)
    if b.text < a.text:
        a, b = b, a
    shared = a.unique & b.unique
    left, right, both = (_rest(words, idf) for words in (a.unique - shared, b.unique - shared, shared))
    common, lengths = both.total, (both.squares + left.squares) * (both.squares + right.squares)
    numbers, codes = (a.numbers & b.numbers, a.codes & b.codes)
    short, long = sorted((a.squeezed, b.squeezed), key=len)
    return [
        fuzz.ratio(a.text, b.text) / 100,
        max(fuzz.partial_ratio(a.text, b.text), fuzz.partial_ratio(b.text, a.text)) / 100
        if len(a.text) == len(b.text)
        else fuzz.partial_ratio(a.text, b.text) / 100,
        fuzz.token_sort_ratio(a.text, b.text) / 100,
        fuzz.token_set_ratio(a.text, b.text) / 100,
        JaroWinkler.similarity(a.text, b.text),
        _share(len(shared), len(a.unique | b.unique)),
        _share(len(shared), min(len(a.unique), len(b.unique))),
        both.squares / math.sqrt(lengths) if lengths else NAN,
        _share(common, common + left.total + right.total),
        *sorted((left.total, right.total)),
        *sorted((max(left.idf, default=0.0), max(right.idf, default=0.0))),
        *_soft(left, right, common),
        float(a.tokens[:1] == b.tokens[:1]),
        float(a.tokens[-1:] == b.tokens[-1:]),
        _share(len(numbers), len(a.numbers | b.numbers)),
        *map(float, sorted((len(a.numbers - numbers), len(b.numbers - numbers)))),
        float(len(codes)),
        *map(float, sorted((len(a.codes - codes), len(b.codes - codes)))),
        _within(a.codes - codes, b.codes - codes, a.squeezed, b.squeezed),
        *_quantities_compared(a, b),
        _share(len(a.grams & b.grams), len(a.grams | b.grams)),
        float(bool(short) and short in long),
        *map(float, sorted((len(a.text), len(b.text)))),
    ]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else NAN


class _Rest(NamedTuple):
    """The words of one side that the other lacks, rarest first, and their idf."""

    words: list[str]
    idf: list[float]
    total: float
    squares: float


def _rest(words: frozenset[str], idf: Idf) -> _Rest:
    known, unknown = idf
    found = sorted(((known.get(word, unknown), word) for word in words), key=lambda one: (-one[0], one[1]))
    values = [value for value, _ in found]
    return _Rest([word for _, word in found], values, math.fsum(values), math.fsum([value * value for value in values]))


def _soft(left: _Rest, right: _Rest, common: float) -> tuple[float, float]:
    """Return the idf-weighted share of either side's words that the other has, at least in similar letters.

    Of the rarest words that each has alone; numbers are not alike, however similar.
    """
    shared, pair = [common, common], (left, right)
    lists = [[(w, v) for w, v in zip(side.words[:_MOST_SOFT], side.idf, strict=False) if w.isalpha()] for side in pair]
    if lists[0] and lists[1]:
        words = [[word for word, _ in one] for one in lists]
        alike = process.cdist(words[0], words[1], scorer=JaroWinkler.similarity, score_cutoff=_ALIKE, dtype=np.float64)
        for side, best in enumerate((alike.max(axis=1), alike.max(axis=0))):
            found = [share * value for share, (_, value) in zip(best.tolist(), lists[side], strict=True)]
            shared[side] += math.fsum(found)
    low, high = sorted(_share(part, common + side.total) for part, side in zip(shared, pair, strict=True))
    return low, high


def _within(mine: frozenset[str], theirs: frozenset[str], left: str, right: str) -> float:
    """Return the share of the codes of one side alone that the other side's letters contain."""
    total = len(mine) + len(theirs)
    if not total:
        return NAN
    return (sum(code in right for code in mine) + sum(code in left for code in theirs)) / total


def _quantities_compared(a: Written, b: Written) -> tuple[float, float]:
    """Return how many kinds of quantity both sides have and agree in, and how many they differ in."""
    units = {unit for unit, _ in a.quantities} & {unit for unit, _ in b.quantities}
    same = sum(any(one[0] == unit and one in b.quantities for one in a.quantities) for unit in units)
    return float(same), float(len(units) - same)


NUMBER_FEATURES = ("equal", "difference", "relative", "log_ratio", "ratio")


def compare_numbers(a: str, b: str) -> list[float]:
    """Return NUMBER_FEATURES of two texts that hold a number; NaN where either has none."""
    letters = fuzz.ratio(a, b) / 100 if a and b else NAN
    x, y = number(a), number(b)
    if x is None or y is None:
        return [*[NAN] * (len(NUMBER_FEATURES) - 1), letters]
    high, gap = max(abs(x), abs(y)), abs(x - y)
    ratio = math.log(high / min(abs(x), abs(y))) if x and y else NAN
    return [float(gap <= 1e-9 * high), gap, gap / high if high else 0.0, ratio, letters]


LIST_FEATURES = ("items_jaccard", "items_containment", "last_words_jaccard", "items_best", "items_difference")


def compare_lists(a: str, b: str) -> list[float]:
    """Return LIST_FEATURES of two texts that list items, in any order; NaN when either is empty."""
    left, right = _items(a), _items(b)
    if not left or not right:
        return [NAN] * len(LIST_FEATURES)
    mine, theirs = frozenset(left), frozenset(right)
    last = frozenset(item.split()[-1] for item in left), frozenset(item.split()[-1] for item in right)
    few, many = sorted((sorted(mine), sorted(theirs)), key=lambda items: (len(items), items))
    alike = process.cdist(few, many, scorer=JaroWinkler.similarity, dtype=np.float64)
    best = math.fsum(alike.max(axis=1).tolist()) / len(few)
    return [
        _share(len(mine & theirs), len(mine | theirs)),
        _share(len(mine & theirs), min(len(mine), len(theirs))),
        _share(len(last[0] & last[1]), len(last[0] | last[1])),
        best,
        float(abs(len(left) - len(right))),
    ]


def _items(text: str) -> list[str]:
    return [item for item in _ITEMS.split(text)[:32] if item]
