"""What the text measures compare: tokens of texts in any script.

Scripts that set no spaces between words (Han, Kana, Bopomofo, Yi, Thai, Lao, Khmer, Myanmar, Tibetan, Tai, Javanese,
Balinese) give a token for each character with its marks, as no dictionary of words is at hand. Elsewhere a word is a
run of letters and digits with their marks, so Devanagari's vowel signs stay in their words. Hangul has spaces.
"""

import html
import re
import sys
import unicodedata
from collections.abc import Iterable
from functools import cache

_SPACELESS = (
    "\u0e00-\u0e4f\u0e5a-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f"
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\ua4cf\ua980-\ua9ff\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f"
    "\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
"""Blocks of Unicode 16."""
_JOINERS = "\u200c\u200d"


def _ranges(points: Iterable[int]) -> str:
    """Write ascending code points as the inside of a character class."""
    spans: list[list[int]] = []
    for point in points:
        if spans and point == spans[-1][1] + 1:
            spans[-1][1] = point
        else:
            spans.append([point, point])
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in spans)


@cache
def _marks() -> str:
    found = (
        point
        for point in range(0x300, min(sys.maxunicode, 0xE01EF) + 1)
        if (point < 0x20000 or point >= 0xE0100) and unicodedata.category(chr(point))[0] == "M"
    )
    return _ranges(found) + _JOINERS


@cache
def _word() -> re.Pattern[str]:
    letters = f"[^\\W{_SPACELESS}]"
    return re.compile(f"[{_SPACELESS}][{_marks()}]*|{letters}+(?:[{_marks()}]+{letters}*)*|[^\\w\\s]")


@cache
def _mark_runs() -> re.Pattern[str]:
    return re.compile(f"([{_marks()}]{{30}})(?=[{_marks()}])")


def composed(text: str) -> str:
    """Return the text in NFC, after Unicode's stream-safe form: the time to order marks is the square of their run."""
    return unicodedata.normalize("NFC", _mark_runs().sub("\\1\u034f", text))


def words(text: str) -> list[str]:
    """Split into lower-cased words, characters of scripts without spaces, and single marks."""
    return _word().findall(composed(text).lower())


def _spoken(token: str) -> bool:
    """Whether a token is more than punctuation: letters, digits, or a symbol that stands for a word, as emoji do."""
    return token[0].isalnum() or unicodedata.category(token[0]) in ("So", "Lo", "Lm", "Mn", "Mc")


def rouge_tokens(candidate: str, reference: str) -> tuple[list[str], list[str]]:
    """Return both texts' words without punctuation; all marks where neither text has a word."""
    both = [words(text.replace("_", " ")) for text in (candidate, reference)]
    spoken = [[token for token in tokens if _spoken(token)] for tokens in both]
    mine, theirs = spoken if any(spoken) else both
    return mine, theirs


_BLEU_ASCII = (
    (re.compile(r"([!-&(-+:-@\[-`{-~/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
"""mteval-v13a: marks stand alone, a point or comma but between digits, a hyphen only after a digit."""


@cache
def _alone() -> re.Pattern[str]:
    return re.compile(f"([{_SPACELESS}][{_marks()}]*|[^\\w\\s\\x00-\\x7f{_marks()}])")


def bleu_tokens(text: str) -> list[str]:
    """Split as mteval-v13a does in lower case; what it does not know of stands alone too: other scripts and marks."""
    line = html.unescape(composed(text).replace("-\n", "")).lower()
    line = " " + _alone().sub(r" \1 ", line) + " "
    for pattern, spaced in _BLEU_ASCII:
        line = pattern.sub(spaced, line)
    return line.split()
