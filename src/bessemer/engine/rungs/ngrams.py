"""Word and character n-grams of a text, weighted as scikit-learn's TfidfVectorizer weights them.

Three blocks: words 1-2 (`\\w+`, one letter and digits count too), characters 2-5 within words (`char_wb`), shapes of
tokens with a digit (`7.2mp` is `d.dcc`). Texts are normalised (NFKC) and in lower case. Each block is 1 + ln(count)
times idf, scaled to length 1.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bessemer.core.errors import EngineError
from bessemer.engine.rungs.artefact import AnyArray, Arrays, pack_strings

BLOCKS = ("words", "characters", "shapes")
_WORD = re.compile(r"\w+")
_SHORTEST, _LONGEST = 2, 5
_LONGEST_WORD = 256
"""Characters of a word whose n-grams are taken; what follows is not."""
_CACHED_WORDS = 50_000
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def normalised(text: str) -> str:
    """Return the one spelling that n-grams are taken of."""
    return unicodedata.normalize("NFKC", text).lower()


def word_grams(text: str) -> list[str]:
    """Return the words and pairs of neighbours of a normalised text."""
    words = _WORD.findall(text)
    return words + [f"{a} {b}" for a, b in pairwise(words)]


def character_grams(word: str) -> list[str]:
    """Return the character n-grams of one word, padded by a space on either side."""
    padded = f" {word[:_LONGEST_WORD]} "
    grams: list[str] = []
    for n in range(_SHORTEST, min(_LONGEST, len(padded)) + 1):
        grams += [padded[i : i + n] for i in range(len(padded) - n + 1)]
    return grams


def shape(token: str) -> str:
    """Return a token's shape: digits as d, other letters as c, marks as they are."""
    return "".join("d" if c.isdigit() else "c" if c.isalpha() else c for c in token[:_LONGEST_WORD])


def grams(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the n-grams of a text by block."""
    plain = normalised(text)
    tokens = plain.split()
    characters = [gram for token in tokens for gram in character_grams(token)]
    shapes = [shape(token) for token in tokens if any(map(str.isdigit, token))]
    return word_grams(plain), characters, shapes


class Block(NamedTuple):
    """The n-grams of one block that training had: the column of each, and its idf."""

    columns: dict[str, int]
    idf: Floats
    unknown_idf: float
    """Of an n-gram that no training text has."""


class Vector(NamedTuple):
    """A text as a sparse row, and the idf-weighted share of its n-grams that are known."""

    columns: Ints
    values: Floats
    known_share: float


class Vocabulary:
    """Turns texts into sparse rows. Threads may share it."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        """Columns of all blocks are numbered through."""
        self._blocks = tuple(blocks)
        self.size = sum(len(block.idf) for block in blocks)
        self._offsets = np.cumsum([0, *(len(block.idf) for block in blocks)])
        self._words: dict[str, tuple[list[int], int]] = {}

    def vector(self, text: str) -> Vector:
        """Return a text's row."""
        plain = normalised(text)
        tokens = plain.split()
        shapes = [shape(token) for token in tokens if any(map(str.isdigit, token))]
        found = [self._found(0, word_grams(plain)), self._characters(tokens), self._found(2, shapes)]
        columns: list[Ints] = []
        values: list[Floats] = []
        known = unknown = 0.0
        for block, offset, (places, missing) in zip(self._blocks, self._offsets, found, strict=False):
            unknown += missing * block.unknown_idf
            if not places:
                continue
            column, count = np.unique(np.array(places, np.int64), return_counts=True)
            idf = block.idf[column]
            value = (1.0 + np.log(count)) * idf
            known += float(count @ idf)
            columns.append(column + offset)
            values.append(value / np.sqrt(value @ value))
        share = known / (known + unknown) if known + unknown else 0.0
        if not columns:
            return Vector(np.zeros(0, np.int64), np.zeros(0), share)
        return Vector(np.concatenate(columns), np.concatenate(values), share)

    def strangeness(self, text: str) -> float:
        """Return how many words of a text no training text has, over the root of its words: few of many are chance."""
        words = _WORD.findall(normalised(text))
        known = self._blocks[0].columns
        return sum(word not in known for word in words) / math.sqrt(len(words)) if words else 0.0

    def _found(self, place: int, wanted: Iterable[str]) -> tuple[list[int], int]:
        known = self._blocks[place].columns
        found = [known.get(gram, -1) for gram in wanted]
        places = [column for column in found if column >= 0]
        return places, len(found) - len(places)

    def _characters(self, tokens: Sequence[str]) -> tuple[list[int], int]:
        """As `_found`; a token's columns are remembered: words come again."""
        places: list[int] = []
        missing = 0
        for token in tokens:
            seen = self._words.get(token)
            if seen is None:
                seen = self._found(1, character_grams(token))
                if len(self._words) >= _CACHED_WORDS:
                    self._words.clear()
                if len(token) <= _LONGEST_WORD:
                    self._words[token] = seen
            places += seen[0]
            missing += seen[1]
        return places, missing

    def places(self, names: Sequence[Sequence[str]]) -> Ints:
        """Return the columns of n-grams, block after block; -1 where it has none."""
        return np.array(
            [
                block.columns[name] + offset if name in block.columns else -1
                for block, offset, wanted in zip(self._blocks, self._offsets, names, strict=False)
                for name in wanted
            ],
            dtype=np.int64,
        )

    def arrays(self) -> dict[str, AnyArray]:
        """Return it as arrays."""
        packed: dict[str, AnyArray] = {}
        for name, block in zip(BLOCKS, self._blocks, strict=True):
            packed |= pack_strings(name, sorted(block.columns, key=block.columns.__getitem__))
            packed[name + ".idf"] = block.idf.astype(np.float64)
            packed[name + ".unknown"] = np.array([block.unknown_idf])
        return packed

    @staticmethod
    def of(arrays: Arrays) -> "Vocabulary":
        """Return what `arrays` returned. Raises EngineError."""
        blocks = []
        for name in BLOCKS:
            texts = arrays.strings(name)
            columns = {text: place for place, text in enumerate(texts)}
            if len(columns) < len(texts):
                raise EngineError(f"The vocabulary of {name} repeats itself.")
            idf = arrays.take(name + ".idf", np.float64, len(texts))
            unknown = float(arrays.take(name + ".unknown", np.float64, 1)[0])
            if (idf <= 0).any() or (idf > 100).any() or not 0 <= unknown <= 100:
                raise EngineError(f"The vocabulary of {name} has an idf that is none.")
            blocks.append(Block(columns, idf, unknown))
        return Vocabulary(blocks)
