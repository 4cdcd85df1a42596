"""Text similarities of OpenAI's `text_similarity` grader, each in [0, 1], 1 for equal texts.

All compare texts in Unicode's composed form (NFC). What a token is, by metric (`evals.words`): bleu: mteval-v13a's in
lower case, each character of a script that sets no spaces, each mark beyond ASCII; gleu, meteor: words, each character
of a script that sets no spaces, single marks, in lower case; rouge: the same without punctuation (where neither text
has anything else, its marks), stemmed; fuzzy_match: characters, as written.

BLEU (Papineni et al. 2002) of one sentence, n-grams up to 4 or the shorter text's length, exponential smoothing of
empty orders (Lin & Och 2004, NIST's variant); GLEU (Wu et al. 2016): min(precision, recall) over all 1- to 4-grams;
METEOR (Banerjee & Lavie 2005; α .9, β 3, γ .5) with exact and Porter-stem matches and without WordNet synonyms, which
would need a download; ROUGE-n and ROUGE-L F1 (Lin 2004) on Porter stems of words above three letters; fuzzy_match:
RapidFuzz's `ratio`, twice the longest common subsequence over both lengths.

None takes more than a second or two for texts of MAX_TEXT characters, whatever is in them.
"""

import bisect
import itertools
import math
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache, lru_cache, partial

import snowballstemmer
from rapidfuzz import fuzz

from bessemer.evals.words import bleu_tokens, composed, rouge_tokens, words

MAX_TEXT = 32_000
"""Characters of a text that is compared."""
_MAX_ORDER = 4
_METEOR_ALPHA, _METEOR_BETA, _METEOR_GAMMA = 0.9, 3.0, 0.5
_SHORT = 4096


_STEMMING = threading.Lock()
"""A stemmer holds the word that it works on."""


@cache
def _porter() -> Callable[[str], str]:
    stem: Callable[[str], str] = snowballstemmer.stemmer("porter").stemWord
    return stem


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    # English rules: nothing happens to other letters, to one or two of them, or to what is too long for a word.
    if not 2 < len(word) <= 64 or not word.isascii():
        return word
    with _STEMMING:
        return _porter()(word)


def _grams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


def bleu(candidate: str, reference: str) -> float:
    """BLEU of one sentence against one reference."""
    mine, theirs = bleu_tokens(candidate), bleu_tokens(reference)
    if not mine or not theirs:
        return float(mine == theirs)
    orders = min(_MAX_ORDER, len(mine))
    smoothing, total = 1.0, 0.0
    if not _grams(mine, 1) & _grams(theirs, 1):
        return 0.0
    for order in range(1, orders + 1):
        grams = _grams(mine, order)
        matched = (grams & _grams(theirs, order)).total()
        if matched == 0:
            smoothing *= 2.0
        total += math.log((matched or 1.0 / smoothing) / grams.total())
    brevity = min(1.0, math.exp(1.0 - len(theirs) / len(mine)))
    return brevity * math.exp(total / orders)


def gleu(candidate: str, reference: str) -> float:
    """Google-BLEU: matched over the larger count of 1- to 4-grams."""
    mine, theirs = words(candidate), words(reference)
    matched = sum((_grams(mine, n) & _grams(theirs, n)).total() for n in range(1, _MAX_ORDER + 1))
    orders = range(_MAX_ORDER)
    largest = max(sum(max(len(tokens) - n, 0) for n in orders) for tokens in (mine, theirs))
    return matched / largest if largest else float(mine == theirs)


def _align(mine: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int]]:
    """Match words one to one, exactly first, then by stem; each takes the nearest free partner to keep chunks few."""
    pairs: list[tuple[int, int]] = []
    free_mine, free_theirs = set(range(len(mine))), set(range(len(theirs)))
    for normal in (str, _stem):
        places: dict[str, list[int]] = {}
        for j in sorted(free_theirs):
            places.setdefault(normal(theirs[j]), []).append(j)
        previous = -1
        for i in sorted(free_mine):
            options = places.get(normal(mine[i]), [])
            if options:
                after = bisect.bisect_left(options, previous + 1)
                near = [k for k in (after - 1, after) if 0 <= k < len(options)]
                j = options.pop(min(near, key=lambda k: (abs(options[k] - previous - 1), options[k])))
                pairs.append((i, j))
                free_mine.remove(i)
                free_theirs.remove(j)
                previous = j
    return sorted(pairs)


def meteor(candidate: str, reference: str) -> float:
    """METEOR with exact and stem matches: recall-weighted harmonic mean times (1 - fragmentation penalty)."""
    mine, theirs = words(candidate), words(reference)
    if mine == theirs:
        # The published penalty would keep an identical text just below 1.
        return 1.0
    pairs = _align(mine, theirs)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(mine), len(pairs) / len(theirs)
    mean = precision * recall / (_METEOR_ALPHA * precision + (1 - _METEOR_ALPHA) * recall)
    chunks = 1 + sum((a[0] + 1, a[1] + 1) != b for a, b in itertools.pairwise(pairs))
    return mean * (1 - _METEOR_GAMMA * math.pow(chunks / len(pairs), _METEOR_BETA))


def _stems(candidate: str, reference: str) -> tuple[list[str], list[str]]:
    # Short words stay, as in rouge-score.
    mine, theirs = (
        [_stem(word) if len(word) > 3 else word for word in tokens] for tokens in rouge_tokens(candidate, reference)
    )
    return mine, theirs


def _f1(matched: int, mine: int, theirs: int) -> float:
    return 2 * matched / (mine + theirs) if mine + theirs else 1.0


_RARE = 16


def _mask(places: Sequence[int]) -> int:
    mask = 0
    for place in places:
        mask |= 1 << place
    return mask


def common_subsequence(mine: Sequence[Hashable], theirs: Sequence[Hashable]) -> int:
    """Return the length of the longest common subsequence.

    Bit-parallel (Hyyrö 2004): a row of the table is one integer, and a step is four operations on it.
    """
    places: dict[Hashable, list[int]] = {}
    for place, token in enumerate(mine):
        places.setdefault(token, []).append(place)
    # A mask is as long as the text: those of rare tokens are made when they are met.
    masks = {token: _mask(at) for token, at in places.items() if len(at) > _RARE}
    full = row = (1 << len(mine)) - 1
    for token in theirs:
        if at := places.get(token):
            both = row & (masks.get(token) or _mask(at))
            row = (row + both | row - both) & full
    return len(mine) - row.bit_count()


def rouge_n(candidate: str, reference: str, order: int) -> float:
    """F1 of shared n-grams; texts shorter than the order have none, and match only each other."""
    a, b = _stems(candidate, reference)
    mine, theirs = _grams(a, order), _grams(b, order)
    if not mine and not theirs:
        return float(a == b)
    return _f1((mine & theirs).total(), mine.total(), theirs.total())


def rouge_l(candidate: str, reference: str) -> float:
    """F1 of the longest common subsequence of words."""
    mine, theirs = _stems(candidate, reference)
    return _f1(common_subsequence(mine, theirs), len(mine), len(theirs))


def fuzzy_match(candidate: str, reference: str) -> float:
    """Normalised indel similarity; unlike RapidFuzz's partial scorers, stuffing an answer lowers it."""
    mine, theirs = composed(candidate), composed(reference)
    if len(mine) + len(theirs) <= _SHORT:
        return fuzz.ratio(mine, theirs) / 100.0
    # The same number; RapidFuzz holds all threads up for seconds on long texts.
    return _f1(common_subsequence(mine, theirs), len(mine), len(theirs))


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """Cosine of two embeddings, in [-1, 1]; 0 when one has no length."""
    norm = math.hypot(*left) * math.hypot(*right)
    return sum(a * b for a, b in zip(left, right, strict=True)) / norm if norm else 0.0


SIMILARITIES: Mapping[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "meteor": meteor,
    **{f"rouge_{order}": partial(rouge_n, order=order) for order in range(1, 6)},
    "rouge_l": rouge_l,
}
"""All metrics but `cosine`, which needs an embedding model."""
