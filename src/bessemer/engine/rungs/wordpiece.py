"""WordPiece tokens of a text as BERT's uncased vocabularies cut them (Devlin et al. 2019, arXiv 1810.04805).

Lower case without accents; words end at spaces and marks, and are cut into the longest pieces that the vocabulary has.
"""

import unicodedata
from collections.abc import Mapping

_LONGEST = 100
"""Characters of a word; longer ones are unknown, as in the reference."""
_CACHED = 50_000


def words_of(text: str) -> list[str]:
    """Return the words and marks of a text, normalised."""
    words: list[str] = []
    current: list[str] = []
    for char in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(char)
        if kind == "Mn" or (kind in ("Cc", "Cf", "Co", "Cn", "Cs") and char not in "\t\n\r") or char == "\ufffd":
            continue
        if char.isspace() or char in "\t\n\r":
            _end(words, current)
        elif _is_mark(char, kind) or "\u4e00" <= char <= "\u9fff" or "\u3400" <= char <= "\u4dbf":
            _end(words, current)
            words.append(char)
        else:
            current.append(char)
    _end(words, current)
    return words


def _end(words: list[str], current: list[str]) -> None:
    if current:
        words.append("".join(current))
        current.clear()


def _is_mark(char: str, kind: str) -> bool:
    return kind.startswith("P") or (char.isascii() and not char.isalnum())


class WordPiece:
    """A vocabulary. Threads may share it."""

    def __init__(self, places: Mapping[str, int]) -> None:
        self._places = places
        self._seen: dict[str, tuple[int, ...]] = {}

    def ids(self, text: str) -> list[int]:
        """Return the places of a text's pieces; words that have none are left out."""
        found: list[int] = []
        for word in words_of(text):
            pieces = self._seen.get(word)
            if pieces is None:
                pieces = self._pieces(word)
                if len(self._seen) >= _CACHED:
                    self._seen.clear()
                if len(word) <= _LONGEST:
                    self._seen[word] = pieces
            found += pieces
        return found

    def _pieces(self, word: str) -> tuple[int, ...]:
        if len(word) > _LONGEST:
            return ()
        pieces: list[int] = []
        begin = 0
        while begin < len(word):
            for end in range(len(word), begin, -1):
                piece = word[begin:end] if begin == 0 else "##" + word[begin:end]
                if (place := self._places.get(piece)) is not None:
                    pieces.append(place)
                    break
            else:
                return ()
            begin = end
        return tuple(pieces)
